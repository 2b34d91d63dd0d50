"""How a message is printed: templates with mosquitto's %-codes, and the forms that have a flag."""

from __future__ import annotations

import json
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Final

from iotd import Message
from iotd.cli.messaging._flag import UsageError
from iotd.cli.messaging._flags import OutputFlags
from mqtt_core.properties import PAYLOAD_FORMAT_INDICATOR, number

Printer = Callable[[Message], bytes]
"""The bytes to print for a message. Raises `NotJson`."""

_Piece = Callable[[Message, int], bytes]  # the time is in nanoseconds since 1970


class NotJson(Exception):
    """`%J` met a payload that is no JSON."""


def printer_of(flags: OutputFlags) -> Printer:
    """What prints as the flags say. Raises `UsageError`."""
    forms = [flags.format is not None, flags.json, flags.hex]
    if sum(forms) > 1:
        raise UsageError("--format, --json and --hex exclude each other; give one of them")
    end = b"" if flags.no_newline else b"\n"
    if flags.format is None and not flags.json:
        if flags.hex:
            return lambda message: _topic_of(message, flags) + message.payload.hex().encode() + end
        return lambda message: _topic_of(message, flags) + message.payload + end
    pieces = _compiled("%j" if flags.format is None else flags.format, flags.pretty)

    def print_by(message: Message) -> bytes:
        now = time.time_ns()
        return b"".join([piece(message, now) for piece in pieces]) + end

    return print_by


def _topic_of(message: Message, flags: OutputFlags) -> bytes:
    return message.topic.encode() + b" " if flags.verbose else b""


# What a code stands for


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _format_indicator(message: Message) -> str:
    found = number(message.properties, PAYLOAD_FORMAT_INDICATOR, -1)
    return "" if found < 0 else str(found)


def _date(now: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now // 1_000_000_000))


# Of what the client itself decides (topic aliases, packet and subscription identifiers) there is
# nothing to print.
_FIELDS: Final[dict[str, Callable[[Message, int], str]]] = {
    "A": lambda message, now: "",
    "C": lambda message, now: _text(message.content_type),
    "E": lambda message, now: _text(message.expiry_s),
    "F": lambda message, now: _format_indicator(message),
    "I": lambda message, now: _date(now),
    "l": lambda message, now: str(len(message.payload)),
    "m": lambda message, now: "",
    "R": lambda message, now: _text(message.response_topic),
    "S": lambda message, now: "",
    "t": lambda message, now: message.topic,
    "x": lambda message, now: message.payload.hex(),
    "X": lambda message, now: message.payload.hex().upper(),
}
_ZERO_PADDED: Final = frozenset("AEFlmSxX")
_CUT: Final = frozenset("CIRt")

_BYTES: Final[dict[str, _Piece]] = {
    "D": lambda message, now: message.correlation_data or b"",
    "P": lambda message, now: " ".join(f"{n}:{v}" for n, v in message.user_properties).encode(),
    "U": lambda message, now: b"%d.%09d" % divmod(now, 1_000_000_000),
    "q": lambda message, now: b"%d" % message.qos,
    "r": lambda message, now: b"%d" % message.retain,
}

_ESCAPES: Final = {
    "0": "\0", "a": "\a", "e": "\x1b", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\",
}  # fmt: skip


def _compiled(template: str, pretty: bool) -> list[_Piece]:
    """The pieces of a template. Raises `UsageError`."""
    pieces: list[_Piece] = []
    at = 0
    while at < len(template):
        start = template[at]
        if start == "%":
            piece, at = _parameter(template, at + 1, pretty)
        elif start == "@":
            piece, at = _time_piece(_next(template, at)), at + 2
        elif start == "\\":
            code = _next(template, at)
            if code not in _ESCAPES:
                codes = " ".join(f"\\{each}" for each in _ESCAPES)
                raise _bad(f"\\{code} stands for nothing; there are {codes}")
            piece, at = _fixed(_ESCAPES[code]), at + 2
        else:
            end = at + 1
            while end < len(template) and template[end] not in "%@\\":
                end += 1
            piece, at = _fixed(template[at:end]), end
        pieces.append(piece)
    return pieces


def _next(template: str, at: int) -> str:
    if at + 1 >= len(template):
        raise _bad(f"it ends with {template[at]!r}, after which something must stand")
    return template[at + 1]


def _fixed(text: str) -> _Piece:
    data = text.encode()
    return lambda message, now: data


def _parameter(template: str, at: int, pretty: bool) -> tuple[_Piece, int]:
    """What stands after a %: flags, width, greatest width, code."""
    first = at
    while at < len(template) and template[at] in "0-":
        at += 1
    flags = template[first:at]
    width, at = _number(template, at)
    most = -1
    if template[at : at + 1] == ".":
        most, at = _number(template, at + 1)
    code = template[at : at + 1]
    if not code:
        raise _bad("it ends in the midst of a %-code; a percent sign is %%")
    if code == "%":
        return _fixed("%"), at + 1
    if code in "jJ":
        parses = code == "J"
        return lambda message, now: _json(message, now, parses, pretty), at + 1
    if code == "p":
        return _payload_piece(width, "-" in flags), at + 1
    if code in _BYTES:
        return _BYTES[code], at + 1
    if code not in _FIELDS:
        codes = " ".join(f"%{each}" for each in sorted((*_FIELDS, *_BYTES, "j", "J", "p")))
        raise _bad(f"%{code} stands for nothing; there are {codes} %%")
    return _field_piece(code, flags, width, most), at + 1


def _number(template: str, at: int) -> tuple[int, int]:
    end = at
    while end < len(template) and template[end].isdecimal():
        end += 1
    return int(template[at:end] or "0"), end


def _payload_piece(width: int, is_left: bool) -> _Piece:
    if is_left:
        return lambda message, now: message.payload.ljust(width)
    return lambda message, now: message.payload.rjust(width)


def _field_piece(code: str, flags: str, width: int, most: int) -> _Piece:
    field = _FIELDS[code]
    is_left = "-" in flags
    fill = "0" if "0" in flags and not is_left and code in _ZERO_PADDED else " "

    def piece(message: Message, now: int) -> bytes:
        text = field(message, now)
        if most >= 0 and code in _CUT:
            text = text[:most]
        return (text.ljust(width) if is_left else text.rjust(width, fill)).encode()

    return piece


def _time_piece(code: str) -> _Piece:
    if code == "@":
        return _fixed("@")
    if code == "N":
        return lambda message, now: b"%09d" % (now % 1_000_000_000)
    return lambda message, now: time.strftime(
        f"%{code}", time.localtime(now // 1_000_000_000)
    ).encode()


def _json(message: Message, now: int, parses: bool, pretty: bool) -> bytes:
    """A message as one JSON object, with the names that mosquitto_sub gives."""
    seconds, nanoseconds = divmod(now, 1_000_000_000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    found: dict[str, object] = {
        "tst": f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{nanoseconds // 1_000:06d}{zone}",
        "topic": message.topic,
        "qos": message.qos,
        "retain": int(message.retain),
        "payloadlen": len(message.payload),
    }
    properties = _json_properties(message)
    if properties:
        found["properties"] = properties
    if parses:
        try:
            found["payload"] = message.json()
        except ValueError:
            raise NotJson(f"the payload of a message on {message.topic!r} is no JSON") from None
    else:
        try:
            found["payload"] = message.text
        except UnicodeDecodeError:  # JSON has text alone
            found["payload-base64"] = b64encode(message.payload).decode()
    if pretty:
        return json.dumps(found, indent=2, ensure_ascii=False).encode()
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()


def _json_properties(message: Message) -> dict[str, object]:
    found: dict[str, object] = {}
    if message.content_type is not None:
        found["content-type"] = message.content_type
    pairs: dict[str, object] = {}
    for name, value in message.user_properties:
        before = pairs.get(name)
        if before is None:
            pairs[name] = value
        else:  # a name may come twice
            pairs[name] = [*before, value] if isinstance(before, list) else [before, value]
    if pairs:
        found["user-properties"] = pairs
    if message.response_topic is not None:
        found["response-topic"] = message.response_topic
    if message.correlation_data is not None:
        found["correlation-data"] = message.correlation_data.decode(errors="replace")
    indicator = number(message.properties, PAYLOAD_FORMAT_INDICATOR, -1)
    if indicator >= 0:
        found["payload-format-indicator"] = indicator
    if message.expiry_s is not None:
        found["message-expiry-interval"] = message.expiry_s
    return found


def _bad(text: str) -> UsageError:
    return UsageError(text, flag="--format")


def complain(error: NotJson) -> None:
    """Say that a message could not be printed."""
    print(f"iotd: {error}; print it with %j or %p", file=sys.stderr)
