"""Where mosquitto and iotd differ, trace by trace, and who is right: data/differences.tsv.

docs/doctor.md has it. What the table says is checked by a test that plays every trace to mosquitto.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from conformance._scenario import VERSIONS
from conformance._statements import DATA

PEER = "mosquitto 2.0.11"
TABLE = DATA / "differences.tsv"

KINDS = {
    "breaks": "It breaks the standard",
    "unchecked": "It does not check",
    "reason": "It does not say why, or says something else",
    "choice": "The standard allows both",
    "silent": "The standard does not say",
}
FAILING = frozenset({"breaks", "unchecked", "reason"})
"""Kinds of differences with which a trace may fail."""
PASSING = frozenset({"reason", "choice", "silent"})
"""Kinds of differences with which a trace may pass."""
_EXPLAINED = {
    "breaks": "What it does is against the statement named.",
    "unchecked": "The standard calls it an error, and what notices an error closes; how much a "
    "receiver checks it leaves open (4.13.1 of MQTT 5.0).",
    "reason": "The connection ends as it must. The reason should be given with it, and which one "
    "it is the standard says (4.13.1 of MQTT 5.0).",
    "choice": "The trace has both as alternatives; iotd's own comes first there.",
    "silent": "No statement decides; what iotd does is its choice.",
}


@dataclass(frozen=True)
class DifferenceRow:
    """One scenario in which the peer does not do what iotd does."""

    version: str
    """The version of MQTT that the scenario is about, as `VERSIONS` has it."""
    scenario: str
    """Its full name; one that ends with /* stands for all its cases that have no row."""
    kind: str
    statement: str
    note: str

    def covers(self, full_name: str) -> bool:
        """Whether the row speaks of this scenario."""
        if self.scenario.endswith("/*"):
            return full_name.startswith(self.scenario[:-1])
        return full_name == self.scenario


def load_differences() -> list[DifferenceRow]:
    """The rows of data/differences.tsv. Raises ValueError for what there is not."""
    with TABLE.open(encoding="utf-8", newline="") as lines:
        rows = [
            DifferenceRow(
                row["version"], row["scenario"], row["kind"], row["statement"], row["note"]
            )
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    for row in rows:
        if row.kind not in KINDS:
            raise ValueError(f"{row.scenario} is {row.kind!r}; allowed: {', '.join(KINDS)}")
        if row.version not in VERSIONS:
            raise ValueError(
                f"{row.scenario} is of {row.version!r}; allowed: {', '.join(VERSIONS)}"
            )
    return rows


def row_for(rows: Sequence[DifferenceRow], full_name: str) -> DifferenceRow | None:
    """The row that speaks of a scenario; one of its own comes before one for all cases."""
    found = [row for row in rows if row.covers(full_name)]
    return min(found, key=lambda row: row.scenario.endswith("/*"), default=None)


def render(rows: Sequence[DifferenceRow]) -> str:
    """The part of the page: Markdown with headings of the third level and below."""
    parts: list[str] = []
    for version in VERSIONS:
        parts.append(f"\n### {PEER}, MQTT {version}\n")
        for kind, title in KINDS.items():
            chosen = [row for row in rows if (row.version, row.kind) == (version, kind)]
            if not chosen:
                continue
            parts.append(f"\n#### {title}\n\n{_EXPLAINED[kind]}\n")
            parts.append("\n| trace | statement | what differs |\n| --- | --- | --- |\n")
            parts += [f"| `{row.scenario}` | {row.statement} | {row.note} |\n" for row in chosen]
    return "".join(parts).lstrip("\n")
