"""The notation of bytes: what it encodes to, what it matches, and how it complains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import Scope, parse_pattern
from conformance._fragments import byte_by_byte, cut_anywhere
from conformance._items import (
    NotationError,
    read_variable_byte_integer,
    variable_byte_integer,
)
from conformance._notation import parse_text, quote, split_cells, split_comment
from conformance._readable import describe, notation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20 02 00 00", b"\x20\x02\0\0"),
        ("200200", b"\x20\x02\0"),
        ("u10 u65535", b"\0\x0a\xff\xff"),
        ("'a b'", b"a b"),
        ("s'MQTT'", b"\0\4MQTT"),
        (r"'\x00\n\t\\\'\u{e9}'", b"\0\n\t\\'\xc3\xa9"),
        ("'\u20ac'", b"\xe2\x82\xac"),
        ("s(ff 'a')", b"\0\2\xffa"),
        ("s''", b"\0\0"),
        ("v('a'*200)", b"\xc8\x01" + b"a" * 200),
        ("10 rl s'x'", b"\x10\x03\0\1x"),
        ("10 rl", b"\x10\x00"),
        ("10 rl+1 00", b"\x10\x02\0"),
        ("10 rl-1 00 00", b"\x10\x01\0\0"),
        ("30 rl 'p'*130", b"\x30\x82\x01" + b"p" * 130),
        ("(t'a' 00)*2", b"\0\1a\0\0\1a\0"),
        ("00*3", b"\0\0\0"),
        ("c0 00 ; d0 00", b"\xc0\0\xd0\0"),
        ("20 02 00 05 | 20 02 00 04", b"\x20\x02\0\5"),
        ("(32 | 3a) 00", b"\x32\0"),
        ("'|;()#'", b"|;()#"),
        ("40 rl u1 r00 ; 40 rl u1 r87", b"\x40\2\0\1\x40\3\0\1\x87"),
        ("[]", b"\0"),
        ("[receive-maximum 10]", b"\3\x21\0\x0a"),
        ("[maximum-qos 1, topic-alias 2]", b"\5\x24\1\x23\0\2"),
        ("[session-expiry-interval 4294967295]", b"\5\x11\xff\xff\xff\xff"),
        ("[subscription-identifier 268435455]", b"\5\x0b\xff\xff\xff\x7f"),
        ("[content-type 'a,b']", b"\6\x03\0\3a,b"),
        ("[response-topic t'r']", b"\4\x08\0\1r"),
        ("[correlation-data (00 ff)]", b"\5\x09\0\2\0\xff"),
        ("[user-property 'k' 'v', user-property 'k' '']", b"\x0d\x26\0\1k\0\1v\x26\0\1k\0\0"),
        ("[reason-string 'a'*200]", b"\xcb\x01\x1f\0\xc8" + b"a" * 200),
    ],
)
def test_encode(text: str, expected: bytes) -> None:
    assert parse_pattern(text).encode(Scope()) == expected


def test_names_get_the_prefix_of_the_scope() -> None:
    scope = Scope("k7")
    assert parse_pattern("c'a' t'b/#' s'c' t('d' 65)").encode(scope) == (
        b"\0\3k7a" + b"\0\6k7/b/#" + b"\0\1c" + b"\0\5k7/de"
    )
    assert scope.client_ids == {b"k7a"}
    assert scope.topics == {b"k7/de"}  # what can be published to


def test_variables_are_bound_compared_and_sent() -> None:
    scope = Scope()
    delivery = parse_pattern("32 rl t't' $id 'x'")
    assert delivery.match(b"\x32\x06\0\1t\x12\x34x", scope) == 0
    assert scope.values == {"id": b"\x12\x34"}
    assert delivery.match(b"\x32\x06\0\1t\x12\x35x", scope) is None
    assert parse_pattern("40 02 $id").encode(scope) == b"\x40\x02\x12\x34"
    assert parse_pattern("'n' d$id").encode(scope) == b"n4660"


def test_values_of_properties_are_bound_too() -> None:
    scope = Scope()
    connack = parse_pattern("[assigned-client-identifier $id, topic-alias-maximum $most, ..]")
    assert connack.match(b"\x08\x12\0\2ab\x22\0\5", scope) == 0
    assert scope.values == {"id": b"ab", "most": b"\0\5"}
    assert parse_pattern("s($id) [topic-alias $most]").encode(scope) == b"\0\2ab\3\x23\0\5"
    assert connack.variables() == {"id", "most"}


def test_a_shared_filter_gets_the_prefix_in_both_its_parts() -> None:
    scope = Scope("k7")
    assert parse_pattern("t'$share/g/t/#'").encode(scope) == b"\0\x11$share/k7g/k7/t/#"
    assert parse_pattern("t'$share/g/t'").encode(scope) == b"\0\x0f$share/k7g/k7/t"
    assert parse_pattern("t'$share/g'").encode(scope) == b"\0\x0bk7/$share/g"


def test_a_failed_match_binds_nothing() -> None:
    scope = Scope()
    assert parse_pattern("32 $id ff").match(b"\x32\0\1\0", scope) is None
    assert scope.values == {}


@pytest.mark.parametrize(
    ("text", "packet", "expected"),
    [
        ("20 02 00 00", b"\x20\x02\0\0", 0),
        ("20 02 00 00", b"\x20\x02\0\0\0", None),
        ("20 02 00 05 | 20 02 00 04", b"\x20\x02\0\4", 1),
        ("20 ? 00", b"\x20\xff\0", 0),
        ("20 ?", b"\x20", None),
        ("30 ..", b"\x30abc", 0),
        ("30 s(..) 'x'", b"\x30\0\3abcx", 0),
        ("30 s('a' ..) 'x'", b"\x30\0\3abcx", 0),
        ("30 s('b' ..) 'x'", b"\x30\0\3abcx", None),
        ("30 s(..)", b"\x30\0\x09a", None),
        ("30 v(..) ff", b"\x30\x02ab\xff", 0),
        ("30 v(..)", b"\x30\xff", None),
        ("(32 | 3a) 00", b"\x3a\0", 0),
        ("(00 | 00 01) 02", b"\0\1\2", 0),
        ("30 rl 'ab'", b"\x30\x02ab", 0),
        ("30 rl 'ab'", b"\x30\x82\x00ab", None),
        ("30 rl 'ab'", b"\x30\x03ab", None),
        ("(01 ?)*2", b"\1\7\1\x08", 0),
        ("$x:1 $y:*", b"abc", 0),
        ("30 t't'", b"\x30\0\1t", 0),
        ("30 t('t' 74)", b"\x30\0\2tt", 0),
        ("30 rl..2 ..", b"\x30\2ab", 0),
        ("30 rl..2 ..", b"\x30\3abc", None),
        ("40 rl u1 r00", b"\x40\2\0\1", 0),
        ("40 rl u1 r00", b"\x40\3\0\1\0", 0),
        ("40 rl u1 r00", b"\x40\4\0\1\0\0", 0),
        ("40 rl u1 r10", b"\x40\2\0\1", None),
        ("40 rl u1 r10", b"\x40\4\0\1\x10\0", 0),
        ("40 rl u1 (r00 | r10)", b"\x40\3\0\1\x10", 0),
        ("[]", b"\0", 0),
        ("[]", b"\x80\0", None),
        ("[]", b"\2\x24\1", None),
        ("[..]", b"\0", 0),
        ("[..]", b"\2\x24\1", 0),
        ("[..]", b"\2\x7f\1", None),
        ("[..]", b"\3\x24\1", None),
        ("[..]", b"\2\x21\1", None),
        ("[..] ff", b"\2\x24\1\xff", 0),
        ("[maximum-qos 1]", b"\2\x24\1", 0),
        ("[maximum-qos 1]", b"\2\x24\0", None),
        ("[maximum-qos ?]", b"\2\x24\0", 0),
        ("[maximum-qos 1, retain-available 0]", b"\4\x25\0\x24\1", 0),
        ("[maximum-qos 1]", b"\4\x25\0\x24\1", None),
        ("[maximum-qos 1, ..]", b"\4\x25\0\x24\1", 0),
        ("[maximum-qos 1, ..]", b"\4\x24\1\x24\1", None),
        ("[no maximum-qos, ..]", b"\2\x25\0", 0),
        ("[no maximum-qos, ..]", b"\4\x25\0\x24\1", None),
        ("[server-keep-alive 5-7]", b"\3\x13\0\6", 0),
        ("[server-keep-alive 5-7]", b"\3\x13\0\x08", None),
        ("[reason-string ?]", b"\5\x1f\0\2ab", 0),
        ("[reason-string (..)]", b"\5\x1f\0\2ab", 0),
        ("[reason-string ('a' ..)]", b"\5\x1f\0\2ba", None),
        (
            "[user-property 'a' '', user-property 'b' '']",
            b"\x0c\x26\0\1a\0\0\x26\0\1b\0\0",
            0,
        ),
        (
            "[user-property 'a' '', user-property 'b' '']",
            b"\x0c\x26\0\1b\0\0\x26\0\1a\0\0",
            None,
        ),
        ("[subscription-identifier 1, subscription-identifier 2]", b"\4\x0b\2\x0b\1", 0),
        ("[subscription-identifier 1, subscription-identifier 1]", b"\4\x0b\2\x0b\1", None),
        ("[subscription-identifier 1]", b"\3\x0b\x81\0", None),
    ],
)
def test_match(text: str, packet: bytes, expected: int | None) -> None:
    assert parse_pattern(text).match(packet, Scope()) == expected


def test_the_first_alternative_alone() -> None:
    either = parse_pattern("20 02 00 05 | 20 02 00 04")
    assert either.match(b"\x20\x02\0\4", Scope(), first_only=True) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no bytes"),
        ("20 ;", "no bytes"),
        ("2", "cannot read '2'"),
        ("hello", "cannot read 'hello'"),
        ("u70000", "at most u65535"),
        ("'open", "has no end"),
        (r"'\q'", "unknown escape"),
        ("s(00", "no closing parenthesis"),
        ("00)", "cannot read ')'"),
        ("00*", "cannot read '*'"),
        ("[receive-maximum 5", "no closing bracket"),
        ("[receive-maximum 5 6]", "no closing bracket"),
        ("[receive-maximum]", "is no value of receive-maximum"),
        ("[receive-maximum 65536]", "does not fit: receive-maximum is a two bytes"),
        ("[subscription-identifier 268435456]", "does not fit"),
        ("[expiry 5]", "unknown property 'expiry'; allowed: payload-format-indicator"),
        ("[no expiry]", "unknown property 'expiry'"),
        ("[5]", "cannot read '5]' as a property"),
        ("[reason-string", "cannot read ''"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, complaint: str) -> None:
    with pytest.raises(NotationError, match=complaint.replace("*", r"\*").replace(")", r"\)")):
        parse_pattern(text)


def test_complaints_say_what_is_allowed() -> None:
    with pytest.raises(NotationError, match=r"allowed: hex pairs \(20 02\), u10"):
        parse_pattern("xyz")


def test_what_comes_cannot_be_sent() -> None:
    for text in (
        *(
            "?",
            "..",
            "rl..9 00",
            "s(..)",
            "(? | 00)",
            "?*3",
            "[..]",
            "[no topic-alias]",
            "[topic-alias ?]",
        ),
        *("[topic-alias 1-2]", "[reason-string ?]"),
    ):
        assert not parse_pattern(text).is_sendable()
        with pytest.raises(NotationError, match="cannot be sent"):
            parse_pattern(text).encode(Scope())
    with pytest.raises(NotationError, match=r"\$id is sent before"):
        parse_pattern("$id").encode(Scope())
    with pytest.raises(NotationError, match=r"d\$id is used before"):
        parse_pattern("d$id").encode(Scope())


def test_comments_and_cells_respect_quotes() -> None:
    assert split_comment("> '#' 00  # it's a comment") == "> '#' 00"
    assert split_comment("# all of it") == ""
    assert split_cells("cases | '|' | (a | b) | c") == ["cases", "'|'", "(a | b)", "c"]


def test_fixed_text_only() -> None:
    assert parse_text("'a'*3") == b"aaa"
    with pytest.raises(NotationError, match="must be fixed bytes"):
        parse_text("$x")


@given(st.binary(max_size=60))
def test_a_quoted_string_is_read_back(data: bytes) -> None:
    assert parse_text(quote(data)) == data


@given(st.integers(0, 268_435_455))
def test_lengths_are_read_back(value: int) -> None:
    data = variable_byte_integer(value)
    assert read_variable_byte_integer(data, 0) == (value, len(data))


def test_a_length_of_five_bytes_is_none() -> None:
    assert read_variable_byte_integer(b"\xff\xff\xff\xff\x01", 0) is None
    assert read_variable_byte_integer(b"\xff", 0) is None


@given(st.binary(min_size=1, max_size=60), st.sampled_from((4, 5)))
def test_any_packet_is_described(packet: bytes, level: int) -> None:
    assert parse_pattern(notation(packet, level)).encode(Scope()) == packet
    assert describe(packet, level)


@given(st.integers(0, 255), st.binary(max_size=60), st.sampled_from((4, 5)))
def test_any_packet_of_the_right_length_is_described(first: int, body: bytes, level: int) -> None:
    packet = bytes((first, len(body))) + body
    assert parse_pattern(notation(packet, level)).encode(Scope()) == packet


@pytest.mark.parametrize(
    "text",
    [
        "10 rl s'MQTT' 05 02 u60 [] c'a'",
        "10 rl s'MQTT' 05 c6 u60 [receive-maximum 5] c'a' [topic-alias 3] t'w' s'z' s'u' s'p'",
        "20 rl 00 00 [assigned-client-identifier 'x', topic-alias-maximum 10]",
        "20 rl 00 87 [reason-string 'no']",
        "30 rl t't' [] 'x'",
        "30 rl s'' [topic-alias 1] 'x'",
        "32 rl t't' u10 [user-property 'k' 'v', user-property 'k' '']",
        "40 02 u10",
        "40 rl u10 10",
        "40 rl u10 87 [reason-string 'no']",
        "82 rl u1 [subscription-identifier 200] t'$share/g/t' 01",
        "90 rl u1 [] 01",
        "a2 rl u1 [] t't'",
        "b0 rl u1 [] 11",
        "e0 00",
        "e0 rl 04",
        "e0 rl 81 [reason-string 'bad']",
        "f0 rl 18 [authentication-method 'X', authentication-data '\\x00\\xff']",
    ],
)
def test_packets_of_5_are_described_in_the_notation(text: str) -> None:
    assert notation(parse_pattern(text).encode(Scope()), level=5) == text


@pytest.mark.parametrize(
    "text",
    [
        "10 rl s'MQTT' 04 02 u60 c'a'",
        "10 rl s'MQTT' 04 c6 u60 c'a' t'w' s'z' s'u' s'p'",
        "10 rl s'MQTT' 04 c2 u60 c'a' s'u'",
        "20 02 00 00",
        "30 rl t't' 'x'",
        "30 rl s''",
        "32 rl t't' u10 'x'",
        "30 rl s'$SYS/x' 'it\\'s'",
        "40 02 u10",
        "62 02 u10",
        "82 rl u1 t'a/#' 00 t'b' 01",
        "90 rl u1 00 01",
        "a2 rl u1 t'a' t'b'",
        "b0 02 u1",
        "c0 00",
        "e0 00",
    ],
)
def test_packets_are_described_in_the_notation(text: str) -> None:
    assert notation(parse_pattern(text).encode(Scope())) == text


def test_long_and_empty_ones_are_described_too() -> None:
    assert describe(b"") == "no bytes"
    assert "(10003 bytes)" in describe(b"\x30\x90\x4e" + b"x" * 10_000)


@given(st.binary(min_size=1, max_size=9000), st.integers(0, 5))
def test_pieces_are_the_whole(data: bytes, seed: int) -> None:
    assert b"".join(byte_by_byte(data)) == data
    pieces = cut_anywhere(seed)(data)
    assert b"".join(pieces) == data
    assert all(pieces)
