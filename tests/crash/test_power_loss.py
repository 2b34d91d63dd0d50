"""A broker whose disk loses its power under load loses nothing that it has acknowledged."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.power import Disk
from tests.crash.rounds import run

ROUNDS = 5


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that can lose its power."""
    if not os.environ.get("IOTD_POWER_LOSS"):
        pytest.skip("platform: set IOTD_POWER_LOSS=1 to make and mount a file system")
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("platform: this needs Linux, root and mkfs.ext4")
    try:
        disk = Disk(tmp_path)
    except OSError as error:
        pytest.skip(f"platform: a file cannot be mounted here ({error})")
    yield disk
    disk.unmount()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["asyncio", "gevent"])
def test_what_was_acknowledged_survives_a_loss_of_power(runtime: str, disk: Disk) -> None:
    run(disk.mounted_at / "store", runtime, ROUNDS, seed=2, crash=disk.crash)


@pytest.mark.slow
def test_what_was_not_flushed_is_lost(disk: Disk) -> None:
    """Or the test above would prove nothing."""
    with pytest.raises(AssertionError, match="in the store"):
        run(
            disk.mounted_at / "store",
            "asyncio",
            ROUNDS,
            seed=2,
            durability="os",
            crash=disk.crash,
        )
