"""One connection to a server: a socket that never blocks, with TLS or a WebSocket in it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Final, final

from adapters.stages import ServerAddress, WebSocketStage, why_lost

if TYPE_CHECKING:
    from ssl import SSLContext

RECEIVE_BYTES: Final = 65_536
"""Bytes asked of a socket at once."""

_BUSY: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, errno.EINTR})

Pause = Callable[[socket.socket, int], None]
"""Waits until a socket is ready for `EVENT_READ` or `EVENT_WRITE`. Raises `TimeoutError`, or
whatever ends the attempt."""


@final
class Link:
    """A connection, in the words of the client's core: bytes in, bytes out, writable or not.

    Whoever calls it holds the lock of the client. Nothing here blocks or raises `OSError`: what
    breaks the connection is kept in `error`, and `is_over` is true from then on.
    """

    __slots__ = (
        "_has_more",
        "_is_closing",
        "_stage",
        "_stopped",
        "_unsent",
        "early",
        "error",
        "is_over",
        "socket",
    )

    def __init__(self, connected: socket.socket, stage: WebSocketStage | None) -> None:
        self.socket: Final = connected
        self.early = b""
        """MQTT bytes that came while the connection was being opened."""
        self.error: OSError | None = None
        self.is_over = False
        self._stage: Final = stage
        self._stopped: Final = _stopped_errors(connected)
        self._unsent: memoryview | None = None
        self._has_more = False  # TLS has decrypted what the socket will not announce again
        self._is_closing = False

    @property
    def is_writable(self) -> bool:
        """Whether it takes more: the socket has taken everything so far."""
        return self._unsent is None and not self.is_over and not self._is_closing

    @property
    def has_unsent(self) -> bool:
        """Whether the socket has to take more of what was written."""
        return self._unsent is not None and not self.is_over

    @property
    def has_more(self) -> bool:
        """Whether `receive` has something, whatever the socket says."""
        return self._has_more and not self.is_over

    @property
    def why(self) -> str:
        """Why it is over, empty where the server has closed it."""
        return why_lost(self.error)

    def write(self, data: bytes) -> None:
        """Send bytes; what the socket does not take is sent by `go_on`."""
        if self._stage is not None:
            data = self._stage.send(data)
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self._unsent is not None:
            self._unsent = memoryview(bytes(self._unsent) + data)
        elif data:
            self._unsent = memoryview(data)
            self.go_on()

    def go_on(self) -> None:
        """Send what is left of earlier writes."""
        while self._unsent is not None and not self.is_over:
            try:
                count = self.socket.send(self._unsent)
            except self._stopped:
                return
            except OSError as error:
                self._break(error)
                return
            self._unsent = self._unsent[count:] if count < len(self._unsent) else None
        if self._is_closing:
            self._shut_down()

    def receive(self) -> bytes:
        """MQTT bytes that have come, empty for none."""
        self._has_more = False
        if self.is_over:
            return b""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except self._stopped:
            return b""
        except OSError as error:
            self._break(error)
            return b""
        if not data:
            self.is_over = True
            return b""
        if self._is_closing:
            return b""  # it is only drained
        self._has_more = _has_decrypted(self.socket)
        return data if self._stage is None else self._unwrap(self._stage, data)

    def _unwrap(self, stage: WebSocketStage, data: bytes) -> bytes:
        try:
            data = stage.receive(data)
        except OSError as error:
            self._break(error)
            return b""
        self._send(stage.take_output())
        if stage.is_over:
            self.is_over = True
        return data

    def _break(self, error: OSError) -> None:
        if not self._is_closing:
            self.error = error
        self.is_over = True
        self._unsent = None

    def close(self) -> None:
        """Send what is left and then the end; it is over when the server has closed it too.

        Closing at once would reset a connection on which something has come meanwhile, and the
        server could lose what it has not read yet.
        """
        if not self._is_closing:
            if self._stage is not None:
                self._send(self._stage.end())
            self._is_closing = True
            if self._unsent is None:
                self._shut_down()

    def _shut_down(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.is_over = True

    def abort(self) -> None:
        """Close it at once."""
        self.is_over = True
        self.socket.close()

    def forget(self) -> None:
        """Close this process's copy of the socket, without a word to the server."""
        self.is_over = True
        descriptor = self.socket.detach()
        if descriptor >= 0:
            os.close(descriptor)


def _stopped_errors(connected: socket.socket) -> tuple[type[OSError], ...]:
    """What says that a socket is not ready."""
    if not hasattr(connected, "pending"):
        return (BlockingIOError, InterruptedError)
    from ssl import SSLWantReadError, SSLWantWriteError

    return (BlockingIOError, InterruptedError, SSLWantReadError, SSLWantWriteError)


def _has_decrypted(connected: socket.socket) -> bool:
    pending = getattr(connected, "pending", None)
    return pending is not None and pending() > 0


# Opening


def open_link(
    address: ServerAddress, tls: SSLContext | None, max_packet_size_bytes: int, pause: Pause
) -> Link:
    """Connect to a server. Raises `OSError`, and what `pause` does; nothing is left behind."""
    connected = _connect(address, pause)
    try:
        if address.is_secure:
            connected = _secure(connected, address, tls, pause)
        if not address.is_websocket:
            return Link(connected, None)
        return _open_websocket(connected, WebSocketStage(address, max_packet_size_bytes), pause)
    except BaseException:
        connected.close()
        raise


def _connect(address: ServerAddress, pause: Pause) -> socket.socket:
    """A connected socket: the first of the host's addresses that answers."""
    if address.scheme == "unix":
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("this system has no Unix sockets")
        return _connect_one(socket.AF_UNIX, address.path, pause)
    last: OSError | None = None
    for family, _, _, _, resolved in socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    ):
        try:
            connected = _connect_one(family, resolved, pause)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        except TimeoutError:
            raise
        except OSError as error:
            last = error
    raise last or OSError("the host has no address")


def _connect_one(family: int, resolved: object, pause: Pause) -> socket.socket:
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        code = connecting.connect_ex(resolved)  # type: ignore[arg-type]  # as getaddrinfo gave it
        if code in _BUSY:
            pause(connecting, EVENT_WRITE)
            code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, errno.errorcode.get(code, ""))
        return connecting
    except BaseException:
        connecting.close()
        raise


def _secure(
    connected: socket.socket, address: ServerAddress, tls: SSLContext | None, pause: Pause
) -> socket.socket:
    import ssl

    context = ssl.create_default_context() if tls is None else tls
    secured = context.wrap_socket(
        connected, server_hostname=address.host, do_handshake_on_connect=False
    )
    try:
        while True:
            try:
                secured.do_handshake()
                return secured
            except ssl.SSLWantReadError:
                pause(secured, EVENT_READ)
            except ssl.SSLWantWriteError:
                pause(secured, EVENT_WRITE)
    except BaseException:
        secured.close()
        raise


def _open_websocket(connected: socket.socket, stage: WebSocketStage, pause: Pause) -> Link:
    link = Link(connected, stage)
    stage.start()
    link._send(stage.take_output())
    while not stage.is_open:
        if link.is_over:
            raise link.error or ConnectionResetError("the server has closed the connection")
        if link.has_unsent:
            pause(connected, EVENT_WRITE)
            link.go_on()
        else:
            if not link.has_more:
                pause(connected, EVENT_READ)
            link.early += link.receive()
    return link
