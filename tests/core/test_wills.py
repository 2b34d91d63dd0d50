"""Wills of MQTT 5.0: their delay, what cuts it short, what takes them back, and their store."""

from __future__ import annotations

import pytest

from mqtt_core.broker import (
    GRACEFUL,
    IMMEDIATE,
    Append,
    ClaimSession,
    Engine,
    MemoryEngine,
    Request,
    SaveWill,
    Write,
)
from mqtt_core.broker._wills import will_cost
from tests.core import wire, wire5
from tests.core.wire5 import Will5, u32
from tests.model import invariants
from tests.rig import (
    WALL_S,
    Client,
    EngineAround,
    HoldingEngine,
    LateEngine,
    RefusingEngine,
    Rig,
    writes,
)

KEPT = wire5.prop(0x11, u32(1_000))  # a session that outlives its connection for long
ENDED = wire5.prop(0x11, u32(0))


def expiry(seconds: int) -> bytes:
    return wire5.prop(0x11, u32(seconds))


def will(delay_s: int = 10, payload: bytes = b"gone", *more: bytes, topic: str = "w") -> Will5:
    return Will5(topic, payload, 1, False, wire5.prop(0x18, u32(delay_s)) + b"".join(more))


def rig_with_witness(**limits: int) -> tuple[Rig, Client]:
    rig = Rig(sys_interval_secs=0, settings=limits)
    witness = rig.connect5("witness")
    witness.subscribe(("w", 0))
    return rig, witness


# When a will is published


@pytest.mark.statement("MQTT-3.1.2-8")
def test_a_will_waits_for_its_delay() -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", KEPT, will=will()).cut()
    assert rig.broker.next_deadline() == rig.now + 10
    rig.advance(9.9)
    assert witness.take() == b""
    rig.advance(0.2)
    assert witness.payloads() == [b"gone"]
    rig.advance(2_000)
    assert witness.take() == b""
    assert rig.broker.stats.wills_published == 1
    assert rig.broker.next_deadline() is None
    assert rig.broker.session_count == 1
    rig.no_faults()


@pytest.mark.statement("MQTT-3.1.2-8")
def test_a_session_that_ends_publishes_its_will() -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", expiry(5), will=will(10)).cut()
    rig.advance(4.9)
    assert witness.take() == b""
    rig.advance(0.2)
    assert witness.payloads() == [b"gone"]
    rig.advance(10)
    assert witness.take() == b""
    assert rig.broker.session_count == 1


def test_a_will_whose_time_is_also_the_end_of_its_session() -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", expiry(10), will=will(10)).cut()
    rig.advance(11)
    assert witness.payloads() == [b"gone"]
    assert rig.broker.session_count == 1
    assert rig.broker.stats.wills_published == 1


def test_the_longest_delay_waits_for_the_end_of_the_session() -> None:
    rig, witness = rig_with_witness(session_timeout_secs=100)
    rig.connect5("a", expiry(0xFFFFFFFF), will=will(0xFFFFFFFF)).cut()
    rig.advance(99)
    assert witness.take() == b""
    rig.advance(2)
    assert witness.payloads() == [b"gone"]


@pytest.mark.parametrize("clean", [True, False])
def test_a_session_that_ends_with_its_connection_delays_nothing(clean: bool) -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", will=will(), clean=clean).cut()
    assert witness.payloads() == [b"gone"]
    assert rig.broker.next_deadline() is None
    rig.connect5("a", expiry(100), will=will(0), clean=clean).cut()
    assert witness.payloads() == [b"gone"]


def test_the_will_of_3_1_1_has_no_delay() -> None:
    rig, witness = rig_with_witness()
    rig.connect("a", clean=False, will=("w", b"gone", 0, False)).cut()
    assert witness.payloads() == [b"gone"]


@pytest.mark.statement("MQTT-3.1.3-9")
@pytest.mark.parametrize("has_will", [True, False])
def test_a_client_that_is_back_in_time_takes_its_will_back(has_will: bool) -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", KEPT, will=will(10, b"first")).cut()
    rig.advance(9)
    newer = will(0, b"second") if has_will else None
    client = rig.connect5("a", KEPT, clean=False, present=True, will=newer)
    rig.advance(100)
    assert witness.take() == b""
    client.cut()
    assert witness.payloads() == ([b"second"] if has_will else [])


def test_a_client_of_3_1_1_takes_a_will_of_5_0_back() -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", KEPT, will=will()).cut()
    rig.connect("a", clean=False, present=True)
    rig.advance(100)
    assert witness.take() == b""


def test_a_clean_start_ends_the_session_and_so_the_delay() -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", KEPT, will=will()).cut()
    rig.advance(5)
    rig.connect5("a", KEPT)
    assert witness.payloads() == [b"gone"]
    rig.advance(100)
    assert witness.take() == b""


@pytest.mark.parametrize(
    ("delay_s", "clean", "is_published"),
    [(10, False, False), (10, True, True), (0, False, True), (0, True, True)],
)
def test_the_will_of_a_connection_that_is_taken_over(
    delay_s: int, clean: bool, is_published: bool
) -> None:
    rig, witness = rig_with_witness()
    older = rig.connect5("a", KEPT, will=will(delay_s))
    rig.connect5("a", KEPT, clean=clean, present=not clean)
    assert older.take() == wire5.disconnect(0x8E)
    assert witness.payloads() == ([b"gone"] if is_published else [])
    rig.advance(100)
    assert witness.take() == b""


def test_a_session_that_a_takeover_ends_delays_nothing() -> None:
    """Its connection is closed, and it was to end with that."""
    rig, witness = rig_with_witness()
    rig.connect5("a", will=will())
    rig.connect5("a", KEPT, clean=False)
    assert witness.payloads() == [b"gone"]


@pytest.mark.statement("MQTT-3.14.4-3")
@pytest.mark.parametrize("properties", [b"", expiry(500), ENDED])
def test_a_client_that_leaves_has_no_will(properties: bytes) -> None:
    rig, witness = rig_with_witness()
    client = rig.connect5("a", KEPT, will=will())
    client.send(wire5.disconnect(0, properties) if properties else wire5.DISCONNECT)
    assert client.is_closed
    rig.advance(2_000)
    assert witness.take() == b""
    assert rig.broker.session_count == 1


@pytest.mark.parametrize("reason", [4, 0x80, 0x93, 0x99])
def test_any_other_word_at_the_end_wants_the_will(reason: int) -> None:
    rig, witness = rig_with_witness()
    client = rig.connect5("a", KEPT, will=will())
    client.send(wire5.disconnect(reason))
    assert client.take() == b""
    assert client.is_closed
    assert rig.last_fact("client.disconnected").cause == "client disconnected, will wanted"
    rig.advance(9)
    assert witness.take() == b""
    rig.advance(2)
    assert witness.payloads() == [b"gone"]


@pytest.mark.parametrize(("seconds", "at"), [(0, 0), (5, 5), (20, 10)])
def test_the_last_word_sets_the_end_of_the_session_and_so_of_the_delay(
    seconds: int, at: int
) -> None:
    rig, witness = rig_with_witness()
    client = rig.connect5("a", KEPT, will=will(10))
    client.send(wire5.disconnect(4, expiry(seconds)))
    if at:
        rig.advance(at - 0.1)
        assert witness.take() == b""
        rig.advance(0.2)
    assert witness.payloads() == [b"gone"]


def test_an_older_will_is_not_that_of_the_newer_connection() -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", KEPT, will=will(10, b"first")).cut()
    rig.advance(5)
    rig.connect5("a", KEPT, clean=False, present=True, will=will(10, b"second")).cut()
    rig.advance(9)
    assert witness.take() == b""
    rig.advance(2)
    assert witness.payloads() == [b"second"]


@pytest.mark.parametrize("mode", [GRACEFUL, IMMEDIATE])
def test_a_shut_down_publishes_no_will(mode: int) -> None:
    rig, _ = rig_with_witness()
    engine = Watching(rig.engine)
    rig.engine = engine
    rig.connect5("a", KEPT, will=will(3, b"away")).cut()
    rig.connect5("b", KEPT, will=will(10, b"connected"))
    rig.broker.shut_down(mode, rig.now)
    rig.pump()
    rig.advance(2)
    assert rig.broker.is_stopped
    assert rig.broker.stats.wills_published == 0
    assert engine.wills == {"a": (b"away", WALL_S + 3), "b": (b"connected", 0)}


# As what it is published


def test_a_will_is_published_with_its_properties() -> None:
    rig, witness = rig_with_witness()
    travelling = (
        wire5.prop(0x01, b"\x01"),
        wire5.prop(0x03, wire.string("text/plain")),
        wire5.prop(0x08, wire.string("answers")),
        wire5.prop(0x09, wire.string(b"\0\xff")),
        wire5.user("k", "1"),
        wire5.user("k", "2"),
    )
    older = rig.connect("older")
    older.subscribe(("w", 2))
    rig.connect5("a", KEPT, will=will(5, b"gone", *travelling)).cut()
    rig.advance(6)
    (got,) = witness.publishes5()
    assert got == wire5.Received5("w", b"gone", 0, 0, False, False, b"".join(travelling))
    assert older.take() == wire.publish("w", b"gone", 1, 1)


@pytest.mark.statement("MQTT-3.3.2-5")
def test_a_will_expires_from_its_publication_on() -> None:
    rig, witness = rig_with_witness()
    reader = rig.connect5("reader", KEPT)
    reader.subscribe(("w", 1))
    reader.cut()
    interval = wire5.prop(0x02, u32(20))
    rig.connect5("a", KEPT, will=will(10, b"gone", interval)).cut()
    rig.advance(10)
    assert [each.properties for each in witness.publishes5()] == [interval]
    rig.advance(15)
    reader = rig.connect5("reader", KEPT, clean=False, present=True)
    assert [each.properties for each in reader.publishes5()] == [wire5.prop(0x02, u32(5))]
    reader.cut()
    rig.connect5("b", KEPT, will=will(10, b"too late", interval)).cut()
    rig.advance(31)
    reader = rig.connect5("reader", KEPT, clean=False, present=True)
    assert reader.payloads() == [b"gone"]  # it was in flight already
    assert rig.broker.stats.messages_expired == 1


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_delayed_will_is_retained(qos: int) -> None:
    rig = Rig()
    delayed = Will5("w", b"gone", qos, True, wire5.prop(0x18, u32(10)))
    rig.connect5("a", KEPT, will=delayed).cut()
    early = rig.connect5("early")
    early.subscribe(("w", 2))
    assert early.take() == b""
    rig.advance(11)
    early.take()
    late = rig.connect5("late")
    late.subscribe(("w", 2))
    (got,) = late.publishes5()
    assert got == wire5.Received5("w", b"gone", qos, 1 if qos else 0, True, False, b"")


def test_a_will_for_ones_own_session() -> None:
    rig = Rig()
    client = rig.connect5("a", KEPT, will=will())
    client.subscribe(("w", 1))
    client.cut()
    rig.advance(11)
    client = rig.connect5("a", KEPT, clean=False, present=True)
    assert client.payloads() == [b"gone"]


@pytest.mark.statement("MQTT-3.8.3-3")
@pytest.mark.parametrize("delay_s", [0, 10])
@pytest.mark.parametrize("filters", [["w"], ["w", "+"]])
def test_ones_own_will_is_local(delay_s: int, filters: list[str]) -> None:
    rig = Rig()
    client = rig.connect5("a", KEPT, will=will(delay_s))
    client.subscribe(*((each, 4 | 1) for each in filters))
    client.cut()
    rig.advance(11)
    assert rig.broker.stats.wills_published == 1
    client = rig.connect5("a", KEPT, clean=False, present=True)
    assert client.take() == b""


def test_ones_own_will_is_local_in_a_wide_fan_out_too() -> None:
    rig = Rig(turn_deliveries=1)
    client = rig.connect5("a", KEPT, will=will(0))
    client.subscribe(("w", 4 | 1))
    for number in range(300):
        rig.connect(f"{number}").subscribe(("w", 1))
    client.cut()
    client = rig.connect5("a", KEPT, clean=False, present=True)
    assert client.take() == b""
    rig.no_faults()


@pytest.mark.parametrize("properties", [(), (expiry(0),)])
def test_a_will_comes_behind_the_message_that_is_on_its_way(properties: tuple[bytes, ...]) -> None:
    """Also one with a delay that the end of its session has made void."""
    rig = Rig(turn_deliveries=1)
    witness = rig.connect5("witness")
    witness.subscribe(("#", 0))
    for number in range(300):
        rig.connect(f"{number}").subscribe(("t", 0))
    publisher = rig.connect5("a", *properties, will=will(10))
    publisher.send(wire5.publish("t", b"first"), pump=False)
    publisher.cut()
    assert witness.payloads() == [b"first", b"gone"]
    rig.no_faults()


# Refused wills


@pytest.mark.statement("MQTT-3.2.2-12")
@pytest.mark.statement("MQTT-3.2.2-13")
@pytest.mark.parametrize(
    ("limits", "refused", "reason"),
    [
        ({"maximum_qos": 0}, Will5("w", b"", 1), 0x9B),
        ({"maximum_qos": 1}, Will5("w", b"", 2), 0x9B),
        ({"retain_available": False}, Will5("w", b"", 0, True), 0x9A),
        ({"max_topic_levels": 2}, Will5("w/w/w"), 0x90),
        ({}, Will5("$SYS/w"), 0x87),
        (
            {"validate_payload_format": True},
            Will5("w", b"\xff", 0, False, wire5.prop(0x01, b"\x01")),
            0x99,
        ),
    ],
)
def test_a_will_that_is_not_served(
    limits: dict[str, int | bool], refused: Will5, reason: int
) -> None:
    rig = Rig(settings=limits)
    client = rig.open()
    client.send(wire5.connect("a", will=refused))
    (frame,) = client.frames()
    assert (frame.first, frame.body[:2]) == (0x20, bytes([0, reason]))
    assert frame.body[3] == 0x1F  # why, in words
    assert client.is_closed
    assert rig.broker.stats.wills_published == 0
    invariants.check_empty(rig)


@pytest.mark.parametrize(
    "limits",
    [{"maximum_qos": 2}, {"retain_available": True}, {"validate_payload_format": True}],
)
def test_the_same_wills_where_they_are_served(limits: dict[str, int | bool]) -> None:
    rig = Rig(settings=limits)
    said_to_be_text = Will5("w", b"text", 2, True, wire5.prop(0x01, b"\x01"))
    rig.connect5("a", will=said_to_be_text).cut()
    assert rig.broker.stats.wills_published == 1


@pytest.mark.parametrize("limits", [{"maximum_qos": 0}, {"retain_available": False}])
def test_wills_of_3_1_1_are_served_as_far_as_can_be(limits: dict[str, int | bool]) -> None:
    rig = Rig(settings=limits)
    witness = rig.connect("witness")
    witness.send(wire.subscribe(1, ("w", 1)))
    witness.take()
    rig.connect("a", will=("w", b"gone", 1, True)).cut()
    (got,) = witness.publishes()
    assert got.qos == limits.get("maximum_qos", 1)
    late = rig.connect("late")
    late.send(wire.subscribe(1, ("w", 0)))
    assert (b"gone" in late.take()) is limits.get("retain_available", True)


# Sessions and their number


def test_a_session_with_a_delayed_will_counts_in_the_limit() -> None:
    rig = Rig(max_sessions=1)
    rig.connect5("a", KEPT, will=will()).cut()
    refused = rig.open()
    refused.send(wire5.connect("b", KEPT))
    (frame,) = refused.frames()
    assert frame.body[1] == 0x97
    rig.connect5("b", clean=True)
    rig.connect5("a", KEPT, clean=False, present=True, will=will()).send(wire5.disconnect(4, ENDED))
    assert rig.broker.stats.wills_published == 1
    rig.connect5("b", KEPT)
    rig.no_faults()


def test_nothing_is_left_of_a_will_that_was_published() -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", KEPT, will=will()).cut()
    rig.advance(2_000)
    witness.cut()
    assert rig.broker.stats.wills_published == 1
    invariants.check_empty(rig)


# The store. What it has must be the will of who is connected, or of who was last.


class Watching(EngineAround):
    """Keeps what the operations that took effect make of the stored wills, with their times."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.wills: dict[str, tuple[bytes, float]] = {}

    def submit(self, request: Request) -> None:
        """Take a request."""
        self.inner.submit(request)
        if isinstance(request, Write):
            for operation in request.operations:
                if isinstance(operation, SaveWill):
                    self.wills.pop(operation.client_id, None)
                    if operation.will is not None:
                        stored = (operation.will.payload, operation.due)
                        self.wills[operation.client_id] = stored


def due(rig: Rig, seconds: float) -> float:
    return rig.now - 1_000.0 + WALL_S + seconds


def watched_rig() -> tuple[Rig, Watching, HoldingEngine]:
    rig, _ = rig_with_witness()
    watching = Watching(rig.engine)
    holding = HoldingEngine(watching)
    return rig, watching, holding


def test_the_store_has_the_will_of_a_client_until_it_is_published() -> None:
    rig, store, _ = watched_rig()
    rig.engine = store
    client = rig.connect5("a", KEPT, will=will(10, b"1"))
    assert store.wills == {"a": (b"1", 0)}
    client.cut()
    assert store.wills == {"a": (b"1", due(rig, 10))}
    rig.advance(11)
    assert store.wills == {}
    client = rig.connect5("a", KEPT, clean=False, present=True, will=will(10, b"2"))
    client.cut()
    client = rig.connect5("a", KEPT, clean=False, present=True)
    assert store.wills == {}
    client.cut()
    rig.connect5("a", will=will(0, b"3")).cut()
    assert store.wills == {}
    rig.connect5("a", KEPT, will=will(10, b"4")).send(wire5.DISCONNECT)
    assert store.wills == {}
    rig.connect5("a", KEPT, will=will(10, b"5")).cut()
    rig.connect5("a", KEPT, will=will(10, b"6"))
    assert store.wills == {"a": (b"6", 0)}
    rig.connect5("a", KEPT, clean=False, present=True, will=will(10, b"7"))
    assert store.wills == {"a": (b"7", 0)}


def claim_with(rig: Rig, holding: HoldingEngine, *, has_will: bool, clean: bool) -> Client:
    """A CONNECT of client "a" that waits for the store, if it has anything to be stored; its
    claim has been answered."""
    rig.engine = holding
    newer = rig.open("newer")
    newer.level = 5
    newer.send(wire5.connect("a", KEPT, clean=clean, will=will(10, b"newer") if has_will else None))
    holding.release(kind=ClaimSession)
    rig.pump()
    return newer


@pytest.mark.parametrize("has_will", [True, False])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("delay_s", [0, 10])
@pytest.mark.parametrize("event", ["cut", "leave", "none", "over"])
def test_what_happens_to_the_older_while_the_newer_waits_for_the_store(
    has_will: bool, clean: bool, delay_s: int, event: str
) -> None:
    rig, store, holding = watched_rig()
    rig.engine = store
    older = rig.connect5("a", KEPT, will=will(delay_s, b"older"))
    if event == "over":
        older.cut()
        rig.advance(delay_s - 1 if delay_s else 0)
    newer = claim_with(rig, holding, has_will=has_will, clean=clean)
    if event == "cut":
        older.cut()
    elif event == "leave":
        older.send(wire5.DISCONNECT)
    elif event == "over":
        rig.advance(2)
    rig.settle()
    assert newer.frames()[0].body[:2] == bytes([0 if clean else 1, 0])
    assert store.wills == ({"a": (b"newer", 0)} if has_will else {})
    assert rig.broker.stats.wills_published == (
        0 if event == "leave" else int(clean or not delay_s)
    )
    newer.cut()
    rig.advance(2_000)
    rig.settle()
    assert store.wills == {}
    rig.no_faults()


@pytest.mark.parametrize("delay_s", [0, 10])
@pytest.mark.parametrize("is_connected", [True, False])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("has_will", [True, False])
def test_a_newer_connect_that_comes_to_nothing_leaves_the_will_that_was(
    delay_s: int, is_connected: bool, clean: bool, has_will: bool
) -> None:
    rig, store, holding = watched_rig()
    rig.engine = store
    older = rig.connect5("a", KEPT, will=will(delay_s, b"older"))
    if not is_connected:
        older.cut()
    newer = claim_with(rig, holding, has_will=has_will, clean=clean)
    newer.cut()
    rig.settle()
    if clean:  # the store has ended the session, and so its connection and its delay
        assert store.wills == {}
        assert rig.broker.stats.wills_published == 1
    elif is_connected:
        assert store.wills == {"a": (b"older", 0)}
        assert rig.broker.stats.wills_published == 0
    elif delay_s:
        assert store.wills == {"a": (b"older", due(rig, 10))}
        assert rig.broker.stats.wills_published == 0
        rig.advance(11)
        rig.settle()
        assert store.wills == {}
        assert rig.broker.stats.wills_published == 1
    rig.no_faults()


@pytest.mark.parametrize("kind", [ClaimSession, SaveWill])
@pytest.mark.parametrize("is_connected", [True, False])
def test_a_newer_connect_that_the_store_refuses(kind: type[object], is_connected: bool) -> None:
    rig, store, _ = watched_rig()
    rig.engine = store
    older = rig.connect5("a", KEPT, will=will(10, b"older"))
    if not is_connected:
        older.cut()
    rig.advance(5)
    refuses = writes(SaveWill)
    if kind is ClaimSession:
        refuses = lambda _, request: isinstance(request, ClaimSession)  # noqa: E731
    rig.engine = RefusingEngine(store, refuses)
    newer = rig.open()
    newer.send(wire5.connect("a", KEPT, clean=False, will=will(10, b"newer")))
    assert newer.frames()[0].body[1] == 0x88
    assert older.is_closed is not is_connected
    assert store.wills == {"a": (b"older", 0 if is_connected else due(rig, 5))}
    rig.engine = store
    rig.advance(6)
    if is_connected:
        older.cut()
        rig.advance(11)
    assert store.wills == {}
    assert rig.broker.stats.wills_published == 1


def test_the_time_of_a_will_that_comes_while_its_client_is_coming_back() -> None:
    """A new connection has been made before the delay has passed: it is not to be published."""
    rig, witness = rig_with_witness()
    rig.connect5("a", KEPT, will=will(10)).cut()
    holding = HoldingEngine(rig.engine)
    rig.engine = holding
    rig.advance(9)
    client = rig.open()
    client.send(wire5.connect("a", KEPT, clean=False))
    rig.advance(5)
    assert witness.take() == b""
    rig.settle()
    assert client.frames()[0].body[:2] == b"\x01\x00"
    rig.advance(100)
    assert witness.take() == b""


@pytest.mark.parametrize("clean", [True, False])
def test_the_time_of_a_will_whose_client_did_not_come_back_after_all(clean: bool) -> None:
    rig, witness = rig_with_witness()
    rig.connect5("a", KEPT, will=will(10)).cut()
    holding = HoldingEngine(rig.engine)
    rig.engine = holding
    rig.advance(9)
    client = rig.open()
    client.send(wire5.connect("a", KEPT, clean=clean))
    rig.advance(5)
    client.cut()
    assert witness.take() == b""
    rig.settle()
    rig.advance(30)
    rig.settle()
    assert witness.payloads() == [b"gone"]


@pytest.mark.parametrize("seed", range(30))
def test_a_late_store_and_a_restless_client(seed: int) -> None:
    """After any sequence the store has the will of the connection there is, or the delayed one."""
    rig, store, _ = watched_rig()
    rig.engine = LateEngine(store, seed)
    random = rig.engine._random
    clients: list[Client] = []
    for number in range(40):
        action = random.randrange(5)
        if action < 3:
            client = rig.open()
            clients.append(client)
            client.send(
                wire5.connect(
                    "a",
                    expiry(random.choice([0, 3, 50])),
                    clean=random.random() < 0.4,
                    will=will(random.choice([0, 2, 9]), b"%d" % number)
                    if random.random() < 0.7
                    else None,
                )
            )
        elif clients:
            client = random.choice(clients)
            if action == 3:
                client.cut()
            else:
                client.send(wire5.disconnect(random.choice([0, 4])))
        if random.random() < 0.3:
            rig.advance(random.choice([0.5, 1, 5]))
        invariants.check(rig)
    rig.settle()
    session = rig.broker._sessions.get("a")
    expected: dict[str, tuple[bytes, float]] = {}
    if session is not None and session.channel is not None:
        if session.channel.will is not None:
            expected["a"] = (session.channel.will.payload, 0)
    elif session is not None and session.will is not None:
        expected["a"] = (session.will.will.payload, session.will.due)
    assert store.wills == expected
    left = [] if session is None else [session.will.will] if session.will is not None else []
    if session is not None and session.channel is not None and session.channel.will is not None:
        left.append(session.channel.will)
    assert rig.broker._sessions.wills._size_bytes == sum(map(will_cost, left))
    invariants.check_at_rest(rig)
    rig.no_faults()


def test_a_will_that_a_full_queue_refuses_leaves_the_store() -> None:
    rig = Rig(queue_full_policy="refuse", max_queued_messages=1)
    assert isinstance(rig.engine, MemoryEngine)
    rig.persistent("r").subscribe(("w", 1))
    rig.clients[0].cut()
    for name in ("a", "b"):
        rig.connect(name, will=("w", b"gone", 1, False)).cut()
    assert rig.broker.stats.refused_queue_full == 1
    assert rig.engine._wills == {}
    assert len(rig.persistent("r", present=True).payloads()) == 1


@pytest.mark.parametrize("newer", ["none", "asks", "connected"])
def test_a_will_that_the_store_refuses_leaves_it_later_and_no_other_does(newer: str) -> None:
    rig = Rig()
    memory = MemoryEngine(rig.limits)
    rig.engine = memory
    rig.persistent("r").subscribe(("w", 1))
    rig.clients[0].cut()
    older = rig.connect("a", will=("w", b"older", 1, False))
    engine = HoldingEngine(RefusingEngine(memory, writes(Append)))
    rig.engine = engine
    older.cut()
    if newer != "none":
        rig.open("a").send(wire.connect("a", will=("w", b"newer", 1, False)))
    for _ in range(("none", "asks", "connected").index(newer)):  # its claim, and its will
        assert engine.release_last()
        rig.pump()
    assert engine.release(1)
    rig.pump()
    rig.settle()
    wills = {client_id: stored.will.payload for client_id, stored in memory._wills.items()}
    assert wills == {"a": b"older" if newer == "none" else b"newer"}
    rig.engine = memory
    rig.advance(2)
    wills = {client_id: stored.will.payload for client_id, stored in memory._wills.items()}
    assert wills == ({} if newer == "none" else {"a": b"newer"})
    assert rig.persistent("r", present=True).payloads() == [b"older"]


def test_a_refused_will_that_is_stored_at_last_leaves_that_of_a_connect_alone() -> None:
    rig = Rig(sys_interval_secs=0)
    memory = MemoryEngine(rig.limits)
    rig.engine = memory
    rig.persistent("r").subscribe(("w", 1))
    rig.clients[0].cut()
    older = rig.connect("a", will=("w", b"older", 1, False))
    rig.engine = RefusingEngine(memory, writes(Append))
    older.cut()
    holding = HoldingEngine(memory)
    rig.engine = holding
    rig.open("a").send(wire.connect("a", will=("w", b"newer", 1, False)))
    assert holding.release()  # its claim
    rig.pump()
    rig.advance(1)
    assert holding.release_last()
    rig.settle()
    assert {name: stored.will.payload for name, stored in memory._wills.items()} == {"a": b"newer"}
