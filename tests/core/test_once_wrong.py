"""Each of these was wrong once."""

from __future__ import annotations

import gc

import pytest

from mqtt_core import CLIENT, Connect, Connection, LocalProtocolError, PubAck, SubAck, encode
from mqtt_core._topics import TopicCache
from mqtt_core.broker import GRACEFUL, IMMEDIATE, MemoryEngine, SaveWill
from mqtt_core.broker._router import Matches
from tests.core import wire, wire5
from tests.model import invariants
from tests.rig import (
    Asking,
    Client,
    HoldingAuthenticator,
    HoldingEngine,
    PromptAuthenticator,
    RefusingEngine,
    Rig,
    writes,
)


def test_names_promoted_at_once_leave_no_trace_in_the_probation_queue() -> None:
    cache = TopicCache(65_536)
    for number in range(10_000):
        name = b"topic/%d" % number
        cache.add(name)
        cache.find(name)
    assert len(cache._probation_queue) < 1_000
    assert len(cache._kept_queue) < 1_000


def test_routes_count_towards_the_topic_cache() -> None:
    """10,000 topics that match 4,096 filters each would be 330 MB of pointers."""
    rig = Rig(topic_cache_bytes=200_000)
    subscriber = rig.connect("s")
    filters = [
        "/".join("a" if number >> bit & 1 else "+" for bit in range(8)) + "/+"
        for number in range(256)
    ]
    subscriber.subscribe(*((name, 0) for name in filters))
    publisher = rig.connect("p")
    prefix = "a/" * 8
    for number in range(300):
        packet = wire.publish(f"{prefix}{number}", b"")
        publisher.send(packet, packet)
    topics = rig.broker._ws.topics
    routes = [topic.route for topic in topics.kept.values()]
    pointers = sum(len(route.found) for route in routes if isinstance(route, Matches))
    assert pointers * 8 <= 200_000


def test_input_that_has_been_read_later_is_not_counted_any_more() -> None:
    rig = Rig(turn_deliveries=1, total_input_bytes=4_096)
    subscriber = rig.connect("s")
    subscriber.subscribe(("t", 0))
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"x" * 50) * 100)
    assert len(subscriber.publishes()) == 100
    other = rig.connect("o")
    other.send(wire.publish("t", b"y" * 1_000)[:500])
    assert not other.is_closed
    assert rig.broker._ws.input_bytes < 1_000


def test_a_verdict_that_does_not_come_ends_the_connection() -> None:
    authenticator = HoldingAuthenticator()
    rig = Rig(policy=Asking(), authenticator=authenticator, request_timeout_secs=30)
    client = rig.open()
    client.send(wire.connect("a"))
    authenticator.release()
    rig.pump()
    assert client.take() == wire.connack()
    client.send(wire.publish("t", b"x"))
    rig.advance(31)
    assert client.is_closed
    assert rig.last_fact("client.disconnected").cause == "a decision did not come in time"


def test_a_store_that_does_not_answer_ends_the_connection_that_waits_for_it() -> None:
    rig = Rig(request_timeout_secs=30, max_uncommitted_messages=1)
    engine = HoldingEngine(rig.engine)
    client = rig.persistent("a")
    client.subscribe(("t", 1))
    rig.engine = engine
    client.send(wire.publish("t", b"x", 1, 1))
    rig.advance(31)
    assert client.is_closed


def test_shutting_down_at_once_does_not_wait_for_ever_for_the_store() -> None:
    rig = Rig(sys_interval_secs=0)
    client = rig.persistent("a")
    client.subscribe(("t", 1))
    rig.engine = HoldingEngine(rig.engine)
    client.send(wire.publish("t", b"x", 1, 1))
    rig.broker.shut_down(IMMEDIATE, rig.now)
    rig.pump()
    assert not rig.broker.is_stopped
    assert rig.broker.next_deadline() is not None
    rig.advance(60)
    assert rig.broker.is_stopped


def test_a_filter_given_up_during_a_fan_out_does_not_cost_the_other_its_message() -> None:
    rig = Rig(turn_deliveries=10)
    wide(rig, ("w/+", 1))
    client = rig.connect("z")
    client.subscribe(("w/+", 1), ("w/t", 1), ("other", 0))
    publisher = rig.connect("p")
    publisher.send(wire.publish("w/t", b"x", 1, 1), pump=False)
    client.send(wire.unsubscribe(2, "w/t"), pump=False)
    rig.pump()
    assert [one.payload for one in received(client)] == [b"x"]


def test_a_filter_given_up_during_a_fan_out_does_not_make_a_second_copy() -> None:
    rig = Rig(turn_deliveries=10)
    client = rig.connect("z")
    client.subscribe(("w/+", 2), ("w/t", 1))
    wide(rig, ("w/+", 2))
    publisher = rig.connect("p")
    publisher.send(wire.publish("w/t", b"x", 2, 1), pump=False)
    rig.turn()
    client.send(wire.unsubscribe(2, "w/+"), pump=False)
    rig.pump()
    assert [one.payload for one in received(client)] == [b"x"]


def wide(rig: Rig, *filters: tuple[str, int]) -> None:
    """Enough subscribers for a fan-out that takes several turns."""
    for number in range(500):
        rig.connect(f"wide {number}").subscribe(*filters)


def received(client: Client) -> list[wire.Received]:
    """The PUBLISH packets among what a client has received."""
    return [wire.read_publish(frame) for frame in client.frames() if frame.kind == 3]


def test_an_identifier_over_the_limit_is_not_held() -> None:
    rig = Rig(max_held_identifiers=1)
    subscriber = rig.connect("s")
    subscriber.subscribe(("t", 0))
    publisher = rig.persistent("p")
    publisher.send(wire.publish("t", b"1", 2, 1), wire.publish("t", b"2", 2, 2))
    assert publisher.is_closed
    assert subscriber.payloads() == [b"1"]
    publisher = rig.connect("p", clean=False, present=True)
    publisher.send(wire.pubrel(1), wire.publish("t", b"2", 2, 2, dup=True))
    assert subscriber.payloads() == [b"2"]
    assert rig.broker._ws.held_identifiers == 1


def test_a_claim_that_is_undone_leaves_no_session_to_the_next() -> None:
    """The first CONNECT never gets its CONNACK, so there is no session for the second."""
    rig = Rig()
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    first = rig.open("first")
    first.send(wire.connect("a", clean=False))
    engine.release()  # the claim; the session is being written
    rig.pump()
    assert first.take() == b""
    second = rig.open("second")
    second.send(wire.connect("a", clean=False))
    rig.settle()
    assert first.is_closed
    assert first.take() == b""
    assert second.take() == wire.connack()
    second.send(wire.subscribe(1, ("t", 1)))
    rig.settle()
    assert second.take() == wire.suback(1, 1)
    second.cut()
    publisher = rig.open("p")
    publisher.send(wire.connect("p"))
    rig.settle()
    publisher.send(wire.publish("t", b"kept", 1, 1))
    rig.settle()
    assert publisher.take() == wire.connack() + wire.puback(1)
    third = rig.open("third")
    third.send(wire.connect("a", clean=False))
    rig.settle()
    assert third.take() == wire.connack(present=True) + wire.publish("t", b"kept", 1, 1)


def test_a_claim_that_is_undone_leaves_the_connected_session_stored() -> None:
    """A clean CONNECT ends the stored session; it dies before CONNACK, and the old one goes on."""
    rig = Rig()
    old = rig.persistent("a")
    old.subscribe(("t", 1))
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    new = rig.open("new")
    new.send(wire.connect("a", clean=True))
    engine.release()
    rig.pump()
    new.cut()
    rig.settle()
    publisher = rig.open("p")
    publisher.send(wire.connect("p"))
    rig.settle()
    assert publisher.take() == wire.connack()
    is_present = not old.is_closed
    old.cut()
    publisher.send(wire.publish("t", b"kept", 1, 1))
    rig.settle()
    assert publisher.take() == wire.puback(1)
    old = rig.open("old again")
    old.send(wire.connect("a", clean=False))
    rig.settle()
    expected = wire.connack(present=is_present)
    if is_present:
        expected += wire.publish("t", b"kept", 1, 1)
    assert old.take() == expected


def test_a_clients_publish_before_connack_is_not_forgotten_with_the_old_session() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c"), 0.0)
    packet_id = client.send_publish("t", b"x", 1, now=0.0)
    asked = client.send_subscribe([("t", 1)], 0.0)
    client.receive_data(wire.connack() + wire.puback(packet_id) + wire.suback(asked, 1), 0.0)
    assert client.events()[1:] == [PubAck(packet_id), SubAck(asked, (1,))]


def test_a_clients_publish_before_connack_is_not_sent_twice() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c", clean_start=False), 0.0)
    client.send_publish("t", b"x", 1, now=0.0)
    client.data_to_send()
    client.receive_data(wire.connack(present=True), 0.0)
    assert client.data_to_send() == b""


def test_a_will_has_no_more_levels_than_a_message() -> None:
    rig = Rig(max_topic_levels=8)
    client = rig.open()
    client.send(wire.connect("a", will=("/" * 100, b"x", 0, True)))
    assert client.is_closed


def test_the_offset_of_an_answer_to_nothing_is_that_of_its_packet() -> None:
    rig = Rig()
    client = rig.connect("a")
    client.send(wire.PINGREQ, wire.puback(1))
    fact = rig.last_fact("client.disconnected")
    assert fact.statement == "MQTT-2.3.1-6"
    assert fact.offset == len(wire.connect("a")) + 2


def test_a_refused_connection_is_no_reference_cycle() -> None:
    rig = Rig(max_connections=1)
    rig.connect("a")
    gc.collect()
    gc.disable()
    try:
        client = rig.open()
        client.send(wire.connect("b"))
        assert client.take() == wire.connack(3)
        del client
        rig.facts.clear()
        found = gc.collect()
    finally:
        gc.enable()
    assert found == 0


def test_nothing_is_written_to_a_connection_that_is_closed() -> None:
    rig = Rig(turn_deliveries=10)
    wide(rig, ("t", 1))
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"x", 1, 1), pump=False)
    channel = publisher.channel
    publisher.cut()
    rig.pump()
    assert channel.data_to_send() == b""
    assert channel.output.is_empty


def test_retained_messages_at_qos_0_stop_when_the_store_is_behind() -> None:
    rig = Rig(total_uncommitted_bytes=10_000)
    rig.engine = HoldingEngine(rig.engine)
    publisher = rig.open()
    publisher.send(wire.connect("p"))
    rig.settle()
    for number in range(100):
        publisher.send(wire.publish(f"t/{number}", b"x" * 1_000, retain=True))
    assert rig.broker._ws.uncommitted_bytes < 20_000


def test_requests_that_wait_for_the_store_are_bounded() -> None:
    rig = Rig(max_uncommitted_messages=10)
    engine = HoldingEngine(rig.engine)
    publisher = rig.persistent("p")
    rig.engine = engine
    for number in range(1, 1_000):
        publisher.send(wire.subscribe(number, (f"t/{number}", 0)))
    assert len(engine.held) < 50


def test_refusing_goes_before_dropping_when_nothing_waits_yet() -> None:
    rig = Rig(queue_full_policy="refuse", max_queued_messages=0)
    rig.persistent("s").subscribe(("t", 1))
    rig.clients[0].cut()
    publisher = rig.connect("p")
    publisher.send(wire.publish("t", b"x", 1, 1))
    assert publisher.take() == b""
    assert publisher.is_closed
    assert rig.broker.stats.dropped_queue_full == 0
    assert rig.broker.stats.refused_queue_full == 1


def test_a_restart_does_not_give_the_key_of_a_stored_session_to_another() -> None:
    engine = MemoryEngine(Rig().limits)
    rig = Rig(engine=engine)
    rig.persistent("a").subscribe(("t", 1))
    rig.clients[0].cut()
    rig = Rig(engine=engine)
    for name in "bcdefghij":
        rig.persistent(name)
    client = rig.connect("a", clean=False, present=True)
    rig.connect("p").send(wire.publish("t", b"x", 1, 1))
    assert client.payloads() == [b"x"]


def test_a_negative_reason_cannot_be_encoded() -> None:
    with pytest.raises(LocalProtocolError):
        encode(SubAck(1, (-1,)))


def test_an_old_burst_does_not_exceed_the_new_subscription() -> None:
    rig = Rig()
    engine = HoldingEngine(rig.engine)
    rig.connect("p").send(wire.publish("t", b"x", 2, 1, retain=True))
    client = rig.connect("a")
    rig.engine = engine
    client.send(wire.subscribe(1, ("t", 2)))
    client.send(wire.unsubscribe(2, "t"))
    client.send(wire.subscribe(3, ("t", 0)))
    rig.settle()
    assert [one.qos for one in received(client)] == [0]


def test_a_graceful_end_after_the_client_has_refused_everything() -> None:
    rig = Rig()
    client = rig.connect("a")
    client.subscribe(("t", 0))
    client.block()
    rig.connect("p").send(wire.publish("t", b"x"))
    rig.broker.shut_down(GRACEFUL, rig.now)
    rig.advance(10)
    assert rig.broker.is_stopped


def test_rules_that_change_while_a_verdict_is_on_its_way() -> None:
    rig = Rig(policy=Asking(), authenticator=PromptAuthenticator())
    client = rig.open()
    client.send(wire.connect("a"))
    client.send(wire.publish("t", b""))
    count = len(rig.requests)
    rig.broker.rules_changed()
    client.send(wire.publish("t", b""))
    assert len(rig.requests) == count + 1


def test_a_session_that_is_being_ended_is_not_resumed() -> None:
    rig = Rig()
    rig.persistent("a").subscribe(("t", 1))
    rig.clients[0].cut()
    engine = HoldingEngine(rig.engine)
    rig.engine = engine
    clean = rig.open("clean")
    clean.send(wire.connect("a", clean=True))
    engine.release()
    rig.pump()
    (end_of_session,) = engine.held
    engine.held.clear()
    newer = rig.open("newer")
    newer.send(wire.connect("a", clean=False))
    rig.settle()
    engine.held.append(end_of_session)
    rig.settle()
    assert newer.take() == wire.connack(present=False)
    assert not newer.is_closed


def test_an_unborn_session_stays_unborn_when_a_later_write_fails() -> None:
    rig = Rig()
    refusing = RefusingEngine(rig.engine, writes(SaveWill))
    engine = HoldingEngine(refusing)
    rig.engine = engine
    first = rig.open("first")
    first.send(wire.connect("a", clean=False))
    engine.release()
    rig.pump()
    second = rig.open("second")
    second.send(wire.connect("a", clean=False, will=("w", b"", 0, False)))
    rig.settle()
    assert second.take() == wire.connack(3)
    third = rig.open("third")
    third.send(wire.connect("a", clean=False))
    rig.settle()
    assert third.take() == wire.connack(present=False)


@pytest.mark.parametrize("answered", ["second", "third"])
def test_an_unborn_session_stays_unborn_when_a_clean_start_in_its_place_fails(
    answered: str,
) -> None:
    rig = Rig()
    engine = HoldingEngine(RefusingEngine(rig.engine, writes(SaveWill)))
    rig.engine = engine
    first = rig.open("first")
    first.send(wire.connect("a", clean=False))
    engine.release()
    rig.pump()
    second = rig.open("second")
    kept = wire5.prop(0x11, wire5.u32(100))
    second.send(wire5.connect("a", kept, clean=True, will=wire5.Will5("w")))
    if answered == "second":
        rig.settle()
        assert second.take()[2:4] == b"\0\x88"
    else:
        engine.release()
        rig.pump()
    third = rig.open("third")
    third.send(wire.connect("a", clean=False))
    while engine.release_last():
        rig.pump()
    assert third.take() == wire.connack(present=False)
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("window", [1, 10])
def test_what_the_store_refuses_does_not_hold_up_what_comes_behind_it(window: int) -> None:
    rig = Rig(max_inflight_messages=window)
    receiver = rig.persistent("r")
    receiver.subscribe(("t", 2))
    first, second = rig.connect("1"), rig.connect("2")
    engine = HoldingEngine(RefusingEngine(rig.engine, 1))
    rig.engine = engine
    first.send(wire.publish("t", b"refused", 2, 1))
    second.send(wire.publish("t", b"taken", 2, 1))
    engine.release_last()
    rig.pump()
    assert receiver.take() == b""
    rig.settle()
    assert first.is_closed
    assert receiver.payloads() == [b"taken"]
