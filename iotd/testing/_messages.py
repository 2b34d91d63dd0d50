"""What a broker has routed, and which of it a test asks for."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from mqtt_core import NO_PROPERTIES, Properties, Publish, topic_filter_fault, topic_matches

MOST_MESSAGES: Final = 10_000
"""Messages that are remembered; of more the oldest are forgotten, and counted."""

Payload = bytes | str | re.Pattern[bytes] | Callable[[bytes], object]
"""A payload, a pattern to be found in it, or a function that says whether it is the one."""

_LONGEST_SHOWN: Final = 60


@final
@dataclass(frozen=True)
class Routed:
    """A message that the broker has routed: published by a client, by the test, or as a will."""

    at_s: float
    """Seconds since the broker began."""
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties = NO_PROPERTIES

    @property
    def text(self) -> str:
        """The payload as text. Raises `UnicodeDecodeError` if it is not UTF-8."""
        return self.payload.decode()

    def json(self) -> object:
        """The payload as JSON. Raises `ValueError` if it is none."""
        found: object = json.loads(self.payload)
        return found

    def __str__(self) -> str:
        shown = self.payload[:_LONGEST_SHOWN]
        try:
            text = repr(shown.decode())
        except UnicodeDecodeError:
            text = repr(shown)
        more = f"... ({len(self.payload):,} bytes)" if len(self.payload) > _LONGEST_SHOWN else ""
        return f"{self.topic!r} QoS {self.qos}{' retain' * self.retain} {text}{more}"


@final
class Wanted:
    """What a test asks for. Raises `ValueError` for what is no topic filter."""

    def __init__(
        self,
        topic: str,
        payload: Payload | None = None,
        qos: int | None = None,
        retain: bool | None = None,
    ) -> None:
        fault = topic_filter_fault(topic.encode())
        if fault is not None:
            raise ValueError(f"{topic!r} is no topic filter: {fault[0]}")
        self._topic: Final = topic
        self._payload: Final = payload.encode() if isinstance(payload, str) else payload
        self._qos: Final = qos
        self._retain: Final = retain

    def fits(self, message: Routed) -> bool:
        """Whether a message is one of them."""
        return (
            topic_matches(self._topic, message.topic)
            and (self._qos is None or self._qos == message.qos)
            and (self._retain is None or self._retain == message.retain)
            and self._has_payload(message.payload)
        )

    def _has_payload(self, payload: bytes) -> bool:
        wanted = self._payload
        if wanted is None:
            return True
        if isinstance(wanted, bytes):
            return wanted == payload
        if isinstance(wanted, re.Pattern):
            return wanted.search(payload) is not None
        return bool(wanted(payload))

    def __str__(self) -> str:
        words = [f"topic {self._topic!r}"]
        if self._payload is not None:
            words.append(f"payload {self._payload!r}")
        if self._qos is not None:
            words.append(f"QoS {self._qos}")
        if self._retain is not None:
            words.append(f"retain {self._retain}")
        return ", ".join(words)


@final
class Log:
    """The messages of one broker, in order. What a test has expected is not found again."""

    def __init__(self) -> None:
        self._messages: Final[deque[Routed]] = deque(maxlen=MOST_MESSAGES)
        self._taken: Final[set[int]] = set()
        self._count = 0

    @property
    def count(self) -> int:
        """How many messages there were."""
        return self._count

    @property
    def forgotten(self) -> int:
        """How many messages are not remembered any more."""
        return self._count - len(self._messages)

    def add(self, at_s: float, publish: Publish) -> None:
        """The broker has routed a message."""
        message = publish.message
        self._messages.append(
            Routed(
                at_s,
                message.topic.utf8.decode(),
                message.payload,
                message.qos,
                message.retain,
                message.properties,
            )
        )
        self._taken.discard(self._count - MOST_MESSAGES)
        self._count += 1

    def matching(self, topic: str) -> list[Routed]:
        """All that fit a topic filter."""
        wanted = Wanted(topic)
        return [message for message in self._messages if wanted.fits(message)]

    def take(self, wanted: Wanted, since: int = 0) -> Routed | None:
        """The first that fits and was not taken; `since` is how many there were before."""
        first = self.forgotten
        for number, message in enumerate(self._messages, first):
            if number >= since and number not in self._taken and wanted.fits(message):
                self._taken.add(number)
                return message
        return None

    def lines(self, most: int) -> list[str]:
        """The last of them for a reader, with their times."""
        shown = list(self._messages)[-most:]
        left_out = self._count - len(shown)
        head = [f"  ({left_out:,} earlier messages are not shown)"] if left_out else []
        return [*head, *(f"{message.at_s:10.3f} s  {message}" for message in shown)]
