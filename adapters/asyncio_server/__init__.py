"""The broker on asyncio, with uvloop where it is installed."""

from adapters.asyncio_server._server import Server, run
from adapters.asyncio_server._serving import Messages
from adapters.asyncio_server._threaded import ThreadedMessages, ThreadedServer
from adapters.transport import ListenError

__all__ = ["ListenError", "Messages", "Server", "ThreadedMessages", "ThreadedServer", "run"]
