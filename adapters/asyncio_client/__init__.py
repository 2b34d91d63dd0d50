"""The client on asyncio; any event loop of it will do. Users write `from iotd import Client`."""

from adapters.asyncio_client._client import Client
from adapters.asyncio_client._messages import Messages

__all__ = ["Client", "Messages"]
