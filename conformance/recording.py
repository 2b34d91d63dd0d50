"""What passes between programs and a broker, as a file: one line of JSON for each packet.

The first line is the header: when and of which broker, and what is hidden. Each line after it is an
occurrence: a packet, or the end of a connection, with its time. A recording is written as it comes,
so one that was interrupted is whole up to there. docs/trace-format.md describes the lines.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from conformance._link import Framer
from conformance._readable import level_of
from conformance._redaction import CREDENTIALS, PAYLOAD, Redaction
from conformance._trace_text import (
    CAME,
    CLOSED,
    CUT,
    LOST,
    SENT,
    Occurrence,
    trace_text,
)

__all__ = [
    "CAME",
    "CLOSED",
    "CREDENTIALS",
    "CUT",
    "LOST",
    "PAYLOAD",
    "SENT",
    "Header",
    "Occurrence",
    "Recorder",
    "RecordingError",
    "Redaction",
    "is_recording",
    "read_recording",
    "trace_text",
    "without_credentials",
]

FORMAT = 1
MOST_UNFINISHED_BYTES = 16 * 1024 * 1024
"""A packet of more bytes is passed on and not recorded."""
_CONNECT = 1


class RecordingError(Exception):
    """A file that is no recording, or a damaged one. The message names the line."""


@dataclass(frozen=True)
class Header:
    """What a recording is of."""

    began: str = ""
    """Date and time in the form of ISO 8601."""
    broker: str = ""
    about: str = ""
    hidden: tuple[str, ...] = ()

    def line(self) -> str:
        """The first line of the file, without its end."""
        fields = {"began": self.began, "broker": self.broker, "about": self.about}
        return json.dumps({"recording": FORMAT, **fields, "hidden": self.hidden})


def occurrence_line(one: Occurrence) -> str:
    """A line of the file, without its end."""
    fields: dict[str, object] = {"at": round(one.at_s, 6), "connection": one.connection}
    fields["what"] = one.what
    if one.packet:
        fields["packet"] = one.packet.hex()
    if one.hidden:
        fields["hidden"] = one.hidden
    return json.dumps(fields)


def is_recording(text: str) -> bool:
    """Whether a file with this text is meant to be a recording."""
    return text.startswith('{"recording"')


def read_recording(path: Path) -> tuple[Header, list[Occurrence]]:
    """The header and all occurrences. Raises RecordingError, OSError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise RecordingError(f"{path} is no recording: it is not text") from None
    if not lines or not is_recording(lines[0]):
        raise RecordingError(f"{path} is no recording: make one with `iotd trace record`")
    found: list[Occurrence] = []
    for number, line in enumerate(lines[1:], 2):
        try:
            found.append(_occurrence(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break  # the program was killed while it wrote
            raise RecordingError(f"{path}:{number}: no line of a recording: {line[:60]}") from None
    try:
        return _header(json.loads(lines[0])), found
    except (ValueError, KeyError, TypeError):
        raise RecordingError(f"{path}:1: no header of a recording of form {FORMAT}") from None


def _header(fields: dict[str, object]) -> Header:
    if fields["recording"] != FORMAT:
        raise ValueError("of another release")
    began, broker, about = (str(fields[key]) for key in ("began", "broker", "about"))
    hidden = tuple(map(str, cast("list[str]", fields["hidden"])))
    return Header(began, broker, about, hidden)


def _occurrence(fields: dict[str, object]) -> Occurrence:
    what = str(fields["what"])
    if what not in (SENT, CAME, CUT, CLOSED, LOST):
        raise ValueError(what)
    return Occurrence(
        float(cast("float", fields["at"])),
        int(cast("int", fields["connection"])),
        what,
        bytes.fromhex(str(fields.get("packet", ""))),
        tuple(map(str, cast("list[str]", fields.get("hidden", [])))),
    )


def without_credentials(occurrences: Iterable[Occurrence]) -> list[Occurrence]:
    """The same with credentials hidden: what is handed on needs none."""
    found: list[Occurrence] = []
    recorder = Recorder(found.append, Redaction())
    for one in occurrences:
        if one.what in (SENT, CAME) and one.packet:
            recorder.add_packet(one.at_s, one.connection, one.what, one.packet, one.hidden)
        else:
            found.append(one)
    return found


@dataclass
class _Connection:
    level: int = 0
    """The protocol level that its CONNECT has named; 0 before one has come that can be read."""
    framers: dict[str, Framer] = field(default_factory=lambda: {SENT: Framer(), CAME: Framer()})
    is_ended: bool = False


class Recorder:
    """Cuts what passes into packets, hides what is to be hidden, and tells each of them."""

    def __init__(self, tell: Callable[[Occurrence], None], redaction: Redaction) -> None:
        self._tell = tell
        self._redaction = redaction
        self._connections: dict[int, _Connection] = {}
        self.count = 0
        """Packets and ends of connections that were told."""
        self.lost_bytes = 0
        """Bytes that were passed on and not recorded: of packets that are too large."""

    def add_bytes(self, at_s: float, connection: int, what: str, data: bytes) -> None:
        """Bytes of one direction: `SENT` by the program, or `CAME` from the broker."""
        known = self._connections.setdefault(connection, _Connection())
        framer = known.framers.get(what)
        if known.is_ended:
            return  # on its way when the other side had ended it already
        if framer is None:
            self.lost_bytes += len(data)
            return
        for packet in framer.feed(data):
            self.add_packet(at_s, connection, what, packet)
        if len(framer.rest) > MOST_UNFINISHED_BYTES:
            self.lost_bytes += len(framer.rest)
            del known.framers[what]
            self._say(Occurrence(at_s, connection, LOST))

    def add_packet(
        self, at_s: float, connection: int, what: str, packet: bytes, hidden: tuple[str, ...] = ()
    ) -> None:
        """A whole packet of one direction, in which this is `hidden` already."""
        known = self._connections.setdefault(connection, _Connection())
        if what == SENT and packet[0] >> 4 == _CONNECT:
            known.level = level_of(packet) or known.level
        if known.level or what == CAME:
            packet, more = self._redaction.apply(packet, known.level)
        else:  # No CONNECT of MQTT: it may be a request of HTTP with a password in it.
            packet, more = self._redaction.mask(packet), self._redaction.names()
        names = tuple(dict.fromkeys((*hidden, *more)))
        self._say(Occurrence(at_s, connection, what, packet, names))

    def add_end(self, at_s: float, connection: int, what: str) -> None:
        """The program has `CUT` the connection, or the broker has `CLOSED` it: the first counts."""
        known = self._connections.setdefault(connection, _Connection())
        if known.is_ended:
            return
        known.is_ended = True
        for direction, framer in known.framers.items():
            if framer.rest:
                rest, names = self._redaction.mask(framer.rest), self._redaction.names()
                self._say(Occurrence(at_s, connection, direction, rest, names))
        known.framers.clear()
        self._say(Occurrence(at_s, connection, what))

    def forget(self, connection: int) -> None:
        """Nothing more can come of this connection."""
        self._connections.pop(connection, None)

    def _say(self, one: Occurrence) -> None:
        self.count += 1
        self._tell(one)
