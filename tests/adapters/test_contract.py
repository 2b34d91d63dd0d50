"""What a server does on its sockets, the same on every runtime."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from mqtt_core.broker import Fact, Limits
from tests.adapters.rig import (
    DISCONNECT,
    PATIENCE_S,
    PINGREQ,
    PINGRESP,
    Client,
    RunningServer,
    address_of,
    connect,
    packet,
    publish,
    subscribe,
    text,
    u16,
)

HAS_IPV6 = socket.has_ipv6


def test_a_message_at_each_qos(runtime: str) -> None:
    with (
        RunningServer(runtime) as server,
        Client(server.address).open("publisher") as publisher,
        Client(server.address).open("subscriber").subscribe("a/+", 2) as subscriber,
    ):
        publisher.send(publish("a/b", b"zero"))
        assert subscriber.receive_packet() == publish("a/b", b"zero")

        publisher.send(publish("a/b", b"one", 1, 10))
        assert publisher.receive_packet() == packet(0x40, u16(10))
        delivered = subscriber.receive_packet()
        packet_id = delivered[7:9]
        assert delivered == publish("a/b", b"one", 1, int.from_bytes(packet_id, "big"))
        subscriber.send(packet(0x40, packet_id))

        publisher.send(publish("a/b", b"two", 2, 11))
        assert publisher.receive_packet() == packet(0x50, u16(11))
        publisher.send(packet(0x62, u16(11)))
        assert publisher.receive_packet() == packet(0x70, u16(11))
        delivered = subscriber.receive_packet()
        packet_id = delivered[7:9]
        assert delivered == publish("a/b", b"two", 2, int.from_bytes(packet_id, "big"))
        subscriber.send(packet(0x50, packet_id))
        assert subscriber.receive_packet() == packet(0x62, packet_id)
        subscriber.send(packet(0x70, packet_id))
        subscriber.ping()


def test_packets_may_come_byte_by_byte(runtime: str) -> None:
    with RunningServer(runtime) as server, Client(server.address) as client:
        for byte in connect("slow") + subscribe("t", 0, 5) + publish("t", b"x") + PINGREQ:
            client.send(bytes([byte]))
        assert client.receive(4) == b"\x20\x02\x00\x00"
        assert client.receive(5) == b"\x90\x03\x00\x05\x00"
        assert client.receive_packet() == publish("t", b"x")
        assert client.receive(2) == PINGRESP


def test_packets_may_come_all_at_once_and_are_answered_in_order(runtime: str) -> None:
    with RunningServer(runtime) as server, Client(server.address) as client:
        client.send(connect("eager"), subscribe("t", 0, 5), PINGREQ * 1_000)
        assert client.receive(4 + 5) == b"\x20\x02\x00\x00\x90\x03\x00\x05\x00"
        assert client.receive(2_000) == PINGRESP * 1_000


def test_a_large_payload_arrives_whole(runtime: str) -> None:
    payload = bytes(range(256)) * 4_000
    with (
        RunningServer(runtime, limits=Limits(max_packet_size_bytes=2_000_000)) as server,
        Client(server.address).open("publisher") as publisher,
        Client(server.address, receive_buffer_bytes=8_192).open("one").subscribe("t") as one,
        Client(server.address).open("two").subscribe("t") as two,
    ):
        publisher.send(publish("t", payload), publish("t", b"end"))
        for receiver in (one, two):
            assert receiver.receive_packet() == publish("t", payload)
            assert receiver.receive_packet() == publish("t", b"end")


def test_disconnect_ends_the_connection(runtime: str) -> None:
    with RunningServer(runtime) as server, Client(server.address).open("client") as client:
        client.send(DISCONNECT)
        assert client.is_at_end()


def test_a_peer_that_ends_its_side_is_let_go_and_its_will_is_published(runtime: str) -> None:
    with (
        RunningServer(runtime) as server,
        Client(server.address).open("watcher").subscribe("gone") as watcher,
        Client(server.address) as client,
    ):
        client.send(
            packet(
                0x10, text("MQTT"), b"\x04\x06", u16(0), text("willing"), text("gone"), text("bye")
            )
        )
        assert client.receive(4) == b"\x20\x02\x00\x00"
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_at_end()
        assert watcher.receive_packet() == publish("gone", b"bye")


def test_a_reset_ends_that_connection_only(runtime: str) -> None:
    with (
        RunningServer(runtime) as server,
        Client(server.address).open("other") as other,
        Client(server.address).open("victim") as victim,
    ):
        assert server.next_fact("client.connected").client_id == "other"
        victim.reset()
        assert server.next_fact("client.disconnected").client_id == "victim"
        other.ping()


def test_a_refused_client_reads_why_although_it_went_on_sending(runtime: str) -> None:
    """Closing a socket that has unread input resets it, which would swallow the answer."""
    with RunningServer(runtime) as server, Client(server.address) as client:
        client.send(connect("client", level=9), publish("t", bytes(100_000)))
        assert client.receive(4) == b"\x20\x02\x00\x01"
        assert client.is_at_end()


def test_a_refused_client_that_does_not_go_is_closed(runtime: str) -> None:
    limits = Limits(linger_timeout_secs=0.1)
    with RunningServer(runtime, limits=limits) as server, Client(server.address) as client:
        client.send(connect("client", level=9))
        assert client.receive(4) == b"\x20\x02\x00\x01"
        assert client.is_at_end()
        assert client.is_reset_sooner_or_later()


def test_what_is_not_mqtt_is_closed(runtime: str) -> None:
    with RunningServer(runtime) as server:
        with Client(server.address) as client:
            client.send(b"\xff" * 100)
            assert client.is_at_end()
        with Client(server.address) as client:
            client.open("next").ping()


def test_a_silent_connection_is_closed(runtime: str) -> None:
    limits = Limits(connect_timeout_secs=0.1)
    with RunningServer(runtime, limits=limits) as server, Client(server.address) as client:
        assert client.is_at_end()


def test_one_client_too_many_is_refused_politely(runtime: str) -> None:
    with (
        RunningServer(runtime, limits=Limits(max_connections=1)) as server,
        Client(server.address) as first,
    ):
        first.open("first")
        with Client(server.address) as second:
            second.send(connect("second"))
            assert second.receive(4) == b"\x20\x02\x00\x03"
            assert second.is_at_end()
        first.close()
        assert server.next_fact("client.disconnected").client_id == "first"
        with Client(server.address) as third:
            third.open("third").ping()


def test_a_reader_that_stands_still_holds_up_nobody(runtime: str) -> None:
    payload = bytes(4_000)
    with (
        RunningServer(runtime) as server,
        Client(server.address).open("publisher") as publisher,
        Client(server.address, receive_buffer_bytes=4_096).open("still").subscribe("t"),
        Client(server.address).open("quick").subscribe("t") as quick,
    ):
        for _ in range(2_000):
            publisher.send(publish("t", payload))
            assert quick.receive_packet() == publish("t", payload)
        publisher.ping()


def test_a_burst_reaches_whole_a_reader_whose_socket_has_room(runtime: str) -> None:
    """More messages at once than its queue holds, in fewer bytes than the sockets do."""
    count = 4_500
    message = publish("t", bytes(47))
    gate = threading.Event()

    def on_fact(fact: Fact) -> None:
        if fact.client_id == "gatekeeper":
            gate.wait(PATIENCE_S)  # the server reads nothing until the burst is there

    with (
        RunningServer(runtime, limits=Limits(max_queued_messages=100), on_fact=on_fact) as server,
        Client(server.address).open("publisher") as publisher,
        Client(server.address, receive_buffer_bytes=1_000_000).open("r").subscribe("t") as reader,
    ):
        publisher.send(publish("nobody", bytes(60_000)) * 200)  # the kernel widens its window
        publisher.ping()
        with Client(server.address).open("gatekeeper"):
            burst = message * count
            sent = 0
            publisher.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while sent < len(burst):
                    sent += publisher.socket.send(burst[sent:])
            gate.set()
            publisher.socket.settimeout(PATIENCE_S)
            publisher.send(burst[sent:])
            assert reader.receive(len(burst)) == burst


def test_a_reader_that_comes_back_gets_everything_in_order(runtime: str) -> None:
    count = 1_500
    with (
        RunningServer(runtime) as server,
        Client(server.address).open("publisher") as publisher,
        Client(server.address, receive_buffer_bytes=4_096).open("later").subscribe("t", 1) as later,
    ):
        for number in range(1, count + 1):
            publisher.send(publish("t", u16(number) + bytes(4_000), 1, number))
            assert publisher.receive_packet() == packet(0x40, u16(number))
        for number in range(1, count + 1):
            delivered = later.receive_packet()
            assert delivered[8:10] == u16(number), "payload out of order"
            later.send(packet(0x40, delivered[6:8]))
        later.ping()


def test_a_reader_that_trickles_outlives_one_that_takes_nothing(runtime: str) -> None:
    """Both are behind from the same moment on; only the one whose socket takes nothing goes."""
    payload = bytes(4_000_000)  # more than the kernel holds and the trickle takes meanwhile
    is_one_gone = threading.Event()

    def on_fact(fact: Fact) -> None:
        if fact.name == "client.disconnected":
            is_one_gone.set()

    limits = Limits(send_timeout_secs=1, max_packet_size_bytes=5_000_000)
    small = {"receive_buffer_bytes": 4_096, "segment_bytes": 1_000}
    with (
        RunningServer(runtime, limits=limits, on_fact=on_fact) as server,
        Client(server.address).open("publisher") as publisher,
        Client(server.address, **small).open("trickling").subscribe("a") as trickling,
        Client(server.address, **small).open("still").subscribe("b"),
    ):
        publisher.send(publish("a", payload), PINGREQ)
        assert publisher.receive(2) == PINGRESP
        publisher.send(publish("b", payload))
        while not is_one_gone.wait(0.001):
            trickling.receive_a_little(1_000)
        fact = server.next_fact("client.disconnected")
        assert (fact.client_id, fact.cause) == ("still", "the client takes no data")
        assert trickling.receive_packet() == publish("a", payload)
        trickling.ping()


def test_two_clients_that_publish_to_each_other_do_not_stop(runtime: str) -> None:
    """Neither reads until it has sent all, so that both sockets are full for a while."""
    with (
        RunningServer(runtime) as server,
        Client(server.address).open("a").subscribe("to-a") as a,
        Client(server.address).open("b").subscribe("to-b") as b,
    ):
        for _ in range(500):
            a.send(publish("to-b", bytes(8_000)))
            b.send(publish("to-a", bytes(8_000)))
        for client in (a, b):
            client.send(PINGREQ)
            while client.receive_packet() != PINGRESP:
                pass


def test_many_connections_at_once(runtime: str) -> None:
    with RunningServer(runtime) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.address)) for _ in range(500)]
        for number, client in enumerate(clients):
            client.send(connect(f"client-{number}"), subscribe("all", 0))
        for client in clients:
            assert client.receive(9) == b"\x20\x02\x00\x00\x90\x03\x00\x01\x00"
        clients[0].send(publish("all", b"hello"))
        for client in clients:
            assert client.receive_packet() == publish("all", b"hello")


def test_connections_one_after_another(runtime: str) -> None:
    with RunningServer(runtime) as server:
        for _ in range(300):
            with Client(server.address) as client:
                client.open("same").send(DISCONNECT)
                assert client.is_at_end()


def test_several_listeners_are_one_broker(runtime: str) -> None:
    with RunningServer(runtime, ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]) as server:
        one, two = (address_of(url) for url in server.urls)
        assert one != two
        with (
            Client(one).open("subscriber").subscribe("t") as subscriber,
            Client(two).open("publisher") as publisher,
        ):
            publisher.send(publish("t", b"across"))
            assert subscriber.receive_packet() == publish("t", b"across")


@pytest.mark.skipif(not HAS_IPV6, reason="platform: no IPv6")
def test_both_families_may_have_the_same_port(runtime: str) -> None:
    with RunningServer(runtime, ["tcp://[::1]:0"]) as server:
        port = server.address[1]
        assert server.urls == [f"tcp://[::1]:{port}"]
        with Client(server.address) as client:
            client.open("six").ping()
        fact = server.next_fact("client.connected")
        assert fact.listener == server.urls[0]
        assert fact.peer.startswith("[::1]:")
    with (
        RunningServer(runtime, [f"tcp://[::]:{port}", f"tcp://0.0.0.0:{port}"]),
        Client(("::1", port)) as six,
        Client(("127.0.0.1", port)) as four,
    ):
        six.open("six").ping()
        four.open("four").ping()


def test_a_connection_has_its_peer_and_listener_in_the_log(runtime: str) -> None:
    with RunningServer(runtime) as server, Client(server.address).open("client") as client:
        host, port = client.socket.getsockname()
        fact = server.next_fact("client.connected")
        assert (fact.peer, fact.listener) == (f"{host}:{port}", server.urls[0])
