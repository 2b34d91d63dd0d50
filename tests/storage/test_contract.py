"""What every storage engine does, step by step; the same for each."""

from __future__ import annotations

import pytest

from mqtt_core import Will, make_message
from mqtt_core import properties as props
from mqtt_core.broker import (
    FIRST,
    LAST,
    MORE,
    RETAINED_FULL,
    Append,
    ClaimSession,
    DeleteRetained,
    DeleteSubscription,
    Done,
    DropExpired,
    EndSession,
    Failed,
    HoldIdentifier,
    Operation,
    Options,
    Particulars,
    PutRetained,
    ReadQueue,
    ReleaseIdentifier,
    RetireSession,
    SaveExpiry,
    SaveReceived,
    SaveSent,
    SaveSession,
    SaveSubscription,
    SaveWill,
    SessionRecord,
    Settle,
    Target,
    Write,
)
from tests.storage.conftest import OpenStore
from tests.storage.rig import Driver

MESSAGE = make_message("t", b"x", 2)
SIZE = MESSAGE.size_bytes


def with_session(open_store: OpenStore, *operations: Operation, **limits: int) -> Driver:
    driver = open_store(**limits).driver
    assert isinstance(driver.write(SaveSession(1, "c"), *operations), Done)
    return driver


def record_of(driver: Driver, client_id: str = "c") -> SessionRecord:
    record = driver.claim(client_id)
    assert record is not None
    return record


def append(number: int, *, session: int = 1, qos: int = 2, packet_id: int = 0) -> Append:
    return Append(number, MESSAGE, [Target(session, qos, packet_id)])


def in_flight(record: SessionRecord) -> list[tuple[int, int, int, bool]]:
    return [(e.number, e.qos, e.packet_id, e.is_received) for e in record.in_flight]


def test_a_session_is_there_until_it_is_ended(open_store: OpenStore) -> None:
    driver = with_session(open_store, SaveSubscription(1, b"a/#", 1), SaveSubscription(1, b"b", 2))
    assert driver.claim("other") is None
    record = record_of(driver)
    assert (record.session, record.client_id) == (1, "c")
    assert record.subscriptions == {b"a/#": (1, None), b"b": (2, None)}
    driver.write(
        SaveSubscription(1, b"a/#", 0), DeleteSubscription(1, b"b"), DeleteSubscription(1, b"none")
    )
    assert record_of(driver).subscriptions == {b"a/#": (0, None)}
    driver.write(EndSession(1))
    assert driver.claim("c") is None
    assert isinstance(driver.write(EndSession(1)), Done)
    assert driver.sessions() == []


def test_a_client_may_have_a_new_session_before_the_old_one_is_ended(open_store: OpenStore) -> None:
    driver = with_session(open_store, append(2), SaveSession(3, "c"), EndSession(1))
    assert record_of(driver).session == 3
    assert driver.numbers(1) == driver.numbers(3) == []


def test_messages_wait_in_the_order_of_their_numbers(open_store: OpenStore) -> None:
    driver = with_session(open_store, *(append(number) for number in range(1, 6)))
    assert driver.numbers(1) == [1, 2, 3, 4, 5]
    assert driver.numbers(1, after=2, limit=2) == [3, 4]
    assert len(driver.queue(1, limit_bytes=1).entries) == 1
    assert len(driver.queue(1, limit_bytes=3 * SIZE).entries) == 3
    assert driver.numbers(1, after=5) == []
    assert record_of(driver).queued == [(number, SIZE, 0.0) for number in range(1, 6)]
    driver.write(Settle(1, 3), Settle(1, 77))
    assert driver.numbers(1) == [1, 2, 4, 5]


def test_a_message_for_many_is_there_until_the_last_has_it(open_store: OpenStore) -> None:
    driver = with_session(open_store, SaveSession(2, "d"), SaveSession(3, "e"))
    driver.write(Append(5, MESSAGE, [Target(1, 1), Target(2, 2), Target(3, 1), Target(99, 1)]))
    assert [entry.qos for each in (1, 2, 3) for entry in driver.queue(each).entries] == [1, 2, 1]
    driver.write(Settle(1, 5))
    driver.write(EndSession(2))
    assert [entry.message for entry in driver.queue(3).entries] == [MESSAGE]
    assert driver.numbers(1) == driver.numbers(2) == []
    driver.write(Settle(3, 5))
    assert driver.numbers(3) == []


def test_many_messages_come_and_go(open_store: OpenStore) -> None:
    driver = with_session(open_store, *(append(number) for number in range(1, 2_001)))
    for number in range(1, 1_901):
        driver.record(Settle(1, number))
    assert driver.numbers(1) == list(range(1_901, 2_001))
    driver.write(*(Settle(1, number) for number in range(1_990, 1_950, -1)))
    assert driver.numbers(1) == [*range(1_901, 1_951), *range(1_991, 2_001)]


def test_what_was_sent_stands_in_the_order_of_sending(open_store: OpenStore) -> None:
    driver = with_session(open_store, *(append(number) for number in range(1, 5)))
    driver.write(SaveSent(1, 2, 20), SaveSent(1, 1, 10), append(5, qos=1, packet_id=50))
    assert in_flight(record_of(driver)) == [
        (2, 2, 20, False),
        (1, 2, 10, False),
        (5, 1, 50, False),
    ]
    driver.write(SaveReceived(1, 2), SaveSent(1, 99, 1), SaveReceived(1, 99))
    assert driver.numbers(1) == [3, 4]
    sent = record_of(driver)
    assert in_flight(sent) == [(1, 2, 10, False), (5, 1, 50, False), (2, 2, 20, True)]
    assert [each.message for each in sent.in_flight][:2] == [MESSAGE, MESSAGE]
    driver.write(Settle(1, 2), Settle(1, 1))
    assert in_flight(record_of(driver)) == [(5, 1, 50, False)]


def test_what_a_delivery_has_of_its_own_stays_with_it(open_store: OpenStore) -> None:
    own = Particulars(True, (3, 4), b"$share/g/t")
    driver = with_session(
        open_store,
        Append(1, MESSAGE, [Target(1, 1, 7, own)]),
        Append(2, MESSAGE, [Target(1, 2, 0, own)]),
    )
    assert [each.particulars for each in driver.queue(1).entries] == [own]
    driver.write(SaveSent(1, 2, 8))
    assert [each.particulars for each in record_of(driver).in_flight] == [own, own]


def test_messages_keep_their_properties_and_when_they_expire(open_store: OpenStore) -> None:
    message = make_message(
        "ü/t",
        b"\0payload",
        1,
        True,
        (
            (props.MESSAGE_EXPIRY_INTERVAL, 60),
            (props.PAYLOAD_FORMAT_INDICATOR, 1),
            (props.RESPONSE_TOPIC, "answer/ü"),
            (props.CORRELATION_DATA, b"\1\2"),
            (props.USER_PROPERTY, ("a", "b")),
            (props.USER_PROPERTY, ("a", "c")),
        ),
    )
    message.expires_at = 1_800_000_000.25
    driver = with_session(open_store, Append(1, message, [Target(1, 1)]), PutRetained(message))
    (entry,) = driver.queue(1).entries
    assert entry.message == message
    assert entry.message.properties == message.properties
    assert entry.message.expires_at == message.expires_at
    assert record_of(driver).queued == [(1, message.size_bytes, message.expires_at)]
    driver.write(SaveSent(1, 1, 9))
    (flight,) = record_of(driver).in_flight
    assert flight.message == message
    assert record_of(driver).queued == []


def test_options_stay_with_a_subscription(open_store: OpenStore) -> None:
    first = Options(no_local=True, identifier=7)
    second = Options(retain_as_published=True)
    driver = with_session(
        open_store, SaveSubscription(1, b"a", 1, first), SaveSubscription(1, b"b", 2, second)
    )
    assert record_of(driver).subscriptions == {b"a": (1, first), b"b": (2, second)}


def test_identifiers_are_held_until_released(open_store: OpenStore) -> None:
    driver = with_session(
        open_store,
        HoldIdentifier(1, 5),
        HoldIdentifier(1, 65_535),
        HoldIdentifier(1, 1),
        ReleaseIdentifier(1, 5),
    )
    driver.write(ReleaseIdentifier(1, 99))
    assert record_of(driver).held == {1, 65_535}
    driver.write(ReleaseIdentifier(1, 1))
    assert record_of(driver).held == {65_535}


def test_nothing_happens_to_sessions_that_are_not_there(open_store: OpenStore) -> None:
    driver = with_session(open_store)
    driver.write(
        append(1, session=7),
        Settle(7, 1),
        SaveSent(7, 1, 1),
        SaveReceived(7, 1),
        HoldIdentifier(7, 1),
        ReleaseIdentifier(7, 1),
        SaveSubscription(7, b"a", 0),
        DeleteSubscription(7, b"a"),
        SaveExpiry(7, 1.0, 10),
        RetireSession(7),
    )
    assert driver.numbers(7) == []
    assert [record.session for record in driver.sessions()] == [1]


def test_expiry_is_kept(open_store: OpenStore) -> None:
    driver = with_session(open_store)
    assert (record_of(driver).expires_at, record_of(driver).interval_s) == (None, 0)
    driver.write(SaveExpiry(1, 5.5, 60))
    assert (record_of(driver).expires_at, record_of(driver).interval_s) == (5.5, 60)
    driver.write(SaveExpiry(1, None, 70))
    assert (record_of(driver).expires_at, record_of(driver).interval_s) == (None, 70)


def test_wills_are_kept_and_read_page_by_page(open_store: OpenStore) -> None:
    driver = open_store().driver
    rich = Will(
        "w/ü", b"x", 2, True, ((props.WILL_DELAY_INTERVAL, 5), (props.USER_PROPERTY, ("a", "b")))
    )
    driver.write(SaveWill("b", rich, 12.5), SaveWill("a", Will("w", b"")), SaveWill("ü", rich))
    driver.write(SaveWill("ü", Will("v", b"y"), 3.0), SaveWill("none", None))
    for limit in (1, 2, 100):
        wills = driver.wills(limit)
        assert sorted((each.client_id, each.due) for each in wills) == [
            ("a", 0.0),
            ("b", 12.5),
            ("ü", 3.0),
        ]
        assert [each.will for each in wills if each.client_id == "b"] == [rich]
    driver.write(SaveWill("b", None), SaveWill("ü", None))
    assert [each.client_id for each in driver.wills()] == ["a"]


def test_sessions_are_read_page_by_page(open_store: OpenStore) -> None:
    driver = open_store().driver
    for session in range(1, 8):
        driver.write(SaveSession(session, f"c{session}"), append(10 + session, session=session))
    driver.write(SaveSubscription(3, b"f", 1), HoldIdentifier(4, 9), SaveSent(5, 15, 3))
    driver.write(EndSession(2), RetireSession(6))
    for limit in (1, 3, 100):
        records = driver.sessions(limit)
        assert [record.session for record in records] == [1, 3, 4, 5, 7]
        assert records[1].subscriptions == {b"f": (1, None)}
        assert records[2].held == {9}
        assert in_flight(records[3]) == [(15, 2, 3, False)]
        assert [len(record.queued) for record in records] == [1, 1, 1, 0, 1]


def test_a_retired_session_is_read_and_settled_but_not_claimed(open_store: OpenStore) -> None:
    driver = with_session(open_store, append(1), append(2), append(3, packet_id=4))
    driver.write(RetireSession(1))
    assert driver.claim("c") is None
    assert driver.numbers(1) == [1, 2]
    driver.write(
        Settle(1, 1), RetireSession(1), SaveExpiry(1, 1.0, 1), SaveSubscription(1, b"f", 1)
    )
    assert driver.numbers(1) == [2]
    driver.write(EndSession(1))
    assert driver.numbers(1) == []


def test_retained_messages_are_read_page_by_page(open_store: OpenStore) -> None:
    driver = open_store().driver
    names = [f"t/{number}" for number in range(10)]
    driver.write(*(PutRetained(make_message(name, b"x")) for name in names))
    assert sorted(driver.retained(limit=3)) == names
    driver.write(
        DeleteRetained(b"t/3"), DeleteRetained(b"none"), PutRetained(make_message("t/1", b"y"))
    )
    found = driver.retained(b"t/+")
    assert len(found) == 9
    assert found["t/1"] == b"y"
    assert driver.retained(b"t/7") == {"t/7": b"x"}


def test_retained_messages_expire(open_store: OpenStore) -> None:
    driver = open_store().driver
    for name, expires_at in (("a", 10.0), ("b", 20.0), ("c", 0.0)):
        message = make_message(name, b"x", 0, True, ((props.MESSAGE_EXPIRY_INTERVAL, 5),))
        message.expires_at = expires_at
        driver.write(PutRetained(message))
    driver.write(PutRetained(make_message("d", b"x")))
    done = driver.write(DropExpired(10.0))
    assert isinstance(done, Done)
    assert done.retained == 3
    assert sorted(driver.retained()) == ["b", "c", "d"]


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_write_takes_effect_as_a_whole_or_not_at_all(
    open_store: OpenStore, is_answered: bool
) -> None:
    driver = with_session(open_store, retained_message_limit=1)
    second = PutRetained(make_message("b", b"x"))
    driver.write(PutRetained(make_message("a", b"x")))
    failed = driver.refused(append(1), second)
    assert failed.kind == RETAINED_FULL
    assert driver.numbers(1) == []
    assert list(driver.retained()) == ["a"]


def test_what_was_submitted_is_seen_by_what_follows(open_store: OpenStore) -> None:
    driver = open_store().driver
    ids = [
        driver.send(SaveSession(1, "c"), append(5)),
        driver.submit(ReadQueue(driver.next_id(), 1, 0, 10, 10_000)),
        driver.send(append(6), Settle(1, 5)),
        driver.submit(ReadQueue(driver.next_id(), 1, 0, 10, 10_000)),
        driver.submit(ClaimSession(driver.next_id(), "c")),
        driver.send(EndSession(1)),
        driver.submit(ReadQueue(driver.next_id(), 1, 0, 10, 10_000)),
        driver.submit(ClaimSession(driver.next_id(), "c")),
    ]
    answers = [driver.answer(each) for each in ids]
    pages = [getattr(each, "entries", None) for each in answers]
    assert [[entry.number for entry in page] for page in pages if page is not None] == [
        [5],
        [6],
        [],
    ]
    records = [each.record for each in answers if hasattr(each, "record")]
    assert records[0] is not None
    assert records[0].queued == [(6, SIZE, 0.0)]
    assert records[1] is None


def test_a_write_that_wants_no_answer_gets_none(open_store: OpenStore) -> None:
    driver = with_session(open_store)
    driver.submit(Write(0, [append(1)]))
    assert driver.numbers(1) == [1]
    driver.take()
    assert driver.answers == {}


def test_a_write_of_nothing_is_answered(open_store: OpenStore) -> None:
    driver = open_store().driver
    assert isinstance(driver.write(), Done)
    assert isinstance(driver.write(Append(1, MESSAGE, [])), Done)


def test_the_greatest_number_is_known(open_store: OpenStore) -> None:
    driver = open_store().driver
    assert driver.engine.last_number == 0
    driver.write(SaveSession(8, "c"))
    assert driver.engine.last_number == 8
    driver.write(append(12, session=8), SaveSession(3, "d"))
    assert driver.engine.last_number == 12


def test_a_number_of_a_session_that_is_used_again_brings_nothing_back(
    open_store: OpenStore,
) -> None:
    driver = with_session(open_store, append(1), append(2, packet_id=7), HoldIdentifier(1, 3))
    driver.write(EndSession(1), SaveSession(1, "d"))
    record = record_of(driver, "d")
    assert (record.queued, record.in_flight, record.held) == ([], [], set())
    driver.write(append(3), SaveSession(1, "e"))
    assert driver.numbers(1) == []


def test_failures_name_a_reason(open_store: OpenStore) -> None:
    driver = open_store(retained_message_limit=1).driver
    driver.write(PutRetained(make_message("a", b"x")))
    failed = driver.write(PutRetained(make_message("b", b"x")))
    assert isinstance(failed, Failed)
    assert "limit" in failed.reason


def test_retained_messages_are_due_until_it_is_said_otherwise(open_store: OpenStore) -> None:
    due = SaveSubscription(1, b"a", 1, retained_due=True)
    driver = with_session(open_store, due, SaveSubscription(1, b"b", 1))
    assert record_of(driver).retained_due == {b"a"}
    assert record_of(driver).subscriptions == {b"a": (1, None), b"b": (1, None)}
    driver.write(SaveSubscription(1, b"a", 1), SaveSubscription(1, b"c", 1, retained_due=True))
    assert record_of(driver).retained_due == {b"c"}
    driver.write(DeleteSubscription(1, b"c"))
    driver.write(SaveSubscription(1, b"c", 2))
    assert not record_of(driver).retained_due


# Changes of several parts


def test_the_parts_of_a_change_take_effect_in_their_order(open_store: OpenStore) -> None:
    driver = with_session(open_store, SaveSession(2, "d"))
    parts = [driver.send(HoldIdentifier(1, 7), append(3), part=FIRST)]
    between = driver.send(append(4, session=2))
    parts += [driver.send(append(5), part=MORE), driver.send(part=LAST)]
    assert all(isinstance(driver.answer(each), Done) for each in [*parts, between])
    assert driver.numbers(1) == [3, 5]
    assert driver.numbers(2) == [4]
    assert record_of(driver).held == {7}
    parts = [driver.send(append(6), part=FIRST), driver.send(Settle(1, 3), part=LAST)]
    assert all(isinstance(driver.answer(each), Done) for each in parts)
    assert driver.numbers(1) == [5, 6]


def test_a_change_is_refused_by_its_first_part(open_store: OpenStore) -> None:
    driver = with_session(open_store, retained_message_limit=1)
    retained = make_message("kept", b"1", 1, True)
    other = make_message("other", b"2", 1, True)
    parts = [driver.send(PutRetained(retained), part=FIRST), driver.send(append(2), part=LAST)]
    assert all(isinstance(driver.answer(each), Done) for each in parts)
    parts = [
        driver.send(PutRetained(other), append(3), part=FIRST),
        driver.send(append(4), part=MORE),
        driver.send(append(5), part=LAST),
    ]
    for each in parts:
        failed = driver.answer(each)
        assert isinstance(failed, Failed)
        assert failed.kind == RETAINED_FULL
    assert driver.numbers(1) == [2]
    assert isinstance(driver.write(append(6)), Done)
    assert driver.numbers(1) == [2, 6]
