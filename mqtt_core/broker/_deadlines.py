"""All that is due at some time, in one heap, so that an adapter arms a single timer.

An entry is not moved when its time changes: the owner looks at the real time when the entry
comes up and arms it again. So a packet costs no timer operation. An entry that has been
cancelled lets go of its owner at once; the heap is rebuilt when most of it is cancelled.
"""

from __future__ import annotations

import heapq
from typing import Final, final


class Timed:
    """What can be due: `on_deadline` is called with the kind it was armed for."""

    def on_deadline(self, kind: int, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError


@final
class Deadline:
    """One entry: when, what for, and whose."""

    __slots__ = ("kind", "owner")

    def __init__(self, kind: int, owner: Timed) -> None:
        self.kind: Final = kind
        self.owner: Timed | None = owner


@final
class Deadlines:
    """A heap of deadlines."""

    __slots__ = ("_heap", "_order", "_cancelled")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []
        self._order = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def arm(self, at: float, kind: int, owner: Timed) -> Deadline:
        """Have `owner.on_deadline(kind, ...)` called at `at`."""
        deadline = Deadline(kind, owner)
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, deadline))
        return deadline

    def cancel(self, deadline: Deadline) -> None:
        """Forget an entry; harmless for one that is over."""
        if deadline.owner is None:
            return
        deadline.owner = None
        self._cancelled += 1
        if self._cancelled > 1_000 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].owner is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_at(self) -> float | None:
        """When the earliest entry is due."""
        heap = self._heap
        while heap and heap[0][2].owner is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> Deadline | None:
        """The earliest entry that is due, taken out of the heap."""
        at = self.next_at()
        if at is None or at > now:
            return None
        return heapq.heappop(self._heap)[2]
