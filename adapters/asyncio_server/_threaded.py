"""The server on a loop and in a thread of its own, for programs that have no loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Self, TypeVar, final

from adapters.asyncio_server._server import loop_factory
from adapters.asyncio_server._serving import Messages, Serving
from adapters.transport import NotServingError
from mqtt_core import NO_PROPERTIES, Properties, Publish, Subscription
from mqtt_core.broker import GRACEFUL, IMMEDIATE

T = TypeVar("T")


@final
class ThreadedMessages:
    """The messages of one subscription, in order: `for message in messages`.

    What `Messages` is on asyncio, for any thread.
    """

    def __init__(self, server: ThreadedServer, messages: Messages) -> None:
        self._server = server
        self._messages = messages

    def get(self, timeout: float | None = None) -> Publish | None:
        """The next message; waits for it, at most `timeout` seconds. None when no more will come
        because the server has stopped, or the subscription is closed.

        Raises `TimeoutError`; `SubscribeError` if it was not granted, `SubscriptionEndedError`
        where the broker has ended it.
        """
        try:
            return self._server._wait_for(_within(timeout, self._messages))
        except NotServingError:
            return self._messages.get_left()

    def close(self) -> None:
        """Unsubscribe, and forget what has come. May be repeated."""
        try:
            self._server._wait_for(_close(self._messages))
        except NotServingError:  # it has ended with the server
            pass

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Publish:
        message = self.get()
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        self._server._wait_for(self._messages.ready())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def _within(timeout: float | None, messages: Messages) -> Publish | None:
    async with asyncio.timeout(timeout):
        return await messages.get()


async def _called(function: Callable[[], T]) -> T:
    return function()


async def _close(messages: Messages) -> None:
    messages.close()


@final
class ThreadedServer(Serving):
    """An MQTT broker in a thread of its own.

        with ThreadedServer() as server:
            server.publish("greeting/hello", "Hello!")

    The options are those of `ServerBase`. Hooks and `on_fact` are called in the server's thread:
    they return soon, or are `async def`. All methods may be called from any thread; those that
    wait may not be called from a hook.
    """

    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _is_unwanted = False

    def start(self) -> None:
        """Read back what is stored, then listen and serve.

        Raises `ListenError` or `RecoveryError`; then nothing is left running.
        """
        if self._thread is not None:
            raise RuntimeError("a server starts once; make a new one")
        self._gate = threading.Lock()
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="iotd server", daemon=True
        )
        self._thread.start()
        try:
            started.result()
        except BaseException:  # who waits has given up, or it cannot start
            self.shut_down(IMMEDIATE)
            raise

    def shut_down(self, mode: int = GRACEFUL) -> None:
        """Stop: `GRACEFUL` tells clients and flushes, `IMMEDIATE` closes. Returns when all is done.

        May be called again, also with a stronger mode, and before the server has started.
        """
        thread = self._thread
        if thread is None:
            return
        self._is_unwanted = True
        try:
            self._wait_for(self._shut_down(mode))
        except NotServingError:  # it is about to see that it is unwanted, or has ended
            pass
        thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shut_down()

    def publish(
        self,
        topic: str,
        payload: bytes | str = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Publish a message from within the program; see `Server.publish`."""
        self._wait_for(self._publish(topic, payload, qos, retain, properties))

    def publish_soon(
        self,
        topic: str,
        payload: bytes | str = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Publish without waiting for anything, from a hook too; see `Server.publish_soon`."""
        if self._is_own_thread:
            self._put_soon(topic, payload, qos, retain, properties)
        else:
            self._wait_for(self._put(topic, payload, qos, retain, properties))

    def subscribe(self, *filters: str | Subscription, qos: int = 0) -> ThreadedMessages:
        """Subscribe from within the program; see `Server.subscribe`."""
        return ThreadedMessages(self, self._wait_for(self._subscribe(filters, qos)))

    def on_message(
        self, callback: Callable[[Publish], object], *filters: str | Subscription, qos: int = 0
    ) -> None:
        """Have `callback` called with each message, on the server's thread; see `Server`."""
        if self._is_own_thread:
            super().on_message(callback, *filters, qos=qos)
        else:
            self._wait_for(self._on_message(callback, filters, qos))

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the server's thread, between two turns, and return what it returns."""
        return self._wait_for(_called(function))

    async def _on_message(
        self,
        callback: Callable[[Publish], object],
        filters: tuple[str | Subscription, ...],
        qos: int,
    ) -> None:
        super().on_message(callback, *filters, qos=qos)

    async def _put(
        self, topic: str, payload: bytes | str, qos: int, retain: bool, properties: Properties
    ) -> None:
        self._put_soon(topic, payload, qos, retain, properties)

    async def _subscribe(self, filters: tuple[str | Subscription, ...], qos: int) -> Messages:
        return self._messages(filters, qos)

    # The thread

    @property
    def _is_own_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def _wait_for(self, work: Coroutine[object, object, T]) -> T:
        """Do something on the server's loop, and wait until it is done. Raises `NotServingError`
        where there is none, and `RuntimeError` on that very loop."""
        if self._is_own_thread:
            work.close()
            raise RuntimeError("the server would wait for itself here; a hook uses `publish_soon`")
        if self._thread is None:
            work.close()
            raise NotServingError
        with self._gate:
            if self._loop is None:
                work.close()
                raise NotServingError
            done = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return done.result()
        except CancelledError:  # the loop has ended meanwhile
            raise NotServingError from None

    def _run(self, started: Future[None]) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._live(started))
        except BaseException as error:  # there is no loop to be had
            if started.done():
                raise
            started.set_exception(error)

    async def _live(self, started: Future[None]) -> None:
        with self._gate:
            self._loop = asyncio.get_running_loop()
        try:
            await self._start()
        except BaseException as error:  # noqa: BLE001  raised where it was asked to start
            started.set_exception(error)
        else:
            if self._is_unwanted:
                await self._shut_down(IMMEDIATE)
            started.set_result(None)
            await self._stopped.wait()
        with self._gate:
            self._loop = None
        # What was asked for until now has begun, and is cancelled behind this.
        await asyncio.sleep(0)
