"""Password hashes, the table of users, and the thread that checks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.security import PasswordHash, PasswordThread, UserTable
from adapters.security._users import MAX_WAITING
from mqtt_core.broker import (
    ALLOW,
    DENY,
    PUBLISH_ACTION,
    SUBSCRIBE_ACTION,
    AuthorizeRequest,
    AuthRequest,
    Decision,
    Rule,
)

CHEAP = 1  # log2 of the cost: what is tested here is not how slow it is
ALICE = PasswordHash.make(b"alice's", log_cost=CHEAP)
# From RFC 7914, section 12.
RFC_7914 = (
    "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$"
    "cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw"
)


def request(name: str | None, password: bytes | None, token: int = 1) -> AuthRequest:
    return AuthRequest(token, "client", name, password, "tcp://127.0.0.1:1883", "127.0.0.1:5", 4)


@settings(max_examples=20)
@given(st.binary(max_size=100))
def test_a_hash_matches_its_password_alone(password: bytes) -> None:
    made = PasswordHash.make(password, log_cost=CHEAP)
    assert made.matches(password)
    assert not made.matches(password + b"x")
    assert PasswordHash.parse(made.format()).matches(password)


def test_it_is_the_scrypt_of_the_rfc() -> None:
    known = PasswordHash.parse(RFC_7914)
    assert known.matches(b"pleaseletmein")
    assert not known.matches(b"pleaseletmeout")
    assert known.format() == RFC_7914


def test_two_hashes_of_one_password_differ() -> None:
    first, second = (PasswordHash.make(b"x", log_cost=CHEAP).format() for _ in range(2))
    assert first != second


def test_a_hash_is_not_in_its_representation() -> None:
    assert repr(ALICE) == "PasswordHash(ln=1, r=8, p=1)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "$2b$12$abcdefghijklmnopqrstuv",
        "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$",
        "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$AAAA",
        "$scrypt$ln=14,r=8,p=1$AAAA$" + "A" * 43,
        "$scrypt$ln=0,r=8,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$scrypt$ln=30,r=8,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$scrypt$ln=14,r=99,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "$scrypt$ln=14,r=8,p=99$c2FsdHNhbHQ$" + "A" * 43,
        "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$" + "A" * 41,
        "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$" + "A" * 43 + "\n",
    ],
)
def test_what_is_no_hash_or_costs_too_much_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="password hash"):
        PasswordHash.parse(text)


def test_a_cost_out_of_bounds_is_not_made() -> None:
    with pytest.raises(ValueError, match="ln of a password hash is 17; allowed: 1 to 16"):
        PasswordHash.make(b"x", log_cost=17)


def test_a_password_is_asked_for_once_and_then_known() -> None:
    table = UserTable({"alice": ALICE})
    right = request("alice", b"alice's")
    assert table.authenticate(right) is None
    assert table.check(right).is_accepted
    decision = table.authenticate(right)
    assert decision is not None
    assert decision.is_accepted
    assert table.authenticate(request("alice", b"wrong")) is None
    assert not table.check(request("alice", b"wrong")).is_accepted
    assert table.authenticate(request("bob", b"alice's")) is None


@pytest.mark.parametrize(
    ("name", "password"),
    [("alice", b"wrong"), ("alice", b""), ("alice", None), ("bob", b"alice's"), ("", b"alice's")],
)
def test_wrong_names_and_passwords_are_refused(name: str, password: bytes | None) -> None:
    decision = UserTable({"alice": ALICE}).check(request(name, password))
    assert decision.reason == 0x86


def test_without_any_hash_nobody_is_known() -> None:
    assert UserTable({}).check(request("alice", b"")).reason == 0x86


def test_a_password_known_in_plain_is_compared_at_once() -> None:
    table = UserTable({}, passwords={"alice": b"secret"})
    decision = table.authenticate(request("alice", b"secret"))
    assert decision is not None
    assert decision.is_accepted
    wrong = request("alice", b"secret2")
    assert table.authenticate(wrong) is None
    assert not table.check(wrong).is_accepted


@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_client_without_a_name_is_let_in_if_that_is_wanted(is_allowed: bool) -> None:
    decision = UserTable({"alice": ALICE}, allow_anonymous=is_allowed).authenticate(
        request(None, None)
    )
    assert decision is not None
    assert decision.is_accepted is is_allowed


def test_rules_restrict_and_no_rules_do_not() -> None:
    free = UserTable({"alice": ALICE})
    assert free.check(request("alice", b"alice's")).is_unrestricted
    bound = UserTable({"alice": ALICE}, [Rule("a/#", username="alice", actions=(PUBLISH_ACTION,))])
    assert not bound.check(request("alice", b"alice's")).is_unrestricted
    assert bound.authorize("client", "alice", PUBLISH_ACTION, "a/b") == ALLOW
    assert bound.authorize("client", "alice", SUBSCRIBE_ACTION, "a/b") == DENY


class Answers:
    """Where decisions go: a queue that a test waits on."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[int, Decision]] = queue.Queue()

    def __call__(self, token: int, decision: Decision) -> None:
        self._queue.put((token, decision))

    def next(self) -> tuple[int, int]:
        token, decision = self._queue.get(timeout=60)
        return token, decision.reason


@pytest.fixture
def faults() -> list[Exception]:
    return []


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def thread(answers: Answers, faults: list[Exception]) -> Iterator[PasswordThread]:
    thread = PasswordThread(UserTable({"alice": ALICE}), faults.append)
    thread.start(answers)
    yield thread
    thread.stop()


def test_the_thread_answers_in_order(thread: PasswordThread, answers: Answers) -> None:
    thread.submit(request("alice", b"alice's", 1))
    thread.submit(request("alice", b"wrong", 2))
    thread.submit(request("bob", b"alice's", 3))
    assert [answers.next() for _ in range(3)] == [(1, 0x00), (2, 0x86), (3, 0x86)]


def test_rules_are_never_asked_outside(thread: PasswordThread, answers: Answers) -> None:
    thread.submit(AuthorizeRequest(7, "client", "alice", PUBLISH_ACTION, "a"))
    assert answers.next() == (7, 0x87)


def test_too_many_that_wait_are_refused_as_busy(
    monkeypatch: pytest.MonkeyPatch, answers: Answers, faults: list[Exception]
) -> None:
    # Not started yet, so nothing is taken from what waits.
    thread = PasswordThread(UserTable({"alice": ALICE}), faults.append)
    monkeypatch.setattr(threading.Thread, "start", lambda _thread: None)
    thread.start(answers)
    for token in range(MAX_WAITING + 2):
        thread.submit(request("alice", b"wrong", token))
    assert answers.next() == (MAX_WAITING, 0x89)
    assert answers.next() == (MAX_WAITING + 1, 0x89)
    thread.stop()


def test_a_check_that_fails_is_told_and_the_next_one_is_made(
    answers: Answers, faults: list[Exception]
) -> None:
    # A hash that costs more memory than the library is allowed to take.
    broken = PasswordHash(20, 8, 1, b"s" * 16, b"k" * 32)
    thread = PasswordThread(UserTable({"broken": broken, "alice": ALICE}), faults.append)
    thread.start(answers)
    thread.submit(request("broken", b"x", 1))
    thread.submit(request("alice", b"alice's", 2))
    assert answers.next() == (1, 0x89)
    assert answers.next() == (2, 0x00)
    thread.stop()
    assert len(faults) == 1
