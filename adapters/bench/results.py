"""What a run has shown, as plain data: for tables, for JSON, and to be joined over processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypedDict

from adapters.bench.histogram import Histogram
from adapters.bench.machine import Use
from adapters.bench.publishing import Progress, Publisher
from adapters.bench.receiving import Source
from adapters.bench.workloads import Workload, version_name

BUSY_SHARE: Final = 0.95
"""A process that has work for more than this share of the time is what bounds a rate.

When both have, it is the broker: the generator works on smaller pieces the more time it has.
"""


class Sample(NamedTuple):
    """How far a run was at one moment."""

    at_s: float
    sent: int
    received: int


class Result(TypedDict):
    """What one run showed. Rates are per second; the broker's figures are null when unknown.

    Of a connection storm, `sent` counts the connections that were tried, `delivered` those that
    got their CONNACK, and the latency is that of the CONNACK.
    """

    workload: str
    mqtt: str
    mode: str
    publishers: int
    subscribers: int
    connections: int
    processes: int
    qos: int
    window: int
    size_bytes: int
    rate_per_s: float  # asked for; 0: closed loop
    sent: int
    delivered: int
    expected: int
    acked: int
    missing: int
    surplus: int
    unacked: int
    unsent: int  # was due, and could not be sent before the run had to end
    in_order: bool
    complete: bool
    fault: str  # why connections failed, the last one's
    seconds: float
    in_per_s: float
    out_per_s: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    p9999_ms: float
    max_ms: float
    late_p99_ms: float  # sending behind the moment when it was due; 0 in a closed loop
    connect_s: float
    generator_cpu: float  # the busiest process of the generator, in cores
    generator_busy: float
    generator_saturated: bool
    broker_cpu: float | None  # cores
    broker_busy: float | None
    broker_cpu_us: float | None  # per delivery
    latency_us: list[tuple[int, int]]  # buckets: from so many microseconds on, so often
    latency_total_us: int
    samples: list[Sample]


def result_of(
    workload: Workload,
    publishers: Sequence[Publisher],
    sources: Sequence[Source],
    progress: Progress,
    samples: list[Sample],
    use: Use,
    connect_s: float,
) -> Result:
    """The result of a load of messages."""
    missing = surplus = expected = 0
    for source in sources:
        sent = source.publisher.sent
        expected += source.publisher.planned + source.publisher.unsent
        missing += source.tally.missing(sent)
        surplus += source.tally.surplus(sent)
    answers = [(publisher, tally) for publisher in publishers for tally in publisher.answers]
    unacked = sum(tally.missing(one.sent) for one, tally in answers)
    tallies = [tally for _, tally in answers]
    if workload.mode != "shared":  # where several share the messages there is no order of them
        tallies += [source.tally for source in sources]
    result = blank(workload, progress.latencies, samples, use, connect_s)
    result["sent"] = progress.sent
    result["delivered"] = progress.received
    result["expected"] = expected
    result["acked"] = progress.acked
    result["missing"] = missing
    result["surplus"] = surplus
    result["unacked"] = unacked
    result["unsent"] = sum(one.unsent + one.planned - one.sent for one in publishers)
    result["in_order"] = all(tally.in_order for tally in tallies)
    result["late_p99_ms"] = progress.lateness.percentiles_ms([0.99])[0]
    return completed(result)


def blank(
    workload: Workload,
    latencies: Histogram,
    samples: list[Sample],
    use: Use,
    connect_s: float,
) -> Result:
    """A result with nothing counted yet."""
    busy = use.broker_busy
    return {
        "workload": workload.name,
        "mqtt": version_name(workload.level),
        "mode": workload.mode,
        "publishers": workload.publishers,
        "subscribers": workload.subscribers,
        "connections": workload.connections,
        "processes": 1,
        "qos": workload.qos,
        "window": min(workload.window, workload.most_unacked),
        "size_bytes": workload.size_bytes,
        "rate_per_s": workload.rate_per_s,
        "sent": 0,
        "delivered": 0,
        "expected": 0,
        "acked": 0,
        "missing": 0,
        "surplus": 0,
        "unacked": 0,
        "unsent": 0,
        "in_order": True,
        "complete": False,
        "fault": "",
        "seconds": round(use.seconds, 4),
        "in_per_s": 0.0,
        "out_per_s": 0.0,
        "mean_ms": 0.0,
        "p50_ms": 0.0,
        "p90_ms": 0.0,
        "p99_ms": 0.0,
        "p999_ms": 0.0,
        "p9999_ms": 0.0,
        "max_ms": latencies.largest_ms,
        "late_p99_ms": 0.0,
        "connect_s": round(connect_s, 3),
        "generator_cpu": round(use.own_cpu, 3),
        "generator_busy": round(use.own_busy, 3),
        "generator_saturated": False,
        "broker_cpu": None
        if use.broker_cpu_s is None
        else round(use.broker_cpu_s / use.seconds, 3),
        "broker_busy": None if busy is None else round(busy, 3),
        "broker_cpu_us": None,
        "latency_us": latencies.buckets(),
        "latency_total_us": latencies.total_us,
        "samples": samples,
    }


def completed(result: Result) -> Result:
    """The result with all that follows from its counts."""
    seconds = result["seconds"] or 1e-9
    faults = result["missing"], result["surplus"], result["unacked"], result["unsent"]
    result["complete"] = not any(faults)
    result["in_per_s"] = round(result["sent"] / seconds)
    result["out_per_s"] = round(result["delivered"] / seconds)
    latencies = histogram_of(result)
    p50, p90, p99, p999, p9999 = latencies.percentiles_ms()
    result["p50_ms"], result["p90_ms"], result["p99_ms"] = p50, p90, p99
    result["p999_ms"], result["p9999_ms"] = p999, p9999
    result["mean_ms"] = round(latencies.mean_ms, 4)
    busy = result["broker_busy"]
    result["generator_saturated"] = result["generator_busy"] >= BUSY_SHARE > (busy or 0.0)
    if result["broker_cpu"] is not None and result["delivered"]:
        cpu_s = result["broker_cpu"] * seconds
        result["broker_cpu_us"] = round(cpu_s * 1e6 / result["delivered"], 3)
    return result


def histogram_of(result: Result) -> Histogram:
    """The latencies of a run."""
    largest_us = round(result["max_ms"] * 1000)
    return Histogram.of(result["latency_us"], largest_us, result["latency_total_us"])


_SUMS: Final = (
    "publishers", "subscribers", "connections", "sent", "delivered", "expected", "acked",
    "missing", "surplus", "unacked", "unsent",
)  # fmt: skip


def joined(workload: Workload, parts: Sequence[Result]) -> Result:
    """The result of a load that several processes have made at once."""
    whole: Result = {**parts[0]}
    if len(parts) == 1:
        return whole
    latencies = Histogram()
    for part in parts:
        latencies.merge(histogram_of(part))
    for key in _SUMS:
        whole[key] = sum(part[key] for part in parts)
    whole["processes"] = len(parts)
    whole["rate_per_s"] = workload.rate_per_s
    whole["window"] = min(part["window"] for part in parts)
    whole["fault"] = next((part["fault"] for part in parts if part["fault"]), "")
    whole["in_order"] = all(part["in_order"] for part in parts)
    whole["seconds"] = max(part["seconds"] for part in parts)
    whole["connect_s"] = max(part["connect_s"] for part in parts)
    whole["max_ms"] = latencies.largest_ms
    whole["late_p99_ms"] = max(part["late_p99_ms"] for part in parts)
    whole["generator_cpu"] = max(part["generator_cpu"] for part in parts)
    whole["generator_busy"] = max(part["generator_busy"] for part in parts)
    whole["latency_us"] = latencies.buckets()
    whole["latency_total_us"] = latencies.total_us
    whole["samples"] = _joined_samples([part["samples"] for part in parts])
    return completed(whole)


def _joined_samples(parts: Sequence[Sequence[Sample]]) -> list[Sample]:
    """The samples of several processes, added up step by step."""
    length = min(len(part) for part in parts)
    return [
        Sample(
            max(part[at][0] for part in parts),
            sum(part[at][1] for part in parts),
            sum(part[at][2] for part in parts),
        )
        for at in range(length)
    ]
