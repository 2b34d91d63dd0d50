"""Messages that expire: counted down while they wait, and given up when their time is over."""

from __future__ import annotations

import pytest

from mqtt_core import make_message
from mqtt_core.broker import ASK, DropExpired, MatchRetained, MemoryEngine, ReadQueue
from mqtt_core.broker._queue import Queue
from mqtt_core.properties import MESSAGE_EXPIRY_INTERVAL
from tests.core import wire, wire5
from tests.core.wire5 import u32
from tests.model import invariants
from tests.rig import (
    Client,
    HoldingAuthenticator,
    HoldingEngine,
    RefusingEngine,
    Rig,
    TablePolicy,
    new_queue,
    writes,
)

KEPT = wire5.prop(0x11, u32(1_000))


def expiring(seconds: int) -> bytes:
    return wire5.prop(0x02, u32(seconds))


def at_most(count: int) -> bytes:
    return wire5.prop(0x21, wire.u16(count))


def away(rig: Rig, client_id: str = "r", qos: int = 1, *properties: bytes) -> None:
    """A client with a subscription to "t" that has gone."""
    client = rig.connect5(client_id, KEPT, *properties)
    client.subscribe(("t", qos))
    client.cut()


def back(rig: Rig, client_id: str = "r", *properties: bytes) -> Client:
    return rig.connect5(client_id, KEPT, *properties, clean=False, present=True)


def publish(rig: Rig, payload: bytes, seconds: int | None, qos: int = 1, topic: str = "t") -> None:
    client = rig.connect5("publisher")
    properties = () if seconds is None else (expiring(seconds),)
    client.send(wire5.publish(topic, payload, qos, 1 if qos else 0, *properties))
    client.cut()


def intervals(client: Client) -> list[tuple[bytes, bytes]]:
    return [(each.payload, each.properties) for each in client.publishes5()]


# At once


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("seconds", [0, 1, 0xFFFFFFFF])
def test_a_message_that_does_not_wait_keeps_its_interval(qos: int, seconds: int) -> None:
    rig = Rig()
    plain = rig.connect5("plain")
    limited = rig.connect5("limited", wire5.prop(0x27, u32(100)))
    older = rig.connect("older")
    kept = rig.connect5("kept", KEPT)
    for client in (plain, limited, older, kept):
        client.subscribe(("t", qos))
    publish(rig, b"x", seconds, qos)
    for client in (plain, limited, kept):
        assert intervals(client) == [(b"x", expiring(seconds))]
    assert older.take() == wire.publish("t", b"x", qos, 1 if qos else 0)


def test_other_properties_stay_as_they_were() -> None:
    rig = Rig()
    reader = rig.connect5("r")
    reader.subscribe(("t", 1))
    publisher = rig.connect5("p")
    others = [wire5.user("a", "1"), wire5.prop(0x03, wire.string("x")), wire5.user("b", "2")]
    publisher.send(wire5.publish("t", b"x", 1, 1, others[0], expiring(5), *others[1:]))
    (got,) = reader.publishes5()
    assert got.properties == expiring(5) + b"".join(others)


# Waiting


@pytest.mark.statement("MQTT-3.3.2-6")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize(
    ("waited", "left"), [(0.0, 100), (0.5, 100), (0.9999, 99), (1.0, 99), (30.4, 70), (99.9, 1)]
)
def test_the_time_in_a_queue_is_taken_off(qos: int, waited: float, left: int) -> None:
    rig = Rig()
    away(rig, qos=qos)
    publish(rig, b"x", 100, qos)
    rig.advance(waited)
    assert intervals(back(rig)) == [(b"x", expiring(left))]


@pytest.mark.statement("MQTT-3.3.2-5")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("version", [4, 5])
def test_what_has_expired_in_a_queue_is_not_sent(qos: int, version: int) -> None:
    rig = Rig()
    away(rig, qos=qos)
    for payload, seconds in ((b"1", 10), (b"2", None), (b"3", 0), (b"4", 5), (b"5", 20)):
        publish(rig, payload, seconds, qos)
    rig.advance(10)
    client = back(rig) if version == 5 else rig.persistent("r", present=True)
    assert client.payloads() == [b"2", b"5"]
    assert rig.broker.stats.messages_expired == 3
    assert rig.broker.stats.queued_messages == 0
    invariants.check_at_rest(rig)
    client.cut()
    assert len(back(rig).publishes5()) == 2  # in flight already, so sent again
    rig.no_faults()


def test_what_has_expired_is_over_in_the_store_too() -> None:
    rig = Rig()
    away(rig)
    publish(rig, b"1", 10)
    publish(rig, b"2", None)
    rig.advance(11)
    client = back(rig)
    assert client.payloads() == [b"2"]
    client.send(wire5.puback(1))
    engine = rig.engine
    assert isinstance(engine, MemoryEngine)
    (stored,) = engine._sessions.values()
    assert stored.waiting[stored.first :] == []
    assert stored.sent == {}


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_a_long_queue_whose_head_has_expired(count: int) -> None:
    """Its messages are with the engine, and come from there page by page."""
    rig = Rig()
    away(rig)
    publisher = rig.connect5("p")
    for number in range(count):
        publisher.send(wire5.publish("t", b"old", 1, number + 1, expiring(5)))
    publisher.send(wire5.publish("t", b"new", 1, 1))
    rig.advance(6)
    client = back(rig)
    assert client.payloads() == [b"new"]
    assert rig.broker.stats.messages_expired == count
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("clean", [True, False])
def test_what_expires_while_it_waits_for_the_window(clean: bool) -> None:
    rig = Rig()
    client = rig.connect5("r", at_most(1), *(() if clean else (KEPT,)))
    client.subscribe(("t", 1))
    for payload, seconds in ((b"1", None), (b"2", 5), (b"3", 100), (b"4", 5), (b"5", None)):
        publish(rig, payload, seconds)
    assert intervals(client) == [(b"1", b"")]
    rig.advance(10)
    client.send(wire5.puback(1))
    assert intervals(client) == [(b"3", expiring(90))]
    client.send(wire5.puback(2))
    assert intervals(client) == [(b"5", b"")]
    assert rig.broker.stats.messages_expired == 2
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("version", [4, 5])
def test_what_expires_while_it_waits_for_the_socket(qos: int, clean: bool, version: int) -> None:
    rig = Rig()
    if version == 5:
        client = rig.connect5("r", *(() if clean else (KEPT,)))
    else:
        client = rig.connect("r", clean=clean)
    client.subscribe(("t", qos))
    client.block()
    for payload, seconds in ((b"1", 5), (b"2", 100), (b"3", None)):
        publish(rig, payload, seconds, qos)
    rig.advance(10)
    client.unblock()
    assert client.payloads() == [b"2", b"3"]
    assert rig.broker.stats.messages_expired == 1
    invariants.check_at_rest(rig)


def test_qos_0_that_waits_for_a_client_that_is_away() -> None:
    rig = Rig(queue_qos0_offline=True)
    away(rig, qos=0)
    publish(rig, b"1", 5, 0)
    publish(rig, b"2", 50, 0)
    rig.advance(10)
    assert intervals(back(rig)) == [(b"2", expiring(40))]
    invariants.check_at_rest(rig)


def test_what_waits_for_a_verdict_waits() -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(policy=TablePolicy({"t": ASK}), authenticator=authenticator, request_timeout_secs=60)
    reader = rig.connect5("r")
    reader.send(wire5.subscribe(1, ("#", 1)))
    rig.settle()
    reader.take()
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", b"x", 1, 1, expiring(100)))
    rig.advance(20)
    rig.settle()
    assert intervals(reader) == [(b"x", expiring(80))]


# In flight


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize(("waited", "left"), [(10, 90), (100, 0), (500, 0)])
def test_what_is_in_flight_is_sent_again_with_what_is_left(
    qos: int, waited: int, left: int
) -> None:
    """Its delivery has begun, so it is finished."""
    rig = Rig()
    client = rig.connect5("r", KEPT)
    client.subscribe(("t", qos))
    publish(rig, b"x", 100, qos)
    assert intervals(client) == [(b"x", expiring(100))]
    client.cut()
    rig.advance(waited)
    (again,) = back(rig).publishes5()
    assert again.dup
    assert again.properties == expiring(left)


def test_what_expires_while_it_waits_for_the_store_is_not_sent() -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT)
    client.subscribe(("t", 2))
    publisher = rig.connect5("p")
    rig.engine = HoldingEngine(rig.engine)
    publisher.send(wire5.publish("t", b"x", 2, 1, expiring(10)), wire5.publish("t", b"y", 2, 2))
    rig.advance(10)
    rig.settle()
    assert intervals(client) == [(b"y", b"")]
    assert rig.broker.stats.messages_expired == 1
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("waited", [5, 50])
def test_what_has_waited_for_the_store_for_too_long_was_never_sent(waited: int) -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT)
    client.subscribe(("t", 2))
    publisher = rig.connect5("p")
    engine = rig.engine
    rig.engine = HoldingEngine(engine)
    publisher.send(wire5.publish("t", b"x", 2, 1, expiring(10)))
    client.cut()
    rig.advance(waited)
    rig.settle()
    rig.engine = engine
    client = back(rig)
    assert intervals(client) == ([(b"x", expiring(5))] if waited == 5 else [])
    assert rig.broker.stats.messages_expired == int(waited == 50)
    if waited == 50:
        session = rig.broker._sessions.get("r")
        assert session is not None
        assert session.flow is not None
        assert session.flow.is_empty
        client.cut()
        assert back(rig).take() == b""
    invariants.check_at_rest(rig)


# Retained


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", [4, 5])
def test_a_retained_message_is_counted_down_and_expires(qos: int, version: int) -> None:
    rig = Rig()
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", b"x", qos, 1 if qos else 0, expiring(100), retain=True))
    for waited, left in ((0, 100), (30, 70), (69, 1)):
        rig.advance(waited)
        if version == 5:
            client = rig.connect5("r")
            client.subscribe(("t", 2))
            (got,) = client.publishes5()
            assert got.properties == expiring(left)
            assert got.retain
        else:
            client = rig.connect("r")
            client.subscribe(("t", 2))
            assert client.take() == wire.publish("t", b"x", qos, 1 if qos else 0, retain=True)
    rig.advance(1)
    client = rig.connect5("r")
    client.subscribe(("t", 2))
    assert client.take() == b""


def test_a_retained_message_with_interval_0_is_for_those_who_are_there() -> None:
    rig = Rig()
    there = rig.connect5("there")
    there.subscribe(("t", 0))
    rig.connect5("p").send(wire5.publish("t", b"x", 0, 0, expiring(0), retain=True))
    assert intervals(there) == [(b"x", expiring(0))]
    late = rig.connect5("late")
    late.subscribe(("t", 0))
    assert late.take() == b""


def test_a_retained_message_that_expires_while_its_page_is_on_its_way() -> None:
    rig = Rig()
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t/1", b"1", 0, 0, expiring(5), retain=True))
    publisher.send(wire5.publish("t/2", b"2", 0, 0, expiring(50), retain=True))
    client = rig.connect5("r")
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    client.send(wire5.subscribe(1, ("#", 0)))
    assert any(isinstance(request, MatchRetained) for request, _ in engine.held)
    rig.advance(10)
    rig.settle()
    client.received = client.received[len(wire5.suback(1, 0)) :]
    assert intervals(client) == [(b"2", expiring(40))]
    assert rig.broker.stats.messages_expired == 1


def test_the_store_forgets_retained_messages_that_have_expired() -> None:
    rig = Rig(sys_interval_secs=0)
    assert rig.broker.next_deadline() is None
    publisher = rig.connect5("p")
    for number, seconds in ((1, 10), (2, 100), (3, 0)):
        message = wire5.publish(f"t/{number}", b"x", 0, 0, expiring(seconds), retain=True)
        publisher.send(message)
    publisher.send(wire5.publish("t/4", b"x", 0, 0, retain=True))
    publisher.send(wire5.publish("t/5", b"x", 0, 0, expiring(10), retain=True))
    publisher.send(wire5.publish("t/5", b"for ever", 0, 0, retain=True))
    engine = rig.engine
    assert isinstance(engine, MemoryEngine)
    assert engine.retained.count == rig.broker.stats.retained_messages == 5
    rig.advance(61)
    assert engine.retained.count == rig.broker.stats.retained_messages == 3
    rig.advance(60)
    assert engine.retained.count == rig.broker.stats.retained_messages == 2
    assert rig.broker.next_deadline() is None
    publisher.send(wire5.publish("t/6", b"x", 0, 0, expiring(10), retain=True))
    assert rig.broker.next_deadline() is not None
    rig.advance(61)
    assert rig.broker.stats.retained_messages == 2


def test_a_store_that_does_not_forget_them_is_asked_again() -> None:
    rig = Rig(sys_interval_secs=0)
    engine = rig.engine
    rig.engine = RefusingEngine(engine, writes(DropExpired))
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", b"x", 0, 0, expiring(10), retain=True))
    rig.advance(61)
    assert rig.broker.stats.retained_messages == 1
    assert rig.broker.stats.store_failures == 1
    assert rig.last_fact("store.failed").detail == "refused by test"
    rig.engine = engine
    rig.advance(60)
    assert rig.broker.stats.retained_messages == 0
    assert rig.broker.next_deadline() is None


# Full queues


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest", "disconnect", "refuse"])
def test_what_has_expired_makes_room_before_anything_is_dropped(clean: bool, policy: str) -> None:
    rig = Rig(max_queued_messages=3, queue_full_policy=policy)
    client = rig.connect5("r", at_most(1), *(() if clean else (KEPT,)))
    client.subscribe(("t", 1))
    for payload, seconds in ((b"0", None), (b"1", None), (b"2", 5), (b"3", 50)):
        publish(rig, payload, seconds)
    rig.advance(6)
    publish(rig, b"4", None)
    assert rig.broker.stats.messages_expired == 1
    assert rig.broker.stats.dropped == 0
    got = client.payloads()
    for number in range(1, 4):
        client.send(wire5.puback(number))
        got += client.payloads()
    assert got == [b"0", b"1", b"3", b"4"]
    assert rig.broker.stats.messages_expired == 1
    invariants.check_at_rest(rig)
    assert not client.is_closed


def test_expired_qos_0_makes_room_too() -> None:
    rig = Rig(max_queued_messages=2)
    client = rig.connect5("r")
    client.subscribe(("t", 1))
    client.block()
    publish(rig, b"1", 5, 0)
    publish(rig, b"2", None, 0)
    rig.advance(6)
    publish(rig, b"3", None, 0)
    client.unblock()
    assert client.payloads() == [b"2", b"3"]
    assert rig.broker.stats.dropped_qos_0 == 0
    assert rig.broker.stats.messages_expired == 1


def test_what_has_expired_and_is_on_its_way_from_the_store_is_counted_once() -> None:
    rig = Rig(max_queued_messages=3)
    away(rig)
    for payload, seconds in ((b"1", 5), (b"2", None), (b"3", None)):
        publish(rig, payload, seconds)
    engine = rig.engine
    holding = HoldingEngine(engine)
    publisher = rig.connect5("p")
    client = rig.open()
    client.level = 5
    rig.engine = holding
    client.send(wire5.connect("r", KEPT, clean=False))
    for _ in range(2):  # the claim, and what it leads to
        holding.release()
        rig.pump()
    assert [type(request) for request, _ in holding.held] == [ReadQueue]
    rig.advance(6)
    publisher.send(wire5.publish("t", b"4", 1, 1))
    rig.settle()
    frames = [frame for frame in client.frames() if frame.kind == 3]
    assert [wire5.read_publish(frame).payload for frame in frames] == [b"2", b"3", b"4"]
    assert rig.broker.stats.messages_expired == 1
    assert rig.broker.stats.dropped == 0
    invariants.check_at_rest(rig)


def test_expired_messages_are_counted_for_sys() -> None:
    rig = Rig(sys_interval_secs=10)
    witness = rig.connect("witness")
    away(rig)
    publish(rig, b"x", 5)
    rig.advance(6)
    back(rig)
    witness.subscribe(("$SYS/broker/publish/messages/expired", 0))
    rig.advance(10)
    assert witness.payloads()[-1] == b"1"


# The queue itself


def queued(queue: Queue, number: int, expires_at: float, qos: int = 1) -> None:
    properties = ((MESSAGE_EXPIRY_INTERVAL, 1),) if expires_at else ()
    message = make_message("t", b"%d" % number, qos, False, properties)
    if expires_at:
        message.expires_at = expires_at
    queue.add(number, qos, message)


def test_a_queue_gives_up_what_has_expired_wherever_it_waits() -> None:
    queue = new_queue()
    for number in range(1, 10):
        queued(queue, number, 10.0 * number if number % 2 else 0.0, number % 3 % 2)
    for number in range(10, 15):
        message = make_message("t", b"", 1, False, ((MESSAGE_EXPIRY_INTERVAL, 1),))
        message.expires_at = 10.0 * (number - 9)
        queue.add_message_stored(number, message)
    assert queue.take_expired(9.9) == []
    assert sorted(queue.take_expired(30.0)) == [1, 3, 10, 11, 12]
    assert queue.take_expired(30.0) == []
    assert queue.count == 9
    assert sorted(queue.take_expired(1_000.0)) == [5, 7, 9, 13, 14]
    assert queue.count == 4
    while queue.has_qos_0:
        queue.pop_qos_0()
    while queue.has_loaded:
        queue.pop_loaded()
    assert queue.count == queue.size_bytes == queue.qos_0_count == queue.qos_0_bytes == 0
    assert not queue.has_stored


def test_a_queue_remembers_no_more_times_than_it_has_messages() -> None:
    queue = new_queue()
    for number in range(1, 10_000):
        queued(queue, number, 1e9, number % 2)
        if number % 2:
            queue.pop_loaded()
        else:
            queue.pop_qos_0()
    assert queue._expiring is not None
    assert len(queue._expiring) <= 101
    for number in range(10_000, 10_300):
        message = make_message("t", b"", 1, False, ((MESSAGE_EXPIRY_INTERVAL, 1),))
        message.expires_at = 5.0
        queue.add_message_stored(number, message)
    assert len(queue.take_expired(5.0)) == 300
