"""The server on gevent: listeners, the runtime that the turn needs, start and stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

import gevent
import gevent.event
import gevent.socket

from adapters.gevent_server._connection import READ, Connection
from adapters.transport import (
    ACCEPT_RETRY_S,
    Drive,
    Listener,
    ServerBase,
    StopSignals,
    raise_descriptor_limit,
)
from mqtt_core.broker import GRACEFUL, IMMEDIATE

if TYPE_CHECKING:
    from gevent._types import _Loop, _TimerWatcher


@final
class _Timer:
    """`Cancellable` on a watcher."""

    def __init__(self, watcher: _TimerWatcher) -> None:
        self.cancel: Final = watcher.close


@final
class _Runtime:
    """`Runtime` on a hub's loop, whose `run_callback` runs before each poll."""

    def __init__(self, loop: _Loop) -> None:
        self._loop: Final = loop
        self._after_poll: Final = loop.timer(0.0)
        # A hub that has nothing to wait for ends; it does not know that an engine's thread will
        # call.
        self._presence: Final = loop.async_()
        self._presence.start(_nothing)
        self.call_soon: Final = loop.run_callback
        self.call_from_thread: Final = loop.run_callback_threadsafe

    def call_after_poll(self, callback: Callable[[], None]) -> None:
        """By a timer that is due at once, since callbacks of callbacks run without a poll."""
        self._after_poll.start(self._loop.run_callback, callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> _Timer:
        """By a timer of its own."""
        watcher = self._loop.timer(delay_s)
        watcher.start(callback, update=True)
        return _Timer(watcher)

    def close(self) -> None:
        """Give back what the runtime holds of the loop."""
        self._after_poll.close()
        self._presence.close()


def _nothing() -> None:
    """Nobody sends what this is called for."""


@final
class _Acceptor:
    """Takes connections from one listener for as long as it is open."""

    def __init__(self, drive: Drive, loop: _Loop, listener: Listener) -> None:
        self._drive: Final = drive
        self._loop: Final = loop
        self._listener: Final = listener
        self._retry: Final = loop.timer(ACCEPT_RETRY_S)
        self._watcher: Final = loop.io(listener.socket.fileno(), READ)
        self._watcher.start(self._accept)

    def close(self) -> None:
        """Take no more."""
        self._watcher.close()
        self._retry.close()

    def _accept_again(self) -> None:
        self._watcher.start(self._accept)
        self._accept()

    def _accept(self) -> None:
        listener = self._listener
        for connected, peer in listener.accept_batch():
            try:
                Connection(self._drive, self._loop, connected, listener, peer)
            except Exception as error:  # noqa: BLE001  this connection's fault alone
                connected.close()
                self._drive.fault(f"the connection of {peer} could not be taken", error)
        if listener.error is not None:
            self._drive.accept_failed(listener, listener.error)
            self._watcher.stop()
            self._retry.start(self._accept_again, update=True)
        elif listener.is_drained:
            self._drive.accept_recovered(listener)


@final
class Server(ServerBase):
    """An MQTT broker on the hub of the thread that starts it.

        with Server(["tcp://127.0.0.1:1883"]) as server:
            server.serve_forever()

    The options are those of `ServerBase`. Its methods may block, so call them in greenlets.
    """

    _acceptors: Sequence[_Acceptor] = ()
    stopped: gevent.event.Event
    """Set when the server has stopped; may be waited for together with other things."""

    def start(self) -> None:
        """Read back what is stored, then listen and serve. Returns at once if the server is shut
        down meanwhile.

        Raises `ListenError` or `RecoveryError`; then nothing is left running.
        """
        self._bind()
        loop = gevent.get_hub().loop
        self._runtime = _Runtime(loop)
        self._is_decided = gevent.event.Event()
        self.stopped = gevent.event.Event()
        self._drive.start(self._runtime, self._is_decided.set, self._end)
        try:
            self._is_decided.wait()
            if self._drive.is_serving:
                for listener in self._listeners:
                    listener.listen()
        except BaseException:  # who waits has given up, or somebody else took the port
            self.shut_down(IMMEDIATE)
            raise
        if self._drive.is_serving:
            self._acceptors = [_Acceptor(self._drive, loop, each) for each in self._listeners]
        else:
            self.stopped.wait()
            self._check_recovery()

    def serve_forever(self) -> None:
        """Return when the server has stopped."""
        self.stopped.wait()

    def shut_down(self, mode: int = GRACEFUL) -> None:
        """Stop: `GRACEFUL` tells clients and flushes, `IMMEDIATE` closes. Returns when all is done.

        May be called again, also with a stronger mode, and before the server has started.
        """
        if not self._addresses:
            return
        self._stop_accepting()
        if not self.stopped.is_set():
            self._drive.shut_down(mode)
        self.stopped.wait()

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

    def _stop_accepting(self) -> None:
        acceptors, self._acceptors = self._acceptors, ()
        for acceptor in acceptors:
            acceptor.close()
        self._close_listeners()

    def _end(self) -> None:
        """The last turn was made."""
        gevent.spawn(self._close)

    def _close(self) -> None:
        """Close the engine, which may take its time with what is still to be stored."""
        self._close_listeners()
        try:
            gevent.get_hub().threadpool.apply(self._drive.engine.close)
        except Exception as error:  # noqa: BLE001  whatever it is, the server has stopped
            self._drive.not_closed(error)
        self._runtime.close()
        self._is_decided.set()
        self.stopped.set()


def run(server: Server, *, on_ready: Callable[[], None]) -> int:
    """Serve until a signal stops the server; returns the exit code.

    Raises `ListenError` or `RecoveryError`.

    For a program's main thread: SIGINT stops gracefully, SIGTERM at once, both with exit code 0;
    a second signal of either kind ends the process there and then.
    """
    signals = StopSignals()
    raise_descriptor_limit()
    signalled = gevent.spawn(_wait_for_signal, signals)
    starting = gevent.spawn(_start, server)
    begins: list[gevent.Greenlet[..., Exception | None] | gevent.Greenlet[..., None]]
    begins = [starting, signalled]
    try:
        gevent.wait(begins, count=1)
        if not starting.ready():
            server.shut_down(signals.mode)
        error = starting.get()
        if error is not None:
            raise error
        if not signals.mode:
            on_ready()
        ends: list[gevent.event.Event | gevent.Greenlet[..., None]] = [server.stopped, signalled]
        gevent.wait(ends, count=1)
        server.shut_down(signals.mode or GRACEFUL)
    finally:
        signalled.kill()
    return 0


def _start(server: Server) -> Exception | None:
    """Start; what goes wrong is returned, since a greenlet that raises prints it."""
    try:
        server.start()
    except Exception as error:  # noqa: BLE001  raised again by who waits
        return error
    return None


def _wait_for_signal(signals: StopSignals) -> None:
    while not signals.mode:
        gevent.socket.wait_read(signals.receiver.fileno())
        signals.receiver.recv(64)
