"""The player: what passes, what fails, and what a failure says. The peer is the core in memory."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import Outcome, Result, Scenario, parse_trace, play
from conformance._client_peer import play_client
from conformance._core_peer import CorePeer, Late, play_broker
from conformance._policy import limit_settings
from conformance._side_by_side import play_side_by_side

HELLO = "> 10 rl s'MQTT' 04 02 u60 c'a'\n< 20 02 00 00\n"
Load = Callable[[str], Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """A scenario from a file, so that failures can show its lines."""

    def load(body: str) -> Scenario:
        path = tmp_path / "area" / "file.trace"
        path.parent.mkdir(exist_ok=True)
        path.write_text("== name\n" + body)
        (scenario,) = parse_trace(path)
        return scenario

    return load


def report(scenario: Scenario) -> str:
    result = play_broker(scenario)
    assert result.outcome is Outcome.FAILED
    return result.report()


def test_a_passing_scenario_says_so(load: Load) -> None:
    result = play_broker(load(HELLO + "= open\n"))
    assert result.outcome is Outcome.PASSED
    assert result.report() == "passed  area/name  (file.trace:1)"


def test_a_failure_shows_the_line_and_both_packets(load: Load) -> None:
    text = report(load(HELLO + "> 32 rl t't' u10 'x'\n< 40 02 u11   # wrong\n"))
    first, place, expected, got = text.splitlines()
    assert first == "failed  area/name  (file.trace:1)"
    assert place.endswith("area/file.trace:5:  < 40 02 u11   # wrong")
    assert expected.split() == ["expected", "PUBACK", "40", "02", "u11"]
    assert got.split() == ["got", "PUBACK", "40", "02", "u10"]


@pytest.mark.parametrize(
    ("body", "expected", "got"),
    [
        (HELLO + "< d0 00", "PINGRESP  d0 00", "nothing"),
        (HELLO + "< 32 $id", "PUBLISH  32 $id", "nothing"),
        (HELLO + "> c1 00\n< d0 00", "PINGRESP  d0 00", "the connection was closed"),
        (HELLO + "> c0 00\n= closed", "the end of the connection", "PINGRESP  d0 00"),
        (HELLO + "= closed", "the end of the connection", "nothing"),
        (HELLO + "> c0 00\n= nothing", "nothing", "PINGRESP  d0 00"),
        (HELLO + "> c1 00\n= nothing", "nothing", "the connection was closed"),
        (HELLO + "> c1 00\n= open", "PINGRESP  d0 00", "the connection was closed"),
        (HELLO + "> c0 00", "nothing more at the end of the scenario", "PINGRESP  d0 00"),
        (HELLO + "> c1 00", "nothing more at the end of the scenario", "was closed"),
        (HELLO + "b < 00", "a connection 'b'", "the trace has not opened it"),
        (HELLO + "! connect", "a new connection", "'' is still open"),
        ("a joins\na joins", "CONNACK  20 02 00 00", "the connection was closed"),
        ("a joins resume", "CONNACK  20 02 01 00", "CONNACK  20 02 00 00"),
        (
            HELLO + "> c0 00\nany order\n< c0 00\n< e0 00\nend",
            "PINGREQ  c0 00 or DISCONNECT  e0 00",
            "PINGRESP  d0 00",
        ),
        (HELLO + "> c0 00\nany order\n< d0 00\n< d0 00\nend", "PINGRESP  d0 00", "nothing"),
        (
            HELLO + "> c0 00 ; c0 00\n< $a ; $b\ndistinct $a $b",
            "identifiers that differ, none of them zero",
            "$a=d000 $b=d000",
        ),
    ],
)
def test_what_differs_is_named(load: Load, body: str, expected: str, got: str) -> None:
    lines = report(load(body)).splitlines()
    assert lines[-2].removeprefix("    expected  ") == expected
    assert got in lines[-1]


def test_of_iotd_only_its_own_choice_is_accepted(load: Load) -> None:
    other_first = "> c0 00\n< d1 00 | d0 00\n"
    assert "expected  PINGRESP  d1 00 or" not in report(load(HELLO + other_first))
    branches = "> c0 00\neither\n= closed\nor\n< d0 00\nend\n"
    assert "the end of the connection" in report(load(HELLO + branches))


class _OtherPeer(CorePeer):
    """The core, played to as if it were somebody else's broker."""

    is_ours = False


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        ("> c0 00\n< d1 00 | d0 00", [5]),
        ("> c0 00\n< d0 00 | d1 00", []),
        ("> c0 00\neither\n= closed\nor\n< d0 00\nend", [8]),
        ("> c0 00\neither\n< d0 00\nor\n= closed\nend", []),
        ("> c1 00\neither\n< d0 00\nor\n= closed\nend", [8]),
        ("either\n< d0 00\nor\n= nothing\nend", [7]),
        ("> c0 00\neither\n= closed\nor\nany order\n< d0 00\nend\nend", [8]),
    ],
)
def test_of_others_each_choice_is_accepted_and_noted(
    load: Load, body: str, choices: list[int]
) -> None:
    result = play(load(HELLO + body), _OtherPeer())
    assert result.outcome is Outcome.PASSED, result.report()
    assert result.choices == choices


def test_when_no_branch_fits_the_first_one_is_reported(load: Load) -> None:
    result = play(load(HELLO + "> c0 00\neither\n= closed\nor\n< d1 00\nend"), _OtherPeer())
    assert "the end of the connection" in result.report()


def test_repeats_count_in_two_bytes(load: Load) -> None:
    body = "> 82 rl u1 t't' 00\n< 90 03 u1 00\nrepeat 300 as i\n> 30 rl t't' $i d$i\nend\n"
    expected = "repeat 300 as i\n< 30 rl t't' $i d$i\nend\n"
    assert play_broker(load(HELLO + body + expected)).outcome is Outcome.PASSED


def test_time_is_exact_on_the_fake_clock(load: Load) -> None:
    body = "> 10 rl s'MQTT' 04 02 u10 c'a'\n< 20 02 00 00\n@ 14.9s\n= nothing\n@ 0.2s\n= closed\n"
    assert play_broker(load(body)).outcome is Outcome.PASSED


def test_a_slow_reader_gets_what_it_waits_for(load: Load) -> None:
    body = "! stop reading\n> c0 00\n= nothing\n! read\n< d0 00\n"
    assert play_broker(load(HELLO + body)).outcome is Outcome.PASSED


def test_scenarios_for_another_kind_of_peer_are_skipped(load: Load) -> None:
    client = load("role: client\n! connect id='a'\n< 10 ..\n")
    assert play_broker(client).outcome is Outcome.SKIPPED
    assert play_client(client).outcome is Outcome.PASSED
    server = play_client(load(HELLO))
    assert (server.outcome, server.detail) == (
        Outcome.SKIPPED,
        "  skipped because it tests a server",
    )
    live = play_broker(load("needs: live\n" + HELLO))
    assert live.outcome is Outcome.SKIPPED


def test_client_calls_and_events_are_compared(load: Load) -> None:
    start = "role: client\n! connect id='a'\n< 10 ..\n> 20 02 00 00\n"
    for body, expected, got in [
        ("! publish topic='#'", "accepted", "refused"),
        ("! publish topic='t' => refused", "refused", "accepted"),
        ("= event SubAck", "SubAck", "ConnAck("),
        ("= event ConnAck reason=5", "ConnAck reason=b'5'", "ConnAck("),
        ("= event none", "no event", "ConnAck("),
        ("> c1 00\n= open", "an open connection", "the client has closed it"),
    ]:
        result = play_client(load(start + body))
        lines = result.report().splitlines()
        assert lines[-2] == f"    expected  {expected}", result.report()
        assert got in lines[-1]


def test_settings_have_the_types_of_the_limits() -> None:
    settings = {
        "max_client_id_bytes": "64",
        "connect_timeout_secs": "2",
        "wildcard_subscriptions": "false",
        "unauthorized_publish": "disconnect",
        "users": "u:p",
    }
    assert limit_settings(settings) == {
        "max_client_id_bytes": 64,
        "connect_timeout_secs": 2.0,
        "wildcard_subscriptions": False,
        "unauthorized_publish": "disconnect",
    }
    with pytest.raises(ValueError, match=r"unknown setting 'speed'; allowed: users, anonymous"):
        limit_settings({"speed": "11"})


def test_the_same_seed_gives_the_same_order(load: Load) -> None:
    first, second = Late(5), Late(5)
    assert [first.pick(9) for _ in range(20)] == [second.pick(9) for _ in range(20)]
    assert not isinstance(first.wrap(CorePeer().policy), type(CorePeer().policy))


def test_those_that_need_to_be_alone_come_last(load: Load) -> None:
    alone, together = load("needs: alone\n" + HELLO), load(HELLO)
    played: list[Scenario] = []

    def play_one(scenario: Scenario) -> Result:
        played.append(scenario)
        return Result(scenario, Outcome.PASSED)

    results = list(play_side_by_side([alone, together], play_one))
    assert [result.scenario for result in results] == [together, alone] == played
    results = list(play_side_by_side([alone, together], play_one, are_apart=True))
    assert [result.scenario for result in results] == [alone, together]


@pytest.mark.parametrize("first", ["a", "b"])
def test_an_open_choice_is_open_for_ours_too(load: Load, first: str) -> None:
    second = {"a": "b", "b": "a"}[first]
    result = play_broker(
        load(
            f"""a joins
            b joins
            {first} subscribes t't' at 0
            a > 30 rl t't' 'x'
            one of
              {second} < 30 rl t't' 'x'
            or
              {first} < 30 rl t't' 'x'
            end
            """
        )
    )
    assert result.outcome is Outcome.PASSED, result.report()
    assert not result.choices


def test_an_interruption_plays_no_more(load: Load) -> None:
    scenario = load(HELLO)
    played: list[Scenario] = []
    never = threading.Event()

    def interrupted(one: Scenario) -> Result:
        played.append(one)
        if len(played) > 1:
            never.wait(0.2)  # long enough for the others to be taken back
        raise KeyboardInterrupt

    many = [dataclasses.replace(scenario, name=f"n{number}") for number in range(50)]
    with pytest.raises(KeyboardInterrupt):
        list(play_side_by_side(many, interrupted, players=1))
    assert len(played) < len(many)
