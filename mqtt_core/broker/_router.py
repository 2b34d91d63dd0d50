"""Which subscriptions a topic matches (4.7).

Filters without wildcards are found by their bytes, those with wildcards in a trie by level,
`+` and `#` apart from the literal levels. Each filter has one `Subscribers` object, and the
route of a topic is the short list of those that match it: it is shared by all messages of the
topic and stays right while subscriptions to known filters come and go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, final

from mqtt_core._particulars import Options
from mqtt_core._topics import (
    SHARE_PREFIX,
    Route,
    Topic,
    TopicCache,
    filter_matches,
    has_wildcard,
    shared_filter_fault,
)
from mqtt_core.broker._shared import Group, Member
from mqtt_core.broker._subscribers import Subscriber, Subscribers

if TYPE_CHECKING:
    from mqtt_core.broker._session import Session

_REMEMBERED_CHANGES: Final = 16

_SHARE_WORD: Final = b"$share"

_LONGEST_ROUTE: Final = 32  # filters; a longer one is found again, which costs less than it holds

SUBSCRIPTION_BYTES: Final = 400
"""What one subscription takes beside the bytes of its filter."""
LEVEL_BYTES: Final = 130
"""What one level of a filter with wildcards takes in the trie, if no other filter shares it."""
SHARE_BYTES: Final = 1_600
"""What a shared subscription takes besides, if it has a group of its own."""


def subscription_cost(topic_filter: bytes) -> int:
    """What a subscription counts in the total of all, an upper estimate of its memory."""
    cost = SUBSCRIPTION_BYTES + len(topic_filter)
    if has_wildcard(topic_filter):
        cost += LEVEL_BYTES * (topic_filter.count(b"/") + 1)
    if is_shared(topic_filter):
        cost += SHARE_BYTES
    return cost


def is_shared(topic_filter: bytes) -> bool:
    """Whether a filter is that of a shared subscription, `$share/group/filter` (4.8.2)."""
    return topic_filter.startswith(SHARE_PREFIX)


def is_malformed_share(topic_filter: bytes) -> bool:
    """Whether a filter is that of a shared subscription but for its form. In MQTT 5.0 the decoder
    has refused it, except for the bare word; in 3.1.1, where nothing is said of it, we do."""
    return topic_filter == _SHARE_WORD or shared_filter_fault(topic_filter) is not None


def unshared(topic_filter: bytes) -> bytes:
    """The filter that decides which topics match, without the group that shares them."""
    if not is_shared(topic_filter):
        return topic_filter
    at = topic_filter.find(b"/", len(SHARE_PREFIX))
    return topic_filter[at + 1 :]


@final
class Matches(Route):
    """The filters that match a topic, as of `version` of the wildcard filters."""

    __slots__ = ("found", "version")

    def __init__(self, found: list[Subscribers], version: int) -> None:
        self.found: Final = found
        self.version = version


@final
class _Node:
    """One level of the trie of wildcard filters. A single literal child needs no dict."""

    __slots__ = ("only_level", "only", "children", "plus", "ending", "hashed")

    def __init__(self) -> None:
        self.only_level: bytes = b""
        self.only: _Node | None = None
        self.children: dict[bytes, _Node] | None = None
        self.plus: _Node | None = None
        self.ending: Subscribers | None = None  # the filter that ends at this level
        self.hashed: Subscribers | None = None  # the filter that goes on with '#' alone

    def child(self, level: bytes) -> _Node | None:
        return self.plus if level == b"+" else self.literal(level)

    def literal(self, level: bytes) -> _Node | None:
        children = self.children
        if children is not None:
            return children.get(level)
        return self.only if self.only is not None and self.only_level == level else None

    def make_child(self, level: bytes) -> _Node:
        node = _Node()
        if level == b"+":
            self.plus = node
        elif self.children is not None:
            self.children[level] = node
        elif self.only is None:
            self.only_level = level
            self.only = node
        else:
            self.children = {self.only_level: self.only, level: node}
            self.only = None
            self.only_level = b""
        return node

    def drop_child(self, level: bytes) -> None:
        if level == b"+":
            self.plus = None
        elif self.children is not None:
            del self.children[level]
            if not self.children:
                self.children = None
        else:
            self.only = None
            self.only_level = b""

    @property
    def is_bare(self) -> bool:
        return (
            self.only is None
            and self.children is None
            and self.plus is None
            and self.ending is None
            and self.hashed is None
        )


@final
class Router:
    """All subscriptions of a broker."""

    __slots__ = (
        "count",
        "shared_count",
        "optioned",
        "size_bytes",
        "_exact",
        "_root",
        "_topics",
        "_version",
        "_changes",
        "_filters",
        "_cost",
    )

    def __init__(self, topics: TopicCache) -> None:
        self.count = 0
        self.shared_count = 0  # of which belong to a group
        self.optioned = 0  # of which have options, and belong to none
        self.size_bytes = 0  # what all subscriptions count together
        self._topics: Final = topics
        self._exact: Final[dict[bytes, Subscribers]] = {}
        self._root: Final = _Node()
        self._version = 0  # grows with each wildcard filter that nobody had before
        self._changes: Final[list[list[bytes]]] = []  # the newest wildcard filters, newest last
        self._filters = 0
        self._cost = 0

    def take_cost(self) -> int:
        """Nodes visited since the last call: what routing has cost."""
        cost = self._cost
        self._cost = 0
        return cost

    @property
    def filter_count(self) -> int:
        """Distinct filters."""
        return len(self._exact) + self._filters

    def subscribe(
        self, session: Session, topic_filter: bytes, qos: int, options: Options | None = None
    ) -> bool:
        """Add or replace a subscription; False when it replaced one.

        [v3 MQTT-3.8.4-3] [MQTT-3.8.4-3]
        """
        subscriber = session.subscriptions.get(topic_filter)
        if subscriber is None:
            if is_shared(topic_filter):
                member = self._join(session, topic_filter, qos, options)
                session.subscriptions[member.group.topic_filter] = member
            else:
                subscribers = self._find_or_make(topic_filter)
                subscriber = Subscriber(session, subscribers, qos, options)
                subscribers.add(subscriber)
                self._note_options(subscriber, 1)
                session.subscriptions[subscribers.topic_filter] = subscriber
            self.count += 1
            self.size_bytes += subscription_cost(topic_filter)
            return True
        if isinstance(subscriber, Member):
            subscriber.change(qos, options)
            return False
        self._note_options(subscriber, -1)
        subscriber.options = options
        self._note_options(subscriber, 1)
        if subscriber.qos != qos:
            subscribers = subscriber.subscribers
            subscribers.remove(subscriber)
            subscriber.qos = qos
            subscribers.add(subscriber)
        return False

    def _join(
        self, session: Session, topic_filter: bytes, qos: int, options: Options | None
    ) -> Member:
        """Make a session a member of a group."""
        subscribers = self._find_or_make(unshared(topic_filter))
        groups = subscribers.groups
        group = None if groups is None else groups.get(topic_filter)
        if group is None:
            group = Group(topic_filter)
            subscribers.add_group(group)
        member = Member(session, subscribers, group, qos, options)
        group.join(member)
        session.is_sharing = True
        self.shared_count += 1
        return member

    def unsubscribe(self, session: Session, topic_filter: bytes) -> bool:
        """Remove a subscription by its exact filter; False for none.  [v3 MQTT-3.10.4-1]"""
        subscriber = session.subscriptions.pop(topic_filter, None)
        if subscriber is None:
            return False
        subscribers = subscriber.subscribers
        if isinstance(subscriber, Member):
            group = subscriber.group
            group.leave(subscriber)
            self.shared_count -= 1
            if not group.count:
                subscribers.remove_group(group)
        else:
            self._note_options(subscriber, -1)
            subscribers.remove(subscriber)
        self.count -= 1
        self.size_bytes -= subscription_cost(topic_filter)
        if not subscribers.count:
            self._forget(subscribers.topic_filter)
        return True

    def _note_options(self, subscriber: Subscriber, change: int) -> None:
        """Count a session's own subscriptions that have options; those of groups are apart."""
        if subscriber.options is not None:
            subscriber.session.optioned += change
            self.optioned += change

    def group(self, topic_filter: bytes) -> Group | None:
        """The group of a whole shared filter, if it has any member."""
        subscribers = self._find(unshared(topic_filter))
        groups = None if subscribers is None else subscribers.groups
        return None if groups is None else groups.get(topic_filter)

    def _find(self, topic_filter: bytes) -> Subscribers | None:
        if not has_wildcard(topic_filter):
            return self._exact.get(topic_filter)
        levels = topic_filter.split(b"/")
        is_hashed = levels[-1] == b"#"
        node: _Node | None = self._root
        for level in levels[:-1] if is_hashed else levels:
            node = None if node is None else node.child(level)
        if node is None:
            return None
        return node.hashed if is_hashed else node.ending

    def _find_or_make(self, topic_filter: bytes) -> Subscribers:
        if not has_wildcard(topic_filter):
            subscribers = self._exact.get(topic_filter)
            if subscribers is None:
                subscribers = Subscribers(topic_filter)
                self._exact[topic_filter] = subscribers
                self._forget_route(topic_filter)
            return subscribers
        levels = topic_filter.split(b"/")
        node = self._root
        is_hashed = levels[-1] == b"#"
        for level in levels[:-1] if is_hashed else levels:
            child = node.child(level)
            node = node.make_child(level) if child is None else child
        found = node.hashed if is_hashed else node.ending
        if found is not None:
            return found
        subscribers = Subscribers(topic_filter)
        if is_hashed:
            node.hashed = subscribers
        else:
            node.ending = subscribers
        self._filters += 1
        self._version += 1
        self._changes.append(levels)
        if len(self._changes) > _REMEMBERED_CHANGES:
            del self._changes[0]
        return subscribers

    def _forget(self, topic_filter: bytes) -> None:
        """Drop a filter that nobody has any more, and the trie's levels for it alone."""
        if not has_wildcard(topic_filter):
            del self._exact[topic_filter]
            self._forget_route(topic_filter)
            return
        levels = topic_filter.split(b"/")
        is_hashed = levels[-1] == b"#"
        if is_hashed:
            levels.pop()
        path = [self._root]
        for level in levels:
            child = path[-1].child(level)
            assert child is not None
            path.append(child)
        if is_hashed:
            path[-1].hashed = None
        else:
            path[-1].ending = None
        self._filters -= 1
        while levels and path[-1].is_bare:
            path.pop()
            path[-1].drop_child(levels.pop())

    def _forget_route(self, topic_filter: bytes) -> None:
        topic = self._topics.peek(topic_filter)
        if topic is not None:
            topic.route = None

    def route(self, topic: Topic) -> Matches:
        """The filters that match a topic."""
        known = topic.route
        if known is not None:
            matches = cast(Matches, known)
            if matches.version == self._version or self._is_untouched(topic, matches):
                return matches
        matches = Matches(self.match(topic), self._version)
        if topic.is_cached and len(matches.found) <= _LONGEST_ROUTE:
            topic.route = matches
        return matches

    def _is_untouched(self, topic: Topic, matches: Matches) -> bool:
        """Whether none of the filters that are new since the route was made matches it."""
        missed = self._version - matches.version
        if missed > len(self._changes):
            return False
        levels = topic.levels()
        for at in range(len(self._changes) - missed, len(self._changes)):
            if filter_matches(self._changes[at], levels):
                return False
        matches.version = self._version
        return True

    def match(self, topic: Topic) -> list[Subscribers]:
        """Walk the trie for a topic."""
        found: list[Subscribers] = []
        exact = self._exact.get(topic.utf8)
        if exact is not None:
            found.append(exact)
        levels = topic.levels()
        last = len(levels)
        root = self._root
        if topic.utf8[0] == 0x24:  # '$': no wildcard at the first level  [v3 MQTT-4.7.2-1]
            node = root.literal(levels[0])
            if node is None:
                return found
            nodes = [node]
            depths = [1]
        else:
            nodes = [root]
            depths = [0]
        while nodes:
            node = nodes.pop()
            depth = depths.pop()
            self._cost += 1
            if node.hashed is not None:
                found.append(node.hashed)
            if depth == last:
                if node.ending is not None:
                    found.append(node.ending)
                continue
            child = node.literal(levels[depth])
            if child is not None:
                nodes.append(child)
                depths.append(depth + 1)
            if node.plus is not None:
                nodes.append(node.plus)
                depths.append(depth + 1)
        return found
