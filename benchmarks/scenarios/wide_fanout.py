"""One publisher at full speed to thousands of subscribers, beside an unrelated pair."""

from __future__ import annotations

from adapters.bench import packets
from adapters.bench.sockets import Poller, connect, subscribe
from benchmarks.brokers import Broker
from benchmarks.scenarios._flood import DROPPED, Flood, Readers, flood, sys_value
from benchmarks.watch import Watch

DEFAULT_COUNT = 5_000
_TOPIC = "wide/fan/out"
_PAYLOAD = b"x" * 16


def run(
    broker: Broker, pid: int, count: int, seconds: float, core: int | None
) -> dict[str, object]:
    """Publish for so long to `count` subscribers that all read."""
    packet = packets.publish(_TOPIC, _PAYLOAD)
    dropped_before = sys_value(broker.port, DROPPED) or 0
    socks = [
        connect("127.0.0.1", broker.port, f"bench-wide-{index}", index) for index in range(count)
    ]
    for sock in socks:
        subscribe(sock, [_TOPIC], 0)
    publisher = Flood(connect("127.0.0.1", broker.port, "bench-flood"), packet)
    poller = Poller()
    readers = Readers(poller, socks)
    with Watch(broker.port, pid, core) as watch:
        taken = flood(publisher, poller, readers, seconds, drain_s=0.0)
        sight = watch.end()
    for sock in (*socks, publisher.sock):
        sock.close()
    poller.close()
    dropped = sys_value(broker.port, DROPPED)
    received = readers.received_bytes // len(packet)
    return {
        "subscribers": count,
        "published": publisher.sent,
        "delivered": received,
        "delivered_per_s": round(received / taken),
        "dropped_by_sys": None if dropped is None else dropped - dropped_before,
        **sight,
    }
