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
    MQTT_5,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    PropertyValue,
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
from mqtt_core._codes import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
)
from mqtt_core._properties import (
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    BINARY_DATA,
    MESSAGE_EXPIRY_INTERVAL,
    PROPERTIES,
    RESPONSE_TOPIC,
    SERVER_REFERENCE,
    SESSION_EXPIRY_INTERVAL,
    SUBSCRIPTION_IDENTIFIER,
    TOPIC_ALIAS,
    UTF8_STRING,
    UTF8_STRING_PAIR,
    WILL,
    PropertyRule,
)
from mqtt_core._reasons import BY_CLIENT, BY_SERVER, REASONS

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


# MQTT 5.0


def _value(rule: PropertyRule) -> SearchStrategy[PropertyValue]:
    if rule.identifier == RESPONSE_TOPIC:
        return any_topic_names
    if rule.kind == UTF8_STRING:
        return text
    if rule.kind == UTF8_STRING_PAIR:
        return st.tuples(text, text)
    if rule.kind == BINARY_DATA:
        return payloads
    return st.integers(rule.least, rule.most)


def _pairs(rule: PropertyRule) -> SearchStrategy[tuple[int, PropertyValue]]:
    return st.tuples(st.just(rule.identifier), _value(rule))


def _is_once(pairs: list[tuple[int, PropertyValue]], place: int) -> bool:
    once = [each for each, _ in pairs if place not in _RULES[each].repeats]
    return len(once) == len(set(once))


_RULES = {rule.identifier: rule for rule in PROPERTIES}


def property_sets(place: int, without: tuple[int, ...] = ()) -> SearchStrategy[Properties]:
    """Properties that a packet type, or `WILL`, may have together."""
    rules = [rule for rule in PROPERTIES if place in rule.places and rule.identifier not in without]
    each = st.one_of([_pairs(rule) for rule in rules])
    return st.lists(each, max_size=5).filter(lambda pairs: _is_once(pairs, place)).map(tuple)


def _reasons(kind: int, sender: int) -> SearchStrategy[int]:
    allowed = sorted(reason for reason, senders in REASONS[kind].items() if senders & sender)
    return st.sampled_from(allowed)


def _ordered(properties: Properties) -> Properties:
    """The properties of a PUBLISH in the order in which they are read back: message expiry
    first among those of the message."""
    expiry = tuple(pair for pair in properties if pair[0] == MESSAGE_EXPIRY_INTERVAL)
    return expiry + tuple(pair for pair in properties if pair[0] != MESSAGE_EXPIRY_INTERVAL)


def _publish5(
    topic: str,
    payload: bytes,
    quality: int,
    retain: bool,
    packet_id: int,
    dup: bool,
    properties: Properties,
) -> Publish:
    if not quality:
        packet_id, dup = 0, False
    return make_publish(topic, payload, quality, retain, packet_id, dup, _ordered(properties))


def publishes5(without: tuple[int, ...]) -> SearchStrategy[Publish]:
    """PUBLISH packets without the properties of those identifiers."""
    return st.builds(
        _publish5,
        any_topic_names,
        payloads | st.integers(100, 20_000).map(bytes),
        qos,
        st.booleans(),
        packet_ids,
        st.booleans(),
        property_sets(PUBLISH, without),
    )


wills5 = st.builds(Will, any_topic_names, payloads, qos, st.booleans(), property_sets(WILL))
_NOT_ALONE = (AUTHENTICATION_DATA, AUTHENTICATION_METHOD)
connects5: SearchStrategy[Connect] = st.builds(
    Connect,
    text,
    st.booleans(),
    st.integers(0, 65_535),
    st.none() | wills5,
    st.none() | text,
    st.none() | payloads,
    st.just(MQTT_5),
    property_sets(CONNECT, _NOT_ALONE),
)
connacks5: SearchStrategy[ConnAck] = st.one_of(
    st.builds(ConnAck, st.booleans(), st.just(0), property_sets(CONNACK, _NOT_ALONE)),
    st.builds(
        ConnAck,
        st.just(False),
        _reasons(CONNACK, BY_SERVER).filter(lambda reason: reason != 0),
        property_sets(CONNACK),
    ),
)


def _acks5(sender: int) -> SearchStrategy[Packet]:
    return st.one_of(
        st.builds(PubAck, packet_ids, _reasons(PUBACK, sender), property_sets(PUBACK)),
        st.builds(PubRec, packet_ids, _reasons(PUBREC, sender), property_sets(PUBREC)),
        st.builds(PubRel, packet_ids, _reasons(PUBREL, sender), property_sets(PUBREL)),
        st.builds(PubComp, packet_ids, _reasons(PUBCOMP, sender), property_sets(PUBCOMP)),
    )


def _without_no_local(subscription: Subscription) -> Subscription:
    if not subscription.topic_filter.startswith("$share/"):
        return subscription
    return Subscription(subscription.topic_filter, subscription.qos)


subscriptions5: SearchStrategy[Subscription] = st.builds(
    Subscription,
    topic_filters | topic_filters.map(lambda name: f"$share/g/{name}"),
    qos,
    st.booleans(),
    st.booleans(),
    st.integers(0, 2),
).map(_without_no_local)
from_clients5: SearchStrategy[Packet] = st.one_of(
    publishes5(without=(TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER)),
    _acks5(BY_CLIENT),
    st.builds(
        Subscribe,
        packet_ids,
        st.lists(subscriptions5, min_size=1, max_size=5).map(tuple),
        property_sets(SUBSCRIBE),
    ),
    st.builds(
        Unsubscribe,
        packet_ids,
        st.lists(topic_filters, min_size=1, max_size=5).map(tuple),
        property_sets(UNSUBSCRIBE),
    ),
    st.builds(PingReq),
)
"""What a client of MQTT 5.0 that is connected may send and go on."""

from_servers5: SearchStrategy[Packet] = st.one_of(
    publishes5(without=(TOPIC_ALIAS,)),
    _acks5(BY_SERVER),
    st.builds(
        SubAck,
        packet_ids,
        st.lists(_reasons(SUBACK, BY_SERVER), min_size=1, max_size=5).map(tuple),
        property_sets(SUBACK),
    ),
    st.builds(
        UnsubAck,
        packet_ids,
        st.lists(_reasons(UNSUBACK, BY_SERVER), min_size=1, max_size=5).map(tuple),
        property_sets(UNSUBACK),
    ),
    st.builds(PingResp),
)
"""What a server of MQTT 5.0 may send after CONNACK."""

client_disconnects5 = st.builds(
    Disconnect,
    _reasons(DISCONNECT, BY_CLIENT),
    property_sets(DISCONNECT, (SESSION_EXPIRY_INTERVAL, SERVER_REFERENCE)),
)
server_disconnects5 = st.builds(
    Disconnect,
    _reasons(DISCONNECT, BY_SERVER),
    property_sets(DISCONNECT, (SESSION_EXPIRY_INTERVAL,)),
)


def auths5(reason: int, name: str) -> SearchStrategy[Auth]:
    """AUTH packets of an authentication method."""
    return property_sets(AUTH, (AUTHENTICATION_METHOD,)).map(
        lambda found: Auth(reason, ((AUTHENTICATION_METHOD, name), *found))
    )


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Data cut at the positions given, modulo its length."""
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(at)]


cut_positions = st.lists(st.integers(0, 100_000), max_size=8)
"""Where to cut data, for `pieces`."""
