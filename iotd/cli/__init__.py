"""The command line: `iotd serve`, `iotd config`, `iotd hash-password`, `iotd --version`."""

from __future__ import annotations

from iotd.cli._main import main

__all__ = ["main"]
