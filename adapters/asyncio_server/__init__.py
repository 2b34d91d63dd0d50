"""The broker on asyncio, with uvloop where it is installed."""

from adapters.asyncio_server._server import Server, run
from adapters.asyncio_server._serving import AsyncAnswer, Messages
from adapters.asyncio_server._threaded import ThreadedMessages, ThreadedServer
from adapters.transport import ListenError

__all__ = [
    "AsyncAnswer",
    "ListenError",
    "Messages",
    "Server",
    "ThreadedMessages",
    "ThreadedServer",
    "run",
]
