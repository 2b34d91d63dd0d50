"""The program as it is run: started in a process of its own, spoken to over loopback, stopped."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import iotd
from adapters.security import PasswordHash
from iotd.cli._program import build, event_loop
from mqtt_core import Connect, Subscribe, Subscription, encode, make_publish

RUNTIMES = ("asyncio", "gevent")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "scram_client.py"
posix_signals = pytest.mark.skipif(os.name != "posix", reason="platform: no POSIX signals")


class Program:
    """A running program, its log read line by line on a thread."""

    def __init__(self, *arguments: str, log: str = "json", prefix: tuple[str, ...] = ()) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IOTD_")}
        if "--data-dir" not in arguments:
            environment["IOTD_STORAGE_IN_MEMORY"] = "true"  # a test leaves nothing on the disk
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", *arguments, "--log-format", log],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.lines: list[str] = []  # of the log so far, as text
        self._queue: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._queue.put(line.rstrip("\n"))
        self._queue.put("")

    def line(self) -> str:
        """The next line of the log; empty at its end."""
        line = self._queue.get(timeout=60)
        if line:
            self.lines.append(line)
        return line

    def event(self, name: str) -> dict[str, object]:
        """The next event of this name; earlier ones are passed over."""
        while line := self.line():
            record: dict[str, object] = json.loads(line)
            if record["event"] == name:
                return record
        raise AssertionError(f"no {name} in the log:\n" + "\n".join(self.lines))

    def address(self) -> tuple[str, int]:
        """Where the first listener is, once the program is ready."""
        listeners = self.event("program.started")["listeners"]
        assert isinstance(listeners, list)
        host, _, port = str(listeners[0]).removeprefix("tcp://").rpartition(":")
        return host.strip("[]"), int(port)

    def end(self) -> int:
        """Wait for the end of the program and of its log; the exit code."""
        while self.line():
            pass
        return self.process.wait(timeout=60)

    def stop(self) -> int:
        """Stop it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.end()


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Starts programs, and ends those that a test leaves running."""
    programs: list[Program] = []

    def start(*arguments: str, log: str = "json", prefix: tuple[str, ...] = ()) -> Program:
        programs.append(Program(*arguments, log=log, prefix=prefix))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait(timeout=60)
        assert program.process.stdout is not None
        assert program.process.stdout.read() == "", "logs go to standard error"
        program.process.stdout.close()
        program._reader.join(timeout=60)
        assert program.process.stderr is not None
        program.process.stderr.close()


Start = Callable[..., Program]


def connect(
    address: tuple[str, int], username: str | None = None, password: bytes | None = None
) -> tuple[socket.socket, bytes]:
    """A client's connection and the CONNACK that it got."""
    client = socket.create_connection(address, timeout=60)
    packet = Connect("a client\n", username=username, password=password)
    client.sendall(encode(packet))
    reply = client.recv(4)
    return client, reply


@pytest.mark.parametrize("runtime", RUNTIMES)
@posix_signals
def test_it_serves_and_logs_one_line_per_connect_and_disconnect(start: Start, runtime: str) -> None:
    program = start("iotd", "serve", "--listen", "tcp://127.0.0.1:0", "--runtime", runtime)
    started = json.loads(program.line())
    assert started["event"] == "program.started"
    assert started["version"] == iotd.__version__
    assert started["build"] == build()
    assert started["loop"] == event_loop(runtime)
    assert started["pid"] == program.process.pid
    (listener,) = started["listeners"]
    memory = json.loads(program.line())
    assert (memory["event"], memory["level"]) == ("storage.in_memory", "info")

    host, _, port = listener.removeprefix("tcp://").rpartition(":")
    client, reply = connect((host, int(port)))
    assert reply == b"\x20\x02\x00\x00"
    connected = program.event("client.connected")
    peer_host, peer_port = client.getsockname()
    assert connected["client_id"] == "a client\n"
    assert connected["peer"] == f"{peer_host}:{peer_port}"
    assert connected["listener"] == listener
    client.sendall(b"\xe0\x00")
    assert client.recv(1) == b""
    client.close()
    disconnected = program.event("client.disconnected")
    assert disconnected["channel"] == connected["channel"]
    assert disconnected["cause"] == "client disconnected"

    assert program.stop() == 0
    assert json.loads(program.lines[-1])["event"] == "program.stopped"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_refusal_is_one_line_with_statement_and_offset(start: Start, runtime: str) -> None:
    program = start(f"adapters.{runtime}_server", "--listen", "tcp://127.0.0.1:0")
    address = program.address()
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"\x30\x05\x00\x01thi")  # PUBLISH before CONNECT
        assert client.recv(1) == b""
    refused = program.event("client.refused")
    assert refused["statement"] == "MQTT-3.1.0-1"
    assert refused["offset"] == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@posix_signals
def test_either_signal_ends_it_with_exit_code_0(
    start: Start, runtime: str, number: signal.Signals
) -> None:
    program = start("iotd", "serve", "--listen", "tcp://127.0.0.1:0", "--runtime", runtime)
    client, _ = connect(program.address())
    program.event("client.connected")
    program.process.send_signal(number)
    assert program.end() == 0
    assert client.recv(1) == b""
    client.close()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_port_in_use_is_one_line(start: Start, runtime: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        program = start("iotd", "serve", "--listen", url, "--runtime", runtime)
        assert program.end() == 1
    (line,) = program.lines
    assert line.startswith(f"iotd: cannot listen on {url}: ")
    assert "in use" in line


def without_privileges() -> tuple[str, ...]:
    """What to put before a command so that it may not use privileged ports."""
    if os.name != "posix":
        pytest.skip("platform: no port needs privileges")
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if first.exists() and int(first.read_text(encoding="ascii")) == 0:
        pytest.skip("platform: no port needs privileges")
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("platform: root may use any port, and there is no setpriv")
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--securebits=+noroot")


def test_a_privileged_port_is_one_line(start: Start) -> None:
    program = start("iotd", "serve", "--listen", "tcp://127.0.0.1:1", prefix=without_privileges())
    assert program.end() == 1
    (line,) = program.lines
    assert "port 1 needs privileges" in line


@pytest.mark.parametrize("log", ["human", "json"])
def test_a_wrong_configuration_starts_nothing(start: Start, tmp_path: Path, log: str) -> None:
    file = tmp_path / "iotd.toml"
    file.write_text("[server]\nmax_connections = 0\n[lgo]\n", encoding="utf-8")
    program = start("iotd", "serve", "--config", str(file), log=log)
    assert program.end() == 2
    assert [line.split(": ")[:2] for line in program.lines] == [
        [f"{file}:2", "server.max_connections"],
        [f"{file}:3", "lgo"],
    ]


USERS = """
[server]
listen_addresses = ["tcp://127.0.0.1:0"]

[[auth.users]]
name = "alice"
password_hash = "{hash}"

[[auth.users]]
name = "bob"
password = "pl41n"
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_users_are_let_in_with_their_password_alone(
    start: Start, tmp_path: Path, runtime: str
) -> None:
    file = tmp_path / "iotd.toml"
    hashed = PasswordHash.make(b"s3cret", log_cost=4).format()
    file.write_text(USERS.format(hash=hashed), encoding="utf-8")
    program = start("iotd", "serve", "--config", str(file), "--runtime", runtime)
    address = program.address()
    assert "plain text for bob" in str(program.event("configuration.warning")["detail"])
    for name, password, code in (
        ("alice", b"s3cret", 0),  # by the thread
        ("alice", b"s3cret", 0),  # as remembered
        ("alice", b"wr0ng", 4),
        ("bob", b"pl41n", 0),
        ("bob", b"wr0ng", 4),
        ("carol", b"s3cret", 4),
        (None, None, 5),
    ):
        client, reply = connect(address, name, password)
        assert reply == bytes([0x20, 2, 0, code]), (name, password)
        client.close()
        if code:
            program.event("client.refused")
        else:
            program.event("client.disconnected")
    program.process.terminate()
    program.end()
    text = "\n".join(program.lines)
    for secret in ("s3cret", "wr0ng", "pl41n", hashed):
        assert secret not in text


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_users_log_in_by_scram_with_the_line_that_was_made_for_them(
    start: Start, tmp_path: Path, runtime: str
) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "iotd", "hash-password", "--scram", "--iterations", "4096"],
        input="s3cret\n", capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    hashed = tomllib.loads(made.stdout)["password_hash"]
    file = tmp_path / "iotd.toml"
    file.write_text(USERS.format(hash=hashed), encoding="utf-8")
    program = start("iotd", "serve", "--config", str(file), "--runtime", runtime)
    address = program.address()
    for name, password, output in (
        ("alice", "s3cret", "logged in as alice\nstill alice\n"),
        ("bob", "pl41n", "logged in as bob\nstill bob\n"),
        ("alice", "wr0ng", ""),
        ("carol", "s3cret", ""),
    ):
        client = subprocess.run(
            [sys.executable, str(EXAMPLE), name, address[0], str(address[1])],
            input=password + "\n", capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert client.stdout == output
        assert client.stderr == ("" if output else "refused: not authorized\n")
        assert client.returncode == (0 if output else 1)
        program.event("client.disconnected" if output else "client.refused")
    # The same line serves a client that sends its password.
    plain, reply = connect(address, "alice", b"s3cret")
    assert reply == b"\x20\x02\x00\x00"
    plain.close()
    program.event("client.disconnected")
    program.process.terminate()
    program.end()
    text = "\n".join(program.lines)
    for secret in ("s3cret", "wr0ng", "pl41n", hashed.rpartition("$")[2]):
        assert secret not in text


@pytest.mark.parametrize("runtime", RUNTIMES)
@posix_signals
def test_a_listener_has_a_level_of_its_own(runtime: str, start: Start, tmp_path: Path) -> None:
    url = "tcp://127.0.0.1:0?durability=memory"
    listen = ("--listen", url, "--listen", "tcp://127.0.0.1:0")
    serve = ("iotd", "serve", *listen, "--runtime", runtime, "--data-dir", str(tmp_path / "state"))
    program = start(*serve)
    address = program.address()
    told = program.event("listener.durability")
    assert (told["listener"], told["durability"]) == (url, "memory")
    client, _ = connect(address)
    client.sendall(encode(make_publish("t", b"kept", 1, retain=True, packet_id=7)))
    assert client.recv(4) == b"\x40\x02\x00\x07"  # PUBACK
    client.close()
    assert program.stop() == 0
    assert start(*serve).event("storage.opened")["retained"] == 1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_retained_is_there_after_a_kill(runtime: str, start: Start, tmp_path: Path) -> None:
    serve = ("iotd", "serve", "--listen", "tcp://127.0.0.1:0", "--runtime", runtime)
    folder = tmp_path / "state"
    program = start(*serve, "--data-dir", str(folder))
    opened = program.event("storage.opened")
    assert (opened["path"], opened["retained"]) == (str(folder / "iotd.db"), 0)
    client, _ = connect(program.address())
    client.sendall(encode(make_publish("t", b"kept", 1, retain=True, packet_id=7)))
    assert client.recv(4) == b"\x40\x02\x00\x07"  # PUBACK
    client.close()
    program.process.kill()
    program.end()
    again = start(*serve, "--data-dir", str(folder))
    assert again.event("storage.opened")["retained"] == 1
    client, _ = connect(again.address())
    client.sendall(encode(Subscribe(1, (Subscription("t", 0),))))
    assert client.recv(5) == b"\x90\x03\x00\x01\x00"  # SUBACK
    assert client.recv(9) == b"\x31\x07\x00\x01tkept"
    client.close()


def test_a_store_that_another_program_has_is_told(start: Start, tmp_path: Path) -> None:
    serve = ("iotd", "serve", "--listen", "tcp://127.0.0.1:0", "--data-dir", str(tmp_path))
    start(*serve).address()
    second = start(*serve, log="human")
    assert second.end() == 1
    assert len(second.lines) == 1
    assert second.lines[0].startswith("iotd: ")
    assert str(tmp_path) in second.lines[0]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_lines_for_people_are_plain_where_there_is_no_terminal(start: Start, runtime: str) -> None:
    program = start(f"adapters.{runtime}_server", "--listen", "tcp://127.0.0.1:0", log="human")
    line = program.line()
    assert line.isprintable()
    assert f"info    program.started version={iotd.__version__} build={build()} python=" in line
    assert "listeners=tcp://127.0.0.1:" in line
