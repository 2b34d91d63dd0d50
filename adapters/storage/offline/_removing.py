"""A session, or retained messages, taken out of a store."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from adapters.storage._writing import delete, held_id
from adapters.storage.offline._opening import transaction
from mqtt_core import topic_matches


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What a client has in a store: whether a session, and how much of everything."""

    has_session: bool
    subscriptions: int
    waiting: int
    in_flight: int
    held: int
    has_will: bool

    @property
    def is_nothing(self) -> bool:
        """Whether the store does not know the client."""
        return not self.has_session and not self.has_will


_CLIENT: Final = "client_id = CAST(? AS TEXT)"

_LAST_OF_MESSAGE: Final = """
DELETE FROM message WHERE number IN (SELECT id >> 20 FROM queue WHERE session = :session)
AND NOT EXISTS (
    SELECT 1 FROM queue WHERE id BETWEEN message.number << 20 AND (message.number << 20) + 1048575
    AND session <> :session
)
"""


def session_parts(connection: sqlite3.Connection, client_id: str) -> SessionParts:
    """What there is of a client. Nothing is changed."""
    subscriptions = waiting = in_flight = held = 0
    sessions = _sessions(connection, client_id)
    for session in sessions:
        subscriptions += _count(connection, "subscription WHERE session = ?", session)
        waiting += _count(connection, "queue WHERE packet_id = 0 AND session = ?", session)
        in_flight += _count(connection, "queue WHERE packet_id <> 0 AND session = ?", session)
        held += _count(connection, "held WHERE id BETWEEN ? AND ?", *_held_ids(session))
    has_will = _count(connection, f"will WHERE {_CLIENT}", _stored(client_id)) > 0
    return SessionParts(bool(sessions), subscriptions, waiting, in_flight, held, has_will)


def remove_session(connection: sqlite3.Connection, client_id: str) -> SessionParts:
    """Remove all that there is of a client, in one transaction; what it was. Its will is not
    published."""
    with transaction(connection):
        parts = session_parts(connection, client_id)
        for session in _sessions(connection, client_id):
            connection.execute(_LAST_OF_MESSAGE, {"session": session})
            connection.execute("DELETE FROM queue WHERE session = ?", (session,))
            connection.execute("DELETE FROM subscription WHERE session = ?", (session,))
            connection.execute("DELETE FROM held WHERE id BETWEEN ? AND ?", _held_ids(session))
            connection.execute("DELETE FROM session WHERE id = ?", (session,))
        connection.execute(f"DELETE FROM will WHERE {_CLIENT}", (_stored(client_id),))
    return parts


def retained_topics(connection: sqlite3.Connection, topic_filter: str) -> list[str]:
    """The topics of retained messages that match a valid filter (4.7), in order."""
    return [_text(topic) for topic in _matching(connection, topic_filter)]


def remove_retained(connection: sqlite3.Connection, topic_filter: str) -> list[str]:
    """Remove retained messages that match a valid filter, in one transaction; their topics."""
    with transaction(connection):
        topics = _matching(connection, topic_filter)
        delete(connection, "DELETE FROM retained WHERE topic IN ", topics)
    return [_text(topic) for topic in topics]


def _matching(connection: sqlite3.Connection, topic_filter: str) -> list[bytes]:
    return [
        topic
        for (topic,) in connection.execute("SELECT topic FROM retained ORDER BY topic")
        if topic_matches(topic_filter, _text(topic))
    ]


def _text(topic: bytes) -> str:
    return topic.decode(errors="replace")  # a damaged one can be removed too


def _sessions(connection: sqlite3.Connection, client_id: str) -> list[int]:
    rows = connection.execute(f"SELECT id FROM session WHERE {_CLIENT}", (_stored(client_id),))
    return [session for (session,) in rows.fetchall()]


def _stored(client_id: str) -> bytes:
    return client_id.encode(errors="surrogateescape")  # as it came from a command line


def _held_ids(session: int) -> tuple[int, int]:
    return held_id(session, 0), held_id(session + 1, 0) - 1


def _count(connection: sqlite3.Connection, of: str, *values: int | bytes) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM {of}", values).fetchone()
    return int(count)
