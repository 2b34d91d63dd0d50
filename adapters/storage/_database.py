"""The file: how it is opened, refused, set aside, and kept from growing.

One connection of one process holds it, exclusively. Its log (WAL) is what makes a commit one write
at the end of a file; what of it does not verify after a crash is cut by SQLite itself, to the last
whole transaction.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

from adapters.storage._errors import (
    StoreDamagedError,
    StoreError,
    StoreInUseError,
    StoreUnavailableError,
    code_of,
    explain,
    is_damage,
)
from adapters.storage._loading import Loaded, Progress, load
from adapters.storage._schema import migrate, schema_of
from mqtt_core.broker import LEVEL_FSYNC

NAME: Final = "iotd.db"
"""The database within the folder of a store."""

_SUSPECT: Final = "iotd.db.suspect"  # there once damage was met: the next start looks at everything

CHECKPOINT_PAGES: Final = 4_000
"""The log goes into the database when it has so many pages: about 16 MB."""

_LOG_BYTES: Final = 64 * 1024 * 1024  # what is left of a log that had to be longer for once
_CACHE_KIB: Final = 16_384
_OLDEST_SQLITE: Final = (3, 35, 0)

VACUUM_PAGES: Final = 512
"""Pages given back to the file system at once."""

_SPARE_PAGES: Final = 2_048  # free pages that are kept for what comes next

_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24

Connect = Callable[[str], sqlite3.Connection]
"""Makes a connection to a path: autocommit, usable from any thread, never waiting for a lock."""


def connect(path: str) -> sqlite3.Connection:
    """A connection as the engine wants it."""
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def synchronous(is_flushed: bool) -> str:
    """The setting with which a commit is flushed to the disk or not, for `PRAGMA`. It costs nothing
    to change between two transactions, and a commit that is flushed flushes all that were not: the
    log is one file.

    NORMAL flushes the log before it goes into the database: power loss costs its end only.
    """
    return f"synchronous={'FULL' if is_flushed else 'NORMAL'}"


@final
class Report:
    """What was found when a store was opened.

    `log_bytes_cut` are those of the log behind its last whole transaction. `kept_as` is where a
    database was set aside that could not be read, None without one. `damages` is what was damaged
    in it and is left out, each in one line.
    """

    __slots__ = (
        "path",
        "schema_before",
        "sessions",
        "messages",
        "retained",
        "log_bytes_cut",
        "kept_as",
        "damages",
        "seconds",
    )

    def __init__(
        self,
        path: Path,
        schema_before: int,
        loaded: Loaded,
        log_bytes_cut: int,
        kept_as: Path | None,
        seconds: float,
    ) -> None:
        self.path: Final = path
        self.schema_before: Final = schema_before
        self.sessions: Final = len(loaded.index.sessions)
        self.messages: Final = loaded.index.count
        self.retained: Final = len(loaded.retained)
        self.log_bytes_cut: Final = log_bytes_cut
        self.kept_as: Final = kept_as
        self.damages: Final = loaded.damages
        self.seconds: Final = seconds


@final
class Database:
    """An open database and what it held."""

    __slots__ = ("connection", "folder", "loaded", "report", "page_bytes")

    def __init__(
        self, connection: sqlite3.Connection, folder: Path, loaded: Loaded, report: Report
    ) -> None:
        self.connection: Final = connection
        self.folder: Final = folder
        self.loaded: Final = loaded
        self.report: Final = report
        (self.page_bytes,) = connection.execute("PRAGMA page_size").fetchone()

    def used_bytes(self) -> int:
        """What is in use of the file, without free pages and the log."""
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        return int((pages - self.free_pages()) * self.page_bytes)

    def free_pages(self) -> int:
        """Pages of the file that are not in use."""
        (pages,) = self.connection.execute("PRAGMA freelist_count").fetchone()
        return int(pages)

    def give_back(self) -> bool:
        """Give some free pages back to the file system; whether there are more."""
        if self.free_pages() <= _SPARE_PAGES:
            return False
        # By `execute` it would free a single page.
        self.connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        return self.free_pages() > _SPARE_PAGES

    def flush(self) -> None:
        """Have the disk take all that has been committed. Raises `sqlite3.Error`."""
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def suspect(self) -> None:
        """Damage has been met: let the next start look at everything."""
        try:
            (self.folder / _SUSPECT).touch()
        except OSError:
            pass  # then the damage is met again

    def close(self) -> None:
        """Bring the log into the database, and let go of the file. Raises `sqlite3.Error`."""
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self.connection.close()


def open_database(
    folder: Path,
    level: int,
    *,
    may_start_empty: bool = False,
    on_progress: Progress | None = None,
    connect: Connect = connect,
) -> Database:
    """Open the database of a folder, or make it. Raises a `StoreError` that says what to do."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreUnavailableError(
            f"SQLite {sqlite3.sqlite_version} is too old for the store, which needs 3.35 or later: "
            "use a newer Python or system"
        )
    try:
        _make(folder)
    except OSError as error:
        raise StoreUnavailableError(
            f"{folder}: the folder of the store cannot be made ({error.strerror}); name another "
            "one, or see its rights"
        ) from error
    began = time.monotonic()
    kept_as: Path | None = None
    try:
        with _refusals(folder):
            opened = _open(folder, level, on_progress, connect)
    except _Unreadable as unreadable:
        kept_as = _set_aside(folder)
        message = (
            f"{folder / NAME} could not be read ({unreadable.reason}); it is kept as {kept_as}. "
            "Sessions, queued messages, retained messages and wills in it are lost to the broker"
        )
        if not may_start_empty:
            raise StoreDamagedError(
                f"{message}: put a backup in its place, or start again, with an empty store",
                kept_as,
            ) from unreadable
        with _refusals(folder):
            opened = _open(folder, level, on_progress, connect)
    connection, version, loaded, cut = opened
    report = Report(folder / NAME, version, loaded, cut, kept_as, time.monotonic() - began)
    return Database(connection, folder, loaded, report)


def _make(folder: Path) -> None:
    """Make a folder where there is none, so that it outlives a loss of power. Raises `OSError`.

    SQLite flushes the names of its files to the disk, in the folder, and not the folder's own name.
    """
    made = [each for each in folder.parents if not each.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (folder, *made):
        try:
            above = os.open(each.parent, os.O_RDONLY)
        except OSError:
            continue  # it cannot be read, or no folder can be opened on this system
        try:
            os.fsync(above)
        except OSError:
            pass  # this file system does without
        finally:
            os.close(above)


class _Unreadable(Exception):
    """The file is not a database any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason: Final = reason


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    """Errors of SQLite as what they mean for whoever opens a store."""
    try:
        yield
    except sqlite3.Error as error:
        # A table that is not what it was leads to the plainest of all errors.
        if is_damage(error) or code_of(error) == sqlite3.SQLITE_ERROR:
            raise _Unreadable(str(error)) from error
        if code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreInUseError(
                f"{folder}: another process uses this store; stop that one (it may be a broker "
                "that is still shutting down), or name another folder"
            ) from error
        raise StoreUnavailableError(f"{folder}: {explain(error)}") from error


def _open(
    folder: Path, level: int, on_progress: Progress | None, connect: Connect
) -> tuple[sqlite3.Connection, int, Loaded, int]:
    path = folder / NAME
    connection = connect(str(path))
    try:
        # Before the log is first looked at, which needs no shared memory then.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        version = schema_of(connection)
        for pragma in (
            "auto_vacuum=INCREMENTAL",  # before the first table
            "journal_mode=WAL",
            synchronous(level >= LEVEL_FSYNC),
            "secure_delete=OFF",  # or each deletion would be written twice
            f"cache_size=-{_CACHE_KIB}",
            "temp_store=MEMORY",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
            f"journal_size_limit={_LOG_BYTES}",
        ):
            connection.execute("PRAGMA " + pragma)
        migrate(connection, version)
        cut = _log_bytes_cut(connection, path)
        if (folder / _SUSPECT).exists():
            _look_at_everything(connection)
            (folder / _SUSPECT).unlink()
        loaded = load(connection, on_progress)
    except BaseException:
        connection.close()
        raise
    return connection, version, loaded, cut


def _look_at_everything(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _Unreadable(verdict)


def _log_bytes_cut(connection: sqlite3.Connection, path: Path) -> int:
    """How much of the log stands behind its last whole transaction, and is lost.

    Frames of the present log bear the salt of its header; older ones behind them do not count.
    """
    frames = max(connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1], 0)
    page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
    frame_bytes = _FRAME_HEADER + page_bytes
    cut = 0
    # Opening the database itself would drop the lock on it; its log bears none.
    try:
        with open(f"{path}-wal", "rb") as log:
            salt = log.read(_WAL_HEADER)[16:24]
            while len(salt) == 8:
                log.seek(_WAL_HEADER + frames * frame_bytes)
                if log.read(16)[8:16] != salt:
                    break
                cut += frame_bytes
                frames += 1
    except FileNotFoundError:
        pass
    return cut


def _set_aside(folder: Path) -> Path:
    """Rename the files of a database, which keeps them; the new name of the database."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    name = f"{NAME}.damaged-{stamp}"
    count = 1
    while (folder / name).exists():
        count += 1
        name = f"{NAME}.damaged-{stamp}-{count}"
    try:
        for suffix in ("-wal", "-shm", ""):
            part = folder / (NAME + suffix)
            if part.exists():
                part.rename(folder / (name + suffix))
        (folder / _SUSPECT).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder / NAME} cannot be read, and not renamed either ({error.strerror}): "
            "see the rights of the folder"
        ) from error
    return folder / name
