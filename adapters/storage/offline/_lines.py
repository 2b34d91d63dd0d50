"""All state of a store as lines of JSON, one object each: docs/store-export.md describes them.

Sessions and messages are numbered from 1 on, as they come; numbers of the store are its own. Bytes
are base64.
"""

from __future__ import annotations

from typing import Annotated, Final, final

from msgspec import Meta, Struct

FORM: Final = 1
"""The form of the lines, which is that of this description."""

Number = Annotated[int, Meta(ge=1)]
PacketId = Annotated[int, Meta(ge=1, le=65_535)]
QoS = Annotated[int, Meta(ge=0, le=2)]
FourBytes = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]


@final
class Binary(Struct, forbid_unknown_fields=True):
    """The value of a property that is binary data (1.5.6 of MQTT 5.0)."""

    base64: bytes


PropertyLine = tuple[int, int | str | tuple[str, str] | Binary]
"""Identifier and value of a property (2.2.2.2 of MQTT 5.0)."""


class Line(Struct, tag_field="type", forbid_unknown_fields=True):
    """What all lines have in common."""


@final
class HeadLine(Line, tag="iotd-store"):
    """The first line."""

    form: int


@final
class SessionLine(Line, tag="session"):
    """A session; those behind it belong to it by its number.

    `expires_at` is in unix seconds, null while its client was connected, `expiry_s` how long it
    outlives its connection.
    """

    number: Number
    client_id: str
    expires_at: float | None
    expiry_s: FourBytes


@final
class OptionsLine(Struct, forbid_unknown_fields=True):
    """Options of a subscription; `identifier` 0 for none."""

    no_local: bool
    retain_as_published: bool
    identifier: Annotated[int, Meta(ge=0, le=268_435_455)]


@final
class SubscriptionLine(Line, tag="subscription"):
    """A subscription; `options` is null where it has none of MQTT 5.0. `retained_due`: retained
    messages are still to be sent for it."""

    session: Number
    filter: str
    qos: QoS
    options: OptionsLine | None
    retained_due: bool = False


@final
class HeldLine(Line, tag="held"):
    """A QoS 2 message of the client was taken over, and its PUBREL has not come."""

    session: Number
    packet_id: PacketId


@final
class MessageLine(Line, tag="message"):
    """A message that is queued; whom it is for comes behind it. `came_at` is when it was stored, in
    unix seconds, null where that is not known."""

    number: Number
    topic: str
    payload: bytes
    qos: QoS
    retain: bool
    properties: list[PropertyLine]
    expires_at: float | None
    came_at: Annotated[int, Meta(ge=0, le=100_000_000_000)] | None = None


@final
class ParticularsLine(Struct, forbid_unknown_fields=True):
    """What one delivery has of its own: the RETAIN flag, the identifiers of the subscriptions that
    it answers, and the whole filter of a shared subscription, null for others."""

    retain: bool
    identifiers: list[Annotated[int, Meta(ge=1, le=268_435_455)]]
    share: str | None


@final
class QueuedLine(Line, tag="queued"):
    """The message waits for a session."""

    message: Number
    session: Number
    qos: QoS
    particulars: ParticularsLine | None


@final
class InFlightLine(Line, tag="in_flight"):
    """The message was sent to the client of a session; `is_received`: PUBREC has come.

    Positions order those of a session by their last step.
    """

    message: Number
    session: Number
    qos: Annotated[int, Meta(ge=1, le=2)]
    particulars: ParticularsLine | None
    packet_id: PacketId
    is_received: bool
    position: Annotated[int, Meta(ge=0, le=(1 << 62))]


@final
class RetainedLine(Line, tag="retained"):
    """The retained message of a topic."""

    topic: str
    payload: bytes
    qos: QoS
    properties: list[PropertyLine]
    retain: bool
    expires_at: float | None


@final
class WillLine(Line, tag="will"):
    """The will of a client; `due` is when it is published, in unix seconds, 0 where the client was
    connected."""

    client_id: str
    due: Annotated[float, Meta(ge=0)]
    topic: str
    payload: bytes
    qos: QoS
    retain: bool
    properties: list[PropertyLine]


@final
class EndLine(Line, tag="end"):
    """The last line, with the number of all lines: a file without it is not whole."""

    lines: Number


AnyLine = (
    HeadLine
    | SessionLine
    | SubscriptionLine
    | HeldLine
    | MessageLine
    | QueuedLine
    | InFlightLine
    | RetainedLine
    | WillLine
    | EndLine
)
