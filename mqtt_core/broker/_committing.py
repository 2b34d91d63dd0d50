"""What a PUBLISH leads to in the store, and its acknowledgement, which rests on that (4.3).

The changes for one message go to the engine in one part, or in one for each turn of a wide
fan-out: a change is submitted in the turn in which a receiver's queue counts on it, so that the
engine sees numbers in their order and never an acknowledgement before its message. The
publisher's acknowledgement leaves when all parts are stored, in the order of the messages.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from mqtt_core._codes import SUCCESS
from mqtt_core._message import Message
from mqtt_core._packets import Publish
from mqtt_core.broker._causes import QUOTA, STORE_FAILED
from mqtt_core.broker._channel import CLOSE_NO, LAYOUT_3, Channel, GatedAck
from mqtt_core.broker._delivery import Delivery, Resting
from mqtt_core.broker._facts import FACT_ERROR, FACT_WARNING
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import Session
from mqtt_core.broker._store import Completion, Done, Failed, Operation, Write
from mqtt_core.broker._workspace import Workspace

_QUOTA_EPISODE_S: Final = 60.0


@final
class Commitment:
    """One message on its way into the store.

    `session` is the publisher's for QoS 2, where a repeat of the PUBLISH meets the commitment
    again; `waiters` are the acknowledgements that leave when all is stored.
    """

    __slots__ = (
        "message",
        "channel",
        "session",
        "packet_id",
        "reason",
        "waiters",
        "outstanding",
        "is_complete",
        "has_failed",
        "is_quota",
        "missed",
        "refused",
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
        self.session: Final = session
        self.packet_id: Final = packet_id
        self.reason: Final = reason  # of the acknowledgements
        self.waiters: list[tuple[Channel, GatedAck]] = []
        self.outstanding = 0  # parts that have no answer yet
        self.is_complete = False  # no part will be added
        self.has_failed = False
        self.is_quota = False
        self.missed: list[Resting] = []  # whose receivers have not got the message
        self.refused: list[Operation] = []


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
        """It is refused: no acknowledgement, and the publisher is closed.  [v3 MQTT-4.8.0-2]"""
        self._committing.not_stored(self, failure)


@final
class Committing:
    """Submits what messages lead to and acknowledges them."""

    __slots__ = ("_ws", "_delivery", "_sending", "_counted_at", "_told_quota_at")

    def __init__(self, workspace: Workspace, delivery: Delivery, sending: Sending) -> None:
        self._ws: Final = workspace
        self._delivery: Final = delivery
        self._sending: Final = sending
        self._counted_at = 0  # id of the newest write that told the number of retained messages
        self._told_quota_at = -_QUOTA_EPISODE_S

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
        return commitment

    def add(self, commitment: Commitment, resting: Resting | None, others: list[Operation]) -> None:
        """Submit a part, if there is anything in it."""
        operations = others
        if resting is not None:
            operations = [*others, *resting.operations()]
        if not operations:
            return
        ws = self._ws
        commitment.outstanding += 1
        part = Part(self, commitment, resting, others)
        ws.submit(Write(ws.next_id(), operations), part)
        if part.channel is not None:
            ws.hold_back(part.channel, commitment.message.size_bytes)

    def complete(self, commitment: Commitment, packet: Publish | None) -> None:
        """All parts have been added: acknowledge when they are stored."""
        commitment.is_complete = True
        channel = commitment.channel
        if channel is not None and packet is not None and packet.message.qos:
            if commitment.outstanding or commitment.has_failed or commitment.waiters:
                self._wait(commitment, channel, packet)
            else:
                self.acknowledge(channel, packet, commitment.reason)
        self._settle(commitment)

    def repeat(self, commitment: Commitment, channel: Channel, packet: Publish) -> None:
        """A QoS 2 PUBLISH has come again before the first was stored, or after that failed."""
        self._wait(commitment, channel, packet)
        if not (commitment.is_complete and commitment.has_failed) or commitment.outstanding:
            return
        commitment.channel = channel
        commitment.has_failed = False
        missed = commitment.missed
        refused = commitment.refused
        commitment.missed = []
        commitment.refused = []
        for resting in missed:
            self.add(commitment, self._delivery.again(resting), [])
        self.add(commitment, None, refused)
        self._settle(commitment)

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
        if commitment.has_failed:
            cause = QUOTA if commitment.is_quota else STORE_FAILED
            for channel, _ in waiters:
                self._ws.doomed.append((channel, cause))
            return
        self._forget(commitment)
        for channel, ack in waiters:
            ack.is_ready = True
            self.send_acks(channel)

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

        For QoS 2 the identifier stays held, and a repeat tries the change again for those that
        have not got the message, so that nobody gets it twice.
        """
        commitment = part.commitment
        commitment.outstanding -= 1
        commitment.has_failed = True
        commitment.is_quota = failure.is_quota
        commitment.refused.extend(part.others)
        self._tell_refusal(commitment, failure)
        if part.resting is not None:
            self._delivery.not_stored(part.resting)
            commitment.missed.append(part.resting)
        self._settle(commitment)
        if part.channel is not None:
            self._ws.let_go(part.channel, commitment.message.size_bytes)

    def _tell_refusal(self, commitment: Commitment, failure: Failed) -> None:
        """A full retained store is told once for each episode, anything else each time."""
        ws = self._ws
        if not failure.is_quota:
            ws.stats.store_failures += 1
            ws.tell("store.failed", commitment.channel, severity=FACT_ERROR, detail=failure.reason)
            return
        ws.stats.dropped_retained_limit += 1
        if ws.now >= self._told_quota_at + _QUOTA_EPISODE_S:
            name = commitment.message.topic.name
            ws.tell(
                "retained.limit",
                commitment.channel,
                severity=FACT_WARNING,
                detail=f"{failure.reason}: {name!r} is not retained; see "
                "retained_message_limit and retained_bytes_limit",
            )
            self._told_quota_at = ws.now

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
            data = acks.popleft().data
            if data[0] == 0x40:
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
