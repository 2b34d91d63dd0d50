"""The thread that writes to the database and reads from it, one job after the other.

Jobs come from the thread of the loop and go back there with their outcome. When a commit has come
to nothing, jobs that were handed over before that is known are sent back untouched: they rest on
what is not there.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple, final

from adapters.storage._batch import Batch
from adapters.storage._database import Database, synchronous
from adapters.storage._errors import explain, is_damage, is_full
from adapters.storage._reading import Damage, Fetching
from adapters.storage._writing import Rows, write_rows
from mqtt_core.broker import LEVEL_FSYNC, Completion, Request

NEVER: Final = float("inf")
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5


@final
class Commit:
    """A batch to be written."""

    __slots__ = ("batch", "rows", "level", "epoch", "failure", "is_full")

    def __init__(self, batch: Batch, level: int, epoch: int) -> None:
        self.batch: Final = batch
        self.rows: Final = Rows(batch)
        self.level: Final = level  # of its commit
        self.epoch: Final = epoch
        self.failure = ""
        self.is_full = False  # for want of space


@final
class Fetch:
    """Something to be read for a request."""

    __slots__ = ("request", "fetching", "epoch", "completion", "damages", "failure")

    def __init__(self, request: Request, fetching: Fetching, epoch: int) -> None:
        self.request: Final = request
        self.fetching: Final = fetching
        self.epoch: Final = epoch
        self.completion: Completion | None = None
        self.damages: Final[list[Damage]] = []
        self.failure = ""


@final
class Stumble:
    """A commit did not succeed at once, for this reason: it is tried again."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason: Final = reason


Result = Commit | Fetch | Stumble


class _Trouble(NamedTuple):
    """Why a batch was not written. It `is_hopeless` where trying again soon is of no use."""

    reason: str
    is_hopeless: bool
    is_full: bool


@final
class Worker:
    """Carries out jobs in order; `results` are theirs, also in order.

    A commit that fails is tried again for `patience_s` seconds, then given up. `ring` is called
    from the thread when there is a result, and when the time set by `set_alarm` has come.
    """

    def __init__(self, database: Database, level: int, patience_s: float) -> None:
        self.results: Final[deque[Result]] = deque()
        self.used_bytes = database.used_bytes()
        self.due_at = NEVER
        self._database: Final = database
        self._connection: Final = database.connection
        self._flushes = level >= LEVEL_FSYNC  # as the connection is set
        self._is_flushed = True  # the disk has all that has been committed
        self._patience_s: Final = patience_s
        self._jobs: Final[deque[Commit | Fetch]] = deque()
        self._changed: Final = threading.Condition()
        self._armed_for = -NEVER  # when the thread wakes by itself; while it works, at once
        self._epoch = 0
        self._is_closing = False
        self._is_sick = False
        self._may_tidy = True
        self._thread: threading.Thread | None = None
        self._ring: Callable[[], None] = _ignore

    # On the thread of the loop

    def start(self, ring: Callable[[], None]) -> None:
        """Begin."""
        self._ring = ring
        self._thread = threading.Thread(target=self._run, name="iotd-store", daemon=True)
        self._thread.start()

    def hand_over(self, job: Commit | Fetch) -> None:
        """Take one more job."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def set_alarm(self, at: float) -> None:
        """Ring at this time of the monotonic clock, in place of any other."""
        with self._changed:
            self.due_at = at
            if at < self._armed_for:
                self._changed.notify()

    def close(self) -> None:
        """Carry out what is left, without patience, and end. Blocks; may be called again."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._ring = _ignore
        self._run()

    # On its own thread

    def _run(self) -> None:
        while True:
            job = self._next()
            if job is not None:
                self._carry_out(job)
            elif self._is_closing and not self._jobs:
                return
            self._ring()

    def _next(self) -> Commit | Fetch | None:
        """The next job; None when it is time to ring or to end."""
        with self._changed:
            while not self._jobs:
                if self._is_closing:
                    return None
                if self._may_tidy:
                    self._tidy()
                    continue
                now = monotonic()
                if self.due_at <= now:
                    self.due_at = NEVER
                    return None
                self._armed_for = self.due_at
                self._changed.wait(None if self.due_at == NEVER else self.due_at - now)
                self._armed_for = -NEVER
            return self._jobs.popleft()

    def _tidy(self) -> None:
        """Nothing else is to be done: give back some space, as long as that is so."""
        self._changed.release()
        try:
            self._may_tidy = self._database.give_back()
        except sqlite3.Error:
            self._may_tidy = False  # the next commit meets the same, and tells
        finally:
            self._changed.acquire()

    def _carry_out(self, job: Commit | Fetch) -> None:
        if job.epoch != self._epoch:
            job.failure = "a write before this one was refused"
        elif isinstance(job, Commit):
            self._commit(job)
        else:
            self._fetch(job)
        self.results.append(job)

    def _fetch(self, job: Fetch) -> None:
        try:
            job.completion = job.fetching(self._connection, job.damages)
        except Exception as error:  # noqa: BLE001  whatever it is, the request gets an answer
            job.failure = self._explained(error)

    def _commit(self, job: Commit) -> None:
        until = NEVER
        pause = _FIRST_PAUSE_S
        while True:
            trouble = self._try(job.rows, job.level >= LEVEL_FSYNC)
            if trouble is None:
                self._is_sick = False
                self._may_tidy = True
                return
            now = monotonic()
            if until == NEVER:
                until = now + self._patience_s
                if not self._is_sick:
                    self.results.append(Stumble(trouble.reason))
                    self._ring()
            if self._is_sick or self._is_closing or now >= until or trouble.is_hopeless:
                self._is_sick = True
                self._epoch += 1
                job.failure = trouble.reason
                job.is_full = trouble.is_full
                return
            with self._changed:
                self._changed.wait(min(pause, until - now))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _try(self, rows: Rows, is_flushed: bool) -> _Trouble | None:
        """Write a batch, or nothing of it. Returns what went wrong, but never the error itself,
        which would keep statements of SQLite alive."""
        connection = self._connection
        try:
            if is_flushed != self._flushes:
                connection.execute(f"PRAGMA {synchronous(is_flushed)}")
                self._flushes = is_flushed
            changes = connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            write_rows(connection, rows)
            connection.execute("COMMIT")
            if is_flushed and not self._is_flushed and connection.total_changes == changes:
                self._database.flush()  # no page was written, so that SQLite did not
        except Exception as error:  # noqa: BLE001  whatever it is, nothing of the batch is stored
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.Error:
                pass  # the first error says more
            return _Trouble(self._explained(error), _is_hopeless(error), is_full(error))
        self._is_flushed = is_flushed
        try:
            self.used_bytes = self._database.used_bytes()
        except sqlite3.Error:
            pass  # it is stored; how much there is will be known after the next
        return None

    def _explained(self, error: Exception) -> str:
        if is_damage(error):
            self._database.suspect()
        return explain(error)


def _is_hopeless(error: Exception) -> bool:
    """Whether nothing can come of trying again soon."""
    return is_damage(error) or not isinstance(error, (sqlite3.OperationalError, OSError))


def _ignore() -> None:
    pass
