"""One TCP connection on gevent: a watcher of the hub reads, a second one waits to write."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, final

from adapters.transport import RECEIVE_BYTES, Drive, Listener, gather
from mqtt_core.broker import (
    CLOSE_AFTER_FLUSH,
    CLOSE_NOW,
    EOF_BY_PEER,
    TRANSPORT_ERROR,
    Channel,
)

if TYPE_CHECKING:
    from gevent._types import _IoWatcher, _Loop

READ: Final = 1
WRITE: Final = 2


@final
class Connection:
    """A `Sendable` on a non-blocking socket.

    `_writer` exists only while the socket has refused bytes; what it refused is in `_unsent`,
    and everything behind that stays with the session.
    """

    __slots__ = (
        "_channel",
        "_drive",
        "_has_ended_output",
        "_is_open",
        "_is_reading",
        "_loop",
        "_reader",
        "_socket",
        "_unsent",
        "_writer",
    )

    def __init__(
        self, drive: Drive, loop: _Loop, connected: socket.socket, listener: Listener, peer: str
    ) -> None:
        self._drive = drive
        self._loop = loop
        self._socket = connected
        self._writer: _IoWatcher | None = None
        self._unsent: list[memoryview] | None = None
        self._is_reading = True
        self._has_ended_output = False
        self._channel: Channel = drive.open(listener, peer, self)
        self._is_open = True
        self._reader: _IoWatcher = loop.io(connected.fileno(), READ)
        self._reader.start(self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._close(TRANSPORT_ERROR)
            return
        if not data:  # MQTT has nothing to say to a peer that sends nothing more
            self._close(EOF_BY_PEER)
            return
        drive = self._drive
        if not drive.is_due:
            drive.wake()
        try:
            self._channel.receive_data(data, drive.now)
            if drive.broker.must_flush:
                drive.flush()
        except Exception as error:  # noqa: BLE001  this connection's fault alone
            self._fail("input failed", error)

    def _on_writable(self) -> None:
        pieces, self._unsent = self._unsent, None
        if pieces is None or self._writer is None:
            return
        self._drive.wake()
        try:
            if self._send_pieces(pieces):
                self._writer.close()
                self._writer = None
                self._channel.set_writable(True, self._drive.now)
                self.flush()
            elif self._is_open:
                self._channel.set_writable(False, self._drive.now)  # but it has taken something
        except Exception as error:  # noqa: BLE001  this connection's fault alone
            self._fail("output failed", error)

    def flush(self) -> None:
        """`Sendable`: send what there is, in one system call if it comes in one piece."""
        channel = self._channel
        if self._writer is None:
            data = channel.data_to_send()
            if data:
                more = channel.data_to_send()
                if more:
                    pieces = gather(channel, [data, more])
                    while pieces and self._send_pieces([memoryview(piece) for piece in pieces]):
                        pieces = gather(channel, [])
                else:
                    try:
                        sent = self._socket.send(data)
                    except (BlockingIOError, InterruptedError):
                        sent = 0
                    except OSError:
                        self._close(TRANSPORT_ERROR)
                        return
                    if sent != len(data):
                        self._hold([memoryview(data)[sent:]])
        if self._is_open and (channel.close or channel.wants_read is not self._is_reading):
            self._obey(channel)

    def abort(self) -> None:
        """`Sendable`: close the socket at once."""
        self._close(TRANSPORT_ERROR)

    def _send_pieces(self, pieces: list[memoryview]) -> bool:
        """Send many pieces in one system call; what the socket refuses is held. True if nothing."""
        try:
            if hasattr(self._socket, "sendmsg"):
                sent = self._socket.sendmsg(pieces)
            else:
                sent = self._socket.send(b"".join(pieces))
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._close(TRANSPORT_ERROR)
            return False
        for index, piece in enumerate(pieces):
            if sent < len(piece):
                self._hold([piece[sent:], *pieces[index + 1 :]])
                return False
            sent -= len(piece)
        return True

    def _hold(self, unsent: list[memoryview]) -> None:
        """Keep what the socket refused and wait until it takes more."""
        self._unsent = unsent
        if self._writer is None:
            self._writer = self._loop.io(self._socket.fileno(), WRITE)
            self._writer.start(self._on_writable)
            self._channel.set_writable(False, self._drive.now)

    def _obey(self, channel: Channel) -> None:
        """Close, end the output or pause reading, as the channel says."""
        if channel.close == CLOSE_NOW:
            self._close(TRANSPORT_ERROR)
            return
        if channel.close == CLOSE_AFTER_FLUSH and self._writer is None:
            if not self._has_ended_output:
                self._has_ended_output = True
                try:
                    self._socket.shutdown(socket.SHUT_WR)
                except OSError:  # the peer is gone already
                    self._close(TRANSPORT_ERROR)
                    return
        if channel.wants_read is not self._is_reading:
            self._is_reading = channel.wants_read
            if self._is_reading:
                self._reader.start(self._on_readable)
            else:
                self._reader.stop()

    def _close(self, cause: int) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._reader.close()
        if self._writer is not None:
            self._writer.close()
        self._unsent = None
        self._socket.close()
        self._drive.close(self._channel, cause)

    def _fail(self, what: str, error: Exception) -> None:
        self._drive.fault(what, error)
        self._close(TRANSPORT_ERROR)
