"""Packets as a reader wants them: the notation of traces, and the packet's name.

It reads what it can and leaves the rest as hexadecimal: it has to show broken packets too, so it
knows less about MQTT than a decoder, and trusts nothing.
"""

from conformance._items import read_variable_byte_integer, variable_byte_integer
from conformance._notation import quote

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


def describe(packet: bytes) -> str:
    """One line: the packet's name and its bytes in the notation of traces."""
    if not packet:
        return "no bytes"
    shown = packet[:LONGEST_SHOWN_BYTES]
    cut = f" ... ({len(packet)} bytes)" if len(shown) < len(packet) else ""
    return f"{NAMES[packet[0] >> 4]}  {notation(shown) if not cut else shown.hex(' ') + cut}"


def notation(packet: bytes) -> str:
    """The packet in the notation of traces, with identifiers, strings and lengths as such."""
    return " ".join(fields(packet))


def fields(packet: bytes) -> list[str]:
    """The packet's fields in the notation of traces."""
    read = read_variable_byte_integer(packet, 1)
    if read is None:
        return [packet.hex(" ")]
    length, start = read
    if length != len(packet) - start or len(variable_byte_integer(length)) != start - 1:
        return [packet.hex(" ")]
    body, kind = packet[start:], packet[0] >> 4
    head = f"{packet[0]:02x}"
    match kind:
        case 1:
            return [head, "rl", *_connect(body)]
        case 3:
            return [head, "rl", *_publish(packet[0], body)]
        case 4 | 5 | 6 | 7 | 11 if length == 2:
            return [head, "02", f"u{int.from_bytes(body, 'big')}"]
        case 8 | 9 | 10 if length > 2:
            rest = body[2:]
            items = [rest.hex(" ")] if kind == 9 else _filters(rest, kind == 8)
            return [head, "rl", f"u{int.from_bytes(body[:2], 'big')}", *items]
        case _:
            return [packet.hex(" ")]


def string_at(data: bytes, at: int) -> tuple[bytes, int] | None:
    """(the string whose two bytes of length are at `at`, the position after it), or None."""
    size = int.from_bytes(data[at : at + 2], "big")
    end = at + 2 + size
    return (data[at + 2 : end], end) if at + 2 <= len(data) and end <= len(data) else None


def _publish(first: int, body: bytes) -> list[str]:
    topic = string_at(body, 0)
    if topic is None:
        return [body.hex(" ")]
    out, at = [name("t", topic[0])], topic[1]
    if first & 0x06:
        if at + 2 > len(body):
            return [body.hex(" ")]
        out.append(f"u{int.from_bytes(body[at : at + 2], 'big')}")
        at += 2
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
    at += 4
    kinds = ["c"]
    kinds += ["t", "s"] if flags & 0x04 else []
    kinds += ["s"] if flags & 0x80 else []
    kinds += ["s"] if flags & 0x40 else []
    for kind in kinds:
        read = string_at(body, at)
        if read is None:
            break
        out.append(name(kind, read[0]))
        at = read[1]
    return [*out, body[at:].hex(" ")] if at < len(body) else out


def name(kind: str, text: bytes) -> str:
    """A string field. An empty or $ name is the same for everyone, so it is written as s'...'."""
    return ("s" if not text or text.startswith(b"$") else kind) + quote(text)
