"""A million subscriptions: what one takes, and what an uncached match costs.

    python -m benchmarks.subscriptions                      # compiled, a million
    python -m benchmarks.subscriptions --build pure --count 100000

In this process, on the core alone: clients with a hundred filters `site/N/dev/+/t` each, fed as
SUBSCRIBE packets. A match is timed as a QoS 0 PUBLISH to a topic that was never used before, to
the last byte out.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from time import perf_counter
from typing import Final

from adapters.bench import machine, packets
from adapters.bench.sockets import BenchmarkError
from benchmarks import _core
from benchmarks._core import Core
from mqtt_core.broker import Channel

FILTERS_PER_CLIENT: Final = 100
SMALL: Final = 1_000
PROBES: Final = 2_000


def measure(count: int) -> dict[str, float]:
    """Subscribe `count` times and look at memory and time on the way."""
    core = Core()
    publisher = core.connect("publisher")
    gc.collect()
    start_bytes = machine.rss_bytes(os.getpid())
    start = perf_counter()
    _subscribe(core, 0, SMALL)
    small_us = _match_us(core, publisher, SMALL, "a")
    _subscribe(core, SMALL, count)
    seconds = perf_counter() - start
    gc.collect()
    grown_bytes = machine.rss_bytes(os.getpid()) - start_bytes
    large_us = _match_us(core, publisher, count, "b")
    return {
        "subscriptions": count,
        "clients": -(-count // FILTERS_PER_CLIENT),
        "bytes_per_subscription": round(grown_bytes / count, 1),
        "subscribe_us": round(seconds / count * 1e6, 3),
        "match_us_at_1000": round(small_us, 3),
        "match_us": round(large_us, 3),
        "times": round(large_us / small_us, 2),
    }


def _subscribe(core: Core, first: int, end: int) -> None:
    for start in range(first, end, FILTERS_PER_CLIENT):
        several = range(start, min(start + FILTERS_PER_CLIENT, end))
        channel = core.connect(f"client-{start}")
        core.subscribe(channel, [f"site/{number}/dev/+/t" for number in several], 0)


def _match_us(core: Core, publisher: Channel, count: int, mark: str) -> float:
    """The median of many single publishes, each to a new topic of a site spread over all."""
    taken = []
    for probe in range(PROBES):
        site = probe * 7_919 % count
        packet = packets.publish(f"site/{site}/dev/{mark}{probe}/t", b"x" * 16)
        start = perf_counter()
        publisher.receive_data(packet, start)
        sent = core.turn()
        taken.append(perf_counter() - start)
        if [data for _, data in sent] != [packet]:
            raise BenchmarkError(f"a message to site {site} went out {len(sent)} times, not once")
    taken.sort()
    return taken[PROBES // 2] * 1e6


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.subscriptions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--build", choices=("this", *_core.BUILDS), default="compiled")
    parser.add_argument("--python", default=_core.default_python(), help="has iotd installed")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    args = parser.parse_args(argv)
    if args.count < SMALL:
        parser.error(f"--count is {args.count}; use {SMALL} or more")
    try:
        if args.build == "this":
            shown: dict[str, object] = {"build": _core.build(), **measure(args.count)}
        else:
            options = ["--build", "this", "--json", "--count", str(args.count)]
            shown = _core.measured("benchmarks.subscriptions", args.build, args.python, options)
    except BenchmarkError as error:
        print(f"subscriptions: {error}", file=sys.stderr)
        return 2
    print(json.dumps(shown) if args.json else _core.told(shown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
