"""What has changed since the last commit was handed over, as its net effect on the database.

A delivery that came and went within one batch leaves nothing, and neither does a message of such
deliveries alone. So that a batch can be taken back when the disk refuses it, it notes what was
there before.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from adapters.storage._index import Flight, Stored
from mqtt_core import Message, Will
from mqtt_core.broker import Operation, Options, Target


@final
@mypyc_attr(acyclic=True)
class Gathered:
    """A write that has taken effect in the index, on its way to the disk.

    `live` counts its deliveries that may still cancel out. It `rests` on the commit if it has
    changed anything else.
    """

    __slots__ = (
        "request_id",
        "operations",
        "level",
        "taken",
        "live",
        "rests",
        "is_done",
        "retained",
    )

    def __init__(
        self, request_id: int, operations: list[Operation], level: int = 0, taken: int = 0
    ) -> None:
        self.request_id: Final = request_id  # 0 where nobody waits for an answer, or any more
        self.operations: Final = operations
        self.level: Final = level  # that somebody waits for
        self.taken: Final = taken  # bytes in memory of what has been answered already
        self.live = 0
        self.rests = False
        self.is_done = False
        self.retained = 0  # how many retained messages there were behind it


Granted = tuple[int, Options | None, bool]
"""A subscription: QoS, options, and whether retained messages are due."""


@final
@mypyc_attr(acyclic=True)
class Added:
    """A delivery that is new in a batch, and the write that brought it."""

    __slots__ = ("stored", "target", "size", "expires_at", "write")

    def __init__(
        self, stored: Stored, target: Target, size: int, expires_at: float, write: Gathered
    ) -> None:
        self.stored: Final = stored
        self.target: Final = target
        self.size: Final = size
        self.expires_at: Final = expires_at
        self.write: Final = write


@final
@mypyc_attr(acyclic=True)
class Before:
    """How a delivery was before a batch: waiting where there is no flight."""

    __slots__ = ("stored", "size", "expires_at", "flight")

    def __init__(self, stored: Stored, size: int, expires_at: float, flight: Flight | None) -> None:
        self.stored: Final = stored
        self.size: Final = size
        self.expires_at: Final = expires_at
        self.flight: Final = flight


@final
class Batch:
    """The net effect of some writes; what is new in it by key, and what was there before."""

    __slots__ = (
        "serial",
        "writes",
        "due",
        "is_urgent",
        "level",
        "taken",
        "is_open",
        "added",
        "removed",
        "flights",
        "messages",
        "gone",
        "ended",
        "sessions",
        "subscriptions",
        "held",
        "wills",
        "retained",
        "before",
        "shared_before",
        "sessions_before",
        "clients_before",
        "expiries_before",
        "retired",
        "retained_before",
        "changes",
    )

    def __init__(self, serial: int) -> None:
        self.serial: Final = serial
        self.writes: list[Gathered] = []
        self.due = 0.0
        self.is_urgent = False
        self.level = 0  # the highest that somebody waits for
        self.taken = 0  # bytes of what has been answered already
        self.is_open = False  # a change has begun in it whose last part has not come
        # Deliveries, by identifier.
        self.added: Final[dict[int, Added]] = {}
        self.removed: Final[set[int]] = set()
        self.flights: Final[dict[int, Flight]] = {}
        # Messages, by number.
        self.messages: Final[dict[int, Message]] = {}
        self.gone: Final[list[int]] = []
        # Sessions and what belongs to them, by session.
        self.ended: Final[set[int]] = set()
        self.sessions: Final[dict[int, Stored]] = {}
        self.subscriptions: Final[dict[int, dict[bytes, Granted | None]]] = {}
        self.held: Final[dict[int, dict[int, bool]]] = {}
        # By client, and by topic.
        self.wills: Final[dict[str, tuple[Will, float] | None]] = {}
        self.retained: Final[dict[bytes, Message | None]] = {}
        # What was there.
        self.before: Final[dict[int, Before]] = {}
        self.shared_before: Final[dict[int, int]] = {}
        self.sessions_before: Final[dict[int, Stored | None]] = {}
        self.clients_before: Final[dict[str, int]] = {}
        self.expiries_before: Final[list[tuple[Stored, float | None, int]]] = []
        self.retired: Final[list[Stored]] = []
        self.retained_before: Final[dict[bytes, Message | None]] = {}
        self.changes = 0  # of any kind but deliveries

    @property
    def size(self) -> int:
        """About how many rows it writes."""
        return len(self.added) + len(self.removed) + len(self.flights) + self.changes

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to be written."""
        return not (self.added or self.removed or self.flights or self.gone or self.changes)
