"""Every limit of the broker in one place: name, default, bounds and the reason for each.

`LIMITS` is the description that configuration, documentation and the worst-case memory
estimate are made from; `Limits` holds one checked set of values. Constants that no operator
has a reason to change (the size of a page, say) stand beside the code they belong to.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._limit import Limit, LimitValue

DROP_NEWEST: Final = "drop-newest"
DROP_OLDEST: Final = "drop-oldest"
DISCONNECT: Final = "disconnect"
REFUSE: Final = "refuse"

ACKNOWLEDGE: Final = "acknowledge"

WHEN_FULL: Final = "when-full"
ALWAYS: Final = "always"
MOVED: Final = "moved"

_MIB: Final = 1024 * 1024
_YEAR_S: Final = 366 * 86_400
_LARGEST_PACKET: Final = 268_435_460  # five header bytes and a remaining length of 268,435,455

LIMITS: Final[tuple[Limit, ...]] = (
    Limit(
        "server",
        "max_connections",
        10_000,
        "Connections at once. One more is refused with CONNACK 0x03 (server unavailable).",
        minimum=1,
        maximum=10_000_000,
    ),
    Limit(
        "server",
        "max_half_connected",
        2_000,
        "Connections that have not been answered with CONNACK yet. One more is closed at once, "
        "so that silent connections cannot take the place of clients.",
        minimum=1,
        maximum=10_000_000,
    ),
    Limit(
        "server",
        "connect_timeout_secs",
        10.0,
        "Time from accepting a connection to its complete CONNECT packet.",
        minimum=0.1,
        maximum=3_600,
    ),
    Limit(
        "server",
        "max_packet_size_bytes",
        _MIB,
        "Largest packet accepted, fixed header included; checked on the length prefix, before "
        "anything is stored.",
        minimum=64,
        maximum=_LARGEST_PACKET,
    ),
    Limit(
        "server",
        "total_input_bytes",
        256 * _MIB,
        "Bytes of packets that have arrived in part, of all connections together; beyond it the "
        "connection with the largest such packet is closed.",
        minimum=1_024,
        maximum=1 << 44,
    ),
    Limit(
        "server",
        "max_unread_answers_bytes",
        262_144,
        "Acknowledgements waiting for a client that does not read them; more closes the "
        "connection.",
        minimum=1_024,
        maximum=1 << 30,
    ),
    Limit(
        "server",
        "output_budget_bytes",
        65_536,
        "Bytes prepared for one connection before they are handed to its socket. What a socket "
        "refuses waits in the session's queue instead.",
        minimum=1_024,
        maximum=64 * _MIB,
    ),
    Limit(
        "server",
        "turn_deliveries",
        5_000,
        "Deliveries made before other connections get their turn.",
        minimum=1,
        maximum=10_000_000,
    ),
    Limit(
        "server",
        "turn_output_bytes",
        4 * _MIB,
        "Bytes prepared for all connections together before the sockets get their turn.",
        minimum=1_024,
        maximum=1_024 * _MIB,
    ),
    Limit(
        "server",
        "send_timeout_secs",
        60.0,
        "A connection whose socket takes nothing for this long is closed.",
        minimum=1,
        maximum=86_400,
    ),
    Limit(
        "server",
        "shutdown_timeout_secs",
        5.0,
        "Time a graceful shutdown takes at most; what is still open then is closed at once.",
        minimum=0,
        maximum=3_600,
    ),
    Limit(
        "server",
        "linger_timeout_secs",
        1.0,
        "After a refusal, input is read and discarded for this long, so that a reset does not "
        "swallow the last packet.",
        minimum=0,
        maximum=60,
    ),
    Limit(
        "server",
        "linger_limit_bytes",
        262_144,
        "Input discarded while lingering; more closes the connection at once.",
        minimum=0,
        maximum=64 * _MIB,
    ),
    Limit(
        "server",
        "request_timeout_secs",
        30.0,
        "Time an authenticator or a storage engine has for a decision that a connection waits "
        "for; afterwards the connection is closed.",
        minimum=0.1,
        maximum=3_600,
    ),
    Limit(
        "session",
        "keep_alive_timeout_secs",
        0,
        "Largest keep-alive asked of clients that can be told (MQTT 5.0); 0 leaves it to them.",
        minimum=0,
        maximum=65_535,
    ),
    Limit(
        "session",
        "session_timeout_secs",
        604_800,
        "Time a session is kept after its connection ended (one week); the most that a client of "
        "MQTT 5.0 can ask for.",
        minimum=0,
        maximum=100 * _YEAR_S,
    ),
    Limit(
        "session",
        "max_sessions",
        100_000,
        "Sessions at once, connected or waiting for their client. A CONNECT for one more that is "
        "to be kept is refused with CONNACK 0x03.",
        minimum=1,
        maximum=100_000_000,
    ),
    Limit(
        "session",
        "max_client_id_bytes",
        1_024,
        "Longest client identifier; a longer one is refused with CONNACK 0x02.",
        minimum=23,
        maximum=65_535,
    ),
    Limit(
        "session",
        "allow_empty_client_id",
        True,
        "Whether a client may leave its identifier empty and be given one.",
    ),
    Limit(
        "session",
        "max_subscriptions_per_session",
        10_000,
        "Subscriptions of one session; one more gets failure code 0x80.",
        minimum=1,
        maximum=100_000_000,
    ),
    Limit(
        "session",
        "max_filters_per_packet",
        1_024,
        "Topic filters in one SUBSCRIBE; further ones get failure code 0x80, since a packet is "
        "handled as a whole. Sixteen times as many, in an UNSUBSCRIBE too, close the connection.",
        minimum=1,
        maximum=1_000_000,
    ),
    Limit(
        "session",
        "max_inflight_messages",
        512,
        "QoS 1 and 2 messages sent to one client and not acknowledged yet.",
        minimum=1,
        maximum=65_535,
    ),
    Limit(
        "session",
        "max_held_identifiers",
        65_535,
        "QoS 2 messages of one client between PUBREC and PUBREL; one more closes the connection.",
        minimum=1,
        maximum=65_535,
    ),
    Limit(
        "session",
        "total_held_identifiers",
        4_000_000,
        "QoS 2 messages of all clients between PUBREC and PUBREL; one more closes the connection "
        "it came on.",
        minimum=1,
        maximum=1 << 40,
    ),
    Limit(
        "session",
        "max_inflight_bytes",
        8 * _MIB,
        "Bytes of the QoS 1 and 2 messages sent to one client and not acknowledged yet; at the "
        "limit further ones wait in its queue.",
        minimum=1_024,
        maximum=1 << 40,
    ),
    Limit(
        "session",
        "max_queued_messages",
        10_000,
        "Messages waiting for one session, in memory or in the store.",
        minimum=0,
        maximum=1_000_000_000,
    ),
    Limit(
        "session",
        "max_queued_bytes",
        16 * _MIB,
        "Bytes of the messages waiting for one session, in memory or in the store.",
        minimum=0,
        maximum=1 << 40,
    ),
    Limit(
        "session",
        "total_queued_bytes",
        512 * _MIB,
        "Memory of the messages waiting for all sessions together or in flight to them, each "
        "counted for every session. One that waits in a store on a disk counts 48 bytes, its place "
        "in the index; what it takes there is bounded by `storage.max_bytes`. A connected session "
        "may use 64 KiB whatever the others do.",
        minimum=0,
        maximum=1 << 44,
    ),
    Limit(
        "session",
        "queue_full_policy",
        DROP_NEWEST,
        "What is done with a QoS 1 or 2 message for a full queue, after waiting QoS 0 messages "
        "have been dropped: drop it, drop the oldest, disconnect the receiver, or refuse it (it "
        "goes to nobody and its publisher is closed).",
        choices=(DROP_NEWEST, DROP_OLDEST, DISCONNECT, REFUSE),
    ),
    Limit(
        "session",
        "queue_qos0_offline",
        False,
        "Whether QoS 0 messages also wait for persistent sessions whose client is away.",
    ),
    Limit(
        "session",
        "total_will_bytes",
        256 * _MIB,
        "Memory of the wills of all clients, connected or away, by an upper estimate; a CONNECT "
        "whose will goes over is refused with CONNACK 0x03.",
        minimum=0,
        maximum=1 << 40,
    ),
    Limit(
        "session",
        "max_uncommitted_messages",
        1_000,
        "Messages of one connection that wait for the storage engine; at the limit its reading "
        "pauses.",
        minimum=1,
        maximum=1_000_000,
    ),
    Limit(
        "session",
        "total_uncommitted_bytes",
        64 * _MIB,
        "Bytes of all messages that wait for the storage engine; at the limit no connection that "
        "has one waiting is read.",
        minimum=1_024,
        maximum=1 << 40,
    ),
    Limit(
        "router",
        "max_subscriptions",
        2_000_000,
        "Subscriptions of all sessions together; one more gets failure code 0x80.",
        minimum=1,
        maximum=1_000_000_000,
    ),
    Limit(
        "router",
        "total_subscription_bytes",
        2_048 * _MIB,
        "Memory of all subscriptions together, by an upper estimate from the filters' length and "
        "levels; a filter that goes over gets failure code 0x80.",
        minimum=1_024,
        maximum=1 << 44,
    ),
    Limit(
        "router",
        "max_topic_levels",
        128,
        "Levels of a topic name or filter. A longer filter gets failure code 0x80, a longer topic "
        "name closes the connection.",
        minimum=1,
        maximum=65_536,
    ),
    Limit(
        "router",
        "wildcard_subscriptions",
        True,
        "Whether filters may have wildcards; if not, they get failure code 0x80.",
    ),
    Limit(
        "router",
        "retained_message_limit",
        1_000_000,
        "Retained messages. At the limit a new topic is refused: at QoS 0 the message is "
        "delivered and not retained, at QoS 1 and 2 it is not acknowledged and its publisher is "
        "closed.",
        minimum=0,
        maximum=1_000_000_000,
    ),
    Limit(
        "router",
        "retained_bytes_limit",
        1_024 * _MIB,
        "Memory of all retained messages, by an upper estimate from topics, levels and payloads.",
        minimum=0,
        maximum=1 << 44,
    ),
    Limit(
        "router",
        "topic_cache_bytes",
        16 * _MIB,
        "Memory for topics seen lately with the subscriptions they match.",
        minimum=0,
        maximum=1 << 40,
    ),
    Limit(
        "router",
        "sys_interval_secs",
        10,
        "Seconds between updates of the $SYS/broker topics; 0 turns them off.",
        minimum=0,
        maximum=86_400,
    ),
    Limit(
        "mqtt5",
        "receive_maximum",
        1_024,
        "QoS 1 and 2 messages that a client of MQTT 5.0 may send before they are acknowledged; "
        "one that sends more is closed. Where max_held_identifiers is less, that counts.",
        minimum=1,
        maximum=65_535,
    ),
    Limit(
        "mqtt5",
        "topic_alias_maximum",
        32,
        "Topic aliases that a client may set on a connection; 0 for none.",
        minimum=0,
        maximum=65_535,
    ),
    Limit(
        "mqtt5",
        "max_alias_bytes",
        65_536,
        "Bytes of the topics behind the aliases that a client has set on a connection; more closes "
        "it. Those used towards the client have no more either.",
        minimum=0,
        maximum=1 << 40,
    ),
    Limit(
        "mqtt5",
        "max_outbound_aliases",
        32,
        "Topic aliases used towards one client that takes them, if it takes as many.",
        minimum=0,
        maximum=65_535,
    ),
    Limit(
        "mqtt5",
        "max_user_properties",
        100,
        "User properties of one packet; more closes the connection.",
        minimum=0,
        maximum=1_000_000,
    ),
    Limit(
        "mqtt5",
        "max_property_bytes",
        65_536,
        "Bytes of all properties of one packet; more closes the connection.",
        minimum=64,
        maximum=_LARGEST_PACKET,
    ),
    Limit(
        "mqtt5",
        "maximum_qos",
        2,
        "Highest QoS served. A client of MQTT 5.0 that publishes above it is closed; a message of "
        "an older client is taken and delivered at no more than this.",
        minimum=0,
        maximum=2,
    ),
    Limit(
        "mqtt5",
        "retain_available",
        True,
        "Whether messages can be retained. Where they cannot, a client of MQTT 5.0 that asks for "
        "it is closed, and the message of an older client is delivered but not retained.",
    ),
    Limit(
        "mqtt5",
        "shared_subscriptions",
        True,
        "Whether subscriptions may be shared ($share/group/filter).",
    ),
    Limit(
        "mqtt5",
        "shared_redelivery",
        True,
        "Whether messages of a shared subscription go to another member of its group when the "
        "session that they were for ends, or when its client goes away and others have room.",
    ),
    Limit(
        "mqtt5",
        "subscription_identifiers",
        True,
        "Whether subscriptions may have an identifier.",
    ),
    Limit(
        "mqtt5",
        "response_information",
        "",
        "What clients that ask for response information are told: where to have answers sent, "
        "for example reply/%c, with %c for the client identifier; empty for nothing. A client "
        "whose identifier makes it longer than a string of MQTT is told nothing.",
    ),
    Limit(
        "mqtt5",
        "server_reference",
        "",
        "Another server that clients are sent to, as server_redirect says; empty for none.",
    ),
    Limit(
        "mqtt5",
        "server_redirect",
        WHEN_FULL,
        "When clients are sent to server_reference: when max_connections is reached and at "
        "shutdown, always, or always and for good.",
        choices=(WHEN_FULL, ALWAYS, MOVED),
    ),
    Limit(
        "mqtt5",
        "validate_payload_format",
        False,
        "Whether a payload that is said to be text must be UTF-8; if it is not, its PUBLISH is "
        "refused.",
    ),
    Limit(
        "auth",
        "exchange_timeout_secs",
        30.0,
        "Time that an enhanced authentication (MQTT 5.0) may take from CONNECT to its end, or a "
        "re-authentication, the client's share included; one that takes longer has failed.",
        minimum=0.1,
        maximum=3_600,
    ),
    Limit(
        "auth",
        "max_exchange_steps",
        16,
        "Messages of a client in one enhanced authentication; one that needs more has failed.",
        minimum=1,
        maximum=10_000,
    ),
    Limit(
        "auth",
        "authorization_cache_entries",
        256,
        "Authorization decisions remembered for one session.",
        minimum=0,
        maximum=1_000_000,
    ),
    Limit(
        "auth",
        "unauthorized_publish",
        ACKNOWLEDGE,
        "What is done with a PUBLISH that is not authorized: acknowledge and drop it, or close "
        "the connection.",
        choices=(ACKNOWLEDGE, DISCONNECT),
    ),
)


@final
class Limits:
    """One checked set of limits. Raises `ValueError` for an unknown name or a value not allowed."""

    max_connections: int
    max_half_connected: int
    connect_timeout_secs: float
    max_packet_size_bytes: int
    total_input_bytes: int
    max_unread_answers_bytes: int
    output_budget_bytes: int
    turn_deliveries: int
    turn_output_bytes: int
    send_timeout_secs: float
    shutdown_timeout_secs: float
    linger_timeout_secs: float
    linger_limit_bytes: int
    request_timeout_secs: float
    keep_alive_timeout_secs: int
    session_timeout_secs: int
    max_sessions: int
    max_client_id_bytes: int
    allow_empty_client_id: bool
    max_subscriptions_per_session: int
    max_filters_per_packet: int
    max_inflight_messages: int
    max_held_identifiers: int
    total_held_identifiers: int
    max_inflight_bytes: int
    max_queued_messages: int
    max_queued_bytes: int
    total_queued_bytes: int
    queue_full_policy: str
    queue_qos0_offline: bool
    total_will_bytes: int
    max_uncommitted_messages: int
    total_uncommitted_bytes: int
    max_subscriptions: int
    total_subscription_bytes: int
    max_topic_levels: int
    wildcard_subscriptions: bool
    retained_message_limit: int
    retained_bytes_limit: int
    topic_cache_bytes: int
    sys_interval_secs: int
    receive_maximum: int
    topic_alias_maximum: int
    max_alias_bytes: int
    max_outbound_aliases: int
    max_user_properties: int
    max_property_bytes: int
    maximum_qos: int
    retain_available: bool
    shared_subscriptions: bool
    shared_redelivery: bool
    subscription_identifiers: bool
    response_information: str
    server_reference: str
    server_redirect: str
    validate_payload_format: bool
    exchange_timeout_secs: float
    max_exchange_steps: int
    authorization_cache_entries: int
    unauthorized_publish: str

    def __init__(self, **overrides: LimitValue) -> None:
        for limit in LIMITS:
            value = overrides.pop(limit.name, limit.default)
            if not limit.accepts(value):
                raise ValueError(f"{limit.name} is {value!r}; allowed: {limit.allowed()}")
            setattr(self, limit.name, float(value) if type(limit.default) is float else value)
        if overrides:
            raise ValueError(f"unknown limits: {', '.join(sorted(overrides))}")
