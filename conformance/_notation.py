"""The notation in which traces write bytes (docs/trace-format.md, "Bytes").

A pattern is parsed once; `encode` turns it into bytes to send, `match` compares it with a packet
that came, binding the variables it meets.
"""

import re
from dataclasses import dataclass
from typing import NoReturn

from conformance import _wire
from conformance._items import (
    AnyByte,
    Between,
    Choice,
    Decimal,
    Item,
    Items,
    Literal,
    Name,
    NotationError,
    Prefixed,
    Properties,
    Property,
    RemainingLength,
    Repeated,
    Rest,
    Scope,
    Variable,
)
from conformance._properties import (
    BY_NAME,
    PAIR,
    VARIABLE,
    WIDTHS,
    PropertyKind,
    encode_number,
)

ALLOWED = (
    "hex pairs (20 02), u10 (two bytes), 'text', s'text' (two bytes of length, then text), "
    "c'client id', t'topic', s(...), t(...), v(...), [property value, ...], (a | b), X*3, rl, "
    "rl+1, rl..99, r00 (a reason code), $name, $name:N, $name:*, d$name, ?, .."
)
IN_BRACKETS = "[receive-maximum 10, user-property 'a' 'b', no reason-string, ..]"


@dataclass(frozen=True)
class Pattern:
    """One or several packets as the trace writes them."""

    source: str
    packets: tuple[tuple[Items, ...], ...]
    """Packets in order; each is a tuple of alternatives."""

    def encode(self, scope: Scope) -> bytes:
        """The bytes to send: of alternatives the first."""
        return b"".join(_wire.encode(alternatives[0], scope) for alternatives in self.packets)

    def split(self) -> list["Pattern"]:
        """One pattern for each packet."""
        if len(self.packets) == 1:
            return [self]
        sources = _split_outside_quotes(self.source, ";")
        return [
            Pattern(source.strip(), (packet,))
            for source, packet in zip(sources, self.packets, strict=True)
        ]

    def match(self, packet: bytes, scope: Scope, first_only: bool = False) -> int | None:
        """Which alternative the packet is (0 is the first), or None if it is none of them.

        Variables are bound on success. `first_only` looks at the first alternative alone.
        """
        for number, items in enumerate(self.packets[0]):
            for end, values in _wire.match(items, packet, 0, len(packet), scope, scope.values):
                if end == len(packet):
                    scope.values = values
                    return number
            if first_only:
                break
        return None

    def variables(self) -> set[str]:
        """Names of all variables in it, those of alternatives too."""
        return {
            name for packet in self.packets for items in packet for name in _wire.variables(items)
        }

    def is_sendable(self) -> bool:
        """No ? and no .. in it."""
        return all(_wire.is_sendable(alternatives[0]) for alternatives in self.packets)


def parse_pattern(source: str) -> Pattern:
    """Parse the bytes part of a line. Raises NotationError."""
    packets = []
    for packet in _split_outside_quotes(source, ";"):
        reader = _Reader(packet)
        alternatives = [reader.items("|")]
        while reader.take("|"):
            alternatives.append(reader.items("|"))
        reader.expect_end()
        if not all(alternatives):
            raise NotationError(f"no bytes in {packet.strip()!r}; allowed: {ALLOWED}")
        packets.append(tuple(alternatives))
    return Pattern(source.strip(), tuple(packets))


def parse_text(source: str) -> bytes:
    """Parse one quoted string, such as 'w' or "it's" with its escapes. Raises NotationError."""
    reader = _Reader(source.strip())
    items = reader.items("")
    reader.expect_end()
    if not all(isinstance(item, Literal) for item in items):
        raise NotationError(f"{source!r} must be fixed bytes, such as 'text'")
    return b"".join(item.data for item in items if isinstance(item, Literal))


def quote(data: bytes) -> str:
    """`data` as a quoted string of the notation; bytes outside printable ASCII become escapes."""
    out = []
    for byte in data:
        if byte in b"\\'":
            out.append("\\" + chr(byte))
        elif 0x20 <= byte < 0x7F:
            out.append(chr(byte))
        else:
            out.append(f"\\x{byte:02x}")
    return "'" + "".join(out) + "'"


def split_comment(line: str) -> str:
    """The line without its comment: a # outside quotes starts one."""
    index = 0
    while index < len(line) and line[index] != "#":
        index = _string_end(line, index) if line[index] == "'" else index + 1
    return line[:index].rstrip()


def split_cells(line: str) -> list[str]:
    """The cells of a table row: | outside quotes, parentheses and brackets separates them."""
    return [cell.strip() for cell in _split_outside_quotes(line, "|")]


def _reason(code: bytes) -> Item:
    """A reason code and properties, each left out where that may be (3.4.2.1, 3.4.2.2.1)."""
    any_properties = Properties((), are_others_allowed=True)
    branches: list[Items] = [(Literal(code),), (Literal(code), any_properties)]
    return Choice(tuple([(), *branches] if code == b"\0" else branches))


def _split_outside_quotes(text: str, separator: str) -> list[str]:
    parts, start, depth, index = [], 0, 0, 0
    while index < len(text):
        char = text[index]
        if char == "'":
            index = _string_end(text, index)
            continue
        depth += (char in "([") - (char in ")]")
        if char == separator and depth == 0:
            parts.append(text[start:index])
            start = index + 1
        index += 1
    parts.append(text[start:])
    return parts


def _string_end(text: str, start: int) -> int:
    index = start + 1
    while index < len(text):
        if text[index] == "\\":
            index += 1
        elif text[index] == "'":
            return index + 1
        index += 1
    raise NotationError(f"the string that begins with {text[start : start + 20]!r} has no end")


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u\{[0-9a-fA-F]+\}|.)", re.DOTALL)


def _unescape(body: str) -> bytes:
    out, position = bytearray(), 0
    for found in _ESCAPE.finditer(body):
        out += body[position : found.start()].encode()
        code = found[1]
        if code in _ESCAPES:
            out += _ESCAPES[code].encode()
        elif code[0] == "x" and len(code) == 3:
            out.append(int(code[1:], 16))
        elif code[0] == "u" and len(code) > 1:
            out += chr(int(code[2:-1], 16)).encode()
        else:
            raise NotationError(
                f"unknown escape {found[0]}; allowed: \\xHH \\u{{HEX}} \\n \\r \\t \\\\ \\'"
            )
        position = found.end()
    return bytes(out + body[position:].encode())


_TOKEN = re.compile(
    r"""(?P<number>u(?P<value>\d+)(?!\w))
      | (?P<reason>r(?P<code>[0-9A-Fa-f]{2})(?!\w))
      | (?P<length>rl(?P<lie>[+-]\d+)?(?:\.\.(?P<most>\d+))?(?!\w))
      | (?P<decimal>d\$(?P<digits>[A-Za-z_]\w*))
      | (?P<variable>\$(?P<name>[A-Za-z_]\w*)(?::(?P<width>\d+|\*))?)
      | (?P<rest>\.\.)
      | (?P<any>\?)
      | (?P<hex>(?:[0-9A-Fa-f]{2})+(?!\w))""",
    re.VERBOSE,
)

_PROPERTY = re.compile(r"[a-z][a-z-]*")
_NUMBER = re.compile(r"(?P<any>\?)|\$(?P<name>[A-Za-z_]\w*)|(?P<low>\d+)(?:-(?P<high>\d+))?")


class _Reader:
    """Walks the text of one packet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def items(self, stop: str) -> Items:
        """Everything up to one of the characters in `stop`, a closing one, or the end."""
        items: list[Item] = []
        while True:
            self._skip_blanks()
            if self.at == len(self.text) or self.text[self.at] in stop + ")]":
                return tuple(items)
            items.append(self._repeated(self._item()))

    def take(self, char: str) -> bool:
        """Go over `char` if it is next."""
        self._skip_blanks()
        if self.text.startswith(char, self.at):
            self.at += len(char)
            return True
        return False

    def expect_end(self) -> None:
        """Raise unless everything is read."""
        self._skip_blanks()
        if self.at < len(self.text):
            self._fail()

    def _item(self) -> Item:
        text, at = self.text, self.at
        if text[at] == "'":
            return Literal(self._string(at))
        if text[at] in "sct" and text.startswith("'", at + 1):
            kind = text[at]
            body = self._string(at + 1)
            if kind != "s":
                return Name(kind, body)
            return Prefixed("s", (Literal(body),))
        if text[at] in "stv" and text.startswith("(", at + 1):
            kind = text[at]
            self.at += 2
            return Prefixed(kind, self._closed(self.items("")))
        if text[at] == "(":
            self.at += 1
            branches = [self.items("|")]
            while self.take("|"):
                branches.append(self.items("|"))
            self._closed(())
            return Choice(tuple(branches))
        if text[at] == "[":
            self.at += 1
            return self._properties()
        return self._word()

    def _properties(self) -> Properties:
        """What is between brackets, up to and with the closing one."""
        entries: list[Property] = []
        absent: set[int] = set()
        are_others_allowed = False
        while not self.take("]"):
            if self.take(".."):
                are_others_allowed = True
            else:
                name = self._property_name()
                if name == "no":
                    absent.add(self._property_kind(self._property_name()).identifier)
                else:
                    kind = self._property_kind(name)
                    entries.append(Property(kind.identifier, self._property_value(kind)))
            if not self.take(","):
                if self.take("]"):
                    break
                raise NotationError(
                    f"no closing bracket in {self.text.strip()!r}; allowed: {IN_BRACKETS}"
                )
        return Properties(tuple(entries), frozenset(absent), are_others_allowed)

    def _property_name(self) -> str:
        self._skip_blanks()
        found = _PROPERTY.match(self.text, self.at)
        if found is None:
            bad = self.text[self.at :].split(" ", 1)[0]
            raise NotationError(f"cannot read {bad!r} as a property; allowed: {IN_BRACKETS}")
        self.at = found.end()
        return found[0]

    def _property_kind(self, name: str) -> PropertyKind:
        if name not in BY_NAME:
            raise NotationError(f"unknown property {name!r}; allowed: {', '.join(BY_NAME)}")
        return BY_NAME[name]

    def _property_value(self, kind: PropertyKind) -> Items:
        if kind.type in WIDTHS or kind.type == VARIABLE:
            return (self._property_number(kind),)
        if kind.type == PAIR:
            return self._property_string(), self._property_string()
        return (self._property_string(),)

    def _property_number(self, kind: PropertyKind) -> Item:
        self._skip_blanks()
        found = _NUMBER.match(self.text, self.at)
        if found is None:
            bad = self.text[self.at :].split(" ", 1)[0]
            raise NotationError(
                f"{bad!r} is no value of {kind.name}; allowed: a number, 1-9, $name, ?"
            )
        self.at = found.end()
        if found["any"]:
            return Rest()
        if found["name"]:
            return Variable(found["name"], 0)
        if found["high"]:
            return Between(int(found["low"]), int(found["high"]))
        data = encode_number(kind.type, int(found["low"]))
        if data is None:
            raise NotationError(f"{found[0]} does not fit: {kind.name} is a {kind.type}")
        return Literal(data)

    def _property_string(self) -> Item:
        self._skip_blanks()
        if self.take("?"):
            return Prefixed("s", (Rest(),))
        if self.at == len(self.text):
            self._fail()
        item = self._repeated(self._item())
        match item:
            case Name() | Prefixed("t", _):
                return item
            case Variable(name, 2):
                return Prefixed("s", (Variable(name, 0),))
            case _:
                return Prefixed("s", (item,))

    def _word(self) -> Item:
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            self._fail()
        self.at = found.end()
        match found.lastgroup:
            case "number":
                value = int(found["value"])
                if value > 0xFFFF:
                    raise NotationError(f"{found[0]} does not fit in two bytes: at most u65535")
                return Literal(value.to_bytes(2, "big"))
            case "reason":
                return _reason(bytes.fromhex(found["code"]))
            case "length":
                most = int(found["most"]) if found["most"] else None
                return RemainingLength(int(found["lie"] or 0), most)
            case "decimal":
                return Decimal(found["digits"])
            case "variable":
                width = found["width"] or "2"
                return Variable(found["name"], 0 if width == "*" else int(width))
            case "rest":
                return Rest()
            case "any":
                return AnyByte()
            case _:
                return Literal(bytes.fromhex(found[0]))

    def _repeated(self, item: Item) -> Item:
        if not self.text.startswith("*", self.at):
            return item
        found = re.compile(r"\*(\d+)").match(self.text, self.at)
        if found is None:
            self._fail()
        self.at = found.end()
        count = int(found[1])
        if isinstance(item, Literal):
            return Literal(item.data * count)
        return Repeated((item,), count)

    def _string(self, quote_at: int) -> bytes:
        self.at = _string_end(self.text, quote_at)
        return _unescape(self.text[quote_at + 1 : self.at - 1])

    def _closed(self, items: Items) -> Items:
        if not self.take(")"):
            raise NotationError(f"no closing parenthesis in {self.text.strip()!r}")
        return items

    def _skip_blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def _fail(self) -> NoReturn:
        bad = self.text[self.at :].split(" ", 1)[0]
        raise NotationError(f"cannot read {bad!r} as bytes; allowed: {ALLOWED}")
