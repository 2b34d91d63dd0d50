"""Packets of MQTT 3.1 and 3.1.1 to bytes, in the order of `_decode`; and `encode` for any.

`encode` refuses with `LocalProtocolError` what MQTT forbids, rather than send it: strings over
65,535 bytes, packet identifier 0, a will that is not there. Sections are those of MQTT 3.1.1.
"""

from __future__ import annotations

from typing import Final

from mqtt_core._codes import (
    CONNACK_RETURN_CODES,
    LARGEST_REMAINING_LENGTH,
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    SUBACK_FAILURE,
)
from mqtt_core._encode5 import encode5
from mqtt_core._errors import LocalProtocolError
from mqtt_core._fields import (
    binary_field,
    frame,
    packet_id_bytes,
    text_field,
    topic_filter_bytes,
    topic_name_bytes,
)
from mqtt_core._packets import (
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
)
from mqtt_core._topics import topic_name_fault

PINGREQ_BYTES: Final = b"\xc0\x00"
PINGRESP_BYTES: Final = b"\xd0\x00"
DISCONNECT_BYTES: Final = b"\xe0\x00"


def encode_connect(packet: Connect) -> bytes:
    """CONNECT (3.1)."""
    if packet.level != MQTT_3_1_1 and packet.level != MQTT_3_1:
        raise LocalProtocolError(f"protocol level {packet.level} is not supported")
    if not packet.client_id and (packet.level == MQTT_3_1 or not packet.clean_start):
        # [v3 MQTT-3.1.3-7]
        raise LocalProtocolError("an empty client identifier needs a clean session")
    if packet.password is not None and packet.username is None:  # [v3 MQTT-3.1.2-22]
        raise LocalProtocolError("a password needs a user name")
    if not 0 <= packet.keep_alive_s <= 65_535:
        raise LocalProtocolError(f"keep alive {packet.keep_alive_s} is not within 0 to 65,535")
    flags = 0x02 if packet.clean_start else 0
    payload = text_field(packet.client_id, "client identifier")  # [v3 MQTT-3.1.3-3]
    will = packet.will
    if will is not None:  # [v3 MQTT-3.1.2-9]; without one the bits stay 0  [v3 MQTT-3.1.2-11]
        if not 0 <= will.qos <= 2:  # [v3 MQTT-3.1.2-14]
            raise LocalProtocolError(f"will QoS is {will.qos}")
        flags |= 0x04 | (will.qos << 3) | (0x20 if will.retain else 0)
        payload += binary_field(topic_name_bytes(will.topic), "will topic")
        payload += binary_field(will.payload, "will message")
    if packet.username is not None:  # [v3 MQTT-3.1.2-18] [v3 MQTT-3.1.2-19]
        flags |= 0x80
        payload += text_field(packet.username, "user name")
    if packet.password is not None:  # [v3 MQTT-3.1.2-20] [v3 MQTT-3.1.2-21]
        flags |= 0x40
        payload += binary_field(packet.password, "password")
    name = b"\0\4MQTT" if packet.level == MQTT_3_1_1 else b"\0\6MQIsdp"
    header = name + bytes([packet.level, flags]) + packet.keep_alive_s.to_bytes(2, "big")
    return frame(0x10, header + payload)


def encode_connack(packet: ConnAck) -> bytes:
    """CONNACK (3.2). A reason without a return code of 3.1.1 cannot be sent."""
    code = CONNACK_RETURN_CODES.get(packet.reason)
    if code is None:  # [v3 MQTT-3.2.2-6]
        raise LocalProtocolError(f"CONNACK has no return code for reason {packet.reason}")
    if code and packet.session_present:  # [v3 MQTT-3.2.2-4]
        raise LocalProtocolError("a refusal has no session present")
    return bytes([0x20, 2, 1 if packet.session_present else 0, code])


def encode_publish(packet: Publish) -> bytes:
    """PUBLISH (3.3)."""
    message = packet.message
    fault = topic_name_fault(message.topic.utf8)
    if fault is not None:  # [v3 MQTT-3.3.2-2]
        raise LocalProtocolError(fault[0])
    if 7 + len(message.topic.utf8) + len(message.payload) > LARGEST_REMAINING_LENGTH:
        raise LocalProtocolError("packet is over 268,435,455 bytes")
    if message.qos == 0:
        if packet.dup or packet.packet_id:  # [v3 MQTT-3.3.1-2] [v3 MQTT-2.3.1-5]
            raise LocalProtocolError("a QoS 0 PUBLISH has neither DUP nor a packet identifier")
        return message.retained_packet() if message.retain else message.packet()
    if not 1 <= message.qos <= 2:  # [v3 MQTT-3.3.1-4]
        raise LocalProtocolError(f"QoS is {message.qos}")
    head = message.flagged_head(message.qos, packet.dup, message.retain)
    return head + packet_id_bytes(packet.packet_id) + message.payload


def encode_subscribe(packet: Subscribe) -> bytes:
    """SUBSCRIBE (3.8)."""
    if not packet.subscriptions:  # [v3 MQTT-3.8.3-3]
        raise LocalProtocolError("SUBSCRIBE needs a topic filter")
    parts = [packet_id_bytes(packet.packet_id)]
    for subscription in packet.subscriptions:
        if not 0 <= subscription.qos <= 2:  # [v3 MQTT-3.8.3-4]
            raise LocalProtocolError(f"requested QoS is {subscription.qos}")
        if _has_options(subscription):
            raise LocalProtocolError("MQTT 3.1.1 has no subscription options but the QoS")
        utf8 = topic_filter_bytes(subscription.topic_filter)
        parts.append(binary_field(utf8, "topic filter"))
        parts.append(bytes([subscription.qos]))
    return frame(0x82, b"".join(parts))


def _has_options(subscription: Subscription) -> bool:
    return (
        subscription.no_local
        or subscription.retain_as_published
        or subscription.retain_handling != 0
    )


def encode_suback(packet: SubAck) -> bytes:
    """SUBACK (3.9); in 3.1.1 every failure is 0x80."""
    if not packet.reasons:
        raise LocalProtocolError("SUBACK needs a return code")
    if min(packet.reasons) < 0:
        raise LocalProtocolError(f"SUBACK reason is {min(packet.reasons)}")
    codes = [reason if reason <= 2 else SUBACK_FAILURE for reason in packet.reasons]
    return frame(0x90, packet_id_bytes(packet.packet_id) + bytes(codes))  # [v3 MQTT-3.9.3-2]


def encode_unsubscribe(packet: Unsubscribe) -> bytes:
    """UNSUBSCRIBE (3.10)."""
    if not packet.topic_filters:  # [v3 MQTT-3.10.3-2]
        raise LocalProtocolError("UNSUBSCRIBE needs a topic filter")
    parts = [packet_id_bytes(packet.packet_id)]
    for topic_filter in packet.topic_filters:
        parts.append(binary_field(topic_filter_bytes(topic_filter), "topic filter"))
    return frame(0xA2, b"".join(parts))


def encode(packet: Packet, level: int = MQTT_3_1_1) -> bytes:
    """Any packet as bytes of a protocol level; CONNECT says its level itself.

    What a version has no place for is left out: in 3.1.1 properties, and reasons but in CONNACK
    and SUBACK. Raises `LocalProtocolError` for what MQTT forbids.
    """
    if isinstance(packet, Connect):
        return encode5(packet) if packet.level == MQTT_5 else encode_connect(packet)
    if level == MQTT_5:
        return encode5(packet)
    if isinstance(packet, Publish):
        return encode_publish(packet)
    if isinstance(packet, PubAck):
        return b"\x40\x02" + packet_id_bytes(packet.packet_id)
    if isinstance(packet, PubRec):
        return b"\x50\x02" + packet_id_bytes(packet.packet_id)
    if isinstance(packet, PubRel):
        return b"\x62\x02" + packet_id_bytes(packet.packet_id)  # [v3 MQTT-3.6.1-1]
    if isinstance(packet, PubComp):
        return b"\x70\x02" + packet_id_bytes(packet.packet_id)
    if isinstance(packet, ConnAck):
        return encode_connack(packet)
    if isinstance(packet, Subscribe):
        return encode_subscribe(packet)
    if isinstance(packet, SubAck):
        return encode_suback(packet)
    if isinstance(packet, Unsubscribe):
        return encode_unsubscribe(packet)
    if isinstance(packet, UnsubAck):
        return b"\xb0\x02" + packet_id_bytes(packet.packet_id)
    if isinstance(packet, PingReq):
        return PINGREQ_BYTES
    if isinstance(packet, PingResp):
        return PINGRESP_BYTES
    if isinstance(packet, Disconnect):
        return DISCONNECT_BYTES
    raise LocalProtocolError(f"{type(packet).__name__} is not a packet of MQTT 3.1.1")
