"""Flow control of MQTT 5.0: neither side is ever sent more than it has said that it takes (4.9)."""

from __future__ import annotations

import random

import pytest

from mqtt_core.broker import (
    Append,
    ClaimSession,
    MatchRetained,
    SaveReceived,
    Write,
)
from tests.core import wire, wire5
from tests.core.wire5 import u32
from tests.model import invariants
from tests.rig import Client, HoldingEngine, LateEngine, RefusingEngine, Rig, writes

KEPT = wire5.prop(0x11, u32(1_000))


def at_most(count: int) -> bytes:
    """A receive maximum."""
    return wire5.prop(0x21, wire.u16(count))


class Reader:
    """Acknowledges what it is sent, as slowly as a test wants, and sees that it is never more
    than it takes. It counts what has come on its present connection (4.9)."""

    def __init__(self, rig: Rig, client_id: str) -> None:
        self.rig = rig
        self.client_id = client_id
        self.maximum = 0
        self.unacknowledged: dict[int, int] = {}  # QoS by packet identifier, in order
        self.released: list[int] = []  # PUBREL has come for these
        self.got: list[wire5.Received5] = []
        self.client: Client | None = None

    def connect(self, maximum: int, *, clean: bool = False) -> None:
        """A new connection, whatever has become of the one before."""
        client = self.rig.open(self.client_id)
        client.level = 5
        client.send(wire5.connect(self.client_id, KEPT, at_most(maximum), clean=clean))
        self.client = client
        self.maximum = maximum
        self.unacknowledged = {}
        self.released = []
        self.read()

    def read(self) -> None:
        """Take what there is."""
        assert self.client is not None
        for frame in self.client.frames():
            if frame.kind == 3:
                received = wire5.read_publish(frame)
                if received.qos:
                    assert received.packet_id not in self.unacknowledged
                    self.unacknowledged[received.packet_id] = received.qos
                    assert len(self.unacknowledged) <= self.maximum
                self.got.append(received)
            elif frame.kind == 6:
                self.released.append(frame.packet_id)

    def acknowledge(self, count: int, *, pubrec: int | None = None) -> None:
        """Answer the first messages; a PUBREC with an error ends its exchange."""
        assert self.client is not None
        for packet_id, qos in list(self.unacknowledged.items())[:count]:
            if qos == 1:
                del self.unacknowledged[packet_id]
                self.client.send(wire5.puback(packet_id))
            elif qos == 2:
                self.client.send(wire5.pubrec(packet_id, pubrec))
                self.unacknowledged[packet_id] = 3
                if pubrec is not None and pubrec >= 0x80:
                    del self.unacknowledged[packet_id]
            self.read()

    def complete(self, count: int) -> None:
        """Answer the first PUBRELs."""
        assert self.client is not None
        for packet_id in self.released[:count]:
            self.released.remove(packet_id)
            self.unacknowledged.pop(packet_id, None)
            self.client.send(wire5.pubcomp(packet_id))
            self.read()

    def finish(self) -> None:
        """Answer until nothing more comes."""
        self.read()
        while self.unacknowledged or self.released:
            before = len(self.got), dict(self.unacknowledged), list(self.released)
            self.acknowledge(1_000)
            self.complete(1_000)
            self.rig.settle()
            self.read()
            after = len(self.got), dict(self.unacknowledged), list(self.released)
            assert before != after, "it comes no further"

    @property
    def payloads(self) -> list[bytes]:
        return [each.payload for each in self.got]


def publishing(rig: Rig) -> Client:
    """A publisher that is connected even if the store is slow."""
    publisher = rig.open("publisher")
    publisher.send(wire.connect("publisher"))
    rig.settle()
    assert publisher.take() == wire.connack()
    return publisher


def published(rig: Rig, count: int, qos: int, publisher: Client | None = None) -> None:
    if publisher is None:
        publisher = publishing(rig)
    for number in range(1, count + 1):
        publisher.send(wire.publish("t", b"%d" % number, qos, number))
        if qos == 2:
            publisher.send(wire.pubrel(number))


def in_order(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(1, count + 1)]


# Towards the client


@pytest.mark.statement("MQTT-3.3.4-9")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("maximum", [1, 3, 600])
def test_a_client_is_never_sent_more_than_it_takes(qos: int, clean: bool, maximum: int) -> None:
    rig = Rig(max_inflight_messages=500)
    reader = Reader(rig, "r")
    reader.connect(maximum, clean=clean)
    assert reader.client is not None
    reader.client.subscribe(("t", qos))
    published(rig, 700, qos)
    reader.read()
    assert len(reader.got) == min(maximum, 500)
    reader.finish()
    assert reader.payloads == in_order(700)
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [1, 2])
def test_qos_0_goes_by_a_full_window(qos: int) -> None:
    rig = Rig()
    reader = Reader(rig, "r")
    reader.connect(1)
    assert reader.client is not None
    reader.client.subscribe(("t", qos))
    published(rig, 3, qos)
    rig.connect("p").send(wire.publish("t", b"0"))
    reader.read()
    assert reader.payloads == [b"1", b"0"]
    reader.finish()
    assert reader.payloads == [b"1", b"0", b"2", b"3"]


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("reason", [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
def test_pubrec_with_an_error_frees_the_place(clean: bool, reason: int) -> None:
    rig = Rig()
    reader = Reader(rig, "r")
    reader.connect(1, clean=clean)
    assert reader.client is not None
    reader.client.subscribe(("t", 2))
    published(rig, 3, 2)
    reader.read()
    for count in (1, 2, 3):
        assert reader.payloads == in_order(count)
        reader.acknowledge(1, pubrec=reason)
        assert reader.released == []
    assert reader.unacknowledged == {}
    session = rig.broker._sessions.get("r")
    assert session is not None
    assert session.flow is not None
    assert session.flow.is_empty
    assert not session.numbers
    if not clean:
        reader.connect(1)
        assert len(reader.got) == 3
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("reason", [None, 0x00])
def test_pubrec_without_an_error_does_not(reason: int | None) -> None:
    rig = Rig()
    reader = Reader(rig, "r")
    reader.connect(1)
    assert reader.client is not None
    reader.client.subscribe(("t", 2))
    published(rig, 2, 2)
    reader.read()
    reader.acknowledge(1, pubrec=reason)
    assert reader.payloads == [b"1"]
    assert reader.released == [1]
    reader.finish()
    assert reader.payloads == [b"1", b"2"]


@pytest.mark.parametrize("reason", [0x00, 0x80, 0x87, 0x97])
def test_puback_of_any_kind_frees_the_place(reason: int) -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT, at_most(1))
    client.subscribe(("t", 1))
    published(rig, 2, 1)
    assert client.payloads() == [b"1"]
    client.send(wire5.puback(1, reason))
    assert client.payloads() == [b"2"]


@pytest.mark.parametrize("reason", [0x00, 0x92])
def test_pubcomp_of_any_kind_frees_the_place(reason: int) -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT, at_most(1))
    client.subscribe(("t", 2))
    published(rig, 2, 2)
    client.take()
    client.send(wire5.pubrec(1))
    assert client.take() == wire5.pubrel(1)
    client.send(wire5.pubcomp(1, reason))
    assert client.payloads() == [b"2"]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("maximum", [1, 2, 100])
def test_a_window_that_is_smaller_than_what_was_in_flight(qos: int, maximum: int) -> None:
    rig = Rig()
    reader = Reader(rig, "r")
    reader.connect(10)
    assert reader.client is not None
    reader.client.subscribe(("t", qos))
    published(rig, 20, qos)
    reader.read()
    assert len(reader.got) == 10
    reader.client.cut()
    reader.connect(maximum)
    assert len(reader.got) == 10 + min(maximum, 20)
    assert all(each.dup for each in reader.got[10:20])
    reader.finish()
    assert reader.payloads == in_order(10) + in_order(20)
    invariants.check_at_rest(rig)


def test_pubrels_that_are_repeated_too() -> None:
    rig = Rig()
    reader = Reader(rig, "r")
    reader.connect(10)
    assert reader.client is not None
    reader.client.subscribe(("t", 2))
    published(rig, 12, 2)
    reader.read()
    for packet_id in (2, 1, 4):
        reader.client.send(wire5.pubrec(packet_id))
    reader.client.cut()
    reader.connect(2)
    reader.finish()
    assert reader.payloads[10:] == [b"%d" % number for number in (3, 5, 6, 7, 8, 9, 10, 11, 12)]
    invariants.check_at_rest(rig)


def test_a_client_of_3_1_1_has_the_whole_window_again() -> None:
    rig = Rig(max_inflight_messages=5)
    client = rig.connect5("r", KEPT, at_most(1))
    client.subscribe(("t", 1))
    published(rig, 8, 1)
    client.cut()
    client = rig.persistent("r", present=True)
    assert client.payloads() == in_order(5)
    client.cut()
    client = rig.connect5("r", KEPT, clean=False, present=True)
    assert client.payloads() == in_order(5)


def test_an_answer_to_what_has_not_been_repeated_yet_leaves_the_window_as_it_is() -> None:
    """It was received on the connection before, and answered on this one."""
    rig = Rig()
    reader = Reader(rig, "r")
    reader.connect(10)
    assert reader.client is not None
    reader.client.subscribe(("t", 1))
    published(rig, 12, 1)
    reader.read()
    reader.client.cut()
    reader.connect(2)
    for packet_id in (5, 6, 7, 8):
        reader.client.send(wire5.puback(packet_id))
        reader.read()
    reader.finish()
    assert reader.payloads[10:] == [b"%d" % number for number in (1, 2, 3, 4, 9, 10, 11, 12)]


@pytest.mark.statement("MQTT-4.4.0-1")
@pytest.mark.parametrize("settles", ["at once", "late"])
@pytest.mark.parametrize("was_stored", [False, True])
def test_pubrec_for_what_has_not_been_repeated_yet_has_one_answer(
    settles: str, was_stored: bool
) -> None:
    """Its PUBREL follows by itself, and is not repeated when its turn would have come."""
    rig = Rig()
    client = rig.connect5("r", KEPT, at_most(10))
    client.subscribe(("t", 2))
    published(rig, 3, 2)
    assert client.payloads() == in_order(3)
    if was_stored:
        client.send(wire5.pubrec(2))
        assert client.take() == wire5.pubrel(2)
    client.cut()
    client = rig.connect5("r", KEPT, at_most(1), clean=False, present=True)
    first = wire5.publish("t", b"1", 2, 1, dup=True)
    assert client.take() == first
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    client.send(wire5.pubrec(2))
    if settles == "at once":
        rig.settle()
    client.send(wire5.pubrec(1))
    rig.settle()
    pubrels = [frame.packet_id for frame in client.frames() if frame.kind == 6]
    assert sorted(pubrels) == [1, 2]
    client.send(wire5.pubcomp(1))
    rig.settle()
    assert client.take() == b""
    client.send(wire5.pubcomp(2))
    rig.settle()
    assert client.take() == wire5.publish("t", b"3", 2, 3, dup=True)
    client.send(wire5.pubrec(3))
    rig.settle()
    client.send(wire5.pubcomp(3))
    assert client.take() == wire5.pubrel(3)
    published(rig, 1, 2)
    rig.settle()
    assert client.payloads() == [b"1"]
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("had_its_turn", [True, False])
def test_what_the_store_refuses_before_it_can_be_sent_again(had_its_turn: bool) -> None:
    rig = Rig()
    client = rig.connect5("r", KEPT, at_most(10))
    client.subscribe(("t", 2))
    published(rig, 1, 2)
    assert client.payloads() == [b"1"]
    publisher = publishing(rig)
    inner = rig.engine
    rig.engine = engine = HoldingEngine(RefusingEngine(inner, writes(Append)))
    publisher.send(wire5.publish("t", b"2", 2, 2))
    client.cut()
    client = rig.open("r")
    client.level = 5
    client.send(wire5.connect("r", KEPT, at_most(1), clean=False))
    engine.release(kind=ClaimSession)
    rig.pump()
    engine.release_last()  # what CONNACK rests on
    rig.pump()
    connack, publish = client.frames()
    assert (connack.kind, connack.body[:2]) == (2, b"\1\0")
    assert wire5.read_publish(publish).payload == b"1"
    if had_its_turn:
        client.send(wire5.pubrec(1, 0x80))
    rig.settle()
    rig.engine = inner
    assert publisher.is_closed
    assert client.take() == b""
    session = rig.broker._sessions.get("r")
    assert session is not None
    assert session.flow is not None
    assert session.flow.is_empty is had_its_turn
    client.cut()
    client = rig.connect5("r", KEPT, clean=False, present=True)
    assert client.payloads() == ([] if had_its_turn else [b"1"])
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("maximum", [1, 2, 10])
@pytest.mark.parametrize("kind", [Append, SaveReceived])
@pytest.mark.parametrize("settles", ["before", "after"])
def test_what_waits_for_the_store_when_its_client_comes_back_with_a_smaller_window(
    maximum: int, kind: type[object], settles: str
) -> None:
    rig = Rig()
    engine = rig.engine
    holding = HoldingEngine(engine)
    reader = Reader(rig, "r")
    reader.connect(10)
    assert reader.client is not None
    reader.client.subscribe(("t", 2))
    publisher = publishing(rig)
    if kind is Append:
        rig.engine = holding
        published(rig, 6, 2, publisher)
    else:
        published(rig, 6, 2, publisher)
        rig.engine = holding
        reader.read()
        reader.acknowledge(4)  # PUBRECs, which the store has not got yet
    reader.client.cut()
    if settles == "before":
        rig.settle()
        rig.engine = engine
    reader.connect(maximum)
    if settles == "after":
        for request, _ in list(holding.held):
            holding.release(1, kind=type(request))
            rig.pump()
            reader.read()
        rig.settle()
        rig.engine = engine
        reader.read()
    reader.finish()
    assert set(reader.payloads) == set(in_order(6))
    session = rig.broker._sessions.get("r")
    assert session is not None
    assert session.flow is not None
    assert session.flow.is_empty
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("maximum", [1, 2, 50])
def test_retained_messages_that_come_when_the_window_has_become_smaller(
    qos: int, maximum: int
) -> None:
    rig = Rig()
    for number in range(1, 21):
        publisher = rig.connect("p")
        publisher.send(wire.publish(f"r/{number}", b"%d" % number, 1, 1, retain=True))
    engine = rig.engine
    holding = HoldingEngine(engine)
    reader = Reader(rig, "r")
    reader.connect(20)
    assert reader.client is not None
    rig.engine = holding
    reader.client.send(wire5.subscribe(1, ("r/#", qos)))
    holding.release(kind=Write)
    rig.pump()
    reader.client.cut()
    assert any(isinstance(request, MatchRetained) for request, _ in holding.held)
    rig.engine = engine
    reader.connect(maximum)
    rig.engine = holding
    rig.settle()
    reader.finish()
    rig.settle()
    reader.finish()
    assert sorted(reader.payloads, key=int) == in_order(20)
    assert all(each.retain for each in reader.got)
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("engine", ["prompt", "late", "refusing"])
def test_never_ever(seed: int, engine: str) -> None:
    """Any mixture of QoS, slow answers, errors, lost connections, other windows, retained
    messages and a late or refusing store: the maximum holds, and everything comes in the end."""
    rig = Rig(max_inflight_messages=12, sys_interval_secs=0)
    chance = random.Random(seed)
    memory = rig.engine
    if engine == "late":
        rig.engine = LateEngine(memory, seed)
    elif engine == "refusing":
        refused = lambda _, request: isinstance(request, Write) and chance.random() < 0.1  # noqa: E731
        rig.engine = LateEngine(RefusingEngine(memory, refused), seed)
    reader = Reader(rig, "r")
    sent: set[bytes] = set()
    publisher = publishing(rig)
    for number in range(1, 120):
        action = chance.randrange(6)
        if reader.client is None or reader.client.is_closed or action == 0:
            if reader.client is not None:
                reader.client.cut()
            reader.connect(chance.choice([1, 2, 3, 8, 100]))
            assert reader.client is not None
            reader.client.send(wire5.subscribe(1, ("t/#", 2)))
        elif action < 3:
            reader.acknowledge(chance.randrange(5), pubrec=chance.choice([None, 0x00, 0x99]))
            reader.complete(chance.randrange(5))
        if publisher.is_closed:
            publisher = publishing(rig)
        qos = chance.randrange(3)
        payload = b"%d" % number
        packet_id = number if qos else 0
        is_retained = chance.random() < 0.2
        publisher.send(wire.publish(f"t/{number}", payload, qos, packet_id, retain=is_retained))
        if qos == 2:
            publisher.send(wire.pubrel(packet_id))
        acks = [frame.packet_id for frame in publisher.frames() if frame.kind in (4, 5)]
        if qos and acks == [packet_id] and rig.broker.subscription_count:
            sent.add(payload)
        reader.read()
        invariants.check(rig)
    rig.settle()
    rig.engine = memory
    if reader.client is None or reader.client.is_closed:
        reader.connect(3)
    reader.finish()
    rig.settle()
    reader.finish()
    if engine == "prompt":
        assert sent <= set(reader.payloads)
    session = rig.broker._sessions.get("r")
    assert session is not None
    assert session.flow is None or session.flow.in_flight == 0
    assert session.queue is None or session.queue.count == 0
    assert session.gate is None
    assert session.bursts is None
    rig.no_faults()
    invariants.check_at_rest(rig)


# From the client


def test_a_client_is_told_what_may_be_sent() -> None:
    assert at_most(7) in Rig(receive_maximum=7).connect5("a").announced
    assert b"\x21\xff\xff" not in Rig(receive_maximum=65_535).connect5("a").announced


@pytest.mark.statement("P5-3.3.4-5")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_a_client_that_sends_more_than_that_is_closed(qos: int, clean: bool) -> None:
    rig = Rig(receive_maximum=3)
    engine = HoldingEngine(rig.engine)
    reader = rig.persistent("reader")
    reader.subscribe(("t", qos))
    client = rig.connect5("a", *(() if clean else (KEPT,)))
    rig.engine = engine  # acknowledgements wait
    for packet_id in (1, 2, 3):
        client.send(wire5.publish("t", b"", qos, packet_id))
    assert client.take() == b""
    assert not client.is_closed
    client.send(wire5.publish("t", b"", qos, 4))
    (frame,) = client.frames()
    assert (frame.first, frame.body[0]) == (0xE0, 0x93)
    fact = rig.last_fact("client.disconnected")
    assert fact.statement == "P5-3.3.4-5"
    assert fact.detail.startswith("0x93 receive maximum exceeded")
    rig.settle()
    rig.engine = engine.inner
    assert len(reader.publishes()) == 3


@pytest.mark.parametrize("clean", [True, False])
def test_what_has_been_answered_does_not_count(clean: bool) -> None:
    rig = Rig(receive_maximum=2)
    client = rig.connect5("a", *(() if clean else (KEPT,)))
    for number in range(1, 20):
        client.send(wire5.publish("t", b"", 1, number))
    for number in range(1, 20):
        client.send(wire5.publish("t", b"", 2, number), wire5.pubrel(number))
    client.send(wire5.publish("t", b"", 2, 1), wire5.publish("t", b"", 2, 2))
    assert not client.is_closed
    client.send(wire5.pubrel(2), wire5.publish("t", b"", 2, 3))
    assert not client.is_closed
    client.send(wire5.publish("t", b"", 1, 4))
    assert client.is_closed


@pytest.mark.parametrize("clean", [True, False])
def test_what_was_refused_does_not_count(clean: bool) -> None:
    rig = Rig(receive_maximum=2)
    client = rig.connect5("a", *(() if clean else (KEPT,)))
    for number in range(1, 20):
        client.send(wire5.publish("$SYS/x", b"", 2, number))
        assert client.take() == wire5.pubrec(number, 0x87)
        client.send(wire5.publish("$SYS/x", b"", 1, number))
        assert client.take() == wire5.puback(number, 0x87)
    assert not client.is_closed


def test_what_waits_for_the_store_counts_once() -> None:
    rig = Rig(receive_maximum=4)
    client = rig.connect5("a", KEPT)
    engine = rig.engine
    rig.engine = HoldingEngine(engine)
    client.send(wire5.subscribe(1, ("a", 1)), wire5.subscribe(2, ("b", 1)))
    client.send(wire5.unsubscribe(3, "a"))
    for number in range(1, 5):
        client.send(wire5.publish("t", b"", 2, number))
    assert not client.is_closed
    rig.settle()
    for number in range(1, 5):
        client.send(wire5.pubrel(number))
    for number in range(5, 9):
        client.send(wire5.publish("t", b"", 2, number))
    assert not client.is_closed
    client.send(wire5.publish("t", b"", 2, 9))
    assert client.is_closed


def test_a_new_connection_begins_anew() -> None:
    """What an earlier one has begun is finished by PUBREL, whenever the client gets to it."""
    rig = Rig(receive_maximum=3)
    client = rig.connect5("a", KEPT)
    for number in (1, 2, 3):
        client.send(wire5.publish("t", b"", 2, number))
    client.cut()
    client = rig.connect5("a", KEPT, clean=False, present=True)
    for number in (4, 5, 6):
        client.send(wire5.publish("t", b"", 2, number))
    for number in range(1, 7):
        client.send(wire5.pubrel(number))
    assert [frame.kind for frame in client.frames()] == [5, 5, 5, 7, 7, 7, 7, 7, 7]
    for number in (7, 8, 9):
        client.send(wire5.publish("t", b"", 2, number))
    assert not client.is_closed
    client.send(wire5.publish("t", b"", 2, 10))
    assert client.is_closed


def test_what_is_repeated_counts_no_further() -> None:
    rig = Rig(receive_maximum=2)
    client = rig.connect5("a", KEPT)
    for _ in range(5):
        client.send(wire5.publish("t", b"", 2, 1, dup=True), wire5.publish("t", b"", 2, 2))
    assert not client.is_closed
    client.cut()
    client = rig.connect5("a", KEPT, clean=False, present=True)
    for _ in range(5):
        client.send(wire5.publish("t", b"", 2, 1, dup=True))
    client.send(wire5.publish("t", b"", 2, 3), wire5.publish("t", b"", 2, 4))
    assert not client.is_closed


def test_a_wide_fan_out_that_is_under_way_counts() -> None:
    rig = Rig(receive_maximum=1, turn_deliveries=1)
    for number in range(300):
        rig.connect(f"{number}").subscribe(("t", 0))
    client = rig.connect5("a")
    client.send(wire5.publish("t", b"", 1, 1))
    assert client.take() == wire5.puback(1)
    client.send(wire5.publish("t", b"", 1, 2))
    assert client.take() == wire5.puback(2)


def test_3_1_1_knows_no_such_maximum() -> None:
    rig = Rig(receive_maximum=1)
    client = rig.connect("a")
    for number in range(1, 9):
        client.send(wire.publish("t", b"", 2, number))
    assert len(client.frames()) == 8
