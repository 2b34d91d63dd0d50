"""Packets of MQTT 5.0 from bytes, in the order of `_decode`: one function for each type.

Sections are those of MQTT 5.0. PUBLISH is in `_decode_publish5`, what is the same in both versions
in `_decode`.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MALFORMED_PACKET,
    MQTT_5,
    PROTOCOL_ERROR,
    PUBACK,
    PUBREC,
    PUBREL,
    QUOTA_EXCEEDED,
    SUBACK,
    SUBSCRIBE,
    SUCCESS,
    TOPIC_FILTER_INVALID,
    UNSUBACK,
    UNSUBSCRIBE,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mqtt_core._decode_publish5 import NAME_FAULTS, identifier_error
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._inbound import Inbound
from mqtt_core._packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PubAck,
    PubComp,
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
    NO_PROPERTIES,
    REASON_STRING,
    SESSION_EXPIRY_INTERVAL,
    USER_PROPERTY,
    WILL,
    Properties,
    number,
)
from mqtt_core._property_codec import (
    PropertyLimits,
    decode_properties,
)
from mqtt_core._reader import UNPARSABLE, Reader
from mqtt_core._reasons import BY_CLIENT, REASON_STATEMENTS, SENDERS
from mqtt_core._topics import (
    SHARE_PREFIX,
    shared_filter_fault,
    topic_filter_fault,
    topic_name_fault,
)

# The checks of topics are those of 3.1.1: their statements here, and the reason to answer with.
_FILTER_FAULTS: Final[dict[str, tuple[str, int]]] = {
    "MQTT-4.7.3-1": ("MQTT-4.7.3-1", TOPIC_FILTER_INVALID),
    "MQTT-4.7.3-2": ("MQTT-4.7.3-2", MALFORMED_PACKET),
    "MQTT-3.8.3-1": ("", MALFORMED_PACKET),
    "MQTT-4.7.1-2": ("MQTT-4.7.1-1", TOPIC_FILTER_INVALID),
    "MQTT-4.7.1-3": ("MQTT-4.7.1-2", TOPIC_FILTER_INVALID),
}


def decode_ack5(data: bytes, body: int, end: int, kind: int, inbound: Inbound) -> Packet:
    """PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7): reason and properties may be left out."""
    reader = Reader(data, body, end, MQTT_5)
    packet_id = _answered_id(reader, "MQTT-2.2.1-5")
    reason = SUCCESS if reader.is_at_end else _decode_reason(reader, kind, inbound)
    properties = NO_PROPERTIES
    if not reader.is_at_end:
        properties = _decode_problem(reader, kind, inbound)
        reader.finish()
    if kind == PUBACK:
        return PubAck(packet_id, reason, properties)
    if kind == PUBREC:
        return PubRec(packet_id, reason, properties)
    if kind == PUBREL:
        return PubRel(packet_id, reason, properties)
    return PubComp(packet_id, reason, properties)


def _answered_id(reader: Reader, statement: str) -> int:
    at = reader.at
    packet_id = reader.two_bytes("packet identifier")
    if packet_id == 0:
        raise RemoteProtocolError("packet identifier is 0", statement, at, PROTOCOL_ERROR)
    return packet_id


def _decode_reason(reader: Reader, kind: int, inbound: Inbound) -> int:
    at = reader.at
    reason = reader.byte("reason code")
    if not SENDERS[kind][reason] & inbound.sender:
        raise RemoteProtocolError(
            f"reason code is 0x{reason:02X}", REASON_STATEMENTS[kind], at, PROTOCOL_ERROR
        )
    return reason


def _decode_problem(reader: Reader, kind: int, inbound: Inbound) -> Properties:
    """Properties that may have problem information, where a client has asked for none."""
    at = reader.at
    properties = decode_properties(reader, kind, inbound.limits)
    if properties and not inbound.takes_problem_information:
        for identifier, _ in properties:
            if identifier in (REASON_STRING, USER_PROPERTY):  # [P5-3.1.2-10]
                raise RemoteProtocolError(
                    "problem information that was not asked for",
                    "MQTT-3.1.2-29",
                    at,
                    PROTOCOL_ERROR,
                )
    return properties


# CONNECT and CONNACK


@final
class ConnectHeader:
    """What CONNECT has before its payload: flags, keep alive and properties (3.1.2)."""

    __slots__ = ("flags", "keep_alive_s", "properties")

    def __init__(self, flags: int, keep_alive_s: int, properties: Properties) -> None:
        self.flags: Final = flags
        self.keep_alive_s: Final = keep_alive_s
        self.properties: Final = properties


def decode_connect_header5(reader: Reader, limits: PropertyLimits) -> ConnectHeader:
    """CONNECT (3.1) from behind the protocol version up to its payload."""
    at = reader.at
    flags = reader.byte("CONNECT flags", "MQTT-3.1.4-1")
    _check_connect_flags(flags, at)
    keep_alive_s = reader.two_bytes("keep alive", "MQTT-3.1.4-1")
    at = reader.at
    properties = decode_properties(reader, CONNECT, limits)
    _check_authentication(properties, at)
    return ConnectHeader(flags, keep_alive_s, properties)


def decode_connect5(reader: Reader, header: ConnectHeader, limits: PropertyLimits) -> Connect:
    """CONNECT (3.1) from its payload on, in the order of the fields.  [MQTT-3.1.3-1]"""
    flags = header.flags
    client_id = reader.text(
        "client identifier", "MQTT-3.1.3-3" if reader.is_at_end else "MQTT-3.1.3-4"
    )
    will = _decode_will(reader, flags, limits) if flags & 0x04 else None
    username: str | None = None
    password: bytes | None = None
    if flags & 0x80:
        statement = "MQTT-3.1.2-17" if reader.is_at_end else "MQTT-3.1.3-12"
        username = reader.text("user name", statement)
    if flags & 0x40:
        password = reader.binary("password", "MQTT-3.1.2-19")
    if not flags & 0x80:
        reader.finish("MQTT-3.1.2-16")
    elif not flags & 0x40:
        reader.finish("MQTT-3.1.2-18")
    else:
        reader.finish("MQTT-3.1.4-1")
    clean_start = flags & 0x02 != 0
    return Connect(
        client_id,
        clean_start,
        header.keep_alive_s,
        will,
        username,
        password,
        MQTT_5,
        header.properties,
    )


def _check_connect_flags(flags: int, at: int) -> None:
    """The byte of CONNECT flags (3.1.2.3)."""
    if flags & 0x01:
        raise RemoteProtocolError("reserved CONNECT flag is set", "MQTT-3.1.2-3", at)
    if not flags & 0x04:
        if flags & 0x18:
            raise RemoteProtocolError("will QoS without a will", "MQTT-3.1.2-11", at)
        if flags & 0x20:
            raise RemoteProtocolError("will retain without a will", "MQTT-3.1.2-13", at)
    elif flags & 0x18 == 0x18:
        raise RemoteProtocolError("will QoS is 3", "MQTT-3.1.2-12", at)


def _check_authentication(properties: Properties, at: int) -> None:
    has_data = False
    for identifier, _ in properties:
        if identifier == AUTHENTICATION_METHOD:
            return
        if identifier == AUTHENTICATION_DATA:
            has_data = True
    if has_data:
        raise RemoteProtocolError(
            "authentication data without a method", "P5-3.1.2-12", at, PROTOCOL_ERROR
        )


def _decode_will(reader: Reader, flags: int, limits: PropertyLimits) -> Will:
    if reader.is_at_end:
        raise RemoteProtocolError("will is missing", "MQTT-3.1.2-9", reader.at)
    properties = decode_properties(reader, WILL, limits)
    at = reader.at
    topic = reader.binary("will topic", "MQTT-3.1.2-9")
    fault = topic_name_fault(topic)
    if fault is not None:
        statement, reason = NAME_FAULTS[fault[1]]
        if statement == "MQTT-1.5.4-1":
            statement = "MQTT-3.1.3-11"
        elif statement == "MQTT-3.3.2-2":
            statement = "MQTT-4.7.0-1"
        raise RemoteProtocolError("will " + fault[0], statement, at, reason)
    payload = reader.binary("will payload", "MQTT-3.1.2-9")
    return Will(topic.decode(), payload, (flags >> 3) & 3, flags & 0x20 != 0, properties)


def decode_connack5(data: bytes, body: int, end: int, inbound: Inbound) -> ConnAck:
    """CONNACK (3.2)."""
    if data[body:end] == b"\0\1":
        # What a server says that knows MQTT 3.1.1 and no later version.
        return ConnAck(False, UNSUPPORTED_PROTOCOL_VERSION)
    reader = Reader(data, body, end, MQTT_5)
    flags = reader.byte("acknowledge flags")
    if flags > 1:
        raise RemoteProtocolError("reserved CONNACK flags are set", "MQTT-3.2.2-1", body)
    reason = _decode_reason(reader, CONNACK, inbound)
    if flags and reason != SUCCESS:
        raise RemoteProtocolError(
            "session present in a refusal", "MQTT-3.2.2-6", body, PROTOCOL_ERROR
        )
    properties = decode_properties(reader, CONNACK, inbound.limits)
    reader.finish()
    return ConnAck(flags == 1, reason, properties)


# SUBSCRIBE and UNSUBSCRIBE


def decode_subscribe5(data: bytes, body: int, end: int, inbound: Inbound) -> Subscribe:
    """SUBSCRIBE (3.8)."""
    reader = Reader(data, body, end, MQTT_5)
    packet_id = _request_id(reader, inbound)
    properties = decode_properties(reader, SUBSCRIBE, inbound.limits)
    subscriptions: list[Subscription] = []
    while not reader.is_at_end:
        subscriptions.append(_decode_subscription(reader))
        if len(subscriptions) > inbound.max_filters:
            raise _too_many("SUBSCRIBE", inbound, reader.at)
    if not subscriptions:
        raise RemoteProtocolError(
            "SUBSCRIBE has no topic filter", "MQTT-3.8.3-2", end, PROTOCOL_ERROR
        )
    return Subscribe(packet_id, tuple(subscriptions), properties)


def _decode_subscription(reader: Reader) -> Subscription:
    """A topic filter and its options (3.8.3.1)."""
    topic_filter = _topic_filter(reader, "MQTT-3.8.3-1")
    at = reader.at
    options = reader.byte("subscription options")
    if options & 0xC0:
        raise RemoteProtocolError("reserved subscription options are set", "MQTT-3.8.3-5", at)
    qos = options & 3
    if qos == 3:
        raise RemoteProtocolError("requested QoS is 3", "P5-3.8.3-2", at, PROTOCOL_ERROR)
    handling = options >> 4
    if handling == 3:
        raise RemoteProtocolError("retain handling is 3", "P5-3.8.3-3", at, PROTOCOL_ERROR)
    no_local = options & 4 != 0
    if no_local and topic_filter.startswith("$share/"):
        raise RemoteProtocolError(
            "no local on a shared subscription", "MQTT-3.8.3-4", at, PROTOCOL_ERROR
        )
    return Subscription(topic_filter, qos, no_local, options & 8 != 0, handling)


def decode_unsubscribe5(data: bytes, body: int, end: int, inbound: Inbound) -> Unsubscribe:
    """UNSUBSCRIBE (3.10)."""
    reader = Reader(data, body, end, MQTT_5)
    packet_id = _request_id(reader, inbound)
    properties = decode_properties(reader, UNSUBSCRIBE, inbound.limits)
    topic_filters: list[str] = []
    while not reader.is_at_end:
        topic_filters.append(_topic_filter(reader, "MQTT-3.10.3-1"))
        if len(topic_filters) > inbound.max_filters:
            raise _too_many("UNSUBSCRIBE", inbound, reader.at)
    if not topic_filters:
        raise RemoteProtocolError(
            "UNSUBSCRIBE has no topic filter", "MQTT-3.10.3-2", end, PROTOCOL_ERROR
        )
    return Unsubscribe(packet_id, tuple(topic_filters), properties)


def _request_id(reader: Reader, inbound: Inbound) -> int:
    at = reader.at
    packet_id = reader.two_bytes("packet identifier", "MQTT-2.2.1-3")
    if packet_id == 0:
        raise identifier_error(False, inbound, at)
    return packet_id


def _topic_filter(reader: Reader, statement: str) -> str:
    at = reader.at
    topic_filter = reader.binary("topic filter", statement)
    fault = topic_filter_fault(topic_filter)
    if fault is not None:
        cited, reason = _FILTER_FAULTS[fault[1]]
        raise RemoteProtocolError(fault[0], cited or statement, at, reason)
    if topic_filter.startswith(SHARE_PREFIX):
        fault = shared_filter_fault(topic_filter)
        if fault is not None:
            raise RemoteProtocolError(fault[0], fault[1], at, TOPIC_FILTER_INVALID)
    return topic_filter.decode()


def _too_many(name: str, inbound: Inbound, at: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"{name} has more than {inbound.max_filters} topic filters", "", at, QUOTA_EXCEEDED
    )


def decode_suback5(data: bytes, body: int, end: int, inbound: Inbound) -> SubAck:
    """SUBACK (3.9)."""
    reader = Reader(data, body, end, MQTT_5)
    packet_id = _answered_id(reader, "MQTT-2.2.1-6")
    properties = _decode_problem(reader, SUBACK, inbound)
    return SubAck(packet_id, _decode_reasons(reader, SUBACK, inbound), properties)


def decode_unsuback5(data: bytes, body: int, end: int, inbound: Inbound) -> UnsubAck:
    """UNSUBACK (3.11)."""
    reader = Reader(data, body, end, MQTT_5)
    packet_id = _answered_id(reader, "MQTT-2.2.1-6")
    properties = _decode_problem(reader, UNSUBACK, inbound)
    return UnsubAck(packet_id, _decode_reasons(reader, UNSUBACK, inbound), properties)


def _decode_reasons(reader: Reader, kind: int, inbound: Inbound) -> tuple[int, ...]:
    reasons: list[int] = []
    while not reader.is_at_end:
        reasons.append(_decode_reason(reader, kind, inbound))
    if not reasons:
        raise RemoteProtocolError("packet has no reason code", UNPARSABLE, reader.at)
    return tuple(reasons)


# DISCONNECT and AUTH


def decode_disconnect5(data: bytes, body: int, end: int, inbound: Inbound) -> Disconnect:
    """DISCONNECT (3.14): reason and properties may be left out."""
    reader = Reader(data, body, end, MQTT_5)
    reason = SUCCESS if reader.is_at_end else _decode_reason(reader, DISCONNECT, inbound)
    if reader.is_at_end:
        return Disconnect(reason)
    at = reader.at
    properties = decode_properties(reader, DISCONNECT, inbound.limits)
    reader.finish()
    expiry_s = number(properties, SESSION_EXPIRY_INTERVAL, -1)
    if expiry_s >= 0:
        if inbound.sender != BY_CLIENT:
            raise RemoteProtocolError(
                "a server's DISCONNECT has a session expiry interval",
                "MQTT-3.14.2-2",
                at,
                PROTOCOL_ERROR,
            )
        if expiry_s > 0 and not inbound.may_set_expiry:
            raise RemoteProtocolError(
                "session expiry interval is set, and was 0 in CONNECT",
                "P5-3.14.2-2",
                at,
                PROTOCOL_ERROR,
            )
    return Disconnect(reason, properties)


def decode_auth5(data: bytes, body: int, end: int, inbound: Inbound) -> Auth:
    """AUTH (3.15). Whether it may come now, and its method, is the matter of the exchange."""
    reader = Reader(data, body, end, MQTT_5)
    if reader.is_at_end:  # success without properties, and so without the method
        return Auth(SUCCESS)
    reason = _decode_reason(reader, AUTH, inbound)
    properties = _decode_problem(reader, AUTH, inbound)
    reader.finish()
    return Auth(reason, properties)
