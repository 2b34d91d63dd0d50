"""What there is to choose from in a history, said once for Hypothesis and for plain chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.model.packets import Takes

Method = TypeVar("Method", bound=Callable[..., None])


@dataclass(frozen=True)
class OneOf:
    """One of some values, each as likely as it is often there."""

    values: Sequence[Any]

    def pick(self, rng: random.Random) -> Any:
        """One by chance."""
        return rng.choice(self.values)

    def strategy(self) -> st.SearchStrategy[Any]:
        """The same for Hypothesis."""
        return st.sampled_from(self.values)


@dataclass(frozen=True)
class Several:
    """A list of so many, no two with the same key where there is one."""

    of: OneOf | Several
    least: int
    most: int
    key: Callable[[Any], Hashable] | None = None

    def pick(self, rng: random.Random) -> Any:
        """A list by chance; shorter than it might be if a key comes twice."""
        picked = [self.of.pick(rng) for _ in range(rng.randint(self.least, self.most))]
        if self.key is None:
            return picked
        return list({self.key(each): each for each in picked}.values())

    def strategy(self) -> st.SearchStrategy[Any]:
        """The same for Hypothesis."""
        of = self.of.strategy()
        return st.lists(of, min_size=self.least, max_size=self.most, unique_by=self.key)


Choices = Mapping[str, OneOf | Several]
"""Arguments of one step, by name."""


def pick(choices: Choices, rng: random.Random) -> dict[str, Any]:
    """Arguments of a step by plain chance."""
    return {name: each.pick(rng) for name, each in choices.items()}


IDS = ("a", "b", "c", "d")
TOPICS = ("t", "t/xy", "u", "$x")
SHARED = ("$share/g/t", "$share/g/+", "$share/h/t/#", "$share/h/#")
FILTERS = ("#", "+/+", "t", "t/#", "t/+", "u", "$x", "w/#", "+/a/#", "r/#")

DEVICES = OneOf((0, 0, 0, 1, 1, 2, 3))
"""Which device: some do more than others, so that more happens to them."""
QUALITIES = OneOf((0, 1, 1, 2, 2))
BOOLEANS = OneOf((False, True))
SUBSCRIPTIONS = Several(
    OneOf([(name, qos) for name in FILTERS for qos in QUALITIES.values]),
    0,
    3,
    key=lambda each: each[0],
)

LEVELS = OneOf((4, 5, 5))
"""Which version of MQTT a client speaks."""
OPTIONS = OneOf([(False, False, 0)] * 4 + list(product((False, True), (False, True), range(3))))
"""No local, retain as published, and retain handling."""
EXPIRIES = OneOf((None, None, None, 4, 20, 60))
"""Of messages, in seconds."""
SESSION_EXPIRIES = OneOf((0, 20, 60, 0xFFFF_FFFF, 0xFFFF_FFFF))
TAKES = OneOf(
    [Takes()] * 12 + [Takes(*each) for each in product((0, 1, 2), (0, 200, 2_000), (0, 1, 3))]
)
WILLS = OneOf([None] * 14 + list(product(range(3), (False, True), (0, 0, 10, 50), (None, 20))))
"""QoS, RETAIN, delay, and expiry of a will."""

START: Choices = {
    "seed": OneOf(range(10_001)),
    "policy": OneOf(("drop-newest", "drop-oldest", "disconnect", "refuse")),
    "max_queued": OneOf(range(7)),
    "keeps_qos_0": BOOLEANS,
    "redelivers": OneOf((False, True, True, True)),
    "is_wide": OneOf((False,) * 7 + (True,)),
    "levels": Several(LEVELS, len(IDS), len(IDS)),
    "persistent": Several(BOOLEANS, len(IDS), len(IDS)),
    "takes": Several(TAKES, len(IDS), len(IDS)),
    "is_slow": Several(OneOf((False, False, True)), len(IDS), len(IDS)),
    "filters": Several(SUBSCRIPTIONS, len(IDS), len(IDS)),
    "shares": Several(OneOf([None] * 4 + list(product(SHARED, (1, 2)))), len(IDS), len(IDS)),
}
STEPS: dict[str, Choices] = {
    "connect": {
        "at": DEVICES,
        "level": OneOf((0, 0, 0, 0, 4, 5)),
        "clean": OneOf((False, False, True)),
        "expiry_s": SESSION_EXPIRIES,
        "takes": TAKES,
        "keep_alive_s": OneOf((0, 0, 10)),
        "will": WILLS,
        "behind": OneOf(range(3)),
        "first": OneOf(("", "cut", "disconnect", "settle")),
    },
    "end": {
        "at": DEVICES,
        "how": OneOf(
            ("cut", "reset", "disconnect", "want the will", "break the rules", "break off")
        ),
        "expiry_s": OneOf((None, None, None, 0, 20, 200)),
    },
    "subscribe": {
        "at": DEVICES,
        "filters": SUBSCRIPTIONS,
        "options": OPTIONS,
        "identified": BOOLEANS,
        "is_loose": BOOLEANS,
    },
    "share": {
        "at": DEVICES,
        "topic_filter": OneOf(SHARED),
        "qos": OneOf((0, 1, 1, 1, 2, 2, 2)),
        "keeps": BOOLEANS,
        "identified": OneOf((False, True, True, True)),
        "is_loose": BOOLEANS,
    },
    "unsubscribe": {
        "at": DEVICES,
        "filters": Several(OneOf(FILTERS + SHARED), 1, 2),
        "is_loose": BOOLEANS,
    },
    "publish": {
        "at": DEVICES,
        "topic": OneOf(TOPICS),
        "qos": QUALITIES,
        "count": OneOf((1, 1, 2, 6)),
        "size": OneOf((0, 0, 300, 9_000)),
        "expiry_s": EXPIRIES,
        "aliased": BOOLEANS,
        "is_loose": BOOLEANS,
    },
    "publish_several": {
        "at": DEVICES,
        "topics": Several(OneOf(TOPICS), 2, 6),
        "qos": QUALITIES,
        "aliased": BOOLEANS,
    },
    "retain": {
        "at": DEVICES,
        "topic": OneOf(range(3)),
        "qos": OneOf(range(3)),
        "size": OneOf(range(-1, 3)),
        "expiry_s": EXPIRIES,
    },
    "acknowledge": {"at": DEVICES, "count": OneOf(range(1, 5)), "is_loose": BOOLEANS},
    "nudge": {
        "at": DEVICES,
        "what": OneOf(("ping", "block", "block", "unblock", "acks", "decline", "turn")),
        "room_bytes": OneOf((None, None, None, 1, 30, 200, 600, 2_000)),
    },
    "advance": {"seconds": OneOf((0.5, 4.5, 16.5, 45.5, 130.5))},
    "settle": {},
}
"""What may happen, and how; what it does is a method of the machine."""


def _strategies(choices: Choices) -> dict[str, st.SearchStrategy[Any]]:
    return {name: each.strategy() for name, each in choices.items()}


def chosen_start(method: Method) -> Method:
    """Let Hypothesis begin with this method of a machine."""
    # To mypy the names might be those of other parameters.
    decorated: Method = initialize(**_strategies(START))(method)  # type: ignore[call-overload]
    return decorated


def chosen_step(method: Method) -> Method:
    """Let Hypothesis call this method of a machine, with what `STEPS` has for its name."""
    choices = STEPS[method.__name__]
    # To mypy the names might be those of other parameters.
    decorated: Method = rule(**_strategies(choices))(method)  # type: ignore[call-overload]
    return decorated
