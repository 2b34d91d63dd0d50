"""`iotd hash-password`: from a password to the line for the configuration file."""

from __future__ import annotations

import sys
from getpass import getpass

from adapters.security import PasswordHash, ScramCredential
from iotd.cli._program import CannotRunError


def hash_password(iterations: int = 0) -> int:
    """Ask for a password, or read it from a pipe, and print its hash; returns the exit code.

    With `iterations` it is a SCRAM credential of that cost. Raises `CannotRunError`.
    """
    password = _ask() if sys.stdin.isatty() else sys.stdin.buffer.readline().rstrip(b"\r\n")
    if not password:
        raise CannotRunError("the password is empty; type one, or write one to standard input")
    print(f'password_hash = "{_hash(password, iterations)}"')
    return 0


def _hash(password: bytes, iterations: int) -> str:
    if not iterations:
        return PasswordHash.make(password).format()
    try:
        return ScramCredential.make(password, iterations=iterations).format()
    except ValueError as error:
        raise CannotRunError(f"{error}; choose another password") from None


def _ask() -> bytes:
    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise CannotRunError("the two passwords differ; try again")
    return password.encode()
