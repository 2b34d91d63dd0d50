"""Work that is done in turns, so that no connection keeps the others waiting."""

from __future__ import annotations

from mqtt_core.broker._deadlines import Timed


class Work(Timed):
    """Something unfinished: a connection with input left, or a wide fan-out."""

    def __init__(self) -> None:
        self.is_queued = False

    def run(self) -> bool:
        """Do one turn's share; True when nothing is left."""
        raise NotImplementedError

    def on_deadline(self, kind: int, now: float) -> None:
        """Only connections have deadlines."""
