"""What a row can be. Anything else is damage that no checksum covers, since SQLite puts up with any
value in any column.

It is looked for when a store is opened, and taken out before anything is read: so all other code
may rely on the types and bounds of what it finds. Records of messages and wills have checksums and
are looked at when they are read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final, final

from adapters.storage._index import MOST_NUMBERS
from mqtt_core import shared_filter_fault, topic_filter_fault

_LATEST: Final = 1e11
"""No deadline is later, in unix seconds: no interval of MQTT is longer than 136 years."""

_LARGEST: Final = 1 << 29
"""No message is larger, with its topic and properties."""


def _whole(column: str, least: int, most: int) -> str:
    return f"(typeof({column})='integer' AND {column} BETWEEN {least} AND {most})"


def _time(column: str) -> str:
    return f"(typeof({column})='real' AND {column} BETWEEN 0 AND {_LATEST})"


_LONGEST: Final = 0xFFFF  # bytes of a string of MQTT

_NUMBER: Final = (1, MOST_NUMBERS - 1)
_CLIENT: Final = "typeof(client_id)='text' AND is_client(CAST(client_id AS BLOB))"


@final
class _Rule:
    """Rows of a table that cannot be: `is_wrong` finds them, as SQL. `name` and `shown` are how a
    row is called when it is told to people.

    `reason` is what is wrong with it; without one, the columns of `sound` are told that are not
    what they can be.
    """

    __slots__ = ("table", "name", "shown", "is_wrong", "reason", "sound")

    def __init__(
        self,
        table: str,
        name: str,
        shown: tuple[str, ...],
        is_wrong: str,
        reason: str = "",
        sound: dict[str, str] | None = None,
    ) -> None:
        self.table: Final = table
        self.name: Final = name
        self.shown: Final = shown
        self.is_wrong: Final = is_wrong
        self.reason: Final = reason
        self.sound: Final = {} if sound is None else sound


def _columns(table: str, name: str, shown: tuple[str, ...], **sound: str) -> _Rule:
    """What each column can be."""
    all_sound = " AND ".join(f"({each})" for each in sound.values())
    return _Rule(table, name, shown, f"({all_sound}) IS NOT TRUE", sound=sound)


_SESSION: Final = ("session", "session {0} of {1}", ("id", "client_id"))
_SUBSCRIPTION: Final = (
    "subscription",
    "the subscription of session {0} to {1}",
    ("session", "filter"),
)
_HELD: Final = (
    "held",
    "the held identifier {1} of session {0}",
    ("id >> 16", "id & 65535"),
)
_QUEUE: Final = ("queue", "message {0} of session {1}", ("id >> 20", "session"))

_RULES: Final = (
    _columns(
        *_SESSION,
        id=_whole("id", *_NUMBER),
        client_id=_CLIENT,
        expires_at=f"expires_at IS NULL OR {_time('expires_at')}",
        interval_s=_whole("interval_s", 0, 0xFFFF_FFFF),
    ),
    _columns(
        *_SUBSCRIPTION,
        session=_whole("session", *_NUMBER),
        filter="typeof(filter)='blob' AND is_filter(CAST(filter AS BLOB))",
        qos="qos IN (0, 1, 2)",
        no_local="no_local IN (0, 1)",
        retain_as_published="retain_as_published IN (0, 1)",
        identifier=f"identifier IS NULL OR {_whole('identifier', 0, 0x0FFF_FFFF)}",
        retained_due="retained_due IN (0, 1)",
    ),
    _columns(*_HELD, id=f"id & 65535 AND id >> 16 BETWEEN {_NUMBER[0]} AND {_NUMBER[1]}"),
    _columns(
        *_QUEUE,
        id=f"id >> 20 BETWEEN {_NUMBER[0]} AND {_NUMBER[1]}",
        session=_whole("session", *_NUMBER),
        size=_whole("size", 0, _LARGEST),
        expires_at=f"expires_at IS NULL OR {_time('expires_at')}",
        qos="qos IN (0, 1, 2)",
        particulars="particulars IS NULL OR typeof(particulars)='blob'",
        packet_id=_whole("packet_id", 0, 0xFFFF),
        is_received="is_received IN (0, 1)",
        position=_whole("position", 0, 1 << 62),
    ),
    _columns("will", "the will of {0}", ("client_id",), client_id=_CLIENT, due=_time("due")),
    _Rule(
        "message",
        "message {0}",
        ("number",),
        f"number < {_NUMBER[0]} OR number > {_NUMBER[1]}",  # without a look at all of them
        "its number cannot be right",
    ),
    _Rule(
        *_SESSION,
        "id NOT IN (SELECT max(id) FROM session GROUP BY client_id)",
        "its client has another one",
    ),
    _Rule(*_SUBSCRIPTION, "session NOT IN (SELECT id FROM session)", "there is no such session"),
    _Rule(*_HELD, "id >> 16 NOT IN (SELECT id FROM session)", "there is no such session"),
    _Rule(
        *_QUEUE,
        "id IN (SELECT id FROM (SELECT id, "
        "row_number() OVER (PARTITION BY session, packet_id ORDER BY id) AS with_identifier, "
        "row_number() OVER (PARTITION BY session, id >> 20 ORDER BY id) AS with_number "
        "FROM queue WHERE packet_id<>0) WHERE with_identifier > 1 OR with_number > 1)",
        "something else is under way in its place",
    ),
)

# A message goes with its last delivery.
_FORGET: Final = (
    "DELETE FROM message WHERE number=? AND NOT EXISTS "
    "(SELECT 1 FROM queue WHERE id BETWEEN number << 20 AND ((number + 1) << 20) - 1)"
)


def unsound(connection: sqlite3.Connection) -> Iterator[str]:
    """What cannot be, each in one line. Nothing is changed."""
    _make_functions(connection)
    for rule in _RULES:
        yield from (line for line, _ in _found(connection, rule))


def take_out(connection: sqlite3.Connection) -> list[str]:
    """Delete what cannot be; returns it, each in one line."""
    _make_functions(connection)
    lines: list[str] = []
    for rule in _RULES:
        found = list(_found(connection, rule))
        if found:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"DELETE FROM {rule.table} WHERE {rule.is_wrong}")
            if rule.table == "queue":
                connection.executemany(_FORGET, [(int(number),) for _, number in found])
            connection.execute("COMMIT")
            lines += [line for line, _ in found]
    return lines


def _found(connection: sqlite3.Connection, rule: _Rule) -> Iterator[tuple[str, str]]:
    """Rows of a rule: what is wrong, and the first that is shown of each."""
    # As blobs: what was stored as text may be none any more.
    names = [f"typeof({each})='integer', CAST({each} AS BLOB)" for each in rule.shown]
    tests = [f"({each}) IS TRUE" for each in rule.sound.values()]
    query = f"SELECT {', '.join(names + tests)} FROM {rule.table}"
    at = 2 * len(names)
    for values in connection.execute(f"{query} WHERE {rule.is_wrong}"):
        names = [_shown(values[each], values[each + 1]) for each in range(0, at, 2)]
        wrong = [
            name for name, is_sound in zip(rule.sound, values[at:], strict=True) if not is_sound
        ]
        reason = rule.reason or f"its {' and '.join(wrong)} cannot be right"
        yield f"{rule.name.format(*names)}: {reason}", names[0]


def _shown(is_number: int, value: bytes | None) -> str:
    return value.decode() if is_number and value is not None else shown(value)


def shown(value: bytes | None) -> str:
    """A text of the database, whatever has become of it."""
    if value is None:
        return "nothing"
    try:
        return repr(value.decode())
    except UnicodeDecodeError:
        return repr(value)[1:]


def _make_functions(connection: sqlite3.Connection) -> None:
    for function in (is_client, is_filter):
        connection.create_function(function.__name__, 1, function, deterministic=True)


def is_client(utf8: object) -> bool:
    """Whether it can be the client identifier of a stored session."""
    if not isinstance(utf8, bytes) or not 0 < len(utf8) <= _LONGEST or 0 in utf8:
        return False
    try:
        utf8.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_filter(utf8: object) -> bool:
    """Whether it can be the topic filter of a subscription."""
    if not isinstance(utf8, bytes):
        return False
    return topic_filter_fault(utf8) is None and shared_filter_fault(utf8) is None
