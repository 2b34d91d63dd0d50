"""The asyncio client against our own servers, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from iotd import (
    Client,
    ClientClosed,
    ClientLimits,
    ConnectError,
    ConnectionLost,
    ConnectionRefused,
    Message,
    Messages,
    Publication,
    QueueFull,
    Reconnect,
    SubscribeRefused,
    Will,
)
from mqtt_core.broker import Limits, StaticUsers
from mqtt_core.client import Connected, Ended, Event, Lost
from tests.adapters.rig import RUNTIMES, RunningServer
from tests.clients.loops import LOOPS, run
from tests.clients.relay import Relay, make_certificate

QUICK = Reconnect(0.001, 0.01)

each_loop = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer("asyncio") as running:
        yield running


def url_of(server: RunningServer) -> str:
    """Where a client connects."""
    host, port = server.address
    return f"mqtt://{host}:{port}"


async def take(messages: Messages, count: int) -> list[bytes]:
    """The payloads of the next messages."""
    return [(await messages.get()).payload for _ in range(count)]


async def lose(client: Client, relay: Relay) -> None:
    """Break the connection, and wait until the client knows."""
    before = client.counters.lost_connections
    relay.cut()
    while client.counters.lost_connections == before:
        await asyncio.sleep(0)


@each_loop
@pytest.mark.parametrize("version", [5, "3.1.1", "auto"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_messages_go_through_a_server(loop: str, version: object, runtime: str) -> None:
    async def test() -> None:
        async with Client(url_of(server), version=version) as client:  # type: ignore[arg-type]
            assert client.is_connected
            assert client.version == ("3.1.1" if version == "3.1.1" else "5")
            messages = await client.subscribe("a/#", qos=2)
            assert messages.granted_qos == (2,)
            for qos in range(3):
                published = await client.publish("a/b", f"hällo {qos}", qos=qos)
                assert isinstance(published, Publication)
            texts: list[str] = []
            async for message in messages:
                texts.append(message.text)
                if len(texts) == 3:
                    break
            assert texts == ["hällo 0", "hällo 1", "hällo 2"]
            await messages.unsubscribe()
            assert [each async for each in messages] == []

    with RunningServer(runtime) as server:
        run(loop, test)


@each_loop
def test_many_messages_of_many_tasks_arrive(loop: str, server: RunningServer) -> None:
    async def test() -> None:
        async with Client(url_of(server)) as client, Client(url_of(server)) as other:
            messages = await client.subscribe("many/+", qos=1)

            async def publish(number: int) -> None:
                for n in range(200):
                    await other.publish(f"many/{number}", str(n), qos=1)

            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(publish(number))
            seen: dict[str, list[int]] = {}
            for _ in range(1_000):
                message = await messages.get()
                seen.setdefault(message.topic, []).append(int(message.payload))
            assert len(seen) == 5
            assert all(each == list(range(200)) for each in seen.values())
            assert client.counters.dropped_unread == 0

    run(loop, test)


@each_loop
def test_a_flood_at_qos_0_waits_for_the_socket(loop: str, server: RunningServer) -> None:
    async def test() -> None:
        async with Client(url_of(server), limits=ClientLimits(max_unread_messages=10)) as client:
            messages = await client.subscribe("flood")
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0)

            ticking = asyncio.create_task(tick())
            for _ in range(2_000):
                await client.publish("flood", bytes(1_000))
            await client.publish("flood", b"last", qos=1)
            while (await messages.get()).payload != b"last":
                pass
            ticking.cancel()
            await asyncio.wait([ticking])
            assert ticks > 10  # who publishes much leaves others their turns

    run(loop, test)


def test_publishing_without_waiting(server: RunningServer) -> None:
    async def test() -> None:
        limits = ClientLimits(max_inflight_messages=1, max_pending_messages=2)
        async with Client(url_of(server), limits=limits) as client:
            published = [client.publish_nowait("t", "x", 1) for _ in range(3)]
            with pytest.raises(QueueFull):
                client.publish_nowait("t", bytearray(b"x"), 1)
            assert (client.in_flight, client.pending_messages) == (1, 2)
            await client.wait(published[2])
            await client.flush()
            assert all(each.is_done for each in published)

    run("asyncio", test)


@pytest.mark.parametrize("payload", [b"x", bytearray(b"x"), memoryview(b"x"), "x"])
def test_payloads_are_bytes_or_text(server: RunningServer, payload: bytes | str) -> None:
    async def test() -> None:
        async with Client(url_of(server)) as client:
            messages = await client.subscribe("t")
            await client.publish("t", payload, content_type="text/plain", expiry_s=60)
            message = await messages.get()
            assert (message.payload, message.content_type) == (b"x", "text/plain")
            with pytest.raises(TypeError, match=r"json\.dumps"):
                await client.publish("t", {"a": 1})  # type: ignore[arg-type]

    run("asyncio", test)


def test_manual_acknowledgement(server: RunningServer) -> None:
    async def test() -> None:
        limits = ClientLimits(receive_maximum=2)
        async with Client(url_of(server), manual_acks=True, limits=limits) as client:
            messages = await client.subscribe("t", qos=1)
            for n in range(4):
                client.publish_nowait("t", str(n), qos=1)
            await client.flush()
            first, second = await messages.get(), await messages.get()
            with pytest.raises(TimeoutError):
                await messages.get(timeout=0.01)
            second.ack()
            first.ack()
            assert await take(messages, 2) == [b"2", b"3"]

    run("asyncio", test)


# Errors


def test_a_server_that_is_not_there(server: RunningServer) -> None:
    async def test() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with pytest.raises(ConnectError, match="nothing listens there") as raised:
                await Client(f"mqtt://127.0.0.1:{port}").connect()
            assert raised.value.__cause__ is None
        with pytest.raises(ConnectError, match="is not known"):
            await Client("mqtt://nowhere.invalid").connect()
        with pytest.raises(ConnectError, match="cannot connect to mqtt://xxx"):
            await Client(f"mqtt://{'x' * 70}.invalid").connect()
        with pytest.raises(ConnectError, match="there is no such socket"):
            await Client("unix:///nowhere/at/all").connect()

    run("asyncio", test)


def test_a_refusal() -> None:
    async def test() -> None:
        with pytest.raises(ConnectionRefused, match="check username and password") as raised:
            async with Client(url_of(running).replace("://", "://user:wrong@")):
                pytest.fail("it is refused")
        assert raised.value.reason == 0x86

    with RunningServer("asyncio", policy=StaticUsers({"user": b"right"})) as running:
        run("asyncio", test)


def test_a_server_that_does_not_answer(server: RunningServer) -> None:
    async def test() -> None:
        async with Relay(server.address) as relay:
            relay.is_silent = True
            limits = ClientLimits(connect_timeout_s=0.1)
            with pytest.raises(ConnectError, match="no CONNACK in time"):
                await Client(relay.url, limits=limits).connect()

    run("asyncio", test)


def test_a_refused_subscription() -> None:
    async def test() -> None:
        async with Client(url_of(running)) as client:
            with pytest.raises(SubscribeRefused, match="wildcard"):
                await client.subscribe("a/#")
            with pytest.raises(ValueError, match="must be a whole level"):
                await client.subscribe("a#")

    with RunningServer("asyncio", limits=Limits(wildcard_subscriptions=False)) as running:
        run("asyncio", test)


def test_a_client_is_used_once_and_only_within_its_life(server: RunningServer) -> None:
    async def test() -> None:
        client = Client(url_of(server))
        with pytest.raises(ClientClosed, match="not connected yet"):
            await client.wait(client.publish_nowait("t", "early", 1))
        await client.connect()
        with pytest.raises(ClientClosed, match="connected before"):
            await client.connect()
        messages = await client.subscribe("t")
        await client.close()
        await client.close()
        for use in (client.publish("t"), client.subscribe("t"), client.wait_connected()):
            with pytest.raises(ClientClosed):
                await use
        await client.flush()
        await client.wait_closed()
        with pytest.raises(ClientClosed):
            await messages.get()
        unused = Client(url_of(server))
        await unused.close()

    run("asyncio", test)


def test_closing_wakes_whoever_waits(server: RunningServer) -> None:
    async def test() -> None:
        async with Relay(server.address) as relay:
            client = Client(relay.url, limits=ClientLimits(close_timeout_s=0.0))
            await client.connect()
            messages = await client.subscribe("t")
            relay.is_silent = True

            async def iterate() -> list[Message]:
                return [each async for each in messages]

            waiting = [
                asyncio.create_task(iterate()),
                asyncio.create_task(messages.get()),
                asyncio.create_task(client.publish("t", qos=1)),
                asyncio.create_task(client.flush()),
                asyncio.create_task(client.wait_closed()),
                asyncio.create_task(client.subscribe("u")),
            ]
            while not client.in_flight:
                await asyncio.sleep(0)
            await client.close()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert results[0] == []
            assert results[4] is None
            assert all(isinstance(results[at], ClientClosed) for at in (1, 2, 5)), results

    run("asyncio", test)


# Broken connections


@each_loop
@pytest.mark.parametrize("version", [5, "3.1.1"])
def test_it_comes_back_and_loses_nothing(loop: str, version: object, server: RunningServer) -> None:
    seen: list[Event] = []

    async def test() -> None:
        async with (
            Relay(server.address) as relay,
            Client(
                relay.url,
                client_id=f"back-{loop}-{version}",
                version=version,  # type: ignore[arg-type]
                session_expiry_s=60,
                reconnect=QUICK,
                on_state=seen.append,
            ) as client,
        ):
            messages = await client.subscribe("back/#", qos=2)
            got: list[int] = []
            for n in range(100):
                client.publish_nowait("back/x", str(n), qos=2)
                if n % 20 == 10:
                    await lose(client, relay)
                    await client.wait_connected()
                    got += [int(each) for each in await take(messages, 1)]
            await client.flush()
            got += [int(each) for each in await take(messages, 100 - len(got))]
            assert got == list(range(100))
            assert client.counters.lost_connections == 5
            assert client.session_present

    run(loop, test)
    assert isinstance(seen[0], Connected)
    assert any(isinstance(each, Lost) for each in seen)
    assert seen[-1] == Ended(None)


def test_messages_wait_while_the_server_is_away(server: RunningServer) -> None:
    async def test() -> None:
        async with (
            Relay(server.address) as relay,
            Client(relay.url, reconnect=QUICK) as client,
        ):
            relay.is_open = False
            await lose(client, relay)
            qos0 = asyncio.create_task(client.publish("t", "0"))
            taken_back = asyncio.create_task(client.publish("t", "1", qos=1))
            while client.pending_messages < 2:
                await asyncio.sleep(0)
            taken_back.cancel()
            await asyncio.wait([taken_back])
            assert client.pending_messages == 1
            relay.is_open = True
            await qos0
            assert client.counters.published == 1

    run("asyncio", test)


def test_without_reconnect_it_ends(server: RunningServer) -> None:
    async def test() -> None:
        async with (
            Relay(server.address) as relay,
            Client(relay.url, reconnect=None) as client,
        ):
            messages = await client.subscribe("t")
            relay.cut()
            with pytest.raises(ConnectionLost):
                await client.wait_closed()
            with pytest.raises(ClientClosed):
                await anext(messages)

    run("asyncio", test)


def test_a_cancelled_connect_leaves_nothing(server: RunningServer) -> None:
    async def test() -> None:
        async with Relay(server.address) as relay:
            relay.is_silent = True
            connecting = asyncio.create_task(Client(relay.url).connect())
            while not relay.connections:
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.wait([connecting])
            assert connecting.cancelled()

    run("asyncio", test)


def test_the_will_of_a_client_that_fails_is_published(server: RunningServer) -> None:
    async def test() -> None:
        async with Client(url_of(server)) as watcher, Relay(server.address) as relay:
            messages = await watcher.subscribe("wills")
            async with Client(
                relay.url, will=Will("wills", "gone", 1), reconnect=Reconnect(60, 60)
            ) as client:
                await lose(client, relay)
            assert (await messages.get()).text == "gone"

    run("asyncio", test)


def test_a_fault_of_the_program_ends_the_client(server: RunningServer) -> None:
    def on_state(event: Event) -> None:
        if isinstance(event, Lost):
            raise RuntimeError("a fault in on_state")

    async def test() -> None:
        faults: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        async with (
            Relay(server.address) as relay,
            Client(relay.url, on_state=on_state) as client,
        ):
            relay.cut()
            await client.wait_closed()
            with pytest.raises(ClientClosed) as raised:
                await client.wait_connected()
            assert [raised.value.__cause__] == faults

    run("asyncio", test)


def test_a_fault_that_comes_again_keeps_nobody_waiting(
    server: RunningServer, tmp_path: Path
) -> None:
    of_server, of_client = make_certificate(tmp_path)

    def on_state(event: Event) -> None:
        raise RuntimeError(f"a fault in on_state at {event}")

    async def test() -> None:
        faults: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        async with (
            Relay(server.address, tls=of_server) as relay,  # which ends in several turns
            Client(relay.url, tls=of_client, on_state=on_state) as client,
        ):
            await client.wait_closed()
        assert len(faults) == 1

    run("asyncio", test)


def test_a_fault_of_a_mechanism_ends_the_client(server: RunningServer) -> None:
    class Faulty:
        method = "X"

        def begin(self) -> bytes:
            raise RuntimeError("a fault in begin")

        def answer(self, data: bytes) -> bytes:
            return data

        def finish(self, data: bytes) -> None:
            pass

    async def test() -> None:
        faults: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        with pytest.raises(RuntimeError, match="a fault in begin") as raised:
            await Client(url_of(server), mechanism=Faulty()).connect()
        assert faults == [raised.value]

    run("asyncio", test)


def test_unsubscribing_does_not_wait_for_a_server_that_is_gone(server: RunningServer) -> None:
    async def test() -> None:
        async with (
            Relay(server.address) as relay,
            Client(relay.url, reconnect=Reconnect(60, 60)) as client,
        ):
            async with await client.subscribe("t"):
                relay.is_silent = True
                asyncio.get_running_loop().call_soon(relay.cut)
            assert not client.is_connected

    run("asyncio", test)


# Other transports


@each_loop
def test_a_unix_socket(loop: str, server: RunningServer, tmp_path: Path) -> None:
    async def test() -> None:
        async with Relay(server.address, path=tmp_path / "s") as relay, Client(relay.url) as client:
            messages = await client.subscribe("t")
            await client.publish("t", "through a file")
            assert (await messages.get()).text == "through a file"

    run(loop, test)


@each_loop
def test_tls(loop: str, server: RunningServer, tmp_path: Path) -> None:
    of_server, of_client = make_certificate(tmp_path)

    async def test() -> None:
        async with Relay(server.address, tls=of_server) as relay:
            async with Client(relay.url, tls=of_client) as client:
                messages = await client.subscribe("t", qos=1)
                payload = bytes(300_000)
                await client.publish("t", payload, qos=1)
                assert (await messages.get()).payload == payload
            with pytest.raises(ConnectError, match="its certificate is not trusted"):
                await Client(relay.url).connect()
            plain = f"mqtts://127.0.0.1:{server.address[1]}"
            with pytest.raises(ConnectError, match=r"TLS|closed|broke"):
                await Client(
                    plain, tls=of_client, limits=ClientLimits(connect_timeout_s=2.0)
                ).connect()

    run(loop, test)


@each_loop
@pytest.mark.parametrize("is_secure", [False, True])
def test_websocket(loop: str, is_secure: bool, server: RunningServer, tmp_path: Path) -> None:
    contexts = make_certificate(tmp_path) if is_secure else None

    async def carry(peer: ServerConnection) -> None:
        reader, writer = await asyncio.open_connection(*server.address)

        async def to_client() -> None:
            while data := await reader.read(1_000):
                await peer.send(data)
            await peer.close()

        answering = asyncio.create_task(to_client())
        async for data in peer:
            assert isinstance(data, bytes)
            writer.write(data)
        writer.close()
        await answering

    async def test() -> None:
        tls: ssl.SSLContext | None = None if contexts is None else contexts[0]
        async with serve(
            carry, "127.0.0.1", 0, subprotocols=[Subprotocol("mqtt")], ssl=tls, max_size=None
        ) as gate:
            port = gate.sockets[0].getsockname()[1]
            url = f"{'wss' if is_secure else 'ws'}://localhost:{port}/mqtt"
            async with Client(url, tls=None if contexts is None else contexts[1]) as client:
                messages = await client.subscribe("t", qos=1)
                payload = bytes(300_000)
                await client.publish("t", payload, qos=1)
                assert (await messages.get()).payload == payload

    run(loop, test)


def test_what_is_no_websocket_is_said(server: RunningServer) -> None:
    async def refuse(peer: ServerConnection) -> None:
        await peer.wait_closed()

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def test() -> None:
        async with serve(refuse, "127.0.0.1", 0) as gate:
            port = gate.sockets[0].getsockname()[1]
            with pytest.raises(ConnectError, match="does not speak MQTT at"):
                await Client(f"ws://127.0.0.1:{port}").connect()
        site = await asyncio.start_server(page, "127.0.0.1", 0)
        port = site.sockets[0].getsockname()[1]
        with pytest.raises(ConnectError, match=r"offers no WebSocket .* 404"):
            await Client(f"ws://127.0.0.1:{port}/path").connect()
        site.close()

    run("asyncio", test)


# Start-up


def test_importing_iotd_is_light() -> None:
    program = (
        "import sys, iotd; dir(iotd);"
        "assert not {'asyncio', 'mqtt_core', 'ssl', 'websockets'} & set(sys.modules);"
        "iotd.Client; assert not {'websockets', 'scramp', 'typer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
