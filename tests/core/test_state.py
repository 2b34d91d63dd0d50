"""Which packet may come when: every role, state and packet type is tried."""

from __future__ import annotations

from itertools import product

import pytest

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
)
from mqtt_core._codes import PACKET_NAMES
from mqtt_core._state import MAY_SEND
from tests.core import wire

PACKETS: dict[int, Packet] = {
    1: Connect("c"),
    2: ConnAck(),
    3: make_publish("t", b""),
    4: PubAck(1),
    5: PubRec(1),
    6: PubRel(1),
    7: PubComp(1),
    8: Subscribe(1, (Subscription("a"),)),
    9: SubAck(1, (0,)),
    10: Unsubscribe(1, ("a",)),
    11: UnsubAck(1),
    12: PingReq(),
    13: PingResp(),
    14: Disconnect(),
}
TABLES = {CLIENT: CLIENT_MAY_SEND, SERVER: SERVER_MAY_SEND}
ROLES = (CLIENT, SERVER)

# A packet type in MQTT 3.1.1 that no connection may ever have (2.2.1).
RESERVED = (0, 15)


def connection_in(role: int, state: State) -> Connection:
    """A connection that has got to a state by packets."""
    connection = Connection(role)
    if state is State.CLOSED:
        connection.eof(0.0)
    elif state is State.CLOSING:
        connection.stop_reading()
    elif state is not State.OPENING:
        if role == CLIENT:
            connection.send_connect(Connect("c"), 0.0)
        else:
            connection.feed(wire.connect(), 0.0)
            assert connection.read_packet() is not None
        if state is State.CONNECTED:
            if role == CLIENT:
                connection.feed(wire.connack(), 0.0)
                assert connection.read_packet() is not None
            else:
                connection.send_connack(ConnAck(), 0.0)
    connection.data_to_send()
    connection.events()
    assert connection.state == state
    return connection


EVERY = list(product(ROLES, State, PACKETS))


@pytest.mark.parametrize(("role", "state", "kind"), EVERY)
def test_a_packet_is_read_where_the_other_role_may_send_it(
    role: int, state: State, kind: int
) -> None:
    connection = connection_in(role, state)
    connection.feed(encode(PACKETS[kind]), 0.0)
    if state >= State.CLOSING:
        assert connection.read_packet() is None
    elif kind in TABLES[1 - role][state]:
        assert connection.read_packet() == PACKETS[kind]
    else:
        with pytest.raises(RemoteProtocolError) as caught:
            connection.read_packet()
        assert caught.value.statement == expected_statement(role, state, kind)
        assert PACKET_NAMES[kind] in caught.value.message
        assert connection.state == State.CLOSING
        assert connection.read_packet() is None


def expected_statement(role: int, state: State, kind: int) -> str:
    """The statement that a misplaced packet breaks."""
    if role == SERVER and state is State.OPENING:
        return "MQTT-3.1.0-1"
    if role == SERVER and state is State.CONNECTED and kind == 1:
        return "MQTT-3.1.0-2"
    if role == CLIENT and state is State.ANSWERING:
        return "MQTT-3.2.0-1"
    return "MQTT-4.8.0-1"


@pytest.mark.parametrize(("role", "state", "kind"), list(product(ROLES, State, RESERVED)))
def test_a_reserved_type_is_never_read(role: int, state: State, kind: int) -> None:
    connection = connection_in(role, state)
    connection.feed(bytes([kind << 4, 0]), 0.0)
    if state >= State.CLOSING:
        assert connection.read_packet() is None
    else:
        with pytest.raises(RemoteProtocolError):
            connection.read_packet()


def send(connection: Connection, kind: int) -> None:
    """Send a packet by the method for its type; without one there is nothing to send."""
    if kind == 1:
        connection.send_connect(Connect("c"), 0.0)
    elif kind == 2:
        connection.send_connack(ConnAck(), 0.0)
    elif kind == 3:
        connection.send_publish("t", b"", now=0.0)
    elif kind == 4:
        connection.send_puback(1, 0.0)
    elif kind == 5:
        connection.send_pubrec(1, 0.0)
    elif kind == 7:
        connection.send_pubcomp(1, 0.0)
    elif kind == 8:
        connection.send_subscribe([("a", 0)], 0.0)
    elif kind == 10:
        connection.send_unsubscribe(["a"], 0.0)
    elif kind == 12:
        connection.send_pingreq(0.0)
    elif kind == 14:
        connection.send_disconnect(0.0)


SENDABLE = (1, 2, 3, 4, 5, 7, 8, 10, 12, 14)


@pytest.mark.parametrize(("role", "state", "kind"), list(product(ROLES, State, SENDABLE)))
def test_a_packet_is_sent_where_the_role_may_send_it(role: int, state: State, kind: int) -> None:
    connection = connection_in(role, state)
    if kind in TABLES[role][state]:
        send(connection, kind)
        assert connection.data_to_send()[0] >> 4 == kind
    else:
        with pytest.raises(LocalProtocolError, match=state.name):
            send(connection, kind)
        assert connection.data_to_send() == b""
        assert connection.state == state


def test_the_masks_say_what_the_tables_say() -> None:
    for role in ROLES:
        for state in State:
            kinds = {kind for kind in range(16) if MAY_SEND[role][state] >> kind & 1}
            assert kinds == set(TABLES[role][state])
