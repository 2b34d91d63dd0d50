"""A client of `mqtt_core.client` on a clock that the test holds, and the far end of its transport.

hand = Hand()                  # the far end is the test: bytes in, bytes out
hand.accept()
hand.client.publish("t", b"x", 1, False, hand.now)
assert hand.sent() == wire5.publish("t", b"x", 1, packet_id=1)

line = Line(Rig())             # the far end is a broker, joined by memory
line.start()
line.cut()
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from mqtt_core import MQTT_5, Subscription, Will
from mqtt_core._limit import LimitValue
from mqtt_core.client import (
    Client,
    ClientLimits,
    Consumer,
    Event,
    Mechanism,
    Message,
    Publication,
    Reconnect,
    Settings,
)
from mqtt_core.store import Engine
from tests.core import wire, wire5
from tests.rig import Client as Remote
from tests.rig import Rig

START_S = 1_000.0
_RECONNECT = Reconnect()
_MOST_TURNS = 10_000


def settings(
    *,
    client_id: str = "c",
    level: int = MQTT_5,
    keep_alive_s: int = 0,
    session_expiry_s: int = 0,
    will: Will | None = None,
    reconnect: Reconnect | None = _RECONNECT,
    manual_acks: bool = False,
    queues_qos0: bool = True,
    username: str | None = None,
    password: bytes | None = None,
    mechanism: Mechanism | None = None,
    limits: Mapping[str, LimitValue] | None = None,
    **more: LimitValue,
) -> Settings:
    """Settings that suit most tests; the rest are limits."""
    return Settings(
        client_id=client_id,
        username=username,
        password=password,
        level=level,
        keep_alive_s=keep_alive_s,
        session_expiry_s=session_expiry_s,
        will=will,
        reconnect=reconnect,
        manual_acks=manual_acks,
        queues_qos0=queues_qos0,
        mechanism=mechanism,
        limits=ClientLimits(**{**(limits or {}), **more}),
    )


class Base:
    """A client, its clock, and what has been told."""

    def __init__(
        self, given: Settings | None = None, entropy: Callable[[int], bytes] | None = None
    ) -> None:
        self._now = START_S
        chance = random.Random(0).randbytes if entropy is None else entropy
        self.client = self.make_client(settings() if given is None else given, chance)

    def make_client(self, given: Settings, chance: Callable[[int], bytes]) -> Client:
        """The client; one with a store, say."""
        return Client(given, chance, self.now)

    @property
    def now(self) -> float:
        """The present."""
        return self._now

    def events(self) -> list[Event]:
        """What has become of the connection since the last call."""
        return self.client.events()

    def publish(
        self,
        topic: str = "t",
        payload: bytes = b"x",
        qos: int = 0,
        retain: bool = False,
        properties: tuple[tuple[int, int | bytes | str | tuple[str, str]], ...] = (),
        *,
        waits: bool = False,
        waiter: object | None = None,
    ) -> Publication:
        """Publish a message."""
        publication = self.client.publish(
            topic, payload, qos, retain, self.now, properties, waits=waits
        )
        if waiter is not None:
            publication.waiter = waiter
        return publication

    def subscribe(self, *filters: tuple[str, int] | Subscription) -> Consumer:
        """Subscribe to filters, or (filter, QoS) pairs."""
        asked = [Subscription(*each) if isinstance(each, tuple) else each for each in filters]
        return self.client.subscribe(asked, self.now)

    def take(self, consumer: Consumer) -> Message | None:
        """The next message of a consumer."""
        return self.client.take(consumer, self.now)

    def payloads(self, consumer: Consumer) -> list[bytes]:
        """The payloads of all messages that wait for a consumer, which takes them."""
        taken: list[bytes] = []
        while (message := self.take(consumer)) is not None:
            taken.append(message.payload)
        return taken


class Hand(Base):
    """The far end is the test, which gives bytes and looks at those that were sent."""

    def __init__(
        self, given: Settings | None = None, entropy: Callable[[int], bytes] | None = None
    ) -> None:
        super().__init__(given, entropy)
        self.client.start(self.now)

    def open(self) -> bytes:
        """Open a transport, and return the CONNECT."""
        assert self.client.wants_transport
        self.client.opened(self.now)
        return self.sent()

    def accept(self, *properties: bytes, present: bool = False) -> bytes:
        """Open a transport and accept the client; return what it has sent behind its CONNECT."""
        connect = self.open()
        if connect[8] == MQTT_5:
            self.give(wire5.connack(0, *properties, present=present))
        else:
            self.give(wire.connack(0, present=present))
        return self.sent()

    def give(self, *packets: bytes) -> None:
        """Bytes come from the server."""
        self.client.receive_data(b"".join(packets), self.now)

    def sent(self) -> bytes:
        """What the client has sent since the last call."""
        return b"".join(iter(lambda: self.client.data_to_send(self.now), b""))

    def cut(self, why: str = "") -> None:
        """The transport is gone."""
        self.client.eof(why, self.now)

    def close(self) -> bytes:
        """Do as the client wants, which is to close the transport; return its last bytes."""
        assert self.client.wants_close
        last = self.sent()
        self.cut()
        return last

    def advance(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline."""
        end = self._now + seconds
        for _ in range(_MOST_TURNS):
            deadline = self.client.next_deadline()
            if deadline is None or deadline > end:
                self._now = end
                return
            self._now = max(self._now, deadline)
            self.client.advance(self._now)
        raise AssertionError("deadlines without end")

    def come_back(self) -> None:
        """Let the time pass until the client wants a transport."""
        deadline = self.client.next_deadline()
        assert deadline is not None
        self._now = max(self._now, deadline)
        self.client.advance(self._now)
        assert self.client.wants_transport


class Line(Base):
    """The far end is a broker, joined by memory, on the broker's clock.

    While not `is_reachable`, no transport can be opened. With an engine it has a store.
    """

    def __init__(
        self,
        rig: Rig,
        given: Settings | None = None,
        entropy: Callable[[int], bytes] | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.engine = engine
        if engine is not None:
            engine.start(lambda: None)
        self.rig = rig
        self.remote: Remote | None = None
        self.is_reachable = True
        super().__init__(given, entropy)

    @property
    def now(self) -> float:
        """The broker's present."""
        return self.rig.now

    def make_client(self, given: Settings, chance: Callable[[int], bytes]) -> Client:
        """The client, with a store where there is an engine."""
        if self.engine is None:
            return super().make_client(given, chance)
        number = self.engine.last_number
        return Client(given, chance, self.now, has_store=True, last_number=number)

    def start(self) -> None:
        """Connect."""
        self.client.start(self.now)
        self.move()

    def move(self) -> None:
        """Do what an adapter does, until nothing is left to do."""
        for _ in range(_MOST_TURNS):
            if not (
                self.store() | self._open() | self._to_server() | self._to_client() | self._close()
            ):
                return
        raise AssertionError("packets without end")

    def store(self) -> bool:
        """Let the store do what it is asked; False where that is nothing."""
        if self.engine is None:
            return False
        requests = self.client.take_requests()
        for request in requests:
            self.engine.submit(request)
        completions = self.engine.take_completions()
        for completion in completions:
            self.client.completed(completion, self.now)
        return bool(requests or completions)

    def _open(self) -> bool:
        if not self.client.wants_transport:
            return False
        if self.is_reachable:
            self.remote = self.rig.open("line")
            self.client.opened(self.now)
        else:
            self.client.open_failed("it is not reachable", self.now)
        return True

    def _to_server(self) -> bool:
        is_busy = False
        while data := self.client.data_to_send(self.now):
            is_busy = True
            assert self.remote is not None
            self.remote.send(data)
        return is_busy

    def _to_client(self) -> bool:
        remote = self.remote
        if remote is None or not self.client.wants_read:
            return False
        self.rig.pump()
        data = remote.take()
        if data:
            self.client.receive_data(data, self.now)
        return bool(data)

    def _close(self) -> bool:
        remote = self.remote
        if remote is None or not (self.client.wants_close or remote.is_closed):
            return False
        self.cut()
        return True

    def cut(self) -> None:
        """The connection breaks, on both sides; what was on its way is lost."""
        remote = self.remote
        self.remote = None
        assert remote is not None
        remote.cut()
        self.client.eof("", self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass for both sides."""
        end = self.now + seconds
        self.move()
        for _ in range(_MOST_TURNS):
            deadline = self.client.next_deadline()
            if deadline is None or deadline > end:
                break
            self.rig.advance(max(0.0, deadline - self.now))
            self.client.advance(self.now)
            self.move()
        self.rig.advance(max(0.0, end - self.now))
        self.move()
