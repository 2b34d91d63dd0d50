"""Random histories: an engine does what the one in memory does, across restarts and crashes.

After a crash everything is as it was behind some write, and no write is missing that was answered,
but for one of which nothing was left by then, or that was answered from memory. It never is as it
was between the parts of one change.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from mqtt_core import Message, Will, make_message
from mqtt_core import properties as props
from mqtt_core.broker import (
    FIRST,
    LAST,
    LEVEL_FSYNC,
    LEVEL_MEMORY,
    LEVEL_OS,
    MORE,
    WHOLE,
    Append,
    DeleteRetained,
    DeleteSubscription,
    Done,
    DropExpired,
    EndSession,
    HoldIdentifier,
    Limits,
    MemoryEngine,
    Operation,
    Options,
    Particulars,
    PutRetained,
    ReleaseIdentifier,
    RetireSession,
    SaveExpiry,
    SaveReceived,
    SaveSent,
    SaveSession,
    SaveSubscription,
    SaveWill,
    Settle,
    Target,
)
from tests.storage.rig import KINDS, WAIT_S, Driver, Kind, Store

CLIENTS = ("a", "b", "ü")
TOPICS = ("a", "a/b", "c", "$x/y", "/")

_expiry = st.sampled_from([0.0, 10.0, 20.0])


@st.composite
def messages(draw: st.DrawFn) -> Message:
    expires_at = draw(_expiry)
    properties = ((props.MESSAGE_EXPIRY_INTERVAL, 9),) if expires_at else ()
    message = make_message(
        draw(st.sampled_from(TOPICS)),
        draw(st.binary(max_size=3)),
        draw(st.integers(1, 2)),
        draw(st.booleans()),
        properties,
    )
    if expires_at:
        message.expires_at = expires_at
    return message


options = st.none() | st.builds(Options, st.booleans(), st.booleans(), st.integers(0, 3))
particulars = st.none() | st.builds(
    Particulars, st.booleans(), st.tuples(st.integers(1, 9)), st.sampled_from([b"", b"$share/g/a"])
)
wills = st.none() | st.builds(Will, st.sampled_from(TOPICS), st.binary(max_size=3))


class Histories(RuleBasedStateMachine):
    """An engine beside the model. `kind` says which."""

    kind: Kind

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(self.kind, Path(self.folder.name))
        self.driver = self.store.driver
        self.disk = self.store.disk
        self.was_failing = False
        self.model = Driver(MemoryEngine(Limits()))
        self.history: list[list[Operation] | None] = []  # writes; None for a restart
        self.base = 0  # where it stands at the last restart
        self.asked: dict[int, int] = {}  # which write a request was
        self.answered: list[int] = []
        self.in_memory: set[int] = set()  # writes that are answered before they are stored
        self.is_open = False  # a change has begun
        self.between: set[int] = set()  # where the history cannot be cut
        self.number = 0
        self.alive: dict[str, int] = {}
        self.known: list[int] = []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.heal()
            self.store.close()
            self.folder.cleanup()

    # What is written

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def write(
        self,
        is_answered: bool,
        *operations: Operation,
        level: int = LEVEL_FSYNC,
        part: int = WHOLE,
    ) -> None:
        """Write to both."""
        assert isinstance(self.model.write(*operations), Done)
        if is_answered or part != WHOLE:
            request_id = self.driver.send(*operations, level=level, part=part)
            self.asked[request_id] = len(self.history)
            if level == LEVEL_MEMORY and part == WHOLE:
                self.in_memory.add(len(self.history))
        else:
            self.driver.record(*operations)
        self.history.append(list(operations))
        if part != WHOLE:
            self.is_open = part != LAST
        if self.is_open:
            self.between.add(len(self.history))

    def end_change(self) -> None:
        """The last part of what has begun, if there is anything."""
        if self.is_open:
            self.write(True, part=LAST)

    def deliveries(self) -> st.SearchStrategy[tuple[int, int]]:
        return st.tuples(
            st.sampled_from(self.known or [99]),
            st.integers(max(1, self.number - 12), self.number + 1),
        )

    @rule(client=st.sampled_from(CLIENTS), is_ended_first=st.booleans(), expiry=_expiry)
    def begin_session(self, client: str, is_ended_first: bool, expiry: float) -> None:
        session = self.next_number()
        operations: list[Operation] = [SaveSession(session, client)]
        if client in self.alive:
            end = EndSession(self.alive[client])
            operations.insert(0 if is_ended_first else 1, end)
        self.write(True, *operations, SaveExpiry(session, expiry or None, 7))
        self.alive[client] = session
        self.known = [*self.known[-5:], session]

    @rule(client=st.sampled_from(CLIENTS), is_answered=st.booleans(), is_retired=st.booleans())
    def end_session(self, client: str, is_answered: bool, is_retired: bool) -> None:
        session = self.alive.pop(client, 98)
        self.write(is_answered, RetireSession(session) if is_retired else EndSession(session))

    @rule(
        data=st.data(),
        message=messages(),
        own=particulars,
        qos=st.integers(1, 2),
        is_sent=st.booleans(),
        is_answered=st.booleans(),
        is_retained=st.booleans(),
        is_part=st.booleans(),
        level=st.sampled_from([LEVEL_FSYNC, LEVEL_OS, LEVEL_MEMORY]),
    )
    def append(
        self,
        data: st.DataObject,
        message: Message,
        own: Particulars | None,
        qos: int,
        is_sent: bool,
        is_answered: bool,
        is_retained: bool,
        is_part: bool,
        level: int,
    ) -> None:
        number = self.next_number()
        sessions = data.draw(st.sets(st.sampled_from([*self.known, 97])))
        targets = [Target(each, qos, number if is_sent else 0, own) for each in sessions]
        operations: list[Operation] = [Append(number, message, targets)]
        if is_retained:
            operations.append(PutRetained(message))
        part = WHOLE
        if is_part:
            part = data.draw(st.sampled_from([MORE, LAST])) if self.is_open else FIRST
        self.write(is_answered, *operations, level=level, part=part)

    @rule(data=st.data(), is_answered=st.booleans(), step=st.sampled_from([0, 1, 2, 2]))
    def go_on(self, data: st.DataObject, is_answered: bool, step: int) -> None:
        session, number = data.draw(self.deliveries())
        operation: Operation = Settle(session, number)
        if step == 0:
            operation = SaveSent(session, number, number)
        elif step == 1:
            operation = SaveReceived(session, number)
        self.write(is_answered, operation)

    @rule(data=st.data(), message=messages())
    def move(self, data: st.DataObject, message: Message) -> None:
        """A message goes from one session to another, in one write."""
        session, number = data.draw(self.deliveries())
        target = Target(data.draw(st.sampled_from([*self.known, 97])), 1)
        self.write(True, Settle(session, number), Append(self.next_number(), message, [target]))

    @rule(
        data=st.data(),
        topic_filter=st.sampled_from([b"#", b"a/+"]),
        granted=st.none() | st.tuples(st.integers(0, 2), options, st.booleans()),
    )
    def subscribe(
        self,
        data: st.DataObject,
        topic_filter: bytes,
        granted: tuple[int, Options | None, bool] | None,
    ) -> None:
        session = data.draw(st.sampled_from([*self.known, 97]))
        if granted is None:
            self.write(True, DeleteSubscription(session, topic_filter))
        else:
            self.write(True, SaveSubscription(session, topic_filter, *granted))

    @rule(data=st.data(), packet_id=st.sampled_from([1, 2, 65_535]), is_held=st.booleans())
    def hold(self, data: st.DataObject, packet_id: int, is_held: bool) -> None:
        session = data.draw(st.sampled_from([*self.known, 97]))
        kind = HoldIdentifier if is_held else ReleaseIdentifier
        self.write(True, kind(session, packet_id))

    @rule(
        client=st.sampled_from(CLIENTS),
        will=wills,
        due=_expiry,
        expiry=_expiry,
        is_answered=st.booleans(),
    )
    def detach(
        self, client: str, will: Will | None, due: float, expiry: float, is_answered: bool
    ) -> None:
        session = self.alive.get(client, 97)
        self.write(is_answered, SaveWill(client, will, due), SaveExpiry(session, expiry or None, 8))

    @rule(topic=st.sampled_from(TOPICS), now=_expiry, is_answered=st.booleans())
    def forget_retained(self, topic: str, now: float, is_answered: bool) -> None:
        operation = DropExpired(now) if now else DeleteRetained(topic.encode())
        self.write(is_answered, operation)

    # Time passes, or ends

    @rule()
    def take(self) -> None:
        self.driver.take()
        for request_id, answer in list(self.driver.answers.items()):
            del self.driver.answers[request_id]
            at = self.asked.pop(request_id)
            if at in self.in_memory:
                assert isinstance(answer, Done)
            elif isinstance(answer, Done):
                self.answered.append(at)
            else:
                assert self.was_failing
                self.history[at] = []
                self.model = replay(self.history)

    @rule()
    def compare(self) -> None:
        self.end_change()
        self.heal()
        found = view(self.driver, self.known)
        self.take()
        expected = view(self.model, self.known)
        keys = found.keys() | expected.keys()
        bad = {k: (found.get(k), expected.get(k)) for k in keys if found.get(k) != expected.get(k)}
        assert not bad, bad
        assert self.asked == {}, "a read has everything before it stored"

    @rule(after_steps=st.integers(0, 9), is_once=st.booleans(), is_after=st.booleans())
    def fail(self, after_steps: int, is_once: bool, is_after: bool) -> None:
        """The disk takes nothing any more, in a little while."""
        self.take()
        self.was_failing = True
        self.disk.fail(after_steps, once=is_once, is_after=is_after)

    def heal(self) -> None:
        """It does again. What is refused meanwhile is known behind this."""
        self.take()
        while not self.kind.is_idle(self.driver.engine):
            assert self.driver.rung.wait(WAIT_S)
            self.take()
        self.disk.heal()
        self.was_failing = False

    @rule()
    def read_while_failing(self) -> None:
        """Queues can be read whatever the disk does."""
        self.end_change()
        for session in self.known:
            self.driver.queue(session)

    @rule()
    def restart(self) -> None:
        if self.kind.is_durable:
            self.end_change()
            self.heal()
            self.driver = self.store.restart()
            self._begin_again(len(self.history))

    @rule()
    def crash(self) -> None:
        if not self.kind.is_durable:
            return
        self.heal()
        self.driver = self.store.crash()
        found = view(self.driver, self.known)
        for count in range(len(self.history), self.base - 1, -1):
            if count in self.between:
                continue
            if view(replay([*self.history[:count], None]), self.known) == found:
                missing = [each for each in self.answered if each >= count]
                assert all(
                    nothing_left(self.history[each], self.model) or not self.changed(each)
                    for each in missing
                )
                self._begin_again(count)
                return
        raise AssertionError(f"this never was: {found}")

    def changed(self, at: int) -> bool:
        """Whether a write had any effect."""
        before = view(replay(self.history[:at]), self.known)
        return view(replay(self.history[: at + 1]), self.known) != before

    def _begin_again(self, count: int) -> None:
        """The model goes on from behind so many writes."""
        self.history[count:] = [None]
        self.base = count + 1
        self.model = replay(self.history)
        self.asked = {}
        self.answered = []
        self.in_memory = set()
        self.is_open = False
        self.between = {each for each in self.between if each < self.base}
        records = self.model.sessions()
        self.alive = {record.client_id: record.session for record in records}

    @invariant()
    def numbers_are_not_given_twice(self) -> None:
        if hasattr(self, "driver"):
            records = self.model.sessions()
            used = [number for each in records for number, _, _ in each.queued]
            used += [each.session for each in records]
            assert self.driver.engine.last_number >= max(used, default=0)


def replay(history: list[list[Operation] | None]) -> Driver:
    """A model behind these writes."""
    model = Driver(MemoryEngine(Limits()))
    for operations in history:
        if operations is None:
            model.engine.start(model.rung.set)
            newest = {record.client_id: record.session for record in model.sessions()}
            for record in model.sessions():
                # An end that was refused, behind which another one had begun already.
                if newest[record.client_id] != record.session:
                    model.write(EndSession(record.session))
        else:
            assert isinstance(model.write(*operations), Done)
    return model


def nothing_left(operations: list[Operation] | None, model: Driver) -> bool:
    """Whether a write only appended messages, and all of them are gone."""
    return all(
        isinstance(operation, Append)
        and not any(is_there(model, operation.number, each.session) for each in operation.targets)
        for operation in operations or []
    )


def is_there(model: Driver, number: int, session: int) -> bool:
    return number in model.numbers(session) or any(
        each.number == number
        for record in model.sessions()
        if record.session == session
        for each in record.in_flight
    )


def view(driver: Driver, sessions: list[int]) -> dict[str, object]:
    """All that can be asked of an engine."""
    found: dict[str, object] = {
        "retained": driver.retained(limit=2),
        "wills": sorted((e.client_id, repr(e.will), e.due) for e in driver.wills(2)),
    }
    for record in driver.sessions(5):
        found[f"session {record.session}"] = (
            record.client_id,
            record.subscriptions,
            record.retained_due or set(),
            [
                (e.number, e.qos, e.packet_id, e.message, e.particulars, e.is_received)
                for e in record.in_flight
            ],
            record.held,
            record.queued,
            record.expires_at,
            record.interval_s,
        )
    for session in sessions:
        found[f"queue {session}"] = [
            (e.number, e.qos, e.message, e.message.expires_at, e.particulars)
            for e in driver.queue(session).entries
        ]
    for client in CLIENTS:
        claimed = driver.claim(client)
        found[f"claim {client}"] = claimed and claimed.session
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_engine_does_what_the_model_does(kind: Kind) -> None:
    machine = type("HistoriesOf", (Histories,), {"kind": kind})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))
