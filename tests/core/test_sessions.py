"""Sessions: takeover, what outlives a connection, and for how long."""

from __future__ import annotations

import pytest

from mqtt_core.broker import MemoryEngine
from tests.core import wire
from tests.model import invariants
from tests.rig import HoldingEngine, Rig


@pytest.mark.statement("v3 MQTT-3.1.4-2")
@pytest.mark.parametrize("clean", [True, False])
def test_the_older_connection_ends_before_the_newer_is_answered(clean: bool) -> None:
    rig = Rig()
    older = rig.connect("a", clean=clean)
    newer = rig.connect("a", clean=clean, present=not clean)
    assert older.is_closed
    names = [fact.name for fact in rig.facts]
    assert names == ["client.connected", "client.disconnected", "client.connected"]
    assert rig.last_fact("client.disconnected").cause == "taken over by a newer connection"
    assert rig.broker.stats.takeovers == 1
    older.send(wire.PINGREQ)
    newer.send(wire.PINGREQ)
    assert newer.take() == wire.PINGRESP
    invariants.check_at_rest(rig)


def test_a_takeover_of_one_whose_socket_is_full() -> None:
    rig = Rig()
    older = rig.persistent("a")
    older.subscribe(("t", 1))
    older.block()
    rig.connect("p").send(wire.publish("t", b"x", 1, 1))
    newer = rig.connect("a", clean=False, present=True)
    assert newer.take() == wire.publish("t", b"x", 1, 1)
    rig.advance(2)
    assert older.is_closed
    assert rig.broker.stats.connections == 2


@pytest.mark.statement("v3 MQTT-3.2.2-2")
@pytest.mark.statement("v3 MQTT-3.2.2-3")
def test_a_session_is_present_until_it_is_ended() -> None:
    rig = Rig()
    rig.persistent("a").send(wire.DISCONNECT)
    rig.connect("a", clean=False, present=True).cut()
    rig.connect("a", clean=True, present=False).cut()
    rig.connect("a", clean=False, present=False)


@pytest.mark.statement("v3 MQTT-3.1.2-6")
def test_a_clean_session_begins_and_ends_with_nothing() -> None:
    rig = Rig()
    client = rig.persistent("a")
    client.subscribe(("t", 1))
    client.cut()
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"1", 1, 1))
    client = rig.connect("a")
    publisher.send(wire.publish("t", b"2", 1, 2))
    assert client.take() == b""
    client.subscribe(("t", 1))
    client.cut()
    client = rig.persistent("a")
    publisher.send(wire.publish("t", b"3", 1, 3))
    assert client.take() == b""
    assert rig.broker.stats.dropped_session_ended == 1


@pytest.mark.statement("v3 MQTT-3.1.2-4")
@pytest.mark.statement("v3 MQTT-3.1.2-5")
def test_a_persistent_session_keeps_subscriptions_and_messages() -> None:
    rig = Rig()
    client = rig.persistent("a")
    client.subscribe(("t", 2), ("u", 0))
    client.send(wire.publish("x", b"", 2, 7))
    assert client.take() == wire.pubrec(7)
    client.cut()
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"1", 1, 1), wire.publish("t", b"2", 2, 2))
    publisher.send(wire.publish("t", b"0"), wire.publish("u", b"0", 1, 3))
    client = rig.connect("a", clean=False, present=True)
    assert client.take() == wire.publish("t", b"1", 1, 1) + wire.publish("t", b"2", 2, 2)
    assert rig.broker.stats.dropped_qos_0_offline == 2
    client.send(wire.publish("x", b"", 2, 7, dup=True))
    assert client.take() == wire.pubrec(7)
    assert rig.broker.stats.publishes_received == 6
    client.send(wire.pubrel(7))
    assert client.take() == wire.pubcomp(7)


@pytest.mark.statement("v3 MQTT-4.4.0-1")
@pytest.mark.statement("v3 MQTT-4.6.0-1")
def test_what_is_unfinished_comes_again_first_and_in_order() -> None:
    rig = Rig(max_inflight_messages=4)
    client = rig.persistent("a")
    client.subscribe(("t", 2))
    publisher = rig.connect("p")
    for number, qos in enumerate((1, 2, 1, 2, 1, 2), 1):
        publisher.send(wire.publish("t", b"%d" % number, qos, number))
    first = client.publishes()
    assert [each.payload for each in first] == [b"1", b"2", b"3", b"4"]
    assert not any(each.dup for each in first)
    client.send(wire.puback(1), wire.pubrec(4))
    assert client.take() == wire.pubrel(4) + wire.publish("t", b"5", 1, 5)
    client.cut()
    client = rig.connect("a", clean=False, present=True)
    again = wire.publish("t", b"2", 2, 2, dup=True) + wire.publish("t", b"3", 1, 3, dup=True)
    assert client.take() == again + wire.pubrel(4) + wire.publish("t", b"5", 1, 5, dup=True)
    client.send(wire.pubcomp(4))
    assert client.take() == wire.publish("t", b"6", 2, 6)
    client.send(wire.pubrec(2), wire.puback(3), wire.puback(5), wire.pubrec(6))
    client.send(wire.pubcomp(2), wire.pubcomp(6))
    assert rig.broker.stats.queued_messages == 0
    invariants.check_at_rest(rig)


def test_what_is_unfinished_comes_again_as_far_as_the_socket_takes_it() -> None:
    rig = Rig(output_budget_bytes=1_024)
    client = rig.persistent("a")
    client.subscribe(("t", 1))
    publisher = rig.connect("p")
    for number in range(1, 9):
        publisher.send(wire.publish("t", b"%d" % number + bytes(600), 1, number))
    assert len(client.publishes()) == 8
    client.cut()
    client = rig.open()
    client.room_bytes = 700
    client.send(wire.connect("a", clean=False))
    assert client.received.startswith(wire.connack(present=True))
    client.received = client.received[4:]
    assert [each.packet_id for each in client.publishes()] == [1, 2]
    client.send(wire.puback(1), wire.puback(2), wire.puback(4))  # the 4th had come before
    client.unblock()
    got = client.publishes()
    assert [each.packet_id for each in got] == [3, 5, 6, 7, 8]
    assert all(each.dup for each in got)
    client.send(*(wire.puback(each.packet_id) for each in got))
    publisher.send(wire.publish("t", b"9", 1, 9))
    assert client.payloads() == [b"9"]
    invariants.check_at_rest(rig)


def test_a_session_whose_client_stays_away_ends() -> None:
    rig = Rig(session_timeout_secs=100)
    client = rig.persistent("a")
    client.subscribe(("t", 1))
    rig.advance(1_000)
    client.send(wire.DISCONNECT)
    assert rig.broker.stats.sessions_detached == 1
    rig.advance(60)
    client = rig.connect("a", clean=False, present=True)
    rig.advance(60)
    client.cut()
    rig.connect("p").send(wire.publish("t", b"x", 1, 1))
    rig.advance(99)
    assert rig.broker.session_count == 2
    rig.advance(2)
    assert rig.broker.session_count == 1
    assert rig.last_fact("session.expired").client_id == "a"
    assert rig.broker.stats.sessions_expired == 1
    assert rig.broker.stats.dropped_session_ended == 1
    rig.connect("a", clean=False, present=False)
    invariants.check_at_rest(rig)


def test_a_session_does_not_end_while_its_client_is_on_its_way() -> None:
    rig = Rig(session_timeout_secs=10)
    client = rig.persistent("a")
    client.cut()
    rig.engine = HoldingEngine(rig.engine)
    rig.advance(9)
    client = rig.open()
    client.send(wire.connect("a", clean=False))
    rig.advance(5)
    assert rig.broker.session_count == 1
    rig.settle()
    assert client.take() == wire.connack(present=True)
    client.cut()
    rig.advance(60)
    assert rig.broker.session_count == 0


def test_a_session_ends_once() -> None:
    rig = Rig()
    rig.persistent("a").cut()
    sessions = rig.broker._sessions
    session = sessions.by_client["a"]
    for _ in range(2):
        sessions.end(session)
    assert session.is_ended
    assert rig.broker.session_count == 0
    assert rig.broker.stats.sessions_detached == 0


def test_time_out_of_0_ends_a_session_at_once() -> None:
    rig = Rig(session_timeout_secs=0)
    rig.persistent("a").cut()
    rig.connect("a", clean=False, present=False)


def test_a_broker_that_begins_again_finds_its_sessions() -> None:
    engine = MemoryEngine(Rig().limits)
    rig = Rig(engine=engine, max_inflight_messages=3)
    client = rig.persistent("a")
    client.subscribe(("t", 2), ("u/#", 1))
    client.send(wire.publish("x", b"", 2, 9))
    publisher = rig.connect("p")
    for number in range(1, 6):
        publisher.send(wire.publish("t", b"%d" % number, 2, number))
    client.send(wire.pubrec(1))

    rig = Rig(engine=engine, max_inflight_messages=3, now=50.0)
    client = rig.connect("a", clean=False, present=True)
    again = wire.publish("t", b"2", 2, 2, dup=True) + wire.publish("t", b"3", 2, 3, dup=True)
    assert client.take() == again + wire.pubrel(1)
    assert rig.broker.stats.queued_messages == 2
    assert rig.broker._ws.held_identifiers == 1
    client.send(wire.pubcomp(1))
    (fourth,) = client.publishes()
    assert (fourth.payload, fourth.dup) == (b"4", False)
    for packet_id in (2, 3, fourth.packet_id):
        client.send(wire.pubrec(packet_id))
        client.send(wire.pubcomp(packet_id))
    payloads = [wire.read_publish(each).payload for each in client.frames() if each.kind == 3]
    assert payloads == [b"5"]
    client.send(wire.publish("x", b"", 2, 9, dup=True), wire.pubrel(9))
    assert client.take() == wire.pubrec(9) + wire.pubcomp(9)
    rig.connect("p").send(wire.publish("u/x", b"new", 1, 1))
    assert client.payloads() == [b"new"]
    assert rig.broker.stats.publishes_received == 2
    invariants.check_at_rest(rig)


def test_a_broker_that_begins_again_finds_a_retained_message_in_flight() -> None:
    engine = MemoryEngine(Rig().limits)
    rig = Rig(engine=engine)
    rig.connect("p").send(wire.publish("r", b"kept", 1, 1, retain=True))
    client = rig.persistent("a")
    client.subscribe(("r", 1))
    assert client.take() == wire.publish("r", b"kept", 1, 1, retain=True)

    rig = Rig(engine=engine)
    client = rig.connect("a", clean=False, present=True)
    assert client.take() == wire.publish("r", b"kept", 1, 1, retain=True, dup=True)
    client.send(wire.puback(1))
    assert engine._sessions[1].sent == {}
    client.cut()
    rig.connect("a", clean=True)
    assert engine._sessions == {}
