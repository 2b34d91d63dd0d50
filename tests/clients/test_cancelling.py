"""Cancelled at every step: nothing is lost by it, nothing is left, the client goes on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator

import pytest

from iotd import Client, ClientLimits, Messages
from tests.adapters.rig import RunningServer
from tests.clients.loops import LOOPS, run
from tests.clients.relay import Relay

STEPS = range(12)
"""How many turns of the loop something has before it is cancelled: more than any of it takes."""

each_loop = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with RunningServer("asyncio") as server:
        host, port = server.address
        yield f"mqtt://{host}:{port}"


async def turns(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled(awaitable: Awaitable[object], step: int, times: int = 1) -> object:
    """Cancel something at a step, and perhaps again; what it returned, None if it did not."""

    async def whole() -> object:
        return await awaitable

    task = asyncio.create_task(whole())
    await turns(1 + step)
    for _ in range(times):
        task.cancel()
        await turns(1)
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


@each_loop
def test_whatever_is_asked_can_be_cancelled(loop: str, url: str) -> None:
    async def test() -> None:
        async with Client(url, client_id=f"cancels-{loop}", session_expiry_s=60) as client:
            asked: list[Callable[[], Awaitable[object]]] = [
                lambda: client.publish("c", "none", 0),
                lambda: client.publish("c", "none", 1),
                lambda: client.publish("c", "none", 2),
                lambda: client.subscribe("c", "d/#", qos=2),
                lambda: client.request("nobody", timeout=None),
                lambda: client.flush(),
                lambda: client.wait_connected(),
                lambda: client.wait_closed(),
            ]
            for step in STEPS:
                for each in asked:
                    result = await cancelled(each(), step)
                    if isinstance(result, Messages):
                        await cancelled(result.unsubscribe(), step)
            await client.flush()
            messages = await client.subscribe("c", qos=2)
            for n in range(9):
                await client.publish("c", str(n), n % 3)
            assert sorted([int((await messages.get()).payload) for _ in range(9)]) == [*range(9)]
            assert (client.in_flight, client.pending_messages, messages.unread) == (0, 0, 0)

    run(loop, test)


@each_loop
def test_a_cancelled_get_loses_no_message(loop: str, url: str) -> None:
    async def test() -> None:
        async with Client(url) as client:
            messages = await client.subscribe("get", qos=1)
            got: list[int] = []

            async def take() -> None:
                got.append(int((await messages.get(timeout=0.001)).payload))

            async def publish() -> None:
                for n in range(150):
                    await client.publish("get", str(n), 1)

            publishing = asyncio.create_task(publish())
            step = 0
            while len(got) < 150:
                step += 1
                taking = [asyncio.create_task(take()) for _ in range(3)]
                await turns(step % 7)
                for each in taking[::2]:
                    each.cancel()
                await asyncio.wait(taking)
                await asyncio.gather(*taking, return_exceptions=True)
            await publishing
            assert sorted(got) == [*range(150)]

    run(loop, test)


@each_loop
@pytest.mark.parametrize("times", [1, 2, 3])
def test_connecting_and_closing_can_be_cancelled(loop: str, times: int, url: str) -> None:
    """However often: `run` sees that no task is left, warnings that no socket is."""

    async def test() -> None:
        for step in STEPS:
            client = Client(url)
            await cancelled(client.connect(), step, times)
            await client.close()
            client = Client(url)
            await client.connect()
            await client.subscribe("x", qos=2)
            client.publish_nowait("x", "1", 2)
            await cancelled(client.close(), step, times)
            await turns(3)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert not client.is_connected
        await turns(3)
        gc.collect()

    run(loop, test)


def test_an_exception_in_the_body_waits_for_nothing(url: str) -> None:
    async def test() -> None:
        async with Relay((url.split(":")[1][2:], int(url.split(":")[2]))) as relay:
            client = Client(relay.url, limits=ClientLimits(close_timeout_s=60.0))

            async def fail() -> None:
                async with client:
                    relay.is_silent = True
                    client.publish_nowait("t", "never acknowledged", 1)
                    raise KeyError

            with pytest.raises(KeyError):
                await fail()
            assert not client.is_connected

    run("asyncio", test)


def test_closing_in_the_midst_of_an_iteration(url: str) -> None:
    async def test() -> None:
        async with Client(url) as client:
            messages = await client.subscribe("t", qos=1)
            for n in range(3):
                await client.publish("t", str(n), 1)
            seen: list[str] = []
            async for message in messages:
                seen.append(message.text)
                await client.close()
            assert seen[0] == "0"
            assert seen == ["0", "1", "2"][: len(seen)]

    run("asyncio", test)
