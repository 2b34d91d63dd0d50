"""Stores with something in them, made by an engine, for tests of what tools do with them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from adapters.storage import SqliteEngine
from mqtt_core import Message, Will, make_message
from mqtt_core.broker import (
    Append,
    HoldIdentifier,
    Limits,
    Operation,
    Options,
    Particulars,
    PutRetained,
    SaveExpiry,
    SaveReceived,
    SaveSent,
    SaveSession,
    SaveSubscription,
    SaveWill,
    Settle,
    Target,
)
from tests.storage.rig import Driver

NOW = float(int(time.time()))
HOUR = 3_600
DAY = 24 * HOUR


def open_driver(folder: str = "store") -> Driver:
    return Driver(SqliteEngine(Path(folder), Limits()))


def make_store(*operations: Operation, folder: str = "store") -> Path:
    driver = open_driver(folder)
    driver.write(*operations)
    driver.engine.close()
    return Path(folder)


def expiring(topic: str, interval_s: int, came_at: float) -> Message:
    message = make_message(topic, b"y", 2, properties=((2, interval_s),))
    message.expires_at = came_at + interval_s
    return message


def rich_state() -> list[Operation]:
    """One of everything that can be stored."""
    shared = Particulars(False, (3, 7), b"$share/g/a/#")
    requested = make_message(
        "a/request",
        bytes(range(256)),
        1,
        True,
        ((0x01, 0), (0x03, "text"), (0x08, "answer"), (0x09, b"\0\xff"), (0x26, ("k", "v")),
         (0x26, ("k", "\u00e4"))),
    )  # fmt: skip
    return [
        SaveSession(1, "sensor\x1b[31m"),
        SaveExpiry(1, NOW + 29 * DAY + 22 * HOUR, 30 * DAY),
        SaveSubscription(1, b"a/#", 1, retained_due=True),
        SaveSubscription(1, b"b/+", 2, Options(True, True, 7)),
        SaveSubscription(1, "$share/g/\u00e4".encode(), 0, Options()),
        HoldIdentifier(1, 1),
        HoldIdentifier(1, 65_535),
        SaveSession(5, "never"),
        SaveExpiry(5, None, 0xFFFF_FFFF),
        SaveSession(900, "late"),
        SaveExpiry(900, None, 60),
        *[
            Append(1_000 + n, make_message(f"a/{n}", b"x" * n, 2), [
                Target(1, 1), Target(5, 2, 0, Particulars(True)), Target(900, 2)])
            for n in range(10)
        ],
        Append(2_000, requested, [Target(900, 1, 9, shared), Target(5, 0)]),
        Append(2_001, expiring("b/c", DAY, NOW - 5 * HOUR), [Target(900, 1)]),
        SaveSent(5, 1_001, 12),
        SaveSent(5, 1_000, 65_535),
        SaveReceived(5, 1_001),
        Settle(1, 1_000),
        Settle(1, 1_009),
        *[Settle(900, 1_000 + n) for n in range(10)],
        PutRetained(make_message("r/1", b"hello", 1, True)),
        PutRetained(make_message("r/1/2", b"", 0, True, ((0x03, "none"),))),
        PutRetained(make_message("$own/r", b"\xff", 2, True)),
        SaveWill("never", Will("w", b"gone", 1, True, ((0x18, 30), (0x26, ("a", "b")))), 0.0),
        SaveWill("nobody", Will("w/2", b"\0\xff", 0, False), NOW + 60.5),
    ]  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def crash_copy(folder: str = "crashed") -> Path:
    """A store as the end of its broker by SIGKILL leaves it: with a log."""
    driver = open_driver("alive")
    driver.write(*rich_state())
    shutil.copytree("alive", folder)
    driver.engine.close()
    return Path(folder)
