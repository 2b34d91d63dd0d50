"""What each packet's bytes mean, and what is wrong with those that have no meaning.

Every case runs whole, byte by byte, and cut in two at every position: the packets and the error,
with its statement and offset, must be the same.
"""

from __future__ import annotations

import pytest

from mqtt_core import (
    CLIENT,
    SERVER,
    ConnAck,
    Connect,
    Disconnect,
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
    make_publish,
)
from tests.core.bytecases import (
    FRESH,
    Case,
    Wrong,
    connection_in,
    play,
    read,
    to_client,
    to_server,
    wrong_to_client,
    wrong_to_server,
)
from tests.core.wire import (
    connack,
    connect,
    packet,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    string,
    suback,
    subscribe,
    u16,
    unsuback,
    unsubscribe,
)

LONGEST = "x" * 65_535


def connecting(name: str, data: bytes, expected: Connect) -> Case:
    """A CONNECT that is read."""
    return Case(name, SERVER, data, (expected,), state=FRESH)


def wrong_connect(name: str, data: bytes, statement: str, offset: int, reason: int = 0x81) -> Case:
    """A CONNECT that is not."""
    return Case(name, SERVER, data, (), Wrong(statement, offset, reason), state=FRESH)


def refused_connect(name: str, data: bytes, statement: str, offset: int, reason: int) -> Case:
    """A CONNECT that has an answer."""
    return Case(name, SERVER, data, (), Wrong(statement, offset, reason, True), state=FRESH)


def with_flags(flags: int, *payload: bytes) -> bytes:
    """A CONNECT with any flags and payload."""
    return packet(0x10, string("MQTT"), bytes([4, flags]), u16(0), *payload)


CONNECTS = [
    connecting("connect", connect("c"), Connect("c")),
    connecting("persistent", connect("c", clean=False), Connect("c", clean_start=False)),
    connecting("generated id", connect(""), Connect("")),
    connecting("keep-alive", connect("c", keep_alive_s=65_535), Connect("c", True, 65_535)),
    connecting(
        "will",
        connect("c", will=("w/t", b"gone", 2, True)),
        Connect("c", will=Will("w/t", b"gone", 2, True)),
    ),
    connecting(
        "empty will", connect("c", will=("w", b"", 0, False)), Connect("c", will=Will("w", b""))
    ),
    connecting(
        "user name and password",
        connect("c", username="u", password=b"\x00\xff"),
        Connect("c", username="u", password=b"\x00\xff"),
    ),
    connecting("user name", connect("c", username=""), Connect("c", username="")),
    connecting(
        "everything",
        connect("ü", will=("w", b"x", 1, False), username="u", password=b"p", keep_alive_s=10),
        Connect("ü", True, 10, Will("w", b"x", 1), "u", b"p"),
    ),
    connecting("byte order mark", connect("\ufeffc"), Connect("\ufeffc")),
    connecting("longest id", connect(LONGEST), Connect(LONGEST)),
    connecting("MQTT 3.1", connect("c", level=3), Connect("c", level=3)),
    connecting(
        "MQTT 3.1 without the user name it announces",
        connect("c", level=3, flags=0xC2),
        Connect("c", level=3),
    ),
    connecting(
        "MQTT 3.1 without the password it announces",
        connect("c", level=3, username="u", flags=0xC2),
        Connect("c", username="u", level=3),
    ),
    wrong_connect("another name", connect(name="MQTX"), "MQTT-3.1.2-1", 2, 0x82),
    wrong_connect("no name", connect(name=" "), "MQTT-3.1.2-1", 2, 0x82),
    refused_connect("level 6", connect(level=6), "MQTT-3.1.2-2", 8, 0x84),
    refused_connect("level 2", connect(level=2, name="MQIsdp"), "MQTT-3.1.2-2", 10, 0x84),
    Case(
        "level 5 where 3.1.1 is the newest",
        SERVER,
        connect(level=5),
        (),
        Wrong("MQTT-3.1.2-2", 8, 0x84, True),
        state=FRESH,
        newest_level=4,
    ),
    refused_connect("level 4 of MQIsdp", connect(level=4, name="MQIsdp"), "MQTT-3.1.2-2", 10, 0x84),
    refused_connect("level 3 of MQTT", connect(level=3, name="MQTT"), "MQTT-3.1.2-2", 8, 0x84),
    wrong_connect("reserved flag", connect(flags=0x03), "MQTT-3.1.2-3", 9),
    wrong_connect("will QoS without will", connect(flags=0x0A), "MQTT-3.1.2-13", 9),
    wrong_connect("will retain without will", connect(flags=0x22), "MQTT-3.1.2-15", 9),
    wrong_connect("will QoS 3", connect(will=("w", b"", 3, False)), "MQTT-3.1.2-14", 9),
    wrong_connect("password alone", connect(password=b"p"), "MQTT-3.1.2-22", 9),
    wrong_connect("nothing", packet(0x10), "MQTT-3.1.4-1", 2),
    wrong_connect("half a name", packet(0x10, b"\0\4MQ"), "MQTT-3.1.4-1", 2),
    wrong_connect("no level", packet(0x10, string("MQTT")), "MQTT-3.1.4-1", 8),
    wrong_connect("no flags", packet(0x10, string("MQTT"), b"\4"), "MQTT-3.1.4-1", 9),
    wrong_connect("no keep-alive", packet(0x10, string("MQTT"), b"\4\2"), "MQTT-3.1.4-1", 10),
    wrong_connect("no client id", with_flags(2), "MQTT-3.1.3-4", 12),
    wrong_connect("half a client id", with_flags(2, b"\0\5ab"), "MQTT-3.1.3-4", 12),
    wrong_connect("client id not UTF-8", connect(b"\xff"), "MQTT-3.1.3-4", 12),
    wrong_connect("client id is a surrogate", connect(b"\xed\xa0\x80"), "MQTT-3.1.3-4", 12),
    wrong_connect("client id has NUL", connect("a\0b"), "MQTT-1.5.3-2", 12),
    refused_connect("persistent without id", connect("", clean=False), "MQTT-3.1.3-8", 12, 0x85),
    refused_connect("MQTT 3.1 without id", connect("", level=3), "MQTT-3.1.3-8", 14, 0x85),
    wrong_connect("will without topic", with_flags(6, string("c")), "MQTT-3.1.2-9", 15),
    wrong_connect(
        "will without message", with_flags(6, string("c"), string("w")), "MQTT-3.1.2-9", 18
    ),
    wrong_connect("will topic empty", connect(will=("", b"", 0, False)), "MQTT-4.7.3-1", 15, 0x90),
    wrong_connect(
        "will topic wild", connect(will=("a/#", b"", 0, False)), "MQTT-3.3.2-2", 15, 0x90
    ),
    wrong_connect(
        "will topic not UTF-8",
        connect(will=(b"\xc0\x80", b"", 0, False)),
        "MQTT-3.1.3-10",
        15,
        0x90,
    ),
    wrong_connect(
        "will topic has NUL", connect(will=("\0", b"", 0, False)), "MQTT-4.7.3-2", 15, 0x90
    ),
    wrong_connect("no user name", with_flags(0x82, string("c")), "MQTT-3.1.2-19", 15),
    wrong_connect("half a user name", with_flags(0x82, string("c"), b"\0"), "MQTT-3.1.3-11", 15),
    wrong_connect(
        "user name not UTF-8", with_flags(0x82, string("c"), string(b"\xff")), "MQTT-3.1.3-11", 15
    ),
    wrong_connect("no password", with_flags(0xC2, string("c"), string("u")), "MQTT-3.1.2-21", 18),
    wrong_connect("surplus", with_flags(2, string("c"), b"x"), "MQTT-3.1.2-11", 15),
    wrong_connect(
        "surplus behind a will",
        with_flags(6, string("c"), string("w"), string(""), b"x"),
        "MQTT-3.1.2-18",
        20,
    ),
    wrong_connect(
        "surplus behind a user name",
        with_flags(0x82, string("c"), string("u"), b"x"),
        "MQTT-3.1.2-20",
        18,
    ),
    wrong_connect(
        "surplus behind a password",
        with_flags(0xC2, string("c"), string("u"), string("p"), b"x"),
        "MQTT-3.1.4-1",
        21,
    ),
    wrong_connect("flags of CONNECT", b"\x11" + connect()[1:], "MQTT-2.2.2-2", 0),
    wrong_connect("PINGREQ first", b"\xc0\0", "MQTT-3.1.0-1", 0, 0x82),
    wrong_connect("PUBLISH first", publish("t"), "MQTT-3.1.0-1", 0, 0x82),
    wrong_connect("HTTP first", b"GET / HTTP/1.1\r\n\r\n", "MQTT-3.1.0-1", 0, 0x82),
    wrong_connect("reserved type first", b"\0\0", "MQTT-3.1.0-1", 0, 0x82),
]

PUBLISHES = [
    to_server("QoS 0", publish("t", b"x"), make_publish("t", b"x")),
    to_server("no payload", publish("t"), make_publish("t", b"")),
    to_server("retained", publish("t", b"x", retain=True), make_publish("t", b"x", 0, True)),
    to_server("QoS 1", publish("t", b"x", 1, 10), make_publish("t", b"x", 1, False, 10)),
    to_server("QoS 2", publish("t", b"x", 2, 65_535), make_publish("t", b"x", 2, False, 65_535)),
    to_server(
        "QoS 1, DUP and RETAIN",
        publish("t", b"x", 1, 1, retain=True, dup=True),
        make_publish("t", b"x", 1, True, 1, True),
    ),
    to_server("only a slash", publish("/"), make_publish("/", b"")),
    to_server("longest topic", publish(LONGEST), make_publish(LONGEST, b"")),
    to_server("several", publish("t") * 3, *[make_publish("t", b"")] * 3),
    to_server(
        "length in two bytes where one would do",
        b"\x30\x84\x00\0\1tx",
        make_publish("t", b"x"),
    ),
    to_server(
        "length in four bytes where one would do",
        b"\x32\x85\x80\x80\x00\0\1t\0\1",
        make_publish("t", b"", 1, False, 1),
    ),
    *(
        to_server(f"{size} bytes", publish("t", bytes(size)), make_publish("t", bytes(size)))
        for size in (124, 125, 16_380, 16_381, 2_097_148, 2_097_149)
    ),
    wrong_to_server("no topic", b"\x30\0", "MQTT-3.3.2-1", 2),
    wrong_to_server("half a topic length", b"\x30\1\0", "MQTT-3.3.2-1", 2),
    wrong_to_server("half a topic", b"\x30\3\0\2t", "MQTT-3.3.2-1", 2),
    wrong_to_server("empty topic", b"\x30\2\0\0", "MQTT-4.7.3-1", 4, 0x90),
    wrong_to_server("wildcard +", publish("a/+"), "MQTT-3.3.2-2", 4, 0x90),
    wrong_to_server("wildcard #", publish("#"), "MQTT-3.3.2-2", 4, 0x90),
    wrong_to_server("NUL", publish("a\0"), "MQTT-4.7.3-2", 4, 0x90),
    wrong_to_server("not UTF-8", publish(b"\xc3"), "MQTT-1.5.3-1", 4, 0x90),
    wrong_to_server("QoS 3", b"\x36" + publish("t", b"", 1, 1)[1:], "MQTT-3.3.1-4", 0),
    wrong_to_server("DUP at QoS 0", b"\x38" + publish("t")[1:], "MQTT-3.3.1-2", 0),
    wrong_to_server("no identifier", b"\x32\3\0\1t", "MQTT-2.3.1-1", 5),
    wrong_to_server("half an identifier", b"\x32\4\0\1t\1", "MQTT-2.3.1-1", 5),
    wrong_to_server("identifier 0", publish("t", b"", 1, 0), "MQTT-2.3.1-1", 5),
    Case(
        "what is right before what is wrong",
        SERVER,
        publish("t") + b"\xc0\0" + publish("#"),
        (make_publish("t", b""), PingReq()),
        Wrong("MQTT-3.3.2-2", 5 + 2 + 4, 0x90),
    ),
]

ACKS = [
    *(
        case
        for number in (1, 255, 511, 512, 65_535)
        for case in (
            to_server(f"PUBACK {number}", puback(number), PubAck(number)),
            to_server(f"PUBREC {number}", pubrec(number), PubRec(number)),
            to_server(f"PUBREL {number}", pubrel(number), PubRel(number)),
            to_server(f"PUBCOMP {number}", pubcomp(number), PubComp(number)),
            to_client(f"UNSUBACK {number}", unsuback(number), UnsubAck(number)),
        )
    ),
    wrong_to_server("PUBACK 0", puback(0), "MQTT-2.3.1-1", 2),
    wrong_to_server("PUBREC 0", pubrec(0), "MQTT-2.3.1-1", 2),
    wrong_to_server("PUBREL 0", pubrel(0), "MQTT-2.3.1-1", 2),
    wrong_to_server("PUBCOMP 0", pubcomp(0), "MQTT-2.3.1-1", 2),
    wrong_to_client("UNSUBACK 0", unsuback(0), "MQTT-2.3.1-1", 2),
    wrong_to_server("PUBACK of nothing", b"\x40\0", "", 2),
    wrong_to_server("PUBACK of three bytes", b"\x40\3\0\1\0", "", 2),
    wrong_to_server("flags of PUBACK", b"\x41\2\0\1", "MQTT-2.2.2-2", 0),
    wrong_to_server("flags of PUBREC", b"\x52\2\0\1", "MQTT-2.2.2-2", 0),
    wrong_to_server("flags of PUBREL", b"\x60\2\0\1", "MQTT-3.6.1-1", 0),
    wrong_to_server("DUP of PUBREL", b"\x6a\2\0\1", "MQTT-3.6.1-1", 0),
    wrong_to_server("flags of PUBCOMP", b"\x78\2\0\1", "MQTT-2.2.2-2", 0),
]

SUBSCRIBES = [
    to_server("one", subscribe(1, ("a/b", 1)), Subscribe(1, (Subscription("a/b", 1),))),
    to_server(
        "three",
        subscribe(65_535, ("a", 0), ("+/+/#", 1), ("#", 2)),
        Subscribe(65_535, (Subscription("a"), Subscription("+/+/#", 1), Subscription("#", 2))),
    ),
    to_server("only slashes", subscribe(1, ("//", 0)), Subscribe(1, (Subscription("//"),))),
    to_server("longest", subscribe(1, (LONGEST, 0)), Subscribe(1, (Subscription(LONGEST),))),
    wrong_to_server("no identifier", packet(0x82), "MQTT-2.3.1-1", 2),
    wrong_to_server("identifier 0", subscribe(0, ("a", 0)), "MQTT-2.3.1-1", 2),
    wrong_to_server("no filter", subscribe(1), "MQTT-3.8.3-3", 4, 0x82),
    wrong_to_server("half a filter", packet(0x82, u16(1), b"\0\2a"), "MQTT-3.8.3-1", 4),
    wrong_to_server("half a length", packet(0x82, u16(1), b"\0"), "MQTT-3.8.3-1", 4),
    wrong_to_server("no QoS", packet(0x82, u16(1), string("a")), "MQTT-3.8.3-1", 7),
    wrong_to_server("QoS 3", subscribe(1, ("a", 3)), "MQTT-3.8.3-4", 7),
    wrong_to_server("reserved bits", subscribe(1, ("a", 0x81)), "MQTT-3.8.3-4", 7),
    wrong_to_server("second is wrong", subscribe(1, ("a", 0), ("b", 4)), "MQTT-3.8.3-4", 11),
    wrong_to_server("empty filter", subscribe(1, ("", 0)), "MQTT-4.7.3-1", 4, 0x8F),
    wrong_to_server("NUL", subscribe(1, ("\0", 0)), "MQTT-4.7.3-2", 4, 0x8F),
    wrong_to_server("not UTF-8", subscribe(1, (b"\xff", 0)), "MQTT-3.8.3-1", 4, 0x8F),
    wrong_to_server("# not last", subscribe(1, ("#/a", 0)), "MQTT-4.7.1-2", 4, 0x8F),
    wrong_to_server("# not a level", subscribe(1, ("a/b#", 0)), "MQTT-4.7.1-2", 4, 0x8F),
    wrong_to_server("+ not a level", subscribe(1, ("a+/b", 0)), "MQTT-4.7.1-3", 4, 0x8F),
    wrong_to_server("flags", b"\x80" + subscribe(1, ("a", 0))[1:], "MQTT-3.8.1-1", 0),
]

UNSUBSCRIBES = [
    to_server("one", unsubscribe(1, "a/#"), Unsubscribe(1, ("a/#",))),
    to_server("two", unsubscribe(2, "a", "+"), Unsubscribe(2, ("a", "+"))),
    wrong_to_server("no identifier", packet(0xA2, b"\0"), "MQTT-2.3.1-1", 2),
    wrong_to_server("identifier 0", unsubscribe(0, "a"), "MQTT-2.3.1-1", 2),
    wrong_to_server("no filter", unsubscribe(1), "MQTT-3.10.3-2", 4, 0x82),
    wrong_to_server("not UTF-8", unsubscribe(1, b"\xff"), "MQTT-3.10.3-1", 4, 0x8F),
    wrong_to_server("half a filter", packet(0xA2, u16(1), b"\0\2a"), "MQTT-3.10.3-1", 4),
    wrong_to_server("# not last", unsubscribe(1, "#/"), "MQTT-4.7.1-2", 4, 0x8F),
    wrong_to_server("flags", b"\xa0" + unsubscribe(1, "a")[1:], "MQTT-3.10.1-1", 0),
]

EMPTY = [
    to_server("PINGREQ", b"\xc0\0", PingReq()),
    to_client("PINGRESP", b"\xd0\0", PingResp()),
    to_server("PINGREQ with a long length", b"\xc0\x80\0", PingReq()),
    wrong_to_server("PINGREQ with a body", b"\xc0\1x", "", 2),
    wrong_to_client("PINGRESP with a body", b"\xd0\1x", "", 2),
    wrong_to_server("DISCONNECT with a body", b"\xe0\1\0", "", 2),
    wrong_to_server("flags of PINGREQ", b"\xc1\0", "MQTT-2.2.2-2", 0),
    wrong_to_client("flags of PINGRESP", b"\xd8\0", "MQTT-2.2.2-2", 0),
    wrong_to_server("flags of DISCONNECT", b"\xe1\0", "MQTT-3.14.1-1", 0),
]

TO_CLIENTS = [
    Case("CONNACK", CLIENT, connack(), (ConnAck(),), state=FRESH),
    Case("session present", CLIENT, connack(present=True), (ConnAck(True),), state=FRESH),
    *(
        Case(f"refusal {code}", CLIENT, connack(code), (ConnAck(False, reason),), state=FRESH)
        for code, reason in enumerate((0x84, 0x85, 0x88, 0x86, 0x87, 0x80, 0x80), 1)
    ),
    Case("CONNACK flags", CLIENT, b"\x20\2\2\0", (), Wrong("MQTT-2.2.2-2", 2), state=FRESH),
    Case("present, refused", CLIENT, b"\x20\2\1\5", (), Wrong("MQTT-3.2.2-4", 2), state=FRESH),
    Case("CONNACK of one byte", CLIENT, b"\x20\1\0", (), Wrong("", 3), state=FRESH),
    Case("empty CONNACK", CLIENT, b"\x20\0", (), Wrong("", 2), state=FRESH),
    Case("CONNACK of three bytes", CLIENT, b"\x20\3\0\0\0", (), Wrong("", 4), state=FRESH),
    Case("CONNACK flag bits", CLIENT, b"\x21\2\0\0", (), Wrong("MQTT-2.2.2-2", 0), state=FRESH),
    Case("PUBLISH first", CLIENT, publish("t"), (), Wrong("MQTT-3.2.0-1", 0, 0x82), state=FRESH),
    to_client("SUBACK", suback(1, 0, 1, 2, 0x80), SubAck(1, (0, 1, 2, 0x80))),
    wrong_to_client("SUBACK code 3", suback(1, 0, 3), "MQTT-3.9.3-2", 5),
    wrong_to_client("SUBACK code 0x81", suback(1, 0x81), "MQTT-3.9.3-2", 4),
    wrong_to_client("SUBACK without code", suback(1), "MQTT-3.8.4-5", 4),
    wrong_to_client("SUBACK of identifier 0", suback(0, 0), "MQTT-2.3.1-1", 2),
    wrong_to_client("UNSUBACK with a code", b"\xb0\3\0\1\0", "", 2),
    to_client(
        "PUBLISH to a client", publish("t", b"x", 2, 9), make_publish("t", b"x", 2, False, 9)
    ),
]

FRAMES = [
    wrong_to_server("five length bytes", b"\x30\xff\xff\xff\xff", "", 5),
    wrong_to_server("five length bytes, all 0", b"\x30\x80\x80\x80\x80", "", 5),
    Case("reserved type", SERVER, b"\x00\0", (), Wrong("MQTT-4.8.0-1", 0, 0x82)),
    Case("AUTH", SERVER, b"\xf0\0", (), Wrong("MQTT-4.8.0-1", 0, 0x82)),
    Case("too large", SERVER, b"\x30\x80\x80\x80\x08", (), Wrong("", 0, 0x95), limit_bytes=1_000),
    Case(
        "one byte too large",
        SERVER,
        publish("t", bytes(60)),
        (),
        Wrong("", 0, 0x95),
        limit_bytes=64,
    ),
    Case(
        "just not too large",
        SERVER,
        publish("t", bytes(59)),
        (make_publish("t", bytes(59)),),
        limit_bytes=64,
    ),
    Case("the largest announced", SERVER, b"\x30\xff\xff\xff\x7f\0"),
]

EVERY = [
    *CONNECTS, *PUBLISHES, *ACKS, *SUBSCRIBES, *UNSUBSCRIBES, *EMPTY, *TO_CLIENTS,
]  # fmt: skip


@pytest.mark.parametrize("case", EVERY + FRAMES[:-1], ids=str)
def test_a_case_is_read_the_same_however_it_is_cut(case: Case) -> None:
    play(case)


def test_an_announced_length_reserves_nothing() -> None:
    case = FRAMES[-1]
    connection, base = connection_in(case.role, case.state)
    assert read(connection, [case.data], base) == ([], None)
    assert connection.buffer.size_bytes == len(case.data)


@pytest.mark.statement("v3 MQTT-3.14.4-2")
def test_nothing_behind_disconnect_is_read() -> None:
    connection, base = connection_in(SERVER, "connected")
    data = b"\xe0\0" + publish("t") + b"\xff\xff"
    assert read(connection, [data], base) == ([Disconnect()], None)
    assert connection.buffer.size_bytes == 0
    connection.feed(publish("t"), 0.0)
    assert connection.buffer.size_bytes == 0


def test_nothing_behind_an_error_is_read() -> None:
    connection, base = connection_in(SERVER, "connected")
    _, wrong = read(connection, [publish("#") + publish("t")], base)
    assert wrong is not None
    assert not connection.can_read
    assert connection.buffer.size_bytes == 0


@pytest.mark.parametrize("level", [3, 4])
def test_dup_of_mqtt_3_1_on_packets_that_are_repeated(level: int) -> None:
    """MQTT 3.1 repeats PUBREL, SUBSCRIBE and UNSUBSCRIBE with DUP (2.1 there); 3.1.1 does not."""
    for data in (pubrel(1), subscribe(1, ("a", 0)), unsubscribe(1, "a")):
        connection, _ = connection_in(SERVER, FRESH)
        assert read(connection, [connect("c", level=level)], 0)[1] is None
        connection.send_connack(ConnAck(), 0.0)
        _, wrong = read(connection, [bytes([data[0] | 8]) + data[1:]], 0)
        assert (wrong is None) is (level == 3)
