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
    PACKET_IDENTIFIER_NOT_FOUND,
    PUBREL,
    UNSPECIFIED_ERROR,
    reason_name,
)
from mqtt_core._connection import Connection
from mqtt_core._errors import LocalProtocolError
from mqtt_core._flow import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    STORING_PUBLISH,
    STORING_PUBREL,
)
from mqtt_core._message import Message, make_extras
from mqtt_core._packets import PubAck, PubComp, PubRec, PubRel
from mqtt_core._properties import RESPONSE_TOPIC, Properties, text
from mqtt_core._store import Append, SaveReceived, SaveSent, Settle, Target
from mqtt_core._topics import Topic, TopicCache, topic_name_fault
from mqtt_core.client._desk import Desk
from mqtt_core.client._errors import (
    ConnectionLost,
    DeliveryUnknown,
    MessageExpired,
    MqttError,
    PublishRefused,
    QueueFull,
    StoreFailed,
)
from mqtt_core.client._keeping import Step
from mqtt_core.client._publication import DONE, IN_FLIGHT, PENDING, WRITTEN, Publication
from mqtt_core.client._writer import Writer

_PUBREL_BYTE: Final = 0x62
_FEW: Final = 64
_TAKEN_OVER: Final = Message(Topic(b"-"), b"")  # in place of one that the server has already


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
        "_repeats_dup",
        "_writer",
        "_unidentified",
        "_releases",
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
        self._repeats_dup = True  # else the session is new, and they are sent as if never before
        self._writer: Final = Writer(desk)
        # With a store: what waits for a packet identifier, and PUBRELs that wait for the store.
        self._unidentified: Final[deque[Publication]] = deque()
        self._releases: Final[deque[Publication]] = deque()

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
            if self._writer.write_plain(found, payload, retain, now):
                return WRITTEN
        expires_at = 0.0
        extras = None
        if properties:
            try:
                extras = make_extras(properties)
            except LocalProtocolError as error:
                raise ValueError(str(error)) from None
            self._check_response_topic(properties)
            assert extras is not None
            if extras.expiry_s >= 0:
                expires_at = now + extras.expiry_s
        message = Message(found, payload, qos, retain, extras)
        publication = Publication(message, qos, expires_at)
        is_kept = qos > 0 and desk.keeper.is_on
        if can_send and not is_kept and self._send_next(publication, now):
            return publication
        self._check_room(message, qos, waits)
        self._pending.append(publication)
        self.pending_bytes += message.size_bytes
        if is_kept:
            self._keep(publication)
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
        if publication.state != PENDING or publication.is_identified:
            return False
        if publication.number:
            self._settle(publication)
        publication.state = DONE
        publication.waiter = None
        self.pending_bytes -= publication.message.size_bytes
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled * 2 > len(self._pending):
            self._pending = deque([each for each in self._pending if each.state == PENDING])
            self._cancelled = 0
        return True

    # To the server

    def drain(self, now: float) -> None:
        """Send what waits, as far as there is room."""
        desk = self._desk
        while self._again and desk.has_room and self._repeat_next(now):
            pass
        if self._again:
            return
        if self._unidentified:
            self._identify()
        pending = self._pending
        while pending and desk.has_room:
            publication = pending[0]
            if publication.state == PENDING:
                if publication.storing or not self._send_next(publication, now):
                    return
                self.pending_bytes -= publication.message.size_bytes
            else:
                self._cancelled -= 1
            pending.popleft()

    # With a store

    def _keep(self, publication: Publication) -> None:
        """Store a message before it is sent; with an identifier if there is room in flight."""
        keeper = self._desk.keeper
        publication.number = keeper.next_number()
        publication.storing = 1
        if not self._unidentified and self._has_window():
            self._give_identifier(publication)
        else:
            self._unidentified.append(publication)
        target = Target(keeper.session, publication.qos, publication.packet_id)
        keeper.write(
            [Append(publication.number, publication.message, [target])], Kept(self, publication)
        )

    def _give_identifier(self, publication: Publication) -> None:
        packet_id = self._desk.flow.start(publication.message, STORING_PUBLISH)
        publication.packet_id = packet_id
        self._sent[packet_id] = publication

    def _identify(self) -> None:
        """Give packet identifiers to stored messages, as far as the window has room.

        At QoS 2 that has to be stored before the message leaves: else a restart would send it
        again as another one.
        """
        keeper = self._desk.keeper
        unidentified = self._unidentified
        while unidentified and self._has_window():
            publication = unidentified.popleft()
            if publication.state != PENDING:
                continue
            self._give_identifier(publication)
            sent = SaveSent(keeper.session, publication.number, publication.packet_id)
            if publication.qos == 1:
                keeper.write([sent])
            else:
                publication.storing += 1
                keeper.write([sent], Kept(self, publication))

    def kept(self, publication: Publication, now: float) -> None:
        """A write of a message is stored."""
        publication.storing -= 1
        if self._pending and self._pending[0] is publication:
            self.drain(now)

    def not_kept(self, publication: Publication, why: str, now: float) -> None:
        """A message could not be stored: it is not sent."""
        if publication.state != PENDING:
            return
        self._settle(publication)
        if publication.is_identified:
            self._finish(publication.packet_id)
        self.pending_bytes -= publication.message.size_bytes
        self._cancelled += 1
        topic = publication.message.topic.name
        self._fail(publication, StoreFailed(f"the message to {topic!r} could not be stored: {why}"))
        self.drain(now)

    def _settle(self, publication: Publication) -> None:
        """The store may forget a message."""
        keeper = self._desk.keeper
        keeper.write([Settle(keeper.session, publication.number)])

    def release_stored(self, now: float) -> None:
        """Send the PUBRELs whose PUBRECs are stored, in the order of these.  [MQTT-4.6.0-4]"""
        desk = self._desk
        releases = self._releases
        while releases and not releases[0].storing:
            publication = releases.popleft()
            desk.flow.advance(publication.packet_id, AWAITING_PUBCOMP)
            if desk.connection is not None and desk.is_online:
                desk.connection.write_ack(_PUBREL_BYTE, publication.packet_id, now)

    def restore(self) -> None:
        """Take up what an earlier run has left."""
        keeper = self._desk.keeper
        record = keeper.record
        if record is None:
            return
        for entry in record.in_flight:
            message = entry.message
            if entry.is_received or message is None:
                publication = Publication(_TAKEN_OVER, entry.qos)
                self._desk.flow.restore(entry.packet_id, None, AWAITING_PUBCOMP)
            else:
                publication = Publication(message, entry.qos)
                step = AWAITING_PUBACK if entry.qos == 1 else AWAITING_PUBREC
                self._desk.flow.restore(entry.packet_id, message, step)
            publication.number = entry.number
            publication.packet_id = entry.packet_id
            publication.state = IN_FLIGHT
            self._sent[entry.packet_id] = publication
        for queued in keeper.queued:
            publication = Publication(queued.message, queued.qos)
            publication.number = queued.number
            self._pending.append(publication)
            self._unidentified.append(publication)
            self.pending_bytes += queued.message.size_bytes
        keeper.queued = []

    def _has_window(self) -> bool:
        """Whether one more message may be unacknowledged.  [MQTT-3.3.4-7] [MQTT-4.9.0-2]"""
        flow = self._desk.flow
        window = self._desk.limits.max_inflight_messages
        connection = self._desk.connection
        if connection is not None and connection.peer.receive_maximum < window:
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
            self._give_up(
                publication,
                MessageExpired(f"the message to {topic!r} expired before it could be sent"),
            )
            return True
        qos = publication.qos
        is_identified = publication.is_identified
        if qos and not is_identified and (publication.number or not self._has_window()):
            return False
        refusal = self._writer.refusal(connection, publication.message)
        if refusal is not None:
            desk.counters.refused += 1
            self._give_up(publication, refusal)
            return True
        if qos:
            # [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
            step = AWAITING_PUBACK if qos == 1 else AWAITING_PUBREC
            if is_identified:
                desk.flow.advance(publication.packet_id, step)
            else:
                packet_id = desk.flow.start(publication.message, step)
                publication.packet_id = packet_id
                self._sent[packet_id] = publication
            publication.state = IN_FLIGHT
            self._writer.write(connection, publication, False, now)
        else:
            self._writer.write(connection, publication, False, now)
            publication.state = DONE
            desk.told.tell(publication)
        desk.counters.published += 1
        return True

    def _give_up(self, publication: Publication, error: MqttError) -> None:
        """A message that is next will not be sent."""
        if publication.is_identified:
            self._finish(publication.packet_id)
        elif publication.number:
            self._settle(publication)
        self._fail(publication, error)

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
        if step not in (AWAITING_PUBREC, AWAITING_PUBCOMP, STORING_PUBREL):
            connection.expects(packet_id, AWAITING_PUBREC)  # raises for a QoS 1 message
            connection.answer(PUBREL, PubRel(packet_id, PACKET_IDENTIFIER_NOT_FOUND), now)
            return  # [MQTT-3.6.2-1]
        if step == STORING_PUBREL:
            return  # a repeat of one that is being stored
        publication = self._sent[packet_id]
        publication.reason = packet.reason
        publication.properties = packet.properties
        if packet.reason >= UNSPECIFIED_ERROR:  # the end of it  [MQTT-4.3.3-4] [MQTT-4.4.0-2]
            self._finish(packet_id)
            self._conclude(publication)
            self.drain(now)
            return
        if step == AWAITING_PUBREC:
            self._need_no_repeat(publication)
            if publication.number:
                flow.advance(packet_id, STORING_PUBREL)
                publication.storing += 1
                self._releases.append(publication)
                keeper = self._desk.keeper
                keeper.write(
                    [SaveReceived(keeper.session, publication.number)], Received(self, publication)
                )
                return
            flow.advance(packet_id, AWAITING_PUBCOMP)
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
        if publication.number:
            self._settle(publication)
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
        self._writer.begin(connection)
        self._repeats_dup = session_present
        self._resume(connection, now)

    def _resume(self, connection: Connection, now: float) -> None:
        """Repeat what an earlier connection left unfinished, in its order. In a new session these
        are QoS 1 messages alone.

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
            elif step not in (STORING_PUBLISH, STORING_PUBREL):
                flow.finish(packet_id)  # SUBSCRIBE and UNSUBSCRIBE are not part of a session

    def _repeat_next(self, now: float) -> bool:
        """Repeat one message; False where it must wait for room in the window."""
        publication = self._again[0]
        if publication.needs_repeat:
            connection = self._desk.connection
            assert connection is not None
            if not self._has_window():
                return False
            refusal = self._writer.refusal(connection, publication.message)
            if refusal is not None:  # this server has announced less than the one before
                self._desk.counters.refused += 1
                self._fail(self._finish(publication.packet_id), refusal)
            else:
                self._need_no_repeat(publication)
                # With its topic name, an alias being gone.  [v3 MQTT-3.3.1-1] [MQTT-3.3.1-1]
                self._writer.write(connection, publication, self._repeats_dup, now)
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
        again = 0
        unknown = 0
        for packet_id in flow.unfinished():
            step = flow.step(packet_id)
            if step == AWAITING_PUBACK:
                again += 1
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
            elif step in (AWAITING_PUBCOMP, STORING_PUBREL):  # the server has taken it over
                self._conclude(self._finish(packet_id))
            elif step != STORING_PUBLISH:
                flow.finish(packet_id)
        self._releases.clear()
        self._desk.counters.unknown += unknown
        return again, unknown

    def end(self, error: MqttError) -> None:
        """Nothing more is sent."""
        for publication in (*self._sent.values(), *self._pending):
            if publication.state != DONE:
                self._fail(publication, error)
        self._sent.clear()
        self._pending.clear()
        self._again.clear()
        self._unidentified.clear()
        self._releases.clear()
        self._cancelled = 0
        self._unrepeated = 0
        self.pending_bytes = 0


@final
class Kept(Step):
    """A message that may be sent when it is stored, or when its packet identifier is."""

    __slots__ = ("_outgoing", "_publication")

    def __init__(self, outgoing: Outgoing, publication: Publication) -> None:
        self._outgoing: Final = outgoing
        self._publication: Final = publication

    def stored(self, now: float) -> None:
        """It may be sent."""
        self._outgoing.kept(self._publication, now)

    def refused(self, why: str, now: float) -> None:
        """It is not sent."""
        self._outgoing.not_kept(self._publication, why, now)


@final
class Received(Step):
    """A PUBREL that may be sent when the PUBREC is stored.

    Where that is refused it is sent all the same: after a restart the server is asked once more,
    and says that it has the message.
    """

    __slots__ = ("_outgoing", "_publication")

    def __init__(self, outgoing: Outgoing, publication: Publication) -> None:
        self._outgoing: Final = outgoing
        self._publication: Final = publication

    def stored(self, now: float) -> None:
        """It may be sent."""
        self._publication.storing -= 1
        self._outgoing.release_stored(now)

    def refused(self, why: str, now: float) -> None:
        """It is sent."""
        self.stored(now)
