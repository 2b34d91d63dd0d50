"""What each packet's bytes mean in MQTT 5.0, and what is wrong with those that have no meaning.

Every case runs whole, byte by byte, and cut in two at every position: the packets and the error,
with its statement, offset and reason, must be the same.
"""

from __future__ import annotations

import pytest

from mqtt_core import (
    CLIENT,
    SERVER,
    ConnAck,
    Connect,
    Disconnect,
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
    make_publish,
)
from mqtt_core.properties import (
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    CONTENT_TYPE,
    CORRELATION_DATA,
    MESSAGE_EXPIRY_INTERVAL,
    PAYLOAD_FORMAT_INDICATOR,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    RESPONSE_TOPIC,
    SERVER_KEEP_ALIVE,
    SESSION_EXPIRY_INTERVAL,
    SUBSCRIPTION_IDENTIFIER,
    TOPIC_ALIAS_MAXIMUM,
    USER_PROPERTY,
    WILL_DELAY_INTERVAL,
)
from tests.core.bytecases import CONNECTED, FRESH, Case, Wrong, connection_in, play, read
from tests.core.wire import packet, string, u16
from tests.core.wire5 import (
    Will5,
    auth,
    connack,
    connect,
    disconnect,
    method,
    prop,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    reason_string,
    suback,
    subscribe,
    u32,
    unsuback,
    unsubscribe,
    user,
)

LONGEST = "x" * 65_535


def good(name: str, data: bytes, *packets: Packet, role: int = SERVER) -> Case:
    """What the peer of a connected server or client may send."""
    return Case(name, role, data, packets, level=5)


def bad(
    name: str, data: bytes, statement: str, offset: int, reason: int = 0x81, role: int = SERVER
) -> Case:
    """What it may not send."""
    return Case(name, role, data, (), Wrong(statement, offset, reason), level=5)


def connecting(name: str, data: bytes, expected: Connect) -> Case:
    """A CONNECT that is read."""
    return Case(name, SERVER, data, (expected,), state=FRESH, level=5)


def refused(name: str, data: bytes, statement: str, offset: int, reason: int = 0x81) -> Case:
    """A CONNECT that is not: CONNACK says why."""
    return Case(name, SERVER, data, (), Wrong(statement, offset, reason, True), state=FRESH)


def answered(name: str, data: bytes, expected: ConnAck) -> Case:
    """A CONNACK that is read."""
    return Case(name, CLIENT, data, (expected,), state=FRESH, level=5)


def wrong_answer(name: str, data: bytes, statement: str, offset: int, reason: int = 0x81) -> Case:
    """A CONNACK that is not."""
    return Case(name, CLIENT, data, (), Wrong(statement, offset, reason), state=FRESH, level=5)


def with_flags(flags: int, *payload: bytes) -> bytes:
    """A CONNECT with any flags and payload, and no properties."""
    return packet(0x10, string("MQTT"), bytes([5, flags]), u16(0), b"\0", *payload)


# The property length of `connect()` stands at byte 12, its client identifier at 13.
CONNECTS = [
    connecting("connect", connect("c"), Connect("c", level=5)),
    connecting("resuming", connect("c", clean=False), Connect("c", False, level=5)),
    connecting("no client id", connect("", clean=False), Connect("", False, level=5)),
    connecting("password alone", connect("c", password=b"p"), Connect("c", password=b"p", level=5)),
    connecting(
        "everything",
        connect(
            "a",
            prop(0x11, u32(0xFFFF_FFFF)),
            user("k", "v"),
            prop(0x21, u16(1)),
            user("k", ""),
            clean=False,
            keep_alive_s=60,
            will=Will5("w", b"z", 2, True, prop(0x18, u32(5)) + user("", "1")),
            username="u",
            password=b"p",
        ),
        Connect(
            "a",
            False,
            60,
            Will("w", b"z", 2, True, ((WILL_DELAY_INTERVAL, 5), (USER_PROPERTY, ("", "1")))),
            "u",
            b"p",
            5,
            (
                (SESSION_EXPIRY_INTERVAL, 0xFFFF_FFFF),
                (USER_PROPERTY, ("k", "v")),
                (RECEIVE_MAXIMUM, 1),
                (USER_PROPERTY, ("k", "")),
            ),
        ),
    ),
    connecting(
        "authentication",
        connect("c", method("X"), prop(0x16, string(b"\0\xff"))),
        Connect(
            "c",
            level=5,
            properties=((AUTHENTICATION_METHOD, "X"), (AUTHENTICATION_DATA, b"\0\xff")),
        ),
    ),
    refused("reserved flag", connect(flags=0x03), "MQTT-3.1.2-3", 9),
    refused("will QoS without will", connect(flags=0x0A), "MQTT-3.1.2-11", 9),
    refused("will retain without will", connect(flags=0x22), "MQTT-3.1.2-13", 9),
    refused("will QoS 3", connect(flags=0x1E), "MQTT-3.1.2-12", 9),
    refused("no flags", packet(0x10, string("MQTT"), b"\5"), "MQTT-3.1.4-1", 9),
    refused("no keep-alive", packet(0x10, string("MQTT"), b"\5\2"), "MQTT-3.1.4-1", 10),
    refused("no properties", packet(0x10, string("MQTT"), b"\5\2\0\0"), "P5-1.2.0-1", 12),
    refused(
        "authentication data alone", connect("c", prop(0x16, string(""))), "P5-3.1.2-12", 12, 0x82
    ),
    refused("no client id", with_flags(2), "MQTT-3.1.3-3", 13),
    refused("half a client id", with_flags(2, b"\0\5ab"), "MQTT-3.1.3-4", 13),
    refused("client id not UTF-8", connect(b"\xff"), "MQTT-3.1.3-4", 13),
    refused("client id has NUL", connect("a\0"), "MQTT-1.5.4-2", 13),
    refused("will is missing", with_flags(6, string("c")), "MQTT-3.1.2-9", 16),
    refused("will without topic", with_flags(6, string("c"), b"\0"), "MQTT-3.1.2-9", 17),
    refused(
        "will without payload", with_flags(6, string("c"), b"\0", string("w")), "MQTT-3.1.2-9", 20
    ),
    refused("will topic empty", connect(will=Will5("")), "MQTT-4.7.3-1", 17, 0x90),
    refused("will topic wild", connect(will=Will5("a/#")), "MQTT-4.7.0-1", 17, 0x90),
    refused("will topic not UTF-8", connect(will=Will5(b"\xff")), "MQTT-3.1.3-11", 17),
    refused("will topic has NUL", connect(will=Will5("\0")), "MQTT-4.7.3-2", 17),
    refused(
        "will response topic wild",
        connect(will=Will5("w", properties=prop(0x08, string("+")))),
        "MQTT-3.3.2-14",
        18,
        0x90,
    ),
    refused("no user name", with_flags(0x82, string("c")), "MQTT-3.1.2-17", 16),
    refused("user name not UTF-8", connect(username=b"\xff"), "MQTT-3.1.3-12", 16),
    refused("no password", with_flags(0x42, string("c")), "MQTT-3.1.2-19", 16),
    refused("surplus", with_flags(2, string("c"), b"x"), "MQTT-3.1.2-16", 16),
    refused(
        "surplus behind a user name",
        with_flags(0x82, string("c"), string("u"), b"x"),
        "MQTT-3.1.2-18",
        19,
    ),
    refused(
        "surplus behind a password",
        with_flags(0xC2, string("c"), string("u"), string("p"), b"x"),
        "MQTT-3.1.4-1",
        22,
    ),
    refused(
        "length in two bytes where one would do",
        b"\x10\x8e\x00" + connect("c")[2:],
        "MQTT-1.5.5-1",
        1,
    ),
    refused("level 6", connect(level=6), "MQTT-3.1.2-2", 8, 0x84),
]

WITH_EXPIRY = ((MESSAGE_EXPIRY_INTERVAL, 10),)
TRAVELLING = (
    (PAYLOAD_FORMAT_INDICATOR, 1),
    (CONTENT_TYPE, "text"),
    (USER_PROPERTY, ("k", "1")),
    (RESPONSE_TOPIC, "r/t"),
    (CORRELATION_DATA, b"\0\xff"),
    (USER_PROPERTY, ("k", "1")),
)
TRAVELLING_BYTES = (
    prop(0x01, b"\1")
    + prop(0x03, string("text"))
    + user("k", "1")
    + prop(0x08, string("r/t"))
    + prop(0x09, string(b"\0\xff"))
    + user("k", "1")
)

PUBLISHES = [
    *(
        good(
            f"QoS {qos}{', retained' if retain else ''}{what}",
            publish("t", payload, qos, 9 if qos else 0, properties, retain=retain),
            make_publish("t", payload, qos, retain, 9 if qos else 0, False, expected),
        )
        for qos in (0, 1, 2)
        for retain in (False, True)
        for payload in (b"x",)
        for what, properties, expected in (
            ("", b"", ()),
            (", properties", TRAVELLING_BYTES, TRAVELLING),
            (", expiry", prop(0x02, u32(10)), WITH_EXPIRY),
            (
                ", expiry behind others",
                TRAVELLING_BYTES + prop(0x02, u32(10)),
                WITH_EXPIRY + TRAVELLING,
            ),
        )
    ),
    good("no payload", publish("t"), make_publish("t", b"")),
    good("DUP", publish("t", b"", 1, 1, dup=True), make_publish("t", b"", 1, False, 1, True)),
    good("longest topic", publish(LONGEST), make_publish(LONGEST, b"")),
    good("several", publish("t", b"", 0, 0, user("", "")) * 3, *[
        make_publish("t", b"", properties=((USER_PROPERTY, ("", "")),))
    ] * 3),
    good(
        "payload that is no UTF-8",
        publish("t", b"\xff", 0, 0, prop(0x01, b"\1")),
        make_publish("t", b"\xff", properties=((PAYLOAD_FORMAT_INDICATOR, 1),)),
    ),
    *(
        good(
            f"properties of {size + 5} bytes",
            publish("t", b"x", 1, 1, user("", "v" * size)),
            make_publish("t", b"x", 1, False, 1, False, ((USER_PROPERTY, ("", "v" * size)),)),
        )
        for size in (122, 123, 16_378, 16_379, 65_531)
    ),
    good(
        "subscription identifiers",
        publish("t", b"x", 1, 7, prop(0x0B, b"\1") + user("k", "v") + prop(0x0B, b"\x80\1")),
        make_publish(
            "t",
            b"x",
            1,
            False,
            7,
            False,
            (
                (SUBSCRIPTION_IDENTIFIER, 1),
                (USER_PROPERTY, ("k", "v")),
                (SUBSCRIPTION_IDENTIFIER, 128),
            ),
        ),
        role=CLIENT,
    ),
    bad("no topic", b"\x30\0", "MQTT-3.3.2-1", 2),
    bad("half a topic", b"\x30\3\0\2t", "MQTT-3.3.2-1", 2),
    bad("no properties", b"\x30\3\0\1t", "P5-1.2.0-1", 5),
    bad("no properties at QoS 1", b"\x32\5\0\1t\0\1", "P5-1.2.0-1", 7),
    bad("topic is empty", publish(""), "P5-3.3.2-1", 0, 0x82),
    bad("topic is empty at QoS 1", publish("", b"", 1, 1), "P5-3.3.2-1", 0, 0x82),
    bad("topic is empty, with properties", publish("", b"", 0, 0, user("", "")), "P5-3.3.2-1", 0,
        0x82),
    bad("wildcard", publish("a/+"), "MQTT-3.3.2-2", 4, 0x90),
    bad("NUL", publish("a\0"), "MQTT-4.7.3-2", 4),
    bad("not UTF-8", publish(b"\xff"), "MQTT-1.5.4-1", 4),
    bad("surrogate", publish(b"\xed\xa0\x80"), "MQTT-1.5.4-1", 4),
    bad("QoS 3", b"\x36" + publish("t", b"", 1, 1)[1:], "MQTT-3.3.1-4", 0),
    bad("DUP at QoS 0", b"\x38" + publish("t")[1:], "MQTT-3.3.1-2", 0),
    bad("no identifier", b"\x32\3\0\1t", "MQTT-2.2.1-3", 5),
    bad("half an identifier", b"\x32\4\0\1t\1", "MQTT-2.2.1-3", 5),
    bad("identifier 0", publish("t", b"", 1, 0), "MQTT-2.2.1-3", 5, 0x82),
    bad("identifier 0 from a server", publish("t", b"", 2, 0), "MQTT-2.2.1-4", 5, 0x82, CLIENT),
    bad("padded length", b"\x30\x84\x00\0\1t\0", "MQTT-1.5.5-1", 1),
    bad("padded length at QoS 1", b"\x32\x86\x00\0\1t\0\1\0", "MQTT-1.5.5-1", 1),
    bad("subscription identifier", publish("t", b"", 0, 0, prop(0x0B, b"\1")), "MQTT-3.3.4-6", 5,
        0x82),
    bad("alias where there are none", publish("t", b"", 0, 0, prop(0x23, u16(1))),
        "MQTT-3.2.2-18", 5, 0x94),
    bad("alias where there are none, to a client", publish("t", b"", 0, 0, prop(0x23, u16(1))),
        "MQTT-3.1.2-27", 5, 0x94, CLIENT),
    bad("alias alone where there are none", publish("", b"", 0, 0, prop(0x23, u16(1))),
        "MQTT-3.2.2-18", 4, 0x94),
    bad("alias 0", publish("t", b"", 0, 0, prop(0x23, u16(0))), "MQTT-3.3.2-8", 7, 0x94),
    bad("alias twice", publish("t", b"", 0, 0, prop(0x23, u16(1)) * 2), "P5-3.3.2-2", 9, 0x82),
    bad("response topic wild", publish("t", b"", 0, 0, prop(0x08, string("#"))), "MQTT-3.3.2-14",
        7, 0x90),
    bad("response topic empty", publish("t", b"", 0, 0, prop(0x08, string(""))), "MQTT-4.7.3-1", 7,
        0x90),
    bad("response topic not UTF-8", publish("t", b"", 0, 0, prop(0x08, string(b"\xff"))),
        "MQTT-3.3.2-13", 7),
    bad("content type not UTF-8", publish("t", b"", 0, 0, prop(0x03, string(b"\xff"))),
        "MQTT-3.3.2-19", 7),
    bad("user property not UTF-8", publish("t", b"", 0, 0, user("k", b"\xff")), "MQTT-1.5.7-1", 10),
    bad("user property's name not UTF-8", publish("t", b"", 0, 0, user(b"\xff", "")),
        "MQTT-1.5.7-1", 7),
    bad("user property with NUL", publish("t", b"", 0, 0, user("k", "\0")), "MQTT-1.5.4-2", 10),
]  # fmt: skip

ACKS = [
    *(
        case
        for number in (1, 255, 511, 512, 65_535)
        for reason in (0x00, 0x80, 0x87, 0x97)
        for case in (
            good(f"PUBACK {number}", puback(number), PubAck(number)),
            good(f"PUBREC {number}", pubrec(number), PubRec(number)),
            good(f"PUBREL {number}", pubrel(number), PubRel(number)),
            good(f"PUBCOMP {number}", pubcomp(number), PubComp(number)),
            good(f"PUBACK {number} 0x{reason:02X}", puback(number, reason), PubAck(number, reason)),
            good(f"PUBREC {number} 0x{reason:02X}", pubrec(number, reason), PubRec(number, reason)),
        )
    ),
    good("PUBREL 0x92", pubrel(1, 0x92), PubRel(1, 0x92)),
    good("PUBCOMP 0x92", pubcomp(1, 0x92), PubComp(1, 0x92)),
    good("PUBACK with a property length of 0", b"\x40\4\0\1\0\0", PubAck(1)),
    good(
        "PUBACK with properties",
        puback(1, 0x80, reason_string("no"), user("k", "v")),
        PubAck(1, 0x80, ((REASON_STRING, "no"), (USER_PROPERTY, ("k", "v")))),
    ),
    good(
        "PUBREC with properties", pubrec(1, 0, user("", "")),
        PubRec(1, 0, ((USER_PROPERTY, ("", "")),)),
    ),
    good(
        "PUBREL with properties", pubrel(1, 0, user("", "")),
        PubRel(1, 0, ((USER_PROPERTY, ("", "")),)),
    ),
    good(
        "PUBCOMP with properties", pubcomp(1, 0x92, reason_string("?")),
        PubComp(1, 0x92, ((REASON_STRING, "?"),)),
    ),
    good("PUBACK of a server", puback(1, 0x10), PubAck(1, 0x10), role=CLIENT),
    bad("PUBACK 0", puback(0), "MQTT-2.2.1-5", 2, 0x82),
    bad("PUBREC 0 with a reason", pubrec(0, 0x80), "MQTT-2.2.1-5", 2, 0x82),
    bad("PUBREL 0", pubrel(0), "MQTT-2.2.1-5", 2, 0x82),
    bad("PUBCOMP 0", pubcomp(0), "MQTT-2.2.1-5", 2, 0x82),
    bad("PUBACK of nothing", b"\x40\0", "P5-1.2.0-1", 2),
    bad("PUBACK of one byte", b"\x40\1\1", "P5-1.2.0-1", 2),
    bad("PUBACK 0x7F", puback(1, 0x7F), "MQTT-3.4.2-1", 4, 0x82),
    bad("PUBREC 0x92", pubrec(1, 0x92), "MQTT-3.5.2-1", 4, 0x82),
    bad("PUBREL 0x80", pubrel(1, 0x80), "MQTT-3.6.2-1", 4, 0x82),
    bad("PUBCOMP 0x80", pubcomp(1, 0x80), "MQTT-3.7.2-1", 4, 0x82),
    bad("what only a server says", puback(1, 0x10), "MQTT-3.4.2-1", 4, 0x82),
    bad("surplus", puback(1, 0, user("", "")) [:1] + b"\x05\0\1\0\0x", "P5-1.2.0-1", 6),
    bad("padded length", b"\x40\x82\0\0\1", "MQTT-1.5.5-1", 1),
    bad("flags of PUBACK", b"\x41\2\0\1", "MQTT-2.1.3-1", 0),
    bad("flags of PUBREL", b"\x60\2\0\1", "MQTT-3.6.1-1", 0),
    bad("flags of PUBCOMP", b"\x72\2\0\1", "MQTT-2.1.3-1", 0),
]  # fmt: skip

SUBSCRIBES = [
    good("one", subscribe(1, ("t", 1)), Subscribe(1, (Subscription("t", 1),))),
    good(
        "options",
        subscribe(65_535, ("a", 0x04), ("b", 0x08), ("c", 0x12), ("d/#", 0x2D)),
        Subscribe(
            65_535,
            (
                Subscription("a", 0, True),
                Subscription("b", 0, False, True),
                Subscription("c", 2, False, False, 1),
                Subscription("d/#", 1, True, True, 2),
            ),
        ),
    ),
    good(
        "properties",
        subscribe(1, ("t", 0), properties=prop(0x0B, b"\xff\xff\xff\x7f") + user("k", "v")),
        Subscribe(
            1,
            (Subscription("t"),),
            ((SUBSCRIPTION_IDENTIFIER, 268_435_455), (USER_PROPERTY, ("k", "v"))),
        ),
    ),
    good(
        "shared",
        subscribe(1, ("$share/g/#", 0x02), ("$share/g//", 0), ("$share", 0), ("$shared/x", 4)),
        Subscribe(
            1,
            (
                Subscription("$share/g/#", 2),
                Subscription("$share/g//"),
                Subscription("$share"),
                Subscription("$shared/x", 0, True),
            ),
        ),
    ),
    bad("no identifier", packet(0x82), "MQTT-2.2.1-3", 2),
    bad("identifier 0", subscribe(0, ("a", 0)), "MQTT-2.2.1-3", 2, 0x82),
    bad("no properties", packet(0x82, u16(1)), "P5-1.2.0-1", 4),
    bad("as in 3.1.1", bytes.fromhex("8206000100017401"), "MQTT-3.8.3-1", 5),
    bad("no filter", subscribe(1), "MQTT-3.8.3-2", 5, 0x82),
    bad("half a filter", packet(0x82, u16(1), b"\0\0\2a"), "MQTT-3.8.3-1", 5),
    bad("no options", packet(0x82, u16(1), b"\0", string("a")), "P5-1.2.0-1", 8),
    bad("QoS 3", subscribe(1, ("a", 3)), "P5-3.8.3-2", 8, 0x82),
    bad("retain handling 3", subscribe(1, ("a", 0x31)), "P5-3.8.3-3", 8, 0x82),
    bad("reserved bit 6", subscribe(1, ("a", 0x41)), "MQTT-3.8.3-5", 8),
    bad("reserved bit 7", subscribe(1, ("a", 0), ("a", 0x81)), "MQTT-3.8.3-5", 12),
    bad("no local on a shared one", subscribe(1, ("$share/g/t", 5)), "MQTT-3.8.3-4", 17, 0x82),
    bad("empty filter", subscribe(1, ("", 0)), "MQTT-4.7.3-1", 5, 0x8F),
    bad("NUL", subscribe(1, ("\0", 0)), "MQTT-4.7.3-2", 5),
    bad("not UTF-8", subscribe(1, (b"\xff", 0)), "MQTT-3.8.3-1", 5),
    bad("# not last", subscribe(1, ("#/a", 0)), "MQTT-4.7.1-1", 5, 0x8F),
    bad("+ not a level", subscribe(1, ("a+", 0)), "MQTT-4.7.1-2", 5, 0x8F),
    bad("no share name", subscribe(1, ("$share//t", 0)), "MQTT-4.8.2-1", 5, 0x8F),
    bad("share name wild", subscribe(1, ("$share/+/t", 0)), "MQTT-4.8.2-2", 5, 0x8F),
    bad("shared without filter", subscribe(1, ("$share/g", 0)), "MQTT-4.8.2-2", 5, 0x8F),
    bad("shared with empty filter", subscribe(1, ("$share/g/", 0)), "MQTT-4.8.2-2", 5, 0x8F),
    bad("flags", b"\x80" + subscribe(1, ("a", 0))[1:], "MQTT-3.8.1-1", 0),
    bad("identifier of the value 0", subscribe(1, ("a", 0), properties=prop(0x0B, b"\0")),
        "P5-3.8.2-1", 6, 0x82),
    bad("two identifiers", subscribe(1, ("a", 0), properties=prop(0x0B, b"\1") * 2),
        "P5-3.8.2-2", 7, 0x82),
    bad("padded identifier", subscribe(1, ("a", 0), properties=prop(0x0B, b"\x81\0")),
        "MQTT-1.5.5-1", 6),
    bad("identifier of five bytes", subscribe(1, ("a", 0), properties=prop(0x0B, b"\xff" * 4)),
        "P5-1.5.5-1", 6),
]  # fmt: skip

UNSUBSCRIBES = [
    good("one", unsubscribe(1, "a/#"), Unsubscribe(1, ("a/#",))),
    good(
        "two, and a user property",
        unsubscribe(2, "a", "$share/g/+", properties=user("", "")),
        Unsubscribe(2, ("a", "$share/g/+"), ((USER_PROPERTY, ("", "")),)),
    ),
    bad("identifier 0", unsubscribe(0, "a"), "MQTT-2.2.1-3", 2, 0x82),
    bad("no filter", unsubscribe(1), "MQTT-3.10.3-2", 5, 0x82),
    bad("not UTF-8", unsubscribe(1, b"\xff"), "MQTT-3.10.3-1", 5),
    bad("no share name", unsubscribe(1, "$share//t"), "MQTT-4.8.2-1", 5, 0x8F),
    bad("reason string", unsubscribe(1, "a", properties=reason_string("")), "P5-2.2.2-1", 5),
    bad("flags", b"\xa0" + unsubscribe(1, "a")[1:], "MQTT-3.10.1-1", 0),
]

EMPTY = [
    good("PINGREQ", b"\xc0\0", PingReq()),
    good("PINGRESP", b"\xd0\0", PingResp(), role=CLIENT),
    bad("PINGREQ with a body", b"\xc0\1x", "P5-1.2.0-1", 2),
    bad("PINGRESP with a body", b"\xd0\1x", "P5-1.2.0-1", 2, 0x81, CLIENT),
    bad("PINGREQ with a padded length", b"\xc0\x80\0", "MQTT-1.5.5-1", 1),
    bad("flags of PINGREQ", b"\xc1\0", "MQTT-2.1.3-1", 0),
]

ENDS = [
    good("DISCONNECT", b"\xe0\0", Disconnect()),
    good("DISCONNECT 0", b"\xe0\1\0", Disconnect()),
    good("DISCONNECT with the will", disconnect(4), Disconnect(4)),
    good("DISCONNECT 0x9B by a client", disconnect(0x9B), Disconnect(0x9B)),
    good(
        "DISCONNECT with properties",
        disconnect(0x80, prop(0x11, u32(0)), reason_string("so"), prop(0x1C, string("other"))),
        Disconnect(0x80, ((SESSION_EXPIRY_INTERVAL, 0), (REASON_STRING, "so"), (0x1C, "other"))),
    ),
    good("DISCONNECT of a server", disconnect(0x8E), Disconnect(0x8E), role=CLIENT),
    bad("DISCONNECT 0x7F", disconnect(0x7F), "MQTT-3.14.2-1", 2, 0x82),
    bad("DISCONNECT 0x8E by a client", disconnect(0x8E), "MQTT-3.14.2-1", 2, 0x82),
    bad("DISCONNECT with the will by a server", disconnect(4), "MQTT-3.14.2-1", 2, 0x82, CLIENT),
    bad("surplus", b"\xe0\3\0\0x", "P5-1.2.0-1", 4),
    bad("flags of DISCONNECT", b"\xe1\0", "MQTT-3.14.1-1", 0),
    bad("expiry where it was 0", disconnect(0, prop(0x11, u32(60))), "P5-3.14.2-2", 3, 0x82),
    bad("expiry by a server", disconnect(0, prop(0x11, u32(0))), "MQTT-3.14.2-2", 3, 0x82, CLIENT),
    bad("AUTH without a method in CONNECT", auth(0x19, method("X")), "MQTT-4.12.0-7", 0, 0x82),
    bad("the same to a client", auth(0x18, method("X")), "MQTT-4.12.0-6", 0, 0x82, CLIENT),
    bad("flags of AUTH", b"\xf1\0", "MQTT-3.15.1-1", 0),
    bad("AUTH 0x42", b"\xf0\2\x42\0", "MQTT-3.15.2-1", 2, 0x82),
    bad("AUTH 0 by a client", auth(0, method("X")), "MQTT-3.15.2-1", 2, 0x82),
    bad("AUTH 0x19 by a server", auth(0x19, method("X")), "MQTT-3.15.2-1", 2, 0x82, CLIENT),
    bad("AUTH without property length", b"\xf0\1\x18", "P5-1.2.0-1", 3),
    bad("empty AUTH", b"\xf0\0", "MQTT-4.12.0-6", 0, 0x82, CLIENT),
]

TO_CLIENTS = [
    answered("CONNACK", connack(), ConnAck()),
    answered("session present", connack(present=True), ConnAck(True)),
    answered(
        "properties",
        connack(0, prop(0x13, u16(5)), prop(0x22, u16(3)), user("k", "v")),
        ConnAck(
            False,
            0,
            ((SERVER_KEEP_ALIVE, 5), (TOPIC_ALIAS_MAXIMUM, 3), (USER_PROPERTY, ("k", "v"))),
        ),
    ),
    *(
        answered(f"refusal 0x{reason:02X}", connack(reason), ConnAck(False, reason))
        for reason in (
            *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F,
        )
    ),
    answered("a server of 3.1.1", b"\x20\2\0\1", ConnAck(False, 0x84)),
    wrong_answer("CONNACK flags", b"\x20\3\2\0\0", "MQTT-3.2.2-1", 2),
    wrong_answer("present, refused", connack(0x87, present=True), "MQTT-3.2.2-6", 2, 0x82),
    wrong_answer("CONNACK 0x8E", connack(0x8E), "MQTT-3.2.2-8", 3, 0x82),
    wrong_answer("CONNACK 0x01", connack(1), "MQTT-3.2.2-8", 3, 0x82),
    wrong_answer("CONNACK of one byte", b"\x20\1\0", "P5-1.2.0-1", 3),
    wrong_answer("CONNACK of two bytes", b"\x20\2\0\0", "P5-1.2.0-1", 4),
    wrong_answer("surplus", b"\x20\4\0\0\0x", "P5-1.2.0-1", 5),
    wrong_answer("a method out of nothing", connack(0, method("X")), "MQTT-4.12.0-6", 0, 0x82),
    good("SUBACK", suback(1, 0, 1, 2, 0x80, 0x8F), SubAck(1, (0, 1, 2, 0x80, 0x8F)), role=CLIENT),
    good(
        "SUBACK with properties",
        suback(1, 0xA2, properties=reason_string("no")),
        SubAck(1, (0xA2,), ((REASON_STRING, "no"),)),
        role=CLIENT,
    ),
    good("UNSUBACK", unsuback(1, 0, 0x11, 0x87), UnsubAck(1, (0, 0x11, 0x87)), role=CLIENT),
    good(
        "UNSUBACK with properties",
        unsuback(1, 0, properties=user("", "")),
        UnsubAck(1, (0,), ((USER_PROPERTY, ("", "")),)),
        role=CLIENT,
    ),
    bad("SUBACK 3", suback(1, 0, 3), "MQTT-3.9.3-2", 6, 0x82, CLIENT),
    bad("SUBACK without code", suback(1), "P5-1.2.0-1", 5, 0x81, CLIENT),
    bad("SUBACK 0", suback(0, 0), "MQTT-2.2.1-6", 2, 0x82, CLIENT),
    bad("SUBACK of one byte", b"\x90\1\0", "P5-1.2.0-1", 2, 0x81, CLIENT),
    bad("UNSUBACK 1", unsuback(1, 1), "MQTT-3.11.3-2", 5, 0x82, CLIENT),
    bad("UNSUBACK without code", b"\xb0\3\0\1\0", "P5-1.2.0-1", 5, 0x81, CLIENT),
]  # fmt: skip

FRAMES = [
    bad("five length bytes", b"\x30\xff\xff\xff\xff", "P5-1.5.5-1", 5),
    bad("reserved type", b"\x00\0", "P5-2.1.2-1", 0),
    Case("too large", SERVER, publish("t", bytes(60)), (), Wrong("MQTT-3.2.2-15", 0, 0x95),
         limit_bytes=65, level=5),
    Case("too large for a client", CLIENT, publish("t", bytes(60)), (),
         Wrong("MQTT-3.1.2-24", 0, 0x95), limit_bytes=65, level=5),
    Case("just not too large", SERVER, publish("t", bytes(59)), (make_publish("t", bytes(59)),),
         limit_bytes=65, level=5),
]  # fmt: skip

EVERY = [
    *CONNECTS, *PUBLISHES, *ACKS, *SUBSCRIBES, *UNSUBSCRIBES, *EMPTY, *ENDS, *TO_CLIENTS, *FRAMES,
]  # fmt: skip


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_a_case_is_read_the_same_however_it_is_cut(case: Case) -> None:
    play(case)


def test_a_packet_full_of_subscription_identifiers() -> None:
    """It is read in a time that goes with its length; once that took 20 seconds."""
    data = publish("t", b"x", 0, 0, prop(0x0B, b"\1") * 32_000)
    client, base = connection_in(CLIENT, CONNECTED, level=5)
    expected = make_publish("t", b"x", properties=((SUBSCRIPTION_IDENTIFIER, 1),) * 32_000)
    assert read(client, [data], base) == ([expected], None)
    server, base = connection_in(SERVER, CONNECTED, level=5)
    assert read(server, [data], base) == ([], Wrong("MQTT-3.3.4-6", 7, 0x82))
