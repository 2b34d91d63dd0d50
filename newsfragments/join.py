"""Joins the news fragments into CHANGELOG.md: `make changelog VERSION=x.y.z`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
HEADINGS: Final = {
    "feature": "New",
    "bugfix": "Fixed",
    "removal": "Removed or changed",
    "doc": "Documents",
}
# New versions go above the newest one, below the introduction.
FIRST_VERSION: Final = re.compile(r"^## ", re.MULTILINE)


def fragments(folder: Path) -> dict[str, list[Path]]:
    """Return the fragments by kind; raise ValueError for a file name that has no known kind."""
    found: dict[str, list[Path]] = {kind: [] for kind in HEADINGS}
    for path in sorted(folder.glob("*.md")):
        if path.name == "README.md":
            continue
        kind = path.stem.rpartition(".")[2]
        if kind not in found:
            known = ", ".join(found)
            raise ValueError(f"{path.name}: name it NAME.KIND.md, KIND being one of {known}")
        found[kind].append(path)
    return found


def section(version: str, date: str, found: dict[str, list[Path]]) -> str:
    """Return the changelog's part about one version."""
    lines = [f"## {version} ({date})", ""]
    for kind, paths in found.items():
        if paths:
            lines += [f"### {HEADINGS[kind]}", ""]
            for path in paths:
                text = path.read_text(encoding="utf-8").strip()
                lines.append("- " + text.replace("\n", "\n  "))
            lines.append("")
    return "\n".join(lines) + "\n"


def with_section(changelog: str, text: str) -> str:
    """Return the changelog with a version put above the newest that it has."""
    match = FIRST_VERSION.search(changelog)
    at = match.start() if match else len(changelog)
    return changelog[:at] + text + changelog[at:]


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The program. 0: joined; 1: there was nothing to join; 2: a wrong call or file name."""
    if len(arguments) != 1:
        print("Say which version: make changelog VERSION=x.y.z", file=sys.stderr)
        return 2
    try:
        found = fragments(root / "newsfragments")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    paths = [path for kind in found.values() for path in kind]
    if not paths:
        print("There is no fragment to join.", file=sys.stderr)
        return 1
    target = root / "CHANGELOG.md"
    text = section(arguments[0], datetime.now(UTC).date().isoformat(), found)
    target.write_text(with_section(target.read_text(encoding="utf-8"), text), encoding="utf-8")
    for path in paths:
        path.unlink()
    print(f"{len(paths)} fragments are now in {target.name}: read it through, then commit.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
