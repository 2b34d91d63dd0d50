"""A message on its way to the server, and what became of it."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import SUCCESS
from mqtt_core._message import Message
from mqtt_core._properties import NO_PROPERTIES, REASON_STRING, Properties, text
from mqtt_core._topics import Topic
from mqtt_core.client._errors import MqttError
from mqtt_core.client._told import Waitable

PENDING: Final = 0
IN_FLIGHT: Final = 1
DONE: Final = 2


@final
class Publication(Waitable):
    """One message that was published.

    At QoS 0 it is done when it has been written, at QoS 1 and 2 when the server has acknowledged
    it. `error` is why it came to nothing; `reason` and `properties` are those of the server's
    PUBACK or PUBREC, of which 3.1.1 has none.
    """

    __slots__ = (
        "message",
        "qos",
        "state",
        "packet_id",
        "number",
        "storing",
        "needs_repeat",
        "expires_at",
        "reason",
        "properties",
        "error",
    )

    def __init__(self, message: Message, qos: int, expires_at: float = 0.0) -> None:
        super().__init__()
        self.message: Final = message
        self.qos: Final = qos
        self.state = PENDING
        self.packet_id = 0  # from when there is room in flight for it
        self.number = 0  # in the store, 0 for one that is not in it
        self.storing = 0  # writes of the store that it waits for
        self.needs_repeat = False  # to be sent again on this connection, as soon as there is room
        self.expires_at: Final = expires_at  # 0 for never
        self.reason = SUCCESS
        self.properties: Properties = NO_PROPERTIES
        self.error: MqttError | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state == DONE

    @property
    def reason_string(self) -> str:
        """What the server says of it; empty for nothing."""
        return text(self.properties, REASON_STRING) or ""

    @property
    def is_identified(self) -> bool:
        """Whether it has a packet identifier, and may be sent as far as the store goes."""
        return self.packet_id != 0

    def result(self) -> Publication:
        """Itself once it is done. Raises its error."""
        if self.error is not None:
            raise self.error
        return self

    def __repr__(self) -> str:
        state = ("pending", "in flight", "done")[self.state] if self.error is None else "failed"
        return f"Publication({self.message!r}, {state})"


def _written() -> Publication:
    publication = Publication(Message(Topic(b"-"), b""), 0)
    publication.state = DONE
    return publication


WRITTEN: Final = _written()
"""Any QoS 0 message that was written at once: there is nothing to wait for, and nothing to say."""
