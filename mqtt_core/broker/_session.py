"""A session: what the broker keeps for one client identifier (4.1)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, final

from mqtt_core._flow import Flow
from mqtt_core._particulars import Particulars
from mqtt_core.broker._deadlines import Deadline
from mqtt_core.broker._queue import Queue
from mqtt_core.broker._subscribers import Subscriber

if TYPE_CHECKING:
    from mqtt_core._store import Operation
    from mqtt_core.broker._channel import Channel
    from mqtt_core.broker._committing import Commitment
    from mqtt_core.broker._handover import Handover
    from mqtt_core.broker._shared import Member
    from mqtt_core.broker._subscribing import Granting
    from mqtt_core.broker._wills import DelayedWill


@final
class RetainedBurst:
    """Retained messages on their way to a new subscription, a page at a time."""

    __slots__ = (
        "topic_filter",
        "qos",
        "is_local",
        "particulars",
        "position",
        "is_reading",
        "room",
        "mark",
        "again",
    )

    def __init__(
        self, topic_filter: bytes, qos: int, is_local: bool, particulars: Particulars
    ) -> None:
        self.topic_filter: Final = topic_filter
        self.qos: Final = qos
        self.particulars: Final = particulars
        self.is_local: Final = is_local  # `$SYS` topics, which no engine knows
        self.position: object | None = None
        self.is_reading = False  # a page is under way
        self.room = 0  # places of the in-flight window that are kept for it
        self.mark = 0  # changes of retained messages before the page was asked for
        self.again: list[bytes] = []  # topics read for a client that had gone by then


@final
class GatedSend:
    """A QoS 2 PUBLISH or a PUBREL that goes out once what it rests on is stored."""

    __slots__ = ("packet_id", "is_ready", "was_parked", "retry")

    def __init__(self, packet_id: int) -> None:
        self.packet_id: Final = packet_id
        self.is_ready = False
        self.was_parked = False  # begun on an earlier connection
        self.retry: Operation | None = None  # refused; to be stored when the client is back


@final
class Session:
    """Subscriptions, delivery state and waiting messages of one client.

    It is attached while `channel` is there, and otherwise waits for its client if it is
    persistent. `key` names it in the storage engine and is 0 for one that is not persistent.
    """

    __slots__ = (
        "number",
        "key",
        "client_id",
        "username",
        "connect_number",
        "channel",
        "is_ended",
        "is_unrestricted",
        "subscriptions",
        "flow",
        "queue",
        "reserved",
        "resend",
        "bursts",
        "gate",
        "parked",
        "numbers",
        "unstored",
        "granting",
        "particulars",
        "optioned",
        "is_sharing",
        "aside",
        "handover",
        "verdicts",
        "expiry_s",
        "will",
        "expires_at",
        "deadline",
        "dropping",
    )

    def __init__(self, number: int, key: int, client_id: str) -> None:
        self.number: Final = number
        self.key: Final = key
        self.client_id: Final = client_id
        self.username: str | None = None
        self.connect_number = 0  # of the CONNECT that was last answered; they count up
        self.channel: Channel | None = None
        self.is_ended = False
        self.is_unrestricted = False
        self.subscriptions: Final[dict[bytes, Subscriber]] = {}
        self.flow: Flow | None = None
        self.queue: Queue | None = None
        self.reserved = 0  # places of the in-flight window kept for retained messages
        # Identifiers to be sent again, the next one last; of the order of a list, and quick to
        # lose the one that is acknowledged before its turn.
        self.resend: dict[int, None] | None = None
        self.bursts: dict[bytes, RetainedBurst] | None = None  # by topic filter, in order
        self.gate: deque[GatedSend] | None = None
        self.parked: dict[int, GatedSend] | None = None  # not in the gate before their turn
        self.numbers: dict[int, int] | None = None  # store numbers by packet identifier
        self.unstored: dict[int, Commitment] | None = None  # QoS 2 messages not stored yet
        self.granting: dict[bytes, Granting] | None = None  # subscriptions, by filter, likewise
        self.particulars: dict[int, Particulars] | None = None  # by packet identifier
        self.optioned = 0  # subscriptions with options, but for shared ones
        self.is_sharing = False  # it has, or has had, a shared subscription
        # Its places in groups that cannot take all just now, by what they can take and by filter.
        self.aside: list[dict[bytes, Member]] | None = None
        self.handover: Handover | None = None  # takes its shared messages to other members
        self.verdicts: dict[tuple[int, bytes], bool] | None = None
        self.expiry_s = 0  # how long it outlives its connection
        self.will: DelayedWill | None = None  # of its last connection
        self.expires_at = 0.0  # when it ends, in unix seconds; 0 while it is attached
        self.deadline: Deadline | None = None
        self.dropping = 0  # messages dropped in the present episode of a full queue

    def add_burst(self, burst: RetainedBurst) -> None:
        """Retained messages are to come for a subscription, behind those for others."""
        bursts = self.bursts
        if bursts is None:
            bursts = {}
            self.bursts = bursts
        bursts[burst.topic_filter] = burst

    def note_particulars(self, packet_id: int, particulars: Particulars) -> None:
        """Remember what a delivery has of its own, for as long as it is in flight."""
        known = self.particulars
        if known is None:
            known = {}
            self.particulars = known
        known[packet_id] = particulars

    def particulars_of(self, packet_id: int) -> Particulars | None:
        """What a delivery in flight has of its own."""
        known = self.particulars
        return None if known is None else known.get(packet_id)

    def forget_particulars(self, packet_id: int) -> None:
        """A delivery is done with."""
        known = self.particulars
        if known is not None:
            known.pop(packet_id, None)
            if not known:
                self.particulars = None

    @property
    def outlives_connection(self) -> bool:
        """Whether it stays when its connection ends."""
        return self.key != 0 and self.expiry_s > 0

    @property
    def has_will(self) -> bool:
        """Whether a will is stored for the session's connection, or for the one before."""
        channel = self.channel
        return self.will is not None or (channel is not None and channel.will is not None)

    @property
    def goes_direct(self) -> bool:
        """Whether a QoS 1 or 2 message can be sent at once, before no other that waits."""
        channel = self.channel
        if channel is None or not channel.accepts or self.resend is not None:
            return False
        queue = self.queue
        if queue is not None and queue.has_waiting:
            return False
        flow = self.flow
        return flow is None or flow.room(self.reserved) > 0

    @property
    def has_waiting(self) -> bool:
        """Whether anything waits to be sent as soon as there is room."""
        queue = self.queue
        return (
            (queue is not None and queue.count > 0)
            or self.bursts is not None
            or self.resend is not None
        )
