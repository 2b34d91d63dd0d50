"""Answers of the store that come late, out of order, as refusals, or for those who have gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_core.broker import (
    Append,
    ClaimSession,
    Completion,
    Done,
    MatchRetained,
    MemoryEngine,
    ReadQueue,
    Request,
    SaveReceived,
    SaveSent,
    SaveSubscription,
    Write,
)
from tests.core import wire, wire5
from tests.core.test_delivery import acknowledge
from tests.model import invariants
from tests.rig import Client, EngineAround, HoldingEngine, RefusingEngine, Rig, writes

Refuses = Callable[[int, Request], bool]


def hold(rig: Rig, refuses: Refuses | None = None) -> HoldingEngine:
    """From now on the store answers when the test lets it; some requests it refuses."""
    engine = HoldingEngine(rig.engine if refuses is None else RefusingEngine(rig.engine, refuses))
    rig.engine = engine
    return engine


def let_go(rig: Rig, engine: HoldingEngine, count: int = 1, kind: type[Request] = Request) -> None:
    """The store gives its next answers."""
    assert engine.release(count, kind=kind)
    rig.pump()


def appends(payload: bytes) -> Refuses:
    """For `RefusingEngine`: the write with this message."""
    return lambda _, request: (
        isinstance(request, Write)
        and any(
            isinstance(each, Append) and each.message.payload == payload
            for each in request.operations
        )
    )


def reads(kind: type[Request]) -> Refuses:
    """For `RefusingEngine`: every request of this kind."""
    return lambda _, request: isinstance(request, kind)


def away(rig: Rig, client_id: str, *filters: tuple[str, int]) -> None:
    """A persistent session whose client has left."""
    client = rig.persistent(client_id)
    client.subscribe(*filters)
    client.cut()


# In their turn


def test_a_pubrec_that_comes_again_while_the_first_is_stored() -> None:
    rig = Rig()
    reader = rig.persistent("r")
    reader.subscribe(("t", 2))
    rig.connect("p").send(wire.publish("t", b"x", 2, 1))
    (got,) = reader.publishes()
    engine = hold(rig)
    reader.send(wire.pubrec(got.packet_id), wire.pubrec(got.packet_id))
    assert reader.take() == b""
    let_go(rig, engine)
    assert reader.take() == wire.pubrel(got.packet_id)
    reader.send(wire.pubrec(got.packet_id))
    assert reader.take() == wire.pubrel(got.packet_id)
    reader.send(wire.pubcomp(got.packet_id))
    invariants.check_at_rest(rig)


def test_no_answer_overtakes_one_that_waits_for_the_store() -> None:
    rig = Rig()
    away(rig, "r", ("t", 1))
    publisher = rig.connect("p")
    hold(rig)
    publisher.send(
        wire.publish("t", b"", 1, 1),
        wire.publish("nobody", b"", 1, 2),
        wire.publish("nobody", b"", 2, 3),
        wire.pubrel(9),
        wire.subscribe(4, ("u", 0)),
        wire.unsubscribe(5, "nothing"),
    )
    assert publisher.take() == b""
    rig.settle()
    assert publisher.take() == (
        wire.puback(1)
        + wire.puback(2)
        + wire.pubrec(3)
        + wire.pubcomp(9)
        + wire.suback(4, 0)
        + wire.unsuback(5)
    )
    invariants.check_at_rest(rig)


def test_two_messages_at_qos_2_are_stored_one_after_the_other() -> None:
    rig = Rig()
    away(rig, "r", ("t", 1))
    publisher = rig.connect("p")
    engine = hold(rig)
    publisher.send(wire.publish("t", b"a", 2, 1), wire.publish("t", b"b", 2, 2))
    let_go(rig, engine)
    assert publisher.take() == wire.pubrec(1)
    let_go(rig, engine)
    assert publisher.take() == wire.pubrec(2)
    invariants.check_at_rest(rig)


def test_an_identifier_that_is_released_and_used_again_while_its_first_message_is_stored() -> None:
    rig = Rig()
    away(rig, "r", ("t", 1))
    publisher = rig.connect("p")
    engine = hold(rig)
    publisher.send(wire.publish("t", b"a", 2, 1), wire.pubrel(1), wire.publish("t", b"b", 2, 1))
    let_go(rig, engine)
    assert publisher.take() == wire.pubrec(1) + wire.pubcomp(1)
    publisher.send(wire.publish("t", b"b", 2, 1, dup=True))
    rig.settle()
    assert publisher.take() == wire.pubrec(1) + wire.pubrec(1)
    reader = rig.open()
    reader.send(wire.connect("r", clean=False))
    rig.settle()
    assert reader.take()[:4] == wire.connack(present=True)
    assert rig.broker.stats.publishes_received == 3
    assert rig.broker.stats.publishes_sent == 2
    invariants.check(rig)


def test_the_number_of_retained_messages_is_that_of_the_newest_write() -> None:
    rig = Rig()
    engine = hold(rig)
    publisher = rig.open()
    publisher.send(wire.connect("p"))
    rig.settle()
    publisher.send(wire.publish("a", b"x", 0, retain=True), wire.publish("b", b"x", 0, retain=True))
    assert engine.release_last()
    rig.pump()
    assert rig.broker.stats.retained_messages == 2
    let_go(rig, engine)
    assert rig.broker.stats.retained_messages == 2


class Taciturn(EngineAround):
    """An engine that does not say how many messages it retains."""

    def take_completions(self) -> list[Completion]:
        return [
            Done(each.request_id) if isinstance(each, Done) else each
            for each in self.inner.take_completions()
        ]


def test_an_engine_need_not_count_what_it_retains() -> None:
    rig = Rig(engine=Taciturn(MemoryEngine(Rig().limits)))
    publisher = rig.connect("p")
    publisher.send(wire.publish("r", b"x", 1, 1, retain=True))
    assert publisher.take() == wire.puback(1)
    assert rig.broker.stats.retained_messages == 0
    publisher.send(wire.subscribe(2, ("r", 0)))
    assert publisher.take() == wire.suback(2, 0) + wire.publish("r", b"x", retain=True)
    rig.connect5("five").send(
        wire5.publish("e", b"x", 0, 0, wire5.prop(2, wire5.u32(5)), retain=True)
    )
    rig.advance(61)  # those that have expired are gone, and nobody says how many are left
    assert rig.broker.stats.retained_messages == 0
    publisher.send(wire.subscribe(3, ("#", 0)))
    assert publisher.take() == wire.suback(3, 0) + wire.publish("r", b"x", retain=True)


def test_all_who_wait_read_on_when_the_store_has_caught_up() -> None:
    rig = Rig(total_uncommitted_bytes=4_096)
    away(rig, "r", ("t", 1))
    one, other = rig.connect("one"), rig.connect("other")
    engine = hold(rig)
    one.send(wire.publish("t", bytes(3_000), 1, 1), wire.PINGREQ)
    assert one.take() == wire.PINGRESP
    other.send(wire.publish("t", bytes(1_500), 1, 1), wire.PINGREQ)
    one.send(wire.publish("t", b"", 1, 2), wire.PINGREQ)
    assert (one.take(), other.take()) == (b"", b"")
    let_go(rig, engine)
    assert one.take() == wire.puback(1) + wire.PINGRESP
    assert other.take() == wire.PINGRESP
    rig.settle()
    assert (one.take(), other.take()) == (wire.puback(2), wire.puback(1))
    invariants.check_at_rest(rig)


def test_each_wait_for_the_store_has_its_own_time() -> None:
    rig = Rig(max_uncommitted_messages=1, request_timeout_secs=30)
    away(rig, "r", ("t", 1))
    publisher = rig.connect("p")
    engine = hold(rig)
    publisher.send(wire.publish("t", b"", 1, 1))
    rig.settle()
    rig.advance(31)  # that wait is long over
    publisher.send(wire.publish("t", b"", 1, 2))
    let_go(rig, engine)
    rig.advance(20)
    publisher.send(wire.publish("t", b"", 1, 3))
    rig.advance(15)
    assert not publisher.is_closed
    rig.advance(16)
    assert publisher.is_closed
    assert rig.last_fact("client.disconnected").cause == "a decision did not come in time"
    assert publisher.take() == wire.puback(1) + wire.puback(2)


# Refused


@pytest.mark.parametrize("has_left", [False, True])
def test_a_subscription_that_is_not_stored_ends_the_connection(has_left: bool) -> None:
    rig = Rig()
    client = rig.persistent("a")
    engine = hold(rig, writes(SaveSubscription))
    client.send(wire.subscribe(1, ("t", 1)))
    if has_left:
        client.cut()
    rig.settle()
    assert client.is_closed
    assert client.take() == b""
    assert rig.last_fact("store.failed").detail == "refused by test"
    assert len(rig.facts_named("client.disconnected")) == 1
    assert rig.broker.stats.store_failures == 1
    assert engine.held == []
    invariants.check_at_rest(rig)


def test_what_waits_behind_a_refused_message_at_qos_2_comes() -> None:
    rig = Rig()
    reader = rig.persistent("r")
    reader.subscribe(("t", 2))
    publisher = rig.connect("p")
    engine = hold(rig, appends(b"refused"))
    publisher.send(wire.publish("t", b"refused", 2, 1), wire.publish("t", b"stored", 2, 2))
    let_go(rig, engine)
    assert publisher.is_closed
    rig.settle()
    assert reader.payloads() == [b"stored"]
    invariants.check_at_rest(rig)


def test_a_refused_message_that_had_been_dropped_meanwhile() -> None:
    rig = Rig(max_queued_messages=1, queue_full_policy="drop-oldest")
    away(rig, "r", ("t", 1))
    publisher = rig.connect("p")
    hold(rig, appends(b"refused"))
    publisher.send(wire.publish("t", b"refused", 1, 1), wire.publish("t", b"stored", 1, 2))
    rig.settle()
    assert publisher.is_closed
    assert rig.broker.stats.queued_messages == 1
    reader = rig.open()
    reader.send(wire.connect("r", clean=False))
    rig.settle()
    assert reader.take() == wire.connack(present=True) + wire.publish("t", b"stored", 1, 1)
    invariants.check_at_rest(rig)


def test_a_will_that_is_not_stored_ends_nobodys_connection() -> None:
    rig = Rig()
    away(rig, "r", ("w", 1))
    watcher = rig.connect("watcher")
    watcher.subscribe(("w", 0))
    client = rig.connect("a", will=("w", b"gone", 1, False))
    hold(rig, writes(Append))
    client.cut()
    rig.settle()
    assert watcher.payloads() == [b"gone"]
    assert rig.last_fact("store.failed").client_id == ""
    assert rig.broker.stats.queued_messages == 0
    watcher.send(wire.PINGREQ)
    assert watcher.take() == wire.PINGRESP
    invariants.check_at_rest(rig)


# For a session that has ended


TIMEOUT_S = 10


def test_a_refused_message_whose_receiver_is_no_more_and_its_repeat() -> None:
    rig = Rig(session_timeout_secs=TIMEOUT_S)
    reader = rig.persistent("r")
    reader.subscribe(("t", 2))
    publisher = rig.persistent("p")
    engine = hold(rig, writes(Append))
    publisher.send(wire.publish("t", b"x", 2, 1))
    reader.cut()
    rig.advance(TIMEOUT_S)
    assert rig.broker.session_count == 1
    rig.settle()
    assert publisher.is_closed
    rig.engine = engine.inner
    publisher = rig.connect("p", clean=False, present=True)
    publisher.send(wire.publish("t", b"x", 2, 1, dup=True))
    assert publisher.take() == wire.pubrec(1)
    assert rig.broker.stats.publishes_sent == 0
    invariants.check_at_rest(rig)


def test_a_repeat_of_a_refused_message_finds_the_queue_full() -> None:
    rig = Rig(max_queued_messages=1)
    away(rig, "r", ("t", 1))
    engine = rig.engine
    publisher = rig.persistent("p")
    rig.engine = RefusingEngine(engine, writes(Append))
    publisher.send(wire.publish("t", b"x", 2, 1))
    assert publisher.is_closed
    rig.engine = engine
    rig.connect("q").send(wire.publish("t", b"y", 1, 1))
    publisher = rig.persistent("p", present=True)
    publisher.send(wire.publish("t", b"x", 2, 1, dup=True))
    assert publisher.take() == wire.pubrec(1)
    assert rig.broker.stats.dropped_queue_full == 1
    assert rig.persistent("r", present=True).payloads() == [b"y"]
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("kind", [SaveSent, SaveReceived])
def test_a_refusal_of_a_step_of_an_exchange_that_has_ended(kind: type[object]) -> None:
    rig = Rig(session_timeout_secs=TIMEOUT_S)
    away(rig, "r", ("t", 2))
    rig.connect("p").send(wire.publish("t", b"x", 2, 1))
    engine = hold(rig, writes(kind))
    reader = rig.open()
    reader.send(wire.connect("r", clean=False))
    let_go(rig, engine, kind=ClaimSession)
    let_go(rig, engine, kind=Write)
    let_go(rig, engine, kind=ReadQueue)
    if kind is SaveReceived:
        let_go(rig, engine)
        reader.send(wire.pubrec(1))
    reader.cut()
    rig.advance(TIMEOUT_S)
    assert rig.broker.session_count == 1
    assert len(engine.held) == 1
    rig.settle()
    assert rig.broker.stats.store_failures == 0
    invariants.check_at_rest(rig)


def reading(rig: Rig, refuses: Refuses | None) -> tuple[Client, HoldingEngine]:
    """A client whose queue is being read from the store."""
    away(rig, "r", ("t", 1))
    rig.connect("p").send(wire.publish("t", b"x", 1, 1), wire.publish("t", b"y", 1, 2))
    engine = hold(rig, refuses)
    reader = rig.open()
    reader.send(wire.connect("r", clean=False))
    let_go(rig, engine, kind=ClaimSession)
    let_go(rig, engine, kind=Write)
    assert reader.take() == wire.connack(present=True)
    assert isinstance(engine.held[0][0], ReadQueue)
    return reader, engine


def test_a_page_of_a_queue_for_a_client_that_has_gone_waits_for_it() -> None:
    rig = Rig()
    reader, engine = reading(rig, None)
    reader.cut()
    rig.settle()
    rig.engine = engine.inner
    reader = rig.connect("r", clean=False, present=True)
    assert [each.payload for each in acknowledge(reader)] == [b"x", b"y"]
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("refuses", [None, reads(ReadQueue)])
def test_a_page_of_the_queue_of_a_session_that_has_ended(refuses: Refuses | None) -> None:
    rig = Rig(session_timeout_secs=TIMEOUT_S)
    reader, _ = reading(rig, refuses)
    reader.cut()
    rig.advance(TIMEOUT_S)
    assert rig.broker.session_count == 1
    rig.settle()
    assert rig.broker.stats.store_failures == 0
    assert rig.broker.stats.dropped_session_ended == 2
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("refuses", [None, reads(MatchRetained)])
def test_a_page_of_retained_messages_for_a_session_that_has_ended(refuses: Refuses | None) -> None:
    rig = Rig()
    rig.connect("p").send(wire.publish("r", b"x", 1, 1, retain=True))
    reader = rig.connect("r")
    hold(rig, refuses)
    reader.send(wire.subscribe(1, ("r", 1)))
    assert reader.take() == wire.suback(1, 1)
    reader.cut()
    rig.settle()
    assert rig.broker.stats.store_failures == 0
    invariants.check_at_rest(rig)


def test_a_clean_connect_that_is_not_waited_for_ends_the_session_that_was_away() -> None:
    rig = Rig()
    away(rig, "a", ("t", 1))
    engine = hold(rig)
    client = rig.open()
    client.send(wire.connect("a"))
    let_go(rig, engine, kind=ClaimSession)
    client.cut()
    rig.settle()
    assert rig.broker.session_count == 0
    rig.engine = engine.inner
    rig.connect("a", clean=False, present=False)
    invariants.check_at_rest(rig)


def test_several_retained_messages_in_flight_are_found_again() -> None:
    engine = MemoryEngine(Rig().limits)
    rig = Rig(engine=engine)
    publisher = rig.connect("p")
    for topic in ("r/1", "r/2"):
        publisher.send(wire.publish(topic, b"kept", 1, 1, retain=True))
    rig.persistent("a").subscribe(("r/#", 1))
    rig = Rig(engine=engine)
    client = rig.connect("a", clean=False, present=True)
    got = client.publishes()
    assert sorted(each.topic for each in got) == ["r/1", "r/2"]
    assert all(each.retain and each.dup for each in got)


# Retained messages


def test_pages_of_two_clients_leave_out_what_has_changed_since() -> None:
    rig = Rig()
    publisher = rig.connect("p")
    publisher.send(wire.publish("r/1", b"old", retain=True), wire.publish("r/2", b"x", retain=True))
    readers = [rig.connect("one"), rig.connect("two")]
    engine = hold(rig)
    for reader in readers:
        reader.send(wire.subscribe(1, ("r/#", 0)))
    publisher.send(wire.publish("r/1", b"new", retain=True))
    for reader in readers:
        let_go(rig, engine, kind=MatchRetained)
        assert reader.take() == (
            wire.suback(1, 0) + wire.publish("r/1", b"new") + wire.publish("r/2", b"x", retain=True)
        )
    rig.settle()
    invariants.check_at_rest(rig)


def test_what_is_left_of_a_page_goes_through_a_window_that_has_become_small() -> None:
    rig = Rig(max_inflight_messages=4)
    publisher = rig.connect("p")
    for number in range(4):
        publisher.send(wire.publish(f"r/{number}", b"kept", 1, 1, retain=True))
    reader = rig.persistent("r")
    reader.subscribe(("t", 1))
    engine = hold(rig)
    reader.send(wire.subscribe(1, ("r/#", 1)))
    reader.cut()
    rig.settle()  # the page comes for nobody
    rig.engine = engine.inner
    for number in range(3):
        publisher.send(wire.publish("t", b"%d" % number, 1, 1))
    reader = rig.connect("r", clean=False, present=True)
    got = reader.publishes()
    assert len(got) == 4
    reader.send(*(wire.puback(each.packet_id) for each in got))
    got += acknowledge(reader)
    assert sorted(each.payload for each in got) == [b"0", b"1", b"2", *[b"kept"] * 4]
    invariants.check_at_rest(rig)


def test_more_readers_than_one_slice_asks_for() -> None:
    rig = Rig()
    rig.connect("p").send(wire.publish("r", b"x", retain=True))
    readers = [rig.connect(f"{number}") for number in range(12)]
    for reader in readers:
        reader.send(wire.subscribe(1, ("r", 0)), pump=False)
    rig.pump()
    expected = wire.suback(1, 0) + wire.publish("r", b"x", retain=True)
    assert [reader.take() for reader in readers] == [expected] * 12
    invariants.check_at_rest(rig)


def test_a_page_of_what_the_store_is_about_to_refuse_is_empty() -> None:
    rig = Rig()
    away(rig, "r", ("t", 1))
    publisher = rig.connect("p")
    engine = hold(rig, appends(b"x"))
    publisher.send(wire.publish("t", b"x", 1, 1))
    reader = rig.open("r")
    reader.send(wire.connect("r", clean=False))
    for _ in range(3):  # its claim, the change that makes, and the page
        assert engine.release_last()
        rig.pump()
    assert reader.take() == wire.connack(present=True)
    assert rig.broker.stats.queued_messages == 1
    rig.settle()
    assert rig.broker.stats.queued_messages == 0
    assert publisher.is_closed
    assert reader.take() == b""
    invariants.check_at_rest(rig)
