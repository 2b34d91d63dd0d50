"""The store of a client: requests to its engine, and what the engine answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, final

from adapters.stages import clock_of
from mqtt_core.client import Client as Core
from mqtt_core.client import StoreFailed
from mqtt_core.store import Engine


@final
class Store:
    """Carries requests of the core to an engine, and completions back."""

    __slots__ = ("_core", "_engine", "_is_closed", "_is_started", "_now")

    def __init__(self, engine: Engine, core: Core) -> None:
        self._engine: Final = engine
        self._core: Final = core
        self._is_closed = False
        self._now: Callable[[], float] = monotonic
        self._is_started = False

    def start(self, loop: asyncio.AbstractEventLoop, turn: Callable[[], None]) -> None:
        """Begin; `turn` is called on the loop when there are answers."""

        def answered() -> None:
            try:
                loop.call_soon_threadsafe(turn)
            except RuntimeError:
                pass  # the loop is closed, and so is the client

        self._now = clock_of(loop)
        self._is_started = True
        self._engine.start(answered)

    def serve(self) -> None:
        """Carry on until neither side has anything."""
        if self._is_closed:
            return
        core = self._core
        engine = self._engine
        while True:
            requests = core.take_requests()
            for request in requests:
                engine.submit(request)
            completions = engine.take_completions()
            for completion in completions:
                core.completed(completion, self._now())
            if not requests and not completions:
                return

    async def close(self) -> None:
        """Store what there is to be stored; that is done whether or not somebody waits for it.

        Raises `StoreFailed`.
        """
        if self._is_closed:
            return
        if self._is_started:  # else nothing has been read, and nothing is to be written
            self.serve()
        self._is_closed = True
        closing = asyncio.ensure_future(asyncio.to_thread(self._engine.close))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait([closing])
            raise
        except OSError as error:
            raise StoreFailed(f"not all could be stored: {error}") from error
