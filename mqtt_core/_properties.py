"""The properties of MQTT 5.0 (2.2.2): what each is, where it may stand, and how to look one up.

A packet carries its properties as pairs, in the order of the packet. MQTT 3.1.1 has none, so that
a connection of that version only ever carries `NO_PROPERTIES`. The rules are a table, which the
decoder and the encoder obey, a test walks and a page of the documentation prints.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PROTOCOL_ERROR,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    TOPIC_ALIAS_INVALID,
    UNSUBACK,
    UNSUBSCRIBE,
)

PropertyValue = int | bytes | str | tuple[str, str]
"""Four value kinds: number, binary data, string and string pair (1.5)."""

Properties = tuple[tuple[int, PropertyValue], ...]
"""Pairs of property identifier and value, in the order of the packet."""

NO_PROPERTIES: Final[Properties] = ()

WILL: Final = 0
"""Where packet types stand: the will properties of CONNECT, which have a table of their own."""

PAYLOAD_FORMAT_INDICATOR: Final = 0x01
MESSAGE_EXPIRY_INTERVAL: Final = 0x02
CONTENT_TYPE: Final = 0x03
RESPONSE_TOPIC: Final = 0x08
CORRELATION_DATA: Final = 0x09
SUBSCRIPTION_IDENTIFIER: Final = 0x0B
SESSION_EXPIRY_INTERVAL: Final = 0x11
ASSIGNED_CLIENT_IDENTIFIER: Final = 0x12
SERVER_KEEP_ALIVE: Final = 0x13
AUTHENTICATION_METHOD: Final = 0x15
AUTHENTICATION_DATA: Final = 0x16
REQUEST_PROBLEM_INFORMATION: Final = 0x17
WILL_DELAY_INTERVAL: Final = 0x18
REQUEST_RESPONSE_INFORMATION: Final = 0x19
RESPONSE_INFORMATION: Final = 0x1A
SERVER_REFERENCE: Final = 0x1C
REASON_STRING: Final = 0x1F
RECEIVE_MAXIMUM: Final = 0x21
TOPIC_ALIAS_MAXIMUM: Final = 0x22
TOPIC_ALIAS: Final = 0x23
MAXIMUM_QOS: Final = 0x24
RETAIN_AVAILABLE: Final = 0x25
USER_PROPERTY: Final = 0x26
MAXIMUM_PACKET_SIZE: Final = 0x27
WILDCARD_SUBSCRIPTION_AVAILABLE: Final = 0x28
SUBSCRIPTION_IDENTIFIER_AVAILABLE: Final = 0x29
SHARED_SUBSCRIPTION_AVAILABLE: Final = 0x2A

# Value kinds (1.5).
BYTE: Final = 0
TWO_BYTE_INTEGER: Final = 1
FOUR_BYTE_INTEGER: Final = 2
VARIABLE_BYTE_INTEGER: Final = 3
UTF8_STRING: Final = 4
BINARY_DATA: Final = 5
UTF8_STRING_PAIR: Final = 6

VALUE_KIND_NAMES: Final[tuple[str, ...]] = (
    "Byte",
    "Two Byte Integer",
    "Four Byte Integer",
    "Variable Byte Integer",
    "UTF-8 Encoded String",
    "Binary Data",
    "UTF-8 String Pair",
)

_LARGEST: Final[tuple[int, ...]] = (0xFF, 0xFFFF, 0xFFFF_FFFF, 268_435_455, 0, 0, 0)


@final
class PropertyRule:
    """What the standard says of one property.

    `places` has the packet types where it may stand, each with the statement that forbids a second
    one there; it may stand more than once in those of `repeats`. A number is within `least` and
    `most`: the same statements say so, but for those in `value_statements`.
    """

    def __init__(
        self,
        identifier: int,
        name: str,
        kind: int,
        places: dict[int, str],
        *,
        repeats: tuple[int, ...] = (),
        least: int = 0,
        most: int = -1,
        value_statements: dict[int, str] | None = None,
        value_reason: int = PROTOCOL_ERROR,
    ) -> None:
        self.identifier: Final = identifier
        self.name: Final = name
        self.kind: Final = kind
        self.places: Final = places
        self.repeats: Final = repeats
        self.least: Final = least
        self.most: Final = most if most >= 0 else _LARGEST[kind]
        self.places_mask: Final = sum(1 << place for place in places)
        self.repeats_mask: Final = sum(1 << place for place in repeats)
        self.value_reason: Final = value_reason
        self._value_statements: Final = places if value_statements is None else value_statements

    def value_statement(self, place: int) -> str:
        """The statement that sets the bounds of the value in `place`."""
        return self._value_statements[place]


_EVERYWHERE: Final[tuple[int, ...]] = (
    WILL,
    CONNECT,
    CONNACK,
    PUBLISH,
    PUBACK,
    PUBREC,
    PUBREL,
    PUBCOMP,
    SUBSCRIBE,
    SUBACK,
    UNSUBSCRIBE,
    UNSUBACK,
    DISCONNECT,
    AUTH,
)

PROPERTIES: Final[tuple[PropertyRule, ...]] = (
    PropertyRule(
        PAYLOAD_FORMAT_INDICATOR,
        "Payload Format Indicator",
        BYTE,
        {WILL: "P5-3.1.3-2", PUBLISH: "P5-3.3.2-7"},
        most=1,
        value_statements={WILL: "P5-3.1.3-7", PUBLISH: "P5-3.3.2-7"},
    ),
    PropertyRule(
        MESSAGE_EXPIRY_INTERVAL,
        "Message Expiry Interval",
        FOUR_BYTE_INTEGER,
        {WILL: "P5-3.1.3-3", PUBLISH: "P5-3.3.2-8"},
    ),
    PropertyRule(
        CONTENT_TYPE,
        "Content Type",
        UTF8_STRING,
        {WILL: "P5-3.1.3-4", PUBLISH: "P5-3.3.2-6"},
    ),
    PropertyRule(
        RESPONSE_TOPIC,
        "Response Topic",
        UTF8_STRING,
        {WILL: "P5-3.1.3-5", PUBLISH: "P5-3.3.2-3"},
    ),
    PropertyRule(
        CORRELATION_DATA,
        "Correlation Data",
        BINARY_DATA,
        {WILL: "P5-3.1.3-6", PUBLISH: "P5-3.3.2-4"},
    ),
    PropertyRule(
        SUBSCRIPTION_IDENTIFIER,
        "Subscription Identifier",
        VARIABLE_BYTE_INTEGER,
        {PUBLISH: "", SUBSCRIBE: "P5-3.8.2-2"},
        repeats=(PUBLISH,),
        least=1,
        value_statements={PUBLISH: "P5-3.3.2-5", SUBSCRIBE: "P5-3.8.2-1"},
    ),
    PropertyRule(
        SESSION_EXPIRY_INTERVAL,
        "Session Expiry Interval",
        FOUR_BYTE_INTEGER,
        {CONNECT: "P5-3.1.2-3", CONNACK: "P5-3.2.2-1", DISCONNECT: "P5-3.14.2-1"},
    ),
    PropertyRule(
        ASSIGNED_CLIENT_IDENTIFIER,
        "Assigned Client Identifier",
        UTF8_STRING,
        {CONNACK: "P5-3.2.2-9"},
    ),
    PropertyRule(
        SERVER_KEEP_ALIVE,
        "Server Keep Alive",
        TWO_BYTE_INTEGER,
        {CONNACK: "P5-3.2.2-18"},
    ),
    PropertyRule(
        AUTHENTICATION_METHOD,
        "Authentication Method",
        UTF8_STRING,
        {CONNECT: "P5-3.1.2-11", CONNACK: "P5-3.2.2-21", AUTH: "P5-3.15.2-2"},
    ),
    PropertyRule(
        AUTHENTICATION_DATA,
        "Authentication Data",
        BINARY_DATA,
        {CONNECT: "P5-3.1.2-13", CONNACK: "P5-3.2.2-22", AUTH: "P5-3.15.2-3"},
    ),
    PropertyRule(
        REQUEST_PROBLEM_INFORMATION,
        "Request Problem Information",
        BYTE,
        {CONNECT: "P5-3.1.2-9"},
        most=1,
    ),
    PropertyRule(
        WILL_DELAY_INTERVAL,
        "Will Delay Interval",
        FOUR_BYTE_INTEGER,
        {WILL: "P5-3.1.3-1"},
    ),
    PropertyRule(
        REQUEST_RESPONSE_INFORMATION,
        "Request Response Information",
        BYTE,
        {CONNECT: "P5-3.1.2-8"},
        most=1,
    ),
    PropertyRule(
        RESPONSE_INFORMATION,
        "Response Information",
        UTF8_STRING,
        {CONNACK: "P5-3.2.2-19"},
    ),
    PropertyRule(
        SERVER_REFERENCE,
        "Server Reference",
        UTF8_STRING,
        {CONNACK: "P5-3.2.2-20", DISCONNECT: "P5-3.14.2-4"},
    ),
    PropertyRule(
        REASON_STRING,
        "Reason String",
        UTF8_STRING,
        {
            CONNACK: "P5-3.2.2-11",
            PUBACK: "P5-3.4.2-1",
            PUBREC: "P5-3.5.2-1",
            PUBREL: "P5-3.6.2-1",
            PUBCOMP: "P5-3.7.2-1",
            SUBACK: "P5-3.9.2-1",
            UNSUBACK: "P5-3.11.2-1",
            DISCONNECT: "P5-3.14.2-3",
            AUTH: "P5-3.15.2-4",
        },
    ),
    PropertyRule(
        RECEIVE_MAXIMUM,
        "Receive Maximum",
        TWO_BYTE_INTEGER,
        {CONNECT: "P5-3.1.2-4", CONNACK: "P5-3.2.2-2"},
        least=1,
    ),
    PropertyRule(
        TOPIC_ALIAS_MAXIMUM,
        "Topic Alias Maximum",
        TWO_BYTE_INTEGER,
        {CONNECT: "P5-3.1.2-7", CONNACK: "P5-3.2.2-10"},
    ),
    PropertyRule(
        TOPIC_ALIAS,
        "Topic Alias",
        TWO_BYTE_INTEGER,
        {PUBLISH: "P5-3.3.2-2"},
        least=1,
        value_statements={PUBLISH: "MQTT-3.3.2-8"},
        value_reason=TOPIC_ALIAS_INVALID,
    ),
    PropertyRule(
        MAXIMUM_QOS,
        "Maximum QoS",
        BYTE,
        {CONNACK: "P5-3.2.2-3"},
        most=1,
    ),
    PropertyRule(
        RETAIN_AVAILABLE,
        "Retain Available",
        BYTE,
        {CONNACK: "P5-3.2.2-5"},
        most=1,
    ),
    PropertyRule(
        USER_PROPERTY,
        "User Property",
        UTF8_STRING_PAIR,
        dict.fromkeys(_EVERYWHERE, ""),
        repeats=_EVERYWHERE,
    ),
    PropertyRule(
        MAXIMUM_PACKET_SIZE,
        "Maximum Packet Size",
        FOUR_BYTE_INTEGER,
        {CONNECT: "P5-3.1.2-5", CONNACK: "P5-3.2.2-7"},
        least=1,
    ),
    PropertyRule(
        WILDCARD_SUBSCRIPTION_AVAILABLE,
        "Wildcard Subscription Available",
        BYTE,
        {CONNACK: "P5-3.2.2-12"},
        most=1,
    ),
    PropertyRule(
        SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        "Subscription Identifier Available",
        BYTE,
        {CONNACK: "P5-3.2.2-14"},
        most=1,
    ),
    PropertyRule(
        SHARED_SUBSCRIPTION_AVAILABLE,
        "Shared Subscription Available",
        BYTE,
        {CONNACK: "P5-3.2.2-16"},
        most=1,
    ),
)
"""All 27 properties (table 2-4)."""


def _by_identifier() -> list[PropertyRule | None]:
    rules: list[PropertyRule | None] = [None] * 256
    for rule in PROPERTIES:
        rules[rule.identifier] = rule
    return rules


RULES: Final = _by_identifier()
"""The rule of each identifier, None for those that are no property."""


def number(properties: Properties, identifier: int, default: int) -> int:
    """The value of the first property of that identifier, or `default` without one."""
    for found, value in properties:
        if found == identifier and isinstance(value, int):
            return value
    return default


def text(properties: Properties, identifier: int) -> str | None:
    """The string of the first property of that identifier, None without one."""
    for found, value in properties:
        if found == identifier and isinstance(value, str):
            return value
    return None


def binary(properties: Properties, identifier: int) -> bytes | None:
    """The binary data of the first property of that identifier, None without one."""
    for found, value in properties:
        if found == identifier and isinstance(value, bytes):
            return value
    return None


def user_properties(properties: Properties) -> list[tuple[str, str]]:
    """The user properties, in order."""
    pairs: list[tuple[str, str]] = []
    for found, value in properties:
        if found == USER_PROPERTY and isinstance(value, tuple):
            pairs.append(value)
    return pairs


def show_properties(properties: Properties) -> str:
    """Properties with their names, for logs; authentication data is only counted."""
    parts: list[str] = []
    for identifier, value in properties:
        rule = RULES[identifier] if 0 <= identifier < len(RULES) else None
        name = f"0x{identifier:02X}" if rule is None else rule.name
        if identifier == AUTHENTICATION_DATA and isinstance(value, bytes):
            parts.append(f"{name}=<{len(value)} bytes>")
        else:
            parts.append(f"{name}={value!r}")
    return f"({', '.join(parts)})"
