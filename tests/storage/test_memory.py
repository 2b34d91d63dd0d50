"""What the engine keeps in memory of messages that wait, against what it says that it does."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from adapters.storage import SqliteEngine
from mqtt_core import make_message
from mqtt_core.broker import Append, Limits, Operation, SaveSession, Target
from mqtt_core.broker._ledger import STORED_BYTES
from mqtt_core.properties import MESSAGE_EXPIRY_INTERVAL
from tests.rig import new_queue
from tests.storage.rig import Driver

EXPIRES = ((MESSAGE_EXPIRY_INTERVAL, 1),)
COUNT = 5_000
WORST = 16  # times what is counted: the factor in the formula of `iotd config`


def taken_by_queues(folder: Path, sessions: int, expires_at: float) -> int:
    """Bytes that a store and the queues of a broker take for each message of each session."""
    engine = SqliteEngine(folder, Limits())
    queues = [new_queue(engine.index_bytes) for _ in range(sessions)]
    driver = Driver(engine)
    driver.write(*[SaveSession(session, f"c{session}") for session in range(1, sessions + 1)])
    targets = [Target(session, 1) for session in range(1, sessions + 1)]
    appends: list[Operation] = []
    message = make_message("t", b"", 1)
    gc.collect()
    tracemalloc.start()
    try:
        for first in range(100, 100 + COUNT, 500):
            appends.clear()
            for number in range(first, first + 500):
                message = make_message("t", b"x" * 100, 1, False, EXPIRES if expires_at else ())
                if expires_at:
                    message.expires_at = expires_at + number
                appends.append(Append(number, message, list(targets)))
                for queue in queues:
                    queue.add_message_stored(number, message)
            driver.write(*appends)
        driver.write(SaveSession(99, "last"))  # nothing is left of the batch before
        appends.clear()
        del message
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    engine.close()
    counted = sum(queue.memory_bytes for queue in queues)
    assert engine.index_bytes is not None
    assert counted == COUNT * sessions * (STORED_BYTES + engine.index_bytes)
    print(
        f"{taken / COUNT / sessions:.0f} bytes for each, {counted / COUNT / sessions:.0f} counted"
    )
    return taken - counted


def test_a_message_takes_what_is_counted(tmp_path: Path) -> None:
    assert taken_by_queues(tmp_path, 1, 0.0) <= 0


@pytest.mark.parametrize(("sessions", "expires_at"), [(2, 0.0), (1, 2e9), (2, 2e9)])
def test_one_that_is_shared_and_expires_takes_no_more_than_the_worst_case(
    tmp_path: Path, sessions: int, expires_at: float
) -> None:
    counted = COUNT * sessions * (STORED_BYTES + 24)
    assert taken_by_queues(tmp_path, sessions, expires_at) <= (WORST - 1) * counted
