"""Whose turn it is in enhanced authentication (4.12 of MQTT 5.0).

CONNECT with an authentication method begins an exchange, and a client's AUTH that asks for
re-authentication another one. In it the two sides take turns, the server first, until the server
says that it has succeeded: with CONNACK or, later, with AUTH.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import CONTINUE_AUTHENTICATION, RE_AUTHENTICATE
from mqtt_core._packets import Auth, ConnAck
from mqtt_core._properties import AUTHENTICATION_METHOD, Properties, text

NOBODY: Final = 0
SERVERS_TURN: Final = 1
CLIENTS_TURN: Final = 2

Fault = tuple[str, str]
"""What is wrong, and the statement that says so."""


@final
class Exchange:
    """The enhanced authentication of one connection; `method` is that of its CONNECT."""

    __slots__ = ("method", "turn")

    def __init__(self, method: str) -> None:
        self.method: Final = method
        self.turn = SERVERS_TURN

    @property
    def is_clients_turn(self) -> bool:
        """Whether the server waits for the client's AUTH."""
        return self.turn == CLIENTS_TURN

    def with_method(self, properties: Properties) -> Properties:
        """Properties of an AUTH or CONNACK that name the method.  [MQTT-4.12.0-5]"""
        if text(properties, AUTHENTICATION_METHOD) is not None:
            return properties
        return ((AUTHENTICATION_METHOD, self.method), *properties)

    def by_client(self, auth: Auth, is_connected: bool) -> Fault | None:
        """A client's AUTH: takes the turn, or says why it may not come now."""
        fault = self._method_fault(auth)
        if fault is not None:
            return fault
        if auth.reason == RE_AUTHENTICATE:
            if not is_connected or self.turn != NOBODY:
                return "re-authentication within an authentication", "P5-1.2.0-2"
        elif self.turn != CLIENTS_TURN:
            return "AUTH answers nothing", "P5-1.2.0-2"
        self.turn = SERVERS_TURN
        return None

    def by_server(self, auth: Auth, is_connected: bool) -> Fault | None:
        """A server's AUTH: takes the turn, or says why it may not come now."""
        fault = self._method_fault(auth)
        if fault is not None:
            return fault
        if self.turn != SERVERS_TURN:
            return "AUTH answers nothing", "P5-1.2.0-2"
        if auth.reason == CONTINUE_AUTHENTICATION:
            self.turn = CLIENTS_TURN
            return None
        if not is_connected:
            return "AUTH says success where CONNACK has to", "MQTT-4.12.0-2"
        self.turn = NOBODY
        return None

    def _method_fault(self, auth: Auth) -> Fault | None:
        method = text(auth.properties, AUTHENTICATION_METHOD)
        if method is None:
            return "AUTH has no authentication method", "P5-3.15.2-1"
        if method != self.method:
            statement = "MQTT-4.12.1-1" if auth.reason == RE_AUTHENTICATE else "MQTT-4.12.0-5"
            return "authentication method is another than in CONNECT", statement
        return None


def connack_fault(exchange: Exchange | None, connack: ConnAck) -> Fault | None:
    """What is wrong with the method of a CONNACK that accepts."""
    method = text(connack.properties, AUTHENTICATION_METHOD)
    if exchange is None:
        if method is not None:
            return "CONNACK has an authentication method, and CONNECT had none", "MQTT-4.12.0-6"
        return None
    if method != exchange.method:
        return "authentication method of CONNACK is not that of CONNECT", "MQTT-4.12.0-5"
    return None
