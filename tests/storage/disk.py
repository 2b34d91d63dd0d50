"""A disk that fails when it is told to, below the engine's connection to SQLite.

It also knows what a loss of power would leave: the log up to the last commit that SQLite has
flushed, as its setting at that commit says.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_FULL = 2  # of `PRAGMA synchronous`
_LOG_HEADER = 32
_FRAME_HEADER = 24
_WRITING = ("BEGIN", "INSERT", "DELETE", "UPDATE", "COMMIT")


def full() -> sqlite3.Error:
    """What SQLite raises where no space is left."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def log_end(log: Path) -> int:
    """Where the last frame of a log ends that is newer than its header, whose salt it bears."""
    content = log.read_bytes()
    page_bytes = int.from_bytes(content[8:12], "big")
    end = _LOG_HEADER
    while content[end + 8 : end + 16] == content[16:24]:
        end += _FRAME_HEADER + page_bytes
    return end


class Disk:
    """Counts the statements that write. From the one with number `fails_from` on they fail, before
    or after they have taken effect, until `heal`; `fails_once` ends with the first."""

    def __init__(self) -> None:
        self.steps = 0
        self.commits = 0
        self.flushed: list[bool] = []  # of each commit
        self.flushed_bytes = 0  # of the log
        self.checkpoints = 0
        self.has_tidied = threading.Event()  # some pages have been given back
        self.fails_from = 0
        self.fails_once = False
        self.is_after = False
        self.has_no_room_to_close = False
        self.make_error: Callable[[], Exception] = full
        self.before_step: Callable[[int], None] = lambda step: None

    def fail(self, after_steps: int = 0, *, once: bool = False, is_after: bool = False) -> None:
        """Fail at the next statement, or some steps later."""
        self.fails_from = self.steps + after_steps + 1
        self.fails_once = once
        self.is_after = is_after

    def heal(self) -> None:
        """Work again."""
        self.fails_from = 0

    @property
    def is_failing(self) -> bool:
        """Whether statements fail, now or soon."""
        return self.fails_from > 0

    def run(self, sql: str, statement: Callable[[], Any]) -> Any:
        """Carry out a statement, or not."""
        if not sql.startswith(_WRITING):
            return statement()
        self.steps += 1
        self.before_step(self.steps)
        fails = 0 < self.fails_from <= self.steps
        if fails and self.fails_once:
            self.heal()
        if fails and (sql == "COMMIT" or not self.is_after):  # SQLite fails before, or not at all
            raise self.make_error()
        result = statement()
        if fails:
            raise self.make_error()
        if sql == "COMMIT":
            self.commits += 1
        return result

    def connect(self, path: str) -> sqlite3.Connection:
        """A connection on this disk."""
        disk = self
        log = Path(path + "-wal")

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                run = super().execute
                if disk.has_no_room_to_close and sql == "PRAGMA wal_checkpoint(TRUNCATE)":
                    raise full()
                cursor: sqlite3.Cursor = disk.run(sql, lambda: run(sql, parameters))
                if sql == "COMMIT":
                    (setting,) = run("PRAGMA synchronous").fetchone()
                    disk.flushed.append(setting >= _FULL)
                    if setting >= _FULL:
                        disk.flushed_bytes = log_end(log)
                elif sql == "PRAGMA wal_checkpoint(PASSIVE)":
                    disk.checkpoints += 1
                return cursor

            def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
                run = super().executemany
                cursor: sqlite3.Cursor = disk.run(sql, lambda: run(sql, parameters))
                return cursor

            def executescript(self, script: str, /) -> sqlite3.Cursor:
                cursor = super().executescript(script)
                if "vacuum" in script:
                    disk.has_tidied.set()
                return cursor

        return sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False, factory=Connection
        )
