"""Who has subscribed to one filter, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from mqtt_core._particulars import Options

if TYPE_CHECKING:
    from mqtt_core.broker._session import Session
    from mqtt_core.broker._shared import Group


class Subscriber:
    """One subscription: a session's interest in one filter, at the QoS granted. Those that share
    it with others are a `Member` of a group."""

    __slots__ = ("session", "subscribers", "qos", "options", "index")

    def __init__(
        self,
        session: Session,
        subscribers: Subscribers,
        qos: int,
        options: Options | None = None,
    ) -> None:
        self.session: Final = session
        self.subscribers: Final = subscribers
        self.qos = qos
        self.options = options
        self.index = -1  # within the list of its QoS; -1 when it is in none


@final
class Subscribers:
    """All subscriptions to one filter, by granted QoS, and the groups that share it.

    `count` is how many deliveries a message leads to: one to each subscription, and one to each
    group. A list that a fan-out is working through is shared with it: it is replaced by a copy
    before it changes.
    """

    __slots__ = ("topic_filter", "at_qos_0", "at_qos_1", "at_qos_2", "groups", "count", "_shared")

    def __init__(self, topic_filter: bytes) -> None:
        self.topic_filter: Final = topic_filter
        self.at_qos_0: list[Subscriber] | None = None
        self.at_qos_1: list[Subscriber] | None = None
        self.at_qos_2: list[Subscriber] | None = None
        self.groups: dict[bytes, Group] | None = None  # by their whole filters
        self.count = 0
        self._shared = 0  # a bit for each QoS whose list is shared

    def share(self) -> None:
        """Leave the present lists as they are; the caller keeps them."""
        self._shared = 7

    def at_qos(self, qos: int) -> list[Subscriber] | None:
        """The subscriptions granted `qos`."""
        if qos == 0:
            return self.at_qos_0
        return self.at_qos_1 if qos == 1 else self.at_qos_2

    def _set(self, qos: int, subscribers: list[Subscriber] | None) -> None:
        if qos == 0:
            self.at_qos_0 = subscribers
        elif qos == 1:
            self.at_qos_1 = subscribers
        else:
            self.at_qos_2 = subscribers

    def _own(self, qos: int, found: list[Subscriber]) -> list[Subscriber]:
        if self._shared >> qos & 1:
            found = found.copy()
            self._set(qos, found)
            self._shared &= ~(1 << qos)
        return found

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscription."""
        found = self.at_qos(subscriber.qos)
        if found is None:
            found = []
            self._set(subscriber.qos, found)
        else:
            found = self._own(subscriber.qos, found)
        subscriber.index = len(found)
        found.append(subscriber)
        self.count += 1

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscription; the last of the list takes its place."""
        found = self.at_qos(subscriber.qos)
        assert found is not None
        found = self._own(subscriber.qos, found)
        last = found.pop()
        if last is not subscriber:
            found[subscriber.index] = last
            last.index = subscriber.index
        subscriber.index = -1
        if not found:
            self._set(subscriber.qos, None)
        self.count -= 1

    def add_group(self, group: Group) -> None:
        """Add a group that shares this filter."""
        groups = self.groups
        if groups is None:
            groups = {}
            self.groups = groups
        groups[group.topic_filter] = group
        self.count += 1

    def remove_group(self, group: Group) -> None:
        """Remove a group that has no member left."""
        groups = self.groups
        assert groups is not None
        del groups[group.topic_filter]
        if not groups:
            self.groups = None
        self.count -= 1
