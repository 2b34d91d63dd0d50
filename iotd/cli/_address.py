"""Where a broker is, as a person writes it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import typer

DEFAULT_PORT: Final = 1883


def parse_address(text: str, hint: str) -> tuple[str, int]:
    """(host, port) of `HOST`, `HOST:PORT`, `[::1]:PORT` or any of them behind `tcp://`.

    `hint` is the option or argument that it was given for. Raises `typer.BadParameter`.
    """
    scheme, found, rest = text.partition("://")
    if found and scheme != "tcp":
        raise typer.BadParameter(
            f'found "{text}"; allowed: HOST:PORT or tcp://HOST:PORT, without TLS', param_hint=hint
        )
    try:
        parts = urlsplit(f"//{rest if found else text}")
        host, port = parts.hostname, parts.port
        is_address_alone = not (parts.path or parts.query or parts.username)
    except ValueError:  # the port is no number, or a bracket is missing
        host, port, is_address_alone = None, None, False
    if not host or not is_address_alone:
        raise typer.BadParameter(
            f'found "{text}"; allowed: HOST:PORT, such as 127.0.0.1:1883 or [::1]:1883',
            param_hint=hint,
        )
    return host, DEFAULT_PORT if port is None else port


def written(address: tuple[str, int]) -> str:
    """The address as `HOST:PORT`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
