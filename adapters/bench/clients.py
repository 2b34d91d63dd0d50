"""One client of a load: its socket, what it could not send yet, what has come in part."""

from __future__ import annotations

from typing import Final

from adapters.bench import _answers
from adapters.bench.series import recv_bytes_for
from adapters.bench.sockets import READABLE, WRITABLE, BenchmarkError, Registry, Stream
from adapters.bench.workloads import Workload

PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBREL: Final = 0x62
PUBCOMP: Final = 0x70

_RUN_FRAMES: Final = 2048


class Client:
    """A connection with its unsent bytes and the start of a packet that has not wholly arrived."""

    __slots__ = (
        "_poller",
        "_recv",
        "_recv_bytes",
        "_send",
        "_tail",
        "_unsent",
        "name",
        "sock",
    )

    def __init__(self, sock: Stream, poller: Registry, workload: Workload, name: str) -> None:
        self.sock: Final = sock
        self.name: Final = name
        self._poller: Final = poller
        self._recv: Final = sock.recv
        self._send: Final = sock.send
        self._recv_bytes: Final = recv_bytes_for(workload)
        self._unsent = b""
        self._tail = b""
        sock.setblocking(False)
        poller.register(sock.fileno(), READABLE)

    def write(self, data: bytes | bytearray) -> None:
        """Send as much as the socket takes and keep the rest."""
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._lost(str(error)) from error
        if sent < len(data):
            self._unsent = bytes(data[sent:])
            self._poller.modify(self.sock.fileno(), READABLE | WRITABLE)

    def on_writable(self) -> None:
        """The socket takes bytes again."""
        data, self._unsent = self._unsent, b""
        if data:
            self.write(data)
        if not self._unsent:
            self._poller.modify(self.sock.fileno(), READABLE)

    def on_readable(self, now: float) -> None:
        """Bytes have arrived at the socket."""
        try:
            chunk = self._recv(self._recv_bytes)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._lost(str(error)) from error
        if not chunk:
            raise self._lost("the broker closed it")
        self.receive_data(chunk, now)

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Take what was read."""
        raise NotImplementedError

    def unexpected(self, data: bytes | bytearray) -> BenchmarkError:
        """The error for bytes that start no packet expected here."""
        if data[0] == _answers.DISCONNECT:
            return _answers.disconnected(data, self.name)
        return BenchmarkError(f"{self.name} got what was never sent: {data[:40].hex(' ')}")

    def _lost(self, why: str) -> BenchmarkError:
        return BenchmarkError(f"the connection of {self.name} is lost: {why}; see the broker's log")


def run_length(data: bytes, at: int, frame_bytes: int) -> int:
    """How many whole frames of this length and with one first byte follow each other."""
    whole = (len(data) - at) // frame_bytes
    if whole <= 1:
        return whole
    firsts = data[at : at + min(whole, _RUN_FRAMES) * frame_bytes : frame_bytes]
    return len(firsts) - len(firsts.lstrip(firsts[:1]))
