"""Retained messages for new subscriptions, a page at a time (3.8.4).

A page is asked for when the socket takes data and, above QoS 0, when the in-flight window has
places, which are kept until it comes. So it is written when it arrives, and what a queue may
hold neither counts nor drops it. A page may be older than a message that the subscriber has
got meanwhile: what changed since it was asked for is left out. One that comes when its client has
gone, or takes less than before, is read again later, topic by topic.

That a persistent session is still to get them is stored with its subscription, so that they come
after a crash, too: then from the first, since where it was is not stored.
"""

from __future__ import annotations

from typing import Final, cast, final

from mqtt_core._particulars import Options, of_retained
from mqtt_core._store import (
    Completion,
    Failed,
    MatchRetained,
    RetainedPage,
    SaveSubscription,
)
from mqtt_core.broker._channel import Channel
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._retained import Position
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import RetainedBurst, Session
from mqtt_core.broker._workspace import Workspace

_PAGE: Final = 256


def _is_local(topic_filter: bytes) -> bool:
    return topic_filter.startswith(b"$SYS/") or topic_filter == b"$SYS"


def is_stored(session: Session, topic_filter: bytes, qos: int) -> bool:
    """Whether it is stored that retained messages are due for a subscription: where they come at
    QoS 1 or 2 to a session that outlives its connection."""
    return session.key != 0 and qos > 0 and not _is_local(topic_filter)


@final
class Bursts:
    """Reads pages of retained messages and sends them."""

    __slots__ = ("_ws", "_sending")

    def __init__(self, workspace: Workspace, sending: Sending) -> None:
        self._ws: Final = workspace
        self._sending: Final = sending

    def start(
        self,
        session: Session,
        channel: Channel,
        topic_filter: bytes,
        qos: int,
        options: Options | None,
    ) -> None:
        """Send the retained messages that match a new subscription.  [v3 MQTT-3.3.1-6]"""
        is_local = _is_local(topic_filter)
        # One that has not ended begins again; what is under way for it is dropped.
        session.add_burst(RetainedBurst(topic_filter, qos, is_local, of_retained(options)))
        self._ws.mark_dirty(channel)

    def _ended(self, session: Session, topic_filter: bytes) -> None:
        """All has been sent for a subscription."""
        self.stop(session, topic_filter)
        self.settle(session, topic_filter)

    def settle(self, session: Session, topic_filter: bytes) -> None:
        """Store that retained messages are not due for a subscription, once all have been sent and
        it is stored itself."""
        bursts = session.bursts
        granting = session.granting
        if bursts is not None and topic_filter in bursts:
            return
        if granting is not None and topic_filter in granting:
            return
        subscriber = session.subscriptions.get(topic_filter)
        if subscriber is not None and is_stored(session, topic_filter, subscriber.qos):
            qos = subscriber.qos
            self._ws.record(SaveSubscription(session.key, topic_filter, qos, subscriber.options))

    def stop(self, session: Session, topic_filter: bytes) -> None:
        """The subscription is over: so is what was still to come for it."""
        bursts = session.bursts
        if bursts is not None:
            bursts.pop(topic_filter, None)
            if not bursts:
                session.bursts = None

    def go_on(self, session: Session, burst: RetainedBurst) -> None:
        """A burst that had been replaced goes on where it was: what replaced it was refused."""
        session.add_burst(burst)
        if session.channel is not None:
            self._ws.mark_dirty(session.channel)

    def pump(self, session: Session, channel: Channel) -> None:
        """Go on with the first burst, if there is room."""
        bursts = session.bursts
        if bursts is None or not channel.has_room:
            return
        burst = next(iter(bursts.values()))
        if burst.is_reading:
            return
        room = _PAGE
        if burst.qos:
            flow = self._ws.flow_of(session)  # made before a place of its window is kept
            room = min(room, flow.room(session.reserved))
            if room <= 0:
                return
        if burst.is_local:
            self._read_local(session, channel, burst, room)
            return
        if self._ws.page_room <= 0:
            self._ws.put_off.append(channel)
            return
        topic_filter = burst.topic_filter
        position = burst.position
        if burst.again:
            topic_filter = burst.again[-1]
            position = None
            room = 1
        self._ws.page_room -= room
        burst.is_reading = True
        burst.mark = self._ws.retained_mark
        if burst.qos:
            burst.room = room
            session.reserved += room
        self._ws.retained_readers += 1
        request_id = self._ws.next_id()
        self._ws.submit(
            MatchRetained(
                request_id,
                topic_filter,
                position,
                room,
                self._ws.limits.output_budget_bytes,
            ),
            PendingPage(self, session, burst),
        )

    def _read_local(
        self, session: Session, channel: Channel, burst: RetainedBurst, room: int
    ) -> None:
        sys_retained = self._ws.sys_retained
        if burst.position is None:
            burst.position = sys_retained.start(burst.topic_filter)
        position = cast(Position, burst.position)
        budget = self._ws.limits.output_budget_bytes
        for message in sys_retained.collect(position, room, budget):
            self._sending.send_retained(session, channel, message, burst)
        if position.is_at_end:
            self._ended(session, burst.topic_filter)
        self._ws.mark_dirty(channel)

    def _is_current(self, session: Session, burst: RetainedBurst) -> bool:
        bursts = session.bursts
        return bursts is not None and bursts.get(burst.topic_filter) is burst

    def page_ended(self, session: Session, burst: RetainedBurst) -> None:
        """A page is not under way any more."""
        ws = self._ws
        burst.is_reading = False
        session.reserved -= burst.room
        burst.room = 0
        ws.retained_readers -= 1

    def take_page(self, session: Session, burst: RetainedBurst, page: RetainedPage) -> None:
        """Send a page, leaving out what has changed since it was asked for."""
        ws = self._ws
        changes = ws.retained_changes
        messages = page.messages
        if changes:
            messages = [
                message for message in messages if changes.get(message.topic.utf8, 0) <= burst.mark
            ]
            if not ws.retained_readers:
                changes.clear()
        channel = session.channel
        if channel is not None:
            ws.mark_dirty(channel)
        if not self._is_current(session, burst):
            return
        again = burst.again
        if again:
            again.pop()
        else:
            burst.position = page.position
        if channel is None or not self._has_room(session, burst, len(messages)):
            again.extend(message.topic.utf8 for message in reversed(messages))
        else:
            for message in messages:
                self._sending.send_retained(session, channel, message, burst)
        if not again and burst.position is None:
            self._ended(session, burst.topic_filter)

    def _has_room(self, session: Session, burst: RetainedBurst, count: int) -> bool:
        """Whether a page fits: its client may have come back meanwhile, with a smaller window."""
        if session.resend is not None:
            return False
        return not burst.qos or self._ws.flow_of(session).room(session.reserved) >= count

    def page_failed(self, session: Session, failure: Failed) -> None:
        """The store does not answer: the client is to come back later."""
        if not session.is_ended:
            self._sending.store_failed(session, failure)


@final
class PendingPage(Pending):
    """Goes on when a page of retained messages has come."""

    __slots__ = ("_bursts", "_session", "_burst")

    def __init__(self, bursts: Bursts, session: Session, burst: RetainedBurst) -> None:
        self._bursts: Final = bursts
        self._session: Final = session
        self._burst: Final = burst

    def done(self, completion: Completion) -> None:
        """Send it."""
        self._bursts.page_ended(self._session, self._burst)
        self._bursts.take_page(self._session, self._burst, cast(RetainedPage, completion))

    def failed(self, failure: Failed) -> None:
        """Close the connection; the burst goes on with the next."""
        self._bursts.page_ended(self._session, self._burst)
        self._bursts.page_failed(self._session, failure)
