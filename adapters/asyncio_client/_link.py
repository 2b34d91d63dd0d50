"""One connection to a server: a transport of asyncio, and a WebSocket in it where one is wanted."""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Final, Protocol, cast, final

from adapters.stages import ServerAddress, WebSocketStage, why_lost

RECEIVE_BYTES: Final = 65_536
"""Bytes asked of a socket at once; 256 KiB would cost six times as much per call."""

GATHER_BYTES: Final = 262_144
"""Bytes handed to the transport in one call, where there are several pieces."""

_LINGER_S: Final = 2.0
"""How long the server may take to read what is left when the connection is being closed."""

_COPIES_INPUT: Final = sys.platform == "win32"
"""Whether the loop may hand over its own mutable buffer where it should be `bytes`."""


class Owner(Protocol):
    """Whom a link serves."""

    def link_received(self, data: bytes) -> None:
        """MQTT bytes have come."""

    def link_writable(self, is_writable: bool) -> None:
        """Whether the transport takes more."""

    def link_lost(self, link: Link, why: str) -> None:
        """The connection is over; called once, after `open_link` has returned the link."""

    def link_failed(self, link: Link, error: Exception) -> None:
        """The owner has raised something, which is a fault of the program."""


@final
class Link(asyncio.Protocol):
    """A connection, in the words of the client's core: bytes in, bytes out, writable or not.

    The transport's high-water mark is next to nothing: `pause_writing` then means that the socket
    did not take everything, and from there on the client queues instead of the transport.
    """

    _transport: asyncio.Transport

    def __init__(self, owner: Owner, stage: WebSocketStage | None) -> None:
        self._owner: Final = owner
        self._stage: Final = stage
        self._ready: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._gone: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._is_handed_over = False
        self._is_reading = True
        self._is_closing = False
        self._early = b""
        self._linger: asyncio.TimerHandle | None = None
        self.is_writable = True

    async def ready(self) -> None:
        """Wait until MQTT can be spoken. Raises `OSError`."""
        await self._ready

    def hand_over(self) -> bool:
        """From now on the owner is called. False where the connection has ended already."""
        if self._gone.done():
            return False
        self._is_handed_over = True
        return True

    def take_early(self) -> bytes:
        """What came before the link was handed over."""
        early, self._early = self._early, b""
        return early

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the transport is ready."""
        self._transport = cast("asyncio.Transport", transport)
        # One byte and not none: asyncio's TLS would take an empty buffer for a full one.
        self._transport.set_write_buffer_limits(high=1, low=0)
        if hasattr(transport, "max_size"):  # of asyncio's own loop, which asks for 256 KiB
            transport.max_size = RECEIVE_BYTES
        if self._stage is None:
            self._ready.set_result(None)
        else:
            self._stage.start()
            self._transport.write(self._stage.take_output())

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have come."""
        if _COPIES_INPUT:
            data = bytes(data)
        stage = self._stage
        try:
            if stage is not None:
                data = self._unwrap(stage, data)
            if self._is_handed_over:
                self._owner.link_received(data)
            else:
                self._early += data
        except OSError as error:
            self._end_by(error)
        except Exception as error:  # noqa: BLE001  told to the owner, who ends with it
            self._owner.link_failed(self, error)

    def _unwrap(self, stage: WebSocketStage, data: bytes) -> bytes:
        was_open = stage.is_open
        found = stage.receive(data)
        answer = stage.take_output()
        if answer:
            self._transport.write(answer)
        if stage.is_open and not was_open and not self._ready.done():
            self._ready.set_result(None)
        if stage.is_over:
            self.close()
        return found

    def _end_by(self, error: OSError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
        self._transport.abort()

    def eof_received(self) -> None:
        """asyncio: the server sends nothing more. MQTT has nothing to say to such a peer."""

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio: the transport is gone; called once."""
        if self._linger is not None:
            self._linger.cancel()
        why = why_lost(error)
        if not self._ready.done():
            self._ready.set_exception(
                error or ConnectionResetError("the server has closed the connection")
            )
        if not self._gone.done():
            self._gone.set_result(None)
        if self._is_handed_over:
            self._owner.link_lost(self, why)

    def pause_writing(self) -> None:
        """asyncio: the socket did not take everything."""
        self.is_writable = False
        if self._is_handed_over:
            self._owner.link_writable(False)

    def resume_writing(self) -> None:
        """asyncio: the socket has taken everything."""
        self.is_writable = True
        if self._is_handed_over:
            self._owner.link_writable(True)

    # The owner

    def write(self, pieces: list[bytes]) -> None:
        """Send bytes, in one system call where that can be."""
        stage = self._stage
        if stage is not None:
            self._transport.write(stage.send(b"".join(pieces)))
        elif len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)

    def read(self, wanted: bool) -> None:
        """Whether to read on."""
        if wanted is not self._is_reading and not self._transport.is_closing():
            self._is_reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self) -> None:
        """Close the connection once what was written is out, within a time."""
        if not self._is_closing:
            self._is_closing = True
            if self._stage is not None:
                last = self._stage.end()
                if last:
                    self._transport.write(last)
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(_LINGER_S, self._transport.abort)
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    async def wait_gone(self) -> None:
        """Wait until the transport is gone."""
        await asyncio.shield(self._gone)


async def open_link(
    address: ServerAddress, owner: Owner, tls: ssl.SSLContext | None, max_packet_size_bytes: int
) -> Link:
    """Connect to a server. Raises `OSError`; cancelled, it leaves nothing behind."""
    loop = asyncio.get_running_loop()
    stage = WebSocketStage(address, max_packet_size_bytes) if address.is_websocket else None

    def make() -> Link:
        return Link(owner, stage)

    if address.scheme == "unix":
        try:
            _, link = await loop.create_unix_connection(make, address.path)
        except NotImplementedError:  # Windows
            raise OSError("this event loop has no Unix sockets; use mqtt://") from None
    elif address.is_secure:
        context = ssl.create_default_context() if tls is None else tls
        _, link = await loop.create_connection(make, address.host, address.port, ssl=context)
    else:
        _, link = await loop.create_connection(make, address.host, address.port)
    try:
        await link.ready()
    except BaseException:
        link.abort()
        raise
    return link
