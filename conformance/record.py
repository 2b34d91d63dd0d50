"""Records a trace: `python -m conformance.record --listen 127.0.0.1:P --to HOST:PORT --out FILE`.

A proxy between programs and a broker. It passes everything on unchanged, and when it ends (Ctrl-C,
or after `--seconds`) writes what it saw as a trace. Passwords do not get into the file.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from conformance._recording import CAME, CLOSED, CUT, SENT, Recording


class RecordingProxy:
    """Listens at `listen` and passes everything on to the broker at `broker`."""

    def __init__(self, listen: tuple[str, int], broker: tuple[str, int]) -> None:
        self.recording = Recording()
        self._listen = listen
        self._broker = broker
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where programs connect to, once started."""
        if self._server is None:
            raise RuntimeError("the proxy is not started: use `async with`")
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, *self._listen)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        try:
            to_broker = await asyncio.open_connection(*self._broker)
        except OSError as error:
            print(f"{self._broker[0]}:{self._broker[1]}: {error}", file=sys.stderr)
            writer.close()
            return
        directions = (
            asyncio.create_task(self._pass_on(number, SENT, reader, to_broker[1])),
            asyncio.create_task(self._pass_on(number, CAME, to_broker[0], writer)),
        )
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(directions, timeout=0.2)  # for what is on its way back
        finally:
            for task in directions:
                task.cancel()
            for end in (writer, to_broker[1]):
                end.close()
            for end in (writer, to_broker[1]):
                with suppress(OSError):
                    await end.wait_closed()

    async def _pass_on(
        self, number: int, what: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self.recording.add_bytes(self._now(), number, what, data)
                writer.write(data)
                await writer.drain()
        self.recording.add_end(self._now(), number, CUT if what == SENT else CLOSED)
        with suppress(OSError):
            writer.write_eof()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. 0: the trace is written; 2: a wrong call."""
    parser = argparse.ArgumentParser("python -m conformance.record", description=__doc__)
    parser.add_argument("--listen", required=True, help="HOST:PORT that programs connect to")
    parser.add_argument("--to", required=True, help="HOST:PORT of the broker")
    parser.add_argument("--out", required=True, type=Path, help="the trace file to write")
    parser.add_argument("--about", default="", help="what is recorded: the program, its version")
    parser.add_argument("--seconds", type=float, help="end by itself after this time")
    options = parser.parse_args(arguments)
    listen, broker = (_address(parser, text) for text in (options.listen, options.to))
    recording = asyncio.run(_record(listen, broker, options.seconds))
    if not recording.occurrences:
        print("nothing was recorded: no program connected", file=sys.stderr)
        return 1
    options.out.write_text(recording.trace(options.out.stem, options.about), "utf-8")
    print(f"{options.out}: {len(recording.occurrences)} packets and ends of connections")
    return 0


async def _record(
    listen: tuple[str, int], broker: tuple[str, int], seconds: float | None
) -> Recording:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C raises instead
            loop.add_signal_handler(number, stop.set)
    async with RecordingProxy(listen, broker) as proxy:
        print(f"connect programs to {proxy.address[0]}:{proxy.address[1]}; Ctrl-C ends", flush=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
    return proxy.recording


def _address(parser: argparse.ArgumentParser, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal():
        parser.error(f"{text!r} is no HOST:PORT, such as 127.0.0.1:1883")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
