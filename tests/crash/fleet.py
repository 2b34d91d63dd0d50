"""Clients that remember what they were told, and a judge of what a broker has made of it.

Publishers publish numbers, each at its own QoS, and note which were acknowledged. Subscribers have
persistent sessions and note what came. All of them come back to their sessions after every crash,
with the delivery state that a client keeps.
"""

from __future__ import annotations

import random
import selectors
import socket
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final

from mqtt_core import (
    MQTT_3_1_1,
    MQTT_5,
    ConnAck,
    Connect,
    Connection,
    Packet,
    PubAck,
    Publish,
    PubRec,
    SubAck,
    properties,
)
from mqtt_core._flow import Flow
from tests.crash.stored import Stored

PATIENCE_S: Final = 30.0
WINDOW: Final = 20
_FAILED: Final = 0x80
_LASTING: Final = ((properties.SESSION_EXPIRY_INTERVAL, 86_400),)


class Device:
    """A client that keeps its session over connections."""

    def __init__(self, name: str, level: int) -> None:
        self.name: Final = name
        self.level: Final = level
        self.was_accepted = False
        self.is_ready = False
        self.connection = Connection()
        self._flow: Flow | None = None
        self.socket: socket.socket | None = None

    def connect(self, address: tuple[str, int]) -> None:
        """Come back to the session, or make it."""
        self.is_ready = False
        self.socket = socket.create_connection(address, timeout=PATIENCE_S)
        self.connection = Connection(flow=self._flow)
        given = _LASTING if self.level == MQTT_5 else ()
        packet = Connect(self.name, clean_start=False, level=self.level, properties=given)
        self.connection.send_connect(packet, 0.0)
        self._flow = self.connection.flow
        self.flush()

    def flush(self) -> None:
        """Send what there is; a broker that is gone takes nothing."""
        assert self.socket is not None
        try:
            self.socket.sendall(b"".join(iter(self.connection.data_to_send, b"")))
        except ConnectionError:
            pass

    def read(self) -> int:
        """Take what has come; how many packets, -1 at the end of the connection."""
        assert self.socket is not None
        try:
            data = self.socket.recv(65_536)
        except ConnectionError:
            data = b""
        if not data:
            return -1
        self.connection.receive_data(data, 0.0)
        events = self.connection.events()
        for event in events:
            if isinstance(event, ConnAck):
                self._accepted(event)
            else:
                self.on_event(event)
        self.go_on()
        self.flush()
        return len(events)

    def _accepted(self, answer: ConnAck) -> None:
        assert answer.reason == 0, f"{self.name} is refused: {answer!r}"
        lost = "the session is gone" if self.was_accepted else ""
        assert answer.session_present or not lost, f"{self.name}: {lost}"
        self.was_accepted = True
        self.on_accepted(answer.session_present)

    def on_accepted(self, session_present: bool) -> None:
        """The server takes the client."""
        self.is_ready = True

    def on_event(self, event: Packet) -> None:
        """Something else has come."""

    def go_on(self) -> None:
        """Send what there is to be said."""

    def close(self) -> None:
        """Close the socket."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class Publisher(Device):
    """Publishes numbers at one QoS, the last of them retained."""

    def __init__(self, name: str, level: int, qos: int) -> None:
        super().__init__(name, level)
        self.qos: Final = qos
        self.sent = 0
        self.round = 0
        self.acknowledged: Final[dict[int, int]] = {}  # and in which round
        self.limit = 0  # numbers above it are not published yet
        self._numbers: Final[dict[int, int]] = {}

    def on_event(self, event: Packet) -> None:
        """Note an acknowledgement."""
        if isinstance(event, (PubAck, PubRec)):
            assert event.reason < _FAILED, f"{self.name} is refused: {event!r}"
            self.acknowledged.setdefault(self._numbers[event.packet_id], self.round)

    def go_on(self) -> None:
        """Publish, as far as the window goes."""
        while (
            self.is_ready and self.sent < self.limit and self.sent - len(self.acknowledged) < WINDOW
        ):
            self.sent += 1
            packet_id = self.connection.send_publish(
                f"load/{self.name}", str(self.sent).encode(), self.qos, True, now=0.0
            )
            self._numbers[packet_id] = self.sent


class Subscriber(Device):
    """Notes what it gets of each publisher, in order."""

    def __init__(self, name: str, level: int, topic_filter: str, qos: int) -> None:
        super().__init__(name, level)
        self.topic_filter: Final = topic_filter
        self.qos: Final = qos
        self.got: Final[dict[str, list[int]]] = {}
        self.retained: Final[dict[str, int]] = {}

    def on_accepted(self, session_present: bool) -> None:
        """Subscribe, once."""
        if session_present:
            self.is_ready = True
        else:
            self.connection.send_subscribe([(self.topic_filter, self.qos)], 0.0)

    def on_event(self, event: Packet) -> None:
        """Note a message."""
        if isinstance(event, SubAck):
            self.is_ready = True
        elif isinstance(event, Publish):
            publisher = event.topic.rpartition("/")[2]
            number = int(event.payload)
            if event.retain:
                self.retained[publisher] = number
            else:
                self.got.setdefault(publisher, []).append(number)


class Fleet:
    """All devices of a run, and the verdict on what they have seen."""

    def __init__(self, seed: int, publishers: int = 8, subscribers: int = 6) -> None:
        self.chance: Final = random.Random(seed)
        levels = (MQTT_3_1_1, MQTT_5)
        self.publishers: Final = [
            Publisher(f"p{n}", levels[n % 2], 1 + n // 2 % 2) for n in range(publishers)
        ]
        self.subscribers: Final = [
            Subscriber(f"s{n}", levels[n % 2], "load/+", 2 if n < subscribers - 1 else 1)
            for n in range(subscribers)
        ]

    @property
    def acknowledged(self) -> int:
        """Messages that a publisher was told are safe."""
        return sum(len(each.acknowledged) for each in self.publishers)

    def come(self, address: tuple[str, int]) -> None:
        """A round begins: all devices connect; a few subscribers stay away for a while."""
        self._begin_round()
        for subscriber in self.subscribers:
            if not subscriber.was_accepted or self.chance.random() < 0.7:
                subscriber.connect(address)
        if any(not each.was_accepted for each in self.subscribers):
            self.turn(lambda: all(each.is_ready for each in self.subscribers))
        for publisher in self.publishers:
            publisher.connect(address)

    def come_all(self, address: tuple[str, int]) -> None:
        """A round begins, and every device connects."""
        self._begin_round()
        for device in (*self.subscribers, *self.publishers):
            device.connect(address)

    def _begin_round(self) -> None:
        for publisher in self.publishers:
            publisher.round += 1

    def turn(self, is_done: Callable[[], bool]) -> None:
        """Serve the devices until it is done, or until all connections have ended."""
        with selectors.DefaultSelector() as selector:
            for device in (*self.publishers, *self.subscribers):
                if device.socket is not None:
                    selector.register(device.socket, selectors.EVENT_READ, device)
                    device.go_on()
                    device.flush()
            while selector.get_map() and not is_done():
                ready = selector.select(PATIENCE_S)
                assert ready, f"nothing has come for {PATIENCE_S} s: {self.missing()}"
                for key, _ in ready:
                    device = key.data
                    if device.read() < 0:
                        selector.unregister(key.fileobj)
                        device.close()

    def publish_more(self, count: int) -> None:
        """Let publishers publish so many more, all together."""
        for publisher in self.publishers:
            publisher.limit = publisher.sent + 1 + count // len(self.publishers)

    def figures(self) -> str:
        """How much there was so far."""
        deliveries = sum(len(got) for each in self.subscribers for got in each.got.values())
        return f"{self.acknowledged:,} acknowledged, {deliveries:,} deliveries"

    def _missing(self) -> Iterator[tuple[Subscriber, Publisher, list[int]]]:
        """Numbers that were acknowledged, and have not come."""
        for subscriber in self.subscribers:
            for publisher in self.publishers:
                got = subscriber.got.get(publisher.name, ())
                numbers = publisher.acknowledged.keys() - set(got)
                if numbers:
                    yield subscriber, publisher, sorted(numbers)

    def missing(self) -> str:
        """What has not come yet."""
        return "; ".join(
            f"{subscriber.name} lacks {len(numbers)} of {publisher.name}, the first is {numbers[0]}"
            for subscriber, publisher, numbers in self._missing()
        )

    def evidence(self, stored: Stored) -> str:
        """Where the messages are that have not come, and who waits for what: for the one who has
        to find out why."""
        lines = []
        for subscriber, publisher, numbers in self._missing():

            def fact(
                number: int, subscriber: Subscriber = subscriber, of: Publisher = publisher
            ) -> str:
                state = stored.state(subscriber.name, of.name, number) or "not"
                return f"acknowledged in round {of.acknowledged[number]}, {state} in the store"

            for told, group in groupby(numbers, fact):
                each = list(group)
                lines.append(
                    f"{subscriber.name} at QoS {subscriber.qos} lacks {len(each)} of "
                    f"{publisher.name} at QoS {publisher.qos}, {each[0]} to {each[-1]}: {told}"
                )
        for publisher in self.publishers:
            sent = range(1, publisher.sent + 1)
            waiting = [str(each) for each in sent if each not in publisher.acknowledged]
            lines.append(
                f"{publisher.name}, in its round {publisher.round}, has published {publisher.sent} "
                f"of {publisher.limit}, not acknowledged: {' '.join(waiting) or 'none'}"
            )
        return "\n".join(lines)

    def judge_stored(self, stored: Stored) -> None:
        """What was acknowledged and has not come is in the store."""
        lost = [
            f"{number} of {publisher.name} for {subscriber.name}"
            for subscriber, publisher, numbers in self._missing()
            for number in numbers
            if not stored.state(subscriber.name, publisher.name, number)
        ]
        assert not lost, f"{len(lost)} acknowledged and not in the store: {', '.join(lost[:10])}"
        for publisher in self.publishers:
            last = max(publisher.acknowledged, default=0)
            retained = stored.retained.get(publisher.name, 0)
            assert retained >= last, (
                f"retained in the store of {publisher.name}: {retained}, acknowledged: {last}"
            )

    def has_everything(self) -> bool:
        """Whether every message is acknowledged, and every subscriber has it."""
        return all(
            len(publisher.acknowledged) == publisher.sent == publisher.limit
            for publisher in self.publishers
        ) and all(
            set(subscriber.got.get(publisher.name, ())) >= publisher.acknowledged.keys()
            for subscriber in self.subscribers
            for publisher in self.publishers
        )

    def judge(self) -> None:
        """Exactly once at QoS 2, and in order at any."""
        for subscriber in self.subscribers:
            for publisher in self.publishers:
                got = subscriber.got.get(publisher.name, [])
                who = f"{subscriber.name} of {publisher.name}"
                if min(subscriber.qos, publisher.qos) == 2:
                    twice = len(got) - len(set(got))
                    assert not twice, f"{who}: {twice} came twice at QoS 2"
                first = list(dict.fromkeys(got))  # of QoS 1 repeats do not count
                assert first == sorted(first), f"{who}: out of order"

    def judge_retained(self, reader: Subscriber) -> None:
        """What is retained is what was published last."""
        wanted = {publisher.name: publisher.sent for publisher in self.publishers}
        assert reader.retained == wanted, f"retained: {reader.retained}, published: {wanted}"

    def close(self) -> None:
        """Close all connections."""
        for device in (*self.publishers, *self.subscribers):
            device.close()
