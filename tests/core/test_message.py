"""The wire layouts of a message: made at most once, and right whichever version it came in."""

from __future__ import annotations

from itertools import product

import pytest

from mqtt_core import (
    CLIENT,
    SERVER,
    LocalProtocolError,
    Message,
    Properties,
    Publish,
    make_message,
    make_publish,
)
from mqtt_core._message import (
    EXTRAS_OVERHEAD_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    NEVER,
    delivery_head5,
)
from mqtt_core.properties import (
    CONTENT_TYPE,
    MESSAGE_EXPIRY_INTERVAL,
    RECEIVE_MAXIMUM,
    SUBSCRIPTION_IDENTIFIER,
    TOPIC_ALIAS,
    USER_PROPERTY,
)
from tests.core import wire, wire5
from tests.core.bytecases import CONNECTED, connection_in
from tests.core.wire5 import prop, u32, user

PROPERTIES: Properties = ((USER_PROPERTY, ("k", "v")), (CONTENT_TYPE, "c"))
BYTES = user("k", "v") + prop(0x03, wire.string("c"))


def read(data: bytes, level: int, role: int = SERVER) -> Publish:
    """A PUBLISH as it is read."""
    connection, _ = connection_in(role, CONNECTED, level=level)
    connection.feed(data, 0.0)
    packet = connection.read_packet()
    assert isinstance(packet, Publish)
    return packet


def messages(payload: bytes, properties: bytes = b"") -> list[Message]:
    """The same message from every origin that it may have."""
    found: Properties = PROPERTIES if properties else ()
    made = [make_message("t", payload, qos, retain, found) for qos, retain in ORIGINS]
    five = [
        read(wire5.publish("t", payload, qos, 1 if qos else 0, properties, retain=retain), 5)
        for qos, retain in ORIGINS
    ]
    made += [packet.message for packet in five]
    if not properties:
        four = [
            read(wire.publish("t", payload, qos, 1 if qos else 0, retain=retain), 4)
            for qos, retain in ORIGINS
        ]
        made += [packet.message for packet in four]
    return made


ORIGINS = list(product((0, 1, 2), (False, True)))
PAYLOADS = [b"", b"x", bytes(120), bytes(125), bytes(20_000)]


@pytest.mark.parametrize("payload", PAYLOADS, ids=len)
@pytest.mark.parametrize("properties", [b"", BYTES], ids=["bare", "properties"])
def test_layouts_do_not_depend_on_the_origin(payload: bytes, properties: bytes) -> None:
    for message in messages(payload, properties):
        assert message.packet() == wire.publish("t", payload)
        assert message.retained_packet() == wire.publish("t", payload, retain=True)
        assert message.packet5() == wire5.publish("t", payload, 0, 0, properties)
        assert message.body5() == wire5.props(properties) + payload
        for qos in (1, 2):
            identifier = wire.u16(7)
            assert message.head(qos) + identifier + payload == wire.publish("t", payload, qos, 7)
            assert message.head5(qos) + identifier + message.body5() == wire5.publish(
                "t", payload, qos, 7, properties
            )
            flagged = message.flagged_head(qos, True, True) + identifier + payload
            assert flagged == wire.publish("t", payload, qos, 7, retain=True, dup=True)
        assert message.payload == payload
        assert message.wire_properties == properties
        assert message.properties == (PROPERTIES if properties else ())


@pytest.mark.parametrize("properties", [b"", BYTES], ids=["bare", "properties"])
def test_a_layout_is_made_once(properties: bytes) -> None:
    for message in messages(b"payload", properties):
        for make in (message.packet, message.packet5):
            assert make() is make()
        for head in (message.head, message.head5):
            assert head(1) is head(1)
            assert head(2) is head(2)
        assert message.payload is message.payload


def test_what_arrived_in_a_layout_is_that() -> None:
    data = wire5.publish("t", b"x", 0, 0, BYTES)
    assert read(data, 5).message.packet5() == data
    received = read(wire5.publish("t", b"x", 1, 9, BYTES), 5).message
    assert received.body5() is received.body5()
    bare = read(wire5.publish("t", b"x"), 5).message
    assert bare.body5() == b"\0x"


@pytest.mark.parametrize(
    ("properties", "travelling", "expected", "own"),
    [
        (prop(0x02, u32(10)), b"", ((MESSAGE_EXPIRY_INTERVAL, 10),), ()),
        (
            BYTES + prop(0x02, u32(0)) + user("a", ""),
            BYTES + user("a", ""),
            ((MESSAGE_EXPIRY_INTERVAL, 0), *PROPERTIES, (USER_PROPERTY, ("a", ""))),
            (),
        ),
        (prop(0x0B, b"\7") + BYTES, BYTES, PROPERTIES, ((SUBSCRIPTION_IDENTIFIER, 7),)),
        (prop(0x0B, b"\7"), b"", (), ((SUBSCRIPTION_IDENTIFIER, 7),)),
    ],
)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_belongs_to_a_delivery_does_not_travel(
    qos: int, properties: bytes, travelling: bytes, expected: Properties, own: Properties
) -> None:
    packet = read(wire5.publish("t", b"x", qos, 1 if qos else 0, properties), 5, CLIENT)
    message = packet.message
    assert packet.properties == own
    assert message.properties == expected
    assert message == make_message("t", b"x", qos, False, expected)
    assert message.wire_properties == travelling
    assert message.packet5() == wire5.publish("t", b"x", 0, 0, travelling)
    assert message.packet() == wire.publish("t", b"x")


def test_expiry_is_kept_as_it_arrived_and_when_is_set_once() -> None:
    message = make_message("t", b"", properties=((MESSAGE_EXPIRY_INTERVAL, 5),))
    assert (message.expiry_s, message.expires_at) == (5, 0.0)
    message.expires_at = 105.0
    assert message.expires_at == 105.0
    bare = make_message("t", b"")
    assert (bare.expiry_s, bare.expires_at) == (NEVER, 0.0)
    with pytest.raises(AssertionError):
        bare.expires_at = 1.0


@pytest.mark.parametrize("payload", PAYLOADS, ids=len)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_one_delivery(qos: int, payload: bytes) -> None:
    packet_id = 9 if qos else 0
    for message in messages(payload, BYTES):
        head = delivery_head5(message, qos, False, True, packet_id)
        expected = wire5.publish("t", payload, qos, packet_id, BYTES, retain=True)
        assert head + payload == expected
        head = delivery_head5(message, qos, qos > 0, False, packet_id, 0, (1, 128), 5)
        before = prop(2, u32(0)) + prop(0x0B, b"\1") + prop(0x0B, b"\x80\1")
        properties = before + prop(0x23, wire.u16(5)) + BYTES
        expected = wire5.publish("t", payload, qos, packet_id, properties, dup=qos > 0)
        assert head + payload == expected
        head = delivery_head5(message, qos, False, False, packet_id, alias=65_535, has_topic=False)
        properties = prop(0x23, b"\xff\xff") + BYTES
        assert head + payload == wire5.publish("", payload, qos, packet_id, properties)


def test_its_representation_shows_the_properties() -> None:
    message = make_message("t", b"x", properties=((MESSAGE_EXPIRY_INTERVAL, 5),))
    expected = "Message('t', b'x', qos=0, retain=False, properties=(Message Expiry Interval=5))"
    assert repr(message) == expected
    bare = make_message("t", b"x")
    bare.packet5()  # makes room for what most messages do not have
    assert repr(bare) == "Message('t', b'x', qos=0, retain=False)"


def test_its_size_counts_the_properties() -> None:
    bare = make_message("t", b"payload")
    assert bare.size_bytes == 1 + 7 + MESSAGE_OVERHEAD_BYTES
    full = make_message("t", b"payload", properties=PROPERTIES)
    assert full.size_bytes == bare.size_bytes + len(BYTES) + EXTRAS_OVERHEAD_BYTES
    for message in messages(b"payload", BYTES):
        assert message.size_bytes >= full.size_bytes


def test_messages_differ_by_their_properties() -> None:
    message = make_message("t", b"x", properties=PROPERTIES)
    assert message == make_message("t", b"x", properties=PROPERTIES)
    assert message != make_message("t", b"x")
    assert message != make_message("t", b"x", properties=PROPERTIES[::-1])
    expiring = make_message("t", b"x", properties=((MESSAGE_EXPIRY_INTERVAL, 1), *PROPERTIES))
    assert message != expiring
    assert expiring != make_message(
        "t", b"x", properties=((MESSAGE_EXPIRY_INTERVAL, 2), *PROPERTIES)
    )


@pytest.mark.parametrize(
    "properties",
    [
        ((TOPIC_ALIAS, 1),),
        ((SUBSCRIPTION_IDENTIFIER, 1),),
        ((MESSAGE_EXPIRY_INTERVAL, -1),),
        ((MESSAGE_EXPIRY_INTERVAL, "1"),),
        ((MESSAGE_EXPIRY_INTERVAL, 1), (MESSAGE_EXPIRY_INTERVAL, 1)),
        ((CONTENT_TYPE, "a"), (CONTENT_TYPE, "b")),
        ((RECEIVE_MAXIMUM, 1),),
    ],
)
def test_what_is_no_property_of_a_message(properties: Properties) -> None:
    with pytest.raises(LocalProtocolError):
        make_message("t", b"", properties=properties)


def test_a_publish_takes_both_kinds() -> None:
    packet = make_publish(
        "t", b"", 1, False, 3, False, (*PROPERTIES, (TOPIC_ALIAS, 1), (SUBSCRIPTION_IDENTIFIER, 2))
    )
    assert packet.properties == ((TOPIC_ALIAS, 1), (SUBSCRIPTION_IDENTIFIER, 2))
    assert packet.message.properties == PROPERTIES
    assert make_publish("t", b"").properties == ()
