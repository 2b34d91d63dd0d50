"""Log lines: what they say, and what clients cannot make them say."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.operations import FORMATS, LEVELS, Log, open_log
from mqtt_core.broker import FACT_DEBUG, FACT_ERROR, FACT_INFO, FACT_WARNING, Fact

CONNECTED = Fact(
    "client.connected",
    FACT_INFO,
    channel=12,
    client_id="sensor-1",
    peer="127.0.0.1:53211",
    listener="tcp://127.0.0.1:1883",
)
REFUSED = Fact(
    "client.refused",
    FACT_WARNING,
    channel=13,
    client_id="a b",
    peer="[::1]:5",
    listener="tcp://[::1]:1883",
    cause="protocol violation",
    statement="MQTT-3.1.0-2",
    offset=0,
    detail='a second "CONNECT"',
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def line_of(write: Callable[[Log], None], format: str = "human") -> str:
    """What one call writes: exactly one line."""
    stream = io.StringIO()
    write(open_log(stream, format=format, level="debug"))
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text[:-1]


def after_time(line: str) -> str:
    time, _, rest = line.partition(" ")
    assert time.endswith("Z")
    assert len(time) == len("2026-01-01T00:00:00.000000Z")
    return rest


def test_a_connect_is_one_line_for_people() -> None:
    assert after_time(line_of(lambda log: log.fact(CONNECTED))) == (
        "info    client.connected client_id=sensor-1 channel=#12 "
        "peer=127.0.0.1:53211 listener=tcp://127.0.0.1:1883"
    )


def test_a_refusal_names_cause_statement_and_offset() -> None:
    assert after_time(line_of(lambda log: log.fact(REFUSED))) == (
        'warning client.refused client_id="a b" channel=#13 peer=[::1]:5 '
        'listener=tcp://[::1]:1883 cause="protocol violation" statement=MQTT-3.1.0-2 offset=0 '
        'detail="a second \\"CONNECT\\""'
    )


def test_json_is_one_object_with_the_same_fields() -> None:
    record = json.loads(line_of(lambda log: log.fact(REFUSED), "json"))
    assert list(record)[:3] == ["time", "level", "event"]
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "warning",
        "event": "client.refused",
        "client_id": "a b",
        "channel": 13,
        "peer": "[::1]:5",
        "listener": "tcp://[::1]:1883",
        "cause": "protocol violation",
        "statement": "MQTT-3.1.0-2",
        "offset": 0,
        "detail": 'a second "CONNECT"',
    }


def test_fields_that_say_nothing_are_left_out() -> None:
    record = json.loads(line_of(lambda log: log.fact(Fact("stats", FACT_DEBUG)), "json"))
    assert set(record) == {"time", "level", "event"}


@pytest.mark.parametrize("format", FORMATS)
@given(name=st.text(), text=st.text())
def test_a_client_cannot_write_a_line_or_a_command_of_its_own(
    format: str, name: str, text: str
) -> None:
    fact = Fact("client.refused", client_id=name, cause=text, detail=text, statement=name)
    line = line_of(lambda log: log.fact(fact), format)
    assert line.isprintable()


@pytest.mark.parametrize(
    "client_id",
    ["a\nb", "a\r", "\x1b[2J", "\x9b31m", "a\u202eb", "\u2028", "\x7f", "\ud800", "\x00"],
)
@pytest.mark.parametrize("format", FORMATS)
def test_what_does_not_print_is_escaped(format: str, client_id: str) -> None:
    line = line_of(lambda log: log.fact(Fact("client.connected", client_id=client_id)), format)
    assert line.isprintable()
    if format == "json":
        assert json.loads(line)["client_id"] == client_id
    else:
        assert f"\\u{ord(next(c for c in client_id if not c.isprintable())):04x}" in line


def test_a_name_cannot_look_like_another_field() -> None:
    line = line_of(lambda log: log.fact(Fact("client.connected", client_id='x peer="1.2.3.4:5')))
    assert after_time(line) == 'info    client.connected client_id="x peer=\\"1.2.3.4:5"'
    line = line_of(lambda log: log.fact(Fact("client.connected", client_id="x=y")))
    assert after_time(line) == 'info    client.connected client_id="x=y"'


@pytest.mark.parametrize("format", FORMATS)
def test_a_long_client_id_is_cut(format: str) -> None:
    line = line_of(lambda log: log.fact(Fact("client.connected", client_id="x" * 65_535)), format)
    assert len(line) < 500
    assert "(65535 characters)" in line


def failure() -> Exception:
    try:
        raise ValueError("bad\n2026-01-01T00:00:00.000000Z info    forged \x1b[31m")
    except ValueError as error:
        return error


def test_a_fault_has_its_traceback_below_marked_and_escaped() -> None:
    stream = io.StringIO()
    open_log(stream).fact(Fact("fault", FACT_ERROR, cause="a turn failed", error=failure()))
    first, *below = stream.getvalue().splitlines()
    assert after_time(first).startswith(
        'error   fault cause="a turn failed" error="ValueError: bad'
    )
    assert below
    assert all(line.startswith("    | ") for line in below)
    assert any("in failure" in line for line in below)
    assert all(line.isprintable() for line in (first, *below))


def test_a_fault_in_json_is_still_one_line() -> None:
    fact = Fact("fault", FACT_ERROR, error=failure())
    record = json.loads(line_of(lambda log: log.fact(fact), "json"))
    assert record["error"].startswith("ValueError: bad")
    assert "in failure" in record["traceback"]


@pytest.mark.parametrize("format", FORMATS)
def test_an_error_that_is_expected_has_no_traceback(format: str) -> None:
    fact = Fact("accept.paused", FACT_WARNING, error=OSError(24, "Too many open files"))
    line = line_of(lambda log: log.fact(fact), format)
    assert "Too many open files" in line
    assert "traceback" not in line


def test_lists_are_shown_item_by_item() -> None:
    line = line_of(lambda log: log.info("program.started", listeners=["tcp://a", "tcp://b c"]))
    assert line.endswith('listeners=tcp://a,"tcp://b c"')
    line = line_of(lambda log: log.info("program.started", listeners=["tcp://a"]), "json")
    assert json.loads(line)["listeners"] == ["tcp://a"]


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_than_the_level_is_not_written(level: str, written: list[str]) -> None:
    stream = io.StringIO()
    log = open_log(stream, format="json", level=level)
    for name, severity in LEVELS.items():
        log.fact(Fact(name, severity))
    for say in (log.debug, log.info, log.warning, log.error):
        say(say.__name__)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == written * 2
    assert [line["level"] for line in lines] == written * 2


def test_colour_is_for_terminals_and_for_those_who_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, format, is_coloured in (
        (Terminal(), "human", True),
        (Terminal(), "json", False),
        (io.StringIO(), "human", False),
    ):
        open_log(stream, format=format).fact(CONNECTED)
        assert ("\x1b[" in stream.getvalue()) is is_coloured
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    open_log(stream).fact(CONNECTED)
    assert "\x1b[" not in stream.getvalue()


class Failing(io.StringIO):
    """A stream that cannot be written for a while."""

    error: Exception | None = None

    def write(self, text: str, /) -> int:
        if self.error is not None:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), BrokenPipeError(), ValueError("closed file")]
)
def test_lines_that_cannot_be_written_are_counted_and_told(error: Exception) -> None:
    stream = Failing()
    log = open_log(stream, format="json")
    log.info("first")
    stream.error = error
    log.info("lost")
    log.info("lost")
    stream.error = None
    log.debug("not written anyway")
    log.info("second")
    log.info("third")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["first", "second", "log.lines_lost", "third"]
    assert lines[2]["count"] == 2


def test_a_stream_that_is_closed_stops_nothing() -> None:
    stream: TextIO = io.StringIO()
    log = open_log(stream)
    stream.close()
    log.info("lost")


@pytest.mark.parametrize(("format", "level"), [("xml", "info"), ("json", "loud")])
def test_an_unknown_format_or_level_is_refused(format: str, level: str) -> None:
    with pytest.raises(ValueError, match="no such log format or level"):
        open_log(io.StringIO(), format=format, level=level)
