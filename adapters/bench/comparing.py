"""Several brokers side by side: medians, ratios of paired runs, and how far the runs agree."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final, TypedDict

from adapters.bench.results import Result
from adapters.bench.runs import Run, Side

# From here on a median says little: somebody else was using the machine.
WIDE_SPREAD: Final = 0.5


class Row(TypedDict):
    """One side on one workload: medians of its runs.

    `ratio` is this side's rate over the first side's, or in an open loop, where the rate is given,
    its p99: the median of the ratios within each round, with the least and the most. `spread` is
    the difference of the fastest and slowest run over the median. Null where it cannot be known.
    """

    workload: str
    broker: str
    out_per_s: float
    spread: float | None
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    p9999_ms: float
    max_ms: float
    broker_cpu_us: float | None
    broker_busy: float | None
    generator_busy: float
    ratio: float | None
    ratio_least: float | None
    ratio_most: float | None
    notes: list[str]
    runs: list[Result]


def compared(sides: Sequence[Side], runs: Sequence[Run]) -> list[Row]:
    """A row for each side, in their order."""
    by_side = {
        side.name: {run.round: run for run in runs if run.side.name == side.name} for side in sides
    }
    first = by_side[sides[0].name]
    return [_row(side, first, by_side[side.name]) for side in sides]


def _row(side: Side, first: dict[int, Run], own: dict[int, Run]) -> Row:
    good = [run.result for run in own.values() if run.result is not None]
    rates = [result["out_per_s"] for result in good]
    ratios = _ratios(first, own)
    middle = _median(rates)
    spread = (max(rates) - min(rates)) / middle if len(rates) > 1 and middle else None
    cpu = [result["broker_cpu_us"] for result in good if result["broker_cpu_us"] is not None]
    busy = [result["broker_busy"] for result in good if result["broker_busy"] is not None]
    return {
        "workload": side.workload.name,
        "broker": side.name,
        "out_per_s": middle,
        "spread": spread,
        "p50_ms": _median([result["p50_ms"] for result in good]),
        "p90_ms": _median([result["p90_ms"] for result in good]),
        "p99_ms": _median([result["p99_ms"] for result in good]),
        "p999_ms": _median([result["p999_ms"] for result in good]),
        "p9999_ms": _median([result["p9999_ms"] for result in good]),
        "max_ms": max((result["max_ms"] for result in good), default=0.0),
        "broker_cpu_us": _median(cpu) if cpu else None,
        "broker_busy": _median(busy) if busy else None,
        "generator_busy": _median([result["generator_busy"] for result in good]),
        "ratio": _median(ratios) if ratios else None,
        "ratio_least": min(ratios, default=None),
        "ratio_most": max(ratios, default=None),
        "notes": [
            *dict.fromkeys(run.fault for run in own.values() if run.fault),
            *_notes(side, good, spread),
            *_doubts(ratios if own is not first else []),
        ],
        "runs": good,
    }


def _ratios(first: dict[int, Run], own: dict[int, Run]) -> list[float]:
    """What is measured of this side over the first's, in each round that both have finished."""
    found = []
    for number, run in own.items():
        base = first[number].result if number in first else None
        if run.result is not None and base is not None and _measure(base):
            found.append(_measure(run.result) / _measure(base))
    return found


def _measure(result: Result) -> float:
    """What is compared: how fast, or where that was asked for, how late."""
    return result["p99_ms"] if result["rate_per_s"] else result["out_per_s"]


def _notes(side: Side, good: Sequence[Result], spread: float | None) -> list[str]:
    """What whoever reads the figures must know; what was lost comes first."""
    notes = []
    thing = "connections" if side.workload.is_storm else "messages"
    for key, words in (
        ("missing", f"{thing} LOST"),
        ("surplus", f"{thing} DELIVERED TWICE"),
        ("unacked", "messages NOT ACKNOWLEDGED"),
        ("unsent", "messages COULD NOT BE SENT in time"),
    ):
        count = sum(_count(result, key) for result in good)
        if count:
            notes.append(f"{count:,} {words}")
    fault = next((result["fault"] for result in good if result["fault"]), "")
    if fault:
        notes.append(fault)
    if any(not result["in_order"] for result in good):
        notes.append("out of order")
    narrowest = min((result["window"] for result in good), default=side.workload.window)
    if narrowest < side.workload.window and not side.workload.rate_per_s:
        notes.append(f"window {narrowest}, the broker's receive maximum")
    saturated = [result for result in good if result["generator_saturated"]]
    if saturated:
        why = ": the broker can do more"
        if saturated[0]["broker_busy"] is None:
            why = ", or the broker: its process is not known"
        notes.append(f"the generator is the bottleneck{why}")
    slowest = min((result["in_per_s"] for result in good), default=0.0)
    asked = side.workload.rate_per_s
    if slowest < _KEPT_SHARE * asked:
        notes.append(f"the rate was not kept: {slowest:,.0f} of {asked:,.0f} a second")
    late_ms = max((result["late_p99_ms"] for result in good), default=0.0)
    if late_ms > _LATE_MS:
        notes.append(f"the generator sent up to {late_ms:.1f} ms late (p99), in the latency above")
    if spread is not None and spread > WIDE_SPREAD:
        notes.append(
            f"rates of one broker differ by {spread:.0%}: the machine is busy, or the runs too "
            "short; these figures are worth little"
        )
    return notes


_LATE_MS: Final = 1.0
_KEPT_SHARE: Final = 0.95


def _count(result: Result, key: str) -> int:
    return {
        "missing": result["missing"],
        "surplus": result["surplus"],
        "unacked": result["unacked"],
        "unsent": result["unsent"],
    }[key]


def _doubts(ratios: Sequence[float]) -> list[str]:
    if len(ratios) > 1 and min(ratios) < 1 < max(ratios):
        return ["the rounds do not agree on who is better: take them as equal, or add --runs"]
    return []


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
