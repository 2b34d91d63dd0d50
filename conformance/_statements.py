"""The statements of the standards, and what each table row says (conformance/data).

MQTT 5.0 calls many things a Protocol Error or a Malformed Packet in sentences that have no number.
Those have ids of our own: P5, the section, a counter.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"
_FILES = {"v3": "normative-3.1.1.tsv", "v5": "normative-5.0.tsv"}


@dataclass(frozen=True)
class Statement:
    """One statement. `paraphrase` is in our words: the standard's text decides."""

    version: str
    id: str
    binds: str
    """Who must obey it: "client", "server" or "both"."""
    paraphrase: str
    test: str
    """How to check it with bytes."""
    section: str = ""
    """The section that it stands in, where its id does not say so in full."""
    reason: str = ""
    """The reason code that answers a breach, two hexadecimal digits, where it names one."""

    @property
    def full_id(self) -> str:
        """The id with its version in front, as traces and comments write it: "v3 MQTT-4.3.2-2"."""
        return f"{self.version} {self.id}"


@dataclass(frozen=True)
class Unmet:
    """A statement whose condition does not hold: it speaks of something this project has not."""

    full_id: str
    condition: str
    """What is missing."""
    until: str
    """What will bring it, and what of the statement is shown already."""


def load_statements(version: str) -> list[Statement]:
    """All statements of a version, "v3" (3.1.1) or "v5" (5.0), in the standard's order."""
    return [
        Statement(version, row["id"], row["binds"], row["paraphrase"], row["test"])
        for row in _rows(_FILES[version])
    ]


def load_unnumbered() -> list[Statement]:
    """The sentences of MQTT 5.0 without a number. Who is bound is who meets the error."""
    return [
        Statement(
            "v5",
            row["id"],
            row["binds"],
            row["paraphrase"],
            row["test"],
            row["section"],
            row["reason"],
        )
        for row in _rows("unnumbered-5.0.tsv")
    ]


def load_unmet() -> list[Unmet]:
    """The statements that are about what this project has not."""
    return [Unmet(row["id"], row["condition"], row["until"]) for row in _rows("unmet.tsv")]


def _rows(file: str) -> list[dict[str, str]]:
    with (DATA / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
