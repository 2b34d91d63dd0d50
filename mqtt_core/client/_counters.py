"""What a client counts; all of them only grow."""

from __future__ import annotations

from typing import ClassVar, final


@final
class Counters:
    """What a client has done so far, and what it has dropped."""

    NAMES: ClassVar[tuple[str, ...]] = (
        "connections",
        "lost_connections",
        "failed_attempts",
        "lost_sessions",
        "published",
        "published_again",
        "refused",
        "expired",
        "unknown",
        "received",
        "repeats",
        "dropped_unread",
        "dropped_unclaimed",
    )

    def __init__(self) -> None:
        self.connections = 0  # connections that the server has taken
        self.lost_connections = 0  # of these, the ones that ended without `close`
        self.failed_attempts = 0  # attempts that led to no connection
        self.lost_sessions = 0  # sessions that the server no longer had
        self.published = 0  # messages written for the first time
        self.published_again = 0  # messages written again, on a later connection
        self.refused = 0  # messages that the server did not take
        self.expired = 0  # messages whose expiry interval was over before they could be sent
        self.unknown = 0  # QoS 2 messages of which nobody knows whether they were delivered
        self.received = 0  # PUBLISH packets that have come
        self.repeats = 0  # of these, repeats of a message that is here already
        self.dropped_unread = 0  # messages dropped before the program took them
        self.dropped_unclaimed = 0  # messages that no subscription matched

    def as_dict(self) -> dict[str, int]:
        """All of them by name."""
        found: dict[str, int] = {}
        for name in self.NAMES:
            value = getattr(self, name)
            assert isinstance(value, int)
            found[name] = value
        return found
