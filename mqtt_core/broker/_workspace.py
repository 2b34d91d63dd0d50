"""What all parts of the broker work on: its tables, its turn, and what goes out to the adapter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from librt.strings import BytesWriter

from mqtt_core._flow import FLOOR_BYTES, ByteCount, Flow
from mqtt_core._output import WriterPool
from mqtt_core._store import Operation, Request, Write
from mqtt_core._topics import TopicCache
from mqtt_core.broker._auth import AuthorizeRequest, AuthRequest, Policy
from mqtt_core.broker._causes import ANSWERS_UNREAD
from mqtt_core.broker._deadlines import Deadlines
from mqtt_core.broker._facts import FACT_INFO, Fact
from mqtt_core.broker._ledger import Ledger
from mqtt_core.broker._limits import Limits
from mqtt_core.broker._queue import Queue
from mqtt_core.broker._retained import RetainedMessages
from mqtt_core.broker._router import Router
from mqtt_core.broker._stats import Stats
from mqtt_core.broker._work import Work

if TYPE_CHECKING:
    from mqtt_core.broker._channel import Channel
    from mqtt_core.broker._pending import Pending
    from mqtt_core.broker._session import Session

ANSWER_DEADLINE: Final = 6  # a kind of deadline of a channel; the others are in `_endings`
WAIT_NO: Final = 0
WAIT_CONNACK: Final = 1
WAIT_VERDICT: Final = 2
WAIT_FAN_OUT: Final = 3
WAIT_STORE: Final = 4
"""What a channel waits for before it reads on."""

_SYS_TOPICS: Final = 1_000
_SYS_BYTES: Final = 1_048_576


@final
class Workspace:
    """Shared by the broker's parts, each of which changes only what it is about."""

    __slots__ = (
        "limits",
        "policy",
        "entropy",
        "level",
        "now",
        "wall_offset",
        "stats",
        "topics",
        "router",
        "deadlines",
        "writers",
        "sys_retained",
        "facts",
        "requests",
        "pending",
        "asking",
        "work",
        "dirty",
        "dirty_bulk",
        "doomed",
        "store_waiters",
        "refused_wills",
        "is_bulk",
        "allowance",
        "unflushed",
        "must_flush",
        "uncommitted_bytes",
        "input_bytes",
        "undelivered",
        "ledger",
        "orphaned_bytes",
        "held_identifiers",
        "retained_changes",
        "retained_readers",
        "retained_mark",
        "poll_left",
        "page_room",
        "put_off",
        "refusals_told",
        "_last_id",
        "_last_number",
    )

    def __init__(
        self,
        limits: Limits,
        policy: Policy,
        entropy: Callable[[int], bytes],
        now: float,
        wall: float,
        last_number: int,
        level: int,
        index_bytes: int | None,
    ) -> None:
        self.limits: Final = limits
        self.policy: Final = policy
        self.entropy: Final = entropy
        self.level: Final = level  # of what no client waits for
        self.now = now
        self.wall_offset: Final = wall - now
        self.stats: Final = Stats()
        self.topics: Final = TopicCache(limits.topic_cache_bytes)
        self.router: Final = Router(self.topics)
        self.deadlines: Final = Deadlines()
        self.writers: Final = WriterPool()
        self.sys_retained: Final = RetainedMessages(_SYS_TOPICS, _SYS_BYTES)
        self.facts: list[Fact] = []
        self.requests: list[Request | AuthRequest | AuthorizeRequest] = []
        self.pending: Final[dict[int, Pending]] = {}
        self.asking: Final[dict[int, Channel]] = {}  # channels that wait for a decision
        self.work: Final[deque[Work]] = deque()
        self.dirty: list[Channel] = []
        self.dirty_bulk: Final[deque[Channel]] = deque()
        self.doomed: list[tuple[Channel, int]] = []  # to be closed when the call is done
        self.store_waiters: Final[dict[int, Channel]] = {}  # not read until the store catches up
        # Clients whose will is published or given up, and still in the store, which refused it.
        self.refused_wills: Final[list[str]] = []
        self.is_bulk = False  # channels become dirty by a wide fan-out
        self.allowance = 0  # deliveries left to the one whose turn it is
        self.unflushed = 0  # bytes in channels that are dirty
        self.must_flush = False
        self.uncommitted_bytes = 0
        self.input_bytes = 0  # of packets that have arrived in part
        # Memory of what is queued or in flight.
        self.undelivered: Final = ByteCount(limits.total_queued_bytes)
        self.ledger: Final = Ledger(self.stats, self.undelivered, index_bytes)
        self.orphaned_bytes = 0  # of these, of messages whose session has ended
        self.held_identifiers = 0  # QoS 2 messages without PUBREL
        self.retained_changes: Final[dict[bytes, int]] = {}
        self.retained_readers = 0  # pages of retained messages under way
        self.retained_mark = 0
        self.poll_left = 0  # deliveries left to those that have input in this poll
        self.page_room = 0  # messages that may still be asked of the engine in this slice
        self.put_off: list[Channel] = []  # which must ask for theirs in the next
        self.refusals_told: Final[dict[str, float]] = {}  # facts that are not told each time
        self._last_id = 0
        self._last_number = last_number

    def next_id(self) -> int:
        """A fresh number for a channel, session, token or request, in this process."""
        self._last_id += 1
        return self._last_id

    def next_number(self) -> int:
        """A fresh number for a message or a stored session, in this store.

        Numbers grow in the order of arrival.
        """
        self._last_number += 1
        return self._last_number

    def new_flow(self) -> Flow:
        """Delivery state for a session."""
        limits = self.limits
        return Flow(limits.max_inflight_messages, limits.max_inflight_bytes, self.undelivered)

    def flow_of(self, session: Session) -> Flow:
        """The delivery state of a session, made if there was none."""
        flow = session.flow
        if flow is None:
            flow = self.new_flow()
            session.flow = flow
        return flow

    def queue_of(self, session: Session) -> Queue:
        """The queue of a session, made if there was none."""
        queue = session.queue
        if queue is None:
            queue = Queue(self.ledger)
            session.queue = queue
        return queue

    def page_bytes(self, in_flight_bytes: int) -> int:
        """How much to read of a queue of which so much is in flight: where memory is short, what
        a session may use whatever the others do."""
        budget = self.limits.output_budget_bytes
        undelivered = self.undelivered
        if undelivered.count < undelivered.limit:
            return budget
        return min(budget, FLOOR_BYTES - in_flight_bytes)

    @property
    def wall(self) -> float:
        """Unix seconds."""
        return self.now + self.wall_offset

    # Output

    def open_output(self, channel: Channel) -> BytesWriter:
        """The channel's writer; the channel is flushed at the next opportunity."""
        self.mark_dirty(channel)
        return channel.output.open()

    def write(self, channel: Channel, data: bytes) -> None:
        """Send bytes on a channel."""
        writer = channel.output.writer
        if writer is None:
            writer = self.open_output(channel)
        writer.write(data)

    def answer(self, channel: Channel, first: int, packet_id: int, reason: int = 0) -> None:
        """Send PUBACK, PUBREC, PUBREL or PUBCOMP. A `reason` other than success is only for a
        client of MQTT 5.0."""
        writer = channel.output.writer
        if writer is None:
            writer = self.open_output(channel)
        writer.append(first)
        writer.append(3 if reason else 2)
        writer.append(packet_id >> 8)
        writer.append(packet_id & 0xFF)
        if reason:
            writer.append(reason)
        self.stats.packets_sent += 1
        if not channel.is_writable:
            self.count_unread(channel, 4)

    def answer_with(self, channel: Channel, data: bytes) -> None:
        """Send any other answer."""
        self.write(channel, data)
        self.stats.packets_sent += 1
        if not channel.is_writable:
            self.count_unread(channel, len(data))

    def count_unread(self, channel: Channel, size_bytes: int) -> None:
        """An answer has been written behind a socket that takes nothing."""
        channel.unread_answers += size_bytes
        if channel.unread_answers > self.limits.max_unread_answers_bytes:
            self.doomed.append((channel, ANSWERS_UNREAD))

    def mark_dirty(self, channel: Channel) -> None:
        """The adapter is to look at the channel."""
        if not channel.is_dirty:
            if channel.gone:  # nobody is there to take it
                channel.output.clear()
                return
            channel.is_dirty = True
            if self.is_bulk:
                self.dirty_bulk.append(channel)
            else:
                self.dirty.append(channel)

    def queue_work(self, work: Work) -> None:
        """Give a turn to work that is unfinished."""
        if not work.is_queued:
            work.is_queued = True
            self.work.append(work)

    # What waits for the store

    def hold_back(self, channel: Channel, size_bytes: int) -> None:
        """Something of a channel waits for the store; at the limits it is not read meanwhile."""
        self.uncommitted_bytes += size_bytes
        channel.uncommitted += 1
        self.pause_if_behind(channel)

    def let_go(self, channel: Channel, size_bytes: int) -> None:
        """The store has answered; read on from those that waited for it, if it has caught up."""
        limit = self.limits.total_uncommitted_bytes
        was_over = self.uncommitted_bytes >= limit
        self.uncommitted_bytes -= size_bytes
        channel.uncommitted -= 1
        if was_over and self.uncommitted_bytes < limit:
            for waiter in list(self.store_waiters.values()):
                self.resume_if_caught_up(waiter)
        else:
            self.resume_if_caught_up(channel)

    def _is_behind(self, channel: Channel) -> bool:
        limit = self.limits.max_uncommitted_messages
        acks = channel.acks
        return (
            channel.uncommitted >= limit
            or (acks is not None and len(acks) >= limit)
            or (
                channel.uncommitted > 0
                and self.uncommitted_bytes >= self.limits.total_uncommitted_bytes
            )
        )

    def pause_if_behind(self, channel: Channel) -> None:
        """Do not read a channel for which the store is behind."""
        if channel.wait == WAIT_NO and self._is_behind(channel):
            channel.wait = WAIT_STORE
            self.store_waiters[channel.key] = channel
            self.wait_for_answer(channel)

    def resume_if_caught_up(self, channel: Channel) -> None:
        """Read on from a channel that waited for the store."""
        if channel.wait == WAIT_STORE and not self._is_behind(channel):
            self.store_waiters.pop(channel.key, None)
            channel.wait = WAIT_NO
            self.queue_work(channel)

    def wait_for_answer(self, channel: Channel) -> None:
        """A channel waits for a verdict or the store; for how long is looked at later."""
        channel.waits_since = self.now
        if channel.answer_deadline is None:
            at = self.now + self.limits.request_timeout_secs
            channel.answer_deadline = self.deadlines.arm(at, ANSWER_DEADLINE, channel)

    def note_retained_change(self, topic: bytes) -> None:
        """A retained message has changed: pages under way may hold the one before."""
        if self.retained_readers:
            self.retained_mark += 1
            self.retained_changes[topic] = self.retained_mark

    # Requests and facts

    def submit(self, request: Request, pending: Pending) -> None:
        """Ask the engine; `pending` goes on when it has answered."""
        self.pending[request.request_id] = pending
        self.requests.append(request)

    def ask(self, channel: Channel, request: AuthRequest | AuthorizeRequest) -> None:
        """Ask for a decision outside; the channel waits."""
        channel.token = request.token
        self.asking[request.token] = channel
        self.requests.append(request)

    def record(self, operation: Operation) -> None:
        """Tell the engine of a change that nothing waits for."""
        if self.requests:
            last = self.requests[-1]
            if isinstance(last, Write) and not last.request_id:
                last.operations.append(operation)
                return
        self.requests.append(Write(0, [operation], self.level))

    def tell(
        self,
        name: str,
        channel: Channel | None = None,
        *,
        severity: int = FACT_INFO,
        client_id: str = "",
        cause: str = "",
        statement: str = "",
        offset: int = -1,
        detail: str = "",
        error: Exception | None = None,
    ) -> None:
        """Report a fact."""
        key = 0
        peer = ""
        listener = ""
        if channel is not None:
            key = channel.key
            peer = channel.peer
            listener = channel.listener
            client_id = client_id or channel.client_id
        self.facts.append(
            Fact(
                name,
                severity,
                channel=key,
                client_id=client_id,
                peer=peer,
                listener=listener,
                cause=cause,
                statement=statement,
                offset=offset,
                detail=detail,
                error=error,
            )
        )
