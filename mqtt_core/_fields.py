"""The fields of packets to bytes, in both versions; what MQTT forbids in them is refused.

Sections are those of MQTT 3.1.1 where they do not say otherwise.
"""

from __future__ import annotations

from typing import Final

from mqtt_core._codes import LARGEST_REMAINING_LENGTH, LARGEST_STRING_BYTES
from mqtt_core._errors import LocalProtocolError
from mqtt_core._topics import topic_filter_fault, topic_name_fault

_BYTE: Final[list[bytes]] = [bytes([value]) for value in range(256)]


def encode_variable(value: int) -> bytes:
    """A Variable Byte Integer in as few bytes as it needs (1.5.5; 2.2.3 of MQTT 3.1.1)."""
    if value < 0x80:
        return _BYTE[value]
    encoded = bytearray()
    while True:
        digit = value & 0x7F
        value >>= 7
        if value == 0:
            encoded.append(digit)
            return bytes(encoded)
        encoded.append(digit | 0x80)


def binary_field(data: bytes, name: str) -> bytes:
    """Bytes behind their length. Raises `LocalProtocolError` for more than 65,535."""
    if len(data) > LARGEST_STRING_BYTES:  # [v3 MQTT-4.7.3-3] [MQTT-4.7.3-3]
        raise LocalProtocolError(f"{name} has {len(data)} bytes; 65,535 is the most")
    return len(data).to_bytes(2, "big") + data


def text_bytes(text: str, name: str) -> bytes:
    """Text as UTF-8. Raises `LocalProtocolError` for U+0000 and surrogates (1.5.3)."""
    if "\0" in text:
        raise LocalProtocolError(f"{name} has U+0000")  # [v3 MQTT-1.5.3-2] [MQTT-1.5.4-2]
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:  # [v3 MQTT-1.5.3-1] [MQTT-1.5.4-1]
        raise LocalProtocolError(f"{name} cannot be UTF-8: {error.reason}") from None


def text_field(text: str, name: str) -> bytes:
    """A string as UTF-8 behind its length. Raises `LocalProtocolError`."""
    return binary_field(text_bytes(text, name), name)


def packet_id_bytes(packet_id: int) -> bytes:
    """A packet identifier on the wire. Raises `LocalProtocolError` for one out of range."""
    if not 1 <= packet_id <= 65_535:  # [v3 MQTT-2.3.1-1] [MQTT-2.2.1-3]
        raise LocalProtocolError(f"packet identifier {packet_id} is not within 1 to 65,535")
    return packet_id.to_bytes(2, "big")


def topic_name_bytes(topic: str) -> bytes:
    """A topic name as UTF-8. Raises `LocalProtocolError` for one that MQTT forbids (4.7)."""
    utf8 = text_bytes(topic, "topic name")
    fault = topic_name_fault(utf8)
    if fault is not None:
        raise LocalProtocolError(fault[0])
    return utf8


def topic_filter_bytes(topic_filter: str) -> bytes:
    """A topic filter as UTF-8. Raises `LocalProtocolError` for one that MQTT forbids (4.7)."""
    utf8 = text_bytes(topic_filter, "topic filter")
    fault = topic_filter_fault(utf8)
    if fault is not None:
        raise LocalProtocolError(fault[0])
    return utf8


def frame(first: int, body: bytes) -> bytes:
    """A packet from its first byte and its body. Raises `LocalProtocolError` over 268,435,455."""
    if len(body) > LARGEST_REMAINING_LENGTH:
        raise LocalProtocolError(f"packet of {len(body)} bytes is over 268,435,455")
    return bytes([first]) + encode_variable(len(body)) + body
