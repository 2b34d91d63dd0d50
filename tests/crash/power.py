"""A disk that loses its power: what was not flushed to it is gone.

It is an ext4 in a file. Its own ioctl for such tests ends it at once and drops what its journal has
not written; then it is mounted again, as after a loss of power. Needs Linux and root.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from typing import Final

from tests.crash.broker import Broker
from tests.crash.fleet import Fleet

SIZE_BYTES: Final = 128 * 1024 * 1024
_SHUTDOWN: Final = 0x8004587D  # FS_IOC_SHUTDOWN
_WITHOUT_FLUSH: Final = 2


class Disk:
    """An ext4 in a file, below `parent`. Raises `OSError` where it cannot be made or mounted."""

    def __init__(self, parent: Path) -> None:
        self.image: Final = parent / "image"
        self.mounted_at: Final = parent / "disk"
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

    def crash(self, broker: Broker, fleet: Fleet) -> None:
        """Lose the power while the broker works.

        Its process goes on for a moment, which it would not. What it says in that moment is not
        heard, and may be wrong: if the file system ends while the data of a flush are on their way,
        and its journal drops the transaction that the flush goes on to look for, Linux (6.18) tells
        that all is stored; a program of five lines that appends to a file and flushes meets it too.

        To stop the process first would do as well, but would let the flush under way come to its
        end, and hide an acknowledgement that is sent one flush too early.
        """
        self.lose_power()
        broker.kill()
        fleet.close()
        self.unmount()
        self.mount()


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
