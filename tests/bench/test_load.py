"""Whole runs over sockets: against a broker that errs on purpose, and against our own server."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from adapters.bench import load, machine
from adapters.bench.results import Result, Sample, completed
from adapters.bench.runs import Options, Side, Target, rounds, run
from adapters.bench.sockets import BenchmarkError, dial, read_packet
from adapters.bench.storm import Storm
from adapters.bench.workloads import LEVELS, MODES, SCENARIOS, Workload
from mqtt_core.broker import Limits
from tests.adapters.rig import RunningServer

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="platform: processes are read from /proc, which is Linux's"
)


@contextmanager
def faulty_broker(lose: int | None, refuse: str = "", double: int | None = None) -> Iterator[int]:
    """A broker for one subscriber and one QoS 0 publisher that errs with one message; its port."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(30)
        thread = threading.Thread(target=_serve_badly, args=(listener, lose, refuse, double))
        thread.start()
        stack.callback(thread.join)
        yield listener.getsockname()[1]


def _serve_badly(
    listener: socket.socket, lose: int | None, refuse: str, double: int | None
) -> None:
    with ExitStack() as stack:
        subscriber, _ = listener.accept()
        stack.enter_context(subscriber)
        read_packet(subscriber)
        subscriber.sendall(bytes.fromhex(refuse or "20020000"))
        if refuse:
            return
        read_packet(subscriber)
        subscriber.sendall(bytes.fromhex("9003000100"))
        publisher, _ = listener.accept()
        stack.enter_context(publisher)
        read_packet(publisher)
        publisher.sendall(bytes.fromhex("20020000"))
        count = 0
        while True:
            try:
                packet = read_packet(publisher)
            except (BenchmarkError, ConnectionError):
                return
            subscriber.sendall(packet * ((count != lose) + (count == double)))
            count += 1


SMALL = Workload("small", "pair", 1, 1, 0, 50, 10)


def measured(workload: Workload, port: int) -> Result:
    return load.run(workload, port, stall_s=0.3)


def test_all_that_comes_back_is_reported() -> None:
    with faulty_broker(lose=None) as port:
        result = measured(SMALL, port)
    assert (result["sent"], result["delivered"], result["expected"]) == (50, 50, 50)
    assert result["complete"]
    assert result["broker_cpu_us"] is None
    assert sum(count for _, count in result["latency_us"]) == 50
    assert result["samples"][-1][1:] == (50, 50)


@pytest.mark.parametrize("lost", [0, 23, 49])
def test_one_message_lost_by_the_broker_is_reported(lost: int) -> None:
    with faulty_broker(lose=lost) as port:
        result = measured(SMALL, port)
    assert not result["complete"]
    assert (result["missing"], result["surplus"]) == (1, 0)


def test_one_message_delivered_twice_is_reported() -> None:
    with faulty_broker(lose=None, double=20) as port:
        result = measured(SMALL, port)
    assert not result["complete"]
    assert result["surplus"] == 1


@pytest.mark.parametrize("is_paced", [False, True])
def test_a_run_of_some_time_counts_what_it_has_sent(is_paced: bool) -> None:
    timed = SMALL._replace(messages=0, seconds=0.2, rate_per_s=1000.0 if is_paced else 0.0)
    with faulty_broker(lose=0) as port:
        result = measured(timed, port)
    assert result["missing"] == 1
    assert result["sent"] == result["expected"] == result["delivered"] + 1


def test_a_refusal_is_told() -> None:
    with (
        faulty_broker(lose=None, refuse="20020005") as port,
        pytest.raises(BenchmarkError, match="refused bench-sub-0: not authorized"),
    ):
        measured(SMALL, port)


@pytest.mark.parametrize("refusal", ["20020001", "2003008400"])
def test_a_broker_that_does_not_speak_the_version_is_told(refusal: str) -> None:
    with (
        faulty_broker(lose=None, refuse=refusal) as port,
        pytest.raises(BenchmarkError, match="it does not speak MQTT 5"),
    ):
        measured(SMALL._replace(level=LEVELS["5"]), port)


def test_what_is_no_connack_is_told() -> None:
    with (
        faulty_broker(lose=None, refuse="d000") as port,
        pytest.raises(BenchmarkError, match="d0 00 is no CONNACK"),
    ):
        measured(SMALL, port)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
    return port


def test_no_broker_is_told_with_what_to_do() -> None:
    port = free_port()
    with pytest.raises(BenchmarkError, match=f"cannot connect to 127.0.0.1:{port}: .*running"):
        measured(SMALL, port)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "ring"}, "mode is 'ring'; use one of pair"),
        ({"window": 0}, "window is 0; use 1 or more"),
        ({"window": 40_000}, "use at most 16384"),
        ({"size_bytes": 3}, "use at least 4 bytes"),
        ({"size_bytes": 1 << 25}, "payload is 33554432; use at most 16777216"),
        ({"rate_per_s": -1}, "rate is -1"),
        ({"qos": 3}, "use 0, 1 or 2"),
        ({"messages": 0}, "use 1 or more, or a number of seconds"),
        ({"topics": -1}, "topics is -1"),
        ({"topics": 2, "publishers": 2}, "topics is 2, more than the 1 subscribers"),
        ({"subscribers": 2}, "there are 2 topics and only 1 publishers"),
        ({"mode": "fanin", "topics": 2}, "in a fanin each publisher has its own"),
        ({"mode": "shared"}, "shared subscriptions are of MQTT 5.0"),
        ({"mode": "connect"}, "connections is 0; use 1 or more"),
        ({"publishers": 60_000, "size_bytes": 65_000}, "GB of memory"),
    ],
)
def test_a_shape_that_cannot_be_is_told(change: dict[str, object], said: str) -> None:
    workload = SMALL._replace(**change)  # type: ignore[arg-type]  # by the table above
    with pytest.raises(BenchmarkError, match=said):
        load.Load(workload, 1)


def test_a_load_that_needs_more_files_than_there_may_be_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "raise_descriptor_limit", lambda wanted: 100)
    with pytest.raises(BenchmarkError, match=r"200 clients .* may have 100; .*ulimit -n 264"):
        machine.need_descriptors(200)


# ---- against our own server ----


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with RunningServer("asyncio", limits=Limits(max_connections=10_000)) as server:
        yield server.address[1]


def small_form(name: str) -> Workload:
    """A scenario of the suite with few clients, at its own rate for each."""
    workload = SCENARIOS[name]
    if workload.is_storm:
        return workload._replace(connections=40, rate_per_s=1_000.0)
    return workload._replace(
        publishers=min(20, workload.publishers),
        subscribers=min(20, workload.subscribers),
        rate_per_s=400.0,
        messages=0,
        seconds=0.3,
    )


@pytest.mark.parametrize("name", ["p2p", "fanout", "sharedsub"])
def test_the_suite_runs(name: str, port: int) -> None:
    workload = small_form(name)
    result = load.run(workload, port)
    assert result["complete"]
    assert result["in_order"]
    copies = workload.copies(0)
    assert result["delivered"] == result["sent"] * copies == result["expected"]
    assert 0 < result["sent"] <= 121


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "connect"])
def test_every_mode_runs_in_a_closed_loop(mode: str, qos: int, port: int) -> None:
    workload = Workload("small", mode, 4, 4, qos, 30, 5, level=LEVELS["5"])
    result = load.run(workload, port)
    assert result["complete"]
    assert result["in_order"]
    assert result["delivered"] == workload.deliveries
    assert result["acked"] == (120 if qos else 0)


def test_a_rate_that_cannot_be_kept_ends_all_the_same(port: int) -> None:
    flood = Workload("small", "pair", 1, 1, 1, seconds=0.05, rate_per_s=1e9)
    result = load.run(flood, port, stall_s=0.1)
    assert result["unsent"] > 1_000_000
    assert not result["complete"]
    assert result["expected"] == result["sent"] + result["unsent"]
    assert result["delivered"] == result["sent"] - result["missing"]


def test_topics_are_spread(port: int) -> None:
    workload = Workload("small", "pair", 4, 4, 1, 10, 5, topics=2)
    assert [workload.readers_of(index) for index in range(4)] == [[0, 2], [1, 3]] * 2
    assert load.run(workload, port)["delivered"] == 80 == workload.deliveries


def test_the_window_is_what_the_broker_takes(port: int) -> None:
    workload = Workload("small", "pair", 1, 1, 1, 4_000, 2_000)
    assert load.run(workload, port)["window"] == 2_000
    assert load.run(workload._replace(level=LEVELS["5"]), port)["window"] == 1_024


@pytest.mark.parametrize("rate", [0.0, 2_000.0])
@pytest.mark.parametrize("version", LEVELS)
def test_a_storm_counts_who_got_in(version: str, rate: float, port: int) -> None:
    workload = small_form("storm")._replace(rate_per_s=rate, window=7, level=LEVELS[version])
    storm = Storm(workload, port)
    try:
        storm.prepare()
        result = storm.measure()
    finally:
        storm.close()
    assert result["complete"]
    assert result["delivered"] == 40 == sum(count for _, count in result["latency_us"])


def test_who_is_not_let_in_is_counted() -> None:
    with RunningServer("asyncio", limits=Limits(max_connections=10)) as server:
        storm = Storm(small_form("storm"), server.address[1])
        try:
            result = storm.measure(stall_s=0.5)
        finally:
            storm.close()
    assert (result["delivered"], result["missing"]) == (10, 30)
    assert not result["complete"]
    assert result["fault"]


def test_a_storm_on_nobody_is_told() -> None:
    storm = Storm(small_form("storm"), free_port())
    try:
        with pytest.raises(BenchmarkError, match="nobody could connect"):
            storm.measure(stall_s=0.1)
    finally:
        storm.close()


# ---- in processes of their own ----


def test_a_load_is_spread_over_processes(port: int) -> None:
    workload = Workload("small", "pair", 5, 5, 1, 20, 5)
    result = run(workload, Target("own", "127.0.0.1", port), Options(processes=2))
    assert (result["processes"], result["publishers"], result["subscribers"]) == (2, 5, 5)
    assert (result["sent"], result["delivered"], result["complete"]) == (100, 100, True)
    assert sum(count for _, count in result["latency_us"]) == 100


def test_sides_take_turns_and_tell_how_far_they_are(port: int) -> None:
    timed = SMALL._replace(messages=0, seconds=0.3)
    target = Target("own", "127.0.0.1", port)
    sides = [Side("A", target, timed), Side("B", target, timed)]
    seen: list[tuple[str, int, Sample]] = []

    def look(side: Side, number: int, sample: Sample) -> None:
        seen.append((side.name, number, sample))

    done = [(each.side.name, each.round) for each in rounds(sides, 2, Options(), look)]
    assert done == [("A", 0), ("B", 0), ("A", 1), ("B", 1)]
    assert {(name, number) for name, number, _ in seen} == set(done)
    assert seen[-1][2].received > 0


def test_a_side_that_fails_does_not_end_the_others(port: int) -> None:
    sides = [
        Side("none", Target("none", "127.0.0.1", free_port()), SMALL),
        Side("own", Target("own", "127.0.0.1", port), SMALL),
    ]
    first, second = rounds(sides, 1)
    assert first.result is None
    assert "cannot connect" in first.fault
    assert second.result is not None


# ---- the machine ----


@linux_only
def test_the_process_that_listens_is_found(port: int) -> None:
    assert machine.process_listening(port) == os.getpid()
    assert machine.process_listening(free_port()) is None


@linux_only
def test_the_generator_tells_how_busy_it_was(port: int) -> None:
    result = load.run(SMALL, port, pid=os.getpid())
    assert result["generator_cpu"] > 0
    assert result["broker_cpu_us"]
    assert result["broker_busy"]


@pytest.mark.parametrize(
    ("own", "broker", "is_saturated"),
    [(0.97, 0.5, True), (0.97, None, True), (0.97, 0.96, False), (0.9, 0.2, False)],
)
def test_the_generator_says_when_it_is_the_bottleneck(
    own: float, broker: float | None, is_saturated: bool, port: int
) -> None:
    result = load.run(SMALL, port)
    result["generator_busy"], result["broker_busy"] = own, broker
    assert completed(result)["generator_saturated"] is is_saturated


def test_connections_beyond_the_ports_of_one_address_come_from_another(port: int) -> None:
    with dial("127.0.0.1", port, 20_000) as sock:
        assert sock.getsockname()[0] == "127.0.0.2"
