"""Messages that wait for one session."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from mqtt_core import Message, make_message
from mqtt_core.broker import Queued
from mqtt_core.broker._stored import Stored
from tests.rig import new_queue

MESSAGES = [make_message("t", bytes(size), 1) for size in (0, 1, 10)]


def sizes(messages: list[Message]) -> int:
    return sum(message.size_bytes for message in messages)


def test_arrival_merges_qos_0_and_the_others() -> None:
    queue = new_queue()
    queue.add(1, 0, MESSAGES[0])
    queue.add(2, 1, MESSAGES[1])
    queue.add(3, 0, MESSAGES[2])
    assert (queue.count, queue.size_bytes) == (3, sizes(MESSAGES))
    assert queue.has_qos_0
    assert queue.has_loaded
    assert queue.has_waiting
    assert not queue.has_stored
    assert queue.next_is_qos_0()
    assert queue.pop_qos_0().number == 1
    assert not queue.next_is_qos_0()
    assert queue.pop_loaded().number == 2
    assert queue.next_is_qos_0()
    assert queue.pop_qos_0().message is MESSAGES[2]
    assert not queue.next_is_qos_0()
    assert (queue.count, queue.size_bytes) == (0, 0)
    assert not queue.has_waiting


def test_what_is_stored_is_counted_and_comes_in_pages() -> None:
    queue = new_queue()
    for number in range(1, 6):
        queue.add_stored(number, MESSAGES[1].size_bytes)
    assert queue.has_stored
    assert queue.has_waiting
    assert not queue.has_loaded
    assert queue.count == 5
    queue.load([Queued(number, 1, MESSAGES[1]) for number in (1, 2)])
    assert queue.count == 5
    assert queue.last_read == 2
    assert queue.pop_loaded().number == 1
    assert queue.drop_oldest() == 2
    assert queue.drop_oldest() == 3
    assert queue.count == 2
    assert queue.size_bytes == 2 * MESSAGES[1].size_bytes


def test_what_is_dropped_while_its_page_is_read_does_not_come_back() -> None:
    queue = new_queue()
    for number in (1, 2, 3):
        queue.add_stored(number, MESSAGES[1].size_bytes)
    assert queue.drop_oldest() == 1
    queue.load([Queued(number, 1, MESSAGES[1]) for number in (1, 2)])
    assert queue.count == 2
    assert queue.pop_loaded().number == 2
    assert queue.last_read == 2


def test_a_page_shows_what_the_engine_did_not_take() -> None:
    queue = new_queue()
    for number in (1, 2, 3):
        queue.add_stored(number, MESSAGES[1].size_bytes)
    queue.load([Queued(3, 1, MESSAGES[1])])
    assert queue.count == 1
    assert queue.size_bytes == MESSAGES[1].size_bytes


def test_a_message_that_is_not_stored_after_all() -> None:
    queue = new_queue()
    queue.add_stored(1, 100)
    queue.add_stored(2, 200)
    assert queue.forget_stored(1)
    assert not queue.forget_stored(1)
    assert (queue.count, queue.size_bytes) == (1, 200)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=60))
def test_any_history_keeps_order_and_counts(steps: list[tuple[int, int]]) -> None:
    queue = new_queue()
    model: deque[tuple[int, int, Message]] = deque()
    for number, (step, value) in enumerate(steps, 1):
        message = MESSAGES[value]
        qos_0 = [entry for entry in model if entry[1] == 0]
        others = [entry for entry in model if entry[1]]
        if step == 0 and qos_0:
            assert queue.pop_qos_0().number == qos_0[0][0]
            model.remove(qos_0[0])
        elif step == 1 and others:
            assert queue.pop_loaded().number == others[0][0]
            model.remove(others[0])
        elif step == 2 and others:
            assert queue.drop_oldest() == others[0][0]
            model.remove(others[0])
        else:
            queue.add(number, value, message)
            model.append((number, value, message))
        assert queue.count == len(model)
        assert queue.size_bytes == sizes([entry[2] for entry in model])
        assert queue.next_is_qos_0() is bool(model and model[0][1] == 0)
        assert queue.has_qos_0 is any(entry[1] == 0 for entry in model)
        assert queue.has_waiting is any(entry[1] for entry in model)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40)), max_size=40))
def test_what_only_the_store_has_is_known_by_number_and_size(
    steps: list[tuple[int, int]],
) -> None:
    stored = Stored()
    model: list[tuple[int, int]] = []
    last = 0
    for step, value in steps:
        if step == 0:
            for _ in range(value * 20):  # enough to give room back
                last += 1
                stored.append(last, value)
                model.append((last, value))
        elif step == 1:
            for _ in range(min(value * 15, len(model))):
                assert stored.first_number == model[0][0]
                assert stored.pop_first() == model.pop(0)[1]
        else:
            wanted = {number for number, _ in model if number % value == 0}
            assert stored.take(wanted) == [entry for entry in model if entry[0] in wanted]
            model = [entry for entry in model if entry[0] not in wanted]
        assert len(stored) == len(model)
        assert stored.numbers() == [number for number, _ in model]


def test_what_has_been_popped_is_given_back() -> None:
    stored = Stored()
    for number in range(1, 1_001):
        stored.append(number, number << 8)
    for number in range(1, 901):
        assert stored.pop_first() == number << 8
    assert stored.numbers() == list(range(901, 1_001))
    assert len(stored._entries) < 1_000
