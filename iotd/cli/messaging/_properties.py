"""`-D PACKET NAME VALUE`: properties of MQTT 5.0, as mosquitto's programs take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from iotd import Will
from iotd.cli.messaging._flag import UsageError
from iotd.cli.messaging._folding import JOINT, PAIR


@dataclass
class MessageProperties:
    """The properties of one message, in the words of `Client.publish`."""

    expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class WillProperties(MessageProperties):
    """Those of a will."""

    delay_s: int = 0


@dataclass
class ConnectProperties:
    """Those of CONNECT that are for the user to say."""

    session_expiry_s: int | None = None
    receive_maximum: int | None = None
    max_packet_size_bytes: int | None = None
    user_properties: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class AskedProperties:
    """All that the command line says."""

    connect: ConnectProperties = field(default_factory=ConnectProperties)
    publish: MessageProperties = field(default_factory=MessageProperties)
    will: WillProperties = field(default_factory=WillProperties)

    def make_will(self, topic: str | None, payload: str, qos: int, retain: bool) -> Will | None:
        """The will, None without a topic for it. Raises `ValueError`."""
        if topic is None:
            return None
        return Will(topic, payload, qos, retain, **vars(self.will))


_Reader = Callable[[str], object]

_MESSAGE: Final[dict[str, tuple[str, _Reader]]] = {
    "content-type": ("content_type", str),
    "correlation-data": ("correlation_data", str.encode),
    "message-expiry-interval": ("expiry_s", int),
    "response-topic": ("response_topic", str),
}
_READERS: Final[dict[str, dict[str, tuple[str, _Reader]]]] = {
    "connect": {
        "maximum-packet-size": ("max_packet_size_bytes", int),
        "receive-maximum": ("receive_maximum", int),
        "session-expiry-interval": ("session_expiry_s", int),
    },
    "publish": _MESSAGE,
    "will": {**_MESSAGE, "will-delay-interval": ("delay_s", int)},
}
_MOST: Final = {
    "expiry_s": 0xFFFF_FFFF,
    "delay_s": 0xFFFF_FFFF,
    "session_expiry_s": 0xFFFF_FFFF,
    "receive_maximum": 65_535,
    "max_packet_size_bytes": 0xFFFF_FFFF,
}


def read_properties(given: Sequence[str]) -> AskedProperties:
    """What the flags say. Raises `UsageError`."""
    asked = AskedProperties()
    for each in given:
        _read(asked, each.split(JOINT))
    return asked


def _read(asked: AskedProperties, words: list[str]) -> None:
    packet = words[0].lower()
    readers = _READERS.get(packet)
    if readers is None:
        raise _bad(f"found {words[0]!r}; allowed: {', '.join(_READERS)}")
    name = words[1] if len(words) > 1 else ""
    allowed = ", ".join((*readers, PAIR))
    target: object = getattr(asked, packet)
    if name == PAIR:
        if len(words) != 4:
            raise _bad(f"write -D {packet} {PAIR} NAME VALUE")
        assert isinstance(target, (ConnectProperties, MessageProperties))
        target.user_properties.append((words[2], words[3]))
        return
    if name not in readers:
        raise _bad(f"{packet} has no {name!r} here; allowed: {allowed}")
    if len(words) != 3:
        raise _bad(f"write -D {packet} {name} VALUE")
    attribute, read = readers[name]
    try:
        value = read(words[2])
    except ValueError:
        raise _bad(f"{name} is {words[2]!r}; it is a whole number") from None
    if isinstance(value, int) and not 0 <= value <= _MOST[attribute]:
        raise _bad(f"{name} is {value}; allowed: 0 to {_MOST[attribute]:,}")
    setattr(target, attribute, value)


def _bad(text: str) -> UsageError:
    return UsageError(text, flag="-D")
