"""What the tests of the core share."""

from __future__ import annotations

from pathlib import Path

import pytest

import mqtt_core

IS_COMPILED = Path(mqtt_core.__file__).suffix != ".py"


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker means."""
    config.addinivalue_line(
        "markers", "interpreted_only(reason): looks where compiled code cannot be looked at"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot run compiled; it is no skip, since nothing is missing."""
    if not IS_COMPILED:
        return
    left_out = [item for item in items if item.get_closest_marker("interpreted_only")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
