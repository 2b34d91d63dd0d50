"""The memory of wills is limited, and given back however a will ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_core import Will
from mqtt_core.broker import Limits
from mqtt_core.broker._wills import will_cost
from tests.core import wire
from tests.core.wire5 import Will5, prop, u32
from tests.rig import Client, HoldingEngine, Rig

OLD = ("w", b"gone", 0, False)
COST = will_cost(Will("w", b"gone"))
EXPIRY = prop(0x11, u32(100))
DELAY = prop(0x18, u32(10))


def with_one_will() -> Rig:
    """A broker that has room for one small will without properties."""
    return Rig(total_will_bytes=COST)


def leave(client: Client) -> None:
    client.send(wire.DISCONNECT)


def cut(client: Client) -> None:
    client.cut()


def misbehave(client: Client) -> None:
    client.send(b"\xff\xff")


def be_taken_over(client: Client) -> None:
    client.rig.connect("c").cut()


@pytest.mark.parametrize("end", [leave, cut, misbehave, be_taken_over])
def test_a_will_is_counted_until_its_connection_ends(end: Callable[[Client], None]) -> None:
    rig = with_one_will()
    client = rig.connect("c", will=OLD)
    refused = rig.open("d")
    refused.send(wire.connect("d", will=OLD))
    assert refused.take() == wire.connack(3)
    assert "total_will_bytes is reached" in rig.last_fact("client.refused").detail
    end(client)
    rig.connect("d", will=OLD)


def test_a_will_that_waits_is_counted_until_it_is_published() -> None:
    rig = Rig(total_will_bytes=COST + 192)
    client = rig.connect5("c", EXPIRY, clean=False, will=Will5("w", b"gone", properties=DELAY))
    client.cut()
    refused = rig.open("d")
    refused.send(wire.connect("d", will=OLD))
    assert refused.take() == wire.connack(3)
    rig.advance(10)
    rig.connect("d", will=OLD)


def test_a_will_that_is_taken_back_is_not_counted() -> None:
    rig = Rig(total_will_bytes=COST + 192)
    client = rig.connect5("c", EXPIRY, clean=False, will=Will5("w", b"gone", properties=DELAY))
    client.cut()
    rig.connect5("c", EXPIRY, clean=False, present=True)
    rig.connect("d", will=OLD)


def test_a_connect_that_comes_to_nothing_gives_its_room_back() -> None:
    rig = with_one_will()
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    attempt = rig.open("c")
    attempt.send(wire.connect("c", clean=False, will=OLD))
    refused = rig.open("d")
    refused.send(wire.connect("d", will=OLD))
    assert refused.take() == wire.connack(3)
    attempt.cut()
    again = rig.open("d")
    again.send(wire.connect("d", will=OLD))
    rig.settle()
    assert again.take() == wire.connack()


def test_what_a_will_takes_is_counted_with_its_properties() -> None:
    plain = will_cost(Will("w", b""))
    pairs = ((0x26, ("k", "v")), (0x03, "text"), (0x09, b"data"), (0x18, 5))
    sizes = [will_cost(Will("w", b"", properties=(pair,))) - plain for pair in pairs]
    assert sizes == [2 * 192 + 8, 192 + 16, 192 + 4, 192]
    assert will_cost(Will("\U0001f600", b"12345")) == plain + 5
    assert Limits().total_will_bytes > 100_000 * plain
