"""Topic aliases towards one client (3.3.2.3.4): a number in place of a topic it has seen.

An alias costs three bytes when it is set and saves the topic from then on, so a topic gets one
when it comes for the second time. The table and the memory of topics seen once are as long as
the client allows, within the limit; when the table is full, its aliases are given away in turn.
"""

from __future__ import annotations

from typing import Final, final

SHORTEST_TOPIC_BYTES: Final = 4
"""A shorter topic is no longer than its alias."""


@final
class OutboundAliases:
    """The aliases in use towards one client; `most` is the greatest."""

    __slots__ = ("most", "_aliases", "_topics", "_seen_once", "_next")

    def __init__(self, most: int) -> None:
        self.most: Final = most
        self._aliases: Final[dict[bytes, int]] = {}
        self._topics: Final[list[bytes]] = [b""]  # by alias; 0 is none
        self._seen_once: Final[dict[bytes, None]] = {}
        self._next = 1

    def known(self, topic: bytes) -> int:
        """The alias that the client knows for a topic, 0 for none."""
        return self._aliases.get(topic, 0)

    def assign(self, topic: bytes) -> int:
        """The alias to set with this PUBLISH, 0 for none yet."""
        if len(topic) < SHORTEST_TOPIC_BYTES:
            return 0
        seen_once = self._seen_once
        if topic not in seen_once:
            if len(seen_once) >= self.most:
                del seen_once[next(iter(seen_once))]
            seen_once[topic] = None
            return 0
        del seen_once[topic]
        topics = self._topics
        alias = self._next  # 1 to most  [MQTT-3.3.2-8] [MQTT-3.1.2-26]
        if alias == len(topics):
            topics.append(topic)
        else:
            del self._aliases[topics[alias]]
            topics[alias] = topic
        self._aliases[topic] = alias
        self._next = 1 if alias == self.most else alias + 1
        return alias
