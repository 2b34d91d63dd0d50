"""Counters of a broker, and their `$SYS/broker/...` topics.

The topics have the names that monitoring tools know from mosquitto.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._codes import MQTT_3_1_1, MQTT_5


@final
class Stats:
    """What has been counted since the start, and what there is now."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "packets_received",
        "packets_sent",
        "publishes_received",
        "publishes_sent",
        "dropped_qos_0",
        "dropped_qos_0_offline",
        "dropped_queue_full",
        "dropped_session_ended",
        "dropped_retained_limit",
        "dropped_unauthorized",
        "dropped_too_large",
        "dropped_malformed",
        "messages_expired",
        "handed_over",
        "refused_queue_full",
        "refused_store_full",
        "connections",
        "half_connected",
        "clients_maximum",
        "clients_connected",
        "connected_3_1",
        "connected_3_1_1",
        "connected_5",
        "connected_3_1",
        "connected_3_1_1",
        "connected_5",
        "sessions_detached",
        "sessions_expired",
        "connects_accepted",
        "connects_refused",
        "auth_exchanges",
        "auth_exchanges_failed",
        "reauthentications",
        "protocol_violations",
        "faults",
        "store_failures",
        "store_refusals",
        "takeovers",
        "wills_published",
        "queued_messages",
        "queued_bytes",
        "retained_messages",
    )

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.packets_received = 0
        self.packets_sent = 0
        self.publishes_received = 0
        self.publishes_sent = 0
        self.dropped_qos_0 = 0
        self.dropped_qos_0_offline = 0
        self.dropped_queue_full = 0
        self.dropped_session_ended = 0
        self.dropped_retained_limit = 0
        self.dropped_unauthorized = 0
        self.dropped_too_large = 0
        self.dropped_malformed = 0
        self.messages_expired = 0
        self.handed_over = 0  # from one member of a group to another
        self.refused_queue_full = 0
        self.refused_store_full = 0
        self.connections = 0
        self.half_connected = 0
        self.clients_maximum = 0
        self.clients_connected = 0
        self.connected_3_1 = 0
        self.connected_3_1_1 = 0
        self.connected_5 = 0
        self.sessions_detached = 0
        self.sessions_expired = 0
        self.connects_accepted = 0
        self.connects_refused = 0
        self.auth_exchanges = 0
        self.auth_exchanges_failed = 0
        self.reauthentications = 0
        self.protocol_violations = 0
        self.faults = 0
        self.store_failures = 0
        self.store_refusals = 0
        self.takeovers = 0
        self.wills_published = 0
        self.queued_messages = 0
        self.queued_bytes = 0
        self.retained_messages = 0

    def count_connected(self, level: int, change: int) -> None:
        """A client of a version has connected (1) or gone (-1)."""
        self.clients_connected += change
        if level == MQTT_5:
            self.connected_5 += change
        elif level == MQTT_3_1_1:
            self.connected_3_1_1 += change
        else:
            self.connected_3_1 += change

    @property
    def dropped(self) -> int:
        """Messages not delivered to a session that they were for, whatever the cause."""
        return (
            self.dropped_qos_0
            + self.dropped_queue_full
            + self.dropped_session_ended
            + self.refused_queue_full
            + self.refused_store_full
        )


_LOADS: Final[tuple[tuple[str, str], ...]] = (
    ("messages/received", "packets_received"),
    ("messages/sent", "packets_sent"),
    ("publish/received", "publishes_received"),
    ("publish/sent", "publishes_sent"),
    ("publish/dropped", "dropped"),
    ("bytes/received", "bytes_received"),
    ("bytes/sent", "bytes_sent"),
    ("connections", "connects_accepted"),
)
_PERIODS: Final[tuple[tuple[str, float], ...]] = (("1min", 60.0), ("5min", 300.0), ("15min", 900.0))


@final
class SysTopics:
    """The values of the `$SYS/broker/...` topics, and which have changed."""

    __slots__ = ("_stats", "_version", "_started_at", "_told", "_counts", "_rates", "_last_at")

    def __init__(self, stats: Stats, version: str, now: float) -> None:
        self._stats: Final = stats
        self._version: Final = version
        self._started_at: Final = now
        self._told: Final[dict[str, str]] = {}
        self._counts: Final[dict[str, int]] = {}
        self._rates: Final[dict[str, float]] = {}
        self._last_at = now

    def changes(
        self, now: float, subscriptions: int, shared: int, retained: int, memory: int
    ) -> list[tuple[str, bytes]]:
        """Topics with their payloads, where these differ from the last call. `subscriptions` are
        those that are not shared, `memory` is what counts towards `total_queued_bytes`."""
        changed: list[tuple[str, bytes]] = []
        for name, value in self._values(now, subscriptions, shared, retained, memory):
            if self._told.get(name) != value:
                self._told[name] = value
                changed.append(("$SYS/broker/" + name, value.encode()))
        return changed

    def _values(
        self, now: float, subscriptions: int, shared: int, retained: int, memory: int
    ) -> list[tuple[str, str]]:
        stats = self._stats
        values = [
            ("version", self._version),
            ("uptime", f"{int(now - self._started_at)} seconds"),
            ("clients/connected", str(stats.clients_connected)),
            ("clients/active", str(stats.clients_connected)),
            ("clients/disconnected", str(stats.sessions_detached)),
            ("clients/inactive", str(stats.sessions_detached)),
            ("clients/total", str(stats.clients_connected + stats.sessions_detached)),
            ("clients/maximum", str(stats.clients_maximum)),
            ("clients/connected/3.1", str(stats.connected_3_1)),
            ("clients/connected/3.1.1", str(stats.connected_3_1_1)),
            ("clients/connected/5.0", str(stats.connected_5)),
            ("clients/expired", str(stats.sessions_expired)),
            ("messages/received", str(stats.packets_received)),
            ("messages/sent", str(stats.packets_sent)),
            ("messages/stored", str(stats.queued_messages + retained)),
            ("publish/messages/received", str(stats.publishes_received)),
            ("publish/messages/sent", str(stats.publishes_sent)),
            ("publish/messages/dropped", str(stats.dropped)),
            ("publish/messages/dropped/qos0", str(stats.dropped_qos_0)),
            ("publish/messages/dropped/qos0-offline", str(stats.dropped_qos_0_offline)),
            ("publish/messages/dropped/queue-full", str(stats.dropped_queue_full)),
            ("publish/messages/dropped/session-ended", str(stats.dropped_session_ended)),
            ("publish/messages/dropped/unauthorized", str(stats.dropped_unauthorized)),
            ("publish/messages/dropped/too-large", str(stats.dropped_too_large)),
            ("publish/messages/dropped/malformed", str(stats.dropped_malformed)),
            ("publish/messages/expired", str(stats.messages_expired)),
            ("publish/messages/handed-over", str(stats.handed_over)),
            ("publish/messages/refused/queue-full", str(stats.refused_queue_full)),
            ("publish/messages/refused/store-full", str(stats.refused_store_full)),
            ("retained messages/count", str(retained)),
            ("retained messages/dropped", str(stats.dropped_retained_limit)),
            ("subscriptions/count", str(subscriptions)),
            ("shared_subscriptions/count", str(shared)),
            ("store/messages/count", str(stats.queued_messages + retained)),
            ("store/messages/bytes", str(stats.queued_bytes)),
            ("store/messages/memory", str(memory)),
            ("bytes/received", str(stats.bytes_received)),
            ("bytes/sent", str(stats.bytes_sent)),
            ("connections/refused", str(stats.connects_refused)),
            ("connections/half-connected", str(stats.half_connected)),
            ("connections/protocol-violations", str(stats.protocol_violations)),
            ("connections/takeovers", str(stats.takeovers)),
            ("auth/exchanges", str(stats.auth_exchanges)),
            ("auth/exchanges/failed", str(stats.auth_exchanges_failed)),
            ("auth/reauthentications", str(stats.reauthentications)),
            ("wills/published", str(stats.wills_published)),
            ("faults", str(stats.faults)),
            ("store/failures", str(stats.store_failures)),
            ("store/refused", str(stats.store_refusals)),
        ]
        values.extend(self._load_values(now))
        return values

    def _load_values(self, now: float) -> list[tuple[str, str]]:
        """Moving averages for each minute, as mosquitto's `load` topics have them."""
        elapsed = now - self._last_at
        self._last_at = now
        values: list[tuple[str, str]] = []
        for name, counter in _LOADS:
            count: int = getattr(self._stats, counter)
            grown = count - self._counts.get(name, 0)
            self._counts[name] = count
            for period_name, period_s in _PERIODS:
                key = f"load/{name}/{period_name}"
                rate = self._rates.get(key, 0.0)
                if elapsed > 0:
                    per_minute = grown * 60.0 / elapsed
                    weight = min(1.0, elapsed / period_s)
                    rate += (per_minute - rate) * weight
                self._rates[key] = rate
                values.append((key, f"{rate:.2f}"))
        return values
