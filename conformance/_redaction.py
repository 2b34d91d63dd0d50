"""Takes out of packets what a recording must not tell: credentials, and payloads if so asked.

A payload keeps its length and becomes asterisks. A credential (user name, password, authentication
data) becomes the word `redacted`, since its length tells something too. What cannot be read might
hold either, so all of it is hidden.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conformance._items import read_variable_byte_integer, variable_byte_integer
from conformance._properties import split_properties
from conformance._readable import MQTT_5, level_of, string_at

CREDENTIALS, PAYLOAD = "credentials", "payload"
"""What may be hidden, as recordings name it."""
PLACEHOLDER = b"redacted"
_MASK = b"*"
_AUTHENTICATION_DATA = 0x16
_CONNECT, _CONNACK, _PUBLISH, _AUTH = 1, 2, 3, 15

_Found = tuple[bytes, tuple[str, ...]]
"""Bytes, and what was hidden in them."""
_Rewrite = Callable[[bytes], _Found | None]


@dataclass(frozen=True)
class Redaction:
    """What is hidden in a recording."""

    credentials: bool = True
    payloads: bool = False

    def apply(self, packet: bytes, level: int) -> tuple[bytes, tuple[str, ...]]:
        """(the packet without what is hidden, what was hidden in it).

        `level` is the protocol level of the connection; a CONNECT has its own.
        """
        kind = packet[0] >> 4
        if kind == _CONNECT:
            level = level_of(packet)
            found = self._rewrite(packet, lambda body: self._connect(body, level))
        elif kind == _PUBLISH and self.payloads:
            found = self._rewrite(packet, lambda body: _publish(packet[0], body, level))
        elif kind in (_CONNACK, _AUTH) and level == MQTT_5 and self.credentials:
            at = 2 if kind == _CONNACK else 1
            found = self._rewrite(packet, lambda body: _from_properties(body, at))
        else:
            return packet, ()
        if found is not None:
            return found
        return (self.mask(packet), self.names()) if self.names() else (packet, ())

    def mask(self, data: bytes) -> bytes:
        """Bytes that nobody can read, with their first one left: it says what they began to be."""
        return data[:1] + _MASK * (len(data) - 1) if self.names() else data

    def names(self) -> tuple[str, ...]:
        """What is hidden."""
        pairs = ((CREDENTIALS, self.credentials), (PAYLOAD, self.payloads))
        return tuple(name for name, is_hidden in pairs if is_hidden)

    def _rewrite(self, packet: bytes, rewrite: _Rewrite) -> _Found | None:
        read = read_variable_byte_integer(packet, 1)
        if read is None or read[0] != len(packet) - read[1]:
            return None
        found = rewrite(packet[read[1] :])
        if found is None:
            return None
        body, hidden = found
        if not hidden:
            return packet, ()
        return packet[:1] + variable_byte_integer(len(body)) + body, hidden

    def _connect(self, body: bytes, level: int) -> _Found | None:
        protocol = string_at(body, 0)
        if protocol is None or protocol[1] + 4 > len(body):
            return None
        at = protocol[1] + 4
        flags = body[at - 3]
        out, hidden = body[:at], list[str]()
        if level == MQTT_5:
            read = _without_authentication_data(body, at, self.credentials)
            if read is None:
                return None
            properties, at, was_hidden = read
            out += properties
            hidden += [CREDENTIALS] * was_hidden
        for part in _parts_of_payload(flags, level):
            if part == "properties":
                split = split_properties(body, at)
                if split is None:
                    return None
                out, at = out + body[at : split[1]], split[1]
                continue
            field = string_at(body, at)
            if field is None:
                return None
            text, at = field
            if part == CREDENTIALS and self.credentials:
                text = PLACEHOLDER
                hidden.append(part)
            elif part == PAYLOAD and self.payloads and text:
                text = _MASK * len(text)
                hidden.append(part)
            out += len(text).to_bytes(2, "big") + text
        return (out, tuple(dict.fromkeys(hidden))) if at == len(body) else None


def _parts_of_payload(flags: int, level: int) -> Sequence[str]:
    """The fields of a CONNECT's payload in their order, by what they are (3.1.3)."""
    parts = ["client id"]
    if flags & 0x04:
        parts += (["properties"] if level == MQTT_5 else []) + ["will topic", PAYLOAD]
    return parts + [CREDENTIALS] * bin(flags & 0xC0).count("1")


def _publish(first: int, body: bytes, level: int) -> _Found | None:
    topic = string_at(body, 0)
    if topic is None:
        return None
    at = topic[1] + (2 if first & 0x06 else 0)
    if level == MQTT_5:
        split = split_properties(body, at)
        if split is None:
            return None
        at = split[1]
    if at > len(body):
        return None
    return body[:at] + _MASK * (len(body) - at), (PAYLOAD,) if at < len(body) else ()


def _from_properties(body: bytes, at: int) -> _Found | None:
    if len(body) <= at:
        return body, ()  # without properties
    read = _without_authentication_data(body, at, True)
    if read is None or read[1] != len(body):
        return None
    return body[:at] + read[0], (CREDENTIALS,) if read[2] else ()


def _without_authentication_data(
    body: bytes, at: int, is_hidden: bool
) -> tuple[bytes, int, bool] | None:
    """(the properties at `at` to be written, the position after them, whether it was there)."""
    split = split_properties(body, at)
    if split is None:
        return None
    out, was_there = b"", False
    for identifier, value in split[0]:
        if identifier == _AUTHENTICATION_DATA and is_hidden:
            was_there = True
            value = len(PLACEHOLDER).to_bytes(2, "big") + PLACEHOLDER
        out += bytes((identifier,)) + value
    return variable_byte_integer(len(out)) + out, split[1], was_there
