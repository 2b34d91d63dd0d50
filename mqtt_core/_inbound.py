"""What binds the packets of one peer of MQTT 5.0, beyond their form."""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import i64

from mqtt_core._aliases import InboundAliases
from mqtt_core._property_codec import PropertyLimits


@final
class Inbound:
    """What binds the packets of one peer.

    `sender` is `BY_CLIENT` or `BY_SERVER`. A PUBLISH with any of `refused_flags` is one that the
    peer has no business to send: QoS bits above the server's Maximum QoS, RETAIN without Retain
    Available. A client that has asked for no problem information sets `takes_problem_information`
    False; a server whose client has no session to keep sets `may_set_expiry` False.
    """

    __slots__ = (
        "sender",
        "limits",
        "max_filters",
        "aliases",
        "refused_flags",
        "takes_problem_information",
        "may_set_expiry",
    )

    def __init__(
        self, sender: int, limits: PropertyLimits, max_filters: int, aliases: InboundAliases
    ) -> None:
        self.sender: Final = sender
        self.limits: Final = limits
        self.max_filters: Final = max_filters
        self.aliases = aliases
        self.refused_flags: i64 = 0
        self.takes_problem_information = True
        self.may_set_expiry = True
