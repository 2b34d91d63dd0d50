"""Bytes on their way out: gathered while small, by reference while large, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqtt_core._output import REFERENCE_BYTES, Output, WriterPool


def take_all(output: Output) -> bytes:
    data = b""
    while piece := output.take():
        data += piece
    return data


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 10, REFERENCE_BYTES - 1, REFERENCE_BYTES]), st.booleans()),
        max_size=20,
    )
)
def test_bytes_leave_in_order_and_are_counted(steps: list[tuple[int, bool]]) -> None:
    output = Output(WriterPool())
    expected = b""
    taken = b""
    for number, (size, takes) in enumerate(steps):
        data = bytes([number]) * size
        output.write(data)
        expected += data
        assert output.size_bytes == len(expected) - len(taken)
        assert not output.is_empty
        if takes:
            taken += output.take()
            assert output.size_bytes == len(expected) - len(taken)
            assert output.is_empty is (taken == expected)
    taken += take_all(output)
    assert taken == expected
    assert output.is_empty
    assert output.size_bytes == 0
    assert output.take() == b""


def test_a_large_payload_leaves_as_it_is() -> None:
    output = Output(WriterPool())
    payload = bytes(REFERENCE_BYTES)
    output.write(b"head")
    output.write(payload)
    output.write(b"tail")
    assert output.take() == b"head"
    assert output.take() is payload
    assert output.take() == b"tail"
    output.write_reference(b"small")
    assert output.take() == b"small"
    assert output.writer is None
    two = bytes(REFERENCE_BYTES + 1)
    output.write(payload)
    output.write(two)
    assert output.size_bytes == 2 * REFERENCE_BYTES + 1
    assert output.take() is payload
    assert output.take() is two
    assert output.is_empty


def test_a_writer_goes_back_to_the_pool() -> None:
    pool = WriterPool()
    output = Output(pool)
    writer = output.open()
    assert output.open() is writer
    writer.write(b"x")
    assert output.take() == b"x"
    other = Output(pool)
    assert other.open() is writer
    assert len(writer) == 0
    other.write(b"y")
    other.clear()
    other.clear()
    assert other.is_empty
    assert pool.take() is writer


def test_the_pool_keeps_neither_too_many_nor_too_large_ones() -> None:
    pool = WriterPool()
    large = pool.take()
    large.write(bytes(200_000))
    pool.give(large)
    assert pool.take() is not large
    for writer in [pool.take() for _ in range(300)]:
        pool.give(writer)
    assert len(pool._idle) == 256
