"""What a client with a store keeps over its own restart."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from mqtt_core.broker import (
    Append,
    Completion,
    Engine,
    HoldIdentifier,
    Limits,
    MemoryEngine,
    ReadQueue,
    ReleaseIdentifier,
    SaveReceived,
)
from mqtt_core.client import (
    Client,
    DeliveryUnknown,
    MessageExpired,
    PublishRefused,
    Settings,
    StoreFailed,
)
from mqtt_core.client._keeping import Step
from mqtt_core.properties import MESSAGE_EXPIRY_INTERVAL
from mqtt_core.store import Write
from tests.core import wire, wire5
from tests.core.wire5 import prop
from tests.line import Hand, settings
from tests.rig import DiskEngine, HoldingEngine, RefusingEngine, writes


class Kept(Hand):
    """A client with a store, on hand-made bytes."""

    def __init__(
        self, engine: Engine | None = None, given: Settings | None = None, *, starts: bool = True
    ) -> None:
        self.engine: Engine = MemoryEngine(Limits()) if engine is None else engine
        given = settings(session_expiry_s=60) if given is None else given
        super().__init__(given, random.Random(0).randbytes)
        self.engine.start(lambda: None)
        if starts:
            self.store()

    def make_client(self, given: Settings, chance: Callable[[int], bytes]) -> Client:
        return Client(
            given,
            chance,
            self.now,
            has_store=True,
            last_number=self.engine.last_number,
        )

    def store(self) -> None:
        """Let the store do what it is asked."""
        for _ in range(1_000):
            requests = self.client.take_requests()
            for request in requests:
                self.engine.submit(request)
            completions: list[Completion] = self.engine.take_completions()
            for completion in completions:
                self.client.completed(completion, self.now)
            if not requests and not completions:
                return
        raise AssertionError("the store is never done")

    def sent(self) -> bytes:
        """What the client has sent, once the store has answered."""
        self.store()
        return super().sent()

    def sent_now(self) -> bytes:
        """What the client has sent, without another look at the store."""
        return super().sent()

    def again(self) -> Kept:
        """The client after a crash."""
        return Kept(self.engine)


def test_messages_leave_when_they_are_stored() -> None:
    engine = HoldingEngine(MemoryEngine(Limits()))
    hand = Kept(engine, starts=False)
    hand.store()
    assert not hand.client.wants_transport
    engine.release()
    hand.store()
    hand.accept()
    for qos in (1, 2, 0):
        hand.publish("t", b"%d" % qos, qos)
    assert hand.sent() == b""
    engine.release(1)
    assert hand.sent() == wire5.publish("t", b"1", 1, 1)
    engine.release(1)
    assert hand.sent() == wire5.publish("t", b"2", 2, 2) + wire5.publish("t", b"0")


def test_handshakes_go_on_after_a_restart() -> None:
    hand = Kept()
    hand.accept()
    for n in range(4):
        hand.publish("t", b"%d" % n, 1 + n % 2)
    assert [each.packet_id for each in wire5.publishes(hand.sent())] == [1, 2, 3, 4]
    hand.give(wire.puback(1), wire.pubrec(2))
    assert hand.sent() == wire.pubrel(2)
    again = hand.again()
    assert again.client.in_flight == 3
    assert again.accept(present=True) == (
        wire.pubrel(2)
        + wire5.publish("t", b"2", 1, 3, dup=True)
        + wire5.publish("t", b"3", 2, 4, dup=True)
    )
    again.give(wire.pubcomp(2), wire.puback(3), wire.pubrec(4))
    assert again.sent() == wire.pubrel(4)
    again.give(wire.pubcomp(4))
    assert again.sent() == b""
    third = again.again()
    assert third.accept(present=True) == b""
    assert third.client.in_flight == 0


def test_what_waited_waits_after_a_restart() -> None:
    limits = settings(session_expiry_s=60, max_inflight_messages=1)
    hand = Kept(given=limits)
    for n in range(4):
        hand.publish("t", b"%d" % n, 1 + n % 2)
    taken_back = hand.publish("t", b"no", 1)
    assert hand.client.cancel(taken_back)
    requests = hand.client.take_requests()
    assert all(isinstance(each, Write) for each in requests)
    for each in requests:
        hand.engine.submit(each)
    hand.store()
    again = Kept(hand.engine, limits)
    assert again.client.pending_messages == 3
    again.publish("t", b"4", 1)
    sent: list[bytes] = []
    data = again.accept(present=True)
    for _ in range(5):
        (received,) = wire5.publishes(data)
        sent.append(received.payload)
        if received.qos == 1:
            again.give(wire.puback(received.packet_id))
        else:
            again.give(wire.pubrec(received.packet_id))
            assert again.sent() == wire.pubrel(received.packet_id)
            again.give(wire.pubcomp(received.packet_id))
        data = again.sent()
    assert sent == [b"0", b"1", b"2", b"3", b"4"]
    assert Kept(hand.engine, limits).client.pending_messages == 0


def test_a_pubrel_waits_until_the_pubrec_is_stored() -> None:
    engine = HoldingEngine(MemoryEngine(Limits()))
    hand = Kept(engine, starts=False)
    hand.store()
    engine.release()
    hand.store()
    hand.accept()
    first, second = hand.publish("t", b"1", 2), hand.publish("t", b"2", 2)
    hand.store()
    engine.release()
    hand.sent()
    hand.give(wire.pubrec(1), wire.pubrec(2), wire.pubrec(2))
    assert hand.sent() == b""
    engine.release_last()
    assert hand.sent() == b""  # PUBRELs leave in the order of the PUBRECs
    hand.cut()
    engine.release()
    hand.store()
    hand.come_back()
    assert hand.accept(present=True) == wire.pubrel(1) + wire.pubrel(2)
    hand.give(wire.pubcomp(1), wire.pubcomp(2))
    assert first.is_done
    assert second.is_done


def test_a_connection_begins_while_a_pubrec_is_being_stored() -> None:
    engine = HoldingEngine(MemoryEngine(Limits()))
    hand = Kept(engine, starts=False)
    hand.store()
    engine.release()
    hand.store()
    hand.accept()
    hand.publish("t", b"1", 2)
    hand.store()
    engine.release()
    hand.sent()
    hand.give(wire.pubrec(1))
    hand.publish("t", b"2", 2)
    hand.store()
    hand.cut()
    hand.come_back()
    assert hand.accept(present=True) == b""
    engine.release()
    assert hand.sent() == wire.pubrel(1) + wire5.publish("t", b"2", 2, 2)


def test_a_qos_2_message_that_came_is_known_after_a_restart() -> None:
    hand = Kept()
    hand.accept()
    consumer = hand.subscribe(("t", 2))
    hand.sent()
    hand.give(wire5.publish("t", b"1", 2, 7))
    assert hand.payloads(consumer) == [b"1"]
    assert hand.sent() == wire.pubrec(7)
    again = hand.again()
    again.accept(present=True)
    consumer = again.subscribe(("t", 2))
    again.sent()
    again.give(wire5.publish("t", b"1", 2, 7, dup=True))
    assert again.sent() == wire.pubrec(7)
    assert again.payloads(consumer) == []
    again.give(wire.pubrel(7))
    assert again.sent() == wire.pubcomp(7)
    third = again.again()
    third.accept(present=True)
    third.give(wire.pubrel(7))
    assert third.sent() == wire5.pubcomp(7, 0x92)


def test_acknowledgements_wait_for_the_store_in_order() -> None:
    engine = HoldingEngine(MemoryEngine(Limits()))
    hand = Kept(engine, starts=False)
    hand.store()
    engine.release()
    hand.store()
    hand.accept()
    consumer = hand.subscribe(("t", 2))
    hand.sent()
    hand.give(wire5.publish("t", b"1", 2, 1), wire5.publish("t", b"2", 1, 2))
    hand.payloads(consumer)
    assert hand.sent() == b""
    engine.release()
    assert hand.sent() == wire.pubrec(1) + wire.puback(2)
    hand.give(wire.pubrel(1))
    assert hand.sent() == b""
    hand.cut()
    engine.release()
    assert hand.sent() == b""  # what it answered is gone


def test_a_lost_session_is_forgotten_by_the_store_as_well() -> None:
    hand = Kept()
    hand.accept()
    consumer = hand.subscribe(("t", 2))
    again_qos1 = hand.publish("t", b"1", 1)
    unknown = hand.publish("t", b"2", 2)
    taken = hand.publish("t", b"3", 2)
    hand.sent()
    hand.give(wire.pubrec(4), wire5.publish("t", b"x", 2, 9))
    hand.payloads(consumer)
    hand.sent()
    hand.cut()
    hand.come_back()
    frames = wire.split(hand.accept())[0]
    assert [frame.first for frame in frames] == [0x82, 0x32]
    assert wire5.read_publish(frames[1]).payload == b"1"
    assert isinstance(unknown.error, DeliveryUnknown)
    assert taken.result().is_done
    assert not again_qos1.is_done
    again = hand.again()
    assert wire5.publishes(again.accept(present=True))[0].payload == b"1"
    again.give(wire5.publish("t", b"new", 2, 9))
    assert again.client.counters.repeats == 0


def test_a_message_of_a_lost_session_leaves_no_trace_in_the_store() -> None:
    hand = Kept()
    hand.accept()
    consumer = hand.subscribe(("t", 2))
    hand.sent()
    hand.give(wire5.publish("t", b"old", 2, 9))
    hand.cut()
    hand.come_back()
    hand.accept()
    assert hand.payloads(consumer) == [b"old"]
    hand.store()
    again = hand.again()
    again.accept(present=True)
    consumer = again.subscribe(("t", 2))
    again.give(wire5.publish("t", b"new", 2, 9))
    assert again.payloads(consumer) == [b"new"]


def test_messages_that_cannot_be_sent_leave_the_store() -> None:
    hand = Kept()
    expiring = hand.publish("t", b"1", 1, False, ((MESSAGE_EXPIRY_INTERVAL, 1),))
    refused = hand.publish("t", b"2", 2)
    hand.store()
    hand.advance(2)
    hand.accept(prop(0x24, b"\x01"))
    assert isinstance(expiring.error, MessageExpired)
    assert isinstance(refused.error, PublishRefused)
    hand.store()
    assert hand.again().client.pending_messages == 0


def test_a_window_that_is_full_has_its_messages_wait_unidentified() -> None:
    hand = Kept(given=settings(session_expiry_s=60, max_inflight_messages=1))
    expiring: list[object] = []
    hand.publish("t", b"1", 1)
    for _ in range(2):
        expiring.append(hand.publish("t", b"x", 1, False, ((MESSAGE_EXPIRY_INTERVAL, 1),)))
    hand.advance(2)
    hand.accept()
    hand.give(wire.puback(1))
    assert hand.sent() == b""
    assert hand.client.counters.expired == 2
    assert hand.again().client.pending_messages == 0


# A store that fails


def test_a_message_that_cannot_be_stored_is_not_sent() -> None:
    hand = Kept(RefusingEngine(MemoryEngine(Limits()), writes(Append)))
    hand.accept()
    refused = hand.publish("t", b"1", 2, waiter="me")
    behind = hand.publish("t", b"0")
    assert hand.sent() == wire5.publish("t", b"0")
    assert behind.is_done
    with pytest.raises(StoreFailed, match="'t' could not be stored: refused by test"):
        refused.result()
    assert hand.client.take_told() == ["me"]
    assert hand.client.in_flight == 0


def test_the_identifier_of_a_message_that_cannot_be_stored_is_free() -> None:
    hand = Kept(
        RefusingEngine(MemoryEngine(Limits()), writes(Append)),
        settings(session_expiry_s=60, max_inflight_messages=1),
    )
    unsent = [hand.publish("t", b"%d" % n, 1) for n in range(3)]
    assert hand.client.cancel(unsent[1])
    hand.store()
    assert isinstance(unsent[0].error, StoreFailed)
    assert unsent[1].error is None
    assert isinstance(unsent[2].error, StoreFailed)


def test_a_message_without_an_identifier_that_cannot_be_stored() -> None:
    engine = RefusingEngine(MemoryEngine(Limits()), 3)  # behind the claim and the first message
    hand = Kept(engine, settings(session_expiry_s=60, max_inflight_messages=1))
    first, second = hand.publish("t", b"1", 1), hand.publish("t", b"2", 1)
    hand.store()
    assert not first.is_done
    assert isinstance(second.error, StoreFailed)


def test_a_pubrec_that_cannot_be_stored_is_asked_for_once_more_after_a_restart() -> None:
    hand = Kept(RefusingEngine(MemoryEngine(Limits()), writes(SaveReceived)))
    hand.accept()
    hand.publish("t", b"1", 2)
    hand.sent()
    hand.give(wire.pubrec(1))
    assert hand.sent() == wire.pubrel(1)


@pytest.mark.parametrize("kind", [HoldIdentifier, ReleaseIdentifier])
def test_a_store_that_fails_otherwise_ends_the_client(kind: type[object]) -> None:
    hand = Kept(RefusingEngine(MemoryEngine(Limits()), writes(kind)))
    hand.accept()
    consumer = hand.subscribe(("t", 2))
    hand.sent()
    hand.give(wire5.publish("t", b"1", 2, 1))
    hand.payloads(consumer)
    hand.store()
    hand.give(wire.pubrel(1))
    hand.store()
    hand.close()
    assert isinstance(hand.client.error, StoreFailed)


def test_a_store_that_cannot_be_read_ends_the_client() -> None:
    hand = Kept(RefusingEngine(MemoryEngine(Limits()), 1))
    assert str(hand.client.error) == "the store of the client is of no use: refused by test"
    engine = MemoryEngine(Limits())
    Kept(engine)
    hand = Kept(RefusingEngine(engine, lambda _, request: isinstance(request, ReadQueue)))
    assert isinstance(hand.client.error, StoreFailed)


def test_a_store_that_fails_when_all_is_over_changes_nothing() -> None:
    engine = RefusingEngine(MemoryEngine(Limits()), 1)
    hand = Kept(engine, starts=False)
    hand.client.disconnect(hand.now)
    hand.store()
    assert hand.client.error is None


def test_a_store_needs_a_session_that_lasts() -> None:
    with pytest.raises(ValueError, match="give client_id and session_expiry_s"):
        Client(settings(), random.Random(0).randbytes, 0.0, has_store=True)


def test_a_step_says_what_it_does() -> None:
    with pytest.raises(NotImplementedError):
        Step().stored(0.0)
    with pytest.raises(NotImplementedError):
        Step().refused("", 0.0)


# Crashes


@pytest.mark.parametrize("seed", range(40))
def test_a_publisher_that_crashes_is_exact_at_qos_2(seed: int) -> None:
    """Whatever the disk has lost: what was acknowledged arrived, and nothing arrived twice."""
    chance = random.Random(seed)
    engine = DiskEngine(MemoryEngine(Limits()), seed)
    held: set[int] = set()
    arrived: list[bytes] = []
    acknowledged: set[bytes] = set()
    number = 0
    for _ in range(8):
        hand = Kept(engine, starts=False)
        while not hand.client.wants_transport:
            hand.store()
        hand.accept(present=True)
        mine = []
        for _ in range(chance.randint(1, 25)):
            if chance.random() < 0.6:
                number += 1
                mine.append(hand.publish("t", b"%d" % number, 2))
            if chance.random() < 0.7:
                hand.store()
            for frame in wire.split(hand.sent_now())[0]:
                if frame.first >> 4 == 3:
                    received = wire5.read_publish(frame)
                    if received.packet_id not in held:
                        held.add(received.packet_id)
                        arrived.append(received.payload)
                    hand.give(wire.pubrec(received.packet_id))
                elif frame.first >> 4 == 6:
                    packet_id = int.from_bytes(frame.body[:2], "big")
                    held.discard(packet_id)
                    hand.give(wire.pubcomp(packet_id))
        acknowledged |= {each.message.payload for each in mine if each.is_done}
        engine.crash()
    assert len(arrived) == len(set(arrived))
    assert acknowledged <= set(arrived)
    assert acknowledged
