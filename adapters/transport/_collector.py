"""The garbage collector while a server runs.

The core cuts its own reference cycles, so almost nothing is left for the collector to find, but
a full collection looks at every object of every session: 31 ms at 100,000 of them, 275 ms at a
million. So while any server runs,

- what was loaded before it started is frozen: never looked at again (a program that has frozen
  something itself has decided that; nothing is added to it),
- new objects are looked at once, 10,000 at a time (some 5 ms), when so many more were made than
  freed: connections and sessions make as many, traffic alone frees what it makes,
- full collections happen once an hour, when a turn ends, instead of at any time.

The last server to stop puts everything back, so that an embedding program keeps its own settings.
"""

from __future__ import annotations

import gc
import threading
from typing import Final, final

YOUNG_THRESHOLD: Final = 10_000
"""Net allocations of container objects between two collections of the new ones."""

NEVER: Final = 1_000_000_000
"""As a threshold: no collection of that generation by itself."""

FULL_COLLECTION_INTERVAL_S: Final = 3600.0
"""Seconds between full collections."""


@final
class Collector:
    """Tunes the process's collector for as long as at least one server holds it."""

    _lock: Final = threading.Lock()
    _holders = 0
    _thresholds = (0, 0, 0)
    _has_frozen = False

    @classmethod
    def hold(cls) -> None:
        """A server has started: freeze what is loaded and set the thresholds."""
        with cls._lock:
            cls._holders += 1
            if cls._holders > 1:
                return
            cls._thresholds = gc.get_threshold()
            cls._has_frozen = not gc.get_freeze_count()
            if cls._has_frozen:
                gc.collect()
                gc.freeze()
            gc.set_threshold(YOUNG_THRESHOLD, NEVER, NEVER)

    @classmethod
    def release(cls) -> None:
        """A server has stopped: after the last one everything is as it was before the first."""
        with cls._lock:
            cls._holders -= 1
            if cls._holders:
                return
            gc.set_threshold(*cls._thresholds)
            if cls._has_frozen:
                gc.unfreeze()
