"""What somebody can wait for, and who is to be told that it has happened.

An adapter hangs its own object on `waiter` (a future, say). When there is something to look at, the
object is handed out once, by `Client.take_told`, and the waiter is gone.
"""

from __future__ import annotations

from typing import final


class Waitable:
    """What somebody can wait for: `waiter` is who does, None for nobody."""

    __slots__ = ("waiter",)

    def __init__(self) -> None:
        self.waiter: object | None = None


@final
class Told:
    """Those who are to be told."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[object] = []

    def tell(self, what: Waitable) -> None:
        """There is something to look at."""
        waiter = what.waiter
        if waiter is not None:
            what.waiter = None
            self._waiters.append(waiter)

    def take(self) -> list[object]:
        """All of them, in order."""
        waiters = self._waiters
        if waiters:
            self._waiters = []
        return waiters
