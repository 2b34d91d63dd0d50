"""Topic aliases in deliveries: on every path the client can tell the topic from what it knows."""

from __future__ import annotations

import random

import pytest

from tests.core import wire, wire5
from tests.core.wire5 import u32
from tests.model import invariants
from tests.rig import Client, Rig

KEPT = wire5.prop(0x11, u32(1_000))
ALIAS = 0x23


def aliases(count: int) -> bytes:
    """A topic alias maximum."""
    return wire5.prop(0x22, wire.u16(count))


def properties_of(data: bytes) -> dict[int, list[bytes]]:
    """The properties of a PUBLISH by identifier, of those that these tests use."""
    found: dict[int, list[bytes]] = {}
    at = 0
    while at < len(data):
        identifier = data[at]
        at += 1
        stop = at
        if identifier == ALIAS:
            stop += 2
        elif identifier == 0x02:
            stop += 4
        elif identifier == 0x0B:
            while data[stop] & 128:
                stop += 1
            stop += 1
        else:
            assert identifier == 0x26
            for _ in range(2):
                stop += 2 + int.from_bytes(data[stop : stop + 2], "big")
        found.setdefault(identifier, []).append(data[at:stop])
        at = stop
    return found


class Table:
    """What a client knows of the aliases of one connection."""

    def __init__(self, client: Client, most: int) -> None:
        self.client = client
        self.most = most
        self.topics: dict[int, str] = {}
        self.saved = 0

    def read(self) -> list[wire5.Received5]:
        """The messages that have come, with their topics; other packets are passed over."""
        got = []
        for frame in self.client.frames():
            if frame.kind != 3:
                continue
            received = wire5.read_publish(frame)
            values = properties_of(received.properties).get(ALIAS, [])
            assert len(values) <= 1
            if values:
                alias = int.from_bytes(values[0], "big")
                assert 1 <= alias <= self.most
                if received.topic:
                    self.topics[alias] = received.topic
                else:
                    received = received._replace(topic=self.topics[alias])
                    self.saved += 1
            assert received.topic, "neither a topic nor an alias"
            got.append(received)
        return got


def table(rig: Rig, client_id: str, most: int, *properties: bytes, clean: bool = True) -> Table:
    client = rig.open(client_id)
    client.level = 5
    client.send(wire5.connect(client_id, aliases(most), *properties, clean=clean))
    return Table(client, most)


@pytest.mark.statement("MQTT-3.1.2-27")
@pytest.mark.parametrize("properties", [(), (aliases(0),)])
def test_who_takes_no_aliases_gets_none(properties: tuple[bytes, ...]) -> None:
    rig = Rig()
    client = rig.connect5("r", *properties)
    client.subscribe(("#", 1))
    publisher = rig.connect("p")
    for _ in range(5):
        publisher.send(wire.publish("a/long/topic"))
    assert [each.topic for each in client.publishes5()] == ["a/long/topic"] * 5


@pytest.mark.statement("MQTT-3.1.2-26")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("most", [1, 2, 65_535])
def test_aliases_within_what_the_client_takes(qos: int, clean: bool, most: int) -> None:
    rig = Rig()
    reader = table(rig, "r", most, *(() if clean else (KEPT,)))
    reader.client.send(wire5.subscribe(1, ("#", qos)))
    publisher = rig.connect("p")
    topics = [f"topic/{number % 3}" for number in range(30)]
    for number, topic in enumerate(topics, 1):
        publisher.send(wire.publish(topic, topic.encode(), qos, number if qos else 0))
    got = reader.read()
    assert [each.topic for each in got] == topics
    assert [each.payload.decode() for each in got] == topics
    # With fewer aliases than topics each is forgotten before it is of use.
    assert reader.saved == (0 if most < 3 else 30 - 2 * 3)
    assert rig.limits.max_outbound_aliases < 65_535
    assert max(reader.topics, default=0) <= min(most, rig.limits.max_outbound_aliases)


def test_the_server_can_do_without() -> None:
    rig = Rig(max_outbound_aliases=0)
    reader = table(rig, "r", 10)
    reader.client.send(wire5.subscribe(1, ("#", 0)))
    publisher = rig.connect("p")
    for _ in range(4):
        publisher.send(wire.publish("a/long/topic"))
    assert len(reader.read()) == 4
    assert reader.topics == {}


def test_an_alias_does_not_outlive_its_connection() -> None:
    rig = Rig()
    reader = table(rig, "r", 5, KEPT)
    reader.client.send(wire5.subscribe(1, ("#", 1)))
    publisher = rig.connect("p")
    for number in range(1, 5):
        publisher.send(wire.publish("a/long/topic", b"", 1, number))
    assert len(reader.read()) == 4
    assert reader.saved == 2
    reader.client.cut()
    for number in range(5, 9):
        publisher.send(wire.publish("a/long/topic", b"", 1, number))
    reader = table(rig, "r", 5, KEPT, clean=False)
    assert [each.topic for each in reader.read()] == ["a/long/topic"] * 8
    assert reader.saved == 6
    reader.client.cut()
    client = rig.persistent("r", present=True)
    assert [each.topic for each in client.publishes()] == ["a/long/topic"] * 8


def test_a_message_that_is_not_sent_sets_no_alias() -> None:
    """It is too large, has expired, or was dropped; the next one is whole."""
    rig = Rig(max_queued_messages=1)
    reader = table(rig, "r", 5, wire5.prop(0x27, u32(100)))
    reader.client.send(wire5.subscribe(1, ("#", 0)))
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("a/long/topic"))
    publisher.send(wire5.publish("a/long/topic", bytes(200)))
    reader.client.block()
    publisher.send(wire5.publish("a/long/topic", b"", 0, 0, wire5.prop(0x02, u32(5))))
    publisher.send(wire5.publish("a/long/topic", b"dropped"))
    rig.advance(10)
    reader.client.unblock()
    for _ in range(3):
        publisher.send(wire5.publish("a/long/topic"))
    got = reader.read()
    assert [each.topic for each in got] == ["a/long/topic"] * 4
    assert rig.broker.stats.dropped == rig.broker.stats.dropped_too_large == 1
    assert rig.broker.stats.messages_expired == 1
    assert reader.saved == 2


@pytest.mark.parametrize("seed", range(10))
def test_every_message_has_its_topic(seed: int) -> None:
    """Of any QoS, retained, queued, sent again, behind a full socket, to a full table."""
    chance = random.Random(seed)
    rig = Rig(
        sys_interval_secs=0,
        max_outbound_aliases=chance.choice([1, 3, 32]),
        max_alias_bytes=chance.choice([20, 65_536]),
        output_budget_bytes=1_024,
        max_inflight_messages=10,
    )
    publisher = rig.connect5("p")
    reader: Table | None = None
    count = 0
    for number in range(1, 200):
        action = chance.randrange(20)
        if reader is None or reader.client.is_closed or action == 0:
            if reader is not None:
                reader.client.cut()
            reader = table(rig, "r", chance.choice([0, 1, 4, 9]), KEPT, clean=False)
            options = chance.randrange(3) | 8
            reader.client.send(wire5.subscribe(1, ("t/#", options), properties=b"\x0b\x05"))
            reader.client.send(wire5.subscribe(2, ("+/+/#", chance.randrange(3))))
        elif action == 1:
            reader.client.block()
        elif action == 2:
            reader.client.unblock()
        qos = chance.randrange(3)
        topic = f"t/{'x' * chance.randrange(12)}"
        own = chance.choice([(), (wire5.prop(0x02, u32(100)),), (wire5.user("k", "v"),)])
        packet_id = number if qos else 0
        retain = chance.random() < 0.1
        size = chance.choice([0, 300])
        payload = topic.encode() + b" " + bytes(size)
        publisher.send(wire5.publish(topic, payload, qos, packet_id, *own, retain=retain))
        publisher.send(wire5.pubrel(packet_id) if qos == 2 else b"")
        for received in reader.read():
            count += 1
            assert received.payload.split(b" ")[0].decode() == received.topic
            if received.qos == 1 and chance.random() < 0.8:
                reader.client.send(wire5.puback(received.packet_id))
            elif received.qos == 2 and chance.random() < 0.8:
                packet_id = received.packet_id
                reader.client.send(wire5.pubrec(packet_id), wire5.pubcomp(packet_id))
        if number % 10 == 0:
            invariants.check_at_rest(rig)
    assert count > 50
    rig.no_faults()
