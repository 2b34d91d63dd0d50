"""A client without I/O: its session over many connections, its queues, its subscriptions."""

from mqtt_core.client._client import Client
from mqtt_core.client._counters import Counters
from mqtt_core.client._errors import (
    ClientClosed,
    ConnectError,
    ConnectionLost,
    ConnectionRefused,
    DeliveryUnknown,
    MessageExpired,
    MqttError,
    PublishRefused,
    QueueFull,
    StoreFailed,
    SubscribeRefused,
)
from mqtt_core.client._events import (
    Connected,
    Ended,
    Event,
    Lost,
    Retrying,
    SessionLost,
    Unclaimed,
)
from mqtt_core.client._limits import CLIENT_LIMITS, ClientLimits
from mqtt_core.client._mechanism import Mechanism
from mqtt_core.client._message import Message
from mqtt_core.client._publication import WRITTEN, Publication
from mqtt_core.client._settings import AUTO, Reconnect, Settings
from mqtt_core.client._subscriptions import Consumer

__all__ = [
    "AUTO",
    "CLIENT_LIMITS",
    "WRITTEN",
    "Client",
    "ClientClosed",
    "ClientLimits",
    "ConnectError",
    "Connected",
    "ConnectionLost",
    "ConnectionRefused",
    "Consumer",
    "Counters",
    "DeliveryUnknown",
    "Ended",
    "Event",
    "Lost",
    "Mechanism",
    "Message",
    "MessageExpired",
    "MqttError",
    "Publication",
    "PublishRefused",
    "QueueFull",
    "Reconnect",
    "Retrying",
    "SessionLost",
    "Settings",
    "StoreFailed",
    "SubscribeRefused",
    "Unclaimed",
]
