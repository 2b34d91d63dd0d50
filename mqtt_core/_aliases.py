"""Topic aliases of one connection (3.3.2.3.4 of MQTT 5.0); they end with it.  [MQTT-3.3.2-7]"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import PROTOCOL_ERROR, QUOTA_EXCEEDED, TOPIC_ALIAS_INVALID
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._topics import Topic, TopicCache


@final
class InboundAliases:
    """The aliases that the peer has set: at most `maximum`, with `limit_bytes` of topic names."""

    __slots__ = ("maximum", "limit_bytes", "size_bytes", "_topics")

    def __init__(self, maximum: int, limit_bytes: int) -> None:
        self.maximum: Final = maximum
        self.limit_bytes: Final = limit_bytes
        self.size_bytes = 0
        self._topics: dict[int, Topic] | None = None

    def _check(self, alias: int, at: int, is_from_client: bool) -> None:
        if alias <= self.maximum:  # [MQTT-3.3.2-10] [MQTT-3.3.2-12]
            return
        if self.maximum:
            statement = "MQTT-3.2.2-17" if is_from_client else "MQTT-3.1.2-26"
        else:
            statement = "MQTT-3.2.2-18" if is_from_client else "MQTT-3.1.2-27"
        raise RemoteProtocolError(
            f"topic alias {alias} is above {self.maximum}", statement, at, TOPIC_ALIAS_INVALID
        )

    def set(self, alias: int, topic: Topic, at: int, is_from_client: bool) -> None:
        """The peer has sent `topic` with an alias for it."""
        self._check(alias, at, is_from_client)
        topics = self._topics
        if topics is None:
            topics = {}
            self._topics = topics
        former = topics.get(alias)
        size = self.size_bytes + len(topic.utf8)
        if former is not None:
            size -= len(former.utf8)
        if size > self.limit_bytes:
            raise RemoteProtocolError(
                f"topic names with aliases are over {self.limit_bytes} bytes together",
                "",
                at,
                QUOTA_EXCEEDED,
            )
        self.size_bytes = size
        topics[alias] = topic

    def topic(self, alias: int, at: int, is_from_client: bool, cache: TopicCache) -> Topic:
        """The topic that the peer means by an alias alone."""
        self._check(alias, at, is_from_client)
        topics = self._topics
        topic = None if topics is None else topics.get(alias)
        if topics is None or topic is None:
            raise RemoteProtocolError(
                f"topic alias {alias} has not been set", "P5-3.3.4-4", at, PROTOCOL_ERROR
            )
        if topic.is_cached:
            topic.is_warm = True
            return topic
        # The cache has dropped the topic meanwhile, and with it what a broker had hung on it.
        again = cache.find(topic.utf8)
        if again is None:
            again = cache.add(topic.utf8)
        topics[alias] = again
        return again
