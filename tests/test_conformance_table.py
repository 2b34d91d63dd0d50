"""The table of statements: every one of both versions, and what makes it complain."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from conformance import Scenario, Statement, load_statements, load_traces, parse_trace, table
from conformance._statements import Unmet, load_unnumbered

SOURCE = """
import pytest

@pytest.mark.statement("v3 MQTT-1.5.3-1", "v3 MQTT-1.5.3-2")
def test_one(): ...

@pytest.mark.parametrize("x", [1])
async def test_unmarked(x): ...

@pytest.mark.statement("v3 MQTT-3.1.0-1")
class TestGroup:
    @pytest.mark.statement("MQTT-1.5.4-1", "P5-1.5.4-1")
    def test_two(self): ...
    def helper(self): ...
"""


def test_the_standards_have_as_many_statements_as_their_appendix() -> None:
    assert len(load_statements("v3")) == 141
    assert len({one.id for one in load_statements("v3")}) == 141
    assert len(load_statements("v5")) == 251
    assert {one.binds for one in load_statements("v3")} == {"client", "server", "both"}


def test_sentences_without_a_number_have_ids_of_our_own() -> None:
    unnumbered = load_unnumbered()
    assert len({one.id for one in unnumbered}) == len(unnumbered)
    for one in unnumbered:
        section = one.id.removeprefix("P5-").rpartition("-")[0].removesuffix(".0")
        assert one.section.startswith(section)
        assert one.binds in ("client", "server", "both")
        assert one.paraphrase
        assert one.test
        assert one.reason == "" or 0x80 <= int(one.reason, 16) <= 0xA2


@pytest.mark.source
def test_every_statement_has_its_proof_and_the_page_is_up_to_date(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = table.main(["--check"])
    assert code == 0, capsys.readouterr().err


@pytest.mark.source
def test_only_what_does_not_exist_is_without_proof() -> None:
    proofs = dict(table.marked_tests(table.ROOT / "tests"))
    chapters = table.build_chapters(load_traces(), proofs)
    rows = [row for chapter in chapters for row in chapter.rows]
    unmet = {row.statement.full_id for row in rows if row.state == table.UNMET}
    websocket = {f"{version} MQTT-6.0.0-{n}" for version in ("v3", "v5") for n in range(1, 5)}
    assert unmet == websocket | {"v3 MQTT-7.0.0-1"}
    proved = [
        sum(row.state in (table.BY_TRACE, table.BY_TEST) for row in chapter.rows)
        for chapter in chapters
    ]
    assert proved == [136, 247, len(load_unnumbered())]


def statement(binds: str) -> Statement:
    return Statement("v3", "MQTT-1.5.3-1", binds, "asks | this", "test")


def scenario(role: str) -> Scenario:
    text = "== name\nproves v3: MQTT-1.5.3-1\ncases | x\n | one\n | two\n> 00\n"
    return dataclasses.replace(parse_trace(Path("area/x.trace"), text)[0], role=role)


@pytest.mark.parametrize(
    ("binds", "role", "state"),
    [
        ("server", "server", table.BY_TRACE),
        ("both", "server", table.BY_TRACE),
        ("client", "client", table.BY_TRACE),
        ("client", "server", table.MISSING),
        ("server", "client", table.MISSING),
        ("both", "client", table.MISSING),
    ],
)
def test_a_proof_is_of_the_side_that_is_bound(binds: str, role: str, state: str) -> None:
    (row,) = table.build_rows([statement(binds)], [scenario(role)], {}, [])
    assert row.state == state
    (row,) = table.build_rows(
        [statement(binds)], [scenario(role)], {"t": [row.statement.full_id]}, []
    )
    assert row.state == (state if state == table.BY_TRACE else table.BY_TEST)


def test_cases_are_one_proof_and_the_page_is_a_table() -> None:
    path = Path("area/x.trace")
    text = "== name\nproves v3: MQTT-1.5.3-1\ncases | x\n | one\n | two\n> 00\n"
    rows = table.build_rows([statement("both")], parse_trace(path, text), {"tests/x::y": []}, [])
    page = table.render([table.Chapter("Old", rows), table.Chapter("New", rows, is_numbered=False)])
    assert "| MQTT-1.5.3-1 | both | asks \\| this | trace | `area/name` |\n" in page
    assert "| MQTT-1.5.3-1 |  | both | asks \\| this |  | trace | `area/name` |\n" in page
    assert "| Old | 1 | 1 | 0 | none |\n" in page


def test_a_condition_that_is_not_met_is_a_state_of_its_own() -> None:
    unmet = Unmet("v3 MQTT-1.5.3-1", "There is no moon", "It comes at night")
    (row,) = table.build_rows([statement("server")], [scenario("server")], {}, [unmet])
    assert row.state == table.UNMET
    assert "There is no moon. It comes at night, `area/name`" in table.render(
        [table.Chapter("Old", [row])]
    )


def test_marks_are_read_without_importing(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_a.py").write_text(SOURCE)
    (folder / "test_b.py").write_text(
        "pytestmark = [pytest.mark.statement('v3 MQTT-4.8.0-1')]\ndef test_c(): ...\n"
    )
    assert dict(table.marked_tests(folder)) == {
        "tests/test_a.py::test_one": ["v3 MQTT-1.5.3-1", "v3 MQTT-1.5.3-2"],
        "tests/test_a.py::TestGroup::test_two": [
            "v3 MQTT-3.1.0-1",
            "v5 MQTT-1.5.4-1",
            "v5 P5-1.5.4-1",
        ],
        "tests/test_b.py::test_c": ["v3 MQTT-4.8.0-1"],
    }


def test_unknown_statements_are_complained_about() -> None:
    text = "== name\nproves v3: MQTT-9.9.9-9\n> 00\n"
    complaints = table.unknown_statements(
        parse_trace(Path("area/x.trace"), text), {"tests/x::y": ["v3 MQTT-1.5.3-1", "MQTT-1.5.3-1"]}
    )
    assert complaints == [
        "area/x.trace:1: name proves v3 MQTT-9.9.9-9, which no standard has",
        "tests/x::y is marked with 'MQTT-1.5.3-1', which no standard has",
    ]
