"""`iotd bench list`: the scenarios, in words and numbers."""

from __future__ import annotations

import textwrap
from typing import Final

from adapters.bench.workloads import SUITE, WORKLOADS, Workload, version_name
from iotd.cli._output import print_json, print_table

_MODES: Final = {
    "pair": "each publisher to one subscriber",
    "fanout": "all subscribers read everything",
    "fanin": "subscribers read all by a wildcard",
    "shared": "a shared subscription: each message to one of them",
    "connect": "clients connect and stay",
}

_ABOUT_WORKLOADS: Final = """\
Twelve shapes of load. The loop is closed: a publisher waits while so many of its messages are under
way, the window. With --rate it is open.
"""

_ABOUT_SUITE: Final = """\
The scenarios of EMQ's Open MQTT Benchmark Suite, of a size for one machine. The loop is open: the
rate is kept whatever the broker does. --rate 0 closes it.
"""


def list_scenarios(as_json: bool) -> int:
    """Print them all."""
    if as_json:
        own = [_plain(workload) for workload in WORKLOADS.values()]
        suite = [{**_plain(each), **origin._asdict()} for each, origin in SUITE.values()]
        print_json([*own, *suite])
        return 0
    heads = [
        "scenario", ">publishers", ">subscribers", ">QoS", ">bytes", ">window", ">rate", "shows",
    ]  # fmt: skip
    print(_ABOUT_WORKLOADS)
    print_table(heads, [_row(workload) for workload in WORKLOADS.values()])
    print(_ABOUT_SUITE)
    print_table(heads, [_row(workload) for workload, _ in SUITE.values()])
    for name, (workload, origin) in SUITE.items():
        print(f"{name}: {_MODES[workload.mode]}. In the suite, {origin.use_case}:")
        print(textwrap.fill(f"{origin.numbers}.", 98, initial_indent="  ", subsequent_indent="  "))
        print(f"  iotd bench run {name} HOST:PORT {origin.options}\n")
    print("Every number can be another one: `iotd bench run --help`.")
    return 0


def _row(workload: Workload) -> tuple[str, ...]:
    rate = f"{workload.rate_per_s:,.0f}/s" if workload.rate_per_s else "-"
    if workload.is_storm:
        clients = f"{workload.connections:,}"
        return workload.name, clients, "-", "-", "-", "-", rate, workload.shows
    return (
        workload.name,
        f"{workload.publishers:,}",
        f"{workload.subscribers:,}",
        str(workload.qos),
        f"{workload.size_bytes:,}",
        "-" if workload.rate_per_s else f"{workload.window:,}",
        rate,
        workload.shows,
    )


def _plain(workload: Workload) -> dict[str, object]:
    plain: dict[str, object] = {**workload._asdict(), "mqtt": version_name(workload.level)}
    for key in ("level", "prefix", "messages", "seconds"):
        del plain[key]
    return plain
