"""Rounds of load, each ended by a crash: a kill, or a loss of power. Nothing may be lost by it.

python -m tests.crash.rounds --rounds 200 --runtime gevent
python -m tests.crash.rounds --rounds 200 --power-loss     as root on Linux
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.crash.broker import Broker
from tests.crash.fleet import Fleet, Subscriber
from tests.crash.power import Disk
from tests.crash.stored import Stored

Crash = Callable[[Broker, Fleet], None]
"""Ends a broker in the midst of its work, and lets the fleet hear of that what it would."""

_MOST_ACKNOWLEDGED: Final = 400  # in one round
_PUBLISHED: Final = 1_000  # at most in one round, by all together


def kill(broker: Broker, fleet: Fleet) -> None:
    """The process is killed, not the machine: what it had said before still arrives."""
    broker.kill()
    fleet.turn(lambda: False)
    fleet.close()


def run(
    folder: Path,
    runtime: str,
    rounds: int,
    *,
    seed: int,
    durability: str = "fsync",
    crash: Crash = kill,
    tell: Callable[[int, str], None] = lambda _number, _figures: None,
) -> str:
    """Crash a broker `rounds` times under load; returns figures, or fails with what is missing."""
    fleet = Fleet(seed)
    chance = random.Random(seed)
    try:
        for number in range(rounds):
            broker = Broker(folder, runtime, durability)
            with _told(folder, broker, fleet):
                fleet.come(broker.address)
                fleet.publish_more(_PUBLISHED)
                enough = fleet.acknowledged + chance.randrange(_MOST_ACKNOWLEDGED)
                fleet.turn(lambda enough=enough: fleet.acknowledged >= enough)  # type: ignore[misc]
                crash(broker, fleet)
                fleet.judge_stored(Stored(folder))
            tell(number + 1, fleet.figures())
        _finish(folder, fleet, Broker(folder, runtime, durability))
    finally:
        fleet.close()
    return fleet.figures()


@contextmanager
def _told(folder: Path, broker: Broker, fleet: Fleet) -> Iterator[None]:
    """A failure comes with all that may tell why."""
    try:
        yield
    except BaseException as error:
        broker.kill()
        error.add_note(f"The log of the broker:\n{''.join(broker.log)}")
        try:
            error.add_note(fleet.evidence(Stored(folder)))
        except Exception as other:  # noqa: BLE001  the first failure is the one to be told
            error.add_note(f"The store cannot be read: {other!r}")
        raise


def _finish(folder: Path, fleet: Fleet, broker: Broker) -> None:
    """Let everything arrive, and judge it."""
    with _told(folder, broker, fleet):
        fleet.come_all(broker.address)
        fleet.turn(fleet.has_everything)
        assert fleet.has_everything(), f"the broker has gone: {fleet.missing()}"
        fleet.judge()
        reader = Subscriber("reader", 4, "load/+", 1)
        reader.connect(broker.address)
        while len(reader.retained) < len(fleet.publishers):
            assert reader.read() >= 0, reader.retained
        reader.close()
        fleet.judge_retained(reader)
        broker.stop()


def main() -> int:
    """The command line of a long run."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--runtime", choices=("asyncio", "gevent"), default="asyncio")
    parser.add_argument("--durability", choices=("os", "fsync"), default="fsync")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument(
        "--power-loss", action="store_true", help="of the disk, in place of kills; needs root"
    )
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)

    def tell(number: int, figures: str) -> None:
        print(f"\r{number} of {args.rounds} rounds: {figures}", end="", flush=True)

    with tempfile.TemporaryDirectory() as parent, ExitStack() as cleanup:
        folder = Path(parent, "store")
        crash = kill
        if args.power_loss:
            disk = Disk(Path(parent))
            cleanup.callback(disk.unmount)
            folder = disk.mounted_at / "store"
            crash = disk.crash
        figures = run(
            folder,
            args.runtime,
            args.rounds,
            seed=args.seed,
            durability=args.durability,
            crash=crash,
            tell=tell,
        )
    crashes = "losses of power" if args.power_loss else "kills"
    print(f"\n{args.rounds} {crashes} on {args.runtime}, nothing lost: {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
