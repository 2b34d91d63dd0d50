"""From CONNECT to CONNACK: who is let in, who waits, who is refused."""

from __future__ import annotations

import pytest

from mqtt_core.broker import (
    ACCEPTED,
    DENIED,
    DENY,
    IMMEDIATE,
    SERVER_BUSY,
    ClaimSession,
    Decision,
    EndSession,
    MemoryEngine,
    Request,
    SaveExpiry,
    SaveSession,
    SaveWill,
    StaticUsers,
    Write,
)
from tests.core import wire, wire5
from tests.core.wire5 import Will5, prop, u32
from tests.model import invariants
from tests.rig import (
    Asking,
    HoldingAuthenticator,
    HoldingEngine,
    RefusingEngine,
    Rig,
    TablePolicy,
    writes,
)


def test_a_client_is_answered_and_counted() -> None:
    rig = Rig()
    client = rig.open("1.2.3.4:5")
    assert rig.broker.stats.half_connected == rig.broker.stats.connections == 1
    client.send(wire.connect("a", keep_alive_s=9, username="u", will=("w", b"", 1, True)))
    assert client.take() == wire.connack()
    assert rig.broker.stats.half_connected == 0
    assert rig.broker.stats.clients_connected == rig.broker.session_count == 1
    fact = rig.last_fact("client.connected")
    assert (fact.client_id, fact.peer, fact.listener) == (
        "a",
        "peer:1.2.3.4:5",
        "tcp://127.0.0.1:1883",
    )
    assert fact.channel == client.channel.key > 0
    assert fact.detail == ("MQTT 3.1.1, clean session, keep-alive 9 s, user 'u', will on 'w'")
    assert repr(client.channel) == f"Channel(#{client.channel.key} 'a' peer:1.2.3.4:5)"
    invariants.check_at_rest(rig)


def test_mqtt_3_1_is_served_too() -> None:
    rig = Rig()
    client = rig.open()
    client.send(wire.connect("a", level=3))
    assert client.take() == wire.connack()
    assert rig.last_fact("client.connected").detail.startswith("MQTT 3.1, ")


@pytest.mark.statement("v3 MQTT-3.1.3-6")
def test_an_empty_identifier_is_replaced_by_one_that_nobody_can_guess() -> None:
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return bytes([len(asked)]) * count

    rig = Rig(entropy=entropy)
    for _ in range(2):
        rig.open().send(wire.connect(""))
    assert asked == [16, 16]
    ids = [fact.client_id for fact in rig.facts_named("client.connected")]
    assert ids == ["auto-" + "01" * 16, "auto-" + "02" * 16]


REFUSED = [
    ({"allow_empty_client_id": False}, wire.connect(""), 2, "no client identifier"),
    ({"max_client_id_bytes": 23}, wire.connect("x" * 24), 2, "longer than 23 bytes"),
    ({"max_client_id_bytes": 23}, wire.connect("ü" * 12), 2, "longer than 23 bytes"),
    ({}, wire.connect("c", level=6), 1, "protocol level 6"),
    ({}, wire.connect("", clean=False), 2, "identifier is empty"),
    ({}, wire.connect("c", will=("$SYS/x", b"", 0, False)), 5, "read-only"),
    ({}, wire.connect("c", will=("$SYS", b"", 0, False)), 5, "read-only"),
]


@pytest.mark.statement("v3 MQTT-3.2.2-4")
@pytest.mark.statement("v3 MQTT-3.2.2-5")
@pytest.mark.parametrize(("limits", "data", "code", "detail"), REFUSED)
def test_a_refusal_is_the_last_packet(
    limits: dict[str, bool], data: bytes, code: int, detail: str
) -> None:
    rig = Rig(settings=limits)
    client = rig.open()
    client.send(data + wire.publish("t", b"", 1, 1))
    assert client.take() == wire.connack(code)
    assert client.is_closed
    assert detail in rig.last_fact("client.refused").detail
    assert rig.broker.stats.connects_refused == 1
    assert rig.broker.stats.publishes_received == 0
    invariants.check_empty(rig)


@pytest.mark.statement("v3 MQTT-3.1.0-1")
@pytest.mark.parametrize(
    "data", [wire.PINGREQ, wire.publish("t"), b"GET / HTTP/1.1\r\n\r\n", b"\0"]
)
def test_who_begins_with_something_else_is_not_answered(data: bytes) -> None:
    rig = Rig()
    client = rig.open()
    client.send(data)
    assert client.take() == b""
    assert client.is_closed
    fact = rig.last_fact("client.refused")
    assert (fact.statement, fact.offset) == ("MQTT-3.1.0-1", 0)
    assert rig.broker.stats.protocol_violations == 1


def test_tls_on_a_plain_port_is_refused_on_its_first_byte() -> None:
    rig = Rig()
    client = rig.open()
    client.send(b"\x16")
    assert client.is_closed
    fact = rig.last_fact("client.refused")
    assert (fact.statement, fact.offset) == ("MQTT-2.2.2-2", 0)


def test_connect_in_pieces_is_connect() -> None:
    rig = Rig()
    client = rig.open()
    for byte in wire.connect("a"):
        assert client.take() == b""
        client.send(bytes([byte]))
    assert client.take() == wire.connack()


@pytest.mark.statement("v3 MQTT-3.1.0-2")
def test_a_second_connect_ends_the_connection() -> None:
    rig = Rig()
    client = rig.connect("a")
    client.send(wire.connect("a"))
    assert client.is_closed
    fact = rig.last_fact("client.disconnected")
    assert fact.statement == "MQTT-3.1.0-2"
    assert fact.offset == len(wire.connect("a"))


# Limits


def test_one_connection_too_many_is_refused_politely() -> None:
    rig = Rig(max_connections=2)
    first = rig.connect("a")
    rig.connect("b")
    third = rig.open()
    third.send(wire.connect("c"))
    assert third.take() == wire.connack(3)
    assert third.is_closed
    first.send(wire.DISCONNECT)
    assert rig.connect("c").channel.is_open


def test_half_connected_connections_have_a_limit_of_their_own() -> None:
    rig = Rig(max_half_connected=2)
    rig.connect("a")
    silent = [rig.open(), rig.open()]
    third = rig.open()
    assert third.is_closed
    fact = rig.last_fact("client.refused")
    assert fact.cause == "too many connections without CONNECT"
    silent[0].send(wire.connect("b"))
    assert not rig.open().is_closed
    invariants.check_at_rest(rig)


def test_sessions_have_a_limit_and_those_that_end_with_their_connection_do_not() -> None:
    rig = Rig(max_sessions=2)
    rig.persistent("a").cut()
    rig.persistent("b")
    refused = rig.open()
    refused.send(wire.connect("c", clean=False))
    assert refused.take() == wire.connack(3)
    rig.connect("a", clean=False, present=True)
    rig.connect("c")


def test_many_connects_that_do_not_come_are_given_up_in_turns() -> None:
    rig = Rig(connect_timeout_secs=5)
    for _ in range(1_500):
        rig.broker.open("", "", rig.now)
    rig.now += 5
    rig.broker.advance(rig.now)
    assert 0 < rig.broker.stats.connections < 1_500
    assert rig.broker.next_deadline() == rig.now
    rig.broker.advance(rig.now)
    assert rig.broker.stats.connections == 0
    assert rig.broker.has_facts
    assert len(rig.broker.take_facts()) == 1_500
    assert not rig.broker.has_facts


def test_a_connect_that_does_not_come() -> None:
    rig = Rig(connect_timeout_secs=10)
    client = rig.open()
    client.send(wire.connect("a")[:5])
    rig.advance(9.9)
    assert not client.is_closed
    rig.advance(0.2)
    assert client.is_closed
    assert rig.last_fact("client.silent").cause == "no CONNECT in time"
    invariants.check_empty(rig)


def test_who_leaves_without_a_word_is_told_quietly() -> None:
    rig = Rig()
    rig.open().cut()
    rig.open().reset()
    causes = [fact.cause for fact in rig.facts_named("client.silent")]
    assert causes == ["connection closed by the client", "connection lost"]
    assert rig.broker.stats.connects_refused == 0


# Authentication


def test_a_password_is_checked_and_never_shown() -> None:
    rig = Rig(policy=StaticUsers({"u": b"very secret"}))
    right = rig.connect("a", username="u", password=b"very secret")
    wrong = rig.open()
    wrong.send(wire.connect("b", username="u", password=b"not so secret"))
    assert wrong.take() == wire.connack(4)
    anonymous = rig.open()
    anonymous.send(wire.connect("c"))
    assert anonymous.take() == wire.connack(5)
    right.send(wire.DISCONNECT)
    shown = repr(rig.facts) + repr(right.channel) + repr(rig.requests)
    assert "secret" not in shown


def test_a_decision_from_outside_is_waited_for_by_one_client_only() -> None:
    authenticator = HoldingAuthenticator(refused=["b"])
    rig = Rig(policy=Asking(), authenticator=authenticator)
    first, second, third = rig.open("1"), rig.open("2"), rig.open("3")
    first.send(wire.connect("a", username="u", password=b"secret"))
    second.send(wire.connect("b"))
    third.send(wire.connect("c"))
    assert "secret" not in repr(rig.requests)
    authenticator.answer(2)
    rig.pump()
    assert third.take() == wire.connack()
    assert first.take() == second.take() == b""
    authenticator.release()
    rig.pump()
    assert first.take() == wire.connack()
    assert second.take() == wire.connack(5)


@pytest.mark.parametrize("order", [(1, 0), (0, 0)])
def test_a_late_decision_about_an_older_connect_changes_nothing(order: tuple[int, int]) -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(policy=Asking(), authenticator=authenticator)
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    older, newer = rig.open("older"), rig.open("newer")
    older.send(wire.connect("a"))
    newer.send(wire.connect("a", clean=False))
    for at in order:
        authenticator.answer(at)
        rig.pump()
    rig.settle()
    assert older.is_closed
    assert older.take() == b""
    assert newer.take() == wire.connack()
    assert not newer.is_closed


@pytest.mark.parametrize("has_left", [False, True])
def test_a_late_decision_does_not_end_a_session_that_is_newer(has_left: bool) -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(policy=Asking(), authenticator=authenticator)
    older, newer = rig.open("older"), rig.open("newer")
    older.send(wire.connect("a"))
    newer.send(wire.connect("a", clean=False))
    authenticator.answer(1)
    rig.pump()
    assert newer.take() == wire.connack()
    if has_left:
        newer.send(wire.DISCONNECT)
    authenticator.answer()
    rig.pump()
    assert older.take() == b""
    assert rig.last_fact("client.refused").cause == "taken over by a newer connection"
    assert newer.is_closed is has_left
    again = rig.open("a")
    again.send(wire.connect("a", clean=False))
    authenticator.answer()
    rig.pump()
    assert again.take() == wire.connack(present=True)


@pytest.mark.parametrize(
    ("decision", "code"),
    [
        (Decision(SERVER_BUSY), 3),
        (Decision(0x86), 4),
        (Decision(0x85), 2),
        (Decision(0x80), 5),  # no code of 3.1.1 says that
        (DENIED, 5),
    ],
)
def test_a_refusal_has_a_code_of_its_version(decision: Decision, code: int) -> None:
    policy = TablePolicy()
    policy.connects["a"] = decision
    rig = Rig(policy=policy)
    client = rig.open()
    client.send(wire.connect("a"))
    assert client.take() == wire.connack(code)


def test_a_decision_that_does_not_come() -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(policy=Asking(), authenticator=authenticator, request_timeout_secs=30)
    client = rig.open()
    client.send(wire.connect("a") + wire.PINGREQ)
    assert not client.channel.wants_read
    rig.advance(29)
    assert not client.is_closed
    rig.advance(2)
    assert client.is_closed
    assert client.take() == b""
    assert rig.last_fact("client.refused").cause == "a decision did not come in time"
    authenticator.release()
    rig.pump()
    assert client.take() == b""
    invariants.check_empty(rig)


def test_a_decision_for_a_client_that_has_gone() -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(policy=Asking(), authenticator=authenticator)
    client = rig.open()
    client.send(wire.connect("a", clean=False))
    client.cut()
    token = authenticator.held[0].token
    authenticator.release()
    rig.pump()
    rig.broker.auth_decided(token, ACCEPTED, rig.now)
    rig.broker.auth_decided(999, ACCEPTED, rig.now)
    rig.pump()
    assert rig.broker.session_count == 0
    invariants.check_empty(rig)


def test_what_follows_connect_is_read_when_connack_has_left() -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(policy=Asking(), authenticator=authenticator)
    client = rig.open()
    client.send(wire.connect("a") + wire.PINGREQ + wire.publish("t", b"", 1, 1))
    client.send(wire.PINGREQ)
    assert not client.channel.wants_read
    authenticator.release()
    rig.pump()
    authenticator.release()
    rig.settle()
    assert client.take() == wire.connack() + wire.PINGRESP + wire.puback(1) + wire.PINGRESP
    assert client.channel.wants_read


# Wills


def test_a_wills_topic_is_authorized() -> None:
    rig = Rig(policy=TablePolicy({"denied": DENY}))
    client = rig.open()
    client.send(wire.connect("a", will=("denied", b"", 0, False)))
    assert client.take() == wire.connack(5)
    rig.connect("a", will=("allowed", b"", 0, False))


def test_a_wills_topic_is_authorized_outside() -> None:
    authenticator = HoldingAuthenticator(denied=["denied"])
    rig = Rig(policy=Asking(), authenticator=authenticator)
    first, second = rig.open("1"), rig.open("2")
    first.send(wire.connect("a", will=("denied", b"", 0, False)))
    second.send(wire.connect("b", will=("allowed", b"", 0, False)))
    rig.settle()
    assert first.take() == wire.connack(5)
    assert second.take() == wire.connack()
    second.cut()
    assert rig.broker.stats.wills_published == 1


def test_a_wills_topic_with_too_many_levels_after_a_decision_from_outside() -> None:
    rig = Rig(policy=Asking(), authenticator=HoldingAuthenticator(), max_topic_levels=3)
    client = rig.open()
    client.send(wire.connect("a", will=("1/2/3/4", b"", 0, False)))
    rig.settle()
    assert client.is_closed
    assert rig.last_fact("client.refused").detail == "the will's topic has more than 3 levels"
    assert rig.broker.stats.protocol_violations == 1
    invariants.check_at_rest(rig)


# The store


def test_connack_rests_on_the_claim_and_on_what_is_stored() -> None:
    rig = Rig()
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    client = rig.open()
    client.send(wire.connect("a", clean=False, will=("w", b"", 0, False)))
    assert [type(request) for request, _ in engine.held] == [ClaimSession]
    engine.release()
    rig.pump()
    ((write, _),) = engine.held
    assert isinstance(write, Write)
    assert [type(each) for each in write.operations] == [SaveSession, SaveExpiry, SaveWill]
    assert client.take() == b""
    engine.release()
    rig.pump()
    assert client.take() == wire.connack()


@pytest.mark.parametrize("at", [1, 2])
def test_a_store_that_refuses_is_answered_with_server_unavailable(at: int) -> None:
    rig = Rig()
    rig.engine = RefusingEngine(rig.engine, at)
    client = rig.open()
    client.send(wire.connect("a", clean=False))
    assert client.take() == wire.connack(3)
    assert client.is_closed
    assert rig.last_fact("store.failed").detail == "refused by test"
    assert rig.broker.stats.store_failures == 1
    invariants.check_empty(rig)
    rig.persistent("a")


def test_a_store_that_refuses_one_who_has_gone() -> None:
    rig = Rig()
    refusing = RefusingEngine(rig.engine, writes(SaveSession))
    engine = HoldingEngine(refusing)
    rig.engine = engine
    client = rig.open()
    client.send(wire.connect("a", clean=False))
    engine.release()
    rig.pump()
    client.cut()
    rig.settle()
    assert refusing.refused
    invariants.check_empty(rig)


def test_a_client_that_goes_before_its_connack_leaves_nothing() -> None:
    for steps in range(3):
        rig = Rig()
        engine = HoldingEngine(rig.engine)
        rig.engine = engine
        client = rig.open()
        client.send(wire.connect("a", clean=False, will=("w", b"", 0, False)))
        for _ in range(steps):
            engine.release()
            rig.pump()
        if steps == 2:
            assert client.take() == wire.connack()
            client.send(wire.DISCONNECT)
            rig.settle()
            assert rig.broker.session_count == 1
            continue
        client.cut()
        rig.settle()
        invariants.check_empty(rig)
        assert rig.broker.stats.wills_published == 0
        again = rig.open()
        again.send(wire.connect("a", clean=False))
        rig.settle()
        assert again.take() == wire.connack(present=False)


@pytest.mark.parametrize("released", [0, 1])
def test_of_two_claims_the_newer_wins(released: int) -> None:
    rig = Rig()
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    older = rig.open("older")
    older.send(wire.connect("a", clean=False, will=("w", b"1", 0, False)))
    for _ in range(released):
        engine.release()
        rig.pump()
    newer = rig.open("newer")
    newer.send(wire.connect("a", clean=False, will=("w", b"2", 0, False)))
    assert older.is_closed
    while engine.release_last():
        rig.pump()
    rig.settle()
    assert older.take() == b""
    assert newer.take() == wire.connack(present=False)
    assert rig.broker.stats.wills_published == 0
    newer.cut()
    rig.settle()
    assert rig.broker.stats.wills_published == 1


def test_a_late_answer_for_one_who_has_gone_does_not_end_what_a_newer_has_adopted() -> None:
    rig = Rig()
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    older = rig.open("older")
    older.send(wire.connect("a", clean=False))
    engine.release()
    rig.pump()
    ((first, stored),) = engine.held
    engine.held.clear()
    older.cut()
    newer = rig.open("newer")
    newer.send(wire.connect("a", clean=False))
    rig.settle()
    assert newer.take() == wire.connack()
    engine.held.append((first, stored))
    rig.settle()
    newer.send(wire.subscribe(1, ("t", 1)), wire.DISCONNECT)
    rig.settle()
    publisher = rig.open("b")
    publisher.send(wire.connect("b"), wire.publish("t", b"x", 1, 1))
    rig.settle()
    again = rig.open("a")
    again.send(wire.connect("a", clean=False))
    rig.settle()
    assert again.take() == wire.connack(present=True) + wire.publish("t", b"x", 1, 1)


def test_a_clean_connect_ends_what_is_stored_for_one_that_comes_to_nothing() -> None:
    rig = Rig()
    first = rig.open("first")
    first.send(wire.connect("a"))
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    second = rig.open("second")
    second.send(wire.connect("a", clean=False))
    engine.release()
    rig.pump()
    third = rig.open("third")
    third.send(wire.connect("a"))
    assert second.is_closed
    rig.settle()
    assert third.take() == wire.connack()
    third.send(wire.DISCONNECT)
    rig.settle()
    invariants.check_empty(rig)
    fourth = rig.open("fourth")
    fourth.send(wire.connect("a", clean=False))
    engine.release()
    rig.pump()
    assert SaveSession in [
        type(each)
        for request, _ in engine.held
        if isinstance(request, Write)
        for each in request.operations
    ]


def test_a_clean_connect_that_is_refused_brings_nothing_to_life() -> None:
    rig = Rig()
    memory = rig.engine
    engine = HoldingEngine(RefusingEngine(memory, writes(EndSession)))
    rig.engine = engine
    first = rig.open("first")
    first.send(wire.connect("a", clean=False))
    engine.release()
    rig.pump()
    second = rig.open("second")
    second.send(wire.connect("a"))  # finds what is stored for the first, which goes
    rig.settle()
    assert second.take() == wire.connack(3)
    invariants.check_empty(rig)
    after_restart = Rig(engine=memory)
    after_restart.persistent("a", present=False)


def test_a_claim_that_is_refused_leaves_nothing_stored_for_an_earlier_one() -> None:
    rig = Rig()
    memory = rig.engine
    engine = HoldingEngine(RefusingEngine(memory, 3))
    rig.engine = engine
    first = rig.open("first")
    first.send(wire.connect("a", clean=False))
    engine.release()
    rig.pump()
    second = rig.open("second")
    second.send(wire.connect("a", clean=False))
    rig.settle()
    assert second.take() == wire.connack(3)
    invariants.check_empty(rig)
    after_restart = Rig(engine=memory)
    after_restart.persistent("a", present=False)


def test_a_session_that_one_of_two_clean_connects_has_ended_does_not_go_on() -> None:
    rig = Rig()
    rig.persistent("a").cut()
    ends: list[Request] = []

    def refuses_the_first_end(_: int, request: Request) -> bool:
        if writes(EndSession)(0, request):
            ends.append(request)
        return ends == [request]

    engine = HoldingEngine(RefusingEngine(rig.engine, refuses_the_first_end))
    rig.engine = engine
    held = []
    for _ in range(2):
        clean = rig.open("a")
        clean.send(wire.connect("a"))
        engine.release()
        rig.pump()
        held += engine.held
        engine.held.clear()
        clean.cut()
    assert [request for request, _ in held] == ends
    engine.held.append(held[0])
    rig.settle()
    client = rig.open("a")
    client.send(wire.connect("a", clean=False))
    rig.settle()
    assert client.take() == wire.connack(present=False)
    engine.held.append(held[1])
    rig.settle()
    assert not client.is_closed
    client.cut()
    rig.settle()
    again = rig.open("a")
    again.send(wire.connect("a", clean=False))
    rig.settle()
    assert again.take() == wire.connack(present=True)


# Stored wills


def test_of_two_attempts_at_a_takeover_the_newer_decides_on_the_stored_will() -> None:
    rig = Rig()
    memory = MemoryEngine(rig.limits)
    engine = HoldingEngine(memory)
    rig.engine = engine
    rig.open("first").send(wire.connect("a", will=("w", b"1", 0, False)))
    rig.settle()
    second = rig.open("second")
    second.send(wire.connect("a", will=("w", b"2", 0, False)))
    engine.release()
    rig.pump()
    third = rig.open("third")
    third.send(wire.connect("a"))
    engine.release(kind=ClaimSession)
    rig.pump()
    rig.settle()
    assert third.take() == wire.connack()
    assert memory._wills == {}


def test_the_will_of_one_who_comes_survives_the_end_of_one_who_goes() -> None:
    rig = Rig()
    memory = MemoryEngine(rig.limits)
    engine = HoldingEngine(memory)
    rig.engine = engine
    older = rig.open("older")
    older.send(wire.connect("a", will=("w", b"1", 0, False)))
    rig.settle()
    newer = rig.open("newer")
    newer.send(wire.connect("a", will=("w", b"2", 0, False)))
    engine.release()
    rig.pump()
    older.cut()
    rig.settle()
    assert newer.take() == wire.connack()
    assert memory._wills["a"].will.payload == b"2"
    newer.send(wire.DISCONNECT)
    assert memory._wills == {}


@pytest.mark.parametrize("is_there", [False, True])
def test_a_will_is_not_stored_for_two_attempts_that_come_to_nothing(is_there: bool) -> None:
    """They are delayed, so that none is published when a connection is taken over."""
    rig = Rig()
    memory = MemoryEngine(rig.limits)
    stored: list[Request] = []

    def connect(payload: bytes) -> bytes:
        will = Will5("w", payload, 0, False, prop(0x18, u32(9)))
        return wire5.connect("a", prop(0x11, u32(99)), clean=False, will=will)

    def refuses_the_last(_: int, request: Request) -> bool:
        if writes(SaveWill)(0, request):
            stored.append(request)
        return len(stored) == 2 + is_there

    engine = HoldingEngine(RefusingEngine(memory, refuses_the_last))
    rig.engine = engine
    if is_there:
        rig.open("first").send(connect(b"1"))
        rig.settle()
    for payload in (b"2", b"3"):
        rig.open("a").send(connect(payload))
        engine.release(kind=ClaimSession)
        rig.pump()
    rig.settle()
    assert len(stored) == 2 + is_there
    assert rig.broker.stats.connects_accepted == is_there
    assert {key: stored.will.payload for key, stored in memory._wills.items()} == (
        {"a": b"1"} if is_there else {}
    )


@pytest.mark.parametrize("is_newer_first", [False, True])
def test_the_will_of_one_who_is_connected_at_the_shutdown_stays_stored(
    is_newer_first: bool,
) -> None:
    rig = Rig()
    memory = MemoryEngine(rig.limits)
    engine = HoldingEngine(memory)
    rig.engine = engine
    clients = [rig.open("1"), rig.open("2")]
    newer, older = clients if is_newer_first else reversed(clients)
    older.send(wire.connect("a", clean=False, will=("w", b"1", 0, False)))
    rig.settle()
    newer.send(wire.connect("a", clean=False, will=("w", b"2", 0, False)))
    engine.release()
    rig.pump()
    rig.broker.shut_down(IMMEDIATE, rig.now)
    rig.settle()
    assert memory._wills["a"].will.payload == b"1"
