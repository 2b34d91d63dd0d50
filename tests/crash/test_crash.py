"""A broker that is killed under load loses nothing that it has acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.rounds import run

ROUNDS = 10


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["asyncio", "gevent"])
def test_what_was_acknowledged_survives_every_kill(runtime: str, tmp_path: Path) -> None:
    run(tmp_path / "store", runtime, ROUNDS, seed=1)
