"""What the parts of a client share: the connection of the moment, the session, who is told."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._connection import Connection
from mqtt_core._flow import Flow
from mqtt_core.client._counters import Counters
from mqtt_core.client._events import Event
from mqtt_core.client._keeping import Keeper
from mqtt_core.client._limits import ClientLimits
from mqtt_core.client._settings import Settings
from mqtt_core.client._told import Told


@final
class Desk:
    """Everything that more than one part of a client reads.

    `connection` is there from its CONNECT to its end; while `is_online` the server has taken the
    client, and packets of any kind may be sent.
    """

    __slots__ = (
        "settings",
        "limits",
        "counters",
        "told",
        "keeper",
        "flow",
        "events",
        "connection",
        "is_online",
        "is_writable",
        "epoch",
    )

    def __init__(self, settings: Settings, keeper: Keeper) -> None:
        self.settings: Final = settings
        self.limits: Final[ClientLimits] = settings.limits
        self.counters: Final = Counters()
        self.told: Final = Told()
        self.keeper: Final = keeper
        self.flow: Final = Flow()
        self.events: list[Event] = []
        self.connection: Connection | None = None
        self.is_online = False
        self.is_writable = True
        self.epoch = 0  # the number of the connection

    @property
    def has_room(self) -> bool:
        """Whether messages may be written: there is a server, and the socket takes more."""
        connection = self.connection
        return (
            self.is_online
            and self.is_writable
            and connection is not None
            and connection.output.size_bytes < self.limits.max_unsent_bytes
        )
