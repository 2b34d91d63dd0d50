"""From an event and its fields to one line of text, and the writing of it."""

from __future__ import annotations

import json
import traceback
from typing import Final, TextIO, cast, final

from structlog.typing import EventDict, Processor, WrappedLogger

MAX_TEXT: Final = 256
"""Characters of one field in a line; longer text is cut. Client ids may have 65,535 bytes."""
MAX_TRACEBACK: Final = 16_384

# Text made of these alone stands without quotes.
_PLAIN: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/$+#@%&*!?~,;()<>|^[]"
)
_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31"}
_FIRST: Final = ("time", "level", "event")


def escaped(text: str) -> str:
    """`text` with everything that does not print (controls, bidirectional marks) as `\\u....`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cut(text: str) -> str:
    """`text`, or its beginning and how much more there was."""
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}... ({len(text)} characters)"


def render_human(in_colour: bool) -> Processor:
    """Lines for people: time, level, event, then `name=value`; a traceback is indented below."""

    def render(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
        level = str(fields["level"])
        head = f"{level:<7}"
        event = escaped(str(fields["event"]))
        if in_colour:
            head = f"\x1b[{_COLOURS.get(level, '0')}m{head}\x1b[0m"
            event = f"\x1b[1m{event}\x1b[0m"
        error = fields.pop("error", None)
        parts = [str(fields["time"]), head, event]
        parts += [f"{name}={_human(name, fields[name])}" for name in fields if name not in _FIRST]
        if not isinstance(error, BaseException):
            return " ".join(parts)
        parts.append(f"error={_human('error', _summary(error))}")
        if level != "error":  # what is expected to happen needs no traceback
            return " ".join(parts)
        # Indented and marked, so that no message of an exception looks like a line of the log.
        return "\n    | ".join([" ".join(parts), *map(escaped, _traceback(error))])

    return render


def render_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    """Lines for machines: one JSON object, in ASCII, with `time`, `level` and `event` first."""
    record: dict[str, object] = {name: fields.pop(name) for name in _FIRST}
    for name, value in fields.items():
        if isinstance(value, BaseException):
            record[name] = cut(_summary(value))
            if record["level"] == "error":
                record["traceback"] = "\n".join(_traceback(value))
        else:
            record[name] = _plain(value)
    return json.dumps(record, default=str).replace("\x7f", "\\u007f")


def _plain(value: object) -> object:
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[object]", value)]
    return value


def _human(name: str, value: object) -> str:
    if name == "channel":
        return f"#{value}"
    if isinstance(value, (list, tuple)):
        return ",".join(_human("", item) for item in cast("list[object]", value))
    text = cut(str(value))
    if text and _PLAIN.issuperset(text):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped(quoted)}"'


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _traceback(error: BaseException) -> list[str]:
    text = "".join(traceback.format_exception(error, limit=-20))[-MAX_TRACEBACK:]
    return [line.rstrip() for line in text.split("\n") if line.strip()]


@final
class LineWriter:
    """Writes lines to a stream; a line that cannot be written is counted instead."""

    __slots__ = ("_stream", "is_broken", "lost")

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        self.lost = 0
        self.is_broken = False  # the last line could not be written

    def write(self, line: str) -> None:
        """Write one line. Never raises for what the stream does."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
            self.is_broken = False
        except (OSError, ValueError):  # a full disk, a closed pipe, a closed stream
            self.lost += 1
            self.is_broken = True

    # The names that structlog calls.
    debug = info = warning = error = write
