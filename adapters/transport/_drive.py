"""One wake-up of a server, the same in every runtime.

What was read has been fed to the core when a turn begins. The turn then advances the core if its
deadline has come, carries requests out and their completions in, flushes each channel that has
something to say once, hands on what there is to log, and arms the one timer. Nothing is written
per packet, and no rule of MQTT is here.

A runtime (`Runtime`) offers a way to call the turn soon, after its next poll, or later; its
connections (`Sendable`) know how to flush themselves.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
from collections import deque
from collections.abc import Callable
from time import monotonic, time
from typing import Final, Protocol, cast, final

from adapters.transport._collector import FULL_COLLECTION_INTERVAL_S, Collector
from adapters.transport._listen import Listener
from mqtt_core.broker import (
    FACT_ERROR,
    FACT_INFO,
    FACT_WARNING,
    SERVER_UNAVAILABLE,
    AllowAll,
    AuthorizeRequest,
    AuthRequest,
    Broker,
    Channel,
    Decision,
    Engine,
    Fact,
    Failed,
    Inside,
    Limits,
    MemoryEngine,
    Policy,
    Request,
)

FLUSH_SLICE: Final = 512
"""Channels flushed before the sockets are polled again (a few milliseconds of system calls)."""

RECEIVE_BYTES: Final = 65_536
"""Bytes asked of a socket at once; 256 KiB would cost six times as much per call."""

GATHER_BYTES: Final = 262_144
"""Bytes handed to a socket in one call, where a channel gives them in several pieces."""

NEVER: Final = float("inf")
TIMER_SLACK_S: Final = 0.001
"""Added to each delay: loops round to milliseconds, and waking early would mean waking twice."""

PROGRESS_INTERVAL_S: Final = 5.0
"""Seconds between looks at whether a full socket takes anything, where no event tells."""

FAULT_PAUSE_S: Final = 1.0
"""After a turn that failed, the next one is not due at once: a fault that lasts must not spin."""

OUT_OF_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)

_logger: Final = logging.getLogger("iotd")

Authenticator = Callable[[AuthRequest | AuthorizeRequest], None]
"""Takes a request and returns at once; the answer comes by `auth_decided`, from any thread."""


class Origin(Protocol):
    """Where connections come from: what they are told by in facts, and how durable a change is
    before a client from there is answered (0 where that is left to the store)."""

    @property
    def url(self) -> str:
        """`tcp://127.0.0.1:1883`, or a word for what is no listener."""

    @property
    def level(self) -> int:
        """One of `LEVELS`, or 0."""


class Cancellable(Protocol):
    """A call that is due later."""

    def cancel(self) -> object:
        """Forget it."""


class Sendable(Protocol):
    """A connection, as the turn sees it: what hangs on `Channel.transport`."""

    def flush(self) -> None:
        """Send what the channel has, then do as its `close` and `wants_read` say."""

    def abort(self) -> None:
        """Close the socket at once."""


class _Flushable(Protocol):
    """A channel, with what the core keeps as a plain object."""

    transport: Sendable | None


class Runtime(Protocol):
    """What an event loop offers to a turn."""

    def time(self) -> float:
        """The present, on the clock that `call_later` goes by: seconds that never go back."""

    def call_soon(self, callback: Callable[[], None], /) -> object:
        """Call after the callbacks of this poll, before the next poll blocks."""

    def call_after_poll(self, callback: Callable[[], None], /) -> object:
        """Call after the sockets have been polled once more, without waiting for them."""

    def call_later(self, delay_s: float, callback: Callable[[], None], /) -> Cancellable:
        """Call after `delay_s` seconds."""

    def call_from_thread(self, callback: Callable[[], None], /) -> object:
        """Call soon; the one way in from another thread or a signal handler."""


@final
class Drive:
    """Owns the core of one server and turns it.

    Whoever feeds the core calls `wake` before, unless `is_due` says that a turn is on its way
    already, and passes `now`: a wake-up has one time.
    """

    def __init__(
        self,
        *,
        limits: Limits | None,
        policy: Policy | None,
        engine: Engine | None,
        authenticator: Authenticator | None,
        on_fact: Callable[[Fact], None] | None,
        version: str = "iotd",
        tunes_collector: bool = False,
    ) -> None:
        limits = Limits() if limits is None else limits
        policy = AllowAll() if policy is None else policy
        self.engine: Final[Engine] = MemoryEngine(limits) if engine is None else engine
        self.broker: Final = Broker(
            limits,
            policy,
            os.urandom,
            monotonic(),
            time(),
            version=version,
            last_number=self.engine.last_number,
            level=self.engine.level,
            index_bytes=self.engine.index_bytes,
        )
        # What the core keeps as a plain object is a `Sendable`.
        self._take_dirty = cast("Callable[[int], list[_Flushable]]", self.broker.take_dirty)
        self.is_due = False
        self._clock: Callable[[], float] = monotonic  # the runtime's, once there is one
        self.now = monotonic()
        self.progress_interval_s: Final = min(PROGRESS_INTERVAL_S, limits.send_timeout_secs / 4)
        self._authenticator: Final = authenticator
        self._on_fact: Final = log_fact if on_fact is None else on_fact
        self._decisions: Final[deque[tuple[int, Decision]]] = deque()
        self._has_answers = False
        self._paused: Final[set[str]] = set()  # listeners that could not accept lately
        self._connections = 0
        self._deadline = NEVER  # the core's
        self._armed_for = NEVER  # the timer's, maybe earlier than the core's by now
        self._timer: Cancellable | None = None
        self._tunes_collector: Final = tunes_collector
        self._full_collection_at = NEVER
        self._is_running = False
        self._is_starting = False
        self._is_stopping = False

    # Life

    def start(
        self,
        runtime: Runtime,
        on_recovered: Callable[[], None],
        on_stopped: Callable[[], None],
    ) -> None:
        """Turn on `runtime` from now on, and read back what is stored first.

        `on_recovered` is called once clients can be served, `on_stopped` after the last turn,
        each once. Where the store cannot be read, or the server is shut down before it is, only
        the latter is.
        """
        self._runtime = runtime
        self._clock = runtime.time
        self._on_recovered = on_recovered
        self.call_soon = runtime.call_soon
        self.call_later = runtime.call_later
        self._on_stopped = on_stopped
        self._is_running = True
        self._is_starting = True
        if self._tunes_collector:
            self._full_collection_at = self._clock() + FULL_COLLECTION_INTERVAL_S
            Collector.hold()
        self.engine.start(self.engine_answered)
        self.wake()
        self.broker.recover(self.now)

    @property
    def is_serving(self) -> bool:
        """Whether clients are served: what is stored is here, and nobody has asked for an end."""
        return self._is_running and not (self._is_starting or self._is_stopping)

    def shut_down(self, mode: int) -> None:
        """Let the core end what is open; `on_stopped` follows. A stronger mode may come later."""
        self.wake()
        self._is_stopping = True
        self.broker.shut_down(mode, self.now)

    def _go_on(self) -> None:
        """One step of a life: the start is over, or the end has come."""
        if self._is_starting:
            if self.broker.recovery_failure:
                self._is_stopping = True
            elif not self.broker.is_recovering:
                self._is_starting = False
                self._on_recovered()
        if self._is_stopping:
            self._stop_if_done()

    def _stop_if_done(self) -> None:
        if self._connections or not self.broker.is_stopped:
            return
        for request in self.broker.take_requests():  # where its time was over before it was ours
            if not isinstance(request, (AuthRequest, AuthorizeRequest)):
                self.engine.submit(request)
        self._is_running = False
        self._is_stopping = False
        if self._timer is not None:
            self._timer.cancel()
        if self._tunes_collector:
            Collector.release()
        self._on_stopped()

    def not_closed(self, error: Exception) -> None:
        """Report that the engine could not be closed in order."""
        self.report(Fact("store.not_closed", FACT_ERROR, detail=str(error), error=error))

    # Connections

    def open(self, origin: Origin, peer: str, connection: Sendable) -> Channel:
        """A channel for a new connection. Each `open` is followed by one `close`."""
        self.wake()
        channel = self.broker.open(origin.url, peer, self.now, origin.level)
        channel.transport = connection
        self._connections += 1
        return channel

    def close(self, channel: Channel, cause: int) -> None:
        """The socket of a channel is gone."""
        self.wake()
        self._connections -= 1
        channel.transport = None
        channel.eof(cause, self.now)

    # Clients inside the program

    def attach(self, connection: Sendable) -> Inside:
        """A client inside the program; `close` its channel once it has ended."""
        self.wake()
        inside = self.broker.attach(self.now)
        inside.channel.transport = connection
        self._connections += 1
        return inside

    def hand_in(self) -> None:
        """A client inside the program has sent something: it is handled in the next turn."""
        self.wake()
        self._deadline = self.now

    # From outside, from any thread, also before the start and after the stop

    def auth_decided(self, token: int, decision: Decision) -> None:
        """An authenticator's answer."""
        self._decisions.append((token, decision))
        self.engine_answered()

    def engine_answered(self) -> None:
        """The engine has completions."""
        self._has_answers = True
        self.call_from_thread(self.wake)

    def rules_changed(self) -> None:
        """The policy answers differently from now on."""
        self.call_from_thread(self.broker.rules_changed)

    def call_from_thread(self, callback: Callable[[], None]) -> None:
        """Call on the server's own thread, unless it has stopped."""
        if self._is_running:
            try:
                self._runtime.call_from_thread(callback)
            except RuntimeError:  # the loop was closed meanwhile
                if self._is_running:
                    raise

    # The turn

    def wake(self) -> None:
        """Something is to be fed: a turn once the callbacks of this poll are through."""
        if not self.is_due:
            self.now = self._clock()
            self.call_soon(self.turn)
            self.is_due = True  # last, lest an interrupt between the two leaves no turn to come

    def turn(self) -> None:
        """See the module: advance, answers, flush, facts, timer."""
        broker = self.broker
        self.is_due = False
        now = self.now
        try:
            if now >= self._deadline:
                broker.advance(now)
            if broker.has_requests or self._has_answers:
                self._carry(now)
            self.flush()
            if broker.has_facts:
                for fact in broker.take_facts():
                    self.report(fact)
            deadline = broker.next_deadline()
            self._deadline = NEVER if deadline is None else deadline
            if self._deadline <= now or broker.has_dirty or broker.has_requests:
                # Unfinished work: the sockets get their turn first.
                self._runtime.call_after_poll(self._turn_again)
                self.is_due = True
            elif self._deadline < self._armed_for:
                self._arm(self._deadline, now)
        except Exception as error:  # noqa: BLE001  the core's fault must not end the loop
            self.fault("a turn failed", error)
            self._deadline = now + FAULT_PAUSE_S
            self._arm(self._deadline, now)
        if self._is_starting or self._is_stopping:
            self._go_on()

    def _turn_again(self) -> None:
        self.now = self._clock()
        self.turn()

    def flush(self) -> None:
        """Flush the next slice of channels that have something to say."""
        for channel in self._take_dirty(FLUSH_SLICE):
            connection = channel.transport
            if connection is not None:
                try:
                    connection.flush()
                except Exception as error:  # noqa: BLE001  one connection's fault stays its own
                    self.fault("a flush failed", error)
                    connection.abort()

    def _carry(self, now: float) -> None:
        """Requests out, answers in, until the core has nothing more to ask."""
        broker = self.broker
        engine = self.engine
        self._has_answers = False  # set again by what is answered from now on
        while self._decisions:
            token, decision = self._decisions.popleft()
            broker.auth_decided(token, decision, now)
        while True:
            for request in broker.take_requests():
                try:
                    if not isinstance(request, (AuthRequest, AuthorizeRequest)):
                        engine.submit(request)
                    elif self._authenticator is not None:
                        self._authenticator(request)
                    else:
                        raise RuntimeError("the policy asks outside, but there is no authenticator")
                except Exception as error:  # noqa: BLE001  what asked is told that it failed
                    self.fault("a request could not be carried out", error)
                    self._refuse(request, error, now)
            for completion in engine.take_completions():
                broker.completed(completion, now)
            if not broker.has_requests:
                return

    def _refuse(
        self, request: Request | AuthRequest | AuthorizeRequest, error: Exception, now: float
    ) -> None:
        if isinstance(request, (AuthRequest, AuthorizeRequest)):
            self.broker.auth_decided(request.token, Decision(SERVER_UNAVAILABLE), now)
        else:
            self.broker.completed(Failed(request.request_id, repr(error)), now)

    def _arm(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = at
        self._timer = self.call_later(at - now + TIMER_SLACK_S, self._on_timer)

    def _on_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_for = NEVER
        self.wake()
        if self.now >= self._full_collection_at:
            gc.collect()
            self._full_collection_at = self.now + FULL_COLLECTION_INTERVAL_S

    # What there is to log

    def report(self, fact: Fact) -> None:
        """Hand on a fact. What fails there is logged and has no other effect."""
        try:
            self._on_fact(fact)
        except Exception:
            _logger.exception("on_fact failed on %s", fact.name)

    def fault(self, what: str, error: Exception) -> None:
        """Report an exception that should not have happened, with its traceback."""
        self.report(Fact("fault", FACT_ERROR, cause=what, detail=repr(error), error=error))

    def accept_failed(self, listener: Listener, error: OSError) -> None:
        """Accepting pauses; reported once, until all who waited have been accepted."""
        if listener.url in self._paused:
            return
        self._paused.add(listener.url)
        if error.errno in OUT_OF_DESCRIPTORS:
            advice = "raise the limit (ulimit -n) or lower max_connections"
        else:
            advice = "see whether the machine is out of memory"
        detail = f"{error.strerror}: {advice}; accepting goes on by itself when it can"
        self.report(
            Fact("accept.paused", FACT_WARNING, listener=listener.url, detail=detail, error=error)
        )

    def accept_recovered(self, listener: Listener) -> None:
        """Nobody waits to be accepted any more."""
        if listener.url in self._paused:
            self._paused.discard(listener.url)
            self.report(Fact("accept.resumed", FACT_INFO, listener=listener.url))


def gather(channel: Channel, pieces: list[bytes]) -> list[bytes]:
    """`pieces` and what the channel has behind them, up to about `GATHER_BYTES`."""
    size = sum(map(len, pieces))
    while size < GATHER_BYTES:
        piece = channel.data_to_send()
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return pieces


def log_fact(fact: Fact) -> None:
    """What a server does with facts if it is given no `on_fact`: the standard library's logging."""
    _logger.log(fact.severity, "%r", fact, exc_info=fact.error)
