"""Topic names and topic filters (4.7): what they may be, and which matches which.

A `Topic` is a topic name that has been found valid once. Topics are interned in a bounded
`TopicCache`, so that a name is validated once and not with every message, and so that the
broker can hang what it knows of a topic on it.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import LARGEST_STRING_BYTES

_PLUS: Final = 0x2B
_HASH: Final = 0x23

SHARE_PREFIX: Final = b"$share/"
"""How the topic filter of a shared subscription begins; its share name and filter follow."""

TOPIC_OVERHEAD_BYTES: Final = 560
"""What one cached topic takes beside the bytes of its name: objects, table entry, short route."""


def decode_utf8(data: bytes) -> str | None:
    """The text of a string field, or None where it is not one (1.5.3).

    Python's decoder refuses surrogates and overlong forms and keeps U+FEFF.
    """
    if 0 in data:  # [v3 MQTT-1.5.3-2] [MQTT-1.5.4-2]
        return None
    try:
        # [v3 MQTT-1.5.3-1] [v3 MQTT-1.5.3-3] [MQTT-1.5.4-1] [MQTT-1.5.4-3]
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def topic_name_fault(data: bytes) -> tuple[str, str] | None:
    """What is wrong with a topic name (message, statement), or None for a valid one."""
    if not data:
        return "topic name is empty", "MQTT-4.7.3-1"
    if _HASH in data or _PLUS in data:
        return "topic name has a wildcard", "MQTT-3.3.2-2"
    if 0 in data:
        return "topic name has U+0000", "MQTT-4.7.3-2"
    if len(data) > LARGEST_STRING_BYTES:
        return "topic name is longer than 65,535 bytes", "MQTT-4.7.3-3"
    if decode_utf8(data) is None:
        return "topic name is not UTF-8", "MQTT-1.5.3-1"
    return None


def topic_filter_fault(data: bytes) -> tuple[str, str] | None:
    """What is wrong with a topic filter (message, statement), or None for a valid one."""
    if not data:
        return "topic filter is empty", "MQTT-4.7.3-1"
    if 0 in data:
        return "topic filter has U+0000", "MQTT-4.7.3-2"
    if len(data) > LARGEST_STRING_BYTES:
        return "topic filter is longer than 65,535 bytes", "MQTT-4.7.3-3"
    if decode_utf8(data) is None:
        return "topic filter is not UTF-8", "MQTT-3.8.3-1"
    if _HASH in data or _PLUS in data:
        levels = data.split(b"/")
        last = len(levels) - 1
        for index, level in enumerate(levels):
            if _HASH in level and (len(level) > 1 or index != last):
                return "'#' must be a whole level, and the last", "MQTT-4.7.1-2"
            if _PLUS in level and len(level) > 1:
                return "'+' must be a whole level", "MQTT-4.7.1-3"
    return None


def shared_filter_fault(data: bytes) -> tuple[str, str] | None:
    """What is wrong with a valid topic filter as a shared one (4.8.2 of MQTT 5.0), or None.

    One that does not begin with $share/ is not shared, and nothing is wrong with it.
    """
    if not data.startswith(SHARE_PREFIX):
        return None
    group, slash, topic_filter = data[len(SHARE_PREFIX) :].partition(b"/")
    if not group:
        return "shared subscription has no share name", "MQTT-4.8.2-1"
    if _HASH in group or _PLUS in group:
        return "share name has a wildcard", "MQTT-4.8.2-2"
    if not slash or not topic_filter:
        return "shared subscription has no topic filter", "MQTT-4.8.2-2"
    return None


def has_wildcard(data: bytes) -> bool:
    """Whether a valid topic filter has a wildcard."""
    return _HASH in data or _PLUS in data


def filter_matches(levels: list[bytes], topic: list[bytes]) -> bool:
    """Whether a filter, split into levels, matches a topic name, split into levels (4.7)."""
    first = levels[0]
    if (first == b"#" or first == b"+") and topic[0].startswith(b"$"):
        return False  # [v3 MQTT-4.7.2-1] [MQTT-4.7.2-1]
    count = len(topic)
    for index, level in enumerate(levels):
        if level == b"#":
            return True  # the parent level too: 'a/#' matches 'a' (4.7.1.2)
        if index >= count:
            return False
        if level != b"+" and level != topic[index]:
            return False  # bytes, never normalised  [v3 MQTT-4.7.3-4] [MQTT-4.7.3-4]
    return len(levels) == count


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether `topic_filter` matches the topic name `topic` (4.7). Both must be valid."""
    return filter_matches(topic_filter.encode().split(b"/"), topic.encode().split(b"/"))


class Route:
    """What a broker hangs on a topic: whom its messages go to."""


@final
class Topic:
    """A valid topic name, interned: `utf8` as on the wire, `name` as text."""

    __slots__ = ("utf8", "route", "is_cached", "is_warm")

    def __init__(self, utf8: bytes) -> None:
        self.utf8: Final = utf8
        self.route: Route | None = None  # only ever set on a cached topic
        self.is_cached = False
        self.is_warm = False  # asked for since the cache last looked

    @property
    def name(self) -> str:
        """The topic name as text."""
        return self.utf8.decode("utf-8")

    def levels(self) -> list[bytes]:
        """The topic name split at each slash; a level may be empty (4.7.1.1)."""
        return self.utf8.split(b"/")

    def __repr__(self) -> str:
        return f"Topic({self.utf8!r})"


@final
class TopicCache:
    """Valid topic names seen lately, bounded in bytes.

    Once the cache is full, new names wait in a small probation queue and only those seen again
    there are kept: a flood of names that are used once cannot push out those in use. Kept
    names leave second chance first: one asked for since the last look stays.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes: Final = limit_bytes
        self._probation_limit_bytes: Final = limit_bytes // 8
        self.kept: Final[dict[bytes, Topic]] = {}
        self._probation: Final[dict[bytes, Topic]] = {}
        self._kept_queue: list[Topic] = []
        self._kept_at = 0
        self._probation_queue: list[Topic] = []
        self._probation_at = 0
        self._kept_bytes = 0
        self._probation_bytes = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self.kept) + len(self._probation)

    @property
    def size_bytes(self) -> int:
        """What the cached topics take, by the estimate that the limit is counted in."""
        return self._kept_bytes + self._probation_bytes

    def find(self, utf8: bytes) -> Topic | None:
        """The cached topic of that name."""
        topic = self.kept.get(utf8)
        if topic is not None:
            topic.is_warm = True
            return topic
        topic = self._probation.get(utf8)
        if topic is not None:
            self._keep(topic)
        return topic

    def peek(self, utf8: bytes) -> Topic | None:
        """The cached topic of that name, without counting as a use of it."""
        topic = self.kept.get(utf8)
        return topic if topic is not None else self._probation.get(utf8)

    def add(self, utf8: bytes) -> Topic:
        """Intern a topic name that has been found valid and is not in the cache."""
        topic = Topic(utf8)
        size = len(utf8) + TOPIC_OVERHEAD_BYTES
        if size > self._probation_limit_bytes:
            return topic  # used by its message, kept by nobody
        topic.is_cached = True
        if self._kept_bytes + size <= self._limit_bytes - self._probation_limit_bytes:
            self._kept_bytes += size
            self.kept[utf8] = topic
            self._kept_queue.append(topic)
            return topic
        while self._probation_bytes + size > self._probation_limit_bytes:
            self._drop_from_probation()
        self._probation[utf8] = topic
        self._probation_queue.append(topic)
        self._probation_bytes += size
        return topic

    def _drop_from_probation(self) -> None:
        topic = self._probation_queue[self._probation_at]
        self._probation_at += 1
        if self._probation_at > 64 and self._probation_at * 2 > len(self._probation_queue):
            del self._probation_queue[: self._probation_at]
            self._probation_at = 0
        if self._probation.get(topic.utf8) is topic:  # else it has been kept meanwhile
            del self._probation[topic.utf8]
            self._probation_bytes -= len(topic.utf8) + TOPIC_OVERHEAD_BYTES
            self._forget(topic)

    def _tidy_probation(self) -> None:
        """Drop from the queue what has been kept meanwhile."""
        self._probation_queue = list(self._probation.values())
        self._probation_at = 0

    def _forget(self, topic: Topic) -> None:
        topic.is_cached = False
        topic.route = None
        self.evicted += 1

    def _keep(self, topic: Topic) -> None:
        size = len(topic.utf8) + TOPIC_OVERHEAD_BYTES
        del self._probation[topic.utf8]
        if len(self._probation_queue) > 64 + 2 * len(self._probation):
            self._tidy_probation()
        self._probation_bytes -= size
        self._kept_bytes += size
        self.kept[topic.utf8] = topic
        self._kept_queue.append(topic)
        while self._kept_bytes > self._limit_bytes - self._probation_limit_bytes:
            self._drop_from_kept()

    def _drop_from_kept(self) -> None:
        topic = self._kept_queue[self._kept_at]
        self._kept_at += 1
        if self._kept_at > 64 and self._kept_at * 2 > len(self._kept_queue):
            del self._kept_queue[: self._kept_at]
            self._kept_at = 0
        if topic.is_warm:
            topic.is_warm = False
            self._kept_queue.append(topic)
            return
        del self.kept[topic.utf8]
        self._kept_bytes -= len(topic.utf8) + TOPIC_OVERHEAD_BYTES
        self._forget(topic)
