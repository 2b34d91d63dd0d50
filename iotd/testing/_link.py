"""Links: connections without sockets, on a loop's clock, that can be cut, slowed and disturbed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol, cast, final

To = Literal["both", "broker", "client"]
"""Which way: what goes to the broker, to the client, or both."""

_FULL_BYTES: Final = 65_536
"""What a pipe holds before its writer is asked to pause, as the buffer of a socket would."""


class Observer(Protocol):
    """Is told what passes over links."""

    def opened(self, wire: Wire) -> None:
        """A connection was made."""

    def sent(self, wire: Wire, to_broker: bool, data: bytes) -> None:
        """One side has sent bytes; whether they arrive is another matter."""

    def ended(self, wire: Wire, by_client: bool | None) -> None:
        """A connection has ended: by the client, by the broker, or by neither (None)."""


@final
class _Way:
    """How bytes fare in one direction of a link."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.most_bytes = 0  # arrive at once; 0 for no limit
        self.repeats = 0  # chunks that are still to arrive twice
        self.losses = 0  # chunks that are still to be lost

    def copies(self) -> int:
        """How often the next chunk arrives."""
        if self.losses:
            self.losses -= 1
            return 0
        if self.repeats:
            self.repeats -= 1
            return 2
        return 1

    def pieces(self, data: bytes) -> list[bytes]:
        """A chunk in the pieces in which it arrives."""
        size = self.most_bytes or len(data)
        return [data[at : at + size] for at in range(0, len(data), size)]


@final
class End(asyncio.Transport):
    """One end of a connection, as its protocol sees it: a transport of asyncio."""

    def __init__(self, wire: Wire, way: _Way, is_client: bool, protocol: asyncio.BaseProtocol):
        super().__init__({"peername": (wire.link.name, 0), "sockname": (wire.link.name, 0)})
        self.is_client: Final = is_client
        self._wire: Final = wire
        self._way: Final = way  # from here to the other end
        self._protocol = protocol
        self._coming: Final[deque[tuple[float, bytes | None]]] = deque()  # None: the stream's end
        self._coming_bytes = 0
        self._is_due = False
        self._is_reading = True
        self._is_paused = False  # the protocol was asked to write no more
        self._is_closing = False
        self._has_sent_eof = False
        self.is_gone = False

    # What arrives here

    def arrive(self, at: float, data: bytes | None) -> None:
        """Bytes, or the end of the stream, are on their way here."""
        if self.is_gone:
            return
        last = self._coming[-1][0] if self._coming else at
        self._coming.append((max(at, last), data))
        self._coming_bytes += 0 if data is None else len(data)
        self._look()

    def _look(self) -> None:
        """See to it that what comes is handed on in time."""
        if self._coming and not self._is_due and self._is_reading and not self.is_gone:
            self._is_due = True
            self._wire.loop.call_at(self._coming[0][0], self._hand_on)

    def _hand_on(self) -> None:
        self._is_due = False
        if not self._is_reading or self.is_gone or not self._coming:
            return
        _, data = self._coming.popleft()
        protocol = cast("asyncio.Protocol", self._protocol)
        if data is None:
            if not protocol.eof_received():
                self.close()
        else:
            self._coming_bytes -= len(data)
            if not self._is_closing:
                protocol.data_received(data)
            self._wire.other(self).has_room(self._coming_bytes)
        self._look()

    def has_room(self, waiting_bytes: int) -> None:
        """The other end has taken some of what was written here, and so much waits there."""
        if self._is_paused and not waiting_bytes and not self.is_gone:
            self._is_paused = False
            self._protocol.resume_writing()

    # asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to the other end."""
        if self._is_closing or self._has_sent_eof or not data:
            return
        self._wire.send(self, bytes(data), self._way)
        other = self._wire.other(self)
        if not self._is_paused and other.waiting_bytes > _FULL_BYTES:
            self._is_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send bytes in several pieces."""
        self.write(b"".join(list_of_data))

    @property
    def waiting_bytes(self) -> int:
        """What has been sent to this end and was not taken."""
        return self._coming_bytes

    def get_write_buffer_size(self) -> int:
        """What the other end has not taken."""
        return self._wire.other(self).waiting_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """A pipe has its own."""

    def can_write_eof(self) -> bool:
        """Yes."""
        return True

    def write_eof(self) -> None:
        """Send no more; the other end may go on."""
        if not self._has_sent_eof and not self._is_closing:
            self._has_sent_eof = True
            self._wire.send_eof(self, self._way)

    def pause_reading(self) -> None:
        """Take nothing for now."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Go on taking what comes."""
        self._is_reading = True
        self._look()

    def is_reading(self) -> bool:
        """Whether what comes is taken."""
        return self._is_reading and not self._is_closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Serve another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is served."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._is_closing

    def close(self) -> None:
        """Close; what was written still arrives."""
        if not self._is_closing:
            self._wire.closed_by(self)
            self.write_eof()
            self.end(None)

    def abort(self) -> None:
        """Close; a pipe holds nothing back that could be thrown away."""
        self.close()

    def end(self, error: Exception | None) -> None:
        """It is over on this side; the protocol hears of it."""
        if not self.is_gone:
            self.is_gone = True
            self._is_closing = True
            self._coming.clear()
            self._coming_bytes = 0
            self._wire.loop.call_soon(self._protocol.connection_lost, error)


@final
class Wire:
    """One connection over a link: its two ends."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Link,
        number: int,
        client: asyncio.BaseProtocol,
        broker: asyncio.BaseProtocol,
        observer: Observer,
    ) -> None:
        self.loop: Final = loop
        self.link: Final = link
        self.number: Final = number
        self._observer: Final = observer
        self._is_silent = False
        self._has_ended = False
        self.client: Final = End(self, link.to_broker, True, client)
        self.broker: Final = End(self, link.to_client, False, broker)
        observer.opened(self)
        broker.connection_made(self.broker)
        client.connection_made(self.client)

    def other(self, end: End) -> End:
        """The end at the other side."""
        return self.broker if end is self.client else self.client

    @property
    def is_over(self) -> bool:
        """Whether neither side has it any more."""
        return self.client.is_gone and self.broker.is_gone

    def send(self, end: End, data: bytes, way: _Way) -> None:
        """Bytes of one end on their way."""
        self._observer.sent(self, end.is_client, data)
        if self._is_silent:
            return
        at = self.loop.time() + way.delay_s
        other = self.other(end)
        for _ in range(way.copies()):
            for piece in way.pieces(data):
                other.arrive(at, piece)

    def send_eof(self, end: End, way: _Way) -> None:
        """An end sends no more."""
        if not self._is_silent:
            self.other(end).arrive(self.loop.time() + way.delay_s, None)

    def closed_by(self, end: End) -> None:
        """One side has closed it."""
        self._end(end.is_client)

    def _end(self, by_client: bool | None) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._observer.ended(self, by_client)

    def cut(self, *, client_hears: bool = True, broker_hears: bool = True) -> None:
        """The connection breaks; what is on its way is lost."""
        self._is_silent = True
        self._end(None)
        broken = ConnectionResetError("the link was cut")
        if client_hears:
            self.client.end(broken)
        if broker_hears:
            self.broker.end(broken)

    def silence(self) -> None:
        """Nothing passes any more, and neither side is told."""
        self._is_silent = True


@final
class Link:
    """The way from one client to the broker, over as many connections as there will be.

    What is done to it holds for all of them, unless it says otherwise.
    """

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.to_broker: Final = _Way()
        self.to_client: Final = _Way()
        self.wires: Final[list[Wire]] = []
        self._is_down = False

    def __repr__(self) -> str:
        return f"Link({self.name!r}{', down' if self._is_down else ''})"

    def connect(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        client: asyncio.BaseProtocol,
        broker: asyncio.BaseProtocol,
        observer: Observer,
    ) -> asyncio.Transport:
        """Make a connection; returns its end at the client."""
        self._forget()
        wire = Wire(loop, self, number, client, broker, observer)
        self.wires.append(wire)
        return wire.client

    # The ends of connections

    def cut(self) -> None:
        """Break the connection: what is on its way is lost, and both sides hear of it.

        A client that comes back does so over the same link.
        """
        self._each(Wire.cut)

    def half_open(self) -> None:
        """The client is gone and the broker has not heard, as when a device loses its power: the
        broker has the connection until keep-alive tells. None comes about until `up`."""
        self._is_down = True
        self._each(lambda wire: wire.cut(broker_hears=False))

    def silence(self) -> None:
        """Nothing passes over the connection any more, and nobody is told, as when a router has
        forgotten it. A connection made later is not concerned."""
        self._each(Wire.silence)

    def down(self) -> None:
        """Cut it, and let no connection come about until `up`."""
        self._is_down = True
        self.cut()

    def up(self) -> None:
        """Let connections come about again."""
        self._is_down = False

    @property
    def is_down(self) -> bool:
        """Whether no connection comes about."""
        return self._is_down

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection that at least one side still has."""
        self._forget()
        return bool(self.wires)

    def _each(self, do: Callable[[Wire], object]) -> None:
        for wire in list(self.wires):
            do(wire)
        self._forget()

    def _forget(self) -> None:
        self.wires[:] = [wire for wire in self.wires if not wire.is_over]

    # What becomes of bytes

    def delay(self, seconds: float, *, to: To = "both") -> None:
        """Bytes take so long from now on; 0 for no time at all."""
        if seconds < 0:
            raise ValueError(f"a delay of {seconds} s: allowed are 0 and above")
        for way in self._ways(to):
            way.delay_s = float(seconds)

    def split(self, most_bytes: int, *, to: To = "both") -> None:
        """At most so many bytes arrive at once from now on; 0 for no limit."""
        if most_bytes < 0:
            raise ValueError(f"pieces of {most_bytes} bytes: allowed are 0 (whole) and above")
        for way in self._ways(to):
            way.most_bytes = most_bytes

    def duplicate(self, chunks: int = 1, *, to: To = "broker") -> None:
        """The next chunks, as they were written, arrive twice: a gateway that is broken."""
        for way in self._ways(to):
            way.repeats = chunks

    def lose(self, chunks: int = 1, *, to: To = "broker") -> None:
        """The next chunks, as they were written, do not arrive; the connection stays."""
        for way in self._ways(to):
            way.losses = chunks

    def _ways(self, to: To) -> list[_Way]:
        if to not in ("both", "broker", "client"):
            raise ValueError(f"to={to!r}: allowed are 'both', 'broker' and 'client'")
        ways = {"broker": [self.to_broker], "client": [self.to_client]}
        return ways.get(to, [self.to_broker, self.to_client])
