"""Has the storage engine forget retained messages that have expired (3.3.2.3.3).

Nobody is sent one that has expired; this only gives their room back, once a minute while there
are any, or may be.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._store import Completion, Done, DropExpired, Failed, Write
from mqtt_core.broker._committing import Committing
from mqtt_core.broker._deadlines import Timed
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._refusals import note_refusal
from mqtt_core.broker._workspace import Workspace

_SWEEP: Final = 1
_INTERVAL_S: Final = 60.0
_NEVER: Final = float("inf")


@final
class Sweeping(Timed):
    """Sweeps until the last message that it was told of has expired."""

    __slots__ = ("_ws", "_committing", "_last", "_is_armed", "_looks_for_more")

    def __init__(self, workspace: Workspace, committing: Committing) -> None:
        self._ws: Final = workspace
        self._committing: Final = committing
        self._last = 0.0  # unix seconds
        self._is_armed = False
        self._looks_for_more = False

    def begin(self) -> None:
        """Sweep at the beginning of a broker; and as long as it runs if messages are retained that
        were stored before it came, since they may expire at any time."""
        self._looks_for_more = True
        self._sweep()

    def note(self, expires_at: float) -> None:
        """A message that expires is retained."""
        self._last = max(self._last, expires_at)
        self._arm()

    def _arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._ws.deadlines.arm(self._ws.now + _INTERVAL_S, _SWEEP, self)

    def on_deadline(self, kind: int, now: float) -> None:
        """Sweep, and again later if that was not the last time."""
        self._is_armed = False
        self._sweep()
        if self._last > self._ws.wall:
            self._arm()

    def _sweep(self) -> None:
        ws = self._ws
        ws.submit(Write(ws.next_id(), [DropExpired(ws.wall)], ws.level), PendingSweep(self))

    def swept(self, completion: Completion) -> None:
        """The engine has forgotten them, and may say how many messages are left."""
        retained = completion.retained if isinstance(completion, Done) else -1
        if isinstance(completion, Done) and retained >= 0:
            self._committing.note_retained_count(completion)
        if self._looks_for_more:
            self._looks_for_more = False
            if retained:
                self.note(_NEVER)

    def not_swept(self, failure: Failed) -> None:
        """It has not: once more later."""
        note_refusal(self._ws, failure)
        self._arm()


@final
class PendingSweep(Pending):
    """Goes on when the engine has swept."""

    __slots__ = ("_sweeping",)

    def __init__(self, sweeping: Sweeping) -> None:
        self._sweeping: Final = sweeping

    def done(self, completion: Completion) -> None:
        """It has."""
        self._sweeping.swept(completion)

    def failed(self, failure: Failed) -> None:
        """It could not."""
        self._sweeping.not_swept(failure)
