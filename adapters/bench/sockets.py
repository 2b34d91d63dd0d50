"""Sockets for load: blocking while a client connects, then driven by one poller."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Final, Protocol

from adapters.bench import packets
from mqtt_core import ConnAck, RemoteProtocolError, properties, reason_name

CONNECT_TIMEOUT_S: Final = 20.0

# Linux gives one source address about 28,000 ports towards the same listener.
CONNECTIONS_PER_SOURCE: Final = 20_000

_NOT_SPOKEN: Final = (0x01, 0x84)  # what a refused version is answered with

READABLE: Final = 1  # the values of POLLIN, POLLOUT, POLLERR and POLLHUP, the same for epoll
WRITABLE: Final = 4
BROKEN: Final = 8 | 16

_SELECT_LIMIT: Final = 1024  # select() takes no higher descriptor


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

    def wait(self, timeout_s: float) -> None:
        """Wait for anything to be ready, or so long, to the microsecond where that is possible.

        `poll` counts in milliseconds, which would be seen in the latency of a paced load.
        """
        if self._epoll is not None and self._epoll.fileno() < _SELECT_LIMIT:
            select.select([self._epoll], [], [], timeout_s)
        else:
            self.poll(timeout_s)

    def close(self) -> None:
        """Give the poller back."""
        if self._epoll is not None:
            self._epoll.close()


def new_socket(host: str, index: int = 0) -> socket.socket:
    """A TCP socket that can connect to `host`; `index` counts, and chooses the source address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if index >= CONNECTIONS_PER_SOURCE and host.startswith("127."):
        sock.bind((f"127.0.0.{1 + index // CONNECTIONS_PER_SOURCE}", 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def dial(host: str, port: int, index: int = 0) -> socket.socket:
    """A TCP connection; `index` counts a benchmark's connections and chooses the source address."""
    try:
        sock = new_socket(host, index)
        try:
            sock.settimeout(CONNECT_TIMEOUT_S)
            sock.connect((host, port))
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise BenchmarkError(
            f"cannot connect to {host}:{port}: {error}; is a broker running there?"
        ) from error
    return sock


def connect(host: str, port: int, client_id: str, index: int = 0) -> socket.socket:
    """A connected client of MQTT 3.1.1 with a clean session, still blocking."""
    return enter(host, port, client_id, index, packets.MQTT_3_1_1)[0]


def enter(
    host: str, port: int, client_id: str, index: int, level: int, *, clean: bool = True
) -> tuple[socket.socket, bytes]:
    """A connected client, still blocking, and its CONNACK."""
    sock = dial(host, port, index)
    version = "MQTT 5.0" if level == packets.MQTT_5 else "MQTT 3.1.1"
    try:
        sock.sendall(packets.connect(client_id, clean=clean, level=level))
        connack = read_packet(sock)
    except (OSError, BenchmarkError) as error:
        sock.close()
        raise BenchmarkError(
            f"no CONNACK from {host}:{port} for {client_id}: {error}; is it an {version} broker?"
        ) from error
    refusal = refusal_of(connack, level)
    if refusal:
        sock.close()
        raise BenchmarkError(f"{host}:{port} refused {client_id}: {refusal}")
    return sock, connack


def refusal_of(connack: bytes, level: int) -> str:
    """Why a CONNACK lets nobody in, and what to do; empty if it does let in."""
    version = "MQTT 5.0" if level == packets.MQTT_5 else "MQTT 3.1.1"
    # A refusal in the form of 3.1.1 has two bytes behind its length, one of 5.0 three or more.
    is_short = len(connack) == 4 and connack[1] == 2
    if is_short and connack[3] in _NOT_SPOKEN:
        return f"it does not speak {version}"
    try:
        answer = packets.connack(connack, packets.MQTT_3_1_1 if is_short else level)
    except (RemoteProtocolError, ValueError) as error:
        return f"{connack.hex(' ')} is no CONNACK of {version}: {error}"
    if not answer.reason:
        return ""
    if answer.reason in _NOT_SPOKEN:
        return f"it does not speak {version}"
    return f"{reason_name(answer.reason)}; let anonymous clients in while you measure"


def receive_maximum(connack: bytes) -> int:
    """How many messages at QoS 1 and 2 the broker takes unacknowledged (3.2.2.3.3 of MQTT 5.0)."""
    answer: ConnAck = packets.connack(connack, packets.MQTT_5)
    return properties.number(answer.properties, properties.RECEIVE_MAXIMUM, 65_535)


def subscribe(
    sock: socket.socket,
    filters: list[str],
    qos: int,
    packet_id: int = 1,
    level: int = packets.MQTT_3_1_1,
) -> None:
    """SUBSCRIBE on a blocking socket, and wait for the SUBACK that grants it."""
    sock.sendall(packets.subscribe(packet_id, filters, qos, level))
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
