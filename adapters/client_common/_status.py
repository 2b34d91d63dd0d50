"""What a client and its subscriptions are like, read from the core: the same for every client."""

from __future__ import annotations

from typing import Final

from mqtt_core.client import Client as Core
from mqtt_core.client import Consumer, Counters

_VERSIONS: Final = {5: "5", 4: "3.1.1"}


class ClientStatus:
    """What a program may look at at any time."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, and the server has taken the client."""
        return self._core.is_online

    @property
    def session_present(self) -> bool:
        """Whether the server had a session of this client at the last connection."""
        return self._core.session_present

    @property
    def client_id(self) -> str:
        """The client identifier in use, be it made up or assigned by the server."""
        return self._core.client_id

    @property
    def version(self) -> str:
        """The version of MQTT in use: "5" or "3.1.1"."""
        return _VERSIONS[self._core.level]

    @property
    def counters(self) -> Counters:
        """What the client has counted, what it has dropped above all."""
        return self._core.counters

    @property
    def pending_messages(self) -> int:
        """Messages that wait to be sent."""
        return self._core.pending_messages

    @property
    def in_flight(self) -> int:
        """Messages that are sent and not acknowledged yet."""
        return self._core.in_flight


class SubscriptionStatus:
    """What a program may look at of a subscription, at any time."""

    __slots__ = ("_consumer",)

    def __init__(self, consumer: Consumer) -> None:
        self._consumer: Final = consumer

    @property
    def topic_filters(self) -> tuple[str, ...]:
        """The filters, as they were asked for."""
        return self._consumer.topic_filters

    @property
    def granted_qos(self) -> tuple[int, ...]:
        """The QoS that the server has granted for each filter."""
        return self._consumer.granted_qos

    @property
    def unread(self) -> int:
        """How many messages wait to be taken."""
        return self._consumer.unread

    @property
    def dropped(self) -> int:
        """How many QoS 0 messages were dropped, because too many waited."""
        return self._consumer.dropped
