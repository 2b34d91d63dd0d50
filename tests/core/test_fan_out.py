"""Messages for many: in turns, with nobody waiting who need not."""

from __future__ import annotations

import pytest

from mqtt_core.broker import (
    CLOSE_AFTER_FLUSH,
    EOF_BY_PEER,
    FIRST,
    LAST,
    MORE,
    WHOLE,
    Append,
    HoldIdentifier,
    Write,
)
from tests.core import wire
from tests.core.test_delivery import acknowledge
from tests.model import invariants
from tests.rig import Client, HoldingEngine, RefusingEngine, Rig, writes


def crowd(rig: Rig, count: int, qos: int = 0, *, clean: bool = True) -> list[Client]:
    clients = []
    for number in range(count):
        client = rig.connect(f"crowd {number}", clean=clean)
        client.subscribe(("t", qos))
        clients.append(client)
    return clients


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_a_wide_message_is_delivered_in_turns_and_then_acknowledged(qos: int, clean: bool) -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 450, qos, clean=clean)
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"x", qos, 1 if qos else 0), wire.PINGREQ, pump=False)
    rig.turn()
    got = sum(bool(reader.received) for reader in readers)
    assert 0 < got < 450
    assert publisher.take() == b""
    assert not publisher.channel.wants_read
    rig.pump()
    assert all(reader.take() == wire.publish("t", b"x", qos, 1 if qos else 0) for reader in readers)
    answer = (b"", wire.puback(1), wire.pubrec(1))[qos]
    assert sorted(publisher.take()) == sorted(answer + wire.PINGRESP)
    assert publisher.channel.wants_read
    invariants.check_at_rest(rig)


def test_others_are_served_between_the_turns_of_a_wide_message() -> None:
    rig = Rig(turn_deliveries=100)
    crowd(rig, 1_000)
    one, other = rig.connect("one"), rig.connect("other")
    other.subscribe(("u", 0))
    rig.connect("p").send(wire.publish("t", b"x"), pump=False)
    rig.turn()
    one.send(wire.publish("u", b"y"), pump=False)
    rig.turn()
    assert other.payloads() == [b"y"]
    deadline = rig.broker.next_deadline()
    assert deadline is not None
    assert deadline <= rig.now
    rig.pump()


def test_who_comes_and_goes_during_a_fan_out() -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 600, 1)
    persistent = rig.persistent("persistent")
    persistent.subscribe(("t", 1))
    late = rig.connect("late")
    rig.connect("p").send(wire.publish("t", b"x", 1, 1), pump=False)
    rig.turn()
    late.send(wire.subscribe(1, ("t", 1)), pump=False)
    readers[-1].send(wire.unsubscribe(2, "t"), pump=False)
    readers[-2].channel.eof(EOF_BY_PEER, rig.now)
    readers[-3].send(wire.subscribe(2, ("t", 0)), pump=False)
    persistent.channel.eof(EOF_BY_PEER, rig.now)
    rig.pump()
    assert late.take() == wire.suback(1, 1)
    assert readers[-1].take() == wire.unsuback(2)
    assert [frame.kind for frame in readers[-3].frames()] == [9, 3]
    assert all(len(reader.publishes()) == 1 for reader in readers[:-3])
    persistent = rig.connect("persistent", clean=False, present=True)
    assert persistent.payloads() == [b"x"]
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_publisher_that_leaves_during_its_fan_out(qos: int) -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 500, qos)
    publisher = rig.persistent("p")
    publisher.send(wire.publish("t", b"x", qos, qos), pump=False)
    publisher.reset()
    assert all(len(reader.publishes()) == 1 for reader in readers)
    if qos == 2:
        publisher = rig.connect("p", clean=False, present=True)
        publisher.send(wire.publish("t", b"x", 2, 2, dup=True))
        assert publisher.take() == wire.pubrec(2)
        assert not any(reader.received for reader in readers)


def test_who_unsubscribes_before_its_turn_gets_nothing() -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 500)
    rig.connect("p").send(wire.publish("t", b"x"), pump=False)
    readers[-1].send(wire.unsubscribe(2, "t"), pump=False)
    rig.pump()
    assert readers[-1].take() == wire.unsuback(2)
    assert all(reader.payloads() == [b"x"] for reader in readers[:-1])
    invariants.check_at_rest(rig)


def test_a_publisher_whose_connection_is_taken_over_during_its_fan_out() -> None:
    """Its message goes on, stored in part already, its will comes behind it, and then only the
    answer to its client's new CONNECT."""
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 450, 1, clean=False)
    witness = rig.connect("witness")
    witness.subscribe(("t", 0), ("w", 0))
    publisher = rig.connect("p", will=("w", b"gone", 0, False))
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    publisher.send(wire.publish("t", b"x", 1, 1), pump=False)
    newer = Client(rig, "newer")
    newer.send(wire.connect("p"), pump=False)
    rig.broker.advance(rig.now)
    for _ in range(2):  # its claim
        rig.exchange()
        engine.release()
    rig.exchange()
    rig.flush()
    assert publisher.is_closed
    assert publisher.take() == b""
    assert newer.take() == b""
    assert rig.broker.next_deadline() == rig.now
    rig.settle()
    assert newer.take() == wire.connack()
    assert witness.payloads() == [b"x", b"gone"]
    assert all(reader.payloads() == [b"x"] for reader in readers)
    invariants.check_at_rest(rig)


def test_messages_that_are_stored_as_a_whole_go_one_after_the_other() -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 450, 1, clean=False)
    publishers = [rig.connect(name, clean=False) for name in ("p", "q")]
    for publisher in publishers:
        publisher.send(wire.publish("t", b"x", 2, 1), pump=False)
    rig.pump()
    assert [publisher.take() for publisher in publishers] == [wire.pubrec(1)] * 2
    assert all(reader.payloads() == [b"x", b"x"] for reader in readers)
    stored = [each for each in rig.requests if isinstance(each, Write) and each.part != WHOLE]
    parts = [each.part for each in stored if each.part != MORE]
    assert parts == [FIRST, LAST, FIRST, LAST]
    assert any(isinstance(each, HoldIdentifier) for each in stored[0].operations)
    invariants.check_at_rest(rig)


def test_a_publisher_that_was_taken_over_while_the_store_was_behind() -> None:
    """Its channel is let go by the store and by the fan-out, and has one turn."""
    rig = Rig(turn_deliveries=100, max_uncommitted_messages=1)
    readers = crowd(rig, 400, 1, clean=False)
    for number in range(200):
        readers.append(rig.connect(f"clean {number}"))
        readers[-1].subscribe(("t", 1))
    rig.connect("p").send(wire.publish("t", b"x", 1, 1), pump=False)
    newer = Client(rig, "newer")
    newer.send(wire.connect("p"), pump=False)
    rig.exchange()
    assert rig.broker.stats.takeovers == 1
    while rig.broker.next_deadline() == rig.now:
        rig.broker.advance(rig.now)
        invariants.check(rig)
        rig.exchange()
    rig.pump()
    assert newer.take() == wire.connack()
    assert all(reader.payloads() == [b"x"] for reader in readers)
    invariants.check_at_rest(rig)


def test_a_publisher_of_a_wide_message_waits_for_the_store_at_its_end() -> None:
    rig = Rig(turn_deliveries=100, max_uncommitted_messages=1)
    crowd(rig, 250, 1, clean=False)
    publisher = rig.connect("p")
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    publisher.send(wire.publish("t", b"x", 1, 1), wire.PINGREQ)
    assert not publisher.channel.wants_read
    assert publisher.take() == b""
    rig.settle()
    assert publisher.take() == wire.puback(1) + wire.PINGRESP
    assert publisher.channel.wants_read
    invariants.check_at_rest(rig)


def test_a_fan_out_rests_while_nobody_flushes() -> None:
    rig = Rig(turn_deliveries=200, turn_output_bytes=1_024)
    readers = crowd(rig, 500)
    rig.connect("p").send(wire.publish("t", bytes(100)), pump=False)
    rig.broker.advance(rig.now)
    before = rig.broker.stats.publishes_sent
    assert 0 < before < 500
    rig.broker.advance(rig.now)
    assert rig.broker.stats.publishes_sent == before
    rig.pump()
    assert all(reader.payloads() == [bytes(100)] for reader in readers)
    invariants.check_at_rest(rig)


def test_a_full_queue_ends_a_connection_in_any_turn_of_a_fan_out() -> None:
    rig = Rig(turn_deliveries=100, max_queued_messages=1, queue_full_policy="disconnect")
    readers = crowd(rig, 500, 1)
    slow = rig.connect("slow")
    slow.subscribe(("t", 1))
    slow.block()
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"1", 1, 1))
    assert not slow.is_closed
    publisher.send(wire.publish("t", b"2", 1, 2))
    assert slow.channel.close == CLOSE_AFTER_FLUSH
    assert rig.last_fact("client.disconnected").cause == "its queue is full"
    assert all(reader.payloads() == [b"1", b"2"] for reader in readers)
    rig.no_faults()


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_a_session_that_has_ended_gets_nothing_for_subscriptions_still_to_be_deleted(
    qos: int, clean: bool
) -> None:
    rig = Rig(session_timeout_secs=10)
    many = [(f"t/{number}", qos) for number in range(1_000)]
    reader = rig.connect("r", clean=clean)
    reader.send(wire.subscribe(1, *many))
    publisher = rig.connect("p")
    reader.cut(pump=False)
    if not clean:
        rig.now += 10
        rig.broker.advance(rig.now)
    assert rig.broker.session_count == 1
    assert 0 < rig.broker.subscription_count < 1_000
    publisher.send(wire.publish("t/0", b"x", qos, qos), pump=False)
    assert rig.broker.stats.queued_messages == 0
    rig.pump()
    assert rig.broker.subscription_count == 0
    assert publisher.take() == (b"", wire.puback(1), wire.pubrec(2))[qos]
    invariants.check_at_rest(rig)


def test_overlapping_subscriptions_in_a_fan_out() -> None:
    rig = Rig(turn_deliveries=100)
    readers = []
    for number in range(400):
        client = rig.connect(f"{number}")
        client.subscribe(("t", number % 3), ("#", (number + 1) % 3), ("+", 0))
        readers.append(client)
    rig.connect("p").send(wire.publish("t", b"x", 2, 1))
    for number, reader in enumerate(readers):
        (got,) = reader.publishes()
        assert got.qos == max(number % 3, (number + 1) % 3)


def test_two_wide_messages_keep_their_order() -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 500, 1)
    publisher = rig.connect("p")
    publisher.send(
        wire.publish("t", b"1", 1, 1) + wire.publish("t", b"2") + wire.publish("t", b"3", 1, 3)
    )
    for reader in readers:
        assert reader.payloads() == [b"1", b"2", b"3"]
    assert publisher.take() == wire.puback(1) + wire.puback(3)


def test_a_wide_message_when_the_output_of_all_is_full() -> None:
    rig = Rig(turn_output_bytes=1_024)
    readers = crowd(rig, 300)
    publisher = rig.connect("p")
    publisher.send(
        b"".join(wire.publish("t", b"%d " % number + bytes(100)) for number in range(20))
    )
    for reader in readers:
        assert len(reader.publishes()) == 20
    assert rig.broker.stats.dropped == 0


def test_a_retained_wide_message_is_there_for_those_who_come_later() -> None:
    rig = Rig(turn_deliveries=100)
    crowd(rig, 300)
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"x", 1, 1, retain=True))
    assert publisher.take() == wire.puback(1)
    late = rig.connect("late")
    late.subscribe(("t", 0))
    assert late.take() == wire.publish("t", b"x", retain=True)


def test_a_wide_message_that_the_store_takes_late() -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 300, 2, clean=False)
    publisher = rig.connect("p")
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    publisher.send(wire.publish("t", b"x", 2, 1))
    assert publisher.take() == b""
    assert not any(reader.received for reader in readers)
    engine.release(1)
    rig.pump()
    assert publisher.take() == b""
    rig.settle()
    assert publisher.take() == wire.pubrec(1)
    for reader in readers:
        assert [each.payload for each in reader.publishes()] == [b"x"]


def test_a_wide_message_of_which_the_store_refuses_a_part() -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 500, 2, clean=False)
    publisher = rig.persistent("p")
    seen: list[int] = []

    def second(number: int, request: object) -> bool:
        if writes(Append)(number, request):  # type: ignore[arg-type]  # any request
            seen.append(number)
        return len(seen) == 2 and seen[-1] == number

    engine = RefusingEngine(rig.engine, second)
    rig.engine = engine
    publisher.send(wire.publish("t", b"x", 2, 1))
    assert publisher.is_closed
    assert publisher.take() == b""
    rig.engine = engine.inner
    publisher = rig.connect("p", clean=False, present=True)
    publisher.send(wire.publish("t", b"x", 2, 1, dup=True))
    rig.settle()
    assert publisher.take() == wire.pubrec(1)
    for reader in readers:
        if reader.is_closed:
            reader = rig.connect(reader.name, clean=False, present=True)
        got = acknowledge(reader)
        assert [each.payload for each in got] == [b"x"], reader
    invariants.check_at_rest(rig)


def test_a_will_for_many() -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 300)
    rig.connect("a", will=("t", b"gone", 0, False)).cut()
    assert all(reader.payloads() == [b"gone"] for reader in readers)


# Turns of input


def test_input_has_turns_too() -> None:
    rig = Rig(turn_deliveries=1)
    reader = rig.connect("r")
    reader.subscribe(("t", 0))
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"x") * 1_000, pump=False)
    assert not publisher.channel.wants_read
    deadline = rig.broker.next_deadline()
    assert deadline is not None
    assert deadline <= rig.now
    rig.turn()
    assert 0 < len(reader.publishes()) < 1_000
    publisher.send(wire.PINGREQ, pump=False)
    rig.pump()
    assert publisher.take() == wire.PINGRESP
    assert publisher.channel.wants_read
    assert len(reader.publishes()) > 0


def test_channels_take_turns() -> None:
    rig = Rig(turn_deliveries=1)
    reader = rig.connect("r")
    reader.subscribe(("+", 0))
    publishers = [rig.connect("a"), rig.connect("b")]
    for publisher, topic in zip(publishers, "ab", strict=True):
        publisher.send(wire.publish(topic) * 2_000, pump=False)
    rig.turn()
    rig.turn()
    topics = {each.topic for each in reader.publishes()}
    assert topics == {"a", "b"}
    rig.pump()


def test_dirty_channels_are_taken_in_slices() -> None:
    rig = Rig(take=3)
    readers = crowd(rig, 100)
    rig.connect("p").send(wire.publish("t", b"x"), pump=False)
    taken = rig.broker.take_dirty(10)
    assert len(taken) == 10
    assert rig.broker.has_dirty
    for channel in taken:
        client = channel.transport
        assert isinstance(client, Client)
        client.flush()
    rig.pump()
    assert all(reader.payloads() == [b"x"] for reader in readers)


def test_two_clients_that_publish_to_each_other_never_stop() -> None:
    rig = Rig(output_budget_bytes=1_024, max_queued_messages=10)
    pair = [rig.connect("a"), rig.connect("b")]
    pair[0].subscribe(("to-a", 0))
    pair[1].subscribe(("to-b", 0))
    for client, topic in zip(pair, ("to-b", "to-a"), strict=True):
        client.block()
        client.send(wire.publish(topic, bytes(100)) * 500)
        assert client.channel.wants_read
    for client in pair:
        client.unblock()
        assert client.publishes()
        client.send(wire.PINGREQ)
        assert client.take().endswith(wire.PINGRESP)
    invariants.check_at_rest(rig)
