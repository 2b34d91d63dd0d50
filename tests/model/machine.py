"""Several clients with a broker and a clock, driven by Hypothesis, compared with a `World`."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition

from mqtt_core.broker import CLOSE_NO, AllowAll, Engine, Fact, LimitValue, MemoryEngine, Request
from tests.core import wire
from tests.model import invariants
from tests.model.choices import IDS, chosen_start, chosen_step
from tests.model.device import Device
from tests.model.world import Sent, World
from tests.rig import (
    Asking,
    LateAuthenticator,
    LateEngine,
    RefusingEngine,
    Rig,
)

SESSION_TIMEOUT_S = 100

# Endings after which the will of a connection is not published (3.1.2.5, and by our own choice).
NO_WILL = ("client disconnected", "server shutting down")


@dataclass
class Opened:
    """A connection that a device has opened."""

    device: Device
    connection: int
    """Which of the device's it is."""
    clean: bool
    will: Sent | None


class BrokerMachine(RuleBasedStateMachine):
    """A broker whose store answers at once and never refuses, and whose queues are never full."""

    is_late = False
    asks_outside = False
    refuses = False
    is_tight = False

    def __init__(self) -> None:
        super().__init__()
        self.rig: Rig
        self.world: World
        self.devices: list[Device] = []
        self.opened: dict[int, Opened] = {}
        self.facts_seen = 0
        self.may_refuse = True
        self.memory: MemoryEngine

    def limits(self) -> dict[str, LimitValue]:
        """Small windows and budgets, so that they are full now and then."""
        return {
            "sys_interval_secs": 0,
            "max_inflight_messages": 3,
            "output_budget_bytes": 1_024,
            "turn_deliveries": 20,
            "max_uncommitted_messages": 3,
            "session_timeout_secs": SESSION_TIMEOUT_S,
            "send_timeout_secs": 40,
            "topic_cache_bytes": 3_000,
        }

    @chosen_start
    def start(
        self,
        seed: int,
        policy: str,
        max_queued: int,
        keeps_qos_0: bool,
        persistent: list[bool],
        filters: list[list[tuple[str, int]]],
    ) -> None:
        limits = self.limits()
        limits["queue_qos0_offline"] = keeps_qos_0
        if self.is_tight:
            limits["queue_full_policy"] = policy
            limits["max_queued_messages"] = max_queued
        self.world = World(is_reliable=not self.refuses, has_room=not self.is_tight)
        self.rig = Rig(
            policy=Asking() if self.asks_outside else AllowAll(),
            authenticator=LateAuthenticator(seed) if self.asks_outside else None,
            settings=limits,
        )
        self.memory = MemoryEngine(self.rig.limits)
        engine: Engine = self.memory
        if self.refuses:
            engine = RefusingEngine(engine, self.refuses_request)
        if self.is_late:
            engine = LateEngine(engine, seed)
        self.rig.engine = engine
        self.devices = [Device(self.rig, self.world, client_id) for client_id in IDS]
        for at, device in enumerate(self.devices):
            self._open(device, clean=not persistent[at])
            self.rest()
            if filters[at] and device.is_connected:
                device.subscribe(filters[at])
                self.rest()

    def refuses_request(self, number: int, request: Request) -> bool:
        """One request in nine."""
        return self.may_refuse and number % 9 == 0

    # What clients do

    def ready(self, at: int) -> Device:
        """A device; if it has no connection, it opens one for its session."""
        device = self.devices[at]
        if device.client is None:
            self._open(device, clean=device.is_clean)
        return device

    def _open(
        self,
        device: Device,
        *,
        clean: bool,
        keep_alive_s: int = 0,
        will: Sent | None = None,
        behind: int = 0,
    ) -> None:
        old = device.client
        data = b""
        device.connection += 1
        if clean or not device.outgoing:
            device.expected_acks.clear()
            device.repeats.clear()  # the older connection says nothing more
            for _ in range(behind):
                data += self._publish(device, "t", 1, False, 0)
        expected = list(device.expected_acks) if data else []
        device.connect(clean=clean, keep_alive_s=keep_alive_s, will=will, behind=data, pump=False)
        device.expected_acks.extend(expected)
        assert device.client is not None
        key = device.client.channel.key
        self.opened[key] = Opened(device, device.connection, clean, will)
        if clean:
            self.world.cleans[device.client_id] = key
        self.sync()
        if old is not None and not self.is_late and not self.asks_outside:
            is_over = old.channel.close != CLOSE_NO
            assert is_over or self.refuses, "the older connection lives on"

    @chosen_step
    def connect(
        self,
        at: int,
        clean: bool,
        keep_alive_s: int,
        will: tuple[int, bool] | None,
        behind: int,
        first: str,
    ) -> None:
        """A new connection, with or without an end of the old one."""
        device = self.devices[at]
        if first and device.client is not None:
            self._end(device, first)
        message = None
        if will is not None:
            name = device.client_id
            message = self.world.new_message(f"{name}'s will", f"w/{name}", *will)
        self._open(device, clean=clean, keep_alive_s=keep_alive_s, will=message, behind=behind)

    @chosen_step
    def end(self, at: int, how: str) -> None:
        device = self.devices[at]
        if device.client is not None:
            self._end(device, how)

    def _end(self, device: Device, how: str) -> None:
        client = device.client
        assert client is not None
        if how == "cut":
            client.cut()
        elif how == "reset":
            client.reset()
        elif how == "disconnect" and device.is_connected:
            device.has_left = True
            client.send(wire.DISCONNECT)
        elif how == "break the rules":
            client.send(wire.publish("#"))
        elif how == "break off":
            client.send(wire.publish("t", b"never sent", 1, 1)[:7])
            client.reset()
        elif how == "settle":
            self.rest()
        self.sync()

    @chosen_step
    def subscribe(self, at: int, filters: list[tuple[str, int]], is_loose: bool) -> None:
        device = self.ready(at)
        if device.is_connected and filters:
            device.subscribe(filters, pump=not is_loose)
            self.sync(is_loose)

    @chosen_step
    def unsubscribe(self, at: int, filters: list[str], is_loose: bool) -> None:
        device = self.devices[at]
        if device.is_connected:
            device.unsubscribe(filters, pump=not is_loose)
            self.sync(is_loose)

    @chosen_step
    def publish(self, at: int, topic: str, qos: int, count: int, size: int, is_loose: bool) -> None:
        device = self.ready(at)
        if device.is_connected:
            data = b"".join(self._publish(device, topic, qos, False, size) for _ in range(count))
            device.send(data, pump=not is_loose)
            self.sync(is_loose)

    @chosen_step
    def publish_several(self, at: int, topics: list[str], qos: int) -> None:
        device = self.ready(at)
        if device.is_connected:
            data = b"".join(self._publish(device, topic, qos, False, 0) for topic in topics)
            device.send(data)
            self.sync()

    @chosen_step
    def retain(self, at: int, topic: int, qos: int, size: int) -> None:
        device = self.ready(at)
        if device.is_connected:
            name = f"r/{device.client_id}/{topic}"
            data = self._publish(device, name, qos, True, size)
            message = self.world.messages[-1]
            device.send(data)
            self.sync()
            is_prompt = not self.is_late and not self.asks_outside and not self.refuses
            is_open = device.client is not None and device.client.channel.close == CLOSE_NO
            if not qos and is_prompt and is_open:
                self.world.retain_settled(message)

    def _publish(self, device: Device, topic: str, qos: int, retain: bool, size: int) -> bytes:
        device.repeat_all()
        message = self.world.new_message(device.client_id, topic, qos, retain, size)
        self.world.sent(message)
        return device.publish_packet(message)

    @chosen_step
    def acknowledge(self, at: int, count: int, is_loose: bool) -> None:
        device = self.devices[at]
        if device.acks:
            device.ack(count, pump=not is_loose)
            self.sync(is_loose)

    @chosen_step
    def nudge(self, at: int, what: str, room_bytes: int | None) -> None:
        """Small changes of how a client behaves, and of how far the broker has got."""
        device = self.devices[at]
        client = device.client
        if what == "turn":
            self.rig.turn()
            return
        if what == "acks":
            device.acks_at_once = not device.acks_at_once
        elif what == "ping" and device.is_connected:
            device.send(wire.PINGREQ)
        elif client is not None and client.room_bytes is not None:
            client.unblock(room_bytes)
        elif client is not None and what == "block" and not client.is_closed:
            client.block()
        self.sync()

    # What time does

    @chosen_step
    def advance(self, seconds: float) -> None:
        self.rest()
        self.rig.advance(seconds)
        self.sync()
        for session in self.world.sessions.values():
            # A clean CONNECT that came to nothing may have ended it already, and nobody was told.
            if not session.connection and not self.world.is_doubtful(session):
                assert self.rig.now < session.detached_at + SESSION_TIMEOUT_S

    @precondition(lambda self: self.is_late or self.asks_outside)
    @chosen_step
    def settle(self) -> None:
        self.rest()

    def rest(self) -> None:
        """Let every answer come, and the answers to what clients then send."""
        for _ in range(1_000):
            self.sync()
            asked = len(self.rig.requests)
            self.rig.settle()
            self.sync()
            if len(self.rig.requests) == asked:
                return
        raise AssertionError("requests without end")

    # Comparison

    def sync(self, is_loose: bool = False) -> None:
        """Let the broker and the clients do what is to do, and tell the world of it."""
        self.world.step += 1
        if is_loose:
            return
        for _ in range(10_000):
            self.rig.pump()
            self._take_facts()
            is_busy = False
            for device in self.devices:
                is_busy |= device.read()
            if not is_busy:
                return
        raise AssertionError("clients and broker never come to rest")

    def _take_facts(self) -> None:
        rig = self.rig
        while self.facts_seen < len(rig.facts):
            fact = rig.facts[self.facts_seen]
            now = rig.fact_times[self.facts_seen]
            self.facts_seen += 1
            assert fact.error is None, fact
            if fact.channel and fact.channel not in self.opened:
                continue  # no device's
            if fact.name == "client.connected":
                self._connected(fact)
            elif fact.name == "client.disconnected":
                self._disconnected(fact, now)
            elif fact.name == "session.expired":
                session = self.world.sessions[fact.client_id]
                assert not session.connection
                assert now >= session.detached_at + SESSION_TIMEOUT_S
                self.world.end(session)

    def _connected(self, fact: Fact) -> None:
        opened = self.opened[fact.channel]
        device = opened.device
        session, is_present = self.world.connected(
            device.client_id, fact.channel, opened.clean, ", resumed" in fact.detail
        )
        if not is_present:
            device.begin_session(opened.connection)
        if device.client is not None and device.client.channel.key == fact.channel:
            device.session = session
            device.expects_present = is_present

    def _disconnected(self, fact: Fact, now: float) -> None:
        self.world.disconnected(fact.channel, now)
        will = self.opened[fact.channel].will
        if will is not None and fact.cause not in NO_WILL:
            self.world.sent(will)
            if not self.refuses and self.rig.limits.queue_full_policy != "refuse":
                self.world.accepted(will)

    @invariant()
    def structures_are_right(self) -> None:
        if hasattr(self, "rig"):
            invariants.check(self.rig)
            self._check_store()

    def _check_store(self) -> None:
        """The store has the sessions and wills that there are, once all is answered."""
        ws = self.rig.broker._ws
        if ws.pending or ws.requests:
            return
        sessions = self.rig.broker._sessions.by_client
        assert set(self.memory._sessions) == {each.key for each in sessions.values() if each.key}
        wills = {}
        for client_id, session in sessions.items():
            if session.channel is not None and session.channel.will is not None:
                wills[client_id] = session.channel.will
        assert {key: stored.will for key, stored in self.memory._wills.items()} == wills

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        self.may_refuse = False
        self._let_all_come()
        self._check_retained()
        invariants.check_at_rest(self.rig)
        self.world.check_nothing_owed(self.rig.broker.stats.dropped_queue_full)
        self._check_store_has_nothing_left()
        self._end_all()
        invariants.check_empty(self.rig)
        self.rig.no_faults()

    def _let_all_come(self) -> None:
        """Every client comes back, takes all there is for it, and acknowledges it."""
        for device in self.devices:
            device.acks_at_once = True
        for _ in range(300):
            self.rest()
            if self._let_all_be_there():
                break
        else:
            raise AssertionError("clients are closed again and again")
        for device in self.devices:
            assert not device.outgoing or not device.is_connected, "messages without answer"

    def _let_all_be_there(self) -> bool:
        """Open what is closed, and unblock what is blocked; True when nothing was.

        Nobody repeats anything before all are there: what cannot be queued for one who is away
        ends the connection of its sender, and two of them would end each other's for ever.
        """
        is_done = True
        for device in self.devices:
            device.may_repeat = False
        for device in self.devices:
            client = device.client
            if client is not None and client.room_bytes is not None:
                is_done = False
                client.unblock(None)
            session = self.world.sessions.get(device.client_id)
            if client is None and session is not None and session.is_persistent:
                is_done = False
                self._open(device, clean=False)
        self.rest()
        for device in self.devices:
            device.may_repeat = True
        return is_done

    def _check_retained(self) -> None:
        """What is retained is what the world says, by a client that asks for all of it."""
        reader = self.rig.open("reader")
        reader.send(wire.connect("reader"), wire.subscribe(1, ("#", 0), ("$x/#", 0)))
        self.rig.settle()
        assert reader.received.startswith(wire.connack() + wire.suback(1, 0, 0)), reader.received
        found = {}
        for frame in reader.frames()[2:]:
            publish = wire.read_publish(frame)
            assert publish.retain
            found[publish.topic] = publish.payload
        for topic in {*self.world.retained, *found}:
            allowed = self.world.retained_now(topic)
            assert found.get(topic, b"") in allowed, f"{topic}: {found.get(topic)!r}, not {allowed}"
        reader.send(wire.DISCONNECT)
        self.sync()

    def _check_store_has_nothing_left(self) -> None:
        self._check_store()
        for stored in self.memory._sessions.values():
            assert not stored.sent, f"{stored.client_id} has messages in flight in the store only"
            assert stored.waiting[stored.first :] == [], f"{stored.client_id} has a queue there"

    def _end_all(self) -> None:
        for client_id in IDS:
            client = self.rig.open(client_id)
            client.send(wire.connect(client_id))
            self.rest()
            assert client.take() == wire.connack()
            client.send(wire.DISCONNECT)
        self.rest()
        self.rig.advance(200)
        self.rest()
        assert self.memory._sessions == {}
        assert self.memory._wills == {}


class LateMachine(BrokerMachine):
    """The store answers late and in any order."""

    is_late = True


class LateOutsideMachine(BrokerMachine):
    """So does whoever decides about clients and topics."""

    is_late = True
    asks_outside = True


class RefusingMachine(BrokerMachine):
    """The store refuses one request in nine."""

    refuses = True


class LateRefusingMachine(BrokerMachine):
    """The store refuses, late."""

    is_late = True
    refuses = True


class TightMachine(BrokerMachine):
    """Queues are full most of the time."""

    is_tight = True


class TightLateMachine(BrokerMachine):
    """Queues are full, and the store is late."""

    is_tight = True
    is_late = True


MACHINES: tuple[type[BrokerMachine], ...] = (
    BrokerMachine,
    LateMachine,
    LateOutsideMachine,
    RefusingMachine,
    LateRefusingMachine,
    TightMachine,
    TightLateMachine,
)
