"""Every limit of a client in one place: name, default, bounds and the reason for each."""

from __future__ import annotations

from typing import Final, final

from mqtt_core._limit import Limit, LimitValue

_MIB: Final = 1024 * 1024
_LARGEST_PACKET: Final = 268_435_460  # five header bytes and a remaining length of 268,435,455

CLIENT_LIMITS: Final[tuple[Limit, ...]] = (
    Limit(
        "publishing",
        "max_inflight_messages",
        1_000,
        "QoS 1 and 2 messages that are on their way to the server and not acknowledged. A server "
        "of MQTT 5.0 that allows fewer (receive maximum) gets fewer. More wait in their order.",
        minimum=1,
        maximum=65_535,
    ),
    Limit(
        "publishing",
        "max_pending_messages",
        10_000,
        "Messages that wait to be sent: for the connection, for room in flight, for the socket. "
        "At the limit `publish_nowait` raises `QueueFull`. `await publish` waits itself, with its "
        "one message, and is never refused.",
        minimum=1,
        maximum=10_000_000,
    ),
    Limit(
        "publishing",
        "max_pending_bytes",
        64 * _MIB,
        "Bytes of the messages that wait to be sent, with 200 bytes for each beside its topic and "
        "payload. The same holds at the limit.",
        minimum=1_024,
        maximum=1 << 40,
    ),
    Limit(
        "publishing",
        "max_unsent_bytes",
        65_536,
        "Bytes that are handed to the socket at once. What is published beyond them waits until "
        "the socket has taken those.",
        minimum=1_024,
        maximum=1 << 30,
    ),
    Limit(
        "publishing",
        "max_topic_aliases",
        64,
        "Topic aliases used towards a server of MQTT 5.0 that takes them; 0 for none.",
        minimum=0,
        maximum=65_535,
    ),
    Limit(
        "receiving",
        "receive_maximum",
        1_000,
        "QoS 1 and 2 messages that the server may send before the first of them is taken by the "
        "program (or acknowledged by it, with `manual_acks`). In MQTT 5.0 the server is told; in "
        "3.1.1 reading pauses.",
        minimum=1,
        maximum=65_535,
    ),
    Limit(
        "receiving",
        "max_packet_size_bytes",
        _LARGEST_PACKET,
        "Largest packet accepted. A server of MQTT 5.0 is told, and drops what is larger; one of "
        "3.1.1 that sends a larger one is disconnected. The default is the largest that there is.",
        minimum=256,
        maximum=_LARGEST_PACKET,
    ),
    Limit(
        "receiving",
        "max_unread_messages",
        10_000,
        "QoS 0 messages that wait in one subscription to be taken. One more drops the oldest, "
        "and is counted (`dropped_unread`).",
        minimum=1,
        maximum=100_000_000,
    ),
    Limit(
        "receiving",
        "max_unread_bytes",
        64 * _MIB,
        "Bytes of QoS 0 messages that wait in one subscription, with 200 bytes for each beside "
        "its topic and payload. The same holds at the limit.",
        minimum=1_024,
        maximum=1 << 40,
    ),
    Limit(
        "receiving",
        "max_subscriptions",
        10_000,
        "Subscriptions at once; one more raises `QueueFull`.",
        minimum=1,
        maximum=1_000_000,
    ),
    Limit(
        "receiving",
        "max_unclaimed_messages",
        1_000,
        "Messages of a session taken up again that match no subscription made so far; one more "
        "drops the oldest, and is counted (`dropped_unclaimed`).",
        minimum=0,
        maximum=10_000_000,
    ),
    Limit(
        "receiving",
        "unclaimed_timeout_s",
        10.0,
        "Time that such a message waits for a subscription; then it is acknowledged, dropped and "
        "counted.",
        minimum=0,
        maximum=86_400,
    ),
    Limit(
        "receiving",
        "topic_cache_bytes",
        _MIB,
        "Memory for topic names seen lately, with the subscriptions that each goes to (560 bytes "
        "for each beside its name).",
        minimum=4_096,
        maximum=1 << 40,
    ),
    Limit(
        "session",
        "connect_timeout_s",
        10.0,
        "Time from the first byte of a connection to the server's answer, and before that, time "
        "to reach the server.",
        minimum=0.1,
        maximum=3_600,
    ),
    Limit(
        "session",
        "resume_s",
        300,
        "Time that a server of MQTT 5.0 keeps the session of a client with `session_expiry_s=0` "
        "while that is away, so that a broken connection costs no message. `close` ends such a "
        "session at once.",
        minimum=0,
        maximum=86_400,
    ),
    Limit(
        "session",
        "close_timeout_s",
        5.0,
        "Time that `close` waits for messages that are still to be sent or acknowledged.",
        minimum=0,
        maximum=3_600,
    ),
    Limit(
        "session",
        "max_redirects",
        3,
        "Servers that a client is sent on to in a row (server reference of MQTT 5.0).",
        minimum=0,
        maximum=100,
    ),
    Limit(
        "session",
        "max_auth_steps",
        16,
        "Challenges of a server in one authentication; one that has more is given up.",
        minimum=1,
        maximum=1_000,
    ),
)


@final
class ClientLimits:
    """One checked set of limits. Raises `ValueError` for an unknown name or a value not allowed."""

    max_inflight_messages: int
    max_pending_messages: int
    max_pending_bytes: int
    max_unsent_bytes: int
    max_topic_aliases: int
    receive_maximum: int
    max_packet_size_bytes: int
    max_unread_messages: int
    max_unread_bytes: int
    max_subscriptions: int
    max_unclaimed_messages: int
    unclaimed_timeout_s: float
    topic_cache_bytes: int
    connect_timeout_s: float
    resume_s: int
    close_timeout_s: float
    max_redirects: int
    max_auth_steps: int

    def __init__(self, **overrides: LimitValue) -> None:
        for limit in CLIENT_LIMITS:
            value = overrides.pop(limit.name, limit.default)
            if not limit.accepts(value):
                raise ValueError(f"{limit.name} is {value!r}; allowed: {limit.allowed()}")
            setattr(self, limit.name, float(value) if type(limit.default) is float else value)
        if overrides:
            raise ValueError(f"unknown limits: {', '.join(sorted(overrides))}")
