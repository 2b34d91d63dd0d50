"""How long things took, in bounded memory: buckets as wide as a thousandth of what they hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

_SIGNIFICANT_BITS: Final = 11  # a bucket is less than 1/1024 of its lower edge wide
LARGEST_US: Final = 3_600_000_000  # an hour; what took longer counts as that

SHARES: Final = (0.5, 0.9, 0.99, 0.999, 0.9999)
"""The percentiles that results have, as shares."""


@final
class Histogram:
    """Times in microseconds, each in the bucket of its eleven leading bits.

    So every percentile is right to a thousandth (or a microsecond), and there are never more than
    some 25,000 buckets, however much is counted.
    """

    __slots__ = ("_counts", "count", "largest_us", "total_us")

    def __init__(self) -> None:
        self._counts: Final[dict[int, int]] = {}  # by the lower edge of the bucket
        self.count = 0
        self.total_us = 0
        self.largest_us = 0

    def record(self, seconds: float, count: int = 1) -> None:
        """Count something that took so long, or `count` of them; a negative time is none."""
        value = int(seconds * 1e6)
        if not 0 <= value <= LARGEST_US:
            value = 0 if value < 0 else LARGEST_US
        self.count += count
        self.total_us += value * count
        if value > self.largest_us:
            self.largest_us = value
        shift = value.bit_length() - _SIGNIFICANT_BITS
        if shift > 0:
            value = value >> shift << shift
        counts = self._counts
        counts[value] = counts.get(value, 0) + count

    def merge(self, other: Histogram) -> None:
        """Count everything that another one has counted."""
        for value, count in other._counts.items():
            self._counts[value] = self._counts.get(value, 0) + count
        self.count += other.count
        self.total_us += other.total_us
        self.largest_us = max(self.largest_us, other.largest_us)

    def percentiles_ms(self, shares: Iterable[float] = SHARES) -> list[float]:
        """For each share, the least time that so large a share of all did not exceed.

        In milliseconds, by the upper edge of the bucket; the largest is exact. 0 if there is
        nothing.
        """
        wanted = sorted(shares)
        found: list[float] = []
        passed = 0
        for value, count in sorted(self._counts.items()):
            passed += count
            while len(found) < len(wanted) and passed >= wanted[len(found)] * self.count:
                found.append(min(_upper_edge(value), self.largest_us) / 1000)
        return found + [self.largest_us / 1000] * (len(wanted) - len(found))

    @property
    def mean_ms(self) -> float:
        """The mean time in milliseconds; 0 if there is nothing."""
        return self.total_us / self.count / 1000 if self.count else 0.0

    @property
    def largest_ms(self) -> float:
        """The longest time in milliseconds, exact to a microsecond."""
        return self.largest_us / 1000

    def buckets(self) -> list[tuple[int, int]]:
        """Lower edge in microseconds and count of each bucket, in order."""
        return sorted(self._counts.items())

    @classmethod
    def of(cls, buckets: Iterable[tuple[int, int]], largest_us: int, total_us: int) -> Histogram:
        """The histogram that gave these buckets away."""
        histogram = cls()
        for value, count in buckets:
            histogram._counts[value] = count
            histogram.count += count
        histogram.largest_us = largest_us
        histogram.total_us = total_us
        return histogram


def _upper_edge(lower: int) -> int:
    """The largest value in the bucket that begins with `lower`."""
    shift = lower.bit_length() - _SIGNIFICANT_BITS
    return lower + (1 << shift) - 1 if shift > 0 else lower
