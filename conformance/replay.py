"""Plays a recording again, against another broker or the same one, and says what differs.

Clients send what they sent; identifiers that a broker chooses are those of this broker. A client
waits for what it got before it does the next thing, and for a moment for what others got. Unlike a
conformance run it goes on after a difference.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from conformance._items import Literal, NotationError, Scope
from conformance._link import Link
from conformance._notation import Pattern
from conformance._player import Difference, DifferenceError, Player
from conformance._readable import describe
from conformance._scenario import Act, AnyOrder, Expect, Scenario, Send, State, Step
from conformance._socket_peer import SocketPeer
from conformance._trace import parse_trace
from conformance.recording import SENT, Occurrence, RecordingError, trace_text

__all__ = ["Difference", "PacedPeer", "TooDifferentError", "replay", "scenario_of"]

SOON_S = 0.5
"""How long others wait for what one client has not been sent yet: brokers may deliver later."""
MOST_DIFFERENCES = 20
"""A replay with more has left its recording; it ends there."""


_PUBLISH = 3


class TooDifferentError(Exception):
    """There are so many differences that going on says nothing."""

    def __init__(self, differences: list[Difference]) -> None:
        super().__init__(len(differences))
        self.differences = differences


class PacedPeer(SocketPeer):
    """A broker to which clients speak when they did in the recording, or sooner.

    `speed` 2 is twice as fast; 0 is without any pause. Waiting for an answer is no pause: the next
    packet leaves at its time, or at once when that is over.
    """

    def __init__(self, address: tuple[str, int], speed: float) -> None:
        super().__init__(address, can=("live", "alone", "fake clock"))
        self._speed = speed
        self._next_s = time.monotonic()

    def pass_time(self, seconds: float) -> None:
        """Wait until the time that is `seconds` of the recording after the last one."""
        if self._speed:
            self._next_s += seconds / self._speed
            left_s = self._next_s - time.monotonic()
            if left_s > 0:
                super().pass_time(left_s)


def scenario_of(occurrences: Sequence[Occurrence], path: Path) -> tuple[Scenario, list[str]]:
    """A scenario that sends what a recording has sent, and its lines.

    Raises RecordingError where it has nothing to send.
    """
    if not any(one.what == SENT for one in occurrences):
        raise RecordingError(f"{path}: nothing to play; no client has sent anything")
    text = trace_text(occurrences, "replay", is_paced=True)
    (scenario,) = parse_trace(path, text)
    return scenario, text.splitlines()


def replay(
    scenario: Scenario, lines: Sequence[str], address: tuple[str, int], speed: float
) -> list[Difference]:
    """What differs, in the order in which it was met.

    Raises OSError where no broker listens, TooDifferentError.
    """
    peer = PacedPeer(address, speed)
    player = _Replayer(scenario, peer, lines)
    try:
        player.run(scenario.steps)
        player.settle_all()
        player.check_every_end()
    finally:
        player.finish()
    return player.differences


class _Replayer(Player):
    def __init__(self, scenario: Scenario, peer: PacedPeer, lines: Sequence[str]) -> None:
        super().__init__(scenario, peer, Scope(), 2.0)
        self.lines = lines
        self.differences: list[Difference] = []
        self.queues: dict[str, list[Step]] = {}
        """What each connection has still to do, where something that it waits for has not come."""

    def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            name = _link_of(step)
            if name is None:
                self.try_step(step)
                continue
            queue = self.queues.setdefault(name, [])
            is_waiting = bool(queue)
            queue.append(step)
            self.go_on(name, 0.0 if is_waiting else SOON_S)
            for other in self.queues:
                self.go_on(other, 0.0)

    def settle_all(self) -> None:
        """Do what is still to be done; what nothing else can bring any more is waited for last."""
        while waiting := [name for name, queue in self.queues.items() if queue]:
            have_moved = [self.go_on(name, SOON_S) for name in waiting]
            if not any(have_moved):
                self.try_step(self.queues[waiting[0]].pop(0))

    def go_on(self, name: str, wait_s: float) -> bool:
        """Do what a connection can do now, or after so long; whether there was anything."""
        queue, has_moved = self.queues[name], False
        while queue and self.can_do(name, queue[0], wait_s):
            self.try_step(queue.pop(0))
            has_moved = True
        return has_moved

    def can_do(self, name: str, step: Step, wait_s: float) -> bool:
        link = self.links.get(name)
        if link is None or isinstance(step, Send | Act):
            return True
        expected = step.steps if isinstance(step, AnyOrder) else (step,)
        patterns = [one.pattern for one in expected if isinstance(one, Expect)]
        within_s = max(getattr(one, "within_s", 0.0) for one in expected)
        return self.peer.wait_until(
            lambda: (
                link.is_closed
                or bool(patterns and all(self.is_decided(link, one) for one in patterns))
            ),
            max(wait_s, within_s) if wait_s else 0.0,
        )

    def try_step(self, step: Step) -> None:
        try:
            self.step(step)
        except DifferenceError as error:
            self.note(error)
            self.abandon(step)
        except NotationError:
            pass  # It answers what has not come, which is a difference already.

    def note(self, error: DifferenceError) -> None:
        source = self.lines[error.line - 1].strip() if error.line else ""
        self.differences.append(Difference(error.line, source, error.expected, error.actual))
        if len(self.differences) >= MOST_DIFFERENCES:
            raise TooDifferentError(self.differences)

    def abandon(self, step: Step) -> None:
        """A connection that the recording ends here ends, whatever has come on it."""
        if isinstance(step, State | Act) and step.link in self.links:
            self.links.pop(step.link).cut()

    def expect(self, step: Expect) -> None:
        """As in a run, but find the place from which the two exchanges go on alike."""
        link = self.link(step.link, step.line)
        for pattern in step.pattern.split():
            self.wait_for(partial(self.is_decided, link, pattern), step.within_s)
            index = self.find(link, pattern)
            if index is None:
                raise DifferenceError(
                    step.line, self.wanted(pattern, link), self.take_instead(link, pattern)
                )
            extra = [link.packets.popleft() for _ in range(index)]
            pattern.match(link.packets.popleft(), self.scope)
            for packet in extra:
                came = describe(packet, link.level)
                self.note(DifferenceError(step.line, "nothing else before", came))

    def is_decided(self, link: Link, pattern: Pattern) -> bool:
        """What is wanted has come, or can no longer come."""
        if link.is_closed or self.find(link, pattern) is not None:
            return True
        # An answer with something else in it is no other answer; a message may be another one.
        types = _types(pattern) - {_PUBLISH}
        return any(packet[0] >> 4 in types for packet in link.packets)

    def find(self, link: Link, pattern: Pattern) -> int | None:
        """Where among the packets that have come the one is that is wanted."""
        for index, packet in enumerate(link.packets):
            trial = Scope(self.scope.prefix, dict(self.scope.values))
            if pattern.match(packet, trial) is not None:
                return index
        return None

    def take_instead(self, link: Link, pattern: Pattern) -> str:
        """What came in the place of what was wanted: a packet of the same type, or nothing."""
        for index, packet in enumerate(link.packets):
            if packet[0] >> 4 in _types(pattern):
                del link.packets[index]
                return describe(packet, link.level)
        return self.absent(link)

    def check_every_end(self) -> None:
        """What has come on each connection, and is not in the recording."""
        self.peer.settle(self.links.values(), False)
        for name, link in self.links.items():
            for packet in link.packets:
                came = describe(packet, link.level)
                self.note(DifferenceError(0, f"nothing more for {name}", came))


def _link_of(step: Step) -> str | None:
    """The connection that a step of a recording is about."""
    match step:
        case AnyOrder(_, (first, *_)):
            return first.link
        case Send() | Expect() | Act() | State():
            return step.link
        case _:
            return None


def _types(pattern: Pattern) -> set[int]:
    """The packet types that a pattern of a recording allows."""
    firsts = [items[0] for items in pattern.packets[0]]
    return {item.data[0] >> 4 for item in firsts if isinstance(item, Literal)}
