"""The broker's core driven in this process: bytes in, bytes out, no sockets between.

The only part of the benchmarks that imports what it measures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Final

import mqtt_core
from adapters.bench import packets
from adapters.bench.sockets import BenchmarkError
from mqtt_core.broker import (
    AllowAll,
    AuthorizeRequest,
    AuthRequest,
    Broker,
    Channel,
    Limits,
    MemoryEngine,
)

ROOT: Final = Path(__file__).resolve().parents[1]

BUILDS: Final = ("compiled", "pure")

_DIRTY_AT_ONCE: Final = 512


def build() -> str:
    """Which build of the core is imported here."""
    return "pure" if str(mqtt_core.__file__).endswith(".py") else "compiled"


def limits() -> Limits:
    """The default limits, but for those on what a benchmark here has a great many of."""
    many = 100_000_000
    return Limits(max_connections=10_000_000, max_sessions=many, max_subscriptions=many)


class Core:
    """A broker with its memory engine, turned as an adapter turns it."""

    def __init__(self) -> None:
        chosen = limits()
        self.broker: Final = Broker(chosen, AllowAll(), os.urandom, perf_counter(), 0.0)
        self._engine: Final = MemoryEngine(chosen)

    def connect(self, client_id: str, level: int = packets.MQTT_3_1_1) -> Channel:
        """A channel whose CONNECT has been accepted."""
        channel = self.broker.open("tcp://127.0.0.1:1883", "127.0.0.1:50000", perf_counter())
        answer = self.exchange(channel, packets.connect(client_id, level=level))
        if answer[:1] != b"\x20" or answer[2:4] != b"\0\0":
            raise BenchmarkError(f"the core answered CONNECT with {answer.hex(' ') or 'nothing'}")
        return channel

    def subscribe(self, channel: Channel, filters: list[str], qos: int) -> None:
        """Subscribe and check the SUBACK."""
        packet = packets.subscribe(1, filters, qos, channel.connection.level)
        answer = self.exchange(channel, packet)
        if answer[:1] != b"\x90" or answer[-len(filters) :] != bytes((qos,)) * len(filters):
            raise BenchmarkError(f"the core answered SUBSCRIBE with {answer[:16].hex(' ')}")

    def exchange(self, channel: Channel, data: bytes) -> bytes:
        """Feed a channel and take what it is given; other channels' output is dropped."""
        channel.receive_data(data, perf_counter())
        return b"".join(piece for dirty, piece in self.turn() if dirty is channel)

    def turn(self) -> list[tuple[Channel, bytes]]:
        """All that an adapter does after feeding; the pieces that it would send."""
        broker = self.broker
        sent: list[tuple[Channel, bytes]] = []
        while True:
            while broker.has_requests:
                for request in broker.take_requests():
                    if isinstance(request, (AuthRequest, AuthorizeRequest)):
                        raise BenchmarkError("the core asks for an authenticator")
                    self._engine.submit(request)
                for completion in self._engine.take_completions():
                    broker.completed(completion, perf_counter())
            while broker.has_dirty:
                for channel in broker.take_dirty(_DIRTY_AT_ONCE):
                    while piece := channel.data_to_send():
                        sent.append((channel, piece))
            deadline = broker.next_deadline()
            if deadline is None or deadline > perf_counter():
                return sent
            broker.advance(perf_counter())


def run_in_build(module: str, build_name: str, python: str, options: list[str]) -> str:
    """Run a benchmark in a process of its own, with this build of the core; what it printed.

    The tree comes first on the path for the pure build, and last for the one that is installed.
    """
    place = "insert(0, " if build_name == "pure" else "append("
    code = (
        f"import runpy, sys; sys.path.{place}{str(ROOT)!r});"
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    command = [python, "-P", "-c", code, *options]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise BenchmarkError(f"{module} failed in the {build_name} build: {last}")
    return done.stdout


def measured(module: str, build_name: str, python: str, options: list[str]) -> dict[str, object]:
    """Run a benchmark in one build; its figures, which name the build."""
    shown: dict[str, object] = json.loads(run_in_build(module, build_name, python, options))
    if shown["build"] != build_name:
        raise BenchmarkError(no_such_build(build_name, python))
    return shown


def no_such_build(build_name: str, python: str) -> str:
    """What to say when another build was found than the one asked for."""
    return (
        f"{python} has no {build_name} build of the core: run `make run` once, or give --python "
        "with an environment that has iotd, or --build pure"
    )


def told(shown: dict[str, object]) -> str:
    """Figures for people, one a line."""
    return "\n".join(f"{key:<30} {value}" for key, value in shown.items())


def default_python() -> str:
    """The Python of `make run`, which has the installed build, or else this one."""
    installed = ROOT / ".venv" / "bin" / "python"
    return str(installed) if installed.exists() else sys.executable
