"""What a program's own clients have besides those of the core: answers to wait for, and mailboxes.

Nothing here knows how a runtime waits: who waits leaves a call that wakes it. All of it happens
on the server's own thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, final

from adapters.transport._drive import Drive
from mqtt_core import Properties, Publish, Subscription, reason_name
from mqtt_core.broker import EOF_BY_PEER, TRANSPORT_ERROR, Inside

_FAILURE: Final = 0x80  # reason codes from here on are refusals
_CLOSED: Final = 0x00
_SHUTTING_DOWN: Final = 0x8B


class _Refusal(Exception):
    """The broker has said no; `reason` is its code (2.4 of MQTT 5.0)."""

    def __init__(self, what: str, reason: int) -> None:
        super().__init__(f"{what}: {reason_name(reason)} (0x{reason:02X})")
        self.reason: Final = reason


@final
class PublishError(_Refusal):
    """A message was not taken, or the server has stopped before it said that it was."""


@final
class SubscribeError(_Refusal):
    """A subscription was not granted."""


@final
class SubscriptionEndedError(_Refusal):
    """The broker has ended a subscription, as for a full queue whose policy is to disconnect."""


@final
class Publisher:
    """`Sendable`: the one client that a program's messages come from. It is attached with the first
    of them, and again if the broker has ended it.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive: Final = drive
        self._inside: Inside | None = None
        self._answers: dict[int, Callable[[int], object]] = {}  # no more than the receive maximum
        self._waiters: list[Callable[[], object]] = []

    def has_room(self, qos: int) -> bool:
        """Whether a message can be put now; if not, `when_there_is_room` calls back."""
        return self._client().has_room(qos)

    def when_there_is_room(self, callback: Callable[[], object]) -> None:
        """Call once when it is worth to look again."""
        self._waiters.append(callback)

    def put(
        self,
        topic: str,
        payload: bytes | str,
        qos: int,
        retain: bool,
        properties: Properties,
        on_answer: Callable[[int], object] | None,
    ) -> None:
        """Publish in the next turn; `on_answer` gets the reason code of a message at QoS 1 or 2.

        Raises `LocalProtocolError` for a message that cannot be published, and without room.
        """
        data = payload.encode() if isinstance(payload, str) else payload
        packet_id = self._client().publish(topic, data, qos, retain, properties)
        if packet_id and on_answer is not None:
            self._answers[packet_id] = on_answer
        self._drive.hand_in()

    def _client(self) -> Inside:
        inside = self._inside
        if inside is None:
            inside = self._drive.attach(self)
            self._inside = inside
        return inside

    def flush(self) -> None:
        """`Sendable`: hand on the answers, and wake who waits for room."""
        inside = self._inside
        if inside is None:
            return
        inside.receive()
        for packet_id, reasons in (
            (each.packet_id, each.reasons) for each in inside.take_outcomes()
        ):
            on_answer = self._answers.pop(packet_id, None)
            if on_answer is not None:
                on_answer(reasons[0])
        if inside.has_ended:
            self._end(inside, EOF_BY_PEER)
        elif self._waiters and inside.has_room(0):
            self._wake()

    def abort(self) -> None:
        """`Sendable`: it has failed."""
        if self._inside is not None:
            self._end(self._inside, TRANSPORT_ERROR)

    def _end(self, inside: Inside, cause: int) -> None:
        self._inside = None
        self._drive.close(inside.channel, cause)
        answers, self._answers = self._answers, {}
        for on_answer in answers.values():
            on_answer(max(inside.end_reason, _FAILURE))
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for callback in waiters:
            callback()


@final
class Mailbox:
    """`Sendable`: a client that subscribes for a program, and what has come for it.

    What the program does not take waits with the broker, within the limits of any other client:
    `output_budget_bytes`, then `max_queued_messages` and `max_queued_bytes`. `on_news` is called
    when there may be something to take, or an end.
    """

    def __init__(
        self, drive: Drive, subscriptions: Sequence[Subscription], on_news: Callable[[], object]
    ) -> None:
        self._drive: Final = drive
        self._filters: Final = ", ".join(repr(each.topic_filter) for each in subscriptions)
        self._on_news: Final = on_news
        self._waiting: Final[deque[Publish]] = deque()
        self._granted: tuple[int, ...] = ()
        self._is_over = False
        self._is_closed = False  # by the program
        self._inside: Final = drive.attach(self)
        try:
            self._inside.subscribe(subscriptions)
        except Exception:
            self.close()
            raise
        drive.hand_in()

    @property
    def is_ready(self) -> bool:
        """Whether the broker has answered, or said that it will not."""
        return bool(self._granted) or self._is_over

    def check(self) -> None:
        """Raise `SubscribeError` if the broker has not granted every filter."""
        refused = [reason for reason in self._granted if reason >= _FAILURE]
        if not self._granted:
            refused = [max(self._inside.end_reason, _FAILURE)]
        if refused:
            raise SubscribeError(f"{self._filters} cannot be subscribed to", refused[0])

    def take(self) -> Publish | None:
        """The next message; None if there is none. With that it is acknowledged."""
        if not self._waiting and not self._is_over:
            self._receive()
            if self._waiting:
                self._drive.hand_in()
        return self._waiting.popleft() if self._waiting else None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come. Raises `SubscriptionEndedError` unless it is because the
        program has closed it, or the server has stopped."""
        if not self._is_over:
            return False
        reason = self._inside.end_reason
        if not self._is_closed and reason not in (_CLOSED, _SHUTTING_DOWN):
            raise SubscriptionEndedError(f"the subscription to {self._filters} has ended", reason)
        return True

    def close(self) -> None:
        """Unsubscribe, and forget what has come. May be repeated."""
        self._is_closed = True
        self._waiting.clear()
        if not self._is_over:
            self._inside.disconnect()
            self._drive.hand_in()

    def close_later(self) -> None:
        """The same from any thread, and once the server has stopped."""
        self._drive.call_from_thread(self.close)

    def _receive(self) -> None:
        inside = self._inside
        inside.receive()
        messages = inside.take_messages()
        if not self._is_closed:
            self._waiting.extend(messages)
        for outcome in inside.take_outcomes():
            self._granted = outcome.reasons

    def flush(self) -> None:
        """`Sendable`: there is something to take, or an end."""
        if not self._granted or self._inside.has_ended:
            self._receive()
        if self._inside.has_ended:
            self._end(EOF_BY_PEER)
        self._on_news()

    def abort(self) -> None:
        """`Sendable`: it has failed."""
        self._end(TRANSPORT_ERROR)
        self._on_news()

    def _end(self, cause: int) -> None:
        if not self._is_over:
            self._is_over = True
            self._drive.close(self._inside.channel, cause)


def check_published(topic: str, reason: int | None) -> None:
    """Raise `PublishError` for the answer to a message, if it is a refusal."""
    if reason is not None and reason >= _FAILURE:
        raise PublishError(f"the message for {topic!r} was not taken", reason)


def subscriptions_of(filters: Sequence[str | Subscription], qos: int) -> list[Subscription]:
    """Topic filters as subscriptions; one that is a `Subscription` has a QoS of its own."""
    if not filters:
        raise ValueError("give at least one topic filter to subscribe to")
    return [each if isinstance(each, Subscription) else Subscription(each, qos) for each in filters]
