"""A packet in one line for a reader: its name and its main fields, in words.

It has to show broken packets too, so it trusts nothing: what it cannot read is hexadecimal.
"""

from conformance._items import read_variable_byte_integer
from conformance._readable import MQTT_5, NAMES, level_of, properties_at, string_at
from mqtt_core import reason_name

LONGEST_PAYLOAD_BYTES = 60
_RETURN_CODES = {
    0: "accepted",
    1: "refused: unacceptable protocol version",
    2: "refused: identifier rejected",
    3: "refused: server unavailable",
    4: "refused: bad user name or password",
    5: "refused: not authorized",
}
"""Table 3.1 of MQTT 3.1.1."""
_VERSIONS = {3: "3.1", 4: "3.1.1", 5: "5.0"}
_SUBSCRIPTION_QOS, _SHORTEST_ACKNOWLEDGEMENT = 0x03, 2


def name_of(packet: bytes) -> str:
    """The packet's name in the standard's words."""
    return NAMES[packet[0] >> 4]


def printable(data: bytes, most: int = 1 << 16) -> str:
    """A text as it is, with escapes for what a terminal must not be sent; binary data as hex."""
    cut = f"... ({len(data):,} bytes)" if len(data) > most else ""
    try:
        text = data[:most].decode()
    except UnicodeDecodeError as error:
        if error.start < most - 3 or not cut:  # else it is the cut that has split a character
            return data[: most // 3].hex(" ") + (f"... ({len(data):,} bytes)" if cut else "")
        text = data[: error.start].decode()
    return "".join(c if c.isprintable() else _escape(c) for c in text) + cut


def summary(packet: bytes, level: int, is_hidden: bool = False) -> str:
    """The main fields, without the packet's name; `level` is the connection's protocol level.

    `is_hidden`: the payload is asterisks in the place of what was there.
    """
    read = read_variable_byte_integer(packet, 1)
    if read is None or read[0] != len(packet) - read[1]:
        return f"malformed: {packet[:24].hex(' ')}"
    body, kind = packet[read[1] :], packet[0] >> 4
    words: list[str] | None
    match kind:
        case 1:
            words = _connect(body, level_of(packet), is_hidden)
        case 2:
            words = _connack(body, level)
        case 3:
            words = _publish(packet[0], body, level, is_hidden)
        case 4 | 5 | 6 | 7:
            words = _acknowledgement(body, level)
        case 8 | 10:
            words = _filters(body, level, has_options=kind == 8)
        case 9 | 11:
            words = _answers(body, level, kind)
        case 14 | 15 if body:
            words = [_reason(kind, body[0], level), *_properties(body, 1)]
        case _:
            words = [] if not body else None
    if words is None:
        return f"malformed: {packet[:24].hex(' ')}"
    return " ".join(word for word in words if word)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"


def _reason(kind: int, code: int, level: int) -> str:
    if level != MQTT_5:
        return _RETURN_CODES.get(code, f"{code:02X}") if kind == 2 else f"{code:02X}"
    if kind == 14 and code == 0:
        return "normal disconnection"
    return f"{code:02X} {reason_name(code)}" if code else "success"


def _properties(body: bytes, at: int) -> list[str]:
    """The properties that end a packet, in the notation of traces; nothing where there are none."""
    if at >= len(body):
        return []
    read = properties_at(body, at)
    if read is None:
        return [body[at:].hex(" ")]
    return [read[0]] if read[0] != "[]" else []


def _connect(body: bytes, level: int, is_hidden: bool) -> list[str] | None:
    protocol = string_at(body, 0)
    if protocol is None or protocol[1] + 4 > len(body):
        return None
    at = protocol[1] + 4
    flags, keep_alive_s = body[at - 3], int.from_bytes(body[at - 2 : at], "big")
    properties, will_properties = "", ""
    if level == MQTT_5:
        read = properties_at(body, at)
        if read is None:
            return None
        properties, at = read
    client_id = string_at(body, at)
    if client_id is None:
        return None
    at = client_id[1]
    words = [f"MQTT {_VERSIONS.get(level, str(level))}", f"'{printable(client_id[0])}'"]
    words.append(("clean start" if level == MQTT_5 else "clean session") * bool(flags & 2))
    words.append(f"keep alive {keep_alive_s} s")
    if flags & 0x04:
        if level == MQTT_5:
            read = properties_at(body, at)
            if read is None:
                return None
            will_properties, at = read
        topic = string_at(body, at)
        payload = string_at(body, topic[1]) if topic else None
        if topic is None or payload is None:
            return None
        words.append(f"will '{printable(topic[0])}' QoS {flags >> 3 & 3}")
        words += ["retain" * bool(flags & 0x20), _payload(payload[0], is_hidden)]
        words.append(will_properties.replace("[]", ""))
    named = [n for n, bit in (("user name", 0x80), ("password", 0x40)) if flags & bit]
    words.append(f"with {' and '.join(named)}" if named else "")
    return [*words, properties.replace("[]", "")]


def _connack(body: bytes, level: int) -> list[str] | None:
    if len(body) < 2:
        return None
    words = [_reason(2, body[1], level).replace("success", "accepted")]
    words.append("session present" if body[0] & 1 else "")
    return words + _properties(body, 2)


def _publish(first: int, body: bytes, level: int, is_hidden: bool) -> list[str] | None:
    topic = string_at(body, 0)
    if topic is None:
        return None
    at, qos = topic[1], first >> 1 & 3
    words = [f"'{printable(topic[0])}'", f"QoS {qos}"]
    if qos:
        if at + 2 > len(body):
            return None
        words.append(f"#{int.from_bytes(body[at : at + 2], 'big')}")
        at += 2
    words += ["retain" * (first & 1), "dup" * bool(first & 8)]
    properties = ""
    if level == MQTT_5:
        read = properties_at(body, at)
        if read is None:
            return None
        properties, at = read[0].replace("[]", ""), read[1]
    return [*words, _payload(body[at:], is_hidden), properties]


def _payload(payload: bytes, is_hidden: bool) -> str:
    if is_hidden and payload:
        return f"({len(payload):,} bytes hidden)"
    return f"'{printable(payload, LONGEST_PAYLOAD_BYTES)}'"


def _acknowledgement(body: bytes, level: int) -> list[str] | None:
    if len(body) < _SHORTEST_ACKNOWLEDGEMENT:
        return None
    words = [f"#{int.from_bytes(body[:2], 'big')}"]
    if len(body) > 2 and level == MQTT_5:
        words += [_reason(4, body[2], level).replace("success", ""), *_properties(body, 3)]
    return words


def _filters(body: bytes, level: int, *, has_options: bool) -> list[str] | None:
    if len(body) < 2:
        return None
    words, at, properties = [f"#{int.from_bytes(body[:2], 'big')}"], 2, ""
    if level == MQTT_5:
        read = properties_at(body, 2)
        if read is None:
            return None
        properties, at = read[0].replace("[]", ""), read[1]
    while at < len(body):
        topic_filter = string_at(body, at)
        if topic_filter is None or topic_filter[1] + has_options > len(body):
            return None
        at = topic_filter[1]
        words.append(f"'{printable(topic_filter[0])}'")
        if has_options:
            words.append(_options(body[at]))
            at += 1
    return [*words, properties]


def _options(options: int) -> str:
    """The options of one subscription (3.8.3.1 of MQTT 5.0)."""
    words = [f"QoS {options & _SUBSCRIPTION_QOS}"]
    words += ["no local" * bool(options & 4), "retain as published" * bool(options & 8)]
    words.append(f"retain handling {options >> 4 & 3}" * bool(options & 0x30))
    return " ".join(word for word in words if word)


def _answers(body: bytes, level: int, kind: int) -> list[str] | None:
    if len(body) < 2:
        return None
    words, at = [f"#{int.from_bytes(body[:2], 'big')}"], 2
    properties = ""
    if level == MQTT_5:
        read = properties_at(body, 2)
        if read is None:
            return None
        properties, at = read[0].replace("[]", ""), read[1]
    if kind == 9:
        for code in body[at:]:
            words.append(f"QoS {code}" if code <= 2 else _reason(9, code, level))
    else:
        words += [_reason(11, code, level) for code in body[at:]]
    return [*words, properties]
