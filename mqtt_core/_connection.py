"""One MQTT connection as a state machine, for either role.

    connection.receive_data(chunk, now)
    for packet in connection.events(): ...
    connection.send_publish(...)
    transport.write(connection.data_to_send())
    arm_timer(connection.next_deadline())      # when it fires: connection.advance(now)

It decides which packet may come when (`_reading`), writes those that may be sent (`_writing`),
keeps the handshakes of QoS 1 and 2 (`_flow`) and sees to keep-alive. A server drives it packet by
packet with `feed` and `read_packet` and does its own bookkeeping; a client uses the calls above,
which are here. Times are seconds of one monotonic clock, sections those of MQTT 3.1.1.
"""

from __future__ import annotations

from typing import ClassVar, Final, final

from mqtt_core._codes import (
    MQTT_5,
    PACKET_IDENTIFIER_NOT_FOUND,
    PACKET_TOO_LARGE,
    PROTOCOL_ERROR,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    RECEIVE_MAXIMUM_EXCEEDED,
    SUCCESS,
    UNSPECIFIED_ERROR,
)
from mqtt_core._errors import LocalProtocolError, RemoteProtocolError
from mqtt_core._flow import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    AWAITING_SUBACK,
    AWAITING_UNSUBACK,
    FREE,
    Flow,
)
from mqtt_core._output import WriterPool
from mqtt_core._packets import (
    ConnAck,
    Packet,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    UnsubAck,
)
from mqtt_core._properties import ASSIGNED_CLIENT_IDENTIFIER, text
from mqtt_core._state import (
    ANSWERING,
    AUTHENTICATING,
    CLIENT,
    CLOSED,
    CLOSING,
    CONNECTED,
    FAILED,
)
from mqtt_core._topics import TopicCache
from mqtt_core._writing import Writing


@final
class ConnectionLost(Packet):
    """An event that is no packet: the connection ended without DISCONNECT; `why` says how."""

    FIELDS: ClassVar[tuple[str, ...]] = ("why",)
    __match_args__: ClassVar[tuple[str, ...]] = ("why",)

    def __init__(self, why: str) -> None:
        self.why: Final = why


@final
class Connection(Writing):
    """One end of a connection.

    `flow` carries a session's delivery state over from an earlier connection; `topics` and
    `writers` can be shared by many connections of one owner. With `manual_acks` the caller
    acknowledges QoS 1 and 2 messages itself. A server takes versions up to `newest_level`; a
    client says its version in CONNECT. A client waits `connack_timeout_s` for its CONNACK.

    Of a packet that is received: a SUBSCRIBE or UNSUBSCRIBE may have `max_filters` filters, and
    one of MQTT 5.0 `max_user_properties` user properties and `max_property_bytes` bytes of
    properties. Topic names for which the peer has set aliases may have `max_alias_bytes` together.

    `client_id` of a client is the one that is in use, be it assigned by the server. `discarded`
    has the messages of an earlier connection that a new session has dropped, or that this server
    does not take: publish them again if they matter.
    """

    __slots__ = ("_manual_acks", "_events", "_connack_timeout_s", "_waiting")

    def __init__(
        self,
        role: int = CLIENT,
        *,
        flow: Flow | None = None,
        topics: TopicCache | None = None,
        writers: WriterPool | None = None,
        newest_level: int = MQTT_5,
        max_packet_size_bytes: int = 268_435_460,
        max_filters: int = 1_000_000,
        max_user_properties: int = 100,
        max_property_bytes: int = 65_536,
        max_alias_bytes: int = 65_536,
        connack_timeout_s: float = 30.0,
        manual_acks: bool = False,
        now: float = 0.0,
    ) -> None:
        super().__init__(
            role,
            newest_level,
            flow,
            topics,
            writers,
            max_packet_size_bytes,
            max_filters,
            max_user_properties,
            max_property_bytes,
            max_alias_bytes,
            now,
        )
        self._manual_acks: Final = manual_acks
        self._events: list[Packet] | None = None
        self._connack_timeout_s: Final = connack_timeout_s
        # Messages of an earlier connection that wait for room in the peer's receive maximum.
        self._waiting: dict[int, None] | None = None

    # Input

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Take a chunk from the transport; what it means is then in `events()`.

        Raises `RemoteProtocolError` when the peer broke MQTT; packets before that one have
        taken effect and are in `events()`, and the connection is CLOSING. In MQTT 5.0 the peer
        is told why, with DISCONNECT.
        """
        self.feed(chunk, now)
        try:
            while self.can_read:
                packet = self.read_packet()
                if packet is None:
                    return
                self._apply(packet, now)
        except RemoteProtocolError as error:
            if self.state == FAILED:
                self.say_why(error.reason, now)
            raise

    def say_why(self, reason: int, now: float) -> None:
        """The last word to a peer that broke MQTT 5.0 (4.13 there)."""
        try:
            self.send_disconnect(now, reason)
        except LocalProtocolError:  # the peer takes no packet of three bytes
            self._set_state(CLOSING)  # [MQTT-4.13.2-1]

    def events(self) -> list[Packet]:
        """What has happened since the last call, in order."""
        events = self._events
        self._events = None
        return [] if events is None else events

    def eof(self, now: float) -> None:
        """The transport is gone; a `ConnectionLost` event tells of it unless it was expected."""
        if self.state < FAILED:
            self._lose("connection closed by the peer")
        self._set_state(CLOSED)

    def stop_reading(self) -> None:
        """Read nothing more: the connection is being closed from this side."""
        if self.state < CLOSING:
            self._set_state(CLOSING)

    def _lose(self, why: str) -> None:
        self._add_event(ConnectionLost(why))

    def _add_event(self, event: Packet) -> None:
        if self._events is None:
            self._events = []
        self._events.append(event)

    # Bookkeeping, for `receive_data`; and pieces of it for a driver with bookkeeping of its own

    def _apply(self, packet: Packet, now: float) -> None:
        if isinstance(packet, Publish):
            if not self._take_publish(packet, now):
                return
        elif isinstance(packet, PubAck):
            # One of 0x80 and above acknowledges it too.  [MQTT-4.4.0-2]
            if self.expects(packet.packet_id, AWAITING_PUBACK):
                self._finish(packet.packet_id, now)
        elif isinstance(packet, PubRec):
            self._take_pubrec(packet, now)
        elif isinstance(packet, PubRel):
            self._take_pubrel(packet.packet_id, now)
        elif isinstance(packet, PubComp):
            if self.expects(packet.packet_id, AWAITING_PUBCOMP):
                self._finish(packet.packet_id, now)
        elif isinstance(packet, SubAck):
            self.take_answer(packet.packet_id, AWAITING_SUBACK, len(packet.reasons))
        elif isinstance(packet, UnsubAck):
            self.take_answer(packet.packet_id, AWAITING_UNSUBACK, len(packet.reasons))
        elif isinstance(packet, ConnAck):
            self._take_connack(packet, now)
        elif isinstance(packet, PingResp):
            self._ping_at = -1.0
        self._add_event(packet)

    def fail(
        self, message: str, statement: str, reason: int = PROTOCOL_ERROR
    ) -> RemoteProtocolError:
        """The error of a peer that broke MQTT with the packet that was read last; nothing more is
        read. Raise it."""
        at = self.buffer.stream_offset(int(self.buffer.start))
        self._set_state(CLOSING if self.inbound is None else FAILED)
        return RemoteProtocolError(message, statement, at, reason)

    def answer(self, kind: int, packet: Packet, now: float) -> None:
        """Send what a packet asks for of itself."""
        try:
            self._send(kind, packet, now)
        except LocalProtocolError as error:  # not even four bytes
            raise self.fail(str(error), "", PACKET_TOO_LARGE) from None

    def expects(self, packet_id: int, step: int) -> bool:
        """Whether an acknowledgement is of something. Raises `RemoteProtocolError`.

        In MQTT 5.0 the two sides may have lost sight of each other's state, and say so with
        reason codes; in 3.1.1 it is an error.
        """
        found = self._own_flow().step(packet_id)
        if found == step:
            return True
        if self.inbound is None:
            raise self.fail(f"nothing was sent with identifier {packet_id}", "MQTT-2.3.1-6")
        if found == FREE:
            return False
        raise self.fail(f"identifier {packet_id} does not wait for that", "MQTT-2.2.1-5")

    def _finish(self, packet_id: int, now: float) -> None:
        flow = self._own_flow()
        flow.finish(packet_id)
        if self._waiting is not None:
            self._waiting.pop(packet_id, None)  # acknowledged before it was repeated
            self._send_waiting(flow, flow.in_flight, now)

    def _take_publish(self, packet: Publish, now: float) -> bool:
        """Acknowledge by QoS; False for a repeat of a QoS 2 message.

        [v3 MQTT-4.5.0-2] [MQTT-3.3.4-1] [MQTT-4.5.0-2] [MQTT-4.6.0-2] [MQTT-4.6.0-3]
        """
        qos = packet.message.qos
        if qos and self.inbound is not None:
            self.count_unanswered(packet.packet_id)
        if qos == 1 and not self._manual_acks:  # [MQTT-4.3.2-4]
            self.answer(PUBACK, PubAck(packet.packet_id), now)
            self._answered(packet.packet_id)
        elif qos == 2:
            is_new = self._own_flow().hold(packet.packet_id)  # [MQTT-4.3.3-10]
            if not self._manual_acks or not is_new:  # [MQTT-4.3.3-8]
                self.answer(PUBREC, PubRec(packet.packet_id), now)
            return is_new
        return True

    def count_unanswered(self, packet_id: int) -> None:
        """Hold the peer to the receive maximum that was announced to it (4.9 of MQTT 5.0)."""
        unanswered = self._unanswered
        if unanswered is None:
            unanswered = set()
            self._unanswered = unanswered
        unanswered.add(packet_id)
        if len(unanswered) > self.own.receive_maximum:
            raise self.fail(
                f"more than {self.own.receive_maximum} messages are unacknowledged",
                "MQTT-3.3.4-9" if self.role == CLIENT else "MQTT-3.3.4-7",
                RECEIVE_MAXIMUM_EXCEEDED,
            )

    def _take_pubrec(self, packet: PubRec, now: float) -> None:
        packet_id = packet.packet_id
        flow = self._own_flow()
        step = flow.step(packet_id)
        if step != AWAITING_PUBREC and step != AWAITING_PUBCOMP:
            self.expects(packet_id, AWAITING_PUBREC)  # raises for a QoS 1 message
            self.answer(PUBREL, PubRel(packet_id, PACKET_IDENTIFIER_NOT_FOUND), now)
            return  # [MQTT-3.6.2-1]
        if packet.reason >= UNSPECIFIED_ERROR:  # the end of it  [MQTT-4.3.3-4] [MQTT-4.4.0-2]
            self._finish(packet_id, now)
            return
        if step == AWAITING_PUBREC:
            flow.advance(packet_id, AWAITING_PUBCOMP)
            if self._waiting is not None:
                self._waiting.pop(packet_id, None)
        self.answer(PUBREL, PubRel(packet_id), now)  # [MQTT-4.6.0-4]

    def _take_pubrel(self, packet_id: int, now: float) -> None:
        was_held = self._own_flow().release(packet_id)
        if self._manual_acks:
            return
        is_known = was_held or self.inbound is None
        reason = SUCCESS if is_known else PACKET_IDENTIFIER_NOT_FOUND  # [MQTT-3.7.2-1]
        self.answer(PUBCOMP, PubComp(packet_id, reason), now)  # [MQTT-4.3.3-11]
        self._answered(packet_id)

    def take_answer(self, packet_id: int, step: int, count: int) -> None:
        """SUBACK or UNSUBACK, with a code for each filter; in 3.1.1 UNSUBACK has none."""
        flow = self._own_flow()
        if flow.step(packet_id) != step:
            statement = "MQTT-2.3.1-6" if self.inbound is None else "MQTT-2.2.1-6"
            raise self.fail(f"nothing was sent with identifier {packet_id}", statement)
        requests = self._requests
        asked = 0 if requests is None else requests.pop(packet_id)
        if count != asked and (step == AWAITING_SUBACK or self.inbound is not None):
            if self.inbound is None:
                statement = "MQTT-3.8.4-5"
            else:
                statement = "MQTT-3.8.4-6" if step == AWAITING_SUBACK else "MQTT-3.11.3-1"
            raise self.fail(f"{count} codes answer {asked} filters", statement)
        flow.finish(packet_id)

    # The session of an earlier connection

    def _take_connack(self, packet: ConnAck, now: float) -> None:
        flow = self._own_flow()
        if packet.reason != SUCCESS:
            return
        self.check_session(packet)
        if packet.session_present:
            self._resume(flow, now)
        else:
            # The session is a new one on both sides; what followed CONNECT belongs to it.
            self.discarded += flow.reset(self._began_at_order)  # [MQTT-3.2.2-5]

    def check_session(self, packet: ConnAck) -> None:
        """A CONNACK that accepts: it must not speak of a session that there cannot be, and may
        assign a client identifier. Raises `RemoteProtocolError`."""
        assigned = text(packet.properties, ASSIGNED_CLIENT_IDENTIFIER)
        if assigned is not None:
            self.client_id = assigned
        if packet.session_present:
            if self._clean_start:
                statement = "MQTT-3.2.2-1" if self.inbound is None else "MQTT-3.2.2-2"
                raise self.fail("session present for a clean session", statement)
            if self.inbound is not None and not self._has_session:
                raise self.fail("session present, and there is none here", "MQTT-3.2.2-4")

    def _resume(self, flow: Flow, now: float) -> None:
        """Repeat what an earlier connection left unfinished, in its order, and nothing but once.

        [v3 MQTT-4.4.0-1] [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3]
        """
        unfinished = flow.unfinished(self._began_at_order)
        self._waiting = {
            each: None for each in reversed(unfinished) if flow.message(each) is not None
        }
        for packet_id in unfinished:
            if flow.message(packet_id) is not None:
                self._send_waiting(flow, 1, now)
            elif flow.step(packet_id) == AWAITING_PUBCOMP:
                # Never the message again once PUBREC has come.  [MQTT-4.3.3-5] [MQTT-4.3.3-6]
                self.answer(PUBREL, PubRel(packet_id), now)
            else:
                flow.finish(packet_id)  # SUBSCRIBE and UNSUBSCRIBE are not part of a session

    def _send_waiting(self, flow: Flow, most: int, now: float) -> None:
        """Repeat at most so many messages, as far as the peer's receive maximum has room."""
        waiting = self._waiting
        while waiting and most > 0 and flow.in_flight - len(waiting) < self.peer.receive_maximum:
            self._send_again(flow, waiting.popitem()[0], now)
            most -= 1
        if not waiting:
            self._waiting = None

    def _send_again(self, flow: Flow, packet_id: int, now: float) -> None:
        message = flow.message(packet_id)
        assert message is not None
        try:
            fault = self.publish_fault(message)
            if fault:
                raise LocalProtocolError(fault)
            # With its topic name, an alias being gone, and though it may have expired.
            # [v3 MQTT-3.3.1-1] [MQTT-3.3.1-1] [MQTT-4.3.3-7]
            self._send(PUBLISH, Publish(message, packet_id, True), now)
        except LocalProtocolError:  # this server has announced less than the one before
            flow.finish(packet_id)
            self.discarded.append(message)

    # Output

    def data_to_send(self) -> bytes:
        """The next bytes for the transport; empty when there are none."""
        return self.output.take()

    def excuse_silence(self) -> None:
        """An answer that is missing shows nothing: this side has not been reading."""
        self._ping_at = -1.0

    @property
    def wants_close(self) -> bool:
        """Whether the transport is to be closed, once `data_to_send` is empty."""
        return self.state >= FAILED

    @property
    def wants_read(self) -> bool:
        """Whether more input is of use."""
        return self.state < FAILED

    # Time

    def next_deadline(self) -> float | None:
        """When `advance` is to be called at the latest; None for never."""
        state = self.state
        if self.role != CLIENT:
            return None
        if state in (ANSWERING, AUTHENTICATING):
            return self._sent_at + self._connack_timeout_s
        if state != CONNECTED or not self.keep_alive_s:
            return None
        if self._ping_at >= 0:
            return self._ping_at + self.keep_alive_s
        return (
            self._sent_at + self.keep_alive_s * 0.75
        )  # in time  [v3 MQTT-3.1.2-23] [MQTT-3.1.2-20]

    def advance(self, now: float) -> None:
        """Do what is due: send PINGREQ, or give up a server that does not answer one."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state != CONNECTED:
            self._lose("no CONNACK in time")
            self._set_state(CLOSING)
        elif self._ping_at >= 0:
            self._lose("no PINGRESP within the keep-alive period")
            self._set_state(CLOSING)
        else:
            self.send_pingreq(now)
