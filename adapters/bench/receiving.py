"""The receiving end of a load: subscribers that check, count and time what arrives.

Packets are compared by the block: at QoS 0 the bytes that a lone subscriber gets must be the very
stream that its publisher has sent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Final, final

from adapters.bench import _answers
from adapters.bench.clients import PUBCOMP, PUBREL, Client, run_length
from adapters.bench.packets import MQTT_5
from adapters.bench.publishing import Publisher
from adapters.bench.series import Tally
from adapters.bench.sockets import Registry, Stream
from adapters.bench.workloads import Workload

# Where messages of several publishers mix, one block in so many is compared frame by frame; the
# rest is counted per publisher. A lost message shows in every block after it.
CHECK_ONE_BLOCK_IN: Final = 8


@final
class Source:
    """What one subscriber has had from one publisher; or all who share a subscription."""

    __slots__ = (
        "_interval_s",
        "_progress",
        "_timed",
        "cycle_bytes",
        "publisher",
        "series",
        "tally",
    )

    def __init__(self, publisher: Publisher, *, is_shared: bool = False) -> None:
        self.publisher: Final = publisher
        self.series: Final = publisher.series
        self.cycle_bytes: Final = publisher.series.cycle * publisher.series.frame_bytes
        self._progress: Final = publisher.progress
        self._interval_s: Final = publisher.interval_s
        self.tally: Final = Tally(publisher.series.cycle, is_unordered=is_shared)
        self._timed = 0  # how many messages there have been, lost ones too
        publisher.sources.append(self)

    @property
    def oldest(self) -> int:
        """The oldest message that may still come to be timed."""
        return self._timed - self.tally.cycle // 2

    def arrived(self, frames: int, now: float) -> None:
        """So many more frames have been counted, in order: time them by when they were sent."""
        progress = self._progress
        progress.received += frames
        latencies = progress.latencies
        timed = self._timed
        self._timed = count = timed + frames
        publisher = self.publisher
        if self._interval_s:
            for number in range(timed, count):
                latencies.record(now - publisher.due_at(number))
        else:
            uptos, times = publisher.sent_upto, publisher.sent_at
            at = bisect_right(uptos, timed)
            while timed < count and at < len(uptos):
                step = min(uptos[at], count)
                latencies.record(now - times[at], step - timed)
                timed = step
                at += 1
        publisher.arrived(frames)

    def take(self, number: int, now: float) -> None:
        """Count and time one frame by the number it carries, whatever came before it."""
        self.tally.take(number)
        cycle = self.tally.cycle
        ahead = (number - self._timed) % cycle
        if ahead > cycle // 2:
            ahead -= cycle  # came late, or again
        whole = self._timed + ahead
        if ahead >= 0:
            self._timed = whole + 1
        progress, publisher = self._progress, self.publisher
        progress.received += 1
        if self._interval_s:
            progress.latencies.record(now - publisher.due_at(whole))
        elif publisher.sent_at:
            at = bisect_right(publisher.sent_upto, whole)
            progress.latencies.record(now - publisher.sent_at[min(at, len(publisher.sent_at) - 1)])
        publisher.arrived(1)


@final
class Subscriber(Client):
    """Checks, counts, times and acknowledges what its publishers sent it."""

    __slots__ = (
        "_blocks",
        "_frame_bytes",
        "_id_at",
        "_is_v5",
        "_only",
        "_payload_at",
        "_qos",
        "_stream_at",
        "sources",
    )

    def __init__(
        self,
        sock: Stream,
        poller: Registry,
        workload: Workload,
        index: int,
    ) -> None:
        super().__init__(sock, poller, workload, f"subscriber {index}")
        self.sources: dict[int, Source] = {}
        self._qos: Final = workload.qos
        self._is_v5: Final = workload.level == MQTT_5
        self._blocks = 0
        self._frame_bytes = 0
        self._id_at = 0
        self._payload_at = 0
        self._only: Source | None = None
        self._stream_at = -1  # where in the only source's pattern the next byte is; -1: by frames

    def listen_to(self, sources: list[Source]) -> None:
        """Say whose messages must come."""
        self.sources = {source.publisher.index: source for source in sources}
        if not sources:
            return
        series = sources[0].series
        self._frame_bytes = series.frame_bytes
        self._id_at = series.id_at
        self._payload_at = series.payload_at
        if len(sources) == 1 and sources[0].tally.in_order:
            self._only = sources[0]
            self._stream_at = 0 if self._qos == 0 else -1

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Take the next bytes: as a piece of the one stream, or frame by frame."""
        at = self._stream_at
        source = self._only
        if source is None:
            self._take_frames(chunk, now)
        elif at < 0:
            if len(chunk) != self._frame_bytes or self._tail or not self._take_lone(source, chunk):
                self._take_frames(chunk, now)
            else:
                source.arrived(1, now)
        elif source.series.pattern.startswith(chunk, at):
            length = self._frame_bytes
            end = at + len(chunk)
            frames = end // length - at // length
            self._stream_at = end % source.cycle_bytes
            if frames:
                source.tally.count += frames
                source.arrived(frames, now)
        else:
            self._stream_at = -1
            self._tail = source.series.pattern[at - at % self._frame_bytes : at]
            self._take_frames(chunk, now)

    def _take_lone(self, source: Source, frame: bytes) -> bool:
        """Acknowledge and count a frame that came alone, if it is the very next one."""
        tally, pattern, id_at = source.tally, source.series.pattern, self._id_at
        at = tally.count % tally.cycle * self._frame_bytes
        if (
            not tally.in_order
            or not self._qos
            or not pattern.startswith(frame[:id_at], at)
            or not pattern.startswith(frame[id_at + 2 :], at + id_at + 2)
        ):
            return False
        self.write((b"\x40\x02" if self._qos == 1 else b"\x50\x02") + frame[id_at : id_at + 2])
        tally.count += 1
        return True

    def _take_frames(self, chunk: bytes, now: float) -> None:
        if not self.sources:
            raise self.unexpected(chunk)
        data = self._tail + chunk if self._tail else chunk
        at = 0
        while at < len(data):
            kind = data[at]
            is_publish = kind == 0x30 | self._qos << 1
            if not is_publish and not (kind == PUBREL and self._qos == 2):
                raise self.unexpected(data[at:])
            length = self._frame_bytes if is_publish else 4
            count = run_length(data, at, length)
            if not is_publish and self._is_v5:
                count = min(count, short_run(data, at))
                if not count:
                    end = _answers.end_of(data, at)
                    if end > len(data):
                        break
                    pubrel = _answers.short_form(data[at:end], self.name)
                    self.write(PUBCOMP.to_bytes() + pubrel[1:])
                    at = end
                    continue
            if not count:
                break
            block = data[at : at + count * length]
            if is_publish:
                self._take_publishes(block, count, now)
            else:
                pubcomps = bytearray(block)
                pubcomps[0::4] = bytes((PUBCOMP,)) * count
                self.write(pubcomps)
            at += count * length
        self._tail = data[at:]

    def _take_publishes(self, block: bytes, count: int, now: float) -> None:
        """Acknowledge a run of PUBLISH packets (4.3.2, 4.3.3), then check and count it."""
        blank = block
        if self._qos:
            length, at = self._frame_bytes, self._id_at
            start = b"\x40\x02" if self._qos == 1 else b"\x50\x02"
            acks = bytearray((start + b"\0\0") * count)
            acks[2::4] = block[at::length]
            acks[3::4] = block[at + 1 :: length]
            self.write(acks)
            cleared = bytearray(block)
            cleared[at::length] = cleared[at + 1 :: length] = bytes(count)
            blank = bytes(cleared)
        if self._only is not None:
            self._take_from_one(self._only, blank, count, now)
        else:
            self._take_from_many(blank, now)

    def _take_from_one(self, source: Source, block: bytes, count: int, now: float) -> None:
        tally = source.tally
        at = tally.next_number * self._frame_bytes
        if tally.in_order and source.publisher.series.pattern.startswith(block, at):
            tally.take_many(count)
            source.arrived(count, now)
        else:
            self._take_singly(block, now)

    def _take_from_many(self, block: bytes, now: float) -> None:
        indexes = publisher_counts(block, self._payload_at, self._frame_bytes)
        if not indexes.keys() <= self.sources.keys():
            raise self.unexpected(block)
        self._blocks += 1
        if self._blocks % CHECK_ONE_BLOCK_IN == 1 or not all(
            self.sources[index].tally.in_order for index in indexes
        ):
            self._take_singly(block, now)
            return
        for index, frames in indexes.items():
            source = self.sources[index]
            source.tally.take_many(frames)
            source.arrived(frames, now)

    def _take_singly(self, block: bytes, now: float) -> None:
        """Compare every frame with the one that carries its number, and count it by that number."""
        at = self._payload_at
        for start in range(0, len(block), self._frame_bytes):
            frame = block[start : start + self._frame_bytes]
            source = self.sources.get(int.from_bytes(frame[at : at + 2], "big"))
            number = int.from_bytes(frame[at + 2 : at + 4], "big")
            if (
                source is None
                or number >= source.tally.cycle
                or frame != source.publisher.series.frame(number)
            ):
                raise self.unexpected(frame)
            source.take(number, now)


def short_run(data: bytes, at: int) -> int:
    """How many acknowledgements of four bytes follow each other."""
    lengths = data[at + 1 :: 4]
    return len(lengths) - len(lengths.lstrip(b"\x02"))


def publisher_counts(block: bytes, at: int, frame_bytes: int) -> dict[int, int]:
    """How many frames a block has of each publisher, whose index is the two bytes at `at`."""
    high = block[at::frame_bytes]
    low = block[at + 1 :: frame_bytes]
    if not any(high):
        return dict(Counter(low))
    pairs = Counter(zip(high, low, strict=True))
    return {upper << 8 | lower: count for (upper, lower), count in pairs.items()}
