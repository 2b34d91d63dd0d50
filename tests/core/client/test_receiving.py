"""What a program subscribes to, what it gets, and when that is acknowledged."""

from __future__ import annotations

import pytest

from mqtt_core import MQTT_3_1_1, MQTT_5, Subscription
from mqtt_core.client import (
    ClientClosed,
    Consumer,
    Message,
    QueueFull,
    SessionLost,
    SubscribeRefused,
    Unclaimed,
)
from tests.core import wire, wire5
from tests.core.wire import string, u16
from tests.core.wire5 import prop, reason_string, u32
from tests.line import Hand, Line, settings
from tests.rig import Rig


def ident(value: int) -> bytes:
    """A subscription identifier of up to 127."""
    return prop(0x0B, bytes([value]))


def online(
    *properties: bytes, level: int = MQTT_5, manual_acks: bool = False, **limits: int
) -> Hand:
    """A client that the server has taken."""
    hand = Hand(settings(level=level, manual_acks=manual_acks, limits=limits))
    hand.accept(*properties)
    return hand


def subscribed(hand: Hand, *filters: str, qos: int = 2) -> Consumer:
    """A consumer that the server has answered."""
    consumer = hand.subscribe(*((each, qos) for each in filters))
    for frame in wire.split(hand.sent())[0]:
        packet_id = int.from_bytes(frame.body[:2], "big")
        suback = wire5.suback if hand.client.level == MQTT_5 else wire.suback
        hand.give(suback(packet_id, qos))
    assert consumer.is_ready
    return consumer


# Subscribing


def test_each_filter_is_subscribed_to_with_an_identifier_of_its_own() -> None:
    hand = online()
    consumer = hand.subscribe(("a/#", 1), Subscription("b", 2, True, True, 1))
    consumer.waiter = "me"
    assert hand.sent() == wire5.subscribe(1, ("a/#", 1), properties=ident(1)) + wire5.subscribe(
        2, ("b", 0x1E), properties=ident(2)
    )
    assert not consumer.is_ready
    hand.give(wire5.suback(1, 1))
    assert hand.client.take_told() == []
    hand.give(wire5.suback(2, 0))
    assert hand.client.take_told() == ["me"]
    assert consumer.is_ready
    assert consumer.granted_qos == (1, 0)
    assert consumer.topic_filters == ("a/#", "b")
    assert consumer.result() is consumer


def test_3_1_1_has_neither_identifiers_nor_options() -> None:
    hand = online(level=MQTT_3_1_1)
    hand.subscribe(Subscription("b", 2, True, True, 1))
    assert hand.sent() == wire.subscribe(1, ("b", 2))


def test_a_server_without_identifiers_gets_none() -> None:
    hand = online(prop(0x29, b"\0"))
    hand.subscribe(("a", 0))
    assert hand.sent() == wire5.subscribe(1, ("a", 0))


def test_a_refused_filter_ends_its_consumer_and_gives_up_the_others() -> None:
    hand = online()
    consumer = hand.subscribe(("a", 0), ("b", 0))
    consumer.waiter = "me"
    hand.sent()
    hand.give(wire5.suback(1, 0), wire5.suback(2, 0x87, properties=reason_string("no")))
    assert hand.client.take_told() == ["me"]
    with pytest.raises(SubscribeRefused, match="'b': not authorized: no") as raised:
        consumer.result()
    assert (raised.value.topic_filter, raised.value.reason) == ("b", 0x87)
    assert raised.value.reason_string == "no"
    assert hand.sent() == wire5.unsubscribe(3, "a")
    assert consumer.is_gone


def test_a_refusal_of_3_1_1() -> None:
    hand = online(level=MQTT_3_1_1)
    consumer = hand.subscribe(("a", 0))
    hand.give(wire.suback(1, 0x80))
    assert isinstance(consumer.error, SubscribeRefused)


@pytest.mark.parametrize(
    ("announced", "topic_filter", "reason"),
    [
        (prop(0x28, b"\0"), "a/#", 0xA2),
        (prop(0x2A, b"\0"), "$share/g/a", 0x9E),
        (prop(0x27, u32(20)), "much/longer/than/it/takes", 0x95),
    ],
)
def test_a_filter_that_the_server_has_not_is_refused_here(
    announced: bytes, topic_filter: str, reason: int
) -> None:
    hand = online(announced)
    consumer = hand.subscribe((topic_filter, 0))
    assert isinstance(consumer.error, SubscribeRefused)
    assert consumer.error.reason == reason
    assert hand.sent() == b""


@pytest.mark.parametrize(
    "asked",
    [
        [],
        [Subscription("")],
        [Subscription("a/#/b")],
        [Subscription("$share//a")],
        [Subscription("a", 3)],
        [Subscription("a", 0, retain_handling=3)],
        [Subscription("$share/g/a", 0, True)],
    ],
)
def test_a_subscription_that_cannot_be_is_refused(asked: list[Subscription]) -> None:
    hand = online()
    with pytest.raises(ValueError, match=r"subscribe|allowed|no_local"):
        hand.client.subscribe(asked, hand.now)
    assert hand.sent() == b""


def test_the_number_of_subscriptions_is_limited() -> None:
    hand = online(max_subscriptions=1)
    hand.subscribe(("a", 0))
    with pytest.raises(QueueFull, match="max_subscriptions"):
        hand.subscribe(("b", 0))


def test_subscriptions_wait_for_the_connection_and_the_socket() -> None:
    hand = Hand()
    hand.subscribe(("a", 0))
    assert hand.accept() == wire5.subscribe(1, ("a", 0), properties=ident(1))
    hand.client.set_writable(False, hand.now)
    hand.subscribe(("b", 0))
    assert hand.sent() == b""
    hand.client.set_writable(True, hand.now)
    assert hand.sent() == wire5.subscribe(2, ("b", 0), properties=ident(2))


# Whose a message is


def test_by_identifier_a_message_goes_to_the_subscriptions_it_answers() -> None:
    hand = online()
    wide, narrow = subscribed(hand, "#"), subscribed(hand, "a", "b")
    hand.give(
        wire5.publish("a", b"1", 0, 0, ident(1)),
        wire5.publish("a", b"2", 0, 0, ident(2)),
        wire5.publish("a", b"3", 0, 0, ident(1), ident(2), ident(3)),
        wire5.publish("b", b"4", 0, 0, ident(1), prop(0x03, string("text"))),
    )
    assert wide.unread == 3
    assert hand.payloads(wide) == [b"1", b"3", b"4"]
    assert hand.payloads(narrow) == [b"2", b"3"]


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_without_identifiers_it_goes_to_all_that_match(level: int) -> None:
    hand = online(level=level)
    wide, exact, shared = (
        subscribed(hand, "a/#"),
        subscribed(hand, "a/b", "a/+"),
        subscribed(hand, "$share/g/+/c"),
    )
    publish = wire.publish if level == MQTT_3_1_1 else wire5.publish
    for topic in ("a/b", "a/c", "a/b", "z/c", "z"):
        hand.give(publish(topic, topic.encode()))
    assert hand.payloads(wide) == [b"a/b", b"a/c", b"a/b"]
    assert hand.payloads(exact) == [b"a/b", b"a/c", b"a/b"]
    assert hand.payloads(shared) == [b"a/c", b"z/c"]
    assert hand.client.counters.dropped_unclaimed == 1
    more = subscribed(hand, "a/b/#")
    hand.give(publish("a/b", b"!"))
    assert hand.payloads(more) == [b"!"]


def test_topics_that_the_cache_has_no_room_for_are_matched_each_time() -> None:
    hand = online(topic_cache_bytes=4_096)
    consumer = subscribed(hand, "#")
    for n in range(50):
        hand.give(wire5.publish(f"t/{n}", b"x"), wire5.publish("x" * 5_000, b"y"))
    assert consumer.unread == 100


def test_two_consumers_of_one_filter_are_one_subscription_of_the_server() -> None:
    hand = online()
    first = subscribed(hand, "a", qos=2)
    second = hand.subscribe(("a", 1))
    assert hand.sent() == wire5.subscribe(2, ("a", 2), properties=ident(1))
    hand.give(wire5.suback(2, 2), wire5.publish("a", b"x", 1, 5, ident(1)))
    assert second.is_ready
    assert hand.payloads(first) == [b"x"]
    assert hand.sent() == b""  # the other has not taken it
    assert hand.payloads(second) == [b"x"]
    assert hand.sent() == wire.puback(5)
    hand.client.unsubscribe(first, hand.now)
    assert hand.sent() == b""
    assert first.is_gone
    hand.client.unsubscribe(second, hand.now)
    assert hand.sent() == wire5.unsubscribe(3, "a")


def test_a_filter_that_has_become_too_long_to_be_unsubscribed_from_is_left() -> None:
    hand = online()
    consumer = subscribed(hand, "much/longer/than/it/takes")
    hand.cut()
    hand.client.unsubscribe(consumer, hand.now)
    hand.come_back()
    assert hand.accept(prop(0x27, u32(20)), present=True) == b""
    assert consumer.is_gone
    hand.give(wire5.publish("much", b"", 1, 1, ident(1)))
    assert hand.sent() == wire5.puback(1)
    assert hand.client.counters.dropped_unclaimed == 1


def test_two_consumers_that_ask_at_once_are_both_answered() -> None:
    hand = Hand()
    first = hand.subscribe(("a", 0))
    second = hand.subscribe(("a", 1), ("a", 1))
    assert hand.accept() == wire5.subscribe(1, ("a", 1), properties=ident(1))
    third = hand.subscribe(("a", 0))
    hand.give(wire5.suback(1, 1))  # of a SUBSCRIBE that is asked again meanwhile
    assert not third.is_ready
    hand.give(wire5.suback(2, 1))
    assert first.is_ready
    assert second.is_ready
    assert third.is_ready


def test_each_consumer_waits_for_all_of_its_own_filters() -> None:
    hand = Hand()
    both, one = hand.subscribe(("a", 0), ("b", 0)), hand.subscribe(("a", 0))
    hand.accept()
    hand.give(wire5.suback(1, 0))
    assert not both.is_ready
    assert one.is_ready


def test_one_filter_has_one_set_of_options() -> None:
    hand = online()
    hand.subscribe(Subscription("a", 0, no_local=True))
    with pytest.raises(ValueError, match="a server knows a filter once"):
        hand.subscribe(("a", 0))


# Taking and acknowledging


@pytest.mark.statement("MQTT-4.3.2-4")
@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_taking_a_message_acknowledges_it(level: int) -> None:
    hand = online(level=level)
    consumer = subscribed(hand, "t")
    consumer.waiter = "me"
    hand.give(wire.publish("t", b"1", 1, 7) if level == 4 else wire5.publish("t", b"1", 1, 7))
    assert hand.client.take_told() == ["me"]
    assert hand.sent() == b""
    message = hand.take(consumer)
    assert message is not None
    assert (message.topic, message.payload, message.qos) == ("t", b"1", 1)
    assert hand.sent() == wire.puback(7)
    assert message.is_acknowledged
    assert hand.take(consumer) is None


@pytest.mark.statement("MQTT-4.3.3-8", "MQTT-4.3.3-10", "MQTT-4.3.3-11")
def test_qos_2_is_received_once() -> None:
    hand = online()
    consumer = subscribed(hand, "t")
    hand.give(wire5.publish("t", b"1", 2, 7), wire5.publish("t", b"1", 2, 7, dup=True))
    assert hand.payloads(consumer) == [b"1"]
    assert hand.sent() == wire.pubrec(7)
    hand.give(wire5.publish("t", b"1", 2, 7, dup=True))
    assert hand.sent() == wire.pubrec(7)
    assert hand.payloads(consumer) == []
    hand.give(wire.pubrel(7))
    assert hand.sent() == wire.pubcomp(7)
    hand.give(wire.pubrel(7))
    assert hand.sent() == wire5.pubcomp(7, 0x92)
    hand.give(wire5.publish("t", b"2", 2, 7))
    assert hand.payloads(consumer) == [b"2"]
    assert hand.client.counters.repeats == 2


def test_a_pubrel_of_nothing_in_3_1_1() -> None:
    hand = online(level=MQTT_3_1_1)
    hand.give(wire.pubrel(7))
    assert hand.sent() == wire.pubcomp(7)


@pytest.mark.statement("MQTT-4.6.0-2", "MQTT-4.6.0-3")
def test_acknowledgements_leave_in_the_order_of_the_messages() -> None:
    hand = online(manual_acks=True)
    done: list[Message] = []
    hand.client.set_acknowledger(done.append)
    consumer = subscribed(hand, "t")
    hand.give(*(wire5.publish("t", b"%d" % n, 1 + n % 2, n + 1) for n in range(4)))
    taken = [hand.take(consumer) for _ in range(4)]
    for at in (2, 1):
        message = taken[at]
        assert message is not None
        assert not message.is_acknowledged
        message.ack()
    for message in done:
        hand.client.acknowledge(message, hand.now)
    assert hand.sent() == b""
    first, third = taken[0], taken[2]
    assert first is not None
    assert third is not None
    hand.client.acknowledge(first, hand.now)
    assert hand.sent() == wire.puback(1) + wire.pubrec(2) + wire.puback(3)
    third.ack()  # twice does nothing
    hand.client.acknowledge(third, hand.now)
    assert len(done) == 2
    assert hand.sent() == b""


def test_without_somebody_to_carry_it_an_ack_does_nothing() -> None:
    hand = online(manual_acks=True)
    consumer = subscribed(hand, "t")
    hand.give(wire5.publish("t", b"", 1, 1))
    message = hand.take(consumer)
    assert message is not None
    message.ack()
    assert hand.sent() == b""


# Back-pressure


def test_a_server_that_sends_more_than_receive_maximum_is_left() -> None:
    hand = online(receive_maximum=1)
    subscribed(hand, "t")
    hand.give(wire5.publish("t", b"1", 1, 1), wire5.publish("t", b"2", 1, 2))
    assert hand.close() == wire5.disconnect(0x93)


def test_in_3_1_1_reading_pauses_instead() -> None:
    hand = Hand(settings(level=MQTT_3_1_1, receive_maximum=1, keep_alive_s=10))
    hand.accept()
    consumer = subscribed(hand, "t")
    hand.give(wire.publish("t", b"1", 1, 1), wire.publish("t", b"2", 1, 2))
    assert not hand.client.wants_read
    for _ in range(10):
        hand.advance(10)  # the server is kept alive, and not given up for what is not read
    assert hand.sent().startswith(b"\xc0\x00\xc0\x00")
    assert hand.client.is_online
    hand.publish(qos=1)
    assert hand.client.wants_read  # the answer may stand behind more messages
    hand.give(wire.puback(2))
    assert hand.client.is_online
    assert not hand.client.wants_read
    hand.client.unsubscribe(consumer, hand.now)
    assert hand.client.wants_read
    assert hand.client.counters.dropped_unread == 2
    assert hand.client.unacknowledged == 0


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_messages_that_the_server_does_not_repeat_do_not_keep_it_from_reading(level: int) -> None:
    hand = Hand(settings(level=level, session_expiry_s=60, receive_maximum=2))
    hand.accept()
    consumer = subscribed(hand, "t")
    publish = wire.publish if level == MQTT_3_1_1 else wire5.publish
    hand.give(publish("t", b"1", 1, 1), publish("t", b"2", 1, 2))
    assert not hand.client.wants_read
    hand.cut()
    assert hand.payloads(consumer) == [b"1", b"2"]
    hand.come_back()
    hand.accept(present=True)  # where the two have expired
    assert hand.client.wants_read


def test_in_3_1_1_repeats_count_as_well() -> None:
    hand = Hand(settings(level=MQTT_3_1_1, receive_maximum=3))
    hand.accept()
    consumer = subscribed(hand, "t")
    hand.give(wire.publish("t", b"1", 2, 1))
    assert hand.payloads(consumer) == [b"1"]
    hand.give(wire.publish("t", b"2", 1, 2))
    for _ in range(2):
        assert hand.client.wants_read
        hand.give(wire.publish("t", b"1", 2, 1, dup=True))  # their PUBRECs wait for the PUBACK
    assert not hand.client.wants_read


def test_qos_0_that_nobody_takes_drops_the_oldest() -> None:
    hand = online(max_unread_messages=2)
    consumer = subscribed(hand, "t")
    hand.give(wire5.publish("t", b"kept", 1, 1))
    hand.give(*(wire5.publish("t", b"%d" % n) for n in range(5)))
    assert consumer.dropped == 3
    assert hand.client.counters.dropped_unread == 3
    assert hand.payloads(consumer) == [b"kept", b"3", b"4"]


def test_qos_0_is_limited_in_bytes_too() -> None:
    hand = online(max_unread_bytes=1_024)
    consumer = subscribed(hand, "t")
    hand.give(*(wire5.publish("t", b"%d" % n + bytes(299)) for n in range(3)))
    assert consumer.dropped == 1
    hand.give(wire5.publish("t", bytes(5_000)))
    assert consumer.unread == 1  # the last one stays, however large


# Leaving


def test_unsubscribing_acknowledges_what_was_not_taken() -> None:
    hand = online()
    consumer = subscribed(hand, "t")
    hand.give(wire5.publish("t", b"1", 1, 1))
    hand.client.unsubscribe(consumer, hand.now)
    consumer.waiter = "me"
    assert hand.sent() == wire5.unsubscribe(2, "t") + wire.puback(1)
    hand.give(wire5.publish("t", b"2", 1, 2, ident(1)))  # sent before the server knew
    assert hand.sent() == wire.puback(2)
    assert not consumer.is_gone
    hand.give(wire5.unsuback(2, 0))
    assert consumer.is_gone
    assert hand.client.take_told() == ["me"]
    hand.client.unsubscribe(consumer, hand.now)
    assert hand.sent() == b""
    assert hand.client.counters.dropped_unclaimed == 1


def test_a_subscription_is_over_when_its_last_filter_is() -> None:
    hand = online()
    consumer = subscribed(hand, "a", "b")
    hand.client.unsubscribe(consumer, hand.now)
    consumer.waiter = "me"
    hand.give(wire5.unsuback(3, 0))
    assert hand.client.take_told() == []
    hand.give(wire5.unsuback(4, 0))
    assert hand.client.take_told() == ["me"]


def test_unsubscribing_before_the_server_has_been_asked() -> None:
    hand = Hand()
    consumer = hand.subscribe(("t", 0))
    hand.client.unsubscribe(consumer, hand.now)
    assert consumer.is_gone
    assert hand.accept() == b""


def test_unsubscribing_before_the_socket_has_taken_the_question() -> None:
    hand = online()
    hand.client.set_writable(False, hand.now)
    hand.client.unsubscribe(hand.subscribe(("t", 0)), hand.now)
    hand.client.set_writable(True, hand.now)
    assert hand.sent() == b""


def test_a_connection_that_breaks_takes_its_questions_with_it() -> None:
    hand = online()
    asked = hand.subscribe(("t", 0))
    hand.client.unsubscribe(asked, hand.now)
    hand.client.set_writable(False, hand.now)
    kept = hand.subscribe(("u", 0))
    hand.cut()
    hand.come_back()
    assert hand.accept() == wire5.subscribe(3, ("u", 0), properties=ident(2))
    assert asked.is_gone
    assert not kept.is_ready


def test_who_waits_to_be_unsubscribed_hears_of_a_broken_connection() -> None:
    hand = online()
    consumer = subscribed(hand, "a")
    hand.client.unsubscribe(consumer, hand.now)
    hand.sent()
    consumer.waiter = "waits"
    hand.cut()
    assert hand.client.take_told() == ["waits"]
    assert not consumer.is_gone


def test_unsubscribing_while_the_server_is_asked() -> None:
    hand = online()
    consumer = hand.subscribe(("t", 0))
    hand.client.unsubscribe(consumer, hand.now)
    again = hand.subscribe(("t", 0))
    assert hand.sent() == (
        wire5.subscribe(1, ("t", 0), properties=ident(1))
        + wire5.unsubscribe(2, "t")
        + wire5.subscribe(3, ("t", 0), properties=ident(2))
    )
    hand.give(wire5.suback(1, 0), wire5.unsuback(2, 0), wire5.suback(3, 0))
    assert consumer.is_gone
    assert again.is_ready


def test_a_new_subscription_takes_the_place_of_one_that_was_to_go() -> None:
    hand = online()
    old = subscribed(hand, "t")
    hand.client.set_writable(False, hand.now)
    hand.client.unsubscribe(old, hand.now)
    old.waiter = "me"
    hand.subscribe(("t", 0))
    hand.client.set_writable(True, hand.now)
    assert hand.sent() == wire5.subscribe(2, ("t", 0), properties=ident(2))
    assert old.is_gone
    assert hand.client.take_told() == ["me"]


def test_closing_ends_the_consumers() -> None:
    hand = online()
    consumer = subscribed(hand, "t")
    asked = hand.subscribe(("u", 0))
    consumer.waiter, asked.waiter = "a", "b"
    hand.give(wire5.publish("t", b"1", 1, 1))
    hand.client.take_told()
    hand.client.disconnect(hand.now)
    hand.close()
    assert isinstance(consumer.error, ClientClosed)
    assert isinstance(asked.error, ClientClosed)
    assert hand.payloads(consumer) == [b"1"]  # what is here can still be taken
    hand.client.unsubscribe(consumer, hand.now)


# From one connection to the next


def test_a_resumed_session_goes_on() -> None:
    hand = online()
    consumer = subscribed(hand, "t")
    hand.give(
        wire5.publish("t", b"1", 1, 1),
        wire5.publish("t", b"2", 2, 2),
        wire5.publish("t", b"3", 2, 3),
    )
    assert hand.take(consumer) is not None
    hand.cut()
    hand.come_back()
    assert hand.accept(present=True) == b""
    hand.give(
        wire5.publish("t", b"1", 1, 1, dup=True),  # its PUBACK was lost
        wire5.publish("t", b"2", 2, 2, dup=True),
        wire5.publish("t", b"3", 2, 3, dup=True),
    )
    assert hand.payloads(consumer) == [b"2", b"3", b"1"]
    assert hand.sent() == wire.puback(1) + wire.pubrec(2) + wire.pubrec(3)


def test_a_message_that_waits_here_is_not_repeated_to_the_program() -> None:
    hand = online()
    consumer = subscribed(hand, "t")
    hand.give(wire5.publish("t", b"1", 1, 1), wire5.publish("t", b"2", 1, 2))
    hand.cut()
    assert hand.payloads(consumer) == [b"1", b"2"]  # taken while there is no connection
    hand.come_back()
    hand.accept(present=True)
    hand.give(wire5.publish("t", b"1", 1, 1, dup=True), wire5.publish("t", b"new", 1, 2))
    assert hand.sent() == wire.puback(1)
    assert hand.payloads(consumer) == [b"new"]  # the same identifier, another message
    assert hand.sent() == wire.puback(2)


def test_what_was_asked_is_asked_again() -> None:
    hand = online()
    gone = subscribed(hand, "gone")
    hand.subscribe(("t", 1))
    hand.client.unsubscribe(gone, hand.now)
    hand.sent()
    hand.cut()
    hand.come_back()
    sent = hand.accept(present=True)
    assert sent == wire5.subscribe(4, ("t", 1), properties=ident(2)) + wire5.unsubscribe(5, "gone")
    hand.give(wire5.suback(4, 1))
    hand.cut()
    hand.come_back()
    assert not gone.is_gone
    gone.waiter = "me"
    sent = hand.accept()
    assert sent == wire5.subscribe(6, ("t", 1), properties=ident(2))
    assert gone.is_gone  # with its session
    assert hand.client.take_told() == ["me"]


def test_a_lost_session_is_subscribed_to_again() -> None:
    hand = online()
    consumer = subscribed(hand, "a", "b")
    hand.give(wire5.publish("a", b"old", 2, 1))
    hand.cut()
    hand.come_back()
    sent = hand.accept()
    assert [frame.first for frame in wire.split(sent)[0]] == [0x82, 0x82]
    assert hand.events()[-1] == SessionLost(0, 0)
    hand.give(wire5.publish("a", b"new", 2, 1))
    assert hand.payloads(consumer) == [b"old", b"new"]
    assert hand.sent() == wire.pubrec(1)


def test_a_filter_that_is_refused_later_ends_its_consumer() -> None:
    hand = online()
    consumer = subscribed(hand, "t")
    hand.cut()
    hand.come_back()
    hand.accept()
    consumer.waiter = "me"
    hand.give(wire5.suback(2, 0x87))
    assert hand.client.take_told() == ["me"]
    assert isinstance(consumer.error, SubscribeRefused)


# A session of an earlier run


def resumed(**limits: int | float) -> Hand:
    """A client that takes up the session of an earlier run."""
    hand = Hand(settings(session_expiry_s=60, limits=limits), lambda n: bytes(n))
    hand.accept(present=True)
    return hand


def test_what_an_earlier_run_subscribed_to_waits_for_this_one() -> None:
    hand = resumed()
    hand.give(
        wire5.publish("a", b"1", 1, 1, ident(99)),
        wire5.publish("b", b"2", 2, 2, ident(98)),
        wire5.publish("a", b"3", 0),
    )
    consumer = hand.subscribe(("a", 1))
    assert hand.payloads(consumer) == [b"1", b"3"]
    assert wire.puback(1) in hand.sent()
    hand.advance(10)
    assert hand.sent() == wire.pubrec(2)
    assert hand.events()[-1] == Unclaimed(1, "b")
    assert hand.client.counters.dropped_unclaimed == 1


def test_time_for_a_subscription_comes_to_each() -> None:
    hand = resumed(unclaimed_timeout_s=5.0)
    hand.give(wire5.publish("a", b"1"))
    hand.advance(3)
    hand.give(wire5.publish("a", b"2"))
    hand.advance(3)
    assert hand.payloads(hand.subscribe(("a", 0))) == [b"2"]
    assert hand.client.next_deadline() is None


def test_what_waits_for_a_subscription_is_bounded() -> None:
    hand = resumed(max_unclaimed_messages=1)
    hand.give(wire5.publish("a", b"1", 1, 1), wire5.publish("a", b"2", 1, 2))
    assert hand.sent() == wire.puback(1)
    assert hand.payloads(hand.subscribe(("a", 0))) == [b"2"]
    hand = resumed(max_unclaimed_messages=0)
    hand.give(wire5.publish("a", b"1", 1, 1))
    assert hand.sent() == wire.puback(1)


def test_identifiers_of_a_lasting_session_are_others_in_each_run() -> None:
    hand = Hand(settings(session_expiry_s=60), lambda n: b"\0\0\x10\0")
    hand.accept()
    consumer = subscribed(hand, "a")
    hand.give(wire5.publish("a", b"x", 0, 0, prop(0x0B, b"\x81\x20")))
    assert hand.payloads(consumer) == [b"x"]


# Against a broker


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_two_clients_talk_through_a_broker(level: int) -> None:
    rig = Rig()
    writer, reader = (
        Line(rig, settings(client_id="w", level=level)),
        Line(rig, settings(client_id="r", level=level, session_expiry_s=60)),
    )
    writer.start()
    reader.start()
    consumer = reader.subscribe(("t/#", 2))
    reader.move()
    for n in range(50):
        writer.publish(f"t/{n % 3}", b"%d" % n, n % 3)
        writer.move()
        if n % 10 == 9:
            reader.move()
            reader.cut()
            reader.advance(30)
            writer.move()
    reader.move()
    taken = [int(each) for each in reader.payloads(consumer)]
    assert sorted(set(taken)) == list(range(50))
    for qos in (0, 1, 2):
        of_qos = [each for each in taken if each % 3 == qos]
        assert of_qos == sorted(of_qos)
        assert qos == 1 or len(of_qos) == len(set(of_qos))


def test_what_a_message_says_of_itself() -> None:
    hand = online()
    consumer = subscribed(hand, "t")
    hand.give(
        wire5.publish(
            "t",
            b'{"a": 1}',
            1,
            3,
            prop(0x02, u32(60)),
            prop(0x03, string("application/json")),
            prop(0x08, string("answers")),
            prop(0x09, u16(2) + b"id"),
            ident(1),
            wire5.user("k", "v"),
            wire5.user("k", "w"),
            retain=True,
            dup=True,
        ),
        wire5.publish("t", b"\xff"),
    )
    message, plain = hand.take(consumer), hand.take(consumer)
    assert message is not None
    assert plain is not None
    assert message.text == '{"a": 1}'
    assert message.json() == {"a": 1}
    assert (message.retain, message.is_repeat, message.expiry_s) == (True, True, 60)
    assert message.content_type == "application/json"
    assert message.response_topic == "answers"
    assert message.correlation_data == b"id"
    assert message.user_properties == (("k", "v"), ("k", "w"))
    assert message.subscription_identifiers == (1,)
    assert len(message.properties) == 7
    assert message.size_bytes > 200
    assert repr(message).startswith("Message(Message('t'")
    assert plain.expiry_s is None
    assert plain.is_acknowledged
    with pytest.raises(ValueError, match="decode"):
        plain.json()
    with pytest.raises(UnicodeDecodeError):
        _ = plain.text
