"""What groups that share a subscription are owed: each message by one of their members (4.8.2).

Who gets it is the broker's choice. It may be another member later if the session of the first
ends, but never once the message was sent at QoS 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.messages import Copy, Sent, matches
from tests.model.sessions import Session, Wanted, unshared

if TYPE_CHECKING:
    from tests.model.world import World


class Groups:
    """The groups of all sessions, by the whole filter that their members have asked for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._holders: dict[tuple[str, int], list[tuple[Session, int]]] = {}
        """The sessions that have got a message as members of a group, and at which QoS."""
        self._open: list[Sent] = []
        """Messages that some group may still have to get."""

    # Who belongs to them

    def _members(self, topic_filter: str, step: int) -> list[Session]:
        """Sessions that surely belong to a group, and have since a step."""
        return [
            each
            for each in self._world.sessions.values()
            if each.is_member(topic_filter, step) and not self._world.is_doubtful(each)
        ]

    def _is_solid(self, topic_filter: str) -> bool:
        """Whether nobody is there who would take messages at QoS 0, which may be lost."""
        return all(
            each.qos > 0
            for session in self._world.sessions.values()
            for each in session.ever
            if each.topic_filter == topic_filter
        )

    def asks(self, wanted: Wanted) -> None:
        """A client subscribes: what a member at QoS 0 gets may be lost."""
        if wanted.is_shared and not wanted.qos:
            self._let_go(wanted.topic_filter)

    def leaves(self, topic_filter: str) -> None:
        """A client unsubscribes. What waits for it still comes; what looks for a member may find
        none."""
        if not self._members(topic_filter, self._world.step):
            self._let_go(topic_filter)

    def _let_go(self, topic_filter: str) -> None:
        for message in self._open:
            message.groups.discard(topic_filter)

    # What they are owed

    def sent(self, message: Sent) -> None:
        """A message has been sent: which groups must get it if it is accepted."""
        if not message.qos or not message.payload:
            return
        filters = {
            name
            for session in self._world.sessions.values()
            for name, each in session.filters.items()
            if each.wanted.is_shared and matches(unshared(name), message.topic)
        }
        step = self._world.step
        message.groups = {
            name for name in filters if self._is_solid(name) and self._members(name, step)
        }
        if message.groups:
            self._open.append(message)

    def accepted(self, message: Sent) -> None:
        """It is owed to those that have had a member all the time."""
        for name in list(message.groups):
            may_get = [each for each in self._world.sessions.values() if _has_asked(each, name)]
            is_small = all(message.size_bytes <= each.largest_bytes for each in may_get)
            if not is_small or not self._members(name, message.step):
                message.groups.discard(name)

    def takes(self, session: Session, packet_bytes: int) -> None:
        """A client takes small packets only: what it was to get and is larger is lost."""
        for message in self._open:
            if message.size_bytes > packet_bytes:
                message.groups -= {each.topic_filter for each in session.ever}

    def may_lose(self, session: Session) -> None:
        """A session ends, or may end: what was sent to it at QoS 2 is lost, and anything if no
        other member is left.  [MQTT-4.8.2-4] [MQTT-4.8.2-5]"""
        for name in {each.topic_filter for each in session.ever if each.is_shared}:
            others = [each for each in self._members(name, self._world.step) if each is not session]
            most_bytes = max((each.largest_bytes for each in others), default=0)
            for message in self._open:
                is_sent = self._may_be_sent(session, name, message)
                if is_sent or message.size_bytes > most_bytes or not self._world.redelivers:
                    message.groups.discard(name)
        self._open = [message for message in self._open if message.groups]

    def _may_be_sent(self, session: Session, topic_filter: str, message: Sent) -> bool:
        """Whether a message may have been sent to a member at QoS 2, and not have come."""
        is_away = session.connection == 0 and session.detached_step < message.step
        has_qos_2 = any(each.qos == 2 for each in session.ever if each.topic_filter == topic_filter)
        return message.qos == 2 and has_qos_2 and not is_away

    # What comes

    def received(
        self, session: Session, copy: Copy, message: Sent, topic_filter: str, is_repeat: bool
    ) -> None:
        """A member has got a message."""
        number = message.number
        told = f"{copy} comes to {session.client_id} for {topic_filter}"
        message.groups.discard(topic_filter)
        if not copy.dup:
            fresh = session.count_fresh(number, topic_filter)
            assert fresh <= message.times, f"{told}, {fresh} times"
        if is_repeat:
            return
        got = session.count_got(number, topic_filter)
        holders = self._holders.setdefault((topic_filter, number), [])
        others = [(each, qos) for each, qos in holders if each is not session]
        if copy.qos == 2:
            assert got <= message.times, f"{told}, {got} times at QoS 2"
        is_over = self._may_be_over(session)  # but what had been written still comes
        for other, qos in others:
            if message.may_be_refused and message.sends > 1:
                continue
            assert copy.qos + qos < 4, f"{told}, and {other.client_id} has it at QoS 2"
            if not is_over:
                assert qos < 2, f"{told}, and {other.client_id} has it at QoS 2"
            if message.sends == 1 and not is_over:
                assert qos, f"{told}, and {other.client_id} has it at QoS 0"
                assert self._world.redelivers, f"{told}, and {other.client_id} has it"
                assert self._may_be_over(other), f"{told}, and {other.client_id} has it"
        holders.append((session, copy.qos))

    def _may_be_over(self, session: Session) -> bool:
        is_there = self._world.sessions.get(session.client_id) is session
        return not is_there or self._world.is_doubtful(session)

    # The end

    def owed(self) -> list[tuple[str, int]]:
        """What no member has got, of all that was accepted."""
        accepted = [each for each in self._world.messages if each.groups and each.is_accepted]
        return [(name, each.number) for each in accepted for name in sorted(each.groups)]


def _has_asked(session: Session, topic_filter: str) -> bool:
    return any(each.topic_filter == topic_filter for each in session.ever)
