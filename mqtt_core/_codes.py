"""The numbers of both standards: protocol levels, packet types, reason codes.

They are plain `Final` integers, because they come from the wire and are compared there;
`reason_name` and `PACKET_NAMES` turn them into the standards' words for logs.
"""

from __future__ import annotations

from typing import Final

# Protocol levels (3.1.2.2).
MQTT_3_1: Final = 3
MQTT_3_1_1: Final = 4
MQTT_5: Final = 5

# Packet types (2.2.1).
CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14

PACKET_NAMES: Final[tuple[str, ...]] = (
    "RESERVED",
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

# Limits that the packet format itself sets.
LARGEST_REMAINING_LENGTH: Final = 268_435_455  # four bytes of seven bits (2.2.3)
LARGEST_STRING_BYTES: Final = 65_535  # a two byte length (1.5.3)

# Reason codes. The core speaks the codes of MQTT 5.0 (2.4 there) and translates them for the
# older versions where these have a byte for a reason at all: in CONNACK and SUBACK.
SUCCESS: Final = 0x00
UNSPECIFIED_ERROR: Final = 0x80
MALFORMED_PACKET: Final = 0x81
PROTOCOL_ERROR: Final = 0x82
IMPLEMENTATION_SPECIFIC_ERROR: Final = 0x83
UNSUPPORTED_PROTOCOL_VERSION: Final = 0x84
CLIENT_IDENTIFIER_NOT_VALID: Final = 0x85
BAD_USER_NAME_OR_PASSWORD: Final = 0x86
NOT_AUTHORIZED: Final = 0x87
SERVER_UNAVAILABLE: Final = 0x88
SERVER_BUSY: Final = 0x89
SERVER_SHUTTING_DOWN: Final = 0x8B
KEEP_ALIVE_TIMEOUT: Final = 0x8D
SESSION_TAKEN_OVER: Final = 0x8E
TOPIC_FILTER_INVALID: Final = 0x8F
TOPIC_NAME_INVALID: Final = 0x90
RECEIVE_MAXIMUM_EXCEEDED: Final = 0x93
PACKET_TOO_LARGE: Final = 0x95
QUOTA_EXCEEDED: Final = 0x97
WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED: Final = 0xA2

REASON_NAMES: Final[dict[int, str]] = {
    SUCCESS: "success",
    UNSPECIFIED_ERROR: "unspecified error",
    MALFORMED_PACKET: "malformed packet",
    PROTOCOL_ERROR: "protocol error",
    IMPLEMENTATION_SPECIFIC_ERROR: "implementation specific error",
    UNSUPPORTED_PROTOCOL_VERSION: "unsupported protocol version",
    CLIENT_IDENTIFIER_NOT_VALID: "client identifier not valid",
    BAD_USER_NAME_OR_PASSWORD: "bad user name or password",
    NOT_AUTHORIZED: "not authorized",
    SERVER_UNAVAILABLE: "server unavailable",
    SERVER_BUSY: "server busy",
    SERVER_SHUTTING_DOWN: "server shutting down",
    KEEP_ALIVE_TIMEOUT: "keep alive timeout",
    SESSION_TAKEN_OVER: "session taken over",
    TOPIC_FILTER_INVALID: "topic filter invalid",
    TOPIC_NAME_INVALID: "topic name invalid",
    RECEIVE_MAXIMUM_EXCEEDED: "receive maximum exceeded",
    PACKET_TOO_LARGE: "packet too large",
    QUOTA_EXCEEDED: "quota exceeded",
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED: "wildcard subscriptions not supported",
}

# CONNACK return codes of MQTT 3.1 and 3.1.1 (3.2.2.3) by reason; a reason that is not here has
# none, and the connection is closed without CONNACK.  [v3 MQTT-3.2.2-6]
CONNACK_RETURN_CODES: Final[dict[int, int]] = {
    SUCCESS: 0x00,
    UNSUPPORTED_PROTOCOL_VERSION: 0x01,
    CLIENT_IDENTIFIER_NOT_VALID: 0x02,
    SERVER_UNAVAILABLE: 0x03,
    SERVER_BUSY: 0x03,
    QUOTA_EXCEEDED: 0x03,
    BAD_USER_NAME_OR_PASSWORD: 0x04,
    NOT_AUTHORIZED: 0x05,
}
REASON_OF_RETURN_CODE: Final[tuple[int, ...]] = (
    SUCCESS,
    UNSUPPORTED_PROTOCOL_VERSION,
    CLIENT_IDENTIFIER_NOT_VALID,
    SERVER_UNAVAILABLE,
    BAD_USER_NAME_OR_PASSWORD,
    NOT_AUTHORIZED,
)

SUBACK_FAILURE: Final = 0x80  # the one failure code of 3.1.1  [v3 MQTT-3.9.3-2]


def reason_name(reason: int) -> str:
    """The standard's name of a reason code, or its number where it has none here."""
    return REASON_NAMES.get(reason, f"reason 0x{reason:02X}")
