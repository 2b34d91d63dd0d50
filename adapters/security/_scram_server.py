"""The server's side of SCRAM-SHA-256 (RFC 5802), as answers to the requests of an exchange.

The client's first message comes with CONNECT and is answered with a challenge; the second, in an
AUTH, proves that the client knows the password, and its answer, in CONNACK, that the server has
its credential. No password crosses the wire.

Who may log in is not to be found out: a name that does not exist, or that has no credential for
SCRAM, gets a challenge like any other, the same each time, and is refused where a wrong password
is. Nothing here is slow but preparing long names, and deriving the keys of a password that is known
in plain text, which happens at its first login.
"""

from __future__ import annotations

import base64
import hmac
import os
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final, final

from adapters.security._scram import (
    SALT_BYTES,
    Keys,
    ScramCredential,
    ServerSide,
    mechanism,
    prepared,
    refusal,
)
from mqtt_core.broker import NOT_AUTHORIZED, AuthRequest, Decision
from mqtt_core.reasons import CONTINUE_AUTHENTICATION

MAX_MESSAGE_BYTES: Final = 1_024
"""A longer message is refused unread: names and nonces need a few hundred."""
MAX_NAME: Final = 256
"""Characters of a name, compatibility characters written out: bringing it into the form of SASLprep
takes 8 us for each. A longer one is refused."""
QUICK_NAME: Final = 64
"""A longer name, or one that is not ASCII, is work for the thread."""
NONCE_BYTES: Final = 18

_FEW: Final = ScramCredential.MIN_ITERATIONS  # where the password is at hand, cost guards nothing
_REFUSED: Final = Decision(NOT_AUTHORIZED)


def _nonce() -> str:
    return base64.b64encode(os.urandom(NONCE_BYTES)).decode()


def _by_prepared_name(names: list[str]) -> dict[str, str]:
    """Names by the form that SCRAM gives them; those that it does not take are left out."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found.setdefault(prepared(name), name)
        except refusal():
            continue
    return found


@final
class _Challenge:
    """What the second step has to know of the first."""

    __slots__ = ("is_known", "name", "server")

    def __init__(self, server: ServerSide, name: str, is_known: bool) -> None:
        self.server: Final = server
        self.name: Final = name
        self.is_known: Final = is_known


@final
class ScramServer:
    """Answers for a table of credentials, and of passwords that are known in plain text.

    `secret` is what the salts of names without a credential are computed from: with another one,
    such as a new one at each start, they change, and whoever compares can tell them from others.
    `nonce` gives text that nobody can guess, without commas, another one each time.
    """

    def __init__(
        self,
        credentials: Mapping[str, ScramCredential],
        passwords: Mapping[str, bytes],
        accepted: Callable[[str, bytes], Decision],
        *,
        secret: bytes = b"",
        nonce: Callable[[], str] = _nonce,
    ) -> None:
        self._names: Final = _by_prepared_name([*credentials, *passwords])
        self._keys: Final = {name: each.keys() for name, each in credentials.items()}
        self._passwords: Final = dict(passwords)
        self._accepted: Final = accepted
        self._is_loaded = bool(credentials)
        if self._is_loaded:
            mechanism()  # before the server listens; else on the thread that derives keys
        self._secret: Final = secret or os.urandom(32)
        self._nonce: Final = nonce
        # What the challenge of a name shows: the iterations and the length of the salt.
        self._costs: Final = [
            *((each.iterations, len(each.salt)) for each in credentials.values()),
            *((_FEW, SALT_BYTES) for _ in passwords),
        ]

    @property
    def has_users(self) -> bool:
        """Whether anybody could log in this way."""
        return bool(self._costs)

    def step(self, request: AuthRequest, *, may_be_slow: bool = False) -> Decision | None:
        """Answer one step, or None where that takes long and may not be slow."""
        if not self._is_loaded:
            if not may_be_slow:
                return None
            mechanism()
            self._is_loaded = True
        message = request.data or b""
        if not 0 < len(message) <= MAX_MESSAGE_BYTES:
            return _REFUSED
        state = request.state
        try:
            if isinstance(state, _Challenge):
                return self._finish(state, message.decode())
            return self._begin(request, message.decode(), may_be_slow)
        except (UnicodeDecodeError, refusal()):
            return _REFUSED

    def _begin(self, request: AuthRequest, message: str, may_be_slow: bool) -> Decision | None:
        sent = message.partition(",n=")[2].partition(",")[0]
        if len(sent) > QUICK_NAME or not sent.isascii():
            if len(unicodedata.normalize("NFKC", sent)) > MAX_NAME:
                return _REFUSED
            if not may_be_slow:
                return None
        asked: list[str] = []
        server = mechanism().make_server(
            lambda name: self._look_up(name, asked), s_nonce=self._nonce()
        )
        server.set_client_first(message)
        name = self._names.get(asked[0], asked[0])
        if request.username is not None and request.username != name:
            return _REFUSED  # rules are about user names: there must not be two of them
        if name in self._passwords:
            if not may_be_slow:
                return None
            self._derive(name)
            return self._begin(request, message, may_be_slow)
        challenge = server.get_server_first().encode()
        state = _Challenge(server, name, name in self._keys)
        return Decision(CONTINUE_AUTHENTICATION, data=challenge, state=state)

    def _finish(self, challenge: _Challenge, message: str) -> Decision:
        challenge.server.set_client_final(message)
        if not challenge.is_known:
            return _REFUSED
        return self._accepted(challenge.name, challenge.server.get_server_final().encode())

    def _look_up(self, name: str, asked: list[str]) -> Keys:
        asked.append(name)
        made_up = self._made_up(name)  # also for those that exist: it takes time
        return self._keys.get(self._names.get(name, name), made_up)

    def _made_up(self, name: str) -> Keys:
        """Keys that nobody has, the same for a name each time, at a cost that somebody has."""
        utf8 = name.encode()
        choice = hmac.digest(self._secret, b"cost" + utf8, "sha256")
        iterations, salt_bytes = self._costs[int.from_bytes(choice, "big") % len(self._costs)]
        stored_key = hmac.digest(self._secret, b"stored" + utf8, "sha256")
        server_key = hmac.digest(self._secret, b"server" + utf8, "sha256")
        return self._salt(name)[:salt_bytes], stored_key, server_key, iterations

    def _salt(self, name: str) -> bytes:
        return hmac.digest(self._secret, b"salt" + name.encode(), "sha512")

    def _derive(self, name: str) -> None:
        salt = self._salt(name)[:SALT_BYTES]
        password = self._passwords.pop(name)
        try:
            made = ScramCredential.make(password, iterations=_FEW, salt=salt)
        except ValueError:
            return  # SCRAM does not take it, so nobody logs in with it this way
        self._keys[name] = made.keys()
