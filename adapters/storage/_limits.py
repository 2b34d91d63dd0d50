"""How much a store may hold."""

from __future__ import annotations

from typing import Final, final


@final
class StoreLimits:
    """What a store may hold; 0 is no limit.

    `max_bytes` is what the database uses on disk, `max_messages` counts what waits or is in flight,
    once for each session that it is for. Above a limit, writes that would add messages or sessions
    are refused, until there is less than `low_percent` of it; what a client needs that comes for
    its messages is not.
    """

    __slots__ = ("max_bytes", "max_messages", "max_sessions", "low_percent")

    def __init__(
        self,
        max_bytes: int = 0,
        max_messages: int = 0,
        max_sessions: int = 0,
        low_percent: int = 95,
    ) -> None:
        if min(max_bytes, max_messages, max_sessions) < 0 or not 0 < low_percent <= 100:
            raise ValueError("limits of a store are positive numbers, low_percent one up to 100")
        self.max_bytes: Final = max_bytes
        self.max_messages: Final = max_messages
        self.max_sessions: Final = max_sessions
        self.low_percent: Final = low_percent

    @property
    def is_any(self) -> bool:
        """Whether anything is limited."""
        return bool(self.max_bytes or self.max_messages or self.max_sessions)


@final
class Mark:
    """One limit with its two marks: full from the high one on, until below the low one."""

    __slots__ = ("name", "high", "low", "is_full")

    def __init__(self, name: str, high: int, low_percent: int) -> None:
        self.name: Final = name
        self.high: Final = high
        self.low: Final = -(-high * low_percent // 100)
        self.is_full = False

    def refuses(self, used: int) -> bool:
        """Whether something more is refused, where so much is used."""
        if not self.high:
            return False
        if used >= self.high:
            self.is_full = True
        elif used < self.low:
            self.is_full = False
        return self.is_full

    def reason(self, used: int) -> str:
        """Why something is refused, and what to do."""
        return (
            f"the store is full: {used:,} of {self.high:,} {self.name}; raise "
            f"max_{self.name}, or remove sessions and messages that nobody fetches"
        )
