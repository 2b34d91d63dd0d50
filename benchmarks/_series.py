"""What was sent, as bytes made once, and the count of what came back of it."""

from __future__ import annotations

from functools import partial
from typing import Final, final

from benchmarks import _packets
from benchmarks.workloads import Workload

# One recv() takes at most so much; larger ones cost more per call than they save.
RECV_BYTES: Final = 65_536

# Messages that one publisher sends in one go, however wide its window stands open.
BATCH: Final = 256


def cycle_for(workload: Workload) -> int:
    """After how many message numbers they start again: well above what can be under way."""
    return min(workload.messages, max(512, 2 * workload.window))


def filter_of(workload: Workload, subscriber: int) -> str:
    """The topic filter that one subscriber asks for."""
    if workload.mode == "fanin":
        return "bench/in/+/data"
    return topic_of(workload, subscriber)


def topic_of(workload: Workload, publisher: int) -> str:
    """The topic of one publisher; all topics of one load have the same length."""
    if workload.mode == "fanout":
        return "bench/fan/out"
    if workload.mode == "fanin":
        return f"bench/in/{publisher:0{len(str(workload.publishers - 1))}}/data"
    width = len(str(workload.subscribers - 1))
    return f"bench/pair/{publisher % workload.subscribers:0{width}}"


@final
class Series:
    """The messages of one publisher: a cycle of numbered PUBLISH packets, all of one length.

    Message k carries the publisher's index and `k % cycle` in its payload, and at QoS 1 and 2 the
    packet identifier `k % cycle + 1`. `stream` holds the packets as they are sent, `pattern` as
    they must come back, with the identifiers (which the broker chooses) blank; both run on past
    the end of the cycle, so that any piece that starts inside it is one slice.
    """

    __slots__ = ("cycle", "frame_bytes", "id_at", "pattern", "payload_at", "stream")

    def __init__(self, workload: Workload, publisher: int) -> None:
        self.cycle: Final = cycle_for(workload)
        topic = topic_of(workload, publisher)
        filler = b"x" * (workload.size_bytes - 4)
        sent: list[bytes] = []
        expected: list[bytes] = []
        for number in range(self.cycle):
            payload = publisher.to_bytes(2, "big") + number.to_bytes(2, "big") + filler
            message = partial(
                _packets.publish, topic, payload, qos=workload.qos, level=workload.level
            )
            sent.append(message(packet_id=number + 1))
            if workload.qos:
                expected.append(message())
        self.frame_bytes: Final = len(sent[0])
        self.payload_at: Final = self.frame_bytes - workload.size_bytes
        before_payload = 3 if workload.level == _packets.MQTT_5 else 2  # with the property length
        self.id_at: Final = self.payload_at - before_payload if workload.qos else 0
        self.stream: Final = _extended(sent, BATCH * self.frame_bytes)
        self.pattern: Final = _extended(expected or sent, 2 * RECV_BYTES + self.frame_bytes)

    def frame(self, number: int) -> bytes:
        """The packet that carries this number, with a blank packet identifier."""
        return self.pattern[number * self.frame_bytes : (number + 1) * self.frame_bytes]


def acknowledgements(first_byte: int, cycle: int) -> bytes:
    """The acknowledgements a publisher must get, in order, for a cycle and a bit more."""
    frames = [bytes((first_byte, 2)) + (number + 1).to_bytes(2, "big") for number in range(cycle)]
    return _extended(frames, 2 * RECV_BYTES)


def _extended(frames: list[bytes], more_bytes: int) -> bytes:
    """The frames in a row, and again from the start until there are `more_bytes` more."""
    once = b"".join(frames)
    return once * (1 + -(-more_bytes // len(once)))


@final
class Tally:
    """Counts a publisher's numbered messages as they come: in order, or by number once they do not.

    While all is in order a count says everything. From the first surprise on every number has a
    count of its own, so that what is missing and what came twice is known exactly in the end.
    """

    __slots__ = ("_by_number", "count", "cycle")

    def __init__(self, cycle: int) -> None:
        self.cycle: Final = cycle
        self.count = 0
        self._by_number: list[int] | None = None

    @property
    def in_order(self) -> bool:
        """Whether everything so far came in the order in which it was sent."""
        return self._by_number is None

    @property
    def next_number(self) -> int:
        """The number that comes next, if all goes on in order."""
        return self.count % self.cycle

    def take_many(self, count: int) -> None:
        """Count messages known, or taken, to be the next ones in order."""
        self.count += count

    def take(self, number: int) -> None:
        """Count the message with this number."""
        if self._by_number is None and number != self.next_number:
            self._by_number = self._expected(self.count)
        if self._by_number is not None:
            self._by_number[number] += 1
        self.count += 1

    def missing(self, total: int) -> int:
        """How many of the first `total` messages did not come."""
        if self._by_number is None:
            return max(0, total - self.count)
        pairs = zip(self._expected(total), self._by_number, strict=True)
        return sum(max(0, wanted - seen) for wanted, seen in pairs)

    def surplus(self, total: int) -> int:
        """How many came more often than they were sent."""
        return self.count - (total - self.missing(total))

    def _expected(self, total: int) -> list[int]:
        rounds, rest = divmod(total, self.cycle)
        return [rounds + 1] * rest + [rounds] * (self.cycle - rest)
