"""What a store holds for the devices of a fleet, read while no broker has it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Final

from adapters.storage.offline import export, open_to_look

_STATES: Final = {"queued": "waiting", "in_flight": "in flight"}


class Stored:
    """Messages that wait or are under way, and the retained ones, by names and numbers."""

    def __init__(self, folder: Path) -> None:
        self.retained: Final[dict[str, int]] = {}  # by publisher
        self._states: Final[dict[tuple[str, str, int], str]] = {}
        names: dict[int, str] = {}
        message = ("", 0)
        with open_to_look(folder) as connection:
            for data in export(connection):
                line = json.loads(data)
                kind = line["type"]
                if kind == "session":
                    names[line["number"]] = line["client_id"]
                elif kind == "message":
                    message = _named(line)
                elif kind in _STATES:
                    self._states[(names[line["session"]], *message)] = _STATES[kind]
                elif kind == "retained":
                    publisher, number = _named(line)
                    self.retained[publisher] = number

    def state(self, subscriber: str, publisher: str, number: int) -> str:
        """Where a message is for a subscriber; empty where it is not in the store."""
        return self._states.get((subscriber, publisher, number), "")


def _named(line: dict[str, str]) -> tuple[str, int]:
    """Who published a message, and which number."""
    return line["topic"].rpartition("/")[2], int(base64.b64decode(line["payload"]))
