"""The server on asyncio: listeners, the runtime that the turn needs, start and stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self, final

from adapters.asyncio_server._connection import Connection
from adapters.transport import (
    ACCEPT_RETRY_S,
    Listener,
    ServerBase,
    StopSignals,
    raise_descriptor_limit,
)
from mqtt_core.broker import GRACEFUL, IMMEDIATE


@final
class _Runtime:
    """`Runtime` on an asyncio loop, whose `call_soon` runs after each poll and before the next."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.call_soon: Final = loop.call_soon
        self.call_after_poll: Final = loop.call_soon
        self.call_later: Final = loop.call_later
        self.call_from_thread: Final = loop.call_soon_threadsafe


@final
class Server(ServerBase):
    """An MQTT broker on the running asyncio loop.

        async with Server(["tcp://127.0.0.1:1883"]) as server:
            await server.serve_forever()

    The options are those of `ServerBase`.
    """

    _acceptors: Sequence[asyncio.Task[None]] = ()

    async def start(self) -> None:
        """Read back what is stored, then listen and serve. Returns at once if the server is shut
        down meanwhile.

        Raises `ListenError` or `RecoveryError`; then nothing is left running.
        """
        self._bind()
        self._is_decided = asyncio.Event()
        self._stopped = asyncio.Event()
        runtime = _Runtime(asyncio.get_running_loop())
        self._drive.start(runtime, self._is_decided.set, self._end)
        try:
            await self._is_decided.wait()
            if self._drive.is_serving:
                for listener in self._listeners:
                    listener.listen()
        except BaseException:  # who waits has given up, or somebody else took the port
            await self.shut_down(IMMEDIATE)
            raise
        if self._drive.is_serving:
            self._acceptors = [asyncio.create_task(self._accept(each)) for each in self._listeners]
        else:
            await self._stopped.wait()
            self._check_recovery()

    async def serve_forever(self) -> None:
        """Return when the server has stopped."""
        await self._stopped.wait()

    async def shut_down(self, mode: int = GRACEFUL) -> None:
        """Stop: `GRACEFUL` tells clients and flushes, `IMMEDIATE` closes. Returns when all is done.

        May be called again, also with a stronger mode, and before the server has started.
        """
        if not self._addresses:
            return
        await self._stop_accepting()
        if not self._stopped.is_set():
            self._drive.shut_down(mode)
        await self._stopped.wait()

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

    def _end(self) -> None:
        """The last turn was made."""
        self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        """Close the engine, which may take its time with what is still to be stored."""
        self._close_listeners()
        try:
            await asyncio.to_thread(self._drive.engine.close)
        except Exception as error:  # noqa: BLE001  whatever it is, the server has stopped
            self._drive.not_closed(error)
        self._is_decided.set()
        self._stopped.set()


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


def run(server: Server, *, on_ready: Callable[[], None]) -> int:
    """Serve until a signal stops the server; returns the exit code.

    Raises `ListenError` or `RecoveryError`.

    For a program's main thread: SIGINT stops gracefully, SIGTERM at once, both with exit code 0;
    a second signal of either kind ends the process there and then.
    """
    signals = StopSignals()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
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


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed (two to four times faster), else asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
