"""How often chance is tried on each trace."""

from __future__ import annotations

import os

SEEDS = range(10 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 1)
"""Once where every test has to be waited for; there are some ten thousand plays either way."""
