"""What holds for every packet and for any bytes at all."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mqtt_core import (
    CLIENT,
    SERVER,
    ConnAck,
    Connect,
    Connection,
    ConnectionLost,
    ConnectionRefused,
    Disconnect,
    Packet,
    RemoteProtocolError,
    State,
    encode,
)
from tests.core import wire
from tests.core.bytecases import CONNECTED, FRESH, Wrong, connection_in, read
from tests.strategies import (
    connacks,
    connects,
    cut_positions,
    disconnects,
    from_clients,
    from_servers,
    pieces,
)


def read_one(role: int, state: str, data: bytes) -> Packet:
    connection, base = connection_in(role, state)
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


@given(from_clients)
def test_the_same_packet_gives_the_same_bytes_again(packet: Packet) -> None:
    """What was read keeps its bytes, so that they can be sent on; and they are those."""
    data = encode(packet)
    assert encode(read_one(SERVER, CONNECTED, data)) == data


@given(st.lists(from_clients, max_size=6), st.binary(max_size=12), cut_positions)
def test_any_cut_of_any_bytes_gives_the_same(
    packets: list[Packet], rest: bytes, cuts: list[int]
) -> None:
    data = b"".join(encode(packet) for packet in packets) + rest
    connection, base = connection_in(SERVER, CONNECTED)
    whole = read(connection, [data], base)
    connection, base = connection_in(SERVER, CONNECTED)
    assert read(connection, pieces(data, cuts), base) == whole
    assert whole[0][: len(packets)] == packets


@st.composite
def almost_packets(draw: st.DrawFn) -> bytes:
    """Bytes that look like packets: a right header before anything, or a right packet changed."""
    if draw(st.booleans()):
        body = draw(st.binary(max_size=60))
        return wire.packet(draw(st.integers(0, 255)), body)
    data = bytearray(encode(draw(from_clients | from_servers | connects | connacks)))
    for _ in range(draw(st.integers(1, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


any_bytes = st.binary(max_size=80) | st.lists(almost_packets(), max_size=4).map(b"".join)


@given(st.sampled_from([CLIENT, SERVER]), st.sampled_from([FRESH, CONNECTED]), any_bytes)
@example(SERVER, FRESH, b"")
def test_any_bytes_give_packets_or_a_remote_error(role: int, state: str, data: bytes) -> None:
    connection, base = connection_in(role, state)
    packets, wrong = read(connection, [data], base)
    assert connection.buffer.size_bytes <= len(data)
    if wrong is not None:
        assert 0 <= wrong.offset <= len(data)
        assert connection.state == (State.ANSWERING if wrong.is_refusal else State.CLOSING)
    for packet in packets:
        assert repr(packet)


@given(st.sampled_from([CLIENT, SERVER]), any_bytes, cut_positions)
def test_any_bytes_in_any_pieces_to_a_driver_that_is_no_broker(
    role: int, data: bytes, cuts: list[int]
) -> None:
    """`receive_data` with its own bookkeeping: the same, and nothing else comes out of it."""
    connection, base = connection_in(role, CONNECTED)
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
    assert len(lost) == (0 if wrong is not None or events[-1:] == [Disconnect()] else 1)


@given(any_bytes, cut_positions)
def test_any_bytes_as_the_first(data: bytes, cuts: list[int]) -> None:
    connection = Connection(SERVER)
    _, wrong = read(connection, pieces(data, cuts), 0)
    if wrong is not None and wrong.is_refusal:
        assert wrong.reason in (0x84, 0x85)
        connection.send_connack(ConnAck(False, wrong.reason), 0.0)
        assert len(connection.data_to_send()) == 4
    assert connection.state in (State.OPENING, State.ANSWERING, State.CLOSING)
