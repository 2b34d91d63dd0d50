"""What holds for every packet and for any bytes at all."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mqtt_core import (
    CLIENT,
    SERVER,
    Auth,
    ConnAck,
    Connect,
    Connection,
    ConnectionLost,
    ConnectionRefused,
    Disconnect,
    Packet,
    Publish,
    RemoteProtocolError,
    State,
    encode,
    make_publish,
)
from mqtt_core.properties import AUTHENTICATION_METHOD, SUBSCRIPTION_IDENTIFIER, TOPIC_ALIAS
from tests.core import wire
from tests.core.bytecases import CONNECTED, FRESH, Wrong, connection_in, read
from tests.strategies import (
    auths5,
    client_disconnects5,
    connacks,
    connacks5,
    connects,
    connects5,
    cut_positions,
    disconnects,
    from_clients,
    from_clients5,
    from_servers,
    from_servers5,
    pieces,
    publishes,
    publishes5,
    server_disconnects5,
)


def read_one(role: int, state: str, data: bytes, level: int = 4) -> Packet:
    connection, base = connection_in(role, state, level=level)
    packets, wrong = read(connection, [data], base)
    assert wrong is None
    (packet,) = packets
    return packet


@given(connects)
def test_connect_survives_the_wire(packet: Connect) -> None:
    again = read_one(SERVER, FRESH, encode(packet))
    assert again == packet
    assert isinstance(again, Connect)
    assert again.password == packet.password


@given(connacks)
def test_connack_survives_the_wire(packet: ConnAck) -> None:
    assert read_one(CLIENT, FRESH, encode(packet)) == packet


@given(from_clients | disconnects)
def test_what_clients_send_survives_the_wire(packet: Packet) -> None:
    assert read_one(SERVER, CONNECTED, encode(packet)) == packet


@given(from_servers)
def test_what_servers_send_survives_the_wire(packet: Packet) -> None:
    assert read_one(CLIENT, CONNECTED, encode(packet)) == packet


@given(connects5)
def test_connect_of_5_survives_the_wire(packet: Connect) -> None:
    again = read_one(SERVER, FRESH, encode(packet), 5)
    assert again == packet
    assert isinstance(again, Connect)
    assert again.password == packet.password


@given(connacks5)
def test_connack_of_5_survives_the_wire(packet: ConnAck) -> None:
    assert read_one(CLIENT, FRESH, encode(packet, 5), 5) == packet


@given(from_clients5 | client_disconnects5)
def test_what_clients_of_5_send_survives_the_wire(packet: Packet) -> None:
    data = encode(packet, 5)
    again = read_one(SERVER, CONNECTED, data, 5)
    assert again == packet
    # What was read keeps its bytes, so that they can be sent on; and they are those.
    assert encode(again, 5) == data


@given(from_servers5 | server_disconnects5)
def test_what_servers_of_5_send_survives_the_wire(packet: Packet) -> None:
    data = encode(packet, 5)
    again = read_one(CLIENT, CONNECTED, data, 5)
    assert again == packet
    assert encode(again, 5) == data


@given(publishes5(without=(TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER)), publishes)
def test_a_message_of_one_version_can_be_sent_in_the_other(five: Publish, four: Publish) -> None:
    read5 = read_one(SERVER, CONNECTED, encode(five, 5), 5)
    read4 = read_one(SERVER, CONNECTED, encode(four), 4)
    assert isinstance(read5, Publish)
    assert isinstance(read4, Publish)
    bare = make_publish(five.topic, five.payload, five.qos, five.retain, five.packet_id, five.dup)
    assert encode(read5) == encode(bare)
    assert encode(read4, 5) == encode(four, 5)


@given(auths5(0x19, "m"), auths5(0x18, "m"))
def test_auth_survives_the_wire(asks: Auth, goes_on: Auth) -> None:
    client, server = Connection(CLIENT), Connection(SERVER)
    client.send_connect(Connect("c", level=5, properties=((AUTHENTICATION_METHOD, "m"),)), 0.0)
    server.receive_data(client.data_to_send(), 0.0)
    server.send_auth(goes_on, 0.0)
    client.receive_data(server.data_to_send(), 0.0)
    client.send_auth(goes_on, 0.0)
    server.receive_data(client.data_to_send(), 0.0)
    server.send_connack(ConnAck(), 0.0)
    client.receive_data(server.data_to_send(), 0.0)
    client.send_auth(asks, 0.0)
    server.receive_data(client.data_to_send(), 0.0)
    assert client.events()[0] == goes_on
    assert server.events()[1:] == [goes_on, asks]


@given(from_clients)
def test_the_same_packet_gives_the_same_bytes_again(packet: Packet) -> None:
    """What was read keeps its bytes, so that they can be sent on; and they are those."""
    data = encode(packet)
    assert encode(read_one(SERVER, CONNECTED, data)) == data


@given(st.lists(from_clients, max_size=6), st.binary(max_size=12), cut_positions)
def test_any_cut_of_any_bytes_gives_the_same(
    packets: list[Packet], rest: bytes, cuts: list[int]
) -> None:
    check_cuts(packets, rest, cuts, 4)


@given(st.lists(from_clients5, max_size=6), st.binary(max_size=12), cut_positions)
def test_any_cut_of_any_bytes_of_5_gives_the_same(
    packets: list[Packet], rest: bytes, cuts: list[int]
) -> None:
    check_cuts(packets, rest, cuts, 5)


def check_cuts(packets: list[Packet], rest: bytes, cuts: list[int], level: int) -> None:
    data = b"".join(encode(packet, level) for packet in packets) + rest
    connection, base = connection_in(SERVER, CONNECTED, level=level)
    whole = read(connection, [data], base)
    connection, base = connection_in(SERVER, CONNECTED, level=level)
    assert read(connection, pieces(data, cuts), base) == whole
    assert whole[0][: len(packets)] == packets


@st.composite
def almost_packets(draw: st.DrawFn) -> bytes:
    """Bytes that look like packets: a right header before anything, or a right packet changed."""
    if draw(st.booleans()):
        body = draw(st.binary(max_size=60))
        return wire.packet(draw(st.integers(0, 255)), body)
    level = draw(st.sampled_from([4, 5]))
    if level == 5:
        packets = from_clients5 | from_servers5 | connects5 | connacks5 | auths5(0x18, "m")
    else:
        packets = from_clients | from_servers | connects | connacks
    data = bytearray(encode(draw(packets), level))
    for _ in range(draw(st.integers(1, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


any_bytes = st.binary(max_size=80) | st.lists(almost_packets(), max_size=4).map(b"".join)


levels = st.sampled_from([4, 5])


@given(st.sampled_from([CLIENT, SERVER]), st.sampled_from([FRESH, CONNECTED]), levels, any_bytes)
@example(SERVER, FRESH, 4, b"")
def test_any_bytes_give_packets_or_a_remote_error(
    role: int, state: str, level: int, data: bytes
) -> None:
    connection, base = connection_in(role, state, level=level)
    packets, wrong = read(connection, [data], base)
    assert connection.buffer.size_bytes <= len(data)
    if wrong is not None:
        assert 0 <= wrong.offset <= len(data)
        has_answer = connection.level == 5
        ended = State.FAILED if has_answer else State.CLOSING
        assert connection.state == (State.ANSWERING if wrong.is_refusal else ended)
        if has_answer:
            assert wrong.statement or wrong.reason == 0x97
    for packet in packets:
        assert repr(packet)


@given(st.sampled_from([CLIENT, SERVER]), levels, any_bytes, cut_positions)
def test_any_bytes_in_any_pieces_to_a_driver_that_is_no_broker(
    role: int, level: int, data: bytes, cuts: list[int]
) -> None:
    """`receive_data` with its own bookkeeping: the same, and nothing else comes out of it."""
    connection, base = connection_in(role, CONNECTED, level=level)
    wrong: Wrong | None = None
    for piece in pieces(data, cuts):
        try:
            connection.receive_data(piece, 0.0)
        except RemoteProtocolError as error:
            is_refusal = isinstance(error, ConnectionRefused)
            wrong = Wrong(error.statement, error.offset - base, error.reason, is_refusal)
            break
    events = connection.events()
    if wrong is not None:
        assert not wrong.is_refusal
        assert 0 <= wrong.offset <= len(data)
        assert connection.state == State.CLOSING
        connection.receive_data(b"more", 1.0)
        assert connection.events() == []
    elif any(isinstance(event, Disconnect) for event in events):
        assert connection.state == State.CLOSING
    connection.eof(2.0)
    assert connection.state == State.CLOSED
    lost = [event for event in connection.events() if isinstance(event, ConnectionLost)]
    was_expected = wrong is not None or isinstance(events[-1] if events else None, Disconnect)
    assert len(lost) == (0 if was_expected else 1)
    if level == 5 and wrong is not None:  # the peer is told why
        frames, rest = wire.split(connection.data_to_send())
        assert (frames[-1].kind, rest) == (14, b"")


@given(any_bytes, cut_positions)
def test_any_bytes_as_the_first(data: bytes, cuts: list[int]) -> None:
    connection = Connection(SERVER)
    _, wrong = read(connection, pieces(data, cuts), 0)
    if wrong is not None and wrong.is_refusal:
        connection.send_connack(ConnAck(False, wrong.reason), 0.0)
        assert len(connection.data_to_send()) == (5 if connection.level == 5 else 4)
    assert connection.state in (State.OPENING, State.ANSWERING, State.CLOSING)
