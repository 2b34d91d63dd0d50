"""The three places a value can come from, each read into the same form: key, value, origin.

Later layers win: defaults, file, environment, flags. Nothing is judged here except what cannot
be read at all; a value that another layer overrides is still checked like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast, final

import msgspec

from iotd.config._keys import KEYS, NAMES, SECTIONS, VARIABLES, Key, NotAllowedError
from iotd.config._origin import Origin
from iotd.config._problems import Problem, nearest
from iotd.config._toml_lines import LineMap

PREFIX: Final = "IOTD_"

# Variables with our prefix that are no keys: for the command line and the build.
_OTHER_VARIABLES: Final = frozenset({"IOTD_CONFIG", "IOTD_BUILD"})
# Kubernetes gives every container such variables for each service, one named iotd included.
_SERVICE_LINK: Final = re.compile(
    r"IOTD_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_(?:TCP|UDP)\w*)"
)


@final
class Given:
    """One value that a layer gives to a key, not checked yet."""

    __slots__ = ("key", "origin", "value")

    def __init__(self, key: Key, value: object, origin: Origin) -> None:
        self.key: Final = key
        self.value: Final = value
        self.origin: Final = origin


def read_file(name: str, content: bytes) -> tuple[list[Given], list[Problem]]:
    """The values of a TOML file with this content; `name` is how messages call it."""
    try:
        text = content.decode("utf-8-sig")
        document = msgspec.toml.decode(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return [], [
            Problem(Origin("file", f"{name}:{line}"), "", "is not UTF-8 text, as TOML must be")
        ]
    except msgspec.DecodeError as error:
        return [], [_syntax_problem(name, str(error))]
    origin = Origin("file", name, LineMap(text.replace("\r\n", "\n")))
    given: list[Given] = []
    problems: list[Problem] = []
    for section, table in document.items():
        here = origin.within(section)
        if section not in SECTIONS:
            problems.append(_unknown_section(section, here))
        elif not isinstance(table, dict):
            problems.append(Problem(here, section, f"is a section; write [{section}]"))
        else:
            _read_section(section, table, here, given, problems)
    return given, problems


def _read_section(
    section: str,
    table: dict[str, object],
    origin: Origin,
    given: list[Given],
    problems: list[Problem],
) -> None:
    seen: dict[str, str] = {}
    for name, value in table.items():
        here = origin.within(name)
        key = NAMES.get(f"{section}.{name}")
        if key is None:
            problems.append(Problem(here, f"{section}.{name}", unknown_key(section, name)))
        elif key.path in seen:
            message = f"is the same key as {seen[key.path]}; keep one of them"
            problems.append(Problem(here, f"{section}.{name}", message))
        else:
            seen[key.path] = name
            given.append(Given(key, value, here))


def _syntax_problem(name: str, message: str) -> Problem:
    """`tomllib` ends its messages in `(at line L, column C)`: that belongs in front."""
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    if match is None:
        return Problem(Origin("file", name), "", f"is not valid TOML: {message}")
    place = f"{name}:{match[2]}:{match[3]}" if match[2] else name
    end = "" if match[2] else ", at the end of the file"
    return Problem(Origin("file", place), "", f"is not valid TOML: {match[1]}{end}")


def _unknown_section(section: str, origin: Origin) -> Problem:
    key = next((key for key in KEYS.values() if section in (key.name, *key.aliases)), None)
    if key is not None:
        hint = f"unknown section or key; {section} belongs under [{key.section}]"
    elif guess := nearest(section, SECTIONS):
        hint = f"unknown section; did you mean [{guess}]?"
    else:
        hint = "unknown section; there are " + ", ".join(f"[{name}]" for name in SECTIONS)
    return Problem(origin, section, hint)


def unknown_key(section: str, name: str) -> str:
    """What to say about a key that does not exist, with the one that was probably meant."""
    in_section = [path.partition(".")[2] for path in NAMES if path.startswith(f"{section}.")]
    elsewhere = {path.partition(".")[2]: path for path in NAMES}
    if name in elsewhere:
        return f"unknown key; {name} belongs under [{elsewhere[name].partition('.')[0]}]"
    if guess := nearest(name, in_section):
        return f'unknown key; did you mean "{guess}"?'
    if guess := nearest(name, elsewhere):
        return f'unknown key; did you mean "{elsewhere[guess]}"?'
    return f"unknown key; [{section}] has " + ", ".join(in_section)


def read_environment(
    environment: Mapping[str, str],
) -> tuple[list[Given], list[Problem], list[str]]:
    """The values of `IOTD_...` variables, problems, and warnings about variables that are no key.

    Those are not refused: other programs and orchestrators put names into every environment.
    """
    given: list[Given] = []
    problems: list[Problem] = []
    warnings: list[str] = []
    seen: dict[str, str] = {}
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        key = VARIABLES.get(variable)
        if key is None:
            if variable not in _OTHER_VARIABLES and not _SERVICE_LINK.fullmatch(variable):
                warnings.append(_unknown_variable(variable))
            continue
        origin = Origin("environment", variable)
        if key.path in seen:
            message = f"is the same key as {seen[key.path]}; keep one of them"
            problems.append(Problem(origin, key.path, message))
            continue
        seen[key.path] = variable
        try:
            given.append(Given(key, key.from_text(environment[variable]), origin))
        except NotAllowedError as error:
            problems.append(Problem(origin, key.path, str(error)))
    return given, problems, warnings


def _unknown_variable(variable: str) -> str:
    guess = nearest(variable, VARIABLES)
    hint = f"; did you mean {guess}?" if guess else ""
    return f"environment variable {variable} is no key and has no effect{hint}"


def read_flags(flags: Mapping[str, object]) -> list[Given]:
    """The values given on the command line: key path -> value; `None` is a flag not given."""
    given: list[Given] = []
    for path, value in flags.items():
        if value is not None:
            key = KEYS[path]
            found = list(cast("list[object]", value)) if isinstance(value, (list, tuple)) else value
            given.append(Given(key, found, Origin("flag", key.flags[0])))
    return given
