"""A broker, its clients and the network between them, on a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack, final

from iotd import Client
from iotd.testing._client import TIMEOUT_S, RigClient
from iotd.testing._link import Link
from iotd.testing._messages import Payload, Routed, Wanted
from iotd.testing._options import BrokerOptions, ClientOptions
from iotd.testing._world import World

T = TypeVar("T")
DAY_S: Final = 86_400.0


class RigBase:
    """What rigs have in common; see `MqttRig`."""

    def __init__(self, **options: Unpack[BrokerOptions]) -> None:
        self._world: Final = World(options)

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self._world.age_s()

    @property
    def url(self) -> str:
        """The URL of the broker for code that runs on the rig; its link is called "device"."""
        return self.url_of("device")

    def url_of(self, name: str) -> str:
        """The URL of the broker over the link of that name."""
        return self._world.url(name)

    def link(self, name: str = "device") -> Link:
        """The way of one client to the broker: what can be cut, slowed and disturbed."""
        return self._world.link(name)

    def messages(self, topic: str = "#") -> list[Routed]:
        """All messages that the broker has routed, as far as a topic filter fits them."""
        return self._world.log.matching(topic)

    def report(self) -> str:
        """What was routed, and what has passed over the links, as a table."""
        return self._world.report()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run code under test beside the test, on the virtual clock.

        It goes on whenever time is let pass. It is cancelled at the end of the test; where it
        fails before, the test fails with what it raised.
        """
        return self._world.start(coroutine)


@final
class MqttRig(RigBase):
    """The rig for tests that are no coroutines.

        def test_will(mqtt_rig: MqttRig) -> None:
            sensor = mqtt_rig.client("sensor-1", will=Will("state/1", "gone"), keep_alive_s=60)
            sensor.link.half_open()
            mqtt_rig.expect("state/1", "gone", within=100)

    Time stands still until `advance`, `expect`, `run` or a call of a client needs some, and then
    it jumps. All of it is real but the clock and the network: `iotd.Server`, `iotd.Client`, and any
    asyncio code that is given to `run` or `start`. Times are virtual seconds.
    """

    def __enter__(self) -> Self:
        self._run(self._world.open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._world.close()

    def _run(self, awaitable: Awaitable[T], timeout: float | None = None) -> T:
        __tracebackhide__ = True
        try:
            _check_no_loop()
        except RuntimeError:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()
            raise
        found = self._world.loop.run_until_complete(self._world.within(awaitable, timeout))
        self._world.check()
        return found

    def _settle(self) -> None:
        __tracebackhide__ = True
        self._run(asyncio.sleep(0))

    def run(self, awaitable: Awaitable[T], timeout: float = DAY_S) -> T:
        """Run a coroutine to its end on the virtual clock, and return its result.

        `asyncio.sleep` takes no real time there, and `iotd.Client(rig.url)`, or any other client
        that is built on asyncio, is connected to the rig's broker. Raises `TimeoutError` after
        `timeout` virtual seconds (a day).
        """
        __tracebackhide__ = True
        return self._run(awaitable, timeout)

    def client(self, name: str, **options: Unpack[ClientOptions]) -> RigClient:
        """A client that is connected; `name` is its identifier and that of its link.

        The options are those of `iotd.Client`. It is closed at the end of the test. Raises
        `ConnectError`.
        """
        __tracebackhide__ = True
        client = self._run(self._world.client(name, options), TIMEOUT_S)
        return RigClient(client, self.link(name), self._run, self._settle)

    def advance(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Let time pass, and all happen that is due in it, in order."""
        __tracebackhide__ = True
        self._run(self._world.advance(_total(seconds, minutes, hours, days)))

    def until(self, is_so: Callable[[], T], within: float = TIMEOUT_S) -> T:
        """Let time pass until something holds, and return it. Raises `TimeoutError`."""
        __tracebackhide__ = True
        found = self._run(self._world.until(is_so, within))
        if found is None:
            raise self._world.not_so(within)
        return found

    def expect(
        self,
        topic: str = "#",
        payload: Payload | None = None,
        *,
        qos: int | None = None,
        retain: bool | None = None,
        within: float = 0.0,
    ) -> Routed:
        """The first message that fits, of those that were not expected before.

        `topic` is a filter. Time passes until the broker routes one, `within` seconds at most.
        Raises `NotSeen`, an `AssertionError` that shows what was seen instead.
        """
        __tracebackhide__ = True
        wanted = Wanted(topic, payload, qos, retain)
        found = self._run(self._world.find(wanted, within))
        if found is None:
            raise self._world.missing(wanted, within)
        return found

    def expect_nothing(
        self,
        topic: str = "#",
        payload: Payload | None = None,
        *,
        qos: int | None = None,
        retain: bool | None = None,
        within: float,
    ) -> None:
        """Let `within` seconds pass, in which no such message is routed. Raises `NotSeen`."""
        __tracebackhide__ = True
        found = self._run(self._world.find_new(Wanted(topic, payload, qos, retain), within))
        if found is not None:
            raise self._world.unwanted(found)

    def publish(
        self, topic: str, payload: bytes | str = b"", *, qos: int = 0, retain: bool = False
    ) -> None:
        """Publish from beside the broker, without a client or a link."""
        __tracebackhide__ = True
        self._run(self._world.server.publish(topic, payload, qos=qos, retain=retain))


@final
class AsyncMqttRig(RigBase):
    """The rig for tests that are coroutines: they run on its loop, so that time is virtual there
    too.

        async def test_will(mqtt_rig: AsyncMqttRig) -> None:
            sensor = await mqtt_rig.client("sensor-1", will=Will("state/1", "gone"))
            mqtt_rig.link("sensor-1").half_open()
            await mqtt_rig.expect("state/1", "gone", within=100)

    The words are those of `MqttRig`, with `await`.
    """

    def run_test(self, test: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Begin, run a test on the loop, and end."""
        __tracebackhide__ = True
        _check_no_loop()
        world = self._world
        loop = world.loop
        try:
            loop.run_until_complete(world.open())
            found = loop.run_until_complete(world.within(test(), None))
            world.check()
            return found
        finally:
            world.close()

    def close(self) -> None:
        """Give the loop back where no test was run; harmless where one was."""
        self._world.loop.close()

    def _check(self) -> None:
        __tracebackhide__ = True
        if asyncio.get_running_loop() is not self._world.loop:
            raise RuntimeError("a rig is used on its own loop, and this is another one")
        self._world.check()

    async def client(self, name: str, **options: Unpack[ClientOptions]) -> Client:
        """A client that is connected; see `MqttRig.client`."""
        __tracebackhide__ = True
        self._check()
        return await self._world.client(name, options)

    async def advance(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Let time pass, as `asyncio.sleep` does, and all that follows at once."""
        __tracebackhide__ = True
        self._check()
        await self._world.advance(_total(seconds, minutes, hours, days))
        self._check()

    async def until(self, is_so: Callable[[], T], within: float = TIMEOUT_S) -> T:
        """Let time pass until something holds, and return it. Raises `TimeoutError`."""
        __tracebackhide__ = True
        self._check()
        found = await self._world.until(is_so, within)
        self._check()
        if found is None:
            raise self._world.not_so(within)
        return found

    async def expect(
        self,
        topic: str = "#",
        payload: Payload | None = None,
        *,
        qos: int | None = None,
        retain: bool | None = None,
        within: float = 0.0,
    ) -> Routed:
        """The first message that fits, of those not expected before; see `MqttRig.expect`."""
        __tracebackhide__ = True
        self._check()
        wanted = Wanted(topic, payload, qos, retain)
        found = await self._world.find(wanted, within)
        self._check()
        if found is None:
            raise self._world.missing(wanted, within)
        return found

    async def expect_nothing(
        self,
        topic: str = "#",
        payload: Payload | None = None,
        *,
        qos: int | None = None,
        retain: bool | None = None,
        within: float,
    ) -> None:
        """Let `within` seconds pass, in which no such message is routed. Raises `NotSeen`."""
        __tracebackhide__ = True
        self._check()
        found = await self._world.find_new(Wanted(topic, payload, qos, retain), within)
        self._check()
        if found is not None:
            raise self._world.unwanted(found)

    async def publish(
        self, topic: str, payload: bytes | str = b"", *, qos: int = 0, retain: bool = False
    ) -> None:
        """Publish from beside the broker, without a client or a link."""
        __tracebackhide__ = True
        self._check()
        await self._world.server.publish(topic, payload, qos=qos, retain=retain)


def _total(seconds: float, minutes: float, hours: float, days: float) -> float:
    return seconds + 60 * minutes + 3_600 * hours + DAY_S * days


def _check_no_loop() -> None:
    __tracebackhide__ = True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("this rig cannot be used on a running loop: it has a loop of its own")
