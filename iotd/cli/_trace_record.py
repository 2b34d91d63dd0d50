"""`iotd trace record`: a proxy that writes down what passes."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from conformance.diagram import DiagramReader
from conformance.record import RecordingProxy
from conformance.recording import Header, Occurrence, Recorder, Redaction, occurrence_line
from iotd.cli._address import written
from iotd.cli._program import CannotRunError
from iotd.cli._trace_view import LineView

EXIT_NOTHING: Final = 1
EXIT_ENDED_EARLY: Final = 1


@dataclass(frozen=True)
class RecordOptions:
    """What was asked for."""

    listen: tuple[str, int]
    broker: tuple[str, int]
    output: Path | None
    are_payloads_hidden: bool
    are_credentials_kept: bool
    is_shown: bool
    about: str
    seconds: float | None
    most_bytes: int


class OccurrenceWriter:
    """Writes occurrences to a file, line by line, and shows them where that was asked for."""

    def __init__(self, file: TextIO, view: LineView | None, most_bytes: int) -> None:
        self._file = file
        self._view = view
        self._reader = DiagramReader(keeps_lanes=False)
        self._left = most_bytes
        self.is_over = asyncio.Event()
        """Nothing more is written."""
        self.why_over = ""

    def __call__(self, one: Occurrence) -> None:
        """Write one, unless the file has its size or could not be written: then it is over.

        It raises nothing: what the recorder cannot do is no matter of the clients.
        """
        if self.is_over.is_set():
            return
        line = occurrence_line(one) + "\n"
        self._left -= len(line)
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            self._end(f"the file could not be written: {error.strerror or error}")
            return
        if self._view is not None:
            try:
                self._view.print(self._reader.row(one))
            except OSError:  # nobody looks any more: `--show | head`
                self._view = None
        if self._left <= 0:
            self._end("the file has the size that --max-size allows")

    def _end(self, why: str) -> None:
        self.why_over = why
        self.is_over.set()


def record(options: RecordOptions) -> int:
    """Record until a signal comes, or what else was asked for; returns the exit code.

    Raises `CannotRunError`.
    """
    now = datetime.now(UTC)
    path = options.output or Path(f"trace-{now:%Y%m%d-%H%M%S}.jsonl")
    redaction = Redaction(
        credentials=not options.are_credentials_kept, payloads=options.are_payloads_hidden
    )
    header = Header(
        now.isoformat(timespec="seconds"), written(options.broker), options.about, redaction.names()
    )
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise CannotRunError(f"{path} is there already; name another file with --output") from None
    except OSError as error:
        raise CannotRunError(f"cannot write {path}: {error.strerror}") from None
    try:
        file.write(header.line() + "\n")
        recorder, proxy, why_over = asyncio.run(_pass_on(options, redaction, file))
    finally:
        with suppress(OSError):  # which was told already
            file.close()
    if proxy.failures:
        print(
            f"iotd: {proxy.failures} connections ended because {written(options.broker)} could "
            f"not be reached: {proxy.last_failure}",
            file=sys.stderr,
        )
    if not recorder.count:
        path.unlink()
        print("iotd: nothing was recorded: no client connected", file=sys.stderr)
        return EXIT_NOTHING
    if recorder.lost_bytes:
        print(
            f"iotd: {recorder.lost_bytes:,} bytes passed that are not in the recording: packets "
            "of more than 16 MiB",
            file=sys.stderr,
        )
    if why_over:
        print(f"iotd: the recording ended early: {why_over}", file=sys.stderr)
    hidden = f"; hidden: {', '.join(redaction.names())}" if redaction.names() else ""
    print(f"{path}: {recorder.count:,} packets and ends of connections{hidden}", file=sys.stderr)
    return EXIT_ENDED_EARLY if why_over else 0


async def _pass_on(
    options: RecordOptions, redaction: Redaction, file: TextIO
) -> tuple[Recorder, RecordingProxy, str]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # Windows, or not the main thread
            loop.add_signal_handler(number, stop.set)
    writer = OccurrenceWriter(file, LineView() if options.is_shown else None, options.most_bytes)
    recorder = Recorder(writer, redaction)
    proxy = RecordingProxy(options.listen, options.broker, recorder)
    try:
        await proxy.__aenter__()
    except OSError as error:
        raise CannotRunError(
            f"cannot listen at {written(options.listen)}: {error.strerror or error}; choose "
            "another port with --listen"
        ) from None
    try:
        where = written(proxy.address)
        print(f"connect clients to {where}; Ctrl-C ends", file=sys.stderr, flush=True)
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(writer.is_over.wait())]
        await asyncio.wait(waits, timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    finally:
        await proxy.__aexit__(None, None, None)
    return recorder, proxy, writer.why_over
