"""How connections end, what follows from it, and what is sent last."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_core.broker import (
    ASK,
    CLOSE_AFTER_FLUSH,
    CLOSE_NOW,
    EOF_BY_PEER,
    GRACEFUL,
    IMMEDIATE,
    SERVER_UNAVAILABLE,
    Append,
    Decision,
    cause_name,
    publishes_will,
)
from mqtt_core.broker import _causes as causes
from mqtt_core.broker._causes import cause_reason
from mqtt_core.reasons import reason_name
from tests.core import wire, wire5
from tests.model import invariants
from tests.rig import (
    Client,
    HoldingAuthenticator,
    HoldingEngine,
    RefusingEngine,
    Rig,
    TablePolicy,
    writes,
)

WILL = ("w", b"gone", 1, False)
WILL5 = wire5.Will5("w", b"gone", 1)


def publish(
    client: Client, topic: str, payload: bytes = b"", qos: int = 0, *, retain: bool = False
) -> None:
    make = wire5.publish if client.level == 5 else wire.publish
    client.send(make(topic, payload, qos, 1 if qos else 0, retain=retain))


class Faulty(TablePolicy):
    """A policy with a bug."""

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """Raise for one topic."""
        if topic == "fault":
            raise ZeroDivisionError("a bug of ours")
        return super().authorize(client_id, username, action, topic)


def rig_for_endings() -> Rig:
    rig = Rig(
        policy=Faulty({"denied": 0, "ask": ASK}),
        authenticator=HoldingAuthenticator(),
        unauthorized_publish="disconnect",
        queue_full_policy="disconnect",
        max_queued_messages=0,
        total_input_bytes=2_000,
        send_timeout_secs=10,
        request_timeout_secs=20,
        max_unread_answers_bytes=1_024,
    )
    rig.engine = RefusingEngine(rig.engine, writes(Append))
    return rig


def by_keep_alive(client: Client) -> None:
    client.rig.advance(16)


def by_violation(client: Client) -> None:
    publish(client, "#")


def by_takeover(client: Client) -> None:
    client.rig.connect("a")


def by_full_socket(client: Client) -> None:
    client.block()
    client.rig.advance(11)


def by_full_queue(client: Client) -> None:
    client.subscribe(("q", 1))
    client.block()
    client.rig.connect("p").send(wire.publish("q", b"", 1, 1))
    client.unblock()


def by_quota(client: Client) -> None:
    client.send(b"\x30\xff\x7f" + bytes(2_001))  # a packet that has arrived in part


def by_failed_store(client: Client) -> None:
    client.rig.persistent("s").subscribe(("stored", 1))
    publish(client, "stored", b"x", 1)


def by_missing_verdict(client: Client) -> None:
    publish(client, "ask")
    client.rig.advance(21)


def by_no_decision(client: Client) -> None:
    publish(client, "ask")
    authenticator = client.rig.authenticator
    assert isinstance(authenticator, HoldingAuthenticator)
    authenticator.decide(Decision(SERVER_UNAVAILABLE))
    client.rig.pump()


def by_fault(client: Client) -> None:
    publish(client, "fault", b"", 1)


def by_shut_down(client: Client) -> None:
    client.rig.broker.shut_down(GRACEFUL, client.rig.now)
    client.rig.pump()


def by_denial(client: Client) -> None:
    publish(client, "denied")


def by_unread_answers(client: Client) -> None:
    client.block()
    client.send(wire.PINGREQ * 1_000)


def by_leaving(client: Client) -> None:
    client.send(wire.DISCONNECT)


def by_leaving_with_will(client: Client) -> None:
    client.send(wire5.disconnect(4))


ENDINGS: list[tuple[int, Callable[[Client], None], bool]] = [
    (causes.CLIENT_DISCONNECTED, by_leaving, False),
    (causes.EOF_BY_PEER, Client.cut, True),
    (causes.TRANSPORT_ERROR, Client.reset, True),
    (causes.KEEP_ALIVE_EXPIRED, by_keep_alive, True),
    (causes.PROTOCOL_VIOLATION, by_violation, True),
    (causes.TAKEN_OVER, by_takeover, True),
    (causes.SEND_TIMED_OUT, by_full_socket, True),
    (causes.QUEUE_FULL, by_full_queue, True),
    (causes.QUOTA, by_quota, True),
    (causes.STORE_FAILED, by_failed_store, True),
    (causes.REQUEST_TIMED_OUT, by_missing_verdict, True),
    (causes.UNDECIDED, by_no_decision, True),
    (causes.FAULT, by_fault, True),
    (causes.SHUT_DOWN, by_shut_down, False),
    (causes.UNAUTHORIZED, by_denial, True),
    (causes.ANSWERS_UNREAD, by_unread_answers, True),
]
BEFORE_CONNACK = {
    causes.OPEN,
    causes.CONNECT_TIMED_OUT,
    causes.REFUSED,
    causes.TOO_MANY_HALF_CONNECTED,
}


@pytest.mark.statement("v3 MQTT-3.1.2-8")
@pytest.mark.statement("v3 MQTT-3.1.2-10")
@pytest.mark.statement("v3 MQTT-3.14.4-3")
@pytest.mark.parametrize(
    ("cause", "end", "has_will"), ENDINGS, ids=[cause_name(each[0]) for each in ENDINGS]
)
def test_every_ending_does_with_the_will_what_the_standard_says(
    cause: int, end: Callable[[Client], None], has_will: bool
) -> None:
    rig = rig_for_endings()
    witness = rig.connect("witness")
    witness.subscribe(("w", 0))
    client = rig.connect("a", will=WILL, keep_alive_s=10)
    end(client)
    assert client.is_closed
    told = [each for each in rig.facts_named("client.disconnected") if each.client_id == "a"]
    assert [each.cause for each in told] == [cause_name(cause)]
    if cause != causes.SHUT_DOWN:
        assert witness.payloads() == ([b"gone"] if has_will else [])
    assert rig.broker.stats.wills_published == int(has_will)
    assert publishes_will(cause) is has_will
    rig.advance(5)
    assert not client.channel.is_open
    assert client.channel.data_to_send() == b""


# What a client of MQTT 5.0 is told at its end: the reason of DISCONNECT, where there is one.
TOLD: dict[int, int] = {
    causes.KEEP_ALIVE_EXPIRED: 0x8D,
    causes.PROTOCOL_VIOLATION: 0x90,
    causes.TAKEN_OVER: 0x8E,
    causes.QUEUE_FULL: 0x97,
    causes.QUOTA: 0x97,
    causes.STORE_FAILED: 0x83,
    causes.REQUEST_TIMED_OUT: 0x89,
    causes.UNDECIDED: 0x89,
    causes.FAULT: 0x83,
    causes.SHUT_DOWN: 0x8B,
    causes.UNAUTHORIZED: 0x87,
}
ENDINGS5 = [*ENDINGS, (causes.DISCONNECTED_WITH_WILL, by_leaving_with_will, True)]


@pytest.mark.statement("MQTT-3.1.2-8")
@pytest.mark.statement("MQTT-3.1.2-10")
@pytest.mark.statement("MQTT-3.14.4-3")
@pytest.mark.statement("MQTT-4.13.1-1")
@pytest.mark.statement("MQTT-3.14.2-1")
@pytest.mark.parametrize(
    ("cause", "end", "has_will"), ENDINGS5, ids=[cause_name(each[0]) for each in ENDINGS5]
)
def test_a_client_of_mqtt_5_is_told_why_it_ends(
    cause: int, end: Callable[[Client], None], has_will: bool
) -> None:
    rig = rig_for_endings()
    witness = rig.connect("witness")
    witness.subscribe(("w", 0))
    client = rig.connect5("a", will=WILL5, keep_alive_s=10)
    end(client)
    assert client.is_closed
    reason = TOLD.get(cause)
    told = [frame for frame in client.frames() if frame.kind == 14]
    assert [frame.body[0] for frame in told] == ([] if reason is None else [reason])
    (fact,) = [each for each in rig.facts_named("client.disconnected") if each.client_id == "a"]
    assert fact.cause == cause_name(cause)
    if reason is None:
        assert not fact.detail.startswith("0x")
    else:
        assert fact.detail.startswith(f"0x{reason:02X} {reason_name(reason)}")
    if cause != causes.SHUT_DOWN:
        assert witness.payloads() == ([b"gone"] if has_will else [])
    assert rig.broker.stats.wills_published == int(has_will)
    rig.advance(5)
    assert not client.channel.is_open


def test_there_is_an_ending_for_every_cause() -> None:
    assert {each[0] for each in ENDINGS5} | BEFORE_CONNACK == set(causes._CAUSES)
    for cause in causes._CAUSES:
        assert cause_name(cause)
        is_said_by_client = cause in (causes.CLIENT_DISCONNECTED, causes.DISCONNECTED_WITH_WILL)
        if cause != causes.OPEN:
            assert (cause_reason(cause) >= 0x80) is not is_said_by_client
    assert not any(publishes_will(cause) for cause in BEFORE_CONNACK)


@pytest.mark.statement("v3 MQTT-3.1.2-16")
@pytest.mark.statement("v3 MQTT-3.1.2-17")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_a_will_is_published_as_it_was_asked(qos: int, retain: bool) -> None:
    rig = Rig()
    witness = rig.connect("witness")
    witness.subscribe(("w", 2))
    rig.connect("a", will=("w", b"gone", qos, retain)).cut()
    (got,) = witness.publishes()
    assert got == wire.Received("w", b"gone", qos, 1 if qos else 0, False, False)
    late = rig.connect("late")
    late.subscribe(("w", 0))
    assert late.payloads() == ([b"gone"] if retain else [])


def test_a_will_for_ones_own_session() -> None:
    rig = Rig()
    client = rig.connect("a", clean=False, will=WILL)
    client.subscribe(("w", 1))
    client.cut()
    client = rig.connect("a", clean=False, present=True)
    assert client.payloads() == [b"gone"]


def test_a_will_comes_behind_the_message_that_is_on_its_way() -> None:
    rig = Rig(turn_deliveries=1)
    witness = rig.connect("witness")
    witness.subscribe(("#", 0))
    for number in range(300):
        rig.connect(f"{number}").subscribe(("t", 0))
    publisher = rig.connect("a", will=WILL)
    publisher.send(wire.publish("t", b"first"), pump=False)
    publisher.channel.eof(EOF_BY_PEER, rig.now)
    rig.pump()
    assert witness.payloads() == [b"first", b"gone"]
    rig.no_faults()


# Keep-alive


@pytest.mark.statement("v3 MQTT-3.1.2-24")
def test_one_and_a_half_keep_alives_of_silence() -> None:
    rig = Rig()
    client = rig.connect("a", keep_alive_s=10)
    rig.advance(14.9)
    client.send(wire.PINGREQ)
    rig.advance(14.9)
    assert not client.is_closed
    rig.advance(0.2)
    assert client.is_closed
    assert rig.last_fact("client.disconnected").cause == "keep-alive expired"


def test_any_byte_is_a_sign_of_life() -> None:
    rig = Rig()
    client = rig.connect("a", keep_alive_s=2)
    for byte in wire.publish("t", b"x" * 20, 1, 1):
        rig.advance(2.9)
        client.send(bytes([byte]))
    assert client.take() == wire.puback(1)


def test_what_the_client_is_sent_is_none() -> None:
    rig = Rig()
    client = rig.connect("a", keep_alive_s=10)
    client.subscribe(("t", 0))
    publisher = rig.connect("p")
    for _ in range(4):
        rig.advance(4)
        publisher.send(wire.publish("t"))
    assert client.is_closed


def test_keep_alive_0_is_for_ever() -> None:
    rig = Rig(sys_interval_secs=0)
    client = rig.connect("a")
    assert rig.broker.next_deadline() is None
    rig.advance(1e6)
    assert not client.is_closed


def test_keep_alive_does_not_count_while_we_do_not_read() -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(
        policy=TablePolicy({"ask": ASK}), authenticator=authenticator, request_timeout_secs=100
    )
    client = rig.connect("a", keep_alive_s=10)
    client.send(wire.publish("ask", b"", 1, 1) + wire.PINGREQ)
    rig.advance(60)
    assert not client.is_closed
    rig.settle()
    assert client.take() == wire.puback(1) + wire.PINGRESP
    rig.advance(14)
    assert not client.is_closed
    rig.advance(60)
    assert client.is_closed


def test_bytes_that_have_arrived_and_are_read_late_are_in_time() -> None:
    """An adapter that was busy reads them after the deadline, but before it is looked at again."""
    rig = Rig()
    client = rig.connect("a", keep_alive_s=10)
    rig.now += 20
    rig.broker.advance(rig.now)
    client.channel.receive_data(wire.PINGREQ, rig.now)
    rig.advance(10)
    assert not client.is_closed
    assert client.take() == wire.PINGRESP


# Sockets that take nothing


def test_a_socket_that_takes_nothing_for_long_is_closed() -> None:
    rig = Rig(send_timeout_secs=10)
    client = rig.connect("a")
    client.block()
    rig.advance(9)
    assert not client.is_closed
    rig.advance(2)
    assert client.is_closed
    assert client.channel.close == CLOSE_NOW


def test_a_socket_that_takes_a_little_now_and_then_is_not() -> None:
    rig = Rig(send_timeout_secs=10)
    client = rig.connect("a")
    client.block()
    for _ in range(5):
        rig.advance(7)
        client.channel.set_writable(False, rig.now)
    assert not client.is_closed
    client.unblock()
    rig.advance(60)
    assert not client.is_closed
    client.block()
    rig.advance(9)
    client.unblock()
    client.block()
    rig.advance(9)
    assert not client.is_closed


def test_answers_that_nobody_reads_have_a_limit() -> None:
    rig = Rig(max_unread_answers_bytes=1_024)
    client = rig.connect("a")
    client.block()
    client.send(wire.PINGREQ * 500)
    assert not client.is_closed
    assert client.channel.output.size_bytes == 1_000
    client.send(wire.PINGREQ * 13)
    assert client.is_closed
    invariants.check_empty(rig)


def test_input_in_part_has_a_total() -> None:
    rig = Rig(total_input_bytes=2_000)
    half = wire.publish("t", bytes(1_500))[:900]
    clients = [rig.connect("a"), rig.connect("b"), rig.connect("c")]
    clients[0].send(half)
    clients[1].send(half[:500])
    assert not any(each.is_closed for each in clients)
    clients[2].send(half)
    assert sum(each.is_closed for each in clients) == 1
    assert rig.last_fact("client.disconnected").cause == "a quota is used up"
    for client in clients:
        client.cut()
    invariants.check_empty(rig)


def test_of_input_in_part_the_largest_goes_first() -> None:
    rig = Rig(total_input_bytes=2_000)
    packet = wire.publish("t", bytes(1_500), 1, 1)
    large, small = rig.connect("large"), rig.connect("small")
    large.send(packet[:1_200])
    small.send(packet[:900])
    assert large.is_closed
    small.send(packet[900:])
    assert small.take() == wire.puback(1)
    large.cut()
    small.cut()
    invariants.check_empty(rig)


def test_input_that_becomes_whole_is_not_counted() -> None:
    rig = Rig(total_input_bytes=2_000)
    client = rig.connect("a")
    packet = wire.publish("t", bytes(1_500), 1, 1)
    for _ in range(5):
        client.send(packet[:1_000])
        client.send(packet[1_000:])
    assert client.take() == wire.puback(1) * 5
    assert rig.broker._ws.input_bytes == 0


# The last packet


def test_after_a_refusal_input_is_discarded_for_a_moment() -> None:
    rig = Rig(linger_timeout_secs=1, linger_limit_bytes=1_000)
    client = rig.open()
    client.lingers = True
    client.send(wire.connect(level=9))
    assert client.take() == wire.connack(1)
    assert client.saw_eof
    assert client.channel.close == CLOSE_AFTER_FLUSH
    assert client.channel.wants_read
    client.send(bytes(999))
    assert client.channel.is_open
    rig.advance(1.1)
    assert not client.channel.is_open
    assert client.channel.close == CLOSE_NOW


def test_input_that_is_discarded_has_a_limit() -> None:
    rig = Rig(linger_limit_bytes=1_000)
    client = rig.open()
    client.lingers = True
    client.send(wire.connect(level=9), bytes(500))
    client.send(bytes(1_000))
    assert client.channel.is_open
    client.send(bytes(1))
    assert not client.channel.is_open


def test_a_last_packet_that_the_socket_does_not_take() -> None:
    rig = Rig(linger_timeout_secs=1)
    client = rig.connect("a")
    client.subscribe(("t", 0))
    client.block()
    rig.connect("p").send(wire.publish("t", b"x"))
    client.send(wire.PINGREQ, wire.DISCONNECT)
    assert client.channel.close == CLOSE_AFTER_FLUSH
    client.unblock()
    assert client.take() == wire.PINGRESP
    assert client.is_closed


@pytest.mark.statement("v3 MQTT-3.14.4-2")
def test_what_comes_behind_disconnect_has_no_effect() -> None:
    rig = Rig()
    witness = rig.connect("witness")
    witness.subscribe(("t", 0))
    client = rig.connect("a")
    client.send(wire.DISCONNECT + wire.publish("t"))
    client.send(wire.publish("t"))
    assert witness.take() == b""


def test_an_end_that_is_told_twice_is_one_end() -> None:
    rig = Rig()
    client = rig.connect("a")
    client.channel.eof(EOF_BY_PEER, rig.now)
    client.channel.eof(EOF_BY_PEER, rig.now)
    client.channel.receive_data(wire.PINGREQ, rig.now)
    client.channel.set_writable(False, rig.now)
    rig.pump()
    assert len(rig.facts_named("client.disconnected")) == 1
    assert rig.broker.stats.connections == 0


def test_what_had_arrived_before_the_end_still_counts() -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(policy=TablePolicy({"ask": ASK}), authenticator=authenticator)
    witness = rig.connect("witness")
    witness.subscribe(("+", 0))
    client = rig.connect("a", will=WILL)
    client.send(wire.publish("ask", b"1") + wire.publish("t", b"2"))
    client.cut()
    assert witness.take() == b""
    assert rig.broker.stats.wills_published == 0
    rig.settle()
    assert witness.payloads() == [b"1", b"2", b"gone"]
    assert rig.broker.stats.wills_published == 1
    witness.cut()
    invariants.check_empty(rig)


def test_each_of_several_that_had_arrived_waits_for_its_verdict() -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(policy=TablePolicy({"1": ASK, "2": ASK}), authenticator=authenticator)
    witness = rig.connect("witness")
    witness.subscribe(("+", 0))
    client = rig.connect("a", will=WILL)
    client.send(wire.publish("1", b"1") + wire.publish("2", b"2"))
    client.cut()
    for expected in ([b"1"], [b"2", b"gone"]):
        authenticator.answer()
        rig.pump()
        assert witness.payloads() == expected
    witness.cut()
    invariants.check_empty(rig)


# Shutting down


def rig_with_clients() -> tuple[Rig, Client, Client]:
    rig = Rig()
    reader = rig.connect("reader", will=("w", b"", 0, False))
    reader.subscribe(("t", 0))
    silent = rig.open("silent")
    return rig, reader, silent


def test_a_graceful_end_sends_what_is_owed() -> None:
    rig, reader, silent = rig_with_clients()
    rig.connect("p").send(wire.publish("t", b"last"), pump=False)
    rig.broker.shut_down(GRACEFUL, rig.now)
    rig.broker.shut_down(GRACEFUL, rig.now)
    rig.pump()
    assert reader.payloads() == [b"last"]
    assert reader.is_closed
    assert silent.is_closed
    assert rig.broker.is_stopped
    assert rig.broker.stats.wills_published == 0
    assert rig.last_fact("client.disconnected").cause == "server shutting down"


def test_a_graceful_end_has_an_end() -> None:
    rig, reader, _ = rig_with_clients()
    reader.block()
    rig.connect("p").send(wire.publish("t", b"last"))
    rig.broker.shut_down(GRACEFUL, rig.now)
    rig.pump()
    assert not rig.broker.is_stopped
    rig.advance(6)
    assert rig.broker.is_stopped
    assert reader.channel.close == CLOSE_NOW


def test_an_immediate_end_waits_for_nobody() -> None:
    rig, reader, silent = rig_with_clients()
    reader.block()
    rig.broker.shut_down(IMMEDIATE, rig.now)
    assert reader.channel.close == silent.channel.close == CLOSE_NOW
    assert rig.broker.is_stopped


@pytest.mark.parametrize("modes", [(GRACEFUL, IMMEDIATE), (IMMEDIATE, GRACEFUL)])
def test_the_stronger_of_two_ends_counts(modes: tuple[int, int]) -> None:
    rig, reader, _ = rig_with_clients()
    reader.block()
    for mode in modes:
        rig.broker.shut_down(mode, rig.now)
    assert rig.broker.is_stopped
    assert len(rig.facts_named("client.disconnected")) <= 1


def test_nobody_is_let_in_during_the_end() -> None:
    rig, reader, _ = rig_with_clients()
    reader.lingers = True
    rig.broker.shut_down(GRACEFUL, rig.now)
    late = rig.open("late")
    assert late.is_closed
    assert not rig.broker.is_stopped
    rig.advance(2)
    assert rig.broker.is_stopped


def test_a_broker_that_is_not_shut_down_is_not_stopped() -> None:
    assert not Rig().broker.is_stopped


@pytest.mark.parametrize("mode", [GRACEFUL, IMMEDIATE])
def test_the_end_waits_for_the_store(mode: int) -> None:
    rig = Rig()
    client = rig.persistent("a")
    client.subscribe(("t", 1))
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    client.send(wire.publish("t", b"x", 1, 1))
    rig.broker.shut_down(mode, rig.now)
    rig.advance(2)
    assert not rig.broker.is_stopped
    rig.settle()
    assert rig.broker.is_stopped
