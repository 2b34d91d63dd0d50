"""`iotd bench run`: live progress, then tables, JSON, a plot."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from adapters.bench.comparing import Row, compared
from adapters.bench.results import Sample
from adapters.bench.runs import Run, Side, rounds
from adapters.bench.workloads import Workload, version_name
from iotd._version import __version__
from iotd.cli._bench_choices import Plan
from iotd.cli._bench_plot import Chart, write_plot

EXIT_LOST: Final = 1
EXIT_NOTHING: Final = 2

_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_FONT_NAMES: Final = "Fira Code, DejaVu Sans Mono, Menlo, Consolas, monospace"
_WIDTH: Final = 118  # of what is no terminal, and of a saved picture


def bench(plan: Plan, *, as_json: bool) -> int:
    """Run the plan, show what it has brought, and return the exit code."""
    watching = Console(stderr=True, highlight=False)
    if not watching.is_terminal:
        watching.width = 10_000  # a file or a pipe has no edge to fold at
    rows: list[list[Row]] = []
    with _Live(plan, watching) as live:
        for sides in plan.workloads:
            runs = []
            for run in rounds(sides, plan.runs, plan.options, live.on_sample):
                live.on_run(run)
                runs.append(run)
            rows.append(compared(sides, runs))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    if as_json:
        print(json.dumps(_plain(plan, rows)))
        console.quiet = True
    for sides, part in zip(plan.workloads, rows, strict=True):
        _show(console, sides[0].workload, part)
    if plan.save_svg is not None:
        _save_picture(plan, live.told, rows)
    if plan.plot is not None:
        charts = [
            Chart(_headline(sides[0].workload), part)
            for sides, part in zip(plan.workloads, rows, strict=True)
        ]
        write_plot(plan.plot, charts)
    return _exit_code([row for part in rows for row in part], plan.runs)


def _exit_code(rows: Sequence[Row], runs: int) -> int:
    if not any(row["runs"] for row in rows):
        return EXIT_NOTHING
    is_whole = all(
        len(row["runs"]) == runs and all(result["complete"] for result in row["runs"])
        for row in rows
    )
    return 0 if is_whole else EXIT_LOST


class _Live(AbstractContextManager["_Live"]):
    """What is going on: a line for each run, and on a terminal a bar and the rate."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._console: Final = console
        self._plan: Final = plan
        self._last: Sample | None = None
        self.told: Final[list[str]] = []
        self._before: Final[list[int]] = [0]  # runs that are over
        total = sum(len(sides) for sides in plan.workloads) * plan.runs
        self._progress: Final = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: Final[TaskID] = self._progress.add_task("connecting", total=total, rate="")

    def __enter__(self) -> _Live:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_sample(self, side: Side, number: int, sample: Sample) -> None:
        """Show the rate since the last sample."""
        last = self._last
        if last is None or sample.at_s <= last.at_s:
            last = Sample(0.0, 0, 0)
        self._last = sample
        rate = (sample.received - last.received) / max(sample.at_s - last.at_s, 1e-9)
        done = min(0.99, _share_done(side.workload, sample))
        self._progress.update(
            self._task,
            completed=self._before[0] + done,
            description=f"{side.workload.name}, run {number + 1} of {self._plan.runs}: {side.name}",
            rate=f"{rate:,.0f}/s",
        )

    def on_run(self, run: Run) -> None:
        """Tell how a run has ended."""
        self._before[0] += 1
        self._last = None
        self._progress.update(
            self._task, completed=self._before[0], rate="", description="connecting"
        )
        label = (
            f"{run.side.workload.name}, run {run.round + 1} of {self._plan.runs}: {run.side.name}"
        )
        result = run.result
        if result is None:
            self._tell(f"{label}: {run.fault}")
            return
        told = f"{label}: {result['out_per_s']:,.0f}/s, p99 {_ms(result['p99_ms'])} ms"
        if not result["complete"]:
            told += f", {result['missing']:,} missing, {result['surplus']:,} twice"
        self._tell(told)

    def _tell(self, line: str) -> None:
        self.told.append(line)
        self._console.print(Text(line))


def _share_done(workload: Workload, sample: Sample) -> float:
    if workload.is_storm:
        return sample.received / workload.connections
    if workload.messages:
        return sample.received / max(1, workload.deliveries)
    return sample.at_s / workload.seconds


def _headline(workload: Workload) -> str:
    """A workload in one line."""
    version = f"MQTT {version_name(workload.level)}"
    if workload.is_storm:
        pace = (
            f"{workload.rate_per_s:,.0f} a second"
            if workload.rate_per_s
            else (f"{workload.window} at a time")
        )
        return f"{workload.name}: {workload.connections:,} clients connect, {pace}, {version}"
    pace = (
        f"{workload.rate_per_s:,.0f} messages/s, open loop"
        if workload.rate_per_s
        else f"window {workload.window:,}, closed loop"
    )
    return (
        f"{workload.name}: {workload.publishers:,} to {workload.subscribers:,}, "
        f"QoS {workload.qos}, {workload.size_bytes:,} bytes, {pace}, {version}"
    )


def _show(console: Console, workload: Workload, rows: Sequence[Row]) -> None:
    """The table of one workload, and what must be said to it."""
    first = rows[0]["broker"]
    has_others = len(rows) > 1
    unit = "connections/s" if workload.is_storm else "messages/s"
    table = Table(
        title=_headline(workload), title_justify="left", title_style="bold",
        box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    table.add_column("broker", overflow="fold")
    for head in (unit, "spread", "p50 ms", "p90", "p99", "p99.9", "p99.99", "max", "CPU us"):
        table.add_column(head, justify="right", no_wrap=True)
    if has_others:
        what = "p99, times" if workload.rate_per_s else "times"
        table.add_column(f"{what} {first}", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*[Text(cell) for cell in _cells(row, has_others)])
    console.print(table)
    if busy := [_busy(row) for row in rows if row["runs"]]:
        console.print(Text(f"  busy: {'; '.join(busy)}"))
    for row in rows:
        for note in row["notes"]:
            is_loss = any(word.isupper() and len(word) > 3 for word in note.split())
            console.print(Text(f"  {row['broker']}: {note}", style="bold red" if is_loss else ""))
    console.print()


def _cells(row: Row, has_others: bool) -> list[str]:
    if not row["runs"]:
        return [row["broker"], *["-"] * (10 if has_others else 9)]
    spread, cpu = row["spread"], row["broker_cpu_us"]
    cells = [
        row["broker"],
        f"{row['out_per_s']:,.0f}",
        "-" if spread is None else f"{spread:.0%}",
        *(
            _ms(value)
            for value in (
                row["p50_ms"], row["p90_ms"], row["p99_ms"], row["p999_ms"], row["p9999_ms"],
                row["max_ms"],
            )
        ),
        "-" if cpu is None else f"{cpu:,.2f}",
    ]  # fmt: skip
    if has_others:
        cells.append(_ratio(row))
    return cells


def _busy(row: Row) -> str:
    """How much of the time the two ends had something to do."""
    broker = "?" if row["broker_busy"] is None else f"{row['broker_busy']:.0%}"
    return f"{row['broker']} {broker}, generator {row['generator_busy']:.0%}"


def _ratio(row: Row) -> str:
    ratio, least, most = row["ratio"], row["ratio_least"], row["ratio_most"]
    if ratio is None or least is None or most is None:
        return "-"
    if len(row["runs"]) == 1 or least == most:
        return f"{ratio:.2f}"
    return f"{ratio:.2f} ({least:.2f}-{most:.2f})"


def _ms(value: float) -> str:
    """Milliseconds with three digits that say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _save_picture(plan: Plan, told: Sequence[str], rows: list[list[Row]]) -> None:
    """What a terminal shows, as an SVG, whatever standard output is."""
    assert plan.save_svg is not None
    names = ",".join(sides[0].workload.name for sides in plan.workloads)
    brokers = " ".join(side.name for side in plan.workloads[0])
    with open(os.devnull, "w") as nowhere:
        picture = Console(
            record=True, file=nowhere, width=_WIDTH, highlight=False, force_terminal=True
        )
        for line in told:
            picture.print(Text(line))
        picture.print()
        for sides, part in zip(plan.workloads, rows, strict=True):
            _show(picture, sides[0].workload, part)
        svg = picture.export_svg(title=f"iotd bench run {names} {brokers}")
    # A picture that fetches its font from elsewhere tells others who looks at it.
    svg = _FONTS.sub("", svg).replace("Fira Code, monospace", _FONT_NAMES)
    plan.save_svg.write_text(svg, encoding="utf-8")


def _plain(plan: Plan, rows: list[list[Row]]) -> dict[str, object]:
    """Everything, for a program."""
    return {
        "iotd": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "runs": plan.runs,
        "scenarios": [
            {
                "headline": _headline(sides[0].workload),
                "brokers": {side.name: f"{side.target.host}:{side.target.port}" for side in sides},
                "rows": part,
            }
            for sides, part in zip(plan.workloads, rows, strict=True)
        ],
    }
