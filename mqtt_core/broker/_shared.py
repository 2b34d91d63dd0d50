"""Groups whose members share a subscription: each message goes to one of them (4.8.2).

A group stands under the filter that it shares. Its members are kept in rings by what they can
take, so that a choice looks at the first of a ring and never at all. A member leaves its ring
when a choice finds that it can take less than it could, and comes back when its session can take
more again: at a connect, when its socket has taken what was written, at an acknowledgement. So
every step that a choice makes beyond the first two has been paid for by such an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from mqtt_core._particulars import Options, Particulars
from mqtt_core.broker._subscribers import Subscriber, Subscribers

if TYPE_CHECKING:
    from mqtt_core._message import Message
    from mqtt_core.broker._session import Session

READY: Final = 0
BUSY: Final = 1
BLOCKED: Final = 2
AWAY: Final = 3
GONE: Final = 4
"""What a member can take: every message at once; at once only at QoS 0, since its in-flight
window is full; nothing before its socket goes on; nothing before its client is back; nothing any
more, since its session has ended."""

_RINGS: Final = 4


@final
class Member(Subscriber):
    """The subscription of one session that belongs to a group."""

    __slots__ = ("group", "ring", "next", "previous", "_plain", "_retained")

    def __init__(
        self,
        session: Session,
        subscribers: Subscribers,
        group: Group,
        qos: int,
        options: Options | None,
    ) -> None:
        super().__init__(session, subscribers, qos, options)
        self.group: Final = group
        self.ring: Ring | None = None
        self.next: Member | None = None
        self.previous: Member | None = None
        self._plain: Particulars | None = None
        self._retained: Particulars | None = None

    def change(self, qos: int, options: Options | None) -> None:
        """The subscription is replaced by one with the same filter."""
        self.qos = qos
        self.options = options
        self._plain = None
        self._retained = None
        self.group.place(self, standing(self))

    def particulars(self, message: Message) -> Particulars:
        """What a delivery to this member has of its own: only its subscription's identifier and
        RETAIN as published, whatever else the client has subscribed to."""
        options = self.options
        if message.retain and options is not None and options.retain_as_published:
            if self._retained is None:
                self._retained = self._make(True)
            return self._retained
        if self._plain is None:
            self._plain = self._make(False)
        return self._plain

    def _make(self, retain: bool) -> Particulars:
        options = self.options
        identifier = 0 if options is None else options.identifier
        identifiers = (identifier,) if identifier else ()
        return Particulars(retain, identifiers, self.group.topic_filter)


@final
class Ring:
    """Members that can take the same; `first` is the one whose turn it is."""

    __slots__ = ("standing", "first", "count")

    def __init__(self, standing: int) -> None:
        self.standing: Final = standing
        self.first: Member | None = None
        self.count = 0

    def add(self, member: Member) -> None:
        """Add a member behind all others."""
        member.ring = self
        self.count += 1
        first = self.first
        if first is None:
            member.next = member
            member.previous = member
            self.first = member
            return
        last = first.previous
        assert last is not None
        last.next = member
        member.previous = last
        member.next = first
        first.previous = member

    def remove(self, member: Member) -> None:
        """Take a member out."""
        following = member.next
        before = member.previous
        assert following is not None
        assert before is not None
        member.ring = None
        member.next = None
        member.previous = None
        self.count -= 1
        if following is member:
            self.first = None
            return
        before.next = following
        following.previous = before
        if self.first is member:
            self.first = following

    def turn(self, member: Member) -> None:
        """A member has had its turn: it goes behind all others."""
        if member is self.first:
            self.first = member.next
        else:
            self.remove(member)
            self.add(member)


@final
class Group:
    """The members that share one filter under one name; `topic_filter` has both."""

    __slots__ = ("topic_filter", "count", "rings")

    def __init__(self, topic_filter: bytes) -> None:
        self.topic_filter: Final = topic_filter
        self.count = 0
        self.rings: Final = [Ring(at) for at in range(_RINGS)]

    def join(self, member: Member) -> None:
        """Add a member."""
        self.count += 1
        self.place(member, standing(member))

    def leave(self, member: Member) -> None:
        """Remove a member."""
        self.count -= 1
        self.place(member, GONE)

    def place(self, member: Member, at: int) -> None:
        """Put a member into a ring, behind the others there; into none if it is gone.

        One that cannot take all is noted with its session, which will call it back.
        """
        ring = member.ring
        session = member.session
        aside = session.aside
        if ring is not None:
            ring.remove(member)
            if aside is not None:
                aside[ring.standing].pop(self.topic_filter, None)
        if at == GONE:
            return
        self.rings[at].add(member)
        if at != READY:
            if aside is None:
                aside = [{} for _ in range(_RINGS)]
                session.aside = aside
            aside[at][self.topic_filter] = member


def standing(member: Member) -> int:
    """What a member can take just now."""
    session = member.session
    channel = session.channel
    if channel is None:
        return GONE if session.is_ended else AWAY
    if not channel.accepts:
        return BLOCKED
    if member.qos and not session.goes_direct:
        return BUSY
    return READY


def _session_standing(session: Session) -> int:
    channel = session.channel
    if channel is None:
        return AWAY
    if not channel.accepts:
        return BLOCKED
    return READY if session.goes_direct else BUSY


def call_back(session: Session) -> None:
    """A session may be able to take more than when its members were put aside: those for which
    that is so return to their groups. Called where `Session.aside` is not None."""
    aside = session.aside
    assert aside is not None
    now = _session_standing(session)
    at = AWAY
    while at > now:
        members = aside[at]
        if members:
            aside[at] = {}
            for member in members.values():
                member.group.place(member, standing(member))
        at -= 1
    if now == READY:
        session.aside = None
