"""One CONNECT on its way to its CONNACK (3.1.4)."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import MQTT_3_1, MQTT_3_1_1, MQTT_5
from mqtt_core._packets import Connect
from mqtt_core._store import SessionRecord
from mqtt_core.broker._channel import Channel
from mqtt_core.broker._session import Session
from mqtt_core.broker._wills import will_delay_s

_SHOWN_METHOD: Final = 64  # characters of what a client calls its method
_VERSIONS: Final[dict[int, str]] = {MQTT_3_1: "3.1", MQTT_3_1_1: "3.1.1", MQTT_5: "5.0"}


@final
class Attempt:
    """A CONNECT on its way to its CONNACK."""

    __slots__ = (
        "channel",
        "connect",
        "client_id",
        "username",
        "number",
        "is_unrestricted",
        "data",
        "expiry_s",
        "is_over",
        "record",
        "new_key",
        "ended_key",
        "lost_key",
        "stale_key",
        "saves_will",
        "will_follows",
        "holds_will",
    )

    def __init__(
        self, channel: Channel, connect: Connect, client_id: str, number: int, expiry_s: int
    ) -> None:
        self.channel: Final = channel
        self.connect: Final = connect
        self.client_id: Final = client_id
        self.number: Final = number  # greater than that of any CONNECT that came before
        self.expiry_s: Final = expiry_s  # how long its session outlives the connection
        self.username = connect.username  # or who the policy says it is
        self.is_unrestricted = False
        self.data: bytes | None = None  # for the client, in CONNACK
        self.is_over = False  # its channel has ended, or a newer attempt has won
        self.record: SessionRecord | None = None
        self.new_key = 0  # of a session stored for this attempt, or for an earlier one
        self.ended_key = 0  # of a stored session that this attempt ends
        self.lost_key = 0  # of a session that the store does not have any more
        self.stale_key = 0  # of a session that has ended since the store was asked
        self.saves_will = False  # what it has stored says which will the client has
        self.will_follows = False  # it is stored once an older one of the client is published
        self.holds_will = False  # its will is counted

    def ends(self, known: Session) -> bool:
        """Whether a session of the client ends when this succeeds: because the CONNECT says so, or
        because the store does not have it any more."""
        return self.connect.clean_start or (known.key != 0 and known.key == self.lost_key)

    def has_last_will(self, known: Session | None) -> bool:
        """Whether an older will of the client is published before this succeeds: that of the
        connection which is taken over, or that of a session which ends. Until then the store has
        it, for a crash may come first."""
        if known is None:
            return False
        channel = known.channel
        if channel is not None and channel.will is not None:
            if not (will_delay_s(channel.will) and known.outlives_connection):
                return True
        return known.has_will and self.ends(known)

    def describe(self, is_present: bool) -> str:
        """What it asked for, for logs; `is_present`: its session was there before."""
        connect = self.connect
        parts = [f"MQTT {_VERSIONS[connect.level]}"]
        if connect.level == MQTT_5:
            parts.append("clean start" if connect.clean_start else "session kept")
            parts.append(f"session expiry {self.expiry_s} s")
        else:
            parts.append("clean session" if connect.clean_start else "persistent session")
        if is_present:
            parts.append("resumed")
        parts.append(f"keep-alive {self.channel.connection.keep_alive_s} s")
        if self.channel.connection.exchange is not None:
            parts.append(describe_method(self.channel))
        if self.username is not None:
            parts.append(f"user {self.username!r}")
        if connect.will is not None:
            parts.append(f"will on {connect.will.topic!r}")
        return ", ".join(parts)


def describe_method(channel: Channel) -> str:
    """The authentication method of a client, for logs and reason strings."""
    exchange = channel.connection.exchange
    return "" if exchange is None else f"method {exchange.method[:_SHOWN_METHOD]!r}"
