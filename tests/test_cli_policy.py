"""From users and rules in a configuration to what the broker is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotd.cli._policy import policy_of
from iotd.config import load
from mqtt_core.broker import (
    ALLOW,
    DENY,
    PUBLISH_ACTION,
    SUBSCRIBE_ACTION,
    WILL_ACTION,
    AllowAll,
    AuthRequest,
    Policy,
)

USERS = """
[[auth.users]]
name = "sensor"
password = "a"
[[auth.users]]
name = "dashboard"
password = "b"
[[auth.rules]]
topic = "site/secret/#"
allow = false
[[auth.rules]]
topic = "site/%u/#"
action = "publish"
[[auth.rules]]
user = "dashboard"
topic = "site/#"
action = "subscribe"
[[auth.rules]]
topic = "own/%c"
"""


def policy(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "iotd.toml"
    file.write_text(text, encoding="utf-8")
    return policy_of(load(file, environment={}), lambda error: None)[0]


def test_without_users_and_rules_everybody_may_do_everything(tmp_path: Path) -> None:
    assert isinstance(policy(tmp_path, ""), AllowAll)


@pytest.mark.parametrize(
    ("name", "action", "topic", "verdict"),
    [
        ("sensor", PUBLISH_ACTION, "site/sensor/t", ALLOW),
        ("sensor", WILL_ACTION, "site/sensor/t", ALLOW),
        ("sensor", SUBSCRIBE_ACTION, "site/sensor/t", DENY),
        ("sensor", PUBLISH_ACTION, "site/other/t", DENY),
        ("sensor", PUBLISH_ACTION, "elsewhere", DENY),
        ("dashboard", SUBSCRIBE_ACTION, "site/+/t", DENY),  # it would match what is secret
        ("dashboard", SUBSCRIBE_ACTION, "site/sensor/#", ALLOW),
        ("dashboard", SUBSCRIBE_ACTION, "#", DENY),
        ("dashboard", PUBLISH_ACTION, "own/client", ALLOW),
        (None, SUBSCRIBE_ACTION, "own/client", ALLOW),
        (None, PUBLISH_ACTION, "own/other", DENY),
    ],
)
def test_rules_decide_in_their_order(
    tmp_path: Path, name: str | None, action: int, topic: str, verdict: int
) -> None:
    assert policy(tmp_path, USERS).authorize("client", name, action, topic) == verdict


def test_rules_for_everybody_need_no_users(tmp_path: Path) -> None:
    made = policy(tmp_path, '[[auth.rules]]\ntopic = "open/#"\n')
    request = AuthRequest(1, "client", None, None, "tcp://127.0.0.1:1883", "127.0.0.1:5", 4)
    decision = made.authenticate(request)
    assert decision is not None
    assert decision.is_accepted
    assert not decision.is_unrestricted
    assert made.authorize("client", None, PUBLISH_ACTION, "open/a") == ALLOW
    assert made.authorize("client", None, PUBLISH_ACTION, "closed") == DENY
