"""What the program has subscribed to: filters, and the consumers of their messages.

The server knows a filter once, however many consumers it has here; SUBSCRIBE has one filter, so
that each has a subscription identifier of its own and a message says which ones it answers. A
session that was lost is made again from here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, final

from mqtt_core._codes import (
    MQTT_5,
    PACKET_TOO_LARGE,
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
    SUBACK,
    UNSPECIFIED_ERROR,
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
    reason_name,
)
from mqtt_core._connection import Connection
from mqtt_core._errors import LocalProtocolError
from mqtt_core._packets import Publish, Subscription
from mqtt_core._properties import (
    NO_PROPERTIES,
    REASON_STRING,
    SUBSCRIPTION_IDENTIFIER,
    Properties,
    text,
)
from mqtt_core._topics import (
    SHARE_PREFIX,
    Route,
    Topic,
    filter_matches,
    has_wildcard,
    shared_filter_fault,
    topic_filter_fault,
)
from mqtt_core.client._desk import Desk
from mqtt_core.client._errors import MqttError, QueueFull, SubscribeRefused
from mqtt_core.client._message import Message
from mqtt_core.client._told import Waitable

WANTED: Final = 0  # SUBSCRIBE is to be sent
ASKED: Final = 1
GRANTED: Final = 2
UNWANTED: Final = 3  # UNSUBSCRIBE is to be sent
LEAVING: Final = 4
GONE: Final = 5


@final
class Filter:
    """One topic filter that the server knows, or is to know."""

    __slots__ = (
        "asked",
        "utf8",
        "levels",
        "identifier",
        "consumers",
        "leavers",
        "state",
        "request",
        "granted_qos",
    )

    def __init__(self, asked: Subscription, utf8: bytes, identifier: int) -> None:
        self.asked = asked
        self.utf8: Final = utf8
        topic_filter = utf8
        if utf8.startswith(SHARE_PREFIX):  # $share/GROUP/FILTER matches by its filter (4.8.2)
            topic_filter = utf8.split(b"/", 2)[2]
        self.levels: Final = topic_filter.split(b"/")
        self.identifier: Final = identifier
        self.consumers: Final[list[Consumer]] = []
        self.leavers: Final[list[Consumer]] = []  # who waits until it is gone
        self.state = WANTED
        self.request = 0  # the packet identifier of the last SUBSCRIBE
        self.granted_qos = 0

    @property
    def is_exact(self) -> bool:
        """Whether it matches one topic alone, the one of its own name."""
        return not has_wildcard(self.utf8) and not self.utf8.startswith(SHARE_PREFIX)


@final
class Consumer(Waitable):
    """One subscribe call of the program, and the messages that wait for it.

    Its waiter is told when the server has answered, when a message has come, when all filters
    are gone, and when it has ended. `error` says that no more messages will come, and why.
    """

    __slots__ = (
        "filters",
        "dropped",
        "error",
        "is_leaving",
        "_unanswered",
        "_messages",
        "_qos0",
        "_qos0_bytes",
    )

    def __init__(self, filters: list[Filter]) -> None:
        super().__init__()
        self.filters: Final = filters
        self.dropped = 0  # QoS 0 messages that were dropped, because too many waited
        self.error: MqttError | None = None
        self.is_leaving = False
        self._unanswered: Final[set[Filter]] = set(filters)
        self._messages: deque[Message] = deque()
        self._qos0 = 0  # how many of the messages are of QoS 0
        self._qos0_bytes = 0

    @property
    def is_ready(self) -> bool:
        """Whether the server has answered for all filters."""
        return not self._unanswered

    @property
    def is_gone(self) -> bool:
        """Whether the server knows none of its filters any more, or there is no need to ask."""
        return self.error is not None or (
            self.is_leaving
            and all(each.state == GONE or self not in each.leavers for each in self.filters)
        )

    @property
    def granted_qos(self) -> tuple[int, ...]:
        """The QoS that the server has granted for each filter."""
        return tuple(each.granted_qos for each in self.filters)

    @property
    def topic_filters(self) -> tuple[str, ...]:
        """The filters as they were asked for."""
        return tuple(each.asked.topic_filter for each in self.filters)

    @property
    def unread(self) -> int:
        """How many messages wait to be taken."""
        return len(self._messages)

    def put(self, message: Message, most: int, most_bytes: int) -> int:
        """A message for it. Returns how many were dropped to make room; only QoS 0 ones are."""
        self._messages.append(message)
        if message.qos:
            return 0
        self._qos0 += 1
        self._qos0_bytes += message.size_bytes
        dropped = 0
        while self._qos0 > most or (self._qos0_bytes > most_bytes and self._qos0 > 1):
            self._drop_oldest()
            dropped += 1
        self.dropped += dropped
        return dropped

    def _drop_oldest(self) -> None:
        messages = self._messages
        at = 0
        while messages[at].qos:
            at += 1
        self._qos0 -= 1
        self._qos0_bytes -= messages[at].size_bytes
        del messages[at]

    def take(self) -> Message | None:
        """The next message, None where none waits."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        if message.qos == 0:
            self._qos0 -= 1
            self._qos0_bytes -= message.size_bytes
        return message

    def answered(self, topic_filter: Filter) -> None:
        """The server has answered for a filter, or will not be asked."""
        self._unanswered.discard(topic_filter)

    def result(self) -> Consumer:
        """Itself. Raises its error."""
        if self.error is not None:
            raise self.error
        return self


@final
class ClientRoute(Route):
    """The consumers of a topic, as of a version of the table."""

    __slots__ = ("version", "consumers")

    def __init__(self, version: int, consumers: list[Consumer]) -> None:
        self.version: Final = version
        self.consumers: Final = consumers


@final
class Subscriptions:
    """All filters and consumers of a client."""

    __slots__ = (
        "_desk",
        "_filters",
        "_patterns",
        "_by_identifier",
        "_to_send",
        "_requests",
        "_version",
        "_first_identifier",
        "_next_identifier",
    )

    def __init__(self, desk: Desk, first_identifier: int) -> None:
        self._desk: Final = desk
        self._filters: Final[dict[bytes, Filter]] = {}
        self._patterns: Final[dict[Filter, None]] = {}  # those that match more than one topic
        self._by_identifier: Final[dict[int, Filter]] = {}
        self._to_send: deque[Filter] = deque()
        self._requests: Final[dict[int, Filter]] = {}  # by packet identifier
        self._version = 0
        # They run up from here, at most to 268,435,455; that is a day of 3,000 a second.
        self._first_identifier: Final = first_identifier
        self._next_identifier = first_identifier

    @property
    def has_requests(self) -> bool:
        """Whether an answer of the server is awaited."""
        return bool(self._requests)

    # From the program

    def subscribe(self, asked: Sequence[Subscription], now: float) -> Consumer:
        """A consumer of some filters. Raises `ValueError` and `QueueFull`."""
        if not asked:
            raise ValueError("subscribe to nothing: give at least one topic filter")
        for each in asked:
            self._check(each)
        limit = self._desk.limits.max_subscriptions
        if len(self._filters) + len(asked) > limit:
            raise QueueFull(
                f"{len(self._filters):,} topic filters are subscribed to already: unsubscribe from "
                "some, use a wildcard for many, or raise max_subscriptions"
            )
        filters: list[Filter] = []
        for each in asked:
            found = self._want(each)
            if found not in filters:
                filters.append(found)
        consumer = Consumer(filters)
        for each_filter in filters:
            each_filter.consumers.append(consumer)
        self._version += 1
        self.send(now)
        return consumer

    def _check(self, asked: Subscription) -> None:
        utf8 = asked.topic_filter.encode()
        fault = topic_filter_fault(utf8)
        if fault is None:
            fault = shared_filter_fault(utf8)
        if fault is not None:
            raise ValueError(f"cannot subscribe to {asked.topic_filter!r}: {fault[0]}")
        if not 0 <= asked.qos <= 2 or not 0 <= asked.retain_handling <= 2:
            raise ValueError(
                f"qos is {asked.qos} and retain_handling {asked.retain_handling}; allowed: 0 to 2"
            )
        if asked.no_local and utf8.startswith(SHARE_PREFIX):  # [MQTT-3.8.3-4]
            raise ValueError("a shared subscription has no no_local")
        known = self._filters.get(utf8)
        if known is not None and (
            known.asked.no_local != asked.no_local
            or known.asked.retain_as_published != asked.retain_as_published
        ):
            raise ValueError(
                f"{asked.topic_filter!r} is subscribed to already with another no_local or "
                "retain_as_published, and a server knows a filter once: use the same"
            )

    def _want(self, asked: Subscription) -> Filter:
        """The filter, to be asked for in any case: its retained messages are wanted anew."""
        utf8 = asked.topic_filter.encode()
        known = self._filters.get(utf8)
        if known is None:
            known = Filter(asked, utf8, self._next_identifier)
            self._next_identifier += 1
            self._filters[utf8] = known
            self._by_identifier[known.identifier] = known
            if not known.is_exact:
                self._patterns[known] = None
            self._to_send.append(known)
            return known
        known.asked = Subscription(
            asked.topic_filter,
            max(asked.qos, known.asked.qos),
            asked.no_local,
            asked.retain_as_published,
            asked.retain_handling,
        )
        if known.state != WANTED:
            known.state = WANTED
            self._to_send.append(known)
        return known

    def unsubscribe(self, consumer: Consumer, now: float) -> list[Message]:
        """The program wants no more. Returns the messages that it has not taken.

        A filter goes with its last consumer. [MQTT-3.10.4-1]
        """
        if not consumer.is_leaving:
            consumer.is_leaving = True
            for each in consumer.filters:
                consumer.answered(each)
                self._leave(each, consumer)
            self._version += 1
            self.send(now)
        unread: list[Message] = []
        message = consumer.take()
        while message is not None:
            unread.append(message)
            message = consumer.take()
        self._desk.told.tell(consumer)
        return unread

    def _leave(self, topic_filter: Filter, consumer: Consumer) -> None:
        if consumer in topic_filter.consumers:
            topic_filter.consumers.remove(consumer)
            if not topic_filter.consumers and topic_filter.state != GONE:
                topic_filter.leavers.append(consumer)
                self._unwant(topic_filter)

    def _unwant(self, topic_filter: Filter) -> None:
        self._forget(topic_filter)
        if topic_filter.state == WANTED:
            topic_filter.state = GONE  # nobody has asked the server, or its session is lost
        else:
            topic_filter.state = UNWANTED
            self._to_send.append(topic_filter)

    def _forget(self, topic_filter: Filter) -> None:
        del self._filters[topic_filter.utf8]
        self._patterns.pop(topic_filter, None)
        del self._by_identifier[topic_filter.identifier]

    # To the server

    def send(self, now: float) -> None:
        """Send what there is to be asked, as far as packet identifiers and the socket go."""
        desk = self._desk
        connection = desk.connection
        to_send = self._to_send
        while to_send and desk.has_room and desk.flow.has_identifier and connection is not None:
            each = to_send.popleft()
            if each.state == WANTED:
                self._send_subscribe(connection, each, now)
            elif each.state == UNWANTED:
                # Behind a new subscription to the same filter it would end that one.
                if each.utf8 in self._filters:
                    self._left(each)
                else:
                    self._send_unsubscribe(connection, each, now)

    def _send_subscribe(self, connection: Connection, each: Filter, now: float) -> None:
        asked = each.asked
        properties: Properties = NO_PROPERTIES
        if connection.level == MQTT_5:
            if connection.peer.has_identifiers:
                properties = ((SUBSCRIPTION_IDENTIFIER, each.identifier),)
        elif asked.no_local or asked.retain_as_published or asked.retain_handling:
            # What 3.1.1 has not is left out: all of it is about what may come in addition.
            asked = Subscription(asked.topic_filter, asked.qos)
        reason = WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
        if each.utf8.startswith(SHARE_PREFIX):
            reason = SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        try:
            connection.check_filter(asked.topic_filter)
            reason = PACKET_TOO_LARGE
            packet_id = connection.send_subscribe([asked], now, properties)
        except LocalProtocolError as error:
            self._refuse(each, reason, f"{error}")
            return
        each.state = ASKED
        each.request = packet_id
        self._requests[packet_id] = each

    def _send_unsubscribe(self, connection: Connection, each: Filter, now: float) -> None:
        try:
            packet_id = connection.send_unsubscribe([each.asked.topic_filter], now)
        except LocalProtocolError:
            # Too large for this server, which has it from a connection that took more. Whatever
            # it sends for it goes to nobody.
            self._left(each)
            return
        each.state = LEAVING
        self._requests[packet_id] = each

    def take_answer(self, packet_id: int, reason: int, properties: Properties, now: float) -> None:
        """SUBACK or UNSUBACK; the connection has seen that it answers something."""
        each = self._requests.pop(packet_id)
        if each.state == LEAVING:
            self._left(each)
        elif each.state == ASKED and each.request == packet_id:
            # Else it is asked again already, or unwanted meanwhile.
            if reason >= UNSPECIFIED_ERROR:
                self._refuse(each, reason, text(properties, REASON_STRING) or "")
            else:
                each.state = GRANTED
                each.granted_qos = reason
                for consumer in each.consumers:
                    consumer.answered(each)
                    if consumer.is_ready:
                        self._desk.told.tell(consumer)
        self.send(now)

    def _left(self, each: Filter) -> None:
        each.state = GONE
        for consumer in each.leavers:
            if consumer.is_gone:
                self._desk.told.tell(consumer)

    def _refuse(self, each: Filter, reason: int, said: str) -> None:
        """The server does not take a filter: its consumers end."""
        each.state = GONE
        self._forget(each)
        topic_filter = each.asked.topic_filter
        name = reason_name(reason, SUBACK)
        for consumer in list(each.consumers):
            self.end(
                consumer,
                SubscribeRefused(
                    f"the server refuses the subscription to {topic_filter!r}: {name}"
                    f"{': ' + said if said else ''}",
                    topic_filter,
                    reason,
                    said,
                ),
            )

    def end(self, consumer: Consumer, error: MqttError) -> None:
        """No more messages will come; those that are here can still be taken."""
        consumer.error = error
        for each in consumer.filters:
            self._leave(each, consumer)
        self._version += 1
        self._desk.told.tell(consumer)

    # From one connection to the next

    def lose_connection(self) -> None:
        """What was asked and not answered is asked again. Who waits to be unsubscribed is told:
        without a connection there is no answer to wait for."""
        for each in self._requests.values():
            if each.state == ASKED:
                each.state = WANTED
                self._to_send.append(each)
            elif each.state == LEAVING:
                each.state = UNWANTED
                self._to_send.append(each)
                for consumer in each.leavers:
                    self._desk.told.tell(consumer)
        self._requests.clear()

    def lose_session(self) -> None:
        """The server knows no filter any more: all that are wanted are asked for, in order."""
        gone = [each for each in self._to_send if each.state == UNWANTED]
        self._to_send = deque(self._filters.values())
        for each in self._to_send:
            each.state = WANTED
        for each in gone:
            self._left(each)

    def end_all(self, error: MqttError) -> None:
        """The client has ended."""
        for each in list(self._filters.values()):
            for consumer in list(each.consumers):
                self.end(consumer, error)
        self.lose_connection()
        self.lose_session()

    # Whose a message is

    def consumers_of(self, packet: Publish) -> list[Consumer]:
        """The consumers that a message goes to, in the order in which they have subscribed.

        By the subscription identifiers that it has; by its topic where it has none, or those of
        an earlier run of the program.
        """
        properties = packet.properties
        if properties:  # no topic alias: none was allowed to the server
            if len(properties) == 1:
                value = properties[0][1]
                assert isinstance(value, int)
                only = self._by_identifier.get(value)
                if only is not None:
                    return only.consumers
            answered = self._by_identifiers(properties)
            if answered is not None:
                return answered
        topic = packet.message.topic
        route = topic.route
        if isinstance(route, ClientRoute) and route.version == self._version:
            return route.consumers
        consumers = self._matching(topic)
        if topic.is_cached:
            topic.route = ClientRoute(self._version, consumers)
        return consumers

    def _by_identifiers(self, properties: Properties) -> list[Consumer] | None:
        """The consumers that subscription identifiers name; None where none is of this run."""
        found: list[Consumer] | None = None
        for _, value in properties:
            assert isinstance(value, int)
            if self._first_identifier <= value < self._next_identifier:
                if found is None:
                    found = []
                each = self._by_identifier.get(value)
                if each is not None:
                    _add_new(found, each.consumers)
        return found

    def _matching(self, topic: Topic) -> list[Consumer]:
        found: list[Consumer] = []
        exact = self._filters.get(topic.utf8)
        if exact is not None:
            _add_new(found, exact.consumers)
        levels = topic.levels()
        for each in self._patterns:
            if filter_matches(each.levels, levels):
                _add_new(found, each.consumers)
        return found


def _add_new(found: list[Consumer], consumers: list[Consumer]) -> None:
    for consumer in consumers:
        if consumer not in found:
            found.append(consumer)


def matches(consumer: Consumer, topic: Topic) -> bool:
    """Whether any filter of a consumer matches a topic."""
    levels = topic.levels()
    return any(filter_matches(each.levels, levels) for each in consumer.filters)
