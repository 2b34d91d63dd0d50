"""What was shared with a client that is gone, and who has it then (4.8.2 of MQTT 5.0)."""

from __future__ import annotations

import gc
from itertools import pairwise

import pytest

from mqtt_core import make_message
from mqtt_core.broker import (
    Append,
    Claimed,
    ClaimSession,
    EndSession,
    MemoryEngine,
    Operation,
    Particulars,
    Queued,
    QueuePage,
    ReadQueue,
    Request,
    RetireSession,
    SaveSession,
    Target,
    Write,
)
from tests.core import wire, wire5
from tests.core.test_shared import (
    SHARED,
    Source,
    acked,
    connect5,
    is_accepted,
    join,
    numbers,
    subscribe5,
)
from tests.core.wire5 import prop, u32
from tests.model import invariants
from tests.rig import Client, HoldingEngine, RefusingEngine, Rig, new_queue, writes

ENDINGS = ("cut", "disconnect", "takeover", "clean connect", "expiry", "expiry 0")


def persistent(rig: Rig, client_id: str, qos: int = 1) -> Client:
    """A member with a session that outlives its connection."""
    member = connect5(rig, client_id, prop(0x11, u32(1_000)))
    subscribe5(member, SHARED, qos)
    return member


def end_session(rig: Rig, member: Client, how: str) -> None:
    """End the session of a persistent member."""
    if how == "expiry 0":
        member.send(wire5.disconnect(0, prop(0x11, u32(0))))
        return
    if how == "expiry":
        member.cut()
        rig.advance(1_001)
        return
    if how != "clean connect":
        member.cut()
    rig.connect(member.name).cut()


def acked5(member: Client) -> list[int]:
    """What a client of MQTT 5.0 has got since the last look, acknowledged at QoS 1."""
    publishes = wire5.publishes(member.take())
    member.send(*(wire5.puback(publish.packet_id) for publish in publishes))
    return [int(publish.payload) for publish in publishes]


def numbers5(member: Client) -> list[int]:
    """What a client of MQTT 5.0 has got since the last look; DISCONNECT may be the last."""
    frames = [frame for frame in member.frames() if frame.kind != 14]
    return [int(wire5.read_publish(frame).payload) for frame in frames]


# The end of a session


@pytest.mark.parametrize("how", ["cut", "disconnect", "takeover"])
def test_what_a_clean_member_leaves_goes_to_another(how: str) -> None:
    rig = Rig(max_inflight_messages=2)
    a, b = join(rig, 2)
    source = Source(rig)
    b.block()
    source.publish(5)  # two in flight, three waiting
    assert numbers(a) == [1, 2]
    b.unblock()
    if how == "cut":
        a.cut()
    elif how == "disconnect":
        a.send(wire.DISCONNECT)
    else:
        rig.connect("m0")
    publishes = b.publishes()
    assert [int(publish.payload) for publish in publishes] == [1, 2]
    assert not any(publish.dup for publish in publishes)
    b.send(wire.puback(1), wire.puback(2))
    assert acked(b) == [3, 4]
    assert acked(b) == [5]
    assert rig.broker.stats.handed_over == 5
    assert rig.broker.stats.dropped_session_ended == 0
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("how", ["clean connect", "takeover", "expiry", "expiry 0"])
@pytest.mark.parametrize("is_stored", [True, False])
def test_what_a_persistent_member_leaves_goes_to_another(how: str, is_stored: bool) -> None:
    rig = Rig(max_inflight_messages=2, send_timeout_secs=86_400)
    a = persistent(rig, "a")
    source = Source(rig)
    source.publish(700)
    assert numbers5(a) == [1, 2]
    if is_stored:
        b = rig.persistent("b")
    else:
        b = rig.connect("b")
    b.subscribe((SHARED, 1))
    b.block()
    end_session(rig, a, how)
    b.unblock()
    got: list[int] = []
    while more := acked(b):
        got += more
    assert sorted(got) == list(range(1, 701))
    invariants.check_at_rest(rig)
    b.cut()
    rig.connect("b").cut()
    source.client.cut()
    invariants.check_empty(rig)


def test_the_store_forgets_the_session_when_all_is_handed_over() -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a")
    Source(rig).publish(3)
    a.take()
    b = rig.persistent("b")
    b.subscribe((SHARED, 1))
    rig.requests.clear()
    end_session(rig, a, "expiry 0")
    operations = [
        operation
        for request in rig.requests
        if isinstance(request, Write)
        for operation in request.operations
    ]
    kinds = [type(operation).__name__ for operation in operations]
    assert kinds.count("EndSession") == 1
    assert kinds.count("Settle") == kinds.count("Append") == 3
    assert kinds.index("RetireSession") < kinds.index("Settle")
    assert kinds.index("EndSession") > max(
        at for at, kind in enumerate(kinds) if kind in ("Settle", "Append")
    )
    for request in rig.requests:  # each leaves one queue as it joins the other
        if isinstance(request, Write) and any(isinstance(x, Append) for x in request.operations):
            names = [type(operation).__name__ for operation in request.operations]
            assert names.count("Settle") == names.count("Append")


def test_messages_wait_for_members_that_are_away() -> None:
    rig = Rig()
    a = rig.connect("a")
    a.subscribe((SHARED, 1))
    Source(rig).publish(3)
    b = rig.persistent("b")
    b.subscribe((SHARED, 1))
    b.cut()
    a.cut()
    assert acked(rig.persistent("b", present=True)) == [1, 2, 3]
    invariants.check_at_rest(rig)


def test_qos_0_that_waits_is_handed_over_too() -> None:
    rig = Rig()
    a = rig.connect("a")
    a.subscribe((SHARED, 1))
    a.block()
    Source(rig).publish(3, 0)
    b = rig.connect("b")
    b.subscribe((SHARED, 0))
    a.cut()
    assert numbers(b) == [1, 2, 3]


def test_a_member_has_what_it_is_handed_at_its_own_qos() -> None:
    rig = Rig()
    a = rig.connect("a")
    a.subscribe((SHARED, 1))
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"1", 2, 1, retain=True))
    a.take()
    b = connect5(rig, "b")
    subscribe5(b, SHARED, 8 | 2, prop(0x0B, b"\x09"))
    a.cut()
    (publish,) = wire5.publishes(b.take())
    assert (publish.qos, publish.retain, publish.dup) == (2, True, False)
    assert publish.properties == prop(0x0B, b"\x09")


def test_without_another_member_it_is_dropped_and_counted() -> None:
    rig = Rig(max_inflight_messages=1)
    (a,) = join(rig, 1)
    Source(rig).publish(3)
    a.cut()
    assert rig.broker.stats.dropped_session_ended == 3
    invariants.check_at_rest(rig)


def test_what_is_handed_over_drops_qos_0_from_a_full_queue() -> None:
    rig = Rig(max_queued_messages=2)
    heir = persistent(rig, "b")
    subscribe5(heir, "u", 0)
    heir.block()
    member = persistent(rig, "a")
    Source(rig).publish(1)
    assert numbers5(member) == [1]
    rig.connect("q").send(wire.publish("u", b"8"), wire.publish("u", b"9"))
    end_session(rig, member, "expiry 0")
    invariants.check(rig)
    assert rig.broker.stats.dropped_qos_0 == 1
    heir.unblock()
    assert numbers5(heir) == [9, 1]


def test_only_what_was_shared_is_handed_over() -> None:
    rig = Rig(max_inflight_messages=1)
    a = rig.persistent("a")
    a.subscribe((SHARED, 1), ("t", 1), packet_id=1)
    Source(rig).publish(400)
    a.take()
    b = rig.connect("b")
    b.subscribe((SHARED, 1))
    end_session(rig, a, "clean connect")
    got: list[int] = []
    while more := acked(b):
        got += more
    assert sorted(got) == list(range(1, 401))
    assert rig.broker.stats.dropped_session_ended == 400
    invariants.check_at_rest(rig)


def test_what_has_expired_is_not_handed_over() -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a")
    publisher = connect5(rig, "p")
    for at in range(1, 4):
        publisher.send(wire5.publish("t", b"%d" % at, 1, at, prop(0x02, u32(10))))
    b = rig.connect("b")
    a.cut()
    rig.advance(11)
    b.subscribe((SHARED, 1))
    rig.advance(1_000)
    assert b.take() == b""
    assert rig.broker.stats.messages_expired == 3


def test_it_can_be_switched_off() -> None:
    rig = Rig(max_inflight_messages=1, shared_redelivery=False)
    a, b = join(rig, 2)
    b.block()
    Source(rig).publish(3)
    b.unblock()
    a.cut()
    assert numbers(b) == []
    assert rig.broker.stats.dropped_session_ended == 3
    invariants.check_at_rest(rig)


# What must not go to another member


@pytest.mark.statement("MQTT-4.8.2-5")
@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("how", ["clean connect", "expiry", "expiry 0"])
def test_qos_2_that_has_begun_goes_to_nobody_else(answers: bool, how: str) -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a", 2)
    source = Source(rig)
    source.publish(2, 2)
    assert numbers5(a) == [1]
    if answers:
        a.send(wire.pubrec(1))
        assert a.take() == wire.pubrel(1)
    b = rig.connect("b")
    b.subscribe((SHARED, 2))
    end_session(rig, a, how)
    assert numbers(b) == [2]
    b.send(wire.pubrec(1), wire.pubcomp(1))
    assert b.take() == wire.pubrel(1)
    invariants.check_at_rest(rig)


@pytest.mark.statement("MQTT-4.8.2-4")
def test_qos_2_goes_on_with_the_same_client() -> None:
    rig = Rig()
    a, b = persistent(rig, "a", 2), rig.connect("b")
    source = Source(rig)
    source.publish(1, 2)
    assert numbers5(a) == [1]
    b.subscribe((SHARED, 2))
    a.send(wire.pubrec(1))
    a.take()
    a.cut()
    a = connect5(rig, "a", prop(0x11, u32(1_000)), clean=False)
    assert a.take() == wire.pubrel(1)
    a.send(wire.pubcomp(1))
    assert b.take() == b""


@pytest.mark.statement("MQTT-4.8.2-6")
@pytest.mark.parametrize(
    ("qos", "answer"), [(1, wire5.puback(1, 0x80)), (2, wire5.pubrec(1, 0x97))]
)
def test_what_a_member_refuses_goes_to_nobody_else(qos: int, answer: bytes) -> None:
    rig = Rig()
    a, b = connect5(rig, "a"), rig.connect("b")
    subscribe5(a, SHARED, qos)
    Source(rig).publish(1, qos)
    b.subscribe((SHARED, qos))
    a.send(answer)
    a.cut()
    assert b.take() == b""


@pytest.mark.statement("MQTT-4.8.2-5")
def test_what_was_sent_for_subscriptions_of_its_own_is_not_handed_over() -> None:
    rig = Rig()
    a = connect5(rig, "a")
    subscribe5(a, "u", 1, prop(0x0B, b"\x07"))
    subscribe5(a, SHARED, 1)
    source = Source(rig)
    source.client.send(wire.publish("u", b"own", 1, 1))
    source.publish(1)
    assert [each.payload for each in wire5.publishes(a.take())] == [b"own", b"1"]
    b = rig.connect("b")
    b.subscribe((SHARED, 1), ("u", 1))
    a.cut()
    assert numbers(b) == [1]
    assert rig.broker.stats.dropped_session_ended == 1
    invariants.check_at_rest(rig)


def test_a_group_with_wildcards_may_be_gone_with_its_last_member() -> None:
    rig = Rig(max_inflight_messages=1)
    for name in ("$share/g/a/+/c", "$share/g/a/#"):
        a = rig.connect("a")
        a.subscribe((name, 1))
        publisher = rig.connect("p")
        for at in range(1, 4):
            publisher.send(wire.publish("a/b/c", b"%d" % at, 1, at))
        a.take()
        a.cut()
    assert rig.broker.stats.dropped_session_ended == 6
    assert rig.broker.stats.handed_over == 0
    invariants.check_at_rest(rig)


# A little at a time


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_long_queue_is_handed_over_in_turns(is_stored: bool) -> None:
    rig = Rig(turn_deliveries=1, max_inflight_messages=1_000)
    a = rig.connect("a")
    a.subscribe((SHARED, 1))
    source = Source(rig)
    source.publish(900)
    assert len(numbers(a)) == 900
    if is_stored:
        b = rig.persistent("b")
    else:
        b = rig.connect("b")
    b.subscribe((SHARED, 1))
    a.cut(pump=False)
    handed = [rig.broker.stats.handed_over]
    while rig.turn():
        handed.append(rig.broker.stats.handed_over)
    steps = [after - before for before, after in pairwise(handed)]
    assert sum(steps) == 900
    assert max(steps) <= 200
    assert acked(b) == list(range(1, 901))
    rig.pump()
    invariants.check_at_rest(rig)


# A client that is only away


def test_what_waits_goes_to_those_who_are_there() -> None:
    rig = Rig(max_inflight_messages=2)
    a = persistent(rig, "a")
    source = Source(rig)
    source.publish(600)
    assert numbers5(a) == [1, 2]
    b, c = rig.connect("b"), rig.persistent("c")
    for member in (b, c):
        member.subscribe((SHARED, 1))
    a.cut()
    got: list[int] = []
    while more := acked(b) + acked(c):
        got += more
    assert sorted(got) == list(range(3, 601))
    a = connect5(rig, "a", prop(0x11, u32(1_000)), clean=False)
    assert numbers5(a) == [1, 2]  # what was sent waits for the one it was sent to
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [0, 1])
def test_what_has_expired_goes_to_nobody_when_its_member_leaves(qos: int) -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a")
    for number in (1, 2):
        packet = wire5.publish("t", b"%d" % number, 1, number, prop(0x02, u32(10)))
        rig.connect5("p").send(packet)
    assert numbers5(a) == [1]
    b = rig.connect("b")
    b.subscribe((SHARED, qos))
    rig.advance(10)
    a.cut()
    assert b.publishes() == []
    assert rig.broker.stats.messages_expired == 1
    a = connect5(rig, "a", prop(0x11, u32(1_000)), clean=False)
    assert acked5(a) == [1]
    assert a.take() == b""
    invariants.check_at_rest(rig)


def test_what_finds_no_room_waits_for_its_member() -> None:
    rig = Rig(max_inflight_messages=1, max_queued_messages=10)
    a = persistent(rig, "a")
    source = Source(rig)
    source.publish(11)
    a.take()
    b = rig.connect("b")
    b.subscribe((SHARED, 1))
    source.publish(6)  # of which one is in flight
    assert numbers(b) == [12]
    a.cut()
    assert rig.broker.stats.handed_over == 5
    a = connect5(rig, "a", prop(0x11, u32(1_000)), clean=False)
    b.send(wire.puback(1))
    got = [12]
    while more := acked5(a) + acked(b):
        got += more
    assert sorted(got) == list(range(1, 18))
    assert rig.broker.stats.dropped == 0
    invariants.check_at_rest(rig)


def test_nobody_who_is_away_is_handed_anything_before_the_session_ends() -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a")
    Source(rig).publish(3)
    a.take()
    b = persistent(rig, "b")
    b.cut()
    a.cut()
    assert rig.broker.stats.handed_over == 0
    rig.advance(1_001)  # both end, first b
    assert rig.broker.stats.dropped_session_ended == 3


def test_other_messages_are_not_gathered_without_end() -> None:
    rig = Rig(max_inflight_messages=1)
    a = rig.persistent("a")
    a.subscribe(("u", 1), (SHARED, 1))
    publisher = rig.connect("p")
    for at in range(1, 1_001):
        publisher.send(wire.publish("u", b"%d" % at, 1, at))
    Source(rig).publish(3)
    a.take()
    b = rig.connect("b")
    b.subscribe((SHARED, 1))
    a.cut()
    queue = rig.broker._sessions.by_client["a"].queue
    assert queue is not None
    assert 0 < len(queue.here()) < 600
    a = rig.persistent("a", present=True)
    got: list[int] = []
    while more := acked(a):
        got += more
    assert len(got) == 1_003
    assert b.take() == b""


def test_a_client_that_comes_back_meanwhile_keeps_the_rest() -> None:
    rig = Rig(max_inflight_messages=1)
    engine = HoldingEngine(rig.engine)
    a = persistent(rig, "a")
    source = Source(rig)
    source.publish(600)
    a.take()
    b = rig.connect("b")
    b.subscribe((SHARED, 1))
    rig.engine = engine
    a.cut()
    assert [type(request) for request, _ in engine.held] == [ReadQueue]
    a = rig.open("a")
    a.send(wire5.connect("a", prop(0x11, u32(1_000)), clean=False))
    for kind in (ClaimSession, Write):
        engine.release(kind=kind)
        rig.pump()
    rig.settle()
    is_accepted(a, present=True)
    got: list[int] = []
    while more := wire5.publishes(a.take()):
        got += [int(publish.payload) for publish in more]
        a.send(*(wire5.puback(publish.packet_id) for publish in more))
        rig.settle()
    assert b.take() == b""
    assert got == list(range(1, 601))
    invariants.check_at_rest(rig)


# A store that is late, or refuses


def test_a_client_that_comes_back_to_an_ended_session_finds_none() -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a")
    Source(rig).publish(3)
    a.take()
    b = rig.persistent("b")
    b.subscribe((SHARED, 1))
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    end_session(rig, a, "expiry 0")
    again = rig.open("a")
    again.send(wire.connect("a", clean=False))
    rig.settle()
    assert again.take() == wire.connack(present=False)
    got: list[int] = []
    while more := acked(b):
        got += more
        rig.settle()
    assert sorted(got) == [1, 2, 3]
    rig.advance(5)
    rig.settle()
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("kind", ["page", "write"])
def test_what_the_store_refuses_is_tried_again(qos: int, kind: str) -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a", qos)
    Source(rig).publish(300, qos)
    a.take()
    b = rig.persistent("b")
    b.subscribe((SHARED, qos))
    b.cut()
    refusals = [3]

    def refuses(number: int, request: Request) -> bool:
        is_it = isinstance(request, ReadQueue) if kind == "page" else writes(Append)(0, request)
        if is_it and refusals[0]:
            refusals[0] -= 1
            return True
        return False

    rig.engine = RefusingEngine(rig.engine, refuses)
    end_session(rig, a, "expiry 0")
    rig.advance(10)
    assert refusals == [0]
    assert rig.broker.stats.store_failures == 3
    first = 1 if qos == 1 else 2  # at QoS 2 the first had begun
    assert rig.broker.stats.handed_over == 301 - first
    b = rig.persistent("b", present=True)
    got: list[int] = []
    while frames := b.frames():
        for frame in frames:
            if frame.kind == 3:
                publish = wire.read_publish(frame)
                got.append(int(publish.payload))
                b.send((wire.puback if qos == 1 else wire.pubrec)(publish.packet_id))
            else:
                b.send(wire.pubcomp(frame.packet_id))
    assert sorted(got) == list(range(first, 301))
    invariants.check_at_rest(rig)
    b.cut()
    rig.connect("b").cut()
    for client in list(rig.clients):
        client.cut()
    invariants.check_empty(rig)


def test_what_is_refused_while_a_client_is_away_waits_for_it() -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a")
    Source(rig).publish(3)
    a.take()
    b = rig.persistent("b")
    b.subscribe((SHARED, 1))
    rig.engine = RefusingEngine(rig.engine, writes(Append))
    a.cut()
    assert rig.broker.stats.store_failures == 1
    assert rig.broker.stats.handed_over == 0
    a = connect5(rig, "a", prop(0x11, u32(1_000)), clean=False)
    got: list[int] = []
    while more := acked5(a):
        got += more
    assert got == [1, 2, 3]
    assert b.take() == b""
    invariants.check_at_rest(rig)


def test_who_is_back_before_the_store_has_refused_has_it_again() -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a")
    Source(rig).publish(600)
    assert numbers5(a) == [1]
    b = rig.persistent("b")
    b.subscribe((SHARED, 1))
    inner = rig.engine
    rig.engine = engine = HoldingEngine(RefusingEngine(inner, writes(Append)))
    a.cut()
    while engine.release(kind=ReadQueue):
        rig.pump()
    moves = [request for request, _ in engine.held if isinstance(request, Write)]
    assert len(moves) > 1
    assert rig.broker.stats.handed_over == 599
    a = rig.open("a")
    a.send(wire5.connect("a", prop(0x11, u32(1_000)), clean=False))
    engine.release(kind=ClaimSession)
    rig.pump()
    engine.release_last()  # what CONNACK rests on
    rig.pump()
    is_accepted(a, present=True)
    session = rig.broker._sessions.by_client["a"]
    for left in range(len(moves), 0, -1):
        assert session.handover is not None
        assert session.handover.outstanding == left
        assert engine.release(1, kind=Write)
        rig.pump()
    assert session.handover is None
    rig.engine = inner
    got: list[int] = []
    while more := acked5(a):
        got += more
    assert got == list(range(1, 601))
    assert b.take() == b""
    assert rig.broker.stats.handed_over == 0
    assert rig.broker.stats.store_failures == len(moves)
    invariants.check_at_rest(rig)


def test_who_leaves_again_while_messages_are_on_their_way() -> None:
    rig = Rig(max_inflight_messages=1)
    a = persistent(rig, "a")
    Source(rig).publish(400)
    a.take()
    b = rig.persistent("b")
    b.subscribe((SHARED, 1))
    inner = rig.engine
    rig.engine = engine = HoldingEngine(inner)
    a.cut()
    assert engine.release(1, kind=ReadQueue)
    rig.pump()
    a = rig.open("a")
    a.send(wire5.connect("a", prop(0x11, u32(1_000)), clean=False))
    engine.release(kind=ClaimSession)
    rig.pump()
    engine.release_last()  # what CONNACK rests on
    rig.pump()
    is_accepted(a, present=True)
    assert numbers5(a) == [1]
    a.cut()
    rig.settle()
    rig.engine = inner
    got: list[int] = []
    while more := acked(b):
        got += more
    assert sorted(got) == list(range(2, 401))
    a = connect5(rig, "a", prop(0x11, u32(1_000)), clean=False)
    assert acked5(a) == [1]
    invariants.check_at_rest(rig)


def test_an_ended_session_leaves_nothing_in_the_store() -> None:
    rig = Rig()
    a = persistent(rig, "a")
    end_session(rig, a, "expiry 0")
    ends = [
        operation
        for request in rig.requests
        if isinstance(request, Write)
        for operation in request.operations
        if isinstance(operation, EndSession)
    ]
    assert len(ends) == 1
    invariants.check_empty(rig)


# What it rests on


def test_a_queue_gives_up_what_it_has_and_takes_it_back() -> None:
    queue = new_queue()
    message = make_message("t", b"x", 1)
    for number in (1, 2):
        queue.add_message_stored(number, message)
    queue.add(3, 0, message)
    queue.load([Queued(1, 1, message)])
    assert [entry.number for entry in queue.here()] == [1, 3]
    assert queue.stored_count == 1
    queue.load([Queued(2, 1, message)])
    taken = queue.take_loaded()
    assert [entry.number for entry in taken] == [1, 2]
    assert (queue.count, queue.size_bytes) == (1, message.size_bytes)
    queue.put_back(taken[1:])
    queue.put_back(taken[:1])
    queue.put_back([])
    assert [entry.number for entry in queue.here()] == [1, 2, 3]
    assert (queue.count, queue.size_bytes) == (3, 3 * message.size_bytes)
    assert queue.pop_loaded().number == 1


def test_a_retired_session_is_read_but_not_claimed() -> None:
    message = make_message("t", b"x", 1)
    engine = MemoryEngine(Rig().limits)
    operations: list[Operation] = [
        SaveSession(1, "c"),
        Append(2, message, [Target(1, 1)]),
        RetireSession(1),
    ]
    engine.submit(Write(1, operations))
    engine.submit(ClaimSession(2, "c"))
    engine.submit(ReadQueue(3, 1, 0, 10, 1_000))
    engine.submit(Write(4, [RetireSession(7), EndSession(1)]))
    engine.submit(ReadQueue(5, 1, 0, 10, 1_000))
    _, claimed, page, _, empty = engine.take_completions()
    assert isinstance(claimed, Claimed)
    assert claimed.record is None
    assert isinstance(page, QueuePage)
    assert [entry.number for entry in page.entries] == [2]
    assert isinstance(empty, QueuePage)
    assert empty.entries == []


def test_what_a_delivery_is_shared_for_is_a_part_of_it() -> None:
    plain, shared = Particulars(False), Particulars(False, (), b"$share/g/t")
    assert plain != shared
    assert shared == Particulars(False, (), b"$share/g/t")
    assert hash(shared) == hash(Particulars(False, (), b"$share/g/t"))
    assert plain.is_plain
    assert shared.is_plain
    assert not Particulars(True).is_plain
    assert "$share/g/t" in repr(shared)


def test_members_and_handovers_leave_no_cycles() -> None:
    gc.collect()
    gc.disable()
    try:
        rig = Rig(max_inflight_messages=1, shared_redelivery=True)
        source = Source(rig)
        for _ in range(3):
            a, b, c = persistent(rig, "a"), persistent(rig, "b"), rig.connect("c")
            c.subscribe((SHARED, 1), ("$share/h/#", 0))
            source.publish(12)
            b.cut()
            c.cut()
            for member in (a, persistent(rig, "b")):
                member.take()
                end_session(rig, member, "expiry 0")
        invariants.check_at_rest(rig)
        assert gc.collect() == 0
    finally:
        gc.enable()
