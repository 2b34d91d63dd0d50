"""Enhanced authentication on each runtime: SCRAM with the table of users, and decisions that come
from other threads."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pytest
from scramp import ScramClient

from adapters.security import PasswordThread, ScramCredential, UserTable
from mqtt_core import MQTT_5, Auth, ConnAck, Connect, Connection, Disconnect, Packet, Publish
from mqtt_core import properties as props
from mqtt_core.broker import AuthorizeRequest, AuthRequest, Decision
from mqtt_core.reasons import CONTINUE_AUTHENTICATION, RE_AUTHENTICATE
from tests.adapters.rig import Client, RunningServer

METHOD = "SCRAM-SHA-256"
USERS = UserTable(
    {"alice": ScramCredential.make(b"secret", iterations=ScramCredential.MIN_ITERATIONS)},
    passwords={"bob": b"plain"},
)


class Device:
    """A client of MQTT 5.0 over TCP that reads packet by packet."""

    def __init__(self, address: tuple[str, int], method: str) -> None:
        self.transport = Client(address)
        self.connection = Connection()
        self._method = (props.AUTHENTICATION_METHOD, method)

    def connect(self, data: bytes) -> None:
        """Send CONNECT with the first data of the method."""
        given = (self._method, (props.AUTHENTICATION_DATA, data))
        self.connection.send_connect(Connect("device", level=MQTT_5, properties=given), 0.0)
        self.flush()

    def authenticate(self, reason: int, data: bytes) -> None:
        """Send AUTH."""
        self.connection.send_auth(Auth(reason, ((props.AUTHENTICATION_DATA, data),)), 0.0)
        self.flush()

    def flush(self) -> None:
        """Send what there is."""
        self.transport.send(*iter(self.connection.data_to_send, b""))

    def next(self) -> Packet:
        """The next packet from the server."""
        while True:
            data = self.transport.receive_packet()
            assert data, "the connection has ended"
            self.connection.receive_data(data, 0.0)
            if events := self.connection.events():
                (packet,) = events
                return packet

    def log_in(self, name: str, password: str, *, again: bool = False) -> Packet:
        """Run SCRAM to its end; the last packet of it."""
        scram = ScramClient([METHOD], name, password)
        first = scram.get_client_first().encode()
        if again:
            self.authenticate(RE_AUTHENTICATE, first)
        else:
            self.connect(first)
        challenge = self.next()
        assert isinstance(challenge, Auth)
        scram.set_server_first(data_of(challenge).decode())
        self.authenticate(CONTINUE_AUTHENTICATION, scram.get_client_final().encode())
        last = self.next()
        if isinstance(last, Auth | ConnAck) and not last.reason:
            scram.set_server_final(data_of(last).decode())
        return last

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()


def data_of(packet: Auth | ConnAck) -> bytes:
    data = props.binary(packet.properties, props.AUTHENTICATION_DATA)
    assert data is not None
    return data


@pytest.fixture
def server(runtime: str) -> Iterator[RunningServer]:
    """A server with the table of users, whose slow work is done on a thread."""
    faults: list[Exception] = []
    thread = PasswordThread(USERS, faults.append)
    with RunningServer(runtime, policy=USERS, authenticator=thread.submit) as server:
        thread.start(server.server.auth_decided)
        yield server
        thread.stop()
    assert not faults


@pytest.mark.parametrize(("name", "password"), [("alice", "secret"), ("bob", "plain")])
def test_a_client_logs_in_by_scram_and_again(
    server: RunningServer, name: str, password: str
) -> None:
    with Device(server.address, METHOD) as device:
        accepted = device.log_in(name, password)
        assert isinstance(accepted, ConnAck)
        assert accepted.reason == 0
        detail = server.next_fact("client.connected").detail
        assert f"method 'SCRAM-SHA-256', user '{name}'" in detail
        device.connection.send_subscribe([("t", 0)], 0.0)
        device.flush()
        device.next()
        again = device.log_in(name, password, again=True)
        assert isinstance(again, Auth)
        assert again.reason == 0
        assert server.next_fact("client.reauthenticated").client_id == "device"
        device.connection.send_publish("t", b"x", now=0.0)
        device.flush()
        assert isinstance(device.next(), Publish)


@pytest.mark.parametrize("name", ["alice", "bob", "nobody"])
def test_a_wrong_password_and_a_wrong_name_look_alike(server: RunningServer, name: str) -> None:
    with Device(server.address, METHOD) as device:
        refused = device.log_in(name, "wrong")
        assert isinstance(refused, ConnAck)
        assert refused.reason == 0x87
        assert props.binary(refused.properties, props.AUTHENTICATION_DATA) is None
        assert device.transport.is_at_end()


@pytest.mark.parametrize(("name", "password"), [("alice", "wrong"), ("bob", "plain")])
def test_one_that_cannot_show_again_who_it_is_is_disconnected(
    server: RunningServer, name: str, password: str
) -> None:
    with Device(server.address, METHOD) as device:
        assert isinstance(device.log_in("alice", "secret"), ConnAck)
        if name == "alice":
            last = device.log_in(name, password, again=True)
        else:  # another user is not the same client
            first = ScramClient([METHOD], name, password).get_client_first()
            device.authenticate(RE_AUTHENTICATE, first.encode())
            last = device.next()
        assert isinstance(last, Disconnect)
        assert last.reason == 0x87
        assert device.transport.is_at_end()
        assert server.next_fact("client.disconnected").cause == "not authorized"


def test_a_method_that_the_table_does_not_know(server: RunningServer) -> None:
    with Device(server.address, "SCRAM-SHA-1") as device:
        device.connect(b"n,,n=alice,r=abc")
        refused = device.next()
        assert isinstance(refused, ConnAck)
        assert refused.reason == 0x8C


class Outside:
    """Leaves each step to the test, on the test's own thread."""

    def __init__(self) -> None:
        self.requests: queue.SimpleQueue[AuthRequest | AuthorizeRequest] = queue.SimpleQueue()

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Not here."""
        return None

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """Never asked: all are unrestricted."""
        raise AssertionError

    def next(self) -> AuthRequest:
        """The next question; waits for it."""
        request = self.requests.get(timeout=20)
        assert isinstance(request, AuthRequest)
        return request


def test_each_step_may_be_decided_outside(runtime: str) -> None:
    outside = Outside()
    with (
        RunningServer(runtime, policy=outside, authenticator=outside.requests.put) as server,
        Device(server.address, "X") as device,
    ):
        device.connect(b"1")
        request = outside.next()
        assert (request.method, request.data, request.state) == ("X", b"1", None)
        more = Decision(CONTINUE_AUTHENTICATION, data=b"2", state="kept")
        server.server.auth_decided(request.token, more)
        challenge = device.next()
        assert isinstance(challenge, Auth)
        assert data_of(challenge) == b"2"
        device.authenticate(CONTINUE_AUTHENTICATION, b"3")
        request = outside.next()
        assert (request.data, request.state) == (b"3", "kept")
        server.server.auth_decided(request.token, Decision(0, True, data=b"4"))
        accepted = device.next()
        assert isinstance(accepted, ConnAck)
        assert data_of(accepted) == b"4"

        device.authenticate(RE_AUTHENTICATE, b"5")
        request = outside.next()
        assert request.is_reauthentication
        device.transport.ping()  # and its other packets go on
        server.server.auth_decided(request.token, Decision(0x87))
        last = device.next()
        assert isinstance(last, Disconnect)
        assert last.reason == 0x87
