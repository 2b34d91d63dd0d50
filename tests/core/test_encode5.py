"""Packets of MQTT 5.0 to bytes, and what is refused rather than sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_core import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    LocalProtocolError,
    Packet,
    PingReq,
    PingResp,
    Properties,
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
    encode,
    make_publish,
)
from mqtt_core._encode5 import encode_fitting
from mqtt_core._reasons import BY_SERVER
from mqtt_core.properties import (
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    MESSAGE_EXPIRY_INTERVAL,
    REASON_STRING,
    SERVER_REFERENCE,
    SESSION_EXPIRY_INTERVAL,
    SUBSCRIPTION_IDENTIFIER,
    TOPIC_ALIAS,
    USER_PROPERTY,
    WILL_DELAY_INTERVAL,
)
from tests.core import wire5
from tests.core.wire import string, u16
from tests.core.wire5 import prop, reason_string, u32, user

METHOD: Properties = ((AUTHENTICATION_METHOD, "X"),)
TOO_LONG = "x" * 65_536

WRITTEN: list[tuple[Packet, str]] = [
    # The bytes of the standard's figures, or such as anyone may count.
    (Connect("a", True, 60, level=5), "100e00044d51545405 02003c 00 000161"),
    (Connect("", False, level=5), "100d00044d51545405 000000 00 0000"),
    (
        Connect(
            "a",
            True,
            60,
            Will("w", b"z", 0, False, ((WILL_DELAY_INTERVAL, 5),)),
            "u",
            b"p",
            5,
            ((SESSION_EXPIRY_INTERVAL, 300),),
        ),
        "102500044d51545405 c6003c 05110000012c 000161 051800000005 000177 00017a 000175 000170",
    ),
    (Connect("a", password=b"p", level=5), "101100044d51545405 420000 00 000161 000170"),
    (ConnAck(), "2003000000"),
    (ConnAck(True), "2003010000"),
    (ConnAck(False, 0x8C), "2003008c00"),
    (make_publish("t", b"x"), "30050001740078"),
    (make_publish("t", b"x", 1, True, 10, True), "3b070001 74 000a 00 78"),
    (
        make_publish("t", b"x", properties=((TOPIC_ALIAS, 2), (MESSAGE_EXPIRY_INTERVAL, 3))),
        "300d000174 08 0200000003 230002 78",
    ),
    (PubAck(10), "4002000a"),
    (PubAck(10, 0x10), "4003000a10"),
    (PubAck(10, 0, ((REASON_STRING, "s"),)), "4008000a00 041f000173"),
    (PubRec(10, 0x80), "5003000a80"),
    (PubRel(10), "6202000a"),
    (PubRel(10, 0x92), "6203000a92"),
    (PubComp(99, 0x92), "7003006392"),
    (Subscribe(1, (Subscription("t", 1),)), "8207000100 00017401"),
    (
        Subscribe(1, (Subscription("t", 2, True, True, 2),), ((SUBSCRIPTION_IDENTIFIER, 128),)),
        "820a0001 030b8001 0001742e",
    ),
    (SubAck(0xABCD, (1, 0x87)), "9005abcd000187"),
    (Unsubscribe(2, ("t",)), "a206000200000174"),
    (UnsubAck(2, (0, 0x11)), "b0050002000011"),
    (PingReq(), "c000"),
    (PingResp(), "d000"),
    (Disconnect(), "e000"),
    (Disconnect(0x8E), "e0018e"),
    (Disconnect(0, ((SERVER_REFERENCE, "s"),)), "e00600041c000173"),
    (Auth(0x18, METHOD), "f0061804150001 58"),
]

REFUSED: list[tuple[str, Packet]] = [
    ("keep-alive", Connect("c", keep_alive_s=65_536, level=5)),
    ("client id too long", Connect(TOO_LONG, level=5)),
    ("client id with NUL", Connect("a\0", level=5)),
    ("will QoS", Connect("c", will=Will("w", b"", 3), level=5)),
    ("will topic", Connect("c", will=Will("#", b""), level=5)),
    ("will payload too long", Connect("c", will=Will("w", bytes(65_536)), level=5)),
    ("password too long", Connect("c", password=bytes(65_536), level=5)),
    (
        "authentication data without method",
        Connect("c", level=5, properties=((AUTHENTICATION_DATA, b""),)),
    ),
    ("refusal with a session", ConnAck(True, 0x87)),
    ("empty topic", make_publish("", b"")),
    ("wildcard in a topic", make_publish("a/+", b"")),
    ("topic too long", make_publish(TOO_LONG, b"")),
    ("DUP at QoS 0", make_publish("t", b"", dup=True)),
    ("identifier at QoS 0", make_publish("t", b"", packet_id=1)),
    ("QoS 3", make_publish("t", b"", 3, packet_id=1)),
    ("QoS 1 without identifier", make_publish("t", b"", 1)),
    ("alias 0", make_publish("t", b"", properties=((TOPIC_ALIAS, 0),))),
    ("PUBACK 0", PubAck(0)),
    ("PUBREC 65,536", PubRec(65_536)),
    ("PUBREL 0", PubRel(0, 0x92)),
    ("PUBCOMP 0", PubComp(0)),
    ("SUBSCRIBE without filter", Subscribe(1, ())),
    ("SUBSCRIBE 0", Subscribe(0, (Subscription("a"),))),
    ("subscription QoS", Subscribe(1, (Subscription("a", 3),))),
    ("retain handling", Subscribe(1, (Subscription("a", 0, False, False, 3),))),
    ("no local on a shared one", Subscribe(1, (Subscription("$share/g/t", 0, True),))),
    ("filter", Subscribe(1, (Subscription("a#"),))),
    ("share name", Subscribe(1, (Subscription("$share//a"),))),
    ("SUBACK without code", SubAck(1, ())),
    ("UNSUBACK without code", UnsubAck(1)),
    ("UNSUBACK 0", UnsubAck(0, (0,))),
    ("UNSUBSCRIBE without filter", Unsubscribe(1, ())),
    ("UNSUBSCRIBE of no filter", Unsubscribe(1, ("$share/g",))),
    ("AUTH without a method", Auth(0x18)),
    ("not a packet of the wire", Will("w", b"")),
]


@pytest.mark.parametrize(("packet", "data"), WRITTEN, ids=lambda value: repr(value)[:60])
def test_a_packet_is_written(packet: Packet, data: str) -> None:
    assert encode(packet, 5).hex() == data.replace(" ", "")


@pytest.mark.parametrize("packet", [each[1] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_what_mqtt_forbids_is_not_written(packet: Packet) -> None:
    with pytest.raises(LocalProtocolError, match=r"\w"):
        encode(packet, 5)


def test_a_packet_over_the_largest_remaining_length_is_not_written() -> None:
    payload = bytes(268_435_455)
    with pytest.raises(LocalProtocolError):
        encode(make_publish("t", payload), 5)


# What one version can say and the other cannot


@pytest.mark.parametrize(
    "subscription",
    [
        Subscription("a", 0, True),
        Subscription("a", 0, False, True),
        Subscription("a", 0, False, False, 1),
    ],
)
def test_options_are_not_dropped_without_a_word(subscription: Subscription) -> None:
    with pytest.raises(LocalProtocolError, match="options"):
        encode(Subscribe(1, (subscription,)))


def test_there_is_no_auth_in_3_1_1() -> None:
    with pytest.raises(LocalProtocolError, match="Auth is not a packet"):
        encode(Auth(0x18, METHOD))


def test_what_3_1_1_has_no_place_for_is_left_out() -> None:
    pairs: Properties = ((USER_PROPERTY, ("k", "v")),)
    assert encode(PubAck(1, 0x80, pairs)) == b"\x40\2\0\1"
    assert encode(make_publish("t", b"x", properties=pairs)) == b"\x30\4\0\1tx"
    assert encode(UnsubAck(1, (0x11,), pairs)) == b"\xb0\2\0\1"
    assert encode(Disconnect(4, pairs)) == b"\xe0\0"


# Problem information

LONG: Properties = ((USER_PROPERTY, ("k", "v" * 50)), (REASON_STRING, "r" * 20))
BYTES = user("k", "v" * 50) + reason_string("r" * 20)
SHORT = reason_string("r" * 20)


def ack(make: Callable[..., bytes], reason: int) -> Callable[[bytes], bytes]:
    """How an acknowledgement is made, as short as it may be."""
    return lambda data: make(1, reason, data) if data else make(1, reason)


def forms(packet: Packet, make: Callable[[bytes], bytes]) -> tuple[Packet, bytes, bytes, bytes]:
    """A packet with problem information: whole, without user properties, and with nothing."""
    return packet, make(BYTES), make(SHORT), make(b"")


PROBLEMS = [
    forms(PubAck(1, 0x80, LONG), ack(wire5.puback, 0x80)),
    forms(PubRec(1, 0x80, LONG), ack(wire5.pubrec, 0x80)),
    forms(PubRel(1, 0x92, LONG), ack(wire5.pubrel, 0x92)),
    forms(PubComp(1, 0x92, LONG), ack(wire5.pubcomp, 0x92)),
    forms(SubAck(1, (0x87,), LONG), lambda data: wire5.suback(1, 0x87, properties=data)),
    forms(UnsubAck(1, (0x87,), LONG), lambda data: wire5.unsuback(1, 0x87, properties=data)),
    forms(
        ConnAck(False, 0, ((SESSION_EXPIRY_INTERVAL, 1), *LONG)),
        lambda data: wire5.connack(0, prop(0x11, u32(1)), data),
    ),
    forms(
        Disconnect(0x80, LONG),
        lambda data: wire5.disconnect(0x80, data) if data else wire5.disconnect(0x80),
    ),
    forms(Auth(0x18, (*METHOD, *LONG)), lambda data: wire5.auth(0x18, wire5.method("X"), data)),
]


@pytest.mark.parametrize(
    ("packet", "whole", "short", "bare"), PROBLEMS, ids=lambda value: repr(value)[:9]
)
def test_problem_information_is_left_out_where_it_does_not_fit(
    packet: Packet, whole: bytes, short: bytes, bare: bytes
) -> None:
    def fit(limit_bytes: int) -> bytes:
        return encode_fitting(packet, BY_SERVER, limit_bytes, True)

    assert fit(len(whole)) == whole
    assert fit(len(whole) - 1) == short
    assert fit(len(short)) == short
    assert fit(len(short) - 1) == bare
    assert fit(len(bare)) == bare
    with pytest.raises(LocalProtocolError, match="over the peer's maximum"):
        fit(len(bare) - 1)


@pytest.mark.statement("MQTT-3.1.2-29")
@pytest.mark.parametrize(
    ("packet", "whole", "short", "bare"), PROBLEMS, ids=lambda value: repr(value)[:9]
)
def test_problem_information_is_left_out_where_it_was_not_asked_for(
    packet: Packet, whole: bytes, short: bytes, bare: bytes
) -> None:
    is_always_allowed = isinstance(packet, ConnAck | Disconnect)
    expected = whole if is_always_allowed else bare
    assert encode_fitting(packet, BY_SERVER, 1_000, False) == expected


def test_a_packet_of_another_kind_fits_or_does_not() -> None:
    packet = make_publish("t", b"x", properties=((USER_PROPERTY, ("k", "v")),))
    data = wire5.publish("t", b"x", 0, 0, prop(0x26, string("k"), string("v")))
    assert encode_fitting(packet, BY_SERVER, len(data), False) == data
    with pytest.raises(LocalProtocolError, match=f"packet of {len(data)} bytes"):
        encode_fitting(packet, BY_SERVER, len(data) - 1, False)
    assert encode_fitting(PubAck(1), BY_SERVER, 4, True) == b"\x40\2" + u16(1)
