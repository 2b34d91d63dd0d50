"""What a broker of MQTT 5.0 says in words of its own: acknowledgements with a reason.

Where all is well an acknowledgement mostly has the four bytes of MQTT 3.1.1. One that has a reason
code or properties is put into that form here, so that the clients need to know no other.
"""

from __future__ import annotations

from typing import Final

from adapters.bench.sockets import BenchmarkError

DISCONNECT: Final = 0xE0
REFUSED: Final = 0x80  # reason codes from here on mean that a message was not taken


def are_short(data: bytes) -> bool:
    """Whether acknowledgements, of which the last may be there in part, have four bytes each."""
    lengths = data[1::4]
    return lengths == b"\x02" * len(lengths)


def shortened(data: bytes, name: str) -> tuple[bytes, bytes]:
    """Acknowledgements without reason codes and properties, and what is there of a further one.

    Raises `BenchmarkError` for one that refuses, and for DISCONNECT; `name` says whose they are.
    """
    found: list[bytes] = []
    at = 0
    while True:
        end = end_of(data, at)
        if end > len(data):
            return b"".join(found), data[at:]
        if data[at] == DISCONNECT:
            raise disconnected(data[at:], name)
        found.append(short_form(data[at:end], name))
        at = end


def disconnected(data: bytes | bytearray, name: str) -> BenchmarkError:
    """The error for a DISCONNECT (3.14)."""
    reason = data[2] if len(data) > 2 and data[1] else 0
    return BenchmarkError(f"the broker has disconnected {name} with reason 0x{reason:02x}")


def short_form(answer: bytes, name: str) -> bytes:
    """One acknowledgement in four bytes. Raises `BenchmarkError` if it refuses."""
    at = _variable(answer, 1)[1]
    body = answer[at:]
    if len(body) > 2 and body[2] >= REFUSED:
        raise BenchmarkError(f"{name} was refused with reason 0x{body[2]:02x}: {answer.hex(' ')}")
    return answer[:1] + b"\x02" + body[:2]


def end_of(data: bytes, at: int) -> int:
    """Where the packet at `at` ends; past the data while that is not known."""
    try:
        length, start = _variable(data, at + 1)
    except IndexError:
        return len(data) + 1
    return start + length


def _variable(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer, and where it ends (1.5.5)."""
    value = shift = 0
    while True:
        digit = data[at]
        at += 1
        value |= (digit & 0x7F) << shift
        if not digit & 0x80:
            return value, at
        shift += 7
