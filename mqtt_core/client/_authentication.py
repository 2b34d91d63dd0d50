"""A client's side of enhanced authentication (4.12 of MQTT 5.0)."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import CONTINUE_AUTHENTICATION, RE_AUTHENTICATE, SUCCESS
from mqtt_core._packets import Auth, ConnAck
from mqtt_core._properties import (
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    NO_PROPERTIES,
    Properties,
    binary,
)
from mqtt_core.client._settings import Settings


@final
class Authentication:
    """The exchange of one connection, with the mechanism of the settings."""

    __slots__ = ("_mechanism", "_most_steps", "_steps")

    def __init__(self, settings: Settings) -> None:
        self._mechanism: Final = settings.mechanism
        self._most_steps: Final = settings.limits.max_auth_steps
        self._steps = 0

    def begin(self) -> Properties:
        """The properties of CONNECT."""
        mechanism = self._mechanism
        self._steps = 0
        if mechanism is None:
            return NO_PROPERTIES
        return (
            (AUTHENTICATION_METHOD, mechanism.method),
            (AUTHENTICATION_DATA, mechanism.begin()),
        )

    def begin_again(self) -> Auth:
        """The AUTH that begins a re-authentication (4.12.1)."""
        mechanism = self._mechanism
        self._steps = 0
        data = b"" if mechanism is None else mechanism.begin()
        return Auth(RE_AUTHENTICATE, ((AUTHENTICATION_DATA, data),))

    def answer(self, packet: Auth) -> tuple[Auth | None, str]:
        """The answer to the server's AUTH, None for none; and what is wrong, empty for nothing."""
        mechanism = self._mechanism
        assert mechanism is not None  # else the connection takes no AUTH
        data = binary(packet.properties, AUTHENTICATION_DATA) or b""
        self._steps += 1
        if self._steps > self._most_steps:
            return None, f"the server has more than {self._most_steps} challenges"
        try:
            if packet.reason == SUCCESS:
                mechanism.finish(data)
                return None, ""
            answer = mechanism.answer(data)
        except ValueError as error:
            return None, str(error)
        return Auth(CONTINUE_AUTHENTICATION, ((AUTHENTICATION_DATA, answer),)), ""

    def fault(self, packet: ConnAck) -> str:
        """What is wrong with the server's last word; empty for nothing."""
        mechanism = self._mechanism
        if mechanism is None:
            return ""
        try:
            mechanism.finish(binary(packet.properties, AUTHENTICATION_DATA) or b"")
        except ValueError as error:
            return str(error)
        return ""
