"""What `iotd config` prints, the reference page and the example file."""

from __future__ import annotations

import json
import re
import tomllib
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotd.config import FORMATS, KEYS, Rule, Settings, User, load, reference, show
from iotd.config._memory import COSTS, PARTS, worst_case
from iotd.config._toml_write import toml_text
from mqtt_core.broker import LIMITS, Limits

HASH = "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHQ$" + "A" * 43
ENVIRONMENT = {
    "IOTD_SERVER_MAX_CONNECTIONS": "77",
    "IOTD_SERVER_LISTEN_ADDRESSES": "tcp://127.0.0.1:1,tcp://[::1]:2",
    "IOTD_AUTH_RULES": '[{"topic": "a/\\"%u\\"/#", "user": "u", "allow": false}]',
    "IOTD_AUTH_USERS": f'[{{"name": "u", "password_hash": "{HASH}"}},'
    '{"name": "v", "password": "s3cret"}]',
    "IOTD_AUTH_SCRAM_SECRET": "0123456789s3cret",
}


def shown(settings: Settings, format: str) -> str:
    stream = StringIO()
    show(settings, format, stream)
    return stream.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_every_key_is_shown_with_its_origin_and_no_secret(format: str) -> None:
    text = shown(load(environment=ENVIRONMENT), format)
    for key in KEYS.values():
        assert key.name in text
    for variable in ENVIRONMENT:
        assert f"environment {variable}" in text
    assert "77" in text
    assert "s3cret" not in text
    assert HASH not in text


@pytest.mark.parametrize("format", FORMATS)
def test_the_worst_case_of_memory_is_shown(format: str) -> None:
    text = shown(load(environment={}), format)
    for part in PARTS:
        assert part.name in text


def test_the_table_is_not_folded_where_there_is_no_terminal() -> None:
    lines = shown(load(environment=ENVIRONMENT), "table").splitlines()
    assert any(
        "server.max_connections" in line and "environment IOTD_SERVER_MAX_CONNECTIONS" in line
        for line in lines
    )


def test_many_users_do_not_fill_the_table() -> None:
    users = json.dumps([{"name": f"user-{n}", "password_hash": HASH} for n in range(1000)])
    text = shown(load(environment={"IOTD_AUTH_USERS": users}), "table")
    assert "1000" in text
    assert "user-999" not in text
    assert "user-999" in shown(load(environment={"IOTD_AUTH_USERS": users}), "json")


def test_json_has_values_origins_and_memory() -> None:
    document = json.loads(shown(load(environment=ENVIRONMENT), "json"))
    assert document["settings"]["server"]["max_connections"] == {
        "value": 77,
        "from": "environment IOTD_SERVER_MAX_CONNECTIONS",
    }
    assert document["settings"]["auth"]["users"]["value"] == [{"name": "u"}, {"name": "v"}]
    assert document["settings"]["auth"]["scram_secret"]["value"] == "(set, not shown)"
    parts = document["worst_case_memory"]["parts"]
    assert set(parts) == {part.name for part in PARTS}
    total = document["worst_case_memory"]["total_bytes"]
    assert total == sum(part["bytes"] for part in parts.values())
    assert len(document["warnings"]) == 1


def test_toml_gives_the_same_settings_again(tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"IOTD_AUTH_ALLOW_ANONYMOUS": "no"}
    settings = load(environment=environment)
    file = tmp_path / "iotd.toml"
    file.write_text(
        shown(settings, "toml")
        .replace('{ name = "u" }', f'{{ name = "u", password_hash = "{HASH}" }}')
        .replace('{ name = "v" }', '{ name = "v", password = "s3cret" }')
        .replace("# scram_secret = (set, not shown)", 'scram_secret = "0123456789s3cret"'),
        encoding="utf-8",
    )
    assert load(file, environment={}).values == settings.values


def test_toml_without_the_passwords_is_refused_not_open(tmp_path: Path) -> None:
    text = shown(load(environment=ENVIRONMENT), "toml")
    assert tomllib.loads(text)["auth"]["users"] == [{"name": "u"}, {"name": "v"}]


@given(st.text())
def test_any_text_survives_as_toml(text: str) -> None:
    assert tomllib.loads(f"a = {toml_text(text)}") == {"a": text}


def test_records_show_no_secret_in_their_representation() -> None:
    assert "s3cret" not in repr(User(name="a", password="s3cret"))
    assert HASH not in repr(User(name="a", password_hash=HASH))
    assert "a/#" in repr(Rule(topic="a/#"))


def test_the_worst_case_follows_the_limits() -> None:
    names = {limit.name for limit in LIMITS}
    few = dict(worst_case(Limits(), has_rules=True))
    for part, size in few.items():
        assert size > 0
        assert names & set(re.findall("[a-z_]+", part.formula)) or (part.formula in COSTS)
    more = worst_case(Limits(max_connections=20_000), has_rules=True)
    assert sum(size for _, size in more) > sum(few.values())


@pytest.mark.source
def test_reference_page_and_example_are_what_the_code_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert reference.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.source
def test_a_stale_page_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "docs/configuration.md is stale" in capsys.readouterr().err
    (tmp_path / "docs").mkdir()
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0


def test_the_reference_page_has_every_key_and_variable() -> None:
    page = reference.page()
    for key in KEYS.values():
        assert f"### `{key.name}`" in page
        assert f"`{key.variable}`" in page


def test_the_example_as_it_is_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "iotd.toml"
    file.write_text(reference.example(), encoding="utf-8")
    assert load(file, environment={}).values == load(environment={}).values


def test_the_example_with_every_line_taken_in_is_understood(tmp_path: Path) -> None:
    lines = [
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in reference.example().splitlines()
    ]
    text = "\n".join(lines).replace("$scrypt$...", HASH)
    file = tmp_path / "iotd.toml"
    file.write_text(text, encoding="utf-8")
    settings = load(file, environment={})
    given = [path for path, origin in settings.origins.items() if origin.layer == "file"]
    assert sorted(given) == sorted(KEYS)
