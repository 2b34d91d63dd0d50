"""From a message to the sessions it is for: sent, queued, or dropped and counted.

A receiver whose socket takes data and whose window has room gets the message at once, into the
output of its channel. For the others it waits in the session's queue, within the limits. The
messages of persistent sessions are also told to the storage engine: what rests on that is
gathered in a `Resting` for the publisher's side.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._message import Message
from mqtt_core._output import REFERENCE_BYTES
from mqtt_core._particulars import Particulars, make_particulars
from mqtt_core._store import (
    Append,
    Settle,
    Target,
)
from mqtt_core.broker._causes import QUEUE_FULL
from mqtt_core.broker._channel import LAYOUT_3, LAYOUT_5, Channel
from mqtt_core.broker._choosing import Choosing
from mqtt_core.broker._facts import FACT_WARNING
from mqtt_core.broker._limits import DISCONNECT, DROP_OLDEST
from mqtt_core.broker._queue import Queue
from mqtt_core.broker._room import Room
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import GatedSend, Session
from mqtt_core.broker._shared import Group, Member, call_back
from mqtt_core.broker._subscribers import Subscriber, Subscribers
from mqtt_core.broker._workspace import Workspace

_VISITS_PER_DELIVERY: Final = 4  # members looked at that take the time of one delivery


def _number(stored: tuple[Session, int, int, Particulars | None]) -> int:
    return stored[1]


@final
class Resting:
    """What one message has led to that must be stored: for whom, and what waits for that.

    It has one number for those that it is for by subscriptions of their own, each of which gets
    it once, and one for each group: to one session it may go as a member of several.
    """

    __slots__ = ("message", "appends", "stored", "gated", "_own")

    def __init__(self, message: Message) -> None:
        self.message: Final = message
        self.appends: Final[list[Append]] = []  # in the order of their numbers
        # Sessions whose queues it joins in the engine: by which number, at which QoS, with what.
        self.stored: Final[list[tuple[Session, int, int, Particulars | None]]] = []
        self.gated: Final[list[tuple[Session, int, GatedSend]]] = []
        self._own: Append | None = None

    def append(self, particulars: Particulars | None, workspace: Workspace) -> Append:
        """The change that a delivery is to be part of."""
        if particulars is not None and particulars.share:
            append = Append(workspace.next_number(), self.message, [])
            self.appends.append(append)
            return append
        own = self._own
        if own is None:
            own = Append(workspace.next_number(), self.message, [])
            self._own = own
            self.appends.append(own)
        return own

    def take_back(self, session: Session, number: int) -> bool:
        """A delivery has been dropped from its queue; False if it is of another message, which
        the store has been told of."""
        if not self.appends or number < self.appends[0].number:
            return False
        self.stored[:] = [
            entry for entry in self.stored if entry[1] != number or entry[0] is not session
        ]
        for append in self.appends:
            if append.number == number:
                append.targets[:] = [each for each in append.targets if each.session != session.key]
        return True

    def operations(self) -> list[Append]:
        """The changes to be stored; none when every queue was full."""
        return [append for append in self.appends if append.targets]


@final
class Delivery:
    """Delivers messages to sessions."""

    __slots__ = (
        "resting",
        "publisher",
        "found",
        "_filters",
        "_filters_of",
        "_ws",
        "_sending",
        "_room",
        "_choosing",
        "_budget",
    )

    def __init__(
        self, workspace: Workspace, sending: Sending, room: Room, choosing: Choosing
    ) -> None:
        self._ws: Final = workspace
        self._sending: Final = sending
        self._room: Final = room
        self._choosing: Final = choosing
        self._budget: Final = workspace.limits.output_budget_bytes
        # Of the message that is being delivered: what it has led to in the store, whose it is,
        # and the filters that match its topic.
        self.resting: Resting | None = None
        self.publisher: Session | None = None
        self.found: list[Subscribers] = []
        # The filters of that list, where they have been asked for.
        self._filters: set[bytes] = set()
        self._filters_of: list[Subscribers] | None = None

    # Many receivers

    def to_subscribers(
        self,
        subscribers: list[Subscriber],
        start: int,
        stop: int,
        message: Message,
        granted: int,
        seen: set[int] | None,
    ) -> None:
        """Deliver to a part of a list at min(published, granted) QoS.  [v3 MQTT-3.8.4-6]

        `seen` has the numbers of the sessions with several subscriptions that have got the
        message already: each gets one copy, at its highest QoS.  [v3 MQTT-3.3.5-1]
        """
        qos = granted if granted < message.qos else message.qos
        if qos == 0:
            self._to_all_at_qos_0(subscribers, start, stop, message, seen)
            return
        for at in range(start, stop):
            subscriber = subscribers[at]
            if subscriber.index < 0:
                continue  # unsubscribed while the fan-out was waiting  [v3 MQTT-3.10.4-2]
            session = subscriber.session
            if seen is not None and session.number in seen:
                continue
            particulars: Particulars | None = None
            if subscriber.options is not None or (seen is not None and session.optioned):
                if self._is_local(subscriber):
                    continue
                particulars = self._particulars(subscriber, message, seen is not None)
            if seen is not None and len(session.subscriptions) > 1:
                seen.add(session.number)
            self.deliver(session, message, qos, particulars)

    def _to_all_at_qos_0(
        self,
        subscribers: list[Subscriber],
        start: int,
        stop: int,
        message: Message,
        seen: set[int] | None,
    ) -> None:
        ws = self._ws
        budget = self._budget
        layout = -1
        packet = b""
        size = 0
        sent = 0
        written = 0
        for at in range(start, stop):
            subscriber = subscribers[at]
            if subscriber.index < 0:
                continue  # unsubscribed while the fan-out was waiting  [v3 MQTT-3.10.4-2]
            session = subscriber.session
            if seen is not None:
                if session.number in seen:
                    continue
                if len(session.subscriptions) > 1 and not session.optioned:
                    seen.add(session.number)
            channel = session.channel
            if subscriber.options is not None or (seen is not None and session.optioned):
                self._to_one_at_qos_0(subscriber, message, seen)
            elif channel is not None and channel.accepts:
                if channel.layout != layout:
                    layout = channel.layout
                    if layout == LAYOUT_3:
                        packet = message.packet()
                    elif layout == LAYOUT_5 and message.expiry_s < 0:
                        packet = message.packet5()
                    else:  # the message is not the same for all
                        layout = -1
                        self._send_or_defer_qos_0(session, channel, message, None)
                        continue
                    size = len(packet)
                output = channel.output
                writer = output.writer
                if writer is None:
                    writer = ws.open_output(channel)
                if size < REFERENCE_BYTES:
                    writer.write(packet)
                    if len(writer) >= budget:
                        self._sending.fill(channel)
                else:
                    output.write_reference(packet)
                    if output.size_bytes >= budget:
                        self._sending.fill(channel)
                sent += 1
                written += size
            else:
                self._defer_qos_0(session, channel, message, None)
        ws.stats.publishes_sent += sent
        ws.stats.packets_sent += sent
        ws.unflushed += written

    # Groups

    def to_group(self, group: Group, message: Message) -> None:
        """Deliver to one member of a group."""
        choosing = self._choosing
        visits = choosing.visits
        member = choosing.choose(group, message)
        self._ws.allowance -= (choosing.visits - visits) // _VISITS_PER_DELIVERY
        if member is not None:
            self.to_member(member, message)

    def to_member(self, member: Member, message: Message) -> None:
        """Deliver to a member, at its own QoS.  [MQTT-4.8.2-3]"""
        session = member.session
        qos = member.qos if member.qos < message.qos else message.qos
        particulars = member.particulars(message)
        if qos:
            self.deliver(session, message, qos, particulars)
        else:
            self._send_or_defer_qos_0(session, session.channel, message, particulars)

    # Options of subscriptions

    def _is_local(self, subscriber: Subscriber) -> bool:
        """Whether the message is the subscriber's own, which it does not want.

        [MQTT-3.8.3-3]
        """
        options = subscriber.options
        publisher = self.publisher
        return (
            options is not None
            and options.no_local
            and publisher is not None
            and publisher.client_id == subscriber.session.client_id
        )

    def _particulars(
        self, subscriber: Subscriber, message: Message, is_overlapping: bool
    ) -> Particulars | None:
        """RETAIN as published, and the identifiers of all subscriptions of the session that
        match, since each session gets one copy.  [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5]
        """
        matching = [subscriber]
        if is_overlapping and len(subscriber.session.subscriptions) > 1:
            matching = self._matching(subscriber.session)
        retain = False
        identifiers: list[int] = []
        for each in matching:
            options = each.options
            if options is not None:
                retain = retain or options.retain_as_published
                if options.identifier:
                    identifiers.append(options.identifier)
        # [MQTT-3.3.1-12] [MQTT-3.3.1-13]
        return make_particulars(retain and message.retain, tuple(identifiers))

    def _matching(self, session: Session) -> list[Subscriber]:
        """The subscriptions of a session of its own that match and want the message. It takes no
        longer than the session has subscriptions, however many others match."""
        own = session.subscriptions
        found = self.found
        matching: list[Subscriber] = []
        if len(found) <= len(own):
            for subscribers in found:
                subscriber = own.get(subscribers.topic_filter)
                if subscriber is not None and not self._is_local(subscriber):
                    matching.append(subscriber)
            return matching
        if self._filters_of is not found:
            self._filters_of = found
            self._filters = {subscribers.topic_filter for subscribers in found}
        filters = self._filters
        for topic_filter, subscriber in own.items():
            if topic_filter in filters and not self._is_local(subscriber):
                matching.append(subscriber)
        return matching

    def _to_one_at_qos_0(
        self, subscriber: Subscriber, message: Message, seen: set[int] | None
    ) -> None:
        """A QoS 0 message for a session whose subscriptions have options."""
        if self._is_local(subscriber):
            return
        session = subscriber.session
        if seen is not None:
            seen.add(session.number)
        particulars = self._particulars(subscriber, message, seen is not None)
        self._send_or_defer_qos_0(session, session.channel, message, particulars)

    def _send_or_defer_qos_0(
        self,
        session: Session,
        channel: Channel | None,
        message: Message,
        particulars: Particulars | None,
    ) -> None:
        if channel is None or not channel.accepts:
            self._defer_qos_0(session, channel, message, particulars)
        elif not self._sending.is_too_large(channel, message, 0, particulars):
            self._sending.send_qos_0(channel, message, particulars)

    # One receiver

    def deliver(
        self, session: Session, message: Message, qos: int, particulars: Particulars | None
    ) -> None:
        """Send a message at QoS 1 or 2 to a session, or let it wait there."""
        channel = session.channel
        if channel is not None and channel.max_packet_bytes:
            if self._sending.is_too_large(channel, message, qos, particulars):
                return
        if session.key:
            self._deliver_stored(session, message, qos, particulars)
            return
        if channel is None:
            return  # the session has ended with its connection
        if session.goes_direct:
            self._sending.send(session, channel, message, qos, particulars)
        else:
            self._enqueue(session, message, qos, particulars)

    def _rest(self, message: Message) -> Resting:
        resting = self.resting
        if resting is None:
            resting = Resting(message)
            self.resting = resting
        return resting

    def _deliver_stored(
        self, session: Session, message: Message, qos: int, particulars: Particulars | None
    ) -> None:
        if session.is_ended:
            return
        channel = session.channel
        resting = self._rest(message)
        append = resting.append(particulars, self._ws)
        if channel is not None and session.goes_direct:
            flow = self._ws.flow_of(session)
            sending = self._sending
            packet_id = sending.begin(session, flow, message, qos, append.number, particulars)
            append.targets.append(Target(session.key, qos, packet_id, particulars))
            if qos == 1 and (particulars is None or particulars.is_plain):
                sending.write(channel, message, qos, packet_id)
            elif qos == 1:
                sending.write_own(channel, message, qos, packet_id, False, particulars)
            else:
                gated = self._sending.gate(session, packet_id)
                resting.gated.append((session, append.number, gated))
            return
        if self._make_room(session, self._ws.queue_of(session), message, resting):
            self._wait_stored(resting, append, session, qos, particulars)

    def _wait_stored(
        self,
        resting: Resting,
        append: Append,
        session: Session,
        qos: int,
        particulars: Particulars | None,
    ) -> None:
        message = resting.message
        self._ws.queue_of(session).add_message_stored(append.number, message)
        append.targets.append(Target(session.key, qos, 0, particulars))
        resting.stored.append((session, append.number, qos, particulars))

    # Waiting

    def _defer_qos_0(
        self,
        session: Session,
        channel: Channel | None,
        message: Message,
        particulars: Particulars | None,
    ) -> None:
        """A QoS 0 message for a socket that is full, or for a client that is away."""
        ws = self._ws
        if session.is_ended:
            return
        if channel is None and not (session.key and ws.limits.queue_qos0_offline):
            ws.stats.dropped_qos_0_offline += 1
            return
        queue = self._ws.queue_of(session)
        if self._room.fits_qos_0(session, queue, message):
            queue.add(ws.next_number(), 0, message, particulars)
        else:
            ws.stats.dropped_qos_0 += 1
            self._note_drop(session)

    def _enqueue(
        self, session: Session, message: Message, qos: int, particulars: Particulars | None
    ) -> None:
        queue = self._ws.queue_of(session)
        if self._make_room(session, queue, message, None):
            queue.add(self._ws.next_number(), qos, message, particulars)

    def _make_room(
        self, session: Session, queue: Queue, message: Message, resting: Resting | None
    ) -> bool:
        """Apply the policy of a full queue; False when the message is dropped."""
        ws = self._ws
        if self._room.fits(session, queue, message):
            return True
        self._room.drop_expired(session, queue)
        while not self._drop_qos_0(session, queue, message):
            ws.stats.dropped_queue_full += 1
            self._note_drop(session)
            policy = ws.limits.queue_full_policy
            if policy == DROP_OLDEST and self._helps_to_drop(queue, message):
                number = queue.drop_oldest()
                if session.key and (resting is None or not resting.take_back(session, number)):
                    ws.record(Settle(session.key, number))
                continue
            channel = session.channel
            if policy == DISCONNECT and channel is not None:
                ws.doomed.append((channel, QUEUE_FULL))
            return False
        return True

    def _drop_qos_0(self, session: Session, queue: Queue, message: Message) -> bool:
        """What waits at QoS 0 makes room for a message; False if that is not enough."""
        ws = self._ws
        while not self._room.fits(session, queue, message):
            if not queue.has_qos_0:
                return False
            queue.pop_qos_0()
            ws.stats.dropped_qos_0 += 1
            self._note_drop(session)
        return True

    def _helps_to_drop(self, queue: Queue, message: Message) -> bool:
        """Whether the queue's own limits are what is in the way, and can be met."""
        limits = self._ws.limits
        size = message.size_bytes
        if not queue.has_waiting or size > limits.max_queued_bytes:
            return False
        return (
            queue.count >= limits.max_queued_messages
            or queue.size_bytes + size > limits.max_queued_bytes
        )

    def _note_drop(self, session: Session) -> None:
        """One fact for each client and episode, not one for each message."""
        session.dropping += 1
        if session.dropping == 1:
            self._ws.tell(
                "queue.dropping",
                session.channel,
                severity=FACT_WARNING,
                client_id=session.client_id,
                detail="messages are dropped: the client is slower than what it subscribed to; "
                "see max_queued_messages and max_queued_bytes",
            )

    def _note_recovery(self, session: Session) -> None:
        self._ws.tell(
            "queue.recovered",
            session.channel,
            client_id=session.client_id,
            detail=f"{session.dropping} messages were dropped",
        )
        session.dropping = 0

    def pump(self, session: Session, channel: Channel) -> None:
        """Send what waits, as far as the socket and the window allow."""
        queue = session.queue
        if queue is None:
            return
        flow = session.flow
        while channel.has_room and queue.count:
            has_room = flow is None or flow.room(session.reserved) > 0
            if queue.has_loaded and has_room and not queue.next_is_qos_0():
                entry = queue.pop_loaded()
                if self._sending.passes_over(channel, entry.message, entry.qos, entry.particulars):
                    if session.key:
                        self._ws.record(Settle(session.key, entry.number))
                    continue
                self._sending.send_queued(session, channel, entry)
                flow = session.flow
            elif queue.has_qos_0:
                entry = queue.pop_qos_0()
                if not self._sending.passes_over(channel, entry.message, 0, entry.particulars):
                    self._sending.send_qos_0(channel, entry.message, entry.particulars)
            else:
                break
        channel.accepts = channel.has_room and not queue.has_qos_0
        if session.dropping and not queue.count:
            self._note_recovery(session)

    def not_stored(self, resting: Resting) -> None:
        """What a message has led to is refused by the store: take it back."""
        for session, number, gated in resting.gated:
            particulars = session.particulars_of(gated.packet_id)
            self._sending.take_back(session, gated)
            resting.stored.append((session, number, 2, particulars))
        resting.gated.clear()
        for session, number, _, _ in resting.stored:
            self.forget_stored(session, number)

    def forget_stored(self, session: Session, number: int) -> None:
        """A message that was to wait in the engine is not there."""
        queue = session.queue
        if queue is not None and queue.forget_stored(number) and session.aside is not None:
            call_back(session)

    def again(self, message: Message, failed: list[Resting]) -> Resting:
        """Once more, for those that have not got the message: it goes to their queues."""
        resting = Resting(message)
        missed = [entry for each in failed for entry in each.stored]
        for session, _, qos, particulars in sorted(missed, key=_number):
            if session.is_ended:
                self._to_another(resting, particulars)
            elif self._make_room(session, self._ws.queue_of(session), message, resting):
                append = resting.append(particulars, self._ws)
                self._wait_stored(resting, append, session, qos, particulars)
        return resting

    def _to_another(self, resting: Resting, particulars: Particulars | None) -> None:
        """The session that was to get the message has ended without it. If it was one of a
        group, another member gets it."""
        ws = self._ws
        if particulars is None or not particulars.share or not ws.limits.shared_redelivery:
            return
        message = resting.message
        group = ws.router.group(particulars.share)
        member = None if group is None else self._choosing.choose(group, message)
        if member is None:
            ws.stats.dropped_session_ended += 1
            return
        session = member.session
        qos = member.qos if member.qos < message.qos else message.qos
        if not session.key or not qos:
            self.to_member(member, message)
        elif self._make_room(session, self._ws.queue_of(session), message, resting):
            theirs = member.particulars(message)
            append = resting.append(theirs, ws)
            self._wait_stored(resting, append, session, qos, theirs)

    def wait_stored(self, member: Member, message: Message, number: int) -> Target:
        """Let a message wait in the engine for a member that is persistent and has room, by this
        number."""
        session = member.session
        qos = member.qos if member.qos < message.qos else message.qos
        queue = self._ws.queue_of(session)
        self._drop_qos_0(session, queue, message)
        queue.add_message_stored(number, message)
        return Target(session.key, qos, 0, member.particulars(message))

    def drop_all(self, session: Session) -> int:
        """Forget what waits for a session that ends; returns how many messages that were."""
        queue = session.queue
        session.queue = None
        return 0 if queue is None else queue.forget_all()
