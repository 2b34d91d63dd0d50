"""A server program for the tests that need a process: `serve.py RUNTIME [OPTION...]`.

It prints what happens, one word or fact per line: `ready URL`, then facts by name. Options:

- `signal-early=N`: the process sends itself the signal as soon as the server handles signals,
- `signal-ready=N[,N]`: it sends them from `on_ready`,
- `descriptors=N`: the limit of open files,
- `linger=N`: seconds that the server waits for clients to go,
- `engine=silent|refusing`: one that does not answer, or refuses all that it is asked.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from adapters.transport import RecoveryError
from mqtt_core.broker import LEVEL_MEMORY, Completion, Engine, Fact, Failed, Limits, Request


class SilentEngine:
    """An engine that takes requests and never answers any, or refuses them all."""

    last_number = 0
    level = LEVEL_MEMORY
    index_bytes = None

    def __init__(self, refuses: bool) -> None:
        self._refuses = refuses
        self._refused: list[Completion] = []

    def start(self, on_answers: Callable[[], None]) -> None:
        """There is nothing to begin."""

    def submit(self, request: Request) -> None:
        """Take a request."""
        print("asked", flush=True)
        if self._refuses:
            self._refused.append(Failed(request.request_id, "the disk is gone"))

    def take_completions(self) -> list[Completion]:
        """Refusals."""
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """Say so."""
        print("closed", flush=True)


def _signal_as_soon_as_handled(number: int) -> None:
    sys.setswitchinterval(1e-5)
    while signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
        time.sleep(0)  # let the main thread go on
    os.kill(os.getpid(), number)


def main() -> int:
    """Serve until a signal."""
    runtime, *rest = sys.argv[1:]
    options = dict(option.split("=") for option in rest)
    if runtime == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment]  # what Python calls not installed
    package = "gevent" if runtime == "gevent" else "asyncio"
    module = importlib.import_module(f"adapters.{package}_server")
    if "descriptors" in options:
        import resource

        limit = int(options["descriptors"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    def on_fact(fact: Fact) -> None:
        print(fact.name, fact.detail, flush=True)

    def on_ready() -> None:
        print("ready", *server.addresses, flush=True)
        for number in options.get("signal-ready", "").split(","):
            if number:
                os.kill(os.getpid(), int(number))

    limits = Limits(
        linger_timeout_secs=float(options.get("linger", "0.05")), shutdown_timeout_secs=0.05
    )
    engine: Engine | None = None
    if "engine" in options:
        engine = SilentEngine(options["engine"] == "refusing")
    server = module.Server(["tcp://127.0.0.1:0"], on_fact=on_fact, limits=limits, engine=engine)
    if "signal-early" in options:
        threading.Thread(
            target=_signal_as_soon_as_handled, args=[int(options["signal-early"])], daemon=True
        ).start()
    try:
        return int(module.run(server, on_ready=on_ready))
    except RecoveryError as error:
        print("RecoveryError", error, flush=True)
        return 3


if __name__ == "__main__":
    raise SystemExit(main())
