"""One load on one broker: messages in a closed loop or an open one.

One thread, one poller. In a closed loop a publisher has at most a window of messages under way, so
a broker cannot win by buffering or dropping, and latency runs from the moment a message is given
to the socket. In an open loop every message has a moment at which it is due, whatever the broker
does, and latency runs from that: a broker that stands still for a second is seen by all messages of
that second, sent or not, so nothing is left out ("coordinated omission"). Everything that arrives
is compared with what was sent.
"""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Callable
from typing import Final

from adapters.bench import machine, sockets
from adapters.bench.clients import Client
from adapters.bench.publishing import Progress, Publisher
from adapters.bench.receiving import Source, Subscriber
from adapters.bench.results import Result, Sample, result_of
from adapters.bench.series import cycle_for, filters_of
from adapters.bench.sockets import (
    BROKEN,
    READABLE,
    WRITABLE,
    BenchmarkError,
    Poller,
    enter,
    subscribe,
)
from adapters.bench.workloads import LEVELS, Workload

SAMPLE_S: Final = 0.25
"""Progress is told so often, and the course of a run has so long steps."""

LIMIT_S: Final = 15.0
STALL_S: Final = 5.0

# Packets are encoded beforehand, for each publisher a cycle of them, twice.
MOST_BYTES: Final = 2_000_000_000

_LONGEST_WAIT_S: Final = 0.1

OnSample = Callable[[Sample], None]


class Load:
    """One workload on one broker: `prepare()`, then `measure()`, then `close()`.

    `pid` is the broker's process, if its use of CPU is to be known. Every method raises
    `BenchmarkError` where the load cannot go on.
    """

    def __init__(
        self, workload: Workload, port: int, host: str = "127.0.0.1", pid: int | None = None
    ) -> None:
        fault = workload.fault() or _memory_fault(workload)
        if fault:
            raise BenchmarkError(fault)
        self.workload = workload  # with what the broker allows, once it has said so
        self._host: Final = host
        self._port: Final = port
        self._pid: Final = pid
        self._poller: Final = Poller()
        self._sockets: Final[list[socket.socket]] = []
        self._clients: Final[dict[int, Client]] = {}
        self._publishers: Final[list[Publisher]] = []
        self._subscribers: Final[list[Subscriber]] = []
        self._sources: Final[list[Source]] = []
        self._progress: Final = Progress()
        self._samples: Final[list[Sample]] = []
        self._on_sample: OnSample | None = None
        self._connect_s = 0.0

    def prepare(self) -> None:
        """Connect and subscribe every client, and encode what will be sent."""
        workload = self.workload
        machine.need_descriptors(workload.publishers + workload.subscribers)
        start = time.perf_counter()
        for index in range(workload.subscribers):
            sock = self._enter(f"{workload.prefix}-sub-{index}", index)
            subscribe(sock, filters_of(workload, index), workload.qos, level=workload.level)
            subscriber = Subscriber(sock, self._poller, workload, index)
            self._subscribers.append(subscriber)
            self._clients[sock.fileno()] = subscriber
        for index in range(workload.publishers):
            place = workload.subscribers + index
            sock = self._enter(f"{workload.prefix}-pub-{index}", place)
            publisher = Publisher(sock, self._poller, self._progress, self.workload, index)
            self._publishers.append(publisher)
            self._clients[sock.fileno()] = publisher
        self._connect_s = time.perf_counter() - start
        self._join()

    def _join(self) -> None:
        """Tell every subscriber whose messages must come to it."""
        is_shared = self.workload.mode == "shared"
        wanted: list[list[Source]] = [[] for _ in self._subscribers]
        for publisher in self._publishers:
            readers = self.workload.readers_of(publisher.index)
            if is_shared:
                sources = [Source(publisher, is_shared=True)] * len(readers)
            else:
                sources = [Source(publisher) for _ in readers]
            self._sources.extend(sources[:1] if is_shared else sources)
            for reader, source in zip(readers, sources, strict=True):
                wanted[reader].append(source)
        for subscriber, sources in zip(self._subscribers, wanted, strict=True):
            subscriber.listen_to(sources)

    def _enter(self, client_id: str, index: int) -> socket.socket:
        """A connected client; what the broker takes unacknowledged bounds the window."""
        workload = self.workload
        sock, connack = enter(self._host, self._port, client_id, index, workload.level)
        self._sockets.append(sock)
        if workload.level == LEVELS["5"] and workload.qos:
            most = min(workload.most_unacked, sockets.receive_maximum(connack))
            self.workload = workload._replace(most_unacked=most)
        return sock

    def measure(
        self,
        limit_s: float = LIMIT_S,
        stall_s: float = STALL_S,
        on_sample: OnSample | None = None,
    ) -> Result:
        """Send everything, or for as long as the workload says, and wait until it has come back.

        The wait ends when nothing has moved for `stall_s`. A workload of a number of messages ends
        after `limit_s` at the latest. One of some time has as long again to send what was due.
        """
        self._on_sample = on_sample
        gc.collect()
        gc.disable()
        use = machine.Use(self._pid)
        start = time.perf_counter()
        try:
            end = self._drive(start, limit_s, stall_s)
        finally:
            gc.enable()
        use.end(max(end - start, 1e-9))
        return result_of(
            self.workload,
            self._publishers,
            self._sources,
            self._progress,
            self._samples,
            use,
            self._connect_s,
        )

    def close(self) -> None:
        """Close every socket."""
        for sock in self._sockets:
            sock.close()
        self._poller.close()

    def _drive(self, start: float, limit_s: float, stall_s: float) -> float:
        """The loop; returns when the last byte moved."""
        workload, clients, progress = self.workload, self._clients, self._progress
        wanted, wanted_acks = self._planned()
        touched, poll, clock = progress.touched, self._poller.poll, time.perf_counter
        wait = self._poller.wait
        to_read, to_write = READABLE | BROKEN, WRITABLE
        schedule = _Schedule(self._publishers, start) if workload.rate_per_s > 0 else None
        stop_at = start + (limit_s if workload.messages else workload.seconds)
        give_up_at = stop_at + max(stall_s, workload.seconds)
        is_stopped = has_given_up = False
        idle_s = min(_LONGEST_WAIT_S, stall_s)
        sample_at = start + SAMPLE_S
        if schedule is None:
            touched.update(self._publishers)
        moved = now = start
        while progress.received < wanted or progress.acked < wanted_acks:
            if now >= stop_at and not is_stopped:
                if workload.messages:
                    break
                is_stopped = True
                for publisher in self._publishers:
                    publisher.stop(stop_at)
                wanted, wanted_acks = self._planned()
                moved = now
                schedule = None
                touched.update(self._publishers)
                continue
            if now >= give_up_at and not has_given_up:
                has_given_up = True
                for publisher in self._publishers:
                    publisher.give_up()
                wanted, wanted_acks = self._planned()
                continue
            if now - moved > stall_s and (is_stopped or workload.messages):
                break
            if schedule is not None and schedule.next_due <= now:
                schedule.send(now)
            for publisher in tuple(touched):
                now = clock()
                if not publisher.fill(now):
                    touched.discard(publisher)
            if touched:
                timeout_s = 0.0
            elif schedule is None:
                timeout_s = idle_s
            else:
                wait(max(0.0, min(schedule.next_due - clock(), idle_s)))
                timeout_s = 0.0
            for fd, events in poll(timeout_s):
                client = clients[fd]
                now = moved = clock()
                if events & to_read:
                    client.on_readable(now)
                if events & to_write:
                    client.on_writable()
                    if isinstance(client, Publisher):
                        touched.add(client)
            now = clock()
            if now >= sample_at:
                self._sample(now - start)
                sample_at = now + SAMPLE_S
        self._sample(moved - start)
        return moved

    def _planned(self) -> tuple[int, int]:
        """Deliveries and acknowledgements that end the run; without end while time decides."""
        deliveries = messages = 0
        for publisher in self._publishers:
            deliveries += publisher.planned * self.workload.copies(publisher.index)
            messages += publisher.planned
        return deliveries, messages if self.workload.qos else 0

    def _sample(self, at_s: float) -> None:
        sample = Sample(round(at_s, 4), self._progress.sent, self._progress.received)
        if self._samples and sample.at_s <= self._samples[-1].at_s:
            self._samples.pop()
        self._samples.append(sample)
        if self._on_sample is not None:
            self._on_sample(sample)


class _Schedule:
    """Whose turn it is in an open loop.

    The publishers send in turn; what one cannot send when it is due, since its window is full, it
    sends as soon as it can.
    """

    def __init__(self, publishers: list[Publisher], start: float) -> None:
        self._publishers: Final = publishers
        self._place = 0
        for publisher in publishers:
            publisher.start(start)
        self.next_due = publishers[0].due_at(0)
        self._round = 0

    def send(self, now: float) -> None:
        """Let all send whose turn has come; once each, since `fill` sends all that is due."""
        publishers = self._publishers
        for _ in range(len(publishers)):
            publisher = publishers[self._place]
            if publisher.due_at(self._round) > now:
                break
            if publisher.fill(now):
                publisher.progress.touched.add(publisher)
            self._place += 1
            if self._place == len(publishers):
                self._place = 0
                # After a pause all have several rounds to send, and do so at once.
                first = publishers[0]
                self._round = max(self._round + 1, int((now - first.due_at(0)) / first.interval_s))
        self.next_due = publishers[self._place].due_at(self._round)


def _memory_fault(workload: Workload) -> str:
    if workload.is_storm:
        return ""
    needed = 2 * workload.publishers * cycle_for(workload) * (workload.size_bytes + 40)
    if needed <= MOST_BYTES:
        return ""
    return (
        f"the packets of this load take {needed / 1e9:,.1f} GB of memory, and "
        f"{MOST_BYTES / 1e9:g} GB is the most; use fewer publishers, a smaller payload or window"
    )


def run(
    workload: Workload,
    port: int,
    host: str = "127.0.0.1",
    pid: int | None = None,
    limit_s: float = LIMIT_S,
    stall_s: float = STALL_S,
) -> Result:
    """Run one workload from connecting to closing."""
    load = Load(workload, port, host, pid)
    try:
        load.prepare()
        return load.measure(limit_s, stall_s)
    finally:
        load.close()
