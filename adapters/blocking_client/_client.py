"""The client without an event loop: the words of the asyncio client, each waiting by itself."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

from adapters.blocking_client._driver import Driver
from adapters.blocking_client._messages import BlockingMessages
from adapters.blocking_client._requests import Requests
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
    StoreFailed,
)

if TYPE_CHECKING:
    from pathlib import Path
    from ssl import SSLContext

    from mqtt_core.store import Engine

_RECONNECT: Final = Reconnect()
_NO_USER_PROPERTIES: Final[tuple[tuple[str, str], ...]] = ()


@final
class BlockingClient(ClientStatus):
    """An MQTT client for programs without an event loop.

        with BlockingClient("mqtt://localhost") as client:
            client.publish("greeting", "hello", qos=1)
            for message in client.subscribe("answers/#"):
                print(message.topic, message.text)

    It is `Client` without `async`: the options are the same, and so is what the methods mean.
    Those that wait take a `timeout` in seconds, after which they raise `TimeoutError`.

    Any thread may use it. One thread of its own keeps the connection, from `connect` to `close`.
    It works under gevent too, if `monkey.patch_all()` comes before the client is made: threads
    are greenlets then. `on_state` is called on the client's thread, and must not wait.

    A forked process has no such thread, and the connection stays with the parent: there the client
    is closed, and a new one is to be made.
    """

    __slots__ = ("__weakref__", "_driver", "_requests", "_settings")

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
        tls: SSLContext | None = None,
        reconnect: Reconnect | None = _RECONNECT,
        manual_acks: bool = False,
        queues_qos0: bool = True,
        properties: Properties = NO_PROPERTIES,
        mechanism: Mechanism | None = None,
        store: Engine | str | Path | None = None,
        on_state: Callable[[Event], None] | None = None,
        limits: ClientLimits | None = None,
    ) -> None:
        address, settings = make_settings(
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
        self._settings: Final = settings
        self._driver: Final = Driver(address, settings, tls, open_store(store, settings), on_state)
        self._requests: Final = Requests(self._driver)
        super().__init__(self._driver.core)
        self._core.set_acknowledger(self._acknowledge)

    # Life

    def connect(self) -> None:
        """Connect. Raises `ConnectError`, of which `ConnectionRefused` is one; interrupted,
        nothing is left running. Once for each client."""
        with self._driver.lock:
            if self._driver.is_started:
                raise ClientClosed("the client was connected before: make a new one")
            self._check_running()
            self._driver.start()
            _clients.add(self)
        try:
            self._wait_first()
        except ClientClosed as closed:
            self._stop()
            if closed.__cause__ is None:
                raise
            raise closed.__cause__ from None
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        """Say goodbye and end; harmless when said twice.

        Messages that are still to be sent or acknowledged get `close_timeout_s`. Whoever waits
        for anything then gets `ClientClosed`, and iterations over messages end.
        """
        try:
            if self._core.is_online and not self._driver.is_here:
                self.flush(self._settings.limits.close_timeout_s)
        except (TimeoutError, ClientClosed):
            pass  # they end with ClientClosed, as said
        finally:
            self._stop()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stop()

    def _wait_first(self) -> None:
        """Wait until there has been a connection, be it over again. Raises `ClientClosed`."""
        core = self._core
        with self._driver.lock:
            self._wait_until(lambda: core.counters.connections > 0 or core.has_ended, None)
            if not core.counters.connections:
                self._check_running()

    def _stop(self) -> None:
        """Disconnect and wait for it."""
        with self._driver.lock:
            if not self._driver.is_started and not self._core.has_ended:
                self._driver.leave_store()
            self._core.disconnect(monotonic())
            self._driver.wake()
        self._driver.join()
        _clients.discard(self)
        if self._driver.store_fault:
            raise StoreFailed(f"not all could be stored: {self._driver.store_fault}")

    def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until the client is connected. Raises `ClientClosed` where that will not be."""
        core = self._core
        with self._driver.lock:
            self._wait_until(lambda: core.is_online or core.has_ended, timeout)
            self._check_running()

    def re_authenticate(self) -> None:
        """Log in again on the same connection (4.12.1 of MQTT 5.0), before a credential ends, say.

        Raises `ValueError` for a client without a `mechanism`. Where the server refuses, the
        connection ends.
        """
        with self._driver.lock:
            self._core.re_authenticate(monotonic())
            self._driver.wake()

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the client has ended. Raises its error, if it was not the program's wish."""
        core = self._core
        with self._driver.lock:
            self._wait_until(lambda: core.has_ended, timeout)
            if core.error is not None:
                raise core.error

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every message is sent, and acknowledged where its QoS asks for that.

        Raises `ClientClosed`.
        """
        core = self._core
        with self._driver.lock:
            self._driver.send()
            self._wait_until(
                lambda: core.has_ended or not (core.pending_messages or core.in_flight), timeout
            )
            self._check_running()

    def _wait_until(self, is_so: Callable[[], bool], timeout: float | None) -> None:
        self._driver.wait_until(is_so, _time_of(timeout))

    def _check_running(self) -> None:
        if self._core.has_ended:
            closed = ClientClosed("the client is closed: make a new one")
            closed.__cause__ = self._driver.fault or self._core.error
            raise closed

    # Publishing

    def publish(
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
        timeout: float | None = None,
    ) -> Publication:
        """Publish a message; return when its QoS is satisfied.

        At QoS 0 that is when it is on its way to the socket; at QoS 1 and 2 when the server has
        acknowledged it, and its `reason` says what the server made of it (0x10: nobody has
        subscribed). While there is no connection it waits for one.

        Raises `PublishRefused`, `MessageExpired`, `DeliveryUnknown`, `ClientClosed`, and
        `ValueError` for what MQTT forbids. Late or interrupted, it is not sent if it has not been
        yet.
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
        driver = self._driver
        with driver.lock:
            try:
                publication = self._core.publish(
                    topic, payload, qos, retain, monotonic(), properties, True
                )
            except BaseException as error:
                self._struck_by(error)
                raise
            if publication is WRITTEN:
                driver.wake()
                return publication
            driver.send()
            if not publication.is_done:
                self._published(publication, timeout)
        return publication.result()

    def _published(self, publication: Publication, timeout: float | None) -> None:
        try:
            give_up_at = _time_of(timeout)
            while not publication.is_done:
                self._driver.wait_for(publication, give_up_at)
        except BaseException:
            self._core.cancel(publication)
            raise

    def _struck_by(self, error: BaseException) -> None:
        """A signal (Ctrl-C, say) may strike in the midst of the core, and leave it half done."""
        if not isinstance(error, Exception):
            self._driver.break_off(error)

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
        driver = self._driver
        with driver.lock:
            try:
                publication = self._core.publish(
                    topic, payload, qos, retain, monotonic(), properties
                )
            except BaseException as error:
                self._struck_by(error)
                raise
            if self._core.is_full:
                driver.send()
            driver.wake()
        return publication

    def wait(self, publication: Publication, timeout: float | None = None) -> Publication:
        """Wait for a message of `publish_nowait`. Raises what `publish` does; late or interrupted,
        the message stays as it is."""
        give_up_at = _time_of(timeout)
        with self._driver.lock:
            if not publication.is_done:
                self._driver.send()
            while not publication.is_done:
                self._driver.wait_for(publication, give_up_at)
        return publication.result()

    # Requests

    def request(
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
        give_up_at = _time_of(timeout)

        def publish(response_topic: str, correlation_data: bytes) -> None:
            self.publish(
                topic,
                payload,
                qos,
                expiry_s=expiry_s,
                content_type=content_type,
                response_topic=response_topic,
                correlation_data=correlation_data,
                user_properties=user_properties,
                timeout=None if give_up_at is None else give_up_at - monotonic(),
            )

        with self._driver.lock:
            return self._requests.ask(publish, give_up_at)

    def reply(
        self,
        message: Message,
        payload: bytes | bytearray | memoryview | str = b"",
        qos: int = 1,
        *,
        content_type: str | None = None,
        user_properties: Sequence[tuple[str, str]] = _NO_USER_PROPERTIES,
        timeout: float | None = None,
    ) -> Publication:
        """Answer a request. Raises `ValueError` for a message that wants no answer, and what
        `publish` raises."""
        topic = message.response_topic
        if topic is None:
            raise ValueError(f"the message on {message.topic!r} has no response topic")
        return self.publish(
            topic,
            payload,
            qos,
            content_type=content_type,
            correlation_data=message.correlation_data,
            user_properties=user_properties,
            timeout=timeout,
        )

    # Subscribing

    def subscribe(
        self,
        *filters: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        timeout: float | None = None,
    ) -> BlockingMessages:
        """Subscribe to topic filters; return their messages when the server has granted them.

        `qos` is the most that messages come with. The options are those of MQTT 5.0 (3.8.3.1), of
        which 3.1.1 has none. Raises `SubscribeRefused`, `QueueFull`, `ClientClosed`, and
        `ValueError` for what MQTT forbids. Late or interrupted, nothing stays subscribed.
        """
        asked = subscriptions(filters, qos, no_local, retain_as_published, retain_handling)
        driver = self._driver
        give_up_at = _time_of(timeout)
        with driver.lock:
            consumer = self._core.subscribe(asked, monotonic())
            driver.send()
            try:
                while not consumer.is_ready and consumer.error is None:
                    driver.wait_for(consumer, give_up_at)
            except BaseException:
                self._core.unsubscribe(consumer, monotonic())
                driver.wake()
                raise
        consumer.result()
        return BlockingMessages(self, consumer)

    def _unsubscribe(self, consumer: Consumer) -> None:
        with self._driver.lock:
            self._core.unsubscribe(consumer, monotonic())
            self._driver.send()
            while not consumer.is_gone and self._core.is_online:
                self._driver.wait_for(consumer, None)

    def _take(self, consumer: Consumer) -> Message | None:
        with self._driver.lock:
            try:
                message = self._core.take(consumer, monotonic())
            except BaseException as error:
                self._struck_by(error)
                raise
            if message is not None and message.qos:
                self._driver.wake()  # to acknowledge it, and those after it
        return message

    def _take_next(self, consumer: Consumer, give_up_at: float | None) -> Message:
        with self._driver.lock:
            while True:
                message = self._take(consumer)
                if message is not None:
                    return message
                if consumer.is_leaving or consumer.error is not None:
                    if consumer.error is None:
                        raise ClientClosed("the subscription was ended by unsubscribe()")
                    raise consumer.error
                self._driver.send()
                self._driver.wait_for(consumer, give_up_at)

    def _forget(self) -> None:
        """In a forked process the client is closed."""
        self._driver.forget()
        self._core = self._driver.core

    def _acknowledge(self, message: Message) -> None:
        """`Message.ack` of the program."""
        with self._driver.lock:
            self._core.acknowledge(message, monotonic())
            self._driver.wake()


def _time_of(timeout: float | None) -> float | None:
    return None if timeout is None else monotonic() + timeout


_clients: Final[weakref.WeakSet[BlockingClient]] = weakref.WeakSet()
"""Those that are running."""


def _after_fork() -> None:
    for client in list(_clients):
        client._forget()
    _clients.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
