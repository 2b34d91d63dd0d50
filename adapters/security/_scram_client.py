"""The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) in enhanced authentication."""

from __future__ import annotations

from functools import cache
from typing import Final, Protocol, cast, final

from adapters.security._scram import METHOD, ScramCredential, refusal


class ClientSide(Protocol):
    """What the library does for a client in one exchange. Its methods raise `ScramException`."""

    def get_client_first(self) -> str:
        """The first message."""

    def set_server_first(self, message: str) -> None:
        """Read the server's challenge."""

    def get_client_final(self) -> str:
        """The answer to it: the proof."""

    def set_server_final(self, message: str) -> None:
        """Read the server's own proof, and check it."""


class _Library(Protocol):
    def __call__(self, mechanisms: list[str], username: str, password: str) -> ClientSide:
        """An exchange."""


@cache
def _library() -> _Library:
    """The library's client; loaded when first asked for, because it takes 4 MB."""
    import scramp

    return cast(_Library, scramp.ScramClient)


@final
class ScramClient:
    """Logs in by SCRAM-SHA-256: the password is proved and never sent, and the server proves that
    it knows it as well. A `mqtt_core.client.Mechanism`.

    The answer to a challenge is slow on purpose: tens of milliseconds, in which the client's event
    loop waits. Raises `ValueError` for a name or password that SCRAM does not take.
    """

    MAX_ITERATIONS: Final = ScramCredential.MAX_ITERATIONS
    """A server that asks for more wants the client to work for nothing."""

    __slots__ = ("_exchange", "_has_answered", "_password", "_username")

    def __init__(self, username: str, password: str) -> None:
        self._username: Final = username
        self._password: Final = password
        self._exchange: ClientSide | None = None
        self._has_answered = False
        self._new_exchange()

    def __repr__(self) -> str:
        return f"ScramClient({self._username!r})"

    def _new_exchange(self) -> ClientSide:
        try:
            exchange = _library()([METHOD], self._username, self._password)
            exchange.get_client_first()
        except refusal() as error:
            raise ValueError(f"SCRAM does not take this name or password: {error}") from None
        return exchange

    @property
    def method(self) -> str:
        """The authentication method."""
        return METHOD

    def begin(self) -> bytes:
        """The first message of a new exchange."""
        exchange = _library()([METHOD], self._username, self._password)
        self._exchange = exchange
        self._has_answered = False
        return exchange.get_client_first().encode()

    def answer(self, data: bytes) -> bytes:
        """The proof. Raises `ValueError` for a challenge that is none."""
        exchange = self._exchange
        if exchange is None or self._has_answered:
            raise ValueError("the server has more challenges than SCRAM has")
        text = _text(data)
        self._check_cost(text)
        try:
            exchange.set_server_first(text)
            self._has_answered = True
            return exchange.get_client_final().encode()
        except refusal() as error:
            raise ValueError(f"the challenge of the server is not right: {error}") from None

    def _check_cost(self, challenge: str) -> None:
        for part in challenge.split(","):
            if part.startswith("i=") and part[2:].isdecimal():
                if len(part) > 12 or int(part[2:]) > self.MAX_ITERATIONS:
                    raise ValueError(
                        f"the server asks for more than {self.MAX_ITERATIONS:,} rounds"
                    )

    def finish(self, data: bytes) -> None:
        """Check the server's proof. Raises `ValueError` where it is missing, or wrong."""
        exchange, self._exchange = self._exchange, None
        if exchange is None or not self._has_answered:
            raise ValueError("the server has accepted the client without a proof of either")
        try:
            exchange.set_server_final(_text(data))
        except refusal():
            raise ValueError(
                "the server could not prove that it knows the password; it may be another one"
            ) from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("the server has sent what is no SCRAM message") from None
