"""Acknowledgements that rest on a change of the session: they leave once it is stored."""

from __future__ import annotations

from collections import deque
from typing import Final, final

from mqtt_core._store import Completion, Failed, Operation, Write
from mqtt_core.broker._causes import QUOTA, STORE_FAILED
from mqtt_core.broker._channel import Channel, GatedAck
from mqtt_core.broker._committing import Committing
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._refusals import note_refusal
from mqtt_core.broker._workspace import Workspace

_OPERATION_BYTES: Final = 300  # what an operation counts while it is stored


class Reversible:
    """What has been done already while it is stored, and can be taken back."""

    def keep(self) -> None:
        """It is stored."""
        raise NotImplementedError

    def take_back(self) -> bytes:
        """There is no room for it; returns the acknowledgement that says so. Empty where it cannot
        be taken back any more."""
        raise NotImplementedError


@final
class Gating:
    """Sends SUBACK, UNSUBACK and PUBCOMP in their turn."""

    __slots__ = ("_ws", "_committing")

    def __init__(self, workspace: Workspace, committing: Committing) -> None:
        self._ws: Final = workspace
        self._committing: Final = committing

    def ack_when_stored(
        self,
        channel: Channel,
        data: bytes,
        operations: list[Operation],
        done: Reversible | None = None,
    ) -> None:
        """Send `data` in its turn, once `operations` are stored. Where there is no room for them,
        `done` is taken back; without that, and for any other failure, the connection ends."""
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
            write = Write(request_id, operations, channel.level)
            ws.submit(write, PendingAck(self, channel, ack, size, done))
            ws.hold_back(channel, size)

    def stored(self, channel: Channel, ack: GatedAck, size_bytes: int) -> None:
        """What an acknowledgement rests on is stored."""
        ack.is_ready = True
        self._committing.send_acks(channel)
        self._ws.let_go(channel, size_bytes)

    def not_stored(
        self,
        channel: Channel,
        ack: GatedAck,
        failure: Failed,
        size_bytes: int,
        done: Reversible | None,
    ) -> None:
        """The store has refused it.  [v3 MQTT-4.8.0-2]"""
        ws = self._ws
        ws.let_go(channel, size_bytes)
        note_refusal(ws, failure, channel, what="a change of its session")
        if done is not None and failure.is_full:
            refusal = done.take_back()
            if refusal:
                ack.data = refusal
                ack.is_ready = True
                self._committing.send_acks(channel)
                return
        if channel.is_open:
            ws.doomed.append((channel, QUOTA if failure.is_full else STORE_FAILED))


@final
class PendingAck(Pending):
    """Goes on when what an acknowledgement rests on is stored."""

    __slots__ = ("_gating", "_channel", "_ack", "_size_bytes", "_done")

    def __init__(
        self,
        gating: Gating,
        channel: Channel,
        ack: GatedAck,
        size_bytes: int,
        done: Reversible | None,
    ) -> None:
        self._gating: Final = gating
        self._channel: Final = channel
        self._ack: Final = ack
        self._size_bytes: Final = size_bytes
        self._done: Final = done

    def done(self, completion: Completion) -> None:
        """Send it, if it is its turn."""
        if self._done is not None:
            self._done.keep()
        self._gating.stored(self._channel, self._ack, self._size_bytes)

    def failed(self, failure: Failed) -> None:
        """Say so, or close the connection."""
        self._gating.not_stored(self._channel, self._ack, failure, self._size_bytes, self._done)
