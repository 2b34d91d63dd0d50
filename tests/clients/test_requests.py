"""Requests and answers, and logging in by SCRAM, through real servers."""

from __future__ import annotations

import asyncio

import pytest

from adapters.security import PasswordHash, PasswordThread, ScramCredential, UserTable
from iotd import Client, ClientClosed, ConnectError, ConnectionRefused, ScramClient
from mqtt_core.broker import Limits
from tests.adapters.rig import RunningServer
from tests.clients.loops import LOOPS, run


def url_of(server: RunningServer) -> str:
    """Where a client connects."""
    host, port = server.address
    return f"mqtt://{host}:{port}"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("information", ["", "answers/here/"])
@pytest.mark.parametrize("manual_acks", [False, True])
def test_each_request_gets_its_answer(loop: str, information: str, manual_acks: bool) -> None:
    async def test() -> None:
        async with (
            Client(url_of(server), client_id="a/b+c", manual_acks=manual_acks) as asking,
            Client(url_of(server)) as answering,
        ):
            questions = await answering.subscribe("square", qos=1)

            async def answer() -> None:
                waiting = [await questions.get() for _ in range(20)]
                for message in reversed(waiting):
                    await answering.reply(message, str(int(message.text) ** 2))

            answers = asyncio.create_task(answer())
            squares = await asyncio.gather(*[asking.request("square", str(n)) for n in range(20)])
            assert [int(each.text) for each in squares] == [n * n for n in range(20)]
            topic = "answers/here/answers" if information else "iotd/response/a_b_c"
            assert squares[0].topic == topic
            await answers

    with RunningServer("asyncio", limits=Limits(response_information=information)) as server:
        run(loop, test)


def test_requests_without_an_answer_end() -> None:
    async def test() -> None:
        async with Client(url_of(server)) as client:
            with pytest.raises(TimeoutError):
                await client.request("nobody", timeout=0.05)
            messages = await client.subscribe("late")
            slow = asyncio.create_task(client.request("late", timeout=0.2))
            question = await messages.get()
            with pytest.raises(TimeoutError):
                await slow
            await client.reply(question, "too late")
            await client.publish("late", "x")
            plain = await messages.get()
            with pytest.raises(ValueError, match="no response topic"):
                await client.reply(plain, "x")
            waiting = asyncio.create_task(client.request("nobody"))
            while client.pending_messages or not client.in_flight:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(ClientClosed):
            await waiting
        async with Client(url_of(server), version="3.1.1") as client:
            with pytest.raises(ValueError, match=r"3\.1\.1 has no requests"):
                await client.request("x")

    with RunningServer("asyncio") as server:
        run("asyncio", test)


def test_scram_proves_both_sides() -> None:
    table = UserTable(
        {
            "ann": ScramCredential.make(b"right", iterations=4_096),
            "old": PasswordHash.make(b"x", log_cost=1),
        }
    )

    async def test() -> None:
        mechanism = ScramClient("ann", "right")
        async with Client(url_of(server), mechanism=mechanism) as client:
            await client.publish("t", "x", qos=1)
            await client.re_authenticate()
            await client.publish("t", "x", qos=1)
        assert repr(mechanism) == "ScramClient('ann')"
        with pytest.raises(ConnectionRefused):
            await Client(url_of(server), mechanism=ScramClient("ann", "wrong")).connect()
        async with Client(url_of(server), username="ann", password="right") as client:
            with pytest.raises(ValueError, match="cannot log in again"):
                await client.re_authenticate()

    faults: list[Exception] = []
    thread = PasswordThread(table, faults.append)
    with RunningServer("asyncio", policy=table, authenticator=thread.submit) as server:
        thread.start(server.server.auth_decided)
        run("asyncio", test)
    thread.stop()
    assert not faults


def test_a_server_that_is_not_trusted_is_left() -> None:
    mechanism = ScramClient("ann", "right")
    first = mechanism.begin().decode()
    nonce = first.rpartition("r=")[2]
    with pytest.raises(ValueError, match="more than 1,000,000 rounds"):
        mechanism.answer(f"r={nonce}x,s=AAAAAAAAAAAAAAAA,i=99999999".encode())
    with pytest.raises(ValueError, match="challenge of the server is not right"):
        mechanism.answer(b"r=other,s=AAAAAAAAAAAAAAAA,i=4096")
    with pytest.raises(ValueError, match="no SCRAM message"):
        mechanism.answer(b"\xff")
    mechanism.begin()
    with pytest.raises(ValueError, match="without a proof"):
        mechanism.finish(b"")
    with pytest.raises(ValueError, match="more challenges"):
        mechanism.answer(b"")
    nonce = mechanism.begin().decode().rpartition("r=")[2]
    mechanism.answer(f"r={nonce}x,s=AAAAAAAAAAAAAAAA,i=4096".encode())
    with pytest.raises(ValueError, match="could not prove"):
        mechanism.finish(b"v=AAAA")
    with pytest.raises(ValueError, match="does not take this name or password"):
        ScramClient("ann", "\u0007")
    assert issubclass(ConnectionRefused, ConnectError)
