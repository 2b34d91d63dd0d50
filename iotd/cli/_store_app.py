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
List the sessions, those first for which most messages wait.

\b
Examples:
  iotd store sessions
  iotd store sessions --limit 10
  iotd store sessions --json | jq '.[] | select(.waiting > 1000) | .client_id'

When a message came is not stored. It is known only of one with a message expiry interval (MQTT
5.0): `oldest` has it where the first message that waits is of that kind.
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


def store_app() -> typer.Typer:
    """The commands below `iotd store`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback(help=STORE_HELP)(_root)
    app.command("show", help=_SHOW_HELP, short_help="Sizes and counts.")(_show)
    app.command("sessions", help=_SESSIONS_HELP, short_help="Sessions and their queues.")(_sessions)
    app.command("verify", help=_VERIFY_HELP, short_help="Read all; tell what is damaged.")(_verify)
    app.command("compact", help=_COMPACT_HELP, short_help="Give unused space back.")(_compact)
    return app
