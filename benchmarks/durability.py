"""What it costs that nothing acknowledged is lost: QoS 1 to sessions that outlive connections.

    python -m benchmarks.durability --start iotd-durable mosquitto mosquitto-nodelay --runs 5

pairs   50 publishers, each to one persistent session that is online: deliveries a second
away    50 publishers, each into the queue of a session whose client is away: PUBACKs a second
paced   50 publishers with 5,000 messages a second together: how long a PUBACK takes

A durable broker keeps its store in the folder for temporary files: let TMPDIR name one on a disk.
Of the others nothing is on a disk, and they are what durability is compared with.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import sys
import time
from collections import deque
from typing import Final, final

from adapters.bench import machine, packets
from adapters.bench.sockets import BenchmarkError, enter, subscribe
from benchmarks import brokers

PAIRS: Final = 50
WINDOW: Final = 20
PAYLOAD: Final = b"x" * 16
MEASURES: Final = ("pairs", "away", "paced")
_MESSAGES: Final = {"pairs": 3_000, "away": 2_000, "paced": 500}  # of each publisher
_RATE_PER_S: Final = 5_000
_LIMIT_S: Final = 60.0
_TICK_S: Final = 0.0005
_CYCLE: Final = 60_000  # packet identifiers


@final
class Publisher:
    """Keeps a window of messages open, or its pace, and times the acknowledgements."""

    def __init__(self, sock: socket.socket, topic: str, messages: int, rate_per_s: float) -> None:
        self.sock: Final = sock
        self.sent = 0
        self.acked = 0
        self.times: Final[list[float]] = []
        self._messages: Final = messages
        self._rate_per_s: Final = rate_per_s
        self._head, self._tail = _cut(packets.publish(topic, PAYLOAD, qos=1, packet_id=0x7E7E))
        self._sent_at: Final[deque[float]] = deque()
        self._partial = 0

    def fill(self, now: float, start: float) -> None:
        """Send what may leave now."""
        most = self._messages
        if self._rate_per_s:
            most = min(most, int((now - start) * self._rate_per_s))
        else:
            most = min(most, self.acked + WINDOW)
        if most > self.sent:
            ids = range(self.sent, most)
            head, tail = self._head, self._tail
            self.sock.sendall(b"".join([head + _identifier(n) + tail for n in ids]))
            self._sent_at.extend([now] * (most - self.sent))
            self.sent = most

    def read(self) -> None:
        """Count PUBACKs, four bytes each."""
        data = self.sock.recv(65_536)
        if not data:
            raise BenchmarkError("the broker closed a connection; see its log")
        count, self._partial = divmod(self._partial + len(data), 4)
        self.acked += count
        now = time.perf_counter()
        self.times.extend([now - self._sent_at.popleft() for _ in range(count)])


@final
class Subscriber:
    """Acknowledges what comes, and counts it."""

    def __init__(self, sock: socket.socket, topic: str) -> None:
        self.sock: Final = sock
        self.received = 0
        head, tail = _cut(packets.publish(topic, PAYLOAD, qos=1, packet_id=0x7E7E))
        self._id_at: Final = len(head)
        self._length: Final = len(head) + 2 + len(tail)
        self._rest = b""

    def read(self) -> None:
        """Take whole messages."""
        data = self._rest + self.sock.recv(65_536)
        length, at = self._length, self._id_at
        count = len(data) // length
        starts = range(at, count * length, length)
        self.sock.sendall(b"".join([b"\x40\x02" + data[start : start + 2] for start in starts]))
        self._rest = data[count * length :]
        self.received += count


def _cut(packet: bytes) -> tuple[bytes, bytes]:
    head, _, tail = packet.partition(b"\x7e\x7e")
    return head, tail


def _identifier(number: int) -> bytes:
    return (number % _CYCLE + 1).to_bytes(2, "big")


def measure(name: str, broker: brokers.Broker, scale: float = 1.0) -> dict[str, float]:
    """One measure of a broker: rates a second, times of PUBACKs in milliseconds, and the broker's
    CPU for each message in microseconds, where its process is known."""
    port = broker.port
    messages = max(1, round(_MESSAGES[name] * scale))
    rate = _RATE_PER_S / PAIRS if name == "paced" else 0.0
    sockets: list[socket.socket] = []
    publishers: list[Publisher] = []
    subscribers: list[Subscriber] = []
    try:
        for index in range(PAIRS):
            topic = f"durable/{index:02}"
            sock, _ = enter("127.0.0.1", port, f"keeper-{name}-{index}", index, 4, clean=False)
            sockets.append(sock)
            subscribe(sock, [topic], 1)
            if name == "away":
                sock.close()
            else:
                subscribers.append(Subscriber(sock, topic))
            sock, _ = enter("127.0.0.1", port, f"writer-{name}-{index}", index, 4)
            sockets.append(sock)
            publishers.append(Publisher(sock, topic, messages, rate))
        cpu_s = 0.0 if broker.pid is None else machine.cpu_s(broker.pid)
        seconds = _drive(publishers, subscribers, messages)
        if broker.pid is not None:
            cpu_s = machine.cpu_s(broker.pid) - cpu_s
    finally:
        for sock in sockets:
            sock.close()
        _forget(name, port)
    times = sorted(each for publisher in publishers for each in publisher.times)
    return {
        "per_s": len(times) / seconds,
        "cpu_us": 1e6 * cpu_s / len(times),
        "p50_ms": 1e3 * times[len(times) // 2],
        "p99_ms": 1e3 * times[len(times) * 99 // 100],
    }


def _drive(publishers: list[Publisher], subscribers: list[Subscriber], messages: int) -> float:
    wanted = messages * len(publishers)
    with selectors.DefaultSelector() as selector:
        for publisher in publishers:
            selector.register(publisher.sock, selectors.EVENT_READ, publisher)
        for subscriber in subscribers:
            selector.register(subscriber.sock, selectors.EVENT_READ, subscriber)
        start = now = time.perf_counter()
        while True:
            for publisher in publishers:
                publisher.fill(now, start)
            for key, _ in selector.select(_TICK_S):
                key.data.read()
            now = time.perf_counter()
            acked = sum(publisher.acked for publisher in publishers)
            arrived = sum(subscriber.received for subscriber in subscribers)
            if acked >= wanted and (arrived >= wanted or not subscribers):
                return now - start
            if now - start > _LIMIT_S:
                raise BenchmarkError(f"only {acked:,} of {wanted:,} were acknowledged")


def _forget(name: str, port: int) -> None:
    """End the sessions, with what waits for them."""
    for index in range(PAIRS):
        sock, _ = enter("127.0.0.1", port, f"keeper-{name}-{index}", index, 4)
        sock.close()


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.durability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--start", nargs="+", choices=brokers.NAMES, default=["iotd-durable"])
    parser.add_argument("--python", default=sys.executable, help="the Python that has iotd")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many messages")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    args = parser.parse_args(argv)
    cores = machine.cores()
    table: dict[str, dict[str, dict[str, float]]] = {}
    try:
        with (
            brokers.started(args.start, cores[0] if cores else None, args.python) as started,
            machine.pinned(cores[1] if cores else None),
        ):
            for name in args.only:
                runs = [
                    [measure(name, broker, args.scale) for broker in started]
                    for _ in range(args.runs)
                ]
                table[name] = {
                    broker.name: {
                        key: statistics.median(run[at][key] for run in runs) for key in runs[0][at]
                    }
                    for at, broker in enumerate(started)
                }
                if not args.json:
                    _tell(name, table[name])
    except BenchmarkError as error:
        print(f"durability: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(table))
    return 0


def _tell(name: str, row: dict[str, dict[str, float]]) -> None:
    for broker, found in row.items():
        times = f"PUBACK p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms"
        cpu = f"{found['cpu_us']:>6.2f} us of CPU"
        print(f"{name:<6} {broker:<20} {found['per_s']:>10,.0f}/s  {cpu}  {times}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
