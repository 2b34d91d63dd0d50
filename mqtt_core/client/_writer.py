"""A message as a PUBLISH of the connection that there is: what the server takes, and how.

What a server has announced in its CONNACK decides whether a message may be sent to it, and topic
aliases make it shorter (3.3.2.3.4 of MQTT 5.0).
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import (
    MQTT_5,
    PACKET_TOO_LARGE,
    QOS_NOT_SUPPORTED,
    RETAIN_NOT_SUPPORTED,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mqtt_core._connection import Connection
from mqtt_core._message import NEVER, Message, delivery_head5
from mqtt_core._outbound_aliases import OutboundAliases
from mqtt_core._topics import Topic
from mqtt_core.client._desk import Desk
from mqtt_core.client._errors import PublishRefused
from mqtt_core.client._publication import Publication

_HEADER_BYTES: Final = 10  # of a PUBLISH without properties, beside its topic and payload, at most
_ALIASED_BYTES: Final = 24  # a shorter topic is sent as it is: an alias would save next to nothing
_ALIAS_TABLE_BYTES: Final = 65_536
_MORE_BYTES: Final = 12  # of one with properties: their length, an alias, an expiry


@final
class Writer:
    """Writes PUBLISH packets to the connection of the moment."""

    __slots__ = ("_desk", "_aliases")

    def __init__(self, desk: Desk) -> None:
        self._desk: Final = desk
        self._aliases: OutboundAliases | None = None

    def begin(self, connection: Connection) -> None:
        """A connection begins, without aliases so far."""
        most = min(connection.peer.topic_alias_maximum, self._desk.limits.max_topic_aliases)
        self._aliases = OutboundAliases(most, _ALIAS_TABLE_BYTES) if most else None

    def write_plain(self, topic: Topic, payload: bytes, retain: bool, now: float) -> bool:
        """Write a QoS 0 message without properties; False where it is not as simple as that."""
        desk = self._desk
        connection = desk.connection
        assert connection is not None
        peer = connection.peer
        size = len(topic.utf8) + len(payload) + _HEADER_BYTES
        if size > peer.maximum_packet_size or (retain and not peer.has_retain):
            return False
        if self._aliases is not None and len(topic.utf8) >= _ALIASED_BYTES:
            return False
        connection.write_publish(topic.utf8, payload, 0, retain, 0, now)
        desk.counters.published += 1
        return True

    def refusal(self, connection: Connection, message: Message) -> PublishRefused | None:
        """What keeps a message from this server, as it has announced itself."""
        peer = connection.peer
        if message.qos > peer.maximum_qos:  # [MQTT-3.2.2-11]
            return PublishRefused(
                f"the server takes messages up to QoS {peer.maximum_qos}: publish at that",
                QOS_NOT_SUPPORTED,
            )
        if message.retain and not peer.has_retain:  # [MQTT-3.2.2-14]
            return PublishRefused(
                "the server has no retained messages: publish without retain",
                RETAIN_NOT_SUPPORTED,
            )
        if message.has_properties and connection.level != MQTT_5:
            return PublishRefused(
                "the server speaks MQTT 3.1.1, which has no message properties (expiry, content "
                "type, response topic, user properties): publish without",
                UNSUPPORTED_PROTOCOL_VERSION,
            )
        if _most_bytes(message) > peer.maximum_packet_size:
            head = delivery_head5(message, message.qos, False, message.retain, 1, message.expiry_s)
            size = len(head) + len(message.payload)
            if size > peer.maximum_packet_size:  # [MQTT-3.2.2-15]
                return PublishRefused(
                    f"the server takes packets up to {peer.maximum_packet_size:,} bytes, and this "
                    f"message takes {size:,}: send it in parts",
                    PACKET_TOO_LARGE,
                )
        return None

    def write(
        self, connection: Connection, publication: Publication, dup: bool, now: float
    ) -> None:
        """Write the PUBLISH of a message that may be sent."""
        message = publication.message
        qos = publication.qos
        packet_id = publication.packet_id
        if connection.level != MQTT_5:
            if not dup:
                connection.write_publish(
                    message.topic.utf8, message.payload, qos, message.retain, packet_id, now
                )
                return
            head = message.flagged_head(qos, dup, message.retain) + packet_id.to_bytes(2, "big")
            connection.write_head(head, message.payload, now)
            return
        aliases = self._aliases
        alias = 0
        has_topic = True
        topic = message.topic.utf8
        if aliases is not None and len(topic) >= _ALIASED_BYTES and not dup:
            alias = aliases.known(topic)
            has_topic = alias == 0
            if has_topic and _most_bytes(message) <= connection.peer.maximum_packet_size:
                alias = aliases.assign(topic)
        if not alias and not dup and not message.has_properties:
            connection.write_publish(topic, message.payload, qos, message.retain, packet_id, now)
            return
        expiry_s = NEVER
        if publication.expires_at:
            expiry_s = max(0, min(message.expiry_s, round(publication.expires_at - now)))
        head = delivery_head5(
            message, qos, dup, message.retain, packet_id, expiry_s, (), alias, has_topic
        )
        connection.write_head(head, message.payload, now)


def _most_bytes(message: Message) -> int:
    """What its PUBLISH takes at most, quickly."""
    size = len(message.topic.utf8) + len(message.payload) + len(message.wire_properties)
    return size + _HEADER_BYTES + _MORE_BYTES
