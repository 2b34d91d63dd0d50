"""What is read back from the database, on the thread that writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, final

from adapters.storage._errors import RecordDamagedError
from adapters.storage._index import Flight, Stored, number_of
from adapters.storage._records import decode_message, decode_particulars, decode_will
from adapters.storage._writing import held_id
from mqtt_core import Message
from mqtt_core.broker import (
    InFlight,
    Options,
    Queued,
    SessionRecord,
    StoredWill,
)

_PART: Final = 64
"""Rows asked for at once."""

_QUEUED: Final = (
    "SELECT q.id, q.qos, q.particulars, m.record FROM queue AS q "
    "JOIN message AS m ON m.number = q.id >> 20 WHERE q.id IN "
)
_UNDER_WAY: Final = (
    "SELECT q.id, q.qos, q.particulars, m.record FROM queue AS q "
    "LEFT JOIN message AS m ON m.number = q.id >> 20 AND NOT q.is_received WHERE q.id IN "
)


@final
class Seen:
    """A session as the index had it when it was asked for."""

    __slots__ = ("session", "client_id", "expires_at", "interval_s", "flights", "queued")

    def __init__(self, stored: Stored) -> None:
        self.session: Final = stored.session
        self.client_id: Final = stored.client_id
        self.expires_at: Final = stored.expires_at
        self.interval_s: Final = stored.interval_s
        self.flights: Final = stored.flights()
        self.queued: Final = stored.queued()

    @property
    def size(self) -> int:
        """How much of a page it takes, but for what only the database knows."""
        return 1 + len(self.flights) + len(self.queued)


def read_queued(
    connection: sqlite3.Connection, ids: Sequence[int], unwritten: dict[int, Queued]
) -> list[Queued]:
    """Deliveries that wait; those that are not written yet are given. Raises
    `RecordDamagedError`."""
    stored = [each for each in ids if each not in unwritten] if unwritten else ids
    found = _rows(connection, _QUEUED, stored)
    if len(found) < len(stored):
        missing = sorted(number_of(each) for each in set(stored) - set(found))
        raise RecordDamagedError(f"stored messages are missing: {_some(missing)}")
    entries: list[Queued] = []
    for delivery in ids:
        if delivery in unwritten:
            entries.append(unwritten[delivery])
            continue
        qos, particulars, record = found[delivery]
        assert record is not None
        message = _decoded(delivery, record)
        entries.append(Queued(number_of(delivery), qos, message, decode_particulars(particulars)))
    return entries


def read_sessions(
    connection: sqlite3.Connection, sessions: Sequence[Seen], limit: int
) -> list[SessionRecord]:
    """Records of sessions with all that belongs to them: at least one, then within the limit.

    Raises `RecordDamagedError`.
    """
    records: list[SessionRecord] = []
    if not sessions:
        return records
    first = sessions[0].session
    last = sessions[-1].session
    subscriptions = _subscriptions(connection, first, last)
    held = _held(connection, first, last)
    under_way = read_flights(
        connection, [flight for session in sessions for flight in session.flights]
    )
    size = 0
    for each in sessions:
        filters = subscriptions.get(each.session, {})
        identifiers = held.get(each.session, set())
        size += each.size + len(filters) + len(identifiers)
        if records and size > limit:
            break
        records.append(
            SessionRecord(
                each.session,
                each.client_id,
                filters,
                [under_way[flight[0]] for flight in each.flights],
                identifiers,
                each.queued,
                each.expires_at,
                each.interval_s,
            )
        )
    return records


def _subscriptions(
    connection: sqlite3.Connection, first: int, last: int
) -> dict[int, dict[bytes, tuple[int, Options | None]]]:
    found: dict[int, dict[bytes, tuple[int, Options | None]]] = {}
    for session, topic_filter, qos, no_local, as_published, identifier in connection.execute(
        "SELECT session, filter, qos, no_local, retain_as_published, identifier "
        "FROM subscription WHERE session BETWEEN ? AND ?",
        (first, last),
    ):
        options = None
        if identifier is not None:
            options = Options(bool(no_local), bool(as_published), identifier)
        found.setdefault(session, {})[topic_filter] = (qos, options)
    return found


def _held(connection: sqlite3.Connection, first: int, last: int) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for (row,) in connection.execute(
        "SELECT id FROM held WHERE id BETWEEN ? AND ?",
        (held_id(first, 0), held_id(last + 1, 0) - 1),
    ):
        found.setdefault(row >> 16, set()).add(row & 0xFFFF)
    return found


def read_flights(connection: sqlite3.Connection, flights: list[Flight]) -> dict[int, InFlight]:
    """Deliveries under way, by identifier; without the message where PUBREC has come.

    Raises `RecordDamagedError`.
    """
    found = _rows(connection, _UNDER_WAY, [flight[0] for flight in flights])
    records: dict[int, InFlight] = {}
    for delivery, _, packet_id, is_received, _ in flights:
        row = found.get(delivery)
        if row is None or (row[2] is None and not is_received):
            raise RecordDamagedError(f"stored message {number_of(delivery)} is missing")
        qos, particulars, record = row
        message = None if record is None else _decoded(delivery, record)
        records[delivery] = InFlight(
            packet_id,
            number_of(delivery),
            qos,
            message,
            decode_particulars(particulars),
            bool(is_received),
        )
    return records


def read_wills(connection: sqlite3.Connection, after: str, limit: int) -> list[StoredWill]:
    """Wills behind a client, in the order of their clients' UTF-8. Raises `RecordDamagedError`."""
    return [
        StoredWill(client_id, decode_will(record), due)
        for client_id, due, record in connection.execute(
            "SELECT client_id, due, record FROM will WHERE client_id > ? "
            "ORDER BY client_id LIMIT ?",
            (after, limit),
        ).fetchall()
    ]


def _rows(
    connection: sqlite3.Connection, query: str, ids: Sequence[int]
) -> dict[int, tuple[int, bytes | None, bytes | None]]:
    found: dict[int, tuple[int, bytes | None, bytes | None]] = {}
    for part in _parts(ids):
        # A list of one length, so that the statement stays prepared.
        padded = [*part, *[0] * (_PART - len(part))] if len(part) > 1 else part
        marks = ",".join("?" * len(padded))
        for delivery, qos, particulars, record in connection.execute(f"{query}({marks})", padded):
            found[delivery] = (qos, particulars, record)
    return found


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(ids), _PART):
        yield ids[at : at + _PART]


def _decoded(delivery: int, record: bytes) -> Message:
    try:
        return decode_message(record)
    except RecordDamagedError as error:
        raise RecordDamagedError(f"message {number_of(delivery)}: {error}") from error


def _some(numbers: Iterable[int]) -> str:
    shown = [str(number) for number in numbers]
    more = "" if len(shown) <= 5 else f" and {len(shown) - 5} more"
    return ", ".join(shown[:5]) + more
