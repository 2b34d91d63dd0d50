"""What a broker must bear: its memory and an unrelated pair's round trip under hard scenarios.

    python -m benchmarks.memory idle --start iotd-asyncio
    python -m benchmarks.memory slow-reader --port 1883 --pid PID --seconds 60

idle          memory of idle connections with one subscription each        (--count 10000)
slow-reader   a subscriber that never reads while a publisher floods       (--seconds 60)
silent        connections that never say anything, one after the other     (--count 100000)
wide-fanout   one publisher at full speed to thousands of subscribers      (--count 5000)
retained      `#` arrives at a great many retained messages                (--count 200000)

Linux only: memory is read from /proc. The scenario runs at a low priority, so that the unrelated
pair, which shares its core, measures the broker and not the scenario. `benchmarks.subscriptions`
has the million subscriptions.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from adapters.bench import machine
from adapters.bench.sockets import BenchmarkError
from benchmarks import _selection
from benchmarks.brokers import Broker
from benchmarks.scenarios import idle, retained_burst, silent, slow_reader, wide_fanout

SCENARIOS: Final = ("idle", "slow-reader", "silent", "wide-fanout", "retained")


def run(
    scenario: str, broker: Broker, pid: int, count: int | None, seconds: float, core: int | None
) -> dict[str, object]:
    """Run one scenario; what it showed."""
    shown: dict[str, object] = {"scenario": scenario, "broker": broker.name}
    if scenario == "idle":
        shown.update(idle.run(broker, pid, count or idle.DEFAULT_COUNT))
    elif scenario == "slow-reader":
        shown.update(slow_reader.run(broker, pid, seconds, core))
    elif scenario == "silent":
        shown.update(silent.run(broker, pid, count or silent.DEFAULT_COUNT, core))
    elif scenario == "wide-fanout":
        subscribers = count or wide_fanout.DEFAULT_COUNT
        shown.update(wide_fanout.run(broker, pid, subscribers, seconds, core))
    else:
        messages = count or retained_burst.DEFAULT_COUNT
        shown.update(retained_burst.run(broker, pid, messages, seconds, core))
    return shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", choices=SCENARIOS)
    _selection.add_broker(parser)
    parser.add_argument("--count", type=int, help="connections or messages")
    parser.add_argument("--seconds", type=float, default=60.0, help="of flood or of `#`")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.count is not None and args.count < 1:
        parser.error(f"--count is {args.count}; use 1 or more")
    machine.raise_descriptor_limit((args.count or 10_000) + 1_000)
    try:
        with _selection.broker(args) as (broker, pid, core):
            shown = run(args.scenario, broker, pid, args.count, args.seconds, core)
    except BenchmarkError as error:
        print(f"memory: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(shown))
    else:
        for key, value in shown.items():
            print(f"{key:<26} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
