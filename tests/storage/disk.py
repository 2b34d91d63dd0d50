"""A disk that fails when it is told to, below the engine's connection to SQLite."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable
from typing import Any

_WRITING = ("BEGIN", "INSERT", "DELETE", "UPDATE", "COMMIT")


def full() -> sqlite3.Error:
    """What SQLite raises where no space is left."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


class Disk:
    """Counts the statements that write. From the one with number `fails_from` on they fail, before
    or after they have taken effect, until `heal`; `fails_once` ends with the first."""

    def __init__(self) -> None:
        self.steps = 0
        self.commits = 0
        self.has_tidied = threading.Event()  # some pages have been given back
        self.fails_from = 0
        self.fails_once = False
        self.is_after = False
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

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                run = super().execute
                cursor: sqlite3.Cursor = disk.run(sql, lambda: run(sql, parameters))
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
