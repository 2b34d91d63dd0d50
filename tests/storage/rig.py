"""Engines as a server drives them, for tests that are the same for each."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from adapters.storage import SqliteEngine
from mqtt_core.broker import (
    LEVEL_FSYNC,
    LEVEL_OS,
    WHOLE,
    Claimed,
    ClaimSession,
    Completion,
    Engine,
    Failed,
    Limits,
    MatchRetained,
    MemoryEngine,
    Operation,
    QueuePage,
    ReadQueue,
    ReadSessions,
    ReadWills,
    Request,
    RetainedPage,
    SessionRecord,
    SessionsPage,
    StoredWill,
    WillsPage,
    Write,
)
from tests.storage.disk import Disk

WAIT_S = 60.0  # for a thread that does not answer at all; no test takes that long
PLENTY = 1 << 40


class Driver:
    """One engine with a server's duties: submits, takes completions, waits for the thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rung = threading.Event()
        self.answers: dict[int, Completion] = {}
        self.last_id = 0
        engine.start(self.rung.set)

    def submit(self, request: Request) -> int:
        self.engine.submit(request)
        return request.request_id

    def take(self) -> None:
        self.rung.clear()
        for completion in self.engine.take_completions():
            assert completion.request_id not in self.answers
            self.answers[completion.request_id] = completion

    def answer(self, request_id: int) -> Completion:
        while True:
            self.take()
            if request_id in self.answers:
                return self.answers.pop(request_id)
            assert self.rung.wait(WAIT_S), f"no answer to request {request_id}"

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def ask(self, request: Request) -> Completion:
        return self.answer(self.submit(request))

    def send(self, *operations: Operation, level: int = LEVEL_FSYNC, part: int = WHOLE) -> int:
        return self.submit(Write(self.next_id(), list(operations), level, part))

    def record(self, *operations: Operation) -> None:
        self.submit(Write(0, list(operations)))

    def write(self, *operations: Operation) -> Completion:
        return self.answer(self.send(*operations))

    def claim(self, client_id: str) -> SessionRecord | None:
        claimed = self.ask(ClaimSession(self.next_id(), client_id))
        assert isinstance(claimed, Claimed), vars(claimed)
        return claimed.record

    def queue(
        self, session: int, after: int = 0, limit: int = PLENTY, limit_bytes: int = PLENTY
    ) -> QueuePage:
        page = self.ask(ReadQueue(self.next_id(), session, after, limit, limit_bytes))
        assert isinstance(page, QueuePage), vars(page)
        return page

    def numbers(self, session: int, after: int = 0, limit: int = PLENTY) -> list[int]:
        return [entry.number for entry in self.queue(session, after, limit).entries]

    def retained(self, topic_filter: bytes = b"#", limit: int = 100) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        position: object | None = None
        while True:
            request = MatchRetained(self.next_id(), topic_filter, position, limit, PLENTY)
            page = self.ask(request)
            assert isinstance(page, RetainedPage), vars(page)
            for message in page.messages:
                assert message.topic.name not in found
                found[message.topic.name] = message.payload
            position = page.position
            if position is None:
                return found

    def sessions(self, limit: int = 100) -> list[SessionRecord]:
        found: list[SessionRecord] = []
        while True:
            after = found[-1].session if found else 0
            page = self.ask(ReadSessions(self.next_id(), after, limit))
            assert isinstance(page, SessionsPage), vars(page)
            if not page.records:
                return found
            found += page.records

    def wills(self, limit: int = 100) -> list[StoredWill]:
        found: list[StoredWill] = []
        while True:
            after = found[-1].client_id if found else ""
            page = self.ask(ReadWills(self.next_id(), after, limit))
            assert isinstance(page, WillsPage), vars(page)
            if not page.wills:
                return found
            found += page.wills

    def refused(self, *operations: Operation) -> Failed:
        failed = self.write(*operations)
        assert isinstance(failed, Failed), vars(failed)
        return failed


class Kind:
    """A way to make an engine, and what becomes of its data when it ends."""

    def __init__(
        self,
        name: str,
        make: Callable[[Path, Limits, Disk], Engine],
        is_durable: bool,
        is_idle: Callable[[Engine], bool],
    ) -> None:
        self.name = name
        self.make = make
        self.is_durable = is_durable
        self.is_idle = is_idle  # nothing is being written


def sqlite(folder: Path, limits: Limits, disk: Disk) -> SqliteEngine:
    """An engine that writes nothing by itself of what nobody waits for, or what may cancel out."""
    return SqliteEngine(
        folder,
        limits,
        level=LEVEL_OS,
        connect=disk.connect,
        hope_s=WAIT_S,
        lazy_s=WAIT_S,
        patience_s=0.0,
        retry_s=0.0,
    )


def is_sqlite_idle(engine: Engine) -> bool:
    assert isinstance(engine, SqliteEngine)
    return not engine._outstanding


KINDS = [
    Kind("memory", lambda folder, limits, disk: MemoryEngine(limits), False, lambda engine: True),
    Kind("sqlite", sqlite, True, is_sqlite_idle),
]
"""Every engine passes the same tests: another one is another line."""

DURABLE = [kind for kind in KINDS if kind.is_durable]


class Store:
    """A folder with an engine on it, which may be closed, or crash, and come back."""

    def __init__(self, kind: Kind, folder: Path, limits: Limits | None = None) -> None:
        self.kind = kind
        self.folder = folder / "0"
        self.limits = Limits() if limits is None else limits
        self.disk = Disk()
        self.driver = self._open()
        self.left: list[Driver] = []

    def _open(self) -> Driver:
        return Driver(self.kind.make(self.folder, self.limits, self.disk))

    def restart(self) -> Driver:
        """Close it and open it again."""
        self.driver.engine.close()
        self.driver = self._open()
        return self.driver

    def crash(self) -> Driver:
        """Go on with the files as they are at this moment, in another folder."""
        copy = self.folder.with_name(str(int(self.folder.name) + 1))
        shutil.copytree(self.folder, copy)
        self.left.append(self.driver)
        self.folder = copy
        self.driver = self._open()
        return self.driver

    def close(self) -> None:
        self.disk.heal()
        for driver in [*self.left, self.driver]:
            driver.engine.close()
