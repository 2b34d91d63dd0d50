"""The client for programs without an event loop: scripts, threads, gevent.

Users write `from iotd import BlockingClient`.
"""

from adapters.blocking_client._client import BlockingClient
from adapters.blocking_client._messages import BlockingMessages

__all__ = ["BlockingClient", "BlockingMessages"]
