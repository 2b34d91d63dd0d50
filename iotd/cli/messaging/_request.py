"""`iotd rr`: publish a request, print the first answer."""

from __future__ import annotations

from iotd import BlockingClient, Message
from iotd.cli.messaging._connecting import Server, connected, make_server
from iotd.cli.messaging._flag import UsageError
from iotd.cli.messaging._flags import OutputFlags, PayloadFlags, ServerFlags
from iotd.cli.messaging._printing import Printout, ReaderGone
from iotd.cli.messaging._publish import payload_of, topic_of
from iotd.cli.messaging._subscribe import give_up_time, is_left_out, left_s, timed_out


def request(
    server_flags: ServerFlags,
    payload_flags: PayloadFlags,
    output_flags: OutputFlags,
    topic: str | None,
    response_topic: str | None,
    qos: int,
) -> int:
    """Ask, and print the answer; returns the exit code."""
    server = make_server(server_flags, manual_acks=True)
    to = topic_of(topic, server)
    payload = payload_of(payload_flags)
    if payload is None:
        raise UsageError("say what to ask: -m TEXT, -f FILE, -s (standard input) or -n (nothing)")
    give_up_at = give_up_time(output_flags)
    with Printout(output_flags) as printout, connected(server, server_flags) as client:
        try:
            if response_topic is None:
                answer = _ask(client, server, to, payload, qos, give_up_at)
            else:
                answer = _ask_at(
                    client, server, to, payload, qos, response_topic, output_flags, give_up_at
                )
            printout.put(answer)
            printout.flush()
        except ValueError as error:
            raise UsageError(str(error)) from None
        except TimeoutError:
            return timed_out(server_flags)
        except ReaderGone:
            pass
    return 0


def _ask(
    client: BlockingClient,
    server: Server,
    topic: str,
    payload: bytes,
    qos: int,
    give_up_at: float | None,
) -> Message:
    """By the client's own response topic and correlation data (4.10 of MQTT 5.0)."""
    if client.version != "5":
        raise UsageError(
            "the server speaks MQTT 3.1.1, where a request says nothing of its answer: name the "
            "topic where it comes with -e TOPIC"
        )
    asked = server.asked.publish
    return client.request(
        topic,
        payload,
        qos,
        timeout=left_s(give_up_at),
        expiry_s=asked.expiry_s,
        content_type=asked.content_type,
        user_properties=asked.user_properties,
    )


def _ask_at(
    client: BlockingClient,
    server: Server,
    topic: str,
    payload: bytes,
    qos: int,
    response_topic: str,
    flags: OutputFlags,
    give_up_at: float | None,
) -> Message:
    """By a response topic that the user names; whatever comes there is the answer."""
    messages = client.subscribe(response_topic, qos=qos, timeout=left_s(give_up_at))
    asked = server.asked.publish
    if client.version == "5":
        asked.response_topic = asked.response_topic or response_topic
    client.publish(topic, payload, qos, timeout=left_s(give_up_at), **vars(asked))
    while True:
        message = messages.get(left_s(give_up_at))
        if not is_left_out(message, flags, []):
            return message
        message.ack()
