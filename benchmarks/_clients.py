"""The two ends of a load: publishers that keep a window open, subscribers that check what arrives.

Packets are made and compared by the block, never one by one: a publisher sends slices of a stream
that was encoded beforehand, and at QoS 0 the bytes that a lone subscriber gets must be that very
stream again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final, final

from benchmarks import _answers
from benchmarks._packets import MQTT_5
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

    __slots__ = ("_poller", "_recv", "_send", "_tail", "_unsent", "name", "progress", "sock")

    def __init__(self, sock: Stream, poller: Registry, progress: Progress, name: str) -> None:
        self.sock: Final = sock
        self.name: Final = name
        self.progress: Final = progress
        self._poller: Final = poller
        self._recv: Final = sock.recv
        self._send: Final = sock.send
        self._unsent = b""
        self._tail = b""
        sock.setblocking(False)
        poller.register(sock.fileno(), READABLE)

    def write(self, data: bytes | bytearray) -> None:
        """Send as much as the socket takes and keep the rest."""
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._send(data)
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
        if data[0] == _answers.DISCONNECT:
            return _answers.disconnected(data, self.name)
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
        "_in_order",
        "_is_v5",
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
        self._is_v5: Final = workload.level == MQTT_5
        kinds = ((), (_PUBACK,), (_PUBREC, _PUBCOMP))[workload.qos]
        cycle = self.series.cycle
        self._answers: Final = {kind: Tally(cycle) for kind in kinds}
        self._patterns: Final = {kind: acknowledgements(kind, cycle) for kind in kinds}
        self._last: Final = kinds[-1] if kinds else 0
        # Where one kind of answer is all there is, whole reads of it are counted at once.
        self._in_order: Tally | None = self._answers[_PUBACK] if workload.qos == 1 else None

    @property
    def answers(self) -> list[Tally]:
        """What has been counted of the acknowledgements, by kind."""
        return list(self._answers.values())

    def fill(self, now: float, elapsed_s: float) -> bool:
        """Send what may leave, by window, batch and pace; whether there could be more at once."""
        sent = self.sent
        room = self._window + self.done - sent
        if room > BATCH:
            room = BATCH
        if room > self._messages - sent:
            room = self._messages - sent
        if self._rate_per_s:
            room = min(room, int(elapsed_s * self._rate_per_s) - sent)
        if room <= 0 or self._unsent:
            return False
        series = self.series
        length = series.frame_bytes
        at = sent % series.cycle * length
        self.sent = sent = sent + room
        self.log.append((sent, now))
        self.write(series.stream[at : at + room * length])
        return room == BATCH

    def arrived(self, count: int) -> None:
        """So many deliveries of this publisher's messages have arrived somewhere."""
        if not self._last:
            self._delivered += count
            self.done = self._delivered // self._copies
            self.progress.touched.add(self)

    def receive_data(self, chunk: bytes, now: float) -> None:
        """Count acknowledgements by the run, and answer each PUBREC with its PUBREL (4.3.3)."""
        tally = self._in_order
        if tally is not None and not len(chunk) & 3 and not self._tail:
            if self._patterns[_PUBACK].startswith(chunk, 4 * (tally.count % tally.cycle)):
                tally.count += len(chunk) >> 2
                self._settled(len(chunk) >> 2)
                return
        data = self._tail + chunk if self._tail else chunk
        rest = b""
        if self._is_v5 and not _answers.are_short(data):
            data, rest = _answers.shortened(data, self.name)
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
        self._tail = data[at:] + rest

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
            if not tally.in_order:
                self._in_order = None
        if kind == self._last:
            self._settled(count)

    def _settled(self, count: int) -> None:
        self.done += count
        self.progress.acked += count
        self.progress.touched.add(self)


@final
class Source:
    """What one subscriber has had from one publisher."""

    __slots__ = ("_log_at", "_progress", "_timed", "cycle_bytes", "publisher", "series", "tally")

    def __init__(self, publisher: Publisher) -> None:
        self.publisher: Final = publisher
        self.series: Final = publisher.series
        self.cycle_bytes: Final = publisher.series.cycle * publisher.series.frame_bytes
        self._progress: Final = publisher.progress
        self.tally: Final = Tally(publisher.series.cycle)
        self._log_at = 0
        self._timed = 0

    def arrived(self, frames: int, now: float) -> None:
        """So many frames have been counted: time them by when the publisher sent them."""
        progress = self._progress
        progress.received += frames
        timed = self._timed
        self._timed = count = timed + frames
        log = self.publisher.log
        while timed < count and self._log_at < len(log):
            upto, sent_at = log[self._log_at]
            if upto <= count:
                self._log_at += 1
            step = upto if upto < count else count
            progress.latencies[int((now - sent_at) * 100_000)] += step - timed
            timed = step
        self.publisher.arrived(frames)


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
        progress: Progress,
        workload: Workload,
        index: int,
    ) -> None:
        super().__init__(sock, poller, progress, f"subscriber {index}")
        self.sources: dict[int, Source] = {}
        self._qos: Final = workload.qos
        self._is_v5: Final = workload.level == MQTT_5
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
            if not is_publish and not (kind == _PUBREL and self._qos == 2):
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
                    self.write(_PUBCOMP.to_bytes() + pubrel[1:])
                    at = end
                    continue
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
        source.arrived(count, now)

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
            self.sources[index].arrived(frames, now)

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
