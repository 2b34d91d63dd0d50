"""What the conformance tests share."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "statement(*ids): the numbered statements that the test proves"
    )
