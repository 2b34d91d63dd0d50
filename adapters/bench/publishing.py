"""The sending end of a load.

Packets are never made one by one: a publisher sends slices of a stream that was encoded beforehand.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, Protocol, final

from adapters.bench import _answers
from adapters.bench.clients import PUBACK, PUBCOMP, PUBREC, PUBREL, Client, run_length
from adapters.bench.histogram import Histogram
from adapters.bench.packets import MQTT_5
from adapters.bench.series import Series, Tally, acknowledgements, window_for
from adapters.bench.sockets import Registry, Stream
from adapters.bench.workloads import Workload

# What has been timed by all who will is taken off the log when it has grown by so much.
_LOG_ENTRIES: Final = 8_192


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


class Timer(Protocol):
    """Who times what a publisher has sent."""

    @property
    def oldest(self) -> int:
        """The oldest message that may still come to be timed."""


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
        "_log_limit",
        "_patterns",
        "_window",
        "done",
        "index",
        "interval_s",
        "planned",
        "progress",
        "sent",
        "sent_at",
        "sent_upto",
        "series",
        "sources",
        "unsent",
    )

    def __init__(
        self,
        sock: Stream,
        poller: Registry,
        progress: Progress,
        workload: Workload,
        index: int,
    ) -> None:
        super().__init__(sock, poller, workload, f"publisher {index}")
        self.progress: Final = progress
        self.index: Final = index
        self.series: Final = Series(workload, index)
        self.sources: Final[list[Timer]] = []  # who times what this sends
        self.sent = 0
        self.done = 0  # messages no longer under way
        # The log: how many messages had been sent then, and when.
        self.sent_upto: Final[list[int]] = []
        self.sent_at: Final[list[float]] = []
        self._log_limit = _LOG_ENTRIES
        self._delivered = 0  # to all subscribers together
        self._copies: Final = workload.copies(index)
        self._window: Final = window_for(workload)
        self._batch: Final = self.series.batch
        self.planned = workload.messages or 1 << 62  # messages to be sent in all
        self.unsent = 0
        paced = workload.rate_per_s > 0
        self.interval_s: Final = workload.publishers / workload.rate_per_s if paced else 0.0
        turn = 0.0 if workload.in_step else index / workload.publishers
        self._due_s: Final = turn * self.interval_s  # when the first message is due, from the start
        self._first_due = 0.0
        self._is_held = False  # by the broker: the next message is late, and not by our fault
        self._is_v5: Final = workload.level == MQTT_5
        kinds = ((), (PUBACK,), (PUBREC, PUBCOMP))[workload.qos]
        cycle = self.series.cycle
        self._answers: Final = {kind: Tally(cycle) for kind in kinds}
        self._patterns: Final = {kind: acknowledgements(kind, cycle) for kind in kinds}
        self._last: Final = kinds[-1] if kinds else 0
        # Where one kind of answer is all there is, whole reads of it are counted at once.
        self._in_order: Tally | None = self._answers[PUBACK] if workload.qos == 1 else None

    @property
    def answers(self) -> list[Tally]:
        """What has been counted of the acknowledgements, by kind."""
        return list(self._answers.values())

    def start(self, now: float) -> None:
        """Say when the open loop begins."""
        self._first_due = now + self._due_s

    def stop(self, now: float) -> None:
        """Send no more than what has been sent; in an open loop, than what is due by now."""
        self.planned = max(self.sent, self._due_by(now)) if self.interval_s else self.sent

    def give_up(self) -> None:
        """Leave unsent what could not be sent by now."""
        self.unsent = self.planned - self.sent
        self.planned = self.sent

    def due_at(self, number: int) -> float:
        """When a message is due in the open loop."""
        return self._first_due + number * self.interval_s

    def fill(self, now: float) -> bool:
        """Send what may leave, by window, batch and pace; whether there could be more at once."""
        sent = self.sent
        wanted = self.planned - sent
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
            if self._patterns[PUBACK].startswith(chunk, 4 * (tally.count % tally.cycle)):
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
            if kind == PUBREC:
                pubrels = bytearray(block)
                pubrels[0::4] = bytes((PUBREL,)) * count
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
