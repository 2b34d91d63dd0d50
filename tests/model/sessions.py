"""Sessions of a history as their clients see them: subscriptions, and what is owed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.model.messages import Copy, Route, Sent, matches

OWN = "own"
"""Where a copy comes from: subscriptions of the session's own, for a message as it was sent,"""
RETAINED = "retained"
"""a message that was there when the session subscribed; or a group, by its whole filter."""

SEND = 0
ONLY_IF_NEW = 1
"""What SUBSCRIBE says of retained messages (3.8.3.1); 2 wants none."""


class Wanted(NamedTuple):
    """One filter of a SUBSCRIBE, with the options and the identifier that MQTT 5.0 has."""

    topic_filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = SEND
    identifier: int = 0

    @property
    def is_shared(self) -> bool:
        """Whether it is for a member of a group."""
        return self.topic_filter.startswith("$share/")

    def matches(self, message: Sent, client_id: str) -> bool:
        """Whether a message that was just sent is for this subscription of a client."""
        if self.no_local and message.client_id == client_id:
            return False
        return matches(unshared(self.topic_filter), message.topic)


def unshared(topic_filter: str) -> str:
    """The filter that members of a group share, or the filter itself."""
    if not topic_filter.startswith("$share/"):
        return topic_filter
    return topic_filter.split("/", 2)[2]


@dataclass
class Subscribed:
    """A subscription that is there, at this QoS at least, since that step above QoS 0."""

    wanted: Wanted
    qos: int
    since: int


@dataclass(eq=False)
class Session:
    """A session as its client sees it: subscriptions, and what it is owed and has got."""

    client_id: str
    expiry_s: int
    """How long it outlives its connection."""
    connection: int = 0
    """Key of the channel it is attached to, 0 for none."""
    last_connection: int = 0
    """The same of the last one it was attached to."""
    detached_at: float = 0.0
    detached_step: int = 0
    largest_bytes: float = math.inf
    """The largest packet that every connection so far would have taken."""
    version: int = 0
    unanswered: int = 0
    """Filters in SUBSCRIBE and UNSUBSCRIBE without answer: until then no QoS is certain, and
    never again if the answer was lost."""
    pending: dict[str, list[Wanted | None]] = field(default_factory=dict)
    """By filter: how it has been asked for without answer, in order; None for its end."""
    filters: dict[str, Subscribed] = field(default_factory=dict)
    was_refused: bool = False
    """Whether a subscription was, so that it is not known in which form an earlier one is back."""
    uncertain: set[str] = field(default_factory=set)
    """Filters that may be there."""
    ever: list[Wanted] = field(default_factory=list)
    """Every subscription there has been, in order."""
    owed: dict[int, Route | None] = field(default_factory=dict)
    """Numbers of messages that must come, with how where that is certain."""
    owed_retained: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By topic: the retained message that must come, and at which QoS."""
    hoped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """The same by filter and topic, while SUBACK has not come."""
    fresh: dict[tuple[int, str], int] = field(default_factory=dict)
    """How often each message has come without DUP, by where from; "" for anywhere."""
    got: dict[tuple[int, str], int] = field(default_factory=dict)
    """How often each message has been given to the application."""
    may_have: set[int] = field(default_factory=set)
    """Messages that have come, but perhaps not for `OWN`, or that its client has declined."""
    declined: set[int] = field(default_factory=set)
    """Messages that its client has declined, and may get again if the broker has not heard."""
    last: dict[tuple[str, str, int, int], int] = field(default_factory=dict)

    def route(self, message: Sent) -> Route | None:
        """How a message that is sent now should come, if it is for this session's own
        subscriptions.  [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.1-12] [MQTT-3.3.1-13]"""
        found = [
            each
            for each in self.filters.values()
            if not each.wanted.is_shared and each.wanted.matches(message, self.client_id)
        ]
        if not found:
            return None
        keeps = any(each.wanted.retain_as_published for each in found)
        identifiers = sorted(each.wanted.identifier for each in found if each.wanted.identifier)
        return Route(
            self,
            -1 if self.unanswered or self.was_refused else self.version,
            min(message.qos, max(each.qos for each in found)),
            message.retain and keeps,
            tuple(identifiers),
        )

    def asked(self, message: Sent) -> list[Wanted]:
        """Every subscription there has been that might have been for a message."""
        return [each for each in self.ever if matches(unshared(each.topic_filter), message.topic)]

    def forget_retained(self, topic: str) -> None:
        """The retained message of a topic has come, or another is there now."""
        self.owed_retained.pop(topic, None)
        for key in [key for key in self.hoped if key[1] == topic]:
            del self.hoped[key]

    def forget(self, message: Sent) -> None:
        """A message need not come any more."""
        self.owed.pop(message.number, None)
        known = {*self.owed_retained.values(), *self.hoped.values()}
        if message.number in {number for number, _ in known}:
            self.forget_retained(message.topic)

    def has_asked_since(self, message: Sent) -> bool:
        """Whether a filter that matches has been there above QoS 0 since a message was sent."""
        return any(
            each.qos > 0
            and each.since <= message.step
            and not each.wanted.is_shared
            and each.wanted.matches(message, self.client_id)
            for each in self.filters.values()
        )

    def is_member(self, topic_filter: str, step: int) -> bool:
        """Whether it has surely been a member of a group since a step, above QoS 0."""
        known = self.filters.get(topic_filter)
        return known is not None and known.qos > 0 and known.since <= step

    def may_be_there(self, topic_filter: str) -> bool:
        """Whether a subscription may be there by now."""
        return topic_filter in self.filters or topic_filter in self.uncertain

    def certain(self, wanted: Wanted) -> int:
        """The least QoS that a filter may have by now; -1 if it may be over."""
        later = self.pending.get(wanted.topic_filter, ())
        return min((-1 if each is None else each.qos for each in (wanted, *later)), default=-1)

    # What a copy may be

    def origins(self, copy: Copy, message: Sent) -> list[str]:
        """Where a copy can come from, as far as it shows: `OWN`, `RETAINED`, or a group."""
        found = self.asked(message)
        if copy.level == 5 and copy.identifiers:
            known = {each.identifier for each in found}
            assert known.issuperset(copy.identifiers), f"{copy} has identifiers of others: {known}"
            found = [each for each in found if each.identifier in copy.identifiers]
        elif copy.level == 5:
            found = [each for each in found if not each.identifier]
        origins = []
        own = [each for each in found if not each.is_shared]
        if copy.retain and own and len(copy.identifiers) <= 1:
            origins.append(RETAINED)
        live = [each for each in found if each.matches(message, self.client_id)]
        if any(not each.is_shared for each in live) and self._may_retain(copy, message, OWN):
            origins.append(OWN)
        if len(copy.identifiers) <= 1:  # [MQTT-3.3.4-4]
            for name in sorted({each.topic_filter for each in live if each.is_shared}):
                if self._may_retain(copy, message, name):
                    origins.append(name)
        return origins

    def _may_retain(self, copy: Copy, message: Sent, origin: str) -> bool:
        """Whether a copy that comes from there may have the flag RETAIN that it has: that of the
        message, for any subscription that wants it so.  [MQTT-3.3.1-12] [MQTT-3.3.1-13]"""
        if not copy.retain:
            return True
        return message.retain and any(
            each.retain_as_published
            for each in self.asked(message)
            if (each.topic_filter == origin if each.is_shared else origin == OWN)
        )

    def most_qos(self, message: Sent, origin: str) -> int:
        """The highest QoS at which a message may come from there."""
        found = [
            each.qos
            for each in self.asked(message)
            if (each.topic_filter == origin if each.is_shared else origin in (OWN, RETAINED))
        ]
        return min(message.qos, max(found))

    def count_fresh(self, number: int, origin: str = "") -> int:
        """Count a copy without DUP."""
        key = (number, origin)
        self.fresh[key] = self.fresh.get(key, 0) + 1
        return self.fresh[key]

    def count_got(self, number: int, origin: str) -> int:
        """Count a copy that is given to the application."""
        key = (number, origin)
        self.got[key] = self.got.get(key, 0) + 1
        return self.got[key]
