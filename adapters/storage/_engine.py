"""The storage engine: what must survive, in a database file, behind operations and completions.

Submitting a write changes the index in memory and the batch that gathers, nothing else. When the
disk is free the batch is handed to the thread that writes, as one transaction, and the next begins
to gather: so one flush of the disk covers all that came during the one before. A write that nothing
but online receivers rest on stays a moment longer, because most of these acknowledge at once, and
then there is nothing left to write.

A read of what the batch holds has it handed over first: the thread takes one job after the other,
so a read finds exactly what was submitted before it. Where a change has begun whose last part has
not come, both wait for that.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final, cast, final

from adapters.storage._batch import Batch, Gathered
from adapters.storage._database import Connect, Report, connect, open_database
from adapters.storage._errors import explain
from adapters.storage._folding import Folding
from adapters.storage._index import INDEX_BYTES, MOST_NUMBERS, MOST_TARGETS, number_of
from adapters.storage._limits import Mark, StoreLimits
from adapters.storage._loading import Progress
from adapters.storage._notices import Notice, Notify, log_notice
from adapters.storage._reading import queue_reader, session_reader, sessions_reader, wills_reader
from adapters.storage._worker import NEVER, Commit, Fetch, Stumble, Worker
from mqtt_core.broker import (
    FIRST,
    LAST,
    LEVEL_FSYNC,
    LEVEL_MEMORY,
    LEVELS,
    MORE,
    RETAINED_FULL,
    STORE_BROKEN,
    STORE_FULL,
    WHOLE,
    Append,
    Claimed,
    ClaimSession,
    Completion,
    Done,
    EndSession,
    Failed,
    Limits,
    MatchRetained,
    Operation,
    PutRetained,
    Queued,
    QueuePage,
    ReadQueue,
    ReadSessions,
    ReadWills,
    Request,
    RetainedMessages,
    SaveSession,
    Settle,
    WillsPage,
    Write,
)

BATCH_ROWS: Final = 512
"""Rows after which a batch is not made longer, so that nobody waits long for it."""

HOPE_ROWS: Final = 4_096
"""The same for a batch that may yet cancel out."""

HOPE_S: Final = 0.005
"""How long a message stays in memory alone whose receivers may acknowledge it at once. With less
than half of it twice as many are written that need not be; who rests on one that is not
acknowledged waits so long before the disk is asked."""

LAZY_S: Final = 0.01
"""How long a change stays in memory alone that nobody waits for."""

TAKEN_BYTES: Final = 16 * 1024 * 1024
"""What may be in memory alone of changes that were answered at once, about; with more of it, who
asks for no more than memory waits as well."""

PATIENCE_S: Final = 5.0
"""How long a commit is tried again before its writes are refused."""

RETRY_S: Final = 1.0
"""Between attempts, once that has happened."""

_OPERATION_BYTES: Final = 300
_NAMED: Final = 100  # of what was damaged when the store was opened
_PURGED: Final = 256  # deliveries of sessions that are over, deleted with each batch
_NO_RETAINED: Final = "the limit of retained messages is reached"
_NO_MORE: Final = "the store has no identifiers left for that many messages"


@final
class SqliteEngine:
    """An `Engine` that keeps everything in a database in `folder`.

    Making one opens the store, which takes as long as reading its index (`on_progress` is told);
    raises `StoreError` where that fails. `level` is that of changes that no client waits for, and
    of listeners that have none of their own. `may_start_empty` lets it go on without a database
    that could not be read. `on_notice` is told what there is to log, on the thread of the loop.
    `connect` makes connections to SQLite.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        store_limits: StoreLimits | None = None,
        *,
        level: int = LEVEL_FSYNC,
        may_start_empty: bool = False,
        on_progress: Progress | None = None,
        on_notice: Notify = log_notice,
        connect: Connect = connect,
        hope_s: float = HOPE_S,
        lazy_s: float = LAZY_S,
        patience_s: float = PATIENCE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        if level not in LEVELS.values():
            raise ValueError(f"a level of durability is one of {LEVELS}, not {level!r}")
        self.level: Final = level
        database = open_database(
            folder,
            level,
            may_start_empty=may_start_empty,
            on_progress=on_progress,
            connect=connect,
        )
        loaded = database.loaded
        self.report: Final[Report] = database.report
        self._database: Final = database
        self._retained: Final = RetainedMessages(
            limits.retained_message_limit, limits.retained_bytes_limit
        )
        self._index: Final = loaded.index
        self._folding: Final = Folding(loaded.index, self._retained)
        for what in loaded.damages[:_NAMED]:
            on_notice(Notice.lost(what))
        if len(loaded.damages) > _NAMED:
            on_notice(Notice.lost(f"{len(loaded.damages) - _NAMED:,} more rows like these"))
        for message in loaded.retained:
            self._retained.put(message)
            self._folding.note_retained(message)
        self._worker: Final = Worker(database, level, patience_s)
        self._completions: list[Completion] = []
        self._outstanding: Final[deque[Commit | Fetch]] = deque()
        self._commits = 0  # of which writes
        self._taken = 0  # bytes of what has been answered and is not stored yet
        self._is_flushed = True  # the disk has all that has been committed
        self._deferred: list[Request] = []  # reads that wait for the end of a change
        self._change: Final[list[Gathered]] = []  # the parts of the last that has begun
        self._refused_change: Failed | None = None  # by its first part
        self._epoch = 0
        self._retry_at = 0.0  # while the disk refuses, when it is tried again
        self._is_troubled = False
        self._is_rung = False
        self._refused = 0
        self._last_failure = ""
        self._last_kind = STORE_BROKEN
        self._on_answers: Callable[[], None] = _ignore
        self._on_notice: Final = on_notice
        self._hope_s: Final = hope_s
        self._lazy_s: Final = lazy_s
        self._retry_s: Final = retry_s
        store_limits = StoreLimits() if store_limits is None else store_limits
        low = store_limits.low_percent
        self._is_limited: Final = store_limits.is_any
        self._bytes_mark: Final = Mark("bytes", store_limits.max_bytes, low)
        self._messages_mark: Final = Mark("messages", store_limits.max_messages, low)
        self._sessions_mark: Final = Mark("sessions", store_limits.max_sessions, low)

    @property
    def last_number(self) -> int:
        """The greatest number of a message or session, 0 for none."""
        return self._index.last_number

    @property
    def index_bytes(self) -> int | None:
        """What of a message that waits is in memory: its place in the index."""
        return INDEX_BYTES

    @property
    def used_bytes(self) -> int:
        """What the database uses on disk, without its log."""
        return self._worker.used_bytes

    @property
    def message_count(self) -> int:
        """Messages that wait or are under way, once for each session that they are for."""
        return self._index.count

    # Life

    def start(self, on_answers: Callable[[], None]) -> None:
        """A broker begins to work with what is stored."""
        self._on_answers = on_answers
        self._worker.start(self._ring)

    def close(self) -> None:
        """Store what has been submitted, but for a change whose last part has not come, and let go
        of the file. Raises `OSError` where something of this could not be done."""
        if self._folding.batch.is_open:
            self._forget_change()
        refused = self._refused
        for _ in range(2):  # again with what is kept of a commit that failed meanwhile
            if self._folding.batch.writes:
                self._hand_over()
            self._worker.close()
            self._take_results()
        reason = ""
        if self._refused > refused or self._folding.batch.writes:
            reason = f"not all that was submitted could be stored: {self._last_failure}"
        try:
            self._database.close()
        except sqlite3.Error as error:
            reason = reason or (
                "all is stored, but its log could not be brought into the database, which the next "
                f"start does first: {explain(error)}"
            )
        if reason:
            raise OSError(reason)

    def _ring(self) -> None:
        """From the thread: somebody is to take completions."""
        if not self._is_rung:
            self._is_rung = True
            self._on_answers()

    # Requests

    def submit(self, request: Request) -> None:
        """Take a request; nothing it leads to happens within this call but in memory."""
        if isinstance(request, Write):
            self._write(request)
        elif isinstance(request, MatchRetained):
            self._completions.append(self._retained.match(request))
        else:
            self._read(request, False)

    def _write(self, request: Write) -> None:
        refusal = self._refusal_of(request)
        if refusal is not None:
            self._completions.append(refusal)
            return
        part = request.part
        batch = self._folding.batch
        if part == FIRST:
            batch.is_open = True
            self._change.clear()
        if part != WHOLE:  # not answered before all parts are stored, since others may be refused
            write = Gathered(request.request_id, request.operations, request.level)
            self._change.append(write)
            self._gather(write)
        elif request.request_id and request.level == LEVEL_MEMORY and self._taken < TAKEN_BYTES:
            self._take(request)
        else:
            self._gather(Gathered(request.request_id, request.operations, request.level))
        if part == LAST:
            batch.is_open = False
            self._change.clear()
            if not self._retry_at:
                self._hand_over()  # before the next such change begins
        elif batch.is_open:
            pass
        elif len(batch.writes) >= BATCH_ROWS or len(batch.added) >= BATCH_ROWS:
            if batch.size >= (BATCH_ROWS if batch.is_urgent else HOPE_ROWS):
                self._hand_over()

    def _take(self, request: Write) -> None:
        """A write is answered at once, and stored with those that nobody waits for."""
        write = Gathered(0, request.operations, 0, _size_of(request.operations))
        self._gather(write)
        self._completions.append(Done(request.request_id, write.retained))

    def _gather(self, write: Gathered) -> None:
        """Let a write take effect, and see what it waits for."""
        folding = self._folding
        batch = folding.batch
        folding.fold(write)
        request_id = write.request_id
        is_settled = not (batch.writes or self._commits)
        if write.level == LEVEL_FSYNC and not self._is_flushed:
            is_settled = False
        if write.rests or write.live or not is_settled:
            # One that changes nothing would, perhaps, if one before it is refused, or lost.
            batch.writes.append(write)
            batch.taken += write.taken
            self._taken += write.taken
            write.rests = write.rests or not write.live
            if request_id and write.level > batch.level:
                batch.level = write.level
            if request_id and write.rests:
                batch.is_urgent = True
            elif not batch.is_empty:
                self._wait(batch, self._hope_s if request_id else self._lazy_s)
        elif request_id:
            self._done(write)
        if folding.cancelled:
            for each in folding.cancelled:
                # Not if it went on to change something else.
                if not (each.live or each.rests or each.is_done):
                    self._done(each)
            folding.cancelled.clear()
            if batch.is_empty and not batch.is_urgent and not self._commits:
                batch.writes.clear()
                self._taken -= batch.taken
                batch.taken = 0
                batch.due = 0.0
                self._worker.due_at = NEVER

    def _wait(self, batch: Batch, delay_s: float) -> None:
        """A batch is to be written after a while, if not before."""
        due = monotonic() + delay_s
        if not batch.due or due < batch.due:
            batch.due = due
            if not self._commits:
                self._worker.set_alarm(due)

    def _done(self, write: Gathered) -> None:
        write.is_done = True
        if write.request_id:
            self._completions.append(Done(write.request_id, write.retained))

    def _refusal_of(self, request: Write) -> Failed | None:
        """Why a write cannot be taken, None where it can. A change of several parts is taken, or
        refused, by its first one."""
        request_id = request.request_id
        if request.part in (MORE, LAST):
            refused = self._refused_change
            return refused and Failed(request_id, refused.reason, refused.kind)
        refusal = self._refusal(request_id, request.operations) if request_id else None
        if request.part == FIRST:
            self._refused_change = refusal
        return refusal

    def _refusal(self, request_id: int, operations: list[Operation]) -> Failed | None:
        is_limited = self._is_limited
        sessions = 0  # how many more there would be
        messages = 0
        is_retained = False
        for operation in operations:
            kind = type(operation)
            if kind is Append:
                append = cast(Append, operation)
                messages += len(append.targets)
                if append.number >= MOST_NUMBERS or len(append.targets) > MOST_TARGETS:
                    return Failed(request_id, _NO_MORE, STORE_FULL)
            elif kind is PutRetained:
                is_retained = True
                if not self._retained.has_room(cast(PutRetained, operation).message):
                    return Failed(request_id, _NO_RETAINED, RETAINED_FULL)
            elif kind is SaveSession:
                sessions += 1
            elif kind is Settle:  # a message that moves to another session adds nothing
                messages -= 1
            elif is_limited and kind is EndSession:
                sessions -= cast(EndSession, operation).session in self._index.sessions
        if not is_limited:
            return None
        reason = ""
        if sessions > 0:
            reason = self._fullness(self._sessions_mark, len(self._index.sessions))
        if messages > 0 and not reason:
            reason = self._fullness(self._messages_mark, self._index.count)
        if (messages > 0 or sessions > 0 or is_retained) and not reason:
            reason = self._fullness(self._bytes_mark, self._worker.used_bytes)
        return Failed(request_id, reason, STORE_FULL) if reason else None

    def _fullness(self, mark: Mark, used: int) -> str:
        """Why nothing more is taken, empty where something is."""
        was_full = mark.is_full
        reason = mark.reason(used) if mark.refuses(used) else ""
        if mark.is_full != was_full:
            self._on_notice(Notice.full(reason) if reason else Notice.has_room(mark.name))
        return reason

    # Reads

    def _read(self, request: Request, is_again: bool) -> None:
        """Answer from the index, or have it fetched. `is_again`: a commit before it has failed,
        and would again."""
        batch = self._folding.batch
        is_touched = bool(batch.writes)
        request_id = request.request_id
        if isinstance(request, ReadQueue):
            stored = self._index.sessions.get(request.session)
            ids: list[int] = []
            if stored is not None:
                ids = stored.page(request.after, request.limit, request.limit_bytes)
                is_touched = stored.touched == batch.serial
            if not ids:
                self._completions.append(QueuePage(request_id, []))
                return
            unwritten: dict[int, Queued] = {}
            if is_touched and is_again:
                unwritten = self._unwritten(ids)
                is_touched = False
            fetching = queue_reader(request, ids, unwritten)
        elif isinstance(request, ClaimSession):
            claimed = self._index.by_client.get(request.client_id)
            if claimed is None:
                self._completions.append(Claimed(request_id, None))
                return
            fetching = session_reader(request, self._index.sessions[claimed])
        elif isinstance(request, ReadSessions):
            fetching = sessions_reader(request, self._index.behind(request.after, request.limit))
        else:
            assert isinstance(request, ReadWills), request
            fetching = wills_reader(request)
        if is_touched and is_again:
            reason = "the store cannot be written now, and what was asked for rests on that"
            self._completions.append(Failed(request_id, reason, self._last_kind))
            return
        if is_touched and batch.is_open:
            self._deferred.append(request)
            return
        if is_touched:
            self._hand_over()
        fetch = Fetch(request, fetching, self._epoch)
        self._outstanding.append(fetch)
        self._worker.hand_over(fetch)

    def _unwritten(self, ids: list[int]) -> dict[int, Queued]:
        """Deliveries that only the batch has."""
        batch = self._folding.batch
        found: dict[int, Queued] = {}
        for each in ids:
            added = batch.added.get(each)
            if added is not None:
                number = number_of(each)
                target = added.target
                message = batch.messages[number]
                found[each] = Queued(number, target.qos, message, target.particulars)
        return found

    # To the thread and back

    def _hand_over(self) -> None:
        """The batch that has gathered goes to the thread, and the next begins."""
        folding = self._folding
        folding.purge(_PURGED)
        batch = folding.batch
        folding.batch = Batch(batch.serial + 1)
        job = Commit(batch, batch.level or self.level, self._epoch)
        self._outstanding.append(job)
        self._commits += 1
        self._worker.due_at = NEVER
        self._worker.hand_over(job)
        deferred = self._deferred
        self._deferred = []
        for request in deferred:
            self._read(request, False)

    def take_completions(self) -> list[Completion]:
        """What has been decided since the last call."""
        self._is_rung = False  # before looking: what comes from now on rings again
        self._take_results()
        self._hand_over_if_due()
        completions = self._completions
        if completions:
            self._completions = []
        return completions

    def _take_results(self) -> None:
        results = self._worker.results
        while results:
            result = results.popleft()
            if isinstance(result, Stumble):
                self._stumbled(result.reason)
            elif result.epoch == self._epoch:
                self._outstanding.popleft()
                if isinstance(result, Commit):
                    self._commits -= 1
                    self._committed(result)
                else:
                    self._fetched(result)

    def _hand_over_if_due(self) -> None:
        folding = self._folding
        batch = folding.batch
        if self._commits or batch.is_open or not (batch.writes or self._index.garbage):
            return
        now = monotonic()
        if self._retry_at > now:
            self._worker.set_alarm(self._retry_at)
        elif batch.is_urgent or (batch.due and batch.due <= now):
            self._hand_over()
        elif batch.due:
            self._worker.set_alarm(batch.due)
        else:  # only what sessions that are over have left
            self._wait(batch, self._lazy_s)

    def _committed(self, job: Commit) -> None:
        if job.failure:
            self._refuse(job)
            return
        self._retry_at = 0.0
        self._taken -= job.batch.taken
        self._is_flushed = job.level >= LEVEL_FSYNC
        if self._is_troubled:
            self._is_troubled = False
            self._on_notice(Notice.recovered())
        for write in job.batch.writes:
            if not write.is_done:
                self._done(write)

    def _fetched(self, job: Fetch) -> None:
        request = job.request
        completion = job.completion
        for damage in job.damages:
            # It cannot be had any more, and what stands behind it must not wait for ever.
            self._on_notice(Notice.lost(damage.what))
            self._gather(Gathered(0, [damage.remedy]))
        if completion is None:
            self._on_notice(Notice.unreadable(job.failure))
            self._completions.append(Failed(request.request_id, job.failure))
        elif job.damages and _is_empty(completion):
            self._read(
                request, False
            )  # there may be more, and an empty page says that there is not
        else:
            self._completions.append(completion)

    # When the disk refuses

    def _stumbled(self, reason: str) -> None:
        if not self._is_troubled:
            self._is_troubled = True
            self._on_notice(Notice.troubled(reason))

    def _refuse(self, job: Commit) -> None:
        """A commit has come to nothing. Its writes are refused, but for those that nobody would
        hear of: they stay, and are tried again with what has come since."""
        self._stumbled(job.failure)
        self._last_failure = job.failure
        self._last_kind = STORE_FULL if job.is_full else STORE_BROKEN
        later = [each for each in self._outstanding if isinstance(each, Commit)]
        reads = [each for each in self._outstanding if isinstance(each, Fetch)]
        self._outstanding.clear()
        self._commits = 0
        self._taken = 0
        self._epoch += 1
        self._retry_at = monotonic() + self._retry_s
        folding = self._folding
        batches = [job.batch, *(each.batch for each in later), folding.batch]
        for batch in reversed(batches):
            folding.roll_back(batch)
        is_open = folding.batch.is_open
        folding.batch = Batch(folding.batch.serial + 1)
        folding.batch.is_open = is_open
        for write in job.batch.writes:
            if write.request_id and not write.is_done:
                write.is_done = True
                self._refused += 1
                self._completions.append(Failed(write.request_id, job.failure, self._last_kind))
        for batch in batches:
            self._gather_again(batch)
        for read in reads:
            self._read(read.request, True)

    def _gather_again(self, batch: Batch) -> None:
        """Let what there was in a batch that is rolled back take effect, but for what is over."""
        for write in batch.writes:
            if not write.is_done:
                write.live = 0
                write.rests = False
                self._gather(write)

    def _forget_change(self) -> None:
        """The last part of a change will not come: nothing of it is to be stored."""
        folding = self._folding
        batch = folding.batch
        folding.roll_back(batch)
        folding.batch = Batch(batch.serial + 1)
        self._taken -= batch.taken
        for write in self._change:
            write.is_done = True
        self._gather_again(batch)


def _size_of(operations: list[Operation]) -> int:
    """About how much memory operations take until they are stored."""
    size = 0
    for operation in operations:
        size += _OPERATION_BYTES
        if isinstance(operation, (Append, PutRetained)):
            size += operation.message.size_bytes
    return size


def _is_empty(completion: Completion) -> bool:
    return (isinstance(completion, QueuePage) and not completion.entries) or (
        isinstance(completion, WillsPage) and not completion.wills
    )


def _ignore() -> None:
    pass
