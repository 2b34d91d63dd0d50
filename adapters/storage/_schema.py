"""The tables of the database, and the way from each version of them to the next.

`queue` and `message` only ever grow at their end, so that a commit touches few pages; what is asked
of them is asked by row, because the index in memory knows which.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from adapters.storage._errors import StoreForeignError, StoreTooNewError

APPLICATION_ID: Final = 0x696F7464
"""Tells our databases from others ("iotd")."""

_FIRST: Final = """
-- A persistent session: when it ends, in unix seconds (NULL while its client is attached), and how
-- long it outlives its connection.
CREATE TABLE session(
    id INTEGER PRIMARY KEY,
    client_id TEXT NOT NULL,
    expires_at REAL,
    interval_s INTEGER NOT NULL
);
-- identifier is NULL where the subscription has no options.
CREATE TABLE subscription(
    session INTEGER NOT NULL,
    filter BLOB NOT NULL,
    qos INTEGER NOT NULL,
    no_local INTEGER NOT NULL,
    retain_as_published INTEGER NOT NULL,
    identifier INTEGER,
    PRIMARY KEY(session, filter)
) WITHOUT ROWID;
-- QoS 2 messages taken over whose PUBREL has not come; id is session * 65536 + packet identifier.
CREATE TABLE held(id INTEGER PRIMARY KEY);
CREATE TABLE message(number INTEGER PRIMARY KEY, record BLOB NOT NULL);
-- A message for a session; id is number * 1048576 + a place among the sessions it is for.
-- packet_id is 0 while it waits; position orders what is under way.
CREATE TABLE queue(
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    size INTEGER NOT NULL,
    expires_at REAL,
    qos INTEGER NOT NULL,
    particulars BLOB,
    packet_id INTEGER NOT NULL,
    is_received INTEGER NOT NULL,
    position INTEGER NOT NULL
);
CREATE TABLE retained(topic BLOB PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE will(client_id TEXT PRIMARY KEY, due REAL NOT NULL, record BLOB NOT NULL);
"""

_RETAINED_DUE: Final = """
-- Whether retained messages are still to be sent for the subscription.
ALTER TABLE subscription ADD COLUMN retained_due INTEGER NOT NULL DEFAULT 0;
"""

_CAME_AT: Final = """
-- When a message was stored, in unix seconds; NULL where an earlier version stored it.
ALTER TABLE message ADD COLUMN came_at INTEGER;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST, _RETAINED_DUE, _CAME_AT)
"""What makes version n + 1 of version n; user_version is that of a database."""


def schema_of(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> int:
    """The version of a database, 0 for a new one. Nothing is changed.

    Raises `StoreForeignError` and `StoreTooNewError`.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
        return 0
    if application != APPLICATION_ID:
        raise StoreForeignError(
            "this is a database of another program; name another folder for the store"
        )
    if version > len(migrations):
        raise StoreTooNewError(
            f"the store has schema {version}, and this version knows those up to "
            f"{len(migrations)}: start the newer version that wrote it, or name another folder"
        )
    return int(version)


def migrate(
    connection: sqlite3.Connection, version: int, migrations: Sequence[str] = MIGRATIONS
) -> None:
    """Bring a database from a version to the newest, in one transaction."""
    if version < len(migrations):
        script = "".join(migrations[version:])
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id={APPLICATION_ID};\n"
            f"PRAGMA user_version={len(migrations)};\nCOMMIT;"
        )
