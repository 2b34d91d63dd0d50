"""A broker in a process of its own, to be killed."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

_PATIENCE_S: Final = 60.0


class Broker:
    """`iotd serve` with its store in `folder`; made when it accepts connections."""

    def __init__(self, folder: Path, runtime: str, durability: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IOTD_")}
        environment["IOTD_STORAGE_DURABILITY"] = durability
        environment["IOTD_SESSION_MAX_QUEUED_MESSAGES"] = "1000000"  # so that nothing is dropped
        options = ["--listen", "tcp://127.0.0.1:0", "--runtime", runtime, "--data-dir", str(folder)]
        self._process: Final = subprocess.Popen(
            [sys.executable, "-m", "iotd", "serve", *options, "--log-format", "json"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.log: Final[list[str]] = []
        self._is_read = False  # to its end
        self._lines: Final[queue.SimpleQueue[bytes]] = queue.SimpleQueue()
        self._reader: Final = threading.Thread(target=self._read)
        self._reader.start()
        listeners = self._event("program.started")["listeners"]
        assert isinstance(listeners, list)
        host, _, port = str(listeners[0]).removeprefix("tcp://").rpartition(":")
        self.address: Final = (host, int(port))

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.put(line)
        self._lines.put(b"")

    def _event(self, name: str) -> dict[str, object]:
        """The next line of that event."""
        while line := self._lines.get(timeout=_PATIENCE_S).decode():
            self.log.append(line)
            event: dict[str, object] = json.loads(line)
            if event["event"] == name:
                return event
        raise AssertionError("".join(self.log))

    def kill(self) -> None:
        """End it without a chance to say anything; harmless for one that has ended."""
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """End it as a service manager does."""
        self._process.terminate()
        code = self._end()
        assert code == 0, "".join(self.log)
        errors = [line for line in self.log if json.loads(line)["level"] == "error"]
        assert not errors, "".join(errors)

    def _end(self) -> int:
        code = self._process.wait(_PATIENCE_S)
        if not self._is_read:
            self._reader.join(_PATIENCE_S)
            while line := self._lines.get(timeout=_PATIENCE_S).decode():
                self.log.append(line)
            self._is_read = True
            assert self._process.stderr is not None
            self._process.stderr.close()
        faults = [line for line in self.log if json.loads(line)["event"] == "fault"]
        assert not faults, "".join(faults)
        return code
