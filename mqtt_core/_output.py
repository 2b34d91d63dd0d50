"""Bytes on their way out of a connection.

Small packets are gathered in a writer that is borrowed from a pool only while there is
something to send, so that an idle connection holds none. Large payloads are not copied: they
leave as the very object that all receivers share.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter

REFERENCE_BYTES: Final = 8_192
"""From this size on a payload leaves by reference."""

_POOLED_WRITERS: Final = 256
_POOLED_WRITER_BYTES: Final = 131_072


@final
class WriterPool:
    """Writers that wait for their next connection; bounded in number and in size."""

    __slots__ = ("_idle",)

    def __init__(self) -> None:
        self._idle: Final[list[BytesWriter]] = []

    def take(self) -> BytesWriter:
        """An empty writer."""
        idle = self._idle
        return idle.pop() if idle else BytesWriter()

    def give(self, writer: BytesWriter) -> None:
        """Put a writer back."""
        if len(self._idle) < _POOLED_WRITERS and len(writer) <= _POOLED_WRITER_BYTES:
            writer.truncate(0)
            self._idle.append(writer)


@final
class Output:
    """What one connection has to send. `writer` is None while there is nothing."""

    __slots__ = ("writer", "_pool", "_parts", "_parts_bytes")

    def __init__(self, pool: WriterPool) -> None:
        self.writer: BytesWriter | None = None
        self._pool: Final = pool
        self._parts: list[bytes] | None = None
        self._parts_bytes = 0

    def open(self) -> BytesWriter:
        """The writer, borrowed if there was none."""
        writer = self.writer
        if writer is None:
            writer = self._pool.take()
            self.writer = writer
        return writer

    def write(self, data: bytes) -> None:
        """Append bytes: a copy of small ones, large ones by reference."""
        if len(data) < REFERENCE_BYTES:
            self.open().write(data)
        else:
            self.write_reference(data)

    def write_reference(self, data: bytes) -> None:
        """Append bytes without a copy."""
        writer = self.open()
        parts = self._parts
        if parts is None:
            parts = []
            self._parts = parts
        if len(writer):
            parts.append(writer.getvalue())
            self._parts_bytes += len(writer)
            writer.truncate(0)
        parts.append(data)
        self._parts_bytes += len(data)

    @property
    def size_bytes(self) -> int:
        """Bytes waiting."""
        writer = self.writer
        return 0 if writer is None else len(writer) + self._parts_bytes

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return self.writer is None

    def take(self) -> bytes:
        """The next piece, in order; empty when there is none."""
        writer = self.writer
        if writer is None:
            return b""
        parts = self._parts
        if parts is not None:
            part = parts.pop(0)
            self._parts_bytes -= len(part)
            if not parts:
                self._parts = None
                if not len(writer):
                    self.clear()
            return part
        data = writer.getvalue()
        self.writer = None
        self._pool.give(writer)
        return data

    def clear(self) -> None:
        """Drop what waits."""
        writer = self.writer
        if writer is not None:
            self.writer = None
            self._parts = None
            self._parts_bytes = 0
            self._pool.give(writer)
