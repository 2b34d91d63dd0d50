"""Writes the table of limits in docs/client.md.

`python -m tools.client_limits` writes it, `--check` only says whether it is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from mqtt_core.client import CLIENT_LIMITS
from tools._page import ROOT, finish, table, with_parts

PAGE: Final = ROOT / "docs" / "client.md"
COMMAND: Final = "python -m tools.client_limits"


def limits() -> str:
    """Every limit with its default, bounds and reason."""
    return table(
        ["limit", "default", "allowed", "what it bounds"],
        [
            [f"`{each.name}`", f"{each.default:,}", each.allowed(), each.description]
            for each in CLIENT_LIMITS
        ],
    )


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` say whether it is stale. Returns the exit code."""
    page = with_parts(PAGE.read_text(encoding="utf-8"), {"limits": limits()})
    return finish(PAGE, page, arguments, COMMAND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
