"""The notation of bytes: what it encodes to, what it matches, and how it complains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import Scope, parse_pattern
from conformance._fragments import byte_by_byte, cut_anywhere
from conformance._notation import (
    NotationError,
    parse_text,
    quote,
    read_variable_byte_integer,
    split_cells,
    split_comment,
    variable_byte_integer,
)
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
    ],
)
def test_what_cannot_be_read_is_named(text: str, complaint: str) -> None:
    with pytest.raises(NotationError, match=complaint.replace("*", r"\*").replace(")", r"\)")):
        parse_pattern(text)


def test_complaints_say_what_is_allowed() -> None:
    with pytest.raises(NotationError, match=r"allowed: hex pairs \(20 02\), u10"):
        parse_pattern("xyz")


def test_what_comes_cannot_be_sent() -> None:
    for text in ("?", "..", "s(..)", "(? | 00)", "?*3"):
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


@given(st.binary(min_size=1, max_size=60))
def test_any_packet_is_described(packet: bytes) -> None:
    assert parse_pattern(notation(packet)).encode(Scope()) == packet
    assert describe(packet)


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
