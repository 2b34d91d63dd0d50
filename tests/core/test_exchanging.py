"""Enhanced authentication: CONNECT with a method, AUTH by AUTH, and again while connected."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_core.broker import (
    ACCEPTED,
    ACCEPTED_UNRESTRICTED,
    ALLOW,
    ASK,
    DENY,
    PUBLISH_ACTION,
    WILL_ACTION,
    AllowAll,
    AuthRequest,
    Decision,
    Policy,
    StaticUsers,
)
from mqtt_core.reasons import CONTINUE_AUTHENTICATION
from tests.core import wire, wire5
from tests.model import invariants
from tests.rig import Asking, Client, HoldingAuthenticator, HoldingEngine, Rig

X = wire5.method("X")
PATIENCE_S = 30.0  # the default of exchange_timeout_secs


def data(value: bytes) -> bytes:
    """Authentication data."""
    return wire5.prop(0x16, wire.string(value))


def connect(client_id: str = "c", value: bytes | None = b"1", **more: object) -> bytes:
    """CONNECT with the method X."""
    given = (X,) if value is None else (X, data(value))
    return wire5.connect(client_id, *given, **more)  # type: ignore[arg-type]  # passed through


def auth(reason: int, value: bytes | None = None, method: bytes = X) -> bytes:
    """AUTH with a method."""
    return wire5.auth(reason, method, *(() if value is None else (data(value),)))


def go_on(value: bytes | None = None, state: object = None) -> Decision:
    return Decision(CONTINUE_AUTHENTICATION, data=value, state=state)


class Script:
    """A policy that answers one question after another as it is told, None: ask outside."""

    def __init__(self, *decisions: Decision | None) -> None:
        self.decisions = list(decisions)
        self.requests: list[AuthRequest] = []
        self.topics: list[tuple[str | None, int, str]] = []
        self.verdict = ALLOW

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """The next decision; clients without a method are let in."""
        if request.method is None:
            return ACCEPTED_UNRESTRICTED
        self.requests.append(request)
        return self.decisions.pop(0)

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """What the test says."""
        self.topics.append((username, action, topic))
        return self.verdict


def accepted(client: Client) -> list[bytes]:
    """See that CONNACK accepts; its properties of authentication."""
    (frame,) = client.frames()
    assert frame.kind == 2
    assert frame.body[1] == 0, f"refused with {frame.body[1]:#x}"
    length = frame.body[2]
    assert length < 128
    return [each for each in (X, data(b"ok"), data(b"")) if each in frame.body[3:]]


def refused(client: Client, reason: int) -> None:
    """See that CONNACK refuses, without telling method or data, and nothing else comes."""
    (frame,) = client.frames()
    assert (frame.kind, frame.body[0], frame.body[1]) == (2, 0, reason)
    assert X not in frame.body
    assert client.is_closed


def disconnected(client: Client, reason: int) -> None:
    """See that the last packet is DISCONNECT."""
    frame = client.frames()[-1]
    assert (frame.kind, frame.body[0]) == (14, reason)
    assert client.is_closed


def connected(rig: Rig, client_id: str = "c", *properties: bytes, **more: object) -> Client:
    """A client that the script lets in with its first decision."""
    client = rig.open(client_id)
    client.send(wire5.connect(client_id, X, *properties, **more))  # type: ignore[arg-type]
    accepted(client)
    return client


# Before CONNACK


@pytest.mark.statement("MQTT-4.12.0-5")
@pytest.mark.statement("MQTT-3.1.4-5")
def test_one_message_may_be_enough() -> None:
    script = Script(Decision(data=b"ok", username="alice"))
    rig = Rig(policy=script)
    client = rig.open("peer")
    client.send(connect(value=b"secret", username="u", password=b"password"))
    assert accepted(client) == [X, data(b"ok")]
    (request,) = script.requests
    assert (request.client_id, request.username, request.password) == ("c", "u", b"password")
    assert (request.method, request.data, request.state) == ("X", b"secret", None)
    assert (request.level, request.is_reauthentication) == (5, False)
    assert request.exchange > 0
    detail = rig.last_fact("client.connected").detail
    assert "method 'X', user 'alice'" in detail
    assert rig.broker.stats.auth_exchanges == 1
    assert rig.broker.stats.auth_exchanges_failed == 0
    invariants.check_at_rest(rig)


def test_secrets_are_in_no_representation_and_no_fact() -> None:
    script = Script(go_on(b"s3cret", state="s3cret"), Decision(data=b"s3cret", username="alice"))
    rig = Rig(policy=script)
    client = rig.open()
    client.send(connect(value=b"s3cret", password=b"s3cret", username="u"))
    client.send(auth(0x18, b"s3cret"))
    client.send(auth(0x18, b"s3cret"))
    shown = [repr(each) for each in (*script.requests, go_on(b"s3cret", "s3cret"), *rig.facts)]
    assert len(shown) > 3
    assert not [each for each in shown if "s3cret" in each]


@pytest.mark.statement("MQTT-4.12.0-2")
@pytest.mark.statement("MQTT-4.12.0-3")
def test_client_and_server_take_turns() -> None:
    kept = object()
    script = Script(go_on(b"2", kept), go_on(), Decision(data=b"ok"))
    rig = Rig(policy=script)
    client = rig.open()
    client.send(connect())
    assert client.take() == auth(0x18, b"2")
    assert rig.broker.stats.half_connected == 1
    invariants.check_at_rest(rig)
    client.send(auth(0x18, b"3"))
    assert client.take() == auth(0x18)
    client.send(auth(0x18))
    assert accepted(client) == [X, data(b"ok")]
    assert [each.data for each in script.requests] == [b"1", b"3", None]
    assert [each.state for each in script.requests] == [None, kept, None]
    assert len({each.exchange for each in script.requests}) == 1
    assert len({each.token for each in script.requests}) == 3
    assert rig.broker.stats.half_connected == 0
    client.send(wire.PINGREQ)
    assert client.take() == wire.PINGRESP
    rig.no_faults()


def test_two_clients_have_two_exchanges() -> None:
    script = Script(go_on(state=1), go_on(state=2), ACCEPTED, ACCEPTED)
    rig = Rig(policy=script)
    first, second = rig.open(), rig.open()
    first.send(connect("a"))
    second.send(connect("b"))
    second.send(auth(0x18))
    first.send(auth(0x18))
    a, b, b2, a2 = script.requests
    assert a.exchange == a2.exchange != b.exchange == b2.exchange
    assert (a2.state, b2.state) == (1, 2)


@pytest.mark.statement("MQTT-4.12.0-4")
@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize(
    ("reason", "said"),
    [(0x87, 0x87), (0x86, 0x86), (0x8C, 0x8C), (0x89, 0x89), (0x8E, 0x87), (0x01, 0x87),
     (0x200, 0x87), (-1, 0x87)],
)  # fmt: skip
def test_the_server_may_refuse_at_each_step(steps: int, reason: int, said: int) -> None:
    rig = Rig(policy=Script(*[go_on()] * steps, Decision(reason, data=b"never")))
    client = rig.open()
    client.send(connect())
    for _ in range(steps):
        assert client.take() == auth(0x18)
        client.send(auth(0x18))
    refused(client, said)
    fact = rig.last_fact("client.refused")
    assert fact.detail.startswith(f"0x{said:02X} ")
    assert fact.detail.endswith(": authentication by method 'X' failed")
    assert fact.detail.count(":") == 1
    assert rig.broker.stats.auth_exchanges_failed == 1
    invariants.check_empty(rig)


@pytest.mark.statement("MQTT-4.12.0-1")
@pytest.mark.parametrize(
    "policy", [AllowAll(), StaticUsers({}, allow_anonymous=True), StaticUsers({"u": b"p"})]
)
def test_a_method_that_the_policy_does_not_know_is_refused(policy: Policy) -> None:
    rig = Rig(policy=policy)
    client = rig.open()
    client.send(connect(username="u", password=b"p"))
    refused(client, 0x8C)


@pytest.mark.statement("MQTT-4.12.0-6")
def test_without_a_method_there_is_no_exchange() -> None:
    rig = Rig(policy=Script())
    client = rig.open()
    client.send(wire5.connect("c"))
    (frame,) = client.frames()
    assert frame.body[:2] == b"\0\0"
    assert b"\x15\0" not in frame.body
    assert client.channel.authentication is None
    assert rig.broker.stats.auth_exchanges == 0


def test_a_question_where_there_is_no_method_is_a_refusal() -> None:
    rig = Rig(policy=Asking(), authenticator=(outside := HoldingAuthenticator()))
    five, older = rig.open(), rig.open()
    five.send(wire5.connect("a"))
    older.send(wire.connect("b"))
    outside.decide(go_on(b"2"))
    outside.decide(go_on(b"2"))
    rig.pump()
    refused(five, 0x87)
    assert older.take() == wire.connack(5)
    rig.no_faults()


def test_data_where_there_is_no_method_is_not_sent() -> None:
    rig = Rig(policy=Asking(), authenticator=(outside := HoldingAuthenticator()))
    client = rig.open()
    client.send(wire5.connect("a"))
    outside.decide(Decision(data=b"ok"))
    rig.pump()
    assert accepted(client) == []


OUT_OF_PLACE = [
    ("re-authentication", auth(0x19), 0x82),
    ("success", auth(0x00), 0x82),
    ("another method", auth(0x18, b"2", wire5.method("Y")), 0x82),
    ("no method", wire5.auth(0x18), 0x82),
    ("a reason that is none", auth(0x42), 0x82),
    ("flags", b"\xf1" + auth(0x18)[1:], 0x81),
    ("PUBLISH", wire5.publish("t"), 0x82),
    ("SUBSCRIBE", wire5.subscribe(1, ("t", 0)), 0x82),
    ("PINGREQ", wire.PINGREQ, 0x82),
    ("CONNECT", connect(), 0x82),
]


@pytest.mark.statement("MQTT-3.1.2-30")
@pytest.mark.statement("MQTT-4.12.0-3")
@pytest.mark.statement("MQTT-4.12.0-5")
@pytest.mark.statement("MQTT-3.15.1-1")
@pytest.mark.statement("MQTT-3.15.2-1")
@pytest.mark.parametrize(
    ("packet", "reason"),
    [each[1:] for each in OUT_OF_PLACE],
    ids=[each[0] for each in OUT_OF_PLACE],
)
def test_what_an_exchange_does_not_allow_is_refused(packet: bytes, reason: int) -> None:
    script = Script(go_on())
    rig = Rig(policy=script)
    client = rig.open()
    client.send(connect(will=wire5.Will5("w")))
    client.take()
    client.send(packet, auth(0x18))
    refused(client, reason)
    assert len(script.requests) == 1
    invariants.check_empty(rig)


def test_a_client_may_leave_within_an_exchange() -> None:
    rig = Rig(policy=Script(go_on()))
    client = rig.open()
    client.send(connect(will=wire5.Will5("w")))
    client.take()
    client.send(wire.DISCONNECT)
    assert client.take() == b""
    assert client.is_closed
    assert rig.broker.stats.wills_published == 0
    invariants.check_empty(rig)


@pytest.mark.parametrize("end", [Client.cut, Client.reset])
def test_a_connection_may_be_lost_within_an_exchange(end: Callable[[Client], None]) -> None:
    outside = HoldingAuthenticator()
    rig = Rig(policy=Script(go_on(), None), authenticator=outside, sys_interval_secs=0)
    client = rig.open()
    client.send(connect(will=wire5.Will5("w")))
    client.send(auth(0x18))
    end(client)
    outside.decide(ACCEPTED)  # too late
    rig.pump()
    assert rig.broker.session_count == 0
    assert rig.broker.next_deadline() is None
    invariants.check_empty(rig)


def test_an_exchange_claims_nothing_before_its_end() -> None:
    rig = Rig(policy=Script(go_on()))
    there = rig.open()
    there.send(wire5.connect("c"))
    there.take()
    other = rig.open()
    other.send(connect("c"))
    there.send(wire.PINGREQ)
    assert there.take() == wire.PINGRESP  # it has not been taken over
    other.cut()
    invariants.check_at_rest(rig)


# Decisions from outside


def test_only_the_client_that_it_is_about_waits() -> None:
    outside = HoldingAuthenticator()
    rig = Rig(policy=Script(None, None), authenticator=outside)
    client, other = rig.open(), rig.open()
    other.send(wire5.connect("other"))
    other.take()
    client.send(connect())
    client.send(auth(0x18, b"early"))  # waits unread
    assert not client.channel.wants_read
    other.send(wire.PINGREQ)
    assert other.take() == wire.PINGRESP
    assert client.take() == b""
    outside.decide(go_on(b"2", "kept"))
    rig.pump()
    assert client.take() == auth(0x18, b"2")
    assert client.channel.wants_read
    (request,) = outside.held
    assert isinstance(request, AuthRequest)
    assert (request.data, request.state) == (b"early", "kept")
    outside.decide(Decision(data=b"ok"))
    rig.pump()
    assert accepted(client) == [X, data(b"ok")]
    invariants.check_at_rest(rig)


@pytest.mark.statement("MQTT-3.1.4-6")
def test_nothing_behind_a_refusal_counts() -> None:
    outside = HoldingAuthenticator()
    rig = Rig(policy=Script(None), authenticator=outside)
    client = rig.open()
    client.send(connect(), auth(0x18), wire5.publish("t", b"x", retain=True))
    outside.decide(Decision(0x87))
    rig.pump()
    refused(client, 0x87)
    assert rig.broker.stats.retained_messages == 0
    assert rig.broker.stats.publishes_received == 0


@pytest.mark.statement("MQTT-3.1.2-30")
def test_what_came_before_the_acceptance_is_held_against_the_client() -> None:
    outside = HoldingAuthenticator()
    rig = Rig(policy=Script(None), authenticator=outside)
    client = rig.open()
    client.send(connect(), wire5.publish("t", b"x", retain=True))
    outside.decide(ACCEPTED_UNRESTRICTED)
    rig.pump()
    assert rig.broker.stats.retained_messages == 0
    disconnected(client, 0x82)


# Limits


@pytest.mark.parametrize("is_outside", [False, True])
def test_an_exchange_has_its_time(is_outside: bool) -> None:
    outside = HoldingAuthenticator()
    rig = Rig(policy=Script(go_on(), None if is_outside else go_on()), authenticator=outside)
    client = rig.open()
    client.send(connect())
    rig.advance(PATIENCE_S / 2)
    client.send(auth(0x18))
    client.take()
    rig.advance(PATIENCE_S / 2 - 1)
    assert not client.is_closed
    rig.advance(1)
    refused(client, 0x87)
    assert "takes too long" in rig.last_fact("client.refused").detail
    assert rig.broker.stats.auth_exchanges_failed == 1
    rig.advance(10)
    invariants.check_empty(rig)


def test_its_time_is_not_that_of_a_request() -> None:
    rig = Rig(
        policy=Script(go_on(), ACCEPTED_UNRESTRICTED),
        exchange_timeout_secs=100,
        request_timeout_secs=5,
        engine=HoldingEngine(Rig().engine),
    )
    client = rig.open()
    client.send(connect())
    client.take()
    rig.advance(99)
    client.send(auth(0x18))  # accepted, and the engine does not answer
    rig.advance(4)
    assert not client.is_closed
    rig.advance(1)
    assert client.is_closed
    assert rig.last_fact("client.refused").cause == "a decision did not come in time"


@pytest.mark.parametrize("limit", [1, 3])
def test_an_exchange_has_a_number_of_steps(limit: int) -> None:
    script = Script(*[go_on()] * 5)
    rig = Rig(policy=script, max_exchange_steps=limit)
    client = rig.open()
    client.send(connect())
    for _ in range(limit - 1):
        assert client.take() == auth(0x18)
        client.send(auth(0x18))
    refused(client, 0x97)
    assert len(script.requests) == limit
    assert f"takes more than {limit} messages" in rig.last_fact("client.refused").detail


@pytest.mark.parametrize(
    "decision", [go_on(b"x" * 300), Decision(data=b"x" * 65_536), go_on(b"x" * 65_536)]
)
def test_data_that_the_client_cannot_take_ends_the_exchange(decision: Decision) -> None:
    rig = Rig(policy=Script(decision))
    client = rig.open()
    maximum = wire5.prop(0x27, wire5.u32(300))
    client.send(wire5.connect("c", X, maximum))
    refused(client, 0x83)
    rig.no_faults()


@pytest.mark.statement("MQTT-3.1.2-24")
@pytest.mark.parametrize("length", [0, 1, 60, 300])
@pytest.mark.parametrize("is_anonymous", [False, True])
def test_connack_with_method_and_data_fits_or_is_not_sent(length: int, is_anonymous: bool) -> None:
    """Every limit around the size that CONNACK has is tried; none gets a packet above it."""
    client_id = "" if is_anonymous else "c"
    reasons: dict[int, int | None] = {}
    size = 0
    for most in [1_000, *range(10, 400)]:
        rig = Rig(policy=Script(Decision(data=b"x" * length if length else None)))
        client = rig.open()
        client.send(wire5.connect(client_id, X, wire5.prop(0x27, wire5.u32(most))))
        assert len(client.received) <= most
        if most == 1_000:
            size = len(client.received)
        frames = client.frames()
        reasons[most] = frames[0].body[1] if frames else None
        assert client.is_closed is (reasons[most] != 0)
        rig.no_faults()
        if reasons[most] == 0:
            invariants.check_at_rest(rig)
        else:
            invariants.check_empty(rig)
    assert [most for most, reason in reasons.items() if reason == 0] == [1_000, *range(size, 400)]
    assert reasons[size - 1] == (0x83 if length else 0x95)


def test_a_fault_of_the_policy_ends_one_connection() -> None:
    rig = Rig(policy=Script(go_on()))
    client = rig.open()
    client.send(connect())
    client.send(auth(0x18))  # the script is at its end
    assert client.is_closed
    assert rig.broker.stats.faults == 1
    assert rig.broker.stats.half_connected == 0
    assert not rig.broker._ws.asking


# Who the client is


def test_rules_are_about_who_the_client_has_been_found_to_be() -> None:
    script = Script(go_on(), Decision(username="alice"))
    rig = Rig(policy=script)
    client = rig.open()
    client.send(connect(will=wire5.Will5("w")))
    client.send(auth(0x18))
    client.take()
    client.send(wire5.publish("t"))
    assert script.topics == [("alice", WILL_ACTION, "w"), ("alice", PUBLISH_ACTION, "t")]


def test_any_decision_may_say_who_the_client_is() -> None:
    rig = Rig(policy=Asking(), authenticator=(outside := HoldingAuthenticator()))
    client = rig.open()
    client.send(wire.connect("c", username="token", password=b"abc"))
    outside.decide(Decision(username="alice"))
    rig.pump()
    assert client.take() == wire.connack()
    client.send(wire.publish("t"))
    (request,) = outside.held
    assert not isinstance(request, AuthRequest)
    assert request.username == "alice"
    assert "user 'alice'" in rig.last_fact("client.connected").detail


# Re-authentication


@pytest.mark.statement("MQTT-4.12.1-1")
def test_a_connected_client_may_show_again_who_it_is() -> None:
    script = Script(Decision(username="alice"), go_on(b"2", "kept"), Decision(data=b"ok"))
    rig = Rig(policy=script)
    client = connected(rig)
    client.send(auth(0x19, b"again"))
    assert client.take() == auth(0x18, b"2")
    client.send(auth(0x18, b"3"))
    assert client.take() == auth(0x00, b"ok")
    first, again, last = script.requests
    assert first.exchange != again.exchange == last.exchange
    assert (again.is_reauthentication, again.username) == (True, "alice")
    assert (again.data, again.state, last.data, last.state) == (b"again", None, b"3", "kept")
    assert rig.last_fact("client.reauthenticated").detail == "method 'X', user 'alice'"
    assert rig.broker.stats.reauthentications == 1
    assert rig.broker.stats.auth_exchanges == 2
    script.decisions = [ACCEPTED]
    client.send(auth(0x19))
    assert client.take() == auth(0x00)
    rig.no_faults()
    invariants.check_at_rest(rig)


@pytest.mark.statement("MQTT-4.12.1-1")
@pytest.mark.parametrize("is_outside", [False, True])
def test_other_packets_go_on_meanwhile(is_outside: bool) -> None:
    outside = HoldingAuthenticator()
    again = None if is_outside else go_on()
    rig = Rig(policy=Script(ACCEPTED_UNRESTRICTED, again), authenticator=outside)
    client = connected(rig)
    client.send(auth(0x19))
    assert client.take() == (b"" if is_outside else auth(0x18))
    client.send(wire5.subscribe(1, ("t", 1)), wire5.publish("t", b"x", 1, 1), wire.PINGREQ)
    kinds = sorted(frame.kind for frame in client.frames())
    assert kinds == [3, 4, 9, 13]
    assert client.channel.wants_read
    if is_outside:
        outside.decide(ACCEPTED_UNRESTRICTED)
        rig.pump()
        assert client.take() == auth(0x00)
    rig.no_faults()


def test_it_may_then_do_what_it_has_been_found_to_be_allowed() -> None:
    script = Script(Decision(username="alice"), Decision(username="bob"), ACCEPTED_UNRESTRICTED)
    rig = Rig(policy=script)
    client = connected(rig)
    client.send(wire5.publish("t"), wire5.publish("t"))
    client.send(auth(0x19))
    client.send(wire5.publish("t"))
    client.send(auth(0x19))
    client.send(wire5.publish("t"))
    # Remembered while it is the same, asked again for the other, and not at all for the last.
    assert [each[0] for each in script.topics] == ["alice", "bob"]
    assert [each.username for each in script.requests] == [None, "alice", "bob"]


def test_a_question_about_a_topic_may_be_out_at_the_same_time() -> None:
    for first in (0, 1):
        outside = HoldingAuthenticator()
        script = Script(ACCEPTED, None)
        rig = Rig(policy=script, authenticator=outside)
        client = connected(rig)
        script.verdict = ASK
        client.send(auth(0x19), wire5.publish("t", b"x", 1, 1))
        assert len(outside.held) == 2
        outside.decide(ACCEPTED, first)
        rig.pump()
        early = client.take()
        outside.decide(ACCEPTED)
        rig.pump()
        late = client.take()
        expected = [auth(0x00), wire5.puback(1, 0x10)]
        assert [early, late] == (expected if first == 0 else expected[::-1])
        rig.no_faults()
        invariants.check_at_rest(rig)


@pytest.mark.statement("MQTT-4.12.1-2")
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("is_outside", [False, True])
@pytest.mark.parametrize(
    ("reason", "said"),
    [(0x87, 0x87), (0x86, 0x87), (0x8C, 0x87), (0x88, 0x89), (0x89, 0x89), (0x04, 0x87)],
)
def test_a_failed_one_ends_the_connection(
    steps: int, is_outside: bool, reason: int, said: int
) -> None:
    outside = HoldingAuthenticator()
    last = None if is_outside else Decision(reason)
    script = Script(ACCEPTED_UNRESTRICTED, *[go_on()] * steps, last)
    rig = Rig(policy=script, authenticator=outside)
    watcher = rig.open()
    watcher.send(wire5.connect("watcher"), wire5.subscribe(1, ("w", 0)))
    watcher.take()
    client = connected(rig, will=wire5.Will5("w", b"gone"))
    client.send(auth(0x19))
    for _ in range(steps):
        client.send(auth(0x18))
    if is_outside:
        outside.decide(Decision(reason))
        rig.pump()
    disconnected(client, said)
    assert wire5.publishes(watcher.take())[0].payload == b"gone"
    fact = rig.last_fact("client.disconnected")
    assert fact.cause == "not authorized"
    assert "re-authentication by method 'X' failed" in fact.detail
    assert rig.broker.stats.auth_exchanges_failed == 1
    assert rig.broker.stats.reauthentications == 0
    rig.no_faults()


def test_it_has_its_time_and_steps_too() -> None:
    script = Script(ACCEPTED_UNRESTRICTED, ACCEPTED_UNRESTRICTED, *[go_on()] * 2)
    rig = Rig(policy=script, max_exchange_steps=2, exchange_timeout_secs=10)
    slow, long = connected(rig, "slow"), connected(rig, "long")
    slow.send(auth(0x19))
    rig.advance(9)
    slow.send(wire.PINGREQ)
    assert not slow.is_closed
    rig.advance(1)
    disconnected(slow, 0x87)
    assert "takes too long" in rig.last_fact("client.disconnected").detail
    script.decisions = [go_on(), go_on()]
    long.send(auth(0x19))
    long.send(auth(0x18))
    disconnected(long, 0x97)


def test_an_answer_after_the_end_is_ignored() -> None:
    outside = HoldingAuthenticator()
    rig = Rig(policy=Script(ACCEPTED_UNRESTRICTED, None), authenticator=outside)
    client = connected(rig)
    client.send(auth(0x19))
    client.send(wire.DISCONNECT)
    outside.decide(go_on())
    rig.pump()
    assert client.take() == b""
    rig.no_faults()
    invariants.check_empty(rig)


AT_THE_WRONG_MOMENT = [
    ("an answer to nothing", [auth(0x18)], 0x82),
    ("another method", [auth(0x19, None, wire5.method("Y"))], 0x82),
    ("another method within", [auth(0x19), auth(0x18, None, wire5.method("Y"))], 0x82),
    ("no method", [wire5.auth(0x19)], 0x82),
    ("success", [auth(0x00)], 0x82),
    ("again within", [auth(0x19), auth(0x19)], 0x82),
    ("nothing at all", [b"\xf0\x00"], 0x82),
]


@pytest.mark.statement("MQTT-4.12.1-1")
@pytest.mark.statement("MQTT-3.15.2-1")
@pytest.mark.parametrize(
    ("packets", "reason"),
    [each[1:] for each in AT_THE_WRONG_MOMENT],
    ids=[each[0] for each in AT_THE_WRONG_MOMENT],
)
def test_auth_at_the_wrong_moment_ends_the_connection(packets: list[bytes], reason: int) -> None:
    rig = Rig(policy=Script(ACCEPTED_UNRESTRICTED, go_on(), go_on()))
    client = connected(rig)
    for packet in packets:
        client.send(packet)
    disconnected(client, reason)
    assert rig.broker.stats.protocol_violations == 1
    rig.no_faults()


def test_a_client_does_not_speak_while_the_policy_thinks() -> None:
    rig = Rig(policy=Script(ACCEPTED_UNRESTRICTED, None), authenticator=HoldingAuthenticator())
    client = connected(rig)
    client.send(auth(0x19))
    client.send(auth(0x18))
    disconnected(client, 0x82)


@pytest.mark.statement("MQTT-4.12.0-7")
@pytest.mark.parametrize("reason", [0x18, 0x19])
def test_auth_without_a_method_is_a_protocol_error(reason: int) -> None:
    rig = Rig()
    client = rig.open()
    client.send(wire5.connect("c"))
    client.take()
    client.send(auth(reason))
    disconnected(client, 0x82)
    fact = rig.last_fact("client.disconnected")
    assert (fact.cause, fact.statement) == ("protocol violation", "MQTT-4.12.0-7")


def test_auth_of_an_older_version_is_a_protocol_error() -> None:
    rig = Rig()
    client = rig.connect("c")
    client.send(auth(0x19))
    assert client.is_closed
    assert client.take() == b""


def test_a_client_that_reads_no_answers_is_closed() -> None:
    rig = Rig(policy=Script(*[ACCEPTED_UNRESTRICTED] * 1000), max_unread_answers_bytes=1024)
    client = connected(rig)
    client.block()
    sent = 0
    while not client.has_ended and sent < 1000:
        client.send(auth(0x19))
        sent += 1
    assert 100 < sent < 200
    assert rig.last_fact("client.disconnected").cause.startswith("the client does not read")


@pytest.mark.parametrize("decision", [Decision(data=b"x" * 3_000), go_on(b"x" * 3_000)])
def test_data_that_the_client_cannot_take_ends_the_connection(decision: Decision) -> None:
    script = Script(ACCEPTED_UNRESTRICTED, decision)
    rig = Rig(policy=script)
    client = connected(rig, "c", wire5.prop(0x27, wire5.u32(2_000)))
    client.send(auth(0x19))
    disconnected(client, 0x83)
    assert rig.broker.stats.reauthentications == 0
    rig.no_faults()


def test_data_that_the_client_just_takes() -> None:
    script = Script(ACCEPTED_UNRESTRICTED, Decision(data=b"x" * 1_987))
    rig = Rig(policy=script)
    client = connected(rig, "c", wire5.prop(0x27, wire5.u32(2_000)))
    client.send(auth(0x19))
    answer = client.take()
    assert answer == auth(0x00, b"x" * 1_987)
    assert len(answer) == 2_000
    assert rig.broker.stats.reauthentications == 1


def test_keep_alive_goes_on() -> None:
    rig = Rig(policy=Script(ACCEPTED_UNRESTRICTED, go_on()))
    client = connected(rig, keep_alive_s=10)
    rig.advance(10)
    client.send(auth(0x19))
    client.take()
    rig.advance(14)
    assert not client.is_closed
    rig.advance(2)
    disconnected(client, 0x8D)
    rig.advance(60)
    invariants.check_empty(rig)


def test_a_denied_topic_is_denied_before_and_allowed_after() -> None:
    script = Script(Decision(username="reader"), go_on(), Decision(username="writer"))
    rig = Rig(policy=script)
    client = connected(rig)
    script.verdict = DENY
    client.send(auth(0x19))
    client.take()
    client.send(wire5.publish("t", b"", 1, 1))
    assert client.take() == wire5.puback(1, 0x87)
    script.verdict = ALLOW
    client.send(auth(0x18))
    client.send(wire5.publish("t", b"", 1, 2))
    assert client.take() == auth(0x00) + wire5.puback(2, 0x10)
