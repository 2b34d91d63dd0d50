"""Retained messages found by filter, against a matcher that tries every message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqtt_core import Message, make_message
from mqtt_core.broker import RetainedMessages
from mqtt_core.broker._retained import Position
from mqtt_core.properties import MESSAGE_EXPIRY_INTERVAL
from tests.core.test_topics import matches_by_definition
from tests.strategies import topic_filters, topic_names


def keep(
    retained: RetainedMessages, topic: str, payload: bytes = b"x", *, expires_at: float = 0.0
) -> Message:
    properties = ((MESSAGE_EXPIRY_INTERVAL, 1),) if expires_at else ()
    message = make_message(topic, payload, 1, True, properties)
    if expires_at:
        message.expires_at = expires_at
    retained.put(message)
    return message


def walk(
    retained: RetainedMessages, topic_filter: str, limit: int = 1_000, limit_bytes: int = 1 << 30
) -> list[Message]:
    """All that match, page by page."""
    position = retained.start(topic_filter.encode())
    found: list[Message] = []
    while not position.is_at_end:
        page = retained.collect(position, limit, limit_bytes)
        assert len(page) <= limit
        found += page
    return found


def names(messages: list[Message]) -> list[str]:
    return sorted(message.topic.name for message in messages)


@given(st.lists(topic_names, max_size=30, unique=True), topic_filters, st.integers(1, 5))
def test_a_walk_finds_what_matches(topics: list[str], topic_filter: str, limit: int) -> None:
    retained = RetainedMessages(1_000, 1 << 30)
    for topic in topics:
        keep(retained, topic)
    expected = [topic for topic in topics if matches_by_definition(topic_filter, topic)]
    assert names(walk(retained, topic_filter, limit)) == sorted(expected)


@given(st.lists(st.tuples(topic_names, st.booleans()), max_size=60))
def test_any_history_keeps_counts_and_leaves_no_nodes(steps: list[tuple[str, bool]]) -> None:
    retained = RetainedMessages(1_000, 1 << 30)
    empty_bytes = retained.size_bytes
    model: dict[str, Message] = {}
    for number, (topic, is_kept) in enumerate(steps):
        if is_kept:
            model[topic] = keep(retained, topic, b"%d" % number)
        else:
            assert retained.delete(topic.encode()) is (model.pop(topic, None) is not None)
        assert retained.count == len(model)
        assert retained.get(topic.encode()) is model.get(topic)
        assert retained.size_bytes >= sum(message.size_bytes for message in model.values())
    for topic in model:
        assert retained.delete(topic.encode())
    assert retained.count == 0
    assert retained.size_bytes == empty_bytes
    assert retained._root.is_bare


def test_a_message_takes_the_place_of_the_one_before() -> None:
    retained = RetainedMessages(1, 1 << 30)
    keep(retained, "a", b"long" * 100)
    size = retained.size_bytes
    second = keep(retained, "a", b"short")
    assert retained.get(b"a") is second
    assert retained.count == 1
    assert retained.size_bytes < size


def test_times_of_messages_that_were_replaced_are_not_kept_for_ever() -> None:
    retained = RetainedMessages(10, 1 << 30)
    for number in range(10_000):
        keep(retained, f"t/{number % 5}", b"%d" % number, expires_at=1e6 - number)
    assert retained.count == 5
    assert len(retained._expiring) <= 1_011
    keep(retained, "t/0", b"for ever")
    retained.drop_expired(1e6 - 9_997)
    assert names(walk(retained, "#")) == ["t/0", "t/1"]
    retained.drop_expired(1e6)
    assert names(walk(retained, "#")) == ["t/0"]


def test_topics_of_the_server_are_matched_by_no_wildcard_at_the_first_level() -> None:
    retained = RetainedMessages(10, 1 << 30)
    for topic in ("$SYS/a", "$other/a", "a/$SYS", "a/a"):
        keep(retained, topic)
    assert names(walk(retained, "#")) == names(walk(retained, "+/+")) == ["a/$SYS", "a/a"]
    assert names(walk(retained, "$SYS/#")) == names(walk(retained, "$SYS/+")) == ["$SYS/a"]


def test_what_is_not_there() -> None:
    retained = RetainedMessages(10, 1 << 30)
    keep(retained, "a/b")
    assert retained.get(b"a") is None
    assert retained.get(b"a/b/c") is None
    assert retained.get(b"x") is None
    assert not retained.delete(b"a")
    assert not retained.delete(b"a/b/c")
    assert not retained.delete(b"x/y")
    assert retained.count == 1


def test_the_limits_are_of_messages_and_bytes() -> None:
    first = make_message("a", bytes(100))
    retained = RetainedMessages(1, 10_000)
    assert retained.has_room(first)
    retained.put(first)
    assert not retained.has_room(make_message("b", b""))
    assert retained.has_room(make_message("a", bytes(200)))
    assert not retained.has_room(make_message("a", bytes(10_000)))
    assert not RetainedMessages(0, 10_000).has_room(first)
    assert not RetainedMessages(10, 0).has_room(first)


def test_many_levels_cost_bytes() -> None:
    retained = RetainedMessages(10, 2_000)
    assert retained.has_room(make_message("a" * 100, b""))
    assert not retained.has_room(make_message("/" * 100, b""))


def test_a_page_has_a_limit_of_bytes_and_at_least_one_message() -> None:
    retained = RetainedMessages(100, 1 << 30)
    for number in range(5):
        keep(retained, f"t/{number}", bytes(1_000))
    position = retained.start(b"t/#")
    assert len(retained.collect(position, 100, 2_500)) == 3
    assert len(retained.collect(position, 100, 1)) == 1
    assert len(retained.collect(position, 0, 1_000)) == 0
    assert len(retained.collect(position, 100, 1 << 30)) == 1
    assert position.is_at_end
    assert retained.collect(position, 100, 1 << 30) == []


def test_a_walk_stops_now_and_then_even_when_it_finds_nothing() -> None:
    retained = RetainedMessages(100_000, 1 << 40)
    for number in range(5_000):
        keep(retained, f"{number}/a")
    position = retained.start(b"+/b")
    pages = 0
    while not position.is_at_end:
        assert retained.collect(position, 10, 1 << 30) == []
        pages += 1
    assert pages > 2


def test_what_changes_during_a_walk_does_no_harm() -> None:
    retained = RetainedMessages(1_000, 1 << 30)
    for first in range(10):
        for second in range(10):
            keep(retained, f"{first}/{second}")
    position: Position = retained.start(b"#")
    found = retained.collect(position, 30, 1 << 30)
    for first in range(10):
        for second in range(0, 10, 2):
            retained.delete(f"{first}/{second}".encode())
        keep(retained, f"{first}/new")
    while not position.is_at_end:
        found += retained.collect(position, 30, 1 << 30)
    got = names(found)
    assert len(set(got)) == len(got)
    stayed = {f"{first}/{second}" for first in range(10) for second in range(1, 10, 2)}
    assert stayed <= set(got)


_few_topics = st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")).map("/".join)


@given(
    st.lists(
        st.tuples(_few_topics, st.sampled_from(("keep", "keep", "delete", "read"))),
        min_size=10,
        max_size=60,
    ),
    st.sampled_from(("#", "+/+", "a/#", "+/b")),
)
def test_a_walk_finds_what_stays_and_nothing_twice(
    steps: list[tuple[str, str]], topic_filter: str
) -> None:
    retained = RetainedMessages(1_000, 1 << 30)
    position: Position | None = None
    stays: set[str] = set()
    found: list[Message] = []
    for topic, step in steps:
        if step == "read":
            if position is None:
                position = retained.start(topic_filter.encode())
            found += retained.collect(position, 1, 1 << 30)
        elif step == "delete":
            retained.delete(topic.encode())
            stays.discard(topic)
        elif position is None:
            keep(retained, topic)
            stays.add(topic)
        elif topic not in stays:
            keep(retained, topic)
    while position is not None and not position.is_at_end:
        found += retained.collect(position, 1, 1 << 30)
    if position is not None:
        got = names(found)
        assert len(set(got)) == len(got)
        assert {each for each in stays if matches_by_definition(topic_filter, each)} <= set(got)


def test_what_is_deleted_behind_a_walk_moves_nothing_ahead_of_it() -> None:
    retained = RetainedMessages(1_000, 1 << 30)
    for number in range(100):
        keep(retained, f"t/{number}")
    position = retained.start(b"t/+")
    found = retained.collect(position, 10, 1 << 30)
    for number in range(80):
        retained.delete(f"t/{number}".encode())
    keep(retained, "t/new")
    found += retained.collect(position, 100, 1 << 30)
    assert names(found) == [f"t/{number}" for number in range(80, 100)]
    assert names(walk(retained, "t/+", 3)) == sorted([*names(found), "t/new"])
