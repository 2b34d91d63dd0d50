"""The command line without a broker: help, version, usage errors, `iotd config`, hashes."""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import iotd
from adapters.security import PasswordHash, ScramCredential
from iotd.cli import main
from iotd.cli._program import build, check_adapters, event_loop

ROOT = Path(__file__).resolve().parents[1]
# Absolute, because the tests run in folders of their own.
PYTHONPATH = [
    os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path
]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("IOTD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(text: str) -> str:
    Path("iotd.toml").write_text(text, encoding="utf-8")
    return "iotd.toml"


def test_version_tells_what_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    out = capsys.readouterr().out
    assert out == (
        f"iotd {iotd.__version__} ({build()}), "
        f"{platform.python_implementation()} {platform.python_version()}, {event_loop()}\n"
    )
    assert main(["--version"], runtime="asyncio") == 0
    assert capsys.readouterr().out == out


@pytest.mark.source
def test_the_version_of_the_project_is_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project.get("version", iotd.__version__) == iotd.__version__


@pytest.mark.parametrize("command", ["serve", "config", "hash-password"])
def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: iotd {command}" in out
    assert "Examples:" in out
    assert f"    iotd {command}" in out


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("serve", "config", "hash-password", "--version"):
        assert command in out


def test_every_flag_of_a_key_is_one_of_serve(capsys: pytest.CaptureFixture[str]) -> None:
    main(["serve", "--help"])
    out = capsys.readouterr().out
    from iotd.config import KEYS

    for key in KEYS.values():
        for flag in key.flags:
            assert flag in out


@pytest.mark.parametrize("runtime", ["asyncio", "gevent"])
def test_a_program_of_one_runtime_has_the_flags_of_serve(
    capsys: pytest.CaptureFixture[str], runtime: str
) -> None:
    assert main(["--help"], runtime=runtime) == 0
    out = capsys.readouterr().out
    assert f"Usage: python -m adapters.{runtime}_server [OPTIONS]" in out
    assert "--listen" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nonsense"], "No such option: --nonsense"),
        (["sevre"], "No such command 'sevre'"),
        (["serve", "--nonsense"], "No such option: --nonsense"),
        (["serve", "extra"], "unexpected extra argument"),
        (["serve", "--in-memory", "--data-dir", "x"], "exclude each other"),
        (["config", "--format", "xml"], 'found "xml"; allowed: table, toml, json'),
    ],
)
def test_a_wrong_command_line_shows_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: iotd")
    assert words in captured.err


def test_a_flag_without_its_value_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--listen"]) == 2
    assert "Option '--listen' requires an argument" in capsys.readouterr().err


def test_a_program_of_one_runtime_is_not_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runtime", "gevent"], runtime="asyncio") == 2
    assert "iotd serve --runtime gevent" in capsys.readouterr().err


def test_nothing_asked_for_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) in (0, 2)  # what the library makes of it has changed over time
    captured = capsys.readouterr()
    assert "Usage: iotd" in captured.out + captured.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--runtime", "twisted"], "flag --runtime: server.runtime: found \"twisted\"; "
         'allowed: one of "asyncio", "gevent"'),
        (["--listen", "127.0.0.1"], "flag --listen: server.listen_addresses: "),
        (["--log-level", "loud"], "flag --log-level: log.level: "),
        (["--data-dir", ""], "flag --data-dir: storage.data_dir: found \"\"; "
         "allowed: the path of a folder"),
        (["--listen", "tcp://0.0.0.0:1883"], "flag --listen: server.listen_addresses: "
         "tcp://0.0.0.0:1883 can be reached from other machines"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_and_nothing_starts(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert main(["serve", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1


def test_check_tells_every_error_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    file = write("[server]\nmax_connections = 0\nmax_conections = 1\n")
    assert main(["config", "--check", file]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("iotd.toml:2: server.max_connections: found 0; allowed: ")
    assert lines[1].endswith('did you mean "max_connections"?')


def test_check_says_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--check", write("[server]\nmax_connections = 5\n")]) == 0
    assert capsys.readouterr() == ("ok\n", "")


def test_check_says_ok_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    file = write('[[auth.users]]\nname = "a"\npassword = "b"\n')
    assert main(["config", "--check", file]) == 0
    captured = capsys.readouterr()
    assert captured.out == "ok\n"
    assert captured.err.startswith("warning: iotd.toml:1: passwords in plain text")


@pytest.mark.parametrize(
    "command", [["config", "--check"], ["config", "--config"], ["serve", "-c"]]
)
@pytest.mark.parametrize("file", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_one_line(
    capsys: pytest.CaptureFixture[str], command: list[str], file: str
) -> None:
    assert main([*command, file]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"iotd: cannot read the configuration file {file}: ")
    assert captured.err.count("\n") == 1


def test_config_prints_what_is_in_effect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOTD_LOG_LEVEL", "debug")
    monkeypatch.setenv("IOTD_CONFIG", write("[server]\nmax_connections = 5\n"))
    assert main(["config", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)["settings"]
    assert document["log"]["level"] == {"value": "debug", "from": "environment IOTD_LOG_LEVEL"}
    assert document["server"]["max_connections"] == {"value": 5, "from": "iotd.toml:2"}


def test_config_of_a_wrong_file_prints_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--config", write("[sever]\n")]) == 2
    assert capsys.readouterr() == (
        "",
        "iotd.toml:1: sever: unknown section; did you mean [server]?\n",
    )


class Pipe(io.TextIOWrapper):
    """Standard input that is no terminal."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))


@pytest.mark.parametrize("content", [b"s3cret", b"s3cret\n", b"s3cret\r\nmore"])
def test_a_password_from_a_pipe_becomes_a_line_for_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr("sys.stdin", Pipe(content))
    assert main(["hash-password"]) == 0
    line = capsys.readouterr().out
    assert "s3cret" not in line
    hashed = tomllib.loads(line)["password_hash"]
    assert PasswordHash.parse(hashed).matches(b"s3cret")
    file = write(f'[[auth.users]]\nname = "a"\n{line}')
    assert main(["config", "--check", file]) == 0


@pytest.mark.parametrize(
    ("arguments", "iterations"),
    [(["--scram"], 100_000), (["--scram", "--iterations", "4096"], 4_096)],
)
def test_a_password_becomes_a_line_for_scram(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    iterations: int,
) -> None:
    monkeypatch.setattr("sys.stdin", Pipe(b"s3cret\n"))
    assert main(["hash-password", *arguments]) == 0
    line = capsys.readouterr().out
    assert "s3cret" not in line
    credential = ScramCredential.parse(tomllib.loads(line)["password_hash"])
    assert credential.iterations == iterations
    assert credential.matches(b"s3cret")
    file = write(f'[[auth.users]]\nname = "a"\n{line}')
    assert main(["config", "--check", file]) == 0


def test_a_password_that_scram_does_not_take_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Pipe(b"s3\x07cret\n"))
    assert main(["hash-password", "--scram"]) == 1
    assert capsys.readouterr() == (
        "",
        "iotd: SCRAM does not take this password: control characters forbidden; "
        "choose another password\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--iterations", "5000"], "--iterations is about --scram; give both or neither"),
        (["--scram", "--iterations", "4095"], "found 4095; allowed: 4096 to 1000000"),
        (["--scram", "--iterations", "1000001"], "found 1000001; allowed: 4096 to 1000000"),
    ],
)
def test_a_cost_that_is_not_allowed_is_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["hash-password", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err


def test_no_password_is_no_hash(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Pipe(b""))
    assert main(["hash-password"]) == 1
    assert capsys.readouterr() == (
        "",
        "iotd: the password is empty; type one, or write one to standard input\n",
    )


@pytest.mark.parametrize(("again", "code"), [("s3cret", 0), ("other", 1)])
def test_a_password_is_asked_for_twice_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, again: str, code: int
) -> None:
    typed = iter(["s3cret", again])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("iotd.cli._hash.getpass", lambda _prompt: next(typed))
    assert main(["hash-password"]) == code
    assert ("two passwords differ" in capsys.readouterr().err) is bool(code)


def python(code: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `code` in an interpreter of its own, with `path` before everything else."""
    paths = [str(path)] if path is not None else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *PYTHONPATH])}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


MAIN = "import sys; from iotd.cli import main; sys.exit(main())"


@pytest.mark.parametrize("name", ["adapters/__init__.py", "adapters.py"])
def test_another_package_named_adapters_is_told_with_its_path(tmp_path: Path, name: str) -> None:
    other = tmp_path / "other" / name
    other.parent.mkdir(parents=True)
    other.write_text("")
    ended = python(MAIN, path=tmp_path / "other")
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        f'iotd: another package named "adapters" hides iotd\'s own: {other}'
    )
    assert ended.stderr.count("\n") == 1


def test_a_namespace_shared_with_another_package_is_fine(tmp_path: Path) -> None:
    (tmp_path / "other" / "adapters" / "theirs").mkdir(parents=True)
    check_adapters()
    assert python("from iotd.cli._program import check_adapters; check_adapters()",
                  path=tmp_path / "other").stderr == ""  # fmt: skip


def test_a_runtime_that_is_not_installed_is_told(tmp_path: Path) -> None:
    (tmp_path / "gevent.py").write_text("raise ImportError('not installed')")
    ended = python(MAIN.replace("main()", "main([], runtime='gevent')"), path=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == (
        "iotd: the gevent runtime needs the package gevent; "
        "install it with: pip install 'iotd[gevent]'\n"
    )


def test_without_uvloop_the_loop_is_the_one_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError('not installed')")
    code = "from iotd.cli._program import event_loop; print(event_loop())"
    assert python(code, path=tmp_path).stdout == "asyncio\n"


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import iotd", ["asyncio", "typer", "msgspec", "mqtt_core"]),
        ("import iotd.cli", ["asyncio", "typer", "msgspec", "mqtt_core"]),
        ("import iotd.config", ["asyncio", "typer", "rich", "structlog", "gevent", "difflib"]),
        ("import iotd.cli._app", ["asyncio", "rich", "structlog", "gevent", "msgspec"]),
    ],
)
def test_nothing_is_loaded_before_it_is_needed(code: str, modules: list[str]) -> None:
    ended = python(f"{code}; import sys; print(*[m for m in {modules} if m in sys.modules])")
    assert ended.stderr == ""
    assert ended.stdout.strip() == ""


def test_the_front_door_has_the_server() -> None:
    from adapters.asyncio_server import Server

    assert iotd.Server is Server
    assert "Server" in dir(iotd)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(iotd, "Nothing")  # noqa: B009  a name that the type checker would refuse
