"""What stands between a socket and MQTT: URLs, WebSocket, clocks, errors that say what to do.

Nothing here knows an event loop, a server or a client, so that any of them can use it.
"""

from adapters.stages._address import (
    AddressError,
    ServerAddress,
    server_address,
    why_lost,
    why_not_connected,
)
from adapters.stages._clock import clock_of
from adapters.stages._websocket import WebSocketError, WebSocketStage

__all__ = [
    "AddressError",
    "ServerAddress",
    "WebSocketError",
    "WebSocketStage",
    "clock_of",
    "server_address",
    "why_lost",
    "why_not_connected",
]
