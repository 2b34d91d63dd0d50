"""Clients that keep to MQTT 3.1.1 whatever happens to their connections, for tests of what
survives.

A device has a session that outlives its connections, and does what a client has to: it
acknowledges what it gets, sends again what was not acknowledged, and keeps its side of a QoS 2
exchange across connections. It notes what it was told, which is all that a test may judge by.
"""

from __future__ import annotations

from tests.core import wire
from tests.core.wire import Frame
from tests.rig import Client, Rig

PUBLISHED = 1  # awaits PUBACK or PUBREC
RELEASED = 2  # awaits PUBCOMP


class Sent:
    """A message that a device has published."""

    def __init__(self, topic: str, payload: bytes, qos: int) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.step = PUBLISHED


class Device:
    """One client identifier."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig = rig
        self.name = name
        self.client: Client | None = None
        self.is_connected = False  # CONNACK has come
        self.has_session = False  # the server has said so, and must go on saying so
        self.filters: dict[str, int] = {}  # asked for
        self.granted: dict[str, int] = {}  # and granted
        self.sent: dict[int, Sent] = {}  # not finished, by identifier, in order
        self.acknowledged: list[bytes] = []  # payloads that the server has taken over
        self.received: list[tuple[bytes, int]] = []  # payload and QoS, as an application sees them
        self.held: set[int] = set()
        self.again: list[bytes] = []  # what was sent with DUP
        self._frames: list[Frame] = []
        self._last_id = 0

    # Connections

    def connect(self) -> None:
        """Connect; what follows is done when CONNACK is read."""
        assert self.client is None
        self.client = self.rig.open(self.name)
        self.client.send(wire.connect(self.name, clean=False))

    def disconnected(self, reads: int = 0) -> None:
        """The connection has ended; `reads` packets that had arrived by then are still seen."""
        client = self.client
        if client is not None:
            self.client = None
            self._frames += client.frames()
            for frame in self._frames[:reads]:
                self._take(frame)
            self._frames = []
            self.is_connected = False
            if not client.has_ended:
                client.cut()

    def read(self, count: int = 1_000_000) -> bool:
        """Read at most `count` packets and answer them; False for none."""
        client = self.client
        if client is None:
            return False
        self._frames += client.frames()
        taken = self._frames[:count]
        del self._frames[: len(taken)]
        for frame in taken:
            answer = self._take(frame)
            if answer:
                client.send(answer)
        if client.is_closed and not self._frames:
            self.disconnected()
            return True
        return bool(taken)

    # What a client does

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe; again on later connections until it is granted."""
        self.filters[topic_filter] = qos
        if self.is_connected:
            self._send(self._subscribe())

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """Publish; again on later connections until it is acknowledged."""
        self._last_id = self._last_id % 65_535 + 1
        packet_id = self._last_id
        self.sent[packet_id] = Sent(topic, payload, qos)
        if self.is_connected:
            self._send(wire.publish(topic, payload, qos, packet_id))

    def _send(self, data: bytes) -> None:
        assert self.client is not None
        self.client.send(data)

    def _subscribe(self) -> bytes:
        return wire.subscribe(65_535, *self.filters.items())

    def _take(self, frame: Frame) -> bytes:
        """What a packet leads to; returns the answer."""
        match frame.kind:
            case 2:
                return self._take_connack(frame)
            case 3:
                return self._take_publish(frame)
            case 4:
                self.acknowledged.append(self.sent.pop(frame.packet_id).payload)
            case 5:
                sent = self.sent.pop(frame.packet_id)
                if sent.step == PUBLISHED:
                    self.acknowledged.append(sent.payload)
                    sent.step = RELEASED
                self.sent[frame.packet_id] = sent  # PUBRELs in the order of PUBRECs
                return wire.pubrel(frame.packet_id)
            case 6:
                self.held.discard(frame.packet_id)
                return wire.pubcomp(frame.packet_id)
            case 7:
                del self.sent[frame.packet_id]
            case _:
                assert frame.kind == 9, frame
                self.granted = dict(zip(self.filters, frame.body[2:], strict=True))
        return b""

    def _take_connack(self, frame: Frame) -> bytes:
        is_present = bool(frame.body[0])
        assert frame.body[1] == 0, frame
        assert is_present or not self.has_session, f"the session of {self.name} is lost"
        self.has_session = True
        self.is_connected = True
        parts = []
        if self.granted != self.filters:
            parts.append(self._subscribe())
        for packet_id, sent in self.sent.items():
            if sent.step == RELEASED:
                parts.append(wire.pubrel(packet_id))
            else:
                packet = wire.publish(sent.topic, sent.payload, sent.qos, packet_id, dup=True)
                parts.append(packet)
        return b"".join(parts)

    def _take_publish(self, frame: Frame) -> bytes:
        publish = wire.read_publish(frame)
        if publish.dup:
            self.again.append(publish.payload)
        if publish.qos == 2:
            if publish.packet_id not in self.held:
                self.held.add(publish.packet_id)
                self.received.append((publish.payload, 2))
            return wire.pubrec(publish.packet_id)
        self.received.append((publish.payload, publish.qos))
        return wire.puback(publish.packet_id) if publish.qos else b""


def payloads(received: list[tuple[bytes, int]], qos: int) -> list[bytes]:
    """What was received at one QoS, each at its first time."""
    return list(dict.fromkeys(payload for payload, at in received if at == qos))


def check(publisher: Device, receivers: list[Device], published: dict[int, list[bytes]]) -> None:
    """Once all is done: what every receiver got of what was published, by QoS.

    All of it, in order; at QoS 2 once.  [v3 MQTT-4.3.3-1] [v3 MQTT-4.6.0-6]
    """
    assert not publisher.sent, f"not finished: {publisher.sent}"
    for receiver in receivers:
        for qos, expected in published.items():
            assert payloads(receiver.received, qos) == expected, receiver.name
        twice = [payload for payload, qos in receiver.received if qos == 2]
        assert len(twice) == len(set(twice)), f"{receiver.name} got some twice: {twice}"
