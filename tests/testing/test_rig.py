"""The rig: a broker, its clients and the network between them on a virtual clock."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from iotd import Client, ClientClosed, ConnectError, ConnectionRefused, Reconnect, Will
from iotd.testing import AsyncMqttRig, MqttRig, NotSeen, Stuck
from mqtt_core.broker import Limits

HOUR_S = 3_600


@pytest.fixture(name="rig")
def open_rig() -> Iterator[MqttRig]:
    with MqttRig() as rig:
        yield rig


# Time


def test_hours_pass_at_once_and_all_that_is_due_in_them_happens(rig: MqttRig) -> None:
    rig.client("dashboard", keep_alive_s=60)
    rig.advance(days=1, hours=1, minutes=1, seconds=1)
    assert rig.now == pytest.approx(86_400 + 3_600 + 60 + 1)
    assert rig.report().count("PINGREQ") == 20  # of the last packets


def test_time_does_not_go_back(rig: MqttRig) -> None:
    with pytest.raises(ValueError, match="time does not go back"):
        rig.advance(-1)


def test_time_stands_still_while_nothing_needs_any(rig: MqttRig) -> None:
    client = rig.client("sensor")
    client.publish("a", "1", qos=2)
    client.publish("a", "2")
    assert rig.now == 0
    assert [message.text for message in rig.messages("a")] == ["1", "2"]


def test_a_message_expires_in_its_time(rig: MqttRig) -> None:
    rig.client("sensor").publish("a", "old", qos=1, retain=True, expiry_s=60)
    rig.advance(seconds=59)
    assert rig.client("early").subscribe("a").get().text == "old"
    rig.advance(seconds=2)
    assert rig.client("late").subscribe("a").get_nowait() is None


def test_a_session_expires_in_its_time(rig: MqttRig) -> None:
    for away_s, is_present in ((HOUR_S - 1, True), (HOUR_S + 1, False)):
        client = rig.client("sensor", session_expiry_s=HOUR_S)
        client.close()
        rig.advance(away_s)
        again = rig.client("sensor", session_expiry_s=HOUR_S)
        assert again.session_present is is_present
        again.close()


def test_a_wait_that_is_in_vain_ends(rig: MqttRig) -> None:
    messages = rig.client("sensor").subscribe("a")
    with pytest.raises(TimeoutError):
        messages.get(timeout=10)
    assert rig.now == pytest.approx(10)


# What happens to connections


def test_a_will_is_published_when_the_link_is_cut(rig: MqttRig) -> None:
    sensor = rig.client("sensor", will=Will("state", "gone", qos=1, retain=True))
    sensor.cut()
    assert rig.expect("state", "gone", qos=1, retain=True).at_s == 0
    sensor.wait_connected()
    assert sensor.session_present


def test_a_delayed_will_waits_for_the_client_to_come_back(rig: MqttRig) -> None:
    sensor = rig.client("sensor", will=Will("state", "gone", delay_s=60))
    sensor.link.down()
    rig.expect_nothing("state", within=20)
    sensor.link.up()
    sensor.wait_connected()  # within 30 seconds
    rig.expect_nothing("state", within=100)


def test_a_goodbye_leaves_no_will(rig: MqttRig) -> None:
    rig.client("sensor", will=Will("state", "gone")).close()
    rig.expect_nothing("state", within=HOUR_S)


def test_a_half_open_connection_is_found_out_by_keep_alive(rig: MqttRig) -> None:
    sensor = rig.client("sensor", will=Will("state", "gone"), keep_alive_s=20)
    sensor.link.half_open()
    assert sensor.link.is_connected
    assert 30 <= rig.expect("state", within=40).at_s < 31  # 1.5 times the keep-alive
    rig.until(lambda: not sensor.link.is_connected)
    assert not sensor.is_connected


def test_silence_is_found_out_by_both_sides(rig: MqttRig) -> None:
    sensor = rig.client("sensor", will=Will("state", "gone"), keep_alive_s=20)
    sensor.link.silence()
    assert sensor.is_connected
    rig.until(lambda: not sensor.is_connected)
    sensor.wait_connected()
    rig.expect("state", within=40)


def test_what_is_published_while_the_link_is_down_comes_later(rig: MqttRig) -> None:
    sensor = rig.client("sensor")
    sensor.link.down()
    assert sensor.link.is_down
    rig.advance(0)
    assert not sensor.is_connected
    for number in range(3):
        sensor.publish_nowait("a", str(number), qos=1)
    rig.expect_nothing(within=300)
    sensor.link.up()
    sensor.flush()
    assert [rig.expect("a").text for _ in range(3)] == ["0", "1", "2"]


def test_qos_1_comes_at_least_once_and_qos_2_once_when_answers_are_lost(rig: MqttRig) -> None:
    sensor = rig.client("sensor")
    for qos in (1, 2):
        sensor.link.lose(to="client")
        publication = sensor.publish_nowait(f"qos/{qos}", "x", qos=qos)
        assert not publication.is_done
        sensor.cut()
        sensor.flush()
        assert publication.is_done
    assert len(rig.messages("qos/1")) == 2
    assert len(rig.messages("qos/2")) == 1


def test_a_client_that_does_not_come_back_ends(rig: MqttRig) -> None:
    sensor = rig.client("sensor", reconnect=None)
    sensor.cut()
    with pytest.raises(ClientClosed):
        sensor.publish("a")


def test_a_link_that_is_down_lets_nobody_in(rig: MqttRig) -> None:
    rig.link("sensor").down()
    with pytest.raises(ConnectError, match="the link 'sensor' is down"):
        rig.client("sensor")


# What happens to bytes


def test_bytes_take_their_time(rig: MqttRig) -> None:
    sensor = rig.client("sensor")
    sensor.link.delay(2.0)
    sensor.publish("a", qos=1)
    assert rig.now == pytest.approx(4)
    assert rig.expect("a").at_s == pytest.approx(2)
    sensor.link.delay(0.5, to="broker")
    sensor.link.delay(0, to="client")
    sensor.publish("a", qos=1)
    assert rig.now == pytest.approx(4.5)


def test_bytes_come_in_the_order_in_which_they_were_sent(rig: MqttRig) -> None:
    sensor = rig.client("sensor")
    sensor.link.delay(2.0)
    sensor.publish_nowait("a", "first")
    sensor.link.delay(0)
    sensor.publish_nowait("a", "second")
    assert [rig.expect("a", within=2).text for _ in range(2)] == ["first", "second"]


def test_a_packet_may_come_byte_by_byte(rig: MqttRig) -> None:
    sensor = rig.client("sensor")
    sensor.link.split(1)
    messages = sensor.subscribe("#", qos=2)
    sensor.publish("a", "x" * 300, qos=2)
    assert messages.get().text == "x" * 300


def test_bytes_that_come_twice_are_two_packets(rig: MqttRig) -> None:
    sensor = rig.client("sensor")
    sensor.link.duplicate()
    sensor.publish_nowait("a", "x")
    assert len(rig.messages("a")) == 2


def test_a_peer_that_takes_nothing_fills_the_pipe_and_no_more(rig: MqttRig) -> None:
    """Reading pauses at the client, writing at the broker, and goes on with both."""

    async def read_late() -> int:
        reader, writer = await asyncio.open_connection("raw", 1883, limit=1_000)
        writer.write(bytes.fromhex("101000044d5154540402000000047261772d"))  # CONNECT "raw-"
        writer.write(bytes.fromhex("820600010001 2300"))  # SUBSCRIBE "#"
        before = len(await reader.readexactly(9))
        for _ in range(40):
            await rig_publish()
        await asyncio.sleep(1)
        got = await reader.readexactly(40 * 10_008)
        writer.close()
        return before + len(got)

    async def rig_publish() -> None:
        await rig._world.server.publish("big", b"x" * 10_000)

    assert rig.run(read_late()) == 9 + 40 * 10_008


@pytest.mark.parametrize("method", ["delay", "split"])
def test_a_link_refuses_what_makes_no_sense(rig: MqttRig, method: str) -> None:
    with pytest.raises(ValueError, match="allowed are 0"):
        getattr(rig.link(), method)(-1)
    with pytest.raises(ValueError, match="allowed are 'both', 'broker' and 'client'"):
        getattr(rig.link(), method)(1, to="nowhere")


def test_a_link_shows_its_name(rig: MqttRig) -> None:
    link = rig.link("Sensor 1/ä")
    link.down()
    assert repr(link) == "Link('Sensor 1/ä', down)"
    link.up()
    assert rig.client("Sensor 1/ä").link is link


# Expectations


def test_what_was_expected_is_not_found_again(rig: MqttRig) -> None:
    sensor = rig.client("sensor")
    for number in range(3):
        sensor.publish("a", str(number))
    assert [rig.expect("a").text for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(NotSeen):
        rig.expect("a", within=1)


def test_a_message_is_expected_by_its_parts(rig: MqttRig) -> None:
    rig.publish("a/b", '{"t": 21.5}', qos=1, retain=True)
    rig.expect_nothing(within=1)
    for _ in range(4):
        rig.publish("a/b", '{"t": 21.5}', qos=1, retain=True)
    assert rig.expect("a/#", '{"t": 21.5}', qos=1, retain=True).json() == {"t": 21.5}
    rig.expect("+/b", b'{"t": 21.5}')
    rig.expect("a/b", re.compile(rb"21"))
    rig.expect(payload=lambda found: b"t" in found)
    for topic, payload, qos, retain in (
        ("a", None, None, None),
        ("a/#", "other", None, None),
        ("a/#", re.compile(rb"other"), None, None),
        ("a/#", None, 2, None),
        ("a/#", None, None, False),
    ):
        with pytest.raises(NotSeen):
            rig.expect(topic, payload, qos=qos, retain=retain)


def test_a_message_that_is_not_to_come_is_told(rig: MqttRig) -> None:
    async def later() -> None:
        await asyncio.sleep(10)
        async with Client(rig.url) as client:
            await client.publish("a", "x")

    rig.start(later())
    rig.expect_nothing("a", within=9)
    with pytest.raises(NotSeen, match="this message was not to come: 'a' QoS 0 'x'"):
        rig.expect_nothing("a", within=9)


def test_a_filter_that_is_none_is_refused(rig: MqttRig) -> None:
    with pytest.raises(ValueError, match="'a#' is no topic filter"):
        rig.expect("a#")


def test_the_failure_shows_what_was_seen(rig: MqttRig) -> None:
    sensor = rig.client("sensor", username="ali", password="secret", keep_alive_s=0)
    sensor.publish("site/1", bytes(range(256)), qos=1)
    rig.advance(5)
    sensor.cut()
    with pytest.raises(NotSeen) as caught:
        rig.expect("site/2", "x", qos=2, retain=True, within=3)
    text = str(caught.value)
    assert text.startswith(
        "no message with topic 'site/2', payload b'x', QoS 2, retain True within"
    )
    assert re.search(r"^ +0\.000 s  'site/1' QoS 1 '.*\.\.\. \(256 bytes\)$", text, re.MULTILINE)
    assert re.search(r"^ +0\.000 s  sensor > CONNECT MQTT 5\.0 'sensor'", text, re.MULTILINE)
    assert re.search(r"^ +5\.000 s  sensor - the link is cut$", text, re.MULTILINE)
    assert "secret" not in text


def test_the_failure_shows_the_last_of_much(rig: MqttRig) -> None:
    sensor = rig.client("sensor")
    for number in range(60):
        sensor.publish("a", str(number))
    text = rig.report()
    assert "(20 earlier messages are not shown)" in text
    assert "(22 earlier packets are not shown)" in text
    with MqttRig() as idle:
        assert "It is 0.000 s. The broker has routed:\n  nothing" in idle.report()


def test_something_else_is_waited_for(rig: MqttRig) -> None:
    async def device() -> None:
        await asyncio.sleep(20)
        seen.append("x")

    seen: list[str] = []
    rig.start(device())
    assert rig.until(lambda: seen, within=30) == ["x"]
    assert rig.now == pytest.approx(20)
    with pytest.raises(TimeoutError, match="it did not come about within 5 s"):
        rig.until(lambda: len(seen) > 1, within=5)


# The broker's options


def test_the_broker_is_told_who_may_come() -> None:
    with MqttRig(authenticate=lambda request: request.username == "ali") as rig:
        rig.client("one", username="ali")
        with pytest.raises(ConnectionRefused):
            rig.client("two", username="mallory")


def test_the_broker_has_limits() -> None:
    with MqttRig(limits=Limits(max_connections=2)) as rig:
        rig.client("one")
        with pytest.raises(ConnectionRefused):
            rig.client("two", reconnect=None)


def test_a_broker_that_remembers_nothing_says_that_nobody_has_subscribed() -> None:
    with MqttRig(records=False) as rig:
        assert rig.client("one").publish("a", qos=1).reason == 0x10
        assert rig.messages() == []
        with pytest.raises(RuntimeError, match="remembers no messages"):
            rig.expect("a")
        with pytest.raises(RuntimeError, match="remembers no messages"):
            rig.expect_nothing("a", within=1)


# Words of a client


def test_a_request_is_answered_by_code_that_runs_beside(rig: MqttRig) -> None:
    async def device() -> None:
        async with Client(rig.url) as client:
            async for question in await client.subscribe("ask"):
                await asyncio.sleep(2)
                await client.reply(question, question.text.upper())

    rig.start(device())
    rig.advance(0)
    assert rig.client("asker").request("ask", "hello").text == "HELLO"


def test_a_client_is_asked_what_it_is_like(rig: MqttRig) -> None:
    one, two = rig.client("one"), rig.client("two", version="3.1.1")
    assert (one.version, two.version) == ("5", "3.1.1")
    assert (one.client_id, one.counters.connections) == ("one", 1)
    messages = one.subscribe("a", "b", qos=2)
    assert messages.granted_qos == (2, 2)
    two.publish("a", "x")
    assert messages.unread == 1
    messages.unsubscribe()
    question = two.subscribe("ask")
    two.publish("ask", "x")
    with pytest.raises(ValueError, match="no response topic"):
        two.reply(question.get(), "y")


# The device's own code


def test_code_of_the_user_runs_on_the_virtual_clock(rig: MqttRig) -> None:
    async def device() -> None:
        async with Client(rig.url, client_id="thermometer") as client:
            while True:
                await client.publish("temperature", "21.5", qos=1)
                await asyncio.sleep(60)

    task = rig.start(device())
    rig.advance(hours=1)
    assert len(rig.messages("temperature")) == 61
    rig.link().down()
    rig.advance(minutes=10)
    rig.link().up()
    rig.expect("temperature", within=100)
    assert not task.done()


def test_a_device_that_fails_fails_the_test(rig: MqttRig) -> None:
    async def device() -> None:
        await asyncio.sleep(5)
        raise ZeroDivisionError("the device is broken")

    rig.start(device())
    rig.advance(4)
    with pytest.raises(ZeroDivisionError, match="the device is broken"):
        rig.advance(4)


def test_a_device_that_fails_last_fails_the_test_at_its_end() -> None:
    async def device() -> None:
        raise ZeroDivisionError("the device is broken")

    with pytest.raises(ZeroDivisionError, match="the device is broken"), MqttRig() as rig:
        rig.start(device())


def test_a_callback_that_fails_fails_the_test(rig: MqttRig) -> None:
    async def arm() -> None:
        asyncio.get_running_loop().call_later(5, lambda: 1 / 0)

    rig.run(arm())
    with pytest.raises(ZeroDivisionError):
        rig.advance(10)


def test_what_runs_has_a_result_and_a_limit(rig: MqttRig) -> None:
    assert rig.run(asyncio.sleep(HOUR_S, "done")) == "done"
    with pytest.raises(TimeoutError):
        rig.run(asyncio.sleep(HOUR_S), timeout=60)
    assert rig.now == pytest.approx(HOUR_S + 60)


def test_work_in_threads_takes_no_virtual_time(rig: MqttRig) -> None:
    async def work() -> float:
        async with asyncio.timeout(1):
            await asyncio.to_thread(sum, range(100_000))
        return rig.now

    assert rig.run(work()) == 0


def test_only_the_broker_is_there(rig: MqttRig) -> None:
    async def dial(*address: object, **options: object) -> None:
        await asyncio.get_running_loop().create_connection(  # type: ignore[call-overload]
            asyncio.Protocol, *address, **options
        )

    for address, options, why in (
        (("device", 80), {}, "its broker is on 1883"),
        (("device", 8883), {"ssl": True}, "no TLS"),
        ((), {}, "a host and a port"),
    ):
        with pytest.raises(OSError, match=why):
            rig.run(dial(*address, **options))


def test_a_rig_does_not_run_on_a_loop() -> None:
    async def main(rig: MqttRig) -> None:
        rig.advance(1)

    with MqttRig() as rig, pytest.raises(RuntimeError, match="cannot be used on a running loop"):
        asyncio.run(main(rig))


# Coroutines


def test_a_coroutine_has_the_same_words() -> None:
    async def test() -> str:
        loop = asyncio.get_running_loop()
        sensor = await rig.client("sensor", will=Will("state", "gone", qos=1), keep_alive_s=20)
        messages = await (await rig.client("dashboard")).subscribe("state", qos=1)
        await sensor.publish("a", "x")
        await rig.expect("a", "x", within=1)
        await rig.publish("b", "y", qos=1)
        assert [message.topic for message in rig.messages()] == ["a", "b"]
        with pytest.raises(NotSeen, match="no message with topic 'c'"):
            await rig.expect("c", within=5)
        await rig.expect_nothing("a", within=5)
        rig.link("sensor").half_open()
        with pytest.raises(NotSeen, match="was not to come"):
            await rig.expect_nothing("state", within=60)
        began = loop.time()
        await rig.advance(hours=1)
        assert loop.time() - began == HOUR_S
        assert await rig.until(lambda: messages.unread) == 1
        with pytest.raises(TimeoutError, match="did not come about"):
            await rig.until(lambda: False, within=5)
        return (await messages.get()).text

    rig = AsyncMqttRig()
    assert rig.run_test(test) == "gone"


def test_a_coroutine_on_another_loop_is_told() -> None:
    async def test() -> None:
        with pytest.raises(RuntimeError, match="on its own loop, and this is another one"):
            await rig.advance(1)

    rig = AsyncMqttRig()
    asyncio.run(test())
    rig.run_test(lambda: asyncio.sleep(0))


def test_a_wait_that_nothing_can_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("iotd.testing._loop.PATIENCE_S", 0.01)
    with pytest.raises(Stuck, match="will never come"):
        AsyncMqttRig().run_test(test)


def test_reconnecting_goes_by_the_virtual_clock(rig: MqttRig) -> None:
    sensor = rig.client("sensor", reconnect=Reconnect(1, HOUR_S))
    sensor.link.down()
    rig.advance(days=1)
    assert 8 <= sensor.counters.failed_attempts <= 80
