"""Packets as a reader wants them: the notation of traces, and the packet's name.

It reads what it can and leaves the rest as hexadecimal: it has to show broken packets too, so it
knows less about MQTT than a decoder, and trusts nothing.
"""

from conformance._items import read_variable_byte_integer, variable_byte_integer
from conformance._notation import quote
from conformance._properties import BINARY, BY_IDENTIFIER, PAIR, STRING, number, split_properties

NAMES = (
    "reserved 0",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
)
LONGEST_SHOWN_BYTES = 200
MQTT_5 = 5
"""The protocol level of MQTT 5.0."""


def describe(packet: bytes, level: int = 4) -> str:
    """One line: the packet's name and its bytes in the notation of traces."""
    if not packet:
        return "no bytes"
    shown = packet[:LONGEST_SHOWN_BYTES]
    cut = f" ... ({len(packet)} bytes)" if len(shown) < len(packet) else ""
    text = notation(shown, level) if not cut else shown.hex(" ") + cut
    return f"{NAMES[packet[0] >> 4]}  {text}"


def notation(packet: bytes, level: int = 4) -> str:
    """The packet in the notation of traces, with identifiers, strings and lengths as such."""
    return " ".join(fields(packet, level))


def fields(packet: bytes, level: int = 4) -> list[str]:
    """The packet's fields in the notation of traces, read by the rules of a protocol level."""
    read = read_variable_byte_integer(packet, 1)
    if read is None:
        return [packet.hex(" ")]
    length, start = read
    if length != len(packet) - start or len(variable_byte_integer(length)) != start - 1:
        return [packet.hex(" ")]
    body, kind = packet[start:], packet[0] >> 4
    head = f"{packet[0]:02x}"
    has_properties = level == MQTT_5
    match kind:
        case 1:
            return [head, "rl", *_connect(body)]
        case 3:
            return [head, "rl", *_publish(packet[0], body, has_properties)]
        case 4 | 5 | 6 | 7 | 11 if length == 2:
            return [head, "02", f"u{int.from_bytes(body, 'big')}"]
        case 2 | 4 | 5 | 6 | 7 if has_properties and length > 2:
            begin = [body[:2].hex(" ")] if kind == 2 else [f"u{int.from_bytes(body[:2], 'big')}"]
            begin += [f"{body[2]:02x}"] if kind != 2 else []
            return [head, "rl", *begin, *_then_properties(body, 2 + (kind != 2))]
        case 8 | 9 | 10 | 11 if length > 2 and (has_properties or kind != 11):
            begin = [head, "rl", f"u{int.from_bytes(body[:2], 'big')}"]
            at = 2
            if has_properties:
                properties = properties_at(body, 2)
                if properties is None:
                    return [*begin, body[2:].hex(" ")]
                begin.append(properties[0])
                at = properties[1]
            rest = body[at:]
            items = _filters(rest, kind == 8) if kind in (8, 10) else [rest.hex(" ")]
            return [*begin, *items] if rest else begin
        case 14 | 15 if has_properties and length > 0:
            return [head, "rl", f"{body[0]:02x}", *_then_properties(body, 1)]
        case _:
            return [packet.hex(" ")]


def level_of(connect: bytes) -> int:
    """The protocol level that a CONNECT asks for; 0 when it cannot be read."""
    read = read_variable_byte_integer(connect, 1)
    name = string_at(connect, read[1]) if read else None
    return connect[name[1]] if name and name[1] < len(connect) else 0


def string_at(data: bytes, at: int) -> tuple[bytes, int] | None:
    """(the string whose two bytes of length are at `at`, the position after it), or None."""
    size = int.from_bytes(data[at : at + 2], "big")
    end = at + 2 + size
    return (data[at + 2 : end], end) if at + 2 <= len(data) and end <= len(data) else None


def properties_at(data: bytes, at: int) -> tuple[str, int] | None:
    """(the properties whose length is at `at`, in notation; the position after them), or None."""
    split = split_properties(data, at)
    if split is None:
        return None
    shown = [
        f"{BY_IDENTIFIER[identifier].name} {_value(BY_IDENTIFIER[identifier].type, value)}"
        for identifier, value in split[0]
    ]
    return f"[{', '.join(shown)}]", split[1]


def _value(kind: str, value: bytes) -> str:
    if kind == PAIR:
        key = string_at(value, 0)
        return f"{quote(key[0])} {quote(value[key[1] + 2 :])}" if key else ""
    if kind in (STRING, BINARY):
        return quote(value[2:])
    return str(number(kind, value))


def _then_properties(body: bytes, at: int) -> list[str]:
    """The properties that end the packet, if it has them at all."""
    if at == len(body):
        return []
    read = properties_at(body, at)
    if read is None:
        return [body[at:].hex(" ")]
    text, after = read
    return [text, body[after:].hex(" ")] if after < len(body) else [text]


def _publish(first: int, body: bytes, has_properties: bool) -> list[str]:
    topic = string_at(body, 0)
    if topic is None:
        return [body.hex(" ")]
    out, at = [name("t", topic[0])], topic[1]
    if first & 0x06:
        if at + 2 > len(body):
            return [body.hex(" ")]
        out.append(f"u{int.from_bytes(body[at : at + 2], 'big')}")
        at += 2
    if has_properties:
        properties = properties_at(body, at)
        if properties is None:
            return [*out, body[at:].hex(" ")] if at < len(body) else out
        out.append(properties[0])
        at = properties[1]
    return [*out, quote(body[at:])] if at < len(body) else out


def _filters(rest: bytes, has_options: bool) -> list[str]:
    out: list[str] = []
    at = 0
    while at < len(rest):
        read = string_at(rest, at)
        if read is None or read[1] + has_options > len(rest):
            return [*out, rest[at:].hex(" ")]
        out.append(name("t", read[0]))
        at = read[1]
        if has_options:
            out.append(f"{rest[at]:02x}")
            at += 1
    return out


def _connect(body: bytes) -> list[str]:
    protocol = string_at(body, 0)
    if protocol is None or protocol[1] + 4 > len(body):
        return [body.hex(" ")]
    at = protocol[1]
    flags = body[at + 1]
    out = [f"s{quote(protocol[0])}", f"{body[at]:02x}", f"{flags:02x}"]
    out.append(f"u{int.from_bytes(body[at + 2 : at + 4], 'big')}")
    level = body[at]
    at += 4
    kinds = "c" + ("ts" if flags & 0x04 else "") + "s" * bin(flags & 0xC0).count("1")
    if level == MQTT_5:
        kinds = "p" + kinds.replace("t", "pt")
    for kind in kinds:
        if kind == "p":
            properties = properties_at(body, at)
            if properties is None:
                break
            out.append(properties[0])
            at = properties[1]
            continue
        read = string_at(body, at)
        if read is None:
            break
        out.append(name(kind, read[0]))
        at = read[1]
    return [*out, body[at:].hex(" ")] if at < len(body) else out


def name(kind: str, text: bytes) -> str:
    """A string field. An empty or $ name is the same for everyone, so it is written as s'...'."""
    is_own = text.startswith(b"$share/") or not text.startswith(b"$")
    return (kind if text and is_own else "s") + quote(text)
