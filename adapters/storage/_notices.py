"""What an engine has to say to people, for logs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, final

_logger: Final = logging.getLogger("iotd.store")


@final
class Notice:
    """Something that happened to the store: `severity` is a level of `logging`."""

    __slots__ = ("name", "severity", "detail")

    def __init__(self, name: str, severity: int, detail: str) -> None:
        self.name: Final = name
        self.severity: Final = severity
        self.detail: Final = detail

    @classmethod
    def troubled(cls, reason: str) -> Notice:
        """A commit does not succeed."""
        detail = (
            f"{reason}. Acknowledgements wait, then publishers are refused; nothing acknowledged "
            "is lost, and it goes on by itself when the store can be written again"
        )
        return cls("store.troubled", logging.ERROR, detail)

    @classmethod
    def recovered(cls) -> Notice:
        """Commits succeed again."""
        return cls("store.recovered", logging.INFO, "the store can be written again")

    @classmethod
    def unreadable(cls, reason: str) -> Notice:
        """Something cannot be read."""
        return cls("store.unreadable", logging.ERROR, reason)

    @classmethod
    def lost(cls, what: str) -> Notice:
        """Something damaged is left out."""
        detail = f"{what}. It is left out; the disk has changed it: see the log of the system"
        return cls("store.lost", logging.ERROR, detail)

    @classmethod
    def full(cls, reason: str) -> Notice:
        """A limit of the store is reached."""
        return cls("store.full", logging.WARNING, reason)

    @classmethod
    def has_room(cls, what: str) -> Notice:
        """There is less than the low mark of a limit."""
        return cls("store.has_room", logging.INFO, f"the store takes {what} again")


Notify = Callable[[Notice], None]


def log_notice(notice: Notice) -> None:
    """What is done with notices if nobody else wants them."""
    _logger.log(notice.severity, "%s: %s", notice.name, notice.detail)
