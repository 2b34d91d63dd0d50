"""The entry of the program. It loads next to nothing itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

_AT_ONCE: Final = ("pub", "sub", "rr")
"""Programs that scripts start again and again."""


def main(argv: Sequence[str] | None = None, runtime: str | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return the exit code.

    With `runtime` given there is no subcommand: the program is `serve` on that runtime, as in
    `python -m adapters.gevent_server`.

    Exit codes: 0 done, 1 the program could not do its work (port in use, file missing), 2 the
    command line or the configuration is wrong, 130 interrupted before anything was started.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if runtime is None and arguments and arguments[0] in _AT_ONCE:
            from iotd.cli.messaging import run_at_once

            code = run_at_once(arguments)
            if code is not None:
                return code
        from iotd.cli._app import run  # loads typer

        return run(arguments, runtime)
    except KeyboardInterrupt:
        return 130
