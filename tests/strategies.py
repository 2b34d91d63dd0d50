"""Hypothesis strategies for what MQTT is made of.

Names and filters come from a small alphabet, so that they often match each other; where the whole
of Unicode matters there is a strategy of its own.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqtt_core import (
    MQTT_3_1,
    MQTT_3_1_1,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
    make_publish,
)

packet_ids = st.integers(1, 65_535)
qos = st.integers(0, 2)
payloads = st.binary(max_size=40)

_level = st.sampled_from(["a", "b", "c", "", "$x", "ü"])
_filter_level = st.sampled_from(["a", "b", "c", "", "$x", "ü", "+", "+"])

topic_names: SearchStrategy[str] = (
    st.lists(_level, min_size=1, max_size=5).map("/".join).filter(lambda name: name != "")
)
"""Topic names of few levels from few letters."""


def _filter(levels: list[str], has_hash: bool) -> str:
    return "/".join([*levels, "#"] if has_hash else levels)


topic_filters: SearchStrategy[str] = st.builds(
    _filter, st.lists(_filter_level, max_size=5), st.booleans()
).filter(lambda name: name != "")
"""Topic filters of few levels from few letters, and wildcards."""

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
"""Any text that a string field may hold."""

any_topic_names = text.filter(lambda name: name != "" and "+" not in name and "#" not in name)
"""Topic names from all of Unicode."""


def _connect(
    client_id: str,
    clean_start: bool,
    keep_alive_s: int,
    will: Will | None,
    login: tuple[str, bytes | None] | None,
    level: int,
) -> Connect:
    username, password = (None, None) if login is None else login
    if not client_id and (level == MQTT_3_1 or not clean_start):
        client_id = "c"
    return Connect(client_id, clean_start, keep_alive_s, will, username, password, level)


wills = st.builds(Will, any_topic_names, payloads, qos, st.booleans())
connects: SearchStrategy[Connect] = st.builds(
    _connect,
    text,
    st.booleans(),
    st.integers(0, 65_535),
    st.none() | wills,
    st.none() | st.tuples(text, st.none() | payloads),
    st.sampled_from([MQTT_3_1, MQTT_3_1_1]),
)


def _publish(
    topic: str, payload: bytes, quality: int, retain: bool, packet_id: int, dup: bool
) -> Publish:
    if not quality:
        packet_id, dup = 0, False
    return make_publish(topic, payload, quality, retain, packet_id, dup)


publishes: SearchStrategy[Publish] = st.builds(
    _publish,
    any_topic_names,
    payloads | st.integers(100, 20_000).map(bytes),
    qos,
    st.booleans(),
    packet_ids,
    st.booleans(),
)
subscribes = st.builds(
    Subscribe,
    packet_ids,
    st.lists(st.builds(Subscription, topic_filters, qos), min_size=1, max_size=5).map(tuple),
)
unsubscribes = st.builds(
    Unsubscribe, packet_ids, st.lists(topic_filters, min_size=1, max_size=5).map(tuple)
)
acks: SearchStrategy[Packet] = st.one_of(
    st.builds(PubAck, packet_ids),
    st.builds(PubRec, packet_ids),
    st.builds(PubRel, packet_ids),
    st.builds(PubComp, packet_ids),
)

from_clients: SearchStrategy[Packet] = st.one_of(
    publishes, acks, subscribes, unsubscribes, st.builds(PingReq)
)
"""What a connected client may send and go on."""

connacks: SearchStrategy[ConnAck] = st.one_of(
    st.builds(ConnAck, st.booleans()),
    st.sampled_from([0x84, 0x85, 0x88, 0x86, 0x87]).map(lambda reason: ConnAck(False, reason)),
)
from_servers: SearchStrategy[Packet] = st.one_of(
    publishes,
    acks,
    st.builds(
        SubAck,
        packet_ids,
        st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=5).map(tuple),
    ),
    st.builds(UnsubAck, packet_ids),
    st.builds(PingResp),
)
"""What a server may send after CONNACK."""

disconnects = st.builds(Disconnect)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Data cut at the positions given, modulo its length."""
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(at)]


cut_positions = st.lists(st.integers(0, 100_000), max_size=8)
"""Where to cut data, for `pieces`."""
