"""Which clock the timers of an event loop go by."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

_SYSTEM_LOOPS: Final = ("asyncio", "uvloop")


class HasTime(Protocol):
    """An event loop, as far as this goes."""

    def time(self) -> float:
        """The present, in seconds that never go back."""


def clock_of(loop: HasTime) -> Callable[[], float]:
    """The clock of a loop: `time.monotonic`, which is quicker to ask, where it goes by that.

    A loop of somebody else may have a clock of its own, as in tests where hours pass at once.
    """
    is_of_system = type(loop).__module__.partition(".")[0] in _SYSTEM_LOOPS
    return monotonic if is_of_system else loop.time
