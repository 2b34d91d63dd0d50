"""Turns what passed between programs and a broker into a trace that replays.

What the broker chose (packet identifiers of its deliveries) becomes variables, pauses become clock
steps. Where an answer and a delivery to one client come close together, their order is left open:
brokers differ, and the standard allows it. So are, in MQTT 5.0, what a broker says of itself and of
its reasons, and whether it uses topic aliases.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from conformance._items import read_variable_byte_integer
from conformance._properties import split_properties
from conformance._readable import MQTT_5, fields, level_of, string_at

SHORTEST_STEP_S = 0.4
"""A pause that is shorter is not part of the story."""
SHORTEST_PACE_S = 0.001
"""A pause that is shorter is no pause, also where the pace is kept."""
_TOPIC_ALIAS_MAXIMUM = 0x22
_NO_MATCHING_SUBSCRIBERS = "10"
_EXPIRY = re.compile(r"message-expiry-interval (\d+)")
_ALIAS = re.compile(r"(, )?topic-alias \d+")

SENT, CAME, CUT, CLOSED, LOST = "sent", "came", "cut", "closed", "lost"
"""What may occur. `LOST`: from here one direction of the connection is not recorded."""


@dataclass(frozen=True)
class Occurrence:
    """One thing seen by the proxy: a packet, or the end of a connection by one of the sides."""

    at_s: float
    connection: int
    what: str
    packet: bytes = b""
    hidden: tuple[str, ...] = ()
    """What of the packet is not what passed: "payload", "credentials"."""


@dataclass
class _Seen:
    """What is known of one connection."""

    name: str = ""
    client_id: bytes = b""
    level: int = 4
    takes_aliases: bool = False
    is_open: bool = True


def trace_text(
    occurrences: Sequence[Occurrence],
    name: str,
    about: str = "",
    proves: str = "",
    *,
    is_paced: bool = False,
) -> str:
    """The trace file's text; `proves` as in a header: "v3: MQTT-7.0.0-2".

    `is_paced` keeps every pause before something is sent, for a replay at the original speed.
    """
    return _Writer(occurrences, is_paced).text(name, about, proves)


class _Writer:
    def __init__(self, occurrences: Sequence[Occurrence], is_paced: bool) -> None:
        self.occurrences = occurrences
        self.is_paced = is_paced
        self.last_s = occurrences[0].at_s if occurrences else 0.0
        self.seen: dict[int, _Seen] = {}
        self.variables: dict[tuple[bytes, int], str] = {}
        """By client id and packet identifier, while the delivery is under way."""
        self.numbers = count(1)
        self.anonymous = count(1)
        self.lines: list[str] = []
        self.came: list[tuple[str, bytes, str]] = []
        """(connection's name, packet, text) of packets to one client with nothing between."""

    def text(self, name: str, about: str, proves: str) -> str:
        head = [f"== {name}"]
        if any(_is_connect(one) and level_of(one.packet) == MQTT_5 for one in self.occurrences):
            head.append("version: 5.0")
        head += [f"about: {about}"] if about else []
        head += [f"proves {proves}"] if proves else []
        for one in self.occurrences:
            if one.what == LOST:
                continue
            self.pause(one)
            self.write(one)
        self.flush()
        return "\n".join([*head, *self.lines]) + "\n"

    def pause(self, one: Occurrence) -> None:
        """Write how long it took until this. A paced trace waits for what comes, however long."""
        pause_s = one.at_s - self.last_s
        if self.is_paced:
            if one.what not in (SENT, CUT):
                return
            self.flush()
            if pause_s >= SHORTEST_PACE_S:
                self.lines.append(f"@ {pause_s:.3f}s")
        elif pause_s >= SHORTEST_STEP_S:
            self.flush()
            self.lines.append(f"@ {pause_s:.1f}s")
        self.last_s = one.at_s

    def write(self, one: Occurrence) -> None:
        seen = self.seen.setdefault(one.connection, _Seen())
        if one.what == SENT:
            self.flush()
            if _is_connect(one):
                self.meet(seen, one.packet)
            self.lines.append(f"{self.name(seen)} > {self.sent(seen, one.packet)}")
        elif one.what == CAME:
            name = self.name(seen)
            if self.came and self.came[0][0] != name:
                self.flush()
            text = self.arrived(seen, one.packet) + self.patience(one)
            self.came.append((name, one.packet, text))
        elif seen.name:  # else it said nothing: a probe, or a try that was given up
            self.flush()
            seen.is_open = False
            end = "! cut" if one.what == CUT else f"= closed{self.patience(one)}"
            self.lines.append(f"{self.name(seen)} {end}")

    def patience(self, one: Occurrence) -> str:
        """How long to wait for this where it took longer than the runner waits by itself."""
        took_s = one.at_s - self.last_s
        is_long = self.is_paced and took_s > SHORTEST_STEP_S
        return f" within {2 * took_s + 2:.0f}s" if is_long else ""

    def flush(self) -> None:
        """Write what came; answers and deliveries mixed are in any order."""
        came, self.came = self.came, []
        if came and came[0][1][0] >> 4 == 2:  # CONNACK is always first
            self.lines.append(f"{came[0][0]} < {came[0][2]}")
            came = came[1:]
        # The QoS counts too: messages of different QoS have no order between them.
        kinds = {packet[0] & 0xF6 if packet[0] >> 4 == 3 else 0 for _, packet, _ in came}
        lines = [f"{name} < {text}" for name, _, text in came]
        if len(kinds) > 1:
            lines = ["any order", *(f"  {line}" for line in lines), "end"]
        self.lines += lines

    def meet(self, seen: _Seen, connect: bytes) -> None:
        """Name a connection after its client id, unless another that is open has the name."""
        parts = fields(connect)
        seen.level = level_of(connect)
        seen.client_id, properties = identity_of(connect)
        seen.takes_aliases = any(
            identifier == _TOPIC_ALIAS_MAXIMUM and any(value) for identifier, value in properties
        )
        plain = re.sub(r"\W+", "-", seen.client_id.decode(errors="replace"), flags=re.ASCII)
        name = plain.strip("-") or f"anonymous-{next(self.anonymous)}"
        if not name[0].isalpha():
            name = f"client-{name}"
        taken = {other.name for other in self.seen.values() if other.is_open}
        seen.name = next(
            choice
            for choice in (name, *(f"{name}-again-{n}" for n in range(1, len(parts) + 1000)))
            if choice not in taken
        )

    def name(self, seen: _Seen) -> str:
        if not seen.name:
            seen.name = f"anonymous-{next(self.anonymous)}"
        return seen.name

    def sent(self, seen: _Seen, packet: bytes) -> str:
        """What the program sent: an acknowledgement names its variable."""
        parts = fields(packet, seen.level)
        kind = packet[0] >> 4
        if kind in (4, 5, 7) and len(parts) > 2:
            key = (seen.client_id, int(parts[2][1:]))
            if key in self.variables:
                parts[2] = self.variables[key]
                if kind != 5 or (len(parts) > 3 and int(parts[3], 16) >= 0x80):
                    del self.variables[key]
        return " ".join(parts)

    def arrived(self, seen: _Seen, packet: bytes) -> str:
        """What the broker sent: identifiers that it chose become variables."""
        parts = fields(packet, seen.level)
        kind = packet[0] >> 4
        if kind == 3 and packet[0] & 0x06 and len(parts) > 3:
            parts[3] = self.variable(seen, int(parts[3][1:]))
        elif kind == 6 and len(parts) > 2:
            parts[2] = self.variable(seen, int(parts[2][1:]))
        if seen.level == MQTT_5:
            return " ".join(_left_open(parts, kind, bool(packet[0] & 0x06), seen.takes_aliases))
        return " ".join(parts)

    def variable(self, seen: _Seen, packet_id: int) -> str:
        key = (seen.client_id, packet_id)
        if key not in self.variables:
            self.variables[key] = f"$p{next(self.numbers)}"
        return self.variables[key]


def _is_connect(one: Occurrence) -> bool:
    return one.what == SENT and bool(one.packet) and one.packet[0] >> 4 == 1


def identity_of(connect: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Client id and properties of a CONNECT; nothing where it cannot be read."""
    read = read_variable_byte_integer(connect, 1)
    protocol = string_at(connect, read[1]) if read else None
    if protocol is None:
        return b"", []
    at = protocol[1] + 4
    properties: list[tuple[int, bytes]] = []
    if level_of(connect) == MQTT_5:
        split = split_properties(connect, at)
        if split is None:
            return b"", []
        properties, at = split
    client_id = string_at(connect, at)
    return client_id[0] if client_id else b"", properties


def _left_open(parts: list[str], kind: int, has_id: bool, takes_aliases: bool) -> list[str]:
    """What a broker of MQTT 5.0 sent, with what another one may do in another way left open."""
    match kind:
        case 2 if len(parts) > 3:  # the properties of CONNACK are its own
            parts[3] = "[..]"
        case 4 | 5 | 6 | 7:
            reason = parts[3] if len(parts) > 3 else "00"
            is_no_subscriber = reason == _NO_MATCHING_SUBSCRIBERS
            parts[1:] = ["rl", parts[2], "(r10 | r00)" if is_no_subscriber else f"r{reason}"]
        case 9 | 11 | 15 if len(parts) > 3:
            parts[3] = "[..]"
        case 14 if len(parts) > 2:
            parts[2:] = [f"r{parts[2]}"]
        case 3:
            at = 3 + has_id
            parts[at] = _EXPIRY.sub(_waited, parts[at])
            if takes_aliases:
                between, given = parts[3:at], _ALIAS.sub("", parts[at])[1:-1]
                alias = f"[{given}{', ' if given else ''}topic-alias ?]"
                ways = [(parts[2], f"[{given}]"), (parts[2], alias), ("s''", alias)]
                choice = " | ".join(" ".join([name, *between, what]) for name, what in ways)
                parts[2 : at + 1] = [f"({choice})"]
    return parts


def _waited(found: re.Match[str]) -> str:
    """The message may have waited for a moment more or less."""
    seconds = int(found[1])
    return f"message-expiry-interval {max(seconds - 2, 0)}-{seconds}"
