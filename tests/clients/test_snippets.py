"""The snippets of the documents run as shown, but for the port of their broker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.adapters.rig import RunningServer

pytestmark = pytest.mark.source

ROOT: Final = Path(__file__).resolve().parents[2]
SNIPPET: Final = re.compile(r"<!-- with a broker -->\n```python\n(.*?)```", re.DOTALL)
PAGES: Final = ("README.md", "docs/client.md")
SNIPPETS: Final = [
    pytest.param(match[1], id=f"{page}-{number}")
    for page in PAGES
    for number, match in enumerate(SNIPPET.finditer((ROOT / page).read_text(encoding="utf-8")))
]


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 5


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(snippet: str) -> None:
    with RunningServer("asyncio") as server:
        port = server.address[1]
        program = snippet.replace("mqtt://localhost", f"mqtt://localhost:{port}")
        subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


@pytest.mark.slow
def test_the_benchmark_of_clients_prints_its_table() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "clients.py"), "--rounds", "1"]
    command += ["--share", "0.01", "--clients", "iotd"]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == [
        "q0-publish",
        "q1-publish",
        "q2-publish",
        "receive",
        "round-trip",
    ]
    assert all(float(row[1].replace(",", "")) > 0 for row in rows)
