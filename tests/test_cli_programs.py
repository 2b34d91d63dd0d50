"""`iotd pub`, `iotd sub` and `iotd rr` as processes: signals, pipes, and beside mosquitto's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iotd import BlockingClient
from mqtt_core.broker import IMMEDIATE, Engine, Limits, MemoryEngine
from tests.adapters.rig import RunningServer
from tests.clients.words import PATIENCE_S

MAIN = "import sys; from iotd.cli import main; sys.exit(main())"
NO_SUBSCRIBERS = 0x10

needs_mosquitto_clients = pytest.mark.skipif(
    shutil.which("mosquitto_sub") is None,
    reason="mosquitto's clients are not installed (apt-get install mosquitto-clients)",
)
posix = pytest.mark.skipif(os.name != "posix", reason="platform: no signals to send")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer("asyncio") as running:
        yield running


def url_of(server: RunningServer) -> str:
    host, port = server.address
    return f"mqtt://{host}:{port}"


def command(name: str, server: RunningServer, *flags: str, is_theirs: bool = False) -> list[str]:
    """A program that talks to a server: ours, or mosquitto's."""
    host, port = server.address
    program = [f"mosquitto_{name}"] if is_theirs else [sys.executable, "-c", MAIN, name]
    return [*program, "-h", host, "-p", str(port), *flags]


@contextmanager
def started(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(words: list[str], data: bytes = b"") -> tuple[int, bytes, bytes]:
    ended = subprocess.run(words, input=data, capture_output=True, timeout=PATIENCE_S, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def wait_for_subscriber(client: BlockingClient, topic: str) -> None:
    """Until somebody has subscribed; they get empty messages."""
    while client.publish(topic, b"", 1).reason == NO_SUBSCRIBERS:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["asyncio", "gevent"])
def test_a_hundred_thousand_lines_go_through(runtime: str, tmp_path: Path) -> None:
    lines = b"".join(b"%d\n" % n for n in range(100_000))
    # Where sub is slower than pub, the server keeps them.
    limits = Limits(max_queued_messages=100_000, max_queued_bytes=1 << 28)
    flags = ["-t", "lines", "-q", "1", "-C", "100001", "-o", str(tmp_path / "got")]
    with (
        RunningServer(runtime, limits=limits) as server,
        BlockingClient(url_of(server)) as client,
        started(command("sub", server, *flags)) as sub,
    ):
        while client.publish("lines", b"first", 1).reason == NO_SUBSCRIBERS:
            pass  # the first that is heard is the only one
        assert run(command("pub", server, "-t", "lines", "-l", "-q", "1"), lines) == (0, b"", b"")
        assert sub.communicate(timeout=60) == (b"", b"")
        assert sub.returncode == 0
        assert (tmp_path / "got").read_bytes() == b"first\n" + lines


def test_a_server_that_is_started_again_is_found_again() -> None:
    engine: Engine = MemoryEngine(Limits())
    with RunningServer("asyncio", engine=engine) as first:
        words = command("sub", first, "-t", "a", "-q", "1", "-C", "100", "-i", "s", "-x", "60")
        with (
            started(words) as sub,
            started(command("pub", first, "-t", "a", "-l", "-q", "1")) as pub,
        ):
            assert pub.stdin is not None
            with BlockingClient(url_of(first)) as client:
                while client.publish("a", b"up", 1).reason == NO_SUBSCRIBERS:
                    pass
                with client.subscribe("a", qos=1) as seen:
                    for n in range(49):
                        pub.stdin.write(b"%d\n" % n)
                    pub.stdin.flush()
                    # Both programs are connected now: a first connection is not tried again.
                    assert seen.get(PATIENCE_S).payload == b"0"
            first.stop(IMMEDIATE)
            with RunningServer("asyncio", [first.urls[0]], engine=MemoryEngine(Limits())) as again:
                assert again.address == first.address
                with BlockingClient(url_of(again)) as client:
                    while client.publish("a", b"up", 1).reason == NO_SUBSCRIBERS:
                        pass
                for n in range(49, 200):
                    pub.stdin.write(b"%d\n" % n)
                pub.stdin.close()
                assert pub.wait(PATIENCE_S) == 0
                out, err = sub.communicate(timeout=PATIENCE_S)
                assert sub.returncode == 0
                assert out.count(b"\n") == 100
                assert b"not connected" in err
                assert b"connected again" in err


@posix
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_signal_says_goodbye(server: RunningServer, number: int, code: int) -> None:
    with BlockingClient(url_of(server)) as client, client.subscribe("wills") as wills:
        flags = ["-t", "signal", "--will-topic", "wills", "--will-payload", "x"]
        with started(command("sub", server, *flags)) as sub:
            wait_for_subscriber(client, "signal")
            sub.send_signal(number)
            out, err = sub.communicate(timeout=PATIENCE_S)
            assert (sub.returncode, out.strip(), err) == (code, b"", b"")
        client.publish("wills", b"mine", 1)
        assert wills.get(PATIENCE_S).payload == b"mine"


@posix
def test_ctrl_c_before_there_is_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = [sys.executable, "-c", MAIN, "pub", "-t", "t", "-m", "x"]
        port = str(silent.getsockname()[1])
        with started([*words, "-p", port, "-h", "127.0.0.1"]) as pub:
            peer, _ = silent.accept()
            with peer:
                assert peer.recv(1)
                pub.send_signal(signal.SIGINT)
                assert pub.communicate(timeout=PATIENCE_S) == (b"", b"")
                assert pub.returncode == 130


@posix
def test_whoever_reads_no_more_ends_it(server: RunningServer) -> None:
    words = command("sub", server, "-t", "pipe", "-v")
    with BlockingClient(url_of(server)) as client, started(words) as sub:
        wait_for_subscriber(client, "pipe")
        assert sub.stdout is not None
        sub.stdout.close()
        while sub.poll() is None:
            client.publish("pipe", b"x", 1)
        assert sub.returncode == 0
        assert sub.stderr is not None
        assert sub.stderr.read() == b""


def test_a_full_disk_is_said(server: RunningServer) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("platform: no /dev/full")
    with BlockingClient(url_of(server)) as client:
        client.publish("full", b"x", 1, True)
    code, _, err = run(command("sub", server, "-t", "full", "-C", "1", "-o", "/dev/full"))
    assert code == 1
    assert err == b"iotd: cannot write /dev/full: No space left on device\n"


# Beside mosquitto's


@needs_mosquitto_clients
@pytest.mark.parametrize("is_theirs", [False, True], ids=["ours", "theirs"])
@pytest.mark.parametrize("version", ["5", "311"])
def test_pub_is_what_mosquitto_pub_is(server: RunningServer, is_theirs: bool, version: str) -> None:
    topic = f"pub/{is_theirs}/{version}"
    blob = bytes(range(256))
    with BlockingClient(url_of(server)) as client, client.subscribe(topic, qos=2) as messages:

        def pub(*flags: str, data: bytes = b"") -> None:
            words = command("pub", server, "-t", topic, "-V", version, *flags, is_theirs=is_theirs)
            assert run(words, data) == (0, b"", b"")

        pub("-m", "x", "-q", "1", "-r")
        pub("-n", "-q", "2", "-i", "me", "-k", "5")
        pub("-l", data=b"one\n\xfftwo\n")
        pub("-s", data=blob)
        pub("-m", "y", "--repeat", "2", "-I", "p")
        got = [messages.get(PATIENCE_S) for _ in range(7)]
        assert [each.payload for each in got] == [b"x", b"", b"one", b"\xfftwo", blob, b"y", b"y"]
        assert [each.qos for each in got] == [1, 2, 0, 0, 0, 0, 0]
        if version == "5":
            pub("-m", "z", "-D", "publish", "user-property", "a", "b",
                "-D", "PUBLISH", "content-type", "text/plain")  # fmt: skip
            message = messages.get(PATIENCE_S)
            assert message.user_properties == (("a", "b"),)
            assert message.content_type == "text/plain"
        client.publish(topic, b"", 1, True)


def comparable(printed: bytes) -> object:
    """JSON without the time, and without the packet identifier, which our client does not tell."""
    found = json.loads(printed)
    assert isinstance(found.pop("tst"), str)
    found.pop("mid", None)
    return found


FORMATS = [
    [],
    ["-v"],
    ["-N"],
    ["-F", "%t|%p|%x|%X|%l|%q|%r|%C|%E|%R|%D|%P|%F|%%"],
    ["-F", "[%10t][%-10t][%.3t][%5.3t]"],
    ["-F", r"\n\t\\@Y-@m@@ @H"],
    ["-F", "%j"],
    ["-F", "%J"],
]


@needs_mosquitto_clients
@pytest.mark.parametrize("flags", FORMATS, ids=" ".join)
def test_sub_prints_what_mosquitto_sub_prints(server: RunningServer, flags: list[str]) -> None:
    with BlockingClient(url_of(server)) as client:
        for topic, payload in (("both/1", b'{"a": "\xc3\xa4"}'), ("both/2", b"[1, 2]")):
            client.publish(
                topic,
                payload,
                1,
                True,
                content_type="text/plain",
                response_topic="r",
                correlation_data=b"7",
                user_properties=[("a", "b"), ("c", "d")],
            )
        printed = []
        for is_theirs in (False, True):
            words = command(
                "sub", server, "-t", "both/+", "-t", "none", "-q", "1", "-V", "5", "-T", "both/2",
                "-C", "1", "-W", "10", *flags, is_theirs=is_theirs,
            )  # fmt: skip
            code, out, err = run(words)
            assert (code, err) == (0, b"")
            printed.append(comparable(out) if out.startswith(b"{") and "-F" in flags else out)
        assert printed[0] == printed[1]


@needs_mosquitto_clients
@pytest.mark.parametrize("is_theirs", [False, True], ids=["ours", "theirs"])
def test_sub_and_rr_give_up_as_mosquittos_do(server: RunningServer, is_theirs: bool) -> None:
    sub = command("sub", server, "-t", "silence", "-W", "1", is_theirs=is_theirs)
    assert run(sub) == (27, b"", b"Timed out\n")
    rr = command("rr", server, "-t", "q", "-e", "a", "-n", "-W", "1", is_theirs=is_theirs)
    assert run(rr) == (27, b"", b"Timed out\n")


@needs_mosquitto_clients
@pytest.mark.parametrize("is_theirs", [False, True], ids=["ours", "theirs"])
def test_rr_is_what_mosquitto_rr_is(server: RunningServer, is_theirs: bool) -> None:
    with BlockingClient(url_of(server)) as client, client.subscribe("ask") as questions:
        words = command("rr", server, "-t", "ask", "-e", "answer", "-m", "1", "-q", "1", "-v",
                        is_theirs=is_theirs)  # fmt: skip
        with started(words) as rr:
            question = questions.get(PATIENCE_S)
            assert (question.payload, question.response_topic) == (b"1", "answer")
            client.reply(question, b"one")
            assert rr.communicate(timeout=PATIENCE_S) == (b"answer one\n", b"")
            assert rr.returncode == 0
