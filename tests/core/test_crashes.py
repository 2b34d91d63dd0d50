"""A process that ends at any moment: what was acknowledged is not lost, QoS 2 arrives once, and
everything in its order.

The engine commits bit by bit, so that a crash comes between any two of its commits as well as
between any two packets.
"""

from __future__ import annotations

import random

import pytest

from mqtt_core.broker import Append, MemoryEngine, Write
from tests.core.devices import Device, check
from tests.model import invariants
from tests.rig import DiskEngine, Rig

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


@pytest.mark.parametrize("commits", [0, 1])
def test_a_wide_fan_out_at_qos_2_is_stored_as_a_whole(commits: int) -> None:
    """Else a crash between its parts gives a second copy to those of the first."""
    story = Story(turn_deliveries=230)
    story.receivers = [Device(story.rig, f"r{number}") for number in range(450)]
    story.devices = [story.publisher, *story.receivers]
    story.begin()
    for receiver in story.receivers:
        receiver.disconnected()
    story.finish()
    story.publish(2)
    story.rig.pump()
    (write,) = story.disk.submitted
    assert isinstance(write, Write)
    targets = [each.targets for each in write.operations if isinstance(each, Append)]
    assert [len(each) for each in targets] == [450]
    story.disk.commit(commits)
    story.crash()
    story.check()
