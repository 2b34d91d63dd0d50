"""The benchmarks run, and say what they show; the load generator itself is in tests/bench."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

from adapters.bench import load
from adapters.bench.sockets import BenchmarkError
from adapters.bench.workloads import LEVELS, WORKLOADS

pytestmark = pytest.mark.source

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # the benchmarks are no part of what is installed

from benchmarks import (  # noqa: E402 (needs the path)
    brokers,
    compare,
    core_micro,
    durability,
    gc_pause,
    memory,
    subscriptions,
)
from benchmarks.scenarios import _flood, idle  # noqa: E402

needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") is None,
    reason="mosquitto is not installed (apt-get install mosquitto)",
)

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="platform: memory is read from /proc, which is Linux's"
)


# ---- comparing ----


@pytest.mark.parametrize("text", ["mine", "mine=", "=1883", "mine=x", "mine=1883:y"])
def test_a_broker_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(BenchmarkError, match="NAME=PORT"):
        brokers.parse(text)


def test_a_running_broker_is_named_by_port_and_process() -> None:
    assert brokers.parse("mine=1883") == brokers.Broker("mine", 1883, None)
    assert brokers.parse("mine=1883:42") == brokers.Broker("mine", 1883, 42)


def test_comparing_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare.main([])
    assert "give --start NAME" in capsys.readouterr().err


def test_a_scenario_needs_to_know_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.main(["idle", "--port", "1"]) == 2
    assert "give --pid" in capsys.readouterr().err


def test_a_broker_that_does_not_start_is_told_with_its_words(tmp_path: Path) -> None:
    false = tmp_path / "python"
    false.write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    false.chmod(0o755)
    starting = brokers.started(["iotd-asyncio"], None, str(false))
    with pytest.raises(BenchmarkError, match="ended at once; it said:\nno such module"), starting:
        pass


@pytest.mark.parametrize(
    "name", [pytest.param("mosquitto-nodelay", marks=needs_mosquitto), "iotd-pure"]
)
@pytest.mark.parametrize("version", LEVELS)
def test_every_workload_runs_to_its_end_against_a_real_broker(version: str, name: str) -> None:
    with brokers.started([name], None) as (broker,):
        for workload in WORKLOADS.values():
            small = workload.scaled(0.02)._replace(
                rate_per_s=workload.rate_per_s * 5, level=LEVELS[version]
            )
            result = load.run(small, broker.port, pid=broker.pid)
            assert result["complete"], workload.name
            assert result["in_order"], workload.name
            assert result["mqtt"] == version
            assert result["delivered"] == small.deliveries
            assert result["acked"] == (small.publishers * small.messages if small.qos else 0)


@needs_mosquitto
def test_brokers_are_compared_by_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "runs.json"
    arguments = ["--start", "mosquitto", "mosquitto-nodelay", "--only", "q0-pair", "q1-pair"]
    options = ["--runs", "2", "--scale", "0.005", "--json", str(output)]
    assert compare.main([*arguments, *options]) == 0
    rows = json.loads(output.read_text())
    assert [(row["workload"], row["broker"], len(row["runs"])) for row in rows] == [
        (workload, broker, 2)
        for workload in ("q0-pair", "q1-pair")
        for broker in ("mosquitto", "mosquitto-nodelay")
    ]
    assert rows[0]["ratio"] == 1
    assert "| q1-pair |" in capsys.readouterr().out


def test_versions_are_compared_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs.json"
    arguments = ["--start", "iotd-pure", "--mqtt", "3.1.1", "5", "--only", "q1-pair"]
    assert compare.main([*arguments, "--runs", "1", "--scale", "0.005", "--json", str(output)]) == 0
    rows = json.loads(output.read_text())
    assert [(row["broker"], row["runs"][0]["mqtt"]) for row in rows] == [
        ("iotd-pure", "3.1.1"),
        ("iotd-pure/5", "5"),
    ]
    assert "| times iotd-pure/5 (CPU) |" in capsys.readouterr().out


@pytest.mark.slow
@linux_only
@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ("idle --count 30", "connections", 30),
        ("slow-reader --seconds 0.2", "lost", 0),
        ("silent --count 30", "most_at_once", 30),
        ("wide-fanout --count 20 --seconds 0.2", "lost", 0),
        ("retained --count 300 --seconds 0.2", "missed", 0),
    ],
)
def test_every_scenario_runs_to_its_end(
    arguments: str,
    name: str,
    value: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_flood, "SYS_WAIT_S", 0.2)
    monkeypatch.setattr(idle, "SETTLE_S", 0.1)
    monkeypatch.setattr(os, "nice", lambda increment: 19)  # the tests go on as they were
    assert memory.main([*arguments.split(), "--start", "iotd-pure", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["broker"] == "iotd-pure"
    assert shown[name] == value


@pytest.mark.parametrize("name", ["iotd-durable", "iotd-durable-gevent"])
def test_durability_is_measured(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--start", name, "--runs", "1", "--scale", "0.01"]
    assert durability.main([*arguments, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert set(table) == set(durability.MEASURES)
    assert all(found["per_s"] > 0 for row in table.values() for found in row.values())
    assert durability.main([*arguments, "--only", "away"]) == 0
    assert capsys.readouterr().out.startswith("away ")


# ---- the core alone ----


@pytest.mark.parametrize("level", LEVELS.values())
def test_the_core_alone_carries_every_workload(level: int) -> None:
    for workload in WORKLOADS.values():
        small = workload.scaled(0.005)._replace(rate_per_s=0.0, level=level)
        load = core_micro.CoreLoad(small)
        assert load.run() > 0, workload.name


def test_the_core_is_measured_in_a_build_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--scale", "0.001", "--runs", "1", "--only", "q0-pair", "--mqtt", "3.1.1", "5"]
    where = ["--build", "pure", "--python", sys.executable]
    assert core_micro.main([*where, *options, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["pure"]
    assert row["q0-pair"] > 0
    assert row["q0-pair/5"] > 0


def test_a_build_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--count", "1000", "--build", "compiled", "--python", sys.executable]
    assert subscriptions.main(options) == 2
    assert "has no compiled build of the core: run `make run` once" in capsys.readouterr().err


@linux_only
def test_subscriptions_are_counted_and_found() -> None:
    shown = subscriptions.measure(1_200)
    assert (shown["subscriptions"], shown["clients"]) == (1_200, 12)
    assert shown["match_us"] > 0


def test_sessions_leave_nothing_to_the_collector() -> None:
    shown = gc_pause.measure(200)
    assert (shown["sessions"], shown["found_by_it"]) == (200, 0)
