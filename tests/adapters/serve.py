"""A server program for the tests that need a process: `serve.py RUNTIME [OPTION...]`.

It prints what happens, one word or fact per line: `ready URL`, then facts by name. Options:

- `signal-early=N`: the process sends itself the signal as soon as the server handles signals,
- `signal-ready=N[,N]`: it sends them from `on_ready`,
- `descriptors=N`: the limit of open files,
- `linger=N`: seconds that the server waits for clients to go.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time

from mqtt_core.broker import Fact, Limits


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

    limits = Limits(linger_timeout_secs=float(options.get("linger", "0.05")))
    server = module.Server(["tcp://127.0.0.1:0"], on_fact=on_fact, limits=limits)
    if "signal-early" in options:
        threading.Thread(
            target=_signal_as_soon_as_handled, args=[int(options["signal-early"])], daemon=True
        ).start()
    return int(module.run(server, on_ready=on_ready))


if __name__ == "__main__":
    raise SystemExit(main())
