"""From a publisher to its receivers: QoS, order, windows, and queues that are full."""

from __future__ import annotations

import pytest

from mqtt_core.broker import DENY, MESSAGE_OVERHEAD_BYTES, LimitValue
from tests.core import wire, wire5
from tests.model import invariants
from tests.rig import Client, Rig, TablePolicy


def acknowledge(client: Client) -> list[wire.Received]:
    """Acknowledge all there is, until nothing more comes; the messages in order."""
    got: list[wire.Received] = []
    while frames := client.frames():
        answers = b""
        for frame in frames:
            if frame.kind == 3:
                received = wire.read_publish(frame)
                got.append(received)
                if received.qos == 1:
                    answers += wire.puback(received.packet_id)
                elif received.qos == 2:
                    answers += wire.pubrec(received.packet_id)
            elif frame.kind == 6:
                answers += wire.pubcomp(frame.packet_id)
        client.send(answers)
    return got


def payloads(messages: list[wire.Received]) -> list[bytes]:
    return [each.payload for each in messages]


def test_a_socket_that_goes_on_before_it_has_taken_anything() -> None:
    rig = Rig(output_budget_bytes=1_024)
    reader = rig.connect("r")
    reader.subscribe(("t", 0))
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", bytes(2_000)), pump=False)
    reader.channel.set_writable(False, rig.now)
    reader.channel.set_writable(True, rig.now)
    publisher.send(wire.publish("t", b"x"))
    assert reader.payloads() == [bytes(2_000), b"x"]
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_large_payload_fills_an_output_too(qos: int) -> None:
    rig = Rig(output_budget_bytes=1_024)
    reader = rig.connect("r")
    reader.subscribe(("t", qos))
    data = [wire.publish("t", payload, qos, 1) for payload in (bytes(20_000), b"x", bytes(9_000))]
    rig.connect("p").send(*data)
    assert reader.payloads() == [bytes(20_000), b"x", bytes(9_000)]
    invariants.check_at_rest(rig)


# QoS


@pytest.mark.statement("v3 MQTT-3.8.4-6")
@pytest.mark.statement("v3 MQTT-4.3.1-1")
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("size", [0, 10, 20_000])
@pytest.mark.parametrize("clean", [True, False])
def test_the_lesser_qos_counts(published: int, granted: int, size: int, clean: bool) -> None:
    rig = Rig()
    reader = rig.connect("r", clean=clean)
    reader.subscribe(("t", granted))
    publisher = rig.connect("p", clean=clean)
    payload = b"x" * size
    publisher.send(wire.publish("t", payload, published, 5 if published else 0))
    qos = min(published, granted)
    assert reader.take() == wire.publish("t", payload, qos, 1 if qos else 0)
    if published == 0:
        assert publisher.take() == b""
    elif published == 1:
        assert publisher.take() == wire.puback(5)
    else:
        assert publisher.take() == wire.pubrec(5)
        publisher.send(wire.pubrel(5))
        assert publisher.take() == wire.pubcomp(5)
    if qos == 1:
        reader.send(wire.puback(1))
    elif qos == 2:
        reader.send(wire.pubrec(1))
        assert reader.take() == wire.pubrel(1)
        reader.send(wire.pubrec(1))
        assert reader.take() == wire.pubrel(1)
        reader.send(wire.pubcomp(1))
    assert rig.broker._ws.undelivered.count == 0
    invariants.check_at_rest(rig)
    rig.no_faults()


@pytest.mark.parametrize(
    "answer", [wire.puback(9), wire.pubrec(9), wire.pubcomp(9), wire.puback(1), wire.pubcomp(1)]
)
def test_an_answer_to_nothing_ends_the_connection(answer: bytes) -> None:
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe(("t", 2))
    rig.connect("p").send(wire.publish("t", b"", 2, 1))
    reader.take()
    reader.send(answer)
    assert reader.is_closed
    assert rig.last_fact("client.disconnected").statement == "MQTT-2.3.1-6"


def test_pubrel_is_answered_even_for_nothing() -> None:
    rig = Rig()
    for clean in (True, False):
        client = rig.connect("a", clean=clean)
        client.send(wire.pubrel(3))
        assert client.take() == wire.pubcomp(3)


@pytest.mark.statement("v3 MQTT-4.3.3-2")
@pytest.mark.parametrize("clean", [True, False])
def test_a_repeat_at_qos_2_is_routed_once(clean: bool) -> None:
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe(("t", 0))
    publisher = rig.connect("p", clean=clean)
    publisher.send(wire.publish("t", b"1", 2, 5) + wire.publish("t", b"1", 2, 5, dup=True))
    assert publisher.take() == wire.pubrec(5) * 2
    assert reader.payloads() == [b"1"]
    publisher.send(wire.pubrel(5) + wire.publish("t", b"2", 2, 5))
    assert publisher.take() == wire.pubcomp(5) + wire.pubrec(5)
    assert reader.payloads() == [b"2"]


def test_dup_is_not_passed_on() -> None:
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe(("t", 2))
    rig.connect("p").send(wire.publish("t", b"", 1, 7, dup=True))
    assert reader.take() == wire.publish("t", b"", 1, 1)


@pytest.mark.statement("v3 MQTT-3.3.1-9")
def test_retain_is_not_passed_on_to_those_who_are_there() -> None:
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe(("t", 1))
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"0", retain=True), wire.publish("t", b"1", 1, 7, retain=True))
    assert reader.take() == wire.publish("t", b"0") + wire.publish("t", b"1", 1, 1)


def test_a_length_in_too_many_bytes_is_passed_on_in_few() -> None:
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe(("t", 1))
    publisher = rig.connect("p")
    publisher.send(b"\x30\x84\x00\0\1tx", b"\x32\x86\x80\x00\0\1t\0\7y")
    assert reader.take() == wire.publish("t", b"x") + wire.publish("t", b"y", 1, 1)


def test_an_inner_length_that_looks_like_padding() -> None:
    """The last byte of a minimal length is never 0, but the byte before the body may be."""
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe(("t", 1))
    packet = wire.publish("t", bytes(128 - 3), 0)
    assert packet[1:3] == b"\x80\x01"
    rig.connect("p").send(packet)
    assert reader.take() == packet


# Overlapping subscriptions


@pytest.mark.statement("v3 MQTT-3.3.5-1")
@pytest.mark.parametrize("clean", [True, False])
def test_one_copy_at_the_highest_qos(clean: bool) -> None:
    rig = Rig()
    reader = rig.connect("r", clean=clean)
    reader.subscribe(("t/#", 0), ("t/+", 2), ("+/a", 1), ("t/a", 0))
    other = rig.connect("o")
    other.subscribe(("t/a", 0))
    rig.connect("p").send(wire.publish("t/a", b"x", 2, 1))
    assert reader.take() == wire.publish("t/a", b"x", 2, 1)
    assert other.take() == wire.publish("t/a", b"x")


@pytest.mark.statement("v3 MQTT-3.8.4-3")
def test_a_subscription_takes_the_place_of_the_same_one() -> None:
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe(("t", 2))
    reader.subscribe(("t", 0))
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"1", 1, 1))
    assert reader.take() == wire.publish("t", b"1")
    assert rig.broker.subscription_count == 1
    reader.send(wire.unsubscribe(3, "t", "none"))
    assert reader.take() == wire.unsuback(3)
    publisher.send(wire.publish("t", b"2", 1, 2))
    assert reader.take() == b""
    assert rig.broker.subscription_count == 0


def test_a_client_gets_its_own_messages() -> None:
    rig = Rig()
    client = rig.connect("a")
    client.subscribe(("t", 1))
    client.send(wire.publish("t", b"x", 1, 1))
    got = client.frames()
    assert sorted(frame.kind for frame in got) == [3, 4]


# Order and windows


@pytest.mark.statement("v3 MQTT-4.6.0-5")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_order_through_a_small_window_and_a_full_socket(qos: int, clean: bool) -> None:
    rig = Rig(max_inflight_messages=3, output_budget_bytes=1_024)
    reader = rig.connect("r", clean=clean)
    reader.subscribe(("t", 2))
    publisher = rig.connect("p")
    sent = [b"%d " % number + b"x" * 100 for number in range(60)]
    for number, payload in enumerate(sent, 1):
        if number == 10:
            reader.block()
        if number == 40:
            reader.unblock(2_000)
        publisher.send(wire.publish("t", payload, qos, number if qos else 0))
        if number == 50:
            reader.unblock()
    assert payloads(acknowledge(reader)) == sent
    assert rig.broker.stats.queued_messages == rig.broker.stats.dropped == 0
    invariants.check_at_rest(rig)


def test_no_more_than_the_window_is_in_flight() -> None:
    rig = Rig(max_inflight_messages=2)
    reader = rig.connect("r")
    reader.subscribe(("t", 1))
    publisher = rig.connect("p")
    for number in range(1, 6):
        publisher.send(wire.publish("t", b"%d" % number, 1, number))
    publisher.send(wire.publish("t", b"0"))
    assert reader.payloads() == [b"1", b"2", b"0"]
    reader.send(wire.puback(2))
    assert reader.payloads() == [b"3"]
    assert rig.broker.stats.queued_messages == 2


def test_the_bytes_in_flight_have_a_limit() -> None:
    rig = Rig(max_inflight_bytes=5_000)
    reader = rig.connect("r")
    reader.subscribe(("t", 1))
    publisher = rig.connect("p")
    for number in range(1, 6):
        publisher.send(wire.publish("t", bytes(2_400), 1, number))
    assert len(reader.publishes()) == 2
    reader.send(wire.puback(1))
    assert len(reader.publishes()) == 1


def test_one_message_at_a_time_goes_on_when_others_have_used_up_the_total() -> None:
    rig = Rig(total_queued_bytes=3_000)
    greedy = rig.connect("g")
    greedy.subscribe(("g", 1))
    reader = rig.connect("r")
    reader.subscribe(("t", 1))
    publisher = rig.connect("p")
    for number in range(1, 9):
        publisher.send(wire.publish("g", bytes(1_000), 1, number))
    for number in range(10, 13):
        publisher.send(wire.publish("t", b"%d" % number, 1, number))
    assert payloads(acknowledge(reader)) == [b"10", b"11", b"12"]


def test_a_fast_publisher_and_a_socket_that_drains() -> None:
    """A budget that is full within a turn is flushed before anything is dropped."""
    rig = Rig(output_budget_bytes=1_024, max_queued_messages=10_000)
    reader = rig.connect("r")
    reader.subscribe(("t", 0))
    sent = [b"%d" % number for number in range(2_000)]
    rig.connect("p").send(b"".join(wire.publish("t", each) for each in sent))
    assert reader.payloads() == sent
    assert rig.broker.stats.dropped_qos_0 == 0


# Queues that are full


def full(policy: str, *, clean: bool = False, **limits: int) -> tuple[Rig, Client]:
    """A reader that takes nothing, with three places in its queue."""
    settings: dict[str, int | str] = {
        "queue_full_policy": policy,
        "max_queued_messages": 3,
        "max_inflight_messages": 1,
        **limits,
    }
    rig = Rig(settings=settings)
    reader = rig.connect("r", clean=clean)
    reader.subscribe(("t", 1))
    reader.block()
    return rig, reader


def send(rig: Rig, count: int, qos: int = 1) -> Client:
    publisher = rig.connect("p")
    for number in range(1, count + 1):
        publisher.send(wire.publish("t", b"%d" % number, qos, number if qos else 0))
    return publisher


@pytest.mark.parametrize("clean", [True, False])
def test_drop_newest(clean: bool) -> None:
    rig, reader = full("drop-newest", clean=clean)
    publisher = send(rig, 6)
    assert publisher.take() == b"".join(wire.puback(number) for number in range(1, 7))
    reader.unblock()
    assert payloads(acknowledge(reader)) == [b"1", b"2", b"3"]
    assert rig.broker.stats.dropped_queue_full == 3
    assert len(rig.facts_named("queue.dropping")) == 1
    assert rig.last_fact("queue.dropping").client_id == "r"
    assert rig.last_fact("queue.recovered").detail == "3 messages were dropped"
    send(rig, 1)
    assert len(rig.facts_named("queue.recovered")) == 1


@pytest.mark.parametrize("clean", [True, False])
def test_drop_oldest(clean: bool) -> None:
    rig, reader = full("drop-oldest", clean=clean)
    send(rig, 6)
    reader.unblock()
    assert payloads(acknowledge(reader)) == [b"4", b"5", b"6"]
    assert rig.broker.stats.dropped_queue_full == 3
    assert rig.broker.stats.queued_messages == 0


@pytest.mark.parametrize("clean", [True, False])
def test_disconnect(clean: bool) -> None:
    rig, reader = full("disconnect", clean=clean)
    publisher = send(rig, 4)
    assert publisher.take() == b"".join(wire.puback(number) for number in range(1, 5))
    reader.unblock()
    assert reader.is_closed
    assert rig.last_fact("client.disconnected").cause == "its queue is full"
    send(rig, 2)
    reader = rig.connect("r", clean=clean, present=not clean)
    assert payloads(acknowledge(reader)) == ([] if clean else [b"1", b"2", b"3"])


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("qos", [1, 2])
def test_refuse(clean: bool, qos: int) -> None:
    rig, reader = full("refuse", clean=clean)
    reader.send(wire.subscribe(2, ("t", 2)))
    witness = rig.connect("w")
    witness.subscribe(("t", 0))
    publisher = send(rig, 3, qos)
    assert len(publisher.take()) == 12
    publisher.send(wire.publish("t", b"4", qos, 4))
    assert publisher.take() == b""
    assert publisher.is_closed
    assert rig.last_fact("client.disconnected").cause == "a quota is used up"
    assert witness.payloads() == [b"1", b"2", b"3"]
    assert rig.broker.stats.refused_queue_full == 1
    assert rig.broker.stats.dropped_queue_full == 0
    reader.unblock()
    got = acknowledge(reader)
    assert payloads(got) == [b"1", b"2", b"3"]
    send(rig, 0).send(wire.publish("t", b"5"))
    assert witness.payloads() == [b"5"]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("is_shared", [True, False])
def test_refuse_counts_the_floor_of_a_client_that_is_there(
    version: int, clean: bool, is_shared: bool
) -> None:
    """It may use 64 KiB whatever the others do, and no more when they have used up the total."""
    settings: dict[str, LimitValue] = {"queue_full_policy": "refuse", "total_queued_bytes": 1_000}
    rig = Rig(settings=settings)
    reader = rig.connect("r", clean=clean)
    reader.subscribe(("$share/g/t" if is_shared else "t", 1))
    reader.block()
    if version == 5:
        publisher = rig.connect5("p")
    else:
        publisher = rig.connect("p")
    large = bytes(40_000)
    publish = wire.publish if version == 4 else wire5.publish
    publisher.send(publish("t", large, 1, 1))
    assert publisher.take() == wire.puback(1)
    publisher.send(publish("t", large, 1, 2))
    assert rig.broker.stats.dropped_queue_full == 0
    assert rig.broker.stats.refused_queue_full == 1
    if version == 5:
        assert publisher.take() == wire5.puback(2, 0x97)
    else:
        assert publisher.is_closed
    publisher = rig.connect("q")
    publisher.send(wire.publish("t", bytes(20_000), 1, 3))
    assert publisher.take() == wire.puback(3)
    reader.unblock()
    assert [len(each.payload) for each in acknowledge(reader)] == [40_000, 20_000]
    invariants.check_at_rest(rig)


def test_refuse_is_for_wills_too_and_keeps_the_identifiers_of_other_messages() -> None:
    rig = Rig(max_queued_messages=0, queue_full_policy="refuse")
    reader = rig.persistent("r")
    reader.subscribe(("t", 1))
    reader.cut()
    publisher = rig.connect("p", will=("t", b"gone", 1, False))
    publisher.send(wire.publish("nobody", b"", 2, 1), wire.publish("t", b"x", 1, 2))
    assert publisher.take() == wire.pubrec(1)
    assert publisher.is_closed
    assert rig.broker.stats.refused_queue_full == 2
    assert rig.broker.stats.wills_published == 1
    assert rig.broker.stats.queued_messages == 0
    invariants.check_at_rest(rig)


def test_refuse_holds_no_identifier_of_what_it_refuses() -> None:
    rig, reader = full("refuse")
    publisher = rig.persistent("p")
    for number in range(1, 5):
        publisher.send(wire.publish("t", b"%d" % number, 2, number))
    assert publisher.is_closed
    reader.unblock()
    acknowledge(reader)
    publisher = rig.connect("p", clean=False, present=True)
    publisher.send(wire.publish("t", b"4", 2, 4, dup=True))
    assert payloads(acknowledge(reader)) == [b"4"]


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest", "disconnect", "refuse"])
@pytest.mark.parametrize("clean", [True, False])
def test_qos_0_goes_first_when_room_is_short(policy: str, clean: bool) -> None:
    rig, reader = full(policy, clean=clean)
    send(rig, 6, 0)
    assert rig.broker.stats.dropped_qos_0 == 3
    send(rig, 3)
    assert rig.broker.stats.dropped_qos_0 == 6
    assert rig.broker.stats.dropped_queue_full == 0
    reader.unblock()
    assert payloads(acknowledge(reader)) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest"])
def test_bytes_of_a_queue_have_a_limit_too(policy: str) -> None:
    size = MESSAGE_OVERHEAD_BYTES + 2
    rig, reader = full(policy, max_queued_messages=100, max_queued_bytes=3 * size)
    send(rig, 5)
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", bytes(10_000), 1, 9))
    assert publisher.take() == wire.puback(9)
    reader.unblock()
    expected = [b"1", b"2", b"3"] if policy == "drop-newest" else [b"3", b"4", b"5"]
    assert payloads(acknowledge(reader)) == expected


def test_the_total_of_all_queues_is_never_made_smaller_by_dropping_ones_own() -> None:
    rig, reader = full("drop-oldest", max_queued_messages=1_000, total_queued_bytes=2_000)
    reader.cut()
    send(rig, 20)
    reader = rig.connect("r", clean=False, present=True)
    got = payloads(acknowledge(reader))
    assert got == [b"%d" % number for number in range(1, len(got) + 1)]
    assert rig.broker.stats.dropped_queue_full == 20 - len(got)


def test_no_queue_at_all() -> None:
    rig, reader = full("drop-newest", max_queued_messages=0)
    send(rig, 2)
    send(rig, 2, 0)
    assert rig.broker.stats.dropped_queue_full == 2
    assert rig.broker.stats.dropped_qos_0 == 2
    reader.unblock()
    assert reader.take() == b""
    send(rig, 1)
    assert payloads(acknowledge(reader)) == [b"1"]


@pytest.mark.parametrize("keeps", [True, False])
def test_qos_0_for_a_client_that_is_away(keeps: bool) -> None:
    rig = Rig(queue_qos0_offline=keeps)
    reader = rig.persistent("r")
    reader.subscribe(("t", 1))
    reader.cut()
    publisher = rig.connect("p")
    for qos, payload in ((0, b"1"), (1, b"2"), (0, b"3")):
        publisher.send(wire.publish("t", payload, qos, qos))
    reader = rig.connect("r", clean=False, present=True)
    got = payloads(acknowledge(reader))
    assert sorted(got) == ([b"1", b"2", b"3"] if keeps else [b"2"])
    assert rig.broker.stats.dropped_qos_0_offline == (0 if keeps else 2)


def test_a_page_of_a_stored_queue_has_a_limit_of_bytes() -> None:
    rig = Rig(output_budget_bytes=1_024)
    reader = rig.persistent("r")
    reader.subscribe(("t", 1))
    reader.cut()
    publisher = rig.connect("p")
    for number in range(1, 11):
        publisher.send(wire.publish("t", b"%d " % number + bytes(600), 1, number))
    reader = rig.connect("r", clean=False, present=True)
    got = [payload.split()[0] for payload in payloads(acknowledge(reader))]
    assert got == [b"%d" % number for number in range(1, 11)]


# What a broker does not take


def test_a_topic_with_too_many_levels_ends_the_connection() -> None:
    rig = Rig(max_topic_levels=3)
    client = rig.connect("a")
    client.send(wire.publish("a/b/c", b"", 1, 1))
    assert client.take() == wire.puback(1)
    client.send(wire.publish("a/b/c/d", b"", 1, 2))
    assert client.is_closed
    fact = rig.last_fact("client.disconnected")
    assert "more than 3 levels" in fact.detail
    assert fact.offset == len(wire.connect("a") + wire.publish("a/b/c", b"", 1, 1))


@pytest.mark.parametrize("topic", ["$SYS", "$SYS/broker/uptime"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_nobody_publishes_to_sys(topic: str, qos: int) -> None:
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe((topic, 0))
    reader.take()
    publisher = rig.connect("p")
    publisher.send(wire.publish(topic, b"x", qos, qos, retain=True))
    assert reader.take() == b""
    assert len(publisher.take()) == (4 if qos else 0)
    assert rig.broker.stats.dropped_unauthorized == 1
    publisher.send(wire.publish("$SYSTEM", b"", 1, 9))
    assert publisher.take() == wire.puback(9)
    assert rig.broker.stats.dropped_unauthorized == 1


@pytest.mark.statement("v3 MQTT-3.3.5-2")
@pytest.mark.parametrize("policy", ["acknowledge", "disconnect"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_is_not_allowed_is_acknowledged_or_the_end(policy: str, qos: int) -> None:
    rig = Rig(policy=TablePolicy({"no": DENY}), unauthorized_publish=policy)
    client = rig.connect("a")
    client.send(wire.publish("no", b"", qos, qos) + wire.PINGREQ)
    assert rig.broker.stats.dropped_unauthorized == 1
    if policy == "acknowledge":
        assert client.frames()[-1].kind == 13
        assert not client.is_closed
    else:
        assert client.is_closed
        assert rig.last_fact("client.disconnected").cause == "not authorized"


# Limits of subscriptions


def test_filters_beyond_the_limits_are_refused_one_by_one() -> None:
    rig = Rig(max_subscriptions_per_session=2, max_topic_levels=3)
    client = rig.connect("a")
    asked = [("a/b/c/d", 0), ("x", 1), ("y", 2), ("z", 0), ("x", 0)]
    client.send(wire.subscribe(1, *asked))
    assert client.take() == wire.suback(1, 0x80, 1, 2, 0x80, 0)


def test_wildcards_can_be_forbidden() -> None:
    rig = Rig(wildcard_subscriptions=False)
    client = rig.connect("a")
    client.send(wire.subscribe(1, ("a/#", 0), ("+", 0), ("a", 1)))
    assert client.take() == wire.suback(1, 0x80, 0x80, 1)


def test_all_subscriptions_together_have_limits() -> None:
    rig = Rig(max_subscriptions=2)
    rig.connect("a").subscribe(("x", 0), ("y", 0))
    other = rig.connect("b")
    other.send(wire.subscribe(1, ("x", 0)))
    assert other.take() == wire.suback(1, 0x80)
    rig = Rig(total_subscription_bytes=2_000)
    client = rig.connect("a")
    client.send(wire.subscribe(1, ("x" * 500, 0), ("y" * 1_900, 0), ("z", 0)))
    assert client.take() == wire.suback(1, 0, 0x80, 0)
    client.send(wire.unsubscribe(2, "x" * 500))
    client.send(wire.subscribe(3, ("z" * 500, 0)))
    assert client.take() == wire.unsuback(2) + wire.suback(3, 0)


def test_filters_beyond_those_of_one_packet_are_refused() -> None:
    rig = Rig(max_filters_per_packet=2)
    client = rig.connect("a")
    client.send(wire.subscribe(2, ("c", 0), ("d", 0), ("e", 0)))
    assert client.take() == wire.suback(2, 0, 0, 0x80)
    client.send(wire.unsubscribe(3, *[f"f{number}" for number in range(32)]))
    assert client.take() == wire.unsuback(3)
    client.send(wire.subscribe(4, *[(f"f{number}", 0) for number in range(33)]))
    assert client.is_closed


def test_held_identifiers_have_a_total() -> None:
    rig = Rig(total_held_identifiers=4, max_held_identifiers=100)
    client = rig.connect("a")
    for number in range(1, 101):
        client.send(wire.publish("t", b"", 2, number))
        if client.is_closed:
            break
    assert client.is_closed
    assert rig.last_fact("client.disconnected").detail.startswith("too many QoS 2")
    assert rig.broker._ws.held_identifiers == 0
