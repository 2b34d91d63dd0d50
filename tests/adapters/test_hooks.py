"""A program's own functions that say who may do what, on every runtime and in a thread."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mqtt_core import MQTT_5
from mqtt_core.broker import (
    DENY,
    PUBLISH_ACTION,
    SUBSCRIBE_ACTION,
    WILL_ACTION,
    AllowAll,
    AuthorizeRequest,
    AuthRequest,
    Decision,
    Limits,
    Rule,
    StaticUsers,
)
from tests.adapters.embedded import KINDS, Embedded
from tests.adapters.rig import Client, connect, packet, publish, subscribe, text, u16

WAYS = [(kind, False) for kind in KINDS] + [(kind, True) for kind in KINDS if kind != "gevent"]
"""Plain functions everywhere, and `async def` where there is a loop of asyncio."""

ACCEPTED = b"\x20\x02\x00\x00"
NOT_AUTHORIZED = b"\x20\x02\x00\x05"
UNAVAILABLE = b"\x20\x02\x00\x03"


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{'async' if way[1] else 'plain'}")
def way(request: pytest.FixtureRequest) -> tuple[str, bool]:
    """How the server is had, and whether its hooks are coroutine functions."""
    kind, is_async = request.param
    return str(kind), bool(is_async)


def as_hook(function: Callable[[Any], Any], is_async: bool) -> Callable[[Any], Any]:
    """A function as a hook of either sort."""
    if not is_async:
        return function

    async def hook(request: Any) -> Any:
        await asyncio.sleep(0)
        return function(request)

    return hook


def connect_as(client_id: str, username: str, password: bytes) -> bytes:
    """A CONNECT with a name and a password."""
    return packet(
        0x10, text("MQTT"), b"\x04\xc2", u16(0), text(client_id), text(username), text(password)
    )


def test_who_may_connect(way: tuple[str, bool]) -> None:
    kind, is_async = way
    asked: queue.SimpleQueue[AuthRequest] = queue.SimpleQueue()

    def authenticate(request: AuthRequest) -> bool | Decision:
        asked.put(request)
        if request.username == "moved":
            return Decision(0x86)
        return request.password == b"secret"

    with Embedded(kind, authenticate=as_hook(authenticate, is_async)) as program:
        for username, password, answer in (
            ("ali", b"secret", ACCEPTED),
            ("bo", b"guess", NOT_AUTHORIZED),
            ("moved", b"secret", b"\x20\x02\x00\x04"),
        ):
            with Client(program.address) as client:
                client.send(connect_as("c", username, password))
                assert client.receive(4) == answer
        request = asked.get_nowait()
        assert (request.client_id, request.username, request.password) == ("c", "ali", b"secret")
        assert request.listener == program.server.url
        assert request.peer.startswith("127.0.0.1:")


def test_who_may_do_what(way: tuple[str, bool]) -> None:
    kind, is_async = way
    asked: list[AuthorizeRequest] = []

    def authorize(request: AuthorizeRequest) -> bool:
        asked.append(request)
        return request.topic.startswith("mine/") and not request.retain

    with Embedded(kind, authorize=as_hook(authorize, is_async)) as program:
        messages = program.do(program.server.subscribe, "#")
        with Client(program.address).open("c") as client:
            for number in (1, 2):  # the second time nobody is asked
                client.send(publish("mine/a", b"%d" % number, 1, number))
                assert client.receive_packet() == packet(0x40, u16(number))
            client.send(publish("yours/a", b"x"), packet(0x31, text("mine/a"), b"kept"))
            client.send(subscribe("mine/#", 2, 3), subscribe("#", 0, 4))
            assert client.receive_packet() == packet(0x90, u16(3), b"\x02")
            assert client.receive_packet() == packet(0x90, u16(4), b"\x80")
        assert [program.do(messages.get).payload for _ in range(2)] == [b"1", b"2"]
    found = [(each.action, each.topic, each.qos, each.retain) for each in asked]
    assert found == [
        (PUBLISH_ACTION, "mine/a", 1, False),
        (PUBLISH_ACTION, "yours/a", 0, False),
        (PUBLISH_ACTION, "mine/a", 0, True),
        (SUBSCRIBE_ACTION, "mine/#", 2, False),
        (SUBSCRIBE_ACTION, "#", 0, False),
    ]
    assert {each.client_id for each in asked} == {"c"}


def test_a_hook_may_publish_and_nothing_is_routed_within_its_call(way: tuple[str, bool]) -> None:
    kind, is_async = way

    def authenticate(request: AuthRequest) -> bool:
        program.server.publish_soon("asked", request.client_id)
        return True

    async def authenticate_later(request: AuthRequest) -> bool:
        if kind == "threaded":
            program.server.publish_soon("asked", request.client_id)
        else:
            await program.server.publish("asked", request.client_id, qos=1)
        return True

    with Embedded(kind, authenticate=authenticate_later if is_async else authenticate) as program:
        messages = program.do(program.server.subscribe, "asked")
        with Client(program.address).open("a"), Client(program.address).open("b"):
            assert [program.do(messages.get).payload for _ in range(2)] == [b"a", b"b"]


def test_a_hook_that_raises_refuses_that_client_and_is_told_once(way: tuple[str, bool]) -> None:
    kind, is_async = way

    def authenticate(request: AuthRequest) -> bool:
        if request.client_id == "bad":
            raise KeyError("no such table")
        return True

    with (
        Embedded(kind, authenticate=as_hook(authenticate, is_async)) as program,
        Client(program.address).open("good") as good,
    ):
        with Client(program.address) as bad:
            bad.send(connect("bad"))
            assert bad.receive(4) == UNAVAILABLE
        fact = program.next_fact("hook.failed")
        assert (fact.client_id, fact.cause) == ("bad", "authenticate")
        assert isinstance(fact.error, KeyError)
        assert fact.error.__traceback__ is not None
        good.ping()
        with Client(program.address).open("other") as other:
            other.ping()


def test_a_hook_that_raises_over_a_topic_ends_that_connection(way: tuple[str, bool]) -> None:
    kind, is_async = way
    is_broken = True

    def authorize(request: AuthorizeRequest) -> bool:
        if is_broken and request.topic == "x":
            raise OSError("no database")
        return True

    with (
        Embedded(kind, authorize=as_hook(authorize, is_async)) as program,
        Client(program.address).open("other") as other,
    ):
        with Client(program.address).open("c") as client:
            client.send(publish("x", b"", 1, 1))
            assert client.is_at_end()
        assert program.next_fact("hook.failed").cause == "authorize"
        assert program.next_fact("client.disconnected").cause == "nobody could decide"
        other.ping()
        is_broken = False  # it is asked again
        with Client(program.address).open("c") as client:
            client.send(publish("x", b"", 1, 1))
            assert client.receive_packet() == packet(0x40, u16(1))


def test_a_hook_that_says_nothing_has_failed(way: tuple[str, bool]) -> None:
    kind, is_async = way
    with (
        Embedded(kind, authenticate=as_hook(lambda request: None, is_async)) as program,
        Client(program.address) as client,
    ):
        client.send(connect("c"))
        assert client.receive(4) == UNAVAILABLE
        fact = program.next_fact("hook.failed")
        assert "returned NoneType: a hook returns True, False or a Decision" in fact.detail


def slow_hook(kind: str, begun: threading.Event) -> Callable[[AuthRequest], Any]:
    """A hook that never answers about the client `slow`."""

    async def never(request: AuthRequest) -> bool:
        if request.client_id == "slow":
            begun.set()
            await asyncio.Event().wait()
        return True

    def never_in_greenlet(request: AuthRequest) -> bool:
        if request.client_id == "slow":
            import gevent.event

            begun.set()
            gevent.event.Event().wait()
        return True

    return never_in_greenlet if kind == "gevent" else never


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_that_takes_too_long_keeps_nobody_else_waiting(kind: str) -> None:
    begun = threading.Event()
    limits = Limits(request_timeout_secs=0.2)
    with (
        Embedded(kind, authenticate=slow_hook(kind, begun), limits=limits) as program,
        Client(program.address) as slow,
    ):
        slow.send(connect("slow"))
        assert begun.wait(20)
        with Client(program.address).open("quick") as quick:
            quick.ping()
        assert slow.is_at_end()
        assert program.next_fact("client.refused").cause == "a decision did not come in time"


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_that_is_under_way_ends_with_the_server(kind: str) -> None:
    begun = threading.Event()
    limits = Limits(linger_timeout_secs=0.01)
    with (
        Embedded(kind, authenticate=slow_hook(kind, begun), limits=limits) as program,
        Client(program.address) as slow,
    ):
        slow.send(connect("slow"))
        assert begun.wait(20)
        program.stop()
        assert slow.is_at_end()


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_hooks_than_connections_are_under_way(kind: str) -> None:
    begun = threading.Event()
    limits = Limits(max_connections=1)
    with Embedded(kind, authenticate=slow_hook(kind, begun), limits=limits) as program:
        with Client(program.address) as slow:
            slow.send(connect("slow"))
            assert begun.wait(20)
        program.next_fact("client.silent")
        with Client(program.address) as another:
            another.send(connect("another"))
            assert another.receive(4) == UNAVAILABLE


def test_a_hook_and_a_policy_share_the_work(way: tuple[str, bool]) -> None:
    kind, is_async = way
    rules = StaticUsers({}, [Rule("open/#")], allow_anonymous=True)
    with (
        Embedded(
            kind, policy=rules, authenticate=as_hook(lambda request: True, is_async)
        ) as program,
        Client(program.address).open("c") as client,
    ):
        client.send(subscribe("open/a", 0, 1), subscribe("other", 0, 2))
        assert client.receive_packet() == packet(0x90, u16(1), b"\x00")
        assert client.receive_packet() == packet(0x90, u16(2), b"\x80")

    def authorize(request: AuthorizeRequest) -> bool:
        assert request.action == WILL_ACTION
        return False

    with (
        Embedded(kind, policy=AllowAll(), authorize=as_hook(authorize, is_async)) as program,
        Client(program.address) as client,
    ):
        client.send(
            packet(0x10, text("MQTT"), b"\x04\x06", u16(0), text("c"), text("gone"), text("bye"))
        )
        assert client.receive(4) == NOT_AUTHORIZED


def test_a_method_needs_more_than_true(way: tuple[str, bool]) -> None:
    kind, is_async = way
    with (
        Embedded(kind, authenticate=as_hook(lambda request: True, is_async)) as program,
        Client(program.address) as client,
    ):
        method = b"\x15" + text("WORD")
        client.send(
            packet(
                0x10, text("MQTT"), bytes([MQTT_5, 2]), u16(0), bytes([len(method)]), method,
                text("c"),
            )
        )  # fmt: skip
        assert client.receive_packet()[3] == 0x8C


def test_a_policy_that_asks_outside_beside_a_hook() -> None:
    class Asking:
        """Leaves who it is to an authenticator, beside a hook for what they do."""

        def authenticate(self, request: AuthRequest) -> Decision | None:
            """Not here."""
            return None

        def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
            """The hook is asked instead."""
            return DENY

    def ask(request: AuthRequest | AuthorizeRequest) -> None:
        program.server.auth_decided(request.token, Decision())

    with (
        Embedded(
            "threaded", policy=Asking(), authenticator=ask, authorize=lambda request: True
        ) as program,
        Client(program.address).open("c") as client,
    ):
        client.subscribe("a")
    with (
        Embedded("threaded", policy=Asking(), authorize=lambda request: True) as program,
        Client(program.address) as client,
    ):
        client.send(connect("c"))
        assert client.receive(4) == UNAVAILABLE
        assert "there is no authenticator" in program.next_fact("fault").detail


def test_what_a_hook_raises_is_logged_where_nobody_else_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from iotd import ThreadedServer

    def authenticate(request: AuthRequest) -> bool:
        raise ZeroDivisionError("in the hook")

    with ThreadedServer(authenticate=authenticate) as server:
        host, _, port = server.url.removeprefix("tcp://").rpartition(":")
        with Client((host, int(port))) as client:
            client.send(connect("c"))
            assert client.receive(4) == UNAVAILABLE
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.name == "iotd"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)
