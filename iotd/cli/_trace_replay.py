"""`iotd trace replay` and `iotd trace convert`: what else a recording is good for."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Final

import typer

from conformance import TraceError
from conformance.convert import conformance_case
from conformance.recording import CREDENTIALS, LOST, SENT, RecordingError
from conformance.replay import TooDifferentError, replay, scenario_of
from iotd.cli._address import written
from iotd.cli._program import CannotRunError
from iotd.cli._trace_show import load

EXIT_DIFFERENT: Final = 1
EXIT_NOT_PLAYED: Final = 2


def parse_speed(text: str) -> float:
    """Times the speed of the recording; 0 for `max`. Raises `typer.BadParameter`."""
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not speed > 0 or math.isinf(speed):
        raise typer.BadParameter(
            f'found "{text}"; allowed: max, or a number above 0', param_hint="--speed"
        )
    return speed


def replay_recording(path: Path, address: tuple[str, int], speed: float) -> int:
    """Play it and print what differs; returns the exit code."""
    try:
        header, occurrences = load(path)
        scenario, lines = scenario_of(occurrences, path)
    except (CannotRunError, RecordingError, TraceError) as error:
        print(f"iotd: {error}", file=sys.stderr)
        return EXIT_NOT_PLAYED
    if any(one.what == LOST for one in occurrences):
        print("iotd: packets are missing in this recording; they are not sent", file=sys.stderr)
    if any(CREDENTIALS in one.hidden for one in occurrences):
        print(
            "iotd: credentials are hidden in this recording, so clients give wrong ones; record "
            "with --keep-credentials where the broker asks for them",
            file=sys.stderr,
        )
    sent = sum(one.what == SENT for one in occurrences)
    more = ""
    try:
        differences = replay(scenario, lines, address, speed)
    except TooDifferentError as error:
        differences = error.differences
        more = " or more; the replay ended there"
    except OSError as error:
        print(
            f"iotd: {written(address)}: {error.strerror or error}; is a broker listening there?",
            file=sys.stderr,
        )
        return EXIT_NOT_PLAYED
    for one in differences:
        print(one.source or "at the end")
        print(f"    expected  {one.expected}\n    got       {one.actual}")
    count = len(differences)
    what = (
        "no differences" if not count else "1 difference" if count == 1 else f"{count} differences"
    )
    of = f" from {header.broker}" if header.broker else ""
    print(f"{what}{more}{of}: {sent:,} packets sent")
    return EXIT_DIFFERENT if differences else 0


def convert(path: Path, output: Path | None, name: str | None) -> int:
    """Write a conformance case; returns the exit code. Raises `CannotRunError`."""
    header, occurrences = load(path)
    plain = re.sub(r"[^\w./+-]+", "-", name or (output or path).stem).strip("-") or "recorded"
    text = conformance_case(occurrences, header, plain)
    if output is None:
        print(text, end="")
        return 0
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CannotRunError(f"{output} is there already; name another file") from None
    except OSError as error:
        raise CannotRunError(f"cannot write {output}: {error.strerror}") from None
    return 0
