"""The programs as commands of typer: help, completion, and what is wrong with a command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from iotd.cli.messaging._flag import Program, UsageError
from iotd.cli.messaging._folding import fold
from iotd.cli.messaging._programs import PROGRAMS

__all__ = ["add_commands"]


class _Command(TyperCommand):
    """A command with `-D`, which takes as many arguments as the property has."""

    def parse_args(self, ctx: object, args: list[str]) -> list[str]:
        return super().parse_args(ctx, fold(args))  # type: ignore[arg-type]  # typer's own


def add_commands(app: typer.Typer) -> None:
    """Add the programs. They have -h for the host, so that only --help is help."""
    for each in PROGRAMS:
        app.command(
            each.name,
            help=each.help,
            short_help=each.short_help,
            cls=_Command,
            context_settings={"help_option_names": ["--help"], "max_content_width": 100},
        )(_function(each))


def _function(program: Program) -> Callable[..., None]:
    """A function with the flags of a program as parameters, as typer wants it."""

    def run(**values: Any) -> None:
        try:
            raise typer.Exit(program.run(values))
        except UsageError as error:
            raise typer.BadParameter(str(error), param_hint=error.flag or None) from None

    parameters = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=Annotated[
                each.kind,
                typer.Option(
                    *each.flag.names,
                    metavar=each.flag.metavar,
                    help=each.flag.help,
                    min=each.flag.least,
                    max=each.flag.most,
                    hidden=each.flag.hidden,
                ),
            ],
        )
        for each in program.parameters()
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
