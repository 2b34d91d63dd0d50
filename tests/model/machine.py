"""Several clients with a broker and a clock, driven by Hypothesis, compared with a `World`.

The clients speak MQTT 3.1.1 and 5.0, and may change from one to the other in one session.
"""

from __future__ import annotations

import dataclasses

from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition

from mqtt_core.broker import (
    CLOSE_NO,
    STORE_BROKEN,
    STORE_FULL,
    AllowAll,
    Engine,
    LimitValue,
    MemoryEngine,
    Request,
)
from tests.core import wire
from tests.model import invariants
from tests.model.choices import IDS, chosen_start, chosen_step
from tests.model.device import Device, Manner
from tests.model.packets import Takes
from tests.model.sessions import Wanted
from tests.model.stage import SESSION_TIMEOUT_S, Stage
from tests.model.world import World
from tests.rig import (
    Asking,
    LateAuthenticator,
    LateEngine,
    RefusingEngine,
    Rig,
)

RETRY_S = 2.5
CROWD = 80


class BrokerMachine(Stage, RuleBasedStateMachine):
    """A broker whose store answers at once and never refuses, and whose queues are never full."""

    is_tight = False

    def __init__(self) -> None:
        super().__init__()
        self.may_refuse = True
        self.refusing: RefusingEngine | None = None
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
            "receive_maximum": 8,
            "topic_alias_maximum": 2,
            "max_outbound_aliases": 2,
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
        redelivers: bool,
        is_wide: bool,
        levels: list[int],
        persistent: list[bool],
        takes: list[Takes],
        is_slow: list[bool],
        filters: list[list[tuple[str, int]]],
        shares: list[tuple[str, int] | None],
    ) -> None:
        limits = self.limits()
        limits["queue_qos0_offline"] = keeps_qos_0
        limits["shared_redelivery"] = redelivers
        if self.is_tight:
            limits["queue_full_policy"] = policy
            # Who may hold nothing and gets a message twice, as a member too, is closed for ever.
            limits["max_queued_messages"] = max_queued + (4 if policy == "disconnect" else 0)
        self.world = World(
            is_reliable=not self.refuses,
            has_room=not self.is_tight,
            redelivers=redelivers,
            takes_all=not self.is_tight or policy != "refuse",
            has_no_room=self.has_no_room,
        )
        self.rig = Rig(
            policy=Asking() if self.asks_outside else AllowAll(),
            authenticator=LateAuthenticator(seed) if self.asks_outside else None,
            settings=limits,
        )
        if is_wide:
            self._gather_crowd()
        self.memory = MemoryEngine(self.rig.limits)
        engine: Engine = self.memory
        if self.refuses:
            engine = self.refusing = RefusingEngine(engine, self.refuses_request)
        if self.is_late:
            engine = LateEngine(engine, seed)
        self.rig.engine = engine
        for at, client_id in enumerate(IDS):
            manner = Manner(levels[at], not persistent[at])
            if levels[at] == 5:
                expiry_s = SESSION_TIMEOUT_S if persistent[at] else 0
                manner = Manner(5, not persistent[at], expiry_s, takes[at])
            device = Device(self.rig, self.world, client_id, manner)
            device.acks_at_once = not is_slow[at]
            self.devices.append(device)
            self._open(device, manner)
            self.rest()
            share = shares[at]
            if share is not None and device.is_connected:
                device.subscribe([Wanted(*share)], identified=True)
            if filters[at] and device.is_connected:
                device.subscribe([Wanted(*each) for each in filters[at]])
            self.rest()

    def _gather_crowd(self) -> None:
        """A client that is a member of more groups than a message is for in one turn."""
        self.crowd = self.rig.open("crowd")
        self.crowd.send(wire.connect("crowd"))
        self.rig.settle()
        self.crowd.send(wire.subscribe(1, *((f"$share/{at}/t", 0) for at in range(CROWD))))
        self.rig.settle()
        assert self.rig.broker.subscription_count == CROWD

    def refuses_request(self, number: int, request: Request) -> bool:
        """One request in nine: the store is broken, or has no room."""
        assert self.refusing is not None
        if self.has_no_room:
            self.refusing.kind = STORE_FULL if number % 4 else STORE_BROKEN
        return self.may_refuse and number % 9 == 0

    # What clients do

    @chosen_step
    def connect(
        self,
        at: int,
        level: int,
        clean: bool,
        expiry_s: int,
        takes: Takes,
        keep_alive_s: int,
        will: tuple[int, bool, int, int | None] | None,
        behind: int,
        first: str,
    ) -> None:
        """A new connection, with or without an end of the old one."""
        device = self.devices[at]
        if first and device.client is not None:
            self._end(device, first)
        level = level or device.level
        manner = Manner(level, clean, expiry_s, takes) if level == 5 else Manner(level, clean)
        self._open(
            device,
            manner,
            keep_alive_s=keep_alive_s,
            will=self._will(device, level, will),
            behind=behind,
        )

    @chosen_step
    def end(self, at: int, how: str, expiry_s: int | None) -> None:
        device = self.devices[at]
        if device.client is not None:
            self._end(device, how, expiry_s)

    @chosen_step
    def subscribe(
        self,
        at: int,
        filters: list[tuple[str, int]],
        options: tuple[bool, bool, int],
        identified: bool,
        is_loose: bool,
    ) -> None:
        device = self.ready(at)
        if device.is_connected and filters:
            wanted = [Wanted(name, qos, *options) for name, qos in filters]
            device.subscribe(wanted, identified=identified, pump=not is_loose)
            self.sync(is_loose)

    @chosen_step
    def share(
        self, at: int, topic_filter: str, qos: int, keeps: bool, identified: bool, is_loose: bool
    ) -> None:
        """Become a member of a group, or one with other options."""
        device = self.ready(at)
        if device.is_connected:
            wanted = Wanted(topic_filter, qos, retain_as_published=keeps)
            device.subscribe([wanted], identified=identified, pump=not is_loose)
            self.sync(is_loose)

    @chosen_step
    def unsubscribe(self, at: int, filters: list[str], is_loose: bool) -> None:
        device = self.devices[at]
        if device.is_connected:
            device.unsubscribe(filters, pump=not is_loose)
            self.sync(is_loose)

    @chosen_step
    def publish(
        self,
        at: int,
        topic: str,
        qos: int,
        count: int,
        size: int,
        expiry_s: int | None,
        aliased: bool,
        is_loose: bool,
    ) -> None:
        device = self.ready(at)
        if device.is_connected:
            data = b"".join(
                self._publish(device, topic, qos, size=size, expiry_s=expiry_s, aliased=aliased)
                for _ in range(device.may_publish(qos, count))
            )
            device.send(data, pump=not is_loose)
            self.sync(is_loose)

    @chosen_step
    def publish_several(self, at: int, topics: list[str], qos: int, aliased: bool) -> None:
        device = self.ready(at)
        if device.is_connected:
            topics = topics[: device.may_publish(qos, len(topics))]
            device.send(
                b"".join(self._publish(device, topic, qos, aliased=aliased) for topic in topics)
            )
            self.sync()

    @chosen_step
    def retain(self, at: int, topic: int, qos: int, size: int, expiry_s: int | None) -> None:
        device = self.ready(at)
        if device.is_connected and device.may_publish(qos, 1):
            name = f"r/{device.client_id}/{topic}"
            data = self._publish(device, name, qos, retain=True, size=size, expiry_s=expiry_s)
            message = self.world.messages[-1]
            device.send(data)
            self.sync()
            is_prompt = not self.is_late and not self.asks_outside and not self.refuses
            is_open = device.client is not None and device.client.channel.close == CLOSE_NO
            if not qos and is_prompt and is_open:
                self.world.retain_settled(message)

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
        elif what == "decline":
            device.declines = not device.declines
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
                assert self.rig.now < session.detached_at + session.expiry_s

    @precondition(lambda self: self.is_late or self.asks_outside)
    @chosen_step
    def settle(self) -> None:
        self.rest()

    # Comparison

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
        stored = set(self.memory._by_client.values())  # others are handed over, and end then
        assert stored == {each.key for each in sessions.values() if each.key}
        wills = {}
        for client_id, session in sessions.items():
            if session.channel is not None and session.channel.will is not None:
                wills[client_id] = session.channel.will
            elif session.will is not None:
                wills[client_id] = session.will.will
        in_store = {key: each.will for key, each in self.memory._wills.items()}
        unstored = self.rig.broker._publishing._committing._unstored
        for commitment in unstored._waiting:  # which are stored still, where there is no other
            if commitment.stored_with not in wills:
                in_store.pop(commitment.stored_with, None)
        assert in_store == wills

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        self.may_refuse = False
        self._let_all_come()
        self._check_retained()
        invariants.check_at_rest(self.rig)
        stats = self.rig.broker.stats
        self.world.check_nothing_owed(
            stats.dropped_queue_full, stats.dropped_session_ended, stats.refused_store_full
        )
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
                before = len(self.rig.requests)
                self.rig.advance(RETRY_S)  # for what the store has refused
                self.rest()
                if before == len(self.rig.requests):
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
            if client is None and session is not None and session.expiry_s:
                is_done = False
                self._open(device, dataclasses.replace(device.manner, clean=False))
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
        for device in self.devices:
            if device.is_connected:
                self._end(device, "disconnect")  # so that no will is published any more
        if self.crowd is not None:
            self.crowd.cut()
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


class FullMachine(BrokerMachine):
    """The store has no room for one request in nine, or is broken."""

    refuses = True
    has_no_room = True


class LateFullMachine(BrokerMachine):
    """The same, late."""

    is_late = True
    refuses = True
    has_no_room = True


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
    FullMachine,
    LateFullMachine,
    TightMachine,
    TightLateMachine,
)
