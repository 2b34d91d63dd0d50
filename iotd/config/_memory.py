"""The most memory that the limits allow, part by part, each with its formula.

A formula is text over the names of limits and of `COSTS`; what is printed is what is computed.
It is the worst case: every limit used up at once. What the kernel holds in socket buffers is not
part of it.
"""

from __future__ import annotations

from types import CodeType
from typing import Final, final

from mqtt_core.broker import LIMITS, Limits

COSTS: Final = {
    "PROGRAM_BYTES": 64 * 1024 * 1024,
    "CONNECTION_BYTES": 4_096,
    "READ_BYTES": 65_536,
    "SESSION_BYTES": 2_048,
    "INFLIGHT_BYTES": 16,
    "IDENTIFIER_BYTES": 64,
    "SUBSCRIPTION_BYTES": 512,
    "QUEUED_BYTES": 256,
    "RETAINED_BYTES": 768,
}
"""Memory of one thing of each kind without the bytes that clients sent, rounded up.

Measured on CPython 3.11, both builds; a test measures them again.
"""


@final
class Part:
    """One part of the memory: what it is for and how much it can be."""

    __slots__ = ("_code", "formula", "name")

    def __init__(self, name: str, formula: str) -> None:
        self.name: Final = name
        self.formula: Final = formula
        self._code: Final[CodeType] = compile(formula, f"<memory of {name}>", "eval")

    def worst_case_bytes(self, limits: Limits) -> int:
        """The most bytes of this part under `limits`."""
        names: dict[str, object] = {limit.name: getattr(limits, limit.name) for limit in LIMITS}
        names |= COSTS
        # The text is one of ours, below; the names are numbers, and min.
        return int(eval(self._code, {"__builtins__": {"min": min}}, names))


PARTS: Final = (
    Part("program", "PROGRAM_BYTES"),
    Part("connections", "max_connections * CONNECTION_BYTES"),
    Part("incomplete packets", "max_connections * (max_packet_size_bytes + READ_BYTES)"),
    Part("output", "max_connections * (output_budget_bytes + max_packet_size_bytes)"),
    Part("wills", "max_connections * min(max_packet_size_bytes, 131_070)"),
    Part("sessions", "max_sessions * (SESSION_BYTES + max_client_id_bytes)"),
    Part("messages in flight", "max_sessions * max_inflight_messages * INFLIGHT_BYTES"),
    Part("identifiers of QoS 2", "max_sessions * max_held_identifiers * IDENTIFIER_BYTES"),
    Part("queues", "total_queued_bytes"),
    Part("waiting for storage", "total_uncommitted_bytes"),
    Part("subscriptions", "max_subscriptions * SUBSCRIPTION_BYTES"),
    Part("retained messages", "retained_bytes_limit + retained_message_limit * RETAINED_BYTES"),
    Part("topic cache", "topic_cache_bytes"),
)


def worst_case(limits: Limits) -> list[tuple[Part, int]]:
    """Every part with its most bytes under `limits`."""
    return [(part, part.worst_case_bytes(limits)) for part in PARTS]
