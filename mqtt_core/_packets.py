"""The packets of MQTT as plain classes, one for each type, used in both directions.

A packet read from the wire is an event; a packet to be written goes through `encode`. They
carry no behaviour. Reason codes and properties are those of MQTT 5.0; in a packet of an older
version they are what that version can say, and nothing.
"""

from __future__ import annotations

from typing import ClassVar, Final, final

from mypy_extensions import mypyc_attr

from mqtt_core._codes import CONTINUE_AUTHENTICATION, MQTT_3_1_1, SUCCESS
from mqtt_core._message import Message, make_message, split_properties
from mqtt_core._properties import NO_PROPERTIES, Properties, show_properties


@mypyc_attr(acyclic=True)
class Packet:
    """Base of all packets: equality and representation from `FIELDS`.

    Passwords and authentication data are never part of a representation.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self.FIELDS)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.FIELDS))

    def __repr__(self) -> str:
        shown = [f"{name}={_shown(name, getattr(self, name))}" for name in self.FIELDS]
        return f"{type(self).__name__}({', '.join(shown)})"


def _shown(name: str, value: object) -> str:
    if name == "properties" and isinstance(value, tuple):
        return show_properties(value)
    return repr(value)


@final
class Will(Packet):
    """The message a server publishes when a connection ends badly (3.1.2.5)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("topic", "payload", "qos", "retain", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("topic", "payload", "qos", "retain")

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.topic: Final = topic
        self.payload: Final = payload
        self.qos: Final = qos
        self.retain: Final = retain
        self.properties: Final = properties


@final
class Connect(Packet):
    """A client asks for a connection (3.1)."""

    FIELDS: ClassVar[tuple[str, ...]] = (
        "client_id",
        "clean_start",
        "keep_alive_s",
        "will",
        "username",
        "level",
        "properties",
    )
    __match_args__: ClassVar[tuple[str, ...]] = ("client_id", "clean_start", "keep_alive_s")

    def __init__(
        self,
        client_id: str,
        clean_start: bool = True,
        keep_alive_s: int = 0,
        will: Will | None = None,
        username: str | None = None,
        password: bytes | None = None,
        level: int = MQTT_3_1_1,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.client_id: Final = client_id
        self.clean_start: Final = clean_start
        self.keep_alive_s: Final = keep_alive_s
        self.will: Final = will
        self.username: Final = username
        self.password: Final = password
        self.level: Final = level
        self.properties: Final = properties

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Connect)
            and self.password == other.password
            and all(getattr(self, name) == getattr(other, name) for name in self.FIELDS)
        )

    def __hash__(self) -> int:
        return hash((self.client_id, self.username, self.level))


@final
class ConnAck(Packet):
    """The answer to CONNECT (3.2); `reason` is a code of MQTT 5.0 in every version."""

    FIELDS: ClassVar[tuple[str, ...]] = ("session_present", "reason", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("session_present", "reason")

    def __init__(
        self,
        session_present: bool = False,
        reason: int = SUCCESS,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.session_present: Final = session_present
        self.reason: Final = reason
        self.properties: Final = properties


@final
@mypyc_attr(acyclic=True)
class Publish(Packet):
    """A message on its way (3.3): the message, and what belongs to this one delivery of it.

    `properties` are those of this delivery alone: the topic alias and the subscription
    identifiers. Those that travel with the message are in `message.properties`.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("message", "packet_id", "dup", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("topic", "payload", "qos", "retain")

    def __init__(
        self,
        message: Message,
        packet_id: int = 0,
        dup: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.message: Final = message
        self.packet_id: Final = packet_id
        self.dup: Final = dup
        self.properties: Final = properties

    @property
    def topic(self) -> str:
        """The topic name."""
        return self.message.topic.name

    @property
    def payload(self) -> bytes:
        """The application's bytes."""
        return self.message.payload

    @property
    def qos(self) -> int:
        """The quality of service of this delivery: 0, 1 or 2."""
        return self.message.qos

    @property
    def retain(self) -> bool:
        """The RETAIN flag of this delivery (3.3.1.3)."""
        return self.message.retain


@final
@mypyc_attr(acyclic=True)
class PubAck(Packet):
    """The receiver has taken over a QoS 1 message (3.4)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("packet_id", "reason", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("packet_id", "reason")

    def __init__(
        self, packet_id: int, reason: int = SUCCESS, properties: Properties = NO_PROPERTIES
    ) -> None:
        self.packet_id: Final = packet_id
        self.reason: Final = reason
        self.properties: Final = properties


@final
@mypyc_attr(acyclic=True)
class PubRec(Packet):
    """The receiver has taken over a QoS 2 message (3.5)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("packet_id", "reason", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("packet_id", "reason")

    def __init__(
        self, packet_id: int, reason: int = SUCCESS, properties: Properties = NO_PROPERTIES
    ) -> None:
        self.packet_id: Final = packet_id
        self.reason: Final = reason
        self.properties: Final = properties


@final
@mypyc_attr(acyclic=True)
class PubRel(Packet):
    """The sender has forgotten a QoS 2 message and will not send it again (3.6)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("packet_id", "reason", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("packet_id", "reason")

    def __init__(
        self, packet_id: int, reason: int = SUCCESS, properties: Properties = NO_PROPERTIES
    ) -> None:
        self.packet_id: Final = packet_id
        self.reason: Final = reason
        self.properties: Final = properties


@final
@mypyc_attr(acyclic=True)
class PubComp(Packet):
    """The exchange of a QoS 2 message is complete (3.7)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("packet_id", "reason", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("packet_id", "reason")

    def __init__(
        self, packet_id: int, reason: int = SUCCESS, properties: Properties = NO_PROPERTIES
    ) -> None:
        self.packet_id: Final = packet_id
        self.reason: Final = reason
        self.properties: Final = properties


@final
class Subscription(Packet):
    """One topic filter of a SUBSCRIBE with what is asked for it (3.8.3).

    `qos` is the most; the options are those of MQTT 5.0 (3.8.3.1 there). `retain_handling`: 0
    sends retained messages, 1 only for a new subscription, 2 never.
    """

    FIELDS: ClassVar[tuple[str, ...]] = (
        "topic_filter",
        "qos",
        "no_local",
        "retain_as_published",
        "retain_handling",
    )
    __match_args__: ClassVar[tuple[str, ...]] = ("topic_filter", "qos")

    def __init__(
        self,
        topic_filter: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> None:
        self.topic_filter: Final = topic_filter
        self.qos: Final = qos
        self.no_local: Final = no_local
        self.retain_as_published: Final = retain_as_published
        self.retain_handling: Final = retain_handling


@final
class Subscribe(Packet):
    """A client asks for messages (3.8)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("packet_id", "subscriptions", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("packet_id", "subscriptions")

    def __init__(
        self,
        packet_id: int,
        subscriptions: tuple[Subscription, ...],
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.packet_id: Final = packet_id
        self.subscriptions: Final = subscriptions
        self.properties: Final = properties


@final
class SubAck(Packet):
    """The answer to SUBSCRIBE (3.9): for each filter the QoS granted, or a code from 0x80 on."""

    FIELDS: ClassVar[tuple[str, ...]] = ("packet_id", "reasons", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("packet_id", "reasons")

    def __init__(
        self, packet_id: int, reasons: tuple[int, ...], properties: Properties = NO_PROPERTIES
    ) -> None:
        self.packet_id: Final = packet_id
        self.reasons: Final = reasons
        self.properties: Final = properties


@final
class Unsubscribe(Packet):
    """A client wants no more messages for these filters (3.10)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("packet_id", "topic_filters", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("packet_id", "topic_filters")

    def __init__(
        self,
        packet_id: int,
        topic_filters: tuple[str, ...],
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.packet_id: Final = packet_id
        self.topic_filters: Final = topic_filters
        self.properties: Final = properties


@final
class UnsubAck(Packet):
    """The answer to UNSUBSCRIBE (3.11); 3.1.1 gives no reasons."""

    FIELDS: ClassVar[tuple[str, ...]] = ("packet_id", "reasons", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("packet_id", "reasons")

    def __init__(
        self,
        packet_id: int,
        reasons: tuple[int, ...] = (),
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.packet_id: Final = packet_id
        self.reasons: Final = reasons
        self.properties: Final = properties


@final
class PingReq(Packet):
    """A client shows that it is alive (3.12)."""


@final
class PingResp(Packet):
    """The server shows that it is alive (3.13)."""


@final
class Disconnect(Packet):
    """The last packet of a connection (3.14); in MQTT 5.0 a server may send it too."""

    FIELDS: ClassVar[tuple[str, ...]] = ("reason", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("reason",)

    def __init__(self, reason: int = SUCCESS, properties: Properties = NO_PROPERTIES) -> None:
        self.reason: Final = reason
        self.properties: Final = properties


@final
class Auth(Packet):
    """A step of enhanced authentication, in MQTT 5.0 (3.15 there)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("reason", "properties")
    __match_args__: ClassVar[tuple[str, ...]] = ("reason",)

    def __init__(
        self, reason: int = CONTINUE_AUTHENTICATION, properties: Properties = NO_PROPERTIES
    ) -> None:
        self.reason: Final = reason
        self.properties: Final = properties


def make_publish(
    topic: str,
    payload: bytes,
    qos: int = 0,
    retain: bool = False,
    packet_id: int = 0,
    dup: bool = False,
    properties: Properties = NO_PROPERTIES,
) -> Publish:
    """A PUBLISH from text and bytes; the topic name is not checked.

    `properties` may have those of the message and those of the delivery. Raises
    `LocalProtocolError` for what MQTT forbids in them.
    """
    own, travelling = split_properties(properties)
    return Publish(make_message(topic, payload, qos, retain, travelling), packet_id, dup, own)
