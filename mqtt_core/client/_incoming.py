"""Messages from the server: whose they are, and when they are acknowledged (4.3, 4.6).

A QoS 1 or 2 message is acknowledged when everybody whom it is for has taken it, and
acknowledgements leave in the order in which the messages came. So a server that keeps to the
receive maximum never has more here than that. A message that a server repeats on a later
connection of the same session, while it still waits here, is the same message.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from mqtt_core._codes import PACKET_IDENTIFIER_NOT_FOUND, SUCCESS
from mqtt_core._connection import Connection
from mqtt_core._packets import Publish, PubRel
from mqtt_core._store import HoldIdentifier, ReleaseIdentifier
from mqtt_core.client._desk import Desk
from mqtt_core.client._events import Unclaimed
from mqtt_core.client._keeping import Step
from mqtt_core.client._message import Acknowledger, Message, Receipt
from mqtt_core.client._subscriptions import Consumer, Subscriptions, matches

_PUBACK_BYTE: Final = 0x40
_PUBREC_BYTE: Final = 0x50


@final
class _Waiting:
    """A message that no subscription matches so far."""

    __slots__ = ("packet", "receipt", "until")

    def __init__(self, packet: Publish, receipt: Receipt | None, until: float) -> None:
        self.packet: Final = packet
        self.receipt: Final = receipt
        self.until: Final = until


@final
class Incoming:
    """What the server publishes, until the program has it.

    `acknowledger` carries an acknowledgement of the program here, for a client with `manual_acks`.
    """

    __slots__ = (
        "acknowledger",
        "failure",
        "_desk",
        "_subscriptions",
        "_receipts",
        "_in_order",
        "_holds",
        "_unclaimed",
    )

    def __init__(self, desk: Desk, subscriptions: Subscriptions) -> None:
        self.acknowledger: Acknowledger | None = None
        self.failure = ""  # why the store does not take what has to be stored
        self._desk: Final = desk
        self._subscriptions: Final = subscriptions
        self._receipts: Final[dict[int, Receipt]] = {}  # not acknowledged, by packet identifier
        self._in_order: deque[Receipt] = deque()  # of this connection, as they came
        self._holds = False  # whether this is a session of an earlier run of the program
        self._unclaimed: deque[_Waiting] = deque()

    @property
    def unacknowledged(self) -> int:
        """QoS 1 and 2 messages that are here and not acknowledged."""
        return len(self._receipts)

    @property
    def unanswered(self) -> int:
        """QoS 1 and 2 messages of this connection whose acknowledgement has not been sent.

        Those of an earlier one count when they come again. A server that has dropped them
        meanwhile, expired ones say, never sends them.
        """
        return len(self._in_order)

    def take_publish(self, connection: Connection, packet: Publish, now: float) -> None:
        """PUBLISH (3.3)."""
        desk = self._desk
        desk.counters.received += 1
        receipt: Receipt | None = None
        if packet.message.qos:
            if connection.inbound is not None:
                connection.count_unanswered(packet.packet_id)
            receipt = self._register(packet, now)
            if receipt is None:
                return
        consumers = self._subscriptions.consumers_of(packet)
        if not consumers:
            self._hold(packet, receipt, now)
            return
        if receipt is not None:
            receipt.open = len(consumers)
        for consumer in consumers:
            self._give(consumer, packet, receipt)

    def _give(self, consumer: Consumer, packet: Publish, receipt: Receipt | None) -> None:
        desk = self._desk
        limits = desk.limits
        dropped = consumer.put(
            Message(packet, receipt, self.acknowledger),
            limits.max_unread_messages,
            limits.max_unread_bytes,
        )
        if dropped:
            desk.counters.dropped_unread += dropped
        if consumer.waiter is not None:
            desk.told.tell(consumer)

    def _register(self, packet: Publish, now: float) -> Receipt | None:
        """What a QoS 1 or 2 message is acknowledged by; None for a repeat of one that is here.

        [MQTT-4.3.2-5] [MQTT-4.3.3-10]
        """
        desk = self._desk
        packet_id = packet.packet_id
        qos = packet.message.qos
        known = self._receipts.get(packet_id)
        if qos == 2:
            is_repeat = not desk.flow.hold(packet_id)
        else:
            is_repeat = (
                known is not None
                and packet.dup
                and known.qos == 1
                and known.content == packet.message
            )
        if is_repeat:
            desk.counters.repeats += 1
            if known is None:  # PUBREC has gone out for it, and was lost
                known = Receipt(packet_id, qos, packet.message, desk.epoch)
            elif known.epoch == desk.epoch:
                return None
            known.epoch = desk.epoch
            self._in_order.append(known)
            self.settle(now)
            return None
        receipt = Receipt(packet_id, qos, packet.message, desk.epoch)
        self._receipts[packet_id] = receipt
        self._in_order.append(receipt)
        return receipt

    def take_pubrel(self, connection: Connection, packet: PubRel, now: float) -> None:
        """PUBREL (3.6): the identifier of a QoS 2 message is free."""
        was_held = self._desk.flow.release(packet.packet_id)
        is_known = was_held or connection.inbound is None
        reason = SUCCESS if is_known else PACKET_IDENTIFIER_NOT_FOUND  # [MQTT-3.7.2-1]
        keeper = self._desk.keeper
        if was_held and keeper.is_on:
            released = ReleaseIdentifier(keeper.session, packet.packet_id)
            keeper.write([released], Released(self, packet.packet_id, self._desk.epoch))
            return
        connection.send_pubcomp(packet.packet_id, now, reason)  # [MQTT-4.3.3-11]

    def released(self, packet_id: int, epoch: int, now: float) -> None:
        """That an identifier is free is stored."""
        desk = self._desk
        if desk.connection is not None and desk.is_online and desk.epoch == epoch:
            desk.connection.send_pubcomp(packet_id, now)  # [MQTT-4.3.3-11]

    # To the program

    def take(self, consumer: Consumer, now: float) -> Message | None:
        """The next message for a consumer, which has it from then on."""
        message = consumer.take()
        if message is not None and not self._desk.settings.manual_acks:
            self.acknowledge(message, now)
        return message

    def acknowledge(self, message: Message, now: float) -> None:
        """The program has a message; harmless when it is said twice."""
        receipt = message.take_receipt()
        if receipt is not None:
            self._release(receipt, now)

    def _release(self, receipt: Receipt, now: float) -> None:
        receipt.open -= 1
        if receipt.open or self._receipts.get(receipt.packet_id) is not receipt:
            return  # others are to take it, or the session that it belonged to is lost
        keeper = self._desk.keeper
        if receipt.qos == 2 and keeper.is_on:
            receipt.is_storing = True
            keeper.write([HoldIdentifier(keeper.session, receipt.packet_id)], Held(self, receipt))
            return
        self.settle(now)

    def settle(self, now: float) -> None:
        """Acknowledge what may be acknowledged, in order.

        [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.3.2-4] [MQTT-4.3.3-8]
        """
        desk = self._desk
        connection = desk.connection
        if connection is None or not desk.is_online:
            return
        in_order = self._in_order
        while in_order and not (in_order[0].open or in_order[0].is_storing):
            receipt = in_order.popleft()
            packet_id = receipt.packet_id
            if self._receipts.get(packet_id) is receipt:
                del self._receipts[packet_id]
            first = _PUBACK_BYTE if receipt.qos == 1 else _PUBREC_BYTE
            connection.write_ack(first, packet_id, now)

    def drop_unread(self, messages: list[Message], now: float) -> None:
        """Nobody will take these any more: acknowledge them, and count them."""
        self._desk.counters.dropped_unread += len(messages)
        for message in messages:
            self.acknowledge(message, now)

    # Messages of a session that an earlier run of the program has left

    def _hold(self, packet: Publish, receipt: Receipt | None, now: float) -> None:
        """Nobody has subscribed to it: keep it a while if that may still come."""
        desk = self._desk
        limits = desk.limits
        if not self._holds or not limits.max_unclaimed_messages:
            desk.counters.dropped_unclaimed += 1
            self.settle(now)
            return
        if receipt is not None:
            receipt.open = 1
        self._unclaimed.append(_Waiting(packet, receipt, now + limits.unclaimed_timeout_s))
        if len(self._unclaimed) > limits.max_unclaimed_messages:
            self._drop_unclaimed(1, now)

    def offer(self, consumer: Consumer) -> None:
        """A new consumer gets those that it has subscribed to, in order."""
        if not self._unclaimed:
            return
        rest: deque[_Waiting] = deque()
        for held in self._unclaimed:
            if matches(consumer, held.packet.message.topic):
                self._give(consumer, held.packet, held.receipt)
            else:
                rest.append(held)
        self._unclaimed = rest

    @property
    def deadline(self) -> float | None:
        """When the oldest of them is given up."""
        return self._unclaimed[0].until if self._unclaimed else None

    def advance(self, now: float) -> None:
        """Give up those whose time is over."""
        count = 0
        for held in self._unclaimed:
            if held.until > now:
                break
            count += 1
        if count:
            self._drop_unclaimed(count, now)

    def _drop_unclaimed(self, count: int, now: float) -> None:
        desk = self._desk
        topic = self._unclaimed[0].packet.message.topic.name
        for _ in range(count):
            held = self._unclaimed.popleft()
            if held.receipt is not None:
                self._release(held.receipt, now)
        desk.counters.dropped_unclaimed += count
        desk.events.append(Unclaimed(count, topic))

    # From one connection to the next

    def begin(self, session_present: bool, is_first: bool) -> None:
        """The server has taken the client."""
        if is_first:
            self._holds = session_present
        if not session_present:
            self.lose_session()

    def lose_connection(self) -> None:
        """The connection is gone; the server will repeat what was not acknowledged."""
        self._in_order = deque()

    def lose_session(self) -> None:
        """The server has forgotten what it has sent: it is here, and nobody will repeat it."""
        self._receipts.clear()
        flow = self._desk.flow
        keeper = self._desk.keeper
        if flow.held and keeper.is_on:
            keeper.write(
                [ReleaseIdentifier(keeper.session, packet_id) for packet_id in sorted(flow.held)]
            )
        flow.held = None

    def restore(self) -> None:
        """Take up what an earlier run has left."""
        record = self._desk.keeper.record
        if record is not None and record.held:
            self._desk.flow.held = set(record.held)


@final
class Held(Step):
    """A PUBREC that may be sent when its identifier is stored.

    Where that is refused it is not sent, and on a later connection the server sends the message
    once more: it comes twice rather than not at all.
    """

    __slots__ = ("_incoming", "_receipt")

    def __init__(self, incoming: Incoming, receipt: Receipt) -> None:
        self._incoming: Final = incoming
        self._receipt: Final = receipt

    def stored(self, now: float) -> None:
        """It may be sent."""
        self._receipt.is_storing = False
        self._incoming.settle(now)

    def refused(self, why: str, now: float) -> None:
        """Nothing behind it is acknowledged either."""
        self._incoming.failure = why


@final
class Released(Step):
    """A PUBCOMP that may be sent when it is stored that the identifier is free."""

    __slots__ = ("_incoming", "_packet_id", "_epoch")

    def __init__(self, incoming: Incoming, packet_id: int, epoch: int) -> None:
        self._incoming: Final = incoming
        self._packet_id: Final = packet_id
        self._epoch: Final = epoch

    def stored(self, now: float) -> None:
        """It may be sent."""
        self._incoming.released(self._packet_id, self._epoch, now)

    def refused(self, why: str, now: float) -> None:
        """It is not sent."""
        self._incoming.failure = why
