"""Byte cases as data: what a connection makes of its peer's bytes, however they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mqtt_core import (
    CLIENT,
    MQTT_3_1_1,
    MQTT_5,
    SERVER,
    ConnAck,
    Connect,
    Connection,
    ConnectionRefused,
    Packet,
    RemoteProtocolError,
)
from tests.core import wire, wire5

FRESH = "fresh"
CONNECTED = "connected"


@dataclass(frozen=True)
class Wrong:
    """The error that must come: statement, offset from the case's first byte, and reason."""

    statement: str
    offset: int
    reason: int = 0x81
    is_refusal: bool = False


@dataclass(frozen=True)
class Case:
    """Bytes for a connection of a role in a state, with the packets and the error they give."""

    name: str
    role: int
    data: bytes
    packets: tuple[Packet, ...] = ()
    wrong: Wrong | None = None
    state: str = CONNECTED
    limit_bytes: int = 268_435_460
    level: int = MQTT_3_1_1
    newest_level: int = MQTT_5

    def __str__(self) -> str:
        return self.name


def to_server(name: str, data: bytes, *packets: Packet) -> Case:
    """What a connected client may send."""
    return Case(name, SERVER, data, packets)


def to_client(name: str, data: bytes, *packets: Packet) -> Case:
    """What a server may send to a connected client."""
    return Case(name, CLIENT, data, packets)


def wrong_to_server(
    name: str, data: bytes, statement: str, offset: int, reason: int = 0x81
) -> Case:
    """What a connected client may not send."""
    return Case(name, SERVER, data, (), Wrong(statement, offset, reason))


def wrong_to_client(
    name: str, data: bytes, statement: str, offset: int, reason: int = 0x81
) -> Case:
    """What a server may not send to a connected client."""
    return Case(name, CLIENT, data, (), Wrong(statement, offset, reason))


def connection_in(
    role: int,
    state: str,
    limit_bytes: int = 268_435_460,
    level: int = MQTT_3_1_1,
    newest_level: int = MQTT_5,
) -> tuple[Connection, int]:
    """A connection in a state, and how many bytes it has read to get there."""
    connection = Connection(role, max_packet_size_bytes=limit_bytes, newest_level=newest_level)
    if role == CLIENT:
        connection.send_connect(Connect("c", level=level), 0.0)
    prelude = b""
    if state == CONNECTED:
        if role == CLIENT:
            prelude = wire5.connack() if level == MQTT_5 else wire.connack()
        else:
            prelude = wire5.connect() if level == MQTT_5 else wire.connect(level=level)
        connection.feed(prelude, 0.0)
        assert connection.read_packet() is not None
        assert connection.read_packet() is None
        if role == SERVER:
            connection.send_connack(ConnAck(), 0.0)
    connection.data_to_send()
    return connection, len(prelude)


def read(
    connection: Connection, pieces: Iterator[bytes] | list[bytes], base: int
) -> tuple[list[Packet], Wrong | None]:
    """The packets in the pieces, and the error, with its offset counted from `base`."""
    packets: list[Packet] = []
    try:
        for piece in pieces:
            connection.feed(piece, 0.0)
            while connection.can_read and (packet := connection.read_packet()) is not None:
                packets.append(packet)
    except RemoteProtocolError as error:
        is_refusal = isinstance(error, ConnectionRefused)
        return packets, Wrong(error.statement, error.offset - base, error.reason, is_refusal)
    return packets, None


def cuts(data: bytes, most: int = 400) -> Iterator[list[bytes]]:
    """The data whole, byte by byte, and cut in two at every position (of large data, at those
    near its ends)."""
    yield [data]
    if len(data) <= most:
        yield [data[at : at + 1] for at in range(len(data))]
        positions = list(range(1, len(data)))
    else:
        positions = [*range(1, 12), len(data) // 2, *range(len(data) - 4, len(data))]
    for at in positions:
        yield [data[:at], data[at:]]


def play(case: Case) -> None:
    """Give a case to a connection in every cut, and compare."""
    for pieces in cuts(case.data):
        connection, base = connection_in(
            case.role, case.state, case.limit_bytes, case.level, case.newest_level
        )
        packets, wrong = read(connection, pieces, base)
        shown = [len(piece) for piece in pieces]
        assert wrong == case.wrong, f"{case.name} cut as {shown}: {wrong}"
        assert packets == list(case.packets), f"{case.name} cut as {shown}"
        if wrong is None:
            assert connection.buffer.size_bytes == 0
