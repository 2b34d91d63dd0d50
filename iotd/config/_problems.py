"""What is wrong with a configuration, told so that it can be put right at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, final

from iotd.config._origin import Origin


@final
class Problem:
    """One thing that is wrong: where it stands, which key, what was found, what is allowed."""

    __slots__ = ("key", "message", "origin")

    def __init__(self, origin: Origin, key: str, message: str) -> None:
        self.origin: Final = origin
        self.key: Final = key
        self.message: Final = message

    def __str__(self) -> str:
        where = "" if self.origin.layer == "default" else str(self.origin)
        return printable(": ".join(part for part in (where, self.key, self.message) if part))

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"


class ConfigError(ValueError):
    """The configuration cannot be used. `problems` holds every reason, not only the first, in the
    order in which a reader meets them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Final = tuple(sorted(problems, key=lambda problem: problem.origin.order))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def printable(text: str) -> str:
    """`text` on one line, with what does not print (controls, bidirectional marks) escaped."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def shown(value: object) -> str:
    """`value` as it would stand in a configuration, on one line and not longer than a line."""
    text = printable(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be."""
    from difflib import get_close_matches  # needed only when something is wrong

    found = get_close_matches(name, list(known), n=1)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to end a message with, or nothing."""
    guess = nearest(name, known)
    return f"; did you mean {shown(guess)}?" if guess else ""
