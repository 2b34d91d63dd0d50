"""A program's own functions that say who may connect, publish and subscribe.

They are called outside the core, when its turn is over, with the request of the one client that
waits for the answer. How a runtime calls them is its own matter: it is given a `Call`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Generic, TypeVar, final

from adapters.transport._drive import Drive
from mqtt_core.broker import (
    ASK,
    DENIED,
    FACT_ERROR,
    SERVER_BUSY,
    SERVER_UNAVAILABLE,
    UNKNOWN_METHOD,
    AllowAll,
    AuthorizeRequest,
    AuthRequest,
    Decision,
    Fact,
    Policy,
)

Answer = bool | Decision
"""What a hook says: True or False, or a `Decision` where there is more to say."""

AnswerT = TypeVar("AnswerT")
"""What the hooks of a runtime return: an `Answer`, or something that can be waited for."""


@final
class HookPolicy:
    """Leaves to the hooks what they are there for, and the rest to another policy."""

    def __init__(self, policy: Policy, *, asks_who: bool, asks_what: bool) -> None:
        self._policy: Final = policy
        self._asks_who: Final = asks_who
        self._asks_what: Final = asks_what

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Ask outside, or what the other policy says."""
        if self._asks_who:
            return None
        decision = self._policy.authenticate(request)
        if decision is None or not (self._asks_what and decision.is_unrestricted):
            return decision
        return Decision(
            decision.reason,
            data=decision.data,
            username=decision.username,
            state=decision.state,
        )

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """Ask outside, or what the other policy says."""
        if self._asks_what:
            return ASK
        return self._policy.authorize(client_id, username, action, topic)


@final
class Hooks(Generic[AnswerT]):
    """The hooks of one server. At most `max_connections` calls are under way at a time; who comes
    then is told that the server is busy.

    `start` calls a hook as the runtime does.
    """

    def __init__(
        self,
        authenticate: Callable[[AuthRequest], AnswerT] | None,
        authorize: Callable[[AuthorizeRequest], AnswerT] | None,
        policy: Policy | None,
        start: Callable[[Call[AnswerT]], None],
    ) -> None:
        self._authenticate: Final = authenticate
        self._authorize: Final = authorize
        self._has_rules: Final = authorize is not None or policy is not None
        self._start: Final = start
        self._count = 0
        self.policy: Final[Policy] = HookPolicy(
            AllowAll() if policy is None else policy,
            asks_who=authenticate is not None,
            asks_what=authorize is not None,
        )

    def ask(self, drive: Drive, request: AuthRequest | AuthorizeRequest) -> bool:
        """Call the hook that a request is for; False if there is none."""
        if isinstance(request, AuthRequest):
            if self._authenticate is None:
                return False
            call = Call(self, drive, request, "authenticate", partial(self._authenticate, request))
        else:
            if self._authorize is None:
                return False
            call = Call(self, drive, request, "authorize", partial(self._authorize, request))
        if self._count >= drive.broker.limits.max_connections:
            drive.auth_decided(request.token, Decision(SERVER_BUSY))
        else:
            self._count += 1
            self._start(call)
        return True

    def ended(self) -> None:
        """A call is over."""
        self._count -= 1

    def decision(self, request: AuthRequest | AuthorizeRequest, answer: Answer) -> Decision:
        """An answer in the broker's words."""
        if isinstance(answer, Decision):
            return answer
        if not answer:
            return DENIED
        if isinstance(request, AuthorizeRequest):
            return Decision()
        if request.method is not None:
            return UNKNOWN_METHOD  # a hook that knows methods says more than True
        return Decision(is_unrestricted=not self._has_rules)


@final
class Call(Generic[AnswerT]):
    """One call of a hook, by `hook`. When it is over the runtime says how: `answered`, `failed` or
    `given_up`, after `timeout_s` at the latest.
    """

    def __init__(
        self,
        hooks: Hooks[AnswerT],
        drive: Drive,
        request: AuthRequest | AuthorizeRequest,
        name: str,
        hook: Callable[[], AnswerT],
    ) -> None:
        self.hook: Final = hook
        self.timeout_s: Final = drive.broker.limits.request_timeout_secs
        self._hooks: Final = hooks
        self._drive: Final = drive
        self._request: Final = request
        self._name: Final = name

    def answered(self, answer: object) -> None:
        """The hook has said something; it may also be what a hook must not say."""
        if isinstance(answer, Answer):
            self._hooks.ended()
            decision = self._hooks.decision(self._request, answer)
            self._drive.auth_decided(self._request.token, decision)
        else:
            kind = type(answer).__name__
            what = f"{self._name} returned {kind}: a hook returns True, False or a Decision"
            self.failed(TypeError(what))

    def failed(self, error: Exception) -> None:
        """The hook has raised: the client is refused, and the error is told, once."""
        self._hooks.ended()
        fact = Fact(
            "hook.failed",
            FACT_ERROR,
            client_id=self._request.client_id,
            cause=self._name,
            detail=repr(error),
            error=error,
        )
        self._drive.report(fact)
        self._drive.auth_decided(self._request.token, Decision(SERVER_UNAVAILABLE))

    def given_up(self) -> None:
        """Too late, or the server stops: the broker sees to the client itself."""
        self._hooks.ended()
