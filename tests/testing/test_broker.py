"""The broker of `mqtt_broker`: real sockets, and nothing left of it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from pathlib import Path

import pytest

from iotd import BlockingClient, Client, ConnectionRefused
from iotd.testing import (
    AsyncMqttClientFactory,
    MqttBroker,
    MqttClientFactory,
    NotSeen,
)
from mqtt_core.broker import AuthRequest, Limits


def test_a_client_connects_and_is_seen() -> None:
    with MqttBroker() as broker, BlockingClient(broker.url, client_id="sensor") as client:
        assert broker.url == f"mqtt://{broker.host}:{broker.port}"
        client.publish("a/b", "1", qos=1)
        client.publish("b", b"\xff", qos=2, retain=True)
        assert [message.topic for message in broker.messages()] == ["a/b", "b"]
        assert [message.text for message in broker.messages("a/#")] == ["1"]
        assert broker.expect("b", qos=2, retain=True).payload == b"\xff"
        assert broker.facts[0].name == "client.connected"
        assert broker.facts[0].client_id == "sensor"


def test_the_test_publishes_from_within() -> None:
    with MqttBroker() as broker, BlockingClient(broker.url) as client:
        messages = client.subscribe("a", qos=1)
        broker.publish("a", "hello", qos=1)
        assert messages.get(timeout=5).text == "hello"


def test_a_message_that_comes_later_is_waited_for() -> None:
    with MqttBroker() as broker, BlockingClient(broker.url) as client:
        late = threading.Timer(0.02, client.publish, ("a", "late"))
        late.start()
        assert broker.expect("a", within=20).text == "late"
        late.join()


def test_the_failure_shows_what_was_seen() -> None:
    with MqttBroker() as broker, BlockingClient(broker.url, client_id="sensor") as client:
        client.publish("site/1", "x", qos=1)
        with pytest.raises(NotSeen) as caught:
            broker.expect("site/2", within=0)
        text = str(caught.value)
        assert text.startswith("no message with topic 'site/2' within 0 s\nmqtt://127.0.0.1:")
        assert " s  'site/1' QoS 1 'x'\n" in text
        assert " s  client.connected sensor" in text


def test_options_go_to_the_broker() -> None:
    def may_connect(request: AuthRequest) -> bool:
        return request.username == "ali"

    with MqttBroker(authenticate=may_connect, records=False, limits=Limits()) as broker:
        with pytest.raises(ConnectionRefused), BlockingClient(broker.url):
            pass
        with BlockingClient(broker.url, username="ali") as client:
            assert client.publish("a", qos=1).reason == 0x10  # nobody has subscribed
        with pytest.raises(RuntimeError, match="remembers no messages"):
            broker.messages()
        with pytest.raises(RuntimeError, match="remembers no messages"):
            broker.expect()


def test_coroutines_wait_without_holding_up_their_loop() -> None:
    async def test(broker: MqttBroker) -> None:
        async with Client(broker.url) as client:
            expected = asyncio.create_task(broker.expect_async("a", within=20))
            await asyncio.sleep(0)
            await client.publish("a", "x")
            assert (await expected).text == "x"
            with pytest.raises(NotSeen):
                await broker.expect_async("b", within=0)

    with MqttBroker() as broker:
        asyncio.run(test(broker))


def test_clients_of_a_factory_are_closed_with_it() -> None:
    with MqttBroker() as broker:
        clients = MqttClientFactory(broker.url)
        one, two = clients("one"), clients(version="3.1.1")
        assert (one.client_id, two.version) == ("one", "3.1.1")
        clients.close()
        assert not one.is_connected
        assert not two.is_connected


def test_clients_of_coroutines_are_closed_on_their_loop() -> None:
    async def test() -> None:
        one = await clients("one")
        assert one.is_connected
        made.append(one)
        raise ZeroDivisionError

    made: list[Client] = []
    with MqttBroker() as broker:
        clients = AsyncMqttClientFactory(broker.url)
        with pytest.raises(ZeroDivisionError):
            asyncio.run(clients.around(test))
        assert not made[0].is_connected


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="platform: no /proc")
def test_nothing_is_left_of_it() -> None:
    def use() -> None:
        with MqttBroker() as broker:
            clients = MqttClientFactory(broker.url)
            clients("a").publish("a", "x", qos=1)
            clients.close()

    use()  # what is made once for all
    gc.collect()
    threads, descriptors = set(threading.enumerate()), _descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            use()
        gc.collect()
    assert set(threading.enumerate()) == threads
    assert _descriptors() == descriptors
