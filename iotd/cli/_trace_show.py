"""`iotd trace show`: a recording as a sequence diagram."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Final

from rich.console import Console

from conformance.diagram import PACKET_NAMES, Row, choose, diagram
from conformance.recording import Header, Occurrence, RecordingError, read_recording
from iotd.cli._program import CannotRunError
from iotd.cli._trace_view import LaneView, LineView, make_console
from mqtt_core import topic_filter_fault

SVG_COLUMNS: Final = 80
_FONT: Final = re.compile(r" *@font-face \{.*?\}\n", re.DOTALL)
"""Who looks at a picture loads nothing from the network: the font is one that is there."""


def load(path: Path) -> tuple[Header, list[Occurrence]]:
    """What a recording holds. Raises `CannotRunError`."""
    try:
        return read_recording(path)
    except OSError as error:
        raise CannotRunError(f"cannot read {path}: {error.strerror}") from None
    except RecordingError as error:
        raise CannotRunError(str(error)) from None


def show(
    path: Path, wanted: list[str], with_bytes: bool, svg: Path | None, width: int | None
) -> int:
    """Print it, or make a picture of it; returns the exit code. Raises `CannotRunError`."""
    for text in wanted:
        fault = topic_filter_fault(text.encode(errors="surrogateescape"))
        if text.upper() not in PACKET_NAMES and fault is not None:
            raise CannotRunError(f"--filter {text}: {fault[0]}, and no packet type has this name")
    lanes, rows = diagram(load(path)[1])
    chosen = choose(rows, wanted)
    if svg is None:
        _print(make_console(width), lanes, chosen, with_bytes)
        return 0
    console = Console(
        record=True, file=io.StringIO(), width=width or SVG_COLUMNS, force_terminal=True,
        highlight=False, color_system="truecolor",
    )  # fmt: skip
    _print(console, lanes, chosen, with_bytes)
    picture = console.export_svg(title=f"iotd trace show {path.name}", unique_id="iotd")
    try:
        svg.write_text(_FONT.sub("", picture), "utf-8")
    except OSError as error:
        raise CannotRunError(f"cannot write {svg}: {error.strerror}") from None
    return 0


def _print(console: Console, lanes: list[str], rows: list[Row], with_bytes: bool) -> None:
    view = LaneView(console, lanes)
    if not rows:
        console.print("nothing of that is in the recording")
    elif view.fits:
        view.print_head()
        for row in rows:
            view.print(row, with_bytes)
    else:
        lines = LineView(console)
        for row in rows:
            lines.print(row, with_bytes)
