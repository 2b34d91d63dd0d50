"""What an engine keeps in memory of what is stored: who waits for what, and nothing of its content.

A delivery, one message for one session, has an identifier of its own: the number of the message,
then the place of the session among those that the message was for. So an array of identifiers is
all that a queue takes, and the database finds each by its row.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final, final

from mypy_extensions import mypyc_attr

PLACE_BITS: Final = 20
"""Of an identifier, those that are not of the number."""

MOST_TARGETS: Final = 1 << PLACE_BITS
"""Sessions that one message can be stored for."""

MOST_NUMBERS: Final = (1 << (63 - PLACE_BITS)) - (1 << 32)
"""A number that is too great, with room behind it for what cannot be refused. At 100,000 messages a
second it is reached in 2.8 years, at 1,000 in 280; exporting and importing a store begins again at
the bottom."""

INDEX_BYTES: Final = 24
"""What a delivery that waits takes in a queue: an identifier and a size, with what arrays keep in
reserve."""

_POPPED_KEPT: Final = 64


def delivery_id(number: int, place: int) -> int:
    """The identifier of a delivery."""
    return number << PLACE_BITS | place


def number_of(delivery: int) -> int:
    """The number of the message of a delivery."""
    return delivery >> PLACE_BITS


@final
@mypyc_attr(acyclic=True)
class Flight:
    """A delivery under way. `position` orders those of a session by their last step."""

    __slots__ = ("delivery", "size", "packet_id", "is_received", "position")

    def __init__(
        self, delivery: int, size: int, packet_id: int, is_received: bool, position: int
    ) -> None:
        self.delivery: Final = delivery
        self.size: Final = size
        self.packet_id: Final = packet_id
        self.is_received: Final = is_received  # PUBREC has come
        self.position: Final = position


@final
class Stored:
    """A session as the index has it. What waits stands in order, from index `first` on."""

    __slots__ = (
        "session",
        "client_id",
        "expires_at",
        "interval_s",
        "is_retired",
        "touched",
        "ids",
        "sizes",
        "first",
        "sent",
        "expiring",
    )

    def __init__(
        self, session: int, client_id: str, expires_at: float | None = None, interval_s: int = 0
    ) -> None:
        self.session: Final = session
        self.client_id: Final = client_id
        self.expires_at = expires_at
        self.interval_s = interval_s
        self.is_retired = False
        self.touched = 0  # serial of the batch that was the last to bring a message
        self.ids: array[int] | None = None
        self.sizes: array[int] | None = None
        self.first = 0
        self.sent: dict[int, Flight] | None = None  # by number
        self.expiring: dict[int, float] | None = None  # by identifier, of what expires

    @property
    def count(self) -> int:
        """How many deliveries it has, waiting or under way."""
        ids = self.ids
        waiting = 0 if ids is None else len(ids) - self.first
        return waiting if self.sent is None else waiting + len(self.sent)

    def add(self, delivery: int, size: int) -> None:
        """A delivery waits; it is nearly always the last of all."""
        ids = self.ids
        sizes = self.sizes
        if ids is None or sizes is None:
            self.ids = array("q", (delivery,))
            self.sizes = array("I", (size,))
            self.first = 0
        elif len(ids) == self.first or ids[-1] < delivery:
            ids.append(delivery)
            sizes.append(size)
        else:
            at = bisect_left(ids, delivery, self.first)
            ids.insert(at, delivery)
            sizes.insert(at, size)

    def take(self, number: int) -> tuple[int, int] | None:
        """Remove the waiting delivery of a message: its identifier and size, None without one."""
        ids = self.ids
        sizes = self.sizes
        if ids is None or sizes is None:
            return None
        first = self.first
        at = bisect_left(ids, delivery_id(number, 0), first)
        if at == len(ids) or number_of(ids[at]) != number:
            return None
        taken = (ids[at], sizes[at])
        if at == first:
            first += 1
            if first == len(ids):
                self.ids = self.sizes = None
                first = 0
            elif first > _POPPED_KEPT and first * 2 > len(ids):
                del ids[:first]
                del sizes[:first]
                first = 0
            self.first = first
        else:
            del ids[at]
            del sizes[at]
        return taken

    def page(self, after: int, limit: int, limit_bytes: int) -> list[int]:
        """Identifiers of what waits behind a number: within the limits, but one if there is any."""
        ids = self.ids
        sizes = self.sizes
        found: list[int] = []
        if ids is None or sizes is None:
            return found
        size = 0
        at = bisect_left(ids, delivery_id(after + 1, 0), self.first)
        while at < len(ids) and len(found) < limit:
            size += sizes[at]
            if found and size > limit_bytes:
                break
            found.append(ids[at])
            at += 1
        return found

    def send(self, flight: Flight) -> None:
        """A delivery is under way."""
        sent = self.sent
        if sent is None:
            sent = {}
            self.sent = sent
        sent[flight.delivery >> PLACE_BITS] = flight

    def land(self, number: int) -> Flight | None:
        """Remove a delivery under way, None where there is none of that message."""
        sent = self.sent
        if sent is None:
            return None
        flight = sent.pop(number, None)
        if not sent:
            self.sent = None
        return flight

    def flights(self) -> list[Flight]:
        """What is under way, in the order of the last steps."""
        return [] if self.sent is None else sorted(self.sent.values(), key=_position)

    def note_expiry(self, delivery: int, expires_at: float) -> None:
        """When the message of a delivery expires."""
        if self.expiring is None:
            self.expiring = {}
        self.expiring[delivery] = expires_at

    def expiry(self, delivery: int) -> float:
        """When the message of a delivery expires, 0 for never."""
        return 0.0 if self.expiring is None else self.expiring.get(delivery, 0.0)

    def forget_expiry(self, delivery: int) -> float:
        """The delivery is gone; when it would have expired."""
        expiring = self.expiring
        if expiring is None:
            return 0.0
        expires_at = expiring.pop(delivery, 0.0)
        if not expiring:
            self.expiring = None
        return expires_at

    def queued(self) -> list[tuple[int, int, float]]:
        """Number, size and expiry of what waits."""
        ids = self.ids
        sizes = self.sizes
        if ids is None or sizes is None:
            return []
        expiring = self.expiring
        pairs = zip(ids[self.first :], sizes[self.first :], strict=True)
        if expiring is None:
            return [(each >> PLACE_BITS, size, 0.0) for each, size in pairs]
        return [(each >> PLACE_BITS, size, expiring.get(each, 0.0)) for each, size in pairs]

    def first_delivery(self) -> int:
        """Some delivery that it has, 0 for none."""
        if self.sent:
            return next(iter(self.sent.values())).delivery
        return 0 if self.ids is None else self.ids[self.first]


def _position(flight: Flight) -> int:
    return flight.position


@final
class Index:
    """All sessions, and how many deliveries share one message where several do."""

    __slots__ = (
        "sessions",
        "by_client",
        "shared",
        "count",
        "last_number",
        "last_position",
        "garbage",
        "version",
        "_ordered",
        "_ordered_version",
    )

    def __init__(self) -> None:
        self.sessions: Final[dict[int, Stored]] = {}
        self.by_client: Final[dict[str, int]] = {}
        self.shared: Final[dict[int, int]] = {}  # by number, where there is more than one delivery
        self.count = 0  # deliveries, those of sessions that are over too
        self.last_number = 0
        self.last_position = 0
        # Sessions that are over, whose deliveries are still to be deleted.
        self.garbage: list[Stored] = []
        self.version = 0  # changes with the sessions there are
        self._ordered = array("q")
        self._ordered_version = -1

    def put(self, stored: Stored) -> None:
        """A session exists."""
        self.sessions[stored.session] = stored
        self.by_client[stored.client_id] = stored.session
        self.version += 1

    def forget_client(self, stored: Stored) -> None:
        """Nobody can claim this session any more."""
        if self.by_client.get(stored.client_id) == stored.session:
            del self.by_client[stored.client_id]

    def behind(self, after: int, limit: int) -> list[Stored]:
        """Sessions in the order of their numbers, as many as have about `limit` records."""
        if self._ordered_version != self.version:
            self._ordered = array("q", sorted(self.sessions))
            self._ordered_version = self.version
        ordered = self._ordered
        found: list[Stored] = []
        size = 0
        at = bisect_left(ordered, after + 1)
        while at < len(ordered) and (size < limit or not found):
            stored = self.sessions[ordered[at]]
            at += 1
            if not stored.is_retired:
                size += 1 + stored.count
                found.append(stored)
        return found
