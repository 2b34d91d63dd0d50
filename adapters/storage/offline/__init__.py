"""What tools do with the store of a broker that is stopped."""

from __future__ import annotations

from adapters.storage.offline._figures import (
    Figures,
    SessionFigures,
    figures,
    file_bytes,
    log_bytes,
    session_figures,
)
from adapters.storage.offline._opening import (
    StoreMissingError,
    StoreUnreadableError,
    open_to_change,
    open_to_look,
)
from adapters.storage.offline._verifying import faults, log_bytes_cut

__all__ = [
    "Figures",
    "SessionFigures",
    "StoreMissingError",
    "StoreUnreadableError",
    "faults",
    "figures",
    "file_bytes",
    "log_bytes",
    "log_bytes_cut",
    "open_to_change",
    "open_to_look",
    "session_figures",
]
