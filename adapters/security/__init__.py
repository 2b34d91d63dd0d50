"""Where credentials come from and how they are checked."""

from __future__ import annotations

from adapters.security._passwords import PasswordHash
from adapters.security._scram import ScramCredential
from adapters.security._scram_client import ScramClient
from adapters.security._users import PasswordThread, UserTable, parse_hash

__all__ = [
    "PasswordHash",
    "PasswordThread",
    "ScramClient",
    "ScramCredential",
    "UserTable",
    "parse_hash",
]
