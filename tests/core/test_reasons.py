"""Reason codes: those of the standard's tables, from whom they may come, in every packet."""

from __future__ import annotations

import pytest

from mqtt_core import (
    CLIENT,
    SERVER,
    Auth,
    ConnAck,
    Connect,
    Connection,
    Disconnect,
    LocalProtocolError,
    Packet,
    PubAck,
    PubComp,
    PubRec,
    PubRel,
    RemoteProtocolError,
    SubAck,
    UnsubAck,
    encode,
    reason_name,
    reasons,
)
from mqtt_core._codes import (
    AUTH,
    CONNACK,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    REASON_NAMES,
    SUBACK,
    UNSUBACK,
)
from mqtt_core._encode5 import encode5
from mqtt_core._reasons import BY_BOTH, BY_CLIENT, BY_SERVER, REASON_STATEMENTS, REASONS, SENDERS
from mqtt_core.properties import AUTHENTICATION_METHOD
from tests.core import wire5
from tests.core.wire import packet, u16

# The tables of the standard, written down once more: codes by packet, and who may send them.
PUBLISH_ANSWERS = "00 10 80 83 87 90 91 97 99"
FROM_EITHER = {
    CONNACK: "",
    PUBACK: PUBLISH_ANSWERS,
    PUBREC: PUBLISH_ANSWERS,
    PUBREL: "00 92",
    PUBCOMP: "00 92",
    SUBACK: "",
    UNSUBACK: "",
    DISCONNECT: "00 80 81 82 83 90 93 94 95 96 97 98 99",
    AUTH: "18",
}
FROM_SERVERS = {
    CONNACK: "00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F",
    SUBACK: "00 01 02 80 83 87 8F 91 97 9E A1 A2",
    UNSUBACK: "00 11 80 83 87 8F 91",
    DISCONNECT: "87 89 8B 8D 8E 8F 9A 9B 9C 9D 9E 9F A0 A1 A2",
    AUTH: "00",
}
FROM_CLIENTS = {DISCONNECT: "04", AUTH: "19"}

METHOD = ((AUTHENTICATION_METHOD, "m"),)


def codes(text: str) -> set[int]:
    return {int(code, 16) for code in text.split()}


def packet_with(kind: int, reason: int) -> Packet:
    packets: dict[int, Packet] = {
        CONNACK: ConnAck(False, reason),
        PUBACK: PubAck(1, reason),
        PUBREC: PubRec(1, reason),
        PUBREL: PubRel(1, reason),
        PUBCOMP: PubComp(1, reason),
        SUBACK: SubAck(1, (reason,)),
        UNSUBACK: UnsubAck(1, (reason,)),
        DISCONNECT: Disconnect(reason),
        AUTH: Auth(reason, METHOD),
    }
    return packets[kind]


def data_with(kind: int, reason: int) -> bytes:
    code = bytes([reason])
    first = kind << 4 | (2 if kind == PUBREL else 0)
    if kind == CONNACK:
        return packet(first, b"\0", code, b"\0")
    if kind in (SUBACK, UNSUBACK):
        return packet(first, u16(1), b"\0", code)
    if kind == DISCONNECT:
        return packet(first, code)
    if kind == AUTH:
        return packet(first, code, wire5.props(wire5.method("m")))
    return packet(first, u16(1), code)


def reader_in(role: int, kind: int) -> Connection:
    """A connection that may read the packet, were its reason right."""
    connection = Connection(role)
    properties = METHOD if kind == AUTH else ()
    if role == CLIENT:
        connection.send_connect(Connect("c", level=5, properties=properties), 0.0)
        if kind not in (CONNACK, AUTH):
            connection.feed(wire5.connack(), 0.0)
            assert connection.read_packet() == ConnAck()
    else:
        connection.feed(encode(Connect("c", level=5, properties=properties)), 0.0)
        assert connection.read_packet() is not None
        connection.send_connack(ConnAck(), 0.0)
    return connection


@pytest.mark.parametrize("kind", REASONS, ids=str)
def test_the_tables_are_those_of_the_standard(kind: int) -> None:
    either = codes(FROM_EITHER[kind])
    by_client = either | codes(FROM_CLIENTS.get(kind, ""))
    by_server = either | codes(FROM_SERVERS.get(kind, ""))
    if kind in (PUBACK, PUBREC):
        by_client -= {0x10}  # "sent only by the Server"
    if kind == DISCONNECT:
        by_client |= {0x9B}  # 3.3.4 lets a client say so
    found = REASONS[kind]
    assert {code for code, sender in found.items() if sender & BY_CLIENT} == by_client
    assert {code for code, sender in found.items() if sender & BY_SERVER} == by_server
    assert set(found) <= set(REASON_NAMES)
    for reason in range(256):
        assert SENDERS[kind][reason] == found.get(reason, 0)


@pytest.mark.parametrize("role", [CLIENT, SERVER])
@pytest.mark.parametrize("kind", REASONS, ids=str)
def test_a_reason_is_read_from_whom_it_may_come(kind: int, role: int) -> None:
    if role == SERVER and kind in (CONNACK, SUBACK, UNSUBACK):
        return  # never from a client
    sender = BY_CLIENT if role == SERVER else BY_SERVER
    for reason in range(256):
        connection = reader_in(role, kind)
        connection.feed(data_with(kind, reason), 0.0)
        if REASONS[kind].get(reason, 0) & sender and not (kind == AUTH and reason in (0, 0x18)):
            assert connection.read_packet() == packet_with(kind, reason)
            continue
        try:
            read = connection.read_packet()
        except RemoteProtocolError as error:
            wrong = error
        else:
            assert read == Auth(0x18, METHOD)  # the server's turn
            continue
        assert wrong.reason == 0x82
        if not REASONS[kind].get(reason, 0) & sender:
            assert wrong.statement == REASON_STATEMENTS[kind]


@pytest.mark.parametrize("kind", REASONS, ids=str)
def test_a_reason_is_written_where_it_may_be(kind: int) -> None:
    for reason in range(256):
        for senders in (BY_CLIENT, BY_SERVER, BY_BOTH):
            may_be = REASONS[kind].get(reason, 0)
            if kind not in (CONNACK, SUBACK, UNSUBACK):  # only ever sent by servers
                may_be &= senders
            if may_be:
                data = encode5(packet_with(kind, reason), senders)
                shortest = {DISCONNECT: b"\xe0\0"}.get(kind, bytes([data[0], 2]) + u16(1))
                is_short = reason == 0 and kind not in (CONNACK, SUBACK, UNSUBACK, AUTH)
                assert data == (shortest if is_short else data_with(kind, reason))
                continue
            with pytest.raises(LocalProtocolError, match="reason code"):
                encode5(packet_with(kind, reason), senders)
    for reason in (-1, 256):
        with pytest.raises(LocalProtocolError, match="reason code"):
            encode(packet_with(kind, reason), 5)


def test_reasons_have_the_names_of_the_standard() -> None:
    assert reason_name(0) == "success"
    assert reason_name(0, DISCONNECT) == "normal disconnection"
    assert reason_name(0, SUBACK) == "granted QoS 0"
    assert reason_name(0x9B) == "QoS not supported"
    assert reason_name(0x7F) == "reason 0x7F"
    for reason, name in REASON_NAMES.items():
        constant = name.upper().replace(" ", "_").replace("-", "_")
        known = {"DISCONNECT_WITH_WILL_MESSAGE": "DISCONNECT_WITH_WILL"}
        assert getattr(reasons, known.get(constant, constant)) == reason
