"""What a client takes on one connection, and whether the broker keeps to it, packet by packet."""

from __future__ import annotations

from tests.core import wire
from tests.model.messages import Copy
from tests.model.packets import Takes, read_publish

_PUBLISH = 3
_DISCONNECT = 14


class Receiver:
    """The receiving side of one connection: its window, its largest packet, its aliases.

    `window` is what the broker allows itself in any case.
    """

    def __init__(self, level: int, takes: Takes, window: int) -> None:
        self.level = level
        self.takes = takes
        self.most = min(takes.receive_maximum, window) if takes.receive_maximum else window
        self.topics: dict[int, str] = {}
        self.unacknowledged: set[int] = set()
        """Identifiers of what was sent on this connection at QoS 1 and 2, and not answered."""
        self.is_over = False
        """Whether DISCONNECT has come."""

    def check(self, frame: wire.Frame) -> None:
        """Any packet.  [MQTT-3.1.2-24] [MQTT-3.14.4-1]"""
        size = len(wire.packet(frame.first, frame.body))
        assert not self.takes.packet_bytes or size <= self.takes.packet_bytes, f"{frame}: {size} B"
        assert not self.is_over, f"{frame} behind DISCONNECT"
        self.is_over = frame.kind == _DISCONNECT

    def take(self, frame: wire.Frame) -> Copy:
        """A PUBLISH.  [MQTT-3.3.4-9]"""
        copy = read_publish(self.level, frame, self.topics, self.takes.alias_maximum)
        if copy.qos:
            self.unacknowledged.add(copy.packet_id)
            assert len(self.unacknowledged) <= self.most, f"{copy} is more than {self.most}"
        return copy

    def before_answers(self, unread: bytes) -> None:
        """Deliveries are about to be acknowledged. What has come and is not read yet came before
        that, and counts."""
        came = [frame for frame in wire.split(unread)[0] if frame.kind == _PUBLISH]
        count = len(self.unacknowledged) + sum(frame.first & 6 > 0 for frame in came)
        assert count <= self.most, f"{count} messages are not acknowledged, not {self.most}"

    def answered(self, packet_id: int) -> None:
        """The last acknowledgement of a delivery has been sent."""
        self.unacknowledged.discard(packet_id)
