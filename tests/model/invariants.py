"""What must hold between any two steps of a broker, whatever its clients have done.

Every total is counted again from what it is a total of, so that a place that forgets to count is
found at once and not when a limit fails one day.
"""

from __future__ import annotations

from mqtt_core import Flow, State
from mqtt_core._flow import AWAITING_SUBACK, AWAITING_UNSUBACK, FREE
from mqtt_core.broker import CLOSE_NO, Channel
from mqtt_core.broker._ledger import STORED_BYTES
from mqtt_core.broker._router import unshared
from mqtt_core.broker._session import Session
from mqtt_core.broker._shared import READY, Group, Member, standing
from tests.rig import Rig


def check(rig: Rig) -> None:
    """Everything, between two calls of the broker."""
    _check_channels(rig)
    _check_sessions(rig)
    _check_store_side(rig)
    _check_claims(rig)


def check_at_rest(rig: Rig) -> None:
    """And what holds besides once there is nothing left to do."""
    check(rig)
    ws = rig.broker._ws
    assert not ws.work
    assert not ws.dirty
    assert not ws.dirty_bulk
    assert not ws.requests
    assert ws.unflushed == 0
    for channel in rig.broker._endings.channels.values():
        client = channel.transport
        is_over = channel.gone and channel.close != CLOSE_NO  # lingers, for nobody
        assert client is not None or is_over, f"{channel!r} is open and nobody's"
        if channel.is_writable:
            assert channel.output.is_empty, f"{channel!r} has been forgotten by the flush"
            session = channel.session
            if session is not None and session.queue is not None and channel.close == CLOSE_NO:
                assert not session.queue.has_qos_0, f"{channel!r} could take QoS 0"
    for session in rig.broker._sessions.by_client.values():
        for subscriber in session.subscriptions.values():
            if isinstance(subscriber, Member) and subscriber.ring is not None:
                is_known = subscriber.ring.standing <= standing(subscriber)
                assert is_known, f"{session.client_id} can take more and was not called back"


def check_empty(rig: Rig) -> None:
    """Nothing is left of any client."""
    check_at_rest(rig)
    broker = rig.broker
    ws = broker._ws
    stats = broker.stats
    assert not rig.clients
    assert broker.session_count == 0
    assert broker.subscription_count == 0
    assert ws.router.filter_count == 0
    assert ws.router.size_bytes == 0
    assert not ws.pending
    assert not ws.asking
    assert ws.held_identifiers == 0
    assert ws.undelivered.count == 0
    assert ws.orphaned_bytes == 0
    assert ws.router.shared_count == 0
    assert ws.uncommitted_bytes == 0
    assert ws.input_bytes == 0
    assert ws.retained_readers == 0
    assert stats.connections == stats.half_connected == 0
    assert stats.clients_connected == stats.sessions_detached == 0
    assert stats.queued_messages == stats.queued_bytes == 0
    assert stats.faults == 0


def _check_channels(rig: Rig) -> None:
    broker = rig.broker
    ws = broker._ws
    channels = list(broker._endings.channels.values())
    assert broker.stats.connections == len(channels)
    half = [each for each in channels if each.session is None and each.close == CLOSE_NO]
    assert broker.stats.half_connected == len(half)
    assert ws.input_bytes == sum(each.buffered for each in channels)
    assert not ws.doomed
    assert not ws.is_bulk
    assert broker._delivery.resting is None
    for channel in channels:
        _check_channel(rig, channel)
    for channel in ws.asking.values():
        assert channel.is_open, f"a decision is awaited for {channel!r}, which is closed"


def _check_channel(rig: Rig, channel: Channel) -> None:
    assert channel.is_open
    limits = rig.limits
    session = channel.session
    if session is not None and channel.close == CLOSE_NO:
        assert session.channel is channel
        assert not session.is_ended
        assert channel.connection.state == State.CONNECTED
        if channel.accepts:
            assert channel.is_writable
            assert not channel.is_full
            assert session.queue is None or not session.queue.has_qos_0, "QoS 0 would be overtaken"
    assert channel.connection.buffer.partial_bytes <= limits.max_packet_size_bytes
    assert channel.uncommitted >= 0
    if channel.close != CLOSE_NO:
        assert not channel.accepts


def _check_sessions(rig: Rig) -> None:
    broker = rig.broker
    ws = broker._ws
    stats = broker.stats
    sessions = list(broker._sessions.by_client.values())
    connected = [each for each in sessions if each.channel is not None]
    assert stats.clients_connected == len(connected)
    detached = [each for each in sessions if each.channel is None]
    assert stats.sessions_detached == len(detached)
    assert all(each.key for each in detached), "a clean session outlives its connection"
    queues = [each.queue for each in sessions if each.queue is not None]
    assert stats.queued_messages == sum(each.count for each in queues)
    assert stats.queued_bytes == sum(each.size_bytes for each in queues)
    flows = [each.flow for each in sessions if each.flow is not None]
    waiting = sum(each.in_flight_bytes for each in flows)
    assert ws.orphaned_bytes >= 0
    in_memory = sum(each.memory_bytes for each in queues)
    assert ws.undelivered.count == waiting + in_memory + ws.orphaned_bytes
    for queue in queues:
        here = sum(each.message.size_bytes for each in queue.here())
        stored = queue.size_bytes - here
        cost = rig.engine.index_bytes
        if cost is not None:
            stored = queue.stored_count * (STORED_BYTES + cost)
        assert queue.memory_bytes == here + stored
    assert ws.held_identifiers == sum(each.held_count for each in flows)
    assert ws.router.count == sum(len(each.subscriptions) for each in sessions)
    members = [
        subscriber
        for each in sessions
        for subscriber in each.subscriptions.values()
        if isinstance(subscriber, Member)
    ]
    assert ws.router.shared_count == len(members)
    for group in {id(member.group): member.group for member in members}.values():
        _check_group(rig, group)
    for client_id, session in broker._sessions.by_client.items():
        assert session.client_id == client_id
        _check_session(rig, session)


def _check_session(rig: Rig, session: Session) -> None:
    limits = rig.limits
    assert not session.is_ended
    if session.channel is not None:
        assert session.channel.session is session
        assert session.channel.close == CLOSE_NO
    queue = session.queue
    if queue is not None:
        # What a member could take at once rests in its queue until it is stored there.
        most = max(limits.max_queued_messages, 1 if session.is_sharing else 0)
        assert 0 <= queue.count <= most, "the queue is over its limit"
        assert 0 <= queue.size_bytes <= limits.max_queued_bytes, "the queue is over its bytes"
    flow = session.flow
    if flow is not None:
        _check_flow(flow)
        assert flow.in_flight + session.reserved <= limits.max_inflight_messages
        if session.channel is not None:  # what is not sent again yet does not count
            again = len(session.resend or ())
            assert flow.in_flight - again <= flow.window, "more than the client takes"
        for packet_id in session.particulars or ():
            assert flow.step(packet_id) != FREE
        for packet_id in session.numbers or ():
            assert flow.step(packet_id) != FREE
        gate = session.gate
        for gated in gate or ():
            assert flow.step(gated.packet_id) != FREE
    assert session.reserved >= 0
    for topic_filter, subscriber in session.subscriptions.items():
        assert subscriber.session is session
        if isinstance(subscriber, Member):
            _check_member(topic_filter, subscriber)
            continue
        assert subscriber.index >= 0
        assert subscriber.subscribers.topic_filter == topic_filter
        found = subscriber.subscribers.at_qos(subscriber.qos)
        assert found is not None
        assert found[subscriber.index] is subscriber


def _check_group(rig: Rig, group: Group) -> None:
    subscribers = rig.broker._ws.router._find(unshared(group.topic_filter))
    assert subscribers is not None
    assert subscribers.groups is not None
    assert subscribers.groups[group.topic_filter] is group
    count = 0
    for at, ring in enumerate(group.rings):
        assert ring.standing == at
        member = ring.first
        for _ in range(ring.count):
            count += 1
            assert member is not None
            assert member.ring is ring
            assert member.group is group
            assert member.next is not None
            assert member.next.previous is member
            member = member.next
        assert member is ring.first, "the ring has more or fewer members than it counts"
    assert count == group.count


def _check_member(topic_filter: bytes, member: Member) -> None:
    assert member.subscribers.topic_filter == unshared(topic_filter)
    assert member.group.topic_filter == topic_filter
    ring = member.ring
    assert ring is not None, "a member is in no ring"
    session = member.session
    for at, members in enumerate(session.aside or ()):
        is_aside = at == ring.standing and at != READY
        assert (members.get(topic_filter) is member) == is_aside
    if session.aside is None:
        assert ring.standing == READY


def _check_flow(flow: Flow) -> None:
    ids = flow.unfinished()
    assert len(set(ids)) == len(ids)
    messages = [flow.message(packet_id) for packet_id in ids]
    assert flow.in_flight_bytes == sum(each.size_bytes for each in messages if each is not None)
    requests = (AWAITING_SUBACK, AWAITING_UNSUBACK)
    assert flow.in_flight == sum(flow.step(packet_id) not in requests for packet_id in ids)


def _check_store_side(rig: Rig) -> None:
    ws = rig.broker._ws
    assert ws.uncommitted_bytes >= 0
    if not ws.pending:
        assert not rig.broker._sessions.unborn, "a session is stored for nobody"
        assert ws.uncommitted_bytes == 0
        assert ws.retained_readers == 0
        assert not ws.store_waiters
    for channel in rig.broker._endings.channels.values():
        if channel.acks and channel.close == CLOSE_NO:
            assert not channel.acks[0].is_ready, "an acknowledgement has been forgotten"
            assert channel.uncommitted or ws.pending


def _check_claims(rig: Rig) -> None:
    for client_id, attempt in rig.broker._sessions.claims.items():
        assert attempt.client_id == client_id
        assert not attempt.is_over
        assert attempt.channel.is_open
        assert attempt.channel.attempt is attempt
