"""Instructions per delivered message, by workload: what a change to the code has really done.

    python -m benchmarks.instructions --start iotd-asyncio --only q0-pair q1-fanout

Counted by perf in the broker's process, in user space and in all; hardly anything else on the
machine moves them. Linux, and root or `sysctl kernel.perf_event_paranoid=1`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from adapters.bench.load import Load
from adapters.bench.sockets import BenchmarkError
from adapters.bench.workloads import Workload
from benchmarks import _attach, _selection

EVENTS: Final = ("instructions:u", "cycles:u", "instructions:k", "cycles:k")
_LIMIT_S: Final = 60.0
_HEAD: Final = f"{'':<12} {'user':>11} {'':>11} {'kernel':>11}\n{'workload':<12}" + (
    2 * f" {'instr':>11} {'cycles':>11}" + f" {'cpu us':>7}"
)


def count(workload: Workload, port: int, pid: int) -> dict[str, float]:
    """Each event per delivery, and `cpu_us`."""
    load = Load(workload, port, pid=pid)
    try:
        load.prepare()
        with _attach.PerfStat(pid, EVENTS) as perf:
            result = load.measure(_LIMIT_S)
    finally:
        load.close()
    if not result["complete"]:
        raise BenchmarkError(f"{workload.label}: {result['missing']} messages did not arrive")
    counted = {event: perf.counts[event] / result["delivered"] for event in EVENTS}
    return {**counted, "cpu_us": result["broker_cpu_us"] or 0.0}


def told(name: str, row: dict[str, float]) -> str:
    """One line of the table."""
    columns = " ".join(f"{row[event]:>11,.0f}" for event in EVENTS)
    return f"{name:<12} {columns} {row['cpu_us']:>7.2f}"


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _selection.add_broker(parser)
    _selection.add_workloads(parser, scale=1.0)
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    args = parser.parse_args(argv)
    table: dict[str, dict[str, float]] = {}
    try:
        with _selection.broker(args) as (broker, pid, _):
            if not args.json:
                print(f"{broker.name}, per delivery")
                print(_HEAD)
            for workload in _selection.workloads(args):
                row = table[workload.label] = count(workload, broker.port, pid)
                if not args.json:
                    print(told(workload.label, row), flush=True)
    except BenchmarkError as error:
        print(f"instructions: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
