"""The benchmarks measure what they say: nothing lost, doubled or changed goes unnoticed."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.source

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # the benchmarks are no part of what is installed

from benchmarks import (  # noqa: E402 (needs the path)
    _answers,
    _packets,
    brokers,
    compare,
    core_micro,
    durability,
    gc_pause,
    loadgen,
    memory,
    subscriptions,
)
from benchmarks._clients import Progress, Publisher, Subscriber, publisher_counts  # noqa: E402
from benchmarks._series import Series, Tally, cycle_for, filter_of, topic_of  # noqa: E402
from benchmarks._sockets import BenchmarkError, Poller, read_packet  # noqa: E402
from benchmarks.scenarios import _flood, idle  # noqa: E402
from benchmarks.workloads import LEVELS, WORKLOADS, Workload  # noqa: E402

needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") is None,
    reason="mosquitto is not installed (apt-get install mosquitto)",
)

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="platform: memory is read from /proc, which is Linux's"
)


def pair(qos: int, publishers: int = 1, messages: int = 40, window: int = 10) -> Workload:
    mode = "pair" if publishers == 1 else "fanin"
    return Workload("test", mode, publishers, 1, qos, messages, window)


class Ends:
    """The clients of one load on socket pairs, without a broker: the test has the other ends."""

    def __init__(self, workload: Workload, stack: ExitStack) -> None:
        self._stack: Final = stack
        self._poller: Final = Poller()
        stack.callback(self._poller.close)
        self.progress: Final = Progress()
        self.publishers: Final[list[Publisher]] = []
        self.from_publishers: Final[list[socket.socket]] = []
        for index in range(workload.publishers):
            ours, theirs = self._sockets()
            self.publishers.append(Publisher(ours, self._poller, self.progress, workload, index))
            self.from_publishers.append(theirs)
        ours, self.from_subscriber = self._sockets()
        self.subscriber: Final = Subscriber(ours, self._poller, self.progress, workload, 0)
        self.subscriber.listen_to(self.publishers)

    def _sockets(self) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._stack.callback(ours.close)
        self._stack.callback(theirs.close)
        return ours, theirs

    def fill(self) -> list[list[bytes]]:
        """Let every publisher send what it may; the packets of each."""
        packets = []
        for publisher, theirs in zip(self.publishers, self.from_publishers, strict=True):
            while publisher.fill(0.0, 0.0):
                pass
            packets.append(split(received(theirs)))
        return packets

    def missing(self, messages: int) -> int:
        return sum(source.tally.missing(messages) for source in self.subscriber.sources.values())

    def surplus(self, messages: int) -> int:
        return sum(source.tally.surplus(messages) for source in self.subscriber.sources.values())

    @property
    def in_order(self) -> bool:
        return all(source.tally.in_order for source in self.subscriber.sources.values())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as several:
        yield several


def received(sock: socket.socket) -> bytes:
    data = b""
    while select.select([sock], [], [], 0)[0]:
        chunk = sock.recv(1 << 20)
        if not chunk:
            break
        data += chunk
    return data


def split(data: bytes) -> list[bytes]:
    """Packets with a remaining length of one byte, which is all there are here."""
    packets = []
    while data:
        packets.append(data[: 2 + data[1]])
        data = data[2 + data[1] :]
    return packets


def with_ids(packets: list[bytes], first: int) -> list[bytes]:
    """The packets as a broker delivers them: with packet identifiers of its own."""
    changed = []
    for number, packet in enumerate(packets, first):
        at = 4 + int.from_bytes(packet[2:4], "big")
        changed.append(packet[:at] + number.to_bytes(2, "big") + packet[at + 2 :])
    return changed


# ---- what is sent ----


def test_a_packet_is_encoded_as_the_standard_says() -> None:
    assert _packets.connect("a") == bytes.fromhex("100d00044d51545404020000000161")
    assert _packets.subscribe(7, ["a/+", "b"], 1) == bytes.fromhex("820c00070003612f2b0100016201")
    assert _packets.publish("t", b"x") == bytes.fromhex("3004000174" + "78")
    assert _packets.publish("t", b"x", qos=1, packet_id=258, retain=True) == bytes.fromhex(
        "33060001740102" + "78"
    )
    long = _packets.publish("t", bytes(200))
    assert long[:3] == bytes.fromhex("30cb01")
    assert len(long) == 3 + 203


def test_a_packet_of_mqtt_5_has_a_property_length_more() -> None:
    five = _packets.MQTT_5
    assert _packets.connect("a", level=five) == bytes.fromhex("100e00044d5154540502000000000161")
    assert _packets.subscribe(7, ["a/+"], 1, five) == bytes.fromhex("820900070000" + "03612f2b01")
    assert _packets.publish("t", b"x", level=five) == bytes.fromhex("3005000174" + "0078")
    assert _packets.publish("t", b"x", qos=1, packet_id=258, level=five) == bytes.fromhex(
        "32070001740102" + "0078"
    )


@pytest.mark.parametrize("level", LEVELS.values())
def test_a_message_carries_publisher_and_number(level: int) -> None:
    workload = pair(1, publishers=300, messages=9)._replace(level=level)
    series = Series(workload, 258)
    frame = series.frame(5)
    assert frame[series.payload_at :] == bytes.fromhex("01020005") + b"x" * 12
    assert bytes(series.stream[5 * series.frame_bytes :][: series.frame_bytes]) == (
        frame[: series.id_at] + b"\x00\x06" + frame[series.id_at + 2 :]
    )


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_standard_workload_is_sound(name: str) -> None:
    workload = WORKLOADS[name]
    assert workload.fault() == ""
    assert min(workload.window, workload.messages) <= cycle_for(workload) <= 65_535
    topics = {len(topic_of(workload, index)) for index in range(workload.publishers)}
    assert len(topics) == 1
    if workload.mode == "pair":
        filters = [filter_of(workload, index) for index in range(workload.subscribers)]
        assert {topic_of(workload, i) for i in range(workload.publishers)} == set(filters)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_publisher_stops_at_its_window(qos: int, stack: ExitStack) -> None:
    ends = Ends(pair(qos, window=10), stack)
    assert len(ends.fill()[0]) == 10
    assert ends.fill() == [[]]


def test_at_qos_0_the_window_opens_as_messages_arrive(stack: ExitStack) -> None:
    ends = Ends(pair(0, window=10), stack)
    packets = ends.fill()[0]
    ends.subscriber.receive_data(b"".join(packets[:3]), 0.0)
    assert len(ends.fill()[0]) == 3


def test_at_qos_1_the_window_opens_with_acknowledgements_only(stack: ExitStack) -> None:
    ends = Ends(pair(1, window=10), stack)
    packets = ends.fill()[0]
    ends.subscriber.receive_data(b"".join(with_ids(packets[:3], 1)), 0.0)
    assert ends.fill() == [[]]
    ends.publishers[0].receive_data(bytes.fromhex("40020001 40020002"), 0.0)
    assert len(ends.fill()[0]) == 2


def test_a_pace_holds_messages_back(stack: ExitStack) -> None:
    ends = Ends(pair(1)._replace(rate_per_s=100.0), stack)
    assert not ends.publishers[0].fill(0.0, 0.05)
    assert len(split(received(ends.from_publishers[0]))) == 5


def test_qos_2_is_answered_to_the_end_on_both_sides(stack: ExitStack) -> None:
    ends = Ends(pair(2, window=2), stack)
    packets = ends.fill()[0]
    ends.publishers[0].receive_data(bytes.fromhex("50020001 5002"), 0.0)
    ends.publishers[0].receive_data(bytes.fromhex("0002 70020001"), 0.0)
    assert received(ends.from_publishers[0]) == bytes.fromhex("62020001 62020002")
    assert ends.progress.acked == 1
    first, second = with_ids(packets, 300)
    ends.subscriber.receive_data(first + bytes.fromhex("6202012c") + second, 0.0)
    assert received(ends.from_subscriber) == bytes.fromhex("5002012c 7002012c 5002012d")
    assert ends.progress.received == 2


def test_every_delivery_is_acknowledged_by_its_own_identifier(stack: ExitStack) -> None:
    ends = Ends(pair(1), stack)
    packets = with_ids(ends.fill()[0], 511)
    ends.subscriber.receive_data(packets[0], 0.0)
    ends.subscriber.receive_data(b"".join(packets[1:3]), 0.0)
    assert received(ends.from_subscriber) == bytes.fromhex("400201ff 40020200 40020201")


# ---- what arrives ----


def deliver(
    ends: Ends, workload: Workload, tampered: int | None = None, by: str = ""
) -> list[bytes]:
    """All packets of all publishers as a broker would deliver them, with one of them treated."""
    packets: list[bytes] = []
    while True:
        some = ends.fill()
        if not any(some):
            break
        for index, sent in enumerate(some):
            packets += sent
            publisher = ends.publishers[index]
            publisher.done += len(sent)  # as if all had been settled
    if workload.qos:
        packets = with_ids(packets, 1)
    if tampered is not None:
        packet = packets[tampered]
        if by == "drop":
            del packets[tampered]
        elif by == "double":
            packets.insert(tampered, packet)
        elif by == "swap":
            packets[tampered : tampered + 2] = packets[tampered : tampered + 2][::-1]
        elif by == "change":
            packets[tampered] = packet[:-1] + b"!"
    return packets


SHAPES: Final = [(0, 1), (1, 1), (2, 1), (0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize(("qos", "publishers"), SHAPES)
def test_what_arrives_is_counted_however_it_is_cut(
    qos: int, publishers: int, stack: ExitStack
) -> None:
    workload = pair(qos, publishers)
    for size in (1, 2, 7, 26, 27, 28, 29, 30, 31, 1000, 100_000):
        ends = Ends(workload, stack)
        data = b"".join(deliver(ends, workload))
        for at in range(0, len(data), size):
            ends.subscriber.receive_data(data[at : at + size], 0.0)
        assert ends.progress.received == workload.deliveries
        assert ends.missing(workload.messages) == 0
        assert ends.surplus(workload.messages) == 0
        assert ends.in_order
        assert sum(ends.progress.latencies.values()) == workload.deliveries


@pytest.mark.parametrize("where", [0, 1, 17, 38])
@pytest.mark.parametrize(("qos", "publishers"), SHAPES)
@pytest.mark.parametrize(
    ("by", "missing", "surplus"), [("drop", 1, 0), ("double", 0, 1), ("swap", 0, 0)]
)
def test_a_lost_doubled_or_overtaken_message_is_noticed(
    by: str, missing: int, surplus: int, qos: int, publishers: int, where: int, stack: ExitStack
) -> None:
    workload = pair(qos, publishers)
    ends = Ends(workload, stack)
    data = b"".join(deliver(ends, workload, where, by))
    ends.subscriber.receive_data(data[:100], 0.0)
    ends.subscriber.receive_data(data[100:], 0.0)
    assert ends.missing(workload.messages) == missing
    assert ends.surplus(workload.messages) == surplus
    # Of several publishers' messages only some blocks are compared one by one; all are counted.
    assert not ends.in_order or publishers > 1


@pytest.mark.parametrize(("qos", "publishers"), SHAPES)
def test_a_changed_message_is_an_error(qos: int, publishers: int, stack: ExitStack) -> None:
    workload = pair(qos, publishers)
    ends = Ends(workload, stack)
    data = b"".join(deliver(ends, workload, 3, "change"))
    with pytest.raises(BenchmarkError, match="never sent"):
        ends.subscriber.receive_data(data, 0.0)


@pytest.mark.parametrize("data", ["20020000", "4003000001", "40020000", "4002ffff"])
def test_an_answer_to_nothing_is_an_error(data: str, stack: ExitStack) -> None:
    ends = Ends(pair(1), stack)
    with pytest.raises(BenchmarkError, match="never sent"):
        ends.publishers[0].receive_data(bytes.fromhex(data), 0.0)


FIVE: Final = _packets.MQTT_5


@pytest.mark.parametrize("cut", range(1, 19))
def test_acknowledgements_with_a_reason_count(cut: int, stack: ExitStack) -> None:
    ends = Ends(pair(1, messages=4)._replace(level=FIVE), stack)
    ends.fill()
    data = bytes.fromhex("40020001 4003000200 40020003 4004000410 00")
    ends.publishers[0].receive_data(data[:cut], 0.0)
    ends.publishers[0].receive_data(data[cut:], 0.0)
    assert ends.progress.acked == 4
    assert all(tally.in_order for tally in ends.publishers[0].answers)


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_pubrel_with_a_reason_is_answered(cut: int, stack: ExitStack) -> None:
    ends = Ends(pair(2, messages=3)._replace(level=FIVE), stack)
    data = bytes.fromhex("62020001 6203000200 62020003")
    ends.subscriber.receive_data(data[:cut], 0.0)
    ends.subscriber.receive_data(data[cut:], 0.0)
    assert received(ends.from_subscriber) == bytes.fromhex("70020001 70020002 70020003")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("40020001 4003000297", "publisher 0 was refused with reason 0x97"),
        ("40020001 e00193", "the broker has disconnected publisher 0 with reason 0x93"),
        ("e0028200", "the broker has disconnected publisher 0 with reason 0x82"),
        ("e000", "the broker has disconnected publisher 0 with reason 0x00"),
    ],
)
def test_a_refusal_of_mqtt_5_is_an_error(data: str, said: str, stack: ExitStack) -> None:
    ends = Ends(pair(1)._replace(level=FIVE), stack)
    ends.fill()
    with pytest.raises(BenchmarkError, match=said):
        ends.publishers[0].receive_data(bytes.fromhex(data), 0.0)


def test_a_disconnected_subscriber_is_an_error(stack: ExitStack) -> None:
    ends = Ends(pair(1)._replace(level=FIVE), stack)
    with pytest.raises(BenchmarkError, match="has disconnected subscriber 0 with reason 0x8b"):
        ends.subscriber.receive_data(bytes.fromhex("e0018b"), 0.0)


def test_the_receive_maximum_is_found_among_the_properties_of_connack() -> None:
    assert _answers.receive_maximum(bytes.fromhex("2003000000")) == 65_535
    assert _answers.receive_maximum(bytes.fromhex("20060000032100ff")) == 255
    text = b"\x1f\x00\x80" + bytes(128)  # so long that both lengths take two bytes
    others = bytes.fromhex("2700100000 2600016b000176 13001e 1200026964 2901 210014")
    size = len(others + text)
    connack = bytes((0x20, size + 4 - 128 | 0x80, 1, 0, 0, size - 128 | 0x80, 1)) + text + others
    assert _answers.receive_maximum(connack) == 20
    with pytest.raises(BenchmarkError, match="CONNACK has property 0x7e"):
        _answers.receive_maximum(bytes.fromhex("20050000 02 7e00"))


def test_acknowledgements_out_of_order_count(stack: ExitStack) -> None:
    ends = Ends(pair(1, messages=3), stack)
    ends.fill()
    ends.publishers[0].receive_data(bytes.fromhex("40020002 40020001 40020003"), 0.0)
    assert ends.progress.acked == 3
    (tally,) = ends.publishers[0].answers
    assert (tally.missing(3), tally.surplus(3), tally.in_order) == (0, 0, False)


def test_messages_of_many_publishers_are_told_apart() -> None:
    frames = [index.to_bytes(2, "big") + b"..." for index in (1, 256, 256, 511)]
    assert publisher_counts(b"".join(frames), 0, 5) == {1: 1, 256: 2, 511: 1}


def test_a_tally_knows_what_is_missing_over_several_cycles() -> None:
    tally = Tally(10)
    tally.take_many(24)
    for number in (5, 6, 6):  # 4 is lost, 6 comes twice
        tally.take(number)
    assert not tally.in_order
    assert tally.missing(27) == 1
    assert tally.surplus(27) == 1


def test_percentiles_come_from_the_counts() -> None:
    latencies = {0: 90, 99: 9, 199: 1}
    assert loadgen.percentiles_ms(latencies, (0.5, 0.9, 0.99, 0.999)) == [0.01, 1.0, 2.0, 2.0]
    assert loadgen.percentiles_ms({}, (0.5,)) == [0.0]


# ---- over sockets ----


@contextmanager
def faulty_broker(lose: int | None, refuse: str = "") -> Iterator[int]:
    """A broker for one subscriber and one QoS 0 publisher that loses one message; its port."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(30)
        thread = threading.Thread(target=_serve_badly, args=(listener, lose, refuse))
        thread.start()
        stack.callback(thread.join)
        yield listener.getsockname()[1]


def _serve_badly(listener: socket.socket, lose: int | None, refuse: str) -> None:
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
            if count != lose:
                subscriber.sendall(packet)
            count += 1


SMALL: Final = ["--messages", "50", "--window", "10", "--stall-secs", "0.3"]


def test_all_that_comes_back_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with faulty_broker(lose=None) as port:
        assert loadgen.main(["--port", str(port), "--json", *SMALL]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["sent"], result["delivered"], result["expected"]) == (50, 50, 50)
    assert result["complete"] is True
    assert result["broker_cpu_us"] is None


@pytest.mark.parametrize("lost", [0, 23, 49])
def test_one_message_lost_by_the_broker_is_reported(
    lost: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with faulty_broker(lose=lost) as port:
        assert loadgen.main(["--port", str(port), *SMALL]) == 1
    assert "NOT COMPLETE: 1 missing, 0 more than once" in capsys.readouterr().out


def test_a_refusal_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with faulty_broker(lose=None, refuse="20020005") as port:
        assert loadgen.main(["--port", str(port), *SMALL]) == 2
    assert "refused bench-sub-0 with 20 02 00 05" in capsys.readouterr().err


def test_a_broker_that_does_not_speak_the_version_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with faulty_broker(lose=None, refuse="20020001") as port:
        assert loadgen.main(["--port", str(port), "--mqtt", "5", *SMALL]) == 2
    assert "with 20 02 00 01; it does not speak MQTT 5.0" in capsys.readouterr().err


def test_no_broker_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert loadgen.main(["--port", str(port)]) == 2
    assert f"cannot connect to 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["q9-pair"], "no workload 'q9-pair'; there are q0-pair"),
        (["--window", "0"], "window is 0; use 1 or more"),
        (["--window", "40000"], "use at most 16384"),
        (["--size", "3"], "use at least 4 bytes"),
        (["--rate", "-1"], "rate is -1"),
        (["--qos", "3"], "invalid choice: 3"),
    ],
)
def test_a_wrong_option_is_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        loadgen.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_saturated_generator_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with faulty_broker(lose=None) as port:
        loadgen.main(["--port", str(port), "--json", *SMALL])
    result: loadgen.Result = json.loads(capsys.readouterr().out)
    told = loadgen.told({**result, "generator_saturated": True})
    assert "the generator was at its own limit" in told


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
            result = loadgen.run(small, broker.port, pid=broker.pid)
            assert result["complete"], workload.name
            assert result["in_order"], workload.name
            assert result["mqtt"] == version
            assert result["delivered"] == small.deliveries
            assert result["acked"] == (small.publishers * small.messages if small.qos else 0)


def test_the_window_is_what_the_broker_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with brokers.started(["iotd-pure"], None) as (broker,):
        options = ["--window", "2000", "--messages", "4000", "--qos", "1", "--json"]
        assert loadgen.main(["--port", str(broker.port), "--mqtt", "5", *options]) == 0
        assert json.loads(capsys.readouterr().out)["window"] == 1_024
        assert loadgen.main(["--port", str(broker.port), *options]) == 0
        assert json.loads(capsys.readouterr().out)["window"] == 2_000


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
