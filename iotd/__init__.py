"""iotd: an MQTT broker. `Server` runs one on asyncio inside your own program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iotd._version import __version__

if TYPE_CHECKING:
    from adapters.asyncio_server import Server

__all__ = ["Server", "__version__"]


def __getattr__(name: str) -> object:
    """Import what needs an event loop only when it is asked for."""
    if name == "Server":
        from adapters.asyncio_server import Server

        return Server
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
