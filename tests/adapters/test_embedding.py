"""A server inside a program: its own clients, on every runtime and in a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import queue
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from adapters.storage import SqliteEngine
from iotd import (
    ListenError,
    NotServingError,
    PublishError,
    Server,
    SubscribeError,
    SubscriptionEndedError,
    ThreadedServer,
)
from mqtt_core import LocalProtocolError, Subscription, properties
from mqtt_core.broker import IMMEDIATE, INSIDE, Fact, Limits, MemoryEngine
from tests.adapters.embedded import KINDS, Embedded
from tests.adapters.rig import PATIENCE_S, Client, connect, packet, publish, server_module, u16


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The way in which the program has its server."""
    return str(request.param)


def taken(program: Embedded, messages: Any, count: int) -> list[tuple[str, bytes, int]]:
    """So many messages of a subscription."""
    got = [program.do(messages.get) for _ in range(count)]
    return [(each.topic, each.payload, each.qos) for each in got]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_go_from_the_program_to_its_clients_and_back(kind: str, qos: int) -> None:
    with (
        Embedded(kind) as program,
        Client(program.address).open("client").subscribe("to/+", 0) as client,
    ):
        messages = program.do(program.server.subscribe, "from/#", "also", qos=qos)
        program.do(program.server.publish, "to/client", b"hello", qos=qos)
        assert client.receive_packet() == publish("to/client", b"hello")
        client.send(publish("from/client", b"1"), publish("from/client", b"2", 1, 5))
        assert client.receive_packet() == packet(0x40, u16(5))
        program.do(program.server.publish, "also", "3", qos=2)
        assert taken(program, messages, 3) == [
            ("from/client", b"1", 0),
            ("from/client", b"2", min(1, qos)),
            ("also", b"3", qos),
        ]
        program.do(messages.close)


def test_retained_messages_and_properties(kind: str) -> None:
    about = ((properties.CONTENT_TYPE, "text/plain"),)
    with Embedded(kind) as program:
        program.do(program.server.publish, "a", "kept", retain=True, properties=about)
        messages = program.do(program.server.subscribe, Subscription("a", 1))
        message = program.do(messages.get)
        assert (message.payload, message.retain) == (b"kept", True)
        assert message.message.properties == about


def test_more_messages_at_once_than_may_be_on_their_way(kind: str) -> None:
    limits = Limits(receive_maximum=2, output_budget_bytes=1_024)
    with Embedded(kind, limits=limits) as program:
        messages = program.do(program.server.subscribe, "#", qos=1)
        sent = [
            program.submit(program.server.publish, "a", bytes(200), qos=number % 3)
            for number in range(60)
        ]
        for each in sent:
            each.result(PATIENCE_S)
        assert len(taken(program, messages, 60)) == 60


def test_what_cannot_wait_is_refused_where_it_would_have_to(kind: str) -> None:
    def flood() -> None:
        for _ in range(10):
            program.server.publish_soon("a", bytes(200), qos=1)

    with Embedded(kind, limits=Limits(receive_maximum=2)) as program:
        if kind == "threaded":  # each call is a turn of its own
            program.do(flood)
        else:
            with pytest.raises(LocalProtocolError, match="later"):
                program.do(flood)


def test_what_is_stored_is_there_again(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    with Embedded(kind, data_dir=folder) as program:
        program.do(program.server.publish, "a", b"kept", qos=1, retain=True)
    with Embedded(kind, data_dir=str(folder)) as program:
        messages = program.do(program.server.subscribe, "a")
        assert taken(program, messages, 1) == [("a", b"kept", 0)]


def test_a_message_that_is_not_taken(kind: str) -> None:
    limits = Limits(max_packet_size_bytes=1_000, queue_full_policy="refuse", max_queued_messages=1)
    with Embedded(kind, limits=limits) as program:
        with pytest.raises(LocalProtocolError, match="over the peer's maximum"):
            program.do(program.server.publish, "a", bytes(2_000))
        with pytest.raises(LocalProtocolError, match="broker's own"):
            program.do(program.server.publish, "$SYS/uptime", b"")
        with Client(program.address).open("away", clean=False).subscribe("a", 1) as client:
            client.send(b"\xe0\x00")
            assert client.is_at_end()
        program.do(program.server.publish, "a", b"waits", qos=1)
        with pytest.raises(PublishError, match="'a' was not taken: quota exceeded") as caught:
            program.do(program.server.publish, "a", b"has no room", qos=1)
        assert caught.value.reason == 0x97


def test_a_subscription_that_is_not_granted(kind: str) -> None:
    with Embedded(kind, limits=Limits(max_subscriptions_per_session=1)) as program:
        with pytest.raises(LocalProtocolError, match="whole level"):
            program.do(program.server.subscribe, "a/#/b")
        with pytest.raises(ValueError, match="at least one"):
            program.do(program.server.subscribe)
        messages = program.do(program.server.subscribe, "a", "b")
        with pytest.raises(SubscribeError, match="'a', 'b' cannot be subscribed to: quota"):
            program.do(messages.get)
        assert program.next_fact("client.disconnected").listener == INSIDE  # the bad filter's


def test_a_subscription_that_the_broker_ends(kind: str) -> None:
    limits = Limits(max_inflight_messages=1, max_queued_messages=1, queue_full_policy="disconnect")
    with Embedded(kind, limits=limits) as program:
        messages = program.do(program.server.subscribe, "a", qos=1)
        for number in range(4):
            program.do(program.server.publish, "a", b"%d" % number, qos=1)
        assert program.next_fact("client.disconnected").cause == "its queue is full"
        assert taken(program, messages, 1) == [("a", b"0", 1)]
        with pytest.raises(SubscriptionEndedError, match="'a' has ended: quota exceeded"):
            program.do(messages.get)
        program.do(messages.close)


def test_a_program_that_takes_nothing_drops_and_counts_and_harms_nobody(kind: str) -> None:
    limits = Limits(output_budget_bytes=1_024, max_queued_messages=5)
    with (
        Embedded(kind, limits=limits) as program,
        Client(program.address).open("other").subscribe("a") as other,
    ):
        messages = program.do(program.server.subscribe, "a")
        for number in range(40):
            program.do(program.server.publish, "a", bytes(99) + bytes([number]))
            assert other.receive_packet()[-1] == number
        assert program.next_fact("queue.dropping").client_id.startswith("inside-")
        first = program.do(messages.get)
        assert first.payload[-1] == 0


def test_a_subscription_ends_with_the_server_and_not_before_its_messages() -> None:
    async def run() -> None:
        async with Server() as server:
            messages = server.subscribe("a", qos=1)
            waiting = asyncio.create_task(server.subscribe("b").get())
            await server.publish("a", b"last", qos=1)
            server.publish_soon("a", b"very last")
        assert [each.payload async for each in messages] == [b"last", b"very last"]
        assert await waiting is None
        with pytest.raises(NotServingError):
            await server.publish("a", b"x")
        with pytest.raises(NotServingError):
            server.subscribe("a")

    asyncio.run(run())


def test_a_subscription_ends_with_the_server_on_gevent() -> None:
    module = server_module("gevent")
    failures: list[BaseException] = []

    def run() -> None:
        import gevent

        try:
            with module.Server() as server:
                messages = server.subscribe("a", qos=1)
                waiting = gevent.spawn(server.subscribe("b").get)
                server.publish("a", b"last", qos=1)
                server.publish_soon("a", b"very last")
            assert [each.payload for each in messages] == [b"last", b"very last"]
            assert waiting.get() is None
            for call in (server.publish, server.subscribe):
                with pytest.raises(NotServingError):
                    call("a")
        except BaseException as error:  # noqa: BLE001  raised where the test can see it
            failures.append(error)
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE_S)
    assert failures == []


def test_a_subscription_ends_with_the_server_in_its_thread() -> None:
    with ThreadedServer() as server:
        messages = server.subscribe("a", qos=1)
        server.publish("a", b"last", qos=1)
        server.publish_soon("a", b"very last")
    assert [each.payload for each in messages] == [b"last", b"very last"]
    messages.close()
    for call in (server.publish, server.subscribe):
        with pytest.raises(NotServingError):
            call("a")


def test_a_subscription_that_nobody_holds_ends(kind: str) -> None:
    with Embedded(kind) as program:
        messages = program.do(program.server.subscribe, "a")
        program.do(messages.ready if kind != "threaded" else messages.__enter__)
        del messages
        gc.collect()
        assert program.next_fact("client.disconnected").listener == INSIDE


def test_a_closed_subscription_gives_nothing_more(kind: str) -> None:
    with Embedded(kind) as program:
        messages = program.do(program.server.subscribe, "a")
        program.do(program.server.publish, "a", b"x")
        program.do(messages.close)
        program.do(messages.close)
        assert program.next_fact("client.disconnected").cause == "client disconnected"
        assert program.do(messages.get) is None


def test_a_fact_may_be_published(kind: str) -> None:
    """As when it is told, within a turn."""
    came: list[str] = []

    def on_fact(fact: Fact) -> None:
        if fact.name == "client.connected" and fact.listener != INSIDE:
            came.append(fact.client_id)
            program.server.publish_soon("came", fact.client_id)

    with Embedded(kind, on_fact=on_fact) as program:
        messages = program.do(program.server.subscribe, "came")
        with Client(program.address).open("one"):
            assert taken(program, messages, 1) == [("came", b"one", 0)]
    assert came == ["one"]


def test_a_server_that_does_not_run(kind: str) -> None:
    module = server_module("asyncio" if kind == "threaded" else kind)
    server = ThreadedServer() if kind == "threaded" else module.Server()
    with pytest.raises(NotServingError):
        _ = server.url
    assert server.urls == []
    with pytest.raises(NotServingError):
        server.publish_soon("a", b"")


def test_several_urls(kind: str) -> None:
    if kind == "threaded":
        with ThreadedServer(["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]) as server:
            urls, first = server.urls, server.url
    else:
        with Embedded(kind, listen=["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]) as program:
            urls, first = program.server.urls, program.server.url
    assert len(set(urls)) == 2
    assert first == urls[0]
    assert not first.endswith(":0")


def test_a_store_and_an_engine(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        Server(data_dir=tmp_path, engine=MemoryEngine(Limits()))


def test_a_store_is_let_go_where_the_server_cannot_listen(kind: str, tmp_path: Path) -> None:
    program = Embedded(kind, listen="tcp://127.0.0.1:99999", data_dir=tmp_path)
    with pytest.raises(ListenError):
        program.__enter__()
    SqliteEngine(tmp_path, Limits()).close()


def test_a_server_that_is_slow_to_be_heard_of_does_not_wait_for_itself() -> None:
    errors: list[BaseException] = []

    def on_fact(fact: Fact) -> None:
        if fact.name == "client.connected":
            try:
                server.publish("a", b"x")
            except RuntimeError as error:
                errors.append(error)

    with ThreadedServer(on_fact=on_fact) as server, Client(_address(server)).open("client"):
        pass
    assert ["publish_soon" in str(error) for error in errors] == [True]


def _address(server: ThreadedServer) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def test_a_threaded_server_that_was_never_started_or_twice() -> None:
    server = ThreadedServer()
    server.shut_down()
    server.start()
    with pytest.raises(RuntimeError, match="starts once"):
        server.start()
    server.shut_down()
    server.shut_down(IMMEDIATE)
    assert "iotd server" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_function_is_called_with_each_message(kind: str, qos: int) -> None:
    got: queue.SimpleQueue[tuple[str, bytes, int]] = queue.SimpleQueue()
    with Embedded(kind) as program:
        program.do(
            program.server.on_message,
            lambda each: got.put((each.topic, each.payload, each.qos)),
            "a/#",
            qos=qos,
        )
        for payload in (b"1", b"2"):
            program.do(program.server.publish, "a/b", payload, qos=2)
        program.do(program.server.publish, "b", b"3", qos=2)
        assert [got.get(timeout=PATIENCE_S) for _ in range(2)] == [
            ("a/b", b"1", qos),
            ("a/b", b"2", qos),
        ]
    assert got.empty()


def test_a_function_that_fails_is_called_no_more(kind: str) -> None:
    got: list[bytes] = []

    def fail(message: Any) -> None:
        got.append(message.payload)
        raise ZeroDivisionError

    with Embedded(kind) as program:
        program.do(program.server.on_message, fail, "a")
        program.do(program.server.publish, "a", b"1", qos=1)
        assert isinstance(program.next_fact("fault").error, ZeroDivisionError)
        program.do(program.server.publish, "a", b"2", qos=1)
    assert got == [b"1"]


def test_a_filter_that_is_none_is_refused_to_a_function(kind: str) -> None:
    with Embedded(kind) as program, pytest.raises(LocalProtocolError):
        program.do(program.server.on_message, print, "a#")


def test_a_hook_may_ask_for_messages_of_its_own_server() -> None:
    got: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def on_fact(fact: Fact) -> None:
        if fact.listener != INSIDE and fact.name == "client.connected":
            server.on_message(lambda each: got.put(each.payload), "a")

    with ThreadedServer(on_fact=on_fact) as server, Client(_address(server)).open("client"):
        server.publish("a", b"x", qos=1)
        assert got.get(timeout=PATIENCE_S) == b"x"


def test_a_server_without_listeners_serves_its_program(kind: str) -> None:
    with Embedded(kind, listen=None) as program:
        assert program.server.urls == []
        with pytest.raises(NotServingError):
            _ = program.server.url
        messages = program.do(program.server.subscribe, "a")
        program.do(program.server.publish, "a", b"x")
        assert taken(program, messages, 1) == [("a", b"x", 0)]
        program.do(messages.close)


def test_a_connection_over_a_transport_of_the_program() -> None:
    async def main() -> list[Fact]:
        facts: list[Fact] = []
        async with Server(None, on_fact=facts.append) as server:
            ours, theirs = socket.socketpair()
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: server.connection("a pipe", "pipe"), theirs
            )
            reader, writer = await asyncio.open_connection(sock=ours)
            writer.write(connect("sensor"))
            assert await reader.readexactly(4) == packet(0x20, b"\0\0")
            writer.close()
            await writer.wait_closed()
        with pytest.raises(NotServingError):
            server.connection("late")
        return facts

    told = next(fact for fact in asyncio.run(main()) if fact.name == "client.connected")
    assert (told.client_id, told.peer, told.listener) == ("sensor", "a pipe", "pipe")


def test_a_function_is_called_on_the_thread_of_the_server() -> None:
    server = ThreadedServer()
    with pytest.raises(NotServingError):
        server.call(threading.current_thread)
    with server:
        assert server.call(threading.current_thread).name == "iotd server"
        with pytest.raises(ZeroDivisionError):
            server.call(lambda: 1 // 0)


def test_waiting_for_a_message_has_an_end() -> None:
    with ThreadedServer() as server, server.subscribe("a") as messages:
        with pytest.raises(TimeoutError):
            messages.get(timeout=0.01)
        server.publish("a", b"x")
        assert next(messages).payload == b"x"
