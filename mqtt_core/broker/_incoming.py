"""Packets of connected clients: which part of the broker each goes to.

A packet may have to wait for a verdict on a topic. It is then held and handled again from its
beginning, so nothing is done before the last verdict is there.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from mqtt_core._codes import PROTOCOL_ERROR, SUBACK_FAILURE
from mqtt_core._encode import PINGRESP_BYTES, encode_suback
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._flow import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    STORING_PUBREL,
    Flow,
)
from mqtt_core._packets import (
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Unsubscribe,
)
from mqtt_core._topics import has_wildcard
from mqtt_core.broker._auth import ASK, DENY, SUBSCRIBE_ACTION
from mqtt_core.broker._authorizing import Authorizer
from mqtt_core.broker._bursts import Bursts
from mqtt_core.broker._causes import CLIENT_DISCONNECTED, STORE_FAILED
from mqtt_core.broker._channel import Channel, GatedAck
from mqtt_core.broker._committing import Committing
from mqtt_core.broker._connecting import Connecting
from mqtt_core.broker._endings import Endings
from mqtt_core.broker._facts import FACT_ERROR
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._publishing import Publishing
from mqtt_core.broker._router import subscription_cost
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import Session
from mqtt_core.broker._store import (
    Completion,
    DeleteSubscription,
    Failed,
    Operation,
    ReleaseIdentifier,
    SaveSubscription,
    Settle,
    Write,
)
from mqtt_core.broker._workspace import Workspace

_LEVELS_PER_FILTER: Final = 16
_OPERATION_BYTES: Final = 300  # what an operation on a subscription counts while it is stored


@final
class Incoming:
    """Handles the packets of clients."""

    __slots__ = (
        "_ws",
        "_sending",
        "_publishing",
        "_committing",
        "_bursts",
        "_authorizer",
        "_connecting",
        "_endings",
    )

    def __init__(
        self,
        workspace: Workspace,
        sending: Sending,
        publishing: Publishing,
        committing: Committing,
        bursts: Bursts,
        authorizer: Authorizer,
        connecting: Connecting,
        endings: Endings,
    ) -> None:
        self._ws: Final = workspace
        self._sending: Final = sending
        self._publishing: Final = publishing
        self._committing: Final = committing
        self._bursts: Final = bursts
        self._authorizer: Final = authorizer
        self._connecting: Final = connecting
        self._endings: Final = endings

    def handle(self, channel: Channel, packet: Packet) -> bool:
        """Handle a packet; False when it must wait for a verdict."""
        session = channel.session
        if session is None:
            assert isinstance(packet, Connect)  # nothing else is read before CONNACK
            self._connecting.accept(channel, packet)
            return True
        if isinstance(packet, Publish):
            return self._publishing.accept(channel, session, packet)
        if isinstance(packet, PubAck):
            self._take_puback(session, packet.packet_id)
        elif isinstance(packet, PubRec):
            self._take_pubrec(channel, session, packet.packet_id)
        elif isinstance(packet, PubRel):
            self._take_pubrel(channel, session, packet.packet_id)
        elif isinstance(packet, PubComp):
            self._take_pubcomp(session, packet.packet_id)
        elif isinstance(packet, PingReq):
            self._ws.answer_with(channel, PINGRESP_BYTES)  # [v3 MQTT-3.12.4-1]
        elif isinstance(packet, Subscribe):
            return self._take_subscribe(channel, session, packet)
        elif isinstance(packet, Unsubscribe):
            self._take_unsubscribe(channel, session, packet)
        else:
            assert isinstance(packet, Disconnect)  # all that is left of what a client may send
            self._endings.end(channel, CLIENT_DISCONNECTED)
        return True

    # Acknowledgements of what was sent

    def _expect(self, session: Session, packet_id: int, step: int) -> Flow:
        flow = session.flow
        if flow is None or flow.step(packet_id) != step:
            raise RemoteProtocolError(
                f"nothing was sent with packet identifier {packet_id} that this acknowledges",
                "MQTT-2.3.1-6",
                reason=PROTOCOL_ERROR,
            )
        return flow

    def _take_puback(self, session: Session, packet_id: int) -> None:
        flow = self._expect(session, packet_id, AWAITING_PUBACK)
        self._settle(session, flow, packet_id)

    def _take_pubcomp(self, session: Session, packet_id: int) -> None:
        flow = self._expect(session, packet_id, AWAITING_PUBCOMP)
        self._settle(session, flow, packet_id)

    def _settle(self, session: Session, flow: Flow, packet_id: int) -> None:
        number = self._sending.finish(session, flow, packet_id)
        if number:
            self._ws.record(Settle(session.key, number))
        if session.has_waiting and session.channel is not None:
            self._ws.mark_dirty(session.channel)

    def _take_pubrec(self, channel: Channel, session: Session, packet_id: int) -> None:
        flow = session.flow
        step = 0 if flow is None else flow.step(packet_id)
        if step == STORING_PUBREL:
            return  # a repeat: PUBREL is on its way
        if step != AWAITING_PUBCOMP:
            flow = self._expect(session, packet_id, AWAITING_PUBREC)
            if session.key:
                flow.advance(packet_id, STORING_PUBREL)
                self._sending.release(session, packet_id)
                return
            flow.advance(packet_id, AWAITING_PUBCOMP)
        self._ws.answer(channel, 0x62, packet_id)  # [v3 MQTT-4.3.3-1]

    def _take_pubrel(self, channel: Channel, session: Session, packet_id: int) -> None:
        """PUBREL is answered even for an identifier that is not known: it may be a repeat whose
        PUBCOMP was lost (4.3.3)."""
        flow = session.flow
        was_held = flow is not None and flow.release(packet_id)
        if was_held:
            self._ws.held_identifiers -= 1
        if was_held and session.key:
            operation = ReleaseIdentifier(session.key, packet_id)
            self._ack_when_stored(channel, b"\x70\x02" + packet_id.to_bytes(2, "big"), [operation])
        elif channel.acks is not None:
            data = b"\x70\x02" + packet_id.to_bytes(2, "big")
            channel.acks.append(GatedAck(data, True))
            self._ws.pause_if_behind(channel)
        else:
            self._ws.answer(channel, 0x70, packet_id)

    def _ack_when_stored(self, channel: Channel, data: bytes, operations: list[Operation]) -> None:
        """Send `data` in its turn, once `operations` are stored."""
        ws = self._ws
        if not operations and channel.acks is None:
            ws.answer_with(channel, data)
            return
        ack = GatedAck(data, not operations)
        if channel.acks is None:
            channel.acks = deque()
        channel.acks.append(ack)
        ws.pause_if_behind(channel)
        if operations:
            request_id = ws.next_id()
            size = len(operations) * _OPERATION_BYTES
            ws.submit(Write(request_id, operations), PendingAck(self, channel, ack, size))
            ws.hold_back(channel, size)

    def stored(self, channel: Channel, ack: GatedAck, size_bytes: int) -> None:
        """What an acknowledgement rests on is stored."""
        ack.is_ready = True
        self._committing.send_acks(channel)
        self._ws.let_go(channel, size_bytes)

    def not_stored(self, channel: Channel, failure: Failed, size_bytes: int) -> None:
        """The store has refused it.  [v3 MQTT-4.8.0-2]"""
        ws = self._ws
        ws.let_go(channel, size_bytes)
        ws.stats.store_failures += 1
        ws.tell("store.failed", channel, severity=FACT_ERROR, detail=failure.reason)
        if channel.is_open:
            ws.doomed.append((channel, STORE_FAILED))

    # Subscriptions

    def _take_subscribe(self, channel: Channel, session: Session, packet: Subscribe) -> bool:
        served = self._count_served(packet)
        denied: set[int] = set()
        if not session.is_unrestricted:
            for at, subscription in enumerate(packet.subscriptions[:served]):
                utf8 = subscription.topic_filter.encode()
                verdict = self._authorizer.check(channel, session, SUBSCRIBE_ACTION, utf8)
                if verdict == ASK:
                    return False
                if verdict == DENY:
                    denied.add(at)
        self._ws.allowance -= len(packet.subscriptions)
        reasons: list[int] = []
        operations: list[Operation] = []
        granted: list[tuple[bytes, int]] = []
        for at, subscription in enumerate(packet.subscriptions):
            utf8 = subscription.topic_filter.encode()
            if at >= served or at in denied or not self._is_within_limits(session, utf8):
                reasons.append(SUBACK_FAILURE)  # [v3 MQTT-3.8.4-5]
                continue
            qos = subscription.qos
            self._ws.router.subscribe(session, utf8, qos)
            granted.append((utf8, qos))
            reasons.append(qos)
            if session.key:
                operations.append(SaveSubscription(session.key, utf8, qos))
        # One SUBACK, its codes in the order of the filters.
        # [v3 MQTT-3.8.4-1] [v3 MQTT-3.8.4-2] [v3 MQTT-3.8.4-4] [v3 MQTT-3.9.3-1]
        suback = encode_suback(SubAck(packet.packet_id, tuple(reasons)))
        self._ack_when_stored(channel, suback, operations)
        for utf8, qos in granted:
            self._bursts.start(session, channel, utf8, qos)
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

    def _is_within_limits(self, session: Session, topic_filter: bytes) -> bool:
        limits = self._ws.limits
        if not limits.wildcard_subscriptions and has_wildcard(topic_filter):
            return False  # [v3 MQTT-3.8.3-2]
        if topic_filter.count(b"/") >= limits.max_topic_levels:
            return False
        if topic_filter in session.subscriptions:
            return True
        router = self._ws.router
        return (
            len(session.subscriptions) < limits.max_subscriptions_per_session
            and router.count < limits.max_subscriptions
            and router.size_bytes + subscription_cost(topic_filter)
            <= limits.total_subscription_bytes
        )

    def _take_unsubscribe(self, channel: Channel, session: Session, packet: Unsubscribe) -> None:
        self._ws.allowance -= len(packet.topic_filters)
        operations: list[Operation] = []
        for topic_filter in packet.topic_filters:
            utf8 = topic_filter.encode()
            if self._ws.router.unsubscribe(session, utf8):
                self._bursts.stop(session, utf8)
                if session.key:
                    operations.append(DeleteSubscription(session.key, utf8))
        # Answered whether or not anything was deleted.
        # [v3 MQTT-3.10.4-4] [v3 MQTT-3.10.4-5] [v3 MQTT-3.10.4-6]
        unsuback = b"\xb0\x02" + packet.packet_id.to_bytes(2, "big")
        self._ack_when_stored(channel, unsuback, operations)


@final
class PendingAck(Pending):
    """Goes on when what an acknowledgement rests on is stored."""

    __slots__ = ("_incoming", "_channel", "_ack", "_size_bytes")

    def __init__(
        self, incoming: Incoming, channel: Channel, ack: GatedAck, size_bytes: int
    ) -> None:
        self._size_bytes: Final = size_bytes
        self._incoming: Final = incoming
        self._channel: Final = channel
        self._ack: Final = ack

    def done(self, completion: Completion) -> None:
        """Send it, if it is its turn."""
        self._incoming.stored(self._channel, self._ack, self._size_bytes)

    def failed(self, failure: Failed) -> None:
        """Close the connection."""
        self._incoming.not_stored(self._channel, failure, self._size_bytes)
