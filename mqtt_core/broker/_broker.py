"""The broker: the contract between the pure core and its adapters.

In: `recover`, `open`, the channels' own verbs, `advance`, `auth_decided`, `completed`,
`shut_down`. Out: `take_dirty`, `take_requests`, `take_facts`, `next_deadline`. No call is
re-entrant, none raises for anything a client or an engine does, and none takes long: what is
wide goes on in later turns, which `next_deadline` asks for. Times are seconds of one monotonic
clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from mqtt_core._codes import SERVER_UNAVAILABLE
from mqtt_core._connection import Connection
from mqtt_core._errors import ConnectionRefused, RemoteProtocolError
from mqtt_core._levels import LEVEL_FSYNC
from mqtt_core._message import make_message
from mqtt_core._packets import Connect
from mqtt_core._state import SERVER
from mqtt_core._store import Completion, Failed, Request
from mqtt_core.broker._auth import AuthorizeRequest, AuthRequest, Decision, Policy
from mqtt_core.broker._authorizing import Authorizer
from mqtt_core.broker._bursts import Bursts
from mqtt_core.broker._causes import (
    FAULT,
    PROTOCOL_VIOLATION,
    QUOTA,
    TOO_MANY_HALF_CONNECTED,
    UNDECIDED,
    cause_name,
)
from mqtt_core.broker._channel import CLOSE_NO, Channel
from mqtt_core.broker._choosing import Choosing
from mqtt_core.broker._committing import Committing
from mqtt_core.broker._connecting import Connecting
from mqtt_core.broker._deadlines import Timed
from mqtt_core.broker._delivery import Delivery
from mqtt_core.broker._endings import EXCHANGE_DEADLINE, Endings
from mqtt_core.broker._exchanging import Exchanging
from mqtt_core.broker._facts import FACT_ERROR, Fact, shown
from mqtt_core.broker._gating import Gating
from mqtt_core.broker._incoming import Incoming
from mqtt_core.broker._inside import INSIDE, Inside
from mqtt_core.broker._limits import Limits
from mqtt_core.broker._publishing import FanOut, Publishing
from mqtt_core.broker._queues import Queues
from mqtt_core.broker._recovery import Recovery
from mqtt_core.broker._room import Room
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._sessions import Sessions
from mqtt_core.broker._shared import call_back
from mqtt_core.broker._stats import Stats, SysTopics
from mqtt_core.broker._subscribing import Subscribing
from mqtt_core.broker._wills import Wills
from mqtt_core.broker._workspace import WAIT_NO, Workspace

RUNNING: Final = 0
GRACEFUL: Final = 1
IMMEDIATE: Final = 2

_SYS_DEADLINE: Final = 1
_DUE_AT_ONCE: Final = 1_000  # deadlines handled before others get their turn
_TURNS_PER_POLL: Final = 4  # of deliveries for all that have input at the same time
_MOST_FILTERS: Final = 16  # times what is served, before a packet is refused as a whole
_PAGE_ROOM: Final = 2_048  # messages asked of the engine for one slice of channels
_INSIDE_ID_BYTES: Final = 16
_LEAST_SHARE: Final = 200  # deliveries for each piece of work in a turn, however many there are


@final
class SysTimer(Timed):
    """Updates the `$SYS` topics."""

    __slots__ = ("_broker",)

    def __init__(self, broker: Broker) -> None:
        self._broker: Final = broker

    def on_deadline(self, kind: int, now: float) -> None:
        """Publish what has changed."""
        self._broker.publish_sys(now)


@final
class Broker:
    """An MQTT broker without I/O.

    `entropy(n)` gives n bytes that nobody can guess, `now` is the present on the monotonic
    clock, `wall` in unix seconds, `version` the text of `$SYS/broker/version`; `last_number`,
    `level` and `index_bytes` are those of the storage engine.
    """

    __slots__ = (
        "stats",
        "limits",
        "_ws",
        "_sending",
        "_delivery",
        "_queues",
        "_bursts",
        "_committing",
        "_publishing",
        "_sessions",
        "_endings",
        "_authorizer",
        "_connecting",
        "_exchanging",
        "_incoming",
        "_recovery",
        "_sys",
        "_mode",
        "_stop_at",
    )

    def __init__(
        self,
        limits: Limits,
        policy: Policy,
        entropy: Callable[[int], bytes],
        now: float,
        wall: float,
        version: str = "iotd",
        last_number: int = 0,
        level: int = LEVEL_FSYNC,
        index_bytes: int | None = None,
    ) -> None:
        ws = Workspace(limits, policy, entropy, now, wall, last_number, level, index_bytes)
        self._ws: Final = ws
        self.stats: Final[Stats] = ws.stats
        self.limits: Final = limits
        self._sending: Final = Sending(ws)
        room = Room(ws)
        choosing = Choosing(self._sending, room)
        self._delivery: Final = Delivery(ws, self._sending, room, choosing)
        self._queues: Final = Queues(ws, self._delivery, self._sending)
        self._bursts: Final = Bursts(ws, self._sending)
        self._authorizer: Final = Authorizer(ws)
        self._committing: Final = Committing(ws, self._delivery, self._sending)
        self._publishing: Final = Publishing(
            ws, self._delivery, room, choosing, self._committing, self._authorizer
        )
        self._sessions: Final = Sessions(
            ws, self._delivery, choosing, self._queues, Wills(ws, self._publishing)
        )
        self._endings: Final = Endings(ws, self._sessions, self._publishing)
        self._connecting: Final = Connecting(
            ws, self._sessions, self._sending, self._authorizer, self._endings
        )
        self._exchanging: Final = Exchanging(ws, self._connecting, self._endings)
        gating = Gating(ws, self._committing)
        self._incoming: Final = Incoming(
            ws,
            self._sending,
            self._publishing,
            Subscribing(ws, self._bursts, self._authorizer, gating),
            gating,
            self._connecting,
            self._exchanging,
            self._endings,
        )
        self._recovery: Final = Recovery(ws, self._sessions, self._publishing)
        self._sys: Final = SysTopics(ws.stats, version, now)
        self._mode = RUNNING
        self._stop_at = 0.0
        if limits.sys_interval_secs:
            ws.deadlines.arm(now, _SYS_DEADLINE, SysTimer(self))

    # The beginning

    def recover(self, now: float) -> None:
        """Read back what is stored. Wanted once, before the first connection is opened, for an
        engine that may have something; `is_recovering` tells when that is over."""
        self._ws.now = now
        self._recovery.begin()

    @property
    def is_recovering(self) -> bool:
        """Whether the broker is not ready for clients yet; one that stops before it is ready, or
        because of `recovery_failure`, never is."""
        return not self._recovery.is_over

    @property
    def recovery_failure(self) -> str:
        """Why the store could not be read back, so that the broker has stopped; empty if it
        could."""
        return self._recovery.failure

    # Connections

    def open(self, listener: str, peer: str, now: float, level: int = 0) -> Channel:
        """A connection has been accepted. Look at `close`: it may be one too many. `level` says how
        durable a change is before its client is answered; 0 is the level of the broker."""
        ws = self._ws
        ws.now = now
        channel = self._new_channel(listener, peer, level or ws.level)
        is_half_full = ws.stats.half_connected >= ws.limits.max_half_connected
        channel.is_over_limit = ws.stats.connections >= ws.limits.max_connections
        self._endings.opened(channel)
        if self._mode != RUNNING or self.is_recovering:
            self._endings.shut_down(channel, True)
        elif is_half_full:
            self._endings.end(channel, TOO_MANY_HALF_CONNECTED)
        return channel

    def _new_channel(self, listener: str, peer: str, level: int) -> Channel:
        ws = self._ws
        limits = ws.limits
        connection = Connection(
            SERVER,
            topics=ws.topics,
            writers=ws.writers,
            max_packet_size_bytes=limits.max_packet_size_bytes,
            max_user_properties=limits.max_user_properties,
            max_property_bytes=limits.max_property_bytes,
            max_alias_bytes=limits.max_alias_bytes,
            max_filters=limits.max_filters_per_packet * _MOST_FILTERS,
            now=ws.now,
        )
        return Channel(
            self, ws.next_id(), listener, peer, connection, limits.linger_limit_bytes, level
        )

    def attach(self, now: float) -> Inside:
        """A client inside the program, connected already; `has_ended` where the broker serves
        nobody. Unlike the other calls this one may be made within another, by a policy."""
        ws = self._ws
        ws.now = now
        channel = self._new_channel(INSIDE, INSIDE, ws.level)
        client_id = "inside-" + ws.entropy(_INSIDE_ID_BYTES).hex()  # which nobody can take over
        inside = Inside(self, ws, channel, client_id)
        channel.inside = inside
        self._endings.opened(channel)
        if self._mode != RUNNING or self.is_recovering:
            self._endings.shut_down(channel, True)
            return inside
        channel.connection.feed(inside.first_bytes(), now)
        connect = channel.connection.read_packet()
        assert isinstance(connect, Connect)
        self._connecting.admit(channel, connect)
        inside.receive()
        return inside

    def receive(self, channel: Channel, chunk: bytes, now: float) -> None:
        """`Channel.receive_data`."""
        ws = self._ws
        if now != ws.now:  # the adapter has polled its sockets again
            ws.now = now
            ws.poll_left = ws.limits.turn_deliveries * _TURNS_PER_POLL
        ws.stats.bytes_received += len(chunk)
        if channel.close != CLOSE_NO:
            self._endings.discard(channel, len(chunk))
            return
        channel.connection.feed(chunk, now)
        if channel.wait == WAIT_NO and not channel.is_queued:
            share = max(_LEAST_SHARE, min(ws.limits.turn_deliveries, ws.poll_left))
            ws.allowance = share
            if not self.run_input(channel):
                ws.queue_work(channel)
            ws.poll_left -= share - ws.allowance
        else:
            if channel.wants_read:
                channel.wants_read = False
                ws.mark_dirty(channel)
            self._count_input(channel)
        if ws.doomed:
            self._close_doomed()

    def _count_input(self, channel: Channel) -> None:
        """Keep packets that have arrived in part within their total."""
        ws = self._ws
        size = channel.connection.buffer.partial_bytes
        if size == channel.buffered:
            return
        ws.input_bytes += size - channel.buffered
        channel.buffered = size
        if ws.input_bytes > ws.limits.total_input_bytes:
            largest = channel
            for other in self._endings.channels.values():
                if other.buffered > largest.buffered:
                    largest = other
            ws.doomed.append((largest, QUOTA))

    def run_input(self, channel: Channel) -> bool:
        """Handle packets until there are no more, the channel has to wait, or its turn is
        over; False when it is over."""
        is_done = self._handle_input(channel)
        self._count_input(channel)
        return is_done

    def _handle_input(self, channel: Channel) -> bool:
        ws = self._ws
        flush_at = ws.limits.turn_output_bytes
        connection = channel.connection
        stats = ws.stats
        try:
            while channel.wait == WAIT_NO and channel.close == CLOSE_NO:
                packet = channel.held_packet
                if packet is None:
                    packet = connection.read_packet()
                    if packet is None:
                        break
                    stats.packets_received += 1
                else:
                    channel.held_packet = None
                if not self._incoming.handle(channel, packet):
                    channel.held_packet = packet
                elif channel.verdicts is not None and channel.attempt is None:
                    channel.verdicts = None
                if ws.doomed:
                    self._close_doomed()  # nothing behind what ends a connection takes effect
                ws.allowance -= 1
                if ws.allowance < 0 or ws.unflushed > flush_at:
                    if connection.buffer.has_unread and channel.close == CLOSE_NO:
                        self._update_reading(channel)
                        return channel.wait != WAIT_NO
        except Exception as error:  # noqa: BLE001 - the fault barrier
            self._caught(channel, error)
        if channel.gone:
            if channel.wait == WAIT_NO:
                self._lose(channel, channel.gone)
            return True
        self._update_reading(channel)
        return True

    def _caught(self, channel: Channel, error: Exception) -> None:
        """Handling input has raised something: a refusal, a violation, or a fault."""
        try:
            if isinstance(error, ConnectionRefused):
                self._connecting.refuse(channel, error.reason, error.message)
            elif isinstance(error, RemoteProtocolError):
                self._violated(channel, error)
            else:
                self._fault(channel, error)
        except Exception as another:  # noqa: BLE001 - the fault barrier
            self._fault(channel, another)

    def _violated(self, channel: Channel, error: RemoteProtocolError) -> None:
        """The client broke MQTT: its connection ends, and no other.  [v3 MQTT-4.8.0-1]"""
        if error.offset < 0:
            buffer = channel.connection.buffer
            error.offset = buffer.stream_offset(int(buffer.start))
        self._endings.end(
            channel,
            PROTOCOL_VIOLATION,
            statement=error.statement,
            offset=error.offset,
            detail=error.message,
            reason=error.reason,
        )

    def _fault(self, channel: Channel | None, error: Exception) -> None:
        """An exception of ours: the connection it came up in ends, and no other.

        One that comes up while a connection is ending, or in none, is told by itself.
        """
        ws = self._ws
        ws.is_bulk = False
        self._delivery.resting = None
        if channel is not None and channel.close == CLOSE_NO:
            try:
                self._endings.end(channel, FAULT, detail=shown(error), error=error)
                return
            except Exception as another:  # noqa: BLE001 - the fault barrier
                error = another
        ws.stats.faults += 1
        ws.tell("fault", channel, severity=FACT_ERROR, detail=shown(error), error=error)

    def _update_reading(self, channel: Channel) -> None:
        """Reading pauses while input waits for its turn or for a decision."""
        wants_read = not channel.connection.buffer.has_unread
        if wants_read != channel.wants_read and channel.close == CLOSE_NO:
            channel.wants_read = wants_read
            self._ws.mark_dirty(channel)

    def end_transport(self, channel: Channel, cause: int, now: float) -> None:
        """`Channel.eof`. Packets that had arrived before and wait for their turn, a verdict or
        the store still count, as they would on a connection that is read to its end."""
        self._ws.now = now
        if channel.session is not None and channel.close == CLOSE_NO and channel.has_input:
            if channel.wait != WAIT_NO or channel.is_queued:
                channel.gone = cause
                channel.accepts = False
                channel.is_writable = False
                channel.output.clear()
                return
        self._lose(channel, cause)
        self._close_doomed()

    def _lose(self, channel: Channel, cause: int) -> None:
        try:
            self._endings.transport_ended(channel, cause)
        except Exception as error:  # noqa: BLE001 - the fault barrier
            self._fault(channel, error)

    def set_writable(self, channel: Channel, flag: bool, now: float) -> None:
        """`Channel.set_writable`."""
        self._ws.now = now
        if channel.gone or not channel.is_open:
            return
        if flag == channel.is_writable:
            channel.blocked_at = now
            return
        channel.is_writable = flag
        if not flag:
            channel.accepts = False
            self._endings.blocked(channel)
            return
        self.drained(channel)
        self._ws.mark_dirty(channel)

    def drained(self, channel: Channel) -> None:
        """The output of a channel is with its socket: messages go straight to it again."""
        session = channel.session
        if session is None or channel.close != CLOSE_NO:
            return
        if not channel.output.size_bytes:
            channel.is_full = False
            channel.unread_answers = 0
        if not channel.has_room:
            return
        if session.has_waiting:
            self._ws.mark_dirty(channel)  # what waits goes first
        queue = session.queue
        channel.accepts = queue is None or not queue.has_qos_0
        if session.aside is not None:
            call_back(session)

    def on_channel_deadline(self, channel: Channel, kind: int, now: float) -> None:
        """`Channel.on_deadline`."""
        if kind == EXCHANGE_DEADLINE:
            self._exchanging.timed_out(channel)
        else:
            self._endings.on_deadline(channel, kind)

    # Decisions and completions

    def auth_decided(self, token: int, decision: Decision, now: float) -> None:
        """The answer to an `AuthRequest` or `AuthorizeRequest`; a late one is ignored."""
        ws = self._ws
        ws.now = now
        channel = ws.asking.pop(token, None)
        if channel is None or channel.close != CLOSE_NO:
            return
        try:
            authentication = channel.authentication
            if authentication is not None and authentication.token == token:
                self._exchanging.decided(channel, authentication, decision)
            elif channel.asked is not None and decision.reason == SERVER_UNAVAILABLE:
                self._end_undecided(channel)
            elif channel.asked is not None:
                self._authorizer.decided(channel, decision)
                channel.wait = WAIT_NO
                attempt = channel.attempt
                if attempt is not None:
                    self._connecting.claim(attempt)
                else:
                    ws.queue_work(channel)
            else:
                self._connecting.decide(channel, decision)
        except Exception as error:  # noqa: BLE001 - the fault barrier
            self._caught(channel, error)
        self._close_doomed()

    def _end_undecided(self, channel: Channel) -> None:
        """Whoever was asked about a topic has failed. That is no verdict which could be told, and
        remembered: the client is to come back, and is asked about again."""
        if channel.attempt is not None:
            self._connecting.refuse(channel, SERVER_UNAVAILABLE, cause_name(UNDECIDED))
        else:
            self._endings.end(channel, UNDECIDED)

    def completed(self, completion: Completion, now: float) -> None:
        """An engine has answered a request; an answer to no request is ignored."""
        ws = self._ws
        ws.now = now
        pending = ws.pending.pop(completion.request_id, None)
        if pending is None:
            return
        try:
            if isinstance(completion, Failed):
                pending.failed(completion)
            else:
                pending.done(completion)
        except Exception as error:  # noqa: BLE001 - the fault barrier
            self._fault(None, error)
        self._forget_wills()
        if self._recovery.failure:
            self.shut_down(IMMEDIATE, now)
        self._close_doomed()

    def _forget_wills(self) -> None:
        ws = self._ws
        while ws.refused_wills:
            self._sessions.refused_will(ws.refused_wills.pop())

    def rules_changed(self) -> None:
        """What was remembered of the policy's answers is not right any more."""
        for session in self._sessions.by_client.values():
            session.verdicts = None

    # Time and turns

    def next_deadline(self) -> float | None:
        """When `advance` is to be called; not later than now if work is left to do."""
        ws = self._ws
        if ws.work:
            return ws.now
        at = None if self._recovery.holds_time else ws.deadlines.next_at()
        if self._mode != RUNNING and not self.is_stopped:
            return self._stop_at if at is None else min(at, self._stop_at)
        return at

    def advance(self, now: float) -> None:
        """Do what is due and give each piece of unfinished work a turn."""
        ws = self._ws
        ws.now = now
        count = len(ws.work)
        share = max(_LEAST_SHARE, ws.limits.turn_deliveries // count) if count else 0
        for _ in range(count):
            work = ws.work.popleft()
            work.is_queued = False
            ws.allowance = share
            try:
                is_done = work.run()
            except Exception as error:  # noqa: BLE001 - the fault barrier
                is_done = True
                if isinstance(work, FanOut):
                    self._give_up(work, error)
                else:
                    self._fault(_channel_of(work), error)
            if not is_done:
                ws.queue_work(work)
            if ws.doomed:
                self._close_doomed()
        for _ in range(0 if self._recovery.holds_time else _DUE_AT_ONCE):
            deadline = ws.deadlines.pop_due(now)
            if deadline is None:
                break
            owner = deadline.owner
            assert owner is not None  # what has been cancelled is never due
            deadline.owner = None
            try:
                owner.on_deadline(deadline.kind, now)
            except Exception as error:  # noqa: BLE001 - the fault barrier
                self._fault(_channel_of(owner), error)
        self._forget_wills()
        self._recovery.look()
        if self._mode == GRACEFUL and now >= self._stop_at:
            self._end_all(True)
        self._close_doomed()

    def _give_up(self, fan_out: FanOut, error: Exception) -> None:
        """A fan-out has failed; what was to come behind it comes all the same."""
        channel = fan_out.channel
        if channel is not None:
            channel.fan_out = None
        self._fault(channel, error)
        try:
            self._publishing.give_up(fan_out)
        except Exception as another:  # noqa: BLE001 - the fault barrier
            self._fault(None, another)

    def _close_doomed(self) -> None:
        ws = self._ws
        while ws.doomed:
            doomed = ws.doomed
            ws.doomed = []
            for channel, cause in doomed:
                try:
                    self._endings.end(channel, cause)
                except Exception as error:  # noqa: BLE001 - the fault barrier
                    self._fault(channel, error)

    def publish_sys(self, now: float) -> None:
        """Publish the `$SYS` topics that have changed, and arm the next time."""
        ws = self._ws
        interval = ws.limits.sys_interval_secs
        ws.deadlines.arm(now + interval, _SYS_DEADLINE, SysTimer(self))
        router = ws.router
        own = router.count - router.shared_count
        retained = ws.stats.retained_messages
        memory = ws.undelivered.count
        for topic, payload in self._sys.changes(now, own, router.shared_count, retained, memory):
            message = make_message(topic, payload)
            ws.sys_retained.put(message)
            self._publishing.publish(message)

    # Output

    @property
    def has_dirty(self) -> bool:
        """Whether `take_dirty` has anything."""
        return bool(self._ws.dirty) or bool(self._ws.dirty_bulk)

    @property
    def must_flush(self) -> bool:
        """Whether a channel's output is full, so that it should be flushed at once."""
        return self._ws.must_flush

    def take_dirty(self, limit: int) -> list[Channel]:
        """At most `limit` channels that have something new for their adapter: output, or a
        change of `wants_read` or `close`. Those of wide fan-outs come behind the others."""
        ws = self._ws
        ws.must_flush = False
        taken = ws.dirty
        if len(taken) > limit:
            ws.dirty = taken[limit:]
            taken = taken[:limit]
        else:
            ws.dirty = []
            bulk = ws.dirty_bulk
            while bulk and len(taken) < limit:
                taken.append(bulk.popleft())
        ws.page_room = _PAGE_ROOM
        ws.poll_left = ws.limits.turn_deliveries * _TURNS_PER_POLL
        for channel in taken:
            channel.is_dirty = False
            session = channel.session
            if session is not None and channel.has_room and session.has_waiting:
                channel.is_dirty = True  # what is sent here is taken right now
                self._pump(channel)
                channel.is_dirty = False
            if session is not None and session.aside is not None:
                call_back(session)
            if channel.output.writer is not None:
                ws.unflushed -= channel.output.size_bytes
        if not ws.dirty and not ws.dirty_bulk:
            ws.unflushed = 0
        if ws.put_off:
            ws.is_bulk = True
            for channel in ws.put_off:
                ws.mark_dirty(channel)
            ws.is_bulk = False
            ws.put_off = []
        return taken

    def _pump(self, channel: Channel) -> None:
        session = channel.session
        assert session is not None
        try:
            self._sending.resend(session, channel)
            if session.resend is None:
                self._queues.pump(session, channel)
                self._bursts.pump(session, channel)
        except Exception as error:  # noqa: BLE001 - the fault barrier
            self._fault(channel, error)

    @property
    def has_requests(self) -> bool:
        """Whether `take_requests` has anything."""
        return bool(self._ws.requests)

    def take_requests(self) -> list[Request | AuthRequest | AuthorizeRequest]:
        """What is asked of the storage engine and of an outside authenticator, in order."""
        requests = self._ws.requests
        self._ws.requests = []
        return requests

    @property
    def has_facts(self) -> bool:
        """Whether `take_facts` has anything."""
        return bool(self._ws.facts)

    def take_facts(self) -> list[Fact]:
        """What has happened, for logs."""
        facts = self._ws.facts
        self._ws.facts = []
        return facts

    # The end

    def shut_down(self, mode: int, now: float) -> None:
        """Stop: `GRACEFUL` sends what is owed first, `IMMEDIATE` closes at once. A stronger
        mode may follow a weaker one; repeating one does nothing."""
        if mode <= self._mode:
            return
        self._ws.now = now
        self._mode = mode
        self._stop_at = now + self.limits.shutdown_timeout_secs
        self._recovery.abandon()
        if mode == GRACEFUL:
            self._hear_out_the_inside()
        self._end_all(mode == IMMEDIATE)

    def _hear_out_the_inside(self) -> None:
        """What the program has published before it asked for the end still counts."""
        ws = self._ws
        ws.allowance = ws.limits.turn_deliveries
        for channel in list(self._endings.channels.values()):
            if channel.inside is not None:
                channel.inside.run()

    def _end_all(self, at_once: bool) -> None:
        for channel in list(self._endings.channels.values()):
            try:
                self._endings.shut_down(channel, at_once)
            except Exception as error:  # noqa: BLE001 - the fault barrier
                self._fault(channel, error)

    @property
    def is_stopped(self) -> bool:
        """Whether the shutdown is complete: no channel is open, and the engine has answered."""
        ws = self._ws
        if self._mode == RUNNING or self._endings.channels:
            return False
        return not (ws.pending or ws.requests) or ws.now >= self._stop_at

    @property
    def session_count(self) -> int:
        """Sessions, attached or detached."""
        return len(self._sessions.by_client)

    @property
    def subscription_count(self) -> int:
        """Subscriptions of all sessions."""
        return self._ws.router.count


def _channel_of(owner: Timed) -> Channel | None:
    return owner if isinstance(owner, Channel) else None
