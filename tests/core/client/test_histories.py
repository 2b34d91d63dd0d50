"""Two clients and a broker under whatever may happen to them, driven by Hypothesis.

The writer has a store and may be restarted; connections are cut, the broker is away for a while or
is restarted with what it has stored. What must hold: a message at QoS 1 and 2 that was published
arrives, at QoS 2 exactly once; each in the order of its QoS; queues stay within their limits; and
when all is well again nobody is left waiting.
"""

from __future__ import annotations

import random

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from mqtt_core import MQTT_3_1_1, MQTT_5
from mqtt_core.broker import Limits, MemoryEngine
from mqtt_core.client import Message, Publication, Reconnect
from tests.line import Line, settings
from tests.rig import Rig

RECEIVE_MAXIMUM = 5
WINDOW = 3
LASTING_S = 100_000


class Histories(RuleBasedStateMachine):
    """A writer, a reader, and the broker between them."""

    number = -1  # of the last message; below 0 before there is anything

    @initialize(
        level=st.sampled_from([MQTT_3_1_1, MQTT_5]),
        manual=st.booleans(),
        seed=st.integers(0, 1_000),
    )
    def start(self, level: int, manual: bool, seed: int) -> None:
        self.seed = seed
        self.level = level
        self.rig = Rig(max_inflight_messages=4, max_queued_messages=100_000)
        self.of_writer = settings(
            client_id="writer",
            level=level,
            session_expiry_s=LASTING_S,
            reconnect=Reconnect(0.1, 1.0),
            max_inflight_messages=WINDOW,
        )
        self.store = MemoryEngine(Limits())
        self.manual = manual
        self.reader = Line(
            self.rig,
            settings(
                client_id="reader",
                level=level,
                session_expiry_s=LASTING_S,
                reconnect=Reconnect(0.1, 1.0),
                manual_acks=manual,
                receive_maximum=RECEIVE_MAXIMUM,
            ),
            random.Random(seed + 1).randbytes,
        )
        self.reader.client.set_acknowledger(self._acknowledge)
        self.reader.start()
        self.writer = self._writer(seed)
        self.writer.start()
        self.consumer = self.reader.subscribe(("t", 2))
        self.reader.move()
        assert self.consumer.is_ready
        self.published: dict[int, list[bytes]] = {1: [], 2: []}
        self.under_way: list[Publication] = []
        self.told: list[object] = []
        self.got: list[Message] = []
        self.unacknowledged: list[Message] = []
        self.number = 0

    def _writer(self, seed: int) -> Line:
        return Line(self.rig, self.of_writer, random.Random(seed).randbytes, self.store)

    def _acknowledge(self, message: Message) -> None:
        self.reader.client.acknowledge(message, self.reader.now)

    @rule(qos=st.integers(1, 2), count=st.integers(1, 6))
    def publish(self, qos: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            payload = b"%d" % self.number
            self.published[qos].append(payload)
            self.under_way.append(self.writer.publish("t", payload, qos, waiter=self.number))

    @rule(who=st.booleans())
    def move(self, who: bool) -> None:
        self._line(who).move()

    @rule(who=st.booleans())
    def cut(self, who: bool) -> None:
        line = self._line(who)
        if line.remote is not None:
            line.cut()

    @rule(who=st.booleans(), reaches=st.booleans())
    def reach(self, who: bool, reaches: bool) -> None:
        self._line(who).is_reachable = reaches

    @rule(seconds=st.floats(0.1, 5))
    def pass_time(self, seconds: float) -> None:
        self.writer.advance(seconds)
        self.reader.advance(0.0)

    @rule()
    def restart_the_writer(self) -> None:
        self.writer.store()  # what was submitted is stored, as in a crash behind a commit
        if self.writer.remote is not None:
            self.writer.remote.cut()
        for each in self.under_way:
            each.waiter = None
        self.under_way = []
        self.writer = self._writer(self.seed + self.number)
        self.writer.start()
        if self.writer.client.has_ended:  # the first connection was refused to it
            self.writer.is_reachable = True
            self.writer = self._writer(self.seed)
            self.writer.start()

    @rule(away_s=st.floats(0, 2))
    def restart_the_broker(self, away_s: float) -> None:
        self.rig.crash(away_s)

    @rule(count=st.integers(1, 10))
    def take(self, count: int) -> None:
        for _ in range(count):
            message = self.reader.take(self.consumer)
            if message is None:
                return
            self.got.append(message)
            if self.manual:
                self.unacknowledged.append(message)

    @rule(count=st.integers(1, 3))
    def lose_acknowledgements(self, count: int) -> None:
        """What the reader has said, and the server has not heard."""
        self.take(count)
        for message in self.unacknowledged:
            message.ack()
        self.unacknowledged = []
        self.cut(False)

    @rule(qos=st.integers(1, 2), reads=st.booleans())
    def lose_answers(self, qos: int, reads: bool) -> None:
        """What the server has said, and the writer has not heard; or what that has answered."""
        self.publish(qos, 2)
        writer = self.writer
        if writer.remote is not None:
            writer.store()
            writer._to_server()
            if reads:
                writer._to_client()
                writer.store()
            self.cut(True)

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        if self.unacknowledged:
            at = data.draw(st.integers(0, len(self.unacknowledged) - 1))
            self.unacknowledged.pop(at).ack()

    def _line(self, is_writer: bool) -> Line:
        return self.writer if is_writer else self.reader

    @invariant()
    def queues_are_bounded(self) -> None:
        if self.number < 0:
            return
        assert self.writer.client.in_flight <= WINDOW
        if self.level == MQTT_5:
            assert self.consumer.unread <= RECEIVE_MAXIMUM
            assert self.reader.client.unacknowledged <= RECEIVE_MAXIMUM

    def _waits_for_the_reader(self) -> bool:
        return self.consumer.unread > 0 or self.reader.client.unacknowledged > 0

    def teardown(self) -> None:
        if self.number < 0:
            return
        self.writer.is_reachable = self.reader.is_reachable = True
        for _ in range(200):
            self.writer.advance(5)
            self.reader.advance(5)
            self.take(1_000)
            for message in self.unacknowledged:
                message.ack()
            self.unacknowledged = []
            self.reader.move()
            client = self.writer.client
            if not (client.pending_messages or client.in_flight or self._waits_for_the_reader()):
                break
        else:
            raise AssertionError("it does not come to rest")
        for each in self.under_way:
            assert each.result().is_done
            assert each.waiter is None
        got: dict[int, list[bytes]] = {1: [], 2: []}
        for message in self.got:
            got[message.qos].append(message.payload)
        assert got[2] == self.published[2]
        assert list(dict.fromkeys(got[1])) == self.published[1]


Histories.TestCase.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
test_histories = Histories.TestCase
