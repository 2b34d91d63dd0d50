"""Sessions of MQTT 5.0: how long each is kept, and what a late or refusing store makes of that."""

from __future__ import annotations

import pytest

from mqtt_core.broker import ClaimSession, EndSession, HoldIdentifier, SaveSession
from tests.core import wire, wire5
from tests.core.wire5 import u32
from tests.model import invariants
from tests.rig import Client, HoldingEngine, LateEngine, RefusingEngine, Rig, writes

FOR_EVER = 0xFFFFFFFF


def expiry(seconds: int) -> bytes:
    return wire5.prop(0x11, u32(seconds))


def rig_for_sessions(**limits: int) -> Rig:
    return Rig(sys_interval_secs=0, settings=limits)


# How long


@pytest.mark.statement("MQTT-3.1.2-23")
@pytest.mark.parametrize("seconds", [1, 100])
@pytest.mark.parametrize("clean", [True, False])
def test_a_session_is_kept_for_as_long_as_was_asked_for(seconds: int, clean: bool) -> None:
    rig = rig_for_sessions()
    client = rig.connect5("a", expiry(seconds), clean=clean)
    assert client.announced[0] != 0x11  # nothing to say: it is as asked for
    client.subscribe(("t", 1))
    client.cut()
    rig.advance(seconds - 0.1)
    rig.connect5("p").send(wire5.publish("t", b"x", 1, 1))
    client = rig.connect5("a", expiry(seconds), clean=False, present=True)
    assert client.payloads() == [b"x"]
    client.cut()
    rig.advance(seconds + 0.1)
    assert rig.last_fact("session.expired").client_id == "a"
    assert rig.broker.stats.sessions_expired == 1
    rig.connect5("a", clean=False, present=False)
    assert rig.broker.stats.dropped_session_ended == 1


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("properties", [(), (expiry(0),)])
def test_a_session_without_expiry_ends_with_its_connection(
    clean: bool, properties: tuple[bytes, ...]
) -> None:
    rig = rig_for_sessions()
    client = rig.connect5("a", *properties, clean=clean)
    client.subscribe(("t", 1))
    client.cut()
    assert rig.broker.session_count == rig.broker.subscription_count == 0
    assert rig.broker.next_deadline() is None
    invariants.check_empty(rig)


def test_the_largest_expiry_is_the_limit() -> None:
    rig = rig_for_sessions(session_timeout_secs=50)
    client = rig.connect5("a", expiry(FOR_EVER))
    assert client.announced.startswith(expiry(50))
    client.cut()
    rig.advance(49.9)
    client = rig.connect5("a", expiry(51), clean=False, present=True)
    assert client.announced.startswith(expiry(50))
    client.cut()
    client = rig.connect5("a", expiry(50), clean=False, present=True)
    assert client.announced[0] != 0x11
    client.cut()
    rig.advance(50.1)
    rig.connect5("a", clean=False, present=False)


def test_the_largest_expiry_of_all() -> None:
    """136 years are more than the limit can be, which is 100."""
    hundred_years = 100 * 31_536_000
    rig = rig_for_sessions(session_timeout_secs=hundred_years)
    client = rig.connect5("a", expiry(FOR_EVER))
    assert client.announced.startswith(expiry(hundred_years))
    client.cut()
    assert rig.broker.next_deadline() == rig.now + hundred_years
    rig.advance(hundred_years - 1)
    rig.connect5("a", clean=False, present=True)


def test_where_nothing_is_kept() -> None:
    rig = rig_for_sessions(session_timeout_secs=0)
    client = rig.connect5("a", expiry(100), clean=False)
    assert client.announced.startswith(expiry(0))
    client.send(wire5.disconnect(0, expiry(50)))  # not 0 in CONNECT, so no Protocol Error
    assert client.take() == b""
    assert rig.last_fact("client.disconnected").cause == "client disconnected"
    rig.connect("b", clean=False).cut()
    invariants.check_empty(rig)


@pytest.mark.parametrize(
    ("first", "last", "kept_s"), [(100, 0, 0), (100, 10, 10), (100, 200, 200), (100, FOR_EVER, 500)]
)
def test_the_last_word_of_a_client_changes_it(first: int, last: int, kept_s: int) -> None:
    rig = rig_for_sessions(session_timeout_secs=500)
    rig.connect5("a", expiry(first)).send(wire5.disconnect(0, expiry(last)))
    assert rig.broker.session_count == int(kept_s > 0)
    if kept_s:
        rig.advance(kept_s - 0.1)
        client = rig.connect5("a", expiry(first), clean=False, present=True)
        client.send(wire5.disconnect(0, expiry(last)))
        rig.advance(kept_s + 0.1)
    invariants.check_empty(rig)


def test_the_last_word_may_not_keep_what_was_not_to_be_kept() -> None:
    rig = rig_for_sessions()
    client = rig.connect5("a")
    client.send(wire5.disconnect(0, expiry(1)))
    (frame,) = client.frames()
    assert (frame.first, frame.body[0]) == (0xE0, 0x82)
    fact = rig.last_fact("client.disconnected")
    assert (fact.cause, fact.statement) == ("protocol violation", "P5-3.14.2-2")
    invariants.check_empty(rig)


def test_each_connect_says_it_anew() -> None:
    rig = rig_for_sessions()
    rig.connect5("a", expiry(10)).cut()
    rig.connect5("a", expiry(1_000), clean=False, present=True).cut()
    rig.advance(999)
    rig.connect5("a", expiry(5), clean=False, present=True).cut()
    rig.advance(6)
    rig.connect5("a", clean=False, present=False)


def test_a_session_that_is_to_be_kept_no_longer() -> None:
    rig = rig_for_sessions()
    client = rig.connect5("a", expiry(10))
    client.subscribe(("t", 1))
    client.cut()
    client = rig.connect5("a", clean=False, present=True)
    rig.connect5("p").send(wire5.publish("t", b"x", 1, 1))
    assert client.payloads() == [b"x"]
    client.cut()
    rig.connect5("a", clean=False, present=False)


def test_a_clean_start_ends_what_was_there() -> None:
    rig = rig_for_sessions()
    client = rig.connect5("a", expiry(10))
    client.subscribe(("t", 1))
    client.cut()
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", b"1", 1, 1))
    client = rig.connect5("a", expiry(10), clean=True)
    assert publisher.take() == wire5.puback(1)
    publisher.send(wire5.publish("t", b"2", 1, 2))
    assert publisher.take() == wire5.puback(2, 0x10)
    assert client.take() == b""
    assert rig.broker.stats.dropped_session_ended == 1
    client.cut()
    rig.connect5("a", clean=False, present=True)


# Taken over


@pytest.mark.statement("MQTT-3.1.4-3")
@pytest.mark.parametrize("first", [0, 100])
@pytest.mark.parametrize("second", [0, 100])
@pytest.mark.parametrize("clean", [True, False])
def test_a_takeover_closes_a_connection_and_so_ends_what_ends_with_it(
    first: int, second: int, clean: bool
) -> None:
    rig = rig_for_sessions()
    older = rig.connect5("a", expiry(first))
    older.subscribe(("t", 1))
    is_present = first > 0 and not clean
    newer = rig.connect5("a", expiry(second), clean=clean, present=is_present)
    assert older.take() == wire5.disconnect(0x8E)
    rig.connect5("p").send(wire5.publish("t", b"x", 1, 1))
    assert newer.payloads() == ([b"x"] if is_present else [])
    newer.cut()
    assert rig.broker.session_count == 1 + int(second > 0)
    assert rig.broker.stats.takeovers == 1
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("second", [0, 100])
def test_a_takeover_of_a_kept_session_that_was_to_be_kept_no_longer(second: int) -> None:
    rig = rig_for_sessions()
    rig.connect5("a", expiry(100)).cut()
    older = rig.connect5("a", expiry(0), clean=False, present=True)
    older.subscribe(("t", 1))
    newer = rig.connect5("a", expiry(second), clean=False, present=False)
    publisher = rig.connect5("p")
    publisher.send(wire5.publish("t", b"x", 1, 1))
    assert publisher.take() == wire5.puback(1, 0x10)
    newer.subscribe(("t", 1))
    newer.cut()
    publisher.send(wire5.publish("t", b"y", 1, 2))
    assert publisher.take() == wire5.puback(2, None if second else 0x10)
    newer = rig.connect5("a", expiry(0), clean=False, present=second > 0)
    assert newer.payloads() == ([b"y"] if second else [])
    invariants.check_at_rest(rig)


def test_3_1_1_and_5_0_take_over_from_each_other() -> None:
    rig = rig_for_sessions(session_timeout_secs=60)
    rig.persistent("a").subscribe(("t", 1))
    rig.connect5("a", expiry(10), clean=False, present=True)
    rig.persistent("a", present=True)
    rig.connect5("a", expiry(10), clean=False, present=True).cut()
    rig.advance(9)
    rig.persistent("a", present=True).cut()
    rig.advance(59)
    rig.connect5("a", clean=False, present=True)
    assert rig.broker.subscription_count == 1


# The store


def coming(rig: Rig, seconds: int = 100, *, clean: bool = False) -> Client:
    """A CONNECT of "a" that waits for the store."""
    client = rig.open("newer")
    client.level = 5
    client.send(wire5.connect("a", expiry(seconds), clean=clean))
    return client


def is_present(client: Client) -> bool:
    """What CONNACK says, which must have come."""
    frame = wire.split(client.received)[0][0]
    assert (frame.first, frame.body[1]) == (0x20, 0)
    return frame.body[0] == 1


@pytest.mark.parametrize("has_will", [True, False])
@pytest.mark.parametrize("leaves", [True, False])
def test_a_session_that_ends_while_its_client_is_coming_back(has_will: bool, leaves: bool) -> None:
    """The store has forgotten it when the newer connection is answered, so it has no session."""
    rig = rig_for_sessions()
    rig.connect5("a", expiry(100)).cut()
    will = wire5.Will5("w") if has_will else None
    older = rig.connect5("a", expiry(0), clean=False, present=True, will=will)
    older.subscribe(("t", 1))
    engine = rig.engine
    holding = HoldingEngine(engine)
    rig.engine = holding
    newer = coming(rig)
    holding.release(kind=ClaimSession)
    if leaves:
        older.send(wire5.DISCONNECT)
    rig.settle()
    rig.engine = engine
    assert not is_present(newer)
    newer.take()
    newer.subscribe(("t", 1))
    newer.cut()
    rig.connect5("p").send(wire5.publish("t", b"kept", 1, 1))
    newer = rig.connect5("a", expiry(100), clean=False, present=True)
    assert newer.payloads() == [b"kept"]
    invariants.check_at_rest(rig)


def test_a_session_whose_time_comes_while_its_client_is_coming_back() -> None:
    rig = rig_for_sessions()
    client = rig.connect5("a", expiry(10))
    client.subscribe(("t", 1))
    client.cut()
    rig.advance(9)
    engine = rig.engine
    rig.engine = HoldingEngine(engine)
    client = coming(rig)
    rig.advance(5)
    assert rig.broker.session_count == 1
    rig.settle()
    assert is_present(client)
    rig.advance(1_000)
    rig.no_faults()


def test_a_session_whose_time_comes_while_its_client_is_coming_back_in_vain() -> None:
    rig = rig_for_sessions()
    rig.connect5("a", expiry(10)).cut()
    rig.advance(9)
    engine = rig.engine
    rig.engine = HoldingEngine(engine)
    client = coming(rig)
    rig.advance(5)
    client.cut()
    rig.settle()
    rig.advance(30)
    rig.settle()
    invariants.check_empty(rig)


@pytest.mark.parametrize("refused", [1, 2])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("is_attached", [True, False])
def test_a_store_that_refuses_leaves_the_session_that_was_there(
    refused: int, clean: bool, is_attached: bool
) -> None:
    rig = rig_for_sessions()
    older = rig.connect5("a", expiry(100))
    older.subscribe(("t", 1))
    if not is_attached:
        older.cut()
    engine = rig.engine
    rig.engine = RefusingEngine(engine, refused)
    client = coming(rig, clean=clean)
    frames = client.frames()
    assert frames[0].body[:2] == b"\x00\x88"
    assert rig.broker.stats.store_failures == 1
    assert rig.last_fact("store.failed").client_id == "a"
    rig.engine = engine
    assert older.is_closed is not is_attached
    client = rig.connect5("a", expiry(100), clean=False, present=True)
    rig.connect5("p").send(wire5.publish("t", b"x", 1, 1))
    assert client.payloads() == [b"x"]
    invariants.check_at_rest(rig)


def test_a_store_that_does_not_take_a_new_session() -> None:
    rig = rig_for_sessions()
    engine = rig.engine
    rig.engine = RefusingEngine(engine, writes(SaveSession))
    client = coming(rig)
    assert client.frames()[0].body[:2] == b"\x00\x88"
    rig.engine = engine
    rig.connect5("a", clean=False, present=False).cut()
    invariants.check_empty(rig)


def test_a_store_that_does_not_end_a_session() -> None:
    rig = rig_for_sessions()
    rig.connect5("a", expiry(100)).cut()
    engine = rig.engine
    rig.engine = RefusingEngine(engine, writes(EndSession))
    client = coming(rig, 0, clean=True)
    assert client.frames()[0].body[:2] == b"\x00\x88"
    rig.engine = engine
    rig.connect5("a", clean=False, present=True)


def test_a_qos_2_identifier_is_held_for_the_session_in_the_store() -> None:
    rig = rig_for_sessions()
    client = rig.connect5("a", expiry(100))
    client.send(wire5.publish("t", b"1", 2, 7))
    assert client.take() == wire5.pubrec(7, 0x10)
    kinds = [
        type(operation)
        for request in rig.requests
        for operation in getattr(request, "operations", ())
    ]
    assert kinds.count(HoldIdentifier) == 1
    client.cut()
    client = rig.connect5("a", expiry(100), clean=False, present=True)
    client.send(wire5.publish("t", b"1", 2, 7, dup=True))
    assert client.take() == wire5.pubrec(7)
    client.send(wire5.pubrel(7))
    assert client.take() == wire5.pubcomp(7)
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("seed", range(40))
def test_what_a_restless_client_of_both_versions_finds(seed: int) -> None:
    """Whatever the order of the store's answers, what CONNACK says is true: a subscription that
    is there is served to the end, and one that is not there is not."""
    rig = rig_for_sessions(session_timeout_secs=20)
    engine = LateEngine(rig.engine, seed)
    rig.engine = engine
    random = engine._random
    clients: list[Client] = []
    for _ in range(40):
        action = random.randrange(5)
        if action < 3:
            client = rig.open()
            clients.append(client)
            clean = random.random() < 0.3
            if random.random() < 0.3:
                client.send(wire.connect("a", clean=clean))
                client.send(wire.subscribe(1, ("t", 1)))
            else:
                client.level = 5
                client.send(wire5.connect("a", expiry(random.choice([0, 3, 50])), clean=clean))
                client.send(wire5.subscribe(1, ("t", 1)))
        elif clients:
            client = random.choice(clients)
            if action == 3:
                client.cut()
            else:
                client.send(wire.DISCONNECT)
        if random.random() < 0.3:
            rig.advance(random.choice([0.5, 1, 5]))
        invariants.check(rig)
    rig.settle()
    invariants.check_at_rest(rig)
    rig.engine = engine.inner
    was_there = rig.broker.session_count == 1
    is_subscribed = rig.broker.subscription_count == 1
    rig.connect5("p").send(wire5.publish("t", b"x", 1, 1))
    session = rig.broker._sessions.get("a")
    is_kept = session is not None and (session.channel is None or session.outlives_connection)
    client = rig.open()
    client.level = 5
    client.send(wire5.connect("a", expiry(50), clean=False))
    assert is_present(client) is (was_there and is_kept)
    frames = client.frames()
    assert (len(frames) == 2) is (is_kept and is_subscribed)
    rig.no_faults()
    invariants.check_at_rest(rig)
