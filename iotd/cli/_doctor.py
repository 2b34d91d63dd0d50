"""`iotd doctor`: plays the conformance suite to a broker, and prints what it breaks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap
from typing import Final

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from conformance import Scenario, load_traces
from conformance.doctor import NAMES, CannotExamineError, Doctor
from conformance.doctor import Progress as Report
from conformance.findings import (
    BROKEN,
    NEEDS_SETTING,
    SUSPECT,
    Failure,
    Findings,
    Verdict,
    findings_of,
    is_about,
)
from conformance.report import (
    as_json,
    as_markdown,
    remarks,
    summary,
    untested_by_reason,
    what_happened,
)
from iotd.cli._address import written
from iotd.cli._program import CannotRunError
from iotd.cli._trace_view import make_console

EXIT_BROKEN: Final = 1
EXIT_NOT_EXAMINED: Final = 2
_WARNING: Final = (
    "This is for a test broker that nobody else uses: it gets malformed packets, and hundreds of "
    "connections at a time. What is left on it is removed, or told."
)
_SUSPECTED: Final = (
    "A scenario about several statements has failed: one of them at least is broken."
)
_MOST_IDS: Final = 8


@dataclass(frozen=True)
class DoctorOptions:
    """What was asked for."""

    address: tuple[str, int]
    version: str
    statements: tuple[str, ...]
    settings: str
    json: Path | None
    is_markdown: bool
    is_whole: bool
    time_s: float


def doctor(options: DoctorOptions) -> int:
    """Examine the broker, print what was found, and return the exit code.

    Raises `typer.BadParameter` for what was asked for in the wrong way.
    """
    scenarios = _chosen(options)
    settings = _settings(options.settings)
    where = written(options.address)
    print(f"iotd doctor {where}\n{_WARNING}", file=sys.stderr)
    try:
        with _progress() as report:
            found = Doctor(
                options.address, settings=settings, time_s=options.time_s, progress=report
            ).examine(scenarios)
    except CannotExamineError as error:
        print(f"iotd: {error}", file=sys.stderr)
        return EXIT_NOT_EXAMINED
    except OSError as error:
        print(
            f"iotd: {where}: {error.strerror or error}; is a broker listening there?",
            file=sys.stderr,
        )
        return EXIT_NOT_EXAMINED
    findings = findings_of(found, options.statements)
    date = datetime.now(UTC)
    try:
        _write_json(options.json, as_json(findings, date.isoformat(timespec="seconds")))
    except CannotRunError as error:
        print(f"iotd: {error}", file=sys.stderr)
        return EXIT_NOT_EXAMINED
    if options.is_markdown:
        print(as_markdown(findings, f"{date:%Y-%m-%d}"), end="")
    elif options.json != Path("-"):
        _Printer(findings, options.is_whole).print()
    return 0 if findings.is_healthy else EXIT_BROKEN


def _chosen(options: DoctorOptions) -> list[Scenario]:
    if options.version not in ("", *NAMES.values()):
        allowed = " or ".join(NAMES.values())
        raise typer.BadParameter(
            f'found "{options.version}"; allowed: {allowed}', param_hint="--only"
        )
    mine = [one for one in load_traces() if one.role == "server"]
    for wanted in options.statements:
        if not any(is_about(one, options.version, [wanted]) for one in mine):
            raise typer.BadParameter(
                f'no trace for a server is about "{wanted}"; docs/conformance.md lists the '
                "statements, such as MQTT-3.3.5-1",
                param_hint="--statement",
            )
    return [one for one in mine if is_about(one, options.version, options.statements)]


def _settings(text: str) -> dict[str, str]:
    words = [word.partition("=") for word in text.split()]
    for key, equals, _ in words:
        if not equals:
            raise typer.BadParameter(
                f'found "{key}"; allowed: KEY=VALUE, with blanks between several',
                param_hint="--settings",
            )
    return {key: value for key, _, value in words}


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar on standard error, where somebody looks at it."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    console = Console(file=sys.stderr)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("scenarios", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _write_json(path: Path | None, fields: dict[str, object]) -> None:
    if path is None:
        return
    text = json.dumps(fields, indent=1) + "\n"
    if path == Path("-"):
        print(text, end="")
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CannotRunError(f"cannot write {path}: {error.strerror}") from None


class _Printer:
    """Findings for a person at a terminal."""

    def __init__(self, findings: Findings, is_whole: bool) -> None:
        self._findings = findings
        self._is_whole = is_whole
        self._console = make_console()
        self._shown: dict[str, str] = {}
        """Scenarios whose bytes were printed, with the statement that they were printed for."""

    def print(self) -> None:
        """Print all of it, the summary last."""
        for state, title in ((BROKEN, "Broken"), (SUSPECT, "Perhaps broken")):
            verdicts = [one for one in self._findings.verdicts if one.state == state]
            if verdicts:
                self._heading(title)
                if state == SUSPECT:
                    self._say(_SUSPECTED)
                for verdict in verdicts:
                    self._verdict(verdict)
        loose = [one for one in self._findings.failures.values() if not one.statements]
        if loose:
            self._heading("Failed, and about no numbered statement")
            for failure in loose:
                self._failure(failure, "")
        self._untested()
        notes = remarks(self._findings)
        if notes:
            self._heading("Remarks")
            for note in notes:
                self._say(note)
        self._summary()

    def _verdict(self, verdict: Verdict) -> None:
        statement = verdict.statement
        head = f"{statement.id} (MQTT {NAMES[statement.version]})"
        colour = "bold red" if verdict.state == BROKEN else "bold yellow"
        self._say(f"{head}  {statement.paraphrase}", colour, len(head))
        names = verdict.failures if self._is_whole else verdict.failures[:1]
        for name in names:
            self._failure(self._findings.failures[name], statement.id)
        more = len(verdict.failures) - len(names)
        if more:
            self._say(
                f"  and {more} more of {verdict.played} scenarios that were played; see --all"
            )

    def _failure(self, failure: Failure, statement: str) -> None:
        if failure.scenario in self._shown:
            self._say(f"  {failure.scenario}: as for {self._shown[failure.scenario]}")
            return
        self._shown[failure.scenario] = statement
        self._say(f"  {failure.scenario}  ({failure.place})")
        for line in what_happened(failure):
            self._say(f"    {line}", "bright_black" if line.startswith("  ") else "")

    def _untested(self) -> None:
        reasons = untested_by_reason(self._findings)
        if not reasons:
            return
        self._heading("Not tested")
        for reason, ids in reasons:
            more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
            self._say(f"{len(ids):>4}  {reason}")
            self._say(f"      {', '.join(ids[:_MOST_IDS])}{more}", "bright_black")
        if any(NEEDS_SETTING in reason for reason, _ in reasons):
            self._say("Say with --settings what the broker is set to, and more can be tested.")

    def _summary(self) -> None:
        examination = self._findings.examination
        self._heading(f"{examination.address}, in {examination.seconds:.0f} s")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("statements of")
        for head in ("obeyed", "broken", "perhaps broken", "not tested"):
            table.add_column(head, justify="right")
        for version, counts in summary(self._findings):
            table.add_row(f"MQTT {NAMES[version]}", *map(str, counts))
        self._console.print(table)

    def _heading(self, text: str) -> None:
        self._console.print()
        self._say(text, "bold")

    def _say(self, text: str, style: str = "", styled: int | None = None) -> None:
        """Print a line, folded with an indent; `styled` characters of it have the style."""
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        lines = wrap(
            text,
            self._console.width,
            subsequent_indent=indent,
            drop_whitespace=True,
            replace_whitespace=False,
            break_on_hyphens=False,
        )
        for number, line in enumerate(lines or [""]):
            shown = Text(line)
            if styled is None or number == 0:
                shown.stylize(style, 0, styled)
            self._console.print(shown, soft_wrap=True)
