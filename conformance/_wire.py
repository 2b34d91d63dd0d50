"""Items of the notation and bytes: encoding what is sent, matching what came.

A packet is matched as a whole, with every way in which its items can match tried in turn, so that
lengths need no arithmetic by the author: a length is right when it says how much follows.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations

from conformance._items import (
    AnyByte,
    Between,
    Choice,
    Decimal,
    Items,
    Literal,
    Name,
    NotationError,
    Prefixed,
    Properties,
    RemainingLength,
    Repeated,
    Rest,
    Scope,
    Variable,
    read_variable_byte_integer,
    variable_byte_integer,
)
from conformance._properties import SUBSCRIPTION_IDENTIFIER, split_properties

Found = Iterator[tuple[int, dict[str, bytes]]]


def encode(items: Items, scope: Scope) -> bytes:
    """The bytes to send: of alternatives the first. Raises NotationError."""
    out = b""
    for index, item in enumerate(items):
        match item:
            case Literal(data):
                out += data
            case Name():
                out += _name_bytes(item, scope)
            case Variable(name):
                if name not in scope.values:
                    raise NotationError(f"${name} is sent before anything was bound to it")
                out += scope.values[name]
            case Decimal(name):
                out += _decimal(name, scope.values)
            case RemainingLength(lie, None):
                rest = encode(items[index + 1 :], scope)
                return out + variable_byte_integer(len(rest) + lie) + rest
            case Prefixed(kind, inner):
                body = encode(inner, scope)
                body = scope.topic(body) if kind == "t" else body
                size = len(body)
                out += variable_byte_integer(size) if kind == "v" else size.to_bytes(2, "big")
                out += body
            case Choice(branches):
                out += encode(branches[0], scope)
            case Repeated(inner, count):
                out += encode(inner, scope) * count
            case Properties(entries, absent, are_others_allowed) if not (
                absent or are_others_allowed
            ):
                body = b"".join(
                    bytes((one.identifier,)) + encode(one.value, scope) for one in entries
                )
                out += variable_byte_integer(len(body)) + body
            case _:
                raise NotationError(
                    "?, .., 1-2 and `no` stand for bytes that come; they cannot be sent"
                )
    return out


def match(
    items: Items, data: bytes, start: int, end: int, scope: Scope, values: dict[str, bytes]
) -> Found:
    """Every way in which `items` match from `start`: (position after them, bindings)."""
    if not items:
        yield start, values
        return
    for after, bound in _match_item(items, data, start, end, scope, values):
        yield from match(items[1:], data, after, end, scope, bound)


def variables(items: Items) -> Iterator[str]:
    """Names of all variables in the items."""
    for item in items:
        match item:
            case Variable(name) | Decimal(name):
                yield name
            case Prefixed(_, inner) | Repeated(inner, _):
                yield from variables(inner)
            case Choice(branches):
                for branch in branches:
                    yield from variables(branch)
            case Properties(entries):
                for one in entries:
                    yield from variables(one.value)
            case _:
                pass


def is_sendable(items: Items) -> bool:
    """Nothing in the items stands for bytes that are not known."""
    for item in items:
        match item:
            case AnyByte() | Rest() | Between():
                return False
            case RemainingLength(_, most) if most is not None:
                return False
            case Prefixed(_, inner) | Repeated(inner, _):
                if not is_sendable(inner):
                    return False
            case Choice(branches):
                if not is_sendable(branches[0]):
                    return False
            case Properties(entries, absent, are_others_allowed):
                if absent or are_others_allowed:
                    return False
                if not all(is_sendable(one.value) for one in entries):
                    return False
            case _:
                pass
    return True


def _match_item(
    items: Items, data: bytes, start: int, end: int, scope: Scope, values: dict[str, bytes]
) -> Found:
    match items[0]:
        case Literal(expected):
            if data.startswith(expected, start, end):
                yield start + len(expected), values
        case Name() as item:
            expected = _name_bytes(item, scope)
            if data.startswith(expected, start, end):
                yield start + len(expected), values
        case Decimal(name):
            digits = _decimal(name, values)
            if data.startswith(digits, start, end):
                yield start + len(digits), values
        case Prefixed("t", _) as item:
            expected = encode((item,), Scope(scope.prefix, values))
            if data.startswith(expected, start, end):
                yield start + len(expected), values
        case AnyByte():
            if start < end:
                yield start + 1, values
        case Rest():
            yield end, values
        case Between(low, high):
            if low <= int.from_bytes(data[start:end], "big") <= high:
                yield end, values
        case Variable(name, width):
            yield from _match_variable(name, width, data, start, end, values)
        case RemainingLength(lie, most):
            read = read_variable_byte_integer(data, start)
            if read is not None and (most is None or read[0] <= most):
                minimal = len(variable_byte_integer(read[0])) == read[1] - start
                if minimal and read[0] == len(data) - read[1] + lie:
                    yield read[1], values
        case Prefixed(kind, inner):
            yield from _match_prefixed(kind, inner, data, start, end, scope, values)
        case Choice(branches):
            for branch in branches:
                yield from match(branch, data, start, end, scope, values)
        case Repeated(inner, count):
            yield from match(inner * count, data, start, end, scope, values)
        case Properties() as item:
            yield from _match_properties(item, data, start, end, scope, values)


def _name_bytes(item: Name, scope: Scope) -> bytes:
    name = scope.client_id(item.text) if item.kind == "c" else scope.topic(item.text)
    return len(name).to_bytes(2, "big") + name


def _decimal(name: str, values: dict[str, bytes]) -> bytes:
    if name not in values:
        raise NotationError(f"d${name} is used before anything was bound to ${name}")
    return str(int.from_bytes(values[name], "big")).encode()


def _match_variable(
    name: str, width: int, data: bytes, start: int, end: int, values: dict[str, bytes]
) -> Found:
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
    inner: Items,
    data: bytes,
    start: int,
    end: int,
    scope: Scope,
    values: dict[str, bytes],
) -> Found:
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
    for after, bound in match(inner, data, body, body + size, scope, values):
        if after == body + size:
            yield after, bound


def _match_properties(
    item: Properties, data: bytes, start: int, end: int, scope: Scope, values: dict[str, bytes]
) -> Found:
    """Properties with different identifiers have no order; those with the same one have.

    What is named in the pattern is all that there may be of its identifier.
    """
    split = split_properties(data[:end], start)
    if split is None:
        return
    found, after = split
    named = {one.identifier for one in item.entries}
    for identifier, _ in found:
        if identifier in item.absent:
            return
        if identifier not in named and not item.are_others_allowed:
            return
    pairs: list[tuple[Sequence[Items], Sequence[Sequence[bytes]]]] = []
    for identifier in sorted(named):
        expected = [one.value for one in item.entries if one.identifier == identifier]
        came = [value for other, value in found if other == identifier]
        if len(came) != len(expected):
            return
        has_order = identifier != SUBSCRIPTION_IDENTIFIER
        pairs.append((expected, [came] if has_order else list(permutations(came))))
    for bound in _match_groups(pairs, scope, values):
        yield after, bound


def _match_groups(
    pairs: Sequence[tuple[Sequence[Items], Sequence[Sequence[bytes]]]],
    scope: Scope,
    values: dict[str, bytes],
) -> Iterator[dict[str, bytes]]:
    """Bindings with which the values of each identifier match, in one of their orders."""
    if not pairs:
        yield values
        return
    expected, orders = pairs[0]
    for came in orders:
        for bound in _match_values(expected, came, scope, values):
            yield from _match_groups(pairs[1:], scope, bound)


def _match_values(
    expected: Sequence[Items], came: Sequence[bytes], scope: Scope, values: dict[str, bytes]
) -> Iterator[dict[str, bytes]]:
    if not expected:
        yield values
        return
    value = came[0]
    for after, bound in match(expected[0], value, 0, len(value), scope, values):
        if after == len(value):
            yield from _match_values(expected[1:], came[1:], scope, bound)
