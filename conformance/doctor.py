"""Plays every trace to a broker that somebody has started, and says which statements it breaks.

Scenarios share the broker, many at a time, so their topics and client ids get a prefix. A scenario
that fails is played once more: what fails twice counts. What a scenario leaves behind is removed,
and at the end a subscriber to everything looks for what is there and was not before.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from conformance._link import Link
from conformance._player import Outcome, Result, play
from conformance._probe import Retained, clear_retained, retained_topics, speaks, topic_of
from conformance._scenario import Scenario
from conformance._side_by_side import play_side_by_side
from conformance._socket_peer import SocketLink, SocketPeer

TIME_S = 300.0
"""How long an examination may take."""
NAMES = {"v3": "3.1.1", "v5": "5.0"}
_LEVELS = {"v3": 4, "v5": 5}
_SECOND_ROUND = 4
"""How many scenarios at a time when those that failed are played again."""


class CannotExamineError(Exception):
    """The broker cannot be examined at all. The message says what to do."""


@dataclass
class Examination:
    """What was found out."""

    address: str
    versions: tuple[str, ...]
    """The versions of MQTT that the broker speaks, of those asked for: "v3", "v5"."""
    results: list[Result] = field(default_factory=list)
    unsteady: list[Result] = field(default_factory=list)
    """Scenarios that failed once and then passed, as they failed."""
    strays: int = 0
    """Messages of one scenario that clients of another were sent; they were passed over."""
    left_behind: list[str] = field(default_factory=list)
    """What is on the broker and could not be removed, in words."""
    gone: bool = False
    """The broker no longer accepts connections."""
    playing_when_gone: list[str] = field(default_factory=list)
    """The scenarios that were played when that was first seen."""
    seconds: float = 0.0


class OutOfTimeError(Exception):
    """No time is left for this scenario."""


Progress = Callable[[int, int], None]
"""Called with how many scenarios are done, and of how many, from any thread."""


class Doctor:
    """One examination of one broker."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        settings: dict[str, str] | None = None,
        time_s: float = TIME_S,
        progress: Progress = lambda done, total: None,
    ) -> None:
        self._address = address
        self._settings = settings or {}
        self._deadline = time.monotonic() + time_s
        self._progress = progress
        self._run = secrets.token_hex(3)
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0
        self._playing: dict[int, str] = {}
        self._left: list[str] = []
        host, port = address
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._examination = Examination(where, ())

    def examine(self, scenarios: Sequence[Scenario]) -> Examination:
        """Play them. Raises CannotExamineError where the broker takes no anonymous client."""
        began = time.monotonic()
        found = self._examination
        wanted = [name for name in NAMES if any(one.version == name for one in scenarios)]
        found.versions = tuple(self._spoken(wanted))
        before = retained_topics(self._address)
        mine = [one for one in scenarios if one.role == "server"]
        self._total = len(mine)
        first = list(play_side_by_side(mine, self._play))
        failed = {id(one.scenario): one for one in first if one.outcome is Outcome.FAILED}
        again = [one.scenario for one in first if id(one.scenario) in failed]
        self._total += len(again)
        second = {
            id(one.scenario): one
            for one in play_side_by_side(again, self._play, players=_SECOND_ROUND)
        }
        for one in first:
            repeated = second.get(id(one.scenario), one)
            if one.outcome is Outcome.FAILED and repeated.outcome is Outcome.PASSED:
                found.unsteady.append(one)
            # Where no time was left for the second try, the first one counts.
            found.results.append(one if repeated.outcome is Outcome.SKIPPED else repeated)
        found.left_behind = [*self._left, *self._sweep(before)]
        found.seconds = time.monotonic() - began
        return found

    def _spoken(self, wanted: Iterable[str]) -> list[str]:
        answers = {name: speaks(self._address, _LEVELS[name]) for name in wanted}
        spoken = [name for name, answer in answers.items() if answer == "accepted"]
        if not spoken:
            name, answer = next(iter(answers.items()))
            raise CannotExamineError(
                f"{self._examination.address} does not let a client of MQTT {NAMES[name]} in: "
                f"{answer}; name a test broker that speaks it and takes clients without a user name"
            )
        return spoken

    # One scenario.

    def _play(self, scenario: Scenario) -> Result:
        key = next(self._numbers)
        with self._lock:
            self._playing[key] = scenario.full_name
        try:
            return self._play_or_skip(scenario, key)
        finally:
            with self._lock:
                del self._playing[key]
                self._done += 1
                done, total = self._done, self._total
            self._progress(done, total)

    def _play_or_skip(self, scenario: Scenario, key: int) -> Result:
        def skipped(reason: str) -> Result:
            return Result(scenario, Outcome.SKIPPED, f"  skipped because {reason}")

        if scenario.version not in self._examination.versions:
            return skipped(f"the broker does not speak MQTT {NAMES[scenario.version]}")
        if self._examination.gone:
            return skipped("the broker accepts no connections any more")
        if time.monotonic() > self._deadline:
            return skipped("no time was left")
        # Short: with the names in traces it stays under 23 bytes, which every broker takes.
        prefix = "" if "alone" in scenario.needs else f"{self._run}{key}"
        peer = SharedPeer(self._address, self._settings, self._deadline, self._run, prefix)
        try:
            return play(scenario, peer, prefix)
        except OutOfTimeError:
            return skipped("no time was left")
        except OSError as error:
            if self._is_gone():
                return skipped("the broker accepts no connections any more")
            return skipped(f"a connection could not be made: {error}")
        finally:
            with self._lock:
                self._left += peer.left_behind
                self._examination.strays += peer.strays

    def _is_gone(self) -> bool:
        """Whether nothing listens any more; the first time, note what was played."""
        try:
            speaks(self._address, _LEVELS[self._examination.versions[0]])
        except OSError:
            with self._lock:
                if not self._examination.gone:
                    self._examination.gone = True
                    self._examination.playing_when_gone = sorted(self._playing.values())
            return True
        return False

    def _sweep(self, before: Retained) -> list[str]:
        """Remove retained messages that were not there before; what stays, in words."""
        if self._examination.gone:
            return ["unknown: the broker accepts no connections any more"]
        if before.is_unsure:
            return ["unknown: a subscriber to # was not shown all retained messages"]
        after = retained_topics(self._address)
        if after.topics - before.topics:
            clear_retained(self._address, after.topics - before.topics)
            after = retained_topics(self._address)
        stay = [f"a retained message on {topic!r}" for topic in after.topics - before.topics]
        lost = [
            f"no retained message on {topic!r}, which was there before"
            for topic in before.topics - after.topics
        ]
        return sorted(stay) + sorted(lost)


class SharedPeer(SocketPeer):
    """A broker that other scenarios use too, and that is waited for up to a deadline."""

    def __init__(
        self,
        address: tuple[str, int],
        settings: dict[str, str],
        deadline: float,
        run: str,
        prefix: str,
    ) -> None:
        super().__init__(address, settings=settings, shares=True)
        self._deadline = deadline
        self._run = run.encode()
        self._own = f"{prefix}/".encode()
        self.strays = 0

    def connect(self, name: str) -> Link:
        """Open a connection on which messages of other scenarios are passed over."""
        return _ApartLink(name, self)

    def is_stray(self, packet: bytes) -> bool:
        """Whether it is a message with a topic of another scenario of this run."""
        topic = topic_of(packet)
        return topic.startswith(self._run) and not topic.startswith(self._own)

    def wait_until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """As ever, but raises OutOfTimeError when the deadline comes first."""
        left_s = self._deadline - time.monotonic()
        if left_s >= patience_s:
            return super().wait_until(condition, patience_s)
        if super().wait_until(condition, max(left_s, 0)):
            return True
        raise OutOfTimeError


class _ApartLink(SocketLink):
    def __init__(self, name: str, peer: SharedPeer) -> None:
        super().__init__(name, peer)
        self._peer = peer

    def note_received(self, data: bytes) -> None:
        """Leave out what would blame this scenario for the messages of another."""
        super().note_received(data)
        strays = [packet for packet in self.packets if self._peer.is_stray(packet)]
        for packet in strays:
            self.packets.remove(packet)
        self._peer.strays += len(strays)
