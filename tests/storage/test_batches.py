"""When something is written: in batches, and not at all if nothing is left of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapters.storage import Notice, SqliteEngine, StoreLimits
from adapters.storage._database import open_database
from adapters.storage._engine import BATCH_ROWS, HOPE_ROWS
from mqtt_core import make_message
from mqtt_core.broker import (
    FIRST,
    LAST,
    LEVEL_MEMORY,
    LEVEL_OS,
    MORE,
    STORE_FULL,
    Append,
    Claimed,
    ClaimSession,
    Done,
    EndSession,
    Failed,
    HoldIdentifier,
    Limits,
    Operation,
    PutRetained,
    QueuePage,
    ReadQueue,
    SaveReceived,
    SaveSent,
    SaveSession,
    Settle,
    Target,
    Write,
)
from tests.storage.disk import Disk
from tests.storage.rig import WAIT_S, Driver, sqlite

MESSAGE = make_message("t", b"x", 1)


class Opened:
    """A driver, its disk and its notices, with a session."""

    def __init__(
        self, folder: Path, limits: StoreLimits | None = None, hope_s: float = WAIT_S
    ) -> None:
        self.disk = Disk()
        self.notices: list[str] = []
        self.engine = SqliteEngine(
            folder,
            Limits(),
            limits,
            connect=self.disk.connect,
            on_notice=self.note,
            hope_s=hope_s,
            lazy_s=hope_s,
        )
        self.driver = Driver(self.engine)
        self.driver.write(SaveSession(1, "c"), SaveSession(2, "d"))
        self.commits = self.disk.commits

    def note(self, notice: Notice) -> None:
        self.notices.append(notice.name)

    def new_commits(self) -> int:
        commits, self.commits = self.commits, self.disk.commits
        return self.commits - commits


def online(number: int, *sessions: int, qos: int = 1) -> Append:
    return Append(number, MESSAGE, [Target(each, qos, number) for each in sessions or (1,)])


def test_what_cancels_out_is_answered_and_never_written(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    driver = opened.driver
    request_id = driver.send(online(3, 1, 2))
    driver.record(Settle(1, 3))
    driver.take()
    assert driver.answers == {}
    driver.record(Settle(2, 3))
    assert isinstance(driver.answer(request_id), Done)
    assert opened.new_commits() == 0
    assert opened.engine.message_count == 0
    opened.engine.close()
    assert opened.new_commits() == 0


def test_what_does_not_cancel_out_is_written_in_a_moment(tmp_path: Path) -> None:
    opened = Opened(tmp_path, hope_s=0.0)
    assert isinstance(opened.driver.write(online(3)), Done)
    assert opened.new_commits() == 1
    opened.driver.record(Settle(1, 3))
    while opened.engine.message_count or opened.engine._outstanding or not opened.new_commits():
        opened.driver.take()
        if not opened.disk.commits > opened.commits:
            assert opened.driver.rung.wait(WAIT_S)
    opened.engine.close()


@pytest.mark.parametrize(
    "operation",
    [online(3, qos=2), Append(3, MESSAGE, [Target(1, 1)]), PutRetained(MESSAGE)],
    ids=["sent once it is stored", "waits", "retained"],
)
def test_what_cannot_cancel_out_is_written_at_once(tmp_path: Path, operation: Operation) -> None:
    opened = Opened(tmp_path)
    assert isinstance(opened.driver.write(operation), Done)
    assert opened.new_commits() == 1
    opened.engine.close()


def test_a_settlement_that_may_be_refused_does_not_answer_for_another(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    driver = opened.driver
    first = driver.send(online(3))
    second = driver.send(Settle(1, 3), Append(4, MESSAGE, [Target(2, 1)]))
    assert driver.answers == {}
    assert isinstance(driver.answer(first), Done)
    assert isinstance(driver.answer(second), Done)
    assert opened.new_commits() == 1
    assert driver.numbers(2) == [4]
    opened.engine.close()


def test_the_end_of_a_session_takes_what_was_on_its_way_with_it(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    driver = opened.driver
    first = driver.send(online(3, 1, 2))
    second = driver.send(EndSession(1))
    assert isinstance(driver.answer(first), Done)
    assert isinstance(driver.answer(second), Done)
    record = driver.claim("d")
    assert record is not None
    assert [each.number for each in record.in_flight] == [3]
    opened.engine.close()


def test_writes_that_come_together_are_one_commit(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    driver = opened.driver
    ids = [driver.send(Append(number, MESSAGE, [Target(1, 1)])) for number in range(3, 103)]
    assert all(isinstance(driver.answer(each), Done) for each in ids)
    assert opened.new_commits() == 1
    opened.engine.close()


def test_a_batch_has_an_end(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    driver = opened.driver
    count = 4 * BATCH_ROWS
    ids = [driver.send(Append(number, MESSAGE, [Target(1, 1)])) for number in range(3, 3 + count)]
    assert all(isinstance(driver.answer(each), Done) for each in ids)
    assert 4 <= opened.new_commits() <= 5
    assert len(driver.numbers(1)) == count
    ids = [driver.send(online(number)) for number in range(10_000, 10_000 + HOPE_ROWS)]
    assert all(isinstance(driver.answer(each), Done) for each in ids)
    opened.engine.close()


def test_steps_of_one_message_come_to_the_last(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    driver = opened.driver
    driver.write(Append(3, MESSAGE, [Target(1, 2)]), SaveSent(1, 3, 7), SaveReceived(1, 3))
    assert opened.new_commits() == 1
    record = driver.claim("c")
    assert record is not None
    (flight,) = record.in_flight
    assert (flight.packet_id, flight.is_received, flight.message) == (7, True, None)
    driver.record(Settle(1, 3))
    claimed = driver.ask(ClaimSession(driver.next_id(), "c"))
    assert isinstance(claimed, Claimed)
    assert claimed.record is not None
    assert claimed.record.in_flight == []
    opened.engine.close()


# Limits of the store


def test_messages_are_refused_above_the_high_mark_until_below_the_low_one(tmp_path: Path) -> None:
    opened = Opened(tmp_path, StoreLimits(max_messages=10, low_percent=50))
    driver = opened.driver
    for number in range(3, 13):
        assert isinstance(driver.write(Append(number, MESSAGE, [Target(1, 1)])), Done)
    failed = driver.refused(Append(13, MESSAGE, [Target(1, 1)]))
    assert failed.kind == STORE_FULL
    assert "10 of 10 messages" in failed.reason
    for number in range(3, 8):
        driver.write(Settle(1, number))
    assert driver.refused(Append(14, MESSAGE, [Target(1, 1)])).is_full
    driver.record(Append(15, MESSAGE, [Target(1, 1, 9)]))  # nobody would hear of a refusal
    driver.write(Settle(1, 8), Settle(1, 15))
    assert isinstance(driver.write(Append(16, MESSAGE, [Target(1, 1)])), Done)
    assert opened.notices == ["store.full", "store.has_room"]
    opened.engine.close()


def test_sessions_are_refused_above_the_mark(tmp_path: Path) -> None:
    opened = Opened(tmp_path, StoreLimits(max_sessions=2))
    failed = opened.driver.refused(SaveSession(3, "e"))
    assert failed.kind == STORE_FULL
    assert "sessions" in failed.reason
    assert isinstance(opened.driver.write(SaveSession(4, "c"), EndSession(1)), Done)
    opened.driver.write(EndSession(2))
    assert isinstance(opened.driver.write(SaveSession(5, "f")), Done)
    opened.engine.close()


def test_bytes_are_refused_above_the_mark_until_they_are_given_back(tmp_path: Path) -> None:
    opened = Opened(tmp_path, StoreLimits(max_bytes=400_000, low_percent=50))
    driver = opened.driver
    big = make_message("t", b"x" * 10_000, 1)
    number = 3
    while isinstance(answer := driver.write(Append(number, big, [Target(1, 1)])), Done):
        number += 1
        assert number < 100
    assert isinstance(answer, Failed)
    assert answer.kind == STORE_FULL
    assert "bytes" in answer.reason
    assert driver.refused(PutRetained(big)).is_full
    driver.write(*(Settle(1, each) for each in range(3, number)))
    assert isinstance(driver.write(Append(number, big, [Target(1, 1)])), Done)
    assert opened.engine.used_bytes < 400_000
    opened.engine.close()


def offline(number: int) -> Append:
    return Append(number, MESSAGE, [Target(1, 1)])


def test_a_change_is_one_commit_with_all_that_comes_between_its_parts(tmp_path: Path) -> None:
    opened = Opened(tmp_path, hope_s=0.0)
    driver = opened.driver
    many = [offline(number) for number in range(10, 10 + BATCH_ROWS)]
    asked = [driver.send(*many, part=FIRST), driver.send(offline(2_000))]
    asked.append(driver.submit(ReadQueue(driver.next_id(), 1, 0, 9_999, 1 << 40)))
    asked += [driver.send(offline(2_001), part=MORE), driver.send(offline(2_002))]
    driver.take()
    assert not opened.engine._outstanding
    assert opened.new_commits() == 0
    assert driver.answers == {}
    asked.append(driver.send(part=LAST))
    answers = [driver.answer(each) for each in asked]
    page = answers.pop(2)
    assert isinstance(page, QueuePage)
    assert page.entries[-2].number == 2_001, "it may have seen more than it had to"
    assert all(isinstance(answer, Done) for answer in answers)
    assert opened.new_commits() == 1
    opened.engine.close()


def test_a_change_stays_whole_when_a_commit_before_it_fails(tmp_path: Path) -> None:
    disk = Disk()
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    driver.write(SaveSession(1, "c"))
    disk.fail(once=True)
    refused = driver.send(offline(10), offline(11))
    driver.take()  # it is handed over
    first = driver.send(offline(12), part=FIRST)
    assert isinstance(driver.answer(refused), Failed)
    copy = tmp_path.with_name("crashed")
    shutil.copytree(tmp_path, copy)
    last = driver.send(offline(13), part=LAST)
    assert isinstance(driver.answer(first), Done)
    assert isinstance(driver.answer(last), Done)
    assert driver.numbers(1) == [12, 13]
    driver.engine.close()
    driver = Driver(sqlite(copy, Limits(), disk))
    assert driver.numbers(1) == []
    driver.engine.close()


def test_limits_make_sense() -> None:
    with pytest.raises(ValueError, match="positive"):
        StoreLimits(max_bytes=-1)
    with pytest.raises(ValueError, match="low_percent"):
        StoreLimits(low_percent=0)


def test_a_message_for_too_many_is_refused(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    targets = [Target(1, 1)] * ((1 << 20) + 1)
    assert opened.driver.refused(Append(3, MESSAGE, targets)).is_full
    assert opened.driver.refused(Append(1 << 43, MESSAGE, [Target(1, 1)])).is_full
    opened.engine.close()


def test_space_is_given_back_while_it_runs(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    driver = opened.driver
    big = make_message("t", b"x" * 100_000, 1)
    for number in range(3, 303):
        driver.write(Append(number, big, [Target(1, 1)]))
    assert opened.engine.used_bytes > 25_000_000
    assert not opened.disk.has_tidied.is_set()
    driver.write(*(Settle(1, number) for number in range(3, 303)))
    assert opened.disk.has_tidied.wait(WAIT_S)
    opened.engine.close()
    assert not (tmp_path / "iotd.db-wal").exists()
    database = open_database(tmp_path, LEVEL_OS)
    while database.give_back():
        pass
    assert database.free_pages() * database.page_bytes < 10_000_000
    database.close()
    assert (tmp_path / "iotd.db").stat().st_size < 10_000_000


def test_the_log_does_not_grow_without_end(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    driver = opened.driver
    big = make_message("t", b"x" * 100_000, 1)
    for number in range(3, 603):
        driver.write(Append(number, big, [Target(1, 1)]), Settle(1, number - 1))
    written = 600 * 100_000
    assert (tmp_path / "iotd.db-wal").stat().st_size < written / 2
    opened.engine.close()


def test_of_a_change_without_an_end_nothing_is_stored(tmp_path: Path) -> None:
    """The broker has stopped in the midst of it; what else there is in its batch is stored."""
    opened = Opened(tmp_path)
    driver = opened.driver
    driver.write(Append(3, MESSAGE, [Target(1, 1), Target(2, 1)]))
    driver.send(HoldIdentifier(1, 7), online(4, 1), Append(5, MESSAGE, [Target(2, 1)]), part=FIRST)
    driver.submit(Write(driver.next_id(), [Append(6, MESSAGE, [Target(2, 1)])], LEVEL_MEMORY))
    driver.record(Settle(1, 3), Settle(2, 5))
    driver.record(Settle(1, 4))
    driver.send(Append(7, MESSAGE, [Target(1, 1)]), PutRetained(MESSAGE), part=MORE)
    opened.engine.close()
    assert opened.engine._taken == 0
    again = Driver(SqliteEngine(tmp_path, Limits()))
    assert again.retained() == {}
    sessions = again.sessions()
    assert [each.held for each in sessions] == [set(), set()]
    assert [each.in_flight for each in sessions] == [[], []]
    assert again.numbers(1) == []
    assert again.numbers(2) == [3, 6]
    again.engine.close()
