"""Input cut into packets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_core import RemoteProtocolError
from mqtt_core._receive_buffer import ReceiveBuffer
from tests.core import wire
from tests.strategies import cut_positions, pieces


def read_all(buffer: ReceiveBuffer) -> list[tuple[int, bytes]]:
    """The packets that are whole, each with its position in the stream."""
    found = []
    while buffer.next_packet():
        at = buffer.stream_offset(int(buffer.start))
        found.append((at, buffer.data[buffer.start : buffer.end]))
    return found


@given(st.lists(st.integers(0, 300), max_size=12), cut_positions)
def test_packets_are_the_same_however_the_stream_is_cut(
    sizes: list[int], positions: list[int]
) -> None:
    packets = [wire.packet(0x30, bytes(size)) for size in sizes]
    stream = b"".join(packets)
    buffer = ReceiveBuffer(1_000)
    found: list[tuple[int, bytes]] = []
    for piece in pieces(stream, positions):
        buffer.feed(piece)
        found += read_all(buffer)
    expected = []
    at = 0
    for packet in packets:
        expected.append((at, packet))
        at += len(packet)
    assert found == expected
    assert buffer.size_bytes == 0
    assert not buffer.has_unread


def test_chunks_that_come_before_the_last_ones_are_read() -> None:
    buffer = ReceiveBuffer(1_000)
    buffer.feed(b"\xc0\0\xc0\0")
    assert buffer.next_packet()
    assert buffer.has_unread
    buffer.feed(b"\xd0\0")
    assert read_all(buffer) == [(2, b"\xc0\0"), (4, b"\xd0\0")]


def test_what_is_held_is_what_has_arrived() -> None:
    buffer = ReceiveBuffer(1 << 28)
    packet = wire.packet(0x30, bytes(200_000))
    for at in range(0, 100_000, 1_000):
        buffer.feed(packet[at : at + 1_000])
        assert not buffer.next_packet()
        assert buffer.size_bytes == at + 1_000
    buffer.feed(packet[100_000:] + b"\xc0")
    assert buffer.next_packet()
    assert buffer.data[buffer.start : buffer.end] == packet
    assert not buffer.next_packet()
    assert buffer.size_bytes == 1


def test_the_limit_is_checked_on_the_length_prefix() -> None:
    buffer = ReceiveBuffer(100)
    buffer.feed(wire.packet(0x30, bytes(98)))
    assert buffer.next_packet()
    buffer.feed(b"\x30\x63")
    with pytest.raises(RemoteProtocolError) as caught:
        buffer.next_packet()
    assert caught.value.reason == 0x95
    assert "101 bytes" in str(caught.value)


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_length_of_five_bytes_is_malformed(cut: int) -> None:
    buffer = ReceiveBuffer(100)
    stream = b"\x30\x80\x80\x80\x80\x01"
    buffer.feed(stream[:cut])
    assert not buffer.next_packet()
    buffer.feed(stream[cut:])
    with pytest.raises(RemoteProtocolError, match="longer than four") as caught:
        buffer.next_packet()
    assert buffer.stream_offset(caught.value.offset) == 5


def test_what_is_cleared_is_gone() -> None:
    buffer = ReceiveBuffer(100)
    buffer.feed(b"\xc0\0\x30\x10abc")
    assert buffer.next_packet()
    assert not buffer.next_packet()
    assert buffer.size_bytes == 5
    buffer.clear()
    assert buffer.size_bytes == 0
    assert not buffer.next_packet()


def test_an_empty_chunk_is_nothing() -> None:
    buffer = ReceiveBuffer(100)
    buffer.feed(b"")
    assert not buffer.next_packet()
    buffer.feed(b"\xc0")
    assert not buffer.next_packet()
    buffer.feed(b"")
    assert not buffer.next_packet()
    buffer.feed(b"\0")
    assert buffer.next_packet()
