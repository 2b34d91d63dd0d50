"""Packet identifiers and handshakes (2.3.1, 4.3, 4.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_core import Flow, make_message
from mqtt_core._flow import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    AWAITING_SUBACK,
    AWAITING_UNSUBACK,
    FLOOR_BYTES,
    FREE,
    STORING_PUBLISH,
    STORING_PUBREL,
    ByteCount,
)

MESSAGE = make_message("t", b"x", 1)


@pytest.mark.statement("v3 MQTT-2.3.1-4")
def test_an_identifier_is_not_given_twice() -> None:
    flow = Flow()
    given_out = [flow.start(MESSAGE, AWAITING_PUBACK) for _ in range(1_000)]
    assert sorted(given_out) == list(range(1, 1_001))
    flow.finish(500)
    assert flow.step(500) == FREE
    assert flow.start(MESSAGE, AWAITING_PUBACK) != 500  # those just freed come last
    assert flow.in_flight == 1_000
    assert bool(flow.is_empty) is False


@pytest.mark.statement("v3 MQTT-2.3.1-1")
def test_every_identifier_but_0_can_be_used_at_once() -> None:
    flow = Flow()
    used = {flow.start(None, AWAITING_SUBACK) for _ in range(65_535)}
    assert used == set(range(1, 65_536))
    assert bool(flow.has_identifier) is False
    assert flow.in_flight == 0
    flow.finish(77)
    assert bool(flow.has_identifier) is True
    assert flow.start(MESSAGE, AWAITING_PUBREC) == 77


def test_the_window_counts_messages_and_not_requests() -> None:
    flow = Flow(2)
    flow.start(None, AWAITING_SUBACK)
    flow.start(None, AWAITING_UNSUBACK)
    assert bool(flow.has_room) is True
    first = flow.start(MESSAGE, AWAITING_PUBACK)
    flow.start(MESSAGE, AWAITING_PUBREC)
    assert bool(flow.has_room) is False
    assert flow.room(0) == 0
    flow.finish(first)
    assert flow.room(0) == 1
    assert flow.room(1) == 0


def test_the_window_counts_bytes() -> None:
    flow = Flow(100, window_bytes=2 * MESSAGE.size_bytes)
    first = flow.start(MESSAGE, AWAITING_PUBREC)
    assert bool(flow.has_room) is True
    flow.start(MESSAGE, AWAITING_PUBREC)
    assert bool(flow.has_room) is False
    flow.advance(first, AWAITING_PUBCOMP)  # its message is forgotten
    assert flow.in_flight_bytes == MESSAGE.size_bytes
    assert bool(flow.has_room) is True


def test_of_a_total_that_is_used_up_each_has_a_little() -> None:
    large = make_message("t", bytes(FLOOR_BYTES - 1_000), 1)
    total = ByteCount(large.size_bytes)
    flow, other = Flow(100, total=total), Flow(100, total=total)
    flow.start(large, AWAITING_PUBACK)
    assert total.count == total.limit
    assert flow.room(0) == 99
    first = flow.start(large, AWAITING_PUBACK)
    assert flow.room(0) == 0
    assert other.room(0) == 100
    flow.finish(first)
    assert flow.room(0) == 99


def test_steps_of_a_handshake() -> None:
    flow = Flow()
    packet_id = flow.start(MESSAGE, STORING_PUBLISH)
    assert flow.step(packet_id) == STORING_PUBLISH
    flow.advance(packet_id, AWAITING_PUBREC)
    assert flow.step(packet_id) == AWAITING_PUBREC
    assert flow.message(packet_id) is MESSAGE
    flow.advance(packet_id, STORING_PUBREL)
    assert flow.message(packet_id) is None
    flow.advance(packet_id, AWAITING_PUBCOMP)
    assert flow.step(packet_id) == AWAITING_PUBCOMP
    flow.finish(packet_id)
    assert bool(flow.is_empty) is True
    assert flow.step(65_535) == FREE


@pytest.mark.statement("v3 MQTT-4.6.0-1")
@pytest.mark.statement("v3 MQTT-4.6.0-4")
def test_what_is_unfinished_is_in_the_order_of_its_packets() -> None:
    flow = Flow()
    ids = [flow.start(MESSAGE, AWAITING_PUBREC) for _ in range(4)]
    flow.finish(ids[1])
    late = flow.start(MESSAGE, AWAITING_PUBACK)
    flow.advance(ids[0], AWAITING_PUBCOMP)
    assert flow.unfinished() == [ids[2], ids[3], late, ids[0]]
    flow.advance(ids[3], AWAITING_PUBCOMP)
    assert flow.unfinished() == [ids[2], late, ids[0], ids[3]]


def test_a_stored_session_is_put_back_in_its_order() -> None:
    flow = Flow()
    flow.restore(300, MESSAGE, AWAITING_PUBACK)
    flow.restore(2, None, AWAITING_PUBCOMP)
    flow.restore(40, MESSAGE, AWAITING_PUBREC)
    assert flow.unfinished() == [300, 2, 40]
    assert flow.in_flight == 3
    assert flow.in_flight_bytes == 2 * MESSAGE.size_bytes
    assert flow.start(MESSAGE, AWAITING_PUBACK) not in (300, 2, 40)


def test_reset_forgets_everything_and_gives_back_the_messages() -> None:
    flow = Flow()
    other = make_message("t", b"other")
    flow.start(other, AWAITING_PUBACK)
    taken = flow.start(MESSAGE, AWAITING_PUBREC)
    flow.start(MESSAGE, AWAITING_PUBREC)
    flow.advance(taken, AWAITING_PUBCOMP)
    flow.hold(9)
    assert flow.reset() == [other, MESSAGE]
    assert bool(flow.is_empty) is True
    assert flow.in_flight == flow.in_flight_bytes == 0
    assert flow.step(1) == FREE
    assert flow.unfinished() == []


@pytest.mark.statement("v3 MQTT-4.3.3-2")
def test_an_identifier_is_held_from_publish_to_pubrel() -> None:
    flow = Flow()
    assert not flow.release(7)
    assert flow.hold(7)
    assert not flow.hold(7)
    assert bool(flow.is_empty) is False
    assert not flow.release(8)
    assert flow.hold(8)
    assert flow.release(7)
    assert not flow.release(7)
    assert flow.release(8)
    assert bool(flow.is_empty) is True
    assert flow.hold(7)


@given(st.lists(st.integers(0, 400), max_size=300))
def test_any_history_keeps_the_counts_right(steps: list[int]) -> None:
    flow = Flow()
    open_ids: dict[int, bool] = {}
    for step in steps:
        if step < 250 or not open_ids:
            is_message = step % 2 == 0
            packet_id = flow.start(
                MESSAGE if is_message else None,
                AWAITING_PUBREC if is_message else AWAITING_SUBACK,
            )
            assert packet_id not in open_ids
            assert 1 <= packet_id <= 65_535
            open_ids[packet_id] = is_message
        else:
            packet_id = sorted(open_ids)[step % len(open_ids)]
            if open_ids.pop(packet_id) and step % 3 == 0:
                flow.advance(packet_id, AWAITING_PUBCOMP)
            flow.finish(packet_id)
        assert flow.in_flight == sum(open_ids.values())
        assert flow.in_flight_bytes == sum(open_ids.values()) * MESSAGE.size_bytes
        assert sorted(flow.unfinished()) == sorted(open_ids)
