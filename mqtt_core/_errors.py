"""Errors that say whose fault it is and what to answer.

`LocalProtocolError`: the caller asked for something that MQTT forbids; nothing was sent and
the connection is as it was. `RemoteProtocolError`: the peer broke MQTT; the connection is
closed to further input. No other error comes out of the core for any input.
"""

from __future__ import annotations

from mqtt_core._codes import MALFORMED_PACKET, UNSPECIFIED_ERROR


class ProtocolError(Exception):
    """A rule of MQTT was broken."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something that MQTT forbids here; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke MQTT.

    `statement` is the number of the statement broken (empty where the standard gives none),
    `offset` the position of the offending byte in the peer's stream (-1 for the packet that
    was read last), and `reason` the code of MQTT 5.0 to answer with.
    """

    def __init__(
        self, message: str, statement: str = "", offset: int = -1, reason: int = MALFORMED_PACKET
    ) -> None:
        super().__init__(message)
        self.message = message
        self.statement = statement
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        where = f" at byte {self.offset}" if self.offset >= 0 else ""
        return self.message + where + (f" [{self.statement}]" if self.statement else "")


class ConnectionRefused(RemoteProtocolError):
    """The peer's CONNECT or our own asks for what cannot be had: answer with CONNACK `reason`."""

    def __init__(
        self, message: str, statement: str = "", offset: int = -1, reason: int = UNSPECIFIED_ERROR
    ) -> None:
        super().__init__(message, statement, offset, reason)
