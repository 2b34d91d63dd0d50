"""What has become of a client's connection, in the order in which it happened."""

from __future__ import annotations

from typing import ClassVar, Final, final

from mqtt_core.client._errors import MqttError


class Event:
    """Something that has happened; `FIELDS` are what it says of it."""

    FIELDS: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self.FIELDS)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.FIELDS))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.FIELDS)
        return f"{type(self).__name__}({shown})"


@final
class Connected(Event):
    """The server takes the client. `session_present`: it has kept the session."""

    FIELDS: ClassVar[tuple[str, ...]] = ("session_present", "level")

    def __init__(self, session_present: bool, level: int) -> None:
        self.session_present: Final = session_present
        self.level: Final = level


@final
class Lost(Event):
    """The connection has ended, or none came about."""

    FIELDS: ClassVar[tuple[str, ...]] = ("why", "reason")

    def __init__(self, why: str, reason: int = 0) -> None:
        self.why: Final = why
        self.reason: Final = reason


@final
class Retrying(Event):
    """The next attempt to connect is made after `delay_s` seconds."""

    FIELDS: ClassVar[tuple[str, ...]] = ("attempt", "delay_s")

    def __init__(self, attempt: int, delay_s: float) -> None:
        self.attempt: Final = attempt
        self.delay_s: Final = delay_s


@final
class SessionLost(Event):
    """The server has lost the session: subscriptions are made again, QoS 1 messages are published
    again, and messages that the server held for this client are gone. `unknown` QoS 2 messages
    ended with `DeliveryUnknown`."""

    FIELDS: ClassVar[tuple[str, ...]] = ("published_again", "unknown")

    def __init__(self, published_again: int, unknown: int) -> None:
        self.published_again: Final = published_again
        self.unknown: Final = unknown


@final
class Unclaimed(Event):
    """Messages of a session taken up again matched no subscription, and were dropped."""

    FIELDS: ClassVar[tuple[str, ...]] = ("count", "topic")

    def __init__(self, count: int, topic: str) -> None:
        self.count: Final = count
        self.topic: Final = topic


@final
class Ended(Event):
    """The client has ended for good: closed by the program where `error` is None."""

    FIELDS: ClassVar[tuple[str, ...]] = ("error",)

    def __init__(self, error: MqttError | None) -> None:
        self.error: Final = error
