"""Generated pages and generated parts of pages: written, or with `--check` compared."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]


class PageError(Exception):
    """A page lacks the place that a generated part belongs to."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar within a cell is escaped."""
    lines = [_row(head), "|" + " --- |" * len(head)]
    return "\n".join([*lines, *(_row(row) for row in rows)]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def with_parts(page: str, parts: Mapping[str, str]) -> str:
    """The page with each part between its marks, `<!-- begin NAME -->` and `<!-- end NAME -->`.

    Raises `PageError` where a mark is missing.
    """
    for name, text in parts.items():
        before, begin, rest = page.partition(f"<!-- begin {name} -->\n")
        _, end, after = rest.partition(f"<!-- end {name} -->\n")
        if not begin or not end:
            raise PageError(f"the marks of the part {name!r} are missing")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def finish(path: Path, text: str, arguments: Sequence[str], command: str) -> int:
    """Write a page, or with `--check` say that it is stale. Returns the exit code."""
    if "--check" not in arguments:
        path.write_text(text, encoding="utf-8")
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        print(f"{path.relative_to(ROOT)} is stale; run: {command}", file=sys.stderr)
        return 1
    return 0
