"""What CONNACK announces where a limit stands in the way of another, or of the client."""

from __future__ import annotations

from tests.core import wire, wire5
from tests.rig import Rig

ASKS = wire5.prop(0x19, b"\x01")


def test_a_client_may_have_no_more_unacknowledged_than_it_may_hold() -> None:
    rig = Rig(max_held_identifiers=3, receive_maximum=100)
    client = rig.connect5("c")
    assert wire5.prop(0x21, b"\x00\x03") in client.announced
    for packet_id in (1, 2, 3):
        client.send(wire5.publish("t", b"x", 2, packet_id))
    assert client.take() == b"".join(wire5.pubrec(number, 0x10) for number in (1, 2, 3))
    client.send(wire5.publish("t", b"x", 2, 4))
    assert client.frames()[0].body[0] == 0x93


def test_a_client_is_told_where_to_have_answers_sent_if_it_asks() -> None:
    rig = Rig(response_information="reply/%c")
    assert wire5.prop(0x1A, wire.string("reply/c")) in rig.connect5("c", ASKS).announced
    assert b"reply" not in rig.connect5("c").announced
    assert wire5.prop(0x1A) not in Rig().connect5("c", ASKS).announced


def test_response_information_that_is_too_long_is_left_out() -> None:
    rig = Rig(response_information="reply/%c", max_client_id_bytes=65_535)
    longest = "c" * (65_535 - len("reply/"))
    assert wire.string("reply/" + longest) in rig.connect5(longest, ASKS).announced
    client = rig.connect5(longest + "c", ASKS)
    assert b"reply" not in client.announced
    rig.no_faults()
