"""What a subscription gives: messages, one after the other."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

from adapters.client_common import SubscriptionStatus
from mqtt_core.client import ClientClosed, Consumer, Message

if TYPE_CHECKING:
    from adapters.asyncio_client._client import Client


@final
class Messages(SubscriptionStatus):
    """The messages of one subscription, in order.

        async for message in messages: ...
        message = await messages.get(timeout=5)

    The iteration ends when the subscription does (`unsubscribe`, or the program closes the
    client), and raises what has ended it otherwise. As a context manager it unsubscribes at its
    end. Several tasks may take from one subscription: each message goes to one of them.
    """

    __slots__ = ("_client",)

    def __init__(self, client: Client, consumer: Consumer) -> None:
        super().__init__(consumer)
        self._client: Final = client

    def get_nowait(self) -> Message | None:
        """The next message, None where none waits."""
        return self._client._take(self._consumer)

    async def get(self, timeout: float | None = None) -> Message:
        """The next message. Raises `TimeoutError` after `timeout` seconds, and `ClientClosed` or
        `SubscribeRefused` where no more will come; cancelled or late, no message is lost.
        """
        async with asyncio.timeout(timeout):
            return await self._next()

    async def _next(self) -> Message:
        consumer = self._consumer
        while True:
            message = self._client._take(consumer)
            if message is not None:
                return message
            if consumer.is_leaving or consumer.error is not None:
                if consumer.error is None:
                    raise ClientClosed("the subscription was ended by unsubscribe()")
                raise consumer.error
            await self._client._drive.wait_for(consumer)

    async def unsubscribe(self) -> None:
        """End the subscription; messages that were not taken are dropped, and counted."""
        await self._client._unsubscribe(self._consumer)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message = self._client._take(self._consumer)
        if message is not None:
            return message
        try:
            return await self._next()
        except ClientClosed as closed:
            if closed.__cause__ is None:
                raise StopAsyncIteration from None
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.unsubscribe()
