"""`-D` takes three or four arguments, where a flag has a fixed number of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

JOINT: Final = "\0"
"""What joins the arguments of one `-D`; no argument of a program can have it."""

PAIR: Final = "user-property"
"""The property that has a name and a value."""

_FLAG: Final = "-D"
_FLAGS: Final = (_FLAG, "--property")


def fold(arguments: Sequence[str]) -> list[str]:
    """The arguments, with those of each `-D` in one."""
    folded: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument not in _FLAGS:
            folded.append(argument)
            continue
        count = 4 if len(left) > 1 and left[1] == PAIR else 3
        folded += [_FLAG, JOINT.join(left[:count])]
        del left[:count]
    return folded
