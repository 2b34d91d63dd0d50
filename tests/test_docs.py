"""The documents are true: generated pages fresh, links whole, fences that run, names that exist."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Final

import pytest

from iotd.cli import main

pytestmark = pytest.mark.source

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # the generators are no part of what is installed

from tools import (  # noqa: E402 (needs the path)
    architecture,
    client_limits,
    doctor,
    includes,
    properties,
    states,
)
from tools._page import PageError, finish, table, with_parts  # noqa: E402

FOREIGN_FOLDERS: Final = {"build", "dist", "node_modules"}
OWN_FOLDERS: Final = (
    "adapters", "benchmarks", "build_backend", "conformance", "docs", "examples", "iotd",
    "mqtt_core", "newsfragments", "tests", "tools",
)  # fmt: skip


def _is_ours(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return not any(part.startswith(".") or part in FOREIGN_FOLDERS for part in parts)


PAGES: Final = [path for path in sorted(ROOT.rglob("*.md")) if _is_ours(path)]

FENCE: Final = re.compile(
    r"(?P<mark><!-- run -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
LINK: Final = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING: Final = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)
CODE: Final = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Fence:
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    text: str
    is_run: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _fences() -> Iterator[Fence]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start("language")) + 1
            is_run = match["mark"] is not None
            yield Fence(page, line, match["language"], match["text"], is_run)


FENCES: Final = list(_fences())
PYTHON: Final = [fence for fence in FENCES if fence.language == "python"]


def _prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """What a link into the page may end with: its headings, as GitHub makes anchors of them."""
    anchors: set[str] = set()
    for match in HEADING.finditer(_prose(page)):
        text = re.sub(r"[^\w\- ]", "", match["text"].lower()).strip().replace(" ", "-")
        count = 0
        while (anchor := f"{text}-{count}" if count else text) in anchors:
            count += 1
        anchors.add(anchor)
    return anchors


# Generated pages


@pytest.mark.parametrize(
    "generator",
    [states, properties, architecture, includes, doctor, client_limits],
    ids=lambda m: m.__name__,
)
def test_generated_pages_are_fresh(generator: object, capsys: pytest.CaptureFixture[str]) -> None:
    code = generator.main(["--check"])  # type: ignore[attr-defined]  # a module of tools
    assert code == 0, capsys.readouterr().err


def test_a_stale_page_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools._page.ROOT", tmp_path)
    page = tmp_path / "page.md"
    assert finish(page, "one\n", ["--check"], "make it") == 1
    assert finish(page, "one\n", [], "make it") == 0
    assert page.read_text() == "one\n"
    assert finish(page, "one\n", ["--check"], "make it") == 0
    assert finish(page, "two\n", ["--check"], "make it") == 1
    assert page.read_text() == "one\n"


def test_a_generated_part_needs_its_marks() -> None:
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    assert with_parts(page, {"x": "new\n"}) == "a\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nb\n"
    with pytest.raises(PageError, match="'y'"):
        with_parts(page, {"y": "new\n"})


def test_a_bar_does_not_end_a_cell() -> None:
    assert table(["a"], [["int | None"]]) == "| a |\n| --- |\n| int \\| None |\n"


def test_a_sentence_ends_where_the_next_begins() -> None:
    text = "One `a.b` of 3.1.\nTwo, e.g. this. Three.  [v3 MQTT-1.5.3-1]\n\nFour."
    assert architecture.first_sentence(text) == "One `a.b` of 3.1."
    assert architecture.whole(text) == "One `a.b` of 3.1. Two, e.g. this. Three. Four."


# Links and names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for match in LINK.finditer(_prose(page)):
        target, _, anchor = match["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            broken.append(match["target"])
    assert broken == []


def test_every_page_is_found_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if f"(docs/{name})" not in readme] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_in_code_style_exist(page: Path) -> None:
    named = [name for name in CODE.findall(_prose(page)) if re.fullmatch(r"[\w./*-]+", name)]
    paths = [name for name in named if name.startswith(tuple(f"{own}/" for own in OWN_FOLDERS))]
    is_placeholder = re.compile(r"[A-Z]{3,}")  # conformance/traces/AREA/*.trace
    assert [
        path for path in paths if not is_placeholder.search(path) and not any(ROOT.glob(path))
    ] == []


def test_modules_named_without_their_folder_exist() -> None:
    text = _prose(ROOT / "docs" / "architecture.md")
    known = {path.name for path in (ROOT / "mqtt_core").rglob("*.py")}
    named = set(re.findall(r"`(_\w+\.py)`", text)) - {"_name.py"}
    assert named - known == set()


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named: set[str] = set()
    for page in PAGES:
        codes = CODE.findall(_prose(page))
        lines = [line for fence in FENCES if fence.page == page for line in fence.text.split("\n")]
        for code in [*codes, *lines]:
            if match := re.match(r"make ([a-z][a-z-]*)", code):
                named.add(match[1])
    assert named - targets == set()


def test_programs_that_are_named_exist() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    named = {name for text in texts for name in re.findall(r"python3? -m ([\w.]+)", text)}
    own = {name for name in named if name.split(".")[0] in OWN_FOLDERS}
    files = {name: ROOT / name.replace(".", "/") for name in own}
    assert {
        name
        for name, path in files.items()
        if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file()
    } == set()


# Code


@pytest.mark.parametrize("fence", PYTHON, ids=str)
def test_python_in_documents_compiles(fence: Fence) -> None:
    compile(fence.text, str(fence), "exec")


@pytest.mark.parametrize("fence", [fence for fence in PYTHON if fence.is_run], ids=str)
def test_python_marked_to_run_runs(fence: Fence) -> None:
    exec(compile(fence.text, str(fence), "exec"), {"__name__": "__main__"})


def test_the_readme_shows_the_client_as_it_is() -> None:
    client = (ROOT / "examples" / "plain_socket_client.py").read_text(encoding="utf-8")
    readme = [fence for fence in PYTHON if fence.page == ROOT / "README.md"]
    assert client in [fence.text for fence in readme]
    assert client.count("\n") < 40


def test_the_picture_of_a_trace_is_that_of_its_recording(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Made by `iotd trace show docs/pictures/trace-show.jsonl --width 84 --save-svg ...`."""
    folder = ROOT / "docs" / "pictures"
    assert main(["trace", "show", str(folder / "trace-show.jsonl"), "--width", "84"]) == 0
    printed = capsys.readouterr().out
    picture = (folder / "trace-show.svg").read_text(encoding="utf-8")
    drawn = re.findall(r'<text class="iotd-r\d+"[^>]*>(.*?)</text>', picture, re.DOTALL)
    assert "".join("".join(map(unescape, drawn)).split()) == "".join(printed.split())
