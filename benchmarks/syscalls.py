"""System calls per delivered message, by workload: steadier than any rate.

    python -m benchmarks.syscalls --start iotd-asyncio --only q0-single q1-single

perf counts them without disturbing the broker, where the kernel lets it (root, mostly); strace
needs no rights over one's own processes but slows the broker down so much that more messages
share a call.
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

TOOLS: Final = ("auto", "perf", "strace")

# What event loops and sockets use; the total counts every call.
_CALLS: Final = (
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "recvfrom",
    "read",
    "readv",
    "sendto",
    "sendmsg",
    "write",
    "writev",
    "poll",
    "io_uring_enter",
)
_TOTAL: Final = "raw_syscalls:sys_enter"
_LIMIT_S: Final = 60.0


def count(workload: Workload, port: int, pid: int, tool: str) -> dict[str, float]:
    """System calls per delivery: `total`, then each that was used."""
    load = Load(workload, port, pid=pid)
    try:
        load.prepare()
        if tool == "strace":
            with _attach.Strace(pid) as strace:
                result = load.measure(_LIMIT_S, stall_s=20.0)
            calls = {"total": sum(strace.counts.values()), **strace.counts}
        else:
            events = (_TOTAL, *(f"syscalls:sys_enter_{call}" for call in _CALLS))
            with _attach.PerfStat(pid, events) as perf:
                result = load.measure(_LIMIT_S, stall_s=20.0)
            calls = {
                event.removeprefix("syscalls:sys_enter_"): number
                for event, number in perf.counts.items()
            }
            calls = {"total": calls.pop(_TOTAL, 0), **calls}
    finally:
        load.close()
    if not result["complete"]:
        raise BenchmarkError(f"{workload.label}: {result['missing']} messages did not arrive")
    deliveries = result["delivered"]
    return {name: number / deliveries for name, number in calls.items() if number}


def usable_tool(wanted: str, pid: int) -> str:
    """perf if it may be used here, otherwise strace, unless one is asked for."""
    if wanted != "auto":
        return wanted
    try:
        with _attach.PerfStat(pid, (_TOTAL,)):
            return "perf"
    except BenchmarkError:
        return "strace"


def told(name: str, calls: dict[str, float]) -> str:
    """One line: the total, then the calls that matter, most frequent first."""
    parts = sorted(
        ((number, call) for call, number in calls.items() if call != "total"), reverse=True
    )
    shown = ", ".join(f"{call} {number:.3f}" for number, call in parts if number >= 0.0005)
    return f"{name:<12} {calls['total']:8.3f}  {shown}"


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.syscalls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _selection.add_broker(parser)
    _selection.add_workloads(parser, scale=0.25)
    parser.add_argument("--tool", choices=TOOLS, default="auto")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    args = parser.parse_args(argv)
    table: dict[str, dict[str, float]] = {}
    try:
        with _selection.broker(args) as (broker, pid, _):
            tool = usable_tool(args.tool, pid)
            if not args.json:
                print(f"{broker.name}, system calls per delivery, counted with {tool}")
            for workload in _selection.workloads(args):
                table[workload.label] = count(workload, broker.port, pid, tool)
                if not args.json:
                    print(told(workload.label, table[workload.label]), flush=True)
    except BenchmarkError as error:
        print(f"syscalls: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
