"""From file, environment and flags to settings: precedence, origins, values."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotd.config import KEYS, SECTIONS, ConfigError, Key, Problem, Rule, User, Value, load
from iotd.config._toml_write import toml_value
from mqtt_core.broker import LIMITS, Limits, LimitValue

HASH = "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHQ$" + "A" * 43


def write(folder: Path, text: str) -> Path:
    file = folder / "iotd.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_anything_the_defaults_hold() -> None:
    settings = load(environment={})
    assert settings.values == {path: key.default for path, key in KEYS.items()}
    assert {str(origin) for origin in settings.origins.values()} == {"default"}
    assert settings.warnings == ()
    assert settings.listen_addresses == ("tcp://127.0.0.1:1883",)
    defaults = Limits()
    for limit in LIMITS:
        assert getattr(settings.limits, limit.name) == getattr(defaults, limit.name)


def test_every_limit_of_the_core_is_a_key_and_nothing_is_listed_twice() -> None:
    assert {key.limit.name for key in KEYS.values() if key.limit} == {x.name for x in LIMITS}
    assert len({key.variable for key in KEYS.values()}) == len(KEYS)
    assert {key.section for key in KEYS.values()} == set(SECTIONS)


def test_keys_of_the_original_names_are_there() -> None:
    for path in (
        "server.listen_addresses",
        "server.max_connections",
        "session.keep_alive_timeout_secs",
        "session.session_timeout_secs",
        "router.retained_message_limit",
    ):
        assert path in KEYS


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '[log]\nformat = "json"\nlevel = "error"\n[server]\nruntime = "gevent"\n'
        "max_connections = 7\n",
    )
    environment = {"IOTD_LOG_LEVEL": "warning", "IOTD_SERVER_RUNTIME": "asyncio"}
    flags = {"log.level": "debug", "storage.in_memory": None}
    settings = load(file, environment=environment, flags=flags)
    assert settings.log_level == "debug"
    assert str(settings.origins["log.level"]) == "flag --log-level"
    assert settings.runtime == "asyncio"
    assert str(settings.origins["server.runtime"]) == "environment IOTD_SERVER_RUNTIME"
    assert settings.log_format == "json"
    assert str(settings.origins["log.format"]) == f"{file}:2"
    assert settings.limits.max_connections == 7
    assert str(settings.origins["storage.in_memory"]) == "default"


def test_an_alias_sets_the_key_it_stands_for(tmp_path: Path) -> None:
    settings = load(write(tmp_path, "[server]\nmax_packet_size = 4096\n"), environment={})
    assert settings.limits.max_packet_size_bytes == 4096
    settings = load(environment={"IOTD_SERVER_MAX_PACKET_SIZE": "5000"})
    assert settings.limits.max_packet_size_bytes == 5000


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("IOTD_SERVER_MAX_CONNECTIONS", "12", "server.max_connections", 12),
        ("IOTD_SERVER_MAX_CONNECTIONS", "1_000", "server.max_connections", 1000),
        ("IOTD_SERVER_CONNECT_TIMEOUT_SECS", "2.5", "server.connect_timeout_secs", 2.5),
        ("IOTD_SERVER_CONNECT_TIMEOUT_SECS", "3", "server.connect_timeout_secs", 3.0),
        ("IOTD_SESSION_QUEUE_QOS0_OFFLINE", "Yes", "session.queue_qos0_offline", True),
        ("IOTD_SESSION_ALLOW_EMPTY_CLIENT_ID", "0", "session.allow_empty_client_id", False),
        ("IOTD_SESSION_QUEUE_FULL_POLICY", "refuse", "session.queue_full_policy", "refuse"),
        (
            "IOTD_SERVER_LISTEN_ADDRESSES",
            "tcp://127.0.0.1:1, tcp://[::1]:2,",
            "server.listen_addresses",
            ("tcp://127.0.0.1:1", "tcp://[::1]:2"),
        ),
        (
            "IOTD_SERVER_LISTEN_ADDRESSES",
            '["tcp://localhost"]',
            "server.listen_addresses",
            ("tcp://localhost:1883",),
        ),
        ("IOTD_AUTH_RULES", '[{"topic": "a/#"}]', "auth.rules", (Rule(topic="a/#"),)),
        (
            "IOTD_AUTH_USERS",
            f'[{{"name": "a", "password_hash": "{HASH}"}}]',
            "auth.users",
            (User(name="a", password_hash=HASH),),
        ),
    ],
)
def test_a_variable_is_read_as_its_key_needs(
    variable: str, text: str, path: str, value: Value
) -> None:
    settings = load(environment={variable: text})
    assert settings.values[path] == value
    assert type(settings.values[path]) is type(value)
    assert str(settings.origins[path]) == f"environment {variable}"


def test_an_address_given_twice_is_one() -> None:
    settings = load(
        environment={},
        flags={"server.listen_addresses": ["tcp://127.0.0.1", "tcp://127.0.0.1:1883"]},
    )
    assert settings.listen_addresses == ("tcp://127.0.0.1:1883",)


def test_users_turn_anonymous_clients_away_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    users = f'[[auth.users]]\nname = "a"\npassword_hash = "{HASH}"\n'
    assert load(environment={}).allow_anonymous
    assert not load(write(tmp_path, users), environment={}).allow_anonymous
    both = write(tmp_path, "[auth]\nallow_anonymous = true\n" + users)
    assert load(both, environment={}).allow_anonymous


def test_a_public_address_is_fine_with_users_or_with_a_word(tmp_path: Path) -> None:
    public: dict[str, object] = {"server.listen_addresses": ["tcp://0.0.0.0:1883"]}
    users = write(tmp_path, f'[[auth.users]]\nname = "a"\npassword_hash = "{HASH}"\n')
    assert load(users, environment={}, flags=public).listen_addresses == ("tcp://0.0.0.0:1883",)
    stated = write(tmp_path, "[auth]\nallow_anonymous = true\n")
    assert load(stated, environment={}, flags=public).allow_anonymous


def test_a_variable_that_is_no_key_is_a_warning_with_the_nearest_one() -> None:
    (warning,) = load(environment={"IOTD_SERVER_MAX_CONECTIONS": "1"}).warnings
    assert "IOTD_SERVER_MAX_CONECTIONS" in warning
    assert "IOTD_SERVER_MAX_CONNECTIONS" in warning


@pytest.mark.parametrize(
    "variable",
    [
        "IOTD_CONFIG",
        "IOTD_BUILD",
        "IOTD_SERVICE_HOST",
        "IOTD_SERVICE_PORT_MQTT",
        "IOTD_PORT",
        "IOTD_PORT_1883_TCP_ADDR",
        "IOTD_SERVER_PORT_1883_TCP",
        "OTHER",
    ],
)
def test_variables_that_others_set_are_no_matter(variable: str) -> None:
    assert load(environment={variable: "tcp://10.0.0.1:1883"}).warnings == ()


def test_a_plain_password_is_a_warning_that_does_not_show_it(tmp_path: Path) -> None:
    file = write(tmp_path, '[[auth.users]]\nname = "a"\npassword = "s3cret"\n')
    settings = load(file, environment={})
    (warning,) = settings.warnings
    assert warning.startswith(f"{file}:1: ")
    assert "s3cret" not in warning
    assert "s3cret" not in repr(settings.users)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "iotd.toml"
    file.write_bytes(b'\xef\xbb\xbf[log]\r\nlevel = "debug"\r\n')
    settings = load(file, environment={})
    assert str(settings.origins["log.level"]) == f"{file}:2"


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.toml", environment={})


LIMIT_KEYS = [key for key in KEYS.values() if key.limit]


def values_of(key: Key) -> st.SearchStrategy[LimitValue]:
    """Values that the key takes."""
    limit = key.limit
    assert limit is not None
    if limit.choices:
        return st.sampled_from(limit.choices)
    if isinstance(limit.default, bool):
        return st.booleans()
    if isinstance(limit.default, str):
        return st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=256)
    if isinstance(limit.default, int):
        return st.integers(int(limit.minimum), int(limit.maximum))
    return st.floats(limit.minimum, limit.maximum)


@st.composite
def some_limits(draw: st.DrawFn) -> dict[str, LimitValue]:
    keys = draw(st.lists(st.sampled_from(LIMIT_KEYS), unique_by=lambda key: key.path))
    limits = {key.path: draw(values_of(key)) for key in keys}
    if "mqtt5.server_redirect" in limits:  # needs a server
        limits["mqtt5.server_reference"] = limits.get("mqtt5.server_reference") or "other"
    return limits


@given(some_limits())
def test_any_limits_come_through_file_and_environment(
    tmp_path_factory: pytest.TempPathFactory, limits: dict[str, LimitValue]
) -> None:
    text = "".join(f"{path} = {toml_value(value)}\n" for path, value in limits.items())
    file = tmp_path_factory.mktemp("config") / "iotd.toml"
    file.write_text(text, encoding="utf-8")
    environment = {KEYS[path].variable: str(value) for path, value in limits.items()}
    for settings in (load(file, environment={}), load(environment=environment)):
        for path, value in limits.items():
            assert settings.values[path] == value
            assert getattr(settings.limits, KEYS[path].name) == value


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def problems_of(environment: dict[str, str], flags: dict[str, object]) -> tuple[Problem, ...]:
    try:
        load(environment=environment, flags=flags)
    except ConfigError as error:
        return error.problems
    return ()


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), ANYTHING, max_size=8))
def test_any_value_gives_settings_or_problems_of_one_line(found: dict[str, object]) -> None:
    flags = {path: value for path, value in found.items() if KEYS[path].flags}
    variables = {KEYS[path].variable: str(value) for path, value in found.items()}
    for problem in (*problems_of({}, flags), *problems_of(variables, {})):
        assert str(problem).isprintable()


def test_a_key_that_holds_records_is_not_accepted_whole() -> None:
    with pytest.raises(AssertionError):
        KEYS["auth.users"].accept(cast(object, []))
