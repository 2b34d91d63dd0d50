"""A real broker for a test, and clients of it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from types import TracebackType
from typing import Final, Self, TypeVar, Unpack, final

from iotd import BlockingClient, Client, ThreadedServer
from iotd.testing._messages import Log, Payload, Routed, Wanted
from iotd.testing._options import BrokerOptions, ClientOptions
from iotd.testing._world import NotSeen
from mqtt_core import NO_PROPERTIES, Properties, Publish, Subscription
from mqtt_core.broker import IMMEDIATE, INSIDE, Fact

T = TypeVar("T")
MOST_FACTS: Final = 1_000
"""Facts that are remembered; of more the oldest are forgotten."""

_SHOWN: Final = 40
_ALL: Final = Subscription("#", 2, retain_as_published=True)


@final
class MqttBroker:
    """A broker on a free port of 127.0.0.1, in a thread of its own.

        def test_sensor(mqtt_broker: MqttBroker) -> None:
            run_my_sensor(mqtt_broker.host, mqtt_broker.port)
            assert mqtt_broker.expect("sensor/#", qos=1, within=5).text == "21.5"

    What it is told and what it routes is remembered instead of logged. Its methods may be called
    from any thread, and on an event loop too: only `expect` waits, for which `expect_async` is
    there. Times are real seconds.
    """

    def __init__(self, **options: Unpack[BrokerOptions]) -> None:
        self._records: Final = options.get("records", True)
        self._began: Final = monotonic()
        self._news: Final = threading.Condition()
        self._log: Final = Log()
        self._facts: Final[deque[tuple[float, Fact]]] = deque(maxlen=MOST_FACTS)
        self.server: Final = ThreadedServer(
            limits=options.get("limits"),
            authenticate=options.get("authenticate"),
            authorize=options.get("authorize"),
            policy=options.get("policy"),
            on_fact=self._told,
        )

    def __enter__(self) -> Self:
        self.server.start()
        if self._records:
            self.server.on_message(self._routed, _ALL)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.server.shut_down(IMMEDIATE)

    # Where it is

    @property
    def url(self) -> str:
        """`mqtt://127.0.0.1:PORT`."""
        return f"mqtt://{self.server.url.partition('://')[2]}"

    @property
    def host(self) -> str:
        """`127.0.0.1`."""
        return self.url.removeprefix("mqtt://").rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port that was free."""
        return int(self.url.rpartition(":")[2])

    # What it has seen

    def _age_s(self) -> float:
        return monotonic() - self._began

    def _told(self, fact: Fact) -> None:
        if fact.listener != INSIDE:
            self._facts.append((self._age_s(), fact))

    def _routed(self, publish: Publish) -> None:
        with self._news:
            self._log.add(self._age_s(), publish)
            self._news.notify_all()

    @property
    def facts(self) -> list[Fact]:
        """What it would have logged, in order: who came and went, and why."""
        return [fact for _, fact in list(self._facts)]

    def messages(self, topic: str = "#") -> list[Routed]:
        """All messages that it has routed until now, as far as a topic filter fits them.

        What a client has published at QoS 1 or 2, and had acknowledged, is among them.
        """
        self._check_records()
        self.server.call(_nothing)  # behind the turn that is being made
        with self._news:
            return self._log.matching(topic)

    def expect(
        self,
        topic: str = "#",
        payload: Payload | None = None,
        *,
        qos: int | None = None,
        retain: bool | None = None,
        within: float = 5.0,
    ) -> Routed:
        """The first message that fits, of those that were not expected before.

        Waits for it, `within` seconds at most. Raises `NotSeen`, an `AssertionError` that shows
        what was seen instead.
        """
        __tracebackhide__ = True
        self._check_records()
        wanted = Wanted(topic, payload, qos, retain)
        with self._news:
            found = self._news.wait_for(lambda: self._log.take(wanted), within)
        if found is None:
            raise NotSeen(f"no message with {wanted} within {within:g} s\n{self.report()}")
        return found

    async def expect_async(
        self,
        topic: str = "#",
        payload: Payload | None = None,
        *,
        qos: int | None = None,
        retain: bool | None = None,
        within: float = 5.0,
    ) -> Routed:
        """`expect` for coroutines."""
        __tracebackhide__ = True
        waiting = asyncio.to_thread(
            self.expect, topic, payload, qos=qos, retain=retain, within=within
        )
        return await waiting

    def _check_records(self) -> None:
        if not self._records:
            raise RuntimeError("the broker remembers no messages: leave records=False out")

    def report(self, most: int = _SHOWN) -> str:
        """What it was told and what it has routed, as a table."""
        with self._news:
            routed = self._log.lines(most)
        facts = [
            f"{at:10.3f} s  {fact.name} {fact.client_id} {fact.cause} {fact.detail}".rstrip()
            for at, fact in list(self._facts)[-most:]
        ]
        return "\n".join(
            [
                f"{self.url}, after {self._age_s():.3f} s. It has routed:",
                *(routed or ["  nothing"]),
                "It would have logged:",
                *(facts or ["  nothing"]),
            ]
        )

    # What the test does

    def publish(
        self,
        topic: str,
        payload: bytes | str = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Publish from within, without a client."""
        self.server.publish(topic, payload, qos=qos, retain=retain, properties=properties)


def _nothing() -> None:
    """Called to know that what came before is done."""


@final
class MqttClientFactory:
    """Makes blocking clients of one broker: `mqtt_client("sensor-1", will=...)`.

    Each is connected, and closed at the end of the test.
    """

    def __init__(self, url: str) -> None:
        self._url: Final = url
        self._clients: Final[list[BlockingClient]] = []

    def __call__(self, client_id: str = "", **options: Unpack[ClientOptions]) -> BlockingClient:
        """A client that is connected. Raises `ConnectError`."""
        client = BlockingClient(self._url, client_id=client_id, **options)
        self._clients.append(client)
        client.connect()
        return client

    def close(self) -> None:
        """Close all of them."""
        clients, self._clients[:] = list(self._clients), []
        for client in clients:
            client.close()


@final
class AsyncMqttClientFactory:
    """Makes clients of one broker on the test's loop: `await mqtt_client("sensor-1", will=...)`.

    Each is connected, and closed at the end of the test.
    """

    def __init__(self, url: str) -> None:
        self._url: Final = url
        self._clients: Final[list[Client]] = []

    async def __call__(self, client_id: str = "", **options: Unpack[ClientOptions]) -> Client:
        """A client that is connected. Raises `ConnectError`."""
        client = Client(self._url, client_id=client_id, **options)
        self._clients.append(client)
        await client.connect()
        return client

    async def around(self, test: Callable[[], Awaitable[T]]) -> T:
        """Run a test, and close its clients on its loop."""
        try:
            return await test()
        finally:
            clients, self._clients[:] = list(self._clients), []
            await asyncio.gather(*(client.close() for client in clients))
