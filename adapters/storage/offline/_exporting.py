"""From a store to lines of JSON, without ever having more in memory than a message."""

from __future__ import annotations

import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, final

from msgspec import json

from adapters.storage._errors import RecordDamagedError, is_damage
from adapters.storage._index import number_of
from adapters.storage._records import decode_message, decode_particulars, decode_will
from adapters.storage.offline._lines import (
    FORM,
    Binary,
    EndLine,
    HeadLine,
    HeldLine,
    InFlightLine,
    Line,
    MessageLine,
    OptionsLine,
    ParticularsLine,
    PropertyLine,
    QueuedLine,
    RetainedLine,
    SessionLine,
    SubscriptionLine,
    WillLine,
)
from adapters.storage.offline._opening import StoreUnreadableError, is_damaged_text
from mqtt_core import Message, Properties

OnDamage = Callable[[str], None]
"""Told of what was left out, in one line."""

_UNREADABLE: Final = 0  # instead of the number of a message


def export(connection: sqlite3.Connection, on_damage: OnDamage | None = None) -> Iterator[bytes]:
    """All state, a line at a time with its newline, in the order in which it is read in again.

    With `on_damage`, what cannot be read is told and left out. Raises `StoreUnreadableError`.
    """
    encode = json.Encoder().encode
    count = 0
    for line in _Export(connection, on_damage).lines():
        count += 1
        yield encode(line) + b"\n"
    yield encode(EndLine(count + 1)) + b"\n"


@final
class _Export:
    """One export: its numbers, and what becomes of damage."""

    def __init__(self, connection: sqlite3.Connection, on_damage: OnDamage | None) -> None:
        self._connection: Final = connection
        self._on_damage: Final = on_damage
        self._sessions: Final = array("q")  # as the store numbers them, in order
        self._messages = 0

    def lines(self) -> Iterator[Line]:
        """All lines but the last."""
        yield HeadLine(FORM)
        for name, part in (
            ("sessions", self._session_lines),
            ("subscriptions", self._subscriptions),
            ("held identifiers", self._held),
            ("queues", self._deliveries),
            ("retained messages", self._retained),
            ("wills", self._wills),
        ):
            try:
                yield from part()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._damage(f"what is behind in the {name}", error)

    def _damage(self, what: str, reason: object) -> None:
        if self._on_damage is None:
            raise StoreUnreadableError(
                f"{what} cannot be read ({reason}): `iotd store verify` tells all that is "
                "damaged, --skip-damaged leaves it out"
            )
        self._on_damage(f"left out: {what} ({reason})")

    def _session(self, session: int) -> int:
        """The number that lines use for a session, 0 for one that is over or was left out."""
        at = bisect_left(self._sessions, session)
        if at < len(self._sessions) and self._sessions[at] == session:
            return at + 1
        return 0

    def _session_lines(self) -> Iterator[Line]:
        for session, client_id, expires_at, expiry_s in self._connection.execute(
            "SELECT id, client_id, expires_at, interval_s FROM session ORDER BY id"
        ):
            if is_damaged_text(client_id):
                self._damage(f"session {client_id}", "its client identifier is not UTF-8")
                continue
            self._sessions.append(session)
            yield SessionLine(len(self._sessions), client_id, expires_at, expiry_s)

    def _subscriptions(self) -> Iterator[Line]:
        for (
            session,
            topic_filter,
            qos,
            no_local,
            as_published,
            identifier,
            retained_due,
        ) in self._connection.execute(
            "SELECT session, filter, qos, no_local, retain_as_published, identifier, "
            "retained_due FROM subscription ORDER BY session, filter"
        ):
            number = self._session(session)
            if not number:
                continue
            try:
                text = topic_filter.decode()
            except UnicodeDecodeError as error:
                self._damage(f"a subscription of session {session}", error)
                continue
            options = None
            if identifier is not None:
                options = OptionsLine(bool(no_local), bool(as_published), identifier)
            yield SubscriptionLine(number, text, qos, options, bool(retained_due))

    def _held(self) -> Iterator[Line]:
        for (row,) in self._connection.execute("SELECT id FROM held ORDER BY id"):
            number = self._session(row >> 16)
            if number:
                yield HeldLine(number, row & 0xFFFF)

    def _deliveries(self) -> Iterator[Line]:
        """Messages, each before those whom it is for."""
        current = -1  # the message of the row before, as the store numbers it
        number = _UNREADABLE
        for (
            delivery,
            session,
            qos,
            particulars,
            packet_id,
            is_received,
            position,
        ) in self._connection.execute(
            "SELECT id, session, qos, particulars, packet_id, is_received, position "
            "FROM queue ORDER BY id"
        ):
            receiver = self._session(session)
            if not receiver:
                continue  # over: the next broker would delete it
            if number_of(delivery) != current:
                current = number_of(delivery)
                line = self._message(current)
                number = _UNREADABLE if line is None else line.number
                if line is not None:
                    yield line
            if number == _UNREADABLE:
                continue
            try:
                own = _particulars_line(particulars)
            except RecordDamagedError as error:
                self._damage(f"message {current} for session {session}", error)
                continue
            if packet_id:
                yield InFlightLine(
                    number, receiver, qos, own, packet_id, bool(is_received), position
                )
            else:
                yield QueuedLine(number, receiver, qos, own)

    def _message(self, stored: int) -> MessageLine | None:
        row = self._connection.execute(
            "SELECT record, CASE WHEN typeof(came_at) = 'integer' AND came_at BETWEEN 0 AND 1e11 "
            "THEN came_at END FROM message WHERE number = ?",
            (stored,),
        ).fetchone()
        if row is None:
            self._damage(f"message {stored}", "it is missing")
            return None
        message = self._decoded(f"message {stored}", row[0])
        if message is None:
            return None
        self._messages += 1
        return MessageLine(
            self._messages,
            message.topic.name,
            message.payload,
            message.qos,
            message.retain,
            _property_lines(message.properties),
            message.expires_at or None,
            row[1],
        )

    def _retained(self) -> Iterator[Line]:
        for topic, record in self._connection.execute(
            "SELECT topic, record FROM retained ORDER BY topic"
        ):
            name = topic.decode(errors="replace")
            message = self._decoded(f"the retained message of {name}", record)
            if message is not None:
                yield RetainedLine(
                    message.topic.name,
                    message.payload,
                    message.qos,
                    _property_lines(message.properties),
                    message.retain,
                    message.expires_at or None,
                )

    def _decoded(self, what: str, record: bytes) -> Message | None:
        try:
            return decode_message(record)
        except RecordDamagedError as error:
            self._damage(what, error)
            return None

    def _wills(self) -> Iterator[Line]:
        for client_id, due, record in self._connection.execute(
            "SELECT client_id, due, record FROM will ORDER BY client_id"
        ):
            if is_damaged_text(client_id):
                self._damage(f"the will of {client_id}", "its client identifier is not UTF-8")
                continue
            try:
                will = decode_will(record)
            except RecordDamagedError as error:
                self._damage(f"the will of {client_id}", error)
                continue
            yield WillLine(
                client_id,
                due,
                will.topic,
                will.payload,
                will.qos,
                will.retain,
                _property_lines(will.properties),
            )


def _property_lines(properties: Properties) -> list[PropertyLine]:
    return [
        (identifier, Binary(value) if isinstance(value, bytes) else value)
        for identifier, value in properties
    ]


def _particulars_line(data: bytes | None) -> ParticularsLine | None:
    particulars = decode_particulars(data)
    if particulars is None:
        return None
    share = particulars.share.decode() or None
    return ParticularsLine(particulars.retain, list(particulars.identifiers), share)
