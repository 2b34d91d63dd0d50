"""Servers for the traces: each scenario gets one of its own, with the settings it asks for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Protocol, TypeVar

import gevent
from gevent.event import Event

from adapters import asyncio_server, gevent_server
from conformance import Result, Scenario, play
from conformance._policy import limit_settings, policy_from
from conformance._socket_peer import Fragment, SocketPeer
from mqtt_core.broker import FACT_ERROR, IMMEDIATE, Fact, Limits

T = TypeVar("T")
LISTEN = ("tcp://127.0.0.1:0",)


class Server(Protocol):
    @property
    def addresses(self) -> list[str]: ...


class Host:
    """A thread with an event loop, in which servers run."""

    title: str

    def start(self, settings: dict[str, str], on_fact: Callable[[Fact], None]) -> Server:
        raise NotImplementedError

    def stop(self, server: Server) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def play(self, scenario: Scenario, fragment: Fragment) -> Result:
        """Play to a new server; a fault inside it fails the scenario."""
        if scenario.role == "client" or "fake clock" in scenario.needs:
            raise ValueError(f"{scenario.full_name} is not for a live server")
        facts: list[Fact] = []
        server = self.start(scenario.settings, facts.append)
        host, port = server.addresses[0].removeprefix("tcp://").rsplit(":", 1)
        try:
            peer = SocketPeer(
                (host, int(port)),
                title=self.title,
                is_ours=True,
                settings=scenario.settings,
                fragment=fragment,
            )
            result = play(scenario, peer)
        finally:
            self.stop(server)
        faults = [fact for fact in facts if fact.severity >= FACT_ERROR]
        assert not faults, f"{scenario.full_name}: {faults}"
        return result


class AsyncioHost(Host):
    """Servers on asyncio, on uvloop or on its own loop."""

    def __init__(self, title: str, make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.title = title
        self._loop = make_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, settings: dict[str, str], on_fact: Callable[[Fact], None]) -> Server:
        async def start() -> asyncio_server.Server:
            server = asyncio_server.Server(
                LISTEN,
                limits=Limits(**limit_settings(settings)),
                policy=policy_from(settings),
                on_fact=on_fact,
            )
            await server.start()
            return server

        return self._run(start())

    def stop(self, server: Server) -> None:
        assert isinstance(server, asyncio_server.Server)
        self._run(server.shut_down(IMMEDIATE))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)


class GeventHost(Host):
    """Servers on the gevent hub of a thread."""

    title = "gevent"

    def __init__(self) -> None:
        is_ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(is_ready,), daemon=True)
        self._thread.start()
        is_ready.wait()

    def _serve(self, is_ready: threading.Event) -> None:
        self._loop = gevent.get_hub().loop
        self._end = Event()
        self._loop.run_callback(is_ready.set)
        # A timer keeps the hub waiting: without one it would see nothing that can ever happen.
        while not self._end.wait(3600):
            pass
        gevent.get_hub().destroy(destroy_loop=True)

    def start(self, settings: dict[str, str], on_fact: Callable[[Fact], None]) -> Server:
        def start() -> gevent_server.Server:
            server = gevent_server.Server(
                LISTEN,
                limits=Limits(**limit_settings(settings)),
                policy=policy_from(settings),
                on_fact=on_fact,
            )
            server.start()
            return server

        return self._run(start)

    def stop(self, server: Server) -> None:
        assert isinstance(server, gevent_server.Server)
        self._run(lambda: server.shut_down(IMMEDIATE))

    def close(self) -> None:
        self._loop.run_callback_threadsafe(self._end.set)
        self._thread.join()

    def _run(self, function: Callable[[], T]) -> T:
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  it goes to the thread that asked
                future.set_exception(error)

        self._loop.run_callback_threadsafe(gevent.spawn, call)
        return future.result(timeout=30)
