"""`iotd doctor` and its flags. What it does is loaded only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

DOCTOR_HELP: Final = """\
Play the conformance suite to a broker, and say which statements of MQTT 3.1.1 and 5.0 it breaks: by
id, with what the statement asks, and the bytes that were sent, expected and got.

\b
Examples:
  iotd doctor 127.0.0.1:1883
  iotd doctor 127.0.0.1:1883 --only 5.0
  iotd doctor 127.0.0.1:1883 --statement MQTT-3.3.5-1 --statement MQTT-4.7.1-2
  iotd doctor 127.0.0.1:1883 --json findings.json
  iotd doctor 127.0.0.1:1883 --markdown > findings.md
  iotd doctor 127.0.0.1:1883 --settings "max_packet_size_bytes=1000"

It is for a test broker, which nobody else uses: hundreds of clients send what is right and what is
wrong to it, some of them on topics and with client identifiers that others might use too. The
broker must take clients without a user name. What it is set to otherwise can be said with
--settings, in the words of docs/trace-format.md, and more can be tested; what could not be is told.

The exit code is 0 if nothing is broken, 1 if something is, 2 if the broker could not be examined.
"""


def doctor_command(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The test broker.")],
    only: Annotated[
        str | None, typer.Option(metavar="3.1.1|5.0", help="Only this version of MQTT.")
    ] = None,
    statement: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Only this statement; may be repeated."),
    ] = None,
    settings: Annotated[
        str, typer.Option(metavar="KEY=VALUE ...", help="What the broker is set to.")
    ] = "",
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all findings as JSON; - prints it."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the findings as Markdown.")
    ] = False,
    all: Annotated[
        bool, typer.Option("--all", help="Show every failure, not one for each statement.")
    ] = False,
    time: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="How long it may take.")
    ] = 300.0,
) -> None:
    """Taken from `DOCTOR_HELP`."""
    from iotd.cli._address import parse_address
    from iotd.cli._doctor import DoctorOptions, doctor

    options = DoctorOptions(
        address=parse_address(address, "HOST:PORT"),
        version=only or "",
        statements=tuple(statement or ()),
        settings=settings,
        json=json,
        is_markdown=markdown,
        is_whole=all,
        time_s=time,
    )
    raise typer.Exit(doctor(options))
