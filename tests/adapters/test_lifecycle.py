"""Start, stop, what cannot be listened on, and faults that stay where they happened."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from adapters.transport import ListenError
from mqtt_core.broker import GRACEFUL, IMMEDIATE, AuthRequest, Decision, Fact
from tests.adapters.rig import Client, RunningServer, connect, publish, server_module


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("127.0.0.1:1883", "tcp://127.0.0.1:1883"),
        ("mqtt://127.0.0.1:1883", "allowed: tcp://"),
        ("tcp://:1883", "0.0.0.0"),
        ("tcp://*:1883", "0.0.0.0"),
        ("tcp://127.0.0.1:70000", "HOST:PORT"),
        ("tcp://::1:1883", "[HOST]"),
        ("tcp://127.0.0.1:1883/path", "only a host and a port"),
        ("tcp://user@127.0.0.1", "only a host and a port"),
        ("tcp://no-such-host.invalid:1883", "not known"),
        ("tcp://203.0.113.1:1883", "not an address of this machine"),
    ],
)
def test_a_url_that_cannot_be_listened_on_says_what_to_do(
    runtime: str, url: str, advice: str
) -> None:
    with pytest.raises(ListenError) as caught, RunningServer(runtime, [url]):
        pass
    assert advice in str(caught.value)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_listen_on(runtime: str) -> None:
    with pytest.raises(ListenError, match="give a URL"), RunningServer(runtime, []):
        pass


def test_a_port_in_use(runtime: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        url = f"tcp://127.0.0.1:{port}"
        with (
            pytest.raises(ListenError, match=f"port {port} is in use"),
            RunningServer(runtime, ["tcp://127.0.0.1:0", url]),
        ):
            pass
    with RunningServer(runtime, [url]) as server, Client(server.address).open("client") as client:
        client.ping()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="platform: no privileged ports")
def test_a_privileged_port() -> None:
    """In a process that has given up its privileges, where it had any."""
    script = """
        import os
        from adapters.transport import ListenError, bind_listeners
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            bind_listeners(["tcp://127.0.0.1:1"])
        except ListenError as error:
            print(error)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert "port 1 needs privileges; choose a port from 1024 up" in ran.stdout, ran.stderr


def test_an_immediate_stop_closes_every_connection(runtime: str) -> None:
    with RunningServer(runtime) as server, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(Client(server.address)).open(f"client-{number}")
            for number in range(20)
        ]
        silent = stack.enter_context(Client(server.address))
        server.stop(IMMEDIATE)
        for client in [*clients, silent]:
            with contextlib.suppress(ConnectionResetError):
                assert client.is_at_end()
        with pytest.raises(ConnectionRefusedError):
            Client(server.address)


def test_a_graceful_stop_sends_what_is_left(runtime: str) -> None:
    with (
        RunningServer(runtime) as server,
        Client(server.address).open("subscriber").subscribe("t") as subscriber,
        Client(server.address).open("publisher") as publisher,
    ):
        publisher.send(publish("t", b"last"), b"\xc0\x00")
        assert publisher.receive(2) == b"\xd0\x00"
        server.stop(GRACEFUL)
        assert subscriber.receive_packet() == publish("t", b"last")
        assert subscriber.is_at_end()
        assert publisher.is_at_end()


def test_a_stop_with_nobody_there(runtime: str) -> None:
    for mode in (GRACEFUL, IMMEDIATE):
        with RunningServer(runtime) as server:
            server.stop(mode)


@pytest.fixture
def nothing_frozen() -> Iterator[None]:
    """What the tests have frozen themselves is not, for a while."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("nothing_frozen")
def test_the_collector_is_tuned_while_a_server_runs_and_put_back_afterwards(runtime: str) -> None:
    before = gc.get_threshold()
    with RunningServer(runtime, tunes_collector=True) as one:
        assert gc.get_threshold()[0] == 10_000
        assert gc.get_freeze_count() > 0
        with RunningServer(runtime, tunes_collector=True):
            pass
        assert gc.get_threshold()[0] == 10_000
        assert gc.get_freeze_count() > 0
        one.stop()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("nothing_frozen")
def test_the_collector_of_a_program_is_left_alone_unless_it_is_asked_for(runtime: str) -> None:
    before = gc.get_threshold()
    with RunningServer(runtime):
        assert gc.get_threshold() == before
        assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("nothing_frozen")
def test_what_a_program_has_frozen_itself_stays_frozen(runtime: str) -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with RunningServer(runtime, tunes_collector=True):
        assert 0 < gc.get_freeze_count() <= frozen
    assert 0 < gc.get_freeze_count() <= frozen


def test_facts_that_cannot_be_logged_hurt_nobody(
    runtime: str, caplog: pytest.LogCaptureFixture
) -> None:
    def on_fact(fact: Fact) -> None:
        raise RuntimeError("disk full")

    with RunningServer(runtime, on_fact=on_fact) as server:
        with Client(server.address).open("one") as client:
            client.ping()
        with Client(server.address).open("two") as client:
            client.ping()
    assert "disk full" in caplog.text


class FaultyPolicy:
    """Fails for one client id."""

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Accept, or fail."""
        if request.client_id == "faulty":
            raise RuntimeError("the policy is broken")
        return Decision()

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """Allow."""
        return 1


def test_a_fault_ends_its_own_connection_only(runtime: str) -> None:
    with (
        RunningServer(runtime, policy=FaultyPolicy()) as server,
        Client(server.address).open("other") as other,
        Client(server.address) as faulty,
    ):
        faulty.send(connect("faulty"))
        assert faulty.is_at_end()
        assert "the policy is broken" in repr(server.next_fact("client.refused").error)
        other.ping()


def test_a_server_starts_once() -> None:
    import asyncio

    module = server_module("asyncio")

    async def main() -> None:
        server = module.Server(["tcp://127.0.0.1:0"])
        assert server.addresses == []
        await server.shut_down(GRACEFUL)  # before the start: nothing to do
        async with server:
            assert server.addresses[0].startswith("tcp://127.0.0.1:")
            with pytest.raises(RuntimeError, match="starts once"):
                await server.start()
        await server.shut_down(GRACEFUL)  # after the stop: nothing to do
        await server.serve_forever()

    asyncio.run(main())
