"""From the words of a program to those of the core."""

from __future__ import annotations

from collections.abc import Sequence

from mqtt_core import Properties, Subscription
from mqtt_core.properties import (
    CONTENT_TYPE,
    CORRELATION_DATA,
    MESSAGE_EXPIRY_INTERVAL,
    RESPONSE_TOPIC,
    USER_PROPERTY,
)


def payload_bytes(payload: bytes | bytearray | memoryview | str) -> bytes:
    """A payload as the core takes it: text as UTF-8. Raises `TypeError` for anything else."""
    if isinstance(payload, str):
        return payload.encode()
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload)
    raise TypeError(
        f"a payload is bytes or str, not {type(payload).__name__}: for JSON give json.dumps(...)"
    )


def message_properties(
    expiry_s: int | None,
    content_type: str | None,
    response_topic: str | None,
    correlation_data: bytes | None,
    user_properties: Sequence[tuple[str, str]],
) -> Properties:
    """The properties of a message (3.3.2.3 of MQTT 5.0)."""
    properties: list[tuple[int, int | bytes | str | tuple[str, str]]] = []
    if expiry_s is not None:
        properties.append((MESSAGE_EXPIRY_INTERVAL, expiry_s))
    if content_type is not None:
        properties.append((CONTENT_TYPE, content_type))
    if response_topic is not None:
        properties.append((RESPONSE_TOPIC, response_topic))
    if correlation_data is not None:
        properties.append((CORRELATION_DATA, bytes(correlation_data)))
    for name, value in user_properties:
        properties.append((USER_PROPERTY, (name, value)))
    return tuple(properties)


def subscriptions(
    filters: Sequence[str],
    qos: int,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: int,
) -> list[Subscription]:
    """What is asked for, one for each filter."""
    return [
        Subscription(each, qos, no_local, retain_as_published, retain_handling) for each in filters
    ]
