"""The registry of sessions: who is attached, who is away, and when a session ends (4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from mqtt_core._flow import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
)
from mqtt_core._packets import Will
from mqtt_core._particulars import of_retained
from mqtt_core._store import (
    EndSession,
    Operation,
    RetireSession,
    SaveExpiry,
    SessionRecord,
    StoredWill,
)
from mqtt_core.broker._channel import Channel
from mqtt_core.broker._choosing import Choosing
from mqtt_core.broker._deadlines import Timed
from mqtt_core.broker._delivery import Delivery
from mqtt_core.broker._handover import Handing
from mqtt_core.broker._queues import Queues
from mqtt_core.broker._session import RetainedBurst, Session
from mqtt_core.broker._shared import call_back
from mqtt_core.broker._wills import WILL_DUE, Wills
from mqtt_core.broker._work import Work
from mqtt_core.broker._workspace import Workspace

if TYPE_CHECKING:
    from mqtt_core.broker._attempt import Attempt

EXPIRY: Final = 1
_PACKET_IDENTIFIERS: Final = 65_536
_UNSUBSCRIBED_AT_ONCE: Final = 500


@final
class SessionTimer(Timed):
    """Ends a detached session when its time is over, and publishes its will when that is due."""

    __slots__ = ("_sessions", "_session")

    def __init__(self, sessions: Sessions, session: Session) -> None:
        self._sessions: Final = sessions
        self._session: Final = session

    def on_deadline(self, kind: int, now: float) -> None:
        """The time is over."""
        if kind == EXPIRY:
            self._sessions.expire(self._session, now)
        else:
            self._sessions.will_due(self._session, now)


@final
class Unsubscribing(Work):
    """Takes the subscriptions of a session that has ended out of the router, some in each turn."""

    __slots__ = ("_ws", "_session", "_left")

    def __init__(self, workspace: Workspace, session: Session) -> None:
        super().__init__()
        self._ws: Final = workspace
        self._session: Final = session
        self._left: Final[list[bytes]] = list(session.subscriptions)

    def run(self) -> bool:
        """Take out the next ones; True when none is left."""
        left = self._left
        for _ in range(min(len(left), _UNSUBSCRIBED_AT_ONCE)):
            self._ws.router.unsubscribe(self._session, left.pop())
        return not left


@final
class Sessions:
    """Sessions by client identifier."""  # [v3 MQTT-3.1.3-2]

    __slots__ = ("by_client", "claims", "unborn", "wills", "_ws", "_delivery", "_handing")

    def __init__(
        self,
        workspace: Workspace,
        delivery: Delivery,
        choosing: Choosing,
        queues: Queues,
        wills: Wills,
    ) -> None:
        self.by_client: Final[dict[str, Session]] = {}
        self.claims: Final[dict[str, Attempt]] = {}  # the newest attempt of each client
        # Keys of sessions stored for attempts without CONNACK yet: the store has one, if any.
        self.unborn: Final[dict[str, set[int]]] = {}
        self._ws: Final = workspace
        self._delivery: Final = delivery
        self._handing: Final = Handing(workspace, delivery, choosing, queues)
        self.wills: Final = wills

    def forget_claim(self, attempt: Attempt) -> None:
        """An attempt is over, one way or the other."""
        if self.claims.get(attempt.client_id) is attempt:
            del self.claims[attempt.client_id]

    def newest_connect(self, client_id: str) -> int:
        """Number of the newest CONNECT of a client that has got as far as claiming its session,
        or has it; 0 for none."""
        newest = self.claims.get(client_id)
        session = self.by_client.get(client_id)
        claiming = 0 if newest is None else newest.number
        return claiming if session is None else max(claiming, session.connect_number)

    def is_will_replaced(self, client_id: str) -> bool:
        """Whether a CONNECT that is on its way to its CONNACK has stored which will there is."""
        newest = self.claims.get(client_id)
        return newest is not None and newest.saves_will

    def refused_will(self, client_id: str) -> None:
        """A will that the store refused is over, and still there: what is right by now takes its
        place, unless a newer CONNECT has seen to that."""
        if not self.is_will_replaced(client_id):
            self.wills.save_again(client_id, self.get(client_id))

    def get(self, client_id: str) -> Session | None:
        """The session of a client."""
        return self.by_client.get(client_id)

    def has_room(self, client_id: str, is_kept: bool) -> bool:
        """Whether a session for this client is within the limit.

        One that ends with its connection is bounded by the number of connections.
        """
        by_client = self.by_client
        if not is_kept or client_id in by_client:
            return True
        return len(by_client) + len(self.claims) < self._ws.limits.max_sessions

    def make(self, client_id: str, key: int) -> Session:
        """A new session; `key` 0 for one that ends with its connection."""
        session = Session(self._ws.next_id(), key, client_id)
        self.by_client[client_id] = session
        if key:
            self._ws.stats.sessions_detached += 1
        return session

    def recover(self, record: SessionRecord) -> None:
        """A session as a broker finds it when it starts. The connection of one that was attached
        has ended just now. Raises `ValueError` for one that there cannot be.  [MQTT-3.1.2-23]"""
        for sent in record.in_flight:
            if not 0 < sent.packet_id < _PACKET_IDENTIFIERS:
                raise ValueError(f"{record.client_id!r} has packet identifier {sent.packet_id}")
            if sent.message is None and not sent.is_received:
                raise ValueError(f"{record.client_id!r} has no message {sent.number}")
        ws = self._ws
        session = self.restore(record)
        interval_s = record.interval_s
        session.expiry_s = interval_s
        if record.expires_at is None:
            session.expires_at = ws.wall + interval_s
            self.save_expiry(session)
        else:
            session.expires_at = min(record.expires_at, ws.wall + interval_s)
        timer = SessionTimer(self, session)
        session.deadline = ws.deadlines.arm(session.expires_at - ws.wall_offset, EXPIRY, timer)

    def recover_will(self, stored: StoredWill) -> None:
        """A will as a broker finds it when it starts; its session is here if there is one."""
        session = self.by_client.get(stored.client_id)
        if session is not None:
            self.wills.recover(session, stored, SessionTimer(self, session))
        else:
            self.wills.publish_stored(stored)

    def save_expiry(self, session: Session) -> None:
        """Store when a session ends."""
        at = None if session.channel is not None else session.expires_at
        self._ws.record(SaveExpiry(session.key, at, session.expiry_s))

    def restore(self, record: SessionRecord) -> Session:
        """A session as the storage engine has it."""
        ws = self._ws
        session = self.make(record.client_id, record.session)
        for topic_filter, (qos, options) in record.subscriptions.items():
            ws.router.subscribe(session, topic_filter, qos, options)
        for topic_filter in record.retained_due or ():
            qos, options = record.subscriptions[topic_filter]
            session.add_burst(RetainedBurst(topic_filter, qos, False, of_retained(options)))
        if record.in_flight:
            flow = ws.flow_of(session)
            numbers: dict[int, int] = {}
            for sent in record.in_flight:
                step = AWAITING_PUBACK if sent.qos == 1 else AWAITING_PUBREC
                if sent.is_received:
                    step = AWAITING_PUBCOMP
                message = None if sent.is_received else sent.message
                flow.restore(sent.packet_id, message, step)
                numbers[sent.packet_id] = sent.number
                if sent.particulars is not None:
                    session.note_particulars(sent.packet_id, sent.particulars)
            session.numbers = numbers
        if record.held:
            ws.flow_of(session).held = set(record.held)
            ws.held_identifiers += len(record.held)
        if record.queued:
            queue = ws.queue_of(session)
            for number, size, expires_at in record.queued:
                queue.add_stored(number, size, expires_at)
        return session

    def attach(self, session: Session, channel: Channel) -> None:
        """The client of a session is connected."""
        ws = self._ws
        deadline = session.deadline
        if deadline is not None:
            ws.deadlines.cancel(deadline)
            session.deadline = None
        self.wills.cancel(session)
        session.channel = channel
        channel.session = session
        queue = session.queue
        channel.accepts = channel.is_writable and (queue is None or not queue.has_qos_0)
        if session.aside is not None:
            call_back(session)
        stats = ws.stats
        if session.key:
            stats.sessions_detached -= 1
            session.expires_at = 0.0
        stats.count_connected(channel.connection.level, 1)
        if stats.clients_connected > stats.clients_maximum:
            stats.clients_maximum = stats.clients_connected

    def detach(self, channel: Channel) -> None:
        """The connection of a session is over; the session stays for as long as was asked for.

        [MQTT-3.1.2-23]
        """
        session = channel.session
        assert session is not None
        ws = self._ws
        session.channel = None
        session.resend = None
        session.verdicts = None
        ws.stats.count_connected(channel.connection.level, -1)
        if not session.key:
            self.end(session)
            return
        ws.stats.sessions_detached += 1
        timeout = session.expiry_s
        if not timeout:
            self.end(session)
            return
        timer = SessionTimer(self, session)
        session.deadline = ws.deadlines.arm(ws.now + timeout, EXPIRY, timer)
        session.expires_at = ws.wall + timeout
        self.save_expiry(session)
        if self._handing.concerns(session):
            self._handing.away(session)

    def expire(self, session: Session, now: float) -> None:
        """End a session whose client has stayed away too long."""
        if session.client_id in self.claims:  # its client is about to come back
            at = now + self._ws.limits.request_timeout_secs
            session.deadline = self._ws.deadlines.arm(at, EXPIRY, SessionTimer(self, session))
            return
        self._ws.stats.sessions_expired += 1
        self._ws.tell("session.expired", client_id=session.client_id)
        self.end(session)

    def last_word(self, session: Session) -> Operation:
        """What tells the store that a session is over, before it is here. What has shared
        subscriptions stays there for a while, for the sake of others."""
        if self._handing.concerns(session):
            return RetireSession(session.key)
        return EndSession(session.key)

    def delay_will(self, session: Session, will: Will, is_replaced: bool) -> None:
        """Let the will of a connection that ends wait for its client; see `Wills.delay`."""
        self.wills.delay(session, will, is_replaced, SessionTimer(self, session))

    def will_due(self, session: Session, now: float) -> None:
        """The delay of a session's will is over."""
        delayed = session.will
        assert delayed is not None  # else its deadline would have been cancelled
        if session.client_id in self.claims:  # a new connection has been made  [MQTT-3.1.3-9]
            at = now + self._ws.limits.request_timeout_secs
            timer = SessionTimer(self, session)
            delayed.deadline = self._ws.deadlines.arm(at, WILL_DUE, timer)
            return
        self.wills.publish(session)

    def end(self, session: Session, *, is_told: bool = False) -> None:
        """Forget a session with all that belongs to it; harmless for one that is over. Detach it
        first.

        `is_told`: the store has been told its last word.
        """
        ws = self._ws
        if session.is_ended:
            return
        session.is_ended = True
        del self.by_client[session.client_id]
        attempt = self.claims.get(session.client_id)
        if attempt is not None:
            attempt.stale_key = session.key
        unsubscribing = Unsubscribing(ws, session)
        if not unsubscribing.run():
            ws.queue_work(unsubscribing)
        if self._handing.concerns(session):
            ws.stats.dropped_session_ended -= self._handing.ended(session)
        elif session.key and not is_told:
            ws.record(EndSession(session.key))
        flow = session.flow
        ws.stats.dropped_session_ended += self._delivery.drop_all(session)
        if flow is not None:
            ws.stats.dropped_session_ended += flow.in_flight
            if flow.held is not None:
                ws.held_identifiers -= len(flow.held)
            flow.reset()
        deadline = session.deadline
        if deadline is not None:
            ws.deadlines.cancel(deadline)
            session.deadline = None
        if session.key:
            ws.stats.sessions_detached -= 1
        self.wills.publish(session)
        session.flow = None
        session.queue = None
        session.bursts = None
        session.gate = None
        session.parked = None
        session.numbers = None
        session.unstored = None
        session.granting = None
        session.particulars = None
        session.verdicts = None
