"""What is said about a configuration that is wrong: everything, at once, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotd.config import ConfigError, load

HASH = "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHQ$" + "A" * 43


def errors(
    text: str, environment: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> list[str]:
    """The problems of a file with this text, as lines, without the folder it is in."""
    file = Path("iotd.toml")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file, environment=environment or {}, flags=flags)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return str(caught.value).splitlines()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[server]\nmax_connections = 0",
            "iotd.toml:2: server.max_connections: found 0; "
            "allowed: a whole number from 1 to 10,000,000",
        ),
        (
            '[server]\nmax_connections = "many"',
            'iotd.toml:2: server.max_connections: found "many"; '
            "allowed: a whole number from 1 to 10,000,000",
        ),
        (
            "[server]\nmax_connections = true",
            "iotd.toml:2: server.max_connections: found true; "
            "allowed: a whole number from 1 to 10,000,000",
        ),
        (
            "[server]\nmax_connections = 1.5",
            "iotd.toml:2: server.max_connections: found 1.5; "
            "allowed: a whole number from 1 to 10,000,000",
        ),
        (
            "[server]\nconnect_timeout_secs = nan",
            "iotd.toml:2: server.connect_timeout_secs: found NaN; "
            "allowed: a number from 0.1 to 3,600",
        ),
        (
            '[session]\nqueue_full_policy = "drop"',
            'iotd.toml:2: session.queue_full_policy: found "drop"; allowed: one of '
            '"drop-newest", "drop-oldest", "disconnect", "refuse"',
        ),
        (
            '[session]\nallow_empty_client_id = "yes"',
            'iotd.toml:2: session.allow_empty_client_id: found "yes"; allowed: true or false',
        ),
        (
            "[log]\nlevel = 3",
            'iotd.toml:2: log.level: found 3; allowed: one of "debug", "info", "warning", "error"',
        ),
        (
            "[storage]\ndata_dir = 1",
            "iotd.toml:2: storage.data_dir: found 1; allowed: the path of a folder",
        ),
        (
            "[mqtt5]\nmaximum_qos = 3",
            "iotd.toml:2: mqtt5.maximum_qos: found 3; allowed: a whole number from 0 to 2",
        ),
        (
            '[mqtt5]\nresponse_information = "a\\u0000"',
            'iotd.toml:2: mqtt5.response_information: found "a\\u0000"; allowed: a text of at most '
            "1,024 bytes, without a null character",
        ),
        (
            '[mqtt5]\nserver_redirect = "always"',
            "iotd.toml:2: mqtt5.server_redirect: needs mqtt5.server_reference, which says where "
            "clients are sent",
        ),
        ("[mqtt]\na = 1", "iotd.toml:1: mqtt: unknown section; did you mean [mqtt5]?"),
        (
            "[auth]\nallow_anonymous = 1",
            "iotd.toml:2: auth.allow_anonymous: found 1; allowed: true or false",
        ),
        (
            "[server]\nmax_conections = 5",
            'iotd.toml:2: server.max_conections: unknown key; did you mean "max_connections"?',
        ),
        (
            "[server]\nretained_message_limit = 5",
            "iotd.toml:2: server.retained_message_limit: unknown key; "
            "retained_message_limit belongs under [router]",
        ),
        (
            "[log]\nretained_mesage_limit = 5",
            "iotd.toml:2: log.retained_mesage_limit: unknown key; "
            'did you mean "router.retained_message_limit"?',
        ),
        (
            "[log]\nzzzzzz = 5",
            "iotd.toml:2: log.zzzzzz: unknown key; [log] has format, level",
        ),
        ("[sever]\na = 1", "iotd.toml:1: sever: unknown section; did you mean [server]?"),
        (
            "max_connections = 1",
            "iotd.toml:1: max_connections: unknown section or key; "
            "max_connections belongs under [server]",
        ),
        (
            "[zzzzzz]",
            "iotd.toml:1: zzzzzz: unknown section; there are "
            "[server], [session], [router], [mqtt5], [auth], [storage], [log]",
        ),
        ("\nserver = 1", "iotd.toml:2: server: is a section; write [server]"),
        (
            "[server]\nmax_packet_size = 100\nmax_packet_size_bytes = 100",
            "iotd.toml:3: server.max_packet_size_bytes: is the same key as max_packet_size; "
            "keep one of them",
        ),
        ("[server\n", "iotd.toml:1:8: is not valid TOML: Expected ']' at the end of a table"),
        ("a = [", "iotd.toml: is not valid TOML: Invalid value, at the end of the file"),
    ],
)
def test_one_error_is_one_line(text: str, message: str) -> None:
    found = errors(text)
    assert len(found) == 1
    if "not valid TOML" in message:  # the words after the place are the parser's
        assert found[0].startswith(message[: message.index("TOML") + 4])
    else:
        assert found == [message]


@pytest.mark.parametrize(
    ("addresses", "fragment"),
    [
        ('"tcp://127.0.0.1:1883"', 'found "tcp://127.0.0.1:1883"; allowed: a list of addresses'),
        ("[]", "found []; allowed: a list of addresses"),
        ("[1883]", "found [1883]; allowed: a list of addresses"),
        ('["127.0.0.1:1883"]', "write it with its scheme, such as tcp://127.0.0.1:1883"),
        ('["tcp://127.0.0.1:99999"]', '"tcp://127.0.0.1:99999": '),
        ('["tls://127.0.0.1:8883"]', "tls:// is not available"),
        ('["tcp://:1883"]', "it names no host"),
    ],
)
def test_an_address_that_is_none_says_how_to_write_it(addresses: str, fragment: str) -> None:
    (message,) = errors(f"[server]\nlisten_addresses = {addresses}")
    assert message.startswith("iotd.toml:2: server.listen_addresses: found ")
    assert fragment in message


def test_every_bad_address_of_a_list_is_told() -> None:
    (message,) = errors('[server]\nlisten_addresses = ["127.0.0.1", "udp://127.0.0.1"]')
    assert "such as tcp://127.0.0.1" in message
    assert "udp:// is not available" in message


def test_every_error_is_told_at_once_in_reading_order() -> None:
    found = errors(
        "[server]\nmax_connections = 0\nmax_conections = 1\n[lgo]\n[log]\nlevel = 1\n",
        environment={"IOTD_LOG_FORMAT": "xml", "IOTD_AUTH_USERS": "[{"},
        flags={"server.runtime": "twisted"},
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["iotd.toml:2", "server.max_connections"],
        ["iotd.toml:3", "server.max_conections"],
        ["iotd.toml:4", "lgo"],
        ["iotd.toml:6", "log.level"],
        ["environment IOTD_AUTH_USERS", "auth.users"],
        ["environment IOTD_LOG_FORMAT", "log.format"],
        ["flag --runtime", "server.runtime"],
    ]


def test_a_value_that_another_layer_overrides_is_checked_too() -> None:
    (message,) = errors("[log]\nlevel = 1\n", flags={"log.level": "info"})
    assert message.startswith("iotd.toml:2: ")


def test_variables_for_one_key_under_two_names_contradict() -> None:
    (message,) = errors(
        "",
        {"IOTD_SERVER_MAX_PACKET_SIZE": "100", "IOTD_SERVER_MAX_PACKET_SIZE_BYTES": "100"},
    )
    assert "is the same key as IOTD_SERVER_MAX_PACKET_SIZE;" in message


def test_a_variable_that_is_no_text_is_told() -> None:
    assert errors("", {"IOTD_LOG_LEVEL": "\udcff"}) == [
        "environment IOTD_LOG_LEVEL: log.level: is not UTF-8 text"
    ]


def test_a_file_that_is_no_text_is_told() -> None:
    Path("iotd.toml").write_bytes(b"[log]\nlevel = \xff\n")
    with pytest.raises(ConfigError, match=r"^iotd.toml:2: is not UTF-8 text, as TOML must be$"):
        load("iotd.toml", environment={})


def test_what_is_shown_of_a_value_is_short_and_prints() -> None:
    (message,) = errors('[log]\nlevel = "a\\u001b[31m' + "x" * 1000 + '"')
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'users = "alice"',
            "auth.users: found text; allowed: a list of tables, each with name and "
            "password_hash ([[auth.users]] for each)",
        ),
        ("users = [1]", "auth.users[0]: found a number; allowed: a table"),
        ("users = [1979-05-27]", "auth.users[0]: found something else; allowed: a table"),
        ("users = [{}]", "auth.users[0].name: is missing"),
        (
            'users = [{ name = "a" }]',
            "auth.users[0]: needs password_hash (make one with: iotd hash-password)",
        ),
        (
            'users = [{ name = "a", password_hash = "no hash" }]',
            "auth.users[0]: password_hash is not a hash made by iotd hash-password",
        ),
        (
            'users = [{ name = "a", password_hash = "SCRAM-SHA-256$4096:s3cret" }]',
            "auth.users[0]: password_hash is not a hash made by iotd hash-password",
        ),
        (
            'scram_secret = "s3cret"',
            "auth.scram_secret: found text; allowed: text of 16 characters or more, or empty",
        ),
        (
            "scram_secret = 1234567890123456",
            "auth.scram_secret: found a number; allowed: text of 16 characters or more, or empty",
        ),
        (
            f'users = [{{ name = "a", password_hash = "{HASH}", password = "b" }}]',
            "auth.users[0]: has both password and password_hash; keep the hash",
        ),
        (
            f'users = [{{ name = "", password_hash = "{HASH}" }}]',
            'auth.users[0].name: found ""; allowed: text, not empty',
        ),
        (
            'users = [{ name = "a", pasword = "s3cret" }]',
            'auth.users[0].pasword: unknown key; did you mean "password"?',
        ),
        (
            'users = [{ name = "a", password = 12345 }]',
            "auth.users[0].password: found a number; allowed: text",
        ),
        (
            f'users = [{{ name = "a", password_hash = "{HASH}" }}, '
            f'{{ name = "a", password_hash = "{HASH}" }}]',
            'auth.users[1].name: user "a" is there twice',
        ),
        ("rules = [{}]", "auth.rules[0].topic: is missing"),
        (
            'rules = [{ topic = "a", action = "read" }]',
            'auth.rules[0].action: found "read"; allowed: one of "publish", "subscribe", "all"',
        ),
        (
            'rules = [{ topic = "a", allow = "no" }]',
            'auth.rules[0].allow: found "no"; allowed: true or false',
        ),
        (
            'rules = [{ topic = "a/#/b" }]',
            'auth.rules[0]: topic "a/#/b" is not a topic filter: '
            "'#' must be a whole level, and the last",
        ),
        (
            'rules = [{ topic = "a", user = "bob" }]',
            'auth.rules[0].user: there is no user "bob"',
        ),
        (
            "allow_anonymous = false",
            "auth.allow_anonymous: is false and there are no [[auth.users]], so nobody could "
            "connect; add users",
        ),
    ],
)
def test_users_and_rules_are_checked_field_by_field(text: str, message: str) -> None:
    found = errors(f"[auth]\n{text}\n")
    assert found == [f"iotd.toml:2: {message}"]
    assert "s3cret" not in found[0]


def test_a_fault_in_one_user_has_the_line_it_is_on() -> None:
    found = errors(
        '[[auth.users]]\nname = "a"\npassword = 1\n\n[[auth.users]]\nnam = "b"\npassword = "b"\n'
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["iotd.toml:3", "auth.users[0].password"],
        ["iotd.toml:5", "auth.users[1].name"],
        ["iotd.toml:6", "auth.users[1].nam"],
    ]


def test_a_rule_for_a_user_almost_there_names_that_user() -> None:
    (message,) = errors(
        f'[auth]\nusers = [{{ name = "dashboard", password_hash = "{HASH}" }}]\n'
        'rules = [{ topic = "#", user = "dashbord" }]\n'
    )
    assert message == (
        'iotd.toml:3: auth.rules[0].user: there is no user "dashbord"; did you mean "dashboard"?'
    )


def test_bad_users_are_one_error_and_not_also_their_consequences() -> None:
    found = errors(
        '[server]\nlisten_addresses = ["tcp://0.0.0.0:1883"]\n[auth]\nallow_anonymous = false\n'
        'users = [{ name = "a" }]\nrules = [{ topic = "#", user = "a" }]\n'
    )
    assert found == [
        "iotd.toml:5: auth.users[0]: needs password_hash (make one with: iotd hash-password)"
    ]


@pytest.mark.parametrize(
    "url", ["tcp://0.0.0.0:1883", "tcp://[::]:1883", "tcp://192.0.2.1", "tcp://host"]
)
def test_everybody_on_a_public_address_must_be_wanted(url: str) -> None:
    (message,) = errors(f'[server]\nlisten_addresses = ["tcp://127.0.0.1", "{url}"]')
    assert message.startswith(f"iotd.toml:2: server.listen_addresses: {url}")
    assert "can be reached from other machines" in message
    assert message.endswith("allow_anonymous = true under [auth]")


@pytest.mark.parametrize(
    "url", ["tcp://127.0.0.1", "tcp://127.8.8.8", "tcp://[::1]", "tcp://localhost"]
)
def test_loopback_is_not_public(url: str) -> None:
    load(environment={}, flags={"server.listen_addresses": [url]})


def test_memory_and_a_folder_contradict() -> None:
    found = errors('[storage]\ndata_dir = "/var/lib/iotd"\nin_memory = true\n')
    assert "iotd.toml:2: storage.data_dir: contradicts storage.in_memory = true" in found[0]


@pytest.mark.parametrize(
    ("environment", "flags", "folder"),
    [
        ({}, {}, Path("iotd-data")),
        ({"IOTD_STORAGE_DATA_DIR": "a"}, {"storage.in_memory": True}, None),
        ({"IOTD_STORAGE_IN_MEMORY": "true"}, {"storage.data_dir": "b"}, Path("b")),
        ({"IOTD_STORAGE_IN_MEMORY": "true"}, {}, None),
    ],
)
def test_of_memory_and_a_folder_the_stronger_layer_decides(
    environment: dict[str, str], flags: dict[str, object], folder: Path | None
) -> None:
    settings = load(environment=environment, flags=flags)
    assert settings.data_dir == folder


def test_a_level_of_a_listener_is_one_of_those_there_are() -> None:
    (message,) = errors('[server]\nlisten_addresses = ["tcp://127.0.0.1?durability=ram"]')
    assert message.startswith("iotd.toml:2: server.listen_addresses: found ")
    assert "durability is one of fsync, os, memory, not 'ram'" in message


@pytest.mark.parametrize("level", ["fsync", "os", "memory"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_level_of_a_listener_has_no_effect_in_memory(level: str, in_memory: bool) -> None:
    url = f"tcp://127.0.0.1:1883?durability={level}"
    listen = ["tcp://127.0.0.1:1884", url]
    flags = {"server.listen_addresses": listen, "storage.in_memory": in_memory}
    settings = load(environment={"IOTD_STORAGE_DURABILITY": level}, flags=flags)
    assert settings.durability == level
    assert settings.listen_addresses == tuple(listen)
    assert len(settings.warnings) == int(in_memory)
    assert all(f"{url}: with storage.in_memory" in warning for warning in settings.warnings)
