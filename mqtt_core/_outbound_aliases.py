"""Topic aliases towards one peer (3.3.2.3.4): a number in place of a topic it has seen.

An alias costs three bytes when it is set and saves the topic from then on, so a topic gets one
when it comes for the second time. The table, and the memory of topics seen once beside it, are as
long as the peer allows, within the limit, and hold a limited number of bytes each; when the
table is full, its aliases are given away in turn.
"""

from __future__ import annotations

from typing import Final, final

SHORTEST_TOPIC_BYTES: Final = 4
"""A shorter topic is no longer than its alias."""


@final
class OutboundAliases:
    """The aliases in use towards one peer; `most` is the greatest. Their topics have at most
    `limit_bytes` together, and so have those seen once."""

    __slots__ = (
        "most",
        "_limit_bytes",
        "_aliases",
        "_topics",
        "_topic_bytes",
        "_seen_once",
        "_seen_bytes",
        "_next",
    )

    def __init__(self, most: int, limit_bytes: int) -> None:
        self.most: Final = most
        self._limit_bytes: Final = limit_bytes
        self._aliases: Final[dict[bytes, int]] = {}
        self._topics: Final[list[bytes]] = [b""]  # by alias, empty for one that has none
        self._topic_bytes = 0
        self._seen_once: Final[dict[bytes, None]] = {}
        self._seen_bytes = 0
        self._next = 1

    def known(self, topic: bytes) -> int:
        """The alias that the peer knows for a topic, 0 for none."""
        return self._aliases.get(topic, 0)

    def assign(self, topic: bytes) -> int:
        """The alias to set with this PUBLISH, 0 for none yet."""
        if not SHORTEST_TOPIC_BYTES <= len(topic) <= self._limit_bytes:
            return 0
        if topic not in self._seen_once:
            self._remember(topic)
            return 0
        del self._seen_once[topic]
        self._seen_bytes -= len(topic)
        topics = self._topics
        alias = self._next  # 1 to most  [MQTT-3.3.2-8] [MQTT-3.1.2-26]
        if alias == len(topics):
            topics.append(b"")
        else:
            self._take_away(alias)
        self._make_room(alias, len(topic))
        topics[alias] = topic
        self._topic_bytes += len(topic)
        self._aliases[topic] = alias
        self._next = 1 if alias == self.most else alias + 1
        return alias

    def _remember(self, topic: bytes) -> None:
        seen_once = self._seen_once
        self._seen_bytes += len(topic)
        seen_once[topic] = None
        while len(seen_once) > self.most or self._seen_bytes > self._limit_bytes:
            oldest = next(iter(seen_once))
            del seen_once[oldest]
            self._seen_bytes -= len(oldest)

    def _make_room(self, alias: int, size: int) -> None:
        """Take away the aliases that would be given away next, until there is room."""
        while self._topic_bytes + size > self._limit_bytes:
            alias = alias + 1 if alias + 1 < len(self._topics) else 1
            self._take_away(alias)

    def _take_away(self, alias: int) -> None:
        topic = self._topics[alias]
        if topic:
            del self._aliases[topic]
            self._topics[alias] = b""
            self._topic_bytes -= len(topic)
