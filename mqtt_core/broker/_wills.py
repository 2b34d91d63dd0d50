"""Wills whose connection has ended: published at once, or after their delay (3.1.3.2.2).

A delayed will belongs to its session: it is published when the delay is over or the session
ends, whichever comes first, and taken back when the client returns to the session before.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._packets import Will
from mqtt_core._properties import WILL_DELAY_INTERVAL, number
from mqtt_core._store import SaveWill, StoredWill
from mqtt_core.broker._deadlines import Deadline, Timed
from mqtt_core.broker._publishing import Publishing
from mqtt_core.broker._session import Session
from mqtt_core.broker._workspace import Workspace

# What they take in memory, by an upper estimate.
_WILL_BYTES: Final = 1_024  # a will with its entries in tables, the engine's too
_PROPERTY_BYTES: Final = 192  # a property beside its text or data
_CHARACTER_BYTES: Final = 4  # of text, once one of its characters needs so many

WILL_DUE: Final = 2  # a kind of deadline of a session; the other is in `_sessions`


def will_delay_s(will: Will) -> int:
    """How long a will waits for its client to come back, in seconds; 0 in MQTT 3.1.1."""
    return number(will.properties, WILL_DELAY_INTERVAL, 0)


def will_cost(will: Will) -> int:
    """What a will takes in memory, in bytes, by an upper estimate."""
    size = _WILL_BYTES + len(will.payload) + _CHARACTER_BYTES * len(will.topic)
    for _, value in will.properties:
        if isinstance(value, tuple):
            size += 2 * _PROPERTY_BYTES + _CHARACTER_BYTES * (len(value[0]) + len(value[1]))
        elif isinstance(value, str):
            size += _PROPERTY_BYTES + _CHARACTER_BYTES * len(value)
        elif isinstance(value, bytes):
            size += _PROPERTY_BYTES + len(value)
        else:
            size += _PROPERTY_BYTES
    return size


@final
class DelayedWill:
    """A will that waits for its time."""

    __slots__ = ("will", "due", "is_stored", "deadline")

    def __init__(self, will: Will, due: float, deadline: Deadline) -> None:
        self.will: Final = will
        self.due: Final = due  # unix seconds
        self.is_stored = True  # the newest will of its client in the store
        self.deadline = deadline


@final
class Wills:
    """Publishes the wills of connections that have ended."""

    __slots__ = ("kept", "_ws", "_publishing", "_size_bytes")

    def __init__(self, workspace: Workspace, publishing: Publishing) -> None:
        # Of those that a shutdown has disconnected, by client: they stay in the store.
        self.kept: Final[dict[str, Will]] = {}
        self._ws: Final = workspace
        self._publishing: Final = publishing
        self._size_bytes = 0  # of those of connections, and those that wait

    def delay(self, session: Session, will: Will, is_replaced: bool, timer: Timed) -> None:
        """Let a will wait; it is published no later than its session ends. `is_replaced`: the
        store has the will of a newer connection already.

        [MQTT-3.1.2-8]
        """
        ws = self._ws
        delay_s = will_delay_s(will)
        deadline = ws.deadlines.arm(ws.now + delay_s, WILL_DUE, timer)
        delayed = DelayedWill(will, ws.wall + delay_s, deadline)
        session.will = delayed
        if is_replaced:
            delayed.is_stored = False
        else:
            ws.record(SaveWill(session.client_id, will, delayed.due))

    def recover(self, session: Session, stored: StoredWill, timer: Timed) -> None:
        """The stored will of a session that a broker finds when it starts.

        One that was not due at any time is that of a connection which has ended just now.
        """
        ws = self._ws
        will = stored.will
        self._size_bytes += will_cost(will)
        left_s = float(will_delay_s(will))
        due = stored.due
        if due:
            left_s = min(due - ws.wall, left_s)
        else:
            due = ws.wall + left_s
            ws.record(SaveWill(session.client_id, will, due))
        session.will = DelayedWill(will, due, ws.deadlines.arm(ws.now + left_s, WILL_DUE, timer))

    def has_last(self, client_id: str) -> bool:
        """Whether a will of a client is on its way to very many, and still stored."""
        return client_id in self._publishing.last_wills

    def save_again(self, client_id: str, session: Session | None) -> None:
        """A CONNECT with a will has come to nothing: the one that was stored before counts."""
        will: Will | None = None
        due = 0.0
        if session is not None:
            delayed = session.will
            if delayed is not None:
                will = delayed.will
                due = delayed.due
                delayed.is_stored = True
            elif session.channel is not None:
                will = session.channel.will
            else:
                will = self.kept.get(client_id)
        else:
            will = self.kept.get(client_id)
        self._ws.record(SaveWill(client_id, will, due))

    def cancel(self, session: Session) -> None:
        """The client has come back to its session in time, and its CONNECT has replaced the will
        in the store.  [MQTT-3.1.3-9]"""
        self._take(session)

    def publish(self, session: Session) -> None:
        """The time of a session's will has come, if it has one: its delay is over, or the session
        has ended."""
        delayed = self._take(session)
        if delayed is not None:
            gone = SaveWill(session.client_id, None) if delayed.is_stored else None
            self._publishing.publish_will(delayed.will, session, gone)

    def publish_stored(self, stored: StoredWill) -> None:
        """The stored will of a client that has no session any more."""
        self._publishing.publish_will(stored.will, None, SaveWill(stored.client_id, None))

    def _take(self, session: Session) -> DelayedWill | None:
        delayed = session.will
        if delayed is None:
            return None
        session.will = None
        self._ws.deadlines.cancel(delayed.deadline)
        self.let_go(delayed.will)
        return delayed

    # How much memory they take

    def hold(self, will: Will) -> bool:
        """Make room for a will; False where there is none."""
        size = self._size_bytes + will_cost(will)
        if size > self._ws.limits.total_will_bytes:
            return False
        self._size_bytes = size
        return True

    def let_go(self, will: Will) -> None:
        """A will is published, or is not wanted any more."""
        self._size_bytes -= will_cost(will)
