"""Opening a store: schemas, other programs' files, other processes, and damage."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.storage import (
    Notice,
    SqliteEngine,
    StoreDamagedError,
    StoreError,
    StoreForeignError,
    StoreInUseError,
    StoreTooNewError,
    StoreUnavailableError,
)
from adapters.storage._database import _SUSPECT, NAME
from adapters.storage._schema import APPLICATION_ID, MIGRATIONS, migrate, schema_of
from mqtt_core import Will, make_message
from mqtt_core.broker import (
    LEVEL_OS,
    Append,
    ClaimSession,
    Done,
    EndSession,
    Failed,
    Limits,
    PutRetained,
    QueuePage,
    ReadQueue,
    SaveReceived,
    SaveSession,
    SaveWill,
    Target,
)
from tests.storage.disk import Disk
from tests.storage.rig import Driver, sqlite

MESSAGE = make_message("t", b"payload of a message", 1)


def filled(folder: Path, count: int = 40) -> Driver:
    driver = Driver(sqlite(folder, Limits(), Disk()))
    driver.write(SaveSession(1, "c"))
    for number in range(2, count + 2):
        message = make_message(f"t/{number}", b"x" * 200, 1)
        driver.write(Append(number, message, [Target(1, 1)]), PutRetained(message))
    return driver


def reopened(folder: Path) -> Driver:
    return Driver(sqlite(folder, Limits(), Disk()))


@pytest.mark.skipif(os.name != "posix", reason="platform: folders cannot be flushed here")
def test_a_new_folder_is_flushed_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a loss of power may take the whole folder, on a file system that is less kind than ext4;
    with those above it that were made for it."""
    flushed: list[int] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noting)
    SqliteEngine(tmp_path / "a" / "b", Limits()).close()
    assert {tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino} <= set(flushed)


# Schemas


def test_a_new_store_has_the_newest_schema(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "a" / "b", Limits())
    assert engine.report.schema_before == 0
    engine.close()
    with sqlite3.connect(tmp_path / "a" / "b" / NAME) as connection:
        assert schema_of(connection) == len(MIGRATIONS)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()


def test_each_migration_goes_on_from_the_one_before() -> None:
    steps = (
        "CREATE TABLE a(x);",
        "INSERT INTO a VALUES(1);",
        "ALTER TABLE a RENAME TO b; CREATE TABLE c(x);",
    )
    for known in range(len(steps) + 1):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(connection, 0, steps[:known])
        assert schema_of(connection, steps) == known
        migrate(connection, known, steps)
        assert schema_of(connection, steps) == len(steps)
        assert connection.execute("SELECT x FROM b").fetchall() == [(1,)]
        connection.close()


def test_a_migration_that_fails_changes_nothing() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, 0, ("CREATE TABLE a(x);",))
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, 1, ("", "CREATE TABLE b(x); no such statement;"))
    connection.execute("ROLLBACK")
    assert schema_of(connection) == 1
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]
    connection.close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    filled(tmp_path).engine.close()
    connection = sqlite3.connect(tmp_path / NAME)
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(StoreTooNewError, match="newer version"):
        SqliteEngine(tmp_path, Limits())
    assert (tmp_path / NAME).read_bytes() == before


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / NAME)
    connection.execute("CREATE TABLE theirs(x)")
    connection.close()
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(StoreForeignError, match="another program"):
        SqliteEngine(tmp_path, Limits())
    assert (tmp_path / NAME).read_bytes() == before
    assert APPLICATION_ID


# Others


def test_one_engine_at_a_time(tmp_path: Path) -> None:
    driver = filled(tmp_path, 1)
    with pytest.raises(StoreInUseError, match="another process"):
        SqliteEngine(tmp_path, Limits())
    program = (
        "import sqlite3, sys\n"
        "try:\n"
        f"    c = sqlite3.connect({str(tmp_path / NAME)!r}, timeout=0)\n"
        "    c.execute('SELECT * FROM session').fetchall()\n"
        "except sqlite3.OperationalError as error:\n"
        "    sys.exit(7 if 'locked' in str(error) else 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
    assert driver.numbers(1) == [2]
    driver.engine.close()
    reopened(tmp_path).engine.close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match="cannot be made"):
        SqliteEngine(tmp_path / "file" / "store", Limits())
    (tmp_path / "store" / NAME).mkdir(parents=True)
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        SqliteEngine(tmp_path / "store", Limits())


def test_a_level_is_one_of_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="level of durability"):
        SqliteEngine(tmp_path, Limits(), level=4)
    engine = SqliteEngine(tmp_path, Limits(), level=LEVEL_OS)
    driver = Driver(engine)
    assert isinstance(driver.write(SaveSession(1, "c")), Done)
    engine.close()
    driver = reopened(tmp_path)
    assert [record.session for record in driver.sessions()] == [1]
    driver.engine.close()


# Progress


def test_progress_is_told_while_the_index_is_made(tmp_path: Path) -> None:
    filled(tmp_path, 7).engine.close()
    told: list[tuple[int, int]] = []
    engine = SqliteEngine(
        tmp_path, Limits(), on_progress=lambda done, total: told.append((done, total))
    )
    assert told == [(7, 7)]
    report = engine.report
    assert (report.sessions, report.messages, report.retained) == (1, 7, 7)
    assert (report.log_bytes_cut, report.kept_as, report.damages) == (0, None, [])
    engine.close()


def test_what_sessions_that_are_over_have_left_goes_after_a_restart(tmp_path: Path) -> None:
    driver = filled(tmp_path, 1_000)
    driver.write(EndSession(1))
    folder = tmp_path.with_name("copy")
    shutil.copytree(tmp_path, folder)
    driver.engine.close()
    engine = SqliteEngine(folder, Limits(), lazy_s=0.0)
    driver = Driver(engine)
    assert engine.message_count > 0
    assert engine.last_number >= 1_000
    while engine.message_count or engine._outstanding:
        driver.take()
        if engine._outstanding:
            assert driver.rung.wait(60)
    engine.close()
    connection = sqlite3.connect(folder / NAME)
    assert connection.execute("SELECT count(*) FROM queue").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM message").fetchone() == (0,)
    connection.close()


# Damage


def crashed(folder: Path, name: str, count: int = 40) -> Path:
    """The files of a store whose process has died."""
    driver = filled(folder / "alive", count)
    copy = folder / name
    shutil.copytree(folder / "alive", copy)
    driver.engine.close()
    return copy


def opens_or_refuses(folder: Path, expected: int) -> str:
    """Open a damaged store, and use it. Whatever comes is a beginning, or is said to be wrong."""
    notices: list[Notice] = []
    try:
        engine = SqliteEngine(folder, Limits(), level=LEVEL_OS, on_notice=notices.append)
    except StoreError as error:
        return "refused" if str(folder) in str(error) else "unclear"
    driver = Driver(engine)
    page = driver.ask(ReadQueue(driver.next_id(), 1, 0, 1_000, 1 << 30))
    verdict = "opened"
    if isinstance(page, QueuePage):
        numbers = [entry.number for entry in page.entries]
        said = " ".join(notice.detail for notice in notices)
        for number in range(2, max(numbers, default=1) + 1):
            assert number in numbers or f"message {number} " in said
        assert len(numbers) <= expected
        assert all(entry.message.payload == b"x" * 200 for entry in page.entries)
        if len(numbers) < expected and not engine.report.log_bytes_cut:
            lost = said.count(" of session ")
            assert engine.report.messages in (0, len(numbers) + lost)
    else:
        assert isinstance(page, Failed)
        assert "damaged" in page.reason
        verdict = "said"
    try:
        engine.close()
    except OSError:
        verdict = "said"
    return verdict


@pytest.mark.parametrize("part", ["-wal", ""])
def test_damage_at_many_places_is_a_clean_beginning_or_is_said(tmp_path: Path, part: str) -> None:
    source = crashed(tmp_path, "source")
    if not part:  # all of it in the database
        Driver(sqlite(source, Limits(), Disk())).engine.close()
    data = (source / (NAME + part)).read_bytes()
    verdicts = set()
    for step in range(1, 60):
        at = len(data) * step // 60
        for cut in (True, False):
            folder = tmp_path / f"{step}{cut}"
            shutil.copytree(source, folder)
            flipped = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
            (folder / (NAME + part)).write_bytes(data[:at] if cut else flipped)
            verdicts.add(opens_or_refuses(folder, 40))
            shutil.rmtree(folder)
    assert "opened" in verdicts
    assert "unclear" not in verdicts


def test_a_cut_log_is_said(tmp_path: Path) -> None:
    folder = crashed(tmp_path, "store")
    log = folder / (NAME + "-wal")
    data = bytearray(log.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    log.write_bytes(bytes(data))
    engine = sqlite(folder, Limits(), Disk())
    assert 0 < engine.report.log_bytes_cut < len(data)
    assert 0 < engine.report.messages < 40
    engine.close()


def test_a_database_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    filled(tmp_path).engine.close()
    (tmp_path / NAME).write_bytes(b"not a database at all" * 1_000)
    with pytest.raises(StoreDamagedError, match="start again, with an empty store") as raised:
        SqliteEngine(tmp_path, Limits())
    assert raised.value.kept_as.read_bytes() == b"not a database at all" * 1_000
    (tmp_path / NAME).write_bytes(b"neither is this one" * 1_000)
    engine = SqliteEngine(tmp_path, Limits(), may_start_empty=True)
    assert engine.report.kept_as is not None
    assert engine.report.kept_as != raised.value.kept_as
    assert engine.report.kept_as.exists()
    assert engine.report.sessions == 0
    engine.close()


def test_a_damaged_message_is_said_and_the_rest_is_there(tmp_path: Path) -> None:
    filled(tmp_path, 6).engine.close()
    connection = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    connection.execute("UPDATE message SET record = zeroblob(50) WHERE number = 4")
    connection.execute("DELETE FROM message WHERE number = 5")
    connection.execute("UPDATE queue SET particulars = x'00' WHERE id >> 20 = 7")
    connection.execute("UPDATE retained SET record = x'00' WHERE topic = CAST('t/3' AS BLOB)")
    connection.close()
    notices: list[Notice] = []
    engine = SqliteEngine(tmp_path, Limits(), on_notice=notices.append)
    driver = Driver(engine)
    assert len(engine.report.damages) == 1
    assert "the retained message of 't/3'" in notices[0].detail
    assert sorted(driver.retained()) == ["t/2", "t/4", "t/5", "t/6", "t/7"]
    assert driver.numbers(1, limit=2) == [2, 3]
    assert driver.numbers(1, after=3, limit=1) == [6]
    assert driver.numbers(1, after=6) == []
    assert [notice.name for notice in notices] == ["store.lost"] * 4
    assert "message 4 of session 1" in notices[1].detail
    assert engine.message_count == 3
    engine.close()


def test_what_is_damaged_does_not_keep_the_rest_from_coming_back(tmp_path: Path) -> None:
    driver = Driver(sqlite(tmp_path, Limits(), Disk()))
    driver.write(SaveSession(1, "c"), SaveWill("a", Will("t", b"")), SaveWill("b", Will("t", b"")))
    driver.write(*(Append(number, MESSAGE, [Target(1, 2, number)]) for number in (2, 3, 4)))
    driver.write(SaveReceived(1, 3))
    driver.engine.close()
    connection = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    connection.execute("DELETE FROM message WHERE number < 4")
    connection.execute("UPDATE will SET record = x'00' WHERE client_id = 'a'")
    connection.close()
    notices: list[Notice] = []
    engine = SqliteEngine(tmp_path, Limits(), on_notice=notices.append)
    driver = Driver(engine)
    (record,) = driver.sessions()
    assert [(each.number, each.is_received) for each in record.in_flight] == [(4, False), (3, True)]
    assert [will.client_id for will in driver.wills(1)] == ["b"]
    assert len(notices) == 2
    engine.close()
    driver = reopened(tmp_path)
    assert [will.client_id for will in driver.wills(1)] == ["b"]
    driver.engine.close()


def test_after_damage_was_met_the_next_start_looks_at_everything(tmp_path: Path) -> None:
    filled(tmp_path).engine.close()
    (tmp_path / _SUSPECT).touch()
    reopened(tmp_path).engine.close()
    assert not (tmp_path / _SUSPECT).exists()
    disk = Disk()
    driver = Driver(sqlite(tmp_path, Limits(), disk))

    def malformed() -> Exception:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        return error

    disk.make_error = malformed
    disk.fail(once=True)
    assert "damaged" in driver.refused(SaveSession(900, "d")).reason
    driver.engine.close()
    assert (tmp_path / _SUSPECT).exists()
    data = bytearray((tmp_path / NAME).read_bytes())
    connection = sqlite3.connect(tmp_path / NAME)
    (root,) = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name='message'"
    ).fetchone()
    connection.close()
    data[(root - 1) * 4096 : (root - 1) * 4096 + 16] = b"\xff" * 16
    (tmp_path / NAME).write_bytes(bytes(data))
    with pytest.raises(StoreDamagedError):
        SqliteEngine(tmp_path, Limits())
    assert not (tmp_path / _SUSPECT).exists()


def test_a_read_that_the_database_refuses_is_refused(tmp_path: Path) -> None:
    driver = Driver(sqlite(tmp_path, Limits(), Disk()))
    driver.write(SaveSession(1, "c"), Append(2, MESSAGE, [Target(1, 1, 5)]))
    assert isinstance(driver.engine, SqliteEngine)
    driver.engine._database.connection.execute("DROP TABLE message")
    failed = driver.ask(ClaimSession(driver.next_id(), "c"))
    assert isinstance(failed, Failed)
    assert "no such table" in failed.reason
    driver.engine.close()
