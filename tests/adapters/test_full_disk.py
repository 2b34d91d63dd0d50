"""A store whose disk is full, a real one, and what the clients of each version see of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from adapters.storage import Notice, SqliteEngine, StoreLimits
from mqtt_core.broker import LEVEL_OS, Limits
from tests.adapters.rig import (
    Client,
    RunningServer,
    connect,
    packet,
    publish,
    subscribe,
    u16,
)
from tests.core import wire5

DISK_BYTES = 2 * 1024 * 1024
PAYLOAD_BYTES = 20_000
KEPT = wire5.prop(0x11, wire5.u32(1_000))
FULL = 0x97


class Disk:
    """A small file system in memory, with a file that takes what the store may not have."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.ballast = place / "ballast"
        _call("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place))
        try:
            self.ballast.write_bytes(bytes(DISK_BYTES // 2))
        except BaseException:
            self.unmount()
            raise

    def unmount(self) -> None:
        """It is gone, whoever uses it."""
        _call("umount", "--lazy", str(self.place))

    def fill(self) -> None:
        """Not a byte is left."""
        with (self.place / "rest").open("wb", buffering=0) as rest, suppress(OSError):
            while rest.write(bytes(4_096)):
                pass

    def make_room(self) -> None:
        """Something else was on the disk, and is deleted."""
        self.ballast.unlink()


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("platform: this needs Linux and root, to mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    try:
        disk = Disk(place)
    except OSError as error:
        pytest.skip(f"platform: nothing can be mounted here ({error})")
    yield disk
    disk.unmount()


class Five(Client):
    """A client of MQTT 5.0."""

    def join(self, client_id: str) -> Self:
        """CONNECT with a session that is kept, and see it accepted."""
        assert self.try_to_join(client_id) == 0
        return self

    def try_to_join(self, client_id: str) -> int:
        """The reason code of CONNACK."""
        self.send(wire5.connect(client_id, KEPT, clean=False))
        return self.receive_packet()[3]

    def subscribe5(self, topic_filter: str) -> int:
        """The reason code of SUBACK."""
        self.send(wire5.subscribe(9, (topic_filter, 1)))
        return self.receive_packet()[-1]

    def publish(self, payload: bytes, packet_id: int, qos: int = 1) -> int:
        """The reason code of PUBACK or PUBREC."""
        self.send(wire5.publish("t", payload, qos, packet_id))
        answer = self.receive_packet()
        assert answer[0] == (0x40 if qos == 1 else 0x50), answer
        assert answer[2:4] == u16(packet_id)
        return answer[4] if len(answer) > 4 else 0


def payload_of(number: int) -> bytes:
    return b"%06d" % number * (PAYLOAD_BYTES // 6)


def fetch(server: RunningServer, count: int) -> list[bytes]:
    """So many messages of the client that was away, who acknowledges them."""
    payloads: list[bytes] = []
    with Client(server.address) as reader:
        reader.send(connect("away", clean=False))
        assert reader.receive(4) == b"\x20\x02\x01\x00"
        while len(payloads) < count:
            received = reader.receive_packet()
            at = received.index(b"\x00\x01t") + 3
            payloads.append(received[at + 2 :])
            reader.send(packet(0x40, received[at : at + 2]))
        reader.ping()
    return payloads


def is_told(client: Client, data: bytes) -> bytes:
    """What a client gets that is disconnected for that."""
    client.send(data)
    answer = client.receive_packet()
    assert client.is_at_end()
    return answer


def is_refused_at_last(attempt: Callable[[int], object], refusal: object) -> bool:
    """Whether something small is refused once the last pages of the log are used up."""
    return any(attempt(number) == refusal for number in range(50))


def check_refusals(server: RunningServer, publisher: Five) -> None:
    """The store is full: what each of its clients is told."""
    assert publisher.publish(payload_of(0), 65_000, 2) == FULL
    publisher.ping()
    with Client(server.address).open("older") as older:
        assert is_told(older, publish("t", payload_of(0), 1, 1)) == b""

    def join(number: int) -> int:
        with Five(server.address) as new:
            return new.try_to_join(f"new {number}")

    def join_older(number: int) -> bytes:
        with Client(server.address) as new:
            new.send(connect(f"new older {number}", clean=False))
            return new.receive_packet()

    assert is_refused_at_last(join, FULL)
    assert is_refused_at_last(join_older, b"\x20\x02\x00\x03")
    assert publisher.publish(payload_of(0), 65_000, 2) == FULL  # the identifier was free


def test_a_full_disk_is_told_and_nothing_acknowledged_is_lost(runtime: str, disk: Disk) -> None:
    notices: list[Notice] = []
    engine = SqliteEngine(
        disk.place / "store", Limits(), patience_s=0.2, retry_s=0.05, on_notice=notices.append
    )
    with (
        RunningServer(runtime, engine=engine) as server,
        Client(server.address) as away,
        Five(server.address) as publisher,
    ):
        away.open("away", clean=False).subscribe("t", 1).close()
        publisher.join("publisher")
        taken: list[bytes] = []
        while not publisher.publish(payload_of(len(taken)), len(taken) + 1):
            taken.append(payload_of(len(taken)))
            assert len(taken) < DISK_BYTES // PAYLOAD_BYTES
        assert taken
        detail = server.next_fact("store.refused").detail
        assert "no space is left: free some on the file system of the store" in detail
        disk.fill()
        check_refusals(server, publisher)
        assert is_refused_at_last(lambda number: publisher.subscribe5(f"{number}"), FULL)
        assert not any(fact.name == "store.failed" for fact in server.facts())

        disk.make_room()
        number = 1_000
        while publisher.publish(payload_of(number), number) == FULL:
            number += 1  # what was tried a moment ago has still met the full disk
            assert number < 2_000
        taken.append(payload_of(number))
        assert publisher.subscribe5("other") == 1
        assert fetch(server, len(taken)) == taken
    names = [notice.name for notice in notices]  # again where something small was taken meanwhile
    assert names == ["store.troubled", "store.recovered"] * (len(names) // 2)
    assert names


def test_a_limit_of_the_store_is_told_and_nothing_acknowledged_is_lost(
    runtime: str, tmp_path: Path
) -> None:
    notices: list[Notice] = []
    limits = StoreLimits(max_messages=5, max_sessions=2)
    engine = SqliteEngine(tmp_path, Limits(), limits, level=LEVEL_OS, on_notice=notices.append)
    with (
        RunningServer(runtime, engine=engine) as server,
        Client(server.address) as away,
        Five(server.address) as publisher,
    ):
        away.open("away", clean=False).subscribe("t", 1).close()
        publisher.join("publisher")
        taken = [payload_of(number) for number in range(5)]
        for number, payload in enumerate(taken):
            assert publisher.publish(payload, number + 1) == 0
        check_refusals(server, publisher)
        assert "raise max_messages" in server.next_fact("store.refused").detail
        with Client(server.address) as back:  # who comes for its messages is not refused
            back.send(connect("away", clean=False), subscribe("t", 1, 7))
            assert back.receive(4) == b"\x20\x02\x01\x00"
        assert fetch(server, 5) == taken
        assert publisher.publish(b"more", 10) == 0
    assert [notice.name for notice in notices] == ["store.full", "store.full", "store.has_room"]


@pytest.mark.parametrize("level", ["fsync", "os", "memory"])
def test_two_listeners_have_levels_of_their_own(runtime: str, level: str, tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path, Limits())
    listen = ("tcp://127.0.0.1:0", f"tcp://127.0.0.1:0?durability={level}")
    with RunningServer(runtime, listen, engine=engine) as server:
        assert all("?" not in url for url in server.urls)
        for at in (1, 0):
            with Client(_address(server, at)) as away:
                away.open(f"away{at}", clean=False).subscribe("t", 1).close()
            with Client(_address(server, at)).open("publisher") as publisher:
                publisher.send(publish("t", b"%d" % at, 1, 9))
                assert publisher.receive(4) == packet(0x40, u16(9))
    engine = SqliteEngine(tmp_path, Limits())
    with RunningServer(runtime, listen, engine=engine) as server:
        with Client(server.address).open("away1", clean=False) as reader:
            received = [reader.receive_packet()[-1:] for _ in range(2)]
        assert received == [b"1", b"0"]


def _address(server: RunningServer, at: int) -> tuple[str, int]:
    host, _, port = server.urls[at].removeprefix("tcp://").rpartition(":")
    return host, int(port)
