"""Enhanced authentication: message by message before CONNACK, and again on a live connection
(4.12).

Whose turn it is, and that the method stays the one of CONNECT, is the connection's matter. Here
each message of the client becomes a question to the policy, which answers at once or outside.
Before CONNACK nothing of the client is read while an answer is waited for; in a
re-authentication its other packets go on, under what it was allowed before. An exchange has a
limited number of steps, and a limited time for policy and client together.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import (
    CONNACK,
    CONTINUE_AUTHENTICATION,
    DISCONNECT,
    IMPLEMENTATION_SPECIFIC_ERROR,
    MQTT_5,
    NOT_AUTHORIZED,
    QUOTA_EXCEEDED,
    RE_AUTHENTICATE,
    SUCCESS,
)
from mqtt_core._errors import LocalProtocolError
from mqtt_core._packets import Auth
from mqtt_core._properties import AUTHENTICATION_DATA, binary
from mqtt_core.broker._attempt import describe_method
from mqtt_core.broker._auth import AuthRequest, Decision, refusal_reason
from mqtt_core.broker._causes import UNAUTHORIZED
from mqtt_core.broker._channel import CLOSE_NO, Channel
from mqtt_core.broker._connecting import Connecting, data_properties
from mqtt_core.broker._deadlines import Deadline
from mqtt_core.broker._endings import Endings
from mqtt_core.broker._workspace import WAIT_CONNACK, WAIT_NO, Workspace

_TOO_LARGE: Final = "needs more data than the client takes"


@final
class Authentication:
    """How one client is authenticated by a method: the exchange under way, and who it is.

    `username` is the one that it has been accepted with, or of its CONNECT before that.
    """

    __slots__ = ("username", "number", "steps", "state", "token", "deadline")

    def __init__(self, username: str | None) -> None:
        self.username = username
        self.number = 0  # of the exchange
        self.steps = 0  # messages of the client in it
        self.state: object = None  # what the policy has to know in the next
        self.token = 0  # of the question that waits for an answer from outside
        self.deadline: Deadline | None = None

    def stop(self, workspace: Workspace) -> None:
        """No exchange is under way any more."""
        workspace.asking.pop(self.token, None)
        self.token = 0
        self.state = None
        if self.deadline is not None:
            workspace.deadlines.cancel(self.deadline)
            self.deadline = None


@final
class Exchanging:
    """Takes the messages of clients that have an authentication method."""

    __slots__ = ("_ws", "_connecting", "_endings")

    def __init__(self, workspace: Workspace, connecting: Connecting, endings: Endings) -> None:
        self._ws: Final = workspace
        self._connecting: Final = connecting
        self._endings: Final = endings

    def begin(self, channel: Channel) -> None:
        """A CONNECT with a method has passed all other checks."""
        attempt = channel.attempt
        assert attempt is not None
        connect = attempt.connect
        authentication = Authentication(connect.username)
        channel.authentication = authentication
        self._start(channel, authentication)
        data = binary(connect.properties, AUTHENTICATION_DATA)
        self._ask(channel, authentication, data, connect.password)

    def take(self, channel: Channel, packet: Auth) -> None:
        """An AUTH of a client whose turn it is."""
        authentication = channel.authentication
        assert authentication is not None, "the connection reads no AUTH without a method"
        password: bytes | None = None
        if channel.attempt is not None:
            password = channel.attempt.connect.password
        if packet.reason == RE_AUTHENTICATE:  # [MQTT-4.12.1-1]
            self._start(channel, authentication)
        self._ask(channel, authentication, binary(packet.properties, AUTHENTICATION_DATA), password)

    def _start(self, channel: Channel, authentication: Authentication) -> None:
        ws = self._ws
        ws.stats.auth_exchanges += 1
        authentication.number = ws.next_id()
        authentication.steps = 0
        authentication.deadline = self._endings.arm_exchange_deadline(channel)

    def _ask(
        self,
        channel: Channel,
        authentication: Authentication,
        data: bytes | None,
        password: bytes | None,
    ) -> None:
        ws = self._ws
        exchange = channel.connection.exchange
        assert exchange is not None
        is_again = channel.session is not None
        if not is_again:
            channel.wait = WAIT_CONNACK
        authentication.steps += 1
        authentication.token = ws.next_id()
        request = AuthRequest(
            authentication.token,
            channel.client_id,
            authentication.username,
            password,
            channel.listener,
            channel.peer,
            MQTT_5,
            method=exchange.method,
            data=data,
            is_reauthentication=is_again,
            exchange=authentication.number,
            state=authentication.state,
        )
        decision = ws.policy.authenticate(request)
        if decision is not None:
            self._go_on(channel, authentication, decision)
            return
        ws.asking[authentication.token] = channel
        ws.requests.append(request)

    def decided(self, channel: Channel, authentication: Authentication, decision: Decision) -> None:
        """The answer from outside that an exchange waits for."""
        self._go_on(channel, authentication, decision)
        if channel.close == CLOSE_NO:
            self._ws.queue_work(channel)  # to read what may be read now

    def _go_on(self, channel: Channel, authentication: Authentication, decision: Decision) -> None:
        authentication.token = 0
        if decision.goes_on:
            self._challenge(channel, authentication, decision)
        elif not decision.is_accepted:
            self._fail(channel, decision.reason, "failed")
        elif channel.session is None:
            self._accept(channel, authentication, decision)
        else:
            self._accept_again(channel, authentication, decision)

    def _challenge(
        self, channel: Channel, authentication: Authentication, decision: Decision
    ) -> None:
        """Ask the client for another message.  [MQTT-4.12.0-2]"""
        most = self._ws.limits.max_exchange_steps
        if authentication.steps >= most:
            self._fail(channel, QUOTA_EXCEEDED, f"takes more than {most} messages")
            return
        authentication.state = decision.state
        if not self._send(channel, CONTINUE_AUTHENTICATION, decision.data):
            self._fail(channel, IMPLEMENTATION_SPECIFIC_ERROR, _TOO_LARGE)
        elif channel.session is None:
            channel.wait = WAIT_NO  # for AUTH and DISCONNECT

    def _accept(self, channel: Channel, authentication: Authentication, decision: Decision) -> None:
        """The client has shown who it is: CONNACK says so, once all else is done."""
        attempt = channel.attempt
        assert attempt is not None
        if not self._connecting.fits(attempt, decision.data):
            self._fail(channel, IMPLEMENTATION_SPECIFIC_ERROR, _TOO_LARGE)
            return
        _conclude(authentication, decision, self._ws)
        self._endings.arm_request_deadline(channel)
        self._connecting.decide(channel, decision)

    def _accept_again(
        self, channel: Channel, authentication: Authentication, decision: Decision
    ) -> None:
        """The client has shown once more who it is; from now on it may do what that one may."""
        if not self._send(channel, SUCCESS, decision.data):
            self._fail(channel, IMPLEMENTATION_SPECIFIC_ERROR, _TOO_LARGE)
            return
        ws = self._ws
        _conclude(authentication, decision, ws)
        session = channel.session
        assert session is not None
        session.is_unrestricted = decision.is_unrestricted
        session.username = None if decision.is_unrestricted else authentication.username
        session.verdicts = None
        ws.stats.reauthentications += 1
        detail = describe_method(channel)
        if authentication.username is not None:
            detail += f", user {authentication.username!r}"
        ws.tell("client.reauthenticated", channel, detail=detail)

    def _send(self, channel: Channel, reason: int, data: bytes | None) -> bool:
        """Send AUTH; False where the client takes no packet as large.  [MQTT-3.15.2-1]"""
        ws = self._ws
        ws.mark_dirty(channel)
        output = channel.output
        size_bytes = output.size_bytes
        try:
            channel.connection.send_auth(Auth(reason, data_properties(data)), ws.now)
        except LocalProtocolError:
            return False
        ws.stats.packets_sent += 1
        if not channel.is_writable:
            ws.count_unread(channel, output.size_bytes - size_bytes)
        return True

    def timed_out(self, channel: Channel) -> None:
        """An exchange has taken too long."""
        authentication = channel.authentication
        assert authentication is not None  # else its deadline would have been cancelled
        authentication.deadline = None
        self._fail(channel, NOT_AUTHORIZED, "takes too long")

    def _fail(self, channel: Channel, reason: int, detail: str) -> None:
        """Refuse the client, or end its connection.  [MQTT-4.12.0-4] [MQTT-4.12.1-2]"""
        self._ws.stats.auth_exchanges_failed += 1
        detail = f"authentication by {describe_method(channel)} {detail}"
        if channel.session is None:
            self._connecting.refuse(channel, refusal_reason(reason, CONNACK), detail)
        else:
            reason = refusal_reason(reason, DISCONNECT)
            self._endings.end(channel, UNAUTHORIZED, detail="re-" + detail, reason=reason)


def _conclude(authentication: Authentication, decision: Decision, workspace: Workspace) -> None:
    """An exchange has come to its good end."""
    authentication.stop(workspace)
    if decision.username is not None:
        authentication.username = decision.username
