"""How durable a write is when it is answered: levels of their own, in one store."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

import pytest

from adapters.storage import SqliteEngine
from adapters.storage._engine import TAKEN_BYTES
from mqtt_core import make_message
from mqtt_core.broker import (
    FIRST,
    LAST,
    LEVEL_FSYNC,
    LEVEL_MEMORY,
    LEVEL_OS,
    LEVELS,
    MORE,
    STORE_FULL,
    WHOLE,
    Append,
    Completion,
    DeleteRetained,
    Done,
    Failed,
    Limits,
    Operation,
    PutRetained,
    SaveSession,
    Settle,
    Target,
    Write,
)
from tests.storage.conftest import OpenStore
from tests.storage.disk import Disk
from tests.storage.rig import WAIT_S, Driver

MESSAGE = make_message("t", b"x", 1)


def append(number: int) -> Append:
    return Append(number, MESSAGE, [Target(1, 1)])


class Opened:
    """An engine with a session, on a disk that knows which commits were flushed."""

    def __init__(self, folder: Path, level: int = LEVEL_FSYNC) -> None:
        self.folder = folder
        self.disk = Disk()
        self.engine = SqliteEngine(
            folder,
            Limits(),
            level=level,
            connect=self.disk.connect,
            hope_s=WAIT_S,
            lazy_s=WAIT_S,
            patience_s=0.0,
            retry_s=0.0,
        )
        self.driver = Driver(self.engine)
        self.write(LEVEL_FSYNC, SaveSession(1, "c"))
        self.disk.flushed.clear()
        self.disk.checkpoints = 0

    def send(self, level: int, *operations: Operation, part: int = WHOLE) -> int:
        driver = self.driver
        return driver.submit(Write(driver.next_id(), list(operations), level, part))

    def write(self, level: int, *operations: Operation) -> Completion:
        return self.driver.answer(self.send(level, *operations))

    def after_power_loss(self, folder: Path, kept: int = 0) -> Driver:
        """The store as it would be now after a loss of power, with some bytes more of its log than
        were flushed."""
        folder.mkdir()
        for file in self.folder.iterdir():
            shutil.copy(file, folder)
        with open(folder / "iotd.db-wal", "r+b") as log:
            log.truncate(self.disk.flushed_bytes + kept)
        return Driver(SqliteEngine(folder, Limits()))


@pytest.mark.parametrize("level", LEVELS.values())
def test_a_write_is_answered_at_every_level(open_store: OpenStore, level: int) -> None:
    driver = open_store().driver
    for operation in (SaveSession(1, "c"), append(2), Settle(1, 2), append(3), Settle(1, 9)):
        done = driver.ask(Write(driver.next_id(), [operation], level))
        assert isinstance(done, Done)
    assert driver.numbers(1) == [3]
    done = driver.ask(Write(driver.next_id(), [PutRetained(MESSAGE)], level))
    assert isinstance(done, Done)
    assert done.retained == 1


@pytest.mark.parametrize("level", LEVELS.values())
def test_what_was_written_at_any_level_is_there_after_a_stop_in_good_order(
    open_durable: OpenStore, level: int
) -> None:
    store = open_durable()
    store.driver.write(SaveSession(1, "c"))
    assert isinstance(store.driver.ask(Write(store.driver.next_id(), [append(2)], level)), Done)
    assert store.restart().numbers(1) == [2]


def test_a_batch_is_committed_at_the_highest_level_of_its_writes(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    assert isinstance(opened.write(LEVEL_OS, append(2)), Done)
    assert opened.disk.flushed == [False]
    assert isinstance(opened.write(LEVEL_FSYNC, append(3)), Done)
    assert opened.disk.flushed == [False, True]
    ids = [opened.send(level, append(4 + level)) for level in (LEVEL_OS, LEVEL_FSYNC, LEVEL_OS)]
    assert all(isinstance(opened.driver.answer(each), Done) for each in ids)
    assert opened.disk.flushed == [False, True, True]
    opened.engine.close()


@pytest.mark.parametrize("level", LEVELS.values())
def test_what_nobody_waits_for_is_written_at_the_level_of_the_store(
    tmp_path: Path, level: int
) -> None:
    opened = Opened(tmp_path, level)
    assert opened.engine.level == level
    opened.driver.record(append(2))
    opened.engine.close()
    assert opened.disk.flushed == [level == LEVEL_FSYNC]


def test_at_memory_nothing_is_waited_for(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    commits = opened.disk.commits
    request_id = opened.send(LEVEL_MEMORY, append(2), PutRetained(MESSAGE))
    opened.driver.take()
    done = opened.driver.answers.pop(request_id)
    assert isinstance(done, Done)
    assert done.retained == 1
    assert opened.disk.commits == commits
    assert opened.driver.numbers(1) == [2]
    opened.engine.close()


def test_at_memory_one_limit_is_told_at_once(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    targets = [Target(1, 1)] * ((1 << 20) + 1)
    failed = opened.write(LEVEL_MEMORY, Append(2, MESSAGE, targets))
    assert isinstance(failed, Failed)
    assert failed.kind == STORE_FULL
    opened.engine.close()


def test_what_was_answered_at_memory_is_kept_while_the_disk_refuses(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.disk.fail()
    assert isinstance(opened.write(LEVEL_MEMORY, append(2)), Done)
    assert isinstance(opened.write(LEVEL_OS, append(3)), Failed)
    assert isinstance(opened.write(LEVEL_MEMORY, append(4)), Done)
    opened.disk.heal()
    assert opened.driver.numbers(1) == [2, 4]
    assert isinstance(opened.write(LEVEL_OS, append(5)), Done)
    opened.engine.close()
    driver = Driver(SqliteEngine(tmp_path, Limits()))
    assert driver.numbers(1) == [2, 4, 5]
    driver.engine.close()


def test_at_memory_who_is_far_ahead_of_the_disk_waits_for_it(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    big = make_message("t", bytes(TAKEN_BYTES // 4), 1)
    opened.disk.fail()
    for number in range(2, 6):
        done = opened.write(LEVEL_MEMORY, Append(number, big, [Target(1, 1)]))
        assert isinstance(done, Done), number
    assert isinstance(opened.write(LEVEL_MEMORY, append(6)), Failed)
    opened.disk.heal()
    assert isinstance(opened.write(LEVEL_MEMORY, append(7)), Done)  # with the others, or at once
    opened.driver.claim("c")
    assert opened.engine._taken == 0
    assert opened.driver.numbers(1) == [2, 3, 4, 5, 7]
    opened.engine.close()


def test_what_was_answered_at_memory_and_is_settled_is_never_written(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    commits = opened.disk.commits
    assert isinstance(opened.write(LEVEL_MEMORY, Append(2, MESSAGE, [Target(1, 1, 7)])), Done)
    assert opened.engine._taken > 0
    opened.driver.record(Settle(1, 2))
    assert opened.engine._taken == 0
    opened.engine.close()
    assert opened.disk.commits == commits


@pytest.mark.parametrize("levels", list(itertools.product([LEVEL_MEMORY, LEVEL_FSYNC], repeat=3)))
@pytest.mark.parametrize("is_failing", [False, True])
def test_the_parts_of_a_change_are_stored_together_at_any_levels(
    tmp_path: Path, levels: tuple[int, ...], is_failing: bool
) -> None:
    """A listener's level is its own, so one part may ask for more than another."""
    opened = Opened(tmp_path)
    if is_failing:
        opened.disk.fail()
    parts = zip(levels, (FIRST, MORE, LAST), strict=True)
    sent = [opened.send(level, append(part + 2), part=part) for level, part in parts]
    answers = [opened.driver.answer(each) for each in sent]
    assert all(isinstance(each, Failed if is_failing else Done) for each in answers)
    opened.disk.heal()
    found = opened.driver.numbers(1)
    assert len(found) == (0 if is_failing else 3)
    opened.engine.close()


def test_one_that_changes_nothing_rests_on_what_was_not_flushed(tmp_path: Path) -> None:
    """The message is not there already, but might come back after a loss of power."""
    opened = Opened(tmp_path / "store")
    assert isinstance(opened.write(LEVEL_FSYNC, PutRetained(MESSAGE)), Done)
    assert isinstance(opened.write(LEVEL_OS, DeleteRetained(b"t")), Done)
    before = opened.after_power_loss(tmp_path / "before")
    assert list(before.retained()) == ["t"]
    assert isinstance(opened.write(LEVEL_FSYNC, DeleteRetained(b"t")), Done)
    assert opened.disk.checkpoints == 1
    assert isinstance(opened.write(LEVEL_FSYNC, DeleteRetained(b"t")), Done)  # at once
    assert opened.disk.checkpoints == 1
    opened.engine.close()
    before.engine.close()


@pytest.mark.parametrize("seed", range(20))
def test_flushed_writes_survive_a_loss_of_power_among_others(tmp_path: Path, seed: int) -> None:
    """In any order, and with any part of the log that was not flushed."""
    chance = random.Random(seed)
    opened = Opened(tmp_path / "store", chance.choice([LEVEL_FSYNC, LEVEL_OS, LEVEL_MEMORY]))
    sent: list[tuple[int, int, int]] = []
    safe: set[int] = set()
    for number in range(2, 40):
        level = chance.choice([LEVEL_FSYNC, LEVEL_OS, LEVEL_MEMORY])
        sent.append((opened.send(level, append(number)), level, number))
        if chance.random() < 0.5:
            for request_id, wanted, each in sent:
                assert isinstance(opened.driver.answer(request_id), Done)
                if wanted == LEVEL_FSYNC:
                    safe.add(each)
            sent.clear()
    kept = chance.choice([0, 1, 5_000, 50_000])
    driver = opened.after_power_loss(tmp_path / "after", kept)
    found = driver.numbers(1)
    assert safe <= set(found)
    assert found == list(range(2, 2 + len(found)))  # a prefix of what was written
    opened.engine.close()
    driver.engine.close()


@pytest.mark.parametrize("levels", list(itertools.permutations([LEVEL_FSYNC, LEVEL_OS, LEVEL_OS])))
def test_a_loss_of_power_costs_what_came_behind_the_last_flush(
    tmp_path: Path, levels: tuple[int, ...]
) -> None:
    opened = Opened(tmp_path / "store")
    for number, level in enumerate(levels, 2):
        assert isinstance(opened.write(level, append(number)), Done)
    driver = opened.after_power_loss(tmp_path / "after")
    assert driver.numbers(1) == list(range(2, 3 + levels.index(LEVEL_FSYNC)))
    opened.engine.close()
    driver.engine.close()
