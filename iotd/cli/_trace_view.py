"""How rows of a trace look on a terminal: colours, lanes, time spans."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final

from rich.console import Console
from rich.text import Text

from conformance.diagram import Row

COLOURS: Final = {
    "CONNECT": "bold green", "CONNACK": "green", "PUBLISH": "bold cyan",
    "PUBACK": "blue", "PUBREC": "blue", "PUBREL": "blue", "PUBCOMP": "blue",
    "SUBSCRIBE": "bold magenta", "SUBACK": "magenta", "UNSUBSCRIBE": "bold magenta",
    "UNSUBACK": "magenta", "PINGREQ": "bright_black", "PINGRESP": "bright_black",
    "DISCONNECT": "bold yellow", "AUTH": "yellow", "": "red",
}  # fmt: skip
_TIME_COLUMNS: Final = 9
_WIDEST_LANE, _NARROWEST_LANE = 12, 4
_LEAST_TEXT: Final = 30
_BEHIND_BROKER: Final = 4
"""Columns from the broker's lane on: half of its name."""
_NAME_COLUMNS: Final = 8
"""In a lane that is narrower, names are cut: rows name their client."""
_NO_EDGE: Final = 10_000
_MOST_BYTES: Final = 512


@dataclass(frozen=True)
class Signs:
    """What lanes and arrows are drawn with."""

    lane: str = "│"
    line: str = "─"
    crossing: str = "┼"
    right: str = "▶"
    left: str = "◀"
    end: str = "✕"
    ellipsis: str = "…"
    to: str = "→"
    back: str = "←"
    micro: str = "µ"


ASCII: Final = Signs("|", "-", "+", ">", "<", "x", "~", "->", "<-", "u")


def make_console(width: int | None = None) -> Console:
    """A console for standard output. A pipe has no edge to fold at."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    if width is not None:
        console.width = width
    elif not console.is_terminal:
        console.width = _NO_EDGE
    return console


def signs_for(console: Console) -> Signs:
    """Those that its encoding has."""
    return Signs() if console.encoding.lower().startswith("utf") else ASCII


def time_span(seconds: float, micro: str = "µ") -> str:
    """A time since the packet before, with three digits: `+1.53 ms`, `+12.0 s`."""
    if seconds < 0.000_000_5:
        return ""
    for unit, size in ((f"{micro}s", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        amount = seconds / size
        if amount < 999.5 or unit == "s":
            digits = 2 if amount < 9.995 else 1 if amount < 99.95 else 0
            return f"+{amount:.{digits}f} {unit}"
    raise AssertionError("seconds have no greater unit")


class LineView:
    """Rows as lines, without lanes: for what is shown while it comes."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or make_console()
        self._signs = signs_for(self._console)
        self._last_s: float | None = None

    def print(self, row: Row, with_bytes: bool = False) -> None:
        """Print the next row, and with `with_bytes` its bytes."""
        span = (
            time_span(row.at_s - self._last_s, self._signs.micro)
            if self._last_s is not None
            else ""
        )
        self._last_s = row.at_s
        line = Text(f"{span:>{_TIME_COLUMNS}}  ", "bright_black")
        arrow = self._signs.to if row.is_to_broker else self._signs.back
        line.append(f"{row.client} {arrow} " if row.name else f"{row.client}: ", "default")
        self._console.print(_described(line, row), soft_wrap=True)
        if with_bytes and row.packet:
            for dumped in hex_lines(row.packet, 16):
                indent = " " * (_TIME_COLUMNS + 2)
                self._console.print(Text(indent + dumped, "bright_black"), soft_wrap=True)


def _described(line: Text, row: Row) -> Text:
    if row.name:
        line.append(row.name, COLOURS.get(row.name, "default"))
        line.append(f" {row.text}" if row.text else "", "default")
    else:
        line.append(row.text, COLOURS[""])
    return line


class LaneView:
    """Rows as arrows between lanes, the broker's at the right."""

    def __init__(self, console: Console, lanes: Sequence[str]) -> None:
        self._console = console
        self._signs = signs_for(console)
        self._lanes = [*lanes, "broker"]
        room = console.width - _TIME_COLUMNS - 2 - _LEAST_TEXT
        self._lane_columns = min(_WIDEST_LANE, room // len(self._lanes), console.width // 6)
        self._columns = self._place(len(self._lanes) - 1) + _BEHIND_BROKER
        self._text_columns = console.width - _TIME_COLUMNS - 2 - self._columns
        self._last_s: float | None = None

    @property
    def fits(self) -> bool:
        """Whether there is room for so many lanes."""
        return self._lane_columns >= _NARROWEST_LANE

    def print_head(self) -> None:
        """Print the names of the lanes."""
        head = Text(" " * (_TIME_COLUMNS + 1))
        for name in self._lanes:
            room = self._lane_columns - 1
            cut = name if len(name) <= room else name[: room - 1] + self._signs.ellipsis
            head.append(f"{cut:^{self._lane_columns}}", "bold")
        self._print(head)

    def print(self, row: Row, with_bytes: bool) -> None:
        """Print an arrow, what it carries, and with `with_bytes` its bytes."""
        span = (
            time_span(row.at_s - self._last_s, self._signs.micro)
            if self._last_s is not None
            else ""
        )
        self._last_s = row.at_s
        client = "" if self._lane_columns >= _NAME_COLUMNS else f"{row.client}: "
        words = " ".join(word for word in (client.rstrip(), row.name, row.text) if word)
        lines = wrap(words, self._text_columns, subsequent_indent="  ", break_on_hyphens=False) or [
            ""
        ]
        first = Text(f"{span:>{_TIME_COLUMNS}} ", "bright_black")
        first.append_text(self._arrow(row))
        first.append(" ")
        text = Text(lines[0])
        at = len(client)
        colour = COLOURS.get(row.name, "default")
        text.stylize(colour, at, at + len(row.name) if row.name else None)
        self._print(first.append_text(text))
        for more in lines[1:]:
            self._print(self._beside(Text(more)))
        if with_bytes and row.packet:
            room = self._text_columns
            for dumped in hex_lines(row.packet, 16 if room >= 68 else 8 if room >= 40 else 4):
                self._print(self._beside(Text(dumped, "bright_black")))

    def _print(self, line: Text) -> None:
        line.rstrip()
        self._console.print(line, soft_wrap=True)

    def _place(self, lane: int) -> int:
        return lane * self._lane_columns + self._lane_columns // 2

    def _beside(self, text: Text) -> Text:
        """A text beside lanes on which nothing passes."""
        line = Text(" " * (_TIME_COLUMNS + 1))
        line.append("".join(self._empty()), "bright_black")
        return line.append(" ").append_text(text)

    def _empty(self) -> list[str]:
        cells = [" "] * self._columns
        for lane in range(len(self._lanes)):
            cells[self._place(lane)] = self._signs.lane
        return cells

    def _arrow(self, row: Row) -> Text:
        cells = self._empty()
        start, end = self._place(row.lane), self._place(len(self._lanes) - 1)
        if not row.name:
            cells[end if not row.is_to_broker else start] = self._signs.end
            return Text("".join(cells), "bright_black")
        for at in range(start + 1, end):
            is_lane = cells[at] == self._signs.lane
            cells[at] = self._signs.crossing if is_lane else self._signs.line
        if row.is_to_broker:
            cells[end - 1] = self._signs.right
        else:
            cells[start + 1] = self._signs.left
        text = Text("".join(cells), "bright_black")
        text.stylize(COLOURS.get(row.name, "default"), start + 1, end)
        return text


def hex_lines(packet: bytes, width: int) -> list[str]:
    """The bytes, `width` in a line, each line with its offset and the bytes that are ASCII."""
    shown = packet[:_MOST_BYTES]
    lines = []
    for at in range(0, len(shown), width):
        part = shown[at : at + width]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{at:04x}  {part.hex(' '):<{width * 3 - 1}}  {text}")
    if len(packet) > len(shown):
        lines.append(f"and {len(packet) - len(shown):,} bytes more")
    return lines
