"""The server as a program on asyncio has it, and as the program that is nothing but a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self, final

from adapters.asyncio_server._connection import Connection
from adapters.asyncio_server._serving import Messages, NamedOrigin, Serving
from adapters.transport import StopSignals, raise_descriptor_limit
from mqtt_core import NO_PROPERTIES, Properties, Subscription
from mqtt_core.broker import GRACEFUL


@final
class Server(Serving):
    """An MQTT broker on the running asyncio loop.

        async with Server("tcp://127.0.0.1:1883") as server:
            await server.serve_forever()

    The options are those of `ServerBase`; hooks may be `async def`. Except where it is said, its
    methods belong to the loop that has started it.
    """

    async def start(self) -> None:
        """Read back what is stored, then listen and serve. Returns at once if the server is shut
        down meanwhile.

        Raises `ListenError` or `RecoveryError`; then nothing is left running.
        """
        await self._start()

    async def serve_forever(self) -> None:
        """Return when the server has stopped."""
        await self._stopped.wait()

    async def shut_down(self, mode: int = GRACEFUL) -> None:
        """Stop: `GRACEFUL` tells clients and flushes, `IMMEDIATE` closes. Returns when all is done.

        May be called again, also with a stronger mode, and before the server has started.
        """
        await self._shut_down(mode)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shut_down()

    async def publish(
        self,
        topic: str,
        payload: bytes | str = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Publish a message from within the program; text is sent as UTF-8.

        It is routed in the next turn. At QoS 0 this returns when the message is on its way, at 1
        and 2 when it is with its receivers and what must be stored is. It waits where more
        messages of the program are on their way than the limits of a client allow. Cancelling
        does not take the message back.

        Raises `LocalProtocolError` for a message that MQTT or the limits forbid, `PublishError`
        where the broker does not take it, and `NotServingError`.
        """
        await self._publish(topic, payload, qos, retain, properties)

    def publish_soon(
        self,
        topic: str,
        payload: bytes | str = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Publish in the next turn, without waiting for anything: for hooks and callbacks.

        What becomes of it is not told. Raises as `publish`, and `LocalProtocolError` also where
        that would have to wait.
        """
        self._put_soon(topic, payload, qos, retain, properties)

    def subscribe(self, *filters: str | Subscription, qos: int = 0) -> Messages:
        """Subscribe from within the program: what comes is in the `Messages`.

        `qos` is the most for filters that are text. Each subscription is a client of its own.
        Raises `LocalProtocolError` for a filter that is none, and `NotServingError`.
        """
        return self._messages(filters, qos)

    def connection(self, peer: str, url: str = "memory") -> asyncio.Protocol:
        """The protocol for a connection over a transport that you have: a pipe, a serial line.

        Give it to what makes the transport, such as `loop.connect_accepted_socket`. `peer` and
        `url` are what facts call the two ends. Raises `NotServingError`.
        """
        self._check_serving()
        return Connection(self._drive, NamedOrigin(url), peer)


def run(server: Server, *, on_ready: Callable[[], None]) -> int:
    """Serve until a signal stops the server; returns the exit code.

    Raises `ListenError` or `RecoveryError`.

    For a program's main thread: SIGINT stops gracefully, SIGTERM at once, both with exit code 0;
    a second signal of either kind ends the process there and then.
    """
    signals = StopSignals()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(server, signals, on_ready))
    return 0


async def _run(server: Server, signals: StopSignals, on_ready: Callable[[], None]) -> None:
    starting = asyncio.create_task(server.start())
    signalled = asyncio.create_task(_wait_for_signal(signals))
    try:
        await asyncio.wait([starting, signalled], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            await server.shut_down(signals.mode)
        await starting
        if not signals.mode:
            on_ready()
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.wait([serving, signalled], return_when=asyncio.FIRST_COMPLETED)
        await server.shut_down(signals.mode or GRACEFUL)
    finally:
        signalled.cancel()


async def _wait_for_signal(signals: StopSignals) -> None:
    loop = asyncio.get_running_loop()
    while not signals.mode:
        await loop.sock_recv(signals.receiver, 64)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed (two to four times faster), else asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
