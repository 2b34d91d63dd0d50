"""What a server program asks of its process: signals that stop it, descriptors for its clients.

An embedded server uses nothing of this: the process belongs to the program around it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from types import FrameType
from typing import final

from mqtt_core.broker import GRACEFUL, IMMEDIATE

if sys.platform != "win32":
    import resource


@final
class StopSignals:
    """SIGINT asks for a graceful stop, SIGTERM for an immediate one, a second of either ends all.

    The handlers only note what was asked and make `receiver` readable, so that a signal in any
    moment, before the server listens as well as while it stops, is seen by whoever waits there.
    They stay when the server has stopped: the program ends then, and a second signal in its last
    moments must not become a traceback. Main thread only.
    """

    def __init__(self) -> None:
        self.mode = 0
        """`GRACEFUL` or `IMMEDIATE` once a signal has come, 0 before."""
        self.receiver, self._sender = socket.socketpair()
        """`receiver` becomes readable when a signal has come."""
        self.receiver.setblocking(False)
        self._sender.setblocking(False)
        # Without this byte a signal that comes between the interpreter's last look and the
        # poll would wait for the next event. (A loop that sets its own is as good.)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        if hasattr(signal, "SIGBREAK"):
            signal.signal(signal.SIGBREAK, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.mode:
            # What was acknowledged is stored already: acknowledgements wait for their commit.
            os._exit(128 + number)
        self.mode = GRACEFUL if number == signal.SIGINT else IMMEDIATE
        try:
            self._sender.send(b"\0")
        except BlockingIOError:
            pass  # full, so it is readable


def raise_descriptor_limit() -> None:
    """Allow as many connections as the system's hard limit gives; shells often start at 1,024."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            except (OSError, ValueError):
                pass  # some systems name a hard limit that they do not give; the soft one stays
