"""What only the blocking client has: threads, signals, forks, gevent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from iotd import BlockingClient, ClientClosed, ClientLimits, ConnectError, Reconnect
from mqtt_core.client import Connected, Event, Lost
from tests.adapters.rig import RunningServer
from tests.clients.words import PATIENCE_S, Loop

_PROLOGUE = """
import sys, threading
from iotd import BlockingClient, ClientClosed, ConnectError
url = sys.argv[1]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer("asyncio") as running:
        yield running


def url_of(server: RunningServer) -> str:
    host, port = server.address
    return f"mqtt://{host}:{port}"


def start(program: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", program, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(program: str, url: str) -> str:
    """What a program prints that ends well."""
    started = start(program, url)
    out, err = started.communicate(timeout=PATIENCE_S)
    assert (started.returncode, err) == (0, "")
    return out


def test_waiting_ends_in_time(server: RunningServer) -> None:
    limits = ClientLimits(close_timeout_s=0.0)
    with (
        Loop() as loop,
        loop.relay(server.address) as relay,
        BlockingClient(relay.url, limits=limits) as client,
    ):
        messages = client.subscribe("t")
        relay.is_silent = True
        with pytest.raises(TimeoutError):
            messages.get(timeout=0.01)
        with pytest.raises(TimeoutError):
            client.publish("t", qos=1, timeout=0.01)
        with pytest.raises(TimeoutError):
            client.subscribe("u", timeout=0.01)
        with pytest.raises(TimeoutError):
            client.flush(timeout=0.01)
        with pytest.raises(TimeoutError):
            client.wait(client.publish_nowait("t", qos=1), timeout=0.01)
        with pytest.raises(TimeoutError):
            client.wait_closed(timeout=0.01)
        client.wait_connected(timeout=0.01)


def test_a_late_message_is_taken_back_if_it_has_not_been_sent(server: RunningServer) -> None:
    with (
        Loop() as loop,
        loop.relay(server.address) as relay,
        BlockingClient(relay.url, reconnect=Reconnect(60, 60)) as client,
    ):
        loop.call(relay.cut)
        while client.is_connected:
            pass
        for qos in (0, 1):
            with pytest.raises(TimeoutError):
                client.publish("t", qos=qos, timeout=0.01)
        assert client.pending_messages == 0


def test_closing_ends_an_attempt_to_connect(server: RunningServer) -> None:
    with Loop() as loop, loop.relay(server.address) as relay, ThreadPoolExecutor(1) as pool:
        relay.is_silent = True
        client = BlockingClient(relay.url)
        connecting = pool.submit(client.connect)
        while not relay.connections:
            pass
        client.close()
        assert isinstance(connecting.exception(PATIENCE_S), ClientClosed)


def test_on_state_may_publish_but_not_wait(server: RunningServer) -> None:
    raised: list[BaseException] = []

    def on_state(event: Event) -> None:
        if isinstance(event, Connected):
            client.publish_nowait("t", "connected")
            try:
                client.publish("t", qos=1)
            except RuntimeError as error:
                raised.append(error)

    with BlockingClient(url_of(server)) as other:
        messages = other.subscribe("t")
        client = BlockingClient(url_of(server), on_state=on_state)
        with client:
            assert messages.get(PATIENCE_S).text == "connected"
    assert "must not wait" in str(raised[0])


def test_on_state_may_close(server: RunningServer) -> None:
    def on_state(event: Event) -> None:
        if isinstance(event, Connected):
            client.close()

    client = BlockingClient(url_of(server), on_state=on_state)
    try:
        client.connect()
    except ClientClosed:
        pass  # it was closed before this thread has seen it
    client.wait_closed()
    with pytest.raises(ClientClosed):
        client.publish("t", qos=1)
    client.close()


def test_a_fault_of_the_program_ends_the_client(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: faults.append(args.exc_value))

    def on_state(event: Event) -> None:
        if isinstance(event, Lost):
            raise RuntimeError("a fault in on_state")

    with (
        Loop() as loop,
        loop.relay(server.address) as relay,
        BlockingClient(relay.url, on_state=on_state) as client,
    ):
        loop.call(relay.cut)
        client.wait_closed()
        with pytest.raises(ClientClosed) as raised:
            client.wait_connected()
    assert [raised.value.__cause__] == faults


@pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: no fork")
def test_a_forked_process_has_no_client_and_the_parent_keeps_its_own(server: RunningServer) -> None:
    program = _PROLOGUE + (
        """
import os
with BlockingClient(url) as client:
    messages = client.subscribe("t")
    unsent = client.publish_nowait("u", qos=1)
    child = os.fork()
    if not child:
        for use in (
            lambda: client.publish("t"), messages.get, lambda: client.subscribe("t"),
            client.wait_connected, client.connect,
        ):
            try:
                use()
            except ClientClosed:
                pass
            else:
                os._exit(1)
        client.close()
        with BlockingClient(url) as another:
            another.publish("t", "from the child", qos=1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(messages.get(timeout=20).text)
    client.publish("t", "from the parent", qos=1)
    print(messages.get(timeout=20).text)
"""
    )
    assert output_of(program, url_of(server)).splitlines() == ["from the child", "from the parent"]


@pytest.mark.skipif(os.name != "posix", reason="platform: no SIGINT to send")
@pytest.mark.parametrize(
    "waiting",
    [
        "for message in client.subscribe('nothing'): pass",
        "while True: client.publish('t', 'x')",
        "while True: client.publish('t', 'x', qos=1)",
        "threading.Event().wait()",
    ],
)
def test_ctrl_c_leaves_cleanly(server: RunningServer, waiting: str) -> None:
    program = _PROLOGUE + (
        f"""
try:
    with BlockingClient(url) as client:
        print("ready", flush=True)
        {waiting}
except KeyboardInterrupt:
    print([each.name for each in threading.enumerate()])
"""
    )
    started = start(program, url_of(server))
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=PATIENCE_S)
    assert (started.returncode, out, err) == (0, "['MainThread']\n", "")


def test_under_gevent_threads_are_greenlets(server: RunningServer) -> None:
    pytest.importorskip("gevent")
    program = (
        "from gevent import monkey; monkey.patch_all()\n"
        + _PROLOGUE
        + """
import gevent, socket
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0)
with BlockingClient(url) as client, BlockingClient(url) as other:
    messages = client.subscribe("t/#", qos=2)
    ticking = gevent.spawn(tick)
    publishing = [
        gevent.spawn(lambda n=n: [other.publish(f"t/{n}", str(i), qos=n % 3) for i in range(50)])
        for n in range(6)
    ]
    got = {}
    for _ in range(300):
        message = messages.get(timeout=20)
        got.setdefault(message.topic, []).append(int(message.payload))
    gevent.joinall(publishing, raise_error=True)
    assert all(each == list(range(50)) for each in got.values())
    print(len(got), ticks > 10)
    try:
        messages.get(timeout=0.01)
    except TimeoutError:
        print("in time")
    for _ in range(2000):  # more than a socket takes
        other.publish("flood", bytes(1000))
    other.flush()
with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    try:
        BlockingClient(f"mqtt://127.0.0.1:{taken.getsockname()[1]}").connect()
    except ConnectError as error:
        print(error)
import threading
print(threading.active_count())
"""
    )
    lines = output_of(program, url_of(server)).splitlines()
    assert lines[:2] == ["6 True", "in time"]
    assert "nothing listens there" in lines[2]
    assert lines[3:] == ["1"]


def test_threads_that_find_no_server_are_told(server: RunningServer) -> None:
    client = BlockingClient("mqtt://127.0.0.1:9")
    with pytest.raises(ConnectError):
        client.connect()
    with pytest.raises(ClientClosed):
        client.publish("t")


def test_importing_it_is_light() -> None:
    program = (
        "import sys; from iotd import BlockingClient;"
        "print(*{'asyncio', 'websockets', 'scramp', 'typer', 'concurrent'} & set(sys.modules))"
    )
    assert output_of(program, "").strip() == ""
