"""The most memory that the limits allow, part by part, each with its formula.

A formula is text over the names of limits and of `COSTS`; what is printed is what is computed.
It is the worst case: every limit used up at once. What the kernel holds in socket buffers is not
part of it.
"""

from __future__ import annotations

from types import CodeType
from typing import Final, final

from mqtt_core.broker import LIMITS, Limits

# Name -> bytes, rounded up, and what they are for.
COSTS: Final[dict[str, tuple[int, str]]] = {
    "PROGRAM_BYTES": (64 * 1024 * 1024, "interpreter and code"),
    "CONNECTION_BYTES": (6_144, "a connection with its socket object"),
    "READ_BYTES": (262_144, "what one read takes"),
    "SESSION_BYTES": (2_048, "a session, with the engine's record of it"),
    "NAME_BYTES": (4 * 65_535, "the longest user name, four bytes for each character"),
    "CONNECT_BYTES": (16 * 65_535, "the longest CONNECT, four bytes for each character"),
    "USER_PROPERTY_BYTES": (384, "a user property beside its text"),
    "ALIAS_BYTES": (256, "a topic alias beside its topic"),
    "EXCHANGE_BYTES": (16_384, "an enhanced authentication under way, with the longest messages"),
    "PLACE_BYTES": (64, "a place of an in-flight window"),
    "IDENTIFIER_BYTES": (512, "a held packet identifier, with the engine's record of it"),
    "VERDICT_BYTES": (1_024, "a remembered decision, with the longest topic that is remembered"),
}


@final
class Part:
    """One part of the memory: what it is for and how much it can be."""

    __slots__ = ("_code", "formula", "name")

    def __init__(self, name: str, formula: str) -> None:
        self.name: Final = name
        self.formula: Final = formula
        self._code: Final[CodeType] = compile(formula, f"<memory of {name}>", "eval")

    def worst_case_bytes(self, limits: Limits, has_rules: bool) -> int:
        """The most bytes of this part under `limits`."""
        names: dict[str, object] = {limit.name: getattr(limits, limit.name) for limit in LIMITS}
        names |= {name: size for name, (size, _) in COSTS.items()}
        names["has_rules"] = int(has_rules)
        # The text is one of ours, below; the names are numbers, and min.
        return int(eval(self._code, {"__builtins__": {"min": min}}, names))


PARTS: Final = (
    Part("program", "PROGRAM_BYTES"),
    Part("connections", "max_connections * CONNECTION_BYTES"),
    # A growing buffer may be twice as large as what is in it.
    Part("packets that have come in part", "2 * (total_input_bytes + max_packet_size_bytes)"),
    Part("one read", "READ_BYTES"),
    Part(
        "output",
        "max_connections * (2 * output_budget_bytes + max_packet_size_bytes"
        " + 2 * max_unread_answers_bytes)",
    ),
    # A CONNECT and its will have properties each; four bytes for each character of them.
    Part(
        "CONNECTs under way",
        "max_half_connected * (min(4 * max_packet_size_bytes, CONNECT_BYTES"
        " + 8 * max_property_bytes) + 2 * max_user_properties * USER_PROPERTY_BYTES)",
    ),
    Part("authentications under way", "max_connections * EXCHANGE_BYTES"),
    Part("wills", "total_will_bytes"),
    # Those that a client has set; those used towards it, and topics seen once beside them.
    Part(
        "topic aliases",
        "max_connections * (3 * max_alias_bytes"
        " + (topic_alias_maximum + 2 * max_outbound_aliases) * ALIAS_BYTES)",
    ),
    Part(
        "sessions",
        "max_sessions * (SESSION_BYTES + 4 * max_client_id_bytes"
        " + has_rules * min(4 * max_packet_size_bytes, NAME_BYTES))",
    ),
    Part("in-flight windows", "max_sessions * max_inflight_messages * PLACE_BYTES"),
    Part("held identifiers", "total_held_identifiers * IDENTIFIER_BYTES"),
    # A message may have its topic seven times, in the layouts of each QoS and version, and its
    # payload four times; what waits and what is in flight may each come up to the limit. One that
    # waits on a disk takes as many times what it counts, if it is shared and expires.
    Part("messages waiting and in flight", "2 * 8 * total_queued_bytes"),
    Part("messages waiting for storage", "8 * total_uncommitted_bytes"),
    # Both are counted with what their trees take; a tree that branches everywhere takes more.
    Part("subscriptions", "2 * total_subscription_bytes"),
    Part("retained messages", "8 * retained_bytes_limit"),
    Part("topic cache", "topic_cache_bytes"),
    Part(
        "decisions of rules",
        "has_rules * max_sessions * authorization_cache_entries * VERDICT_BYTES",
    ),
)


def worst_case(limits: Limits, *, has_rules: bool) -> list[tuple[Part, int]]:
    """Every part with its most bytes under `limits`. Without rules no decision is remembered."""
    return [(part, part.worst_case_bytes(limits, has_rules)) for part in PARTS]
