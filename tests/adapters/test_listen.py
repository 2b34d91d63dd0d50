"""Listen URLs: what they mean, and in which form they are shown."""

from __future__ import annotations

import pytest

from adapters.transport import ListenError, bind_listeners, listen_address
from mqtt_core.broker import LEVELS


@pytest.mark.parametrize(
    ("url", "shown", "is_loopback"),
    [
        ("tcp://127.0.0.1:1884", "tcp://127.0.0.1:1884", True),
        ("tcp://127.0.0.1", "tcp://127.0.0.1:1883", True),
        ("tcp://0.0.0.0:0", "tcp://0.0.0.0:0", False),
        ("tcp://[::1]:1883", "tcp://[::1]:1883", True),
        ("tcp://[::]", "tcp://[::]:1883", False),
        ("tcp://LocalHost:1883", "tcp://localhost:1883", True),
        ("tcp://broker.example:1883", "tcp://broker.example:1883", False),
        ("tcp://[::1]?durability=os", "tcp://[::1]:1883?durability=os", True),
    ],
)
def test_a_url_has_one_form(url: str, shown: str, is_loopback: bool) -> None:
    address = listen_address(url)
    assert (address.url, address.is_loopback) == (shown, is_loopback)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tcp://",
        "tcp:1883",
        "tls://h",
        "tcp://h:port",
        "tcp://h:-1",
        "tcp://[::1",
        "tcp://h:1?a",
        "tcp://h:1/path",
        "tcp://h:1?durability",
        "tcp://h:1?durability=",
        "tcp://h:1?durability=os&",
    ],
)
def test_what_is_no_url_is_told_so_in_one_line(url: str) -> None:
    with pytest.raises(ListenError) as caught:
        listen_address(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("level", LEVELS)
def test_a_listener_may_have_a_level_of_durability(level: str) -> None:
    url = f"tcp://127.0.0.1:0?durability={level}"
    assert listen_address(url).durability == level
    (listener,) = bind_listeners([url])
    assert listener.level == LEVELS[level]
    assert listener.url.startswith("tcp://127.0.0.1:")
    assert "?" not in listener.url
    listener.close()
    (listener,) = bind_listeners(["tcp://127.0.0.1:0"])
    assert listener.level == 0
    listener.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("durability=ram", "durability is one of fsync, os, memory, not 'ram'"),
        ("level=os", "there is no option 'level' of listeners; allowed: durability"),
        ("durability=os&durability=os", "durability is there twice; keep one of them"),
    ],
)
def test_an_option_that_there_is_not_is_told_with_those_there_are(query: str, message: str) -> None:
    with pytest.raises(ListenError) as caught:
        listen_address(f"tcp://127.0.0.1?{query}")
    assert caught.value.message == message
