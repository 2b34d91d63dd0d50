"""Recordings: what is hidden in them, how the file is read, and what a reader is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import Scope, load_statements, parse_pattern, parse_trace
from conformance._guess import _BY_ANSWER, _RETAINED, _SESSION_PRESENT, _WILL, guess_statements
from conformance._summary import printable, summary
from conformance.convert import conformance_case
from conformance.diagram import Row, choose, diagram
from conformance.recording import (
    CAME,
    CLOSED,
    CREDENTIALS,
    CUT,
    LOST,
    MOST_UNFINISHED_BYTES,
    PAYLOAD,
    SENT,
    Header,
    Occurrence,
    Recorder,
    RecordingError,
    Redaction,
    occurrence_line,
    read_recording,
)

EVERYTHING = Redaction(credentials=True, payloads=True)
NOTHING = Redaction(credentials=False, payloads=False)
SECRET = b"s3cret"


def encoded(text: str) -> bytes:
    return parse_pattern(text).encode(Scope())


def told(redaction: Redaction, *steps: tuple[str, bytes]) -> list[Occurrence]:
    """What a recorder tells of one connection."""
    found: list[Occurrence] = []
    recorder = Recorder(found.append, redaction)
    for at, (what, data) in enumerate(steps):
        if what in (CUT, CLOSED):
            recorder.add_end(at, 1, what)
        else:
            recorder.add_bytes(at, 1, what, data)
    return found


# What is hidden


@pytest.mark.parametrize(
    ("packet", "level", "hidden", "becomes"),
    [
        ("10 rl s'MQTT' 04 02 u60 c'a'", 4, (), "10 rl s'MQTT' 04 02 u60 c'a'"),
        (
            "10 rl s'MQTT' 04 c6 u60 c'a' t'w' s'bye' s'me' s'pw'",
            4,
            (PAYLOAD, CREDENTIALS),
            "10 rl s'MQTT' 04 c6 u60 c'a' t'w' s'***' s'redacted' s'redacted'",
        ),
        (
            "10 rl s'MQTT' 05 86 u60 [authentication-method 'm', authentication-data 'pw', "
            "user-property 'a' 'b'] c'a' [will-delay-interval 3] t'w' s'' s'me'",
            5,
            (CREDENTIALS,),
            "10 rl s'MQTT' 05 86 u60 [authentication-method 'm', authentication-data 'redacted', "
            "user-property 'a' 'b'] c'a' [will-delay-interval 3] t'w' s'' s'redacted'",
        ),
        ("30 rl t't' 'hello'", 4, (PAYLOAD,), "30 rl t't' '*****'"),
        ("32 rl t't' u5 'hello'", 4, (PAYLOAD,), "32 rl t't' u5 '*****'"),
        ("32 rl t't' u5", 4, (), "32 rl t't' u5"),
        (
            "34 rl t't' u5 [content-type 'x'] 'hello'",
            5,
            (PAYLOAD,),
            "34 rl t't' u5 [content-type 'x'] '*****'",
        ),
        (
            "f0 rl 18 [authentication-method 'm', authentication-data (00 01)]",
            5,
            (CREDENTIALS,),
            "f0 rl 18 [authentication-method 'm', authentication-data 'redacted']",
        ),
        ("f0 00", 5, (), "f0 00"),
        (
            "20 rl 00 00 [authentication-data 'x', receive-maximum 9]",
            5,
            (CREDENTIALS,),
            "20 rl 00 00 [authentication-data 'redacted', receive-maximum 9]",
        ),
        ("20 02 00 00", 4, (), "20 02 00 00"),
        ("82 rl u1 t't' 01", 4, (), "82 rl u1 t't' 01"),
        # What cannot be read may hold anything.
        ("10 05 's3cre'", 4, (CREDENTIALS, PAYLOAD), "10 '******'"),
        ("30 03 00 09 's'", 4, (CREDENTIALS, PAYLOAD), "30 '****'"),
        ("f0 03 18 05 's'", 5, (CREDENTIALS, PAYLOAD), "f0 '****'"),
    ],
)
def test_what_is_hidden_in_a_packet(
    packet: str, level: int, hidden: tuple[str, ...], becomes: str
) -> None:
    before, after = encoded(packet), encoded(becomes)
    assert EVERYTHING.apply(before, level) == (after, hidden)
    assert NOTHING.apply(before, level) == (before, ())


def test_a_payload_keeps_its_length() -> None:
    packet = encoded("30 rl t't' 'x'*1000")
    redacted, _ = EVERYTHING.apply(packet, 4)
    assert len(redacted) == len(packet)


@given(st.data())
def test_a_password_is_hidden_wherever_the_packet_is_cut(data: st.DataObject) -> None:
    is_5, has_will = data.draw(st.booleans()), data.draw(st.booleans())
    will = ("[] " if is_5 else "") + "t'w' s'bye' " if has_will else ""
    flags = "c6" if has_will else "c2"
    method = "[authentication-data 's3cret'] " if is_5 else ""
    level = "05" if is_5 else "04"
    connect = encoded(f"10 rl s'MQTT' {level} {flags} u60 {method}c'a' {will}s's3cret' s's3cret'")
    cut = data.draw(st.integers(1, len(connect)))
    sent, end = told(Redaction(), (SENT, connect[:cut]), (CUT, b""))
    assert SECRET not in sent.packet
    assert sent.hidden == (CREDENTIALS,)
    assert end.what == CUT


def test_what_comes_before_a_connect_is_hidden() -> None:
    request = b"GET / HTTP/1.1\r\nAuthorization: s3cret\r\n\r\n"
    found = told(Redaction(), (SENT, request), (CUT, b""))
    assert not any(SECRET in one.packet for one in found)
    assert found[-1].what == CUT
    assert any(SECRET in one.packet for one in told(NOTHING, (SENT, request), (CUT, b"")))


def test_an_unfinished_packet_is_hidden() -> None:
    connect = encoded("10 rl s'MQTT' 04 c2 u60 c'a' s'me' s's3cret and more'")
    sent, end = told(Redaction(), (SENT, connect[:-3]), (CUT, b""))
    assert sent.packet[:1] == b"\x10"
    assert SECRET not in sent.packet
    assert sent.hidden == (CREDENTIALS,)
    assert end == Occurrence(1, 1, CUT)


def test_a_packet_that_is_too_large_is_passed_over_and_counted() -> None:
    found: list[Occurrence] = []
    recorder = Recorder(found.append, NOTHING)
    recorder.add_bytes(0, 1, SENT, encoded("10 rl s'MQTT' 04 02 u60 c'a'"))
    huge = b"\x30\xff\xff\xff\x7f" + bytes(MOST_UNFINISHED_BYTES)
    recorder.add_bytes(1, 1, SENT, huge)
    recorder.add_bytes(2, 1, SENT, bytes(1000))
    recorder.add_bytes(3, 1, CAME, encoded("20 02 00 00"))
    recorder.add_end(4, 1, CUT)
    assert [one.what for one in found] == [SENT, LOST, CAME, CUT]
    assert recorder.lost_bytes == len(huge) + 1000
    assert recorder.count == 4
    assert "more follows" in diagram(found)[1][1].text


# The file

OCCURRENCES = [
    Occurrence(0.0, 1, SENT, encoded("10 rl s'MQTT' 05 02 u60 [] c'a'")),
    Occurrence(0.25, 1, CAME, encoded("20 rl 00 00 []")),
    Occurrence(0.5, 1, SENT, encoded("30 rl t't' [] '***'"), (PAYLOAD,)),
    Occurrence(1.0, 1, CLOSED),
]
HEADER = Header("2026-12-01T10:00:00+00:00", "127.0.0.1:1883", "what it is", (PAYLOAD,))


def written(path: Path) -> Path:
    lines = [HEADER.line(), *map(occurrence_line, OCCURRENCES)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_recording(written(tmp_path / "a.jsonl")) == (HEADER, OCCURRENCES)


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl")
    path.write_text(path.read_text()[:-20])
    assert read_recording(path) == (HEADER, OCCURRENCES[:-1])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no recording: make one with `iotd trace record`"),
        ("== a\n> c0 00\n", "no recording: make one"),
        ('{"recording": 2, "began": "", "broker": "", "about": "", "hidden": []}', ":1: no header"),
        ('{"recording": 1}\n', ":1: no header"),
        (HEADER.line() + '\n{"at": 0}\n' + occurrence_line(OCCURRENCES[0]), ":2: no line"),
        (HEADER.line() + "\nnonsense\n\n", ":2: no line of a recording: nonsense"),
        (
            HEADER.line() + '\n{"at": 0, "connection": 1, "what": "flew"}\n\n',
            ":2: no line",
        ),
    ],
)
def test_what_is_no_recording_is_told(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(RecordingError, match=complaint.replace("(", r"\(")):
        read_recording(path)


def test_bytes_are_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecordingError, match="not text"):
        read_recording(path)


# What a reader sees


@pytest.mark.parametrize(
    ("packet", "level", "text"),
    [
        ("10 rl s'MQTT' 04 02 u60 c'a'", 4, "MQTT 3.1.1 'a' clean session keep alive 60 s"),
        (
            "10 rl s'MQTT' 05 ee u60 [receive-maximum 5] c'a' [] t'w' s'bye' s'u' s'p'",
            5,
            "MQTT 5.0 'a' clean start keep alive 60 s will 'w' QoS 1 retain 'bye' with user name "
            "and password [receive-maximum 5]",
        ),
        ("20 02 01 00", 4, "accepted session present"),
        ("20 02 00 05", 4, "refused: not authorized"),
        ("20 rl 00 87 []", 5, "87 not authorized"),
        ("3b rl t't' u7 'x'", 4, "'t' QoS 1 #7 retain dup 'x'"),
        ("30 rl t't' [content-type 'c'] (00 ff)", 5, "'t' QoS 0 '00 ff' [content-type 'c']"),
        ("40 02 u7", 4, "#7"),
        ("40 rl u7 10 []", 5, "#7 10 no matching subscribers"),
        ("82 rl u7 t'a' 01 t'b' 00", 4, "#7 'a' QoS 1 'b' QoS 0"),
        (
            "82 rl u7 [subscription-identifier 3] t'a' 2d",
            5,
            "#7 'a' QoS 1 no local retain as published retain handling 2 "
            "[subscription-identifier 3]",
        ),
        ("90 04 u7 01 80", 4, "#7 QoS 1 80"),
        ("90 rl u7 [] 00 87", 5, "#7 QoS 0 87 not authorized"),
        ("a2 rl u7 t'a'", 4, "#7 'a'"),
        ("b0 02 u7", 4, "#7"),
        ("b0 rl u7 [] 11", 5, "#7 11 no subscription existed"),
        ("c0 00", 4, ""),
        ("e0 00", 5, ""),
        ("e0 rl 8e [reason-string 'why']", 5, "8E session taken over [reason-string 'why']"),
        ("30 rl t'a\\x1b[2Jb' 'x'", 4, "'a\\x1b[2Jb' QoS 0 'x'"),
        ("c0 01 00", 4, "malformed: c0 01 00"),
        ("30 05 00 01", 4, "malformed: 30 05 00 01"),
        ("30 02 00 09", 4, "malformed: 30 02 00 09"),
        ("32 03 00 01 't'", 4, "malformed: 32 03 00 01 74"),
        ("40 01 00", 4, "malformed: 40 01 00"),
        ("82 01 00", 4, "malformed: 82 01 00"),
        ("82 rl u1 00 09 't'", 4, "malformed: 82 05 00 01 00 09 74"),
        ("90 01 00", 4, "malformed: 90 01 00"),
        ("20 01 00", 4, "malformed: 20 01 00"),
        ("10 03 00 09 't'", 4, "malformed: 10 03 00 09 74"),
    ],
)
def test_a_packet_in_words(packet: str, level: int, text: str) -> None:
    assert summary(encoded(packet), level) == text


@given(st.binary(min_size=1, max_size=80), st.integers(3, 5))
def test_any_bytes_can_be_shown(packet: bytes, level: int) -> None:
    assert summary(packet, level).isprintable()


def test_texts_are_cut_between_characters() -> None:
    assert printable("äää".encode(), 3) == "ä... (6 bytes)"
    assert printable(b"\xff" * 100, 9) == "ff ff ff... (100 bytes)"
    assert printable("\u202ea".encode()) == "\\u{202e}a"


def exchange() -> list[Occurrence]:
    steps: list[tuple[float, int, str, str]] = [
        (0.0, 1, SENT, "10 rl s'MQTT' 04 02 u60 c'a'"),
        (0.1, 1, CAME, "20 02 00 00"),
        (0.2, 2, SENT, "10 rl s'MQTT' 05 02 u60 [] c'b'"),
        (0.3, 1, SENT, "34 rl t'x/y' u1 'z'"),
        (0.4, 1, CAME, "50 02 u1"),
        (0.5, 1, SENT, "62 02 u1"),
        (0.6, 1, CAME, "70 02 u1"),
        (0.7, 2, CAME, "32 rl t'x/z' u1 [] 'z'"),
        (0.8, 2, SENT, "40 02 u1"),
        (0.9, 1, SENT, "c0 00"),
        (1.0, 1, CUT, ""),
        (1.1, 3, SENT, "10 rl s'MQTT' 04 02 u60 c'a'"),
        (1.2, 4, SENT, "10 rl s'MQTT' 04 02 u60 c'a'"),
        (1.3, 3, CLOSED, ""),
        (1.4, 5, CAME, "20 02 00 02"),
    ]
    return [
        Occurrence(at, number, what, encoded(text) if text else b"")
        for at, number, what, text in steps
    ]


def test_a_client_has_a_lane() -> None:
    lanes, rows = diagram(exchange())
    assert lanes == ["a", "b", "a", "(5)"]  # the one that took over is beside the one it replaced
    assert [row.lane for row in rows] == [0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 2, 0, 3]
    assert [row.name for row in rows[:3]] == ["CONNECT", "CONNACK", "CONNECT"]
    assert rows[10] == Row(1.0, 0, "a", True, "", "the client ends the connection")
    assert rows[13] == Row(1.3, 0, "a", False, "", "the broker ends the connection")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ([], 15),
        (["publish"], ["PUBLISH", "PUBLISH"]),
        (["PubRec", "pubrel"], ["PUBREC", "PUBREL"]),
        (["x/#"], ["PUBLISH", "PUBREC", "PUBREL", "PUBCOMP", "PUBLISH", "PUBACK"]),
        (["x/z"], ["PUBLISH", "PUBACK"]),
        (["x/z", "x/y", "publish"], ["PUBLISH", "PUBLISH"]),
        (["nothing/here"], []),
    ],
)
def test_rows_are_chosen_by_type_and_topic(wanted: list[str], names: list[str] | int) -> None:
    chosen = [row.name for row in choose(diagram(exchange())[1], wanted)]
    assert len(chosen) == names if isinstance(names, int) else chosen == names


# A conformance case


def test_a_recording_becomes_a_conformance_case() -> None:
    connect = encoded("10 rl s'MQTT' 04 c6 u60 c'a' t'w' s'bye' s'me' s's3cret'")
    found = [
        Occurrence(0.0, 1, SENT, connect),
        Occurrence(0.1, 1, CAME, encoded("20 02 01 00")),
        Occurrence(0.2, 1, CAME, encoded("33 rl t't' u9 'x'")),
        Occurrence(0.3, 1, SENT, encoded("40 02 u9")),
        Occurrence(0.4, 1, CUT),
    ]
    text = conformance_case(found, HEADER, "a-case")
    assert text.startswith("# Begun from a recording of 127.0.0.1:1883, 2026-12-01T10:00:00+00:00.")
    assert "# proves v3: MQTT-3.1.2-8 MQTT-3.2.2-2 MQTT-3.3.1-6\n" in text
    assert "a < 33 rl t't' $p1 'x'\na > 40 02 $p1\na ! cut\n" in text
    assert "s3cret" not in text
    (scenario,) = parse_trace(Path("area/x.trace"), text)
    assert (scenario.name, scenario.about, scenario.proves) == ("a-case", "what it is", ())


def test_a_case_of_nothing_known_has_no_guess() -> None:
    text = conformance_case(OCCURRENCES, Header(), "x")
    assert "proves" not in text
    assert "about: TO DO" in text
    assert "version: 5.0" in text


def test_guesses_are_statements() -> None:
    pairs = [*_BY_ANSWER.values(), _RETAINED, _WILL, _SESSION_PRESENT]
    for version, ids in zip(("v3", "v5"), zip(*pairs, strict=True), strict=True):
        assert set(ids) <= {one.id for one in load_statements(version)}
    answered = [OCCURRENCES[0], Occurrence(0.1, 1, CAME, encoded("d0 00"))]
    assert guess_statements(answered) == "v5: MQTT-3.12.4-1"
