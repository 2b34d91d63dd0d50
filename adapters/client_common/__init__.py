"""What the clients share above the core: the words in which a program speaks to them."""

from adapters.client_common._asked import message_properties, payload_bytes, subscriptions
from adapters.client_common._options import Version, make_settings
from adapters.client_common._requests import MAX_REQUESTS, RequestTable, response_topic
from adapters.client_common._status import ClientStatus, SubscriptionStatus
from adapters.client_common._store import open_store
from adapters.client_common._will import Will

__all__ = [
    "MAX_REQUESTS",
    "ClientStatus",
    "RequestTable",
    "SubscriptionStatus",
    "Version",
    "Will",
    "make_settings",
    "message_properties",
    "open_store",
    "payload_bytes",
    "response_topic",
    "subscriptions",
]
