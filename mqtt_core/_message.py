"""An application message and its wire layouts, each made once and shared by all who get it.

A QoS 0 PUBLISH is the same bytes for every receiver. A QoS 1 or 2 PUBLISH differs only in its
packet identifier, which stands between a `head` (fixed header and topic) and the payload. A
message that arrived in one of these layouts keeps the bytes it came in.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from mqtt_core._properties import NO_PROPERTIES, Properties
from mqtt_core._topics import Topic

_RETAIN: Final = 0x01
_DUP: Final = 0x08
_QOS_0: Final = 0x30
_QOS_1: Final = 0x32
_QOS_2: Final = 0x34
_BYTE: Final[list[bytes]] = [bytes([value]) for value in range(256)]

MESSAGE_OVERHEAD_BYTES: Final = 200
"""What one message takes in memory beside its topic and payload."""


def encode_remaining_length(length: int) -> bytes:
    """A remaining length in as few bytes as it needs (2.2.3)."""
    if length < 0x80:
        return _BYTE[length]
    encoded = bytearray()
    while True:
        digit = length & 0x7F
        length >>= 7
        if length == 0:
            encoded.append(digit)
            return bytes(encoded)
        encoded.append(digit | 0x80)


@final
@mypyc_attr(acyclic=True)
class Message:
    """One application message: topic, payload, the QoS and RETAIN it was published with.

    Made with `payload`, or by the decoder with the bytes it arrived in: `packet`, a whole
    QoS 0 PUBLISH without RETAIN, or `head`, a QoS 1 PUBLISH up to its packet identifier.
    """

    __slots__ = (
        "topic",
        "qos",
        "retain",
        "properties",
        "size_bytes",
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
        properties: Properties = NO_PROPERTIES,
        packet: bytes | None = None,
        payload_at: int = 0,
        head: bytes | None = None,
    ) -> None:
        self.topic: Final = topic
        self.qos: Final = qos
        self.retain: Final = retain
        self.properties: Final = properties
        self._payload = payload
        self._packet = packet
        self._at: Final = payload_at
        self._head = head
        self._head2: bytes | None = None
        # Topic and payload, with what the message takes beside them.
        body = packet if payload is None else payload
        size = len(topic.utf8) + MESSAGE_OVERHEAD_BYTES
        self.size_bytes: Final = size if body is None else size + len(body)

    @property
    def payload(self) -> bytes:
        """The application's bytes."""
        payload = self._payload
        if payload is None:
            packet = self._packet
            assert packet is not None
            payload = packet[self._at :]
            self._payload = payload
        return payload

    def packet(self) -> bytes:
        """The whole PUBLISH at QoS 0, without RETAIN."""
        packet = self._packet
        if packet is None:
            topic = self.topic.utf8
            payload = self.payload
            packet = (
                _BYTE[_QOS_0]
                + encode_remaining_length(2 + len(topic) + len(payload))
                + len(topic).to_bytes(2, "big")
                + topic
                + payload
            )
            self._packet = packet
        return packet

    def head(self, qos: int) -> bytes:
        """The PUBLISH at QoS 1 or 2 up to its packet identifier, without DUP and RETAIN."""
        if qos == 1:
            head = self._head
            if head is None:
                topic = self.topic.utf8
                head = (
                    _BYTE[_QOS_1]
                    + encode_remaining_length(4 + len(topic) + len(self.payload))
                    + len(topic).to_bytes(2, "big")
                    + topic
                )
                self._head = head
            return head
        head = self._head2
        if head is None:
            head = _BYTE[_QOS_2] + self.head(1)[1:]
            self._head2 = head
        return head

    def retained_packet(self) -> bytes:
        """The whole PUBLISH at QoS 0 with RETAIN."""
        return _BYTE[_QOS_0 | _RETAIN] + self.packet()[1:]

    def flagged_head(self, qos: int, dup: bool, retain: bool) -> bytes:
        """`head` with the DUP and RETAIN flags given; made anew at each call."""
        flags = (_DUP if dup else 0) | (_RETAIN if retain else 0)
        return _BYTE[(_QOS_2 if qos == 2 else _QOS_1) | flags] + self.head(1)[1:]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Message)
            and self.topic.utf8 == other.topic.utf8
            and self.payload == other.payload
            and self.qos == other.qos
            and self.retain == other.retain
            and self.properties == other.properties
        )

    def __hash__(self) -> int:
        return hash((self.topic.utf8, self.payload, self.qos, self.retain))

    def __repr__(self) -> str:
        payload = self.payload
        shown = repr(payload) if len(payload) <= 32 else f"<{len(payload)} bytes>"
        return f"Message({self.topic.name!r}, {shown}, qos={self.qos}, retain={self.retain})"


def make_message(topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> Message:
    """A message from text and bytes; the topic name is not checked."""
    return Message(Topic(topic.encode()), payload, qos, retain)
