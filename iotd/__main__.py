"""`python -m iotd` is `iotd`."""

from __future__ import annotations

import sys

from iotd.cli import main

if __name__ == "__main__":
    sys.exit(main())
