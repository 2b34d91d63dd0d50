"""News fragments become a part of the changelog, and only well-named ones."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.source

ROOT = Path(__file__).resolve().parents[1]
JOIN = runpy.run_path(str(ROOT / "newsfragments" / "join.py"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "newsfragments"
    folder.mkdir()
    (folder / "README.md").write_text("not a fragment\n")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\nIntroduction.\n\n## 0.1.0 (2026-01-01)\n"
    )
    return tmp_path


def test_fragments_go_above_the_newest_version_and_away(tree: Path) -> None:
    folder = tree / "newsfragments"
    (folder / "b.bugfix.md").write_text("A fix\nin two lines.\n")
    (folder / "a.feature.md").write_text("A feature.\n")
    assert JOIN["main"](["0.2.0"], tree) == 0
    changelog = (tree / "CHANGELOG.md").read_text()
    assert re.sub(r"\(20\d\d-\d\d-\d\d\)", "(DATE)", changelog) == (
        "# Changelog\n\nIntroduction.\n\n## 0.2.0 (DATE)\n\n"
        "### New\n\n- A feature.\n\n"
        "### Fixed\n\n- A fix\n  in two lines.\n\n"
        "## 0.1.0 (DATE)\n"
    )
    assert [path.name for path in folder.iterdir()] == ["README.md"]


def test_a_fragment_of_no_known_kind_stops_it(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "newsfragments" / "a.improvement.md").write_text("?\n")
    before = (tree / "CHANGELOG.md").read_text()
    assert JOIN["main"](["0.2.0"], tree) == 2
    assert "a.improvement.md: name it NAME.KIND.md" in capsys.readouterr().err
    assert (tree / "CHANGELOG.md").read_text() == before


def test_without_fragments_there_is_nothing_to_join(tree: Path) -> None:
    assert JOIN["main"](["0.2.0"], tree) == 1


def test_a_version_has_to_be_named(tree: Path) -> None:
    assert JOIN["main"]([], tree) == 2


def test_the_fragments_of_this_tree_are_well_named() -> None:
    JOIN["fragments"](ROOT / "newsfragments")
