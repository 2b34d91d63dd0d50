"""Packets to bytes, and what is refused rather than sent."""

from __future__ import annotations

import pytest

from mqtt_core import (
    ConnAck,
    Connect,
    Disconnect,
    LocalProtocolError,
    Packet,
    PingReq,
    PingResp,
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
    make_message,
    make_publish,
)
from mqtt_core._fields import encode_variable, frame
from tests.core import wire

WRITTEN: list[tuple[Packet, bytes]] = [
    (Connect("c"), wire.connect("c")),
    (Connect("c", False, 10), wire.connect("c", clean=False, keep_alive_s=10)),
    (Connect("c", level=3), wire.connect("c", level=3)),
    (
        Connect("c", will=Will("w", b"x", 2, True), username="u", password=b"p"),
        wire.connect("c", will=("w", b"x", 2, True), username="u", password=b"p"),
    ),
    (ConnAck(), b"\x20\2\0\0"),
    (ConnAck(True), b"\x20\2\1\0"),
    (ConnAck(False, 0x84), b"\x20\2\0\1"),
    (ConnAck(False, 0x85), b"\x20\2\0\2"),
    (ConnAck(False, 0x88), b"\x20\2\0\3"),
    (ConnAck(False, 0x89), b"\x20\2\0\3"),
    (ConnAck(False, 0x97), b"\x20\2\0\3"),
    (ConnAck(False, 0x86), b"\x20\2\0\4"),
    (ConnAck(False, 0x87), b"\x20\2\0\5"),
    (make_publish("t", b"x"), wire.publish("t", b"x")),
    (make_publish("t", b"x", 0, True), wire.publish("t", b"x", retain=True)),
    (
        make_publish("t", b"x", 1, True, 9, True),
        wire.publish("t", b"x", 1, 9, retain=True, dup=True),
    ),
    (make_publish("ü", b"", 2, False, 65_535), wire.publish("ü", b"", 2, 65_535)),
    (PubAck(1), b"\x40\2\0\1"),
    (PubRec(256), b"\x50\2\1\0"),
    (PubRel(65_535), b"\x62\2\xff\xff"),
    (PubComp(2), b"\x70\2\0\2"),
    (
        Subscribe(1, (Subscription("a", 1), Subscription("#"))),
        wire.subscribe(1, ("a", 1), ("#", 0)),
    ),
    (SubAck(1, (0, 1, 2, 0x80, 0x87)), wire.suback(1, 0, 1, 2, 0x80, 0x80)),
    (Unsubscribe(7, ("a", "b/+")), wire.unsubscribe(7, "a", "b/+")),
    (UnsubAck(7), b"\xb0\2\0\7"),
    (PingReq(), b"\xc0\0"),
    (PingResp(), b"\xd0\0"),
    (Disconnect(), b"\xe0\0"),
]

TOO_LONG = "x" * 65_536

REFUSED: list[tuple[str, Packet]] = [
    ("level", Connect("c", level=6)),
    ("empty client id of a persistent session", Connect("", clean_start=False)),
    ("empty client id in MQTT 3.1", Connect("", level=3)),
    ("password without user name", Connect("c", password=b"")),
    ("keep-alive", Connect("c", keep_alive_s=65_536)),
    ("negative keep-alive", Connect("c", keep_alive_s=-1)),
    ("client id too long", Connect(TOO_LONG)),
    ("client id with NUL", Connect("a\0")),
    ("client id with a surrogate", Connect("\ud800")),
    ("will QoS", Connect("c", will=Will("w", b"", 3))),
    ("will topic", Connect("c", will=Will("#", b""))),
    ("empty will topic", Connect("c", will=Will("", b""))),
    ("will message too long", Connect("c", will=Will("w", bytes(65_536)))),
    ("user name with NUL", Connect("c", username="\0")),
    ("password too long", Connect("c", username="u", password=bytes(65_536))),
    ("reason without a code", ConnAck(False, 0x80)),
    ("refusal with a session", ConnAck(True, 0x87)),
    ("empty topic", make_publish("", b"")),
    ("wildcard in a topic", make_publish("a/+", b"")),
    ("NUL in a topic", make_publish("\0", b"")),
    ("topic too long", make_publish(TOO_LONG, b"")),
    ("DUP at QoS 0", make_publish("t", b"", dup=True)),
    ("identifier at QoS 0", make_publish("t", b"", packet_id=1)),
    ("QoS 3", make_publish("t", b"", 3, packet_id=1)),
    ("QoS 1 without identifier", make_publish("t", b"", 1)),
    ("identifier too large", make_publish("t", b"", 2, packet_id=65_536)),
    ("PUBACK 0", PubAck(0)),
    ("PUBREC 0", PubRec(0)),
    ("PUBREL 65,536", PubRel(65_536)),
    ("PUBCOMP -1", PubComp(-1)),
    ("SUBSCRIBE without filter", Subscribe(1, ())),
    ("SUBSCRIBE 0", Subscribe(0, (Subscription("a"),))),
    ("subscription QoS", Subscribe(1, (Subscription("a", 3),))),
    ("negative subscription QoS", Subscribe(1, (Subscription("a", -1),))),
    ("filter", Subscribe(1, (Subscription("a#"),))),
    ("empty filter", Subscribe(1, (Subscription(""),))),
    ("filter too long", Subscribe(1, (Subscription(TOO_LONG),))),
    ("SUBACK without code", SubAck(1, ())),
    ("SUBACK 0", SubAck(0, (0,))),
    ("SUBACK of a negative reason", SubAck(1, (-1,))),
    ("UNSUBSCRIBE without filter", Unsubscribe(1, ())),
    ("UNSUBSCRIBE 0", Unsubscribe(0, ("a",))),
    ("UNSUBSCRIBE of no filter", Unsubscribe(1, ("#/a",))),
    ("UNSUBACK 0", UnsubAck(0)),
    ("not a packet of the wire", Will("w", b"")),
]


@pytest.mark.parametrize(("packet", "data"), WRITTEN, ids=lambda value: repr(value)[:60])
def test_a_packet_is_written(packet: Packet, data: bytes) -> None:
    assert encode(packet) == data


@pytest.mark.parametrize("packet", [each[1] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_what_mqtt_forbids_is_not_written(packet: Packet) -> None:
    with pytest.raises(LocalProtocolError, match=r"\w"):
        encode(packet)


@pytest.mark.parametrize(
    ("length", "encoded"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_a_remaining_length_takes_the_bytes_of_the_standards_table(
    length: int, encoded: str
) -> None:
    assert encode_variable(length).hex() == encoded == wire.remaining_length(length).hex()


def test_a_packet_over_the_largest_remaining_length_is_not_written() -> None:
    payload = bytes(268_435_455)
    with pytest.raises(LocalProtocolError):
        encode(make_publish("t", payload))
    with pytest.raises(LocalProtocolError):
        encode(make_publish("t", payload, 1, packet_id=1))


def test_a_body_over_the_largest_remaining_length_is_not_written() -> None:
    with pytest.raises(LocalProtocolError):
        frame(0x82, bytes(268_435_456))


def test_the_password_is_in_no_representation() -> None:
    connect = Connect("c", username="u", password=b"very secret")
    assert "secret" not in repr(connect)
    assert connect == Connect("c", username="u", password=b"very secret")
    assert connect != Connect("c", username="u", password=b"other")
    assert connect != Connect("d", username="u", password=b"very secret")
    assert connect != "c"
    assert hash(connect) == hash(Connect("c", username="u", password=b"very secret"))


def test_packets_are_equal_by_their_fields() -> None:
    for packet, _ in WRITTEN:
        for other, _ in WRITTEN:
            assert (packet == other) is (packet is other)
        assert packet != None  # noqa: E711  # what is tested is the comparison
        assert len({packet, packet}) == 1
        assert type(packet).__name__ in repr(packet)
    assert repr(PubAck(3)) == "PubAck(packet_id=3, reason=0, properties=())"


def test_a_message_shows_a_short_payload_and_the_size_of_a_long_one() -> None:
    assert repr(make_message("t", b"x")) == "Message('t', b'x', qos=0, retain=False)"
    assert repr(make_message("t", bytes(33))) == "Message('t', <33 bytes>, qos=0, retain=False)"
    assert make_message("t", b"x") == make_message("t", b"x")
    assert make_message("t", b"x") != make_message("t", b"x", 1)
    assert make_message("t", b"x") != "t"
    assert len({make_message("t", b"x"), make_message("t", b"x")}) == 1


def test_a_packet_is_taken_apart_by_match() -> None:
    match make_publish("t", b"x", 1, True, 4):
        case packet:
            assert (packet.topic, packet.payload, packet.qos, packet.retain) == ("t", b"x", 1, True)
    match PubAck(3):
        case PubAck(packet_id):
            assert packet_id == 3
