"""Which packet may come when: every version, role, state and packet type is tried."""

from __future__ import annotations

from itertools import product

import pytest

from mqtt_core import (
    CLIENT,
    CLIENT_MAY_SEND,
    CLIENT_MAY_SEND_5,
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
)
from mqtt_core._codes import PACKET_NAMES
from mqtt_core._state import MAY_SEND, MAY_SEND_5
from mqtt_core.properties import AUTHENTICATION_METHOD
from tests.core import wire, wire5

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
WITH_METHOD = ((AUTHENTICATION_METHOD, "m"),)
PACKETS_5: dict[int, Packet] = {
    **PACKETS,
    1: Connect("c", level=5),
    11: UnsubAck(1, (0,)),
    15: Auth(0x18, WITH_METHOD),
}
TABLES: dict[int, dict[int, dict[State, tuple[int, ...]]]] = {
    4: {CLIENT: CLIENT_MAY_SEND, SERVER: SERVER_MAY_SEND},
    5: {CLIENT: CLIENT_MAY_SEND_5, SERVER: SERVER_MAY_SEND_5},
}
ROLES = (CLIENT, SERVER)
STATES: dict[int, list[State]] = {
    4: [each for each in State if each not in (State.AUTHENTICATING, State.FAILED)],
    5: list(State),
}

# Packet types that no connection may ever have (2.2.1, 2.1.2 of MQTT 5.0).
RESERVED = {4: (0, 15), 5: (0,)}


def packets(level: int) -> dict[int, Packet]:
    """One packet of each type of a version."""
    return PACKETS_5 if level == 5 else PACKETS


def connection_in(role: int, state: State, level: int) -> Connection:
    """A connection that has got to a state by packets.

    In CONNECTED, and in AUTHENTICATING where this side is to send AUTH, CONNECT named a method.
    """
    connection = Connection(role)
    if state is State.CLOSED:
        connection.eof(0.0)
    elif state is State.CLOSING:
        connection.stop_reading()
    elif state is not State.OPENING:
        has_method = level == 5 and state is not State.ANSWERING
        _open(connection, level, has_method)
        if state is State.CONNECTED or state is State.FAILED:
            _accept(connection, level)
        if state is State.FAILED:
            connection.feed(b"\x00\x00", 0.0)
            with pytest.raises(RemoteProtocolError):
                connection.read_packet()
    connection.data_to_send()
    connection.events()
    assert connection.state == state
    return connection


def _open(connection: Connection, level: int, has_method: bool) -> None:
    properties = WITH_METHOD if has_method else ()
    connect = Connect("c", level=level, properties=properties)
    if connection.role == CLIENT:
        connection.send_connect(connect, 0.0)
    else:
        connection.feed(encode(connect), 0.0)
        assert connection.read_packet() == connect


def _accept(connection: Connection, level: int) -> None:
    if connection.role == SERVER:
        connection.send_connack(ConnAck(), 0.0)
        return
    data = wire5.connack(0, wire5.method("m")) if level == 5 else wire.connack()
    connection.feed(data, 0.0)
    assert connection.read_packet() is not None


def give_turn(connection: Connection) -> None:
    """Bring the exchange to where the peer may send the AUTH of `PACKETS_5`."""
    if connection.role == SERVER:
        if connection.state == State.CONNECTED:
            connection.feed(wire5.auth(0x19, wire5.method("m")), 0.0)
            assert connection.read_packet() == Auth(0x19, WITH_METHOD)
        connection.send_auth(Auth(0x18), 0.0)
    elif connection.state == State.CONNECTED:
        connection.send_auth(Auth(0x19), 0.0)


EVERY = [
    (level, role, state, kind)
    for level in (4, 5)
    for role, state, kind in product(ROLES, STATES[level], packets(level))
]


@pytest.mark.parametrize(("level", "role", "state", "kind"), EVERY)
def test_a_packet_is_read_where_the_other_role_may_send_it(
    level: int, role: int, state: State, kind: int
) -> None:
    connection = connection_in(role, state, level)
    packet = packets(level)[kind]
    may_be_read = kind in TABLES[level][1 - role][state] and state < State.FAILED
    if kind == 15 and may_be_read:
        give_turn(connection)
    if kind == 2 and state is State.AUTHENTICATING:
        packet = ConnAck(properties=WITH_METHOD)
    connection.feed(encode(packet, level), 0.0)
    if state >= State.FAILED:
        assert connection.read_packet() is None
    elif may_be_read:
        assert connection.read_packet() == packet
    else:
        with pytest.raises(RemoteProtocolError) as caught:
            connection.read_packet()
        assert caught.value.statement == expected_statement(level, role, state, kind)
        assert PACKET_NAMES[kind] in caught.value.message
        assert connection.state == state_after_error(level, role, state)
        assert not connection.can_read


def state_after_error(level: int, role: int, state: State) -> State:
    """In MQTT 5.0 something may be answered, once the version is known."""
    if level != 5 or state is State.OPENING:
        return State.CLOSING
    if role == SERVER and state is State.AUTHENTICATING:
        return State.ANSWERING
    return State.FAILED


def expected_statement(level: int, role: int, state: State, kind: int) -> str:
    """The statement that a misplaced packet breaks."""
    if role == SERVER and state is State.OPENING:
        return "MQTT-3.1.0-1"
    if role == SERVER and state is State.CONNECTED and kind == 1:
        return "MQTT-3.1.0-2"
    if level == 4:
        is_early = role == CLIENT and state is State.ANSWERING
        return "MQTT-3.2.0-1" if is_early else "MQTT-4.8.0-1"
    if role == SERVER:
        return "P5-2.1.2-2" if state is State.CONNECTED else "MQTT-3.1.2-30"
    if state is State.CONNECTED:
        return "MQTT-3.2.0-2" if kind == 2 else "P5-2.1.2-2"
    if state is State.OPENING:
        return "MQTT-4.8.0-1"  # the version is not known yet
    return {14: "MQTT-3.14.0-1", 15: "MQTT-4.12.0-6"}.get(kind, "MQTT-3.2.0-1")


@pytest.mark.parametrize(
    ("level", "role", "state", "kind"),
    [
        (level, role, state, kind)
        for level in (4, 5)
        for role, state, kind in product(ROLES, STATES[level], RESERVED[level])
    ],
)
def test_a_reserved_type_is_never_read(level: int, role: int, state: State, kind: int) -> None:
    connection = connection_in(role, state, level)
    connection.feed(bytes([kind << 4, 0]), 0.0)
    if state >= State.FAILED:
        assert connection.read_packet() is None
    else:
        with pytest.raises(RemoteProtocolError) as caught:
            connection.read_packet()
        if level == 5 and state is not State.OPENING:
            assert (caught.value.statement, caught.value.reason) == ("P5-2.1.2-1", 0x81)


def send(connection: Connection, kind: int, level: int) -> None:
    """Send a packet by the method for its type; without one there is nothing to send."""
    if kind == 1:
        connection.send_connect(Connect("c", level=level), 0.0)
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
    elif kind == 15:
        connection.send_auth(Auth(0x18), 0.0)


SENDABLE = (1, 2, 3, 4, 5, 7, 8, 10, 12, 14, 15)


@pytest.mark.parametrize(
    ("level", "role", "state", "kind"),
    [
        (level, role, state, kind)
        for level in (4, 5)
        for role, state, kind in product(ROLES, STATES[level], SENDABLE)
    ],
)
def test_a_packet_is_sent_where_the_role_may_send_it(
    level: int, role: int, state: State, kind: int
) -> None:
    connection = connection_in(role, state, level)
    if kind in TABLES[level][role][state]:
        if kind == 15:
            take_turn(connection)
        send(connection, kind, level)
        assert connection.data_to_send()[0] >> 4 == kind
    else:
        with pytest.raises(LocalProtocolError, match=state.name):
            send(connection, kind, level)
        assert connection.data_to_send() == b""
        assert connection.state == state


def take_turn(connection: Connection) -> None:
    """Bring the exchange to where this side may send AUTH."""
    if connection.role == SERVER:
        if connection.state == State.CONNECTED:
            connection.feed(wire5.auth(0x19, wire5.method("m")), 0.0)
            assert connection.read_packet() is not None
        return
    if connection.state == State.CONNECTED:
        connection.send_auth(Auth(0x19), 0.0)
        connection.data_to_send()
    connection.feed(wire5.auth(0x18, wire5.method("m")), 0.0)
    assert connection.read_packet() is not None


def test_the_masks_say_what_the_tables_say() -> None:
    for level, masks in ((4, MAY_SEND), (5, MAY_SEND_5)):
        for role in ROLES:
            for state in State:
                kinds = {kind for kind in range(16) if masks[role][state] >> kind & 1}
                assert kinds == set(TABLES[level][role][state])
