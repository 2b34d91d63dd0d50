"""Requests that wait for their answers (4.10 of MQTT 5.0)."""

from __future__ import annotations

from typing import Final, Generic, TypeVar, final

from mqtt_core.client import Message, QueueFull

Waiter = TypeVar("Waiter")

MAX_REQUESTS: Final = 10_000
"""Requests that may wait for an answer at once."""


def response_topic(information: str, client_id: str) -> str:
    """Where answers come: below what the server has named for that (response information), or
    below a topic of the client's own, whose name has no character of MQTT's."""
    if information:
        return f"{information.rstrip('/')}/answers"
    safe = "".join("_" if each in "+#/\0$" else each for each in client_id)
    return f"iotd/response/{safe}"


@final
class RequestTable(Generic[Waiter]):
    """Who waits for which answer. Each has correlation data of its own, so that an answer that
    comes too late finds nobody."""

    __slots__ = ("_next", "_waiting", "unexpected")

    def __init__(self) -> None:
        self._next = 0
        self._waiting: Final[dict[bytes, Waiter]] = {}
        self.unexpected = 0  # answers that nobody waits for (any more)

    def add(self, waiter: Waiter) -> bytes:
        """Somebody waits; returns the correlation data. Raises `QueueFull`."""
        if len(self._waiting) >= MAX_REQUESTS:
            raise QueueFull(f"{MAX_REQUESTS:,} requests wait for an answer already")
        self._next += 1
        correlation = self._next.to_bytes(8, "big")
        self._waiting[correlation] = waiter
        return correlation

    def remove(self, correlation: bytes) -> None:
        """Nobody waits any more."""
        self._waiting.pop(correlation, None)

    def answered(self, message: Message) -> Waiter | None:
        """Whose answer this is; None, and counted, for nobody's."""
        waiter = self._waiting.pop(message.correlation_data or b"", None)
        if waiter is None:
            self.unexpected += 1
        return waiter
