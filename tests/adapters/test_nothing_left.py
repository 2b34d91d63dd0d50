"""A server that has stopped has left nothing behind in its program."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from iotd import Server, ThreadedServer
from mqtt_core.broker import AuthRequest, Limits
from tests.adapters.rig import RUNTIMES, Client, address_of, connect, server_module

LIMITS = Limits(linger_timeout_secs=0.01)
"""Its clients do not go by themselves, and nobody waits for them for long."""


def held() -> set[object]:
    """Threads, and what the process has open, where that can be looked at."""
    gc.collect()
    folder = Path("/proc/self/fd")
    # A thread that `threading` has not started stays a dummy there, after its end too.
    threads = threading.enumerate()
    found: set[object] = {each for each in threads if not each.name.startswith("Dummy-")}
    if folder.exists():
        found |= {
            f"{each.name} {os.readlink(each)}" for each in folder.iterdir() if each.is_symlink()
        }
    return found


class Hook:
    """Lets everybody in, but for one about whom it never decides."""

    async def later(self, request: AuthRequest) -> bool:
        """For asyncio."""
        if request.client_id == "undecided":
            await asyncio.Event().wait()
        return True

    def in_greenlet(self, request: AuthRequest) -> bool:
        """For gevent."""
        if request.client_id == "undecided":
            importlib.import_module("gevent.event").Event().wait()
        return True


def visit(url: str) -> list[Client]:
    """Clients of every sort, which do not go by themselves."""
    clients = [Client(address_of(url)) for _ in range(3)]
    clients[0].open("subscriber").subscribe("#")
    clients[1].send(connect("undecided"))
    return clients


async def live(folder: Path) -> None:
    async with Server(data_dir=folder, limits=LIMITS, authenticate=Hook().later) as server:
        clients = await asyncio.to_thread(visit, server.url)
        messages = server.subscribe("a")
        await server.publish("a", b"x", qos=1)
        assert await messages.get() is not None
        server.subscribe("never taken")
    for client in clients:
        client.close()
    assert [each.payload async for each in messages] == []
    await asyncio.get_running_loop().shutdown_default_executor()  # that of this test
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_nothing_is_left_on_a_loop(runtime: str, tmp_path: Path) -> None:
    server_module(runtime)
    before = held()
    if runtime == "gevent":
        errors: list[BaseException] = []
        thread = threading.Thread(target=live_on_gevent, args=(tmp_path, errors))
        thread.start()
        thread.join()
        assert errors == []
    else:
        factory = None
        if runtime == "uvloop":
            factory = importlib.import_module("uvloop").new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(live(tmp_path))
    assert held() - before == set()


def live_on_gevent(folder: Path, errors: list[BaseException]) -> None:
    gevent: Any = importlib.import_module("gevent")
    module = server_module("gevent")
    hub = gevent.get_hub()
    try:
        gevent.sleep(0)
        watchers = hub.loop.activecnt
        with module.Server(
            data_dir=folder, limits=LIMITS, authenticate=Hook().in_greenlet
        ) as server:
            clients = hub.threadpool.apply(visit, (server.url,))
            messages = server.subscribe("a")
            server.publish("a", b"x", qos=1)
            assert messages.get() is not None
            server.subscribe("never taken")
        for client in clients:
            client.close()
        assert [each.payload for each in messages] == []
        hub.threadpool.kill()  # that of this test
        gevent.sleep(0)
        assert hub.loop.activecnt == watchers
    except BaseException as error:  # noqa: BLE001  told where the test can see it
        errors.append(error)
    finally:
        hub.destroy(destroy_loop=True)


def test_nothing_is_left_of_a_thread(tmp_path: Path) -> None:
    before = held()
    with ThreadedServer(data_dir=tmp_path, limits=LIMITS, authenticate=Hook().later) as server:
        clients = visit(server.url)
        messages = server.subscribe("a")
        server.publish("a", b"x", qos=1)
        assert messages.get() is not None
    for client in clients:
        client.close()
    assert list(messages) == []
    assert held() - before == set()


def test_cancelling_loses_nothing_and_leaves_nothing() -> None:
    async def run() -> None:
        async with Server() as server, server.subscribe("a", qos=1) as messages:
            waiting = asyncio.create_task(messages.get())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            publishing = asyncio.create_task(server.publish("a", b"x", qos=1))
            await asyncio.sleep(0)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            message = await messages.get()
            assert message is not None
            assert message.payload == b"x"

    asyncio.run(run())


def test_a_program_that_says_nothing_hears_nothing() -> None:
    script = """
        import socket
        from iotd import ThreadedServer

        with ThreadedServer() as server:
            host, _, port = server.url.removeprefix("tcp://").rpartition(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(bytes.fromhex("100d 0004 4d515454 04 02 0000 0001 61 e000"))
                while client.recv(100):
                    pass
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_asking_for_the_version_loads_no_loop() -> None:
    script = """
        import sys
        import iotd
        assert {"Server", "ThreadedServer"} <= set(dir(iotd))
        print(sorted({"asyncio", "gevent", "sqlite3", "adapters"} & set(sys.modules)))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert ran.stdout == "[]\n", ran.stderr
