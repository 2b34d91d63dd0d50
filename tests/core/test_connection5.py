"""A connection of MQTT 5.0, both roles: what is announced, answered, resumed and told."""

from __future__ import annotations

import pytest

from mqtt_core import (
    CLIENT,
    SERVER,
    Auth,
    ConnAck,
    Connect,
    Connection,
    ConnectionLost,
    Disconnect,
    Flow,
    LocalProtocolError,
    Packet,
    PingResp,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    RemoteProtocolError,
    State,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    make_message,
    make_publish,
)
from mqtt_core.properties import (
    ASSIGNED_CLIENT_IDENTIFIER,
    AUTHENTICATION_METHOD,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    MESSAGE_EXPIRY_INTERVAL,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    REQUEST_PROBLEM_INFORMATION,
    RETAIN_AVAILABLE,
    SESSION_EXPIRY_INTERVAL,
    SHARED_SUBSCRIPTION_AVAILABLE,
    SUBSCRIPTION_IDENTIFIER,
    SUBSCRIPTION_IDENTIFIER_AVAILABLE,
    TOPIC_ALIAS,
    USER_PROPERTY,
    WILDCARD_SUBSCRIPTION_AVAILABLE,
)
from tests.core import wire, wire5
from tests.core.wire import string, u16
from tests.core.wire5 import prop, reason_string, u32, user
from tests.rig import Pair

USER: Properties = ((USER_PROPERTY, ("k", "v")),)


def client_of(
    *announced: bytes,
    mine: Properties = (),
    clean: bool = True,
    flow: Flow | None = None,
    manual_acks: bool = False,
    present: bool = False,
) -> Connection:
    """A client that is connected to a server which has announced these properties."""
    client = Connection(CLIENT, flow=flow, manual_acks=manual_acks)
    client.send_connect(Connect("c", clean, 0, level=5, properties=mine), 0.0)
    client.data_to_send()
    client.receive_data(wire5.connack(0, *announced, present=present), 0.0)
    client.events()
    return client


def server_of(*theirs: bytes, mine: Properties = (), manual_acks: bool = False) -> Connection:
    """A server that has accepted a client which has announced these properties."""
    server = Connection(SERVER, manual_acks=manual_acks)
    server.receive_data(wire5.connect("c", *theirs), 0.0)
    server.send_connack(ConnAck(properties=mine), 0.0)
    server.data_to_send()
    server.events()
    return server


def fails(connection: Connection, data: bytes, statement: str, reason: int) -> None:
    """What the peer sends is refused, and the peer is told why."""
    with pytest.raises(RemoteProtocolError) as caught:
        connection.receive_data(data, 0.0)
    assert (caught.value.statement, caught.value.reason) == (statement, reason)
    assert connection.state == State.CLOSING
    assert connection.wants_close
    assert connection.data_to_send()[-3:] == b"\xe0\1" + bytes([reason])


def only_event(connection: Connection) -> Packet:
    (event,) = connection.events()
    return event


# Both ends


def test_two_connections_speak_to_each_other() -> None:
    pair = Pair()
    connect = Connect("", False, 5, level=5, properties=((SESSION_EXPIRY_INTERVAL, 60), *USER))
    connack = ConnAck(False, 0, ((ASSIGNED_CLIENT_IDENTIFIER, "given"), (RECEIVE_MAXIMUM, 9)))
    assert pair.connect(connect, connack) == connack
    assert pair.server is not None
    assert pair.server_events.pop(0) == connect
    assert (pair.client.level, pair.server.level) == (5, 5)
    assert pair.client.client_id == "given"
    assert pair.client.session_expiry_s == pair.server.session_expiry_s == 60
    first = pair.client.send_publish("t", b"1", 1, now=0.0, properties=USER)
    second = pair.client.send_publish("t", b"2", 2, True, now=0.0)
    assert pair.take_events() == [PubAck(first), PubRec(second), PubComp(second)]
    assert pair.server_events == [
        make_publish("t", b"1", 1, False, first, False, USER),
        make_publish("t", b"2", 2, True, second),
        PubRel(second),
    ]
    pair.server_events.clear()
    wanted = (("a/#", 1), Subscription("$share/g/b", 2, False, True, 2))
    asked = pair.client.send_subscribe(wanted, 0.0, ((SUBSCRIPTION_IDENTIFIER, 7),))
    gone = pair.client.send_unsubscribe(["x"], 0.0, USER)
    pair.move()
    assert pair.server_events == [
        Subscribe(asked, (Subscription("a/#", 1), wanted[1]), ((SUBSCRIPTION_IDENTIFIER, 7),)),
        Unsubscribe(gone, ("x",), USER),
    ]
    pair.client.receive_data(wire5.suback(asked, 1, 2) + wire5.unsuback(gone, 0x11), 0.0)
    assert pair.client.events() == [SubAck(asked, (1, 2)), UnsubAck(gone, (0x11,))]
    pair.server.send_publish("a", b"", now=0.0, properties=((SUBSCRIPTION_IDENTIFIER, 7),))
    delivered = make_publish("a", b"", properties=((SUBSCRIPTION_IDENTIFIER, 7),))
    assert pair.take_events() == [delivered]
    pair.client.send_disconnect(0.0, 4, ((SESSION_EXPIRY_INTERVAL, 5),))
    pair.move()
    assert pair.server_events[-1] == Disconnect(4, ((SESSION_EXPIRY_INTERVAL, 5),))
    assert pair.client.session_expiry_s == pair.server.session_expiry_s == 5


@pytest.mark.statement("MQTT-3.1.4-6")
def test_what_follows_connect_is_read_after_connack() -> None:
    server = Connection(SERVER)
    server.receive_data(wire5.connect() + wire5.publish("t"), 0.0)
    assert server.events() == [Connect("c", level=5)]
    assert not server.can_read
    server.send_connack(ConnAck(), 0.0)
    assert server.can_read
    server.receive_data(b"", 0.0)
    assert server.events() == [make_publish("t", b"")]


def test_a_connect_that_is_wrong_is_answered() -> None:
    server = Connection(SERVER)
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_data(wire5.connect("c", prop(0x21, u16(0))), 0.0)
    assert (caught.value.statement, caught.value.reason) == ("P5-3.1.2-4", 0x82)
    server.send_connack(ConnAck(False, 0x82), 0.0)
    assert server.data_to_send() == wire5.connack(0x82)
    assert server.wants_close


@pytest.mark.statement("MQTT-3.2.2-19")
def test_a_refusal_keeps_to_what_the_client_had_announced_before_its_mistake() -> None:
    server = Connection(SERVER)
    with pytest.raises(RemoteProtocolError):
        server.receive_data(wire5.connect("c", prop(0x27, u32(5)), username=b"\xff"), 0.0)
    server.send_connack(ConnAck(False, 0x81, ((REASON_STRING, "no UTF-8"),)), 0.0)
    assert server.data_to_send() == wire5.connack(0x81)


@pytest.mark.parametrize(
    ("newest", "level", "answer"),
    [(5, 6, "20020001"), (4, 6, "20020001"), (4, 5, "20020001"), (5, 3, "20020001")],
)
def test_a_version_that_is_not_known_is_refused_in_the_words_of_3_1_1(
    newest: int, level: int, answer: str
) -> None:
    server = Connection(SERVER, newest_level=newest)
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_data(wire5.connect(level=level), 0.0)
    server.send_connack(ConnAck(False, caught.value.reason), 0.0)
    assert server.data_to_send() == bytes.fromhex(answer)


def test_a_server_that_knows_3_1_1_alone_is_understood() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c", level=5), 0.0)
    client.receive_data(wire.connack(1), 0.0)
    assert client.events() == [ConnAck(False, 0x84)]
    assert client.wants_close


# What is announced


@pytest.mark.statement("MQTT-3.1.2-24")
@pytest.mark.statement("MQTT-3.2.2-15")
def test_the_largest_packet_to_be_sent() -> None:
    server = server_of(prop(0x27, u32(64)))
    client = client_of(prop(0x27, u32(64)))
    for sender in (server, client):
        assert sender.peer_maximum_packet_size == 64
        sender.send_publish("t", bytes(58), now=0.0)
        assert len(sender.data_to_send()) == 64
        with pytest.raises(LocalProtocolError, match="65 bytes is over the peer's maximum of 64"):
            sender.send_publish("t", bytes(59), now=0.0)
        with pytest.raises(LocalProtocolError, match="over the peer's maximum"):
            sender.send_publish("t", bytes(57), 1, now=0.0)
        assert sender.data_to_send() == b""
        assert sender.flow is not None
        assert sender.flow.is_empty
    with pytest.raises(LocalProtocolError, match="over the peer's maximum"):
        client.send_subscribe([("x" * 60, 0)], 0.0)
    assert client.flow is not None
    assert client.flow.is_empty


def test_the_largest_packet_to_be_read() -> None:
    mine: Properties = ((MAXIMUM_PACKET_SIZE, 64),)
    fails(server_of(mine=mine), wire5.publish("t", bytes(59)), "MQTT-3.2.2-15", 0x95)
    fails(client_of(mine=mine), b"\x30\x80\x01", "MQTT-3.1.2-24", 0x95)
    client = client_of(mine=mine)
    client.receive_data(wire5.publish("t", bytes(58)), 0.0)
    assert len(client.events()) == 1
    larger = server_of(mine=((MAXIMUM_PACKET_SIZE, 0xFFFF_FFFF),))
    assert larger.buffer.limit_bytes == 268_435_460


@pytest.mark.statement("MQTT-3.2.2-19")
@pytest.mark.statement("MQTT-3.2.2-20")
def test_connack_leaves_out_what_does_not_fit() -> None:
    server = Connection(SERVER)
    server.receive_data(wire5.connect("c", prop(0x27, u32(20))), 0.0)
    server.send_connack(ConnAck(False, 0x87, ((REASON_STRING, "x" * 20), *USER)), 0.0)
    assert server.data_to_send() == wire5.connack(0x87)


@pytest.mark.statement("MQTT-3.1.2-29")
def test_problem_information_that_was_not_asked_for() -> None:
    server = server_of(prop(0x17, b"\0"))
    assert not server.peer_wants_problem_information
    server.send_puback(1, 0.0, 0x87, ((REASON_STRING, "no"), *USER))
    assert server.data_to_send() == wire5.puback(1, 0x87)
    server.send_publish("t", b"", now=0.0, properties=USER)
    assert server.data_to_send() == wire5.publish("t", b"", 0, 0, user("k", "v"))
    server.send_disconnect(0.0, 0x87, ((REASON_STRING, "no"),))
    assert server.data_to_send() == wire5.disconnect(0x87, reason_string("no"))


@pytest.mark.statement("P5-3.1.2-10")
@pytest.mark.parametrize(
    "data",
    [
        wire5.puback(1, 0x80, reason_string("no")),
        wire5.pubrec(1, 0, user("", "")),
        wire5.suback(1, 0, properties=user("", "")),
        wire5.unsuback(1, 0, properties=reason_string("")),
    ],
)
def test_problem_information_that_comes_all_the_same(data: bytes) -> None:
    client = client_of(mine=((REQUEST_PROBLEM_INFORMATION, 0),))
    client.receive_data(wire5.publish("t", b"", 0, 0, user("", "")), 0.0)
    fails(client, data, "MQTT-3.1.2-29", 0x82)


def test_authentication_is_no_problem_information() -> None:
    client = Connection(CLIENT)
    mine: Properties = ((AUTHENTICATION_METHOD, "m"), (REQUEST_PROBLEM_INFORMATION, 0))
    client.send_connect(Connect("c", level=5, properties=mine), 0.0)
    client.data_to_send()
    client.receive_data(wire5.auth(0x18, wire5.method("m")), 0.0)
    assert client.events() == [Auth(0x18, ((AUTHENTICATION_METHOD, "m"),))]
    client.send_auth(Auth(0x18), 0.0)
    fails(client, wire5.auth(0x18, wire5.method("m"), reason_string("")), "MQTT-3.1.2-29", 0x82)


@pytest.mark.parametrize(
    "data", [wire5.subscribe(1, ("a", 0), ("b", 0)), wire5.unsubscribe(1, "a", "b")]
)
def test_a_packet_has_not_more_filters_than_allowed(data: bytes) -> None:
    server = Connection(SERVER, max_filters=1)
    server.receive_data(wire5.connect(), 0.0)
    server.send_connack(ConnAck(), 0.0)
    fails(server, data, "", 0x97)


@pytest.mark.statement("MQTT-3.2.2-11")
@pytest.mark.statement("MQTT-3.2.2-14")
def test_what_a_server_lacks_is_not_asked_of_it() -> None:
    lacking = [prop(identifier, b"\0") for identifier in (0x24, 0x25, 0x28, 0x29, 0x2A)]
    client = client_of(*lacking)
    with pytest.raises(LocalProtocolError, match="QoS 0"):
        client.send_publish("t", b"", 1, now=0.0)
    with pytest.raises(LocalProtocolError, match="no retained"):
        client.send_publish("t", b"", 0, True, now=0.0)
    with pytest.raises(LocalProtocolError, match="no wildcard"):
        client.send_subscribe([("a/#", 0)], 0.0)
    with pytest.raises(LocalProtocolError, match="no shared"):
        client.send_subscribe([("$share/g/a", 0)], 0.0)
    with pytest.raises(LocalProtocolError, match="no subscription identifiers"):
        client.send_subscribe([("a", 0)], 0.0, ((SUBSCRIPTION_IDENTIFIER, 1),))
    assert client.data_to_send() == b""
    client.send_subscribe([("a", 2)], 0.0)
    client.send_publish("t", b"", now=0.0)
    assert len(client.data_to_send()) > 0


@pytest.mark.parametrize(
    ("mine", "data", "statement", "reason"),
    [
        (((MAXIMUM_QOS, 0),), wire5.publish("t", b"", 1, 1), "MQTT-3.2.2-11", 0x9B),
        (((MAXIMUM_QOS, 0),), wire5.publish("t", b"", 2, 1), "MQTT-3.2.2-11", 0x9B),
        (((MAXIMUM_QOS, 1),), wire5.publish("t", b"", 2, 1), "MQTT-3.2.2-11", 0x9B),
        (((MAXIMUM_QOS, 1),), b"\x36\6\0\1t\0\1\0", "MQTT-3.3.1-4", 0x81),
        (((RETAIN_AVAILABLE, 0),), wire5.publish("t", retain=True), "MQTT-3.2.2-14", 0x9A),
        (
            ((RETAIN_AVAILABLE, 0), (MAXIMUM_QOS, 1)),
            wire5.publish("t", b"", 1, 1, retain=True),
            "MQTT-3.2.2-14",
            0x9A,
        ),
    ],
)
def test_what_this_server_lacks_is_refused(
    mine: Properties, data: bytes, statement: str, reason: int
) -> None:
    fails(server_of(mine=mine), data, statement, reason)


@pytest.mark.statement("P5-3.3.4-1")
def test_a_server_sends_nothing_that_it_does_not_have() -> None:
    client = client_of(prop(0x24, b"\1"))
    client.receive_data(wire5.publish("t", b"", 1, 1, retain=True), 0.0)
    client.data_to_send()
    fails(client, wire5.publish("t", b"", 2, 2), "P5-3.3.4-1", 0x9B)
    fails(client_of(prop(0x24, b"\0")), wire5.publish("t", b"", 1, 1), "P5-3.3.4-1", 0x9B)


def test_what_this_server_has_is_taken() -> None:
    server = server_of(mine=((MAXIMUM_QOS, 1),))
    server.receive_data(wire5.publish("t", retain=True) + wire5.publish("t", bytes(200), 1, 1), 0.0)
    assert len(server.events()) == 2


@pytest.mark.statement("MQTT-3.1.2-21")
@pytest.mark.statement("MQTT-3.2.2-21")
def test_the_servers_keep_alive_is_kept() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c", True, 60, level=5), 0.0)
    client.receive_data(wire5.connack(0, prop(0x13, u16(5))), 0.0)
    client.data_to_send()
    assert client.keep_alive_s == 5
    deadline = client.next_deadline()
    assert deadline is not None
    assert deadline < 5
    client.advance(deadline)
    assert client.data_to_send() == wire5.PINGREQ
    client.receive_data(wire5.PINGRESP, deadline)
    assert client.events()[-1] == PingResp()


def test_a_session_expiry_is_as_last_said() -> None:
    client = client_of(prop(0x11, u32(10)), mine=((SESSION_EXPIRY_INTERVAL, 60),))
    assert client.session_expiry_s == 10
    assert client_of(mine=((SESSION_EXPIRY_INTERVAL, 60),)).session_expiry_s == 60
    assert client_of().session_expiry_s == 0
    server = server_of(prop(0x11, u32(60)), mine=((SESSION_EXPIRY_INTERVAL, 10),))
    assert server.session_expiry_s == 10
    server.receive_data(wire5.disconnect(0, prop(0x11, u32(3))), 0.0)
    assert server.session_expiry_s == 3


@pytest.mark.statement("MQTT-3.2.2-16")
def test_a_client_without_identifier_is_to_be_given_one() -> None:
    server = Connection(SERVER)
    server.receive_data(wire5.connect(""), 0.0)
    with pytest.raises(LocalProtocolError, match="assigned"):
        server.send_connack(ConnAck(), 0.0)
    server.send_connack(ConnAck(properties=((ASSIGNED_CLIENT_IDENTIFIER, "x"),)), 0.0)
    assert server.data_to_send() == wire5.connack(0, prop(0x12, string("x")))


# Topic aliases


def aliasing(maximum: int, role: int = SERVER, max_alias_bytes: int = 65_536) -> Connection:
    """A connection that has announced a topic alias maximum."""
    connection = Connection(role, max_alias_bytes=max_alias_bytes)
    mine = ((0x22, maximum),)
    if role == CLIENT:
        connection.send_connect(Connect("c", level=5, properties=mine), 0.0)
        connection.receive_data(wire5.connack(), 0.0)
    else:
        connection.receive_data(wire5.connect(), 0.0)
        connection.send_connack(ConnAck(properties=mine), 0.0)
    connection.data_to_send()
    connection.events()
    return connection


def aliased(alias: int, topic: str = "", qos: int = 0, payload: bytes = b"") -> bytes:
    return wire5.publish(topic, payload, qos, 9 if qos else 0, prop(0x23, u16(alias)))


@pytest.mark.statement("MQTT-3.3.2-10")
@pytest.mark.statement("MQTT-3.3.2-12")
@pytest.mark.parametrize("role", [SERVER, CLIENT])
def test_an_alias_means_the_topic_that_was_sent_with_it(role: int) -> None:
    connection = aliasing(3, role)
    data = aliased(1, "a") + aliased(3, "b", 1) + aliased(1) + aliased(3, "", 2, b"x")
    connection.receive_data(data + aliased(1, "c") + aliased(1), 0.0)
    events = connection.events()
    found = [event.topic for event in events if isinstance(event, Publish)]
    assert found == ["a", "b", "a", "b", "c", "c"]
    assert events[0] == make_publish("a", b"", properties=((TOPIC_ALIAS, 1),))
    assert events[3] == make_publish("b", b"x", 2, False, 9, False, ((TOPIC_ALIAS, 3),))
    for event in events:
        assert isinstance(event, Publish)
        assert event.message.properties == ()
        assert event.message.packet5()[:4] == b"\x30" + bytes([len(event.payload) + 4]) + b"\0\1"


@pytest.mark.parametrize(
    ("role", "data", "statement", "reason"),
    [
        (SERVER, aliased(4, "a"), "MQTT-3.2.2-17", 0x94),
        (SERVER, aliased(4), "MQTT-3.2.2-17", 0x94),
        (CLIENT, aliased(4, "a"), "MQTT-3.1.2-26", 0x94),
        (SERVER, aliased(0, "a"), "MQTT-3.3.2-8", 0x94),
        (SERVER, aliased(2), "P5-3.3.4-4", 0x82),
        (SERVER, aliased(1, "a") + aliased(2), "P5-3.3.4-4", 0x82),
        (CLIENT, aliased(2), "P5-3.3.4-4", 0x82),
    ],
)
def test_an_alias_that_means_nothing(role: int, data: bytes, statement: str, reason: int) -> None:
    fails(aliasing(3, role), data, statement, reason)


@pytest.mark.statement("MQTT-3.3.2-7")
def test_aliases_end_with_their_connection() -> None:
    first = aliasing(1)
    first.receive_data(aliased(1, "a"), 0.0)
    again = Connection(SERVER, flow=first.flow, topics=first.topics)
    again.receive_data(wire5.connect(clean=False), 0.0)
    again.send_connack(ConnAck(True, 0, ((0x22, 1),)), 0.0)
    fails(again, aliased(1), "P5-3.3.4-4", 0x82)


def test_the_topics_of_aliases_are_bounded_in_bytes() -> None:
    server = aliasing(65_535, max_alias_bytes=20)
    server.receive_data(aliased(1, "0123456789") + aliased(2, "0123456789"), 0.0)
    server.receive_data(aliased(1, "012345678") + aliased(3, "9") + aliased(1), 0.0)
    assert len(server.events()) == 5
    fails(server, aliased(4, "x"), "", 0x97)


def test_a_topic_that_the_cache_has_dropped_is_found_again() -> None:
    server = aliasing(1)
    server.receive_data(aliased(1, "alias"), 0.0)
    flood(server, "a")
    server.receive_data(aliased(1), 0.0)
    packet = only_event(server)
    assert isinstance(packet, Publish)
    assert packet.topic == "alias"
    assert packet.message.topic is server.topics.peek(b"alias")
    flood(server, "b")
    again = server.topics.add(b"alias")
    server.receive_data(aliased(1), 0.0)
    packet = only_event(server)
    assert isinstance(packet, Publish)
    assert packet.message.topic is again


def flood(server: Connection, name: str) -> None:
    """Use so many other topics that the cache drops those of before."""
    for number in range(300):
        server.receive_data(wire5.publish(f"{name}{number:0200}") * 2, 0.0)
        server.receive_data(wire5.publish(f"{name}/{number:0200}"), 0.0)
    server.events()
    assert server.topics.peek(b"alias") is None


def test_a_topic_name_is_sent_once_with_its_alias() -> None:
    client = client_of(prop(0x22, u16(2)))
    assert client.peer_topic_alias_maximum == 2
    client.send_publish("a", b"1", now=0.0, topic_alias=1, properties=USER)
    client.send_publish("a", b"2", now=0.0, topic_alias=1)
    first = client.send_publish("b", b"3", 1, now=0.0, topic_alias=2)
    second = client.send_publish("b", b"4", 2, now=0.0, topic_alias=2)
    client.send_publish("c", b"5", now=0.0, topic_alias=1)
    alias = [prop(0x23, u16(number)) for number in range(3)]
    assert client.data_to_send() == (
        wire5.publish("a", b"1", 0, 0, alias[1], user("k", "v"))
        + wire5.publish("", b"2", 0, 0, alias[1])
        + wire5.publish("b", b"3", 1, first, alias[2])
        + wire5.publish("", b"4", 2, second, alias[2])
        + wire5.publish("c", b"5", 0, 0, alias[1])
    )


@pytest.mark.statement("MQTT-3.2.2-17")
@pytest.mark.statement("MQTT-3.2.2-18")
@pytest.mark.parametrize(("maximum", "alias"), [(0, 1), (2, 3), (2, -1), (2, 65_536)])
def test_an_alias_that_the_server_does_not_take_is_not_sent(maximum: int, alias: int) -> None:
    client = client_of(prop(0x22, u16(maximum)))
    with pytest.raises(LocalProtocolError, match="alias"):
        client.send_publish("t", b"", now=0.0, topic_alias=alias)
    assert client.data_to_send() == b""


def test_an_alias_is_not_set_by_what_is_not_sent() -> None:
    client = client_of(prop(0x22, u16(2)), prop(0x27, u32(20)))
    for qos in (0, 1):
        with pytest.raises(LocalProtocolError, match="maximum of 20"):
            client.send_publish("t", bytes(20), qos, now=0.0, topic_alias=1)
    assert client.flow is not None
    assert client.flow.is_empty
    client.send_publish("t", b"", now=0.0, topic_alias=1)
    assert client.data_to_send() == wire5.publish("t", b"", 0, 0, prop(0x23, u16(1)))


@pytest.mark.statement("MQTT-3.3.4-6")
def test_what_a_client_may_not_put_on_a_message() -> None:
    client = client_of(prop(0x22, u16(2)))
    with pytest.raises(LocalProtocolError, match="subscription identifier"):
        client.send_publish("t", b"", now=0.0, properties=((SUBSCRIPTION_IDENTIFIER, 1),))
    with pytest.raises(LocalProtocolError, match="topic_alias"):
        client.send_publish("t", b"", now=0.0, properties=((TOPIC_ALIAS, 1),))
    with pytest.raises(LocalProtocolError, match="Reason String"):
        client.send_publish("t", b"", now=0.0, properties=((REASON_STRING, ""),))


# Acknowledgements


def test_an_acknowledgement_may_refuse() -> None:
    client = client_of()
    first = client.send_publish("t", b"", 1, now=0.0)
    second = client.send_publish("t", b"", 2, now=0.0)
    client.data_to_send()
    client.receive_data(wire5.puback(first, 0x97) + wire5.pubrec(second, 0x80), 0.0)
    assert client.events() == [PubAck(first, 0x97), PubRec(second, 0x80)]
    assert client.data_to_send() == b""  # no PUBREL
    assert client.flow is not None
    assert client.flow.is_empty


@pytest.mark.statement("MQTT-4.3.3-4")
def test_a_refusal_behind_pubrel_ends_it_too() -> None:
    client = client_of()
    packet_id = client.send_publish("t", b"", 2, now=0.0)
    client.receive_data(wire5.pubrec(packet_id, 0x10), 0.0)
    client.data_to_send()
    client.receive_data(wire5.pubrec(packet_id), 0.0)
    assert client.data_to_send() == wire5.pubrel(packet_id)
    client.receive_data(wire5.pubrec(packet_id, 0x87), 0.0)
    assert client.data_to_send() == b""
    assert client.flow is not None
    assert client.flow.is_empty


@pytest.mark.statement("MQTT-3.6.2-1")
@pytest.mark.statement("MQTT-3.7.2-1")
def test_an_identifier_that_is_not_known() -> None:
    client = client_of()
    client.receive_data(wire5.puback(5) + wire5.pubcomp(6, 0x92), 0.0)
    assert client.data_to_send() == b""
    client.receive_data(wire5.pubrec(7) + wire5.pubrel(8), 0.0)
    assert client.data_to_send() == wire5.pubrel(7, 0x92) + wire5.pubcomp(8, 0x92)
    assert client.events() == [PubAck(5), PubComp(6, 0x92), PubRec(7), PubRel(8)]


@pytest.mark.parametrize("answer", [wire5.pubrec, wire5.pubcomp])
def test_an_answer_of_the_wrong_kind(answer: object) -> None:
    client = client_of()
    packet_id = client.send_publish("t", b"", 1, now=0.0)
    data = wire5.pubrec(packet_id) if answer is wire5.pubrec else wire5.pubcomp(packet_id)
    fails(client, data, "MQTT-2.2.1-5", 0x82)


@pytest.mark.parametrize("data", [wire5.suback(9, 0), wire5.unsuback(9, 0)])
def test_an_answer_to_no_request(data: bytes) -> None:
    fails(client_of(), data, "MQTT-2.2.1-6", 0x82)


def test_an_answer_has_a_code_for_each_filter() -> None:
    client = client_of()
    packet_id = client.send_subscribe([("a", 0), ("b", 0)], 0.0)
    fails(client, wire5.suback(packet_id, 0), "MQTT-3.8.4-6", 0x82)
    client = client_of()
    packet_id = client.send_unsubscribe(["a"], 0.0)
    fails(client, wire5.unsuback(packet_id, 0, 0), "MQTT-3.11.3-1", 0x82)


def test_a_program_that_acknowledges_by_itself() -> None:
    client = client_of(mine=((RECEIVE_MAXIMUM, 2),), manual_acks=True)
    client.receive_data(wire5.publish("t", b"", 1, 5) + wire5.publish("t", b"", 2, 6), 0.0)
    client.send_puback(5, 0.0, 0x80, USER)
    client.send_pubrec(6, 0.0, 0x97)
    assert client.data_to_send() == wire5.puback(5, 0x80, user("k", "v")) + wire5.pubrec(6, 0x97)
    client.events()
    # Both identifiers are free again.  [MQTT-4.3.3-9]
    client.receive_data(wire5.publish("t", b"", 1, 5) + wire5.publish("t", b"", 2, 6), 0.0)
    assert len(client.events()) == 2
    client.send_pubrec(6, 0.0)
    client.receive_data(wire5.pubrel(6), 0.0)
    client.send_pubcomp(6, 0.0, 0x92)
    assert client.data_to_send() == wire5.pubrec(6) + wire5.pubcomp(6, 0x92)


@pytest.mark.parametrize("role", [CLIENT, SERVER])
def test_the_receive_maximum_that_was_announced(role: int) -> None:
    mine: Properties = ((RECEIVE_MAXIMUM, 2),)
    statement = "MQTT-3.3.4-9" if role == CLIENT else "MQTT-3.3.4-7"

    def fresh() -> Connection:
        return client_of(mine=mine) if role == CLIENT else server_of(mine=mine)

    connection = fresh()
    for packet_id in range(1, 9):
        connection.receive_data(wire5.publish("t", b"", 1, packet_id), 0.0)
    for packet_id in (1, 2):
        connection.receive_data(wire5.publish("t", b"", 2, packet_id), 0.0)
    connection.receive_data(wire5.publish("t", b"", 2, 2, dup=True) + wire5.publish("t"), 0.0)
    connection.receive_data(wire5.pubrel(1) + wire5.publish("t", b"", 2, 3), 0.0)
    connection.data_to_send()
    fails(connection, wire5.publish("t", b"", 1, 9), statement, 0x93)


@pytest.mark.statement("MQTT-3.3.4-7")
@pytest.mark.statement("MQTT-3.3.4-8")
@pytest.mark.statement("MQTT-4.9.0-2")
def test_the_receive_maximum_of_the_server() -> None:
    client = client_of(prop(0x21, u16(1)))
    assert client.peer_receive_maximum == 1
    packet_id = client.send_publish("t", b"", 2, now=0.0)
    with pytest.raises(LocalProtocolError, match="1 messages"):
        client.send_publish("t", b"", 1, now=0.0)
    client.send_publish("t", b"", now=0.0)
    client.send_subscribe([("a", 0)], 0.0)
    client.send_pingreq(0.0)
    client.receive_data(wire5.pubrec(packet_id), 0.0)
    with pytest.raises(LocalProtocolError):
        client.send_publish("t", b"", 1, now=0.0)
    client.receive_data(wire5.puback(99) + wire5.pubcomp(packet_id), 0.0)
    client.send_publish("t", b"", 1, now=0.0)
    with pytest.raises(LocalProtocolError):
        client.send_publish("t", b"", 1, now=0.0)


# The next connection of a session


def interrupted(*qualities: int) -> tuple[Flow, list[int]]:
    """The delivery state of a client that has sent messages at these QoS and lost its server."""
    client = client_of(mine=((SESSION_EXPIRY_INTERVAL, 60),))
    sent = [
        client.send_publish("t", bytes([number]), qos, now=0.0, properties=USER)
        for number, qos in enumerate(qualities)
    ]
    client.eof(0.0)
    assert client.flow is not None
    return client.flow, sent


def again(number: int, qos: int, packet_id: int) -> bytes:
    return wire5.publish("t", bytes([number]), qos, packet_id, user("k", "v"), dup=True)


@pytest.mark.statement("MQTT-4.4.0-1")
def test_what_is_unfinished_is_sent_again() -> None:
    flow, sent = interrupted(1, 2, 1)
    client = Connection(CLIENT, flow=flow)
    client.send_connect(Connect("c", False, level=5), 0.0)
    client.data_to_send()
    client.receive_data(wire5.connack(present=True), 0.0)
    assert client.data_to_send() == again(0, 1, sent[0]) + again(1, 2, sent[1]) + again(
        2, 1, sent[2]
    )


@pytest.mark.statement("MQTT-4.9.0-1")
def test_what_is_sent_again_is_within_the_receive_maximum() -> None:
    flow, sent = interrupted(1, 2, 1, 2)
    flow.advance(sent[1], 3)  # PUBREC had come
    client = client_of(prop(0x21, u16(2)), clean=False, flow=flow, present=True)
    # PUBREL is no message, so it waits for none.
    assert client.data_to_send() == again(0, 1, sent[0]) + wire5.pubrel(sent[1])
    with pytest.raises(LocalProtocolError):
        client.send_publish("t", b"", 1, now=0.0)
    client.receive_data(wire5.puback(sent[0]), 0.0)
    assert client.data_to_send() == again(2, 1, sent[2])
    client.receive_data(wire5.puback(sent[2], 0x80), 0.0)
    assert client.data_to_send() == again(3, 2, sent[3])
    client.receive_data(wire5.pubcomp(sent[1]), 0.0)
    client.send_publish("t", b"", 1, now=0.0)


@pytest.mark.statement("MQTT-4.4.0-1")
@pytest.mark.parametrize(("qos", "reason"), [(1, None), (1, 0x97), (2, None), (2, 0x97)], ids=str)
def test_an_answer_to_what_has_not_been_sent_again_yet(qos: int, reason: int | None) -> None:
    """The server had it from the connection before; it is not sent a second time."""
    flow, sent = interrupted(qos, qos, qos)
    client = client_of(prop(0x21, u16(1)), clean=False, flow=flow, present=True)
    assert client.data_to_send() == again(0, qos, sent[0])
    is_released = qos == 2 and reason is None
    answer = wire5.puback if qos == 1 else wire5.pubrec
    client.receive_data(answer(sent[1], reason), 0.0)
    assert client.data_to_send() == (wire5.pubrel(sent[1]) if is_released else b"")
    client.receive_data(answer(sent[0], 0x97), 0.0)
    if is_released:
        assert client.data_to_send() == b""
        client.receive_data(wire5.pubcomp(sent[1]), 0.0)
    assert client.data_to_send() == again(2, qos, sent[2])
    client.receive_data(answer(sent[2], 0x97), 0.0)
    assert client.data_to_send() == b""
    assert flow.is_empty
    client.send_publish("t", b"", 1, now=0.0)


def test_what_this_server_does_not_take_is_given_back() -> None:
    flow, sent = interrupted(2, 1)
    flow.start(make_message("t", bytes(100), 1), 1)
    client = client_of(
        prop(0x24, b"\1"), prop(0x27, u32(60)), prop(0x21, u16(1)), clean=False, flow=flow,
        present=True,
    )  # fmt: skip
    assert client.data_to_send() == again(1, 1, sent[1])
    assert [message.qos for message in client.discarded] == [2]
    client.receive_data(wire5.puback(sent[1]), 0.0)
    assert client.data_to_send() == b""
    assert [len(message.payload) for message in client.discarded] == [1, 100]
    assert flow.is_empty


@pytest.mark.statement("MQTT-3.2.2-5")
def test_a_new_session_gives_back_what_the_old_one_had() -> None:
    flow, _ = interrupted(1)
    client = client_of(clean=False, flow=flow)
    assert client.data_to_send() == b""
    assert client.discarded == [make_message("t", b"\0", 1, properties=USER)]


@pytest.mark.statement("MQTT-3.2.2-4")
def test_a_session_that_there_is_none_of_here() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c", False, level=5), 0.0)
    fails(client, wire5.connack(present=True), "MQTT-3.2.2-4", 0x82)
    client = Connection(CLIENT, flow=Flow())
    client.send_connect(Connect("c", level=5), 0.0)
    fails(client, wire5.connack(present=True), "MQTT-3.2.2-2", 0x82)
    client = Connection(CLIENT, flow=Flow())
    client.send_connect(Connect("c", False, level=5), 0.0)
    client.receive_data(wire5.connack(present=True), 0.0)
    assert client.state == State.CONNECTED


# The end


@pytest.mark.statement("MQTT-3.14.4-1")
def test_a_server_says_why_it_closes() -> None:
    server = server_of()
    server.send_disconnect(0.0, 0x8B, ((REASON_STRING, "bye"),))
    assert server.data_to_send() == wire5.disconnect(0x8B, reason_string("bye"))
    assert server.wants_close
    with pytest.raises(LocalProtocolError):
        server.send_publish("t", b"", now=0.0)
    client = client_of()
    client.receive_data(wire5.disconnect(0x8B, reason_string("bye")) + wire5.publish("t"), 0.0)
    assert client.events() == [Disconnect(0x8B, ((REASON_STRING, "bye"),))]
    assert client.wants_close
    client.eof(1.0)
    assert client.events() == []


@pytest.mark.statement("MQTT-3.14.2-1")
@pytest.mark.statement("MQTT-3.14.2-2")
@pytest.mark.statement("P5-3.14.2-2")
def test_a_disconnect_that_mqtt_forbids_is_not_sent() -> None:
    later: Properties = ((SESSION_EXPIRY_INTERVAL, 60),)
    for client in (client_of(), client_of(mine=((SESSION_EXPIRY_INTERVAL, 0),))):
        with pytest.raises(LocalProtocolError, match="was 0"):
            client.send_disconnect(0.0, 0, later)
        with pytest.raises(LocalProtocolError, match="reason code"):
            client.send_disconnect(0.0, 0x8E)
        client.send_disconnect(0.0, 0, ((SESSION_EXPIRY_INTERVAL, 0),))
    server = server_of()
    with pytest.raises(LocalProtocolError, match="server"):
        server.send_disconnect(0.0, 0, ((SESSION_EXPIRY_INTERVAL, 0),))
    with pytest.raises(LocalProtocolError, match="reason code"):
        server.send_disconnect(0.0, 4)
    assert server.state == State.CONNECTED


def test_an_owner_that_reads_packet_by_packet_says_why_itself() -> None:
    server = server_of()
    server.feed(wire5.publish("#"), 0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        server.read_packet()
    assert server.state == State.FAILED
    assert server.wants_close
    assert not server.wants_read
    assert not server.can_read
    server.feed(wire5.publish("t"), 0.0)
    assert server.buffer.size_bytes == 0
    with pytest.raises(LocalProtocolError):
        server.send_publish("t", b"", now=0.0)
    server.send_disconnect(0.0, caught.value.reason)
    assert server.data_to_send() == wire5.disconnect(0x90)
    server.eof(1.0)
    assert server.events() == []


def test_a_failed_connection_can_be_stopped_without_a_word() -> None:
    server = server_of()
    server.feed(b"\0\0", 0.0)
    with pytest.raises(RemoteProtocolError):
        server.read_packet()
    server.stop_reading()
    assert server.state == State.CLOSING
    server.eof(1.0)
    assert server.events() == []


def test_a_peer_that_takes_no_packet_at_all() -> None:
    client = client_of(prop(0x27, u32(2)))
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive_data(wire5.publish("t", b"", 1, 1), 0.0)
    assert caught.value.reason == 0x95
    assert client.state == State.CLOSING
    assert client.data_to_send() == b""
    server = Connection(SERVER)
    server.receive_data(wire5.connect("c", prop(0x27, u32(2))), 0.0)
    with pytest.raises(LocalProtocolError, match="maximum of 2"):
        server.send_connack(ConnAck(), 0.0)


def test_a_server_that_is_silent_is_given_up() -> None:
    client = Connection(CLIENT, connack_timeout_s=3.0)
    client.send_connect(Connect("c", level=5, properties=((0x15, "m"),)), 1.0)
    assert client.next_deadline() == 4.0
    client.advance(4.0)
    assert client.events() == [ConnectionLost("no CONNACK in time")]


# What 3.1.1 has no words for


def test_reasons_and_properties_are_for_5() -> None:
    client = Connection(CLIENT)
    client.send_connect(Connect("c"), 0.0)
    client.receive_data(wire.connack(), 0.0)
    for send in (
        lambda: client.send_publish("t", b"", now=0.0, properties=USER),
        lambda: client.send_publish("t", b"", now=0.0, topic_alias=1),
        lambda: client.send_puback(1, 0.0, 0x80),
        lambda: client.send_pubrec(1, 0.0, 0, USER),
        lambda: client.send_pubcomp(1, 0.0, 0x92),
        lambda: client.send_subscribe([("a", 0)], 0.0, USER),
        lambda: client.send_unsubscribe(["a"], 0.0, USER),
        lambda: client.send_disconnect(0.0, 4),
    ):
        with pytest.raises(LocalProtocolError, match=r"only MQTT 5\.0"):
            send()
    with pytest.raises(LocalProtocolError, match="options"):
        client.send_subscribe([Subscription("a", 0, True)], 0.0)
    server = Connection(SERVER)
    server.receive_data(wire.connect(), 0.0)
    with pytest.raises(LocalProtocolError, match=r"only MQTT 5\.0"):
        server.send_connack(ConnAck(properties=USER), 0.0)


def test_a_message_of_5_goes_to_3_1_1_without_its_properties() -> None:
    received = server_of()
    received.receive_data(wire5.publish("t", b"x", 1, 1, prop(0x02, u32(5)), user("k", "v")), 0.0)
    packet = only_event(received)
    assert isinstance(packet, Publish)
    assert packet.message.properties == ((MESSAGE_EXPIRY_INTERVAL, 5), *USER)
    assert packet.message.head(1) + b"\0\1" + packet.message.payload == wire.publish(
        "t", b"x", 1, 1
    )
    assert (
        WILDCARD_SUBSCRIPTION_AVAILABLE,
        SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        SHARED_SUBSCRIPTION_AVAILABLE,
    ) == (0x28, 0x29, 0x2A)
