"""What a broker promises, as plain as it can be said.

The world knows which messages were sent and which sessions there are, and decides for each what
must reach whom, what may, and what may not. It knows nothing of windows, queues, sockets and
stores; where these leave a choice, the world allows every outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.core.wire import Received


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter matches a topic name (4.7), by recursion over the levels."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    return _levels_match(topic_filter.split("/"), topic.split("/"))


def _levels_match(topic_filter: list[str], topic: list[str]) -> bool:
    if not topic_filter:
        return not topic
    if topic_filter[0] == "#":
        return True
    if not topic:
        return False
    return topic_filter[0] in ("+", topic[0]) and _levels_match(topic_filter[1:], topic[1:])


@dataclass(eq=False)
class Sent:
    """A message on its way. Its number is in its payload, so that it is known everywhere."""

    number: int
    publisher: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    step: int
    sends: int = 1
    routes: list[tuple[Session, int, int]] = field(default_factory=list)
    """The sessions it was for when it was sent: their version then, and at which QoS."""


@dataclass
class Subscribed:
    """A subscription, and since which step it is known to be there."""

    qos: int
    since: int


@dataclass(eq=False)
class Session:
    """A session as its client sees it: subscriptions, and what it is owed and has got."""

    client_id: str
    is_persistent: bool
    connection: int = 0
    """Key of the channel it is attached to, 0 for none."""
    last_connection: int = 0
    """The same of the last one it was attached to."""
    detached_at: float = 0.0
    version: int = 0
    unanswered: int = 0
    """Filters in SUBSCRIBE and UNSUBSCRIBE without answer: until then no QoS is certain, and
    never again if the answer was lost."""
    filters: dict[str, Subscribed] = field(default_factory=dict)
    ever: dict[str, int] = field(default_factory=dict)
    """Every filter there has been, with the highest QoS asked for."""
    asked: dict[str, int] = field(default_factory=dict)
    """How often each filter has been subscribed to."""
    owed: dict[int, int | None] = field(default_factory=dict)
    """Numbers of messages that must come, with their QoS where it is certain."""
    owed_retained: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By topic: the retained message that must come, and at which QoS."""
    hoped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """The same by filter and topic, while SUBACK has not come."""
    fresh: dict[int, int] = field(default_factory=dict)
    """How often each message has come without DUP."""
    got: dict[int, int] = field(default_factory=dict)
    """How often each message has been given to the application."""
    got_retained: dict[int, int] = field(default_factory=dict)
    last: dict[tuple[str, str, int, int], int] = field(default_factory=dict)

    def granted(self, topic: str) -> int:
        """The highest QoS of the filters that match; -1 for none."""
        found = [each.qos for name, each in self.filters.items() if matches(name, topic)]
        return max(found, default=-1)

    def forget_retained(self, topic: str) -> None:
        """The retained message of a topic has come, or another is there now."""
        self.owed_retained.pop(topic, None)
        for key in [key for key in self.hoped if key[1] == topic]:
            del self.hoped[key]

    def granted_since(self, topic: str, step: int) -> int:
        """The same for those that have been there since a step."""
        found = [
            each.qos
            for name, each in self.filters.items()
            if each.since <= step and matches(name, topic)
        ]
        return max(found, default=-1)

    def granted_ever(self, topic: str) -> int:
        """The same for all filters there have been."""
        return max((qos for name, qos in self.ever.items() if matches(name, topic)), default=-1)


class World:
    """All messages and sessions.

    `is_reliable` says that the store never refuses; `has_room` that no queue is ever full.
    """

    def __init__(self, *, is_reliable: bool, has_room: bool) -> None:
        self.is_reliable = is_reliable
        self.has_room = has_room
        self.step = 0
        self.messages: list[Sent] = []
        self.sessions: dict[str, Session] = {}
        self.ended: list[Session] = []
        self.retained: dict[str, list[Sent | None]] = {}
        """By topic: what may be retained now, oldest first; None for nothing yet."""
        self.was_retained: set[int] = set()
        self.cleans: dict[str, int] = {}
        """By client: key of the channel on which the newest clean CONNECT was sent."""

    # Messages

    def new_message(
        self, publisher: str, topic: str, qos: int, retain: bool, size: int = 0
    ) -> Sent:
        """A message with the next number; size -1 makes it one that deletes."""
        number = len(self.messages)
        payload = b"" if size < 0 else b"%d:" % number + b"x" * size
        message = Sent(number, publisher, topic, payload, qos, retain, self.step)
        self.messages.append(message)
        return message

    def sent(self, message: Sent) -> None:
        """The broker has been given a message, at this step."""
        message.step = self.step
        for session in self.sessions.values():
            granted = session.granted(message.topic)
            if granted >= 0:
                qos = min(granted, message.qos)
                version = -1 if session.unanswered else session.version
                message.routes.append((session, version, qos))
        if message.retain:
            self._retained_changes(message)

    def sent_again(self, message: Sent) -> None:
        """A message has been repeated after a reconnect."""
        message.sends += 1
        if message.retain:
            self._retained_changes(message)

    def _retained_changes(self, message: Sent) -> None:
        self.retained.setdefault(message.topic, [None]).append(message)
        if message.payload:
            self.was_retained.add(message.number)
        for session in self.sessions.values():
            session.forget_retained(message.topic)

    def accepted(self, message: Sent) -> None:
        """The broker has taken a message over: from now on it is owed to those it was for."""
        if message.retain:
            self.retain_settled(message)
        if not message.qos or not message.payload:
            return
        for session, version, qos in message.routes:
            if self.sessions.get(session.client_id) is not session or message.number in session.got:
                continue
            if session.version == version:
                if qos:
                    session.owed[message.number] = qos
            elif min(session.granted_since(message.topic, message.step), message.qos) > 0:
                session.owed[message.number] = None

    def retain_settled(self, message: Sent) -> None:
        """The retained message of a topic is this one, or one that was sent behind it."""
        values = self.retained[message.topic]
        if message not in values or (message.qos == 2 and message.sends > 1):
            return  # a repeat at QoS 2 changes nothing if the first had come
        del values[: len(values) - 1 - values[::-1].index(message)]

    def retained_now(self, topic: str) -> set[bytes]:
        """What may be retained for a topic: payloads, and b"" for nothing."""
        return {b"" if each is None else each.payload for each in self.retained.get(topic, [None])}

    # Sessions

    def is_doubtful(self, session: Session) -> bool:
        """Whether a clean CONNECT was sent for it whose fate is not known: it may be gone."""
        return self.cleans.get(session.client_id, 0) > session.last_connection

    def connected(
        self, client_id: str, key: int, clean: bool, resumed: bool
    ) -> tuple[Session, bool]:
        """A CONNECT has been accepted: its session, and whether it was there before.

        `resumed` is what the broker says, which decides only where either is right.
        """
        known = self.sessions.get(client_id)
        is_lost = known is not None and self.is_doubtful(known) and not resumed
        if known is not None and (clean or is_lost or not known.is_persistent):
            self.end(known)
            known = None
        is_present = known is not None
        if known is None:
            known = Session(client_id, not clean)
            self.sessions[client_id] = known
        known.connection = key
        known.last_connection = key
        return known, is_present

    def disconnected(self, key: int, now: float) -> Session | None:
        """A connection is over, and with it a session that is not persistent."""
        for session in list(self.sessions.values()):
            if session.connection == key:
                session.connection = 0
                session.detached_at = now
                session.hoped.clear()
                for topic, (_, qos) in list(session.owed_retained.items()):
                    if qos == 0:
                        del session.owed_retained[topic]
                if not session.is_persistent:
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

    def asks(self, session: Session, topic_filter: str, qos: int) -> None:
        """SUBSCRIBE has been sent for a filter."""
        session.version += 1
        session.unanswered += 1
        if topic_filter in session.filters:
            known = session.filters[topic_filter]
            known.qos = min(known.qos, qos)  # the lesser until it is known which counts
        session.ever[topic_filter] = max(qos, session.ever.get(topic_filter, 0))
        session.asked[topic_filter] = session.asked.get(topic_filter, 0) + 1
        for topic, values in self.retained.items():
            message = values[-1]
            is_certain = len(values) == 1 and message is not None and message.payload != b""
            if is_certain and message is not None and matches(topic_filter, topic):
                session.hoped[topic_filter, topic] = (message.number, min(qos, message.qos))

    def subscribed(self, session: Session, topic_filter: str, qos: int) -> None:
        """SUBACK has come for a filter."""
        session.version += 1
        session.unanswered -= 1
        known = session.filters.get(topic_filter)
        since = self.step if known is None else known.since
        session.filters[topic_filter] = Subscribed(qos, since)
        for name, topic in list(session.hoped):
            if name == topic_filter:
                session.owed_retained[topic] = session.hoped.pop((name, topic))

    def unsubscribes(self, session: Session, topic_filter: str) -> None:
        """UNSUBSCRIBE has been sent for a filter."""
        session.version += 1
        session.unanswered += 1
        session.filters.pop(topic_filter, None)
        for topic in list(session.owed_retained):
            if matches(topic_filter, topic):
                del session.owed_retained[topic]
        for key in [key for key in session.hoped if matches(topic_filter, key[1])]:
            del session.hoped[key]

    def unsubscribed(self, session: Session, topic_filter: str) -> None:
        """UNSUBACK has come for a filter, and before it every SUBACK of that filter."""
        session.version += 1
        session.unanswered -= 1
        session.filters.pop(topic_filter, None)

    # What comes

    def received(self, session: Session, publish: Received, *, is_repeat: bool) -> None:
        """A PUBLISH has come; `is_repeat` one of a QoS 2 identifier that is held already."""
        if not publish.payload:
            assert not publish.retain, "a retained message without payload"
            return
        message = self._known(publish)
        granted = session.granted_ever(message.topic)
        assert granted >= 0, f"{session.client_id} never subscribed to {message.topic}"
        assert publish.qos <= min(granted, message.qos), f"{publish} is above the QoS granted"
        if publish.retain:
            self._received_retained(session, publish, message)
            return
        number = message.number
        if not publish.dup:
            fresh = session.fresh.get(number, 0) + 1
            session.fresh[number] = fresh
            most = message.sends if message.qos == 1 else 1
            assert fresh <= most, f"{publish} is delivered {fresh} times to {session.client_id}"
        if is_repeat:
            return
        got = session.got.get(number, 0) + 1
        session.got[number] = got
        if publish.qos == 2:
            assert got == 1, f"{publish} comes {got} times to {session.client_id} at QoS 2"
        if got == 1:
            self._check_order(session, publish, message)
        if number in session.owed:
            qos = session.owed.pop(number)
            assert qos is None or qos == publish.qos, f"{publish} should have QoS {qos}"

    def _known(self, publish: Received) -> Sent:
        number = int(publish.payload.split(b":", 1)[0])
        message = self.messages[number]
        assert publish.topic == message.topic
        assert publish.payload == message.payload
        return message

    def _received_retained(self, session: Session, publish: Received, message: Sent) -> None:
        assert message.number in self.was_retained
        if not publish.dup:
            count = session.got_retained.get(message.number, 0) + 1
            session.got_retained[message.number] = count
            asked = sum(
                count for name, count in session.asked.items() if matches(name, message.topic)
            )
            assert count <= asked, f"{publish} comes {count} times for {asked} subscriptions"
        values = self.retained[message.topic]
        if values[-1] is message:
            session.forget_retained(message.topic)

    def _check_order(self, session: Session, publish: Received, message: Sent) -> None:
        if message.sends > 1 and (message.qos == 1 or not self.is_reliable):
            # To one who has subscribed meanwhile a repeat at QoS 1 is a new message; and a store
            # that has refused it may have taken others that were sent behind it.
            return
        key = (message.publisher, message.topic, message.qos, publish.qos)
        last = session.last.get(key, -1)
        assert message.number > last, f"{publish} comes to {session.client_id} behind number {last}"
        session.last[key] = message.number

    # The end

    def check_nothing_owed(self, dropped: int) -> None:
        """All that is owed has come, but for as many messages as were dropped and counted."""
        owed = [(each.client_id, each.owed) for each in self.sessions.values() if each.owed]
        count = sum(len(numbers) for _, numbers in owed)
        if self.has_room:
            assert not dropped
        assert count <= dropped, f"owed: {owed}, dropped: {dropped}"
        retained = {
            each.client_id: each.owed_retained
            for each in self.sessions.values()
            if each.owed_retained
        }
        assert not retained, f"retained messages owed: {retained}"
