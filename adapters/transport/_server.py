"""What a server is before it has an event loop: its options and its addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from adapters.transport._drive import Authenticator, Drive
from adapters.transport._listen import Listener, bind_listeners
from mqtt_core.broker import Decision, Engine, Fact, Limits, Policy


@final
class RecoveryError(Exception):
    """What is stored cannot be read back, so nobody can be served. The text is one line."""


class ServerBase:
    """An MQTT broker that listens on URLs. It starts and stops once.

    It reads back what its engine has stored before it listens: until then its ports are taken, and
    clients are turned away. When it stops it closes the engine, in a thread beside the loop; not so
    a server that was never started.

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

    def rules_changed(self) -> None:
        """The policy answers differently from now on. May be called from any thread."""
        self._drive.rules_changed()

    def _bind(self) -> None:
        """Take the ports. Raises `ListenError`."""
        if self._addresses:
            raise RuntimeError("a server starts once; make a new one")
        self._listeners = bind_listeners(self._listen)
        self._addresses = tuple(listener.url for listener in self._listeners)

    def _check_recovery(self) -> None:
        """Raise `RecoveryError` if the server has stopped because it found no way to start."""
        failure = self._drive.broker.recovery_failure
        if failure:
            raise RecoveryError(f"what is stored cannot be read back: {failure}")

    def _close_listeners(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
