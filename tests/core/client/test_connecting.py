"""How a client connects, in which version, when it comes back, and when it does not."""

from __future__ import annotations

import pytest

from mqtt_core import MQTT_3_1_1, MQTT_5, Will
from mqtt_core.client import (
    AUTO,
    ClientClosed,
    ClientLimits,
    Connected,
    ConnectError,
    ConnectionLost,
    ConnectionRefused,
    Ended,
    Lost,
    Reconnect,
    Retrying,
    Settings,
)
from mqtt_core.properties import USER_PROPERTY, WILL_DELAY_INTERVAL
from tests.core import wire, wire5
from tests.core.wire import string, u16
from tests.core.wire5 import prop, reason_string, u32
from tests.line import Hand, Line, settings
from tests.rig import Rig


def longest(count: int) -> bytes:
    """Entropy by which every pause is as long as it may be."""
    return b"\xff" * count


ASKED = (prop(0x21, u16(1_000)), prop(0x19, b"\x01"))
EXPIRY = prop(0x11, u32(300))


def test_connect_asks_for_a_session_that_outlives_a_broken_connection() -> None:
    hand = Hand()
    assert hand.open() == wire5.connect("c", EXPIRY, *ASKED)
    hand.give(wire5.connack())
    assert hand.events() == [Connected(False, MQTT_5)]
    assert hand.client.is_online
    assert hand.client.level == 5


def test_an_empty_client_identifier_is_made_up() -> None:
    hand = Hand(settings(client_id=""), lambda n: b"\xab" * n)
    assert hand.open() == wire5.connect("iotd" + "ab" * 8, EXPIRY, *ASKED)
    assert hand.client.client_id == "iotd" + "ab" * 8


def test_an_assigned_client_identifier_is_used_from_then_on() -> None:
    hand = Hand()
    hand.accept(prop(0x12, string("assigned")))
    assert hand.client.client_id == "assigned"
    hand.cut()
    hand.come_back()
    assert hand.open() == wire5.connect("assigned", EXPIRY, *ASKED, clean=False)


def test_3_1_1_has_a_clean_session_where_none_is_to_last() -> None:
    hand = Hand(settings(level=MQTT_3_1_1))
    assert hand.open() == wire.connect("c", clean=True)
    hand.give(wire.connack())
    hand.cut()
    hand.come_back()
    assert hand.open() == wire.connect("c", clean=True)


def test_a_lasting_session_is_asked_for_from_the_beginning() -> None:
    hand = Hand(settings(session_expiry_s=3_600))
    assert hand.open() == wire5.connect("c", prop(0x11, u32(3_600)), *ASKED, clean=False)
    hand = Hand(settings(level=MQTT_3_1_1, session_expiry_s=3_600))
    assert hand.open() == wire.connect("c", clean=False)


def test_everything_that_a_user_can_say_goes_into_connect() -> None:
    will = Will("w", b"gone", 1, True, ((WILL_DELAY_INTERVAL, 5),))
    given = Settings(
        client_id="c",
        username="u",
        password=b"p",
        level=5,
        keep_alive_s=30,
        will=will,
        properties=((USER_PROPERTY, ("k", "v")),),
        limits=ClientLimits(max_packet_size_bytes=1_000, receive_maximum=7),
    )
    hand = Hand(given)
    assert hand.open() == wire5.connect(
        "c",
        prop(0x27, u32(1_000)),
        prop(0x21, u16(7)),
        prop(0x19, b"\x01"),
        wire5.user("k", "v"),
        keep_alive_s=30,
        will=wire5.Will5("w", b"gone", 1, True, prop(0x18, u32(5))),
        username="u",
        password=b"p",
    )


def test_a_will_goes_without_properties_where_3_1_1_has_none() -> None:
    will = Will("w", b"gone", 1, True, ((WILL_DELAY_INTERVAL, 5),))
    hand = Hand(settings(level=MQTT_3_1_1, will=will))
    plain = wire.connect("c", will=("w", b"gone", 1, True))
    assert hand.open() == plain


# Versions


@pytest.mark.parametrize("answer", [wire5.connack(0x84), wire.connack(1), b"\x20\x00", None])
def test_auto_falls_back_where_the_server_has_no_5(answer: bytes | None) -> None:
    hand = Hand(settings(level=AUTO))
    assert hand.open() == wire5.connect("c", EXPIRY, *ASKED)
    if answer is None:
        hand.cut()
    else:
        hand.give(answer)
        hand.close()
    assert hand.client.wants_transport  # at once
    assert hand.open() == wire.connect("c")
    hand.give(wire.connack())
    assert hand.events()[-1] == Connected(False, MQTT_3_1_1)
    hand.cut()
    hand.come_back()
    assert hand.open() == wire.connect("c")  # it remembers


def test_auto_tries_5_again_where_3_1_1_fared_no_better() -> None:
    hand = Hand(settings(level=AUTO))
    hand.accept()
    hand.cut()
    hand.come_back()
    hand.open()
    hand.cut()
    assert not hand.client.wants_transport  # 5.0 has been taken before
    hand.come_back()
    assert hand.open()[8] == MQTT_5


def test_auto_falls_back_where_5_gets_no_answer_in_time() -> None:
    hand = Hand(settings(level=AUTO))
    hand.open()
    hand.advance(10)
    hand.close()
    assert hand.open() == wire.connect("c")
    hand.advance(10)
    hand.close()
    assert "no CONNACK in time" in str(hand.client.error)


def test_auto_ends_where_neither_version_gets_an_answer() -> None:
    hand = Hand(settings(level=AUTO))
    hand.open()
    hand.cut()
    hand.open()
    hand.cut()
    error = hand.client.error
    assert isinstance(error, ConnectError)
    assert str(error) == (
        "cannot connect to the server: the server has closed the connection without an answer"
    )
    assert hand.client.counters.failed_attempts == 2


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_a_fixed_version_stays(level: int) -> None:
    hand = Hand(settings(level=level))
    hand.open()
    hand.give(wire.connack(1) if level == MQTT_3_1_1 else wire5.connack(0x84))
    hand.close()
    error = hand.client.error
    assert isinstance(error, ConnectionRefused)
    assert error.reason == 0x84
    assert "version='auto'" in str(error)


# The first connection


def test_a_server_that_cannot_be_reached_at_first_is_an_error() -> None:
    hand = Hand()
    hand.client.open_failed("connection refused", hand.now)
    assert hand.client.has_ended
    assert hand.events()[0] == Lost("connection refused")
    assert str(hand.client.error) == "cannot connect to the server: connection refused"


def test_a_refusal_says_what_to_do() -> None:
    hand = Hand()
    hand.open()
    hand.give(wire5.connack(0x86, reason_string("no such user")))
    hand.close()
    error = hand.client.error
    assert isinstance(error, ConnectionRefused)
    assert (error.reason, error.reason_string) == (0x86, "no such user")
    assert str(error) == (
        "the server refuses the connection: bad user name or password (no such user); "
        "check username and password"
    )


def test_a_refusal_without_advice_is_told_as_it_is() -> None:
    hand = Hand()
    hand.open()
    hand.give(wire5.connack(0x80))
    hand.close()
    assert str(hand.client.error) == "the server refuses the connection: unspecified error"


def test_no_connack_in_time_is_the_end_of_the_first_attempt() -> None:
    hand = Hand(settings(connect_timeout_s=5.0))
    hand.open()
    hand.advance(5)
    hand.close()
    assert str(hand.client.error) == "cannot connect to the server: no CONNACK in time"


def test_a_connect_that_cannot_be_sent_is_said() -> None:
    given = Settings(client_id="c", password=b"p", level=AUTO)
    hand = Hand(given)
    hand.open()
    hand.give(wire5.connack(0x84))
    hand.close()
    hand.open()
    hand.close()
    assert isinstance(hand.client.error, ConnectError)
    assert "CONNECT cannot be sent" in str(hand.client.error)


# Coming back


def test_it_comes_back_later_and_later() -> None:
    hand = Hand(settings(reconnect=Reconnect(0.5, 3.0)), longest)
    hand.accept()
    hand.cut()
    lost, retrying = hand.events()[1:]
    assert lost == Lost("the server has closed the connection")
    assert isinstance(retrying, Retrying)
    assert (retrying.attempt, round(retrying.delay_s, 3)) == (1, 0.5)
    pauses: list[float] = []
    for _ in range(5):
        hand.come_back()
        hand.client.open_failed("refused", hand.now)
        retrying = hand.events()[-1]
        assert isinstance(retrying, Retrying)
        pauses.append(round(retrying.delay_s, 3))
    assert pauses == [1.0, 2.0, 3.0, 3.0, 3.0]
    assert hand.client.counters.failed_attempts == 5
    assert hand.client.counters.lost_connections == 1


def test_a_connection_that_lasts_is_a_new_beginning() -> None:
    hand = Hand(settings(reconnect=Reconnect(0.5, 3.0)), longest)
    hand.accept()
    for lasts_s, pause_s in ((0.0, 0.5), (1.0, 1.0), (3.0, 0.5)):
        hand.advance(lasts_s)
        hand.cut("reset")
        retrying = hand.events()[-1]
        assert isinstance(retrying, Retrying)
        assert retrying.delay_s == pytest.approx(pause_s)
        hand.come_back()
        hand.accept(present=True)


def test_nothing_is_due_before_its_time() -> None:
    hand = Hand(entropy=longest)
    hand.accept()
    hand.cut()
    hand.client.advance(hand.now)
    assert not hand.client.wants_transport


def test_without_reconnect_it_ends_with_its_connection() -> None:
    hand = Hand(settings(reconnect=None))
    assert hand.open() == wire5.connect("c", *ASKED)  # and the session does as well
    hand.give(wire5.connack())
    hand.cut()
    assert isinstance(hand.client.error, ConnectionLost)
    with pytest.raises(ClientClosed, match="make a new one") as raised:
        hand.publish()
    assert raised.value.__cause__ is hand.client.error


def test_a_lasting_refusal_ends_a_client_that_comes_back() -> None:
    hand = Hand()
    hand.accept()
    hand.cut()
    hand.come_back()
    hand.open()
    hand.give(wire5.connack(0x87))
    hand.close()
    assert isinstance(hand.client.error, ConnectionRefused)


def test_a_passing_refusal_does_not() -> None:
    hand = Hand()
    hand.accept()
    hand.cut()
    hand.come_back()
    hand.open()
    hand.give(wire5.connack(0x89))
    hand.close()
    assert not hand.client.has_ended
    hand.come_back()


@pytest.mark.parametrize(("reason", "ends"), [(0x8E, True), (0x87, True), (0x8B, False)])
def test_the_servers_disconnect_says_whether_to_come_back(reason: int, ends: bool) -> None:
    hand = Hand()
    hand.accept()
    hand.give(wire5.disconnect(reason, reason_string("so be it")))
    hand.close()
    assert hand.client.has_ended is ends
    lost = hand.events()[1]
    assert isinstance(lost, Lost)
    assert lost.reason == reason
    assert "so be it" in lost.why


# Other servers


def test_it_goes_where_it_is_sent_and_back_again() -> None:
    hand = Hand(settings(max_redirects=1))
    hand.open()
    hand.give(wire5.connack(0x9C, prop(0x1C, string("other:1884 third"))))
    hand.close()
    assert hand.client.wants_transport
    assert hand.client.server_reference == "other:1884"
    hand.accept()
    hand.advance(30)  # a connection that lasts is a new beginning
    hand.give(wire5.disconnect(0x9D, prop(0x1C, string("for-good"))))
    hand.close()
    assert hand.client.server_reference == "for-good"
    hand.accept()
    hand.cut()
    assert hand.client.server_reference == "for-good"


def test_another_server_for_once_is_forgotten_with_its_connection() -> None:
    hand = Hand()
    hand.accept()
    hand.give(wire5.disconnect(0x9C, prop(0x1C, string("other"))))
    hand.close()
    hand.client.open_failed("nobody there", hand.now)
    assert str(hand.events()[-2]) == "Lost(why='nobody there', reason=0)"
    assert hand.client.server_reference == ""


def test_it_does_not_run_in_circles() -> None:
    hand = Hand(settings(max_redirects=2))
    for _ in range(2):
        hand.open()
        hand.give(wire5.connack(0x9C, prop(0x1C, string("other"))))
        hand.close()
    hand.open()
    hand.give(wire5.connack(0x9C, prop(0x1C, string("other"))))
    hand.close()
    error = hand.client.error
    assert isinstance(error, ConnectionRefused)
    assert error.server_reference == "other"
    assert "connect to the server that it names" in str(error)


def test_servers_that_take_it_and_send_it_on_have_it_wait_as_well() -> None:
    hand = Hand(settings(max_redirects=2))
    hand.accept()
    for _ in range(3):
        for _ in range(2):
            hand.give(wire5.disconnect(0x9C, prop(0x1C, string("other"))))
            hand.close()
            assert hand.client.server_reference == "other"
            hand.accept(present=True)
        hand.give(wire5.disconnect(0x9C, prop(0x1C, string("other"))))
        hand.close()
        assert not hand.client.wants_transport
        hand.come_back()
        assert hand.client.server_reference == ""
        hand.accept(present=True)


def test_a_disconnect_that_names_no_server_is_one_like_others() -> None:
    hand = Hand()
    hand.accept()
    hand.give(wire5.disconnect(0x9C))
    hand.close()
    hand.come_back()


# The end


def test_disconnect_ends_the_session_that_nobody_comes_back_to() -> None:
    hand = Hand()
    hand.accept()
    hand.client.disconnect(hand.now)
    assert not hand.client.wants_read
    assert hand.close() == wire5.disconnect(0, prop(0x11, u32(0)))
    assert hand.events()[1:] == [Ended(None)]
    assert hand.client.error is None
    hand.client.disconnect(hand.now)  # harmless
    assert hand.events() == []


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
def test_disconnect_leaves_a_lasting_session(level: int) -> None:
    hand = Hand(settings(level=level, session_expiry_s=60))
    hand.accept()
    hand.client.disconnect(hand.now)
    assert hand.close() == b"\xe0\x00"


def test_disconnect_before_during_and_between_connections() -> None:
    hand = Hand()
    hand.client.disconnect(hand.now)
    assert hand.client.has_ended

    hand = Hand()
    hand.open()
    hand.client.disconnect(hand.now)
    assert hand.close() == b""
    assert hand.client.has_ended

    hand = Hand()
    hand.accept()
    hand.cut()
    hand.client.disconnect(hand.now)
    assert hand.client.has_ended

    hand = Hand()
    hand.accept()
    hand.give(wire5.disconnect(0x8B))
    hand.client.disconnect(hand.now)
    assert not hand.client.has_ended
    hand.close()
    assert hand.client.error is None


def test_nothing_can_be_asked_of_a_client_that_is_closed() -> None:
    hand = Hand()
    hand.accept()
    hand.client.disconnect(hand.now)
    with pytest.raises(ClientClosed):
        hand.publish()
    with pytest.raises(ClientClosed):
        hand.subscribe(("a", 0))


def test_data_and_ends_that_come_late_change_nothing() -> None:
    hand = Hand()
    hand.give(b"\xd0\x00")
    hand.accept()
    hand.client.disconnect(hand.now)
    hand.give(b"\xd0\x00")
    hand.client.advance(hand.now + 1e6)
    hand.close()
    hand.cut()
    assert hand.client.data_to_send(hand.now) == b""
    assert hand.client.next_deadline() is None
    hand.client.open_failed("late", hand.now)
    hand.client.advance(hand.now)
    assert hand.client.has_ended
    assert not hand.client.has_output
    assert not hand.client.is_full


# What a server does wrong


def test_a_server_that_breaks_mqtt_is_told_so_and_left() -> None:
    hand = Hand()
    hand.accept()
    hand.give(wire5.connack())
    assert hand.close() == wire5.disconnect(0x82)
    lost = hand.events()[1]
    assert isinstance(lost, Lost)
    assert "does not keep to MQTT" in lost.why
    hand.come_back()


def test_a_server_of_3_1_1_cannot_be_told() -> None:
    hand = Hand(settings(level=MQTT_3_1_1))
    hand.accept()
    hand.give(wire.connack())
    assert hand.close() == b""


def test_a_session_where_there_can_be_none_is_an_error() -> None:
    hand = Hand()
    hand.open()
    hand.give(wire5.connack(present=True))
    hand.close()
    assert "session present for a clean session" in str(hand.client.error)


def test_a_server_that_takes_no_packets_is_left() -> None:
    hand = Hand()
    hand.open()
    hand.give(wire5.connack(0, prop(0x27, u32(8))))
    hand.close()
    assert "takes no packet over 8 bytes" in str(hand.client.error)


# Keep-alive


def test_it_keeps_the_connection_alive_and_notices_a_dead_one() -> None:
    hand = Hand(settings(keep_alive_s=10))
    hand.accept()
    hand.advance(7.5)
    assert hand.sent() == b"\xc0\x00"
    hand.give(b"\xd0\x00")
    hand.advance(7.5)
    assert hand.sent() == b"\xc0\x00"
    hand.advance(10)
    hand.close()
    assert Lost("no PINGRESP within the keep-alive period") in hand.events()


def test_the_servers_keep_alive_counts() -> None:
    hand = Hand(settings(keep_alive_s=100))
    hand.accept(prop(0x13, u16(4)))
    hand.advance(3)
    assert hand.sent() == b"\xc0\x00"


def test_a_whole_life_against_a_broker() -> None:
    line = Line(Rig())
    line.start()
    assert line.events() == [Connected(False, MQTT_5)]
    line.cut()
    line.advance(1)
    assert line.events()[-1] == Connected(True, MQTT_5)
    assert line.client.session_present
    line.client.disconnect(line.now)
    line.move()
    assert line.client.has_ended


# Settings


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Settings(level=3), "version is 3"),
        (lambda: Settings(keep_alive_s=65_536), "keep_alive_s is 65536"),
        (lambda: Settings(session_expiry_s=-1), "session_expiry_s is -1"),
        (lambda: Settings(session_expiry_s=1), "give it a client_id"),
        (lambda: Settings(password=b"", level=4), "no password without a username"),
        (lambda: Settings(will=Will("a/#", b"")), "will cannot be published"),
        (lambda: Reconnect(0), "first_s is 0"),
        (lambda: Reconnect(2, 1), "first_s is 2"),
        (lambda: ClientLimits(receive_maximum=0), "receive_maximum is 0"),
        (lambda: ClientLimits(nonsense=0), "unknown limits: nonsense"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(wrong: object, says: str) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=says):
        wrong()


def test_events_can_be_compared_and_read() -> None:
    assert Connected(True, 5) == Connected(True, 5)
    assert Connected(True, 5) != Lost("x")
    assert len({Lost("x"), Lost("x"), Ended(None)}) == 2
    assert repr(Retrying(1, 0.5)) == "Retrying(attempt=1, delay_s=0.5)"
