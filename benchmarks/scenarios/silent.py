"""Connections that never say anything, one after the other, beside an unrelated pair.

They are left open until the broker closes them, or until this process has no descriptor left:
then the oldest makes room, as the network would in the end.
"""

from __future__ import annotations

import socket
import time
from collections import deque

from adapters.bench import machine
from adapters.bench.sockets import READABLE, BenchmarkError, Poller, dial
from benchmarks.brokers import Broker
from benchmarks.watch import Watch

DEFAULT_COUNT = 100_000
_SPARE_DESCRIPTORS = 64
_REFUSAL_PAUSE_S = 0.01


def run(broker: Broker, pid: int, count: int, core: int | None) -> dict[str, object]:
    """Open `count` connections, without a word on any of them."""
    room = machine.raise_descriptor_limit(count + _SPARE_DESCRIPTORS) - _SPARE_DESCRIPTORS
    poller = Poller()
    opened: dict[int, socket.socket] = {}
    oldest: deque[socket.socket] = deque()
    closed_by_broker = given_up = refused = most = 0
    start = time.perf_counter()
    with Watch(broker.port, pid, core) as watch:
        for index in range(count):
            try:
                sock = dial("127.0.0.1", broker.port, index % 60_000)
            except BenchmarkError:
                refused += 1
                time.sleep(_REFUSAL_PAUSE_S)
                continue
            poller.register(sock.fileno(), READABLE)
            opened[sock.fileno()] = sock
            oldest.append(sock)
            most = max(most, len(opened))
            if index % 64 == 0 or len(opened) >= room:
                for fd, _ in poller.poll(0):
                    opened.pop(fd).close()
                    closed_by_broker += 1
            while len(opened) >= room:
                sock = oldest.popleft()
                if sock.fileno() >= 0:
                    opened.pop(sock.fileno()).close()
                    given_up += 1
        seconds = time.perf_counter() - start
        sight = watch.end()
    for sock in opened.values():
        sock.close()
    poller.close()
    return {
        "connections": count,
        "per_s": round(count / seconds),
        "most_at_once": most,
        "closed_by_broker": closed_by_broker,
        "closed_by_us": given_up,
        "refused": refused,
        **sight,
    }
