"""`iotd doctor`: what it says of our own servers, of broken ones, and of what is no broker."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import Outcome, Scenario, load_traces, play
from conformance._probe import clear_retained, retained_topics, speaks
from conformance.doctor import Doctor, Examination, SharedPeer
from conformance.findings import NO_TRACE, findings_of
from conformance.report import as_markdown
from iotd.cli import main
from mqtt_core.broker import FACT_ERROR, Fact
from tests.conformance.hosts import AsyncioHost, GeventHost, Host
from tests.wrong_broker import GO_AWAY, HANG_UP, obliging, wrong_broker

PINGREQ_IS_ANSWERED = "MQTT-3.12.4-1"
SOME = ("MQTT-3.12.4-1", "MQTT-3.8.4-1", "MQTT-3.3.1-6", "MQTT-4.3.3-2", "MQTT-3.3.1-9")


def named(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


@pytest.fixture(params=["asyncio", "gevent"])
def ours(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """One of our own servers."""
    is_gevent = request.param == "gevent"
    host: Host = GeventHost() if is_gevent else AsyncioHost("asyncio", asyncio.new_event_loop)
    facts: list[Fact] = []
    server = host.start({}, facts.append)
    name, port = server.addresses[0].removeprefix("tcp://").rsplit(":", 1)
    yield name, int(port)
    host.stop(server)
    host.close()
    assert [fact for fact in facts if fact.severity >= FACT_ERROR] == []


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: iotd doctor" in out
    assert "    iotd doctor 127.0.0.1:1883" in out
    assert "test broker" in out


def test_nothing_is_wrong_with_our_own_servers(
    ours: tuple[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    statements = [word for one in SOME for word in ("--statement", one)]
    assert main(["doctor", named(ours), *statements]) == 0
    captured = capsys.readouterr()
    assert "This is for a test broker that nobody else uses" in captured.err
    lines = captured.out.splitlines()
    counts = [line.split()[2:] for line in lines if line.strip().startswith("MQTT ")]
    assert counts == [["5", "0", "0", "0"], ["5", "0", "0", "0"]]
    assert not any(line in ("Broken", "Perhaps broken", "Remarks") for line in lines)
    assert retained_topics(ours).topics == set()


def test_a_wrong_broker_is_named_by_statement(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def without_pingresp(packet: bytes) -> bytes:
        return b"" if packet[0] >> 4 == 12 else obliging(packet)

    findings = tmp_path / "findings.json"
    options = ["--only", "3.1.1", "--statement", PINGREQ_IS_ANSWERED, "--json", str(findings)]
    with wrong_broker(without_pingresp) as address:
        assert main(["doctor", named(address), *options]) == 1
    out = capsys.readouterr().out
    assert "\nBroken\n" in out
    assert "MQTT-3.12.4-1 (MQTT 3.1.1)  PINGREQ is answered with PINGRESP." in out
    assert "> PINGREQ  c0 00\n" in out
    assert "    expected  PINGRESP  d0 00\n" in out
    assert "    got       nothing\n" in out
    report = json.loads(findings.read_text())
    assert report["speaks"] == ["3.1.1"]
    assert report["summary"] == [
        {"version": "3.1.1", "obeyed": 0, "broken": 1, "perhaps broken": 0, "not tested": 0}
    ]
    (statement,) = report["statements"]
    assert (statement["id"], statement["state"]) == (PINGREQ_IS_ANSWERED, "broken")
    first = next(one for one in report["failures"] if one["scenario"] == statement["failed"][0])
    assert (first["expected"], first["got"]) == ("PINGRESP  d0 00", "nothing")


def test_what_could_not_be_tested_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with wrong_broker() as address:
        where = named(address)
        assert main(["doctor", where, "--statement", "MQTT-3.1.3-9"]) == 0
        out = capsys.readouterr().out
        assert "   1  needs a setting: max_client_id_bytes=64\n" in out
        assert "Say with --settings what the broker is set to" in out
        options = ["--statement", PINGREQ_IS_ANSWERED, "--markdown"]
        assert main(["doctor", where, *options]) == 0
        out = capsys.readouterr().out
        assert "| the broker does not speak MQTT 5.0 | v5 MQTT-3.12.4-1 |" in out
        assert "| 3.1.1 | 1 | 0 | 0 | 0 |" in out


def test_json_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with wrong_broker() as address:
        main(["doctor", named(address), "--statement", PINGREQ_IS_ANSWERED, "--json", "-"])
    assert json.loads(capsys.readouterr().out)["doctor"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "3.1"], 'found "3.1"; allowed: 3.1.1 or 5.0'),
        (["--statement", "MQTT-9.9.9-9"], 'no trace for a server is about "MQTT-9.9.9-9"'),
        (["--settings", "users"], 'found "users"; allowed: KEY=VALUE'),
    ],
)
def test_a_wrong_command_line_shows_usage(
    capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["doctor", "127.0.0.1:1", *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("Usage: iotd doctor")
    assert words in " ".join(captured.err.split())


@pytest.mark.parametrize("address", ["mqtts://host", "host:port", "[::1", "host/path", ":1883"])
def test_what_is_no_address_is_told(capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert main(["doctor", address]) == 2
    assert "allowed: HOST:PORT" in capsys.readouterr().err


def test_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "tcp://127.0.0.1:1"]) == 2
    assert "iotd: 127.0.0.1:1: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x20\x02\0\5", "it refuses with code 05"),
        (b"HTTP/1.1 400 Bad Request", "it answers"),
        (HANG_UP, "it ends the connection"),
    ],
)
def test_a_broker_that_takes_nobody_cannot_be_examined(
    capsys: pytest.CaptureFixture[str], answer: bytes, words: str
) -> None:
    with wrong_broker(lambda _: answer) as address:
        assert main(["doctor", named(address)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "name a test broker that speaks it and takes clients without a user name" in err


# What the examination does


def about(full_id: str) -> list[Scenario]:
    return [one for one in load_traces() if one.role == "server" and full_id in one.proves]


def test_a_broker_that_goes_away_is_told() -> None:
    def goes_away(packet: bytes) -> bytes:
        return GO_AWAY if packet[0] >> 4 == 12 else obliging(packet)

    scenarios = [one for one in load_traces() if one.full_name == "connect/plain-connect"]
    with wrong_broker(goes_away) as address:
        found = Doctor(address).examine(scenarios)
    assert found.gone
    assert [one.outcome for one in found.results] == [Outcome.FAILED]
    findings = findings_of(found)
    assert not findings.is_healthy
    assert "stopped accepting connections" in as_markdown(findings, "2026-12-01")


def test_when_no_time_is_left_nothing_is_blamed() -> None:
    def silent(packet: bytes) -> bytes:
        return obliging(packet) if packet[0] >> 4 in (1, 14) else b""

    with wrong_broker(silent) as address:
        found = Doctor(address, time_s=0.3).examine(about("v3 MQTT-3.12.4-1"))
    assert {one.outcome for one in found.results} == {Outcome.SKIPPED}
    assert {one.detail for one in found.results} == {"  skipped because no time was left"}


def test_what_fails_once_is_reported_and_not_counted() -> None:
    pings: list[bytes] = []

    def forgets_the_first(packet: bytes) -> bytes:
        if packet[0] >> 4 != 12:
            return obliging(packet)
        pings.append(packet)
        return b"" if len(pings) == 1 else b"\xd0\0"

    with wrong_broker(forgets_the_first) as address:
        scenarios = [one for one in load_traces() if one.full_name == "connect/plain-connect"]
        found = Doctor(address).examine(scenarios)
    assert [one.outcome for one in found.results] == [Outcome.PASSED]
    assert [one.scenario.full_name for one in found.unsteady] == ["connect/plain-connect"]
    assert "Failed, and passed when played again" in as_markdown(findings_of(found), "today")


@pytest.mark.parametrize(("prefix", "outcome"), [("run1", "passed"), ("run2", "failed")])
def test_a_message_of_another_scenario_blames_nothing_else(prefix: str, outcome: str) -> None:
    def gossips(packet: bytes) -> bytes:
        stray = b"\x30\x09\0\6run2/tx"
        return (stray if packet[0] >> 4 == 12 else b"") + obliging(packet)

    (scenario,) = [one for one in load_traces() if one.full_name == "connect/plain-connect"]
    with wrong_broker(gossips) as address:
        peer = SharedPeer(address, {}, time.monotonic() + 60, "run", prefix)
        assert play(scenario, peer, prefix).outcome.value == outcome
    assert bool(peer.strays) == (outcome == "passed")


def test_messages_that_went_astray_are_told() -> None:
    found = Examination("here", ("v3",), strays=3)
    findings = findings_of(found)
    assert not findings.is_healthy
    assert "3 times a client was sent a message" in as_markdown(findings, "2026-12-01")


def test_a_statement_without_a_trace_is_not_tested() -> None:
    with wrong_broker() as address:
        found = Doctor(address).examine(about("v3 MQTT-3.12.4-1"))
    (verdict,) = findings_of(found, ["MQTT-6.0.0-1"]).verdicts
    assert verdict.reason == NO_TRACE


def test_retained_messages_are_found_and_removed(ours: tuple[str, int]) -> None:
    assert speaks(ours, 4) == speaks(ours, 5) == "accepted"
    connect, disconnect = b"\x10\x0d\0\4MQTT\4\2\0\x3c\0\1a", b"\xe0\0"
    publish = b"\x31\x06\0\3x/yz" + b"\x31\x05\0\1zon"
    with socket.create_connection(ours) as sock:
        sock.sendall(connect + publish + disconnect)
        while sock.recv(100):
            pass
    assert retained_topics(ours).topics == {"x/y", "z"}
    clear_retained(ours, {"x/y"})
    assert retained_topics(ours).topics == {"z"}
