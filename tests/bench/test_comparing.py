"""Tables and plots of several brokers: medians, paired ratios, and every doubt told."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from adapters.bench.comparing import compared
from adapters.bench.histogram import Histogram
from adapters.bench.machine import Use
from adapters.bench.results import Result, blank, completed, joined
from adapters.bench.runs import Run, Side, Target
from adapters.bench.workloads import SCENARIOS, Workload
from iotd.cli._bench_plot import Chart, svg_of, write_plot

CLOSED = SCENARIOS["q0-pair"]
PACED = SCENARIOS["p2p"]._replace(seconds=1.0)


def sides_of(workload: Workload = CLOSED, *names: str) -> list[Side]:
    return [
        Side(name, Target(name, "127.0.0.1", 1883), workload) for name in names or ("one", "two")
    ]


def result_of(rate: float, workload: Workload = CLOSED, latency_s: float = 0.001) -> Result:
    """A run of a second in which nothing was lost."""
    latencies = Histogram()
    latencies.record(latency_s, round(rate))
    use = Use(None)
    use.end(1.0)
    result = blank(workload, latencies, [], use, 0.0)
    result["sent"] = result["delivered"] = result["expected"] = round(rate)
    result["generator_busy"] = 0.5
    return completed(result)


def runs_of(sides: list[Side], *rates: tuple[float, ...]) -> list[Run]:
    """A tuple of rates for each round."""
    return [
        Run(side, number, result_of(rate, side.workload))
        for number, of_round in enumerate(rates)
        for side, rate in zip(sides, of_round, strict=True)
    ]


def test_medians_and_paired_ratios() -> None:
    # The machine gets twice as slow in the middle: rates swing, ratios do not.
    sides = sides_of()
    first, second = compared(sides, runs_of(sides, (1000, 500), (500, 250), (1000, 510)))
    assert (first["out_per_s"], second["out_per_s"]) == (1000, 500)
    assert first["ratio"] == first["ratio_least"] == first["ratio_most"] == 1
    assert (second["ratio"], second["ratio_least"], second["ratio_most"]) == (0.5, 0.5, 0.51)
    assert first["spread"] == 0.5
    assert second["spread"] == 0.52
    assert [note.split(":")[0] for note in second["notes"]] == ["rates of one broker differ by 52%"]


def test_one_run_has_no_spread() -> None:
    sides = sides_of()
    first, _ = compared(sides, runs_of(sides, (1000, 500)))
    assert first["spread"] is None
    assert first["notes"] == []


def test_rounds_that_do_not_agree_are_told() -> None:
    sides = sides_of()
    first, second = compared(sides, runs_of(sides, (1000, 1100), (1000, 900)))
    assert first["notes"] == []
    assert second["notes"] == [
        "the rounds do not agree on who is better: take them as equal, or add --runs"
    ]


def test_at_a_given_rate_latency_is_compared() -> None:
    sides = sides_of(PACED)
    runs = [
        Run(side, 0, result_of(1000, PACED, latency))
        for side, latency in zip(sides, (0.001, 0.004), strict=True)
    ]
    _, second = compared(sides, runs)
    assert second["ratio"] == pytest.approx(4, rel=0.01)


def test_a_rate_that_was_not_kept_is_told() -> None:
    sides = sides_of(PACED, "one")
    (row,) = compared(sides, [Run(sides[0], 0, result_of(700, PACED))])
    assert row["notes"] == ["the rate was not kept: 700 of 1,000 a second"]


def test_everything_that_went_wrong_is_told() -> None:
    sides = sides_of(CLOSED, "one")
    bad = result_of(1000)
    bad |= {
        "missing": 1_200, "surplus": 3, "unacked": 4, "unsent": 5, "in_order": False, "window": 20,
        "generator_saturated": True, "late_p99_ms": 2.5, "broker_busy": 0.4,
    }  # fmt: skip
    (row,) = compared(sides, [Run(sides[0], 0, bad), Run(sides[0], 1, None, "no CONNACK")])
    assert row["notes"] == [
        "no CONNACK",
        "1,200 messages LOST",
        "3 messages DELIVERED TWICE",
        "4 messages NOT ACKNOWLEDGED",
        "5 messages COULD NOT BE SENT in time",
        "out of order",
        "window 20, the broker's receive maximum",
        "the generator is the bottleneck: the broker can do more",
        "the generator sent up to 2.5 ms late (p99), in the latency above",
    ]
    bad["broker_busy"] = None
    (row,) = compared(sides, [Run(sides[0], 0, bad)])
    assert (
        "the generator is the bottleneck, or the broker: its process is not known" in row["notes"]
    )


def test_connections_that_failed_are_told_with_the_reason() -> None:
    storm = SCENARIOS["storm"]._replace(rate_per_s=0.0)
    sides = sides_of(storm, "one")
    bad = result_of(10, storm)
    bad["missing"], bad["fault"] = 3, "server unavailable"
    (row,) = compared(sides, [Run(sides[0], 0, bad)])
    assert row["notes"] == ["3 connections LOST", "server unavailable"]


def test_a_side_without_any_run_has_a_row() -> None:
    sides = sides_of()
    runs = [Run(sides[0], 0, None, "not there"), Run(sides[1], 0, result_of(10))]
    first, second = compared(sides, runs)
    assert (first["out_per_s"], first["runs"], first["notes"]) == (0.0, [], ["not there"])
    assert second["ratio"] is None


def test_parts_of_a_load_are_joined() -> None:
    parts = [result_of(100, CLOSED, 0.001), result_of(300, CLOSED, 0.002)]
    whole = joined(CLOSED, parts)
    assert (whole["sent"], whole["publishers"], whole["processes"]) == (400, 2, 2)
    assert whole["out_per_s"] == 400
    assert whole["p90_ms"] == pytest.approx(2, rel=0.01)
    assert whole["complete"]
    assert joined(CLOSED, parts[:1]) == parts[0]


# ---- plots ----


def charts() -> list[Chart]:
    sides = sides_of(CLOSED, "one", "a <name> that is far too long", "none")
    runs = [
        *runs_of(sides[:2], (1000, 500), (900, 400)),
        Run(sides[2], 0, None, "not there"),
    ]
    return [Chart("q0 & more", compared(sides, runs))]


def test_a_plot_is_sound_xml_with_every_name_and_figure() -> None:
    root = ET.fromstring(svg_of(charts()))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"q0 & more", "one", "a <name> that is fa…", "950", "450", "99.99 %"} <= texts
    lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 2


def test_a_plot_of_nothing_is_sound() -> None:
    sides = sides_of(CLOSED, "one")
    rows = compared(sides, [Run(sides[0], 0, None, "not there")])
    ET.fromstring(svg_of([Chart("nothing", rows)]))


def test_a_plot_is_written_by_the_name_of_its_file(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    write_plot(tmp_path / "plot.svg", charts())
    write_plot(tmp_path / "plot.png", charts())
    assert (tmp_path / "plot.svg").read_text(encoding="utf-8").startswith("<svg")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
