"""What an examination means: statement by statement, what is obeyed, broken and not tested."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from conformance._player import Outcome, Result
from conformance._readable import NAMES, notation
from conformance._scenario import VERSIONS, Scenario
from conformance._statements import Statement, load_statements, load_unnumbered
from conformance.doctor import Examination

OBEYED, BROKEN, SUSPECT, UNTESTED = "obeyed", "broken", "perhaps broken", "not tested"
"""What may be known of a statement. A scenario that fails shows that one of its statements is
broken: where it has one only, that one; of several, perhaps each.
"""
NO_TRACE = "no trace tests it against a live broker"
NEEDS_SETTING = "needs a setting:"
_UNSET = "the broker has not "
_SHOWN_BYTES = 120


@dataclass(frozen=True)
class Failure:
    """A scenario that the broker has failed."""

    scenario: str
    about: str
    statements: tuple[str, ...]
    """Full ids. Where there are several, at least one of them is broken."""
    place: str
    """File and line of the trace."""
    expected: str
    got: str
    passed: tuple[str, ...]
    """The last packets before that, one line each."""


@dataclass(frozen=True)
class Verdict:
    """What is known of one statement."""

    statement: Statement
    state: str
    played: int = 0
    """Scenarios about it that were played to their end."""
    failures: tuple[str, ...] = ()
    """Names of those that failed."""
    reason: str = ""
    """Why it was not tested."""


@dataclass(frozen=True)
class Findings:
    """All of it."""

    examination: Examination
    verdicts: Sequence[Verdict]
    failures: dict[str, Failure] = field(default_factory=dict)
    """By the scenario's name."""

    @property
    def is_healthy(self) -> bool:
        """Nothing was seen to be wrong."""
        return not (self.failures or self.examination.gone or self.examination.strays)

    def of(self, version: str, state: str) -> list[Verdict]:
        """The verdicts on a version's statements that have this state."""
        return [
            one for one in self.verdicts if one.statement.version == version and one.state == state
        ]


def statements_of(version: str) -> list[Statement]:
    """The statements that bind a server, in the order of the standard."""
    found = load_statements(version) + (load_unnumbered() if version == "v5" else [])
    return [one for one in found if one.binds != "client"]


_SERVER_IDS = frozenset(one.full_id for name in ("v3", "v5") for one in statements_of(name))


def is_about(scenario: Scenario, version: str, ids: Iterable[str]) -> bool:
    """Whether a scenario is of this version ("" for any) and about one of the statements, if any.

    An id has a version in front ("v3 MQTT-4.3.2-2") or has not.
    """
    if version and scenario.version != VERSIONS[version]:
        return False
    wanted = set(ids)
    named = {name for full_id in scenario.proves for name in (full_id, full_id.partition(" ")[2])}
    return not wanted or bool(wanted & named)


def findings_of(examination: Examination, ids: Iterable[str] = ()) -> Findings:
    """Judge what was found; with `ids`, these statements alone."""
    results: dict[str, list[Result]] = defaultdict(list)
    for result in examination.results:
        for full_id in result.scenario.proves:
            results[full_id].append(result)
    wanted = set(ids)
    versions = {one.scenario.version for one in examination.results}
    verdicts = [
        _verdict(statement, results[statement.full_id])
        for version in ("v3", "v5")
        if version in versions
        for statement in statements_of(version)
        if not wanted or statement.id in wanted or statement.full_id in wanted
    ]
    failed = [one for one in examination.results if one.outcome is Outcome.FAILED]
    failures = {one.scenario.full_name: _failure(one) for one in failed}
    return Findings(examination, verdicts, failures)


def _verdict(statement: Statement, results: Sequence[Result]) -> Verdict:
    failed = [one.scenario for one in results if one.outcome is Outcome.FAILED]
    played = [one for one in results if one.outcome is not Outcome.SKIPPED]
    if failed:
        failed.sort(key=lambda one: len(_for_servers(one.proves)))  # what says most comes first
        state = BROKEN if len(_for_servers(failed[0].proves)) == 1 else SUSPECT
        names = tuple(one.full_name for one in failed)
        return Verdict(statement, state, len(played), names)
    if played:
        return Verdict(statement, OBEYED, len(played))
    return Verdict(statement, UNTESTED, reason=_why_untested(results))


def _why_untested(results: Iterable[Result]) -> str:
    reasons = dict.fromkeys(one.detail.strip().removeprefix("skipped because ") for one in results)
    settings = [one.removeprefix(_UNSET) for one in reasons if one.startswith(_UNSET)]
    others = [one for one in reasons if not one.startswith(_UNSET)]
    if settings:
        others.append(f"{NEEDS_SETTING} {' or '.join(settings)}")
    return "; ".join(others) or NO_TRACE


def _for_servers(full_ids: Iterable[str]) -> set[str]:
    """Those of the statements that bind a server."""
    return set(full_ids) & _SERVER_IDS


def _failure(result: Result) -> Failure:
    scenario, difference = result.scenario, result.difference
    line = difference.line if difference else scenario.line
    return Failure(
        scenario.full_name,
        scenario.about,
        scenario.proves,
        f"{scenario.path.parent.name}/{scenario.path.name}:{line}",
        difference.expected if difference else "",
        difference.actual if difference else result.detail.strip(),
        tuple(
            f"{one.link or 'client'} {'>' if one.is_sent else '<'} {_shown(one.packet, one.level)}"
            for one in result.passed
        ),
    )


def _shown(packet: bytes, level: int) -> str:
    """The packet's name and its bytes; of a long one the beginning."""
    if len(packet) > _SHOWN_BYTES:
        text = f"{packet[:_SHOWN_BYTES].hex(' ')} ... ({len(packet):,} bytes)"
    else:
        text = notation(packet, level)
    return f"{NAMES[packet[0] >> 4]}  {text}"
