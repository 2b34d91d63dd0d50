"""What the servers share below MQTT: listen URLs and sockets, the turn, signals, the collector.

Nothing here knows an event loop; a runtime offers what `Runtime` names.
"""

from adapters.transport._drive import (
    RECEIVE_BYTES,
    Authenticator,
    Cancellable,
    Drive,
    Origin,
    Runtime,
    Sendable,
    gather,
    log_fact,
)
from adapters.transport._hooks import Answer, Call
from adapters.transport._inside import (
    Mailbox,
    PublishError,
    SubscribeError,
    SubscriptionEndedError,
    check_published,
)
from adapters.transport._listen import (
    ACCEPT_RETRY_S,
    DEFAULT_PORT,
    OPTIONS,
    SCHEMES,
    ListenAddress,
    Listener,
    ListenError,
    bind_listeners,
    listen_address,
)
from adapters.transport._process import StopSignals, raise_descriptor_limit
from adapters.transport._server import NotServingError, RecoveryError, ServerBase

__all__ = [
    "ACCEPT_RETRY_S",
    "DEFAULT_PORT",
    "OPTIONS",
    "RECEIVE_BYTES",
    "SCHEMES",
    "Answer",
    "Authenticator",
    "Call",
    "Cancellable",
    "Drive",
    "ListenAddress",
    "ListenError",
    "Listener",
    "Mailbox",
    "NotServingError",
    "Origin",
    "PublishError",
    "RecoveryError",
    "Runtime",
    "Sendable",
    "ServerBase",
    "StopSignals",
    "SubscribeError",
    "SubscriptionEndedError",
    "bind_listeners",
    "check_published",
    "gather",
    "listen_address",
    "log_fact",
    "raise_descriptor_limit",
]
