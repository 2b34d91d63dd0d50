"""A connection that dies at every byte, in both directions, of a client's whole life.

What must hold whatever was lost: the program hears of each message at QoS 1 at least once and of
each at QoS 2 exactly once, in order; everything that was asked comes to its end; nothing is left.
"""

from __future__ import annotations

import pytest

from mqtt_core import MQTT_3_1_1, MQTT_5
from mqtt_core.broker import Limits, MemoryEngine
from mqtt_core.client import Consumer, Message, Publication, Settings
from mqtt_core.store import Engine
from tests.line import Line, settings
from tests.rig import Rig

TO_SERVER, TO_CLIENT = 0, 1
MINUTE_S = 60.0


class Frail(Line):
    """A line that breaks once, after so many bytes in one direction; they arrive."""

    def __init__(
        self, rig: Rig, given: Settings, engine: Engine | None, direction: int, bytes_left: int
    ) -> None:
        self.bytes_left = [-1, -1]  # below 0 without end
        self.bytes_left[direction] = bytes_left
        super().__init__(rig, given, engine=engine)

    @property
    def has_broken(self) -> bool:
        """Whether it has come to that."""
        return self.bytes_left == [-1, -1]

    def _to_server(self) -> bool:
        is_busy = False
        while self.remote is not None and (data := self.client.data_to_send(self.now)):
            is_busy = True
            part, breaks = self._pass(data, TO_SERVER)
            self.remote.send(part)
            if breaks:
                self.cut()
        return is_busy

    def _to_client(self) -> bool:
        remote = self.remote
        if remote is None or not self.client.wants_read:
            return False
        self.rig.pump()
        part, breaks = self._pass(remote.take(), TO_CLIENT)
        self.client.receive_data(part, self.now)
        if breaks:
            self.cut()
        return bool(part) or breaks

    def _pass(self, data: bytes, direction: int) -> tuple[bytes, bool]:
        left = self.bytes_left[direction]
        if not 0 <= left <= len(data):
            self.bytes_left[direction] = max(-1, left - len(data))
            return data, False
        self.bytes_left[direction] = -1
        return data[:left], True


class Story:
    """A client that talks to itself by a broker: subscribes, publishes, unsubscribes, ends.

    `who` dies when the line breaks: nobody else, the server, or the client, whose next run goes on
    with its store.
    """

    def __init__(self, level: int, who: str, direction: int, bytes_left: int) -> None:
        self.rig = Rig()
        self.given = settings(client_id="c", level=level, session_expiry_s=1_000)
        self.engine = MemoryEngine(Limits()) if who == "client" else None
        self.line = Frail(self.rig, self.given, self.engine, direction, bytes_left)
        self.who = who
        self.was_cut = False
        self.consumer: Consumer | None = None
        self.published: list[Publication] = []
        self.got: list[Message] = []

    def tell(self) -> None:
        """From the beginning to the end."""
        self.line.start()
        self.go_on()
        self.subscribe()
        self.go_on()
        for n, qos in enumerate((1, 2, 2, 1)):
            self.published.append(self.line.publish("t", b"%d" % n, qos, waits=True))
        self.go_on()
        for _ in range(3):  # what the client says to it may be lost as well
            self.take()
            self.go_on()
        self.check()
        assert self.consumer is not None
        self.line.client.unsubscribe(self.consumer, self.line.now)
        self.go_on()
        self.line.client.disconnect(self.line.now)
        self.go_on()
        assert self.line.client.has_ended
        self.rig.no_faults()

    def subscribe(self) -> None:
        """Ask for the messages."""
        self.consumer = self.line.subscribe(("t", 2))

    def go_on(self) -> None:
        """Let everything happen that is to happen; what dies comes back."""
        self.line.move()
        if not self.line.has_broken or self.was_cut:
            return
        self.was_cut = True
        error = self.line.client.error
        has_ended = self.line.client.has_ended
        if self.who == "server":
            self.rig.crash(1.0)
        if error is not None or (self.who == "client" and not has_ended):
            # Else it was the first connection, which has to come about.
            assert error is None or "cannot connect" in str(error)
            self.published = []
            self.line = Frail(self.rig, self.given, self.engine, TO_CLIENT, -1)
            self.line.start()
            if self.consumer is not None:
                self.subscribe()
        self.line.advance(MINUTE_S)

    def take(self) -> None:
        """Take what there is."""
        assert self.consumer is not None
        assert self.consumer.is_ready
        while (message := self.line.take(self.consumer)) is not None:
            self.got.append(message)

    def check(self) -> None:
        """What must hold."""
        assert all(each.is_done and each.error is None for each in self.published)
        at_1 = [each.payload for each in self.got if each.qos == 1]
        assert list(dict.fromkeys(at_1)) == [b"0", b"3"]
        at_2 = [each for each in self.got if each.qos == 2]
        once = {each.payload: each for each in reversed(at_2)}  # the first of each
        if self.who != "client":
            assert len(at_2) == 2
        assert sorted(once) == [b"1", b"2"]
        # It may have died between take and store.
        assert all(each is once[each.payload] or each.is_repeat for each in at_2)
        client = self.line.client
        assert (client.in_flight, client.pending_messages, client.unacknowledged) == (0, 0, 0)
        assert client.counters.dropped_unclaimed == client.counters.dropped_unread == 0


@pytest.mark.statement("MQTT-4.3.2-3", "MQTT-4.3.3-3", "MQTT-4.3.3-5")
@pytest.mark.parametrize("who", ["link", "server", "client"])
@pytest.mark.parametrize("direction", [TO_SERVER, TO_CLIENT])
@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_it_survives_an_end_at_every_byte(level: int, direction: int, who: str) -> None:
    for bytes_left in range(0, 1_000, 1 if who == "link" else 3):
        story = Story(level, who, direction, bytes_left)
        story.tell()
        if not story.was_cut:
            break
    assert 50 < bytes_left < 900  # to its end
