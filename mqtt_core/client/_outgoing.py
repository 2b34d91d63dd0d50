"""Messages to the server: the queue, what is in flight, the handshakes of QoS 1 and 2 (4.3).

All messages leave in the order in which they were published, whatever their QoS. They wait, in
that order, for the connection, for room in the window of unacknowledged messages, and for the
socket. What a connection leaves unfinished is repeated on the next one of the same session, and
in its order (4.4).
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from mqtt_core._codes import (
    MQTT_5,
    PACKET_IDENTIFIER_NOT_FOUND,
    PACKET_TOO_LARGE,
    PUBREL,
    QOS_NOT_SUPPORTED,
    RETAIN_NOT_SUPPORTED,
    UNSPECIFIED_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    reason_name,
)
from mqtt_core._connection import Connection
from mqtt_core._errors import LocalProtocolError
from mqtt_core._flow import AWAITING_PUBACK, AWAITING_PUBCOMP, AWAITING_PUBREC
from mqtt_core._message import NEVER, Message, delivery_head5, make_extras
from mqtt_core._outbound_aliases import OutboundAliases
from mqtt_core._packets import PubAck, PubComp, PubRec, PubRel
from mqtt_core._properties import RESPONSE_TOPIC, Properties, text
from mqtt_core._topics import Topic, TopicCache, topic_name_fault
from mqtt_core.client._desk import Desk
from mqtt_core.client._errors import (
    ConnectionLost,
    DeliveryUnknown,
    MessageExpired,
    MqttError,
    PublishRefused,
    QueueFull,
)
from mqtt_core.client._publication import DONE, IN_FLIGHT, PENDING, WRITTEN, Publication

_PUBREL_BYTE: Final = 0x62
_HEADER_BYTES: Final = 10  # of a PUBLISH without properties, beside its topic and payload, at most
_ALIASED_BYTES: Final = 24  # a shorter topic is sent as it is: an alias would save next to nothing
_ALIAS_TABLE_BYTES: Final = 65_536
_ALIAS_BYTES: Final = 5  # that an alias may add to a packet
_FEW: Final = 64


@final
class Outgoing:
    """What the program publishes, until the server has it."""

    __slots__ = (
        "pending_bytes",
        "_desk",
        "_topics",
        "_pending",
        "_cancelled",
        "_sent",
        "_again",
        "_unrepeated",
        "_aliases",
    )

    def __init__(self, desk: Desk) -> None:
        self.pending_bytes = 0
        self._desk: Final = desk
        self._topics: Final = TopicCache(desk.limits.topic_cache_bytes)
        self._pending: deque[Publication] = deque()
        self._cancelled = 0  # of these, the ones that are not to be sent any more
        self._sent: Final[dict[int, Publication]] = {}  # in flight, by packet identifier
        self._again: deque[Publication] = deque()  # to be repeated, in order
        self._unrepeated = 0  # of these, the ones that have not been finished meanwhile
        self._aliases: OutboundAliases | None = None

    @property
    def pending_messages(self) -> int:
        """Messages that wait to be sent."""
        return len(self._pending) - self._cancelled

    @property
    def in_flight(self) -> int:
        """Messages that the server has not acknowledged."""
        return len(self._sent)

    # From the program

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        properties: Properties,
        waits: bool,
        now: float,
    ) -> Publication:
        """Take a message; with `waits` somebody waits for it, and the queue has no limit for it."""
        utf8 = topic.encode()
        found = self._topics.kept.get(utf8)
        if found is None:
            found = self._find_topic(utf8)
        if not 0 <= qos <= 2:  # [v3 MQTT-3.3.1-4] [MQTT-3.3.1-4]
            raise ValueError(f"QoS is {qos}; allowed: 0, 1 and 2")
        desk = self._desk
        can_send = not self._pending and desk.has_room
        if can_send and qos == 0 and not properties:
            if self._write_plain(found, payload, retain, now):
                return WRITTEN
        expires_at = 0.0
        extras = None
        if properties:
            try:
                extras = make_extras(properties)
            except LocalProtocolError as error:
                raise ValueError(str(error)) from None
            self._check_response_topic(properties)
            if extras is not None and extras.expiry_s >= 0:
                expires_at = now + extras.expiry_s
        message = Message(found, payload, qos, retain, extras)
        publication = Publication(message, qos, expires_at)
        if can_send and self._send_next(publication, now):
            return publication
        self._check_room(message, qos, waits)
        self._pending.append(publication)
        self.pending_bytes += message.size_bytes
        return publication

    def _find_topic(self, utf8: bytes) -> Topic:
        topic = self._topics.find(utf8)
        if topic is None:
            fault = topic_name_fault(utf8)
            if fault is not None:  # [MQTT-3.3.2-2] [MQTT-4.7.3-1]
                raise ValueError(f"cannot publish to {utf8.decode()!r}: {fault[0]}")
            topic = self._topics.add(utf8)
        return topic

    def _check_response_topic(self, properties: Properties) -> None:
        topic = text(properties, RESPONSE_TOPIC)
        if topic is not None:
            self._find_topic(topic.encode())  # [MQTT-3.3.2-14]

    def _check_room(self, message: Message, qos: int, waits: bool) -> None:
        """Whether a message may wait. Raises `QueueFull` or `ConnectionLost`."""
        desk = self._desk
        if qos == 0 and not desk.is_online and not desk.settings.queues_qos0:
            raise ConnectionLost(
                "not connected, and QoS 0 messages do not wait for a connection: publish at QoS 1, "
                "or wait with wait_connected()"
            )
        if waits:
            return
        limits = desk.limits
        if self.pending_messages >= limits.max_pending_messages:
            raise QueueFull(
                f"{self.pending_messages:,} messages wait to be sent already: wait with "
                "`await publish(...)`, or raise max_pending_messages"
            )
        if self.pending_bytes + message.size_bytes > limits.max_pending_bytes:
            raise QueueFull(
                f"{self.pending_bytes:,} bytes of messages wait to be sent already: wait with "
                "`await publish(...)`, or raise max_pending_bytes"
            )

    def cancel(self, publication: Publication) -> bool:
        """Take a message back. False for one that was sent, or is done: that stays as it is."""
        if publication.state != PENDING:
            return False
        publication.state = DONE
        publication.waiter = None
        self.pending_bytes -= publication.message.size_bytes
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled * 2 > len(self._pending):
            self._pending = deque([each for each in self._pending if each.state == PENDING])
            self._cancelled = 0
        return True

    # To the server

    def _write_plain(self, topic: Topic, payload: bytes, retain: bool, now: float) -> bool:
        """Write a QoS 0 message without properties; False where it is not as simple as that."""
        desk = self._desk
        connection = desk.connection
        assert connection is not None
        peer = connection.peer
        size = len(topic.utf8) + len(payload) + _HEADER_BYTES
        if size > peer.maximum_packet_size or (retain and not peer.has_retain):
            return False
        if self._aliases is not None and len(topic.utf8) >= _ALIASED_BYTES:
            return False
        connection.write_publish(topic.utf8, payload, 0, retain, 0, now)
        desk.counters.published += 1
        return True

    def drain(self, now: float) -> None:
        """Send what waits, as far as there is room."""
        desk = self._desk
        while self._again and desk.has_room and self._repeat_next(now):
            pass
        if self._again:
            return
        pending = self._pending
        while pending and desk.has_room:
            publication = pending[0]
            if publication.state == PENDING:
                size = publication.message.size_bytes
                if not self._send_next(publication, now):
                    return
                self.pending_bytes -= size
            else:
                self._cancelled -= 1
            pending.popleft()

    def _has_window(self, connection: Connection) -> bool:
        """Whether one more message may be unacknowledged.  [MQTT-3.3.4-7] [MQTT-4.9.0-2]"""
        flow = self._desk.flow
        window = self._desk.limits.max_inflight_messages
        if connection.peer.receive_maximum < window:
            window = connection.peer.receive_maximum
        return flow.in_flight - self._unrepeated < window

    def _send_next(self, publication: Publication, now: float) -> bool:
        """Send a message for the first time, or see that it cannot be; False where it must wait."""
        desk = self._desk
        connection = desk.connection
        assert connection is not None
        if publication.expires_at and publication.expires_at <= now:
            desk.counters.expired += 1
            topic = publication.message.topic.name
            self._fail(
                publication,
                MessageExpired(f"the message to {topic!r} expired before it could be sent"),
            )
            return True
        qos = publication.qos
        if qos and not self._has_window(connection):
            return False
        refusal = self._refusal(connection, publication.message)
        if refusal is not None:
            desk.counters.refused += 1
            self._fail(publication, refusal)
            return True
        if qos:
            # [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
            packet_id = desk.flow.start(
                publication.message, AWAITING_PUBACK if qos == 1 else AWAITING_PUBREC
            )
            publication.packet_id = packet_id
            publication.state = IN_FLIGHT
            self._sent[packet_id] = publication
            self._write(connection, publication, False, now)
        else:
            self._write(connection, publication, False, now)
            publication.state = DONE
            desk.told.tell(publication)
        desk.counters.published += 1
        return True

    def _refusal(self, connection: Connection, message: Message) -> PublishRefused | None:
        """What keeps a message from this server, as it has announced itself."""
        peer = connection.peer
        if message.qos > peer.maximum_qos:  # [MQTT-3.2.2-11]
            return PublishRefused(
                f"the server takes messages up to QoS {peer.maximum_qos}: publish at that",
                QOS_NOT_SUPPORTED,
            )
        if message.retain and not peer.has_retain:  # [MQTT-3.2.2-14]
            return PublishRefused(
                "the server has no retained messages: publish without retain",
                RETAIN_NOT_SUPPORTED,
            )
        if message.has_properties and connection.level != MQTT_5:
            return PublishRefused(
                "the server speaks MQTT 3.1.1, which has no message properties (expiry, content "
                "type, response topic, user properties): publish without",
                UNSUPPORTED_PROTOCOL_VERSION,
            )
        size = len(message.topic.utf8) + len(message.payload) + len(message.wire_properties)
        size += _HEADER_BYTES + _ALIAS_BYTES * 2
        if size > peer.maximum_packet_size:  # [MQTT-3.2.2-15]
            return PublishRefused(
                f"the server takes packets up to {peer.maximum_packet_size:,} bytes, and this "
                f"message takes about {size:,}: send it in parts",
                PACKET_TOO_LARGE,
            )
        return None

    def _write(
        self, connection: Connection, publication: Publication, dup: bool, now: float
    ) -> None:
        message = publication.message
        qos = publication.qos
        packet_id = publication.packet_id
        if connection.level != MQTT_5:
            if not dup:
                connection.write_publish(
                    message.topic.utf8, message.payload, qos, message.retain, packet_id, now
                )
                return
            head = message.flagged_head(qos, dup, message.retain) + packet_id.to_bytes(2, "big")
            connection.write_head(head, message.payload, now)
            return
        aliases = self._aliases
        alias = 0
        has_topic = True
        topic = message.topic.utf8
        if aliases is not None and len(topic) >= _ALIASED_BYTES and not dup:
            alias = aliases.known(topic)
            has_topic = alias == 0
            if has_topic:
                alias = aliases.assign(topic)
        if not alias and not dup and not message.has_properties:
            connection.write_publish(topic, message.payload, qos, message.retain, packet_id, now)
            return
        expiry_s = NEVER
        if publication.expires_at:
            expiry_s = max(0, min(message.expiry_s, round(publication.expires_at - now)))
        head = delivery_head5(
            message, qos, dup, message.retain, packet_id, expiry_s, (), alias, has_topic
        )
        connection.write_head(head, message.payload, now)

    # What the server says

    def take_puback(self, connection: Connection, packet: PubAck, now: float) -> None:
        """PUBACK (3.4): the server has a QoS 1 message, or does not take it."""
        # One of 0x80 and above acknowledges it too.  [MQTT-4.4.0-2]
        if connection.expects(packet.packet_id, AWAITING_PUBACK):
            publication = self._finish(packet.packet_id)
            publication.reason = packet.reason
            publication.properties = packet.properties
            self._conclude(publication)
            if self._pending or self._again:
                self.drain(now)

    def take_pubrec(self, connection: Connection, packet: PubRec, now: float) -> None:
        """PUBREC (3.5): the server has a QoS 2 message, or does not take it."""
        packet_id = packet.packet_id
        flow = self._desk.flow
        step = flow.step(packet_id)
        if step != AWAITING_PUBREC and step != AWAITING_PUBCOMP:
            connection.expects(packet_id, AWAITING_PUBREC)  # raises for a QoS 1 message
            connection.answer(PUBREL, PubRel(packet_id, PACKET_IDENTIFIER_NOT_FOUND), now)
            return  # [MQTT-3.6.2-1]
        publication = self._sent[packet_id]
        publication.reason = packet.reason
        publication.properties = packet.properties
        if packet.reason >= UNSPECIFIED_ERROR:  # the end of it  [MQTT-4.3.3-4] [MQTT-4.4.0-2]
            self._finish(packet_id)
            self._conclude(publication)
            self.drain(now)
            return
        if step == AWAITING_PUBREC:
            flow.advance(packet_id, AWAITING_PUBCOMP)
            self._need_no_repeat(publication)
        connection.write_ack(_PUBREL_BYTE, packet_id, now)  # [MQTT-4.6.0-4]

    def take_pubcomp(self, connection: Connection, packet: PubComp, now: float) -> None:
        """PUBCOMP (3.7): the exchange of a QoS 2 message is complete."""
        if connection.expects(packet.packet_id, AWAITING_PUBCOMP):
            self._conclude(self._finish(packet.packet_id))
            if self._pending or self._again:
                self.drain(now)

    def _finish(self, packet_id: int) -> Publication:
        """Its identifier is free again."""
        self._desk.flow.finish(packet_id)
        publication = self._sent.pop(packet_id)
        self._need_no_repeat(publication)
        return publication

    def _need_no_repeat(self, publication: Publication) -> None:
        if publication.needs_repeat:
            publication.needs_repeat = False
            self._unrepeated -= 1

    def _conclude(self, publication: Publication) -> None:
        """The server has answered."""
        if publication.reason >= UNSPECIFIED_ERROR:
            self._desk.counters.refused += 1
            said = publication.reason_string
            self._fail(
                publication,
                PublishRefused(
                    f"the server refuses the message to {publication.message.topic.name!r}: "
                    f"{reason_name(publication.reason)}{': ' + said if said else ''}",
                    publication.reason,
                    said,
                ),
            )
            return
        publication.state = DONE
        self._desk.told.tell(publication)

    def _fail(self, publication: Publication, error: MqttError) -> None:
        publication.state = DONE
        publication.error = error
        self._desk.told.tell(publication)

    # From one connection to the next

    def begin(self, connection: Connection, session_present: bool, now: float) -> None:
        """The server has taken the client."""
        most = min(connection.peer.topic_alias_maximum, self._desk.limits.max_topic_aliases)
        self._aliases = OutboundAliases(most, _ALIAS_TABLE_BYTES) if most else None
        if session_present:
            self._resume(connection, now)

    def _resume(self, connection: Connection, now: float) -> None:
        """Repeat what an earlier connection left unfinished, in its order.

        [v3 MQTT-4.4.0-1] [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3]
        """
        flow = self._desk.flow
        for packet_id in flow.unfinished():
            step = flow.step(packet_id)
            if step in (AWAITING_PUBACK, AWAITING_PUBREC):
                publication = self._sent[packet_id]
                publication.needs_repeat = True
                self._unrepeated += 1
                self._again.append(publication)
            elif step == AWAITING_PUBCOMP:
                # Never the message again once PUBREC has come.  [MQTT-4.3.3-5] [MQTT-4.3.3-6]
                connection.write_ack(_PUBREL_BYTE, packet_id, now)
            else:
                flow.finish(packet_id)  # SUBSCRIBE and UNSUBSCRIBE are not part of a session

    def _repeat_next(self, now: float) -> bool:
        """Repeat one message; False where it must wait for room in the window."""
        publication = self._again[0]
        if publication.needs_repeat:
            connection = self._desk.connection
            assert connection is not None
            if not self._has_window(connection):
                return False
            refusal = self._refusal(connection, publication.message)
            if refusal is not None:  # this server has announced less than the one before
                self._desk.counters.refused += 1
                self._fail(self._finish(publication.packet_id), refusal)
            else:
                self._need_no_repeat(publication)
                # With its topic name, an alias being gone.  [v3 MQTT-3.3.1-1] [MQTT-3.3.1-1]
                self._write(connection, publication, True, now)
                self._desk.counters.published_again += 1
        self._again.popleft()
        return True

    def lose_connection(self) -> None:
        """The connection is gone; what is in flight stays so."""
        self._again = deque()
        self._unrepeated = 0
        for publication in self._sent.values():
            publication.needs_repeat = False

    def lose_session(self) -> tuple[int, int]:
        """The server has forgotten the session. Returns how many messages are published again,
        and of how many nobody knows whether they were delivered.

        [MQTT-3.2.2-5]
        """
        flow = self._desk.flow
        again: list[Publication] = []
        unknown = 0
        for packet_id in flow.unfinished():
            step = flow.step(packet_id)
            if step == AWAITING_PUBACK:
                again.append(self._finish(packet_id))
            elif step == AWAITING_PUBREC:
                unknown += 1
                publication = self._finish(packet_id)
                topic = publication.message.topic.name
                self._fail(
                    publication,
                    DeliveryUnknown(
                        f"the server has lost the session while the QoS 2 message to {topic!r} was "
                        "on its way: whether it was delivered is not known; publish it again if "
                        "twice is better than not at all"
                    ),
                )
            elif step == AWAITING_PUBCOMP:  # the server has taken it over
                self._conclude(self._finish(packet_id))
            else:
                flow.finish(packet_id)
        for publication in reversed(again):
            publication.state = PENDING
            publication.packet_id = 0
            self.pending_bytes += publication.message.size_bytes
            self._pending.appendleft(publication)
        self._desk.counters.unknown += unknown
        return len(again), unknown

    def end(self, error: MqttError) -> None:
        """Nothing more is sent."""
        for publication in (*self._sent.values(), *self._pending):
            if publication.state != DONE:
                self._fail(publication, error)
        self._sent.clear()
        self._pending.clear()
        self._again.clear()
        self._cancelled = 0
        self._unrepeated = 0
        self.pending_bytes = 0
