"""Listen URLs: what they mean, and in which form they are shown."""

from __future__ import annotations

import pytest

from adapters.transport import ListenError, listen_address


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
    ],
)
def test_what_is_no_url_is_told_so_in_one_line(url: str) -> None:
    with pytest.raises(ListenError) as caught:
        listen_address(url)
    assert "\n" not in str(caught.value)
