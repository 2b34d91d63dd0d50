"""What the durable store costs: to open, and for each message.

    python -m benchmarks.storage_start build FOLDER --messages 1000000 --sessions 100000
    python -m benchmarks.storage_start open FOLDER
    python -m benchmarks.storage_start rate FOLDER --level fsync

build   fills a store with messages that wait for sessions which are away
open    opens it, reads all sessions as a broker that starts does, and shows seconds and memory
rate    appends and settles in batches of several sizes, one batch at a time

Linux only: memory is read from /proc. The folder's own disk is measured: name one that counts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Final

from adapters.storage import SqliteEngine
from mqtt_core import make_message
from mqtt_core.broker import (
    LEVEL_OS,
    LEVELS,
    Append,
    Completion,
    Limits,
    Operation,
    ReadSessions,
    Request,
    SaveExpiry,
    SaveSession,
    SaveSubscription,
    SessionsPage,
    Settle,
    Target,
    Write,
)

PAYLOAD_BYTES: Final = 100
BATCHES: Final = (1, 10, 100, 500)
PAGE: Final = 10_000
EXPIRY_S: Final = 86_400


class Driver:
    """One request at a time, as a server would carry it."""

    def __init__(self, engine: SqliteEngine) -> None:
        self.engine = engine
        self.rung = threading.Event()
        self.last_id = 0
        engine.start(self.rung.set)

    def wait(self, count: int) -> list[Completion]:
        """Take so many completions."""
        found: list[Completion] = []
        while True:
            self.rung.clear()
            found += self.engine.take_completions()
            if len(found) >= count:
                return found
            self.rung.wait()

    def next_id(self) -> int:
        """An id for a request."""
        self.last_id += 1
        return self.last_id

    def ask(self, request: Request) -> Completion:
        """Submit a request and wait for its completion."""
        self.engine.submit(request)
        return self.wait(1)[0]

    def write(self, operations: list[Operation]) -> None:
        """Write, and wait until it is stored."""
        self.ask(Write(self.next_id(), operations))


def memory_kib(field: str = "VmRSS") -> int:
    """A figure of this process's memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise LookupError(field)


def build(folder: Path, messages: int, sessions: int) -> dict[str, object]:
    """Fill a store: each message for one session, all of them in turn."""
    began = time.perf_counter()
    engine = SqliteEngine(folder, Limits(), level=LEVEL_OS)
    driver = Driver(engine)
    first = engine.last_number + 1
    operations: list[Operation] = []
    for each in range(sessions):
        operations += [
            SaveSession(first + each, f"device-{each:08}"),
            SaveExpiry(first + each, None, EXPIRY_S),
            SaveSubscription(first + each, f"devices/{each}/#".encode(), 1),
        ]
    for at in range(0, len(operations), 1_000):
        driver.write(operations[at : at + 1_000])
    payload = b"x" * PAYLOAD_BYTES
    number = first + sessions
    for at in range(0, messages, 500):
        batch: list[Operation] = []
        for each in range(at, min(at + 500, messages)):
            session = each % sessions
            message = make_message(f"devices/{session}/command", payload, 1)
            batch.append(Append(number + each, message, [Target(first + session, 1)]))
        driver.write(batch)
    engine.close()
    return {"built_s": round(time.perf_counter() - began, 1)}


def open_store(folder: Path) -> dict[str, object]:
    """Open a store and read all sessions back."""
    before = memory_kib()
    cpu = time.process_time()
    engine = SqliteEngine(folder, Limits())
    open_cpu_s = time.process_time() - cpu
    opened_kib = memory_kib()
    driver = Driver(engine)
    cpu = time.process_time()
    began = time.perf_counter()
    after = sessions = messages = 0
    while True:
        page = driver.ask(ReadSessions(driver.next_id(), after, PAGE))
        assert isinstance(page, SessionsPage)
        if not page.records:
            break
        after = page.records[-1].session
        sessions += len(page.records)
        messages += sum(len(record.queued) for record in page.records)
    read_s = time.perf_counter() - began
    read_cpu_s = time.process_time() - cpu
    shown: dict[str, object] = {
        "sessions": sessions,
        "messages": messages,
        "open_s": round(engine.report.seconds, 2),
        "open_cpu_s": round(open_cpu_s, 2),
        "read_sessions_s": round(read_s, 2),
        "read_sessions_cpu_s": round(read_cpu_s, 2),
        "memory_before_mib": before // 1024,
        "memory_open_mib": opened_kib // 1024,
        "memory_after_mib": memory_kib() // 1024,
        "memory_peak_mib": memory_kib("VmHWM") // 1024,
        "database_mib": engine.used_bytes // 1024 // 1024,
    }
    engine.close()
    return shown


def rate(folder: Path, level: str, seconds: float) -> dict[str, object]:
    """Messages and commits a second, by the size of a batch: each is appended, then settled."""
    shown: dict[str, object] = {"level": level}
    for size in BATCHES:
        part = folder / f"rate-{size}"
        engine = SqliteEngine(part, Limits(), level=LEVELS[level])
        driver = Driver(engine)
        driver.write([SaveSession(session, f"c{session}") for session in range(1, 101)])
        message = make_message("devices/1/command", b"x" * PAYLOAD_BYTES, 1)
        number = 1_000
        count = 0
        slowest: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            for each in range(number, number + size):
                targets = [Target(each % 100 + 1, 1)]
                engine.submit(Write(driver.next_id(), [Append(each, message, targets)]))
            driver.wait(size)
            slowest.append(time.perf_counter() - start)
            for each in range(number, number + size):
                engine.submit(Write(0, [Settle(each % 100 + 1, each)]))
            number += size
            count += size
        took = time.perf_counter() - began
        engine.close()
        shutil.rmtree(part)
        slowest.sort()
        shown[f"batches of {size}"] = {
            "messages_per_s": round(count / took),
            "commits_per_s": round(count / size / took),
            "p50_ms": round(slowest[len(slowest) // 2] * 1e3, 2),
            "p99_ms": round(slowest[len(slowest) * 99 // 100] * 1e3, 2),
        }
    return shown


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storage_start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("build", "open", "rate"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--level", choices=LEVELS, default="fsync")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    if options.what == "build":
        shown = build(options.folder, options.messages, options.sessions)
    elif options.what == "open":
        shown = open_store(options.folder)
    else:
        shown = rate(options.folder, options.level, options.seconds)
    print(json.dumps(shown, indent=2))


if __name__ == "__main__":
    main()
