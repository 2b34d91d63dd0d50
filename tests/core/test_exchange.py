"""Enhanced authentication (4.12 of MQTT 5.0): whose turn it is, and with which method."""

from __future__ import annotations

import pytest

from mqtt_core import (
    CLIENT,
    SERVER,
    Auth,
    ConnAck,
    Connect,
    Connection,
    ConnectionRefused,
    Disconnect,
    LocalProtocolError,
    PingReq,
    Properties,
    RemoteProtocolError,
    State,
    make_publish,
)
from mqtt_core.properties import AUTHENTICATION_DATA, AUTHENTICATION_METHOD
from tests.core import wire5
from tests.core.wire import string
from tests.core.wire5 import auth, connack, method, prop
from tests.rig import Pair

M: Properties = ((AUTHENTICATION_METHOD, "m"),)
CONNECT = wire5.connect("c", method("m"))
GOES_ON = auth(0x18, method("m"))
ASKS_AGAIN = auth(0x19, method("m"))
SUCCEEDS = auth(0x00, method("m"))


def data(value: bytes) -> Properties:
    return ((AUTHENTICATION_DATA, value),)


def server_in(state: State) -> Connection:
    """A server whose client named the method, before or after CONNACK."""
    server = Connection(SERVER)
    server.receive_data(CONNECT, 0.0)
    if state is State.CONNECTED:
        server.send_connack(ConnAck(), 0.0)
    server.data_to_send()
    server.events()
    return server


def client_in(state: State) -> Connection:
    """A client that named the method, before or after CONNACK."""
    client = Connection(CLIENT)
    client.send_connect(Connect("c", level=5, properties=M), 0.0)
    if state is State.CONNECTED:
        client.receive_data(connack(0, method("m")), 0.0)
    client.data_to_send()
    client.events()
    return client


def test_an_authentication_in_several_steps_and_another_later() -> None:
    pair = Pair()
    client, server = pair.client, pair.server
    assert server is not None
    client.send_connect(Connect("c", level=5, properties=(*M, *data(b"1"))), 0.0)
    pair.move()
    for step in (b"2", b"4"):
        server.send_auth(Auth(0x18, data(step)), 0.0)
        pair.move()
        client.send_auth(Auth(0x18, data(step + b"!")), 0.0)
        pair.move()
    server.send_connack(ConnAck(), 0.0)
    assert pair.take_events() == [
        Auth(0x18, (*M, *data(b"2"))),
        Auth(0x18, (*M, *data(b"4"))),
        ConnAck(False, 0, M),
    ]
    assert pair.server_events[1:] == [
        Auth(0x18, (*M, *data(b"2!"))),
        Auth(0x18, (*M, *data(b"4!"))),
    ]
    pair.server_events.clear()
    client.send_auth(Auth(0x19), 0.0)
    client.send_publish("t", b"meanwhile", now=0.0)
    pair.move()
    server.send_publish("t", b"back", now=0.0)
    server.send_auth(Auth(0x18), 0.0)
    pair.move()
    client.send_auth(Auth(0x18, data(b"5")), 0.0)
    pair.move()
    server.send_auth(Auth(0x00), 0.0)
    assert pair.take_events() == [make_publish("t", b"back"), Auth(0x18, M), Auth(0, M)]
    assert pair.server_events == [
        Auth(0x19, M),
        make_publish("t", b"meanwhile"),
        Auth(0x18, (*M, *data(b"5"))),
    ]
    client.send_auth(Auth(0x19), 0.0)  # and once more
    pair.move()
    assert client.state == server.state == State.CONNECTED


@pytest.mark.statement("MQTT-4.12.0-5")
def test_the_method_is_added_where_it_is_missing() -> None:
    server = server_in(State.AUTHENTICATING)
    server.send_auth(Auth(0x18), 0.0)
    assert server.data_to_send() == GOES_ON
    server.receive_data(GOES_ON, 0.0)
    server.send_connack(ConnAck(), 0.0)
    assert server.data_to_send() == connack(0, method("m"))


@pytest.mark.statement("MQTT-4.12.0-4")
def test_a_server_may_refuse_at_any_step() -> None:
    server = server_in(State.AUTHENTICATING)
    server.send_auth(Auth(0x18), 0.0)
    server.send_connack(ConnAck(False, 0x87), 0.0)
    assert server.data_to_send() == GOES_ON + connack(0x87)
    assert server.wants_close
    client = client_in(State.AUTHENTICATING)
    client.receive_data(GOES_ON + connack(0x87), 0.0)
    assert client.events() == [Auth(0x18, M), ConnAck(False, 0x87)]
    assert client.wants_close


def test_a_client_may_leave_in_the_midst_of_it() -> None:
    server = server_in(State.AUTHENTICATING)
    assert not server.can_read
    server.send_auth(Auth(0x18), 0.0)
    assert server.can_read
    server.receive_data(wire5.DISCONNECT, 0.0)
    assert server.events() == [Disconnect()]
    client = client_in(State.AUTHENTICATING)
    client.send_disconnect(0.0)
    assert client.data_to_send() == wire5.DISCONNECT


# What may not come

WRONG_TO_SERVER = [
    (State.CONNECTED, GOES_ON, "P5-1.2.0-2"),
    (State.CONNECTED, ASKS_AGAIN + ASKS_AGAIN, "P5-1.2.0-2"),
    (State.CONNECTED, ASKS_AGAIN + GOES_ON, "P5-1.2.0-2"),
    (State.CONNECTED, auth(0x19), "P5-3.15.2-1"),
    (State.CONNECTED, auth(0x19, method("other")), "MQTT-4.12.1-1"),
    (State.CONNECTED, b"\xf0\0", "P5-3.15.2-1"),
    (State.AUTHENTICATING, ASKS_AGAIN, "P5-1.2.0-2"),
    (State.AUTHENTICATING, auth(0x18, method("other")), "MQTT-4.12.0-5"),
    (State.AUTHENTICATING, auth(0x18), "P5-3.15.2-1"),
    (State.AUTHENTICATING, wire5.PINGREQ, "MQTT-3.1.2-30"),
    (State.AUTHENTICATING, wire5.publish("t"), "MQTT-3.1.2-30"),
]


@pytest.mark.statement("MQTT-4.12.0-3")
@pytest.mark.parametrize(("state", "sent", "statement"), WRONG_TO_SERVER)
def test_what_a_client_may_not_send(state: State, sent: bytes, statement: str) -> None:
    server = server_in(state)
    if state is State.AUTHENTICATING:
        server.send_auth(Auth(0x18), 0.0)
    server.data_to_send()
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_data(sent, 0.0)
    assert (caught.value.statement, caught.value.reason) == (statement, 0x82)
    if state is State.CONNECTED:
        assert server.data_to_send() == wire5.disconnect(0x82)
        return
    # No DISCONNECT before CONNACK.  [MQTT-3.14.0-1]
    assert isinstance(caught.value, ConnectionRefused)
    with pytest.raises(LocalProtocolError):
        server.send_disconnect(0.0, 0x82)
    assert not server.can_read
    server.send_connack(ConnAck(False, 0x82), 0.0)
    assert server.data_to_send() == connack(0x82)


@pytest.mark.statement("MQTT-3.1.2-30")
@pytest.mark.parametrize("early", [wire5.publish("t"), wire5.PINGREQ, b"\x30"])
def test_what_a_client_sends_before_it_could_read_connack(early: bytes) -> None:
    server = Connection(SERVER)
    server.receive_data(CONNECT + early, 0.0)
    server.send_connack(ConnAck(), 0.0)
    server.data_to_send()
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_data(wire5.publish("t")[1:], 0.0)
    assert (caught.value.statement, caught.value.reason) == ("MQTT-3.1.2-30", 0x82)
    assert server.data_to_send() == wire5.disconnect(0x82)


def test_a_client_that_asks_again_before_it_could_read_connack() -> None:
    server = Connection(SERVER)
    server.receive_data(CONNECT + ASKS_AGAIN + wire5.PINGREQ, 0.0)
    server.send_connack(ConnAck(), 0.0)
    server.receive_data(b"", 0.0)
    assert server.events()[1:] == [Auth(0x19, M), PingReq()]


def test_a_client_that_leaves_before_it_could_read_connack() -> None:
    server = Connection(SERVER)
    server.receive_data(CONNECT + wire5.DISCONNECT, 0.0)
    server.send_connack(ConnAck(), 0.0)
    server.receive_data(b"", 0.0)
    assert server.events()[1:] == [Disconnect()]


@pytest.mark.parametrize(
    ("state", "sent", "statement"),
    [
        (State.AUTHENTICATING, SUCCEEDS, "MQTT-4.12.0-2"),
        (State.AUTHENTICATING, GOES_ON + GOES_ON, "P5-1.2.0-2"),
        (State.AUTHENTICATING, auth(0x18, method("other")), "MQTT-4.12.0-5"),
        (State.AUTHENTICATING, auth(0x18), "P5-3.15.2-1"),
        (State.AUTHENTICATING, connack(), "MQTT-4.12.0-5"),
        (State.AUTHENTICATING, connack(0, method("other")), "MQTT-4.12.0-5"),
        (State.CONNECTED, SUCCEEDS, "P5-1.2.0-2"),
        (State.CONNECTED, GOES_ON, "P5-1.2.0-2"),
        (State.CONNECTED, b"\xf0\0", "P5-3.15.2-1"),
    ],
)
def test_what_a_server_may_not_send(state: State, sent: bytes, statement: str) -> None:
    client = client_in(state)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive_data(sent, 0.0)
    assert (caught.value.statement, caught.value.reason) == (statement, 0x82)
    assert client.data_to_send() == wire5.disconnect(0x82)
    assert client.wants_close


# What is not sent


@pytest.mark.statement("MQTT-4.12.0-6")
@pytest.mark.statement("MQTT-4.12.0-7")
def test_nothing_without_a_method() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c", level=5), 0.0)
    server = Connection(SERVER)
    server.receive_data(client.data_to_send(), 0.0)
    with pytest.raises(LocalProtocolError, match="had none"):
        server.send_connack(ConnAck(properties=M), 0.0)
    server.send_connack(ConnAck(), 0.0)
    client.receive_data(server.data_to_send(), 0.0)
    with pytest.raises(LocalProtocolError, match="no authentication method"):
        client.send_auth(Auth(0x19, M), 0.0)
    with pytest.raises(LocalProtocolError, match="no authentication method"):
        server.send_auth(Auth(0x18, M), 0.0)


def test_nothing_out_of_turn() -> None:
    server = server_in(State.AUTHENTICATING)
    with pytest.raises(LocalProtocolError, match="is not that of CONNECT"):
        server.send_connack(ConnAck(properties=((AUTHENTICATION_METHOD, "other"),)), 0.0)
    with pytest.raises(LocalProtocolError, match="CONNACK"):
        server.send_auth(Auth(0x00), 0.0)
    with pytest.raises(LocalProtocolError, match="reason code"):
        server.send_auth(Auth(0x19), 0.0)
    with pytest.raises(LocalProtocolError, match="another"):
        server.send_auth(Auth(0x18, ((AUTHENTICATION_METHOD, "other"),)), 0.0)
    server.send_auth(Auth(0x18), 0.0)
    with pytest.raises(LocalProtocolError, match="answers nothing"):
        server.send_auth(Auth(0x18), 0.0)
    client = client_in(State.AUTHENTICATING)
    with pytest.raises(LocalProtocolError, match="answers nothing"):
        client.send_auth(Auth(0x18), 0.0)
    with pytest.raises(LocalProtocolError, match="within an authentication"):
        client.send_auth(Auth(0x19), 0.0)
    with pytest.raises(LocalProtocolError, match="reason code"):
        client.send_auth(Auth(0x00), 0.0)
    with pytest.raises(LocalProtocolError, match="AUTHENTICATING"):
        client.send_publish("t", b"", now=0.0)
    assert client.data_to_send() == b""


def test_a_step_that_is_too_large_leaves_the_turn_as_it_was() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c", level=5, properties=M), 0.0)
    client.receive_data(connack(0, method("m"), prop(0x27, b"\0\0\0\x20")), 0.0)
    client.data_to_send()
    with pytest.raises(LocalProtocolError, match="maximum of 32"):
        client.send_auth(Auth(0x19, data(bytes(30))), 0.0)
    client.send_auth(Auth(0x19, data(b"x")), 0.0)
    assert client.data_to_send() == auth(0x19, method("m"), prop(0x16, string(b"x")))
