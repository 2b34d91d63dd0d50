"""The programs, their help and their flags. What they do is loaded only when they run."""

from __future__ import annotations

from typing import Annotated, Final

from iotd.cli.messaging._flag import Program, flag
from iotd.cli.messaging._flags import OutputFlags, PayloadFlags, ServerFlags

_EXITS: Final = """\
\b
Exit codes: 0 done, 1 not connected or refused, 2 the command line is wrong, 27 timed out,
130 interrupted (Ctrl-C). -h names the host, as in mosquitto's programs; --help is this.
"""

_PUB_HELP: Final = f"""\
Publish messages.

\b
Examples:
  iotd pub -t home/lamp -m on
  iotd pub -h broker.example -t home/lamp -m on -q 1 -r
  iotd pub -L mqtts://user@broker.example/backups -f backup.tar --password-file secret
  sensor | iotd pub -t readings -l -q 1

With -q 1 and 2 it ends when the server has acknowledged everything. A connection that breaks is
made again, and goes on where it was; the first one must come about.

{_EXITS}"""

_SUB_HELP: Final = f"""\
Subscribe, and print the messages that come.

\b
Examples:
  iotd sub -t 'home/#' -v
  iotd sub -t 'home/+/temperature' --json | jq .payload
  iotd sub -t alarms -q 1 -i watcher -c -F '%I %t %p' -o alarms.log
  iotd sub -t ready -C 1 -W 30 && echo it has come

Messages of QoS 1 and 2 are acknowledged when they are written. A connection that breaks is made
again; the first one must come about.

{_EXITS}"""

_RR_HELP: Final = f"""\
Publish a request, and print the first answer.

\b
Examples:
  iotd rr -t square -m 12
  iotd rr -t lamp/get -e lamp/state -n -W 5

Without -e the answer comes to a topic of this client alone (MQTT 5.0: response topic and
correlation data). With -e whatever comes there is the answer.

{_EXITS}"""

Qos = Annotated[
    int, flag("--qos", "-q", metavar="QOS", least=0, most=2, help="Quality of service.")
]
Topic = Annotated[str | None, flag("--topic", "-t", metavar="TOPIC", help="Topic to publish to.")]


def _pub(
    payload: PayloadFlags,
    server: ServerFlags,
    topic: Topic = None,
    lines: Annotated[
        bool,
        flag("--stdin-line", "-l", help="Send standard input, each line as a message."),
    ] = False,
    qos: Qos = 0,
    retain: Annotated[
        bool, flag("--retain", "-r", help="Have the server keep it for the topic.")
    ] = False,
    repeat: Annotated[int, flag("--repeat", metavar="N", least=1, help="Send it N times.")] = 1,
    delay_s: Annotated[
        float,
        flag("--repeat-delay", "--delay", metavar="SECONDS", least=0, help="Time between them."),
    ] = 0.0,
    max_inflight: Annotated[
        int | None,
        flag(
            "--max-inflight",
            "-M",
            metavar="N",
            least=1,
            most=65_535,
            help="Most messages that are not acknowledged yet. [default: 1000]",
        ),
    ] = None,
) -> int:
    from iotd.cli.messaging._publish import publish

    return publish(server, payload, topic, qos, retain, lines, repeat, delay_s, max_inflight)


def _sub(
    output: OutputFlags,
    server: ServerFlags,
    topics: Annotated[
        list[str] | None,
        flag(
            "--topic", "-t", metavar="TOPIC", help="Topic filter to subscribe to; may be repeated."
        ),
    ] = None,
    qos: Qos = 0,
    count: Annotated[
        int | None, flag("-C", metavar="N", least=1, help="End after N messages.")
    ] = None,
    without: Annotated[
        list[str] | None,
        flag(
            "--filter-out", "-T", metavar="TOPIC", help="Leave out what matches; may be repeated."
        ),
    ] = None,
    retained_only: Annotated[
        bool, flag("--retained-only", help="End at the first message that is not retained.")
    ] = False,
    removes_retained: Annotated[
        bool, flag("--remove-retained", help="Have the server forget retained messages.")
    ] = False,
    retain_as_published: Annotated[
        bool, flag("--retain-as-published", help="Keep the retain flag as it was sent.")
    ] = False,
    no_local: Annotated[
        bool, flag("--no-local", help="Leave out what this client has published.")
    ] = False,
    only_subscribes: Annotated[
        bool, flag("-E", help="End when the server has granted the subscription.")
    ] = False,
) -> int:
    from iotd.cli.messaging._subscribe import Wanted, subscribe

    wanted = Wanted(
        topics=topics or [],
        qos=qos,
        count=count,
        without=without or [],
        retained_only=retained_only,
        removes_retained=removes_retained,
        retain_as_published=retain_as_published,
        no_local=no_local,
        only_subscribes=only_subscribes,
    )
    return subscribe(server, output, wanted)


def _rr(
    payload: PayloadFlags,
    output: OutputFlags,
    server: ServerFlags,
    topic: Topic = None,
    response_topic: Annotated[
        str | None,
        flag("--response-topic", "-e", metavar="TOPIC", help="Topic where the answer comes."),
    ] = None,
    qos: Qos = 0,
) -> int:
    from iotd.cli.messaging._request import request

    return request(server, payload, output, topic, response_topic, qos)


PROGRAMS: Final = (
    Program("pub", _pub, _PUB_HELP, "Publish messages."),
    Program("sub", _sub, _SUB_HELP, "Subscribe, and print what comes."),
    Program("rr", _rr, _RR_HELP, "Publish a request, print the answer."),
)
"""The programs, which have -h for the host."""
