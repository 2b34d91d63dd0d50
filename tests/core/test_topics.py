"""Topic names and filters (4.7), and the cache of names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_core import topic_filter_fault, topic_matches, topic_name_fault
from mqtt_core._decode import decode_publish
from mqtt_core._topics import TOPIC_OVERHEAD_BYTES, Route, TopicCache, decode_utf8, has_wildcard
from tests.core import wire
from tests.strategies import topic_filters, topic_names

# Filter, topic name, whether they match: the examples of 4.7 and some of their neighbours.
MATCHES = [
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
    ("sport/#", "sport", True),
    ("sport/#", "sports", False),
    ("#", "sport", True),
    ("#", "/", True),
    ("#", "$SYS/x", False),
    ("$SYS/#", "$SYS", True),
    ("$SYS/#", "$SYS/broker/uptime", True),
    ("+/monitor/Clients", "$SYS/monitor/Clients", False),
    ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
    ("$SYS/+/x", "$SYS/$y/x", True),
    ("a/+", "a/$b", True),
    ("a/#", "a/$b", True),
    ("+/#", "$SYS", False),
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+", "finance", True),
    ("+", "/finance", False),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+/tennis/#", "sport/tennis", True),
    ("sport/+/player1", "sport/tennis/player1", True),
    ("ACCOUNTS", "Accounts", False),
    ("/finance", "finance", False),
    ("a//b", "a//b", True),
    ("a//b", "a/b", False),
    ("a/+/b", "a//b", True),
    ("//", "//", True),
    ("//#", "/", True),
    ("///#", "/", False),
    ("/#", "/", True),
    ("a/b", "a/b/", False),
    ("a b", "a b", True),
    ("\u00e9", "e\u0301", False),  # never normalised
]


@pytest.mark.statement("v3 MQTT-4.7.2-1")
@pytest.mark.statement("v3 MQTT-4.7.3-4")
@pytest.mark.parametrize(("topic_filter", "topic", "expected"), MATCHES)
def test_what_matches(topic_filter: str, topic: str, expected: bool) -> None:
    assert topic_matches(topic_filter, topic) is expected


def matches(topic_filter: list[str], topic: list[str]) -> bool:
    """4.7 once more, by recursion."""
    if not topic_filter:
        return not topic
    if topic_filter[0] == "#":
        return True
    if not topic:
        return False
    return topic_filter[0] in ("+", topic[0]) and matches(topic_filter[1:], topic[1:])


def matches_by_definition(topic_filter: str, topic: str) -> bool:
    """The same for whole strings."""
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    return matches(topic_filter.split("/"), topic.split("/"))


@given(topic_filters, topic_names)
def test_matching_agrees_with_the_definition(topic_filter: str, topic: str) -> None:
    assert topic_matches(topic_filter, topic) is matches_by_definition(topic_filter, topic)


NAME_FAULTS = [
    (b"", "MQTT-4.7.3-1"),
    (b"a/+", "MQTT-3.3.2-2"),
    (b"#", "MQTT-3.3.2-2"),
    (b"a\0b", "MQTT-4.7.3-2"),
    (b"x" * 65_536, "MQTT-4.7.3-3"),
    (b"\xff", "MQTT-1.5.3-1"),
    (b"\xc0\x80", "MQTT-1.5.3-1"),  # overlong U+0000
    (b"\xed\xa0\x80", "MQTT-1.5.3-1"),  # a surrogate
    (b"\xf4\x90\x80\x80", "MQTT-1.5.3-1"),  # beyond U+10FFFF
    (b"\xe2\x82", "MQTT-1.5.3-1"),
]
FILTER_FAULTS = [
    (b"", "MQTT-4.7.3-1"),
    (b"a\0b", "MQTT-4.7.3-2"),
    (b"x" * 65_536, "MQTT-4.7.3-3"),
    (b"\xff", "MQTT-3.8.3-1"),
    (b"a#", "MQTT-4.7.1-2"),
    (b"#a", "MQTT-4.7.1-2"),
    (b"#/a", "MQTT-4.7.1-2"),
    (b"##", "MQTT-4.7.1-2"),
    (b"+#", "MQTT-4.7.1-2"),
    (b"a/#/b", "MQTT-4.7.1-2"),
    (b"a+", "MQTT-4.7.1-3"),
    (b"++", "MQTT-4.7.1-3"),
    (b"a/+b/c", "MQTT-4.7.1-3"),
]


@pytest.mark.parametrize(("name", "statement"), NAME_FAULTS)
def test_what_is_no_topic_name(name: bytes, statement: str) -> None:
    fault = topic_name_fault(name)
    assert fault is not None
    assert fault[1] == statement


@pytest.mark.parametrize(("name", "statement"), FILTER_FAULTS)
def test_what_is_no_topic_filter(name: bytes, statement: str) -> None:
    fault = topic_filter_fault(name)
    assert fault is not None
    assert fault[1] == statement


@pytest.mark.parametrize(
    "name", ["/", "a", "a b", "$SYS", "//", "x" * 65_535, "\ufeff", "\U0010ffff"]
)
def test_what_is_a_topic_name_is_a_filter_too(name: str) -> None:
    assert topic_name_fault(name.encode()) is None
    assert topic_filter_fault(name.encode()) is None
    assert not has_wildcard(name.encode())


@pytest.mark.parametrize("name", ["#", "+", "/#", "+/+", "a/+/#", "+/a"])
def test_what_is_a_filter_only(name: str) -> None:
    assert topic_filter_fault(name.encode()) is None
    assert topic_name_fault(name.encode()) is not None
    assert has_wildcard(name.encode())


@given(st.binary(max_size=20))
def test_a_string_field_is_text_or_nothing(data: bytes) -> None:
    text = decode_utf8(data)
    if text is None:
        try:
            decoded = data.decode()
        except UnicodeDecodeError:
            return
        assert "\0" in decoded
    else:
        assert text.encode() == data


@pytest.mark.statement("v3 MQTT-1.5.3-3")
def test_a_byte_order_mark_is_a_character() -> None:
    assert decode_utf8(b"\xef\xbb\xbfa") == "\ufeffa"
    assert not topic_matches("a", "\ufeffa")


# The cache


def size_of(name: bytes) -> int:
    return len(name) + TOPIC_OVERHEAD_BYTES


def full_cache(count: int) -> TopicCache:
    """A cache whose kept part is full with `count` names `kept/1`..."""
    cache = TopicCache(count * size_of(b"kept/000") * 8 // 7 + 7)
    for number in range(count):
        cache.add(b"kept/%03d" % number)
    assert len(cache.kept) == count
    return cache


def test_a_name_is_kept_while_there_is_room() -> None:
    cache = TopicCache(100_000)
    assert cache.find(b"t") is None
    topic = cache.add(b"t")
    assert topic.is_cached
    assert cache.kept[b"t"] is topic
    assert cache.peek(b"t") is cache.find(b"t") is topic
    assert len(cache) == 1
    assert cache.size_bytes >= size_of(b"t")
    assert repr(topic) == "Topic(b't')"


def test_a_name_for_a_full_cache_is_kept_when_it_is_seen_again() -> None:
    cache = full_cache(100)
    topic = cache.add(b"kept/new")
    assert topic.is_cached
    assert topic.utf8 not in cache.kept
    assert cache.peek(topic.utf8) is topic
    assert topic.utf8 not in cache.kept
    assert cache.find(topic.utf8) is topic
    assert cache.kept[topic.utf8] is topic
    assert len(cache.kept) == 100
    assert b"kept/000" not in cache.kept
    assert cache.peek(b"kept/000") is None


def test_a_flood_of_names_does_not_push_out_those_in_use() -> None:
    cache = full_cache(100)
    for number in range(10_000):
        cache.add(b"cold/%d" % number)
    assert all(b"kept/%03d" % number in cache.kept for number in range(100))
    assert cache.evicted > 9_000
    for number in range(10_000):
        cache.add(b"twice/%d" % number)
        cache.find(b"twice/%d" % number)
        cache.find(b"kept/007")
    assert b"kept/007" in cache.kept
    assert b"kept/008" not in cache.kept


def test_a_name_that_leaves_the_cache_loses_its_route() -> None:
    cache = full_cache(100)
    kept = cache.kept[b"kept/000"]
    kept.route = Route()
    waiting = cache.add(b"waiting")
    waiting.route = Route()
    for number in range(1_000):
        cache.add(b"%d" % number)
    assert waiting.route is None
    assert cache.evicted > 900
    for number in range(1_000):
        cache.add(b"%d/" % number)
        cache.find(b"%d/" % number)
    assert kept.route is None
    assert b"kept/000" not in cache.kept


def test_a_name_too_long_for_the_cache_is_used_and_not_kept() -> None:
    cache = TopicCache(10_000)
    topic = cache.add(b"x" * 2_000)
    assert not topic.is_cached
    assert len(cache) == 0
    nothing = TopicCache(0)
    assert not nothing.add(b"t").is_cached
    assert nothing.size_bytes == 0


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=400),
    st.integers(3_000, 30_000),
)
def test_the_cache_stays_within_its_bytes(steps: list[tuple[bool, int]], limit: int) -> None:
    cache = TopicCache(limit)
    for is_long, number in steps:
        name = b"%d" % number + (b"x" * 300 if is_long else b"")
        topic = cache.find(name)
        if topic is None:
            topic = cache.add(name)
        assert topic.utf8 == name
        assert cache.size_bytes <= limit
        cached = [*cache.kept.values(), *cache._probation.values()]
        assert cache.size_bytes >= sum(size_of(topic.utf8) for topic in cached)
        assert all(topic.is_cached for topic in cached)
        assert len(cached) == len(cache)


def test_a_packet_takes_its_topic_off_probation() -> None:
    topics = TopicCache(16_384)
    for number in range(200):
        topics.add(b"t/%d" % number)
    waiting = topics.peek(b"t/199")
    assert waiting is not None
    assert b"t/199" not in topics.kept
    data = wire.publish("t/199", b"x")
    assert decode_publish(data, 0, 2, len(data), topics).message.topic is waiting
    assert topics.kept[b"t/199"] is waiting
