"""What a test may ask of its broker and its clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from adapters.asyncio_server import AsyncAnswer
from adapters.client_common import Version, Will
from mqtt_core import Properties
from mqtt_core.broker import AuthorizeRequest, AuthRequest, Limits, Policy
from mqtt_core.client import ClientLimits, Event, Mechanism, Reconnect


class BrokerOptions(TypedDict, total=False):
    """Options of `iotd.Server` that make sense in a test: `@pytest.mark.mqtt(limits=...)`.

    `records`: whether the broker's messages are remembered. What does so is a subscriber to `#`,
    so that no client is told that nobody has subscribed (0x10) unless this is False.
    """

    limits: Limits
    authenticate: Callable[[AuthRequest], AsyncAnswer]
    authorize: Callable[[AuthorizeRequest], AsyncAnswer]
    policy: Policy
    records: bool


class ClientOptions(TypedDict, total=False):
    """Options of `iotd.Client`, but for the URL and the client identifier."""

    username: str
    password: str | bytes
    version: Version
    keep_alive_s: int
    session_expiry_s: int
    will: Will
    reconnect: Reconnect | None
    manual_acks: bool
    queues_qos0: bool
    properties: Properties
    mechanism: Mechanism
    on_state: Callable[[Event], None]
    limits: ClientLimits
