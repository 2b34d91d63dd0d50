"""Nanoseconds in the core per delivered message, without sockets: each build, each workload.

    python -m benchmarks.core_micro                         # both builds, side by side
    python -m benchmarks.core_micro --build pure --only q0-pair

The same clients as in the load generator talk to the core directly, with the same windows and the
same checks; the clock runs only while the core does. Chunks are what a socket would give: at most
64 KiB, and all channels are fed before output is taken, as within one turn of an event loop.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from time import perf_counter
from typing import Final

from adapters.bench.clients import Client
from adapters.bench.publishing import Progress, Publisher
from adapters.bench.receiving import Source, Subscriber
from adapters.bench.series import RECV_BYTES, filters_of
from adapters.bench.sockets import BenchmarkError
from adapters.bench.workloads import Workload
from benchmarks import _core, _selection
from benchmarks._core import Core
from mqtt_core.broker import Channel


class _Wire:
    """A socket's stand-in: what is sent waits until the core is fed with it."""

    def __init__(self) -> None:
        self.waiting = b""

    def send(self, data: bytes | bytearray, /) -> int:
        self.waiting += data
        return len(data)

    def recv(self, most: int, /) -> bytes:
        raise BlockingIOError

    def setblocking(self, flag: bool, /) -> None:
        return

    def fileno(self) -> int:
        return -1


class _NoPoller:
    """Nobody waits here."""

    def register(self, fd: int, events: int) -> None:
        return

    def modify(self, fd: int, events: int) -> None:
        return


class CoreLoad:
    """One workload on a core of its own."""

    def __init__(self, workload: Workload) -> None:
        self.workload: Final = workload
        self.core: Final = Core()
        self._progress: Final = Progress()
        self._wires: Final[list[tuple[_Wire, Channel]]] = []
        self._clients: Final[dict[int, Client]] = {}  # by the key of their channel
        self.publishers: Final[list[Publisher]] = []
        poller = _NoPoller()
        for index in range(workload.publishers):
            wire, channel = self._open(f"pub-{index}")
            publisher = Publisher(wire, poller, self._progress, workload, index)
            self.publishers.append(publisher)
            self._clients[channel.key] = publisher
        for index in range(workload.subscribers):
            wire, channel = self._open(f"sub-{index}")
            self.core.subscribe(channel, filters_of(workload, index), workload.qos)
            subscriber = Subscriber(wire, poller, workload, index)
            chosen = self.publishers
            if workload.mode == "pair":
                chosen = self.publishers[index :: workload.subscribers]
            subscriber.listen_to([Source(publisher) for publisher in chosen])
            self._clients[channel.key] = subscriber

    def _open(self, client_id: str) -> tuple[_Wire, Channel]:
        wire, channel = _Wire(), self.core.connect(client_id, self.workload.level)
        self._wires.append((wire, channel))
        return wire, channel

    def run(self) -> float:
        """Drive it to its end; seconds spent in the core."""
        wanted = self.workload.deliveries
        wanted_acks = self.workload.publishers * self.workload.messages if self.workload.qos else 0
        progress = self._progress
        inside = 0.0
        progress.touched.update(self.publishers)
        while progress.received < wanted or progress.acked < wanted_acks:
            before = progress.received + progress.acked
            for publisher in tuple(progress.touched):
                if not publisher.fill(0.0):
                    progress.touched.discard(publisher)
            fed = self._chunks()
            inside += self._turn(fed)
            if not fed and before == progress.received + progress.acked:
                raise BenchmarkError(f"{self.workload.name}: the core has come to a halt")
        return inside

    def _chunks(self) -> list[tuple[Channel, bytes]]:
        """What each socket would give to one read."""
        chunks = []
        for wire, channel in self._wires:
            if wire.waiting:
                chunks.append((channel, wire.waiting[:RECV_BYTES]))
                wire.waiting = wire.waiting[RECV_BYTES:]
        return chunks

    def _turn(self, fed: list[tuple[Channel, bytes]]) -> float:
        """Feed the core and take its output, by the clock; then let the clients have it."""
        core, broker = self.core, self.core.broker
        sent: list[tuple[Channel, bytes]] = []
        start = perf_counter()
        for channel, chunk in fed:
            channel.receive_data(chunk, start)
            if broker.must_flush:
                sent += core.turn()
        sent += core.turn()
        inside = perf_counter() - start
        for channel, data in sent:
            self._clients[channel.key].receive_data(data, 0.0)
        return inside


def measure(workload: Workload, runs: int) -> float:
    """The best of several runs, in nanoseconds per delivery."""
    best = float("inf")
    for _ in range(runs):
        load = CoreLoad(workload)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            best = min(best, load.run())
        finally:
            gc.enable()
            gc.unfreeze()
    return best * 1e9 / workload.deliveries


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.core_micro",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _selection.add_workloads(parser, scale=0.25)
    parser.add_argument("--build", choices=("both", "this", *_core.BUILDS), default="both")
    parser.add_argument("--python", default=_core.default_python(), help="has iotd installed")
    parser.add_argument("--runs", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    args = parser.parse_args(argv)
    chosen = [each for each in _selection.workloads(args) if each.name != "paced"]
    labels = [each.label for each in chosen]
    try:
        if args.build == "this":
            table = {_core.build(): {w.label: round(measure(w, args.runs), 1) for w in chosen}}
        else:
            table = _in_builds(args, list(dict.fromkeys(each.name for each in chosen)))
    except BenchmarkError as error:
        print(f"core_micro: {error}", file=sys.stderr)
        return 2
    print(json.dumps(table) if args.json else told(table, labels))
    return 0


def _in_builds(args: argparse.Namespace, names: list[str]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    options = ["--build", "this", "--json", "--runs", str(args.runs), "--scale", str(args.scale)]
    options += ["--only", *names, "--mqtt", *args.mqtt]
    for build in _core.BUILDS if args.build == "both" else (args.build,):
        found: dict[str, dict[str, float]] = json.loads(
            _core.run_in_build("benchmarks.core_micro", build, args.python, options)
        )
        if build not in found:
            raise BenchmarkError(_core.no_such_build(build, args.python))
        table.update(found)
    return table


def told(table: dict[str, dict[str, float]], labels: list[str]) -> str:
    """Nanoseconds per delivery, a column for each build."""
    lines = [f"{'ns per delivery':<16}" + "".join(f"{build:>10}" for build in table)]
    for label in labels:
        lines.append(f"{label:<16}" + "".join(f"{row[label]:>10,.0f}" for row in table.values()))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
