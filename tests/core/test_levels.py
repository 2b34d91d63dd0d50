"""How durable a change is before a client is answered: the level of the listener it came by."""

from __future__ import annotations

import pytest

from mqtt_core.broker import (
    LEVEL_FSYNC,
    LEVEL_MEMORY,
    LEVEL_OS,
    LEVELS,
    Append,
    DeleteSubscription,
    DropExpired,
    HoldIdentifier,
    Limits,
    MemoryEngine,
    Operation,
    PutRetained,
    ReleaseIdentifier,
    Request,
    SaveReceived,
    SaveSent,
    SaveSession,
    SaveSubscription,
    SaveWill,
    Write,
)
from tests.core import wire, wire5
from tests.rig import Client, EngineAround, RefusingEngine, Rig, writes


class Watched(EngineAround):
    """Notes at which level each kind of operation is written that somebody waits for."""

    def __init__(self, level: int = LEVEL_OS) -> None:
        super().__init__(MemoryEngine(Limits()))
        self.own_level = level
        self.levels: list[tuple[type[Operation], int]] = []

    @property
    def level(self) -> int:
        """As a durable engine would say."""
        return self.own_level

    def submit(self, request: Request) -> None:
        """Take a request."""
        if isinstance(request, Write) and request.request_id:
            self.levels += [(type(each), request.level) for each in request.operations]
        super().submit(request)

    def take(self) -> list[tuple[type[Operation], int]]:
        """What has been noted since the last call."""
        levels, self.levels = self.levels, []
        return levels


def watched() -> tuple[Rig, Watched]:
    engine = Watched()
    return Rig(engine=engine, sys_interval_secs=0), engine


def by(rig: Rig, level: int, client_id: str, *, present: bool = False) -> Client:
    """A client with a persistent session that comes by a listener of this level."""
    rig.durability = level
    client = rig.persistent(client_id, present=present)
    rig.durability = 0
    return client


@pytest.mark.parametrize("level", LEVELS.values())
def test_what_a_client_is_answered_is_as_durable_as_its_listener_says(level: int) -> None:
    rig, engine = watched()
    client = by(rig, level, "c")
    assert {wanted for _, wanted in engine.take()} == {level}
    client.send(wire.subscribe(1, ("t", 1)))
    client.send(wire.publish("t", b"x", 1, 2))
    client.send(wire.publish("t", b"x", 2, 3), wire.pubrel(3))
    client.send(wire.publish("t", b"x", 0, retain=True))
    client.send(wire.unsubscribe(4, "t"))
    assert engine.take() == [
        (SaveSubscription, level),
        (Append, level),
        (HoldIdentifier, level),
        (Append, level),
        (ReleaseIdentifier, level),
        (PutRetained, level),
        (DeleteSubscription, level),
    ]


@pytest.mark.parametrize("level", LEVELS.values())
def test_the_will_of_a_connect_is_as_durable_behind_another_one(level: int) -> None:
    rig, engine = watched()
    rig.connect("c", will=("w", b"older", 1, False))
    rig.durability = level
    engine.take()
    rig.connect("c", will=("w", b"newer", 1, False))
    assert engine.take() == [(SaveWill, LEVEL_OS), (SaveWill, level)]  # that one goes, this one is


def test_a_listener_without_a_level_has_that_of_the_store() -> None:
    rig, engine = watched()
    by(rig, 0, "c").subscribe(("t", 1))
    assert [wanted for _, wanted in engine.take()] == [LEVEL_OS] * 3
    rig = Rig()
    assert rig.broker.open("tcp://127.0.0.1:1883", "peer", rig.now).level == LEVEL_MEMORY


def test_what_no_client_waits_for_has_the_level_of_the_store() -> None:
    rig, engine = watched()
    by(rig, LEVEL_FSYNC, "away").subscribe(("w", 1))
    rig.clients[0].cut()
    rig.durability = LEVEL_MEMORY
    client = rig.connect("dying", will=("w", b"gone", 1, True))
    five = rig.connect5("five")
    engine.take()
    client.cut()
    expected = [(PutRetained, LEVEL_OS), (SaveWill, LEVEL_OS), (Append, LEVEL_OS)]
    assert engine.take() == expected
    five.send(wire5.publish("e", b"x", 0, 0, wire5.prop(2, wire5.u32(5)), retain=True))
    engine.take()
    rig.advance(61)
    assert engine.take() == [(DropExpired, LEVEL_OS)]


@pytest.mark.parametrize(
    ("publisher", "receiver", "expected"),
    [
        (LEVEL_MEMORY, LEVEL_FSYNC, LEVEL_FSYNC),
        (LEVEL_FSYNC, LEVEL_MEMORY, LEVEL_FSYNC),
        (LEVEL_MEMORY, LEVEL_OS, LEVEL_OS),
    ],
)
def test_at_qos_2_the_receiver_waits_as_well(publisher: int, receiver: int, expected: int) -> None:
    rig, engine = watched()
    reader = by(rig, receiver, "r")
    reader.subscribe(("t", 2))
    sender = by(rig, publisher, "p")
    engine.take()
    sender.send(wire.publish("t", b"x", 1, 1))  # at once: only its publisher waits
    assert engine.take() == [(Append, publisher)]
    sender.send(wire.publish("t", b"x", 2, 2))
    assert engine.take() == [(HoldIdentifier, expected), (Append, expected)]
    got = reader.publishes()[-1]
    reader.send(wire.pubrec(got.packet_id))
    assert engine.take() == [(SaveReceived, receiver)]


def test_what_has_waited_is_sent_at_the_level_of_its_receiver() -> None:
    rig, engine = watched()
    by(rig, LEVEL_OS, "r").subscribe(("t", 2))
    rig.clients[0].cut()
    by(rig, LEVEL_MEMORY, "p").send(wire.publish("t", b"x", 2, 1))
    engine.take()
    reader = by(rig, LEVEL_FSYNC, "r", present=True)
    assert reader.payloads() == [b"x"]
    assert (SaveSent, LEVEL_FSYNC) in engine.take()


def test_a_repeat_is_as_durable_as_the_listener_by_which_it_comes() -> None:
    rig, engine = watched()
    by(rig, LEVEL_OS, "r").subscribe(("t", 2))
    rig.clients[0].cut()
    publisher = by(rig, LEVEL_MEMORY, "p")
    rig.engine = RefusingEngine(engine, writes(Append))
    publisher.send(wire.publish("t", b"x", 2, 1))
    assert publisher.is_closed
    rig.engine = engine
    publisher = by(rig, LEVEL_FSYNC, "p", present=True)
    engine.take()
    publisher.send(wire.publish("t", b"x", 2, 1, dup=True))
    assert engine.take() == [(HoldIdentifier, LEVEL_FSYNC), (Append, LEVEL_FSYNC)]
    assert publisher.take() == wire.pubrec(1)


def test_a_session_is_as_durable_as_the_listener_of_the_connect_that_began_it() -> None:
    rig, engine = watched()
    by(rig, LEVEL_MEMORY, "c")
    assert engine.take()[0] == (SaveSession, LEVEL_MEMORY)
