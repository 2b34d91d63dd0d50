"""A storage engine that keeps everything in memory: nothing survives the process.

It completes at once and is the model that other engines are compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from mqtt_core._levels import LEVEL_MEMORY
from mqtt_core._particulars import Options
from mqtt_core._store import (
    FIRST,
    RETAINED_FULL,
    WHOLE,
    Append,
    Claimed,
    ClaimSession,
    Completion,
    DeleteRetained,
    DeleteSubscription,
    Done,
    DropExpired,
    EndSession,
    Failed,
    HoldIdentifier,
    InFlight,
    MatchRetained,
    Operation,
    PutRetained,
    Queued,
    QueuePage,
    ReadQueue,
    ReadSessions,
    ReadWills,
    ReleaseIdentifier,
    Request,
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
    WillsPage,
    Write,
)
from mqtt_core.broker._limits import Limits
from mqtt_core.broker._retained import RetainedMessages


@final
class _Stored:
    """One session. `waiting` stands in the order of numbers, from index `first` on."""

    __slots__ = (
        "client_id",
        "subscriptions",
        "retained_due",
        "waiting",
        "first",
        "sent",
        "held",
        "expires_at",
        "interval_s",
        "is_retired",
    )

    def __init__(self, client_id: str) -> None:
        self.client_id: Final = client_id
        self.subscriptions: Final[dict[bytes, tuple[int, Options | None]]] = {}
        self.retained_due: Final[set[bytes]] = set()
        self.waiting: Final[list[Queued]] = []
        self.first = 0
        self.sent: Final[dict[int, InFlight]] = {}  # by number, in the order of sending
        self.held: Final[set[int]] = set()
        self.expires_at: float | None = None
        self.interval_s = 0
        self.is_retired = False

    def index_behind(self, number: int) -> int:
        """Where the first waiting message with a greater number stands."""
        low = self.first
        high = len(self.waiting)
        while low < high:
            middle = (low + high) // 2
            if self.waiting[middle].number <= number:
                low = middle + 1
            else:
                high = middle
        return low

    def record(self, session: int) -> SessionRecord:
        """All there is of it."""
        return SessionRecord(
            session,
            self.client_id,
            dict(self.subscriptions),
            list(self.sent.values()),
            set(self.held),
            [
                (entry.number, entry.message.size_bytes, entry.message.expires_at)
                for entry in self.waiting[self.first :]
            ],
            self.expires_at,
            self.interval_s,
            set(self.retained_due),
        )

    def take(self, number: int) -> Queued | None:
        """Remove a waiting message."""
        at = self.index_behind(number) - 1
        if at < self.first or self.waiting[at].number != number:
            return None
        entry = self.waiting[at]
        if at > self.first:
            del self.waiting[at]
            return entry
        self.first += 1
        if self.first > 256 and self.first * 2 > len(self.waiting):
            del self.waiting[: self.first]
            self.first = 0
        return entry


@final
class MemoryEngine:
    """Sessions, queues and retained messages in dictionaries and a trie."""

    __slots__ = (
        "retained",
        "_last_number",
        "_sessions",
        "_by_client",
        "_wills",
        "_completions",
        "_is_refused",
    )

    def __init__(self, limits: Limits) -> None:
        self.retained: Final = RetainedMessages(
            limits.retained_message_limit, limits.retained_bytes_limit
        )
        self._last_number = 0
        self._sessions: Final[dict[int, _Stored]] = {}
        self._by_client: Final[dict[str, int]] = {}
        self._wills: Final[dict[str, StoredWill]] = {}
        self._completions: list[Completion] = []
        self._is_refused = False  # the first part of the change of which there may be more

    @property
    def last_number(self) -> int:
        """The greatest number of a message or session, 0 for none."""
        return self._last_number

    @property
    def level(self) -> int:
        """Nothing survives the process, whatever is asked for."""
        return LEVEL_MEMORY

    @property
    def index_bytes(self) -> int | None:
        """Messages are here as a whole."""
        return None

    def start(self, on_answers: Callable[[], None]) -> None:
        """A broker begins to work with what is here. Its answers are there at once, so it is never
        told of any."""
        self._completions = []
        for number, stored in list(self._sessions.items()):
            if stored.is_retired:
                del self._sessions[number]

    def close(self) -> None:
        """Everything has taken effect already."""

    def submit(self, request: Request) -> None:
        """Take a request; its completion is there at once, for `take_completions`."""
        if isinstance(request, Write):
            self._write(request)
        elif isinstance(request, ClaimSession):
            self._completions.append(self._claim(request))
        elif isinstance(request, ReadQueue):
            self._completions.append(self._read_queue(request))
        elif isinstance(request, ReadSessions):
            self._completions.append(self._read_sessions(request))
        elif isinstance(request, ReadWills):
            self._completions.append(self._read_wills(request))
        else:
            assert isinstance(request, MatchRetained), request
            self._completions.append(self.retained.match(request))

    def take_completions(self) -> list[Completion]:
        """What has been decided since the last call."""
        completions = self._completions
        if completions:
            self._completions = []
        return completions

    def _write(self, request: Write) -> None:
        request_id = request.request_id
        if request.part in (WHOLE, FIRST):
            is_refused = any(
                isinstance(operation, PutRetained) and not self.retained.has_room(operation.message)
                for operation in request.operations
            )
            if request.part == FIRST:
                self._is_refused = is_refused
        else:
            is_refused = self._is_refused
        if is_refused:
            self._completions.append(
                Failed(request_id, "the limit of retained messages is reached", RETAINED_FULL)
            )
            return
        for operation in request.operations:
            self._apply(operation)
        if request_id:
            self._completions.append(Done(request_id, self.retained.count))

    def _apply(self, operation: Operation) -> None:
        if isinstance(operation, Append):
            self._append(operation)
        elif isinstance(operation, Settle):
            stored = self._sessions.get(operation.session)
            if stored is not None and stored.sent.pop(operation.number, None) is None:
                stored.take(operation.number)
        elif isinstance(operation, SaveSent):
            self._save_sent(operation)
        elif isinstance(operation, SaveReceived):
            self._save_received(operation)
        elif isinstance(operation, HoldIdentifier):
            stored = self._sessions.get(operation.session)
            if stored is not None:
                stored.held.add(operation.packet_id)
        elif isinstance(operation, ReleaseIdentifier):
            stored = self._sessions.get(operation.session)
            if stored is not None:
                stored.held.discard(operation.packet_id)
        elif isinstance(operation, PutRetained):
            self.retained.put(operation.message)
        elif isinstance(operation, DeleteRetained):
            self.retained.delete(operation.topic)
        elif isinstance(operation, DropExpired):
            self.retained.drop_expired(operation.now)
        else:
            self._apply_to_session(operation)

    def _apply_to_session(self, operation: Operation) -> None:
        if isinstance(operation, SaveSession):
            self._last_number = max(self._last_number, operation.session)
            self._sessions[operation.session] = _Stored(operation.client_id)
            self._by_client[operation.client_id] = operation.session
        elif isinstance(operation, EndSession):
            stored = self._sessions.pop(operation.session, None)
            self._forget_client(operation.session, stored)
        elif isinstance(operation, RetireSession):
            stored = self._sessions.get(operation.session)
            self._forget_client(operation.session, stored)
            if stored is not None:
                stored.is_retired = True
        elif isinstance(operation, SaveSubscription):
            stored = self._sessions.get(operation.session)
            if stored is not None:
                stored.subscriptions[operation.topic_filter] = (operation.qos, operation.options)
                stored.retained_due.discard(operation.topic_filter)
                if operation.retained_due:
                    stored.retained_due.add(operation.topic_filter)
        elif isinstance(operation, DeleteSubscription):
            stored = self._sessions.get(operation.session)
            if stored is not None:
                stored.subscriptions.pop(operation.topic_filter, None)
                stored.retained_due.discard(operation.topic_filter)
        elif isinstance(operation, SaveExpiry):
            stored = self._sessions.get(operation.session)
            if stored is not None:
                stored.expires_at = operation.at
                stored.interval_s = operation.interval_s
        else:
            assert isinstance(operation, SaveWill), operation
            client_id = operation.client_id
            if operation.will is None:
                self._wills.pop(client_id, None)
            else:
                self._wills[client_id] = StoredWill(client_id, operation.will, operation.due)

    def _forget_client(self, session: int, stored: _Stored | None) -> None:
        if stored is not None and self._by_client.get(stored.client_id) == session:
            del self._by_client[stored.client_id]

    def _append(self, operation: Append) -> None:
        number = operation.number
        self._last_number = max(self._last_number, number)
        for target in operation.targets:
            stored = self._sessions.get(target.session)
            if stored is None:
                continue
            if target.packet_id:
                stored.sent[number] = InFlight(
                    target.packet_id,
                    number,
                    target.qos,
                    operation.message,
                    target.particulars,
                    False,
                )
            else:
                stored.waiting.append(
                    Queued(number, target.qos, operation.message, target.particulars)
                )

    def _save_sent(self, operation: SaveSent) -> None:
        stored = self._sessions.get(operation.session)
        if stored is None:
            return
        entry = stored.take(operation.number)
        if entry is not None:
            stored.sent[operation.number] = InFlight(
                operation.packet_id,
                operation.number,
                entry.qos,
                entry.message,
                entry.particulars,
                False,
            )

    def _save_received(self, operation: SaveReceived) -> None:
        stored = self._sessions.get(operation.session)
        if stored is None:
            return
        sent = stored.sent.pop(operation.number, None)
        if sent is not None:  # behind the others: PUBRELs are repeated in the order of PUBRECs
            stored.sent[operation.number] = InFlight(
                sent.packet_id, sent.number, sent.qos, None, sent.particulars, True
            )

    def _claim(self, request: ClaimSession) -> Completion:
        session = self._by_client.get(request.client_id)
        if session is None:
            return Claimed(request.request_id, None)
        return Claimed(request.request_id, self._sessions[session].record(session))

    def _read_sessions(self, request: ReadSessions) -> Completion:
        records: list[SessionRecord] = []
        size = 0
        for number in sorted(self._sessions):
            stored = self._sessions[number]
            if number <= request.after or stored.is_retired:
                continue
            record = stored.record(number)
            size += 1 + len(record.subscriptions) + len(record.in_flight)
            size += len(record.held) + len(record.queued)
            if records and size > request.limit:
                break
            records.append(record)
        return SessionsPage(request.request_id, records)

    def _read_wills(self, request: ReadWills) -> Completion:
        clients = sorted(client_id for client_id in self._wills if client_id > request.after)
        wills = [self._wills[client_id] for client_id in clients[: request.limit]]
        return WillsPage(request.request_id, wills)

    def _read_queue(self, request: ReadQueue) -> Completion:
        stored = self._sessions.get(request.session)
        entries: list[Queued] = []
        if stored is not None:
            size = 0
            at = stored.index_behind(request.after)
            while at < len(stored.waiting) and len(entries) < request.limit:
                entry = stored.waiting[at]
                if entries and size + entry.message.size_bytes > request.limit_bytes:
                    break
                size += entry.message.size_bytes
                entries.append(entry)
                at += 1
        return QueuePage(request.request_id, entries)
