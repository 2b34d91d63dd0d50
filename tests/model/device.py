"""An MQTT client as the standard wants it, that speaks to a `Rig` in bytes.

It keeps its own side of each session: what is not acknowledged it sends again after a reconnect,
and it knows what it may be sent. Its application hands out acknowledgements when it likes. It
speaks either version of MQTT, and may speak the other one on its next connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tests.core import wire, wire5
from tests.model import packets
from tests.model.messages import Copy, Sent
from tests.model.packets import Takes, Will
from tests.model.receiver import Receiver
from tests.model.sessions import Session, Wanted
from tests.model.world import World
from tests.rig import Client, Rig

_TO_ACK = {4: "PUBACK", 5: "PUBREC", 7: "PUBCOMP", 9: "SUBACK", 11: "UNSUBACK"}

_ANYTHING = Takes()

NO_MATCHING_SUBSCRIBERS = 0x10
NO_SUBSCRIPTION_EXISTED = 0x11
FAILED = 0x80
SERVER_UNAVAILABLE = 0x88
PACKET_IDENTIFIER_NOT_FOUND = 0x92
QUOTA_EXCEEDED = 0x97


@dataclass
class Outgoing:
    """A message of ours that is not done with: where it was first sent, and whether PUBREC has
    come."""

    message: Sent
    connection: int
    is_received: bool = False


@dataclass(frozen=True)
class Manner:
    """How a device connects."""

    level: int
    clean: bool
    expiry_s: int = 0
    takes: Takes = _ANYTHING

    def kept_s(self, most: int) -> int:
        """How long the session outlives the connection."""
        if self.level == 5:
            return min(self.expiry_s, most)
        return 0 if self.clean else most


class Device:
    """One client identifier and whoever uses it, connection after connection."""

    def __init__(self, rig: Rig, world: World, client_id: str, manner: Manner) -> None:
        self.rig = rig
        self.world = world
        self.client_id = client_id
        self.manner = manner
        self.client: Client | None = None
        self.connection = 0  # how many there have been
        self.earlier: list[Client] = []  # to be closed, if the newest one is refused
        self.is_accepted = False
        self.has_left = False  # DISCONNECT has been sent, or has come
        self.session: Session | None = None  # the world's, once the connection is accepted
        self.expects_present: bool | None = None
        self.acks_at_once = True
        self.declines = False  # with a reason code that says so
        self.acks: deque[tuple[bytes, int]] = deque()  # to be sent, and which identifiers it frees
        self.repeats: deque[int] = deque()  # identifiers of what is still to be repeated
        self.may_repeat = True
        # Our side of the session
        self.outgoing: dict[int, Outgoing] = {}
        self.held: set[int] = set()
        self.incoming: dict[int, bytes] = {}  # payloads by identifiers that we have not freed
        self.last_id = 0
        self.last_identifier = 0  # of subscriptions
        # Of this connection
        self.receiver = Receiver(4, Takes(), 0)
        self.begun: set[int] = set()  # identifiers that were delivered first on it
        self.expected_acks: deque[tuple[int, int]] = deque()
        self.subscribing: dict[int, list[Wanted]] = {}
        self.unsubscribing: dict[int, list[tuple[str, bool]]] = {}  # and whether it is there
        self.refusals = 0
        self.drained_at = 0.0  # what has come since was not written before
        self.server_takes = 0  # messages without answer
        self.aliases: dict[str, int] = {}
        self.most_aliases = 0

    @property
    def level(self) -> int:
        """The version of MQTT it speaks."""
        return self.manner.level

    @property
    def is_connected(self) -> bool:
        """Whether packets may be sent."""
        is_open = self.client is not None and not self.client.is_closed
        return is_open and self.is_accepted and not self.has_left

    @property
    def is_blocked(self) -> bool:
        """Whether its socket takes nothing."""
        return self.client is not None and self.client.room_bytes == 0

    # Sending

    def connect(
        self,
        manner: Manner,
        *,
        keep_alive_s: int = 0,
        will: Will | None = None,
        behind: bytes = b"",
        pump: bool = True,
    ) -> None:
        """Open a connection and send CONNECT, with bytes behind it that do not wait."""
        if self.client is not None:
            self.earlier.append(self.client)
        self.client = Client(self.rig, self.client_id)
        self.client.level = manner.level
        self.manner = manner
        self.receiver = Receiver(manner.level, manner.takes, self.rig.limits.max_inflight_messages)
        self.is_accepted = False
        self.has_left = False
        self.repeats.clear()
        self.session = None
        self.expects_present = None
        self.acks.clear()
        self.begun.clear()
        self._forget_large(manner.takes.packet_bytes)
        self.expected_acks.clear()
        self.subscribing.clear()
        self.unsubscribing.clear()
        self.drained_at = self.rig.now
        self.server_takes = 65_535
        self.aliases.clear()
        self.most_aliases = 0
        packet = packets.connect(
            manner.level,
            self.client_id,
            clean=manner.clean,
            keep_alive_s=keep_alive_s,
            expiry_s=manner.expiry_s,
            takes=manner.takes,
            will=will,
        )
        self.client.send(packet + behind, pump=pump)

    def _forget_large(self, packet_bytes: int) -> None:
        """What the client does not take any more, it is not sent again.  [MQTT-3.1.2-25]"""
        if packet_bytes:
            self.incoming = {
                packet_id: payload
                for packet_id, payload in self.incoming.items()
                if len(payload) < packet_bytes // 2 or packet_id in self.held
            }

    def repeat_all(self) -> None:
        """Send what is still to be repeated: nothing new may come before it."""
        while self.repeats and self.is_connected:
            self._repeat(self.repeats.popleft())

    def may_publish(self, qos: int, count: int) -> int:
        """How many of so many messages the broker takes now.  [MQTT-3.3.4-7]"""
        return max(0, min(count, self.server_takes - len(self.outgoing))) if qos else count

    def publish_packet(self, message: Sent, *, aliased: bool = False) -> bytes:
        """The bytes of a new message, which is outgoing from now on."""
        packet_id = 0
        if message.qos:
            packet_id = self._fresh_id()
            self.outgoing[packet_id] = Outgoing(message, self.connection)
            self.expected_acks.append((4 if message.qos == 1 else 5, packet_id))
        topic, alias = None, 0
        if aliased and self.most_aliases:
            topic, alias = self._alias(message.topic)
        return packets.publish(self.level, message, packet_id, dup=False, topic=topic, alias=alias)

    def _alias(self, topic: str) -> tuple[str, int]:
        """What to send as the topic, with which alias: a new topic takes an old one's, in turn."""
        if topic in self.aliases:
            return "", self.aliases[topic]
        if len(self.aliases) < self.most_aliases:
            alias = len(self.aliases) + 1
        else:
            oldest = next(iter(self.aliases))
            alias = self.aliases.pop(oldest)
        self.aliases[topic] = alias
        return topic, alias

    def _fresh_id(self) -> int:
        while True:
            self.last_id = self.last_id % 65_535 + 1
            asked = {packet_id for _, packet_id in self.expected_acks}
            if self.last_id not in self.outgoing and self.last_id not in asked:
                return self.last_id

    def send(self, data: bytes, *, pump: bool = True) -> None:
        """Send bytes, if there is a connection."""
        if self.client is not None:
            self.client.send(data, pump=pump)

    def disconnect(self, *, with_will: bool, expiry_s: int | None) -> None:
        """Send DISCONNECT."""
        self.has_left = True
        self.send(packets.disconnect(self.level, with_will=with_will, expiry_s=expiry_s))

    def subscribe(
        self, filters: Sequence[Wanted], *, identified: bool = False, pump: bool = True
    ) -> None:
        """Send SUBSCRIBE, with an identifier that no other has if one is wanted."""
        assert self.session is not None
        identifier = 0
        if self.level == 5 and identified:
            self.last_identifier += 1
            identifier = self.last_identifier
        if self.level != 5:
            filters = [Wanted(each.topic_filter, each.qos) for each in filters]
        filters = [each._replace(identifier=identifier) for each in filters]
        packet_id = self._fresh_id()
        self.subscribing[packet_id] = filters
        self.expected_acks.append((9, packet_id))
        for wanted in filters:
            self.world.asks(self.session, wanted)
        self.send(packets.subscribe(self.level, packet_id, filters), pump=pump)

    def unsubscribe(self, filters: list[str], *, pump: bool = True) -> None:
        """Send UNSUBSCRIBE."""
        assert self.session is not None
        packet_id = self._fresh_id()
        asked = self.unsubscribing[packet_id] = []
        self.expected_acks.append((11, packet_id))
        for topic_filter in filters:
            asked.append((topic_filter, topic_filter in self.session.filters))
            self.world.unsubscribes(self.session, topic_filter)
        self.send(packets.unsubscribe(self.level, packet_id, filters), pump=pump)

    def ack(self, count: int, *, pump: bool = True) -> None:
        """Send the next acknowledgements."""
        if not self.is_connected or self.client is None:
            return
        self.receiver.before_answers(self.client.received)
        data = b""
        for _ in range(min(count, len(self.acks))):
            packet, freed = self.acks.popleft()
            data += packet
            if packet[0] == 0x62:
                self.expected_acks.append((7, int.from_bytes(packet[2:], "big")))
            self.incoming.pop(freed, None)
            self.begun.discard(freed)
            self.receiver.answered(freed)
        if data:
            self.send(data, pump=pump)

    def begin_session(self, connection: int) -> None:
        """A session has begun with a connection: forget the one before.

        The client knows it from CONNACK, or from having asked for it; were both lost, it would
        repeat in one session what belongs to another, and no broker could tell.
        """
        self.outgoing = {
            key: each for key, each in self.outgoing.items() if each.connection >= connection
        }
        self.held.clear()
        self.incoming.clear()

    # Receiving

    def read(self) -> bool:
        """Take what has come; False when there was nothing."""
        client = self.client
        if client is None:
            return False
        frames = client.frames()
        for frame in frames:
            self._take(frame)
        if not self.is_blocked:
            self.drained_at = self.rig.now
        if client.is_closed:
            for earlier in self.earlier:
                earlier.cut(pump=False)
            self.earlier.clear()
            self.client = None
            self.is_accepted = False
        is_busy = bool(frames)
        if self.acks_at_once and self.acks and self.is_connected:
            self.ack(len(self.acks), pump=False)
            is_busy = True
        may_repeat = self.may_repeat and not self.expected_acks
        if self.repeats and may_repeat and self.is_connected:
            self._repeat(self.repeats.popleft())  # one at a time, to get through a small window
            is_busy = True
        return is_busy

    def _take(self, frame: wire.Frame) -> None:
        kind = frame.kind
        self.receiver.check(frame)
        if not self.is_accepted:
            self._take_connack(frame)
        elif kind == 3:
            self._take_publish(self.receiver.take(frame))
        elif kind == 6:
            assert frame.first == 0x62
            assert len(frame.body) == 2, f"{self.client_id} knows of {frame}"
            self.held.discard(frame.packet_id)
            self.acks.append((wire.pubcomp(frame.packet_id), frame.packet_id))
        elif kind in _TO_ACK:
            self._take_ack(frame)
        elif kind == 14 and self.level == 5:
            assert frame.body[0] >= FAILED
            self.has_left = True
        else:
            assert frame == wire.Frame(0xD0, b""), f"{self.client_id} has got {frame}"

    def _take_connack(self, frame: wire.Frame) -> None:
        assert frame.first == 0x20, f"{frame} before CONNACK"
        present, reason = frame.body[:2]
        if reason:
            assert not present
            if self.level != 5:
                assert reason == 3
            elif reason != SERVER_UNAVAILABLE:
                assert reason == QUOTA_EXCEEDED
                assert not self.world.is_reliable, "there is no room for a session"
            self.refusals += 1
            return
        if self.level == 5:
            self._take_announcement(packets.read_numbers(wire5.read_properties(frame.body[2:])))
        self.is_accepted = True
        is_present = present == 1
        assert is_present is self.expects_present, f"session present for {self.client_id}"
        if is_present:  # what is not done with is to be repeated, in its order  [v3 MQTT-4.4.0-1]
            self.repeats.extend(
                key for key, each in self.outgoing.items() if each.connection < self.connection
            )

    def _take_announcement(self, found: dict[int, int]) -> None:
        most = self.rig.limits.session_timeout_secs
        kept_s = found.get(packets.SESSION_EXPIRY, self.manner.expiry_s)
        assert kept_s == self.manner.kept_s(most)
        self.server_takes = found.get(packets.RECEIVE_MAXIMUM, 65_535)
        self.most_aliases = found.get(packets.ALIAS_MAXIMUM, 0)

    def _repeat(self, packet_id: int) -> None:
        outgoing = self.outgoing.get(packet_id)
        if outgoing is None:
            return
        if outgoing.is_received:
            self.expected_acks.append((7, packet_id))
            self.send(wire.pubrel(packet_id), pump=False)
        else:
            message = outgoing.message
            if self.level != 5:
                message.is_vague = message.expiry_s is not None  # cannot be said any more
            self.world.sent_again(message)
            self.expected_acks.append((4 if message.qos == 1 else 5, packet_id))
            packet = packets.publish(self.level, message, packet_id, dup=True, topic=None, alias=0)
            self.send(packet, pump=False)

    def _take_publish(self, copy: Copy) -> None:
        session = self.session
        assert session is not None
        packet_id = copy.packet_id
        if not copy.qos:
            assert not copy.dup
            self.world.received(session, copy, is_repeat=False, written_after=self.drained_at)
            return
        assert packet_id, f"{copy} has no identifier"
        if copy.dup:
            assert packet_id not in self.begun, f"{copy} is repeated on its own connection"
            known = self.incoming.get(packet_id)
            assert known is None or known == copy.payload, f"{copy} has another's identifier"
        else:
            assert packet_id not in self.incoming, f"{copy} has an identifier in use"
            self.begun.add(packet_id)
        self.incoming[packet_id] = copy.payload
        is_repeat = copy.qos == 2 and packet_id in self.held
        declines = self.declines and self.level == 5 and not is_repeat
        is_held = copy.qos == 2 and not declines
        is_given = copy.qos == 1 or (is_held and not is_repeat)
        self.world.received(session, copy, is_repeat=not is_given, written_after=self.drained_at)
        if declines:
            self.world.declined(session, copy)
        if is_held:
            self.held.add(packet_id)
            self.acks.append((wire.pubrec(packet_id), 0))
        else:
            answer = wire5.puback if copy.qos == 1 else wire5.pubrec
            self.acks.append((answer(packet_id, FAILED if declines else None), packet_id))

    def _take_ack(self, frame: wire.Frame) -> None:
        packet_id = frame.packet_id
        assert self.expected_acks, f"{self.client_id} has got {frame} for nothing"
        expected = self.expected_acks.popleft()
        assert expected == (frame.kind, packet_id), f"{frame} comes before {expected}"
        if frame.kind == 9:
            self._take_suback(packet_id, self._codes(frame))
        elif frame.kind == 11:
            self._take_unsuback(packet_id, self._codes(frame))
        elif frame.kind == 7:
            assert self._reason(frame) in (0, PACKET_IDENTIFIER_NOT_FOUND)
            self.outgoing.pop(packet_id)
        else:
            self._take_answer(frame.kind, packet_id, self._reason(frame))

    def _reason(self, frame: wire.Frame) -> int:
        """The reason code of an acknowledgement; it is left out where all is well."""
        assert self.level == 5 or len(frame.body) == 2, frame
        return frame.body[2] if len(frame.body) > 2 else 0

    def _take_answer(self, kind: int, packet_id: int, reason: int) -> None:
        """PUBACK, or PUBREC."""
        outgoing = self.outgoing.pop(packet_id)
        message = outgoing.message
        if reason == QUOTA_EXCEEDED:  # the exchange is over, and nobody need have the message
            is_refused = not (self.world.takes_all and self.world.is_reliable)
            assert is_refused, f"{message} is refused"
            return
        assert reason in (0, NO_MATCHING_SUBSCRIBERS), f"{message}: {reason:#x}"
        if reason and message.sends == 1:
            self.world.nobody_wants(message)
        self.world.accepted(message)
        if kind == 5:
            self.outgoing[packet_id] = Outgoing(message, outgoing.connection, True)
            self.acks.append((wire.pubrel(packet_id), 0))

    def _codes(self, frame: wire.Frame) -> bytes:
        """What stands behind identifier and properties of SUBACK and UNSUBACK."""
        if self.level != 5:
            return frame.body[2:]
        assert frame.body[2] == 0, f"{frame} has properties"
        return frame.body[3:]

    def _take_suback(self, packet_id: int, codes: bytes) -> None:
        filters = self.subscribing.pop(packet_id)
        assert len(codes) == len(filters)
        assert self.session is not None
        for wanted, code in zip(filters, codes, strict=True):
            if code >= FAILED and not self.world.is_reliable:
                self.world.subscription_refused(self.session, wanted)
                continue
            assert code == wanted.qos
            self.world.subscribed(self.session, wanted)

    def _take_unsuback(self, packet_id: int, codes: bytes) -> None:
        filters = self.unsubscribing.pop(packet_id)
        assert self.session is not None
        if self.level == 5:
            for (topic_filter, is_there), code in zip(filters, codes, strict=True):
                assert code in ((0,) if is_there else (0, NO_SUBSCRIPTION_EXISTED)), topic_filter
        else:
            assert not codes
        for topic_filter, _ in filters:
            self.world.unsubscribed(self.session, topic_filter)
