"""The programs without typer, which takes longer to start than all that they do.

The standard library reads the same flags in a tenth of the time. Whatever it does not take as it
stands, be it wrong or only unusual, is left to typer, which knows what to say.
"""

from __future__ import annotations

import sys
from argparse import ArgumentError, ArgumentParser
from pathlib import Path
from typing import Any, Final, NoReturn, get_args

from iotd.cli._program import CannotRunError, check_adapters
from iotd.cli.messaging._flag import Parameter, Program, UsageError
from iotd.cli.messaging._folding import fold
from iotd.cli.messaging._programs import PROGRAMS

EXIT_CANNOT_RUN: Final = 1
EXIT_USAGE: Final = 2


class _LeftToTyper(Exception):
    """The command line is not for this parser."""


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """argparse: the command line is wrong, in its eyes."""
        raise _LeftToTyper


def run_at_once(arguments: list[str]) -> int | None:
    """Run a program and return its exit code; None where the command line is for typer."""
    program = next((each for each in PROGRAMS if each.name == arguments[0]), None)
    if program is None:
        return None
    try:
        values = read_flags(program, arguments[1:])
    except _LeftToTyper:
        return None
    try:
        check_adapters()
        return program.run(values)
    except UsageError as error:
        of = f" for {error.flag}" if error.flag else ""
        print(
            f"Usage: iotd {program.name} [OPTIONS]\n"
            f"Try 'iotd {program.name} --help' for help.\n\n"
            f"Error: Invalid value{of}: {error}",
            file=sys.stderr,
        )
        return EXIT_USAGE
    except CannotRunError as error:
        print(f"iotd: {error}", file=sys.stderr)
        return EXIT_CANNOT_RUN
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0


def read_flags(program: Program, arguments: list[str]) -> dict[str, Any]:
    """The value of each parameter. Raises `_LeftToTyper`."""
    parser = _Parser(prog=program.name, add_help=False, allow_abbrev=False, exit_on_error=False)
    parameters = program.parameters()
    for each in parameters:
        _add(parser, each)
    try:
        values = vars(parser.parse_args(fold(arguments)))
    except (ArgumentError, ValueError):
        raise _LeftToTyper from None
    for each in parameters:
        value = values[each.name]
        least, most = each.flag.least, each.flag.most
        if value is not None and (
            (least is not None and value < least) or (most is not None and value > most)
        ):
            raise _LeftToTyper
    return values


def _add(parser: ArgumentParser, parameter: Parameter) -> None:
    names = parameter.flag.names
    if parameter.kind is bool:
        parser.add_argument(*names, dest=parameter.name, action="store_true")
        return
    kinds = (parameter.kind, *get_args(parameter.kind))
    kind = next((each for each in (int, float, Path) if each in kinds), str)
    action = "append" if list[str] in kinds else "store"
    parser.add_argument(
        *names, dest=parameter.name, default=parameter.default, type=kind, action=action
    )
