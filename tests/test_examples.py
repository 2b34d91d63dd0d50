"""The examples run, against a real server, as somebody would start them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import pytest

from iotd import Server
from mqtt_core import (
    MQTT_5,
    ConnAck,
    Connect,
    Connection,
    Packet,
    PubAck,
    Publish,
    SubAck,
    properties,
)
from mqtt_core.broker import Policy, StaticUsers

EXAMPLES: Final = Path(__file__).resolve().parents[1] / "examples"
PATIENCE_S: Final = 20.0


# A client over a plain socket


def run_client(policy: Policy | None = None) -> tuple[int, str, str]:
    """Run the example against a server; exit code, output, errors."""

    async def run() -> tuple[int, str, str]:
        async with Server(policy=policy) as server:
            host, _, port = server.url.removeprefix("tcp://").rpartition(":")
            return await start_client(host, port)

    return asyncio.run(run())


async def start_client(host: str, port: str) -> tuple[int, str, str]:
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / "plain_socket_client.py"),
        host,
        port,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(client.communicate(), PATIENCE_S)
    assert client.returncode is not None
    return client.returncode, output.decode(), errors.decode()


def test_the_plain_socket_client_gets_its_message() -> None:
    assert run_client() == (0, "greeting/hello Hello!\n", "")


def test_the_plain_socket_client_says_that_it_is_refused() -> None:
    nobody = StaticUsers({}, allow_anonymous=False)
    assert run_client(nobody) == (1, "", "refused: not authorized\n")


def test_the_plain_socket_client_says_that_it_was_cut_off() -> None:
    async def run() -> tuple[int, str, str]:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(2)  # the beginning of its CONNECT
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await start_client("127.0.0.1", str(port))

    code, output, errors = asyncio.run(run())
    assert (code, output) == (1, "")
    # Closing with bytes unread may look like a reset to the client: both are the end.
    assert "connection closed by the peer" in errors or "ConnectionResetError" in errors


# A request and its response


class ConsoleClient:
    """The example as a process, and where it connects to."""

    def __init__(self, topic: str, text: str, url: str) -> None:
        host, _, port = url.removeprefix("tcp://").rpartition(":")
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "request_client.py"), topic, text, host, port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, output, errors


def against_a_server(work: Callable[[str], None], policy: Policy | None = None) -> None:
    """Call `work` with the address of a server that runs meanwhile."""

    async def run() -> None:
        async with Server(policy=policy) as server:
            await asyncio.to_thread(work, server.url)

    asyncio.run(run())


def answer_once(responder: Client) -> None:
    """Answer the next request with a wrong mark first, then as it wants it."""
    request = responder.next_of(Publish)
    assert isinstance(request, Publish)
    given = request.message.properties
    topic = properties.text(given, properties.RESPONSE_TOPIC)
    mark = properties.binary(given, properties.CORRELATION_DATA)
    assert topic is not None
    assert mark is not None
    for text, data in ((b"wrong", mark + b"?"), (b"42", mark)):
        same = ((properties.CORRELATION_DATA, data),)
        responder.connection.send_publish(topic, text, qos=1, now=0.0, properties=same)
        responder.flush()


def test_the_request_client_prints_the_response_to_its_own_request() -> None:
    def work(url: str) -> None:
        responder = Client(url, Connect("responder", level=MQTT_5))
        responder.next_of(ConnAck)
        responder.connection.send_subscribe([("question", 1)], 0.0)
        responder.flush()
        responder.next_of(SubAck)
        client = ConsoleClient("question", "what is it?", url)
        answer_once(responder)
        assert client.end() == (0, "42\n", "")
        responder.close()

    against_a_server(work)


def test_the_request_client_says_that_nobody_answers() -> None:
    def work(url: str) -> None:
        assert ConsoleClient("question", "?", url).end() == (1, "", "nobody answers at question\n")

    against_a_server(work)


def test_the_request_client_says_that_it_is_refused() -> None:
    def work(url: str) -> None:
        assert ConsoleClient("q", "?", url).end() == (1, "", "refused: not authorized\n")

    against_a_server(work, StaticUsers({}, allow_anonymous=False))


# A broker in a program


class Client:
    """A client of ours over a blocking socket."""

    def __init__(self, url: str, connect: Connect) -> None:
        host, _, port = url.removeprefix("tcp://").rpartition(":")
        self.url = url
        self.connection = Connection()
        self._socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self._waiting: list[Packet] = []
        self.connection.send_connect(connect, 0.0)
        self.flush()

    def flush(self) -> None:
        self._socket.sendall(b"".join(iter(self.connection.data_to_send, b"")))

    def next_of(self, kind: type[Packet]) -> Packet:
        """The next packet of a type; others before it are skipped."""
        while True:
            while self._waiting:
                packet = self._waiting.pop(0)
                if isinstance(packet, kind):
                    return packet
            data = self._socket.recv(65_536)
            assert data, f"the connection was closed before a {kind.__name__} came"
            self.connection.receive_data(data, 0.0)
            self.flush()
            self._waiting += self.connection.events()

    def close(self) -> None:
        self.connection.send_disconnect(0.0)
        self.flush()
        while self._socket.recv(65_536):
            pass
        self.hang_up()

    def hang_up(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def running(example: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The example as a process that SIGINT ends, whoever started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored is inherited
    try:
        program = subprocess.Popen(
            [sys.executable, str(EXAMPLES / example), *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with program:
        try:
            yield program
        finally:
            program.kill()


needs_sigint = pytest.mark.skipif(
    sys.platform == "win32", reason="platform: no SIGINT for another process"
)


@needs_sigint
def test_the_embedded_server_serves_by_its_rules_and_stops() -> None:
    with running("embedded_server.py", "tcp://127.0.0.1:0") as program:
        assert program.stdout is not None
        words = program.stdout.readline().split()
        assert words[:2] == ["listening", "on"]
        dashboard = Client(words[2], Connect("d", username="dashboard", password=b"secret"))
        sensor = Client(words[2], Connect("s", username="sensor-1", password=b"also secret"))
        dashboard.next_of(ConnAck)
        sensor.next_of(ConnAck)
        dashboard.connection.send_subscribe([("site/#", 1)], 0.0)
        dashboard.flush()
        assert dashboard.next_of(SubAck) == SubAck(1, (1,))
        for topic in ("site/sensor-2/t", "site/sensor-1/t"):  # only the second is its own
            sensor.connection.send_publish(topic, b"21.5", qos=1, now=0.0)
        sensor.flush()
        message = dashboard.next_of(Publish)
        assert isinstance(message, Publish)
        assert (message.topic, message.payload) == ("site/sensor-1/t", b"21.5")
        sensor.close()
        dashboard.close()
        program.send_signal(signal.SIGINT)
        output, _ = program.communicate(timeout=PATIENCE_S)
        assert program.returncode == 0
    lines = [line.split()[:2] for line in output.splitlines()]
    assert ["client.connected", "d"] in lines
    assert ["client.disconnected", "s"] in lines


def told(program: subprocess.Popen[str], what: str) -> str:
    """The last word of the next line, which begins with these."""
    assert program.stdout is not None
    line = program.stdout.readline()
    assert line.startswith(what), line
    return line.split()[-1]


def connected(url: str, name: str, password: bytes) -> Client:
    """A device that is let in."""
    client = Client(url, Connect(name, level=MQTT_5, username=name, password=password))
    answer = client.next_of(ConnAck)
    assert isinstance(answer, ConnAck)
    assert answer.reason == 0
    return client


@needs_sigint
def test_the_dashboard_shows_what_devices_publish_and_publishes_itself() -> None:
    pytest.importorskip("fastapi")
    with running("fastapi_dashboard.py", "0", "tcp://127.0.0.1:0") as program:
        pages = told(program, "pages on").removeprefix("http://")
        device = connected(told(program, "devices on"), "device-1", b"secret")
        device.connection.send_subscribe([("site/1/light", 1)], 0.0)
        device.flush()
        device.next_of(SubAck)
        with contextlib.closing(HTTPConnection(pages, timeout=PATIENCE_S)) as viewer:
            viewer.request("GET", "/events")
            events = viewer.getresponse()
            assert events.readline() == b": subscribed\n"
            assert request(pages, "POST", "/site/1/light", "on") == (204, "")
            message = device.next_of(Publish)
            assert isinstance(message, Publish)
            assert (message.topic, message.payload) == ("site/1/light", b"on")
            device.connection.send_publish("site/1/heat", b"21.5", qos=0, now=0.0)
            device.flush()
            lines = [events.readline() for _ in range(5)]
            events.close()
            assert [line for line in lines if line.startswith(b"data")] == [
                b'data: {"topic": "site/1/light", "text": "on"}\n',
                b'data: {"topic": "site/1/heat", "text": "21.5"}\n',
            ]
        assert request(pages, "POST", "/site/+", "x")[0] == 400
        assert "EventSource" in request(pages, "GET", "/")[1]
        stranger = Client(device.url, Connect("stranger"))
        assert stranger.next_of(ConnAck) == ConnAck(False, 0x87)
        stranger.hang_up()
        device.close()
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE_S) == 0


@needs_sigint
def test_the_gateway_takes_questions_to_devices_and_keeps_their_states() -> None:
    pytest.importorskip("flask")
    pytest.importorskip("gevent")
    with running("flask_gateway.py", "0", "tcp://127.0.0.1:0") as program:
        url = told(program, "devices on")
        pages = told(program, "pages on").removeprefix("http://")
        lamp = connected(url, "lamp-1", b"one")
        lamp.connection.send_subscribe([("ask/lamp-1", 0), ("ask/lamp-2", 0)], 0.0)
        lamp.flush()
        answer = lamp.next_of(SubAck)
        assert isinstance(answer, SubAck)
        assert answer.reasons == (0, 0x87)  # the other's questions are not its own
        lamp.connection.send_publish("state/lamp-1", b"off", qos=1, now=0.0)
        lamp.flush()
        lamp.next_of(PubAck)
        assert request(pages, "GET", "/devices/lamp-1") == (200, "off")
        assert request(pages, "GET", "/devices/lamp-2")[0] == 404

        def answer_it() -> None:
            question = lamp.next_of(Publish)
            assert isinstance(question, Publish)
            topic = properties.text(question.message.properties, properties.RESPONSE_TOPIC)
            assert topic is not None
            lamp.connection.send_publish(topic, question.payload + b"? yes", now=0.0)
            lamp.flush()

        answering = threading.Thread(target=answer_it)
        answering.start()
        assert request(pages, "POST", "/devices/lamp-1/ask", "on") == (200, "on? yes")
        answering.join(PATIENCE_S)
        lamp.close()
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE_S) == 0


def request(address: str, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    """Status and text of an HTTP response."""
    with contextlib.closing(HTTPConnection(address, timeout=PATIENCE_S)) as connection:
        connection.request(method, path, body, {"Content-Type": "text/plain"})
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_two_hundred_devices() -> None:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "two_hundred_devices.py")],
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE_S,
    )
    assert (ran.stdout, ran.stderr) == ("200 devices, 940 readings, 20 devices broke down\n", "")
