"""From lines of JSON to a store: all of them in one transaction, or nothing.

A file may have been written by hand, so everything is looked at: what a broker could not have
stored itself is refused, with its line.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, final

from msgspec import MsgspecError, json

from adapters.storage._database import NAME, open_database
from adapters.storage._errors import StoreError
from adapters.storage._index import delivery_id
from adapters.storage._records import encode_message, encode_particulars, encode_will
from adapters.storage._writing import Row, held_id, insert
from adapters.storage.offline._lines import (
    FORM,
    AnyLine,
    Binary,
    EndLine,
    HeadLine,
    HeldLine,
    InFlightLine,
    Line,
    MessageLine,
    ParticularsLine,
    PropertyLine,
    QueuedLine,
    RetainedLine,
    SessionLine,
    SubscriptionLine,
    WillLine,
)
from adapters.storage.offline._opening import explained, open_to_look, transaction
from mqtt_core import (
    MQTT_5,
    Connect,
    LocalProtocolError,
    Message,
    Properties,
    Will,
    encode,
    make_message,
    topic_filter_fault,
    topic_name_fault,
)
from mqtt_core.broker import LEVEL_FSYNC, Particulars

OnLine = Callable[[int], None]
"""Told the number of each line that was read."""

_LONGEST_LINE: Final = 400 * 1024 * 1024  # the largest packet in base64 and something
_ROWS: Final = 128  # written at once
_ROW_BYTES: Final = 1 << 20

_STATEMENTS: Final[dict[type[Line], str]] = {
    SessionLine: "INSERT INTO session(id, client_id, expires_at, interval_s) VALUES",
    SubscriptionLine: "INSERT INTO subscription(session, filter, qos, no_local, "
    "retain_as_published, identifier, retained_due) VALUES",
    HeldLine: "INSERT INTO held(id) VALUES",
    MessageLine: "INSERT INTO message(number, record, came_at) VALUES",
    QueuedLine: "INSERT INTO queue(id, session, size, expires_at, qos, particulars, packet_id, "
    "is_received, position) VALUES",
    RetainedLine: "INSERT INTO retained(topic, record) VALUES",
    WillLine: "INSERT INTO will(client_id, due, record) VALUES",
}

_TABLES: Final = ("session", "subscription", "held", "message", "queue", "retained", "will")

_CONFLICTS: Final = (
    (
        "two sessions have the client identifier {}",
        "SELECT client_id FROM session GROUP BY client_id HAVING count(*) > 1 LIMIT 1",
    ),
    (
        "session {} has the same message twice",
        "SELECT session FROM queue GROUP BY session, id >> 20 HAVING count(*) > 1 LIMIT 1",
    ),
    (
        "session {} has two messages in flight with the same packet identifier",
        "SELECT session FROM queue WHERE packet_id <> 0 GROUP BY session, packet_id "
        "HAVING count(*) > 1 LIMIT 1",
    ),
)


class ImportRefusedError(StoreError):
    """The file is not what an export writes. Nothing of it is in the store."""


class StoreNotEmptyError(StoreError):
    """There is something in the store already. It stays as it was."""


def import_into(folder: Path, file: BinaryIO, on_line: OnLine) -> int:
    """Fill the store of a folder, made where there is none, with what an export has; the number
    of lines. Raises `StoreError`; a store that was there is as it was then."""
    lines = _decoded(file, on_line)
    first = next(lines)[1]
    if not isinstance(first, HeadLine):
        raise _refused(1, 'it is not an export: the first line has no "type":"iotd-store"')
    if first.form != FORM:
        raise _refused(1, f"it has form {first.form}, and this version reads {FORM}: use a newer")
    if (folder / NAME).exists() and (folder / NAME).stat().st_size:
        with open_to_look(folder) as looked_at:
            _check_empty(folder, looked_at)
    database = open_database(folder, LEVEL_FSYNC)
    connection = database.connection
    try:
        with explained(folder):
            # The checks at the end sort; that may be more than there is memory.
            connection.execute("PRAGMA temp_store=FILE")
            with transaction(connection):
                _check_empty(folder, connection)
                count = _Import(connection).take(lines)
    finally:
        with explained(folder):
            database.close()
    return count


def _check_empty(folder: Path, connection: sqlite3.Connection) -> None:
    for table in _TABLES:
        if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None:
            raise StoreNotEmptyError(
                f"{folder}: there is something in this store already; import into a new folder "
                "(--data-dir), or move the old one away"
            )


def _decoded(file: BinaryIO, on_line: OnLine) -> Iterator[tuple[int, AnyLine]]:
    """The lines with their numbers; the last is the only `EndLine`."""
    decode = json.Decoder(AnyLine).decode
    number = 0
    while True:
        data = file.readline(_LONGEST_LINE)
        number += 1
        if not data:
            raise _refused(number, "the file is not whole: its last line is missing")
        if len(data) == _LONGEST_LINE:
            raise _refused(number, "it is too long")
        try:
            line = decode(data)
        except (MsgspecError, UnicodeDecodeError) as error:
            raise _refused(number, str(error)) from error
        on_line(number)
        yield number, line
        if isinstance(line, EndLine):
            if line.lines != number:
                raise _refused(number, f"{line.lines} lines were written; some are missing")
            if file.read(1):
                raise _refused(number + 1, "something stands behind the last line")
            return


def _refused(number: int, reason: str) -> ImportRefusedError:
    return ImportRefusedError(f"line {number} of the import: {reason}; nothing is imported")


class _Wrong(Exception):
    """Why a line cannot be taken."""


@final
class _Import:
    """Rows on their way into the tables. Sessions and messages are numbered one behind the other,
    as a broker numbers them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection: Final = connection
        self._rows: Final[dict[type[Line], list[Row]]] = {kind: [] for kind in _STATEMENTS}
        self._bytes = 0
        self._sessions = 0
        self._messages = 0
        self._message: Message | None = None  # the last one
        self._came_at: int | None = None  # of that one
        self._place = 0  # of its next receiver

    def take(self, lines: Iterator[tuple[int, AnyLine]]) -> int:
        """Store all lines behind the first; the number of the last."""
        number = 1
        try:
            for numbered in lines:
                number, line = numbered
                self._take(line)
            self._flush()
        except (_Wrong, LocalProtocolError, ValueError) as error:
            raise _refused(number, str(error)) from error
        except sqlite3.IntegrityError as error:
            raise _refused(number, f"this line or one just before repeats another ({error})") from (
                error
            )
        for text, query in _CONFLICTS:
            row = self._connection.execute(query).fetchone()
            if row is not None:
                raise ImportRefusedError(f"{text.format(row[0])}; nothing is imported")
        return number

    def _take(self, line: AnyLine) -> None:
        if isinstance(line, QueuedLine | InFlightLine):
            self._delivery(line)
        elif isinstance(line, MessageLine):
            self._stored_message(line)
        elif isinstance(line, SessionLine):
            self._session(line)
        elif isinstance(line, SubscriptionLine):
            self._subscription(line)
        elif isinstance(line, HeldLine):
            self._add(HeldLine, (held_id(self._known(line.session), line.packet_id),))
        elif isinstance(line, RetainedLine):
            message = _message(line)
            record = encode_message(message)
            self._add(RetainedLine, (message.topic.utf8, record), len(record))
        elif isinstance(line, WillLine):
            self._will(line)
        elif isinstance(line, HeadLine):
            raise _Wrong("only the first line is of this type")

    def _add(self, kind: type[Line], row: Row, size: int = 0) -> None:
        rows = self._rows[kind]
        rows.append(row)
        self._bytes += size
        if len(rows) == _ROWS or self._bytes > _ROW_BYTES:
            self._flush()

    def _flush(self) -> None:
        for kind, rows in self._rows.items():
            insert(self._connection, _STATEMENTS[kind], rows)
            rows.clear()
        self._bytes = 0

    def _known(self, session: int) -> int:
        if session > self._sessions:
            raise _Wrong(f"session {session} is not known")
        return session

    def _session(self, line: SessionLine) -> None:
        if self._messages:
            raise _Wrong("sessions come before messages")
        self._sessions += 1
        if line.number != self._sessions:
            raise _Wrong(f"found session {line.number}, and the next is {self._sessions}")
        _check_client_id(line.client_id)
        self._add(SessionLine, (line.number, line.client_id, line.expires_at, line.expiry_s))

    def _subscription(self, line: SubscriptionLine) -> None:
        topic_filter = line.filter.encode()
        _check(topic_filter_fault(topic_filter))
        own: Row = (False, False, None)
        options = line.options
        if options is not None:
            own = (options.no_local, options.retain_as_published, options.identifier)
        row: Row = (self._known(line.session), topic_filter, line.qos, *own, line.retained_due)
        self._add(SubscriptionLine, row)

    def _stored_message(self, line: MessageLine) -> None:
        self._messages += 1
        if line.number != self._messages:
            raise _Wrong(f"found message {line.number}, and the next is {self._messages}")
        self._message = _message(line)
        self._came_at = line.came_at
        self._place = 0

    def _delivery(self, line: QueuedLine | InFlightLine) -> None:
        message = self._message
        if message is None or line.message != self._messages:
            raise _Wrong(f"found message {line.message}, and the last is {self._messages}")
        session = self._known(line.session)
        number = self._sessions + line.message
        if not self._place:  # a message that is for nobody is not stored
            record = encode_message(message)
            self._add(MessageLine, (number, record, self._came_at), len(record))
        flight: Row = (0, 0, 0)
        if isinstance(line, InFlightLine):
            flight = (line.packet_id, line.is_received, line.position)
        own = _particulars(line.particulars)
        of_message: Row = (message.size_bytes, message.expires_at or None, line.qos, own)
        delivery = delivery_id(number, self._place)
        self._add(QueuedLine, (delivery, session, *of_message, *flight))
        self._place += 1

    def _will(self, line: WillLine) -> None:
        _check_client_id(line.client_id)
        _check(topic_name_fault(line.topic.encode()))
        will = Will(line.topic, line.payload, line.qos, line.retain, _properties(line.properties))
        encode(Connect(line.client_id, will=will, level=MQTT_5))  # which checks the properties
        record = encode_will(will)
        self._add(WillLine, (line.client_id, line.due, record), len(record))


def _message(line: MessageLine | RetainedLine) -> Message:
    _check(topic_name_fault(line.topic.encode()))
    message = make_message(
        line.topic, line.payload, line.qos, line.retain, _properties(line.properties)
    )
    if line.expires_at is not None:
        if message.expiry_s < 0:
            raise _Wrong("expires_at needs a message expiry interval, which is property 2")
        message.expires_at = line.expires_at
    return message


def _properties(lines: list[PropertyLine]) -> Properties:
    return tuple(
        (identifier, value.base64 if isinstance(value, Binary) else value)
        for identifier, value in lines
    )


def _particulars(line: ParticularsLine | None) -> bytes | None:
    if line is None:
        return None
    share = b"" if line.share is None else line.share.encode()
    return encode_particulars(Particulars(line.retain, tuple(line.identifiers), share))


def _check(fault: tuple[str, str] | None) -> None:
    if fault is not None:
        raise _Wrong(fault[0])


def _check_client_id(client_id: str) -> None:
    if not client_id or "\0" in client_id or len(client_id.encode()) > 65_535:
        raise _Wrong("a client identifier is 1 to 65,535 bytes of UTF-8 without U+0000")
