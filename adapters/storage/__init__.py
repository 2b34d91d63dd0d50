"""The embedded storage engine: sessions, queues, retained messages and wills in one file."""

from __future__ import annotations

from adapters.storage._database import Report
from adapters.storage._engine import SqliteEngine
from adapters.storage._errors import (
    StoreDamagedError,
    StoreError,
    StoreForeignError,
    StoreInUseError,
    StoreTooNewError,
    StoreUnavailableError,
)
from adapters.storage._limits import StoreLimits
from adapters.storage._notices import Notice

__all__ = [
    "Notice",
    "Report",
    "SqliteEngine",
    "StoreDamagedError",
    "StoreError",
    "StoreForeignError",
    "StoreInUseError",
    "StoreLimits",
    "StoreTooNewError",
    "StoreUnavailableError",
]
