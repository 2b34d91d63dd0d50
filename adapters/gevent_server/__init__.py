"""The broker on gevent: hub watchers with callbacks, no greenlet per connection.

gevent is an extra: `pip install "iotd[gevent]"`. Nothing is monkey-patched.
"""

from adapters.gevent_server._server import Messages, Server, run
from adapters.transport import ListenError

__all__ = ["ListenError", "Messages", "Server", "run"]
