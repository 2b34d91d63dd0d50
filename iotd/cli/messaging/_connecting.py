"""From the flags of a command to a client, and what is said of its connection."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from adapters.stages import server_address
from iotd import BlockingClient, ClientClosed, ClientLimits, MqttError
from iotd.cli._program import CannotRunError
from iotd.cli.messaging._flag import UsageError
from iotd.cli.messaging._flags import ServerFlags
from iotd.cli.messaging._properties import AskedProperties, read_properties
from mqtt_core.client import Connected, Event, Lost, Retrying
from mqtt_core.properties import USER_PROPERTY

if TYPE_CHECKING:
    from ssl import SSLContext

    from adapters.client_common import Version

EXIT_TIMED_OUT: Final = 27  # as mosquitto_sub has it
EXIT_INTERRUPTED: Final = 130
_EXIT_TERMINATED: Final = 143

_FOR_EVER: Final = 0xFFFF_FFFF
_VERSIONS: Final[dict[str, Version]] = {
    "auto": "auto",
    "5": 5,
    "5.0": 5,
    "mqttv5": 5,
    "311": "3.1.1",
    "3.1.1": "3.1.1",
    "mqttv311": "3.1.1",
}


@dataclass(frozen=True)
class Server:
    """A client that is not connected yet, and what its flags say beside it."""

    client: BlockingClient
    topic: str | None
    """The topic of the URL."""
    asked: AskedProperties


def make_server(
    flags: ServerFlags, *, manual_acks: bool = False, max_inflight: int | None = None
) -> Server:
    """The client of a command line. Raises `UsageError`."""
    url, topic = _split_url(flags)
    asked = read_properties(flags.properties or [])
    limits: dict[str, int] = {}
    if max_inflight is not None:
        limits["max_inflight_messages"] = max_inflight
    if asked.connect.receive_maximum is not None:
        limits["receive_maximum"] = asked.connect.receive_maximum
    if asked.connect.max_packet_size_bytes is not None:
        limits["max_packet_size_bytes"] = asked.connect.max_packet_size_bytes
    try:
        client = BlockingClient(
            url,
            client_id=_client_id(flags),
            username=flags.username,
            password=_password(flags, url),
            version=_version(flags.version),
            keep_alive_s=flags.keep_alive_s,
            session_expiry_s=_session_expiry_s(flags, asked),
            will=asked.make_will(
                flags.will_topic, flags.will_payload, flags.will_qos, flags.will_retain
            ),
            tls=_tls(flags),
            manual_acks=manual_acks,
            properties=tuple((USER_PROPERTY, pair) for pair in asked.connect.user_properties),
            on_state=_teller(flags),
            limits=ClientLimits(**limits),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Server(client, topic, asked)


def _split_url(flags: ServerFlags) -> tuple[str, str | None]:
    """The URL of the server, and the topic in it."""
    url = flags.url
    if url is not None:
        if flags.host is not None or flags.port is not None or flags.unix is not None:
            raise UsageError("-L says where to connect: leave out -h, -p and --unix")
        scheme, separator, rest = url.partition("://")
        if separator and scheme in ("mqtt", "mqtts", "tcp"):
            server, _, topic = rest.partition("/")
            return f"{scheme}://{server}", topic or None
        return url, None
    if flags.unix is not None:
        if flags.host is not None or flags.port is not None:
            raise UsageError("--unix says where to connect: leave out -h and -p")
        return f"unix://{os.path.abspath(flags.unix)}", None
    host = flags.host or "localhost"
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    port = "" if flags.port is None else f":{flags.port}"
    return f"{'mqtts' if _wants_tls(flags) else 'mqtt'}://{host}{port}", None


def _wants_tls(flags: ServerFlags) -> bool:
    return bool(flags.cafile or flags.capath or flags.system_certificates or flags.cert)


def _tls(flags: ServerFlags) -> SSLContext | None:
    """The context of TLS; None for the default one, or none."""
    if (flags.cert is None) != (flags.key is None):
        raise UsageError("--cert and --key belong together: give both or neither")
    if not _wants_tls(flags) and not flags.insecure and flags.alpn is None:
        return None
    import ssl  # which takes its time

    try:
        context = ssl.create_default_context(cafile=flags.cafile, capath=flags.capath)
        if flags.cert is not None:
            context.load_cert_chain(flags.cert, flags.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"the certificates cannot be used: {error.strerror or error}; check --cafile, --cert "
            "and --key, which are files in PEM form"
        ) from None
    if flags.system_certificates:
        context.load_default_certs()
    if flags.insecure:
        context.check_hostname = False
    if flags.alpn is not None:
        context.set_alpn_protocols([flags.alpn])
    return context


def _client_id(flags: ServerFlags) -> str:
    if flags.client_id is not None and flags.id_prefix is not None:
        raise UsageError("-i and -I exclude each other; give one of them")
    if flags.id_prefix is not None:
        return f"{flags.id_prefix}{os.getpid()}"
    return flags.client_id or ""


def _password(flags: ServerFlags, url: str) -> str | None:
    """The password, from the first place that has one; None for that of the URL, or none."""
    if flags.password is not None:
        return flags.password
    file = flags.password_file
    if file is None:
        address = server_address(url)
        has_user = flags.username is not None or address.username is not None
        if has_user and address.password is None:
            return os.environ.get("IOTD_PASSWORD")
        return None
    try:
        with file.open(encoding="utf-8") as lines:
            return lines.readline().rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"cannot read {file}: {why}", flag="--password-file") from None


def _version(word: str) -> Version:
    found = _VERSIONS.get(word.lower())
    if found is None:
        raise UsageError(f"found {word!r}; allowed: auto, 5, 311", flag="-V")
    return found


def _session_expiry_s(flags: ServerFlags, asked: AskedProperties) -> int:
    expiry_s = flags.session_expiry_s
    if expiry_s is None:
        expiry_s = asked.connect.session_expiry_s
    if expiry_s is None:
        expiry_s = _FOR_EVER if flags.stays else 0
    if expiry_s and not flags.client_id:
        raise UsageError("-c and -x keep a session for the next time: name it with -i")
    return _FOR_EVER if expiry_s < 0 else expiry_s


def _teller(flags: ServerFlags) -> Callable[[Event], None]:
    """Says on standard error what becomes of the connection, once there has been one."""
    was_connected = False

    def tell(event: Event) -> None:
        nonlocal was_connected
        if flags.debug:
            print(f"iotd: {event!r}", file=sys.stderr, flush=True)
        elif was_connected and not flags.quiet:
            if isinstance(event, Connected):
                print("iotd: connected again", file=sys.stderr, flush=True)
            elif isinstance(event, Lost):
                print(f"iotd: not connected: {event.why}", file=sys.stderr, flush=True)
            elif isinstance(event, Retrying) and event.attempt == 1:
                print("iotd: trying again until it is there", file=sys.stderr, flush=True)
        was_connected = was_connected or isinstance(event, Connected)

    return tell


@contextmanager
def connected(server: Server, flags: ServerFlags) -> Iterator[BlockingClient]:
    """The client while it is connected. What ends it in error ends the program, with a line that
    says what to do; Ctrl-C and SIGTERM say goodbye to the server first."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with server.client as client:
            yield client
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except MqttError as error:
        cause = error.__cause__ if isinstance(error, ClientClosed) else None
        if flags.quiet:
            raise SystemExit(1) from None
        raise CannotRunError(str(cause or error)) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(_EXIT_TERMINATED)
