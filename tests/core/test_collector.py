"""No packet and no connection leaves a reference cycle: reference counting does it all.

A full collection takes long where there are many sessions, so that there must be no need of one.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from mqtt_core.broker import ASK, DENY
from tests.core import wire
from tests.core.test_delivery import acknowledge
from tests.rig import HoldingEngine, PromptAuthenticator, RefusingEngine, Rig, TablePolicy


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    gc.set_debug(0)
    try:
        yield
    finally:
        gc.enable()


def a_day_of_a_broker(rig: Rig) -> None:
    """Everything that clients do, in every way that connections end."""
    reader = rig.connect("r", will=("w", b"", 1, False), keep_alive_s=10)
    reader.subscribe(("#", 2))
    for round_number in range(3):
        client = rig.connect("a", clean=False, present=round_number > 0, will=("w", b"x", 2, True))
        client.send(wire.subscribe(1, ("t/+", 2), ("u", 0)), wire.unsubscribe(2, "u"))
        for number, qos in enumerate((0, 1, 2, 2), 1):
            packet_id = number if qos else 0
            client.send(wire.publish("t/1", bytes(number * 3_000), qos, packet_id, retain=True))
        acknowledge(client)
        client.send(wire.pubrel(3), wire.PINGREQ)
        acknowledge(reader)
        if round_number == 0:
            client.cut()
        elif round_number == 1:
            client.reset()
        else:
            client.send(wire.DISCONNECT)
        client = rig.connect("a", clean=False, present=True)
        rig.connect("a", clean=False, present=True).send(wire.publish("#"))
        client.take()
    silent = rig.open("silent")
    refused = rig.open("refused")
    refused.send(wire.connect("x", level=9))
    denied = rig.open("denied")
    denied.send(wire.connect("d", will=("denied", b"", 0, False)))
    asking = rig.connect("asking")
    asking.send(wire.publish("ask", b"", 1, 1), wire.subscribe(1, ("ask", 1)))
    asking.cut()
    reader.block()
    rig.connect("p").send(wire.publish("t/2", bytes(10_000)) * 20)
    reader.unblock()
    rig.advance(20)
    assert silent.is_closed
    rig.advance(1_000)


def leave(rig: Rig) -> None:
    for client in list(rig.clients):
        client.cut()
    rig.settle()
    rig.facts.clear()
    rig.fact_times.clear()
    rig.requests.clear()


@pytest.mark.usefixtures("without_collector")
def test_a_day_leaves_no_cycle() -> None:
    policy = TablePolicy({"ask": ASK, "denied": DENY})
    rig = Rig(
        policy=policy,
        authenticator=PromptAuthenticator(),
        session_timeout_secs=100,
        output_budget_bytes=1_024,
        max_inflight_messages=2,
    )
    a_day_of_a_broker(rig)
    leave(rig)
    assert gc.collect() == 0
    assert gc.garbage == []
    assert rig.broker.session_count == 0


@pytest.mark.usefixtures("without_collector")
def test_a_wide_message_leaves_no_cycle() -> None:
    rig = Rig(turn_deliveries=10)
    for number in range(300):
        rig.connect(f"{number}", clean=number % 2 == 0).subscribe(("t", number % 3), ("#", 1))
    publisher = rig.connect("p", clean=False, will=("t", b"", 2, False))
    publisher.send(wire.publish("t", b"x", 2, 1), pump=False)
    publisher.reset()
    leave(rig)
    assert gc.collect() == 0
    assert gc.garbage == []


@pytest.mark.usefixtures("without_collector")
def test_a_store_that_is_late_or_refuses_leaves_no_cycle() -> None:
    rig = Rig(session_timeout_secs=10)
    rig.engine = HoldingEngine(RefusingEngine(rig.engine, lambda number, _: number % 4 == 0))
    for number in range(20):
        client = rig.open()
        client.send(wire.connect(f"{number % 5}", clean=False, will=("t", b"", 2, True)))
        rig.settle()
        client.send(wire.subscribe(1, ("t", 2), ("r/#", 2)))
        client.send(wire.publish("t", b"x", 2, 1), wire.publish("r/1", b"x", 1, 2, retain=True))
        if number % 3:
            rig.settle()
        if number % 2:
            client.cut()
        rig.settle()
    leave(rig)
    rig.advance(100)
    rig.settle()
    leave(rig)
    assert gc.collect() == 0
    assert gc.garbage == []
    assert rig.broker.session_count == 0
