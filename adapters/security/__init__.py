"""Where credentials come from and how they are checked."""

from __future__ import annotations

from adapters.security._passwords import PasswordHash

__all__ = ["PasswordHash"]
