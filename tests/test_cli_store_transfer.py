"""`iotd store export`, `import` and `remove`: what goes out, what comes in, what is gone."""

from __future__ import annotations

import base64
import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.storage.offline import export, import_into, open_to_look
from iotd.cli import main
from mqtt_core import Message, Will, make_message
from mqtt_core._codes import PUBLISH
from mqtt_core._properties import SUBSCRIPTION_IDENTIFIER, TOPIC_ALIAS, WILL
from mqtt_core.broker import (
    Append,
    HoldIdentifier,
    InFlight,
    Operation,
    Options,
    Particulars,
    PutRetained,
    Queued,
    SaveExpiry,
    SaveReceived,
    SaveSent,
    SaveSession,
    SaveSubscription,
    SaveWill,
    Target,
)
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
from tests.strategies import (
    any_topic_names,
    packet_ids,
    payloads,
    property_sets,
    qos,
    text,
    topic_filters,
)

ROOT = Path(__file__).resolve().parents[1]
FLIP = "UPDATE {} SET record = CAST(x'00000000' || substr(record, 5) AS BLOB)"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("IOTD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def store(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints that does its work."""
    code = main(["store", *arguments])
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


def exported(folder: Path) -> bytes:
    with open_to_look(folder) as connection:
        return b"".join(export(connection))


def imported(lines: bytes, folder: Path) -> int:
    return import_into(folder, io.BytesIO(lines), lambda line: None)


def content(folder: Path) -> object:
    """All that an engine finds in a store, without its numbers."""
    driver = open_driver(str(folder))
    try:
        return (
            [
                (
                    record.client_id,
                    record.expires_at,
                    record.interval_s,
                    record.subscriptions,
                    record.retained_due or set(),
                    record.held,
                    [_flight(each) for each in record.in_flight],
                    [entry[1:] for entry in record.queued],
                    [_queued(entry) for entry in driver.queue(record.session).entries],
                )
                for record in driver.sessions()
            ],
            driver.retained(b"#"),
            driver.retained(b"$own/#"),
            [(stored.client_id, stored.due, stored.will) for stored in driver.wills()],
        )
    finally:
        driver.engine.close()


def _flight(sent: InFlight) -> object:
    message = None if sent.message is None else _parts(sent.message)
    return (sent.packet_id, sent.qos, sent.is_received, sent.particulars, message)


def _queued(entry: Queued) -> object:
    return (entry.qos, entry.particulars, _parts(entry.message))


def _parts(message: Message) -> object:
    return (message, message.properties, message.expires_at)


# There and back


def test_a_round_trip_gives_an_equal_store(capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_store(*rich_state())
    assert "lines written to all.jsonl" in store(
        capsys, "export", "--data-dir", "store", "--output", "all.jsonl"
    )
    assert "lines imported into copy" in store(capsys, "import", "all.jsonl", "--data-dir", "copy")
    copy = Path("copy")
    assert exported(copy) == exported(folder) == Path("all.jsonl").read_bytes()
    assert content(copy) == content(folder)
    assert store(capsys, "verify", "--data-dir", "copy").startswith("ok")
    if os.name == "posix":  # what clients have published is nobody's business
        assert stat.S_IMODE(Path("all.jsonl").stat().st_mode) == 0o600


def test_the_copy_of_a_killed_broker_has_all_of_it() -> None:
    folder = crash_copy()
    imported(exported(folder), Path("copy"))
    assert content(Path("copy")) == content(folder)


def test_a_store_goes_through_a_pipe(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    folder = make_store(*rich_state())
    assert main(["store", "export", "--data-dir", "store"]) == 0
    lines = capfdbinary.readouterr().out
    assert lines == exported(folder)
    program = [sys.executable, "-m", "iotd", "store", "import", "-", "--data-dir", "copy"]
    subprocess.run(program, input=lines, check=True, stdout=subprocess.DEVNULL)
    assert exported(Path("copy")) == lines


def test_every_line_is_an_object_of_a_type() -> None:
    objects = [json.loads(line) for line in exported(make_store(*rich_state())).splitlines()]
    assert objects[0] == {"type": "iotd-store", "form": 1}
    assert objects[-1] == {"type": "end", "lines": len(objects)}
    assert [each["type"] for each in objects if each["type"] not in ("message", "queued")] == [
        "iotd-store", "session", "session", "session", "subscription", "subscription",
        "subscription", "held", "held", "in_flight", "in_flight", "in_flight", "retained",
        "retained", "retained", "will", "will", "end",
    ]  # fmt: skip
    messages = [each for each in objects if each["type"] == "message"]
    assert [each["number"] for each in messages] == [*range(1, 13)]
    request = messages[10]
    assert base64.b64decode(request["payload"]) == bytes(range(256))
    assert request["properties"][3] == [9, {"base64": "AP8="}]
    assert request["properties"][4] == [38, ["k", "v"]]
    assert messages[11]["expires_at"] == NOW + DAY - 5 * HOUR


def test_numbers_begin_again_at_the_bottom() -> None:
    imported(exported(make_store(*rich_state())), Path("copy"))
    driver = open_driver("copy")
    assert driver.engine.last_number == 3 + 12
    driver.engine.close()


@pytest.mark.source
def test_the_lines_that_are_described_can_be_imported(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "store-export.md").read_text(encoding="utf-8")
    lines = page.split("```")[1].lstrip()
    Path("page.jsonl").write_text(lines, encoding="utf-8")
    store(capsys, "import", "page.jsonl", "--data-dir", "copy")
    assert exported(Path("copy")).decode() == lines


@st.composite
def messages(draw: st.DrawFn) -> Message:
    message = make_message(
        draw(any_topic_names),
        draw(payloads),
        draw(qos),
        draw(st.booleans()),
        draw(property_sets(PUBLISH, (TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER))),
    )
    if message.expiry_s >= 0:
        message.expires_at = draw(st.floats(1, 1e11))
    return message


options = st.none() | st.builds(Options, st.booleans(), st.booleans(), st.integers(0, 268_435_455))
particulars = st.none() | st.builds(
    Particulars,
    st.booleans(),
    st.lists(st.integers(1, 268_435_455), max_size=3).map(tuple),
    st.sampled_from([b"", b"$share/g/a", "$share/\u00e4/#".encode()]),
)
wills = st.builds(Will, any_topic_names, payloads, qos, st.booleans(), property_sets(WILL))
client_ids = text.filter(bool)
times = st.floats(0, 1e11)


@st.composite
def states(draw: st.DrawFn) -> list[Operation]:
    """A state that a broker may leave."""
    operations: list[Operation] = []
    clients = draw(st.lists(client_ids, max_size=4, unique=True))
    sessions = range(1, len(clients) + 1)
    for session, client_id in zip(sessions, clients, strict=True):
        interval = draw(st.integers(0, 0xFFFF_FFFF))
        operations += [
            SaveSession(session, client_id),
            SaveExpiry(session, draw(st.none() | times), interval),
        ]
        for topic_filter in draw(st.lists(topic_filters, max_size=3)):
            operations.append(
                SaveSubscription(session, topic_filter.encode(), draw(qos), draw(options))
            )
        operations += [HoldIdentifier(session, each) for each in draw(st.sets(packet_ids))]
    number = len(clients)
    sent: list[Operation] = []
    for message in draw(st.lists(messages(), max_size=8 if clients else 0)):
        number += draw(st.integers(1, 1_000))
        receivers = draw(st.lists(st.sampled_from(sessions), unique=True, min_size=1))
        targets = [Target(each, draw(qos), 0, draw(particulars)) for each in receivers]
        operations.append(Append(number, message, targets))
        for target in targets:
            if target.qos and draw(st.booleans()):
                sent.append(SaveSent(target.session, number, len(sent) + 1))
                if target.qos == 2 and draw(st.booleans()):
                    sent.append(SaveReceived(target.session, number))
    operations += sent
    operations += [PutRetained(each) for each in draw(st.lists(messages(), max_size=3))]
    for client_id in draw(st.lists(client_ids, max_size=3, unique=True)):
        operations.append(SaveWill(client_id, draw(wills), draw(st.just(0.0) | times)))
    return operations


@given(state=states())
def test_any_store_comes_back_equal(state: list[Operation]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = make_store(*state, folder=f"{name}/store")
        lines = exported(folder)
        copy = Path(name, "copy")
        assert imported(lines, copy) == lines.count(b"\n")
        assert exported(copy) == lines
        assert content(copy) == content(folder)


# What an export does not do


def test_an_export_writes_over_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    make_store()
    Path("all.jsonl").write_text("mine", encoding="utf-8")
    assert "is there already" in refusal(capsys, "export", "--data-dir", "store", "-o", "all.jsonl")
    assert Path("all.jsonl").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="platform: no /dev/full")
def test_a_full_disk_behind_standard_output_is_told() -> None:
    make_store(*rich_state())
    with open("/dev/full", "wb") as full:
        program = [sys.executable, "-m", "iotd", "store", "export", "--data-dir", "store"]
        result = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(b"iotd: cannot write to standard output: ")


def test_an_export_says_where_it_cannot_write(capsys: pytest.CaptureFixture[str]) -> None:
    make_store()
    assert "cannot write no/all.jsonl: No such file or directory" in refusal(
        capsys, "export", "--data-dir", "store", "-o", "no/all.jsonl"
    )


def damage() -> Path:
    """One record of each kind is not what was stored."""
    folder = make_store(*rich_state())
    database = sqlite3.connect("store/iotd.db")
    database.execute(FLIP.format("message") + " WHERE number = 1003")
    database.execute("DELETE FROM message WHERE number = 1004")
    database.execute(FLIP.format("retained") + " WHERE topic = CAST('r/1' AS BLOB)")
    database.execute(FLIP.format("will") + " WHERE client_id = 'nobody'")
    database.execute("UPDATE queue SET particulars = x'c1' WHERE id >> 20 = 2000 AND session = 900")
    database.execute("UPDATE session SET client_id = CAST(x'41ff' AS TEXT) WHERE id = 1")
    database.execute("UPDATE subscription SET session = 5, filter = x'ff' WHERE qos = 1")
    database.commit()
    database.close()
    return folder


def test_an_export_of_a_damaged_store_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    damage()
    line = refusal(capsys, "export", "--data-dir", "store", "-o", "all.jsonl")
    assert "cannot be read" in line
    assert "--skip-damaged" in line
    assert not list(Path().glob("all*"))


def test_what_is_not_damaged_comes_through(capsys: pytest.CaptureFixture[str]) -> None:
    damage()
    arguments = ["store", "export", "--data-dir", "store", "-o", "all.jsonl", "--skip-damaged"]
    assert main(arguments) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in told] == [
        "left out: session A\\udcff",
        "left out: a subscription of session 5",
        "left out: message 1003",
        "left out: message 1004",
        "left out: message 2000 for session 900",
        "left out: the retained message of r/1",
        "left out: the will of nobody",
        "7 damaged parts of the store were left out",
    ]
    store(capsys, "import", "all.jsonl", "--data-dir", "copy")
    found = json.loads(store(capsys, "show", "--data-dir", "copy", "--json"))
    assert (found["sessions"], found["subscriptions"], found["held"]) == (2, 0, 0)
    assert (found["waiting"], found["in_flight"]) == (9 - 2 + 1, 2)
    assert (found["retained"], found["wills"]) == (2, 1)
    assert store(capsys, "verify", "--data-dir", "copy").startswith("ok")


# What an import refuses

Edit = Callable[[list[dict[str, object]]], object]


def first(lines: list[dict[str, object]], kind: str) -> dict[str, object]:
    return next(line for line in lines if line["type"] == kind)


REFUSED: list[tuple[str, Edit]] = [
    ("it is not an export", lambda lines: lines.pop(0)),
    ("form 2", lambda lines: lines[0].update(form=2)),
    ("last line is missing", lambda lines: lines.pop()),
    ("some are missing", lambda lines: lines.pop(-2)),
    ("behind the last line", lambda lines: lines.append(lines[1])),
    ("only the first line", lambda lines: lines.insert(1, lines[0])),
    ("Invalid value", lambda lines: lines[1].update(type="session!")),
    ("unknown field", lambda lines: lines[1].update(more=1)),
    ("missing required field", lambda lines: lines[1].pop("expiry_s")),
    ("found session 7, and the next is 1", lambda lines: lines[1].update(number=7)),
    ("1 to 65,535 bytes", lambda lines: lines[1].update(client_id="")),
    ("1 to 65,535 bytes", lambda lines: lines[1].update(client_id="a\0")),
    ("two sessions have", lambda lines: lines[1].update(client_id="never")),
    ("sessions come before", lambda lines: lines.insert(-1, {**lines[1], "number": 4})),
    ("session 9 is not known", lambda lines: first(lines, "held").update(session=9)),
    ("`int` <= 65535", lambda lines: first(lines, "held").update(packet_id=65_536)),
    ("repeats another", lambda lines: lines.insert(8, first(lines, "held"))),
    ("must be a whole level", lambda lines: first(lines, "subscription").update(filter="#/a")),
    ("found message 2, and the next is 1", lambda lines: first(lines, "message").update(number=2)),
    ("has a wildcard", lambda lines: first(lines, "message").update(topic="a/+")),
    ("topic alias", lambda lines: first(lines, "message").update(properties=[[0x23, 1]])),
    ("expires_at needs", lambda lines: first(lines, "message").update(expires_at=1.5)),
    ("base64", lambda lines: first(lines, "message").update(payload="?")),
    ("found message 5, and the last is 2", lambda lines: first(lines, "queued").update(message=5)),
    ("same message twice", lambda lines: first(lines, "queued").update(session=2)),
    ("same packet identifier", lambda lines: first(lines, "in_flight").update(
        session=2, packet_id=12)),
    ("topic name is empty", lambda lines: first(lines, "will").update(topic="")),
    ("nothing is imported", lambda lines: first(lines, "will").update(properties=[[0x23, 1]])),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "edit"), REFUSED, ids=lambda each: str(each)[:20])
def test_an_import_of_what_no_broker_leaves_is_refused(
    capsys: pytest.CaptureFixture[str], reason: str, edit: Edit
) -> None:
    text = exported(make_store(*rich_state())).decode()
    lines: list[dict[str, object]] = [json.loads(line) for line in text.splitlines()]
    edit(lines)
    if lines[-1]["type"] == "end" and "missing" not in reason:
        lines[-1]["lines"] = len(lines)
    Path("edited.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = refusal(capsys, "import", "edited.jsonl", "--data-dir", "copy")
    assert reason in line
    assert "nothing is imported" in line
    if Path("copy").exists():
        assert json.loads(store(capsys, "show", "--data-dir", "copy", "--json"))["sessions"] == 0
        store(capsys, "verify", "--data-dir", "copy")


@pytest.mark.parametrize("tail", [b"", b"{", b"\xff\n", b"[]\n", b"null\n"])
def test_an_import_of_something_else_is_refused(
    capsys: pytest.CaptureFixture[str], tail: bytes
) -> None:
    Path("other").write_bytes(tail)
    assert "line 1 of the import" in refusal(capsys, "import", "other", "--data-dir", "copy")
    assert not Path("copy").exists()


def test_an_import_needs_an_empty_store(capsys: pytest.CaptureFixture[str]) -> None:
    Path("all.jsonl").write_bytes(exported(make_store(*rich_state())))
    folder = make_store(PutRetained(make_message("t", b"x", 0, True)), folder="full")
    before = files(folder)
    line = refusal(capsys, "import", "all.jsonl", "--data-dir", "full")
    assert "something in this store already" in line
    assert files(folder) == before
    make_store(folder="empty")
    store(capsys, "import", "all.jsonl", "--data-dir", "empty")
    assert exported(Path("empty")) == Path("all.jsonl").read_bytes()


def test_an_import_into_a_store_in_use_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("all.jsonl").write_bytes(exported(make_store(*rich_state(), folder="other")))
    driver = open_driver()
    line = refusal(capsys, "import", "all.jsonl", "--data-dir", "store")
    assert "another process uses this store" in line
    driver.engine.close()


def test_an_import_never_sets_a_damaged_store_aside(capsys: pytest.CaptureFixture[str]) -> None:
    Path("all.jsonl").write_bytes(exported(make_store(*rich_state())))
    Path("copy").mkdir()
    Path("copy/iotd.db").write_bytes(b"no database" * 1_000)
    before = files(Path("copy"))
    assert "damaged" in refusal(capsys, "import", "all.jsonl", "--data-dir", "copy")
    assert files(Path("copy")) == before


@pytest.mark.parametrize("source", ["missing", "."])
def test_an_import_without_a_file_says_so(capsys: pytest.CaptureFixture[str], source: str) -> None:
    line = refusal(capsys, "import", source, "--data-dir", "copy")
    assert f"cannot read {source}" in line
    assert not Path("copy").exists()


# Remove


def counts(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    found = json.loads(store(capsys, "show", "--data-dir", "store", "--json"))
    names = ("sessions", "subscriptions", "waiting", "in_flight", "held", "messages", "retained")
    return {name: found[name] for name in (*names, "wills")}


def test_a_client_is_removed_with_all_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_store(*rich_state())
    arguments = ["remove", "--data-dir", "store", "--client", "never"]
    before = files(folder)
    what = "client never: 1 session, 9 messages waiting, 2 in flight, 1 will\n"
    assert store(capsys, *arguments, "--dry-run") == "would remove " + what
    assert files(folder) == before
    assert store(capsys, *arguments) == "removed " + what
    assert counts(capsys) == {
        "sessions": 2, "subscriptions": 3, "waiting": 9, "in_flight": 1, "held": 2,
        "messages": 10, "retained": 3, "wills": 1,
    }  # fmt: skip
    assert store(capsys, "verify", "--data-dir", "store").startswith("ok")
    assert main(["store", *arguments]) == 1
    assert "nothing is stored of client never" in capsys.readouterr().err
    driver = open_driver()
    assert [record.client_id for record in driver.sessions()] == ["sensor\x1b[31m", "late"]
    driver.engine.close()


def test_a_client_is_named_as_it_is_but_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    make_store(*rich_state())
    out = store(capsys, "remove", "--data-dir", "store", "--client", "sensor\x1b[31m")
    assert out == (
        "removed client sensor\\u001b[31m: 1 session, 3 subscriptions, 8 messages waiting, "
        "2 waiting for PUBREL\n"
    )
    assert counts(capsys)["held"] == 0


def test_a_session_with_a_damaged_name_can_be_removed(capsys: pytest.CaptureFixture[str]) -> None:
    damage()
    out = store(capsys, "remove", "--data-dir", "store", "--client", "A\udcff")
    assert out.startswith("removed client A\\udcff: 1 session")


@pytest.mark.parametrize(
    ("topic_filter", "topics"),
    [
        ("#", ["r/1", "r/1/2"]),
        ("r/+", ["r/1"]),
        ("r/1/#", ["r/1", "r/1/2"]),
        ("$own/#", ["$own/r"]),
        ("+/r", []),
        ("r/1", ["r/1"]),
    ],
)
def test_retained_messages_are_removed_by_filter(
    capsys: pytest.CaptureFixture[str], topic_filter: str, topics: list[str]
) -> None:
    folder = make_store(*rich_state())
    code = 0 if topics else 1
    arguments = ["store", "remove", "--data-dir", "store", "--retained", topic_filter]
    before = files(folder)
    assert main([*arguments, "--dry-run"]) == code
    out = capsys.readouterr().out
    assert out.splitlines() == [f"would remove retained message {topic}" for topic in topics]
    assert files(folder) == before
    assert main(arguments) == code
    out = capsys.readouterr().out
    assert out.splitlines() == [f"removed retained message {topic}" for topic in topics]
    driver = open_driver()
    left = {**driver.retained(b"#"), **driver.retained(b"$own/#")}
    assert set(left) == {"r/1", "r/1/2", "$own/r"} - set(topics)
    driver.engine.close()


@pytest.mark.parametrize("arguments", [[], ["--retained", "a/#/b"], ["--retained", ""]])
def test_what_cannot_be_meant_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    make_store(*rich_state())
    assert main(["store", "remove", "--data-dir", "store", *arguments]) == 2
    assert "Invalid value" in capsys.readouterr().err
