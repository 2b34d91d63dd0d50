"""What a server is before it has an event loop: its options, its addresses, its own clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Final, Generic, final

from adapters.transport._drive import Authenticator, Drive
from adapters.transport._hooks import AnswerT, Call, Hooks
from adapters.transport._inside import Mailbox, Publisher, subscriptions_of
from adapters.transport._listen import Listener, ListenError, bind_listeners
from mqtt_core import NO_PROPERTIES, Properties, Publish, Subscription
from mqtt_core.broker import (
    AuthorizeRequest,
    AuthRequest,
    Decision,
    Engine,
    Fact,
    Limits,
    Policy,
)


@final
class RecoveryError(Exception):
    """What is stored cannot be read back, so nobody can be served. The text is one line."""


@final
class NotServingError(RuntimeError):
    """The server has not started, or has stopped."""

    def __init__(self) -> None:
        super().__init__("the server does not run: use it within `with`, or after `start`")


class ServerBase(Generic[AnswerT]):
    """An MQTT broker that listens on URLs. It starts and stops once.

    It reads back what its engine has stored before it listens: until then its ports are taken, and
    clients are turned away. When it stops it closes the engine, in a thread beside the loop; not so
    a server that was never started.

    - `listen`: a URL or several, `tcp://HOST:PORT`; port 0, which is the default, picks a free one.
      None for no listener: clients are inside the program, or come by `Server.connection`.
    - `limits`: how much of everything there may be.
    - `authenticate`, `authorize`: hooks that say who may connect, and who may publish and subscribe
      to what. They get the request and return True, False or a `Decision`.
    - `policy`: decides that without a hook (default: everybody everything). With one, it decides
      what the hook is not for.
    - `data_dir`: a folder for what must survive a restart, made if it is not there (default: all is
      kept in memory). `engine` is another place for it.
    - `on_fact`: is told what there is to log (default: the standard library's logger `iotd`).
    - `authenticator`: takes the requests that a policy leaves to the outside; see `auth_decided`.
    - `version`: what `$SYS/broker/version` says.
    - `tunes_collector`: whether the garbage collector of the process is set to what suits a broker
      while the server runs: for a program that is a broker and little else.

    Raises `StoreError` of `adapters.storage` where the folder cannot be used.
    """

    def __init__(
        self,
        listen: str | Sequence[str] | None = "tcp://127.0.0.1:0",
        *,
        limits: Limits | None = None,
        authenticate: Callable[[AuthRequest], AnswerT] | None = None,
        authorize: Callable[[AuthorizeRequest], AnswerT] | None = None,
        policy: Policy | None = None,
        data_dir: str | PathLike[str] | None = None,
        engine: Engine | None = None,
        on_fact: Callable[[Fact], None] | None = None,
        authenticator: Authenticator | None = None,
        version: str = "iotd",
        tunes_collector: bool = False,
    ) -> None:
        limits = Limits() if limits is None else limits
        self._own_engine: Final = _open_store(data_dir, limits, engine)
        urls = (listen,) if isinstance(listen, str) else listen
        self._listen: Final = None if urls is None else tuple(urls)
        self._hooks: Final = Hooks(authenticate, authorize, policy, self._call)
        self._authenticator: Final = authenticator
        has_hooks = authenticate is not None or authorize is not None
        self._drive: Final = Drive(
            limits=limits,
            policy=self._hooks.policy if has_hooks else policy,
            engine=engine if self._own_engine is None else self._own_engine,
            on_fact=on_fact,
            authenticator=self._ask if has_hooks else authenticator,
            version=version,
            tunes_collector=tunes_collector,
        )
        self._publisher: Final = Publisher(self._drive)
        self._listeners: list[Listener] = []
        self._addresses: tuple[str, ...] = ()
        self._has_begun = False

    @property
    def urls(self) -> list[str]:
        """The URLs that the server answers to, with their real ports; empty before the start."""
        return list(self._addresses)

    @property
    def url(self) -> str:
        """The first of `urls`. Raises `NotServingError` before the start."""
        if not self._addresses:
            raise NotServingError
        return self._addresses[0]

    @property
    def addresses(self) -> list[str]:
        """The same as `urls`."""
        return self.urls

    def auth_decided(self, token: int, decision: Decision) -> None:
        """The answer of an outside authenticator. May be called from any thread."""
        self._drive.auth_decided(token, decision)

    def rules_changed(self) -> None:
        """The policy, or a hook, answers differently from now on. May be called from any thread."""
        self._drive.rules_changed()

    # The program's own clients

    def on_message(
        self, callback: Callable[[Publish], object], *filters: str | Subscription, qos: int = 0
    ) -> None:
        """Subscribe for as long as the server runs: `callback` is called with each message.

        It is called on the server's own thread, behind the turn that has routed the message, and
        should return at once. One that raises is called no more; the fact `fault` tells. Raises
        as `subscribe` does.
        """
        mailbox: Mailbox | None = None

        def take() -> None:
            if mailbox is None:
                return
            message = mailbox.take()
            while message is not None:
                callback(message)
                message = mailbox.take()

        mailbox = self._open_mailbox(filters, qos, take)

    def _put_soon(
        self,
        topic: str,
        payload: bytes | str = b"",
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Publish without waiting for anything."""
        self._check_serving()
        self._publisher.put(topic, payload, qos, retain, properties, None)

    def _open_mailbox(
        self, filters: Sequence[str | Subscription], qos: int, on_news: Callable[[], object]
    ) -> Mailbox:
        self._check_serving()
        return Mailbox(self._drive, subscriptions_of(filters, qos), on_news)

    def _check_serving(self) -> None:
        if not self._drive.is_serving:
            raise NotServingError

    # Hooks

    def _ask(self, request: AuthRequest | AuthorizeRequest) -> None:
        if self._hooks.ask(self._drive, request):
            return
        if self._authenticator is None:
            raise RuntimeError("the policy asks outside, but there is no authenticator")
        self._authenticator(request)

    def _call(self, call: Call[AnswerT]) -> None:
        """Call a hook; the rest of the server does not wait for it."""
        raise NotImplementedError

    # Beginning and end

    def _bind(self) -> None:
        """Take the ports. Raises `ListenError`."""
        if self._has_begun:
            raise RuntimeError("a server starts once; make a new one")
        try:
            self._listeners = [] if self._listen is None else bind_listeners(self._listen)
        except ListenError:
            if self._own_engine is not None:
                self._own_engine.close()
            raise
        self._addresses = tuple(listener.url for listener in self._listeners)
        self._has_begun = True

    def _check_recovery(self) -> None:
        """Raise `RecoveryError` if the server has stopped because it found no way to start."""
        failure = self._drive.broker.recovery_failure
        if failure:
            raise RecoveryError(f"what is stored cannot be read back: {failure}")

    def _close_listeners(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()


def _open_store(
    data_dir: str | PathLike[str] | None, limits: Limits, engine: Engine | None
) -> Engine | None:
    """The engine that keeps its state in a folder, if there is one."""
    if data_dir is None:
        return None
    if engine is not None:
        raise ValueError("give a `data_dir` or an `engine`, not both")
    from adapters.storage import SqliteEngine  # loads SQLite

    folder = Path(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return SqliteEngine(folder, limits)
