"""`iotd store export` and `import`: all state of a store as lines of JSON, and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from adapters.storage.offline import export, import_into, open_to_look
from iotd.cli._output import Progress
from iotd.cli._program import CannotRunError
from iotd.cli._store_tool import folder_of, telling
from iotd.config import printable


def export_store(
    file: Path | None, data_dir: str | None, output: Path | None, skips_damaged: bool
) -> int:
    """Write all state to `output`, None for standard output; returns the exit code."""
    folder = folder_of(file, data_dir)
    if folder is None:
        return 2
    left_out = 0

    def on_damage(text: str) -> None:
        nonlocal left_out
        left_out += 1
        print(printable(text), file=sys.stderr)

    with telling(), open_to_look(folder) as connection:
        lines = export(connection, on_damage if skips_damaged else None)
        if output is None:
            count = _print(lines)
        else:
            with _new_file(output) as stream:
                count = _write(lines, stream)
    if output is not None:
        print(f"{count:,} lines written to {printable(str(output))}")
    if left_out:
        print(f"{left_out:,} damaged parts of the store were left out", file=sys.stderr)
    return 0


def _print(lines: Iterable[bytes]) -> int:
    try:
        count = _write(lines, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise  # whoever read has enough
    except OSError as error:
        raise CannotRunError(
            f"cannot write to standard output: {error.strerror or error}; what was written is not "
            "whole"
        ) from None
    return count


def _write(lines: Iterable[bytes], stream: BinaryIO) -> int:
    count = 0
    with Progress() as tell:
        for line in lines:
            stream.write(line)
            count += 1
            tell(count, "lines written")
    return count


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is there once it is whole, for nobody else to read."""
    part = path.with_name(path.name + ".part")
    try:
        if path.exists():
            raise CannotRunError(
                f"{printable(str(path))} is there already; name another file, or remove it"
            )
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with open(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CannotRunError(
            f"cannot write {printable(str(path))}: {error.strerror or error}; see the rights of "
            "its folder and the space that is left there, or name another file"
        ) from None


def import_store(file: Path | None, data_dir: str | None, source: str) -> int:
    """Fill an empty store with what `source` has, - for standard input; returns the exit code."""
    folder = folder_of(file, data_dir)
    if folder is None:
        return 2
    try:
        if source == "-":
            count = _import(folder, sys.stdin.buffer)
        else:
            with open(source, "rb") as stream:
                count = _import(folder, stream)
    except OSError as error:
        raise CannotRunError(
            f"cannot read {printable(source)}: {error.strerror or error}; check its path and rights"
        ) from None
    print(f"{count:,} lines imported into {printable(str(folder))}")
    return 0


def _import(folder: Path, stream: BinaryIO) -> int:
    with telling(), Progress() as tell:
        return import_into(folder, stream, lambda line: tell(line, "lines read"))
