"""What is left out of the tests of our own broker and client while they do not speak MQTT 5.0.

The traces of 5.0 are played to other brokers all the same, and `python -m conformance.run --core`
plays them to ours. Delete this module, and every use of it, when both constants would be true.
"""

from conformance._scenario import Scenario

BROKER_SPEAKS_5 = False
CLIENT_SPEAKS_5 = False


def is_left_out(scenario: Scenario) -> bool:
    """Whether the scenario waits for what is not there yet."""
    speaks_5 = CLIENT_SPEAKS_5 if scenario.role == "client" else BROKER_SPEAKS_5
    return scenario.version == "v5" and not speaks_5
