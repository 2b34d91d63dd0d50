"""What a connection may be asked and told, by state, as tables.

Two rules. Nothing outside this file says which packet may come when; and the tables are data,
so that a test can try every pair and a document can print them. The hot path reads one bit of
a mask that is made from them once.

A connection is OPENING until CONNECT has passed, ANSWERING until CONNACK has, then CONNECTED;
CLOSING once a side has said its last word, and CLOSED when the transport is gone. MQTT 5.0 has
two states more: AUTHENTICATING instead of ANSWERING where CONNECT named an authentication method,
and FAILED where the peer broke MQTT and can still be told so. The same states serve both roles: a
client sends what a server reads.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from mqtt_core._codes import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
)

CLIENT: Final = 0
SERVER: Final = 1


class State(IntEnum):
    """The states of a connection."""

    OPENING = 0
    ANSWERING = 1
    AUTHENTICATING = 2
    CONNECTED = 3
    FAILED = 4  # from here on nothing is read
    CLOSING = 5
    CLOSED = 6


OPENING: Final = 0
ANSWERING: Final = 1
AUTHENTICATING: Final = 2
CONNECTED: Final = 3
FAILED: Final = 4
CLOSING: Final = 5
CLOSED: Final = 6

# What a client may send in MQTT 3.1.1, by state.  [v3 MQTT-3.1.0-1] [v3 MQTT-3.1.0-2]
CLIENT_MAY_SEND: Final[dict[State, tuple[int, ...]]] = {
    State.OPENING: (CONNECT,),
    # A client may go on sending without waiting for CONNACK (3.1.4); a server reads it later.
    State.ANSWERING: (
        PUBLISH,
        PUBACK,
        PUBREC,
        PUBREL,
        PUBCOMP,
        SUBSCRIBE,
        UNSUBSCRIBE,
        PINGREQ,
        DISCONNECT,
    ),
    State.AUTHENTICATING: (),
    State.CONNECTED: (
        PUBLISH,
        PUBACK,
        PUBREC,
        PUBREL,
        PUBCOMP,
        SUBSCRIBE,
        UNSUBSCRIBE,
        PINGREQ,
        DISCONNECT,
    ),
    State.FAILED: (),
    State.CLOSING: (),
    State.CLOSED: (),
}

# What a server may send in MQTT 3.1.1, by state.  [v3 MQTT-3.2.0-1]
SERVER_MAY_SEND: Final[dict[State, tuple[int, ...]]] = {
    State.OPENING: (),
    State.ANSWERING: (CONNACK,),
    State.AUTHENTICATING: (),
    State.CONNECTED: (
        PUBLISH,
        PUBACK,
        PUBREC,
        PUBREL,
        PUBCOMP,
        SUBACK,
        UNSUBACK,
        PINGRESP,
    ),
    State.FAILED: (),
    State.CLOSING: (),
    State.CLOSED: (),
}


# What a client may send in MQTT 5.0, by state.  [MQTT-3.1.0-1] [MQTT-3.1.0-2]
CLIENT_MAY_SEND_5: Final[dict[State, tuple[int, ...]]] = {
    State.OPENING: (CONNECT,),
    State.ANSWERING: CLIENT_MAY_SEND[State.ANSWERING],  # without waiting for CONNACK (3.1.4)
    State.AUTHENTICATING: (AUTH, DISCONNECT),  # [MQTT-3.1.2-30]
    State.CONNECTED: (*CLIENT_MAY_SEND[State.CONNECTED], AUTH),
    State.FAILED: (DISCONNECT,),
    State.CLOSING: (),  # [MQTT-3.14.4-1]
    State.CLOSED: (),
}

# What a server may send in MQTT 5.0, by state.  [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-3.14.0-1]
SERVER_MAY_SEND_5: Final[dict[State, tuple[int, ...]]] = {
    State.OPENING: (),
    State.ANSWERING: (CONNACK,),
    State.AUTHENTICATING: (CONNACK, AUTH),
    State.CONNECTED: (*SERVER_MAY_SEND[State.CONNECTED], DISCONNECT, AUTH),
    State.FAILED: (DISCONNECT,),
    State.CLOSING: (),  # [MQTT-3.14.4-1]
    State.CLOSED: (),
}


def _masks(table: dict[State, tuple[int, ...]]) -> list[int]:
    return [sum(1 << kind for kind in table[state]) for state in State]


MAY_SEND: Final[list[list[int]]] = [_masks(CLIENT_MAY_SEND), _masks(SERVER_MAY_SEND)]
"""By role and state, a mask with a bit for each packet type that the role may send."""

MAY_SEND_5: Final[list[list[int]]] = [_masks(CLIENT_MAY_SEND_5), _masks(SERVER_MAY_SEND_5)]
"""The same for MQTT 5.0."""
