"""Ways to cut what is sent. A stream has no boundaries, so none of them may make a difference."""

import random
from collections.abc import Callable

Fragment = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    """As it is."""
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    """One byte at a time; what is very long in a few pieces, and its ends byte by byte."""
    if len(data) <= 4096:
        return [data[at : at + 1] for at in range(len(data))]
    middle = data[64:-64]
    return [*byte_by_byte(data[:64]), middle, *byte_by_byte(data[-64:])]


def cut_anywhere(seed: int) -> Fragment:
    """In a few pieces at random places; the same seed cuts in the same places."""
    places = random.Random(seed)

    def cut(data: bytes) -> list[bytes]:
        count = min(places.randrange(1, 5), len(data) - 1)
        ends = sorted(places.sample(range(1, len(data)), count)) if count > 0 else []
        return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]

    return cut
