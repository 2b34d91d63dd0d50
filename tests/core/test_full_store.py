"""A store that has no room: what each client is told, who has the message, and what is counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_core.broker import (
    STORE_BROKEN,
    STORE_FULL,
    Append,
    DeleteSubscription,
    Engine,
    HoldIdentifier,
    PutRetained,
    Request,
    SaveReceived,
    SaveSession,
    SaveSubscription,
    Write,
)
from tests.core import wire, wire5
from tests.core.test_delivery import acknowledge
from tests.core.test_fan_out import crowd
from tests.model import invariants
from tests.rig import HoldingEngine, RefusingEngine, Rig, writes

FULL = 0x97
APPENDS = writes(Append)
KEPT = wire5.prop(0x11, wire5.u32(1_000))


def away(rig: Rig, client_id: str, *filters: tuple[str, int]) -> None:
    """A persistent session whose client has left."""
    client = rig.persistent(client_id)
    client.subscribe(*filters)
    client.cut()


def fill(
    rig: Rig,
    refuses: Callable[[int, Request], bool] | int = APPENDS,
    kind: int = STORE_FULL,
) -> RefusingEngine:
    """From now on the store has no room for some requests; `inner` of it would."""
    engine = RefusingEngine(rig.engine, refuses)
    engine.kind = kind
    rig.engine = engine
    return engine


def waiting(rig: Rig, client_id: str) -> list[bytes]:
    """What has waited for a client in its session."""
    client = rig.connect(client_id, clean=False, present=True)
    return [each.payload for each in acknowledge(client)]


# Publishers


@pytest.mark.parametrize("qos", [1, 2])
def test_a_publisher_of_mqtt_5_is_told_and_goes_on(qos: int) -> None:
    rig = Rig()
    away(rig, "r", ("t", 2))
    witness = rig.connect("w")
    witness.subscribe(("t", 0))
    publisher = rig.connect5("p")
    engine = fill(rig)
    publisher.send(wire5.publish("t", b"refused", qos, 1))
    told = wire5.puback(1, FULL) if qos == 1 else wire5.pubrec(1, FULL)
    assert publisher.take() == told
    assert witness.payloads() == [b"refused"]  # who needs no store has got it
    rig.engine = engine.inner
    publisher.send(wire5.publish("t", b"taken", qos, 1))  # the identifier is free
    assert publisher.take() == (wire5.puback(1) if qos == 1 else wire5.pubrec(1))
    assert waiting(rig, "r") == [b"taken"]
    stats = rig.broker.stats
    assert (stats.refused_store_full, stats.store_refusals, stats.store_failures) == (1, 1, 0)
    assert stats.dropped == 1
    assert stats.dropped_retained_limit == 0
    invariants.check_at_rest(rig)


def test_an_older_publisher_keeps_its_message_and_comes_back_with_it() -> None:
    rig = Rig()
    away(rig, "r", ("t", 2))
    publisher = rig.persistent("p")
    engine = fill(rig)
    publisher.send(wire.publish("t", b"x", 2, 1))
    assert publisher.is_closed
    assert publisher.take() == b""
    assert rig.last_fact("client.disconnected").cause == "a quota is used up"
    rig.engine = engine.inner
    publisher = rig.persistent("p", present=True)
    publisher.send(wire.publish("t", b"x", 2, 1, dup=True))
    assert publisher.take() == wire.pubrec(1)
    assert waiting(rig, "r") == [b"x"]
    invariants.check_at_rest(rig)


def test_a_store_that_is_broken_leaves_the_message_with_its_publisher() -> None:
    """Nobody knows what is on its disk, so nobody is told that the message is refused."""
    rig = Rig()
    away(rig, "r", ("t", 2))
    publisher = rig.connect5("p")
    fill(rig, kind=STORE_BROKEN)
    publisher.send(wire5.publish("t", b"x", 2, 1))
    assert publisher.is_closed
    assert publisher.take() == wire5.disconnect(0x83)
    assert rig.broker.stats.store_failures == 1
    assert rig.broker.stats.dropped == 0
    invariants.check_at_rest(rig)


def test_a_refusal_keeps_its_place_among_the_acknowledgements() -> None:
    rig = Rig()
    away(rig, "r", ("t", 2))
    publisher = rig.connect5("p")
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    publisher.send(wire5.publish("t", b"1", 1, 1))
    refusing = fill(rig)
    publisher.send(wire5.publish("t", b"2", 2, 2))
    publisher.send(wire5.publish("nobody", b"3", 1, 3))
    assert publisher.take() == b""
    rig.engine = refusing.inner
    rig.settle()
    assert publisher.take() == (wire5.puback(1) + wire5.pubrec(2, FULL) + wire5.puback(3, 0x10))
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_is_refused_is_not_under_way_any_more(qos: int) -> None:
    rig = Rig(receive_maximum=2)
    away(rig, "r", ("t", 2))
    publisher = rig.connect5("p")
    fill(rig)
    for packet_id in range(1, 10):
        publisher.send(wire5.publish("t", b"", qos, packet_id))
        assert [frame.body[2] for frame in publisher.frames()] == [FULL]
    assert publisher.channel.unanswered == 0
    assert rig.broker._ws.held_identifiers == 0
    invariants.check_at_rest(rig)


def test_an_identifier_is_free_only_once_its_publisher_is_told() -> None:
    rig = Rig()
    away(rig, "r", ("t", 2))
    publisher = rig.connect5("p", KEPT)
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    publisher.send(wire5.publish("t", b"first", 1, 1))  # whose PUBACK waits
    fill(rig)
    publisher.send(wire5.publish("t", b"refused", 2, 2))
    publisher.cut()
    rig.engine = engine
    rig.settle()
    rig.engine = engine.inner
    publisher = rig.connect5("p", KEPT, clean=False, present=True)
    publisher.send(wire5.publish("t", b"refused", 2, 2, dup=True))  # a repeat: it goes on
    assert publisher.take() == wire5.pubrec(2)
    assert waiting(rig, "r") == [b"first", b"refused"]
    invariants.check_at_rest(rig)


def test_a_repeat_while_the_refusal_is_on_its_way_is_refused_as_well() -> None:
    rig = Rig()
    away(rig, "r", ("t", 2))
    publisher = rig.connect5("p")
    holding = HoldingEngine(rig.engine)
    rig.engine = holding
    publisher.send(wire5.publish("t", b"first", 1, 1))
    engine = fill(rig)
    publisher.send(wire5.publish("t", b"refused", 2, 2))
    publisher.send(wire5.publish("t", b"refused", 2, 2, dup=True))
    rig.engine = engine.inner
    rig.settle()
    refusal = wire5.pubrec(2, FULL)
    assert publisher.take() == wire5.puback(1) + refusal + refusal
    rig.engine = holding.inner
    assert publisher.channel.unanswered == 0
    assert waiting(rig, "r") == [b"first"]
    invariants.check_at_rest(rig)


def test_an_identifier_that_was_released_before_its_message_is_refused() -> None:
    rig = Rig()
    away(rig, "r", ("t", 2))
    publisher = rig.connect5("p")
    engine = HoldingEngine(fill(rig))
    rig.engine = engine
    publisher.send(wire5.publish("t", b"refused", 2, 1), wire5.pubrel(1))
    rig.settle()
    assert publisher.take() == wire5.pubrec(1, FULL) + wire5.pubcomp(1)
    invariants.check_at_rest(rig)


def test_an_identifier_that_has_a_new_message_when_the_first_is_refused() -> None:
    rig = Rig()
    away(rig, "r", ("t", 2))
    publisher = rig.connect5("p")
    refusing = fill(rig, lambda number, request: writes(Append)(number, request) and number == 1)
    engine = HoldingEngine(refusing)
    rig.engine = engine
    publisher.send(
        wire5.publish("t", b"refused", 2, 1), wire5.pubrel(1), wire5.publish("t", b"new", 2, 1)
    )
    rig.settle()
    assert publisher.take() == wire5.pubrec(1, FULL) + wire5.pubcomp(1) + wire5.pubrec(1)
    rig.engine = refusing.inner
    assert waiting(rig, "r") == [b"new"]
    invariants.check_at_rest(rig)


def test_a_publisher_whose_session_is_over_when_its_message_is_refused() -> None:
    rig = Rig()
    away(rig, "r", ("t", 2))
    publisher = rig.connect5("p")
    engine = HoldingEngine(fill(rig))
    rig.engine = engine
    publisher.send(wire5.publish("t", b"refused", 2, 1))
    publisher.cut()
    rig.settle()
    assert rig.broker.stats.refused_store_full == 1
    invariants.check_at_rest(rig)


def test_a_message_to_very_many_is_refused_as_a_whole() -> None:
    """Its first part decides, and the identifier of its publisher is let go with the others."""
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 500, 2, clean=False)
    publisher = rig.connect5("p", KEPT)
    seen: list[int] = []

    def first(number: int, request: Request) -> bool:
        if writes(Append)(number, request):
            seen.append(number)
        return seen == [number]

    engine = fill(rig, first)
    publisher.send(wire5.publish("t", b"x", 2, 1))
    rig.settle()
    assert publisher.take() == wire5.pubrec(1, FULL)
    assert len(engine.refused) == 3
    rig.engine = engine.inner
    publisher.send(wire5.publish("t", b"y", 2, 1))
    rig.settle()
    assert publisher.take() == wire5.pubrec(1)
    assert all([each.payload for each in acknowledge(reader)] == [b"y"] for reader in readers)
    invariants.check_at_rest(rig)


def test_a_message_of_which_several_parts_are_refused_counts_once() -> None:
    rig = Rig(turn_deliveries=100)
    crowd(rig, 500, 2, clean=False)
    publisher = rig.connect5("p")
    engine = fill(rig)
    publisher.send(wire5.publish("t", b"x", 1, 1))
    rig.settle()
    assert publisher.take() == wire5.puback(1, FULL)
    assert len(engine.refused) > 1
    assert rig.broker.stats.refused_store_full == 1
    assert rig.broker.stats.store_refusals == len(engine.refused)
    invariants.check_at_rest(rig)


def test_of_two_refusals_of_one_message_that_of_a_broken_store_counts() -> None:
    rig = Rig(turn_deliveries=100)
    crowd(rig, 500, 2, clean=False)
    publisher = rig.connect5("p")
    engine = fill(rig)
    kinds = [STORE_FULL, STORE_BROKEN]

    def refuses(number: int, request: Request) -> bool:
        if kinds:
            engine.kind = kinds.pop(0)
        return writes(Append)(number, request)

    engine._refuses = refuses
    publisher.send(wire5.publish("t", b"x", 1, 1))
    rig.settle()
    assert publisher.is_closed
    assert rig.last_fact("client.disconnected").cause == "storage failed"
    invariants.check_at_rest(rig)


def test_no_room_for_a_retained_message_and_none_for_any_are_told_apart() -> None:
    rig = Rig(retained_message_limit=0)
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("r", b"x", 1, 1, retain=True))
    assert publisher.take() == wire5.puback(1, FULL)
    fact = rig.last_fact("retained.limit")
    assert "a message for 'r' is not retained; see retained_message_limit" in fact.detail
    away(rig, "r", ("t", 1))
    fill(rig)
    publisher.send(wire5.publish("t", b"x", 1, 1))
    fact = rig.last_fact("store.refused")
    assert fact.detail.startswith("refused by test: a message for 't' is refused")
    publisher.send(wire5.publish("t", b"x", 1, 1))
    assert len(rig.facts_named("store.refused")) == 1
    rig.advance(61)
    publisher.send(wire5.publish("t", b"x", 1, 1))
    assert len(rig.facts_named("store.refused")) == 2
    stats = rig.broker.stats
    assert (stats.dropped_retained_limit, stats.refused_store_full) == (1, 3)


# Subscribers


@pytest.mark.parametrize("level", [4, 5])
def test_a_subscription_for_which_there_is_no_room_is_not_there(level: int) -> None:
    rig = Rig()
    rig.connect("retainer").send(wire.publish("new", b"kept", 1, 1, retain=True))
    client = rig.connect5("c", KEPT) if level == 5 else rig.persistent("c")
    make = wire5 if level == 5 else wire
    client.send(make.subscribe(1, ("old", 0)))
    client.take()
    engine = fill(rig, writes(SaveSubscription))
    client.send(make.subscribe(2, ("new", 1), ("old", 2), ("new", 2)))
    if level == 5:
        assert client.take() == wire5.suback(2, FULL, FULL, FULL)
    else:
        assert client.take() == wire.suback(2, 0x80, 0x80, 0x80)
    assert rig.broker.subscription_count == 1
    assert not client.is_closed
    rig.engine = engine.inner
    publisher = rig.connect("p")
    publisher.send(wire.publish("new", b"n", 1, 1), wire.publish("old", b"o", 1, 2))
    got = client.publishes5() if level == 5 else client.publishes()
    assert [(each.payload, each.qos) for each in got] == [(b"o", 0)]
    invariants.check_at_rest(rig)


def test_what_was_refused_for_another_reason_stays_so() -> None:
    rig = Rig(max_topic_levels=2)
    client = rig.connect5("c", KEPT)
    fill(rig, writes(SaveSubscription))
    client.send(wire5.subscribe(1, ("t", 1), ("t/t/t", 1)))
    assert client.take() == wire5.suback(1, FULL, 0x8F)


def test_a_share_for_which_there_is_no_room() -> None:
    rig = Rig()
    client = rig.connect5("c", KEPT)
    client.send(wire5.subscribe(1, ("$share/g/a", 1)))
    client.take()
    fill(rig, writes(SaveSubscription))
    client.send(wire5.subscribe(2, ("$share/g/a", 2), ("$share/g/b", 2)))
    assert client.take() == wire5.suback(2, FULL, FULL)
    assert rig.broker.subscription_count == 1
    invariants.check_at_rest(rig)


def test_a_subscription_that_is_stored_is_not_taken_back_for_one_that_was_not() -> None:
    """Two SUBSCRIBEs with one filter under way, of which the store refuses the first."""
    rig = Rig()
    client = rig.connect5("c", KEPT)
    refusing = fill(rig, 1)
    engine = HoldingEngine(refusing)
    rig.engine = engine
    client.send(wire5.subscribe(1, ("t", 1)), wire5.subscribe(2, ("t", 1)))
    rig.settle()
    assert client.is_closed
    assert rig.broker.subscription_count == 1
    rig.engine = refusing.inner
    rig.connect("p").send(wire.publish("t", b"x", 1, 1))
    client = rig.connect5("c", KEPT, clean=False, present=True)
    assert [each.payload for each in client.publishes5()] == [b"x"]
    invariants.check_at_rest(rig)


def test_other_subscriptions_under_way_have_nothing_to_do_with_it() -> None:
    rig = Rig()
    client = rig.connect5("c", KEPT)
    engine = HoldingEngine(fill(rig, 1))
    rig.engine = engine
    client.send(wire5.subscribe(1, ("a", 1)), wire5.subscribe(2, ("b", 1)))
    rig.settle()
    assert client.take() == wire5.suback(1, FULL) + wire5.suback(2, 1)
    assert rig.broker.subscription_count == 1
    invariants.check_at_rest(rig)


def test_a_subscription_that_is_over_when_it_is_refused() -> None:
    rig = Rig()
    client = rig.connect5("c", KEPT)
    engine = HoldingEngine(fill(rig, 1))
    rig.engine = engine
    client.send(wire5.subscribe(1, ("t", 1)), wire5.unsubscribe(2, "t"))
    rig.settle()
    assert client.is_closed
    assert rig.broker.subscription_count == 0
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("expires", [True, False])
def test_a_subscription_whose_client_has_gone_when_it_is_refused(expires: bool) -> None:
    rig = Rig(session_timeout_secs=10)
    client = rig.persistent("c")
    engine = HoldingEngine(fill(rig, writes(SaveSubscription)))
    rig.engine = engine
    client.send(wire.subscribe(1, ("t", 1)))
    client.cut()
    if expires:
        rig.advance(11)
    rig.settle()
    assert rig.broker.session_count == int(not expires)
    assert rig.broker.subscription_count == 0
    invariants.check_at_rest(rig)


def test_what_has_no_word_for_it_ends_the_connection() -> None:
    rig = Rig()
    client = rig.connect5("c", KEPT)
    client.send(wire5.subscribe(1, ("t", 1)))
    client.take()
    fill(rig, writes(DeleteSubscription))
    client.send(wire5.unsubscribe(2, "t"))
    assert client.is_closed
    assert client.frames()[-1].body[0] == FULL
    invariants.check_at_rest(rig)


def test_a_refused_subscription_does_not_cut_what_an_earlier_one_brings() -> None:
    rig = Rig(max_inflight_messages=1)
    publisher = rig.connect("retainer")
    for number in range(4):
        publisher.send(wire.publish(f"r/{number}", b"kept", 1, 1, retain=True))
    client = rig.connect5("c", KEPT)
    client.send(wire5.subscribe(1, ("r/#", 1)))
    suback = wire5.suback(1, 1)
    received = client.take()
    assert received.startswith(suback)
    (got,) = wire5.publishes(received[len(suback) :])
    fill(rig, writes(SaveSubscription))
    client.send(wire5.subscribe(2, ("r/#", 2), ("r/0", 1)))
    assert client.take() == wire5.suback(2, FULL, FULL)
    client.send(wire5.puback(got.packet_id))
    rest = [got]
    while more := client.publishes5():
        rest += more
        client.send(wire5.puback(more[0].packet_id))
    assert sorted(each.topic for each in rest) == ["r/0", "r/1", "r/2", "r/3"]
    invariants.check_at_rest(rig)


def test_a_burst_that_is_put_back_waits_for_a_client_that_has_gone() -> None:
    rig = Rig(max_inflight_messages=1)
    publisher = rig.connect("retainer")
    for number in range(3):
        publisher.send(wire.publish(f"r/{number}", b"kept", 1, 1, retain=True))
    client = rig.connect5("c", KEPT)
    client.send(wire5.subscribe(1, ("r/#", 1)))
    client.take()
    refusing = fill(rig, writes(SaveSubscription))
    engine = HoldingEngine(refusing)
    rig.engine = engine
    client.send(wire5.subscribe(2, ("r/#", 2)))
    client.cut()
    rig.settle()
    rig.engine = refusing.inner
    client = rig.connect5("c", KEPT, clean=False, present=True)
    topics: set[str] = set()
    while more := client.publishes5():
        topics.update(each.topic for each in more)
        client.send(wire5.puback(more[0].packet_id))
    assert topics == {"r/0", "r/1", "r/2"}
    assert rig.broker.subscription_count == 1
    invariants.check_at_rest(rig)


# Receivers


def test_a_retained_message_at_qos_2_for_which_there_is_no_room_is_passed_over() -> None:
    rig = Rig()
    rig.connect("retainer").send(wire.publish("r", b"kept", 2, 1, retain=True), wire.pubrel(1))
    client = rig.connect5("c", KEPT)
    engine = fill(rig)
    client.send(wire5.subscribe(1, ("r", 2)))
    assert client.take() == wire5.suback(1, 2)
    assert not client.is_closed
    assert rig.broker.stats.refused_store_full == 1
    assert "retained message at QoS 2" in rig.last_fact("store.refused").detail
    rig.engine = engine.inner
    rig.connect("p").send(wire.publish("r", b"new", 2, 1))
    assert [each.payload for each in client.publishes5()] == [b"new"]
    invariants.check_at_rest(rig)


def test_a_step_of_an_exchange_waits_for_room() -> None:
    rig = Rig()
    reader = rig.connect5("r", KEPT)
    reader.send(wire5.subscribe(1, ("t", 2)))
    reader.take()
    rig.connect("p").send(wire.publish("t", b"x", 2, 1))
    (got,) = reader.publishes5()
    engine = fill(rig, writes(SaveReceived))
    reader.send(wire5.pubrec(got.packet_id))
    assert reader.frames()[-1].body[0] == FULL
    assert reader.is_closed
    rig.engine = engine.inner
    reader = rig.connect5("r", KEPT, clean=False, present=True)
    assert reader.take() == wire5.pubrel(got.packet_id)
    invariants.check_at_rest(rig)


# Sessions


@pytest.mark.parametrize(("level", "code"), [(3, 3), (4, 3), (5, FULL)])
def test_no_session_for_which_there_is_no_room(level: int, code: int) -> None:
    rig = Rig()
    fill(rig, writes(SaveSession))
    client = rig.open()
    if level == 5:
        client.send(wire5.connect("c", KEPT))
    else:
        client.send(wire.connect("c", clean=False, level=level))
    assert client.frames()[0].body[1] == code
    assert client.is_closed
    assert rig.broker.session_count == 0
    assert "a session is refused" in rig.last_fact("store.refused").detail
    invariants.check_at_rest(rig)


# Wills


def dies(rig: Rig, client_id: str, payload: bytes, *, retain: bool = False) -> None:
    rig.connect(client_id, will=("w", payload, 1, retain)).cut()


@pytest.mark.parametrize("kind", [STORE_FULL, STORE_BROKEN])
def test_wills_wait_for_room_in_their_order(kind: int) -> None:
    rig = Rig(sys_interval_secs=0)
    away(rig, "r", ("w", 1))
    witness = rig.connect("witness")
    witness.subscribe(("w", 0))
    engine = fill(rig, kind=kind)
    for payload in (b"1", b"2", b"3"):
        dies(rig, "c", payload)
    rig.advance(10)
    assert witness.payloads() == [b"1", b"2", b"3"]
    assert rig.broker.stats.queued_messages == 0
    rig.engine = engine.inner
    rig.advance(2)
    assert rig.broker.stats.queued_messages == 3
    assert witness.payloads() == []
    assert rig.broker.stats.dropped == 0
    dies(rig, "c", b"4")
    assert waiting(rig, "r") == [b"1", b"2", b"3", b"4"]
    assert rig.broker._committing._unstored._size_bytes == 0
    invariants.check_at_rest(rig)


def test_a_will_that_comes_while_another_is_tried() -> None:
    rig = Rig(sys_interval_secs=0)
    away(rig, "r", ("w", 1))
    engine = fill(rig)
    dies(rig, "c", b"1")
    holding = HoldingEngine(engine)
    rig.engine = holding
    rig.advance(1)
    assert len(holding.held) == 1
    rig.engine = engine
    dies(rig, "c", b"2")
    rig.engine = holding
    rig.settle()
    rig.engine = engine.inner
    rig.advance(2)
    assert waiting(rig, "r") == [b"1", b"2"]


def test_wills_wait_within_a_limit() -> None:
    rig = Rig(sys_interval_secs=0, total_will_bytes=2_000)
    away(rig, "r", ("w", 1))
    engine = fill(rig)
    for number in range(4):
        dies(rig, "c", b"%d" % number * 500)
    stats = rig.broker.stats
    assert stats.refused_store_full == 2
    rig.engine = engine.inner
    rig.advance(2)
    assert waiting(rig, "r") == [b"0" * 500, b"1" * 500]


def test_a_will_that_cannot_be_retained_is_for_those_who_wait_nevertheless() -> None:
    rig = Rig(sys_interval_secs=0, retained_message_limit=0)
    away(rig, "r", ("w", 1))
    dies(rig, "c", b"x", retain=True)
    rig.advance(2)
    assert rig.broker.stats.dropped_retained_limit == 1
    assert rig.broker.stats.dropped == 0
    assert waiting(rig, "r") == [b"x"]
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("kind", [STORE_FULL, STORE_BROKEN])
def test_a_will_that_waits_for_room_outlives_the_process(kind: int) -> None:
    rig = Rig(sys_interval_secs=0)
    away(rig, "r", ("w", 1))
    engine = fill(rig, kind=kind)
    dies(rig, "c", b"x")
    rig.advance(5)
    rig.crash()
    assert len(engine.refused) > 5
    rig.engine = engine.inner
    rig.advance(2)
    assert waiting(rig, "r") == [b"x"]
    rig.crash()
    assert waiting(rig, "r") == []


def test_a_will_that_is_given_up_leaves_the_store() -> None:
    rig = Rig(sys_interval_secs=0, total_will_bytes=2_000)
    away(rig, "r", ("w", 1))
    engine = fill(rig)
    for name in ("a", "b", "c"):
        dies(rig, name, name.encode() * 600)
    assert rig.broker.stats.refused_store_full == 1
    rig.engine = engine.inner
    rig.crash()
    assert waiting(rig, "r") == [b"a" * 600, b"b" * 600]


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("is_away", [False, True])
@pytest.mark.parametrize("payload", [b"online", b""])
def test_a_will_that_waits_for_room_replaces_nothing_that_was_retained_since(
    payload: bytes, is_away: bool, is_known: bool
) -> None:
    """`is_known`: it was refused before its client came back. Who is away gets it all the same."""
    rig = Rig(sys_interval_secs=0)
    if is_away:
        away(rig, "r", ("w", 1))
    engine = fill(rig, writes(PutRetained))
    holding = HoldingEngine(engine)
    if not is_known:
        client = rig.connect("c", will=("w", b"offline", 1, True))
        rig.engine = holding
        client.cut()
    else:
        dies(rig, "c", b"offline", retain=True)
    rig.engine = engine.inner
    rig.connect("c").send(wire.publish("w", payload, 0, 0, retain=True))
    if not is_known:
        rig.engine = holding
        holding.release()
        rig.pump()
        rig.engine = engine.inner
    rig.advance(2)
    reader = rig.connect("reader")
    reader.subscribe(("w", 1))
    assert reader.payloads() == ([payload] if payload else [])
    if is_away:
        assert waiting(rig, "r") == [b"offline"]
    invariants.check_at_rest(rig)


def test_only_some_wills_are_for_the_store() -> None:
    """Of nobody but those who are there: nothing can be refused."""
    rig = Rig(sys_interval_secs=0)
    engine: Engine = fill(rig, writes(PutRetained))
    dies(rig, "c", b"x")
    assert isinstance(engine, RefusingEngine)
    assert engine.refused == []


def test_an_identifier_for_which_there_is_no_room() -> None:
    rig = Rig()
    publisher = rig.connect5("p", KEPT)
    engine = fill(rig, writes(HoldIdentifier))
    publisher.send(wire5.publish("nobody", b"x", 2, 1))
    assert publisher.take() == wire5.pubrec(1, FULL)
    rig.engine = engine.inner
    publisher.send(wire5.publish("nobody", b"x", 2, 1), wire5.pubrel(1))
    assert publisher.take() == wire5.pubrec(1, 0x10) + wire5.pubcomp(1)
    invariants.check_at_rest(rig)


def is_write(number: int, request: Request) -> bool:
    return isinstance(request, Write)


def test_nothing_acknowledged_is_lost_while_there_is_no_room() -> None:
    rig = Rig(sys_interval_secs=0)
    away(rig, "r", ("t", 1))
    publisher = rig.connect5("p")
    taken: list[bytes] = []
    refusing = fill(rig, is_write)
    for number in range(40):
        rig.engine = refusing if number // 5 % 2 else refusing.inner
        publisher.send(wire5.publish("t", b"%d" % number, 1, 1))
        if publisher.take() == wire5.puback(1):
            taken.append(b"%d" % number)
    assert len(taken) == 20
    rig.engine = refusing.inner
    assert waiting(rig, "r") == taken
