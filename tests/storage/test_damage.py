"""Damage that no page of the database shows: any value in any column of any table.

What is whole is served, what is not is left out and named, and the next start has nothing more to
say: a store never keeps a broker from starting time after time.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from adapters.storage import Notice, SqliteEngine, StoreDamagedError
from adapters.storage._database import NAME
from adapters.storage._schema import migrate
from mqtt_core import Will, make_message
from mqtt_core.broker import (
    LEVEL_OS,
    Append,
    Completion,
    HoldIdentifier,
    Limits,
    Options,
    Particulars,
    PutRetained,
    Request,
    SaveExpiry,
    SaveReceived,
    SaveSession,
    SaveSubscription,
    SaveWill,
    Target,
)
from tests.core import wire, wire5
from tests.core.wire5 import prop, u32
from tests.rig import WALL_S, EngineAround, Rig
from tests.storage.disk import Disk
from tests.storage.rig import WAIT_S, Driver, sqlite

HURT = 1
WHOLE = 2

GARBAGE = (
    "CAST(x'ff61' AS TEXT)",
    "x'00ff'",
    "'text'",
    "''",
    "NULL",
    "-1",
    "3",
    "9223372036854775807",
    "0.5",
    "-1e300",
    "zeroblob(70000)",
)
UNMISTAKABLE = GARBAGE[:2]


def columns() -> list[tuple[str, str]]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, 0)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE sql<>''")]
    found = [
        (table, column)
        for table in tables
        for (column,) in connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
    ]
    connection.close()
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which two clients have everything, the first of which is to be hurt."""
    folder = tmp_path_factory.mktemp("source")
    driver = Driver(sqlite(folder, Limits(), Disk()))
    for session, name in ((HURT, "hurt"), (WHOLE, "whole")):
        number = 10 * session
        expiring = make_message(f"{name}/4", b"4", 1, properties=((2, 1_000),))
        expiring.expires_at = WALL_S + 1_000
        driver.write(
            SaveSession(session, name),
            SaveExpiry(session, WALL_S + 1_000, 2_000),
            SaveSubscription(session, f"{name}/#".encode(), 2, Options(False, True, 7)),
            HoldIdentifier(session, 5),
            Append(number, make_message(f"{name}/0", b"0", 2), [Target(session, 2, 1)]),
            Append(number + 1, make_message(f"{name}/1", b"1", 2), [Target(session, 2, 2)]),
            Append(number + 2, make_message(f"{name}/2", b"2", 1), [Target(session, 1)]),
            Append(
                number + 3,
                make_message(f"{name}/3", b"3", 1),
                [Target(session, 1, 0, Particulars(True, (7,)))],
            ),
            Append(number + 4, expiring, [Target(session, 1)]),
            SaveReceived(session, number + 1),
            PutRetained(make_message(f"kept/{name}", b"kept", 1, True)),
            SaveWill(name, Will("wills", name.encode(), 1, False), WALL_S + 10),
        )
    driver.engine.close()
    connection = sqlite3.connect(folder / NAME, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")  # damage knows no constraints
    connection.execute("UPDATE sqlite_schema SET sql=replace(sql, 'NOT NULL', '')")
    connection.close()
    return folder


def expiry(seconds: int) -> bytes:
    return prop(0x11, u32(seconds))


class Careless(sqlite3.Connection):
    """Waits for no disk."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.startswith("PRAGMA synchronous"):
            sql = "PRAGMA synchronous=OFF"
        return super().execute(sql, *parameters)


def careless(path: str) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, factory=Careless
    )


class Waiting(EngineAround):
    """Answers at once, as far as the rig can see."""

    def __init__(self, engine: SqliteEngine) -> None:
        super().__init__(engine)
        self.rung = threading.Event()
        self.waited_for = 0

    def submit(self, request: Request) -> None:
        self.waited_for += request.request_id != 0
        super().submit(request)

    def take_completions(self) -> list[Completion]:
        taken: list[Completion] = []
        while True:
            self.rung.clear()
            taken += super().take_completions()
            if len(taken) >= self.waited_for:
                self.waited_for = 0
                return taken
            assert self.rung.wait(WAIT_S)


def start(folder: Path) -> tuple[Rig, list[Notice]]:
    """A broker that has read all of a store; and what was said of it."""
    notices: list[Notice] = []
    inner = SqliteEngine(
        folder,
        Limits(),
        level=LEVEL_OS,
        on_notice=notices.append,
        connect=careless,
        hope_s=0.0,
        lazy_s=0.0,
    )
    engine = Waiting(inner)
    rig = Rig(engine=engine, sys_interval_secs=0)
    engine.start(engine.rung.set)
    rig.broker.recover(rig.now)
    rig.settle()
    assert not rig.broker.is_recovering, rig.facts
    assert {notice.name for notice in notices} <= {"store.lost"}
    return rig, notices


def check_whole(rig: Rig) -> None:
    """Nothing of the other client is missing."""
    client = rig.persistent("whole", present=True)
    taken = client.take()
    assert wire.pubrel(2) in taken
    publishes = wire.publishes(taken.replace(wire.pubrel(2), b""))
    assert [(each.payload, each.dup) for each in publishes] == [
        (b"0", True),
        (b"2", False),
        (b"3", False),
        (b"4", False),
    ]
    client.send(wire.publish("whole/5", b"5", 2, 5))  # held: a repeat
    assert client.take() == wire.pubrec(5)
    client.send(wire.publish("whole/6", b"6", 0))
    assert client.payloads() == [b"6"]
    client.send(wire.subscribe(9, ("kept/whole", 1)))
    assert b"kept/whole" in client.take()


def hurt(folder: Path, source: Path, table: str, column: str, value: str) -> bool:
    """Put a value into a column of whatever belongs to the first client; False where SQLite knows
    better."""
    shutil.copytree(source, folder)
    key = {
        "session": f"id={HURT}",
        "subscription": f"session={HURT}",
        "held": f"id >> 16={HURT}",
        "message": f"number / 10={HURT}",
        "queue": f"session={HURT}",
        "retained": "topic=CAST('kept/hurt' AS BLOB)",
        "will": "client_id='hurt'",
    }[table]
    connection = sqlite3.connect(folder / NAME, isolation_level=None)
    try:
        changed = connection.execute(f"UPDATE OR IGNORE {table} SET {column}={value} WHERE {key}")
        return changed.rowcount > 0
    except sqlite3.IntegrityError:
        return False  # such a key of a table can only be a number
    finally:
        connection.close()


@pytest.mark.parametrize(("table", "column"), columns())
def test_any_value_in_any_column(table: str, column: str, source: Path, tmp_path: Path) -> None:
    for value in GARBAGE:
        folder = tmp_path / "store"
        is_hurt = hurt(folder, source, table, column, value)
        rig, notices = start(folder)
        client = rig.open("hurt")
        client.send(wire5.connect("hurt", expiry(2_000), clean=False))
        assert client.frames()[0].first == 0x20, value
        check_whole(rig)
        rig.no_faults()
        if (
            is_hurt and value in UNMISTAKABLE and column != "came_at"
        ):  # it is shown, and nothing else
            assert notices, value
        rig.engine.close()
        if notices:
            rig, notices = start(folder)
            assert notices == [], value
            assert wire.pubrel(2) in rig.persistent("whole", present=True).take()
            rig.no_faults()
            rig.engine.close()
        shutil.rmtree(folder)


def test_a_client_identifier_that_is_not_utf_8_is_named(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    hurt(folder, source, "session", "client_id", "CAST(x'6875ff74' AS TEXT)")
    rig, notices = start(folder)
    assert [notice.detail.split(". ")[0] for notice in notices] == [
        r"session 1 of 'hu\xfft': its client_id cannot be right",
        "the subscription of session 1 to 'hurt/#': there is no such session",
        "the held identifier 5 of session 1: there is no such session",
    ]
    check_whole(rig)
    rig.engine.close()
    connection = sqlite3.connect(folder / NAME)
    for query in ("SELECT DISTINCT session FROM queue", "SELECT DISTINCT number / 10 FROM message"):
        assert connection.execute(query).fetchall() == [(WHOLE,)]
    connection.close()


def test_a_table_that_is_gone_is_damage(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(source, folder)
    connection = sqlite3.connect(folder / NAME)
    connection.execute("DROP TABLE held")
    connection.close()
    with pytest.raises(StoreDamagedError, match="no such table: held"):
        SqliteEngine(folder, Limits())


def test_what_cannot_be_there_twice_is_there_once(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(source, folder)
    connection = sqlite3.connect(folder / NAME, isolation_level=None)
    connection.execute("INSERT INTO session VALUES(9, 'hurt', NULL, 10)")
    connection.execute("UPDATE queue SET packet_id=1 WHERE id >> 20 = 22")
    connection.close()
    rig, notices = start(folder)
    assert [notice.detail.split(". ")[0] for notice in notices][:2] == [
        "session 1 of 'hurt': its client has another one",
        "the subscription of session 1 to 'hurt/#': there is no such session",
    ]
    assert "message 22 of session 2: something else is under way" in notices[-1].detail
    taken = rig.persistent("whole", present=True).take()
    assert b"whole/0" in taken
    assert b"whole/2" not in taken
    rig.no_faults()
    rig.engine.close()


def test_what_is_named_has_an_end(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(source, folder)
    connection = sqlite3.connect(folder / NAME, isolation_level=None)
    connection.executemany("INSERT INTO held VALUES(?)", [((9 << 16) + n,) for n in range(1, 141)])
    connection.close()
    rig, notices = start(folder)
    assert len(notices) == 101
    assert "40 more rows" in notices[-1].detail
    rig.engine.close()
