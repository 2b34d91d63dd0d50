"""Programs of other people, in MQTT 5.0 and beside 3.1.1, on every runtime."""

from __future__ import annotations

import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TypeVar

import pytest

from mqtt_core import (
    MQTT_5,
    ConnAck,
    Connect,
    Connection,
    Packet,
    PubAck,
    Publish,
    SubAck,
    encode,
    make_publish,
    properties,
)
from mqtt_core.broker import Limits, LimitValue
from tests.adapters.rig import PATIENCE_S, Client, RunningServer

needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto_sub") is None,
    reason="mosquitto_sub is not installed (apt-get install mosquitto-clients)",
)
needs_paho_c = pytest.mark.skipif(
    shutil.which("paho_c_pub") is None,
    reason="paho_c_pub is not installed (apt-get install paho.mqtt.c-examples)",
)

Event = TypeVar("Event", bound=Packet)

ALL = "%t|%q|%r|%p|%C|%R|%D|%E|%F|%P|%S"  # of a message, for mosquitto_sub
READY = "site/ready"


class Program:
    """A running program, and the lines that it prints."""

    def __init__(self, *command: str, lines: queue.SimpleQueue[str] | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines = queue.SimpleQueue() if lines is None else lines  # which others may share
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("(the end)")

    def line(self) -> str:
        """The next line that it prints."""
        return self._lines.get(timeout=PATIENCE_S)

    def line_with(self, text: str) -> str:
        """The next line that has this in it; those before are passed over."""
        seen = []
        while text not in (line := self.line()):
            seen.append(line)
            assert line != "(the end)", seen
        return line

    def pause(self) -> None:
        """Let it stand still, connected, reading nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash does, if it has not ended."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Programs:
    """Starts clients of one server."""

    def __init__(self, server: RunningServer, stack: ExitStack) -> None:
        self.address = host, port = server.address
        self._at = ("-h", host, "-p", str(port))
        self._stack = stack
        with Client(server.address).open("marker") as marker:  # for who has subscribed to see
            marker.send(encode(make_publish(READY, b"ready", retain=True)))
            marker.ping()

    def start(
        self, program: str, *options: str, lines: queue.SimpleQueue[str] | None = None
    ) -> Program:
        """A program that runs until the test is over."""
        found = Program(program, *self._at, *options, lines=lines)
        self._stack.callback(found.kill)
        return found

    def subscriber(self, *options: str) -> Program:
        """A mosquitto_sub that has subscribed to site/#."""
        found = self.start("mosquitto_sub", "-t", "site/#", *options)
        assert "ready" in found.line()
        return found

    def run(self, program: str, *options: str) -> str:
        """Run a program to its end, which must be a good one; what it printed."""
        done = subprocess.run(
            [program, *self._at, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout


@pytest.fixture
def programs(runtime: str) -> Iterator[Programs]:
    """Programs at a server of their own."""
    with RunningServer(runtime) as server, ExitStack() as stack:
        yield Programs(server, stack)


def with_properties(*more: str) -> list[str]:
    """Options of mosquitto_pub for properties of all kinds."""
    given = (
        ("content-type", "text/plain"),
        ("response-topic", "site/back"),
        ("correlation-data", "mark"),
        ("message-expiry-interval", "3600"),
        ("payload-format-indicator", "1"),
        ("user-property", "unit", "C"),
        ("user-property", "unit", "F"),
    )
    return [word for each in given for word in ("-D", "publish", *each)] + list(more)


@needs_mosquitto
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_properties_go_through_and_older_clients_get_the_message(
    qos: str, programs: Programs
) -> None:
    identified = ("-D", "subscribe", "subscription-identifier", "7")
    new = programs.subscriber("-V", "mqttv5", "-q", qos, "-F", ALL, *identified)
    old = programs.subscriber("-V", "mqttv311", "-q", qos, "-F", "%t|%q|%r|%p")
    message = ("-t", "site/1", "-q", qos, "-m")
    programs.run("mosquitto_pub", "-V", "mqttv5", *with_properties(), *message, "new")
    programs.run("mosquitto_pub", "-V", "mqttv311", *message, "old")
    own = "text/plain|site/back|mark|3600|1|unit:C unit:F"
    assert new.line() == f"site/1|{qos}|0|new|{own}|7"
    assert new.line() == f"site/1|{qos}|0|old|" + "|" * 6 + "7"
    assert [old.line(), old.line()] == [f"site/1|{qos}|0|{text}" for text in ("new", "old")]


class Responder:
    """A client of our own that answers a request in capitals."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = Client(address)
        self.connection = Connection()
        self.connection.send_connect(Connect("responder", level=MQTT_5), 0.0)
        self.next_of(ConnAck)
        self.connection.send_subscribe([("site/question", 1)], 0.0)
        self.next_of(SubAck)

    def flush(self) -> None:
        """Send what there is to be sent."""
        self.socket.send(*iter(self.connection.data_to_send, b""))

    def next_of(self, kind: type[Event]) -> Event:
        """The next packet of a type; others are passed over."""
        while True:
            self.flush()
            self.connection.receive_data(self.socket.receive_packet(), 0.0)
            for event in self.connection.events():
                if isinstance(event, kind):
                    return event

    def answer(self) -> None:
        """Wait for a request, and answer where it wants that, with what it came with."""
        given = self.next_of(Publish).message
        topic = properties.text(given.properties, properties.RESPONSE_TOPIC)
        mark = properties.binary(given.properties, properties.CORRELATION_DATA)
        assert topic is not None
        assert mark is not None
        same = ((properties.CORRELATION_DATA, mark),)
        capitals = given.payload.upper()
        self.connection.send_publish(topic, capitals, 1, now=0.0, properties=same)
        self.next_of(PubAck)
        self.socket.close()


@needs_mosquitto
def test_a_request_gets_its_response(programs: Programs) -> None:
    responder = Responder(programs.address)
    request = ("-t", "site/question", "-e", "site/answers/me", "-m", "what is it?", "-q", "1")
    mark = ("-D", "publish", "correlation-data", "1234")
    client = programs.start("mosquitto_rr", "-V", "mqttv5", *request, *mark, "-F", "%t|%p|%D")
    responder.answer()
    assert client.line() == "site/answers/me|WHAT IS IT?|1234"
    assert client.line() == "(the end)"


@needs_mosquitto
def test_the_will_of_a_killed_program_has_its_properties(programs: Programs) -> None:
    watchers = [programs.subscriber("-V", "mqttv5", "-F", "%t|%p|%C|%P")]
    watchers.append(programs.subscriber("-V", "mqttv311", "-F", "%t|%p||"))
    will = ("--will-topic", "site/will", "--will-payload", "gone", "--will-qos", "1")
    own = ("-D", "will", "content-type", "text/plain", "-D", "will", "user-property", "why", "?")
    programs.subscriber("-V", "mqttv5", *will, *own).kill()
    assert [watcher.line() for watcher in watchers] == [
        "site/will|gone|text/plain|why:?",
        "site/will|gone||",
    ]


@needs_mosquitto
def test_a_session_waits_for_its_client_in_either_version(programs: Programs) -> None:
    new = ("-V", "mqttv5", "-i", "new", "-c", "-x", "3600", "-q", "1", "-t", "site/#")
    old = ("-V", "mqttv311", "-i", "old", "-c", "-q", "1", "-t", "site/#")
    for options in (new, old):
        programs.run("mosquitto_sub", *options, "-E")  # leaves when it has subscribed
    programs.run(
        "mosquitto_pub", "-V", "mqttv5", "-t", "site/1", "-q", "1", "-m", "kept",
        *with_properties("-D", "publish", "user-property", "a", "b"),
    )  # fmt: skip
    shown = [
        programs.start("mosquitto_sub", *options, "-C", "2", "-F", "%t|%p|%P").line_with("kept")
        for options in (new, old)
    ]
    assert shown == ["site/1|kept|unit:C unit:F a:b", "site/1|kept|"]


@needs_mosquitto
def test_a_pool_works_on_when_a_member_is_slow_and_another_dies(programs: Programs) -> None:
    """Every job is done by somebody: what the dead one left, too."""
    jobs = [f"job {number}" for number in range(400)]
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    pool = ("-V", "mqttv5", "-q", "1", "-t", "$share/pool/jobs", "-t", READY, "-F")
    members = {
        name: programs.start("mosquitto_sub", *pool, f"{name}|%p", "-i", name, lines=done)
        for name in ("fast", "slow", "doomed")
    }
    assert {done.get(timeout=PATIENCE_S) for _ in members} == {f"{each}|ready" for each in members}
    members["slow"].pause()
    with Client(programs.address).open("boss") as boss:
        for number, job in enumerate(jobs):
            if number == len(jobs) // 2:
                members["doomed"].pause()  # so that it leaves something behind
            elif number == len(jobs) * 3 // 4:
                members["doomed"].kill()
            boss.send(encode(make_publish("jobs", job.encode(), 1, packet_id=1)))
            assert boss.receive_packet()[0] >> 4 == 4  # PUBACK
    members["slow"].resume()
    by: dict[str, set[str]] = {name: set() for name in members}
    while set().union(*by.values()) != set(jobs):
        name, bar, job = done.get(timeout=PATIENCE_S).partition("|")
        if bar:  # else the end of one
            by[name].add(job)
    assert len(by["fast"]) > len(jobs) // 2
    assert by["slow"]
    assert by["doomed"]


@needs_mosquitto
@needs_paho_c
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_paho_and_mosquitto_understand_each_other(qos: str, programs: Programs) -> None:
    paho = programs.start("paho_c_sub", "-V", "5", "-t", "site/#", "-q", qos, "-i", "reader", "-v")
    assert paho.line_with(READY)
    mosquitto = programs.subscriber("-V", "mqttv5", "-q", qos, "-F", "%t|%q|%p|%E|%P")
    message = ("-t", "site/1", "-q", qos, "-m")
    own = ("--message-expiry", "3600", "--user-property", "unit", "C")
    programs.run("paho_c_pub", "-V", "5", *message, "from paho", *own)
    assert mosquitto.line() == f"site/1|{qos}|from paho|3600|unit:C"
    assert paho.line_with("site/1").endswith("from paho")
    assert "unit" in paho.line_with("USER_PROPERTY")
    programs.run("mosquitto_pub", "-V", "mqttv5", *message, "from mosquitto", *with_properties())
    assert paho.line_with("site/1").endswith("from mosquitto")
    assert "text/plain" in paho.line_with("CONTENT_TYPE")


@needs_mosquitto
@pytest.mark.parametrize(
    ("limits", "options", "said"),
    [
        ({"maximum_qos": 1}, ["-t", "site/1", "-m", "x", "-q", "2"], "QoS not supported"),
        ({"server_reference": "b", "server_redirect": "moved"}, ["-t", "t", "-m", "x"], "moved"),
    ],
    ids=["qos", "moved"],
)
def test_a_program_sees_why_it_is_not_served(
    limits: dict[str, LimitValue], options: list[str], said: str, runtime: str
) -> None:
    with RunningServer(runtime, limits=Limits(**limits)) as server:
        host, port = server.address
        done = subprocess.run(
            ["mosquitto_pub", "-h", host, "-p", str(port), "-V", "mqttv5", *options],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert said in done.stderr
