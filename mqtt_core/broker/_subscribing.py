"""SUBSCRIBE and UNSUBSCRIBE: what is granted, and what is said about the rest (3.8, 3.10)."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import (
    MQTT_5,
    NO_SUBSCRIPTION_EXISTED,
    NOT_AUTHORIZED,
    PACKET_TOO_LARGE,
    QUOTA_EXCEEDED,
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
    SUCCESS,
    TOPIC_FILTER_INVALID,
    UNSPECIFIED_ERROR,
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
)
from mqtt_core._encode import encode
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._packets import SubAck, Subscribe, Subscription, UnsubAck, Unsubscribe
from mqtt_core._particulars import Options, make_options
from mqtt_core._properties import SUBSCRIPTION_IDENTIFIER, number
from mqtt_core._store import DeleteSubscription, Operation, SaveSubscription
from mqtt_core._topics import has_wildcard
from mqtt_core.broker._auth import ASK, DENY, SUBSCRIBE_ACTION
from mqtt_core.broker._authorizing import Authorizer
from mqtt_core.broker._bursts import Bursts, is_stored
from mqtt_core.broker._channel import Channel
from mqtt_core.broker._gating import Gating, Reversible
from mqtt_core.broker._router import (
    is_malformed_share,
    is_shared,
    subscription_cost,
    unshared,
)
from mqtt_core.broker._session import RetainedBurst, Session
from mqtt_core.broker._workspace import Workspace

_LEVELS_PER_FILTER: Final = 16
_ANSWER_AROUND_BYTES: Final = 12  # what SUBACK has beside its reason codes, at most
_ONLY_IF_NEW: Final = 1  # retain handling (3.8.3.1)
_NEVER: Final = 2


@final
class Granting(Reversible):
    """The subscriptions of one SUBSCRIBE, which are there already, and what was there before."""

    __slots__ = (
        "due",
        "_ws",
        "_bursts",
        "_session",
        "_level",
        "_packet_id",
        "_reasons",
        "_before",
        "_interrupted",
    )

    def __init__(
        self,
        workspace: Workspace,
        bursts: Bursts,
        session: Session,
        level: int,
        packet_id: int,
        reasons: list[int],
    ) -> None:
        self.due: Final[list[bytes]] = []  # filters that are stored with retained messages to come
        self._ws: Final = workspace
        self._bursts: Final = bursts
        self._session: Final = session
        self._level: Final = level
        self._packet_id: Final = packet_id
        self._reasons: Final = reasons  # of its SUBACK, once all is stored
        self._before: Final[dict[bytes, tuple[int, Options | None] | None]] = {}
        self._interrupted: Final[list[RetainedBurst]] = []

    def note(self, topic_filter: bytes) -> None:
        """A filter is about to be subscribed to."""
        session = self._session
        if topic_filter in self._before:
            return
        subscriber = session.subscriptions.get(topic_filter)
        known = None if subscriber is None else (subscriber.qos, subscriber.options)
        self._before[topic_filter] = known
        if session.bursts is not None and topic_filter in session.bursts:
            self._interrupted.append(session.bursts[topic_filter])
        if session.granting is None:
            session.granting = {}
        session.granting[topic_filter] = self

    def keep(self) -> None:
        """It is stored."""
        self._forget()
        for topic_filter in self.due:
            self._bursts.settle(self._session, topic_filter)

    def take_back(self) -> bytes:
        """As it was before; the SUBACK refuses. Empty if something else has happened to one of the
        filters since."""
        is_changed = self._forget() < len(self._before)
        if is_changed:
            return b""
        session = self._session
        router = self._ws.router
        for topic_filter, known in self._before.items():
            self._bursts.stop(session, topic_filter)
            if known is None:
                router.unsubscribe(session, topic_filter)
            else:
                router.subscribe(session, topic_filter, known[0], known[1])
        for burst in self._interrupted:
            self._bursts.go_on(session, burst)
        reasons = [each if each >= UNSPECIFIED_ERROR else QUOTA_EXCEEDED for each in self._reasons]
        return encode(SubAck(self._packet_id, tuple(reasons)), self._level)

    def _forget(self) -> int:
        """It is decided; returns to how many of its filters nothing has happened since."""
        granting = self._session.granting
        count = 0
        if granting is not None:
            for topic_filter in self._before:
                if granting.get(topic_filter) is self:
                    del granting[topic_filter]
                    count += 1
            if not granting:
                self._session.granting = None
        return count


@final
class Subscribing:
    """Takes subscriptions and takes them back."""

    __slots__ = ("_ws", "_bursts", "_authorizer", "_gating")

    def __init__(
        self, workspace: Workspace, bursts: Bursts, authorizer: Authorizer, gating: Gating
    ) -> None:
        self._ws: Final = workspace
        self._bursts: Final = bursts
        self._authorizer: Final = authorizer
        self._gating: Final = gating

    def subscribe(self, channel: Channel, session: Session, packet: Subscribe) -> bool:
        """Take a SUBSCRIBE; False when it must wait for a verdict first."""
        served = self._count_served(packet)
        denied: set[int] = set()
        if not session.is_unrestricted:
            for at, subscription in enumerate(packet.subscriptions[:served]):
                utf8 = subscription.topic_filter.encode()
                if is_malformed_share(utf8):
                    continue  # refused in any case
                utf8 = unshared(utf8)
                verdict = self._authorizer.check(
                    channel, session, SUBSCRIBE_ACTION, utf8, subscription.qos, False
                )
                if verdict == ASK:
                    return False
                if verdict == DENY:
                    denied.add(at)
        ws = self._ws
        ws.allowance -= len(packet.subscriptions)
        identifier = number(packet.properties, SUBSCRIPTION_IDENTIFIER, 0)
        if channel.connection.level == MQTT_5:
            self._check_announced(packet, identifier)
            _check_answer(channel, len(packet.subscriptions))
        reasons: list[int] = []
        operations: list[Operation] = []
        wanted: list[tuple[bytes, int, Options | None]] = []  # for which retained ones are sent
        level = channel.connection.level
        granting: Granting | None = None
        if session.key:
            granting = Granting(ws, self._bursts, session, level, packet.packet_id, reasons)
        for at, subscription in enumerate(packet.subscriptions):
            utf8 = subscription.topic_filter.encode()
            reason = QUOTA_EXCEEDED
            if at in denied:
                reason = NOT_AUTHORIZED
            elif at < served:
                reason = self._check(session, utf8)
            if reason:
                reasons.append(reason)  # [v3 MQTT-3.8.4-5] [MQTT-3.8.4-6]
                continue
            qos = min(subscription.qos, ws.limits.maximum_qos)  # [MQTT-3.8.4-7]
            options = make_options(
                subscription.no_local, subscription.retain_as_published, identifier
            )
            if granting is not None:
                granting.note(utf8)
            is_new = ws.router.subscribe(session, utf8, qos, options)
            reasons.append(qos)
            is_wanted = _wants_retained(subscription, is_new)
            if is_wanted:
                wanted.append((utf8, qos, options))
            if granting is not None:
                is_due = is_wanted or (session.bursts is not None and utf8 in session.bursts)
                is_due = is_due and is_stored(session, utf8, qos)
                if is_due:
                    granting.due.append(utf8)
                operations.append(SaveSubscription(session.key, utf8, qos, options, is_due))
        # One SUBACK, its codes in the order of the filters.
        # [v3 MQTT-3.8.4-1] [v3 MQTT-3.8.4-2] [v3 MQTT-3.8.4-4] [v3 MQTT-3.9.3-1]
        # [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.9.3-1]
        suback = SubAck(packet.packet_id, tuple(reasons))
        self._gating.ack_when_stored(channel, encode(suback, level), operations, granting)
        for utf8, qos, options in wanted:
            self._bursts.start(session, channel, utf8, qos, options)
        return True

    def _count_served(self, packet: Subscribe) -> int:
        """How many filters are looked at: a packet is handled as a whole, so its work is bounded
        by the number of filters and, for deep ones, of their levels."""
        limit = self._ws.limits.max_filters_per_packet
        levels_left = limit * _LEVELS_PER_FILTER
        for at, subscription in enumerate(packet.subscriptions):
            levels_left -= subscription.topic_filter.count("/") + 1
            if at >= limit or levels_left < 0:
                return at
        return len(packet.subscriptions)

    def _check_announced(self, packet: Subscribe, identifier: int) -> None:
        """Raise `RemoteProtocolError` for what CONNACK has said is not available."""
        limits = self._ws.limits
        if identifier and not limits.subscription_identifiers:
            raise RemoteProtocolError(
                "subscription identifiers are not available",
                "P5-3.2.2-15",
                reason=SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
            )
        for subscription in packet.subscriptions:
            utf8 = subscription.topic_filter.encode()
            if is_shared(utf8) and not limits.shared_subscriptions:
                raise RemoteProtocolError(
                    "shared subscriptions are not available",
                    "P5-3.2.2-17",
                    reason=SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
                )
            if has_wildcard(utf8) and not limits.wildcard_subscriptions:
                raise RemoteProtocolError(
                    "filters with wildcards are not available",
                    "P5-3.2.2-13",
                    reason=WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
                )

    def _check(self, session: Session, topic_filter: bytes) -> int:
        """Why a subscription is not served; `SUCCESS` if it is.  [MQTT-3.9.3-2]"""
        limits = self._ws.limits
        if is_malformed_share(topic_filter):  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
            return TOPIC_FILTER_INVALID
        if is_shared(topic_filter) and not limits.shared_subscriptions:
            return SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if not limits.wildcard_subscriptions and has_wildcard(topic_filter):
            return WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED  # [v3 MQTT-3.8.3-2]
        if unshared(topic_filter).count(b"/") >= limits.max_topic_levels:
            return TOPIC_FILTER_INVALID
        if topic_filter in session.subscriptions:
            return SUCCESS
        router = self._ws.router
        has_room = (
            len(session.subscriptions) < limits.max_subscriptions_per_session
            and router.count < limits.max_subscriptions
            and router.size_bytes + subscription_cost(topic_filter)
            <= limits.total_subscription_bytes
        )
        return SUCCESS if has_room else QUOTA_EXCEEDED

    def unsubscribe(self, channel: Channel, session: Session, packet: Unsubscribe) -> None:
        """Take an UNSUBSCRIBE."""
        if channel.connection.level == MQTT_5:
            _check_answer(channel, len(packet.topic_filters))
        self._ws.allowance -= len(packet.topic_filters)
        operations: list[Operation] = []
        reasons: list[int] = []
        for topic_filter in packet.topic_filters:
            utf8 = topic_filter.encode()
            was_there = self._ws.router.unsubscribe(session, utf8)
            reasons.append(SUCCESS if was_there else NO_SUBSCRIPTION_EXISTED)
            if was_there:
                self._bursts.stop(session, utf8)
                if session.granting is not None:
                    session.granting.pop(utf8, None)
                if session.key:
                    operations.append(DeleteSubscription(session.key, utf8))
        # Answered whether or not anything was deleted.
        # [v3 MQTT-3.10.4-4] [v3 MQTT-3.10.4-5] [v3 MQTT-3.10.4-6]
        # [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
        level = channel.connection.level
        unsuback = UnsubAck(packet.packet_id, tuple(reasons) if level == MQTT_5 else ())
        self._gating.ack_when_stored(channel, encode(unsuback, level), operations)


def _check_answer(channel: Channel, count: int) -> None:
    """Raise `RemoteProtocolError` where the client does not take the answer to so many filters,
    before anything is done of what it asks for.  [MQTT-3.1.2-24]"""
    most = channel.connection.peer.maximum_packet_size
    if most >= count + _ANSWER_AROUND_BYTES:
        return
    if len(encode(SubAck(1, (SUCCESS,) * count), MQTT_5)) > most:
        raise RemoteProtocolError(
            "the answer is larger than the client takes", "MQTT-3.1.2-24", reason=PACKET_TOO_LARGE
        )


def _wants_retained(subscription: Subscription, is_new: bool) -> bool:
    """Whether retained messages are sent for a subscription (3.3.1.3).

    [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    """
    handling = subscription.retain_handling
    if handling == _NEVER or (handling == _ONLY_IF_NEW and not is_new):
        return False
    return not is_shared(subscription.topic_filter.encode())
