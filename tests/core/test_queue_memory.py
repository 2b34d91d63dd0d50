"""What waits counts as the memory it takes: a message on a disk as its place in the index."""

from __future__ import annotations

import pytest

from mqtt_core import make_message
from mqtt_core.broker import Engine, MemoryEngine, Queued
from mqtt_core.broker._ledger import STORED_BYTES
from tests.core import wire
from tests.core.test_delivery import acknowledge, payloads
from tests.model import invariants
from tests.rig import Client, EngineAround, Rig, new_queue

INDEX_BYTES = 24
COST = STORED_BYTES + INDEX_BYTES
PAYLOAD = bytes(1_000)
SIZE = make_message("t", PAYLOAD, 1).size_bytes


class IndexingEngine(EngineAround):
    """Has contents on a disk, as far as anybody can see."""

    index_bytes = INDEX_BYTES


def on_a_disk(**limits: int | str) -> Rig:
    settings = Rig(settings=limits).limits
    return Rig(engine=IndexingEngine(MemoryEngine(settings)), settings=limits)


def in_memory(rig: Rig) -> int:
    return rig.broker._ws.undelivered.count


def away(rig: Rig, client_id: str, topic: str = "t", qos: int = 1) -> None:
    client = rig.persistent(client_id)
    client.subscribe((topic, qos))
    client.cut()


def publish(rig: Rig, count: int, topic: str = "t", qos: int = 1) -> None:
    publisher = rig.connect("p")
    for number in range(1, count + 1):
        publisher.send(wire.publish(topic, PAYLOAD, qos, number))
    publisher.cut()


def test_a_queue_counts_what_each_message_takes_where_it_is() -> None:
    message = make_message("t", PAYLOAD, 1)
    queue = new_queue(index_bytes=INDEX_BYTES)
    for number in range(1, 5):
        queue.add_stored(number, SIZE)
    assert (queue.size_bytes, queue.memory_bytes) == (4 * SIZE, 4 * COST)
    queue.load([Queued(1, 1, message)])
    assert (queue.size_bytes, queue.memory_bytes) == (4 * SIZE, 3 * COST + SIZE)
    queue.drop_oldest()
    queue.drop_oldest()
    queue.forget_stored(3)
    assert (queue.size_bytes, queue.memory_bytes) == (SIZE, COST)
    queue.add(5, 0, message)
    queue.put_back([Queued(3, 1, message)])
    assert (queue.size_bytes, queue.memory_bytes) == (3 * SIZE, 2 * SIZE + COST)
    assert queue.forget_all() == 3
    assert queue.count == queue.size_bytes == queue.memory_bytes == 0


def test_a_queue_of_an_engine_in_memory_counts_whole_messages() -> None:
    queue = new_queue()
    queue.add_stored(1, SIZE)
    assert queue.memory_bytes == SIZE
    queue.drop_oldest()
    assert queue.memory_bytes == 0


@pytest.mark.parametrize(("is_on_disk", "fits"), [(True, 20), (False, 20 * COST // SIZE)])
def test_the_total_is_one_of_memory(is_on_disk: bool, fits: int) -> None:
    limits: dict[str, int] = {"total_queued_bytes": 20 * COST}
    rig = on_a_disk(**limits) if is_on_disk else Rig(settings=limits)
    away(rig, "a")
    away(rig, "b")
    publish(rig, 15)
    stats = rig.broker.stats
    assert stats.queued_messages == fits
    assert stats.dropped_queue_full == 2 * 15 - fits
    assert stats.queued_bytes == fits * SIZE  # wherever it is
    invariants.check_at_rest(rig)


def test_a_queue_has_its_own_limit_of_bytes_wherever_they_are() -> None:
    rig = on_a_disk(max_queued_bytes=3 * SIZE)
    away(rig, "a")
    publish(rig, 5)
    assert rig.broker.stats.queued_messages == 3


def test_qos_0_waits_in_memory_and_makes_room_for_what_goes_to_the_disk() -> None:
    rig = on_a_disk(total_queued_bytes=SIZE + COST - 1, queue_qos0_offline=True)
    away(rig, "a")
    publish(rig, 2, qos=0)
    assert in_memory(rig) >= SIZE
    assert rig.broker.stats.queued_messages == 1
    publish(rig, 1)
    assert in_memory(rig) == COST
    assert rig.broker.stats.dropped_qos_0 == 2


def test_a_queue_of_any_length_comes_through_little_memory() -> None:
    rig = on_a_disk(total_queued_bytes=100 * COST)
    away(rig, "a")
    publish(rig, 100)
    assert in_memory(rig) == 100 * COST
    reader = rig.persistent("a", present=True)
    assert in_memory(rig) <= 100 * COST + 65_536 + 2 * SIZE
    invariants.check_at_rest(rig)
    assert payloads(acknowledge(reader)) == [PAYLOAD] * 100
    assert in_memory(rig) == 0
    invariants.check_at_rest(rig)


def test_where_memory_is_short_little_is_read_at_once() -> None:
    """Of a long page no more than a session may use whatever the others do."""
    rig = on_a_disk(total_queued_bytes=200 * COST, output_budget_bytes=1 << 20)
    away(rig, "a")
    publish(rig, 200)
    reader = rig.persistent("a", present=True)
    assert in_memory(rig) <= 200 * COST + 65_536 + 2 * SIZE
    assert payloads(acknowledge(reader)) == [PAYLOAD] * 200


def test_a_restart_counts_what_it_finds() -> None:
    rig = on_a_disk(total_queued_bytes=100 * COST)
    away(rig, "a")
    publish(rig, 90)
    rig.crash()
    assert in_memory(rig) == 90 * COST
    publish(rig, 20)
    assert rig.broker.stats.queued_messages == 100
    invariants.check_at_rest(rig)


def test_a_message_that_is_refused_leaves_nothing() -> None:
    rig = on_a_disk(queue_full_policy="refuse", total_queued_bytes=2 * COST)
    away(rig, "a")
    publish(rig, 3)
    assert rig.broker.stats.refused_queue_full == 1
    assert in_memory(rig) == 2 * COST
    reader = rig.persistent("a", present=True)
    assert len(acknowledge(reader)) == 2
    assert in_memory(rig) == 0


def test_a_session_that_ends_leaves_nothing() -> None:
    rig = on_a_disk()
    away(rig, "a")
    publish(rig, 3)
    rig.connect("a").cut()
    assert in_memory(rig) == 0
    assert rig.broker.stats.queued_messages == rig.broker.stats.queued_bytes == 0


def test_monitors_see_memory_beside_bytes() -> None:
    rig = on_a_disk(sys_interval_secs=10)
    away(rig, "a")
    publish(rig, 3)
    witness: Client = rig.connect("w")
    rig.advance(10)
    for topic, value in (("bytes", 3 * SIZE), ("memory", 3 * COST)):
        witness.subscribe((f"$SYS/broker/store/messages/{topic}", 0))
        assert witness.payloads() == [b"%d" % value]


def test_engines_say_what_they_keep_in_memory() -> None:
    engine: Engine = MemoryEngine(Rig().limits)
    assert engine.index_bytes is None
