"""What tools do with the store of a broker that is stopped."""

from __future__ import annotations

from adapters.storage.offline._exporting import export
from adapters.storage.offline._figures import (
    Figures,
    SessionFigures,
    figures,
    file_bytes,
    log_bytes,
    session_figures,
)
from adapters.storage.offline._importing import (
    ImportRefusedError,
    StoreNotEmptyError,
    import_into,
)
from adapters.storage.offline._opening import (
    StoreMissingError,
    StoreUnreadableError,
    open_to_change,
    open_to_look,
)
from adapters.storage.offline._removing import (
    SessionParts,
    remove_retained,
    remove_session,
    retained_topics,
    session_parts,
)
from adapters.storage.offline._verifying import faults, log_bytes_cut

__all__ = [
    "Figures",
    "ImportRefusedError",
    "SessionFigures",
    "SessionParts",
    "StoreMissingError",
    "StoreNotEmptyError",
    "StoreUnreadableError",
    "export",
    "faults",
    "figures",
    "file_bytes",
    "import_into",
    "log_bytes",
    "log_bytes_cut",
    "open_to_change",
    "open_to_look",
    "remove_retained",
    "remove_session",
    "retained_topics",
    "session_figures",
    "session_parts",
]
