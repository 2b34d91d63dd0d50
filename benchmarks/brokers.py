"""Starts brokers for a comparison, each on a free loopback port.

All but the `iotd-durable` ones run with persistence off, and all with per-message logging off and
their limits on queues and messages in flight lifted, on one core of their own. Only what was
started here is ended.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from adapters.bench import machine
from adapters.bench.sockets import BenchmarkError

ROOT: Final = Path(__file__).resolve().parents[1]
PEERS: Final = Path(__file__).resolve().parent / "peers"

START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 10.0

NAMES: Final = (
    "iotd-asyncio",
    "iotd-gevent",
    "iotd-pure",
    "iotd-durable",
    "iotd-durable-gevent",
    "mosquitto",
    "mosquitto-nodelay",
    "amqtt",
    "aedes",
)

_MOSQUITTO: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_type error
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay {nodelay}
"""

_AMQTT: Final = """\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
    max_connections: 100000
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


class Broker(NamedTuple):
    """A broker that runs; `pid` is None when it is not known."""

    name: str
    port: int
    pid: int | None = None
    build: str = ""


def own_environment() -> dict[str, str]:
    """The environment in which a Python started from here finds the benchmarks."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def parse(text: str) -> Broker:
    """A running broker as `NAME=PORT` or `NAME=PORT:PID`."""
    name, _, rest = text.partition("=")
    port, _, pid = rest.partition(":")
    if not (name and port.isdigit() and (not pid or pid.isdigit())):
        raise BenchmarkError(f"{text!r} is no broker; write NAME=PORT or NAME=PORT:PID")
    return Broker(name, int(port), int(pid) if pid else None)


@contextmanager
def started(
    names: list[str], core: int | None, python: str = sys.executable
) -> Iterator[list[Broker]]:
    """Run these brokers, on this core, for as long as the block lasts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        yield [stack.enter_context(_started(name, core, python, folder)) for name in names]


@contextmanager
def _started(name: str, core: int | None, python: str, folder: Path) -> Iterator[Broker]:
    port = _free_port()
    command, environment = _command(name, port, python, folder)
    log = folder / f"{name}.log"
    with log.open("wb") as output, machine.pinned(core):
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
        )
    try:
        _wait_until_ready(name, process, port, log)
        yield Broker(name, port, process.pid, _build(name, python, environment, folder))
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _command(name: str, port: int, python: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a broker."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if name.startswith("iotd-"):
        runtime = "gevent_server" if name.endswith("-gevent") else "asyncio_server"
        if name == "iotd-pure":
            environment["PYTHONPATH"] = str(ROOT)
        listen = f"tcp://127.0.0.1:{port}"
        environment["IOTD_SERVER_MAX_CONNECTIONS"] = "1000000"
        is_durable = name.startswith("iotd-durable")
        if is_durable:
            environment["IOTD_SESSION_MAX_QUEUED_MESSAGES"] = "1000000"
        store = ["--data-dir", str(folder / name)] if is_durable else ["--in-memory"]
        options = [*store, "--listen", listen, "--log-level", "error"]
        return [python, "-m", f"adapters.{runtime}", *options], environment
    if name in ("mosquitto", "mosquitto-nodelay"):
        config = folder / f"{name}.conf"
        nodelay = "true" if name == "mosquitto-nodelay" else "false"
        config.write_text(_MOSQUITTO.format(port=port, nodelay=nodelay))
        return [_program("mosquitto", "apt-get install mosquitto"), "-c", str(config)], environment
    if name == "amqtt":
        config = folder / "amqtt.yaml"
        config.write_text(_AMQTT.format(port=port))
        hint = f"python -m venv {PEERS / '.venv'} && {PEERS / '.venv/bin/pip'} install amqtt"
        return [_program("amqtt", hint), "-c", str(config)], environment
    if name == "aedes":
        if not (PEERS / "node_modules" / "aedes").is_dir():
            raise BenchmarkError(f"aedes is not installed: run `npm install` in {PEERS}")
        node = _program("node", "apt-get install nodejs (version 20 or later)")
        return [node, str(PEERS / "aedes.cjs"), str(port)], environment
    raise BenchmarkError(f"do not know how to start {name!r}; there are {', '.join(NAMES)}")


def _program(name: str, hint: str) -> str:
    places = (str(PEERS / ".venv" / "bin"), os.environ.get("PATH", ""), "/usr/sbin")
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise BenchmarkError(f"{name} is not installed: {hint}")
    return found


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_until_ready(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Try to connect until the broker listens."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    last = log.read_text(errors="replace").strip()[-2_000:]
    state = "did not listen in time" if process.poll() is None else "ended at once"
    raise BenchmarkError(f"{name} {state}; it said:\n{last or '(nothing)'}")


def _build(name: str, python: str, environment: dict[str, str], folder: Path) -> str:
    """What `--version` says of our own server, so that nobody mistakes one build for another."""
    if not name.startswith("iotd"):
        return ""
    done = subprocess.run(
        [python, "-m", "adapters.asyncio_server", "--version"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
    )
    return " ".join(done.stdout.split())
