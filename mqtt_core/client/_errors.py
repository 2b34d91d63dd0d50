"""What goes wrong for a program that uses a client. Each text says what to do.

What a program may not ask for at all (a topic name with a wildcard, say) is a `ValueError`.
"""

from __future__ import annotations

from mqtt_core._codes import SUCCESS


class MqttError(Exception):
    """Base of all errors of a client."""


class ConnectError(MqttError):
    """The server could not be reached, or gave no answer that is MQTT."""


class ConnectionRefused(ConnectError):
    """The server has answered, and does not take this client.

    `reason` is the reason code, one of MQTT 5.0 in every version; `reason_string` is what the
    server says of it, `server_reference` another server that it names, empty without one.
    """

    def __init__(
        self, message: str, reason: int, reason_string: str = "", server_reference: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.reason_string = reason_string
        self.server_reference = server_reference


class ConnectionLost(MqttError):
    """The connection has ended, and what was asked for cannot go on on another one.

    `reason` is that of the server's DISCONNECT (MQTT 5.0), 0 where none came.
    """

    def __init__(self, message: str, reason: int = SUCCESS) -> None:
        super().__init__(message)
        self.reason = reason


class ClientClosed(MqttError):
    """The client was closed, or has ended: its `__cause__` is why."""


class PublishRefused(MqttError):
    """The server does not take a message: `reason` is the code of its PUBACK or PUBREC (3.4.2.1),
    or the one that it would have, where it has announced so before.
    """

    def __init__(self, message: str, reason: int, reason_string: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.reason_string = reason_string


class MessageExpired(MqttError):
    """The message expiry interval was over before the message could be sent."""


class DeliveryUnknown(MqttError):
    """A QoS 2 message may have been delivered, or not: the server has lost the session.

    Sending it again could deliver it twice, so the program has to decide.
    """


class SubscribeRefused(MqttError):
    """The server refuses a topic filter: `reason` is the code of its SUBACK (3.9.3)."""

    def __init__(
        self, message: str, topic_filter: str, reason: int, reason_string: str = ""
    ) -> None:
        super().__init__(message)
        self.topic_filter = topic_filter
        self.reason = reason
        self.reason_string = reason_string


class QueueFull(MqttError):
    """A limit of the client is reached: wait, or raise it."""


class StoreFailed(MqttError):
    """What must survive could not be stored, or read back: the text has the store's reason."""
