"""Whether a message has room in the queue of a session, within all limits."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._flow import FLOOR_BYTES
from mqtt_core._message import Message
from mqtt_core._store import Settle
from mqtt_core.broker._queue import Queue
from mqtt_core.broker._session import Session
from mqtt_core.broker._workspace import Workspace


@final
class Room:
    """What queues may still take."""

    __slots__ = ("_ws",)

    def __init__(self, workspace: Workspace) -> None:
        self._ws: Final = workspace

    def fits(self, session: Session, queue: Queue, message: Message) -> bool:
        """Whether a queue has room for one more QoS 1 or 2 message as it is."""
        return self._fits(session, queue, message, self._waiting_bytes(session, message), 0, 0)

    def fits_qos_0(self, session: Session, queue: Queue, message: Message) -> bool:
        """Whether a queue has room for one more QoS 0 message, once what has expired is gone."""
        size = message.size_bytes
        if self._fits(session, queue, message, size, 0, 0):
            return True
        self.drop_expired(session, queue)
        return self._fits(session, queue, message, size, 0, 0)

    def _waiting_bytes(self, session: Session, message: Message) -> int:
        """What a QoS 1 or 2 message takes in memory while it waits."""
        size = message.size_bytes
        return self._ws.ledger.stored_bytes(size) if session.key else size

    def _fits(
        self,
        session: Session,
        queue: Queue,
        message: Message,
        memory_bytes: int,
        dropped_count: int,
        dropped_bytes: int,
    ) -> bool:
        """Whether a queue has room once so much has been dropped from it, all of it in memory."""
        limits = self._ws.limits
        if (
            queue.count - dropped_count >= limits.max_queued_messages
            or queue.size_bytes - dropped_bytes + message.size_bytes > limits.max_queued_bytes
        ):
            return False
        more = memory_bytes - dropped_bytes
        if self._ws.undelivered.count + more <= limits.total_queued_bytes:
            return True
        return session.channel is not None and queue.memory_bytes + more <= FLOOR_BYTES

    def would_refuse(self, session: Session, message: Message) -> bool:
        """Whether a QoS 1 or 2 message must wait for the session, whose queue has no room."""
        if session.goes_direct or session.is_ended:
            return False
        queue = self._ws.queue_of(session)
        if not self._is_full(session, queue, message):
            return False
        self.drop_expired(session, queue)
        return self._is_full(session, queue, message)

    def _is_full(self, session: Session, queue: Queue, message: Message) -> bool:
        """Whether there is no room even without the waiting QoS 0 messages, which are dropped
        first."""
        memory = self._waiting_bytes(session, message)
        return not self._fits(session, queue, message, memory, queue.qos_0_count, queue.qos_0_bytes)

    def takes_qos_0(self, session: Session, message: Message) -> bool:
        """Whether a QoS 0 message may wait for the session, and has room there."""
        if session.channel is None and not (session.key and self._ws.limits.queue_qos0_offline):
            return False
        return self.fits_qos_0(session, self._ws.queue_of(session), message)

    def drop_expired(self, session: Session, queue: Queue) -> None:
        """Messages that have expired make room before others are dropped.  [MQTT-3.3.2-5]"""
        ws = self._ws
        numbers = queue.take_expired(ws.wall)
        ws.stats.messages_expired += len(numbers)
        if session.key:
            for number in numbers:
                ws.record(Settle(session.key, number))
