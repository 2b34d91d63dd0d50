"""Properties from bytes and to bytes (2.2.2 of MQTT 5.0), by the rules of `_properties`."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import (
    LARGEST_REMAINING_LENGTH,
    MQTT_5,
    PROTOCOL_ERROR,
    PUBLISH,
    QUOTA_EXCEEDED,
    TOPIC_NAME_INVALID,
)
from mqtt_core._errors import LocalProtocolError, RemoteProtocolError
from mqtt_core._fields import binary_field, encode_variable, text_bytes, text_field
from mqtt_core._properties import (
    BINARY_DATA,
    BYTE,
    FOUR_BYTE_INTEGER,
    NO_PROPERTIES,
    RESPONSE_TOPIC,
    RULES,
    TWO_BYTE_INTEGER,
    UTF8_STRING,
    UTF8_STRING_PAIR,
    VARIABLE_BYTE_INTEGER,
    Properties,
    PropertyRule,
    PropertyValue,
)
from mqtt_core._reader import Reader
from mqtt_core._topics import topic_name_fault

MISPLACED: Final = "P5-2.2.2-1"
"""An identifier that is not valid for its packet makes that malformed."""

OVERRUN: Final = "P5-2.2.2-2"
"""So do a value that is not of its type, and properties that end behind their packet."""


@final
class PropertyLimits:
    """What one set of properties may take: `count` user properties, and `size_bytes` in all."""

    __slots__ = ("count", "size_bytes")

    def __init__(self, count: int, size_bytes: int) -> None:
        self.count: Final = count
        self.size_bytes: Final = size_bytes


NO_LIMITS: Final = PropertyLimits(LARGEST_REMAINING_LENGTH, LARGEST_REMAINING_LENGTH)


# From bytes


def decode_properties(reader: Reader, place: int, limits: PropertyLimits) -> Properties:
    """The properties that begin at `reader.at` with their length, in a packet type or `WILL`."""
    length = property_length(reader, limits)
    return decode_pairs(reader, length, place, limits) if length else NO_PROPERTIES


def property_length(reader: Reader, limits: PropertyLimits) -> int:
    """The length of the properties that follow, which end within the packet."""
    at = reader.at
    length = reader.variable("property length")
    if reader.at + length > reader.end:
        raise RemoteProtocolError("properties run past the end of the packet", OVERRUN, at)
    if length > limits.size_bytes:
        raise RemoteProtocolError(
            f"properties of {length} bytes are over the limit of {limits.size_bytes}",
            "",
            at,
            QUOTA_EXCEEDED,
        )
    return length


def decode_pairs(reader: Reader, length: int, place: int, limits: PropertyLimits) -> Properties:
    """The properties in the next `length` bytes."""
    inner = Reader(reader.data, reader.at, reader.at + length, MQTT_5)
    reader.at += length
    pairs: list[tuple[int, PropertyValue]] = []
    seen = 0
    users_left = limits.count
    while not inner.is_at_end:
        at = inner.at
        identifier = inner.byte("property")
        rule = RULES[identifier]
        if rule is None or not rule.places_mask >> place & 1:
            raise RemoteProtocolError(_unknown(identifier, rule), MISPLACED, at)
        if seen >> identifier & 1 and not rule.repeats_mask >> place & 1:
            raise RemoteProtocolError(
                f"{rule.name} comes more than once", rule.places[place], at, PROTOCOL_ERROR
            )
        seen |= 1 << identifier
        if rule.kind == UTF8_STRING_PAIR:
            users_left -= 1
            if users_left < 0:
                raise RemoteProtocolError(
                    f"packet has more than {limits.count} user properties", "", at, QUOTA_EXCEEDED
                )
        pairs.append((identifier, _decode_value(inner, rule, place)))
    return tuple(pairs)


def _unknown(identifier: int, rule: PropertyRule | None) -> str:
    if rule is None:
        return f"there is no property 0x{identifier:02X}"
    return f"{rule.name} may not stand in this packet"


def _decode_value(reader: Reader, rule: PropertyRule, place: int) -> PropertyValue:
    kind = rule.kind
    name = rule.name
    if kind == UTF8_STRING_PAIR:
        key = reader.text(name, "MQTT-1.5.7-1")
        return (key, reader.text(name, "MQTT-1.5.7-1"))
    if kind == UTF8_STRING:
        at = reader.at
        text = reader.text(name, _text_statement(rule.identifier, place))
        if rule.identifier == RESPONSE_TOPIC:
            _check_response_topic(text, at)
        return text
    if kind == BINARY_DATA:
        return reader.binary(name, OVERRUN)
    at = reader.at
    if kind == FOUR_BYTE_INTEGER:
        number = reader.four_bytes(name, OVERRUN)
    elif kind == TWO_BYTE_INTEGER:
        number = reader.two_bytes(name, OVERRUN)
    elif kind == BYTE:
        number = reader.byte(name, OVERRUN)
    else:
        number = reader.variable(name, OVERRUN)
    if not rule.least <= number <= rule.most:
        raise RemoteProtocolError(
            f"{name} is {number}", rule.value_statement(place), at, rule.value_reason
        )
    return number


def _text_statement(identifier: int, place: int) -> str:
    if place != PUBLISH:
        return "MQTT-1.5.4-1"
    return "MQTT-3.3.2-13" if identifier == RESPONSE_TOPIC else "MQTT-3.3.2-19"


def _check_response_topic(topic: str, at: int) -> None:
    """A response topic is used as a topic name, so it must be one (3.3.2.3.5)."""
    fault = topic_name_fault(topic.encode())
    if fault is not None:
        statement = "MQTT-3.3.2-14" if fault[1] == "MQTT-3.3.2-2" else fault[1]
        raise RemoteProtocolError("response " + fault[0], statement, at, TOPIC_NAME_INVALID)


# To bytes


def encode_properties(properties: Properties, place: int) -> bytes:
    """Properties of a packet type or `WILL`, behind their length.

    Raises `LocalProtocolError` for what MQTT forbids there.
    """
    if not properties:
        return b"\0"  # [MQTT-2.2.2-1]
    body = encode_pairs(properties, place)
    return encode_variable(len(body)) + body


def encode_pairs(properties: Properties, place: int) -> bytes:
    """Properties without their length. Raises `LocalProtocolError`."""
    parts: list[bytes] = []
    seen = 0
    for identifier, value in properties:
        rule = RULES[identifier] if 0 <= identifier < len(RULES) else None
        if rule is None or not rule.places_mask >> place & 1:
            raise LocalProtocolError(_unknown(identifier, rule))
        if seen >> identifier & 1 and not rule.repeats_mask >> place & 1:
            raise LocalProtocolError(f"{rule.name} may stand only once")
        seen |= 1 << identifier
        parts.append(bytes([identifier]))
        parts.append(_encode_value(rule, value))
    body = b"".join(parts)
    if len(body) > LARGEST_REMAINING_LENGTH:
        raise LocalProtocolError(f"properties of {len(body)} bytes are over 268,435,455")
    return body


def _encode_value(rule: PropertyRule, value: PropertyValue) -> bytes:
    name = rule.name
    kind = rule.kind
    if isinstance(value, int):
        if kind >= UTF8_STRING:
            raise LocalProtocolError(f"{name} is not a number")
        if not rule.least <= value <= rule.most:
            raise LocalProtocolError(f"{name} is {value}: not within {rule.least} to {rule.most}")
        if kind == VARIABLE_BYTE_INTEGER:
            return encode_variable(value)
        size = 4 if kind == FOUR_BYTE_INTEGER else 2 if kind == TWO_BYTE_INTEGER else 1
        return value.to_bytes(size, "big")
    if isinstance(value, str) and kind == UTF8_STRING:
        if rule.identifier == RESPONSE_TOPIC:  # [MQTT-3.3.2-14]
            fault = topic_name_fault(text_bytes(value, name))
            if fault is not None:
                raise LocalProtocolError("response " + fault[0])
        return text_field(value, name)
    if isinstance(value, bytes) and kind == BINARY_DATA:
        return binary_field(value, name)
    if isinstance(value, tuple) and kind == UTF8_STRING_PAIR:
        return text_field(value[0], name) + text_field(value[1], name)  # [MQTT-1.5.7-1]
    raise LocalProtocolError(f"{name} has a value of another type")
