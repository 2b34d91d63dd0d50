"""Random histories of several clients, against a plain model.

They are the same in every run. `HYPOTHESIS_PROFILE=thorough` tries many more, and new ones each
time, and then Hypothesis takes its time to find a short one that fails.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.histories import try_seed
from tests.model.machine import MACHINES, BrokerMachine

IS_THOROUGH = settings().max_examples > 400
EXAMPLES = settings().max_examples // 4
PHASES = tuple(Phase) if IS_THOROUGH else (Phase.explicit, Phase.reuse, Phase.generate)
FIRST_SEED = random.SystemRandom().randrange(1 << 32) if IS_THOROUGH else 0
SEEDS_PER_TEST = 25  # a test that takes long is taken for one that hangs
PARTS = range(100 if IS_THOROUGH else 1)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_history_of_clients(machine: type[BrokerMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=60,
            phases=PHASES,
            derandomize=not IS_THOROUGH,
        ),
    )


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("machine", MACHINES)
def test_a_history_by_plain_chance(machine: type[BrokerMachine], part: int) -> None:
    first = FIRST_SEED + part * SEEDS_PER_TEST
    for seed in range(first, first + SEEDS_PER_TEST):
        try_seed(machine, seed)
