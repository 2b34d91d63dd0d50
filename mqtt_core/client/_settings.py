"""What a client is told once: who it is, what it asks of the server, when it comes back."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import MQTT_3_1_1, MQTT_5
from mqtt_core._packets import Will
from mqtt_core._properties import NO_PROPERTIES, Properties
from mqtt_core._topics import topic_name_fault
from mqtt_core.client._limits import ClientLimits
from mqtt_core.client._mechanism import Mechanism

AUTO: Final = 0
"""The version of a client that tries MQTT 5.0, and 3.1.1 where the server has no 5.0."""

_NEVER_EXPIRES_S: Final = 0xFFFF_FFFF
_LONGEST_KEEP_ALIVE_S: Final = 65_535


@final
class Reconnect:
    """When a client comes back: exponential back-off with full jitter.

    Before attempt n (from 0) it waits a time of chance between 0 and `first_s * 2 ** n`, at most
    `most_s`. A connection that has lasted `most_s` counts as a new beginning.
    """

    def __init__(self, first_s: float = 0.5, most_s: float = 30.0) -> None:
        if not 0 < first_s <= most_s <= 86_400:
            raise ValueError(
                f"first_s is {first_s} and most_s is {most_s}; "
                "allowed: above 0, first_s at most most_s, most_s at most 86,400 (a day)"
            )
        self.first_s: Final = float(first_s)
        self.most_s: Final = float(most_s)

    def delay_s(self, attempt: int, chance: float) -> float:
        """The time before an attempt, in seconds; `chance` is from 0 to 1."""
        longest = min(self.most_s, self.first_s * 2.0 ** min(attempt, 40))
        return longest * chance


@final
class Settings:
    """What a client is told once.

    `level` is the version: `AUTO`, 5, or 4 for 3.1.1. An empty `client_id` is made up. With
    `session_expiry_s` of 0 the session ends with `close`; with more the server keeps it for so
    long, for the next run of the program, which needs a `client_id` for that. `properties` are
    further ones of CONNECT (user properties, say). Without `reconnect` the client ends with its
    connection. With `queues_qos0` a QoS 0 message waits for a connection, as others do.
    `mechanism` logs in by enhanced authentication. `server` is what messages call it. Raises
    `ValueError`.
    """

    def __init__(
        self,
        *,
        client_id: str = "",
        username: str | None = None,
        password: bytes | None = None,
        level: int = AUTO,
        keep_alive_s: int = 60,
        session_expiry_s: int = 0,
        will: Will | None = None,
        reconnect: Reconnect | None = None,
        manual_acks: bool = False,
        queues_qos0: bool = True,
        properties: Properties = NO_PROPERTIES,
        mechanism: Mechanism | None = None,
        server: str = "the server",
        limits: ClientLimits | None = None,
    ) -> None:
        if level not in (AUTO, MQTT_3_1_1, MQTT_5):
            raise ValueError(f"the version is {level!r}; allowed: 'auto', 5 and '3.1.1'")
        if not 0 <= keep_alive_s <= _LONGEST_KEEP_ALIVE_S:
            raise ValueError(
                f"keep_alive_s is {keep_alive_s}; allowed: 0 (none) to {_LONGEST_KEEP_ALIVE_S:,}"
            )
        if not 0 <= session_expiry_s <= _NEVER_EXPIRES_S:
            raise ValueError(
                f"session_expiry_s is {session_expiry_s}; allowed: 0 to {_NEVER_EXPIRES_S} (never)"
            )
        if session_expiry_s and not client_id:
            raise ValueError(
                "session_expiry_s asks for a session that outlives this run: give it a client_id, "
                "by which the server knows it again"
            )
        if password is not None and username is None and level == MQTT_3_1_1:
            raise ValueError("MQTT 3.1.1 has no password without a username: give both")
        if will is not None:
            fault = topic_name_fault(will.topic.encode())
            if fault is not None:
                raise ValueError(f"the will cannot be published to {will.topic!r}: {fault[0]}")
        if mechanism is not None and level == MQTT_3_1_1:
            raise ValueError("MQTT 3.1.1 has no enhanced authentication: use version=5")
        self.client_id: Final = client_id
        self.username: Final = username
        self.password: Final = password
        self.level: Final = MQTT_5 if mechanism is not None else level
        self.keep_alive_s: Final = keep_alive_s
        self.session_expiry_s: Final = session_expiry_s
        self.will: Final = will
        self.reconnect: Final = reconnect
        self.manual_acks: Final = manual_acks
        self.queues_qos0: Final = queues_qos0
        self.properties: Final = properties
        self.mechanism: Final = mechanism
        self.server: Final = server
        self.limits: Final = ClientLimits() if limits is None else limits

    def check_store(self) -> None:
        """Raises `ValueError` where a store is of no use."""
        if not self.session_expiry_s:
            raise ValueError(
                "a store is of use for a session that lasts: give client_id and session_expiry_s"
            )
