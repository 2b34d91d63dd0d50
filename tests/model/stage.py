"""A broker with several clients on a fake clock, and the `World` that is told what happens."""

from __future__ import annotations

from dataclasses import dataclass

from mqtt_core.broker import CLOSE_NO, Fact
from tests.core import wire
from tests.model.device import Device, Manner
from tests.model.packets import Will
from tests.model.world import World
from tests.rig import Client, Rig

SESSION_TIMEOUT_S = 100

# Endings after which the will of a connection is not published (3.1.2.5, and by our own choice).
NO_WILL = ("client disconnected", "server shutting down")

# Endings at which the client has had a last word, which may change how long its session is kept.
BY_CLIENT = ("client disconnected", "client disconnected, will wanted")


@dataclass
class Opened:
    """A connection that a device has opened."""

    device: Device
    connection: int
    """Which of the device's it is."""
    manner: Manner
    will: Will | None
    last_expiry_s: int | None = None
    """What DISCONNECT says of how long the session is kept, if it comes."""


class Stage:
    """The clients, and what they do to their connections; the broker is brought to rest after
    each step, and its facts and packets are compared with the world."""

    is_late = False
    asks_outside = False
    refuses = False
    has_no_room = False

    def __init__(self) -> None:
        super().__init__()
        self.rig: Rig
        self.world: World
        self.devices: list[Device] = []
        self.crowd: Client | None = None
        self.opened: dict[int, Opened] = {}
        self.facts_seen = 0

    # What clients do

    def ready(self, at: int) -> Device:
        """A device; if it has no connection, it opens one for its session."""
        device = self.devices[at]
        if device.client is None:
            self._open(device, device.manner)
        return device

    def _open(
        self,
        device: Device,
        manner: Manner,
        *,
        keep_alive_s: int = 0,
        will: Will | None = None,
        behind: int = 0,
    ) -> None:
        old = device.client
        data = b""
        device.connection += 1
        device.manner = manner
        if manner.clean or not device.outgoing:
            device.expected_acks.clear()
            device.repeats.clear()  # the older connection says nothing more
            for _ in range(behind):
                data += self._publish(device, "t", 1)
        expected = list(device.expected_acks) if data else []
        device.connect(manner, keep_alive_s=keep_alive_s, will=will, behind=data, pump=False)
        device.expected_acks.extend(expected)
        assert device.client is not None
        key = device.client.channel.key
        self.opened[key] = Opened(device, device.connection, manner, will)
        if manner.clean:
            self.world.clean_connect(device.client_id, key)
        self.sync()
        if old is not None and not self.is_late and not self.asks_outside:
            is_over = old.channel.close != CLOSE_NO
            assert is_over or self.refuses, "the older connection lives on"

    def _will(
        self, device: Device, level: int, will: tuple[int, bool, int, int | None] | None
    ) -> Will | None:
        if will is None:
            return None
        qos, retain, delay_s, expiry_s = will
        name = device.client_id
        message = self.world.new_message(
            name,
            f"w/{name}",
            qos,
            retain,
            expiry_s=expiry_s if level == 5 else None,
            source=f"{name}'s will",
        )
        return Will(message, delay_s if level == 5 else 0)

    def _end(self, device: Device, how: str, expiry_s: int | None = None) -> None:
        client = device.client
        assert client is not None
        if how == "cut":
            client.cut()
        elif how == "reset":
            client.reset()
        elif how in ("disconnect", "want the will") and device.is_connected:
            self._leave(device, client, how == "want the will", expiry_s)
        elif how == "break the rules":
            client.send(wire.publish("#"))
        elif how == "break off":
            client.send(wire.publish("t", b"never sent", 1, 1)[:7])
            client.reset()
        elif how == "settle":
            self.rest()
        self.sync()

    def _leave(self, device: Device, client: Client, with_will: bool, expiry_s: int | None) -> None:
        """The client says goodbye. What was not kept at all cannot be kept now (3.14.2.2.2)."""
        if device.level == 5 and expiry_s is not None:
            if not device.manner.expiry_s:
                expiry_s = 0
            self.opened[client.channel.key].last_expiry_s = min(expiry_s, SESSION_TIMEOUT_S)
        device.disconnect(with_will=with_will, expiry_s=expiry_s)

    def _publish(
        self,
        device: Device,
        topic: str,
        qos: int,
        *,
        retain: bool = False,
        size: int = 0,
        expiry_s: int | None = None,
        aliased: bool = False,
    ) -> bytes:
        device.repeat_all()
        if device.level != 5 or device.is_blocked:  # else it might be read later
            expiry_s = None
        message = self.world.new_message(
            device.client_id, topic, qos, retain, size=size, expiry_s=expiry_s
        )
        self.world.sent(message)
        return device.publish_packet(message, aliased=aliased)

    # In step

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

    def sync(self, is_loose: bool = False) -> None:
        """Let the broker and the clients do what is to do, and tell the world of it."""
        self.world.step += 1
        if is_loose:
            return
        for _ in range(10_000):
            self.rig.pump()
            self._take_facts()
            is_busy = False
            if self.crowd is not None:
                self.crowd.take()
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
            self.world.pass_time(now)
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
                assert now >= session.detached_at + session.expiry_s
                self.world.end(session)
        self.world.pass_time(rig.now)

    def _connected(self, fact: Fact) -> None:
        opened = self.opened[fact.channel]
        device = opened.device
        manner = opened.manner
        session, is_present = self.world.connected(
            device.client_id,
            fact.channel,
            manner.clean,
            ", resumed" in fact.detail,
            manner.kept_s(SESSION_TIMEOUT_S),
        )
        if manner.takes.packet_bytes:
            self.world.takes(session, manner.takes.packet_bytes)
        if not is_present:
            device.begin_session(opened.connection)
        if device.client is not None and device.client.channel.key == fact.channel:
            device.session = session
            device.expects_present = is_present

    def _disconnected(self, fact: Fact, now: float) -> None:
        opened = self.opened[fact.channel]
        expiry_s = opened.last_expiry_s if fact.cause in BY_CLIENT else None
        session = self.world.disconnected(fact.channel, now, expiry_s)
        will = opened.will
        if will is None or fact.cause in NO_WILL:
            return
        if will.delay_s and session is not None and session.expiry_s:
            self.world.wills.wait(will.message, now + will.delay_s)
            if self.world.is_doubtful(session):
                self.world.wills.may_be_published(session.client_id)
        else:
            self.world.wills.publish(will.message)
