"""iotd: an MQTT broker, as a program and inside your own; and clients.

`Client` talks to any broker from asyncio, `BlockingClient` from any other program. `Server` runs a
broker on asyncio, `ThreadedServer` in a thread of its own, and `iotd.gevent` has that on gevent.
Nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from iotd._version import __version__

if TYPE_CHECKING:
    from adapters.asyncio_client import Client, Messages
    from adapters.asyncio_server import Server, ThreadedServer
    from adapters.blocking_client import BlockingClient, BlockingMessages
    from adapters.client_common import Will
    from adapters.security import ScramClient
    from adapters.transport import (
        ListenError,
        NotServingError,
        PublishError,
        RecoveryError,
        SubscribeError,
        SubscriptionEndedError,
    )
    from mqtt_core.client import (
        ClientClosed,
        ClientLimits,
        ConnectError,
        ConnectionLost,
        ConnectionRefused,
        DeliveryUnknown,
        Message,
        MessageExpired,
        MqttError,
        Publication,
        PublishRefused,
        QueueFull,
        Reconnect,
        StoreFailed,
        SubscribeRefused,
    )

__all__ = [
    "BlockingClient",
    "BlockingMessages",
    "Client",
    "ClientClosed",
    "ClientLimits",
    "ConnectError",
    "ConnectionLost",
    "ConnectionRefused",
    "DeliveryUnknown",
    "ListenError",
    "Message",
    "MessageExpired",
    "Messages",
    "MqttError",
    "NotServingError",
    "Publication",
    "PublishError",
    "PublishRefused",
    "QueueFull",
    "Reconnect",
    "RecoveryError",
    "ScramClient",
    "Server",
    "StoreFailed",
    "SubscribeError",
    "SubscribeRefused",
    "SubscriptionEndedError",
    "ThreadedServer",
    "Will",
    "__version__",
]

_SOURCES: Final = {
    "BlockingClient": "adapters.blocking_client",
    "BlockingMessages": "adapters.blocking_client",
    "Client": "adapters.asyncio_client",
    "ClientClosed": "mqtt_core.client",
    "ClientLimits": "mqtt_core.client",
    "ConnectError": "mqtt_core.client",
    "ConnectionLost": "mqtt_core.client",
    "ConnectionRefused": "mqtt_core.client",
    "DeliveryUnknown": "mqtt_core.client",
    "ListenError": "adapters.transport",
    "Message": "mqtt_core.client",
    "MessageExpired": "mqtt_core.client",
    "Messages": "adapters.asyncio_client",
    "MqttError": "mqtt_core.client",
    "NotServingError": "adapters.transport",
    "Publication": "mqtt_core.client",
    "PublishError": "adapters.transport",
    "PublishRefused": "mqtt_core.client",
    "QueueFull": "mqtt_core.client",
    "Reconnect": "mqtt_core.client",
    "RecoveryError": "adapters.transport",
    "ScramClient": "adapters.security",
    "Server": "adapters.asyncio_server",
    "StoreFailed": "mqtt_core.client",
    "SubscribeError": "adapters.transport",
    "SubscribeRefused": "mqtt_core.client",
    "SubscriptionEndedError": "adapters.transport",
    "ThreadedServer": "adapters.asyncio_server",
    "Will": "adapters.client_common",
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
