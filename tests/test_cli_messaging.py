"""`iotd pub`, `iotd sub`, `iotd rr`: their flags, what they print, and how they end."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iotd import BlockingClient, BlockingMessages
from iotd.cli import main
from iotd.cli._app import run
from iotd.cli.messaging import run_at_once
from iotd.cli.messaging._at_once import read_flags
from iotd.cli.messaging._flag import Program
from iotd.cli.messaging._programs import PROGRAMS
from mqtt_core.broker import Limits, StaticUsers
from tests.adapters.rig import RunningServer
from tests.clients.relay import Relay, make_certificate
from tests.clients.words import PATIENCE_S, Loop

NO_SUBSCRIBERS = 0x10


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("IOTD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer("asyncio") as running:
        yield running


def to(server: RunningServer) -> list[str]:
    """The flags that name a server."""
    host, port = server.address
    return ["-h", host, "-p", str(port)]


def url_of(server: RunningServer) -> str:
    host, port = server.address
    return f"mqtt://{host}:{port}"


@pytest.fixture
def client(server: RunningServer) -> Iterator[BlockingClient]:
    with BlockingClient(url_of(server)) as connected:
        yield connected


def take(messages: BlockingMessages, count: int) -> list[bytes]:
    return [messages.get(PATIENCE_S).payload for _ in range(count)]


class Stdin:
    """Bytes as standard input."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def set_stdin(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", Stdin(data))

    return set_stdin


# pub


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_pub_sends_what_it_is_given(
    client: BlockingClient,
    server: RunningServer,
    qos: int,
    typed: Callable[[bytes], None],
    tmp_path: Path,
) -> None:
    blob = bytes(range(256)) * 1_000
    (tmp_path / "file").write_bytes(blob)
    with client.subscribe("pub", qos=2) as messages:
        flags = ["pub", *to(server), "-t", "pub", "-q", str(qos)]
        typed(blob)
        assert main([*flags, "-m", "hällo"]) == 0
        assert main([*flags, "-f", "file"]) == 0
        assert main([*flags, "-s"]) == 0
        assert main([*flags, "-n"]) == 0
        assert main([*flags, "-m", "r", "--repeat", "3", "--repeat-delay", "0.001"]) == 0
        expected = ["hällo".encode(), blob, blob, b"", b"r", b"r", b"r"]
        assert take(messages, 7) == expected


def test_pub_sends_each_line(
    client: BlockingClient, server: RunningServer, typed: Callable[[bytes], None]
) -> None:
    with client.subscribe("lines", qos=2) as messages:
        for qos in "012":
            typed(b"one\ntwo\n\n\xff\0three\r\nlast")
            assert main(["pub", *to(server), "-t", "lines", "-l", "-q", qos]) == 0
            expected = [b"one", b"two", b"", b"\xff\0three\r", b"last"]
            assert take(messages, 5) == expected


def test_pub_waits_where_more_is_typed_than_may_wait(
    server: RunningServer, client: BlockingClient, typed: Callable[[bytes], None]
) -> None:
    with client.subscribe("many", qos=1) as messages:
        typed(b"".join(b"%d\n" % n for n in range(30_000)))
        publishing = threading.Thread(
            target=lambda: codes.append(
                main(["pub", *to(server), "-t", "many", "-l", "-q", "1", "-M", "10"])
            )
        )
        codes: list[int] = []
        # Signals are for the main thread, so this one reads.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("signal.signal", lambda *_: None)
            publishing.start()
            assert take(messages, 30_000) == [b"%d" % n for n in range(30_000)]
            publishing.join(PATIENCE_S)
        assert codes == [0]


def test_pub_sets_properties(client: BlockingClient, server: RunningServer) -> None:
    with client.subscribe("p") as messages:
        properties = [
            ["content-type", "text/plain"],
            ["correlation-data", "7"],
            ["message-expiry-interval", "60"],
            ["response-topic", "answers"],
            ["user-property", "a", "b"],
            ["user-property", "a", "-c"],
        ]
        flags = [word for each in properties for word in ("-D", "publish", *each)]
        assert main(["pub", *to(server), "-t", "p", "-m", "x", *flags]) == 0
        message = messages.get(PATIENCE_S)
        assert (message.content_type, message.correlation_data) == ("text/plain", b"7")
        assert (message.expiry_s, message.response_topic) == (60, "answers")
        assert message.user_properties == (("a", "b"), ("a", "-c"))


def test_pub_keeps_a_message_and_sub_has_it_forgotten(
    server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for topic in ("kept/a", "kept/b"):
        assert main(["pub", *to(server), "-t", topic, "-m", topic, "-r", "-q", "1"]) == 0
    sub = ["sub", *to(server), "-t", "kept/#"]
    assert main([*sub, "-C", "2", "-F", "%t %r"]) == 0
    assert sorted(capfdbinary.readouterr().out.splitlines()) == [b"kept/a 1", b"kept/b 1"]
    assert main([*sub, "-T", "kept/a", "-C", "1"]) == 0
    assert capfdbinary.readouterr().out == b"kept/b\n"
    assert main([*sub, "-R", "-W", "0.05"]) == 27
    assert capfdbinary.readouterr() == (b"", b"Timed out\n")
    assert main([*sub, "--remove-retained", "-C", "2"]) == 0
    capfdbinary.readouterr()
    assert main([*sub, "-W", "0.05", "--quiet"]) == 27
    assert capfdbinary.readouterr() == (b"", b"")


# sub


def printed(
    server: RunningServer,
    capfdbinary: pytest.CaptureFixture[bytes],
    flags: list[str],
    payload: bytes = b"hi",
    version: str = "5",
) -> bytes:
    """What sub prints of one message, which is there before it comes."""
    with BlockingClient(url_of(server)) as publisher:
        publisher.publish("out/put", payload, 1, True, content_type="text/plain")
        code = main(["sub", *to(server), "-t", "out/#", "-C", "1", "-V", version, *flags])
        publisher.publish("out/put", b"", 1, True)
    assert code == 0
    return capfdbinary.readouterr().out


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], b"hi\n"),
        (["-N"], b"hi"),
        (["-v"], b"out/put hi\n"),
        (["--hex"], b"6869\n"),
        (["--hex", "-v"], b"out/put 6869\n"),
        (["-F", "%t|%p|%x|%X|%l|%q|%r|%C|%E|%R|%D|%P|%A|%m|%S|%F|%%"],
         b"out/put|hi|6869|6869|2|0|1|text/plain||||||||%\n".replace(b"||||||||", b"|||||||||")),
        (["-F", "[%10t][%-10t][%.3t][%5.3t][%05l][%-05l][%5p][%-5p][%6x][%06x]"],
         b"[   out/put][out/put   ][out][  out][00002][2    ][   hi][hi   ][  6869][006869]\n"),
        (["-F", r"\n\t\\\a\e\0\r\v@@"], b"\n\t\\\a\x1b\0\r\v@\n"),
        (["-F", ""], b"\n"),
    ],
)  # fmt: skip
def test_sub_prints(
    server: RunningServer,
    capfdbinary: pytest.CaptureFixture[bytes],
    flags: list[str],
    expected: bytes,
) -> None:
    assert printed(server, capfdbinary, flags) == expected


def test_sub_prints_the_time(
    server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    out = printed(server, capfdbinary, ["-F", "%I %U @Y-@m-@d @N"]).decode()
    date = r"\d{4}-\d\d-\d\d"
    form = rf"{date}T\d\d:\d\d:\d\d[+-]\d{{4}} \d+\.\d{{9}} {date} \d{{9}}\n"
    assert re.fullmatch(form, out)


def test_sub_prints_json(server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    out = printed(server, capfdbinary, ["--json"], b'{"a": "\xc3\xa4"}')
    found = json.loads(out)
    assert out.count(b"\n") == 1
    assert found.pop("tst")
    assert found == {
        "topic": "out/put",
        "qos": 0,
        "retain": 1,
        "payloadlen": 11,
        "properties": {"content-type": "text/plain"},
        "payload": '{"a": "ä"}',
    }
    assert json.loads(printed(server, capfdbinary, ["-F", "%J"], b'{"a": 1}'))["payload"] == {
        "a": 1
    }
    assert b'\n  "topic"' in printed(server, capfdbinary, ["--json", "--pretty"])
    binary = json.loads(printed(server, capfdbinary, ["-F", "%j"], b"\xff\0"))
    assert "payload" not in binary
    assert binary["payload-base64"] == "/wA="
    assert printed(server, capfdbinary, ["-F", "%J"], b"no json") == b""


def test_sub_says_what_is_no_json(
    server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with BlockingClient(url_of(server)) as publisher:
        publisher.publish("no/json", b"x", 1, True)
        assert main(["sub", *to(server), "-t", "no/json", "-C", "1", "-F", "%J"]) == 0
        publisher.publish("no/json", b"", 1, True)
    assert b"'no/json' is no JSON; print it with %j or %p" in capfdbinary.readouterr().err


def test_sub_appends_to_a_file(
    server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    for _ in range(2):
        assert printed(server, capfdbinary, ["-o", "log"]) == b""
    assert (tmp_path / "log").read_bytes() == b"hi\nhi\n"


def test_sub_loses_nothing_of_a_session_that_stays(
    server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    sub = ["sub", *to(server), "-t", "stay", "-q", "1", "-c", "-i", "stays"]
    assert main([*sub, "-E"]) == 0
    for n in range(5):
        assert main(["pub", *to(server), "-t", "stay", "-m", str(n), "-q", "1"]) == 0
    assert main([*sub, "-C", "3"]) == 0
    assert main([*sub, "-C", "2"]) == 0
    assert capfdbinary.readouterr().out == b"0\n1\n2\n3\n4\n"
    assert main([*sub[:-1], "stays", "-x", "0", "-E"]) == 0


def test_the_topic_may_be_in_the_url(
    server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["pub", "-L", f"{url_of(server)}/in/url", "-m", "x", "-r", "-q", "1"]) == 0
    assert main(["sub", "-L", f"{url_of(server)}/in/+", "-C", "1", "-v", "-W", "20"]) == 0
    assert capfdbinary.readouterr().out == b"in/url x\n"
    assert main(["pub", "-L", f"{url_of(server)}/in/url", "-n", "-r", "-q", "1"]) == 0


# rr


@pytest.mark.parametrize("flags", [[], ["-e", "answers"], ["-e", "answers", "-V", "311"]])
def test_rr_prints_the_answer(
    client: BlockingClient,
    server: RunningServer,
    flags: list[str],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    def answer() -> None:
        question = questions.get(PATIENCE_S)
        topic = question.response_topic or "answers"
        client.publish(topic, b"<" + question.payload + b">", 1,
                       correlation_data=question.correlation_data)  # fmt: skip

    with client.subscribe("ask") as questions:
        answering = threading.Thread(target=answer)
        answering.start()
        assert main(["rr", *to(server), "-t", "ask", "-m", "why", "-W", "20", *flags]) == 0
        answering.join(PATIENCE_S)
    assert capfdbinary.readouterr().out == b"<why>\n"


def test_rr_ends_where_nobody_answers(
    server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    rr = ["rr", *to(server), "-t", "nobody", "-n", "-W", "0.1"]
    assert main(rr) == 27
    assert main([*rr, "-e", "answers"]) == 27
    assert main([*rr, "-V", "311"]) == 2
    assert b"-e TOPIC" in capfdbinary.readouterr().err


# Connections


def test_users_and_wills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "secret").write_text("right\nsecond line\n")
    with RunningServer("asyncio", policy=StaticUsers({"ann": b"right"})) as server:
        pub = ["pub", *to(server), "-t", "t", "-m", "x", "-q", "1", "--will-topic", "w"]
        assert main([*pub, "-u", "ann", "-P", "right"]) == 0
        assert main([*pub, "-u", "ann", "--password-file", "secret"]) == 0
        assert main([*pub, "-u", "ann", "-P", "wrong"]) == 1
        assert b"iotd: " in capfdbinary.readouterr().err
        assert main([*pub, "-u", "ann", "--quiet"]) == 1
        assert capfdbinary.readouterr().err == b""
        monkeypatch.setenv("IOTD_PASSWORD", "right")
        assert main([*pub, "-u", "ann"]) == 0
        url = url_of(server).replace("://", "://ann@")
        assert main(["pub", "-L", f"{url}/t", "-m", "x"]) == 0
        assert main(["pub", "-L", f"{url.replace('ann@', 'ann:wrong@')}/t", "-m", "x"]) == 1


def test_tls_and_unix_sockets(
    server: RunningServer, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    of_server, _ = make_certificate(tmp_path)
    with Loop() as loop:
        with loop.relay(server.address, tls=of_server) as relay:
            pub = ["pub", "-p", str(relay.port), "-t", "t", "-m", "x", "-q", "1"]
            assert main([*pub, "--cafile", "server.pem"]) == 0
            url = f"mqtts://localhost:{relay.port}/t"
            assert main(["pub", "-L", url, "-m", "x", "--cafile", "server.pem"]) == 0
            capfdbinary.readouterr()
            assert main([*pub, "--tls-use-os-certs"]) == 1
            assert b"certificate is not trusted" in capfdbinary.readouterr().err
            insecure = [*pub, "-h", "127.0.0.1", "--cafile", "server.pem", "--insecure"]
            assert main(insecure) == 0
        with loop.relay(server.address, path=tmp_path / "s"):
            assert main(["pub", "--unix", "s", "-t", "t", "-m", "x", "-q", "2"]) == 0


def test_what_becomes_of_the_connection_is_said(
    server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def go_on(loop: Loop, relay: Relay, publisher: BlockingClient) -> None:
        while publisher.publish("again", b"x", 1).reason == NO_SUBSCRIBERS:
            pass  # it has not subscribed yet
        loop.call(relay.cut)
        while not is_over.is_set():
            publisher.publish("again", b"x", 1)

    is_over = threading.Event()
    with (
        Loop() as loop,
        loop.relay(server.address) as relay,
        BlockingClient(url_of(server)) as publisher,
    ):
        going = threading.Thread(target=go_on, args=(loop, relay, publisher))
        going.start()
        flags = ["-p", str(relay.port), "-t", "again", "-W", "20"]
        code = main(["sub", *flags, "--output", "log", "-C", "100"])
        is_over.set()
        going.join(PATIENCE_S)
        assert code == 0
    err = capfdbinary.readouterr().err.decode().splitlines()
    assert err[0].startswith("iotd: not connected: ")
    assert err[-1] == "iotd: connected again"


def test_no_server_is_said(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["pub", "-h", "nowhere.invalid", "-t", "t", "-m", "x"]) == 1
    err = capfdbinary.readouterr().err
    assert err.startswith(b"iotd: cannot connect to mqtt://nowhere.invalid:1883: ")
    assert err.count(b"\n") == 1


def test_a_refused_subscription_is_said(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with RunningServer("asyncio", limits=Limits(wildcard_subscriptions=False)) as server:
        assert main(["sub", *to(server), "-t", "a/#"]) == 1
    assert b"refuses the subscription to 'a/#'" in capfdbinary.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pub", "-m", "x"], "say where to publish: -t TOPIC"),
        (["pub", "-t", "a"], "say what to publish: -m TEXT"),
        (["pub", "-t", "a", "-m", "x", "-n"], "exclude each other"),
        (["pub", "-t", "a", "-l", "-m", "x"], "leave out the others"),
        (["pub", "-t", "a", "-f", "none"], "cannot read none: No such file"),
        (["pub", "-t", "a", "-m", "x", "-q", "3"], "'--qos' / '-q'"),
        (["pub", "-t", "a", "-m", "x", "-V", "31"], "allowed: auto, 5, 311"),
        (["pub", "-t", "a", "-m", "x", "-c"], "name it with -i"),
        (["pub", "-t", "a", "-m", "x", "-i", "a", "-I", "b"], "-i and -I exclude"),
        (["pub", "-t", "a", "-m", "x", "-L", "mqtt://a", "-h", "b"], "leave out -h"),
        (["pub", "-t", "a", "-m", "x", "--unix", "a", "-p", "1"], "leave out -h"),
        (["pub", "-t", "a", "-m", "x", "-L", "localhost"], "write it with its scheme"),
        (["pub", "-t", "a", "-m", "x", "--cert", "a"], "give both or neither"),
        (["pub", "-t", "a", "-m", "x", "--cafile", "none"], "certificates cannot be used"),
        (["pub", "-t", "a", "-m", "x", "-u", "a", "--password-file", "none"], "cannot read none"),
        (["pub", "-t", "a", "-m", "x", "--will-topic", "a/#"], "will cannot be published"),
        (["pub", "-t", "a", "-m", "x", "-D", "publish"], "publish has no ''"),
        (["pub", "-t", "a", "-m", "x", "-D", "x", "y", "z"], "allowed: connect, publish, will"),
        (["pub", "-t", "a", "-m", "x", "-D", "publish", "user-property", "z"], "NAME VALUE"),
        (
            ["pub", "-t", "a", "-m", "x", "-D", "publish", "message-expiry-interval", "z"],
            "a whole number",
        ),
        (
            ["pub", "-t", "a", "-m", "x", "-D", "connect", "receive-maximum", "70000"],
            "allowed: 0 to 65,535",
        ),
        (["pub", "-t", "a", "-m", "x", "--nonsense"], "No such option"),
        (["sub"], "say what to subscribe to: -t TOPIC"),
        (["sub", "-t", "a", "-T", "a#"], "'a#' is no topic filter"),
        (["sub", "-t", "a", "--json", "--hex"], "exclude each other"),
        (["sub", "-t", "a", "-F", "%z"], "%z stands for nothing"),
        (["sub", "-t", "a", "-F", "a%"], "in the midst of a %-code"),
        (["sub", "-t", "a", "-F", "a@"], "it ends with '@'"),
        (["sub", "-t", "a", "-F", r"\z"], r"\z stands for nothing"),
        (["sub", "-t", "a", "-o", "none/none"], "cannot write none/none"),
        (["rr", "-t", "a"], "say what to ask"),
        (["rr", "-n"], "say where to publish"),
    ],
)
def test_a_wrong_command_line_is_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err.replace("\n", " ")
    assert "--help" in err


def test_what_mqtt_forbids_is_a_wrong_command_line(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pub", *to(server), "-t", "a/#", "-m", "x"]) == 2
    assert main(["sub", *to(server), "-t", "a#"]) == 2
    assert main(["rr", *to(server), "-t", "a/#", "-n"]) == 2
    err = capsys.readouterr().err
    assert "cannot publish to 'a/#'" in err
    assert "cannot subscribe to 'a#'" in err


@pytest.mark.parametrize("command", ["pub", "sub", "rr"])
def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: iotd {command}" in out
    assert f"    iotd {command} -t" in out
    for part in ("0 done", "1 not connected", "2 the command line", "27 timed", "130 inter"):
        assert part in out
    assert re.search(r"-h, --host HOST", out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    assert f"_IOTD_COMPLETE=complete_{shell}" in capsys.readouterr().out
    assert main(["completion", "csh"]) == 2


def test_completion_knows_the_flags(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_IOTD_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "iotd sub --ret")
    monkeypatch.setenv("COMP_CWORD", "2")
    main([])
    assert capsys.readouterr().out.split() == ["--retained-only", "--retain-as-published"]


USUAL_LINES = [
    "pub -t a -m x",
    "pub -ta -mx -q1 -r",
    "pub --topic=a --message=x --qos=2 --retain --repeat 3 --delay 0.5",
    "pub -t a -l -M 10 -k 0 -c -i me -x -1 -V 311",
    "pub -t a -m x -D publish user-property a b -D will will-delay-interval 5 -D connect x y",
    "sub -t a -t b/# -v -C 3 -W 1.5 -T c -T d -N -R --json --pretty -o file -E",
    "sub -L mqtt://h/t --cafile a --cert b --key c --insecure --tls-use-os-certs -d --quiet",
    "rr -t a -e b -n -F %p --hex --unix p -u n -P w --password-file f -I p --capath d",
]


@pytest.mark.parametrize("line", USUAL_LINES)
def test_both_readers_of_flags_agree(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *arguments = line.split()
    program = next(each for each in PROGRAMS if each.name == name)
    quick = read_flags(program, arguments)
    by_typer: dict[str, Any] = {}

    def note(self: Program, values: dict[str, Any]) -> int:
        by_typer.update(values)
        return 0

    monkeypatch.setattr(Program, "run", note)
    assert run([name, *arguments], None) == 0
    assert {key: value or None for key, value in by_typer.items()} == {
        key: value or None for key, value in quick.items()
    }


@pytest.mark.parametrize(
    "line", ["pub -m -x -t a", "pub --help", "sub --top a", "sub -C 0", "rr x", "pub -k 70000"]
)
def test_what_is_unusual_is_left_to_typer(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_at_once(line.split()) is None


def test_a_payload_may_look_like_a_flag(client: BlockingClient, server: RunningServer) -> None:
    with client.subscribe("t") as messages:
        assert main(["pub", *to(server), "-t", "t", "-m", "-x"]) == 0
        assert take(messages, 1) == [b"-x"]


def test_usual_lines_start_without_typer(server: RunningServer) -> None:
    program = (
        "import sys; from iotd.cli import main; code = main(sys.argv[1:]);"
        "print(*{'typer', 'asyncio', 'rich', 'websockets'} & set(sys.modules));"
        "sys.exit(code)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, "pub", *to(server), "-t", "t", "-m", "x"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert out.split() == []
