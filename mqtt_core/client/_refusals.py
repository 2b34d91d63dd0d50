"""What a server's refusal means for the client, and what to tell its user."""

from __future__ import annotations

from typing import Final

from mqtt_core._codes import (
    BAD_AUTHENTICATION_METHOD,
    BAD_USER_NAME_OR_PASSWORD,
    BANNED,
    CLIENT_IDENTIFIER_NOT_VALID,
    CONNECTION_RATE_EXCEEDED,
    MALFORMED_PACKET,
    NOT_AUTHORIZED,
    PACKET_TOO_LARGE,
    PAYLOAD_FORMAT_INVALID,
    PROTOCOL_ERROR,
    QOS_NOT_SUPPORTED,
    QUOTA_EXCEEDED,
    RETAIN_NOT_SUPPORTED,
    SERVER_BUSY,
    SERVER_MOVED,
    SERVER_SHUTTING_DOWN,
    SERVER_UNAVAILABLE,
    SESSION_TAKEN_OVER,
    TOPIC_NAME_INVALID,
    UNSUPPORTED_PROTOCOL_VERSION,
    USE_ANOTHER_SERVER,
    reason_name,
)

LASTING: Final[frozenset[int]] = frozenset(
    {
        MALFORMED_PACKET,
        PROTOCOL_ERROR,
        UNSUPPORTED_PROTOCOL_VERSION,
        CLIENT_IDENTIFIER_NOT_VALID,
        BAD_USER_NAME_OR_PASSWORD,
        NOT_AUTHORIZED,
        BANNED,
        BAD_AUTHENTICATION_METHOD,
        TOPIC_NAME_INVALID,
        PACKET_TOO_LARGE,
        PAYLOAD_FORMAT_INVALID,
        RETAIN_NOT_SUPPORTED,
        QOS_NOT_SUPPORTED,
    }
)
"""Refusals of a CONNECT that the next attempt would meet as well: the client ends."""

ENDING: Final[frozenset[int]] = frozenset({NOT_AUTHORIZED, BANNED, SESSION_TAKEN_OVER})
"""Reasons of a DISCONNECT after which a client does not come back: two clients with one client
identifier would go on to put each other out for ever."""

_ADVICE: Final[dict[int, str]] = {
    UNSUPPORTED_PROTOCOL_VERSION: "try another version, or version='auto'",
    CLIENT_IDENTIFIER_NOT_VALID: "give another client_id, of letters and digits and up to 23",
    BAD_USER_NAME_OR_PASSWORD: "check username and password",
    NOT_AUTHORIZED: "check username and password, and what the server allows this client",
    SERVER_UNAVAILABLE: "try again later",
    SERVER_BUSY: "try again later",
    BANNED: "ask who runs the server",
    BAD_AUTHENTICATION_METHOD: "log in with username and password instead",
    TOPIC_NAME_INVALID: "check the topic of the will",
    PACKET_TOO_LARGE: "make the will smaller",
    QUOTA_EXCEEDED: "try again later, or ask who runs the server",
    PAYLOAD_FORMAT_INVALID: "check the payload of the will",
    RETAIN_NOT_SUPPORTED: "give a will without retain",
    QOS_NOT_SUPPORTED: "give the will a lower QoS",
    USE_ANOTHER_SERVER: "connect to the server that it names",
    SERVER_MOVED: "connect to the server that it names",
    CONNECTION_RATE_EXCEEDED: "try again later",
    SERVER_SHUTTING_DOWN: "try again later",
    SESSION_TAKEN_OVER: "give every client a client_id of its own",
}


def explain(reason: int, said: str) -> str:
    """A reason code in words, what the server has said of it, and what to do."""
    words = reason_name(reason)
    if said:
        words += f" ({said})"
    advice = _ADVICE.get(reason)
    return f"{words}; {advice}" if advice is not None else words
