"""The sending side of a connection: each packet is checked, then written.

A packet may be sent where `_state` says so, in the words of the connection's version, and in
MQTT 5.0 within what the peer has announced. What MQTT forbids raises `LocalProtocolError`, and
nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mqtt_core._codes import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MQTT_5,
    PACKET_NAMES,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    SUBSCRIBE,
    SUCCESS,
    UNSPECIFIED_ERROR,
    UNSUBSCRIBE,
)
from mqtt_core._encode import encode
from mqtt_core._encode5 import encode_fitting, encode_publish5
from mqtt_core._errors import LocalProtocolError
from mqtt_core._exchange import NOBODY, connack_fault
from mqtt_core._fields import topic_filter_bytes, topic_name_bytes
from mqtt_core._flow import (
    AWAITING_PUBACK,
    AWAITING_PUBREC,
    AWAITING_SUBACK,
    AWAITING_UNSUBACK,
    Flow,
)
from mqtt_core._message import Message, make_extras, split_properties
from mqtt_core._output import Output, WriterPool
from mqtt_core._packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    Subscribe,
    Subscription,
    Unsubscribe,
)
from mqtt_core._properties import (
    ASSIGNED_CLIENT_IDENTIFIER,
    NO_PROPERTIES,
    SESSION_EXPIRY_INTERVAL,
    SUBSCRIPTION_IDENTIFIER,
    TOPIC_ALIAS,
    Properties,
    number,
    text,
)
from mqtt_core._reading import Reading
from mqtt_core._reasons import BY_CLIENT, BY_SERVER
from mqtt_core._state import (
    ANSWERING,
    AUTHENTICATING,
    CLIENT,
    CLOSING,
    CONNECTED,
    MAY_SEND,
    MAY_SEND_5,
    State,
)
from mqtt_core._topics import Topic, TopicCache, has_wildcard

_PINGREQ: Final = PingReq()
_PUBREC_BYTE: Final = 0x50
_PUBREL_BYTE: Final = 0x62


class Writing(Reading):
    """What a connection knows to send packets: `output`, and `flow`, a session's delivery state."""

    __slots__ = (
        "output",
        "flow",
        "discarded",
        "_sent_at",
        "_ping_at",
        "_clean_start",
        "_has_session",
        "_began_at_order",
        "_requests",
        "_aliases",
        "_unanswered",
    )

    def __init__(
        self,
        role: int,
        newest_level: int,
        flow: Flow | None,
        topics: TopicCache | None,
        writers: WriterPool | None,
        max_packet_size_bytes: int,
        max_filters: int,
        max_user_properties: int,
        max_property_bytes: int,
        max_alias_bytes: int,
        now: float,
    ) -> None:
        super().__init__(
            role,
            newest_level,
            topics,
            max_packet_size_bytes,
            max_filters,
            max_user_properties,
            max_property_bytes,
            max_alias_bytes,
            now,
        )
        self.output: Final = Output(WriterPool() if writers is None else writers)
        self.flow = flow
        self.discarded: list[Message] = []
        self._sent_at = now
        self._ping_at = -1.0  # when the PINGREQ went out that has no answer yet
        self._clean_start = True
        self._has_session = False
        self._began_at_order = 0  # the flow's order when CONNECT went out
        self._requests: dict[int, int] | None = None  # filters in requests without answer
        self._aliases: dict[int, bytes] | None = None  # topic names that the peer has aliases for
        self._unanswered: set[int] | None = None  # messages received and not acknowledged

    def _own_flow(self) -> Flow:
        flow = self.flow
        if flow is None:
            flow = Flow()
            self.flow = flow
        return flow

    # The way of every packet

    def _check_may_send(self, kind: int) -> None:
        masks = MAY_SEND if self.inbound is None else MAY_SEND_5
        if not masks[self.role][self.state] >> kind & 1:
            state = State(self.state).name
            raise LocalProtocolError(f"{PACKET_NAMES[kind]} may not be sent while {state}")

    def _encode(self, packet: Packet) -> bytes:
        if self.inbound is None:
            return encode(packet)
        senders = BY_CLIENT if self.role == CLIENT else BY_SERVER
        peer = self.peer
        return encode_fitting(
            packet, senders, peer.maximum_packet_size, peer.wants_problem_information
        )

    def _send(self, kind: int, packet: Packet, now: float) -> None:
        self._check_may_send(kind)
        self._write(self._encode(packet), now)

    def _write(self, data: bytes, now: float) -> None:
        self.output.write(data)
        self._sent_at = now

    def _check_version(self, reason: int, properties: Properties) -> None:
        """MQTT 3.1.1 has no words for reasons and properties."""
        if self.inbound is None and (reason != SUCCESS or properties):
            raise LocalProtocolError("only MQTT 5.0 has reason codes and properties here")

    # The beginning

    def send_connect(self, packet: Connect, now: float) -> None:
        """Ask for a connection; a client's first packet (3.1).

        With `clean_start` the delivery state of earlier connections is dropped. In MQTT 5.0 what
        its properties announce is what the server is held to. Raises `LocalProtocolError`.
        """
        self._send(CONNECT, packet, now)  # [v3 MQTT-3.1.0-1] [MQTT-3.1.0-1]
        self.level = packet.level
        self._clean_start = packet.clean_start
        self._has_session = self.flow is not None and not packet.clean_start
        if packet.clean_start:  # [v3 MQTT-3.1.2-6] [MQTT-3.1.2-4]
            self.discarded = self._own_flow().reset()
        self._began_at_order = self._own_flow().order
        if packet.level == MQTT_5:
            self._begin5()
            self._announce(packet.properties)
            self._passed_connect(packet)
        else:
            self.client_id = packet.client_id
            self.keep_alive_s = packet.keep_alive_s
            self._set_state(ANSWERING)

    def send_connack(self, packet: ConnAck, now: float) -> None:
        """Answer a CONNECT (3.2); a refusal ends the connection.

        What the client has sent behind its CONNECT is read with the next `receive_data`, whose
        chunk may be empty. In MQTT 5.0 what its properties announce is what the client is held
        to; the authentication method, where there is one, is added. Raises `LocalProtocolError`.
        """
        self._check_may_send(CONNACK)
        self._check_version(SUCCESS, packet.properties)
        is_accepted = packet.reason == SUCCESS
        exchange = self.exchange
        if self.inbound is not None and is_accepted:
            packet = self._complete(packet)
        self._write(self._encode(packet), now)
        if not is_accepted:
            self._set_state(CLOSING)  # [MQTT-3.2.2-7] [MQTT-4.13.2-1]
            return
        if self.inbound is not None:
            self._announce(packet.properties)
            self._set_session_expiry(packet.properties)
        has_early = exchange is not None and self.buffer.size_bytes > 0
        self._set_state(CONNECTED)
        if exchange is not None:
            exchange.turn = NOBODY
        if has_early:
            # What has arrived was sent before the client could have read this, and within an
            # authentication only few packets may be.  [MQTT-3.1.2-30]
            self._may_read = MAY_SEND_5[CLIENT][AUTHENTICATING]

    def _complete(self, packet: ConnAck) -> ConnAck:
        """A CONNACK that accepts, with what it has to have."""
        properties = packet.properties
        if self.exchange is not None:
            properties = self.exchange.with_method(properties)
        if not self.client_id and text(properties, ASSIGNED_CLIENT_IDENTIFIER) is None:
            # [MQTT-3.1.3-7] [MQTT-3.2.2-16]
            raise LocalProtocolError("the client is to be assigned a client identifier")
        packet = ConnAck(packet.session_present, packet.reason, properties)
        fault = connack_fault(self.exchange, packet)
        if fault is not None:  # [MQTT-4.12.0-5] [MQTT-4.12.0-6]
            raise LocalProtocolError(fault[0])
        return packet

    def send_auth(self, packet: Auth, now: float) -> None:
        """Take a step of enhanced authentication (4.12); the method is added where it is missing.

        Raises `LocalProtocolError`, also when it is the peer's turn.
        """
        self._check_may_send(AUTH)
        exchange = self.exchange
        if exchange is None:  # [MQTT-4.12.0-6] [MQTT-4.12.0-7]
            raise LocalProtocolError("CONNECT had no authentication method")
        packet = Auth(packet.reason, exchange.with_method(packet.properties))
        data = self._encode(packet)
        is_connected = self.state == CONNECTED
        if self.role == CLIENT:  # [MQTT-4.12.0-3] [MQTT-4.12.1-1]
            fault = exchange.by_client(packet, is_connected)
        else:  # [MQTT-4.12.0-2]
            fault = exchange.by_server(packet, is_connected)
        if fault is not None:
            raise LocalProtocolError(fault[0])
        self._write(data, now)

    # Messages

    def send_publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        *,
        now: float,
        properties: Properties = NO_PROPERTIES,
        topic_alias: int = 0,
    ) -> int:
        """Publish a message (3.3); returns its packet identifier, 0 at QoS 0.

        With a topic alias the topic name goes with it once, and is left out from then on. Raises
        `LocalProtocolError`, also when the window of unacknowledged messages is full.
        """
        self._check_may_send(PUBLISH)
        if not 0 <= qos <= 2:  # [v3 MQTT-3.3.1-4] [MQTT-3.3.1-4]
            raise LocalProtocolError(f"QoS is {qos}")
        self._check_version(topic_alias, properties)
        own, travelling = split_properties(properties)
        self._check_own(own)
        utf8 = topic_name_bytes(topic)
        message = Message(Topic(utf8), payload, qos, retain, make_extras(travelling))
        fault = self.publish_fault(message)
        if fault:
            raise LocalProtocolError(fault)
        if topic_alias:
            self._check_alias(topic_alias)
            own = (*own, (TOPIC_ALIAS, topic_alias))
        if qos == 0:  # [v3 MQTT-4.3.1-1] [MQTT-4.3.1-1]
            self._publish(Publish(message, 0, False, own), topic_alias, now)
            return 0
        flow = self._own_flow()
        if not self._has_room(flow) or not flow.has_identifier:
            # Other packets do not wait for it.  [MQTT-3.3.4-8] [MQTT-4.9.0-3]
            # [MQTT-3.3.4-7] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
            raise LocalProtocolError(f"{flow.in_flight} messages are unacknowledged already")
        # [v3 MQTT-4.3.2-1] [v3 MQTT-4.3.3-1] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.3.2-2]
        # [MQTT-4.3.3-2]
        packet_id = flow.start(message, AWAITING_PUBACK if qos == 1 else AWAITING_PUBREC)
        try:
            self._publish(Publish(message, packet_id, False, own), topic_alias, now)
        except LocalProtocolError:
            flow.finish(packet_id)
            raise
        return packet_id

    def _has_room(self, flow: Flow) -> bool:
        return flow.has_room and flow.in_flight < self.peer.receive_maximum

    def publish_fault(self, message: Message) -> str:
        """What keeps a message from a server that has announced less than MQTT has."""
        if message.qos > self.peer.maximum_qos:  # [MQTT-3.2.2-11]
            return f"the server takes messages up to QoS {self.peer.maximum_qos}"
        if message.retain and not self.peer.has_retain:  # [MQTT-3.2.2-14]
            return "the server has no retained messages"
        return ""

    def _check_own(self, own: Properties) -> None:
        for identifier, _ in own:
            if identifier == TOPIC_ALIAS:
                raise LocalProtocolError("a topic alias goes into `topic_alias`")
            if self.role == CLIENT:  # [MQTT-3.3.4-6]
                raise LocalProtocolError("a client sends no subscription identifier with a message")

    def _check_alias(self, alias: int) -> None:
        most = self.peer.topic_alias_maximum
        if not 1 <= alias <= most:
            # [MQTT-3.2.2-17] [MQTT-3.2.2-18] [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.3.2-11]
            raise LocalProtocolError(f"topic alias {alias} is not within the peer's 1 to {most}")

    def _publish(self, packet: Publish, alias: int, now: float) -> None:
        if not alias:
            self._send(PUBLISH, packet, now)
            return
        utf8 = packet.message.topic.utf8
        aliases = self._aliases
        if aliases is None:
            aliases = {}
            self._aliases = aliases
        data = encode_publish5(packet, aliases.get(alias) != utf8)
        limit = self.peer.maximum_packet_size
        if len(data) > limit:  # [MQTT-3.2.2-15]
            raise LocalProtocolError(
                f"packet of {len(data)} bytes is over the peer's maximum of {limit}"
            )
        self._write(data, now)
        aliases[alias] = utf8

    def write_publish(
        self,
        topic: bytes,
        payload: bytes,
        qos: int,
        retain: bool,
        packet_id: int,
        now: float,
    ) -> None:
        """Write a PUBLISH without properties that has been checked: a valid topic name, what the
        server takes, and a packet identifier at QoS 1 and 2. For who publishes much."""
        output = self.output
        writer = output.open()
        size = len(topic) + len(payload) + 2
        if qos:
            size += 2
        if self.level == MQTT_5:
            size += 1
        writer.append(0x30 | (qos << 1) | (1 if retain else 0))
        while size > 0x7F:
            writer.append(size & 0x7F | 0x80)
            size >>= 7
        writer.append(size)
        writer.append(len(topic) >> 8)
        writer.append(len(topic) & 0xFF)
        writer.write(topic)
        if qos:
            writer.append(packet_id >> 8)
            writer.append(packet_id & 0xFF)
        if self.level == MQTT_5:
            writer.append(0)
        output.write(payload)
        self._sent_at = now

    def write_ack(self, first: int, packet_id: int, now: float) -> None:
        """Write a PUBACK, PUBREC, PUBREL or PUBCOMP without a reason, by its first byte."""
        writer = self.output.open()
        writer.append(first)
        writer.append(2)
        writer.append(packet_id >> 8)
        writer.append(packet_id & 0xFF)
        self._sent_at = now
        if first != _PUBREC_BYTE and first != _PUBREL_BYTE:
            self._answered(packet_id)

    def write_head(self, head: bytes, payload: bytes, now: float) -> None:
        """Write a PUBLISH that has been checked and laid out, from its head and its payload."""
        self.output.write(head)
        self.output.write(payload)
        self._sent_at = now

    def send_puback(
        self,
        packet_id: int,
        now: float,
        reason: int = SUCCESS,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Take over a QoS 1 message (3.4), or say why not. Raises `LocalProtocolError`."""
        self._check_version(reason, properties)
        self._send(PUBACK, PubAck(packet_id, reason, properties), now)
        self._answered(packet_id)

    def send_pubrec(
        self,
        packet_id: int,
        now: float,
        reason: int = SUCCESS,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Take over a QoS 2 message (3.5), or say why not. Raises `LocalProtocolError`."""
        self._check_version(reason, properties)
        self._send(PUBREC, PubRec(packet_id, reason, properties), now)
        if reason >= UNSPECIFIED_ERROR:  # its identifier is free  [MQTT-4.3.3-9]
            self._own_flow().release(packet_id)
            self._answered(packet_id)

    def send_pubcomp(
        self,
        packet_id: int,
        now: float,
        reason: int = SUCCESS,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Complete the exchange of a QoS 2 message (3.7). Raises `LocalProtocolError`."""
        self._check_version(reason, properties)
        self._send(PUBCOMP, PubComp(packet_id, reason, properties), now)
        self._answered(packet_id)

    def _answered(self, packet_id: int) -> None:
        if self._unanswered is not None:
            self._unanswered.discard(packet_id)

    # Subscriptions

    def send_subscribe(
        self,
        subscriptions: Sequence[tuple[str, int] | Subscription],
        now: float,
        properties: Properties = NO_PROPERTIES,
    ) -> int:
        """Ask for messages by subscriptions, or (filter, QoS) pairs (3.8); returns the packet
        identifier. Raises `LocalProtocolError`.
        """
        self._check_may_send(SUBSCRIBE)
        self._check_version(SUCCESS, properties)
        asked: list[Subscription] = []
        for each in subscriptions:
            subscription = Subscription(each[0], each[1]) if isinstance(each, tuple) else each
            self.check_filter(subscription.topic_filter)
            asked.append(subscription)
        if number(properties, SUBSCRIPTION_IDENTIFIER, 0) and not self.peer.has_identifiers:
            raise LocalProtocolError("the server has no subscription identifiers")
        packet_id = self._start_request(AWAITING_SUBACK)
        return self._request(
            SUBSCRIBE, Subscribe(packet_id, tuple(asked), properties), packet_id, len(asked), now
        )

    def check_filter(self, topic_filter: str) -> None:
        """Raises `LocalProtocolError` for a filter that is none, or that this server has not."""
        utf8 = topic_filter_bytes(topic_filter)
        if has_wildcard(utf8) and not self.peer.has_wildcards:  # [P5-3.2.2-13]
            raise LocalProtocolError("the server has no wildcard subscriptions")
        if utf8.startswith(b"$share/") and not self.peer.has_shared:  # [P5-3.2.2-17]
            raise LocalProtocolError("the server has no shared subscriptions")

    def send_unsubscribe(
        self,
        topic_filters: Sequence[str],
        now: float,
        properties: Properties = NO_PROPERTIES,
    ) -> int:
        """Ask for no more messages (3.10); returns the packet identifier.

        Raises `LocalProtocolError`.
        """
        self._check_may_send(UNSUBSCRIBE)
        self._check_version(SUCCESS, properties)
        packet_id = self._start_request(AWAITING_UNSUBACK)
        packet = Unsubscribe(packet_id, tuple(topic_filters), properties)
        return self._request(UNSUBSCRIBE, packet, packet_id, len(packet.topic_filters), now)

    def _start_request(self, step: int) -> int:
        flow = self._own_flow()
        if not flow.has_identifier:
            raise LocalProtocolError("all packet identifiers are in use")
        return flow.start(None, step)

    def _request(self, kind: int, packet: Packet, packet_id: int, asked: int, now: float) -> int:
        try:
            self._send(kind, packet, now)
        except LocalProtocolError:
            self._own_flow().finish(packet_id)
            raise
        if self._requests is None:
            self._requests = {}
        self._requests[packet_id] = asked
        return packet_id

    # The end

    def send_pingreq(self, now: float) -> None:
        """Ask the server for a sign of life (3.12). Raises `LocalProtocolError`."""
        self._send(PINGREQ, _PINGREQ, now)
        if self._ping_at < 0:
            self._ping_at = now

    def send_disconnect(
        self, now: float, reason: int = SUCCESS, properties: Properties = NO_PROPERTIES
    ) -> None:
        """End the connection (3.14); close the transport once the bytes are out.

        In MQTT 5.0 a server may do so too, and it says why. Raises `LocalProtocolError`; so does
        every later `send_*`.
        """
        self._check_may_send(DISCONNECT)
        self._check_version(reason, properties)
        expiry_s = number(properties, SESSION_EXPIRY_INTERVAL, -1)
        if expiry_s >= 0 and self.role != CLIENT:  # [MQTT-3.14.2-2]
            raise LocalProtocolError("a server's DISCONNECT has no session expiry interval")
        if expiry_s > 0 and self.own.session_expiry_s <= 0:  # [P5-3.14.2-2]
            raise LocalProtocolError("the session expiry interval was 0 in CONNECT, and stays 0")
        self._write(self._encode(Disconnect(reason, properties)), now)
        self._set_session_expiry(properties)
        self._set_state(CLOSING)  # [v3 MQTT-3.14.4-1] [v3 MQTT-3.14.4-2]
        # [MQTT-3.14.4-1] [MQTT-3.14.4-2]
