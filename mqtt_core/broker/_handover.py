"""What was shared with a client that is gone, on its way to other members of the group (4.8.2).

When a session ends, the messages of its shared subscriptions go to other members: those that
wait, and at QoS 1 those that were sent and not acknowledged. A QoS 2 message that was sent is
never sent to anybody else. When a client only goes away, what waits for it goes to members that
are connected and have room; the rest stays where it is.

A message moves from one stored queue to another by one write, so that whatever happens it is in
one of them. What the store has of a session that has ended is read a page at a time; until that
is done the session stays there, where its client cannot claim it any more.
"""

from __future__ import annotations

from collections import deque
from typing import Final, cast, final

from mqtt_core._flow import AWAITING_PUBACK, STORING_PUBLISH
from mqtt_core._store import (
    Append,
    Completion,
    EndSession,
    Failed,
    Operation,
    Queued,
    QueuePage,
    ReadQueue,
    RetireSession,
    Settle,
    Write,
)
from mqtt_core.broker._choosing import Choosing
from mqtt_core.broker._delivery import Delivery
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._queues import PendingQueuePage, Queues
from mqtt_core.broker._refusals import note_refusal
from mqtt_core.broker._session import Session
from mqtt_core.broker._shared import AWAY, BLOCKED, Member
from mqtt_core.broker._work import Work
from mqtt_core.broker._workspace import Workspace

_PAGE: Final = 256
_RETRY_S: Final = 1.0  # until the store is asked again for what it has refused
_RETRY: Final = 1


@final
class Handover(Work):
    """The messages of one session. `waiting` is what nobody has any more but this."""

    __slots__ = (
        "session",
        "is_ending",
        "waiting",
        "has_stored",
        "last_read",
        "is_reading",
        "outstanding",
        "_handing",
    )

    def __init__(self, handing: Handing, session: Session) -> None:
        super().__init__()
        self.session: Final = session
        self.is_ending = False
        self.waiting: Final[deque[Queued]] = deque()
        self.has_stored = False  # the engine may have more of an ended session
        self.last_read = 0
        self.is_reading = False
        self.outstanding = 0  # batches that have no answer yet
        self._handing: Final = handing

    def run(self) -> bool:
        """Hand over some; True when there is nothing to do before the store has answered."""
        if self.is_ending:
            return self._handing.go_on_ending(self)
        return self._handing.go_on_away(self)

    def on_deadline(self, kind: int, now: float) -> None:
        """Try again."""
        self._handing.retry(self)


@final
class Batch(Pending):
    """Messages on their way into the stored queues of other members, all in one write."""

    __slots__ = ("operations", "moves", "_handing", "_handover")

    def __init__(self, handing: Handing, handover: Handover) -> None:
        self.operations: Final[list[Operation]] = []
        self.moves: Final[list[tuple[Queued, Session, int]]] = []  # to whom, by which number
        self._handing: Final = handing
        self._handover: Final = handover

    def done(self, completion: Completion) -> None:
        """They are there."""
        self._handing.moved(self._handover, self)

    def failed(self, failure: Failed) -> None:
        """They are where they were."""
        self._handing.not_moved(self._handover, self, failure)


@final
class PendingPage(Pending):
    """Goes on when a page of the queue of an ended session has come."""

    __slots__ = ("_handing", "_handover")

    def __init__(self, handing: Handing, handover: Handover) -> None:
        self._handing: Final = handing
        self._handover: Final = handover

    def done(self, completion: Completion) -> None:
        """Hand over what is in it."""
        self._handing.take_page(self._handover, cast(QueuePage, completion))

    def failed(self, failure: Failed) -> None:
        """Ask again later."""
        self._handing.page_failed(self._handover, failure)


@final
class Handing:
    """Finds other members for what was shared with clients that are gone."""

    __slots__ = ("_ws", "_delivery", "_choosing", "_queues")

    def __init__(
        self,
        workspace: Workspace,
        delivery: Delivery,
        choosing: Choosing,
        queues: Queues,
    ) -> None:
        self._ws: Final = workspace
        self._delivery: Final = delivery
        self._choosing: Final = choosing
        self._queues: Final = queues

    def concerns(self, session: Session) -> bool:
        """Whether there may be something of a session to be handed over."""
        return session.is_sharing and self._ws.limits.shared_redelivery

    # A session that has ended

    def ended(self, session: Session) -> int:
        """Take over what was shared with a session, before it forgets that; returns how many
        messages that may be. The store is told of the end when all is handed over.
        """
        known = session.handover
        handover = Handover(self, session) if known is None else known
        handover.is_ending = True
        entries = _unacknowledged(session)
        count = 0
        queue = session.queue
        if queue is not None:
            entries.extend(entry for entry in queue.here() if _share_of(entry))
            count = queue.stored_count
            handover.has_stored = count > 0
            handover.last_read = queue.last_read
        for entry in entries:
            self._hold(handover, entry)
        if handover.waiting or handover.has_stored or handover.outstanding:
            session.handover = handover
            if session.key:
                self._ws.record(RetireSession(session.key))
            self._ws.queue_work(handover)
        else:
            self._finish(handover)
        return count + len(entries)

    def go_on_ending(self, handover: Handover) -> bool:
        """One turn for a session that has ended."""
        ws = self._ws
        waiting = handover.waiting
        batch = Batch(self, handover)
        while waiting and ws.allowance > 0:
            ws.allowance -= 1
            entry = waiting.popleft()
            size = entry.message.size_bytes
            ws.orphaned_bytes -= size
            ws.undelivered.count -= size
            if self._has_expired(entry):
                continue
            member = self._offer(entry, AWAY)
            if member is None:
                ws.stats.dropped_session_ended += 1
            else:
                self._give(handover.session, entry, member, batch)
        self._submit(handover, batch)
        if waiting:
            return False
        if not handover.outstanding and not handover.is_reading:
            if handover.has_stored:
                self._read(handover)
            else:
                self._finish(handover)
        return True

    def _hold(self, handover: Handover, entry: Queued) -> None:
        size = entry.message.size_bytes
        self._ws.orphaned_bytes += size
        self._ws.undelivered.count += size
        handover.waiting.append(entry)

    def _read(self, handover: Handover) -> None:
        ws = self._ws
        handover.is_reading = True
        request = ReadQueue(
            ws.next_id(),
            handover.session.key,
            handover.last_read,
            _PAGE,
            ws.page_bytes(0),
        )
        ws.submit(request, PendingPage(self, handover))

    def take_page(self, handover: Handover, page: QueuePage) -> None:
        """Messages that only the store had. None: there are no more."""
        handover.is_reading = False
        if not page.entries:
            handover.has_stored = False
        for entry in page.entries:
            handover.last_read = entry.number
            if _share_of(entry):
                self._hold(handover, entry)
            else:
                self._ws.stats.dropped_session_ended += 1
        self._ws.queue_work(handover)

    def page_failed(self, handover: Handover, failure: Failed) -> None:
        """The store does not answer."""
        handover.is_reading = False
        self._put_off(handover, failure)

    def _finish(self, handover: Handover) -> None:
        """The store may forget the session."""
        session = handover.session
        if session.key:
            self._ws.record(EndSession(session.key))
        session.handover = None

    def retry(self, handover: Handover) -> None:
        """The time has come to try again."""
        self._ws.queue_work(handover)

    # A session whose client is away

    def away(self, session: Session) -> None:
        """A client has gone, and its session stays: let others have what waits for it."""
        queue = session.queue
        if queue is None or not queue.has_waiting:
            return
        handover = session.handover
        if handover is None:
            handover = Handover(self, session)
            session.handover = handover
        self._ws.queue_work(handover)

    def go_on_away(self, handover: Handover) -> bool:
        """One turn for a session whose client is away: a page of its queue."""
        ws = self._ws
        session = handover.session
        queue = session.queue
        is_over = session.channel is not None or queue is None
        if queue is not None and session.channel is None:
            batch = Batch(self, handover)
            kept: list[Queued] = []
            kept_bytes = 0
            for entry in queue.take_loaded():
                if self._has_expired(entry):
                    ws.record(Settle(session.key, entry.number))
                    continue
                member: Member | None = None
                if _share_of(entry):
                    member = self._offer(entry, BLOCKED)
                    is_over = is_over or member is None  # nobody has room: it waits here
                if member is None:
                    kept.append(entry)
                    kept_bytes += entry.message.size_bytes
                else:
                    self._give(session, entry, member, batch)
            queue.put_back(kept)
            self._submit(handover, batch)
            # What belongs to other subscriptions is not gathered here without end.
            if len(kept) >= _PAGE or kept_bytes >= ws.limits.output_budget_bytes:
                is_over = True
            if not is_over and not queue.reading:
                is_over = not queue.has_stored
                if queue.has_stored:
                    self._read_for(session)
        if is_over and not handover.outstanding:
            session.handover = None
        return True

    def _read_for(self, session: Session) -> None:
        """Have the next page of a queue read as if its client was there."""
        ws = self._ws
        queue = ws.queue_of(session)
        queue.reading = ws.next_id()
        request = ReadQueue(queue.reading, session.key, queue.last_read, _PAGE, ws.page_bytes(0))
        ws.submit(request, PendingQueuePage(self._queues, session))

    # From one member to another

    def _has_expired(self, entry: Queued) -> bool:
        """Whether it is too late for a message to be sent to anybody; counted.

        [MQTT-3.3.2-5]
        """
        expires_at = entry.message.expires_at
        if not expires_at or expires_at > self._ws.wall:
            return False
        self._ws.stats.messages_expired += 1
        return True

    def _offer(self, entry: Queued, last: int) -> Member | None:
        """Another member that has room for a message."""
        group = self._ws.router.group(_share_of(entry))
        if group is None:
            return None
        return self._choosing.offer(group, entry.message, last)

    def _give(self, session: Session, entry: Queued, member: Member, batch: Batch) -> None:
        ws = self._ws
        ws.stats.handed_over += 1
        receiver = member.session
        message = entry.message
        is_stored = session.key != 0 and entry.number != 0
        if receiver.key and member.qos and message.qos:
            if is_stored:
                batch.operations.append(Settle(session.key, entry.number))
            number = ws.next_number()
            target = self._delivery.wait_stored(member, message, number)
            batch.operations.append(Append(number, message, [target]))
            batch.moves.append((entry, receiver, number))
            return
        if is_stored:
            ws.record(Settle(session.key, entry.number))
        self._delivery.to_member(member, message)

    def _submit(self, handover: Handover, batch: Batch) -> None:
        if batch.operations:
            handover.outstanding += 1
            ws = self._ws
            ws.submit(Write(ws.next_id(), batch.operations, ws.level), batch)

    def moved(self, handover: Handover, batch: Batch) -> None:
        """A batch is stored: its messages can be sent."""
        handover.outstanding -= 1
        for _, receiver, _ in batch.moves:
            if receiver.channel is not None:
                self._ws.mark_dirty(receiver.channel)
        self._ws.queue_work(handover)

    def not_moved(self, handover: Handover, batch: Batch, failure: Failed) -> None:
        """The store has refused a batch: its messages go back to where they came from."""
        ws = self._ws
        session = handover.session
        handover.outstanding -= 1
        for _, receiver, number in batch.moves:
            self._delivery.forget_stored(receiver, number)
        entries = [entry for entry, _, _ in batch.moves]
        ws.stats.handed_over -= len(entries)
        if handover.is_ending:
            for entry in reversed(entries):
                self._hold(handover, entry)
                handover.waiting.rotate()
            self._put_off(handover, failure)
            return
        queue = ws.queue_of(session)
        queue.put_back(entries)
        if session.channel is not None:
            ws.mark_dirty(session.channel)
        if not handover.outstanding:
            session.handover = None
        self._tell(session, failure)

    def _put_off(self, handover: Handover, failure: Failed) -> None:
        self._tell(handover.session, failure)
        self._ws.deadlines.arm(self._ws.now + _RETRY_S, _RETRY, handover)

    def _tell(self, session: Session, failure: Failed) -> None:
        what = "what another client was to get"
        note_refusal(self._ws, failure, client_id=session.client_id, what=what)


def _share_of(entry: Queued) -> bytes:
    """The whole filter of the shared subscription that a message is for; empty for others."""
    return b"" if entry.particulars is None else entry.particulars.share


def _unacknowledged(session: Session) -> list[Queued]:
    """Shared messages that were sent at QoS 1 and not acknowledged, or that were to be sent at
    QoS 2 and wait for the store; in the order of sending.  [MQTT-4.8.2-5]"""
    entries: list[Queued] = []
    flow = session.flow
    if flow is None or session.particulars is None:
        return entries
    for packet_id in flow.unfinished():
        particulars = session.particulars_of(packet_id)
        step = flow.step(packet_id)
        if particulars is None or not particulars.share:
            continue
        if step != AWAITING_PUBACK and step != STORING_PUBLISH:
            continue
        message = flow.message(packet_id)
        assert message is not None  # kept until PUBACK or PUBREC
        qos = 1 if step == AWAITING_PUBACK else 2
        numbers = session.numbers
        number = 0 if numbers is None else numbers.get(packet_id, 0)
        entries.append(Queued(number, qos, message, particulars))
    return entries
