"""A recording as a sequence diagram: a lane for each client, one for the broker, rows in between.

Only what stands where is decided here; `iotd trace show` gives it colours and a width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conformance._readable import NAMES, level_of, string_at
from conformance._summary import name_of, printable, summary
from conformance._trace_text import identity_of
from conformance.recording import CAME, CLOSED, CUT, LOST, PAYLOAD, SENT, Occurrence
from mqtt_core import topic_matches

PACKET_NAMES = tuple(name for name in NAMES if " " not in name)
ENDS = {
    CUT: "the client ends the connection",
    CLOSED: "the broker ends the connection",
    LOST: "more follows that is not recorded: a packet of more than 16 MiB",
}
_CONNECT, _PUBLISH = 1, 3
_ACKNOWLEDGEMENTS = (4, 5, 6, 7)


@dataclass(frozen=True)
class Row:
    """One arrow, or the end of a connection."""

    at_s: float
    lane: int
    """The client's."""
    client: str
    is_to_broker: bool
    name: str
    """The packet's name; "" for what is no packet."""
    text: str
    """Its main fields."""
    packet: bytes = b""
    topic: str = ""
    """Of PUBLISH, and of the acknowledgements of one."""


def diagram(occurrences: Iterable[Occurrence]) -> tuple[list[str], list[Row]]:
    """(names of the lanes, rows). A client that comes again goes on in its lane."""
    reader = DiagramReader()
    rows = [reader.row(one) for one in occurrences]
    return reader.lanes, rows


@dataclass
class _Connection:
    client: str
    lane: int
    level: int = 0


class DiagramReader:
    """Makes rows of occurrences as they come.

    Without `keeps_lanes` all are in lane 0 and only open connections are remembered, so that it can
    go on for ever.
    """

    def __init__(self, *, keeps_lanes: bool = True) -> None:
        self._keeps_lanes = keeps_lanes
        self.lanes: list[str] = []
        self._connections: dict[int, _Connection] = {}
        self._topics: dict[tuple[int, bool, int], str] = {}
        """Topics of messages under way, by lane, direction and packet identifier."""

    def row(self, one: Occurrence) -> Row:
        """The next row."""
        known = self._connection(one)
        client = known.client
        is_to_broker = one.what in (SENT, CUT)
        if one.what not in (SENT, CAME):
            if one.what != LOST:
                self._connections.pop(one.connection, None)
            return Row(one.at_s, known.lane, client, is_to_broker, "", ENDS[one.what])
        packet = one.packet
        return Row(
            one.at_s,
            known.lane,
            client,
            is_to_broker,
            name_of(packet),
            summary(packet, known.level, PAYLOAD in one.hidden),
            packet,
            self._topic(known.lane, is_to_broker, packet),
        )

    def _connection(self, one: Occurrence) -> _Connection:
        known = self._connections.get(one.connection)
        if known is None:
            client_id = b""
            is_connect = one.what == SENT and one.packet[:1] == b"\x10"
            if is_connect:
                client_id = identity_of(one.packet)[0]
            client = printable(client_id) or f"({one.connection})"
            lane = self._lane(client) if self._keeps_lanes else 0
            known = _Connection(client, lane, level_of(one.packet) if is_connect else 0)
            self._connections[one.connection] = known
        return known

    def _lane(self, name: str) -> int:
        taken = {one.lane for one in self._connections.values()}
        free = [n for n, lane in enumerate(self.lanes) if lane == name and n not in taken]
        if free:
            return free[0]
        self.lanes.append(name)
        return len(self.lanes) - 1

    def _topic(self, lane: int, is_to_broker: bool, packet: bytes) -> str:
        kind = packet[0] >> 4
        body = packet[_body_at(packet) :]
        if kind in _ACKNOWLEDGEMENTS:
            is_from_publisher = kind == 6  # PUBREL goes the way of its PUBLISH
            way = is_to_broker if is_from_publisher else not is_to_broker
            return self._topics.get((lane, way, int.from_bytes(body[:2], "big")), "")
        topic = string_at(body, 0) if kind == _PUBLISH else None
        if topic is None:
            return ""
        text = topic[0].decode(errors="replace")
        if packet[0] & 0x06 and self._keeps_lanes:
            packet_id = int.from_bytes(body[topic[1] : topic[1] + 2], "big")
            self._topics[lane, is_to_broker, packet_id] = text
        return text


def _body_at(packet: bytes) -> int:
    """Where the variable header begins."""
    at = 1
    while at < min(len(packet), 5) and packet[at] & 0x80:
        at += 1
    return at + 1


def choose(rows: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    """The rows that a reader asks for: of these packet types, and with a topic that matches.

    Each of `wanted` is the name of a packet type in any case, or a topic filter. Several types are
    alternatives, several filters too; a row must fit both kinds. Raises ValueError for what is
    neither.
    """
    types = {text.upper() for text in wanted if text.upper() in PACKET_NAMES}
    filters = [text for text in wanted if text.upper() not in PACKET_NAMES]
    return [
        row
        for row in rows
        if (not types or row.name in types)
        and (not filters or (row.topic and any(topic_matches(one, row.topic) for one in filters)))
    ]
