"""Runs an asynchronous test on an event loop, and sees that it leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

LOOPS = ("asyncio", "uvloop")

PATIENCE_S = 20.0
"""How long anything may take before a test gives up; nothing waits for this long when it works."""


def run(loop: str, test: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run `test` to its end; no task may survive it."""

    async def whole() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"

    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if loop == "uvloop":
        import pytest

        factory = pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(whole())
