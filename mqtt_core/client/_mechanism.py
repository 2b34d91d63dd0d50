"""What a client needs for enhanced authentication (4.12 of MQTT 5.0)."""

from __future__ import annotations

from typing import Protocol


class Mechanism(Protocol):
    """One method of authentication, as a client uses it; `adapters.security` has SCRAM."""

    @property
    def method(self) -> str:
        """The authentication method that CONNECT names."""
        ...

    def begin(self) -> bytes:
        """A new exchange: the data of CONNECT, or of a re-authentication."""
        ...

    def answer(self, data: bytes) -> bytes:
        """The answer to a challenge. Raises `ValueError` where the server is not to be trusted."""
        ...

    def finish(self, data: bytes) -> None:
        """The server's last word. Raises `ValueError` where it is not to be trusted."""
        ...
