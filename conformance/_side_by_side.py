"""Plays many scenarios at a time, so that those with a clock cost the time of the longest."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from conformance._player import Result
from conformance._scenario import Scenario

PLAYERS = 16


def play_side_by_side(
    scenarios: Sequence[Scenario],
    play_one: Callable[[Scenario], Result],
    *,
    players: int = PLAYERS,
    are_apart: bool = False,
) -> Iterator[Result]:
    """Results, those of scenarios that need to be alone last: they are played one by one.

    `are_apart`: each has a broker of its own, so none needs to be alone.
    """
    together = [one for one in scenarios if are_apart or "alone" not in one.needs]
    alone = [one for one in scenarios if not are_apart and "alone" in one.needs]
    timed_first = sorted(together, key=lambda scenario: not scenario.is_timed)
    with ThreadPoolExecutor(players) as pool:
        running = {id(scenario): pool.submit(play_one, scenario) for scenario in timed_first}
        try:
            for scenario in together:
                yield running[id(scenario)].result()
        finally:  # Who interrupts waits for those that are played, not for all.
            pool.shutdown(cancel_futures=True)
    for scenario in alone:
        yield play_one(scenario)
