"""SCRAM-SHA-256 credentials (RFC 5802, RFC 7677), on the library scramp.

A credential reads `SCRAM-SHA-256$100000:SALT$STORED_KEY:SERVER_KEY`, in the form that PostgreSQL
stores. It serves a client that proves by SCRAM that it knows the password, and one that sends the
password itself. Who steals it can neither log in with it nor compute the password, only try
passwords out; the iterations make each try slow.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Callable
from functools import cache
from typing import ClassVar, Final, Protocol, cast, final

METHOD: Final = "SCRAM-SHA-256"
"""The authentication method, as a CONNECT of MQTT 5.0 names it."""

SALT_BYTES: Final = 16
KEY_BYTES: Final = 32

_FORMAT: Final = re.compile(
    r"SCRAM-SHA-256\$([0-9]{4,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)"
)

Keys = tuple[bytes, bytes, bytes, int]
"""Salt, stored key, server key and iterations, as the library passes them around."""


class ServerSide(Protocol):
    """What the library does for a server in one exchange. Its methods raise `ScramException`."""

    def set_client_first(self, message: str) -> None:
        """Read the client's first message."""

    def get_server_first(self) -> str:
        """The answer to it."""

    def set_client_final(self, message: str) -> None:
        """Read the client's second message, and check its proof."""

    def get_server_final(self) -> str:
        """The answer to it: the server's own proof."""


class Mechanism(Protocol):
    """What the library knows of SCRAM-SHA-256."""

    def make_auth_info(self, password: str, iteration_count: int, salt: bytes) -> Keys:
        """Derive the keys of a password; slow on purpose. Raises `ScramException`."""

    def make_server(self, auth_fn: Callable[[str], Keys], *, s_nonce: str) -> ServerSide:
        """An exchange; `auth_fn` is asked for the keys of a name."""


@cache
def mechanism() -> Mechanism:
    """The library's SCRAM-SHA-256; loaded when first asked for, because it takes 4 MB."""
    import scramp

    return cast(Mechanism, scramp.ScramMechanism(METHOD))


@cache
def refusal() -> type[Exception]:
    """What the library raises for a message or password that is not right."""
    import scramp

    return cast("type[Exception]", scramp.ScramException)


def prepared(name: str) -> str:
    """A user name in the form that SCRAM compares (SASLprep). Raises what `refusal` gives."""
    if name.isascii() and name.isprintable():
        return name
    seen: list[str] = []

    def look_up(found: str) -> Keys:
        seen.append(found)
        return bytes(SALT_BYTES), b"", b"", ScramCredential.MIN_ITERATIONS

    escaped = name.replace("=", "=3D").replace(",", "=2C")
    mechanism().make_server(look_up, s_nonce="-").set_client_first(f"n,,n={escaped},r=-")
    return seen[0]


@final
class ScramCredential:
    """What a server keeps of one password to check it by SCRAM."""

    DEFAULT_ITERATIONS: ClassVar = 100_000
    """About as slow as the scrypt of a password hash. Each login costs the client as much: for a
    small one that takes seconds over it, fewer are right."""
    MIN_ITERATIONS: ClassVar = 4_096
    """What RFC 7677 asks for at least."""
    MAX_ITERATIONS: ClassVar = 1_000_000

    __slots__ = ("iterations", "salt", "server_key", "stored_key")

    def __init__(self, iterations: int, salt: bytes, stored_key: bytes, server_key: bytes) -> None:
        self.iterations: Final = iterations
        self.salt: Final = salt
        self.stored_key: Final = stored_key
        self.server_key: Final = server_key

    def __repr__(self) -> str:
        """The cost only: a credential is worth stealing."""
        return f"ScramCredential(iterations={self.iterations})"

    @classmethod
    def make(
        cls, password: bytes, *, iterations: int = DEFAULT_ITERATIONS, salt: bytes = b""
    ) -> ScramCredential:
        """Derive the keys of `password`, with a new salt unless one is given. Slow on purpose.

        Raises `ValueError` for iterations out of bounds and for a password that SCRAM does not
        take: one that is not UTF-8, or has characters that cannot be typed the same everywhere.
        """
        _check_iterations(iterations)
        salt = salt or os.urandom(SALT_BYTES)
        try:
            keys = mechanism().make_auth_info(password.decode(), iterations, salt)
        except UnicodeDecodeError:
            raise ValueError("a password for SCRAM is UTF-8 text") from None
        except refusal() as error:
            reason = str(error).partition(":")[0]  # behind it stands a code for the wire
            raise ValueError(f"SCRAM does not take this password: {reason}") from None
        return cls(iterations, salt, keys[1], keys[2])

    @classmethod
    def parse(cls, text: str) -> ScramCredential:
        """Read what `format` wrote. Raises `ValueError`."""
        match = _FORMAT.fullmatch(text)
        if match is None:
            raise ValueError(
                "a SCRAM credential reads SCRAM-SHA-256$100000:SALT$STORED_KEY:SERVER_KEY"
            )
        iterations = int(match[1])
        _check_iterations(iterations)
        salt, stored_key, server_key = _decode(match[2]), _decode(match[3]), _decode(match[4])
        if not 12 <= len(salt) <= 64 or not len(stored_key) == len(server_key) == KEY_BYTES:
            raise ValueError("a SCRAM credential has 12 to 64 bytes of salt and two keys of 32")
        return cls(iterations, salt, stored_key, server_key)

    def format(self) -> str:
        """The credential as text, for a configuration file."""
        keys = f"{_encode(self.stored_key)}:{_encode(self.server_key)}"
        return f"{METHOD}${self.iterations}:{_encode(self.salt)}${keys}"

    def matches(self, password: bytes) -> bool:
        """Whether `password` is the one; takes the same time either way. Slow on purpose."""
        try:
            made = ScramCredential.make(password, iterations=self.iterations, salt=self.salt)
        except ValueError:  # it cannot be; what cannot be takes as long as what is wrong
            ScramCredential.make(b"", iterations=self.iterations, salt=self.salt)
            return False
        return hmac.compare_digest(made.stored_key, self.stored_key)

    def keys(self) -> Keys:
        """As the library takes them."""
        return self.salt, self.stored_key, self.server_key, self.iterations


def _check_iterations(iterations: int) -> None:
    least, most = ScramCredential.MIN_ITERATIONS, ScramCredential.MAX_ITERATIONS
    if not least <= iterations <= most:
        raise ValueError(
            f"a SCRAM credential has {iterations} iterations; allowed: {least:,} to {most:,}"
        )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"salt or key of a SCRAM credential is not base64: {error}") from None
