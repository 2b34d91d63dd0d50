"""From the users and rules of the configuration to the policy that the broker asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from adapters.security import PasswordThread, UserTable, parse_hash
from iotd.config import Rule, Settings
from mqtt_core.broker import PUBLISH_ACTION, SUBSCRIBE_ACTION, WILL_ACTION, AllowAll, Policy
from mqtt_core.broker import Rule as CoreRule

_ACTIONS: Final = {
    "publish": (PUBLISH_ACTION, WILL_ACTION),
    "subscribe": (SUBSCRIBE_ACTION,),
    "all": (PUBLISH_ACTION, WILL_ACTION, SUBSCRIBE_ACTION),
}


def policy_of(
    settings: Settings, on_fault: Callable[[Exception], None]
) -> tuple[Policy, PasswordThread | None]:
    """The policy, and the authenticator that it sends requests to, if there are users or rules.

    With neither, everybody may do everything, and a user name that a client sends means nothing.
    """
    if not settings.users and not settings.rules:
        return AllowAll(), None
    users = UserTable(
        {user.name: parse_hash(user.password_hash) for user in settings.users
         if user.password_hash},
        [_core_rule(rule) for rule in settings.rules],
        passwords={user.name: user.password.encode() for user in settings.users if user.password},
        allow_anonymous=settings.allow_anonymous,
        scram_secret=settings.scram_secret.encode(),
    )  # fmt: skip
    return users, PasswordThread(users, on_fault)


def _core_rule(rule: Rule) -> CoreRule:
    return CoreRule(
        rule.topic,
        username=rule.user or None,
        actions=_ACTIONS[rule.action],
        is_allowed=rule.allow,
    )
