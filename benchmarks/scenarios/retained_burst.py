"""`#` arrives at a great many retained messages, beside an unrelated pair."""

from __future__ import annotations

import socket
import time

from adapters.bench import packets
from adapters.bench.series import RECV_BYTES
from adapters.bench.sockets import BenchmarkError, connect, subscribe
from benchmarks.brokers import Broker
from benchmarks.watch import Watch

DEFAULT_COUNT = 200_000
_PAYLOAD = b"x" * 32
_WINDOW = 1_000
_STALL_S = 10.0


def run(
    broker: Broker, pid: int, count: int, seconds: float, core: int | None
) -> dict[str, object]:
    """Store `count` retained messages, then let clients ask for all of them in turn."""
    frame_bytes = len(packets.publish(_topic(0), _PAYLOAD))
    stored_s = _store(broker.port, count)
    took: list[float] = []
    received = 0
    with Watch(broker.port, pid, core) as watch:
        end = time.perf_counter() + seconds
        while not took or time.perf_counter() < end:
            sock = connect("127.0.0.1", broker.port, f"bench-retained-{len(took)}")
            start = time.perf_counter()
            subscribe(sock, ["bench/retained/#"], 0)
            received += _read(sock, count * frame_bytes) // frame_bytes
            took.append(time.perf_counter() - start)
            sock.close()
        sight = watch.end()
    return {
        "retained": count,
        "stored_per_s": round(count / stored_s),
        "subscribers_in_turn": len(took),
        "received": received,
        "missed": len(took) * count - received,
        "seconds_each": round(sum(took) / len(took), 3),
        **sight,
    }


def _topic(index: int) -> str:
    return f"bench/retained/{index:07}/state"


def _store(port: int, count: int) -> float:
    """Publish the retained messages at QoS 1, a window at a time; how long it took."""
    sock = connect("127.0.0.1", port, "bench-retainer")
    start = time.perf_counter()
    for first in range(0, count, _WINDOW):
        several = range(first, min(first + _WINDOW, count))
        sock.sendall(
            b"".join(
                packets.publish(
                    _topic(index), _PAYLOAD, qos=1, packet_id=index - first + 1, retain=True
                )
                for index in several
            )
        )
        if _read(sock, 4 * len(several)) != 4 * len(several):
            raise BenchmarkError("not every retained message was acknowledged")
    sock.close()
    return time.perf_counter() - start


def _read(sock: socket.socket, wanted: int) -> int:
    """Read so many bytes, or until nothing comes any more; how many came."""
    sock.settimeout(_STALL_S)
    received = 0
    while received < wanted:
        try:
            chunk = sock.recv(RECV_BYTES)
        except TimeoutError:
            break
        if not chunk:
            raise BenchmarkError("the broker closed the connection")
        received += len(chunk)
    return received
