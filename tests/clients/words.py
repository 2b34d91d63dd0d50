"""Both clients in the same words, so that one story is told about both.

A story is written as for the blocking client. For the asyncio client each call is carried to a
loop in a thread, and waited for there.

    with Loop() as loop:
        with loop.client("asyncio", url) as client: ...
        with loop.relay(server.address) as relay: ...
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from iotd import BlockingClient, Client, Message, Messages, Publication
from mqtt_core.client import Counters
from tests.clients.relay import Relay

KINDS = ("asyncio", "blocking")

PATIENCE_S = 20.0
"""How long anything may take before a test gives up; nothing waits for this long when it works."""

T = TypeVar("T")


class AnyMessages(Protocol):
    """What a subscription gives, in either client."""

    @property
    def topic_filters(self) -> tuple[str, ...]: ...
    @property
    def granted_qos(self) -> tuple[int, ...]: ...
    @property
    def unread(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    def get_nowait(self) -> Message | None: ...
    def get(self, timeout: float | None = None) -> Message: ...
    def unsubscribe(self) -> None: ...
    def __iter__(self) -> Iterator[Message]: ...
    def __next__(self) -> Message: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class AnyClient(Protocol):
    """What either client offers."""

    @property
    def is_connected(self) -> bool: ...
    @property
    def session_present(self) -> bool: ...
    @property
    def client_id(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def pending_messages(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    def connect(self) -> None: ...
    def close(self) -> None: ...
    def wait_connected(self) -> None: ...
    def wait_closed(self) -> None: ...
    def flush(self) -> None: ...
    def re_authenticate(self) -> None: ...
    def publish(
        self, topic: str, payload: Any = b"", qos: int = 0, retain: bool = False, **options: Any
    ) -> Publication: ...
    def publish_nowait(
        self, topic: str, payload: Any = b"", qos: int = 0, retain: bool = False, **options: Any
    ) -> Publication: ...
    def wait(self, publication: Publication) -> Publication: ...
    def subscribe(self, *filters: str, **options: Any) -> AnyMessages: ...
    def request(self, topic: str, payload: Any = b"", qos: int = 1, **options: Any) -> Message: ...
    def reply(
        self, message: Message, payload: Any = b"", qos: int = 1, **options: Any
    ) -> Publication: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Loop:
    """An asyncio loop in a thread, and what runs on it."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        left = [task for task in asyncio.all_tasks(self._loop) if not task.done()]
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        assert not left, f"tasks are left: {left}"

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """The result of a function on the loop, which is waited for if it is a coroutine."""

        async def within() -> Any:
            result = function(*args, **options)
            return await result if inspect.isawaitable(result) else result

        return self.run(within())

    def client(self, kind: str, url: str, **options: Any) -> AnyClient:
        """A client of one kind."""
        if kind == "blocking":
            return cast("AnyClient", BlockingClient(url, **options))
        return cast("AnyClient", _Carried(self, Client(url, **options)))

    @contextmanager
    def relay(
        self,
        address: tuple[str, int],
        *,
        path: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Iterator[Relay]:
        """A relay in front of a server, to be told things by `call`."""
        relay = Relay(address, path=path, tls=tls)
        self.run(relay.__aenter__())
        try:
            yield relay
        finally:
            self.run(relay.__aexit__(None, None, None))

    @contextmanager
    def gate(self, address: tuple[str, int], tls: ssl.SSLContext | None) -> Iterator[str]:
        """The URL of a WebSocket in front of a server."""

        async def carry(peer: ServerConnection) -> None:
            reader, writer = await asyncio.open_connection(*address)

            async def to_client() -> None:
                while data := await reader.read(1_000):
                    await peer.send(data)
                await peer.close()

            answering = asyncio.create_task(to_client())
            async for data in peer:
                assert isinstance(data, bytes)
                writer.write(data)
            writer.close()
            await answering

        async def begin() -> Server:
            return await serve(
                carry, "127.0.0.1", 0, subprotocols=[Subprotocol("mqtt")], ssl=tls, max_size=None
            )

        async def end(running: Server) -> None:
            running.close()
            await running.wait_closed()

        running = self.run(begin())
        try:
            port = next(iter(running.sockets)).getsockname()[1]
            yield f"{'wss' if tls else 'ws'}://localhost:{port}/mqtt"
        finally:
            self.run(end(running))


class _Carried:
    """Something of asyncio whose methods are called on its loop, and waited for."""

    def __init__(self, loop: Loop, there: object) -> None:
        self._loop = loop
        self._there = there

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._there, name)
        if not callable(found):
            return found

        def carried(*args: Any, **options: Any) -> Any:
            result = self._loop.call(found, *args, **options)
            return _Carried(self._loop, result) if isinstance(result, Messages) else result

        return carried

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self._loop.call(self._there.__anext__)  # type: ignore[attr-defined]
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        self._loop.call(self._there.__aenter__)  # type: ignore[attr-defined]
        return self

    def __exit__(self, *error: Any) -> None:
        self._loop.call(self._there.__aexit__, *error)  # type: ignore[attr-defined]
