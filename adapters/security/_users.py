"""Users with hashed passwords: a policy that knows the answer at once or asks, and who is asked.

Checking a hash takes tens of milliseconds on purpose, so it happens on a thread. A password that
was right once is remembered as a digest under a key of this process: a fleet that reconnects is
let in at once, also while somebody floods the thread with wrong passwords. SCRAM is no work for
the server but where it has to derive the keys of a password: that happens on the thread too.
"""

from __future__ import annotations

import hmac
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from adapters.security._passwords import PasswordHash
from adapters.security._scram import METHOD, ScramCredential
from adapters.security._scram_server import ScramServer
from mqtt_core.broker import (
    ACCEPTED,
    ACCEPTED_UNRESTRICTED,
    BAD_USER_NAME_OR_PASSWORD,
    DENIED,
    NOT_AUTHORIZED,
    SERVER_BUSY,
    SUCCESS,
    UNKNOWN_METHOD,
    AuthorizeRequest,
    AuthRequest,
    Decision,
    Rule,
    StaticUsers,
)

MAX_WAITING: Final = 128
"""Checks that wait for the thread, about ten seconds of work. One more is refused as busy."""

_WRONG: Final = Decision(BAD_USER_NAME_OR_PASSWORD)
_BUSY: Final = Decision(SERVER_BUSY)

Decided = Callable[[int, Decision], None]
"""Where a decision goes: token and answer, from any thread (`Server.auth_decided`)."""


def parse_hash(text: str) -> PasswordHash | ScramCredential:
    """What `iotd hash-password` wrote, of either form. Raises `ValueError`."""
    return ScramCredential.parse(text) if text.startswith(METHOD) else PasswordHash.parse(text)


@final
class UserTable:
    """A `Policy` of users with hashed passwords and rules; as `StaticUsers` in all else.

    A user with a `ScramCredential` may send its password, or prove that it knows it with the
    authentication method SCRAM-SHA-256 of MQTT 5.0. `passwords` are those known in plain text,
    which serve both as well. `scram_secret` keeps salts for unknown names the same from one start
    to the next (`ScramServer`). `authenticate` says None for what `PasswordThread` has to find
    out.
    """

    __slots__ = (
        "_accepted",
        "_allow_anonymous",
        "_hashes",
        "_key",
        "_probes",
        "_remembered",
        "_rules",
        "_scram",
    )

    def __init__(
        self,
        hashes: Mapping[str, PasswordHash | ScramCredential],
        rules: Sequence[Rule] = (),
        *,
        passwords: Mapping[str, bytes] | None = None,
        allow_anonymous: bool = False,
        scram_secret: bytes = b"",
    ) -> None:
        self._hashes: Final = dict(hashes)
        self._probes: Final = list(self._hashes.values())
        self._rules: Final = StaticUsers({}, rules)
        self._accepted: Final = ACCEPTED if rules else ACCEPTED_UNRESTRICTED
        self._allow_anonymous: Final = allow_anonymous
        self._key: Final = os.urandom(32)
        self._remembered: Final = {  # at most one digest for each user
            name: self._digest(name, password) for name, password in (passwords or {}).items()
        }
        self._scram: Final = ScramServer(
            {name: each for name, each in hashes.items() if isinstance(each, ScramCredential)},
            passwords or {},
            self._accept_by_scram,
            secret=scram_secret,
        )

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Decide about clients without a user name, those whose password was right before, and
        those with an authentication method."""
        if request.method is not None:
            return self._take_step(request, may_be_slow=False)
        if request.username is None:
            return self._accepted if self._allow_anonymous else DENIED
        digest = self._remembered.get(request.username)
        if digest is None:
            return None
        given = self._digest(request.username, request.password or b"")
        return self._accepted if hmac.compare_digest(digest, given) else None

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """What the first rule that covers it says."""
        return self._rules.authorize(client_id, username, action, topic)

    def check(self, request: AuthRequest) -> Decision:
        """Check the password against its hash: tens of milliseconds, never on an event loop.

        A user that does not exist takes as long as one that does, so that names cannot be found
        out by the clock.
        """
        if request.method is not None:
            return self._take_step(request, may_be_slow=True) or _BUSY
        name, password = request.username or "", request.password or b""
        known = self._hashes.get(name)
        probe = known if known is not None else self._probe(name)
        is_right = probe is not None and probe.matches(password)
        if known is None or not is_right:
            return _WRONG
        self._remembered[name] = self._digest(name, password)
        return self._accepted

    def _take_step(self, request: AuthRequest, *, may_be_slow: bool) -> Decision | None:
        if request.method != METHOD or not self._scram.has_users:
            return UNKNOWN_METHOD
        return self._scram.step(request, may_be_slow=may_be_slow)

    def _accept_by_scram(self, name: str, answer: bytes) -> Decision:
        return Decision(SUCCESS, self._accepted.is_unrestricted, data=answer, username=name)

    def _probe(self, name: str) -> PasswordHash | ScramCredential | None:
        """For a name without a hash, somebody's, the same each time: hashes may differ in cost."""
        if not self._probes:
            return None
        choice = int.from_bytes(self._digest(name, b"probe"), "big")
        return self._probes[choice % len(self._probes)]

    def _digest(self, name: str, password: bytes) -> bytes:
        utf8 = name.encode()
        return hmac.digest(self._key, len(utf8).to_bytes(4, "big") + utf8 + password, "sha256")


@final
class PasswordThread:
    """An authenticator that does the slow work of a `UserTable`, one after another, on a thread.

    One thread, because a check uses a whole core and 16 MiB; the lock of the interpreter is not
    held meanwhile. It ends with the process, or at `stop`. `on_fault` is told, on that thread,
    what kept a password from being checked; its client is told that the server is busy.
    """

    def __init__(self, users: UserTable, on_fault: Callable[[Exception], None]) -> None:
        self._users: Final = users
        self._on_fault: Final = on_fault
        self._waiting: Final[deque[AuthRequest]] = deque()
        self._changed: Final = threading.Condition()
        self._decided: Decided | None = None
        self._is_stopped = False

    def start(self, decided: Decided) -> None:
        """Answer to `decided` from now on. To be called before the first request comes."""
        self._decided = decided
        threading.Thread(target=self._run, name="iotd-passwords", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end; what still waits is not answered."""
        with self._changed:
            self._is_stopped = True
            self._waiting.clear()
            self._changed.notify()

    def submit(self, request: AuthRequest | AuthorizeRequest) -> None:
        """Take a request, and return at once. Too many of them are refused as busy."""
        if isinstance(request, AuthorizeRequest):
            self._answer(request.token, Decision(NOT_AUTHORIZED))  # rules never ask outside
            return
        with self._changed:
            if is_taken := len(self._waiting) < MAX_WAITING:
                self._waiting.append(request)
                self._changed.notify()
        if not is_taken:
            self._answer(request.token, _BUSY)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_stopped:
                    self._changed.wait()
                if self._is_stopped:
                    return
                request = self._waiting.popleft()
            try:
                decision = self._users.check(request)
            except Exception as error:  # noqa: BLE001  such as no memory; the next may work
                self._on_fault(error)
                decision = _BUSY
            self._answer(request.token, decision)

    def _answer(self, token: int, decision: Decision) -> None:
        assert self._decided is not None, "started before the server"
        self._decided(token, decision)
