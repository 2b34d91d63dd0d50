"""Messages and wills survive as bytes, and damage is seen."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.storage._errors import RecordDamagedError
from adapters.storage._records import (
    decode_message,
    decode_particulars,
    decode_will,
    encode_message,
    encode_particulars,
    encode_will,
)
from mqtt_core import Message, Will, make_message
from mqtt_core import properties as props
from mqtt_core._codes import PUBLISH
from mqtt_core._properties import SUBSCRIPTION_IDENTIFIER, TOPIC_ALIAS, WILL
from mqtt_core.broker import Particulars
from tests import strategies

PROPERTIES = strategies.property_sets(PUBLISH, (TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER))

messages = st.builds(
    make_message,
    strategies.any_topic_names,
    strategies.payloads,
    strategies.qos,
    st.booleans(),
    PROPERTIES,
)
wills = st.builds(
    Will,
    strategies.any_topic_names,
    strategies.payloads,
    strategies.qos,
    st.booleans(),
    strategies.property_sets(WILL),
)


@given(messages, st.floats(0, 1e12))
@example(make_message("t", b""), 0.0)
def test_a_message_is_what_it_was(message: Message, expires_at: float) -> None:
    if message.expiry_s >= 0:
        message.expires_at = expires_at
    found = decode_message(encode_message(message))
    assert found == message
    assert found.properties == message.properties
    assert found.expires_at == message.expires_at
    assert found.size_bytes == message.size_bytes


@given(wills)
def test_a_will_is_what_it_was(will: Will) -> None:
    assert decode_will(encode_will(will)) == will


@given(
    st.none()
    | st.builds(
        Particulars,
        st.booleans(),
        st.lists(st.integers(1, 268_435_455), max_size=3).map(tuple),
        st.binary(max_size=9),
    )
)
def test_particulars_are_what_they_were(particulars: Particulars | None) -> None:
    assert decode_particulars(encode_particulars(particulars)) == particulars


@pytest.mark.parametrize("is_will", [False, True])
def test_every_flipped_bit_is_seen(is_will: bool) -> None:
    properties = ((props.MESSAGE_EXPIRY_INTERVAL, 9), (props.USER_PROPERTY, ("a", "b")))
    message = make_message("a/b", b"payload", 1, False, properties)
    will = Will("a/b", b"payload", 1, False, properties)
    record = encode_will(will) if is_will else encode_message(message)
    for at in range(len(record)):
        for bit in (1, 0x80):
            damaged = bytearray(record)
            damaged[at] ^= bit
            with pytest.raises(RecordDamagedError):
                decode_will(bytes(damaged)) if is_will else decode_message(bytes(damaged))
        with pytest.raises(RecordDamagedError):
            decode_will(record[:at]) if is_will else decode_message(record[:at])


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\xc2\x90", b"\x01", b"\x93\xc2\x01\xc4\x00"])
def test_damaged_particulars_are_seen(data: bytes) -> None:
    with pytest.raises(RecordDamagedError):
        decode_particulars(data)
