"""Engines and authenticators that answer later, from threads of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from mqtt_core.broker import (
    ALLOW,
    ASK,
    DENY,
    AuthorizeRequest,
    AuthRequest,
    ClaimSession,
    Completion,
    Decision,
    Limits,
    MemoryEngine,
    Request,
)
from tests.adapters.rig import Client, RunningServer, connect, packet, publish, subscribe, u16

DENY_REASON = 0x87


class AskingPolicy:
    """Leaves everything to an authenticator."""

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Not here."""
        return None

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """Not here, but for the topic `open`."""
        return ALLOW if topic == "open" else ASK


class Authenticator:
    """Keeps requests until the test decides them, from the test's own thread."""

    def __init__(self) -> None:
        self.requests: queue.SimpleQueue[AuthRequest | AuthorizeRequest] = queue.SimpleQueue()

    def __call__(self, request: AuthRequest | AuthorizeRequest) -> None:
        self.requests.put(request)

    def next(self) -> AuthRequest | AuthorizeRequest:
        """The next request; waits for it."""
        return self.requests.get(timeout=20)


class ThreadedEngine:
    """A memory engine that works in a thread of its own, and only while `gate` is open.

    `memory` is what is there already, as on a disk.
    """

    def __init__(self, memory: MemoryEngine | None = None) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.has_work = threading.Event()
        self.is_closed = threading.Event()
        self.on_answers: Callable[[], None] = lambda: None
        self._engine = MemoryEngine(Limits()) if memory is None else memory
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._completions: queue.SimpleQueue[Completion] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def last_number(self) -> int:
        """That of the memory engine."""
        return self._engine.last_number

    @property
    def level(self) -> int:
        """That of the memory engine."""
        return self._engine.level

    @property
    def index_bytes(self) -> int | None:
        """That of the memory engine."""
        return self._engine.index_bytes

    def start(self, on_answers: Callable[[], None]) -> None:
        """Begin to work."""
        self.on_answers = on_answers
        self._engine.start(on_answers)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Take a request."""
        self._requests.put(request)
        self.has_work.set()

    def take_completions(self) -> list[Completion]:
        """What the thread has done."""
        completions = []
        while not self._completions.empty():
            completions.append(self._completions.get())
        return completions

    def close(self) -> None:
        """Work off what was submitted, and end the thread."""
        self._requests.put(None)
        self._thread.join(20)
        self.is_closed.set()

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            self.gate.wait()
            self._engine.submit(request)
            for completion in self._engine.take_completions():
                self._completions.put(completion)
            self.on_answers()


def test_a_decision_that_comes_later_holds_up_its_own_client_only(runtime: str) -> None:
    authenticator = Authenticator()
    with (
        RunningServer(runtime, policy=AskingPolicy(), authenticator=authenticator) as server,
        Client(server.address) as waiting,
        Client(server.address) as other,
    ):
        waiting.send(connect("waiting"), subscribe("open", 0))
        request = authenticator.next()
        assert isinstance(request, AuthRequest)
        assert request.client_id == "waiting"

        other.send(connect("other"))
        server.server.auth_decided(authenticator.next().token, Decision())
        assert other.receive(4) == b"\x20\x02\x00\x00"
        other.ping()

        server.server.auth_decided(request.token, Decision())
        assert waiting.receive(4) == b"\x20\x02\x00\x00"
        assert waiting.receive(5) == b"\x90\x03\x00\x01\x00"

        other.send(publish("asked", b"x", 1, 5))
        request = authenticator.next()
        assert isinstance(request, AuthorizeRequest)
        assert request.topic == "asked"
        waiting.ping()
        server.server.auth_decided(request.token, Decision())
        assert other.receive(4) == packet(0x40, u16(5))


def test_a_refusal_that_comes_later(runtime: str) -> None:
    authenticator = Authenticator()
    with (
        RunningServer(runtime, policy=AskingPolicy(), authenticator=authenticator) as server,
        Client(server.address) as client,
    ):
        client.send(connect("client"))
        server.server.auth_decided(authenticator.next().token, Decision(DENY_REASON))
        assert client.receive(4) == b"\x20\x02\x00\x05"
        assert client.is_at_end()


def test_a_decision_for_a_client_that_has_gone_or_a_server_that_has_stopped(runtime: str) -> None:
    authenticator = Authenticator()
    with RunningServer(runtime, policy=AskingPolicy(), authenticator=authenticator) as server:
        with Client(server.address) as client:
            client.send(connect("gone"))
            token = authenticator.next().token
        server.server.auth_decided(token, Decision())
        with Client(server.address) as client:
            client.send(connect("other"))
            other = authenticator.next().token
            server.server.auth_decided(other, Decision())
            assert client.receive(4) == b"\x20\x02\x00\x00"
        stopped = server.server
    stopped.auth_decided(token, Decision())


class ChangingPolicy:
    """Lets everybody subscribe until it is closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Accept."""
        return Decision()

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """Allow, until closed."""
        return DENY if self.is_closed else ALLOW


def test_rules_that_change_count_from_then_on(runtime: str) -> None:
    policy = ChangingPolicy()
    with (
        RunningServer(runtime, policy=policy) as server,
        Client(server.address).open("client").subscribe("t") as client,
    ):
        policy.is_closed = True
        server.server.rules_changed()
        client.ping()  # it has seen the change when it answers
        client.send(subscribe("t", 0, 5))
        assert client.receive(5) == b"\x90\x03\x00\x05\x80"


def test_an_authenticator_is_missing(runtime: str) -> None:
    with (
        RunningServer(runtime, policy=AskingPolicy()) as server,
        Client(server.address) as client,
    ):
        client.send(connect("client"))
        assert "no authenticator" in repr(server.next_fact("fault").error)
        assert client.receive(4) == b"\x20\x02\x00\x03"
        assert client.is_at_end()


@pytest.fixture
def engine() -> Iterator[ThreadedEngine]:
    """An engine whose gate is open at the end, so that its server can close it."""
    engine = ThreadedEngine()
    yield engine
    engine.gate.set()
    assert engine.is_closed.wait(20)


def test_acknowledgements_wait_for_the_engine_and_nobody_else_does(
    runtime: str, engine: ThreadedEngine
) -> None:
    with (
        RunningServer(runtime, engine=engine) as server,
        Client(server.address) as durable,
        Client(server.address) as publisher,
        Client(server.address) as other,
    ):
        durable.open("durable", clean=False).subscribe("t", 1)
        publisher.open("publisher")
        other.open("other")

        engine.gate.clear()
        engine.has_work.clear()
        publisher.send(publish("t", b"kept", 1, 9))
        assert engine.has_work.wait(20)
        other.ping()
        assert not publisher.has_something_to_read()
        engine.gate.set()
        assert publisher.receive(4) == packet(0x40, u16(9))
        assert durable.receive_packet()[:7] == publish("t", b"kept", 1, 1)[:7]


def test_an_engine_that_answers_after_the_client_has_gone(
    runtime: str, engine: ThreadedEngine
) -> None:
    with RunningServer(runtime, engine=engine) as server:
        engine.gate.clear()
        engine.has_work.clear()
        with Client(server.address) as client:
            client.send(connect("gone", clean=False))
            assert engine.has_work.wait(20)
        engine.gate.set()
        with Client(server.address) as client:
            client.open("gone", clean=False).ping()


class FailingEngine:
    """Raises for the sessions of one client."""

    def __init__(self) -> None:
        self._engine = MemoryEngine(Limits())

    @property
    def last_number(self) -> int:
        """That of the memory engine."""
        return self._engine.last_number

    @property
    def level(self) -> int:
        """That of the memory engine."""
        return self._engine.level

    @property
    def index_bytes(self) -> int | None:
        """That of the memory engine."""
        return self._engine.index_bytes

    def start(self, on_answers: Callable[[], None]) -> None:
        """There is nothing to begin."""

    def close(self) -> None:
        """There is nothing to end."""

    def submit(self, request: Request) -> None:
        """Take a request, or fail."""
        if isinstance(request, ClaimSession) and request.client_id == "unlucky":
            raise OSError("no space left")
        self._engine.submit(request)

    def take_completions(self) -> list[Completion]:
        """What became of the others."""
        return self._engine.take_completions()


def test_an_engine_that_fails_ends_the_connection_that_needs_it(runtime: str) -> None:
    with (
        RunningServer(runtime, engine=FailingEngine()) as server,
        Client(server.address) as unlucky,
        Client(server.address) as other,
    ):
        unlucky.send(connect("unlucky", clean=False))
        assert "no space left" in repr(server.next_fact("fault").error)
        other.open("other", clean=False).ping()
        assert unlucky.receive(4) == b"\x20\x02\x00\x03"
        assert unlucky.is_at_end()
