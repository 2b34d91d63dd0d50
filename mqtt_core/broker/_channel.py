"""One client connection as its adapter sees it.

The adapter calls the drive verbs and looks at `wants_read`, `close` and `data_to_send`; the
rest is the broker's. A channel is half-connected until its CONNACK.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, final

from mqtt_core._connection import Connection
from mqtt_core._outbound_aliases import OutboundAliases
from mqtt_core._output import Output
from mqtt_core._packets import Packet, Will
from mqtt_core.broker._causes import OPEN
from mqtt_core.broker._deadlines import Deadline
from mqtt_core.broker._work import Work
from mqtt_core.broker._workspace import WAIT_NO

if TYPE_CHECKING:
    from mqtt_core.broker._attempt import Attempt
    from mqtt_core.broker._broker import Broker
    from mqtt_core.broker._committing import Commitment
    from mqtt_core.broker._exchanging import Authentication
    from mqtt_core.broker._inside import Inside
    from mqtt_core.broker._publishing import FanOut
    from mqtt_core.broker._session import Session

LAYOUT_3: Final = 0
LAYOUT_5: Final = 1
LAYOUT_5_OWN: Final = 2
"""How a channel's packets are laid out: as in MQTT 3.1.1, as in 5.0 and shared by all, or made
for this client alone, because it takes topic aliases or limits the size of packets."""

CLOSE_NO: Final = 0
CLOSE_AFTER_FLUSH: Final = 1
CLOSE_NOW: Final = 2


@final
class GatedAck:
    """An acknowledgement in its place in the order, until it may leave.

    `refused` is the message of which it says that the store has no room for it.
    """

    __slots__ = ("data", "is_ready", "refused")

    def __init__(self, data: bytes, is_ready: bool) -> None:
        self.data = data
        self.is_ready = is_ready
        self.refused: Commitment | None = None


@final
class Channel(Work):
    """A connection from accept to the end of its transport."""

    __slots__ = (
        "key",
        "listener",
        "peer",
        "level",
        "transport",
        "connection",
        "output",
        "session",
        "attempt",
        "authentication",
        "will",
        "layout",
        "aliases",
        "max_packet_bytes",
        "cause",
        "close",
        "wants_read",
        "accepts",
        "is_full",
        "is_writable",
        "is_dirty",
        "is_open",
        "is_over_limit",
        "inside",
        "is_suspect",
        "gone",
        "wait",
        "token",
        "held_packet",
        "verdicts",
        "asked",
        "fan_out",
        "acks",
        "unanswered",
        "uncommitted",
        "buffered",
        "unread_answers",
        "deadline",
        "send_deadline",
        "answer_deadline",
        "waits_since",
        "blocked_at",
        "linger_left",
        "_broker",
    )

    def __init__(
        self,
        broker: Broker,
        key: int,
        listener: str,
        peer: str,
        connection: Connection,
        linger_left: int,
        level: int,
    ) -> None:
        super().__init__()
        self._broker: Final = broker
        self.key: Final = key
        self.listener: Final = listener
        self.peer: Final = peer
        self.level: Final = level  # of what its client is answered
        self.connection: Final = connection
        self.output: Final[Output] = connection.output
        self.transport: object = None
        self.session: Session | None = None
        self.attempt: Attempt | None = None
        self.authentication: Authentication | None = None  # where CONNECT named a method
        self.will: Will | None = None
        self.layout = LAYOUT_3
        self.aliases: OutboundAliases | None = None
        self.max_packet_bytes = 0  # the client takes no larger ones; 0 for no limit
        self.cause = OPEN
        self.close = CLOSE_NO
        self.wants_read = True
        self.accepts = False  # messages go straight to the output: nothing waits before them
        self.is_full = False  # the output has reached its budget
        self.is_writable = True
        self.is_dirty = False
        self.is_open = True  # in the broker's table
        self.is_over_limit = False
        self.inside: Inside | None = None  # the client, where it is inside the program
        self.gone = OPEN  # why the transport is gone while input is still to be handled
        self.is_suspect = False  # its keep-alive is over, but for what has not been read yet
        self.wait = WAIT_NO
        self.token = 0
        self.held_packet: Packet | None = None
        self.verdicts: dict[tuple[int, bytes], bool] | None = None
        self.asked: tuple[int, bytes] | None = None
        self.fan_out: FanOut | None = None
        self.acks: deque[GatedAck] | None = None
        self.unanswered = 0  # messages begun in MQTT 5.0, whose exchange has not ended (4.9)
        self.uncommitted = 0
        self.unread_answers = 0  # bytes of answers behind a socket that takes nothing
        self.buffered = 0  # bytes of input counted in the total
        self.deadline: Deadline | None = None
        self.send_deadline: Deadline | None = None
        self.answer_deadline: Deadline | None = None
        self.waits_since = 0.0
        self.blocked_at = 0.0
        self.linger_left = linger_left

    @property
    def client_id(self) -> str:
        """The client identifier, empty before CONNECT."""
        session = self.session
        if session is not None:
            return session.client_id
        attempt = self.attempt
        return "" if attempt is None else attempt.client_id

    @property
    def has_input(self) -> bool:
        """Whether a packet, or a part of one, is still to be handled."""
        return (
            self.held_packet is not None
            or self.fan_out is not None
            or self.connection.buffer.has_unread
        )

    @property
    def has_room(self) -> bool:
        """Whether messages that wait may be written to the output."""
        return self.is_writable and not self.is_full and self.close == CLOSE_NO

    def exchange_ended(self) -> None:
        """A message of the client has got its last answer; it may have come on an earlier
        connection, where it was counted."""
        if self.unanswered:
            self.unanswered -= 1

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Bytes from the client. Never raises."""
        self._broker.receive(self, chunk, now)

    def eof(self, cause: int, now: float) -> None:
        """The transport is gone: `EOF_BY_PEER` or `TRANSPORT_ERROR`. Never raises."""
        self._broker.end_transport(self, cause, now)

    def set_writable(self, flag: bool, now: float) -> None:
        """The socket has stopped taking data (False), or goes on (True). A repeated False says
        that it has taken something meanwhile. Never raises."""
        self._broker.set_writable(self, flag, now)

    def data_to_send(self) -> bytes:
        """The next piece for the socket; empty when there is none, or the socket is full."""
        output = self.output
        if output.writer is None or not self.is_writable:
            return b""
        data = output.take()
        if output.is_empty:
            self._broker.drained(self)
        self._broker.stats.bytes_sent += len(data)
        return data

    def run(self) -> bool:
        """Go on with input that had to wait for its turn."""
        return self._broker.run_input(self)

    def on_deadline(self, kind: int, now: float) -> None:
        """A time limit of this connection has come."""
        self._broker.on_channel_deadline(self, kind, now)

    def __repr__(self) -> str:
        return f"Channel(#{self.key} {self.client_id!r} {self.peer})"
