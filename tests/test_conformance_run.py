"""The runner's command line, and what it leaves behind on a broker that others use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.asyncio_server import Server
from conformance import Outcome, Result, parse_trace, play
from conformance._socket_peer import SocketPeer
from conformance.run import main
from mqtt_core.broker import IMMEDIATE, Fact

TRACE = """\
== keeps-a-session
a joins keep
a subscribes t'x' at 1
a ! cut
a joins resume

== retains
a joins
a > 33 rl t'kept' u1 'x'
a < 40 02 u1

== fails
a joins
a < 30 rl t'never' 'x'
"""


@pytest.fixture
def address() -> Iterator[str]:
    """A broker that scenarios share, at HOST:PORT."""
    started: list[str] = []
    is_ready, loop = threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        facts: list[Fact] = []
        server = Server(["tcp://127.0.0.1:0"], on_fact=facts.append)
        await server.start()
        started.append(server.addresses[0].removeprefix("tcp://"))
        stop.append(lambda: asyncio.ensure_future(server.shut_down(IMMEDIATE), loop=loop))
        is_ready.set()
        await server.serve_forever()

    stop: list[object] = []
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert is_ready.wait(10)
    yield started[0]
    assert callable(stop[0])
    loop.call_soon_threadsafe(stop[0])
    thread.join()
    loop.close()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "area" / "few.trace"
    path.parent.mkdir()
    path.write_text(TRACE)
    return path


def test_a_shared_broker_is_left_as_it_was(
    address: str, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Twice: what the first run left behind would disturb the second.
    for _ in range(2):
        assert main([address, "--traces", str(trace), "--ours"]) == 1
        text = capsys.readouterr().out
        assert "failed  area/fails  (few.trace:12)" in text
        assert text.endswith("2 passed, 1 failed, 0 skipped\n")
    assert _see_all(address).outcome is Outcome.PASSED


def _see_all(address: str) -> Result:
    text = "== all\nz joins\nz > 82 rl u1 s'#' 00\nz < 90 03 u1 00\nz = nothing\n"
    (scenario,) = parse_trace(Path("area/all.trace"), text)
    host, port = address.rsplit(":", 1)
    return play(scenario, SocketPeer((host, int(port))))


def test_the_traces_pass_on_a_shared_broker(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([address, "--only", "retained/", "--ours", "--verbose"]) == 0
    assert "passed  retained/retained-at-each-qos  (retained.trace:" in capsys.readouterr().out


def test_settings_that_a_broker_has(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--only", "connect/client-id-too-long"]
    assert main([address, *only, "--verbose"]) == 0
    text = capsys.readouterr().out
    assert "skipped because the broker has not max_client_id_bytes=64" in text
    assert main([address, *only, "--settings", "max_client_id_bytes=64"]) == 1  # but it has not


def test_the_core_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--core", "--only", "v3 MQTT-3.12.4-1"]) == 0
    assert capsys.readouterr().out == "1 passed, 0 failed, 0 skipped\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "say what to play to: HOST:PORT, --core or --mosquitto"),
        (["localhost:1", "--core"], "say what to play to"),
        (["localhost"], "'localhost' is no HOST:PORT, such as 127.0.0.1:1883"),
        (["--core", "--only", "nothing-has-this"], "no scenario has 'nothing-has-this'"),
    ],
)
def test_a_wrong_call_is_explained(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_broken_trace_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.trace"
    path.write_text("== a\n> 0\n")
    assert main(["--core", "--traces", str(path)]) == 2
    assert "bad.trace:2: cannot read '0' as bytes" in capsys.readouterr().err


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["127.0.0.1:1", "--only", "v3 MQTT-3.12.4-1"]) == 2
    assert "127.0.0.1:1: " in capsys.readouterr().err
