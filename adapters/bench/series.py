"""What was sent, as bytes made once, and the count of what came back of it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, final

from adapters.bench import packets
from adapters.bench.workloads import Workload

# One recv() takes at most so much; larger ones cost more per call than they save.
RECV_BYTES: Final = 65_536

# With many connections little arrives on each of them, and what is kept for each has to be small.
SMALL_RECV_BYTES: Final = 4_096
_MANY_PUBLISHERS: Final = 500

# Messages that one publisher sends in one go, however wide its window stands open.
BATCH: Final = 256

# An open loop has more under way than a window when the broker falls behind: message numbers start
# again only after so many seconds of it.
_NUMBERED_S: Final = 4.0
_SMALLEST_CYCLE: Final = 64
_LARGEST_CYCLE: Final = 32_768

_LARGE_PAYLOAD: Final = 4_096  # from here on a cycle is as short as it can be


def cycle_for(workload: Workload) -> int:
    """After how many message numbers they start again: well above what can be under way."""
    most = max(512 if workload.size_bytes <= _LARGE_PAYLOAD else 16, 2 * workload.window)
    if workload.rate_per_s:
        own = workload.rate_per_s / workload.publishers * _NUMBERED_S
        most = max(_SMALLEST_CYCLE, min(_LARGEST_CYCLE, round(own)))
    return min(workload.messages, most) if workload.messages else most


def window_for(workload: Workload) -> int:
    """How many messages of a publisher may be under way.

    In an open loop at QoS 0 nothing holds them back; at QoS 1 and 2 half a cycle of identifiers.
    """
    if workload.rate_per_s and not workload.qos:
        return 1 << 62
    window = max(1, cycle_for(workload) // 2) if workload.rate_per_s else workload.window
    return min(window, workload.most_unacked) if workload.qos else window


def recv_bytes_for(workload: Workload) -> int:
    """How much one read takes."""
    return SMALL_RECV_BYTES if workload.publishers > _MANY_PUBLISHERS else RECV_BYTES


def filters_of(workload: Workload, subscriber: int) -> list[str]:
    """The topic filters that one subscriber asks for."""
    prefix = workload.prefix
    if workload.mode == "fanin":
        return [f"{prefix}/in/+/data"]
    if workload.mode == "shared":
        return [f"$share/{prefix}/{prefix}/in/+/data"]
    if workload.mode == "fanout":
        return [_topic(workload, number) for number in range(workload.topic_count)]
    return [_topic(workload, subscriber % workload.topic_count)]


def topic_of(workload: Workload, publisher: int) -> str:
    """The topic of one publisher; all topics of one load have the same length."""
    return _topic(workload, publisher % workload.topic_count)


def _topic(workload: Workload, number: int) -> str:
    digits = f"{number:0{len(str(workload.topic_count - 1))}}"
    if workload.mode == "fanout":
        return f"{workload.prefix}/fan/{digits}"
    if workload.mode == "pair":
        return f"{workload.prefix}/pair/{digits}"
    return f"{workload.prefix}/in/{digits}/data"


@final
class Series:
    """The messages of one publisher: a cycle of numbered PUBLISH packets, all of one length.

    Message k carries the publisher's index and `k % cycle` in its payload, and at QoS 1 and 2 the
    packet identifier `k % cycle + 1`. `stream` holds the packets as they are sent, `pattern` as
    they must come back, with the identifiers (which the broker chooses) blank; both run on past
    the end of the cycle, so that any piece that starts inside it is one slice.
    """

    __slots__ = ("batch", "cycle", "frame_bytes", "id_at", "pattern", "payload_at", "stream")

    def __init__(self, workload: Workload, publisher: int) -> None:
        cycle = cycle_for(workload)
        self.cycle: Final = cycle
        self.batch: Final = min(BATCH, cycle)
        topic = topic_of(workload, publisher)
        size = workload.size_bytes
        payload = publisher.to_bytes(2, "big") + b"\0\0" + b"x" * (size - 4)
        frame = packets.publish(topic, payload, qos=workload.qos, level=workload.level)
        self.frame_bytes: Final = len(frame)
        self.payload_at: Final = len(frame) - size
        before_payload = 3 if workload.level == packets.MQTT_5 else 2  # with the property length
        self.id_at: Final = self.payload_at - before_payload if workload.qos else 0
        # The packets of a cycle differ in their numbers alone.
        cut = self.payload_at + 2
        head, filler = frame[:cut], frame[cut + 2 :]
        numbers = [number.to_bytes(2, "big") for number in range(cycle + 1)]
        if not workload.qos:
            once = b"".join([head + number + filler for number in numbers[:-1]])
            sent = expected = once
        else:
            start, rest = head[: self.id_at], head[self.id_at + 2 :]
            sent = b"".join(
                [start + numbers[k + 1] + rest + numbers[k] + filler for k in range(cycle)]
            )
            blank = start + b"\0\0" + rest
            expected = b"".join([blank + number + filler for number in numbers[:-1]])
        self.stream: Final = _extended(sent, self.batch * len(frame))
        self.pattern: Final = _extended(expected, 2 * recv_bytes_for(workload) + len(frame))

    def frame(self, number: int) -> bytes:
        """The packet that carries this number, with a blank packet identifier."""
        return self.pattern[number * self.frame_bytes : (number + 1) * self.frame_bytes]


@lru_cache(maxsize=8)
def acknowledgements(first_byte: int, cycle: int) -> bytes:
    """The acknowledgements a publisher must get, in order, for a cycle and a bit more."""
    frames = [bytes((first_byte, 2)) + (number + 1).to_bytes(2, "big") for number in range(cycle)]
    return _extended(b"".join(frames), 2 * RECV_BYTES)


def _extended(once: bytes, more_bytes: int) -> bytes:
    """The bytes, and again from their start until there are `more_bytes` more."""
    whole, rest = divmod(more_bytes, len(once))
    return once * (1 + whole) + once[:rest]


@final
class Tally:
    """Counts a publisher's numbered messages as they come: in order, or by number once they do not.

    While all is in order a count says everything. From the first surprise on, or from the start if
    there is no order, every number has a count of its own, so that what is missing and what came
    twice is known exactly in the end.
    """

    __slots__ = ("_by_number", "count", "cycle")

    def __init__(self, cycle: int, *, is_unordered: bool = False) -> None:
        self.cycle: Final = cycle
        self.count = 0
        self._by_number: list[int] | None = [0] * cycle if is_unordered else None

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
