"""How often chance is tried on each trace."""

from __future__ import annotations

from pathlib import Path

import mqtt_core

SEEDS = range(3 if Path(mqtt_core.__file__).suffix != ".py" else 1)
"""One for the interpreted core, which takes four times as long for the same code."""
