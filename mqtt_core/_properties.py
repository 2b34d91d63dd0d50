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

    `sections` has the packet types where it may stand, each with the section that says so. It may
    stand more than once in those of `repeats`. A number is within `least` and `most`.
    """

    def __init__(
        self,
        identifier: int,
        name: str,
        kind: int,
        sections: dict[int, str],
        *,
        repeats: tuple[int, ...] = (),
        least: int = 0,
        most: int = -1,
    ) -> None:
        self.identifier: Final = identifier
        self.name: Final = name
        self.kind: Final = kind
        self.sections: Final = sections
        self.repeats: Final = repeats
        self.least: Final = least
        self.most: Final = most if most >= 0 else _LARGEST[kind]
        self.places_mask: Final = sum(1 << place for place in sections)
        self.repeats_mask: Final = sum(1 << place for place in repeats)

    def repeat_statement(self, place: int) -> str:
        """The sentence that forbids a second one in `place`."""
        return f"P5-{self.sections[place]}-{_REPEAT_SENTENCE.get((self.identifier, place), 1)}"

    def value_statement(self, place: int) -> str:
        """The sentence that sets the bounds of the value in `place`."""
        if self.identifier == TOPIC_ALIAS:
            return "MQTT-3.3.2-8"
        return f"P5-{self.sections[place]}-{_VALUE_SENTENCE.get(self.identifier, 1)}"

    @property
    def value_reason(self) -> int:
        """The reason code for a value out of bounds."""
        return TOPIC_ALIAS_INVALID if self.identifier == TOPIC_ALIAS else PROTOCOL_ERROR


# Sentences of a section are counted in the order in which they stand, from 1. Most sections have
# one, "It is a Protocol Error to include it more than once or to have the value ...".
_REPEAT_SENTENCE: Final[dict[tuple[int, int], int]] = {
    (AUTHENTICATION_DATA, CONNECT): 2,  # 1: without an authentication method
    (SUBSCRIPTION_IDENTIFIER, SUBSCRIBE): 2,  # 1: of the value 0
}
_VALUE_SENTENCE: Final[dict[int, int]] = {PAYLOAD_FORMAT_INDICATOR: 2}

_USER_PROPERTY_SECTIONS: Final[dict[int, str]] = {
    WILL: "3.1.3.2.8",
    CONNECT: "3.1.2.11.8",
    CONNACK: "3.2.2.3.10",
    PUBLISH: "3.3.2.3.7",
    PUBACK: "3.4.2.2.3",
    PUBREC: "3.5.2.2.3",
    PUBREL: "3.6.2.2.3",
    PUBCOMP: "3.7.2.2.3",
    SUBSCRIBE: "3.8.2.1.3",
    SUBACK: "3.9.2.1.3",
    UNSUBSCRIBE: "3.10.2.1.2",
    UNSUBACK: "3.11.2.1.3",
    DISCONNECT: "3.14.2.2.4",
    AUTH: "3.15.2.2.5",
}

PROPERTIES: Final[tuple[PropertyRule, ...]] = (
    PropertyRule(
        PAYLOAD_FORMAT_INDICATOR,
        "Payload Format Indicator",
        BYTE,
        {WILL: "3.1.3.2.3", PUBLISH: "3.3.2.3.2"},
        most=1,
    ),
    PropertyRule(
        MESSAGE_EXPIRY_INTERVAL,
        "Message Expiry Interval",
        FOUR_BYTE_INTEGER,
        {WILL: "3.1.3.2.4", PUBLISH: "3.3.2.3.3"},
    ),
    PropertyRule(
        CONTENT_TYPE, "Content Type", UTF8_STRING, {WILL: "3.1.3.2.5", PUBLISH: "3.3.2.3.9"}
    ),
    PropertyRule(
        RESPONSE_TOPIC, "Response Topic", UTF8_STRING, {WILL: "3.1.3.2.6", PUBLISH: "3.3.2.3.5"}
    ),
    PropertyRule(
        CORRELATION_DATA,
        "Correlation Data",
        BINARY_DATA,
        {WILL: "3.1.3.2.7", PUBLISH: "3.3.2.3.6"},
    ),
    PropertyRule(
        SUBSCRIPTION_IDENTIFIER,
        "Subscription Identifier",
        VARIABLE_BYTE_INTEGER,
        {PUBLISH: "3.3.2.3.8", SUBSCRIBE: "3.8.2.1.2"},
        repeats=(PUBLISH,),
        least=1,
    ),
    PropertyRule(
        SESSION_EXPIRY_INTERVAL,
        "Session Expiry Interval",
        FOUR_BYTE_INTEGER,
        {CONNECT: "3.1.2.11.2", CONNACK: "3.2.2.3.2", DISCONNECT: "3.14.2.2.2"},
    ),
    PropertyRule(
        ASSIGNED_CLIENT_IDENTIFIER,
        "Assigned Client Identifier",
        UTF8_STRING,
        {CONNACK: "3.2.2.3.7"},
    ),
    PropertyRule(SERVER_KEEP_ALIVE, "Server Keep Alive", TWO_BYTE_INTEGER, {CONNACK: "3.2.2.3.14"}),
    PropertyRule(
        AUTHENTICATION_METHOD,
        "Authentication Method",
        UTF8_STRING,
        {CONNECT: "3.1.2.11.9", CONNACK: "3.2.2.3.17", AUTH: "3.15.2.2.2"},
    ),
    PropertyRule(
        AUTHENTICATION_DATA,
        "Authentication Data",
        BINARY_DATA,
        {CONNECT: "3.1.2.11.10", CONNACK: "3.2.2.3.18", AUTH: "3.15.2.2.3"},
    ),
    PropertyRule(
        REQUEST_PROBLEM_INFORMATION,
        "Request Problem Information",
        BYTE,
        {CONNECT: "3.1.2.11.7"},
        most=1,
    ),
    PropertyRule(
        WILL_DELAY_INTERVAL, "Will Delay Interval", FOUR_BYTE_INTEGER, {WILL: "3.1.3.2.2"}
    ),
    PropertyRule(
        REQUEST_RESPONSE_INFORMATION,
        "Request Response Information",
        BYTE,
        {CONNECT: "3.1.2.11.6"},
        most=1,
    ),
    PropertyRule(
        RESPONSE_INFORMATION, "Response Information", UTF8_STRING, {CONNACK: "3.2.2.3.15"}
    ),
    PropertyRule(
        SERVER_REFERENCE,
        "Server Reference",
        UTF8_STRING,
        {CONNACK: "3.2.2.3.16", DISCONNECT: "3.14.2.2.5"},
    ),
    PropertyRule(
        REASON_STRING,
        "Reason String",
        UTF8_STRING,
        {
            CONNACK: "3.2.2.3.9",
            PUBACK: "3.4.2.2.2",
            PUBREC: "3.5.2.2.2",
            PUBREL: "3.6.2.2.2",
            PUBCOMP: "3.7.2.2.2",
            SUBACK: "3.9.2.1.2",
            UNSUBACK: "3.11.2.1.2",
            DISCONNECT: "3.14.2.2.3",
            AUTH: "3.15.2.2.4",
        },
    ),
    PropertyRule(
        RECEIVE_MAXIMUM,
        "Receive Maximum",
        TWO_BYTE_INTEGER,
        {CONNECT: "3.1.2.11.3", CONNACK: "3.2.2.3.3"},
        least=1,
    ),
    PropertyRule(
        TOPIC_ALIAS_MAXIMUM,
        "Topic Alias Maximum",
        TWO_BYTE_INTEGER,
        {CONNECT: "3.1.2.11.5", CONNACK: "3.2.2.3.8"},
    ),
    PropertyRule(TOPIC_ALIAS, "Topic Alias", TWO_BYTE_INTEGER, {PUBLISH: "3.3.2.3.4"}, least=1),
    PropertyRule(MAXIMUM_QOS, "Maximum QoS", BYTE, {CONNACK: "3.2.2.3.4"}, most=1),
    PropertyRule(RETAIN_AVAILABLE, "Retain Available", BYTE, {CONNACK: "3.2.2.3.5"}, most=1),
    PropertyRule(
        USER_PROPERTY,
        "User Property",
        UTF8_STRING_PAIR,
        _USER_PROPERTY_SECTIONS,
        repeats=tuple(_USER_PROPERTY_SECTIONS),
    ),
    PropertyRule(
        MAXIMUM_PACKET_SIZE,
        "Maximum Packet Size",
        FOUR_BYTE_INTEGER,
        {CONNECT: "3.1.2.11.4", CONNACK: "3.2.2.3.6"},
        least=1,
    ),
    PropertyRule(
        WILDCARD_SUBSCRIPTION_AVAILABLE,
        "Wildcard Subscription Available",
        BYTE,
        {CONNACK: "3.2.2.3.11"},
        most=1,
    ),
    PropertyRule(
        SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        "Subscription Identifier Available",
        BYTE,
        {CONNACK: "3.2.2.3.12"},
        most=1,
    ),
    PropertyRule(
        SHARED_SUBSCRIPTION_AVAILABLE,
        "Shared Subscription Available",
        BYTE,
        {CONNACK: "3.2.2.3.13"},
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
