"""Brokers, clients and networks for tests; the fixtures of pytest are made of these.

`MqttBroker` is a broker with real sockets, `MqttRig` one with its clients on a virtual clock.
"""

from iotd.testing._broker import AsyncMqttClientFactory, MqttBroker, MqttClientFactory
from iotd.testing._client import RigClient, RigMessages
from iotd.testing._link import Link
from iotd.testing._loop import Stuck
from iotd.testing._messages import Payload, Routed
from iotd.testing._options import BrokerOptions, ClientOptions
from iotd.testing._rig import AsyncMqttRig, MqttRig
from iotd.testing._world import NotSeen

__all__ = [
    "AsyncMqttClientFactory",
    "AsyncMqttRig",
    "BrokerOptions",
    "ClientOptions",
    "Link",
    "MqttBroker",
    "MqttClientFactory",
    "MqttRig",
    "NotSeen",
    "Payload",
    "RigClient",
    "RigMessages",
    "Routed",
    "Stuck",
]
