"""Packets of MQTT 3.1 and 3.1.1 from bytes: one function for each type, forward by an index.

Each is given the buffer, where the body of its packet begins and ends, and checks the end
before every read. Errors carry an index into the buffer, which the connection turns into a
position in the stream. Sections are those of MQTT 3.1.1.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from mqtt_core._codes import (
    AUTH,
    CLIENT_IDENTIFIER_NOT_VALID,
    DISCONNECT,
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    PROTOCOL_ERROR,
    PUBREL,
    QUOTA_EXCEEDED,
    REASON_OF_RETURN_CODE,
    SUBACK_FAILURE,
    SUBSCRIBE,
    TOPIC_FILTER_INVALID,
    TOPIC_NAME_INVALID,
    UNSPECIFIED_ERROR,
    UNSUBSCRIBE,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mqtt_core._errors import ConnectionRefused, RemoteProtocolError
from mqtt_core._message import Message
from mqtt_core._packets import (
    ConnAck,
    Connect,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from mqtt_core._reader import Reader
from mqtt_core._topics import TopicCache, topic_filter_fault, topic_name_fault

_QOS_0: Final = 0x30
_QOS_1: Final = 0x32
_QOS_1_BYTE: Final = b"\x32"
_DUP: Final = 0x08

# Fixed-header flags of each packet type but PUBLISH (2.2.2).
_FLAGS: Final[list[int]] = [0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 2, 0, 0, 0, 0, 0]

# Statement that fixes the flags of a type, where there is one beside 2.2.2-2.
_FLAGS_STATEMENT: Final[dict[int, str]] = {
    PUBREL: "MQTT-3.6.1-1",
    SUBSCRIBE: "MQTT-3.8.1-1",
    UNSUBSCRIBE: "MQTT-3.10.1-1",
    DISCONNECT: "MQTT-3.14.1-1",
}
_FLAGS_STATEMENT_5: Final[dict[int, str]] = {**_FLAGS_STATEMENT, AUTH: "MQTT-3.15.1-1"}


def check_flags(kind: int, flags: int, level: int, at: int) -> None:
    """Refuse fixed-header flags that the type does not have; PUBLISH has its own check."""
    if flags == _FLAGS[kind]:
        return
    if level == MQTT_3_1 and flags == _FLAGS[kind] | _DUP and _FLAGS[kind] == 2:
        return  # MQTT 3.1 repeats these with DUP (2.1 there)
    if level == MQTT_5:
        statement = _FLAGS_STATEMENT_5.get(kind, "MQTT-2.1.3-1")
    else:
        statement = _FLAGS_STATEMENT.get(kind, "MQTT-2.2.2-2")
    raise RemoteProtocolError(f"fixed-header flags are {flags:04b}", statement, at)


def decode_publish(data: bytes, start: i64, body: i64, end: i64, topics: TopicCache) -> Publish:
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
    else:
        topic = topics.find(utf8)
        if topic is None:
            fault = topic_name_fault(utf8)
            if fault is not None:
                raise RemoteProtocolError(fault[0], fault[1], int(at), TOPIC_NAME_INVALID)
            topic = topics.add(utf8)
    flags = first & 0x0F
    is_minimal = body - start == 2 or data[body - 1] != 0
    if flags & 0x06 == 0:
        if flags & _DUP:
            raise RemoteProtocolError("DUP is set at QoS 0", "MQTT-3.3.1-2", int(start))
        if is_minimal:
            packet = data[start:end]
            if flags:
                packet = b"\x30" + packet[1:]
            return Publish(Message(topic, None, 0, flags != 0, None, packet, int(stop - start)))
        return Publish(Message(topic, data[stop:end], 0, flags != 0))
    qos = (flags >> 1) & 3
    if qos == 3:
        raise RemoteProtocolError("QoS is 3", "MQTT-3.3.1-4", int(start))
    if stop + 2 > end:
        raise RemoteProtocolError(
            "packet ends before its packet identifier", "MQTT-2.3.1-1", int(stop)
        )
    packet_id = (data[stop] << 8) | data[stop + 1]
    if packet_id == 0:
        raise RemoteProtocolError("packet identifier is 0", "MQTT-2.3.1-1", int(stop))
    head: bytes | None = None
    if is_minimal:
        if first == _QOS_1:
            head = data[start:stop]
        else:
            head = _QOS_1_BYTE + data[start + 1 : stop]
    message = Message(topic, data[stop + 2 : end], int(qos), flags & 1 != 0, None, None, 0, head)
    return Publish(message, int(packet_id), flags & _DUP != 0)


def decode_packet_id(data: bytes, body: i64, end: i64) -> int:
    """The body of PUBACK, PUBREC, PUBREL, PUBCOMP and UNSUBACK: a packet identifier alone."""
    if end - body != 2:
        raise RemoteProtocolError(
            f"packet has {end - body} bytes instead of a packet identifier", "", int(body)
        )
    packet_id = (data[body] << 8) | data[body + 1]
    if packet_id == 0:
        raise RemoteProtocolError("packet identifier is 0", "MQTT-2.3.1-1", int(body))
    return packet_id


def protocol_level(reader: Reader, newest: int) -> int:
    """The first two fields of any CONNECT (3.1.2.1, 3.1.2.2), of a version up to `newest`."""
    at = reader.at
    name = reader.binary("protocol name", "MQTT-3.1.4-1")
    if name != b"MQTT" and name != b"MQIsdp":
        raise RemoteProtocolError(
            "protocol name is neither MQTT nor MQIsdp", "MQTT-3.1.2-1", at, PROTOCOL_ERROR
        )
    level = reader.byte("protocol level", "MQTT-3.1.4-1")
    is_served = level == MQTT_3_1 if name == b"MQIsdp" else MQTT_3_1_1 <= level <= newest
    if not is_served:
        raise ConnectionRefused(
            f"protocol level {level} of {name.decode()} is not supported",
            "MQTT-3.1.2-2",
            reader.at - 1,
            UNSUPPORTED_PROTOCOL_VERSION,
        )
    return level


def _check_connect_flags(flags: int, level: int, at: int) -> None:
    """The byte of CONNECT flags (3.1.2.3)."""
    if flags & 0x01:
        raise RemoteProtocolError("reserved CONNECT flag is set", "MQTT-3.1.2-3", at)
    if not flags & 0x04:
        if flags & 0x18:
            raise RemoteProtocolError("will QoS without a will", "MQTT-3.1.2-13", at)
        if flags & 0x20:
            raise RemoteProtocolError("will retain without a will", "MQTT-3.1.2-15", at)
    elif flags & 0x18 == 0x18:
        raise RemoteProtocolError("will QoS is 3", "MQTT-3.1.2-14", at)
    if flags & 0xC0 == 0x40:
        raise RemoteProtocolError("password without a user name", "MQTT-3.1.2-22", at)


def _decode_will(reader: Reader, flags: int) -> Will:
    at = reader.at
    topic = reader.binary("will topic", "MQTT-3.1.2-9")
    fault = topic_name_fault(topic)
    if fault is not None:
        statement = "MQTT-3.1.3-10" if fault[1] == "MQTT-1.5.3-1" else fault[1]
        raise RemoteProtocolError("will " + fault[0], statement, at, TOPIC_NAME_INVALID)
    payload = reader.binary("will message", "MQTT-3.1.2-9")
    return Will(topic.decode(), payload, (flags >> 3) & 3, flags & 0x20 != 0)


def decode_connect(reader: Reader, level: int) -> Connect:
    """CONNECT (3.1) from behind the protocol level.

    Raises `ConnectionRefused` where CONNACK has a code for what is wrong.
    """
    flags = reader.byte("CONNECT flags", "MQTT-3.1.4-1")
    _check_connect_flags(flags, level, reader.at - 1)
    keep_alive_s = reader.two_bytes("keep alive", "MQTT-3.1.4-1")
    at = reader.at
    client_id = reader.text("client identifier", "MQTT-3.1.3-4")  # [v3 MQTT-3.1.3-3]
    will = _decode_will(reader, flags) if flags & 0x04 else None  # [v3 MQTT-3.1.3-1]
    username: str | None = None
    password: bytes | None = None
    # In MQTT 3.1 the flags may announce a user name or password that is not there (3.1 there).
    may_be_missing = level == MQTT_3_1
    if flags & 0x80 and not (may_be_missing and reader.is_at_end):
        statement = "MQTT-3.1.2-19" if reader.is_at_end else "MQTT-3.1.3-11"
        username = reader.text("user name", statement)
    if flags & 0x40 and not (may_be_missing and reader.is_at_end):
        password = reader.binary("password", "MQTT-3.1.2-21")
    reader.finish(_surplus_statement(flags))
    clean_start = flags & 0x02 != 0
    if not client_id and (level == MQTT_3_1 or not clean_start):
        raise ConnectionRefused(
            "client identifier is empty",
            "MQTT-3.1.3-8",
            at,
            CLIENT_IDENTIFIER_NOT_VALID,
        )
    return Connect(client_id, clean_start, keep_alive_s, will, username, password, level)


def _surplus_statement(flags: int) -> str:
    """Which flag says that there is nothing where a CONNECT has bytes too many."""
    if not flags & 0x04 and not flags & 0xC0:
        return "MQTT-3.1.2-11"
    if not flags & 0x80:
        return "MQTT-3.1.2-18"
    if not flags & 0x40:
        return "MQTT-3.1.2-20"
    return "MQTT-3.1.4-1"


def decode_connack(data: bytes, body: int, end: int) -> ConnAck:
    """CONNACK (3.2), with the return code as a reason code."""
    reader = Reader(data, body, end)
    flags = reader.byte("acknowledge flags")
    code = reader.byte("return code")
    reader.finish()
    if flags > 1:
        raise RemoteProtocolError("reserved CONNACK flags are set", "MQTT-2.2.2-2", body)
    if flags and code:
        raise RemoteProtocolError("session present in a refusal", "MQTT-3.2.2-4", body)
    known = code < len(REASON_OF_RETURN_CODE)
    return ConnAck(flags == 1, REASON_OF_RETURN_CODE[code] if known else UNSPECIFIED_ERROR)


def decode_subscribe(data: bytes, body: int, end: int, limit: int) -> Subscribe:
    """SUBSCRIBE (3.8) with at most `limit` topic filters."""
    reader = Reader(data, body, end)
    packet_id = _request_id(reader)
    subscriptions: list[Subscription] = []
    while not reader.is_at_end:
        topic_filter = _topic_filter(reader, "MQTT-3.8.3-1")
        at = reader.at
        options = reader.byte("requested QoS", "MQTT-3.8.3-1")
        if options > 2:
            raise RemoteProtocolError(
                f"subscription options are 0x{options:02X}", "MQTT-3.8.3-4", at
            )
        subscriptions.append(Subscription(topic_filter, options))
        if len(subscriptions) > limit:
            raise RemoteProtocolError(
                f"SUBSCRIBE has more than {limit} topic filters", "", at, QUOTA_EXCEEDED
            )
    if not subscriptions:
        raise RemoteProtocolError(
            "SUBSCRIBE has no topic filter", "MQTT-3.8.3-3", end, PROTOCOL_ERROR
        )
    return Subscribe(packet_id, tuple(subscriptions))


def decode_unsubscribe(data: bytes, body: int, end: int, limit: int) -> Unsubscribe:
    """UNSUBSCRIBE (3.10) with at most `limit` topic filters."""
    reader = Reader(data, body, end)
    packet_id = _request_id(reader)
    topic_filters: list[str] = []
    while not reader.is_at_end:
        topic_filters.append(_topic_filter(reader, "MQTT-3.10.3-1"))
        if len(topic_filters) > limit:
            raise RemoteProtocolError(
                f"UNSUBSCRIBE has more than {limit} topic filters", "", reader.at, QUOTA_EXCEEDED
            )
    if not topic_filters:
        raise RemoteProtocolError(
            "UNSUBSCRIBE has no topic filter", "MQTT-3.10.3-2", end, PROTOCOL_ERROR
        )
    return Unsubscribe(packet_id, tuple(topic_filters))


def _request_id(reader: Reader) -> int:
    at = reader.at
    packet_id = reader.two_bytes("packet identifier", "MQTT-2.3.1-1")
    if packet_id == 0:
        raise RemoteProtocolError("packet identifier is 0", "MQTT-2.3.1-1", at)
    return packet_id


def _topic_filter(reader: Reader, statement: str) -> str:
    at = reader.at
    topic_filter = reader.binary("topic filter", statement)
    fault = topic_filter_fault(topic_filter)
    if fault is not None:
        cited = statement if fault[1] == "MQTT-3.8.3-1" else fault[1]
        raise RemoteProtocolError(fault[0], cited, at, TOPIC_FILTER_INVALID)
    return topic_filter.decode()


def decode_suback(data: bytes, body: int, end: int) -> SubAck:
    """SUBACK (3.9)."""
    reader = Reader(data, body, end)
    packet_id = _request_id(reader)
    reasons: list[int] = []
    while not reader.is_at_end:
        reason = reader.byte("return code")
        if reason > 2 and reason != SUBACK_FAILURE:  # [v3 MQTT-3.9.3-2]
            raise RemoteProtocolError(
                f"SUBACK return code is 0x{reason:02X}", "MQTT-3.9.3-2", reader.at - 1
            )
        reasons.append(reason)
    if not reasons:
        raise RemoteProtocolError("SUBACK has no return code", "MQTT-3.8.4-5", end)
    return SubAck(packet_id, tuple(reasons))


def check_empty(body: i64, end: i64, statement: str = "") -> None:
    """PINGREQ, PINGRESP and, in 3.1.1, DISCONNECT have no body (3.12 to 3.14)."""
    if body != end:
        raise RemoteProtocolError(f"packet has {end - body} bytes too many", statement, int(body))
