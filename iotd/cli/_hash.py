"""`iotd hash-password`: from a password to the line for the configuration file."""

from __future__ import annotations

import sys
from getpass import getpass

from adapters.security import PasswordHash
from iotd.cli._program import CannotRunError


def hash_password() -> int:
    """Ask for a password, or read it from a pipe, and print its hash; returns the exit code."""
    password = _ask() if sys.stdin.isatty() else sys.stdin.buffer.readline().rstrip(b"\r\n")
    if not password:
        raise CannotRunError("the password is empty; type one, or write one to standard input")
    print(f'password_hash = "{PasswordHash.make(password).format()}"')
    return 0


def _ask() -> bytes:
    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise CannotRunError("the two passwords differ; try again")
    return password.encode()
