"""Writes docs/states.md: what may be sent when, what each packet leads to, why connections end.

`python -m tools.states` writes the page, `--check` only says whether it is up to date. The tables
of what may be sent and the causes are read from the core; what a packet leads to is found out by
giving it to a connection in that state.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

from mqtt_core import (
    CLIENT,
    CLIENT_MAY_SEND,
    SERVER,
    SERVER_MAY_SEND,
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
from mqtt_core._codes import BAD_USER_NAME_OR_PASSWORD, PACKET_NAMES
from mqtt_core.broker import _causes, _endings
from tools._page import ROOT, finish, table

PAGE: Final = ROOT / "docs" / "states.md"
COMMAND: Final = "python -m tools.states"
ROLES: Final = {"client": CLIENT, "server": SERVER}
MAY_SEND: Final = {"client": CLIENT_MAY_SEND, "server": SERVER_MAY_SEND}

_TEXT: Final = """\
<!-- Made by `{command}` from the code; changes go there. -->

# States of a connection

A connection is **OPENING** until CONNECT has passed, **ANSWERING** until CONNACK has, then
**CONNECTED**; **CLOSING** once a side has said its last word, and **CLOSED** when the transport is
gone. Both roles have the same states: what a client sends is what a server reads. The tables are
data in `mqtt_core/_state.py`; a connection looks up one bit of a mask made from them.

## What may be sent

To send something else raises `LocalProtocolError`, and nothing is sent. To receive something else
is a protocol violation, and the connection closes. In the states that are not here nothing may be
sent.

{may_send}
## What changes the state

{transitions}
## What a packet leads to

Each packet was given to a connection in each state. *taken*: it is an event. *waits*: it stays
unread until CONNACK has left. *closes*: `RemoteProtocolError`, with the statement of MQTT 3.1.1
that was broken. Acknowledgements are those of packets under way. In CLOSING and CLOSED nothing is
read.

### By a server

{server}
### By a client

{client}
## Why connections end

Each connection of the broker ends by one of these causes: the field `cause` of log lines. *Reason*
is the code that MQTT 5.0 has for it; in 3.1.1 only a refused CONNECT has an answer. *Socket*: it
closes after what was prepared has been sent, or at once, because nobody would read that. An
immediate shutdown closes at once too.

{causes}"""


# What may be sent


def may_send() -> str:
    """The tables of both roles side by side."""
    columns = [(role, state) for role, by in MAY_SEND.items() for state in State if by[state]]
    rows = [
        [
            name,
            *("yes" if kind in MAY_SEND[role][state] else "" for role, state in columns),
        ]
        for kind, name in enumerate(PACKET_NAMES)
        if any(kind in MAY_SEND[role][state] for role, state in columns)
    ]
    return table(["packet", *(f"{role}, {state.name}" for role, state in columns)], rows)


# A connection in each state


def connection_in(role: int, state: State) -> Connection:
    """A connection brought to `state` by what brings it there.

    CONNECTED, it has sent message 1 at QoS 1 and messages 2 and 3 at QoS 2, of which 3 has been
    received; as a client it has also sent SUBSCRIBE 4 and UNSUBSCRIBE 5.
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
    _open(connection)
    if state is State.ANSWERING:
        return connection
    if role == CLIENT:
        connection.receive_data(encode(ConnAck()), 0.0)
    else:
        connection.send_connack(ConnAck(), 0.0)
    for qos in (1, 2, 2):
        connection.send_publish("t", b"", qos, now=0.0)
    connection.receive_data(encode(PubRec(3)), 0.0)
    if role == CLIENT:
        connection.send_subscribe([("t", 0)], 0.0)
        connection.send_unsubscribe(["t"], 0.0)
    connection.events()
    return connection


def _open(connection: Connection) -> None:
    connect = Connect("a", keep_alive_s=60)
    if connection.role == CLIENT:
        connection.send_connect(connect, 0.0)
    else:
        connection.receive_data(encode(connect), 0.0)
        connection.events()


REFUSAL: Final = ConnAck(reason=BAD_USER_NAME_OR_PASSWORD)
SAMPLES: Final[dict[str, Packet]] = {
    "CONNECT": Connect("a", keep_alive_s=60),
    "CONNACK that accepts": ConnAck(),
    "CONNACK that refuses": REFUSAL,
    "PUBLISH": make_publish("t", b"", qos=1, packet_id=9),
    "PUBACK": PubAck(1),
    "PUBREC": PubRec(2),
    "PUBREL": PubRel(9),
    "PUBCOMP": PubComp(3),
    "SUBSCRIBE": Subscribe(9, (Subscription("t", 0),)),
    "SUBACK": SubAck(4, (0,)),
    "UNSUBSCRIBE": Unsubscribe(9, ("t",)),
    "UNSUBACK": UnsubAck(5),
    "PINGREQ": PingReq(),
    "PINGRESP": PingResp(),
    "DISCONNECT": Disconnect(),
}


# What changes the state


def _silence(connection: Connection) -> None:
    """The server answers nothing, not even a PINGREQ."""
    for now in (50.0, 500.0):
        connection.advance(now)


def _receive(name: str) -> Callable[[Connection], None]:
    return lambda connection: connection.receive_data(encode(SAMPLES[name]), 0.0)


INPUTS: Final[dict[str, Callable[[Connection], None]]] = {
    "CONNECT is sent": lambda connection: connection.send_connect(Connect("a"), 0.0),
    "CONNECT is received": _receive("CONNECT"),
    "CONNACK that accepts is sent": lambda connection: connection.send_connack(ConnAck(), 0.0),
    "CONNACK that accepts is received": _receive("CONNACK that accepts"),
    "CONNACK that refuses is sent": lambda connection: connection.send_connack(REFUSAL, 0.0),
    "CONNACK that refuses is received": _receive("CONNACK that refuses"),
    "DISCONNECT is sent": lambda connection: connection.send_disconnect(0.0),
    "DISCONNECT is received": _receive("DISCONNECT"),
    "no CONNACK, or no PINGRESP, in time": _silence,
    "the owner stops it (`stop_reading`)": lambda connection: connection.stop_reading(),
    "the transport is gone (`eof`)": lambda connection: connection.eof(0.0),
}


def transitions() -> str:
    """Every input that moves a connection to another state without an error, with from and to."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for input_name, put_in in INPUTS.items():
        for role_name, role in ROLES.items():
            for state in State:
                connection = connection_in(role, state)
                try:
                    put_in(connection)
                except (LocalProtocolError, RemoteProtocolError):
                    continue
                if connection.state != state:
                    to = State(connection.state).name
                    rows.setdefault((role_name, input_name, to), []).append(state.name)
    return table(
        ["role", "what happens", "from", "to"],
        [[role, what, ", ".join(origins), to] for (role, what, to), origins in rows.items()],
    )


# What a packet leads to


def outcome(role: int, state: State, packet: Packet) -> str:
    """What a connection in `state` makes of a packet."""
    connection = connection_in(role, state)
    try:
        connection.receive_data(encode(packet), 0.0)
    except RemoteProtocolError as error:
        return f"closes, {error.statement}" if error.statement else "closes"
    if not connection.events():
        return "waits" if connection.buffer.has_unread else "not read"
    return "taken" if connection.state == state else f"taken, then {State(connection.state).name}"


def received(role: int) -> str:
    """What packets lead to, by state."""
    states = [state for state in State if state < State.CLOSING]
    rows = [
        [name, *(outcome(role, state, packet) for state in states)]
        for name, packet in SAMPLES.items()
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
                f"0x{reason:02X} {reason_name(reason)}",
                "published" if _causes.publishes_will(cause) else "not published",
                "at once" if cause in _endings._AT_ONCE else "after what was prepared",
            ]
        )
    return table(["cause", "reason", "will", "socket"], rows)


def page() -> str:
    """The page, as Markdown."""
    return _TEXT.format(
        command=COMMAND,
        may_send=may_send(),
        transitions=transitions(),
        server=received(SERVER),
        client=received(CLIENT),
        causes=causes(),
    )


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` say whether it is stale. Returns the exit code."""
    return finish(PAGE, page(), arguments, COMMAND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
