"""The same stories against every broker: our own server, mosquitto, aedes.

A broker that cannot do a thing is not in the story's list: aedes has neither MQTT 5.0 nor shared
subscriptions, and it acknowledges a message before it gives it to subscribers, those of later too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from iotd import Client, Messages, Reconnect, Will
from tests.adapters.rig import RunningServer
from tests.clients.aedes import Aedes, needs_aedes
from tests.clients.loops import run
from tests.clients.mosquitto import Mosquitto, needs_mosquitto
from tests.clients.relay import Relay

QUICK = Reconnect(0.001, 0.01)
MOSQUITTO = [pytest.param(f"mosquitto {each}", marks=needs_mosquitto) for each in ("5", "3.1.1")]
BUT_AEDES = ["iotd 5", "iotd 3.1.1", *MOSQUITTO]

each_broker = pytest.mark.parametrize(
    "broker", [*BUT_AEDES, pytest.param("aedes 3.1.1", marks=needs_aedes)]
)


class Brokers:
    """Starts each broker when it is asked for."""

    def __init__(self, tmp_path_factory: pytest.TempPathFactory, stack: ExitStack) -> None:
        self._paths = tmp_path_factory
        self._stack = stack
        self._urls: dict[str, str] = {}

    def url(self, name: str) -> str:
        """Where it listens."""
        if name not in self._urls:
            self._urls[name] = self._start(name)
        return self._urls[name]

    def _start(self, name: str) -> str:
        if name == "mosquitto":
            return self._stack.enter_context(Mosquitto(self._paths.mktemp(name))).url
        if name == "aedes":
            return self._stack.enter_context(Aedes()).url
        host, port = self._stack.enter_context(RunningServer("asyncio")).address
        return f"mqtt://{host}:{port}"


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with ExitStack() as stack:
        yield Brokers(tmp_path_factory, stack)


class Peer:
    """One broker and one version of MQTT, as tests name them."""

    def __init__(self, brokers: Brokers, named: str) -> None:
        name, self.version = named.split()
        self.url = brokers.url(name)
        self.has_copies = self.version != "5"  # of a message for each subscription that it matches

    def client(
        self,
        client_id: str = "",
        *,
        url: str = "",
        session_expiry_s: int = 0,
        will: Will | None = None,
        reconnect: Reconnect = QUICK,
    ) -> Client:
        """A client of it."""
        return Client(
            url or self.url,
            client_id=client_id,
            version=self.version,  # type: ignore[arg-type]  # "5" or "3.1.1"
            session_expiry_s=session_expiry_s,
            will=will,
            reconnect=reconnect,
        )

    def relay(self) -> Relay:
        """A way to it that can be cut."""
        where = urlsplit(self.url)
        assert where.hostname is not None
        assert where.port is not None
        return Relay((where.hostname, where.port))


async def numbers(messages: Messages, count: int) -> list[int]:
    """What the next messages say."""
    return [int((await messages.get()).payload) for _ in range(count)]


@each_broker
def test_messages_reach_all_whom_they_match(brokers: Brokers, broker: str) -> None:
    peer = Peer(brokers, broker)

    async def test() -> None:
        async with peer.client() as client:
            both = [await client.subscribe(each, qos=2) for each in ("a/#", "a/b")]
            seen: list[list[int]] = [[], []]

            async def read(which: int) -> None:
                while len(set(seen[which])) < 90:
                    seen[which] += await numbers(both[which], 1)

            async with asyncio.TaskGroup() as group:  # what one has not read holds the other up
                group.create_task(read(0))
                group.create_task(read(1))
                for n in range(90):
                    await client.publish("a/b", str(n), n % 3)
            for each in seen:
                if not peer.has_copies:
                    assert len(each) == 90
                for qos in range(3):
                    first = list(dict.fromkeys(n for n in each if n % 3 == qos))
                    assert first == sorted(first)
            assert client.counters.dropped_unread == 0

    run("asyncio", test)


@pytest.mark.parametrize("broker", BUT_AEDES)
def test_retained_messages_and_no_more_after_unsubscribing(brokers: Brokers, broker: str) -> None:
    peer = Peer(brokers, broker)

    async def test() -> None:
        async with peer.client() as client:
            await client.publish("kept", "1", qos=1, retain=True)
            async with await client.subscribe("kept", qos=1) as messages:
                first = await messages.get()
                assert (first.text, first.retain) == ("1", True)
            await client.publish("kept", b"", qos=1, retain=True)
            again = await client.subscribe("kept", qos=1)
            await client.publish("kept", "2", qos=1)
            second = await again.get()
            assert (second.text, second.retain) == ("2", False)
            assert messages.unread == 0

    run("asyncio", test)


@each_broker
def test_a_large_message_and_odd_topics(brokers: Brokers, broker: str) -> None:
    peer = Peer(brokers, broker)

    async def test() -> None:
        async with peer.client() as client:
            messages = await client.subscribe("odd/#", qos=1)
            topics = ["odd/", "odd//", "odd/ b ", "odd/日本/🎉", "odd/\ufeff", "odd/a/b/c/d/e/f/g"]
            for topic in topics:
                await client.publish(topic, topic, qos=1)
            assert [(await messages.get()).topic for _ in topics] == topics
            payload = bytes(range(256)) * 2_000
            await client.publish("odd/large", payload, qos=1)
            assert (await messages.get()).payload == payload

    run("asyncio", test)


@each_broker
def test_the_will_of_who_is_gone(brokers: Brokers, broker: str) -> None:
    peer = Peer(brokers, broker)

    async def test() -> None:
        async with peer.client() as watcher, peer.relay() as relay:
            messages = await watcher.subscribe("wills", qos=1)
            will = Will("wills", "gone", 1)
            async with peer.client(url=relay.url, will=will, reconnect=Reconnect(60, 60)):
                relay.cut()
                assert (await messages.get()).text == "gone"

    run("asyncio", test)


@each_broker
def test_a_session_is_taken_up_again(brokers: Brokers, broker: str) -> None:
    peer = Peer(brokers, broker)
    client_id = f"stay-{peer.version}"

    async def test() -> None:
        async with peer.client(client_id, session_expiry_s=60) as client:
            await client.subscribe("stay", qos=2)
        async with peer.client() as other:
            for n in range(10):
                await other.publish("stay", str(n), qos=2)
        async with peer.client(client_id, session_expiry_s=60) as client:
            assert client.session_present
            messages = await client.subscribe("stay", qos=2)
            assert await numbers(messages, 10) == list(range(10))

    run("asyncio", test)


@each_broker
def test_a_connection_that_flaps_loses_and_doubles_nothing(brokers: Brokers, broker: str) -> None:
    peer = Peer(brokers, broker)

    async def test() -> None:
        async with (
            peer.relay() as relay,
            peer.client(f"flaps-{peer.version}", url=relay.url, session_expiry_s=60) as client,
        ):
            messages = await client.subscribe("flaps/+", qos=2)
            seen: dict[int, list[int]] = {1: [], 2: []}
            most = 120
            for n in range(most):
                client.publish_nowait(f"flaps/{1 + n % 2}", str(n), qos=1 + n % 2)
                if n % 10 == 9:
                    relay.cut()
                    while client.is_connected:
                        await asyncio.sleep(0)
                    await client.wait_connected()
                while (message := messages.get_nowait()) is not None:
                    seen[int(message.topic[-1])].append(int(message.payload))
            await client.flush()
            while len(set(seen[1])) + len(seen[2]) < most:
                message = await messages.get()
                seen[int(message.topic[-1])].append(int(message.payload))
            assert list(dict.fromkeys(seen[1])) == list(range(0, most, 2))
            assert seen[2] == list(range(1, most, 2))
            assert client.counters.lost_connections >= most // 10

    run("asyncio", test)


@pytest.mark.parametrize("broker", BUT_AEDES)
def test_a_shared_subscription_beside_one_of_ones_own(brokers: Brokers, broker: str) -> None:
    peer = Peer(brokers, broker)

    async def test() -> None:
        async with peer.client() as client, peer.client() as other:
            own = await client.subscribe("shared/t", qos=1)
            shares = [
                await each.subscribe("$share/group/shared/+", qos=1) for each in (client, other)
            ]
            for n in range(20):
                await other.publish("shared/t", str(n), qos=1)
            seen: list[int] = []
            mine: list[int] = []

            async def read() -> None:
                while len(set(mine)) < 20:
                    mine.extend(await numbers(own, 1))

            async def read_share(which: int) -> None:
                while True:
                    seen.extend(await numbers(shares[which], 1))

            sharing = [asyncio.create_task(read_share(which)) for which in range(2)]
            await read()
            while len(set(seen)) < 20:
                await asyncio.sleep(0)
            for task in sharing:
                task.cancel()
            await asyncio.wait(sharing)
            if not peer.has_copies:
                assert sorted(seen) == mine == list(range(20))

    run("asyncio", test)


@needs_aedes
def test_auto_falls_back_for_a_broker_without_5(brokers: Brokers) -> None:
    async def test() -> None:
        async with Client(brokers.url("aedes")) as client:
            assert client.version == "3.1.1"

    run("asyncio", test)


@needs_mosquitto
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_mosquitto_by_websocket(tmp_path_factory: pytest.TempPathFactory, version: str) -> None:
    async def test() -> None:
        async with Client(running.websocket_url, version=version) as client:  # type: ignore[arg-type]
            messages = await client.subscribe("t", qos=2)
            for n in range(9):
                await client.publish("t", str(n), n % 3)
            assert sorted(await numbers(messages, 9)) == list(range(9))

    with Mosquitto(tmp_path_factory.mktemp("websocket")) as running:
        run("asyncio", test)
