"""Flags that several commands have: a dataclass for each group, whose fields are the flags.

A parameter of a command whose type is one of `GROUPS` stands for all its flags, and the command
gets them as one object. What the values mean is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from iotd.cli.messaging._flag import flag


@dataclass(frozen=True)
class ServerFlags:
    """Where to connect, as whom, and how."""

    host: Annotated[
        str | None,
        flag("--host", "-h", metavar="HOST", help="Server. [default: localhost]"),
    ] = None
    port: Annotated[
        int | None,
        flag(
            "--port",
            "-p",
            metavar="PORT",
            least=1,
            most=65_535,
            help="Port. [default: 1883, or 8883 with TLS]",
        ),
    ] = None
    url: Annotated[
        str | None,
        flag(
            "--url",
            "-L",
            metavar="URL",
            help="Server, user and topic in one: mqtt(s)://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC. "
            "Also ws(s)://HOST[:PORT][/PATH] and unix:///PATH, with the topic in -t.",
        ),
    ] = None
    unix: Annotated[
        str | None, flag("--unix", metavar="PATH", help="Connect to a Unix socket.")
    ] = None
    username: Annotated[str | None, flag("--username", "-u", metavar="NAME", help="User name.")] = (
        None
    )
    password: Annotated[
        str | None,
        flag(
            "--pw",
            "-P",
            metavar="PASSWORD",
            help="Password. Every user of this machine can read it there: better "
            "--password-file, or the variable IOTD_PASSWORD.",
        ),
    ] = None
    password_file: Annotated[
        Path | None,
        flag("--password-file", metavar="FILE", help="File whose first line is it."),
    ] = None
    client_id: Annotated[
        str | None,
        flag("--id", "-i", metavar="ID", help="Client identifier. [default: made up]"),
    ] = None
    id_prefix: Annotated[
        str | None,
        flag(
            "--id-prefix", "-I", metavar="PREFIX", help="Client identifier: PREFIX and process id."
        ),
    ] = None
    keep_alive_s: Annotated[
        int,
        flag(
            "--keepalive",
            "-k",
            metavar="SECONDS",
            least=0,
            most=65_535,
            help="Keep alive, 0 for none.",
        ),
    ] = 60
    stays: Annotated[
        bool,
        flag(
            "--disable-clean-session",
            "-c",
            help="Have the server keep the session: needs -i, lasts as long as -x says.",
        ),
    ] = False
    session_expiry_s: Annotated[
        int | None,
        flag(
            "--session-expiry-interval",
            "-x",
            metavar="SECONDS",
            least=-1,
            most=4_294_967_295,
            help="How long the server keeps the session, -1 for ever. "
            "[default: -1 with -c, else 0]",
        ),
    ] = None
    version: Annotated[
        str,
        flag(
            "--protocol-version",
            "-V",
            metavar="auto|5|311",
            help="Version of MQTT, also mqttv5 and mqttv311; auto tries 5.0 first.",
        ),
    ] = "auto"
    properties: Annotated[
        list[str] | None,
        flag(
            "--property",
            "-D",
            metavar="PACKET NAME VALUE",
            help="A property of MQTT 5.0, as in: -D publish content-type text/plain, "
            "-D publish user-property NAME VALUE. May be repeated.",
        ),
    ] = None
    will_topic: Annotated[
        str | None,
        flag("--will-topic", metavar="TOPIC", help="Topic of the will, for one."),
    ] = None
    will_payload: Annotated[str, flag("--will-payload", metavar="TEXT", help="What it says.")] = ""
    will_qos: Annotated[
        int, flag("--will-qos", metavar="QOS", least=0, most=2, help="Its QoS.")
    ] = 0
    will_retain: Annotated[bool, flag("--will-retain", help="Whether the server keeps it.")] = False
    cafile: Annotated[
        Path | None,
        flag("--cafile", metavar="FILE", help="TLS: certificates that are trusted (PEM)."),
    ] = None
    capath: Annotated[
        Path | None,
        flag("--capath", metavar="DIR", help="TLS: folder of certificates that are."),
    ] = None
    cert: Annotated[
        Path | None,
        flag("--cert", metavar="FILE", help="TLS: certificate of this client (PEM)."),
    ] = None
    key: Annotated[
        Path | None, flag("--key", metavar="FILE", help="TLS: its private key (PEM).")
    ] = None
    insecure: Annotated[
        bool,
        flag("--insecure", help="TLS: do not compare the certificate with the host's name."),
    ] = False
    system_certificates: Annotated[
        bool,
        flag("--tls-use-os-certs", help="TLS, trusting what the system trusts."),
    ] = False
    alpn: Annotated[
        str | None,
        flag("--tls-alpn", metavar="NAME", help="TLS: protocol to ask for (ALPN)."),
    ] = None
    quiet: Annotated[
        bool, flag("--quiet", help="Say nothing of lost connections, and no errors.")
    ] = False
    debug: Annotated[bool, flag("--debug", "-d", help="Say what becomes of the connection.")] = (
        False
    )
    nodelay: Annotated[bool, flag("--nodelay", hidden=True, help="Nothing: it is always so.")] = (
        False
    )


@dataclass(frozen=True)
class PayloadFlags:
    """What to publish."""

    message: Annotated[str | None, flag("--message", "-m", metavar="TEXT", help="Send this.")] = (
        None
    )
    file: Annotated[
        Path | None, flag("--file", "-f", metavar="FILE", help="Send what is in a file.")
    ] = None
    stdin: Annotated[
        bool,
        flag("--stdin-file", "-s", help="Send standard input, all of it as one message."),
    ] = False
    null: Annotated[bool, flag("--null-message", "-n", help="Send an empty message.")] = False


@dataclass(frozen=True)
class OutputFlags:
    """How to print messages, and which."""

    verbose: Annotated[
        bool, flag("--verbose", "-v", help="Print the topic before the payload.")
    ] = False
    format: Annotated[
        str | None,
        flag(
            "--format",
            "-F",
            metavar="TEMPLATE",
            help="Print by a template: %t topic, %p payload, %x in hex, %q QoS, %r retained, "
            "%I time, %U seconds, %l length, %j JSON, %J with the payload as JSON; "
            "docs/command-line.md has all.",
        ),
    ] = None
    json: Annotated[
        bool, flag("--json", help="Print a line of JSON for each message, as %j does.")
    ] = False
    hex: Annotated[bool, flag("--hex", help="Print the payload in hexadecimal.")] = False
    pretty: Annotated[bool, flag("--pretty", help="Print JSON on several lines, for people.")] = (
        False
    )
    no_newline: Annotated[bool, flag("-N", help="Print no end of line after a message.")] = False
    output: Annotated[
        Path | None,
        flag("--output", "-o", metavar="FILE", help="Append to a file instead."),
    ] = None
    no_stale: Annotated[
        bool, flag("-R", help="Leave out retained messages of the time before.")
    ] = False
    timeout_s: Annotated[
        float | None,
        flag(
            "-W", metavar="SECONDS", least=0.001, help="Give up after this time, with exit code 27."
        ),
    ] = None


GROUPS: Final = (ServerFlags, PayloadFlags, OutputFlags)
