"""Shared subscriptions: who is chosen, and who is not (4.8.2 of MQTT 5.0)."""

from __future__ import annotations

import pytest

from mqtt_core.broker import ALLOW, DENY, SUBSCRIBE_ACTION, EndSession
from tests.core import wire, wire5
from tests.core.wire import u16
from tests.core.wire5 import prop, u32
from tests.model import invariants
from tests.rig import Client, RefusingEngine, Rig, TablePolicy

SHARED = "$share/g/t"


def join(rig: Rig, count: int, qos: int = 1, name: str = SHARED) -> list[Client]:
    """Members of a group, the clean sessions of 3.1.1 clients."""
    members = [rig.connect(f"m{at}") for at in range(count)]
    for member in members:
        member.subscribe((name, qos))
    return members


def connect5(rig: Rig, client_id: str, *properties: bytes, clean: bool = True) -> Client:
    """A connection of MQTT 5.0."""
    client = rig.open(client_id)
    client.send(wire5.connect(client_id, *properties, clean=clean))
    is_accepted(client)
    return client


def is_accepted(client: Client, *, present: bool | None = None) -> None:
    """CONNACK of MQTT 5.0 has come; what is behind it stays."""
    connack, client.received = (
        client.received[: 2 + client.received[1]],
        client.received[2 + client.received[1] :],
    )
    assert (connack[0], connack[3]) == (0x20, 0)
    assert present is None or connack[2] == present


def subscribe5(client: Client, name: str, options: int, *properties: bytes) -> None:
    """Subscribe by MQTT 5.0 and see that the QoS asked for was granted."""
    client.send(wire5.subscribe(1, (name, options), properties=b"".join(properties)))
    assert client.take() == wire5.suback(1, options & 3)


class Source:
    """A publisher of numbers. Acknowledgements that are due are taken."""

    def __init__(self, rig: Rig, client_id: str = "source") -> None:
        self.client = rig.connect(client_id)
        self.count = 0

    def publish(self, count: int, qos: int = 1, *, pump: bool = True) -> None:
        """Publish the next numbers in one go."""
        data = b""
        for _ in range(count):
            self.count += 1
            data += wire.publish("t", b"%d" % self.count, qos, self.count if qos else 0)
            if qos == 2:
                data += wire.pubrel(self.count)
        self.client.send(data, pump=pump)
        self.client.take()


def numbers(client: Client) -> list[int]:
    """What a client has got since the last look, not acknowledged."""
    return [int(publish.payload) for publish in client.publishes()]


def acked(client: Client) -> list[int]:
    """The same, acknowledged at QoS 1."""
    publishes = client.publishes()
    for publish in publishes:
        client.send(wire.puback(publish.packet_id))
    return [int(publish.payload) for publish in publishes]


# Who gets a message


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_members_have_it_in_turns(qos: int) -> None:
    rig = Rig()
    members = join(rig, 3, qos)
    Source(rig).publish(30, qos)
    got = [numbers(member) for member in members]
    assert [len(each) for each in got] == [10, 10, 10]
    assert sorted(number for each in got for number in each) == list(range(1, 31))
    assert all(each == sorted(each) for each in got)
    invariants.check_at_rest(rig)


def test_groups_and_own_subscriptions_are_apart() -> None:
    rig = Rig()
    a, b = rig.connect("a"), rig.connect("b")
    for client in (a, b):
        client.subscribe(("$share/g/t", 0), ("$share/h/t", 0), ("$share/g/#", 0))
    b.subscribe(("t", 0), ("+", 0), packet_id=2)
    Source(rig).publish(20, 0)
    got = numbers(a), numbers(b)
    assert len(got[0]) == 30  # its half of three groups: the filter is part of a group's name
    assert len(got[1]) == 50  # and once for the two subscriptions of its own
    for number in range(1, 21):
        assert (got[0] + got[1]).count(number) == 4
    invariants.check_at_rest(rig)


def test_a_group_goes_on_without_those_who_leave() -> None:
    rig = Rig()
    a, b = join(rig, 2, 0)
    source = Source(rig)
    a.send(wire.unsubscribe(2, "t"), wire.unsubscribe(3, SHARED))
    assert a.take() == wire.unsuback(2) + wire.unsuback(3)
    source.publish(4, 0)
    assert numbers(b) == [1, 2, 3, 4]
    b.send(wire.DISCONNECT)
    source.publish(1, 0)
    assert a.take() == b""
    router = rig.broker._ws.router
    assert router.count == router.shared_count == router.filter_count == router.size_bytes == 0
    a.subscribe((SHARED, 0))
    source.publish(1, 0)
    assert numbers(a) == [6]


def test_two_groups_of_one_filter_come_and_go_alone() -> None:
    rig = Rig()
    a, b = rig.connect("a"), rig.connect("b")
    a.subscribe(("$share/g/t", 0))
    b.subscribe(("$share/h/t", 0))
    source = Source(rig)
    source.publish(1, 0)
    a.send(wire.unsubscribe(2, "$share/g/t"))
    assert a.take() == wire.publish("t", b"1") + wire.unsuback(2)
    source.publish(1, 0)
    assert (numbers(a), numbers(b)) == ([], [1, 2])
    router = rig.broker._ws.router
    assert router.count == router.shared_count == router.filter_count == 1


def test_who_subscribes_again_stays_one_member() -> None:
    rig = Rig()
    a, b = join(rig, 2, 0)
    a.subscribe((SHARED, 1))
    Source(rig).publish(4)
    assert {publish.qos for publish in a.publishes()} == {1}
    assert {publish.qos for publish in b.publishes()} == {0}
    assert rig.broker.subscription_count == 2
    a.subscribe((SHARED, 0))
    assert rig.broker.subscription_count == 2
    invariants.check_at_rest(rig)


@pytest.mark.statement("MQTT-4.8.2-3")
def test_each_member_has_its_own_qos_and_options() -> None:
    rig = Rig()
    identifier = prop(0x0B, b"\x07")
    plain = rig.connect("plain")
    plain.subscribe((SHARED, 0))
    kept = connect5(rig, "kept")
    subscribe5(kept, SHARED, 0x08 | 1, identifier)  # retain as published
    cleared = connect5(rig, "cleared")
    subscribe5(cleared, SHARED, 2)
    publisher = rig.connect("p")
    for at in range(1, 8):
        publisher.send(wire.publish("t", b"x", 2, at, retain=True))
    assert {(each.qos, each.retain) for each in plain.publishes()} == {(0, False)}
    for client, qos, retain, properties in ((kept, 1, True, identifier), (cleared, 2, False, b"")):
        received = wire5.publishes(client.take())
        assert len(received) >= 1
        assert {each.qos for each in received} == {qos}
        assert {each.retain for each in received} == {retain}
        assert {each.properties for each in received} == {properties}


def test_a_member_is_not_told_of_its_other_subscriptions() -> None:
    rig = Rig()
    client = connect5(rig, "c")
    subscribe5(client, "t", 0, prop(0x0B, b"\x01"))
    subscribe5(client, SHARED, 0, prop(0x0B, b"\x02"))
    subscribe5(client, "#", 0, prop(0x0B, b"\x03"))
    rig.connect("p").send(wire.publish("t", b"x"))
    one, two, three = (prop(0x0B, bytes([number])) for number in (1, 2, 3))
    properties = {each.properties for each in wire5.publishes(client.take())}
    assert properties in ({one + three, two}, {three + one, two})


@pytest.mark.statement("P5-4.8.2-1")
def test_retained_messages_do_not_go_to_groups() -> None:
    rig = Rig()
    rig.connect("p").send(wire.publish("t", b"x", retain=True))
    a = rig.connect("a")
    a.subscribe((SHARED, 0), ("$share/g/#", 0))
    assert a.take() == b""


def test_dollar_topics_are_matched_without_the_group() -> None:
    rig = Rig()
    a, b = rig.connect("a"), rig.connect("b")
    a.subscribe(("$share/g/#", 0), ("$share/g/+/x", 0))
    b.subscribe(("$share/g/$other/#", 0))
    rig.connect("p").send(wire.publish("$other/x", b"x"), wire.publish("$share/g/t", b"y"))
    assert a.take() == b""
    assert b.payloads() == [b"x"]


# What is refused


@pytest.mark.statement("MQTT-4.8.2-1")
@pytest.mark.statement("MQTT-4.8.2-2")
@pytest.mark.parametrize(
    "name", ["$share", "$share/", "$share//t", "$share/g", "$share/g/", "$share/+/t", "$share/#"]
)
def test_a_filter_that_names_no_group_is_refused(name: str) -> None:
    rig = Rig(policy=TablePolicy())
    old = rig.connect("old")
    old.send(wire.subscribe(1, (name, 0), ("t", 1)))
    assert old.take() == wire.suback(1, 0x80, 1)
    new = connect5(rig, "new")
    new.send(wire5.subscribe(1, (name, 0)))
    frame = new.frames()[0]
    assert (frame.kind, frame.body[-1]) == (9, 0x8F) or (frame.kind, frame.body[0]) == (14, 0x8F)
    assert rig.broker.subscription_count == 1
    rig.no_faults()


@pytest.mark.statement("MQTT-3.8.3-4")
def test_no_local_is_not_for_groups() -> None:
    rig = Rig()
    client = connect5(rig, "c")
    client.send(wire5.subscribe(1, (SHARED, 4)))
    assert client.frames()[0].body[:1] == b"\x82"
    assert client.is_closed


def test_rules_are_asked_for_the_filter_that_is_shared() -> None:
    policy = TablePolicy({"t": DENY, "u": ALLOW})
    rig = Rig(policy=policy)
    client = rig.connect("c")
    client.send(wire.subscribe(1, (SHARED, 0), ("$share/g/u", 0)))
    assert client.take() == wire.suback(1, 0x80, 0)
    assert policy.asked == [("c", SUBSCRIBE_ACTION, "t"), ("c", SUBSCRIBE_ACTION, "u")]


def test_a_server_without_groups_refuses_them() -> None:
    rig = Rig(shared_subscriptions=False)
    old, new = rig.connect("old"), connect5(rig, "new")
    old.send(wire.subscribe(1, (SHARED, 0)))
    assert old.take() == wire.suback(1, 0x80)
    new.send(wire5.subscribe(1, (SHARED, 0)))
    assert new.frames()[0].body[0] == 0x9E
    assert new.is_closed


def test_members_count_as_subscriptions() -> None:
    rig = Rig(max_subscriptions=2, max_topic_levels=2)
    a, b = join(rig, 2, 0)
    a.send(wire.subscribe(2, ("$share/h/t", 0)))
    assert a.take() == wire.suback(2, 0x80)
    b.send(wire.unsubscribe(3, SHARED))
    b.take()
    a.send(wire.subscribe(2, ("$share/h/t/x", 0), ("$share/h/t/x/y", 0)))
    assert a.take() == wire.suback(2, 0, 0x80)  # the group is no level


def test_sys_tells_shared_subscriptions_apart() -> None:
    rig = Rig(sys_interval_secs=10)
    a = rig.connect("a")
    a.subscribe((SHARED, 0), ("$share/h/t", 0), ("t", 0))
    rig.advance(10)
    name = "$SYS/broker/{}/count"
    a.send(wire.subscribe(2, (name.format("shared_subscriptions"), 0), (name.format("+"), 0)))
    a.take()
    rig.connect("b").subscribe((SHARED, 0))
    rig.advance(10)
    told = {publish.topic: publish.payload for publish in a.publishes()}
    assert told[name.format("shared_subscriptions")] == b"3"
    a.send(wire.subscribe(3, (name.format("subscriptions"), 0)))
    frames = a.frames()
    assert wire.read_publish(frames[1]).payload == b"3"  # t, and two for `$SYS`
    assert len(frames) == 2


# Who can take more, and who cannot


def test_a_full_window_lets_others_go_first() -> None:
    rig = Rig(max_inflight_messages=2)
    a, b, c = join(rig, 3)
    source = Source(rig)
    source.publish(6)
    assert [numbers(each) for each in (a, b, c)] == [[1, 4], [2, 5], [3, 6]]
    b.send(wire.puback(1))
    source.publish(1)
    assert numbers(b) == [7]
    for each in (a, c):
        each.send(wire.puback(1))
    source.publish(2)
    assert (numbers(a), numbers(c)) in (([8], [9]), ([9], [8]))
    invariants.check_at_rest(rig)


def test_of_the_next_two_the_one_with_less_to_do_goes_first() -> None:
    rig = Rig()
    a, b = join(rig, 2)
    source = Source(rig)
    source.publish(8)
    a.take()
    acked(b)
    source.publish(4)
    assert numbers(a) == []
    assert numbers(b) == [9, 10, 11, 12]
    source.publish(4)
    assert len(numbers(a)) == len(numbers(b)) == 2


def test_a_busy_member_has_the_same_as_others_when_it_is_not_busy() -> None:
    rig = Rig(max_inflight_messages=1)
    members = join(rig, 5)
    source = Source(rig)
    counts = [0] * 5
    for _ in range(100):
        source.publish(1)
        for at, member in enumerate(members):
            counts[at] += len(acked(member))
    assert counts == [20] * 5


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_socket_that_takes_nothing_is_passed_over(qos: int) -> None:
    rig = Rig()
    a, b = join(rig, 2, qos)
    source = Source(rig)
    a.block()
    source.publish(10, qos)
    assert len(numbers(b)) == 10
    a.unblock()
    assert a.take() == b""
    b.block()
    source.publish(5, qos)
    assert len(numbers(a)) == 5
    invariants.check_at_rest(rig)


def test_who_is_away_is_passed_over_and_comes_back() -> None:
    rig = Rig()
    a, b = rig.persistent("a"), rig.connect("b")
    for member in (a, b):
        member.subscribe((SHARED, 1))
    source = Source(rig)
    a.cut()
    source.publish(4)
    assert acked(b) == [1, 2, 3, 4]
    a = rig.persistent("a", present=True)
    source.publish(4)
    assert (len(acked(a)), len(acked(b))) == (2, 2)
    a.cut()
    b.block()
    source.publish(2)
    b.unblock()
    assert acked(b) == [9, 10]
    assert rig.persistent("a", present=True).take() == b""
    invariants.check_at_rest(rig)


def test_a_full_window_still_takes_qos_0() -> None:
    rig = Rig(max_inflight_messages=1)
    a, b = join(rig, 2)
    source = Source(rig)
    source.publish(2)
    a.take()
    b.take()
    b.block()
    source.publish(3, 0)
    assert numbers(a) == [3, 4, 5]
    b.unblock()
    assert b.take() == b""
    source.publish(2, 0)
    assert (numbers(a), numbers(b)) in (([6], [7]), ([7], [6]))


def test_what_nobody_can_take_is_spread_over_the_queues() -> None:
    rig = Rig(max_inflight_messages=1)
    members = join(rig, 4)
    Source(rig).publish(24)
    assert [len(numbers(member)) for member in members] == [1] * 4
    sessions = [rig.broker._sessions.by_client[f"m{at}"] for at in range(4)]
    assert [session.queue and session.queue.count for session in sessions] == [5] * 4
    for member in members:
        got = []
        for _ in range(5):
            member.send(wire.puback(1), wire.puback(2))
            got += numbers(member)
        assert got == sorted(got)
    invariants.check_at_rest(rig)


def test_with_everybody_away_persistent_members_share_what_comes() -> None:
    rig = Rig(max_inflight_messages=100)
    for at in range(3):
        member = rig.persistent(f"m{at}")
        member.subscribe((SHARED, 1))
        member.cut()
    source = Source(rig)
    source.publish(9)
    source.publish(1, 0)
    assert rig.broker.stats.dropped_qos_0_offline == 1
    got = [acked(rig.persistent(f"m{at}", present=True)) for at in range(3)]
    assert [len(each) for each in got] == [3, 3, 3]
    assert all(each == sorted(each) for each in got)


def test_qos_0_waits_for_somebody_if_it_may() -> None:
    rig = Rig(queue_qos0_offline=True)
    for at in range(2):
        member = rig.persistent(f"m{at}")
        member.subscribe((SHARED, at))
        member.cut()
    Source(rig).publish(4, 0)
    assert [len(numbers(rig.persistent(f"m{at}", present=True))) for at in range(2)] == [2, 2]


def test_a_message_goes_where_it_is_not_lost() -> None:
    """A member that was granted QoS 0 would lose it while it is away."""
    rig = Rig()
    for at in range(2):
        member = rig.persistent(f"m{at}")
        member.subscribe((SHARED, at))
        member.cut()
    Source(rig).publish(6)
    assert rig.persistent("m0", present=True).take() == b""
    assert numbers(rig.persistent("m1", present=True)) == [1, 2, 3, 4, 5, 6]
    assert rig.broker.stats.dropped_qos_0_offline == 0


@pytest.mark.statement("MQTT-3.1.2-25")
def test_who_takes_only_small_packets_gets_only_those() -> None:
    rig = Rig()
    small, large = connect5(rig, "small", prop(0x27, u32(40))), rig.connect("large")
    subscribe5(small, SHARED, 1)
    large.subscribe((SHARED, 1))
    publisher = rig.connect("p")
    for at in range(1, 5):
        publisher.send(wire.publish("t", bytes(100), 1, at))
    assert len(large.publishes()) == 4
    assert small.take() == b""
    publisher.send(wire.publish("t", b"x", 1, 5))
    assert len(wire5.publishes(small.take())) == 1
    large.cut()
    assert rig.broker.stats.dropped_too_large == 0
    publisher.send(wire.publish("t", bytes(100), 1, 6))
    assert rig.broker.stats.dropped_too_large >= 1
    assert small.take() == b""


def test_a_receive_maximum_is_a_window() -> None:
    rig = Rig()
    narrow, wide = connect5(rig, "narrow", prop(0x21, u16(1))), rig.connect("wide")
    subscribe5(narrow, SHARED, 1)
    wide.subscribe((SHARED, 1))
    source = Source(rig)
    source.publish(10)
    assert len(wire5.publishes(narrow.take())) == 1
    assert len(numbers(wide)) == 9
    narrow.send(wire5.puback(1))
    source.publish(1)
    assert len(wire5.publishes(narrow.take())) == 1


# Full queues


def full(rig: Rig, qos: int = 1) -> tuple[list[Client], Source]:
    """Three members whose windows are full, and the first two queues of one message too."""
    members = join(rig, 3, qos)
    source = Source(rig)
    source.publish(5)
    for member in members:
        member.take()
    return members, source


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest", "disconnect", "refuse"])
def test_a_full_queue_is_nobodys_loss_while_another_has_room(policy: str) -> None:
    rig = Rig(max_inflight_messages=1, max_queued_messages=1, queue_full_policy=policy)
    members, source = full(rig)
    source.publish(1)
    assert rig.broker.stats.dropped == 0
    got = []
    for member in members:
        member.send(wire.puback(1))
        got += numbers(member)
    assert sorted(got) == [4, 5, 6]
    assert not any(member.is_closed for member in members)
    assert not source.client.is_closed


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest", "disconnect", "refuse"])
def test_the_policy_is_applied_to_one_member_when_all_are_full(policy: str) -> None:
    rig = Rig(
        max_inflight_messages=1,
        max_queued_messages=1,
        queue_full_policy=policy,
        shared_redelivery=False,
    )
    members, source = full(rig)
    source.publish(2)
    stats = rig.broker.stats
    assert source.client.is_closed is (policy == "refuse")
    assert stats.refused_queue_full == (policy == "refuse")
    assert stats.dropped_queue_full == (policy != "refuse")
    assert sum(member.is_closed for member in members) == (policy == "disconnect")
    got = []
    for member in members:
        if not member.is_closed:
            member.send(wire.puback(1))
            got += numbers(member)
    expected = {"drop-newest": [4, 5, 6], "refuse": [4, 5, 6], "drop-oldest": [5, 6, 7]}
    assert sorted(got) == expected.get(policy, sorted(got))
    invariants.check(rig)


def test_a_copy_that_drops_the_other_of_the_same_message_is_all_that_is_stored() -> None:
    rig = Rig(max_queued_messages=1, queue_full_policy="drop-oldest")
    client = rig.persistent("c")
    client.subscribe(("t", 1))
    client.subscribe((SHARED, 1))
    client.cut()
    Source(rig).publish(1)
    assert rig.broker.stats.dropped_queue_full == 1
    restarted = Rig(engine=rig.engine)
    assert numbers(restarted.persistent("c", present=True)) == [1]


def test_qos_0_is_dropped_only_when_everybody_is_full() -> None:
    rig = Rig(max_queued_messages=2)
    a, b = join(rig, 2, 0)
    for member in (a, b):
        member.block()
    source = Source(rig)
    source.publish(4, 0)
    assert rig.broker.stats.dropped_qos_0 == 0
    source.publish(1, 0)
    assert rig.broker.stats.dropped_qos_0 == 1
    for member in (a, b):
        member.unblock()
    assert sorted(numbers(a) + numbers(b)) == [1, 2, 3, 4]


def test_refuse_counts_a_member_only_if_all_are_full() -> None:
    """With QoS 0 granted nothing is refused, as for any subscription at QoS 0."""
    rig = Rig(max_inflight_messages=1, max_queued_messages=0, queue_full_policy="refuse")
    zero, one = rig.connect("zero"), rig.connect("one")
    zero.subscribe((SHARED, 0))
    one.subscribe((SHARED, 1))
    zero.block()
    source = Source(rig)
    source.publish(1)
    assert numbers(one) == [1]
    source.publish(1)  # both are full, and one of them at QoS 1
    assert source.client.is_closed or rig.broker.stats.dropped_qos_0 == 1


# The cost of a choice


def visits(rig: Rig) -> int:
    """Members that choices have looked at so far."""
    return rig.broker._publishing._choosing.visits


def test_a_choice_among_a_thousand_looks_at_two() -> None:
    rig = Rig(max_inflight_messages=1)
    members = join(rig, 1_000)
    source = Source(rig)
    before = visits(rig)
    source.publish(500)
    assert visits(rig) - before <= 2 * 500
    for member in members[:500]:
        acked(member)
    before = visits(rig)
    source.publish(1_000)
    # Each of those that are busy by now is found out once, and those that have come back twice.
    assert visits(rig) - before <= 2 * 1_000 + 1_000
    before = visits(rig)
    source.publish(500)  # all windows are full: each goes to a queue
    assert visits(rig) - before <= 2 * 500 + 1_000
    sessions = list(rig.broker._sessions.by_client.values())
    counts = [0 if each.queue is None else each.queue.count for each in sessions[:1_000]]
    assert sum(counts) == 500
    assert max(counts) == 1
    invariants.check_at_rest(rig)


def test_who_is_away_is_found_out_once() -> None:
    rig = Rig()
    members = [rig.persistent(f"m{at}") for at in range(1_000)]
    for member in members:
        member.subscribe((SHARED, 1))
    for member in members[:-1]:
        member.cut(pump=False)
    rig.pump()
    source = Source(rig)
    before = visits(rig)
    source.publish(100)
    assert visits(rig) - before <= 1_000 + 2 * 100
    assert len(numbers(members[-1])) == 100
    before = visits(rig)
    source.publish(100)
    assert visits(rig) - before <= 2 * 100
    members[-1].cut()
    before = visits(rig)
    source.publish(100)
    assert visits(rig) - before <= 2 * 100 + 2


def test_full_queues_are_looked_at_in_part() -> None:
    rig = Rig(max_queued_messages=0)
    for at in range(200):
        member = rig.persistent(f"m{at}")
        member.subscribe((SHARED, 1))
        member.cut(pump=False)
    source = Source(rig)
    source.publish(1)
    before = visits(rig)
    source.publish(100)
    assert rig.broker.stats.dropped_queue_full == 101
    assert visits(rig) - before <= 20 * 100


# Once for each message


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_wide_message_chooses_once(qos: int) -> None:
    rig = Rig(turn_deliveries=200, max_inflight_messages=1_000)
    crowd = [rig.connect(f"c{at}") for at in range(400)]
    for client in crowd:
        client.subscribe(("t", qos))
    members = join(rig, 3, qos)
    many = rig.connect("many")
    many.subscribe(*((f"$share/{at}/t", qos) for at in range(300)))
    source = Source(rig)
    source.publish(3, qos)
    assert all(len(client.publishes()) == 3 for client in crowd)
    assert sorted(number for member in members for number in numbers(member)) == [1, 2, 3]
    assert sorted(numbers(many)) == [1] * 300 + [2] * 300 + [3] * 300
    invariants.check_at_rest(rig)


def test_a_group_that_leaves_during_a_wide_message() -> None:
    rig = Rig(turn_deliveries=200)
    crowd = [rig.connect(f"c{at}") for at in range(600)]
    for client in crowd:
        client.subscribe(("t", 0))
    member = rig.connect("m")
    member.subscribe((SHARED, 0))
    rig.connect("p").send(wire.publish("t", b"x"), pump=False)
    member.send(wire.unsubscribe(2, SHARED), pump=False)
    rig.pump()
    assert member.take() == wire.unsuback(2)
    rig.no_faults()


def test_a_message_that_is_stored_at_the_second_try_keeps_its_member() -> None:
    rig = Rig()
    rig.engine = RefusingEngine(rig.engine, 0)
    members = [rig.persistent(f"m{at}") for at in range(3)]
    for member in members:
        member.subscribe((SHARED, 2))
    publisher = rig.persistent("p")
    engine = rig.engine
    assert isinstance(engine, RefusingEngine)
    engine._refuses = engine.count + 1
    publisher.send(wire.publish("t", b"1", 2, 1))
    assert publisher.is_closed
    assert not any(member.received for member in members)
    publisher = rig.persistent("p", present=True)
    publisher.send(wire.publish("t", b"1", 2, 1, dup=True))
    assert publisher.take() == wire.pubrec(1)
    assert [numbers(member) for member in members] == [[1], [], []]
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("redelivers", [True, False])
def test_a_member_that_ends_before_the_second_try_is_replaced(redelivers: bool) -> None:
    rig = Rig(shared_redelivery=redelivers)
    engine = RefusingEngine(rig.engine, 0)
    rig.engine = engine
    first, second = rig.persistent("m0"), rig.persistent("m1")
    for member in (first, second):
        member.subscribe((SHARED, 2))
    publisher = rig.persistent("p")
    engine._refuses = engine.count + 1
    publisher.send(wire.publish("t", b"1", 2, 1))
    assert publisher.is_closed
    first = rig.connect("m0")
    publisher = rig.persistent("p", present=True)
    publisher.send(wire.publish("t", b"1", 2, 1, dup=True))
    assert publisher.take() == wire.pubrec(1)
    assert numbers(second) == ([1] if redelivers else [])
    assert first.take() == b""
    invariants.check_at_rest(rig)


def replaced(rig: Rig, others: list[Client]) -> list[bytes]:
    """The member that a QoS 2 message was for ends before it is stored at the second try; what
    the others have got then. The publisher gets its PUBREC in any case."""
    engine = RefusingEngine(rig.engine, 0)
    rig.engine = engine
    member = rig.persistent("first")
    member.subscribe((SHARED, 2))
    for other in others:
        other.block()  # else the message might be for one of them
    publisher = rig.persistent("p")
    engine._refuses = engine.count + 1
    publisher.send(wire.publish("t", b"1", 2, 1))
    assert publisher.is_closed
    for other in others:
        other.unblock()
    rig.connect("first").cut()
    publisher = rig.persistent("p", present=True)
    publisher.send(wire.publish("t", b"1", 2, 1, dup=True))
    assert publisher.take() == wire.pubrec(1)
    invariants.check_at_rest(rig)
    return [payload for other in others for payload in other.payloads()]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_who_replaces_a_member_need_not_be_persistent(qos: int) -> None:
    rig = Rig()
    other = rig.connect("other")
    other.subscribe((SHARED, qos))
    assert replaced(rig, [other]) == [b"1"]


def test_a_persistent_member_may_have_been_granted_qos_0() -> None:
    rig = Rig()
    other = rig.persistent("other")
    other.subscribe((SHARED, 0))
    assert replaced(rig, [other]) == [b"1"]


def test_there_may_be_nobody_to_replace_a_member() -> None:
    rig = Rig()
    assert replaced(rig, []) == []
    assert rig.broker.stats.dropped_session_ended == 1


def test_who_replaces_a_member_may_have_no_room() -> None:
    rig = Rig(max_queued_messages=0)
    other = rig.persistent("other")
    other.subscribe((SHARED, 2))
    assert replaced(rig, [other]) == []
    assert rig.broker.stats.dropped_queue_full == 1


def test_members_come_back_with_their_stored_sessions() -> None:
    rig = Rig()
    for at in range(2):
        member = rig.persistent(f"m{at}")
        member.subscribe((SHARED, 1))
        member.cut()
    Source(rig).publish(4)
    later = Rig(engine=rig.engine)
    assert later.broker.subscription_count == 0
    first = later.persistent("m0", present=True)
    assert len(acked(first)) == 2
    source = Source(later, "another")
    source.publish(2)
    assert len(acked(first)) == 2
    second = later.persistent("m1", present=True)
    assert len(acked(second)) == 2
    source.publish(2)
    assert len(acked(first)) == len(acked(second)) == 1
    assert later.broker._ws.router.shared_count == 2
    for client_id in ("m0", "m1", "source", "another"):
        for client in list(later.clients):
            client.cut()
        later.connect(client_id).cut()
    assert any(
        isinstance(each, EndSession)
        for request in later.requests
        for each in getattr(request, "operations", ())
    )
    invariants.check_empty(later)
