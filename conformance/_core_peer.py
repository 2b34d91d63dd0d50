"""The broker core of iotd in memory, on a fake clock: no socket, no thread, no waiting.

`Haste` says how quickly what is outside the core answers it. By default at once; with a `Late` the
storage engine and the authenticator answer in any order, some of it only when the trace waits, so
that inputs, cuts and takeovers come in between.
"""

import random
from collections.abc import Callable, Iterable

from conformance._items import Scope
from conformance._link import ClientSide, Link
from conformance._player import Result, play
from conformance._policy import limit_settings, policy_from
from conformance._scenario import Scenario
from mqtt_core.broker import (
    ALLOW,
    ASK,
    CLOSE_AFTER_FLUSH,
    CLOSE_NOW,
    DENIED,
    EOF_BY_PEER,
    IMMEDIATE,
    TRANSPORT_ERROR,
    AuthorizeRequest,
    AuthRequest,
    Broker,
    Channel,
    Completion,
    Decision,
    Engine,
    Fact,
    Limits,
    MemoryEngine,
    Policy,
)

Fragment = Callable[[bytes], list[bytes]]

START_S = 1_000.0
_WALL_S = 1_700_000_000.0
_MOST_TURNS = 100_000
"""A pump that needs more has an endless loop."""


class Haste:
    """Answers come at once."""

    settles_before_cut = False
    """Whether every answer comes before a connection is cut."""

    def chooses_to_wait(self) -> bool:
        """Whether an answer that is there stays back for now."""
        return False

    def pick(self, count: int) -> int:
        """Which of `count` answers comes next."""
        return 0

    def refuses(self) -> bool:
        """Whether the authenticator denies this, whatever the policy says."""
        return False

    def wrap(self, policy: Policy) -> Policy:
        """The policy that the core is given."""
        return policy


class Late(Haste):
    """Answers come late and in any order. The same seed gives the same order."""

    def __init__(self, seed: int, *, settles_before_cut: bool = False) -> None:
        self.settles_before_cut = settles_before_cut
        self._random = random.Random(seed)

    def chooses_to_wait(self) -> bool:
        """Mostly."""
        return self._random.random() < 0.7

    def pick(self, count: int) -> int:
        """Any."""
        return self._random.randrange(count)

    def wrap(self, policy: Policy) -> Policy:
        """A policy that answers nothing at once."""
        return _Asking()


class _Asking:
    """A policy that leaves every decision to the outside."""

    def authenticate(self, request: AuthRequest) -> Decision | None:
        return None

    def authorize(self, client_id: str, username: str | None, action: int, topic: str) -> int:
        return ASK


class CoreLink(Link):
    """A connection to the core."""

    def __init__(self, name: str, peer: "CorePeer") -> None:
        super().__init__(name)
        self.peer = peer
        self.channel: Channel = peer.broker.open("tcp://core:1883", f"peer:{name}", peer.now)
        self.has_ended = False
        """The core knows that the transport is gone."""
        peer.links.append(self)
        peer.pump()

    def send(self, data: bytes) -> None:
        self.note_sent(data)
        for piece in self.peer.fragment(data):
            if not self.has_ended:
                self.channel.receive_data(piece, self.peer.now)
                self.peer.pump()

    def collect(self) -> bool:
        """Take what the core has for this connection. False when there was nothing."""
        if self.has_ended:
            return False
        was_closed = self.is_closed
        is_new = False
        while not self.is_paused and (data := self.channel.data_to_send()):
            is_new = True
            self.note_received(data)
        if self.channel.close == CLOSE_NOW:
            self.is_closed = True
            self._end(EOF_BY_PEER)
        elif self.channel.close == CLOSE_AFTER_FLUSH and not self.is_paused:
            self.is_closed = True
        return is_new or was_closed is not self.is_closed

    def cut(self) -> None:
        if self.peer.haste.settles_before_cut:
            self.peer.settle((), False)
        self._end(EOF_BY_PEER)
        self.peer.pump()

    def reset(self) -> None:
        self._end(TRANSPORT_ERROR)
        self.peer.pump()

    def half_close(self) -> None:
        """Adapters close a connection whose client has ended its side."""
        self._end(EOF_BY_PEER)
        self.is_closed = True
        self.peer.pump()

    def pause(self, is_paused: bool) -> None:
        self.is_paused = is_paused
        self.channel.set_writable(not is_paused, self.peer.now)
        self.peer.pump()

    def _end(self, cause: int) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.peer.links.remove(self)
            self.channel.eof(cause, self.peer.now)


class CorePeer:
    """A broker of its own for one scenario."""

    is_ours = True

    def __init__(
        self,
        settings: dict[str, str] | None = None,
        *,
        fragment: Fragment = lambda data: [data],
        haste: Haste | None = None,
        engine: Engine | None = None,
        title: str = "the core",
    ) -> None:
        settings = settings or {}
        self.client: ClientSide | None = None
        self.title = title
        self.fragment = fragment
        self.now = START_S
        self.links: list[CoreLink] = []
        self.facts: list[Fact] = []
        limits = Limits(**limit_settings(settings))
        self.haste = haste or Haste()
        self.policy = policy_from(settings)
        self.broker = Broker(
            limits, self.haste.wrap(self.policy), _counted_bytes(), self.now, _WALL_S
        )
        self.engine: Engine = engine or MemoryEngine(limits)
        self._completions: list[Completion] = []
        self._questions: list[AuthRequest | AuthorizeRequest] = []

    def why_not(self, role: str, needs: Iterable[str], settings: dict[str, str]) -> str:
        """Why a scenario cannot be played here."""
        if role == "client":
            return "it tests a client"
        return "it needs: live" if "live" in needs else ""

    def connect(self, name: str) -> Link:
        """A channel of the broker."""
        return CoreLink(name, self)

    def wait_until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """Let answers from outside come until `condition` holds. No time passes."""
        while not condition():
            if not self._answer_one():
                return condition()
            self.pump()
        return True

    def let_the_end_arrive(self) -> None:
        """It has arrived."""

    def settle(self, links: Iterable[Link], is_timed: bool) -> None:
        """Let every answer from outside come."""
        self.wait_until(lambda: False, 0.0)

    def pass_time(self, seconds: float) -> None:
        """Go from deadline to deadline, as the timer of an adapter does."""
        self.settle((), True)
        end = self.now + seconds
        while (deadline := self.broker.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.broker.advance(self.now)
            self.pump()
            self.settle((), True)
        self.now = end

    def finish(self, scope: Scope) -> str:
        """Shut down. An exception inside the core, or a channel that stays, is a complaint."""
        self.settle((), True)
        self.broker.shut_down(IMMEDIATE, self.now)
        self.pump()
        self.settle((), True)
        faults = [fact for fact in self.facts if fact.name == "fault"]
        if faults:
            error = faults[0].error
            return f"the core reported {faults[0]!r}" + (f": {error!r}" if error else "")
        return "" if self.broker.is_stopped else "the core did not stop"

    # The work of an adapter.

    def pump(self) -> None:
        """Everything that an adapter does after a wake-up, until nothing is left to do."""
        broker = self.broker
        for _ in range(_MOST_TURNS):
            is_busy = False
            deadline = broker.next_deadline()
            if deadline is not None and deadline <= self.now:
                broker.advance(self.now)
                is_busy = True
            is_busy |= self._take_requests()
            while self._answers and not self.haste.chooses_to_wait():
                self._answer_one()
                is_busy = True
            while broker.has_dirty:
                for channel in broker.take_dirty(64):
                    is_busy |= self._collect(channel)
            self.facts += broker.take_facts()
            if not is_busy and not broker.has_requests:
                return
        raise RuntimeError("the core goes on and on: its deadline is never later than now")

    @property
    def _answers(self) -> int:
        return len(self._completions) + len(self._questions)

    def _take_requests(self) -> bool:
        is_busy = False
        for request in self.broker.take_requests():
            is_busy = True
            if isinstance(request, AuthRequest | AuthorizeRequest):
                self._questions.append(request)
            else:
                self.engine.submit(request)
        self._completions += self.engine.take_completions()
        return is_busy

    def _answer_one(self) -> bool:
        """Give the core one of the answers that are there. False when there is none."""
        if not self._answers:
            return False
        index = self.haste.pick(self._answers)
        if index < len(self._completions):
            self.broker.completed(self._completions.pop(index), self.now)
        else:
            question = self._questions.pop(index - len(self._completions))
            self.broker.auth_decided(question.token, self._decide(question), self.now)
        return True

    def _decide(self, question: AuthRequest | AuthorizeRequest) -> Decision:
        if self.haste.refuses():
            return DENIED
        if isinstance(question, AuthRequest):
            decision = self.policy.authenticate(question)
            if decision is None:
                return DENIED
            # Not "unrestricted": then nothing more would be asked.
            return Decision(decision.reason, data=decision.data, state=decision.state)
        verdict = self.policy.authorize(
            question.client_id, question.username, question.action, question.topic
        )
        return Decision() if verdict == ALLOW else DENIED

    def _collect(self, channel: Channel) -> bool:
        for link in self.links:
            if link.channel is channel:
                return link.collect()
        return False


def play_broker(
    scenario: Scenario,
    *,
    fragment: Fragment = lambda data: [data],
    haste: Haste | None = None,
) -> Result:
    """Play a scenario of the server role against the core."""
    peer = CorePeer(scenario.settings, fragment=fragment, haste=haste)
    return play(scenario, peer)


def _counted_bytes() -> Callable[[int], bytes]:
    """Entropy for tests: other bytes at each call, the same in each run."""
    source = random.Random(0)
    return source.randbytes
