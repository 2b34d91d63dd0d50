"""What is due when: one heap for everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_core._store import Done, Failed
from mqtt_core.broker._deadlines import Deadline, Deadlines, Timed
from mqtt_core.broker._gating import Reversible
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._session import Session
from mqtt_core.broker._sessions import SessionTimer
from mqtt_core.broker._work import Work
from tests.rig import Rig


def a_timer() -> SessionTimer:
    """Something that can be due; nothing of the tests calls it."""
    return SessionTimer(Rig().broker._sessions, Session(1, 0, "c"))


def pop_all(deadlines: Deadlines, now: float) -> list[int]:
    """The kinds of all that is due, in order."""
    kinds = []
    while (deadline := deadlines.pop_due(now)) is not None:
        kinds.append(deadline.kind)
    return kinds


def test_what_is_due_comes_in_order() -> None:
    deadlines = Deadlines()
    timer = a_timer()
    assert deadlines.next_at() is None
    assert deadlines.pop_due(1e9) is None
    deadlines.arm(3.0, 3, timer)
    deadlines.arm(1.0, 1, timer)
    deadlines.arm(2.0, 2, timer)
    deadlines.arm(2.0, 22, timer)
    assert deadlines.next_at() == 1.0
    assert pop_all(deadlines, 0.5) == []
    assert pop_all(deadlines, 2.0) == [1, 2, 22]
    assert len(deadlines) == 1
    assert pop_all(deadlines, 1e9) == [3]


def test_what_is_cancelled_does_not_come_and_lets_go_of_its_owner() -> None:
    deadlines = Deadlines()
    timer = a_timer()
    first = deadlines.arm(1.0, 1, timer)
    deadlines.arm(2.0, 2, timer)
    deadlines.cancel(first)
    deadlines.cancel(first)
    assert first.owner is None
    assert len(deadlines) == 1
    assert deadlines.next_at() == 2.0
    due = deadlines.pop_due(5.0)
    assert due is not None
    due.owner = None
    deadlines.cancel(due)
    assert len(deadlines) == 0


def test_the_heap_does_not_grow_with_what_is_cancelled() -> None:
    deadlines = Deadlines()
    timer = a_timer()
    deadlines.arm(1e9, 0, timer)
    for number in range(10_000):
        deadlines.cancel(deadlines.arm(float(number), 1, timer))
        assert len(deadlines._heap) < 2_100
    assert len(deadlines) == 1
    assert pop_all(deadlines, 1e10) == [0]


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=100))
def test_any_history_agrees_with_a_sorted_list(steps: list[tuple[int, bool]]) -> None:
    deadlines = Deadlines()
    timer = a_timer()
    armed: list[tuple[int, int, Deadline]] = []
    for number, (value, is_cancelled) in enumerate(steps):
        if is_cancelled and armed:
            _, _, deadline = armed.pop(value % len(armed))
            deadlines.cancel(deadline)
        else:
            armed.append((value, number, deadlines.arm(float(value), number, timer)))
        assert len(deadlines) == len(armed)
        assert deadlines.next_at() == min((float(at) for at, _, _ in armed), default=None)
    armed.sort(key=lambda entry: entry[:2])
    assert pop_all(deadlines, 10.0) == [number for at, number, _ in armed if at <= 10]


def test_the_bases_do_nothing_by_themselves() -> None:
    with pytest.raises(NotImplementedError):
        Reversible().keep()
    with pytest.raises(NotImplementedError):
        Reversible().take_back()
    with pytest.raises(NotImplementedError):
        Pending().done(Done(1))
    with pytest.raises(NotImplementedError):
        Pending().failed(Failed(1, ""))
    with pytest.raises(NotImplementedError):
        Work().run()
    with pytest.raises(NotImplementedError):
        Timed().on_deadline(1, 0.0)
    Work().on_deadline(1, 0.0)
