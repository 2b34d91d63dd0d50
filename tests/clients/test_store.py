"""Exactly once over a restart of a client: a real process, killed where it stands."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.storage import StoreError
from iotd import Client, StoreFailed
from mqtt_core.broker import Limits, MemoryEngine
from tests.adapters.rig import RunningServer
from tests.clients.loops import run
from tests.rig import RefusingEngine

PUBLISHER = Path(__file__).with_name("publisher.py")


def test_a_publisher_that_is_killed_delivers_exactly_once(tmp_path: Path) -> None:
    with RunningServer("asyncio") as server:
        host, port = server.address
        url = f"mqtt://{host}:{port}"

        async def test() -> None:
            async with Client(url, client_id="reader") as reader:
                messages = await reader.subscribe("numbers", qos=2)
                got: list[int] = []
                acknowledged: list[int] = []
                first = 0
                for last in range(3):
                    with subprocess.Popen(
                        [sys.executable, str(PUBLISHER), url, str(tmp_path / "store"), str(first)],
                        stdout=subprocess.PIPE,
                        text=True,
                    ) as publisher:
                        for _ in range(30 + 7 * last):
                            got.append(int((await messages.get()).payload))
                        publisher.kill()
                        out = await asyncio.to_thread(publisher.communicate)
                    acknowledged += [int(each) for each in out[0].split("\n")[:-1]]
                    first += 100_000
                # What was on its way is delivered by the next run, which has nothing else to do.
                async with Client(
                    url, client_id="killed", session_expiry_s=600, store=tmp_path / "store"
                ) as again:
                    await again.flush()
                    await again.publish("numbers", "-1", 2)
                while (number := int((await messages.get()).payload)) != -1:
                    got.append(number)
                assert len(got) == len(set(got))
                assert set(acknowledged) <= set(got)
                assert len(acknowledged) >= 40

        run("asyncio", test)


def test_an_engine_of_ones_own(tmp_path: Path) -> None:
    with RunningServer("asyncio") as server:
        host, port = server.address
        url = f"mqtt://{host}:{port}"
        engine = MemoryEngine(Limits())

        async def test() -> None:
            given = {"client_id": "own", "session_expiry_s": 60}
            early = Client(url, store=engine, **given)  # type: ignore[arg-type]  # as it has them
            early.publish_nowait("own", "1", 2)
            await early.connect()
            await early.close()
            async with Client(url, store=engine, **given) as client:  # type: ignore[arg-type]
                await client.publish("own", "2", 2)
                messages = await client.subscribe("own", qos=2)
                await client.publish("own", "3", 2)
                assert (await messages.get()).text == "3"

        run("asyncio", test)


def test_a_store_that_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "iotd.db").write_bytes(b"no database at all")
    with pytest.raises(StoreError):
        Client("mqtt://localhost", client_id="c", session_expiry_s=60, store=tmp_path)
    refusing = RefusingEngine(MemoryEngine(Limits()), 1)

    async def test() -> None:
        client = Client("mqtt://localhost", client_id="c", session_expiry_s=60, store=refusing)
        with pytest.raises(StoreFailed, match="refused by test"):
            await client.connect()

    run("asyncio", test)
