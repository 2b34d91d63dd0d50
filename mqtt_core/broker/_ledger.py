"""What waits for all sessions together, and what that takes in memory."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._flow import ByteCount
from mqtt_core.broker._stats import Stats

STORED_BYTES: Final = 24
"""What a message that only the engine has takes in the queue of a session: the two numbers of
`Stored`, with what arrays keep in reserve."""


@final
class Ledger:
    """Every queue enters here what joins and leaves it.

    `memory` counts with what is in flight. `index_bytes` is that of the engine: what one message
    takes there, None where that is the whole message.
    """

    __slots__ = ("_stats", "_memory", "_stored_bytes")

    def __init__(self, stats: Stats, memory: ByteCount, index_bytes: int | None) -> None:
        self._stats: Final = stats
        self._memory: Final = memory
        self._stored_bytes: Final = -1 if index_bytes is None else STORED_BYTES + index_bytes

    def stored_bytes(self, size_bytes: int) -> int:
        """What a message of this size takes in memory when only the engine has it."""
        cost = self._stored_bytes
        return size_bytes if cost < 0 else cost

    def enter(self, messages: int, size_bytes: int, memory_bytes: int) -> None:
        """So many messages more wait, or fewer."""
        stats = self._stats
        stats.queued_messages += messages
        stats.queued_bytes += size_bytes
        self._memory.count += memory_bytes
