"""A closed-loop MQTT load generator in plain Python, for any broker.

    python -m benchmarks.loadgen --port 1883 q0-pair
    python -m benchmarks.loadgen --port 1883 --mqtt 5 q0-pair
    python -m benchmarks.loadgen --port 1883 --mode fanout --subscribers 20 --qos 1 --messages 5000

One thread, one poller. A publisher has at most a window of messages under way, so a broker cannot
win by buffering or dropping, and everything that arrives is compared with what was sent. The rate
counts deliveries; latency runs from the moment a message is given to the socket to the moment it
is read.

The exit status is 0 when all arrived, 1 when something was lost or came twice, 2 when it could
not run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import sys
import time
from typing import Final, TypedDict

from benchmarks import _answers, _process
from benchmarks._clients import Client, Progress, Publisher, Subscriber
from benchmarks._series import filter_of
from benchmarks._sockets import (
    BROKEN,
    READABLE,
    WRITABLE,
    BenchmarkError,
    Poller,
    enter,
    subscribe,
)
from benchmarks.workloads import LEVELS, MODES, WORKLOADS, Workload, version_name

# A process that uses more than this share of a core is what bounds the rate. When both do, it is
# the broker: the generator works on smaller pieces the more time it has.
SATURATED_SHARE: Final = 0.9

# A paced load looks at the clock so often.
_TICK_S: Final = 0.001


class Result(TypedDict):
    """What one run showed. Rates are per second; `*_cpu_us` per delivery, null when unknown."""

    workload: str
    mqtt: str
    mode: str
    publishers: int
    subscribers: int
    qos: int
    window: int
    size_bytes: int
    sent: int
    delivered: int
    expected: int
    acked: int
    missing: int
    surplus: int
    in_order: bool
    complete: bool
    seconds: float
    in_per_s: float
    out_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    connect_s: float
    generator_cpu: float
    generator_saturated: bool
    broker_cpu: float | None
    broker_cpu_us: float | None


class Load:
    """One workload on one broker: `prepare()`, then `measure()`, then `close()`."""

    def __init__(
        self, workload: Workload, port: int, host: str = "127.0.0.1", pid: int | None = None
    ) -> None:
        fault = workload.fault()
        if fault:
            raise BenchmarkError(fault)
        self.workload = workload  # with the window that the broker allows, once it has said so
        self._host: Final = host
        self._port: Final = port
        self._pid: Final = pid
        self._poller: Final = Poller()
        self._sockets: Final[list[socket.socket]] = []
        self._clients: Final[dict[int, Client]] = {}
        self._publishers: Final[list[Publisher]] = []
        self._subscribers: Final[list[Subscriber]] = []
        self._progress: Final = Progress()
        self._connect_s = 0.0

    def prepare(self) -> None:
        """Connect and subscribe every client, and encode what will be sent."""
        workload = self.workload
        _process.raise_descriptor_limit(workload.publishers + workload.subscribers + 64)
        start = time.perf_counter()
        for index in range(workload.subscribers):
            sock = self._enter(f"bench-sub-{index}", index)
            subscribe(sock, [filter_of(workload, index)], workload.qos, level=workload.level)
            subscriber = Subscriber(sock, self._poller, self._progress, workload, index)
            self._subscribers.append(subscriber)
            self._clients[sock.fileno()] = subscriber
        for index in range(workload.publishers):
            place = workload.subscribers + index
            sock = self._enter(f"bench-pub-{index}", place)
            publisher = Publisher(sock, self._poller, self._progress, self.workload, index)
            self._publishers.append(publisher)
            self._clients[sock.fileno()] = publisher
        self._connect_s = time.perf_counter() - start
        for place, subscriber in enumerate(self._subscribers):
            if workload.mode == "pair":
                subscriber.listen_to(self._publishers[place :: workload.subscribers])
            else:
                subscriber.listen_to(self._publishers)

    def _enter(self, client_id: str, index: int) -> socket.socket:
        """A connected client; what the broker takes unacknowledged bounds the window."""
        workload = self.workload
        sock, connack = enter(self._host, self._port, client_id, index, workload.level)
        self._sockets.append(sock)
        if workload.level == LEVELS["5"] and workload.qos:
            window = min(workload.window, _answers.receive_maximum(connack))
            self.workload = workload._replace(window=window)
        return sock

    def measure(self, limit_s: float = 15.0, stall_s: float = 5.0) -> Result:
        """Send everything and wait until it has come back, or nothing moves for `stall_s`."""
        gc.collect()
        gc.disable()
        broker_before = _process.cpu_s(self._pid) if self._pid else 0.0
        own_before = time.process_time()
        start = time.perf_counter()
        try:
            end = self._drive(start, limit_s, stall_s)
        finally:
            gc.enable()
        seconds = max(end - start, 1e-9)
        own = time.process_time() - own_before
        broker = _process.cpu_s(self._pid) - broker_before if self._pid else None
        return self._result(seconds, own / seconds, broker)

    def close(self) -> None:
        """Close every socket."""
        for sock in self._sockets:
            sock.close()
        self._poller.close()

    def _drive(self, start: float, limit_s: float, stall_s: float) -> float:
        """The loop; returns when the last byte moved."""
        workload, clients, progress = self.workload, self._clients, self._progress
        wanted = workload.deliveries
        wanted_acks = workload.publishers * workload.messages if workload.qos else 0
        touched, poll, clock = progress.touched, self._poller.poll, time.perf_counter
        to_read, to_write = READABLE | BROKEN, WRITABLE
        is_paced = workload.rate_per_s > 0
        idle_s = min(1.0, stall_s)
        touched.update(self._publishers)
        moved = now = start
        while progress.received < wanted or progress.acked < wanted_acks:
            if now - start > limit_s or now - moved > stall_s:
                break
            for publisher in self._publishers if is_paced else tuple(touched):
                now = clock()
                if not publisher.fill(now, now - start):
                    touched.discard(publisher)
            for fd, events in poll(_TICK_S if is_paced else 0 if touched else idle_s):
                client = clients[fd]
                now = moved = clock()
                if events & to_read:
                    client.on_readable(now)
                if events & to_write:
                    client.on_writable()
                    if isinstance(client, Publisher):
                        touched.add(client)
            now = clock()
        return moved

    def _result(self, seconds: float, own_share: float, broker_s: float | None) -> Result:
        workload = self.workload
        sent = sum(publisher.sent for publisher in self._publishers)
        delivered, acked = self._progress.received, self._progress.acked
        latencies = self._progress.latencies
        tallies = [src.tally for sub in self._subscribers for src in sub.sources.values()]
        answers = [tally for publisher in self._publishers for tally in publisher.answers]
        missing = sum(tally.missing(workload.messages) for tally in tallies)
        surplus = sum(tally.surplus(workload.messages) for tally in tallies)
        unacked = sum(tally.missing(workload.messages) for tally in answers)
        p50, p99, p999 = percentiles_ms(latencies, (0.5, 0.99, 0.999))
        return {
            "workload": workload.name,
            "mqtt": version_name(workload.level),
            "mode": workload.mode,
            "publishers": workload.publishers,
            "subscribers": workload.subscribers,
            "qos": workload.qos,
            "window": workload.window,
            "size_bytes": workload.size_bytes,
            "sent": sent,
            "delivered": delivered,
            "expected": workload.deliveries,
            "acked": acked,
            "missing": missing,
            "surplus": surplus,
            "in_order": all(tally.in_order for tally in tallies + answers),
            "complete": not missing and not surplus and not unacked,
            "seconds": round(seconds, 4),
            "in_per_s": round(sent / seconds),
            "out_per_s": round(delivered / seconds),
            "p50_ms": p50,
            "p99_ms": p99,
            "p999_ms": p999,
            "max_ms": max(latencies, default=0) / 100,
            "connect_s": round(self._connect_s, 3),
            "generator_cpu": round(own_share, 3),
            "generator_saturated": own_share >= SATURATED_SHARE > (broker_s or 0.0) / seconds,
            "broker_cpu": None if broker_s is None else round(broker_s / seconds, 3),
            "broker_cpu_us": round(broker_s * 1e6 / delivered, 3)
            if broker_s is not None and delivered
            else None,
        }


def percentiles_ms(latencies: dict[int, int], shares: tuple[float, ...]) -> list[float]:
    """The latencies below which these shares of all lie, from buckets of 10 us."""
    buckets = sorted(latencies.items())
    total = sum(latencies.values())
    found = []
    for share in shares:
        passed = 0
        value = 0.0
        for bucket, count in buckets:
            passed += count
            value = (bucket + 1) / 100
            if passed > share * total:
                break
        found.append(value)
    return found


def run(
    workload: Workload,
    port: int,
    host: str = "127.0.0.1",
    pid: int | None = None,
    limit_s: float = 15.0,
    stall_s: float = 5.0,
) -> Result:
    """Run one workload from connecting to closing."""
    load = Load(workload, port, host, pid)
    try:
        load.prepare()
        return load.measure(limit_s, stall_s)
    finally:
        load.close()


def told(result: Result) -> str:
    """A result for people."""
    lines = [
        f"{result['workload']}, MQTT {result['mqtt']}: {result['out_per_s']:,} deliveries/s"
        f" ({result['delivered']:,} of {result['expected']:,} in {result['seconds']:.3f} s),"
        f" p50 {result['p50_ms']:.2f} ms, p99 {result['p99_ms']:.2f} ms,"
        f" max {result['max_ms']:.2f} ms"
    ]
    if result["broker_cpu_us"] is not None:
        lines.append(
            f"  broker: {result['broker_cpu_us']:.2f} us of CPU per delivery,"
            f" {result['broker_cpu']:.0%} of a core"
        )
    lines.append(f"  generator: {result['generator_cpu']:.0%} of a core")
    if result["generator_saturated"]:
        lines.append("  the generator was at its own limit: the broker may be faster than this")
    if not result["in_order"]:
        lines.append("  not in the order in which it was sent")
    if not result["complete"]:
        unacked = result["sent"] - result["acked"] if result["qos"] else 0
        lines.append(
            f"  NOT COMPLETE: {result['missing']} missing, {result['surplus']} more than once,"
            f" {unacked} not acknowledged"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loadgen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workload", nargs="?", help="a standard workload; without one, the options")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--pid", type=int, help="the broker's process, for its CPU time")
    parser.add_argument("--core", type=int, help="the core this generator runs on")
    parser.add_argument("--limit-secs", type=float, default=15.0, help="end a run after so long")
    parser.add_argument("--stall-secs", type=float, default=5.0, help="end it when nothing moves")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    parser.add_argument(
        "--mqtt", choices=list(LEVELS), default="3.1.1", help="version of MQTT, 3.1.1 unless given"
    )
    shape = parser.add_argument_group("shape (each overrides the standard workload)")
    shape.add_argument("--mode", choices=MODES)
    shape.add_argument("--publishers", type=int)
    shape.add_argument("--subscribers", type=int)
    shape.add_argument("--qos", type=int, choices=(0, 1, 2))
    shape.add_argument("--messages", type=int, help="per publisher")
    shape.add_argument("--window", type=int, help="messages under way per publisher")
    shape.add_argument("--size", type=int, dest="size_bytes", help="payload bytes")
    shape.add_argument("--rate", type=float, dest="rate_per_s", help="messages a second in all")
    return parser


def _workload(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Workload:
    shape = Workload("custom", "pair", 1, 1, 0, 100_000, 1_000)
    if args.workload is not None:
        if args.workload not in WORKLOADS:
            parser.error(f"no workload {args.workload!r}; there are {', '.join(WORKLOADS)}")
        shape = WORKLOADS[args.workload]
    given = {field: getattr(args, field, None) for field in Workload._fields}
    given.pop("name")
    given["level"] = LEVELS[args.mqtt]
    shape = shape._replace(**{field: value for field, value in given.items() if value is not None})
    fault = shape.fault()
    if fault:
        parser.error(fault)
    return shape


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = _parser()
    args = parser.parse_args(argv)
    workload = _workload(parser, args)
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    try:
        result = run(workload, args.port, args.host, args.pid, args.limit_secs, args.stall_secs)
    except BenchmarkError as error:
        print(f"loadgen: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result) if args.json else told(result))
    return 0 if result["complete"] else 1


if __name__ == "__main__":
    sys.exit(main())
