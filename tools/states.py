"""Writes docs/states.md: what may be sent when, what each packet leads to, why connections end.

`python -m tools.states` writes the page, `--check` only says whether it is up to date. The tables
of what may be sent and the causes are read from the core; what a packet leads to is found out by
giving it to a connection in that state.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import product
from typing import Final

from mqtt_core import (
    CLIENT,
    CLIENT_MAY_SEND,
    CLIENT_MAY_SEND_5,
    MQTT_3_1_1,
    MQTT_5,
    SERVER,
    SERVER_MAY_SEND,
    SERVER_MAY_SEND_5,
    Auth,
    ConnAck,
    Connect,
    Connection,
    Disconnect,
    LocalProtocolError,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    RemoteProtocolError,
    State,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    encode,
    make_publish,
    reason_name,
)
from mqtt_core._codes import (
    BAD_USER_NAME_OR_PASSWORD,
    CONTINUE_AUTHENTICATION,
    PACKET_NAMES,
    RE_AUTHENTICATE,
)
from mqtt_core.broker import _causes, _endings
from mqtt_core.properties import AUTHENTICATION_METHOD
from tools._page import ROOT, finish, table

PAGE: Final = ROOT / "docs" / "states.md"
COMMAND: Final = "python -m tools.states"
ROLES: Final = {"client": CLIENT, "server": SERVER}
MAY_SEND: Final = {
    MQTT_3_1_1: {"client": CLIENT_MAY_SEND, "server": SERVER_MAY_SEND},
    MQTT_5: {"client": CLIENT_MAY_SEND_5, "server": SERVER_MAY_SEND_5},
}
VERSIONS: Final = {MQTT_3_1_1: "3.1.1", MQTT_5: "5.0"}
ONLY_5: Final = (State.AUTHENTICATING, State.FAILED)
METHOD: Final = ((AUTHENTICATION_METHOD, "m"),)

_TEXT: Final = """\
<!-- Made by `{command}` from the code; changes go there. -->

# States of a connection

A connection is **OPENING** until CONNECT has passed, **ANSWERING** until CONNACK has, then
**CONNECTED**; **CLOSING** once a side has said its last word, and **CLOSED** when the transport is
gone. MQTT 5.0 has two states more: **AUTHENTICATING** instead of ANSWERING where CONNECT named an
authentication method, and **FAILED** where the peer broke MQTT and can still be told so. Both roles
have the same states: what a client sends is what a server reads. The tables are data in
`mqtt_core/_state.py`; a connection looks up one bit of a mask made from them.

## What may be sent

To send something else raises `LocalProtocolError`, and nothing is sent. To receive something else
is a protocol violation, and the connection closes. In the states that are not here nothing may be
sent.

### MQTT 3.1.1

{may_send_4}
### MQTT 5.0

In AUTHENTICATING, and in a later authentication, the two sides take turns with AUTH.

{may_send_5}
## What changes the state

{transitions}
## What a packet leads to

Each packet was given to a connection in each state. *taken*: it is an event. *waits*: it stays
unread until CONNACK has left. *closes*: `RemoteProtocolError`, with the statement that was broken;
P5 are sentences of MQTT 5.0 without a number. Acknowledgements are those of packets under way. In
FAILED, CLOSING and CLOSED nothing is read. The connections of MQTT 5.0 have an authentication
method in AUTHENTICATING and CONNECTED, where it is the peer's turn with AUTH.

### By a server, MQTT 3.1.1

{server_4}
### By a client, MQTT 3.1.1

{client_4}
### By a server, MQTT 5.0

{server_5}
### By a client, MQTT 5.0

{client_5}
## Why connections end

Each connection of the broker ends by one of these causes: the field `cause` of log lines. *Reason*
is the code that a client of MQTT 5.0 is told, if the broker knows no better one; in 3.1.1 only a
refused CONNECT has an answer. *Socket*: it closes after what was prepared has been sent, or at
once, because nobody would read that. An immediate shutdown closes at once too.

{causes}"""


# What may be sent


def may_send(level: int) -> str:
    """The tables of both roles side by side."""
    tables = MAY_SEND[level]
    columns = [(role, state) for role, by in tables.items() for state in State if by[state]]
    rows = [
        [
            name,
            *("yes" if kind in tables[role][state] else "" for role, state in columns),
        ]
        for kind, name in enumerate(PACKET_NAMES)
        if any(kind in tables[role][state] for role, state in columns)
    ]
    return table(["packet", *(f"{role}, {state.name}" for role, state in columns)], rows)


# A connection in each state


def connection_in(role: int, state: State, level: int) -> Connection:
    """A connection brought to `state` by what brings it there.

    CONNECTED, it has sent message 1 at QoS 1 and messages 2 and 3 at QoS 2, of which 3 has been
    received; as a client it has also sent SUBSCRIBE 4 and UNSUBSCRIBE 5. In MQTT 5.0 it has then,
    and in AUTHENTICATING, an authentication method.
    """
    connection = Connection(role)
    if state is State.OPENING:
        return connection
    if state is State.CLOSING:
        connection.stop_reading()
        return connection
    if state is State.CLOSED:
        connection.eof(0.0)
        return connection
    has_method = level == MQTT_5 and state is not State.ANSWERING
    _open(connection, level, has_method)
    if state in (State.ANSWERING, State.AUTHENTICATING):
        return connection
    connack = ConnAck(properties=METHOD if has_method else ())
    if role == CLIENT:
        connection.receive_data(encode(connack, level), 0.0)
    else:
        connection.send_connack(connack, 0.0)
    if state is State.FAILED:
        connection.feed(b"\x00\x00", 0.0)
        try:
            connection.read_packet()
        except RemoteProtocolError:
            return connection
    for qos in (1, 2, 2):
        connection.send_publish("t", b"", qos, now=0.0)
    connection.receive_data(encode(PubRec(3), level), 0.0)
    if role == CLIENT:
        connection.send_subscribe([("t", 0)], 0.0)
        connection.send_unsubscribe(["t"], 0.0)
    connection.events()
    return connection


def _open(connection: Connection, level: int, has_method: bool) -> None:
    properties = METHOD if has_method else ()
    connect = Connect("a", keep_alive_s=60, level=level, properties=properties)
    if connection.role == CLIENT:
        connection.send_connect(connect, 0.0)
    else:
        connection.receive_data(encode(connect), 0.0)
        connection.events()


REFUSAL: Final = ConnAck(reason=BAD_USER_NAME_OR_PASSWORD)


def samples(level: int, state: State) -> dict[str, Packet]:
    """A packet of each type, and CONNACK in two kinds."""
    has_method = state in (State.AUTHENTICATING, State.CONNECTED) and level == MQTT_5
    packets: dict[str, Packet] = {
        "CONNECT": Connect("a", keep_alive_s=60, level=level),
        "CONNACK that accepts": ConnAck(properties=METHOD if has_method else ()),
        "CONNACK that refuses": REFUSAL,
        "PUBLISH": make_publish("t", b"", qos=1, packet_id=9),
        "PUBACK": PubAck(1),
        "PUBREC": PubRec(2),
        "PUBREL": PubRel(9),
        "PUBCOMP": PubComp(3),
        "SUBSCRIBE": Subscribe(9, (Subscription("t", 0),)),
        "SUBACK": SubAck(4, (0,)),
        "UNSUBSCRIBE": Unsubscribe(9, ("t",)),
        "UNSUBACK": UnsubAck(5, (0,)),
        "PINGREQ": PingReq(),
        "PINGRESP": PingResp(),
        "DISCONNECT": Disconnect(),
    }
    if level == MQTT_5:
        packets["AUTH"] = Auth(CONTINUE_AUTHENTICATION, METHOD)
    return packets


# What changes the state


def _silence(connection: Connection, level: int) -> None:
    """The server answers nothing, not even a PINGREQ."""
    for now in (50.0, 500.0):
        connection.advance(now)


def _receive(name: str) -> Callable[[Connection, int], None]:
    return lambda connection, level: connection.receive_data(
        encode(samples(level, State(connection.state))[name], level), 0.0
    )


def _break(connection: Connection, level: int) -> None:
    """The peer breaks MQTT, and the owner reads packet by packet."""
    connection.feed(b"\x00\x00", 0.0)
    with suppress(RemoteProtocolError):
        connection.read_packet()


INPUTS: Final[dict[str, Callable[[Connection, int], None]]] = {
    "CONNECT is sent": lambda connection, level: connection.send_connect(
        Connect("a", level=level), 0.0
    ),
    "CONNECT with an authentication method is sent": lambda connection, level: (
        connection.send_connect(Connect("a", level=MQTT_5, properties=METHOD), 0.0)
    ),
    "CONNECT is received": _receive("CONNECT"),
    "CONNECT with an authentication method is received": lambda connection, level: (
        connection.receive_data(encode(Connect("a", level=MQTT_5, properties=METHOD)), 0.0)
    ),
    "CONNACK that accepts is sent": lambda connection, level: connection.send_connack(
        ConnAck(), 0.0
    ),
    "CONNACK that accepts is received": _receive("CONNACK that accepts"),
    "CONNACK that refuses is sent": lambda connection, level: connection.send_connack(REFUSAL, 0.0),
    "CONNACK that refuses is received": _receive("CONNACK that refuses"),
    "DISCONNECT is sent": lambda connection, level: connection.send_disconnect(0.0),
    "DISCONNECT is received": _receive("DISCONNECT"),
    "the peer breaks MQTT (`read_packet`)": _break,
    "no CONNACK, or no PINGRESP, in time": _silence,
    "the owner stops it (`stop_reading`)": lambda connection, level: connection.stop_reading(),
    "the transport is gone (`eof`)": lambda connection, level: connection.eof(0.0),
}


def transitions() -> str:
    """Every input that moves a connection to another state, with from and to."""
    rows: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for input_name, put_in in INPUTS.items():
        for role_name, role in ROLES.items():
            for state, level in product(State, VERSIONS):
                if level != MQTT_5 and (state in ONLY_5 or "method" in input_name):
                    continue
                connection = connection_in(role, state, level)
                try:
                    put_in(connection, level)
                except (LocalProtocolError, RemoteProtocolError):
                    continue
                if connection.state != state:
                    to = State(connection.state).name
                    origins = rows.setdefault((role_name, input_name, to), {})
                    origins.setdefault(state.name, []).append(VERSIONS[level])
    return table(
        ["role", "what happens", "from", "to", "versions"],
        [
            [role, what, ", ".join(origins), to, " and ".join(_versions(origins))]
            for (role, what, to), origins in rows.items()
        ],
    )


def _versions(origins: dict[str, list[str]]) -> list[str]:
    return [name for name in VERSIONS.values() if any(name in by for by in origins.values())]


# What a packet leads to


def outcome(role: int, state: State, level: int, name: str) -> str:
    """What a connection in `state` makes of a packet."""
    connection = connection_in(role, state, level)
    if name == "AUTH" or state is State.AUTHENTICATING:
        give_turn(connection)
    try:
        connection.receive_data(encode(samples(level, state)[name], level), 0.0)
    except RemoteProtocolError as error:
        return f"closes, {error.statement}" if error.statement else "closes"
    if not connection.events():
        return "waits" if connection.buffer.has_unread else "not read"
    return "taken" if connection.state == state else f"taken, then {State(connection.state).name}"


def give_turn(connection: Connection) -> None:
    """Bring an authentication to where the peer is to send AUTH."""
    if connection.exchange is None:
        return
    if connection.role == CLIENT:
        if connection.state == State.CONNECTED:
            connection.send_auth(Auth(RE_AUTHENTICATE), 0.0)
        return
    if connection.state == State.CONNECTED:
        connection.receive_data(encode(Auth(RE_AUTHENTICATE, METHOD), MQTT_5), 0.0)
        connection.events()
    connection.send_auth(Auth(CONTINUE_AUTHENTICATION), 0.0)


def received(role: int, level: int) -> str:
    """What packets lead to, by state."""
    states = [
        state
        for state in State
        if state < State.FAILED and (level == MQTT_5 or state not in ONLY_5)
    ]
    rows = [
        [name, *(outcome(role, state, level, name) for state in states)]
        for name in samples(level, State.OPENING)
    ]
    return table(["packet", *(state.name for state in states)], rows)


# Why connections end


def causes() -> str:
    """The causes, with the reason code, the will and the socket."""
    rows = []
    for cause in sorted(_causes._CAUSES):
        if cause == _causes.OPEN:
            continue
        reason = _causes.cause_reason(cause)
        rows.append(
            [
                _causes.cause_name(cause),
                f"0x{reason:02X} {reason_name(reason)}" if _endings._is_told(cause) else "",
                "published" if _causes.publishes_will(cause) else "not published",
                "at once" if cause in _endings._AT_ONCE else "after what was prepared",
            ]
        )
    return table(["cause", "reason", "will", "socket"], rows)


def page() -> str:
    """The page, as Markdown."""
    return _TEXT.format(
        command=COMMAND,
        may_send_4=may_send(MQTT_3_1_1),
        may_send_5=may_send(MQTT_5),
        transitions=transitions(),
        server_4=received(SERVER, MQTT_3_1_1),
        client_4=received(CLIENT, MQTT_3_1_1),
        server_5=received(SERVER, MQTT_5),
        client_5=received(CLIENT, MQTT_5),
        causes=causes(),
    )


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` say whether it is stale. Returns the exit code."""
    return finish(PAGE, page(), arguments, COMMAND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
