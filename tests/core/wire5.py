"""MQTT 5.0 packets as bytes, made and read without the code under test.

What is the same in 3.1.1 is in `wire`. Properties are given as bytes, one after the other: those
of `prop` or any others.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.core.wire import Frame, packet, remaining_length, split, string, u16

PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"


def u32(value: int) -> bytes:
    """A number in four bytes."""
    return value.to_bytes(4, "big")


def prop(identifier: int, *values: bytes) -> bytes:
    """A property from its identifier and the bytes of its value."""
    return bytes([identifier]) + b"".join(values)


def user(key: str | bytes, value: str | bytes) -> bytes:
    """A user property."""
    return prop(0x26, string(key), string(value))


def reason_string(text: str | bytes) -> bytes:
    """A reason string."""
    return prop(0x1F, string(text))


def props(*properties: bytes) -> bytes:
    """Properties behind their length."""
    body = b"".join(properties)
    return remaining_length(len(body)) + body


class Will5(NamedTuple):
    """The will of a CONNECT."""

    topic: str | bytes
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: bytes = b""


def connect(
    client_id: str | bytes = "c",
    *properties: bytes,
    clean: bool = True,
    keep_alive_s: int = 0,
    will: Will5 | None = None,
    username: str | bytes | None = None,
    password: bytes | None = None,
    flags: int | None = None,
    level: int = 5,
) -> bytes:
    """CONNECT; `flags` replaces what follows from the rest."""
    bits = 0x02 if clean else 0
    payload = string(client_id)
    if will is not None:
        bits |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        payload += props(will.properties) + string(will.topic) + string(will.payload)
    if username is not None:
        bits |= 0x80
        payload += string(username)
    if password is not None:
        bits |= 0x40
        payload += string(password)
    if flags is not None:
        bits = flags
    header = string("MQTT") + bytes([level, bits]) + u16(keep_alive_s)
    return packet(0x10, header, props(*properties), payload)


def connack(reason: int = 0, *properties: bytes, present: bool = False) -> bytes:
    """CONNACK."""
    return packet(0x20, bytes([1 if present else 0, reason]), props(*properties))


def publish(
    topic: str | bytes,
    payload: bytes = b"",
    qos: int = 0,
    packet_id: int = 0,
    *properties: bytes,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """PUBLISH."""
    first = 0x30 | (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    return packet(first, string(topic), u16(packet_id) if qos else b"", props(*properties), payload)


def _ack(first: int, packet_id: int, reason: int | None, properties: tuple[bytes, ...]) -> bytes:
    if reason is None:
        return packet(first, u16(packet_id))
    if not properties:
        return packet(first, u16(packet_id), bytes([reason]))
    return packet(first, u16(packet_id), bytes([reason]), props(*properties))


def puback(packet_id: int, reason: int | None = None, *properties: bytes) -> bytes:
    """PUBACK, as short as it may be."""
    return _ack(0x40, packet_id, reason, properties)


def pubrec(packet_id: int, reason: int | None = None, *properties: bytes) -> bytes:
    """PUBREC, as short as it may be."""
    return _ack(0x50, packet_id, reason, properties)


def pubrel(packet_id: int, reason: int | None = None, *properties: bytes) -> bytes:
    """PUBREL, as short as it may be."""
    return _ack(0x62, packet_id, reason, properties)


def pubcomp(packet_id: int, reason: int | None = None, *properties: bytes) -> bytes:
    """PUBCOMP, as short as it may be."""
    return _ack(0x70, packet_id, reason, properties)


def subscribe(packet_id: int, *filters: tuple[str | bytes, int], properties: bytes = b"") -> bytes:
    """SUBSCRIBE with (filter, options) pairs."""
    payload = b"".join(string(name) + bytes([options]) for name, options in filters)
    return packet(0x82, u16(packet_id), props(properties), payload)


def suback(packet_id: int, *reasons: int, properties: bytes = b"") -> bytes:
    """SUBACK."""
    return packet(0x90, u16(packet_id), props(properties), bytes(reasons))


def unsubscribe(packet_id: int, *filters: str | bytes, properties: bytes = b"") -> bytes:
    """UNSUBSCRIBE."""
    return packet(0xA2, u16(packet_id), props(properties), *(string(name) for name in filters))


def unsuback(packet_id: int, *reasons: int, properties: bytes = b"") -> bytes:
    """UNSUBACK."""
    return packet(0xB0, u16(packet_id), props(properties), bytes(reasons))


def disconnect(reason: int, *properties: bytes) -> bytes:
    """DISCONNECT with a reason, and properties where there are any."""
    return packet(0xE0, bytes([reason]), props(*properties) if properties else b"")


def auth(reason: int, *properties: bytes) -> bytes:
    """AUTH."""
    return packet(0xF0, bytes([reason]), props(*properties))


def method(name: str) -> bytes:
    """An authentication method."""
    return prop(0x15, string(name))


class Received5(NamedTuple):
    """A PUBLISH as it was read, with its properties as bytes."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    retain: bool
    dup: bool
    properties: bytes


def _variable(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer, and where it ends."""
    value = shift = 0
    while data[at] & 128:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1


def read_properties(data: bytes) -> bytes:
    """Properties that stand behind their length, without it; nothing stands behind them."""
    length, at = _variable(data, 0)
    assert at + length == len(data)
    return data[at:]


def read_publish(frame: Frame) -> Received5:
    """The fields of a PUBLISH."""
    assert frame.kind == 3, f"not a PUBLISH: {frame}"
    size = int.from_bytes(frame.body[:2], "big")
    topic = frame.body[2 : 2 + size]
    assert len(topic) == size
    qos = frame.first >> 1 & 3
    at = 2 + size
    packet_id = 0
    if qos:
        packet_id = int.from_bytes(frame.body[at : at + 2], "big")
        at += 2
    length, at = _variable(frame.body, at)
    assert at + length <= len(frame.body)
    return Received5(
        topic.decode(),
        frame.body[at + length :],
        qos,
        packet_id,
        bool(frame.first & 1),
        bool(frame.first & 8),
        frame.body[at : at + length],
    )


def publishes(data: bytes) -> list[Received5]:
    """The PUBLISH packets in `data`, which must be whole packets and nothing else but them."""
    frames, rest = split(data)
    assert not rest, f"an incomplete packet: {rest!r}"
    return [read_publish(frame) for frame in frames]
