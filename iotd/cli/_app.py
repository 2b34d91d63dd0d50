"""The commands and their flags. What they do is loaded only when they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from iotd.cli._bench_app import bench_app
from iotd.cli._doctor_app import DOCTOR_HELP, doctor_command
from iotd.cli._store_app import store_app
from iotd.cli._trace_app import trace_app
from iotd.cli.messaging.commands import add_commands

EXIT_CANNOT_RUN: Final = 1
EXIT_USAGE: Final = 2

_HELP: Final = """\
iotd is an MQTT broker, and the programs to talk to any.

\b
Publish, and see what is published:
  iotd sub -t 'greeting/#' -v
  iotd pub -t greeting/hello -m 'Hello!'
\b
Start a broker for this machine:
  iotd serve
\b
Start one that others can reach, with users and limits of your own:
  iotd config --check iotd.toml
  iotd serve --config iotd.toml
"""

_SERVE_HELP: Final = """\
Run a broker until SIGINT (Ctrl-C: tells clients, sends what is left) or SIGTERM (stops at once).

\b
Examples:
  iotd serve
  iotd serve --listen tcp://127.0.0.1:1884 --listen "tcp://[::1]:1884"
  iotd serve --config iotd.toml --runtime gevent --log-format json

Every setting beyond these flags is a key of the configuration file and an environment variable:
docs/configuration.md lists them, `iotd config` prints what is in effect. Logs go to standard error.
"""

_CONFIG_HELP: Final = """\
Print the configuration in effect: every key, its value, where that came from, and the most memory
that the limits allow.

\b
Examples:
  iotd config
  iotd config --config iotd.toml --format json
  iotd config --check iotd.toml

With --check every error is told at once and the exit code is 2, or `ok` is printed.
"""

_HASH_HELP: Final = """\
Ask for a password and print the line for [[auth.users]] in the configuration file.

\b
Examples:
  iotd hash-password
  printf '%s' "$PASSWORD" | iotd hash-password
  iotd hash-password --scram
  iotd hash-password --scram --iterations 4096

The hash is scrypt, for clients that send their password. With --scram the line serves these and
also clients of MQTT 5.0 that prove by SCRAM-SHA-256 that they know it. Whoever steals such a line
tries passwords out with less effort, and each login costs the client as much work as a try:
fewer iterations suit small clients, more of them weak passwords.
"""

_COMPLETION_HELP: Final = """\
Print what completes the commands and flags of iotd in a shell.

\b
Examples:
  iotd completion bash > ~/.local/share/bash-completion/completions/iotd
  iotd completion zsh > ~/.zfunc/_iotd     (with fpath+=~/.zfunc before compinit in ~/.zshrc)
  iotd completion fish > ~/.config/fish/completions/iotd.fish

Or for one session: eval "$(iotd completion bash)"
"""

_SHELLS: Final = ("bash", "zsh", "fish")
_COMPLETE_VARIABLE: Final = "_IOTD_COMPLETE"


def _print_version(wanted: bool) -> None:
    if wanted:
        from iotd.cli._program import version_line

        print(version_line())
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Print version, build, Python and event loop, and exit.",
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
        help="Configuration file (TOML).",
    ),
]


def _root(version: Version = False) -> None:
    """Taken from `_HELP`."""


def _serve(
    context: typer.Context,
    config: ConfigFile = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen",
            metavar="URL",
            help="Address to listen on, tcp://HOST:PORT or tcp://HOST:PORT?durability=os; "
            "may be repeated. "
            "[default: tcp://127.0.0.1:1883]",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="asyncio|gevent",
            help="What drives the sockets. [default: asyncio, on uvloop where installed]",
        ),
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of the durable store. [default: iotd-data]"),
    ] = None,
    in_memory: Annotated[
        bool,
        typer.Option("--in-memory", help="Keep all state in memory; it is lost at a restart."),
    ] = False,
    log_format: Annotated[
        str | None,
        typer.Option(metavar="human|json", help="Form of the log lines. [default: human]"),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="debug|info|warning|error", help="Least severity logged. [default: info]"
        ),
    ] = None,
    version: Version = False,
) -> None:
    """Taken from `_SERVE_HELP`."""
    if data_dir is not None and in_memory:
        raise typer.BadParameter("--data-dir and --in-memory exclude each other; give one of them")
    fixed = cast("str | None", context.obj)
    if fixed is not None and runtime not in (None, fixed):
        raise typer.BadParameter(
            f"this program runs on {fixed}; for another runtime use: iotd serve --runtime {runtime}"
        )
    from iotd.cli._serve import serve

    flags: dict[str, object] = {
        "server.listen_addresses": listen or None,
        "server.runtime": runtime or fixed,
        "storage.data_dir": data_dir,
        "storage.in_memory": True if in_memory else None,
        "log.format": log_format,
        "log.level": log_level,
    }
    raise typer.Exit(serve(config, flags))


def _config(
    config: ConfigFile = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Tell every error in FILE, or print ok."),
    ] = None,
    format: Annotated[
        str, typer.Option(metavar="table|toml|json", help="Form of what is printed.")
    ] = "table",
) -> None:
    """Taken from `_CONFIG_HELP`."""
    from iotd.cli._config import FORMATS, check_config, show_config

    if format not in FORMATS:
        raise typer.BadParameter(
            f'found "{format}"; allowed: {", ".join(FORMATS)}', param_hint="--format"
        )
    if check is not None:
        raise typer.Exit(check_config(check))
    raise typer.Exit(show_config(config, format))


def _hash_password(
    scram: Annotated[
        bool, typer.Option("--scram", help="Make a hash that serves SCRAM-SHA-256 too.")
    ] = False,
    iterations: Annotated[
        int | None,
        typer.Option(metavar="N", help="Cost of --scram, 4096 to 1000000. [default: 100000]"),
    ] = None,
) -> None:
    """Taken from `_HASH_HELP`."""
    from adapters.security import ScramCredential
    from iotd.cli._hash import hash_password

    if iterations is not None and not scram:
        raise typer.BadParameter("--iterations is about --scram; give both or neither")
    least, most = ScramCredential.MIN_ITERATIONS, ScramCredential.MAX_ITERATIONS
    count = ScramCredential.DEFAULT_ITERATIONS if iterations is None else iterations
    if not least <= count <= most:
        raise typer.BadParameter(
            f"found {count}; allowed: {least} to {most}", param_hint="--iterations"
        )
    raise typer.Exit(hash_password(count if scram else 0))


def _completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
) -> None:
    """Taken from `_COMPLETION_HELP`."""
    if shell not in _SHELLS:
        raise typer.BadParameter(f'found "{shell}"; allowed: {", ".join(_SHELLS)}')
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # it is

    print(get_completion_script(prog_name="iotd", complete_var=_COMPLETE_VARIABLE, shell=shell))


def _app(runtime: str | None) -> tuple[typer.Typer, str]:
    """The command line and what it is called in usage lines."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=runtime is None,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    if runtime is not None:
        app.command("serve", help=_SERVE_HELP)(_serve)
        return app, f"python -m adapters.{runtime}_server"
    app.callback(help=_HELP)(_root)
    app.command("serve", help=_SERVE_HELP, short_help="Run a broker.")(_serve)
    app.command(
        "config", help=_CONFIG_HELP, short_help="Print or check the configuration in effect."
    )(_config)
    app.command(
        "hash-password", help=_HASH_HELP, short_help="Make a password hash for the configuration."
    )(_hash_password)
    app.add_typer(
        store_app(), name="store", short_help="Look at the store of a stopped broker, repair it."
    )
    app.add_typer(bench_app(), name="bench", short_help="Measure brokers, this one or others.")
    app.add_typer(
        trace_app(), name="trace", short_help="Record MQTT traffic, look at it, play it again."
    )
    app.command(
        "doctor", help=DOCTOR_HELP, short_help="Say which statements of MQTT a broker breaks."
    )(doctor_command)
    add_commands(app)
    app.command("completion", help=_COMPLETION_HELP, short_help="Print a shell's completion.")(
        _completion
    )
    return app, "iotd"


def run(arguments: list[str], runtime: str | None) -> int:
    """Run the command line and return the exit code."""
    from iotd.cli._program import CannotRunError, check_adapters

    app, name = _app(runtime)
    if _COMPLETE_VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # it is

        completion_init()
    try:
        check_adapters()
        app(arguments, prog_name=name, obj=runtime)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except CannotRunError as error:
        print(f"iotd: {error}", file=sys.stderr)
        return EXIT_CANNOT_RUN
    raise AssertionError("a command line ends with SystemExit")
