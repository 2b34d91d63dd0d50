"""`iotd trace`: a recording is made between real sockets, shown, played again and converted."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import Scope, parse_pattern, parse_trace
from conformance.recording import CAME, CUT, SENT, Header, Occurrence, occurrence_line
from conformance.recording import read_recording as read
from iotd.cli import main
from iotd.cli._trace_record import OccurrenceWriter
from iotd.cli._trace_view import hex_lines, time_span
from tests.conformance.hosts import AsyncioHost
from tests.wrong_broker import obliging, wrong_broker

COMMANDS = ("record", "show", "replay", "convert")


def encoded(text: str) -> bytes:
    return parse_pattern(text).encode(Scope())


CONNECT = encoded("10 rl s'MQTT' 04 c2 u60 c'sensor' s'me' s's3cret'")
PUBLISH = encoded("32 rl t'room/1' u7 'warm'")
STORY: list[tuple[float, int, str, bytes]] = [
    (0.0, 1, SENT, encoded("10 rl s'MQTT' 04 02 u60 c'wall'")),
    (0.001, 1, CAME, encoded("20 02 00 00")),
    (0.0012, 1, SENT, encoded("82 rl u1 t'room/#' 01")),
    (0.002, 1, CAME, encoded("90 rl u1 01")),
    (0.05, 2, SENT, encoded("10 rl s'MQTT' 04 02 u60 c'sensor'")),
    (0.051, 2, CAME, encoded("20 02 00 00")),
    (0.052, 2, SENT, PUBLISH),
    (0.0525, 1, CAME, encoded("32 rl t'room/1' u1 'warm'")),
    (0.053, 2, CAME, encoded("40 02 u7")),
    (0.054, 1, SENT, encoded("40 02 u1")),
    (0.06, 2, SENT, b"\xe0\0"),
    (0.061, 2, CUT, b""),
    (0.07, 1, SENT, b"\xe0\0"),
    (0.071, 1, CUT, b""),
]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("IOTD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broker() -> Iterator[str]:
    """One of our own servers, at HOST:PORT."""
    host = AsyncioHost("asyncio", asyncio.new_event_loop)
    server = host.start({}, lambda fact: None)
    yield server.addresses[0].removeprefix("tcp://")
    host.stop(server)
    host.close()


@pytest.fixture
def story(tmp_path: Path) -> str:
    """A recording."""
    header = Header("2026-12-01T10:00:00+00:00", "127.0.0.1:1883", "a warm room")
    lines = [header.line(), *(occurrence_line(Occurrence(*one)) for one in STORY)]
    (tmp_path / "story.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "story.jsonl"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(["trace", command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: iotd trace {command}" in out
    assert f"    iotd trace {command}" in out


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command} " in out


# record


def test_what_passes_is_recorded(broker: str) -> None:
    options = ["--listen", "tcp://127.0.0.1:0", "--to", broker, "-o", "new.jsonl", "--show"]
    command = [sys.executable, "-m", "iotd", "trace", "record", *options, "--redact-payloads"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as program:
        assert program.stderr is not None
        line = program.stderr.readline()
        assert line.endswith("; Ctrl-C ends\n"), line + program.stderr.read()
        host, port = line.removeprefix("connect clients to ").split(";")[0].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(CONNECT + PUBLISH)
            received = b""
            while len(received) < 8:
                received += client.recv(100)
            client.sendall(b"\xe0\0")
            assert client.recv(100) == b""
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    assert program.returncode == 0, err
    assert received == encoded("20 02 00 00 ; 40 02 u7")
    header, found = read(Path("new.jsonl"))
    assert header.broker == broker
    assert header.hidden == ("credentials", "payload")
    assert [one.packet for one in found if one.what == CAME] == [received[:4], received[4:]]
    sent = [one.packet for one in found if one.what == SENT]
    assert sent == [
        encoded("10 rl s'MQTT' 04 c2 u60 c'sensor' s'redacted' s'redacted'"),
        encoded("32 rl t'room/1' u7 '****'"),
        b"\xe0\0",
    ]
    assert "s3cret" not in Path("new.jsonl").read_text()
    shown = [line[11:] for line in out.splitlines()]
    assert "sensor → PUBLISH 'room/1' QoS 1 #7 (4 bytes hidden)" in shown
    assert "hidden: credentials, payload" in err


def test_nobody_came(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "-o", "new.jsonl"]
    assert main(["trace", "record", *options, "--seconds", "0.01"]) == 1
    assert "nothing was recorded: no client connected" in capsys.readouterr().err
    assert not Path("new.jsonl").exists()


def test_no_file_is_overwritten(capsys: pytest.CaptureFixture[str], story: str) -> None:
    before = Path(story).read_text()
    assert main(["trace", "record", "--to", "127.0.0.1:1", "-o", story]) == 1
    assert "story.jsonl is there already" in capsys.readouterr().err
    assert main(["trace", "convert", story, "-o", story]) == 1
    assert "story.jsonl is there already" in capsys.readouterr().err
    assert Path(story).read_text() == before


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str], broker: str) -> None:
    assert main(["trace", "record", "--listen", broker, "--to", "127.0.0.1:1", "-o", "x"]) == 1
    err = capsys.readouterr().err
    assert f"cannot listen at {broker}" in err
    assert "choose another port with --listen" in err


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_recording_ends_at_its_size_and_with_its_disk() -> None:
    one, two = (Occurrence(*step) for step in STORY[:2])
    file = io.StringIO()
    writer = OccurrenceWriter(file, None, most_bytes=len(occurrence_line(one)))
    writer(one)
    writer(two)
    assert writer.is_over.is_set()
    assert writer.why_over == "the file has the size that --max-size allows"
    assert file.getvalue() == occurrence_line(one) + "\n"
    writer = OccurrenceWriter(FullDisk(), None, most_bytes=1000)
    writer(one)  # and raises nothing, since the clients go on
    assert writer.why_over == "the file could not be written: No space left on device"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["record", "--to", "mqtts://host"], "allowed: HOST:PORT or tcp://HOST:PORT, without TLS"),
        (["replay", "story.jsonl", "host", "--speed", "fast"], "allowed: max, or a number above 0"),
        (["replay", "story.jsonl", "host", "--speed", "0"], "allowed: max, or a number above 0"),
        (["show"], "Missing argument 'FILE'"),
    ],
)
def test_a_wrong_command_line_shows_usage(
    capsys: pytest.CaptureFixture[str], story: str, arguments: list[str], words: str
) -> None:
    assert main(["trace", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Usage: iotd trace")
    assert words in err


# show


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["trace", "show", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_a_sequence_diagram(capsys: pytest.CaptureFixture[str], story: str) -> None:
    lines = shown(capsys, story)
    assert lines[0].split() == ["wall", "sensor", "broker"]
    row = " " * 16 + "│───────────┼──────────▶│"
    assert lines[1] == f"{row}    CONNECT MQTT 3.1.1 'wall' clean session keep alive 60 s"
    assert lines[7].startswith(" +1.00 ms       │           │──────────▶│")
    assert lines[7].endswith("PUBLISH 'room/1' QoS 1 #7 'warm'")
    assert lines[8].startswith("  +500 µs       │◀──────────┼───────────│")
    assert lines[12].startswith(" +1.00 ms       │           ✕           │")
    assert lines[12].endswith("the client ends the connection")
    assert len(lines) == 1 + len(STORY)


def test_a_diagram_fits_in_80_columns(capsys: pytest.CaptureFixture[str], story: str) -> None:
    lines = shown(capsys, story, "--width", "80", "--bytes")
    assert max(map(len, lines)) <= 80
    assert "0000  32 0e 00 06  2..." in "\n".join(lines)


def test_a_filter(capsys: pytest.CaptureFixture[str], story: str) -> None:
    lines = shown(capsys, story, "--filter", "room/+", "-f", "publish")
    assert len(lines) == 3
    assert all("PUBLISH 'room/1'" in line for line in lines[1:])
    assert shown(capsys, story, "-f", "AUTH") == ["nothing of that is in the recording"]


def test_many_clients_are_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    connects = [encoded(f"10 rl s'MQTT' 04 02 u60 c'client-{n}'") for n in range(20)]
    found = [Occurrence(n / 10, n, SENT, packet) for n, packet in enumerate(connects)]
    path.write_text("\n".join([Header().line(), *map(occurrence_line, found)]))
    lines = shown(capsys, str(path), "--width", "80", "--bytes")
    assert lines[0].strip().startswith("client-0 → CONNECT MQTT 3.1.1 'client-0'")
    # Ten fit, when rows name their clients.
    path.write_text("\n".join([Header().line(), *map(occurrence_line, found[:8])]))
    assert shown(capsys, str(path), "--width", "80")[1].endswith(
        "│    client-0: CONNECT MQTT 3.1.1"
    )


def test_a_terminal_is_sent_no_escapes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "evil.jsonl"
    packet = encoded("10 rl s'MQTT' 04 02 u60 c'\\x1b[2J'")
    path.write_text("\n".join([Header().line(), occurrence_line(Occurrence(0, 1, SENT, packet))]))
    assert "\x1b" not in "".join(shown(capsys, str(path)))


def test_an_encoding_without_arrows(story: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "iotd", "trace", "show", story],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"|-----------+---------->|" in done.stdout


def test_a_picture(capsys: pytest.CaptureFixture[str], story: str) -> None:
    assert shown(capsys, story, "--save-svg", "story.svg") == []
    picture = Path("story.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg")
    assert "PUBLISH" in picture
    assert "url(" not in re.sub(r"url\(#", "", picture)  # nothing is loaded from elsewhere


@pytest.mark.parametrize("command", ["show", "convert"])
def test_a_file_that_is_none_is_told(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(["trace", command, "nothing.jsonl"]) == 1
    assert "iotd: cannot read nothing.jsonl: No such file" in capsys.readouterr().err
    Path("notes.txt").write_text("notes")
    assert main(["trace", command, "notes.txt"]) == 1
    assert "notes.txt is no recording" in capsys.readouterr().err


def test_a_filter_that_is_none_is_told(capsys: pytest.CaptureFixture[str], story: str) -> None:
    assert main(["trace", "show", story, "--filter", "a/#/b"]) == 1
    assert "--filter a/#/b: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, ""), (0.000_123_4, "+123 µs"), (0.001_53, "+1.53 ms"), (0.9994, "+999 ms"),
     (0.9996, "+1.00 s"), (12.04, "+12.0 s"), (5000, "+5000 s")],
)  # fmt: skip
def test_time_spans(seconds: float, text: str) -> None:
    assert time_span(seconds) == text


def test_long_packets_are_cut() -> None:
    lines = hex_lines(bytes(600), 16)
    assert len(lines) == 33
    assert lines[-1] == "and 88 bytes more"


# replay


@pytest.mark.parametrize("speed", ["1", "max", "4"])
def test_a_replay_without_differences(
    capsys: pytest.CaptureFixture[str], story: str, broker: str, speed: str
) -> None:
    assert main(["trace", "replay", story, broker, "--speed", speed]) == 0
    out = capsys.readouterr().out
    assert out == "no differences from 127.0.0.1:1883: 7 packets sent\n"


def test_a_replay_tells_what_differs(capsys: pytest.CaptureFixture[str], story: str) -> None:
    def acknowledges(packet: bytes) -> bytes:
        return b"\x40\x02\0\7" if packet[0] >> 4 == 3 else obliging(packet)

    with wrong_broker(acknowledges) as (host, port):
        code = main(["trace", "replay", story, f"{host}:{port}", "--speed", "max"])
    assert code == 1
    out = capsys.readouterr().out
    assert "wall < 90 rl u1 01\n    expected  SUBACK  90 rl u1 01\n" in out
    assert "    got       SUBACK  90 rl u1 00\n" in out
    assert "wall < 32 rl t'room/1' $p1 'warm'\n" in out
    assert "    got       nothing\n" in out
    assert out.endswith("2 differences from 127.0.0.1:1883: 7 packets sent\n")


def test_a_replay_finds_its_place_again(
    capsys: pytest.CaptureFixture[str], story: str, broker: str
) -> None:
    host, port = broker.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as sock:
        retained = encoded("31 rl t'room/2' 'cold'")
        sock.sendall(encoded("10 rl s'MQTT' 04 02 u60 c'x'") + retained + b"\xe0\0")
        while sock.recv(100):
            pass
    assert main(["trace", "replay", story, broker, "--speed", "max"]) == 1
    out = capsys.readouterr().out
    assert "    expected  nothing else before\n    got       PUBLISH  31 rl t'room/2' 'cold'" in out
    assert "1 difference from" in out


def test_a_replay_that_is_all_wrong_ends(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "pings.jsonl"
    found = [Occurrence(0, 1, SENT, encoded("10 rl s'MQTT' 04 02 u60 c'a'"))]
    found.append(Occurrence(0, 1, CAME, encoded("20 02 00 00")))
    for number in range(30):
        found.append(Occurrence(0.1, 1, SENT, encoded(f"a2 rl u{number + 1} t'x'")))
        found.append(Occurrence(0.1, 1, CAME, encoded(f"b0 02 u{number + 1}")))
    path.write_text("\n".join([Header().line(), *map(occurrence_line, found)]))

    def mistaken(packet: bytes) -> bytes:
        return b"\xb0\x02\xff\xff" if packet[0] >> 4 == 10 else obliging(packet)

    with wrong_broker(mistaken) as (host, port):
        assert main(["trace", "replay", str(path), f"{host}:{port}", "--speed", "max"]) == 1
    assert "20 differences or more; the replay ended there" in capsys.readouterr().out


def test_what_cannot_be_replayed_is_told(capsys: pytest.CaptureFixture[str], story: str) -> None:
    assert main(["trace", "replay", story, "127.0.0.1:1"]) == 2
    assert "is a broker listening there?" in capsys.readouterr().err
    assert main(["trace", "replay", "nothing.jsonl", "127.0.0.1:1"]) == 2
    assert "cannot read nothing.jsonl" in capsys.readouterr().err
    Path("empty.jsonl").write_text(Header().line() + "\n")
    assert main(["trace", "replay", "empty.jsonl", "127.0.0.1:1"]) == 2
    assert "nothing to play" in capsys.readouterr().err


# convert


def test_a_recording_becomes_a_case(capsys: pytest.CaptureFixture[str], story: str) -> None:
    assert main(["trace", "convert", story, "-o", "room.trace", "--name", "warm room"]) == 0
    (scenario,) = parse_trace(Path("room.trace"))
    assert scenario.name == "warm-room"
    assert scenario.about == "a warm room"
    assert main(["trace", "convert", story]) == 0
    assert "== story\n" in capsys.readouterr().out
