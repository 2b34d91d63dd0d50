"""Retained messages: the last one of each topic, found by topic filter (3.3.1.3).

A trie by level, walked with the filter, so that a subscription never looks at topics it
cannot match. A walk stops at a limit and goes on from where it was; what has changed
meanwhile may or may not be found, as with any publisher's timing.
"""

from __future__ import annotations

import heapq
from typing import Final, final

from mqtt_core._message import Message
from mqtt_core._store import MatchRetained, RetainedPage

_REPLACED_KEPT: Final = 1_000

LEVEL_BYTES: Final = 420
"""What one level of a retained topic takes in the trie, if no other topic shares it."""


_MOST_GAPS: Final = 8  # in a short list of children


def _cost(message: Message) -> int:
    return message.size_bytes + LEVEL_BYTES * (message.topic.utf8.count(b"/") + 1)


@final
class _Node:
    """One level. Children stand in a list too, so that a walk can go on by index.

    No child ever changes its place in that list, or a walk could meet it twice: one that goes
    leaves a gap, and when there are many gaps a new list is made. A walk stays with the old one.
    """

    __slots__ = ("level", "children", "ordered", "index", "message")

    def __init__(self, level: bytes, index: int) -> None:
        self.level: Final = level
        self.index = index  # within the parent's list
        self.children: dict[bytes, _Node] | None = None
        self.ordered: list[_Node | None] | None = None
        self.message: Message | None = None

    @property
    def is_bare(self) -> bool:
        return self.message is None and not self.children

    def child(self, level: bytes) -> _Node | None:
        children = self.children
        return None if children is None else children.get(level)

    def make_child(self, level: bytes) -> _Node:
        if self.children is None or self.ordered is None:
            self.children = {}
            self.ordered = []
        node = _Node(level, len(self.ordered))
        self.children[level] = node
        self.ordered.append(node)
        return node

    def drop_child(self, child: _Node) -> None:
        """Leave a gap in its place."""
        assert self.children is not None
        assert self.ordered is not None
        del self.children[child.level]
        if not self.children:
            self.children = None
            self.ordered = None
            return
        self.ordered[child.index] = None
        if len(self.ordered) > 2 * len(self.children) + _MOST_GAPS:
            left: list[_Node | None] = []
            for node in self.ordered:
                if node is not None:
                    node.index = len(left)
                    left.append(node)
            self.ordered = left


@final
class Position:
    """Where a walk has got to: on each level the node, its children, and the next to visit."""

    __slots__ = ("levels", "root", "is_begun", "nodes", "lists", "nexts")

    def __init__(self, topic_filter: bytes, root: _Node) -> None:
        self.levels: Final = topic_filter.split(b"/")
        self.root: Final = root
        self.is_begun = False
        self.nodes: Final[list[_Node]] = []
        self.lists: Final[list[list[_Node | None]]] = []
        self.nexts: Final[list[int]] = []

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left to visit."""
        return self.is_begun and not self.nodes

    def enter(self, node: _Node) -> Message | None:
        """Visit a node: its message if the filter matches it, and its children later."""
        depth = len(self.nodes)
        last = len(self.levels)
        is_hashed = self.levels[-1] == b"#"
        if node.ordered is not None and (is_hashed or depth < last):
            self.nodes.append(node)
            self.lists.append(node.ordered)
            self.nexts.append(len(node.ordered) - 1)
        # '#' matches its parent level too (4.7.1.2).
        is_match = depth >= last - 1 if is_hashed else depth == last
        return node.message if is_match else None

    def next_node(self) -> _Node | None:
        """The next node to visit, or None where there is none."""
        depth = len(self.nodes) - 1
        at = self.nexts[-1]
        if at < 0:
            self.nodes.pop()
            self.lists.pop()
            self.nexts.pop()
            return None
        level = self.levels[depth] if depth < len(self.levels) else b"#"
        if level in (b"#", b"+"):
            self.nexts[-1] = at - 1
            child = self.lists[-1][at]
            if child is not None and depth == 0 and child.level.startswith(b"$"):
                return None  # [v3 MQTT-4.7.2-1]
            return child
        self.nexts[-1] = -1
        return self.nodes[-1].child(level)


@final
class RetainedMessages:
    """Retained messages by topic, bounded in number and bytes."""

    __slots__ = ("limit", "limit_bytes", "count", "size_bytes", "_root", "_expiring", "_order")

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.limit: Final = limit
        self.limit_bytes: Final = limit_bytes
        self.count = 0
        self.size_bytes = 0
        self._root: Final = _Node(b"", 0)
        # When messages expire, the earliest first, with a number that orders those of one time.
        self._expiring: Final[list[tuple[float, int, Message]]] = []
        self._order = 0

    def get(self, topic: bytes) -> Message | None:
        """The retained message of a topic."""
        node: _Node | None = self._root
        for level in topic.split(b"/"):
            if node is None:
                return None
            node = node.child(level)
        return None if node is None else node.message

    def has_room(self, message: Message) -> bool:
        """Whether the message can be kept; one that replaces another counts the difference."""
        known = self.get(message.topic.utf8)
        count = self.count if known is not None else self.count + 1
        size = self.size_bytes + _cost(message)
        if known is not None:
            size -= _cost(known)
        return count <= self.limit and size <= self.limit_bytes

    def put(self, message: Message) -> None:
        """Keep a message in place of the one its topic had.  [v3 MQTT-3.3.1-5]"""
        node = self._root
        for level in message.topic.levels():
            child = node.child(level)
            node = node.make_child(level) if child is None else child
        known = node.message
        if known is None:
            self.count += 1
        else:
            self.size_bytes -= _cost(known)
        node.message = message
        self.size_bytes += _cost(message)
        if message.expires_at:
            self._order += 1
            expiring = self._expiring
            heapq.heappush(expiring, (message.expires_at, self._order, message))
            if len(expiring) > 2 * self.count + _REPLACED_KEPT:
                self._forget_replaced()

    def _forget_replaced(self) -> None:
        """Messages that others have replaced before their time."""
        left = [entry for entry in self._expiring if self.get(entry[2].topic.utf8) is entry[2]]
        self._expiring[:] = left
        heapq.heapify(self._expiring)

    def drop_expired(self, now: float) -> None:
        """Forget the messages that have expired.  [MQTT-3.3.2-5]"""
        expiring = self._expiring
        while expiring and expiring[0][0] <= now:
            message = heapq.heappop(expiring)[2]
            if self.get(message.topic.utf8) is message:
                self.delete(message.topic.utf8)

    def delete(self, topic: bytes) -> bool:
        """Forget the message of a topic; False where there was none.  [v3 MQTT-3.3.1-10]"""
        path = [self._root]
        for level in topic.split(b"/"):
            child = path[-1].child(level)
            if child is None:
                return False
            path.append(child)
        node = path[-1]
        message = node.message
        if message is None:
            return False
        self.count -= 1
        self.size_bytes -= _cost(message)
        node.message = None
        while len(path) > 1 and path[-1].is_bare:
            bare = path.pop()
            path[-1].drop_child(bare)
        return True

    def start(self, topic_filter: bytes) -> Position:
        """The beginning of a walk."""
        return Position(topic_filter, self._root)

    def match(self, request: MatchRetained) -> RetainedPage:
        """The answer to a request for an engine that has its retained messages here."""
        position = request.position
        if not isinstance(position, Position):
            position = self.start(request.topic_filter)
        messages = self.collect(position, request.limit, request.limit_bytes)
        return RetainedPage(request.request_id, messages, None if position.is_at_end else position)

    def collect(self, position: Position, limit: int, limit_bytes: int) -> list[Message]:
        """The next messages of a walk: at most `limit`, and not many more bytes than
        `limit_bytes`, but one at least if there is any. Fewer than `limit` does not mean the
        end: a walk also stops after visiting many nodes."""
        found: list[Message] = []
        size = 0
        visits = 32 * limit + 1_000
        if not position.is_begun:
            position.is_begun = True
            message = position.enter(position.root)
            assert message is None  # no topic name is empty  [v3 MQTT-4.7.3-1]
        while position.nodes and visits > 0:
            if len(found) >= limit or (found and size >= limit_bytes):
                break
            visits -= 1
            node = position.next_node()
            if node is None:
                continue
            message = position.enter(node)
            if message is not None:
                found.append(message)
                size += message.size_bytes
        return found
