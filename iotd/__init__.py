"""iotd: an MQTT broker, as a program and inside your own.

`Server` runs one on asyncio, `ThreadedServer` in a thread of its own, and `iotd.gevent` has that on
gevent.
Nothing of an event loop is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from iotd._version import __version__

if TYPE_CHECKING:
    from adapters.asyncio_server import Server, ThreadedServer
    from adapters.transport import (
        ListenError,
        NotServingError,
        PublishError,
        RecoveryError,
        SubscribeError,
        SubscriptionEndedError,
    )

__all__ = [
    "ListenError",
    "NotServingError",
    "PublishError",
    "RecoveryError",
    "Server",
    "SubscribeError",
    "SubscriptionEndedError",
    "ThreadedServer",
    "__version__",
]

_SOURCES: Final = {
    "ListenError": "adapters.transport",
    "NotServingError": "adapters.transport",
    "PublishError": "adapters.transport",
    "RecoveryError": "adapters.transport",
    "Server": "adapters.asyncio_server",
    "SubscribeError": "adapters.transport",
    "SubscriptionEndedError": "adapters.transport",
    "ThreadedServer": "adapters.asyncio_server",
}


def __getattr__(name: str) -> object:
    """Import a name from where it is, the first time that it is asked for."""
    source = _SOURCES.get(name)
    if source is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(source), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
