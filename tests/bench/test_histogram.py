"""Percentiles are right to a thousandth, whatever was counted, and memory has an end."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from adapters.bench.histogram import LARGEST_US, SHARES, Histogram

times_us = st.lists(st.integers(0, LARGEST_US) | st.integers(0, 5_000), min_size=1, max_size=200)
shares = st.floats(0.0, 1.0, exclude_min=True)


def counted(values_us: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values_us:
        # Half a microsecond more, so that no rounding of floats goes below the value.
        histogram.record((value + 0.5) / 1e6)
    return histogram


@given(times_us, shares)
def test_a_percentile_is_that_of_the_sorted_values(values: list[int], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values) - 1e-9)) - 1]
    (found_ms,) = counted(values).percentiles_ms([share])
    assert exact <= found_ms * 1000 + 1e-6 <= exact * (1 + 1 / 1024) + 1


@given(times_us)
def test_count_mean_and_largest_are_exact(values: list[int]) -> None:
    histogram = counted(values)
    assert histogram.count == len(values)
    assert histogram.largest_us == max(values)
    assert math.isclose(histogram.mean_ms * 1000, sum(values) / len(values), abs_tol=1e-6)


@given(times_us, times_us)
def test_merging_is_counting_all(some: list[int], others: list[int]) -> None:
    merged = counted(some)
    merged.merge(counted(others))
    whole = counted(some + others)
    assert merged.buckets() == whole.buckets()
    assert merged.percentiles_ms() == whole.percentiles_ms()
    assert (merged.count, merged.mean_ms) == (whole.count, whole.mean_ms)


@given(times_us)
def test_a_histogram_can_be_made_again_from_its_buckets(values: list[int]) -> None:
    histogram = counted(values)
    again = Histogram.of(histogram.buckets(), histogram.largest_us, histogram.total_us)
    assert again.percentiles_ms() == histogram.percentiles_ms()
    assert (again.count, again.mean_ms) == (histogram.count, histogram.mean_ms)


def test_the_number_of_buckets_has_an_end() -> None:
    histogram = Histogram()
    value = 1.0
    while value < LARGEST_US:
        histogram.record(value / 1e6)
        value *= 1.0002
    assert len(histogram.buckets()) <= 25_000


def test_what_is_out_of_range_is_counted_at_its_edge() -> None:
    histogram = Histogram()
    histogram.record(-0.001)
    histogram.record(2e9, 2)
    assert histogram.largest_us == LARGEST_US
    assert [count for _, count in histogram.buckets()] == [1, 2]


def test_nothing_has_no_percentiles() -> None:
    assert Histogram().percentiles_ms() == [0.0] * len(SHARES)
    assert Histogram().mean_ms == 0.0
