"""What a PUBLISH leads to in the store, and its acknowledgement, which rests on that (4.3).

The changes for one message go to the engine in one part, or in one for each turn of a wide
fan-out: a change is submitted in the turn in which a receiver's queue counts on it, so that the
engine sees numbers in their order and never an acknowledgement before its message. Where a crash
between two parts would do harm, they are parts of one change in the store, too. The publisher's
acknowledgement leaves when all parts are stored, in the order of the messages.

Where a part is refused, nobody gets the message for whom it would have had to be stored first; who
has got it, has. The publisher is told so (MQTT 5.0), or keeps the message: see `_refuse`.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from mqtt_core._codes import QUOTA_EXCEEDED, SUCCESS
from mqtt_core._message import Message
from mqtt_core._packets import Publish
from mqtt_core._store import (
    LAST,
    RETAINED_FULL,
    STORE_BROKEN,
    STORE_FULL,
    WHOLE,
    Completion,
    Done,
    Failed,
    Operation,
    SaveWill,
    Write,
)
from mqtt_core.broker._causes import FAULT, QUOTA, STORE_FAILED
from mqtt_core.broker._channel import CLOSE_NO, LAYOUT_3, Channel, GatedAck
from mqtt_core.broker._deadlines import Timed
from mqtt_core.broker._delivery import Delivery, Resting
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._refusals import note_refusal
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import Session
from mqtt_core.broker._workspace import Workspace

_AGAIN: Final = 1
_AGAIN_S: Final = 1.0


@final
class Commitment:
    """One message on its way into the store.

    `session` is the publisher's for QoS 2, where a repeat of the PUBLISH meets the commitment
    again; `waiters` are the acknowledgements that leave when all is stored.
    """

    __slots__ = (
        "message",
        "channel",
        "is_will",
        "session",
        "packet_id",
        "reason",
        "waiters",
        "outstanding",
        "is_complete",
        "failure",
        "told",
        "missed",
        "refused",
        "is_outdated",
        "stored_with",
    )

    def __init__(
        self,
        message: Message,
        channel: Channel | None,
        session: Session | None,
        packet_id: int,
        reason: int,
    ) -> None:
        self.message: Final = message
        self.channel = channel  # whose reading pauses when the store is behind
        self.is_will: Final = channel is None  # nobody but the broker has the message
        self.session: Final = session
        self.packet_id: Final = packet_id
        self.reason: Final = reason  # of the acknowledgements
        self.waiters: list[tuple[Channel, GatedAck]] = []
        self.outstanding = 0  # parts that have no answer yet
        self.is_complete = False  # no part will be added
        self.failure: Failed | None = None
        self.told: Channel | None = None  # whose acknowledgement says that it is refused
        self.missed: list[Resting] = []  # whose receivers have not got the message
        self.refused: list[Operation] = []
        self.is_outdated = False  # something newer is retained for its topic
        self.stored_with = ""  # the client with which the store still has it, for a will


@final
class Part(Pending):
    """One write of a commitment."""

    __slots__ = ("commitment", "resting", "others", "channel", "_committing")

    def __init__(
        self,
        committing: Committing,
        commitment: Commitment,
        resting: Resting | None,
        others: list[Operation],
    ) -> None:
        self.commitment: Final = commitment
        self.resting: Final = resting
        self.others: Final = others
        self.channel: Final = commitment.channel
        self._committing: Final = committing

    def done(self, completion: Completion) -> None:
        """It is stored."""
        self._committing.stored(self, completion)

    def failed(self, failure: Failed) -> None:
        """It is refused, and so is the message."""
        self._committing.not_stored(self, failure)


@final
class UnstoredWills(Timed):
    """Wills that the store has refused, within `total_will_bytes`: those for whom they would have
    to be stored get them once it takes them. The first is tried each second, then the others.

    Until then the store has a will as that of its client, if this has no newer one: so it is not
    lost with the process.
    """

    __slots__ = ("tried", "_ws", "_committing", "_waiting", "_size_bytes", "_retained")

    def __init__(self, workspace: Workspace, committing: Committing) -> None:
        self.tried: Commitment | None = None
        self._ws: Final = workspace
        self._committing: Final = committing
        self._waiting: Final[deque[Commitment]] = deque()
        self._size_bytes = 0  # of all of these
        # Those without an answer, too, by their topic: the newest that is to be retained there.
        self._retained: Final[dict[bytes, Commitment]] = {}

    def note_retained(self, commitment: Commitment) -> None:
        """A message is to be retained: no older one takes its place any more."""
        topic = commitment.message.topic.utf8
        older = self._retained.pop(topic, None)
        if older is not None:
            older.is_outdated = True
        if commitment.is_will:
            self._retained[topic] = commitment

    def over(self, commitment: Commitment) -> None:
        """A will is stored, or given up."""
        topic = commitment.message.topic.utf8
        if self._retained.get(topic) is commitment:
            del self._retained[topic]
        if commitment.stored_with:
            self._ws.refused_wills.append(commitment.stored_with)

    def keep(self, commitment: Commitment, failure: Failed) -> None:
        """One has been refused. What there is no room to retain is still for those who wait."""
        if failure.kind == RETAINED_FULL:
            commitment.refused.clear()
        if commitment is self.tried:
            self.tried = None
            self._waiting.appendleft(commitment)
            self._arm(_AGAIN_S)
            return
        size = commitment.message.size_bytes
        if self._size_bytes + size > self._ws.limits.total_will_bytes:
            self._ws.stats.refused_store_full += 1
            self.over(commitment)
            return
        self._size_bytes += size
        self._waiting.append(commitment)
        if len(self._waiting) == 1 and self.tried is None:
            self._arm(_AGAIN_S)

    def _arm(self, delay_s: float) -> None:
        self._ws.deadlines.arm(self._ws.now + delay_s, _AGAIN, self)

    def on_deadline(self, kind: int, now: float) -> None:
        """Try the first again."""
        self.tried = self._waiting.popleft()
        self._committing.try_again(self.tried)

    def go_on(self) -> None:
        """The one that was tried is stored: try the next at once."""
        assert self.tried is not None
        self._size_bytes -= self.tried.message.size_bytes
        self.tried = None
        if self._waiting:
            self._arm(0.0)


@final
class Committing:
    """Submits what messages lead to and acknowledges them."""

    __slots__ = ("_ws", "_delivery", "_sending", "_unstored", "_counted_at")

    def __init__(self, workspace: Workspace, delivery: Delivery, sending: Sending) -> None:
        self._ws: Final = workspace
        self._delivery: Final = delivery
        self._sending: Final = sending
        self._unstored: Final = UnstoredWills(workspace, self)
        self._counted_at = 0  # id of the newest write that told the number of retained messages

    def begin(
        self,
        message: Message,
        channel: Channel | None,
        packet: Publish | None,
        reason: int = SUCCESS,
    ) -> Commitment:
        """A message that may have something to be stored; to be acknowledged with `reason`."""
        session: Session | None = None
        packet_id = 0
        if channel is not None and packet is not None and message.qos == 2:
            session = channel.session
            packet_id = packet.packet_id
        commitment = Commitment(message, channel, session, packet_id, reason)
        if session is not None and not session.is_ended:
            if session.unstored is None:
                session.unstored = {}
            session.unstored[packet_id] = commitment
        if message.retain:
            self._unstored.note_retained(commitment)
        return commitment

    def add(
        self,
        commitment: Commitment,
        resting: Resting | None,
        others: list[Operation],
        part: int = WHOLE,
    ) -> None:
        """Submit a write, if there is anything in it, or if it is the last part of a change."""
        operations = others
        if resting is not None:
            operations = [*others, *resting.operations()]
        if not operations and part != LAST:
            return
        ws = self._ws
        commitment.outstanding += 1
        pending = Part(self, commitment, resting, others)
        level = self._level(commitment, resting)
        ws.submit(Write(ws.next_id(), operations, level, part), pending)
        if pending.channel is not None:
            ws.hold_back(pending.channel, commitment.message.size_bytes)

    def _level(self, commitment: Commitment, resting: Resting | None) -> int:
        """How durable a part must be: its publisher waits for it, and so do those who get it at
        QoS 2, to whom its packet identifier must not be given twice."""
        channel = commitment.channel
        level = self._ws.level if channel is None else channel.level
        if resting is not None:
            for session, _, _ in resting.gated:
                receiver = session.channel
                assert receiver is not None  # it was connected a moment ago
                level = max(level, receiver.level)
        return level

    def complete(self, commitment: Commitment, packet: Publish | None) -> None:
        """All parts have been added: acknowledge when they are stored."""
        commitment.is_complete = True
        channel = commitment.channel
        if channel is not None and packet is not None and packet.message.qos:
            if commitment.outstanding or commitment.failure is not None or commitment.waiters:
                self._wait(commitment, channel, packet)
            else:
                self.acknowledge(channel, packet, commitment.reason)
        self._settle(commitment)

    def repeat(self, commitment: Commitment, channel: Channel, packet: Publish) -> None:
        """A QoS 2 PUBLISH has come again before the first was stored, or after that failed."""
        self._wait(commitment, channel, packet)
        failure = commitment.failure
        if failure is None or commitment.outstanding or not commitment.is_complete:
            return
        if commitment.told is channel:  # its PUBREC is on its way
            self._settle(commitment)
            return
        commitment.channel = channel
        self.try_again(commitment)

    def try_again(self, commitment: Commitment) -> None:
        """Once more, for those that have not got the message."""
        commitment.failure = None
        missed = commitment.missed
        refused = [] if commitment.is_outdated else commitment.refused
        commitment.missed = []
        commitment.refused = []
        self.add(commitment, self._delivery.again(commitment.message, missed), refused)
        self._settle(commitment)

    def give_up(self, commitment: Commitment) -> None:
        """Nothing more will be added, though not all is there: a repeat is a new message, and who
        waits for an acknowledgement of this one has to send it again."""
        self._is_let_go(commitment)
        for channel, _ in commitment.waiters:
            self._ws.doomed.append((channel, FAULT))
        commitment.waiters.clear()

    def _wait(self, commitment: Commitment, channel: Channel, packet: Publish) -> None:
        if channel.close != CLOSE_NO:
            return
        # The client may have come back with another version since.
        reason = SUCCESS if channel.layout == LAYOUT_3 else commitment.reason
        ack = GatedAck(_ack(packet, reason), False)
        if channel.acks is None:
            channel.acks = deque()
        channel.acks.append(ack)
        commitment.waiters.append((channel, ack))

    def _settle(self, commitment: Commitment) -> None:
        """Acknowledge, or give up, once every part has its answer."""
        if commitment.outstanding or not commitment.is_complete:
            return
        waiters = commitment.waiters
        commitment.waiters = []
        failure = commitment.failure
        if failure is not None:
            for channel, ack in waiters:
                self._refuse(commitment, failure, channel, ack)
            if commitment.is_will:
                self._unstored.keep(commitment, failure)
            return
        if commitment.is_will:
            self._unstored.over(commitment)
        if commitment is self._unstored.tried:
            self._unstored.go_on()
        self._forget(commitment)
        for channel, ack in waiters:
            ack.is_ready = True
            self.send_acks(channel)

    def _refuse(
        self, commitment: Commitment, failure: Failed, channel: Channel, ack: GatedAck
    ) -> None:
        """Tell a publisher that there is no room for its message, where that can be told and is
        known for certain. Where it is not, the publisher keeps the message: without an
        acknowledgement it sends it again, which for QoS 2 goes on with the same exchange.

        [v3 MQTT-4.8.0-2]
        """
        if not failure.is_full or channel.layout == LAYOUT_3:
            self._ws.doomed.append((channel, QUOTA if failure.is_full else STORE_FAILED))
            return
        commitment.told = channel
        ack.data = bytes([ack.data[0], 3, *ack.data[2:4], QUOTA_EXCEEDED])
        ack.refused = commitment
        ack.is_ready = True
        self.send_acks(channel)

    def _is_let_go(self, commitment: Commitment) -> bool:
        """The identifier of a message that is refused is free for a new one. False if it was
        already.  [MQTT-4.3.3-9]"""
        session = commitment.session
        unstored = None if session is None else session.unstored
        if session is None or unstored is None:
            return False
        if unstored.get(commitment.packet_id) is not commitment:
            return False
        self._forget(commitment)
        flow = session.flow
        if flow is not None and flow.release(commitment.packet_id):
            self._ws.held_identifiers -= 1
        return True

    def _forget(self, commitment: Commitment) -> None:
        session = commitment.session
        if session is not None and session.unstored is not None:
            if session.unstored.get(commitment.packet_id) is commitment:
                del session.unstored[commitment.packet_id]
            if not session.unstored:
                session.unstored = None

    # Answers of the store

    def stored(self, part: Part, completion: Completion) -> None:
        """A part is stored: what rests on it may go on."""
        ws = self._ws
        commitment = part.commitment
        commitment.outstanding -= 1
        if isinstance(completion, Done) and completion.retained >= 0:
            self.note_retained_count(completion)
        resting = part.resting
        if resting is not None:
            for session, _, gated in resting.gated:
                gated.is_ready = True
                self._sending.open_gate(session)
            for session, _, _, _ in resting.stored:
                if session.channel is not None:
                    ws.mark_dirty(session.channel)
        self._settle(commitment)
        if part.channel is not None:
            ws.let_go(part.channel, commitment.message.size_bytes)

    def note_retained_count(self, done: Done) -> None:
        """A write has told how many retained messages there are."""
        if done.request_id > self._counted_at:  # completions come in any order
            self._counted_at = done.request_id
            self._ws.stats.retained_messages = done.retained

    def not_stored(self, part: Part, failure: Failed) -> None:
        """A part is refused.

        For QoS 2 the identifier stays held until the publisher is told so, and a repeat tries the
        change again for those that have not got the message, so that nobody gets it twice.
        """
        commitment = part.commitment
        commitment.outstanding -= 1
        self._note_failure(commitment, failure)
        for operation in part.others:
            if isinstance(operation, SaveWill):
                commitment.stored_with = operation.client_id
            else:
                commitment.refused.append(operation)
        if part.resting is not None:
            self._delivery.not_stored(part.resting)
            commitment.missed.append(part.resting)
        self._settle(commitment)
        if part.channel is not None:
            self._ws.let_go(part.channel, commitment.message.size_bytes)

    def _note_failure(self, commitment: Commitment, failure: Failed) -> None:
        ws = self._ws
        known = commitment.failure
        if failure.kind == RETAINED_FULL:
            ws.stats.dropped_retained_limit += 1
        elif failure.kind == STORE_FULL and known is None and not commitment.is_will:
            ws.stats.refused_store_full += 1  # once for each message
        if known is None or failure.kind == STORE_BROKEN:
            commitment.failure = failure  # of several, the one that leaves most in doubt
        name = commitment.message.topic.name
        note_refusal(ws, failure, commitment.channel, what=f"a message for {name!r}")

    # Acknowledgements

    def acknowledge(self, channel: Channel, packet: Publish, reason: int = SUCCESS) -> None:
        """Acknowledge by QoS, behind those that still wait.

        [v3 MQTT-3.3.4-1] [MQTT-3.3.4-1] [MQTT-3.4.2-1] [MQTT-3.5.2-1]
        """
        qos = packet.message.qos
        if qos == 0 or channel.close != CLOSE_NO:
            return
        ws = self._ws
        if channel.acks is not None:  # [v3 MQTT-4.6.0-2] [v3 MQTT-4.6.0-3]
            channel.acks.append(GatedAck(_ack(packet, reason), True))
            ws.pause_if_behind(channel)
            return
        if qos == 1:
            channel.exchange_ended()
            ws.answer(channel, 0x40, packet.packet_id, reason)
        else:
            ws.answer(channel, 0x50, packet.packet_id, reason)

    def send_acks(self, channel: Channel) -> None:
        """Send the acknowledgements whose turn has come."""
        acks = channel.acks
        if acks is None or channel.close != CLOSE_NO:
            return
        while acks and acks[0].is_ready:
            ack = acks.popleft()
            data = ack.data
            refused = ack.refused
            if data[0] == 0x40 or (refused is not None and self._is_let_go(refused)):
                channel.exchange_ended()
            self._ws.answer_with(channel, data)
        if not acks:
            channel.acks = None
        self._ws.resume_if_caught_up(channel)


def _ack(packet: Publish, reason: int) -> bytes:
    packet_id = packet.packet_id
    first = 0x40 if packet.message.qos == 1 else 0x50
    if reason:
        return bytes([first, 3, packet_id >> 8, packet_id & 0xFF, reason])
    return bytes([first, 2, packet_id >> 8, packet_id & 0xFF])
