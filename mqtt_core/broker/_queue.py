"""Messages that wait for one session.

QoS 0 messages wait apart from the others, because they go first when room is short and do not
need a place in the in-flight window; their arrival numbers merge both in order. Of a
persistent session's messages only the page that is about to be sent is here: the rest is with
the storage engine and only counted.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final, final

from mqtt_core._message import Message
from mqtt_core._particulars import Particulars
from mqtt_core._store import Queued
from mqtt_core.broker._ledger import Ledger
from mqtt_core.broker._stored import Stored

_GONE_KEPT: Final = 100


def _number(entry: Queued) -> int:
    return entry.number


@final
class Queue:
    """What waits for one session, in order.

    `count` and `size_bytes` include what is stored; `memory_bytes` is what all of it takes in
    memory. `ledger` is told of every change.
    """

    __slots__ = (
        "count",
        "size_bytes",
        "memory_bytes",
        "qos_0_count",
        "qos_0_bytes",
        "last_read",
        "reading",
        "_ledger",
        "_qos_0",
        "_loaded",
        "_stored",
        "_expiring",
    )

    def __init__(self, ledger: Ledger) -> None:
        self.count = 0
        self.size_bytes = 0
        self.memory_bytes = 0
        self.qos_0_count = 0  # of which at QoS 0
        self.qos_0_bytes = 0
        self.last_read = 0  # number of the last entry that came from the engine
        self.reading = 0  # request id of the page that is under way, 0 for none
        self._ledger: Final = ledger
        self._qos_0: deque[Queued] | None = None
        # Both are made when they are needed: most sessions that are away have neither.
        self._loaded: deque[Queued] | None = None
        self._stored: Stored | None = None  # what only the engine has
        # When messages expire, and their numbers; those that have gone meanwhile stay a while.
        self._expiring: list[tuple[float, int]] | None = None

    @property
    def has_qos_0(self) -> bool:
        """Whether a QoS 0 message waits."""
        return bool(self._qos_0)

    @property
    def has_loaded(self) -> bool:
        """Whether a QoS 1 or 2 message waits here."""
        return bool(self._loaded)

    @property
    def has_waiting(self) -> bool:
        """Whether a QoS 1 or 2 message waits, here or in the engine."""
        return self.has_stored or bool(self._loaded)

    @property
    def has_stored(self) -> bool:
        """Whether a message waits that only the engine has."""
        stored = self._stored
        return stored is not None and len(stored) > 0

    def add(
        self, number: int, qos: int, message: Message, particulars: Particulars | None = None
    ) -> None:
        """Append a message to be kept here."""
        self._note_expiry(number, message.expires_at)
        entry = Queued(number, qos, message, particulars)
        if qos == 0:
            if self._qos_0 is None:
                self._qos_0 = deque()
            self._qos_0.append(entry)
            self.qos_0_count += 1
            self.qos_0_bytes += message.size_bytes
        else:
            self._own_loaded().append(entry)
        self._enter(1, message.size_bytes, message.size_bytes)

    def _enter(self, messages: int, size_bytes: int, memory_bytes: int) -> None:
        """So many messages more wait, or fewer."""
        self.count += messages
        self.size_bytes += size_bytes
        self.memory_bytes += memory_bytes
        self._ledger.enter(messages, size_bytes, memory_bytes)

    def _stored_gone(self, size_bytes: int) -> None:
        """A message less that only the engine has."""
        self._enter(-1, -size_bytes, -self._ledger.stored_bytes(size_bytes))

    def _own_loaded(self) -> deque[Queued]:
        loaded = self._loaded
        if loaded is None:
            loaded = deque()
            self._loaded = loaded
        return loaded

    def _note_expiry(self, number: int, expires_at: float) -> None:
        if expires_at:
            expiring = self._expiring
            if expiring is None:
                expiring = []
                self._expiring = expiring
            heapq.heappush(expiring, (expires_at, number))
            if len(expiring) > 2 * self.count + _GONE_KEPT:
                waiting = self._numbers()
                self._expiring = [entry for entry in expiring if entry[1] in waiting]
                heapq.heapify(self._expiring)

    def _numbers(self) -> set[int]:
        numbers = set() if self._stored is None else set(self._stored.numbers())
        numbers.update(entry.number for entry in self._loaded or ())
        numbers.update(entry.number for entry in self._qos_0 or ())
        return numbers

    def take_expired(self, now: float) -> list[int]:
        """Forget the messages that have expired by `now`; returns their numbers."""
        expiring = self._expiring
        due: set[int] = set()
        while expiring and expiring[0][0] <= now:
            due.add(heapq.heappop(expiring)[1])
        if not due:
            return []
        taken: list[int] = []
        if self._stored is not None:
            for number, size in self._stored.take(due):
                taken.append(number)
                self._stored_gone(size)
        loaded = self._own_loaded()
        for _ in range(len(loaded)):  # each once round, so that those left keep their order
            entry = loaded.popleft()
            if entry.number in due:
                taken.append(self._taken(entry).number)
            else:
                loaded.append(entry)
        waiting = self._qos_0
        for _ in range(self.qos_0_count):
            assert waiting is not None
            if waiting[0].number in due:
                taken.append(self.pop_qos_0().number)
            else:
                waiting.append(waiting.popleft())
        return taken

    def add_message_stored(self, number: int, message: Message) -> None:
        """Count a message that only the engine has from now on."""
        self.add_stored(number, message.size_bytes, message.expires_at)

    def add_stored(self, number: int, size_bytes: int, expires_at: float = 0.0) -> None:
        """Count a message that only the engine has, by its number and size; `expires_at` in unix
        seconds, 0 for never."""
        self._note_expiry(number, expires_at)
        stored = self._stored
        if stored is None:
            stored = Stored()
            self._stored = stored
        stored.append(number, size_bytes)
        self._enter(1, size_bytes, self._ledger.stored_bytes(size_bytes))

    def forget_stored(self, number: int) -> bool:
        """A message that only the engine had is not there after all."""
        stored = self._stored
        for _, size in () if stored is None else stored.take({number}):
            self._stored_gone(size)
            return True
        return False

    def load(self, entries: list[Queued]) -> None:
        """Entries that have been read from the engine, in order.

        What has been dropped since the page was asked for is left out.
        """
        stored = self._stored
        for entry in entries:
            last = 0
            while stored is not None and len(stored) and stored.first_number <= entry.number:
                last = stored.first_number
                self._stored_gone(stored.pop_first())
            self.last_read = entry.number
            if last != entry.number:
                continue
            self._own_loaded().append(entry)
            self._enter(1, entry.message.size_bytes, entry.message.size_bytes)

    def drop_oldest(self) -> int:
        """Forget the first QoS 1 or 2 message and return its number."""
        if self._loaded:
            return self.pop_loaded().number
        stored = self._stored
        assert stored is not None
        number = stored.first_number
        self._stored_gone(stored.pop_first())
        return number

    def next_is_qos_0(self) -> bool:
        """Whether the message that came first is one of QoS 0."""
        qos_0 = self._qos_0
        if not qos_0:
            return False
        return not self._loaded or qos_0[0].number < self._loaded[0].number

    def pop_qos_0(self) -> Queued:
        """Take out the first QoS 0 message."""
        assert self._qos_0 is not None
        entry = self._qos_0.popleft()
        self.qos_0_count -= 1
        self.qos_0_bytes -= entry.message.size_bytes
        return self._taken(entry)

    @property
    def stored_count(self) -> int:
        """How many messages only the engine has."""
        return 0 if self._stored is None else len(self._stored)

    def here(self) -> list[Queued]:
        """What waits here, at any QoS, in order."""
        return sorted([*(self._loaded or ()), *(self._qos_0 or ())], key=_number)

    def take_loaded(self) -> list[Queued]:
        """Take out all QoS 1 and 2 messages that wait here."""
        entries = list(self._loaded or ())
        self._loaded = None
        for entry in entries:
            self._taken(entry)
        return entries

    def put_back(self, entries: list[Queued]) -> None:
        """Put QoS 1 and 2 messages that were taken out into their places."""
        if not entries:
            return
        for entry in entries:
            self._enter(1, entry.message.size_bytes, entry.message.size_bytes)
        self._loaded = deque(sorted([*entries, *(self._loaded or ())], key=_number))

    def pop_loaded(self) -> Queued:
        """Take out the first QoS 1 or 2 message."""
        return self._taken(self._own_loaded().popleft())

    def forget_all(self) -> int:
        """The session is over, and nobody wants what waits; returns how many messages it was."""
        count = self.count
        self._enter(-count, -self.size_bytes, -self.memory_bytes)
        return count

    def _taken(self, entry: Queued) -> Queued:
        size = entry.message.size_bytes
        self._enter(-1, -size, -size)
        return entry
