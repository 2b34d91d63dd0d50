"""The twelve shapes of load, and the words for one.

The window keeps the loop closed: at most so many messages of one publisher are under way
(delivered to nobody yet at QoS 0, not acknowledged yet at QoS 1 and 2), so a broker gains nothing
by buffering, and one that drops runs into its own losses.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from benchmarks._packets import MQTT_3_1_1, MQTT_5

LEVELS: Final = {"3.1.1": MQTT_3_1_1, "5": MQTT_5}
"""Versions of MQTT, as options name them, and their protocol level."""


def version_name(level: int) -> str:
    """The version of a protocol level."""
    return next(name for name, each in LEVELS.items() if each == level)


MODES: Final = ("pair", "fanout", "fanin")
SMALLEST_PAYLOAD: Final = 4  # the publisher and the number of the message
LARGEST_WINDOW: Final = 16_384  # so that a cycle of message numbers fits the packet identifiers


class Workload(NamedTuple):
    """One shape of load.

    `mode` is `pair` (publisher i writes to the topic that subscriber i mod `subscribers` reads),
    `fanout` (every subscriber reads the one topic) or `fanin` (each publisher has its topic,
    subscribers read all of them through a wildcard). `messages` and `window` count per publisher,
    `size_bytes` is the payload, `rate_per_s` is the pace of all publishers together (0: as fast
    as the window lets them), `level` the version of MQTT that all of them speak.
    """

    name: str
    mode: str
    publishers: int
    subscribers: int
    qos: int
    messages: int
    window: int
    size_bytes: int = 16
    rate_per_s: float = 0.0
    shows: str = ""
    level: int = MQTT_3_1_1

    @property
    def label(self) -> str:
        """The name with the version, where that is not 3.1.1."""
        return f"{self.name}/5" if self.level == MQTT_5 else self.name

    @property
    def copies(self) -> int:
        """How many subscribers get each message."""
        return 1 if self.mode == "pair" else self.subscribers

    @property
    def deliveries(self) -> int:
        """How many deliveries the whole load makes."""
        return self.publishers * self.messages * self.copies

    def scaled(self, factor: float) -> Workload:
        """The same shape with so many times as many messages, at least one."""
        return self._replace(messages=max(1, round(self.messages * factor)))

    def fault(self) -> str:
        """What is wrong with this shape, and what to do about it; empty when nothing is."""
        if self.mode not in MODES:
            return f"mode is {self.mode!r}; use one of {', '.join(MODES)}"
        if self.qos not in (0, 1, 2):
            return f"qos is {self.qos}; use 0, 1 or 2"
        for field in ("publishers", "subscribers", "messages", "window"):
            if getattr(self, field) < 1:
                return f"{field} is {getattr(self, field)}; use 1 or more"
        if self.publishers > 65_535:
            return f"publishers is {self.publishers}; use at most 65535"
        if self.window > LARGEST_WINDOW:
            return f"window is {self.window}; use at most {LARGEST_WINDOW}"
        if self.size_bytes < SMALLEST_PAYLOAD:
            return f"size is {self.size_bytes}; use at least {SMALLEST_PAYLOAD} bytes"
        if self.rate_per_s < 0:
            return f"rate is {self.rate_per_s:g}; use 0 for no pace, or messages a second"
        return ""


def _table() -> dict[str, Workload]:
    """The standard workloads, in the order in which tables show them."""
    rows = (
        Workload("q0-pair", "pair", 1, 1, 0, 400_000, 10_000, shows="one busy stream"),
        Workload("q0-pairs", "pair", 50, 50, 0, 8_000, 100, shows="fifty streams"),
        Workload("q0-fanout", "fanout", 1, 100, 0, 4_000, 100, shows="one to a hundred"),
        Workload("q0-fanin", "fanin", 100, 1, 0, 4_000, 100, shows="a hundred to one"),
        Workload("q0-1k", "pair", 10, 10, 0, 20_000, 100, 1024, shows="payloads of 1 KiB"),
        Workload("q0-single", "pair", 100, 100, 0, 400, 1, shows="one at a time per client"),
        Workload("q1-pair", "pair", 1, 1, 1, 150_000, 100, shows="one QoS 1 stream"),
        Workload("q1-pairs", "pair", 50, 50, 1, 3_000, 20, shows="fifty QoS 1 streams"),
        Workload("q1-fanout", "fanout", 1, 100, 1, 1_500, 20, shows="QoS 1 to a hundred"),
        Workload("q1-single", "pair", 100, 100, 1, 300, 1, shows="QoS 1, one at a time"),
        Workload("q2-pairs", "pair", 50, 50, 2, 1_500, 20, shows="fifty QoS 2 streams"),
        Workload("paced", "pair", 200, 200, 1, 100, 1_000, rate_per_s=4_000, shows="latency"),
    )
    return {row.name: row for row in rows}


WORKLOADS: Final = _table()
