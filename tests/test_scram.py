"""SCRAM-SHA-256: credentials, the server's side, and what nobody learns from it."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import scramp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.security import (
    PasswordHash,
    PasswordThread,
    ScramCredential,
    UserTable,
    parse_hash,
)
from adapters.security._scram_server import MAX_MESSAGE_BYTES, MAX_NAME, QUICK_NAME, ScramServer
from mqtt_core.broker import AuthRequest, Decision, Rule

METHOD = "SCRAM-SHA-256"
MIN_ITERATIONS = ScramCredential.MIN_ITERATIONS  # what is tested here is not how slow it is
# From RFC 7677, section 3.
NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="
CLIENT_FIRST = b"n,,n=user,r=" + NONCE
SERVER_FIRST = b"r=" + NONCE + SERVER_NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=" + NONCE + SERVER_NONCE + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
USER = (
    "SCRAM-SHA-256$4096:"
    + SALT
    + ("$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
)


def request(
    data: bytes | None,
    *,
    state: object = None,
    username: str | None = None,
    method: str = METHOD,
    token: int = 1,
    again: bool = False,
) -> AuthRequest:
    return AuthRequest(
        token, "client", username, None, "tcp://127.0.0.1:1883", "127.0.0.1:5", 5,
        method=method, data=data, state=state, exchange=1, is_reauthentication=again,
    )  # fmt: skip


# Credentials


def test_the_example_of_the_rfc_is_checked_by_its_password() -> None:
    known = ScramCredential.parse(USER)
    assert known.matches(b"pencil")
    assert not known.matches(b"pencil2")
    assert known.format() == USER


@settings(max_examples=10, deadline=None)
@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=40))
def test_a_credential_matches_its_password_alone(password: str) -> None:
    made = ScramCredential.make(password.encode(), iterations=MIN_ITERATIONS)
    assert made.matches(password.encode())
    assert not made.matches(password.encode() + b"x")
    assert ScramCredential.parse(made.format()).matches(password.encode())


def test_passwords_that_are_typed_alike_are_the_same() -> None:
    made = ScramCredential.make("\u2168 \u00ad\u00aa".encode(), iterations=MIN_ITERATIONS)
    assert made.matches(b"IX a")  # SASLprep, RFC 4013


def test_two_credentials_of_one_password_differ() -> None:
    first, second = (ScramCredential.make(b"x", iterations=MIN_ITERATIONS) for _ in range(2))
    assert first.format() != second.format()


@pytest.mark.parametrize("password", [b"\xff", b"\x07", "\U0001f600".encode()])
def test_a_password_that_scram_does_not_take_is_refused_and_never_right(password: bytes) -> None:
    with pytest.raises(ValueError, match=r"SCRAM"):
        ScramCredential.make(password, iterations=MIN_ITERATIONS)
    assert not ScramCredential.parse(USER).matches(password)


@pytest.mark.parametrize("iterations", [4095, 1_000_001])
def test_a_cost_out_of_bounds_is_not_made(iterations: int) -> None:
    with pytest.raises(ValueError, match="iterations; allowed: 4,096 to 1,000,000"):
        ScramCredential.make(b"x", iterations=iterations)


def test_a_credential_is_not_in_its_representation() -> None:
    assert repr(ScramCredential.parse(USER)) == "ScramCredential(iterations=4096)"


@pytest.mark.parametrize(
    "text",
    [
        "SCRAM-SHA-256",
        USER + "\n",
        USER.replace("4096", "4095"),
        USER.replace("4096", "1000001"),
        USER.replace("4096", "+4096"),
        USER.replace(SALT, "AAAA"),
        USER.replace(SALT, "A" * 100),
        USER.replace(SALT, "A" * 21),
        USER.replace("WG5d", ""),
        USER[:-5],
        USER.replace("SHA-256", "SHA-1"),
    ],
)
def test_what_is_no_credential_or_costs_too_much_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"SCRAM credential|password hash"):
        parse_hash(text)


def test_either_form_of_hash_is_read() -> None:
    assert isinstance(parse_hash(USER), ScramCredential)
    hashed = PasswordHash.make(b"x", log_cost=1).format()
    assert isinstance(parse_hash(hashed), PasswordHash)


# The exchange


def accept(name: str, answer: bytes) -> Decision:
    return Decision(data=answer, username=name)


def server(
    *,
    passwords: dict[str, bytes] | None = None,
    secret: bytes = b"secret",
    nonce: str = "nonce",
) -> ScramServer:
    credentials = {"user": ScramCredential.parse(USER)}
    return ScramServer(credentials, passwords or {}, accept, secret=secret, nonce=lambda: nonce)


def go_on(scram: ScramServer, data: bytes, **more: object) -> Decision:
    asked = request(data, **more)  # type: ignore[arg-type]  # passed through
    decision = scram.step(asked) or scram.step(asked, may_be_slow=True)
    assert decision is not None
    return decision


def log_in(
    table: ScramServer, name: str, password: str, username: str | None = None
) -> tuple[Decision, list[str]]:
    """The last decision of an exchange with the library's client, and what the server said."""
    client = scramp.ScramClient([METHOD], name, password)
    decision = go_on(table, client.get_client_first().encode(), username=username)
    said: list[str] = []
    if decision.goes_on:
        assert decision.data is not None
        said.append(decision.data.decode())
        client.set_server_first(said[0])
        final = client.get_client_final().encode()
        decision = go_on(table, final, state=decision.state, username=username)
    if decision.is_accepted:
        assert decision.data is not None
        client.set_server_final(decision.data.decode())  # the server has proved itself
    return decision, said


def test_it_is_the_exchange_of_the_rfc() -> None:
    scram = server(nonce=SERVER_NONCE.decode())
    first = go_on(scram, CLIENT_FIRST)
    assert first.goes_on
    assert first.data == SERVER_FIRST
    last = go_on(scram, CLIENT_FINAL, state=first.state)
    assert last.is_accepted
    assert (last.data, last.username) == (SERVER_FINAL, "user")


def test_right_and_wrong_passwords() -> None:
    assert log_in(server(), "user", "pencil")[0].is_accepted
    decision, said = log_in(server(), "user", "pencil2")
    assert (decision.reason, decision.data, len(said)) == (0x87, None, 1)


def test_every_exchange_has_a_nonce_of_its_own() -> None:
    table = ScramServer({"user": ScramCredential.parse(USER)}, {}, accept)
    nonces = {log_in(table, "user", "pencil")[1][0].partition(",")[0][-24:] for _ in range(3)}
    assert len(nonces) == 3


def test_a_name_that_does_not_exist_is_told_from_a_wrong_password_by_nothing() -> None:
    decision, said = log_in(server(), "nobody", "pencil")
    assert (decision.reason, decision.data, decision.username) == (0x87, None, None)
    _, real = log_in(server(), "user", "wrong")
    parts, real_parts = said[0].split(","), real[0].split(",")
    assert parts[2] == real_parts[2]  # iterations
    assert len(parts[1]) == len(real_parts[1])  # salt
    assert parts[1] != real_parts[1]
    again = log_in(server(), "nobody", "pencil")[1][0].split(",")
    assert again[1] == parts[1]  # the same salt each time, as one that is stored
    assert log_in(server(), "somebody", "pencil")[1][0].split(",")[1] != parts[1]
    other = log_in(server(secret=b"other"), "nobody", "pencil")[1][0].split(",")
    assert other[1] != parts[1]


def test_made_up_challenges_cost_what_real_ones_do() -> None:
    costs = {"a": 4096, "b": 5000, "c": 6000}
    table = ScramServer(
        {name: ScramCredential.make(b"x", iterations=cost) for name, cost in costs.items()},
        {}, accept, secret=b"s",
    )  # fmt: skip
    seen = {log_in(table, f"nobody {n}", "x")[1][0].rpartition("i=")[2] for n in range(40)}
    assert seen == {"4096", "5000", "6000"}


def test_two_user_names_are_one_too_many() -> None:
    assert log_in(server(), "user", "pencil", username="user")[0].is_accepted
    decision, said = log_in(server(), "user", "pencil", username="admin")
    assert (decision.reason, said) == (0x87, [])


def test_names_may_have_what_separates_the_fields() -> None:
    table = ScramServer({}, {"a=b,c": b"x"}, accept)
    assert table.step(request(b"n,,n=a=3Db=2Cc,r=abc")) is None  # its keys are not derived yet
    first = table.step(request(b"n,,n=a=3Db=2Cc,r=abc"), may_be_slow=True)
    assert first is not None
    assert first.goes_on
    assert log_in(table, "a=b,c", "x")[0].is_accepted


def test_names_that_are_typed_alike_are_the_same() -> None:
    made = ScramCredential.make(b"x", iterations=MIN_ITERATIONS)
    table = ScramServer({"\u2168": made, "\u0007": made}, {}, accept)
    for typed in ("\u2168", "IX", "I\u00adX"):  # SASLprep
        assert log_in(table, typed, "x")[0].username == "\u2168"
    assert log_in(table, "IX", "x", username="\u2168")[0].is_accepted
    assert log_in(table, "IX", "x", username="IX")[0].reason == 0x87


@pytest.mark.parametrize(
    ("name", "is_quick"),
    [("u" * QUICK_NAME, True), ("u" * (QUICK_NAME + 1), False), ("u" * MAX_NAME, False),
     ("\u00fc", False)],
)  # fmt: skip
def test_a_name_that_takes_long_is_work_for_the_thread(name: str, is_quick: bool) -> None:
    asked = request(f"n,,n={name},r=abc".encode())
    decision = server().step(asked)
    assert (decision is not None) is is_quick
    decision = server().step(asked, may_be_slow=True)
    assert decision is not None
    assert decision.goes_on


def test_a_password_in_plain_text_serves_once_its_keys_are_derived() -> None:
    table = server(passwords={"plain": b"secret"})
    first = b"n,,n=plain,r=abc"
    assert table.step(request(first)) is None
    assert table.step(request(first), may_be_slow=True) is not None
    assert table.step(request(first)) is not None
    assert log_in(table, "plain", "secret")[0].is_accepted
    assert log_in(table, "plain", "wrong")[0].reason == 0x87


def test_a_password_in_plain_text_that_scram_does_not_take_is_never_right() -> None:
    table = server(passwords={"plain": b"\xff"})
    decision = table.step(request(b"n,,n=plain,r=abc"), may_be_slow=True)
    assert decision is not None
    assert decision.goes_on
    assert log_in(table, "plain", "")[0].reason == 0x87


@pytest.mark.parametrize(
    "message",
    [
        b"",
        None,
        b"n,,n=user",
        b"n,,n=user,r=",
        b"n,,n=user,r=a\x00b",
        b"n,a=admin,n=user,r=abc",
        b"p=tls-unique,,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,n=,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,m=x,n=user,r=abc",
        b"n,,n=user,r=\xff",
        b"n,,n=user,r=" + b"x" * MAX_MESSAGE_BYTES,
        b"n,,n=" + b"u" * (MAX_NAME + 1) + b",r=abc",
        "n,,n=\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa\ufdfa"
        "\ufdfa,r=abc".encode(),  # each stands for 18 characters
    ],
)
def test_a_first_message_that_is_none_is_refused(message: bytes | None) -> None:
    decision = server().step(request(message))
    assert decision is not None
    assert (decision.reason, decision.data) == (0x87, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda final: final[:-1],
        lambda final: final[:-4] + b"AAA=",
        lambda final: final.replace(b"c=biws", b"c=eSws"),
        lambda final: final.replace(b"r=abc", b"r=abd"),
        lambda final: final.partition(b",p=")[0],
        lambda final: b"",
        lambda final: b"\xff",
        lambda final: b"n,,n=user,r=abc",
    ],
)
def test_a_second_message_that_is_not_right_is_refused(change: Callable[[bytes], bytes]) -> None:
    table = server()
    client = scramp.ScramClient([METHOD], "user", "pencil", c_nonce="abc")
    first = go_on(table, client.get_client_first().encode())
    assert first.data is not None
    client.set_server_first(first.data.decode())
    final = client.get_client_final().encode()
    assert go_on(table, change(final), state=first.state).reason == 0x87


def test_an_exchange_is_used_once() -> None:
    table = server()
    client = scramp.ScramClient([METHOD], "user", "pencil")
    first = go_on(table, client.get_client_first().encode())
    assert first.data is not None
    client.set_server_first(first.data.decode())
    final = client.get_client_final().encode()
    assert go_on(table, final, state=first.state).is_accepted
    assert go_on(table, final, state=first.state).reason == 0x87


messages = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from(
            [b"n", b"y", b"p=tls-unique", b"", b"n=user", b"r=abc", b"a=x", b"m=", b"c=biws",
             b"p=dHg=", b"i=1", b"e=other-error", b"x=\xc2\xa0", b"n=\xd8\xa7a", b"r==3D"]
        )
    ).map(b",".join),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(messages, messages)
@example(CLIENT_FIRST, b"c=biws,r=,p=")
def test_no_message_makes_it_raise_or_accept(first: bytes, second: bytes) -> None:
    table = server()
    decision = go_on(table, first)
    if decision.goes_on:
        decision = go_on(table, second, state=decision.state)
    assert decision.reason == 0x87


# The table of users


def make_table(**more: object) -> UserTable:
    hashes = {
        "user": ScramCredential.parse(USER),
        "slow": PasswordHash.make(b"pencil", log_cost=1),
    }
    return UserTable(hashes, **more)  # type: ignore[arg-type]  # passed through


def table_log_in(table: UserTable, name: str, password: str) -> Decision:
    client = scramp.ScramClient([METHOD], name, password)
    decision = table.authenticate(request(client.get_client_first().encode()))
    assert decision is not None
    if decision.goes_on:
        assert decision.data is not None
        client.set_server_first(decision.data.decode())
        last = request(client.get_client_final().encode(), state=decision.state)
        found = table.authenticate(last)
        assert found is not None
        return found
    return decision


def test_one_credential_serves_scram_and_the_password() -> None:
    table = make_table()
    decision = table_log_in(table, "user", "pencil")
    assert decision.is_accepted
    assert decision.is_unrestricted
    assert decision.username == "user"
    plain = AuthRequest(1, "client", "user", b"pencil", "l", "p", 4)
    assert table.authenticate(plain) is None
    assert table.check(plain).is_accepted
    wrong = AuthRequest(1, "client", "user", b"wrong", "l", "p", 4)
    assert table.check(wrong).reason == 0x86


def test_a_user_with_a_hash_for_passwords_alone_cannot_use_scram() -> None:
    assert table_log_in(make_table(), "slow", "pencil").reason == 0x87


def test_rules_restrict_who_came_by_scram() -> None:
    decision = table_log_in(make_table(rules=[Rule("a/#", username="user")]), "user", "pencil")
    assert decision.is_accepted
    assert not decision.is_unrestricted


@pytest.mark.parametrize("method", ["", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256"])
def test_a_method_that_is_not_known_is_refused(method: str) -> None:
    decision = make_table().authenticate(request(CLIENT_FIRST, method=method))
    assert decision is not None
    assert decision.reason == 0x8C


@pytest.mark.parametrize(
    "table", [UserTable({}), UserTable({"slow": PasswordHash.make(b"x", log_cost=1)})]
)
def test_without_anybody_who_could_use_it_there_is_no_scram(table: UserTable) -> None:
    decision = table.authenticate(request(CLIENT_FIRST))
    assert decision is not None
    assert decision.reason == 0x8C


def test_passwords_and_data_are_in_no_representation() -> None:
    asked = request(CLIENT_FIRST)
    table = make_table()
    decision = table.authenticate(asked)
    assert decision is not None
    for shown in (repr(asked), repr(decision), str(asked), str(decision)):
        assert "rOprNGfw" not in shown
        assert "user" not in shown.replace("username", "")


@pytest.fixture
def faults() -> list[Exception]:
    return []


@pytest.fixture
def answers() -> queue.Queue[tuple[int, Decision]]:
    return queue.Queue()


@pytest.fixture
def thread(
    answers: queue.Queue[tuple[int, Decision]], faults: list[Exception]
) -> Iterator[PasswordThread]:
    table = UserTable({}, passwords={"plain": b"secret"})
    thread = PasswordThread(table, faults.append)
    thread.start(lambda token, decision: answers.put((token, decision)))
    yield thread
    thread.stop()


def test_keys_are_derived_on_the_thread(
    thread: PasswordThread, answers: queue.Queue[tuple[int, Decision]], faults: list[Exception]
) -> None:
    thread.submit(request(b"n,,n=plain,r=abc", token=7))
    token, decision = answers.get(timeout=60)
    assert token == 7
    assert decision.goes_on
    assert not faults


def test_the_library_is_loaded_only_where_somebody_may_use_it() -> None:
    code = (
        "import sys; from adapters.security import PasswordHash, ScramCredential, UserTable\n"
        "UserTable({'a': PasswordHash.make(b'x', log_cost=1)}, passwords={'b': b'x'})\n"
        "assert 'scramp' not in sys.modules\n"
        f"UserTable({{'c': ScramCredential.parse('{USER}')}})\n"
        "assert 'scramp' in sys.modules\n"
    )
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=True, timeout=60)
