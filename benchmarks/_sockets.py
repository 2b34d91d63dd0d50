"""Loopback sockets for load: blocking while a client connects, then driven by one poller."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Final, Protocol

from benchmarks import _packets

CONNECT_TIMEOUT_S: Final = 20.0

# Linux gives one source address about 28,000 ports towards the same listener.
CONNECTIONS_PER_SOURCE: Final = 20_000

_NOT_SPOKEN: Final = (0x01, 0x84)  # what a refused version is answered with

READABLE: Final = 1  # the values of POLLIN, POLLOUT, POLLERR and POLLHUP, the same for epoll
WRITABLE: Final = 4
BROKEN: Final = 8 | 16


class BenchmarkError(Exception):
    """A benchmark cannot go on; the message says why and what to do."""


class Stream(Protocol):
    """What a client needs of its connection: a socket, or a stand-in for one."""

    def send(self, data: bytes | bytearray, /) -> int:
        """Take as much as fits."""

    def recv(self, most: int, /) -> bytes:
        """Give what has arrived."""

    def setblocking(self, flag: bool, /) -> None:
        """Never wait."""

    def fileno(self) -> int:
        """The descriptor."""


class Registry(Protocol):
    """Where a client says what it waits for."""

    def register(self, fd: int, events: int) -> None:
        """Start to watch a descriptor."""

    def modify(self, fd: int, events: int) -> None:
        """Watch it for something else."""


class Poller:
    """epoll where there is one, poll elsewhere, with one face.

    `poll(timeout_s)` waits until something is ready and gives pairs of descriptor and events. It
    is the system's own function where that is possible: it is called for every few messages.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self.poll: Callable[[float], list[tuple[int, int]]]
        if hasattr(select, "epoll"):
            self._epoll = select.epoll()
            self._set: select.epoll | select.poll = self._epoll
            self.poll = self._epoll.poll
        else:
            self._set = poller = select.poll()
            self.poll = lambda timeout_s: poller.poll(timeout_s * 1000)

    def register(self, fd: int, events: int) -> None:
        """Start to watch a descriptor."""
        self._set.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Watch a descriptor for something else."""
        self._set.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Watch a descriptor no more."""
        self._set.unregister(fd)

    def close(self) -> None:
        """Give the poller back."""
        if self._epoll is not None:
            self._epoll.close()


def dial(host: str, port: int, index: int = 0) -> socket.socket:
    """A TCP connection; `index` counts a benchmark's connections and chooses the source address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT_TIMEOUT_S)
        if index >= CONNECTIONS_PER_SOURCE and host.startswith("127."):
            sock.bind((f"127.0.0.{1 + index // CONNECTIONS_PER_SOURCE}", 0))
        sock.connect((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        sock.close()
        raise BenchmarkError(
            f"cannot connect to {host}:{port}: {error}; start a broker there, or give its --port"
        ) from error
    return sock


def connect(host: str, port: int, client_id: str, index: int = 0) -> socket.socket:
    """A connected client of MQTT 3.1.1 with a clean session, still blocking."""
    return enter(host, port, client_id, index, _packets.MQTT_3_1_1)[0]


def enter(
    host: str, port: int, client_id: str, index: int, level: int, *, clean: bool = True
) -> tuple[socket.socket, bytes]:
    """A connected client, still blocking, and its CONNACK."""
    sock = dial(host, port, index)
    version = "MQTT 5.0" if level == _packets.MQTT_5 else "MQTT 3.1.1"
    try:
        sock.sendall(_packets.connect(client_id, clean=clean, level=level))
        connack = read_packet(sock)
    except (OSError, BenchmarkError) as error:
        sock.close()
        raise BenchmarkError(
            f"no CONNACK from {host}:{port} for {client_id}: {error}; is it an {version} broker?"
        ) from error
    # A refusal in the form of 3.1.1 has two bytes behind its length, one of 5.0 three or more.
    reason_at = 3 if connack[1] < 0x80 else 4
    if connack[0] != 0x20 or connack[reason_at] != 0:
        sock.close()
        hint = "let anonymous clients in"
        if connack[reason_at] in _NOT_SPOKEN:
            hint = f"it does not speak {version}"
        raise BenchmarkError(f"{host}:{port} refused {client_id} with {connack.hex(' ')}; {hint}")
    return sock, connack


def subscribe(
    sock: socket.socket,
    filters: list[str],
    qos: int,
    packet_id: int = 1,
    level: int = _packets.MQTT_3_1_1,
) -> None:
    """SUBSCRIBE on a blocking socket, and wait for the SUBACK that grants it."""
    sock.sendall(_packets.subscribe(packet_id, filters, qos, level))
    suback = read_packet(sock)
    if suback[0] != 0x90 or suback[-len(filters) :] != bytes((qos,)) * len(filters):
        raise BenchmarkError(
            f"SUBSCRIBE to {filters[0]!r} at QoS {qos} was answered with {suback[:16].hex(' ')}"
        )


def read_packet(sock: socket.socket) -> bytes:
    """One whole packet from a blocking socket, byte by byte where its length is not yet known."""
    head = bytearray(_exactly(sock, 2))
    while head[-1] & 0x80:
        head += _exactly(sock, 1)
    length = 0
    for place, digit in enumerate(head[1:]):
        length |= (digit & 0x7F) << 7 * place
    return bytes(head) + _exactly(sock, length)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise BenchmarkError("the broker closed the connection")
        data += piece
    return data
