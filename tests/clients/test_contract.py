"""What both clients promise, told once: each story is run with the asyncio and the blocking one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from adapters.security import PasswordThread, ScramClient, ScramCredential, UserTable
from iotd import (
    ClientClosed,
    ClientLimits,
    ConnectError,
    ConnectionLost,
    ConnectionRefused,
    QueueFull,
    Reconnect,
    StoreFailed,
    SubscribeRefused,
    Will,
)
from mqtt_core.broker import Limits, MemoryEngine, StaticUsers
from mqtt_core.client import Connected, Ended, Event, Lost, Retrying
from tests.adapters.rig import RUNTIMES, RunningServer
from tests.clients.relay import Relay, make_certificate
from tests.clients.words import KINDS, PATIENCE_S, AnyClient, AnyMessages, Loop
from tests.core import wire5
from tests.rig import RefusingEngine

QUICK = Reconnect(0.001, 0.01)

Make = Callable[..., AnyClient]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer("asyncio") as running:
        yield running


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as running:
        yield running


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, loop: Loop) -> Make:
    """Makes a client of the kind at hand."""

    def of_kind(url: str, **options: Any) -> AnyClient:
        return loop.client(request.param, url, **options)

    return of_kind


def url_of(server: RunningServer) -> str:
    host, port = server.address
    return f"mqtt://{host}:{port}"


def take(messages: AnyMessages, count: int) -> list[str]:
    """The next messages, as text."""
    return [messages.get(PATIENCE_S).text for _ in range(count)]


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up_at, "it did not come about"
        time.sleep(0.001)


def lose(client: AnyClient, loop: Loop, relay: Relay) -> None:
    """Break the connection, and wait until the client knows."""
    before = client.counters.lost_connections
    loop.call(relay.cut)
    wait_until(lambda: client.counters.lost_connections > before)


@pytest.mark.parametrize("version", [5, "3.1.1", "auto"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_messages_go_through_a_server(make: Make, version: object, runtime: str) -> None:
    with RunningServer(runtime) as server, make(url_of(server), version=version) as client:
        assert client.is_connected
        assert client.version == ("3.1.1" if version == "3.1.1" else "5")
        messages = client.subscribe("a/#", "b", qos=2)
        assert (messages.topic_filters, messages.granted_qos) == (("a/#", "b"), (2, 2))
        for qos in range(3):
            assert client.publish("a/b", f"hällo {qos}", qos=qos).is_done
        texts = []
        for message in messages:
            texts.append((message.topic, message.text, message.qos))
            if len(texts) == 3:
                break
        assert texts == [("a/b", f"hällo {qos}", qos) for qos in range(3)]
        messages.unsubscribe()
        assert list(messages) == []


def test_messages_of_many_threads_keep_their_order(make: Make, server: RunningServer) -> None:
    with make(url_of(server)) as client, make(url_of(server)) as other:
        messages = client.subscribe("many/+", qos=1)

        def publish(number: int) -> None:
            for n in range(100):
                other.publish(f"many/{number}", str(n), qos=n % 3)

        with ThreadPoolExecutor(5) as pool:
            assert len(list(pool.map(publish, range(5)))) == 5
        seen: dict[str, list[int]] = {}
        for _ in range(500):
            message = messages.get(PATIENCE_S)
            seen.setdefault(message.topic, []).append(int(message.payload))
        assert sorted(seen) == [f"many/{number}" for number in range(5)]
        assert all(each == list(range(100)) for each in seen.values())


def test_a_flood_at_qos_0_waits_for_the_socket(make: Make, server: RunningServer) -> None:
    with make(url_of(server), limits=ClientLimits(max_unread_messages=10)) as client:
        messages = client.subscribe("flood")
        for _ in range(2_000):
            client.publish("flood", bytes(1_000))
        client.publish("flood", b"last", qos=1)
        while messages.get(PATIENCE_S).payload != b"last":
            pass
        assert messages.dropped == client.counters.dropped_unread


def test_publishing_without_waiting(make: Make, server: RunningServer) -> None:
    limits = ClientLimits(max_inflight_messages=1, max_pending_messages=2)
    with make(url_of(server), limits=limits) as client:
        published = []

        def publish_without_end() -> None:
            while True:
                published.append(client.publish_nowait("t", bytearray(b"x"), 1))

        with pytest.raises(QueueFull):
            publish_without_end()
        client.wait(published[-1])
        client.flush()
        assert all(each.is_done for each in published)
        assert (client.in_flight, client.pending_messages) == (0, 0)


@pytest.mark.parametrize("payload", [b"x", bytearray(b"x"), memoryview(b"x"), "x"])
def test_payloads_and_properties(make: Make, server: RunningServer, payload: object) -> None:
    with make(url_of(server)) as client, client.subscribe("t") as messages:
        client.publish(
            "t",
            payload,
            content_type="text/plain",
            expiry_s=60,
            response_topic="answers",
            correlation_data=b"7",
            user_properties=[("a", "b")],
        )
        message = messages.get(PATIENCE_S)
        assert (message.payload, message.content_type) == (b"x", "text/plain")
        assert (message.response_topic, message.correlation_data) == ("answers", b"7")
        assert message.user_properties == (("a", "b"),)
        with pytest.raises(TypeError, match=r"json\.dumps"):
            client.publish("t", {"a": 1})
        with pytest.raises(ValueError, match="cannot publish to"):
            client.publish("t/#")


def test_manual_acknowledgement(make: Make, server: RunningServer) -> None:
    limits = ClientLimits(receive_maximum=2)
    with make(url_of(server), manual_acks=True, limits=limits) as client:
        messages = client.subscribe("t", qos=1)
        for n in range(4):
            client.publish_nowait("t", str(n), qos=1)
        client.flush()
        first, second = messages.get(PATIENCE_S), messages.get(PATIENCE_S)
        with pytest.raises(TimeoutError):
            messages.get(timeout=0.01)
        assert messages.get_nowait() is None
        second.ack()
        first.ack()
        assert take(messages, 2) == ["2", "3"]


# Requests


@pytest.mark.parametrize("information", ["", "answers/here/"])
@pytest.mark.parametrize("manual_acks", [False, True])
def test_each_request_gets_its_answer(make: Make, information: str, manual_acks: bool) -> None:
    with (
        RunningServer("asyncio", limits=Limits(response_information=information)) as server,
        ThreadPoolExecutor(20) as pool,
        make(url_of(server), client_id="a/b+c", manual_acks=manual_acks) as asking,
        make(url_of(server)) as answering,
    ):
        questions = answering.subscribe("square", qos=1)
        asked = [pool.submit(asking.request, "square", str(n)) for n in range(20)]
        waiting = [questions.get(PATIENCE_S) for _ in range(20)]
        for message in reversed(waiting):
            answering.reply(message, str(int(message.text) ** 2))
        squares = [each.result(PATIENCE_S) for each in asked]
        assert [int(each.text) for each in squares] == [n * n for n in range(20)]
        topic = "answers/here/answers" if information else "iotd/response/a_b_c"
        assert squares[0].topic == topic


def test_requests_without_an_answer_end(make: Make, server: RunningServer) -> None:
    with make(url_of(server)) as client, ThreadPoolExecutor(1) as pool:
        with pytest.raises(TimeoutError):
            client.request("nobody", timeout=0.05)
        client.publish("t", "plain")
        with client.subscribe("t") as messages:
            client.publish("t", "plain")
            with pytest.raises(ValueError, match="no response topic"):
                client.reply(messages.get(PATIENCE_S))
        waiting = pool.submit(client.request, "nobody")
        wait_until(lambda: client.counters.published >= 4)
        client.close()
        assert isinstance(waiting.exception(PATIENCE_S), ClientClosed)
    old = make(url_of(server), version="3.1.1")
    with old, pytest.raises(ValueError, match=r"3\.1\.1 has no requests"):
        old.request("x")


def test_scram_proves_both_sides(make: Make) -> None:
    table = UserTable({"ann": ScramCredential.make(b"right", iterations=4_096)})
    faults: list[Exception] = []
    thread = PasswordThread(table, faults.append)
    with RunningServer("asyncio", policy=table, authenticator=thread.submit) as server:
        thread.start(server.server.auth_decided)
        with make(url_of(server), mechanism=ScramClient("ann", "right")) as client:
            client.publish("t", "x", qos=1)
            client.re_authenticate()
            client.publish("t", "x", qos=1)
        with pytest.raises(ConnectionRefused):
            make(url_of(server), mechanism=ScramClient("ann", "wrong")).connect()
    thread.stop()
    assert not faults


# What is stored


def test_a_store_carries_messages_from_one_run_to_the_next(
    make: Make, loop: Loop, server: RunningServer, tmp_path: Path, request: Any
) -> None:
    with loop.relay(server.address) as relay, make(url_of(server)) as other:
        messages = other.subscribe("kept", qos=2)
        options = {
            "client_id": f"kept-{request.node.callspec.id}",
            "session_expiry_s": 600,
            "store": tmp_path / "store",
        }
        limits = ClientLimits(close_timeout_s=0.0)
        with make(relay.url, limits=limits, **options) as client:
            client.publish("kept", "0", 2)
            relay.is_silent = True
            for n in range(1, 5):
                client.publish_nowait("kept", str(n), 2)
        relay.is_silent = False
        with make(relay.url, **options) as client:
            client.flush()
        assert take(messages, 5) == [str(n) for n in range(5)]
        assert messages.get_nowait() is None


def test_a_store_that_refuses_ends_the_client(make: Make, server: RunningServer) -> None:
    engine = RefusingEngine(MemoryEngine(Limits()), 1)
    with pytest.raises(StoreFailed, match="refused by test"):
        make(url_of(server), client_id="r", session_expiry_s=60, store=engine).connect()


# Errors


def test_a_server_that_is_not_there(make: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConnectError, match="nothing listens there") as raised:
            make(f"mqtt://127.0.0.1:{port}").connect()
        assert raised.value.__cause__ is None
    with pytest.raises(ConnectError, match="is not known"):
        make("mqtt://nowhere.invalid").connect()
    with pytest.raises(ConnectError, match="there is no such socket"):
        make("unix:///nowhere/at/all").connect()
    with pytest.raises(ValueError, match="write it with its scheme"):
        make("localhost")


def test_a_refusal(make: Make) -> None:
    with RunningServer("asyncio", policy=StaticUsers({"user": b"right"})) as running:
        client = make(url_of(running).replace("://", "://user:wrong@"))
        with pytest.raises(ConnectionRefused, match="check username and password") as raised:
            client.connect()
        assert raised.value.reason == 0x86


def test_a_server_that_does_not_answer(make: Make, loop: Loop, server: RunningServer) -> None:
    with loop.relay(server.address) as relay:
        relay.is_silent = True
        with pytest.raises(ConnectError, match="no CONNACK in time"):
            make(relay.url, limits=ClientLimits(connect_timeout_s=0.1)).connect()


def test_a_server_that_takes_it_and_leaves_at_once(make: Make) -> None:
    def greet() -> None:
        connected, _ = listening.accept()
        with connected:
            connected.recv(1_000)
            connected.sendall(wire5.connack() + wire5.disconnect(0x8B))  # it is shutting down

    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        ThreadPoolExecutor(1) as pool,
    ):
        greeting = pool.submit(greet)
        port = listening.getsockname()[1]
        with make(f"mqtt://127.0.0.1:{port}", reconnect=Reconnect(60, 60)) as client:
            assert not client.is_connected  # and it comes back by itself
            assert client.counters.lost_connections == 1
        greeting.result()


def test_a_client_that_was_never_connected_lets_go_of_its_store(make: Make, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="give client_id and session_expiry_s"):
            make("mqtt://localhost", store=tmp_path)
        client = make("mqtt://localhost", client_id="c", session_expiry_s=60, store=tmp_path)
        client.publish_nowait("t", "goes nowhere", 2)
        client.close()
        client.close()


def test_a_refused_subscription(make: Make) -> None:
    limits = Limits(wildcard_subscriptions=False)
    with RunningServer("asyncio", limits=limits) as running, make(url_of(running)) as client:
        with pytest.raises(SubscribeRefused, match="wildcard"):
            client.subscribe("a/#")
        with pytest.raises(ValueError, match="must be a whole level"):
            client.subscribe("a#")


def test_a_client_is_used_once_and_only_within_its_life(make: Make, server: RunningServer) -> None:
    client = make(url_of(server))
    with pytest.raises(ClientClosed, match="not connected yet"):
        client.wait(client.publish_nowait("t", "early", 1))
    client.connect()
    with pytest.raises(ClientClosed, match="connected before"):
        client.connect()
    messages = client.subscribe("t")
    client.close()
    client.close()
    for use in (client.publish, client.subscribe):
        with pytest.raises(ClientClosed):
            use("t")
    with pytest.raises(ClientClosed):
        client.wait_connected()
    client.wait_closed()
    with pytest.raises(ClientClosed):
        messages.get()
    make(url_of(server)).close()


def test_closing_wakes_whoever_waits(make: Make, loop: Loop, server: RunningServer) -> None:
    with loop.relay(server.address) as relay, ThreadPoolExecutor(6) as pool:
        client = make(relay.url, limits=ClientLimits(close_timeout_s=0.0))
        client.connect()
        messages = client.subscribe("t")
        relay.is_silent = True
        iterating = pool.submit(list, messages)
        publishing = pool.submit(client.publish, "t", qos=1)
        subscribing = pool.submit(client.subscribe, "u")
        ending = pool.submit(client.wait_closed)
        waiting = pool.submit(messages.get)
        wait_until(lambda: client.in_flight > 0)
        client.close()
        assert iterating.result(PATIENCE_S) == []
        assert ending.result(PATIENCE_S) is None
        for each in (publishing, subscribing, waiting):
            assert isinstance(each.exception(PATIENCE_S), ClientClosed)


# Broken connections


@pytest.mark.parametrize("version", [5, "3.1.1"])
def test_it_comes_back_and_loses_nothing(
    make: Make, loop: Loop, version: object, server: RunningServer, request: Any
) -> None:
    seen: list[Event] = []
    with (
        loop.relay(server.address) as relay,
        make(
            relay.url,
            client_id=f"back-{request.node.callspec.id}",
            version=version,
            session_expiry_s=60,
            reconnect=QUICK,
            on_state=seen.append,
        ) as client,
    ):
        messages = client.subscribe("back/#", qos=2)
        got: list[str] = []
        for n in range(100):
            client.publish_nowait("back/x", str(n), qos=2)
            if n % 20 == 10:
                lose(client, loop, relay)
                client.wait_connected()
                got += take(messages, 1)
        client.flush()
        got += take(messages, 100 - len(got))
        assert got == [str(n) for n in range(100)]
        assert client.counters.lost_connections == 5
        assert client.session_present
    assert isinstance(seen[0], Connected)
    assert any(isinstance(each, Lost) for each in seen)
    assert any(isinstance(each, Retrying) for each in seen)
    assert seen[-1] == Ended(None)


def test_messages_wait_while_the_server_is_away(
    make: Make, loop: Loop, server: RunningServer
) -> None:
    with (
        loop.relay(server.address) as relay,
        ThreadPoolExecutor(1) as pool,
        make(relay.url, reconnect=QUICK) as client,
    ):
        relay.is_open = False
        lose(client, loop, relay)
        publishing = pool.submit(client.publish, "t", "0")
        wait_until(lambda: client.pending_messages == 1)
        relay.is_open = True
        publishing.result(PATIENCE_S)
        assert client.counters.published == 1


def test_without_reconnect_it_ends(make: Make, loop: Loop, server: RunningServer) -> None:
    with loop.relay(server.address) as relay, make(relay.url, reconnect=None) as client:
        messages = client.subscribe("t")
        loop.call(relay.cut)
        with pytest.raises(ConnectionLost):
            client.wait_closed()
        with pytest.raises(ClientClosed):
            next(messages)


def test_the_will_of_a_client_that_fails_is_published(
    make: Make, loop: Loop, server: RunningServer
) -> None:
    with make(url_of(server)) as watcher, loop.relay(server.address) as relay:
        messages = watcher.subscribe("wills")
        will = Will("wills", "gone", 1)
        with make(relay.url, will=will, reconnect=Reconnect(60, 60)) as client:
            lose(client, loop, relay)
        assert messages.get(PATIENCE_S).text == "gone"


def test_nothing_is_left_running(make: Make, loop: Loop, server: RunningServer) -> None:
    def running() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name.startswith("iotd client")]

    with loop.relay(server.address) as relay:
        with make(relay.url) as client:
            client.publish("t", qos=2)
        with pytest.raises(RuntimeError), make(relay.url):
            raise RuntimeError("of the program")
        relay.is_open = False
        with pytest.raises(ConnectError):
            make(relay.url, reconnect=None).connect()
    assert running() == []


def test_what_was_begun_is_ended_for_a_server_that_reads_late(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(2) as pool:
        port = listener.getsockname()[1]
        limits = ClientLimits(close_timeout_s=0.0)
        client = make(f"mqtt://127.0.0.1:{port}", version="3.1.1", limits=limits)
        connecting = pool.submit(client.connect)
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(1_000)[0] == 0x10
            peer.sendall(bytes.fromhex("20 02 00 00"))  # CONNACK
            connecting.result(PATIENCE_S)
            payload = bytes(10_000)
            while not client.pending_messages:
                client.publish_nowait("flood", payload)
            closing = pool.submit(client.close)
            wait_until(lambda: not client.is_connected)
            came = b"".join(iter(lambda: peer.recv(1_000_000), b""))
        closing.result(PATIENCE_S)
        packet = b"\x30\x97\x4e\x00\x05flood" + payload
        assert came[: len(packet)] == packet
        assert came[-2:] == b"\xe0\x00"  # DISCONNECT
        assert (len(came) - 2) % len(packet) == 0


# Other transports


def test_a_unix_socket(make: Make, loop: Loop, server: RunningServer, tmp_path: Path) -> None:
    with loop.relay(server.address, path=tmp_path / "s") as relay, make(relay.url) as client:
        messages = client.subscribe("t")
        client.publish("t", "through a file")
        assert take(messages, 1) == ["through a file"]


def test_tls(make: Make, loop: Loop, server: RunningServer, tmp_path: Path) -> None:
    of_server, of_client = make_certificate(tmp_path)
    with loop.relay(server.address, tls=of_server) as relay:
        with make(relay.url, tls=of_client) as client:
            messages = client.subscribe("t", qos=1)
            payload = bytes(300_000)
            for _ in range(3):
                client.publish("t", payload, qos=1)
                assert messages.get(PATIENCE_S).payload == payload
        with pytest.raises(ConnectError, match="its certificate is not trusted"):
            make(relay.url).connect()
        plain = f"mqtts://127.0.0.1:{server.address[1]}"
        with pytest.raises(ConnectError, match=r"TLS|closed|broke"):
            make(plain, tls=of_client, limits=ClientLimits(connect_timeout_s=2.0)).connect()


@pytest.mark.parametrize("is_secure", [False, True])
def test_websocket(
    make: Make, loop: Loop, is_secure: bool, server: RunningServer, tmp_path: Path
) -> None:
    of_server, of_client = make_certificate(tmp_path) if is_secure else (None, None)
    with loop.gate(server.address, of_server) as url, make(url, tls=of_client) as client:
        messages = client.subscribe("t", qos=1)
        payload = bytes(300_000)
        client.publish("t", payload, qos=1)
        assert messages.get(PATIENCE_S).payload == payload


def test_what_is_no_websocket_is_said(make: Make, server: RunningServer) -> None:
    limits = ClientLimits(connect_timeout_s=2.0)
    host, port = server.address
    with pytest.raises(ConnectError, match="cannot connect to ws://"):
        make(f"ws://{host}:{port}", limits=limits).connect()


@pytest.mark.parametrize(
    "last",
    [b"\x88\x02\x03\xe8", b"\x82\x85abcdefghi", b"\xf2\x01a", b"\x82\x7f" + b"\x10" * 8],
)
@pytest.mark.parametrize("is_greeted", [False, True])
def test_a_websocket_that_is_closed_or_broken_is_left(
    make: Make, last: bytes, is_greeted: bool
) -> None:
    """Also where the server keeps the connection under it: closed, masked, reserved, too large."""

    def answer() -> None:
        connected, _ = listening.accept()
        with connected:
            protocol = ServerProtocol(subprotocols=[Subprotocol("mqtt")])
            while not (events := protocol.events_received()):
                protocol.receive_data(connected.recv(1_000))
            assert isinstance(events[0], Request)
            protocol.send_response(protocol.accept(events[0]))
            if is_greeted:
                protocol.send_binary(wire5.connack())
            connected.sendall(b"".join(protocol.data_to_send()) + last)
            while connected.recv(1_000):
                pass

    def live() -> None:
        with make(f"ws://127.0.0.1:{port}", version=5, reconnect=None) as client:
            client.wait_closed()

    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        ThreadPoolExecutor(1) as pool,
    ):
        port = listening.getsockname()[1]
        answering = pool.submit(answer)
        with pytest.raises((ConnectError, ConnectionLost), match="the server has closed"):
            live()
        answering.result()
