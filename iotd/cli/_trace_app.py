"""The commands of `iotd trace` and their flags. What they do is loaded only when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

TRACE_HELP: Final = """\
Record what passes between MQTT clients and a broker, look at it, play it again.

\b
Examples:
  iotd trace record --to broker.local:1883 -o fault.jsonl    (clients connect to 127.0.0.1:1884)
  iotd trace show fault.jsonl
  iotd trace replay fault.jsonl 127.0.0.1:1883 --speed max
  iotd trace convert fault.jsonl -o fault.trace

A recording is lines of JSON, one for each packet, with its time: docs/trace-format.md.
"""

_RECORD_HELP: Final = """\
Stand between clients and a broker, pass everything on unchanged, and write down each packet.
Ctrl-C ends it.

\b
Examples:
  iotd trace record --to 127.0.0.1:1883
  iotd trace record --listen tcp://127.0.0.1:1884 --to broker.local:1883 -o fault.jsonl --show
  iotd trace record --to broker.local:1883 -o for-others.jsonl --redact-payloads --seconds 60

User names, passwords and authentication data are written as `redacted`, unless --keep-credentials
asks for them. --redact-payloads writes payloads (of messages and wills) as asterisks of the same
number. Topics, client identifiers and other properties are always kept: look at a recording before
you hand it on.
"""

_SHOW_HELP: Final = """\
Print a recording as a sequence diagram: a lane for each client, one for the broker, each packet
with its main fields and the time since the one before.

\b
Examples:
  iotd trace show fault.jsonl
  iotd trace show fault.jsonl --filter publish --filter 'sensors/#'
  iotd trace show fault.jsonl --bytes | less
  iotd trace show fault.jsonl --save-svg fault.svg

A filter is the name of a packet type, or a topic filter: that has the messages whose topic matches
and their acknowledgements. In a pipe it is plain text, with no line folded.
"""

_REPLAY_HELP: Final = """\
Send to a broker what the clients of a recording have sent, and say what it answers otherwise.
Identifiers that brokers choose may differ. The exit code is 0 if all was alike, 1 if not, 2 if it
could not be played.

\b
Examples:
  iotd trace replay fault.jsonl 127.0.0.1:1883
  iotd trace replay fault.jsonl 127.0.0.1:1883 --speed max
  iotd trace replay fault.jsonl 127.0.0.1:1883 --speed 10

Packets leave at the pace of the recording, or with --speed 10 ten times as fast, or with --speed
max without any pause; what the broker sends is awaited for longer than it took in the recording.
Sessions and retained messages stay on the broker as the clients leave them: take one for tests.
"""

_CONVERT_HELP: Final = """\
Turn a recording into a conformance case, a readable script with the bytes of both sides. What the
broker chose becomes variables, what brokers may do in another way is left open, and the header has
what you should fill in, with a guess at the statements of the standard that it shows.

\b
Examples:
  iotd trace convert fault.jsonl
  iotd trace convert fault.jsonl -o conformance/traces/publish/fault.trace --name lost-puback

Credentials are left out, also where the recording has them.
"""

Recorded = Annotated[Path, typer.Argument(metavar="FILE", help="What `record` has written.")]


def _root() -> None:
    """Taken from `TRACE_HELP`."""


def _record(
    to: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="The broker.")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="URL", help="Where clients connect to.")
    ] = "tcp://127.0.0.1:1884",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File to write. [default: trace-TIME.jsonl]"
        ),
    ] = None,
    redact_payloads: Annotated[
        bool, typer.Option("--redact-payloads", help="Write payloads as asterisks.")
    ] = False,
    keep_credentials: Annotated[
        bool,
        typer.Option("--keep-credentials", help="Write user names and passwords as they are."),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print packets as they pass.")] = False,
    about: Annotated[
        str, typer.Option(metavar="TEXT", help="A sentence for the reader: what is recorded.")
    ] = "",
    seconds: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="End by itself after this time.")
    ] = None,
    max_size: Annotated[
        int,
        typer.Option(metavar="MIB", min=1, help="End when the file has this size, in MiB."),
    ] = 1024,
) -> None:
    """Taken from `_RECORD_HELP`."""
    from iotd.cli._address import parse_address
    from iotd.cli._trace_record import RecordOptions, record

    options = RecordOptions(
        listen=parse_address(listen, "--listen"),
        broker=parse_address(to, "--to"),
        output=output,
        are_payloads_hidden=redact_payloads,
        are_credentials_kept=keep_credentials,
        is_shown=show,
        about=about,
        seconds=seconds,
        most_bytes=max_size * 1024 * 1024,
    )
    raise typer.Exit(record(options))


def _show(
    file: Recorded,
    filter: Annotated[
        list[str] | None,
        typer.Option("--filter", "-f", metavar="TYPE|TOPIC", help="May be repeated."),
    ] = None,
    bytes: Annotated[bool, typer.Option("--bytes", help="Print each packet's bytes too.")] = False,
    save_svg: Annotated[
        Path | None, typer.Option("--save-svg", metavar="FILE", help="Make a picture of it.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(metavar="N", min=60, help="Columns. [default: those of the terminal]"),
    ] = None,
) -> None:
    """Taken from `_SHOW_HELP`."""
    from iotd.cli._trace_show import show

    raise typer.Exit(show(file, filter or [], bytes, save_svg, width))


def _replay(
    file: Recorded,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The broker.")],
    speed: Annotated[
        str, typer.Option(metavar="1|max|X", help="Times the speed of the recording.")
    ] = "1",
) -> None:
    """Taken from `_REPLAY_HELP`."""
    from iotd.cli._address import parse_address
    from iotd.cli._trace_replay import parse_speed, replay_recording

    where = parse_address(address, "HOST:PORT")
    raise typer.Exit(replay_recording(file, where, parse_speed(speed)))


def _convert(
    file: Recorded,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File to write. [default: standard output]"
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the scenario. [default: that of the file]"),
    ] = None,
) -> None:
    """Taken from `_CONVERT_HELP`."""
    from iotd.cli._trace_replay import convert

    raise typer.Exit(convert(file, output, name))


def trace_app() -> typer.Typer:
    """The commands below `iotd trace`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback(help=TRACE_HELP)(_root)
    app.command("record", help=_RECORD_HELP, short_help="Write down what passes.")(_record)
    app.command("show", help=_SHOW_HELP, short_help="A sequence diagram.")(_show)
    app.command("replay", help=_REPLAY_HELP, short_help="Send it to a broker again.")(_replay)
    app.command("convert", help=_CONVERT_HELP, short_help="A conformance case of it.")(_convert)
    return app
