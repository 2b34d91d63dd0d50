"""Stores that fail and authenticators that refuse: a connection ends, the broker goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import Outcome, Scenario, load_traces, parse_trace, play
from conformance._core_peer import CorePeer, Late
from conformance._policy import limit_settings
from conformance._scenario import Repeat, walk
from mqtt_core.broker import (
    Append,
    ClaimSession,
    Completion,
    Failed,
    Limits,
    MatchRetained,
    MemoryEngine,
    ReadQueue,
    Request,
    SaveSubscription,
    Write,
)
from tests.conformance.seeds import SEEDS

Refuses = Callable[[Request], bool]


class RefusingEngine:
    """A memory engine that fails what `refuses` chooses, at most `times` times."""

    def __init__(self, limits: Limits, refuses: Refuses, times: float = 1) -> None:
        self._engine = MemoryEngine(limits)
        self._refuses = refuses
        self._left = times
        self._failed: list[Completion] = []

    @property
    def last_number(self) -> int:
        return self._engine.last_number

    @property
    def level(self) -> int:
        return self._engine.level

    @property
    def index_bytes(self) -> int | None:
        return self._engine.index_bytes

    def start(self, on_answers: Callable[[], None]) -> None:
        self._engine.start(on_answers)

    def close(self) -> None:
        self._engine.close()

    def submit(self, request: Request) -> None:
        if request.request_id and self._left > 0 and self._refuses(request):
            self._left -= 1
            self._failed.append(Failed(request.request_id, "the disk is full"))
        else:
            self._engine.submit(request)

    def take_completions(self) -> list[Completion]:
        failed, self._failed = self._failed, []
        return failed + self._engine.take_completions()


def writes(kind: type) -> Refuses:
    return lambda request: (
        isinstance(request, Write)
        and any(isinstance(operation, kind) for operation in request.operations)
    )


def reads(kind: type[Request]) -> Refuses:
    return lambda request: isinstance(request, kind)


@pytest.mark.statement("v3 MQTT-4.8.0-2", "v3 MQTT-4.3.2-2", "v3 MQTT-4.3.3-2")
@pytest.mark.parametrize(
    ("refuses", "text"),
    [
        pytest.param(
            writes(Append),
            """
            kept joins keep
            kept subscribes t't' at 2
            kept ! cut
            watcher joins
            watcher subscribes t'w' at 0
            > 10 rl s'MQTT' 04 06 u60 c'a' t'w' s'z'
            < 20 02 00 00
            > 32 rl t't' u1 'x'
            = closed                      # and no PUBACK before
            watcher < 30 rl t'w' 'z'
            > 10 rl s'MQTT' 04 02 u60 c'a'
            < 20 02 00 00
            > 3a rl t't' u1 'x'
            < 40 02 u1
            kept joins resume
            kept < 32 rl t't' $id 'x'     # once
            kept = open
            """,
            id="QoS 1 message",
        ),
        pytest.param(
            writes(Append),
            """
            kept joins keep
            kept subscribes t't' at 1
            kept ! cut
            a joins keep
            a > 34 rl t't' u1 'x'
            a = closed
            a joins resume
            a > 3c rl t't' u1 'x'
            a < 50 02 u1
            a > 62 02 u1
            a < 70 02 u1
            kept joins resume
            kept < 32 rl t't' $id 'x'
            kept = open
            """,
            id="QoS 2 message",
        ),
        pytest.param(
            writes(SaveSubscription),
            """
            bystander joins
            a joins keep
            a > 82 rl u1 t't' 01
            a = closed                    # and no SUBACK before
            bystander = open
            a joins resume
            a subscribes t't' at 1
            bystander > 32 rl t't' u1 'x'
            bystander < 40 02 u1
            a < 32 rl t't' $id 'x'
            """,
            id="subscription",
        ),
        pytest.param(
            reads(ClaimSession),
            """
            > 10 rl s'MQTT' 04 00 u60 c'a'
            < 20 02 00 03
            = closed
            > 10 rl s'MQTT' 04 00 u60 c'a'
            < 20 02 00 00
            = open
            """,
            id="session claim",
        ),
        pytest.param(
            reads(ReadQueue),
            """
            pub joins
            a joins keep
            a subscribes t't' at 1
            a ! cut
            pub > 32 rl t't' u1 'x'
            pub < 40 02 u1
            a joins resume
            a = closed
            a joins resume
            a < 32 rl t't' $id 'x'
            a > 40 02 $id
            a = open
            pub = open
            """,
            id="queue page",
        ),
        pytest.param(
            reads(MatchRetained),
            """
            pub joins
            pub > 33 rl t't' u1 'x'
            pub < 40 02 u1
            a joins
            a > 82 rl u1 t't' 00
            a < 90 03 u1 00
            a = closed
            a joins
            a > 82 rl u1 t't' 00
            any order
              a < 90 03 u1 00
              a < 31 rl t't' 'x'
            end
            pub = open
            """,
            id="retained match",
        ),
    ],
)
def test_a_store_that_fails_once(refuses: Refuses, text: str) -> None:
    (scenario,) = parse_trace(Path("area/refusal.trace"), "== refusal\n" + text)
    for haste in (None, Late(1), Late(2)):
        limits = Limits()
        peer = CorePeer(haste=haste, engine=RefusingEngine(limits, refuses))
        result = play(scenario, peer)
        assert result.outcome is Outcome.PASSED, result.report()


class Moody(Late):
    """Answers come late, in any order, and now and then they are no."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.chance = random.Random(seed)

    def refuses(self) -> bool:
        return self.chance.random() < 0.1


SCENARIOS = [
    scenario
    for scenario in load_traces()
    if scenario.role == "server"
    and "live" not in scenario.needs
    and not any(isinstance(step, Repeat) and step.count > 10_000 for step in walk(scenario.steps))
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.full_name)
def test_whatever_is_refused_nothing_breaks(scenario: Scenario) -> None:
    """The trace may fail, that is its right; the core may not."""
    for seed in SEEDS:
        haste = Moody(seed)
        limits = Limits(**limit_settings(scenario.settings))
        engine = RefusingEngine(limits, lambda _: haste.refuses(), times=float("inf"))  # noqa: B023
        peer = CorePeer(scenario.settings, haste=haste, engine=engine)
        play(scenario, peer)
        faults = [fact for fact in peer.facts if fact.name == "fault"]
        assert not faults, faults
        assert peer.broker.is_stopped
