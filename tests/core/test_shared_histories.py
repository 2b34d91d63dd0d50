"""Random histories of groups: whatever happens, each message goes to one member of each.

The publisher and the members obey MQTT; engines answer at once, late, or refuse. Payloads are
numbers, so that every message is known wherever it comes.
"""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mqtt_core._flow import AWAITING_PUBREC
from mqtt_core.broker import (
    Append,
    ReadQueue,
    Request,
    SaveSent,
    Settle,
    Write,
)
from tests.core import wire, wire5
from tests.core.wire5 import prop, u32
from tests.model import invariants
from tests.rig import Client, LateEngine, RefusingEngine, Rig

SHARED, OTHER, OWN = 1, 2, 3
"""Subscription identifiers, by which it can be seen for which subscription a message comes."""
FILTERS = {SHARED: "$share/g/t", OTHER: "$share/h/+", OWN: "t"}
WORKERS = {
    "a": (SHARED, OTHER),
    "b": (SHARED, OTHER),
    "c": (SHARED, OWN),
    "d": (SHARED,),
    "e": (OTHER,),
}
EXPIRY_S = 50


class Publisher:
    """A persistent client that publishes numbers, and repeats them after a reconnect."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.client = rig.persistent("p")
        self.count = 0
        self.qualities: list[int] = []
        self.accepted: set[int] = set()
        self.open: dict[int, tuple[int, bool]] = {}
        """By packet identifier: the number, and whether PUBREC has come."""

    def publish(self, qos: int) -> None:
        """Send the next number."""
        number = self.count
        self.count += 1
        self.qualities.append(qos)
        packet_id = number % 60_000 + 1 if qos else 0
        if qos:
            self.open[packet_id] = (number, False)
        self.client.send(wire.publish("t", b"%d" % number, qos, packet_id), pump=False)

    def read(self) -> None:
        """Take answers; come back if the broker has closed."""
        for frame in self.client.frames():
            packet_id = frame.packet_id
            if frame.kind in (4, 7):
                number, _ = self.open.pop(packet_id)
                self.accepted.add(number)
            elif frame.kind == 5:
                number, _ = self.open[packet_id]
                self.open[packet_id] = (number, True)
                self.accepted.add(number)
                self.client.send(wire.pubrel(packet_id), pump=False)
        if self.client.is_closed:
            if not self.client.has_ended:
                self.client.cut()
            self._come_back()

    def _come_back(self) -> None:
        self.client = self.rig.open("p")
        while not self.client.received:
            if self.client.is_closed:
                self.client = self.rig.open("p")
            self.client.send(wire.connect("p", clean=False))
            self.rig.settle()
        assert self.client.received[:4] in (wire.connack(present=True), wire.connack(3)), (
            self.client.received
        )
        if self.client.received[3]:
            return  # the store refuses: next time
        self.client.received = self.client.received[4:]
        for packet_id, (number, is_received) in list(self.open.items()):
            if is_received:
                self.client.send(wire.pubrel(packet_id), pump=False)
            else:
                qos = self.qualities[number]
                packet = wire.publish("t", b"%d" % number, qos, packet_id, dup=True)
                self.client.send(packet, pump=False)


class Worker:
    """A member of groups, which speaks MQTT 5.0."""

    def __init__(self, rig: Rig, client_id: str, wants: tuple[int, ...], qos: int) -> None:
        self.rig = rig
        self.client_id = client_id
        self.wants = wants
        self.qos = qos
        self.client: Client | None = None
        self.is_joined = False
        self.held: set[int] = set()
        self.acks: deque[bytes] = deque()
        self.got: list[tuple[int, int, int]] = []
        """Of each message the identifier of its subscription, its number, and its QoS."""

    def connect(self, *, clean: bool, is_kept: bool) -> None:
        """Connect; in a new session it will subscribe."""
        if self.client is not None and not self.client.has_ended:
            self.client.cut(pump=False)
        self.acks.clear()
        self.is_joined = False
        self.client = self.rig.open(self.client_id)
        expiry = prop(0x11, u32(EXPIRY_S if is_kept else 0))
        self.client.send(wire5.connect(self.client_id, expiry, clean=clean), pump=False)

    def send(self, data: bytes) -> None:
        """Send something, if there is a connection."""
        if self.client is not None and not self.client.is_closed:
            self.client.send(data, pump=False)

    def ack(self, count: int) -> None:
        """Send the next acknowledgements."""
        while self.acks and count:
            self.send(self.acks.popleft())
            count -= 1

    def subscribe(self, qos: int) -> None:
        """Subscribe to all that it wants."""
        for identifier in self.wants:
            packet = wire5.subscribe(
                identifier,
                (FILTERS[identifier], qos),
                properties=prop(0x0B, bytes([identifier])),
            )
            self.send(packet)

    def read(self) -> None:
        """Take what has come."""
        client = self.client
        if client is None:
            return
        for frame in client.frames():
            if frame.kind == 2:
                if frame.body[1]:
                    break
                if not frame.body[0]:
                    self.held.clear()
                    self.subscribe(self.qos)
                self.is_joined = True
            elif frame.kind == 3:
                self._take(wire5.read_publish(frame))
            elif frame.kind == 6:
                self.held.discard(frame.packet_id)
                self.acks.append(wire5.pubcomp(frame.packet_id))
        if client.is_closed:
            if not client.has_ended:
                client.cut(pump=False)
            self.client = None

    def _take(self, publish: wire5.Received5) -> None:
        assert publish.properties[:1] == b"\x0b"
        assert len(publish.properties) == 2
        identifier = publish.properties[1]
        entry = (identifier, int(publish.payload), publish.qos)
        if publish.qos == 2:
            if publish.packet_id not in self.held:
                self.held.add(publish.packet_id)
                self.got.append(entry)
            self.acks.append(wire5.pubrec(publish.packet_id))
            return
        if publish.qos == 1:
            self.acks.append(wire5.puback(publish.packet_id))
        self.got.append(entry)


class Crowd:
    """A client that is the only member of many groups."""

    def __init__(self, rig: Rig) -> None:
        self.client = rig.connect("crowd")
        self.client.send(wire.subscribe(2, *((f"$share/{at}/t", 0) for at in range(80))))
        self.client.take()
        self.counts: Counter[int] = Counter()

    def read(self) -> None:
        """Take what has come."""
        self.counts.update(int(publish.payload) for publish in self.client.publishes())


class GroupMachine(RuleBasedStateMachine):
    """Two groups and a client of its own; the store answers at once."""

    is_late = False
    refuses = False
    sessions_end = True

    def __init__(self) -> None:
        super().__init__()
        self.rig: Rig
        self.publisher: Publisher
        self.workers: dict[str, Worker] = {}
        self.crowd: Crowd | None = None
        self.sent_at_qos_2: set[int] = set()
        """Numbers that any session has ever had in flight at QoS 2."""
        self.refusals_left = 0

    @initialize(
        seed=st.integers(0, 10_000),
        window=st.integers(1, 4),
        granted=st.lists(st.integers(1, 2), min_size=5, max_size=5),
        kept=st.lists(st.booleans(), min_size=5, max_size=5),
        is_wide=st.booleans(),
    )
    def start(
        self, seed: int, window: int, granted: list[int], kept: list[bool], is_wide: bool
    ) -> None:
        self.rig = Rig(
            max_inflight_messages=window,
            turn_deliveries=20,
            output_budget_bytes=1_024,
            session_timeout_secs=EXPIRY_S,
            sys_interval_secs=0,
            send_timeout_secs=86_400,
        )
        self.publisher = Publisher(self.rig)
        if is_wide:  # more groups than a message is for in one turn
            self.crowd = Crowd(self.rig)
        engine = self.rig.engine
        if self.refuses:
            engine = RefusingEngine(engine, self.refuses_request)
        if self.is_late:
            engine = LateEngine(engine, seed)
        self.rig.engine = engine
        for at, (client_id, wants) in enumerate(WORKERS.items()):
            worker = Worker(self.rig, client_id, wants, granted[at])
            self.workers[client_id] = worker
            worker.connect(clean=True, is_kept=kept[at] or not self._may_end(worker))
            self.rest()

    def refuses_request(self, number: int, request: Request) -> bool:
        """Now and then what has to do with messages on their way to members."""
        kinds = (Append, Settle, SaveSent)
        is_of_kind = isinstance(request, ReadQueue) or (
            isinstance(request, Write)
            and any(isinstance(each, kinds) for each in request.operations)
        )
        if not is_of_kind or not self.refusals_left or number % 3:
            return False
        self.refusals_left -= 1
        return True

    def _may_end(self, worker: Worker) -> bool:
        """One member of each group is always there: what it gets is not lost with a session."""
        return self.sessions_end and worker.client_id not in ("a", "c")

    @rule(count=st.integers(1, 4))
    def refuse(self, count: int) -> None:
        self.refusals_left = count

    @rule(qos=st.integers(0, 2), count=st.integers(1, 6))
    def publish(self, qos: int, count: int) -> None:
        for _ in range(count):
            self.publisher.publish(qos)
        self.step()

    @rule(at=st.sampled_from("abcde"), count=st.integers(1, 5))
    def ack(self, at: str, count: int) -> None:
        self.workers[at].ack(count)
        self.step()

    @rule(at=st.sampled_from("abcde"))
    def cut(self, at: str) -> None:
        client = self.workers[at].client
        if client is not None and not client.has_ended:
            client.cut(pump=False)
        self.step()

    @rule(at=st.sampled_from("abcde"), clean=st.booleans(), is_kept=st.booleans())
    def connect(self, at: str, clean: bool, is_kept: bool) -> None:
        worker = self.workers[at]
        may_end = self._may_end(worker)
        worker.connect(clean=may_end and clean, is_kept=is_kept or not may_end)
        self.step()

    @rule(at=st.sampled_from("abcde"))
    def disconnect(self, at: str) -> None:
        worker = self.workers[at]
        if self._may_end(worker):
            worker.send(wire5.disconnect(0, prop(0x11, u32(0))))
        self.step()

    @rule(at=st.sampled_from("abcde"), room=st.none() | st.integers(1, 300))
    def change_socket(self, at: str, room: int | None) -> None:
        client = self.workers[at].client
        if client is None or client.is_closed:
            return
        if client.room_bytes == 0:
            client.room_bytes = room
            client.channel.set_writable(True, self.rig.now)
        else:
            client.room_bytes = 0
            client.channel.set_writable(False, self.rig.now)
        self.step()

    @rule(at=st.sampled_from("abcde"), qos=st.integers(1, 2))
    def subscribe_again(self, at: str, qos: int) -> None:
        worker = self.workers[at]
        if worker.is_joined:
            worker.subscribe(qos)
        self.step()

    @rule(seconds=st.sampled_from((1, 5, EXPIRY_S + 5)))
    def wait(self, seconds: int) -> None:
        for _ in range(0, seconds, 5):
            for worker in self.workers.values():
                if worker.client is None and not self._may_end(worker):
                    worker.connect(clean=False, is_kept=True)
            if seconds > EXPIRY_S:
                self.rest()
            self.rig.advance(min(seconds, 5))
            self.step()

    @rule()
    def rest(self) -> None:
        for _ in range(200):
            self.rig.settle()
            self.step()
            if not self.rig.turn():
                break

    def step(self) -> None:
        """One turn, and what clients do at once."""
        self._note()
        self.rig.turn()
        self._note()
        for worker in self.workers.values():
            worker.read()
        if self.crowd is not None:
            self.crowd.read()
        self.publisher.read()
        invariants.check(self.rig)
        self.rig.no_faults()

    def _note(self) -> None:
        for session in self.rig.broker._sessions.by_client.values():
            flow = session.flow
            for packet_id in () if flow is None else flow.unfinished():
                message = flow.message(packet_id) if flow is not None else None
                if flow is not None and flow.step(packet_id) == AWAITING_PUBREC and message:
                    self.sent_at_qos_2.add(int(message.payload))

    def teardown(self) -> None:
        if not self.workers:
            return
        self.refusals_left = 0
        for worker in self.workers.values():
            client = worker.client
            if client is not None and not client.is_closed:
                client.room_bytes = None
                client.channel.set_writable(True, self.rig.now)
        for _ in range(10_000):
            count = sum(len(each.got) for each in self.workers.values())
            self.rest()
            self.rig.advance(2)
            for worker in self.workers.values():
                if worker.client is None:
                    worker.connect(clean=False, is_kept=True)
                worker.ack(1_000)
            self.rest()
            is_idle = not self.publisher.open and all(
                each.client is not None and not each.acks for each in self.workers.values()
            )
            if is_idle and count == sum(len(each.got) for each in self.workers.values()):
                break
        else:
            raise AssertionError("messages without end")
        invariants.check_at_rest(self.rig)
        for identifier in FILTERS:
            self._check_subscription(identifier)
        if self.crowd is not None:
            for number, count in self.crowd.counts.items():
                is_repeated = self.refuses and self.publisher.qualities[number] == 1
                assert count == 80 or (is_repeated and count % 80 == 0)

    def _check_subscription(self, identifier: int) -> None:
        """Each message to exactly one member, as far as MQTT promises it."""
        got = [
            (number, qos)
            for worker in self.workers.values()
            for wanted, number, qos in worker.got
            if wanted == identifier
        ]
        counts = Counter(number for number, _ in got)
        at_qos_2 = Counter(number for number, qos in got if qos == 2)
        for number, qos in enumerate(self.publisher.qualities):
            assert qos or counts[number] <= 1
            assert qos < 2 or at_qos_2[number] <= 1, (
                f"{number} came twice at QoS 2 for {identifier}"
            )
            if number in self.publisher.accepted and not counts[number]:
                assert number in self.sent_at_qos_2, f"{number} was lost for {identifier}"
                assert self.sessions_end
        if not (self.rig.broker.stats.handed_over or self.refuses):
            for worker in self.workers.values():
                self._check_order(worker, identifier)

    def _check_order(self, worker: Worker, identifier: int) -> None:
        for published in (1, 2):
            numbers = [
                number
                for wanted, number, qos in worker.got
                if wanted == identifier and qos and self.publisher.qualities[number] == published
            ]
            firsts = list(dict.fromkeys(numbers))
            assert firsts == sorted(firsts), f"{worker.client_id} has got {firsts}"


class LateMachine(GroupMachine):
    """The store answers late and in any order."""

    is_late = True


class RefusingMachine(GroupMachine):
    """The store refuses now and then."""

    refuses = True


class LateRefusingMachine(LateMachine, RefusingMachine):
    """Both."""


class LastingMachine(LateRefusingMachine):
    """No session ends: nothing may be lost, and nothing come twice at QoS 2."""

    sessions_end = False


EXAMPLES = settings().max_examples // 4
IS_THOROUGH = EXAMPLES > 100
PHASES = tuple(Phase) if IS_THOROUGH else (Phase.explicit, Phase.reuse, Phase.generate)


@pytest.mark.parametrize(
    "machine", [GroupMachine, LateMachine, RefusingMachine, LateRefusingMachine, LastingMachine]
)
def test_a_history_of_groups(machine: type[GroupMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            phases=PHASES,
            derandomize=not IS_THOROUGH,
        ),
    )
