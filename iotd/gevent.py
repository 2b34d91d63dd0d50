"""`Server` on gevent, for the extra `iotd[gevent]`. Nothing is monkey-patched."""

from adapters.gevent_server import Messages, Server

__all__ = ["Messages", "Server"]
