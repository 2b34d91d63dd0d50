"""An aedes of our own for a test; it speaks MQTT 3.1.1 over TCP."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_FOLDER = Path(__file__).parent
_NODE = shutil.which("node")

needs_aedes = pytest.mark.skipif(
    _NODE is None or not (_FOLDER / "node_modules/aedes").exists(),
    reason=f"aedes is not installed (npm --prefix {_FOLDER} install)",
)


class Aedes:
    """Runs while the `with` block does; `url` is where it listens."""

    def __enter__(self) -> Self:
        assert _NODE is not None
        self._process = subprocess.Popen(
            [_NODE, str(_FOLDER / "aedes.cjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self._process.communicate()
            raise RuntimeError("aedes did not start: its standard error says why")
        self.url = f"mqtt://127.0.0.1:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()  # which closes its input
