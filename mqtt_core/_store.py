"""What must survive, as operations, and the requests and completions they travel in.

The broker never touches a disk: it hands requests to a storage engine and goes on. What rests
on a change (an acknowledgement, say) waits for its completion. The contract of an engine:

- `submit` takes requests in order and returns at once; `take_completions` gives what has been
  decided since, in any order, each request once.
- Operations take effect in the order submitted; a read sees every write submitted before it
  that has not failed.
- A `Write` takes effect as a whole or fails as a whole. It is done when it is as durable as its
  level asks for, or more so. One with request id 0 wants no completion, and its level says nothing.
- Any request may be refused with `Failed`.
- A change may take several writes: `FIRST`, any number of `MORE`, `LAST`. Others come between them,
  and each takes effect when it is submitted; but what is submitted from `FIRST` on becomes durable
  with `LAST`, not before, so that a crash leaves the change whole or not at all. For a limit only
  `FIRST` is refused, and then the parts behind it are, too. One such change is open at a time.

A broker that starts reads back what there is, before its first client: `ReadSessions`, then
`ReadWills`. Nothing else is asked for until that is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, final

from mypy_extensions import mypyc_attr

from mqtt_core._levels import LEVEL_FSYNC
from mqtt_core._message import Message
from mqtt_core._packets import Will
from mqtt_core._particulars import Options, Particulars

# Operations: what changes. What is made for each message can be part of no cycle, so that the
# garbage collector need not look at it.


@mypyc_attr(acyclic=True)
class Operation:
    """One change to what must survive."""


@final
class SaveSession(Operation):
    """A persistent session exists from now on, known to the engine by `session`."""

    def __init__(self, session: int, client_id: str) -> None:
        self.session: Final = session
        self.client_id: Final = client_id


@final
class EndSession(Operation):
    """A session is over, with all that belongs to it."""

    def __init__(self, session: int) -> None:
        self.session: Final = session


@final
class RetireSession(Operation):
    """A session is over for its client, which cannot claim it any more. Its queue is still there
    to be read and settled, until `EndSession` follows; after a restart nobody does that, and it is
    over as well."""

    def __init__(self, session: int) -> None:
        self.session: Final = session


@final
class SaveExpiry(Operation):
    """When a detached session ends, in unix seconds; None while it is attached.

    `interval_s` is how long it outlives the connection that it has, or had last: where that is cut
    by a crash, nobody else would know.
    """

    def __init__(self, session: int, at: float | None, interval_s: int) -> None:
        self.session: Final = session
        self.at: Final = at
        self.interval_s: Final = interval_s


@final
class SaveWill(Operation):
    """The will of the connection of a client; None once it is published or taken back.

    `due` says when it is to be published, in unix seconds, once the connection has ended; 0 until
    then.
    """

    def __init__(self, client_id: str, will: Will | None, due: float = 0.0) -> None:
        self.client_id: Final = client_id
        self.will: Final = will
        self.due: Final = due


@final
class SaveSubscription(Operation):
    """A subscription, new or replaced. `retained_due`: retained messages are still to be sent for
    it."""

    def __init__(
        self,
        session: int,
        topic_filter: bytes,
        qos: int,
        options: Options | None = None,
        retained_due: bool = False,
    ) -> None:
        self.session: Final = session
        self.topic_filter: Final = topic_filter
        self.qos: Final = qos
        self.options: Final = options
        self.retained_due: Final = retained_due


@final
class DeleteSubscription(Operation):
    """A subscription is over."""

    def __init__(self, session: int, topic_filter: bytes) -> None:
        self.session: Final = session
        self.topic_filter: Final = topic_filter


@final
@mypyc_attr(acyclic=True)
class Target:
    """For whom a message is: a session, at a QoS; in flight already where it has an identifier."""

    __slots__ = ("session", "qos", "packet_id", "particulars")

    def __init__(
        self, session: int, qos: int, packet_id: int = 0, particulars: Particulars | None = None
    ) -> None:
        self.session: Final = session
        self.qos: Final = qos
        self.packet_id: Final = packet_id
        self.particulars: Final = particulars


@final
@mypyc_attr(acyclic=True)
class Append(Operation):
    """A message for the queues of some sessions. Numbers grow with each message."""

    def __init__(self, number: int, message: Message, targets: list[Target]) -> None:
        self.number: Final = number
        self.message: Final = message
        self.targets: Final = targets


@final
@mypyc_attr(acyclic=True)
class SaveSent(Operation):
    """A queued message has gone out, or will, with this packet identifier."""

    def __init__(self, session: int, number: int, packet_id: int) -> None:
        self.session: Final = session
        self.number: Final = number
        self.packet_id: Final = packet_id


@final
@mypyc_attr(acyclic=True)
class SaveReceived(Operation):
    """PUBREC has come for a message: its PUBLISH is never sent again."""

    def __init__(self, session: int, number: int) -> None:
        self.session: Final = session
        self.number: Final = number


@final
@mypyc_attr(acyclic=True)
class Settle(Operation):
    """A message is done with for one session: acknowledged, or dropped."""

    def __init__(self, session: int, number: int) -> None:
        self.session: Final = session
        self.number: Final = number


@final
@mypyc_attr(acyclic=True)
class HoldIdentifier(Operation):
    """A QoS 2 message of this client has been taken over; a repeat is not a new one."""

    def __init__(self, session: int, packet_id: int) -> None:
        self.session: Final = session
        self.packet_id: Final = packet_id


@final
@mypyc_attr(acyclic=True)
class ReleaseIdentifier(Operation):
    """PUBREL has come: the identifier is free for a new message."""

    def __init__(self, session: int, packet_id: int) -> None:
        self.session: Final = session
        self.packet_id: Final = packet_id


@final
class PutRetained(Operation):
    """The retained message of its topic, from now on."""

    def __init__(self, message: Message) -> None:
        self.message: Final = message


@final
class DeleteRetained(Operation):
    """The topic has no retained message any more."""

    def __init__(self, topic: bytes) -> None:
        self.topic: Final = topic


@final
class DropExpired(Operation):
    """Forget the retained messages that have expired by `now`, in unix seconds."""

    def __init__(self, now: float) -> None:
        self.now: Final = now


# Why a request is refused.

STORE_BROKEN: Final = 0
STORE_FULL: Final = 1
RETAINED_FULL: Final = 2
"""It could not be done; there is no room in the store; there is none for retained messages."""


# Requests, and what completes them.


@mypyc_attr(acyclic=True)
class Request:
    """Something asked of an engine; its id is that of the completion."""

    def __init__(self, request_id: int) -> None:
        self.request_id: Final = request_id


WHOLE: Final = 0
"""A write that is a change of its own."""
FIRST: Final = 1
"""The first part of a change that takes several writes."""
MORE: Final = 2
"""A part in the middle."""
LAST: Final = 3
"""The last part, with which the change becomes durable."""


@final
@mypyc_attr(acyclic=True)
class Write(Request):
    """Operations that take effect together; `Done` once they are as durable as `level` says.

    `part` says whether they are a change of their own, or which part of one that takes several
    writes and becomes durable as a whole.
    """

    def __init__(
        self,
        request_id: int,
        operations: list[Operation],
        level: int = LEVEL_FSYNC,
        part: int = WHOLE,
    ) -> None:
        super().__init__(request_id)
        self.operations: Final = operations
        self.level: Final = level
        self.part: Final = part


@final
class ClaimSession(Request):
    """This broker serves the client from now on; completed by `Claimed`.

    `known` is the session of the client that the broker has already, 0 for none: of that one the
    record may come without what belongs to it.
    """

    def __init__(self, request_id: int, client_id: str, known: int = 0) -> None:
        super().__init__(request_id)
        self.client_id: Final = client_id
        self.known: Final = known


@final
class ReadSessions(Request):
    """The stored sessions behind number `after`; completed by `SessionsPage`.

    `limit` counts sessions together with all that is in their records. At least one is returned
    if there is any.
    """

    def __init__(self, request_id: int, after: int, limit: int) -> None:
        super().__init__(request_id)
        self.after: Final = after
        self.limit: Final = limit


@final
class ReadWills(Request):
    """At most `limit` stored wills, those behind the client `after`; completed by `WillsPage`."""

    def __init__(self, request_id: int, after: str, limit: int) -> None:
        super().__init__(request_id)
        self.after: Final = after
        self.limit: Final = limit


@final
class ReadQueue(Request):
    """The next messages of a session's queue behind number `after`; completed by `QueuePage`.

    Messages in flight are not part of it. At least one is returned if there is any.
    """

    def __init__(
        self, request_id: int, session: int, after: int, limit: int, limit_bytes: int
    ) -> None:
        super().__init__(request_id)
        self.session: Final = session
        self.after: Final = after
        self.limit: Final = limit
        self.limit_bytes: Final = limit_bytes


@final
class MatchRetained(Request):
    """Retained messages that match a filter; completed by `RetainedPage`.

    `position` is that of the page before, None for the first. It is the engine's own.
    """

    def __init__(
        self,
        request_id: int,
        topic_filter: bytes,
        position: object | None,
        limit: int,
        limit_bytes: int,
    ) -> None:
        super().__init__(request_id)
        self.topic_filter: Final = topic_filter
        self.position: Final = position
        self.limit: Final = limit
        self.limit_bytes: Final = limit_bytes


@mypyc_attr(acyclic=True)
class Completion:
    """What became of a request."""

    def __init__(self, request_id: int) -> None:
        self.request_id: Final = request_id


@final
@mypyc_attr(acyclic=True)
class Done(Completion):
    """The write is at least as durable as its level asks for.

    `retained` is the number of retained messages, -1 where the engine does not say.
    """

    def __init__(self, request_id: int, retained: int = -1) -> None:
        super().__init__(request_id)
        self.retained: Final = retained


@final
@mypyc_attr(acyclic=True)
class Failed(Completion):
    """The request was refused and has no effect; it may have one after a crash if the store is
    broken. `kind` is `STORE_BROKEN`, `STORE_FULL` or `RETAINED_FULL`, `reason` for people.
    """

    def __init__(self, request_id: int, reason: str, kind: int = STORE_BROKEN) -> None:
        super().__init__(request_id)
        self.reason: Final = reason
        self.kind: Final = kind

    @property
    def is_full(self) -> bool:
        """Whether there is no room; for certain nothing of it is stored then."""
        return self.kind != STORE_BROKEN


@final
class InFlight:
    """A stored handshake: what was sent with an identifier, and whether PUBREC has come.

    The message of one that has got PUBREC is never sent again: it may be None.
    """

    __slots__ = ("packet_id", "number", "qos", "message", "particulars", "is_received")

    def __init__(
        self,
        packet_id: int,
        number: int,
        qos: int,
        message: Message | None,
        particulars: Particulars | None,
        is_received: bool,
    ) -> None:
        self.packet_id: Final = packet_id
        self.number: Final = number
        self.qos: Final = qos
        self.message: Final = message
        self.particulars: Final = particulars
        self.is_received: Final = is_received


@final
class SessionRecord:
    """A stored session as a claim finds it, or a broker that starts.

    `subscriptions` has QoS and options by filter, `retained_due` the filters for which retained
    messages are still to be sent, `held` the identifiers of QoS 2 messages that
    wait for PUBREL. `in_flight` stands in the order in which PUBLISH was sent or PUBREC has come,
    whichever was last for each. `queued` has what waits, in the order of numbers: number, size
    (`Message.size_bytes`), and when it expires in unix seconds, 0 for never. `expires_at` and
    `interval_s` are those of the last `SaveExpiry`.
    """

    def __init__(
        self,
        session: int,
        client_id: str,
        subscriptions: dict[bytes, tuple[int, Options | None]],
        in_flight: list[InFlight],
        held: set[int],
        queued: list[tuple[int, int, float]],
        expires_at: float | None = None,
        interval_s: int = 0,
        retained_due: set[bytes] | None = None,
    ) -> None:
        self.session: Final = session
        self.client_id: Final = client_id
        self.subscriptions: Final = subscriptions
        self.in_flight: Final = in_flight
        self.held: Final = held
        self.queued: Final = queued
        self.expires_at: Final = expires_at
        self.interval_s: Final = interval_s
        self.retained_due: Final = retained_due


@final
class Claimed(Completion):
    """The claim stands; `record` is the stored session, None where there is none."""

    def __init__(self, request_id: int, record: SessionRecord | None) -> None:
        super().__init__(request_id)
        self.record: Final = record


@final
class SessionsPage(Completion):
    """Stored sessions in the order of their numbers, but for those that have been retired; none
    where there are no more."""

    def __init__(self, request_id: int, records: list[SessionRecord]) -> None:
        super().__init__(request_id)
        self.records: Final = records


@final
class StoredWill:
    """A will as the last `SaveWill` of its client has it."""

    __slots__ = ("client_id", "will", "due")

    def __init__(self, client_id: str, will: Will, due: float) -> None:
        self.client_id: Final = client_id
        self.will: Final = will
        self.due: Final = due


@final
class WillsPage(Completion):
    """Stored wills in an order of clients that is the engine's own, and stays the same; none
    where there are no more."""

    def __init__(self, request_id: int, wills: list[StoredWill]) -> None:
        super().__init__(request_id)
        self.wills: Final = wills


@final
@mypyc_attr(acyclic=True)
class Queued:
    """One entry of a session's queue."""

    __slots__ = ("number", "qos", "message", "particulars")

    def __init__(
        self, number: int, qos: int, message: Message, particulars: Particulars | None = None
    ) -> None:
        self.number: Final = number
        self.qos: Final = qos
        self.message: Final = message
        self.particulars: Final = particulars


@final
class QueuePage(Completion):
    """Messages in the order of their numbers; none where the queue has no more."""

    def __init__(self, request_id: int, entries: list[Queued]) -> None:
        super().__init__(request_id)
        self.entries: Final = entries


@final
class RetainedPage(Completion):
    """Retained messages; `position` is None behind the last."""

    def __init__(self, request_id: int, messages: list[Message], position: object | None) -> None:
        super().__init__(request_id)
        self.messages: Final = messages
        self.position: Final = position


class Engine(Protocol):
    """A storage engine.

    The server that it is given to starts it, and closes it when all is over. All other methods are
    called on the thread of that server's loop, between the two, and never block.
    """

    @property
    def last_number(self) -> int:
        """The greatest number of a message or session that it has ever seen, 0 for none, as far as
        any of them may still be there; a broker that is made for it goes on from there. Known
        before `start`."""
        ...

    @property
    def level(self) -> int:
        """How durable it makes what no client waits for, and what it is asked by clients of a
        listener without a level of its own. Known before `start`."""
        ...

    @property
    def index_bytes(self) -> int | None:
        """What a message that waits takes in the memory of the engine, in bytes, where its content
        is elsewhere, on a disk say; None where its content is in memory too. The broker counts it
        for each session that the message is for, within `total_queued_bytes`."""
        ...

    def start(self, on_answers: Callable[[], None]) -> None:
        """A broker begins to work with what is stored; sessions that were retired are over.

        `on_answers` is called, from any thread, when there are completions to take. An engine
        whose completions are there when `submit` returns need not call it. Raises nothing: what
        is wrong is said by `Failed`.
        """
        ...

    def submit(self, request: Request) -> None:
        """Take a request; nothing it leads to happens within this call."""
        ...

    def take_completions(self) -> list[Completion]:
        """What has been decided since the last call."""
        ...

    def close(self) -> None:
        """Store what has been submitted, and let go of everything. Blocks as long as that takes:
        a server calls it on a thread of its own, once. Raises `OSError` where something that was
        submitted could not be stored; all is let go of then, too."""
        ...
