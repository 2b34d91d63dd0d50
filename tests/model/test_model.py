"""Random histories of several clients, against a plain model.

`HYPOTHESIS_PROFILE=thorough` tries many more of them.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import (
    BrokerMachine,
    LateMachine,
    LateOutsideMachine,
    LateRefusingMachine,
    RefusingMachine,
    TightLateMachine,
    TightMachine,
)

EXAMPLES = settings.default.max_examples // 4 if settings.default else 25


@pytest.mark.parametrize(
    "machine",
    [
        BrokerMachine,
        LateMachine,
        LateOutsideMachine,
        RefusingMachine,
        LateRefusingMachine,
        TightMachine,
        TightLateMachine,
    ],
)
def test_a_history_of_clients(machine: type[BrokerMachine]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=40)
    )
