"""From a PUBLISH to its receivers and back to its acknowledgement (4.3).

A message goes to its receivers when it arrives; a wide fan-out is done in turns, and its
publisher is not read meanwhile. The acknowledgement leaves when all that must be stored is, in
the order in which the messages came.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from mqtt_core._codes import RECEIVE_MAXIMUM_EXCEEDED, TOPIC_NAME_INVALID
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._message import Message
from mqtt_core._packets import Publish, Will
from mqtt_core.broker._auth import ASK, DENY, PUBLISH_ACTION
from mqtt_core.broker._authorizing import Authorizer
from mqtt_core.broker._causes import QUOTA, STORE_FAILED, UNAUTHORIZED
from mqtt_core.broker._channel import CLOSE_NO, Channel, GatedAck
from mqtt_core.broker._delivery import Delivery, Resting
from mqtt_core.broker._facts import FACT_ERROR, FACT_WARNING
from mqtt_core.broker._limits import ACKNOWLEDGE, REFUSE
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._router import Subscriber, Subscribers
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import Session
from mqtt_core.broker._store import (
    Completion,
    DeleteRetained,
    Done,
    Failed,
    HoldIdentifier,
    Operation,
    PutRetained,
    Write,
)
from mqtt_core.broker._work import Work
from mqtt_core.broker._workspace import WAIT_FAN_OUT, WAIT_NO, Workspace

_NARROW: Final = 64  # receivers of a message that is never put off
_QUOTA_EPISODE_S: Final = 60.0


@final
class FanOut(Work):
    """A message on its way to many receivers, a part of them in each turn."""

    __slots__ = (
        "message",
        "channel",
        "packet",
        "resting",
        "then",
        "_publishing",
        "_lists",
        "_granted",
        "_list_at",
        "_at",
        "_seen",
    )

    def __init__(
        self,
        publishing: Publishing,
        message: Message,
        found: list[Subscribers],
        channel: Channel | None,
        packet: Publish | None,
    ) -> None:
        super().__init__()
        self.message: Final = message
        self.channel: Final = channel  # whose input waits for the end, None for a will
        self.packet: Final = packet
        self.resting: Resting | None = None
        self.then: Will | None = None  # published behind this one
        self._publishing: Final = publishing
        self._lists: Final[list[list[Subscriber]]] = []
        self._granted: Final[list[int]] = []
        for qos in (2, 1, 0):  # the highest first, which `seen` relies on
            for subscribers in found:
                subscribers.share()
                part = subscribers.at_qos(qos)
                if part is not None:
                    self._lists.append(part)
                    self._granted.append(qos)
        self._list_at = 0
        self._at = 0
        self._seen: set[int] | None = set() if len(found) > 1 else None

    def run(self) -> bool:
        """Deliver to the next receivers; True when all have it."""
        return self._publishing.go_on(self)

    def deliver_some(self, delivery: Delivery, count: int) -> bool:
        """Deliver to at most `count` receivers; True when all have it."""
        delivery.resting = self.resting
        while self._list_at < len(self._lists) and count > 0:
            subscribers = self._lists[self._list_at]
            stop = min(len(subscribers), self._at + count)
            granted = self._granted[self._list_at]
            delivery.to_subscribers(subscribers, self._at, stop, self.message, granted, self._seen)
            count -= stop - self._at
            self._at = stop
            if stop == len(subscribers):
                self._list_at += 1
                self._at = 0
        self.resting = delivery.resting
        delivery.resting = None
        return self._list_at >= len(self._lists)


@final
class PublishWrite(Pending):
    """Goes on with a PUBLISH when what its acknowledgement rests on is stored."""

    __slots__ = (
        "message",
        "resting",
        "others",
        "channel",
        "session",
        "packet_id",
        "waiters",
        "is_failed",
        "size_bytes",
        "_publishing",
    )

    def __init__(
        self,
        publishing: Publishing,
        message: Message,
        resting: Resting | None,
        others: list[Operation],
        channel: Channel | None,
        session: Session | None,
        packet_id: int,
    ) -> None:
        self.message: Final = message
        self.resting = resting
        self.others: Final = others  # changes beside those for the receivers
        self.channel = channel  # whose reading pauses when the store is behind
        self.session: Final = session  # the publisher's, for QoS 2
        self.packet_id: Final = packet_id
        self.waiters: list[tuple[Channel, GatedAck]] = []
        self.is_failed = False
        self.size_bytes: Final = message.size_bytes
        self._publishing: Final = publishing

    def done(self, completion: Completion) -> None:
        """Acknowledge it."""
        self._publishing.stored(self, completion)

    def failed(self, failure: Failed) -> None:
        """Do not acknowledge it, and close the publisher.  [v3 MQTT-4.8.0-2]"""
        self._publishing.not_stored(self, failure)


@final
class Publishing:
    """Takes messages from publishers."""

    __slots__ = (
        "_ws",
        "_delivery",
        "_sending",
        "_authorizer",
        "_refuses",
        "_flush_at",
        "_counted_at",
        "_told_quota_at",
    )

    def __init__(
        self,
        workspace: Workspace,
        delivery: Delivery,
        sending: Sending,
        authorizer: Authorizer,
    ) -> None:
        self._ws: Final = workspace
        self._sending: Final = sending
        self._counted_at = 0  # id of the newest write that told the number of retained messages
        self._told_quota_at = -_QUOTA_EPISODE_S
        self._delivery: Final = delivery
        self._authorizer: Final = authorizer
        self._refuses: Final = workspace.limits.queue_full_policy == REFUSE
        self._flush_at: Final = workspace.limits.turn_output_bytes

    # From a client

    def accept(self, channel: Channel, session: Session, packet: Publish) -> bool:
        """Take a PUBLISH; False when it must wait for a verdict first."""
        message = packet.message
        utf8 = message.topic.utf8
        is_allowed = True
        if not session.is_unrestricted:
            verdict = self._authorizer.check(channel, session, PUBLISH_ACTION, utf8)
            if verdict == ASK:
                return False
            is_allowed = verdict != DENY
        self._ws.stats.publishes_received += 1
        if utf8[0] == 0x24 and (utf8 == b"$SYS" or utf8.startswith(b"$SYS/")):
            is_allowed = False  # read-only to clients
        if message.topic.route is None:
            self.check_levels(utf8, "topic name")
        if message.qos == 2 and not self._hold(channel, session, packet):
            return True
        if is_allowed:
            self._route(message, channel, packet)
        else:
            self._refuse(channel, packet)
        return True

    def check_levels(self, utf8: bytes, name: str) -> None:
        """Raise `RemoteProtocolError` for a topic with more levels than are served."""
        limit = self._ws.limits.max_topic_levels
        if utf8.count(b"/") >= limit:
            raise RemoteProtocolError(
                f"{name} has more than {limit} levels", reason=TOPIC_NAME_INVALID
            )

    def _refuse(self, channel: Channel, packet: Publish) -> None:
        """Not authorized: acknowledged and dropped, or closed.  [v3 MQTT-3.3.5-2]"""
        self._ws.stats.dropped_unauthorized += 1
        if self._ws.limits.unauthorized_publish == ACKNOWLEDGE:
            self._acknowledge(channel, packet)
        else:
            self._ws.doomed.append((channel, UNAUTHORIZED))

    def _hold(self, channel: Channel, session: Session, packet: Publish) -> bool:
        """Note a QoS 2 identifier; False for a repeat, which is only acknowledged again.

        [v3 MQTT-4.3.3-2]
        """
        flow = session.flow
        if flow is None:
            flow = self._ws.new_flow()
            session.flow = flow
        packet_id = packet.packet_id
        held = flow.held
        if held is None or packet_id not in held:
            limits = self._ws.limits
            if (
                self._ws.held_identifiers >= limits.total_held_identifiers
                or flow.held_count >= limits.max_held_identifiers
            ):
                raise RemoteProtocolError(
                    "too many QoS 2 messages without PUBREL", reason=RECEIVE_MAXIMUM_EXCEEDED
                )
            flow.hold(packet_id)
            self._ws.held_identifiers += 1
            return True
        unstored = session.unstored
        write = None if unstored is None else unstored.get(packet_id)
        if write is None:
            self._acknowledge(channel, packet)
            return False
        write.waiters.append((channel, self._gate(channel, packet)))
        if write.channel is None:
            write.channel = channel
        if write.is_failed:  # try again what the store has refused
            write.is_failed = False
            if write.resting is not None:
                write.resting = self._delivery.again(write.resting)
            self._submit(write)
        return False

    def _route(self, message: Message, channel: Channel | None, packet: Publish | None) -> None:
        """Deliver now, or make it a piece of work when it is too wide for this turn."""
        ws = self._ws
        if message.retain:
            ws.note_retained_change(message.topic.utf8)
        found = ws.router.route(message.topic).found
        count = len(found)
        width = 0
        for subscribers in found:
            width += subscribers.count
        if width:
            if self._refuses and self._is_refused(message, found):
                self._quota(channel, packet)
                return
            ws.allowance -= width
            if width > _NARROW:
                if ws.allowance < 0 or ws.unflushed > self._flush_at:
                    self._fan_out(FanOut(self, message, found, channel, packet))
                    return
                ws.is_bulk = True
            if count == 1:
                self._deliver_one(found[0], message)
            else:
                self._deliver_overlapping(found, message)
            ws.is_bulk = False
        resting = self._delivery.resting
        if resting is None and not message.retain and message.qos < 2:
            if message.qos and channel is not None and packet is not None:
                self._acknowledge(channel, packet)
            return
        self._delivery.resting = None
        self._finish(message, channel, packet, resting)

    def _deliver_one(self, subscribers: Subscribers, message: Message) -> None:
        """Deliver to the subscriptions of one filter."""
        delivery = self._delivery
        for qos in (2, 1, 0):
            part = subscribers.at_qos(qos)
            if part is not None:
                delivery.to_subscribers(part, 0, len(part), message, qos, None)

    def _deliver_overlapping(self, found: list[Subscribers], message: Message) -> None:
        """Deliver to the subscriptions of several filters, the highest QoS first."""
        delivery = self._delivery
        seen: set[int] = set()
        for qos in (2, 1, 0):
            for subscribers in found:
                part = subscribers.at_qos(qos)
                if part is not None:
                    delivery.to_subscribers(part, 0, len(part), message, qos, seen)

    def _is_refused(self, message: Message, found: list[Subscribers]) -> bool:
        """Whether any receiver's queue is full, so that the message is for nobody."""
        if message.qos == 0:
            return False
        for subscribers in found:
            for qos in (1, 2):
                part = subscribers.at_qos(qos)
                if part is not None:
                    for subscriber in part:
                        if self._delivery.would_refuse(subscriber.session, message):
                            return True
        return False

    def _quota(self, channel: Channel | None, packet: Publish | None) -> None:
        self._ws.stats.refused_queue_full += 1
        if channel is None or packet is None:
            return
        self._ws.doomed.append((channel, QUOTA))
        session = channel.session
        if session is not None and session.flow is not None:
            # Nobody has it: a repeat is a new message.
            if session.flow.release(packet.packet_id):
                self._ws.held_identifiers -= 1

    # Wide fan-outs

    def _fan_out(self, fan_out: FanOut) -> None:
        channel = fan_out.channel
        if channel is not None:
            channel.fan_out = fan_out
            channel.wait = WAIT_FAN_OUT
        self._ws.queue_work(fan_out)

    def go_on(self, fan_out: FanOut) -> bool:
        """One turn of a wide fan-out; True when it is done."""
        ws = self._ws
        if ws.unflushed > self._flush_at:
            return False
        ws.is_bulk = True
        is_done = fan_out.deliver_some(self._delivery, ws.allowance)
        ws.is_bulk = False
        if not is_done:
            return False
        channel = fan_out.channel
        self._finish(fan_out.message, channel, fan_out.packet, fan_out.resting)
        if channel is not None:
            channel.fan_out = None
            if channel.wait == WAIT_FAN_OUT:
                channel.wait = WAIT_NO
                ws.queue_work(channel)
        if fan_out.then is not None:
            self.publish_will(fan_out.then)
        return True

    # Acknowledgement

    def _finish(
        self,
        message: Message,
        channel: Channel | None,
        packet: Publish | None,
        resting: Resting | None,
    ) -> None:
        """Everybody has it: store what must be, and acknowledge when it is."""
        operations: list[Operation] = []
        session = None if channel is None or message.qos < 2 else channel.session
        packet_id = 0
        if session is not None and session.key and packet is not None:
            packet_id = packet.packet_id
            operations.append(HoldIdentifier(session.key, packet_id))
        if message.retain:
            if len(message.payload):
                operations.append(PutRetained(message))
            else:  # [v3 MQTT-3.3.1-10] [v3 MQTT-3.3.1-11]
                operations.append(DeleteRetained(message.topic.utf8))
        if resting is not None and not resting.targets:
            resting = None  # every queue was full
        if not operations and resting is None:
            if channel is not None and packet is not None:
                self._acknowledge(channel, packet)
            return
        holder = session if packet is not None else None
        if holder is not None and packet is not None:
            packet_id = packet.packet_id
        write = PublishWrite(self, message, resting, operations, channel, holder, packet_id)
        if channel is not None and packet is not None and message.qos:
            write.waiters.append((channel, self._gate(channel, packet)))
        if holder is not None:
            if holder.unstored is None:
                holder.unstored = {}
            holder.unstored[packet_id] = write
        self._submit(write)

    def _submit(self, write: PublishWrite) -> None:
        ws = self._ws
        operations = write.others
        if write.resting is not None:
            operations = [*operations, write.resting.operation()]
        ws.submit(Write(ws.next_id(), operations), write)
        if write.channel is not None:
            ws.hold_back(write.channel, write.size_bytes)

    def _gate(self, channel: Channel, packet: Publish) -> GatedAck:
        ack = GatedAck(_ack(packet), False)
        acks = channel.acks
        if acks is None:
            acks = deque()
            channel.acks = acks
        acks.append(ack)
        return ack

    def _acknowledge(self, channel: Channel, packet: Publish) -> None:
        """Acknowledge by QoS, behind those that still wait.  [v3 MQTT-3.3.4-1]"""
        qos = packet.message.qos
        if qos == 0 or channel.close != CLOSE_NO:
            return
        ws = self._ws
        if channel.acks is not None:  # [v3 MQTT-4.6.0-2] [v3 MQTT-4.6.0-3]
            channel.acks.append(GatedAck(_ack(packet), True))
            return
        writer = channel.output.writer
        if writer is None:
            writer = ws.open_output(channel)
        packet_id = packet.packet_id
        writer.append(0x40 if qos == 1 else 0x50)
        writer.append(2)
        writer.append(packet_id >> 8)
        writer.append(packet_id & 0xFF)
        ws.stats.packets_sent += 1

    def stored(self, write: PublishWrite, completion: Completion) -> None:
        """What a PUBLISH rests on is stored."""
        ws = self._ws
        if isinstance(completion, Done) and completion.retained >= 0:
            self._note_retained_count(completion)
        self._forget_unstored(write)
        resting = write.resting
        if resting is not None:
            for session, gated in resting.gated:
                gated.is_ready = True
                self._sending.open_gate(session)
            for session, _ in resting.stored:
                if session.channel is not None:
                    ws.mark_dirty(session.channel)
        for channel, ack in write.waiters:
            ack.is_ready = True
            self.send_acks(channel)
        write.waiters = []
        self._let_go(write)

    def _note_retained_count(self, done: Done) -> None:
        if done.request_id > self._counted_at:  # completions come in any order
            self._counted_at = done.request_id
            self._ws.stats.retained_messages = done.retained

    def not_stored(self, write: PublishWrite, failure: Failed) -> None:
        """The store has refused a PUBLISH: it is not acknowledged and its publisher is closed.

        For QoS 2 the identifier stays held, and a repeat tries the change again for those that
        have not got the message, so that nobody gets it twice.
        """
        ws = self._ws
        waiters = write.waiters
        write.waiters = []
        self._tell_refusal(write, failure)
        write.is_failed = True
        if write.resting is not None:
            self._delivery.not_stored(write.resting)
        for channel, _ in waiters:
            if channel.is_open:
                ws.doomed.append((channel, QUOTA if failure.is_quota else STORE_FAILED))
        self._let_go(write)

    def _tell_refusal(self, write: PublishWrite, failure: Failed) -> None:
        """A full retained store is told once for each episode, anything else each time."""
        ws = self._ws
        if not failure.is_quota:
            ws.stats.store_failures += 1
            ws.tell("store.failed", write.channel, severity=FACT_ERROR, detail=failure.reason)
            return
        ws.stats.dropped_retained_limit += 1
        if ws.now >= self._told_quota_at + _QUOTA_EPISODE_S:
            ws.tell(
                "retained.limit",
                write.channel,
                severity=FACT_WARNING,
                detail=f"{failure.reason}: {write.message.topic.name!r} is not retained; see "
                "retained_message_limit and retained_bytes_limit",
            )
            self._told_quota_at = ws.now

    def _let_go(self, write: PublishWrite) -> None:
        channel = write.channel
        if channel is not None:
            write.channel = None
            self._ws.let_go(channel, write.size_bytes)

    def _forget_unstored(self, write: PublishWrite) -> None:
        session = write.session
        if session is not None and session.unstored is not None:
            if session.unstored.get(write.packet_id) is write:
                del session.unstored[write.packet_id]
            if not session.unstored:
                session.unstored = None

    def send_acks(self, channel: Channel) -> None:
        """Send the acknowledgements whose turn has come."""
        acks = channel.acks
        if acks is None or channel.close != CLOSE_NO:
            return
        while acks and acks[0].is_ready:
            self._ws.write(channel, acks.popleft().data)
            self._ws.stats.packets_sent += 1
        if not acks:
            channel.acks = None

    # From the broker itself

    def publish(self, message: Message) -> None:
        """Publish a message that no client sent."""
        self._route(message, None, None)

    def publish_will(self, will: Will) -> None:
        """Publish a will as the message it describes.  [v3 MQTT-3.1.2-16] [v3 MQTT-3.1.2-17]"""
        utf8 = will.topic.encode()
        topic = self._ws.topics.find(utf8) or self._ws.topics.add(utf8)
        self._ws.stats.wills_published += 1
        self.publish(Message(topic, will.payload, will.qos, will.retain))


def _ack(packet: Publish) -> bytes:
    first = b"\x40\x02" if packet.message.qos == 1 else b"\x50\x02"
    return first + packet.packet_id.to_bytes(2, "big")
