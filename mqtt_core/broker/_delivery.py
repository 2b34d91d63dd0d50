"""From a message to the sessions it is for: sent, queued, or dropped and counted.

A receiver whose socket takes data and whose window has room gets the message at once, into the
output of its channel. For the others it waits in the session's queue, within the limits. The
messages of persistent sessions are also told to the storage engine: what rests on that is
gathered in a `Resting` for the publisher's side.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from mqtt_core._flow import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    STORING_PUBLISH,
    STORING_PUBREL,
    Flow,
)
from mqtt_core._message import Message
from mqtt_core._output import REFERENCE_BYTES
from mqtt_core.broker._causes import QUEUE_FULL, STORE_FAILED
from mqtt_core.broker._channel import Channel
from mqtt_core.broker._facts import FACT_ERROR, FACT_WARNING
from mqtt_core.broker._limits import DISCONNECT, DROP_OLDEST
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._queue import Queue
from mqtt_core.broker._router import Subscriber
from mqtt_core.broker._session import GatedSend, Session
from mqtt_core.broker._store import (
    Append,
    Completion,
    Failed,
    Operation,
    Queued,
    SaveReceived,
    SaveSent,
    Settle,
    Target,
    Write,
)
from mqtt_core.broker._workspace import Workspace


@final
class Resting:
    """What one message has led to that must be stored: for whom, and what waits for that."""

    __slots__ = ("message", "number", "targets", "stored", "gated")

    def __init__(self, message: Message, number: int) -> None:
        self.message: Final = message
        self.number: Final = number
        self.targets: Final[list[Target]] = []
        # Sessions whose queues the message joins in the engine, and at which QoS.
        self.stored: Final[list[tuple[Session, int]]] = []
        self.gated: Final[list[tuple[Session, GatedSend]]] = []

    def operation(self) -> Append:
        """The change to be stored."""
        return Append(self.number, self.message, self.targets)


@final
class Delivery:
    """Delivers messages to sessions."""

    __slots__ = ("resting", "_ws", "_budget")

    def __init__(self, workspace: Workspace) -> None:
        self._ws: Final = workspace
        self._budget: Final = workspace.limits.output_budget_bytes
        self.resting: Resting | None = None  # of the message that is being delivered

    # Many receivers

    def to_subscribers(
        self,
        subscribers: list[Subscriber],
        start: int,
        stop: int,
        message: Message,
        granted: int,
        seen: set[int] | None,
    ) -> None:
        """Deliver to a part of a list at min(published, granted) QoS.  [v3 MQTT-3.8.4-6]

        `seen` has the numbers of the sessions with several subscriptions that have got the
        message already: each gets one copy, at its highest QoS.  [v3 MQTT-3.3.5-1]
        """
        qos = granted if granted < message.qos else message.qos
        if qos == 0:
            self._to_all_at_qos_0(subscribers, start, stop, message, seen)
            return
        for at in range(start, stop):
            subscriber = subscribers[at]
            session = subscriber.session
            if seen is not None and len(session.subscriptions) > 1:
                if session.number in seen:
                    continue
                seen.add(session.number)
            if subscriber.index >= 0:
                self.deliver(session, message, qos)

    def _to_all_at_qos_0(
        self,
        subscribers: list[Subscriber],
        start: int,
        stop: int,
        message: Message,
        seen: set[int] | None,
    ) -> None:
        ws = self._ws
        packet = message.packet()
        size = len(packet)
        budget = self._budget
        sent = 0
        for at in range(start, stop):
            subscriber = subscribers[at]
            session = subscriber.session
            if seen is not None and len(session.subscriptions) > 1:
                if session.number in seen:
                    continue
                seen.add(session.number)
            channel = session.channel
            if channel is not None and channel.accepts:
                if subscriber.index < 0:
                    continue  # unsubscribed while the fan-out was waiting  [v3 MQTT-3.10.4-2]
                output = channel.output
                writer = output.writer
                if writer is None:
                    writer = ws.open_output(channel)
                if size < REFERENCE_BYTES:
                    writer.write(packet)
                    if len(writer) >= budget:
                        self._fill(channel)
                else:
                    output.write_reference(packet)
                    if output.size_bytes >= budget:
                        self._fill(channel)
                sent += 1
            elif subscriber.index >= 0:
                self._defer_qos_0(session, channel, message)
        ws.stats.publishes_sent += sent
        ws.stats.packets_sent += sent
        ws.unflushed += sent * size

    def _fill(self, channel: Channel) -> None:
        """The output has reached its budget: flush it before the session's queue is used."""
        channel.accepts = False
        channel.is_full = True
        self._ws.must_flush = True

    # One receiver

    def deliver(self, session: Session, message: Message, qos: int) -> None:
        """Send a message at QoS 1 or 2 to a session, or let it wait there."""
        if session.key:
            self._deliver_stored(session, message, qos)
            return
        channel = session.channel
        if channel is None:
            return  # the session has ended with its connection
        flow = session.flow
        if flow is None:
            flow = self._ws.new_flow()
            session.flow = flow
        if (
            channel.accepts
            and flow.room(session.reserved) > 0
            and (session.queue is None or not session.queue.has_waiting)
        ):
            step = AWAITING_PUBACK if qos == 1 else AWAITING_PUBREC
            self._write(channel, message, qos, flow.start(message, step))
        else:
            self._enqueue(session, message, qos)

    def _write(self, channel: Channel, message: Message, qos: int, packet_id: int) -> None:
        ws = self._ws
        output = channel.output
        writer = output.writer
        if writer is None:
            writer = ws.open_output(channel)
        head = message.head(qos)  # never DUP: a first delivery  [v3 MQTT-3.3.1-3]
        payload = message.payload
        writer.write(head)
        writer.append(packet_id >> 8)
        writer.append(packet_id & 0xFF)
        size = len(payload)
        if size < REFERENCE_BYTES:
            writer.write(payload)
            if len(writer) >= self._budget:
                self._fill(channel)
        else:
            output.write_reference(payload)
            if output.size_bytes >= self._budget:
                self._fill(channel)
        stats = ws.stats
        stats.publishes_sent += 1
        stats.packets_sent += 1
        ws.unflushed += size + len(head) + 2

    def _rest(self, message: Message) -> Resting:
        resting = self.resting
        if resting is None:
            resting = Resting(message, self._ws.next_number())
            self.resting = resting
        return resting

    def _deliver_stored(self, session: Session, message: Message, qos: int) -> None:
        if session.is_ended:
            return
        channel = session.channel
        flow = session.flow
        if flow is None:
            flow = self._ws.new_flow()
            session.flow = flow
        queue = session.queue
        resting = self._rest(message)
        if (
            channel is not None
            and channel.accepts
            and flow.room(session.reserved) > 0
            and (queue is None or not queue.has_waiting)
        ):
            packet_id = self._begin(session, flow, message, qos, resting.number)
            resting.targets.append(Target(session.key, qos, packet_id))
            if qos == 1:
                self._write(channel, message, qos, packet_id)
            else:
                resting.gated.append((session, self._gate(session, packet_id)))
            return
        queue = self._queue_of(session)
        if self._make_room(session, queue, message):
            queue.add_stored(resting.number, message.size_bytes)
            self._count_queued(1, message.size_bytes)
            resting.targets.append(Target(session.key, qos))
            resting.stored.append((session, qos))

    def _begin(self, session: Session, flow: Flow, message: Message, qos: int, number: int) -> int:
        packet_id = flow.start(message, AWAITING_PUBACK if qos == 1 else STORING_PUBLISH)
        numbers = session.numbers
        if numbers is None:
            numbers = {}
            session.numbers = numbers
        numbers[packet_id] = number
        return packet_id

    def _gate(self, session: Session, packet_id: int) -> GatedSend:
        gate = session.gate
        if gate is None:
            gate = deque()
            session.gate = gate
        gated = GatedSend(packet_id)
        gate.append(gated)
        return gated

    # Waiting

    def _queue_of(self, session: Session) -> Queue:
        queue = session.queue
        if queue is None:
            queue = Queue()
            session.queue = queue
        return queue

    def _count_queued(self, messages: int, size_bytes: int) -> None:
        stats = self._ws.stats
        stats.queued_messages += messages
        stats.queued_bytes += size_bytes

    def _defer_qos_0(self, session: Session, channel: Channel | None, message: Message) -> None:
        """A QoS 0 message for a socket that is full, or for a client that is away."""
        ws = self._ws
        if channel is None and not (session.key and ws.limits.queue_qos0_offline):
            ws.stats.dropped_qos_0_offline += 1
            return
        queue = self._queue_of(session)
        if self._fits(queue, message):
            queue.add(ws.next_number(), 0, message)
            self._count_queued(1, message.size_bytes)
        else:
            ws.stats.dropped_qos_0 += 1
            self._note_drop(session)

    def _enqueue(self, session: Session, message: Message, qos: int) -> None:
        queue = self._queue_of(session)
        if self._make_room(session, queue, message):
            queue.add(self._ws.next_number(), qos, message)
            self._count_queued(1, message.size_bytes)

    def _fits(self, queue: Queue, message: Message) -> bool:
        limits = self._ws.limits
        size = message.size_bytes
        return (
            queue.count < limits.max_queued_messages
            and queue.size_bytes + size <= limits.max_queued_bytes
            and self._ws.stats.queued_bytes + self._ws.in_flight.count + size
            <= limits.total_queued_bytes
        )

    def would_refuse(self, session: Session, message: Message) -> bool:
        """Whether the queue of the session has no room for a message that must wait there."""
        queue = session.queue
        if queue is None or not queue.count:
            return False
        return not queue.has_qos_0 and not self._fits(queue, message)

    def _make_room(self, session: Session, queue: Queue, message: Message) -> bool:
        """Apply the policy of a full queue; False when the message is dropped."""
        ws = self._ws
        while not self._fits(queue, message):
            if queue.has_qos_0:
                dropped = queue.pop_qos_0()
                self._count_queued(-1, -dropped.message.size_bytes)
                ws.stats.dropped_qos_0 += 1
                self._note_drop(session)
                continue
            ws.stats.dropped_queue_full += 1
            self._note_drop(session)
            policy = ws.limits.queue_full_policy
            if policy == DROP_OLDEST and self._helps_to_drop(queue, message):
                size = queue.size_bytes
                number = queue.drop_oldest()
                self._count_queued(-1, queue.size_bytes - size)
                if session.key:
                    ws.record(Settle(session.key, number))
                continue
            channel = session.channel
            if policy == DISCONNECT and channel is not None:
                ws.doomed.append((channel, QUEUE_FULL))
            return False
        return True

    def _helps_to_drop(self, queue: Queue, message: Message) -> bool:
        """Whether the queue's own limits are what is in the way, and can be met."""
        limits = self._ws.limits
        size = message.size_bytes
        if not queue.has_waiting or size > limits.max_queued_bytes:
            return False
        return (
            queue.count >= limits.max_queued_messages
            or queue.size_bytes + size > limits.max_queued_bytes
        )

    def _note_drop(self, session: Session) -> None:
        """One fact for each client and episode, not one for each message."""
        session.dropping += 1
        if session.dropping == 1:
            self._ws.tell(
                "queue.dropping",
                session.channel,
                severity=FACT_WARNING,
                client_id=session.client_id,
                detail="messages are dropped: the client is slower than what it subscribed to; "
                "see max_queued_messages and max_queued_bytes",
            )

    def _note_recovery(self, session: Session) -> None:
        self._ws.tell(
            "queue.recovered",
            session.channel,
            client_id=session.client_id,
            detail=f"{session.dropping} messages were dropped",
        )
        session.dropping = 0

    def pump(self, session: Session, channel: Channel) -> None:
        """Send what waits, as far as the socket and the window allow."""
        queue = session.queue
        if queue is None:
            return
        flow = session.flow
        while channel.has_room and queue.count:
            has_room = flow is None or flow.room(session.reserved) > 0
            if queue.has_loaded and has_room and not queue.next_is_qos_0():
                entry = queue.pop_loaded()
                self._count_queued(-1, -entry.message.size_bytes)
                self._send_queued(session, channel, entry.message, entry.qos, entry.number)
                flow = session.flow
            elif queue.has_qos_0:
                entry = queue.pop_qos_0()
                self._count_queued(-1, -entry.message.size_bytes)
                self._send_qos_0(channel, entry.message.packet())
            else:
                break
        channel.accepts = channel.has_room and not queue.has_qos_0
        if session.dropping and not queue.count:
            self._note_recovery(session)

    def _send_queued(
        self, session: Session, channel: Channel, message: Message, qos: int, number: int
    ) -> None:
        flow = session.flow
        if flow is None:
            flow = self._ws.new_flow()
            session.flow = flow
        if not session.key:
            step = AWAITING_PUBACK if qos == 1 else AWAITING_PUBREC
            self._write(channel, message, qos, flow.start(message, step))
            return
        packet_id = self._begin(session, flow, message, qos, number)
        operation = SaveSent(session.key, number, packet_id)
        if qos == 1:
            self._ws.record(operation)
            self._write(channel, message, qos, packet_id)
        else:
            entry = Queued(number, qos, message)
            self.send_gated(session, self._gate(session, packet_id), operation, entry)

    def _send_qos_0(self, channel: Channel, packet: bytes) -> None:
        ws = self._ws
        if channel.output.writer is None:
            ws.open_output(channel)
        channel.output.write(packet)
        if channel.output.size_bytes >= self._budget:
            self._fill(channel)
        ws.stats.publishes_sent += 1
        ws.stats.packets_sent += 1
        ws.unflushed += len(packet)

    # Retained messages for a new subscription

    def send_retained(
        self, session: Session, channel: Channel, message: Message, granted: int
    ) -> None:
        """Deliver a retained message with the RETAIN flag.  [v3 MQTT-3.3.1-8]"""
        qos = granted if granted < message.qos else message.qos
        if qos == 0:
            self._send_qos_0(channel, message.retained_packet())
            return
        flow = session.flow
        if flow is None:
            flow = self._ws.new_flow()
            session.flow = flow
        if not session.key:
            packet_id = flow.start(message, AWAITING_PUBACK if qos == 1 else AWAITING_PUBREC)
            self._note_retained(session, packet_id)
            self.write_flagged(channel, message, qos, packet_id, False, True)
            return
        number = self._ws.next_number()
        packet_id = self._begin(session, flow, message, qos, number)
        self._note_retained(session, packet_id)
        operation = Append(number, message, [Target(session.key, qos, packet_id, True)])
        if qos == 1:
            self._ws.record(operation)
            self.write_flagged(channel, message, qos, packet_id, False, True)
        else:
            self.send_gated(session, self._gate(session, packet_id), operation, None)

    def _note_retained(self, session: Session, packet_id: int) -> None:
        if session.retained_ids is None:
            session.retained_ids = set()
        session.retained_ids.add(packet_id)

    def write_flagged(
        self,
        channel: Channel,
        message: Message,
        qos: int,
        packet_id: int,
        dup: bool,
        retain: bool,
    ) -> None:
        """Write a PUBLISH at QoS 1 or 2 with the flags given."""
        ws = self._ws
        head = message.flagged_head(qos, dup, retain) + packet_id.to_bytes(2, "big")
        if channel.output.writer is None:
            ws.open_output(channel)
        channel.output.write(head)
        channel.output.write(message.payload)
        if channel.output.size_bytes >= self._budget:
            self._fill(channel)
        ws.stats.publishes_sent += 1
        ws.stats.packets_sent += 1
        ws.unflushed += len(head) + len(message.payload)

    # What waits for the store on its way to a receiver

    def send_gated(
        self, session: Session, gated: GatedSend, operation: Operation, entry: Queued | None
    ) -> None:
        """Send once `operation` is stored; `entry` is what goes back to the queue if it fails."""
        request_id = self._ws.next_id()
        pending = GatedWrite(self, session, gated, entry)
        self._ws.submit(Write(request_id, [operation]), pending)

    def release(self, session: Session, packet_id: int) -> None:
        """PUBREC has come for a stored message: PUBREL leaves when that is stored too."""
        numbers = session.numbers
        assert numbers is not None
        operation = SaveReceived(session.key, numbers[packet_id])
        self.send_gated(session, self._gate(session, packet_id), operation, None)

    def open_gate(self, session: Session) -> None:
        """Send what is ready, in order; nothing overtakes what still waits."""
        gate = session.gate
        channel = session.channel
        if gate is None or channel is None:
            return
        while gate and gate[0].is_ready:
            packet_id = gate.popleft().packet_id
            self._send_ungated(session, channel, packet_id)
        if not gate:
            session.gate = None

    def _send_ungated(self, session: Session, channel: Channel, packet_id: int) -> None:
        flow = session.flow
        assert flow is not None
        if flow.step(packet_id) == STORING_PUBREL:
            flow.advance(packet_id, AWAITING_PUBCOMP)
            self._ws.write(channel, b"\x62\x02" + packet_id.to_bytes(2, "big"))
            self._ws.stats.packets_sent += 1
            return
        message = flow.message(packet_id)
        assert message is not None
        flow.advance(packet_id, AWAITING_PUBREC)
        retained = session.retained_ids
        retain = retained is not None and packet_id in retained
        self.write_flagged(channel, message, 2, packet_id, False, retain)

    def gated_failed(self, session: Session, gated: GatedSend, entry: Queued | None) -> None:
        """The store has refused what a PUBLISH or PUBREL rests on."""
        gate = session.gate
        if gate is not None and gated in gate:
            gate.remove(gated)
            if not gate:
                session.gate = None
        flow = session.flow
        packet_id = gated.packet_id
        if flow is None or flow.step(packet_id) != STORING_PUBLISH:
            return  # a PUBREL: tried again when the client comes back
        self.finish(session, flow, packet_id)
        if entry is not None:
            queue = self._queue_of(session)
            queue.put_back(entry)
            self._count_queued(1, entry.message.size_bytes)

    def finish(self, session: Session, flow: Flow, packet_id: int) -> int:
        """End a delivery; returns its number in the store, 0 for none."""
        flow.finish(packet_id)
        retained = session.retained_ids
        if retained is not None:
            retained.discard(packet_id)
            if not retained:
                session.retained_ids = None
        numbers = session.numbers
        return 0 if numbers is None else numbers.pop(packet_id, 0)

    # The beginning and the end of a connection

    def resume(self, session: Session, channel: Channel) -> None:
        """Send again what an earlier connection left unfinished.  [v3 MQTT-4.4.0-1]"""
        flow = session.flow
        if flow is None:
            return
        gate = session.gate
        gated = set() if gate is None else {waiting.packet_id for waiting in gate}
        retained = session.retained_ids
        for packet_id in flow.unfinished():
            step = flow.step(packet_id)
            message = flow.message(packet_id)
            if step == AWAITING_PUBCOMP:
                self._ws.write(channel, b"\x62\x02" + packet_id.to_bytes(2, "big"))
                self._ws.stats.packets_sent += 1
            elif step == STORING_PUBREL and packet_id not in gated:
                self.release(session, packet_id)
            elif step in (AWAITING_PUBACK, AWAITING_PUBREC):
                assert message is not None
                qos = 1 if step == AWAITING_PUBACK else 2
                retain = retained is not None and packet_id in retained
                # [v3 MQTT-3.3.1-1]
                self.write_flagged(channel, message, qos, packet_id, True, retain)
        self.open_gate(session)

    def not_stored(self, resting: Resting) -> None:
        """What a message has led to is refused by the store: take it back."""
        for session, gated in resting.gated:
            self.gated_failed(session, gated, None)
            resting.stored.append((session, 2))
        resting.gated.clear()
        for session, _ in resting.stored:
            queue = session.queue
            if queue is not None:
                size = queue.size_bytes
                if queue.forget_stored(resting.number):
                    self._count_queued(-1, queue.size_bytes - size)

    def again(self, failed: Resting) -> Resting:
        """Once more, for those that have not got the message: it goes to their queues."""
        resting = Resting(failed.message, self._ws.next_number())
        size = failed.message.size_bytes
        for session, qos in failed.stored:
            if not session.is_ended:
                self._queue_of(session).add_stored(resting.number, size)
                self._count_queued(1, size)
                resting.targets.append(Target(session.key, qos))
                resting.stored.append((session, qos))
        return resting

    def drop_all(self, session: Session) -> int:
        """Forget what waits for a session that ends; returns how many messages that were."""
        queue = session.queue
        if queue is None or not queue.count:
            return 0
        count = queue.count
        self._count_queued(-count, -queue.size_bytes)
        session.queue = None
        return count

    def store_failed(self, session: Session, reason: str) -> None:
        """Close the connection of a session whose store does not answer as it must."""
        self._ws.stats.store_failures += 1
        self._ws.tell(
            "store.failed",
            session.channel,
            severity=FACT_ERROR,
            client_id=session.client_id,
            detail=reason,
        )
        channel = session.channel
        if channel is not None:
            self._ws.doomed.append((channel, STORE_FAILED))


@final
class GatedWrite(Pending):
    """Goes on with a QoS 2 PUBLISH or a PUBREL when what it rests on is stored."""

    __slots__ = ("_delivery", "_session", "_gated", "_entry")

    def __init__(
        self, delivery: Delivery, session: Session, gated: GatedSend, entry: Queued | None
    ) -> None:
        self._delivery: Final = delivery
        self._session: Final = session
        self._gated: Final = gated
        self._entry: Final = entry

    def done(self, completion: Completion) -> None:
        """Send it, if it is its turn."""
        self._gated.is_ready = True
        self._delivery.open_gate(self._session)

    def failed(self, failure: Failed) -> None:
        """Close the connection; the client comes back and the exchange goes on."""
        if self._session.is_ended:
            return
        self._delivery.gated_failed(self._session, self._gated, self._entry)
        self._delivery.store_failed(self._session, failure.reason)
