"""What a client keeps over its own restart, in a store like that of the broker.

To the store a client is one session with a queue: what it publishes is appended, sent, received
and settled, and identifiers of QoS 2 messages that came are held. Subscriptions are not kept: the
program makes them again. Without a store nothing is written, and nothing waits.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._store import (
    Claimed,
    ClaimSession,
    Completion,
    Failed,
    Operation,
    Queued,
    QueuePage,
    ReadQueue,
    Request,
    SaveSession,
    SessionRecord,
    Write,
)

_PAGE_MESSAGES: Final = 1_000
_PAGE_BYTES: Final = 1 << 20


class Step:
    """What rests on a write."""

    def stored(self, now: float) -> None:
        """The write is as durable as it is going to be."""
        raise NotImplementedError

    def refused(self, why: str, now: float) -> None:
        """The write has failed, and has no effect."""
        raise NotImplementedError


@final
class Keeper:
    """The client's end of its store. `is_on`: there is one."""

    __slots__ = (
        "is_on",
        "is_ready",
        "session",
        "failure",
        "record",
        "queued",
        "_client_id",
        "_number",
        "_request",
        "_requests",
        "_steps",
    )

    def __init__(self, is_on: bool, client_id: str, last_number: int) -> None:
        self.is_on: Final = is_on
        self.is_ready = not is_on  # everything has been read back
        self.session = 0
        self.failure = ""  # why the store is of no use
        self.record: SessionRecord | None = None
        self.queued: list[Queued] = []
        self._client_id: Final = client_id
        self._number = last_number
        self._request = 0
        self._requests: list[Request] = []
        self._steps: Final[dict[int, Step]] = {}

    def next_number(self) -> int:
        """The number of the next message."""
        self._number += 1
        return self._number

    def write(self, operations: list[Operation], step: Step | None = None) -> None:
        """Store something; `step` is told what became of it."""
        request_id = 0
        if step is not None:
            request_id = self._next_request()
            self._steps[request_id] = step
        self._requests.append(Write(request_id, operations))

    def _next_request(self) -> int:
        self._request += 1
        return self._request

    def take_requests(self) -> list[Request]:
        """What the store is to do, in order."""
        requests = self._requests
        if requests:
            self._requests = []
        return requests

    # Reading back

    def begin(self) -> None:
        """Ask for what an earlier run has left."""
        self._requests.append(ClaimSession(self._next_request(), self._client_id))

    def completed(self, completion: Completion, now: float) -> None:
        """The store has answered."""
        step = self._steps.pop(completion.request_id, None)
        if step is not None:
            if isinstance(completion, Failed):
                step.refused(completion.reason, now)
            else:
                step.stored(now)
        elif isinstance(completion, Failed):
            self.failure = completion.reason
        elif isinstance(completion, Claimed):
            self._claimed(completion.record)
        else:
            assert isinstance(completion, QueuePage)
            self.queued += completion.entries
            self._read_on(completion.entries)

    def _claimed(self, record: SessionRecord | None) -> None:
        if record is None:
            self.session = self.next_number()
            self.write([SaveSession(self.session, self._client_id)])
            self.is_ready = True
            return
        self.session = record.session
        self.record = record
        self._requests.append(self._page(0))

    def _read_on(self, entries: list[Queued]) -> None:
        if entries:
            self._requests.append(self._page(entries[-1].number))
        else:
            self.is_ready = True

    def _page(self, after: int) -> Request:
        return ReadQueue(self._next_request(), self.session, after, _PAGE_MESSAGES, _PAGE_BYTES)
