"""MQTT packets as bytes, for load that is encoded before the clock starts.

The core encodes them. Those of MQTT 5.0 have no properties: a property length of 0 is all that is
added to 3.1.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from mqtt_core import (
    MQTT_3_1_1,
    MQTT_5,
    ConnAck,
    Connect,
    Connection,
    Disconnect,
    PingReq,
    PingResp,
    Subscribe,
    Subscription,
    encode,
    make_publish,
)

__all__ = [
    "DISCONNECT",
    "MQTT_3_1_1",
    "MQTT_5",
    "PINGREQ",
    "PINGRESP",
    "connack",
    "connect",
    "publish",
    "subscribe",
]

PINGREQ = encode(PingReq())
PINGRESP = encode(PingResp())
DISCONNECT = encode(Disconnect())


def connect(
    client_id: str, *, clean: bool = True, keep_alive_s: int = 0, level: int = MQTT_3_1_1
) -> bytes:
    """CONNECT (3.1); a keep-alive of 0 turns the mechanism off."""
    return encode(Connect(client_id, clean, keep_alive_s, level=level))


def connack(data: bytes, level: int = MQTT_3_1_1) -> ConnAck:
    """CONNACK (3.2) from its bytes. Raises `RemoteProtocolError` if they are none of this level."""
    connection = Connection()
    connection.send_connect(Connect("asking", level=level), 0.0)
    connection.receive_data(data, 0.0)
    for event in connection.events():
        if isinstance(event, ConnAck):
            return event
    raise ValueError(f"no CONNACK: {data.hex(' ')}")


def subscribe(packet_id: int, filters: Sequence[str], qos: int, level: int = MQTT_3_1_1) -> bytes:
    """SUBSCRIBE (3.8) to every one of `filters` at `qos`."""
    subscriptions = tuple(Subscription(topic_filter, qos) for topic_filter in filters)
    return encode(Subscribe(packet_id, subscriptions), level)


def publish(
    topic: str,
    payload: bytes,
    *,
    qos: int = 0,
    packet_id: int = 1,
    retain: bool = False,
    level: int = MQTT_3_1_1,
) -> bytes:
    """PUBLISH (3.3); `packet_id` is left out at QoS 0."""
    return encode(make_publish(topic, payload, qos, retain, packet_id if qos else 0), level)
