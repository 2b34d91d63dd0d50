"""A broker that begins with what another one has left in the store."""

from __future__ import annotations

import pytest

from mqtt_core import make_message
from mqtt_core.broker import (
    IMMEDIATE,
    Claimed,
    ClaimSession,
    Completion,
    Done,
    DropExpired,
    Engine,
    Failed,
    InFlight,
    MemoryEngine,
    ReadSessions,
    ReadWills,
    Request,
    RetireSession,
    SaveExpiry,
    SessionRecord,
    SessionsPage,
    Write,
)
from tests.core import wire, wire5
from tests.core.wire5 import Will5, prop, u32
from tests.model import invariants
from tests.rig import (
    Client,
    DiskEngine,
    EngineAround,
    HoldingEngine,
    LateEngine,
    RefusingEngine,
    Rig,
)

NO_LOCAL = 4
AS_PUBLISHED = 8
IDENTIFIER_7 = b"\x0b\x07"
SHARED = "$share/g/t"


def expiry(seconds: int) -> bytes:
    return prop(0x11, u32(seconds))


KEPT = expiry(1_000)


def message_expiry(seconds: int) -> bytes:
    return prop(0x02, u32(seconds))


def will(delay_s: int = 0, payload: bytes = b"gone", qos: int = 1) -> Will5:
    return Will5("w", payload, qos, False, prop(0x18, u32(delay_s)) if delay_s else b"")


def quiet_rig(**limits: int) -> Rig:
    return Rig(sys_interval_secs=0, settings=limits)


def memory(rig: Rig) -> MemoryEngine:
    assert isinstance(rig.engine, MemoryEngine)
    return rig.engine


def witness(rig: Rig) -> None:
    """A client that is away, for which wills wait."""
    client = rig.connect5("witness", expiry(100_000), clean=False)
    client.subscribe(("w", 2))
    client.cut()


def told(rig: Rig) -> list[bytes]:
    """The wills that the witness has got; it goes away again."""
    client = rig.connect5("witness", expiry(100_000), clean=False, present=True)
    client.level = 5
    published = client.publishes5()
    client.send(*(wire5.puback(each.packet_id) for each in published))
    client.cut()
    return [each.payload for each in published]


# Sessions


def test_a_session_comes_back_with_its_subscriptions() -> None:
    rig = quiet_rig()
    a = rig.connect5("a", KEPT, clean=False)
    a.subscribe(("own", 1 | NO_LOCAL), packet_id=1)
    a.subscribe(("kept", 1 | AS_PUBLISHED), packet_id=2, properties=IDENTIFIER_7)
    a.subscribe(("gone", 1), packet_id=3)
    a.send(wire5.unsubscribe(4, "gone"))
    rig.persistent("b").subscribe(("t/#", 1), ("t/1", 2))
    rig.connect("clean").subscribe(("t/#", 1))
    rig.crash()
    invariants.check_at_rest(rig)
    assert rig.broker.session_count == 2
    assert rig.broker.subscription_count == 4
    a = rig.connect5("a", KEPT, clean=False, present=True)
    a.send(wire5.publish("own", b"1", 0), wire5.publish("gone", b"2", 0))
    assert a.take() == b""
    rig.connect("p").send(wire.publish("kept", b"3", 1, 1, retain=True))
    (got,) = a.publishes5()
    assert (got.payload, got.retain, got.properties) == (b"3", True, IDENTIFIER_7)
    b = rig.persistent("b", present=True)
    rig.connect("p").send(wire.publish("t/1", b"4", 2, 1))
    assert [each.qos for each in b.publishes()] == [2]
    rig.connect("clean")
    rig.no_faults()


def test_what_was_sent_comes_first_then_the_queue_in_its_order() -> None:
    rig = quiet_rig(max_inflight_messages=2)
    a = rig.persistent("a")
    a.subscribe(("t", 1))
    publisher = rig.connect("p")
    for number in range(1, 6):
        publisher.send(wire.publish("t", b"%d" % number, 1, number))
    sent = a.publishes()
    assert [each.payload for each in sent] == [b"1", b"2"]
    rig.crash()
    assert rig.broker.stats.queued_messages == 3
    invariants.check_at_rest(rig)
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"6", 1, 6))
    a = rig.persistent("a", present=True)
    again = a.publishes()
    assert [(each.payload, each.packet_id, each.dup) for each in again] == [
        (each.payload, each.packet_id, True) for each in sent
    ]
    rest: list[bytes] = []
    while again:
        a.send(*(wire.puback(each.packet_id) for each in again))
        again = a.publishes()
        assert not any(each.dup for each in again)
        rest += [each.payload for each in again]
    assert rest == [b"3", b"4", b"5", b"6"]
    assert rig.broker.stats.queued_messages == 0
    rig.crash()
    assert rig.persistent("a", present=True).take() == b""
    invariants.check_at_rest(rig)


def test_an_exchange_goes_on_where_it_was() -> None:
    """PUBRELs are sent again in the order of the PUBRECs, which was another one."""
    rig = quiet_rig()
    a = rig.persistent("a")
    a.subscribe(("t", 2))
    publisher = rig.connect("p")
    for number in range(1, 5):
        publisher.send(wire.publish("t", b"%d" % number, 2, number))
    one, two, three, four = (each.packet_id for each in a.publishes())
    a.send(wire.pubrec(three), wire.pubrec(one), wire.pubrec(four))
    a.send(wire.pubcomp(four))
    a.take()
    rig.crash()
    a = rig.persistent("a", present=True)
    assert a.take() == (
        wire.publish("t", b"2", 2, two, dup=True) + wire.pubrel(three) + wire.pubrel(one)
    )
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"5", 2, 1))
    (new,) = a.publishes()
    assert new.packet_id not in (one, two, three)
    a.send(wire.pubcomp(one), wire.pubcomp(three), wire.pubrec(two), wire.pubrec(new.packet_id))
    assert a.take() == wire.pubrel(two) + wire.pubrel(new.packet_id)
    rig.crash()
    a = rig.persistent("a", present=True)
    assert a.take() == wire.pubrel(two) + wire.pubrel(new.packet_id)


def test_identifiers_that_wait_for_their_release_are_held() -> None:
    rig = quiet_rig()
    rig.persistent("r").subscribe(("t", 1))
    publisher = rig.persistent("p")
    publisher.send(wire.publish("t", b"1", 2, 1), wire.publish("t", b"2", 2, 2))
    publisher.send(wire.pubrel(2))
    assert publisher.take() == wire.pubrec(1) + wire.pubrec(2) + wire.pubcomp(2)
    rig.crash()
    assert rig.broker._ws.held_identifiers == 1
    publisher = rig.persistent("p", present=True)
    publisher.send(wire.publish("t", b"1", 2, 1, dup=True), wire.publish("t", b"3", 2, 2))
    assert publisher.take() == wire.pubrec(1) + wire.pubrec(2)
    publisher.send(wire.pubrel(1), wire.pubrel(2), wire.pubrel(1))
    assert publisher.take() == wire.pubcomp(1) + wire.pubcomp(2) + wire.pubcomp(1)
    assert rig.persistent("r", present=True).payloads() == [b"1", b"2", b"3"]
    rig.crash()
    assert rig.broker._ws.held_identifiers == 0


def test_what_a_delivery_has_of_its_own_is_sent_again() -> None:
    rig = quiet_rig()
    rig.connect("p").send(wire.publish("t", b"x", 1, 1, retain=True))
    a = rig.connect5("a", KEPT, clean=False)
    a.subscribe(("t", 1 | AS_PUBLISHED), properties=IDENTIFIER_7)
    (first,) = a.publishes5()
    assert (first.retain, first.properties) == (True, IDENTIFIER_7)
    rig.crash()
    (again,) = rig.connect5("a", KEPT, clean=False, present=True).publishes5()
    assert again == first._replace(dup=True)


def test_more_sessions_than_a_page_has() -> None:
    rig = quiet_rig()
    for number in range(300):
        client = rig.persistent(f"c{number}")
        client.subscribe(*((f"t/{number}/{each}", 1) for each in range(20)))
        client.cut()
    rig.crash()
    pages = [each for each in rig.requests if isinstance(each, ReadSessions)]
    assert len(pages) > 3
    assert rig.broker.session_count == 300
    assert rig.broker.subscription_count == 6_000
    assert "300 sessions with 0 messages, 0 wills" in rig.last_fact("store.recovered").detail


def test_members_share_again() -> None:
    rig = quiet_rig()
    for name in ("a", "b"):
        rig.connect5(name, KEPT, clean=False).subscribe((SHARED, 1))
    rig.crash()
    a, b = (rig.connect5(name, KEPT, clean=False, present=True) for name in ("a", "b"))
    publisher = rig.connect("p")
    for number in range(1, 5):
        publisher.send(wire.publish("t", b"x", 1, number))
    assert len(a.publishes5()) == len(b.publishes5()) == 2


def test_a_session_that_was_retired_is_over() -> None:
    """What was shared with it, and not handed over yet, was acknowledged to nobody but itself."""
    rig = quiet_rig(max_inflight_messages=1)
    a = rig.connect5("a", KEPT, clean=False)
    a.subscribe((SHARED, 1))
    rig.connect5("b", KEPT, clean=False).subscribe((SHARED, 1))
    rig.clients[-1].cut()
    publisher = rig.connect("p")
    for number in range(1, 4):
        publisher.send(wire.publish("t", b"x", 1, number))
    stored = memory(rig)
    engine = DiskEngine(stored)
    rig.engine = engine
    a.send(wire5.disconnect(0, expiry(0)))
    retiring = [
        request
        for request in engine.submitted
        if isinstance(request, Write)
        and any(isinstance(each, RetireSession) for each in request.operations)
    ]
    assert retiring
    engine.commit(engine.submitted.index(retiring[0]) + 1)
    rig.crash()
    assert rig.broker.session_count == 1
    assert [each.client_id for each in stored._sessions.values()] == ["b"]


# When sessions end


def test_a_session_ends_when_its_time_is_over_however_often_the_broker_was_restarted() -> None:
    rig = quiet_rig()
    for seconds in (100, 200, 300):
        rig.connect5(str(seconds), expiry(seconds), clean=False).cut()
    rig.advance(10)
    rig.crash(away_s=50)
    assert rig.broker.session_count == 3
    rig.advance(39)
    assert rig.broker.session_count == 3
    rig.advance(2)
    assert sorted(rig.broker._sessions.by_client) == ["200", "300"]
    rig.crash(away_s=100)
    assert rig.broker.session_count == 1  # ended before anybody could come back to it
    assert rig.last_fact("session.expired").client_id == "200"
    rig.connect5("200", expiry(100), clean=False, present=False).cut()
    rig.advance(98)
    assert list(rig.broker._sessions.by_client) == ["300", "200"]
    rig.advance(3)
    invariants.check_empty(rig)
    assert not memory(rig)._sessions


def test_a_session_whose_connection_a_crash_has_ended_expires_an_interval_later() -> None:
    rig = quiet_rig()
    rig.connect5("a", expiry(100), clean=False)
    rig.connect5("gone", expiry(0), clean=False)
    rig.advance(500)
    rig.crash(away_s=1_000)
    rig.advance(60)
    rig.crash()  # does not begin the interval again
    assert rig.broker.session_count == 1
    rig.advance(39)
    assert rig.broker.session_count == 1
    rig.advance(2)
    assert rig.broker.session_count == 0
    assert not memory(rig)._sessions


def test_a_session_that_its_client_came_back_to_for_its_connection_alone_ends_with_that() -> None:
    rig = quiet_rig()
    rig.connect5("a", expiry(100), clean=False).cut()
    rig.connect5("a", expiry(0), clean=False, present=True)
    rig.crash()
    assert rig.broker.session_count == 0


def test_the_interval_that_disconnect_has_changed_counts() -> None:
    rig = quiet_rig()
    for name, seconds in (("longer", 500), ("shorter", 10), ("none", 0)):
        rig.connect5(name, expiry(100), clean=False).send(wire5.disconnect(0, expiry(seconds)))
    rig.crash(away_s=200)
    assert list(rig.broker._sessions.by_client) == ["longer"]
    rig.crash(away_s=200)
    assert rig.broker.session_count == 1
    rig.crash(away_s=200)
    assert rig.broker.session_count == 0


def test_the_interval_of_the_connection_is_stored_before_its_connack() -> None:
    """Else a session would end by the time of the connection before, with all that waits in it."""
    rig = quiet_rig()
    disk = DiskEngine(rig.engine)
    rig.engine = disk
    for seconds in (100, 5_000):
        client = rig.open()
        client.send(wire5.connect("a", expiry(seconds), clean=False))
        while not client.received:
            assert disk.commit(1)
            rig.pump()
        if seconds == 100:
            client.cut()
            rig.settle()
    rig.crash(away_s=200)
    assert rig.broker.session_count == 1
    rig.advance(4_999)
    assert rig.broker.session_count == 1
    rig.advance(2)
    assert rig.broker.session_count == 0


@pytest.mark.parametrize("is_attached", [True, False])
def test_a_connect_that_comes_to_nothing_leaves_the_time_of_the_session(is_attached: bool) -> None:
    rig = quiet_rig()
    older = rig.connect5("a", expiry(100), clean=False)
    if not is_attached:
        older.cut()
        rig.advance(10)
    engine = rig.engine
    holding = HoldingEngine(engine)
    rig.engine = holding
    client = rig.open()
    client.send(wire5.connect("a", expiry(5_000), clean=False))
    holding.release(kind=ClaimSession)
    rig.pump()
    client.cut()
    rig.settle()
    rig.engine = engine
    (stored,) = memory(rig)._sessions.values()
    assert stored.interval_s == 100
    assert (stored.expires_at is None) is is_attached
    rig.crash()
    rig.advance(89)
    assert rig.broker.session_count == 1
    rig.advance(12)
    assert rig.broker.session_count == 0


def test_of_two_connects_the_newer_leaves_its_time() -> None:
    rig = quiet_rig()
    rig.connect5("a", expiry(100), clean=False).cut()
    holding = HoldingEngine(rig.engine)
    rig.engine = holding
    for seconds in (200, 300):
        rig.open().send(wire5.connect("a", expiry(seconds), clean=False))
        holding.release(kind=ClaimSession)
        rig.pump()
    rig.settle()
    saved = [
        each.interval_s
        for write in rig.requests
        if isinstance(write, Write)
        for each in write.operations
        if isinstance(each, SaveExpiry)
    ]
    assert saved == [100, 100, 200, 300]


def test_a_clock_that_was_set_back_keeps_nothing_for_longer_than_its_interval() -> None:
    rig = quiet_rig()
    witness(rig)
    rig.connect5("a", expiry(100), clean=False, will=will(50)).cut()
    rig.crash(away_s=-1_000_000)
    rig.advance(49)
    assert told(rig) == []
    rig.advance(2)
    assert told(rig) == [b"gone"]
    rig.advance(48)
    assert rig.broker.session_count == 2
    rig.advance(2)
    assert rig.broker.session_count == 1


def test_sessions_end_within_their_turns() -> None:
    rig = quiet_rig(max_sessions=10_000)
    for number in range(2_500):
        rig.connect5(f"c{number}", expiry(10), clean=False).cut()
    rig.crash(away_s=20, recovers=False)
    rig.exchange()
    while rig.broker.is_recovering:
        count = rig.broker.session_count
        rig.turn()
        assert count - rig.broker.session_count <= 1_000
    invariants.check_empty(rig)


# Wills


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_will_of_a_connection_that_a_crash_has_ended_is_published(qos: int) -> None:
    rig = quiet_rig()
    client = rig.connect5("witness", expiry(100_000), clean=False)
    client.subscribe(("w", 1))
    rig.connect("a", will=("w", b"gone", qos, True))
    rig.connect("said goodbye", will=("w", b"not this", 1, False)).send(wire.DISCONNECT)
    rig.crash()
    assert told(rig) == ([b"gone"] if qos else [])
    reader = rig.connect("reader")
    reader.send(wire.subscribe(1, ("w", 1)))
    assert [wire.read_publish(each).payload for each in reader.frames()[1:]] == [b"gone"]
    rig.crash()
    assert told(rig) == []
    assert not memory(rig)._wills


def test_a_will_waits_for_its_delay_from_the_restart_on() -> None:
    rig = quiet_rig()
    witness(rig)
    rig.connect5("a", KEPT, clean=False, will=will(100))
    rig.advance(500)
    rig.crash(away_s=1_000)
    assert told(rig) == []
    rig.advance(60)
    rig.crash()  # does not begin the delay again
    rig.advance(39)
    assert told(rig) == []
    rig.advance(2)
    assert told(rig) == [b"gone"]
    assert not memory(rig)._wills
    invariants.check_at_rest(rig)


def test_a_client_that_comes_back_in_time_is_not_mourned() -> None:
    rig = quiet_rig()
    witness(rig)
    rig.connect5("a", KEPT, clean=False, will=will(100))
    rig.crash()
    rig.advance(99)
    rig.connect5("a", KEPT, clean=False, present=True).send(wire5.disconnect(0))
    rig.advance(10)
    assert told(rig) == []
    assert not memory(rig)._wills
    assert rig.broker._sessions.wills._size_bytes == 0


def test_a_delayed_will_is_published_when_it_was_due() -> None:
    rig = quiet_rig()
    witness(rig)
    rig.connect5("a", KEPT, clean=False, will=will(100, b"a")).cut()
    rig.connect5("b", KEPT, clean=False, will=will(500, b"b")).cut()
    rig.connect5("c", KEPT, clean=False, will=will(90, b"c")).cut()
    rig.crash(away_s=200)
    assert told(rig) == [b"c", b"a"]  # in the order in which they were due
    rig.advance(299)
    assert told(rig) == []
    rig.advance(2)
    assert told(rig) == [b"b"]


def test_a_delayed_will_is_published_when_its_session_has_ended() -> None:
    rig = quiet_rig()
    witness(rig)
    rig.connect5("a", expiry(50), clean=False, will=will(100, b"a")).cut()
    rig.connect5("b", expiry(0), clean=False, will=will(100, b"b"))  # with its connection
    rig.connect5("c", expiry(60), clean=False, will=will(100, b"c"))
    rig.crash(away_s=55)
    assert sorted(told(rig)) == [b"a", b"b"]
    rig.advance(61)
    assert told(rig) == [b"c"]
    assert not memory(rig)._wills


def test_a_will_reaches_sessions_of_every_page() -> None:
    rig = quiet_rig()
    rig.connect5("a", KEPT, clean=False, will=will())
    for number in range(3):
        client = rig.persistent(f"far {number}")
        client.subscribe(*((f"t/{number}/{each}", 1) for each in range(900)), ("w", 1))
    rig.crash()
    for number in range(3):
        assert rig.persistent(f"far {number}", present=True).payloads() == [b"gone"]


def test_more_wills_than_a_page_has() -> None:
    rig = quiet_rig(max_inflight_messages=1_000)
    witness(rig)
    for number in range(600):
        rig.connect(f"c{number}", will=("w", b"%d" % number, 1, False))
    rig.crash()
    assert len([each for each in rig.requests if isinstance(each, ReadWills)]) == 4
    assert sorted(map(int, told(rig))) == list(range(600))
    assert not memory(rig)._wills


def test_wills_that_a_shutdown_keeps_are_published_after_the_restart() -> None:
    """The connections have ended without DISCONNECT: at the shutdown, at the latest."""
    rig = quiet_rig()
    witness(rig)
    rig.connect5("a", KEPT, clean=False, will=will(0, b"a"))
    rig.connect5("b", KEPT, clean=False, will=will(100, b"b"))
    rig.connect("c", will=("w", b"c", 1, False))
    rig.stop()
    rig.crash(away_s=10)
    assert sorted(told(rig)) == [b"a", b"c"]
    rig.advance(101)
    assert told(rig) == [b"b"]


def test_a_will_that_a_crash_has_interrupted_is_published_rather_twice_than_never() -> None:
    rig = quiet_rig()
    witness(rig)
    rig.connect5("a", KEPT, clean=False, will=will())
    disk = DiskEngine(rig.engine)
    rig.engine = disk
    rig.clients[-1].cut()
    assert len(disk.submitted) >= 2
    for _ in range(len(disk.submitted)):
        disk.commit(1)
        if not isinstance(disk.inner, MemoryEngine) or not disk.inner._wills:
            break
    rig.crash()
    rig.engine = disk.inner
    assert told(rig) == [b"gone"]


# Retained messages, and messages that expire


def test_retained_messages_are_there_until_they_expire() -> None:
    rig = quiet_rig()
    publisher = rig.connect5("p")
    publisher.send(
        wire5.publish("r/1", b"stays", 1, 1, retain=True),
        wire5.publish("r/2", b"goes", 1, 2, message_expiry(100), retain=True),
        wire5.publish("r/3", b"has gone", 1, 3, message_expiry(10), retain=True),
    )
    rig.crash(away_s=60)
    assert rig.broker.stats.retained_messages == 2
    reader = rig.connect5("reader")
    reader.send(wire5.subscribe(1, ("r/#", 0)))
    found = sorted(wire5.read_publish(frame) for frame in reader.frames()[1:])
    assert [(each.payload, each.properties) for each in found] == [
        (b"stays", b""),
        (b"goes", message_expiry(40)),
    ]
    rig.advance(59)
    assert rig.broker.stats.retained_messages == 2
    rig.advance(2)
    assert rig.broker.stats.retained_messages == 1


class Taciturn(EngineAround):
    """An engine that does not say how many messages it retains."""

    def take_completions(self) -> list[Completion]:
        return [
            Done(each.request_id) if isinstance(each, Done) else each
            for each in self.inner.take_completions()
        ]


@pytest.mark.parametrize(("is_known", "sweeps"), [(True, 1), (False, 11)])
def test_an_empty_store_is_swept_no_more(is_known: bool, sweeps: int) -> None:
    rig = quiet_rig()
    if not is_known:
        rig.engine = Taciturn(rig.engine)
    rig.crash()
    rig.advance(600)
    writes = [each for each in rig.requests if isinstance(each, Write)]
    assert len(writes) == sweeps


def test_a_sweep_at_the_start_that_is_refused_is_tried_again() -> None:
    rig = quiet_rig()
    rig.connect5("p").send(
        wire5.publish("r", b"x", 1, 1, message_expiry(10), retain=True),
        wire5.publish("s", b"x", 1, 2, message_expiry(1_000), retain=True),
    )
    stored = memory(rig)
    rig.engine = RefusingEngine(stored, 3)
    rig.crash(away_s=60)
    assert rig.broker.stats.store_failures == 1
    assert stored.retained.count == 2
    rig.advance(61)
    assert stored.retained.count == rig.broker.stats.retained_messages == 1
    rig.advance(1_000)
    assert stored.retained.count == rig.broker.stats.retained_messages == 0


def test_the_time_of_waiting_messages_goes_on() -> None:
    rig = quiet_rig(max_queued_messages=2)
    a = rig.connect5("a", KEPT, clean=False)
    a.subscribe(("t", 1))
    a.cut()
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", b"1", 1, 1, message_expiry(10)))
    publisher.send(wire5.publish("t", b"2", 1, 2, message_expiry(500)))
    rig.crash(away_s=100)
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", b"3", 1, 1))  # has room, since the first has expired
    assert rig.broker.stats.messages_expired == 1
    got = rig.connect5("a", KEPT, clean=False, present=True).publishes5()
    assert [(each.payload, each.properties) for each in got] == [
        (b"2", message_expiry(400)),
        (b"3", b""),
    ]
    invariants.check_at_rest(rig)


# What is asked and told


def test_a_broker_that_does_not_recover_asks_nothing() -> None:
    rig = Rig()
    rig.pump()
    assert not rig.broker.is_recovering
    assert not any(isinstance(each, ReadSessions | ReadWills) for each in rig.requests)


def test_an_empty_store_is_not_worth_a_word() -> None:
    rig = Rig()
    rig.crash()
    assert not rig.facts_named("store.recovered")
    assert [type(each) for each in rig.requests] == [ReadSessions, ReadWills, Write]
    (sweep,) = (each for each in rig.requests if isinstance(each, Write))
    assert [type(each) for each in sweep.operations] == [DropExpired]


def rig_in_recovery() -> tuple[Rig, HoldingEngine]:
    rig = quiet_rig()
    witness(rig)
    rig.connect5("a", expiry(10), clean=False, will=will())
    holding = HoldingEngine(rig.engine)
    rig.engine = holding
    rig.crash(away_s=20, recovers=False)
    rig.pump()
    return rig, holding


def test_nothing_that_is_due_is_done_before_all_is_read() -> None:
    rig, holding = rig_in_recovery()
    for _ in range(2):  # the sessions, and that there are no more
        assert rig.broker.next_deadline() is None
        assert [type(request) for request, _ in holding.held] == [ReadSessions]
        holding.release(1, kind=ReadSessions)
        rig.advance(100)
        assert rig.broker.is_recovering
        assert rig.broker.session_count == 2
    assert rig.broker.stats.wills_published == 0
    for _ in range(2):
        holding.release(1, kind=ReadWills)
        rig.pump()
    assert not rig.broker.is_recovering
    rig.settle()
    assert rig.broker.stats.wills_published == 1


def test_a_client_that_comes_too_early_is_turned_away() -> None:
    rig, holding = rig_in_recovery()
    client = rig.open()
    client.send(wire.connect("a"))
    assert client.is_closed
    assert client.take() == b""
    rig.settle()
    assert not rig.broker.is_recovering
    rig.engine = holding.inner
    rig.connect("a")


def test_the_progress_is_told_once_a_second() -> None:
    rig = quiet_rig()
    for number in range(6):
        client = rig.persistent(f"c{number}")
        client.subscribe(*((f"t/{number}/{each}", 1) for each in range(900)))
        client.cut()
    holding = HoldingEngine(rig.engine)
    rig.engine = holding
    rig.crash(recovers=False)
    while rig.broker.is_recovering:
        rig.pump()
        holding.release()
        rig.now += 0.4
    details = [fact.detail for fact in rig.facts_named("store.recovering")]
    assert details == ["6 sessions with 0 messages, 0 wills so far"]
    assert rig.last_fact("store.recovered").detail == (
        "6 sessions with 0 messages, 0 wills in 2.0 s"
    )


@pytest.mark.parametrize("refused", [1, 2, 3, 4])
def test_a_store_that_cannot_be_read_stops_the_broker(refused: int) -> None:
    rig = quiet_rig()
    witness(rig)
    rig.connect5("a", expiry(10), clean=False, will=will())
    engine = memory(rig)
    rig.engine = RefusingEngine(engine, refused)
    rig.crash(away_s=20, recovers=False)
    rig.settle()
    rig.advance(100)
    broker = rig.broker
    assert broker.is_recovering
    assert broker.is_stopped
    assert broker.recovery_failure == "refused by test"
    assert broker.stats.store_failures == 1
    fact = rig.last_fact("store.not_recovered")
    assert "refused by test; the broker stops" in fact.detail
    assert broker.stats.wills_published == 0
    rig.engine = engine
    rig.crash()
    assert told(rig) == [b"gone"]


def test_a_refusal_that_comes_when_the_broker_stops_anyway() -> None:
    rig, _ = rig_in_recovery()
    rig.broker.shut_down(IMMEDIATE, rig.now)
    (request,) = (each for each in rig.requests[-1:] if isinstance(each, ReadSessions))
    rig.broker.completed(Failed(request.request_id, "too late"), rig.now)
    rig.pump()
    assert rig.broker.recovery_failure == ""
    assert rig.broker.is_stopped
    assert rig.broker.stats.store_failures == 0


class Impossible(EngineAround):
    """An engine that finds something in flight that there cannot be."""

    def __init__(self, inner: Engine, sent: InFlight) -> None:
        super().__init__(inner)
        self.sent = sent

    def take_completions(self) -> list[Completion]:
        return [self._changed(each) for each in self.inner.take_completions()]

    def _changed(self, completion: Completion) -> Completion:
        if not isinstance(completion, SessionsPage) or not completion.records:
            return completion
        record = SessionRecord(1, "a", {}, [self.sent], set(), [], None, 1)
        return SessionsPage(completion.request_id, [record])


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (InFlight(70_000, 1, 1, make_message("t", b"x", 1), None, False), "identifier 70000"),
        (InFlight(0, 1, 1, make_message("t", b"x", 1), None, False), "identifier 0"),
        (InFlight(5, 1, 1, None, None, False), "no message"),
    ],
)
def test_a_store_whose_content_is_impossible_stops_the_broker(sent: InFlight, text: str) -> None:
    rig = quiet_rig()
    rig.persistent("a")
    rig.engine = Impossible(rig.engine, sent)
    rig.crash(recovers=False)
    rig.settle()
    assert rig.broker.is_stopped
    assert text in rig.broker.recovery_failure
    assert rig.last_fact("store.not_recovered").error is not None


@pytest.mark.parametrize("pages", range(5))
def test_a_broker_that_is_stopped_while_it_recovers_leaves_all_as_it_was(pages: int) -> None:
    rig, holding = rig_in_recovery()
    for _ in range(pages):
        holding.release(1)
        rig.pump()
    was_over = not rig.broker.is_recovering
    rig.broker.shut_down(IMMEDIATE, rig.now)
    rig.settle()
    rig.advance(100)
    assert rig.broker.is_stopped
    assert was_over is (pages == 4)
    assert rig.broker.stats.wills_published == was_over
    rig.engine = holding.inner
    rig.crash()
    assert told(rig) == [b"gone"]


@pytest.mark.parametrize("seed", range(10))
def test_a_store_that_answers_late(seed: int) -> None:
    rig = quiet_rig()
    witness(rig)
    for number in range(5):
        rig.connect5(f"c{number}", KEPT, clean=False, will=will(0, b"%d" % number))
    engine = rig.engine
    rig.engine = LateEngine(engine, seed)
    rig.crash()
    rig.settle()
    rig.engine = engine
    assert sorted(told(rig)) == [b"0", b"1", b"2", b"3", b"4"]
    invariants.check_at_rest(rig)


class Forgetful(EngineAround):
    """Tells of a session that the broker knows no more than its number, as it may."""

    def submit(self, request: Request) -> None:
        """Take a request, and note what was known."""
        if isinstance(request, ClaimSession):
            self.known = request.known
        super().submit(request)

    def take_completions(self) -> list[Completion]:
        """What has been decided."""
        return [self._short(each) for each in super().take_completions()]

    def _short(self, completion: Completion) -> Completion:
        if isinstance(completion, Claimed) and completion.record is not None:
            record = completion.record
            if record.session == self.known:
                short = SessionRecord(record.session, record.client_id, {}, [], set(), [])
                return Claimed(completion.request_id, short)
        return completion


def test_a_claim_says_what_is_known() -> None:
    rig = quiet_rig()
    a = rig.persistent("a")
    a.subscribe(("t", 1))
    rig.engine = Forgetful(rig.engine)
    rig.crash()
    rig.connect("p").send(wire.publish("t", b"x", 1, 1))
    client: Client = rig.persistent("a", present=True)
    assert client.payloads() == [b"x"]
    rig.connect("a").cut()
    rig.persistent("a").take()
    rig.no_faults()
