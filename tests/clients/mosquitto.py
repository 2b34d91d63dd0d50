"""A mosquitto of our own for a test, with a TCP and a WebSocket listener."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
_PATIENCE_S = 20.0

needs_mosquitto = pytest.mark.skipif(
    PROGRAM is None, reason="mosquitto is not installed (apt-get install mosquitto)"
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    """Runs while the `with` block does; `url` and `websocket_url` are where it listens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._websocket_port = _free_port(), _free_port()
        self.url = f"mqtt://127.0.0.1:{self._port}"
        self.websocket_url = f"ws://127.0.0.1:{self._websocket_port}/mqtt"

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        configuration = self._folder / "mosquitto.conf"
        # 2.0.11 has been seen to leave messages in its queue, of 20 in flight all acknowledged.
        configuration.write_text(
            f"listener {self._port} 127.0.0.1\nlistener {self._websocket_port} 127.0.0.1\n"
            "protocol websockets\nallow_anonymous true\nset_tcp_nodelay true\n"
            "max_inflight_messages 0\n"
        )
        self._process = subprocess.Popen(
            [PROGRAM, "-c", str(configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        give_up_at = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up_at and self._process.poll() is None:
            try:
                for port in (self._port, self._websocket_port):
                    with socket.create_connection(("127.0.0.1", port), timeout=1):
                        pass
                return self
            except OSError:
                time.sleep(0.01)  # it is starting
        self._process.kill()
        raise RuntimeError(f"mosquitto did not start: {self._process.communicate()[1]}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.communicate()
