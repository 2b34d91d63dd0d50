"""Requests and their answers on asyncio (4.10 of MQTT 5.0)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, final

from adapters.client_common import RequestTable, response_topic, subscriptions
from mqtt_core import MQTT_5
from mqtt_core.client import Consumer, Message

if TYPE_CHECKING:
    from adapters.asyncio_client._client import Client

_ANSWERS: Final = (1, False, False, 2)  # QoS 1, and never retained


@final
class Asked:
    """A request that waits for its answer."""

    __slots__ = ("correlation", "future")

    def __init__(self, correlation: bytes, future: asyncio.Future[Message]) -> None:
        self.correlation: Final = correlation
        self.future: Final = future


@final
class Requests:
    """The one subscription of a client to answers, and who waits for which.

    Whoever is woken hands out all answers that have come, so no task is needed for it.
    """

    __slots__ = ("_answers", "_client", "_table")

    def __init__(self, client: Client) -> None:
        self._client: Final = client
        self._answers: Consumer | None = None
        self._table: Final[RequestTable[asyncio.Future[Message]]] = RequestTable()

    async def subscription(self) -> Consumer:
        """The subscription, made by the first who asks. Raises `ValueError` in 3.1.1."""
        client = self._client
        core = client._core
        await client.wait_connected()
        if self._answers is None:
            if core.level != MQTT_5:
                raise ValueError(
                    "MQTT 3.1.1 has no requests: publish and subscribe to topics of your own"
                )
            topic = response_topic(core.response_information, core.client_id)
            self._answers = core.subscribe(subscriptions([topic], *_ANSWERS), client._drive.now())
            client._drive.wake()
        answers = self._answers
        while not answers.is_ready and answers.error is None:
            await client._drive.wait_for(answers)
        if answers.error is not None:
            self._answers = None
        return answers.result()

    def add(self) -> Asked:
        """Somebody asks. Raises `QueueFull`."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return Asked(self._table.add(future), future)

    def remove(self, asked: Asked) -> None:
        """Nobody waits any more."""
        self._table.remove(asked.correlation)

    async def answer(self, asked: Asked, answers: Consumer) -> Message:
        """Wait for the answer."""
        future = asked.future
        while not future.done():
            self._hand_out(answers)
            if not future.done():
                answers.result()
                await self._client._drive.wait_for(answers)
        return future.result()

    def _hand_out(self, answers: Consumer) -> None:
        message = self._client._take(answers)
        while message is not None:
            whose = self._table.answered(message)
            if whose is not None and not whose.done():
                whose.set_result(message)
            message.ack()
            message = self._client._take(answers)
