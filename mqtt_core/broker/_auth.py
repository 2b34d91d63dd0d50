"""Who may connect, publish and subscribe: questions, decisions, and policies that answer.

A `Policy` answers at once where it can. Where it cannot, the question goes out as a request
and the channel that it is about waits for the decision; nobody else does.

Enhanced authentication (4.12 of MQTT 5.0) is a row of such questions: each message of the client
is a request with its `method` and `data`, and the decision either ends the exchange or goes on
with a message for the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from hmac import compare_digest
from typing import Final, Protocol, final

from mqtt_core._codes import (
    BAD_AUTHENTICATION_METHOD,
    BAD_USER_NAME_OR_PASSWORD,
    CONTINUE_AUTHENTICATION,
    NOT_AUTHORIZED,
    SERVER_BUSY,
    SERVER_UNAVAILABLE,
    SUCCESS,
    UNSPECIFIED_ERROR,
)
from mqtt_core._reasons import BY_SERVER, SENDERS
from mqtt_core._topics import filter_matches, has_wildcard

PUBLISH_ACTION: Final = 1
SUBSCRIBE_ACTION: Final = 2
WILL_ACTION: Final = 3

ACTION_NAMES: Final[tuple[str, ...]] = ("", "publish", "subscribe", "will")

DENY: Final = 0
ALLOW: Final = 1
ASK: Final = 2


@final
class AuthRequest:
    """Whether a client may connect (3.1.4), or stay connected after a re-authentication.

    `method` is the authentication method of its CONNECT, None for a client that has none; what
    follows is about methods alone. `data` is what the client has sent in this step, None for
    nothing. All steps of one exchange have the same number `exchange`, that no other exchange of
    this process has, and in each the `state` of the decision before it, None in the first. In a
    re-authentication `username` is who the client is by now. Password and data are in no
    representation.
    """

    __slots__ = (
        "token",
        "client_id",
        "username",
        "password",
        "listener",
        "peer",
        "level",
        "method",
        "data",
        "is_reauthentication",
        "exchange",
        "state",
    )

    def __init__(
        self,
        token: int,
        client_id: str,
        username: str | None,
        password: bytes | None,
        listener: str,
        peer: str,
        level: int,
        *,
        method: str | None = None,
        data: bytes | None = None,
        is_reauthentication: bool = False,
        exchange: int = 0,
        state: object = None,
    ) -> None:
        self.token: Final = token
        self.client_id: Final = client_id
        self.username: Final = username
        self.password: Final = password
        self.listener: Final = listener
        self.peer: Final = peer
        self.level: Final = level
        self.method: Final = method
        self.data: Final = data
        self.is_reauthentication: Final = is_reauthentication
        self.exchange: Final = exchange
        self.state: Final = state

    def __repr__(self) -> str:
        shown = (
            f"token={self.token}, client_id={self.client_id!r}, username={self.username!r}, "
            f"listener={self.listener!r}, peer={self.peer!r}"
        )
        if self.method is not None:
            kind = ", re-authentication" if self.is_reauthentication else ""
            shown += f", method={self.method!r}, exchange={self.exchange}{kind}"
        return f"AuthRequest({shown})"


@final
class AuthorizeRequest:
    """Whether a client may publish to a topic, subscribe to a filter, or leave a will.

    `action` is `PUBLISH_ACTION`, `SUBSCRIBE_ACTION` or `WILL_ACTION`, `topic` the topic name or
    filter (without the `$share/NAME/` of a shared one), `qos` that of the message or the most
    that is asked for, `retain` the flag of a message. The answer is remembered for the session, so
    the same is not asked again soon; `rules_changed` forgets it.
    """

    __slots__ = ("token", "client_id", "username", "action", "topic", "qos", "retain")

    def __init__(
        self,
        token: int,
        client_id: str,
        username: str | None,
        action: int,
        topic: str,
        *,
        qos: int = 0,
        retain: bool = False,
    ) -> None:
        self.token: Final = token
        self.client_id: Final = client_id
        self.username: Final = username
        self.action: Final = action
        self.topic: Final = topic
        self.qos: Final = qos
        self.retain: Final = retain

    def __repr__(self) -> str:
        return (
            f"AuthorizeRequest(token={self.token}, client_id={self.client_id!r}, "
            f"{ACTION_NAMES[self.action]} {self.topic!r})"
        )


@final
class Decision:
    """The answer to either request.

    `reason` is a code of MQTT 5.0, `SUCCESS` to accept; `SERVER_UNAVAILABLE` says that nobody could
    decide, and ends the connection that waits. What follows is for an `AuthRequest`.
    `is_unrestricted` says that the client may use every topic, so that none is asked for.
    `username` is who the client is, None for the user name of its CONNECT: rules are about it.

    For one with a method, `CONTINUE_AUTHENTICATION` asks the client for another message, and
    `data` goes to the client with that or with the acceptance (None for none). `state` is
    whatever the next step has to know: the broker keeps it for this exchange and no longer.
    Data and state are in no representation.
    """

    __slots__ = ("reason", "is_unrestricted", "data", "username", "state")

    def __init__(
        self,
        reason: int = SUCCESS,
        is_unrestricted: bool = False,
        *,
        data: bytes | None = None,
        username: str | None = None,
        state: object = None,
    ) -> None:
        self.reason: Final = reason
        self.is_unrestricted: Final = is_unrestricted
        self.data: Final = data
        self.username: Final = username
        self.state: Final = state

    @property
    def is_accepted(self) -> bool:
        """Whether the answer is yes."""
        return self.reason == SUCCESS

    @property
    def goes_on(self) -> bool:
        """Whether the client is asked for another message."""
        return self.reason == CONTINUE_AUTHENTICATION

    def __repr__(self) -> str:
        shown = f"reason=0x{self.reason:02X}, is_unrestricted={self.is_unrestricted}"
        if self.username is not None:
            shown += f", username={self.username!r}"
        return f"Decision({shown})"


ACCEPTED: Final = Decision()
ACCEPTED_UNRESTRICTED: Final = Decision(SUCCESS, True)
DENIED: Final = Decision(NOT_AUTHORIZED)
UNKNOWN_METHOD: Final = Decision(BAD_AUTHENTICATION_METHOD)  # [MQTT-4.12.0-1]


def refusal_reason(reason: int, kind: int) -> int:
    """The code of a refusal as CONNACK or a server's DISCONNECT can say it, which is `kind`."""
    if UNSPECIFIED_ERROR <= reason <= 0xFF and SENDERS[kind][reason] & BY_SERVER:
        return reason
    return SERVER_BUSY if reason == SERVER_UNAVAILABLE else NOT_AUTHORIZED


class Policy(Protocol):
    """What answers; both methods are synchronous and have no effects."""

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Decide about a CONNECT, or None to have the request sent outside.

        A request with a `method` that the policy does not know gets `UNKNOWN_METHOD`.
        """
        ...

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """`ALLOW`, `DENY`, or `ASK` to have the request sent outside.

        `topic` is a topic name, or the topic filter for `SUBSCRIBE_ACTION`.
        """
        ...


@final
class AllowAll:
    """Every client may do everything."""

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Accept; there is no authentication method where everybody may come."""
        if request.method is not None:
            return UNKNOWN_METHOD
        return ACCEPTED_UNRESTRICTED

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """Allow."""
        return ALLOW


@final
class Rule:
    """One line of a rule list: for whom, to do what, where, and whether it is allowed.

    `username` None stands for everybody. `actions` holds the actions that the rule is about.
    In `topic_filter` the levels `%c` and `%u` stand for the client identifier and user name;
    for a client whose name has one of `+`, `#` and `/` such a rule says nothing, so that nobody
    can choose a name that is a wildcard.
    """

    __slots__ = ("username", "actions", "levels", "is_allowed", "_has_names")

    def __init__(
        self,
        topic_filter: str,
        *,
        username: str | None = None,
        actions: Sequence[int] = (PUBLISH_ACTION, SUBSCRIBE_ACTION, WILL_ACTION),
        is_allowed: bool = True,
    ) -> None:
        self.username: Final = username
        self.actions: Final = tuple(actions)
        self.levels: Final = topic_filter.encode().split(b"/")
        self._has_names: Final = b"%c" in self.levels or b"%u" in self.levels
        self.is_allowed: Final = is_allowed

    def covers(self, client_id: str, username: str | None, action: int, topic: str) -> bool:
        """Whether the rule speaks about this."""
        return self.covers_levels(client_id, username, action, topic.encode().split(b"/"))

    def covers_levels(
        self, client_id: str, username: str | None, action: int, asked: list[bytes]
    ) -> bool:
        """The same for a topic split into its levels.

        A filter is allowed only where all that it matches is, and denied where anything is.
        """
        if action not in self.actions or (self.username is not None and self.username != username):
            return False
        levels = self.levels if not self._has_names else []
        for level in self.levels if self._has_names else ():
            if level == b"%c" or level == b"%u":
                name = client_id if level == b"%c" else username
                if name is None:
                    return False
                level = name.encode()
                if has_wildcard(level) or b"/" in level:
                    return False
            levels.append(level)
        if action == SUBSCRIBE_ACTION:
            if self.is_allowed:
                return _covers_filter(levels, asked)
            return _overlaps(levels, asked)
        return filter_matches(levels, asked)


def _covers_filter(levels: list[bytes], asked: list[bytes]) -> bool:
    """Whether all that the filter `asked` matches is matched by the filter `levels`."""
    if levels[0] in (b"#", b"+") and asked[0].startswith(b"$"):
        return False
    for index, level in enumerate(levels):
        if level == b"#":
            return True
        if index >= len(asked) or asked[index] == b"#":
            return False
        if level != b"+" and level != asked[index]:
            return False
    return len(levels) == len(asked)


def _overlaps(levels: list[bytes], asked: list[bytes]) -> bool:
    """Whether some topic is matched by both filters."""
    if levels[0] in (b"#", b"+") and asked[0].startswith(b"$"):
        return False
    if asked[0] in (b"#", b"+") and levels[0].startswith(b"$"):
        return False
    for index in range(min(len(levels), len(asked))):
        one = levels[index]
        other = asked[index]
        if one == b"#" or other == b"#":
            return True
        if one != other and one != b"+" and other != b"+":
            return False
    if len(levels) == len(asked):
        return True
    longer = levels if len(levels) > len(asked) else asked
    shorter = min(len(levels), len(asked))
    return longer[shorter] == b"#"  # 'a/#' matches 'a' (4.7.1.2)


@final
class StaticUsers:
    """A fixed table of users with their passwords, and rules; the first rule that covers decides.

    Without `rules` everybody who is let in may use every topic; with them, what no rule covers
    is denied. A client without a user name is let in if `allow_anonymous`.
    """

    __slots__ = ("_users", "_rules", "_allow_anonymous")

    def __init__(
        self,
        users: dict[str, bytes],
        rules: Sequence[Rule] = (),
        *,
        allow_anonymous: bool = False,
    ) -> None:
        self._users: Final = dict(users)
        self._rules: Final = tuple(rules)
        self._allow_anonymous: Final = allow_anonymous

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Compare user name and password with the table, in constant time."""
        if request.method is not None:
            return UNKNOWN_METHOD
        accepted = ACCEPTED if self._rules else ACCEPTED_UNRESTRICTED
        if request.username is None:
            return accepted if self._allow_anonymous else DENIED
        known = self._users.get(request.username)
        given = b"" if request.password is None else request.password
        is_right = compare_digest(b"" if known is None else known, given)
        if known is None or not is_right:
            return Decision(BAD_USER_NAME_OR_PASSWORD)
        return accepted

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """What the first rule that covers it says; `DENY` where none does."""
        asked = topic.encode().split(b"/")
        for rule in self._rules:
            if rule.covers_levels(client_id, username, action, asked):
                return ALLOW if rule.is_allowed else DENY
        return DENY if self._rules else ALLOW
