"""Which messages of a queue only the storage engine has.

There may be millions of them in all, so each costs two integers of one array and no object.
"""

from __future__ import annotations

from array import array
from typing import Final, final

_USED_UP: Final = 512  # integers in front that are given back at once


@final
class Stored:
    """Numbers and sizes of messages, in the order of their numbers."""

    __slots__ = ("_entries", "_first")

    def __init__(self) -> None:
        self._entries: array[int] = array("q")  # number, size, number, size...
        self._first = 0

    def __len__(self) -> int:
        return (len(self._entries) - self._first) // 2

    @property
    def first_number(self) -> int:
        """The number of the first."""
        return self._entries[self._first]

    def numbers(self) -> list[int]:
        """All numbers."""
        return list(self._entries[self._first :: 2])

    def append(self, number: int, size_bytes: int) -> None:
        """Add one behind the others."""
        self._entries.append(number)
        self._entries.append(size_bytes)

    def pop_first(self) -> int:
        """Take out the first; returns its size."""
        first = self._first
        size = self._entries[first + 1]
        first += 2
        if first == len(self._entries) or (first >= _USED_UP and 2 * first > len(self._entries)):
            del self._entries[:first]
            first = 0
        self._first = first
        return size

    def take(self, wanted: set[int]) -> list[tuple[int, int]]:
        """Take out those of these numbers that are there; returns numbers and sizes, in order."""
        taken: list[tuple[int, int]] = []
        kept = array("q")
        entries = self._entries
        for at in range(self._first, len(entries), 2):
            number = entries[at]
            size = entries[at + 1]
            if number in wanted:
                taken.append((number, size))
            else:
                kept.append(number)
                kept.append(size)
        if taken:
            self._entries = kept
            self._first = 0
        return taken
