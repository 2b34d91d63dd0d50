"""The asyncio client against mosquitto."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from iotd import Client
from tests.clients.loops import run
from tests.clients.mosquitto import Mosquitto, needs_mosquitto

pytestmark = needs_mosquitto


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("is_websocket", [False, True])
def test_messages_go_through_mosquitto(
    mosquitto: Mosquitto, version: str, is_websocket: bool
) -> None:
    async def test() -> None:
        url = mosquitto.websocket_url if is_websocket else mosquitto.url
        async with Client(url, version=version) as client:  # type: ignore[arg-type]  # both are
            both = [await client.subscribe(each, qos=2) for each in ("a/#", "a/b")]
            seen: list[list[int]] = [[], []]

            async def read(which: int) -> None:
                while len(set(seen[which])) < 90:
                    seen[which].append(int((await both[which].get()).payload))

            async with asyncio.TaskGroup() as group:  # what one has not read holds the other up
                group.create_task(read(0))
                group.create_task(read(1))
                for n in range(90):
                    await client.publish("a/b", str(n), n % 3)
            for each in seen:
                if version == "5":  # in 3.1.1 a copy comes for each subscription, and nothing
                    assert len(each) == 90  # tells them apart
                for qos in range(3):
                    first = list(dict.fromkeys(n for n in each if n % 3 == qos))
                    assert first == sorted(first)
            assert client.counters.dropped_unread == 0

    run("asyncio", test)


def test_a_session_of_mosquitto_is_resumed(mosquitto: Mosquitto) -> None:
    async def test() -> None:
        async with Client(mosquitto.url, client_id="stay", session_expiry_s=60) as client:
            await client.subscribe("stay", qos=2)
        async with Client(mosquitto.url) as other:
            for n in range(10):
                await other.publish("stay", str(n), qos=2)
        async with Client(mosquitto.url, client_id="stay", session_expiry_s=60) as client:
            assert client.session_present
            messages = await client.subscribe("stay", qos=2)
            assert [int((await messages.get()).payload) for _ in range(10)] == list(range(10))

    run("asyncio", test)
