"""Where each key of a TOML document stands, so that an error can name file and line.

`tomllib` says what a document means and not where. This reads the same text a second time and
notes lines only; it relies on the text being valid TOML, which the parser has shown before.
"""

from __future__ import annotations

import re
from typing import Final

Path = tuple[str | int, ...]
"""Keys from the root; a number selects one table of an array of tables."""

_KEY_PART: Final = re.compile(
    r'[ \t]*(?:"(?P<basic>(?:[^"\\]|\\.)*)"'
    r"|'(?P<literal>[^']*)'"
    r"|(?P<bare>[A-Za-z0-9_-]+))[ \t]*"
)
# What can hide a bracket or a line end inside a value, longest form first.
_VALUE_TOKEN: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}\n]",
    re.DOTALL,
)


class LineMap:
    """The line, counted from 1, of every key and table of one valid TOML document.

    Keys inside an inline table have the line of the key that holds the table.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}  # array of tables -> tables seen so far
        self._read()

    def line_of(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it; 0 if nothing of it is written."""
        for end in range(len(path), 0, -1):
            line = self._lines.get(path[:end])
            if line is not None:
                return line
        return 0

    def _read(self) -> None:
        text, position, line, table = self._text, 0, 1, Path()
        while position < len(text):
            end = position
            if text[position] == "[":
                is_array = text.startswith("[[", position)
                parts, _ = self._key(position + (2 if is_array else 1))
                table = self._open_table(parts, is_array)
                self._note(table, 1, line)
                end = _line_end(text, position)
            elif text[position] in " \t\r\n":
                line += text[position] == "\n"
                position += 1
                continue
            elif text[position] != "#":
                parts, end = self._key(position)
                self._note(table + parts, len(table) + 1, line)
                end = _value_end(text, end)
            else:
                end = _line_end(text, position)
            line += text.count("\n", position, end)
            position = end

    def _note(self, path: Path, shortest: int, line: int) -> None:
        """Note the line of `path` and of what is around it, unless an earlier line has it."""
        for end in range(shortest, len(path) + 1):
            self._lines.setdefault(path[:end], line)

    def _key(self, position: int) -> tuple[tuple[str, ...], int]:
        """The parts of a dotted key and where it ends."""
        parts: list[str] = []
        while match := _KEY_PART.match(self._text, position):
            basic = match["basic"]
            parts.append(basic if basic is not None else match["literal"] or match["bare"] or "")
            position = match.end()
            if not self._text.startswith(".", position):
                break
            position += 1
        return tuple(parts), position

    def _open_table(self, parts: tuple[str, ...], is_array: bool) -> Path:
        """The path of a table header; below an array it continues the array's last table."""
        path: Path = ()
        for part in parts[:-1]:
            path = (*path, part)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        path = (*path, *parts[-1:])
        if is_array:
            count = self._tables.get(path, 0)
            self._tables[path] = count + 1
            path = (*path, count)
        return path


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _value_end(text: str, position: int) -> int:
    """The line end behind the value at `position`, past strings and brackets that span lines."""
    depth = 0
    for token in _VALUE_TOKEN.finditer(text, position):
        character = token[0]
        if character == "\n" and depth == 0:
            return token.start()
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
    return len(text)
