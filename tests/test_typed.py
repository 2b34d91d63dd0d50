"""Programs of users pass `mypy --strict` against what is installed, the documents' as well.

mypy knows nothing of the source tree here: it finds iotd where the wheel has put it, and believes
its types only where a py.typed says so.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import iotd

# pytestmark = pytest.mark.wheel

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PYTHON: Final = re.compile(r"^```python\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)

MISTAKEN: Final = """\
import asyncio

from iotd import BlockingClient, Client, ClientLimits, Server
from iotd.gevent import Server as GeventServer


async def main() -> None:
    async with Client(1883) as client:
        await client.publish("topic", 20.5)
        messages = await client.subscribe("topic", qos="1")
        (await messages.get()).payload.encode()
        async with Server(limits=ClientLimits()) as server:
            server.urls.port


with BlockingClient("mqtt://localhost") as blocking:
    blocking.publish("topic", payload=None)
GeventServer(listen=1883)
asyncio.run(main)
"""


def _programs() -> dict[str, str]:
    """Name and text of each program that a user may write, or copy."""
    programs = {"mistaken.py": MISTAKEN}
    # A class from a package without py.typed is Any to a program, and nothing would be found.
    names = "".join(f"print(iotd.{name})\n" for name in iotd.__all__)
    programs["names.py"] = f"# mypy: disallow-any-expr\nimport iotd\n\n{names}"
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in PYTHON.finditer(text):
            line = text.count("\n", 0, match.start("text")) + 1
            programs[f"{page.stem.lower()}_line_{line}.py"] = match["text"]
    for example in (ROOT / "examples").glob("*.py"):
        programs[example.name] = example.read_text(encoding="utf-8")
    return programs


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> list[str]:
    """What mypy says of all of them; it keeps what it has learnt of the libraries."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in _programs().items():
        (folder / name).write_text(text, encoding="utf-8")
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}"]
    command += ["--no-error-summary", "--hide-error-context", "."]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (1, "")  # 1: it ran, and has found MISTAKEN's
    return [line for line in result.stdout.splitlines() if ": note: " not in line]


def test_there_are_programs() -> None:
    assert len(_programs()) > 20


def test_documents_and_examples_are_typed(errors: list[str]) -> None:
    assert [line for line in errors if not line.startswith(("mistaken.py", "names.py"))] == []


def test_every_public_name_has_a_type(errors: list[str]) -> None:
    assert [line for line in errors if line.startswith("names.py")] == []


def test_a_mistake_is_found_where_it_is(errors: list[str]) -> None:
    found = [int(line.split(":")[1]) for line in errors if line.startswith("mistaken.py")]
    assert found == [8, 9, 10, 11, 12, 13, 17, 18, 19]
