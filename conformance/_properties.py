"""The properties of MQTT 5.0 as traces name them, and how their bytes are cut apart (2.2.2).

It knows what each value is made of, and nothing of where a property may stand: traces also show
what is wrong.
"""

from dataclasses import dataclass

from conformance._items import read_variable_byte_integer, variable_byte_integer

BYTE, TWO_BYTES, FOUR_BYTES = "byte", "two bytes", "four bytes"
VARIABLE, STRING, BINARY, PAIR = "variable byte integer", "string", "binary", "string pair"
WIDTHS = {BYTE: 1, TWO_BYTES: 2, FOUR_BYTES: 4}


@dataclass(frozen=True)
class PropertyKind:
    """A property: its identifier, its name in the standard's words, and its type."""

    identifier: int
    name: str
    type: str


KINDS = (
    PropertyKind(0x01, "payload-format-indicator", BYTE),
    PropertyKind(0x02, "message-expiry-interval", FOUR_BYTES),
    PropertyKind(0x03, "content-type", STRING),
    PropertyKind(0x08, "response-topic", STRING),
    PropertyKind(0x09, "correlation-data", BINARY),
    PropertyKind(0x0B, "subscription-identifier", VARIABLE),
    PropertyKind(0x11, "session-expiry-interval", FOUR_BYTES),
    PropertyKind(0x12, "assigned-client-identifier", STRING),
    PropertyKind(0x13, "server-keep-alive", TWO_BYTES),
    PropertyKind(0x15, "authentication-method", STRING),
    PropertyKind(0x16, "authentication-data", BINARY),
    PropertyKind(0x17, "request-problem-information", BYTE),
    PropertyKind(0x18, "will-delay-interval", FOUR_BYTES),
    PropertyKind(0x19, "request-response-information", BYTE),
    PropertyKind(0x1A, "response-information", STRING),
    PropertyKind(0x1C, "server-reference", STRING),
    PropertyKind(0x1F, "reason-string", STRING),
    PropertyKind(0x21, "receive-maximum", TWO_BYTES),
    PropertyKind(0x22, "topic-alias-maximum", TWO_BYTES),
    PropertyKind(0x23, "topic-alias", TWO_BYTES),
    PropertyKind(0x24, "maximum-qos", BYTE),
    PropertyKind(0x25, "retain-available", BYTE),
    PropertyKind(0x26, "user-property", PAIR),
    PropertyKind(0x27, "maximum-packet-size", FOUR_BYTES),
    PropertyKind(0x28, "wildcard-subscription-available", BYTE),
    PropertyKind(0x29, "subscription-identifier-available", BYTE),
    PropertyKind(0x2A, "shared-subscription-available", BYTE),
)
BY_NAME = {kind.name: kind for kind in KINDS}
BY_IDENTIFIER = {kind.identifier: kind for kind in KINDS}
SUBSCRIPTION_IDENTIFIER = 0x0B
"""The only one that may be there several times without an order."""


def split_properties(data: bytes, start: int) -> tuple[list[tuple[int, bytes]], int] | None:
    """The properties whose length is at `start`, as (identifier, bytes of the value), and the
    position after them. None when they are not well formed, or their length is not minimal.
    """
    read = read_variable_byte_integer(data, start)
    if read is None or not _is_minimal(read, start):
        return None
    size, at = read
    end = at + size
    if end > len(data):
        return None
    found: list[tuple[int, bytes]] = []
    while at < end:
        kind = BY_IDENTIFIER.get(data[at])
        after = value_end(kind.type, data, at + 1) if kind else None
        if kind is None or after is None or after > end:
            return None
        found.append((kind.identifier, data[at + 1 : after]))
        at = after
    return found, end


def value_end(kind: str, data: bytes, start: int) -> int | None:
    """The position after a value of this type that is at `start`, or None."""
    if kind in WIDTHS:
        end = start + WIDTHS[kind]
    elif kind == VARIABLE:
        read = read_variable_byte_integer(data, start)
        if read is None or not _is_minimal(read, start):
            return None
        end = read[1]
    else:
        end = start
        for _ in range(2 if kind == PAIR else 1):
            if end + 2 > len(data):
                return None
            end += 2 + int.from_bytes(data[end : end + 2], "big")
    return end if end <= len(data) else None


def encode_number(kind: str, value: int) -> bytes | None:
    """The bytes of a number of this type, or None when it does not fit."""
    if kind == VARIABLE:
        return variable_byte_integer(value) if value < 1 << 28 else None
    width = WIDTHS[kind]
    return value.to_bytes(width, "big") if value < 1 << 8 * width else None


def number(kind: str, value: bytes) -> int:
    """What the bytes of a number of this type say."""
    if kind == VARIABLE:
        read = read_variable_byte_integer(value, 0)
        return read[0] if read else 0
    return int.from_bytes(value, "big")


def _is_minimal(read: tuple[int, int], start: int) -> bool:
    value, after = read
    return len(variable_byte_integer(value)) == after - start
