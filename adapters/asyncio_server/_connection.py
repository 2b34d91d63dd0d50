"""One connection on asyncio: socket events in, the channel's bytes out."""

from __future__ import annotations

import asyncio
import sys
from typing import Final, cast, final

from adapters.transport import RECEIVE_BYTES, Cancellable, Drive, Origin, gather
from mqtt_core.broker import (
    CLOSE_AFTER_FLUSH,
    CLOSE_NOW,
    EOF_BY_PEER,
    TRANSPORT_ERROR,
    Channel,
)

_COPIES_INPUT: Final = sys.platform == "win32"
"""Whether the loop may hand over its own mutable buffer where it should be `bytes`."""


@final
class Connection(asyncio.Protocol):
    """A `Sendable` on an asyncio transport.

    The transport's high-water mark is zero: `pause_writing` then means that the socket did not
    take everything, and from there on the session queues instead of the transport.
    """

    __slots__ = (
        "_channel",
        "_drive",
        "_has_ended_output",
        "_is_eof",
        "_is_open",
        "_is_reading",
        "_is_writable",
        "_origin",
        "_peer",
        "_progress_timer",
        "_transport",
    )

    _channel: Channel
    _transport: asyncio.Transport

    def __init__(self, drive: Drive, origin: Origin, peer: str) -> None:
        self._drive = drive
        self._origin = origin
        self._peer = peer
        self._is_open = False
        self._is_reading = True
        self._is_writable = True
        self._has_ended_output = False
        self._is_eof = False
        self._progress_timer: Cancellable | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the transport is ready."""
        self._transport = cast("asyncio.Transport", transport)
        try:
            self._transport.set_write_buffer_limits(high=0)
            if hasattr(transport, "max_size"):  # of asyncio's own loop, which asks for 256 KiB
                transport.max_size = RECEIVE_BYTES
            self._channel = self._drive.open(self._origin, self._peer, self)
            self._is_open = True
        except Exception as error:  # noqa: BLE001  this connection's fault alone
            self._fail("a connection could not be opened", error)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have come."""
        if _COPIES_INPUT:
            data = bytes(data)
        drive = self._drive
        if not drive.is_due:
            drive.wake()
        try:
            if len(data) <= RECEIVE_BYTES:
                self._channel.receive_data(data, drive.now)
                if drive.broker.must_flush:
                    drive.flush()
            else:
                self._receive_much(data)
        except Exception as error:  # noqa: BLE001  this connection's fault alone
            self._fail("input failed", error)

    def _receive_much(self, data: bytes) -> None:
        """What uvloop has read at once, up to 256 KB; it would go on to 8 MB in the same poll.

        In pieces, since the answers to one are to leave before the next adds to them.
        """
        drive = self._drive
        for start in range(0, len(data), RECEIVE_BYTES):
            self._channel.receive_data(data[start : start + RECEIVE_BYTES], drive.now)
            drive.flush()
        if self._is_reading:
            self._transport.pause_reading()
            drive.call_soon(self._read_on)  # behind the turn

    def _read_on(self) -> None:
        if self._is_reading:
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """asyncio: the peer sends nothing more. MQTT has nothing to say to such a peer."""
        self._is_eof = True
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio: the transport is gone; called once."""
        if self._is_open:
            self._is_open = False
            if self._progress_timer is not None:
                self._progress_timer.cancel()
            try:
                self._drive.close(self._channel, EOF_BY_PEER if self._is_eof else TRANSPORT_ERROR)
            except Exception as fault:  # noqa: BLE001  this connection's fault alone
                self._fail("the end of a connection failed", fault)

    def pause_writing(self) -> None:
        """asyncio: the socket did not take everything."""
        self._is_writable = False
        self._channel.set_writable(False, self._drive.now)
        if self._progress_timer is None:
            self._watch_progress()

    def _watch_progress(self) -> None:
        """Look after a while whether the socket has taken some of what it refused."""
        unsent = self._transport.get_write_buffer_size()

        def look() -> None:
            self._progress_timer = None
            if self._is_open and not self._is_writable:
                if self._transport.get_write_buffer_size() < unsent:
                    self._drive.wake()
                    self._channel.set_writable(False, self._drive.now)
                self._watch_progress()

        self._progress_timer = self._drive.call_later(self._drive.progress_interval_s, look)

    def resume_writing(self) -> None:
        """asyncio: the socket has taken everything."""
        self._is_writable = True
        self._drive.wake()
        try:
            self._channel.set_writable(True, self._drive.now)
            self.flush()
        except Exception as error:  # noqa: BLE001  this connection's fault alone
            self._fail("output failed", error)

    def flush(self) -> None:
        """`Sendable`: send what there is, in one system call if it comes in one piece."""
        channel = self._channel
        if self._is_writable:
            data = channel.data_to_send()
            if data:
                more = channel.data_to_send()
                if more:
                    self._write_pieces(data, more)
                else:
                    self._transport.write(data)
        if channel.close or channel.wants_read is not self._is_reading:
            self._obey(channel)

    def abort(self) -> None:
        """`Sendable`: close the socket at once."""
        self._transport.abort()

    def _write_pieces(self, first: bytes, second: bytes) -> None:
        """Hand over many pieces in few system calls, as long as the socket takes them."""
        pieces = gather(self._channel, [first, second])
        while pieces:
            self._transport.writelines(pieces)
            if not self._is_writable:
                return
            pieces = gather(self._channel, [])

    def _obey(self, channel: Channel) -> None:
        """Close, end the output or pause reading, as the channel says."""
        transport = self._transport
        if channel.close == CLOSE_NOW:
            transport.abort()
            return
        if channel.close == CLOSE_AFTER_FLUSH and self._is_writable and not self._has_ended_output:
            self._has_ended_output = True
            try:
                transport.write_eof()
            except OSError:  # the peer is gone already
                transport.abort()
                return
        if channel.wants_read is not self._is_reading:
            self._is_reading = channel.wants_read
            if self._is_reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _fail(self, what: str, error: Exception) -> None:
        self._drive.fault(what, error)
        self._transport.abort()
