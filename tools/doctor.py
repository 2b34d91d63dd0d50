"""Writes the tables of docs/doctor.md: what `iotd doctor` finds wrong with other brokers.

`python -m tools.doctor` writes them from docs/doctor/*.json, `--check` only says whether they are
up to date. `--examine NAME ...` starts these brokers first, as for the benchmarks, examines them,
and writes what it found into those files: `--examine mosquitto aedes amqtt iotd`. How to install
them is said in benchmarks/README.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from benchmarks import brokers
from conformance import load_traces
from conformance.differences import load_differences
from conformance.differences import render as render_differences
from conformance.doctor import NAMES, Doctor
from conformance.findings import (
    BROKEN,
    OBEYED,
    SUSPECT,
    UNTESTED,
    Failure,
    Verdict,
    findings_of,
    statements_of,
)
from conformance.report import as_json
from tools._page import ROOT, finish, table, with_parts

PAGE: Final = ROOT / "docs" / "doctor.md"
RESULTS: Final = ROOT / "docs" / "doctor"
COMMAND: Final = "python -m tools.doctor"
STATES: Final = (OBEYED, BROKEN, SUSPECT, UNTESTED)
LONGEST_CELL: Final = 70


@dataclass(frozen=True)
class Peer:
    """A broker to examine."""

    started_as: str
    """Its name in `benchmarks.brokers`."""
    version: Callable[[], str]


def _said(program: str, *arguments: str) -> str:
    """The first version number that a program prints."""
    places = (str(brokers.PEERS / ".venv" / "bin"), os.environ.get("PATH", ""), "/usr/sbin")
    found_at = shutil.which(program, path=os.pathsep.join(places)) or program
    done = subprocess.run([found_at, *arguments], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "of unknown version"


def _aedes() -> str:
    package = brokers.PEERS / "node_modules" / "aedes" / "package.json"
    return str(json.loads(package.read_text(encoding="utf-8"))["version"])


PEERS: Final = {
    "mosquitto": Peer("mosquitto-nodelay", lambda: _said("mosquitto", "-h")),
    "aedes": Peer("aedes", _aedes),
    "amqtt": Peer("amqtt", lambda: _said("amqtt", "--version")),
    "iotd": Peer("iotd-pure", lambda: _said(sys.executable, "-m", "iotd", "--version")),
}


def examine(name: str) -> dict[str, object]:
    """Start a broker, examine it, and return what the page needs of what was found."""
    peer = PEERS[name]
    with brokers.started([peer.started_as], None) as (broker,):
        doctor = Doctor(("127.0.0.1", broker.port))
        found = doctor.examine([one for one in load_traces() if one.role == "server"])
    findings = findings_of(found)
    report = as_json(findings, f"{datetime.now(UTC):%Y-%m-%d}")
    states: dict[str, dict[str, str]] = {NAMES["v3"]: {}, NAMES["v5"]: {}}
    for verdict in findings.verdicts:
        states[NAMES[verdict.statement.version]][verdict.statement.id] = verdict.state
    kept = ("date", "speaks", "seconds", "summary", "unsteady", "strays", "gone")
    left = [_without_prefix(text) for text in found.left_behind]
    return {
        "broker": name,
        "version": peer.version(),
        **{key: report[key] for key in kept},
        "left_behind": left,
        "states": states,
        "examples": [
            _example(one, findings.failures[one.failures[0]])
            for one in findings.verdicts
            if one.failures
        ],
    }


def _example(verdict: Verdict, failure: Failure) -> dict[str, object]:
    """One scenario for a statement. What differs in each run is left out."""
    return {
        "version": NAMES[verdict.statement.version],
        "id": verdict.statement.id,
        "state": verdict.state,
        "failed": len(verdict.failures),
        "played": verdict.played,
        "scenario": failure.scenario,
        "expected": _without_prefix(failure.expected),
        "got": _without_prefix(failure.got),
    }


def _without_prefix(text: str) -> str:
    """A name without the numbers that differ in each run."""
    return re.sub(r"'[0-9a-f]{6}\d+/?", "'", text)


@dataclass(frozen=True)
class Result:
    """What one file says."""

    name: str
    fields: dict[str, object]

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.fields['version']}"

    def states(self, version: str) -> dict[str, str]:
        """What is known of each statement of a version, by its id."""
        return cast("dict[str, dict[str, str]]", self.fields["states"])[version]

    def speaks(self, version: str) -> bool:
        """Whether the broker speaks this version of MQTT."""
        return version in cast("list[str]", self.fields["speaks"])


def load(folder: Path) -> list[Result]:
    """The results, in the order of `PEERS`."""
    return [
        Result(name, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
        for name in PEERS
    ]


def summary(results: Sequence[Result]) -> str:
    """How many statements each broker obeys and breaks."""
    rows = []
    for result in results:
        for line in cast("list[dict[str, object]]", result.fields["summary"]):
            is_spoken = result.speaks(str(line["version"]))
            counts = [str(line[state]) if is_spoken else "" for state in STATES]
            counts[-1] = counts[-1] or "all: it does not speak it"
            rows.append([result.title, str(line["version"]), *counts, str(result.fields["date"])])
    return table(["broker", "MQTT", *STATES, "examined on"], rows)


def by_statement(results: Sequence[Result], version: str) -> str:
    """The statements of a version that at least one of the brokers breaks."""
    spoken = [one for one in results if one.speaks(version)]
    rows = []
    for statement in statements_of(next(name for name in NAMES if NAMES[name] == version)):
        cells = [one.states(version).get(statement.id, "") for one in spoken]
        if not {BROKEN, SUSPECT}.isdisjoint(cells):
            shown = [f"**{cell}**" if cell == BROKEN else cell for cell in cells]
            rows.append([statement.id, statement.paraphrase, *shown])
    return table(["statement", "what it asks", *(one.title for one in spoken)], rows)


def details(result: Result) -> str:
    """One scenario for each statement that a broker breaks, with what it did."""
    rows = []
    for one in cast("list[dict[str, str]]", result.fields["examples"]):
        mark = "" if one["state"] == BROKEN else "perhaps "
        name = f"{mark}{one['id']} ({one['version']})"
        seen = [f"`{_short(one[key])}`" for key in ("expected", "got")]
        rows.append([name, f"`{one['scenario']}`", f"{one['failed']} of {one['played']}", *seen])
    parts = [f"### What {result.title} did\n\n"]
    heads = ["statement", "for example", "failed", "expected", "got"]
    parts.append(table(heads, rows) if rows else "Nothing was wrong.\n")
    unsteady = cast("list[str]", result.fields["unsteady"])
    if unsteady:
        parts.append(
            f"\n{len(unsteady)} scenarios failed when many were played at a time and passed when "
            "few were; they do not count.\n"
        )
    if result.fields["strays"]:
        parts.append(
            f"\n{result.fields['strays']} times it sent a client a message that only clients of "
            "other scenarios had subscribed to (MQTT-3.3.2-3); these were passed over.\n"
        )
    left = cast("list[str]", result.fields["left_behind"])
    if left:
        parts.append(f"\nCould not be removed: {', '.join(left)}.\n")
    return "".join(parts)


def _short(text: str) -> str:
    """What fits into a cell."""
    plain = text.replace("`", "'")
    return plain if len(plain) <= LONGEST_CELL else plain[: LONGEST_CELL - 4] + " ..."


def page(text: str, results: Sequence[Result]) -> str:
    """The page with its tables."""
    return with_parts(
        text,
        {
            "summary": summary(results),
            "statements of 3.1.1": by_statement(results, "3.1.1"),
            "statements of 5.0": by_statement(results, "5.0"),
            "details": "\n".join(map(details, results)),
            "differences": render_differences(load_differences()),
        },
    )


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` say that it is stale. Returns the exit code."""
    if arguments[:1] == ["--examine"]:
        for name in arguments[1:] or list(PEERS):
            print(f"examining {name}", file=sys.stderr)
            text = json.dumps(examine(name), indent=1) + "\n"
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
        arguments = []
    text = page(PAGE.read_text(encoding="utf-8"), load(RESULTS))
    return finish(PAGE, text, arguments, COMMAND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
