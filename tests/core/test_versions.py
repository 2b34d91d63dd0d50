"""The same deed by a client of 3.1.1 and by one of 5.0, and what each is told: docs/mqtt5.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from mqtt_core.broker import GRACEFUL, HoldIdentifier, LimitValue, Rule, StaticUsers
from tests.core import wire, wire5
from tests.rig import Client, RefusingEngine, Rig, writes

NAMES: Final = {
    2: "CONNACK", 3: "PUBLISH", 4: "PUBACK", 5: "PUBREC", 6: "PUBREL", 7: "PUBCOMP",
    9: "SUBACK", 11: "UNSUBACK", 13: "PINGRESP", 14: "DISCONNECT",
}  # fmt: skip
REASON_AT: Final = {2: 1, 4: 2, 5: 2, 6: 2, 7: 2, 14: 0}


def told(client: Client) -> str:
    """What a client has been told since the last call: packets, reason codes, the end."""
    words = []
    for frame in client.frames():
        name = NAMES[frame.kind]
        at = REASON_AT.get(frame.kind, -1)
        code = frame.body[-1] if frame.kind == 9 else 0
        if frame.kind == 11 and client.level == 5:
            code = frame.body[-1]
        elif 0 <= at < len(frame.body):
            code = frame.body[at]
        words.append(f"{name} 0x{code:02X}" if code else name)
    if client.saw_eof:
        words.append("closed")
    return ", ".join(words)


class Both:
    """A broker for one client of each version, and packets as either sends them."""

    def __init__(self, level: int, rig: Rig) -> None:
        self.level = level
        self.rig = rig

    def connect(self, client_id: str, *, clean: bool = True) -> Client:
        """A client that has been accepted."""
        if self.level == 5:
            expiry = () if clean else (wire5.prop(0x11, wire5.u32(100)),)
            return self.rig.connect5(client_id, *expiry, clean=clean)
        return self.rig.connect(client_id, clean=clean)

    def attempt(
        self,
        client_id: str,
        *,
        clean: bool = True,
        will: wire5.Will5 | None = None,
        password: bytes | None = None,
    ) -> Client:
        """A client that has sent its CONNECT."""
        client = self.rig.open(client_id)
        client.level = self.level
        if self.level == 5:
            properties = () if clean else (wire5.prop(0x11, wire5.u32(100)),)
            packet = wire5.connect(
                client_id, *properties, clean=clean, will=will, password=password
            )
        else:
            old = None if will is None else (will.topic, will.payload, will.qos, will.retain)
            packet = wire.connect(client_id, clean=clean, will=old, password=password)
        client.send(packet)
        return client

    def publish(
        self, topic: str, payload: bytes = b"x", qos: int = 0, packet_id: int = 0,
        *, retain: bool = False,
    ) -> bytes:  # fmt: skip
        """PUBLISH."""
        if self.level == 5:
            return wire5.publish(topic, payload, qos, packet_id, retain=retain)
        return wire.publish(topic, payload, qos, packet_id, retain=retain)

    def subscribe(self, *filters: str, qos: int = 1, packet_id: int = 1) -> bytes:
        """SUBSCRIBE."""
        pairs = [(each, qos) for each in filters]
        if self.level == 5:
            return wire5.subscribe(packet_id, *pairs)
        return wire.subscribe(packet_id, *pairs)

    def unsubscribe(self, topic_filter: str) -> bytes:
        """UNSUBSCRIBE."""
        if self.level == 5:
            return wire5.unsubscribe(1, topic_filter)
        return wire.unsubscribe(1, topic_filter)


Deed = Callable[[Both], Client]


def doing(*make: Callable[[Both], bytes]) -> Deed:
    """Send packets on a connection of one's own."""

    def do(both: Both) -> Client:
        client = both.connect("c")
        for each in make:
            client.send(each(both))
        return client

    return do


def second_connection(both: Both) -> Client:
    both.connect("a")
    return both.attempt("b")


def second_session(both: Both) -> Client:
    both.connect("a", clean=False)
    return both.attempt("b", clean=False)


def second_half_connected(both: Both) -> Client:
    both.rig.open("a")
    client = both.rig.open("b")
    client.level = both.level
    return client


def taken_over(both: Both) -> Client:
    client = both.connect("c")
    both.connect("c")
    return client


def shut_down(both: Both) -> Client:
    client = both.connect("c")
    both.rig.broker.shut_down(GRACEFUL, both.rig.now)
    both.rig.pump()
    return client


def full_queue(both: Both) -> Client:
    """A message for a session that is away and has no room for it."""
    away = both.rig.persistent("away")
    away.subscribe(("t", 1))
    away.cut()
    client = both.connect("c")
    client.send(both.publish("t", qos=1, packet_id=1))
    return client


def slow_receiver(both: Both) -> Client:
    """A receiver that does not read, and whose queue is full."""
    client = both.connect("c")
    client.subscribe(("t", 1))
    client.lingers = True
    client.room_bytes = 0
    client.channel.set_writable(False, both.rig.now)
    publisher = both.rig.connect("publisher")
    publisher.send(wire.publish("t", b"x", 1, 1))
    client.unblock()
    return client


SERVER: Final[dict[str, LimitValue]] = {"server_reference": "other"}
WILL_2: Final = wire5.Will5("w", b"x", 2, False)
RETAINED_WILL: Final = wire5.Will5("w", b"x", 0, True)
TABLE: Final[list[tuple[str, dict[str, LimitValue], Deed, str, str]]] = [
    # What each sees
    ("password alone", {}, lambda b: b.attempt("c", password=b"x"), "closed", "CONNACK"),
    ("taken over", {}, taken_over, "closed", "DISCONNECT 0x8E, closed"),
    ("shutdown", {}, shut_down, "closed", "DISCONNECT 0x8B, closed"),
    ("moved", SERVER, shut_down, "closed", "DISCONNECT 0x9C, closed"),
    ("nobody", {}, doing(lambda b: b.publish("t", qos=1, packet_id=1)), "PUBACK", "PUBACK 0x10"),
    ("nobody 2", {}, doing(lambda b: b.publish("t", qos=2, packet_id=1)), "PUBREC", "PUBREC 0x10"),
    ("refuse", {"queue_full_policy": "refuse", "max_queued_messages": 0}, full_queue,
     "closed", "PUBACK 0x97"),
    ("qos", {"maximum_qos": 1}, doing(lambda b: b.publish("t", qos=2, packet_id=1)),
     "PUBREC", "DISCONNECT 0x9B, closed"),
    ("will qos", {"maximum_qos": 1}, lambda b: b.attempt("c", will=WILL_2),
     "CONNACK", "CONNACK 0x9B, closed"),
    ("retain", {"retain_available": False}, doing(lambda b: b.publish("t", retain=True)),
     "", "DISCONNECT 0x9A, closed"),
    ("will retain", {"retain_available": False}, lambda b: b.attempt("c", will=RETAINED_WILL),
     "CONNACK", "CONNACK 0x9A, closed"),
    ("no wildcards", {"wildcard_subscriptions": False}, doing(lambda b: b.subscribe("+")),
     "SUBACK 0x80", "DISCONNECT 0xA2, closed"),
    ("no shared", {"shared_subscriptions": False}, doing(lambda b: b.subscribe("$share/g/t")),
     "SUBACK 0x80", "DISCONNECT 0x9E, closed"),
    ("no unsubscribe", {}, doing(lambda b: b.unsubscribe("t")), "UNSUBACK", "UNSUBACK 0x11"),
    ("no pubrel", {}, doing(lambda b: wire.pubrel(7)), "PUBCOMP", "PUBCOMP 0x92"),
    ("no pubrec", {}, doing(lambda b: wire.pubrec(7)), "closed", "PUBREL 0x92"),
    ("malformed", {}, doing(lambda b: b"\x32\x03\0\0\0"), "closed", "DISCONNECT 0x81, closed"),
    # Limits
    ("connections", {"max_connections": 1}, second_connection,
     "CONNACK 0x03, closed", "CONNACK 0x89, closed"),
    ("elsewhere", {"max_connections": 1, **SERVER}, second_connection,
     "CONNACK 0x03, closed", "CONNACK 0x9C, closed"),
    ("half connected", {"max_half_connected": 1}, second_half_connected, "closed", "closed"),
    ("sessions", {"max_sessions": 1}, second_session,
     "CONNACK 0x03, closed", "CONNACK 0x97, closed"),
    ("wills", {"total_will_bytes": 0}, lambda b: b.attempt("c", will=WILL_2),
     "CONNACK 0x03, closed", "CONNACK 0x97, closed"),
    ("client id", {"max_client_id_bytes": 23}, lambda b: b.attempt("c" * 24),
     "CONNACK 0x02, closed", "CONNACK 0x85, closed"),
    ("no client id", {"allow_empty_client_id": False}, lambda b: b.attempt(""),
     "CONNACK 0x02, closed", "CONNACK 0x85, closed"),
    ("packet size", {"max_packet_size_bytes": 100}, doing(lambda b: b.publish("t", bytes(100))),
     "closed", "DISCONNECT 0x95, closed"),
    ("subscriptions", {"max_subscriptions": 1}, doing(lambda b: b.subscribe("a", "b")),
     "SUBACK 0x80", "SUBACK 0x97"),
    ("own subscriptions", {"max_subscriptions_per_session": 1},
     doing(lambda b: b.subscribe("a", "b")), "SUBACK 0x80", "SUBACK 0x97"),
    ("filters", {"max_filters_per_packet": 1}, doing(lambda b: b.subscribe("a", "b")),
     "SUBACK 0x80", "SUBACK 0x97"),
    ("filter levels", {"max_topic_levels": 2}, doing(lambda b: b.subscribe("a/b/c")),
     "SUBACK 0x80", "SUBACK 0x8F"),
    ("topic levels", {"max_topic_levels": 2}, doing(lambda b: b.publish("a/b/c")),
     "closed", "DISCONNECT 0x90, closed"),
    ("retained", {"retained_message_limit": 0},
     doing(lambda b: b.publish("t", qos=1, packet_id=1, retain=True)),
     "closed", "PUBACK 0x97"),
    ("retained at qos 0", {"retained_message_limit": 0},
     doing(lambda b: b.publish("t", retain=True)), "", ""),
    ("slow", {"queue_full_policy": "disconnect", "max_queued_messages": 0}, slow_receiver,
     "closed", "DISCONNECT 0x97, closed"),
    ("held", {"max_held_identifiers": 1},
     doing(lambda b: b.publish("t", qos=2, packet_id=1),
           lambda b: b.publish("t", qos=2, packet_id=2)),
     "PUBREC, closed", "PUBREC 0x10, DISCONNECT 0x93, closed"),
]  # fmt: skip


UNAUTHORIZED: Final[list[tuple[str, dict[str, LimitValue], Deed, str, str]]] = [
    ("qos 1", {}, doing(lambda b: b.publish("t", qos=1, packet_id=1)), "PUBACK", "PUBACK 0x87"),
    ("qos 2", {}, doing(lambda b: b.publish("t", qos=2, packet_id=1)), "PUBREC", "PUBREC 0x87"),
    ("qos 0", {}, doing(lambda b: b.publish("t")), "", ""),
    ("closing 1", {"unauthorized_publish": "disconnect"},
     doing(lambda b: b.publish("t", qos=1, packet_id=1)), "closed", "PUBACK 0x87"),
    ("closing 0", {"unauthorized_publish": "disconnect"},
     doing(lambda b: b.publish("t")), "closed", "DISCONNECT 0x87, closed"),
    ("filter", {}, doing(lambda b: b.subscribe("t")), "SUBACK 0x80", "SUBACK 0x87"),
    ("will", {}, lambda b: b.attempt("c", will=wire5.Will5("t")),
     "CONNACK 0x05, closed", "CONNACK 0x87, closed"),
]  # fmt: skip


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize(
    ("limits", "deed", "old", "new"),
    [row[1:] for row in UNAUTHORIZED],
    ids=[row[0] for row in UNAUTHORIZED],
)
def test_each_version_is_told_what_it_may_not_do(
    limits: dict[str, LimitValue], deed: Deed, old: str, new: str, level: int
) -> None:
    policy = StaticUsers({}, [Rule("open")], allow_anonymous=True)
    client = deed(Both(level, Rig(policy=policy, settings=limits)))
    assert told(client) == (new if level == 5 else old)


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize(
    ("limits", "deed", "old", "new"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_each_version_is_told_what_it_has_a_word_for(
    limits: dict[str, LimitValue], deed: Deed, old: str, new: str, level: int
) -> None:
    client = deed(Both(level, Rig(settings=limits)))
    assert told(client) == (new if level == 5 else old)


def test_a_session_outlives_the_version_it_was_begun_in() -> None:
    rig = Rig()
    old = rig.persistent("c")
    old.subscribe(("t", 1))
    old.cut()
    publisher = rig.connect5("publisher")
    publisher.send(wire5.publish("t", b"1", 1, 1, wire5.user("k", "v")))
    new = rig.connect5("c", wire5.prop(0x11, wire5.u32(100)), clean=False, present=True)
    assert new.publishes5() == [
        wire5.Received5("t", b"1", 1, 1, False, False, wire5.user("k", "v"))
    ]
    new.cut()
    old = rig.persistent("c", present=True)
    assert old.publishes() == [wire.Received("t", b"1", 1, 1, False, True)]  # unacknowledged


def test_an_answer_is_in_the_words_of_the_version_that_asks_again() -> None:
    rig = Rig()
    engine = rig.engine
    new = rig.connect5("c", wire5.prop(0x11, wire5.u32(100)))
    rig.engine = RefusingEngine(engine, writes(HoldIdentifier))
    new.send(wire5.publish("nobody", b"x", 2, 1))
    assert new.is_closed
    rig.engine = engine
    old = rig.persistent("c", present=True)
    old.send(wire.publish("nobody", b"x", 2, 1, dup=True))
    assert old.take() == wire.pubrec(1)
