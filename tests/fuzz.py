"""Random input for the decoder of both roles and for a whole broker: `make fuzz`.

Whatever comes, a connection gives packets or `RemoteProtocolError`, and a broker neither raises
nor reports a fault, and is empty again when all its clients have gone. The seed of a failure is
printed; `--seed` plays it again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence

from mqtt_core import CLIENT, SERVER, Connect, Connection, RemoteProtocolError
from mqtt_core.broker import (
    EOF_BY_PEER,
    AllowAll,
    AuthorizeRequest,
    AuthRequest,
    Broker,
    Channel,
    Limits,
    MemoryEngine,
)

CLIENTS = 4
STEPS = 60


def packet(rng: random.Random) -> bytes:
    """A packet that is right more often than not, in its frame at least."""
    topic = rng.choice([b"t", b"a/b", b"a/+", b"#", b"$SYS/x", b"", b"\xff", b"a/" * 40])
    name = len(topic).to_bytes(2, "big") + topic
    number = rng.choice([0, 1, 2, 3, 65_535]).to_bytes(2, "big")
    kind = rng.randrange(12)
    if kind == 0:
        client_id = rng.choice([b"", b"a", b"b", b"c" * 30])
        flags = rng.choice([0, 2, 2, 4, 6, 0x26, rng.randrange(256)])
        body = b"\0\4MQTT\4" + bytes([flags]) + b"\0\x3c"
        body += len(client_id).to_bytes(2, "big") + client_id
        body += name + b"\0\1z" if flags & 4 else b""
        first = 0x10
    elif kind < 5:
        qos = rng.randrange(3)
        first = 0x30 | qos << 1 | rng.randrange(2)
        body = name + (number if qos else b"") + rng.randbytes(rng.randrange(20))
    elif kind == 5:
        first, body = 0x82, number + name + bytes([rng.randrange(4)])
    elif kind == 6:
        first, body = 0xA2, number + name
    elif kind < 11:
        first, body = rng.choice([0x40, 0x50, 0x62, 0x70]), number
    else:
        first, body = rng.choice([0xC0, 0xE0, rng.randrange(256)]), b""
    if rng.random() < 0.05:
        body = rng.randbytes(rng.randrange(8))
    size = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
    return bytes([first]) + size + body


def fuzz_connection(rng: random.Random) -> None:
    """One connection of either role, fed in pieces."""
    connection = Connection(rng.choice([CLIENT, SERVER]))
    if connection.role == CLIENT:
        connection.send_connect(Connect("fuzz"), 0.0)
        connection.receive_data(b"\x20\x02\x00\x00", 0.0)
    data = b"".join(packet(rng) for _ in range(10)) if rng.random() < 0.7 else rng.randbytes(80)
    try:
        while data:
            cut = rng.randrange(1, len(data) + 1)
            connection.receive_data(data[:cut], 0.0)
            data = data[cut:]
    except RemoteProtocolError:
        assert connection.wants_close or connection.state == 1


def settle(broker: Broker, engine: MemoryEngine, now: float) -> None:
    """Carry requests out and flush, until the broker has nothing more to do now."""
    for _ in range(10_000):
        for request in broker.take_requests():
            assert not isinstance(request, (AuthRequest, AuthorizeRequest))
            engine.submit(request)
        for completion in engine.take_completions():
            broker.completed(completion, now)
        for channel in broker.take_dirty(100):
            while channel.data_to_send():
                pass
        deadline = broker.next_deadline()
        if deadline is not None and deadline <= now:
            broker.advance(now)
        elif not broker.has_dirty and not broker.has_requests:
            return
    raise AssertionError("the broker does not come to rest")


def fuzz_broker(rng: random.Random) -> None:
    """A few clients of one broker that send anything, stop reading, vanish and come back."""
    limits = Limits(max_queued_messages=5, max_inflight_messages=3, sys_interval_secs=0)
    broker = Broker(limits, AllowAll(), rng.randbytes, 0.0, 1e9)
    engine = MemoryEngine(limits)
    channels: list[Channel] = []
    now = 0.0
    for _ in range(STEPS):
        while len(channels) < CLIENTS:
            channel = broker.open("fuzz", "peer", now)
            channel.receive_data(b"\x10\x0d\0\4MQTT\4" + rng.choice([b"\0", b"\2"]), now)
            channel.receive_data(b"\0\x3c\0\1" + rng.choice([b"a", b"b", b"c"]), now)
            channels.append(channel)
        channel = rng.choice(channels)
        action = rng.random()
        if action < 0.8:
            data = b"".join(packet(rng) for _ in range(rng.randrange(1, 4)))
            cut = rng.randrange(len(data) + 1)
            channel.receive_data(data[:cut], now)
            channel.receive_data(data[cut:], now)
        elif action < 0.9:
            channel.set_writable(rng.random() < 0.5, now)
        elif action < 0.95:
            channel.eof(EOF_BY_PEER, now)
        else:
            now += rng.choice([0.5, 30.0, 100.0])
        settle(broker, engine, now)
        channels = [channel for channel in channels if not channel.close]
        assert broker.stats.faults == 0, [fact.error for fact in broker.take_facts() if fact.error]
    for channel in channels:
        channel.eof(EOF_BY_PEER, now)
    for _ in range(3):
        now += limits.session_timeout_secs + 10
        settle(broker, engine, now)
    stats = broker.stats
    left = (stats.connections, stats.half_connected, stats.queued_messages, broker.session_count)
    assert left == (0, 0, 0, 0), left
    assert broker.subscription_count == 0
    assert stats.faults == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz for a time; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="fuzz.py", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, help="play one seed again")
    options = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(1 << 48) if options.seed is None else options.seed
    end = time.monotonic() + options.seconds
    rounds = 0
    while not rounds or (options.seed is None and time.monotonic() < end):
        try:
            rng = random.Random(seed)
            for _ in range(5):
                fuzz_connection(rng)
            fuzz_broker(rng)
        except Exception:
            print(f"found: make fuzz ARGS='--seed {seed}' plays it again", file=sys.stderr)
            raise
        rounds += 1
        seed += 1
    print(f"{rounds} rounds of 5 connections and a broker with {CLIENTS} clients: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
