"""Input as it came, cut into packets.

A chunk is kept as it is and walked with an index. Only the rest of a chunk that ends within a
packet is copied, into a buffer that grows with what has really arrived: an announced length
reserves nothing. The size limit is checked on the length prefix.
"""

from __future__ import annotations

from typing import final

from librt.strings import BytesWriter
from mypy_extensions import i64

from mqtt_core._codes import PACKET_TOO_LARGE
from mqtt_core._errors import RemoteProtocolError


@final
class ReceiveBuffer:
    """Bytes received and not decoded yet.

    `data` holds the current packet from `start` (its fixed header) over `body` (behind its
    remaining length) to `end`, once `next_packet` has returned True.
    """

    __slots__ = ("data", "start", "body", "end", "limit_bytes", "_pending", "_needed", "_base")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.data = b""
        self.start: i64 = 0
        self.body: i64 = 0
        self.end: i64 = 0
        self._pending: BytesWriter | None = None  # an incomplete packet
        self._needed: i64 = 0  # bytes it must have before it is worth another look
        self._base: i64 = 0  # where `data` begins in the stream

    def feed(self, chunk: bytes) -> None:
        """Append a chunk of the stream."""
        pending = self._pending
        if pending is not None:
            pending.write(chunk)
            if len(pending) >= self._needed:
                self._set_data(pending.getvalue())
                self._pending = None
        elif self.end == len(self.data):
            self._set_data(chunk)
        else:
            self._set_data(self.data[self.end :] + chunk)

    def _set_data(self, data: bytes) -> None:
        self._base += self.end
        self.data = data
        self.start = 0
        self.body = 0
        self.end = 0

    def next_packet(self) -> bool:
        """Go on to the next packet; False when it is not here as a whole yet.

        Raises `RemoteProtocolError` for a length prefix that is malformed (2.2.3) or announces
        more than `limit_bytes`.
        """
        data = self.data
        size: i64 = len(data)
        at: i64 = self.end
        start = at
        if at + 2 > size:
            if at < size:
                self._wait(2)
            elif size:
                self._set_data(b"")  # an idle connection holds no chunk
            return False
        at += 1
        digit: i64 = data[at]
        at += 1
        length: i64 = digit & 0x7F
        shift: i64 = 7
        while digit & 0x80:
            if shift > 21:
                raise RemoteProtocolError("remaining length is longer than four bytes", "", int(at))
            if at >= size:
                self._wait(size - start + 1)
                return False
            digit = data[at]
            at += 1
            length |= (digit & 0x7F) << shift
            shift += 7
        end = at + length
        if end - start > self.limit_bytes:
            raise RemoteProtocolError(
                f"packet of {end - start} bytes is over the limit of {self.limit_bytes}",
                "",
                int(start),
                PACKET_TOO_LARGE,
            )
        if end > size:
            self._wait(end - start)
            return False
        self.start = start
        self.body = at
        self.end = end
        return True

    def _wait(self, needed: i64) -> None:
        pending = BytesWriter()
        pending.write(self.data[self.end :])
        self._set_data(b"")
        self._pending = pending
        self._needed = needed

    def stream_offset(self, at: int) -> int:
        """The position in the whole stream of an index into `data`."""
        return int(self._base) + at

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait that have not been looked at."""
        return self.end < len(self.data)

    @property
    def size_bytes(self) -> int:
        """Bytes held that have not been read as packets."""
        return self.partial_bytes + len(self.data) - int(self.end)

    @property
    def partial_bytes(self) -> int:
        """Bytes of a packet that has arrived in part."""
        pending = self._pending
        return 0 if pending is None else len(pending)

    def clear(self) -> None:
        """Forget what is held; nothing of it will be read."""
        self._pending = None
        self.end = len(self.data)
        self._set_data(b"")
