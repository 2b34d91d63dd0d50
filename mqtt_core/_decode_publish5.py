"""PUBLISH of MQTT 5.0 from bytes (3.3): the way that has to be quick.

One without properties takes the same steps as in 3.1.1. Sections are those of MQTT 5.0.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from mqtt_core._codes import (
    MALFORMED_PACKET,
    MQTT_5,
    PROTOCOL_ERROR,
    PUBLISH,
    QOS_NOT_SUPPORTED,
    RETAIN_NOT_SUPPORTED,
    TOPIC_NAME_INVALID,
)
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._inbound import Inbound
from mqtt_core._message import NEVER, Extras, Message
from mqtt_core._packets import Publish
from mqtt_core._properties import (
    MESSAGE_EXPIRY_INTERVAL,
    NO_PROPERTIES,
    SUBSCRIPTION_IDENTIFIER,
    TOPIC_ALIAS,
    Properties,
    PropertyValue,
    number,
)
from mqtt_core._property_codec import decode_pairs, encode_pairs, property_length
from mqtt_core._reader import Reader
from mqtt_core._reasons import BY_CLIENT
from mqtt_core._topics import Topic, TopicCache, topic_name_fault

_QOS_1: Final = 0x32
_QOS_1_BYTE: Final = b"\x32"
_DUP: Final = 0x08
_QOS_BITS: Final = 0x06
_RETAIN: Final = 0x01

# The checks of topics are those of 3.1.1: their statements here, and the reason to answer with.
# What is no string is malformed; a string that is no topic is invalid as a topic.
NAME_FAULTS: Final[dict[str, tuple[str, int]]] = {
    "MQTT-4.7.3-1": ("MQTT-4.7.3-1", TOPIC_NAME_INVALID),
    "MQTT-3.3.2-2": ("MQTT-3.3.2-2", TOPIC_NAME_INVALID),
    "MQTT-4.7.3-2": ("MQTT-4.7.3-2", MALFORMED_PACKET),
    "MQTT-1.5.3-1": ("MQTT-1.5.4-1", MALFORMED_PACKET),
}


def decode_publish5(
    data: bytes, start: i64, body: i64, end: i64, topics: TopicCache, inbound: Inbound
) -> Publish:
    """PUBLISH (3.3). The message keeps the bytes it came in where they are a layout of ours."""
    first: i64 = data[start]
    at = body + 2
    if at > end:
        raise RemoteProtocolError("packet ends before its topic name", "MQTT-3.3.2-1", int(body))
    stop = at + ((data[body] << 8) | data[body + 1])
    if stop > end:
        raise RemoteProtocolError(
            "topic name runs past the end of the packet", "MQTT-3.3.2-1", int(body)
        )
    utf8 = data[at:stop]
    topic = topics.kept.get(utf8)
    if topic is not None:
        topic.is_warm = True
    elif stop > at:
        topic = topics.find(utf8)
        if topic is None:
            _check_topic_name(utf8, int(at))
            topic = topics.add(utf8)
    flags = first & 0x0F
    if flags & inbound.refused_flags or (body - start > 2 and data[body - 1] == 0):
        raise _frame_error(data, int(start), int(body), inbound)
    if flags & _QOS_BITS == 0:
        if flags & _DUP:
            raise RemoteProtocolError("DUP is set at QoS 0", "MQTT-3.3.1-2", int(start))
        if topic is None or stop >= end or data[stop] != 0:
            return _decode_with_properties(data, start, stop, stop, end, 0, topic, topics, inbound)
        packet = data[start:end]
        if flags:
            packet = b"\x30" + packet[1:]
        return Publish(Message(topic, None, 0, flags != 0, None, packet, int(start - stop - 1)))
    if flags & _QOS_BITS == _QOS_BITS:
        raise RemoteProtocolError("QoS is 3", "MQTT-3.3.1-4", int(start))
    at = stop + 2
    packet_id = 0 if at > end else (data[stop] << 8) | data[stop + 1]
    if packet_id == 0:
        raise identifier_error(at > end, inbound, int(stop))
    if topic is None or at >= end or data[at] != 0:
        return _decode_with_properties(
            data, start, stop, at, end, packet_id, topic, topics, inbound
        )
    head = data[start:stop] if first == _QOS_1 else _QOS_1_BYTE + data[start + 1 : stop]
    qos = (flags >> 1) & 3
    message = Message(topic, None, int(qos), flags & 1 != 0, None, data[at:end], -1, head)
    return Publish(message, packet_id, flags & _DUP != 0)


def _check_topic_name(utf8: bytes, at: int) -> None:
    fault = topic_name_fault(utf8)
    if fault is not None:
        statement, reason = NAME_FAULTS[fault[1]]
        raise RemoteProtocolError(fault[0], statement, at, reason)


def _frame_error(data: bytes, start: int, body: int, inbound: Inbound) -> RemoteProtocolError:
    """The error for a length of too many bytes, or flags that the peer was told not to use."""
    first = data[start]
    if body - start > 2 and data[body - 1] == 0:
        return _padded(start)
    if first & _QOS_BITS == _QOS_BITS:
        return RemoteProtocolError("QoS is 3", "MQTT-3.3.1-4", start)
    if first & _QOS_BITS & inbound.refused_flags:
        statement = "MQTT-3.2.2-11" if inbound.sender == BY_CLIENT else "P5-3.3.4-1"
        return RemoteProtocolError("QoS is above Maximum QoS", statement, start, QOS_NOT_SUPPORTED)
    return RemoteProtocolError(
        "RETAIN is set and not available", "MQTT-3.2.2-14", start, RETAIN_NOT_SUPPORTED
    )


def _padded(start: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        "remaining length has more bytes than it needs", "MQTT-1.5.5-1", start + 1
    )


def check_length(data: bytes, start: int, body: int) -> None:
    """Refuse a remaining length in more bytes than it needs (1.5.5)."""
    if body - start > 2 and data[body - 1] == 0:
        raise _padded(start)


def identifier_error(is_cut: bool, inbound: Inbound, at: int) -> RemoteProtocolError:
    """The error for a packet identifier that is not there, or 0 (2.2.1)."""
    statement = "MQTT-2.2.1-3" if inbound.sender == BY_CLIENT else "MQTT-2.2.1-4"
    if is_cut:
        return RemoteProtocolError("packet ends before its packet identifier", statement, at)
    return RemoteProtocolError("packet identifier is 0", statement, at, PROTOCOL_ERROR)


def _decode_with_properties(
    data: bytes,
    start: i64,
    stop: i64,
    at: i64,
    end: i64,
    packet_id: int,
    topic: Topic | None,
    topics: TopicCache,
    inbound: Inbound,
) -> Publish:
    """A PUBLISH with properties, or without a topic name, which ends at `stop`.

    Its properties begin at `at` with their length.
    """
    offset = int(at)
    own = NO_PROPERTIES
    expiry_s = NEVER
    others = 0
    if at + 4 <= end and data[at] == 3 and data[at + 1] == TOPIC_ALIAS and data[at + 3]:
        # A topic alias and nothing else, from one who wants to be quick.
        pairs: Properties = ((TOPIC_ALIAS, (data[at + 2] << 8) | data[at + 3]),)
        own = pairs
        wire_at = offset + 1
        payload_at = offset + 4
    else:
        reader = Reader(data, offset, int(end), MQTT_5)
        length = property_length(reader, inbound.limits)
        wire_at = reader.at
        payload_at = wire_at + length
        pairs = decode_pairs(reader, length, PUBLISH, inbound.limits) if length else NO_PROPERTIES
        found: list[tuple[int, PropertyValue]] = []  # thousands, if the peer wants to do harm
        for pair in pairs:
            identifier = pair[0]
            if identifier in (TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER):
                found.append(pair)
            elif identifier == MESSAGE_EXPIRY_INTERVAL:
                expiry_s = number(pairs, MESSAGE_EXPIRY_INTERVAL, NEVER)
            else:
                others += 1
        own = tuple(found)
    if own:
        topic = _apply_own(own, topic, topics, inbound, offset)
    if topic is None:
        raise RemoteProtocolError(
            "topic name is empty, and there is no alias", "P5-3.3.2-1", int(start), PROTOCOL_ERROR
        )
    first = data[start]
    qos = (first >> 1) & 3
    retain = first & _RETAIN != 0
    dup = first & _DUP != 0
    extras: Extras | None = None
    if own or expiry_s >= 0:
        if others or expiry_s >= 0:
            extras = Extras(_encode_others(pairs) if others else b"", expiry_s)
        message = Message(topic, data[payload_at:end], qos, retain, extras)
        return Publish(message, packet_id, dup, own)
    # It can go on to others as it came.
    extras = Extras(data[wire_at:payload_at])
    if qos == 0:
        packet = data[start:end]
        if retain:
            packet = b"\x30" + packet[1:]
        message = Message(topic, None, 0, retain, extras, packet, int(start) - payload_at)
    else:
        head = _QOS_1_BYTE + data[start + 1 : stop]
        message = Message(topic, None, qos, retain, extras, data[at:end], offset - payload_at, head)
    return Publish(message, packet_id, dup)


def _encode_others(pairs: Properties) -> bytes:
    """The properties that travel with a message, without its expiry, as on the wire."""
    others: list[tuple[int, PropertyValue]] = []
    for pair in pairs:
        if pair[0] not in (TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER, MESSAGE_EXPIRY_INTERVAL):
            others.append(pair)
    return encode_pairs(tuple(others), PUBLISH)


def _apply_own(
    own: Properties, topic: Topic | None, topics: TopicCache, inbound: Inbound, at: int
) -> Topic | None:
    """Apply the properties of a delivery; returns the topic that is meant."""
    is_from_client = inbound.sender == BY_CLIENT
    for identifier, value in own:
        if identifier == TOPIC_ALIAS:
            assert isinstance(value, int)
            if topic is not None:
                inbound.aliases.set(value, topic, at, is_from_client)
            else:
                topic = inbound.aliases.topic(value, at, is_from_client, topics)
        elif is_from_client:
            raise RemoteProtocolError(
                "a client's PUBLISH has a subscription identifier",
                "MQTT-3.3.4-6",
                at,
                PROTOCOL_ERROR,
            )
    return topic
