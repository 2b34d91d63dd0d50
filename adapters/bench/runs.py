"""Runs in processes of their own: one broker once, or several in turn."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple, TypedDict

from adapters.bench.load import LIMIT_S, STALL_S
from adapters.bench.results import Result, Sample, joined
from adapters.bench.sockets import BenchmarkError
from adapters.bench.worker import Job
from adapters.bench.workloads import Workload

_ROOT: Final = Path(__file__).resolve().parents[2]  # where these packages were found

_ENDING_S: Final = 5.0


class Target(NamedTuple):
    """A broker that runs; `pid` is its process, None when that is not known."""

    name: str
    host: str
    port: int
    pid: int | None = None


class Options(NamedTuple):
    """How runs are made: over how many processes, on which core, and when one is given up."""

    processes: int = 1
    core: int | None = None
    limit_s: float = LIMIT_S
    stall_s: float = STALL_S


class Side(NamedTuple):
    """One broker, and the workload in its version of MQTT."""

    name: str
    target: Target
    workload: Workload


class Run(NamedTuple):
    """One run: its result, or why there is none."""

    side: Side
    round: int
    result: Result | None
    fault: str = ""


class _Line(TypedDict, total=False):
    ready: bool
    sample: tuple[float, int, int]
    result: Result
    error: str


OnSample = Callable[[Side, int, Sample], None]


def rounds(
    sides: Sequence[Side],
    count: int,
    options: Options = Options(),  # noqa: B008 (it cannot be changed)
    on_sample: OnSample | None = None,
) -> Iterator[Run]:
    """Run every side in turn, A B A B, `count` times; what is done at once, one after the other."""
    for number in range(count):
        for side in sides:

            def tell(sample: Sample, side: Side = side, number: int = number) -> None:
                if on_sample is not None:
                    on_sample(side, number, sample)

            try:
                yield Run(side, number, run(side.workload, side.target, options, tell))
            except BenchmarkError as error:
                yield Run(side, number, None, str(error))


def run(
    workload: Workload,
    target: Target,
    options: Options = Options(),  # noqa: B008 (it cannot be changed)
    on_sample: Callable[[Sample], None] | None = None,
) -> Result:
    """One run of a workload on a broker, over as many processes as asked for.

    Raises `BenchmarkError` where there is no result.
    """
    count = options.processes
    own = workload._replace(prefix=f"{workload.prefix}-{os.getpid():x}")
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_worker(own.part(index, count), target, options))
            for index in range(count)
        ]
        for worker in workers:
            _expect(worker, "ready")
        for worker in workers:
            _input(worker).write("\n")
            _input(worker).flush()
        return joined(workload, _results(workers, on_sample))


@contextmanager
def _worker(
    workload: Workload, target: Target, options: Options
) -> Iterator[subprocess.Popen[str]]:
    """A process that has its job, and is ended with the block."""
    job: Job = {
        "workload": workload,
        "host": target.host,
        "port": target.port,
        "pid": target.pid,
        "core": options.core,
        "limit_s": options.limit_s,
        "stall_s": options.stall_s,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "adapters.bench.worker"],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _input(process).write(json.dumps(job) + "\n")
        _input(process).flush()
        yield process
    finally:
        process.kill()
        process.communicate()


def _input(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdin is not None
    return process.stdin


def _output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def _expect(process: subprocess.Popen[str], what: str) -> _Line:
    """The next line of a process. Raises `BenchmarkError` for what it says has gone wrong."""
    text = _output(process).readline()
    if not text:
        raise BenchmarkError("a process of the generator has ended; its last words stand above")
    line: _Line = json.loads(text)
    if "error" in line:
        raise BenchmarkError(line["error"])
    return line


def _results(
    workers: list[subprocess.Popen[str]], on_sample: Callable[[Sample], None] | None
) -> list[Result]:
    """Wait for the results of all, and tell how far they are together."""
    results: dict[int, Result] = {}
    latest: dict[int, Sample] = {}
    with selectors.DefaultSelector() as selector:
        for index, worker in enumerate(workers):
            selector.register(_output(worker), selectors.EVENT_READ, index)
        while len(results) < len(workers):
            for key, _ in selector.select():
                index = key.data
                line = _expect(workers[index], "sample")
                if "result" in line:
                    results[index] = line["result"]
                    selector.unregister(key.fileobj)
                elif "sample" in line:
                    latest[index] = Sample(*line["sample"])
                    if on_sample is not None and len(latest) == len(workers):
                        on_sample(_together(list(latest.values())))
    return [results[index] for index in range(len(workers))]


def _together(samples: list[Sample]) -> Sample:
    return Sample(
        max(sample.at_s for sample in samples),
        sum(sample.sent for sample in samples),
        sum(sample.received for sample in samples),
    )
