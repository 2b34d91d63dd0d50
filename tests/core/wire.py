"""MQTT 3.1.1 packets as bytes, made and read without the code under test.

The tests compare what the core writes with what these functions write: small, plain and by the
standard's figures, so that a mistake in the core is not repeated here.
"""

from __future__ import annotations

from typing import NamedTuple

PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"


def u16(value: int) -> bytes:
    """A number in two bytes."""
    return value.to_bytes(2, "big")


def string(value: str | bytes) -> bytes:
    """A string behind its length."""
    data = value.encode() if isinstance(value, str) else value
    return u16(len(data)) + data


def remaining_length(length: int) -> bytes:
    """A remaining length (2.2.3), by the algorithm of the standard."""
    encoded = b""
    while True:
        length, digit = divmod(length, 128)
        encoded += bytes([digit | (128 if length else 0)])
        if not length:
            return encoded


def packet(first: int, *parts: bytes) -> bytes:
    """A packet from its first byte and the parts of its body."""
    body = b"".join(parts)
    return bytes([first]) + remaining_length(len(body)) + body


def connect(
    client_id: str | bytes = "c",
    *,
    clean: bool = True,
    keep_alive_s: int = 0,
    will: tuple[str | bytes, bytes, int, bool] | None = None,
    username: str | None = None,
    password: bytes | None = None,
    level: int = 4,
    name: str | None = None,
    flags: int | None = None,
) -> bytes:
    """CONNECT. `will` is (topic, payload, QoS, retain); `flags` replaces what follows from it."""
    bits = 0x02 if clean else 0
    payload = string(client_id)
    if will is not None:
        topic, message, qos, retain = will
        bits |= 0x04 | qos << 3 | (0x20 if retain else 0)
        payload += string(topic) + string(message)
    if username is not None:
        bits |= 0x80
        payload += string(username)
    if password is not None:
        bits |= 0x40
        payload += string(password)
    if flags is not None:
        bits = flags
    name = name or ("MQIsdp" if level == 3 else "MQTT")
    return packet(0x10, string(name), bytes([level, bits]), u16(keep_alive_s), payload)


def connack(code: int = 0, *, present: bool = False) -> bytes:
    """CONNACK."""
    return bytes([0x20, 2, 1 if present else 0, code])


def publish(
    topic: str | bytes,
    payload: bytes = b"",
    qos: int = 0,
    packet_id: int = 0,
    *,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """PUBLISH."""
    first = 0x30 | (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    return packet(first, string(topic), u16(packet_id) if qos else b"", payload)


def puback(packet_id: int) -> bytes:
    """PUBACK."""
    return b"\x40\x02" + u16(packet_id)


def pubrec(packet_id: int) -> bytes:
    """PUBREC."""
    return b"\x50\x02" + u16(packet_id)


def pubrel(packet_id: int) -> bytes:
    """PUBREL."""
    return b"\x62\x02" + u16(packet_id)


def pubcomp(packet_id: int) -> bytes:
    """PUBCOMP."""
    return b"\x70\x02" + u16(packet_id)


def subscribe(packet_id: int, *filters: tuple[str | bytes, int]) -> bytes:
    """SUBSCRIBE with (filter, QoS) pairs."""
    return packet(0x82, u16(packet_id), *(string(name) + bytes([qos]) for name, qos in filters))


def suback(packet_id: int, *codes: int) -> bytes:
    """SUBACK."""
    return packet(0x90, u16(packet_id), bytes(codes))


def unsubscribe(packet_id: int, *filters: str | bytes) -> bytes:
    """UNSUBSCRIBE."""
    return packet(0xA2, u16(packet_id), *(string(name) for name in filters))


def unsuback(packet_id: int) -> bytes:
    """UNSUBACK."""
    return b"\xb0\x02" + u16(packet_id)


class Frame(NamedTuple):
    """One packet as it was read, not interpreted."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        """The packet type."""
        return self.first >> 4

    @property
    def packet_id(self) -> int:
        """The packet identifier of anything but a PUBLISH."""
        return int.from_bytes(self.body[:2], "big")


class Received(NamedTuple):
    """A PUBLISH as it was read."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    retain: bool
    dup: bool


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole packets at the beginning of `data`, and the rest."""
    frames: list[Frame] = []
    at = 0
    while True:
        length = shift = 0
        body = at + 1
        while body < len(data) and data[body] & 128:
            length |= (data[body] & 127) << shift
            shift += 7
            body += 1
        if body >= len(data):
            return frames, data[at:]
        length |= data[body] << shift
        body += 1
        if body + length > len(data):
            return frames, data[at:]
        frames.append(Frame(data[at], data[body : body + length]))
        at = body + length


def read_publish(frame: Frame) -> Received:
    """The fields of a PUBLISH."""
    assert frame.kind == 3, f"not a PUBLISH: {frame}"
    size = int.from_bytes(frame.body[:2], "big")
    topic = frame.body[2 : 2 + size]
    assert len(topic) == size
    qos = frame.first >> 1 & 3
    rest = frame.body[2 + size :]
    packet_id = 0
    if qos:
        assert len(rest) >= 2
        packet_id = int.from_bytes(rest[:2], "big")
        rest = rest[2:]
    return Received(
        topic.decode(), rest, qos, packet_id, bool(frame.first & 1), bool(frame.first & 8)
    )


def publishes(data: bytes) -> list[Received]:
    """The PUBLISH packets in `data`, which must be whole packets and nothing else but them."""
    frames, rest = split(data)
    assert not rest, f"an incomplete packet: {rest!r}"
    return [read_publish(frame) for frame in frames]
