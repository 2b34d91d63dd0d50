"""Small questions to a live broker, each on a connection of its own."""

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from conformance._items import read_variable_byte_integer, variable_byte_integer
from conformance._link import Framer
from conformance._readable import MQTT_5, string_at

MOST_TOPICS = 10_000
QUIET_S = 0.3
"""How long nothing must come until all retained messages have."""
PATIENCE_S = 2.0
LONGEST_S = 10.0
"""How long it may go on."""
_PUBLISH, _SUBACK = 3, 9
_ACCEPTED, _PINGREQ, _PINGRESP, _DISCONNECT = 0, b"\xc0\0", b"\xd0\0", b"\xe0\0"
_SUBSCRIBE_TO_ALL = {4: b"\x82\x06\0\1\0\1#\0", MQTT_5: b"\x82\x07\0\1\0\0\1#\0"}


@dataclass
class Retained:
    """The topics of retained messages."""

    topics: set[str] = field(default_factory=set)
    is_unsure: bool = False
    """There are more than were looked at, or the broker did not answer."""


def connect_packet(client_id: bytes, level: int = 4) -> bytes:
    """A CONNECT that drops what there is of a session."""
    properties = b"\0" if level == MQTT_5 else b""
    body = b"\0\4MQTT" + bytes((level, 2)) + b"\0\x3c" + properties
    body += len(client_id).to_bytes(2, "big") + client_id
    return b"\x10" + variable_byte_integer(len(body)) + body


def clear_packet(topic: bytes, level: int = 4) -> bytes:
    """A PUBLISH that removes the retained message of a topic."""
    body = len(topic).to_bytes(2, "big") + topic + (b"\0" if level == MQTT_5 else b"")
    return b"\x31" + variable_byte_integer(len(body)) + body


def speaks(address: tuple[str, int], level: int) -> str:
    """What a client of this protocol level is told: "accepted", or what happens instead.

    Raises OSError where nothing listens.
    """
    with socket.create_connection(address, timeout=PATIENCE_S) as sock:
        try:
            sock.sendall(connect_packet(b"", level))
            packet = sock.recv(4096)
            if packet[:1] == b"\x20" and len(packet) < 4:
                packet += sock.recv(4096)
        except TimeoutError:
            return f"no answer in {PATIENCE_S:.0f} s"
        except OSError:
            packet = b""
        if packet[:1] != b"\x20" or len(packet) < 4:
            return "it ends the connection" if not packet else f"it answers {packet[:8].hex(' ')}"
        at = 3 if len(packet) < 130 else 4
        if packet[at] == _ACCEPTED:
            sock.sendall(_DISCONNECT)
            return "accepted"
        return f"it refuses with code {packet[at]:02X}"


def retained_topics(address: tuple[str, int]) -> Retained:
    """The topics that a subscriber to # is sent retained messages of."""
    found = Retained(is_unsure=True)
    with _session(address) as (sock, level):
        if sock is None:
            return found
        sock.sendall(_SUBSCRIBE_TO_ALL[level])
        deadline = time.monotonic() + LONGEST_S
        try:
            for packet in _packets(sock):
                sock.settimeout(QUIET_S)
                if packet[0] >> 4 == _SUBACK:
                    found.is_unsure = False
                if packet[0] & 1 and (topic := topic_of(packet)):
                    found.topics.add(topic.decode(errors="replace"))
                if len(found.topics) >= MOST_TOPICS or time.monotonic() > deadline:
                    found.is_unsure = True
                    break
        except OSError:
            pass  # nothing more comes
    return found


def clear_retained(address: tuple[str, int], topics: Iterable[str]) -> None:
    """Remove the retained messages of these topics, as far as the broker lets us."""
    names = [topic.encode() for topic in topics]
    if not names:
        return
    with _session(address) as (sock, level):
        if sock is None:
            return
        try:
            sock.sendall(b"".join(clear_packet(name, level) for name in names) + _PINGREQ)
            while next(_packets(sock), _PINGRESP) != _PINGRESP:
                pass
        except OSError:
            return


@contextmanager
def _session(address: tuple[str, int]) -> Iterator[tuple[socket.socket | None, int]]:
    """(a connection that the broker has accepted, its protocol level), or (None, 0)."""
    for level in (4, MQTT_5):
        try:
            sock = socket.create_connection(address, timeout=PATIENCE_S)
        except OSError:
            break
        with sock:
            try:
                sock.sendall(connect_packet(b"", level))
                packet = next(_packets(sock), b"")
            except OSError:
                continue
            if packet[:1] == b"\x20" and packet[3:4] == b"\0":
                yield sock, level
                return
    yield None, 0


def _packets(sock: socket.socket) -> Iterator[bytes]:
    """What comes, up to the end of the connection."""
    framer = Framer()
    while data := sock.recv(65536):
        yield from framer.feed(data)


def topic_of(packet: bytes) -> bytes:
    """The topic name of a PUBLISH; b"" of another packet, or where it cannot be read."""
    read = read_variable_byte_integer(packet, 1)
    if packet[0] >> 4 != _PUBLISH or read is None:
        return b""
    topic = string_at(packet, read[1])
    return topic[0] if topic else b""
