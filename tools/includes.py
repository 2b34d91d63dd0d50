"""Copies files into the documents that show them.

A fence behind `<!-- file: PATH -->` holds the text of that file. `python -m tools.includes` writes
it there, `--check` only says whether it is up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Final

from tools._page import ROOT, finish

PAGES: Final = ("README.md", "docs/embedding.md")
COMMAND: Final = "python -m tools.includes"
FENCE: Final = re.compile(
    r"(?P<mark><!-- file: (?P<path>\S+) -->\n```\w+\n)(?P<text>.*?)(?P<end>^```$)",
    re.DOTALL | re.MULTILINE,
)


def with_files(page: str) -> str:
    """The page with every marked fence holding its file."""

    def filled(match: re.Match[str]) -> str:
        text = (ROOT / match["path"]).read_text(encoding="utf-8")
        return match["mark"] + text + match["end"]

    return FENCE.sub(filled, page)


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` say which are stale. Returns the exit code."""
    codes = []
    for name in PAGES:
        page = ROOT / name
        text = with_files(page.read_text(encoding="utf-8"))
        codes.append(finish(page, text, arguments, COMMAND))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
