"""Retained messages: the last one of each topic, found by topic filter (3.3.1.3).

A trie by level, walked with the filter, so that a subscription never looks at topics it
cannot match. A walk stops at a limit and goes on from where it was; what has changed
meanwhile may or may not be found, as with any publisher's timing.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._message import Message

LEVEL_BYTES: Final = 300
"""What one level of a retained topic takes in the trie, if no other topic shares it."""


def _cost(message: Message) -> int:
    return message.size_bytes + LEVEL_BYTES * (message.topic.utf8.count(b"/") + 1)


@final
class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node] | None = None
        self.message: Message | None = None

    @property
    def is_bare(self) -> bool:
        return self.message is None and not self.children


@final
class Position:
    """Where a walk has got to: nodes still to visit, each with how many levels of the filter
    have matched; beyond the last level everything below matches."""

    __slots__ = ("levels", "nodes", "depths")

    def __init__(self, topic_filter: bytes, root: _Node) -> None:
        self.levels: Final = topic_filter.split(b"/")
        self.nodes: Final[list[_Node]] = [root]
        self.depths: Final[list[int]] = [0]

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left to visit."""
        return not self.nodes


@final
class RetainedMessages:
    """Retained messages by topic, bounded in number and bytes."""

    __slots__ = ("limit", "limit_bytes", "count", "size_bytes", "_root")

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.limit: Final = limit
        self.limit_bytes: Final = limit_bytes
        self.count = 0
        self.size_bytes = 0
        self._root: Final = _Node()

    def get(self, topic: bytes) -> Message | None:
        """The retained message of a topic."""
        node: _Node | None = self._root
        for level in topic.split(b"/"):
            if node is None or node.children is None:
                return None
            node = node.children.get(level)
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
            children = node.children
            if children is None:
                children = {}
                node.children = children
            child = children.get(level)
            if child is None:
                child = _Node()
                children[level] = child
            node = child
        known = node.message
        if known is None:
            self.count += 1
        else:
            self.size_bytes -= _cost(known)
        node.message = message
        self.size_bytes += _cost(message)

    def delete(self, topic: bytes) -> bool:
        """Forget the message of a topic; False where there was none.  [v3 MQTT-3.3.1-10]"""
        levels = topic.split(b"/")
        path = [self._root]
        for level in levels:
            children = path[-1].children
            child = None if children is None else children.get(level)
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
        while levels and path[-1].is_bare:
            path.pop()
            children = path[-1].children
            assert children is not None
            del children[levels.pop()]
        return True

    def start(self, topic_filter: bytes) -> Position:
        """The beginning of a walk."""
        return Position(topic_filter, self._root)

    def collect(self, position: Position, limit: int, limit_bytes: int) -> list[Message]:
        """The next messages of a walk: at most `limit`, and not many more bytes than
        `limit_bytes`, but one at least if there is any. Fewer than `limit` does not mean the
        end: a walk also stops after visiting many nodes."""
        found: list[Message] = []
        size = 0
        visits = 32 * limit + 1_000
        levels = position.levels
        last = len(levels)
        nodes = position.nodes
        depths = position.depths
        while nodes and visits > 0:
            if len(found) >= limit or (found and size >= limit_bytes):
                break
            visits -= 1
            node = nodes.pop()
            depth = depths.pop()
            message = node.message
            children = node.children
            if depth >= last:
                if message is not None:
                    found.append(message)
                    size += message.size_bytes
                if depth > last and children is not None:  # below '#'
                    for child in children.values():
                        nodes.append(child)
                        depths.append(depth)
                continue
            level = levels[depth]
            if level == b"#":
                if message is not None:  # the parent level matches too (4.7.1.2)
                    found.append(message)
                    size += message.size_bytes
                if children is not None:
                    for name, child in children.items():
                        if depth or not name.startswith(b"$"):  # [v3 MQTT-4.7.2-1]
                            nodes.append(child)
                            depths.append(last + 1)
            elif children is not None:
                if level == b"+":
                    for name, child in children.items():
                        if depth or not name.startswith(b"$"):  # [v3 MQTT-4.7.2-1]
                            nodes.append(child)
                            depths.append(depth + 1)
                else:
                    next_node = children.get(level)
                    if next_node is not None:
                        nodes.append(next_node)
                        depths.append(depth + 1)
        return found
