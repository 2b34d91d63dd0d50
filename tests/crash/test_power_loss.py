"""Loss of power on a real file system: what was not flushed to the disk is gone.

The store is on an ext4 in a file. Its own ioctl for such tests ends it at once, and drops what its
journal has not on the disk; then it is mounted again as after a loss of power.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.broker import Broker
from tests.crash.rounds import run

ROUNDS = 5
SIZE_BYTES = 128 * 1024 * 1024
_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
_WITHOUT_FLUSH = 2


class Disk:
    """An ext4 in a file."""

    def __init__(self, parent: Path) -> None:
        self.image = parent / "image"
        self.mounted_at = parent / "disk"
        self.mounted_at.mkdir()
        with self.image.open("wb") as image:
            image.truncate(SIZE_BYTES)
        _call("mkfs.ext4", "-q", "-F", str(self.image))
        self.mount()

    def mount(self) -> None:
        """Make it be there."""
        _call("mount", "-o", "loop", str(self.image), str(self.mounted_at))

    def unmount(self) -> None:
        """Take it away."""
        _call("umount", str(self.mounted_at))

    def lose_power(self) -> None:
        """What is not on it by now never will be."""
        import fcntl

        place = os.open(self.mounted_at, os.O_RDONLY)
        try:
            fcntl.ioctl(place, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        finally:
            os.close(place)


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


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
    def crash(broker: Broker) -> None:
        disk.lose_power()
        broker.kill()
        disk.unmount()
        disk.mount()

    run(disk.mounted_at / "store", runtime, ROUNDS, seed=2, crash=crash)
