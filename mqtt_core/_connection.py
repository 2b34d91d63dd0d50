"""One MQTT connection as a state machine, for either role.

    connection.receive_data(chunk, now)
    for packet in connection.events(): ...
    connection.send_publish(...)
    transport.write(connection.data_to_send())
    arm_timer(connection.next_deadline())      # when it fires: connection.advance(now)

It decides which packet may come when (`_state`), keeps the handshakes of QoS 1 and 2 (`_flow`)
and sees to keep-alive. A server drives it packet by packet with `feed` and `read_packet` and
does its own bookkeeping; a client uses the calls above. Times are seconds of one monotonic
clock, sections those of MQTT 3.1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, final

from mqtt_core._codes import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    MQTT_3_1_1,
    PACKET_NAMES,
    PINGREQ,
    PINGRESP,
    PROTOCOL_ERROR,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    SUCCESS,
    UNSUBACK,
    UNSUBSCRIBE,
)
from mqtt_core._decode import (
    check_empty,
    check_flags,
    decode_connack,
    decode_connect,
    decode_packet_id,
    decode_publish,
    decode_suback,
    decode_subscribe,
    decode_unsubscribe,
)
from mqtt_core._encode import encode, topic_filter_bytes, topic_name_bytes
from mqtt_core._errors import ConnectionRefused, LocalProtocolError, RemoteProtocolError
from mqtt_core._flow import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    AWAITING_SUBACK,
    AWAITING_UNSUBACK,
    Flow,
)
from mqtt_core._message import Message
from mqtt_core._output import Output, WriterPool
from mqtt_core._packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
)
from mqtt_core._receive_buffer import ReceiveBuffer
from mqtt_core._state import (
    ANSWERING,
    CLIENT,
    CLOSED,
    CLOSING,
    CONNECTED,
    MAY_SEND,
    OPENING,
    State,
)
from mqtt_core._topics import Topic, TopicCache

_PREPARED: Final = 512
_PUBACKS: Final[list[PubAck]] = [PubAck(packet_id) for packet_id in range(_PREPARED)]
_PUBRECS: Final[list[PubRec]] = [PubRec(packet_id) for packet_id in range(_PREPARED)]
_PUBRELS: Final[list[PubRel]] = [PubRel(packet_id) for packet_id in range(_PREPARED)]
_PUBCOMPS: Final[list[PubComp]] = [PubComp(packet_id) for packet_id in range(_PREPARED)]
_PINGREQ: Final = PingReq()
_PINGRESP: Final = PingResp()
_DISCONNECT: Final = Disconnect()

_ACK_STATEMENT: Final = "MQTT-2.3.1-6"


@final
class ConnectionLost(Packet):
    """An event that is no packet: the connection ended without DISCONNECT; `why` says how."""

    FIELDS: ClassVar[tuple[str, ...]] = ("why",)
    __match_args__: ClassVar[tuple[str, ...]] = ("why",)

    def __init__(self, why: str) -> None:
        self.why: Final = why


@final
class Connection:
    """One end of a connection.

    `flow` carries a session's delivery state over from an earlier connection; `topics` and
    `writers` can be shared by many connections of one owner. With `manual_acks` the caller
    acknowledges QoS 1 and 2 messages itself. A SUBSCRIBE or UNSUBSCRIBE may have `max_filters`
    filters; a client waits `connack_timeout_s` for its CONNACK. `discarded` has the messages of
    an earlier connection that a new session has dropped: publish them again if they matter.
    """

    __slots__ = (
        "role",
        "level",
        "state",
        "buffer",
        "output",
        "topics",
        "flow",
        "keep_alive_s",
        "received_at",
        "_sent_at",
        "_ping_at",
        "_manual_acks",
        "_events",
        "_clean_start",
        "_requests",
        "_may_read",
        "discarded",
        "_max_filters",
        "_connack_timeout_s",
        "_began_at_order",
    )

    def __init__(
        self,
        role: int = CLIENT,
        *,
        flow: Flow | None = None,
        topics: TopicCache | None = None,
        writers: WriterPool | None = None,
        max_packet_size_bytes: int = 268_435_460,
        max_filters: int = 1_000_000,
        connack_timeout_s: float = 30.0,
        manual_acks: bool = False,
        now: float = 0.0,
    ) -> None:
        self.role: Final = role
        self.level = MQTT_3_1_1
        self.state: int = OPENING
        self.buffer: Final = ReceiveBuffer(max_packet_size_bytes)
        self.output: Final = Output(WriterPool() if writers is None else writers)
        self.topics: Final = TopicCache(65_536) if topics is None else topics
        self.flow = flow
        self.keep_alive_s = 0
        self.received_at = now
        self._sent_at = now
        self._ping_at = -1.0  # when the PINGREQ went out that has no answer yet
        self._manual_acks: Final = manual_acks
        self._events: list[Packet] | None = None
        self._clean_start = True
        self._requests: dict[int, int] | None = None  # filters in SUBSCRIBEs without answer
        self._may_read = MAY_SEND[1 - role][OPENING]
        self._max_filters: Final = max_filters
        self._connack_timeout_s: Final = connack_timeout_s
        self._began_at_order = 0  # the flow's order when CONNECT went out
        self.discarded: list[Message] = []

    # Input

    def feed(self, chunk: bytes, now: float) -> None:
        """Store a chunk for `read_packet`; discarded when the connection is closing."""
        self.received_at = now
        if self.state < CLOSING:
            self.buffer.feed(chunk)

    def read_packet(self) -> Packet | None:
        """The next whole packet, or None.

        Raises `RemoteProtocolError`; the connection is then CLOSING and reads nothing more.
        After `ConnectionRefused`, for a CONNECT that has an answer, `send_connack` may send it.
        """
        buffer = self.buffer
        try:
            data = buffer.data
            at = int(buffer.end)
            if at < len(data):  # a wrong packet is refused on its first byte, not its last
                kind = data[at] >> 4
                if not self._may_read >> kind & 1:
                    raise self._misplaced(kind, at)
                if kind != PUBLISH:
                    check_flags(kind, data[at] & 0x0F, self.level, at)
            if not buffer.next_packet():
                return None
            kind = buffer.data[buffer.start] >> 4
            if kind == PUBLISH:
                return decode_publish(
                    buffer.data, buffer.start, buffer.body, buffer.end, self.topics
                )
            return self._decode(kind)
        except RemoteProtocolError as error:
            error.offset = buffer.stream_offset(error.offset)
            self._set_state(ANSWERING if isinstance(error, ConnectionRefused) else CLOSING)
            raise

    def _misplaced(self, kind: int, at: int) -> RemoteProtocolError:
        name = PACKET_NAMES[kind]
        if kind == CONNECT and self.role != CLIENT and self.state == CONNECTED:
            return RemoteProtocolError("second CONNECT", "MQTT-3.1.0-2", at, PROTOCOL_ERROR)
        if self.role != CLIENT and self.state == OPENING:
            return RemoteProtocolError(
                f"first packet is {name}, not CONNECT", "MQTT-3.1.0-1", at, PROTOCOL_ERROR
            )
        if self.role == CLIENT and self.state == ANSWERING:
            return RemoteProtocolError(
                f"{name} came before CONNACK", "MQTT-3.2.0-1", at, PROTOCOL_ERROR
            )
        peer = "server" if self.role == CLIENT else "client"
        return RemoteProtocolError(
            f"a {peer} may not send {name} now", "MQTT-4.8.0-1", at, PROTOCOL_ERROR
        )

    def _decode(self, kind: int) -> Packet:
        buffer = self.buffer
        data = buffer.data
        body = buffer.body
        end = buffer.end
        if kind == PUBACK:
            packet_id = decode_packet_id(data, body, end)
            return _PUBACKS[packet_id] if packet_id < _PREPARED else PubAck(packet_id)
        if kind == PUBREC:
            packet_id = decode_packet_id(data, body, end)
            return _PUBRECS[packet_id] if packet_id < _PREPARED else PubRec(packet_id)
        if kind == PUBREL:
            packet_id = decode_packet_id(data, body, end)
            return _PUBRELS[packet_id] if packet_id < _PREPARED else PubRel(packet_id)
        if kind == PUBCOMP:
            packet_id = decode_packet_id(data, body, end)
            return _PUBCOMPS[packet_id] if packet_id < _PREPARED else PubComp(packet_id)
        if kind == PINGREQ:
            check_empty(body, end)
            return _PINGREQ
        if kind == PINGRESP:
            check_empty(body, end)
            return _PINGRESP
        if kind == SUBSCRIBE:
            return decode_subscribe(data, int(body), int(end), self._max_filters)
        if kind == UNSUBSCRIBE:
            return decode_unsubscribe(data, int(body), int(end), self._max_filters)
        if kind == SUBACK:
            return decode_suback(data, int(body), int(end))
        if kind == UNSUBACK:
            return UnsubAck(decode_packet_id(data, body, end))
        if kind == DISCONNECT:
            check_empty(body, end)
            self._set_state(CLOSING)  # nothing behind it is read  [v3 MQTT-3.14.4-2]
            return _DISCONNECT
        if kind == CONNECT:
            connect = decode_connect(data, int(body), int(end))
            self.level = connect.level
            self.keep_alive_s = connect.keep_alive_s
            self._set_state(ANSWERING)
            return connect
        connack = decode_connack(data, int(body), int(end))
        self._set_state(CONNECTED if connack.reason == SUCCESS else CLOSING)
        return connack

    def _set_state(self, state: int) -> None:
        self.state = state
        # Packets behind CONNECT stay unread until CONNACK has left.
        self._may_read = MAY_SEND[1 - self.role][state]
        if state >= CLOSING:
            self.buffer.clear()

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Take a chunk from the transport; what it means is then in `events()`.

        Raises `RemoteProtocolError` when the peer broke MQTT; packets before that one have
        taken effect and are in `events()`, and the connection is CLOSING.
        """
        self.feed(chunk, now)
        while self.can_read:
            packet = self.read_packet()
            if packet is None:
                return
            self._apply(packet, now)

    @property
    def can_read(self) -> bool:
        """Whether packets may be read now: a server reads none between CONNECT and CONNACK."""
        state = self.state
        return state < CLOSING and (state != ANSWERING or self.role == CLIENT)

    def events(self) -> list[Packet]:
        """What has happened since the last call, in order."""
        events = self._events
        self._events = None
        return [] if events is None else events

    def eof(self, now: float) -> None:
        """The transport is gone; a `ConnectionLost` event tells of it unless it was expected."""
        if self.state < CLOSING:
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

    # Bookkeeping for a driver that is no broker

    def _apply(self, packet: Packet, now: float) -> None:
        if isinstance(packet, Publish):
            if not self._take_publish(packet, now):
                return
        elif isinstance(packet, PubAck):
            self._expect(packet.packet_id, AWAITING_PUBACK)
            self._own_flow().finish(packet.packet_id)
        elif isinstance(packet, PubRec):
            self._take_pubrec(packet.packet_id, now)
        elif isinstance(packet, PubRel):
            self._own_flow().release(packet.packet_id)
            if not self._manual_acks:
                self.send_pubcomp(packet.packet_id, now)
        elif isinstance(packet, PubComp):
            self._expect(packet.packet_id, AWAITING_PUBCOMP)
            self._own_flow().finish(packet.packet_id)
        elif isinstance(packet, SubAck):
            self._take_suback(packet)
        elif isinstance(packet, UnsubAck):
            self._expect(packet.packet_id, AWAITING_UNSUBACK)
            self._own_flow().finish(packet.packet_id)
        elif isinstance(packet, ConnAck):
            self._take_connack(packet, now)
        elif isinstance(packet, PingResp):
            self._ping_at = -1.0
        self._add_event(packet)

    def _own_flow(self) -> Flow:
        flow = self.flow
        if flow is None:
            flow = Flow()
            self.flow = flow
        return flow

    def _fail(self, message: str, statement: str) -> RemoteProtocolError:
        at = self.buffer.stream_offset(int(self.buffer.start))
        self._set_state(CLOSING)
        return RemoteProtocolError(message, statement, at, PROTOCOL_ERROR)

    def _expect(self, packet_id: int, step: int) -> None:
        if self._own_flow().step(packet_id) != step:
            raise self._fail(f"nothing was sent with identifier {packet_id}", _ACK_STATEMENT)

    def _take_publish(self, packet: Publish, now: float) -> bool:
        """Acknowledge by QoS; False for a repeat of a QoS 2 message.  [v3 MQTT-4.5.0-2]"""
        qos = packet.message.qos
        if qos == 1 and not self._manual_acks:
            self.send_puback(packet.packet_id, now)
        elif qos == 2:
            is_new = self._own_flow().hold(packet.packet_id)
            if not self._manual_acks or not is_new:
                self.send_pubrec(packet.packet_id, now)
            return is_new
        return True

    def _take_pubrec(self, packet_id: int, now: float) -> None:
        flow = self._own_flow()
        step = flow.step(packet_id)
        if step != AWAITING_PUBREC and step != AWAITING_PUBCOMP:
            raise self._fail(f"nothing was sent with identifier {packet_id}", _ACK_STATEMENT)
        if step == AWAITING_PUBREC:
            flow.advance(packet_id, AWAITING_PUBCOMP)
        self._send(PUBREL, PubRel(packet_id), now)

    def _take_suback(self, packet: SubAck) -> None:
        self._expect(packet.packet_id, AWAITING_SUBACK)
        requests = self._requests
        asked = 0 if requests is None else requests.pop(packet.packet_id)
        if len(packet.reasons) != asked:
            raise self._fail(
                f"SUBACK has {len(packet.reasons)} return codes for {asked} filters",
                "MQTT-3.8.4-5",
            )
        self._own_flow().finish(packet.packet_id)

    def _take_connack(self, packet: ConnAck, now: float) -> None:
        flow = self._own_flow()
        if packet.reason != SUCCESS:
            return
        if packet.session_present and self._clean_start:
            raise self._fail("session present for a clean session", "MQTT-3.2.2-1")
        if not packet.session_present:
            # The session is a new one on both sides; what followed CONNECT belongs to it.
            self.discarded += flow.reset(self._began_at_order)
            return
        for packet_id in flow.unfinished(self._began_at_order):
            self._send_again(flow, packet_id, now)

    def _send_again(self, flow: Flow, packet_id: int, now: float) -> None:
        """Repeat what an earlier connection left unfinished.  [v3 MQTT-4.4.0-1]"""
        step = flow.step(packet_id)
        message = flow.message(packet_id)
        if step == AWAITING_PUBCOMP:
            self._send(PUBREL, PubRel(packet_id), now)
        elif message is not None:
            self._send(PUBLISH, Publish(message, packet_id, True), now)  # [v3 MQTT-3.3.1-1]
        else:
            flow.finish(packet_id)  # SUBSCRIBE and UNSUBSCRIBE are not part of a session

    # Output

    def _check_may_send(self, kind: int) -> None:
        if not MAY_SEND[self.role][self.state] >> kind & 1:
            state = State(self.state).name
            raise LocalProtocolError(f"{PACKET_NAMES[kind]} may not be sent while {state}")

    def _send(self, kind: int, packet: Packet, now: float) -> None:
        self._check_may_send(kind)
        self.output.write(encode(packet))
        self._sent_at = now

    def send_connect(self, packet: Connect, now: float) -> None:
        """Ask for a connection; a client's first packet (3.1).

        With `clean_start` the delivery state of earlier connections is dropped. Raises
        `LocalProtocolError`.
        """
        self._send(CONNECT, packet, now)  # [v3 MQTT-3.1.0-1]
        self.level = packet.level
        self.keep_alive_s = packet.keep_alive_s
        self._clean_start = packet.clean_start
        if packet.clean_start:  # [v3 MQTT-3.1.2-6]
            self.discarded = self._own_flow().reset()
        self._began_at_order = self._own_flow().order
        self._set_state(ANSWERING)

    def send_connack(self, packet: ConnAck, now: float) -> None:
        """Answer a CONNECT (3.2); a refusal ends the connection.

        What the client has sent behind its CONNECT is read with the next `receive_data`, whose
        chunk may be empty. Raises `LocalProtocolError`.
        """
        self._send(CONNACK, packet, now)
        self._set_state(CONNECTED if packet.reason == SUCCESS else CLOSING)

    def send_publish(
        self, topic: str, payload: bytes, qos: int = 0, retain: bool = False, *, now: float
    ) -> int:
        """Publish a message (3.3); returns its packet identifier, 0 at QoS 0.

        Raises `LocalProtocolError`, also when the window of unacknowledged messages is full.
        """
        self._check_may_send(PUBLISH)
        message = Message(Topic(topic_name_bytes(topic)), payload, qos, retain)
        if qos == 0:
            self._send(PUBLISH, Publish(message), now)  # [v3 MQTT-4.3.1-1]
            return 0
        if not 1 <= qos <= 2:  # [v3 MQTT-3.3.1-4]
            raise LocalProtocolError(f"QoS is {qos}")
        flow = self._own_flow()
        if not flow.has_room or not flow.has_identifier:
            raise LocalProtocolError(f"{flow.in_flight} messages are unacknowledged already")
        step = AWAITING_PUBACK if qos == 1 else AWAITING_PUBREC
        packet_id = flow.start(message, step)  # [v3 MQTT-4.3.2-1] [v3 MQTT-4.3.3-1]
        try:
            self._send(PUBLISH, Publish(message, packet_id), now)
        except LocalProtocolError:
            flow.finish(packet_id)
            raise
        return packet_id

    def send_puback(self, packet_id: int, now: float) -> None:
        """Take over a QoS 1 message (3.4). Raises `LocalProtocolError`."""
        self._send(PUBACK, PubAck(packet_id), now)

    def send_pubrec(self, packet_id: int, now: float) -> None:
        """Take over a QoS 2 message (3.5). Raises `LocalProtocolError`."""
        self._send(PUBREC, PubRec(packet_id), now)

    def send_pubcomp(self, packet_id: int, now: float) -> None:
        """Complete the exchange of a QoS 2 message (3.7). Raises `LocalProtocolError`."""
        self._send(PUBCOMP, PubComp(packet_id), now)

    def send_subscribe(self, subscriptions: Sequence[tuple[str, int]], now: float) -> int:
        """Ask for messages by (filter, QoS) pairs (3.8); returns the packet identifier.

        Raises `LocalProtocolError`.
        """
        self._check_may_send(SUBSCRIBE)
        for topic_filter, _ in subscriptions:
            topic_filter_bytes(topic_filter)
        asked = tuple(Subscription(topic_filter, qos) for topic_filter, qos in subscriptions)
        packet_id = self._start_request(AWAITING_SUBACK)
        try:
            self._send(SUBSCRIBE, Subscribe(packet_id, asked), now)
        except LocalProtocolError:
            self._own_flow().finish(packet_id)
            raise
        if self._requests is None:
            self._requests = {}
        self._requests[packet_id] = len(asked)
        return packet_id

    def send_unsubscribe(self, topic_filters: Sequence[str], now: float) -> int:
        """Ask for no more messages (3.10); returns the packet identifier.

        Raises `LocalProtocolError`.
        """
        self._check_may_send(UNSUBSCRIBE)
        packet_id = self._start_request(AWAITING_UNSUBACK)
        try:
            self._send(UNSUBSCRIBE, Unsubscribe(packet_id, tuple(topic_filters)), now)
        except LocalProtocolError:
            self._own_flow().finish(packet_id)
            raise
        return packet_id

    def _start_request(self, step: int) -> int:
        flow = self._own_flow()
        if not flow.has_identifier:
            raise LocalProtocolError("all packet identifiers are in use")
        return flow.start(None, step)

    def send_pingreq(self, now: float) -> None:
        """Ask the server for a sign of life (3.12). Raises `LocalProtocolError`."""
        self._send(PINGREQ, _PINGREQ, now)
        if self._ping_at < 0:
            self._ping_at = now

    def send_disconnect(self, now: float) -> None:
        """End the connection cleanly (3.14); close the transport once the bytes are out.

        Raises `LocalProtocolError`; so does every later `send_*`.
        """
        self._send(DISCONNECT, _DISCONNECT, now)  # [v3 MQTT-3.14.4-2]
        self._set_state(CLOSING)  # [v3 MQTT-3.14.4-1]

    def data_to_send(self) -> bytes:
        """The next bytes for the transport; empty when there are none."""
        return self.output.take()

    @property
    def wants_close(self) -> bool:
        """Whether the transport is to be closed, once `data_to_send` is empty."""
        return self.state >= CLOSING

    @property
    def wants_read(self) -> bool:
        """Whether more input is of use."""
        return self.state < CLOSING

    # Time

    def next_deadline(self) -> float | None:
        """When `advance` is to be called at the latest; None for never."""
        if self.role != CLIENT or self.state not in (ANSWERING, CONNECTED):
            return None
        if self.state == ANSWERING:
            return self._sent_at + self._connack_timeout_s
        if not self.keep_alive_s:
            return None
        if self._ping_at >= 0:
            return self._ping_at + self.keep_alive_s
        return self._sent_at + self.keep_alive_s * 0.75  # in time  [v3 MQTT-3.1.2-23]

    def advance(self, now: float) -> None:
        """Do what is due: send PINGREQ, or give up a server that does not answer one."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state == ANSWERING:
            self._lose("no CONNACK in time")
            self._set_state(CLOSING)
        elif self._ping_at >= 0:
            self._lose("no PINGRESP within the keep-alive period")
            self._set_state(CLOSING)
        else:
            self.send_pingreq(now)
