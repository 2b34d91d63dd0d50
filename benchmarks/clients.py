"""How fast clients are: iotd's, paho-mqtt, aiomqtt and gmqtt on one broker, in one paired run.

    pip install paho-mqtt aiomqtt gmqtt        # those that are missing are left out
    .venv/bin/python benchmarks/clients.py      # the table: medians, and ratios to the best other
    .venv/bin/python benchmarks/clients.py --rounds 3 --only q0-publish

The broker is iotd as it is installed, in a process of its own. Each measurement is a process of
its own as well, and the clients take turns, so that whatever else the machine does meets all of
them. Payloads have 64 bytes; clients speak MQTT 5.0, on asyncio's own loop unless a name says
otherwise; paho-mqtt and iotd-blocking have a thread of their own. The scenarios:

- q0-publish: messages a second at QoS 0, until the server has all of them,
- q1-publish, q2-publish: the same at QoS 1 and 2 with 100 unacknowledged at most,
- receive: messages a second that the program gets at QoS 0, from a publisher that is never late,
- round-trip: one message at a time at QoS 1, to itself.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

PAYLOAD: Final = bytes(64)
TOPIC: Final = "bench/clients"
WINDOW: Final = 100
COUNTS: Final = {
    "q0-publish": 100_000,
    "q1-publish": 20_000,
    "q2-publish": 10_000,
    "receive": 100_000,
    "round-trip": 2_000,
}
SLOWER: Final = 4  # clients other than ours do so much less, for a run that ends
CLIENTS: Final = ("iotd", "iotd-uvloop", "iotd-blocking", "paho-mqtt", "aiomqtt", "gmqtt")
LIMITS: Final = {
    "max_inflight_messages": WINDOW,
    "max_pending_messages": 10_000_000,
    "max_pending_bytes": 1 << 34,
    "max_unread_messages": 10_000_000,
    "max_unread_bytes": 1 << 34,
}
_MODULES: Final = {"paho-mqtt": "paho", "aiomqtt": "aiomqtt", "gmqtt": "gmqtt"}
_CONFIGURATION: Final = """
[server]
listen_addresses = ["tcp://127.0.0.1:{port}"]
[session]
max_queued_messages = 1000000
max_queued_bytes = 1073741824
total_queued_bytes = 2147483648
"""


# The far end of `receive`


def flood(port: int, count: int) -> None:
    """Publish `count` messages as fast as the broker takes them, from bytes made before."""
    topic = TOPIC.encode()
    body = len(topic).to_bytes(2, "big") + topic + PAYLOAD
    packet = bytes([0x30, len(body)]) + body
    connect = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05flood"
    with socket.create_connection(("127.0.0.1", port)) as sending:
        sending.sendall(connect)
        sending.recv(4)
        for start in range(0, count, 1_000):
            sending.sendall(packet * min(1_000, count - start))
        sending.sendall(b"\xe0\x00")
        sending.recv(1)


def start_flood(port: int, count: int) -> subprocess.Popen[bytes]:
    """The same in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, "--flood", f"{port}:{count}"])


# Ours


async def iotd_client(port: int, scenario: str, count: int) -> float:
    """Seconds of iotd's client."""
    from iotd import Client, ClientLimits

    limits = ClientLimits(**LIMITS)
    async with Client(f"mqtt://127.0.0.1:{port}", version=5, limits=limits) as client:
        if scenario == "q0-publish":
            began = time.perf_counter()
            for _ in range(count):
                await client.publish(TOPIC, PAYLOAD)
            await client.publish(TOPIC, PAYLOAD, qos=1)
            return time.perf_counter() - began
        if scenario in ("q1-publish", "q2-publish"):
            qos = int(scenario[1])
            began = time.perf_counter()
            for _ in range(count):
                client.publish_nowait(TOPIC, PAYLOAD, qos)
            await client.flush()
            return time.perf_counter() - began
        messages = await client.subscribe(TOPIC, qos=1)
        if scenario == "round-trip":
            began = time.perf_counter()
            for _ in range(count):
                await client.publish(TOPIC, PAYLOAD, qos=1)
                await messages.get()
            return time.perf_counter() - began
        publisher = start_flood(port, count)
        await messages.get()
        began = time.perf_counter()
        got = 1
        async for _ in messages:
            got += 1
            if got == count:
                break
        took = time.perf_counter() - began
        publisher.wait()
        return took


def blocking_client(port: int, scenario: str, count: int) -> float:
    """Seconds of iotd's client without asyncio."""
    from iotd import BlockingClient, ClientLimits

    limits = ClientLimits(**LIMITS)
    with BlockingClient(f"mqtt://127.0.0.1:{port}", version=5, limits=limits) as client:
        if scenario == "q0-publish":
            began = time.perf_counter()
            for _ in range(count):
                client.publish(TOPIC, PAYLOAD)
            client.publish(TOPIC, PAYLOAD, qos=1)
            return time.perf_counter() - began
        if scenario in ("q1-publish", "q2-publish"):
            qos = int(scenario[1])
            began = time.perf_counter()
            for _ in range(count):
                client.publish_nowait(TOPIC, PAYLOAD, qos)
            client.flush()
            return time.perf_counter() - began
        messages = client.subscribe(TOPIC, qos=1)
        if scenario == "round-trip":
            began = time.perf_counter()
            for _ in range(count):
                client.publish(TOPIC, PAYLOAD, qos=1)
                messages.get()
            return time.perf_counter() - began
        publisher = start_flood(port, count)
        messages.get()
        began = time.perf_counter()
        for got, _ in enumerate(messages, 2):
            if got == count:
                break
        took = time.perf_counter() - began
        publisher.wait()
        return took


# The others


def paho(port: int, scenario: str, count: int) -> float:
    """Seconds of paho-mqtt, with its own thread."""
    paho_client: Any = importlib.import_module("paho.mqtt.client")

    client = paho_client.Client(
        paho_client.CallbackAPIVersion.VERSION2, protocol=paho_client.MQTTv5
    )
    client.max_inflight_messages_set(WINDOW)
    client.max_queued_messages_set(0)
    arrived, subscribed, connected = (threading.Semaphore(0) for _ in range(3))
    got = 0
    done = threading.Event()

    def on_message(*_: object) -> None:
        nonlocal got
        got += 1
        if scenario == "round-trip" or got == 1:
            arrived.release()
        elif got == count:
            done.set()

    client.on_message = on_message
    client.on_connect = lambda *_: connected.release()
    client.on_subscribe = lambda *_: subscribed.release()
    client.connect("127.0.0.1", port)
    client.loop_start()
    connected.acquire()
    if scenario.endswith("publish"):
        qos = int(scenario[1])
        began = time.perf_counter()
        last: Any = None
        for _ in range(count):
            last = client.publish(TOPIC, PAYLOAD, qos)
        if qos == 0:
            last = client.publish(TOPIC, PAYLOAD, 1)
        last.wait_for_publish()
        took = time.perf_counter() - began
    else:
        client.subscribe(TOPIC, qos=1)
        subscribed.acquire()
        if scenario == "round-trip":
            began = time.perf_counter()
            for _ in range(count):
                client.publish(TOPIC, PAYLOAD, 1)
                arrived.acquire()
        else:
            publisher = start_flood(port, count)
            arrived.acquire()
            began = time.perf_counter()
            done.wait()
            publisher.wait()
        took = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    return took


async def windowed(publish: Callable[[], Awaitable[object]], count: int) -> None:
    """`count` calls, of which `WINDOW` are under way at a time."""
    left = count

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await publish()

    await asyncio.gather(*[work() for _ in range(WINDOW)])


async def aiomqtt_client(port: int, scenario: str, count: int) -> float:
    """Seconds of aiomqtt."""
    aiomqtt: Any = importlib.import_module("aiomqtt")

    async with aiomqtt.Client(
        "127.0.0.1",
        port,
        protocol=aiomqtt.ProtocolVersion.V5,
        max_inflight_messages=WINDOW,
        max_queued_outgoing_messages=0,
    ) as client:
        if scenario.endswith("publish"):
            qos = int(scenario[1])
            began = time.perf_counter()
            if qos == 0:
                for _ in range(count):
                    await client.publish(TOPIC, PAYLOAD, 0)
                await client.publish(TOPIC, PAYLOAD, 1)
            else:
                await windowed(lambda: client.publish(TOPIC, PAYLOAD, qos), count)
            return time.perf_counter() - began
        await client.subscribe(TOPIC, qos=1)
        messages = aiter(client.messages)
        if scenario == "round-trip":
            began = time.perf_counter()
            for _ in range(count):
                await client.publish(TOPIC, PAYLOAD, 1)
                await anext(messages)
            return time.perf_counter() - began
        publisher = start_flood(port, count)
        await anext(messages)
        began = time.perf_counter()
        for _ in range(count - 1):
            await anext(messages)
        took = time.perf_counter() - began
        publisher.wait()
        return took


async def gmqtt_client(port: int, scenario: str, count: int) -> float:
    """Seconds of gmqtt."""
    gmqtt: Any = importlib.import_module("gmqtt")

    client = gmqtt.Client("gmqtt-bench")
    loop = asyncio.get_running_loop()
    window = asyncio.Semaphore(WINDOW)
    first, all_of_them, subscribed = (loop.create_future() for _ in range(3))
    arrived: asyncio.Queue[None] = asyncio.Queue()
    got = 0

    async def on_message(*_: object) -> int:
        nonlocal got
        got += 1
        if scenario == "round-trip":
            arrived.put_nowait(None)
        elif got == 1:
            first.set_result(None)
        elif got == count:
            all_of_them.set_result(None)
        return 0

    client.on_message = on_message
    client.on_subscribe = lambda *_, **__: subscribed.set_result(None)
    await client.connect("127.0.0.1", port)

    storage = client._persistent_storage  # it has no window of its own
    forget = storage.remove_message_by_mid

    def acknowledged(mid: int) -> None:
        forget(mid)
        window.release()

    storage.remove_message_by_mid = acknowledged
    try:
        if scenario.endswith("publish"):
            qos = int(scenario[1])
            began = time.perf_counter()
            for n in range(count):
                if qos:
                    await window.acquire()
                client.publish(TOPIC, PAYLOAD, qos=qos)
                if n % 100 == 99:
                    await asyncio.sleep(0)  # it has no other way to let its bytes out
            if qos == 0:
                client.publish(TOPIC, PAYLOAD, qos=1)
            await storage.wait_empty()
            return time.perf_counter() - began
        client.subscribe(TOPIC, qos=1)
        await subscribed
        if scenario == "round-trip":
            began = time.perf_counter()
            for _ in range(count):
                client.publish(TOPIC, PAYLOAD, qos=1)
                await arrived.get()
            return time.perf_counter() - began
        publisher = start_flood(port, count)
        await first
        began = time.perf_counter()
        await all_of_them
        took = time.perf_counter() - began
        publisher.wait()
        return took
    finally:
        await client.disconnect()


def measure(client: str, port: int, scenario: str, count: int) -> float:
    """Seconds that one client takes over one scenario."""
    if client == "paho-mqtt":
        return paho(port, scenario, count)
    if client == "iotd-blocking":
        return blocking_client(port, scenario, count)
    programs = {"aiomqtt": aiomqtt_client, "gmqtt": gmqtt_client}
    program = programs.get(client, iotd_client)
    factory = None
    if client == "iotd-uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(program(port, scenario, count))


# The run


def start_broker(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """iotd on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    configuration = folder / "iotd.toml"
    configuration.write_text(_CONFIGURATION.format(port=port))
    broker = subprocess.Popen(
        [sys.executable, "-m", "iotd", "serve", "--in-memory", "--config", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return broker, port
        except OSError:
            time.sleep(0.02)
    broker.kill()
    raise SystemExit("the broker did not start: run `iotd serve` to see why")


def one(client: str, port: int, scenario: str, count: int) -> float:
    """Messages a second of one measurement in a process of its own; 0 if it fails."""
    command = [sys.executable, __file__, "--measure"]
    command.append(f"{client}:{port}:{scenario}:{count}")
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return count / float(result.stdout)
    except (ValueError, subprocess.TimeoutExpired):
        return 0.0


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the messages, for a short run")
    parser.add_argument("--only", nargs="*", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--clients", nargs="*", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--flood", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        port, count = options.flood.split(":")
        flood(int(port), int(count))
        return 0
    if options.measure:
        client, port, scenario, count = options.measure.split(":")
        print(measure(client, int(port), scenario, int(count)))
        return 0
    clients = [
        each
        for each in options.clients
        if each not in _MODULES or importlib.util.find_spec(_MODULES[each]) is not None
    ]
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        broker, port = start_broker(Path(folder))
        try:
            for scenario in options.only:
                rates = results.setdefault(scenario, {each: [] for each in clients})
                for _ in range(options.rounds):
                    for client in clients:
                        slower = 1 if client.startswith("iotd") else SLOWER
                        count = max(10, int(COUNTS[scenario] * options.share) // slower)
                        rates[client].append(one(client, port, scenario, count))
        finally:
            broker.terminate()
            broker.wait()
    print(f"{'':12}" + "".join(f"{each:>14}" for each in clients) + f"{'ours/best':>12}")
    for scenario, rates in results.items():
        medians = {client: statistics.median(each) for client, each in rates.items()}
        others = max((medians[each] for each in clients if each in _MODULES), default=0.0)
        ratio = f"{medians.get('iotd', 0.0) / others:.1f}" if others else "-"
        row = "".join(f"{medians[each]:>14,.0f}" for each in clients)
        print(f"{scenario:12}{row}{ratio:>12}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
