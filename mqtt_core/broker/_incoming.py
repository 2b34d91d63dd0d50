"""Packets of connected clients: which part of the broker each goes to.

A packet may have to wait for a verdict on a topic. It is then held and handled again from its
beginning, so nothing is done before the last verdict is there.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import (
    PACKET_IDENTIFIER_NOT_FOUND,
    PROTOCOL_ERROR,
    SUCCESS,
    UNSPECIFIED_ERROR,
    reason_name,
)
from mqtt_core._encode import PINGRESP_BYTES
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._flow import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    FREE,
    STORING_PUBREL,
    Flow,
)
from mqtt_core._packets import (
    Auth,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
)
from mqtt_core._properties import SESSION_EXPIRY_INTERVAL, number
from mqtt_core._store import ReleaseIdentifier
from mqtt_core.broker._causes import CLIENT_DISCONNECTED, DISCONNECTED_WITH_WILL
from mqtt_core.broker._channel import LAYOUT_3, Channel, GatedAck
from mqtt_core.broker._connecting import Connecting
from mqtt_core.broker._endings import Endings
from mqtt_core.broker._exchanging import Exchanging
from mqtt_core.broker._gating import Gating
from mqtt_core.broker._publishing import Publishing
from mqtt_core.broker._sending import Sending
from mqtt_core.broker._session import Session
from mqtt_core.broker._subscribing import Subscribing
from mqtt_core.broker._workspace import Workspace


@final
class Incoming:
    """Handles the packets of clients."""

    __slots__ = (
        "_ws",
        "_sending",
        "_publishing",
        "_subscribing",
        "_gating",
        "_connecting",
        "_exchanging",
        "_endings",
    )

    def __init__(
        self,
        workspace: Workspace,
        sending: Sending,
        publishing: Publishing,
        subscribing: Subscribing,
        gating: Gating,
        connecting: Connecting,
        exchanging: Exchanging,
        endings: Endings,
    ) -> None:
        self._ws: Final = workspace
        self._sending: Final = sending
        self._publishing: Final = publishing
        self._subscribing: Final = subscribing
        self._gating: Final = gating
        self._connecting: Final = connecting
        self._exchanging: Final = exchanging
        self._endings: Final = endings

    def handle(self, channel: Channel, packet: Packet) -> bool:
        """Handle a packet; False when it must wait for a verdict."""
        session = channel.session
        if session is None:
            if isinstance(packet, Connect):
                self._connecting.accept(channel, packet)
                if channel.attempt is not None and channel.connection.exchange is not None:
                    self._exchanging.begin(channel)
            elif isinstance(packet, Auth):
                self._exchanging.take(channel, packet)
            else:
                assert isinstance(packet, Disconnect)  # all that is left before CONNACK
                self._endings.end(channel, CLIENT_DISCONNECTED)
            return True
        if isinstance(packet, Publish):
            return self._publishing.accept(channel, session, packet)
        if isinstance(packet, PubAck):
            self._take_puback(channel, session, packet.packet_id)
        elif isinstance(packet, PubRec):
            self._take_pubrec(channel, session, packet)
        elif isinstance(packet, PubRel):
            self._take_pubrel(channel, session, packet.packet_id)
        elif isinstance(packet, PubComp):
            if packet.reason != PACKET_IDENTIFIER_NOT_FOUND or self._is_in_use(session, packet):
                self._take_pubcomp(channel, session, packet.packet_id)
        elif isinstance(packet, PingReq):
            self._ws.answer_with(channel, PINGRESP_BYTES)  # [v3 MQTT-3.12.4-1]
        elif isinstance(packet, Subscribe):
            return self._subscribing.subscribe(channel, session, packet)
        elif isinstance(packet, Unsubscribe):
            self._subscribing.unsubscribe(channel, session, packet)
        elif isinstance(packet, Auth):
            self._exchanging.take(channel, packet)
        else:
            assert isinstance(packet, Disconnect)  # all that is left of what a client may send
            self._take_disconnect(channel, session, packet)
        return True

    def _take_disconnect(self, channel: Channel, session: Session, packet: Disconnect) -> None:
        """The client's last word: whether its will is wanted, and how long its session is."""
        expiry_s = number(packet.properties, SESSION_EXPIRY_INTERVAL, -1)
        if expiry_s >= 0:
            session.expiry_s = min(expiry_s, self._ws.limits.session_timeout_secs)
        cause = CLIENT_DISCONNECTED if packet.reason == SUCCESS else DISCONNECTED_WITH_WILL
        detail = "" if packet.reason == SUCCESS else reason_name(packet.reason)
        self._endings.end(channel, cause, detail=detail)

    # Acknowledgements of what was sent

    def _expect(self, channel: Channel, session: Session, packet_id: int, step: int) -> Flow:
        flow = session.flow
        if flow is None or flow.step(packet_id) != step:
            raise RemoteProtocolError(
                f"nothing was sent with packet identifier {packet_id} that this acknowledges",
                "MQTT-2.3.1-6" if channel.layout == LAYOUT_3 else "MQTT-2.2.1-5",
                reason=PROTOCOL_ERROR,
            )
        return flow

    def _take_puback(self, channel: Channel, session: Session, packet_id: int) -> None:
        flow = self._expect(channel, session, packet_id, AWAITING_PUBACK)
        self._sending.settle(session, flow, packet_id)

    def _is_in_use(self, session: Session, packet: PubComp) -> bool:
        """False for the answer to a PUBREL that said itself that there is no such message."""
        flow = session.flow
        return flow is not None and flow.step(packet.packet_id) != FREE

    def _take_pubcomp(self, channel: Channel, session: Session, packet_id: int) -> None:
        flow = self._expect(channel, session, packet_id, AWAITING_PUBCOMP)
        self._sending.settle(session, flow, packet_id)

    def _take_pubrec(self, channel: Channel, session: Session, packet: PubRec) -> None:
        packet_id = packet.packet_id
        flow = session.flow
        step = 0 if flow is None else flow.step(packet_id)
        if packet.reason >= UNSPECIFIED_ERROR:  # the client does not take it: no PUBREL
            flow = self._expect(channel, session, packet_id, AWAITING_PUBREC)
            self._sending.settle(session, flow, packet_id)
            return
        if step == 0 and channel.layout != LAYOUT_3:  # [MQTT-3.6.2-1]
            self._ws.answer(channel, 0x62, packet_id, PACKET_IDENTIFIER_NOT_FOUND)
            return
        if step == STORING_PUBREL:
            return  # a repeat: PUBREL is on its way
        self._sending.passes_its_turn(session, channel, packet_id)
        if step != AWAITING_PUBCOMP:
            flow = self._expect(channel, session, packet_id, AWAITING_PUBREC)
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
        reason = SUCCESS
        if was_held:
            self._ws.held_identifiers -= 1
            channel.exchange_ended()
        elif channel.layout != LAYOUT_3:
            reason = PACKET_IDENTIFIER_NOT_FOUND  # [MQTT-3.7.2-1]
        if was_held and session.key:
            operation = ReleaseIdentifier(session.key, packet_id)
            self._gating.ack_when_stored(channel, _pubcomp(packet_id, reason), [operation])
        elif channel.acks is not None:
            data = _pubcomp(packet_id, reason)
            channel.acks.append(GatedAck(data, True))
            self._ws.pause_if_behind(channel)
        else:
            self._ws.answer(channel, 0x70, packet_id, reason)


def _pubcomp(packet_id: int, reason: int) -> bytes:
    body = packet_id.to_bytes(2, "big")
    return b"\x70\x03" + body + bytes([reason]) if reason else b"\x70\x02" + body
