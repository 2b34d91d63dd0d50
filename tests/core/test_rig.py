"""The rig itself: what every other test relies on."""

from __future__ import annotations

from mqtt_core import Connect, PingResp, SubAck
from mqtt_core.broker import MemoryEngine
from tests.core import wire
from tests.rig import HoldingEngine, Pair, Rig


def test_a_message_goes_from_one_client_to_another() -> None:
    rig = Rig()
    subscriber = rig.connect("s")
    subscriber.subscribe(("t", 1))
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"hello", 1, 7))
    assert publisher.take() == wire.puback(7)
    assert subscriber.take() == wire.publish("t", b"hello", 1, 1)
    rig.no_faults()


def test_a_connection_and_a_rig_as_a_pair() -> None:
    pair = Pair(Rig())
    assert not pair.connect(Connect("c", keep_alive_s=10)).session_present
    packet_id = pair.client.send_subscribe([("a/#", 1)], pair.now)
    assert pair.take_events() == [SubAck(packet_id, (1,))]
    pair.advance(8)
    assert pair.take_events() == [PingResp()]


def test_a_held_answer_comes_when_it_is_released() -> None:
    rig = Rig()
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    client = rig.open()
    client.send(wire.connect("a"))
    assert client.take() == b""
    engine.release()
    rig.pump()
    assert client.take() == wire.connack()
    assert isinstance(engine.inner, MemoryEngine)
