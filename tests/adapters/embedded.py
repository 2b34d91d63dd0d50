"""A server inside a program, the same for each way to have one."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from iotd import ThreadedServer
from mqtt_core.broker import GRACEFUL, Fact
from tests.adapters.rig import PATIENCE_S, RUNTIMES, RunningServer, address_of

KINDS = (*RUNTIMES, "threaded")


class Embedded:
    """A server while the `with` block runs.

    with Embedded("gevent", limits=Limits(max_connections=2)) as program:
        program.do(program.server.publish, "a", b"x")
    """

    def __init__(self, kind: str, **options: Any) -> None:
        self.kind = kind
        self._facts: queue.SimpleQueue[Fact] = queue.SimpleQueue()
        self._also_on_fact: Callable[[Fact], None] | None = options.pop("on_fact", None)
        self._running: RunningServer | None = None
        if kind == "threaded":
            self.server: Any = ThreadedServer(on_fact=self._on_fact, **options)
        else:
            self._running = RunningServer(kind, on_fact=self._on_fact, **options)

    def _on_fact(self, fact: Fact) -> None:
        self._facts.put(fact)
        if self._also_on_fact is not None:
            self._also_on_fact(fact)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first listener."""
        return address_of(self.server.url)

    def next_fact(self, name: str) -> Fact:
        """The next fact of this name; those before it are skipped."""
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            fact = self._facts.get(timeout=max(give_up_at - time.monotonic(), 0.001))
            if fact.name == name:
                return fact

    def submit(self, work: Callable[..., Any], *args: Any, **named: Any) -> Future[Any]:
        """Begin something where the server's program does it."""
        if self.kind == "threaded":
            done: Future[Any] = Future()
            importlib.import_module("threading").Thread(
                target=_fulfil, args=(done, lambda: work(*args, **named)), daemon=True
            ).start()
            return done
        assert self._running is not None
        if self.kind == "gevent":
            done = Future()
            gevent = importlib.import_module("gevent")
            self._running.loop.run_callback_threadsafe(
                gevent.spawn, _fulfil, done, lambda: work(*args, **named)
            )
            return done
        return asyncio.run_coroutine_threadsafe(
            _awaited(lambda: work(*args, **named)), self._running.loop
        )

    def do(self, work: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Do something where the server's program does it."""
        return self.submit(work, *args, **named).result(PATIENCE_S)

    def stop(self, mode: int = GRACEFUL) -> None:
        """Shut the server down, and wait until that is done."""
        if self._running is None:
            self.server.shut_down(mode)
        else:
            self._running.stop(mode)

    def __enter__(self) -> Self:
        if self._running is None:
            self.server.start()
        else:
            self._running.begin()
            self._running.wait()
            self.server = self._running.server
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _fulfil(done: Future[Any], work: Callable[[], Any]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001  raised where the test waits
        done.set_exception(error)


async def _awaited(work: Callable[[], Any]) -> Any:
    result = work()
    return await result if inspect.isawaitable(result) else result
