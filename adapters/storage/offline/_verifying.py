"""Whether all of a store can be read: its structure, and each record in it."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from adapters.storage._database import NAME
from adapters.storage._errors import RecordDamagedError, is_damage
from adapters.storage._index import number_of
from adapters.storage._records import decode_message, decode_particulars, decode_will
from adapters.storage._sound import unsound

OnRecord = Callable[[], None]
"""Told of each record that was read."""

_MOST: Final = 100  # faults of structure that SQLite lists

_MISSING: Final = (
    "SELECT q.id, s.client_id FROM queue AS q JOIN session AS s ON s.id = q.session "
    "WHERE NOT q.is_received AND NOT EXISTS (SELECT 1 FROM message WHERE number = q.id >> 20)"
)


def faults(connection: sqlite3.Connection, on_record: OnRecord) -> Iterator[str]:
    """What is damaged, each in one line, as it is found."""
    for part in (
        _of_structure,
        _of_rows,
        _of_messages,
        _of_deliveries,
        _of_retained,
        _of_wills,
        _of_relations,
    ):
        try:
            yield from part(connection, on_record)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            yield f"{part.__name__[4:]}: cannot be read to the end ({error})"


def log_bytes_cut(folder: Path) -> int:
    """Bytes of the log behind its last whole transaction, which the next start drops.

    For a store that is open to look at it: the index that SQLite has made of the log says where it
    ends. An end of the machine in the middle of a write leaves such bytes; nothing that was
    acknowledged is in them.
    """
    try:
        index = (folder / f"{NAME}-shm").read_bytes()[: _INDEX.size]
        with open(folder / f"{NAME}-wal", "rb") as log:
            page_bytes, salt = _LOG.unpack(log.read(_LOG.size))
            frames = _INDEX.unpack(index)[0]
            frame_bytes = _FRAME_HEADER + page_bytes
            cut = 0
            while True:
                log.seek(_LOG.size + (frames * frame_bytes))
                # Older frames, behind those of the present log, bear another salt.
                if log.read(16)[8:] != salt:
                    return cut
                cut += frame_bytes
                frames += 1
    except (OSError, struct.error):
        return 0


_INDEX: Final = struct.Struct("=16xI")  # the number of frames, in the machine's byte order
_LOG: Final = struct.Struct(">8xI4x8s8x")  # bytes of a page, salt
_FRAME_HEADER: Final = 24


def _of_rows(connection: sqlite3.Connection, on_record: OnRecord) -> Iterator[str]:
    for line in unsound(connection):
        on_record()
        yield line


def _of_structure(connection: sqlite3.Connection, on_record: OnRecord) -> Iterator[str]:
    for (verdict,) in connection.execute(f"PRAGMA integrity_check({_MOST})"):
        if verdict != "ok":
            yield f"structure: {verdict}"


def _of_messages(connection: sqlite3.Connection, on_record: OnRecord) -> Iterator[str]:
    for number, record in connection.execute("SELECT number, record FROM message"):
        on_record()
        reason = _unreadable(decode_message, record)
        if reason:
            yield f"message {number}: {reason}"


def _of_deliveries(connection: sqlite3.Connection, on_record: OnRecord) -> Iterator[str]:
    for delivery, particulars in connection.execute(
        "SELECT id, particulars FROM queue WHERE particulars IS NOT NULL"
    ):
        on_record()
        reason = _unreadable(decode_particulars, particulars)
        if reason:
            yield f"message {number_of(delivery)}, for one of its sessions: {reason}"


def _of_retained(connection: sqlite3.Connection, on_record: OnRecord) -> Iterator[str]:
    for topic, record in connection.execute("SELECT topic, record FROM retained"):
        on_record()
        reason = _unreadable(decode_message, record)
        if not reason and decode_message(record).topic.utf8 != topic:
            reason = "the record is that of another topic"
        if reason:
            yield f"retained message of {_shown(topic)}: {reason}"


def _of_wills(connection: sqlite3.Connection, on_record: OnRecord) -> Iterator[str]:
    for client_id, record in connection.execute("SELECT client_id, record FROM will"):
        on_record()
        reason = _unreadable(decode_will, record)
        if reason:
            yield f"will of {client_id}: {reason}"


def _of_relations(connection: sqlite3.Connection, on_record: OnRecord) -> Iterator[str]:
    for delivery, client_id in connection.execute(_MISSING):
        yield f"message {number_of(delivery)} for {client_id}: it is missing"


def _shown(topic: object) -> str:
    return topic.decode(errors="replace") if isinstance(topic, bytes) else str(topic)


def _unreadable(decode: Callable[[bytes], object], record: bytes) -> str:
    """Why a record cannot be read, empty if it can."""
    try:
        decode(record)
    except RecordDamagedError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  whatever a record leads to is a fault of it
        return f"it cannot be decoded ({str(error) or type(error).__name__})"
    return ""
