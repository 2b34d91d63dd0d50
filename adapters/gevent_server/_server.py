"""The server on gevent: listeners, the runtime that the turn needs, start and stop."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

import gevent
import gevent.event
import gevent.socket
from gevent.threadpool import ThreadPool

from adapters.gevent_server._connection import READ, Connection
from adapters.transport import (
    ACCEPT_RETRY_S,
    Answer,
    Call,
    Drive,
    Listener,
    Mailbox,
    ServerBase,
    StopSignals,
    check_published,
    raise_descriptor_limit,
)
from mqtt_core import NO_PROPERTIES, Properties, Publish, Subscription
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
        self.time: Final = monotonic
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
class Messages:
    """The messages of one subscription, in order: `for message in messages`.

    Each is the `Publish` of `mqtt_core`, with `topic`, `payload`, `qos`, `retain`, and the
    properties in its `message`. What is not taken waits with the broker, within the limits of any
    client; a message at QoS 1 or 2 is acknowledged when it is taken, with those behind it that
    the broker had prepared.

    The subscription ends with `close`, with a `with` block, when nobody holds this object any
    more, and with the server.
    """

    def __init__(self, open_mailbox: Callable[[Callable[[], object]], Mailbox]) -> None:
        self._news: Final = gevent.event.Event()
        mailbox = open_mailbox(self._news.set)
        self._mailbox: Final = mailbox
        self._end: Final = weakref.finalize(self, mailbox.close_later)
        self._end.atexit = False

    def ready(self) -> Self:
        """Wait until the broker has granted the subscription; raises `SubscribeError` if it does
        not."""
        while not self._mailbox.is_ready:
            self._wait()
        self._mailbox.check()
        return self

    def get(self, timeout: float | None = None) -> Publish | None:
        """The next message; waits for it, at most `timeout` seconds. None when no more will come
        because the server has stopped, or the subscription is closed.

        Raises `TimeoutError`; `SubscribeError` if it was not granted, `SubscriptionEndedError`
        where the broker has ended it.
        """
        with gevent.Timeout(timeout, TimeoutError):
            self.ready()
            while True:
                message = self._mailbox.take()
                if message is not None or self._mailbox.is_over:
                    return message
                self._wait()

    def _wait(self) -> None:
        self._news.clear()
        self._news.wait()

    def close(self) -> None:
        """Unsubscribe, and forget what has come. May be repeated."""
        self._end.detach()
        self._mailbox.close()
        self._news.set()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Publish:
        message = self.get()
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        return self.ready()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@final
class Server(ServerBase[Answer]):
    """An MQTT broker on the hub of the thread that starts it.

        with Server("tcp://127.0.0.1:1883") as server:
            server.serve_forever()

    The options are those of `ServerBase`. Each call of a hook has a greenlet of its own, so hooks
    may block as greenlets do. The methods may block too; except where it is said, they belong to
    the thread of that hub.
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
        self._calls: set[gevent.Greenlet[..., None]] = set()
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
        if not self._has_begun:
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

    def publish(
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
        messages of the program are on their way than the limits of a client allow.

        Raises `LocalProtocolError` for a message that MQTT or the limits forbid, `PublishError`
        where the broker does not take it, and `NotServingError`.
        """
        self._check_serving()
        while not self._publisher.has_room(qos):
            room = gevent.event.Event()
            self._publisher.when_there_is_room(room.set)
            room.wait()
            self._check_serving()
        if not qos:
            self._publisher.put(topic, payload, qos, retain, properties, None)
            return
        answer: gevent.event.AsyncResult[int] = gevent.event.AsyncResult()
        self._publisher.put(topic, payload, qos, retain, properties, answer.set)
        check_published(topic, answer.get())

    def publish_soon(
        self,
        topic: str,
        payload: bytes | str = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Publish in the next turn, without waiting for anything: for `on_fact` and callbacks.

        What becomes of it is not told. Raises as `publish`, and `LocalProtocolError` also where
        that would have to wait.
        """
        self._put_soon(topic, payload, qos, retain, properties)

    def subscribe(self, *filters: str | Subscription, qos: int = 0) -> Messages:
        """Subscribe from within the program: what comes is in the `Messages`.

        `qos` is the most for filters that are text. Each subscription is a client of its own.
        Raises `LocalProtocolError` for a filter that is none, and `NotServingError`.
        """
        return Messages(lambda on_news: self._open_mailbox(filters, qos, on_news))

    def _call(self, call: Call[Answer]) -> None:
        greenlet = gevent.spawn(_run_hook, call)
        self._calls.add(greenlet)
        greenlet.rawlink(self._calls.discard)

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
        gevent.killall(list(self._calls))
        thread = ThreadPool(1)  # of our own, since that of the hub would stay
        try:
            thread.apply(self._drive.engine.close)
        except Exception as error:  # noqa: BLE001  whatever it is, the server has stopped
            self._drive.not_closed(error)
        thread.kill()
        self._runtime.close()
        self._is_decided.set()
        self.stopped.set()


def _run_hook(call: Call[Answer]) -> None:
    """In a greenlet of its own, which is killed when the server stops."""
    limit = gevent.Timeout(call.timeout_s)
    try:
        with limit:
            answer = call.hook()
    except (gevent.Timeout, gevent.GreenletExit) as end:
        if isinstance(end, gevent.Timeout) and end is not limit:
            call.failed(RuntimeError(f"a timeout of its own: {end}"))
        else:
            call.given_up()
    except Exception as error:  # noqa: BLE001  the hook's; told there
        call.failed(error)
    else:
        call.answered(answer)


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
