"""The will, as a program gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from adapters.client_common._asked import message_properties, payload_bytes
from mqtt_core import Will as WillPacket
from mqtt_core.properties import WILL_DELAY_INTERVAL


@final
class Will:
    """What the server is to publish when the connection ends without `close` (3.1.2.5).

    With `delay_s` it waits so long whether the client comes back (3.1.3.2.2 of MQTT 5.0); a server
    of 3.1.1 does not. The others are those of `Client.publish`. Raises `ValueError`.
    """

    __slots__ = ("packet",)

    def __init__(
        self,
        topic: str,
        payload: bytes | str = b"",
        qos: int = 0,
        retain: bool = False,
        *,
        delay_s: int = 0,
        expiry_s: int | None = None,
        content_type: str | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        user_properties: Sequence[tuple[str, str]] = (),
    ) -> None:
        if not 0 <= qos <= 2:
            raise ValueError(f"QoS is {qos}; allowed: 0, 1 and 2")
        properties = message_properties(
            expiry_s, content_type, response_topic, correlation_data, user_properties
        )
        if delay_s:
            properties = ((WILL_DELAY_INTERVAL, delay_s), *properties)
        self.packet: Final = WillPacket(topic, payload_bytes(payload), qos, retain, properties)

    def __repr__(self) -> str:
        return repr(self.packet)
