"""Packets to one receiver, and its side of the QoS 1 and 2 handshakes (4.3).

What is written goes into the channel's output. A QoS 2 PUBLISH or a PUBREL of a persistent
session waits until what it rests on is stored, in order.
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
from mqtt_core._message import Message, delivery_head5
from mqtt_core._output import REFERENCE_BYTES
from mqtt_core._particulars import Particulars
from mqtt_core._store import (
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
from mqtt_core.broker._causes import QUOTA, STORE_FAILED
from mqtt_core.broker._channel import LAYOUT_3, LAYOUT_5, Channel
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._refusals import note_refusal
from mqtt_core.broker._session import GatedSend, RetainedBurst, Session
from mqtt_core.broker._shared import call_back
from mqtt_core.broker._workspace import Workspace

IDENTIFIER_BYTES: Final = 5  # of a subscription identifier in a PUBLISH, at most
_ALIAS_BYTES: Final = 5  # that an alias may add, to the lengths too
_CLOCK_NOISE_S: Final = 0.001  # what sums of floating point times may be short of the truth


def _size5(message: Message, qos: int, identifiers: tuple[int, ...]) -> int:
    """The bytes of a PUBLISH of MQTT 5.0 without an alias."""
    head = delivery_head5(message, qos, False, False, 1, message.expiry_s, identifiers)
    return len(head) + len(message.payload)


@final
class Sending:
    """Writes packets to receivers."""

    __slots__ = ("_ws", "_budget")

    def __init__(self, workspace: Workspace) -> None:
        self._ws: Final = workspace
        self._budget: Final = workspace.limits.output_budget_bytes

    def fill(self, channel: Channel) -> None:
        """The output has reached its budget: flush it before the session's queue is used."""
        channel.accepts = False
        channel.is_full = True
        self._ws.must_flush = True

    def passes_over(
        self, channel: Channel, message: Message, qos: int, particulars: Particulars | None
    ) -> bool:
        """Whether a message that has waited is not sent: it has expired, or is too large."""
        return self._has_expired(message) or self.is_too_large(channel, message, qos, particulars)

    def _has_expired(self, message: Message) -> bool:
        """Whether it is too late to send a message for the first time; counted.

        [MQTT-3.3.2-5]
        """
        expires_at = message.expires_at
        if not expires_at or expires_at > self._ws.wall:
            return False
        self._ws.stats.messages_expired += 1
        return True

    def is_too_large(
        self, channel: Channel, message: Message, qos: int, particulars: Particulars | None
    ) -> bool:
        """Whether a client does not take a message of that size: it is dropped, and counted.

        [MQTT-3.1.2-24] [MQTT-3.1.2-25]
        """
        if not channel.max_packet_bytes or not self.exceeds(channel, message, qos, particulars):
            return False
        self._ws.stats.dropped_too_large += 1
        return True

    def exceeds(
        self, channel: Channel, message: Message, qos: int, particulars: Particulars | None
    ) -> bool:
        """Whether a message is larger than the packets that a client takes, if it has a limit."""
        identifiers = () if particulars is None else particulars.identifiers
        return _size5(message, qos, identifiers) > channel.max_packet_bytes

    def _seconds_left(self, message: Message) -> int:
        """The message expiry interval less the time that the message has waited.

        [MQTT-3.3.2-6]
        """
        expiry_s = message.expiry_s
        if expiry_s < 0:
            return expiry_s
        arrived_at = message.expires_at - expiry_s
        return max(0, expiry_s - int(self._ws.wall - arrived_at + _CLOCK_NOISE_S))

    def _head5(
        self,
        channel: Channel,
        message: Message,
        qos: int,
        packet_id: int,
        dup: bool,
        particulars: Particulars | None,
    ) -> bytes:
        """A PUBLISH of MQTT 5.0 with what it has of its own, up to its payload."""
        retain = particulars is not None and particulars.retain
        identifiers = () if particulars is None else particulars.identifiers
        expiry_s = self._seconds_left(message)
        aliases = channel.aliases
        if aliases is not None:
            topic = message.topic.utf8
            alias = aliases.known(topic)
            has_topic = alias == 0
            most = channel.max_packet_bytes
            if has_topic and (not most or _size5(message, qos, identifiers) + _ALIAS_BYTES <= most):
                alias = aliases.assign(topic)
            return delivery_head5(
                message, qos, dup, retain, packet_id, expiry_s, identifiers, alias, has_topic
            )
        return delivery_head5(message, qos, dup, retain, packet_id, expiry_s, identifiers)

    def write(self, channel: Channel, message: Message, qos: int, packet_id: int) -> None:
        """Write a PUBLISH at QoS 1 or 2 for the first time: two copies around its identifier."""
        ws = self._ws
        layout = channel.layout
        if layout == LAYOUT_3:
            head = message.head(qos)  # never DUP: a first delivery  [v3 MQTT-3.3.1-3]
            rest = message.payload
        elif layout == LAYOUT_5 and message.expiry_s < 0:
            head = message.head5(qos)  # [MQTT-3.3.1-3]
            rest = message.body5()
        else:
            self.write_own(channel, message, qos, packet_id, False, None)
            return
        output = channel.output
        writer = output.writer
        if writer is None:
            writer = ws.open_output(channel)
        writer.write(head)
        writer.append(packet_id >> 8)
        writer.append(packet_id & 0xFF)
        size = len(rest)
        if size < REFERENCE_BYTES:
            writer.write(rest)
            if len(writer) >= self._budget:
                self.fill(channel)
        else:
            output.write_reference(rest)
            if output.size_bytes >= self._budget:
                self.fill(channel)
        stats = ws.stats
        stats.publishes_sent += 1
        stats.packets_sent += 1
        ws.unflushed += size + len(head) + 2

    def begin(
        self,
        session: Session,
        flow: Flow,
        message: Message,
        qos: int,
        number: int,
        particulars: Particulars | None,
    ) -> int:
        """Begin a stored delivery; at QoS 2 it waits for the store before it is written."""
        packet_id = flow.start(message, AWAITING_PUBACK if qos == 1 else STORING_PUBLISH)
        numbers = session.numbers
        if numbers is None:
            numbers = {}
            session.numbers = numbers
        numbers[packet_id] = number
        if particulars is not None:
            session.note_particulars(packet_id, particulars)
        return packet_id

    def gate(self, session: Session, packet_id: int) -> GatedSend:
        """A place in the order of what waits for the store."""
        gate = session.gate
        if gate is None:
            gate = deque()
            session.gate = gate
        gated = GatedSend(packet_id)
        gate.append(gated)
        return gated

    def send(
        self,
        session: Session,
        channel: Channel,
        message: Message,
        qos: int,
        particulars: Particulars | None,
    ) -> None:
        """Send a message at QoS 1 or 2 to a session that is not stored."""
        step = AWAITING_PUBACK if qos == 1 else AWAITING_PUBREC
        packet_id = self._ws.flow_of(session).start(message, step)
        if particulars is not None:
            session.note_particulars(packet_id, particulars)
        if particulars is None or particulars.is_plain:
            self.write(channel, message, qos, packet_id)
        else:
            self.write_own(channel, message, qos, packet_id, False, particulars)

    def send_queued(self, session: Session, channel: Channel, entry: Queued) -> None:
        """Send a message at QoS 1 or 2 that has waited in the queue."""
        message = entry.message
        qos = entry.qos
        particulars = entry.particulars
        if not session.key:
            self.send(session, channel, message, qos, particulars)
            return
        flow = self._ws.flow_of(session)
        packet_id = self.begin(session, flow, message, qos, entry.number, particulars)
        operation = SaveSent(session.key, entry.number, packet_id)
        if qos == 1:
            self._ws.record(operation)
            if particulars is None or particulars.is_plain:
                self.write(channel, message, qos, packet_id)
            else:
                self.write_own(channel, message, qos, packet_id, False, particulars)
        else:
            self.send_gated(session, self.gate(session, packet_id), operation)

    def send_qos_0(
        self, channel: Channel, message: Message, particulars: Particulars | None
    ) -> None:
        """Write a whole PUBLISH at QoS 0."""
        layout = channel.layout
        if layout == LAYOUT_3:
            retain = particulars is not None and particulars.retain
            self._write_packet(channel, message.retained_packet() if retain else message.packet())
        elif layout != LAYOUT_5 or message.expiry_s >= 0:
            self.write_own(channel, message, 0, 0, False, particulars)
        elif particulars is None or particulars.is_plain:
            self._write_packet(channel, message.packet5())
        else:
            self.write_own(channel, message, 0, 0, False, particulars)

    def _write_packet(self, channel: Channel, packet: bytes) -> None:
        ws = self._ws
        if channel.output.writer is None:
            ws.open_output(channel)
        channel.output.write(packet)
        if channel.output.size_bytes >= self._budget:
            self.fill(channel)
        ws.stats.publishes_sent += 1
        ws.stats.packets_sent += 1
        ws.unflushed += len(packet)

    # Retained messages for a new subscription

    def send_retained(
        self, session: Session, channel: Channel, message: Message, burst: RetainedBurst
    ) -> None:
        """Deliver a retained message with the RETAIN flag.  [v3 MQTT-3.3.1-8]"""
        particulars = burst.particulars
        qos = burst.qos if burst.qos < message.qos else message.qos
        if self.passes_over(channel, message, qos, particulars):
            return
        if qos == 0:
            self.send_qos_0(channel, message, particulars)
            return
        if not session.key:
            self.send(session, channel, message, qos, particulars)
            return
        number = self._ws.next_number()
        flow = self._ws.flow_of(session)
        packet_id = self.begin(session, flow, message, qos, number, particulars)
        operation = Append(number, message, [Target(session.key, qos, packet_id, particulars)])
        if qos == 1:
            self._ws.record(operation)
            self.write_own(channel, message, qos, packet_id, False, particulars)
        else:
            self.send_gated(session, self.gate(session, packet_id), operation)

    def write_own(
        self,
        channel: Channel,
        message: Message,
        qos: int,
        packet_id: int,
        dup: bool,
        particulars: Particulars | None,
    ) -> None:
        """Write a PUBLISH with flags or properties of its own."""
        ws = self._ws
        if channel.layout == LAYOUT_3:
            retain = particulars is not None and particulars.retain
            head = message.flagged_head(qos, dup, retain) + packet_id.to_bytes(2, "big")
        else:
            head = self._head5(channel, message, qos, packet_id, dup, particulars)
        if channel.output.writer is None:
            ws.open_output(channel)
        channel.output.write(head)
        channel.output.write(message.payload)
        if channel.output.size_bytes >= self._budget:
            self.fill(channel)
        ws.stats.publishes_sent += 1
        ws.stats.packets_sent += 1
        ws.unflushed += len(head) + len(message.payload)

    # What waits for the store on its way to a receiver

    def send_gated(self, session: Session, gated: GatedSend, operation: Operation) -> None:
        """Send once `operation` is stored."""
        gated.retry = None
        pending = GatedWrite(self, session, gated, operation)
        channel = session.channel
        assert channel is not None  # to which it is to be sent
        self._ws.submit(Write(self._ws.next_id(), [operation], channel.level), pending)

    def release(self, session: Session, packet_id: int) -> None:
        """PUBREC has come for a stored message, or need not: PUBREL leaves when that is stored."""
        numbers = session.numbers
        assert numbers is not None
        operation = SaveReceived(session.key, numbers[packet_id])
        self.send_gated(session, self.gate(session, packet_id), operation)

    def open_gate(self, session: Session) -> None:
        """Send what is ready, in order; nothing overtakes what still waits."""
        gate = session.gate
        channel = session.channel
        if gate is None or channel is None:
            return
        while gate and gate[0].is_ready:
            self._send_ungated(session, channel, gate.popleft())
        if not gate:
            session.gate = None

    def _send_ungated(self, session: Session, channel: Channel, gated: GatedSend) -> None:
        flow = session.flow
        assert flow is not None
        packet_id = gated.packet_id
        if flow.step(packet_id) == STORING_PUBREL:
            flow.advance(packet_id, AWAITING_PUBCOMP)
            self._ws.answer(channel, 0x62, packet_id)
            return
        message = flow.message(packet_id)
        assert message is not None
        particulars = session.particulars_of(packet_id)
        if gated.was_parked:
            is_over = self.passes_over(channel, message, 2, particulars)
        else:  # with an interval of 0 it is for those who are there, however long the store takes
            is_over = message.expiry_s > 0 and self._has_expired(message)
        if is_over:
            self.settle(session, flow, packet_id)
            return
        flow.advance(packet_id, AWAITING_PUBREC)
        self.write_own(channel, message, 2, packet_id, False, particulars)

    def take_back(self, session: Session, gated: GatedSend) -> None:
        """Forget a QoS 2 PUBLISH whose message was never acknowledged to its publisher, and go
        on with what comes behind it."""
        flow = session.flow
        if flow is None:
            return  # the session has ended
        gate = session.gate
        parked = session.parked
        if parked is not None and parked.get(gated.packet_id) is gated:
            del parked[gated.packet_id]
        else:
            assert gate is not None  # what is not parked is there until it is stored
            gate.remove(gated)
            if not gate:
                session.gate = None
        self.finish(session, flow, gated.packet_id)
        self.open_gate(session)
        if session.has_waiting and session.channel is not None:
            self._ws.mark_dirty(session.channel)  # its window has a place

    def finish(self, session: Session, flow: Flow, packet_id: int) -> int:
        """End a delivery; returns its number in the store, 0 for none."""
        flow.finish(packet_id)
        if session.resend is not None:
            session.resend.pop(packet_id, None)
        session.forget_particulars(packet_id)
        if session.aside is not None:
            call_back(session)
        numbers = session.numbers
        return 0 if numbers is None else numbers.pop(packet_id, 0)

    def settle(self, session: Session, flow: Flow, packet_id: int) -> None:
        """End a delivery, in the store too."""
        number = self.finish(session, flow, packet_id)
        if number:
            self._ws.record(Settle(session.key, number))
        if session.has_waiting and session.channel is not None:
            self._ws.mark_dirty(session.channel)

    # The beginning and the end of a connection

    def resume(self, session: Session, channel: Channel) -> None:
        """Send again what an earlier connection left unfinished.  [v3 MQTT-4.4.0-1]"""
        flow = session.flow
        if flow is None:
            return
        resend: dict[int, None] = {}
        for packet_id in reversed(flow.unfinished()):
            resend[packet_id] = None
        session.resend = resend
        parked = session.parked or {}
        for gated in session.gate or ():
            parked[gated.packet_id] = gated
        session.parked = parked or None
        session.gate = None
        self.resend(session, channel)

    def resend(self, session: Session, channel: Channel) -> None:
        """Go on with that as far as the socket allows; new deliveries wait for its end."""
        resend = session.resend
        flow = session.flow
        if resend is None or flow is None:
            return
        # What was sent again and has no answer counts in the window.  [MQTT-3.3.4-9]
        while resend and channel.has_room and flow.in_flight - len(resend) < max(flow.window, 1):
            self._send_again(session, channel, flow, resend.popitem()[0])
        if not resend:
            session.resend = None
            session.parked = None

    def passes_its_turn(self, session: Session, channel: Channel, packet_id: int) -> None:
        """PUBREC has come, perhaps for what is still to be sent again: that is answered at once,
        and only once.  [MQTT-4.4.0-1]"""
        resend = session.resend
        if resend is not None and packet_id in resend:
            del resend[packet_id]
            self._ws.mark_dirty(channel)  # to go on where it was the last

    def _send_again(self, session: Session, channel: Channel, flow: Flow, packet_id: int) -> None:
        step = flow.step(packet_id)
        if step == AWAITING_PUBCOMP:
            self._ws.answer(channel, 0x62, packet_id)
        elif step in (STORING_PUBLISH, STORING_PUBREL):
            self._gate_again(session, packet_id)
        else:
            message = flow.message(packet_id)
            assert message is not None  # kept until PUBACK or PUBREC
            qos = 1 if step == AWAITING_PUBACK else 2
            particulars = session.particulars_of(packet_id)
            if self.is_too_large(channel, message, qos, particulars):  # as if it had been sent
                if qos == 1:
                    self.settle(session, flow, packet_id)
                else:  # the client may hold its identifier
                    flow.advance(packet_id, STORING_PUBREL)
                    self.release(session, packet_id)
                return
            # [v3 MQTT-3.3.1-1] [MQTT-3.3.1-1]
            self.write_own(channel, message, qos, packet_id, True, particulars)

    def _gate_again(self, session: Session, packet_id: int) -> None:
        """What waited for the store on an earlier connection takes its place on this one."""
        parked = session.parked
        assert parked is not None
        gated = parked.pop(packet_id)
        if session.gate is None:
            session.gate = deque()
        session.gate.append(gated)
        gated.was_parked = True
        if gated.retry is not None:
            self.send_gated(session, gated, gated.retry)
        else:
            self.open_gate(session)

    def store_failed(self, session: Session, failure: Failed) -> None:
        """Close the connection of a session whose store does not answer as it must."""
        channel = session.channel
        note_refusal(self._ws, failure, channel, client_id=session.client_id)
        if channel is not None:
            self._ws.doomed.append((channel, QUOTA if failure.is_full else STORE_FAILED))

    def no_room(self, session: Session, gated: GatedSend, failure: Failed) -> None:
        """The store is full, so a retained message at QoS 2 is not sent: its client goes on."""
        self._ws.stats.refused_store_full += 1
        note_refusal(
            self._ws,
            failure,
            session.channel,
            client_id=session.client_id,
            what="a retained message at QoS 2",
        )
        self.take_back(session, gated)


@final
class GatedWrite(Pending):
    """Goes on with a QoS 2 PUBLISH or a PUBREL when what it rests on is stored."""

    __slots__ = ("_sending", "_session", "_gated", "_operation")

    def __init__(
        self, sending: Sending, session: Session, gated: GatedSend, operation: Operation
    ) -> None:
        self._sending: Final = sending
        self._session: Final = session
        self._gated: Final = gated
        self._operation: Final = operation

    def done(self, completion: Completion) -> None:
        """Send it, if it is its turn."""
        self._gated.is_ready = True
        self._sending.open_gate(self._session)

    def failed(self, failure: Failed) -> None:
        """Close the connection. The exchange keeps its place, and goes on with the next one; but
        one that has not begun needs no place."""
        if self._session.is_ended:
            return
        if failure.is_full and isinstance(self._operation, Append):
            self._sending.no_room(self._session, self._gated, failure)
            return
        self._gated.retry = self._operation
        self._sending.store_failed(self._session, failure)
