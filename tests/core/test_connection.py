"""A connection for programs that are no broker: acknowledgements, resumption, keep-alive."""

from __future__ import annotations

import pytest

from mqtt_core import (
    CLIENT,
    SERVER,
    ConnAck,
    Connect,
    Connection,
    ConnectionLost,
    ConnectionRefused,
    Disconnect,
    LocalProtocolError,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    RemoteProtocolError,
    State,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
    make_message,
    make_publish,
)
from tests.core import wire
from tests.rig import Pair, Rig


def connected(keep_alive_s: int = 0, *, manual_acks: bool = False) -> Connection:
    """A client that is connected and has sent nothing else."""
    client = Connection(CLIENT, manual_acks=manual_acks)
    client.send_connect(Connect("c", keep_alive_s=keep_alive_s), 0.0)
    client.receive_data(wire.connack(), 0.0)
    assert client.events() == [ConnAck()]
    client.data_to_send()
    return client


def resumed(client: Connection, *, present: bool = True) -> Connection:
    """The next connection of a client's session."""
    client.eof(0.0)
    again = Connection(CLIENT, flow=client.flow)
    again.send_connect(Connect("c", clean_start=False), 0.0)
    again.data_to_send()
    again.receive_data(wire.connack(present=present), 0.0)
    return again


# Both ends


def test_two_connections_speak_to_each_other() -> None:
    pair = Pair()
    connect = Connect("c", False, 5, Will("w", b"x"), "u", b"p")
    assert pair.connect(connect, ConnAck(True)) == ConnAck(True)
    assert pair.server is not None
    assert pair.server_events.pop(0) == connect
    first = pair.client.send_publish("t", b"0", now=pair.now)
    second = pair.client.send_publish("t", b"1", 1, now=pair.now)
    third = pair.client.send_publish("t", b"2", 2, True, now=pair.now)
    assert (first, second > 0, third > second) == (0, True, True)
    assert pair.take_events() == [PubAck(second), PubRec(third), PubComp(third)]
    assert pair.server_events == [
        make_publish("t", b"0"),
        make_publish("t", b"1", 1, False, second),
        make_publish("t", b"2", 2, True, third),
        PubRel(third),
    ]
    assert pair.client.flow is not None
    assert pair.client.flow.is_empty
    pair.client.send_disconnect(pair.now)
    pair.move()
    assert pair.server_events[-1] == Disconnect()
    assert pair.client.wants_close
    assert not pair.client.wants_read
    pair.server.eof(pair.now)
    assert pair.server.events() == []


def test_a_client_and_a_broker() -> None:
    pair = Pair(Rig())
    assert pair.connect(Connect("c")) == ConnAck()
    asked = pair.client.send_subscribe([("a/#", 2), ("b", 1)], pair.now)
    assert pair.take_events() == [SubAck(asked, (2, 1))]
    sent = pair.client.send_publish("a/b", b"x", 2, now=pair.now)
    events = pair.take_events()
    (received,) = [each for each in events if isinstance(each, type(make_publish("t", b"")))]
    assert received.message == make_message("a/b", b"x", 2)
    assert PubComp(sent) in events
    asked = pair.client.send_unsubscribe(["a/#", "none"], pair.now)
    assert pair.take_events() == [UnsubAck(asked)]
    assert pair.rig is not None
    pair.rig.no_faults()


def test_a_server_is_read_up_to_connect_and_then_from_connack_on() -> None:
    server = Connection(SERVER)
    server.receive_data(wire.connect("c", level=3) + wire.PINGREQ + wire.publish("t"), 0.0)
    assert server.events() == [Connect("c", level=3)]
    assert server.level == 3
    server.send_connack(ConnAck(), 0.0)
    assert server.events() == []
    server.receive_data(b"", 0.0)
    assert server.events() == [PingReq(), make_publish("t", b"")]


@pytest.mark.statement("v3 MQTT-3.2.2-5")
def test_a_server_refuses_and_reads_no_more() -> None:
    server = Connection(SERVER, newest_level=4)
    with pytest.raises(ConnectionRefused) as caught:
        server.receive_data(wire.connect(level=5), 0.0)
    server.send_connack(ConnAck(False, caught.value.reason), 0.0)
    assert server.data_to_send() == wire.connack(1)
    assert server.wants_close
    with pytest.raises(LocalProtocolError):
        server.send_connack(ConnAck(), 0.0)


def test_an_error_keeps_what_came_before_it() -> None:
    client = connected()
    with pytest.raises(RemoteProtocolError, match=r"at byte 13 \[MQTT-3.3.2-2\]"):
        client.receive_data(wire.publish("t") + wire.publish("#"), 0.0)
    assert client.events() == [make_publish("t", b"")]
    client.receive_data(wire.publish("t"), 0.0)
    assert client.events() == []


def test_an_error_without_statement_says_where() -> None:
    error = RemoteProtocolError("wrong", "", 7)
    assert str(error) == "wrong at byte 7"
    assert str(RemoteProtocolError("wrong")) == "wrong"


# Receiving


@pytest.mark.statement("v3 MQTT-4.3.2-2")
@pytest.mark.statement("v3 MQTT-4.3.3-2")
def test_what_comes_is_acknowledged() -> None:
    client = connected()
    data = wire.publish("t", b"", 1, 5) + wire.publish("t", b"", 2, 6) + wire.pubrel(6)
    client.receive_data(data, 0.0)
    assert client.data_to_send() == wire.puback(5) + wire.pubrec(6) + wire.pubcomp(6)
    assert client.events() == [
        make_publish("t", b"", 1, False, 5),
        make_publish("t", b"", 2, False, 6),
        PubRel(6),
    ]


@pytest.mark.statement("v3 MQTT-4.5.0-2")
def test_a_repeat_at_qos_2_is_acknowledged_and_not_told() -> None:
    client = connected()
    client.receive_data(wire.publish("t", b"", 2, 6), 0.0)
    client.receive_data(wire.publish("t", b"", 2, 6, dup=True), 0.0)
    assert client.events() == [make_publish("t", b"", 2, False, 6)]
    assert client.data_to_send() == wire.pubrec(6) * 2
    client.receive_data(wire.pubrel(6) + wire.pubrel(6), 0.0)
    assert client.data_to_send() == wire.pubcomp(6) * 2
    client.receive_data(wire.publish("t", b"", 2, 6), 0.0)
    assert client.events()[-1:] == [make_publish("t", b"", 2, False, 6)]


def test_a_program_that_acknowledges_by_itself() -> None:
    client = connected(manual_acks=True)
    client.receive_data(wire.publish("t", b"", 1, 5) + wire.publish("t", b"", 2, 6), 0.0)
    assert len(client.events()) == 2
    assert client.data_to_send() == b""
    client.receive_data(wire.publish("t", b"", 2, 6, dup=True), 0.0)
    assert client.events() == []
    assert client.data_to_send() == wire.pubrec(6)
    client.send_puback(5, 0.0)
    client.send_pubrec(6, 0.0)
    client.receive_data(wire.pubrel(6), 0.0)
    assert client.data_to_send() == wire.puback(5) + wire.pubrec(6)
    client.send_pubcomp(6, 0.0)
    assert client.data_to_send() == wire.pubcomp(6)


@pytest.mark.parametrize(
    "data",
    [wire.puback(1), wire.pubrec(1), wire.pubcomp(1), wire.suback(1, 0), wire.unsuback(1)],
)
def test_an_answer_to_nothing(data: bytes) -> None:
    client = connected()
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive_data(wire.PINGRESP + data, 0.0)
    assert caught.value.statement == "MQTT-2.3.1-6"
    assert caught.value.offset == len(wire.connack() + wire.PINGRESP)
    assert client.state == State.CLOSING


def test_an_answer_of_another_kind() -> None:
    client = connected()
    packet_id = client.send_publish("t", b"", 1, now=0.0)
    with pytest.raises(RemoteProtocolError):
        client.receive_data(wire.pubrec(packet_id), 0.0)


@pytest.mark.statement("v3 MQTT-3.8.4-5")
@pytest.mark.parametrize("codes", [(0,), (0, 1, 2)])
def test_suback_has_a_code_for_each_filter(codes: tuple[int, ...]) -> None:
    client = connected()
    packet_id = client.send_subscribe([("a", 0), ("b", 1)], 0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive_data(wire.suback(packet_id, *codes), 0.0)
    assert caught.value.statement == "MQTT-3.8.4-5"


@pytest.mark.statement("v3 MQTT-3.2.2-1")
def test_a_clean_session_is_not_present() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c"), 0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive_data(wire.connack(present=True), 0.0)
    assert caught.value.statement == "MQTT-3.2.2-1"


def test_a_refusal_is_an_event() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c"), 0.0)
    client.receive_data(wire.connack(5), 0.0)
    assert client.events() == [ConnAck(False, 0x87)]
    assert client.wants_close
    client.eof(1.0)
    assert client.events() == []


# Sending


@pytest.mark.statement("v3 MQTT-4.3.2-1")
@pytest.mark.statement("v3 MQTT-4.3.3-1")
def test_what_is_sent_has_an_identifier_until_it_is_done_with() -> None:
    client = connected()
    first = client.send_publish("t", b"1", 1, now=0.0)
    second = client.send_publish("t", b"2", 2, now=0.0)
    assert client.data_to_send() == wire.publish("t", b"1", 1, first) + wire.publish(
        "t", b"2", 2, second
    )
    client.receive_data(wire.pubrec(second), 0.0)
    assert client.data_to_send() == wire.pubrel(second)
    client.receive_data(wire.pubrec(second), 0.0)
    assert client.data_to_send() == wire.pubrel(second)
    client.receive_data(wire.puback(first) + wire.pubcomp(second), 0.0)
    assert client.flow is not None
    assert client.flow.is_empty
    with pytest.raises(RemoteProtocolError):
        client.receive_data(wire.pubrec(second), 0.0)


def test_several_requests_may_be_on_their_way() -> None:
    client = connected()
    first = client.send_subscribe([("a", 0), ("b", 1)], now=0.0)
    second = client.send_subscribe([("c", 2)], now=0.0)
    client.receive_data(wire.suback(second, 2) + wire.suback(first, 0, 1), 0.0)
    assert client.events() == [SubAck(second, (2,)), SubAck(first, (0, 1))]
    assert client.flow is not None
    assert client.flow.is_empty


@pytest.mark.parametrize(
    ("topic", "qos"), [("#", 0), ("", 1), ("a\0", 2), ("t", 3), ("t", -1), ("\ud800", 0)]
)
def test_a_message_that_mqtt_forbids_is_not_sent(topic: str, qos: int) -> None:
    client = connected()
    with pytest.raises(LocalProtocolError):
        client.send_publish(topic, b"", qos, now=0.0)
    assert client.data_to_send() == b""
    assert client.flow is None or client.flow.is_empty


def test_a_message_that_is_too_large_leaves_no_identifier_in_use() -> None:
    client = connected()
    with pytest.raises(LocalProtocolError):
        client.send_publish("t", bytes(268_435_455), 1, now=0.0)
    assert client.flow is not None
    assert client.flow.is_empty
    assert client.send_publish("t", b"", 1, now=0.0) == 2


@pytest.mark.parametrize("filters", [[], [("a", 3)], [("a#", 0)], [("", 0)], [("x" * 65_536, 0)]])
def test_a_subscribe_that_mqtt_forbids_is_not_sent(filters: list[tuple[str, int]]) -> None:
    client = connected()
    with pytest.raises(LocalProtocolError):
        client.send_subscribe(filters, 0.0)
    with pytest.raises(LocalProtocolError):
        client.send_unsubscribe([name for name, qos in filters if qos < 3], 0.0)
    assert client.data_to_send() == b""
    assert client.flow is None or client.flow.is_empty


def test_the_window_of_unacknowledged_messages() -> None:
    client = connected()
    assert client.flow is not None
    client.flow.window = 2
    client.send_publish("t", b"", 1, now=0.0)
    second = client.send_publish("t", b"", 2, now=0.0)
    with pytest.raises(LocalProtocolError, match="2 messages"):
        client.send_publish("t", b"", 1, now=0.0)
    client.send_publish("t", b"", 0, now=0.0)
    client.receive_data(wire.pubrec(second) + wire.pubcomp(second), 0.0)
    client.send_publish("t", b"", 1, now=0.0)


def test_all_identifiers_in_use() -> None:
    client = connected()
    for _ in range(65_535):
        client.send_publish("t", b"", 1, now=0.0)
    with pytest.raises(LocalProtocolError):
        client.send_publish("t", b"", 1, now=0.0)
    with pytest.raises(LocalProtocolError, match="identifiers"):
        client.send_subscribe([("a", 0)], 0.0)
    with pytest.raises(LocalProtocolError, match="identifiers"):
        client.send_unsubscribe(["a"], 0.0)


# The next connection


@pytest.mark.statement("v3 MQTT-4.4.0-1")
@pytest.mark.statement("v3 MQTT-3.3.1-1")
def test_what_is_unfinished_is_sent_again() -> None:
    client = connected()
    first = client.send_publish("t", b"1", 1, now=0.0)
    second = client.send_publish("t", b"2", 2, now=0.0)
    third = client.send_publish("t", b"3", 2, True, now=0.0)
    client.send_subscribe([("a", 0)], 0.0)
    client.receive_data(wire.pubrec(second), 0.0)
    again = resumed(client)
    assert again.data_to_send() == (
        wire.publish("t", b"1", 1, first, dup=True)
        + wire.publish("t", b"3", 2, third, retain=True, dup=True)
        + wire.pubrel(second)
    )
    again.receive_data(wire.puback(first) + wire.pubcomp(second), 0.0)
    assert again.flow is not None
    assert again.flow.unfinished() == [third]  # SUBSCRIBE is no part of a session


def test_a_new_session_gives_back_what_the_old_one_had() -> None:
    client = connected()
    client.send_publish("t", b"1", 1, now=0.0)
    client.receive_data(wire.publish("t", b"", 2, 9), 0.0)
    again = resumed(client, present=False)
    assert again.data_to_send() == b""
    assert again.discarded == [make_message("t", b"1", 1)]
    again.receive_data(wire.publish("t", b"", 2, 9, dup=True), 0.0)
    assert again.events()[-1:] == [make_publish("t", b"", 2, False, 9, True)]


@pytest.mark.statement("v3 MQTT-3.1.2-6")
def test_a_clean_session_forgets_before_it_asks() -> None:
    client = connected()
    client.send_publish("t", b"1", 2, now=0.0)
    again = Connection(CLIENT, flow=client.flow)
    again.send_connect(Connect("c"), 0.0)
    assert again.discarded == [make_message("t", b"1", 2)]
    assert again.flow is not None
    assert again.flow.is_empty


# Time


@pytest.mark.statement("v3 MQTT-3.1.2-23")
def test_a_client_that_is_silent_pings_in_time() -> None:
    client = connected(keep_alive_s=10)
    deadline = client.next_deadline()
    assert deadline is not None
    assert 0 < deadline < 10
    client.advance(deadline - 0.1)
    assert client.data_to_send() == b""
    client.advance(deadline)
    assert client.data_to_send() == wire.PINGREQ
    client.receive_data(wire.PINGRESP, deadline)
    assert client.events() == [PingResp()]
    client.send_publish("t", b"", now=deadline + 5)
    later = client.next_deadline()
    assert later is not None
    assert later > deadline + 5


def test_a_server_that_does_not_answer_a_ping_is_given_up() -> None:
    client = connected(keep_alive_s=10)
    client.send_pingreq(1.0)
    client.send_pingreq(2.0)
    assert client.next_deadline() == 11.0
    client.advance(10.9)
    assert client.events() == []
    client.advance(11.0)
    assert client.events() == [ConnectionLost("no PINGRESP within the keep-alive period")]
    assert client.wants_close
    assert client.next_deadline() is None


def test_no_keep_alive_wants_no_timer() -> None:
    client = connected()
    assert client.next_deadline() is None
    client.advance(1e9)
    assert client.data_to_send() == b""
    assert Connection(SERVER).next_deadline() is None
    assert Connection(CLIENT).next_deadline() is None


def test_a_connack_that_does_not_come() -> None:
    client = Connection(CLIENT, connack_timeout_s=3.0)
    client.send_connect(Connect("c"), 5.0)
    assert client.next_deadline() == 8.0
    client.advance(7.0)
    assert client.events() == []
    client.advance(8.0)
    assert client.events() == [ConnectionLost("no CONNACK in time")]
    assert client.wants_close


def test_a_connection_that_breaks_is_told_once() -> None:
    client = connected()
    client.eof(1.0)
    client.eof(2.0)
    assert client.events() == [ConnectionLost("connection closed by the peer")]
    assert client.state == State.CLOSED


def test_reading_can_be_stopped_from_this_side() -> None:
    client = connected()
    client.stop_reading()
    client.stop_reading()
    client.receive_data(wire.publish("t"), 0.0)
    assert client.events() == []


def test_a_server_reads_requests() -> None:
    server = Connection(SERVER)
    server.receive_data(wire.connect(), 0.0)
    server.send_connack(ConnAck(), 0.0)
    data = wire.subscribe(3, ("a", 1)) + wire.unsubscribe(4, "a") + wire.DISCONNECT
    server.receive_data(data, 0.0)
    assert server.events()[1:] == [
        Subscribe(3, (Subscription("a", 1),)),
        Unsubscribe(4, ("a",)),
        Disconnect(),
    ]


@pytest.mark.parametrize(
    "data", [wire.subscribe(1, ("a", 0), ("b", 0)), wire.unsubscribe(1, "a", "b")]
)
def test_a_packet_has_not_more_filters_than_allowed(data: bytes) -> None:
    server = Connection(SERVER, max_filters=1)
    server.receive_data(wire.connect(), 0.0)
    server.send_connack(ConnAck(), 0.0)
    with pytest.raises(RemoteProtocolError, match="filters"):
        server.receive_data(data, 0.0)
