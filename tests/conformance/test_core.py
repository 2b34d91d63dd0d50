"""Every trace against the core in memory: whole, in pieces, and with answers that come late."""

from __future__ import annotations

import pytest

from conformance import Outcome, Result, Scenario, load_traces
from conformance._client_peer import play_client
from conformance._core_peer import Late, play_broker
from conformance._fragments import byte_by_byte, cut_anywhere, whole
from conformance._scenario import Repeat, walk
from tests.conformance.seeds import SEEDS

SCENARIOS = load_traces()
LONG = 10_000
"""A scenario that repeats something so often is about numbers, not about how input is cut."""


def is_long(scenario: Scenario) -> bool:
    return any(isinstance(step, Repeat) and step.count > LONG for step in walk(scenario.steps))


def is_for_core(scenario: Scenario) -> bool:
    return "live" not in scenario.needs


def named(scenarios: list[Scenario]) -> pytest.MarkDecorator:
    chosen = [
        pytest.param(
            scenario,
            id=scenario.full_name,
            marks=[pytest.mark.slow] if is_long(scenario) else [],
        )
        for scenario in scenarios
        if is_for_core(scenario)
    ]
    return pytest.mark.parametrize("scenario", chosen)


def check(result: Result) -> None:
    assert result.outcome is Outcome.PASSED, result.report()


SHORT = [scenario for scenario in SCENARIOS if not is_long(scenario)]
SERVER = [scenario for scenario in SHORT if scenario.role == "server"]


@named(SCENARIOS)
def test_trace(scenario: Scenario) -> None:
    play = play_client if scenario.role == "client" else play_broker
    check(play(scenario, fragment=whole))


@named(SHORT)
@pytest.mark.statement("v3 MQTT-7.1.1-1", "v3 MQTT-7.1.2-1")
def test_trace_byte_by_byte(scenario: Scenario) -> None:
    play = play_client if scenario.role == "client" else play_broker
    check(play(scenario, fragment=byte_by_byte))


@named(SHORT)
@pytest.mark.statement("v3 MQTT-7.1.1-1", "v3 MQTT-7.1.2-1")
def test_trace_cut_anywhere(scenario: Scenario) -> None:
    play = play_client if scenario.role == "client" else play_broker
    for seed in SEEDS:
        check(play(scenario, fragment=cut_anywhere(seed)))


@named(SERVER)
def test_trace_with_late_answers(scenario: Scenario) -> None:
    # A program that says DISCONNECT and goes may lose what it sent at QoS 0 before its verdict
    # has come; a recorded one did not, so its answers were there in time.
    is_recorded = scenario.path.parent.name == "recorded"
    for seed in SEEDS:
        check(play_broker(scenario, haste=Late(seed, settles_before_cut=is_recorded)))
