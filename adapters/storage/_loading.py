"""The index and the retained messages, made from the database when it is opened."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable
from typing import Final, final

from adapters.storage._errors import RecordDamagedError
from adapters.storage._index import PLACE_BITS, Flight, Index, Stored, number_of
from adapters.storage._records import decode_message
from adapters.storage._sound import shown, take_out
from mqtt_core import Message

_ROWS: Final = 1_000
_PROGRESS_ROWS: Final = 100_000

Progress = Callable[[int, int], None]
"""Told how many queued messages have been read, and how many there are."""


@final
class Loaded:
    """What a database holds: index and retained messages; and what was damaged in it, each in one
    line."""

    __slots__ = ("index", "retained", "damages")

    def __init__(self, index: Index, retained: list[Message], damages: list[str]) -> None:
        self.index: Final = index
        self.retained: Final = retained
        self.damages: Final = damages


def load(connection: sqlite3.Connection, on_progress: Progress | None) -> Loaded:
    """Read all but the content of messages that wait. What is damaged goes, and is named."""
    # All that is made here stays: looking for garbage in it would take most of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _load(connection, on_progress)
    finally:
        if was_enabled:
            gc.enable()


def _load(connection: sqlite3.Connection, on_progress: Progress | None) -> Loaded:
    index = Index()
    # First of all, because to decode them needs room for a while.
    retained, damages = _load_retained(connection)
    damages += take_out(connection)
    for session, client_id, expires_at, interval_s in connection.execute(
        "SELECT id, client_id, expires_at, interval_s FROM session ORDER BY id"
    ):
        index.put(Stored(session, client_id, expires_at, interval_s))
        index.last_number = session
    nobodys = _load_queue(connection, index, on_progress)
    _load_flights(connection, index, nobodys)
    for delivery, session, expires_at in connection.execute(
        "SELECT id, session, expires_at FROM queue WHERE expires_at IS NOT NULL"
    ):
        (index.sessions.get(session) or nobodys[session]).note_expiry(delivery, expires_at)
    index.garbage.extend(nobodys.values())
    (last,) = connection.execute("SELECT max(id) FROM queue").fetchone()
    (number,) = connection.execute("SELECT max(number) FROM message").fetchone()
    index.last_number = max(index.last_number, number_of(last or 0), number or 0)
    return Loaded(index, retained, damages)


def _load_queue(
    connection: sqlite3.Connection, index: Index, on_progress: Progress | None
) -> dict[int, Stored]:
    """What waits, and which messages have several deliveries; what waits for sessions that are over
    is returned."""
    (total,) = connection.execute("SELECT count(*) FROM queue").fetchone()
    index.count = total
    sessions = index.sessions
    shared = index.shared
    nobodys: dict[int, Stored] = {}
    cursor = connection.execute("SELECT id, session, size, packet_id FROM queue ORDER BY id")
    done = 0
    last = 0
    while rows := cursor.fetchmany(_ROWS):
        for delivery, session, size, packet_id in rows:
            number = delivery >> PLACE_BITS
            if number == last:  # deliveries of one message follow each other
                shared[number] = shared.get(number, 1) + 1
            last = number
            if packet_id:
                continue
            stored = sessions.get(session)
            if stored is None:
                stored = nobodys.setdefault(session, Stored(session, ""))
            ids = stored.ids
            sizes = stored.sizes
            if ids is None or sizes is None:
                stored.add(delivery, size)
            else:  # they come in order
                ids.append(delivery)
                sizes.append(size)
        done += len(rows)
        if on_progress is not None and (done % _PROGRESS_ROWS == 0 or len(rows) < _ROWS):
            on_progress(done, total)
    return nobodys


def _load_flights(connection: sqlite3.Connection, index: Index, nobodys: dict[int, Stored]) -> None:
    for delivery, session, size, packet_id, is_received, position in connection.execute(
        "SELECT id, session, size, packet_id, is_received, position FROM queue WHERE packet_id<>0"
    ):
        stored = index.sessions.get(session)
        if stored is None:
            stored = nobodys.setdefault(session, Stored(session, ""))
        stored.send(Flight(delivery, size, packet_id, bool(is_received), position))
        index.last_position = max(index.last_position, position)


def _load_retained(connection: sqlite3.Connection) -> tuple[list[Message], list[str]]:
    messages: list[Message] = []
    damages: list[str] = []
    rows: list[tuple[int]] = []
    for row, topic, record in connection.execute(
        "SELECT rowid, CAST(topic AS BLOB), CAST(record AS BLOB) FROM retained"
    ):
        try:
            message = decode_message(record)
            if message.topic.utf8 != topic:
                raise RecordDamagedError("the record is that of another topic")
        except RecordDamagedError as error:
            damages.append(f"the retained message of {shown(topic)}: {error}")
            rows.append((row,))
        else:
            messages.append(message)
    if rows:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("DELETE FROM retained WHERE rowid=?", rows)
        connection.execute("COMMIT")
    return messages, damages
