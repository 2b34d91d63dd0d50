"""What the operating system knows about a process: CPU time, memory; and which core it runs on."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

from adapters.bench.sockets import BenchmarkError

_LISTENING: Final = "0A"  # the state of a socket in /proc/net/tcp
_OTHER_DESCRIPTORS: Final = 64


def cpu_s(pid: int) -> float:
    """CPU time that a process has used so far, in seconds (Linux; 0 when it cannot be known)."""
    return _times_s(pid)[0]


def _times_s(pid: int | str) -> tuple[float, float]:
    """CPU time of a process, and how long it was ready to run and had no core.

    `/proc/PID/stat` counts in ticks of 10 ms, too coarse for a run of a tenth of a second; where
    the kernel keeps nanoseconds for every thread in `schedstat` they are taken instead.
    """
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        fields = [(thread / "schedstat").read_text().split() for thread in threads]
        return sum(int(f[0]) for f in fields) / 1e9, sum(int(f[1]) for f in fields) / 1e9
    except (OSError, IndexError, ValueError):
        pass
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0.0
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"), 0.0


@final
class Use:
    """How busy this process and the broker's are from now until `end()`, as shares of a core.

    `busy` is the time in which a process had something to do: on a core, or waiting for one that
    others had. The broker's figures are None if its process is not known.
    """

    def __init__(self, pid: int | None) -> None:
        self._pid: Final = pid
        self._own_cpu_s: Final = time.process_time()
        self._own_before: Final = _times_s("self")
        self._before: Final = _times_s(pid) if pid is not None else (0.0, 0.0)
        self.seconds = 0.0
        self.own_cpu = 0.0
        self.own_busy = 0.0
        self.broker_cpu_s: float | None = None
        self.broker_busy: float | None = None

    def end(self, seconds: float) -> None:
        """Take the figures, over so many seconds."""
        self.seconds = seconds
        self.own_cpu = (time.process_time() - self._own_cpu_s) / seconds
        waited_s = _times_s("self")[1] - self._own_before[1]
        self.own_busy = self.own_cpu + waited_s / seconds
        if self._pid is not None:
            cpu, waited = _times_s(self._pid)
            # A process that has ended has no times any more.
            self.broker_cpu_s = max(0.0, cpu - self._before[0])
            self.broker_busy = (self.broker_cpu_s + max(0.0, waited - self._before[1])) / seconds


def process_listening(port: int) -> int | None:
    """The process on this machine that listens on a TCP port, if it may be known (Linux)."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                if os.readlink(descriptor) in sockets:
                    return int(process.name)
        except OSError:  # it has ended, or is another user's
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def rss_bytes(pid: int) -> int:
    """Resident memory of a process (Linux)."""
    return _status_bytes(pid, "VmRSS:")


def peak_rss_bytes(pid: int) -> int:
    """The most resident memory that a process ever had (Linux)."""
    return _status_bytes(pid, "VmHWM:")


def _status_bytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the limit on open files as far towards `wanted` as allowed; the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted <= soft:
        return soft
    for soft_try, hard_try in ((wanted, max(hard, wanted)), (min(wanted, hard), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft_try, hard_try))
        except (OSError, ValueError):
            continue
        return soft_try
    return soft


def need_descriptors(clients: int) -> None:
    """Let this process have so many sockets. Raises `BenchmarkError` if it may not."""
    wanted = clients + _OTHER_DESCRIPTORS
    limit = raise_descriptor_limit(wanted)
    if limit < wanted:
        raise BenchmarkError(
            f"{clients:,} clients need as many open files, and this process may have {limit:,}; "
            f"use fewer clients, more --processes, or first say: ulimit -n {wanted}"
        )


def cores() -> tuple[int, int] | None:
    """A core for the broker and another for the generator; None where there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else None


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run on one core; processes started meanwhile stay there."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
