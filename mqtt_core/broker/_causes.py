"""Why a connection ended, and what follows from it.

Each cause has a name for logs, the reason code that MQTT 5.0 answers with, and says whether
the will of the connection is published (3.1.2.5).
"""

from __future__ import annotations

from typing import Final

from mqtt_core._codes import (
    IMPLEMENTATION_SPECIFIC_ERROR,
    KEEP_ALIVE_TIMEOUT,
    NOT_AUTHORIZED,
    PROTOCOL_ERROR,
    QUOTA_EXCEEDED,
    SERVER_BUSY,
    SERVER_SHUTTING_DOWN,
    SESSION_TAKEN_OVER,
    SUCCESS,
    UNSPECIFIED_ERROR,
)

OPEN: Final = 0
CLIENT_DISCONNECTED: Final = 1
EOF_BY_PEER: Final = 2
TRANSPORT_ERROR: Final = 3
KEEP_ALIVE_EXPIRED: Final = 4
PROTOCOL_VIOLATION: Final = 5
TAKEN_OVER: Final = 6
CONNECT_TIMED_OUT: Final = 7
REFUSED: Final = 8
SEND_TIMED_OUT: Final = 9
QUEUE_FULL: Final = 10
QUOTA: Final = 11
STORE_FAILED: Final = 12
REQUEST_TIMED_OUT: Final = 13
FAULT: Final = 14
SHUT_DOWN: Final = 15
UNAUTHORIZED: Final = 16
TOO_MANY_HALF_CONNECTED: Final = 17
ANSWERS_UNREAD: Final = 18
DISCONNECTED_WITH_WILL: Final = 19
UNDECIDED: Final = 20

_CAUSES: Final[dict[int, tuple[str, int, bool]]] = {
    OPEN: ("open", SUCCESS, False),
    # A client that says DISCONNECT takes its will back.  [v3 MQTT-3.14.4-3]
    CLIENT_DISCONNECTED: ("client disconnected", SUCCESS, False),
    # [MQTT-3.14.4-3]
    DISCONNECTED_WITH_WILL: ("client disconnected, will wanted", SUCCESS, True),
    EOF_BY_PEER: ("connection closed by the client", UNSPECIFIED_ERROR, True),
    TRANSPORT_ERROR: ("connection lost", UNSPECIFIED_ERROR, True),
    KEEP_ALIVE_EXPIRED: ("keep-alive expired", KEEP_ALIVE_TIMEOUT, True),
    PROTOCOL_VIOLATION: ("protocol violation", PROTOCOL_ERROR, True),
    TAKEN_OVER: ("taken over by a newer connection", SESSION_TAKEN_OVER, True),
    CONNECT_TIMED_OUT: ("no CONNECT in time", KEEP_ALIVE_TIMEOUT, False),
    REFUSED: ("refused", NOT_AUTHORIZED, False),
    SEND_TIMED_OUT: ("the client takes no data", UNSPECIFIED_ERROR, True),
    QUEUE_FULL: ("its queue is full", QUOTA_EXCEEDED, True),
    QUOTA: ("a quota is used up", QUOTA_EXCEEDED, True),
    STORE_FAILED: ("storage failed", IMPLEMENTATION_SPECIFIC_ERROR, True),
    REQUEST_TIMED_OUT: ("a decision did not come in time", SERVER_BUSY, True),
    UNDECIDED: ("nobody could decide", SERVER_BUSY, True),
    FAULT: ("internal fault", IMPLEMENTATION_SPECIFIC_ERROR, True),
    # Neither signal publishes wills: the client has done nothing wrong and comes back.
    SHUT_DOWN: ("server shutting down", SERVER_SHUTTING_DOWN, False),
    UNAUTHORIZED: ("not authorized", NOT_AUTHORIZED, True),
    TOO_MANY_HALF_CONNECTED: ("too many connections without CONNECT", SERVER_BUSY, False),
    ANSWERS_UNREAD: ("the client does not read its acknowledgements", QUOTA_EXCEEDED, True),
}


def cause_name(cause: int) -> str:
    """A cause in words."""
    return _CAUSES[cause][0]


def cause_reason(cause: int) -> int:
    """The reason code of MQTT 5.0 for a cause."""
    return _CAUSES[cause][1]


def publishes_will(cause: int) -> bool:
    """Whether a connection that ends so has its will published.  [v3 MQTT-3.1.2-8]"""
    return _CAUSES[cause][2]
