"""Server URLs: what they may be, and what is said of those that are none."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from adapters.stages import AddressError, ServerAddress, server_address, why_lost, why_not_connected

HERE = ServerAddress("mqtt", "here", 1883)
SECURE = ServerAddress("mqtts", "here", 8883)


@pytest.mark.parametrize(
    ("url", "is_now"),
    [
        ("mqtt://host", "mqtt://host:1883"),
        ("tcp://host:1884/", "tcp://host:1884"),
        ("MQTT://host", "mqtt://host:1883"),
        ("mqtts://host", "mqtts://host:8883"),
        ("mqtt://[::1]:1", "mqtt://[::1]:1"),
        ("ws://host", "ws://host:80/mqtt"),
        ("ws://host/", "ws://host:80/mqtt"),
        ("wss://host/path?a=b", "wss://host:443/path?a=b"),
        ("unix:///run/mqtt.sock", "unix:///run/mqtt.sock"),
        ("unix:///with%20blank", "unix:///with blank"),
    ],
)
def test_urls_and_their_defaults(url: str, is_now: str) -> None:
    assert server_address(url).url == is_now


def test_user_and_password_are_decoded_and_not_shown() -> None:
    address = server_address("mqtt://me%40home:p%3Aw@host")
    assert (address.username, address.password) == ("me@home", "p:w")
    assert address.url == "mqtt://host:1883"
    assert server_address("unix://me@/path").username == "me"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("host", "write it with its scheme: mqtt://host"),
        ("http://host", "cannot connect by http://: allowed are mqtt://"),
        ("mqtt://", "it names no host"),
        ("mqtt://user:secret@host:port", "cannot connect to mqtt://host:port"),
        ("mqtt://user:secret@host/path", "cannot connect to mqtt://host/path: only a host"),
        ("user:secret@host", "write it with its scheme: mqtt://host"),
        (
            "mqtt://user:secret#1@host",
            "within a user name, password or path, / ? # [ ] are written",
        ),
        ("mqtt://user:secret/1@host", "the host or the port is none"),
        ("mqtt://user:1#secret@host", "a # has no place in it"),
        ("mqtt://user:1/secret@host", "are written %2F"),
        ("mqtt://user:[secret]@host", "within a user name, password or path"),
        ("unix:///path#1", "a # has no place in it; within"),
        ("unix://path", "with three slashes"),
        ("ws://:80/mqtt", "it names no host"),
    ],
)
def test_what_is_no_url_is_said_without_the_password(url: str, says: str) -> None:
    with pytest.raises(AddressError) as raised:
        server_address(url)
    assert says in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "reference", "is_now"),
    [
        ("mqtts://old:1", "new", "mqtts://new:8883"),
        ("mqtt://old", "[::2]:9", "mqtt://[::2]:9"),
        ("wss://old/path", "new:444", "wss://new:444/path"),
        ("unix:///old", "new", "mqtt://new:1883"),
    ],
)
def test_another_server_is_reached_in_the_same_way(url: str, reference: str, is_now: str) -> None:
    assert server_address(url).elsewhere(reference).url == is_now


def test_a_reference_that_is_none_is_an_error() -> None:
    with pytest.raises(AddressError):
        HERE.elsewhere("a:b")


@pytest.mark.parametrize(
    ("error", "address", "says"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), HERE, "nothing listens there"),
        (FileNotFoundError(errno.ENOENT, "none"), HERE, "there is no such socket"),
        (TimeoutError(), HERE, "no answer in time"),
        (socket.gaierror(-2, "Name unknown"), HERE, "host here is not known (Name unknown)"),
        (OSError(errno.ENETUNREACH, "x"), HERE, "network is unreachable"),
        (OSError("several failures"), HERE, "several failures"),
        (ConnectionResetError(), HERE, "the server has closed the connection"),
        (ConnectionResetError(), SECURE, "is it a TLS port (8883 by custom)?"),
        (ssl.SSLError(1, "wrong version"), SECURE, "TLS does not come about"),
        (ValueError(), HERE, "ValueError"),
    ],
)
def test_why_a_connection_did_not_come_about(
    error: Exception, address: ServerAddress, says: str
) -> None:
    assert says in why_not_connected(error, address)


def test_why_a_connection_has_ended() -> None:
    assert why_lost(None) == ""
    assert (
        why_lost(OSError(errno.ECONNRESET, "x")) == "the connection broke: connection reset by peer"
    )
    assert why_lost(ValueError("odd")) == "the connection broke: odd"
