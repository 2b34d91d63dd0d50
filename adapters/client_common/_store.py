"""Where a client keeps what must survive its restart."""

from __future__ import annotations

from pathlib import Path

from mqtt_core.client import Settings
from mqtt_core.store import Engine


def open_store(store: Engine | str | Path | None, settings: Settings) -> Engine | None:
    """An engine as it is given, or the one with a database in that folder.

    Raises `ValueError` where those settings have no use for it, and
    `adapters.storage.StoreError` for a folder that cannot be used.
    """
    if store is not None:
        settings.check_store()  # before a folder is taken that nobody would let go of
    if not isinstance(store, (str, Path)):
        return store
    from adapters.storage import SqliteEngine  # which brings the broker's core and SQLite
    from mqtt_core.broker import Limits

    folder = Path(store)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return SqliteEngine(folder, Limits())
