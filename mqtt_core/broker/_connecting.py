"""From CONNECT to CONNACK: authentication, the claim of the session, takeover (3.1.4).

An attempt goes through its steps one by one; each may have to wait for an answer from outside.
Until CONNACK has left, nothing of it is visible to others, and an attempt whose channel ends
before leaves no trace: no will, and no session that was not there. Of two attempts with the
same client identifier the newer wins, in whatever order the answers come.
"""

from __future__ import annotations

from typing import Final, cast, final

from mqtt_core._announced import Announced
from mqtt_core._codes import (
    CLIENT_IDENTIFIER_NOT_VALID,
    CONNACK,
    CONNACK_RETURN_CODES,
    LARGEST_STRING_BYTES,
    MQTT_5,
    NOT_AUTHORIZED,
    PACKET_TOO_LARGE,
    PAYLOAD_FORMAT_INVALID,
    QOS_NOT_SUPPORTED,
    QUOTA_EXCEEDED,
    RETAIN_NOT_SUPPORTED,
    SERVER_BUSY,
    SERVER_MOVED,
    SERVER_UNAVAILABLE,
    SUCCESS,
    TOPIC_NAME_INVALID,
    USE_ANOTHER_SERVER,
    reason_name,
)
from mqtt_core._encode import encode
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._outbound_aliases import OutboundAliases
from mqtt_core._packets import ConnAck, Connect, Will
from mqtt_core._properties import AUTHENTICATION_DATA, Properties
from mqtt_core._store import (
    Claimed,
    ClaimSession,
    Completion,
    EndSession,
    Failed,
    Operation,
    SaveExpiry,
    SaveSession,
    SaveWill,
    SessionRecord,
    Write,
)
from mqtt_core.broker._announcing import (
    connack_properties,
    keep_alive_s,
    reason_properties,
    session_expiry_s,
)
from mqtt_core.broker._attempt import Attempt
from mqtt_core.broker._auth import ASK, DENY, WILL_ACTION, AuthRequest, Decision, refusal_reason
from mqtt_core.broker._authorizing import Authorizer
from mqtt_core.broker._causes import REFUSED, TAKEN_OVER
from mqtt_core.broker._channel import LAYOUT_5, LAYOUT_5_OWN, Channel
from mqtt_core.broker._endings import Endings
from mqtt_core.broker._limits import MOVED, WHEN_FULL
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._publishing import is_text_if_said_so
from mqtt_core.broker._refusals import note_refusal
from mqtt_core.broker._sending import IDENTIFIER_BYTES, Sending
from mqtt_core.broker._session import Session
from mqtt_core.broker._sessions import Sessions
from mqtt_core.broker._work import Work
from mqtt_core.broker._workspace import WAIT_CONNACK, WAIT_NO, Workspace

_GENERATED_ID_BYTES: Final = 16
_PACKET_AROUND_BYTES: Final = 64  # what a delivery may have more than what was published


@final
class Connecting:
    """Takes CONNECT packets."""

    __slots__ = ("_ws", "_sessions", "_sending", "_authorizer", "_endings")

    def __init__(
        self,
        workspace: Workspace,
        sessions: Sessions,
        sending: Sending,
        authorizer: Authorizer,
        endings: Endings,
    ) -> None:
        self._ws: Final = workspace
        self._sessions: Final = sessions
        self._sending: Final = sending
        self._authorizer: Final = authorizer
        self._endings: Final = endings

    def accept(self, channel: Channel, connect: Connect) -> None:
        """Take a CONNECT."""
        ws = self._ws
        channel.wait = WAIT_CONNACK
        self._endings.arm_request_deadline(channel)
        client_id = connect.client_id
        limits = ws.limits
        if not client_id:
            if not limits.allow_empty_client_id:
                self.refuse(channel, CLIENT_IDENTIFIER_NOT_VALID, "no client identifier")
                return
            # One that nobody can guess.  [v3 MQTT-3.1.3-6]
            client_id = "auto-" + ws.entropy(_GENERATED_ID_BYTES).hex()
        elif len(client_id.encode()) > limits.max_client_id_bytes:  # [v3 MQTT-3.1.3-9]
            self.refuse(
                channel,
                CLIENT_IDENTIFIER_NOT_VALID,
                f"client identifier is longer than {limits.max_client_id_bytes} bytes",
            )
            return
        token = ws.next_id()
        attempt = Attempt(channel, connect, client_id, token, session_expiry_s(connect, limits))
        channel.attempt = attempt
        if not self.fits(attempt, None):
            self.refuse(channel, PACKET_TOO_LARGE, "CONNACK is larger than the client takes")
            return
        if limits.server_reference and limits.server_redirect != WHEN_FULL:
            reason = SERVER_UNAVAILABLE
            if connect.level == MQTT_5:
                has_moved = limits.server_redirect == MOVED
                reason = SERVER_MOVED if has_moved else USE_ANOTHER_SERVER
            detail = "clients are served elsewhere"
            self.refuse(channel, reason, detail, limits.server_reference)
            return
        if channel.is_over_limit:
            reason = SERVER_BUSY
            if limits.server_reference and connect.level == MQTT_5:
                reason = USE_ANOTHER_SERVER
            reference = limits.server_reference
            self.refuse(channel, reason, "max_connections is reached", reference)
            return
        if channel.connection.exchange is not None:
            return  # asked about message by message: `_exchanging`
        request = AuthRequest(
            token,
            client_id,
            connect.username,
            connect.password,
            channel.listener,
            channel.peer,
            connect.level,
        )
        decision = ws.policy.authenticate(request)
        if decision is not None:
            self.decide(channel, decision)
            return
        ws.ask(channel, request)

    def admit(self, channel: Channel, connect: Connect) -> None:
        """Take the CONNECT of a client inside the program: nobody is asked, and nothing is
        claimed, since no other client can have its identifier."""
        attempt = Attempt(channel, connect, connect.client_id, self._ws.next_id(), 0)
        attempt.is_unrestricted = True
        channel.attempt = attempt
        self.committed(attempt)

    def decide(self, channel: Channel, decision: Decision) -> None:
        """Go on when the client is known, or refuse it.  [v3 MQTT-3.1.4-5]"""
        attempt = channel.attempt
        assert attempt is not None
        if not decision.is_accepted:
            reason = refusal_reason(decision.reason, CONNACK)
            if attempt.connect.level != MQTT_5 and reason not in CONNACK_RETURN_CODES:
                reason = NOT_AUTHORIZED
            self.refuse(channel, reason, "authentication failed")
            return
        attempt.is_unrestricted = decision.is_unrestricted
        if decision.username is not None:
            attempt.username = decision.username
        attempt.data = decision.data
        self.claim(attempt)

    def claim(self, attempt: Attempt) -> None:
        """Check the will's topic and claim the session."""
        ws = self._ws
        channel = attempt.channel
        will = attempt.connect.will
        client_id = attempt.client_id
        if will is not None:
            utf8 = will.topic.encode()
            if attempt.connect.level == MQTT_5:
                reason, detail = self._check_will5(will)
                if reason:
                    self.refuse(channel, reason, detail)
                    return
            if utf8 == b"$SYS" or utf8.startswith(b"$SYS/"):
                self.refuse(channel, NOT_AUTHORIZED, "the will's topic is read-only")
                return
            if utf8.count(b"/") >= ws.limits.max_topic_levels:
                raise RemoteProtocolError(self._too_deep())
            if not attempt.is_unrestricted:
                username = attempt.username
                verdict = self._authorizer.ask(
                    channel, client_id, username, WILL_ACTION, utf8, will.qos, will.retain
                )
                if verdict == ASK:
                    return
                channel.verdicts = None
                if verdict == DENY:
                    self.refuse(channel, NOT_AUTHORIZED, "the will's topic is not allowed")
                    return
        channel.wait = WAIT_CONNACK
        if self._sessions.newest_connect(client_id) > attempt.number:
            self._endings.end(channel, TAKEN_OVER)  # while the decision was out
            return
        if not self._sessions.has_room(client_id, attempt.expiry_s > 0):
            self.refuse(channel, QUOTA_EXCEEDED, "max_sessions is reached")
            return
        if will is not None:
            if not self._sessions.wills.hold(will):
                self.refuse(channel, QUOTA_EXCEEDED, "total_will_bytes is reached")
                return
            attempt.holds_will = True
        claims = self._sessions.claims
        older = claims.get(client_id)
        claims[client_id] = attempt
        if older is not None and older is not attempt:
            older.is_over = True
            self._endings.end(older.channel, TAKEN_OVER)
        request_id = ws.next_id()
        known = self._sessions.get(client_id)
        known_key = 0 if known is None else known.key
        ws.submit(ClaimSession(request_id, client_id, known_key), PendingClaim(self, attempt))

    def _check_will5(self, will: Will) -> tuple[int, str]:
        """Why a will is not served, as only a client of MQTT 5.0 can be told; `SUCCESS` if it
        is."""
        limits = self._ws.limits
        if will.qos > limits.maximum_qos:  # [MQTT-3.2.2-12]
            return QOS_NOT_SUPPORTED, "the will's QoS is not served"
        if will.retain and not limits.retain_available:  # [MQTT-3.2.2-13]
            return RETAIN_NOT_SUPPORTED, "wills are not retained here"
        if will.topic.count("/") >= limits.max_topic_levels:
            return TOPIC_NAME_INVALID, self._too_deep()
        if limits.validate_payload_format and not is_text_if_said_so(will.properties, will.payload):
            return PAYLOAD_FORMAT_INVALID, "the will's payload is not UTF-8"
        return SUCCESS, ""

    def _too_deep(self) -> str:
        return f"the will's topic has more than {self._ws.limits.max_topic_levels} levels"

    def claimed(self, attempt: Attempt, record: SessionRecord | None) -> None:
        """Store what the CONNECT asks for; its CONNACK rests on that.

        What the store has counts: a session that is here still, but not there any more, has been
        ended by an earlier clean CONNECT of the client whose answer is on its way.
        """
        ws = self._ws
        sessions = self._sessions
        client_id = attempt.client_id
        if attempt.is_over:
            self._forget_unborn(client_id)
            return
        connect = attempt.connect
        if record is not None and record.session == attempt.stale_key:
            record = None
        stored_key = 0 if record is None else record.session
        is_unborn = stored_key in sessions.unborn.get(client_id, ())
        known = sessions.get(client_id)
        if known is None or known.key != stored_key:
            attempt.lost_key = 0 if known is None else known.key
            attempt.record = None if is_unborn else record
        if not is_unborn:
            sessions.unborn.pop(client_id, None)  # never stored, or ended since
        operations: list[Operation] = []
        is_kept = attempt.expiry_s > 0
        if stored_key and (connect.clean_start or (is_unborn and not is_kept)):
            # [v3 MQTT-3.1.2-6] [MQTT-3.1.2-4]
            attempt.ended_key = stored_key
            if known is not None and known.key == stored_key:
                operations.append(sessions.last_word(known))
            else:
                operations.append(EndSession(stored_key))
        elif is_unborn:
            attempt.new_key = stored_key
        if is_kept and not attempt.new_key and (connect.clean_start or not stored_key):
            attempt.new_key = ws.next_number()
            unborn = {attempt.new_key}
            if is_unborn:
                unborn.add(stored_key)  # still there if the store refuses
            sessions.unborn[client_id] = unborn
            operations.append(SaveSession(attempt.new_key, client_id))
        key = attempt.new_key or (0 if attempt.ended_key else stored_key)
        if key:  # [MQTT-3.1.2-23]
            operations.append(SaveExpiry(key, None, attempt.expiry_s))
        if sessions.wills.has_last(client_id) or attempt.has_last_will(known):
            attempt.will_follows = True
        elif connect.will is not None or (known is not None and known.has_will):
            operations.append(self._will(attempt, known))  # [v3 MQTT-3.1.2-8]
        if operations:
            write = Write(ws.next_id(), operations, attempt.channel.level)
            ws.submit(write, PendingCommit(self, attempt))
        else:
            self.committed(attempt)

    def _will(self, attempt: Attempt, known: Session | None) -> Operation:
        """What puts the will of a CONNECT into the place of any other of its client."""
        attempt.saves_will = True
        if known is not None and known.will is not None:
            known.will.is_stored = False
        return SaveWill(attempt.client_id, attempt.connect.will)

    def _forget_unborn(self, client_id: str) -> None:
        """End what is stored for attempts that have all come to nothing."""
        sessions = self._sessions
        if client_id in sessions.claims:
            return  # the newest deals with what it finds in the store
        for key in sessions.unborn.pop(client_id, ()):
            self._ws.record(EndSession(key))

    def committed(self, attempt: Attempt) -> None:
        """All is stored: take over, answer, and bring the session to life."""
        sessions = self._sessions
        unborn = sessions.unborn.get(attempt.client_id)
        if unborn is not None:
            unborn.discard(attempt.ended_key)
            if not unborn:
                del sessions.unborn[attempt.client_id]
        if attempt.is_over:
            self._undo(attempt)
            return
        ws = self._ws
        channel = attempt.channel
        known = sessions.get(attempt.client_id)
        if known is not None and known.channel is not None:
            # The older connection ends, with its will, before the newer is answered.
            ws.stats.takeovers += 1
            self._endings.end(known.channel, TAKEN_OVER)  # [v3 MQTT-3.1.4-2]
            known = sessions.get(attempt.client_id)
        if known is not None and attempt.ends(known):
            sessions.end(known, is_told=True)
            known = None
        if attempt.will_follows:
            if sessions.wills.has_last(attempt.client_id):
                ws.queue_work(BehindWill(self, attempt))
                return
            attempt.will_follows = False
            if attempt.connect.will is not None or (known is not None and known.will is not None):
                will = self._will(attempt, known)
                write = Write(ws.next_id(), [will], channel.level)
                ws.submit(write, PendingCommit(self, attempt))
                return
        is_there = known is not None or attempt.record is not None or attempt.new_key != 0
        if attempt.expiry_s and not attempt.connect.clean_start and not is_there:
            self.claimed(attempt, None)  # the session that was there has ended meanwhile
            return
        sessions.forget_claim(attempt)
        session, is_present = self._session_for(attempt, known)
        session.connect_number = attempt.number
        session.expiry_s = attempt.expiry_s
        session.is_unrestricted = attempt.is_unrestricted
        session.username = None  # kept only where rules will ask for it
        if not attempt.is_unrestricted:
            session.username = attempt.username
        channel.attempt = None
        channel.will = attempt.connect.will
        self._accept(attempt, is_present)
        sessions.attach(session, channel)
        self._obey(session, channel, attempt.connect)
        self._endings.connected(channel)
        ws.stats.connects_accepted += 1
        ws.tell("client.connected", channel, detail=attempt.describe(is_present))
        channel.wait = WAIT_NO
        self._sending.resume(session, channel)
        ws.mark_dirty(channel)
        ws.queue_work(channel)

    def go_on(self, attempt: Attempt) -> bool:
        """See whether there is still a will to wait for; False if so."""
        if self._sessions.wills.has_last(attempt.client_id) and not attempt.is_over:
            return False
        self.committed(attempt)
        return True

    def _accept(self, attempt: Attempt, is_present: bool) -> None:
        limits = self._ws.limits
        # [v3 MQTT-3.2.0-1] [MQTT-3.2.0-1] [MQTT-3.1.4-5]
        connack = ConnAck(is_present, SUCCESS, self._properties(attempt, attempt.data))
        channel = attempt.channel
        if channel.inside is None:  # else nothing between the two can break
            channel.connection.keep_alive_s = keep_alive_s(attempt.connect, limits)
        self._answer(channel, connack)

    def _obey(self, session: Session, channel: Channel, connect: Connect) -> None:
        """Keep to what the client has said that it takes."""
        limits = self._ws.limits
        window = limits.max_inflight_messages
        if connect.level == MQTT_5:
            announced = Announced(connect.properties)
            window = min(window, announced.receive_maximum)  # [MQTT-3.3.4-9]
            channel.layout = LAYOUT_5
            most = min(announced.topic_alias_maximum, limits.max_outbound_aliases)
            if most:  # [MQTT-3.1.2-26] [MQTT-3.1.2-27]
                channel.aliases = OutboundAliases(most, limits.max_alias_bytes)
                channel.layout = LAYOUT_5_OWN
            largest = limits.max_packet_size_bytes + _PACKET_AROUND_BYTES
            largest += limits.max_subscriptions_per_session * IDENTIFIER_BYTES
            if announced.maximum_packet_size < largest:
                channel.max_packet_bytes = announced.maximum_packet_size
                channel.layout = LAYOUT_5_OWN
        if window < limits.max_inflight_messages or session.flow is not None:
            self._ws.flow_of(session).window = window

    def _session_for(self, attempt: Attempt, known: Session | None) -> tuple[Session, bool]:
        """The session, and whether it was there before.  [v3 MQTT-3.1.4-3]"""
        sessions = self._sessions
        if attempt.connect.clean_start:
            sessions.unborn.pop(attempt.client_id, None)
            # [v3 MQTT-3.2.2-1] [MQTT-3.2.2-2]
            return sessions.make(attempt.client_id, attempt.new_key), False
        if known is not None:
            return known, True  # [v3 MQTT-3.2.2-2] [MQTT-3.2.2-3]
        if attempt.record is not None:
            return sessions.restore(attempt.record), True
        sessions.unborn.pop(attempt.client_id, None)
        return sessions.make(attempt.client_id, attempt.new_key), False  # [v3 MQTT-3.2.2-3]

    def _undo(self, attempt: Attempt) -> None:
        """The channel has ended before CONNACK: take back what was stored for it.

        What a newer attempt of the client finds in the store, it deals with itself.
        """
        sessions = self._sessions
        known = sessions.get(attempt.client_id)
        if attempt.ended_key and known is not None and known.key == attempt.ended_key:
            # The engine has ended the stored session, so it cannot go on here.
            if known.channel is not None:
                self._endings.end(known.channel, TAKEN_OVER)
            sessions.end(known, is_told=True)
        elif known is not None and known.key and attempt.client_id not in sessions.claims:
            sessions.save_expiry(known)  # it is not attached to this one
        self._forget_unborn(attempt.client_id)
        self._restore_will(attempt)

    def _restore_will(self, attempt: Attempt) -> None:
        """The stored will is again that of who is connected, unless a newer attempt has stored
        its own."""
        sessions = self._sessions
        client_id = attempt.client_id
        if attempt.saves_will and not sessions.is_will_replaced(client_id):
            sessions.wills.save_again(client_id, sessions.get(client_id))

    def failed(self, attempt: Attempt, failure: Failed) -> None:
        """The store does not take the claim or what it leads to."""
        note_refusal(
            self._ws, failure, attempt.channel, client_id=attempt.client_id, what="a session"
        )
        if not attempt.is_over:
            if failure.is_full:
                self.refuse(attempt.channel, QUOTA_EXCEEDED, "the store is full")
            else:
                self.refuse(attempt.channel, SERVER_UNAVAILABLE, "storage is not available")
        self._forget_unborn(attempt.client_id)
        self._restore_will(attempt)

    def refuse(
        self, channel: Channel, reason: int, detail: str, server_reference: str = ""
    ) -> None:
        """Answer with a refusal and end the connection.

        [v3 MQTT-3.2.2-5] [MQTT-3.1.4-2] [MQTT-3.2.2-7]
        """
        properties: Properties = ()
        attempt = channel.attempt
        if attempt is not None and attempt.connect.level == MQTT_5:
            most = Announced(attempt.connect.properties).maximum_packet_size
            properties = reason_properties(detail, most, server_reference)
        # [v3 MQTT-3.2.2-4] [MQTT-3.2.2-6]
        self._answer(channel, ConnAck(False, reason, properties))
        if channel.connection.level != MQTT_5:  # else its reason is told anyway
            detail = f"{reason_name(reason)}: {detail}"
        self._endings.end(channel, REFUSED, detail=detail, reason=reason)

    def _answer(self, channel: Channel, connack: ConnAck) -> None:
        ws = self._ws
        connection = channel.connection
        if connection.level == MQTT_5 and connack.reason != SUCCESS:
            if len(encode(connack, MQTT_5)) > connection.peer.maximum_packet_size:
                return  # [MQTT-3.1.2-24] [MQTT-4.13.2-1]
        ws.mark_dirty(channel)
        connection.send_connack(connack, ws.now)
        ws.stats.packets_sent += 1

    def fits(self, attempt: Attempt, data: bytes | None) -> bool:
        """Whether the client takes a packet as large as its CONNACK, in which there is this data
        of its authentication method.  [MQTT-3.1.2-24]"""
        connect = attempt.connect
        if connect.level != MQTT_5:
            return True
        if data is not None and len(data) > LARGEST_STRING_BYTES:
            return False
        connack = ConnAck(False, SUCCESS, self._properties(attempt, data))
        most = Announced(connect.properties).maximum_packet_size
        return len(encode(connack, MQTT_5)) <= most

    def _properties(self, attempt: Attempt, data: bytes | None) -> Properties:
        """The properties of the CONNACK that accepts."""
        properties = connack_properties(attempt.connect, self._ws.limits, attempt.client_id)
        exchange = attempt.channel.connection.exchange
        if exchange is None:
            return properties
        return exchange.with_method(properties + data_properties(data))


def data_properties(data: bytes | None) -> Properties:
    """The property of CONNACK and AUTH that has the data of a method, if there is any."""
    return () if data is None else ((AUTHENTICATION_DATA, data),)


@final
class BehindWill(Work):
    """A CONNECT that waits until the will of an older connection of its client is published."""

    __slots__ = ("_connecting", "_attempt")

    def __init__(self, connecting: Connecting, attempt: Attempt) -> None:
        super().__init__()
        self._connecting: Final = connecting
        self._attempt: Final = attempt

    def run(self) -> bool:
        """Go on when that is so, or in vain; True then."""
        return self._connecting.go_on(self._attempt)


@final
class PendingClaim(Pending):
    """Goes on when the claim of a session is answered."""

    __slots__ = ("_connecting", "_attempt")

    def __init__(self, connecting: Connecting, attempt: Attempt) -> None:
        self._connecting: Final = connecting
        self._attempt: Final = attempt

    def done(self, completion: Completion) -> None:
        """The claim stands."""
        self._connecting.claimed(self._attempt, cast(Claimed, completion).record)

    def failed(self, failure: Failed) -> None:
        """It does not."""
        self._connecting.failed(self._attempt, failure)


@final
class PendingCommit(Pending):
    """Goes on when what a CONNECT leads to is stored."""

    __slots__ = ("_connecting", "_attempt")

    def __init__(self, connecting: Connecting, attempt: Attempt) -> None:
        self._connecting: Final = connecting
        self._attempt: Final = attempt

    def done(self, completion: Completion) -> None:
        """Answer it."""
        self._connecting.committed(self._attempt)

    def failed(self, failure: Failed) -> None:
        """Refuse it."""
        self._connecting.failed(self._attempt, failure)
