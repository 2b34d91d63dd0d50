"""Plays traces: `python -m conformance.run HOST:PORT`, `--core` or `--mosquitto`.

HOST:PORT is any MQTT broker that somebody has started; scenarios share it, so their topics and
client ids get a prefix, and what they leave behind is removed. `--core` plays against the broker
core in memory, on a fake clock; `--mosquitto` starts one for each scenario.
"""

import argparse
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from conformance._client_peer import play_client
from conformance._core_peer import play_broker
from conformance._mosquitto import Mosquitto, find_mosquitto
from conformance._player import Outcome, Result, play
from conformance._scenario import VERSIONS, Scenario, TraceError
from conformance._side_by_side import PLAYERS, play_side_by_side
from conformance._socket_peer import SocketPeer
from conformance._trace import TRACES, load_traces


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. 0: all that could be played passed; 1: some failed; 2: a wrong call."""
    parser = argparse.ArgumentParser("python -m conformance.run", description=__doc__)
    parser.add_argument("address", nargs="?", help="HOST:PORT of a broker")
    parser.add_argument("--core", action="store_true", help="the core of iotd, in memory")
    parser.add_argument("--mosquitto", action="store_true", help="start mosquitto, and play to it")
    parser.add_argument(
        "--only", default="", help="only scenarios whose name or statement has this"
    )
    parser.add_argument("--version", choices=VERSIONS, help="only scenarios for this version")
    parser.add_argument("--traces", type=Path, default=TRACES, help="a trace file or a folder")
    parser.add_argument("--settings", default="", help="what the broker is set to: KEY=VALUE ...")
    parser.add_argument("--ours", action="store_true", help="accept only iotd's own choices")
    parser.add_argument("--verbose", action="store_true", help="also list what passed")
    options = parser.parse_args(arguments)
    if [bool(options.address), options.core, options.mosquitto].count(True) != 1:
        parser.error("say what to play to: HOST:PORT, --core or --mosquitto")
    try:
        scenarios = [one for one in load_traces(options.traces) if _is_asked(one, options)]
    except TraceError as error:
        print(error, file=sys.stderr)
        return 2
    if not scenarios:
        parser.error(f"no scenario has {options.only!r} in its name or its statements")
    play_one = _player_for(parser, options)
    players = 1 if options.core else PLAYERS
    are_apart = not options.address
    try:
        results = list(play_side_by_side(scenarios, play_one, players=players, are_apart=are_apart))
    except OSError as error:
        print(f"{options.address}: {error}; is a broker listening there?", file=sys.stderr)
        return 2
    return _report(results, options.verbose)


def _player_for(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> Callable[[Scenario], Result]:
    if options.core:
        return play_to_core
    if options.mosquitto:
        if find_mosquitto() is None:
            parser.error("mosquitto is not installed: install the package `mosquitto`")
        return play_to_mosquitto
    host, _, port = options.address.rpartition(":")
    if not port.isdecimal():
        parser.error(f"{options.address!r} is no HOST:PORT, such as 127.0.0.1:1883")
    settings = dict(word.split("=", 1) for word in options.settings.split())
    run = secrets.token_hex(3)
    numbers = count(1)

    def play_shared(scenario: Scenario) -> Result:
        # Short: with the names in traces it stays under 23 bytes, which every broker takes.
        prefix = "" if "alone" in scenario.needs else f"{run}{next(numbers)}"
        peer = SocketPeer(
            (host.strip("[]"), int(port)), is_ours=options.ours, settings=settings, shares=True
        )
        return play(scenario, peer, prefix)

    return play_shared


def play_to_mosquitto(scenario: Scenario) -> Result:
    """Play to a mosquitto of the scenario's own, with the settings it asks for."""
    if scenario.role == "client":
        return Result(scenario, Outcome.SKIPPED, "  skipped because it tests a client")
    with Mosquitto(scenario.settings) as broker:
        peer = SocketPeer(broker.address, title="mosquitto", settings=broker.settings)
        return play(scenario, peer)


def play_to_core(scenario: Scenario) -> Result:
    """Play to the core of iotd in memory: its client role or its broker, as the scenario asks."""
    return play_client(scenario) if scenario.role == "client" else play_broker(scenario)


def _is_asked(scenario: Scenario, options: argparse.Namespace) -> bool:
    only = options.only
    if options.version and scenario.version != VERSIONS[options.version]:
        return False
    return only in scenario.full_name or any(only in statement for statement in scenario.proves)


def _report(results: Sequence[Result], is_verbose: bool) -> int:
    for result in results:
        if result.outcome is Outcome.FAILED or is_verbose:
            print(result.report())
    counts = Counter(result.outcome for result in results)
    print(", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome))
    return 1 if counts[Outcome.FAILED] else 0


if __name__ == "__main__":
    sys.exit(main())
