"""An onlooker: the round trip of an unrelated pair of clients, and a broker's memory, over time.

    python -m benchmarks.watch --port 1883 --pid PID        # until its standard input ends

The publisher keeps its pace whether or not earlier messages have come back, so that a broker that
stands still for a second is seen by every message of that second.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time
from typing import Final, TypedDict

from adapters.bench import machine, packets
from adapters.bench.series import RECV_BYTES
from adapters.bench.sockets import BenchmarkError, connect, subscribe
from benchmarks.brokers import own_environment

PACE_S: Final = 0.005
SAMPLE_S: Final = 0.1
LAST_WAIT_S: Final = 10.0

_NICENESS: Final = 10
_TOPIC: Final = "watch/unrelated/pair"
_STAMP_BYTES: Final = 8


class Sight(TypedDict):
    """What was seen. Memory is resident, in MB of 10^6 bytes; null when no process was given."""

    round_trips: int
    lost: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    rss_first_mb: float | None
    rss_peak_mb: float | None
    rss_last_mb: float | None
    rss_mb: list[float]


class Watch:
    """An onlooker in a process of its own: `with Watch(port, pid) as watch: ...; watch.end()`."""

    def __init__(self, port: int, pid: int | None, core: int | None = None) -> None:
        command = [sys.executable, "-m", "benchmarks.watch", "--port", str(port)]
        if pid is not None:
            command += ["--pid", str(pid)]
        with machine.pinned(core):
            self._process: Final = subprocess.Popen(
                command,
                env=own_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        if self._process.stdout is None or self._process.stdout.readline() != "watching\n":
            self._process.kill()
            self._process.communicate()
            raise BenchmarkError("the onlooker could not start; its message stands above")
        _step_back()

    def end(self) -> Sight:
        """Stop watching; what was seen."""
        output, _ = self._process.communicate(timeout=LAST_WAIT_S + 20)
        sight: Sight = json.loads(output)
        return sight

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


def _step_back() -> None:
    """Lower this process's priority, once: it shares a core with the onlooker it has started."""
    if os.nice(0) < _NICENESS:
        os.nice(_NICENESS)


def watch(port: int, pid: int | None) -> Sight:
    """Watch until standard input ends."""
    reader = connect("127.0.0.1", port, "bench-watch-reader")
    subscribe(reader, [_TOPIC], 0)
    writer = connect("127.0.0.1", port, "bench-watch-writer")
    reader.setblocking(False)
    print("watching", flush=True)
    frame_bytes = len(packets.publish(_TOPIC, bytes(_STAMP_BYTES)))
    trips: list[float] = []
    rss: list[float] = []
    sent = 0
    held = b""
    ending = 0.0
    start = due = sample_at = time.perf_counter()
    while not ending or (time.perf_counter() < ending and len(trips) < sent):
        now = time.perf_counter()
        while not ending and due <= now:
            stamp = time.perf_counter_ns().to_bytes(_STAMP_BYTES, "big")
            writer.sendall(packets.publish(_TOPIC, stamp))
            sent += 1
            due += PACE_S
        if pid is not None and now >= sample_at:
            rss.append(machine.rss_bytes(pid) / 1e6)
            sample_at = now + SAMPLE_S
        wait_s = max(0.0, due - time.perf_counter()) if not ending else SAMPLE_S
        inputs = [reader] if ending else [reader, sys.stdin]
        ready, _, _ = select.select(inputs, [], [], wait_s)
        if reader in ready:
            chunk = reader.recv(RECV_BYTES)
            if not chunk:
                raise BenchmarkError("the broker closed the unrelated pair's connection")
            arrived = time.perf_counter_ns()
            held += chunk
            while len(held) >= frame_bytes:
                stamp = held[frame_bytes - _STAMP_BYTES : frame_bytes]
                trips.append((arrived - int.from_bytes(stamp, "big")) / 1e6)
                held = held[frame_bytes:]
        if sys.stdin in ready:
            ending = time.perf_counter() + LAST_WAIT_S
    return _sight(trips, sent, rss, time.perf_counter() - start)


def _sight(trips: list[float], sent: int, rss: list[float], seconds: float) -> Sight:
    trips.sort()
    every = max(1, round(len(rss) / max(1.0, min(seconds, 60.0))))
    return {
        "round_trips": len(trips),
        "lost": sent - len(trips),
        "p50_ms": _share(trips, 0.5),
        "p99_ms": _share(trips, 0.99),
        "max_ms": _share(trips, 1.0),
        "rss_first_mb": round(rss[0], 2) if rss else None,
        "rss_peak_mb": round(max(rss), 2) if rss else None,
        "rss_last_mb": round(rss[-1], 2) if rss else None,
        "rss_mb": [round(value, 2) for value in rss[::every]],
    }


def _share(ordered: list[float], share: float) -> float:
    if not ordered:
        return 0.0
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--pid", type=int, help="the broker's process, for its memory")
    args = parser.parse_args(argv)
    try:
        print(json.dumps(watch(args.port, args.pid)))
    except BenchmarkError as error:
        print(f"watch: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
