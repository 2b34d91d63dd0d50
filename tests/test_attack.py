"""A hostile client on a real socket: it is closed with one line that says why, and harms nobody."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_core.broker import FACT_ERROR, Fact, Limits, MemoryEngine, SaveSent
from tests.adapters.rig import (
    PATIENCE_S,
    PINGREQ,
    Client,
    RunningServer,
    connect,
    packet,
    publish,
    subscribe,
    text,
    u16,
)
from tests.core import wire
from tests.rig import HoldingEngine, RefusingEngine, Rig, writes

SERVE = Path(__file__).parent / "adapters" / "serve.py"
CONNECTED = b"\x20\x02\x00\x00"
HELLO = connect("mallory")


@pytest.fixture(params=["uvloop", "gevent"])
def runtime(request: pytest.FixtureRequest) -> str:
    """The runtime under attack."""
    return str(request.param)


@contextlib.contextmanager
def innocent(server: RunningServer) -> Iterator[Client]:
    """Someone who is connected all the while, and is served as if nothing happened."""
    with Client(server.address).open("alice").subscribe("alice") as client:
        assert server.next_fact("client.connected").client_id == "alice"
        yield client
        client.send(publish("alice", b"still here"))
        assert client.receive_packet() == publish("alice", b"still here")
    assert server.server._drive.broker.stats.faults == 0


# What is sent before CONNECT is accepted: bytes, statement, offset.
FIRST_BYTES: dict[str, tuple[bytes, str, int]] = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "MQTT-3.1.0-1", 0),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "MQTT-2.2.2-2", 0),
    "zeros": (bytes(1_000), "MQTT-3.1.0-1", 0),
    "ones": (b"\xff" * 1_000, "MQTT-3.1.0-1", 0),
    "flags": (b"\x11" + HELLO[1:], "MQTT-2.2.2-2", 0),
    "length of five bytes": (b"\x10\xff\xff\xff\xff\x01", "", 5),
    "256 MB announced": (b"\x10\xff\xff\xff\x7f", "", 0),
    "name": (packet(0x10, text("MQTX"), b"\x04\x02\x00\x00", text("m")), "MQTT-3.1.2-1", 2),
    "reserved flag": (packet(0x10, text("MQTT"), b"\x04\x03\0\0", text("m")), "MQTT-3.1.2-3", 9),
    "client id": (
        packet(0x10, text("MQTT"), b"\x04\x02\0\0", text(b"\xff\xfe")),
        "MQTT-3.1.3-4",
        12,
    ),
    "ends early": (packet(0x10, text("MQTT"), b"\x04\x02\0"), "MQTT-3.1.4-1", 10),
    "goes on too long": (
        packet(0x10, text("MQTT"), b"\x04\x02\0\0", text("m"), b"surplus"),
        "MQTT-3.1.2-11",
        15,
    ),
}


@pytest.mark.parametrize("what", FIRST_BYTES)
def test_what_is_no_connect(runtime: str, what: str) -> None:
    data, statement, offset = FIRST_BYTES[what]
    with (
        RunningServer(runtime) as server,
        innocent(server),
        Client(server.address) as attacker,
    ):
        attacker.send(data)
        assert attacker.is_at_end()
        fact = server.next_fact("client.refused")
        assert (fact.statement, fact.offset) == (statement, offset)
        assert fact.cause == "protocol violation"
        assert fact.severity < FACT_ERROR
        assert fact.error is None


# What is sent by a client that has been accepted: bytes, statement, offset behind its CONNECT.
LATER_BYTES: dict[str, tuple[bytes, str, int]] = {
    "second CONNECT": (HELLO, "MQTT-3.1.0-2", 0),
    "garbage": (b"\x00garbage", "MQTT-4.8.0-1", 0),
    "what servers send": (b"\x20\x02\x00\x00", "MQTT-4.8.0-1", 0),
    "length of five bytes": (b"\x30\x80\x80\x80\x80\x01", "", 5),
    "256 MB announced": (b"\x30\xff\xff\xff\x7f" + text("t"), "", 0),
    "SUBSCRIBE with no filter": (packet(0x82, u16(1)), "MQTT-3.8.3-3", 4),
    "UNSUBSCRIBE with no filter": (packet(0xA2, u16(1)), "MQTT-3.10.3-2", 4),
    "filter that is not UTF-8": (
        packet(0x82, u16(1), text(b"a/\xc3\x28"), b"\0"),
        "MQTT-3.8.3-1",
        4,
    ),
    "topic that is not UTF-8": (packet(0x30, text(b"\xed\xa0\x80")), "MQTT-1.5.3-1", 4),
    "U+0000 in a topic": (packet(0x30, text("a\0b")), "MQTT-4.7.3-2", 4),
    "# in a topic": (packet(0x30, text("a/#")), "MQTT-3.3.2-2", 4),
    "+ in a topic": (packet(0x30, text("a/+")), "MQTT-3.3.2-2", 4),
    "# that is not the last level": (subscribe("a/#/b", 0), "MQTT-4.7.1-2", 4),
    "empty topic": (packet(0x30, text("")), "MQTT-4.7.3-1", 4),
    "topic longer than its packet": (b"\x30\x04\xff\xffab", "MQTT-3.3.2-1", 2),
    "packet identifier 0": (publish("t", b"", 1, 0), "MQTT-2.3.1-1", 5),
    "SUBSCRIBE with identifier 0": (subscribe("t", 0, 0), "MQTT-2.3.1-1", 2),
    "PUBACK for nothing": (packet(0x40, u16(7)), "MQTT-2.3.1-6", 0),
    "PUBREC for nothing": (packet(0x50, u16(7)), "MQTT-2.3.1-6", 0),
    "PUBCOMP for nothing": (packet(0x70, u16(65_535)), "MQTT-2.3.1-6", 0),
    "QoS 3": (packet(0x36, text("t"), u16(1)), "MQTT-3.3.1-4", 0),
    "subscription at QoS 3": (subscribe("t", 3), "MQTT-3.8.3-4", 7),
    "DUP at QoS 0": (packet(0x38, text("t")), "MQTT-3.3.1-2", 0),
    "PUBREL with wrong flags": (packet(0x60, u16(1)), "MQTT-3.6.1-1", 0),
    "PINGREQ with a body": (b"\xc0\x01x", "", 2),
    "DISCONNECT with flags": (b"\xe1\x00", "MQTT-3.14.1-1", 0),
    "topic of 129 levels": (publish("/" * 128, b""), "", 0),
}


@pytest.mark.parametrize("in_bytes", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("what", LATER_BYTES)
def test_what_a_client_may_not_send(runtime: str, what: str, in_bytes: bool) -> None:
    data, statement, offset = LATER_BYTES[what]
    with (
        RunningServer(runtime) as server,
        innocent(server),
        Client(server.address) as attacker,
    ):
        with contextlib.suppress(ConnectionError):  # it may be closed on the first byte
            for piece in [bytes([byte]) for byte in HELLO + data] if in_bytes else [HELLO, data]:
                attacker.send(piece)
        with contextlib.suppress(ConnectionError):
            assert attacker.receive(4) == CONNECTED
            assert attacker.is_at_end()
        fact = server.next_fact("client.disconnected")
        assert (fact.statement, fact.offset) == (statement, len(HELLO) + offset)
        assert fact.cause == "protocol violation"
        assert fact.error is None


ROUNDS = 1_000
"""Round trips that a condition is waited for."""


def test_an_unfinished_packet_reserves_nothing(runtime: str) -> None:
    """A thousand packets of 1 MiB are announced; only what has come is held."""
    limits = Limits(total_input_bytes=200_000)
    with (
        RunningServer(runtime, limits=limits) as server,
        innocent(server),
        contextlib.ExitStack() as stack,
    ):
        for number in range(200):
            attacker = stack.enter_context(Client(server.address))
            attacker.open(f"mallory-{number}").send(b"\x30\xf0\xff\x3f" + text("t") + bytes(100))
            attacker.send(b"x")
        assert server.server._drive.broker.stats.clients_connected == 201


def test_silent_connections_take_no_clients_place(runtime: str) -> None:
    limits = Limits(max_half_connected=50, connect_timeout_secs=0.3)
    with (
        RunningServer(runtime, limits=limits) as server,
        innocent(server),
        contextlib.ExitStack() as stack,
    ):
        silent = [stack.enter_context(Client(server.address)) for _ in range(200)]
        for client in silent:
            with contextlib.suppress(ConnectionResetError):
                assert client.is_at_end()
        stats = server.server._drive.broker.stats
        assert (stats.connections, stats.half_connected) == (1, 0)
        stack.enter_context(Client(server.address)).open("bob").ping()


def test_out_of_descriptors_accepting_pauses_and_goes_on(runtime: str) -> None:
    """With as many connections as descriptors allow, one line is written and nobody is lost."""
    if runtime == "uvloop":
        runtime = "asyncio"
    with (
        subprocess.Popen(
            [sys.executable, str(SERVE), runtime, "descriptors=64"],
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
        contextlib.ExitStack() as stack,
    ):
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline().rsplit(":", 1)[1])
            alice = stack.enter_context(Client(("127.0.0.1", port))).open("alice")
            crowd = [stack.enter_context(Client(("127.0.0.1", port))) for _ in range(100)]
            lines = [server.stdout.readline()]
            while not lines[-1].startswith("accept."):
                lines.append(server.stdout.readline())
            assert "ulimit -n" in lines[-1]
            alice.ping()
            for client in crowd:
                client.close()
            while not lines[-1].startswith("accept.resumed"):
                lines.append(server.stdout.readline())
            stack.enter_context(Client(("127.0.0.1", port))).open("bob").ping()
            assert sum(line.startswith("accept.paused") for line in lines) == 1
        finally:
            server.terminate()
            assert server.wait(PATIENCE_S) == 0


def drain(clients: list[Client], until: threading.Event) -> threading.Thread:
    """Read and forget what comes, in a thread."""

    def run() -> None:
        sockets = [client.socket for client in clients]
        while not until.is_set():
            for readable in select.select(sockets, [], [], 0.05)[0]:
                readable.recv(1 << 18)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def flood(client: Client, data: bytes, until: threading.Event) -> threading.Thread:
    """Send the same again and again, in a thread."""

    def run() -> None:
        client.socket.settimeout(0.1)
        at = 0
        while not until.is_set():
            with contextlib.suppress(TimeoutError):
                at = (at + client.socket.send(data[at:])) % len(data)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.slow
def test_two_that_publish_to_each_other_at_full_speed_do_not_stop(runtime: str) -> None:
    over = threading.Event()
    with (
        RunningServer(runtime) as server,
        innocent(server) as alice,
        Client(server.address).open("a").subscribe("to-a") as a,
        Client(server.address).open("b").subscribe("to-b") as b,
    ):
        threads = [
            flood(a, publish("to-b", bytes(100)) * 500, over),
            flood(b, publish("to-a", bytes(100)) * 500, over),
        ]
        try:
            for _ in range(20):
                alice.ping()
                for client in (a, b):  # each has something new, again and again
                    assert select.select([client.socket], [], [], PATIENCE_S)[0]
                    assert client.socket.recv(1 << 20)
        finally:
            over.set()
            for thread in threads:
                thread.join()


@pytest.mark.slow
def test_a_flood_to_many_subscribers_leaves_others_their_turn(runtime: str) -> None:
    over = threading.Event()
    with (
        RunningServer(runtime) as server,
        innocent(server) as alice,
        contextlib.ExitStack() as stack,
    ):
        crowd = [
            stack.enter_context(Client(server.address)).open(f"c{number}").subscribe("crowd")
            for number in range(500)
        ]
        mallory = stack.enter_context(Client(server.address)).open("mallory")
        threads = [drain(crowd, over), flood(mallory, publish("crowd", bytes(50)) * 500, over)]
        try:
            for number in range(50):
                alice.send(publish("alice", u16(number)))
                assert alice.receive_packet() == publish("alice", u16(number))
        finally:
            over.set()
            for thread in threads:
                thread.join()


@pytest.mark.slow
def test_many_pings_without_reading_end_that_connection(runtime: str) -> None:
    limits = Limits(max_unread_answers_bytes=4_096)
    with (
        RunningServer(runtime, limits=limits) as server,
        innocent(server),
        Client(server.address, receive_buffer_bytes=4_096, segment_bytes=1_000) as attacker,
    ):
        attacker.open("mallory")
        with contextlib.suppress(ConnectionError):
            while True:
                attacker.send(PINGREQ * 50_000)
        assert (
            server.next_fact("client.disconnected").cause
            == "the client does not read its acknowledgements"
        )


def test_a_reset_in_the_middle_of_everything(runtime: str) -> None:
    """Connections that break at every byte of an exchange leave nothing behind."""
    exchange = HELLO + subscribe("t", 2) + publish("t", b"x", 2, 1) + packet(0x62, u16(1)) + PINGREQ
    ended = threading.Semaphore(0)

    def on_fact(fact: Fact) -> None:
        if fact.name in ("client.silent", "client.refused", "client.disconnected"):
            ended.release()

    with RunningServer(runtime, on_fact=on_fact) as server, innocent(server) as onlooker:
        for cut in range(1, len(exchange) + 1):
            with Client(server.address) as attacker:
                attacker.send(exchange[:cut])
                if cut % 2:
                    attacker.reset()
        for _ in exchange:
            assert ended.acquire(timeout=PATIENCE_S)
        broker = server.server._drive.broker
        stats = broker.stats
        for _ in range(ROUNDS):  # a connection that lingers is counted until its socket is gone
            if stats.connections == 1:
                break
            onlooker.ping()
        assert (stats.connections, stats.half_connected, broker.session_count) == (1, 0, 1)
        assert (stats.queued_messages, broker.subscription_count) == (0, 1)


def test_clients_that_take_over_from_each_other(runtime: str) -> None:
    """One identifier, many connections at once: one is left, and each will is published once."""
    with (
        RunningServer(runtime) as server,
        innocent(server),
        Client(server.address).open("watcher").subscribe("will") as watcher,
        contextlib.ExitStack() as stack,
    ):
        crowd = [stack.enter_context(Client(server.address)) for _ in range(100)]
        for number, client in enumerate(crowd):
            fields = b"\x04\x06", u16(0), text("mallory"), text("will"), text(u16(number))
            client.send(packet(0x10, text("MQTT"), *fields))
        answered = set()
        for number, client in enumerate(crowd):
            with contextlib.suppress(ConnectionResetError):
                if client.receive(4) == CONNECTED:
                    answered.add(number)
        wills = [watcher.receive_packet()[-2:] for _ in range(len(answered) - 1)]
        assert len(set(wills)) == len(wills)
        assert {int.from_bytes(will, "big") for will in wills} < answered
        watcher.ping()
        assert server.server._drive.broker.stats.clients_connected == 3


# Against the core alone, where every interleaving can be had.


def a_crowd(rig: Rig, count: int) -> None:
    """Enough subscribers of `wide` that a fan-out to them is cut into turns."""
    for number in range(count):
        rig.connect(f"crowd-{number}").subscribe(("wide", 0))


def test_a_message_overtaken_while_its_fan_out_is_cut_is_not_lost() -> None:
    rig = Rig(turn_deliveries=100, max_inflight_messages=2)
    receiver = rig.persistent("receiver")
    receiver.subscribe(("wide", 1), ("narrow", 1))
    a_crowd(rig, 300)
    slow, quick = rig.connect("slow"), rig.connect("quick")
    quick.send(wire.publish("narrow", b"1", 1, 1), wire.publish("narrow", b"2", 1, 2))
    acks = b"".join(wire.puback(received.packet_id) for received in receiver.publishes())
    filler = wire.publish("nobody", b"") * 120
    slow.send(filler, wire.publish("wide", b"wide", 1, 1), pump=False)
    for _ in range(2):
        rig.broker.advance(rig.now)
    quick.send(wire.publish("narrow", b"3", 1, 3), pump=False)
    rig.exchange()
    receiver.send(acks)
    assert slow.take() == wire.puback(1)
    assert sorted(receiver.payloads()) == [b"3", b"wide"]


def test_acknowledgements_of_a_cut_fan_out_leave_nothing_in_the_store() -> None:
    engine = MemoryEngine(Limits())
    rig = Rig(engine=engine, turn_deliveries=100)
    crowd = [rig.persistent(f"crowd-{number}") for number in range(300)]
    for client in crowd:
        client.subscribe(("wide", 1))
    publisher = rig.connect("publisher")
    message = wire.publish("wide", b"x", 1, 1) + wire.publish("wide", b"y", 1, 2)
    publisher.send(message, pump=False)
    while rig.turn():
        for client in crowd:
            acks = [wire.puback(received.packet_id) for received in client.publishes()]
            client.send(*acks, pump=False)
    for client in crowd:
        client.cut()
        back = rig.persistent(client.name, present=True)
        assert back.take() == b""
    assert not any(session.sent for session in engine._sessions.values())


def test_what_the_store_refuses_to_note_as_sent_comes_in_order_later() -> None:
    refuses = False
    inner = MemoryEngine(Limits())
    sent = writes(SaveSent)
    rig = Rig(engine=RefusingEngine(inner, lambda at, request: refuses and sent(at, request)))
    receiver = rig.persistent("receiver")
    receiver.subscribe(("t", 2))
    receiver.cut()
    publisher = rig.connect("publisher")
    for number in range(1, 5):
        publisher.send(wire.publish("t", b"%d" % number, 2, number), wire.pubrel(number))
    refuses = True
    assert rig.persistent("receiver", present=True).is_closed
    refuses = False
    assert rig.persistent("receiver", present=True).payloads() == [b"1", b"2", b"3", b"4"]


def test_a_slow_reader_may_acknowledge_while_it_gets_everything_again() -> None:
    rig = Rig()
    receiver = rig.persistent("receiver")
    receiver.subscribe(("t", 1))
    publisher = rig.connect("publisher")
    for number in range(1, 101):
        publisher.send(wire.publish("t", b"%03d" % number + bytes(60_000), 1, number))
    receiver.cut()
    receiver = rig.open("receiver")
    receiver.room_bytes = 200_000
    receiver.send(wire.connect("receiver", clean=False))
    receiver.received = receiver.received[4:]
    payloads: list[int] = []
    while len(payloads) < 100 and not receiver.is_closed:
        frames = receiver.frames()
        received = [wire.read_publish(frame) for frame in frames if frame.first >> 4 == 3]
        payloads += [int(publish.payload[:3]) for publish in received]
        receiver.send(*(wire.puback(publish.packet_id) for publish in received), PINGREQ)
        receiver.unblock(200_000)
    assert payloads == list(range(1, 101))


def test_unfinished_packets_close_those_who_sent_them() -> None:
    rig = Rig(total_input_bytes=8_192)
    attacker = rig.connect("attacker")
    attacker.send(wire.publish("t", bytes(8_180))[:8_100])
    victim = rig.connect("victim")
    victim.send(wire.publish("t", bytes(300))[:200])
    assert attacker.is_closed
    assert not victim.is_closed


def test_acknowledgements_behind_a_slow_store_are_bounded() -> None:
    rig = Rig(max_uncommitted_messages=100)
    client = rig.persistent("client")
    rig.engine = HoldingEngine(rig.engine)
    client.send(wire.subscribe(9, ("a", 1)))
    client.send(b"".join(wire.publish("nobody", b"", 1, number) for number in range(1, 1_001)))
    assert not client.channel.wants_read
    assert len(client.channel.acks or ()) <= 100
    rig.settle()
    assert client.take().endswith(wire.puback(1_000))


def test_sessions_that_stay_away_starve_nobody() -> None:
    rig = Rig(total_queued_bytes=200_000, max_queued_bytes=50_000)
    for number in range(5):
        hoarder = rig.persistent(f"hoarder-{number}")
        hoarder.subscribe(("#", 1))
        hoarder.cut()
    publisher = rig.connect("publisher")
    worker = rig.connect("worker")
    worker.subscribe(("work", 1))
    for number in range(1, 61):
        publisher.send(wire.publish("noise", bytes(1_000), 1, number))
    publisher.send(*(wire.publish("work", b"%02d" % number, 1, number) for number in range(1, 21)))
    assert worker.payloads() == [b"%02d" % number for number in range(1, 21)]


def test_refusing_goes_before_dropping_also_behind_a_message_at_qos_0() -> None:
    rig = Rig(queue_full_policy="refuse", max_queued_bytes=1_000)
    receiver = rig.connect("receiver")
    receiver.subscribe(("t", 1), ("zero", 0))
    receiver.block()
    publisher = rig.connect("publisher")
    publisher.send(wire.publish("zero", b"x"), wire.publish("t", bytes(5_000), 1, 1))
    assert publisher.is_closed
    assert publisher.take() == b""
    assert rig.broker.stats.dropped_queue_full == 0


def test_wildcards_that_multiply_are_charged_to_who_makes_them_walk() -> None:
    """Each unique topic visits 2,048 nodes for nothing: a chunk of them takes many turns."""
    rig = Rig()
    levels = 10
    filters = [
        "/".join("a" if number >> bit & 1 else "+" for bit in range(levels)) + "/z"
        for number in range(1 << levels)
    ]
    rig.connect("attacker").subscribe(*((topic_filter, 0) for topic_filter in filters))
    attacker = rig.connect("other")
    chunk = b"".join(wire.publish("a/" * levels + str(number), b"") for number in range(1_000))
    before = rig.broker.stats.publishes_received
    attacker.send(chunk, pump=False)
    assert rig.broker.stats.publishes_received - before < 100
    rig.pump()
    assert rig.broker.stats.publishes_received - before == 1_000


def test_a_will_comes_although_the_fan_out_before_it_fails() -> None:
    rig = Rig(turn_deliveries=100)
    watcher = rig.connect("watcher")
    watcher.subscribe(("gone", 0))
    a_crowd(rig, 300)
    publisher = rig.connect("publisher", will=("gone", b"bye", 0, False))
    filler = wire.publish("nobody", b"") * 120
    publisher.send(filler, wire.publish("wide", b"x", 1, 1), pump=False)
    rig.broker.advance(rig.now)
    fan_out = publisher.channel.fan_out
    assert fan_out is not None
    del fan_out._granted[:]  # so that it fails
    rig.pump()
    assert publisher.is_closed
    assert watcher.payloads() == [b"bye"]
    assert rig.broker.stats.faults == 1


def test_answers_that_waited_for_the_store_count_as_unread_too() -> None:
    rig = Rig(max_unread_answers_bytes=4_096)
    client = rig.persistent("client")
    client.block()
    exchanges = [
        wire.publish("nobody", b"", 2, number) + wire.pubrel(number) for number in range(1, 501)
    ]
    for _ in range(40):
        client.send(*exchanges)
    assert client.is_closed
