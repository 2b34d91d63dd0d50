"""Properties by their table: each in every packet, once, twice, at its bounds and cut short."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_core import (
    CLIENT,
    SERVER,
    Auth,
    ConnAck,
    Connect,
    Connection,
    ConnectionRefused,
    Disconnect,
    LocalProtocolError,
    Packet,
    PropertyValue,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    RemoteProtocolError,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
    encode,
    make_publish,
    properties,
)
from mqtt_core._codes import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MQTT_5,
    PACKET_NAMES,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
)
from mqtt_core._properties import (
    BINARY_DATA,
    BYTE,
    FOUR_BYTE_INTEGER,
    PROPERTIES,
    RULES,
    TWO_BYTE_INTEGER,
    UTF8_STRING,
    UTF8_STRING_PAIR,
    VALUE_KIND_NAMES,
    VARIABLE_BYTE_INTEGER,
    WILL,
    Properties,
    PropertyRule,
    show_properties,
)
from mqtt_core._property_codec import (
    NO_LIMITS,
    PropertyLimits,
    decode_properties,
    encode_pairs,
    encode_properties,
)
from mqtt_core._reader import Reader
from mqtt_core.properties import (
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    CORRELATION_DATA,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    RESPONSE_TOPIC,
    SESSION_EXPIRY_INTERVAL,
    SUBSCRIPTION_IDENTIFIER,
    USER_PROPERTY,
)
from tests.core import wire5
from tests.core.wire import remaining_length, string, u16
from tests.core.wire5 import prop, u32, user
from tests.strategies import property_sets

# A value of each kind, and its bytes by the standard's rules (1.5).
SAMPLES: dict[int, tuple[PropertyValue, bytes]] = {
    BYTE: (1, b"\x01"),
    TWO_BYTE_INTEGER: (0x1234, u16(0x1234)),
    FOUR_BYTE_INTEGER: (0x12345678, u32(0x12345678)),
    VARIABLE_BYTE_INTEGER: (128, b"\x80\x01"),
    UTF8_STRING: ("ü", string("ü")),
    BINARY_DATA: (b"\x00\xff", string(b"\x00\xff")),
    UTF8_STRING_PAIR: (("k", "ü"), string("k") + string("ü")),
}

# How a packet with properties is made and which role reads it, in which state.
PLACES: dict[int, tuple[int, Callable[[bytes], bytes]]] = {
    WILL: (SERVER, lambda data: wire5.connect(will=wire5.Will5("w", properties=data))),
    CONNECT: (SERVER, lambda data: wire5.connect("c", data)),
    CONNACK: (CLIENT, lambda data: wire5.connack(0, data)),
    PUBLISH: (CLIENT, lambda data: wire5.publish("t", b"x", 0, 0, data)),
    PUBACK: (SERVER, lambda data: wire5.puback(1, 0, data)),
    PUBREC: (SERVER, lambda data: wire5.pubrec(1, 0, data)),
    PUBREL: (SERVER, lambda data: wire5.pubrel(1, 0, data)),
    PUBCOMP: (SERVER, lambda data: wire5.pubcomp(1, 0, data)),
    SUBSCRIBE: (SERVER, lambda data: wire5.subscribe(1, ("t", 0), properties=data)),
    SUBACK: (CLIENT, lambda data: wire5.suback(1, 0, properties=data)),
    UNSUBSCRIBE: (SERVER, lambda data: wire5.unsubscribe(1, "t", properties=data)),
    UNSUBACK: (CLIENT, lambda data: wire5.unsuback(1, 0, properties=data)),
    DISCONNECT: (SERVER, lambda data: wire5.disconnect(0, data)),
    AUTH: (SERVER, lambda data: wire5.auth(0x19, data)),
}
NAMES = {WILL: "will", **{place: PACKET_NAMES[place] for place in PLACES if place}}
PAIRS = [(rule, place) for rule in PROPERTIES for place in PLACES]


def pair_id(value: PropertyRule | int) -> str:
    return NAMES[value] if isinstance(value, int) else value.name


def sample(rule: PropertyRule) -> tuple[PropertyValue, bytes]:
    value, data = SAMPLES[rule.kind]
    return value, prop(rule.identifier, data)


def reader_in(place: int) -> Connection:
    """A connection that is about to read a packet of the type, and allows all its properties."""
    role, _ = PLACES[place]
    connection = Connection(role)
    if role == CLIENT:
        mine = ((properties.TOPIC_ALIAS_MAXIMUM, 65_535),)
        connection.send_connect(Connect("c", level=5, properties=mine), 0.0)
        if place != CONNACK:
            connection.feed(wire5.connack(), 0.0)
            assert connection.read_packet() is not None
    elif place not in (WILL, CONNECT):
        theirs = prop(0x11, u32(60)) + wire5.method("ü")
        connection.feed(wire5.connect("c", theirs), 0.0)
        assert connection.read_packet() is not None
        connection.send_connack(ConnAck(), 0.0)
    connection.data_to_send()
    return connection


def read(place: int, data: bytes) -> Properties:
    """The properties of a packet that has them as bytes."""
    if place == AUTH and data[:1] != bytes([AUTHENTICATION_METHOD]):
        data = wire5.method("ü") + data
    connection = reader_in(place)
    connection.feed(PLACES[place][1](data), 0.0)
    packet = connection.read_packet()
    assert packet is not None
    found: Properties
    if isinstance(packet, Connect) and place == WILL:
        assert packet.will is not None
        found = packet.will.properties
    elif place == PUBLISH:
        found = packet.message.properties + packet.properties  # type: ignore[attr-defined]  # a PUBLISH
    else:
        found = packet.properties  # type: ignore[attr-defined]  # every packet but PINGREQ has them
    return found


def error_of(place: int, data: bytes) -> RemoteProtocolError:
    """The error for properties that may not be."""
    connection = reader_in(place)
    connection.feed(PLACES[place][1](data), 0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        connection.read_packet()
    assert isinstance(caught.value, ConnectionRefused) is (place in (WILL, CONNECT))
    return caught.value


def test_the_table_has_the_properties_of_the_standard() -> None:
    assert len(PROPERTIES) == 27
    identifiers = [rule.identifier for rule in PROPERTIES]
    assert identifiers == sorted(set(identifiers))
    assert {rule for rule in RULES if rule is not None} == set(PROPERTIES)
    assert len(VALUE_KIND_NAMES) == len(SAMPLES)
    for rule in PROPERTIES:
        name = rule.name.upper().replace(" ", "_")
        assert getattr(properties, name) == rule.identifier
        assert set(rule.places) <= set(PLACES)
        for place in rule.places:
            # Every rule is a sentence of the standard.
            assert (rule.places[place] == "") is (place in rule.repeats)


@pytest.mark.statement("P5-2.2.2-1")
@pytest.mark.parametrize(("rule", "place"), PAIRS, ids=pair_id)
def test_a_property_stands_where_the_table_says(rule: PropertyRule, place: int) -> None:
    value, data = sample(rule)
    if place in rule.places:
        if rule.identifier == AUTHENTICATION_DATA and place == CONNECT:
            data = wire5.method("m") + data
        if rule.identifier == AUTHENTICATION_METHOD and place == CONNACK:
            return  # the method of CONNECT, which has none here: see the exchange
        assert (rule.identifier, value) in read(place, data)
        return
    error = error_of(place, data)
    assert (error.statement, error.reason) == ("P5-2.2.2-1", 0x81)
    with pytest.raises(LocalProtocolError, match=rule.name):
        encode_properties(((rule.identifier, value),), place)


@pytest.mark.parametrize(
    ("rule", "place"), [pair for pair in PAIRS if pair[1] in pair[0].places], ids=pair_id
)
def test_a_property_stands_once_unless_the_table_says(rule: PropertyRule, place: int) -> None:
    value, data = sample(rule)
    pairs = ((rule.identifier, value),)
    if place in rule.repeats:
        assert read(place, data * 2).count(pairs[0]) == 2
        assert encode_pairs(pairs * 2, place) == data * 2
        return
    error = error_of(place, data * 2)
    assert (error.statement, error.reason) == (rule.places[place], 0x82)
    with pytest.raises(LocalProtocolError, match="only once"):
        encode_properties(pairs * 2, place)


@pytest.mark.parametrize(
    ("rule", "place"),
    [pair for pair in PAIRS if pair[1] in pair[0].places and pair[0].kind <= VARIABLE_BYTE_INTEGER],
    ids=pair_id,
)
def test_a_number_is_within_its_bounds(rule: PropertyRule, place: int) -> None:
    sizes = {BYTE: 1, TWO_BYTE_INTEGER: 2, FOUR_BYTE_INTEGER: 4}
    size = sizes.get(rule.kind, 0)
    largest = 256**size - 1 if size else 268_435_455
    for number in {0, rule.least, rule.most, rule.most + 1, largest} - {256**size if size else -1}:
        data = remaining_length(number) if not size else number.to_bytes(size, "big")
        if number > largest:
            continue
        pairs = ((rule.identifier, number),)
        if rule.least <= number <= rule.most:
            assert (rule.identifier, number) in read(place, prop(rule.identifier, data))
            assert encode_pairs(pairs, place) == prop(rule.identifier, data)
            continue
        error = error_of(place, prop(rule.identifier, data))
        assert error.reason == rule.value_reason
        assert error.statement == rule.value_statement(place)
        with pytest.raises(LocalProtocolError, match=f"is {number}"):
            encode_properties(pairs, place)
    for number in (-1, rule.most + 1):
        with pytest.raises(LocalProtocolError, match="not within"):
            encode_properties(((rule.identifier, number),), place)


@pytest.mark.statement("P5-2.2.2-2")
@pytest.mark.parametrize("rule", PROPERTIES, ids=pair_id)
def test_a_value_that_is_cut_short(rule: PropertyRule) -> None:
    place = next(iter(rule.places))
    _, data = sample(rule)
    for end in range(1, len(data)):
        error = error_of(place, data[:end])
        assert error.statement.startswith(("P5-2.2.2-2", "MQTT-", "P5-1.5.5-1")), end
        assert error.reason == 0x81


@pytest.mark.parametrize("identifier", [0x00, 0x04, 0x10, 0x2B, 0x7F, 0x80, 0xFF])
@pytest.mark.parametrize("place", PLACES, ids=NAMES.get)
def test_what_is_no_property(place: int, identifier: int) -> None:
    error = error_of(place, bytes([identifier]))
    assert (error.statement, error.reason) == ("P5-2.2.2-1", 0x81)
    with pytest.raises(LocalProtocolError, match="no property"):
        encode_properties(((identifier, 0),), place)


def test_there_is_no_property_of_a_negative_number() -> None:
    with pytest.raises(LocalProtocolError, match="no property"):
        encode_properties(((-1, 0),), PUBLISH)
    assert show_properties(((-1, 0), (300, 0))) == "(0x-1=0, 0x12C=0)"


@pytest.mark.parametrize(
    ("identifier", "value"),
    [
        (RECEIVE_MAXIMUM, "1"),
        (SESSION_EXPIRY_INTERVAL, b"1"),
        (AUTHENTICATION_METHOD, 1),
        (AUTHENTICATION_METHOD, b"m"),
        (AUTHENTICATION_DATA, "m"),
        (USER_PROPERTY, "m"),
        (USER_PROPERTY, 1),
        (AUTHENTICATION_METHOD, ("a", "b")),
    ],
)
def test_a_value_of_another_type_is_not_written(identifier: int, value: PropertyValue) -> None:
    with pytest.raises(LocalProtocolError, match=r"type|not a number"):
        encode_properties(((identifier, value),), CONNECT)


@pytest.mark.parametrize(
    ("identifier", "value"),
    [
        (RESPONSE_TOPIC, "a/#"),
        (RESPONSE_TOPIC, ""),
        (RESPONSE_TOPIC, "\0"),
        (USER_PROPERTY, ("\0", "")),
        (USER_PROPERTY, ("", "\ud800")),
        (USER_PROPERTY, ("x" * 65_536, "")),
        (CORRELATION_DATA, bytes(65_536)),
    ],
)
def test_a_value_that_mqtt_forbids_is_not_written(identifier: int, value: PropertyValue) -> None:
    with pytest.raises(LocalProtocolError):
        encode_properties(((identifier, value),), PUBLISH)


def test_more_properties_than_a_packet_can_have_are_not_written() -> None:
    large = ((USER_PROPERTY, ("x" * 65_535, "x" * 65_535)),) * 2_049
    with pytest.raises(LocalProtocolError, match="over 268,435,455"):
        encode_properties(large, PUBLISH)


# Limits


def decode(data: bytes, limits: PropertyLimits) -> Properties:
    return decode_properties(Reader(data, 0, len(data), MQTT_5), PUBLISH, limits)


def test_the_number_of_user_properties_is_limited() -> None:
    limits = PropertyLimits(3, 1_000)
    three = ((USER_PROPERTY, ("", "")),) * 3
    assert decode(wire5.props(user("", "") * 3), limits) == three
    with pytest.raises(RemoteProtocolError, match="more than 3 user properties") as caught:
        decode(wire5.props(user("", "") * 4), limits)
    assert (caught.value.statement, caught.value.reason) == ("", 0x97)


def test_their_bytes_are_limited_before_they_are_read() -> None:
    limits = PropertyLimits(1_000, 10)
    assert decode(wire5.props(user("", "12345")), limits) == ((USER_PROPERTY, ("", "12345")),)
    with pytest.raises(RemoteProtocolError, match="11 bytes are over") as caught:
        decode(wire5.props(b"\xff" * 11), limits)
    assert caught.value.reason == 0x97


def test_a_length_past_the_packet_is_refused_before_the_limit() -> None:
    with pytest.raises(RemoteProtocolError, match="run past") as caught:
        decode(b"\xff\xff\xff\x7f", NO_LIMITS)
    assert (caught.value.statement, caught.value.reason) == ("P5-2.2.2-2", 0x81)


@pytest.mark.parametrize("place", PLACES, ids=NAMES.get)
def test_every_packet_is_under_the_limits(place: int) -> None:
    error = error_of(place, user("", "") * 101)
    assert (error.statement, error.reason) == ("", 0x97)
    error = error_of(place, user("x" * 65_535, ""))
    assert error.reason == 0x97


# Looking one up


def test_looking_one_up() -> None:
    found: Properties = (
        (USER_PROPERTY, ("a", "1")),
        (RECEIVE_MAXIMUM, 7),
        (REASON_STRING, "why"),
        (CORRELATION_DATA, b"\0"),
        (USER_PROPERTY, ("a", "2")),
        (SUBSCRIPTION_IDENTIFIER, 1),
        (SUBSCRIPTION_IDENTIFIER, 2),
    )
    assert properties.number(found, RECEIVE_MAXIMUM, 65_535) == 7
    assert properties.number(found, SUBSCRIPTION_IDENTIFIER, 0) == 1
    assert properties.number(found, SESSION_EXPIRY_INTERVAL, -1) == -1
    assert properties.text(found, REASON_STRING) == "why"
    assert properties.text(found, RESPONSE_TOPIC) is None
    assert properties.binary(found, CORRELATION_DATA) == b"\0"
    assert properties.binary(found, AUTHENTICATION_DATA) is None
    assert properties.user_properties(found) == [("a", "1"), ("a", "2")]


def test_authentication_data_is_in_no_representation() -> None:
    secret: Properties = ((AUTHENTICATION_METHOD, "m"), (AUTHENTICATION_DATA, b"very secret"))
    shown = "(Authentication Method='m', Authentication Data=<11 bytes>)"
    assert show_properties(secret) == shown
    for packet in (Auth(0x18, secret), ConnAck(properties=secret), Connect("c", properties=secret)):
        assert "secret" not in repr(packet)
        assert shown in repr(packet)


# Whatever the properties are


@given(st.sampled_from(list(PLACES)), st.data())
def test_properties_survive_the_wire(place: int, data: st.DataObject) -> None:
    pairs = data.draw(property_sets(place))
    encoded = encode_properties(pairs, place)
    assert decode_properties(Reader(encoded, 0, len(encoded), MQTT_5), place, NO_LIMITS) == pairs


@given(st.sampled_from(list(PLACES)), st.binary(max_size=40))
def test_any_bytes_give_properties_or_a_remote_error(place: int, data: bytes) -> None:
    encoded = wire5.props(data)
    wrong: RemoteProtocolError | None = None
    found: Properties = ()
    try:
        found = decode_properties(Reader(encoded, 0, len(encoded), MQTT_5), place, NO_LIMITS)
    except RemoteProtocolError as error:
        wrong = error
    if wrong is None:
        assert encode_properties(found, place) == encoded
    else:
        assert wrong.statement
        assert 0 <= wrong.offset <= len(encoded)


@pytest.mark.parametrize("place", PLACES, ids=NAMES.get)
def test_the_encoder_writes_what_the_standard_says(place: int) -> None:
    pairs: Properties = ((USER_PROPERTY, ("k", "ü")),)
    data = user("k", "ü")
    with_method: Properties = ((AUTHENTICATION_METHOD, "ü"), *pairs)
    if place == AUTH:
        data = wire5.method("ü") + data
    packets: dict[int, Packet] = {
        WILL: Connect("c", will=Will("w", b"", properties=pairs), level=5),
        CONNECT: Connect("c", level=5, properties=pairs),
        CONNACK: ConnAck(properties=pairs),
        PUBLISH: make_publish("t", b"x", properties=pairs),
        PUBACK: PubAck(1, 0, pairs),
        PUBREC: PubRec(1, 0, pairs),
        PUBREL: PubRel(1, 0, pairs),
        PUBCOMP: PubComp(1, 0, pairs),
        SUBSCRIBE: Subscribe(1, (Subscription("t"),), pairs),
        SUBACK: SubAck(1, (0,), pairs),
        UNSUBSCRIBE: Unsubscribe(1, ("t",), pairs),
        UNSUBACK: UnsubAck(1, (0,), pairs),
        DISCONNECT: Disconnect(0, pairs),
        AUTH: Auth(0x19, with_method),
    }
    assert encode(packets[place], MQTT_5) == PLACES[place][1](data)
