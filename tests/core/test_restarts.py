"""Whatever clients of MQTT 5.0 have done: after a restart the broker is what it was before.

Nothing is said here about what that should be; other tests do. What the broker keeps of each
session is compared with what another broker makes of the store, so that nothing that it needs is
only in memory.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from mqtt_core._flow import (
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    STORING_PUBLISH,
    STORING_PUBREL,
)
from mqtt_core.broker import EOF_BY_PEER, MemoryEngine, Options, Particulars
from mqtt_core.broker._session import Session
from tests.core import wire5
from tests.core.wire import Frame
from tests.core.wire5 import Will5, prop, u32
from tests.model import invariants
from tests.rig import Client, DiskEngine, Rig

NAMES = ("a", "b", "c", "d")
TOPICS = ("t/1", "t/2", "u")
FILTERS = ("t/#", "t/1", "+/2", "u", "$share/g/t/#", "$share/h/u")

# What waited for the store when its client went, and is stored by now.
STORED_AS = {STORING_PUBLISH: AWAITING_PUBREC, STORING_PUBREL: AWAITING_PUBCOMP}


class Kept(NamedTuple):
    """What a broker keeps of a session whose client is away."""

    subscriptions: dict[bytes, tuple[int, Options | None]]
    in_flight: list[tuple[int, int, bytes | None, Particulars | None, int]]
    held: set[int]
    waiting: tuple[int, int]
    numbers: list[int]
    expiry_s: int
    expires_at: float
    will: tuple[bytes, float] | None


def kept(session: Session) -> Kept:
    subscriptions = {name: (each.qos, each.options) for name, each in session.subscriptions.items()}
    in_flight = []
    held: set[int] = set()
    flow = session.flow
    if flow is not None:
        held = set(flow.held or ())
        for packet_id in flow.unfinished():
            message = flow.message(packet_id)
            assert session.numbers is not None
            in_flight.append(
                (
                    packet_id,
                    STORED_AS.get(flow.step(packet_id), flow.step(packet_id)),
                    None if message is None else message.payload,
                    session.particulars_of(packet_id),
                    session.numbers[packet_id],
                )
            )
    waiting = (0, 0)
    numbers: list[int] = []
    queue = session.queue
    if queue is not None:
        waiting = (queue.count - queue.qos_0_count, queue.size_bytes - queue.qos_0_bytes)
        loaded = [entry.number for entry in queue.here() if entry.qos]
        stored = [] if queue._stored is None else queue._stored.numbers()
        numbers = loaded + stored
    will = None if session.will is None else (session.will.will.payload, session.will.due)
    return Kept(
        subscriptions,
        in_flight,
        held,
        waiting,
        numbers,
        session.expiry_s,
        round(session.expires_at, 3),
        will,
    )


def kept_by(rig: Rig) -> dict[str, Kept]:
    sessions = rig.broker._sessions.by_client
    return {name: kept(session) for name, session in sessions.items()}


class Five:
    """A client of MQTT 5.0 that answers some of what it gets."""

    def __init__(self, rig: Rig, name: str, chance: random.Random) -> None:
        self.rig = rig
        self.name = name
        self.chance = chance
        self.client: Client | None = None
        self._owed: list[Frame] = []
        self._last_id = 0

    def act(self) -> None:
        """Do anything."""
        client = self.client
        if client is None or client.is_closed:
            self._connect()
            return
        chance = self.chance
        self._owed += client.frames()
        match chance.randrange(10):
            case 0 | 1:
                options = chance.randrange(3) | 8 * chance.randrange(2)
                names = chance.choice(FILTERS)
                identifier = prop(0x0B, bytes([chance.randint(1, 9)]))
                properties = identifier if chance.random() < 0.5 else b""
                client.send(wire5.subscribe(60_000, (names, options), properties=properties))
            case 2:
                client.send(wire5.unsubscribe(60_001, chance.choice(FILTERS)))
            case 3 | 4 | 5:
                self._publish(client)
            case 6:
                self.end()
            case _:
                for _ in range(chance.randint(1, 5)):
                    self._answer(client)

    def end(self) -> None:
        """Say goodbye, or not."""
        client = self.client
        self.client = None
        self._owed.clear()
        if client is None or client.is_closed:
            return
        if self.chance.random() < 0.3:
            seconds = self.chance.choice([0, 50, 5_000])
            client.send(wire5.disconnect(0, prop(0x11, u32(seconds))))
        elif self.chance.random() < 0.1:
            client.send(wire5.disconnect(4))
        client.cut()

    def _connect(self) -> None:
        chance = self.chance
        will = None
        if chance.random() < 0.5:
            delay = prop(0x18, u32(chance.choice([0, 20, 2_000])))
            will = Will5(chance.choice(TOPICS), b"%d" % chance.randrange(1_000), 1, False, delay)
        self._owed.clear()
        self.client = self.rig.open(self.name)
        self.client.send(
            wire5.connect(
                self.name,
                prop(0x11, u32(chance.choice([0, 100, 1_000, 100_000]))),
                clean=chance.random() < 0.1,
                will=will,
            )
        )

    def _publish(self, client: Client) -> None:
        chance = self.chance
        self._last_id = self._last_id % 50_000 + 1
        expiry = prop(0x02, u32(chance.choice([10, 1_000]))) if chance.random() < 0.3 else b""
        client.send(
            wire5.publish(
                chance.choice(TOPICS),
                b"%d" % chance.randrange(1_000),
                chance.randrange(3),
                self._last_id,
                expiry,
                retain=chance.random() < 0.2,
            )
        )

    def _answer(self, client: Client) -> None:
        if not self._owed:
            return
        frame = self._owed.pop(0)
        match frame.kind:
            case 3:
                publish = wire5.read_publish(frame)
                if publish.qos == 1:
                    client.send(wire5.puback(publish.packet_id))
                elif publish.qos == 2:
                    client.send(wire5.pubrec(publish.packet_id))
            case 5:
                client.send(wire5.pubrel(frame.packet_id))
            case 6:
                client.send(wire5.pubcomp(frame.packet_id))


@pytest.mark.parametrize("seed", range(120))
def test_a_restart_changes_nothing(seed: int) -> None:
    chance = random.Random(seed)
    limits = {
        "max_inflight_messages": chance.choice([1, 2, 100]),
        "max_queued_messages": chance.choice([3, 1_000]),
        "shared_redelivery": chance.random() < 0.7,
    }
    disk = DiskEngine(MemoryEngine(Rig(settings=limits).limits), seed)
    rig = Rig(engine=disk, sys_interval_secs=0, settings=limits)
    fives = [Five(rig, name, chance) for name in NAMES]
    for _ in range(3):
        for _ in range(chance.randint(5, 60)):
            five = chance.choice(fives)
            if chance.random() < 0.05:
                rig.advance(chance.choice([1, 15, 150]))
            five.act()
            for client in list(rig.clients):
                if client.is_closed:
                    client.channel.eof(EOF_BY_PEER, rig.now)
        rig.settle()
        for five in fives:
            five.end()
        rig.settle()
        before = kept_by(rig)
        rig.crash()
        after = kept_by(rig)
        assert after.keys() == before.keys()
        for name, each in before.items():
            for field, value in each._asdict().items():
                assert getattr(after[name], field) == value, (name, field)
        rig.no_faults()
        invariants.check_at_rest(rig)
