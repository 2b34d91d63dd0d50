"""Where printed messages go: standard output or a file, and no sooner acknowledged than there."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import BinaryIO, Final, Self, final

from iotd import Message
from iotd.cli._program import CannotRunError
from iotd.cli.messaging._flag import UsageError
from iotd.cli.messaging._flags import OutputFlags
from iotd.cli.messaging._template import NotJson, complain, printer_of

_MOST_UNWRITTEN: Final = 100


@final
class ReaderGone(Exception):
    """Whoever reads standard output reads no more, as after `| head`."""


@final
class Printout:
    """Prints messages, and acknowledges them when they are written.

    Raises `UsageError` for flags that cannot be; its methods raise `ReaderGone`, and
    `CannotRunError` where there is no room, say.
    """

    def __init__(self, flags: OutputFlags) -> None:
        self._print: Final = printer_of(flags)
        self._flags: Final = flags
        self._unwritten: list[Message] = []
        self._file: BinaryIO = sys.stdout.buffer

    def __enter__(self) -> Self:
        path = self._flags.output
        if path is not None:
            try:
                self._file = path.open("ab")
            except OSError as error:
                raise UsageError(
                    f"cannot write {path}: {error.strerror}", flag="--output"
                ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not sys.stdout.buffer:
            try:
                self._file.close()
            except OSError as close_error:
                if error is None:
                    self._give_up(close_error)

    def put(self, message: Message) -> None:
        """Print a message; it is written by `flush` at the latest."""
        try:
            printed = self._print(message)
        except NotJson as error:
            complain(error)
            printed = b""
        try:
            self._file.write(printed)
        except OSError as error:
            self._give_up(error)
        self._unwritten.append(message)
        if len(self._unwritten) >= _MOST_UNWRITTEN:
            self.flush()

    def flush(self) -> None:
        """Write what has been printed, and acknowledge it."""
        try:
            self._file.flush()
        except OSError as error:
            self._give_up(error)
        for message in self._unwritten:
            message.ack()
        self._unwritten.clear()

    def _give_up(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            where = self._flags.output or "standard output"
            raise CannotRunError(f"cannot write {where}: {error.strerror}") from None
        # What the interpreter would write at its end goes nowhere then, without a complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ReaderGone
