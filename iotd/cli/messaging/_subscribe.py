"""`iotd sub`: subscribe, and print what comes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from time import monotonic

from iotd import BlockingClient, BlockingMessages, Message
from iotd.cli.messaging._connecting import EXIT_TIMED_OUT, connected, make_server
from iotd.cli.messaging._flag import UsageError
from iotd.cli.messaging._flags import OutputFlags, ServerFlags
from iotd.cli.messaging._printing import Printout, ReaderGone
from mqtt_core import topic_filter_fault, topic_matches


@dataclass(frozen=True)
class Wanted:
    """Which messages, and how many."""

    topics: list[str]
    qos: int
    count: int | None
    without: list[str]
    retained_only: bool
    removes_retained: bool
    retain_as_published: bool
    no_local: bool
    only_subscribes: bool


def subscribe(server_flags: ServerFlags, output_flags: OutputFlags, wanted: Wanted) -> int:
    """Subscribe and print until it is enough; returns the exit code."""
    # Acknowledged when they are written, so that a session that stays loses none of them.
    server = make_server(server_flags, manual_acks=True)
    topics = wanted.topics or ([server.topic] if server.topic else [])
    if not topics:
        raise UsageError("say what to subscribe to: -t TOPIC, or -L mqtt://HOST/TOPIC")
    for each in wanted.without:
        fault = topic_filter_fault(each.encode())
        if fault is not None:
            raise UsageError(f"{each!r} is no topic filter: {fault[0]}", flag="-T")
    give_up_at = give_up_time(output_flags)
    with Printout(output_flags) as printout, connected(server, server_flags) as client:
        try:
            messages = client.subscribe(
                *topics,
                qos=wanted.qos,
                no_local=wanted.no_local,
                retain_as_published=wanted.retain_as_published,
                timeout=left_s(give_up_at),
            )
            if not wanted.only_subscribes:
                _print_all(client, messages, printout, output_flags, wanted, give_up_at)
        except ValueError as error:
            raise UsageError(str(error)) from None
        except TimeoutError:
            printout.flush()
            return timed_out(server_flags)
        except ReaderGone:
            pass
    return 0


def give_up_time(flags: OutputFlags) -> float | None:
    """When -W is over, None for never."""
    return None if flags.timeout_s is None else monotonic() + flags.timeout_s


def left_s(give_up_at: float | None) -> float | None:
    """Seconds until then."""
    return None if give_up_at is None else max(0.0, give_up_at - monotonic())


def timed_out(flags: ServerFlags) -> int:
    """The exit code for it, said on standard error."""
    if not flags.quiet:
        print("Timed out", file=sys.stderr)
    return EXIT_TIMED_OUT


def _next_of(messages: BlockingMessages, printout: Printout, give_up_at: float | None) -> Message:
    """The next message; what is printed is written before waiting. Raises `TimeoutError`."""
    message = messages.get_nowait()
    if message is None:
        printout.flush()
        message = messages.get(left_s(give_up_at))
    return message


def _print_all(
    client: BlockingClient,
    messages: BlockingMessages,
    printout: Printout,
    flags: OutputFlags,
    wanted: Wanted,
    give_up_at: float | None,
) -> None:
    left = wanted.count
    while left is None or left > 0:
        message = _next_of(messages, printout, give_up_at)
        if wanted.retained_only and not message.retain:
            break
        if is_left_out(message, flags, wanted.without):
            message.ack()
            continue
        if wanted.removes_retained and message.retain:
            client.publish(message.topic, b"", qos=1, retain=True)
        printout.put(message)
        if left is not None:
            left -= 1
    printout.flush()


def is_left_out(message: Message, flags: OutputFlags, without: list[str]) -> bool:
    """Whether a message is not to be printed."""
    if flags.no_stale and message.retain:
        return True
    return any(topic_matches(each, message.topic) for each in without)
