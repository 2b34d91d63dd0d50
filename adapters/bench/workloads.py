"""Shapes of load, and the words for one.

A closed loop has a window: at most so many messages of one publisher are under way (delivered to
nobody yet at QoS 0, not acknowledged yet at QoS 1 and 2), so a broker gains nothing by buffering,
and one that drops runs into its own losses. An open loop has a rate: messages are due at moments
that do not depend on how the broker does.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mqtt_core import MQTT_3_1_1, MQTT_5

LEVELS: Final = {"3.1.1": MQTT_3_1_1, "5": MQTT_5}
"""Versions of MQTT, as options name them, and their protocol level."""


def version_name(level: int) -> str:
    """The version of a protocol level."""
    return next(name for name, each in LEVELS.items() if each == level)


MODES: Final = ("pair", "fanout", "fanin", "shared", "connect")
SMALLEST_PAYLOAD: Final = 4  # the publisher and the number of the message
LARGEST_PAYLOAD: Final = 16 * 1024 * 1024
LARGEST_WINDOW: Final = 16_384  # so that a cycle of message numbers fits the packet identifiers
MOST_PUBLISHERS: Final = 65_535  # two bytes of each payload name the publisher
MOST_CONNECTIONS: Final = 1_000_000


class Workload(NamedTuple):
    """One shape of load.

    `mode` says who reads what. `pair`: publisher i writes to the topic that subscriber i mod
    `subscribers` reads. `fanout`: every subscriber reads every topic. `fanin`: each publisher has
    its topic, subscribers read all of them through a wildcard. `shared`: the same, but through one
    shared subscription, so that each message goes to one of them. `connect`: nobody writes;
    `connections` clients connect and stay.

    `messages` and `window` count per publisher; 0 messages: as many as fit `seconds`; a window is
    that of a closed loop. `size_bytes` is the payload. `rate_per_s` is the pace of all publishers
    together, or of connecting, 0: as fast as the window lets them (or, connecting, `window` at a
    time). Publishers take turns within the pace, or, `in_step`, send all at once. `topics` is how
    many there are (0: one for each subscriber of `pair`, one for all of `fanout`). `level` is the
    version of MQTT that all speak, `prefix` begins their topics and client identifiers.
    `most_unacked` is what the broker takes unacknowledged, once it has said so.
    """

    name: str
    mode: str
    publishers: int = 0
    subscribers: int = 0
    qos: int = 0
    messages: int = 0
    window: int = 100
    size_bytes: int = 16
    rate_per_s: float = 0.0
    shows: str = ""
    level: int = MQTT_3_1_1
    topics: int = 0
    connections: int = 0
    seconds: float = 0.0
    in_step: bool = False
    prefix: str = "bench"
    most_unacked: int = 65_535

    @property
    def label(self) -> str:
        """The name with the version, where that is not 3.1.1."""
        return f"{self.name}/5" if self.level == MQTT_5 else self.name

    @property
    def is_storm(self) -> bool:
        """Whether this is about connecting, not about messages."""
        return self.mode == "connect"

    @property
    def topic_count(self) -> int:
        """How many topics are written to."""
        if self.mode == "pair":
            return self.topics or self.subscribers
        if self.mode == "fanout":
            return self.topics or 1
        return self.publishers

    def readers_of(self, publisher: int) -> list[int]:
        """The subscribers that get what this publisher sends; in `shared`, each a part of it."""
        if self.mode != "pair":
            return list(range(self.subscribers))
        return list(range(publisher % self.topic_count, self.subscribers, self.topic_count))

    def copies(self, publisher: int) -> int:
        """How many deliveries each message of this publisher makes."""
        return 1 if self.mode == "shared" else len(self.readers_of(publisher))

    @property
    def deliveries(self) -> int:
        """How many deliveries the whole load makes; 0 when that is a matter of time."""
        return self.messages * sum(self.copies(index) for index in range(self.publishers))

    def scaled(self, factor: float) -> Workload:
        """The same shape with so many times as many messages, at least one."""
        return self._replace(messages=max(1, round(self.messages * factor)))

    def part(self, index: int, count: int) -> Workload:
        """What one of `count` processes does of this: its share of clients and pace.

        Each has topics of its own, and at least one publisher and subscriber.
        """

        def share(total: int) -> int:
            return max(1, total * (index + 1) // count - total * index // count) if total else 0

        topics = share(self.topics) if self.mode == "pair" else self.topics
        return self._replace(
            publishers=share(self.publishers),
            subscribers=share(self.subscribers),
            connections=share(self.connections),
            topics=topics,
            rate_per_s=self.rate_per_s / count,
            prefix=f"{self.prefix}-{index}" if count > 1 else self.prefix,
        )

    def fault(self) -> str:
        """What is wrong with this shape, and what to do about it; empty when nothing is."""
        if self.mode not in MODES:
            return f"mode is {self.mode!r}; use one of {', '.join(MODES)}"
        counts = ("connections", "window") if self.is_storm else ("publishers", "subscribers")
        for field in (*counts, "window"):
            if getattr(self, field) < 1:
                return f"{field} is {getattr(self, field)}; use 1 or more"
        for field, most in (
            ("publishers", MOST_PUBLISHERS),
            ("window", LARGEST_WINDOW),
            ("connections", MOST_CONNECTIONS),
            ("size_bytes", LARGEST_PAYLOAD),
        ):
            if getattr(self, field) > most:
                return f"{_WORDS.get(field, field)} is {getattr(self, field)}; use at most {most}"
        if self.rate_per_s < 0:
            return f"rate is {self.rate_per_s:g}; use 0 for no pace, or so many a second"
        return "" if self.is_storm else self._message_fault()

    def _message_fault(self) -> str:
        if self.qos not in (0, 1, 2):
            return f"qos is {self.qos}; use 0, 1 or 2"
        if self.messages < 1 and self.seconds <= 0:
            return f"messages is {self.messages}; use 1 or more, or a number of seconds"
        if self.size_bytes < SMALLEST_PAYLOAD:
            return f"payload is {self.size_bytes}; use at least {SMALLEST_PAYLOAD} bytes"
        if self.topics < 0:
            return f"topics is {self.topics}; use 1 or more"
        if self.mode in ("fanin", "shared") and self.topics not in (0, self.publishers):
            return f"topics is {self.topics}, but in a {self.mode} each publisher has its own"
        if self.topic_count > self.publishers:
            return (
                f"there are {self.topic_count} topics and only {self.publishers} publishers, so "
                "some subscribers would read nothing; use as many publishers, or fewer topics"
            )
        if self.topic_count > self.subscribers and self.mode == "pair":
            return (
                f"topics is {self.topics}, more than the {self.subscribers} subscribers; "
                "use as many subscribers"
            )
        if self.mode == "shared" and self.level != MQTT_5:
            return "shared subscriptions are of MQTT 5.0; use version 5"
        return ""


_WORDS: Final = {"size_bytes": "payload"}


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
        Workload(
            "paced", "pair", 200, 200, 1, 100, 1_000,
            rate_per_s=4_000, in_step=True, shows="latency of 200 at once",
        ),
    )  # fmt: skip
    return {row.name: row for row in rows}


WORKLOADS: Final = _table()
"""Twelve shapes that show where a broker spends its time, each of a fixed number of messages."""


class Origin(NamedTuple):
    """The use case of EMQ's Open MQTT Benchmark Suite that a scenario is the small form of."""

    use_case: str
    numbers: str  # what it has, in words
    options: str  # what makes the scenario that use case


def _suite() -> dict[str, tuple[Workload, Origin]]:
    """The four scenarios of the suite, of a size that one machine and one minute can carry."""
    return {
        "p2p": (
            Workload(
                "p2p", "pair", 1_000, 1_000, 1, window=20, rate_per_s=1_000,
                shows="devices that each talk to one other",
            ),
            Origin(
                "singlenode-p2p-50K-50K-50K-50K",
                "50,000 publishers, 50,000 subscribers, each with a topic of its own; QoS 1, "
                "16 bytes, 1 message a second each: 50,000/s in and out",
                "--publishers 50000 --subscribers 50000 --rate 50000 --seconds 1800",
            ),
        ),
        "fanout": (
            Workload(
                "fanout", "fanout", 5, 200, 1, window=20, rate_per_s=250, topics=5,
                shows="announcements that all devices read",
            ),
            Origin(
                "singlenode-fanout-5-1000-5-250K",
                "5 publishers with a topic each, 1,000 subscribers to all 5; QoS 1, 16 bytes, "
                "50 messages a second each: 250/s in, 250,000/s out",
                "--subscribers 1000 --seconds 1800",
            ),
        ),
        "sharedsub": (
            Workload(
                "sharedsub", "shared", 1_000, 10, 1, window=20, rate_per_s=1_000, level=MQTT_5,
                shows="devices, and servers that share the reading",
            ),
            Origin(
                "singlenode-sharesub-50K-500-50K-50K",
                "50,000 publishers with a topic each, 500 subscribers that share one "
                "subscription; MQTT 5.0, QoS 1, 16 bytes, 1 message a second each: 50,000/s",
                "--publishers 50000 --subscribers 500 --rate 50000 --seconds 1800",
            ),
        ),
        "storm": (
            Workload(
                "storm", "connect", connections=5_000, rate_per_s=5_000,
                shows="everybody comes back at once",
            ),
            Origin(
                "singlenode-conn-tcp-1M-5K",
                "1,000,000 clients connect within 200 seconds, 5,000 a second, and stay",
                "--connections 1000000",
            ),
        ),
    }  # fmt: skip


SUITE: Final = _suite()
"""Scenarios of EMQ's Open MQTT Benchmark Suite: by name, what is run here, and what it is there."""

SCENARIOS: Final = {**WORKLOADS, **{name: workload for name, (workload, _) in SUITE.items()}}
"""All scenarios by name."""
