"""What the notation of traces is made of: items of a packet, and what names in it mean.

`_notation` reads them from text, `_wire` turns them into bytes and compares them with bytes.
"""

from dataclasses import dataclass, field


class NotationError(ValueError):
    """The text is not in the notation. The message says where, and what is allowed."""


@dataclass
class Scope:
    """What names mean while one scenario is played.

    `prefix` goes in front of every client id and topic written as c'...' and t'...', so that
    scenarios can share one broker; it is empty where a scenario has the broker for itself.
    """

    prefix: str = ""
    values: dict[str, bytes] = field(default_factory=dict)
    client_ids: set[bytes] = field(default_factory=set)
    topics: set[bytes] = field(default_factory=set)

    def client_id(self, text: bytes) -> bytes:
        """The client id that is sent for c'text'."""
        name = self.prefix.encode() + text
        self.client_ids.add(name)
        return name

    def topic(self, text: bytes) -> bytes:
        """The topic or filter that is sent for t'text'. A shared one is prefixed in both parts."""
        if not self.prefix:
            name = text
        elif text.startswith(b"$share/") and text.count(b"/") > 1:
            _, group, rest = text.split(b"/", 2)
            name = b"$share/" + self.prefix.encode() + group + b"/" + self.topic(rest)
        else:
            name = self.prefix.encode() + b"/" + text
        if b"#" not in name and b"+" not in name and not name.startswith(b"$"):
            self.topics.add(name)
        return name


@dataclass(frozen=True)
class Literal:
    """Bytes as they are."""

    data: bytes


@dataclass(frozen=True)
class Name:
    """A client id (kind c) or a topic (kind t), with its two bytes of length."""

    kind: str
    text: bytes


@dataclass(frozen=True)
class AnyByte:
    """Written ?."""


@dataclass(frozen=True)
class Rest:
    """Written ..: whatever is left of the packet or of the enclosing s(...)."""


@dataclass(frozen=True)
class Variable:
    """Bound at its first use in an expectation, compared and sent afterwards. Width 0: the rest."""

    name: str
    width: int


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, both included, of as many bytes as there are."""

    low: int
    high: int


@dataclass(frozen=True)
class RemainingLength:
    """The length of what follows in the packet, plus `lie`; where it comes, at most `most`."""

    lie: int
    most: int | None = None


@dataclass(frozen=True)
class Decimal:
    """d$name: the variable's number in decimal digits."""

    name: str


@dataclass(frozen=True)
class Prefixed:
    """Its length first: two bytes for s(...) and t(...), a variable byte integer for v(...)."""

    kind: str
    items: "Items"


@dataclass(frozen=True)
class Choice:
    """One of several, the first where it is sent."""

    branches: tuple["Items", ...]


@dataclass(frozen=True)
class Repeated:
    """The items as often as `count` says."""

    items: "Items"
    count: int


@dataclass(frozen=True)
class Property:
    """One property with its value."""

    identifier: int
    value: "Items"


@dataclass(frozen=True)
class Properties:
    """[name value, ...]: the properties of a packet with their length (2.2.2 of MQTT 5.0)."""

    entries: tuple[Property, ...]
    absent: frozenset[int] = frozenset()
    """Identifiers that must not be there."""
    are_others_allowed: bool = False
    """Properties that are neither in `entries` nor in `absent` may be there too."""


Item = (
    Literal
    | Name
    | AnyByte
    | Rest
    | Variable
    | Between
    | Decimal
    | RemainingLength
    | Prefixed
    | Choice
    | Repeated
    | Properties
)
Items = tuple[Item, ...]


def variable_byte_integer(value: int) -> bytes:
    """`value` as the standard writes a remaining length (2.2.3)."""
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | 0x80 if value else digit)
        if not value:
            return bytes(out)


def read_variable_byte_integer(data: bytes, start: int) -> tuple[int, int] | None:
    """(value, position after it), or None when it is incomplete or longer than four bytes."""
    value = 0
    for index in range(start, min(start + 4, len(data))):
        value |= (data[index] & 0x7F) << 7 * (index - start)
        if not data[index] & 0x80:
            return value, index + 1
    return None
