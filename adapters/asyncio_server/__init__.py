"""The broker on asyncio, with uvloop where it is installed."""

from adapters.asyncio_server._server import Server, run
from adapters.transport import ListenError

__all__ = ["ListenError", "Server", "run"]
