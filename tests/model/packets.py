"""Packets of both versions as a client writes and reads them, in bytes of `wire` and `wire5`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.core import wire, wire5
from tests.core.wire5 import prop, u32
from tests.model.messages import Copy, Sent
from tests.model.sessions import Wanted

EXPIRY = 0x02
IDENTIFIER = 0x0B
SESSION_EXPIRY = 0x11
WILL_DELAY = 0x18
RECEIVE_MAXIMUM = 0x21
ALIAS_MAXIMUM = 0x22
ALIAS = 0x23
PACKET_SIZE = 0x27

_BYTES_OF_NUMBERS = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1),
    **dict.fromkeys((0x13, RECEIVE_MAXIMUM, ALIAS_MAXIMUM, ALIAS), 2),
    **dict.fromkeys((EXPIRY, SESSION_EXPIRY, WILL_DELAY, PACKET_SIZE), 4),
}


class Takes(NamedTuple):
    """What a client of MQTT 5.0 says in CONNECT that it takes; 0 where it says nothing."""

    receive_maximum: int = 0
    packet_bytes: int = 0
    alias_maximum: int = 0


class Will(NamedTuple):
    """The will of a connection, and how long it waits for its client."""

    message: Sent
    delay_s: int = 0


def connect(
    level: int,
    client_id: str,
    *,
    clean: bool,
    keep_alive_s: int,
    expiry_s: int,
    takes: Takes,
    will: Will | None,
) -> bytes:
    """CONNECT."""
    if level != 5:
        older = None
        if will is not None:
            sent = will.message
            older = (sent.topic, sent.payload, sent.qos, sent.retain)
        return wire.connect(client_id, clean=clean, keep_alive_s=keep_alive_s, will=older)
    newer = None
    if will is not None:
        sent = will.message
        properties = _numbers((WILL_DELAY, will.delay_s), (EXPIRY, sent.expiry_s or 0))
        newer = wire5.Will5(sent.topic, sent.payload, sent.qos, sent.retain, properties)
    properties = _numbers(
        (SESSION_EXPIRY, expiry_s),
        (RECEIVE_MAXIMUM, takes.receive_maximum),
        (PACKET_SIZE, takes.packet_bytes),
        (ALIAS_MAXIMUM, takes.alias_maximum),
    )
    return wire5.connect(client_id, properties, clean=clean, keep_alive_s=keep_alive_s, will=newer)


def publish(
    level: int, message: Sent, packet_id: int, *, dup: bool, topic: str | None, alias: int
) -> bytes:
    """PUBLISH; `topic` is given where an alias stands for it, or sets it."""
    payload, qos, retain = message.payload, message.qos, message.retain
    if level != 5:
        return wire.publish(message.topic, payload, qos, packet_id, retain=retain, dup=dup)
    properties = _numbers((EXPIRY, message.expiry_s or 0), (ALIAS, alias))
    name = message.topic if topic is None else topic
    return wire5.publish(name, payload, qos, packet_id, properties, retain=retain, dup=dup)


def subscribe(level: int, packet_id: int, filters: Sequence[Wanted]) -> bytes:
    """SUBSCRIBE; the identifier is that of the first filter."""
    if level != 5:
        return wire.subscribe(packet_id, *((each.topic_filter, each.qos) for each in filters))
    identifier = filters[0].identifier
    properties = prop(IDENTIFIER, wire.remaining_length(identifier)) if identifier else b""
    pairs = [(each.topic_filter, _options(each)) for each in filters]
    return wire5.subscribe(packet_id, *pairs, properties=properties)


def _options(wanted: Wanted) -> int:
    keeps = 8 if wanted.retain_as_published else 0
    return wanted.qos | (4 if wanted.no_local else 0) | keeps | wanted.retain_handling << 4


def unsubscribe(level: int, packet_id: int, filters: Sequence[str]) -> bytes:
    """UNSUBSCRIBE."""
    make = wire5.unsubscribe if level == 5 else wire.unsubscribe
    return make(packet_id, *filters)


def disconnect(level: int, *, with_will: bool, expiry_s: int | None) -> bytes:
    """DISCONNECT."""
    if level != 5:
        return wire.DISCONNECT
    properties = () if expiry_s is None else (prop(SESSION_EXPIRY, u32(expiry_s)),)
    return wire5.disconnect(4 if with_will else 0, *properties)


def _numbers(*pairs: tuple[int, int]) -> bytes:
    """The properties of these numbers that are not 0."""
    return b"".join(
        prop(identifier, value.to_bytes(_BYTES_OF_NUMBERS[identifier], "big"))
        for identifier, value in pairs
        if value
    )


def read_properties(data: bytes) -> list[tuple[int, int | bytes]]:
    """Properties with their values: numbers, and texts or data as they are."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        identifier = data[at]
        at += 1
        size = _BYTES_OF_NUMBERS.get(identifier, 0)
        if identifier == IDENTIFIER:
            value = shift = 0
            while data[at] & 128:
                value |= (data[at] & 127) << shift
                shift += 7
                at += 1
            found.append((identifier, value | data[at] << shift))
            at += 1
        elif size:
            found.append((identifier, int.from_bytes(data[at : at + size], "big")))
            at += size
        else:
            for _ in range(2 if identifier == 0x26 else 1):
                size = int.from_bytes(data[at : at + 2], "big")
                found.append((identifier, data[at + 2 : at + 2 + size]))
                at += 2 + size
    assert at == len(data), data
    return found


def read_numbers(data: bytes) -> dict[int, int]:
    """Properties that are numbers and stand once."""
    found = [(key, value) for key, value in read_properties(data) if isinstance(value, int)]
    assert len(dict(found)) == len(found), data
    return dict(found)


def read_publish(level: int, frame: wire.Frame, topics: dict[int, str], most: int) -> Copy:
    """A PUBLISH; `topics` has those for which an alias, `most` at most, stands from now on."""
    if level != 5:
        older = wire.read_publish(frame)
        return Copy(level, *older)
    publish = wire5.read_publish(frame)
    identifiers: list[int] = []
    expiry_s: int | None = None
    topic = publish.topic
    for identifier, value in read_properties(publish.properties):
        assert isinstance(value, int), f"{publish} has a property that nobody has sent"
        if identifier == IDENTIFIER:
            identifiers.append(value)
        elif identifier == ALIAS:
            assert 1 <= value <= most, f"{publish}: {most} aliases are allowed"
            if topic:
                topics[value] = topic
            else:
                assert value in topics, f"{publish}: alias {value} stands for nothing"
                topic = topics[value]
        else:
            assert identifier == EXPIRY, f"{publish} has a property that nobody has sent"
            expiry_s = value
    assert topic, f"{publish} has no topic"
    return Copy(
        level,
        topic,
        publish.payload,
        publish.qos,
        publish.packet_id,
        publish.retain,
        publish.dup,
        expiry_s,
        tuple(sorted(identifiers)),
    )
