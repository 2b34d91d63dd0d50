"""An application message and its wire layouts, each made once and shared by all who get it.

A QoS 0 PUBLISH is the same bytes for every receiver of a version. A QoS 1 or 2 PUBLISH differs
only in its packet identifier, which stands between a `head` (fixed header and topic) and the rest:
the payload, in MQTT 5.0 behind its properties, the `body`. A message that arrived in one of these
layouts keeps the bytes it came in. What is particular to one delivery, in MQTT 5.0, is put before
the payload by `delivery_head5`.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from mqtt_core._codes import MQTT_5, PUBLISH
from mqtt_core._errors import LocalProtocolError
from mqtt_core._fields import encode_variable
from mqtt_core._properties import (
    MESSAGE_EXPIRY_INTERVAL,
    NO_PROPERTIES,
    SUBSCRIPTION_IDENTIFIER,
    TOPIC_ALIAS,
    Properties,
    number,
    show_properties,
)
from mqtt_core._property_codec import (
    NO_LIMITS,
    decode_properties,
    encode_pairs,
)
from mqtt_core._reader import Reader
from mqtt_core._topics import Topic

_RETAIN: Final = 0x01
_DUP: Final = 0x08
_QOS_0: Final = 0x30
_QOS_1: Final = 0x32
_QOS_2: Final = 0x34
_BYTE: Final[list[bytes]] = [bytes([value]) for value in range(256)]
_TOPIC_ALIAS_BYTE: Final = bytes([TOPIC_ALIAS])
_SUBSCRIPTION_IDENTIFIER_BYTE: Final = bytes([SUBSCRIPTION_IDENTIFIER])
_MESSAGE_EXPIRY_INTERVAL_BYTE: Final = bytes([MESSAGE_EXPIRY_INTERVAL])

MESSAGE_OVERHEAD_BYTES: Final = 200
"""What one message takes in memory beside its topic and payload."""

EXTRAS_OVERHEAD_BYTES: Final = 120
"""What the properties of a message take in memory beside their bytes."""

NEVER: Final = -1
"""The message expiry interval of a message that has none."""


def _packet(topic: bytes, body: bytes) -> bytes:
    """A whole PUBLISH at QoS 0 without RETAIN; in 3.1.1 the body is the payload alone."""
    return (
        _BYTE[_QOS_0]
        + encode_variable(2 + len(topic) + len(body))
        + len(topic).to_bytes(2, "big")
        + topic
        + body
    )


def _head(topic: bytes, body_bytes: int) -> bytes:
    """A PUBLISH at QoS 1 up to its packet identifier."""
    return (
        _BYTE[_QOS_1]
        + encode_variable(4 + len(topic) + body_bytes)
        + len(topic).to_bytes(2, "big")
        + topic
    )


@final
@mypyc_attr(acyclic=True)
class Layouts:
    """The layouts of a message in the version that it did not arrive in."""

    __slots__ = ("body", "_topic", "_packet", "_head", "_head2")

    def __init__(self, topic: bytes, body: bytes) -> None:
        self.body: Final = body
        self._topic: Final = topic
        self._packet: bytes | None = None
        self._head: bytes | None = None
        self._head2: bytes | None = None

    def packet(self) -> bytes:
        """The whole PUBLISH at QoS 0, without RETAIN."""
        packet = self._packet
        if packet is None:
            packet = _packet(self._topic, self.body)
            self._packet = packet
        return packet

    def head(self, qos: int) -> bytes:
        """The PUBLISH at QoS 1 or 2 up to its packet identifier, without DUP and RETAIN."""
        if qos == 1:
            head = self._head
            if head is None:
                head = _head(self._topic, len(self.body))
                self._head = head
            return head
        head2 = self._head2
        if head2 is None:
            head2 = _BYTE[_QOS_2] + self.head(1)[1:]
            self._head2 = head2
        return head2


@final
@mypyc_attr(acyclic=True)
class Extras:
    """What most messages do not have: properties, and layouts for the other version.

    `wire` has the properties that travel with the message (MQTT 5.0, 3.3.2.3) as on the wire,
    without their length and without the message expiry interval, which is `expiry_s` as it
    arrived.
    """

    __slots__ = ("wire", "expiry_s", "expires_at", "layouts", "packet5")

    def __init__(self, wire: bytes, expiry_s: int = NEVER) -> None:
        self.wire: Final = wire
        self.expiry_s: Final = expiry_s
        self.expires_at = 0.0
        self.layouts: Layouts | None = None
        self.packet5: bytes | None = None  # of a message that came in MQTT 5.0 at QoS 1 or 2


def _prefix(extras: Extras | None) -> bytes:
    """The properties behind their length, without message expiry interval."""
    if extras is None:
        return b"\0"  # [MQTT-2.2.2-1]
    return encode_variable(len(extras.wire)) + extras.wire


@final
@mypyc_attr(acyclic=True)
class Message:
    """One application message: topic, payload, the QoS and RETAIN it was published with.

    Made with `payload`, or by a decoder with the bytes it arrived in. In MQTT 3.1.1: `packet`, a
    whole QoS 0 PUBLISH without RETAIN, whose payload begins at `payload_at`; or the payload, and
    `head`, a QoS 1 PUBLISH up to its packet identifier. In MQTT 5.0 `payload_at` is negative, and
    `packet` is that PUBLISH at QoS 0, or else what stands behind the packet identifier.
    """

    # A message has few fields, because millions of them are made a second.
    __slots__ = (
        "topic",
        "qos",
        "retain",
        "size_bytes",
        "_extras",
        "_payload",
        "_at",
        "_packet",
        "_head",
        "_head2",
    )

    def __init__(
        self,
        topic: Topic,
        payload: bytes | None,
        qos: int = 0,
        retain: bool = False,
        extras: Extras | None = None,
        packet: bytes | None = None,
        payload_at: int = 0,
        head: bytes | None = None,
    ) -> None:
        self.topic: Final = topic
        self.qos: Final = qos
        self.retain: Final = retain
        self._extras = extras
        self._payload = payload
        self._packet = packet
        self._at: Final = payload_at
        self._head = head
        self._head2: bytes | None = None
        # Topic, properties and payload, with what the message takes beside them.
        body = packet if payload is None else payload
        assert body is not None
        size = len(topic.utf8) + len(body) + MESSAGE_OVERHEAD_BYTES
        if extras is not None:
            size += EXTRAS_OVERHEAD_BYTES + len(extras.wire)
        self.size_bytes: Final = size

    @property
    def payload(self) -> bytes:
        """The application's bytes."""
        payload = self._payload
        if payload is None:
            packet = self._packet
            assert packet is not None
            at = self._at
            payload = packet[at:] if at > 0 else packet[-at:]
            self._payload = payload
        return payload

    # Properties

    @property
    def has_properties(self) -> bool:
        """Whether any property travels with the message."""
        extras = self._extras
        return extras is not None and (extras.expiry_s >= 0 or len(extras.wire) > 0)

    @property
    def wire_properties(self) -> bytes:
        """The properties that travel with the message, as on the wire, without their length,
        the message expiry interval, topic alias and subscription identifiers."""
        extras = self._extras
        return b"" if extras is None else extras.wire

    @property
    def expiry_s(self) -> int:
        """The message expiry interval as it arrived, in seconds; `NEVER` without one."""
        extras = self._extras
        return NEVER if extras is None else extras.expiry_s

    @property
    def expires_at(self) -> float:
        """When the message expires, by the clock of whoever set it; 0 for never.

        Only for a message with a message expiry interval may it be set.
        """
        extras = self._extras
        return 0.0 if extras is None else extras.expires_at

    @expires_at.setter
    def expires_at(self, when: float) -> None:
        extras = self._extras
        assert extras is not None
        extras.expires_at = when

    @property
    def properties(self) -> Properties:
        """The properties that travel with the message; message expiry interval comes first."""
        extras = self._extras
        if extras is None:
            return NO_PROPERTIES
        wire = encode_variable(len(extras.wire)) + extras.wire
        decoded = decode_properties(Reader(wire, 0, len(wire), MQTT_5), PUBLISH, NO_LIMITS)
        if extras.expiry_s < 0:
            return decoded
        return ((MESSAGE_EXPIRY_INTERVAL, extras.expiry_s), *decoded)

    def _own_extras(self) -> Extras:
        extras = self._extras
        if extras is None:
            extras = Extras(b"")
            self._extras = extras
        return extras

    # Layouts of MQTT 3.1.1

    def packet(self) -> bytes:
        """The whole PUBLISH at QoS 0, without RETAIN."""
        if self._at < 0:
            return self._others().packet()
        packet = self._packet
        if packet is None:
            packet = _packet(self.topic.utf8, self.payload)
            self._packet = packet
        return packet

    def head(self, qos: int) -> bytes:
        """The PUBLISH at QoS 1 or 2 up to its packet identifier, without DUP and RETAIN.

        The payload stands behind that.
        """
        if self._at < 0:
            return self._others().head(qos)
        head = self._head
        if head is None:
            head = _head(self.topic.utf8, len(self.payload))
            self._head = head
        return head if qos == 1 else self._second_head(head)

    def _second_head(self, head: bytes) -> bytes:
        head2 = self._head2
        if head2 is None:
            head2 = _BYTE[_QOS_2] + head[1:]
            self._head2 = head2
        return head2

    def retained_packet(self) -> bytes:
        """The whole PUBLISH at QoS 0 with RETAIN."""
        return _BYTE[_QOS_0 | _RETAIN] + self.packet()[1:]

    def flagged_head(self, qos: int, dup: bool, retain: bool) -> bytes:
        """`head` with the DUP and RETAIN flags given; made anew at each call.  [MQTT-3.3.1-3]"""
        flags = (_DUP if dup else 0) | (_RETAIN if retain else 0)
        return _BYTE[(_QOS_2 if qos == 2 else _QOS_1) | flags] + self.head(1)[1:]

    # Layouts of MQTT 5.0, for a message without expiry

    def packet5(self) -> bytes:
        """The whole PUBLISH at QoS 0, without RETAIN and without message expiry interval."""
        if self._at >= 0:
            return self._others().packet()
        packet = self._packet
        assert packet is not None
        if self.qos == 0:
            return packet
        extras = self._own_extras()
        packet5 = extras.packet5
        if packet5 is None:
            packet5 = _packet(self.topic.utf8, packet)
            extras.packet5 = packet5
        return packet5

    def head5(self, qos: int) -> bytes:
        """The PUBLISH at QoS 1 or 2 up to its packet identifier, without DUP and RETAIN.

        `body5` stands behind that.
        """
        if self._at >= 0:
            return self._others().head(qos)
        head = self._head
        if head is None:
            head = _head(self.topic.utf8, len(self.body5()))
            self._head = head
        return head if qos == 1 else self._second_head(head)

    def body5(self) -> bytes:
        """Property length, properties and payload, without message expiry interval."""
        if self._at >= 0:
            return self._others().body
        packet = self._packet
        assert packet is not None
        if self.qos:
            return packet
        # It came at QoS 0, and nobody gets it at another.
        return _prefix(self._extras) + self.payload

    def _others(self) -> Layouts:
        """The layouts of the version that the message did not arrive in."""
        extras = self._own_extras()
        layouts = extras.layouts
        if layouts is None:
            payload = self.payload
            body = payload if self._at < 0 else _prefix(extras) + payload
            layouts = Layouts(self.topic.utf8, body)
            extras.layouts = layouts
        return layouts

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Message)
            and self.topic.utf8 == other.topic.utf8
            and self.payload == other.payload
            and self.qos == other.qos
            and self.retain == other.retain
            and self.wire_properties == other.wire_properties
            and self.expiry_s == other.expiry_s
        )

    def __hash__(self) -> int:
        return hash((self.topic.utf8, self.payload, self.qos, self.retain))

    def __repr__(self) -> str:
        payload = self.payload
        shown = repr(payload) if len(payload) <= 32 else f"<{len(payload)} bytes>"
        properties = show_properties(self.properties) if self._extras is not None else ""
        more = f", properties={properties}" if len(properties) > 2 else ""
        return f"Message({self.topic.name!r}, {shown}, qos={self.qos}, retain={self.retain}{more})"


def delivery_head5(
    message: Message,
    qos: int,
    dup: bool,
    retain: bool,
    packet_id: int,
    expiry_s: int = NEVER,
    identifiers: tuple[int, ...] = (),
    alias: int = 0,
    has_topic: bool = True,
) -> bytes:
    """One delivery of a message in MQTT 5.0 up to its payload.

    `expiry_s` is the message expiry interval to send, `identifiers` are the subscription
    identifiers, `alias` is the topic alias, 0 for none; with one the topic may be left out.
    """
    properties = b""
    for identifier in identifiers:  # [MQTT-3.3.4-3] [MQTT-3.3.4-4]
        properties += _SUBSCRIPTION_IDENTIFIER_BYTE + encode_variable(identifier)
    if alias:  # never 0  [MQTT-3.3.2-8]
        properties += _TOPIC_ALIAS_BYTE + alias.to_bytes(2, "big")
    return head_with(message, qos, dup, retain, packet_id, expiry_s, properties, has_topic)


def head_with(
    message: Message,
    qos: int,
    dup: bool,
    retain: bool,
    packet_id: int,
    expiry_s: int,
    properties: bytes,
    has_topic: bool,
) -> bytes:
    """`delivery_head5` with the properties of the delivery as on the wire."""
    if expiry_s >= 0:
        properties = _MESSAGE_EXPIRY_INTERVAL_BYTE + expiry_s.to_bytes(4, "big") + properties
    properties += message.wire_properties
    topic = message.topic.utf8 if has_topic else b""
    rest = len(topic).to_bytes(2, "big") + topic
    if qos:
        rest += packet_id.to_bytes(2, "big")
    rest += encode_variable(len(properties)) + properties
    first = _QOS_0 | (qos << 1) | (_DUP if dup else 0) | (_RETAIN if retain else 0)
    return _BYTE[first] + encode_variable(len(rest) + len(message.payload)) + rest


def split_properties(properties: Properties) -> tuple[Properties, Properties]:
    """Properties of a PUBLISH apart: those of the delivery, and those of the message."""
    if not properties:
        return NO_PROPERTIES, NO_PROPERTIES
    own = tuple(pair for pair in properties if _is_of_delivery(pair[0]))
    return own, tuple(pair for pair in properties if not _is_of_delivery(pair[0]))


def _is_of_delivery(identifier: int) -> bool:
    return identifier in (TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER)


def make_extras(properties: Properties) -> Extras | None:
    """Properties that travel with a message, checked. Raises `LocalProtocolError`."""
    if not properties:
        return None
    for identifier, _ in properties:
        if _is_of_delivery(identifier):
            raise LocalProtocolError("topic alias and subscription identifiers are the delivery's")
    wire = encode_pairs(properties, PUBLISH)
    expiry_s = number(properties, MESSAGE_EXPIRY_INTERVAL, NEVER)
    if expiry_s < 0:
        return Extras(wire)
    others = tuple(pair for pair in properties if pair[0] != MESSAGE_EXPIRY_INTERVAL)
    return Extras(encode_pairs(others, PUBLISH), expiry_s)


def make_message(
    topic: str,
    payload: bytes,
    qos: int = 0,
    retain: bool = False,
    properties: Properties = NO_PROPERTIES,
) -> Message:
    """A message from text and bytes; the topic name is not checked.

    Raises `LocalProtocolError` for properties that MQTT forbids.
    """
    return Message(Topic(topic.encode()), payload, qos, retain, make_extras(properties))
