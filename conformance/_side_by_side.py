"""Plays many scenarios at a time, so that those with a clock cost the time of the longest."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from conformance._player import Result
from conformance._scenario import Scenario

PLAYERS = 16


def play_side_by_side(
    scenarios: Sequence[Scenario], play_one: Callable[[Scenario], Result], players: int = PLAYERS
) -> Iterator[Result]:
    """Results in the order of `scenarios`. Those that need to be alone come last, one by one."""
    together = [scenario for scenario in scenarios if "alone" not in scenario.needs]
    alone = [scenario for scenario in scenarios if "alone" in scenario.needs]
    timed_first = sorted(together, key=lambda scenario: not scenario.is_timed)
    with ThreadPoolExecutor(players) as pool:
        running = {id(scenario): pool.submit(play_one, scenario) for scenario in timed_first}
        for scenario in together:
            yield running[id(scenario)].result()
    for scenario in alone:
        yield play_one(scenario)
