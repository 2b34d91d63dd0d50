"""A message as the program takes it, and what its acknowledgement waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, final

from mqtt_core._message import Message as ApplicationMessage
from mqtt_core._packets import Publish
from mqtt_core._properties import (
    CONTENT_TYPE,
    CORRELATION_DATA,
    RESPONSE_TOPIC,
    SUBSCRIPTION_IDENTIFIER,
    Properties,
    binary,
    text,
    user_properties,
)

Acknowledger = Callable[["Message"], None]
"""Carries an acknowledgement of the program to where the client runs."""


@final
class Receipt:
    """A QoS 1 or 2 PUBLISH that is not acknowledged yet: `open` counts who is to take it first.

    `epoch` is the connection that it came on, or came again on.
    """

    __slots__ = ("packet_id", "qos", "content", "open", "epoch", "is_storing")

    def __init__(self, packet_id: int, qos: int, content: ApplicationMessage, epoch: int) -> None:
        self.packet_id: Final = packet_id
        self.qos: Final = qos
        self.content: Final = content
        self.open = 0
        self.epoch = epoch
        self.is_storing = False  # its acknowledgement waits for the store


@final
class Message:
    """One message that has come.

    `topic`, `payload`, `qos` and `retain` are those of its PUBLISH. `retain` says that it was
    stored before this subscription was made, unless that has `retain_as_published`. The names of
    the properties are those of MQTT 5.0 (3.3.2.3); in 3.1.1 there are none.
    """

    __slots__ = ("_publish", "_receipt", "_acknowledger", "is_acknowledged")

    def __init__(
        self, publish: Publish, receipt: Receipt | None, acknowledger: Acknowledger | None
    ) -> None:
        self._publish: Final = publish
        self._receipt = receipt
        self._acknowledger = acknowledger
        self.is_acknowledged = receipt is None
        """Whether nothing is left to be acknowledged: so at QoS 0 from the beginning."""

    @property
    def topic(self) -> str:
        """The topic name."""
        return self._publish.message.topic.utf8.decode()

    @property
    def payload(self) -> bytes:
        """The application's bytes."""
        return self._publish.message.payload

    @property
    def qos(self) -> int:
        """The quality of service of this delivery: 0, 1 or 2."""
        return self._publish.message.qos

    @property
    def retain(self) -> bool:
        """The RETAIN flag of this delivery (3.3.1.3)."""
        return self._publish.message.retain

    @property
    def is_repeat(self) -> bool:
        """Whether the server has sent it before (DUP, 3.3.1.1): at QoS 1 the program may have it
        already."""
        return self._publish.dup

    @property
    def text(self) -> str:
        """The payload as text. Raises `UnicodeDecodeError` if it is not UTF-8."""
        return self.payload.decode()

    def json(self) -> object:
        """The payload as JSON. Raises `ValueError` if it is none."""
        found: object = json.loads(self.payload)
        return found

    @property
    def properties(self) -> Properties:
        """All properties, as pairs of identifier and value, in the order of the packet but for
        the message expiry interval, which comes first."""
        return (*self._publish.message.properties, *self._publish.properties)

    @property
    def content_type(self) -> str | None:
        """What the payload is, in the publisher's words, often a MIME type."""
        return text(self._publish.message.properties, CONTENT_TYPE)

    @property
    def response_topic(self) -> str | None:
        """Where the publisher wants an answer."""
        return text(self._publish.message.properties, RESPONSE_TOPIC)

    @property
    def correlation_data(self) -> bytes | None:
        """What an answer has to bring back, so that the requester knows what it answers."""
        return binary(self._publish.message.properties, CORRELATION_DATA)

    @property
    def user_properties(self) -> tuple[tuple[str, str], ...]:
        """Names and values that the publisher has added, in order; a name may come twice."""
        return tuple(user_properties(self._publish.message.properties))

    @property
    def expiry_s(self) -> int | None:
        """Seconds that the message was still good for when it came; None for ever."""
        expiry_s = self._publish.message.expiry_s
        return None if expiry_s < 0 else expiry_s

    @property
    def subscription_identifiers(self) -> tuple[int, ...]:
        """The identifiers of the subscriptions that it answers, as the client has given them."""
        return tuple(
            value
            for identifier, value in self._publish.properties
            if identifier == SUBSCRIPTION_IDENTIFIER and isinstance(value, int)
        )

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, about."""
        return self._publish.message.size_bytes

    def ack(self) -> None:
        """Acknowledge it, for a client with `manual_acks`: the server will not send it again.

        Acknowledgements leave in the order in which the messages came, so this one waits for those
        before it. A second call does nothing.
        """
        acknowledger = self._acknowledger
        if acknowledger is not None and not self.is_acknowledged:
            acknowledger(self)

    def take_receipt(self) -> Receipt | None:
        """What this acknowledges; None where it has been acknowledged. For the client."""
        if self.is_acknowledged:
            return None
        self.is_acknowledged = True
        return self._receipt

    def __repr__(self) -> str:
        return f"Message({self._publish.message!r})"
