"""Retained messages for new subscriptions, a page at a time."""

from __future__ import annotations

import pytest

from mqtt_core.broker import Append, DeleteRetained, MatchRetained, PutRetained
from tests.core import wire
from tests.core.test_delivery import acknowledge
from tests.model import invariants
from tests.rig import Client, HoldingEngine, RefusingEngine, Rig, writes


def retain(rig: Rig, count: int, qos: int = 0, size: int = 0) -> Client:
    publisher = rig.connect("publisher")
    for number in range(1, count + 1):
        payload = b"%d " % number + bytes(size)
        publisher.send(wire.publish(f"r/{number}", payload, qos, number if qos else 0, retain=True))
    publisher.take()
    return publisher


def numbers(messages: list[wire.Received]) -> list[int]:
    return sorted(int(message.payload.split()[0]) for message in messages)


@pytest.mark.statement("v3 MQTT-3.3.1-6")
@pytest.mark.statement("v3 MQTT-3.3.1-8")
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_a_new_subscription_gets_what_is_retained(
    published: int, granted: int, clean: bool
) -> None:
    rig = Rig()
    retain(rig, 1, published)
    reader = rig.connect("r", clean=clean)
    for _ in range(2):  # and the same subscription once more
        reader.subscribe(("r/+", granted))
        (message,) = acknowledge(reader)
        assert message.retain
        assert not message.dup
        assert message.qos == min(published, granted)
    assert rig.broker.stats.retained_messages == 1
    invariants.check_at_rest(rig)


@pytest.mark.statement("v3 MQTT-3.3.1-5")
@pytest.mark.statement("v3 MQTT-3.3.1-10")
@pytest.mark.statement("v3 MQTT-3.3.1-11")
def test_a_message_takes_the_place_of_the_one_before_and_an_empty_one_deletes_it() -> None:
    rig = Rig()
    witness = rig.connect("w")
    witness.subscribe(("t", 0))
    publisher = rig.connect("p")
    for payload in (b"1", b"2", b"", b""):
        publisher.send(wire.publish("t", payload, retain=True))
        reader = rig.connect("r")
        reader.subscribe(("t", 0))
        assert reader.take() == (wire.publish("t", payload, retain=True) if payload else b"")
    assert witness.take() == b"".join(wire.publish("t", each) for each in (b"1", b"2", b"", b""))
    assert rig.broker.stats.retained_messages == 0


@pytest.mark.statement("v3 MQTT-3.3.1-12")
def test_what_is_not_to_be_retained_changes_nothing() -> None:
    rig = Rig()
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"1", retain=True), wire.publish("t", b"2"))
    reader = rig.connect("r")
    reader.subscribe(("t", 0))
    assert reader.payloads() == [b"1"]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_a_wide_burst_goes_through_a_small_window_and_no_queue(qos: int, clean: bool) -> None:
    rig = Rig(max_inflight_messages=3, max_queued_messages=0)
    retain(rig, 600, qos)
    reader = rig.connect("r", clean=clean)
    reader.subscribe(("#", 2))
    got = acknowledge(reader)
    assert numbers(got) == list(range(1, 601))
    assert rig.broker.stats.dropped == 0
    invariants.check_at_rest(rig)


def test_a_burst_waits_for_the_socket() -> None:
    rig = Rig(output_budget_bytes=1_024)
    retain(rig, 100, size=200)
    reader = rig.connect("r")
    reader.room_bytes = 3_000
    reader.send(wire.subscribe(1, ("#", 0)))
    assert 3_000 <= reader.total_bytes < 6_000
    assert reader.channel.output.size_bytes < 4_000
    reader.unblock()
    frames = reader.frames()[1:]
    assert numbers([wire.read_publish(frame) for frame in frames]) == list(range(1, 101))


@pytest.mark.parametrize("qos", [0, 1])
def test_a_burst_ends_with_its_subscription(qos: int) -> None:
    rig = Rig(max_inflight_messages=2)
    retain(rig, 50, 1)
    reader = rig.connect("r")
    reader.block()
    reader.send(wire.subscribe(1, ("#", qos)), wire.unsubscribe(2, "#"))
    reader.unblock()
    assert len(reader.frames()) <= 2 + 2
    invariants.check_at_rest(rig)


def test_a_burst_for_a_client_that_goes_and_comes_back() -> None:
    rig = Rig(max_inflight_messages=4)
    retain(rig, 20, 1)
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    reader = rig.open()
    reader.send(wire.connect("r", clean=False))
    rig.settle()
    reader.send(wire.subscribe(1, ("#", 1)))
    engine.release(kind=MatchRetained)
    rig.pump()
    reader.cut()
    rig.settle()
    reader = rig.open()
    reader.send(wire.connect("r", clean=False))
    got = []
    for _ in range(20):
        rig.settle()
        got += acknowledge(reader)
    assert numbers(got) == list(range(1, 21))
    invariants.check_at_rest(rig)


def test_a_page_that_comes_when_its_client_has_gone() -> None:
    for clean in (True, False):
        rig = Rig()
        retain(rig, 5, 1)
        reader = rig.connect("r", clean=clean)
        engine = HoldingEngine(rig.engine)
        rig.engine = engine
        reader.send(wire.subscribe(1, ("#", 1)))
        reader.cut()
        rig.settle()
        again = rig.open()
        again.send(wire.connect("r", clean=clean))
        rig.settle()
        got = acknowledge(again)
        rig.settle()
        assert numbers(got) == ([] if clean else [1, 2, 3, 4, 5])
        assert rig.broker._ws.retained_readers == 0


def test_what_changes_while_a_page_is_on_its_way_does_not_come_twice() -> None:
    rig = Rig()
    publisher = retain(rig, 3)
    reader = rig.connect("r")
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    reader.send(wire.subscribe(1, ("r/#", 0)))
    publisher.send(wire.publish("r/2", b"2 new", retain=True))
    rig.settle()
    got = [wire.read_publish(each) for each in reader.frames() if each.kind == 3]
    assert sorted((each.payload, each.retain) for each in got) == [
        (b"1 ", True),
        (b"2 new", False),
        (b"3 ", True),
    ]
    assert rig.broker._ws.retained_changes == {}


@pytest.mark.parametrize("clean", [True, False])
def test_a_store_that_does_not_find_retained_messages(clean: bool) -> None:
    rig = Rig()
    retain(rig, 5, 1)
    rig.engine = RefusingEngine(rig.engine, lambda _, request: isinstance(request, MatchRetained))
    reader = rig.connect("r", clean=clean)
    reader.send(wire.subscribe(1, ("#", 1)))
    assert reader.is_closed
    assert rig.last_fact("client.disconnected").cause == "storage failed"
    rig.engine = rig.engine.inner
    if not clean:
        reader = rig.connect("r", clean=False, present=True)
        assert numbers(acknowledge(reader)) == [1, 2, 3, 4, 5]
    invariants.check_at_rest(rig)


def test_a_store_that_does_not_take_a_retained_message_in_flight() -> None:
    rig = Rig()
    retain(rig, 5, 2)
    engine = RefusingEngine(rig.engine, writes(Append))
    rig.engine = engine
    reader = rig.persistent("r")
    reader.send(wire.subscribe(1, ("#", 2)))
    assert reader.is_closed
    rig.engine = engine.inner
    reader = rig.connect("r", clean=False, present=True)
    assert numbers(acknowledge(reader)) == [1, 2, 3, 4, 5]
    invariants.check_at_rest(rig)


# Limits


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_full_store_of_retained_messages(qos: int) -> None:
    rig = Rig(retained_message_limit=2)
    witness = rig.connect("w")
    witness.subscribe(("#", 0))
    publisher = retain(rig, 2)
    publisher.send(wire.publish("r/3", b"3", qos, 9, retain=True))
    assert publisher.take() == b""
    assert publisher.is_closed is (qos > 0)
    assert rig.broker.stats.dropped_retained_limit == 1
    assert rig.last_fact("retained.limit").detail.startswith("the limit of retained")
    assert len(witness.publishes()) == 3
    publisher = rig.connect("other")
    publisher.send(wire.publish("r/1", b"1 new", 1, 1, retain=True))
    assert publisher.take() == wire.puback(1)
    publisher.send(wire.publish("r/4", b"4", retain=True))
    publisher.send(wire.publish("r/2", b"", retain=True), wire.publish("r/4", b"4", retain=True))
    assert len(rig.facts_named("retained.limit")) == 1
    rig.advance(61)
    publisher.send(wire.publish("r/5", b"5", retain=True))
    assert len(rig.facts_named("retained.limit")) == 2
    reader = rig.connect("r")
    reader.subscribe(("#", 0))
    assert sorted(reader.payloads()) == [b"1 new", b"4"]


def test_a_store_that_refuses_a_retained_message() -> None:
    rig = Rig()
    rig.engine = RefusingEngine(rig.engine, writes(PutRetained))
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"0", retain=True) + wire.PINGREQ)
    assert publisher.take() == wire.PINGRESP
    publisher.send(wire.publish("t", b"1", 1, 1, retain=True))
    assert publisher.take() == b""
    assert publisher.is_closed
    assert rig.broker.stats.store_failures == 2


@pytest.mark.parametrize("clean", [True, False])
def test_a_repeat_at_qos_2_tries_again_what_was_refused(clean: bool) -> None:
    rig = Rig()
    witness = rig.connect("w")
    witness.subscribe(("t", 0))
    reader = rig.persistent("r")
    reader.subscribe(("t", 2))
    reader.cut()
    engine = RefusingEngine(rig.engine, writes(PutRetained))
    rig.engine = engine
    publisher = rig.connect("p", clean=clean)
    publisher.send(wire.publish("t", b"x", 2, 7, retain=True))
    assert publisher.is_closed
    rig.engine = engine.inner
    publisher = rig.connect("p", clean=clean, present=not clean)
    publisher.send(wire.publish("t", b"x", 2, 7, retain=True, dup=True))
    assert publisher.take() == wire.pubrec(7)
    assert len(witness.publishes()) == (2 if clean else 1)
    reader = rig.connect("r", clean=False, present=True)
    assert len(acknowledge(reader)) == 1
    late = rig.connect("late")
    late.subscribe(("t", 0))
    assert late.payloads() == [b"x"]
    publisher.send(wire.pubrel(7))
    assert publisher.take() == wire.pubcomp(7)
    invariants.check_at_rest(rig)


def test_a_deletion_is_stored_too() -> None:
    rig = Rig()
    publisher = retain(rig, 1)
    publisher.send(wire.publish("r/1", b"", 1, 5, retain=True))
    assert publisher.take() == wire.puback(5)
    kinds = [type(each) for request in rig.requests for each in getattr(request, "operations", [])]
    assert kinds[-1] is DeleteRetained
