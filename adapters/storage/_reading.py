"""What is read back from the database, on the thread that writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, final

from adapters.storage._errors import RecordDamagedError
from adapters.storage._index import Stored, number_of
from adapters.storage._records import decode_message, decode_particulars, decode_will
from adapters.storage._writing import held_id
from mqtt_core import Message
from mqtt_core.broker import (
    Claimed,
    ClaimSession,
    Completion,
    InFlight,
    Operation,
    Options,
    Particulars,
    Queued,
    QueuePage,
    ReadQueue,
    ReadSessions,
    ReadWills,
    SaveWill,
    SessionRecord,
    SessionsPage,
    Settle,
    StoredWill,
    WillsPage,
)

Fetching = Callable[[sqlite3.Connection, list["Damage"]], Completion]
"""What the thread does to answer a request."""

_PART: Final = 64
"""Rows asked for at once."""

_Row = tuple[int, bytes | None, bytes | None]
"""Of a delivery: QoS, particulars, and the record of its message."""

_WAITING: Final = (
    "SELECT q.id, q.qos, q.particulars, CAST(m.record AS BLOB) FROM queue AS q "
    "LEFT JOIN message AS m ON m.number = q.id >> 20 WHERE q.id IN "
)
_UNDER_WAY: Final = (
    "SELECT q.id, q.qos, q.particulars, CAST(m.record AS BLOB) FROM queue AS q "
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


@final
class Damage:
    """What could not be read, for people, and the operation that forgets it."""

    __slots__ = ("what", "remedy")

    def __init__(self, what: str, remedy: Operation) -> None:
        self.what: Final = what
        self.remedy: Final = remedy


def queue_reader(request: ReadQueue, ids: Sequence[int], unwritten: dict[int, Queued]) -> Fetching:
    """Reads a page of a queue."""

    def read(connection: sqlite3.Connection, damages: list[Damage]) -> Completion:
        entries = read_queued(connection, request.session, ids, unwritten, damages)
        return QueuePage(request.request_id, entries)

    return read


def session_reader(request: ClaimSession, stored: Stored) -> Fetching:
    """Reads the session that a client claims."""
    seen = [Seen(stored)]

    def read(connection: sqlite3.Connection, damages: list[Damage]) -> Completion:
        return Claimed(request.request_id, read_sessions(connection, seen, 0, damages)[0])

    return read


def sessions_reader(request: ReadSessions, page: Iterable[Stored]) -> Fetching:
    """Reads a page of sessions."""
    seen = [Seen(stored) for stored in page]

    def read(connection: sqlite3.Connection, damages: list[Damage]) -> Completion:
        records = read_sessions(connection, seen, request.limit, damages)
        return SessionsPage(request.request_id, records)

    return read


def wills_reader(request: ReadWills) -> Fetching:
    """Reads a page of wills."""

    def read(connection: sqlite3.Connection, damages: list[Damage]) -> Completion:
        wills = read_wills(connection, request.after, request.limit, damages)
        return WillsPage(request.request_id, wills)

    return read


def read_queued(
    connection: sqlite3.Connection,
    session: int,
    ids: Sequence[int],
    unwritten: dict[int, Queued],
    damages: list[Damage],
) -> list[Queued]:
    """Deliveries that wait; those that are not written yet are given. What is damaged is left out,
    and added to `damages`."""
    found = _rows(connection, _WAITING, [each for each in ids if each not in unwritten])
    entries: list[Queued] = []
    for delivery in ids:
        if delivery in unwritten:
            entries.append(unwritten[delivery])
            continue
        number = number_of(delivery)
        try:
            qos, message, particulars = _decoded(found.get(delivery))
            if message is None:
                raise RecordDamagedError("it is missing")
        except RecordDamagedError as error:
            damages.append(_damaged_message(session, number, error))
        else:
            entries.append(Queued(number, qos, message, particulars))
    return entries


def read_sessions(
    connection: sqlite3.Connection, sessions: Sequence[Seen], limit: int, damages: list[Damage]
) -> list[SessionRecord]:
    """Records of sessions with all that belongs to them: at least one, then within the limit.

    What is damaged is left out, and added to `damages`.
    """
    records: list[SessionRecord] = []
    if not sessions:
        return records
    first = sessions[0].session
    last = sessions[-1].session
    subscriptions, due = _subscriptions(connection, first, last)
    held = _held(connection, first, last)
    found = _rows(
        connection, _UNDER_WAY, [each.delivery for session in sessions for each in session.flights]
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
                _in_flight(each, found, damages),
                identifiers,
                each.queued,
                each.expires_at,
                each.interval_s,
                due.get(each.session),
            )
        )
    return records


def _subscriptions(
    connection: sqlite3.Connection, first: int, last: int
) -> tuple[dict[int, dict[bytes, tuple[int, Options | None]]], dict[int, set[bytes]]]:
    """Subscriptions by session and filter, and the filters for which retained messages are due."""
    found: dict[int, dict[bytes, tuple[int, Options | None]]] = {}
    due: dict[int, set[bytes]] = {}
    for (
        session,
        topic_filter,
        qos,
        no_local,
        as_published,
        identifier,
        is_due,
    ) in connection.execute(
        "SELECT session, filter, qos, no_local, retain_as_published, identifier, "
        "retained_due FROM subscription WHERE session BETWEEN ? AND ?",
        (first, last),
    ):
        if is_due:
            due.setdefault(session, set()).add(topic_filter)
        options = None
        if identifier is not None:
            options = Options(bool(no_local), bool(as_published), identifier)
        found.setdefault(session, {})[topic_filter] = (qos, options)
    return found, due


def _held(connection: sqlite3.Connection, first: int, last: int) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for (row,) in connection.execute(
        "SELECT id FROM held WHERE id BETWEEN ? AND ?",
        (held_id(first, 0), held_id(last + 1, 0) - 1),
    ):
        found.setdefault(row >> 16, set()).add(row & 0xFFFF)
    return found


def _in_flight(session: Seen, found: dict[int, _Row], damages: list[Damage]) -> list[InFlight]:
    """What is under way for a session; without the message where PUBREC has come."""
    records: list[InFlight] = []
    for flight in session.flights:
        number = number_of(flight.delivery)
        is_received = flight.is_received
        try:
            qos, message, particulars = _decoded(found.get(flight.delivery))
            if message is None and not is_received:
                raise RecordDamagedError("it is missing")
        except RecordDamagedError as error:
            damages.append(_damaged_message(session.session, number, error))
        else:
            records.append(
                InFlight(flight.packet_id, number, qos, message, particulars, is_received)
            )
    return records


def read_wills(
    connection: sqlite3.Connection, after: str, limit: int, damages: list[Damage]
) -> list[StoredWill]:
    """Wills behind a client, in the order of their clients' UTF-8. What is damaged is left out, and
    added to `damages`."""
    wills: list[StoredWill] = []
    for client_id, due, record in connection.execute(
        "SELECT client_id, due, CAST(record AS BLOB) FROM will WHERE client_id > ? "
        "ORDER BY client_id LIMIT ?",
        (after, limit),
    ).fetchall():
        try:
            wills.append(StoredWill(client_id, decode_will(record), due))
        except RecordDamagedError as error:
            damages.append(Damage(f"the will of {client_id!r}: {error}", SaveWill(client_id, None)))
    return wills


def _rows(connection: sqlite3.Connection, query: str, ids: Sequence[int]) -> dict[int, _Row]:
    found: dict[int, _Row] = {}
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


def _decoded(row: _Row | None) -> tuple[int, Message | None, Particulars | None]:
    """QoS, message and particulars of a row. Raises `RecordDamagedError`."""
    if row is None:
        raise RecordDamagedError("it is missing")
    qos, particulars, record = row
    message = None if record is None else decode_message(record)
    return qos, message, decode_particulars(particulars)


def _damaged_message(session: int, number: int, error: RecordDamagedError) -> Damage:
    return Damage(f"message {number} of session {session}: {error}", Settle(session, number))
