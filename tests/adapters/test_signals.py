"""Programs: SIGINT and SIGTERM, once or twice, early or late, and what is left of the process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.rig import PATIENCE_S, Client, address_of, server_module

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="platform: no POSIX signals")

SERVE = Path(__file__).with_name("serve.py")
INT, TERM = signal.SIGINT, signal.SIGTERM


class Program:
    """`serve.py` in a process of its own."""

    def __init__(self, runtime: str, *options: str) -> None:
        server_module(runtime)
        self.process = subprocess.Popen(
            [sys.executable, str(SERVE), runtime, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until(self, first_word: str) -> list[str]:
        """Read lines up to the one that begins so; its words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            words = line.split()
            if words[0] == first_word:
                return words
        raise AssertionError(f"ended without {first_word!r}")

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; waits until it does."""
        return address_of(self.wait_until("ready")[1])

    def send(self, *numbers: int) -> None:
        """Send signals, one right after the other."""
        for number in numbers:
            self.process.send_signal(number)

    def end(self) -> tuple[int, list[str]]:
        """Wait for the end: the exit code, and what was printed since the last look."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert err == ""
        return self.process.returncode, out.splitlines()


@contextlib.contextmanager
def program(runtime: str, *options: str) -> Iterator[Program]:
    """A `Program` that is gone afterwards."""
    started = Program(runtime, *options)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


@pytest.mark.parametrize("number", [INT, TERM])
def test_one_signal_ends_it_in_order(runtime: str, number: int) -> None:
    with program(runtime) as server, Client(server.address).open("client") as client:
        client.subscribe("t")
        server.send(number)
        assert client.is_at_end()
        assert server.end()[0] == 0


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_signal_that_comes_before_it_listens(runtime: str, number: int) -> None:
    with program(runtime, f"signal-early={number:d}") as server:
        code, _ = server.end()
        assert code == 0


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_signal_that_comes_the_moment_it_listens(runtime: str, number: int) -> None:
    with program(runtime, f"signal-ready={number:d}") as server:
        code, lines = server.end()
        assert code == 0
        assert lines[0].startswith("ready ")


@pytest.mark.parametrize("first", [INT, TERM])
@pytest.mark.parametrize("second", [INT, TERM])
def test_a_second_signal_ends_it_at_once(runtime: str, first: int, second: int) -> None:
    with program(runtime, f"signal-ready={first:d},{second:d}") as server:
        assert server.end()[0] == 128 + second


@pytest.mark.parametrize("first", [INT, TERM])
@pytest.mark.parametrize("second", [INT, TERM])
def test_two_signals_from_outside_leave_no_traceback(runtime: str, first: int, second: int) -> None:
    """The second may meet any moment of the stop, also the last one, when all is done."""
    for _ in range(5):
        with program(runtime) as server, Client(server.address).open("client"):
            server.send(first, second)
            assert server.end()[0] in (0, 128 + first, 128 + second, -first, -second)


def test_a_graceful_stop_that_takes_long_gives_way_to_a_second_signal(runtime: str) -> None:
    with program(runtime, "linger=60") as server, Client(server.address) as client:
        client.open("client")
        server.send(INT)
        assert client.is_at_end()
        server.send(TERM)  # the client stays, so the server is waiting for it
        assert server.end()[0] == 128 + TERM


def test_out_of_descriptors_accepting_pauses_and_goes_on(runtime: str) -> None:
    with program(runtime, "descriptors=60") as server, contextlib.ExitStack() as stack:
        address = server.address
        first = stack.enter_context(Client(address)).open("first")
        # The kernel completes these connections, whether the server takes them or not.
        others = [stack.enter_context(Client(address)) for _ in range(100)]
        words = server.wait_until("accept.paused")
        assert "ulimit -n" in " ".join(words)
        first.ping()
        for client in others[:90]:
            client.close()
        server.wait_until("accept.resumed")
        stack.enter_context(Client(address)).open("late").ping()
        for number, client in enumerate(others[90:]):
            client.open(f"late-{number}").ping()
        first.ping()
        server.send(TERM)
        code, lines = server.end()
        assert code == 0
        assert not [line for line in lines if line.startswith("accept.paused")]
