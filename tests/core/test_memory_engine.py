"""The storage engine that other engines are compared with."""

from __future__ import annotations

import pytest

from mqtt_core import Will, make_message
from mqtt_core.broker import (
    RETAINED_FULL,
    Append,
    Claimed,
    ClaimSession,
    Completion,
    DeleteRetained,
    DeleteSubscription,
    Done,
    EndSession,
    Failed,
    HoldIdentifier,
    Limits,
    MatchRetained,
    MemoryEngine,
    Operation,
    Options,
    Particulars,
    PutRetained,
    QueuePage,
    ReadQueue,
    ReadSessions,
    ReadWills,
    ReleaseIdentifier,
    Request,
    RetainedPage,
    RetireSession,
    SaveExpiry,
    SaveReceived,
    SaveSent,
    SaveSession,
    SaveSubscription,
    SaveWill,
    SessionRecord,
    SessionsPage,
    Settle,
    StoredWill,
    Target,
    WillsPage,
    Write,
)

MESSAGE = make_message("t", b"x", 2)


def engine_with(*operations: Operation, **limits: int) -> MemoryEngine:
    engine = MemoryEngine(Limits(**limits))
    write(engine, SaveSession(1, "c"), *operations)
    return engine


def write(engine: MemoryEngine, *operations: Operation) -> None:
    engine.submit(Write(9, list(operations)))
    (done,) = engine.take_completions()
    assert isinstance(done, Done)
    assert done.request_id == 9


def claim(engine: MemoryEngine, client_id: str = "c") -> SessionRecord | None:
    engine.submit(ClaimSession(3, client_id))
    (claimed,) = engine.take_completions()
    assert isinstance(claimed, Claimed)
    assert claimed.request_id == 3
    return claimed.record


def record_of(engine: MemoryEngine) -> SessionRecord:
    record = claim(engine)
    assert record is not None
    return record


def sessions(engine: MemoryEngine, after: int = 0, limit: int = 100) -> list[SessionRecord]:
    engine.submit(ReadSessions(6, after, limit))
    (page,) = engine.take_completions()
    assert isinstance(page, SessionsPage)
    return page.records


def wills(engine: MemoryEngine, after: str = "", limit: int = 100) -> list[StoredWill]:
    engine.submit(ReadWills(6, after, limit))
    (page,) = engine.take_completions()
    assert isinstance(page, WillsPage)
    return page.wills


def queue(engine: MemoryEngine, after: int = 0, limit: int = 100, size: int = 1 << 30) -> list[int]:
    engine.submit(ReadQueue(4, 1, after, limit, size))
    (page,) = engine.take_completions()
    assert isinstance(page, QueuePage)
    return [entry.number for entry in page.entries]


def append(number: int, *, qos: int = 2, packet_id: int = 0) -> Append:
    return Append(number, MESSAGE, [Target(1, qos, packet_id)])


def test_a_session_is_there_until_it_is_ended() -> None:
    engine = engine_with(SaveSubscription(1, b"a/#", 1), SaveSubscription(1, b"a/#", 2))
    assert claim(engine, "other") is None
    record = record_of(engine)
    assert (record.session, record.client_id) == (1, "c")
    assert record.subscriptions == {b"a/#": (2, None)}
    write(engine, DeleteSubscription(1, b"a/#"), DeleteSubscription(1, b"none"))
    assert record_of(engine).subscriptions == {}
    write(engine, EndSession(1))
    assert claim(engine) is None
    write(engine, EndSession(1))


def test_a_client_may_have_a_new_session_before_the_old_one_is_ended() -> None:
    engine = engine_with(SaveSession(2, "c"), EndSession(1))
    assert record_of(engine).session == 2


def test_messages_wait_in_the_order_of_their_numbers() -> None:
    engine = engine_with(*(append(number) for number in range(1, 6)))
    assert queue(engine) == [1, 2, 3, 4, 5]
    assert queue(engine, after=2, limit=2) == [3, 4]
    assert queue(engine, size=1) == [1]
    assert queue(engine, size=3 * MESSAGE.size_bytes) == [1, 2, 3]
    assert queue(engine, after=5) == []
    record = record_of(engine)
    assert record.queued == [(number, MESSAGE.size_bytes, 0.0) for number in range(1, 6)]
    write(engine, Settle(1, 3), Settle(1, 77))
    assert queue(engine) == [1, 2, 4, 5]


def test_many_messages_come_and_go() -> None:
    engine = engine_with(*(append(number) for number in range(1, 2_001)))
    for number in range(1, 1_901):
        write(engine, Settle(1, number))
    assert queue(engine) == list(range(1_901, 2_001))
    assert len(engine._sessions[1].waiting) < 1_000


def test_what_was_sent_stands_in_the_order_of_sending() -> None:
    engine = engine_with(*(append(number) for number in range(1, 5)))
    write(engine, SaveSent(1, 2, 20), SaveSent(1, 1, 10), append(5, qos=1, packet_id=50))
    write(engine, SaveReceived(1, 2), SaveSent(1, 99, 1), SaveReceived(1, 99))
    assert queue(engine) == [3, 4]
    sent = record_of(engine).in_flight
    assert [(each.number, each.packet_id, each.is_received) for each in sent] == [
        (1, 10, False),
        (5, 50, False),
        (2, 20, True),
    ]
    assert [each.qos for each in sent] == [2, 1, 2]
    write(engine, Settle(1, 2), Settle(1, 1))
    assert [each.number for each in record_of(engine).in_flight] == [5]


def test_what_a_delivery_has_of_its_own_stays_with_it() -> None:
    own = Particulars(True, (3, 4))
    engine = engine_with(
        Append(1, MESSAGE, [Target(1, 1, 7, own)]), Append(2, MESSAGE, [Target(1, 2, 0, own)])
    )
    engine.submit(ReadQueue(4, 1, 0, 100, 1 << 30))
    (page,) = engine.take_completions()
    assert isinstance(page, QueuePage)
    assert [each.particulars for each in page.entries] == [own]
    write(engine, SaveSent(1, 2, 8), SaveReceived(1, 2))
    assert [each.particulars for each in record_of(engine).in_flight] == [own, own]


def test_options_stay_with_a_subscription() -> None:
    options = Options(no_local=True, identifier=7)
    engine = engine_with(SaveSubscription(1, b"a/#", 1, options))
    assert record_of(engine).subscriptions == {b"a/#": (1, options)}


def test_identifiers_are_held_until_released() -> None:
    engine = engine_with(HoldIdentifier(1, 5), HoldIdentifier(1, 6), ReleaseIdentifier(1, 5))
    write(engine, ReleaseIdentifier(1, 99))
    assert record_of(engine).held == {6}


def test_nothing_happens_to_sessions_that_are_not_there() -> None:
    engine = engine_with()
    write(
        engine,
        Append(1, MESSAGE, [Target(7, 1)]),
        Settle(7, 1),
        SaveSent(7, 1, 1),
        SaveReceived(7, 1),
        HoldIdentifier(7, 1),
        ReleaseIdentifier(7, 1),
        SaveSubscription(7, b"a", 0),
        DeleteSubscription(7, b"a"),
        SaveExpiry(7, 1.0, 1),
    )
    engine.submit(ReadQueue(4, 7, 0, 10, 10))
    (page,) = engine.take_completions()
    assert isinstance(page, QueuePage)
    assert page.entries == []


def test_expiry_and_wills_are_kept() -> None:
    will = Will("w", b"x")
    engine = engine_with(SaveExpiry(1, 5.0, 3), SaveWill("c", will, 7.0))
    record = record_of(engine)
    assert (record.expires_at, record.interval_s) == (5.0, 3)
    (stored,) = wills(engine)
    assert (stored.client_id, stored.will, stored.due) == ("c", will, 7.0)
    write(engine, SaveExpiry(1, None, 4), SaveWill("c", None), SaveWill("d", None))
    record = record_of(engine)
    assert (record.expires_at, record.interval_s) == (None, 4)
    assert wills(engine) == []


def test_sessions_are_read_back_page_by_page() -> None:
    engine = engine_with(
        SaveSubscription(1, b"a", 1),
        append(2),
        append(3, packet_id=9),
        HoldIdentifier(1, 4),
        SaveExpiry(1, 5.0, 3),
        *(SaveSession(number, f"c{number}") for number in range(4, 10)),
    )
    (first,) = sessions(engine, limit=4)  # counts more by itself, and comes all the same
    assert (first.session, first.client_id, first.expires_at) == (1, "c", 5.0)
    assert (first.subscriptions, first.held) == ({b"a": (1, None)}, {4})
    assert [entry[0] for entry in first.queued] == [2]
    assert [sent.number for sent in first.in_flight] == [3]
    assert [each.session for each in sessions(engine, limit=6)] == [1, 4]
    assert [each.session for each in sessions(engine, after=4, limit=2)] == [5, 6]
    assert sessions(engine, after=9) == []


def test_a_session_that_is_retired_is_over_when_a_broker_starts() -> None:
    engine = engine_with(append(2), RetireSession(1), SaveSession(3, "c"))
    assert [each.session for each in sessions(engine)] == [3]
    assert queue(engine) == [2]
    engine.submit(ClaimSession(5, "c"))
    engine.start(lambda: None)
    assert engine.take_completions() == []  # those who asked are not there any more
    assert queue(engine) == []
    assert [each.session for each in sessions(engine)] == [3]
    engine.close()


def test_wills_are_read_back_page_by_page() -> None:
    will = Will("w", b"x")
    engine = engine_with(*(SaveWill(name, will) for name in ("b", "d", "a", "c")))
    assert [stored.client_id for stored in wills(engine, limit=3)] == ["a", "b", "c"]
    assert [stored.client_id for stored in wills(engine, after="c")] == ["d"]
    assert wills(engine, after="d") == []


def retained(engine: MemoryEngine, limit: int = 100) -> list[str]:
    found: list[str] = []
    position: object | None = None
    while True:
        engine.submit(MatchRetained(5, b"#", position, limit, 1 << 30))
        (page,) = engine.take_completions()
        assert isinstance(page, RetainedPage)
        found += [message.topic.name for message in page.messages]
        position = page.position
        if position is None:
            return sorted(found)


def test_retained_messages_are_read_page_by_page() -> None:
    names = [f"t/{number}" for number in range(10)]
    engine = engine_with(*(PutRetained(make_message(name, b"x")) for name in names))
    assert retained(engine, limit=3) == names
    write(engine, DeleteRetained(b"t/3"), DeleteRetained(b"none"))
    assert len(retained(engine)) == 9


@pytest.mark.parametrize("request_id", [7, 0])
def test_a_write_takes_effect_as_a_whole_or_not_at_all(request_id: int) -> None:
    engine = engine_with(retained_message_limit=1)
    first = PutRetained(make_message("a", b"x"))
    second = PutRetained(make_message("b", b"x"))
    write(engine, first)
    engine.submit(Write(request_id, [append(1), second]))
    completions: list[Completion] = engine.take_completions()
    assert all(isinstance(each, Failed) and each.kind == RETAINED_FULL for each in completions)
    assert queue(engine) == []
    assert retained(engine) == ["a"]


def test_a_write_that_wants_no_answer_gets_none() -> None:
    engine = engine_with()
    engine.submit(Write(0, [append(1)]))
    assert engine.take_completions() == []
    assert queue(engine) == [1]


def test_the_greatest_number_is_known() -> None:
    engine = MemoryEngine(Limits())
    assert engine.last_number == 0
    write(engine, SaveSession(8, "c"))
    assert engine.last_number == 8
    write(engine, Append(12, MESSAGE, []), SaveSession(3, "d"))
    assert engine.last_number == 12


def test_what_is_unknown_is_refused_and_not_ignored() -> None:
    engine = MemoryEngine(Limits())
    with pytest.raises(AssertionError):
        engine.submit(Request(1))
    with pytest.raises(AssertionError):
        engine.submit(Write(1, [Operation()]))
    assert engine.take_completions() == []
