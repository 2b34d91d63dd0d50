"""A disk that refuses, at every step: nothing acknowledged is lost, and it goes on."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from adapters.storage import Notice, SqliteEngine
from adapters.storage._errors import explain
from mqtt_core import Will, make_message
from mqtt_core.broker import (
    STORE_FULL,
    Append,
    ClaimSession,
    Done,
    Failed,
    HoldIdentifier,
    Limits,
    MemoryEngine,
    Operation,
    PutRetained,
    ReleaseIdentifier,
    SaveReceived,
    SaveSent,
    SaveSession,
    SaveSubscription,
    SaveWill,
    Settle,
    Target,
)
from tests.storage.disk import Disk
from tests.storage.rig import WAIT_S, Driver, sqlite
from tests.storage.test_histories import view

MESSAGE = make_message("t", b"x", 2)
SESSIONS = [1, 2]

# One write after the other; the second of a pair says whether somebody waits for it.
SCENARIO: list[tuple[list[Operation], bool]] = [
    ([SaveSession(1, "a"), SaveSubscription(1, b"#", 2)], True),
    ([SaveSession(2, "b"), SaveWill("b", Will("w", b"x"))], True),
    ([Append(3, MESSAGE, [Target(1, 2), Target(2, 1)]), HoldIdentifier(2, 7)], True),
    ([Append(4, MESSAGE, [Target(1, 1)]), PutRetained(MESSAGE)], True),
    ([SaveSent(1, 3, 1)], True),
    ([SaveSent(1, 4, 2)], False),
    ([SaveReceived(1, 3)], True),
    ([ReleaseIdentifier(2, 7), Settle(2, 3)], True),
    ([Settle(1, 4)], False),
    ([Append(5, MESSAGE, [Target(1, 2, 9)])], True),
    ([Settle(1, 3), SaveWill("b", None)], True),
]


def run(driver: Driver) -> list[list[Operation]]:
    """Write all of it, each when the one before is decided; what was not refused."""
    taken = []
    for operations, is_answered in SCENARIO:
        if not is_answered:
            driver.record(*operations)
            taken.append(operations)
        elif isinstance(driver.write(*operations), Done):
            taken.append(operations)
    return taken


def model_of(writes: list[list[Operation]]) -> Driver:
    model = Driver(MemoryEngine(Limits()))
    for operations in writes:
        model.write(*operations)
    return model


def steps_of_scenario(folder: Path) -> int:
    disk = Disk()
    driver = Driver(sqlite(folder, Limits(), disk))
    assert len(run(driver)) == len(SCENARIO)
    driver.engine.close()
    return disk.steps


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "for long"])
def test_a_fault_at_any_step_costs_no_more_than_what_is_refused(
    tmp_path: Path, lasts: bool
) -> None:
    for step in range(steps_of_scenario(tmp_path / "all")):
        for is_after in (False, True):
            disk = Disk()
            folder = tmp_path / f"{step}{is_after}"
            driver = Driver(sqlite(folder, Limits(), disk))
            disk.fail(step, once=not lasts, is_after=is_after)
            taken = run(driver)
            disk.heal()
            expected = view(model_of(taken), SESSIONS)
            assert view(driver, SESSIONS) == expected, step
            driver.engine.close()
            driver = Driver(sqlite(folder, Limits(), disk))
            assert view(driver, SESSIONS) == expected, step
            driver.engine.close()


def test_a_crash_at_any_step_leaves_a_beginning(tmp_path: Path) -> None:
    """The files as they are before each statement, opened again."""
    disk = Disk()
    folder = tmp_path / "store"
    copies: list[tuple[Path, int]] = []
    driver = Driver(sqlite(folder, Limits(), disk))
    done = 0

    def copy(step: int) -> None:
        copies.append((tmp_path / f"copy{step}", done))
        shutil.copytree(folder, copies[-1][0])

    disk.before_step = copy
    prefixes = [view(model_of([]), SESSIONS)]
    writes = []
    for operations, is_answered in SCENARIO:
        writes.append(operations)
        prefixes.append(view(model_of(writes), SESSIONS))
        if is_answered:
            assert isinstance(driver.write(*operations), Done)
            done = len(writes)
        else:
            driver.record(*operations)
    driver.engine.close()
    for path, answered in copies:
        driver = Driver(sqlite(path, Limits(), Disk()))
        assert view(driver, SESSIONS) in prefixes[answered:]
        driver.engine.close()


def patient(folder: Path, disk: Disk, notices: list[Notice]) -> Driver:
    engine = SqliteEngine(
        folder,
        Limits(),
        connect=disk.connect,
        on_notice=notices.append,
        patience_s=WAIT_S,
        retry_s=0.0,
    )
    return Driver(engine)


def test_a_fault_that_passes_is_waited_for(tmp_path: Path) -> None:
    disk = Disk()
    notices: list[Notice] = []
    driver = patient(tmp_path, disk, notices)
    disk.fail(once=True)
    assert isinstance(driver.write(SaveSession(1, "c")), Done)
    assert [notice.name for notice in notices] == ["store.troubled", "store.recovered"]
    assert "no space is left" in notices[0].detail
    driver.engine.close()


def test_who_waits_is_refused_after_a_while_and_the_rest_is_kept(tmp_path: Path) -> None:
    disk = Disk()
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    driver.write(SaveSession(1, "c"), Append(2, MESSAGE, [Target(1, 1)]))
    disk.fail()
    driver.record(Settle(1, 2))
    failed = driver.refused(Append(3, MESSAGE, [Target(1, 1)]))
    assert failed.kind == STORE_FULL
    assert "no space is left" in failed.reason
    assert driver.numbers(1) == []
    assert isinstance(driver.write(Append(4, MESSAGE, [Target(1, 1)])), Failed)
    disk.heal()
    assert isinstance(driver.write(Append(5, MESSAGE, [Target(1, 1)])), Done)
    assert driver.numbers(1) == [5]
    driver.engine.close()
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    assert driver.numbers(1) == [5]
    driver.engine.close()


def test_a_claim_that_rests_on_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    disk = Disk()
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    driver.write(SaveSession(1, "c"))
    disk.fail()
    driver.record(SaveSubscription(1, b"a", 1))
    page = driver.answer(driver.submit(claim := claim_of(driver)))
    assert isinstance(page, Failed)
    disk.heal()
    record = driver.claim("c")
    assert claim is not None
    assert record is not None
    assert record.subscriptions == {b"a": (1, None)}
    driver.engine.close()


def claim_of(driver: Driver) -> ClaimSession:
    return ClaimSession(driver.next_id(), "c")


def test_closing_says_what_could_not_be_stored(tmp_path: Path) -> None:
    disk = Disk()
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    driver.write(SaveSession(1, "c"), Append(2, MESSAGE, [Target(1, 1)]))
    driver.record(Settle(1, 2))
    disk.fail()
    with pytest.raises(OSError, match=r"not all .* no space is left"):
        driver.engine.close()
    disk.heal()
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    assert driver.numbers(1) == [2]
    driver.engine.close()


def test_closing_alarms_nobody_when_all_is_stored(tmp_path: Path) -> None:
    disk = Disk()
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    driver.write(SaveSession(1, "c"), Append(2, MESSAGE, [Target(1, 1)]))
    disk.has_no_room_to_close = True
    with pytest.raises(OSError, match=r"^all is stored.*no space is left"):
        driver.engine.close()
    disk.has_no_room_to_close = False
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    assert driver.numbers(1) == [2]
    driver.engine.close()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (sqlite3.SQLITE_IOERR_SHMSIZE, "no space is left"),  # for what is shared with others
        (sqlite3.SQLITE_IOERR_LOCK, "mounted read-only"),
        (sqlite3.SQLITE_IOERR_READ, "the disk fails"),
    ],
)
def test_not_all_that_is_called_an_error_of_the_disk_is_one(code: int, advice: str) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    assert advice in explain(error)


def test_closing_stores_what_nobody_waits_for(tmp_path: Path) -> None:
    disk = Disk()
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    driver.write(SaveSession(1, "c"))
    driver.record(Append(2, MESSAGE, [Target(1, 1)]))
    driver.engine.close()
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    assert driver.numbers(1) == [2]
    driver.engine.close()


def test_an_error_that_nobody_expects_refuses_the_write(tmp_path: Path) -> None:
    disk = Disk()
    disk.make_error = lambda: ZeroDivisionError("a fault of ours")
    driver = Driver(sqlite(tmp_path, Limits(), disk))
    disk.fail(once=True)
    assert "a fault of ours" in driver.refused(SaveSession(1, "c")).reason
    assert driver.claim("c") is None
    assert isinstance(driver.write(SaveSession(2, "c")), Done)
    driver.engine.close()
