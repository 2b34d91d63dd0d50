"""Subscription options and identifiers of MQTT 5.0, and what of them a message keeps on its way."""

from __future__ import annotations

from itertools import product

import pytest

from mqtt_core.broker import Append, ClaimSession, MatchRetained, Options, Particulars, Write
from tests.core import wire, wire5
from tests.core.wire5 import Received5, u32
from tests.model import invariants
from tests.rig import Client, HoldingEngine, RefusingEngine, Rig, writes

KEPT = wire5.prop(0x11, u32(1_000))
NO_LOCAL = 4
AS_PUBLISHED = 8
ONLY_IF_NEW = 16
NEVER = 32


def identifier(number: int) -> bytes:
    return wire5.prop(0x0B, wire.remaining_length(number))


def at_most(count: int) -> bytes:
    return wire5.prop(0x21, wire.u16(count))


def subscribe(client: Client, topic_filter: str, options: int = 1, number: int = 0) -> None:
    client.subscribe((topic_filter, options), properties=identifier(number) if number else b"")


def one(client: Client) -> Received5:
    (got,) = client.publishes5()
    return got


# No local


@pytest.mark.statement("MQTT-3.8.3-3")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("is_wide", [True, False])
def test_ones_own_messages_do_not_come_back(qos: int, clean: bool, is_wide: bool) -> None:
    rig = Rig(turn_deliveries=1) if is_wide else Rig()
    if is_wide:
        for number in range(300):
            rig.connect(f"{number}").subscribe(("t", 0))
    client = rig.connect5("a", *(() if clean else (KEPT,)))
    subscribe(client, "t", NO_LOCAL | 2)
    other = rig.connect5("b")
    subscribe(other, "t", NO_LOCAL | 2)
    client.send(wire5.publish("t", b"mine", qos, 1 if qos else 0))
    assert b"mine" not in client.take()
    assert other.payloads() == [b"mine"]
    other.send(wire5.publish("t", b"yours", qos, 1 if qos else 0))
    assert client.payloads() == [b"yours"]
    rig.no_faults()


def test_it_is_the_client_identifier_that_counts() -> None:
    """Also on another connection of the same client."""
    rig = Rig()
    client = rig.connect5("a", KEPT)
    subscribe(client, "t", NO_LOCAL | 1)
    client = rig.connect5("a", KEPT, clean=False, present=True)
    client.send(wire5.publish("t", b"mine", 1, 1))
    assert client.take() == wire5.puback(1)
    client = rig.persistent("a", present=True)
    client.send(wire.publish("t", b"mine", 1, 1))
    assert client.take() == wire.puback(1)
    rig.connect("A").send(wire.publish("t", b"another's"))
    assert client.payloads() == [b"another's"]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("local", ["+", "t"])
def test_another_subscription_may_want_them(qos: int, local: str) -> None:
    """Then its QoS counts, and its identifier alone."""
    rig = Rig()
    client = rig.connect5("a")
    subscribe(client, local, NO_LOCAL | 2, 1)
    subscribe(client, "t" if local == "+" else "+", 1, 2)
    client.send(wire5.publish("t", b"mine", qos, 1 if qos else 0))
    got = [wire5.read_publish(frame) for frame in client.frames() if frame.kind == 3]
    assert [(each.qos, each.properties) for each in got] == [(min(qos, 1), identifier(2))]
    rig.connect("b").send(wire.publish("t", b"yours", qos, 1 if qos else 0))
    assert (lambda got: (got.qos, sorted(got.properties)))(one(client)) == (
        qos,
        sorted(identifier(1) + identifier(2)),
    )


def test_retained_messages_of_ones_own_come_all_the_same() -> None:
    """They come from the server, which does not know any more whose they were."""
    rig = Rig()
    client = rig.connect5("a")
    client.send(wire5.publish("t", b"mine", retain=True))
    subscribe(client, "t", NO_LOCAL)
    assert one(client).payload == b"mine"


# Retain as published


@pytest.mark.statement("MQTT-3.3.1-12")
@pytest.mark.statement("MQTT-3.3.1-13")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("options", [0, AS_PUBLISHED])
@pytest.mark.parametrize("retain", [True, False])
@pytest.mark.parametrize("way", ["direct", "away", "window", "again", "socket", "layout"])
def test_the_retain_flag_of_a_message(qos: int, options: int, retain: bool, way: str) -> None:
    rig = Rig(queue_qos0_offline=True)
    receiver = [KEPT, at_most(1)]
    if way == "layout":
        receiver.append(wire5.prop(0x27, u32(10_000)))
    client = rig.connect5("r", *receiver)
    subscribe(client, "t", options | 2)
    if way == "away":
        client.cut()
    elif way == "window":
        rig.connect("p").send(wire.publish("t", b"first", 1, 1))
    elif way == "socket":
        client.block()
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", b"x", qos, 1 if qos else 0, retain=retain))
    if way == "window":
        client.send(wire5.puback(1))
    elif way == "socket":
        client.unblock()
    elif way == "away" or (way == "again" and qos):
        client.cut()
        client = rig.connect5("r", *receiver, clean=False, present=True)
    got = client.publishes5()[-1]
    assert got.payload == b"x"
    assert got.retain is (retain and options == AS_PUBLISHED)
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("first", [0, AS_PUBLISHED])
def test_one_of_several_subscriptions_is_enough(first: int) -> None:
    rig = Rig()
    client = rig.connect5("r")
    subscribe(client, "t", first | 2)
    subscribe(client, "+", (AS_PUBLISHED - first) | 1)
    for qos in (0, 1, 2):
        packet_id = 1 if qos else 0
        rig.connect5("p").send(wire5.publish("t", b"x", qos, packet_id, retain=True))
        assert one(client).retain


def test_3_1_1_never_hears_of_it() -> None:
    rig = Rig()
    client = rig.connect("r")
    client.subscribe(("t", 2))
    for qos in (0, 1, 2):
        packet_id = 1 if qos else 0
        rig.connect5("p").send(wire5.publish("t", b"x", qos, packet_id, retain=True))
    assert [each.retain for each in client.publishes()] == [False] * 3


# Retain handling


@pytest.mark.statement("MQTT-3.3.1-9")
@pytest.mark.statement("MQTT-3.3.1-10")
@pytest.mark.statement("MQTT-3.3.1-11")
@pytest.mark.parametrize(
    ("handling", "new", "known"),
    [(0, True, True), (ONLY_IF_NEW, True, False), (NEVER, False, False)],
)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic_filter", ["t", "+"])
def test_who_gets_retained_messages(
    handling: int, new: bool, known: bool, qos: int, topic_filter: str
) -> None:
    rig = Rig()
    rig.connect("p").send(wire.publish("t", b"kept", 2, 1, retain=True))
    client = rig.connect5("r", KEPT)

    def is_sent(options: int = handling | qos) -> bool:
        subscribe(client, topic_filter, options)
        got = client.publishes5()
        assert all(each.retain and each.payload == b"kept" and each.qos == qos for each in got)
        answer = wire5.puback if qos == 1 else wire5.pubrec
        for each in got:
            if qos:
                client.send(answer(each.packet_id))
            if qos == 2:
                client.take()
                client.send(wire5.pubcomp(each.packet_id))
        return bool(got)

    assert is_sent() is new
    assert is_sent() is known
    assert is_sent(handling | qos | AS_PUBLISHED) is known  # replaced, which is not new
    client.send(wire5.unsubscribe(9, topic_filter))
    assert client.take() == wire5.unsuback(9, 0)
    assert is_sent() is new
    client.cut()
    client = rig.connect5("r", KEPT, clean=False, present=True)
    assert is_sent() is known
    client.cut()
    client = rig.connect5("r", KEPT)
    assert is_sent() is new
    invariants.check_at_rest(rig)


def test_each_filter_of_a_packet_has_its_own_options() -> None:
    rig = Rig()
    for topic in ("a", "b", "c"):
        rig.connect("p").send(wire.publish(topic, topic.encode(), retain=True))
    client = rig.connect5("r")
    filters = [("a", NEVER | AS_PUBLISHED), ("b", 0), ("c", ONLY_IF_NEW | AS_PUBLISHED | NO_LOCAL)]
    client.subscribe(*filters, properties=identifier(7))
    assert [(each.topic, each.properties) for each in client.publishes5()] == [
        ("b", identifier(7)),
        ("c", identifier(7)),
    ]
    for topic in ("a", "b", "c"):
        rig.connect("p").send(wire.publish(topic, b"new", retain=True))
    assert [(each.topic, each.retain) for each in client.publishes5()] == [
        ("a", True),
        ("b", False),
        ("c", True),
    ]
    client.send(wire5.publish("c", b"mine"), wire5.publish("a", b"mine"))
    assert one(client).topic == "a"


# Identifiers


@pytest.mark.statement("MQTT-3.3.4-3")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("number", [1, 127, 128, 16_384, 268_435_455])
@pytest.mark.parametrize("clean", [True, False])
def test_a_message_has_the_identifier_of_its_subscription(
    qos: int, number: int, clean: bool
) -> None:
    rig = Rig()
    client = rig.connect5("r", *(() if clean else (KEPT,)))
    subscribe(client, "t", 2, number)
    rig.connect("p").send(wire.publish("t", b"x", qos, 1 if qos else 0))
    assert one(client) == Received5(
        "t", b"x", qos, 1 if qos else 0, False, False, identifier(number)
    )


@pytest.mark.statement("MQTT-3.3.4-4")
@pytest.mark.statement("MQTT-3.3.4-5")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("is_wide", [True, False])
def test_one_message_for_all_subscriptions_that_match(qos: int, clean: bool, is_wide: bool) -> None:
    rig = Rig(turn_deliveries=1) if is_wide else Rig()
    if is_wide:
        for number in range(300):
            rig.connect(f"{number}").subscribe(("a/b", 0))
    client = rig.connect5("r", *(() if clean else (KEPT,)))
    subscribe(client, "a/b", 0, 1)
    subscribe(client, "a/+", 1, 2)
    subscribe(client, "#", 2, 3)
    subscribe(client, "+/b", 0)
    subscribe(client, "a/#", 0, 2)
    subscribe(client, "c", 2, 9)
    rig.connect("p").send(wire.publish("a/b", b"x", qos, 1 if qos else 0))
    got = one(client)
    assert got.qos == qos
    numbers = sorted(got.properties[1::2])
    assert got.properties[::2] == b"\x0b" * 4
    assert numbers == [1, 2, 2, 3]
    rig.no_faults()


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("others", [0, 12])
def test_what_others_have_subscribed_to_makes_no_difference(qos: int, others: int) -> None:
    rig = Rig()
    names = ["/".join(levels) for levels in product("a+", "b+", "c+")] + ["#", "a/#", "x/#", "+/+"]
    crowd = rig.connect("crowd")
    for name in names[:others]:
        crowd.subscribe((name, 0))
    client = rig.connect5("c")
    subscribe(client, "a/b/#", qos, 1)
    subscribe(client, "a/#", qos | AS_PUBLISHED, 2)
    subscribe(client, "a/b/c/#", qos | NO_LOCAL, 3)
    subscribe(client, "$share/g/a/#", qos, 4)
    subscribe(client, "x/#", qos, 5)
    twin = rig.connect5("d")
    for number, name in enumerate(("a/b/#", "a/#", "x/#"), 1):
        subscribe(twin, name, qos, number)
    other = rig.connect5("p")
    for publisher, numbers in ((other, [1, 2, 3]), (client, [1, 2]), (other, [1, 2, 3])):
        for topic, expected in (
            ("a/b/c", [(numbers, True), ([4], False)]),
            ("a/d", [([2], True), ([4], False)]),
            ("x/b/c", [([5], False)]),
        ):
            publisher.send(wire5.publish(topic, b"x", qos, qos, retain=True))
            frames = [frame for frame in client.frames() if frame.kind == 3]
            got = [wire5.read_publish(frame) for frame in frames]
            assert sorted((sorted(each.properties[1::2]), each.retain) for each in got) == expected
            assert sorted(one(twin).properties[1::2]) == {"a/b/c": [1, 2], "a/d": [2]}.get(
                topic, [3]
            )
    rig.no_faults()


def test_an_identifier_comes_and_goes_with_its_subscription() -> None:
    rig = Rig()
    client = rig.connect5("r")
    publisher = rig.connect("p")
    for number in (5, 6, 0, 7):
        subscribe(client, "t", 0, number)
        publisher.send(wire.publish("t"))
        assert one(client).properties == (identifier(number) if number else b"")
    subscribe(client, "+", 0, 8)
    client.send(wire5.unsubscribe(1, "t"))
    client.take()
    publisher.send(wire.publish("t"))
    assert one(client).properties == identifier(8)
    session = rig.broker._sessions.get("r")
    assert session is not None
    assert session.optioned == 1
    client.send(wire5.unsubscribe(1, "+"))
    assert session.optioned == 0


def test_identifiers_stand_before_what_the_publisher_has_said() -> None:
    rig = Rig()
    client = rig.connect5("r")
    subscribe(client, "t", 0, 5)
    own = (wire5.user("k", "v"), wire5.user("k", "w"))
    rig.connect5("p").send(wire5.publish("t", b"x", 0, 0, wire5.prop(0x02, u32(9)), *own))
    assert one(client).properties == wire5.prop(0x02, u32(9)) + identifier(5) + b"".join(own)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("way", ["away", "window", "again", "store", "restart"])
def test_identifiers_are_kept_with_a_message(qos: int, way: str) -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT, at_most(1))
    subscribe(client, "t", 2, 5)
    subscribe(client, "+", 1, 6)
    if way in ("away", "restart"):
        client.cut()
    elif way == "window":
        rig.connect("first").send(wire.publish("x", b"first", 1, 1))
        client.take()
    publisher = rig.connect("p")
    engine = rig.engine
    if way == "store":
        rig.engine = HoldingEngine(engine)
    publisher.send(wire.publish("t", b"x", qos, 1))
    if way == "window":
        client.send(wire5.puback(1))
    elif way == "again":
        client.cut()
        client = rig.connect5("r", KEPT, clean=False, present=True)
    elif way == "store":
        rig.settle()
    elif way == "away":
        client = rig.connect5("r", KEPT, clean=False, present=True)
    elif way == "restart":
        rig = Rig(engine=engine)
        client = rig.connect5("r", KEPT, clean=False, present=True)
        assert len(client.received) > 0
    got = one(client)
    assert got.dup is (way == "again")
    assert sorted(got.properties[1::2]) == [5, 6]
    invariants.check_at_rest(rig)


def test_subscriptions_and_what_is_in_flight_survive_the_broker() -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT)
    subscribe(client, "t", 2 | NO_LOCAL | AS_PUBLISHED, 5)
    subscribe(client, "u", 1, 6)
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"1", 1, 1, retain=True))
    publisher.send(wire.publish("t", b"2", 2, 2))
    publisher.send(wire.publish("t", b"3", 2, 3))
    client.take()
    client.send(wire5.pubrec(3))
    rig = Rig(engine=rig.engine)
    client = rig.connect5("r", KEPT, clean=False, present=True)
    frames = client.frames()
    first, second = (wire5.read_publish(frame) for frame in frames[:2])
    assert (first.payload, first.retain, first.dup) == (b"1", True, True)
    assert (second.payload, second.retain, second.dup) == (b"2", False, True)
    assert first.properties == second.properties == identifier(5)
    assert frames[2].first == 0x62
    client.send(wire5.puback(1), wire5.pubrec(2))
    assert client.take() == wire5.pubrel(2)
    client.send(wire5.pubcomp(2), wire5.pubcomp(3))
    client.send(wire5.publish("t", b"mine", 1, 1))
    assert client.take() == wire5.puback(1)
    rig.connect("p").send(wire.publish("t", b"x", retain=True), wire.publish("u", b"y"))
    assert [(each.retain, each.properties) for each in client.publishes5()] == [
        (True, identifier(5)),
        (False, identifier(6)),
    ]
    session = rig.broker._sessions.get("r")
    assert session is not None
    assert session.optioned == 2
    assert session.particulars is None
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("kept", [True, False])
def test_what_the_store_refused_keeps_its_identifiers_for_the_next_time(kept: bool) -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT)
    subscribe(client, "t", 2 | AS_PUBLISHED, 5)
    if not kept:
        client.cut()
    engine = rig.engine
    rig.engine = RefusingEngine(engine, writes(Append))
    publisher = rig.connect5("p", KEPT)
    publisher.send(wire5.publish("t", b"x", 2, 7, retain=True))
    assert publisher.is_closed
    rig.engine = engine
    assert client.take() == b""
    publisher = rig.connect5("p", KEPT, clean=False, present=True)
    publisher.send(wire5.publish("t", b"x", 2, 7, retain=True, dup=True))
    assert publisher.take() == wire5.pubrec(7)
    if not kept:
        client = rig.connect5("r", KEPT, clean=False, present=True)
    got = one(client)
    assert (got.payload, got.retain, got.properties) == (b"x", True, identifier(5))
    invariants.check_at_rest(rig)


def test_what_a_client_has_of_its_own_is_forgotten_when_it_is_done_with() -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT)
    subscribe(client, "t", 2, 5)
    publisher = rig.connect("p")
    session = rig.broker._sessions.get("r")
    assert session is not None
    for number in range(1, 50):
        publisher.send(wire.publish("t", b"", number % 2 + 1, number))
        got = one(client)
        assert session.particulars == {got.packet_id: Particulars(False, (5,))}
        if got.qos == 1:
            client.send(wire5.puback(got.packet_id))
        elif number % 4:
            client.send(wire5.pubrec(got.packet_id))
            client.send(wire5.pubcomp(got.packet_id))
        else:
            client.send(wire5.pubrec(got.packet_id, 0x97))
        client.take()
        assert session.particulars is None


def test_words_for_logs() -> None:
    options = Options(True, False, 3)
    assert repr(options) == "Options(no_local=True, retain_as_published=False, identifier=3)"
    assert options == Options(True, False, 3)
    assert len({options, Options(True, False, 3), Options(True, True, 3)}) == 2
    assert options != (True, False, 3)
    particulars = Particulars(True, (1, 2))
    assert repr(particulars) == "Particulars(retain=True, identifiers=(1, 2), share=b'')"
    assert len({particulars, Particulars(True, (1, 2)), Particulars(False, (1, 2))}) == 2
    assert particulars != (True, (1, 2))


# Retained messages that have waited


@pytest.mark.parametrize("payload", [b"new", b""])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("version", [4, 5])
def test_a_retained_message_that_has_changed_since_it_was_read_does_not_come(
    payload: bytes, qos: int, version: int
) -> None:
    """Its subscriber was away when it came from the store, and hears of the newer one alone."""
    rig = Rig(queue_qos0_offline=True)
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("r/1", b"old", 1, 1, retain=True))
    publisher.send(wire5.publish("r/2", b"2", 1, 2, retain=True))
    client = rig.connect5("r", KEPT) if version == 5 else rig.persistent("r")
    engine = rig.engine
    holding = HoldingEngine(engine)
    rig.engine = holding
    packets = wire5 if version == 5 else wire
    client.send(packets.subscribe(1, ("r/#", qos)))
    client.cut()
    rig.settle()
    rig.engine = engine
    publisher.send(wire5.publish("r/1", payload, 1, 3, retain=True))
    if version == 5:
        client = rig.connect5("r", KEPT, clean=False, present=True)
    else:
        client = rig.persistent("r", present=True)
    got = [(each.topic, each.payload, each.retain) for each in messages(client)]
    expected = [("r/1", payload, False), ("r/2", b"2", True)]
    if payload:
        expected.append(("r/1", payload, True))
    assert sorted(got) == sorted(expected)
    assert rig.broker._ws.retained_readers == 0
    assert rig.broker._ws.retained_changes == {}
    invariants.check_at_rest(rig)


def messages(client: Client) -> list[wire.Received] | list[Received5]:
    return client.publishes5() if client.level == 5 else client.publishes()


@pytest.mark.parametrize("maximum", [1, 2, 5])
@pytest.mark.parametrize("losses", [1, 3])
def test_retained_messages_for_a_client_that_comes_and_goes(maximum: int, losses: int) -> None:
    """However often it goes while they are read, each comes once."""
    rig = Rig()
    for number in range(1, 21):
        publisher = rig.connect5("p")
        publisher.send(wire5.publish(f"r/{number}", b"%d" % number, 1, 1, retain=True))
    engine = rig.engine
    holding = HoldingEngine(engine)
    client = rig.connect5("r", KEPT)
    rig.engine = holding
    client.send(wire5.subscribe(1, ("r/#", 1)))
    for _ in range(losses):
        client.cut()
        rig.settle()
        rig.engine = engine
        client = rig.open()
        client.level = 5
        client.send(wire5.connect("r", KEPT, at_most(maximum), clean=False))
        rig.engine = holding
    got: list[bytes] = []
    while True:
        rig.settle()
        received = [wire5.read_publish(frame) for frame in client.frames() if frame.kind == 3]
        if not received:
            break
        assert all(each.retain for each in received)
        assert len(received) <= maximum
        got += [each.payload for each in received]
        client.send(*(wire5.puback(each.packet_id) for each in received))
    assert sorted(got, key=int) == [b"%d" % number for number in range(1, 21)]
    rig.settle()
    session = rig.broker._sessions.get("r")
    assert session is not None
    assert session.bursts is None
    assert session.reserved == 0
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("end", ["unsubscribe", "subscribe", "clean", "expiry"])
@pytest.mark.parametrize("is_back", [True, False])
def test_retained_messages_that_are_not_wanted_any_more(end: str, is_back: bool) -> None:
    """While they wait for their client, or are read for it again."""
    rig = Rig()
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("r/1", b"old", 1, 1, retain=True))
    client = rig.connect5("r", KEPT)
    engine = rig.engine
    holding = HoldingEngine(engine)
    rig.engine = holding
    client.send(wire5.subscribe(1, ("r/#", 1)))
    client.cut()
    rig.settle()
    if is_back:
        client = rig.open()
        client.level = 5
        client.send(wire5.connect("r", KEPT, clean=False))
        for kind in (ClaimSession, Write):
            holding.release(kind=kind)
            rig.pump()
        client.take()
        assert [type(request) for request, _ in holding.held] == [MatchRetained]
        if end == "unsubscribe":
            client.send(wire5.unsubscribe(2, "r/#"))
        elif end == "subscribe":
            client.send(wire5.subscribe(2, ("r/#", 1)))
    if end == "clean":
        client.cut()
        client = rig.open()
        client.level = 5
        client.send(wire5.connect("r"))
    elif end == "expiry":
        client.cut()
        rig.advance(2_000)
    rig.settle()
    if client.is_closed and end != "expiry":
        client = rig.open()
        client.level = 5
        client.send(wire5.connect("r", KEPT, clean=False))
        rig.settle()
    got = [wire5.read_publish(frame) for frame in client.frames() if frame.kind == 3]
    is_wanted = end == "subscribe" or (end == "unsubscribe" and not is_back)
    assert [each.payload for each in got] == ([b"old"] if is_wanted else [])
    session = rig.broker._sessions.get("r")
    assert session is None or (session.bursts is None and session.reserved == 0)
    rig.engine = engine
    invariants.check_at_rest(rig)
