"""What people who run the broker see: its log."""

from __future__ import annotations

from adapters.operations._log import FORMATS, LEVELS, Log, open_log

__all__ = ["FORMATS", "LEVELS", "Log", "open_log"]
