"""An MQTT client as the standard wants it, that speaks to a `Rig` in bytes.

It keeps its own side of each session: what is not acknowledged it sends again after a reconnect,
and it knows what it may be sent. Its application hands out acknowledgements when it likes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tests.core import wire
from tests.model.world import Sent, Session, World
from tests.rig import Client, Rig

_TO_ACK = {4: "PUBACK", 5: "PUBREC", 7: "PUBCOMP", 9: "SUBACK", 11: "UNSUBACK"}


@dataclass
class Outgoing:
    """A message of ours that is not done with: where it was first sent, and whether PUBREC has
    come."""

    message: Sent
    connection: int
    is_received: bool = False


class Device:
    """One client identifier and whoever uses it, connection after connection."""

    def __init__(self, rig: Rig, world: World, client_id: str) -> None:
        self.rig = rig
        self.world = world
        self.client_id = client_id
        self.client: Client | None = None
        self.connection = 0  # how many there have been
        self.earlier: list[Client] = []  # to be closed, if the newest one is refused
        self.is_accepted = False
        self.has_left = False  # DISCONNECT has been sent
        self.is_clean = True
        self.session: Session | None = None  # the world's, once the connection is accepted
        self.expects_present: bool | None = None
        self.will: Sent | None = None
        self.acks_at_once = True
        self.acks: deque[tuple[bytes, int]] = deque()  # to be sent, and which identifiers it frees
        self.repeats: deque[int] = deque()  # identifiers of what is still to be repeated
        self.may_repeat = True
        # Our side of the session
        self.outgoing: dict[int, Outgoing] = {}
        self.held: set[int] = set()
        self.incoming: dict[int, bytes] = {}  # payloads by identifiers that we have not freed
        self.last_id = 0
        # Of this connection
        self.begun: set[int] = set()  # identifiers that were delivered first on it
        self.expected_acks: deque[tuple[int, int]] = deque()
        self.subscribing: dict[int, list[tuple[str, int]]] = {}
        self.unsubscribing: dict[int, list[str]] = {}
        self.refusals = 0

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
        *,
        clean: bool,
        keep_alive_s: int = 0,
        will: Sent | None = None,
        behind: bytes = b"",
        pump: bool = True,
    ) -> None:
        """Open a connection and send CONNECT, with bytes behind it that do not wait."""
        if self.client is not None:
            self.earlier.append(self.client)
        self.client = Client(self.rig, self.client_id)
        self.is_accepted = False
        self.has_left = False
        self.repeats.clear()
        self.is_clean = clean
        self.session = None
        self.expects_present = None
        self.will = will
        self.acks.clear()
        self.begun.clear()
        self.expected_acks.clear()
        self.subscribing.clear()
        self.unsubscribing.clear()
        packet = wire.connect(
            self.client_id,
            clean=clean,
            keep_alive_s=keep_alive_s,
            will=None if will is None else (will.topic, will.payload, will.qos, will.retain),
        )
        self.client.send(packet + behind, pump=pump)

    def publish_packet(self, message: Sent) -> bytes:
        """The bytes of a new message, which is outgoing from now on."""
        while self.repeats and self.is_connected:
            self._repeat(self.repeats.popleft())
        if not message.qos:
            return self._packet(message, 0)
        packet_id = self._fresh_id()
        self.outgoing[packet_id] = Outgoing(message, self.connection)
        self.expected_acks.append((4 if message.qos == 1 else 5, packet_id))
        return self._packet(message, packet_id)

    def _packet(self, message: Sent, packet_id: int, *, dup: bool = False) -> bytes:
        topic, payload, qos = message.topic, message.payload, message.qos
        return wire.publish(topic, payload, qos, packet_id, retain=message.retain, dup=dup)

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

    def subscribe(self, filters: list[tuple[str, int]], *, pump: bool = True) -> None:
        """Send SUBSCRIBE."""
        assert self.session is not None
        packet_id = self._fresh_id()
        self.subscribing[packet_id] = filters
        self.expected_acks.append((9, packet_id))
        for topic_filter, qos in filters:
            self.world.asks(self.session, topic_filter, qos)
        self.send(wire.subscribe(packet_id, *filters), pump=pump)

    def unsubscribe(self, filters: list[str], *, pump: bool = True) -> None:
        """Send UNSUBSCRIBE."""
        assert self.session is not None
        packet_id = self._fresh_id()
        self.unsubscribing[packet_id] = filters
        self.expected_acks.append((11, packet_id))
        for topic_filter in filters:
            self.world.unsubscribes(self.session, topic_filter)
        self.send(wire.unsubscribe(packet_id, *filters), pump=pump)

    def ack(self, count: int, *, pump: bool = True) -> None:
        """Send the next acknowledgements."""
        if not self.is_connected:
            return
        data = b""
        for _ in range(min(count, len(self.acks))):
            packet, freed = self.acks.popleft()
            data += packet
            if packet[0] == 0x62:
                self.expected_acks.append((7, int.from_bytes(packet[2:], "big")))
            self.incoming.pop(freed, None)
            self.begun.discard(freed)
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
        if not self.is_accepted:
            self._take_connack(frame)
        elif kind == 3:
            self._take_publish(wire.read_publish(frame))
        elif kind == 6:
            assert frame.first == 0x62
            self.held.discard(frame.packet_id)
            self.acks.append((wire.pubcomp(frame.packet_id), frame.packet_id))
        elif kind in _TO_ACK:
            self._take_ack(frame)
        else:
            assert frame == wire.Frame(0xD0, b""), f"{self.client_id} has got {frame}"

    def _take_connack(self, frame: wire.Frame) -> None:
        assert frame.first == 0x20, f"{frame} before CONNACK"
        if frame.body != b"\0\0" and frame.body != b"\1\0":
            assert frame.body == b"\0\3"
            self.refusals += 1
            return
        self.is_accepted = True
        is_present = frame.body[0] == 1
        assert is_present is self.expects_present, f"session present for {self.client_id}"
        if is_present:  # what is not done with is to be repeated, in its order  [v3 MQTT-4.4.0-1]
            self.repeats.extend(
                key for key, each in self.outgoing.items() if each.connection < self.connection
            )

    def _repeat(self, packet_id: int) -> None:
        outgoing = self.outgoing.get(packet_id)
        if outgoing is None:
            return
        if outgoing.is_received:
            self.expected_acks.append((7, packet_id))
            self.send(wire.pubrel(packet_id), pump=False)
        else:
            self.world.sent_again(outgoing.message)
            message = outgoing.message
            self.expected_acks.append((4 if message.qos == 1 else 5, packet_id))
            self.send(self._packet(message, packet_id, dup=True), pump=False)

    def _take_publish(self, publish: wire.Received) -> None:
        session = self.session
        assert session is not None
        packet_id = publish.packet_id
        if not publish.qos:
            assert not publish.dup
            self.world.received(session, publish, is_repeat=False)
            return
        assert packet_id, f"{publish} has no identifier"
        if publish.dup:
            assert packet_id not in self.begun, f"{publish} is repeated on its own connection"
            known = self.incoming.get(packet_id)
            assert known is None or known == publish.payload, f"{publish} has another's identifier"
        else:
            assert packet_id not in self.incoming, f"{publish} has an identifier in use"
            self.begun.add(packet_id)
        self.incoming[packet_id] = publish.payload
        is_repeat = publish.qos == 2 and packet_id in self.held
        self.world.received(session, publish, is_repeat=is_repeat)
        if publish.qos == 1:
            self.acks.append((wire.puback(packet_id), packet_id))
        else:
            self.held.add(packet_id)
            self.acks.append((wire.pubrec(packet_id), 0))

    def _take_ack(self, frame: wire.Frame) -> None:
        packet_id = frame.packet_id
        assert self.expected_acks, f"{self.client_id} has got {frame} for nothing"
        expected = self.expected_acks.popleft()
        assert expected == (frame.kind, packet_id), f"{frame} comes before {expected}"
        if frame.kind == 4:
            self.world.accepted(self.outgoing.pop(packet_id).message)
        elif frame.kind == 5:
            outgoing = self.outgoing.pop(packet_id)
            self.outgoing[packet_id] = Outgoing(outgoing.message, outgoing.connection, True)
            self.world.accepted(outgoing.message)
            self.acks.append((wire.pubrel(packet_id), 0))
        elif frame.kind == 7:
            self.outgoing.pop(packet_id)
        elif frame.kind == 9:
            self._take_suback(packet_id, frame.body[2:])
        else:
            assert self.session is not None
            for topic_filter in self.unsubscribing.pop(packet_id):
                self.world.unsubscribed(self.session, topic_filter)

    def _take_suback(self, packet_id: int, codes: bytes) -> None:
        filters = self.subscribing.pop(packet_id)
        assert len(codes) == len(filters)
        assert self.session is not None
        for (topic_filter, qos), code in zip(filters, codes, strict=True):
            assert code in (qos, 0x80)
            if code != 0x80:
                self.world.subscribed(self.session, topic_filter, qos)
