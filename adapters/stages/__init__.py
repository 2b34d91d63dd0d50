"""What stands between a socket and MQTT: server URLs, WebSocket, and errors that say what to do.

Nothing here knows an event loop, a server or a client, so that any of them can use it.
"""

from adapters.stages._address import (
    AddressError,
    ServerAddress,
    server_address,
    why_lost,
    why_not_connected,
)
from adapters.stages._websocket import WebSocketError, WebSocketStage

__all__ = [
    "AddressError",
    "ServerAddress",
    "WebSocketError",
    "WebSocketStage",
    "server_address",
    "why_lost",
    "why_not_connected",
]
