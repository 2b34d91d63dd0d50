"""A bug of ours, or of a policy: it ends one connection, is told, and harms nobody else."""

from __future__ import annotations

import pytest

from mqtt_core import make_message
from mqtt_core.broker import (
    ALLOW,
    ASK,
    EOF_BY_PEER,
    AuthRequest,
    Claimed,
    ClaimSession,
    Completion,
    Decision,
    Done,
    InFlight,
    MatchRetained,
    MemoryEngine,
    ReadQueue,
    Request,
    SessionRecord,
)
from tests.core import wire
from tests.model import invariants
from tests.rig import Client, EngineAround, HoldingAuthenticator, Rig, TablePolicy


class Faulty(TablePolicy):
    """Raises for names that say so."""

    def authenticate(self, request: AuthRequest) -> Decision | None:
        """Raise for a client identifier."""
        if request.client_id == "fault":
            raise RuntimeError("a bug in a policy")
        return super().authenticate(request)

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        """Raise for a topic."""
        if "fault" in topic:
            raise KeyError(topic)
        return super().authorize(client_id, username, action, topic)


def others(rig: Rig) -> tuple[Client, Client]:
    reader = rig.connect("reader")
    reader.subscribe(("t", 1))
    return reader, rig.connect("writer")


def check_others(rig: Rig, pair: tuple[Client, Client]) -> None:
    reader, writer = pair
    writer.send(wire.publish("t", b"still here", 1, 1))
    assert writer.take() == wire.puback(1)
    (got,) = reader.publishes()
    assert got.payload == b"still here"
    reader.send(wire.puback(got.packet_id))


FAULTS = [
    wire.publish("fault", b"", 0),
    wire.publish("fault", b"", 1, 1),
    wire.publish("fault", b"", 2, 1),
    wire.subscribe(1, ("t", 0), ("fault", 0)),
    wire.publish("t", b"before", 1, 5) + wire.publish("fault", b""),
]


@pytest.mark.parametrize("data", FAULTS)
@pytest.mark.parametrize("clean", [True, False])
def test_a_fault_in_authorization(data: bytes, clean: bool) -> None:
    rig = Rig(policy=Faulty())
    pair = others(rig)
    client = rig.connect("a", clean=clean, will=("t", b"gone", 0, False))
    client.send(data + wire.PINGREQ)
    assert client.is_closed
    fact = rig.last_fact("client.disconnected")
    assert fact.cause == "internal fault"
    assert isinstance(fact.error, KeyError)
    assert "fault" in fact.detail
    assert fact.client_id == "a"
    assert rig.broker.stats.faults == 1
    assert pair[0].publishes()[-1].payload == b"gone"
    assert len(rig.facts_named("client.disconnected")) == 1
    pair[0].cut()
    pair = (rig.connect("reader"), pair[1])
    pair[0].subscribe(("t", 1))
    check_others(rig, pair)
    again = rig.connect("a", clean=clean, present=not clean)
    again.send(wire.PINGREQ)
    assert wire.PINGRESP in again.take()
    invariants.check_at_rest(rig)


def test_a_fault_in_authentication() -> None:
    rig = Rig(policy=Faulty())
    pair = others(rig)
    client = rig.open()
    client.send(wire.connect("fault", password=b"secret", username="u") + wire.PINGREQ)
    assert client.is_closed
    assert client.take() == b""
    fact = rig.last_fact("client.refused")
    assert (fact.cause, fact.client_id) == ("internal fault", "fault")
    assert "secret" not in repr(rig.facts)
    assert rig.broker.stats.half_connected == 0
    check_others(rig, pair)
    invariants.check_at_rest(rig)


class Unspeakable(Exception):
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_a_fault_that_has_no_words() -> None:
    class Speechless(TablePolicy):
        def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
            raise Unspeakable

    rig = Rig(policy=Speechless())
    client = rig.connect("a")
    client.send(wire.publish("t"))
    assert client.is_closed
    fact = rig.last_fact("client.disconnected")
    assert (fact.cause, fact.detail) == ("internal fault", "Unspeakable")
    invariants.check_at_rest(rig)


def test_a_fault_in_the_wills_authorization() -> None:
    rig = Rig(policy=Faulty())
    client = rig.open()
    client.send(wire.connect("a", will=("fault", b"", 0, False)))
    assert client.is_closed
    rig.connect("a")
    invariants.check_at_rest(rig)


def test_no_entropy() -> None:
    def broken(count: int) -> bytes:
        raise OSError("no entropy")

    rig = Rig(entropy=broken)
    pair = others(rig)
    client = rig.open()
    client.send(wire.connect(""))
    assert client.is_closed
    assert rig.broker.stats.faults == 1
    check_others(rig, pair)
    invariants.check_at_rest(rig)


def test_a_fault_after_a_verdict_from_outside() -> None:
    class Changing(Faulty):
        def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
            if topic == "second":
                raise RuntimeError("a bug behind a verdict")
            return ASK if topic == "first" else ALLOW

    rig = Rig(policy=Changing(), authenticator=HoldingAuthenticator())
    client = rig.connect("a")
    client.send(wire.subscribe(1, ("first", 0), ("second", 0)))
    rig.settle()
    assert client.is_closed
    assert rig.broker.stats.faults == 1
    assert rig.broker.subscription_count == 0
    invariants.check_at_rest(rig)


def test_a_fault_in_a_wills_authorization_after_a_decision_from_outside() -> None:
    policy = Faulty()
    policy.connects["a"] = None
    rig = Rig(policy=policy, authenticator=HoldingAuthenticator())
    client = rig.open()
    client.send(wire.connect("a", will=("fault", b"", 0, False)))
    rig.settle()
    assert client.is_closed
    assert rig.broker.stats.faults == 1
    invariants.check_at_rest(rig)


class WrongEngine(EngineAround):
    """Answers some requests with a completion of another kind, or more than once."""

    def __init__(self, inner: MemoryEngine, kind: type[Request]) -> None:
        super().__init__(inner)
        self.kind = kind
        self._wrong: list[Completion] = []

    def submit(self, request: Request) -> None:
        if isinstance(request, self.kind):
            self._wrong.append(Done(request.request_id))
        else:
            self.inner.submit(request)

    def take_completions(self) -> list[Completion]:
        wrong = self._wrong
        self._wrong = []
        completions = [*wrong, *self.inner.take_completions()]
        return [*completions, *completions, Done(987_654)] if completions else []


def rig_with(kind: type[Request]) -> Rig:
    rig = Rig()
    assert isinstance(rig.engine, MemoryEngine)
    rig.connect("p").send(wire.publish("r", b"x", 1, 1, retain=True))
    client = rig.persistent("reader")
    client.subscribe(("t", 1))
    client.cut()
    rig.connect("p").send(wire.publish("t", b"x", 1, 1))
    rig.engine = WrongEngine(rig.engine, kind)
    return rig


def test_an_answer_to_a_claim_that_is_none() -> None:
    rig = rig_with(ClaimSession)
    client = rig.open()
    client.send(wire.connect("a"))
    assert client.take() == b""
    assert rig.broker.stats.faults == 1
    assert rig.last_fact("fault").error is not None
    rig.advance(31)
    assert client.is_closed
    invariants.check_at_rest(rig)


@pytest.mark.parametrize("kind", [ReadQueue, MatchRetained])
def test_an_answer_to_a_read_that_is_none(kind: type[Request]) -> None:
    rig = rig_with(kind)
    client = rig.connect("reader", clean=False, present=True)
    client.send(wire.subscribe(1, ("r", 1)), wire.PINGREQ)
    assert wire.PINGRESP in client.take()
    assert rig.broker.stats.faults >= 1
    client.cut()
    reader, writer = rig.connect("x"), rig.connect("y")
    reader.send(wire.subscribe(1, ("u", 0)))
    writer.send(wire.publish("u", b"still here"))
    assert reader.take() == wire.suback(1, 0) + wire.publish("u", b"still here")


class Impossible(EngineAround):
    """An engine that finds a message in flight with an identifier that there is not."""

    def take_completions(self) -> list[Completion]:
        return [self._changed(each) for each in self.inner.take_completions()]

    def _changed(self, completion: Completion) -> Completion:
        if not isinstance(completion, Claimed) or completion.record is None:
            return completion
        sent = InFlight(70_000, 1, 1, make_message("t", b"x", 1), None, False)
        record = SessionRecord(completion.record.session, "a", {}, [sent], set(), [])
        return Claimed(completion.request_id, record)


def rig_with_the_impossible() -> tuple[Rig, Client]:
    engine = MemoryEngine(Rig().limits)
    Rig(engine=engine).persistent("a")
    rig = Rig(engine=Impossible(engine))
    return rig, rig.open()


def test_what_cannot_be_sent_again() -> None:
    rig, client = rig_with_the_impossible()
    client.send(wire.connect("a", clean=False), wire.PINGREQ)
    assert client.take() == wire.connack(present=True)
    assert rig.broker.stats.faults == 1
    client.cut()
    assert rig.broker.stats.connections == 0
    check_others(rig, others(rig))


def test_what_cannot_be_sent_again_when_the_socket_goes_on() -> None:
    rig, client = rig_with_the_impossible()
    client.block()
    client.send(wire.connect("a", clean=False), wire.PINGREQ)
    assert rig.broker.stats.faults == 0
    client.unblock()
    assert client.is_closed
    fact = rig.last_fact("client.disconnected")
    assert (fact.client_id, fact.cause) == ("a", "internal fault")
    check_others(rig, others(rig))


class Never(Request):
    """A request that nobody makes."""


def test_answers_that_come_twice_count_once() -> None:
    rig = rig_with(Never)
    client = rig.connect("reader", clean=False, present=True)
    (got,) = client.publishes()
    client.send(wire.puback(got.packet_id))
    client.send(wire.publish("t", b"y", 1, 5))
    assert rig.broker.stats.faults == 0
    invariants.check_at_rest(rig)


def test_an_end_of_the_transport_in_the_middle_of_everything() -> None:
    rig = Rig(policy=Faulty())
    client = rig.connect("a")
    client.channel.eof(EOF_BY_PEER, rig.now)
    client.channel.eof(EOF_BY_PEER, rig.now)
    rig.pump()
    invariants.check_empty(rig)
