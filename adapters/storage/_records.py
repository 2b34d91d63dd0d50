"""Messages, wills and what deliveries have of their own, as bytes and back.

A record begins with a checksum of the rest and a number for its form, so that damage is seen and a
form to come can be told from this one.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final, TypeGuard, cast
from zlib import crc32

from msgspec import Meta, MsgspecError, msgpack

from adapters.storage._errors import RecordDamagedError
from mqtt_core import Message, Properties, PropertyValue, Will, make_message
from mqtt_core.broker import Particulars

_FORM: Final = 1
_HEAD: Final = struct.Struct(">BBHI")  # form, flags, bytes of the topic, bytes of the properties
_SUM: Final = struct.Struct(">I")
_TIME: Final = struct.Struct(">d")
_AT: Final = _SUM.size  # where the summed part begins
_TOPIC_AT: Final = _AT + _HEAD.size

_QOS: Final = 0x03
_RETAIN: Final = 0x04
_EXPIRES: Final = 0x08  # when it expires follows the head

_pack: Final = msgpack.Encoder().encode
_Identifiers = tuple[Annotated[int, Meta(ge=1, le=0x0FFF_FFFF)], ...]
# RETAIN, subscription identifiers, and the filter of a shared subscription.
_unpack_particulars: Final = msgpack.Decoder(tuple[bool, _Identifiers, bytes]).decode

# What decoding leads to where a record is not what it says it is.
_NOT_DECODED: Final = (MsgspecError, struct.error, TypeError, ValueError)


def encode_message(message: Message) -> bytes:
    """A message with all that travels with it, and when it expires."""
    topic = message.topic.utf8
    payload = message.payload
    flags = message.qos | (_RETAIN if message.retain else 0)
    properties = message.properties
    wire = _pack(properties) if properties else b""
    when = b""
    if message.expires_at:
        flags |= _EXPIRES
        when = _TIME.pack(message.expires_at)
    head = _HEAD.pack(_FORM, flags, len(topic), len(wire)) + when + topic + wire
    return _SUM.pack(crc32(payload, crc32(head))) + head + payload


def decode_message(record: bytes | None) -> Message:
    """The message of a record. Raises `RecordDamagedError`."""
    if not _is_whole(record):
        raise RecordDamagedError("the checksum of a stored message is wrong")
    try:
        return _message(record)
    except _NOT_DECODED as error:
        raise RecordDamagedError("a stored message cannot be decoded") from error


def _is_whole(record: bytes | None) -> TypeGuard[bytes]:
    """Whether the checksum of a record is right."""
    return (
        record is not None
        and len(record) > _AT
        and _SUM.unpack_from(record)[0] == crc32(memoryview(record)[_AT:])
    )


def _message(record: bytes) -> Message:
    form, flags, topic_bytes, property_bytes = _HEAD.unpack_from(record, _AT)
    if form != _FORM:
        raise RecordDamagedError(f"a stored message has the unknown form {form}")
    at = _TOPIC_AT
    expires_at = 0.0
    if flags & _EXPIRES:
        expires_at = _TIME.unpack_from(record, at)[0]
        at += _TIME.size
    topic = record[at : at + topic_bytes].decode()
    at += topic_bytes
    properties: Properties = ()
    if property_bytes:
        properties = _properties(msgpack.decode(record[at : at + property_bytes]))
        at += property_bytes
    message = make_message(topic, record[at:], flags & _QOS, flags & _RETAIN != 0, properties)
    if expires_at:
        message.expires_at = expires_at
    return message


def encode_will(will: Will) -> bytes:
    """A will, as it stood in CONNECT."""
    data = _pack((_FORM, will.topic, will.payload, will.qos, will.retain, will.properties))
    return _SUM.pack(crc32(data)) + data


def decode_will(record: bytes | None) -> Will:
    """The will of a record. Raises `RecordDamagedError`."""
    if not _is_whole(record):
        raise RecordDamagedError("the checksum of a stored will is wrong")
    try:
        form, topic, payload, qos, retain, properties = msgpack.decode(record[_AT:])
        if form != _FORM:
            raise RecordDamagedError(f"a stored will has the unknown form {form}")
        return Will(topic, payload, qos, retain, _properties(properties))
    except _NOT_DECODED as error:
        raise RecordDamagedError("a stored will cannot be decoded") from error


def encode_particulars(particulars: Particulars | None) -> bytes | None:
    """What a delivery has of its own."""
    if particulars is None:
        return None
    return _pack((particulars.retain, particulars.identifiers, particulars.share))


def decode_particulars(data: bytes | None) -> Particulars | None:
    """What a delivery had of its own. Raises `RecordDamagedError`."""
    if data is None:
        return None
    try:
        return Particulars(*_unpack_particulars(data))
    except _NOT_DECODED as error:
        raise RecordDamagedError("the particulars of a stored delivery are damaged") from error


def _properties(pairs: list[list[int | PropertyValue | list[str]]]) -> Properties:
    """Properties as the core has them: a user property is a pair of texts."""
    return tuple(
        (
            cast(int, identifier),
            cast(PropertyValue, tuple(value) if isinstance(value, list) else value),
        )
        for identifier, value in pairs
    )
