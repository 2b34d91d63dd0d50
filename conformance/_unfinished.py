"""What is left out of the tests of our own broker while it serves no shared subscriptions.

These traces are played to other brokers all the same, and `python -m conformance.run --core` plays
them to ours. Delete this module, and every use of it, when groups choose their members.
"""

from typing import Final

from conformance._scenario import Scenario

_FILE: Final = "shared_5.trace"
_OTHERS: Final = (
    "publish/request-to-a-pool-of-responders",
    "subscribe/each-subscriber-of-5-gets-its-own",
    "subscribe/no-wildcards-at-the-server/shared",
    "topics/wildcards-in-5/shared",
)


def is_left_out(scenario: Scenario) -> bool:
    """Whether the scenario waits for what is not there yet."""
    return scenario.path.name == _FILE or scenario.full_name in _OTHERS
