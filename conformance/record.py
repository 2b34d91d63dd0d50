"""A proxy between programs and a broker: it passes everything on unchanged, and tells what."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from conformance._trace_text import CAME, CLOSED, CUT, SENT
from conformance.recording import Recorder


class RecordingProxy:
    """Listens at `listen` and passes everything on to the broker at `broker`.

    The recorder gets what passes, at times that begin with 0 at the first connection.
    """

    def __init__(
        self, listen: tuple[str, int], broker: tuple[str, int], recorder: Recorder
    ) -> None:
        self._listen = listen
        self._broker = broker
        self._recorder = recorder
        self.failures = 0
        """Connections of programs that ended because the broker could not be reached."""
        self.last_failure = ""
        """Why, of the last of them."""
        self._began_s: float | None = None
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
            self.failures += 1
            self.last_failure = str(error)
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
            self._recorder.forget(number)

    async def _pass_on(
        self, number: int, what: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self._recorder.add_bytes(self._now(), number, what, data)
                writer.write(data)
                await writer.drain()
        self._recorder.add_end(self._now(), number, CUT if what == SENT else CLOSED)
        with suppress(OSError):
            writer.write_eof()

    def _now(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._began_s is None:
            self._began_s = now
        return now - self._began_s
