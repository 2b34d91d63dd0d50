"""A subscriber that never reads, while a publisher floods the topic it has asked for.

The broker's memory must stay flat, what it drops must be counted, and neither a second subscriber
of the same topic nor an unrelated pair may notice.
"""

from __future__ import annotations

from adapters.bench import packets
from adapters.bench.sockets import Poller, connect, subscribe
from benchmarks.brokers import Broker
from benchmarks.scenarios._flood import DROPPED, Flood, Readers, flood, sys_value
from benchmarks.watch import Watch

_TOPIC = "flood/slow/reader"
_PAYLOAD = b"x" * 200


def run(broker: Broker, pid: int, seconds: float, core: int | None) -> dict[str, object]:
    """Flood for so long beside a reader that does not read."""
    packet = packets.publish(_TOPIC, _PAYLOAD)
    dropped_before = sys_value(broker.port, DROPPED) or 0
    stuck = connect("127.0.0.1", broker.port, "bench-stuck")
    subscribe(stuck, [_TOPIC], 0)
    healthy = connect("127.0.0.1", broker.port, "bench-healthy")
    subscribe(healthy, [_TOPIC], 0)
    publisher = Flood(connect("127.0.0.1", broker.port, "bench-flood"), packet)
    poller = Poller()
    readers = Readers(poller, [healthy])
    with Watch(broker.port, pid, core) as watch:
        taken = flood(publisher, poller, readers, seconds)
        sight = watch.end()
    received = readers.received_bytes // len(packet)
    dropped = sys_value(broker.port, DROPPED)
    for sock in (stuck, healthy, publisher.sock):
        sock.close()
    poller.close()
    return {
        "published": publisher.sent,
        "published_per_s": round(publisher.sent / taken),
        "other_reader_received": received,
        "other_reader_missed": publisher.sent - received,
        "dropped_by_sys": None if dropped is None else dropped - dropped_before,
        **sight,
    }
