"""The two ends of a load: publishers that keep a window open, subscribers that check what arrives.

Packets are made and compared by the block, never one by one: a publisher sends slices of a stream
that was encoded beforehand, and at QoS 0 the bytes that a lone subscriber gets must be that very
stream again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final, final

from benchmarks._series import BATCH, RECV_BYTES, Series, Tally, acknowledgements
from benchmarks._sockets import READABLE, WRITABLE, BenchmarkError, Registry, Stream
from benchmarks.workloads import Workload

# Where messages of several publishers mix, one block in so many is compared frame by frame; the
# rest is counted per publisher. A lost message shows in every block after it.
CHECK_ONE_BLOCK_IN: Final = 8

_RUN_FRAMES: Final = 2048
_PUBACK: Final = 0x40
_PUBREC: Final = 0x50
_PUBREL: Final = 0x62
_PUBCOMP: Final = 0x70


@final
class Progress:
    """What all clients of a load have reached together, and who may have room to send."""

    __slots__ = ("acked", "latencies", "received", "touched")

    def __init__(self) -> None:
        self.received = 0  # deliveries
        self.acked = 0  # messages acknowledged to the end
        self.latencies: Final[defaultdict[int, int]] = defaultdict(int)  # in units of 10 us
        self.touched: Final[set[Publisher]] = set()


class Client:
    """A connection with its unsent bytes and the start of a packet that has not wholly arrived."""

    __slots__ = ("_poller", "_recv", "_tail", "_unsent", "name", "progress", "sock")

    def __init__(self, sock: Stream, poller: Registry, progress: Progress, name: str) -> None:
        self.sock: Final = sock
        self.name: Final = name
        self.progress: Final = progress
        self._poller: Final = poller
        self._recv: Final = sock.recv
        self._unsent = b""
        self._tail = b""
        sock.setblocking(False)
        poller.register(sock.fileno(), READABLE)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send as much as the socket takes and keep the rest."""
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._lost(str(error)) from error
        if sent < len(data):
            self._unsent = bytes(data[sent:])
            self._poller.modify(self.sock.fileno(), READABLE | WRITABLE)

    def on_writable(self) -> None:
        """The socket takes bytes again."""
        data, self._unsent = self._unsent, b""
        if data:
            self.write(data)
        if not self._unsent:
            self._poller.modify(self.sock.fileno(), READABLE)

    def on_readable(self, now: float) -> None:
        """Bytes have arrived at the socket."""
        try:
            chunk = self._recv(RECV_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._lost(str(error)) from error
        if not chunk:
            raise self._lost("the broker closed it")
        self.receive_data(chunk, now)

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Take what was read."""
        raise NotImplementedError

    def unexpected(self, data: bytes | bytearray) -> BenchmarkError:
        """The error for bytes that start no packet expected here."""
        return BenchmarkError(f"{self.name} got what was never sent: {data[:40].hex(' ')}")

    def _lost(self, why: str) -> BenchmarkError:
        return BenchmarkError(f"the connection of {self.name} is lost: {why}; see the broker's log")


@final
class Publisher(Client):
    """Sends its series through a window and counts what comes back."""

    __slots__ = (
        "_answers",
        "_copies",
        "_delivered",
        "_last",
        "_messages",
        "_patterns",
        "_rate_per_s",
        "_window",
        "done",
        "index",
        "log",
        "sent",
        "series",
    )

    def __init__(
        self,
        sock: Stream,
        poller: Registry,
        progress: Progress,
        workload: Workload,
        index: int,
    ) -> None:
        super().__init__(sock, poller, progress, f"publisher {index}")
        self.index: Final = index
        self.series: Final = Series(workload, index)
        self.sent = 0
        self.done = 0  # messages no longer under way
        self.log: Final[list[tuple[int, float]]] = []  # (messages sent by then, when)
        self._delivered = 0  # to all subscribers together
        self._copies: Final = workload.copies
        self._window: Final = workload.window
        self._messages: Final = workload.messages
        self._rate_per_s: Final = workload.rate_per_s / workload.publishers
        kinds = ((), (_PUBACK,), (_PUBREC, _PUBCOMP))[workload.qos]
        cycle = self.series.cycle
        self._answers: Final = {kind: Tally(cycle) for kind in kinds}
        self._patterns: Final = {kind: acknowledgements(kind, cycle) for kind in kinds}
        self._last: Final = kinds[-1] if kinds else 0

    @property
    def answers(self) -> list[Tally]:
        """What has been counted of the acknowledgements, by kind."""
        return list(self._answers.values())

    def fill(self, now: float, elapsed_s: float) -> bool:
        """Send what may leave, by window, batch and pace; whether there could be more at once."""
        sent = self.sent
        room = min(self._window + self.done - sent, BATCH, self._messages - sent)
        if self._rate_per_s:
            room = min(room, int(elapsed_s * self._rate_per_s) - sent)
        if room <= 0 or self._unsent:
            return False
        series = self.series
        at = sent % series.cycle * series.frame_bytes
        self.sent = sent = sent + room
        self.log.append((sent, now))
        self.write(series.stream[at : at + room * series.frame_bytes])
        return room == BATCH

    def arrived(self, count: int) -> None:
        """So many deliveries of this publisher's messages have arrived somewhere."""
        self._delivered += count
        if not self._last:
            self.done = self._delivered // self._copies
            self.progress.touched.add(self)

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Count acknowledgements by the run, and answer each PUBREC with its PUBREL (4.3.3)."""
        data = self._tail + chunk if self._tail else chunk
        at = 0
        while len(data) - at >= 4:
            kind = data[at]
            if kind not in self._answers:
                raise self.unexpected(data[at:])
            count = run_length(data, at, 4)
            block = data[at : at + 4 * count]
            self._count(kind, block, count)
            if kind == _PUBREC:
                pubrels = bytearray(block)
                pubrels[0::4] = bytes((_PUBREL,)) * count
                self.write(pubrels)
            at += 4 * count
        self._tail = data[at:]

    def _count(self, kind: int, block: bytes, count: int) -> None:
        tally = self._answers[kind]
        if tally.in_order and self._patterns[kind].startswith(block, 4 * tally.next_number):
            tally.take_many(count)
        else:
            for at in range(0, 4 * count, 4):
                packet_id = int.from_bytes(block[at + 2 : at + 4], "big")
                if block[at + 1] != 2 or not 1 <= packet_id <= tally.cycle:
                    raise self.unexpected(block[at:])
                tally.take(packet_id - 1)
        if kind == self._last:
            self.done += count
            self.progress.acked += count
            self.progress.touched.add(self)


@final
class Source:
    """What one subscriber has had from one publisher."""

    __slots__ = ("_log_at", "_timed", "publisher", "tally")

    def __init__(self, publisher: Publisher) -> None:
        self.publisher: Final = publisher
        self.tally: Final = Tally(publisher.series.cycle)
        self._log_at = 0
        self._timed = 0

    def note(self, now: float, latencies: defaultdict[int, int]) -> None:
        """Time what was counted since last time, by when the publisher sent it."""
        count = self.tally.count
        timed = self._timed
        log = self.publisher.log
        while timed < count and self._log_at < len(log):
            upto, sent_at = log[self._log_at]
            step = min(upto, count)
            latencies[int((now - sent_at) * 100_000)] += step - timed
            timed = step
            if step == upto:
                self._log_at += 1
        self._timed = count


@final
class Subscriber(Client):
    """Checks, counts, times and acknowledges what its publishers sent it."""

    __slots__ = (
        "_blocks",
        "_frame_bytes",
        "_id_at",
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
        progress: Progress,
        workload: Workload,
        index: int,
    ) -> None:
        super().__init__(sock, poller, progress, f"subscriber {index}")
        self.sources: dict[int, Source] = {}
        self._qos: Final = workload.qos
        self._blocks = 0
        self._frame_bytes = 0
        self._id_at = 0
        self._payload_at = 0
        self._only: Source | None = None
        self._stream_at = -1  # where in the only source's pattern the next byte is; -1: by frames

    def listen_to(self, publishers: list[Publisher]) -> None:
        """Say whose messages must come."""
        self.sources = {publisher.index: Source(publisher) for publisher in publishers}
        if not publishers:
            return
        series = publishers[0].series
        self._frame_bytes = series.frame_bytes
        self._id_at = series.id_at
        self._payload_at = series.payload_at
        if len(publishers) == 1:
            self._only = self.sources[publishers[0].index]
            self._stream_at = 0 if self._qos == 0 else -1

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Take the next bytes: as a piece of the one stream, or frame by frame."""
        at = self._stream_at
        source = self._only
        if at < 0 or source is None:
            self._take_frames(chunk, now)
            return
        series = source.publisher.series
        length = self._frame_bytes
        if not series.pattern.startswith(chunk, at):
            self._stream_at = -1
            self._tail = series.pattern[at - at % length : at]
            self._take_frames(chunk, now)
            return
        end = at + len(chunk)
        frames = end // length - at // length
        self._stream_at = end % (series.cycle * length)
        if frames:
            source.tally.take_many(frames)
            self._arrived(source, frames, now)

    def _arrived(self, source: Source, frames: int, now: float) -> None:
        self.progress.received += frames
        source.note(now, self.progress.latencies)
        source.publisher.arrived(frames)

    def _take_frames(self, chunk: bytes, now: float) -> None:
        if not self.sources:
            raise self.unexpected(chunk)
        data = self._tail + chunk if self._tail else chunk
        at = 0
        while at < len(data):
            kind = data[at]
            is_publish = kind == 0x30 | self._qos << 1
            if not is_publish and not (kind == _PUBREL and self._qos == 2):
                raise self.unexpected(data[at:])
            length = self._frame_bytes if is_publish else 4
            count = run_length(data, at, length)
            if not count:
                break
            block = data[at : at + count * length]
            if is_publish:
                self._take_publishes(block, count, now)
            else:
                pubcomps = bytearray(block)
                pubcomps[0::4] = bytes((_PUBCOMP,)) * count
                self.write(pubcomps)
            at += count * length
        self._tail = data[at:]

    def _take_publishes(self, block: bytes, count: int, now: float) -> None:
        """Acknowledge a run of PUBLISH packets (4.3.2, 4.3.3), then check and count it."""
        blank = block
        if self._qos:
            length, at = self._frame_bytes, self._id_at
            start = b"\x40\x02" if self._qos == 1 else b"\x50\x02"
            if count == 1:
                self.write(start + block[at : at + 2])
                blank = block[:at] + b"\0\0" + block[at + 2 :]
            else:
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
        else:
            self._take_singly(block)
        self._arrived(source, count, now)

    def _take_from_many(self, block: bytes, now: float) -> None:
        indexes = publisher_counts(block, self._payload_at, self._frame_bytes)
        if not indexes.keys() <= self.sources.keys():
            raise self.unexpected(block)
        self._blocks += 1
        if self._blocks % CHECK_ONE_BLOCK_IN == 1 or not all(
            self.sources[index].tally.in_order for index in indexes
        ):
            self._take_singly(block)
        else:
            for index, frames in indexes.items():
                self.sources[index].tally.take_many(frames)
        for index, frames in indexes.items():
            self._arrived(self.sources[index], frames, now)

    def _take_singly(self, block: bytes) -> None:
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
            source.tally.take(number)


def run_length(data: bytes, at: int, frame_bytes: int) -> int:
    """How many whole frames of this length and with one first byte follow each other."""
    whole = (len(data) - at) // frame_bytes
    if whole <= 1:
        return whole
    firsts = data[at : at + min(whole, _RUN_FRAMES) * frame_bytes : frame_bytes]
    return len(firsts) - len(firsts.lstrip(firsts[:1]))


def publisher_counts(block: bytes, at: int, frame_bytes: int) -> dict[int, int]:
    """How many frames a block has of each publisher, whose index is the two bytes at `at`."""
    high = block[at::frame_bytes]
    low = block[at + 1 :: frame_bytes]
    if not any(high):
        return dict(Counter(low))
    pairs = Counter(zip(high, low, strict=True))
    return {upper << 8 | lower: count for (upper, lower), count in pairs.items()}
