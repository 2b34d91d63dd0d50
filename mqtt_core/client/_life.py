"""The life of a client: one connection after the other, and what follows when one is over."""

from __future__ import annotations

from typing import Final, final

from mqtt_core.client._desk import Desk
from mqtt_core.client._dialling import Dialling
from mqtt_core.client._errors import ClientClosed, MqttError
from mqtt_core.client._events import Ended, Lost, Retrying
from mqtt_core.client._incoming import Incoming
from mqtt_core.client._outgoing import Outgoing
from mqtt_core.client._subscriptions import Subscriptions

NEW: Final = 0
LOADING: Final = 7  # what an earlier run has left is read
OPENING: Final = 1  # a transport is wanted
GREETING: Final = 2  # CONNECT is out
ONLINE: Final = 3
DROPPING: Final = 4  # the transport is to be closed
WAITING: Final = 5  # for the time of the next attempt
ENDED: Final = 6

RETRY: Final = 0  # what follows when a transport is gone
AT_ONCE: Final = 1
END: Final = 2


@final
class Life:
    """The state of a client, and the ends that it may come to."""

    __slots__ = (
        "state",
        "deadline",
        "is_closing",
        "verdict",
        "last_error",
        "error",
        "_desk",
        "_dialling",
        "_outgoing",
        "_incoming",
        "_subscriptions",
        "_was_online",
    )

    def __init__(
        self,
        desk: Desk,
        dialling: Dialling,
        outgoing: Outgoing,
        incoming: Incoming,
        subscriptions: Subscriptions,
    ) -> None:
        self.state = NEW
        self.deadline = 0.0  # of the next attempt, while one is waited for
        self.is_closing = False  # the program wants the end
        self.verdict = RETRY
        self.last_error: MqttError | None = None
        self.error: MqttError | None = None  # why it has ended
        self._desk: Final = desk
        self._dialling: Final = dialling
        self._outgoing: Final = outgoing
        self._incoming: Final = incoming
        self._subscriptions: Final = subscriptions
        self._was_online = False

    def server(self) -> str:
        """What messages call the server."""
        return self._dialling.reference or self._desk.settings.server

    def drop(self, error: MqttError | None, verdict: int, why: str = "", reason: int = 0) -> None:
        """Leave the connection; when the transport is gone, `verdict` says what follows."""
        desk = self._desk
        counters = desk.counters
        self._was_online = desk.is_online
        if desk.is_online:
            if not self.is_closing:
                counters.lost_connections += 1
            desk.is_online = False
            self._outgoing.lose_connection()
            self._incoming.lose_connection()
            self._subscriptions.lose_connection()
        else:
            counters.failed_attempts += 1
        if error is not None:
            self.last_error = error
            desk.events.append(Lost(why or str(error), reason))
        self.verdict = verdict
        self.state = DROPPING

    def go_on(self, now: float) -> None:
        """There is no transport any more."""
        if self.is_closing:
            self.end(None)
        elif self.verdict == END:
            self.end(self.last_error)
        elif self.verdict == AT_ONCE:
            self.state = OPENING
        elif not self._desk.counters.connections or self._desk.settings.reconnect is None:
            self.end(self.last_error)
        else:
            self._dialling.lost(self._was_online, now)
            self._was_online = False
            attempt = self._dialling.attempt
            delay_s = self._dialling.delay_s()
            self._desk.events.append(Retrying(attempt + 1, delay_s))
            self.state = WAITING
            self.deadline = now + delay_s

    def end(self, error: MqttError | None) -> None:
        """It is over for good; whoever waits is told."""
        self.state = ENDED
        self.error = error
        closed = ClientClosed(
            "the client is closed: make a new one"
            if error is None
            else f"the client has ended: {error}"
        )
        closed.__cause__ = error
        self._desk.events.append(Ended(error))
        self._outgoing.end(closed)
        self._subscriptions.end_all(closed)
