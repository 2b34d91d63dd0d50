"""Exceptions out of the blue, in the middle of the core: told, counted, and over with.

Nothing of the core is replaced. The interpreter's profile hook raises when a certain function is
called, once, as a bug in it would; so this is for the interpreted build alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from mqtt_core.broker import DENY, GRACEFUL, IMMEDIATE
from tests.core import wire
from tests.core.test_fan_out import crowd
from tests.rig import Client, DiskEngine, HoldingEngine, Rig, TablePolicy

pytestmark = pytest.mark.interpreted_only("a compiled function has no profile hook")

WILL = ("w", b"gone", 0, False)


class Sudden(Exception):
    """What a bug raises; `second` is where the next one is, once this one has been told."""

    def __init__(self, where: str, second: str) -> None:
        super().__init__(where)
        self.second = second

    def __repr__(self) -> str:
        if self.second:
            _arm(self.second, "")
            self.second = ""
        return "Sudden()"


def _arm(where: str, second: str) -> None:
    def look(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_qualname == where and "mqtt_core" in code.co_filename:
            raise Sudden(where, second)  # which also ends the profiling

    sys.setprofile(look)


@contextmanager
def fault_in(where: str, second: str = "") -> Iterator[None]:
    """The next call of this function of the core raises, and then one of another."""
    _arm(where, second)
    try:
        yield
        assert sys.getprofile() is None, "it was not called"
    finally:
        sys.setprofile(None)


def check_told(rig: Rig, *client_ids: str) -> None:
    """The faults were told, each with its client, and others are served."""
    faults = [fact for fact in rig.facts if fact.error is not None]
    assert [fact.client_id for fact in faults] == list(client_ids)
    assert all(isinstance(fact.error, Sudden) for fact in faults)
    assert rig.broker.stats.faults == len(client_ids)
    reader, writer = rig.connect("reader"), rig.connect("writer")
    reader.subscribe(("still", 1))
    writer.send(wire.publish("still", b"here", 1, 1))
    assert writer.take() == wire.puback(1)
    assert reader.payloads() == [b"here"]
    assert not rig.broker.has_requests


PUBLISH_WILL = "Publishing.publish_will"


def test_at_the_end_of_a_transport() -> None:
    rig = Rig()
    client = rig.connect("a", will=WILL)
    with fault_in(PUBLISH_WILL):
        client.cut()
    assert rig.broker.stats.connections == 0
    check_told(rig, "a")


def test_when_a_client_breaks_mqtt() -> None:
    rig = Rig()
    client = rig.connect("a", will=WILL)
    with fault_in(PUBLISH_WILL):
        client.send(b"\x00")
    assert client.is_closed
    assert rig.broker.stats.protocol_violations == 1
    check_told(rig, "a")


def test_when_a_connection_is_ended_behind_a_packet() -> None:
    rig = Rig(policy=TablePolicy({"denied": DENY}), unauthorized_publish="disconnect")
    client = rig.connect("a", will=WILL)
    with fault_in(PUBLISH_WILL):
        client.send(wire.publish("denied"))
    assert client.is_closed
    check_told(rig, "a")


def test_in_the_end_that_a_fault_has_led_to() -> None:
    rig = Rig()
    client = rig.connect("a", will=WILL)
    with fault_in("Publishing.accept", PUBLISH_WILL):
        client.send(wire.publish("t"))
    assert client.is_closed
    assert rig.last_fact("client.disconnected").cause == "internal fault"
    assert rig.last_fact("fault").error is not None
    check_told(rig, "a", "a")


def test_in_the_telling_of_a_fault() -> None:
    rig = Rig()
    client = rig.connect("a")
    with fault_in("Publishing.accept", "Endings._tell"):
        client.send(wire.publish("t"), pump=False)
    client.cut()
    check_told(rig, "a")


def test_when_a_deadline_has_come() -> None:
    rig = Rig()
    client = rig.connect("a", will=WILL, keep_alive_s=10)
    with fault_in(PUBLISH_WILL):
        rig.advance(16)
    assert client.is_closed
    check_told(rig, "a")


def test_in_a_timer_that_is_no_connections() -> None:
    rig = Rig(sys_interval_secs=10)
    with fault_in("SysTopics.changes"):
        rig.advance(10)
    check_told(rig, "")
    watcher = rig.connect("watcher")
    watcher.subscribe(("$SYS/broker/uptime", 0))
    watcher.take()
    rig.advance(10)
    assert watcher.payloads() == [b"20 seconds"]


def test_in_a_turn_of_a_connections_input() -> None:
    rig = Rig(turn_deliveries=1)
    client = rig.connect("a")
    client.send(wire.publish("t") * 1_000, wire.PINGREQ, pump=False)
    with fault_in("Broker._count_input"):
        rig.pump()
    assert client.is_closed
    assert client.take() == b""
    check_told(rig, "a")


def test_in_a_turn_of_what_is_nobodys() -> None:
    rig = Rig()
    client = rig.connect("a")
    client.send(wire.subscribe(1, *((f"t/{number}", 0) for number in range(1_000))))
    client.cut(pump=False)
    with fault_in("Router.unsubscribe"):
        rig.pump()
    check_told(rig, "")


def test_in_a_turn_of_a_fan_out() -> None:
    rig = Rig(turn_deliveries=100)
    readers = crowd(rig, 450)
    witness = rig.connect("witness")
    witness.subscribe(("w", 0))
    publisher = rig.connect("p", will=WILL)
    publisher.send(wire.publish("t", b"x", 1, 1), pump=False)
    rig.broker.advance(rig.now)
    with fault_in("FanOut.deliver_some"):
        rig.pump()
    assert publisher.is_closed
    assert publisher.take() == b""
    assert witness.payloads() == [b"gone"]
    assert 0 < sum(bool(reader.received) for reader in readers) < 450
    check_told(rig, "p")


def test_in_a_turn_of_a_wills_fan_out() -> None:
    rig = Rig(turn_deliveries=100)
    crowd(rig, 450)
    rig.connect("p", will=("t", b"x", 1, False)).cut(pump=False)
    rig.broker.advance(rig.now)
    with fault_in("FanOut.deliver_some"):
        rig.pump()
    check_told(rig, "")


def taken_over(rig: Rig) -> Client:
    """Someone whose message is still on its way to many, with a will to come behind it."""
    engine = HoldingEngine(rig.engine)
    publisher = rig.connect("p", will=WILL)
    rig.engine = engine
    publisher.send(wire.publish("t", b"x", 1, 1), pump=False)
    Client(rig, "newer").send(wire.connect("p"), pump=False)
    rig.broker.advance(rig.now)
    for _ in range(3):  # its claim, and the stored will
        rig.exchange()
        engine.release()
    rig.exchange()
    rig.engine = engine.inner
    return publisher


def test_in_a_fan_out_that_has_a_will_behind_it() -> None:
    rig = Rig(turn_deliveries=100)
    crowd(rig, 450)
    witness = rig.connect("witness")
    witness.subscribe(("w", 0))
    publisher = taken_over(rig)
    with fault_in("FanOut.deliver_some"):
        rig.pump()
    assert publisher.is_closed
    assert witness.payloads() == [b"gone"]
    check_told(rig, "p")


def test_in_a_fan_out_and_in_the_will_behind_it() -> None:
    rig = Rig(turn_deliveries=100)
    crowd(rig, 450)
    taken_over(rig)
    with fault_in("FanOut.deliver_some", PUBLISH_WILL):
        rig.pump()
    check_told(rig, "p", "")


@pytest.mark.parametrize("is_will", [False, True])
def test_in_the_middle_of_what_is_stored_as_a_whole(is_will: bool) -> None:
    """The store has what was done so far and goes on; the message may come again as a new one."""
    rig = Rig(turn_deliveries=100)
    disk = DiskEngine(rig.engine)
    crowd(rig, 450, 1, clean=False)
    will = ("t", b"x", 1, False) if is_will else None
    publisher = rig.connect("p", clean=False, will=will)
    rig.engine = disk
    if is_will:
        publisher.cut(pump=False)
    else:
        publisher.send(wire.publish("t", b"x", 2, 1), pump=False)
    rig.broker.advance(rig.now)
    rig.exchange()
    disk.commit()
    assert disk.submitted, "not before the end of the change"
    with fault_in("FanOut.deliver_some"):
        rig.broker.advance(rig.now)
    rig.settle()
    assert disk.submitted == []
    rig.crash()
    assert rig.broker._ws.held_identifiers == 0
    reached = sum(session.flow is not None for session in rig.broker._sessions.by_client.values())
    assert 0 < reached < 450


@pytest.mark.parametrize("turns", [0, 1])
@pytest.mark.parametrize("is_back", [False, True])
def test_a_message_that_a_fault_has_cut_may_come_again(turns: int, is_back: bool) -> None:
    """`is_back`: its publisher waits for PUBREC on another connection by then."""
    rig = Rig(turn_deliveries=100)
    crowd(rig, 900, 1, clean=False)
    publisher = rig.connect("p", clean=False)
    publisher.send(wire.publish("t", b"x", 2, 1), pump=False)
    for _ in range(turns):
        rig.broker.advance(rig.now)
        rig.exchange()
    again = wire.publish("t", b"x", 2, 1, dup=True)
    waiting = [publisher]
    if is_back:
        waiting.append(Client(rig, "newer"))
        waiting[1].send(wire.connect("p", clean=False), again, pump=False)
        for _ in range(3):  # its claim, what is stored for it, and its message
            rig.turn()
        assert waiting[1].received == wire.connack(present=True)
    with fault_in("FanOut.deliver_some"):
        rig.broker.advance(rig.now)
    rig.settle()
    assert all(each.is_closed for each in waiting)
    publisher = rig.connect("p", clean=False, present=True)
    publisher.send(again)
    assert publisher.take() == wire.pubrec(1)
    publisher.send(wire.pubrel(1), wire.publish("t", b"y", 1, 1))
    assert publisher.take() == wire.pubcomp(1) + wire.puback(1)


@pytest.mark.parametrize("mode", [GRACEFUL, IMMEDIATE])
def test_in_the_shutdown(mode: int) -> None:
    rig = Rig()
    clients = [rig.connect("a"), rig.connect("b")]
    with fault_in("Sessions.detach"):
        rig.broker.shut_down(mode, rig.now)
        rig.pump()
    assert rig.broker.stats.faults == 1
    assert all(client.is_closed for client in clients)
    rig.advance(10)
    assert rig.broker.is_stopped
