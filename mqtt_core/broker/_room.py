"""Whether a message has room in the queue of a session, within all limits."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._flow import FLOOR_BYTES
from mqtt_core._message import Message
from mqtt_core.broker._queue import Queue
from mqtt_core.broker._session import Session
from mqtt_core.broker._store import Settle
from mqtt_core.broker._workspace import Workspace


@final
class Room:
    """What queues may still take."""

    __slots__ = ("_ws",)

    def __init__(self, workspace: Workspace) -> None:
        self._ws: Final = workspace

    def fits(self, queue: Queue, message: Message, is_connected: bool) -> bool:
        """Whether a queue has room for one more message as it is."""
        return self._fits(queue, message, is_connected, 0, 0)

    def _fits(
        self,
        queue: Queue,
        message: Message,
        is_connected: bool,
        dropped_count: int,
        dropped_bytes: int,
    ) -> bool:
        """Whether a queue has room once so much has been dropped from it."""
        limits = self._ws.limits
        size = queue.size_bytes - dropped_bytes + message.size_bytes
        if (
            queue.count - dropped_count >= limits.max_queued_messages
            or size > limits.max_queued_bytes
        ):
            return False
        total = self._ws.undelivered.count - dropped_bytes + message.size_bytes
        return total <= limits.total_queued_bytes or (is_connected and size <= FLOOR_BYTES)

    def would_refuse(self, session: Session, message: Message) -> bool:
        """Whether a QoS 1 or 2 message must wait for the session, whose queue has no room."""
        if session.goes_direct or session.is_ended:
            return False
        queue = session.own_queue()
        if not self._is_full(session, queue, message):
            return False
        self.drop_expired(session, queue)
        return self._is_full(session, queue, message)

    def _is_full(self, session: Session, queue: Queue, message: Message) -> bool:
        """Whether there is no room even without the waiting QoS 0 messages, which are dropped
        first."""
        is_connected = session.channel is not None
        return not self._fits(queue, message, is_connected, queue.qos_0_count, queue.qos_0_bytes)

    def takes_qos_0(self, session: Session, message: Message) -> bool:
        """Whether a QoS 0 message may wait for the session, and has room there."""
        is_connected = session.channel is not None
        if not is_connected and not (session.key and self._ws.limits.queue_qos0_offline):
            return False
        queue = session.own_queue()
        if not self.fits(queue, message, is_connected):
            self.drop_expired(session, queue)
        return self.fits(queue, message, is_connected)

    def drop_expired(self, session: Session, queue: Queue) -> None:
        """Messages that have expired make room before others are dropped.  [MQTT-3.3.2-5]"""
        ws = self._ws
        count = queue.count
        size = queue.size_bytes
        numbers = queue.take_expired(ws.wall)
        ws.count_queued(queue.count - count, queue.size_bytes - size)
        ws.stats.messages_expired += len(numbers)
        if session.key:
            for number in numbers:
                ws.record(Settle(session.key, number))
