"""The world of a rig: a broker, links, and the one loop on whose virtual clock everything is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar, final
from urllib.parse import quote, unquote

from iotd import Client, Server
from iotd.testing._link import Link
from iotd.testing._loop import VirtualLoop
from iotd.testing._messages import Log, Routed, Wanted
from iotd.testing._options import BrokerOptions, ClientOptions
from iotd.testing._traffic import Traffic
from mqtt_core import Publish, Subscription
from mqtt_core.broker import IMMEDIATE, Fact, Limits

T = TypeVar("T")

PORT: Final = 1883
_MOST_FACTS: Final = 1_000
_SHOWN: Final = 40
_INSTANT_S: Final = 1e-9  # adding up times leaves less than that
_ALL: Final = Subscription("#", 2, retain_as_published=True)


class NotSeen(AssertionError):
    """What a test expects was not seen, or what it does not expect was."""

    __module__ = "iotd.testing"  # where users find it, and what pytest shows


@final
class World:
    """A broker and the links to it. It serves from `open` to `close`."""

    def __init__(self, options: BrokerOptions) -> None:
        self.facts: Final[deque[Fact]] = deque(maxlen=_MOST_FACTS)
        # The server is made first: the virtual clock begins later than any time it has seen.
        self.server: Final = Server(
            None,
            limits=options.get("limits") or Limits(sys_interval_secs=0),
            authenticate=options.get("authenticate"),
            authorize=options.get("authorize"),
            policy=options.get("policy"),
            on_fact=self.facts.append,
        )
        self.loop: Final = VirtualLoop(self._dial)
        self._records: Final = options.get("records", True)
        self._began: Final = self.loop.time()
        self.log: Final = Log()
        self.traffic: Final = Traffic(self.age_s)
        self._links: Final[dict[str, Link]] = {}
        self._wires = 0
        self._clients: Final[list[Client]] = []
        self._started: Final[list[asyncio.Task[Any]]] = []
        self._failures: Final[list[BaseException]] = []
        self.loop.set_exception_handler(self._failed)

    def age_s(self) -> float:
        """Virtual seconds since the beginning."""
        return self.loop.time() - self._began

    # Life

    async def open(self) -> None:
        """Begin to serve."""
        await self.server.start()  # of nothing that can fail
        if self._records:
            self.server.on_message(self._routed, _ALL)

    def close(self) -> None:
        """End everything; the loop is closed. Raises what has failed and was not told yet."""
        loop = self.loop
        try:
            loop.run_until_complete(self._end())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
        self.check()

    async def _end(self) -> None:
        for task in self._started:
            task.cancel()
        await asyncio.gather(*self._started, return_exceptions=True)
        await self.close_clients()
        await self.server.shut_down(IMMEDIATE)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def close_clients(self) -> None:
        """Close the clients that were made for the test."""
        clients, self._clients[:] = list(self._clients), []
        for link in self._links.values():
            link.up()
        await asyncio.gather(*(client.close() for client in clients))

    # Failures

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._failures.append(
            error if isinstance(error, BaseException) else RuntimeError(context["message"])
        )

    def check(self) -> None:
        """Raise what has failed in the background since the last call."""
        for task in list(self._started):
            if task.done():
                self._started.remove(task)
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error
        if self._failures:
            failures, self._failures[:] = list(self._failures), []
            raise failures[0]

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine beside the test."""
        task = self.loop.create_task(coroutine)
        self._started.append(task)
        return task

    # Connections

    def link(self, name: str) -> Link:
        """The link of that name; capitals do not matter, since they do not in a URL."""
        return self._links.setdefault(name.lower(), Link(name))

    @staticmethod
    def url(name: str) -> str:
        """The URL that leads to the broker over the link of that name."""
        return f"mqtt://{quote(name, safe='')}:{PORT}"

    def _dial(self, host: str, port: int, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        if port != PORT:
            raise OSError(f"nobody listens on port {port} of a rig: its broker is on {PORT}")
        link = self.link(unquote(host))
        if link.is_down:
            raise OSError(f"the link {link.name!r} is down")
        self._wires += 1
        far = self.server.connection(link.name, "rig")
        return link.connect(self.loop, self._wires, protocol, far, self.traffic)

    async def client(self, name: str, options: ClientOptions) -> Client:
        """A client that is connected over the link of that name."""
        client = Client(self.url(name), client_id=name, **options)
        self._clients.append(client)
        await client.connect()
        return client

    # Messages

    def _routed(self, publish: Publish) -> None:
        self.log.add(self.age_s(), publish)

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds < 0:
            raise ValueError(f"{seconds} s: time does not go back")
        await asyncio.sleep(seconds)
        await self.loop.rest()

    async def until(self, is_so: Callable[[], T], within: float) -> T | None:
        """Let time pass until something holds, `within` seconds at most; None where it does not."""
        loop = self.loop
        end = loop.time() + within
        while True:
            await loop.rest()
            found = is_so()
            if found:
                return found
            if loop.time() >= end - _INSTANT_S:
                return None
            await loop.tick(end)

    async def find(self, wanted: Wanted, within: float) -> Routed | None:
        """Wait for a message that was not found before."""
        self._check_records()
        return await self.until(lambda: self.log.take(wanted), within)

    async def find_new(self, wanted: Wanted, within: float) -> Routed | None:
        """Wait for a message that is routed from now on."""
        self._check_records()
        await self.loop.rest()
        first = self.log.count
        return await self.until(lambda: self.log.take(wanted, first), within)

    def missing(self, wanted: Wanted, within: float) -> NotSeen:
        """The error where `find` has found nothing."""
        return NotSeen(f"no message with {wanted} within {within:g} s\n{self.report()}")

    def unwanted(self, found: Routed) -> NotSeen:
        """The error where `find_new` has found one."""
        return NotSeen(f"this message was not to come: {found}\n{self.report()}")

    def not_so(self, within: float) -> TimeoutError:
        """The error where `until` has ended without."""
        return TimeoutError(f"it did not come about within {within:g} s\n{self.report()}")

    def _check_records(self) -> None:
        if not self._records:
            raise RuntimeError("the broker remembers no messages: leave records=False out")

    def report(self, most: int = _SHOWN) -> str:
        """What was routed, and what has passed over the links, as a table."""
        return "\n".join(
            [
                f"It is {self.age_s():.3f} s. The broker has routed:",
                *(self.log.lines(most) or ["  nothing"]),
                "Over the links (> to the broker, < to the client) went:",
                *(self.traffic.lines(most) or ["  nothing"]),
            ]
        )

    async def within(self, awaitable: Awaitable[T], timeout: float | None) -> T:
        """Wait for something, and for what follows at once. Raises `TimeoutError`."""
        __tracebackhide__ = True
        try:
            async with asyncio.timeout(timeout):
                found = await awaitable
        except TimeoutError:
            await self.loop.rest()
            raise
        await self.loop.rest()
        return found
