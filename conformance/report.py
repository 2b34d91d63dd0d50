"""Findings as JSON for machines, and as Markdown for an issue or a page."""

from collections.abc import Iterable, Sequence

from conformance.doctor import NAMES
from conformance.findings import BROKEN, OBEYED, SUSPECT, UNTESTED, Failure, Findings, Verdict

FORM = 1
_STATES = (OBEYED, BROKEN, SUSPECT, UNTESTED)
_SHOWN_PACKETS = 4
"""Packets that a report for people shows before a failure."""


def as_json(findings: Findings, date: str) -> dict[str, object]:
    """Everything, in types that JSON has. `date` is in the form of ISO 8601."""
    examination = findings.examination
    return {
        "doctor": FORM,
        "date": date,
        "broker": examination.address,
        "speaks": [NAMES[version] for version in examination.versions],
        "seconds": round(examination.seconds, 1),
        "summary": [
            dict(zip(("version", *_STATES), (NAMES[version], *counts), strict=True))
            for version, counts in summary(findings)
        ],
        "statements": [_statement(one) for one in findings.verdicts],
        "failures": [_failure(one) for one in findings.failures.values()],
        "unsteady": [one.scenario.full_name for one in examination.unsteady],
        "strays": examination.strays,
        "left_behind": examination.left_behind,
        "gone": examination.gone,
        "playing_when_gone": examination.playing_when_gone,
    }


def summary(findings: Findings) -> list[tuple[str, tuple[int, ...]]]:
    """For each version how many statements are obeyed, broken, perhaps broken, not tested."""
    versions = dict.fromkeys(one.statement.version for one in findings.verdicts)
    return [
        (version, tuple(len(findings.of(version, state)) for state in _STATES))
        for version in versions
    ]


def untested_by_reason(findings: Findings) -> list[tuple[str, list[str]]]:
    """(why, full ids), the reason with the most statements first."""
    found: dict[str, list[str]] = {}
    for one in findings.verdicts:
        if one.state == UNTESTED:
            found.setdefault(one.reason, []).append(one.statement.full_id)
    return sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))


def what_happened(failure: Failure) -> list[str]:
    """The last packets, then what should have come and what came: a line each."""
    skipped = len(failure.passed) - _SHOWN_PACKETS
    lines = [f"  ... {skipped} packets before"] if skipped > 0 else []
    lines += [f"  {line}" for line in failure.passed[-_SHOWN_PACKETS:]]
    return [*lines, f"expected  {failure.expected}", f"got       {failure.got}"]


def as_markdown(findings: Findings, date: str) -> str:
    """A page about one broker."""
    examination = findings.examination
    versions = " and ".join(NAMES[version] for version in examination.versions)
    parts = [
        f"# {examination.address}, examined on {date}\n\nIt speaks MQTT {versions}.\n\n",
        "| MQTT | obeyed | broken | perhaps broken | not tested |\n",
        "| --- | ---: | ---: | ---: | ---: |\n",
        *(
            f"| {' | '.join([NAMES[version], *map(str, counts)])} |\n"
            for version, counts in summary(findings)
        ),
    ]
    for state in (BROKEN, SUSPECT):
        rows = [one for one in findings.verdicts if one.state == state]
        if rows:
            parts.append(f"\n## {state.capitalize()}\n\n")
            parts += [_paragraph(one, findings.failures) for one in rows]
    reasons = untested_by_reason(findings)
    if reasons:
        parts.append("\n## Not tested\n\n| why | statements |\n| --- | --- |\n")
        parts += [f"| {_cell(reason)} | {', '.join(ids)} |\n" for reason, ids in reasons]
    notes = remarks(findings)
    if notes:
        parts += ["\n## Remarks\n\n", *(f"- {note}\n" for note in notes)]
    return "".join(parts)


def remarks(findings: Findings) -> list[str]:
    """What else there is to say of the examination."""
    examination = findings.examination
    notes = []
    if examination.gone:
        playing = ", ".join(examination.playing_when_gone)
        notes.append(f"The broker stopped accepting connections; then were played: {playing}")
    if examination.strays:
        notes.append(
            f"{examination.strays} times a client was sent a message that only clients of another "
            "scenario had subscribed to (MQTT-3.3.2-3); it was passed over"
        )
    if examination.unsteady:
        names = ", ".join(one.scenario.full_name for one in examination.unsteady)
        notes.append(f"Failed, and passed when played again, so not counted: {names}")
    notes += [f"Left on the broker: {what}" for what in examination.left_behind]
    return notes


def _paragraph(verdict: Verdict, failures: dict[str, Failure]) -> str:
    statement = verdict.statement
    failure = failures[verdict.failures[0]]
    lines = "\n".join(what_happened(failure))
    return (
        f"**{statement.id}** (MQTT {NAMES[statement.version]}): {statement.paraphrase}\n"
        f"{_others(verdict)}\n```\n{lines}\n```\n\n"
    )


def _others(verdict: Verdict) -> str:
    name, *others = verdict.failures
    more = f" and {len(others)} more" if others else ""
    return f"`{name}`{more}, of {verdict.played} played:\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _statement(verdict: Verdict) -> dict[str, object]:
    statement = verdict.statement
    fields: dict[str, object] = {
        "version": NAMES[statement.version],
        "id": statement.id,
        "asks": statement.paraphrase,
        "state": verdict.state,
        "played": verdict.played,
    }
    if verdict.failures:
        fields["failed"] = list(verdict.failures)
    if verdict.reason:
        fields["reason"] = verdict.reason
    return fields


def _failure(failure: Failure) -> dict[str, object]:
    return {
        "scenario": failure.scenario,
        "about": failure.about,
        "place": failure.place,
        "statements": _list(failure.statements),
        "packets": _list(failure.passed),
        "expected": failure.expected,
        "got": failure.got,
    }


def _list(items: Iterable[str]) -> Sequence[str]:
    return list(items)
