"""A connection storm: how many clients a broker lets in a second, and how long each waits."""

from __future__ import annotations

import errno
import gc
import socket
import time
from typing import Final, final

from adapters.bench import machine, packets
from adapters.bench.histogram import Histogram
from adapters.bench.load import LIMIT_S, SAMPLE_S, STALL_S, OnSample
from adapters.bench.results import Result, Sample, blank, completed
from adapters.bench.sockets import (
    BROKEN,
    READABLE,
    WRITABLE,
    BenchmarkError,
    Poller,
    new_socket,
    refusal_of,
)
from adapters.bench.workloads import Workload

_CONNACK_BYTES: Final = 1_024  # one is read at once, with whatever properties it has
_LONGEST_WAIT_S: Final = 0.05


@final
class _Entry:
    """A client that waits for its CONNACK."""

    __slots__ = ("connect", "due", "is_dialled", "sock")

    def __init__(self, sock: socket.socket, connect: bytes, due: float) -> None:
        self.sock: Final = sock
        self.connect: Final = connect
        self.due: Final = due  # when it was to start
        self.is_dialled = False


class Storm:
    """A workload of mode `connect` on one broker: `prepare()`, `measure()`, `close()`.

    With a rate each connection has a moment when it is due, and its time runs from that to its
    CONNACK, the TCP handshake included; without one, `window` connections are under way at a time.
    All stay open until the end.
    """

    def __init__(
        self, workload: Workload, port: int, host: str = "127.0.0.1", pid: int | None = None
    ) -> None:
        fault = workload.fault()
        if fault:
            raise BenchmarkError(fault)
        self.workload: Final = workload
        self._address: Final = (host, port)
        self._pid: Final = pid
        self._poller: Final = Poller()
        self._sockets: Final[list[socket.socket]] = []
        self._entries: Final[dict[int, _Entry]] = {}
        self._latencies: Final = Histogram()
        self._lateness: Final = Histogram()
        self._samples: Final[list[Sample]] = []
        self._connected = 0
        self._why = ""

    def prepare(self) -> None:
        """See that so many sockets can be had, and that a first client is let in."""
        machine.need_descriptors(self.workload.connections)

    def measure(
        self,
        limit_s: float = LIMIT_S,
        stall_s: float = STALL_S,
        on_sample: OnSample | None = None,
    ) -> Result:
        """Connect all; ends when all have an answer, or nothing has come for `stall_s`."""
        gc.collect()
        gc.disable()
        use = machine.Use(self._pid)
        start = time.perf_counter()
        try:
            end = self._drive(start, stall_s, on_sample)
        finally:
            gc.enable()
        use.end(max(end - start, 1e-9))
        if not self._connected:
            host, port = self._address
            why = self._why or "no CONNACK came"
            raise BenchmarkError(f"nobody could connect to {host}:{port}: {why}")
        result = blank(self.workload, self._latencies, self._samples, use, end - start)
        result["sent"] = result["expected"] = self.workload.connections
        result["delivered"] = self._connected
        result["missing"] = self.workload.connections - self._connected
        result["fault"] = self._why
        result["late_p99_ms"] = self._lateness.percentiles_ms([0.99])[0]
        return completed(result)

    def close(self) -> None:
        """Close every socket, with a DISCONNECT."""
        for sock in self._sockets:
            try:
                sock.send(packets.DISCONNECT)
            except OSError:
                pass  # the broker has closed it already
            sock.close()
        self._poller.close()

    def _drive(self, start: float, stall_s: float, on_sample: OnSample | None) -> float:
        workload, clock, poll = self.workload, time.perf_counter, self._poller.poll
        interval_s = 1 / workload.rate_per_s if workload.rate_per_s else 0.0
        begun = 0
        moved = now = start
        sample_at = start + SAMPLE_S
        while begun < workload.connections or self._entries:
            while begun < workload.connections:
                now = clock()
                due = start + begun * interval_s if interval_s else now
                if due > now or (not interval_s and len(self._entries) >= workload.window):
                    break
                self._begin(begun, due, now)
                begun += 1
                if interval_s and begun % workload.window == 0:
                    break  # answers are read in between
            is_due_later = interval_s and begun < workload.connections
            until = start + begun * interval_s - clock() if is_due_later else _LONGEST_WAIT_S
            self._poller.wait(max(0.0, min(until, _LONGEST_WAIT_S)))
            for fd, events in poll(0):
                now = clock()
                if self._answered(self._entries[fd], events, now):
                    moved = now
                    self._poller.unregister(fd)
                    del self._entries[fd]
            now = clock()
            if begun == workload.connections and now - moved > stall_s:
                break
            if now >= sample_at:
                sample_at = now + SAMPLE_S
                self._sample(now - start, begun, on_sample)
        self._sample(moved - start, begun, on_sample)
        return moved

    def _begin(self, index: int, due: float, now: float) -> None:
        """Start one connection without waiting for anything."""
        workload = self.workload
        if workload.rate_per_s:
            self._lateness.record(now - due)
        try:
            sock = new_socket(self._address[0], index)
        except OSError as error:
            self._fail(str(error))
            return
        self._sockets.append(sock)
        sock.setblocking(False)
        code = sock.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            self._fail(errno.errorcode.get(code, str(code)))
            return
        connect = packets.connect(
            f"{workload.prefix}-{index}", keep_alive_s=300, level=workload.level
        )
        entry = _Entry(sock, connect, due)
        self._entries[sock.fileno()] = entry
        if code == 0:
            self._poller.register(sock.fileno(), READABLE)
            self._introduce(entry)
        else:
            self._poller.register(sock.fileno(), WRITABLE)

    def _introduce(self, entry: _Entry) -> None:
        """Send CONNECT: a new connection has room for it."""
        entry.is_dialled = True
        try:
            entry.sock.send(entry.connect)
        except OSError as error:
            self._why = str(error)  # the poller tells that it is broken

    def _answered(self, entry: _Entry, events: int, now: float) -> bool:
        """Go on with a connection; whether it has come to an end, good or bad."""
        if not entry.is_dialled:
            code = entry.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                return self._fail(errno.errorcode.get(code, str(code)))
            self._poller.modify(entry.sock.fileno(), READABLE)
            self._introduce(entry)
            return False
        if not events & (READABLE | BROKEN):
            return False
        try:
            connack = entry.sock.recv(_CONNACK_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._fail(str(error))
        if not connack:
            return self._fail("the broker closed the connection")
        if connack != b"\x20\x02\x00\x00":
            refusal = refusal_of(connack, self.workload.level)
            if refusal:
                return self._fail(refusal)
        self._connected += 1
        self._latencies.record(now - entry.due)
        return True

    def _fail(self, why: str) -> bool:
        self._why = why
        return True

    def _sample(self, at_s: float, begun: int, on_sample: OnSample | None) -> None:
        sample = Sample(round(at_s, 4), begun, self._connected)
        if self._samples and sample.at_s <= self._samples[-1].at_s:
            self._samples.pop()
        self._samples.append(sample)
        if on_sample is not None:
            on_sample(sample)
