"""The notation in which traces write bytes (docs/trace-format.md, "Bytes").

A pattern is parsed once; `encode` turns it into bytes to send, `match` compares it with a packet
that came, binding the variables it meets. The packet is matched as a whole, so `rl` needs no
arithmetic by the author: it is right when it says how much follows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

ALLOWED = (
    "hex pairs (20 02), u10 (two bytes), 'text', s'text' (two bytes of length, then text), "
    "c'client id', t'topic', s(...), t(...), v(...), (a | b), X*3, rl, rl+1, $name, "
    "$name:N, $name:*, d$name, ?, .."
)


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
        """The topic or filter that is sent for t'text'."""
        name = self.prefix.encode() + b"/" + text if self.prefix else text
        if b"#" not in name and b"+" not in name:
            self.topics.add(name)
        return name


@dataclass(frozen=True)
class _Literal:
    data: bytes


@dataclass(frozen=True)
class _Name:
    """A client id (kind c) or a topic (kind t), with its two bytes of length."""

    kind: str
    text: bytes


@dataclass(frozen=True)
class _AnyByte:
    """Written ?."""


@dataclass(frozen=True)
class _Rest:
    """Written ..: whatever is left of the packet or of the enclosing s(...)."""


@dataclass(frozen=True)
class _Variable:
    """Bound at its first use in an expectation, compared and sent afterwards. Width 0: the rest."""

    name: str
    width: int


@dataclass(frozen=True)
class _RemainingLength:
    """The length of what follows in the packet, plus `lie`."""

    lie: int


@dataclass(frozen=True)
class _Decimal:
    """d$name: the variable's number in decimal digits."""

    name: str


@dataclass(frozen=True)
class _Prefixed:
    """Its length first: two bytes for s(...) and t(...), a variable byte integer for v(...)."""

    kind: str
    items: "_Items"


@dataclass(frozen=True)
class _Choice:
    branches: tuple["_Items", ...]


@dataclass(frozen=True)
class _Repeated:
    items: "_Items"
    count: int


_Item = (
    _Literal
    | _Name
    | _AnyByte
    | _Rest
    | _Variable
    | _Decimal
    | _RemainingLength
    | _Prefixed
    | _Choice
    | _Repeated
)
_Items = tuple[_Item, ...]


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


@dataclass(frozen=True)
class Pattern:
    """One or several packets as the trace writes them."""

    source: str
    packets: tuple[tuple[_Items, ...], ...]
    """Packets in order; each is a tuple of alternatives."""

    def encode(self, scope: Scope) -> bytes:
        """The bytes to send: of alternatives the first."""
        return b"".join(_encode(alternatives[0], scope) for alternatives in self.packets)

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
            for end, values in _match(items, packet, 0, len(packet), scope, scope.values):
                if end == len(packet):
                    scope.values = values
                    return number
            if first_only:
                break
        return None

    def variables(self) -> set[str]:
        """Names of all variables in it, those of alternatives too."""
        return {name for packet in self.packets for items in packet for name in _variables(items)}

    def is_sendable(self) -> bool:
        """No ? and no .. in it."""
        return all(_sendable(alternatives[0]) for alternatives in self.packets)


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
    if not all(isinstance(item, _Literal) for item in items):
        raise NotationError(f"{source!r} must be fixed bytes, such as 'text'")
    return b"".join(item.data for item in items if isinstance(item, _Literal))


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
    """The cells of a table row: | outside quotes and parentheses separates them."""
    return [cell.strip() for cell in _split_outside_quotes(line, "|")]


def _split_outside_quotes(text: str, separator: str) -> list[str]:
    parts, start, depth, index = [], 0, 0, 0
    while index < len(text):
        char = text[index]
        if char == "'":
            index = _string_end(text, index)
            continue
        depth += (char == "(") - (char == ")")
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
      | (?P<length>rl(?P<lie>[+-]\d+)?(?!\w))
      | (?P<decimal>d\$(?P<digits>[A-Za-z_]\w*))
      | (?P<variable>\$(?P<name>[A-Za-z_]\w*)(?::(?P<width>\d+|\*))?)
      | (?P<rest>\.\.)
      | (?P<any>\?)
      | (?P<hex>(?:[0-9A-Fa-f]{2})+(?!\w))""",
    re.VERBOSE,
)


class _Reader:
    """Walks the text of one packet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def items(self, stop: str) -> _Items:
        """Everything up to one of the characters in `stop`, a closing parenthesis, or the end."""
        items: list[_Item] = []
        while True:
            self._skip_blanks()
            if self.at == len(self.text) or self.text[self.at] in stop + ")":
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

    def _item(self) -> _Item:
        text, at = self.text, self.at
        if text[at] == "'":
            return _Literal(self._string(at))
        if text[at] in "sct" and text.startswith("'", at + 1):
            kind = text[at]
            body = self._string(at + 1)
            if kind != "s":
                return _Name(kind, body)
            return _Prefixed("s", (_Literal(body),))
        if text[at] in "stv" and text.startswith("(", at + 1):
            kind = text[at]
            self.at += 2
            return _Prefixed(kind, self._closed(self.items("")))
        if text[at] == "(":
            self.at += 1
            branches = [self.items("|")]
            while self.take("|"):
                branches.append(self.items("|"))
            self._closed(())
            return _Choice(tuple(branches))
        return self._word()

    def _word(self) -> _Item:
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            self._fail()
        self.at = found.end()
        match found.lastgroup:
            case "number":
                value = int(found["value"])
                if value > 0xFFFF:
                    raise NotationError(f"{found[0]} does not fit in two bytes: at most u65535")
                return _Literal(value.to_bytes(2, "big"))
            case "length":
                return _RemainingLength(int(found["lie"] or 0))
            case "decimal":
                return _Decimal(found["digits"])
            case "variable":
                width = found["width"] or "2"
                return _Variable(found["name"], 0 if width == "*" else int(width))
            case "rest":
                return _Rest()
            case "any":
                return _AnyByte()
            case _:
                return _Literal(bytes.fromhex(found[0]))

    def _repeated(self, item: _Item) -> _Item:
        if not self.text.startswith("*", self.at):
            return item
        found = re.compile(r"\*(\d+)").match(self.text, self.at)
        if found is None:
            self._fail()
        self.at = found.end()
        count = int(found[1])
        if isinstance(item, _Literal):
            return _Literal(item.data * count)
        return _Repeated((item,), count)

    def _string(self, quote_at: int) -> bytes:
        self.at = _string_end(self.text, quote_at)
        return _unescape(self.text[quote_at + 1 : self.at - 1])

    def _closed(self, items: _Items) -> _Items:
        if not self.take(")"):
            raise NotationError(f"no closing parenthesis in {self.text.strip()!r}")
        return items

    def _skip_blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def _fail(self) -> NoReturn:
        bad = self.text[self.at :].split(" ", 1)[0]
        raise NotationError(f"cannot read {bad!r} as bytes; allowed: {ALLOWED}")


def _name_bytes(item: _Name, scope: Scope) -> bytes:
    name = scope.client_id(item.text) if item.kind == "c" else scope.topic(item.text)
    return len(name).to_bytes(2, "big") + name


def _encode(items: _Items, scope: Scope) -> bytes:
    out = b""
    for index, item in enumerate(items):
        match item:
            case _Literal(data):
                out += data
            case _Name():
                out += _name_bytes(item, scope)
            case _Variable(name):
                if name not in scope.values:
                    raise NotationError(f"${name} is sent before anything was bound to it")
                out += scope.values[name]
            case _Decimal(name):
                out += _decimal(name, scope.values)
            case _RemainingLength(lie):
                rest = _encode(items[index + 1 :], scope)
                return out + variable_byte_integer(len(rest) + lie) + rest
            case _Prefixed(kind, inner):
                body = _encode(inner, scope)
                body = scope.topic(body) if kind == "t" else body
                size = len(body)
                out += variable_byte_integer(size) if kind == "v" else size.to_bytes(2, "big")
                out += body
            case _Choice(branches):
                out += _encode(branches[0], scope)
            case _Repeated(inner, count):
                out += _encode(inner, scope) * count
            case _:
                raise NotationError("? and .. stand for bytes that come; they cannot be sent")
    return out


_Found = Iterator[tuple[int, dict[str, bytes]]]


def _match(
    items: _Items, data: bytes, start: int, end: int, scope: Scope, values: dict[str, bytes]
) -> _Found:
    """Every way in which `items` match from `start`: (position after them, bindings)."""
    if not items:
        yield start, values
        return
    for after, bound in _match_item(items[0], data, start, end, scope, values):
        yield from _match(items[1:], data, after, end, scope, bound)


def _match_item(
    item: _Item, data: bytes, start: int, end: int, scope: Scope, values: dict[str, bytes]
) -> _Found:
    match item:
        case _Literal(expected):
            if data.startswith(expected, start, end):
                yield start + len(expected), values
        case _Name():
            expected = _name_bytes(item, scope)
            if data.startswith(expected, start, end):
                yield start + len(expected), values
        case _Decimal(name):
            digits = _decimal(name, values)
            if data.startswith(digits, start, end):
                yield start + len(digits), values
        case _Prefixed("t", _):
            expected = _encode((item,), Scope(scope.prefix, values))
            if data.startswith(expected, start, end):
                yield start + len(expected), values
        case _AnyByte():
            if start < end:
                yield start + 1, values
        case _Rest():
            yield end, values
        case _Variable(name, width):
            yield from _match_variable(name, width, data, start, end, values)
        case _RemainingLength(lie):
            read = read_variable_byte_integer(data, start)
            if read is not None:
                minimal = len(variable_byte_integer(read[0])) == read[1] - start
                if minimal and read[0] == len(data) - read[1] + lie:
                    yield read[1], values
        case _Prefixed(kind, inner):
            yield from _match_prefixed(kind, inner, data, start, end, scope, values)
        case _Choice(branches):
            for branch in branches:
                yield from _match(branch, data, start, end, scope, values)
        case _Repeated(inner, count):
            yield from _match(inner * count, data, start, end, scope, values)


def _decimal(name: str, values: dict[str, bytes]) -> bytes:
    if name not in values:
        raise NotationError(f"d${name} is used before anything was bound to ${name}")
    return str(int.from_bytes(values[name], "big")).encode()


def _match_variable(
    name: str, width: int, data: bytes, start: int, end: int, values: dict[str, bytes]
) -> _Found:
    bound = values.get(name)
    if bound is not None:
        if data.startswith(bound, start, end):
            yield start + len(bound), values
        return
    after = start + width if width else end
    if after <= end:
        yield after, {**values, name: data[start:after]}


def _match_prefixed(
    kind: str,
    inner: _Items,
    data: bytes,
    start: int,
    end: int,
    scope: Scope,
    values: dict[str, bytes],
) -> _Found:
    if kind == "s":
        if end - start < 2:
            return
        size, body = int.from_bytes(data[start : start + 2], "big"), start + 2
    else:
        read = read_variable_byte_integer(data, start)
        if read is None:
            return
        size, body = read
    if body + size > end:
        return
    for after, bound in _match(inner, data, body, body + size, scope, values):
        if after == body + size:
            yield after, bound


def _variables(items: _Items) -> Iterator[str]:
    for item in items:
        match item:
            case _Variable(name) | _Decimal(name):
                yield name
            case _Prefixed(_, inner) | _Repeated(inner, _):
                yield from _variables(inner)
            case _Choice(branches):
                for branch in branches:
                    yield from _variables(branch)


def _sendable(items: _Items) -> bool:
    for item in items:
        match item:
            case _AnyByte() | _Rest():
                return False
            case _Prefixed(_, inner) | _Repeated(inner, _):
                if not _sendable(inner):
                    return False
            case _Choice(branches):
                if not _sendable(branches[0]):
                    return False
    return True
