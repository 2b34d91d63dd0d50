"""How connections end: what is sent, what happens to session and will, and when the socket
goes.

After its last packet a connection lingers: the sending side is shut down and input is read
and discarded for a moment, so that a reset does not swallow that packet.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import MQTT_5, USE_ANOTHER_SERVER, reason_name
from mqtt_core._encode import encode
from mqtt_core._packets import Disconnect
from mqtt_core._store import SaveWill
from mqtt_core.broker._announcing import reason_properties
from mqtt_core.broker._causes import (
    ANSWERS_UNREAD,
    CLIENT_DISCONNECTED,
    CONNECT_TIMED_OUT,
    DISCONNECTED_WITH_WILL,
    EOF_BY_PEER,
    FAULT,
    KEEP_ALIVE_EXPIRED,
    PROTOCOL_VIOLATION,
    REQUEST_TIMED_OUT,
    SEND_TIMED_OUT,
    SHUT_DOWN,
    STORE_FAILED,
    TOO_MANY_HALF_CONNECTED,
    TRANSPORT_ERROR,
    cause_name,
    cause_reason,
    publishes_will,
)
from mqtt_core.broker._channel import CLOSE_AFTER_FLUSH, CLOSE_NO, CLOSE_NOW, Channel
from mqtt_core.broker._deadlines import Deadline
from mqtt_core.broker._facts import FACT_DEBUG, FACT_ERROR, FACT_INFO, FACT_WARNING
from mqtt_core.broker._publishing import Publishing
from mqtt_core.broker._sessions import Sessions
from mqtt_core.broker._wills import will_delay_s
from mqtt_core.broker._workspace import (
    ANSWER_DEADLINE,
    WAIT_NO,
    WAIT_STORE,
    WAIT_VERDICT,
    Workspace,
)

# Kinds of deadline of a channel.
CONNECT_DEADLINE: Final = 1
REQUEST_DEADLINE: Final = 2
KEEP_ALIVE_DEADLINE: Final = 3
SEND_DEADLINE: Final = 4
LINGER_DEADLINE: Final = 5
EXCHANGE_DEADLINE: Final = 7  # 6 is in `_workspace`

_KEEP_ALIVE_GRACE: Final = 1.5
_LAST_LOOK_S: Final = 0.001

# Causes after which nothing more can or should be sent.
_AT_ONCE: Final[tuple[int, ...]] = (
    EOF_BY_PEER,
    TRANSPORT_ERROR,
    SEND_TIMED_OUT,
    ANSWERS_UNREAD,
    CONNECT_TIMED_OUT,
    TOO_MANY_HALF_CONNECTED,
)

# Causes after which the client needs no word, because it has said the last one.
_SAID_BY_CLIENT: Final[tuple[int, ...]] = (CLIENT_DISCONNECTED, DISCONNECTED_WITH_WILL)

# Causes whose detail is for the log alone.
_NOT_EXPLAINED: Final[tuple[int, ...]] = (FAULT, STORE_FAILED)

_SEVERITIES: Final[dict[int, int]] = {
    CLIENT_DISCONNECTED: FACT_INFO,
    PROTOCOL_VIOLATION: FACT_WARNING,
    FAULT: FACT_ERROR,
}


def _is_told(cause: int) -> bool:
    """Whether a client of MQTT 5.0 gets a last word with a reason code."""
    return cause not in _AT_ONCE and cause not in _SAID_BY_CLIENT


@final
class Endings:
    """Ends connections, and watches the deadlines that do."""

    __slots__ = ("channels", "_ws", "_sessions", "_publishing")

    def __init__(self, workspace: Workspace, sessions: Sessions, publishing: Publishing) -> None:
        self.channels: Final[dict[int, Channel]] = {}
        self._ws: Final = workspace
        self._sessions: Final = sessions
        self._publishing: Final = publishing

    # Deadlines

    def opened(self, channel: Channel) -> None:
        """Wait for CONNECT for a limited time."""
        ws = self._ws
        self.channels[channel.key] = channel
        ws.stats.connections += 1
        ws.stats.half_connected += 1
        at = ws.now + ws.limits.connect_timeout_secs
        channel.deadline = ws.deadlines.arm(at, CONNECT_DEADLINE, channel)

    def arm_request_deadline(self, channel: Channel) -> None:
        """Wait for decisions for a limited time."""
        at = self._ws.now + self._ws.limits.request_timeout_secs
        self._arm(channel, at, REQUEST_DEADLINE)

    def arm_exchange_deadline(self, channel: Channel) -> Deadline:
        """Give an exchange of enhanced authentication its time; before CONNACK it is all that is
        waited for."""
        ws = self._ws
        if channel.session is None:
            self._disarm(channel)
        at = ws.now + ws.limits.exchange_timeout_secs
        return ws.deadlines.arm(at, EXCHANGE_DEADLINE, channel)

    def connected(self, channel: Channel) -> None:
        """CONNACK has left: from now on keep-alive counts."""
        ws = self._ws
        ws.stats.half_connected -= 1
        keep_alive_s = channel.connection.keep_alive_s
        channel.connection.received_at = ws.now
        if keep_alive_s:
            self._arm(channel, ws.now + keep_alive_s * _KEEP_ALIVE_GRACE, KEEP_ALIVE_DEADLINE)
        else:
            self._disarm(channel)

    def blocked(self, channel: Channel) -> None:
        """The socket takes nothing any more; for how long is looked at later."""
        ws = self._ws
        channel.blocked_at = ws.now
        if channel.send_deadline is None:
            at = ws.now + ws.limits.send_timeout_secs
            channel.send_deadline = ws.deadlines.arm(at, SEND_DEADLINE, channel)

    def _arm(self, channel: Channel, at: float, kind: int) -> None:
        self._disarm(channel)
        channel.deadline = self._ws.deadlines.arm(at, kind, channel)

    def _disarm(self, channel: Channel) -> None:
        deadline = channel.deadline
        if deadline is not None:
            self._ws.deadlines.cancel(deadline)
            channel.deadline = None

    def on_deadline(self, channel: Channel, kind: int) -> None:
        """A deadline of a channel has come."""
        ws = self._ws
        if kind == SEND_DEADLINE:
            channel.send_deadline = None
            if channel.is_writable or not channel.is_open:
                return
            at = channel.blocked_at + ws.limits.send_timeout_secs
            if at > ws.now:
                channel.send_deadline = ws.deadlines.arm(at, SEND_DEADLINE, channel)
            else:
                self.end(channel, SEND_TIMED_OUT)
                self._close_now(channel)
            return
        if kind == ANSWER_DEADLINE:
            self._check_answer(channel)
            return
        channel.deadline = None
        if kind == LINGER_DEADLINE:
            self._close_now(channel)
        elif kind == CONNECT_DEADLINE:
            self.end(channel, CONNECT_TIMED_OUT)
        elif kind == REQUEST_DEADLINE:
            self.end(channel, REQUEST_TIMED_OUT)
        else:
            self._check_keep_alive(channel)

    def _check_answer(self, channel: Channel) -> None:
        """A verdict or the store has been waited for, perhaps too long."""
        ws = self._ws
        channel.answer_deadline = None
        if channel.close != CLOSE_NO or channel.wait not in (WAIT_VERDICT, WAIT_STORE):
            return
        at = channel.waits_since + ws.limits.request_timeout_secs
        if at > ws.now:
            channel.answer_deadline = ws.deadlines.arm(at, ANSWER_DEADLINE, channel)
        else:
            self.end(channel, REQUEST_TIMED_OUT)

    def _check_keep_alive(self, channel: Channel) -> None:
        """Silent for 1.5 times the keep-alive, unless it is we who do not read.

        [v3 MQTT-3.1.2-24]
        """
        ws = self._ws
        connection = channel.connection
        period = connection.keep_alive_s * _KEEP_ALIVE_GRACE
        if channel.wait != WAIT_NO or channel.is_queued:
            connection.received_at = ws.now
        at = connection.received_at + period
        if at > ws.now:
            channel.is_suspect = False
            self._arm(channel, at, KEEP_ALIVE_DEADLINE)
        elif not channel.is_suspect:
            channel.is_suspect = True  # bytes may have arrived that have not been read yet
            self._arm(channel, ws.now + _LAST_LOOK_S, KEEP_ALIVE_DEADLINE)
        else:
            self.end(channel, KEEP_ALIVE_EXPIRED)

    # The end

    def end(
        self,
        channel: Channel,
        cause: int,
        *,
        statement: str = "",
        offset: int = -1,
        detail: str = "",
        error: Exception | None = None,
        reason: int = 0,
    ) -> None:
        """End a connection: session, will, and the socket after what is still to be sent.

        `reason` is the code to tell the client, 0 for that of the cause.
        """
        if channel.close != CLOSE_NO or not channel.is_open:
            if cause in (EOF_BY_PEER, TRANSPORT_ERROR):
                self._close_now(channel)
            return
        ws = self._ws
        channel.cause = cause
        channel.accepts = False
        channel.wait = WAIT_NO
        if not reason:
            reason = cause_reason(cause)
        self._say_why(channel, cause, reason, detail)
        channel.connection.stop_reading()
        self._tell(channel, cause, statement, offset, detail, error, reason)
        attempt = channel.attempt
        if channel.session is None:
            ws.stats.half_connected -= 1
        if attempt is not None:
            attempt.is_over = True
            channel.attempt = None
            self._sessions.forget_claim(attempt)
            if attempt.holds_will and attempt.connect.will is not None:
                self._sessions.wills.let_go(attempt.connect.will)
        ws.asking.pop(channel.token, None)
        if channel.authentication is not None:
            channel.authentication.stop(ws)
            channel.authentication = None
        ws.store_waiters.pop(channel.key, None)
        self._disarm(channel)
        if cause in _AT_ONCE or channel.gone:
            self._close_now(channel)
        else:
            channel.close = CLOSE_AFTER_FLUSH
            channel.deadline = ws.deadlines.arm(
                ws.now + ws.limits.linger_timeout_secs, LINGER_DEADLINE, channel
            )
            channel.wants_read = True
            ws.mark_dirty(channel)
        self._leave_session(channel, cause)

    def _say_why(self, channel: Channel, cause: int, reason: int, detail: str) -> None:
        """Send DISCONNECT to a client of MQTT 5.0 that has got its CONNACK.

        [MQTT-3.14.0-1] [MQTT-4.13.1-1] [MQTT-4.13.2-1]
        """
        connection = channel.connection
        if connection.level != MQTT_5 or channel.session is None or channel.gone:
            return
        if not _is_told(cause):
            return
        if not connection.peer.wants_problem_information or cause in _NOT_EXPLAINED:
            detail = ""
        reference = ""
        if cause == SHUT_DOWN and self._ws.limits.server_reference:
            reference = self._ws.limits.server_reference
            reason = USE_ANOTHER_SERVER
        properties = reason_properties(detail, channel.max_packet_bytes, reference)
        packet = Disconnect(reason, properties)
        self._ws.write(channel, encode(packet, MQTT_5))  # [MQTT-3.14.2-1]
        self._ws.stats.packets_sent += 1

    def _leave_session(self, channel: Channel, cause: int) -> None:
        session = channel.session
        if session is None:
            return
        will = channel.will
        channel.will = None
        fan_out = channel.fan_out
        channel.fan_out = None
        sessions = self._sessions
        is_wanted = publishes_will(cause)
        # A newer CONNECT has stored its own.
        is_replaced = sessions.is_will_replaced(session.client_id)
        if will is not None and is_wanted and will_delay_s(will) and session.outlives_connection:
            sessions.delay_will(session, will, is_replaced)
            will = None
        sessions.detach(channel)
        if will is None:
            return
        sessions.wills.let_go(will)
        gone = None if is_replaced else SaveWill(session.client_id, None)
        if is_wanted and fan_out is not None:
            self._publishing.publish_will_behind(fan_out, will, session, gone)
        elif is_wanted:
            self._publishing.publish_will(will, session, gone)  # [v3 MQTT-3.1.2-8]
        elif cause == SHUT_DOWN:
            sessions.wills.kept[session.client_id] = will  # a durable store publishes it later
        elif gone is not None:
            self._ws.record(gone)  # [v3 MQTT-3.1.2-10]

    def _tell(
        self,
        channel: Channel,
        cause: int,
        statement: str,
        offset: int,
        detail: str,
        error: Exception | None,
        reason: int,
    ) -> None:
        ws = self._ws
        severity = _SEVERITIES.get(cause, FACT_INFO)
        name = "client.disconnected"
        if channel.session is None:
            name = "client.refused"
            if cause in (EOF_BY_PEER, CONNECT_TIMED_OUT, TRANSPORT_ERROR):
                name = "client.silent"
                severity = FACT_DEBUG if cause != CONNECT_TIMED_OUT else FACT_INFO
            else:
                ws.stats.connects_refused += 1
        if cause == FAULT:
            ws.stats.faults += 1
        elif cause == PROTOCOL_VIOLATION:
            ws.stats.protocol_violations += 1
        if channel.connection.level == MQTT_5 and reason and _is_told(cause):
            name_of_reason = f"0x{reason:02X} {reason_name(reason)}"
            detail = f"{name_of_reason}: {detail}" if detail else name_of_reason
        ws.tell(
            name,
            channel,
            severity=severity,
            cause=cause_name(cause),
            statement=statement,
            offset=offset,
            detail=detail,
            error=error,
        )

    def _close_now(self, channel: Channel) -> None:
        """The socket goes, with what has not been sent."""
        ws = self._ws
        if not channel.is_open:
            return
        channel.is_open = False
        channel.close = CLOSE_NOW
        channel.wants_read = False
        self._disarm(channel)
        deadline = channel.send_deadline
        if deadline is not None:
            ws.deadlines.cancel(deadline)
            channel.send_deadline = None
        deadline = channel.answer_deadline
        if deadline is not None:
            ws.deadlines.cancel(deadline)
            channel.answer_deadline = None
        channel.output.clear()
        channel.connection.buffer.clear()
        ws.input_bytes -= channel.buffered
        channel.buffered = 0
        channel.acks = None
        channel.verdicts = None
        channel.held_packet = None
        self.channels.pop(channel.key, None)
        ws.stats.connections -= 1
        ws.mark_dirty(channel)

    def discard(self, channel: Channel, size: int) -> None:
        """Input after the end: read and thrown away, within a limit."""
        channel.linger_left -= size
        if channel.linger_left < 0:
            self._close_now(channel)

    def transport_ended(self, channel: Channel, cause: int) -> None:
        """The transport is gone."""
        if not channel.is_open:
            return
        self.end(channel, cause)
        self._close_now(channel)

    def shut_down(self, channel: Channel, at_once: bool) -> None:
        """The server is going down."""
        self.end(channel, SHUT_DOWN)
        if at_once:
            self._close_now(channel)
