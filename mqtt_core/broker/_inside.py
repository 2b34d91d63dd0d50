"""A client inside the program: it publishes and subscribes without a socket.

It is a client like any other, joined to its channel by memory instead of a transport. So what
binds the others binds it too: QoS, retained messages, order, limits, expiry, the store, the
queue of its session and the policy of that queue. It differs in three things: nobody is asked
whether it may, it is never silent for too long, and what it sends waits for the next turn, so
that it may send in the middle of a call without anything being routed within that call.

Its messages stay in the output of its channel, then in the queue of its session, until the
program takes them. A program that is slow is so in the same way as a socket that is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final, final

from mqtt_core._codes import MQTT_5, UNSPECIFIED_ERROR
from mqtt_core._connection import Connection
from mqtt_core._errors import LocalProtocolError
from mqtt_core._packets import (
    Connect,
    Packet,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    SubAck,
    Subscription,
)
from mqtt_core._properties import NO_PROPERTIES, Properties
from mqtt_core._state import CLIENT, CONNECTED
from mqtt_core.broker._causes import cause_reason
from mqtt_core.broker._channel import CLOSE_NO, Channel
from mqtt_core.broker._publishing import is_text_if_said_so
from mqtt_core.broker._work import Work
from mqtt_core.broker._workspace import WAIT_NO, Workspace

if TYPE_CHECKING:
    from mqtt_core.broker._broker import Broker

INSIDE: Final = "inside"
"""The listener and the peer of such a client, in facts."""


@final
class Outcome(Packet):
    """What has become of a PUBLISH or SUBSCRIBE: its packet identifier and the broker's reason
    codes, one for each filter of a SUBSCRIBE."""

    FIELDS: ClassVar[tuple[str, ...]] = ("packet_id", "reasons")
    __match_args__: ClassVar[tuple[str, ...]] = ("packet_id", "reasons")

    def __init__(self, packet_id: int, reasons: tuple[int, ...]) -> None:
        self.packet_id: Final = packet_id
        self.reasons: Final = reasons


@final
class Inside(Work):
    """A client of MQTT 5.0 without a transport, connected from the beginning.

    `channel` is its channel, whose `transport` is the adapter's, as for any other: `flush` is
    called when there is something to take, and when `has_ended` has become true. After that the
    adapter calls `channel.eof`, once.
    """

    __slots__ = ("channel", "_broker", "_ws", "_client", "_messages", "_outcomes")

    def __init__(
        self, broker: Broker, workspace: Workspace, channel: Channel, client_id: str
    ) -> None:
        super().__init__()
        limits = workspace.limits
        self.channel: Final = channel
        self._broker: Final = broker
        self._ws: Final = workspace
        self._client: Final = Connection(
            CLIENT,
            topics=workspace.topics,
            writers=workspace.writers,
            max_user_properties=limits.max_user_properties,
            max_property_bytes=limits.max_property_bytes,
            now=workspace.now,
        )
        self._messages: list[Publish] = []
        self._outcomes: list[Outcome] = []
        self._client.send_connect(Connect(client_id, level=MQTT_5, keep_alive_s=0), workspace.now)

    @property
    def has_ended(self) -> bool:
        """Whether the broker takes nothing more from it, and has nothing more for it."""
        return self.channel.close != CLOSE_NO

    @property
    def end_reason(self) -> int:
        """Why it has ended, as a reason code of MQTT 5.0."""
        return cause_reason(self.channel.cause)

    # Towards the broker

    def has_room(self, qos: int) -> bool:
        """Whether a message may be published now: fewer than `output_budget_bytes` wait for
        their turn, and at QoS 1 and 2 fewer messages than the receive maximum have no answer.

        `flush` is called when there may be room again.
        """
        client = self._client
        waiting = client.output.size_bytes + self.channel.connection.buffer.size_bytes
        if waiting >= self._ws.limits.output_budget_bytes:
            return False
        flow = client.flow
        return qos == 0 or flow is None or flow.in_flight < client.peer.receive_maximum

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> int:
        """Publish a message in the next turn; returns its packet identifier, 0 at QoS 0.

        At QoS 1 and 2 an `Outcome` follows, once the message is with its receivers and what must
        be stored is. Raises `LocalProtocolError` for what the broker would not take, and where
        there is no room.
        """
        limits = self._ws.limits
        if topic == "$SYS" or topic.startswith("$SYS/"):
            raise LocalProtocolError("the topics below $SYS are the broker's own")
        if topic.count("/") >= limits.max_topic_levels:
            raise LocalProtocolError(f"the topic has more than {limits.max_topic_levels} levels")
        if limits.validate_payload_format and not is_text_if_said_so(properties, payload):
            raise LocalProtocolError("the payload is not UTF-8, as its properties say")
        if not self.has_room(qos):
            raise LocalProtocolError("too many messages wait for the broker: publish it later")
        packet_id = self._client.send_publish(
            topic, payload, qos, retain, now=self._ws.now, properties=properties
        )
        self._ws.queue_work(self)
        return packet_id

    def subscribe(self, subscriptions: Sequence[Subscription]) -> int:
        """Subscribe in the next turn; returns the packet identifier of the `Outcome`.

        Raises `LocalProtocolError` for filters that are none, or that the broker does not serve.
        """
        packet_id = self._client.send_subscribe(subscriptions, self._ws.now)
        self._ws.queue_work(self)
        return packet_id

    def disconnect(self) -> None:
        """End it in the next turn, behind what it has published. May be repeated."""
        if self._client.state == CONNECTED:
            self._client.send_disconnect(self._ws.now)
            self._ws.queue_work(self)

    def first_bytes(self) -> bytes:
        """Its CONNECT."""
        return self._client.data_to_send()

    def run(self) -> bool:
        """Hand over what has been sent since the last turn."""
        ws = self._ws
        channel = self.channel
        data = self._client.data_to_send()
        while data and channel.close == CLOSE_NO:
            ws.stats.bytes_received += len(data)
            channel.connection.feed(data, ws.now)
            data = self._client.data_to_send()
        if channel.wait != WAIT_NO or channel.is_queued:
            channel.wants_read = False
        elif not self._broker.run_input(channel):
            ws.queue_work(channel)
        ws.mark_dirty(channel)  # there may be room again
        return True

    # From the broker

    def receive(self) -> None:
        """Take what the broker has sent; a message is acknowledged with that."""
        client = self._client
        data = self.channel.data_to_send()
        while data:
            client.receive_data(data, self._ws.now)
            data = self.channel.data_to_send()
        for packet in client.events():
            if isinstance(packet, Publish):
                self._messages.append(packet)
            elif isinstance(packet, PubAck | PubComp):
                self._outcomes.append(Outcome(packet.packet_id, (packet.reason,)))
            elif isinstance(packet, PubRec):
                if packet.reason >= UNSPECIFIED_ERROR:  # no PUBCOMP follows  [MQTT-4.3.3-4]
                    self._outcomes.append(Outcome(packet.packet_id, (packet.reason,)))
            elif isinstance(packet, SubAck):
                self._outcomes.append(Outcome(packet.packet_id, packet.reasons))
        if not client.output.is_empty:
            self._ws.queue_work(self)

    def take_messages(self) -> list[Publish]:
        """The messages received since the last call, in order."""
        messages = self._messages
        self._messages = []
        return messages

    def take_outcomes(self) -> list[Outcome]:
        """What has been decided since the last call, in order."""
        outcomes = self._outcomes
        self._outcomes = []
        return outcomes
