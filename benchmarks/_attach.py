"""Counts what a running process does, from outside, with perf and strace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

from adapters.bench.sockets import BenchmarkError

_TIMEOUT_S: Final = 20.0


class PerfStat:
    """Counts events of a process while the block runs: `with PerfStat(pid, events) as perf: ...`.

    The counters are on only inside the block; afterwards `counts` has each event that the machine
    could count.
    """

    def __init__(self, pid: int, events: tuple[str, ...]) -> None:
        self.counts: dict[str, int] = {}
        self._events: Final = events
        self._pid: Final = pid
        self._output: Final = Path(tempfile.mkdtemp(prefix="benchmarks-")) / "perf.csv"
        self._process: subprocess.Popen[bytes] | None = None
        self._control = -1
        self._answers = -1

    def __enter__(self) -> PerfStat:
        program = require("perf", "apt-get install linux-perf")
        their_control, self._control = os.pipe()
        self._answers, their_answers = os.pipe()
        command = [program, "stat", "--field-separator", ",", "--output", str(self._output)]
        command += ["--delay", "-1", "--control", f"fd:{their_control},{their_answers}"]
        command += ["--event", ",".join(self._events), "--pid", str(self._pid)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(their_control, their_answers),
        )
        os.close(their_control)
        os.close(their_answers)
        self._tell("enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        try:
            if kind is None:
                self._tell("disable")
            self._process.send_signal(signal.SIGINT)
            self._process.communicate(timeout=_TIMEOUT_S)
            if kind is None:
                self._read()
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._control)
            os.close(self._answers)
            shutil.rmtree(self._output.parent)

    def _tell(self, order: str) -> None:
        """Give perf an order and wait until it has followed it."""
        os.write(self._control, f"{order}\n".encode())
        if not os.read(self._answers, 64).startswith(b"ack"):
            _, said = self._process.communicate() if self._process else (b"", b"")
            raise BenchmarkError(
                f"perf cannot count {', '.join(self._events)} of process {self._pid}: "
                f"{said.decode().strip() or 'no reason given'}; root may be needed, or "
                "sysctl kernel.perf_event_paranoid=1"
            )

    def _read(self) -> None:
        for line in self._output.read_text().splitlines():
            fields = line.split(",")
            if len(fields) > 2 and fields[0].isdigit():
                self.counts[fields[2]] = int(fields[0])


class Strace:
    """Counts a process's system calls while the block runs; then `counts` has them by name."""

    def __init__(self, pid: int) -> None:
        self.counts: dict[str, int] = {}
        self._pid: Final = pid
        self._output: Final = Path(tempfile.mkdtemp(prefix="benchmarks-")) / "strace.txt"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Strace:
        program = require("strace", "apt-get install strace")
        command = [program, "-c", "-f", "-o", str(self._output), "-p", str(self._pid)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._process = process
        first = process.stderr.readline() if process.stderr else ""
        if "attached" not in first:
            process.kill()
            process.wait()
            raise BenchmarkError(f"strace cannot follow process {self._pid}: {first.strip()}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        try:
            self._process.send_signal(signal.SIGINT)
            self._process.communicate(timeout=_TIMEOUT_S)
            if kind is None:
                self._read()
        finally:
            self._process.kill()
            self._process.wait()
            shutil.rmtree(self._output.parent)

    def _read(self) -> None:
        """Lines of the summary: % time, seconds, usecs/call, calls, [errors,] name."""
        for line in self._output.read_text().splitlines():
            fields = line.split()
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                self.counts[fields[-1]] = int(fields[3])


def require(program: str, hint: str) -> str:
    """The path of a program, or the error that says how to get it."""
    found = shutil.which(program)
    if found is None:
        raise BenchmarkError(f"{program} is not installed: {hint}")
    return found
