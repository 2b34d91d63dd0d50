"""Messages of a history: sent, on their way, and received, as both versions of MQTT have them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.model.sessions import Session

_AROUND_BYTES = 64
"""What a PUBLISH has at most beside topic and payload: header, identifiers, alias, expiry."""


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter matches a topic name (4.7), by recursion over the levels."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    return _levels_match(topic_filter.split("/"), topic.split("/"))


def _levels_match(topic_filter: list[str], topic: list[str]) -> bool:
    if not topic_filter:
        return not topic
    if topic_filter[0] == "#":
        return True
    if not topic:
        return False
    return topic_filter[0] in ("+", topic[0]) and _levels_match(topic_filter[1:], topic[1:])


@dataclass(eq=False)
class Sent:
    """A message on its way. Its number is in its payload, so that it is known everywhere."""

    number: int
    client_id: str
    source: str
    """Who keeps the order: the client, or its wills."""
    topic: str
    payload: bytes
    qos: int
    retain: bool
    step: int
    expiry_s: int | None = None
    sends: int = 1
    may_be_refused: bool = False
    """Whether the broker may have said that it has no room for it, and nobody has heard."""
    arrivals: list[float] = field(default_factory=list)
    """When it was sent, each time."""
    is_accepted: bool = False
    is_vague: bool = False
    """Whether the broker may have got it at any other time too."""
    routes: list[Route] = field(default_factory=list)
    """The sessions it was for when it was sent."""
    groups: set[str] = field(default_factory=set)
    """The shared filters of which a member still must get it."""

    @property
    def times(self) -> int:
        """How often it may have been a new message to the broker."""
        return self.sends if self.qos == 1 or self.may_be_refused else 1

    @property
    def size_bytes(self) -> int:
        """More than any PUBLISH with it has."""
        return len(self.topic) + len(self.payload) + _AROUND_BYTES

    @property
    def expires_first(self) -> float:
        """From when on nobody need get it any more."""
        return math.inf if self.expiry_s is None else min(self.arrivals) + self.expiry_s

    @property
    def expires_last(self) -> float:
        """From when on nobody may be sent it any more."""
        return math.inf if self.expiry_s is None else max(self.arrivals) + self.expiry_s


@dataclass(eq=False)
class Route:
    """A session that a message is for, by subscriptions of its own."""

    session: Session
    version: int
    """That of the session's subscriptions then; -1 where they were not certain."""
    qos: int
    retain: bool
    """The flag that it must have."""
    identifiers: tuple[int, ...]
    """Of all subscriptions that match; known to clients of MQTT 5.0 only."""

    @property
    def is_certain(self) -> bool:
        """Whether the subscriptions are still the same."""
        return self.session.version == self.version


class Copy(NamedTuple):
    """A PUBLISH as a client has got it, its topic found again where an alias stood for it."""

    level: int
    topic: str
    payload: bytes
    qos: int
    packet_id: int
    retain: bool
    dup: bool
    expiry_s: int | None = None
    identifiers: tuple[int, ...] = ()
