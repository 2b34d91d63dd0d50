"""What the server tells a client of MQTT 5.0 in CONNACK, and what it takes from its CONNECT."""

from __future__ import annotations

from typing import Final

from mqtt_core._codes import LARGEST_STRING_BYTES, MQTT_5
from mqtt_core._packets import Connect
from mqtt_core._properties import (
    ASSIGNED_CLIENT_IDENTIFIER,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    REQUEST_RESPONSE_INFORMATION,
    RESPONSE_INFORMATION,
    RETAIN_AVAILABLE,
    SERVER_KEEP_ALIVE,
    SERVER_REFERENCE,
    SESSION_EXPIRY_INTERVAL,
    SHARED_SUBSCRIPTION_AVAILABLE,
    SUBSCRIPTION_IDENTIFIER_AVAILABLE,
    TOPIC_ALIAS_MAXIMUM,
    WILDCARD_SUBSCRIPTION_AVAILABLE,
    Properties,
    PropertyValue,
    number,
)
from mqtt_core.broker._limits import Limits

_LARGEST_RECEIVE_MAXIMUM: Final = 65_535  # what a server that says nothing takes
_PACKET_AROUND_BYTES: Final = 32  # what stands around the texts of a packet, at most


def session_expiry_s(connect: Connect, limits: Limits) -> int:
    """How long the session of a client is kept after its connection, in seconds.

    What the client asks for, within the limit; a client of an older version is given the limit,
    or nothing with a clean session.
    """
    most = limits.session_timeout_secs
    if connect.level == MQTT_5:
        asked = number(connect.properties, SESSION_EXPIRY_INTERVAL, 0)
        return min(asked, most)
    return 0 if connect.clean_start else most


def keep_alive_s(connect: Connect, limits: Limits) -> int:
    """The keep-alive in force, in seconds, 0 for none: the client's, within the limit for one
    that can be told."""
    asked = connect.keep_alive_s
    most = limits.keep_alive_timeout_secs
    if connect.level == MQTT_5 and most and (not asked or asked > most):
        return most  # [MQTT-3.2.2-22]
    return asked


def receive_maximum(limits: Limits) -> int:
    """How many messages at QoS 1 and 2 a client may have unacknowledged: no more than it may have
    between PUBREC and PUBREL."""
    return min(limits.receive_maximum, limits.max_held_identifiers)


def connack_properties(connect: Connect, limits: Limits, client_id: str) -> Properties:
    """The properties of an accepting CONNACK: all that differs from what the standard assumes."""
    if connect.level != MQTT_5:
        return ()
    found: list[tuple[int, PropertyValue]] = []
    asked = number(connect.properties, SESSION_EXPIRY_INTERVAL, 0)
    expiry_s = session_expiry_s(connect, limits)
    if expiry_s != asked:
        found.append((SESSION_EXPIRY_INTERVAL, expiry_s))
    most = receive_maximum(limits)
    if most < _LARGEST_RECEIVE_MAXIMUM:
        found.append((RECEIVE_MAXIMUM, most))
    if limits.maximum_qos < 2:
        found.append((MAXIMUM_QOS, limits.maximum_qos))  # [MQTT-3.2.2-9]
    if not limits.retain_available:
        found.append((RETAIN_AVAILABLE, 0))
    found.append((MAXIMUM_PACKET_SIZE, limits.max_packet_size_bytes))
    if not connect.client_id:
        found.append((ASSIGNED_CLIENT_IDENTIFIER, client_id))  # [MQTT-3.2.2-16]
    if limits.topic_alias_maximum:
        found.append((TOPIC_ALIAS_MAXIMUM, limits.topic_alias_maximum))
    if not limits.wildcard_subscriptions:
        found.append((WILDCARD_SUBSCRIPTION_AVAILABLE, 0))
    if not limits.subscription_identifiers:
        found.append((SUBSCRIPTION_IDENTIFIER_AVAILABLE, 0))
    if not limits.shared_subscriptions:
        found.append((SHARED_SUBSCRIPTION_AVAILABLE, 0))
    if keep_alive_s(connect, limits) != connect.keep_alive_s:
        found.append((SERVER_KEEP_ALIVE, keep_alive_s(connect, limits)))
    information = limits.response_information.replace("%c", client_id)
    is_wanted = number(connect.properties, REQUEST_RESPONSE_INFORMATION, 0) == 1
    if is_wanted and 0 < len(information.encode()) <= LARGEST_STRING_BYTES:  # [MQTT-3.1.2-28]
        found.append((RESPONSE_INFORMATION, information))
    return tuple(found)


def reason_properties(text: str, most_bytes: int, server_reference: str = "") -> Properties:
    """A reason string and another server, left out where the packet would be larger than the
    client takes.

    `most_bytes` is the client's maximum packet size, 0 for none.
    [MQTT-3.2.2-19] [MQTT-3.14.2-3]
    """
    room = most_bytes - _PACKET_AROUND_BYTES if most_bytes else len(text) * 4 + 65_535
    found: list[tuple[int, PropertyValue]] = []
    if server_reference and len(server_reference.encode()) <= room:
        found.append((SERVER_REFERENCE, server_reference))
        room -= len(server_reference.encode())
    if text and len(text.encode()) <= room:
        found.append((REASON_STRING, text))
    return tuple(found)
