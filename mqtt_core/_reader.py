"""Reading the fields of a packet in order, never past its end.

The fields are those of section 1.5 in both standards. An error names the statement that is broken
in the standard of the packet's own version.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import MALFORMED_PACKET, MQTT_3_1_1, MQTT_5
from mqtt_core._errors import RemoteProtocolError
from mqtt_core._topics import decode_utf8

UNPARSABLE: Final = "P5-1.2.0-1"
"""The sentence of MQTT 5.0 that what cannot be parsed is a malformed packet."""


@final
class Reader:
    """Reads one packet's fields, from index `at` of `data` to `end`."""

    __slots__ = ("data", "at", "end", "_is_v5")

    def __init__(self, data: bytes, at: int, end: int, level: int = MQTT_3_1_1) -> None:
        self.data: Final = data
        self.at = at
        self.end: Final = end
        self._is_v5: Final = level == MQTT_5

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left of the packet."""
        return self.at >= self.end

    def _error(
        self, message: str, statement: str, at: int, reason: int = MALFORMED_PACKET
    ) -> RemoteProtocolError:
        if not statement and self._is_v5:
            statement = UNPARSABLE
        return RemoteProtocolError(message, statement, at, reason)

    def byte(self, name: str, statement: str = "") -> int:
        """One byte."""
        if self.at >= self.end:
            raise self._error(f"packet ends before its {name}", statement, self.at)
        self.at += 1
        return self.data[self.at - 1]

    def two_bytes(self, name: str, statement: str = "") -> int:
        """A 16-bit number, most significant byte first (1.5.2)."""
        if self.at + 2 > self.end:
            raise self._error(f"packet ends before its {name}", statement, self.at)
        self.at += 2
        return (self.data[self.at - 2] << 8) | self.data[self.at - 1]

    def four_bytes(self, name: str, statement: str = "") -> int:
        """A 32-bit number, most significant byte first (1.5.3 of MQTT 5.0)."""
        at = self.at
        if at + 4 > self.end:
            raise self._error(f"packet ends before its {name}", statement, at)
        self.at = at + 4
        data = self.data
        return (data[at] << 24) | (data[at + 1] << 16) | (data[at + 2] << 8) | data[at + 3]

    def variable(self, name: str, statement: str = "") -> int:
        """A Variable Byte Integer in as few bytes as it needs (1.5.5 of MQTT 5.0)."""
        start = self.at
        value = 0
        shift = 0
        while True:
            digit = self.byte(name, statement)
            value |= (digit & 0x7F) << shift
            if digit < 0x80:
                break
            shift += 7
            if shift > 21:
                raise self._error(f"{name} is longer than four bytes", "P5-1.5.5-1", start)
        if digit == 0 and shift:
            raise self._error(f"{name} has more bytes than it needs", "MQTT-1.5.5-1", start)
        return value

    def binary(self, name: str, statement: str = "") -> bytes:
        """Bytes behind a two byte length."""
        length = self.two_bytes(name, statement)
        if self.at + length > self.end:
            raise self._error(f"{name} runs past the end of the packet", statement, self.at - 2)
        self.at += length
        return self.data[self.at - length : self.at]

    def text(self, name: str, statement: str = "MQTT-1.5.3-1") -> str:
        """A UTF-8 string (1.5.3; 1.5.4 of MQTT 5.0)."""
        at = self.at
        data = self.binary(name, statement)
        text = decode_utf8(data)
        if text is None:
            if 0 in data:
                nul = "MQTT-1.5.4-2" if self._is_v5 else "MQTT-1.5.3-2"
                raise self._error(f"{name} has U+0000", nul, at)
            raise self._error(f"{name} is not UTF-8", statement, at)
        return text

    def finish(self, statement: str = "") -> None:
        """Check that the packet ends here."""
        if self.at != self.end:
            raise self._error(f"packet has {self.end - self.at} bytes too many", statement, self.at)
