"""A broker on a fake clock with raw-byte clients, engines and authenticators that misbehave.

    rig = Rig(max_inflight_messages=2)
    client = rig.connect("a")
    client.send(subscribe(1, ("t", 1)))
    assert client.take() == suback(1, 1)
    rig.advance(10)

`Rig` does the work of an adapter between any two steps of a test, on no socket and in no time.
`Pair` joins two `Connection` objects, or one of them to a rig.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from mqtt_core import CLIENT, SERVER, ConnAck, Connect, Connection, Packet
from mqtt_core._flow import ByteCount
from mqtt_core.broker import (
    ACCEPTED,
    ACCEPTED_UNRESTRICTED,
    ALLOW,
    ASK,
    CLOSE_AFTER_FLUSH,
    CLOSE_NO,
    CLOSE_NOW,
    DENIED,
    EOF_BY_PEER,
    FIRST,
    GRACEFUL,
    LAST,
    MORE,
    STORE_BROKEN,
    TRANSPORT_ERROR,
    WHOLE,
    AllowAll,
    AuthorizeRequest,
    AuthRequest,
    Broker,
    Channel,
    Completion,
    Decision,
    Engine,
    Fact,
    Failed,
    Limits,
    LimitValue,
    MemoryEngine,
    Policy,
    Request,
    Write,
)
from mqtt_core.broker._ledger import Ledger
from mqtt_core.broker._queue import Queue
from mqtt_core.broker._stats import Stats
from tests.core import wire, wire5

START_S = 1_000.0
WALL_S = 1_700_000_000.0
LISTENER = "tcp://127.0.0.1:1883"
_MOST_TURNS = 100_000
_ANOTHER_CLOCK_S = 12_345.0


class Client:
    """The far end of one connection to a `Rig`: what was sent to it, and how it behaves.

    `room_bytes` is what its socket takes before it refuses; None is without end. It closes its
    side when it sees the end of the stream, unless `lingers`.
    """

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig = rig
        self.name = name
        self.room_bytes: int | None = None
        self.lingers = False
        self.level = 4  # of MQTT, which decides how packets are laid out
        self.announced = b""  # the properties of CONNACK, in MQTT 5.0
        self.saw_eof = False
        self.has_ended = False  # the broker knows that the transport is gone
        self.received = b""
        self.total_bytes = 0
        self.channel: Channel = rig.broker.open(LISTENER, f"peer:{name}", rig.now, rig.durability)
        self.channel.transport = self
        rig.clients.append(self)

    def __repr__(self) -> str:
        return f"Client({self.name!r})"

    def send(self, *packets: bytes, pump: bool = True) -> None:
        """Send bytes, and let the broker do what follows."""
        if not self.has_ended:
            self.channel.receive_data(b"".join(packets), self.rig.now)
        if pump:
            self.rig.pump()

    def take(self) -> bytes:
        """The bytes received since the last call."""
        received = self.received
        self.received = b""
        return received

    def frames(self) -> list[wire.Frame]:
        """The packets received since the last call."""
        frames, rest = wire.split(self.take())
        self.received = rest
        return frames

    def publishes(self) -> list[wire.Received]:
        """The PUBLISH packets received since the last call; nothing else must have come."""
        return wire.publishes(self.take())

    def publishes5(self) -> list[wire5.Received5]:
        """The same for a client of MQTT 5.0."""
        return wire5.publishes(self.take())

    def payloads(self) -> list[bytes]:
        """The payloads of the PUBLISH packets received since the last call."""
        publishes = self.publishes5() if self.level == 5 else self.publishes()
        return [publish.payload for publish in publishes]

    def subscribe(
        self, *filters: tuple[str, int], packet_id: int = 1, properties: bytes = b""
    ) -> None:
        """Subscribe and see that it was granted as asked; in MQTT 5.0 the number of a filter is
        its options, of which the QoS is a part."""
        qoss = [options & 3 for _, options in filters]
        if self.level == 5:
            self.send(wire5.subscribe(packet_id, *filters, properties=properties))
            granted = wire5.suback(packet_id, *qoss)
        else:
            self.send(wire.subscribe(packet_id, *filters))
            granted = wire.suback(packet_id, *qoss)
        assert self.received.startswith(granted), self.received
        self.received = self.received[len(granted) :]

    def block(self) -> None:
        """The socket takes nothing any more."""
        self.room_bytes = 0
        self.channel.set_writable(False, self.rig.now)
        self.rig.pump()

    def unblock(self, room_bytes: int | None = None) -> None:
        """The socket takes data again: `room_bytes` of it, then it refuses."""
        self.room_bytes = room_bytes
        self.channel.set_writable(True, self.rig.now)
        self.rig.pump()

    def cut(self, *, pump: bool = True) -> None:
        """The client closes the connection, without DISCONNECT."""
        self._end(EOF_BY_PEER)
        if pump:
            self.rig.pump()

    def reset(self) -> None:
        """The connection breaks."""
        self._end(TRANSPORT_ERROR)
        self.rig.pump()

    @property
    def is_closed(self) -> bool:
        """Whether the client has been told that the connection is over, or has ended it."""
        return self.saw_eof or self.has_ended

    def lose(self) -> None:
        """The broker's process has ended, and nobody will hear of this end."""
        self.has_ended = True
        self.saw_eof = True
        self.rig.clients.remove(self)
        self.channel.transport = None

    def _end(self, cause: int) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.saw_eof = True
            self.rig.clients.remove(self)
            self.channel.transport = None
            self.channel.eof(cause, self.rig.now)

    # The socket

    def flush(self) -> bool:
        """Take what the broker has for this client, as far as the socket does."""
        if self.has_ended:
            return False
        is_busy = False
        channel = self.channel
        while self.room_bytes is None or self.room_bytes > 0:
            data = channel.data_to_send()
            if not data:
                break
            is_busy = True
            self.received += data
            self.total_bytes += len(data)
            if self.room_bytes is not None:
                # A real adapter keeps the rest of a piece that is sent in part.
                self.room_bytes = max(0, self.room_bytes - len(data))
                if not self.room_bytes:
                    channel.set_writable(False, self.rig.now)
        if channel.close == CLOSE_NOW:
            self._end(EOF_BY_PEER)
            return True
        is_flushed = self.room_bytes is None or self.room_bytes > 0
        if channel.close == CLOSE_AFTER_FLUSH and is_flushed and not self.saw_eof:
            self.saw_eof = True
            if not self.lingers:
                self._end(EOF_BY_PEER)
            return True
        return is_busy


class Authenticator(Protocol):
    """What decides outside the broker."""

    def submit(self, request: AuthRequest | AuthorizeRequest) -> None:
        """Take a request."""

    def take_decisions(self) -> list[tuple[int, Decision]]:
        """Tokens with what has been decided since the last call."""


class Rig:
    """A broker, its engine and authenticator, a clock, and clients.

    Keyword arguments beside the named ones are limits, and so are `settings`.
    """

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        engine: Engine | None = None,
        authenticator: Authenticator | None = None,
        entropy: Callable[[int], bytes] | None = None,
        now: float = START_S,
        wall: float = WALL_S,
        take: int = 64,
        settings: Mapping[str, LimitValue] | None = None,
        **limits: LimitValue,
    ) -> None:
        self.now = now
        self.wall = wall  # when the broker was made, in unix seconds
        self.began = now
        self.limits = Limits(**{**(settings or {}), **limits})
        self.engine: Engine = MemoryEngine(self.limits) if engine is None else engine
        self.authenticator = authenticator
        self.durability = 0  # the level of the listener by which clients come
        self.clients: list[Client] = []
        self.facts: list[Fact] = []
        self.fact_times: list[float] = []  # when each of them was told
        self.requests: list[Request | AuthRequest | AuthorizeRequest] = []
        self._take = take
        self._policy: Policy = AllowAll() if policy is None else policy
        self._entropy = random.Random(0).randbytes if entropy is None else entropy
        self.broker = self._make_broker()

    def _make_broker(self) -> Broker:
        return Broker(
            self.limits,
            self._policy,
            self._entropy,
            self.now,
            self.wall,
            last_number=self.engine.last_number,
            level=self.engine.level,
            index_bytes=self.engine.index_bytes,
        )

    def open(self, name: str = "") -> Client:
        """A connection that has sent nothing yet."""
        client = Client(self, name or f"client {len(self.clients) + 1}")
        self.pump()
        return client

    def connect(
        self,
        client_id: str,
        *,
        clean: bool = True,
        present: bool = False,
        keep_alive_s: int = 0,
        will: tuple[str | bytes, bytes, int, bool] | None = None,
        username: str | None = None,
        password: bytes | None = None,
    ) -> Client:
        """A connection that has been accepted; `present` is what CONNACK must say."""
        client = self.open(client_id)
        client.send(
            wire.connect(
                client_id,
                clean=clean,
                keep_alive_s=keep_alive_s,
                will=will,
                username=username,
                password=password,
            )
        )
        answer = wire.connack(present=present)
        assert client.received[:4] == answer, f"{client.received!r}, facts: {self.facts[-3:]!r}"
        client.received = client.received[4:]
        return client

    def connect5(
        self,
        client_id: str,
        *properties: bytes,
        clean: bool = True,
        present: bool = False,
        keep_alive_s: int = 0,
        will: wire5.Will5 | None = None,
        username: str | None = None,
    ) -> Client:
        """The same in MQTT 5.0; `announced` of the client has the properties of CONNACK."""
        client = self.open(client_id)
        client.level = 5
        client.send(
            wire5.connect(
                client_id,
                *properties,
                clean=clean,
                keep_alive_s=keep_alive_s,
                will=will,
                username=username,
            )
        )
        frames, _ = wire.split(client.received)
        assert frames, f"no CONNACK, facts: {self.facts[-3:]!r}"
        present_and_reason = frames[0].body[:2]
        told = f"{frames[0]!r}, facts: {self.facts[-3:]!r}"
        assert frames[0].first == 0x20, told
        assert present_and_reason == bytes([1 if present else 0, 0]), told
        client.announced = wire5.read_properties(frames[0].body[2:])
        client.received = client.received[len(wire.packet(0x20, frames[0].body)) :]
        return client

    def persistent(self, client_id: str, *, present: bool = False) -> Client:
        """A connection with a session that outlives it."""
        return self.connect(client_id, clean=False, present=present)

    # The end, and what follows

    def crash(self, away_s: float = 0.0, *, recovers: bool = True) -> None:
        """The process ends at once; `away_s` later another one begins with what the engine has.

        Its monotonic clock is another one. What the broker had asked for and not handed to the
        engine is lost, and so are answers that were not taken. Without `recovers` the new broker
        has begun to read the store, and no turn was made yet.
        """
        for client in list(self.clients):
            client.lose()
        if isinstance(self.engine, DiskEngine):
            self.engine.crash()
        self.wall += self.now - self.began + away_s
        self.now += _ANOTHER_CLOCK_S
        self.began = self.now
        self.broker = self._make_broker()
        self.engine.start(lambda: None)
        self.broker.recover(self.now)
        if recovers:
            self.settle()
            assert not self.broker.is_recovering, self.facts[-3:]

    def stop(self, mode: int = GRACEFUL) -> None:
        """Shut the broker down and let the engine store all."""
        self.broker.shut_down(mode, self.now)
        self.settle()
        self.advance(self.limits.shutdown_timeout_secs)
        assert self.broker.is_stopped

    # Facts

    def facts_named(self, name: str) -> list[Fact]:
        """The facts of one name, all there were."""
        return [fact for fact in self.facts if fact.name == name]

    def last_fact(self, name: str) -> Fact:
        """The last fact of one name."""
        found = self.facts_named(name)
        assert found, f"no {name} among {[fact.name for fact in self.facts]}"
        return found[-1]

    def no_faults(self) -> None:
        """Nothing has gone wrong inside."""
        wrong = [fact for fact in self.facts if fact.error is not None]
        assert not wrong, wrong
        assert self.broker.stats.faults == 0

    # The work of an adapter

    def pump(self) -> None:
        """Everything that an adapter does after a wake-up, until nothing is left to do."""
        for _ in range(_MOST_TURNS):
            if not self.turn():
                return
        raise AssertionError("the broker never comes to rest: its deadline is never later than now")

    def turn(self) -> bool:
        """One turn of an adapter's loop; False when there was nothing to do."""
        broker = self.broker
        is_busy = False
        deadline = broker.next_deadline()
        if deadline is not None and deadline <= self.now:
            broker.advance(self.now)
            is_busy = True
        is_busy |= self.exchange()
        is_busy |= self.flush()
        facts = broker.take_facts()
        self.facts += facts
        self.fact_times += [self.now] * len(facts)
        return is_busy or broker.has_requests

    def exchange(self) -> bool:
        """Take requests to the engine and the authenticator, and their answers back."""
        is_busy = False
        for request in self.broker.take_requests():
            is_busy = True
            self.requests.append(request)
            if isinstance(request, AuthRequest | AuthorizeRequest):
                assert self.authenticator is not None, "the rig has no authenticator"
                self.authenticator.submit(request)
            else:
                self.engine.submit(request)
        for completion in self.engine.take_completions():
            is_busy = True
            self.broker.completed(completion, self.now)
        if self.authenticator is not None:
            for token, decision in self.authenticator.take_decisions():
                is_busy = True
                self.broker.auth_decided(token, decision, self.now)
        return is_busy

    def flush(self) -> bool:
        """Take what the broker has for its clients."""
        is_busy = False
        while self.broker.has_dirty:
            for channel in self.broker.take_dirty(self._take):
                client = channel.transport
                if isinstance(client, Client):
                    is_busy |= client.flush()
                if self.broker.must_flush:
                    is_busy = True
        return is_busy

    def advance(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline, as the timer of an adapter does."""
        end = self.now + seconds
        self.pump()
        for _ in range(_MOST_TURNS):
            deadline = self.broker.next_deadline()
            if deadline is None or deadline > end:
                self.now = end
                return
            self.now = max(self.now, deadline)
            self.pump()
        raise AssertionError("deadlines without end")

    def settle(self) -> None:
        """Let everything that a late engine or authenticator owes come."""
        for _ in range(_MOST_TURNS):
            self.pump()
            if not (_release(self.engine) | _release(self.authenticator)):
                return
        raise AssertionError("answers without end")


def _release(source: object) -> bool:
    holders = HoldingEngine | DiskEngine | HoldingAuthenticator
    return isinstance(source, holders) and source.release()


# Parts of the broker


def new_queue(index_bytes: int | None = None) -> Queue:
    """A queue of a broker that has no other, with the engine's `index_bytes`."""
    return Queue(Ledger(Stats(), ByteCount(1 << 40), index_bytes))


# Engines


class EngineAround:
    """Passes everything on to another engine; its subclasses change a part of that."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner

    @property
    def last_number(self) -> int:
        """The greatest number in use."""
        return self.inner.last_number

    @property
    def level(self) -> int:
        """Of what no client waits for."""
        return self.inner.level

    @property
    def index_bytes(self) -> int | None:
        """What a message takes in its memory."""
        return self.inner.index_bytes

    def start(self, on_answers: Callable[[], None]) -> None:
        """A broker begins to work with it."""
        self.inner.start(on_answers)

    def submit(self, request: Request) -> None:
        """Take a request."""
        self.inner.submit(request)

    def take_completions(self) -> list[Completion]:
        """What has been decided."""
        return self.inner.take_completions()

    def close(self) -> None:
        """Nobody works with it any more."""
        self.inner.close()


class HoldingEngine(EngineAround):
    """Does at once what it is asked to, and says so only when a test lets it.

    Operations take effect in the order submitted, as the contract of an engine wants; only the
    completions wait. `held` has them with their requests.
    """

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.held: list[tuple[Request, Completion]] = []
        self._ready: list[Completion] = []

    def submit(self, request: Request) -> None:
        """Take a request."""
        self.inner.submit(request)
        for completion in self.inner.take_completions():
            self.held.append((request, completion))

    def take_completions(self) -> list[Completion]:
        """What the test has let go."""
        ready = self._ready
        self._ready = []
        return ready

    def release(self, count: int = 1_000_000, *, kind: type[Request] = Request) -> bool:
        """Let the first `count` completions of requests of a kind go; False for none."""
        chosen = [entry for entry in self.held if isinstance(entry[0], kind)][:count]
        for entry in chosen:
            self.held.remove(entry)
            self._ready.append(entry[1])
        return bool(chosen)

    def release_last(self) -> bool:
        """Let the newest completion go; False for none."""
        if not self.held:
            return False
        self._ready.append(self.held.pop()[1])
        return True


class LateEngine(HoldingEngine):
    """Answers late and in any order; the same seed gives the same order."""

    def __init__(self, inner: Engine, seed: int) -> None:
        super().__init__(inner)
        self._random = random.Random(seed)

    def take_completions(self) -> list[Completion]:
        """Some of what is there, in some order."""
        ready = super().take_completions()
        while self.held and self._random.random() < 0.3:
            ready.append(self.held.pop(self._random.randrange(len(self.held)))[1])
        return ready


class DiskEngine(EngineAround):
    """Does what it is asked when it commits, and loses in a crash what it has not committed.

    With a seed it commits some of it whenever it is asked for answers, without only when a test
    says so. What it has stored is on the disk, so that a message takes `index_bytes` in memory.
    """

    index_bytes = 24

    def __init__(self, inner: Engine, seed: int | None = None) -> None:
        super().__init__(inner)
        self.submitted: list[Request] = []
        self._ready: list[Completion] = []
        self._random = None if seed is None else random.Random(seed)

    def submit(self, request: Request) -> None:
        """Take a request."""
        self.submitted.append(request)

    def commit(self, count: int = 1_000_000) -> bool:
        """Carry out the first `count` requests, or more where a change would be cut, or fewer where
        its end has not come; False for none."""
        count = self._whole(count)
        committed = self.submitted[:count]
        del self.submitted[:count]
        for request in committed:
            self.inner.submit(request)
        self._ready += self.inner.take_completions()
        return bool(committed)

    def _whole(self, count: int) -> int:
        whole = 0
        is_open = False
        for at, request in enumerate(self.submitted):
            if at >= count and not is_open:
                break
            part = request.part if isinstance(request, Write) else WHOLE
            is_open = part in (FIRST, MORE) or (is_open and part != LAST)
            if not is_open:
                whole = at + 1
        return whole

    def take_completions(self) -> list[Completion]:
        """What has been committed."""
        if self._random is not None and self._random.random() < 0.4:
            self.commit(self._random.randint(0, len(self.submitted)))
        ready = self._ready
        self._ready = []
        return ready

    def release(self) -> bool:
        """Commit all; False for none."""
        return self.commit()

    def crash(self) -> None:
        """Forget what is not committed."""
        self.submitted.clear()
        self._ready.clear()


class RefusingEngine(EngineAround):
    """Fails the requests that `refuses` says, and only these; they have no effect.

    A request that wants no completion is never refused: nobody would hear of it.
    """

    def __init__(self, inner: Engine, refuses: Callable[[int, Request], bool] | int) -> None:
        super().__init__(inner)
        self.count = 0
        self.refused: list[Request] = []
        self.kind = STORE_BROKEN
        self._refuses = refuses
        self._failed: list[Completion] = []
        self._is_refusing = False  # all further parts of a change

    def submit(self, request: Request) -> None:
        """Take a request; `refuses` is given its number, from 1, and the request."""
        if request.request_id:
            self.count += 1
            refuses = self._refuses
            is_refused = (
                self.count == refuses if isinstance(refuses, int) else refuses(self.count, request)
            )
            if isinstance(request, Write) and request.part != WHOLE:
                is_refused |= self._is_refusing and request.part != FIRST
                self._is_refusing = is_refused and request.part != LAST
            if is_refused:
                self.refused.append(request)
                self._failed.append(Failed(request.request_id, "refused by test", self.kind))
                return
        self.inner.submit(request)

    def take_completions(self) -> list[Completion]:
        """What has been decided."""
        failed = self._failed
        self._failed = []
        return [*failed, *self.inner.take_completions()]


def writes(kind: type[object]) -> Callable[[int, Request], bool]:
    """For `RefusingEngine`: every write with an operation of this kind."""
    return lambda _, request: (
        isinstance(request, Write) and any(isinstance(each, kind) for each in request.operations)
    )


# Policies and authenticators


class Asking:
    """A policy that leaves every decision to the outside."""

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Ask."""
        return None

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """Ask."""
        return ASK


class TablePolicy:
    """Everybody may connect; topics are looked up, and those not found are allowed."""

    def __init__(self, topics: dict[str, int] | None = None) -> None:
        self.topics = topics or {}
        self.asked: list[tuple[str, int, str]] = []
        self.connects: dict[str, Decision | None] = {}

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Accept, and ask for each topic."""
        return self.connects.get(request.client_id, ACCEPTED)

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """What the table says."""
        self.asked.append((client_id, action, topic))
        return self.topics.get(topic, ALLOW)


class HoldingAuthenticator:
    """Keeps requests until a test decides them.

    Clients in `refused` may not connect; topics in `denied` may not be used.
    """

    def __init__(self, refused: Iterable[str] = (), denied: Iterable[str] = ()) -> None:
        self.held: list[AuthRequest | AuthorizeRequest] = []
        self.refused = set(refused)
        self.denied = set(denied)
        self.gives_all = False
        self._ready: list[tuple[int, Decision]] = []

    def submit(self, request: AuthRequest | AuthorizeRequest) -> None:
        """Keep a request."""
        self.held.append(request)

    def take_decisions(self) -> list[tuple[int, Decision]]:
        """What the test has decided."""
        ready = self._ready
        self._ready = []
        return ready

    def decide(self, decision: Decision, at: int = 0) -> None:
        """Decide one request."""
        self._ready.append((self.held.pop(at).token, decision))

    def answer(self, at: int = 0) -> None:
        """Decide one request as the tables say."""
        request = self.held[at]
        if isinstance(request, AuthRequest):
            is_refused = request.client_id in self.refused
            accepted = ACCEPTED_UNRESTRICTED if self.gives_all else ACCEPTED
        else:
            is_refused = request.topic in self.denied
            accepted = ACCEPTED
        self.decide(DENIED if is_refused else accepted, at)

    def release(self) -> bool:
        """Decide all requests; False for none."""
        count = len(self.held)
        for _ in range(count):
            self.answer()
        return count > 0


class PromptAuthenticator(HoldingAuthenticator):
    """Decides in the next turn."""

    def take_decisions(self) -> list[tuple[int, Decision]]:
        """All that was asked."""
        self.release()
        return super().take_decisions()


class LateAuthenticator(HoldingAuthenticator):
    """Decides late and in any order; the same seed gives the same order."""

    def __init__(self, seed: int, refused: Iterable[str] = (), denied: Iterable[str] = ()) -> None:
        super().__init__(refused, denied)
        self._random = random.Random(seed)

    def take_decisions(self) -> list[tuple[int, Decision]]:
        """Some of what was asked."""
        while self.held and self._random.random() < 0.3:
            self.answer(self._random.randrange(len(self.held)))
        return super().take_decisions()


# Two ends of one connection


class Pair:
    """A client `Connection` and its server: another `Connection`, or a client of a `Rig`.

    `events` gives what the client's side has been told; what a server `Connection` was told is
    in `server_events`.
    """

    def __init__(self, rig: Rig | None = None, *, client: Connection | None = None) -> None:
        self.rig = rig
        self._now = START_S
        self.client = Connection(CLIENT, now=self.now) if client is None else client
        self.remote = rig.open("pair") if rig is not None else None
        self.server = Connection(SERVER, now=self.now) if rig is None else None
        self.events: list[Packet] = []
        self.server_events: list[Packet] = []

    @property
    def now(self) -> float:
        """The present, of the rig if there is one."""
        return self._now if self.rig is None else self.rig.now

    def connect(self, packet: Connect, answer: ConnAck | None = None) -> ConnAck:
        """Send CONNECT and return the answer; a server `Connection` gives `answer`."""
        self.client.send_connect(packet, self.now)
        self.move()
        if self.server is not None:
            self.server.send_connack(ConnAck() if answer is None else answer, self.now)
            self.move()
        connack = self.events.pop(0)
        assert isinstance(connack, ConnAck)
        return connack

    def move(self) -> None:
        """Carry bytes both ways until none are left."""
        while self._to_server() | self._to_client():
            pass

    def _to_server(self) -> bool:
        is_busy = False
        while data := self.client.data_to_send():
            is_busy = True
            if self.remote is not None:
                self.remote.send(data)
            elif self.server is not None:
                self.server.receive_data(data, self.now)
        if self.server is not None:
            self.server_events += self.server.events()
        return is_busy

    def _to_client(self) -> bool:
        is_busy = False
        if self.remote is not None:
            data = self.remote.take()
        else:
            assert self.server is not None
            data = self.server.data_to_send()
        if data:
            is_busy = True
            self.client.receive_data(data, self.now)
        self.events += self.client.events()
        return is_busy

    def take_events(self) -> list[Packet]:
        """What the client's side has been told since the last call."""
        self.move()
        events = self.events
        self.events = []
        return events

    def advance(self, seconds: float) -> None:
        """Let time pass for both ends."""
        end = self.now + seconds
        while (deadline := self.client.next_deadline()) is not None and deadline <= end:
            self._go_to(max(self.now, deadline))
            self.client.advance(self.now)
            self.move()
        self._go_to(end)
        self.move()

    def _go_to(self, now: float) -> None:
        if self.rig is not None:
            self.rig.advance(now - self.rig.now)
        self._now = now


__all__ = [
    "CLOSE_NO",
    "Asking",
    "Client",
    "HoldingAuthenticator",
    "HoldingEngine",
    "LateAuthenticator",
    "LateEngine",
    "Pair",
    "PromptAuthenticator",
    "RefusingEngine",
    "Rig",
    "TablePolicy",
    "writes",
]
