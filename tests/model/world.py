"""What a broker promises, as plain as it can be said.

The world knows which messages were sent and which sessions there are, and decides for each what
must reach whom, what may, and what may not. It knows nothing of windows, queues, sockets and
stores; where these leave a choice, the world allows every outcome. What groups share is in
`shared`, and wills that wait for their time are in `wills`.
"""

from __future__ import annotations

from tests.model.messages import Copy, Route, Sent, matches
from tests.model.sessions import (
    ONLY_IF_NEW,
    OWN,
    RETAINED,
    SEND,
    Session,
    Subscribed,
    Wanted,
    unshared,
)
from tests.model.shared import Groups
from tests.model.wills import Wills

_CLOCK_NOISE_S = 0.002
"""By how much a broker may be early with a second that is over."""


class World:
    """All messages and sessions.

    `is_reliable` says that the store never refuses; `has_room` that no queue is ever full, and
    `takes_all` that no message is refused because one is; `redelivers` that what was shared with a
    session goes to another when it ends, and `has_no_room` that the store may be full.
    """

    def __init__(
        self,
        *,
        is_reliable: bool,
        has_room: bool,
        takes_all: bool,
        redelivers: bool,
        has_no_room: bool = False,
    ) -> None:
        self.is_reliable = is_reliable
        self.has_room = has_room
        self.redelivers = redelivers
        self.takes_all = takes_all
        self.has_no_room = has_no_room
        self.step = 0
        self.now = 0.0
        self.messages: list[Sent] = []
        self.sessions: dict[str, Session] = {}
        self.ended: list[Session] = []
        self.expiring: list[Sent] = []
        """Messages that have been sent and not expired yet, of those that will."""
        self.retained: dict[str, list[Sent | None]] = {}
        """By topic: what may be retained now, oldest first; None for nothing yet."""
        self.was_retained: set[int] = set()
        self.cleans: dict[str, int] = {}
        """By client: key of the channel on which the newest clean CONNECT was sent."""
        self.groups = Groups(self)
        self.wills = Wills(self)

    # Time

    def pass_time(self, now: float) -> None:
        """Wills whose time has come are published, and what has expired is owed to nobody."""
        self.wills.pass_time(now)
        self.now = now
        expired = [each for each in self.expiring if each.expires_first <= now]
        for message in expired:
            self.expiring.remove(message)
            message.groups.clear()
            for session in self.sessions.values():
                session.forget(message)

    # Messages

    def new_message(
        self,
        client_id: str,
        topic: str,
        qos: int,
        retain: bool,
        *,
        size: int = 0,
        expiry_s: int | None = None,
        source: str = "",
    ) -> Sent:
        """A message with the next number; size -1 makes it one that deletes."""
        number = len(self.messages)
        payload = b"" if size < 0 else b"%d:" % number + b"x" * size
        message = Sent(
            number,
            client_id,
            source or client_id,
            topic,
            payload,
            qos,
            retain,
            self.step,
            expiry_s,
            may_be_refused=self.has_no_room,
        )
        self.messages.append(message)
        return message

    def sent(self, message: Sent) -> None:
        """The broker has been given a message, at this step."""
        message.step = self.step
        self._arrives(message)
        for session in self.sessions.values():
            route = session.route(message)
            if route is not None:
                message.routes.append(route)
        self.groups.sent(message)
        if message.retain:
            self._retained_changes(message)

    def sent_again(self, message: Sent) -> None:
        """A message has been repeated after a reconnect."""
        message.sends += 1
        self._arrives(message)
        if message.retain:
            self._retained_changes(message)

    def _arrives(self, message: Sent) -> None:
        message.arrivals.append(self.now)
        if message.expiry_s is not None and message not in self.expiring:
            self.expiring.append(message)

    def _retained_changes(self, message: Sent) -> None:
        self.retained.setdefault(message.topic, [None]).append(message)
        if message.payload:
            self.was_retained.add(message.number)
        for session in self.sessions.values():
            session.forget_retained(message.topic)

    def accepted(self, message: Sent) -> None:
        """The broker has taken a message over: from now on it is owed to those it was for."""
        message.is_accepted = True
        if message.retain:
            self.retain_settled(message)
        if not message.qos or not message.payload or message.expires_first <= self.now:
            message.groups.clear()
            return
        self.groups.accepted(message)
        for route in message.routes:
            session = route.session
            is_over = self.sessions.get(session.client_id) is not session
            if is_over or (message.number, OWN) in session.got:
                continue
            if message.number in session.may_have:
                continue
            if message.size_bytes > session.largest_bytes:
                continue
            if route.is_certain:
                if route.qos:
                    session.owed[message.number] = route
            elif session.has_asked_since(message):
                session.owed[message.number] = None

    def nobody_wants(self, message: Sent) -> None:
        """The broker says that no subscription matches a message."""
        for route in message.routes:
            is_there = self.sessions.get(route.session.client_id) is route.session
            is_doubtful = self.is_doubtful(route.session)
            assert not (is_there and route.is_certain) or is_doubtful, f"{route} is forgotten"

    def retain_settled(self, message: Sent) -> None:
        """The retained message of a topic is this one, or one that was sent behind it."""
        values = self.retained[message.topic]
        if message not in values or (message.qos == 2 and message.sends > 1):
            return  # a repeat at QoS 2 changes nothing if the first had come
        del values[: len(values) - 1 - values[::-1].index(message)]

    def retained_now(self, topic: str) -> set[bytes]:
        """What may be retained for a topic: payloads, and b"" for nothing."""
        found = set()
        for each in self.retained.get(topic, [None]):
            if each is None or each.expires_first <= self.now:
                found.add(b"")
            if each is not None and (each.expires_last > self.now or each.is_vague):
                found.add(each.payload)
        return found

    # Sessions

    def is_doubtful(self, session: Session) -> bool:
        """Whether a clean CONNECT was sent for it whose fate is not known: it may be gone."""
        return self.cleans.get(session.client_id, 0) > session.last_connection

    def clean_connect(self, client_id: str, key: int) -> None:
        """A clean CONNECT has been sent on a channel: it ends the session, now or never."""
        self.cleans[client_id] = key
        known = self.sessions.get(client_id)
        if known is not None:
            self.groups.may_lose(known)
            self.wills.may_be_published(client_id)

    def connected(
        self, client_id: str, key: int, clean: bool, resumed: bool, expiry_s: int
    ) -> tuple[Session, bool]:
        """A CONNECT has been accepted: its session, and whether it was there before.

        `resumed` is what the broker says, which decides only where either is right.
        """
        known = self.sessions.get(client_id)
        is_lost = known is not None and self.is_doubtful(known) and not resumed
        if known is not None and (clean or is_lost):
            self.end(known)
            known = None
        is_present = known is not None
        if known is None:
            known = Session(client_id, expiry_s)
            self.sessions[client_id] = known
        self.wills.cancel(client_id)
        known.expiry_s = expiry_s
        known.connection = key
        known.last_connection = key
        known.pending.clear()
        return known, is_present

    def takes(self, session: Session, packet_bytes: int) -> None:
        """A client has said how large packets may be: what may be larger need not come."""
        session.largest_bytes = min(session.largest_bytes, packet_bytes)
        numbers = [*session.owed, *(number for number, _ in session.owed_retained.values())]
        for message in [self.messages[number] for number in numbers]:
            if message.size_bytes > packet_bytes:
                session.forget(message)
        self.groups.takes(session, packet_bytes)

    def disconnected(self, key: int, now: float, expiry_s: int | None) -> Session | None:
        """A connection is over, and with it a session that is not kept. `expiry_s` is what
        DISCONNECT has said of that."""
        for session in list(self.sessions.values()):
            if session.connection == key:
                if expiry_s is not None:
                    session.expiry_s = expiry_s
                session.connection = 0
                session.detached_at = now
                session.detached_step = self.step
                session.hoped.clear()
                for topic, (_, qos) in list(session.owed_retained.items()):
                    if qos == 0:
                        del session.owed_retained[topic]
                if not session.expiry_s:
                    self.end(session)
                return session
        return None

    def end(self, session: Session) -> None:
        """A session is over, and nothing is owed to it any more."""
        session.owed.clear()
        session.owed_retained.clear()
        self.ended.append(session)
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
            self.groups.may_lose(session)
            self.wills.session_ends(session.client_id)  # [MQTT-3.1.2-8]

    # Subscriptions

    def asks(self, session: Session, wanted: Wanted) -> None:
        """SUBSCRIBE has been sent for a filter."""
        topic_filter = wanted.topic_filter
        session.version += 1
        session.unanswered += 1
        session.pending.setdefault(topic_filter, []).append(wanted)
        is_there = topic_filter in session.filters
        if is_there:
            known = session.filters[topic_filter]
            known.qos = min(known.qos, wanted.qos)  # the lesser until it is known which counts
            if wanted.no_local:
                known.wanted = wanted
        session.ever.append(wanted)
        self.groups.asks(wanted)
        if self._surely_sends_retained(session, wanted):
            self._hope(session, wanted)
        session.uncertain.add(topic_filter)

    def _surely_sends_retained(self, session: Session, wanted: Wanted) -> bool:
        """Whether a SUBSCRIBE brings retained messages.  [MQTT-3.3.1-9] [MQTT-3.3.1-10]"""
        if wanted.is_shared:
            return False
        is_new = not session.may_be_there(wanted.topic_filter)
        return wanted.retain_handling == SEND or (wanted.retain_handling == ONLY_IF_NEW and is_new)

    def _hope(self, session: Session, wanted: Wanted) -> None:
        for topic, values in self.retained.items():
            message = values[-1]
            if len(values) != 1 or message is None or not message.payload or message.is_vague:
                continue
            if message.expires_first <= self.now or message.size_bytes > session.largest_bytes:
                continue
            if matches(wanted.topic_filter, topic):
                qos = min(wanted.qos, message.qos)
                session.hoped[wanted.topic_filter, topic] = (message.number, qos)

    def subscribed(self, session: Session, wanted: Wanted) -> None:
        """SUBACK has come for a filter."""
        topic_filter = wanted.topic_filter
        session.version += 1
        session.unanswered -= 1
        del session.pending[topic_filter][0]
        known = session.filters.get(topic_filter)
        since = self.step
        if known is not None and known.qos and not wanted.no_local:
            since = known.since
        certain = session.certain(wanted)
        if certain >= 0:
            session.filters[topic_filter] = Subscribed(wanted, certain, since)
        for name, topic in list(session.hoped):
            if name == topic_filter:
                session.owed_retained[topic] = session.hoped.pop((name, topic))

    def subscription_refused(self, session: Session, wanted: Wanted) -> None:
        """SUBACK has come, and says that there is no room: what was there before may be there."""
        topic_filter = wanted.topic_filter
        session.version += 1
        session.unanswered -= 1
        del session.pending[topic_filter][0]
        session.was_refused = True
        session.filters.pop(topic_filter, None)
        self.groups.leaves(topic_filter)
        for key in [key for key in session.hoped if key[0] == topic_filter]:
            del session.hoped[key]

    def unsubscribes(self, session: Session, topic_filter: str) -> None:
        """UNSUBSCRIBE has been sent for a filter."""
        session.version += 1
        session.unanswered += 1
        session.pending.setdefault(topic_filter, []).append(None)
        session.filters.pop(topic_filter, None)
        session.uncertain.add(topic_filter)
        self.groups.leaves(topic_filter)
        for topic in list(session.owed_retained):
            if matches(unshared(topic_filter), topic):
                del session.owed_retained[topic]
        for key in [key for key in session.hoped if matches(unshared(topic_filter), key[1])]:
            del session.hoped[key]

    def unsubscribed(self, session: Session, topic_filter: str) -> None:
        """UNSUBACK has come for a filter, and before it every SUBACK of that filter."""
        session.version += 1
        session.unanswered -= 1
        del session.pending[topic_filter][0]
        session.filters.pop(topic_filter, None)
        if not session.pending[topic_filter]:
            session.uncertain.discard(topic_filter)

    # What comes

    def received(
        self, session: Session, copy: Copy, *, is_repeat: bool, written_after: float
    ) -> None:
        """A PUBLISH has come; `is_repeat` one of a QoS 2 identifier that is held already.

        It was written to the client's socket no earlier than `written_after`.
        """
        if not copy.payload:
            keeps = any(
                each.retain_as_published and matches(unshared(each.topic_filter), copy.topic)
                for each in session.ever
            )
            assert not copy.retain or keeps, "a retained message without payload"
            return
        message = self._known(copy)
        self._check_expiry(copy, message, written_after)
        origins = session.origins(copy, message)
        assert origins, f"{session.client_id} has no subscription that {copy} comes from"
        most_qos = max(session.most_qos(message, origin) for origin in origins)
        assert copy.qos <= most_qos, f"{copy} is above the QoS granted"
        if len(origins) > 1:
            self._received_from_any(session, copy, message, origins)
        elif origins == [RETAINED]:
            self._received_retained(session, copy, message)
        elif origins == [OWN]:
            self._received_own(session, copy, message, is_repeat)
        else:
            self.groups.received(session, copy, message, origins[0], is_repeat)

    def declined(self, session: Session, copy: Copy) -> None:
        """A client has declined a message: nobody owes it that any more.  [MQTT-4.8.2-6]"""
        if copy.payload:
            message = self._known(copy)
            session.declined.add(message.number)
            for origin in session.origins(copy, message):
                message.groups.discard(origin)
                if origin == OWN:
                    session.may_have.add(message.number)
                    session.owed.pop(message.number, None)

    def _known(self, copy: Copy) -> Sent:
        message = self.messages[int(copy.payload.split(b":", 1)[0])]
        assert copy.topic == message.topic
        assert copy.payload == message.payload
        return message

    def _check_expiry(self, copy: Copy, message: Sent, written_after: float) -> None:
        """Nothing that has expired is sent for the first time, and what is left of its interval
        is right.  [MQTT-3.3.2-5] [MQTT-3.3.2-6]"""
        if message.expiry_s is None or message.is_vague:
            assert copy.expiry_s is None or message.is_vague
            return
        assert copy.dup or written_after < message.expires_last, f"{copy} has expired"
        if copy.level != 5:
            return
        assert copy.expiry_s is not None, f"{copy} has lost its expiry"
        allowed = [
            max(0, message.expiry_s - int(at - arrived)) - copy.expiry_s
            for arrived in message.arrivals
            for at in (self.now + _CLOCK_NOISE_S, written_after)
        ]
        assert min(allowed) <= 0 <= max(allowed), f"{copy} was sent at {message.arrivals}"

    def _received_from_any(
        self, session: Session, copy: Copy, message: Sent, origins: list[str]
    ) -> None:
        """Nothing shows where a copy comes from: it may be any that is owed, and is one of all
        there may be."""
        for origin in origins:
            if origin == OWN:
                session.may_have.add(message.number)
                session.owed.pop(message.number, None)
            elif origin == RETAINED:
                if self.retained[message.topic][-1] is message:
                    session.forget_retained(message.topic)
            else:
                message.groups.discard(origin)
        if copy.dup:
            return
        asked = session.asked(message)
        most = message.sends * (1 + len({each.topic_filter for each in asked if each.is_shared}))
        if message.retain:
            most += len(asked)
        assert session.count_fresh(message.number) <= most, f"{copy} comes too often"

    def _received_own(self, session: Session, copy: Copy, message: Sent, is_repeat: bool) -> None:
        number = message.number
        if not copy.dup:
            fresh = session.count_fresh(number, OWN)
            assert fresh <= message.times, (
                f"{copy} is delivered {fresh} times to {session.client_id}"
            )
        if is_repeat:
            return
        got = session.count_got(number, OWN)
        if copy.qos == 2:
            assert got <= message.times, f"{copy} comes {got} times to {session.client_id} at QoS 2"
        if got == 1 and number not in session.declined:
            self._check_order(session, copy, message)
        for route in message.routes:
            if route.session is session and route.is_certain:
                self._check_route(route, copy, message)
        if number in session.owed:
            owed = session.owed.pop(number)
            if owed is not None:
                self._check_route(owed, copy, message)

    def _check_route(self, route: Route, copy: Copy, message: Sent) -> None:
        """How a copy must come, where that is certain."""
        if message.sends > 1:
            return  # it may have been sent at another time, to other subscriptions
        assert copy.qos == route.qos, f"{copy} should have QoS {route.qos}"
        assert copy.retain == route.retain, f"{copy} should have RETAIN {route.retain}"
        if copy.level == 5:
            assert copy.identifiers == route.identifiers, f"{copy} is for {route.identifiers}"

    def _received_retained(self, session: Session, copy: Copy, message: Sent) -> None:
        assert message.number in self.was_retained
        if not copy.dup:
            count = session.count_fresh(message.number, RETAINED)
            asked = sum(not each.is_shared for each in session.asked(message))
            assert count <= asked, f"{copy} comes {count} times for {asked} subscriptions"
        values = self.retained[message.topic]
        if values[-1] is message:
            session.forget_retained(message.topic)

    def _check_order(self, session: Session, copy: Copy, message: Sent) -> None:
        is_taken_at_once = self.is_reliable and self.takes_all
        if message.sends > 1 and (message.qos == 1 or not is_taken_at_once):
            # To one who has subscribed meanwhile a repeat at QoS 1 is a new message; and a broker
            # that has refused it may have taken others that were sent behind it.
            return
        if message.source != message.client_id and not self.is_reliable:
            return  # a will that was refused comes when there is room, a newer one at once
        key = (message.source, message.topic, message.qos, copy.qos)
        last = session.last.get(key, -1)
        assert message.number > last, f"{copy} comes to {session.client_id} behind number {last}"
        session.last[key] = message.number

    # The end

    def check_nothing_owed(self, dropped: int, dropped_at_ends: int, refused: int) -> None:
        """All that is owed has come, but for as many messages as were dropped and counted: from
        full queues, of sessions that ended while no other member had room, and retained ones for
        which there was no room in the store."""
        owed = [(each.client_id, number) for each in self.sessions.values() for number in each.owed]
        count = len(owed)
        if self.has_room:
            assert not dropped
            dropped_at_ends = 0
        assert count <= dropped, f"owed: {owed}, dropped: {dropped}"
        shared = self.groups.owed()
        left = dropped - count + dropped_at_ends
        assert len(shared) <= left, f"owed to groups: {shared}, dropped: {left}"
        retained = {
            each.client_id: each.owed_retained
            for each in self.sessions.values()
            if each.owed_retained
        }
        assert sum(map(len, retained.values())) <= refused, f"retained messages owed: {retained}"
