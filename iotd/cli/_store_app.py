"""The commands of `iotd store` and their flags. What they do is loaded only when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

STORE_HELP: Final = """\
Look at the durable store of a broker that is stopped, and put it in order.

\b
Examples:
  iotd store show
  iotd store sessions --data-dir /var/lib/iotd
  iotd store verify --config /etc/iotd.toml

The folder is the one that `iotd serve` would use with the same flags, configuration file and
environment. A store that a broker uses is refused, and none is made by looking for one.
"""

_SHOW_HELP: Final = """\
Print what is in the store: sizes on disk, the version of its schema, and how many sessions,
subscriptions, messages, retained messages and wills.

\b
Examples:
  iotd store show
  iotd store show --data-dir /var/lib/iotd --json
"""

_SESSIONS_HELP: Final = """\
List the sessions, those first for which most messages wait: how long the client has been away,
in how long the session expires, its subscriptions, the messages that wait with their size and how
long the first has waited, and how many were sent and not acknowledged.

\b
Examples:
  iotd store sessions
  iotd store sessions --limit 10
  iotd store sessions --json | jq '.[] | select(.waiting > 1000) | .client_id'

A client that is `connected` was so when the broker was killed: its session expires that long after
the next start. `oldest` is how long the first message has waited that waits for the session;
it is unknown of what was stored before this version.
"""

_VERIFY_HELP: Final = """\
Read everything in the store and tell what is damaged: the structure of the database, and each
record by its checksum. Nothing is changed. The exit code is 1 if anything is damaged.

\b
Examples:
  iotd store verify
  iotd store verify --data-dir /backup/iotd-data
"""

_COMPACT_HELP: Final = """\
Write the database anew without the space that is not in use, and give that back.

\b
Examples:
  iotd store compact
  iotd store compact --data-dir /var/lib/iotd

A running broker gives space back too, little by little. This takes as much free disk as the store
has in use, twice: in the folder and where SQLite keeps temporary files (SQLITE_TMPDIR).
"""

_EXPORT_HELP: Final = """\
Write all state of the store as lines of JSON: sessions, subscriptions, queued messages and those in
flight, retained messages and wills. docs/store-export.md describes the lines.

\b
Examples:
  iotd store export --output backup.jsonl
  iotd store export --data-dir /var/lib/iotd | gzip > backup.jsonl.gz

The file has all that clients have published: keep it where nobody else can read it.
"""

_IMPORT_HELP: Final = """\
Fill an empty store, or a new one, with an export; - reads it from standard input. All of it is
imported, or nothing.

\b
Examples:
  iotd store import backup.jsonl --data-dir restored
  gunzip -c backup.jsonl.gz | iotd store import - --data-dir restored
"""

_REMOVE_HELP: Final = """\
Remove sessions with all that belongs to them, or retained messages, and tell what it was. The will
of a client is removed with its session, and not published.

\b
Examples:
  iotd store remove --client sensor-17 --dry-run
  iotd store remove --client sensor-17 --client sensor-18
  iotd store remove --retained 'sensors/+/state'

A filter matches as in a subscription: # does not match topics that begin with $. The exit code is
1 if nothing was found for one of the options. `iotd store compact` gives the space back.
"""

DataDir = Annotated[
    str | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Folder of the durable store. [default: iotd-data]"
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="IOTD_CONFIG",
        show_envvar=True,
        help="Configuration file (TOML) that names the folder.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _root() -> None:
    """Taken from `STORE_HELP`."""


def _show(data_dir: DataDir = None, config: ConfigFile = None, json: AsJson = False) -> None:
    """Taken from `_SHOW_HELP`."""
    from iotd.cli._store_tool import show_store

    raise typer.Exit(show_store(config, data_dir, json))


def _sessions(
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: AsJson = False,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="At most N sessions, 0 for all. [default: 100; with --json all]",
        ),
    ] = None,
) -> None:
    """Taken from `_SESSIONS_HELP`."""
    from iotd.cli._store_tool import list_sessions

    raise typer.Exit(list_sessions(config, data_dir, json, limit))


def _verify(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Taken from `_VERIFY_HELP`."""
    from iotd.cli._store_tool import verify_store

    raise typer.Exit(verify_store(config, data_dir))


def _compact(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Taken from `_COMPACT_HELP`."""
    from iotd.cli._store_tool import compact_store

    raise typer.Exit(compact_store(config, data_dir))


def _export(
    data_dir: DataDir = None,
    config: ConfigFile = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File to write. [default: standard output]"
        ),
    ] = None,
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Leave out, and tell, what cannot be read."),
    ] = False,
) -> None:
    """Taken from `_EXPORT_HELP`."""
    from iotd.cli._store_transfer import export_store

    raise typer.Exit(export_store(config, data_dir, output, skip_damaged))


def _import(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What an export has written.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Taken from `_IMPORT_HELP`."""
    from iotd.cli._store_transfer import import_store

    raise typer.Exit(import_store(config, data_dir, file))


def _remove(
    data_dir: DataDir = None,
    config: ConfigFile = None,
    client: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Client identifier of a session; may be repeated."),
    ] = None,
    retained: Annotated[
        list[str] | None,
        typer.Option(metavar="FILTER", help="Topic filter of retained messages; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be removed.")
    ] = False,
) -> None:
    """Taken from `_REMOVE_HELP`."""
    from iotd.cli._store_tool import remove_from_store
    from mqtt_core import topic_filter_fault

    if not client and not retained:
        raise typer.BadParameter("nothing to remove; give --client ID or --retained FILTER")
    for topic_filter in retained or ():
        fault = topic_filter_fault(topic_filter.encode(errors="surrogateescape"))
        if fault is not None:
            raise typer.BadParameter(f"{topic_filter!r}: {fault[0]}", param_hint="--retained")
    raise typer.Exit(
        remove_from_store(config, data_dir, client or [], retained or [], is_dry=dry_run)
    )


def store_app() -> typer.Typer:
    """The commands below `iotd store`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback(help=STORE_HELP)(_root)
    app.command("show", help=_SHOW_HELP, short_help="Sizes and counts.")(_show)
    app.command("sessions", help=_SESSIONS_HELP, short_help="Sessions and their queues.")(_sessions)
    app.command("verify", help=_VERIFY_HELP, short_help="Read all; tell what is damaged.")(_verify)
    app.command("compact", help=_COMPACT_HELP, short_help="Give unused space back.")(_compact)
    app.command("export", help=_EXPORT_HELP, short_help="All state as lines of JSON.")(_export)
    app.command("import", help=_IMPORT_HELP, short_help="Fill an empty store.")(_import)
    app.command("remove", help=_REMOVE_HELP, short_help="Sessions, retained messages.")(_remove)
    return app
