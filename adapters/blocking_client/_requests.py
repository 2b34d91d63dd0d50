"""Requests that wait for their answers (4.10 of MQTT 5.0): any thread hands out all that come."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, final

from adapters.blocking_client._driver import Driver
from adapters.client_common import RequestTable, response_topic, subscriptions
from mqtt_core import MQTT_5
from mqtt_core.client import ClientClosed, Consumer, Message

_PLAIN: Final = (False, False, 2)  # answers are never retained


@final
class _Answer:
    """Where a request finds its answer."""

    __slots__ = ("message",)

    def __init__(self) -> None:
        self.message: Message | None = None


@final
class Requests:
    """The requests of a client, and its subscription to their answers. Called with the lock."""

    __slots__ = ("_answers", "_driver", "_table")

    def __init__(self, driver: Driver) -> None:
        self._driver: Final = driver
        self._answers: Consumer | None = None
        self._table: Final[RequestTable[_Answer]] = RequestTable()

    def ask(self, publish: Callable[[str, bytes], object], give_up_at: float | None) -> Message:
        """Publish a request, by `publish` with response topic and correlation data, and wait for
        the first answer. Raises `TimeoutError`, `QueueFull` and `ClientClosed`."""
        answers = self._subscribed(give_up_at)
        answer = _Answer()
        correlation = self._table.add(answer)
        try:
            publish(answers.topic_filters[0], correlation)
            while True:
                self._hand_out(answers)
                if answer.message is not None:
                    return answer.message
                answers.result()
                self._driver.send()
                self._driver.wait_for(answers, give_up_at)
        finally:
            self._table.remove(correlation)

    def _subscribed(self, give_up_at: float | None) -> Consumer:
        """The subscription to answers, made once."""
        driver = self._driver
        core = driver.core
        driver.wait_until(lambda: core.is_online or core.has_ended, give_up_at)
        if self._answers is None:
            if core.is_online and core.level != MQTT_5:
                raise ValueError(
                    "MQTT 3.1.1 has no requests: publish and subscribe to topics of your own"
                )
            topic = response_topic(core.response_information, core.client_id)
            self._answers = core.subscribe(subscriptions([topic], 1, *_PLAIN), monotonic())
            driver.send()
        answers = self._answers
        while not answers.is_ready and answers.error is None:
            driver.wait_for(answers, give_up_at)
        if answers.error is not None and not isinstance(answers.error, ClientClosed):
            self._answers = None  # another time the server may grant it
        return answers.result()

    def _hand_out(self, answers: Consumer) -> None:
        core = self._driver.core
        message = core.take(answers, monotonic())
        while message is not None:
            answer = self._table.answered(message)
            if answer is not None:
                answer.message = message
            message.ack()
            self._driver.wake()
            message = core.take(answers, monotonic())
