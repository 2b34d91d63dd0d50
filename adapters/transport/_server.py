"""What a server is before it has an event loop: its options and its addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from adapters.transport._drive import Authenticator, Drive
from adapters.transport._listen import Listener, open_listeners
from mqtt_core.broker import Decision, Engine, Fact, Limits, Policy


class ServerBase:
    """An MQTT broker that listens on URLs. It starts and stops once.

    `listen` are URLs (`tcp://HOST:PORT`; port 0 picks a free one), `policy` decides who may do
    what (default: everybody everything), `engine` stores what must survive (default: memory),
    `authenticator` takes the requests that the policy leaves to the outside, and `on_fact` is
    told what there is to log (default: the standard library's logger `iotd`). `version` is what
    `$SYS/broker/version` says.
    """

    def __init__(
        self,
        listen: Sequence[str],
        *,
        limits: Limits | None = None,
        policy: Policy | None = None,
        engine: Engine | None = None,
        on_fact: Callable[[Fact], None] | None = None,
        authenticator: Authenticator | None = None,
        version: str = "iotd",
    ) -> None:
        self._listen: Final = tuple(listen)
        self._drive: Final = Drive(
            limits=limits,
            policy=policy,
            engine=engine,
            on_fact=on_fact,
            authenticator=authenticator,
            version=version,
        )
        self._listeners: list[Listener] = []
        self._addresses: tuple[str, ...] = ()

    @property
    def addresses(self) -> list[str]:
        """The URLs that the server answers to, with their real ports; empty before the start."""
        return list(self._addresses)

    def auth_decided(self, token: int, decision: Decision) -> None:
        """The answer of an outside authenticator. May be called from any thread."""
        self._drive.auth_decided(token, decision)

    def engine_answered(self) -> None:
        """The storage engine has completions to take. May be called from any thread."""
        self._drive.engine_answered()

    def rules_changed(self) -> None:
        """The policy answers differently from now on. May be called from any thread."""
        self._drive.rules_changed()

    def _open_listeners(self) -> list[Listener]:
        if self._addresses:
            raise RuntimeError("a server starts once; make a new one")
        self._listeners = open_listeners(self._listen)
        self._addresses = tuple(listener.url for listener in self._listeners)
        return self._listeners

    def _close_listeners(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
