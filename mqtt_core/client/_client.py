"""A client without I/O: it connects, publishes, subscribes and comes back by itself.

    client = Client(settings, entropy, now)
    client.start(now)
    while not client.has_ended:
        if client.wants_transport: ...        # opened(now) or open_failed(why, now)
        client.receive_data(chunk, now)       # eof(why, now) when the transport is gone
        transport.write(client.data_to_send(now))
        for waiter in client.take_told(): ... # whose publication or consumer is to be looked at
        for event in client.events(): ...
        arm_timer(client.next_deadline())     # when it fires: client.advance(now)

There is one transport at a time. When `wants_close` is true it is to be closed, once what
`data_to_send` has is out, and `eof` follows as for any other end. Times are seconds of one
monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from mqtt_core._codes import (
    PACKET_TOO_LARGE,
    SERVER_MOVED,
    SUCCESS,
    UNSPECIFIED_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    USE_ANOTHER_SERVER,
)
from mqtt_core._connection import Connection
from mqtt_core._connection import ConnectionLost as ConnectionLostEvent
from mqtt_core._errors import LocalProtocolError, RemoteProtocolError
from mqtt_core._flow import AWAITING_SUBACK, AWAITING_UNSUBACK
from mqtt_core._output import WriterPool
from mqtt_core._packets import (
    Auth,
    ConnAck,
    Disconnect,
    Packet,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscription,
    UnsubAck,
)
from mqtt_core._properties import (
    NO_PROPERTIES,
    REASON_STRING,
    RESPONSE_INFORMATION,
    SERVER_REFERENCE,
    SESSION_EXPIRY_INTERVAL,
    Properties,
    text,
)
from mqtt_core._state import CLIENT, CLOSING
from mqtt_core._store import Completion, Request
from mqtt_core._topics import TopicCache
from mqtt_core.client._authentication import Authentication
from mqtt_core.client._counters import Counters
from mqtt_core.client._desk import Desk
from mqtt_core.client._dialling import Dialling
from mqtt_core.client._errors import (
    ClientClosed,
    ConnectError,
    ConnectionLost,
    ConnectionRefused,
    MqttError,
    StoreFailed,
)
from mqtt_core.client._events import Connected, Event, Lost, SessionLost
from mqtt_core.client._greeting import connect_packet, keeps_session, made_up_client_id
from mqtt_core.client._incoming import Incoming
from mqtt_core.client._keeping import Keeper
from mqtt_core.client._life import (
    AT_ONCE,
    DROPPING,
    END,
    ENDED,
    GREETING,
    LOADING,
    NEW,
    ONLINE,
    OPENING,
    RETRY,
    WAITING,
    Life,
)
from mqtt_core.client._message import Acknowledger, Message
from mqtt_core.client._outgoing import Outgoing
from mqtt_core.client._publication import Publication
from mqtt_core.client._refusals import ENDING, LASTING, explain
from mqtt_core.client._settings import Settings
from mqtt_core.client._subscriptions import Consumer, Subscriptions

_LEAST_PACKET_BYTES: Final = 16  # a server that takes less cannot be talked to
_FARTHEST_IDENTIFIER: Final = 1 << 27


@final
class Client:
    """One client of one server: its session, over as many connections as it takes.

    `entropy(n)` gives n random bytes. `client_id` is the identifier in use. With `has_store` what
    must survive a restart is handed out by `take_requests`, and answered by `completed`;
    `last_number` is that of the engine. Raises `ValueError` for a store without a lasting session.
    """

    __slots__ = (
        "client_id",
        "response_information",
        "session_present",
        "_desk",
        "_dialling",
        "_authentication",
        "_subscriptions",
        "_incoming",
        "_outgoing",
        "_topics",
        "_writers",
        "_life",
        "_had_session",
        "_lost_counts",
    )

    def __init__(
        self,
        settings: Settings,
        entropy: Callable[[int], bytes],
        now: float,
        *,
        has_store: bool = False,
        last_number: int = 0,
    ) -> None:
        if has_store:
            settings.check_store()
        desk = Desk(settings, Keeper(has_store, settings.client_id, last_number))
        first_identifier = 1
        if settings.session_expiry_s:  # an earlier run must not have had the same ones
            first_identifier += int.from_bytes(entropy(4), "big") % _FARTHEST_IDENTIFIER
        self.client_id = settings.client_id or made_up_client_id(entropy)
        self.response_information = ""
        self.session_present = False
        self._desk: Final = desk
        self._dialling: Final = Dialling(settings, entropy)
        self._authentication: Final = Authentication(settings)
        self._subscriptions: Final = Subscriptions(desk, first_identifier)
        self._incoming: Final = Incoming(desk, self._subscriptions)
        self._outgoing: Final = Outgoing(desk)
        self._life: Final = Life(
            desk, self._dialling, self._outgoing, self._incoming, self._subscriptions
        )
        self._topics: Final = TopicCache(desk.limits.topic_cache_bytes)
        self._writers: Final = WriterPool()
        self._had_session = False  # whether the server was to keep one
        self._lost_counts: tuple[int, int] | None = None

    # What it is like

    @property
    def is_online(self) -> bool:
        """Whether the server has taken the client, and the connection is there."""
        return self._desk.is_online

    @property
    def has_ended(self) -> bool:
        """Whether it is over for good; `error` says why, None where the program wanted it."""
        return self._life.state == ENDED

    @property
    def error(self) -> MqttError | None:
        """Why it has ended; None while it has not, and where the program wanted it."""
        return self._life.error

    @property
    def level(self) -> int:
        """The version in use, or of the next attempt: 5, or 4 for 3.1.1."""
        connection = self._desk.connection
        return self._dialling.level if connection is None else connection.level

    @property
    def counters(self) -> Counters:
        """What it has counted."""
        return self._desk.counters

    @property
    def pending_messages(self) -> int:
        """Messages that wait to be sent."""
        return self._outgoing.pending_messages

    @property
    def in_flight(self) -> int:
        """Messages that are sent and not acknowledged."""
        return self._outgoing.in_flight

    @property
    def unacknowledged(self) -> int:
        """Messages of the server that are here and not acknowledged."""
        return self._incoming.unacknowledged

    @property
    def server_reference(self) -> str:
        """The server to connect to in place of the client's own, `HOST` or `HOST:PORT`; empty
        for its own."""
        return self._dialling.reference

    def set_acknowledger(self, acknowledger: Acknowledger) -> None:
        """Whom `Message.ack` calls; it is to lead to `acknowledge`."""
        self._incoming.acknowledger = acknowledger

    # Life

    def start(self, now: float) -> None:
        """Begin: a transport is wanted from now on, or as soon as the store has been read."""
        assert self._life.state == NEW
        if self._desk.keeper.is_on:
            self._life.state = LOADING
            self._desk.keeper.begin()
        else:
            self._life.state = OPENING

    def take_requests(self) -> list[Request]:
        """What the store is to do, in order."""
        return self._desk.keeper.take_requests()

    def completed(self, completion: Completion, now: float) -> None:
        """The store has answered a request."""
        keeper = self._desk.keeper
        keeper.completed(completion, now)
        failure = keeper.failure or self._incoming.failure
        if failure:
            self._end_by_store(failure, now)
        elif self._life.state == LOADING and keeper.is_ready:
            self._outgoing.restore()
            self._incoming.restore()
            self._life.state = OPENING

    def _end_by_store(self, failure: str, now: float) -> None:
        """What must be stored cannot be: going on would break a promise."""
        self._incoming.failure = ""
        self._desk.keeper.failure = ""
        error = StoreFailed(f"the store of the client is of no use: {failure}")
        connection = self._desk.connection
        if self._life.state == ENDED or self._life.is_closing:
            return
        if connection is None:
            self._life.end(error)
            return
        connection.stop_reading()
        self._life.drop(error, END)

    @property
    def wants_transport(self) -> bool:
        """Whether a connection to the server is to be opened, and to be told by `opened` or
        `open_failed`."""
        return self._life.state == OPENING

    def opened(self, now: float) -> None:
        """A transport is there."""
        desk = self._desk
        settings = desk.settings
        level = self._dialling.level
        connection = Connection(
            CLIENT,
            topics=self._topics,
            writers=self._writers,
            max_packet_size_bytes=desk.limits.max_packet_size_bytes,
            connack_timeout_s=desk.limits.connect_timeout_s,
            manual_acks=True,
            now=now,
        )
        desk.connection = connection
        desk.is_writable = True
        desk.epoch += 1
        self._life.state = GREETING
        packet = connect_packet(
            settings, self.client_id, level, self._had_session, self._authentication.begin()
        )
        if packet.clean_start:
            self._lose_session()
        else:
            connection.flow = desk.flow
        try:
            connection.send_connect(packet, now)
            connection.flow = desk.flow  # what is to be published again is kept by a clean start
        except LocalProtocolError as error:
            self._life.drop(ConnectError(f"the CONNECT cannot be sent: {error}"), END)

    def open_failed(self, why: str, now: float) -> None:
        """No transport could be opened."""
        if self._life.state == OPENING:
            self._life.last_error = ConnectError(f"cannot connect to {self._life.server()}: {why}")
            self._life.verdict = RETRY
            self._desk.counters.failed_attempts += 1
            self._desk.events.append(Lost(why))
            self._life.go_on(now)

    def disconnect(self, now: float) -> None:
        """End it, by the program: DISCONNECT is sent where there is a connection.

        Whatever is not done then ends with `ClientClosed`.
        """
        if self._life.state == ENDED or self._life.is_closing:
            return
        self._life.is_closing = True
        desk = self._desk
        connection = desk.connection
        if connection is None:
            self._life.end(None)
            return
        if desk.is_online:
            properties: Properties = NO_PROPERTIES
            if connection.own.session_expiry_s > 0 and not desk.settings.session_expiry_s:
                properties = ((SESSION_EXPIRY_INTERVAL, 0),)
            connection.send_disconnect(now, SUCCESS, properties)  # [MQTT-3.14.4-1]
        self._life.drop(None, END)

    def eof(self, why: str, now: float) -> None:
        """The transport is gone; `why` in words, empty where the peer has closed it."""
        connection = self._desk.connection
        if self._life.state in (GREETING, ONLINE):
            words = why or "the server has closed the connection"
            if self._life.state == GREETING:
                words = why or "the server has closed the connection without an answer"
                self._life.drop(
                    ConnectError(f"cannot connect to {self._life.server()}: {words}"), RETRY, words
                )
                if self._dialling.fall_back():
                    self._life.verdict = AT_ONCE
            else:
                self._life.drop(ConnectionLost(words), RETRY, words)
        if self._life.state == DROPPING:
            assert connection is not None
            connection.eof(now)
            self._desk.connection = None
            self._life.go_on(now)

    def _check_alive(self) -> None:
        if self._life.state == ENDED or self._life.is_closing:
            closed = ClientClosed("the client is closed: make a new one")
            closed.__cause__ = self.error
            raise closed

    # Input

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Take a chunk from the transport. What a server does wrong ends the connection, and is
        said to it where MQTT has a word for that."""
        connection = self._desk.connection
        if connection is None or self._life.state == DROPPING:
            return
        connection.feed(chunk, now)
        try:
            while connection.can_read:
                packet = connection.read_packet()
                if packet is None:
                    return
                self._take(connection, packet, now)
        except RemoteProtocolError as error:
            self._give_up(connection, error, now)

    def _give_up(self, connection: Connection, error: RemoteProtocolError, now: float) -> None:
        """The server has broken MQTT."""
        was_greeting = self._life.state == GREETING
        if connection.wants_close and connection.state != CLOSING:
            connection.say_why(error.reason, now)
        connection.stop_reading()
        why = f"the server does not keep to MQTT: {error}"
        if was_greeting:
            self._life.drop(
                ConnectError(f"cannot connect to {self._life.server()}: {why}"), RETRY, why
            )
            if self._dialling.fall_back():
                self._life.verdict = AT_ONCE
        else:
            self._life.drop(ConnectionLost(why, error.reason), RETRY, why, error.reason)

    def _take(self, connection: Connection, packet: Packet, now: float) -> None:
        if isinstance(packet, Publish):
            self._incoming.take_publish(connection, packet, now)
        elif isinstance(packet, PubAck):
            self._outgoing.take_puback(connection, packet, now)
        elif isinstance(packet, PubRec):
            self._outgoing.take_pubrec(connection, packet, now)
        elif isinstance(packet, PubComp):
            self._outgoing.take_pubcomp(connection, packet, now)
        elif isinstance(packet, PubRel):
            self._incoming.take_pubrel(connection, packet, now)
        elif isinstance(packet, SubAck):
            connection.take_answer(packet.packet_id, AWAITING_SUBACK, len(packet.reasons))
            reason = packet.reasons[0]
            self._subscriptions.take_answer(packet.packet_id, reason, packet.properties, now)
        elif isinstance(packet, UnsubAck):
            connection.take_answer(packet.packet_id, AWAITING_UNSUBACK, len(packet.reasons))
            self._subscriptions.take_answer(packet.packet_id, SUCCESS, packet.properties, now)
        elif isinstance(packet, ConnAck):
            self._take_connack(connection, packet, now)
        elif isinstance(packet, Disconnect):
            self._take_disconnect(packet, now)
        elif isinstance(packet, Auth):
            self._authenticate(connection, packet, now)
        else:  # PINGRESP
            connection.excuse_silence()

    def _take_connack(self, connection: Connection, packet: ConnAck, now: float) -> None:
        if packet.reason != SUCCESS:
            self._take_refusal(packet, now)
            return
        fault = self._authentication.fault(packet)
        if fault:
            self._distrust(connection, fault, now)
            return
        connection.check_session(packet)
        if connection.peer.maximum_packet_size < _LEAST_PACKET_BYTES:
            raise connection.fail(
                f"the server takes no packet over {connection.peer.maximum_packet_size} bytes",
                "",
                PACKET_TOO_LARGE,
            )
        desk = self._desk
        present = packet.session_present
        is_first = desk.counters.connections == 0
        desk.counters.connections += 1
        desk.is_online = True
        self._life.state = ONLINE
        self.client_id = connection.client_id
        self.session_present = present
        self.response_information = text(packet.properties, RESPONSE_INFORMATION) or ""
        self._dialling.succeeded(connection.level, now)
        if not present:
            self._lose_session()
        lost = self._lost_counts
        self._lost_counts = None
        desk.events.append(Connected(present, connection.level))
        if lost is not None and (lost != (0, 0) or not is_first):
            desk.counters.lost_sessions += 1
            desk.events.append(SessionLost(lost[0], lost[1]))
        self._had_session = keeps_session(desk.settings, connection.level)
        self._incoming.begin(present, is_first)
        self._outgoing.begin(connection, present, now)
        self._subscriptions.send(now)
        self._outgoing.drain(now)

    def _lose_session(self) -> None:
        """What the server knew of the session is gone, or is about to go."""
        again, unknown = self._outgoing.lose_session()
        self._incoming.lose_session()
        self._subscriptions.lose_session()
        before = self._lost_counts
        if before is not None:
            unknown += before[1]
        self._lost_counts = (again, unknown)

    def _take_refusal(self, packet: ConnAck, now: float) -> None:
        reason = packet.reason
        if reason == UNSUPPORTED_PROTOCOL_VERSION and self._dialling.fall_back():
            self._life.drop(None, AT_ONCE)
            return
        said = text(packet.properties, REASON_STRING) or ""
        reference = text(packet.properties, SERVER_REFERENCE) or ""
        words = explain(reason, said)
        refused = ConnectionRefused(
            f"{self._life.server()} refuses the connection: {words}", reason, said, reference
        )
        verdict = END if reason in LASTING else RETRY
        if reason in (USE_ANOTHER_SERVER, SERVER_MOVED):
            if self._dialling.redirect(reference, reason == SERVER_MOVED, False, now):
                verdict = AT_ONCE
        self._life.drop(refused, verdict, f"refused: {words}", reason)

    def _take_disconnect(self, packet: Disconnect, now: float) -> None:
        """DISCONNECT of MQTT 5.0: the server says why (3.14)."""
        reason = packet.reason
        words = explain(reason, text(packet.properties, REASON_STRING) or "")
        verdict = END if reason in ENDING else RETRY
        if reason in (USE_ANOTHER_SERVER, SERVER_MOVED):
            reference = text(packet.properties, SERVER_REFERENCE) or ""
            if self._dialling.redirect(reference, reason == SERVER_MOVED, True, now):
                verdict = AT_ONCE
        why = f"the server has ended the connection: {words}"
        self._life.drop(ConnectionLost(why, reason), verdict, why, reason)

    def _authenticate(self, connection: Connection, packet: Auth, now: float) -> None:
        answer, fault = self._authentication.answer(packet)
        if fault:
            self._distrust(connection, fault, now)
        elif answer is not None:
            connection.send_auth(answer, now)

    def _distrust(self, connection: Connection, fault: str, now: float) -> None:
        connection.send_disconnect(now, UNSPECIFIED_ERROR)
        self._life.drop(ConnectError(f"cannot log in to {self._life.server()}: {fault}"), END)

    def re_authenticate(self, now: float) -> None:
        """Log in again on the same connection (4.12.1 of MQTT 5.0)."""
        connection = self._desk.connection
        if not self._desk.is_online or connection is None:
            raise ConnectionLost("not connected: wait with wait_connected()")
        try:
            connection.send_auth(self._authentication.begin_again(), now)
        except LocalProtocolError as error:
            raise ValueError(f"cannot log in again: {error}") from None

    def set_writable(self, is_writable: bool, now: float) -> None:
        """Whether the transport takes more; while not, messages wait here."""
        desk = self._desk
        desk.is_writable = is_writable
        if is_writable:
            self._fill(now)

    def _fill(self, now: float) -> None:
        self._subscriptions.send(now)
        self._outgoing.drain(now)

    # Output

    def data_to_send(self, now: float) -> bytes:
        """The next bytes for the transport; empty when there are none."""
        connection = self._desk.connection
        if connection is None:
            return b""
        output = connection.output
        data = output.take()
        if data and self._desk.is_online and output.is_empty:
            self._fill(now)
        return data

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` has something."""
        connection = self._desk.connection
        return connection is not None and not connection.output.is_empty

    @property
    def is_full(self) -> bool:
        """Whether messages wait until `data_to_send` is called."""
        connection = self._desk.connection
        return (
            connection is not None
            and connection.output.size_bytes >= self._desk.limits.max_unsent_bytes
        )

    @property
    def wants_read(self) -> bool:
        """Whether more input is of use: not while as many messages are unacknowledged as may be,
        unless the program waits for an answer that may stand behind them."""
        if self._life.state not in (GREETING, ONLINE):
            return False
        return (
            self._incoming.unanswered < self._desk.limits.receive_maximum
            or self._outgoing.in_flight > 0
            or self._subscriptions.has_requests
        )

    @property
    def wants_close(self) -> bool:
        """Whether the transport is to be closed, once `data_to_send` is empty."""
        return self._life.state == DROPPING

    def take_told(self) -> list[object]:
        """The waiters of publications and consumers that have something to look at."""
        return self._desk.told.take()

    def events(self) -> list[Event]:
        """What has become of the connection since the last call, in order."""
        events = self._desk.events
        if events:
            self._desk.events = []
        return events

    # Time

    def next_deadline(self) -> float | None:
        """When `advance` is to be called at the latest; None for never."""
        if self._life.state == WAITING:
            return self._life.deadline
        connection = self._desk.connection
        if connection is None or self._life.state not in (GREETING, ONLINE):
            return None
        first = connection.next_deadline()
        other = self._incoming.deadline
        if other is not None and (first is None or other < first):
            return other
        return first

    def advance(self, now: float) -> None:
        """Do what is due."""
        if self._life.state == WAITING:
            if now >= self._life.deadline:
                self._life.state = OPENING
            return
        connection = self._desk.connection
        if connection is None or self._life.state not in (GREETING, ONLINE):
            return
        self._incoming.advance(now)
        if not self.wants_read:
            connection.excuse_silence()
        connection.advance(now)
        if connection.state < CLOSING:
            return
        event = connection.events()[-1]
        assert isinstance(event, ConnectionLostEvent)
        why = event.why
        error: MqttError = ConnectionLost(why)
        verdict = RETRY
        if self._life.state == GREETING:
            error = ConnectError(f"cannot connect to {self._life.server()}: {why}")
            if self._dialling.fall_back():  # there are servers that wait for the rest of a CONNECT
                verdict = AT_ONCE
        self._life.drop(error, verdict, why)

    # From the program

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        now: float,
        properties: Properties = NO_PROPERTIES,
        waits: bool = False,
    ) -> Publication:
        """Publish a message (3.3). With `waits` somebody waits for it, and is never refused.

        Raises `ValueError` for what MQTT forbids, `QueueFull`, `ClientClosed`.
        """
        if self._life.state == ENDED or self._life.is_closing:
            self._check_alive()
        return self._outgoing.publish(topic, payload, qos, retain, properties, waits, now)

    def cancel(self, publication: Publication) -> bool:
        """Take a message back that has not been sent; False where it has been."""
        return self._outgoing.cancel(publication)

    def subscribe(self, asked: Sequence[Subscription], now: float) -> Consumer:
        """Subscribe (3.8) and get a consumer, which is ready when the server has answered.

        Raises `ValueError` for what MQTT forbids, `QueueFull`, `ClientClosed`.
        """
        self._check_alive()
        consumer = self._subscriptions.subscribe(asked, now)
        self._incoming.offer(consumer)
        return consumer

    def unsubscribe(self, consumer: Consumer, now: float) -> None:
        """The consumer wants no more (3.10); what it has not taken is dropped, and counted."""
        unread = self._subscriptions.unsubscribe(consumer, now)
        self._incoming.drop_unread(unread, now)

    def take(self, consumer: Consumer, now: float) -> Message | None:
        """The next message for a consumer, None where none waits. It is acknowledged by that,
        without `manual_acks`."""
        return self._incoming.take(consumer, now)

    def acknowledge(self, message: Message, now: float) -> None:
        """The program has done with a message, with `manual_acks`."""
        self._incoming.acknowledge(message, now)
