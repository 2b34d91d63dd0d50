"""A server on an asyncio loop: listeners, the runtime that the turn needs, start and stop."""

from __future__ import annotations

import asyncio
import inspect
import socket
import weakref
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar, final

from adapters.asyncio_server._connection import Connection
from adapters.stages import clock_of
from adapters.transport import (
    ACCEPT_RETRY_S,
    Answer,
    Call,
    Listener,
    Mailbox,
    ServerBase,
    check_published,
)
from mqtt_core import Properties, Publish, Subscription
from mqtt_core.broker import IMMEDIATE

AsyncAnswer = Answer | Awaitable[Answer]
"""What a hook returns here: an answer, or as an `async def` something to wait for."""


T = TypeVar("T")


@final
class NamedOrigin:
    """Where connections come from that no listener has accepted."""

    __slots__ = ("level", "url")

    def __init__(self, url: str) -> None:
        self.url: Final = url
        self.level: Final = 0


@final
class _Runtime:
    """`Runtime` on an asyncio loop, whose `call_soon` runs after each poll and before the next."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time: Final = clock_of(loop)
        self.call_soon: Final = loop.call_soon
        self.call_after_poll: Final = loop.call_soon
        self.call_later: Final = loop.call_later
        self.call_from_thread: Final = loop.call_soon_threadsafe


@final
class Messages:
    """The messages of one subscription, in order: `async for message in messages`.

    Each is the `Publish` of `mqtt_core`, with `topic`, `payload`, `qos`, `retain`, and the
    properties in its `message`. What is not taken waits with the broker, within the limits of any
    client; a message at QoS 1 or 2 is acknowledged when it is taken, with those behind it that
    the broker had prepared.

    The subscription ends with `close`, with an `async with` block, when nobody holds this object
    any more, and with the server.
    """

    def __init__(self, open_mailbox: Callable[[Callable[[], object]], Mailbox]) -> None:
        self._news: Final = asyncio.Event()
        mailbox = open_mailbox(self._news.set)
        self._mailbox: Final = mailbox
        self._end: Final = weakref.finalize(self, mailbox.close_later)
        self._end.atexit = False

    async def ready(self) -> Self:
        """Wait until the broker has granted the subscription; raises `SubscribeError` if it does
        not."""
        while not self._mailbox.is_ready:
            await self._wait()
        self._mailbox.check()
        return self

    async def get(self) -> Publish | None:
        """The next message; waits for it. None when no more will come because the server has
        stopped, or the subscription is closed.

        Raises `SubscribeError` if it was not granted, `SubscriptionEndedError` where the broker
        has ended it. It may be cancelled, and loses nothing.
        """
        await self.ready()
        while True:
            message = self._mailbox.take()
            if message is not None or self._mailbox.is_over:
                return message
            await self._wait()

    def get_left(self) -> Publish | None:
        """The same once the server has stopped, when there is nothing to wait for."""
        return self._mailbox.take()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    def close(self) -> None:
        """Unsubscribe, and forget what has come. May be repeated."""
        self._end.detach()
        self._mailbox.close()
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Publish:
        message = await self.get()
        if message is None:
            raise StopAsyncIteration
        return message

    async def __aenter__(self) -> Self:
        return await self.ready()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Serving(ServerBase[AsyncAnswer]):
    """The work of a server on the loop that runs it."""

    _acceptors: Sequence[asyncio.Task[None]] = ()

    async def _start(self) -> None:
        self._bind()
        self._is_decided = asyncio.Event()
        self._stopped = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        runtime = _Runtime(asyncio.get_running_loop())
        self._drive.start(runtime, self._is_decided.set, self._end)
        try:
            await self._is_decided.wait()
            if self._drive.is_serving:
                for listener in self._listeners:
                    listener.listen()
        except BaseException:  # who waits has given up, or somebody else took the port
            await self._shut_down(IMMEDIATE)
            raise
        if self._drive.is_serving:
            self._acceptors = [asyncio.create_task(self._accept(each)) for each in self._listeners]
        else:
            await self._stopped.wait()
            self._check_recovery()

    async def _shut_down(self, mode: int) -> None:
        if not self._has_begun:
            return
        await self._stop_accepting()
        if not self._stopped.is_set():
            self._drive.shut_down(mode)
        await self._stopped.wait()

    # Clients

    async def _accept(self, listener: Listener) -> None:
        """Take connections from one listener until cancelled."""
        while True:
            accepted = await _first(listener) if listener.is_drained else []
            accepted += listener.accept_batch()
            connecting = asyncio.gather(
                *[self._connect(listener, connected, peer) for connected, peer in accepted]
            )
            try:
                await asyncio.shield(connecting)
            except asyncio.CancelledError:
                await connecting  # one that is half made would never hear of its end
                raise
            if listener.error is not None:
                self._drive.accept_failed(listener, listener.error)
                await asyncio.sleep(ACCEPT_RETRY_S)
            elif listener.is_drained:
                self._drive.accept_recovered(listener)

    async def _connect(self, listener: Listener, connected: socket.socket, peer: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self._drive, listener, peer), connected
            )
        except Exception as error:  # noqa: BLE001  this connection's fault alone
            connected.close()
            self._drive.fault(f"the connection of {peer} could not be taken", error)

    async def _stop_accepting(self) -> None:
        acceptors, self._acceptors = self._acceptors, ()
        if acceptors:
            for task in acceptors:
                task.cancel()
            await asyncio.gather(*acceptors, return_exceptions=True)
        self._close_listeners()

    # The program's own clients

    async def _publish(
        self, topic: str, payload: bytes | str, qos: int, retain: bool, properties: Properties
    ) -> None:
        loop = asyncio.get_running_loop()
        self._check_serving()
        while not self._publisher.has_room(qos):
            room: asyncio.Future[None] = loop.create_future()
            self._publisher.when_there_is_room(partial(_settle, room, None))
            await room
            self._check_serving()
        if not qos:
            self._publisher.put(topic, payload, qos, retain, properties, None)
            return
        answer: asyncio.Future[int] = loop.create_future()
        self._publisher.put(topic, payload, qos, retain, properties, partial(_settle, answer))
        check_published(topic, await answer)

    def _messages(self, filters: Sequence[str | Subscription], qos: int) -> Messages:
        return Messages(lambda on_news: self._open_mailbox(filters, qos, on_news))

    # Hooks

    def _call(self, call: Call[AsyncAnswer]) -> None:
        try:
            answer = call.hook()
        except Exception as error:  # noqa: BLE001  the hook's; told there
            call.failed(error)
            return
        if not inspect.isawaitable(answer):
            call.answered(answer)
            return
        task = asyncio.create_task(_wait_for_hook(call, answer))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    # The end

    def _end(self) -> None:
        """The last turn was made."""
        self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        """Close the engine, which may take its time with what is still to be stored."""
        self._close_listeners()
        calls = list(self._calls)
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        loop = asyncio.get_running_loop()
        try:
            with ThreadPoolExecutor(1) as thread:  # of our own, since that of the loop would stay
                await loop.run_in_executor(thread, self._drive.engine.close)
        except Exception as error:  # noqa: BLE001  whatever it is, the server has stopped
            self._drive.not_closed(error)
        self._is_decided.set()
        self._stopped.set()


async def _wait_for_hook(call: Call[AsyncAnswer], answer: Awaitable[Answer]) -> None:
    limit = asyncio.timeout(call.timeout_s)
    try:
        async with limit:
            said = await answer
    except asyncio.CancelledError:
        call.given_up()
        raise
    except Exception as error:  # noqa: BLE001  the hook's; told there
        if limit.expired():
            call.given_up()
        else:
            call.failed(error)
    else:
        call.answered(said)


def _settle(waiter: asyncio.Future[T], value: T) -> None:
    """Tell who waits, unless it has been cancelled."""
    if not waiter.done():
        waiter.set_result(value)


async def _first(listener: Listener) -> list[tuple[socket.socket, str]]:
    """Wait until somebody can be accepted; cancelled or not, no accepted socket gets lost."""
    loop = asyncio.get_running_loop()
    is_acceptable = asyncio.Event()
    try:
        loop.add_reader(listener.socket, is_acceptable.set)
    except NotImplementedError:  # the proactor loop of Windows accepts by itself or not at all
        try:
            return [listener.prepare(*await loop.sock_accept(listener.socket))]
        except OSError:
            return []  # it left before it was accepted, or the batch meets the same error
    try:
        await is_acceptable.wait()
    finally:
        loop.remove_reader(listener.socket)
    return []
