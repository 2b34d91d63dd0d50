"""The CONNECT of a client: what it asks for, in the words of the version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mqtt_core._announced import LARGEST_PACKET_BYTES
from mqtt_core._codes import MQTT_5
from mqtt_core._packets import Connect, Will
from mqtt_core._properties import (
    MAXIMUM_PACKET_SIZE,
    NO_PROPERTIES,
    RECEIVE_MAXIMUM,
    REQUEST_RESPONSE_INFORMATION,
    SESSION_EXPIRY_INTERVAL,
    Properties,
)
from mqtt_core.client._settings import Settings

_CHANCE_BYTES: Final = 8


def made_up_client_id(entropy: Callable[[int], bytes]) -> str:
    """A client identifier that every server takes (3.1.3.1), and nobody can guess."""
    return "iotd" + entropy(_CHANCE_BYTES).hex()


def session_expiry_s(settings: Settings, level: int) -> int:
    """How long the server is to keep the session once the connection is gone.

    A client without a lasting session has one all the same while it runs, so that a broken
    connection costs no message; 3.1.1 has no such thing.
    """
    if settings.session_expiry_s or level != MQTT_5 or settings.reconnect is None:
        return settings.session_expiry_s
    return settings.limits.resume_s


def keeps_session(settings: Settings, level: int) -> bool:
    """Whether the server keeps the session of a connection in that version."""
    return session_expiry_s(settings, level) > 0


def connect_packet(
    settings: Settings, client_id: str, level: int, had_session: bool, authentication: Properties
) -> Connect:
    """CONNECT (3.1). `had_session`: there was a connection in this run whose session is kept."""
    expiry_s = session_expiry_s(settings, level)
    # A session of an earlier run is taken up only where one was asked for.
    clean_start = not (settings.session_expiry_s or (had_session and expiry_s))
    will = settings.will
    properties: Properties = NO_PROPERTIES
    if level == MQTT_5:
        limits = settings.limits
        properties = (
            (RECEIVE_MAXIMUM, limits.receive_maximum),
            (REQUEST_RESPONSE_INFORMATION, 1),
            *settings.properties,
            *authentication,
        )
        if expiry_s:
            properties = ((SESSION_EXPIRY_INTERVAL, expiry_s), *properties)
        if limits.max_packet_size_bytes < LARGEST_PACKET_BYTES:
            properties = ((MAXIMUM_PACKET_SIZE, limits.max_packet_size_bytes), *properties)
    elif will is not None and will.properties:
        will = Will(will.topic, will.payload, will.qos, will.retain)
    return Connect(
        client_id,
        clean_start,
        settings.keep_alive_s,
        will,
        settings.username,
        settings.password,
        level,
        properties,
    )
