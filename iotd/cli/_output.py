"""What commands print for people: tables, sizes, times, and how far something is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from itertools import islice
from typing import Final, Literal

_PROGRESS_S: Final = 1.0


class Progress:
    """A line on a terminal that says how far something is; nothing where nobody looks."""

    def __init__(self) -> None:
        self._is_seen = sys.stderr.isatty()
        self._told_at = time.monotonic()
        self._told = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def __call__(self, count: int, what: str) -> None:
        """Show a number of something, unless one was shown less than a second ago."""
        if self._is_seen and time.monotonic() - self._told_at >= _PROGRESS_S:
            self._told_at = time.monotonic()
            self._clear()
            line = f"{count:,} {what}"
            self._told = len(line)
            print(line, end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._told:
            print("\r" + " " * self._told, end="\r", file=sys.stderr, flush=True)
            self._told = 0


def print_table(heads: list[str], rows: Iterable[tuple[str, ...]], hidden: object = ()) -> None:
    """Print a table; a head that begins with > is that of a column of numbers."""
    from rich import box  # slow to load, and wanted only here
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no edge to fold at
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=not hidden)
    for head in heads:
        justify: Literal["left", "right"] = "right" if head.startswith(">") else "left"
        is_first = head is heads[0]  # where names stand, which may be long
        table.add_column(head.lstrip(">"), justify=justify, no_wrap=not is_first, overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    console.print(table)


def print_json(items: Iterable[object]) -> None:
    """A list, one item on each line, without ever having all of it."""
    items = iter(items)
    first = list(islice(items, 1))
    print("[", end="")
    for item in first:
        print("\n" + json.dumps(item), end="")
    for item in items:
        print(",\n" + json.dumps(item), end="")
    print("\n]" if first else "]")


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{count:,} bytes" if unit == "bytes" else f"{amount:,.1f} {unit}"


def duration(seconds: float) -> str:
    """A time span for people, in its two greatest units: `2d7h`, `40s`."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return "".join(parts)
