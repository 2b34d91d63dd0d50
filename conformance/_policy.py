"""What the `settings` of a scenario mean for a broker of ours: its limits, and who may do what."""

from mqtt_core.broker import (
    LIMITS,
    PUBLISH_ACTION,
    SUBSCRIBE_ACTION,
    WILL_ACTION,
    AllowAll,
    AuthRequest,
    Decision,
    Policy,
    Rule,
    StaticUsers,
)
from mqtt_core.reasons import (
    BAD_AUTHENTICATION_METHOD,
    CONTINUE_AUTHENTICATION,
    NOT_AUTHORIZED,
)

POLICY_SETTINGS = ("users", "anonymous", "deny_publish", "deny_subscribe", "methods")


class ChallengeResponse:
    """Adds an authentication method to a policy: the right answer is the secret and the challenge.

    It is for traces, which can compute nothing. A challenge is never the same twice.
    """

    def __init__(self, policy: Policy, method: str, secret: bytes) -> None:
        self._policy = policy
        self._method = method
        self._secret = secret

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Ask a client with the method for its answer; all others are the other policy's."""
        if request.method is None:
            return self._policy.authenticate(request)
        if request.method != self._method:
            return Decision(BAD_AUTHENTICATION_METHOD)
        challenge = f"challenge {request.exchange}".encode()
        if request.state is None:
            return Decision(CONTINUE_AUTHENTICATION, data=challenge, state=challenge)
        return Decision() if request.data == self._secret + challenge else Decision(NOT_AUTHORIZED)

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """As the other policy says."""
        return self._policy.authorize(client_id, username, action, topic)


def limit_settings(settings: dict[str, str]) -> dict[str, int | float | str | bool]:
    """The settings of a scenario that are limits of the broker, with their types."""
    kinds = {limit.name: type(limit.default) for limit in LIMITS}
    values: dict[str, int | float | str | bool] = {}
    for key, text in settings.items():
        if key in POLICY_SETTINGS:
            continue
        if key not in kinds:
            allowed = ", ".join([*POLICY_SETTINGS, *sorted(kinds)])
            raise ValueError(f"unknown setting {key!r}; allowed: {allowed}")
        values[key] = text == "true" if kinds[key] is bool else kinds[key](text)
    return values


def policy_from(settings: dict[str, str]) -> Policy:
    """Who may do what, from the settings in `POLICY_SETTINGS`."""
    if "methods" in settings:
        method, _, secret = settings["methods"].partition(":")
        others = {key: value for key, value in settings.items() if key != "methods"}
        return ChallengeResponse(policy_from(others), method, secret.encode())
    if not any(key in settings for key in POLICY_SETTINGS):
        return AllowAll()
    rules = []
    if "deny_publish" in settings:
        actions = (PUBLISH_ACTION, WILL_ACTION)
        rules.append(Rule(settings["deny_publish"], actions=actions, is_allowed=False))
    if "deny_subscribe" in settings:
        rules.append(
            Rule(settings["deny_subscribe"], actions=(SUBSCRIBE_ACTION,), is_allowed=False)
        )
    if rules:
        rules += [Rule("#"), Rule("$SYS/#")]
    users = dict(user.split(":", 1) for user in settings.get("users", "").split(",") if user)
    return StaticUsers(
        {name: password.encode() for name, password in users.items()},
        rules,
        allow_anonymous=settings.get("anonymous", "yes") == "yes",
    )
