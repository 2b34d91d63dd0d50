"""The client on asyncio, as a program sees it: words around `mqtt_core.client`, and no rule."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self, final

from adapters.asyncio_client._drive import Drive
from adapters.asyncio_client._messages import Messages
from adapters.asyncio_client._requests import Requests
from adapters.asyncio_client._store import Store
from adapters.client_common import (
    ClientStatus,
    Version,
    Will,
    make_settings,
    message_properties,
    open_store,
    payload_bytes,
    subscriptions,
)
from mqtt_core import NO_PROPERTIES, Properties
from mqtt_core.client import (
    WRITTEN,
    ClientClosed,
    ClientLimits,
    Consumer,
    Event,
    Mechanism,
    Message,
    Publication,
    Reconnect,
)
from mqtt_core.client import Client as Core
from mqtt_core.store import Engine

_RECONNECT: Final = Reconnect()
_NO_USER_PROPERTIES: Final[tuple[tuple[str, str], ...]] = ()


@final
class Client(ClientStatus):
    """An MQTT client on the running asyncio loop.

        async with Client("mqtt://localhost") as client:
            await client.publish("greeting", "hello", qos=1)
            async for message in await client.subscribe("answers/#"):
                print(message.topic, message.text)

    `url` is mqtt://, mqtts:// (TLS), ws://, wss:// (WebSocket) or unix:///PATH, with USER:PASSWORD@
    before the host where wanted. `tls` is the context of a secure connection; the default trusts
    what the system does. The first connection must come about, or `ConnectError` is raised; after
    that the client comes back by itself, as `reconnect` says, until `close`. `on_state` is called
    with each event of `mqtt_core.client`, on the loop.

    The other options are those of `mqtt_core.client.Settings`: `client_id` (made up if empty),
    `username`, `password`, `version` ("auto", 5 or "3.1.1"), `keep_alive_s`, `session_expiry_s`,
    `will`, `manual_acks`, `queues_qos0`, `properties`, `mechanism` and `limits`. With `store`, a
    folder or an engine of storage, exactly-once holds over a restart of the program too. Raises
    `ValueError` for what cannot be, and `adapters.storage.StoreError` for a folder that cannot be
    used.
    """

    __slots__ = ("_drive", "_requests", "_settings")

    def __init__(
        self,
        url: str,
        *,
        client_id: str = "",
        username: str | None = None,
        password: str | bytes | None = None,
        version: Version = "auto",
        keep_alive_s: int = 60,
        session_expiry_s: int = 0,
        will: Will | None = None,
        tls: ssl.SSLContext | None = None,
        reconnect: Reconnect | None = _RECONNECT,
        manual_acks: bool = False,
        queues_qos0: bool = True,
        properties: Properties = NO_PROPERTIES,
        mechanism: Mechanism | None = None,
        store: Engine | str | Path | None = None,
        on_state: Callable[[Event], None] | None = None,
        limits: ClientLimits | None = None,
    ) -> None:
        address, self._settings = make_settings(
            url,
            client_id=client_id,
            username=username,
            password=password,
            version=version,
            keep_alive_s=keep_alive_s,
            session_expiry_s=session_expiry_s,
            will=will,
            reconnect=reconnect,
            manual_acks=manual_acks,
            queues_qos0=queues_qos0,
            properties=properties,
            mechanism=mechanism,
            limits=limits,
        )
        engine = open_store(store, self._settings)
        super().__init__(
            Core(
                self._settings,
                os.urandom,
                monotonic(),
                has_store=engine is not None,
                last_number=0 if engine is None else engine.last_number,
            )
        )
        store_of_core = None if engine is None else Store(engine, self._core)
        self._core.set_acknowledger(self._acknowledge)
        self._drive: Final = Drive(
            self._core, address, self._settings.limits, tls, store_of_core, on_state
        )
        self._requests: Final = Requests(self)

    # Life

    async def connect(self) -> None:
        """Connect. Raises `ConnectError`, of which `ConnectionRefused` is one; cancelled, nothing
        is left running. Once for each client."""
        if self._drive.is_started:
            raise ClientClosed("the client was connected before: make a new one")
        self._drive.start()
        try:
            await self._drive.wait_first()
        except ClientClosed as closed:
            await self._drive.stop()
            if closed.__cause__ is None:
                raise
            raise closed.__cause__ from None
        except BaseException:
            await self._drive.stop()
            raise

    async def close(self) -> None:
        """Say goodbye and end; harmless when said twice.

        Messages that are still to be sent or acknowledged get `close_timeout_s`. Whoever waits
        for anything then gets `ClientClosed`, and iterations over messages end.
        """
        try:
            if self._core.is_online:
                async with asyncio.timeout(self._settings.limits.close_timeout_s):
                    await self.flush()
        except (TimeoutError, ClientClosed):
            pass  # they end with ClientClosed, as said
        finally:
            await self._drive.stop()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self._drive.stop()

    async def wait_connected(self) -> None:
        """Wait until the client is connected. Raises `ClientClosed` where that will not be."""
        await self._drive.wait_online()

    async def re_authenticate(self) -> None:
        """Log in again on the same connection (4.12.1 of MQTT 5.0), before a credential ends, say.

        Raises `ValueError` for a client without a `mechanism`. Where the server refuses, the
        connection ends.
        """
        self._core.re_authenticate(self._drive.now())
        self._drive.wake()

    async def wait_closed(self) -> None:
        """Wait until the client has ended. Raises its error, if it was not the program's wish."""
        await self._drive.wait_ended()
        if self._core.error is not None:
            raise self._core.error

    async def flush(self) -> None:
        """Wait until every message is sent, and acknowledged where its QoS asks for that.

        Raises `ClientClosed`.
        """
        await self._drive.wait_idle()

    # Publishing

    async def publish(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview | str = b"",
        qos: int = 0,
        retain: bool = False,
        *,
        expiry_s: int | None = None,
        content_type: str | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        user_properties: Sequence[tuple[str, str]] = _NO_USER_PROPERTIES,
    ) -> Publication:
        """Publish a message; return when its QoS is satisfied.

        At QoS 0 that is when the socket has it; at QoS 1 and 2 when the server has acknowledged
        it, and its `reason` says what the server made of it (0x10: nobody has subscribed). While
        there is no connection it waits for one.

        Raises `PublishRefused`, `MessageExpired`, `DeliveryUnknown`, `ClientClosed`, and
        `ValueError` for what MQTT forbids. Cancelled, it is not sent if it has not been yet.
        """
        if type(payload) is not bytes:
            payload = payload_bytes(payload)
        properties: Properties = NO_PROPERTIES
        if (
            expiry_s is not None
            or content_type is not None
            or response_topic is not None
            or correlation_data is not None
            or user_properties
        ):
            properties = message_properties(
                expiry_s, content_type, response_topic, correlation_data, user_properties
            )
        publication = self._core.publish(
            topic, payload, qos, retain, self._drive.now(), properties, True
        )
        if not self._drive.is_due:
            self._drive.wake()
        if publication is WRITTEN:
            return publication
        if not publication.is_done:
            if self._core.is_full:
                self._drive.turn()
            await self._published(publication)
        return publication.result()

    async def _published(self, publication: Publication) -> None:
        try:
            while not publication.is_done:
                await self._drive.wait_for(publication)
        except BaseException:
            self._core.cancel(publication)
            raise
        if publication.qos == 0:
            await asyncio.sleep(0)  # who publishes without end leaves others a turn

    def publish_nowait(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview | str = b"",
        qos: int = 0,
        retain: bool = False,
        *,
        expiry_s: int | None = None,
        content_type: str | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        user_properties: Sequence[tuple[str, str]] = _NO_USER_PROPERTIES,
    ) -> Publication:
        """Publish a message without waiting; `wait` waits for it, `flush` for all.

        Raises `QueueFull` where `max_pending_messages` or `max_pending_bytes` wait already.
        """
        if type(payload) is not bytes:
            payload = payload_bytes(payload)
        properties = message_properties(
            expiry_s, content_type, response_topic, correlation_data, user_properties
        )
        publication = self._core.publish(topic, payload, qos, retain, self._drive.now(), properties)
        if not self._drive.is_due:
            self._drive.wake()
        return publication

    async def wait(self, publication: Publication) -> Publication:
        """Wait for a message of `publish_nowait`. Raises what `publish` does; cancelled, the
        message stays as it is."""
        while not publication.is_done:
            await self._drive.wait_for(publication)
        return publication.result()

    # Requests

    async def request(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview | str = b"",
        qos: int = 1,
        *,
        timeout: float | None = 10.0,
        expiry_s: int | None = None,
        content_type: str | None = None,
        user_properties: Sequence[tuple[str, str]] = _NO_USER_PROPERTIES,
    ) -> Message:
        """Publish a request and return the first answer to it (4.10 of MQTT 5.0).

        Whoever answers does so with `reply`, or publishes to the request's response topic with its
        correlation data. The first request subscribes to the topic where answers come, for all.
        Raises `TimeoutError` after `timeout` seconds, `QueueFull` where 10,000 requests wait
        already, and what `publish` and `subscribe` raise.
        """
        async with asyncio.timeout(timeout):
            answers = await self._requests.subscription()
            asked = self._requests.add()
            try:
                await self.publish(
                    topic,
                    payload,
                    qos,
                    expiry_s=expiry_s,
                    content_type=content_type,
                    response_topic=answers.topic_filters[0],
                    correlation_data=asked.correlation,
                    user_properties=user_properties,
                )
                return await self._requests.answer(asked, answers)
            finally:
                self._requests.remove(asked)

    async def reply(
        self,
        message: Message,
        payload: bytes | bytearray | memoryview | str = b"",
        qos: int = 1,
        *,
        content_type: str | None = None,
        user_properties: Sequence[tuple[str, str]] = _NO_USER_PROPERTIES,
    ) -> Publication:
        """Answer a request. Raises `ValueError` for a message that wants no answer, and what
        `publish` raises."""
        topic = message.response_topic
        if topic is None:
            raise ValueError(f"the message on {message.topic!r} has no response topic")
        return await self.publish(
            topic,
            payload,
            qos,
            content_type=content_type,
            correlation_data=message.correlation_data,
            user_properties=user_properties,
        )

    # Subscribing

    async def subscribe(
        self,
        *filters: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> Messages:
        """Subscribe to topic filters; return their messages when the server has granted them.

        `qos` is the most that messages come with. The options are those of MQTT 5.0 (3.8.3.1), of
        which 3.1.1 has none. Raises `SubscribeRefused`, `QueueFull`, `ClientClosed`, and
        `ValueError` for what MQTT forbids. Cancelled, nothing stays subscribed.
        """
        asked = subscriptions(filters, qos, no_local, retain_as_published, retain_handling)
        consumer = self._core.subscribe(asked, self._drive.now())
        self._drive.wake()
        try:
            while not consumer.is_ready and consumer.error is None:
                await self._drive.wait_for(consumer)
        except BaseException:
            self._core.unsubscribe(consumer, self._drive.now())
            self._drive.wake()
            raise
        consumer.result()
        return Messages(self, consumer)

    async def _unsubscribe(self, consumer: Consumer) -> None:
        self._core.unsubscribe(consumer, self._drive.now())
        self._drive.wake()
        while not consumer.is_gone and self._core.is_online:
            await self._drive.wait_for(consumer)

    def _take(self, consumer: Consumer) -> Message | None:
        core = self._core
        message = core.take(consumer, self._drive.now())
        if message is not None and message.qos and not self._drive.is_due:
            self._drive.wake()
        return message

    def _acknowledge(self, message: Message) -> None:
        """`Message.ack` of the program."""
        self._core.acknowledge(message, self._drive.now())
        self._drive.wake()
