"""Where keys stand in a TOML document."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotd.config._toml_lines import LineMap, Path


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1\n", ("a",), 1),
        ("# a = 2\n\n  a = 1", ("a",), 3),
        ("[s]\n\nk = 1\n", ("s",), 1),
        ("[s]\n\nk = 1\n", ("s", "k"), 3),
        ("[ s . t ]\nk = 1\n", ("s", "t", "k"), 2),
        ("[\"s\"]\n'k' = 1\n", ("s", "k"), 2),
        ("s.k = 1\ns.l = 2\n", ("s", "l"), 2),
        ("s.k = 1\ns.l = 2\n", ("s",), 1),
        ("[s]\na = '''\nb = 1\n'''\nb = 2\n", ("s", "b"), 5),
        ('[s]\na = """\nb = [ \\"""\n"""\nb = 2\n', ("s", "b"), 5),
        ('[s]\na = """x"""""\nb = 2\n', ("s", "b"), 3),
        ('[s]\na = ["x]", \'y]\', # ]\n  "z",\n]\nb = 2\n', ("s", "b"), 5),
        ("[s]\na = [\n  {k = 1},\n  {k = 2},\n]\n", ("s", "a", 1, "k"), 2),
        ("[[s]]\nk = 1\n[[s]]\nk = 2\n", ("s", 1, "k"), 4),
        ("[[s]]\n[s.t]\nk = 1\n[[s]]\n[s.t]\nk = 2\n", ("s", 1, "t", "k"), 6),
        ("[[s.t]]\nk = 1\n[[s.t]]\n", ("s", "t", 1, "missing"), 3),
        ("a = 1\n", ("b",), 0),
        ('a = ""\nb = 1', ("b",), 2),
        ("a = ''\nb = 1", ("b",), 2),
        ('a = """"""\nb = 1', ("b",), 2),
        ("[s]\r\na = 1\r\n", ("s", "a"), 2),
    ],
)
def test_a_key_is_found_on_its_line(text: str, path: Path, line: int) -> None:
    tomllib.loads(text)
    assert LineMap(text).line_of(path) == line


VALUES = st.sampled_from(
    [
        "1",
        '"plain"',
        '"with \\" and ] and # inside"',
        "'literal [ {'",
        '"""\nk0 = 1\n[t0]\n"""',
        "'''\n[[t1]]\n# \"\n'''",
        '["a", "]"]',
        "[\n  1, # ]\n  2,\n]",
        "{ x = 1, y = [1, 2] }",
        "[\n  { x = '}' },\n  [\"[\"],\n]",
    ]
)
FILLERS = st.sampled_from(["", "# comment = 1", "   ", "\t# [t9]"])


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[Path, int]]:
    """A valid document, and the line of every key in it, known from writing it."""
    lines: list[str] = []
    expected: dict[Path, int] = {}
    arrays: dict[str, int] = {}
    for number in range(draw(st.integers(0, 5))):
        table: Path
        if draw(st.booleans()):
            name = draw(st.sampled_from(["users", "rules"]))
            table = (name, arrays.get(name, 0))
            arrays[name] = arrays.get(name, 0) + 1
            lines.append(f"[[{name}]]")
        else:
            table = (f"t{number}",)
            lines.append(f"[t{number}]")
        expected[table] = len(lines)
        for index in range(draw(st.integers(0, 4))):
            lines += draw(st.lists(FILLERS, max_size=2))
            expected[*table, f"k{index}"] = len(lines) + 1
            lines += f"k{index} = {draw(VALUES)}".split("\n")
    return "\n".join(lines), expected


@given(documents())
def test_every_key_of_any_document_is_found(document: tuple[str, dict[Path, int]]) -> None:
    text, expected = document
    tomllib.loads(text)
    found = LineMap(text)
    assert {path: found.line_of(path) for path in expected} == expected
