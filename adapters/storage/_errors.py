"""What keeps a store from being opened; each message says what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final


class StoreError(Exception):
    """A store cannot be opened. The message is for people and says what to do next."""


class StoreInUseError(StoreError):
    """Another process, or another engine of this one, has the store open."""


class StoreTooNewError(StoreError):
    """The store was written by a newer version, with a schema that this one does not know."""


class StoreForeignError(StoreError):
    """The file is a database, but of some other program."""


class StoreUnavailableError(StoreError):
    """The folder or its files cannot be read or written; nothing is known to be damaged."""


class StoreDamagedError(StoreError):
    """The database cannot be read. It has been set aside as `kept_as`, and nothing is deleted."""

    def __init__(self, message: str, kept_as: Path) -> None:
        super().__init__(message)
        self.kept_as: Final = kept_as


class RecordDamagedError(Exception):
    """Bytes of one record are not what was stored."""


_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_NO_SPACE: Final = "no space is left: free some on the file system of the store"

_ADVICE: Final = {
    # Extended codes, which say more than that the disk fails.
    sqlite3.SQLITE_IOERR_SHMSIZE: _NO_SPACE,
    sqlite3.SQLITE_IOERR_LOCK: "a file cannot be locked: see whether its file system is mounted "
    "read-only, or is one without locks",
    sqlite3.SQLITE_FULL: _NO_SPACE,
    sqlite3.SQLITE_IOERR: "the disk fails: see the log of the system",
    sqlite3.SQLITE_READONLY: "it cannot be written: see the rights of the folder and its files, "
    "and whether its file system is mounted read-only",
    sqlite3.SQLITE_CANTOPEN: "a file cannot be opened: see the rights of the folder, whether its "
    "file system is mounted read-only, and the limit of open files",
    sqlite3.SQLITE_BUSY: "another process has it open: end that one",
    sqlite3.SQLITE_NOMEM: "memory has run out",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop the broker, keep a copy, and start it again",
    sqlite3.SQLITE_NOTADB: "it is damaged: stop the broker, keep a copy, and start it again",
}


def code_of(error: BaseException) -> int:
    """The primary result code of SQLite, 0 where the error has none."""
    code = getattr(error, "sqlite_errorcode", 0)
    return int(code) & 0xFF if code else 0


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file is not what was written."""
    return code_of(error) in _CORRUPT


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no space, so that nothing of it was stored."""
    return code_of(error) == sqlite3.SQLITE_FULL


def explain(error: BaseException) -> str:
    """An error of the disk or of SQLite in one line, with what to do."""
    text = str(error) or type(error).__name__
    code = getattr(error, "sqlite_errorcode", 0)
    advice = _ADVICE.get(code) or _ADVICE.get(code_of(error))
    return f"the store: {text}" if advice is None else f"the store: {text}; {advice}"
