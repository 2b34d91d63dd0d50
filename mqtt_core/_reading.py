"""The receiving side of a connection: from bytes to the packets that may come now.

Which packet may come when is the matter of `_state`, and what its bytes mean of `_decode` and
`_decode5`. What binds a peer of MQTT 5.0 beyond that, because one of the two has announced it or
because of what has gone before, is kept here: `own`, `peer`, `inbound`, `exchange`.
"""

from __future__ import annotations

from typing import Final

from mqtt_core._aliases import InboundAliases
from mqtt_core._announced import NOTHING_ANNOUNCED, Announced
from mqtt_core._codes import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MALFORMED_PACKET,
    MQTT_3_1_1,
    MQTT_5,
    PACKET_NAMES,
    PACKET_TOO_LARGE,
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
    protocol_level,
)
from mqtt_core._decode5 import (
    decode_ack5,
    decode_auth5,
    decode_connack5,
    decode_connect5,
    decode_connect_header5,
    decode_disconnect5,
    decode_suback5,
    decode_subscribe5,
    decode_unsuback5,
    decode_unsubscribe5,
)
from mqtt_core._decode_publish5 import check_length, decode_publish5
from mqtt_core._errors import ConnectionRefused, RemoteProtocolError
from mqtt_core._exchange import NOBODY, Exchange, connack_fault
from mqtt_core._inbound import Inbound
from mqtt_core._packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    UnsubAck,
)
from mqtt_core._properties import (
    AUTHENTICATION_METHOD,
    SERVER_KEEP_ALIVE,
    SESSION_EXPIRY_INTERVAL,
    Properties,
    number,
    text,
)
from mqtt_core._property_codec import PropertyLimits
from mqtt_core._reader import UNPARSABLE, Reader
from mqtt_core._reasons import BY_CLIENT, BY_SERVER
from mqtt_core._receive_buffer import ReceiveBuffer
from mqtt_core._state import (
    ANSWERING,
    AUTHENTICATING,
    CLIENT,
    CLOSING,
    CONNECTED,
    FAILED,
    MAY_SEND,
    MAY_SEND_5,
    OPENING,
)
from mqtt_core._topics import TopicCache

_PREPARED: Final = 512
_PUBACKS: Final[list[PubAck]] = [PubAck(packet_id) for packet_id in range(_PREPARED)]
_PUBRECS: Final[list[PubRec]] = [PubRec(packet_id) for packet_id in range(_PREPARED)]
_PUBRELS: Final[list[PubRel]] = [PubRel(packet_id) for packet_id in range(_PREPARED)]
_PUBCOMPS: Final[list[PubComp]] = [PubComp(packet_id) for packet_id in range(_PREPARED)]
_PINGREQ: Final = PingReq()
_PINGRESP: Final = PingResp()
_DISCONNECT: Final = Disconnect()

_QOS_BITS: Final = 0x06
_QOS_2_BIT: Final = 0x04
_RETAIN_BIT: Final = 0x01


class Reading:
    """What a connection knows to read its peer's packets."""

    __slots__ = (
        "role",
        "level",
        "state",
        "buffer",
        "topics",
        "client_id",
        "keep_alive_s",
        "session_expiry_s",
        "received_at",
        "own",
        "peer",
        "inbound",
        "exchange",
        "_may_read",
        "_newest_level",
        "_max_filters",
        "_max_user_properties",
        "_max_property_bytes",
        "_max_alias_bytes",
    )

    def __init__(
        self,
        role: int,
        newest_level: int,
        topics: TopicCache | None,
        max_packet_size_bytes: int,
        max_filters: int,
        max_user_properties: int,
        max_property_bytes: int,
        max_alias_bytes: int,
        now: float,
    ) -> None:
        self.role: Final = role
        self.level = MQTT_3_1_1
        self.state: int = OPENING
        self.buffer: Final = ReceiveBuffer(max_packet_size_bytes)
        self.topics: Final = TopicCache(65_536) if topics is None else topics
        self.client_id = ""
        self.keep_alive_s = 0
        self.session_expiry_s = 0  # in MQTT 5.0, as last said by either side
        self.received_at = now
        self.own = NOTHING_ANNOUNCED
        self.peer = NOTHING_ANNOUNCED
        self.inbound: Inbound | None = None  # in MQTT 5.0, once CONNECT has passed
        self.exchange: Exchange | None = None  # where CONNECT named an authentication method
        self._may_read = MAY_SEND[1 - role][OPENING]
        self._newest_level: Final = newest_level
        self._max_filters: Final = max_filters
        self._max_user_properties: Final = max_user_properties
        self._max_property_bytes: Final = max_property_bytes
        self._max_alias_bytes: Final = max_alias_bytes

    # What the peer has announced (MQTT 5.0); without a word of it, the standard's defaults

    @property
    def peer_maximum_packet_size(self) -> int:
        """The largest packet that may be sent, in bytes (3.1.2.11.4, 3.2.2.3.6)."""
        return self.peer.maximum_packet_size

    @property
    def peer_receive_maximum(self) -> int:
        """How many QoS 1 and 2 messages may be unacknowledged (3.1.2.11.3, 3.2.2.3.3)."""
        return self.peer.receive_maximum

    @property
    def peer_topic_alias_maximum(self) -> int:
        """The largest topic alias that may be sent, 0 for none (3.1.2.11.5, 3.2.2.3.8)."""
        return self.peer.topic_alias_maximum

    @property
    def peer_wants_problem_information(self) -> bool:
        """Whether reason strings and user properties may be sent anywhere (3.1.2.11.7)."""
        return self.peer.wants_problem_information

    # Input

    def feed(self, chunk: bytes, now: float) -> None:
        """Store a chunk for `read_packet`; discarded when the connection is closing."""
        self.received_at = now
        if self.state < FAILED:
            self.buffer.feed(chunk)

    @property
    def can_read(self) -> bool:
        """Whether packets may be read now: a server reads none between CONNECT and CONNACK, but
        the answers to its AUTH packets."""
        state = self.state
        if state in (OPENING, CONNECTED):
            return True
        if state >= FAILED:
            return False
        if self.role == CLIENT:
            return True
        exchange = self.exchange
        return state == AUTHENTICATING and exchange is not None and exchange.is_clients_turn

    def read_packet(self) -> Packet | None:
        """The next whole packet, or None.

        Raises `RemoteProtocolError`; nothing more is read then. In MQTT 3.1.1 the connection is
        CLOSING. In MQTT 5.0 it is FAILED, so that `send_disconnect` may say why. After
        `ConnectionRefused`, for a CONNECT that has an answer or an authentication that cannot go
        on, `send_connack` may send it.
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
            inbound = self.inbound
            if kind == PUBLISH:
                if inbound is None:
                    return decode_publish(
                        buffer.data, buffer.start, buffer.body, buffer.end, self.topics
                    )
                return decode_publish5(
                    buffer.data, buffer.start, buffer.body, buffer.end, self.topics, inbound
                )
            return self._decode(kind) if inbound is None else self._decode5(kind, inbound)
        except ConnectionRefused as refusal:
            refusal.offset = buffer.stream_offset(refusal.offset)
            self._set_state(ANSWERING)
            raise
        except RemoteProtocolError as error:
            error.offset = buffer.stream_offset(error.offset)
            if self.inbound is None:
                self._set_state(CLOSING)
                raise
            self._name_statement(error)
            if self.state == AUTHENTICATING and self.role != CLIENT:
                self._set_state(ANSWERING)
                raise _refusal(error) from None
            self._set_state(FAILED)
            raise

    def _name_statement(self, error: RemoteProtocolError) -> None:
        """Errors in the length prefix come from where the version is not known."""
        if error.statement:
            return
        if error.reason == PACKET_TOO_LARGE:  # [P5-3.1.2-6] [P5-3.2.2-8]
            error.statement = "MQTT-3.1.2-24" if self.role == CLIENT else "MQTT-3.2.2-15"
        elif error.reason == MALFORMED_PACKET:
            error.statement = "P5-1.5.5-1"

    def _misplaced(self, kind: int, at: int) -> RemoteProtocolError:
        """The error for a packet that may not come now."""
        name = PACKET_NAMES[kind]
        if kind == CONNECT and self.role != CLIENT and self.state == CONNECTED:
            return RemoteProtocolError("second CONNECT", "MQTT-3.1.0-2", at, PROTOCOL_ERROR)
        if self.role != CLIENT and self.state == OPENING:
            return RemoteProtocolError(
                f"first packet is {name}, not CONNECT", "MQTT-3.1.0-1", at, PROTOCOL_ERROR
            )
        peer = "server" if self.role == CLIENT else "client"
        message = f"a {peer} may not send {name} now"
        if self.inbound is not None:
            return self._misplaced5(kind, message, at)
        if self.role == CLIENT and self.state == ANSWERING:
            return RemoteProtocolError(
                f"{name} came before CONNACK", "MQTT-3.2.0-1", at, PROTOCOL_ERROR
            )
        return RemoteProtocolError(message, "MQTT-4.8.0-1", at, PROTOCOL_ERROR)

    def _misplaced5(self, kind: int, message: str, at: int) -> RemoteProtocolError:
        if not kind:
            return RemoteProtocolError("packet type is 0", "P5-2.1.2-1", at, MALFORMED_PACKET)
        statement = "P5-2.1.2-2"
        if self.role != CLIENT:
            if MAY_SEND_5[CLIENT][CONNECTED] >> kind & 1 or self.state != CONNECTED:
                statement = "MQTT-3.1.2-30"  # too early: see `send_connack`
        elif self.state == CONNECTED:
            if kind == CONNACK:
                statement = "MQTT-3.2.0-2"
        elif kind == DISCONNECT:
            statement = "MQTT-3.14.0-1"
        elif kind == AUTH:
            statement = "MQTT-4.12.0-6"
        else:
            statement = "MQTT-3.2.0-1"
        return RemoteProtocolError(message, statement, at, PROTOCOL_ERROR)

    def _decode(self, kind: int) -> Packet:
        """A packet of MQTT 3.1 or 3.1.1, or CONNECT; PUBLISH has been seen to."""
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
            return self._decode_connect()
        connack = decode_connack(data, int(body), int(end))
        self._set_state(CONNECTED if connack.reason == SUCCESS else CLOSING)
        return connack

    def _decode5(self, kind: int, inbound: Inbound) -> Packet:
        """A packet of MQTT 5.0; PUBLISH and CONNECT have been seen to."""
        buffer = self.buffer
        data = buffer.data
        if buffer.body - buffer.start > 2:
            check_length(data, int(buffer.start), int(buffer.body))
        if PUBACK <= kind <= PUBCOMP:
            if buffer.end - buffer.body == 2 and data[buffer.body] | data[buffer.body + 1]:
                return self._decode(kind)  # as in 3.1.1
            return decode_ack5(data, int(buffer.body), int(buffer.end), kind, inbound)
        body = int(buffer.body)
        end = int(buffer.end)
        if kind == PINGREQ:
            check_empty(body, end, UNPARSABLE)
            return _PINGREQ
        if kind == PINGRESP:
            check_empty(body, end, UNPARSABLE)
            return _PINGRESP
        if kind == SUBSCRIBE:
            return decode_subscribe5(data, body, end, inbound)
        if kind == UNSUBSCRIBE:
            return decode_unsubscribe5(data, body, end, inbound)
        if kind == SUBACK:
            return decode_suback5(data, body, end, inbound)
        if kind == UNSUBACK:
            return decode_unsuback5(data, body, end, inbound)
        if kind == DISCONNECT:
            disconnect = decode_disconnect5(data, body, end, inbound)
            self._set_session_expiry(disconnect.properties)
            self._set_state(CLOSING)  # nothing behind it is read  [MQTT-3.14.4-1]
            return disconnect
        if kind == AUTH:
            return self._decode_auth(inbound)
        return self._decode_connack5(inbound)

    def _decode_connect(self) -> Connect:
        buffer = self.buffer
        reader = Reader(buffer.data, int(buffer.body), int(buffer.end))
        # A version that nobody knows is refused in the form of 3.1.1, which both standards allow.
        level = protocol_level(reader, self._newest_level)  # [MQTT-3.1.2-2]
        if level != MQTT_5:
            connect = decode_connect(reader, level)
            self.level = level
            self.keep_alive_s = connect.keep_alive_s
            self._set_state(ANSWERING)
            return connect
        inbound = self._begin5()
        try:
            check_length(buffer.data, int(buffer.start), int(buffer.body))
            reader = Reader(buffer.data, reader.at, reader.end, MQTT_5)
            header = decode_connect_header5(reader, inbound.limits)
            if header.properties:  # a refusal keeps to them too
                self.peer = Announced(header.properties)
            connect = decode_connect5(reader, header, inbound.limits)
        except RemoteProtocolError as error:
            raise _refusal(error) from None  # [MQTT-3.1.4-1]
        inbound.may_set_expiry = self.peer.session_expiry_s > 0
        self._passed_connect(connect)
        return connect

    def _begin5(self) -> Inbound:
        """From here on the connection speaks MQTT 5.0."""
        self.level = MQTT_5
        inbound = Inbound(
            BY_SERVER if self.role == CLIENT else BY_CLIENT,
            PropertyLimits(self._max_user_properties, self._max_property_bytes),
            self._max_filters,
            InboundAliases(0, 0),
        )
        self.inbound = inbound
        return inbound

    def _passed_connect(self, connect: Connect) -> None:
        """A CONNECT of MQTT 5.0 has passed, in either direction."""
        self.client_id = connect.client_id
        self.keep_alive_s = connect.keep_alive_s
        self._set_session_expiry(connect.properties)
        method = text(connect.properties, AUTHENTICATION_METHOD)
        if method is None:
            self._set_state(ANSWERING)
        else:
            self.exchange = Exchange(method)
            self._set_state(AUTHENTICATING)

    def _set_session_expiry(self, properties: Properties) -> None:
        if properties:
            self.session_expiry_s = number(
                properties, SESSION_EXPIRY_INTERVAL, self.session_expiry_s
            )

    def _announce(self, properties: Properties) -> None:
        """This side has announced what it takes, in CONNECT or CONNACK: hold the peer to it."""
        inbound = self.inbound
        assert inbound is not None
        own = Announced(properties) if properties else NOTHING_ANNOUNCED
        self.own = own
        if own.maximum_packet_size < self.buffer.limit_bytes:
            self.buffer.limit_bytes = own.maximum_packet_size
        inbound.aliases = InboundAliases(own.topic_alias_maximum, self._max_alias_bytes)
        inbound.takes_problem_information = own.wants_problem_information
        inbound.refused_flags = _qos_bits_above(own.maximum_qos)
        if not own.has_retain:
            inbound.refused_flags |= _RETAIN_BIT

    def _decode_connack5(self, inbound: Inbound) -> ConnAck:
        buffer = self.buffer
        connack = decode_connack5(buffer.data, int(buffer.body), int(buffer.end), inbound)
        if connack.reason != SUCCESS:
            self._set_state(CLOSING)
            return connack
        fault = connack_fault(self.exchange, connack)
        if fault is not None:
            raise RemoteProtocolError(fault[0], fault[1], int(buffer.start), PROTOCOL_ERROR)
        if self.exchange is not None:
            self.exchange.turn = NOBODY
        if connack.properties:
            self.peer = Announced(connack.properties)
            # Nobody can have asked for more than the server has.
            inbound.refused_flags = _qos_bits_above(self.peer.maximum_qos)
        # [MQTT-3.1.2-21] [MQTT-3.2.2-21]
        self.keep_alive_s = number(connack.properties, SERVER_KEEP_ALIVE, self.keep_alive_s)
        self._set_session_expiry(connack.properties)
        self._set_state(CONNECTED)
        return connack

    def _decode_auth(self, inbound: Inbound) -> Packet:
        buffer = self.buffer
        auth = decode_auth5(buffer.data, int(buffer.body), int(buffer.end), inbound)
        exchange = self.exchange
        if exchange is None:  # [P5-3.15.0-1]
            statement = "MQTT-4.12.0-6" if self.role == CLIENT else "MQTT-4.12.0-7"
            raise RemoteProtocolError(
                "AUTH, and CONNECT had no authentication method",
                statement,
                int(buffer.start),
                PROTOCOL_ERROR,
            )
        is_connected = self.state == CONNECTED
        if self.role == CLIENT:
            fault = exchange.by_server(auth, is_connected)
        else:
            fault = exchange.by_client(auth, is_connected)
        if fault is not None:
            raise RemoteProtocolError(fault[0], fault[1], int(buffer.start), PROTOCOL_ERROR)
        if is_connected:
            self._set_state(CONNECTED)  # it may have come early: see `send_connack`
        return auth

    def _set_state(self, state: int) -> None:
        self.state = state
        # Packets behind CONNECT stay unread until CONNACK has left.
        masks = MAY_SEND if self.inbound is None else MAY_SEND_5
        self._may_read = masks[1 - self.role][state]
        if state >= FAILED:
            self.buffer.clear()


def _qos_bits_above(maximum_qos: int) -> int:
    """The QoS bits of a PUBLISH that are only set above a maximum QoS."""
    if maximum_qos == 2:
        return 0
    return _QOS_2_BIT if maximum_qos else _QOS_BITS


def _refusal(error: RemoteProtocolError) -> ConnectionRefused:
    """The same error, to be answered with CONNACK."""
    return ConnectionRefused(error.message, error.statement, error.offset, error.reason)
