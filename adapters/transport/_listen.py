"""Where a server listens: listen URLs, listening sockets, and errors that say what to do."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import Final, final
from urllib.parse import urlsplit

from mqtt_core.broker import LEVELS

SCHEMES: Final = ("tcp",)
"""The schemes a listen URL may have."""

OPTIONS: Final = {"durability": tuple(LEVELS)}
"""The options that a listen URL may have, each with its values."""

DEFAULT_PORT: Final = 1883
"""The port registered for MQTT over TCP; used when a URL names none."""

BACKLOG: Final = 1024
"""Connections the kernel holds ready between two accepts (it may cap this lower)."""

ACCEPT_BATCH: Final = 64
"""Connections taken from one listener before open connections get their turn."""

ACCEPT_RETRY_S: Final = 0.1
"""Pause before accepting is tried again after it failed, in seconds."""


SocketAddress = tuple[object, ...]
"""Host and port, and what IPv6 adds to them, as the `socket` module has it."""


class ListenError(Exception):
    """A listen URL cannot be used. The text is one line and says what to do."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__(f"cannot listen on {url}: {message}" if url else message)
        self.url: Final = url
        self.message: Final = message


@final
class ListenAddress:
    """One address to listen on, `tcp://HOST:PORT`, and its options, `?NAME=VALUE`.

    `durability` is the name of a level, see `LEVELS`; empty for that of the store.
    """

    __slots__ = ("durability", "host", "port", "scheme")

    def __init__(self, host: str, port: int, scheme: str = "tcp", durability: str = "") -> None:
        self.host: Final = host
        self.port: Final = port
        self.scheme: Final = scheme
        self.durability: Final = durability

    @property
    def url(self) -> str:
        """The address as a URL, IPv6 hosts in brackets, with its options."""
        options = f"?durability={self.durability}" if self.durability else ""
        return f"{self.scheme}://{name_of((self.host, self.port))}{options}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect. A name other than `localhost` counts as public."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def listen_address(url: str) -> ListenAddress:
    """The address that `url` names. Raises `ListenError` saying how to write it instead."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ListenError(url, f"write it with its scheme, such as tcp://{url}")
    if scheme not in SCHEMES:
        allowed = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ListenError(url, f"{scheme}:// is not available; allowed: {allowed}")
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ListenError(url, f"{error}; write tcp://HOST:PORT, IPv6 as [HOST]") from None
    if parts.path or parts.fragment or "@" in rest:
        raise ListenError(
            url,
            "only a host and a port may follow the scheme, and options: tcp://HOST:PORT?NAME=VALUE",
        )
    if not host or host == "*":
        raise ListenError(
            url,
            "it names no host: write 127.0.0.1 for this machine alone, "
            "0.0.0.0 for every IPv4 interface or [::] for every IPv6 interface",
        )
    options = _options(url, parts.query)
    durability = options.get("durability", "")
    return ListenAddress(host, DEFAULT_PORT if port is None else port, scheme, durability)


def _options(url: str, query: str) -> dict[str, str]:
    """The options of a listen URL by name. Raises `ListenError`."""
    options: dict[str, str] = {}
    for option in query.split("&") if query else ():
        name, _, value = option.partition("=")
        allowed = OPTIONS.get(name)
        if allowed is None:
            known = ", ".join(OPTIONS)
            raise ListenError(url, f"there is no option {name!r} of listeners; allowed: {known}")
        if value not in allowed:
            raise ListenError(url, f"{name} is one of {', '.join(allowed)}, not {value!r}")
        if name in options:
            raise ListenError(url, f"{name} is there twice; keep one of them")
        options[name] = value
    return options


def name_of(address: SocketAddress) -> str:
    """A socket address as `HOST:PORT`, IPv6 hosts in brackets."""
    host = str(address[0])
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


@final
class Listener:
    """A bound socket and the URL it answers to once it listens, with the port it really has.

    `level` says how durable a change is before a client of this listener is answered; 0 where that
    is left to the store.
    """

    __slots__ = ("_address", "error", "is_drained", "level", "socket", "url")

    def __init__(self, bound: socket.socket, address: ListenAddress) -> None:
        self.socket: Final = bound
        self.url: Final = f"{address.scheme}://{name_of(bound.getsockname())}"
        self.level: Final = LEVELS[address.durability] if address.durability else 0
        self._address: Final = address
        self.is_drained = True
        self.error: OSError | None = None

    def listen(self) -> None:
        """Let clients come. Raises `ListenError`."""
        try:
            self.socket.listen(BACKLOG)
        except OSError as error:  # another socket was bound to the same port, and was quicker
            raise ListenError(self.url, _what_to_do(error, self._address)) from error

    def accept_batch(self) -> list[tuple[socket.socket, str]]:
        """Connections that wait, at most `ACCEPT_BATCH`, made ready, each with its peer's name.

        Afterwards `is_drained` tells whether none waits any more, and `error` is what made
        accepting fail (out of descriptors, out of memory), else None.
        """
        accepted: list[tuple[socket.socket, str]] = []
        self.is_drained = False
        self.error = None
        try:
            while len(accepted) < ACCEPT_BATCH:
                try:
                    accepted.append(self.prepare(*self.socket.accept()))
                except ConnectionError:
                    pass  # it left before it was accepted
        except (BlockingIOError, InterruptedError):
            self.is_drained = True
        except OSError as error:
            self.error = error
        return accepted

    @staticmethod
    def prepare(connected: socket.socket, address: SocketAddress) -> tuple[socket.socket, str]:
        """An accepted socket made ready: non-blocking, small packets leave at once."""
        connected.setblocking(False)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # the peer is gone already; the first read says so
        return connected, name_of(address)

    def close(self) -> None:
        """Stop listening; who waits unaccepted is turned away by the kernel."""
        self.socket.close()


def bind_listeners(urls: Sequence[str]) -> list[Listener]:
    """Bind a socket for every URL, or for none; until it listens, clients are turned away. Raises
    `ListenError` for the first that fails."""
    if not urls:
        raise ListenError("", "nothing to listen on: give a URL such as tcp://127.0.0.1:1883")
    listeners: list[Listener] = []
    try:
        for url in urls:
            address = listen_address(url)
            for family, resolved in _resolve(url, address):
                listeners.append(_bind(url, address, family, resolved))
    except ListenError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _resolve(url: str, address: ListenAddress) -> list[tuple[int, SocketAddress]]:
    """The socket addresses of a host: one for a number, all that it has for a name."""
    # As bytes it needs no codec for international names, which would be loaded for nothing.
    host = address.host.encode() if address.host.isascii() else address.host
    try:
        found = socket.getaddrinfo(
            host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ListenError(
            url,
            f"the host {address.host} is not known ({reason}); write an address or fix the name",
        ) from None
    return list(dict.fromkeys((family, resolved) for family, _, _, _, resolved in found))


def _bind(url: str, address: ListenAddress, family: int, resolved: SocketAddress) -> Listener:
    bound: socket.socket | None = None
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":
            # A restart need not wait for connections of the last run that linger in TIME_WAIT.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            # There SO_REUSEADDR would let another program take the port from us.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        if family == socket.AF_INET6:
            # [::] and 0.0.0.0 are two listeners, on every platform alike.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(resolved)
        bound.setblocking(False)
        return Listener(bound, address)
    except OSError as error:
        if bound is not None:
            bound.close()
        raise ListenError(url, _what_to_do(error, address)) from error


def _what_to_do(error: OSError, address: ListenAddress) -> str:
    port = address.port
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} is in use; stop the program that listens on it or choose another port"
            )
        case errno.EACCES | errno.EPERM if port < 1024:
            return (
                f"port {port} needs privileges; choose a port from 1024 up "
                "or grant the program CAP_NET_BIND_SERVICE"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"{address.host} is not an address of this machine; write one it has, "
                "127.0.0.1 for this machine alone or 0.0.0.0 for every IPv4 interface"
            )
        case errno.EAFNOSUPPORT | errno.EPROTONOSUPPORT:
            return f"this machine has no {'IPv6' if ':' in address.host else 'IPv4'}; use the other"
        case errno.EMFILE | errno.ENFILE:
            return "no file descriptor is left; raise the limit (ulimit -n) or listen on fewer URLs"
        case _:
            return f"{error.strerror or error}; choose another address or port"
