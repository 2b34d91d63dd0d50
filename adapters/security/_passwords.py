"""Password hashes: scrypt (RFC 7914) from the standard library, in the PHC string format.

A hash reads `$scrypt$ln=14,r=8,p=1$SALT$KEY`, so that its cost can be raised later without
touching what is stored. Checking one takes tens of milliseconds and 16 MiB on purpose: never on
an event loop (`CheckingThread` is the place).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from typing import Final, final

SALT_BYTES: Final = 16
KEY_BYTES: Final = 32
DEFAULT_LOG_COST: Final = 14
"""2**14 blocks of 1 KiB: 16 MiB and about 50 ms for one check."""
BLOCK_SIZE: Final = 8
PARALLELISM: Final = 1

# What one hash in a configuration may cost us: 2 * 64 MiB of memory, seconds of time.
_MAX_LOG_COST: Final = 16
_MAX_BLOCK_SIZE: Final = 16
_MAX_PARALLELISM: Final = 16
_MEMORY_LIMIT_BYTES: Final = 1 << 28

_FORMAT: Final = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)


@final
class PasswordHash:
    """The hash of one password with the salt and the cost it was made with."""

    __slots__ = ("block_size", "key", "log_cost", "parallelism", "salt")

    def __init__(
        self, log_cost: int, block_size: int, parallelism: int, salt: bytes, key: bytes
    ) -> None:
        self.log_cost: Final = log_cost
        self.block_size: Final = block_size
        self.parallelism: Final = parallelism
        self.salt: Final = salt
        self.key: Final = key

    def __repr__(self) -> str:
        """The cost only: a hash is worth stealing."""
        return f"PasswordHash(ln={self.log_cost}, r={self.block_size}, p={self.parallelism})"

    @classmethod
    def make(cls, password: bytes, *, log_cost: int = DEFAULT_LOG_COST) -> PasswordHash:
        """Hash `password` with a new salt. Raises `ValueError` for a cost out of bounds."""
        salt = os.urandom(SALT_BYTES)
        _check_cost(log_cost, BLOCK_SIZE, PARALLELISM)
        key = _derive(password, salt, log_cost, BLOCK_SIZE, PARALLELISM, KEY_BYTES)
        return cls(log_cost, BLOCK_SIZE, PARALLELISM, salt, key)

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Read what `format` wrote. Raises `ValueError`."""
        match = _FORMAT.fullmatch(text)
        if match is None:
            raise ValueError("a password hash reads $scrypt$ln=14,r=8,p=1$SALT$KEY")
        log_cost, block_size, parallelism = int(match[1]), int(match[2]), int(match[3])
        _check_cost(log_cost, block_size, parallelism)
        salt, key = _decode(match[4]), _decode(match[5])
        if not 8 <= len(salt) <= 64 or not 16 <= len(key) <= 64:
            raise ValueError("a password hash has 8 to 64 bytes of salt and 16 to 64 of key")
        return cls(log_cost, block_size, parallelism, salt, key)

    def format(self) -> str:
        """The hash as text, for a configuration file."""
        cost = f"ln={self.log_cost},r={self.block_size},p={self.parallelism}"
        return f"$scrypt${cost}${_encode(self.salt)}${_encode(self.key)}"

    def matches(self, password: bytes) -> bool:
        """Whether `password` is the one; takes the same time either way. Slow on purpose."""
        key = _derive(
            password, self.salt, self.log_cost, self.block_size, self.parallelism, len(self.key)
        )
        return hmac.compare_digest(key, self.key)


def _check_cost(log_cost: int, block_size: int, parallelism: int) -> None:
    for name, value, maximum in (
        ("ln", log_cost, _MAX_LOG_COST),
        ("r", block_size, _MAX_BLOCK_SIZE),
        ("p", parallelism, _MAX_PARALLELISM),
    ):
        if not 1 <= value <= maximum:
            raise ValueError(f"{name} of a password hash is {value}; allowed: 1 to {maximum}")


def _derive(
    password: bytes, salt: bytes, log_cost: int, block_size: int, parallelism: int, size: int
) -> bytes:
    return hashlib.scrypt(
        password,
        salt=salt,
        n=1 << log_cost,
        r=block_size,
        p=parallelism,
        maxmem=_MEMORY_LIMIT_BYTES,
        dklen=size,
    )


def _encode(data: bytes) -> str:
    """Base64 without padding, as the PHC format has it."""
    return base64.b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"salt or key of a password hash is not base64: {error}") from None
