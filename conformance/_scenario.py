"""What a trace says, as data: a scenario is a list of steps, played by `_player`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conformance._notation import Pattern


class TraceError(Exception):
    """A trace file that cannot be read. The message names file and line, and what is allowed."""

    def __init__(self, path: Path | str, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.path = path
        self.line = line


@dataclass(frozen=True)
class Send:
    """`NAME > BYTES`: the trace sends, opening the connection if there is none."""

    line: int
    link: str
    pattern: Pattern


@dataclass(frozen=True)
class Expect:
    """`NAME < BYTES`: exactly this packet comes next."""

    line: int
    link: str
    pattern: Pattern
    within_s: float = 0.0


@dataclass(frozen=True)
class State:
    """`NAME = open`, `= closed` or `= nothing`."""

    line: int
    link: str
    state: str
    within_s: float = 0.0


@dataclass(frozen=True)
class Refused:
    """`NAME = refused 82`: the reason comes in a DISCONNECT, or in a CONNACK if there was none yet,
    and the connection ends (4.13 of MQTT 5.0). Of several reasons the first is iotd's own.
    """

    line: int
    link: str
    reasons: tuple[int, ...]
    within_s: float = 0.0


@dataclass(frozen=True)
class EventIs:
    """`= event NAME field=value ...`: what our client tells its user next (role: client).

    Events that a line with `>` has not caused are not looked at. The name `none`: nothing more.
    """

    line: int
    name: str
    fields: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Act:
    """`NAME ! connect | cut | reset | half-close | stop reading | read`: an act on the link."""

    line: int
    link: str
    action: str


@dataclass(frozen=True)
class Call:
    """`! publish topic='t' ...`: a call of our client role's interface (role: client)."""

    line: int
    verb: str
    arguments: tuple[tuple[str, bytes], ...]
    is_refused: bool


@dataclass(frozen=True)
class Joins:
    """`NAME joins [clean | keep | resume] [as c'id'] [with [properties]]`: CONNECT and CONNACK, as
    a preparation. The level is the scenario's unless the line says 3.1.1.
    """

    line: int
    link: str
    mode: str
    client_id: Pattern
    level: int = 4
    properties: Pattern | None = None


@dataclass(frozen=True)
class Subscribes:
    """`NAME subscribes t'filter' at QOS [with [properties]]`: SUBSCRIBE and its SUBACK, as a
    preparation.
    """

    line: int
    link: str
    filter: Pattern
    qos: int
    properties: Pattern | None = None


@dataclass(frozen=True)
class Distinct:
    """`distinct $a $b`: packet identifiers that all differ, none of them zero."""

    line: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Forget:
    """`forget $a`: the variable may be bound anew."""

    line: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """`@ 1.5s`: time passes."""

    line: int
    seconds: float


@dataclass(frozen=True)
class AnyOrder:
    """`any order ... end`: these packets come, in whatever order."""

    line: int
    steps: tuple[Expect, ...]


@dataclass(frozen=True)
class Either:
    """`either ... or ... end`: the standard leaves a choice; iotd's own comes first.

    `one of ... or ... end`: nobody can know beforehand which of them it is, of iotd neither.
    """

    line: int
    branches: tuple[tuple["Step", ...], ...]
    is_open: bool = False


@dataclass(frozen=True)
class Repeat:
    """`repeat N as i ... end`: $i counts from 1, as two bytes."""

    line: int
    count: int
    variable: str
    steps: tuple["Step", ...]


Step = (
    Send
    | Expect
    | State
    | Refused
    | EventIs
    | Act
    | Call
    | Joins
    | Subscribes
    | Distinct
    | Forget
    | Wait
    | AnyOrder
    | Either
    | Repeat
)

NEEDS = {
    "fake clock": "its times are too fine for a live broker",
    "alone": "it uses topics or client ids that other scenarios would notice",
    "live": "it is about sockets",
}
ROLES = ("server", "client")
VERSIONS = {"3.1.1": "v3", "5.0": "v5"}


@dataclass(frozen=True)
class Scenario:
    """One scenario of a trace file."""

    path: Path
    line: int
    name: str
    about: str = ""
    proves: tuple[str, ...] = ()
    """Statement ids, each with the version in front: "v3 MQTT-4.3.2-2"."""
    version: str = "v3"
    """The version of MQTT that the peer must speak: "v3" (3.1.1) or "v5" (5.0)."""
    role: str = "server"
    needs: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()

    @property
    def is_timed(self) -> bool:
        """Whether time passes in it."""
        return any(isinstance(step, Wait) for step in walk(self.steps))

    @property
    def full_name(self) -> str:
        """Area and name: "publish/qos1-publish-is-acked"."""
        return f"{self.path.parent.name}/{self.name}"


def walk(steps: Sequence[Step]) -> list[Step]:
    """All steps, those in blocks included, in the order of the file."""
    found: list[Step] = []
    for step in steps:
        found.append(step)
        match step:
            case AnyOrder(_, inner):
                found.extend(inner)
            case Either(_, branches):
                for branch in branches:
                    found.extend(walk(branch))
            case Repeat(_, _, _, repeated):
                found.extend(walk(repeated))
            case _:
                pass
    return found
