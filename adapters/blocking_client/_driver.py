"""The thread behind a blocking client, and the lock under which everybody speaks to the core.

Whoever asks something of the core does so in a thread of its own, with the lock. What is to be
sent for it is sent by the thread that waits for it, or fills the socket; the driver does the
rest. It sleeps in a selector and is woken, at most once until it looks, by a byte in a socket.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from adapters.blocking_client._link import Link, Pause, open_link
from adapters.stages import AddressError, ServerAddress, why_not_connected
from mqtt_core.client import Client as Core
from mqtt_core.client import ClientClosed, ClientLimits, Consumer, Event, Publication, Settings

if TYPE_CHECKING:
    from ssl import SSLContext

    from mqtt_core.store import Engine

_LINGER_S: Final = 2.0
"""How long the server may take to close its end when the connection is being closed."""


class _Abandoned(Exception):
    """The connection that is being opened is not wanted any more."""


@final
class Driver:
    """One core, its connection, its thread.

    `lock` is held around every call of the core and of `Driver`, `start` and `join` apart.
    """

    __slots__ = (
        "_address",
        "_armed",
        "_engine",
        "_is_due",
        "_is_registered",
        "_limits",
        "_linger_s",
        "_linger_until",
        "_link",
        "_mask",
        "_on_state",
        "_receiver",
        "_selector",
        "_sender",
        "_thread",
        "_tls",
        "_watchers",
        "core",
        "fault",
        "lock",
        "store_fault",
    )

    def __init__(
        self,
        address: ServerAddress,
        settings: Settings,
        tls: SSLContext | None,
        engine: Engine | None,
        on_state: Callable[[Event], None] | None,
    ) -> None:
        self.core = Core(
            settings,
            os.urandom,
            monotonic(),
            has_store=engine is not None,
            last_number=0 if engine is None else engine.last_number,
        )
        self.lock = threading.RLock()
        self.fault: BaseException | None = None
        """What has ended the client, where that is no matter of MQTT."""
        self.store_fault: OSError | None = None
        """Why not all could be stored."""
        self._address: Final = address
        self._engine: Final = engine
        self._limits: Final[ClientLimits] = settings.limits
        self._tls: Final = tls
        self._on_state: Final = on_state
        self._thread: threading.Thread | None = None
        self._link: Link | None = None
        self._linger_s = 0.0
        self._linger_until = 0.0
        self._mask = 0  # what the selector watches the socket for
        self._armed: float | None = None  # the deadline that the driver sleeps for
        self._is_due = True  # it will look without being woken
        self._watchers: list[tuple[Callable[[], bool], threading.Condition]] = []

    # Any thread

    @property
    def is_started(self) -> bool:
        """Whether there is a thread, or was."""
        return self._thread is not None

    @property
    def is_here(self) -> bool:
        """Whether this is the client's own thread, which runs `on_state`."""
        return self._thread is not None and self._thread.ident == threading.get_ident()

    def start(self) -> None:
        """Start the thread. Once."""
        self._selector = selectors.DefaultSelector()
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._selector.register(self._receiver, selectors.EVENT_READ)
        self.core.start(monotonic())
        self._thread = threading.Thread(
            target=self._run, name=f"iotd client {self.core.client_id}", daemon=True
        )
        self._thread.start()

    def leave_store(self) -> None:
        """Let go of a store that nothing has been read from, the thread never having started."""
        if self._engine is not None:
            self._engine.close()

    def join(self) -> None:
        """Wait until the thread has ended, without the lock."""
        if self._thread is not None and not self.is_here:
            self._thread.join()

    def wake(self) -> None:
        """Let the driver look."""
        if not self._is_due and self._thread is not None:
            self._is_due = True
            try:
                self._sender.send(b"\0")
            except OSError:
                pass  # full, so it is readable; or the thread has ended

    def send(self) -> None:
        """Send what there is from this thread, and tell who waits."""
        link = self._link
        if link is not None:
            self._flush(link)
            if not link.is_writable or self.core.wants_close:
                self.wake()
        if self._engine is not None:
            self.wake()  # only its own thread speaks to it
        self._tell()
        deadline = self.core.next_deadline()
        if deadline is not None and (self._armed is None or deadline < self._armed):
            self.wake()

    def wait_for(self, what: Publication | Consumer, give_up_at: float | None) -> None:
        """Wait until there is something to look at. Raises `TimeoutError`."""
        waiter = what.waiter
        if not isinstance(waiter, threading.Condition):
            waiter = threading.Condition(self.lock)
            what.waiter = waiter
        self._wait(waiter, give_up_at)

    def wait_until(self, is_so: Callable[[], bool], give_up_at: float | None) -> None:
        """Wait until `is_so`, as the driver sees it. Raises `TimeoutError`."""
        while not is_so():
            watcher = (is_so, threading.Condition(self.lock))
            self._watchers.append(watcher)
            try:
                self._wait(watcher[1], give_up_at)
            finally:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)

    def _wait(self, condition: threading.Condition, give_up_at: float | None) -> None:
        if self._thread is None:
            raise ClientClosed(
                "the client is not connected yet: `with BlockingClient(...)`"
                if self.fault is None
                else f"the client is closed: {self.fault}"
            )
        if self.is_here:
            raise RuntimeError("`on_state` must not wait: the client stands still until it returns")
        if give_up_at is None:
            condition.wait()
        elif not condition.wait(max(0.0, give_up_at - monotonic())) and monotonic() >= give_up_at:
            raise TimeoutError("nothing came of it in the time given")

    def break_off(self, error: BaseException) -> None:
        """End it without a goodbye: a fault, or something that struck in the midst of the core."""
        if self.fault is None:
            self.fault = error
        if self._link is not None:
            self._link.is_over = True
        self.core.disconnect(monotonic())
        self.wake()

    def _flush(self, link: Link) -> None:
        core = self.core
        now = monotonic()
        while link.is_writable:
            data = core.data_to_send(now)
            if not data:
                return
            link.write(data)
        core.set_writable(False, now)

    def _tell(self) -> None:
        for waiter in self.core.take_told():
            assert isinstance(waiter, threading.Condition)
            waiter.notify_all()
        if self._watchers:
            for is_so, condition in self._watchers:
                if is_so():
                    condition.notify_all()

    # The thread

    def _run(self) -> None:
        engine = self._engine
        try:
            if engine is not None:
                engine.start(self._engine_answered)
            while self._turn():
                pass
        except BaseException as error:
            with self.lock:
                self.break_off(error)
                self._leave()
                self._tell()
            raise  # threading.excepthook tells it
        finally:
            if engine is not None:
                self._close_store(engine)
            with self.lock:
                self._selector.close()
                self._receiver.close()
                self._sender.close()

    def _engine_answered(self) -> None:
        """The engine has completions; from any thread, without the lock."""
        try:
            self._sender.send(b"\0")
        except OSError:
            pass  # as in `wake`

    def _serve_store(self, engine: Engine) -> None:
        """Carry requests to the engine and answers back, until neither has any."""
        core = self.core
        while True:
            requests = core.take_requests()
            for request in requests:
                engine.submit(request)
            completions = engine.take_completions()
            for completion in completions:
                core.completed(completion, monotonic())
            if not requests and not completions:
                return

    def _close_store(self, engine: Engine) -> None:
        """Store what there is to be stored."""
        with self.lock:
            self._serve_store(engine)
        try:
            engine.close()
        except OSError as error:
            self.store_fault = error

    def _turn(self) -> bool:
        """One turn: do what there is to do, then sleep until there is more. False at the end."""
        with self.lock:
            self._is_due = False
            events = self._look()
            has_ended = self.core.has_ended
            timeout_s = self._arm()
        on_state = self._on_state
        if events and on_state is not None:  # without the lock: it may wait for another thread's
            for event in events:
                on_state(event)
        if has_ended:
            return False
        if self.core.wants_transport:
            self._open()
        else:
            self._sleep(timeout_s)
        return True

    def _look(self) -> list[Event]:
        core = self.core
        now = monotonic()
        deadline = core.next_deadline()
        if deadline is not None and deadline <= now:
            core.advance(now)
        if self._engine is not None:
            self._serve_store(self._engine)
        link = self._link
        if link is not None:
            self._serve(link, now)
        events = core.events()
        self._tell()
        return events

    def _serve(self, link: Link, now: float) -> None:
        """Send, and see whether the connection goes on."""
        core = self.core
        self._flush(link)
        if core.is_online:
            self._linger_s = _LINGER_S
        if core.wants_close and not link.is_over:
            if not self._linger_until:
                self._linger_until = now + self._linger_s
            if not core.has_output:
                link.close()
            if now >= self._linger_until:
                link.is_over = True
        if link.is_over:
            self._leave()

    def _leave(self) -> None:
        """The connection is over."""
        link = self._link
        if link is not None:
            self._watch(link, 0)
            self._link = None
            link.abort()
            self.core.eof(link.why, monotonic())

    def _arm(self) -> float | None:
        """Have the selector watch what is of interest; the time to sleep, None for ever."""
        core = self.core
        self._armed = core.next_deadline()
        link = self._link
        if link is not None:
            is_closing = core.wants_close
            if is_closing:
                self._armed = self._linger_until
            mask = 0
            if is_closing or core.wants_read:
                if link.has_more:
                    self._armed = 0.0
                mask |= selectors.EVENT_READ
            if link.has_unsent:
                mask |= selectors.EVENT_WRITE
            self._watch(link, mask)
        return None if self._armed is None else max(0.0, self._armed - monotonic())

    def _watch(self, link: Link, mask: int) -> None:
        if mask != self._mask:
            if not self._mask:
                self._selector.register(link.socket, mask)
            elif mask:
                self._selector.modify(link.socket, mask)
            else:
                self._selector.unregister(link.socket)
            self._mask = mask

    def _sleep(self, timeout_s: float | None) -> None:
        """Wait for the socket, the deadline or a wake-up, and take what has come."""
        ready = self._selector.select(timeout_s)
        with self.lock:
            self._is_due = True
            mask = 0
            for key, events in ready:
                if key.fileobj is self._receiver:
                    self._drain_wakeups()
                else:
                    mask |= events
            link = self._link
            if link is None:
                return
            if mask & selectors.EVENT_WRITE:
                link.go_on()
                if link.is_writable:
                    self.core.set_writable(True, monotonic())
            if mask & selectors.EVENT_READ or (link.has_more and self._mask & selectors.EVENT_READ):
                data = link.receive()
                if data:
                    self.core.receive_data(data, monotonic())

    def _drain_wakeups(self) -> None:
        try:
            while len(self._receiver.recv(64)) == 64:
                pass
        except OSError:
            pass  # nothing more

    # Opening, without the lock: it may take long

    def _open(self) -> None:
        core = self.core
        address = self._address
        with self.lock:
            self._is_due = False
            reference = core.server_reference
        try:
            if reference:
                address = address.elsewhere(reference)
            link = open_link(
                address,
                self._tls,
                self._limits.max_packet_size_bytes,
                self._pause_until(monotonic() + self._limits.connect_timeout_s),
            )
        except _Abandoned:
            return
        except (OSError, AddressError, ImportError) as error:
            with self.lock:
                core.open_failed(why_not_connected(error, address), monotonic())
            return
        with self.lock:
            if not core.wants_transport:
                link.abort()
                return
            self._link = link
            self._linger_until = 0.0
            self._linger_s = 0.0  # what has not begun needs no good end
            now = monotonic()
            core.opened(now)
            if link.early:
                core.receive_data(link.early, now)

    def _pause_until(self, give_up_at: float) -> Pause:
        """Waits for one socket, until then at most, or until the client is closed."""

        def pause(connecting: socket.socket, mask: int) -> None:
            selector = self._selector
            selector.register(connecting, mask)
            try:
                while True:
                    ready = selector.select(max(0.0, give_up_at - monotonic()))
                    if any(key.fileobj is connecting for key, _ in ready):
                        return
                    with self.lock:
                        self._is_due = False
                        self._drain_wakeups()
                        if not self.core.wants_transport:
                            raise _Abandoned
                    if monotonic() >= give_up_at:
                        raise TimeoutError
            finally:
                selector.unregister(connecting)

        return pause

    # Another process

    def forget(self) -> None:
        """In a forked process: the connection and the thread are the parent's, and stay so."""
        if self._thread is None:
            return
        self.lock = threading.RLock()
        self.fault = RuntimeError("the process was forked: make a new client in the new process")
        self.core = Core(Settings(), os.urandom, monotonic())
        self.core.disconnect(monotonic())
        self._thread = None
        self._watchers = []
        self._selector.close()
        self._receiver.close()
        self._sender.close()
        if self._link is not None:
            self._link.forget()
            self._link = None
