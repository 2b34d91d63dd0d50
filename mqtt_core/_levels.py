"""How durable a change is before what rests on it goes on: each level includes those below it.

Each listener has one, which is that of what its clients are answered; the store has one for the
changes that no client waits for.
"""

from __future__ import annotations

from typing import Final

LEVEL_MEMORY: Final = 1
LEVEL_OS: Final = 2
LEVEL_FSYNC: Final = 3
"""It has been taken, and is written later; the operating system has it, so that it survives the
end of the process; the disk has it, so that it survives a loss of power."""

LEVELS: Final[dict[str, int]] = {
    "fsync": LEVEL_FSYNC,
    "os": LEVEL_OS,
    "memory": LEVEL_MEMORY,
}
"""The levels by their names in configurations, the most durable first."""
