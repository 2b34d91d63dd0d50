"""What a program publishes: when it leaves, what it waits for, and how it ends."""

from __future__ import annotations

import pytest

from mqtt_core import MQTT_3_1_1, MQTT_5
from mqtt_core.client import (
    WRITTEN,
    ClientClosed,
    ConnectionLost,
    DeliveryUnknown,
    MessageExpired,
    Publication,
    PublishRefused,
    QueueFull,
    SessionLost,
)
from mqtt_core.properties import (
    CONTENT_TYPE,
    MESSAGE_EXPIRY_INTERVAL,
    RESPONSE_TOPIC,
    TOPIC_ALIAS,
)
from tests.core import wire, wire5
from tests.core.wire import string, u16
from tests.core.wire5 import prop, reason_string, u32
from tests.line import Hand, Line, settings
from tests.rig import Rig

LONG_TOPIC = "a/topic/that/is/long/enough/for/an/alias"


def online(*properties: bytes, level: int = MQTT_5, **limits: int) -> Hand:
    """A client that the server has taken."""
    hand = Hand(settings(level=level, limits=limits))
    hand.accept(*properties)
    return hand


def ids(data: bytes) -> list[int]:
    """The packet identifiers of PUBLISH packets."""
    return [each.packet_id for each in wire5.publishes(data)]


# The three qualities of service


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_qos_0_is_done_when_it_is_written(level: int) -> None:
    hand = online(level=level)
    assert hand.publish("t", b"x") is WRITTEN
    publish = wire.publish if level == MQTT_3_1_1 else wire5.publish
    assert hand.sent() == publish("t", b"x")
    assert hand.client.counters.published == 1
    assert WRITTEN.is_done
    assert WRITTEN.result() is WRITTEN


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_qos_1_is_done_when_it_is_acknowledged(level: int) -> None:
    hand = online(level=level)
    publication = hand.publish("t", b"x", 1, True, waiter="me")
    publish = wire.publish if level == MQTT_3_1_1 else wire5.publish
    assert hand.sent() == publish("t", b"x", 1, 1, retain=True)
    assert not publication.is_done
    assert repr(publication).endswith("in flight)")
    assert hand.client.take_told() == []
    hand.give(wire.puback(1))
    assert publication.is_done
    assert publication.result().reason == 0
    assert hand.client.take_told() == ["me"]
    assert repr(publication).endswith("done)")
    assert hand.client.in_flight == 0


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_qos_2_is_done_when_its_exchange_is_complete(level: int) -> None:
    hand = online(level=level)
    publication = hand.publish("t", b"x", 2)
    hand.sent()
    hand.give(wire.pubrec(1))
    assert hand.sent() == wire.pubrel(1)
    hand.give(wire.pubrec(1))
    assert hand.sent() == wire.pubrel(1)  # a repeat is answered as the first
    assert not publication.is_done
    hand.give(wire.pubcomp(1))
    assert publication.is_done


def test_what_it_does_is_counted() -> None:
    hand = online()
    hand.publish()
    assert hand.client.counters.as_dict()["published"] == 1


def test_the_servers_reason_is_told() -> None:
    hand = online()
    first = hand.publish("t", b"x", 1)
    second = hand.publish("t", b"x", 2)
    hand.give(wire5.puback(1, 0x10, reason_string("nobody")), wire5.pubrec(2, 0x10))
    hand.give(wire5.pubcomp(2))
    assert (first.reason, first.reason_string) == (0x10, "nobody")
    assert (second.reason, second.reason_string) == (0x10, "")


@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_message_says_so(qos: int) -> None:
    hand = online()
    publication = hand.publish("t", b"x", qos)
    refusal = wire5.puback if qos == 1 else wire5.pubrec
    hand.give(refusal(1, 0x87, reason_string("not here")))
    with pytest.raises(PublishRefused, match="'t': not authorized: not here") as raised:
        publication.result()
    assert (raised.value.reason, raised.value.reason_string) == (0x87, "not here")
    assert hand.client.counters.refused == 1
    assert hand.client.in_flight == 0
    assert repr(publication).endswith("failed)")


def test_acknowledgements_of_nothing_are_ignored_or_answered_in_5() -> None:
    hand = online()
    hand.give(wire5.puback(7), wire5.pubcomp(7), wire5.pubrec(7))
    assert hand.sent() == wire5.pubrel(7, 0x92)


def test_acknowledgements_of_nothing_are_an_error_in_3_1_1() -> None:
    hand = online(level=MQTT_3_1_1)
    hand.give(wire.puback(7))
    assert hand.client.wants_close


# Order and the window


def test_beyond_the_window_messages_wait_in_order() -> None:
    hand = online(max_inflight_messages=2)
    waiting = [hand.publish("t", bytes([n]), 1) for n in range(4)]
    assert ids(hand.sent()) == [1, 2]
    assert (hand.client.in_flight, hand.client.pending_messages) == (2, 2)
    assert repr(waiting[3]).endswith("pending)")
    hand.give(wire.puback(2))
    assert ids(hand.sent()) == [3]
    hand.give(wire.puback(1), wire.puback(3))
    assert ids(hand.sent()) == [4]


@pytest.mark.statement("MQTT-3.3.4-7", "MQTT-4.9.0-2")
def test_the_servers_receive_maximum_is_kept_to() -> None:
    hand = online(prop(0x21, u16(1)))
    hand.publish(qos=2)
    hand.publish(qos=2)
    assert ids(hand.sent()) == [1]
    hand.give(wire.pubrec(1))
    assert hand.sent() == wire.pubrel(1)  # PUBREC makes no room
    hand.give(wire.pubcomp(1))
    assert ids(hand.sent()) == [2]
    hand.give(wire5.pubrec(2, 0x97))  # but a refusal does
    hand.publish(qos=1)
    assert ids(hand.sent()) == [3]


def test_nothing_overtakes_a_message_that_waits() -> None:
    hand = online(max_inflight_messages=1)
    hand.publish("t", b"1", 1)
    hand.publish("t", b"2", 1)
    last = hand.publish("t", b"3", 0, waiter="me")
    assert [each.payload for each in wire5.publishes(hand.sent())] == [b"1"]
    hand.give(wire.puback(1))
    assert [each.payload for each in wire5.publishes(hand.sent())] == [b"2", b"3"]
    assert last.is_done
    assert hand.client.take_told() == ["me"]


# The socket


def test_what_the_socket_does_not_take_waits() -> None:
    hand = online()
    hand.client.set_writable(False, hand.now)
    publication = hand.publish("t", b"x")
    assert not publication.is_done
    assert hand.sent() == b""
    hand.client.set_writable(True, hand.now)
    assert hand.sent() == wire5.publish("t", b"x")
    assert publication.is_done


def test_what_is_handed_over_at_once_is_bounded() -> None:
    hand = online(max_unsent_bytes=1_024)
    published = [hand.publish("t", bytes(500)) for _ in range(6)]
    assert [each.is_done for each in published] == [True] * 3 + [False] * 3
    assert hand.client.is_full
    assert hand.client.has_output
    first = hand.client.data_to_send(hand.now)
    assert len(wire5.publishes(first)) == 3
    assert all(each.is_done for each in published)
    assert len(wire5.publishes(hand.sent())) == 3


def test_more_topics_than_the_cache_has_room_for() -> None:
    hand = online(topic_cache_bytes=8_192)
    for _ in range(2):
        for n in range(20):
            hand.publish(f"t/{n}")
            hand.publish(f"t/{n}")
    assert len(wire5.publishes(hand.sent())) == 80


def test_a_large_payload_is_not_copied() -> None:
    hand = online()
    payload = bytes(10_000)
    hand.publish("t", payload, 1)
    pieces = list(iter(lambda: hand.client.data_to_send(hand.now), b""))
    assert pieces[1] is payload
    assert b"".join(pieces) == wire5.publish("t", payload, 1, 1)


# Before there is a connection


def test_messages_wait_for_the_connection() -> None:
    hand = Hand()
    done = hand.publish("t", b"0")
    hand.publish("t", b"1", 1)
    hand.publish("t", b"2", 2)
    assert hand.client.pending_messages == 3
    sent = hand.accept()
    assert sent == (
        wire5.publish("t", b"0") + wire5.publish("t", b"1", 1, 1) + wire5.publish("t", b"2", 2, 2)
    )
    assert done.is_done


def test_qos_0_may_be_kept_from_waiting() -> None:
    hand = Hand(settings(queues_qos0=False))
    with pytest.raises(ConnectionLost, match="QoS 0 messages do not wait"):
        hand.publish("t", b"0")
    hand.publish("t", b"1", 1)
    hand.accept()
    hand.publish("t", b"0")


def test_the_queue_has_limits_for_those_who_do_not_wait() -> None:
    hand = Hand(settings(max_pending_messages=1))
    hand.publish()
    with pytest.raises(QueueFull, match="max_pending_messages"):
        hand.publish()
    assert not hand.publish(waits=True).is_done
    hand = Hand(settings(max_pending_bytes=1_024))
    hand.publish("t", bytes(500))
    with pytest.raises(QueueFull, match="max_pending_bytes"):
        hand.publish("t", bytes(500))


def test_a_message_can_be_taken_back_until_it_is_sent() -> None:
    hand = Hand()
    first = hand.publish("t", b"1", 1)
    second = hand.publish("t", b"2", 1)
    assert hand.client.cancel(first)
    assert not hand.client.cancel(first)
    assert hand.client.pending_messages == 1
    assert wire5.publishes(hand.accept())[0].payload == b"2"
    assert not hand.client.cancel(second)
    assert hand.client.pending_messages == 0


def test_messages_that_are_taken_back_take_no_memory() -> None:
    hand = Hand()
    hand.publish("t", b"first", 1)
    for _ in range(1_000):
        assert hand.client.cancel(hand.publish("t", b"x", 1))
    assert hand.client.pending_messages == 1
    assert len(wire5.publishes(hand.accept())) == 1
    hand.client.disconnect(hand.now)


def test_closing_ends_what_waits() -> None:
    hand = online(max_inflight_messages=1)
    inflight = hand.publish(qos=1, waiter="a")
    pending = hand.publish(qos=1, waiter="b")
    taken_back = hand.publish(qos=1)
    hand.client.cancel(taken_back)
    hand.client.disconnect(hand.now)
    hand.close()
    assert hand.client.take_told() == ["a", "b"]
    for each in (inflight, pending):
        with pytest.raises(ClientClosed):
            each.result()
    assert taken_back.error is None


# What cannot be published


@pytest.mark.parametrize("topic", ["", "a/#", "a/+", "a\0b", "x" * 65_536, "\ud800"])
def test_a_topic_that_is_none_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match=r"cannot publish|encode"):
        online().publish(topic)


@pytest.mark.parametrize("qos", [-1, 3])
def test_a_quality_of_service_that_is_none_is_refused(qos: int) -> None:
    with pytest.raises(ValueError, match="allowed: 0, 1 and 2"):
        online().publish(qos=qos)


def test_properties_that_mqtt_forbids_are_refused() -> None:
    hand = online()
    with pytest.raises(ValueError, match="delivery's"):
        hand.publish(properties=((TOPIC_ALIAS, 1),))
    with pytest.raises(ValueError, match="wildcard"):
        hand.publish(properties=((RESPONSE_TOPIC, "a/#"),))
    assert hand.sent() == b""


@pytest.mark.statement("MQTT-3.2.2-11", "MQTT-3.2.2-14")
@pytest.mark.parametrize(
    ("announced", "what", "reason"),
    [
        (prop(0x24, b"\x01"), {"qos": 2}, 0x9B),
        (prop(0x25, b"\x00"), {"retain": True}, 0x9A),
        (prop(0x27, u32(100)), {"payload": bytes(100)}, 0x95),
    ],
)
def test_what_the_server_does_not_take_is_refused_here(
    announced: bytes, what: dict[str, object], reason: int
) -> None:
    hand = online(announced)
    publication = hand.publish(**what)  # type: ignore[arg-type]  # as the table has it
    assert isinstance(publication.error, PublishRefused)
    assert publication.error.reason == reason
    assert hand.sent() == b""
    assert hand.publish("t", b"x") is WRITTEN


@pytest.mark.statement("MQTT-3.2.2-15")
@pytest.mark.parametrize("qos", [0, 1])
def test_what_just_fits_is_sent(qos: int) -> None:
    hand = online(prop(0x27, u32(60)), prop(0x22, u16(9)))
    topic = "a/topic/long/enough/for/an/alias"
    properties = ((MESSAGE_EXPIRY_INTERVAL, 60),)
    expiry = prop(0x02, u32(60))
    room = 60 - len(wire5.publish(topic, b"", qos, 1, expiry))
    hand.publish(topic, bytes(room), qos, properties=properties)
    assert hand.sent() == wire5.publish(topic, bytes(room), qos, 1, expiry)  # an alias is too much
    refused = hand.publish(topic, bytes(room + 1), qos, properties=properties)
    with pytest.raises(PublishRefused, match="up to 60 bytes, and this message takes 61"):
        refused.result()
    for payload in (b"", b"", bytes(room)):
        hand.publish(topic, payload, qos)
    alias = prop(0x23, u16(1))
    assert hand.sent() == (
        wire5.publish(topic, b"", qos, 2)
        + wire5.publish(topic, b"", qos, 3, alias)
        + wire5.publish("", bytes(room), qos, 4, alias)
    )


def test_3_1_1_has_no_properties() -> None:
    hand = online(level=MQTT_3_1_1)
    publication = hand.publish(qos=1, properties=((CONTENT_TYPE, "text"),))
    with pytest.raises(PublishRefused, match="which has no message properties"):
        publication.result()


# Properties, expiry, aliases


def test_properties_travel_with_the_message() -> None:
    hand = online()
    given = ((CONTENT_TYPE, "text"), (RESPONSE_TOPIC, "answers"))
    hand.publish("t", b"x", 0, False, given)
    assert hand.sent() == wire5.publish(
        "t", b"x", 0, 0, prop(0x03, string("text")), prop(0x08, string("answers"))
    )


def test_a_message_that_waits_is_good_for_less() -> None:
    hand = Hand()
    hand.publish("t", b"x", 1, False, ((MESSAGE_EXPIRY_INTERVAL, 10),))
    expired = hand.publish("t", b"y", 1, False, ((MESSAGE_EXPIRY_INTERVAL, 4),), waiter="me")
    hand.advance(4)
    sent = hand.accept()
    assert sent == wire5.publish("t", b"x", 1, 1, prop(0x02, u32(6)))
    with pytest.raises(MessageExpired, match="'t' expired"):
        expired.result()
    assert hand.client.counters.expired == 1
    assert hand.client.take_told() == ["me"]


def test_a_long_topic_gets_an_alias() -> None:
    hand = online(prop(0x22, u16(10)))
    for _ in range(3):
        hand.publish(LONG_TOPIC, b"x", 1)
    hand.publish(LONG_TOPIC, b"x")
    hand.publish("short", b"x")
    alias = prop(0x23, u16(1))
    assert hand.sent() == (
        wire5.publish(LONG_TOPIC, b"x", 1, 1)
        + wire5.publish(LONG_TOPIC, b"x", 1, 2, alias)
        + wire5.publish("", b"x", 1, 3, alias)
        + wire5.publish("", b"x", 0, 0, alias)
        + wire5.publish("short", b"x")
    )
    hand.cut()
    hand.come_back()
    again = hand.accept(prop(0x22, u16(10)), present=True)
    assert again[: len(wire5.publish(LONG_TOPIC, b"x", 1, 1))] == wire5.publish(
        LONG_TOPIC, b"x", 1, 1, dup=True
    )


# From one connection to the next


@pytest.mark.statement("v3 MQTT-4.4.0-1", "MQTT-4.4.0-1", "MQTT-4.6.0-1")
@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_a_resumed_session_goes_on_where_it_was(level: int) -> None:
    hand = Hand(settings(level=level, session_expiry_s=60))
    hand.accept()
    first = hand.publish("t", b"1", 1)
    second = hand.publish("t", b"2", 2)
    third = hand.publish("t", b"3", 2)
    hand.give(wire.pubrec(3))
    hand.sent()
    hand.cut()
    hand.publish("t", b"4", 1)
    hand.come_back()
    sent = hand.accept(present=True)
    publish = wire.publish if level == MQTT_3_1_1 else wire5.publish
    assert sent == (
        wire.pubrel(3)
        + publish("t", b"1", 1, 1, dup=True)
        + publish("t", b"2", 2, 2, dup=True)
        + publish("t", b"4", 1, 4)
    )
    assert hand.client.counters.published_again == 2
    hand.give(wire.puback(1), wire.pubrec(2), wire.pubcomp(2), wire.pubcomp(3))
    assert first.is_done
    assert second.is_done
    assert third.is_done


def test_repeats_keep_to_the_window_too() -> None:
    hand = online()
    for n in range(3):
        hand.publish("t", bytes([n]), 1)
    hand.cut()
    hand.come_back()
    assert ids(hand.accept(prop(0x21, u16(1)), present=True)) == [1]
    hand.publish("t", b"\x03", 1)
    hand.give(wire.puback(2))  # before it was repeated: the server had it after all
    assert ids(hand.sent()) == []
    hand.give(wire.puback(1))
    assert ids(hand.sent()) == [3]
    hand.give(wire.puback(3))
    assert ids(hand.sent()) == [4]


def test_repeats_wait_for_the_socket() -> None:
    hand = online(max_unsent_bytes=1_024)
    for n in range(3):
        hand.publish("t", bytes([n]) * 600, 1)
        hand.sent()
    hand.cut()
    hand.come_back()
    hand.open()
    hand.give(wire5.connack(present=True))
    assert len(wire5.publishes(hand.client.data_to_send(hand.now))) == 2
    assert ids(hand.sent()) == [3]


def test_repeats_of_what_this_server_does_not_take_are_refused() -> None:
    hand = online()
    publication = hand.publish("t", b"x", 2, waiter="me")
    hand.cut()
    hand.come_back()
    hand.accept(prop(0x24, b"\x01"), present=True)
    assert isinstance(publication.error, PublishRefused)
    assert hand.client.take_told() == ["me"]


def test_a_connection_that_breaks_while_repeating_is_repeated_as_a_whole() -> None:
    hand = online()
    for n in range(3):
        hand.publish("t", bytes([n]), 1)
    for _ in range(2):
        hand.cut()
        hand.come_back()
        assert ids(hand.accept(prop(0x21, u16(1)), present=True)) == [1]


@pytest.mark.statement("MQTT-3.2.2-5")
def test_a_lost_session_publishes_qos_1_again_and_is_honest_about_qos_2() -> None:
    hand = online()
    first = hand.publish("t", b"1", 1)
    unknown = hand.publish("t", b"2", 2, waiter="me")
    taken = hand.publish("t", b"3", 2)
    last = hand.publish("t", b"4", 1)
    hand.give(wire.pubrec(3))
    hand.sent()
    hand.cut()
    later = hand.publish("t", b"5", 1)
    hand.come_back()
    sent = hand.accept()
    assert [(each.payload, each.dup) for each in wire5.publishes(sent)] == [
        (b"1", False),
        (b"4", False),
        (b"5", False),
    ]
    with pytest.raises(DeliveryUnknown, match="whether it was delivered is not known"):
        unknown.result()
    assert hand.client.take_told() == ["me"]
    assert taken.result() is taken
    assert [each.is_done for each in (first, last, later)] == [False] * 3
    assert hand.events()[-1] == SessionLost(2, 1)
    assert hand.client.counters.unknown == 1
    assert hand.client.counters.lost_sessions == 1


def test_a_clean_session_of_3_1_1_is_lost_with_its_connection() -> None:
    hand = online(level=MQTT_3_1_1)
    hand.publish("t", b"1", 1)
    unknown = hand.publish("t", b"2", 2)
    hand.cut()
    for _ in range(2):  # however many attempts it takes
        hand.come_back()
        hand.open()
        hand.cut()
    hand.come_back()
    assert [each.payload for each in wire.publishes(hand.accept())] == [b"1"]
    assert isinstance(unknown.error, DeliveryUnknown)
    assert hand.events()[-1] == SessionLost(1, 1)


def test_everything_arrives_through_a_broker_and_cuts() -> None:
    rig = Rig()
    reader = rig.connect("reader")
    reader.subscribe(("t", 2))
    line = Line(rig)
    line.start()
    published: list[Publication] = []
    for n in range(30):
        published.append(line.publish("t", b"%d" % n, n % 2 + 1))
        if n % 7 == 3:
            line.move()
        if n % 10 == 5:
            line.cut()
            line.advance(1)
    line.advance(10)
    assert all(each.result().is_done for each in published)
    seen: list[bytes] = []
    for frame in reader.frames():
        received = wire.read_publish(frame)
        seen.append(received.payload)
    assert [int(each) for each in dict.fromkeys(seen)] == list(range(30))
