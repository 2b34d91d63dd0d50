"""What the broker tells its owner for logs: facts, not log lines."""

from __future__ import annotations

from typing import ClassVar, Final, final

FACT_DEBUG: Final = 10
FACT_INFO: Final = 20
FACT_WARNING: Final = 30
FACT_ERROR: Final = 40


@final
class Fact:
    """One thing that happened.

    `name` is stable ("client.connected"); `channel` is the internal key of the connection (0
    for none), `cause` why it ended, `statement` and `offset` the rule of MQTT that was broken
    and where in the client's stream (-1 for nowhere), `error` the exception of a fault.
    """

    FIELDS: ClassVar[tuple[str, ...]] = (
        "name",
        "severity",
        "channel",
        "client_id",
        "peer",
        "listener",
        "cause",
        "statement",
        "offset",
        "detail",
        "error",
    )

    def __init__(
        self,
        name: str,
        severity: int = FACT_INFO,
        *,
        channel: int = 0,
        client_id: str = "",
        peer: str = "",
        listener: str = "",
        cause: str = "",
        statement: str = "",
        offset: int = -1,
        detail: str = "",
        error: Exception | None = None,
    ) -> None:
        self.name: Final = name
        self.severity: Final = severity
        self.channel: Final = channel
        self.client_id: Final = client_id
        self.peer: Final = peer
        self.listener: Final = listener
        self.cause: Final = cause
        self.statement: Final = statement
        self.offset: Final = offset
        self.detail: Final = detail
        self.error: Final = error

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.FIELDS]
        return f"Fact({', '.join(shown)})"


def shown(error: Exception) -> str:
    """An exception in words; that of a policy may not even have any."""
    try:
        return repr(error)
    except Exception:  # noqa: BLE001 - whatever it is, its kind can be told
        return type(error).__name__
