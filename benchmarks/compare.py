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
import sys
from pathlib import Path
from typing import Final

from adapters.bench import machine
from adapters.bench.comparing import Row, compared
from adapters.bench.runs import Options, Side, Target, rounds
from adapters.bench.sockets import BenchmarkError
from adapters.bench.workloads import LEVELS, WORKLOADS, Workload
from benchmarks import brokers
from benchmarks.brokers import Broker

_HEAD: Final = (
    f"{'workload':<10} {'broker':<18} {'msgs/s':>11} {'p50 ms':>8} {'p99 ms':>8}"
    f" {'cpu us':>7} {'ratio':>7}"
)


def measure(
    workload: Workload,
    targets: list[Broker],
    versions: list[str],
    runs: int,
    options: Options,
) -> list[Row]:
    """Run one workload on every broker, in every version, in turn, `runs` times."""
    sides = _sides(workload, targets, versions)
    return compared(sides, list(rounds(sides, runs, options)))


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

    Of a paced workload it is the p99. In brackets: how many times the first broker's CPU time per
    delivery the other one takes.
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
    if not theirs["ratio"]:
        return "-"
    if not ours["broker_cpu_us"] or not theirs["broker_cpu_us"]:
        return f"{1 / theirs['ratio']:.2f}"
    return f"{1 / theirs['ratio']:.2f} ({theirs['broker_cpu_us'] / ours['broker_cpu_us']:.1f})"


def _sides(workload: Workload, targets: list[Broker], versions: list[str]) -> list[Side]:
    """Every broker in every version; the version is in the name where there are two."""
    found = []
    for target in targets:
        for version in dict.fromkeys(versions):
            has_version = len(set(versions)) > 1 and version != "3.1.1"
            name = f"{target.name}/{version}" if has_version else target.name
            where = Target(name, "127.0.0.1", target.port, target.pid)
            found.append(Side(name, where, workload._replace(level=LEVELS[version])))
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
    pair = machine.cores()
    broker_core, core = pair if pair else (None, None)
    machine.raise_descriptor_limit(65_536)
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
            options = Options(core=core, limit_s=args.limit_secs)
            print(_HEAD)
            for name in args.only or WORKLOADS:
                workload = WORKLOADS[name].scaled(args.scale)
                for row in measure(workload, targets, args.mqtt, args.runs, options):
                    print(told(row), flush=True)
                    rows.append(row)
    except BenchmarkError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    if len({row["broker"] for row in rows}) > 1:
        print(f"\n{summary(rows)}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return 0 if all(row["runs"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
