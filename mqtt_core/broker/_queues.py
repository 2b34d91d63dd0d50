"""Reads the queues of persistent sessions from the storage engine, a page at a time."""

from __future__ import annotations

from typing import Final, cast, final

from mqtt_core._store import Completion, Failed, QueuePage, ReadQueue
from mqtt_core.broker._channel import Channel
from mqtt_core.broker._delivery import Delivery
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import Session
from mqtt_core.broker._workspace import Workspace

_PAGE: Final = 256


@final
class Queues:
    """Keeps messages coming to sessions that have some waiting."""

    __slots__ = ("_ws", "_delivery", "_sending")

    def __init__(self, workspace: Workspace, delivery: Delivery, sending: Sending) -> None:
        self._ws: Final = workspace
        self._delivery: Final = delivery
        self._sending: Final = sending

    def pump(self, session: Session, channel: Channel) -> None:
        """Send what waits, and ask for more of it where only the engine has it."""
        self._delivery.pump(session, channel)
        queue = session.queue
        if queue is None or not queue.has_stored or queue.has_loaded or queue.reading:
            return
        flow = session.flow
        room = self._ws.limits.max_inflight_messages
        in_flight_bytes = 0
        if flow is not None:
            room = flow.room(session.reserved)
            in_flight_bytes = flow.in_flight_bytes
        if room <= 0 or not channel.has_room:
            return
        if self._ws.page_room <= 0:
            self._ws.put_off.append(channel)
            return
        self._ws.page_room -= min(room, _PAGE)
        request_id = self._ws.next_id()
        queue.reading = request_id
        self._ws.submit(
            ReadQueue(
                request_id,
                session.key,
                queue.last_read,
                min(room, _PAGE),
                self._ws.page_bytes(in_flight_bytes),
            ),
            PendingQueuePage(self, session),
        )

    def take_page(self, session: Session, page: QueuePage) -> None:
        """Messages of a session's queue have come. None yet, if their write is under way."""
        queue = session.queue
        if queue is None:
            return
        queue.reading = 0
        queue.load(page.entries)
        if not page.entries:
            return
        if session.channel is not None:
            self._ws.mark_dirty(session.channel)
        elif session.handover is not None:
            self._ws.queue_work(session.handover)

    def page_failed(self, session: Session, failure: Failed) -> None:
        """The store does not answer: the client is to come back later."""
        if session.queue is not None:
            session.queue.reading = 0
        if not session.is_ended:
            self._sending.store_failed(session, failure)


@final
class PendingQueuePage(Pending):
    """Goes on when a page of a queue has come."""

    __slots__ = ("_queues", "_session")

    def __init__(self, queues: Queues, session: Session) -> None:
        self._queues: Final = queues
        self._session: Final = session

    def done(self, completion: Completion) -> None:
        """Send it."""
        self._queues.take_page(self._session, cast(QueuePage, completion))

    def failed(self, failure: Failed) -> None:
        """Close the connection."""
        self._queues.page_failed(self._session, failure)
