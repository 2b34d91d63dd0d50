"""A server in a thread on any runtime, and a client that speaks in bytes."""

from __future__ import annotations

import asyncio
import importlib
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import pytest

from mqtt_core.broker import GRACEFUL, IMMEDIATE, Fact

RUNTIMES = ("uvloop", "asyncio", "gevent")
"""uvloop and asyncio are the same server on two event loops."""

PATIENCE_S = 20.0
"""How long anything may take before a test gives up; nothing waits for this long when it works."""


def server_module(runtime: str) -> Any:
    """The package of the server; skips where it, or its event loop, is not installed."""
    if runtime != "asyncio":
        pytest.importorskip(runtime)
    return importlib.import_module(
        f"adapters.{'gevent' if runtime == 'gevent' else 'asyncio'}_server"
    )


class RunningServer:
    """A server that runs in a thread of its own while the `with` block does.

    with RunningServer("gevent", limits=Limits(max_connections=2)) as server:
        client = Client(server.address)
    """

    def __init__(
        self,
        runtime: str,
        listen: Sequence[str] = ("tcp://127.0.0.1:0",),
        *,
        on_fact: Callable[[Fact], None] | None = None,
        **options: object,
    ) -> None:
        self._runtime = runtime
        self._module = server_module(runtime)
        self._listen = listen
        self._options = options
        self._also_on_fact = on_fact
        self._facts: queue.SimpleQueue[Fact] = queue.SimpleQueue()
        self._is_ready = threading.Event()
        self._error: BaseException | None = None
        self._mode = IMMEDIATE
        self._request_stop: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name=f"{runtime} server", daemon=True)
        self.server: Any = None
        self.loop: Any = None  # of its thread, be it asyncio's or gevent's
        self.urls: list[str] = []

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first listener."""
        return address_of(self.urls[0])

    def next_fact(self, name: str) -> Fact:
        """The next fact of this name; those before it are skipped."""
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            fact = self._facts.get(timeout=max(give_up_at - time.monotonic(), 0.001))
            if fact.name == name:
                return fact

    def facts(self) -> list[Fact]:
        """The facts that have come and were not asked for yet."""
        facts = []
        while not self._facts.empty():
            facts.append(self._facts.get())
        return facts

    def stop(self, mode: int = GRACEFUL) -> None:
        """Shut the server down and wait until its thread has ended."""
        if self._request_stop is not None:
            self._mode = mode
            request, self._request_stop = self._request_stop, None
            request()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the server did not stop"
        if self._error is not None:
            raise self._error

    def begin(self) -> None:
        """Start without waiting until it is ready."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until it is ready. Raises what its start has raised."""
        assert self._is_ready.wait(PATIENCE_S), "the server did not start"
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self.begin()
        self.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(IMMEDIATE)

    def _run(self) -> None:
        try:
            if self._runtime == "gevent":
                self._run_gevent()
            else:
                factory = None
                if self._runtime == "uvloop":
                    factory = importlib.import_module("uvloop").new_event_loop
                with asyncio.Runner(loop_factory=factory) as runner:
                    runner.run(self._run_asyncio())
        except BaseException as error:  # noqa: BLE001  raised where the test can see it
            self._error = error
        finally:
            self._is_ready.set()

    async def _run_asyncio(self) -> None:
        loop = self.loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        self.server = self._module.Server(self._listen, on_fact=self._on_fact, **self._options)
        await self.server.start()
        self._started(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        await self.server.shut_down(self._mode)

    def _run_gevent(self) -> None:
        gevent = importlib.import_module("gevent")
        stop = importlib.import_module("gevent.event").Event()
        hub = gevent.get_hub()
        self.loop = hub.loop
        try:
            self.server = self._module.Server(self._listen, on_fact=self._on_fact, **self._options)
            self.server.start()
            self._started(lambda: hub.loop.run_callback_threadsafe(stop.set))
            stop.wait()
            self.server.shut_down(self._mode)
        finally:
            hub.destroy(destroy_loop=True)

    def _started(self, request_stop: Callable[[], object]) -> None:
        self._request_stop = request_stop
        self.urls = self.server.addresses
        self._is_ready.set()

    def _on_fact(self, fact: Fact) -> None:
        self._facts.put(fact)
        if self._also_on_fact is not None:
            self._also_on_fact(fact)


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a listen URL."""
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def packet(first_byte: int, *parts: bytes) -> bytes:
    """A packet: first byte, remaining length, the rest."""
    body = b"".join(parts)
    length = bytearray()
    rest = len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes([first_byte]) + bytes(length) + body


def text(value: str | bytes) -> bytes:
    """A string as MQTT writes it: its length in two bytes, then itself."""
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def u16(value: int) -> bytes:
    """A number in two bytes."""
    return value.to_bytes(2, "big")


def connect(client_id: str, *, clean: bool = True, level: int = 4, keep_alive_s: int = 0) -> bytes:
    """A CONNECT packet without will, user name or password."""
    flags = 2 if clean else 0
    return packet(0x10, text("MQTT"), bytes([level, flags]), u16(keep_alive_s), text(client_id))


def publish(topic: str, payload: bytes, qos: int = 0, packet_id: int = 0) -> bytes:
    """A PUBLISH packet."""
    return packet(0x30 | qos << 1, text(topic), u16(packet_id) if qos else b"", payload)


def subscribe(topic_filter: str, qos: int, packet_id: int = 1) -> bytes:
    """A SUBSCRIBE packet with one filter."""
    return packet(0x82, u16(packet_id), text(topic_filter), bytes([qos]))


PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"


class Client:
    """A TCP connection to the server, with a patience for every call."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        receive_buffer_bytes: int = 0,
        segment_bytes: int = 0,
    ) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if segment_bytes:  # the smaller, the less the server's kernel holds back for a slow reader
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise

    def send(self, *data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(b"".join(data))

    def receive(self, count: int) -> bytes:
        """Exactly so many bytes; fewer only if the server ends the connection."""
        while len(self._received) < count:
            data = self.socket.recv(65_536)
            if not data:
                break
            self._received += data
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def receive_a_little(self, count: int) -> None:
        """Take at most so many bytes from the socket; `receive` gives them later."""
        self._received += self.socket.recv(count)

    def receive_packet(self) -> bytes:
        """The next whole packet; empty if the connection has ended."""
        head = self.receive(2)
        if len(head) < 2:
            return head
        length, shift = head[1] & 0x7F, 7
        while head[-1] & 0x80:
            head += self.receive(1)
            length |= (head[-1] & 0x7F) << shift
            shift += 7
        return head + self.receive(length)

    def has_something_to_read(self) -> bool:
        """Whether anything has come that was not received yet."""
        return bool(self._received) or bool(select.select([self.socket], [], [], 0)[0])

    def is_at_end(self) -> bool:
        """Whether the server has ended the connection in order: nothing more, and no reset."""
        return self.receive(1) == b""

    def open(self, client_id: str, *, clean: bool = True) -> Self:
        """CONNECT and see it accepted."""
        self.send(connect(client_id, clean=clean))
        assert self.receive(4)[:2] == b"\x20\x02"
        return self

    def subscribe(self, topic_filter: str, qos: int = 0) -> Self:
        """SUBSCRIBE and see it granted."""
        self.send(subscribe(topic_filter, qos, 77))
        assert self.receive(5) == b"\x90\x03" + u16(77) + bytes([qos])
        return self

    def is_reset_sooner_or_later(self) -> bool:
        """Whether a server that has closed its socket resets a client that goes on sending."""
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            try:
                self.send(PINGREQ)
            except ConnectionError:
                return True
        return False

    def ping(self) -> None:
        """Ask for a sign of life and get it."""
        self.send(PINGREQ)
        assert self.receive(2) == PINGRESP

    def reset(self) -> None:
        """End the connection as a crash does: by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
