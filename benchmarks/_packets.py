"""MQTT packets as bytes, for load that is encoded before the clock starts.

Those of MQTT 5.0 have no properties: a property length of 0 is all that is added to 3.1.1.

Not the project's encoder, on purpose: what measures a broker must not share its code.
"""

from __future__ import annotations

from collections.abc import Sequence

PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"

MQTT_3_1_1 = 4  # protocol levels
MQTT_5 = 5


def _utf8(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(first_byte: int, body: bytes) -> bytes:
    """A whole packet: fixed header with its remaining length (2.2.3), then `body`."""
    length = bytearray()
    rest = len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length.append(digit | 128 if rest else digit)
        if not rest:
            return bytes((first_byte,)) + length + body


def _properties(level: int) -> bytes:
    """The property length, where the version has one."""
    return b"\0" if level == MQTT_5 else b""


def connect(
    client_id: str, *, clean: bool = True, keep_alive_s: int = 0, level: int = MQTT_3_1_1
) -> bytes:
    """CONNECT (3.1); a keep-alive of 0 turns the mechanism off."""
    flags = 2 if clean else 0
    header = b"\x00\x04MQTT" + bytes((level, flags)) + keep_alive_s.to_bytes(2, "big")
    return _packet(0x10, header + _properties(level) + _utf8(client_id))


def subscribe(packet_id: int, filters: Sequence[str], qos: int, level: int = MQTT_3_1_1) -> bytes:
    """SUBSCRIBE (3.8) to every one of `filters` at `qos`."""
    body = b"".join(_utf8(topic_filter) + bytes((qos,)) for topic_filter in filters)
    return _packet(0x82, packet_id.to_bytes(2, "big") + _properties(level) + body)


def publish(
    topic: str,
    payload: bytes,
    *,
    qos: int = 0,
    packet_id: int = 0,
    retain: bool = False,
    level: int = MQTT_3_1_1,
) -> bytes:
    """PUBLISH (3.3); `packet_id` is left out at QoS 0."""
    identifier = packet_id.to_bytes(2, "big") if qos else b""
    header = _utf8(topic) + identifier + _properties(level)
    return _packet(0x30 | qos << 1 | int(retain), header + payload)
