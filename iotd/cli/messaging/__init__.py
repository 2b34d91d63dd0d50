"""`iotd pub`, `iotd sub`, `iotd rr`: messages on the command line, with mosquitto's flags."""

from __future__ import annotations

from iotd.cli.messaging._at_once import run_at_once

__all__ = ["run_at_once"]
