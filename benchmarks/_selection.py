"""What the command lines of several benchmarks share: which broker, which workloads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from adapters.bench import machine
from adapters.bench.sockets import BenchmarkError
from adapters.bench.workloads import LEVELS, WORKLOADS, Workload
from benchmarks import brokers
from benchmarks.brokers import Broker


def add_broker(parser: argparse.ArgumentParser) -> None:
    """Options that name a broker, running or to be started."""
    parser.add_argument("--start", metavar="NAME", choices=brokers.NAMES, help="start this broker")
    parser.add_argument("--python", default=sys.executable, help="the Python that has iotd")
    parser.add_argument("--port", type=int, default=1883, help="of a broker that runs")
    parser.add_argument("--pid", type=int, help="its process")


def add_workloads(parser: argparse.ArgumentParser, scale: float) -> None:
    """Options that choose workloads and their length."""
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", choices=list(WORKLOADS))
    parser.add_argument("--scale", type=float, default=scale, help="times as many messages")
    parser.add_argument(
        "--mqtt",
        nargs="+",
        choices=list(LEVELS),
        default=["3.1.1"],
        help="versions of MQTT, one after the other; 3.1.1 unless given",
    )


def workloads(args: argparse.Namespace) -> list[Workload]:
    """The workloads chosen, as long as asked for, each in every version asked for."""
    return [
        WORKLOADS[name].scaled(args.scale)._replace(level=LEVELS[version])
        for name in args.only or WORKLOADS
        for version in args.mqtt
    ]


@contextmanager
def broker(args: argparse.Namespace) -> Iterator[tuple[Broker, int, int | None]]:
    """The broker chosen, its process, and the core that is left for this one."""
    pair = machine.cores()
    broker_core, core = pair if pair else (None, None)
    names = [args.start] if args.start else []
    with brokers.started(names, broker_core, args.python) as own:
        chosen = own[0] if own else Broker("broker", args.port, args.pid)
        if chosen.pid is None:
            raise BenchmarkError("the broker's process is not known; give --pid, or let it --start")
        with machine.pinned(core):
            yield chosen, chosen.pid, core
