"""What one side of a connection announces of itself: in CONNECT or in CONNACK (MQTT 5.0)."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._properties import (
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    NO_PROPERTIES,
    RECEIVE_MAXIMUM,
    REQUEST_PROBLEM_INFORMATION,
    RETAIN_AVAILABLE,
    SESSION_EXPIRY_INTERVAL,
    SHARED_SUBSCRIPTION_AVAILABLE,
    SUBSCRIPTION_IDENTIFIER_AVAILABLE,
    TOPIC_ALIAS_MAXIMUM,
    WILDCARD_SUBSCRIPTION_AVAILABLE,
    Properties,
    number,
)

LARGEST_PACKET_BYTES: Final = 268_435_460
"""The largest packet that the packet format has room for."""


@final
class Announced:
    """The limits and abilities of one side, with the standard's defaults for what it left out.

    `session_expiry_s` is -1 where it named none.
    """

    def __init__(self, properties: Properties = NO_PROPERTIES) -> None:
        self.session_expiry_s: Final = number(properties, SESSION_EXPIRY_INTERVAL, -1)
        self.receive_maximum: Final = number(properties, RECEIVE_MAXIMUM, 65_535)
        self.maximum_packet_size: Final = number(
            properties, MAXIMUM_PACKET_SIZE, LARGEST_PACKET_BYTES
        )
        self.topic_alias_maximum: Final = number(properties, TOPIC_ALIAS_MAXIMUM, 0)
        # What only a client says.
        self.wants_problem_information: Final = (
            number(properties, REQUEST_PROBLEM_INFORMATION, 1) == 1
        )
        # What only a server says.
        self.maximum_qos: Final = number(properties, MAXIMUM_QOS, 2)
        self.has_retain: Final = number(properties, RETAIN_AVAILABLE, 1) == 1
        self.has_wildcards: Final = number(properties, WILDCARD_SUBSCRIPTION_AVAILABLE, 1) == 1
        self.has_identifiers: Final = number(properties, SUBSCRIPTION_IDENTIFIER_AVAILABLE, 1) == 1
        self.has_shared: Final = number(properties, SHARED_SUBSCRIPTION_AVAILABLE, 1) == 1


NOTHING_ANNOUNCED: Final = Announced()
"""Either side of a connection of MQTT 3.1.1, which announces nothing."""
