"""A client of a rig for tests that are no coroutines: each call lets happen what it leads to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar, final

from iotd import Client, Message, Messages, Publication
from iotd.testing._link import Link
from mqtt_core.client import Counters

T = TypeVar("T")
TIMEOUT_S: Final = 60.0
"""Virtual seconds that a call waits for the broker unless it is told otherwise."""


class Run(Protocol):
    """Runs something on the rig's clock, for so many virtual seconds at most."""

    def __call__(self, awaitable: Awaitable[T], timeout: float | None) -> T:
        """Its result. Raises `TimeoutError`."""


@final
class RigMessages:
    """The messages of one subscription, in order."""

    def __init__(self, messages: Messages, run: Run) -> None:
        self._messages: Final = messages
        self._run: Final = run

    @property
    def granted_qos(self) -> tuple[int, ...]:
        """The QoS that the broker has granted for each filter."""
        return self._messages.granted_qos

    @property
    def unread(self) -> int:
        """How many messages wait to be taken."""
        return self._messages.unread

    def get(self, timeout: float | None = TIMEOUT_S) -> Message:
        """The next message. Raises `TimeoutError` after so many virtual seconds."""
        __tracebackhide__ = True
        return self._run(self._messages.get(), timeout)

    def get_nowait(self) -> Message | None:
        """The next message, None where none waits."""
        return self._messages.get_nowait()

    def unsubscribe(self) -> None:
        """End the subscription."""
        __tracebackhide__ = True
        self._run(self._messages.unsubscribe(), TIMEOUT_S)


@final
class RigClient:
    """An `iotd.Client` on the rig's clock, in the words of the blocking client.

    `link` is the way to the broker; `asyncio` is the client itself.
    """

    def __init__(self, client: Client, link: Link, run: Run, settle: Callable[[], None]) -> None:
        self.asyncio: Final = client
        self.link: Final = link
        self._run: Final = run
        self._settle: Final = settle

    def publish(
        self,
        topic: str,
        payload: bytes | str = b"",
        qos: int = 0,
        retain: bool = False,
        *,
        expiry_s: int | None = None,
        content_type: str | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        user_properties: Sequence[tuple[str, str]] = (),
        timeout: float | None = TIMEOUT_S,
    ) -> Publication:
        """Publish a message; return when its QoS is satisfied. See `iotd.Client.publish`."""
        __tracebackhide__ = True
        publishing = self.asyncio.publish(
            topic,
            payload,
            qos,
            retain,
            expiry_s=expiry_s,
            content_type=content_type,
            response_topic=response_topic,
            correlation_data=correlation_data,
            user_properties=user_properties,
        )
        return self._run(publishing, timeout)

    def publish_nowait(
        self, topic: str, payload: bytes | str = b"", qos: int = 0, retain: bool = False
    ) -> Publication:
        """Publish a message, and wait for nothing: so it can be while the link is down."""
        __tracebackhide__ = True

        async def publish() -> Publication:
            return self.asyncio.publish_nowait(topic, payload, qos, retain)

        return self._run(publish(), None)

    def subscribe(
        self,
        *filters: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        timeout: float | None = TIMEOUT_S,
    ) -> RigMessages:
        """Subscribe; return the messages when it is granted. See `iotd.Client.subscribe`."""
        __tracebackhide__ = True
        subscribing = self.asyncio.subscribe(
            *filters,
            qos=qos,
            no_local=no_local,
            retain_as_published=retain_as_published,
            retain_handling=retain_handling,
        )
        return RigMessages(self._run(subscribing, timeout), self._run)

    def request(
        self, topic: str, payload: bytes | str = b"", qos: int = 1, *, timeout: float = 10.0
    ) -> Message:
        """Publish a request and return the first answer to it."""
        __tracebackhide__ = True
        return self._run(self.asyncio.request(topic, payload, qos, timeout=timeout), None)

    def reply(self, message: Message, payload: bytes | str = b"", qos: int = 1) -> Publication:
        """Answer a request."""
        __tracebackhide__ = True
        return self._run(self.asyncio.reply(message, payload, qos), TIMEOUT_S)

    def flush(self, timeout: float | None = TIMEOUT_S) -> None:
        """Wait until every message is sent, and acknowledged where its QoS asks for that."""
        __tracebackhide__ = True
        self._run(self.asyncio.flush(), timeout)

    def wait_connected(self, timeout: float | None = TIMEOUT_S) -> None:
        """Wait until the client is connected."""
        __tracebackhide__ = True
        self._run(self.asyncio.wait_connected(), timeout)

    def close(self) -> None:
        """Say goodbye and end: the broker publishes no will."""
        __tracebackhide__ = True
        self._run(self.asyncio.close(), None)

    def cut(self) -> None:
        """Break the connection, as `link.cut()`: the broker publishes the will, and the client
        comes back by itself unless it was made with `reconnect=None`."""
        __tracebackhide__ = True
        self.link.cut()
        self._settle()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, and the broker has taken the client."""
        return self.asyncio.is_connected

    @property
    def session_present(self) -> bool:
        """Whether the broker had a session of this client at the last connection."""
        return self.asyncio.session_present

    @property
    def client_id(self) -> str:
        """The client identifier in use."""
        return self.asyncio.client_id

    @property
    def version(self) -> str:
        """The version of MQTT in use: "5" or "3.1.1"."""
        return self.asyncio.version

    @property
    def counters(self) -> Counters:
        """What the client has counted."""
        return self.asyncio.counters
