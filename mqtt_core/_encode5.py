"""Packets of MQTT 5.0 to bytes, in the order of `_decode5`; what is forbidden is refused.

Sections are those of MQTT 5.0. `encode_fitting` is for packets with problem information, which
leave it out where the receiver has not asked for it or has no room.
"""

from __future__ import annotations

from mqtt_core._codes import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    LARGEST_REMAINING_LENGTH,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    SUCCESS,
    UNSUBACK,
    UNSUBSCRIBE,
)
from mqtt_core._errors import LocalProtocolError
from mqtt_core._fields import (
    binary_field,
    frame,
    packet_id_bytes,
    text_field,
    topic_filter_bytes,
    topic_name_bytes,
)
from mqtt_core._message import head_with
from mqtt_core._packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from mqtt_core._properties import (
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    REASON_STRING,
    USER_PROPERTY,
    WILL,
    Properties,
    binary,
    text,
)
from mqtt_core._property_codec import encode_pairs, encode_properties
from mqtt_core._reasons import BY_BOTH, SENDERS
from mqtt_core._topics import shared_filter_fault, topic_name_fault


def encode5(packet: Packet, senders: int = BY_BOTH) -> bytes:
    """Any packet as MQTT 5.0 bytes, with reason codes that one of `senders` may send.

    Raises `LocalProtocolError` for what MQTT forbids.
    """
    if isinstance(packet, Publish):
        return _encode_publish(packet)
    if isinstance(packet, PubAck):
        return _encode_ack(
            0x40, PUBACK, packet.packet_id, packet.reason, packet.properties, senders
        )
    if isinstance(packet, PubRec):
        return _encode_ack(
            0x50, PUBREC, packet.packet_id, packet.reason, packet.properties, senders
        )
    if isinstance(packet, PubRel):  # [MQTT-3.6.1-1]
        return _encode_ack(
            0x62, PUBREL, packet.packet_id, packet.reason, packet.properties, senders
        )
    if isinstance(packet, PubComp):
        return _encode_ack(
            0x70, PUBCOMP, packet.packet_id, packet.reason, packet.properties, senders
        )
    if isinstance(packet, Connect):
        return _encode_connect(packet)
    if isinstance(packet, ConnAck):
        return _encode_connack(packet)
    if isinstance(packet, Subscribe):
        return _encode_subscribe(packet)
    if isinstance(packet, SubAck):
        return _encode_answers(0x90, SUBACK, packet.packet_id, packet.reasons, packet.properties)
    if isinstance(packet, Unsubscribe):
        return _encode_unsubscribe(packet)
    if isinstance(packet, UnsubAck):
        return _encode_answers(0xB0, UNSUBACK, packet.packet_id, packet.reasons, packet.properties)
    if isinstance(packet, PingReq):
        return b"\xc0\x00"
    if isinstance(packet, PingResp):
        return b"\xd0\x00"
    if isinstance(packet, Disconnect):
        return _encode_disconnect(packet, senders)
    if isinstance(packet, Auth):
        return _encode_auth(packet, senders)
    raise LocalProtocolError(f"{type(packet).__name__} is not a packet")


def _reason_byte(reason: int, kind: int, senders: int) -> bytes:
    """A reason code of the packet's list (2.4)."""
    if not 0 <= reason <= 0xFF or not SENDERS[kind][reason] & senders:
        # [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
        # [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1] [MQTT-3.15.2-1]
        raise LocalProtocolError(f"reason code {reason} may not be sent in this packet")
    return bytes([reason])


def _encode_publish(packet: Publish) -> bytes:
    """PUBLISH (3.3), with its topic name whether or not it has an alias."""
    message = packet.message
    if not 0 <= message.qos <= 2:  # [MQTT-3.3.1-4]
        raise LocalProtocolError(f"QoS is {message.qos}")
    if message.qos:
        packet_id_bytes(packet.packet_id)  # [MQTT-2.2.1-3] [MQTT-2.2.1-4]
    elif packet.dup or packet.packet_id:  # [MQTT-3.3.1-2] [MQTT-2.2.1-2]
        raise LocalProtocolError("a QoS 0 PUBLISH has neither DUP nor a packet identifier")
    return encode_publish5(packet, True)


def encode_publish5(packet: Publish, has_topic: bool) -> bytes:
    """PUBLISH (3.3); one whose alias is known may go without its topic name."""
    message = packet.message
    fault = topic_name_fault(message.topic.utf8)
    if fault is not None:  # [MQTT-3.3.2-1] [MQTT-3.3.2-2]
        raise LocalProtocolError(fault[0])
    own = encode_pairs(packet.properties, PUBLISH)
    size = len(message.topic.utf8) + len(message.wire_properties) + len(own) + len(message.payload)
    if size + 13 > LARGEST_REMAINING_LENGTH:
        raise LocalProtocolError("packet is over 268,435,455 bytes")
    return (
        head_with(
            message,
            message.qos,
            packet.dup,
            message.retain,
            packet.packet_id,
            message.expiry_s,
            own,
            has_topic,
        )
        + message.payload
    )


def _encode_ack(
    first: int, kind: int, packet_id: int, reason: int, properties: Properties, senders: int
) -> bytes:
    """PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7), as short as they may be."""
    body = packet_id_bytes(packet_id)  # [MQTT-2.2.1-5]
    code = _reason_byte(reason, kind, senders)
    if properties:
        body += code + encode_properties(properties, kind)
    elif reason != SUCCESS:
        body += code
    return frame(first, body)


def _encode_connect(packet: Connect) -> bytes:
    """CONNECT (3.1)."""
    if not 0 <= packet.keep_alive_s <= 65_535:
        raise LocalProtocolError(f"keep alive {packet.keep_alive_s} is not within 0 to 65,535")
    properties = packet.properties
    if binary(properties, AUTHENTICATION_DATA) is not None:
        if text(properties, AUTHENTICATION_METHOD) is None:
            raise LocalProtocolError("authentication data needs an authentication method")
    flags = 0x02 if packet.clean_start else 0
    payload = text_field(packet.client_id, "client identifier")  # [MQTT-3.1.3-3] [MQTT-3.1.3-4]
    will = packet.will
    if will is not None:  # [MQTT-3.1.2-9]; without one the bits stay 0  [MQTT-3.1.2-11]
        if not 0 <= will.qos <= 2:  # [MQTT-3.1.2-12]
            raise LocalProtocolError(f"will QoS is {will.qos}")
        flags |= 0x04 | (will.qos << 3) | (0x20 if will.retain else 0)  # [MQTT-3.1.2-13]
        payload += _will_fields(will)
    if packet.username is not None:  # [MQTT-3.1.2-16] [MQTT-3.1.2-17]
        flags |= 0x80
        payload += text_field(packet.username, "user name")  # [MQTT-3.1.3-12]
    if packet.password is not None:  # [MQTT-3.1.2-18] [MQTT-3.1.2-19]
        flags |= 0x40
        payload += binary_field(packet.password, "password")
    # The order of the payload is that of the standard.  [MQTT-3.1.3-1]
    header = b"\0\4MQTT\5" + bytes([flags]) + packet.keep_alive_s.to_bytes(2, "big")
    return frame(0x10, header + encode_properties(properties, CONNECT) + payload)


def _will_fields(will: Will) -> bytes:
    return (
        encode_properties(will.properties, WILL)
        + binary_field(topic_name_bytes(will.topic), "will topic")  # [MQTT-3.1.3-11]
        + binary_field(will.payload, "will payload")
    )


def _encode_connack(packet: ConnAck) -> bytes:
    """CONNACK (3.2)."""
    code = _reason_byte(packet.reason, CONNACK, BY_BOTH)
    if packet.reason != SUCCESS and packet.session_present:  # [MQTT-3.2.2-6]
        raise LocalProtocolError("a refusal has no session present")
    flags = b"\1" if packet.session_present else b"\0"  # [MQTT-3.2.2-1]
    return frame(0x20, flags + code + encode_properties(packet.properties, CONNACK))


def _encode_subscribe(packet: Subscribe) -> bytes:
    """SUBSCRIBE (3.8)."""
    if not packet.subscriptions:  # [MQTT-3.8.3-2]
        raise LocalProtocolError("SUBSCRIBE needs a topic filter")
    parts = [packet_id_bytes(packet.packet_id), encode_properties(packet.properties, SUBSCRIBE)]
    for subscription in packet.subscriptions:
        utf8 = _filter_bytes(subscription.topic_filter)
        parts.append(binary_field(utf8, "topic filter"))  # [MQTT-3.8.3-1]
        parts.append(bytes([subscription_options(subscription)]))
    return frame(0x82, b"".join(parts))  # [MQTT-3.8.1-1]


def subscription_options(subscription: Subscription) -> int:
    """The options of a subscription as their byte (3.8.3.1). Raises `LocalProtocolError`."""
    if not 0 <= subscription.qos <= 2:
        raise LocalProtocolError(f"requested QoS is {subscription.qos}")
    if not 0 <= subscription.retain_handling <= 2:
        raise LocalProtocolError(f"retain handling is {subscription.retain_handling}")
    options = subscription.qos | (subscription.retain_handling << 4)  # [MQTT-3.8.3-5]
    if subscription.retain_as_published:
        options |= 8
    if subscription.no_local:
        if subscription.topic_filter.startswith("$share/"):  # [MQTT-3.8.3-4]
            raise LocalProtocolError("no local is not for a shared subscription")
        options |= 4
    return options


def _filter_bytes(topic_filter: str) -> bytes:
    utf8 = topic_filter_bytes(topic_filter)
    fault = shared_filter_fault(utf8)
    if fault is not None:  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        raise LocalProtocolError(fault[0])
    return utf8


def _encode_answers(
    first: int, kind: int, packet_id: int, reasons: tuple[int, ...], properties: Properties
) -> bytes:
    """SUBACK (3.9) and UNSUBACK (3.11)."""
    if not reasons:
        raise LocalProtocolError("there is no reason code")
    parts = [packet_id_bytes(packet_id), encode_properties(properties, kind)]  # [MQTT-2.2.1-6]
    for reason in reasons:
        parts.append(_reason_byte(reason, kind, BY_BOTH))
    return frame(first, b"".join(parts))


def _encode_unsubscribe(packet: Unsubscribe) -> bytes:
    """UNSUBSCRIBE (3.10)."""
    if not packet.topic_filters:  # [MQTT-3.10.3-2]
        raise LocalProtocolError("UNSUBSCRIBE needs a topic filter")
    parts = [packet_id_bytes(packet.packet_id), encode_properties(packet.properties, UNSUBSCRIBE)]
    for topic_filter in packet.topic_filters:
        parts.append(binary_field(_filter_bytes(topic_filter), "topic filter"))  # [MQTT-3.10.3-1]
    return frame(0xA2, b"".join(parts))  # [MQTT-3.10.1-1]


def _encode_disconnect(packet: Disconnect, senders: int) -> bytes:
    """DISCONNECT (3.14), as short as it may be."""
    code = _reason_byte(packet.reason, DISCONNECT, senders)
    if packet.properties:
        return frame(0xE0, code + encode_properties(packet.properties, DISCONNECT))
    return b"\xe0\x00" if packet.reason == SUCCESS else b"\xe0\x01" + code


def _encode_auth(packet: Auth, senders: int) -> bytes:
    """AUTH (3.15)."""
    if text(packet.properties, AUTHENTICATION_METHOD) is None:  # [P5-3.15.2-1]
        raise LocalProtocolError("AUTH needs its authentication method")
    code = _reason_byte(packet.reason, AUTH, senders)
    return frame(0xF0, code + encode_properties(packet.properties, AUTH))


# Problem information


def encode_fitting(
    packet: Packet, senders: int, limit_bytes: int, wants_problem_information: bool
) -> bytes:
    """`encode5` within `limit_bytes`: without the user properties, then without the reason
    string, where they do not fit or were not asked for.

    Raises `LocalProtocolError` for a packet that is too large even so.
    """
    leaves_out = _has_problem_information(packet)
    if leaves_out and not wants_problem_information:  # [MQTT-3.1.2-29]
        if not isinstance(packet, ConnAck | Disconnect):
            packet = without(without(packet, USER_PROPERTY), REASON_STRING)
    data = encode5(packet, senders)
    if leaves_out and len(data) > limit_bytes:
        # [MQTT-3.2.2-20] [MQTT-3.4.2-3] [MQTT-3.5.2-3] [MQTT-3.6.2-3] [MQTT-3.7.2-3]
        # [MQTT-3.9.2-2] [MQTT-3.11.2-2] [MQTT-3.14.2-4] [MQTT-3.15.2-3]
        packet = without(packet, USER_PROPERTY)
        data = encode5(packet, senders)
    if leaves_out and len(data) > limit_bytes:
        # [MQTT-3.2.2-19] [MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.6.2-2] [MQTT-3.7.2-2]
        # [MQTT-3.9.2-1] [MQTT-3.11.2-1] [MQTT-3.14.2-3] [MQTT-3.15.2-2]
        data = encode5(without(packet, REASON_STRING), senders)
    if len(data) > limit_bytes:  # [MQTT-3.1.2-24] [MQTT-3.2.2-15]
        raise LocalProtocolError(
            f"packet of {len(data)} bytes is over the peer's maximum of {limit_bytes}"
        )
    return data


def _has_problem_information(packet: Packet) -> bool:
    return isinstance(
        packet,
        ConnAck | PubAck | PubRec | PubRel | PubComp | SubAck | UnsubAck | Disconnect | Auth,
    )


def without(packet: Packet, identifier: int) -> Packet:
    """A packet that may have problem information, without the properties of that identifier."""
    if isinstance(packet, PubAck):
        return PubAck(packet.packet_id, packet.reason, _others(packet.properties, identifier))
    if isinstance(packet, PubRec):
        return PubRec(packet.packet_id, packet.reason, _others(packet.properties, identifier))
    if isinstance(packet, PubRel):
        return PubRel(packet.packet_id, packet.reason, _others(packet.properties, identifier))
    if isinstance(packet, PubComp):
        return PubComp(packet.packet_id, packet.reason, _others(packet.properties, identifier))
    if isinstance(packet, SubAck):
        return SubAck(packet.packet_id, packet.reasons, _others(packet.properties, identifier))
    if isinstance(packet, UnsubAck):
        return UnsubAck(packet.packet_id, packet.reasons, _others(packet.properties, identifier))
    if isinstance(packet, Disconnect):
        return Disconnect(packet.reason, _others(packet.properties, identifier))
    if isinstance(packet, Auth):
        return Auth(packet.reason, _others(packet.properties, identifier))
    assert isinstance(packet, ConnAck)
    return ConnAck(packet.session_present, packet.reason, _others(packet.properties, identifier))


def _others(properties: Properties, identifier: int) -> Properties:
    return tuple(pair for pair in properties if pair[0] != identifier)
