"""From a PUBLISH to its receivers and back to its acknowledgement (4.3).

A message goes to its receivers when it arrives; a wide fan-out is done in turns, and its
publisher is not read meanwhile. What is to be stored, and the acknowledgement that rests on
it, is the matter of `_committing`.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import (
    NO_MATCHING_SUBSCRIBERS,
    NOT_AUTHORIZED,
    PAYLOAD_FORMAT_INVALID,
    QUOTA_EXCEEDED,
    RECEIVE_MAXIMUM_EXCEEDED,
    SUCCESS,
    TOPIC_NAME_INVALID,
)
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._message import Message, make_extras
from mqtt_core._packets import Publish, Will
from mqtt_core._properties import (
    PAYLOAD_FORMAT_INDICATOR,
    WILL_DELAY_INTERVAL,
    Properties,
    number,
)
from mqtt_core._store import (
    FIRST,
    LAST,
    MORE,
    WHOLE,
    DeleteRetained,
    HoldIdentifier,
    Operation,
    PutRetained,
    ReleaseIdentifier,
    SaveWill,
)
from mqtt_core.broker._auth import ASK, DENY, PUBLISH_ACTION
from mqtt_core.broker._authorizing import Authorizer
from mqtt_core.broker._causes import QUOTA, UNAUTHORIZED
from mqtt_core.broker._channel import LAYOUT_3, Channel
from mqtt_core.broker._choosing import Choosing
from mqtt_core.broker._committing import Commitment, Committing
from mqtt_core.broker._delivery import Delivery
from mqtt_core.broker._limits import ACKNOWLEDGE, REFUSE
from mqtt_core.broker._room import Room
from mqtt_core.broker._session import Session
from mqtt_core.broker._shared import Group
from mqtt_core.broker._subscribers import Subscriber, Subscribers
from mqtt_core.broker._sweeping import Sweeping
from mqtt_core.broker._work import Work
from mqtt_core.broker._workspace import WAIT_FAN_OUT, WAIT_NO, Workspace

_NARROW: Final = 64  # receivers of a message that is never put off
_VISITS_PER_DELIVERY: Final = 4  # nodes of the trie that take the time of one delivery
_HELD_ANYWAY: Final = 16  # QoS 2 messages that a session may hold when others use up the total


def is_text_if_said_so(properties: Properties, payload: bytes) -> bool:
    """Whether a payload is UTF-8 where its payload format indicator says so (3.3.2.3.2)."""
    if not number(properties, PAYLOAD_FORMAT_INDICATOR, 0):
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _holds(session: Session | None, packet: Publish | None) -> list[Operation]:
    """What stores the identifier of a QoS 2 message with the session that it comes from."""
    if session is None or not session.key or packet is None or packet.message.qos != 2:
        return []
    return [HoldIdentifier(session.key, packet.packet_id)]


@final
class FanOut(Work):
    """A message on its way to many receivers, a part of them in each turn.

    `others` is what it changes in the store beside their queues; that goes with the first part.
    `is_whole`: a crash must not come between two parts, since a repeat would begin at the first.
    """

    __slots__ = (
        "message",
        "publisher",
        "channel",
        "packet",
        "begun",
        "others",
        "is_whole",
        "then",
        "then_stored",
        "stored_will",
        "found",
        "_publishing",
        "_lists",
        "_granted",
        "_groups",
        "_list_at",
        "_at",
        "_group_at",
        "_seen",
    )

    def __init__(
        self,
        publishing: Publishing,
        message: Message,
        found: list[Subscribers],
        publisher: Session | None,
        channel: Channel | None,
        packet: Publish | None,
        begun: Commitment,
        others: list[Operation],
        is_whole: bool,
    ) -> None:
        super().__init__()
        self.message: Final = message
        self.publisher: Final = publisher
        self.channel: Final = channel  # whose input waits for the end, None for a will
        self.packet: Final = packet
        self.begun: Final = begun
        self.others = others
        self.is_whole: Final = is_whole
        self.then: Will | None = None  # of the publisher's connection, published behind this one
        self.then_stored: SaveWill | None = None
        self.stored_will: SaveWill | None = None  # to be taken out of the store with the first part
        self.found: Final = found
        self._publishing: Final = publishing
        self._lists: Final[list[list[Subscriber]]] = []
        self._granted: Final[list[int]] = []
        for qos in (2, 1, 0):  # the highest first, which `seen` relies on
            for subscribers in found:
                subscribers.share()
                part = subscribers.at_qos(qos)
                if part is not None:
                    self._lists.append(part)
                    self._granted.append(qos)
        self._groups: Final[list[Group]] = []  # which choose when it is their turn
        for subscribers in found:
            if subscribers.groups is not None:
                self._groups.extend(subscribers.groups.values())
        self._list_at = 0
        self._at = 0
        self._group_at = 0
        self._seen: set[int] | None = set() if len(found) > 1 else None

    def run(self) -> bool:
        """Deliver to the next receivers; True when all have it."""
        return self._publishing.go_on(self)

    def deliver_some(self, delivery: Delivery, count: int) -> bool:
        """Deliver to at most `count` receivers; True when all have it."""
        delivery.publisher = self.publisher
        delivery.found = self.found
        while self._list_at < len(self._lists) and count > 0:
            subscribers = self._lists[self._list_at]
            stop = min(len(subscribers), self._at + count)
            granted = self._granted[self._list_at]
            delivery.to_subscribers(subscribers, self._at, stop, self.message, granted, self._seen)
            count -= stop - self._at
            self._at = stop
            if stop == len(subscribers):
                self._list_at += 1
                self._at = 0
        while self._group_at < len(self._groups) and count > 0:
            group = self._groups[self._group_at]
            self._group_at += 1  # even if this fails: chosen once
            delivery.to_group(group, self.message)
            count -= 1
        return self._list_at >= len(self._lists) and self._group_at >= len(self._groups)


@final
class Publishing:
    """Takes messages from publishers."""

    __slots__ = (
        "last_wills",
        "_ws",
        "_delivery",
        "_room",
        "_choosing",
        "_committing",
        "_authorizer",
        "_refuses",
        "_flush_at",
        "_sweeping",
        "_whole",
    )

    def __init__(
        self,
        workspace: Workspace,
        delivery: Delivery,
        room: Room,
        choosing: Choosing,
        committing: Committing,
        authorizer: Authorizer,
    ) -> None:
        # Clients whose last will is still in the store: it has very many receivers, or comes behind
        # a message that has.
        self.last_wills: Final[set[str]] = set()
        self._ws: Final = workspace
        self._committing: Final = committing
        self._delivery: Final = delivery
        self._room: Final = room
        self._choosing: Final = choosing
        self._authorizer: Final = authorizer
        self._refuses: Final = workspace.limits.queue_full_policy == REFUSE
        self._flush_at: Final = workspace.limits.turn_output_bytes
        self._sweeping: Final = Sweeping(workspace, committing)
        self._whole: FanOut | None = None  # of which the store has some parts, and may keep none

    # From a client

    def accept(self, channel: Channel, session: Session, packet: Publish) -> bool:
        """Take a PUBLISH; False when it must wait for a verdict first."""
        message = packet.message
        utf8 = message.topic.utf8
        is_allowed = True
        if not session.is_unrestricted:
            verdict = self._authorizer.check(
                channel, session, PUBLISH_ACTION, utf8, message.qos, message.retain
            )
            if verdict == ASK:
                self._note_arrival(message)
                return False
            is_allowed = verdict != DENY
        ws = self._ws
        ws.stats.publishes_received += 1
        if channel.layout != LAYOUT_3 and not self._is_served(channel, session, packet):
            return True
        if utf8[0] == 0x24 and (utf8 == b"$SYS" or utf8.startswith(b"$SYS/")):
            is_allowed = False  # read-only to clients
        if message.topic.route is None:
            self.check_levels(utf8, "topic name")
        if message.qos == 2 and not self._hold(channel, session, packet):
            return True
        if is_allowed:
            self._route(message, session, channel, packet)
        else:
            self._refuse(channel, packet)
        return True

    def _note_arrival(self, message: Message) -> None:
        """The time of a message that expires begins when it arrives (3.3.2.3.3)."""
        expiry_s = message.expiry_s
        if expiry_s >= 0 and not message.expires_at:
            message.expires_at = self._ws.wall + expiry_s

    def check_levels(self, utf8: bytes, name: str) -> None:
        """Raise `RemoteProtocolError` for a topic with more levels than are served."""
        limit = self._ws.limits.max_topic_levels
        if utf8.count(b"/") >= limit:
            raise RemoteProtocolError(
                f"{name} has more than {limit} levels", reason=TOPIC_NAME_INVALID
            )

    def _refuse(self, channel: Channel, packet: Publish) -> None:
        """Not authorized: acknowledged and dropped, or closed.

        [v3 MQTT-3.3.5-2] [MQTT-3.3.5-2]
        """
        self._ws.stats.dropped_unauthorized += 1
        if channel.layout != LAYOUT_3 and packet.message.qos:
            self._decline(channel, packet, NOT_AUTHORIZED)
        elif self._ws.limits.unauthorized_publish == ACKNOWLEDGE:
            self._committing.acknowledge(channel, packet)
        else:
            self._ws.doomed.append((channel, UNAUTHORIZED))

    def _is_served(self, channel: Channel, session: Session, packet: Publish) -> bool:
        """What only a client of MQTT 5.0 can be told; False when the message goes no further.

        That it keeps to the QoS and RETAIN announced to it is its connection's matter.
        """
        message = packet.message
        ws = self._ws
        limits = ws.limits
        qos = message.qos
        self._note_arrival(message)
        if qos:
            flow = session.flow
            held = None if flow is None else flow.held
            if qos == 1 or held is None or packet.packet_id not in held:
                if channel.unanswered >= limits.receive_maximum:
                    raise RemoteProtocolError(  # [P5-3.3.4-5]
                        f"more than {limits.receive_maximum} messages are unacknowledged",
                        "P5-3.3.4-5",
                        reason=RECEIVE_MAXIMUM_EXCEEDED,
                    )
                channel.unanswered += 1
        if limits.validate_payload_format and not is_text_if_said_so(
            message.properties, message.payload
        ):
            ws.stats.dropped_malformed += 1
            if not qos:
                raise RemoteProtocolError(
                    "the payload is not UTF-8", "P5-3.3.2-1", reason=PAYLOAD_FORMAT_INVALID
                )
            self._decline(channel, packet, PAYLOAD_FORMAT_INVALID)
            return False
        return True

    def _decline(self, channel: Channel, packet: Publish, reason: int) -> None:
        """Acknowledge with a reason why the message is for nobody; its exchange is over."""
        session = channel.session
        if packet.message.qos == 2:
            channel.exchange_ended()
            if session is not None and session.flow is not None:
                if session.flow.release(packet.packet_id):
                    self._ws.held_identifiers -= 1
        self._committing.acknowledge(channel, packet, reason)

    def _hold(self, channel: Channel, session: Session, packet: Publish) -> bool:
        """Note a QoS 2 identifier; False for a repeat, which is only acknowledged again.

        [v3 MQTT-4.3.3-2]
        """
        flow = self._ws.flow_of(session)
        packet_id = packet.packet_id
        held = flow.held
        if held is None or packet_id not in held:
            limits = self._ws.limits
            count = flow.held_count
            is_over = self._ws.held_identifiers >= limits.total_held_identifiers
            if count >= limits.max_held_identifiers or (is_over and count >= _HELD_ANYWAY):
                raise RemoteProtocolError(
                    "too many QoS 2 messages without PUBREL", reason=RECEIVE_MAXIMUM_EXCEEDED
                )
            flow.hold(packet_id)
            self._ws.held_identifiers += 1
            return True
        unstored = session.unstored
        commitment = None if unstored is None else unstored.get(packet_id)
        if commitment is None:
            self._committing.acknowledge(channel, packet)
        else:
            self._committing.repeat(commitment, channel, packet)
        return False

    def _route(
        self,
        message: Message,
        publisher: Session | None,
        channel: Channel | None,
        packet: Publish | None,
        stored_will: SaveWill | None = None,
    ) -> None:
        """Deliver now, or make it a piece of work when it is too wide for this turn.

        `stored_will` takes the will out of the store that the message is.
        """
        ws = self._ws
        if message.retain:
            ws.note_retained_change(message.topic.utf8)
        found = ws.router.route(message.topic).found
        ws.allowance -= ws.router.take_cost() // _VISITS_PER_DELIVERY
        count = len(found)
        width = 0
        for subscribers in found:
            width += subscribers.count
        if width:
            if self._refuses and self._is_refused(message, found):
                self._quota(channel, packet)
                if stored_will is not None:
                    ws.record(stored_will)
                return
            ws.allowance -= width
            if width > _NARROW:
                if ws.allowance < 0 or ws.unflushed > self._flush_at:
                    begun = self._committing.begin(message, channel, packet)
                    others = self._others(message, publisher, packet, stored_will)
                    is_whole = stored_will is not None or bool(_holds(publisher, packet))
                    fan_out = FanOut(
                        self, message, found, publisher, channel, packet, begun, others, is_whole
                    )
                    if stored_will is not None:
                        fan_out.stored_will = stored_will
                        self.last_wills.add(stored_will.client_id)
                    self._fan_out(fan_out)
                    return
                ws.is_bulk = True
            if ws.router.optioned:  # else nobody asks
                self._delivery.publisher = publisher
                self._delivery.found = found
            if count == 1:
                self._deliver_one(found[0], message)
            else:
                self._deliver_overlapping(found, message)
            ws.is_bulk = False
        resting = self._delivery.resting
        reason = SUCCESS
        if not width and channel is not None and channel.layout != LAYOUT_3:
            reason = NO_MATCHING_SUBSCRIBERS
        is_held = message.qos == 2 and publisher is not None and publisher.key != 0
        if resting is None and not message.retain and not is_held and stored_will is None:
            if message.qos and channel is not None and packet is not None:
                self._committing.acknowledge(channel, packet, reason)
            return
        self._delivery.resting = None
        begun = self._committing.begin(message, channel, packet, reason)
        others = self._others(message, publisher, packet, stored_will)
        self._committing.add(begun, resting, others)
        self._committing.complete(begun, packet)

    def _deliver_one(self, subscribers: Subscribers, message: Message) -> None:
        """Deliver to the subscriptions of one filter."""
        delivery = self._delivery
        for qos in (2, 1, 0):
            part = subscribers.at_qos(qos)
            if part is not None:
                delivery.to_subscribers(part, 0, len(part), message, qos, None)
        if subscribers.groups is not None:
            self._to_groups(subscribers.groups, message)

    def _deliver_overlapping(self, found: list[Subscribers], message: Message) -> None:
        """Deliver to the subscriptions of several filters, the highest QoS first."""
        delivery = self._delivery
        seen: set[int] = set()
        for qos in (2, 1, 0):
            for subscribers in found:
                part = subscribers.at_qos(qos)
                if part is not None:
                    delivery.to_subscribers(part, 0, len(part), message, qos, seen)
        for subscribers in found:
            if subscribers.groups is not None:
                self._to_groups(subscribers.groups, message)

    def _to_groups(self, groups: dict[bytes, Group], message: Message) -> None:
        """Once to each group that shares a filter, whatever its members get besides (4.8.2)."""
        for group in groups.values():
            self._delivery.to_group(group, message)

    def _is_refused(self, message: Message, found: list[Subscribers]) -> bool:
        """Whether any receiver's queue is full, so that the message is for nobody."""
        if message.qos == 0:
            return False
        for subscribers in found:
            for qos in (1, 2):
                part = subscribers.at_qos(qos)
                if part is not None:
                    for subscriber in part:
                        if self._room.would_refuse(subscriber.session, message):
                            return True
            if subscribers.groups is not None:
                for group in subscribers.groups.values():
                    if self._choosing.would_refuse(group, message):
                        return True
        return False

    def _quota(self, channel: Channel | None, packet: Publish | None) -> None:
        self._ws.stats.refused_queue_full += 1
        if channel is None or packet is None:
            return
        if channel.layout != LAYOUT_3:
            self._decline(channel, packet, QUOTA_EXCEEDED)
            return
        self._ws.doomed.append((channel, QUOTA))
        session = channel.session
        if session is not None and session.flow is not None:
            # Nobody has it: a repeat is a new message.
            if session.flow.release(packet.packet_id):
                self._ws.held_identifiers -= 1

    # Wide fan-outs

    def _fan_out(self, fan_out: FanOut) -> None:
        channel = fan_out.channel
        if channel is not None:
            channel.fan_out = fan_out
            channel.wait = WAIT_FAN_OUT
        self._ws.queue_work(fan_out)

    def go_on(self, fan_out: FanOut) -> bool:
        """One turn of a wide fan-out; True when it is done."""
        ws = self._ws
        if ws.unflushed > self._flush_at:
            return False
        whole = self._whole
        if fan_out.is_whole and whole is not None and whole is not fan_out:
            return False  # one at a time
        ws.is_bulk = True
        is_done = fan_out.deliver_some(self._delivery, ws.allowance)
        ws.is_bulk = False
        resting = self._delivery.resting
        self._delivery.resting = None
        others = fan_out.others
        fan_out.others = []
        self._committing.add(fan_out.begun, resting, others, self._part(fan_out, is_done))
        self._let_go_will(fan_out)
        if not is_done:
            return False
        self._committing.complete(fan_out.begun, fan_out.packet)
        channel = fan_out.channel
        if channel is not None:
            channel.fan_out = None
            if channel.wait == WAIT_FAN_OUT:
                channel.wait = WAIT_NO
            ws.pause_if_behind(channel)
            if channel.wait == WAIT_NO:
                ws.queue_work(channel)
        self._publish_next(fan_out)
        return True

    def _let_go_will(self, fan_out: FanOut) -> None:
        if fan_out.stored_will is not None:
            self.last_wills.discard(fan_out.stored_will.client_id)
            fan_out.stored_will = None

    def _part(self, fan_out: FanOut, is_done: bool) -> int:
        """Which part of a change in the store a turn makes.  [MQTT-4.3.3-10]"""
        if not fan_out.is_whole:
            return WHOLE
        is_open = self._whole is fan_out
        if is_done:
            self._whole = None
            return LAST if is_open else WHOLE
        self._whole = fan_out
        return MORE if is_open else FIRST

    def give_up(self, fan_out: FanOut) -> None:
        """A fan-out has failed: what it has led to so far is stored, and what was to come behind it
        comes all the same. Its publisher is to send it again, as a new one."""
        if self._whole is fan_out:
            self._whole = None
            others: list[Operation] = []
            session = fan_out.publisher
            if session is not None and fan_out.packet is not None:
                others.append(ReleaseIdentifier(session.key, fan_out.packet.packet_id))
            self._committing.add(fan_out.begun, None, others, LAST)
        self._committing.give_up(fan_out.begun)
        self._let_go_will(fan_out)
        self._publish_next(fan_out)

    def publish_will_behind(
        self, fan_out: FanOut, will: Will, session: Session, stored_will: SaveWill | None
    ) -> None:
        """Publish a will when its client's last message has got to everybody."""
        fan_out.then = will
        fan_out.then_stored = stored_will
        self.last_wills.add(session.client_id)

    def _publish_next(self, fan_out: FanOut) -> None:
        publisher = fan_out.publisher
        if fan_out.then is not None and publisher is not None:
            self.last_wills.discard(publisher.client_id)
            self.publish_will(fan_out.then, publisher, fan_out.then_stored)

    def _others(
        self,
        message: Message,
        publisher: Session | None,
        packet: Publish | None,
        stored_will: SaveWill | None,
    ) -> list[Operation]:
        """What a message changes in the store, beside the queues of its receivers."""
        others = _holds(publisher, packet)
        if message.retain and self._ws.limits.retain_available:
            if len(message.payload):
                others.append(PutRetained(message))
                if message.expires_at:
                    self._sweeping.note(message.expires_at)
            else:  # [v3 MQTT-3.3.1-10] [v3 MQTT-3.3.1-11]
                others.append(DeleteRetained(message.topic.utf8))
        if stored_will is not None:
            others.append(stored_will)
        return others

    # From the broker itself

    def begin_sweeping(self) -> None:
        """See to retained messages that were stored before, and expire."""
        self._sweeping.begin()

    def publish(self, message: Message) -> None:
        """Publish a message that no client sent."""
        self._route(message, None, None, None)

    def publish_will(
        self, will: Will, session: Session | None, stored_will: SaveWill | None
    ) -> None:
        """Publish a will as the message it describes. `stored_will` takes it out of the store
        together with what it leads to, None where the store does not have it.

        [v3 MQTT-3.1.2-10] [v3 MQTT-3.1.2-16] [v3 MQTT-3.1.2-17] [MQTT-3.1.2-10]
        """
        ws = self._ws
        utf8 = will.topic.encode()
        topic = ws.topics.find(utf8) or ws.topics.add(utf8)
        ws.stats.wills_published += 1
        travelling = tuple(pair for pair in will.properties if pair[0] != WILL_DELAY_INTERVAL)
        extras = make_extras(travelling) if travelling else None
        qos = min(will.qos, ws.limits.maximum_qos)
        message = Message(topic, will.payload, qos, will.retain, extras)
        self._note_arrival(message)
        self._route(message, session, None, None, stored_will)
