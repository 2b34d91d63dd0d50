"""`iotd store`: what it tells and does of stores that an engine has made."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from iotd.cli import main
from iotd.cli._output import duration, size
from mqtt_core import make_message
from mqtt_core.broker import Append, PutRetained, SaveSession, Settle, Target
from tests.store_states import (
    DAY,
    HOUR,
    NOW,
    crash_copy,
    files,
    make_store,
    open_driver,
    rich_state,
)

NAMED = ("--data-dir", "store")
ESCAPED = "sensor\\u001b[31m"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("IOTD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def store(capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> str:
    """What a command prints that does its work."""
    code = main(["store", command, *NAMED, *arguments])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line of a command that cannot do its work."""
    assert main(["store", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("iotd: ")
    assert captured.err.count("\n") == 1
    return captured.err


# Help, and how the folder is found

REMOVE = "remove"
COMMANDS = ("show", "sessions", "verify", "compact", "export", REMOVE)


def given(command: str, folder: str = "store") -> list[str]:
    """A command as it is given, of those that need no file."""
    return [command, "--data-dir", folder, *(["--client", "never"] if command == REMOVE else [])]


@pytest.mark.parametrize("command", [*COMMANDS, "import"])
def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(["store", command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: iotd store {command}" in out
    assert "Examples:" in out
    assert f"    iotd store {command}" in out


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "--help"]) == 0
    out = capsys.readouterr().out
    for command in [*COMMANDS, "import"]:
        assert f"  {command} " in out


def test_the_folder_is_that_of_the_broker(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*arguments: str) -> str:
        assert main(["store", "show", "--json", *arguments]) == 0
        path: str = json.loads(capsys.readouterr().out)["path"]
        return path

    for folder in ("iotd-data", "of-file", "of-environment", "of-flag"):
        make_store(folder=folder)
    assert found() == str(Path("iotd-data/iotd.db"))
    Path("iotd.toml").write_text('[storage]\ndata_dir = "of-file"\n', encoding="utf-8")
    assert found("--config", "iotd.toml") == str(Path("of-file/iotd.db"))
    monkeypatch.setenv("IOTD_CONFIG", "iotd.toml")
    assert found() == str(Path("of-file/iotd.db"))
    monkeypatch.setenv("IOTD_STORAGE_DATA_DIR", "of-environment")
    assert found() == str(Path("of-environment/iotd.db"))
    assert found("--data-dir", "of-flag") == str(Path("of-flag/iotd.db"))


def test_a_configuration_without_a_store_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOTD_STORAGE_IN_MEMORY", "true")
    assert "in memory" in refusal(capsys, "show")
    make_store()
    assert main(["store", "show", *NAMED]) == 0


def test_a_wrong_configuration_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("iotd.toml").write_text("[storage]\ndata_dri = 'x'\n", encoding="utf-8")
    for command in COMMANDS:
        assert (
            main(["store", *given(command)[:1], *given(command)[3:], "--config", "iotd.toml"]) == 2
        )
        assert "data_dir" in capsys.readouterr().err


# What is refused

LOOKING = ("show", "sessions", "verify", "export")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_store_is_made_by_looking_for_one(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert "no store in this folder" in refusal(capsys, *given(command))
    assert not Path("store").exists()
    Path("store").mkdir()
    assert "no store in this folder" in refusal(capsys, *given(command))
    assert files(Path("store")) == {}
    Path("store/iotd.db").touch()
    assert "no store in this folder" in refusal(capsys, *given(command))
    assert files(Path("store")) == {"iotd.db": b""}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_in_use_is_refused(capsys: pytest.CaptureFixture[str], command: str) -> None:
    driver = open_driver()
    driver.write(*rich_state())
    before = files(Path("store"))
    assert "another process uses this store" in refusal(capsys, *given(command))
    assert files(Path("store")) == before
    driver.write(PutRetained(make_message("still", b"written", 0, True)))
    driver.engine.close()
    assert main(["store", *given(command)]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_newer_store_and_a_foreign_one_are_refused(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    make_store()
    database = sqlite3.connect("store/iotd.db")
    database.execute("PRAGMA user_version=99")
    database.close()
    line = refusal(capsys, *given(command))
    assert "schema 99" in line
    assert "newer version" in line
    database = sqlite3.connect("store/iotd.db")
    database.execute("PRAGMA application_id=1")
    database.close()
    assert "another program" in refusal(capsys, *given(command))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_database_is_refused_and_kept(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    Path("store").mkdir()
    Path("store/iotd.db").write_bytes(b"no database at all" * 1_000)
    before = files(Path("store"))
    assert "damaged" in refusal(capsys, *given(command))
    assert files(Path("store")) == before


@pytest.mark.parametrize("command", LOOKING)
def test_looking_changes_nothing(capsys: pytest.CaptureFixture[str], command: str) -> None:
    for folder in (make_store(*rich_state()), crash_copy()):
        before = files(folder)
        assert main(["store", *given(command, str(folder))]) == 0
        assert files(folder) == before


# Show


def test_show_counts_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_store(*rich_state())
    found = json.loads(store(capsys, "show", "--json"))
    assert found.pop("queue_bytes") > 0
    assert found == {
        "path": str(Path("store/iotd.db")),
        "file_bytes": (folder / "iotd.db").stat().st_size,
        "log_bytes": 0,
        "free_bytes": 0,
        "schema": 3,
        "sessions": 3,
        "subscriptions": 3,
        "waiting": 8 + 8 + 1 + 1,
        "in_flight": 2 + 1,
        "held": 2,
        "messages": 12,
        "left_over": 0,
        "retained": 3,
        "wills": 2,
    }


def test_show_tells_the_same_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    make_store(*rich_state())
    out = store(capsys, "show")
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert ["sessions", "3"] in lines
    assert ["messages", "in", "flight", "3"] in lines
    assert ["wills", "2"] in lines


def test_show_reads_the_log_of_a_broker_that_was_killed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    crash_copy("store")
    found = json.loads(store(capsys, "show", "--json"))
    assert found["log_bytes"] > 0
    assert found["sessions"] == 3


# Sessions


def stored_at(when: str) -> None:
    """Say of all messages of the store when they were stored, as an expression of SQL."""
    with closing(sqlite3.connect("store/iotd.db")) as database, database:
        database.execute(f"UPDATE message SET came_at = {when}")


def test_sessions_are_listed_with_their_queues(capsys: pytest.CaptureFixture[str]) -> None:
    make_store(*rich_state())
    stored_at(f"{NOW - 5 * HOUR} + number")
    found = json.loads(store(capsys, "sessions", "--json"))
    assert [each["client_id"] for each in found] == ["never", "sensor\x1b[31m", "late"]
    never, sensor, late = found
    assert all(each.pop("queue_bytes") > 0 for each in found)
    assert never == {
        "client_id": "never",
        "away_since": None,
        "expires_at": None,
        "expiry_s": 0xFFFF_FFFF,
        "subscriptions": 0,
        "waiting": 9,
        "oldest_from": NOW - 5 * HOUR + 1_002,
        "in_flight": 2,
        "held": 0,
    }
    assert (sensor["away_since"], sensor["expires_at"]) == (
        NOW - 2 * HOUR,
        NOW + 30 * DAY - 2 * HOUR,
    )
    assert (sensor["subscriptions"], sensor["waiting"], sensor["held"]) == (3, 8, 2)
    assert (late["waiting"], late["in_flight"]) == (1, 1)
    assert late["oldest_from"] == NOW - 5 * HOUR + 2_001


def test_sessions_are_a_table_without_commands_to_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_store(*rich_state())
    stored_at(f"CASE WHEN number > 2000 THEN {NOW - 5 * HOUR} END")  # older ones are from before
    out = store(capsys, "sessions")
    assert "\x1b" not in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "never" in rows["never"]
    assert rows["late"].split()[:5] == ["late", "connected", "1m", "0", "1"]
    assert rows["late"].split()[-2].startswith("5h")  # since its oldest came
    assert rows[ESCAPED].split()[1].startswith("2h")
    assert rows[ESCAPED].split()[2] == "29d21h"
    assert "unknown" in rows[ESCAPED]


def test_a_long_list_of_sessions_says_that_it_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    make_store(*[SaveSession(n, f"client-{n}") for n in range(1, 131)])
    out = store(capsys, "sessions")
    assert out.count("client-") == 100
    assert "100 of 130 sessions; --limit 0 lists all" in out
    assert store(capsys, "sessions", "--limit", "0").count("client-") == 130
    assert store(capsys, "sessions", "--limit", "7").count("client-") == 7
    assert len(json.loads(store(capsys, "sessions", "--json"))) == 130
    assert len(json.loads(store(capsys, "sessions", "--json", "--limit", "7"))) == 7


def test_no_sessions_are_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    make_store()
    assert json.loads(store(capsys, "sessions", "--json")) == []


# Verify


def test_a_whole_store_is_found_whole(capsys: pytest.CaptureFixture[str]) -> None:
    make_store(*rich_state())
    assert store(capsys, "verify").startswith("ok: ")


def test_each_damaged_record_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    make_store(*rich_state())
    database = sqlite3.connect("store/iotd.db")
    flip = "UPDATE {} SET record = CAST(x'00000000' || substr(record, 5) AS BLOB)"
    database.execute(flip.format("message") + " WHERE number = 1003")
    database.execute(flip.format("retained") + " WHERE topic = CAST('r/1' AS BLOB)")
    database.execute(flip.format("will") + " WHERE client_id = 'nobody'")
    database.execute("UPDATE queue SET particulars = x'c1' WHERE id >> 20 = 2000")
    database.execute("UPDATE subscription SET filter = CAST('a/#/b' AS BLOB) WHERE qos = 1")
    database.execute("DELETE FROM message WHERE number = 1004")
    database.execute("INSERT INTO held VALUES (99 << 16 | 1)")
    database.execute("INSERT INTO session VALUES (901, 'late', NULL, 0)")
    database.execute("INSERT INTO session VALUES (902, CAST(x'41ff' AS TEXT), NULL, 0)")
    database.commit()
    database.close()
    assert main(["store", "verify", *NAMED]) == 1
    captured = capsys.readouterr()
    for fault in (
        "message 1003: the checksum of a stored message is wrong",
        "retained message of r/1: the checksum of a stored message is wrong",
        "will of nobody: the checksum of a stored will is wrong",
        "message 2000, for one of its sessions: the particulars of a stored delivery are damaged",
        "the subscription of session 1 to 'a/#/b': its filter cannot be right",
        f"message 1004 for {ESCAPED}: it is missing",
        "message 1004 for never: it is missing",
        "the held identifier 1 of session 99: there is no such session",
        "session 900 of 'late': its client has another one",
        "session 902 of 'A\\xff': its client_id cannot be right",
    ):
        assert fault in captured.out.splitlines()
    assert "backup" in captured.err


def test_a_damaged_structure_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    make_store(*[PutRetained(make_message(f"r/{n}", b"x" * 100, 0, True)) for n in range(500)])
    path = Path("store/iotd.db")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)
    assert main(["store", "verify", *NAMED]) == 1
    assert capsys.readouterr().out.startswith("structure: ")
    assert path.read_bytes() == bytes(data)


def test_a_torn_log_is_no_damage_but_told(capsys: pytest.CaptureFixture[str]) -> None:
    folder = crash_copy("store")
    log = folder / "iotd.db-wal"
    whole = log.read_bytes()
    assert "note" not in store(capsys, "verify")
    # Behind the frames of this log, which bear its salt, there may be older ones.
    frame_bytes = 24 + int.from_bytes(whole[8:12], "big")
    frames = range(32, len(whole), frame_bytes)
    count = sum(whole[at + 8 : at + 16] == whole[16:24] for at in frames)
    torn = whole[: 32 + count * frame_bytes - 100]
    log.write_bytes(torn)
    out = store(capsys, "verify")
    assert "bytes at the end of the log are no whole transaction" in out
    assert log.read_bytes() == torn


# Compact


def test_compacting_gives_space_back_and_keeps_everything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_store(
        *rich_state(),
        SaveSession(6, "full"),
        *[Append(n, make_message("t", b"x" * 1_000), [Target(6, 1)]) for n in range(3_000, 4_000)],
    )
    make_store(*[Settle(6, n) for n in range(3_000, 4_000)])
    before = json.loads(store(capsys, "show", "--json"))
    assert before["free_bytes"] > 1_000_000
    out = store(capsys, "compact")
    after = json.loads(store(capsys, "show", "--json"))
    assert out == f"before {size(before['file_bytes'])}, after {size(after['file_bytes'])}\n"
    assert after["free_bytes"] == 0
    assert after["file_bytes"] < 100_000
    assert [path.name for path in folder.iterdir()] == ["iotd.db"]
    sizes = ("file_bytes", "free_bytes")
    assert {**before, **dict.fromkeys(sizes)} == {**after, **dict.fromkeys(sizes)}
    assert store(capsys, "verify").startswith("ok")
    database = sqlite3.connect("store/iotd.db")
    assert database.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # the engine gives back too
    database.close()


def test_compacting_after_a_kill_takes_the_log_in(capsys: pytest.CaptureFixture[str]) -> None:
    folder = crash_copy("store")
    store(capsys, "compact")
    assert [path.name for path in folder.iterdir()] == ["iotd.db"]
    assert json.loads(store(capsys, "show", "--json"))["sessions"] == 3


# What people read


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (5 << 40, "5,120.0 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0.4, "0s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (3601, "1h"),
     (90_000, "1d1h"), (1e8, "1157d9h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
