"""The worst case of memory that is printed bounds what the core really takes."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from adapters.security import ScramCredential, UserTable
from iotd.config._memory import COSTS, PARTS
from mqtt_core import (
    MQTT_5,
    Connect,
    Packet,
    Properties,
    PubRel,
    Subscribe,
    Subscription,
    Will,
    encode,
    make_publish,
    properties,
)
from mqtt_core.broker import (
    EOF_BY_PEER,
    FILTER_LEVEL_BYTES,
    RETAINED_LEVEL_BYTES,
    Broker,
    Channel,
    Limits,
    MemoryEngine,
)

COUNT = 200
KIB = 1024


class Rig:
    """A broker with its memory engine and nobody else, on a clock that stands still."""

    def __init__(self, limits: Limits) -> None:
        credential = ScramCredential.make(b"x", iterations=ScramCredential.MIN_ITERATIONS)
        users = UserTable({"user": credential}, allow_anonymous=True)
        self.broker = Broker(limits, users, bytes, 0.0, 0.0)
        self.engine = MemoryEngine(limits)
        self.channels: list[Channel] = []

    def open(self) -> Channel:
        channel = self.broker.open("tcp://127.0.0.1:1883", f"127.0.0.1:{len(self.channels)}", 0.0)
        self.channels.append(channel)
        return channel

    def connect(self, connect: Connect) -> Channel:
        channel = self.open()
        self.send(channel, connect)
        assert channel.client_id
        return channel

    def send(self, channel: Channel, packet: Packet) -> None:
        level = packet.level if isinstance(packet, Connect) else channel.connection.level
        channel.receive_data(encode(packet, level), 0.0)
        self.settle()

    def settle(self) -> None:
        """Carry everything out until nothing is left to do."""
        broker = self.broker
        while True:
            for request in broker.take_requests():
                self.engine.submit(request)  # type: ignore[arg-type]  # the policy never asks
            for completion in self.engine.take_completions():
                broker.completed(completion, 0.0)
            for channel in broker.take_dirty(10_000):
                while channel.data_to_send():
                    pass
            broker.take_facts()
            deadline = broker.next_deadline()
            if not (broker.has_requests or broker.has_dirty) and (deadline is None or deadline > 0):
                return
            broker.advance(0.0)

    def leave(self, *channels: Channel) -> None:
        """The connections end without a word."""
        for channel in channels:
            channel.eof(EOF_BY_PEER, 0.0)
            self.channels.remove(channel)
        self.settle()


def client(name: str, *, clean_start: bool = False) -> Connect:
    return Connect(name, clean_start=clean_start, keep_alive_s=0)


KEPT: Properties = ((properties.SESSION_EXPIRY_INTERVAL, 1_000),)


def new_client(name: str, given: Properties = (), will: Will | None = None) -> Connect:
    """One of MQTT 5.0."""
    return Connect(name, keep_alive_s=0, will=will, level=MQTT_5, properties=given)


def user_properties(count: int) -> Properties:
    """So many, each with a character that makes its text wide."""
    return tuple(
        (properties.USER_PROPERTY, (f"key {number}", "value \U0001f600")) for number in range(count)
    )


def connections(rig: Rig) -> None:
    for number in range(COUNT):
        rig.connect(client(f"client-{number}", clean_start=True))


def new_connections(rig: Rig) -> None:
    announced: Properties = (
        (properties.RECEIVE_MAXIMUM, 100),
        (properties.MAXIMUM_PACKET_SIZE, 250),
        (properties.TOPIC_ALIAS_MAXIMUM, 100),
    )
    for number in range(COUNT):
        rig.connect(new_client(f"client-{number}", KEPT + announced + user_properties(3)))


def aliases(rig: Rig) -> None:
    takes = ((properties.TOPIC_ALIAS_MAXIMUM, 1_000),)
    publisher = rig.connect(client("publisher"))
    for name in range(10):
        channel = rig.connect(new_client(f"client-{name}", takes))
        rig.send(channel, Subscribe(1, (Subscription(f"{name}/#"),)))
        for number in range(40):
            topic = f"{name}/{number}/" + "t" * 50
            for _ in range(2 if number < 20 else 1):  # twenty in use, twenty seen once
                rig.send(publisher, make_publish(topic, b""))
            if number < 20:
                own = ((properties.TOPIC_ALIAS, number + 1),)
                rig.send(channel, make_publish(f"of {topic}", b"", properties=own))


def sessions(rig: Rig) -> None:
    for number in range(COUNT):
        channel = rig.connect(client(f"{number:03d}" + "\U0001f600" * 15))
        channel.eof(EOF_BY_PEER, 0.0)
        rig.settle()
    rig.channels.clear()


def authentications(rig: Rig) -> None:
    nonce = "n" * 1_000
    data = (properties.AUTHENTICATION_DATA, f"n,,n=user,r={nonce}".encode())
    given: Properties = (
        (properties.AUTHENTICATION_METHOD, "SCRAM-SHA-256"),
        data,
        *user_properties(20),
    )
    for number in range(COUNT):
        will = Will("w" * 1_000 + "\U0001f600", b"x" * 1_000, 1, False, user_properties(20))
        connect = new_client(f"client-{number}", given, will)
        channel = rig.open()
        channel.receive_data(encode(connect, MQTT_5), 0.0)
        rig.settle()
        assert channel.attempt is not None
        assert channel.authentication is not None


def wills(rig: Rig) -> None:
    for number in range(COUNT):
        will = Will("w" * 1_000 + "\U0001f600", b"x" * 1_000, 1, False)
        rig.connect(Connect(f"client-{number}", clean_start=False, keep_alive_s=0, will=will))


def waiting_wills(rig: Rig) -> None:
    """Wills of sessions whose clients are away."""
    delay = (properties.WILL_DELAY_INTERVAL, 1_000)
    kind = (properties.CONTENT_TYPE, "kind \U0001f600")
    will = Will("w" * 20, b"x" * 20, 1, False, (delay, kind, *user_properties(10)))
    for number in range(COUNT):
        copy = Will(will.topic + "\U0001f600", will.payload + b"!", 1, False, will.properties)
        rig.leave(rig.connect(new_client(f"client-{number}", KEPT, copy)))


def subscriptions(rig: Rig) -> None:
    channel = rig.connect(new_client("a"))
    identified = ((properties.SUBSCRIPTION_IDENTIFIER, 200_000_000),)
    for number in range(COUNT):
        levels = "/".join(f"{(number * 7 + level) % 10}" for level in range(60))
        wild = Subscription(f"+/{number}/{levels}", 1)
        literal = Subscription(f"{number}/{levels}", 1)
        rig.send(channel, Subscribe(1, (wild, literal), identified))
    assert channel.session is not None
    assert len(channel.session.subscriptions) == 2 * COUNT


def retained(rig: Rig) -> None:
    channel = rig.connect(client("a"))
    for number in range(COUNT):
        topic = f"{number}/" + "/".join("x" * 20)
        rig.send(channel, make_publish(topic, b"x" * 10, qos=1, retain=True, packet_id=1))
    assert rig.engine.retained.count == COUNT


def held_identifiers(rig: Rig) -> None:
    for name in range(20):
        channel = rig.connect(client(f"client-{name}"))
        for number in range(COUNT // 20):
            rig.send(channel, make_publish("a", b"", qos=2, packet_id=number + 1))


def _subscriber(rig: Rig, name: str, qos: int) -> Channel:
    channel = rig.connect(client(name))
    rig.send(channel, Subscribe(1, (Subscription("#", qos),)))
    return channel


FEW = 40


def _in_all_layouts(rig: Rig, publisher: Channel, topic: str, given: Properties = ()) -> None:
    """Messages that wait for one session, and that clients of each QoS and version have got."""
    away = rig.connect(new_client("away", KEPT))
    rig.send(away, Subscribe(1, (Subscription("#", 1),)))
    rig.leave(away)
    for number in range(FEW):
        readers = [rig.connect(new_client(f"new-{qos}")) for qos in (0, 1, 2)]
        readers += [rig.connect(client(f"old-{qos}", clean_start=True)) for qos in (0, 1, 2)]
        for at, reader in enumerate(readers):
            rig.send(reader, Subscribe(1, (Subscription("#", at % 3),)))
        name = f"{number}/{topic}"
        message = make_publish(name, b"x", qos=2, packet_id=number + 1, properties=given)
        rig.send(publisher, message)
        rig.send(publisher, PubRel(number + 1))
        rig.leave(*readers)
    assert rig.broker.stats.queued_messages == FEW


def long_topics_in_all_layouts(rig: Rig) -> None:
    _in_all_layouts(rig, rig.connect(client("publisher")), "t" * 1_000)


def properties_in_all_layouts(rig: Rig) -> None:
    given: Properties = ((properties.RESPONSE_TOPIC, "r" * 300), *user_properties(10))
    _in_all_layouts(rig, rig.connect(new_client("publisher")), "t", given)


def waiting_messages(rig: Rig) -> None:
    for qos in (1, 2):
        _subscriber(rig, f"away-{qos}", qos).eof(EOF_BY_PEER, 0.0)
    online = _subscriber(rig, "online", 0)
    publisher = rig.connect(client("publisher"))
    for number in range(COUNT):
        topic = f"{number}/" + "t" * 500
        rig.send(publisher, make_publish(topic, b"x" * 500, qos=1, packet_id=1))
    assert online.session is not None
    assert rig.broker.stats.queued_messages == 2 * COUNT


def messages_in_flight(rig: Rig) -> None:
    for qos in (1, 2):
        _subscriber(rig, f"silent-{qos}", qos)
    publisher = rig.connect(client("publisher"))
    for number in range(COUNT):
        rig.send(publisher, make_publish(f"{number}", b"x" * 100, qos=2, packet_id=number + 1))
    assert rig.broker.stats.publishes_sent == 2 * COUNT


SCENARIOS = [
    (
        connections,
        ["connections", "sessions"],
        {"max_connections": COUNT, "max_sessions": COUNT, "max_packet_size_bytes": 256},
    ),
    (
        new_connections,
        ["connections", "sessions"],
        {"max_connections": COUNT, "max_sessions": COUNT, "max_packet_size_bytes": 256},
    ),
    (
        aliases,
        ["connections", "sessions", "topic aliases"],
        {
            "max_connections": 11,
            "max_sessions": 11,
            "max_packet_size_bytes": 256,
            "topic_alias_maximum": 20,
            "max_outbound_aliases": 20,
            "max_alias_bytes": 20 * 60,
        },
    ),
    (sessions, ["sessions"], {"max_sessions": COUNT, "max_packet_size_bytes": 256}),
    (
        authentications,
        ["connections", "CONNECTs under way", "authentications under way"],
        {
            "max_connections": COUNT,
            "max_half_connected": COUNT,
            "max_sessions": COUNT,
            "max_packet_size_bytes": 5 * KIB,
            "max_user_properties": 20,
        },
    ),
    (
        wills,
        ["connections", "sessions", "wills"],
        {
            "max_connections": COUNT,
            "max_sessions": COUNT,
            "max_packet_size_bytes": 3 * KIB,
            "total_will_bytes": COUNT * 6_100,
        },
    ),
    (
        waiting_wills,
        ["sessions", "wills"],
        {
            "max_sessions": COUNT,
            "max_packet_size_bytes": 512,
            "max_client_id_bytes": 23,
            "total_will_bytes": COUNT * 6_500,
        },
    ),
    (
        subscriptions,
        ["connections", "sessions", "subscriptions"],
        {
            "max_connections": 1,
            "max_sessions": 1,
            "max_subscriptions": 2 * COUNT,
            "max_packet_size_bytes": 2 * KIB,
            "total_subscription_bytes": COUNT * (1_200 + 62 * FILTER_LEVEL_BYTES),
        },
    ),
    (
        retained,
        ["connections", "sessions", "retained messages"],
        {
            "max_connections": 1,
            "max_sessions": 1,
            "retained_message_limit": COUNT,
            "max_packet_size_bytes": 2 * KIB,
            "retained_bytes_limit": COUNT * (400 + 21 * RETAINED_LEVEL_BYTES),
        },
    ),
    (
        held_identifiers,
        ["connections", "sessions", "held identifiers"],
        {
            "max_connections": 20,
            "max_sessions": 20,
            "total_held_identifiers": COUNT,
            "max_packet_size_bytes": 256,
        },
    ),
    (
        waiting_messages,
        ["connections", "sessions", "messages waiting and in flight", "in-flight windows"],
        {
            "max_connections": 4,
            "max_sessions": 4,
            "max_inflight_messages": 8,
            "total_queued_bytes": 2 * COUNT * 1_300,
            "max_packet_size_bytes": 2 * KIB,
        },
    ),
    (
        long_topics_in_all_layouts,
        ["sessions", "messages waiting and in flight"],
        {
            "max_sessions": 7,
            "max_packet_size_bytes": 2 * KIB,
            "total_queued_bytes": (FEW + 4) * 1_300,
        },
    ),
    (
        properties_in_all_layouts,
        ["sessions", "messages waiting and in flight"],
        {
            "max_sessions": 7,
            "max_packet_size_bytes": 2 * KIB,
            "total_queued_bytes": (FEW + 4) * 1_300,
        },
    ),
    (
        messages_in_flight,
        [
            "connections",
            "sessions",
            "messages waiting and in flight",
            "in-flight windows",
            "held identifiers",
        ],
        {
            "max_connections": 3,
            "max_sessions": 3,
            "max_inflight_messages": COUNT,
            "total_held_identifiers": COUNT,
            "total_queued_bytes": 2 * COUNT * 350,
            "max_packet_size_bytes": 2 * KIB,
        },
    ),
]


@pytest.mark.parametrize(
    ("load", "parts", "overrides"), SCENARIOS, ids=[load.__name__ for load, _, _ in SCENARIOS]
)
def test_a_load_takes_no_more_than_is_printed(
    load: Callable[[Rig], None], parts: list[str], overrides: dict[str, int]
) -> None:
    limits = Limits(sys_interval_secs=0, topic_cache_bytes=0, **overrides)
    load(Rig(limits))  # what is made once for the whole process
    rig = Rig(limits)
    gc.collect()
    tracemalloc.start()
    try:
        load(rig)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    known = {part.name: part.worst_case_bytes(limits, has_rules=False) for part in PARTS}
    bound = sum(known[name] for name in parts)
    print(f"{taken:,} bytes taken, {bound:,} printed")
    assert taken <= bound


def test_every_cost_is_in_a_formula() -> None:
    formulas = " ".join(part.formula for part in PARTS)
    assert [name for name in COSTS if name not in formulas] == []
