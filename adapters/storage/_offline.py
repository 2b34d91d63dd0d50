"""A store that no broker uses, opened for a tool: to look at it, or to change it.

Whoever only looks changes nothing: the log stays as it is, and no file is left that was not there.
Nobody can start a broker on the store meanwhile, nor look at one that a broker uses.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from adapters.storage._database import NAME
from adapters.storage._errors import (
    StoreError,
    StoreInUseError,
    StoreUnavailableError,
    code_of,
    explain,
    is_damage,
)
from adapters.storage._schema import MIGRATIONS, schema_of

_CACHE_KIB: Final = 16_384


class StoreMissingError(StoreError):
    """There is no store in the folder. None is made."""


class StoreUnreadableError(StoreError):
    """The database is damaged. It stays where it is."""


@contextmanager
def open_to_look(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads one state of a store. Raises `StoreError`, on the way too."""
    path = _existing(folder)
    asides = [Path(f"{path}{suffix}") for suffix in ("-wal", "-shm")]
    new = [aside for aside in asides if not aside.exists()]
    with explained(folder):
        connection = _connect(path, "ro")
        is_ours = False
        try:
            connection.execute("BEGIN")
            _check_schema(folder, connection)
            is_ours = True
            yield connection
        finally:
            if is_ours:  # as long as we have the lock, nobody writes a log
                for aside in new:
                    _remove_unused(aside)
            connection.close()


@contextmanager
def open_to_change(folder: Path) -> Iterator[sqlite3.Connection]:
    """The only connection to a store, outside any transaction. Raises `StoreError`, on the way
    too; what was not committed then has not happened."""
    path = _existing(folder)
    with explained(folder):
        connection = _connect(path, "rw")
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            _check_schema(folder, connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=OFF")  # as the engine has it
            yield connection
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is done within takes effect, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Errors of SQLite as what they mean for whoever uses a tool on a store."""
    try:
        yield
    except sqlite3.Error as error:
        code = code_of(error)
        if code == sqlite3.SQLITE_INTERRUPT:  # by Ctrl-C, seen in a callback
            raise KeyboardInterrupt from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreInUseError(
                f"{folder}: another process uses this store; stop that broker first (or wait "
                "until it has ended), or name another folder with --data-dir"
            ) from error
        if is_damage(error):
            raise StoreUnreadableError(
                f"{folder / NAME} is damaged ({error}): keep a copy of the folder, then put a "
                "backup in its place; `iotd store export --skip-damaged` may get the rest out"
            ) from error
        raise StoreUnavailableError(f"{folder}: {explain(error)}") from error


def _existing(folder: Path) -> Path:
    path = folder / NAME
    try:
        is_there = path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    except OSError as error:
        raise StoreUnavailableError(
            f"{path} cannot be looked at ({error.strerror}): see the rights of the folder, or use "
            "the account that the broker runs under"
        ) from error
    if not is_there:
        raise _missing(folder)
    return path


def _missing(folder: Path) -> StoreMissingError:
    return StoreMissingError(
        f"{folder}: there is no store in this folder; name the one that the broker uses with "
        "--data-dir or --config"
    )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", timeout=0, isolation_level=None, uri=True
    )
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    return connection


def _check_schema(folder: Path, connection: sqlite3.Connection) -> None:
    try:
        version = schema_of(connection)
    except StoreError as error:
        raise type(error)(f"{folder}: {error}") from None
    if version == 0:
        raise _missing(folder)
    if version < len(MIGRATIONS):
        raise StoreUnavailableError(
            f"{folder}: the store has schema {version}, and this version works on "
            f"{len(MIGRATIONS)}: start a broker on it once, which brings it up to date"
        )


def _remove_unused(aside: Path) -> None:
    """Remove a file that SQLite made for us alone; a log that has something in it is not that."""
    try:
        if aside.name.endswith("-shm") or not aside.stat().st_size:
            aside.unlink()
    except OSError:
        pass  # it does no harm
