"""What a flag is, and what a program is: told once, for all that read command lines."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_args, get_type_hints


class UsageError(Exception):
    """The command line cannot be meant so: exit code 2. `flag` is which one, empty for several."""

    def __init__(self, text: str, flag: str = "") -> None:
        super().__init__(text)
        self.flag: Final = flag


@dataclass(frozen=True)
class Flag:
    """One flag: `least` and `most` bound a number; a hidden one is not in the help."""

    names: tuple[str, ...]
    help: str
    metavar: str | None
    least: float | None
    most: float | None
    hidden: bool


def flag(
    *names: str,
    help: str,
    metavar: str | None = None,
    least: float | None = None,
    most: float | None = None,
    hidden: bool = False,
) -> Flag:
    """A flag, for the annotation of a parameter or a field."""
    return Flag(names, help, metavar, least, most, hidden)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a program: what its flag gives, and without it."""

    name: str
    kind: Any
    flag: Flag
    default: object


@dataclass(frozen=True)
class Program:
    """A program of the command line: `command` gets its flags and returns the exit code."""

    name: str
    command: Callable[..., int]
    help: str
    short_help: str

    def parameters(self) -> list[Parameter]:
        """Its flags: its own first, then those of its groups."""
        own: list[Parameter] = []
        of_groups: list[Parameter] = []
        for each in self._signature():
            group = each.annotation
            if not dataclasses.is_dataclass(group):
                kind, found = get_args(group)
                own.append(Parameter(each.name, kind, found, each.default))
                continue
            hints = get_type_hints(group, include_extras=True)
            for field in dataclasses.fields(group):
                kind, found = get_args(hints[field.name])
                of_groups.append(Parameter(field.name, kind, found, field.default))
        return own + of_groups

    def run(self, values: dict[str, Any]) -> int:
        """Run it with the value of each parameter. Raises `UsageError`, `CannotRunError`."""
        for each in self._signature():
            group = each.annotation
            if isinstance(group, type) and dataclasses.is_dataclass(group):
                fields = [field.name for field in dataclasses.fields(group)]
                values[each.name] = group(**{name: values.pop(name) for name in fields})
        return self.command(**values)

    def _signature(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.command, eval_str=True).parameters.values())
