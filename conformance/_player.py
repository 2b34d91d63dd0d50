"""Plays a scenario against a peer, step by step, and says what differed."""

import linecache
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from conformance._items import Literal, NotationError, Scope
from conformance._link import Link, Passed, Peer
from conformance._notation import Pattern, parse_pattern
from conformance._readable import MQTT_5, NAMES, describe
from conformance._scenario import (
    Act,
    AnyOrder,
    Call,
    Distinct,
    Either,
    EventIs,
    Expect,
    Forget,
    Joins,
    Refused,
    Repeat,
    Scenario,
    Send,
    State,
    Step,
    Subscribes,
    Wait,
)

PATIENCE_S = 2.0
"""How long a live peer has for its answer."""
MOST_PASSED = 30
"""How many packets before a difference are kept."""
_PROPERTIES = {
    "clean": "[]",
    "keep": "[session-expiry-interval 300]",
    "resume": "[session-expiry-interval 300]",
}
"""What `joins` sends in CONNECT, by its mode, where the line does not say it."""


class Outcome(Enum):
    """How a scenario went."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Difference:
    """What came is not what the trace says at a line."""

    line: int
    source: str
    """The line's text."""
    expected: str
    actual: str


@dataclass
class Result:
    """What became of one scenario."""

    scenario: Scenario
    outcome: Outcome
    detail: str = ""
    choices: list[int] = field(default_factory=list)
    """Lines at which the peer took another alternative than iotd does."""
    difference: Difference | None = None
    """What failed; None also where a trace itself is wrong."""
    passed: tuple[Passed, ...] = ()
    """The last packets before that, of all connections."""

    def report(self) -> str:
        """Lines for a person."""
        scenario = self.scenario
        place = f"{scenario.path.name}:{scenario.line}"
        text = f"{self.outcome.value:8}{scenario.full_name}  ({place})"
        return f"{text}\n{self.detail}" if self.detail else text


def play(
    scenario: Scenario, peer: Peer, prefix: str = "", patience_s: float = PATIENCE_S
) -> Result:
    """Play `scenario` against `peer` and clean up behind it."""
    reason = peer.why_not(scenario.role, scenario.needs, scenario.settings)
    if reason:
        return Result(scenario, Outcome.SKIPPED, f"  skipped because {reason}")
    player = Player(scenario, peer, Scope(prefix), patience_s)
    try:
        try:
            player.run(scenario.steps)
            player.check_the_end()
        finally:
            complaint = player.finish()
        if complaint:
            raise DifferenceError(scenario.line, "a clean end", complaint)
    except DifferenceError as error:
        detail, difference = error.explain(scenario), error.difference(scenario)
        passed = tuple(player.passed)
        return Result(scenario, Outcome.FAILED, detail, player.choices, difference, passed)
    except NotationError as error:
        return Result(scenario, Outcome.FAILED, f"  {error}", player.choices)
    return Result(scenario, Outcome.PASSED, "", player.choices)


class DifferenceError(Exception):
    """What came is not what the trace says."""

    def __init__(self, line: int, expected: str, actual: str) -> None:
        super().__init__(line, expected, actual)
        self.line = line
        self.expected = expected
        self.actual = actual

    def difference(self, scenario: Scenario) -> Difference:
        """The same as data."""
        source = linecache.getline(str(scenario.path), self.line).strip()
        return Difference(self.line, source, self.expected, self.actual)

    def explain(self, scenario: Scenario) -> str:
        """Lines for a person."""
        source = self.difference(scenario).source
        return (
            f"  {scenario.path}:{self.line}:  {source}\n"
            f"    expected  {self.expected}\n"
            f"    got       {self.actual}"
        )


class Player:
    """Plays the steps of one scenario. The first difference ends it with DifferenceError."""

    def __init__(self, scenario: Scenario, peer: Peer, scope: Scope, patience_s: float) -> None:
        self.scenario = scenario
        self.peer = peer
        self.scope = scope
        self.patience_s = patience_s
        self.links: dict[str, Link] = {}
        self.choices: list[int] = []
        self.passed: deque[Passed] = deque(maxlen=MOST_PASSED)
        self.packet_id = 60_000
        """Identifiers of what `subscribes` sends, out of the way of others."""

    def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self.step(step)

    def step(self, step: Step) -> None:
        match step:
            case Send(_, name, pattern):
                self.open_link(name).send(pattern.encode(self.scope))
            case Expect():
                self.expect(step)
            case State():
                self.check_state(step)
            case Refused():
                self.check_refused(step)
            case Act():
                self.act(step)
            case Wait(_, seconds):
                self.peer.pass_time(seconds)
            case Joins():
                self.join(step)
            case Subscribes():
                self.subscribe(step)
            case Distinct():
                self.check_distinct(step)
            case Forget(_, names):
                for name in names:
                    self.scope.values.pop(name, None)
            case AnyOrder(_, expected):
                self.any_order(expected)
            case Either():
                self.either(step)
            case Repeat(_, count, variable, repeated):
                for turn in range(1, count + 1):
                    if variable:
                        self.scope.values[variable] = turn.to_bytes(2, "big")
                    self.run(repeated)
            case Call():
                self.call(step)
            case EventIs():
                self.check_event(step)

    # Sending.

    def open_link(self, name: str) -> Link:
        """The connection `name`; a new one if there is none, or if the peer has ended it."""
        link = self.links.get(name)
        if link is None:
            link = self.links[name] = self.peer.connect(name)
            link.passed = self.passed
        return link

    def link(self, name: str, line: int) -> Link:
        link = self.links.get(name)
        if link is None:
            raise DifferenceError(line, f"a connection {name!r}", "the trace has not opened it")
        return link

    def act(self, step: Act) -> None:
        if step.action == "connect":
            if step.link in self.links:
                raise DifferenceError(step.line, "a new connection", f"{step.link!r} is still open")
            self.open_link(step.link)
            return
        link = self.link(step.link, step.line)
        match step.action:
            case "cut":
                del self.links[step.link]
                link.cut()
                self.peer.let_the_end_arrive()
            case "reset":
                del self.links[step.link]
                link.reset()
                self.peer.let_the_end_arrive()
            case "half-close":
                link.half_close()
            case "stop reading":
                link.pause(True)
            case "read":
                link.pause(False)

    def join(self, step: Joins) -> None:
        flags = "02" if step.mode == "clean" else "00"
        present = "01" if step.mode == "resume" else "00"
        connect = parse_pattern(f"10 rl s'MQTT' {step.level:02x} {flags} u60")
        if step.level == MQTT_5:
            properties = step.properties or parse_pattern(_PROPERTIES[step.mode])
            connect = _joined(connect, properties, step.client_id)
            answer = parse_pattern(f"20 rl {present} 00 [..]")
        else:
            connect = _joined(connect, step.client_id)
            answer = parse_pattern(f"20 02 {present} 00")
        self.open_link(step.link).send(connect.encode(self.scope))
        self.expect(Expect(step.line, step.link, answer))

    def subscribe(self, step: Subscribes) -> None:
        self.packet_id += 1
        link = self.link(step.link, step.line)
        request = parse_pattern(f"82 rl u{self.packet_id}")
        options = parse_pattern(f"{step.qos:02x}")
        if link.level == MQTT_5:
            properties = step.properties or parse_pattern("[]")
            packet = _joined(request, properties, step.filter, options)
            answer = parse_pattern(f"90 rl u{self.packet_id} [..] {step.qos:02x}")
        else:
            packet = _joined(request, step.filter, options)
            answer = parse_pattern(f"90 03 u{self.packet_id} {step.qos:02x}")
        link.send(packet.encode(self.scope))
        self.expect(Expect(step.line, step.link, answer))

    # What comes.

    def wait_for(self, condition: Callable[[], bool], within_s: float = 0.0) -> bool:
        return self.peer.wait_until(condition, max(self.patience_s, within_s))

    def expect(self, step: Expect) -> None:
        link = self.link(step.link, step.line)
        for pattern in step.pattern.split():
            came = self.wait_for(lambda: bool(link.packets) or link.is_closed, step.within_s)
            if not came or not link.packets:
                raise DifferenceError(step.line, self.wanted(pattern, link), self.absent(link))
            packet = link.packets.popleft()
            number = pattern.match(packet, self.scope, self.peer.is_ours)
            if number is None:
                wanted = self.wanted(pattern, link)
                raise DifferenceError(step.line, wanted, describe(packet, link.level))
            if number:
                self.choices.append(step.line)

    def wanted(self, pattern: Pattern, link: Link) -> str:
        """The pattern as packets if it is fixed, else as it is written."""
        try:
            return describe(pattern.encode(self.scope), link.level)
        except NotationError:
            first = pattern.packets[0][0][0]
            kind = f"{NAMES[first.data[0] >> 4]}  " if isinstance(first, Literal) else ""
            return kind + pattern.source

    def absent(self, link: Link) -> str:
        if link.garbage:
            return f"an unfinished packet: {link.garbage[:100].hex(' ')}"
        return "the connection was closed" if link.is_closed else "nothing"

    def check_state(self, step: State) -> None:
        link = self.link(step.link, step.line)
        match step.state:
            case "open":
                self.check_open(step, link)
            case "closed":
                self.wait_for(lambda: bool(link.packets) or link.is_closed, step.within_s)
                if link.packets or link.garbage or not link.is_closed:
                    raise DifferenceError(
                        step.line, "the end of the connection", self.present(link)
                    )
                del self.links[step.link]
                link.cut()
            case _:
                self.peer.settle(self.links.values(), self.scenario.is_timed)
                if link.packets or link.garbage or link.is_closed:
                    raise DifferenceError(step.line, "nothing", self.present(link))

    def check_open(self, step: State, link: Link) -> None:
        """A server's connection is open when a PINGREQ is answered and nothing else has come."""
        if self.peer.client is None:
            link.send(b"\xc0\x00")
            self.expect(Expect(step.line, step.link, parse_pattern("d0 00")))
        elif link.is_closed:
            raise DifferenceError(step.line, "an open connection", "the client has closed it")

    def check_refused(self, step: Refused) -> None:
        """The reason and the end. That another broker says no reason is noted: it may not say."""
        link = self.link(step.link, step.line)
        self.wait_for(lambda: bool(link.packets) or link.is_closed, step.within_s)
        if link.packets or self.peer.is_ours:
            packets = [_refusal(link, self.peer, reason) for reason in step.reasons]
            allowed = packets[:1] if self.peer.is_ours else packets
            pattern = parse_pattern(" | ".join(allowed))
            packet = link.packets.popleft() if link.packets else b""
            number = pattern.match(packet, self.scope) if packet else None
            if number is None:
                came = describe(packet, link.level) if packet else self.absent(link)
                raise DifferenceError(step.line, " or ".join(allowed), came)
            if number > 1:  # Each reason has two forms.
                self.choices.append(step.line)
        elif link.is_closed:
            self.choices.append(step.line)
        self.check_state(State(step.line, step.link, "closed", step.within_s))

    def check_distinct(self, step: Distinct) -> None:
        numbers = {name: self.scope.values.get(name, b"") for name in step.names}
        shown = " ".join(f"${name}={value.hex()}" for name, value in numbers.items())
        if len(set(numbers.values())) < len(numbers) or not all(map(any, numbers.values())):
            raise DifferenceError(step.line, "identifiers that differ, none of them zero", shown)

    def present(self, link: Link) -> str:
        return describe(link.packets[0], link.level) if link.packets else self.absent(link)

    def any_order(self, expected: Sequence[Expect]) -> None:
        waiting = list(expected)
        while waiting:
            names = {step.link for step in waiting}
            links = [self.link(name, waiting[0].line) for name in names]
            within_s = max(step.within_s for step in waiting)
            has_come = partial(_have_packets, links)
            self.wait_for(has_come, within_s)
            for link in links:
                if link.packets:
                    waiting.remove(self.first_match(waiting, link))
                    break
            else:
                step = waiting[0]
                link = self.link(step.link, step.line)
                wanted = self.wanted(step.pattern, link)
                raise DifferenceError(step.line, wanted, self.absent(link))

    def first_match(self, waiting: Sequence[Expect], link: Link) -> Expect:
        """The expectation that the next packet of `link` meets; the packet is taken."""
        packet = link.packets.popleft()
        for step in waiting:
            if step.link == link.name:
                if step.pattern.match(packet, self.scope, self.peer.is_ours) is not None:
                    return step
        wanted = [self.wanted(step.pattern, link) for step in waiting if step.link == link.name]
        raise DifferenceError(waiting[0].line, " or ".join(wanted), describe(packet, link.level))

    def either(self, step: Either) -> None:
        """Ours takes the first branch; of another peer, what comes tells which. So it does of
        both where the choice is open.
        """
        if self.peer.is_ours and not step.is_open:
            self.run(step.branches[0])
            return
        self.wait_for(lambda: any(self.is_next(branch[0]) for branch in step.branches))
        for number, branch in enumerate(step.branches):
            if self.is_next(branch[0]):
                self.take(step, number)
                return
        for number, branch in enumerate(step.branches):  # No packet: `= nothing`, `= open`.
            if isinstance(branch[0], State) and branch[0].state != "closed":
                self.take(step, number)
                return
        self.run(step.branches[0])  # It fails there, and says how.

    def take(self, step: Either, number: int) -> None:
        branch = step.branches[number]
        if number and not step.is_open:
            self.choices.append(branch[0].line)
        self.run(branch)

    def is_next(self, step: Step) -> bool:
        if isinstance(step, AnyOrder):
            return any(self.is_next(one) for one in step.steps)
        if isinstance(step, Expect):
            link = self.link(step.link, step.line)
            trial = Scope(self.scope.prefix, self.scope.values)
            first = step.pattern.split()[0]
            return bool(link.packets) and first.match(link.packets[0], trial) is not None
        if isinstance(step, State) and step.state == "closed":
            link = self.link(step.link, step.line)
            return link.is_closed and not link.packets
        if isinstance(step, Refused):
            link = self.link(step.link, step.line)
            kind = 0xE0 if link.was_accepted else 0x20
            return link.packets[0][0] == kind if link.packets else link.is_closed
        return False

    # Scenarios of the client role.

    def call(self, step: Call) -> None:
        client = self.peer.client
        if client is None:
            raise DifferenceError(step.line, "a client under test", "this peer is a server")
        self.open_link("")
        is_done = client.call(step.verb, step.arguments)
        if is_done == step.is_refused:
            outcome = ("refused", "accepted")
            raise DifferenceError(step.line, outcome[not step.is_refused], outcome[is_done])

    def check_event(self, step: EventIs) -> None:
        client = self.peer.client
        event = client.next_event() if client else None
        if step.name == "none":
            if event is not None:
                raise DifferenceError(step.line, "no event", repr(event))
            return
        expected = " ".join([step.name, *(f"{key}={value!r}" for key, value in step.fields)])
        if type(event).__name__ != step.name:
            raise DifferenceError(step.line, expected, repr(event))
        for key, value in step.fields:
            actual = getattr(event, key)
            if isinstance(actual, bytes):
                is_same = actual == value
            elif isinstance(actual, str):
                is_same = actual.encode() == value
            else:
                is_same = int(actual) == int(value)
            if not is_same:
                raise DifferenceError(step.line, expected, repr(event))

    # The end.

    def check_the_end(self) -> None:
        """Nothing may be left that the trace does not speak of."""
        self.peer.settle(self.links.values(), self.scenario.is_timed)
        for name, link in self.links.items():
            if link.packets or link.garbage or link.is_closed:
                where = f" on {name!r}" if name else ""
                raise DifferenceError(
                    self.scenario.line,
                    f"nothing more{where} at the end of the scenario",
                    self.present(link),
                )

    def finish(self) -> str:
        for link in self.links.values():
            link.cut()
        return self.peer.finish(self.scope)


def _have_packets(links: Sequence[Link]) -> bool:
    return any(link.packets for link in links)


def _refusal(link: Link, peer: Peer, reason: int) -> str:
    """The packet that gives this reason, with properties and without, in the notation."""
    if link.was_accepted or peer.client is not None:
        return f"e0 rl {reason:02x} [..] | e0 01 {reason:02x}"
    return f"20 rl 00 {reason:02x} [..] | 20 02 00 {reason:02x}"


def _joined(*parts: Pattern) -> Pattern:
    """One packet made of the items of several patterns."""
    items = tuple(item for part in parts for item in part.packets[0][0])
    return Pattern(" ".join(part.source for part in parts), ((items,),))
