"""Where a client connects: server URLs, and why a connection did not come about, in words."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final, final
from urllib.parse import unquote, urlsplit

PORTS: Final[dict[str, int]] = {
    "mqtt": 1883,
    "mqtts": 8883,
    "ws": 80,
    "wss": 443,
    "tcp": 1883,
    "unix": 0,
}
"""The schemes of a server URL and the ports they stand for; `tcp` is another word for `mqtt`."""

_FORMS: Final = (
    "mqtt://HOST[:PORT], mqtts://HOST[:PORT] (TLS), ws://HOST[:PORT][/PATH], "
    "wss://HOST[:PORT][/PATH] (WebSocket), unix:///PATH"
)
_ESCAPES: Final = "within a user name, password or path, / ? # [ ] are written %2F %3F %23 %5B %5D"
_DEFAULT_PATH: Final = "/mqtt"  # by custom; the standard names none


class AddressError(ValueError):
    """A server URL cannot be used. The text is one line and says what to do."""


@final
class ServerAddress:
    """One server: a host and a port, or the path of a Unix socket.

    `target` is the path of a WebSocket, with its query. `username` and `password` are those of the
    URL, None without.
    """

    __slots__ = ("host", "password", "path", "port", "scheme", "target", "username")

    def __init__(
        self,
        scheme: str,
        host: str = "",
        port: int = 0,
        *,
        path: str = "",
        target: str = "",
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self.scheme: Final = scheme
        self.host: Final = host
        self.port: Final = port
        self.path: Final = path
        self.target: Final = target
        self.username: Final = username
        self.password: Final = password

    @property
    def is_secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme in ("mqtts", "wss")

    @property
    def is_websocket(self) -> bool:
        """Whether MQTT travels in WebSocket frames."""
        return self.scheme in ("ws", "wss")

    @property
    def url(self) -> str:
        """The address as a URL, without user and password."""
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"

    def elsewhere(self, reference: str) -> ServerAddress:
        """The same way to another host, as a server reference names it: `HOST` or `HOST:PORT`
        (4.11 of MQTT 5.0). Raises `AddressError`."""
        other = server_address(f"{'mqtt' if self.scheme == 'unix' else self.scheme}://{reference}")
        return ServerAddress(other.scheme, other.host, other.port, target=self.target)


def server_address(url: str) -> ServerAddress:
    """The address that `url` names. Raises `AddressError` saying how to write it instead."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        shown = _without_secrets(url)
        raise AddressError(f"cannot connect to {shown!r}: write it with its scheme: mqtt://{shown}")
    scheme = scheme.lower()
    if scheme not in PORTS:
        raise AddressError(f"cannot connect by {scheme}://: allowed are {_FORMS}")
    shown = f"{scheme}://{_without_secrets(rest)}"
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:  # whose text may have a part of the password
        raise AddressError(
            f"cannot connect to {shown}: the host or the port is none; allowed are {_FORMS}; "
            f"{_ESCAPES}"
        ) from None
    if parts.fragment:
        raise AddressError(f"cannot connect to {shown}: a # has no place in it; {_ESCAPES}")
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    if scheme == "unix":
        if not parts.path or host or port:
            raise AddressError(f"cannot connect to {shown}: write unix:///PATH, with three slashes")
        return ServerAddress(scheme, path=unquote(parts.path), username=username, password=password)
    if not host:
        raise AddressError(f"cannot connect to {shown}: it names no host; write {scheme}://HOST")
    target = ""
    if scheme in ("ws", "wss"):
        target = (parts.path if parts.path not in ("", "/") else _DEFAULT_PATH) + (
            f"?{parts.query}" if parts.query else ""
        )
    elif parts.path not in ("", "/") or parts.query:
        raise AddressError(
            f"cannot connect to {shown}: only a host and a port may follow {scheme}://; {_ESCAPES}"
        )
    return ServerAddress(
        scheme,
        host,
        PORTS[scheme] if port is None else port,
        target=target,
        username=username,
        password=password,
    )


def _without_secrets(rest: str) -> str:
    return rest.rpartition("@")[2]


def why_not_connected(error: BaseException, address: ServerAddress) -> str:
    """Why a connection did not come about, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}); if it is the right server, "
            "trust its certificate: tls=ssl.create_default_context(cafile=...)"
        )
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or error
        return f"TLS does not come about ({reason}); is it a TLS port ({PORTS['mqtts']} by custom)?"
    if isinstance(error, TimeoutError):
        return "no answer in time; check the host, the port, and the firewalls between"
    if isinstance(error, socket.gaierror):
        return f"the host {address.host} is not known ({error.strerror}); check its name"
    if isinstance(error, OSError):
        # asyncio joins the failures of several addresses of a name in one text without a number.
        code = error.errno
        if code == errno.ECONNREFUSED or isinstance(error, ConnectionRefusedError):
            return "nothing listens there; is the server running, and is the port right?"
        if code == errno.ENOENT:
            return "there is no such socket; is the server running, and is the path right?"
        if isinstance(error, ConnectionError):
            tls = f"; is it a TLS port ({PORTS['mqtts']} by custom)?" if address.is_secure else ""
            return f"the server has closed the connection{tls}"
        if code is not None:
            return os.strerror(code).lower()
    return str(error) or type(error).__name__


def why_lost(error: BaseException | None) -> str:
    """Why a connection has ended; empty where the server has closed it."""
    if error is None:
        return ""
    if isinstance(error, OSError) and error.errno is not None:
        return f"the connection broke: {os.strerror(error.errno).lower()}"
    return f"the connection broke: {error}"
