"""What a subscription gives: messages, one after the other."""

from __future__ import annotations

from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

from adapters.client_common import SubscriptionStatus
from mqtt_core.client import ClientClosed, Consumer, Message

if TYPE_CHECKING:
    from adapters.blocking_client._client import BlockingClient


@final
class BlockingMessages(SubscriptionStatus):
    """The messages of one subscription, in order.

        for message in messages: ...
        message = messages.get(timeout=5)

    The iteration ends when the subscription does (`unsubscribe`, or the program closes the
    client), and raises what has ended it otherwise. As a context manager it unsubscribes at its
    end. Several threads may take from one subscription: each message goes to one of them.
    """

    __slots__ = ("_client",)

    def __init__(self, client: BlockingClient, consumer: Consumer) -> None:
        super().__init__(consumer)
        self._client: Final = client

    def get_nowait(self) -> Message | None:
        """The next message, None where none waits."""
        return self._client._take(self._consumer)

    def get(self, timeout: float | None = None) -> Message:
        """The next message. Raises `TimeoutError` after `timeout` seconds, and `ClientClosed` or
        `SubscribeRefused` where no more will come; late or interrupted, no message is lost.
        """
        message = self._client._take(self._consumer)
        if message is not None:
            return message
        give_up_at = None if timeout is None else monotonic() + timeout
        return self._client._take_next(self._consumer, give_up_at)

    def unsubscribe(self) -> None:
        """End the subscription; messages that were not taken are dropped, and counted."""
        self._client._unsubscribe(self._consumer)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        try:
            return self.get()
        except ClientClosed as closed:
            if closed.__cause__ is None:
                raise StopIteration from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unsubscribe()
