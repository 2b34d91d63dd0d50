"""How long the garbage collector holds a broker up, with very many sessions.

    python -m benchmarks.gc_pause                           # compiled, 100,000 sessions

In this process, on the core alone, with the thresholds that the servers set: the longest pause
while the sessions connect and subscribe and while messages flow, and what a full collection
takes, which the servers leave to an hourly schedule.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from time import perf_counter
from typing import Final

from adapters.bench import packets
from adapters.bench.sockets import BenchmarkError
from adapters.transport._collector import Collector
from benchmarks import _core
from benchmarks._core import Core

ROUNDS: Final = 200
BURST: Final = 256


class Pauses:
    """Times every collection while it is installed."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.count = 0
        self._start = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Called by the collector when it starts and when it stops."""
        if phase == "start":
            self._start = perf_counter()
        else:
            self.longest_s = max(self.longest_s, perf_counter() - self._start)
            self.count += 1

    def taken(self) -> tuple[float, int]:
        """The longest pause in milliseconds and the number of collections, since last asked."""
        seen = (round(self.longest_s * 1e3, 3), self.count)
        self.longest_s, self.count = 0.0, 0
        return seen


def measure(sessions: int) -> dict[str, float]:
    """Connect so many sessions with one subscription each, send through some, collect."""
    core = Core()
    gc.collect()  # what others have left is not ours to be found
    Collector.hold()
    pauses = Pauses()
    gc.callbacks.append(pauses)
    try:
        publisher = core.connect("publisher")
        for number in range(sessions):
            channel = core.connect(f"client-{number}")
            core.subscribe(channel, [f"site/{number}/t"], 0)
        connecting_ms, connecting_count = pauses.taken()
        for burst in range(ROUNDS):
            data = b"".join(
                packets.publish(f"site/{(burst * BURST + index) % sessions}/t", b"x" * 16)
                for index in range(BURST)
            )
            core.exchange(publisher, data)
        flowing_ms, flowing_count = pauses.taken()
        unreachable = gc.collect()
        full_ms, _ = pauses.taken()
    finally:
        gc.callbacks.remove(pauses)
        Collector.release()
    return {
        "sessions": sessions,
        "longest_while_connecting_ms": connecting_ms,
        "collections_while_connecting": connecting_count,
        "messages": ROUNDS * BURST,
        "longest_while_flowing_ms": flowing_ms,
        "collections_while_flowing": flowing_count,
        "full_collection_ms": full_ms,
        "found_by_it": unreachable,
    }


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gc_pause",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--build", choices=("this", *_core.BUILDS), default="compiled")
    parser.add_argument("--python", default=_core.default_python(), help="has iotd installed")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    args = parser.parse_args(argv)
    if args.sessions < 1:
        parser.error(f"--sessions is {args.sessions}; use 1 or more")
    try:
        if args.build == "this":
            shown: dict[str, object] = {"build": _core.build(), **measure(args.sessions)}
        else:
            options = ["--build", "this", "--json", "--sessions", str(args.sessions)]
            shown = _core.measured("benchmarks.gc_pause", args.build, args.python, options)
    except BenchmarkError as error:
        print(f"gc_pause: {error}", file=sys.stderr)
        return 2
    print(json.dumps(shown) if args.json else _core.told(shown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
