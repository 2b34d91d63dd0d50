"""Measure several brokers side by side: the same load in turn, A B A B, medians and ratios.

    python -m benchmarks.compare --start iotd-asyncio mosquitto mosquitto-nodelay
    python -m benchmarks.compare --runs 5 --only q0-pair q1-pair mine=1883 other=1884:PID
    python -m benchmarks.compare --start iotd-asyncio mosquitto --mqtt 3.1.1 5

The speed of a shared machine can change by half within seconds, and hits all brokers alike when
they take turns: read the ratios, which are the median of those of each round, not the rates. With
more than one core the brokers that are started here share one and the generator has another. With
two versions of MQTT each broker is measured in both; NAME/5 is MQTT 5.0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

from benchmarks import _process, brokers
from benchmarks._sockets import BenchmarkError
from benchmarks.brokers import Broker
from benchmarks.loadgen import Result
from benchmarks.workloads import LEVELS, WORKLOADS, Workload, version_name

_HEAD: Final = (
    f"{'workload':<10} {'broker':<18} {'msgs/s':>11} {'p50 ms':>8} {'p99 ms':>8}"
    f" {'cpu us':>7} {'ratio':>7}"
)


class Side(NamedTuple):
    """One broker in one version of MQTT."""

    name: str
    broker: Broker
    level: int


class Row(TypedDict):
    """The medians of one side on one workload; `ratio` is the first's rate over this."""

    workload: str
    broker: str
    out_per_s: float
    p50_ms: float
    p99_ms: float
    broker_cpu_us: float | None
    ratio: float | None
    notes: list[str]
    runs: list[Result]


def measure(
    workload: Workload, sides: list[Side], runs: int, core: int | None, limit_s: float
) -> list[Row]:
    """Run one workload on every side in turn, `runs` times."""
    results: dict[str, list[Result | None]] = {side.name: [] for side in sides}
    faults: dict[str, list[str]] = {side.name: [] for side in sides}
    for _ in range(runs):
        for side in sides:
            result, fault = _one(workload, side, core, limit_s)
            results[side.name].append(result)
            if fault and fault not in faults[side.name]:
                faults[side.name].append(fault)
    first = results[sides[0].name]
    return [
        _row(workload, side.name, first, results[side.name], faults[side.name]) for side in sides
    ]


def _one(
    workload: Workload, side: Side, core: int | None, limit_s: float
) -> tuple[Result | None, str]:
    """One run in a process of its own; the result, or what went wrong."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.loadgen",
        "--json",
        "--port",
        str(side.broker.port),
        "--limit-secs",
        str(limit_s),
    ]
    for option, value in (("--pid", side.broker.pid), ("--core", core)):
        if value is not None:
            command += [option, str(value)]
    for option, field in (
        ("--mode", workload.mode),
        ("--publishers", workload.publishers),
        ("--subscribers", workload.subscribers),
        ("--qos", workload.qos),
        ("--messages", workload.messages),
        ("--window", workload.window),
        ("--size", workload.size_bytes),
        ("--rate", workload.rate_per_s),
        ("--mqtt", version_name(side.level)),
    ):
        command += [option, str(field)]
    environment = brokers.own_environment()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if not done.stdout.startswith("{"):
        return None, done.stderr.strip().rpartition("\n")[2] or "no result"
    result: Result = json.loads(done.stdout)
    result["workload"] = workload.name
    return result, ""


def _row(
    workload: Workload,
    broker: str,
    first: list[Result | None],
    results: list[Result | None],
    notes: list[str],
) -> Row:
    good = [result for result in results if result is not None]
    ratios = [
        ours["out_per_s"] / theirs["out_per_s"]
        for ours, theirs in zip(first, results, strict=True)
        if ours is not None and theirs is not None and theirs["out_per_s"]
    ]
    cpu = [result["broker_cpu_us"] for result in good if result["broker_cpu_us"] is not None]
    if any(not result["complete"] for result in good):
        lost = max(result["missing"] for result in good)
        notes = [*notes, f"not all arrived ({lost} missing)"]
    if any(not result["in_order"] for result in good):
        notes = [*notes, "out of order"]
    narrowest = min((result["window"] for result in good), default=workload.window)
    if narrowest < workload.window:
        notes = [*notes, f"window {narrowest}, the broker's receive maximum"]
    if any(result["generator_saturated"] for result in good):
        notes = [*notes, "generator at its limit"]
    return {
        "workload": workload.name,
        "broker": broker,
        "out_per_s": _median([result["out_per_s"] for result in good]),
        "p50_ms": _median([result["p50_ms"] for result in good]),
        "p99_ms": _median([result["p99_ms"] for result in good]),
        "broker_cpu_us": _median(cpu) if cpu else None,
        "ratio": _median(ratios) if ratios else None,
        "notes": notes,
        "runs": good,
    }


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else 0.0


def told(row: Row) -> str:
    """One line of the table."""
    cpu = "-" if row["broker_cpu_us"] is None else f"{row['broker_cpu_us']:.2f}"
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
    note = f"  ({'; '.join(row['notes'])})" if row["notes"] else ""
    return (
        f"{row['workload']:<10} {row['broker']:<18} {row['out_per_s']:>11,.0f}"
        f" {row['p50_ms']:>8.2f} {row['p99_ms']:>8.2f} {cpu:>7} {ratio:>7}{note}"
    )


def summary(rows: list[Row]) -> str:
    """A table in Markdown: the first broker's figures, then how many times another's rate it has.

    In brackets: how many times the first broker's CPU time per delivery the other one takes.
    """
    names = list(dict.fromkeys(row["broker"] for row in rows))
    cells = {(row["workload"], row["broker"]): row for row in rows}
    head = [
        "workload",
        f"{names[0]}, msgs/s",
        "CPU us",
        *(f"times {name} (CPU)" for name in names[1:]),
    ]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        ours = cells[workload, names[0]]
        cpu = ours["broker_cpu_us"]
        line = [workload, f"{ours['out_per_s']:,.0f}", "-" if cpu is None else f"{cpu:.2f}"]
        for name in names[1:]:
            line.append(_cell(ours, cells[workload, name]))
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)


def _cell(ours: Row, theirs: Row) -> str:
    if theirs["ratio"] is None:
        return "-"
    if not ours["broker_cpu_us"] or not theirs["broker_cpu_us"]:
        return f"{theirs['ratio']:.2f}"
    return f"{theirs['ratio']:.2f} ({theirs['broker_cpu_us'] / ours['broker_cpu_us']:.1f})"


def _sides(targets: list[Broker], versions: list[str]) -> list[Side]:
    """Every broker in every version; the version is in the name where there are two."""
    found = []
    for target in targets:
        for version in dict.fromkeys(versions):
            has_version = len(set(versions)) > 1 and version != "3.1.1"
            name = f"{target.name}/{version}" if has_version else target.name
            found.append(Side(name, target, LEVELS[version]))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("running", nargs="*", metavar="NAME=PORT[:PID]", help="brokers that run")
    parser.add_argument(
        "--start",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=brokers.NAMES,
        help=f"brokers to start: {', '.join(brokers.NAMES)}",
    )
    parser.add_argument("--python", default=sys.executable, help="the Python that has iotd")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", choices=list(WORKLOADS))
    parser.add_argument("--scale", type=float, default=1.0, help="times as many messages per run")
    parser.add_argument(
        "--mqtt",
        nargs="+",
        metavar="VERSION",
        choices=list(LEVELS),
        default=["3.1.1"],
        help="3.1.1 (unless given), 5, or both",
    )
    parser.add_argument("--limit-secs", type=float, default=15.0, help="end a run after so long")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.runs < 1:
        parser.error(f"--runs is {args.runs}; use 1 or more")
    pair = _process.cores()
    broker_core, core = pair if pair else (None, None)
    _process.raise_descriptor_limit(65_536)
    rows: list[Row] = []
    try:
        running = [brokers.parse(text) for text in args.running]
        with brokers.started(args.start, broker_core, args.python) as own:
            targets = own + running
            if not targets:
                parser.error("no broker: give --start NAME, or NAME=PORT of one that runs")
            for target in targets:
                if target.build:
                    print(f"{target.name}: {target.build}")
            sides = _sides(targets, args.mqtt)
            print(_HEAD)
            for name in args.only or WORKLOADS:
                workload = WORKLOADS[name].scaled(args.scale)
                for row in measure(workload, sides, args.runs, core, args.limit_secs):
                    print(told(row), flush=True)
                    rows.append(row)
    except BenchmarkError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    if len(sides) > 1:
        print(f"\n{summary(rows)}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return 0 if all(row["runs"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
