"""Which member of a group gets a message (4.8.2).

One that can take it at once comes before one for which it has to wait, one that is connected
before one that is away, and one with room in its queue before one without. Among those that can
take it members have it in turns; of the next two the one with less to do goes first.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._message import Message
from mqtt_core.broker._room import Room
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import Session
from mqtt_core.broker._shared import AWAY, BLOCKED, BUSY, READY, Group, Member, Ring, standing

_TRIES: Final = 16
"""Members of one ring that are asked whether their queue has room, or whether they take a packet
of that size, before the policy of a full queue is applied to one of them. The answer depends on
the message, so nobody can be put aside for it; that is why it is asked of a few. The next message
goes on with those behind them, so all are asked in their turn."""

_IN_NEED: Final[tuple[int, ...]] = (BUSY, BLOCKED, AWAY, READY)
# In READY is only who does not take a packet of that size.


def load(session: Session) -> int:
    """How much a client has to do: messages in flight and waiting."""
    flow = session.flow
    queue = session.queue
    return (0 if flow is None else flow.in_flight) + (0 if queue is None else queue.count)


@final
class Choosing:
    """Chooses members. `visits` counts the members that choices have looked at."""

    __slots__ = ("visits", "_sending", "_room")

    def __init__(self, sending: Sending, room: Room) -> None:
        self.visits = 0
        self._sending: Final = sending
        self._room: Final = room

    def choose(self, group: Group, message: Message) -> Member | None:
        """The member that gets a message, even if it has no room for it; None for an empty
        group."""
        return self._take(self._find(group, message, AWAY) or self._last_resort(group))

    def offer(self, group: Group, message: Message, last: int) -> Member | None:
        """The member that gets a message, of those in the rings up to `last`; None if it would
        have no room there."""
        return self._take(self._find(group, message, last))

    def would_refuse(self, group: Group, message: Message) -> bool:
        """Whether a QoS 1 or 2 message must wait for a member, and none has room for it."""
        if self._find(group, message, AWAY) is not None:
            return False
        member = self._last_resort(group)
        return (
            member is not None
            and member.qos > 0
            and self._room.would_refuse(member.session, message)
        )

    def _take(self, member: Member | None) -> Member | None:
        if member is not None and member.ring is not None:
            member.ring.turn(member)
        return member

    def _find(self, group: Group, message: Message, last: int) -> Member | None:
        for ring in group.rings:
            if ring.standing > last:
                break
            if ring.count:
                member = self._look(ring, message)
                if member is not None:
                    return member
        return None

    def _look(self, ring: Ring, message: Message) -> Member | None:
        """The first of a ring that can take the message, or the next if that has less to do."""
        tries = min(ring.count, _TRIES)
        while tries > 0:
            member = self._first(ring)
            if member is None:
                return None
            if self._takes(member, message):
                rival = member.next
                if rival is not None and rival is not member and self._stands(rival):
                    if load(rival.session) < load(member.session) and self._takes(rival, message):
                        return rival
                return member
            self._take(member)
            tries -= 1
        return None

    def _first(self, ring: Ring) -> Member | None:
        """The first member that can take what the ring says; the others are put aside."""
        while True:
            member = ring.first
            if member is None or self._stands(member):
                return member

    def _stands(self, member: Member) -> bool:
        """Whether a member can take what its ring says, or more. It is put where it belongs."""
        self.visits += 1
        now = standing(member)
        ring = member.ring
        if ring is not None and ring.standing == now:
            return True
        member.group.place(member, now)
        return ring is not None and now < ring.standing

    def _takes(self, member: Member, message: Message) -> bool:
        """Whether a message can be sent to a member, or wait for it."""
        session = member.session
        channel = session.channel
        qos = member.qos if member.qos < message.qos else message.qos
        if channel is not None and channel.max_packet_bytes:
            particulars = member.particulars(message)
            if self._sending.exceeds(channel, message, qos, particulars):  # [MQTT-3.1.2-25]
                return False
        ring = member.ring
        at = AWAY if ring is None else ring.standing
        if at == READY:
            return True
        if qos:
            return not self._room.would_refuse(session, message)
        return at == BUSY or self._room.takes_qos_0(session, message)

    def _last_resort(self, group: Group) -> Member | None:
        for at in _IN_NEED:
            member = self._first(group.rings[at])
            if member is not None:
                return member
        return None
