"""Who may do what: rules, tables of users, and what is in no representation."""

from __future__ import annotations

import pytest
from hypothesis import given

from mqtt_core import topic_matches
from mqtt_core.broker import (
    ACCEPTED,
    ACCEPTED_UNRESTRICTED,
    ALLOW,
    BAD_USER_NAME_OR_PASSWORD,
    DENIED,
    DENY,
    NOT_AUTHORIZED,
    PUBLISH_ACTION,
    SUBSCRIBE_ACTION,
    WILL_ACTION,
    AllowAll,
    AuthorizeRequest,
    AuthRequest,
    Decision,
    Rule,
    StaticUsers,
)
from tests.strategies import topic_filters, topic_names


def request(username: str | None = None, password: bytes | None = None) -> AuthRequest:
    return AuthRequest(7, "c", username, password, "tcp://x", "peer", 4)


# Rule, client identifier, user name, action, topic, whether the rule speaks about it.
COVERS = [
    (Rule("a/#"), "c", None, PUBLISH_ACTION, "a/b", True),
    (Rule("a/#"), "c", None, PUBLISH_ACTION, "b", False),
    (Rule("a/#", actions=(SUBSCRIBE_ACTION,)), "c", None, PUBLISH_ACTION, "a/b", False),
    (Rule("a/#", username="u"), "c", "u", WILL_ACTION, "a", True),
    (Rule("a/#", username="u"), "c", "v", WILL_ACTION, "a", False),
    (Rule("a/#", username="u"), "c", None, WILL_ACTION, "a", False),
    (Rule("dev/%c/x"), "c", None, PUBLISH_ACTION, "dev/c/x", True),
    (Rule("dev/%c/x"), "c", None, PUBLISH_ACTION, "dev/d/x", False),
    (Rule("dev/%u/x"), "c", "u", PUBLISH_ACTION, "dev/u/x", True),
    (Rule("dev/%u/x"), "c", None, PUBLISH_ACTION, "dev/u/x", False),
    (Rule("dev/%c/x"), "+", None, PUBLISH_ACTION, "dev/other/x", False),
    (Rule("dev/%c/x"), "#", None, SUBSCRIBE_ACTION, "dev/#", False),
    (Rule("dev/%u/x"), "c", "a/b", PUBLISH_ACTION, "dev/a/b/x", False),
    (Rule("dev/x%c"), "c", None, PUBLISH_ACTION, "dev/xc", False),
    (Rule("#"), "c", None, PUBLISH_ACTION, "$SYS/x", False),
    # An allowed filter must be covered as a whole.
    (Rule("a/+"), "c", None, SUBSCRIBE_ACTION, "a/+", True),
    (Rule("a/+"), "c", None, SUBSCRIBE_ACTION, "a/b", True),
    (Rule("a/+"), "c", None, SUBSCRIBE_ACTION, "a/#", False),
    (Rule("a/b"), "c", None, SUBSCRIBE_ACTION, "a/+", False),
    (Rule("a/#"), "c", None, SUBSCRIBE_ACTION, "a", True),
    (Rule("a/#"), "c", None, SUBSCRIBE_ACTION, "#", False),
    (Rule("#"), "c", None, SUBSCRIBE_ACTION, "#", True),
    (Rule("#"), "c", None, SUBSCRIBE_ACTION, "$SYS/#", False),
    (Rule("$SYS/#"), "c", None, SUBSCRIBE_ACTION, "$SYS/+", True),
    (Rule("a/b/c"), "c", None, SUBSCRIBE_ACTION, "a/b", False),
    # A denied one where anything of it is.
    (Rule("a/#", is_allowed=False), "c", None, SUBSCRIBE_ACTION, "#", True),
    (Rule("a/#", is_allowed=False), "c", None, SUBSCRIBE_ACTION, "+", True),
    (Rule("a/b", is_allowed=False), "c", None, SUBSCRIBE_ACTION, "+/b", True),
    (Rule("a/b", is_allowed=False), "c", None, SUBSCRIBE_ACTION, "+/c", False),
    (Rule("a/b", is_allowed=False), "c", None, SUBSCRIBE_ACTION, "a", False),
    (Rule("$SYS/#", is_allowed=False), "c", None, SUBSCRIBE_ACTION, "#", False),
    (Rule("#", is_allowed=False), "c", None, SUBSCRIBE_ACTION, "$SYS/#", False),
    (Rule("a/b", is_allowed=False), "c", None, PUBLISH_ACTION, "a/b", True),
]


@pytest.mark.parametrize(("rule", "client_id", "username", "action", "topic", "expected"), COVERS)
def test_what_a_rule_speaks_about(
    rule: Rule, client_id: str, username: str | None, action: int, topic: str, expected: bool
) -> None:
    assert rule.covers(client_id, username, action, topic) is expected


@given(topic_filters, topic_filters, topic_names)
def test_rules_about_filters_follow_from_what_these_match(
    mine: str, asked: str, topic: str
) -> None:
    """Nobody may read through a filter what no rule allows, nor what a rule denies."""
    both = topic_matches(mine, topic) and topic_matches(asked, topic)
    if both:
        assert Rule(mine, is_allowed=False).covers("c", None, SUBSCRIBE_ACTION, asked)
    if Rule(mine).covers("c", None, SUBSCRIBE_ACTION, asked) and topic_matches(asked, topic):
        assert topic_matches(mine, topic)


def test_the_first_rule_that_covers_decides() -> None:
    users = StaticUsers({}, [Rule("secret/#", is_allowed=False), Rule("a/#"), Rule("secret/a")])
    assert users.authorize("c", None, PUBLISH_ACTION, "secret/a") == DENY
    assert users.authorize("c", None, PUBLISH_ACTION, "a/x") == ALLOW
    assert users.authorize("c", None, PUBLISH_ACTION, "other") == DENY
    assert StaticUsers({}).authorize("c", None, PUBLISH_ACTION, "other") == ALLOW


def test_a_table_of_users() -> None:
    users = StaticUsers({"u": b"p", "empty": b""})
    assert users.authenticate(request("u", b"p")) is ACCEPTED_UNRESTRICTED
    for wrong in (request("u", b"q"), request("u"), request("v", b"p"), request("v", b"")):
        decision = users.authenticate(wrong)
        assert decision is not None
        assert decision.reason == BAD_USER_NAME_OR_PASSWORD
    assert users.authenticate(request("empty", b"")) is ACCEPTED_UNRESTRICTED
    assert users.authenticate(request()) is DENIED
    open_to_all = StaticUsers({"u": b"p"}, [Rule("a")], allow_anonymous=True)
    assert open_to_all.authenticate(request()) is ACCEPTED
    assert open_to_all.authenticate(request("u", b"p")) is ACCEPTED


def test_everybody_may_do_everything() -> None:
    policy = AllowAll()
    assert policy.authenticate(request()) is ACCEPTED_UNRESTRICTED
    assert policy.authorize("c", None, PUBLISH_ACTION, "t") == ALLOW


def test_no_password_is_shown() -> None:
    assert "secret" not in repr(request("u", b"very secret"))
    assert "'u'" in repr(request("u", b"very secret"))
    asked = AuthorizeRequest(3, "c", "u", SUBSCRIBE_ACTION, "a/#")
    assert repr(asked) == "AuthorizeRequest(token=3, client_id='c', subscribe 'a/#')"
    assert repr(Decision(NOT_AUTHORIZED)) == "Decision(reason=0x87, is_unrestricted=False)"
    named = Decision(username="u", data=b"very secret", state="very secret")
    assert repr(named) == "Decision(reason=0x00, is_unrestricted=False, username='u')"
    assert Decision().is_accepted
