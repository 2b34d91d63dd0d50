"""Has the storage engine forget retained messages that have expired (3.3.2.3.3).

Nobody is sent one that has expired; this only gives their room back, once a minute while there
are any.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core.broker._deadlines import Timed
from mqtt_core.broker._store import DropExpired
from mqtt_core.broker._workspace import Workspace

_SWEEP: Final = 1
_INTERVAL_S: Final = 60.0


@final
class Sweeping(Timed):
    """Sweeps until the last message that it was told of has expired."""

    __slots__ = ("_ws", "_last", "_is_armed")

    def __init__(self, workspace: Workspace) -> None:
        self._ws: Final = workspace
        self._last = 0.0  # unix seconds
        self._is_armed = False

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
        wall = self._ws.wall
        self._ws.record(DropExpired(wall))
        if self._last > wall:
            self._arm()
