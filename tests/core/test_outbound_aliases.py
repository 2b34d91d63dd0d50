"""Topic aliases towards a client: who gets one, and that their table stays within its limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqtt_core._outbound_aliases import OutboundAliases
from tests.core import wire, wire5
from tests.rig import Rig


def use(aliases: OutboundAliases, topic: bytes) -> tuple[int, bool]:
    """What a PUBLISH to the topic carries: the alias, and whether the topic goes with it."""
    known = aliases.known(topic)
    return (known, False) if known else (aliases.assign(topic), True)


def test_a_topic_gets_an_alias_when_it_comes_again() -> None:
    aliases = OutboundAliases(2, 100)
    assert use(aliases, b"topic") == (0, True)
    assert use(aliases, b"topic") == (1, True)
    assert use(aliases, b"topic") == (1, False)


def test_a_topic_no_longer_than_its_alias_gets_none() -> None:
    aliases = OutboundAliases(2, 100)
    for _ in range(3):
        assert use(aliases, b"abc") == (0, True)


def test_aliases_are_given_away_in_turn() -> None:
    aliases = OutboundAliases(2, 100)
    for topic, alias in ((b"one!", 1), (b"two!", 2), (b"three", 1)):
        use(aliases, topic)
        assert use(aliases, topic) == (alias, True)
    assert aliases.known(b"one!") == 0
    assert aliases.known(b"two!") == 2


def test_a_topic_longer_than_all_that_is_kept_gets_none() -> None:
    aliases = OutboundAliases(2, 10)
    for _ in range(3):
        assert use(aliases, b"x" * 11) == (0, True)
    assert use(aliases, b"x" * 10) == (0, True)
    assert use(aliases, b"x" * 10) == (1, True)


def test_long_topics_take_the_place_of_others() -> None:
    aliases = OutboundAliases(4, 20)
    for topic, alias in ((b"1" * 8, 1), (b"2" * 8, 2), (b"3" * 8, 3)):
        use(aliases, topic)
        assert use(aliases, topic) == (alias, True)
    assert [aliases.known(digit * 8) for digit in (b"1", b"2", b"3")] == [0, 2, 3]


TOPICS = st.integers(1, 9).map(lambda length: (b"%d" % length) * length)


@given(st.lists(TOPICS), st.integers(1, 4), st.integers(0, 20))
def test_a_client_always_knows_what_is_meant(uses: list[bytes], most: int, limit: int) -> None:
    aliases = OutboundAliases(most, limit)
    table: dict[int, bytes] = {}  # what the client knows
    for topic in uses:
        alias, has_topic = use(aliases, topic)
        assert alias <= most
        if alias and has_topic:
            table[alias] = topic
        assert has_topic or table[alias] == topic
        known = [topic for topic in set(uses) if aliases.known(topic)]
        assert len(known) <= most
        assert sum(map(len, known)) <= limit


def test_the_bytes_of_a_clients_aliases_are_limited() -> None:
    rig = Rig(max_alias_bytes=20)
    client = rig.connect5("c", wire5.prop(0x22, b"\x00\x05"))
    client.subscribe(("#", 0))
    publisher = rig.connect("p")
    for topic in ("a" * 12, "b" * 21):
        for _ in range(3):
            publisher.send(wire.publish(topic))
    topics = [publish.topic for publish in client.publishes5()]
    assert topics == ["a" * 12, "a" * 12, "", "b" * 21, "b" * 21, "b" * 21]
