"""The $SYS topics, under the names that monitoring tools know."""

from __future__ import annotations

import pytest

from tests.core import wire
from tests.rig import Client, Rig


def topics(client: Client) -> dict[str, str]:
    return {
        publish.topic.removeprefix("$SYS/broker/"): publish.payload.decode()
        for publish in client.publishes()
    }


def reader_of(rig: Rig) -> Client:
    reader = rig.connect("reader")
    reader.subscribe(("$SYS/#", 0))
    return reader


def test_all_topics_are_there_for_a_new_subscription() -> None:
    rig = Rig()
    found = topics(reader_of(rig))
    for name in (
        "version",
        "uptime",
        "clients/connected",
        "clients/disconnected",
        "clients/total",
        "clients/maximum",
        "clients/expired",
        "messages/received",
        "messages/sent",
        "messages/stored",
        "publish/messages/received",
        "publish/messages/sent",
        "publish/messages/dropped",
        "retained messages/count",
        "subscriptions/count",
        "store/messages/count",
        "store/messages/bytes",
        "bytes/received",
        "bytes/sent",
        "load/messages/received/1min",
        "load/connections/15min",
    ):
        assert name in found
    assert found["version"] == "iotd"


def test_what_changes_is_told_at_each_interval() -> None:
    rig = Rig(sys_interval_secs=10)
    reader = reader_of(rig)
    reader.take()
    client = rig.persistent("a")
    client.subscribe(("t", 1))
    client.send(wire.publish("t", b"", 1, 1), wire.publish("r", b"x", retain=True))
    client.cut()
    rig.connect("p").send(wire.publish("t", b"x", 1, 1))
    rig.advance(9)
    assert reader.take() == b""
    rig.advance(1)
    found = topics(reader)
    assert found["uptime"] == "10 seconds"
    assert found["clients/connected"] == "2"
    assert found["clients/disconnected"] == "1"
    assert found["clients/total"] == "3"
    assert found["publish/messages/received"] == "3"
    assert found["retained messages/count"] == "1"
    assert found["subscriptions/count"] == "2"
    assert found["messages/stored"] == "2"
    assert float(found["load/publish/received/1min"]) > 0
    assert "version" not in found
    rig.advance(10)
    later = topics(reader)
    assert "clients/connected" not in later
    assert float(later["load/publish/received/1min"]) < float(found["load/publish/received/1min"])


def test_subscriptions_have_their_own_flags() -> None:
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe(("$SYS/broker/version", 2))
    assert reader.take() == wire.publish("$SYS/broker/version", b"iotd", retain=True)
    reader.subscribe(("$SYS/broker/uptime", 0))
    reader.take()
    rig.advance(10)
    assert reader.take() == wire.publish("$SYS/broker/uptime", b"10 seconds")


@pytest.mark.statement("v3 MQTT-4.7.2-1")
def test_wildcards_do_not_find_them() -> None:
    rig = Rig()
    reader = rig.connect("r")
    reader.subscribe(("#", 0), ("+/broker/uptime", 0), ("+/#", 0))
    rig.advance(20)
    assert reader.take() == b""


def test_they_can_be_off() -> None:
    rig = Rig(sys_interval_secs=0)
    reader = reader_of(rig)
    rig.advance(100)
    assert reader.take() == b""
    assert rig.broker.next_deadline() is None


def test_a_burst_of_them_waits_for_the_socket() -> None:
    rig = Rig(output_budget_bytes=1_024)
    reader = rig.connect("r")
    reader.block()
    reader.send(wire.subscribe(1, ("$SYS/#", 1)))
    reader.unblock(100)
    reader.unblock()
    frames = reader.frames()
    assert frames[0].kind == 9
    assert len({wire.read_publish(frame).topic for frame in frames[1:]}) == len(frames) - 1 > 30


def test_they_are_not_kept_by_the_store() -> None:
    rig = Rig()
    reader_of(rig)
    rig.advance(30)
    assert rig.broker.stats.retained_messages == 0
