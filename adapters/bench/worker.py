"""One process of the generator: a job comes in, what happens goes out, both as lines of JSON.

    {"workload": [...], "host": "127.0.0.1", "port": 1883, "pid": null, ...}   in: the job
    {"ready": true}                                                            out: all connected
    (an empty line)                                                            in: go
    {"sample": [0.25, 51200, 51190]}                                           out: so far
    {"result": {...}}  or  {"error": "..."}                                    out: the end

Each run has a process of its own, so that none is burdened by what an earlier one has left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TypedDict

from adapters.bench.load import Load
from adapters.bench.results import Sample
from adapters.bench.sockets import BenchmarkError
from adapters.bench.storm import Storm
from adapters.bench.workloads import Workload


class Job(TypedDict):
    """What one process is to do; `core` is the one it has to run on."""

    workload: Workload
    host: str
    port: int
    pid: int | None
    core: int | None
    limit_s: float
    stall_s: float


def load_of(job: Job) -> Load | Storm:
    """The load, before it is prepared."""
    workload = Workload(*job["workload"])
    kind = Storm if workload.is_storm else Load
    return kind(workload, job["port"], job["host"], job["pid"])


def main() -> int:
    """Do the job that standard input has; 0 if it has brought a result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who has started this one ends it
    job: Job = json.loads(sys.stdin.readline())
    if job["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job["core"]})
    try:
        load = load_of(job)
        try:
            load.prepare()
            _tell("ready", True)
            if not sys.stdin.readline():
                return 1
            result = load.measure(job["limit_s"], job["stall_s"], _tell_sample)
        finally:
            load.close()
    except BenchmarkError as error:
        _tell("error", str(error))
        return 1
    _tell("result", result)
    return 0


def _tell_sample(sample: Sample) -> None:
    _tell("sample", sample)


def _tell(what: str, value: object) -> None:
    print(json.dumps({what: value}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
