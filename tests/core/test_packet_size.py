"""The largest packet that a client takes (MQTT 5.0): no other is ever sent to it (3.1.2.11.4)."""

from __future__ import annotations

import random

import pytest

from mqtt_core.broker import Append
from tests.core import wire, wire5
from tests.core.wire5 import u32
from tests.model import invariants
from tests.rig import Client, HoldingEngine, Rig

KEPT = wire5.prop(0x11, u32(1_000))
SMALL = 60


def largest(size: int) -> bytes:
    """A maximum packet size."""
    return wire5.prop(0x27, u32(size))


def filling(size: int, qos: int = 0, *properties: bytes, topic: str = "t") -> bytes:
    """The payload with which a PUBLISH has this size."""
    for count in range(size):
        packet = wire5.publish(topic, bytes(count), qos, 1 if qos else 0, *properties)
        if len(packet) == size:
            return bytes(count)
    raise AssertionError(f"no packet has {size} bytes")


def sizes(client: Client) -> list[int]:
    """The sizes of the packets that have come."""
    return [len(wire.packet(frame.first, frame.body)) for frame in client.frames()]


@pytest.mark.statement("MQTT-3.1.2-24")
@pytest.mark.statement("MQTT-3.1.2-25")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("version", [4, 5])
def test_a_message_is_sent_if_it_fits_to_the_byte(qos: int, clean: bool, version: int) -> None:
    rig = Rig()
    client = rig.connect5("r", largest(SMALL), *(() if clean else (KEPT,)))
    client.subscribe(("t", qos))
    publisher = rig.connect5("p") if version == 5 else rig.connect("p")
    publish = wire5.publish if version == 5 else wire.publish
    packet_id = 1 if qos else 0
    publisher.send(publish("t", filling(SMALL, qos), qos, packet_id))
    publisher.send(publish("t", filling(SMALL + 1, qos), qos, packet_id and 2))
    publisher.send(publish("t", b"x", qos, packet_id and 3))
    assert sizes(client) == [SMALL, 9 if qos else 7]
    assert rig.broker.stats.dropped_too_large == 1
    session = rig.broker._sessions.get("r")
    assert session is not None
    assert session.flow is None or session.flow.in_flight == (2 if qos else 0)
    assert not client.is_closed
    invariants.check_at_rest(rig)


def test_each_receiver_has_its_own_limit() -> None:
    rig = Rig()
    limits = [SMALL, SMALL + 1, SMALL + 2, 10_000]
    clients = [rig.connect5(f"{limit}", largest(limit)) for limit in limits]
    clients.append(rig.connect5("none"))
    clients.append(rig.connect("older"))
    for client in clients:
        client.subscribe(("t", 1))
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", filling(SMALL + 1, 1), 1, 1))
    assert publisher.take() == wire5.puback(1)
    assert [len(client.payloads()) for client in clients] == [0, 1, 1, 1, 1, 1]
    publisher.send(wire5.publish("t", filling(SMALL + 1), 0))
    assert [len(client.payloads()) for client in clients] == [0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("qos", [0, 1])
def test_what_a_delivery_adds_counts(qos: int, more: int) -> None:
    """Subscription identifiers, and what the message brings of its own."""
    rig = Rig()
    identifier = wire5.prop(0x0B, b"\x80\x80\x80\x01")
    own = [wire5.prop(0x02, u32(50)), wire5.user("key", "value")]
    client = rig.connect5("r", largest(100))
    client.subscribe(("t", qos), properties=identifier)
    payload = filling(100 + more, qos, *own, identifier)
    rig.connect5("p").send(wire5.publish("t", payload, qos, qos, *own))
    assert sizes(client) == ([] if more else [100])


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("way", ["away", "window", "socket"])
def test_what_has_waited_in_the_queue(qos: int, way: str) -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT, wire5.prop(0x21, wire.u16(1)))
    client.subscribe(("t", qos))
    if way == "away":
        client.cut()
    elif way == "socket":
        client.block()
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", b"first", 1, 9))
    for number, size in enumerate((SMALL, SMALL + 1, SMALL - 1), 1):
        publisher.send(wire5.publish("t", filling(size, qos), qos, number))
    client.take()
    client.cut()
    client = rig.connect5("r", KEPT, largest(SMALL), clean=False, present=True)
    assert sizes(client)[1:] == [SMALL, SMALL - 1]
    assert rig.broker.stats.dropped_too_large == 1
    assert rig.broker.stats.queued_messages == 0
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("clean", [True, False])
def test_qos_0_that_has_waited(clean: bool) -> None:
    rig = Rig()
    client = rig.connect5("r", largest(SMALL), *(() if clean else (KEPT,)))
    client.subscribe(("t", 0))
    client.block()
    publisher = rig.connect5("p")
    for size in (SMALL, SMALL + 1, SMALL - 1):
        publisher.send(wire5.publish("t", filling(size)))
    client.unblock()
    assert sizes(client) == [SMALL, SMALL - 1]
    assert rig.broker.stats.dropped_too_large == 1
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_retained_messages(qos: int, clean: bool) -> None:
    rig = Rig()
    for number, size in enumerate((SMALL, SMALL + 1, SMALL - 1), 1):
        publisher = rig.connect5("p")
        topic = f"{number}"
        packet_id = number if qos else 0
        publisher.send(wire5.publish(topic, filling(size, qos), qos, packet_id, retain=True))
    client = rig.connect5("r", largest(SMALL), *(() if clean else (KEPT,)))
    client.subscribe(("#", qos))
    assert sorted(sizes(client)) == [SMALL - 1, SMALL]
    assert rig.broker.stats.dropped_too_large == 1
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_wills(qos: int) -> None:
    rig = Rig()
    client = rig.connect5("r", largest(SMALL))
    client.subscribe(("t", qos))
    for size in (SMALL, SMALL + 1, SMALL - 1):
        rig.connect5("w", will=wire5.Will5("t", filling(size, qos), qos)).cut()
    assert sizes(client) == [SMALL, SMALL - 1]


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_in_flight_and_is_too_large_now_is_over(qos: int) -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT)
    client.subscribe(("t", qos))
    publisher = rig.connect5("p")
    for number, size in enumerate((SMALL, SMALL + 1, 1_000, SMALL - 1), 1):
        publisher.send(wire5.publish("t", filling(size, qos), qos, number))
    assert len(sizes(client)) == 4
    client.cut()
    client = rig.connect5("r", KEPT, largest(SMALL), clean=False, present=True)
    # The client may hold the identifiers of QoS 2.
    released = 2 if qos == 2 else 0
    assert sizes(client) == [SMALL, SMALL - 1] + [len(wire5.pubrel(2))] * released
    client.send(*(wire5.pubcomp(number, 0x92) for number in (2, 3)[:released]))
    assert rig.broker.stats.dropped_too_large == 2
    client.cut()
    client = rig.connect5("r", KEPT, clean=False, present=True)
    assert sizes(client) == [SMALL, SMALL - 1]
    invariants.check_at_rest(rig)


def test_a_message_that_the_client_may_hold_is_released_when_it_is_too_large_now() -> None:
    """Else the next message with its identifier would be taken for a repeat."""
    rig = Rig()
    client = rig.connect5("r", KEPT)
    client.subscribe(("t", 2))
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", filling(SMALL + 1, 2), 2, 1))
    client.cut()  # with the PUBREC on its way
    client = rig.connect5("r", KEPT, largest(SMALL), clean=False, present=True)
    assert client.take() == wire5.pubrel(1)
    client.cut()
    client = rig.connect5("r", KEPT, largest(SMALL), clean=False, present=True)
    assert client.take() == wire5.pubrel(1)
    client.send(wire5.pubcomp(1))
    assert rig.broker.stats.dropped_too_large == 1
    invariants.check_at_rest(rig)


def test_what_was_in_flight_with_pubrec_needs_no_room() -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT)
    client.subscribe(("t", 2))
    rig.connect5("p").send(wire5.publish("t", bytes(1_000), 2, 1))
    client.take()
    client.send(wire5.pubrec(1))
    client.cut()
    client = rig.connect5("r", KEPT, largest(SMALL), clean=False, present=True)
    assert client.take() == wire5.pubrel(1)
    client.send(wire5.pubcomp(1))
    invariants.check_at_rest(rig)


def test_what_waited_for_the_store_and_is_too_large_now() -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT)
    client.subscribe(("t", 2))
    publisher = rig.connect5("p")
    engine = rig.engine
    holding = HoldingEngine(engine)
    rig.engine = holding
    for number, size in enumerate((SMALL, SMALL + 1, SMALL - 1), 1):
        publisher.send(wire5.publish("t", filling(size, 2), 2, number))
    client.cut()
    rig.engine = engine
    client = rig.connect5("r", KEPT, largest(SMALL), clean=False, present=True)
    assert client.take() == b""
    rig.engine = holding
    assert len(holding.held) == 3
    assert all(isinstance(getattr(each, "operations", [0])[0], Append) for each, _ in holding.held)
    rig.settle()
    assert sizes(client) == [SMALL, SMALL - 1]
    assert publisher.take() == b"".join(wire5.pubrec(number) for number in (1, 2, 3))
    session = rig.broker._sessions.get("r")
    assert session is not None
    assert session.flow is not None
    assert session.flow.in_flight == 2
    invariants.check_at_rest(rig)


# Aliases, which cost three bytes when they are set


@pytest.mark.parametrize("count", [1, 60])
def test_an_alias_is_set_where_there_is_room_for_it(count: int) -> None:
    """Many subscription identifiers in a packet that fits to the byte leave none."""
    topic = "a/b/c/d/e/f"
    filters = overlapping(topic, count)
    rig = Rig()
    client = rig.connect5("r", largest(1_000), wire5.prop(0x22, wire.u16(10)))
    identifiers = b""
    for number, topic_filter in enumerate(filters):
        identifier = wire5.prop(0x0B, wire.remaining_length(200_000_000 + number))
        identifiers += identifier
        client.subscribe((topic_filter, 0), properties=identifier)
    payload = filling(1_000, 0, identifiers, topic=topic)
    publisher = rig.connect5("p")
    for _ in range(4):
        publisher.send(wire5.publish(topic, payload))
    assert sizes(client) == [1_000] * 4
    for _ in range(3):
        publisher.send(wire5.publish(topic, b"small"))
    got = client.publishes5()
    assert [each.topic for each in got] == [topic, topic, ""]
    assert [each.properties.count(b"\x23\0\1") for each in got] == [0, 1, 1]


def overlapping(topic: str, count: int) -> list[str]:
    """Filters that all match a topic: any of its levels may be a wildcard."""
    levels = topic.split("/")
    assert count <= 1 << len(levels)
    return [
        "/".join("+" if number >> at & 1 else level for at, level in enumerate(levels))
        for number in range(count)
    ]


def test_identifiers_may_make_a_message_larger_than_any_that_is_published() -> None:
    """A client that takes a little more than the server does still has a limit."""
    topic = "a/b/c/d/e/f/g/h"
    rig = Rig(max_packet_size_bytes=2_000)
    client = rig.connect5("r", largest(3_100))
    for number, topic_filter in enumerate(overlapping(topic, 256)):
        identifier = wire5.prop(0x0B, wire.remaining_length(200_000_000 + number))
        client.subscribe((topic_filter, 1), properties=identifier)
    publisher = rig.connect5("p")
    publisher.send(wire5.publish(topic, bytes(1_900), 1, 1))
    assert publisher.take() == wire5.puback(1)
    assert client.take() == b""
    assert rig.broker.stats.dropped_too_large == 1
    publisher.send(wire5.publish(topic, bytes(1_000), 1, 2))
    assert 2_280 < sizes(client)[0] < 3_100


# Other packets


@pytest.mark.parametrize("size", [1, 2, 5, 10, 14, 15, 16])
def test_connack_is_a_packet_too(size: int) -> None:
    rig = Rig()
    client = rig.open()
    client.send(wire5.connect("a", largest(size)))
    fact = rig.facts[-1]
    got = client.take()
    assert len(got) <= size
    if fact.name == "client.connected":
        assert got[0] == 0x20
    else:
        assert fact.detail.startswith("0x95 packet too large")
        assert got in (b"", wire5.connack(0x95))
        assert client.is_closed
        invariants.check_empty(rig)


@pytest.mark.parametrize(("count", "is_answered"), [(10, True), (55, True), (56, False)])
@pytest.mark.parametrize("asks", ["subscribe", "unsubscribe"])
def test_an_answer_that_is_too_large_is_not_given(count: int, is_answered: bool, asks: str) -> None:
    """So nothing is done of what was asked for either."""
    rig = Rig()
    client = rig.connect5("a", largest(SMALL))
    filters = [f"{number}" for number in range(count)]
    if asks == "subscribe":
        client.send(wire5.subscribe(1, *((each, 1) for each in filters)))
    else:
        client.send(wire5.unsubscribe(1, *filters))
    got = client.take()
    assert len(got) <= SMALL
    if is_answered:
        assert got[0] == (0x90 if asks == "subscribe" else 0xB0)
        assert len(got) == count + 5
    else:
        assert (got[0], got[2]) == (0xE0, 0x95)
        fact = rig.last_fact("client.disconnected")
        assert fact.statement == "MQTT-3.1.2-24"
        assert client.is_closed
        assert rig.broker.subscription_count == 0


@pytest.mark.statement("MQTT-3.14.2-3")
@pytest.mark.parametrize("size", [20, 30, 45, 60, 80, 100, 200])
def test_a_last_word_is_as_long_as_fits(size: int) -> None:
    rig = Rig(topic_alias_maximum=0)
    client = rig.connect5("a", largest(size))
    client.send(wire5.publish("#"))
    got = client.take()
    assert len(got) <= size
    assert (got[0], got[2]) == (0xE0, 0x90)
    assert (b"wildcard" in got) is (size >= 60)


@pytest.mark.parametrize("seed", range(20))
def test_never_ever(seed: int) -> None:
    """Whatever is published, retained, queued and in flight, on connections of any limit."""
    chance = random.Random(seed)
    rig = Rig(sys_interval_secs=0)
    publisher = rig.connect5("p", wire5.prop(0x22, wire.u16(5)))
    client: Client | None = None
    limit = 0
    for number in range(1, 100):
        if client is None or client.is_closed or chance.random() < 0.1:
            if client is not None:
                client.cut()
            limit = chance.choice([40, 80, 200, 10_000])
            client = rig.open()
            client.level = 5
            aliases = wire5.prop(0x22, wire.u16(chance.choice([0, 2, 30])))
            client.send(wire5.connect("r", KEPT, aliases, largest(limit), clean=False))
            client.send(wire5.subscribe(1, ("t/#", 2), properties=wire5.prop(0x0B, b"\x07")))
            client.send(wire5.subscribe(2, ("t/+", 1)))
        qos = chance.randrange(3)
        own = [wire5.user("k", "v"), wire5.prop(0x02, u32(9)), b""][chance.randrange(3)]
        payload = bytes(chance.choice([0, 20, 30, 60, 150, 190, 500]))
        topic = f"t/{'long' * chance.randrange(5)}"
        packet_id = number if qos else 0
        retain = chance.random() < 0.2
        publisher.send(wire5.publish(topic, payload, qos, packet_id, own, retain=retain))
        publisher.send(wire5.pubrel(packet_id) if qos == 2 else b"")
        for frame in client.frames():
            assert len(wire.packet(frame.first, frame.body)) <= limit
            if frame.kind == 3:
                received = wire5.read_publish(frame)
                if received.qos == 1:
                    client.send(wire5.puback(received.packet_id))
                elif received.qos == 2 and chance.random() < 0.5:
                    client.send(wire5.pubrec(received.packet_id))
            elif frame.kind == 6:
                client.send(wire5.pubcomp(frame.packet_id))
        invariants.check_at_rest(rig)
    rig.no_faults()
