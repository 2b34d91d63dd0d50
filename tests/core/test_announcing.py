"""What each side says of itself in CONNECT and CONNACK (MQTT 5.0), and what follows from it."""

from __future__ import annotations

import pytest

from mqtt_core.broker import GRACEFUL, LimitValue
from tests.core import wire, wire5
from tests.core.wire5 import u32
from tests.model import invariants
from tests.rig import Asking, Client, HoldingAuthenticator, Rig

KEPT = wire5.prop(0x11, u32(1_000))
PACKET_SIZE = wire5.prop(0x27, u32(1_048_576))
RECEIVE_MAXIMUM = wire5.prop(0x21, wire.u16(1_024))
ALIASES = wire5.prop(0x22, wire.u16(32))
ORDINARY = RECEIVE_MAXIMUM + PACKET_SIZE + ALIASES


def flag(identifier: int, value: int = 0) -> bytes:
    return wire5.prop(identifier, bytes([value]))


def attempt(rig: Rig, *properties: bytes, client_id: str = "a", **more: object) -> Client:
    """A CONNECT, whatever its answer."""
    client = rig.open(client_id)
    client.level = 5
    client.send(wire5.connect(client_id, *properties, **more))  # type: ignore[arg-type]  # passed
    return client


# CONNACK


def test_what_a_client_is_told_by_default() -> None:
    rig = Rig()
    assert rig.connect5("a").announced == ORDINARY
    assert rig.last_fact("client.connected").detail == (
        "MQTT 5.0, clean start, session expiry 0 s, keep-alive 0 s"
    )
    assert rig.connect5("a", KEPT, clean=False, keep_alive_s=60).announced == ORDINARY
    assert rig.last_fact("client.connected").detail == (
        "MQTT 5.0, session kept, session expiry 1000 s, keep-alive 60 s"
    )
    rig.connect5("a", KEPT, clean=False, present=True, username="u", will=wire5.Will5("w"))
    assert rig.last_fact("client.connected").detail == (
        "MQTT 5.0, session kept, session expiry 1000 s, resumed, keep-alive 0 s, user 'u', "
        "will on 'w'"
    )


@pytest.mark.parametrize(
    ("limits", "announced"),
    [
        ({"receive_maximum": 65_535}, PACKET_SIZE + ALIASES),
        ({"receive_maximum": 1}, b"\x21\0\1" + PACKET_SIZE + ALIASES),
        ({"max_held_identifiers": 7}, b"\x21\0\7" + PACKET_SIZE + ALIASES),
        ({"maximum_qos": 1}, RECEIVE_MAXIMUM + flag(0x24, 1) + PACKET_SIZE + ALIASES),
        ({"maximum_qos": 0}, RECEIVE_MAXIMUM + flag(0x24, 0) + PACKET_SIZE + ALIASES),
        ({"retain_available": False}, RECEIVE_MAXIMUM + flag(0x25) + PACKET_SIZE + ALIASES),
        ({"max_packet_size_bytes": 2_000}, RECEIVE_MAXIMUM + b"\x27" + u32(2_000) + ALIASES),
        ({"topic_alias_maximum": 0}, RECEIVE_MAXIMUM + PACKET_SIZE),
        ({"topic_alias_maximum": 9}, RECEIVE_MAXIMUM + PACKET_SIZE + b"\x22\0\x09"),
        ({"wildcard_subscriptions": False}, ORDINARY + flag(0x28)),
        ({"subscription_identifiers": False}, ORDINARY + flag(0x29)),
        ({"shared_subscriptions": False}, ORDINARY + flag(0x2A)),
        ({"keep_alive_timeout_secs": 30}, ORDINARY + b"\x13\0\x1e"),
        ({"session_timeout_secs": 50}, b"\x11" + u32(50) + ORDINARY),
        ({"response_information": "answers/%c"}, ORDINARY),
        ({"server_reference": "other:1883"}, ORDINARY),
    ],
)
def test_what_differs_is_told(limits: dict[str, LimitValue], announced: bytes) -> None:
    assert Rig(settings=limits).connect5("a", KEPT).announced == announced


@pytest.mark.statement("MQTT-3.2.2-16")
def test_a_client_without_an_identifier_is_told_the_one_it_got() -> None:
    rig = Rig(entropy=lambda count: bytes(count))
    client = rig.connect5("", KEPT)
    name = "auto-" + "00" * 16
    assert wire5.prop(0x12, wire.string(name)) in client.announced
    client.subscribe(("t", 1))
    client.cut()
    rig.connect("p").send(wire.publish("t", b"x", 1, 1))
    assert rig.connect5(name, KEPT, clean=False, present=True).payloads() == [b"x"]


def test_without_an_identifier_and_without_a_clean_start() -> None:
    """In 3.1.1 that is refused; in 5.0 it is a new session with a new name."""
    rig = Rig()
    client = rig.connect5("", KEPT, clean=False)
    assert client.announced[0] == 0x21
    assert 0x12 in client.announced
    client.cut()
    assert rig.broker.session_count == 1


@pytest.mark.statement("MQTT-3.2.2-22")
@pytest.mark.parametrize(("asked", "most", "told"), [(0, 30, 30), (31, 30, 30), (30, 30, None)])
def test_keep_alive_is_what_the_server_says(asked: int, most: int, told: int | None) -> None:
    rig = Rig(keep_alive_timeout_secs=most)
    client = rig.connect5("a", keep_alive_s=asked)
    assert (wire5.prop(0x13, wire.u16(most)) in client.announced) is (told is not None)
    older = rig.connect("b", keep_alive_s=asked)
    rig.advance(44.9)
    assert not client.is_closed
    rig.advance(0.2)
    assert client.take() == wire5.disconnect(0x8D)
    fact = next(each for each in rig.facts_named("client.disconnected") if each.client_id == "a")
    assert fact.detail == "0x8D keep alive timeout"
    rig.advance(1)
    assert older.is_closed is (asked == 30)


def test_a_shorter_keep_alive_stays() -> None:
    rig = Rig(keep_alive_timeout_secs=30)
    client = rig.connect5("a", keep_alive_s=10)
    assert client.announced == ORDINARY
    rig.advance(15.1)
    assert client.is_closed


@pytest.mark.statement("MQTT-3.1.2-28")
@pytest.mark.parametrize(
    ("asked", "information", "told"),
    [
        ((), "answers/%c", None),
        ((flag(0x19, 0),), "answers/%c", None),
        ((flag(0x19, 1),), "answers/%c", "answers/a"),
        ((flag(0x19, 1),), "", None),
        ((flag(0x19, 1),), "fixed", "fixed"),
    ],
)
def test_response_information(asked: tuple[bytes, ...], information: str, told: str | None) -> None:
    client = Rig(response_information=information).connect5("a", *asked)
    expected = b"" if told is None else wire5.prop(0x1A, wire.string(told))
    assert client.announced == ORDINARY + expected


def test_response_information_that_is_too_long_is_left_out() -> None:
    rig = Rig(response_information="reply/%c", max_client_id_bytes=65_535)
    longest = "c" * (65_535 - len("reply/"))
    wanted = flag(0x19, 1)
    assert wire.string("reply/" + longest) in rig.connect5(longest, wanted).announced
    assert b"reply" not in rig.connect5(longest + "c", wanted).announced
    rig.no_faults()


def test_a_client_may_have_no_more_unacknowledged_than_it_may_hold() -> None:
    rig = Rig(max_held_identifiers=3, receive_maximum=100)
    client = rig.connect5("c")
    assert wire5.prop(0x21, b"\x00\x03") in client.announced
    for packet_id in (1, 2, 3):
        client.send(wire5.publish("t", b"x", 2, packet_id))
    assert client.take() == b"".join(wire5.pubrec(number, 0x10) for number in (1, 2, 3))
    client.send(wire5.publish("t", b"x", 2, 4))
    assert client.frames()[0].body[0] == 0x93


# What is not available, and asked for all the same


@pytest.mark.parametrize(
    ("limits", "packet", "reason", "statement"),
    [
        ({"maximum_qos": 1}, wire5.publish("t", b"", 2, 1), 0x9B, "MQTT-3.2.2-11"),
        ({"maximum_qos": 0}, wire5.publish("t", b"", 1, 1), 0x9B, "MQTT-3.2.2-11"),
        ({"retain_available": False}, wire5.publish("t", retain=True), 0x9A, "MQTT-3.2.2-14"),
        ({"wildcard_subscriptions": False}, wire5.subscribe(1, ("+", 0)), 0xA2, "P5-3.2.2-13"),
        (
            {"subscription_identifiers": False},
            wire5.subscribe(1, ("t", 0), properties=b"\x0b\1"),
            0xA1,
            "P5-3.2.2-15",
        ),
        (
            {"shared_subscriptions": False},
            wire5.subscribe(1, ("t", 0), ("$share/g/t", 0)),
            0x9E,
            "P5-3.2.2-17",
        ),
        (
            {"topic_alias_maximum": 2},
            wire5.publish("t", b"", 0, 0, b"\x23\0\3"),
            0x94,
            "MQTT-3.2.2-17",
        ),
        ({"max_packet_size_bytes": 1_024}, wire5.publish("t", bytes(1_024)), 0x95, "MQTT-3.2.2-15"),
        (
            {"max_user_properties": 3},
            wire5.publish("t", b"", 0, 0, *[wire5.user("k", "v")] * 4),
            0x97,
            "",
        ),
        (
            {"max_property_bytes": 100},
            wire5.publish("t", b"", 0, 0, wire5.user("k", "v" * 100)),
            0x97,
            "",
        ),
    ],
)
def test_who_asks_for_it_is_told_so_and_closed(
    limits: dict[str, LimitValue], packet: bytes, reason: int, statement: str
) -> None:
    rig = Rig(settings=limits)
    witness = rig.connect("witness")
    client = rig.connect5("a")
    client.send(packet + wire5.PINGREQ)
    (frame,) = client.frames()
    assert (frame.first, frame.body[0]) == (0xE0, reason)
    assert client.is_closed
    fact = rig.last_fact("client.disconnected")
    assert fact.statement == statement
    assert fact.detail.startswith(f"0x{reason:02X} ")
    assert rig.broker.subscription_count == 0
    witness.send(wire.PINGREQ)
    assert witness.take() == wire.PINGRESP
    rig.connect5("b").send(wire5.publish("t"), wire5.DISCONNECT)
    invariants.check_at_rest(rig)


def test_what_is_just_within_is_served() -> None:
    rig = Rig(max_user_properties=3, max_property_bytes=100, topic_alias_maximum=2)
    reader = rig.connect5("r")
    reader.subscribe(("t", 0))
    client = rig.connect5("a")
    users = [wire5.user("k", "v")] * 3
    client.send(wire5.publish("t", b"1", 0, 0, b"\x23\0\2", *users))
    client.send(wire5.publish("", b"2", 0, 0, b"\x23\0\2", wire5.user("k", "v" * 91)))
    assert [each.properties for each in reader.publishes5()] == [
        b"".join(users),
        wire5.user("k", "v" * 91),
    ]


def test_qos_above_the_maximum_is_not_granted() -> None:
    rig = Rig(maximum_qos=1)
    client = rig.connect5("a", KEPT)
    client.send(wire5.subscribe(1, ("a", 2), ("b", 1), ("c", 0)))
    assert client.take() == wire5.suback(1, 1, 1, 0)
    older = rig.connect("p")
    older.send(wire.publish("a", b"", 2, 1))
    assert older.take() == wire.pubrec(1)
    assert [each.qos for each in client.publishes5()] == [1]
    older.send(wire.subscribe(1, ("a", 2)))
    assert older.take() == wire.suback(1, 1)


def test_retained_messages_of_3_1_1_where_nothing_is_retained() -> None:
    rig = Rig(retain_available=False)
    reader = rig.connect5("r")
    reader.subscribe(("t", 8 | 1))
    publisher = rig.connect("p")
    for qos in (0, 1, 2):
        publisher.send(wire.publish("t", b"x", qos, qos, retain=True))
    assert len(reader.publishes5()) == 3
    publisher.send(wire.publish("t", b"", retain=True))
    reader.take()
    reader.subscribe(("t", 0))
    assert reader.take() == b""
    assert rig.broker.stats.retained_messages == 0


# Payload format


@pytest.mark.parametrize(
    ("indicator", "payload", "is_right"),
    [
        ((), b"\xff", True),
        ((flag(0x01, 0),), b"\xff", True),
        ((flag(0x01, 1),), "täxt".encode(), True),
        ((flag(0x01, 1),), b"", True),
        ((flag(0x01, 1),), b"\xff", False),
        ((flag(0x01, 1),), b"\xed\xa0\x80", False),
    ],
)
@pytest.mark.parametrize("is_checked", [True, False])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_text_is_checked_where_that_is_wanted(
    indicator: tuple[bytes, ...], payload: bytes, is_right: bool, is_checked: bool, qos: int
) -> None:
    rig = Rig(validate_payload_format=is_checked)
    reader = rig.connect("r")
    reader.subscribe(("t", 0))
    client = rig.connect5("a")
    client.send(wire5.publish("t", payload, qos, 7 if qos else 0, *indicator))
    is_taken = is_right or not is_checked
    assert reader.payloads() == ([payload] if is_taken else [])
    got = client.take()
    if is_taken:
        assert got == (b"", wire5.puback(7), wire5.pubrec(7))[qos]
    elif qos:
        assert got == (b"", wire5.puback(7, 0x99), wire5.pubrec(7, 0x99))[qos]
        assert not client.is_closed
        client.send(wire5.publish("t", b"right", qos, 7, *indicator))  # the identifier is free
        assert reader.payloads() == [b"right"]
    else:
        assert (got[0], got[2]) == (0xE0, 0x99)
        assert rig.last_fact("client.disconnected").statement == "P5-3.3.2-1"
    assert rig.broker.stats.dropped_malformed == int(not is_taken)
    assert rig.broker._ws.held_identifiers == (1 if qos == 2 else 0)


def test_text_that_is_none_leaves_the_other_messages_alone() -> None:
    rig = Rig(validate_payload_format=True, receive_maximum=2)
    client = rig.connect5("a")
    client.send(wire5.publish("t", b"right", 2, 1))
    assert client.take() == wire5.pubrec(1, 0x10)
    for _ in range(3):  # each is over with its PUBREC
        client.send(wire5.publish("t", b"\xff", 2, 2, flag(0x01, 1)))
        assert client.take() == wire5.pubrec(2, 0x99)
    assert rig.broker._ws.held_identifiers == 1
    client.send(wire5.pubrel(1))
    assert client.take() == wire5.pubcomp(1)
    assert rig.broker._ws.held_identifiers == 0
    invariants.check_at_rest(rig)


# Another server


@pytest.mark.parametrize(("redirect", "reason"), [("always", 0x9C), ("moved", 0x9D)])
def test_clients_are_sent_elsewhere(redirect: str, reason: int) -> None:
    rig = Rig(server_reference="other:1883", server_redirect=redirect)
    client = attempt(rig)
    elsewhere = wire5.prop(0x1C, wire.string("other:1883"))
    why = wire5.reason_string("clients are served elsewhere")
    assert client.take() == wire5.connack(reason, elsewhere, why)
    assert rig.last_fact("client.refused").detail.startswith(f"0x{reason:02X} ")
    older = rig.open()
    older.send(wire.connect("b"))
    assert older.take() == wire.connack(3)
    # What does not fit is left out, the words first.
    assert attempt(rig, wire5.prop(0x27, u32(60))).take() == wire5.connack(reason, elsewhere)
    assert attempt(rig, wire5.prop(0x27, u32(36))).take() == wire5.connack(reason)
    invariants.check_empty(rig)


def test_a_server_that_goes_down_names_another() -> None:
    rig = Rig(server_reference="other:1883")
    client = rig.connect5("a")
    older = rig.connect("b")
    rig.broker.shut_down(GRACEFUL, rig.now)
    rig.pump()
    assert client.take() == wire5.disconnect(0x9C, wire5.prop(0x1C, wire.string("other:1883")))
    assert older.take() == b""
    facts = {each.client_id: each.detail for each in rig.facts_named("client.disconnected")}
    assert facts["b"] == ""


def test_a_server_that_is_full_names_another() -> None:
    rig = Rig(max_connections=1, server_reference="other")
    rig.connect5("a")
    client = attempt(rig, client_id="b")
    frame = client.frames()[0]
    assert frame.body[1] == 0x9C
    assert wire5.prop(0x1C, wire.string("other")) in frame.body


# Problem information


@pytest.mark.statement("MQTT-3.1.2-29")
@pytest.mark.parametrize(
    ("asked", "has_words"), [((), True), ((flag(0x17, 1),), True), ((flag(0x17, 0),), False)]
)
def test_reasons_in_words_for_who_wants_them(asked: tuple[bytes, ...], has_words: bool) -> None:
    rig = Rig()
    client = rig.connect5("a", *asked)
    client.send(wire5.subscribe(1, ("t", 0)), wire5.unsubscribe(2, "x"))
    client.send(wire5.publish("$SYS/x", b"", 1, 3), wire5.publish("$SYS/x", b"", 2, 4))
    client.send(wire5.pubrel(5), wire5.pubrec(6))
    answers = client.take()
    assert answers == b"".join(
        (
            wire5.suback(1, 0),
            wire5.unsuback(2, 0x11),
            wire5.puback(3, 0x87),
            wire5.pubrec(4, 0x87),
            wire5.pubcomp(5, 0x92),
            wire5.pubrel(6, 0x92),
        )
    )
    client.send(wire5.publish("#"))
    words = wire5.reason_string("topic name has a wildcard") if has_words else b""
    assert client.take() == (wire5.disconnect(0x90, words) if words else wire5.disconnect(0x90))


def test_faults_of_ours_are_not_explained() -> None:
    class Faulty(Asking):
        def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
            raise ZeroDivisionError("a secret")

    rig = Rig(policy=Faulty(), authenticator=HoldingAuthenticator())
    client = attempt(rig)
    rig.settle()
    assert client.frames()[0].body[1] == 0
    client.send(wire5.publish("t"))
    assert client.take() == wire5.disconnect(0x83)
    fact = rig.last_fact("client.disconnected")
    assert fact.detail == "0x83 implementation specific error: ZeroDivisionError('a secret')"
    assert rig.broker.stats.faults == 1


@pytest.mark.parametrize(
    ("packet", "statement"),
    [
        (wire5.puback(9), "MQTT-2.2.1-5"),
        (wire5.pubcomp(9), "MQTT-2.2.1-5"),
        (wire5.pubrec(9, 0x80), "MQTT-2.2.1-5"),
    ],
)
def test_an_answer_to_nothing(packet: bytes, statement: str) -> None:
    rig = Rig()
    client = rig.connect5("a")
    client.send(packet)
    frame = client.frames()[0]
    assert (frame.first, frame.body[0]) == (0xE0, 0x82)
    assert rig.last_fact("client.disconnected").statement == statement


def test_pubcomp_that_says_itself_that_there_is_nothing() -> None:
    rig = Rig()
    client = rig.connect5("a")
    client.send(wire5.pubrec(9))
    assert client.take() == wire5.pubrel(9, 0x92)
    client.send(wire5.pubcomp(9, 0x92), wire5.PINGREQ)
    assert client.take() == wire5.PINGRESP


# Versions


def test_connections_are_counted_by_version() -> None:
    rig = Rig(sys_interval_secs=10)
    witness = rig.connect("witness")
    witness.subscribe(("$SYS/broker/clients/connected/+", 0))
    clients = [rig.connect5("a"), rig.connect5("b", KEPT), rig.connect("c")]
    ancient = rig.open()
    ancient.send(wire.connect("d", level=3))

    def counts() -> dict[str, bytes]:
        rig.advance(10)
        return {each.topic.rsplit("/", 1)[1]: each.payload for each in witness.publishes()}

    assert counts() == {"3.1": b"1", "3.1.1": b"2", "5.0": b"2"}
    for client in clients:
        client.cut()
    ancient.cut()
    assert counts() == {"3.1": b"0", "3.1.1": b"1", "5.0": b"0"}
    rig.persistent("b", present=True)
    assert counts() == {"3.1.1": b"2"}
    rig.connect5("b", KEPT, clean=False, present=True)
    assert counts() == {"3.1.1": b"1", "5.0": b"1"}
    stats = rig.broker.stats
    assert stats.clients_connected == stats.connected_3_1_1 + stats.connected_5 == 2


@pytest.mark.parametrize(
    ("make", "detail"),
    [
        (lambda rig: attempt(rig, client_id="x" * 2_000),
         "0x85 client identifier not valid: client identifier is longer than 1024 bytes"),
        (lambda rig: attempt(rig, flag(0x17, 2)), "0x82 protocol error: "),
        (lambda rig: attempt(rig, wire5.prop(0x21, b"\0\0")), "0x82 protocol error: "),
        (lambda rig: attempt(rig, wire5.prop(0x7F, b"\0\0")), "0x81 malformed packet: "),
    ],
)  # fmt: skip
def test_refusals_are_logged_by_name(make: object, detail: str) -> None:
    rig = Rig()
    assert callable(make)
    client = make(rig)
    assert isinstance(client, Client)
    frame = client.frames()[0]
    assert f"0x{frame.body[1]:02X}" == detail[:4]
    assert rig.last_fact("client.refused").detail.startswith(detail)
    invariants.check_empty(rig)
