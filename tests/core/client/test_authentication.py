"""A client's side of enhanced authentication, with a mechanism that is easy to read."""

from __future__ import annotations

import pytest

from mqtt_core.client import ConnectError, ConnectionLost, Settings
from tests.core import wire5
from tests.core.wire import string, u16
from tests.core.wire5 import prop
from tests.line import Hand, settings


def data(value: bytes) -> bytes:
    """Authentication data."""
    return prop(0x16, u16(len(value)) + value)


class Echo:
    """Answers each challenge with itself; `no` is a server that is not trusted."""

    method = "ECHO"

    def begin(self) -> bytes:
        return b"hello"

    def answer(self, challenge: bytes) -> bytes:
        if challenge == b"no":
            raise ValueError("it said no")
        return challenge

    def finish(self, last: bytes) -> None:
        if last != b"bye":
            raise ValueError("it did not say bye")


def greeted(**limits: int) -> Hand:
    hand = Hand(settings(mechanism=Echo(), limits=limits))
    assert hand.open().endswith(prop(0x15, string("ECHO")) + data(b"hello") + b"\x00\x01c")
    return hand


ACCEPTED = wire5.connack(0, wire5.method("ECHO"), data(b"bye"))


def test_challenges_are_answered_until_the_server_is_satisfied() -> None:
    hand = greeted()
    hand.give(wire5.auth(0x18, wire5.method("ECHO"), data(b"1")))
    assert hand.sent() == wire5.auth(0x18, wire5.method("ECHO"), data(b"1"))
    hand.give(wire5.auth(0x18, wire5.method("ECHO")))
    assert hand.sent() == wire5.auth(0x18, wire5.method("ECHO"), data(b""))
    hand.give(ACCEPTED)
    assert hand.client.is_online


@pytest.mark.parametrize(
    ("packet", "says"),
    [
        (wire5.auth(0x18, wire5.method("ECHO"), data(b"no")), "it said no"),
        (wire5.connack(0, wire5.method("ECHO")), "it did not say bye"),
    ],
)
def test_a_server_that_is_not_trusted_is_left_for_good(packet: bytes, says: str) -> None:
    hand = greeted()
    hand.give(packet)
    assert hand.close() == wire5.disconnect(0x80)
    assert isinstance(hand.client.error, ConnectError)
    assert says in str(hand.client.error)


def test_a_server_with_challenges_without_end_is_left() -> None:
    hand = greeted(max_auth_steps=2)
    hand.give(*[wire5.auth(0x18, wire5.method("ECHO"), data(b"1"))])
    hand.give(*[wire5.auth(0x18, wire5.method("ECHO"), data(b"2"))])
    hand.give(*[wire5.auth(0x18, wire5.method("ECHO"), data(b"3"))])
    assert hand.client.wants_close
    hand.close()
    assert "more than 2 challenges" in str(hand.client.error)


def test_it_can_log_in_again() -> None:
    hand = greeted()
    hand.give(ACCEPTED)
    hand.client.re_authenticate(hand.now)
    assert hand.sent() == wire5.auth(0x19, wire5.method("ECHO"), data(b"hello"))
    with pytest.raises(ValueError, match="cannot log in again"):
        hand.client.re_authenticate(hand.now)
    hand.give(wire5.auth(0x00, wire5.method("ECHO"), data(b"bye")))
    assert hand.client.is_online
    assert hand.sent() == b""
    hand.cut()
    with pytest.raises(ConnectionLost):
        hand.client.re_authenticate(hand.now)


def test_without_a_mechanism_there_is_nothing_to_say_again() -> None:
    hand = Hand()
    hand.accept()
    with pytest.raises(ValueError, match="no authentication method"):
        hand.client.re_authenticate(hand.now)


def test_3_1_1_has_none_of_it() -> None:
    with pytest.raises(ValueError, match=r"3\.1\.1 has no enhanced authentication"):
        Settings(level=4, mechanism=Echo())
