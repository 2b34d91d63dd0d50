"""What is in a store that no broker uses, in numbers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.storage._database import NAME
from adapters.storage._index import number_of


@dataclass(frozen=True, slots=True)
class Figures:
    """Sizes of a store in bytes, and how much of everything is in it.

    `free_bytes` are those of the file that are not in use. Messages are counted once for each
    session that they are for; `left_over` are those of sessions that are over, which the next
    broker deletes. `queue_bytes` counts what waits as the limits of queues do.
    """

    path: str
    file_bytes: int
    log_bytes: int
    free_bytes: int
    schema: int
    sessions: int
    subscriptions: int
    waiting: int
    queue_bytes: int
    in_flight: int
    held: int
    messages: int
    left_over: int
    retained: int
    wills: int


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """A stored session. Times are in unix seconds.

    `away_since` and `expires_at` are None where its client was connected when the broker ended
    without a shutdown; `expiry_s` is how long it outlives its connection. `oldest_from` is when the
    message that waits longest was stored, None where an earlier version stored it.
    """

    client_id: str
    away_since: float | None
    expires_at: float | None
    expiry_s: int
    subscriptions: int
    waiting: int
    queue_bytes: int
    oldest_from: int | None
    in_flight: int
    held: int


_SESSIONS: Final = """
SELECT s.client_id, s.expires_at, s.interval_s,
    (SELECT count(*) FROM subscription WHERE session = s.id),
    coalesce(q.waiting, 0) AS waiting, coalesce(q.bytes, 0) AS bytes, q.oldest,
    coalesce(q.in_flight, 0),
    (SELECT count(*) FROM held WHERE id BETWEEN s.id << 16 AND (s.id << 16) + 65535)
FROM session AS s LEFT JOIN (
    SELECT session, count(*) FILTER (WHERE packet_id = 0) AS waiting,
        sum(size) FILTER (WHERE packet_id = 0) AS bytes,
        min(id) FILTER (WHERE packet_id = 0) AS oldest,
        count(*) FILTER (WHERE packet_id <> 0) AS in_flight
    FROM queue GROUP BY session
) AS q ON q.session = s.id
ORDER BY waiting DESC, bytes DESC, s.client_id LIMIT ?
"""

_DELIVERIES: Final = """
SELECT count(*) FILTER (WHERE q.packet_id = 0 AND s.id IS NOT NULL),
    coalesce(sum(q.size) FILTER (WHERE q.packet_id = 0 AND s.id IS NOT NULL), 0),
    count(*) FILTER (WHERE q.packet_id <> 0 AND s.id IS NOT NULL),
    count(*) FILTER (WHERE s.id IS NULL)
FROM queue AS q LEFT JOIN session AS s ON s.id = q.session
"""


def figures(connection: sqlite3.Connection, folder: Path) -> Figures:
    """All of a store that can be counted."""
    waiting, queue_bytes, in_flight, left_over = connection.execute(_DELIVERIES).fetchone()
    return Figures(
        path=str(folder / NAME),
        file_bytes=file_bytes(folder),
        log_bytes=log_bytes(folder),
        free_bytes=_one(connection, "PRAGMA freelist_count") * _one(connection, "PRAGMA page_size"),
        schema=_one(connection, "PRAGMA user_version"),
        sessions=_one(connection, "SELECT count(*) FROM session"),
        subscriptions=_one(connection, "SELECT count(*) FROM subscription"),
        waiting=waiting,
        queue_bytes=queue_bytes,
        in_flight=in_flight,
        held=_one(connection, "SELECT count(*) FROM held"),
        messages=_one(connection, "SELECT count(*) FROM message"),
        left_over=left_over,
        retained=_one(connection, "SELECT count(*) FROM retained"),
        wills=_one(connection, "SELECT count(*) FROM will"),
    )


def session_figures(connection: sqlite3.Connection, limit: int = 0) -> Iterator[SessionFigures]:
    """The sessions, those first for which most waits; at most `limit` of them, 0 for all."""
    for row in connection.execute(_SESSIONS, (limit or -1,)):
        client_id, expires_at, expiry_s, subscriptions, waiting, size, oldest, in_flight, held = row
        yield SessionFigures(
            client_id=client_id,
            # A session ends so long after its connection has.
            away_since=None if expires_at is None else expires_at - expiry_s,
            expires_at=expires_at,
            expiry_s=expiry_s,
            subscriptions=subscriptions,
            waiting=waiting,
            queue_bytes=size,
            oldest_from=None if oldest is None else _came_at(connection, oldest),
            in_flight=in_flight,
            held=held,
        )


def _came_at(connection: sqlite3.Connection, delivery: int) -> int | None:
    """When a message was stored, in unix seconds; None where that is not known."""
    row = connection.execute(
        "SELECT came_at FROM message WHERE number = ? AND typeof(came_at) = 'integer'",
        (number_of(delivery),),
    ).fetchone()
    return None if row is None else int(row[0])


def file_bytes(folder: Path) -> int:
    """The size of the database without its log."""
    return _size(folder / NAME)


def log_bytes(folder: Path) -> int:
    """The size of the log; 0 after an orderly end."""
    return _size(folder / f"{NAME}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _one(connection: sqlite3.Connection, query: str) -> int:
    (value,) = connection.execute(query).fetchone()
    return int(value)
