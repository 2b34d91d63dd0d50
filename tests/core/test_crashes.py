"""A process that ends at any moment: what was acknowledged is not lost, QoS 2 arrives once, and
everything in its order.

The engine commits bit by bit, so that a crash comes between any two of its commits as well as
between any two packets.
"""

from __future__ import annotations

import random

import pytest

from mqtt_core import make_message
from mqtt_core.broker import (
    MemoryEngine,
    Options,
    PutRetained,
    SaveExpiry,
    SaveSession,
    SaveSubscription,
    Write,
)
from tests.core import wire, wire5
from tests.core.devices import Device, check
from tests.core.wire5 import Will5, prop, u32
from tests.model import invariants
from tests.rig import WALL_S, Client, DiskEngine, Rig

TOPIC = "t"


class Story:
    """A publisher and its receivers, which do one small thing after the other."""

    def __init__(self, seed: int | None = None, **limits: int) -> None:
        self.disk = DiskEngine(MemoryEngine(Rig(settings=limits).limits), seed)
        self.rig = Rig(engine=self.disk, sys_interval_secs=0, settings=limits)
        self.publisher = Device(self.rig, "p")
        self.receivers = [Device(self.rig, "q0"), Device(self.rig, "q1")]
        self.devices = [self.publisher, *self.receivers]
        self.published: dict[int, list[bytes]] = {1: [], 2: []}

    def begin(self) -> None:
        """Everybody has a session, and the receivers have subscribed."""
        for device in self.devices:
            device.connect()
        for receiver in self.receivers:
            receiver.subscribe("t/#", 2)
        self.finish()

    def publish(self, qos: int) -> None:
        """One message."""
        payload = b"%d.%d" % (qos, len(self.published[qos]))
        self.published[qos].append(payload)
        self.publisher.publish(TOPIC, payload, qos)

    def tick(self) -> bool:
        """Everybody does one thing; False when there was nothing to do."""
        is_busy = False
        for device in self.devices:
            is_busy |= device.read(1)
        is_busy |= self.disk.commit(1)
        self.rig.pump()
        return is_busy

    def finish(self) -> None:
        """Until there is nothing left to do."""
        for _ in range(10_000):
            if not self.tick():
                break
        else:
            raise AssertionError("they never come to rest")

    def crash(self, reads: int = 0) -> None:
        """The process ends, and another one begins; who was connected comes back."""
        away = [device for device in self.devices if device.client is None]
        self.rig.crash()
        for device in self.devices:
            device.disconnected(reads)
            if device not in away:
                device.connect()

    def check(self) -> None:
        """All devices come, and have got what they must."""
        for device in self.devices:
            if device.client is None:
                device.connect()
        self.finish()
        check(self.publisher, self.receivers, self.published)
        self.rig.settle()
        self.rig.no_faults()
        invariants.check_at_rest(self.rig)
        memory = self.disk.inner
        assert isinstance(memory, MemoryEngine)
        for stored in memory._sessions.values():
            assert not stored.sent
            assert not stored.held
            assert stored.first == len(stored.waiting)


@pytest.mark.parametrize("reads", [0, 100])
@pytest.mark.parametrize("is_away", [False, True])
@pytest.mark.parametrize("window", [1, 100])
@pytest.mark.parametrize("qoss", [(1, 1, 1), (2, 2, 2), (1, 2, 1, 2)])
def test_a_crash_after_any_step(
    qoss: tuple[int, ...], window: int, is_away: bool, reads: int
) -> None:
    """`is_away`: one of the receivers, which then gets it from its queue."""
    crash_at = 0
    is_busy = True
    while is_busy:
        story = Story(max_inflight_messages=window)
        story.begin()
        if is_away:
            story.receivers[0].disconnected()
            story.finish()
        for qos in qoss:
            story.publish(qos)
        for at in range(crash_at):
            is_busy = story.tick()
            if at == crash_at // 2 and story.receivers[0].client is None:
                story.receivers[0].connect()
        story.crash(reads)
        story.check()
        crash_at += 1
    assert crash_at > 10


@pytest.mark.parametrize("seed", range(150))
def test_a_history_with_crashes(seed: int) -> None:
    chance = random.Random(seed)
    story = Story(seed, max_inflight_messages=chance.choice([1, 3, 100]))
    story.begin()
    for _ in range(chance.randint(20, 80)):
        device = chance.choice(story.devices)
        action = chance.random()
        if action < 0.35:
            story.publish(chance.choice([1, 2]))
        elif action < 0.75:
            device.read(chance.randint(1, 4))
        elif action < 0.8:
            device.disconnected(chance.randint(0, 3))
        elif action < 0.88:
            if device.client is None:
                device.connect()
        elif action < 0.94:
            story.disk.commit(chance.randint(1, 3))
            story.rig.pump()
        elif action < 0.97:
            story.rig.advance(chance.random())
        else:
            story.crash(chance.randint(0, 3))
    story.check()


# What takes several turns, or several writes


class Crowd:
    """A broker with many clients that are away, each with a session and one subscription."""

    def __init__(self, count: int, topic_filter: bytes) -> None:
        limits = {"turn_deliveries": 100}
        memory = MemoryEngine(Rig(settings=limits).limits)
        for session in range(1, count + 1):
            memory.submit(
                Write(
                    0,
                    [
                        SaveSession(session, f"r{session}"),
                        SaveExpiry(session, WALL_S + 10_000, 10_000),
                        SaveSubscription(session, topic_filter, 2),
                    ],
                )
            )
        self.disk = DiskEngine(memory)
        self.rig = Rig(engine=self.disk, sys_interval_secs=0, settings=limits)
        self.names = [f"r{session}" for session in range(1, count + 1)]
        self.rig.crash()

    def arrive(self, name: str, packet: bytes) -> Client:
        """A client comes, and all is stored that it leads to."""
        client = self.rig.open(name)
        client.send(packet)
        self.rig.settle()
        assert client.take()[0] == 0x20
        return client

    def steps(self, count: int) -> bool:
        """So many times one turn of the broker and one commit; False when all is done."""
        is_busy = True
        for _ in range(count):
            is_busy = self.rig.turn()
            is_busy |= self.disk.commit(1)
        return is_busy

    def got(self, name: str) -> list[bytes]:
        """What waits for a client."""
        client = self.rig.open(name)
        client.send(wire.connect(name, clean=False))
        self.rig.settle()
        return [each.payload for each in wire.publishes(client.take()[4:])]


def test_a_crash_between_the_turns_of_a_wide_fan_out_at_qos_2() -> None:
    """The publisher sends it again, and nobody gets a second copy."""
    crash_at = 0
    is_busy = True
    while is_busy:
        crowd = Crowd(450, b"t")
        rig = crowd.rig
        publisher = crowd.arrive("p", wire.connect("p", clean=False))
        publisher.send(wire.publish("t", b"x", 2, 1), pump=False)
        is_busy = crowd.steps(crash_at)
        is_acknowledged = wire.pubrec(1) in publisher.received
        rig.crash()
        publisher = crowd.arrive("p", wire.connect("p", clean=False))
        if not is_acknowledged:
            publisher.send(wire.publish("t", b"x", 2, 1, dup=True))
            rig.settle()
            assert publisher.take() == wire.pubrec(1)
        for name in crowd.names:
            assert crowd.got(name) == [b"x"], (crash_at, name)
        rig.no_faults()
        crash_at += 1
    assert crash_at > 4


@pytest.mark.parametrize("is_clean", [False, True])
@pytest.mark.parametrize("delay_s", [0, 5])
@pytest.mark.parametrize("has_will", [False, True])
@pytest.mark.parametrize("wide", [2, 450])
def test_a_crash_in_a_takeover_loses_no_will(
    wide: int, has_will: bool, delay_s: int, is_clean: bool
) -> None:
    """That of the older connection comes once, unless its client is back in time; that of the newer
    one, too, once it was told that it is connected."""
    delay = prop(0x18, u32(delay_s)) if delay_s else b""
    crash_at = 0
    is_busy = True
    while is_busy:
        crowd = Crowd(wide, b"w")
        rig = crowd.rig
        wills = [Will5("w", payload, 2, False, delay) for payload in (b"older", b"newer")]
        kept = prop(0x11, u32(1_000))
        crowd.arrive("older", wire5.connect("p", kept, clean=False, will=wills[0]))
        newer = rig.open("newer")
        newer_will = wills[1] if has_will else None
        newer.send(wire5.connect("p", kept, clean=is_clean, will=newer_will), pump=False)
        is_busy = crowd.steps(crash_at)
        is_connected = bool(newer.received)
        rig.crash()
        rig.advance(10)
        rig.settle()
        for name in (crowd.names[0], crowd.names[-1]):
            payloads = crowd.got(name)
            assert payloads.count(b"older") <= 1, crash_at
            assert payloads.count(b"newer") <= has_will, crash_at
            if not delay_s or is_clean or not (is_connected or crash_at):
                assert b"older" in payloads, crash_at
            if is_connected and has_will:
                assert b"newer" in payloads, crash_at
        rig.no_faults()
        crash_at += 1
    assert crash_at > 3


@pytest.mark.parametrize("is_back", [False, True])
def test_a_crash_around_a_will_behind_a_wide_message(is_back: bool) -> None:
    """Its connection ends while its last message is on its way to very many."""
    crash_at = 0
    is_busy = True
    while is_busy:
        crowd = Crowd(450, b"t")
        rig = crowd.rig
        publisher = crowd.arrive("p", wire.connect("p", will=("t", b"gone", 2, False)))
        publisher.send(wire.publish("t", b"x", 1, 1), pump=False)
        rig.turn()
        publisher.cut(pump=False)
        newer = rig.open("newer") if is_back else None
        if newer is not None:
            newer.send(wire.connect("p", will=("t", b"newer", 2, False)), pump=False)
        is_busy = crowd.steps(crash_at)
        is_connected = newer is not None and bool(newer.received)
        rig.crash()
        for name in (crowd.names[0], crowd.names[-1]):
            payloads = crowd.got(name)
            assert payloads.count(b"gone") == 1, crash_at
            assert not is_connected or payloads[-1] == b"newer"
            assert payloads.count(b"newer") <= is_back
        rig.no_faults()
        crash_at += 1
    assert crash_at > 4


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("window", [1, 3])
def test_a_crash_in_a_run_of_retained_messages(qos: int, window: int) -> None:
    """What SUBACK has promised comes, and nothing once all has come."""
    expected = {b"%d" % number for number in range(5)}
    crash_at = 0
    is_busy = True
    while is_busy:
        story = Story(max_inflight_messages=window)
        receiver = story.receivers[0]
        story.devices = [receiver]
        for payload in expected:
            message = make_message(f"kept/{payload.decode()}", payload, 2, True)
            story.disk.inner.submit(Write(0, [PutRetained(message)]))
        receiver.connect()
        story.finish()
        receiver.subscribe("kept/+", qos)
        for _ in range(crash_at):
            is_busy = story.tick()
        story.crash()
        story.finish()
        assert {payload for payload, _ in receiver.received} == expected, crash_at
        receiver.received.clear()
        story.crash()
        story.finish()
        assert receiver.received == []
        story.rig.no_faults()
        crash_at += 1
    assert crash_at > 5


def test_an_identifier_comes_with_what_was_left_of_a_run() -> None:
    rig, memory = Rig(sys_interval_secs=0), MemoryEngine(Rig().limits)
    rig.engine = memory
    memory.submit(Write(0, [PutRetained(make_message("kept", b"1", 1, True))]))
    memory.submit(
        Write(
            0,
            [
                SaveSession(1, "a"),
                SaveExpiry(1, None, 1_000),
                SaveSubscription(1, b"kept", 1, Options(identifier=7), retained_due=True),
            ],
        )
    )
    for _ in range(2):  # again as long as it is not said that all has come
        rig.crash()
    client = rig.connect5("a", prop(0x11, u32(1_000)), clean=False, present=True)
    (got,) = client.publishes5()
    assert (got.payload, got.retain, got.properties) == (b"1", True, b"\x0b\x07")
    client.send(wire5.puback(got.packet_id))
    rig.crash()
    assert rig.connect5("a", clean=False, present=True).publishes5() == []
