"""Which reason code may stand in which packet, and who may send it there (2.4 of MQTT 5.0).

The tables are data: the decoder and the encoder look up one byte that is made from them, and a
test walks them.
"""

from __future__ import annotations

from typing import Final

from mqtt_core._codes import (
    ADMINISTRATIVE_ACTION,
    AUTH,
    BAD_AUTHENTICATION_METHOD,
    BAD_USER_NAME_OR_PASSWORD,
    BANNED,
    CLIENT_IDENTIFIER_NOT_VALID,
    CONNACK,
    CONNECTION_RATE_EXCEEDED,
    CONTINUE_AUTHENTICATION,
    DISCONNECT,
    DISCONNECT_WITH_WILL,
    GRANTED_QOS_0,
    GRANTED_QOS_1,
    GRANTED_QOS_2,
    IMPLEMENTATION_SPECIFIC_ERROR,
    KEEP_ALIVE_TIMEOUT,
    MALFORMED_PACKET,
    MAXIMUM_CONNECT_TIME,
    MESSAGE_RATE_TOO_HIGH,
    NO_MATCHING_SUBSCRIBERS,
    NO_SUBSCRIPTION_EXISTED,
    NORMAL_DISCONNECTION,
    NOT_AUTHORIZED,
    PACKET_IDENTIFIER_IN_USE,
    PACKET_IDENTIFIER_NOT_FOUND,
    PACKET_NAMES,
    PACKET_TOO_LARGE,
    PAYLOAD_FORMAT_INVALID,
    PROTOCOL_ERROR,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    QOS_NOT_SUPPORTED,
    QUOTA_EXCEEDED,
    RE_AUTHENTICATE,
    RECEIVE_MAXIMUM_EXCEEDED,
    RETAIN_NOT_SUPPORTED,
    SERVER_BUSY,
    SERVER_MOVED,
    SERVER_SHUTTING_DOWN,
    SERVER_UNAVAILABLE,
    SESSION_TAKEN_OVER,
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
    SUBACK,
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
    SUCCESS,
    TOPIC_ALIAS_INVALID,
    TOPIC_FILTER_INVALID,
    TOPIC_NAME_INVALID,
    UNSPECIFIED_ERROR,
    UNSUBACK,
    UNSUPPORTED_PROTOCOL_VERSION,
    USE_ANOTHER_SERVER,
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
)

BY_CLIENT: Final = 1
BY_SERVER: Final = 2
BY_BOTH: Final = 3

_PUBLISH_ANSWERS: Final[dict[int, int]] = {  # tables 3-4 and 3-5
    SUCCESS: BY_BOTH,
    NO_MATCHING_SUBSCRIBERS: BY_SERVER,
    UNSPECIFIED_ERROR: BY_BOTH,
    IMPLEMENTATION_SPECIFIC_ERROR: BY_BOTH,
    NOT_AUTHORIZED: BY_BOTH,
    TOPIC_NAME_INVALID: BY_BOTH,
    PACKET_IDENTIFIER_IN_USE: BY_BOTH,
    QUOTA_EXCEEDED: BY_BOTH,
    PAYLOAD_FORMAT_INVALID: BY_BOTH,
}
_RELEASE_ANSWERS: Final[dict[int, int]] = {  # tables 3-6 and 3-7
    SUCCESS: BY_BOTH,
    PACKET_IDENTIFIER_NOT_FOUND: BY_BOTH,
}

REASONS: Final[dict[int, dict[int, int]]] = {
    CONNACK: dict.fromkeys(  # table 3-1
        (
            SUCCESS,
            UNSPECIFIED_ERROR,
            MALFORMED_PACKET,
            PROTOCOL_ERROR,
            IMPLEMENTATION_SPECIFIC_ERROR,
            UNSUPPORTED_PROTOCOL_VERSION,
            CLIENT_IDENTIFIER_NOT_VALID,
            BAD_USER_NAME_OR_PASSWORD,
            NOT_AUTHORIZED,
            SERVER_UNAVAILABLE,
            SERVER_BUSY,
            BANNED,
            BAD_AUTHENTICATION_METHOD,
            TOPIC_NAME_INVALID,
            PACKET_TOO_LARGE,
            QUOTA_EXCEEDED,
            PAYLOAD_FORMAT_INVALID,
            RETAIN_NOT_SUPPORTED,
            QOS_NOT_SUPPORTED,
            USE_ANOTHER_SERVER,
            SERVER_MOVED,
            CONNECTION_RATE_EXCEEDED,
        ),
        BY_SERVER,
    ),
    PUBACK: _PUBLISH_ANSWERS,
    PUBREC: _PUBLISH_ANSWERS,
    PUBREL: _RELEASE_ANSWERS,
    PUBCOMP: _RELEASE_ANSWERS,
    SUBACK: dict.fromkeys(  # table 3-8
        (
            GRANTED_QOS_0,
            GRANTED_QOS_1,
            GRANTED_QOS_2,
            UNSPECIFIED_ERROR,
            IMPLEMENTATION_SPECIFIC_ERROR,
            NOT_AUTHORIZED,
            TOPIC_FILTER_INVALID,
            PACKET_IDENTIFIER_IN_USE,
            QUOTA_EXCEEDED,
            SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
            SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
            WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
        ),
        BY_SERVER,
    ),
    UNSUBACK: dict.fromkeys(  # table 3-9
        (
            SUCCESS,
            NO_SUBSCRIPTION_EXISTED,
            UNSPECIFIED_ERROR,
            IMPLEMENTATION_SPECIFIC_ERROR,
            NOT_AUTHORIZED,
            TOPIC_FILTER_INVALID,
            PACKET_IDENTIFIER_IN_USE,
        ),
        BY_SERVER,
    ),
    DISCONNECT: {  # table 3-10
        NORMAL_DISCONNECTION: BY_BOTH,
        DISCONNECT_WITH_WILL: BY_CLIENT,
        UNSPECIFIED_ERROR: BY_BOTH,
        MALFORMED_PACKET: BY_BOTH,
        PROTOCOL_ERROR: BY_BOTH,
        IMPLEMENTATION_SPECIFIC_ERROR: BY_BOTH,
        NOT_AUTHORIZED: BY_SERVER,
        SERVER_BUSY: BY_SERVER,
        SERVER_SHUTTING_DOWN: BY_SERVER,
        KEEP_ALIVE_TIMEOUT: BY_SERVER,
        SESSION_TAKEN_OVER: BY_SERVER,
        TOPIC_FILTER_INVALID: BY_SERVER,
        TOPIC_NAME_INVALID: BY_BOTH,
        RECEIVE_MAXIMUM_EXCEEDED: BY_BOTH,
        TOPIC_ALIAS_INVALID: BY_BOTH,
        PACKET_TOO_LARGE: BY_BOTH,
        MESSAGE_RATE_TOO_HIGH: BY_BOTH,
        QUOTA_EXCEEDED: BY_BOTH,
        ADMINISTRATIVE_ACTION: BY_BOTH,
        PAYLOAD_FORMAT_INVALID: BY_BOTH,
        RETAIN_NOT_SUPPORTED: BY_SERVER,
        # Table 3-10 gives 0x9B to the server alone, but 3.3.4 lets a client use it for a message
        # that it did not subscribe to; so it may come from either.
        QOS_NOT_SUPPORTED: BY_BOTH,
        USE_ANOTHER_SERVER: BY_SERVER,
        SERVER_MOVED: BY_SERVER,
        SHARED_SUBSCRIPTIONS_NOT_SUPPORTED: BY_SERVER,
        CONNECTION_RATE_EXCEEDED: BY_SERVER,
        MAXIMUM_CONNECT_TIME: BY_SERVER,
        SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED: BY_SERVER,
        WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED: BY_SERVER,
    },
    AUTH: {  # table 3-11
        SUCCESS: BY_SERVER,
        CONTINUE_AUTHENTICATION: BY_BOTH,
        RE_AUTHENTICATE: BY_CLIENT,
    },
}
"""For each packet type that has reasons: who may send which."""

REASON_STATEMENTS: Final[dict[int, str]] = {
    CONNACK: "MQTT-3.2.2-8",
    PUBACK: "MQTT-3.4.2-1",
    PUBREC: "MQTT-3.5.2-1",
    PUBREL: "MQTT-3.6.2-1",
    PUBCOMP: "MQTT-3.7.2-1",
    SUBACK: "MQTT-3.9.3-2",
    UNSUBACK: "MQTT-3.11.3-2",
    DISCONNECT: "MQTT-3.14.2-1",
    AUTH: "MQTT-3.15.2-1",
}
"""The statement that a packet type's reasons are those of its table."""


def _senders(kind: int) -> bytes:
    reasons = REASONS.get(kind, {})
    return bytes(reasons.get(reason, 0) for reason in range(256))


SENDERS: Final[list[bytes]] = [_senders(kind) for kind in range(len(PACKET_NAMES))]
"""By packet type and reason code, who may send it: 0, `BY_CLIENT`, `BY_SERVER`, `BY_BOTH`."""
