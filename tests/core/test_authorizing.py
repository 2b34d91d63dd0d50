"""Verdicts on topics: at once, remembered, or from outside while that one client waits."""

from __future__ import annotations

import pytest

from mqtt_core.broker import (
    ASK,
    DENY,
    PUBLISH_ACTION,
    SERVER_UNAVAILABLE,
    SUBSCRIBE_ACTION,
    AuthorizeRequest,
    Decision,
    Rule,
    StaticUsers,
)
from tests.core import wire
from tests.model import invariants
from tests.rig import Client, HoldingAuthenticator, PromptAuthenticator, Rig, TablePolicy


def asking(*topics: str, denied: tuple[str, ...] = (), **limits: int) -> tuple[Rig, Client]:
    """A client, and a policy that asks for some topics."""
    policy = TablePolicy(dict.fromkeys(topics, ASK))
    rig = Rig(policy=policy, authenticator=HoldingAuthenticator(denied=denied), settings=limits)
    return rig, rig.connect("a")


def authenticator_of(rig: Rig) -> HoldingAuthenticator:
    assert isinstance(rig.authenticator, HoldingAuthenticator)
    return rig.authenticator


def test_a_client_that_may_do_everything_is_not_asked_about() -> None:
    policy = TablePolicy({"t": DENY})
    rig = Rig(policy=StaticUsers({}, allow_anonymous=True))
    client = rig.connect("a")
    client.subscribe(("t", 0))
    client.send(wire.publish("t", b"x"))
    assert client.payloads() == [b"x"]
    assert policy.asked == []


def test_rules_are_applied_to_what_clients_do() -> None:
    rules = [Rule("secret/#", is_allowed=False), Rule("dev/%c/#"), Rule("public/#")]
    rig = Rig(policy=StaticUsers({}, rules, allow_anonymous=True))
    client = rig.connect("a")
    client.send(wire.subscribe(1, ("dev/a/#", 1), ("dev/b/#", 1), ("#", 1), ("public/x", 0)))
    assert client.take() == wire.suback(1, 1, 0x80, 0x80, 0)
    client.send(wire.publish("dev/a/x", b"1"), wire.publish("dev/b/x", b"2"))
    assert client.payloads() == [b"1"]
    assert rig.broker.stats.dropped_unauthorized == 1


def test_a_verdict_is_remembered() -> None:
    policy = TablePolicy({"no": DENY})
    rig = Rig(policy=policy)
    client = rig.connect("a")
    for _ in range(3):
        client.send(wire.publish("yes"), wire.publish("no"), wire.subscribe(1, ("no", 0)))
    assert policy.asked == [
        ("a", PUBLISH_ACTION, "yes"),
        ("a", PUBLISH_ACTION, "no"),
        ("a", SUBSCRIBE_ACTION, "no"),
    ]
    assert rig.broker.stats.dropped_unauthorized == 3


def test_what_is_remembered_is_forgotten_when_rules_change() -> None:
    policy = TablePolicy()
    rig = Rig(policy=policy)
    client = rig.connect("a")
    witness = rig.connect("w")
    witness.subscribe(("t", 0))
    client.send(wire.publish("t", b"1"))
    policy.topics["t"] = DENY
    client.send(wire.publish("t", b"2"))
    rig.broker.rules_changed()
    client.send(wire.publish("t", b"3"))
    assert witness.payloads() == [b"1", b"2"]


def test_what_is_remembered_has_a_limit() -> None:
    policy = TablePolicy()
    rig = Rig(policy=policy, authorization_cache_entries=2)
    client = rig.connect("a")
    for topic in ("1", "2", "1", "2"):
        client.send(wire.publish(topic))
    assert len(policy.asked) == 2
    client.send(wire.publish("3"), wire.publish("1"))
    assert len(policy.asked) == 4
    session = rig.broker._sessions.by_client["a"]
    assert session.verdicts is not None
    assert len(session.verdicts) <= 2


@pytest.mark.parametrize(("entries", "topic"), [(0, "t"), (100, "x" * 600)])
def test_some_verdicts_are_not_remembered(entries: int, topic: str) -> None:
    policy = TablePolicy()
    rig = Rig(policy=policy, authorization_cache_entries=entries)
    client = rig.connect("a")
    client.send(wire.publish(topic), wire.publish(topic))
    assert len(policy.asked) == 2


def test_each_filter_of_a_packet_may_be_asked_about() -> None:
    rig, client = asking("1", "2", "3", denied=("2",))
    client.send(wire.subscribe(1, ("1", 0), ("2", 1), ("3", 2)))
    assert client.take() == b""
    rig.settle()
    assert client.take() == wire.suback(1, 0, 0x80, 2)
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("is_denied", [False, True])
def test_a_publish_waits_for_its_verdict(qos: int, is_denied: bool) -> None:
    rig, client = asking("ask", denied=("ask",) if is_denied else ())
    reader = rig.connect("r")
    reader.subscribe(("+", 0))
    client.send(wire.publish("ask", b"1", qos, qos) + wire.publish("t", b"2", 1, 9))
    client.send(wire.PINGREQ)
    assert client.take() == reader.take() == b""
    assert not client.channel.wants_read
    other = rig.connect("other")
    other.send(wire.publish("t", b"3", 1, 1))
    assert other.take() == wire.puback(1)
    rig.settle()
    assert reader.payloads() == [b"3", *([] if is_denied else [b"1"]), b"2"]
    answers = (b"", wire.puback(1), wire.pubrec(2))[qos] + wire.puback(9) + wire.PINGRESP
    assert client.take() == answers
    assert client.channel.wants_read
    client.send(wire.publish("ask", b"4", qos, 10))
    assert len(authenticator_of(rig).held) == 0
    invariants.check_at_rest(rig)


def test_a_verdict_is_about_qos_and_retain_too() -> None:
    rig, client = asking("ask")
    for qos, retain in ((0, False), (1, False), (0, True), (0, False)):
        client.send(wire.publish("ask", b"x", qos, qos, retain=retain))
        rig.settle()
    client.send(wire.subscribe(1, ("ask", 2)))
    rig.settle()
    asked = [each for each in rig.requests if isinstance(each, AuthorizeRequest)]
    assert [(each.action, each.qos, each.retain) for each in asked] == [
        (PUBLISH_ACTION, 0, False),
        (PUBLISH_ACTION, 1, False),
        (PUBLISH_ACTION, 0, True),
        (SUBSCRIBE_ACTION, 2, False),
    ]


def test_a_subscribe_waits_for_all_its_verdicts() -> None:
    rig, client = asking("1", "2", "3", denied=("2",))
    client.send(wire.subscribe(1, ("1", 0), ("2", 1), ("t", 2), ("3", 1)))
    for _ in range(3):
        assert client.take() == b""
        assert rig.broker.subscription_count == 0
        (request,) = authenticator_of(rig).held
        assert isinstance(request, AuthorizeRequest)
        assert (request.client_id, request.username) == ("a", None)
        authenticator_of(rig).release()
        rig.pump()
    assert client.take() == wire.suback(1, 0, 0x80, 2, 1)
    assert rig.broker.subscription_count == 3


def test_a_publish_that_waits_is_handled_once() -> None:
    rig, client = asking("ask")
    reader = rig.connect("r")
    reader.subscribe(("+", 0))
    client.send(wire.publish("ask", b"x", 2, 1) * 2)
    rig.settle()
    assert reader.payloads() == [b"x"]
    assert client.take() == wire.pubrec(1) * 2
    assert rig.broker.stats.publishes_received == 2


def test_the_user_name_is_known_where_rules_need_it() -> None:
    rig = Rig(policy=TablePolicy({"ask": ASK}), authenticator=PromptAuthenticator())
    client = rig.connect("a", username="u")
    client.send(wire.publish("ask", b"", 1, 1))
    assert client.take() == wire.puback(1)
    (request,) = [each for each in rig.requests if isinstance(each, AuthorizeRequest)]
    assert (request.username, request.action, request.topic) == ("u", PUBLISH_ACTION, "ask")


def test_a_takeover_while_a_verdict_is_awaited() -> None:
    rig, client = asking("ask")
    client.send(wire.publish("ask", b"x", 1, 1))
    newer = rig.connect("a")
    rig.settle()
    assert client.take() == b""
    newer.send(wire.publish("ask", b"y", 1, 2))
    rig.settle()
    assert newer.take() == wire.puback(2)
    invariants.check_at_rest(rig)


def test_many_clients_wait_each_for_its_own() -> None:
    policy = TablePolicy({f"{number}": ASK for number in range(5)})
    authenticator = HoldingAuthenticator(denied=("3",))
    rig = Rig(policy=policy, authenticator=authenticator, unauthorized_publish="disconnect")
    clients = [rig.connect(f"c{number}") for number in range(5)]
    for number, client in enumerate(clients):
        client.send(wire.publish(f"{number}", b"", 1, 1))
    while authenticator.held:
        authenticator.answer(len(authenticator.held) // 2)
        rig.pump()
    for number, client in enumerate(clients):
        assert client.is_closed is (number == 3)
        assert client.take() == (b"" if number == 3 else wire.puback(1))


def test_where_nobody_could_decide_the_client_is_let_go_and_asked_about_again() -> None:
    rig, client = asking("ask")
    client.send(wire.publish("ask", b"1", 1, 1))
    (request,) = authenticator_of(rig).held
    rig.broker.auth_decided(request.token, Decision(SERVER_UNAVAILABLE), rig.now)
    rig.pump()
    assert client.is_closed
    assert client.take() == b""
    assert rig.last_fact("client.disconnected").cause == "nobody could decide"
    invariants.check_at_rest(rig)


def test_where_nobody_could_decide_on_a_will_the_client_is_refused() -> None:
    rig, _ = asking("ask")
    client = rig.open("willing")
    client.send(wire.connect("willing", will=("ask", b"", 0, False)))
    (request,) = authenticator_of(rig).held
    rig.broker.auth_decided(request.token, Decision(SERVER_UNAVAILABLE), rig.now)
    rig.pump()
    assert client.take() == wire.connack(3)
    assert client.is_closed
    invariants.check_at_rest(rig)
