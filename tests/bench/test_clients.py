"""The two ends of a load, without a broker: nothing lost, doubled or changed goes unnoticed."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from adapters.bench import packets
from adapters.bench.publishing import Progress, Publisher
from adapters.bench.receiving import Source, Subscriber, publisher_counts
from adapters.bench.series import Series, Tally, cycle_for, filters_of, topic_of, window_for
from adapters.bench.sockets import BenchmarkError, Poller, receive_maximum
from adapters.bench.workloads import LEVELS, SCENARIOS, Workload
from mqtt_core import RemoteProtocolError

FIVE: Final = packets.MQTT_5


def pair(qos: int, publishers: int = 1, messages: int = 40, window: int = 10) -> Workload:
    mode = "pair" if publishers == 1 else "fanin"
    return Workload("test", mode, publishers, 1, qos, messages, window)


class Ends:
    """The clients of one load on socket pairs, without a broker: the test has the other ends."""

    def __init__(self, workload: Workload, stack: ExitStack, *, is_shared: bool = False) -> None:
        self._stack: Final = stack
        self.poller: Final = Poller()
        stack.callback(self.poller.close)
        self.progress: Final = Progress()
        self.now = 0.0
        self.publishers: Final[list[Publisher]] = []
        self.from_publishers: Final[list[socket.socket]] = []
        for index in range(workload.publishers):
            ours, theirs = self._sockets()
            self.publishers.append(Publisher(ours, self.poller, self.progress, workload, index))
            self.from_publishers.append(theirs)
        ours, self.from_subscriber = self._sockets()
        self.subscriber: Final = Subscriber(ours, self.poller, workload, 0)
        self.sources: Final = [Source(each, is_shared=is_shared) for each in self.publishers]
        self.subscriber.listen_to(self.sources)

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
            while publisher.fill(self.now):
                pass
            packets.append(split(received(theirs)))
        return packets

    def missing(self, messages: int) -> int:
        return sum(source.tally.missing(messages) for source in self.sources)

    def surplus(self, messages: int) -> int:
        return sum(source.tally.surplus(messages) for source in self.sources)

    @property
    def in_order(self) -> bool:
        return all(source.tally.in_order for source in self.sources)


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
    assert packets.connect("a") == bytes.fromhex("100d00044d51545404020000000161")
    assert packets.subscribe(7, ["a/+", "b"], 1) == bytes.fromhex("820c00070003612f2b0100016201")
    assert packets.publish("t", b"x") == bytes.fromhex("3004000174" + "78")
    assert packets.publish("t", b"x", qos=1, packet_id=258, retain=True) == bytes.fromhex(
        "33060001740102" + "78"
    )
    long = packets.publish("t", bytes(200))
    assert long[:3] == bytes.fromhex("30cb01")
    assert len(long) == 3 + 203


def test_a_packet_of_mqtt_5_has_a_property_length_more() -> None:
    five = FIVE
    assert packets.connect("a", level=five) == bytes.fromhex("100e00044d5154540502000000000161")
    assert packets.subscribe(7, ["a/+"], 1, five) == bytes.fromhex("820900070000" + "03612f2b01")
    assert packets.publish("t", b"x", level=five) == bytes.fromhex("3005000174" + "0078")
    assert packets.publish("t", b"x", qos=1, packet_id=258, level=five) == bytes.fromhex(
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


MESSAGE_SCENARIOS: Final = [name for name, each in SCENARIOS.items() if not each.is_storm]


@pytest.mark.parametrize("name", MESSAGE_SCENARIOS)
def test_every_scenario_is_sound(name: str) -> None:
    workload = SCENARIOS[name]
    workload = workload if workload.messages else workload._replace(seconds=1.0)
    assert workload.fault() == ""
    assert cycle_for(workload) <= 65_535
    if workload.qos or not workload.rate_per_s:
        most = workload.messages or 1 << 62
        assert min(window_for(workload), most) <= cycle_for(workload)
    topics = {topic_of(workload, index) for index in range(workload.publishers)}
    assert len({len(topic) for topic in topics}) == 1
    if workload.mode in ("pair", "fanout"):
        each = [filters_of(workload, index) for index in range(workload.subscribers)]
        assert {topic_filter for filters in each for topic_filter in filters} == topics
    readers = [workload.readers_of(index) for index in range(workload.publishers)]
    assert {one for some in readers for one in some} == set(range(workload.subscribers))


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


PACED: Final = pair(1)._replace(rate_per_s=100.0)


def test_a_pace_holds_messages_back(stack: ExitStack) -> None:
    ends = Ends(PACED, stack)
    (publisher,) = ends.publishers
    publisher.start(10.0)
    assert not publisher.fill(9.999)
    assert not publisher.fill(10.045)
    assert len(split(received(ends.from_publishers[0]))) == 5
    assert publisher.due_at(5) == pytest.approx(10.05)


def test_publishers_take_turns_within_the_pace(stack: ExitStack) -> None:
    workload = pair(0, publishers=4)._replace(rate_per_s=100.0)
    ends = Ends(workload, stack)
    for publisher in ends.publishers:
        publisher.start(0.0)
    due = [publisher.due_at(0) for publisher in ends.publishers]
    assert due == pytest.approx([0.0, 0.01, 0.02, 0.03])
    in_step = Ends(workload._replace(in_step=True), stack)
    assert [publisher.due_at(1) for publisher in in_step.publishers] == pytest.approx([0.04] * 4)


def test_a_pace_is_timed_from_when_a_message_was_due(stack: ExitStack) -> None:
    ends = Ends(pair(0)._replace(rate_per_s=100.0), stack)
    ends.publishers[0].start(0.0)
    ends.now = 0.1  # a standstill: eleven messages are due by now, the first for 100 ms
    (packets_sent,) = ends.fill()
    assert len(packets_sent) == 11
    ends.subscriber.receive_data(b"".join(packets_sent), 0.2)
    found = ends.progress.latencies
    assert found.count == 11
    assert found.largest_ms == pytest.approx(200, abs=0.01)
    assert found.percentiles_ms([0.01])[0] == pytest.approx(100, rel=0.01)
    assert ends.progress.lateness.largest_ms == pytest.approx(100, abs=0.01)


def test_what_is_due_when_the_time_is_over_is_still_sent_and_timed(stack: ExitStack) -> None:
    ends = Ends(PACED._replace(most_unacked=2, messages=0, seconds=0.1), stack)
    (publisher,) = ends.publishers
    publisher.start(0.0)
    publisher.fill(0.095)  # ten are due, two may leave
    publisher.stop(0.1)
    assert (publisher.sent, publisher.planned) == (2, 11)
    publisher.receive_data(bytes.fromhex("40020001 40020002"), 1.0)
    publisher.fill(1.0)
    assert (publisher.sent, publisher.planned) == (4, 11)
    publisher.give_up()
    assert (publisher.sent, publisher.planned, publisher.unsent) == (4, 4, 7)
    sent = with_ids(split(received(ends.from_publishers[0])), 1)
    ends.subscriber.receive_data(b"".join(sent), 1.0)
    assert ends.progress.latencies.largest_ms == pytest.approx(1000, rel=0.001)


def test_what_is_held_by_the_broker_is_not_late_by_our_fault(stack: ExitStack) -> None:
    ends = Ends(PACED._replace(most_unacked=2, level=FIVE), stack)
    (publisher,) = ends.publishers
    publisher.start(0.0)
    publisher.fill(0.01)
    assert not publisher.fill(0.02)
    publisher.receive_data(bytes.fromhex("40020001"), 0.5)
    publisher.fill(0.5)
    assert len(split(received(ends.from_publishers[0]))) == 3
    assert ends.progress.lateness.largest_ms == pytest.approx(10, abs=0.01)


def test_a_closed_loop_is_timed_from_when_a_message_was_sent(stack: ExitStack) -> None:
    ends = Ends(pair(0, window=3), stack)
    ends.now = 1.0
    (first,) = ends.fill()
    ends.subscriber.receive_data(first[0], 1.25)
    ends.now = 1.5
    (second,) = ends.fill()
    ends.subscriber.receive_data(b"".join([*first[1:], *second]), 1.75)
    assert [count for _, count in ends.progress.latencies.buckets()] == [2, 2]
    found = ends.progress.latencies.percentiles_ms([0.5, 1.0])
    assert found == pytest.approx([250, 750], rel=0.001)


def test_lost_messages_do_not_shift_the_times_of_others(stack: ExitStack) -> None:
    ends = Ends(pair(0, messages=100)._replace(rate_per_s=100.0), stack)
    ends.publishers[0].start(0.0)
    ends.now = 0.5
    (sent,) = ends.fill()
    ends.subscriber.receive_data(b"".join(sent[:5]), 0.5)
    ends.subscriber.receive_data(b"".join(sent[50:]), 0.5)
    assert ends.missing(51) == 45
    assert ends.progress.latencies.buckets()[0] == (0, 1)


def test_the_log_forgets_what_all_have_timed(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.bench.publishing._LOG_ENTRIES", 20)
    ends = Ends(pair(0, messages=0, window=1)._replace(seconds=1.0), stack)
    for number in range(2_000):
        ends.now = float(number)
        (sent,) = ends.fill()
        ends.subscriber.receive_data(b"".join(sent), number + 0.5)
    assert len(ends.publishers[0].sent_at) < 600
    assert ends.progress.latencies.buckets() == [(499_968, 2_000)]


def test_who_shares_a_subscription_is_counted_together(stack: ExitStack) -> None:
    workload = pair(1, publishers=2)._replace(mode="shared", level=FIVE)
    ends = Ends(workload, stack, is_shared=True)
    ours, theirs = socket.socketpair()
    stack.callback(ours.close)
    stack.callback(theirs.close)
    other = Subscriber(ours, ends.poller, workload, 1)
    other.listen_to(ends.sources)
    data = with_ids([packet for some in ends.fill() for packet in some], 1)
    ends.subscriber.receive_data(b"".join(data[1::2]), 0.0)
    assert ends.missing(10) == 10
    other.receive_data(b"".join(data[0::2]), 0.0)
    assert (ends.missing(10), ends.surplus(10)) == (0, 0)
    other.receive_data(data[0], 0.0)
    assert (ends.missing(10), ends.surplus(10)) == (0, 1)


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
        assert ends.progress.latencies.count == workload.deliveries


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


def test_the_receive_maximum_is_found_in_connack() -> None:
    assert receive_maximum(bytes.fromhex("2003000000")) == 65_535
    assert receive_maximum(bytes.fromhex("20060000032100ff")) == 255
    with pytest.raises(RemoteProtocolError):
        receive_maximum(bytes.fromhex("2004000001ff"))
    with pytest.raises(ValueError, match="no CONNACK"):
        receive_maximum(b"")


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
