"""The two ends of a load: publishers that keep a window open, subscribers that check what arrives.

Packets are made and compared by the block, never one by one: a publisher sends slices of a stream
that was encoded beforehand, and at QoS 0 the bytes that a lone subscriber gets must be that very
stream again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Final, final

from adapters.bench import _answers
from adapters.bench.histogram import Histogram
from adapters.bench.packets import MQTT_5
from adapters.bench.series import Series, Tally, acknowledgements, recv_bytes_for
from adapters.bench.sockets import READABLE, WRITABLE, BenchmarkError, Registry, Stream
from adapters.bench.workloads import Workload

# Where messages of several publishers mix, one block in so many is compared frame by frame; the
# rest is counted per publisher. A lost message shows in every block after it.
CHECK_ONE_BLOCK_IN: Final = 8

# What has been timed by all who will is taken off the log when it has grown by so much.
_LOG_ENTRIES: Final = 8_192

_RUN_FRAMES: Final = 2048
_PUBACK: Final = 0x40
_PUBREC: Final = 0x50
_PUBREL: Final = 0x62
_PUBCOMP: Final = 0x70


@final
class Progress:
    """What all clients of a load have reached together, and who may have room to send."""

    __slots__ = ("acked", "latencies", "lateness", "received", "sent", "touched")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0  # deliveries
        self.acked = 0  # messages acknowledged to the end
        self.latencies: Final = Histogram()
        self.lateness: Final = Histogram()  # of sending, behind when it was due
        self.touched: Final[set[Publisher]] = set()


class Client:
    """A connection with its unsent bytes and the start of a packet that has not wholly arrived."""

    __slots__ = (
        "_poller",
        "_recv",
        "_recv_bytes",
        "_send",
        "_tail",
        "_unsent",
        "name",
        "progress",
        "sock",
    )

    def __init__(
        self, sock: Stream, poller: Registry, progress: Progress, workload: Workload, name: str
    ) -> None:
        self.sock: Final = sock
        self.name: Final = name
        self.progress: Final = progress
        self._poller: Final = poller
        self._recv: Final = sock.recv
        self._send: Final = sock.send
        self._recv_bytes: Final = recv_bytes_for(workload)
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
            chunk = self._recv(self._recv_bytes)
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
    """Sends its series through a window, or when it is due, and counts what comes back.

    In a closed loop it keeps a log of when it sent what; in an open loop it knows when each message
    was due, and that is when its time begins to run, whether or not it could be sent by then.
    """

    __slots__ = (
        "_answers",
        "_batch",
        "_copies",
        "_delivered",
        "_due_s",
        "_first_due",
        "_in_order",
        "_is_held",
        "_is_v5",
        "_last",
        "_limit",
        "_log_limit",
        "_patterns",
        "_window",
        "done",
        "index",
        "interval_s",
        "sent",
        "sent_at",
        "sent_upto",
        "series",
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
        super().__init__(sock, poller, progress, workload, f"publisher {index}")
        self.index: Final = index
        self.series: Final = Series(workload, index)
        self.sources: Final[list[Source]] = []  # who times what this sends
        self.sent = 0
        self.done = 0  # messages no longer under way
        # The log: how many messages had been sent then, and when.
        self.sent_upto: Final[list[int]] = []
        self.sent_at: Final[list[float]] = []
        self._log_limit = _LOG_ENTRIES
        self._delivered = 0  # to all subscribers together
        self._copies: Final = workload.copies(index)
        self._window: Final = self._room(workload)
        self._batch: Final = self.series.batch
        self._limit = workload.messages or 1 << 62
        paced = workload.rate_per_s > 0
        self.interval_s: Final = workload.publishers / workload.rate_per_s if paced else 0.0
        turn = 0.0 if workload.in_step else index / workload.publishers
        self._due_s: Final = turn * self.interval_s  # when the first message is due, from the start
        self._first_due = 0.0
        self._is_held = False  # by the broker: the next message is late, and not by our fault
        self._is_v5: Final = workload.level == MQTT_5
        kinds = ((), (_PUBACK,), (_PUBREC, _PUBCOMP))[workload.qos]
        cycle = self.series.cycle
        self._answers: Final = {kind: Tally(cycle) for kind in kinds}
        self._patterns: Final = {kind: acknowledgements(kind, cycle) for kind in kinds}
        self._last: Final = kinds[-1] if kinds else 0
        # Where one kind of answer is all there is, whole reads of it are counted at once.
        self._in_order: Tally | None = self._answers[_PUBACK] if workload.qos == 1 else None

    def _room(self, workload: Workload) -> int:
        """How many messages may be under way: in an open loop, as many as have identifiers."""
        if not workload.rate_per_s:
            return workload.window
        if not workload.qos:
            return 1 << 62
        return (
            min(workload.window, self.series.cycle)
            if workload.level == MQTT_5
            else (self.series.cycle)
        )

    @property
    def answers(self) -> list[Tally]:
        """What has been counted of the acknowledgements, by kind."""
        return list(self._answers.values())

    def start(self, now: float) -> None:
        """Say when the open loop begins."""
        self._first_due = now + self._due_s

    def stop(self) -> None:
        """Send no more than what has been sent."""
        self._limit = self.sent

    def due_at(self, number: int) -> float:
        """When a message is due in the open loop."""
        return self._first_due + number * self.interval_s

    def fill(self, now: float) -> bool:
        """Send what may leave, by window, batch and pace; whether there could be more at once."""
        sent = self.sent
        wanted = self._limit - sent
        if wanted > self._batch:
            wanted = self._batch
        if self.interval_s:
            wanted = min(wanted, self._due_by(now) - sent)
        if wanted <= 0:
            return False
        room = self._window + self.done - sent
        if room <= 0 or self._unsent:
            self._is_held = True
            return False
        if room > wanted:
            room = wanted
        series = self.series
        length = series.frame_bytes
        at = sent % series.cycle * length
        self.sent = sent + room
        self.progress.sent += room
        if self.interval_s:
            if not self._is_held:
                self.progress.lateness.record(now - self.due_at(sent), room)
            self._is_held = False
        else:
            self.sent_upto.append(sent + room)
            self.sent_at.append(now)
            if len(self.sent_at) > self._log_limit:
                self._shorten_log()
        self.write(series.stream[at : at + room * length])
        return room == self._batch

    def _due_by(self, now: float) -> int:
        """How many messages are due."""
        return int((now - self._first_due) / self.interval_s) + 1 if now >= self._first_due else 0

    def _shorten_log(self) -> None:
        """Forget when messages were sent that all have timed."""
        oldest = min((source.oldest for source in self.sources), default=self.sent)
        count = bisect_right(self.sent_upto, oldest)
        del self.sent_upto[:count], self.sent_at[:count]
        self._log_limit = len(self.sent_at) + _LOG_ENTRIES

    def arrived(self, count: int) -> None:
        """So many deliveries of this publisher's messages have arrived somewhere."""
        if not self._last:
            self._delivered += count
            self.done = self._delivered // self._copies
            if not self.interval_s:
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
        progress: Progress,
        workload: Workload,
        index: int,
    ) -> None:
        super().__init__(sock, poller, progress, workload, f"subscriber {index}")
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
