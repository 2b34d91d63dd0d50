"""Resident memory of idle connections, each with one subscription of its own."""

from __future__ import annotations

import socket
import time

from adapters.bench import machine
from adapters.bench.sockets import connect, subscribe
from benchmarks.brokers import Broker

DEFAULT_COUNT = 10_000

# A broker may still work on what the last clients asked for.
SETTLE_S = 2.0


def run(broker: Broker, pid: int, count: int) -> dict[str, float]:
    """Connect `count` clients, one filter each, and see what the process has grown by."""
    warm = [connect("127.0.0.1", broker.port, f"bench-warm-{index}") for index in range(50)]
    for sock in warm:
        sock.close()
    time.sleep(SETTLE_S)
    before = machine.rss_bytes(pid)
    cpu_before = machine.cpu_s(pid)
    start = time.perf_counter()
    socks: list[socket.socket] = []
    try:
        for index in range(count):
            sock = connect("127.0.0.1", broker.port, f"bench-idle-{index:06}", index)
            socks.append(sock)
            subscribe(sock, [f"bench/idle/{index}"], 0)
        connected_s = time.perf_counter() - start
        cpu_s = machine.cpu_s(pid) - cpu_before
        time.sleep(SETTLE_S)
        after = machine.rss_bytes(pid)
    finally:
        for sock in socks:
            sock.close()
    time.sleep(SETTLE_S)
    return {
        "connections": count,
        "bytes_per_connection": round((after - before) / count),
        "rss_before_mb": round(before / 1e6, 2),
        "rss_connected_mb": round(after / 1e6, 2),
        "rss_closed_mb": round(machine.rss_bytes(pid) / 1e6, 2),
        "connect_and_subscribe_us": round(connected_s / count * 1e6, 1),
        "broker_cpu_us": round(cpu_s / count * 1e6, 1),
    }
