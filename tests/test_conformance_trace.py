"""Trace files: what a scenario is made of, and how the parser complains."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import Scenario, TraceError, load_traces, parse_trace
from conformance._scenario import (
    AnyOrder,
    Either,
    Joins,
    Refused,
    Repeat,
    Send,
    Subscribes,
    Wait,
    walk,
)

PATH = Path("traces/area/file.trace")


def parse(text: str) -> list[Scenario]:
    return parse_trace(PATH, text)


def test_header_and_steps() -> None:
    (scenario,) = parse(
        """
        # A comment.
        == the-name
        about: It's about # and \\
               more.
        proves v3: MQTT-1.5.3-1, MQTT-1.5.3-2
        proves v5: MQTT-1.5.4-1
        needs: fake clock, alone
        settings: max_client_id_bytes=64 users=u:p
        a > 10 \\
            00
        a < 20 02 00 00   # comment
        @ 1.5s
        """
    )
    assert scenario.name == "the-name"
    assert scenario.full_name == "area/the-name"
    assert scenario.line == 3
    assert scenario.about == "It's about # and more."
    assert scenario.proves == ("v3 MQTT-1.5.3-1", "v3 MQTT-1.5.3-2", "v5 MQTT-1.5.4-1")
    assert scenario.needs == ("fake clock", "alone")
    assert scenario.settings == {"max_client_id_bytes": "64", "users": "u:p"}
    assert scenario.is_timed
    assert [type(step).__name__ for step in scenario.steps] == ["Send", "Expect", "Wait"]


def test_cases_become_scenarios() -> None:
    one, two = parse(
        """
        == malformed
        proves v3: MQTT-4.8.0-1
        cases | what        | packet          | proves v3
              | no '|' here | 30 ('|' | 00)   | MQTT-3.3.2-1
              | other       | 31 s'{packet}'  |
        > {packet}
        """
    )
    assert (one.name, one.line) == ("malformed/no-here", 5)
    assert one.proves == ("v3 MQTT-4.8.0-1", "v3 MQTT-3.3.2-1")
    assert two.proves == ("v3 MQTT-4.8.0-1",)
    step = two.steps[0]
    assert isinstance(step, Send)
    assert step.pattern.source == "31 s'{packet}'"


def test_blocks() -> None:
    (scenario,) = parse(
        """
        == blocks
        any order
          a < 90 03 u1 00 ; d0 00
          b < c0 00
        end
        either
          = closed
        or
          any order
            < 20 00
          end
          repeat 3 as i
            > $i
            @ 1s
          end
        end
        """
    )
    order, either = scenario.steps
    assert isinstance(order, AnyOrder)
    assert [step.pattern.source for step in order.steps] == ["90 03 u1 00", "d0 00", "c0 00"]
    assert isinstance(either, Either)
    assert [len(branch) for branch in either.branches] == [1, 2]
    kinds = [type(step) for step in walk(scenario.steps)]
    assert kinds.count(Repeat) == 1
    assert kinds.count(Wait) == 1
    assert scenario.is_timed


def test_the_version_of_a_file_and_of_a_scenario() -> None:
    old, new = parse("version: 5.0\n== old\nversion: 3.1.1\n> 00\n== new\n> 00\n")
    assert (old.version, new.version) == ("v3", "v5")
    (plain,) = parse("== plain\n> 00\n")
    assert plain.version == "v3"


def test_steps_of_5() -> None:
    (scenario,) = parse(
        """
        version: 5.0
        == steps
        proves v5: P5-3.3.4-3 MQTT-3.3.4-3
        a joins keep as c'x' with [receive-maximum 1]
        b joins
        c joins 3.1.1 resume
        a subscribes t'a' at 1 with [subscription-identifier 7]
        a = refused 94 or 82 within 3s
        """
    )
    assert scenario.proves == ("v5 P5-3.3.4-3", "v5 MQTT-3.3.4-3")
    a, b, c, subscribes, refused = scenario.steps
    assert isinstance(a, Joins)
    assert (a.mode, a.level, a.client_id.source) == ("keep", 5, "c'x'")
    assert a.properties
    assert a.properties.source == "[receive-maximum 1]"
    assert isinstance(b, Joins)
    assert (b.mode, b.level, b.properties) == ("clean", 5, None)
    assert isinstance(c, Joins)
    assert (c.mode, c.level, c.client_id.source) == ("resume", 4, "c'c'")
    assert isinstance(subscribes, Subscribes)
    assert subscribes.properties
    assert subscribes.properties.source == "[subscription-identifier 7]"
    assert refused == Refused(9, "a", (0x94, 0x82), 3.0)


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("> 00", 1, "begins with a scenario: == NAME"),
        ("", 1, "begins with a scenario: == NAME"),
        ("== two words\n> 00", 1, "a name of letters, digits"),
        ("== a", 1, "a has no steps; allowed: NAME > BYTES"),
        ("== a\n> 00\n== b\nabout: x", 4, "b has no steps"),
        ("== a\ncolour: red\n> 00", 2, "unknown header 'colour'; allowed: == NAME, version"),
        ("== a\nrole: broker\n> 00", 2, "unknown 'broker'; allowed: server, client"),
        ("== a\nneeds: luck\n> 00", 2, "unknown 'luck'; allowed: fake clock"),
        ("== a\nproves v3: 4.8.0-1\n> 00", 2, "'4.8.0-1' is no statement id; allowed: such as"),
        ("== a\nsettings: fast\n> 00", 2, "'fast' is no setting; allowed: KEY=VALUE"),
        ("== a\ncases | x | y\n | 1\n> 00", 3, "1 cells, but `cases` has 2 columns"),
        ("== a\n> 00\n\nshout", 4, "cannot read 'shout'; allowed: NAME > BYTES"),
        ("== a\n> 0", 2, "cannot read '0' as bytes; allowed: hex pairs"),
        ("== a\n> '", 2, "has no end"),
        ("== a\n> 00 ?", 2, "a line that sends has fixed bytes"),
        ("== a\n> $id", 2, r"$id is sent before anything was bound to it"),
        ("== a\ndistinct $id", 2, r"nothing was bound to $id before"),
        ("== a\na = shut", 2, "unknown 'shut'; allowed: open, closed, nothing"),
        ("== a\na ! explode", 2, "unknown 'explode'; allowed: connect, cut, reset"),
        ("== a\na joins often", 2, "allowed: joins [3.1.1] [clean|keep|resume]"),
        ("version: 4\n== a\n> 00", 1, "unknown '4'; allowed: 3.1.1, 5.0"),
        ("== a\nversion: 6\n> 00", 2, "unknown '6'; allowed: 3.1.1, 5.0"),
        ("== a\na joins with [topic-alias 1]", 2, "MQTT 3.1.1 has no properties"),
        ("== a\nversion: 5.0\na joins with [..]", 3, "is sent, so it has fixed values"),
        ("== a\nproves v5: P5-3-1\n> 00", 2, "'P5-3-1' is no statement id"),
        ("== a\na = refused", 2, "allowed: open, closed, nothing, refused REASON"),
        ("== a\na subscribes t'x' at 3", 2, "allowed: subscribes t'filter' at 0, 1 or 2"),
        ("== a\nany order\n> 00\nend", 3, "only packets that come can be in `any order`"),
        ("== a\nany order\n< 00", 3, "a block is open at the end of the scenario; allowed: end"),
        ("== a\neither\n> 00\nor\n< 00\nend", 2, "begins with what tells it"),
        ("== a\nend", 2, "cannot read 'end'"),
        ("== a\nrole: client\n! publish topic=", 3, "cannot read 'topic='"),
        ("== a\nrole: client\n! publish topic='t' => ignored", 3, "allowed: => refused"),
        ("== a\nrole: client\n! reset", 3, "allowed: connect, publish"),
    ],
)
def test_complaints_name_file_line_and_what_is_allowed(
    text: str, line: int, complaint: str
) -> None:
    with pytest.raises(TraceError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"traces/area/file.trace:{line}: ")
    assert complaint in str(caught.value)


def test_names_are_unique(tmp_path: Path) -> None:
    (tmp_path / "area").mkdir()
    for name in ("one", "two"):
        (tmp_path / "area" / f"{name}.trace").write_text("== same\n> 00\n")
    with pytest.raises(TraceError, match=r"two.trace:1: same is also the name of one.trace:1"):
        load_traces(tmp_path)
    assert len(load_traces(tmp_path / "area" / "one.trace")) == 1


def test_every_trace_is_readable() -> None:
    scenarios = load_traces()
    areas = {scenario.path.parent.name for scenario in scenarios}
    assert {"client", "connect", "order", "publish", "recorded", "retained", "will"} <= areas
    assert len(scenarios) > 500


def test_no_password_was_recorded() -> None:
    recorded = [one for one in load_traces() if one.path.parent.name == "recorded"]
    assert recorded
    for scenario in recorded:
        for step in walk(scenario.steps):
            if isinstance(step, Send):
                assert "lovelace" not in step.pattern.source
