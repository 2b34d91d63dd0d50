"""`iotd pub`: from arguments, files and standard input to published messages."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, final

from iotd import BlockingClient, Publication, QueueFull
from iotd.cli._output import Progress
from iotd.cli.messaging._connecting import Server, connected, make_server
from iotd.cli.messaging._flag import UsageError
from iotd.cli.messaging._flags import PayloadFlags, ServerFlags
from iotd.cli.messaging._properties import MessageProperties

_NO_SUBSCRIBERS: Final = 0x10


def payload_of(flags: PayloadFlags) -> bytes | None:
    """The payload that the flags name, None for none. Raises `UsageError`."""
    given = [flags.message is not None, flags.file is not None, flags.stdin, flags.null]
    if sum(given) > 1:
        raise UsageError("-m, -f, -s and -n exclude each other; give one of them")
    if flags.message is not None:
        return flags.message.encode(errors="surrogateescape")  # the bytes that the shell gave
    if flags.file is not None:
        try:
            return flags.file.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {flags.file}: {error.strerror}", flag="-f") from None
    if flags.stdin:
        return sys.stdin.buffer.read()
    return b"" if flags.null else None


def topic_of(topic: str | None, server: Server) -> str:
    """The topic to publish to. Raises `UsageError`."""
    found = topic or server.topic
    if not found:
        raise UsageError("say where to publish: -t TOPIC, or -L mqtt://HOST/TOPIC")
    return found


def publish(
    server_flags: ServerFlags,
    payload_flags: PayloadFlags,
    topic: str | None,
    qos: int,
    retain: bool,
    lines: bool,
    repeat: int,
    delay_s: float,
    max_inflight: int | None,
) -> int:
    """Publish; returns the exit code."""
    if lines and (repeat > 1 or payload_flags != PayloadFlags()):
        raise UsageError("-l takes the messages from standard input: leave out the others")
    server = make_server(server_flags, max_inflight=max_inflight)
    to = topic_of(topic, server)
    payload = b"" if lines else payload_of(payload_flags)
    if payload is None:
        raise UsageError(
            "say what to publish: -m TEXT, -f FILE, -l (a line each), -s (all of standard input) "
            "or -n (nothing)"
        )
    payloads = _lines() if lines else _repeated(payload, repeat, delay_s)
    with connected(server, server_flags) as client, Progress() as progress:
        sender = _Sender(client, to, qos, retain, server.asked.publish)
        try:
            sender.send_all(payloads, progress)
        except ValueError as error:  # what MQTT forbids, which is seen before anything is sent
            raise UsageError(str(error)) from None
        if server_flags.debug and sender.unheard:
            print(f"iotd: nobody has subscribed to {to!r}", file=sys.stderr)
    return 0


def _lines() -> Iterator[bytes]:
    """The lines of standard input, as soon as each is there."""
    for line in sys.stdin.buffer:
        yield line.removesuffix(b"\n")


def _repeated(payload: bytes, count: int, delay_s: float) -> Iterator[bytes]:
    for number in range(count):
        if number and delay_s:
            time.sleep(delay_s)
        yield payload


@final
class _Sender:
    """Publishes as fast as the server takes it, and keeps no more than the client's limits."""

    def __init__(
        self,
        client: BlockingClient,
        topic: str,
        qos: int,
        retain: bool,
        properties: MessageProperties,
    ) -> None:
        self._client: Final = client
        self._topic: Final = topic
        self._qos: Final = qos
        self._retain: Final = retain
        self._properties: Final = properties
        self._waiting: Final[deque[Publication]] = deque()  # for acknowledgement, in order
        self.unheard = 0  # messages that had no subscriber, where the server says so

    def send_all(self, payloads: Iterable[bytes], progress: Progress) -> None:
        """Publish each; return when the server has acknowledged all.

        Raises what `BlockingClient.publish` does.
        """
        for count, payload in enumerate(payloads, 1):
            self._send(payload)
            progress(count, "messages")
        while self._waiting:
            self._settle(self._client.wait(self._waiting.popleft()))
        self._client.flush()

    def _send(self, payload: bytes) -> None:
        waiting = self._waiting
        while waiting and waiting[0].is_done:
            self._settle(waiting.popleft().result())
        client = self._client
        message = (self._topic, payload, self._qos, self._retain)
        if self._qos == 0:
            client.publish(*message, **vars(self._properties))
            return
        while True:
            try:
                waiting.append(client.publish_nowait(*message, **vars(self._properties)))
                return
            except QueueFull:
                if not waiting:  # this message alone is more than may wait
                    self._settle(client.publish(*message, **vars(self._properties)))
                    return
                self._settle(client.wait(waiting.popleft()))

    def _settle(self, publication: Publication) -> None:
        if publication.reason == _NO_SUBSCRIBERS:
            self.unheard += 1
