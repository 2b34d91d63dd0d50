"""What the scenarios share: a publisher at full speed, readers that only count, and `$SYS`."""

from __future__ import annotations

import socket
import time
from typing import Final

from adapters.bench import packets
from adapters.bench.series import RECV_BYTES
from adapters.bench.sockets import READABLE, WRITABLE, BenchmarkError, Poller, connect, subscribe

# What is handed to the socket at once.
_PIECE_BYTES: Final = 65_536

# How long readers may go on reading after the last message was sent.
DRAIN_S: Final = 20.0

# Deliveries that were dropped, since the broker started.
DROPPED: Final = "$SYS/broker/publish/messages/dropped"

# mosquitto and those who follow it publish $SYS every ten seconds.
SYS_WAIT_S = 12.0


class Flood:
    """A QoS 0 publisher that writes one packet over and over, as fast as its socket takes it."""

    def __init__(self, sock: socket.socket, packet: bytes) -> None:
        self.sock: Final = sock
        self.sent_bytes = 0
        self._packet_bytes: Final = len(packet)
        copies = -(-2 * _PIECE_BYTES // len(packet))
        self._view: Final = memoryview(packet * copies)
        sock.setblocking(False)

    @property
    def sent(self) -> int:
        """How many whole packets the socket has taken."""
        return self.sent_bytes // self._packet_bytes

    def write(self) -> None:
        """Give the socket what it takes now, going on inside the packet where it stopped."""
        at = self.sent_bytes % self._packet_bytes
        try:
            self.sent_bytes += self.sock.send(self._view[at : at + _PIECE_BYTES])
        except BlockingIOError:
            return


class Readers:
    """Subscribers that read what comes and count its bytes."""

    def __init__(self, poller: Poller, socks: list[socket.socket]) -> None:
        self.received_bytes = 0
        self._socks: Final = {sock.fileno(): sock for sock in socks}
        for sock in socks:
            sock.setblocking(False)
            poller.register(sock.fileno(), READABLE)

    def read(self, fd: int) -> None:
        """Read from the subscriber with this descriptor, if it is one."""
        sock = self._socks.get(fd)
        if sock is None:
            return
        chunk = sock.recv(RECV_BYTES)
        if not chunk:
            raise BenchmarkError("the broker closed a subscriber that was reading")
        self.received_bytes += len(chunk)


def flood(
    publisher: Flood, poller: Poller, readers: Readers, seconds: float, drain_s: float = DRAIN_S
) -> float:
    """Publish for so long while the readers read; the time until all was quiet again.

    A broker without a limit on what it queues may have gathered minutes of work: after `drain_s`
    what has not come is counted as missed.
    """
    fd = publisher.sock.fileno()
    poller.register(fd, READABLE | WRITABLE)
    start = time.perf_counter()
    end = start + seconds
    while time.perf_counter() < end:
        for ready, events in poller.poll(0.1):
            if ready != fd:
                readers.read(ready)
            elif events & WRITABLE:
                publisher.write()
            elif events:
                raise BenchmarkError("the broker closed the publisher")
    poller.unregister(fd)
    finish_packet(publisher)
    last = time.perf_counter()
    drained = last + drain_s
    while last < drained and (some := poller.poll(1.0)):
        for ready, _ in some:
            readers.read(ready)
        last = time.perf_counter()
    return last - start


def finish_packet(publisher: Flood) -> None:
    """Send the rest of a packet that was begun, so that the connection stays in step."""
    publisher.sock.settimeout(60.0)
    at = publisher.sent_bytes % publisher._packet_bytes
    if at:
        rest = publisher._view[at : publisher._packet_bytes]
        publisher.sock.sendall(rest)
        publisher.sent_bytes += len(rest)


def sys_value(port: int, topic: str) -> int | None:
    """The newest value of a `$SYS` topic; None when the broker has no such topic."""
    sock = connect("127.0.0.1", port, "bench-sys")
    value: int | None = None
    try:
        subscribe(sock, [topic], 0)
        sock.setblocking(False)
        held = b""
        end = time.monotonic() + SYS_WAIT_S
        header = len(packets.publish(topic, b""))
        while time.monotonic() < end:
            time.sleep(0.05)
            try:
                held += sock.recv(RECV_BYTES)
            except BlockingIOError:
                continue
            while len(held) >= 2 and len(held) >= 2 + held[1]:
                value = int(held[header : 2 + held[1]])
                held = held[2 + held[1] :]
    finally:
        sock.close()
    return value
