"""`iotd bench` as people call it: help, mistakes, exit codes, and what is shown and saved."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.bench.workloads import SCENARIOS, SUITE
from iotd.cli import main
from iotd.cli._bench_choices import ChoiceError, Choices, Plan, plan_of
from mqtt_core.broker import Limits
from tests.adapters.rig import RunningServer
from tests.bench.test_load import faulty_broker, free_port


@pytest.mark.parametrize("command", ["run", "list"])
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Examples:" in out
    assert f"iotd bench {command}" in out
    assert main(["bench", "--help"]) == 0
    assert "iotd bench run q0-fanout localhost:1883" in capsys.readouterr().out


def test_the_list_has_every_scenario_and_what_it_is_in_the_suite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in SCENARIOS)
    assert all(origin.use_case in out for _, origin in SUITE.values())
    assert main(["bench", "list", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert set(found) == set(SCENARIOS)
    assert found["storm"]["connections"] == 5_000
    assert found["fanout"]["use_case"] == "singlenode-fanout-5-1000-5-250K"


def test_the_options_that_make_the_suites_use_case_are_right() -> None:
    for name, (_, origin) in SUITE.items():
        words = origin.options.split()
        flags: dict[str, object] = {
            flag.removeprefix("--").replace("-", "_"): int(value)
            for flag, value in zip(words[::2], words[1::2], strict=True)
        }
        workload = planned("localhost", scenario=name, **flags).workloads[0][0].workload
        assert workload.fault() == ""


# ---- mistakes ----


def planned(*brokers: str, scenario: str = "q0-pair", **flags: object) -> Plan:
    return plan_of(scenario, list(brokers), Choices(**flags))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "name", "host", "port"),
    [
        ("localhost", "localhost:1883", "localhost", 1883),
        ("there:1884", "there:1884", "there", 1884),
        ("a=there:1884", "a", "there", 1884),
        ("a=tcp://there", "a", "there", 1883),
        ("mqtt://there:1", "there:1", "there", 1),
        ("[::2]:1884", "[::2]:1884", "::2", 1884),
    ],
)
def test_a_broker_is_named_in_several_ways(text: str, name: str, host: str, port: int) -> None:
    target = planned(text).workloads[0][0].target
    assert (target.name, target.host, target.port) == (name, host, port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=", "is no broker"),
        ("=there:1", "is no broker"),
        ("there:port", "is no broker"),
        ("there:99999", "is no broker"),
        ("tcp://me@there", "is no broker"),
        ("there/path", "is no broker"),
        ("wss://there", "wss:// cannot be measured yet"),
        ("a=mqtts://there:8883", "mqtts:// cannot be measured yet"),
        ("http://there", "http:// is not known"),
    ],
)
def test_a_broker_that_cannot_be_read_is_told(text: str, said: str) -> None:
    with pytest.raises(ChoiceError, match=said):
        planned(text)


@pytest.mark.parametrize(
    ("scenario", "flags", "said"),
    [
        ("q9", {}, "there is no scenario 'q9'; there are q0-pair"),
        ("q0-pair", {"connections": 3}, "--connections means nothing to q0-pair; it knows"),
        ("storm", {"publishers": 3}, "--publishers means nothing to storm; it knows --connections"),
        ("q0-pair", {"version": "4"}, "--version 4: use one of 3.1.1, 5"),
        ("sharedsub", {"version": "3.1.1"}, "shared subscriptions are of MQTT 5"),
        ("q0-pair", {"messages": 3, "seconds": 1.0}, "exclude each other"),
        ("q0-pair", {"seconds": 0.0}, "--seconds 0: use more than 0"),
        ("q0-pair", {"qos": 3}, "q0-pair: qos is 3; use 0, 1 or 2"),
        ("q0-pair", {"processes": 2}, "--processes 2 is more than the 1 publishers"),
        ("q0-fanout", {"processes": 101}, "more than the 100 subscribers"),
    ],
)
def test_a_wrong_flag_is_told(scenario: str, flags: dict[str, object], said: str) -> None:
    with pytest.raises(ChoiceError, match=said):
        planned("localhost", scenario=scenario, **flags)


def test_two_brokers_of_one_name_are_told() -> None:
    with pytest.raises(ChoiceError, match="two brokers are called a"):
        planned("a=localhost:1", "a=localhost:2")


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--plot", "plot.jpg", "ends with .svg or .png"),
        ("--plot", "nowhere/plot.svg", "there is no folder"),
        ("--save-svg", "shown.png", "ends with .svg"),
        ("--runs", "0", "--runs"),
        ("--qos", "x", "--qos"),
    ],
)
def test_a_mistake_is_a_usage_error_before_anything_runs(
    flag: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "run", "q0-pair", "localhost:1", flag, value]) == 2
    assert said in capsys.readouterr().err


def test_a_png_without_the_package_for_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ChoiceError, match=r"pip install 'iotd\[plot\]'"):
        plan_of("q0-pair", ["localhost"], Choices(), plot=Path("plot.png"))


# ---- runs ----


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with RunningServer("asyncio", limits=Limits(max_connections=1_000)) as server:
        yield "{}:{}".format(*server.address)


SHORT = ["--messages", "200", "--window", "20"]


def test_brokers_are_run_in_turn_and_shown(
    broker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = [tmp_path / "plot.svg", tmp_path / "shown.svg"]
    files = ["--plot", str(saved[0]), "--save-svg", str(saved[1])]
    sides = [f"one={broker}", f"two={broker}"]
    assert main(["bench", "run", "q0-pair,q1-pair", *sides, "--runs", "2", *SHORT, *files]) == 0
    out, err = capsys.readouterr()
    assert "q0-pair: 1 to 1, QoS 0, 16 bytes, window 20, closed loop, MQTT 3.1.1" in out
    assert "times one" in out
    assert [line.partition(":")[0] + line.split(":")[1] for line in err.splitlines()] == [
        f"{name}, run {number} of 2 {side}"
        for name in ("q0-pair", "q1-pair")
        for number in (1, 2)
        for side in ("one", "two")
    ]
    for path in saved:
        ET.parse(path)


def test_json_has_every_run(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "run", "q1-pair", broker, "--runs", "2", "--version", "5", "--json"]
    assert main([*command, *SHORT]) == 0
    shown = json.loads(capsys.readouterr().out)
    (scenario,) = shown["scenarios"]
    (row,) = scenario["rows"]
    assert scenario["brokers"] == {broker: broker}
    assert [run["delivered"] for run in row["runs"]] == [200, 200]
    assert {run["mqtt"] for run in row["runs"]} == {"5"}
    assert row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] <= row["p9999_ms"] <= row["max_ms"]


def test_a_storm_is_shown(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--connections", "30", "--connect-rate", "0", "--runs", "1"]
    assert main(["bench", "run", "storm", broker, *flags]) == 0
    out = capsys.readouterr().out
    assert "storm: 30 clients connect, 100 at a time, MQTT 3.1.1" in out
    assert "connections/s" in out


def test_lost_messages_are_shown_and_are_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with faulty_broker(lose=50) as port:
        flags = ["--runs", "1", "--stall", "0.3", *SHORT]
        assert main(["bench", "run", "q0-pair", f"127.0.0.1:{port}", *flags]) == 1
    out, err = capsys.readouterr()
    assert "1 messages LOST" in out
    assert "1 missing, 0 twice" in err


def test_no_broker_is_the_other_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "run", "q0-pair", f"127.0.0.1:{free_port()}", "--runs", "1"]) == 2
    assert "is a broker running there?" in capsys.readouterr().out


def test_one_broker_of_two_that_is_not_there_leaves_the_other(
    broker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = [f"none=127.0.0.1:{free_port()}", f"own={broker}"]
    assert main(["bench", "run", "q0-pair", *sides, "--runs", "1", *SHORT]) == 1
    assert "own" in capsys.readouterr().out
