"""Histories by plain chance, many a second: no step depends on what the ones before have led to.

Hypothesis takes more time for each, and varies what it has tried; so each finds what the other does
not. Of a history that fails the fewest steps that still do are shown.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.model.choices import START, STEPS, pick
from tests.model.machine import BrokerMachine

LENGTH = 60


@dataclass(frozen=True)
class Step:
    """What is done, by the name of its rule, and how."""

    name: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"state.{self.name}({arguments})"


def history(machine: type[BrokerMachine], seed: int, length: int = LENGTH) -> list[Step]:
    """The steps that a seed stands for.

    Some kinds of step are left out and some come often, so that rare ones come together.
    """
    rng = random.Random(f"{machine.__name__} {seed}")
    names = [name for name in STEPS if name != "settle" or machine.is_late or machine.asks_outside]
    names = rng.sample(names, rng.randint(2, len(names)))
    weights = [rng.choice((1, 1, 2, 4)) for _ in names]
    chosen = rng.choices(names, weights, k=length)
    start = Step("start", pick(START, rng))
    return [start, *(Step(name, pick(STEPS[name], rng)) for name in chosen)]


def play(machine: type[BrokerMachine], steps: Sequence[Step]) -> None:
    """Let a history happen. Raises `AssertionError` where broker and model differ."""
    state = machine()
    for step in steps:
        getattr(state, step.name)(**step.arguments)
        state.structures_are_right()
    state.teardown()


def fault(machine: type[BrokerMachine], steps: Sequence[Step]) -> str:
    """The place where a history fails, empty if it does not."""
    try:
        play(machine, steps)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {where.filename}:{where.lineno}"
    return ""


def shortened(machine: type[BrokerMachine], steps: Sequence[Step]) -> list[Step]:
    """A history that fails at the same place, from which no step can be left out."""
    known = fault(machine, steps)
    left = list(steps)
    size = len(left) // 2
    while size:
        before = len(left)
        at = 1  # the first is the start
        while at < len(left):
            fewer = left[:at] + left[at + size :]
            if fault(machine, fewer) == known:
                left = fewer
            else:
                at += size
        if size > 1 or len(left) == before:
            size //= 2
    return left


def try_seed(machine: type[BrokerMachine], seed: int) -> None:
    """Play one seed. If it fails, what is left of it fails again, and its steps are shown."""
    steps = history(machine, seed)
    if not fault(machine, steps):
        return
    left = shortened(machine, steps)
    print(f"{machine.__name__}, seed {seed}, in {len(left)} steps:", *left, sep="\n")
    play(machine, left)
    raise AssertionError("the history fails only now and then")
