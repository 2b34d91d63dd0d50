"""From CONNECT to CONNACK: authentication, the claim of the session, takeover (3.1.4).

An attempt goes through its steps one by one; each may have to wait for an answer from outside.
Until CONNACK has left, nothing of it is visible to others, and an attempt whose channel ends
before leaves no trace: no will, and no session that was not there. Of two attempts with the
same client identifier the newer wins, in whatever order the answers come.
"""

from __future__ import annotations

from typing import Final, cast, final

from mqtt_core._codes import (
    CLIENT_IDENTIFIER_NOT_VALID,
    CONNACK_RETURN_CODES,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    SUCCESS,
    reason_name,
)
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._packets import ConnAck, Connect
from mqtt_core.broker._auth import ASK, DENY, WILL_ACTION, AuthRequest, Decision
from mqtt_core.broker._authorizing import Authorizer
from mqtt_core.broker._causes import REFUSED, TAKEN_OVER
from mqtt_core.broker._channel import Channel
from mqtt_core.broker._endings import Endings
from mqtt_core.broker._facts import FACT_ERROR
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import Session
from mqtt_core.broker._sessions import Sessions
from mqtt_core.broker._store import (
    Claimed,
    ClaimSession,
    Completion,
    EndSession,
    Failed,
    Operation,
    SaveSession,
    SaveWill,
    SessionRecord,
    Write,
)
from mqtt_core.broker._workspace import WAIT_CONNACK, WAIT_NO, Workspace

_GENERATED_ID_BYTES: Final = 16


@final
class Attempt:
    """A CONNECT on its way to its CONNACK."""

    __slots__ = (
        "channel",
        "connect",
        "client_id",
        "number",
        "is_unrestricted",
        "is_over",
        "record",
        "new_key",
        "ended_key",
        "lost_key",
        "saves_will",
    )

    def __init__(self, channel: Channel, connect: Connect, client_id: str, number: int) -> None:
        self.channel: Final = channel
        self.connect: Final = connect
        self.client_id: Final = client_id
        self.number: Final = number  # greater than that of any CONNECT that came before
        self.is_unrestricted = False
        self.is_over = False  # its channel has ended, or a newer attempt has won
        self.record: SessionRecord | None = None
        self.new_key = 0  # of a session stored for this attempt, or for an earlier one
        self.ended_key = 0  # of a stored session that this attempt ends
        self.lost_key = 0  # of a session that the store does not have any more
        self.saves_will = False  # what it has stored says which will the client has


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
        channel.attempt = Attempt(channel, connect, client_id, token)
        if channel.is_over_limit:
            self.refuse(channel, SERVER_UNAVAILABLE, "max_connections is reached")
            return
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

    def decide(self, channel: Channel, decision: Decision) -> None:
        """Go on when the client is known, or refuse it.  [v3 MQTT-3.1.4-5]"""
        attempt = channel.attempt
        assert attempt is not None
        if not decision.is_accepted:
            reason = decision.reason
            if reason not in CONNACK_RETURN_CODES:
                reason = NOT_AUTHORIZED
            self.refuse(channel, reason, "authentication failed")
            return
        attempt.is_unrestricted = decision.is_unrestricted
        self.claim(attempt)

    def claim(self, attempt: Attempt) -> None:
        """Check the will's topic and claim the session."""
        ws = self._ws
        channel = attempt.channel
        will = attempt.connect.will
        client_id = attempt.client_id
        if will is not None:
            utf8 = will.topic.encode()
            if utf8 == b"$SYS" or utf8.startswith(b"$SYS/"):
                self.refuse(channel, NOT_AUTHORIZED, "the will's topic is read-only")
                return
            limit = ws.limits.max_topic_levels
            if utf8.count(b"/") >= limit:
                raise RemoteProtocolError(f"the will's topic has more than {limit} levels")
            if not attempt.is_unrestricted:
                username = attempt.connect.username
                verdict = self._authorizer.ask(channel, client_id, username, WILL_ACTION, utf8)
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
        if not self._sessions.has_room(client_id, not attempt.connect.clean_start):
            self.refuse(channel, SERVER_UNAVAILABLE, "max_sessions is reached")
            return
        claims = self._sessions.claims
        older = claims.get(client_id)
        claims[client_id] = attempt
        if older is not None and older is not attempt:
            older.is_over = True
            self._endings.end(older.channel, TAKEN_OVER)
        request_id = ws.next_id()
        ws.submit(ClaimSession(request_id, client_id), PendingClaim(self, attempt))

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
        stored_key = 0 if record is None else record.session
        is_unborn = stored_key != 0 and sessions.unborn.get(client_id) == stored_key
        known = sessions.get(client_id)
        if known is not None and known.key != stored_key:
            attempt.lost_key = known.key
        if not is_unborn:
            attempt.record = record
            sessions.unborn.pop(client_id, None)  # never stored, or ended since
        operations: list[Operation] = []
        if connect.clean_start:
            if stored_key:  # [v3 MQTT-3.1.2-6]
                attempt.ended_key = stored_key
                operations.append(EndSession(stored_key))
        elif is_unborn:
            attempt.new_key = stored_key
        elif not stored_key:
            attempt.new_key = ws.next_number()
            sessions.unborn[client_id] = attempt.new_key
            operations.append(SaveSession(attempt.new_key, client_id))
        older = None if known is None else known.channel
        if connect.will is not None or (older is not None and older.will is not None):
            # [v3 MQTT-3.1.2-8]
            attempt.saves_will = True
            operations.append(SaveWill(client_id, connect.will))
        if operations:
            ws.submit(Write(ws.next_id(), operations), PendingCommit(self, attempt))
        else:
            self.committed(attempt)

    def _forget_unborn(self, client_id: str) -> None:
        """End what is stored for attempts that have all come to nothing."""
        sessions = self._sessions
        if client_id in sessions.claims:
            return  # the newest deals with what it finds in the store
        key = sessions.unborn.pop(client_id, 0)
        if key:
            self._ws.record(EndSession(key))

    def committed(self, attempt: Attempt) -> None:
        """All is stored: take over, answer, and bring the session to life."""
        sessions = self._sessions
        if attempt.ended_key and sessions.unborn.get(attempt.client_id) == attempt.ended_key:
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
        if known is not None and known.key and known.key == attempt.lost_key:
            sessions.end(known)
            known = None
        sessions.forget_claim(attempt)
        session, is_present = self._session_for(attempt, known)
        session.connect_number = attempt.number
        session.is_unrestricted = attempt.is_unrestricted
        session.username = None  # kept only where rules will ask for it
        if not attempt.is_unrestricted:
            session.username = attempt.connect.username
        channel.attempt = None
        channel.will = attempt.connect.will
        self._answer(channel, ConnAck(is_present, SUCCESS))  # [v3 MQTT-3.2.0-1]
        sessions.attach(session, channel)
        self._endings.connected(channel)
        ws.stats.connects_accepted += 1
        ws.tell("client.connected", channel, detail=_describe(attempt, is_present))
        channel.wait = WAIT_NO
        self._sending.resume(session, channel)
        ws.mark_dirty(channel)
        ws.queue_work(channel)

    def _session_for(self, attempt: Attempt, known: Session | None) -> tuple[Session, bool]:
        """The session, and whether it was there before.  [v3 MQTT-3.1.4-3]"""
        sessions = self._sessions
        if attempt.connect.clean_start:
            if known is not None:
                sessions.end(known)
            return sessions.make(attempt.client_id, 0), False  # [v3 MQTT-3.2.2-1]
        if known is not None:
            return known, True  # [v3 MQTT-3.2.2-2]
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
            sessions.end(known)
        self._forget_unborn(attempt.client_id)
        self._restore_will(attempt)

    def _restore_will(self, attempt: Attempt) -> None:
        """The stored will is again that of who is connected, unless a newer attempt has stored
        its own."""
        sessions = self._sessions
        client_id = attempt.client_id
        if attempt.saves_will and not sessions.is_will_replaced(client_id):
            self._ws.record(SaveWill(client_id, sessions.will_to_store(client_id)))

    def failed(self, attempt: Attempt, failure: Failed) -> None:
        """The store does not take the claim or what it leads to."""
        ws = self._ws
        ws.stats.store_failures += 1
        ws.tell(
            "store.failed",
            attempt.channel,
            severity=FACT_ERROR,
            client_id=attempt.client_id,
            detail=failure.reason,
        )
        if not attempt.is_over:
            self.refuse(attempt.channel, SERVER_UNAVAILABLE, "storage is not available")
        self._forget_unborn(attempt.client_id)
        self._restore_will(attempt)

    def refuse(self, channel: Channel, reason: int, detail: str) -> None:
        """Answer with a refusal and end the connection.  [v3 MQTT-3.2.2-5]"""
        self._answer(channel, ConnAck(False, reason))  # [v3 MQTT-3.2.2-4]
        self._endings.end(channel, REFUSED, detail=f"{reason_name(reason)}: {detail}")

    def _answer(self, channel: Channel, connack: ConnAck) -> None:
        ws = self._ws
        ws.mark_dirty(channel)
        channel.connection.send_connack(connack, ws.now)
        ws.stats.packets_sent += 1


def _describe(attempt: Attempt, is_present: bool) -> str:
    connect = attempt.connect
    version = "3.1.1" if connect.level == 4 else "3.1"
    kind = "clean session" if connect.clean_start else "persistent session"
    parts = [
        f"MQTT {version}",
        kind + (", resumed" if is_present else ""),
        f"keep-alive {connect.keep_alive_s} s",
    ]
    if connect.username is not None:
        parts.append(f"user {connect.username!r}")
    if connect.will is not None:
        parts.append(f"will on {connect.will.topic!r}")
    return ", ".join(parts)


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
