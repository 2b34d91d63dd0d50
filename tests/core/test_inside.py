"""Clients inside the program: what binds others binds them, and nothing is routed within a call."""

from __future__ import annotations

import pytest

from mqtt_core import LocalProtocolError, Publish, Subscription, properties
from mqtt_core.broker import (
    ACCEPTED,
    DENY,
    EOF_BY_PEER,
    GRACEFUL,
    IMMEDIATE,
    INSIDE,
    AuthRequest,
    Channel,
    Decision,
    Inside,
    MemoryEngine,
    Outcome,
)
from tests.core import wire
from tests.rig import Client, HoldingEngine, Rig

SHUTTING_DOWN = 0x8B
QUOTA_EXCEEDED = 0x97
NO_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87


class Port:
    """An adapter's side of a client inside: it takes outcomes as they come."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.flushes = 0
        self.inside: Inside = rig.broker.attach(rig.now)
        self.channel: Channel = self.inside.channel

    def publish(
        self, topic: str, payload: bytes = b"x", qos: int = 0, *, retain: bool = False
    ) -> int:
        packet_id = self.inside.publish(topic, payload, qos, retain)
        self.rig.pump()
        return packet_id

    def subscribe(self, *filters: Subscription) -> tuple[int, ...]:
        packet_id = self.inside.subscribe(filters)
        self.rig.pump()
        outcome = self.outcomes()[-1]
        assert outcome.packet_id == packet_id
        return outcome.reasons

    def outcomes(self) -> list[Outcome]:
        """What has been decided by now."""
        self.inside.receive()
        self.rig.pump()
        self.inside.receive()
        self.rig.pump()
        return self.inside.take_outcomes()

    def messages(self) -> list[tuple[str, bytes, int]]:
        """What the program takes now."""
        self.inside.receive()
        self.rig.pump()
        return [(each.topic, each.payload, each.qos) for each in self.inside.take_messages()]


def listener(rig: Rig, topic_filter: str = "#", qos: int = 2) -> Port:
    port = Port(rig)
    assert port.subscribe(Subscription(topic_filter, qos)) == (qos,)
    return port


def subscribed(rig: Rig, topic_filter: str, qos: int) -> Client:
    client = rig.connect("subscriber")
    client.subscribe((topic_filter, qos))
    return client


# Publishing


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_is_published_inside_comes_to_those_outside(qos: int) -> None:
    rig = Rig()
    client = subscribed(rig, "a/+", 2)
    port = Port(rig)
    packet_id = port.publish("a/b", b"hello", qos)
    received = client.publishes()
    assert [(each.topic, each.payload, each.qos) for each in received] == [("a/b", b"hello", qos)]
    assert port.outcomes() == ([Outcome(packet_id, (0,))] if qos else [])
    rig.no_faults()


def test_nothing_is_routed_before_the_next_turn() -> None:
    rig = Rig()
    client = subscribed(rig, "a", 0)
    port = Port(rig)
    port.inside.publish("a", b"1")
    port.inside.publish("a", b"2")
    assert rig.broker.stats.publishes_received == 0
    deadline = rig.broker.next_deadline()
    assert deadline is not None
    assert deadline <= rig.now
    rig.pump()
    assert client.payloads() == [b"1", b"2"]


def test_a_policy_may_publish_in_the_middle_of_a_call() -> None:
    class Telling:
        """Publishes whom it lets in, and is no part of what is going on then."""

        inside: Inside | None = None

        def authenticate(self, request: AuthRequest) -> Decision | None:
            """Let in, and say so."""
            if self.inside is None:
                self.inside = rig.broker.attach(rig.now)
            self.inside.publish("came", request.client_id.encode())
            assert rig.broker.stats.publishes_received == before
            return ACCEPTED

        def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
            """Nobody asks this about the program itself."""
            return DENY if topic == "came" and action == 1 else 1

    before = 0
    rig = Rig(policy=Telling())
    watcher = rig.connect("watcher")
    watcher.subscribe(("came", 0))
    before = rig.broker.stats.publishes_received
    rig.connect("one")
    assert watcher.payloads() == [b"one"]
    rig.no_faults()


def test_a_message_without_receivers_is_said_to_have_none() -> None:
    rig = Rig()
    port = Port(rig)
    packet_id = port.publish("a", b"x", 1)
    assert port.outcomes() == [Outcome(packet_id, (NO_SUBSCRIBERS,))]


def test_a_message_at_qos_1_is_done_when_it_is_stored() -> None:
    engine = HoldingEngine(MemoryEngine(Rig().limits))
    rig = Rig(engine=engine)
    port = Port(rig)
    packet_id = port.publish("a", b"x", 1, retain=True)
    assert port.outcomes() == []
    engine.release()
    rig.pump()
    assert port.outcomes() == [Outcome(packet_id, (NO_SUBSCRIBERS,))]


def test_what_comes_while_the_store_is_behind_waits() -> None:
    engine = HoldingEngine(MemoryEngine(Rig().limits))
    rig = Rig(engine=engine, max_uncommitted_messages=1)
    client = subscribed_with(rig, engine)
    port = Port(rig)
    port.publish("a", b"1", 1, retain=True)
    port.publish("a", b"2")
    assert client.payloads() == [b"1"]
    assert not port.channel.wants_read
    engine.release()
    rig.pump()
    assert client.payloads() == [b"2"]
    assert port.channel.wants_read


def subscribed_with(rig: Rig, engine: HoldingEngine) -> Client:
    client = rig.open("subscriber")
    client.send(wire.connect("subscriber"))
    engine.release()
    rig.pump()
    client.send(wire.subscribe(1, ("a", 0)))
    client.take()
    return client


def test_a_turn_that_is_over_goes_on_in_the_next() -> None:
    rig = Rig(turn_deliveries=1)
    client = subscribed(rig, "a", 0)
    port = Port(rig)
    count = 500
    for number in range(count):
        port.inside.publish("a", b"%d" % number)
    rig.broker.advance(rig.now)
    client.flush()
    assert len(client.payloads()) < count
    rig.pump()
    rig.no_faults()
    assert rig.broker.stats.publishes_received == count


def test_too_many_messages_are_refused_until_there_is_room() -> None:
    rig = Rig(output_budget_bytes=1_024)
    port = Port(rig)
    while port.inside.has_room(0):
        port.inside.publish("a", bytes(100))
    with pytest.raises(LocalProtocolError, match="publish it later"):
        port.inside.publish("a", b"x")
    rig.pump()
    assert port.inside.has_room(0)
    port.publish("a", b"x")


def test_the_receive_maximum_is_kept_to() -> None:
    rig = Rig(receive_maximum=2)
    port = Port(rig)
    port.inside.publish("a", b"1", 1)
    port.inside.publish("a", b"2", 2)
    assert not port.inside.has_room(1)
    assert port.inside.has_room(0)
    with pytest.raises(LocalProtocolError, match="publish it later"):
        port.inside.publish("a", b"3", 1)
    rig.pump()
    assert len(port.outcomes()) == 2
    assert port.inside.has_room(2)


@pytest.mark.parametrize(
    ("topic", "payload", "qos", "message"),
    [
        ("$SYS", b"", 0, "broker's own"),
        ("$SYS/broker/uptime", b"", 1, "broker's own"),
        ("a/b/c", b"", 0, "levels"),
        ("a/+", b"", 0, "wildcard"),
        ("a", bytes(2_000), 0, "over the"),
        ("a", b"", 2, "up to QoS 1"),
    ],
)
def test_what_the_broker_would_not_take_is_refused_at_once(
    topic: str, payload: bytes, qos: int, message: str
) -> None:
    rig = Rig(max_topic_levels=2, max_packet_size_bytes=1_000, maximum_qos=1)
    port = Port(rig)
    with pytest.raises(LocalProtocolError, match=message):
        port.publish(topic, payload, qos)
    assert not port.inside.has_ended


def test_a_payload_that_is_no_text_although_it_says_so() -> None:
    text = ((properties.PAYLOAD_FORMAT_INDICATOR, 1),)
    rig = Rig(validate_payload_format=True)
    with pytest.raises(LocalProtocolError, match="UTF-8"):
        Port(rig).inside.publish("a", b"\xff", properties=text)
    Port(rig).inside.publish("a", b"fine", properties=text)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_nobody_has_room_for(qos: int) -> None:
    rig = Rig(queue_full_policy="refuse", max_queued_messages=1, max_inflight_messages=1)
    away = rig.persistent("away")
    away.subscribe(("a", 2))
    away.cut()
    port = Port(rig)
    for _ in range(3):
        port.publish("a", b"x", qos)
    assert (QUOTA_EXCEEDED,) in [each.reasons for each in port.outcomes()]


# Subscribing


def test_messages_of_all_qos_come_in_order_and_are_acknowledged_when_taken() -> None:
    rig = Rig()
    port = listener(rig)
    publisher = rig.connect("publisher")
    publisher.send(
        wire.publish(b"a", b"0"), wire.publish(b"a", b"1", 1, 1), wire.publish(b"a", b"2", 2, 2)
    )
    session = port.channel.session
    assert session is not None
    assert session.flow is not None
    assert session.flow.in_flight == 2
    assert port.messages() == [("a", b"0", 0), ("a", b"1", 1), ("a", b"2", 2)]
    port.messages()  # PUBREL has come meanwhile
    assert session.flow.in_flight == 0
    rig.no_faults()


def test_retained_messages_come_to_a_new_subscription() -> None:
    rig = Rig()
    rig.connect("publisher").send(wire.publish(b"a", b"kept", retain=True))
    port = Port(rig)
    port.inside.subscribe([Subscription("a", 1)])
    rig.pump()
    port.inside.receive()
    rig.pump()
    port.inside.receive()
    (message,) = port.inside.take_messages()
    assert (message.payload, message.retain) == (b"kept", True)


def test_sys_topics_can_be_read() -> None:
    rig = Rig()
    port = listener(rig, "$SYS/broker/version")
    rig.advance(20)
    assert {topic for topic, _, _ in port.messages()} == {"$SYS/broker/version"}


def test_a_shared_subscription_is_shared_with_the_outside() -> None:
    rig = Rig()
    client = subscribed(rig, "$share/g/a", 0)
    port = listener(rig, "$share/g/a", 0)
    publisher = rig.connect("publisher")
    for _ in range(4):
        publisher.send(wire.publish(b"a", b"x"))
    assert len(client.payloads()) == len(port.messages()) == 2


def test_a_program_that_takes_nothing_lets_messages_wait_and_then_drops_and_counts_them() -> None:
    rig = Rig(output_budget_bytes=1_024, max_queued_messages=10)
    port = listener(rig, "a", 0)
    publisher = rig.connect("publisher")
    for number in range(100):
        publisher.send(wire.publish(b"a", bytes(100) + b"%d" % number))
    rig.advance(1_000)  # it is no dead peer either
    taken: list[tuple[str, bytes, int]] = []
    more = port.messages()
    while more:
        taken += more
        more = port.messages()
    assert len(taken) == 100 - rig.broker.stats.dropped_qos_0
    assert 10 < len(taken) < 30
    assert [fact.client_id for fact in rig.facts_named("queue.dropping")]
    publisher.send(wire.publish(b"a", b"once more"))
    assert port.messages() == [("a", b"once more", 0)]
    rig.no_faults()


def test_a_subscription_that_is_refused_says_why() -> None:
    rig = Rig(max_subscriptions_per_session=1)
    port = Port(rig)
    assert port.subscribe(Subscription("a", 1), Subscription("b", 1)) == (1, QUOTA_EXCEEDED)
    with pytest.raises(LocalProtocolError, match="whole level"):
        port.inside.subscribe([Subscription("a/#/b", 0)])


# Beginning and end


def test_it_is_a_client_without_limits_on_its_silence() -> None:
    rig = Rig(max_connections=1, keep_alive_timeout_secs=10, max_client_id_bytes=23)
    rig.connect("the only one")
    port = listener(rig)
    rig.advance(10_000)
    assert not port.inside.has_ended
    fact = rig.last_fact("client.connected")
    assert (fact.listener, fact.peer) == (INSIDE, INSIDE)


def test_its_end_comes_behind_what_it_has_published() -> None:
    rig = Rig()
    client = subscribed(rig, "a", 0)
    port = Port(rig)
    port.inside.publish("a", b"last")
    port.inside.disconnect()
    port.inside.disconnect()
    rig.pump()
    assert client.payloads() == [b"last"]
    assert port.inside.has_ended
    with pytest.raises(LocalProtocolError):
        port.inside.publish("a", b"too late")
    port.channel.eof(EOF_BY_PEER, rig.now)
    assert rig.broker.stats.connections == 1
    rig.no_faults()


def test_a_graceful_stop_hears_it_out_and_tells_it_why() -> None:
    rig = Rig()
    client = subscribed(rig, "a", 0)
    port = Port(rig)
    late = listener(rig, "a", 1)
    port.inside.publish("a", b"last", 1)
    rig.broker.shut_down(GRACEFUL, rig.now)
    rig.pump()
    assert client.payloads() == [b"last"]
    late.inside.receive()
    assert [each.payload for each in late.inside.take_messages()] == [b"last"]
    assert (late.inside.has_ended, late.inside.end_reason) == (True, SHUTTING_DOWN)
    rig.pump()  # its PUBACK comes to nothing
    for each in (port, late):
        each.channel.eof(EOF_BY_PEER, rig.now)
    rig.pump()
    assert rig.broker.is_stopped
    rig.no_faults()


def test_a_broker_that_serves_nobody_does_not_serve_the_inside_either() -> None:
    rig = Rig()
    rig.broker.shut_down(IMMEDIATE, rig.now)
    inside = rig.broker.attach(rig.now)
    assert inside.has_ended
    assert inside.end_reason == SHUTTING_DOWN
    inside.receive()
    assert inside.take_messages() == []


def test_a_message_is_taken_apart_as_any_other() -> None:
    rig = Rig()
    port = listener(rig)
    port.publish("a", b"x", 1)
    port.inside.receive()
    (message,) = port.inside.take_messages()
    assert isinstance(message, Publish)
    assert Outcome(1, (0,)) == Outcome(1, (0,))
