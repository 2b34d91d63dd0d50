"""Acknowledgements that rest on a change of the session: they leave once it is stored."""

from __future__ import annotations

from collections import deque
from typing import Final, final

from mqtt_core.broker._causes import STORE_FAILED
from mqtt_core.broker._channel import Channel, GatedAck
from mqtt_core.broker._committing import Committing
from mqtt_core.broker._facts import FACT_ERROR
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._store import Completion, Failed, Operation, Write
from mqtt_core.broker._workspace import Workspace

_OPERATION_BYTES: Final = 300  # what an operation counts while it is stored


@final
class Gating:
    """Sends SUBACK, UNSUBACK and PUBCOMP in their turn."""

    __slots__ = ("_ws", "_committing")

    def __init__(self, workspace: Workspace, committing: Committing) -> None:
        self._ws: Final = workspace
        self._committing: Final = committing

    def ack_when_stored(self, channel: Channel, data: bytes, operations: list[Operation]) -> None:
        """Send `data` in its turn, once `operations` are stored."""
        ws = self._ws
        if not operations and channel.acks is None:
            ws.answer_with(channel, data)
            return
        ack = GatedAck(data, not operations)
        if channel.acks is None:
            channel.acks = deque()
        channel.acks.append(ack)
        ws.pause_if_behind(channel)
        if operations:
            request_id = ws.next_id()
            size = len(operations) * _OPERATION_BYTES
            ws.submit(Write(request_id, operations), PendingAck(self, channel, ack, size))
            ws.hold_back(channel, size)

    def stored(self, channel: Channel, ack: GatedAck, size_bytes: int) -> None:
        """What an acknowledgement rests on is stored."""
        ack.is_ready = True
        self._committing.send_acks(channel)
        self._ws.let_go(channel, size_bytes)

    def not_stored(self, channel: Channel, failure: Failed, size_bytes: int) -> None:
        """The store has refused it.  [v3 MQTT-4.8.0-2]"""
        ws = self._ws
        ws.let_go(channel, size_bytes)
        ws.stats.store_failures += 1
        ws.tell("store.failed", channel, severity=FACT_ERROR, detail=failure.reason)
        if channel.is_open:
            ws.doomed.append((channel, STORE_FAILED))


@final
class PendingAck(Pending):
    """Goes on when what an acknowledgement rests on is stored."""

    __slots__ = ("_gating", "_channel", "_ack", "_size_bytes")

    def __init__(self, gating: Gating, channel: Channel, ack: GatedAck, size_bytes: int) -> None:
        self._gating: Final = gating
        self._channel: Final = channel
        self._ack: Final = ack
        self._size_bytes: Final = size_bytes

    def done(self, completion: Completion) -> None:
        """Send it, if it is its turn."""
        self._gating.stored(self._channel, self._ack, self._size_bytes)

    def failed(self, failure: Failed) -> None:
        """Close the connection."""
        self._gating.not_stored(self._channel, failure, self._size_bytes)
