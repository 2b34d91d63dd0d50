"""A batch as SQL.

A statement has many rows: each one gives up the interpreter's lock while it runs, and gets it back
only when the loop, which may be busy, lets it go.

`sqlite3` looks for an adapter of each value that is no int, float, str or bytearray, which costs
more than the rest of a row. So what is NULL or the same in most rows stands in the statement, and
what is made once for each message is a bytearray.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from time import time
from typing import Final, final

from adapters.storage._batch import Batch
from adapters.storage._index import Flight
from adapters.storage._records import encode_message, encode_particulars, encode_will

Value = int | float | str | bytes | bytearray | None
Row = tuple[Value, ...]

_ROWS: Final = (128, 32, 8, 1)
"""Rows of one statement: few enough sizes that all statements stay prepared."""

_INTO_QUEUE: Final = (
    "INSERT INTO queue(id, session, size, qos, expires_at, particulars, packet_id, is_received, "
    "position) VALUES"
)
HELD_BITS: Final = 16


def held_id(session: int, packet_id: int) -> int:
    """The row of a held identifier."""
    return session << HELD_BITS | packet_id


@final
class Rows:
    """A batch in the form of rows. Messages are encoded by whoever writes them."""

    __slots__ = (
        "ended",
        "sessions",
        "subscriptions",
        "subscriptions_gone",
        "held",
        "released",
        "wills",
        "wills_gone",
        "retained",
        "retained_gone",
        "deliveries_gone",
        "messages_gone",
        "messages",
        "waiting",
        "sent",
        "deliveries",
        "flights",
    )

    def __init__(self, batch: Batch) -> None:
        self.ended: Final = [(session,) for session in batch.ended]
        self.sessions: Final[list[Row]] = [
            (each.session, each.client_id, each.expires_at, each.interval_s)
            for each in batch.sessions.values()
        ]
        self.subscriptions: Final[list[Row]] = []
        self.subscriptions_gone: Final[list[Row]] = []
        for session, filters in batch.subscriptions.items():
            for topic_filter, granted in filters.items():
                if granted is None:
                    self.subscriptions_gone.append((session, topic_filter))
                    continue
                qos, options, retained_due = granted
                own: Row = (False, False, None)
                if options is not None:
                    own = (options.no_local, options.retain_as_published, options.identifier)
                self.subscriptions.append((session, topic_filter, qos, *own, retained_due))
        self.held: Final[list[Row]] = []
        self.released: Final[list[Row]] = []
        for session, identifiers in batch.held.items():
            for packet_id, is_held in identifiers.items():
                rows = self.held if is_held else self.released
                rows.append((held_id(session, packet_id),))
        self.wills: Final = [
            (client_id, known[1], known[0])
            for client_id, known in batch.wills.items()
            if known is not None
        ]
        self.wills_gone: Final = [
            (client_id,) for client_id, known in batch.wills.items() if known is None
        ]
        self.retained: Final = [
            (topic, message) for topic, message in batch.retained.items() if message is not None
        ]
        self.retained_gone: Final = [
            (topic,) for topic, message in batch.retained.items() if message is None
        ]
        self.deliveries_gone: Final = sorted(batch.removed)
        self.messages_gone: Final = sorted(batch.gone)
        self.messages: Final = list(batch.messages.items())
        # Deliveries that are new: those that wait and have nothing of their own, those that have
        # been sent and have nothing of their own, and the others.
        self.waiting: Final[list[Row]] = []
        self.sent: Final[list[Row]] = []
        self.deliveries: Final[list[Row]] = []
        flights = dict(batch.flights)
        for delivery, added in batch.added.items():
            flight = flights.pop(delivery, None)
            target = added.target
            session = added.stored.session
            particulars = target.particulars
            if added.expires_at or particulars is not None:
                own = (added.expires_at or None, encode_particulars(particulars))
                steps = (0, 0, 0) if flight is None else _steps(flight)
                row = (delivery, session, added.size, target.qos, *own, *steps)
                self.deliveries.append(row)
            elif flight is None:
                self.waiting.append((delivery, session, added.size, target.qos))
            else:
                steps = _steps(flight)
                self.sent.append((delivery, session, added.size, target.qos, *steps))
        self.flights: Final[list[Row]] = [
            (delivery, *_steps(flight)) for delivery, flight in flights.items()
        ]


def _steps(flight: Flight) -> tuple[int, int, int]:
    """How far a delivery has got."""
    return (flight.packet_id, 1 if flight.is_received else 0, flight.position)


def write_rows(connection: sqlite3.Connection, rows: Rows) -> None:
    """Bring a batch into the transaction that is open."""
    _write_sessions(connection, rows)
    many = connection.executemany
    if rows.wills_gone:
        many("DELETE FROM will WHERE client_id=?", rows.wills_gone)
    if rows.wills:
        many(
            "INSERT OR REPLACE INTO will(client_id, due, record) VALUES(?, ?, ?)",
            [(client_id, due, encode_will(will)) for client_id, due, will in rows.wills],
        )
    if rows.retained_gone:
        many("DELETE FROM retained WHERE topic=?", rows.retained_gone)
    if rows.retained:
        insert(
            connection,
            "INSERT OR REPLACE INTO retained(topic, record) VALUES",
            [(topic, encode_message(message)) for topic, message in rows.retained],
        )
    delete(connection, "DELETE FROM queue WHERE id IN ", rows.deliveries_gone)
    delete(connection, "DELETE FROM message WHERE number IN ", rows.messages_gone)
    insert(
        connection,
        "INSERT INTO message(number, record, came_at) VALUES",
        [(number, bytearray(encode_message(message))) for number, message in rows.messages],
        one=f"(?,?,{int(time())})",
    )
    insert(connection, _INTO_QUEUE, rows.waiting, one="(?,?,?,?,NULL,NULL,0,0,0)")
    insert(connection, _INTO_QUEUE, rows.sent, one="(?,?,?,?,NULL,NULL,?,?,?)")
    insert(connection, _INTO_QUEUE, rows.deliveries)
    insert(
        connection,
        "UPDATE queue SET packet_id=new.column2, is_received=new.column3, position=new.column4 "
        "FROM (VALUES",
        rows.flights,
        ") AS new WHERE id=new.column1",
    )


def _write_sessions(connection: sqlite3.Connection, rows: Rows) -> None:
    many = connection.executemany
    if rows.ended:
        many("DELETE FROM session WHERE id=?", rows.ended)
        many("DELETE FROM subscription WHERE session=?", rows.ended)
        many(
            "DELETE FROM held WHERE id BETWEEN ? AND ?",
            [(held_id(session, 0), held_id(session + 1, 0) - 1) for (session,) in rows.ended],
        )
    insert(
        connection,
        "INSERT OR REPLACE INTO session(id, client_id, expires_at, interval_s) VALUES",
        rows.sessions,
    )
    if rows.subscriptions_gone:
        many("DELETE FROM subscription WHERE session=? AND filter=?", rows.subscriptions_gone)
    insert(
        connection,
        "INSERT OR REPLACE INTO subscription(session, filter, qos, no_local, "
        "retain_as_published, identifier, retained_due) VALUES",
        rows.subscriptions,
    )
    delete(connection, "DELETE FROM held WHERE id IN ", [row[0] for row in rows.released])
    insert(connection, "INSERT OR REPLACE INTO held(id) VALUES", rows.held)


def insert(
    connection: sqlite3.Connection,
    before: str,
    rows: Sequence[Row],
    behind: str = "",
    one: str = "",
) -> None:
    """Run a statement with the rows in it, as many at once as there is a size for. `one` is what
    stands there for each, if that is more than its values."""
    at = 0
    left = len(rows)
    for count in _ROWS:
        while left >= count:
            part = rows[at : at + count]
            if not one:
                one = "(" + ",".join("?" * len(part[0])) + ")"
            values = [value for row in part for value in row]
            connection.execute(before + ",".join([one] * count) + behind, values)
            at += count
            left -= count


def delete(connection: sqlite3.Connection, before: str, keys: Iterable[Value]) -> None:
    """Run a statement with the keys in a list, as many at once as there is a size for."""
    keys = list(keys)
    at = 0
    left = len(keys)
    for count in _ROWS:
        while left >= count:
            connection.execute(before + "(" + ",".join("?" * count) + ")", keys[at : at + count])
            at += count
            left -= count
