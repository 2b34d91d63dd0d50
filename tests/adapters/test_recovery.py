"""What is stored when a server starts, and what is still to be stored when it stops."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable

import pytest

from adapters.transport import ListenError, RecoveryError
from mqtt_core.broker import (
    GRACEFUL,
    IMMEDIATE,
    Completion,
    Failed,
    Limits,
    MemoryEngine,
    ReadSessions,
    Request,
)
from tests.adapters.rig import (
    PATIENCE_S,
    Client,
    RunningServer,
    address_of,
    packet,
    publish,
    server_module,
    u16,
)
from tests.adapters.test_outside import ThreadedEngine
from tests.adapters.test_signals import program


@pytest.mark.parametrize("mode", [GRACEFUL, IMMEDIATE])
def test_a_server_goes_on_where_another_one_has_ended(runtime: str, mode: int) -> None:
    memory = MemoryEngine(Limits())
    engine = ThreadedEngine(memory)
    with (
        RunningServer(runtime, engine=engine) as server,
        Client(server.address) as away,
        Client(server.address).open("publisher") as publisher,
    ):
        away.open("away", clean=False).subscribe("t", 1).close()
        publisher.send(publish("t", b"kept", 1, 9))
        assert publisher.receive(4) == packet(0x40, u16(9))
        server.stop(mode)
        assert engine.is_closed.is_set()
    engine = ThreadedEngine(memory)
    with RunningServer(runtime, engine=engine) as server:
        fact = server.next_fact("store.recovered")
        assert fact.detail.startswith("1 session with 1 message, 0 wills in ")
        with Client(server.address).open("away", clean=False) as away:
            received = away.receive_packet()
            # With DUP if it was sent before the server had seen the client go.
            assert bytes([received[0] & 0xF7]) + received[1:] == publish("t", b"kept", 1, 1)
    assert engine.is_closed.is_set()


def test_an_engine_in_memory_is_not_talked_about(runtime: str) -> None:
    with RunningServer(runtime) as server, Client(server.address).open("client") as client:
        client.ping()
        names = {fact.name for fact in server.facts()}
    assert not {name for name in names if name.startswith("store.")}


class Waiting:
    """A server whose engine has been asked for what is stored, and does not answer yet."""

    def __init__(self, runtime: str) -> None:
        self.engine = ThreadedEngine()
        self.engine.gate.clear()
        self.server = RunningServer(runtime, engine=self.engine)
        self.server.begin()
        assert self.engine.has_work.wait(PATIENCE_S)
        (url,) = self.server.server.addresses
        self.address = address_of(url)

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.gate.set()
        self.server.stop(IMMEDIATE)


def test_nobody_is_served_before_all_is_read(runtime: str) -> None:
    with Waiting(runtime) as waiting:
        with pytest.raises(ConnectionRefusedError):
            Client(waiting.address)
        waiting.engine.gate.set()
        waiting.server.wait()
        with Client(waiting.address).open("client") as client:
            client.ping()


def test_a_port_that_another_program_takes_meanwhile(runtime: str) -> None:
    waiting = Waiting(runtime)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(waiting.address)
        other.listen()
        waiting.engine.gate.set()
        with pytest.raises(ListenError, match="is in use; stop the program"):
            waiting.server.wait()
    assert waiting.engine.is_closed.is_set()


class UnreadableEngine(ThreadedEngine):
    """Refuses to read sessions, and cannot be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self._refused: list[Completion] = []

    def submit(self, request: Request) -> None:
        """Take a request."""
        if isinstance(request, ReadSessions):
            self._refused.append(Failed(request.request_id, "the disk is gone"))
        else:
            super().submit(request)

    def take_completions(self) -> list[Completion]:
        """Refusals, and what the thread has done."""
        refused, self._refused = self._refused, []
        return refused + super().take_completions()

    def close(self) -> None:
        """End the thread."""
        super().close()
        raise OSError("nothing could be written")


def test_a_store_that_cannot_be_read_keeps_the_server_from_starting(runtime: str) -> None:
    engine = UnreadableEngine()
    server = RunningServer(runtime, engine=engine)
    server.begin()
    with pytest.raises(RecoveryError, match="cannot be read back: the disk is gone"):
        server.wait()
    assert engine.is_closed.is_set()
    assert server.next_fact("store.not_recovered").detail.startswith("the disk is gone; ")
    assert server.next_fact("store.not_closed").detail == "nothing could be written"


@pytest.mark.skipif(sys.platform == "win32", reason="platform: no POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_the_store_is_read(runtime: str, number: int) -> None:
    """The engine never answers, but lets itself be closed."""
    with program(runtime, "engine=silent") as server:
        server.wait_until("asked")
        server.send(number)
        code, lines = server.end()
        assert code == 0
        assert lines == ["closed"]


@pytest.mark.skipif(sys.platform == "win32", reason="platform: no POSIX signals")
def test_a_program_whose_store_cannot_be_read_says_so(runtime: str) -> None:
    with program(runtime, "engine=refusing") as server:
        code, lines = server.end()
    assert code == 3
    assert lines[-1] == "RecoveryError what is stored cannot be read back: the disk is gone"


@pytest.mark.parametrize("factory", ["asyncio", "uvloop"])
def test_a_start_that_is_given_up(factory: str) -> None:
    module = server_module(factory)
    engine = ThreadedEngine()
    engine.gate.clear()

    async def give_up() -> None:
        server = module.Server(["tcp://127.0.0.1:0"], engine=engine)
        starting = asyncio.create_task(server.start())
        await asyncio.to_thread(engine.has_work.wait, PATIENCE_S)
        starting.cancel()
        threading.Timer(0, engine.gate.set).start()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await server.serve_forever()

    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if factory == "uvloop":
        loop_factory = pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(give_up())
    assert engine.is_closed.is_set()
