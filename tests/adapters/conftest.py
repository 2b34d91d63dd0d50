"""What the adapter tests share: each runs on every runtime."""

from __future__ import annotations

import pytest

from tests.adapters.rig import RUNTIMES


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """The runtime under test."""
    return str(request.param)
