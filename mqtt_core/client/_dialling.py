"""When a client connects next, to which server, and in which version of MQTT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from mqtt_core._codes import MQTT_3_1_1, MQTT_5
from mqtt_core.client._settings import AUTO, Settings

_CHANCE_BYTES: Final = 4


@final
class Dialling:
    """What is known of earlier attempts.

    `reference` is the server that another one has named, empty for the client's own.
    """

    __slots__ = (
        "reference",
        "attempt",
        "_settings",
        "_entropy",
        "_level",
        "_falls_back",
        "_redirects",
        "_is_moved",
        "_online_since",
    )

    def __init__(self, settings: Settings, entropy: Callable[[int], bytes]) -> None:
        self.reference = ""
        self.attempt = 0
        self._settings: Final = settings
        self._entropy: Final = entropy
        self._level = settings.level  # AUTO until a server has taken a version
        self._falls_back = False
        self._redirects = 0
        self._is_moved = False
        self._online_since = 0.0

    @property
    def level(self) -> int:
        """The version of the next CONNECT."""
        if self._level != AUTO:
            return self._level
        return MQTT_3_1_1 if self._falls_back else MQTT_5

    def fall_back(self) -> bool:
        """The server seems not to know MQTT 5.0. False where that is no reason to try 3.1.1."""
        if self._level != AUTO or self._falls_back:
            return False
        self._falls_back = True
        return True

    def redirect(self, reference: str, is_moved: bool, was_online: bool, now: float) -> bool:
        """A server names others, of which the first is taken. False where that is too often, or
        none is named.

        That a server has taken the client is no way out of a circle: it may send it on at once.
        """
        servers = reference.split()
        if was_online and self._has_lasted(now):
            self._redirects = 0
        if not servers or self._redirects >= self._settings.limits.max_redirects:
            return False
        self._redirects += 1
        self.reference = servers[0]
        self._is_moved = is_moved
        return True

    def succeeded(self, level: int, now: float) -> None:
        """The server has taken the client, in this version."""
        self._level = level
        self._online_since = now

    def lost(self, was_online: bool, now: float) -> None:
        """A connection has ended, or none came about."""
        if was_online and self._has_lasted(now):
            self.attempt = 0
        self._redirects = 0
        self._falls_back = False
        if not self._is_moved:
            self.reference = ""  # "use another server" holds for as long as that is there

    def _has_lasted(self, now: float) -> bool:
        """Whether the connection that ends is old enough to count as a new beginning."""
        reconnect = self._settings.reconnect
        return reconnect is not None and now - self._online_since >= reconnect.most_s

    def delay_s(self) -> float:
        """How long to wait before the next attempt, which is counted."""
        reconnect = self._settings.reconnect
        assert reconnect is not None
        chance = int.from_bytes(self._entropy(_CHANCE_BYTES), "big") / (1 << 8 * _CHANCE_BYTES)
        delay_s = reconnect.delay_s(self.attempt, chance)
        self.attempt += 1
        return delay_s
