"""An asyncio loop whose clock stands still while anything happens, and jumps when nothing does."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple, final

PATIENCE_S: Final = 5.0
"""Real seconds that a loop waits for a thread when it has nothing else to wait for."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


class Dial(Protocol):
    """Makes a connection; raises `OSError` where none comes about."""

    def __call__(self, host: str, port: int, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """The transport, with the protocol connected to it."""


class Stuck(RuntimeError):
    """What is waited for can never come: nothing is under way, and no timer runs."""


@final
class _Selector(selectors.BaseSelector):
    """Looks at real descriptors without waiting, and lets virtual time pass instead.

    The loop's own descriptor, by which threads wake it, is in here; so are sockets that code under
    test has opened, whose data comes in no virtual time at all.
    """

    def __init__(self) -> None:
        self._real: Final = selectors.DefaultSelector()
        self.now = float(int(monotonic()) + 1)
        self.threads = 0  # jobs of threads: real time has to pass until they are done
        self.at_rest: list[Callable[[], object]] = []  # called when nothing happens any more now
        self.on_tick: list[Callable[[], object]] = []  # called when time has passed

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """`BaseSelector`."""
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """`BaseSelector`."""
        return self._real.unregister(fileobj)

    def get_map(self) -> Any:
        """`BaseSelector`."""
        return self._real.get_map()

    def close(self) -> None:
        """`BaseSelector`."""
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; where nothing is, those who wait for rest hear of it, or time passes."""
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if self.threads:
            return self._real.select(PATIENCE_S)
        if self.at_rest:
            waiting, self.at_rest = self.at_rest, []
            _call_all(waiting)
            return []
        if timeout is not None:
            self.now += timeout
            waiting, self.on_tick = self.on_tick, []
            _call_all(waiting)
            return []
        ready = self._real.select(PATIENCE_S)
        if not ready:
            raise Stuck(
                "everything waits and no timer runs: what is waited for will never come on this rig"
            )
        return ready


@final
class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on a virtual clock: `asyncio.sleep(3600)` takes no time, and all that is due within
    that hour happens in order.

    Connections do not leave the process: `dial` makes them. Work in threads takes real time, in
    which the clock stands still.
    """

    def __init__(self, dial: Dial) -> None:
        selector = _Selector()
        super().__init__(selector)
        self._virtual: Final = selector
        self._dial: Final = dial

    def time(self) -> float:
        """The present, in virtual seconds."""
        return self._virtual.now

    async def rest(self) -> None:
        """Wait until nothing happens any more unless time passes."""
        await self._call_in(self._virtual.at_rest)

    async def tick(self, until: float) -> None:
        """Let time pass to the next thing that is due, `until` at most; it has not happened yet."""
        timer = self.call_at(until, _nothing)
        try:
            await self._call_in(self._virtual.on_tick)
        finally:
            timer.cancel()

    async def _call_in(self, waiting: list[Callable[[], object]]) -> None:
        waiter = self.create_future()
        waiting.append(partial(_settle, waiter))
        await waiter

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As any loop does; until it is done, time stands still."""
        future = super().run_in_executor(executor, func, *args)
        self._virtual.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: object) -> None:
        self._virtual.threads -= 1

    async def create_connection(
        self,
        protocol_factory: Callable[[], ProtocolT],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: object = None,
        **_: object,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Connect to the broker of the rig, over the link that is called as the host is."""
        if ssl:
            raise OSError("a rig has no TLS: connect with mqtt://")
        if host is None or port is None:
            raise OSError("a rig connects to a host and a port, and to no socket")
        protocol = protocol_factory()
        transport = self._dial(host, port, protocol)
        await asyncio.sleep(0)  # as long as connecting takes here; `connection_made` was called
        return transport, protocol


def _nothing() -> None:
    """What is due when a wait is over."""


def _call_all(callbacks: list[Callable[[], object]]) -> None:
    for callback in callbacks:
        callback()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
