"""What is remembered of messages, and how much of it."""

from __future__ import annotations

import pytest

from iotd.testing._messages import MOST_MESSAGES, Log, Wanted
from mqtt_core import make_publish


def test_of_many_messages_the_last_are_remembered() -> None:
    log = Log()
    for number in range(MOST_MESSAGES + 5):
        log.add(number / 1_000, make_publish(f"n/{number}", b"x"))
    assert log.forgotten == 5
    assert len(log.matching("#")) == MOST_MESSAGES
    first = log.take(Wanted("#"))
    assert first is not None
    assert first.topic == "n/5"
    log.add(20.0, make_publish("last", b"x"))  # the one that was taken is forgotten
    second = log.take(Wanted("#"))
    assert second is not None
    assert second.topic == "n/6"
    assert log.take(Wanted("#"), since=log.count) is None
    assert log.lines(1) == [
        f"  ({MOST_MESSAGES + 5:,} earlier messages are not shown)",
        "    20.000 s  'last' QoS 0 'x'",
    ]


def test_a_payload_is_shown_as_text_or_as_bytes() -> None:
    log = Log()
    for payload in (b"21.5\x1b", b"\xff\x00", b"x" * 61):
        log.add(0.0, make_publish("a", payload, retain=True))
    shown = [line.partition("retain ")[2] for line in log.lines(10)]
    assert shown == [r"'21.5\x1b'", r"b'\xff\x00'", f"'{'x' * 60}'... (61 bytes)"]


def test_what_is_no_json_is_told() -> None:
    log = Log()
    log.add(0.0, make_publish("a", b"{"))
    with pytest.raises(ValueError, match="Expecting property name"):
        log.matching("a")[0].json()
